"""Adagrad."""

from __future__ import annotations

from typing import Any, Unpack

from tracejit.ir.types import float64

from ..ops import elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least


class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011).

    With the sum ``s`` of the gradient's squares and ``t`` steps done before, ``p`` moves by
    ``-lr / (1 + t * lr_decay) * g / (sqrt(s) + eps)``.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.Adagrad([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([0.5, 1.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "lr_decay value", group["lr_decay"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])
        check_at_least(0.0, "initial_accumulator_value value", group["initial_accumulator_value"])
        check_at_least(0.0, "epsilon value", group["eps"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "sum")

    def _initial_value(self, name: str, group: Group) -> float:
        return group["initial_accumulator_value"] if name == "sum" else 0

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        step, total = state["step"], state["sum"]
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        slowed = 1 + elementwise.astype(step, float64) * self._number(group, "lr_decay")
        rate = elementwise.astype(self._number(group, "lr") / slowed, parameter.dtype)
        step.add_(1)
        total.copy_(total + gradient * gradient)
        parameter.sub_(rate * (gradient / (elementwise.sqrt(total) + self._number(group, "eps"))))


__all__ = ["Adagrad"]
