"""RMSprop."""

from __future__ import annotations

from typing import Any, Unpack

from ..ops import elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least


class RMSprop(Optimizer):
    """RMSprop (Hinton, 2012).

    With the running mean ``v`` of the gradient's square, ``p`` moves by ``-lr * g / (sqrt(v) + eps)``; ``centered``
    takes the square of the running mean of the gradient from ``v`` first; ``momentum`` adds the moves up.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.RMSprop([p], lr=0.5, alpha=0.75)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([0., 1.], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "epsilon value", group["eps"])
        check_at_least(0.0, "momentum value", group["momentum"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])
        check_at_least(0.0, "alpha value", group["alpha"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        optional = (("momentum_buffer", group["momentum"]), ("grad_avg", group["centered"]))
        return ("step", "square_avg", *(name for name, wanted in optional if wanted))

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        lr, alpha = self._number(group, "lr"), self._number(group, "alpha")
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        state["step"].add_(1)
        square = state["square_avg"]
        square.copy_(alpha * square + (1 - alpha) * (gradient * gradient))
        spread: Tensor = square
        if self._enabled(group, "centered"):
            mean = state["grad_avg"]
            mean.copy_(alpha * mean + (1 - alpha) * gradient)
            spread = square - mean * mean
        move = gradient / (elementwise.sqrt(spread) + self._number(group, "eps"))
        if self._enabled(group, "momentum"):
            buffer = state["momentum_buffer"]
            buffer.copy_(self._number(group, "momentum") * buffer + move)
            move = buffer.detach()
        parameter.sub_(lr * move)


__all__ = ["RMSprop"]
