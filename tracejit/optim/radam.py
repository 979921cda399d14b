"""RAdam."""

from __future__ import annotations

from typing import Any, Unpack

from tracejit.ir.types import float64

from ..ops import elementwise
from ..tensor import Tensor
from .adam import one_minus_power
from .optimizer import Group, Implementation, Optimizer, check_at_least, check_betas


class RAdam(Optimizer):
    """Adam whose adaptive rate is rectified, and left out while too few gradients have been seen (Liu et al., 2020).

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.RAdam([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([0.5, 1. ], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "epsilon value", group["eps"])
        check_betas(group["betas"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_avg_sq")

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        lr = self._number(group, "lr")
        beta1, beta2 = self._number(group, "betas", 0), self._number(group, "betas", 1)
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        step, mean, square = (state[name] for name in self._state_names(group))
        step.add_(1)
        mean.copy_(beta1 * mean + (1 - beta1) * gradient)
        square.copy_(beta2 * square + (1 - beta2) * (gradient * gradient))
        count, corrected = elementwise.astype(step, float64), one_minus_power(beta2, step)
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * count * (1 - corrected) / corrected  # of the average that v approximates
        enough = elementwise.greater(length, 5)
        length = elementwise.where(enough, length, 6)
        rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length) * corrected
        rate = lr / one_minus_power(beta1, step)
        adaptive = elementwise.astype(rate * elementwise.sqrt(rectified), parameter.dtype)
        plain = elementwise.astype(rate, parameter.dtype)
        denominator = elementwise.sqrt(square) + self._number(group, "eps")
        parameter.sub_(mean * elementwise.where(enough, adaptive / denominator, plain))


__all__ = ["RAdam"]
