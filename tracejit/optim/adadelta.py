"""Adadelta."""

from __future__ import annotations

from typing import Any, Unpack

from ..locations import at_user_line
from ..ops import elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least


class Adadelta(Optimizer):
    """Adadelta (Zeiler, 2012).

    With the running means ``v`` of the gradient's square and ``u`` of the moves' squares, a move is
    ``d = sqrt(u + eps) / sqrt(v + eps) * g``, and ``p`` changes by ``-lr * d``.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.Adadelta([p], lr=100.0)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> bool((p.detach() < tj.tensor([1.0, 2.0])).all())
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        if not 0.0 <= group["rho"] <= 1.0:
            raise at_user_line(ValueError(f"Invalid rho value: {group['rho']}"))
        check_at_least(0.0, "epsilon value", group["eps"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "square_avg", "acc_delta")

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        rho, eps = self._number(group, "rho"), self._number(group, "eps")
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        step, square, moves = (state[name] for name in self._state_names(group))
        step.add_(1)
        square.copy_(rho * square + (1 - rho) * (gradient * gradient))
        move = elementwise.sqrt(moves + eps) / elementwise.sqrt(square + eps) * gradient
        moves.copy_(rho * moves + (1 - rho) * (move * move))
        parameter.sub_(self._number(group, "lr") * move)


__all__ = ["Adadelta"]
