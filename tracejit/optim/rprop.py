"""Rprop."""

from __future__ import annotations

from typing import Any, Unpack

from ..locations import at_user_line
from ..ops import elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least


class Rprop(Optimizer):
    """Resilient backpropagation (Riedmiller and Braun, 1993): only the gradient's signs count.

    Each element has a step size of its own, ``lr`` at first.  Where the gradient keeps its sign the step size is
    multiplied by ``etas[1]``, where it changes by ``etas[0]`` (and the element stays), within ``step_sizes``.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, -2.0], requires_grad=True)
    >>> opt = optim.Rprop([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([ 0.5, -1.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize}
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        lower, higher = group["etas"]
        if not 0.0 < lower < 1.0 < higher:
            raise at_user_line(ValueError(f"Invalid eta values: {lower}, {higher}"))

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "prev", "step_size")

    def _initial_value(self, name: str, group: Group) -> float:
        return float(group["lr"]) if name == "step_size" else 0

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        lower, higher = self._number(group, "etas", 0), self._number(group, "etas", 1)
        if self._enabled(group, "maximize"):
            gradient = -gradient
        step, before, size = (state[name] for name in self._state_names(group))
        step.add_(1)
        agreement = gradient * before
        turned = elementwise.less(agreement, 0)
        shrunk = elementwise.where(turned, lower * size, size)
        grown = elementwise.where(elementwise.greater(agreement, 0), higher * size, shrunk)
        least, most = self._number(group, "step_sizes", 0), self._number(group, "step_sizes", 1)
        size.copy_(elementwise.minimum(elementwise.maximum(grown, least), most))
        before.copy_(elementwise.where(turned, 0, gradient))
        parameter.sub_(elementwise.sign(before) * size)


__all__ = ["Rprop"]
