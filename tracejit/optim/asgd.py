"""Averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any, Unpack

from tracejit.ir.types import float32, float64

from ..ops import elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least


class ASGD(Optimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky, 1992).

    At step ``t`` the rate is ``lr / (1 + lambd * lr * t)**alpha``, and ``p`` shrinks by ``lambd`` times that.  The
    state ``ax`` is the parameter, after ``t0`` steps the mean of its values.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.ASGD([p], lr=0.25, lambd=0.0)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([0.5, 1. ], requires_grad=True)
    """

    _scalars = frozenset({"step", "eta", "mu"})

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "eta", "mu", "ax")

    def _initial_value(self, name: str, group: Group) -> float:
        return {"eta": float(group["lr"]), "mu": 1.0}.get(name, 0.0)

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        lr, lambd, alpha = (self._number(group, key) for key in ("lr", "lambd", "alpha"))
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        step, eta, mu, mean = (state[name] for name in self._state_names(group))
        step.add_(1)
        rate = elementwise.astype(eta, float64)
        parameter.mul_(elementwise.astype(1 - lambd * rate, parameter.dtype))
        parameter.sub_(elementwise.astype(rate, parameter.dtype) * gradient)
        part = elementwise.astype(mu, parameter.dtype)
        averaged = mean + (parameter - mean) * part
        mean.copy_(elementwise.where(elementwise.equal(part, 1), parameter, averaged))
        count = elementwise.astype(step, float64)
        slowed = elementwise.exp(elementwise.log1p(lambd * lr * count) * alpha)
        eta.copy_(elementwise.astype(lr / slowed, float32))
        averaging = elementwise.maximum(count - self._number(group, "t0"), 1.0)
        mu.copy_(elementwise.astype(1 / averaging, float32))


__all__ = ["ASGD"]
