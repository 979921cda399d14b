"""Adamax."""

from __future__ import annotations

from typing import Any, Unpack

from ..ops import elementwise
from ..tensor import Tensor
from .adam import one_minus_power
from .optimizer import Group, Implementation, Optimizer, check_at_least, check_betas


class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba, 2015).

    With the running mean ``m`` of the gradient, ``u = max(beta2 * u, |g| + eps)`` and ``t`` steps done, ``p`` moves by
    ``-lr / (1 - beta1**t) * m / u``.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.Adamax([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([0.5, 1.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "epsilon value", group["eps"])
        check_betas(group["betas"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_inf")

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        beta1, beta2 = self._number(group, "betas", 0), self._number(group, "betas", 1)
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        step, mean, largest = (state[name] for name in self._state_names(group))
        step.add_(1)
        mean.copy_(beta1 * mean + (1 - beta1) * gradient)
        size = elementwise.abs(gradient) + self._number(group, "eps")
        largest.copy_(elementwise.maximum(beta2 * largest, size))
        rate = elementwise.astype(self._number(group, "lr") / one_minus_power(beta1, step), parameter.dtype)
        parameter.sub_(rate * (mean / largest))


__all__ = ["Adamax"]
