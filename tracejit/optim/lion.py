"""Lion."""

from __future__ import annotations

from typing import Any, Unpack

from ..ops import elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least, check_betas


class Lion(Optimizer):
    """Lion (Chen et al., 2023): the sign of an average of the gradient and its running mean ``m``.

    ``p`` first shrinks by ``lr * weight_decay``, then moves by ``-lr * sign(beta1 * m + (1 - beta1) * g)``; ``m``
    becomes ``beta2 * m + (1 - beta2) * g``.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = optim.Lion([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([ 0.5, -1.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])
        check_betas(group["betas"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "exp_avg")

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        lr = self._number(group, "lr")
        beta1, beta2 = self._number(group, "betas", 0), self._number(group, "betas", 1)
        if self._enabled(group, "maximize"):
            gradient = -gradient
        if self._enabled(group, "weight_decay"):
            parameter.mul_(1 - lr * self._number(group, "weight_decay"))
        mean = state["exp_avg"]
        state["step"].add_(1)
        parameter.sub_(lr * elementwise.sign(beta1 * mean + (1 - beta1) * gradient))
        mean.copy_(beta2 * mean + (1 - beta2) * gradient)


__all__ = ["Lion"]
