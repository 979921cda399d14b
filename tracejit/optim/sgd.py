"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any, Unpack

from ..locations import at_user_line
from ..ops import elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

    ``g = grad + weight_decay * p``; the momentum buffer is ``g`` at the first step, then
    ``momentum * buffer + (1 - dampening) * g``; ``p`` moves by ``-lr`` times the buffer (Nesterov: times
    ``g + momentum * buffer``).

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.SGD([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([0., 0.], requires_grad=True)
    """

    _takes_complex = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "momentum value", group["momentum"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise at_user_line(ValueError("Nesterov momentum requires a momentum and zero dampening"))

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "momentum_buffer") if group["momentum"] else ()

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        direction = -gradient if self._enabled(group, "maximize") else gradient
        direction = self._with_decay(parameter, direction, group)
        if self._enabled(group, "momentum"):
            direction = self._with_momentum(direction, state, group)
        parameter.sub_(self._number(group, "lr") * direction)

    def _with_momentum(self, direction: Tensor, state: dict[str, Tensor], group: Group) -> Tensor:
        step, buffer = state["step"], state["momentum_buffer"]
        momentum = self._number(group, "momentum")
        updated = momentum * buffer + (1 - self._number(group, "dampening")) * direction
        buffer.copy_(elementwise.where(step == 0, direction, updated))
        step.add_(1)
        return direction + momentum * buffer if self._enabled(group, "nesterov") else buffer.detach()
