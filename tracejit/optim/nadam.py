"""NAdam."""

from __future__ import annotations

import math
from typing import Any, Unpack

from tracejit.ir.types import float32, float64

from ..ops import elementwise
from ..tensor import Tensor
from .adam import one_minus_power
from .optimizer import Group, Implementation, Optimizer, check_at_least, check_betas


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016).

    With ``m``, ``v`` and ``t`` as in :class:`Adam`, and ``mu_t = beta1 * (1 - 0.96**(t * momentum_decay) / 2)`` whose
    product up to ``t`` is ``M_t``, ``p`` moves by ``-lr`` times ``(1 - mu_t) / (1 - M_t) * g +
    mu_{t+1} / (1 - M_{t+1}) * m``, over ``sqrt(v / (1 - beta2**t)) + eps``.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.NAdam([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> bool((p.detach() < tj.tensor([1.0, 2.0])).all())
    True
    """

    _scalars = frozenset({"step", "mu_product"})

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "epsilon value", group["eps"])
        check_betas(group["betas"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])
        check_at_least(0.0, "momentum_decay value", group["momentum_decay"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def _initial_value(self, name: str, group: Group) -> float:
        return 1 if name == "mu_product" else 0

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        lr, momentum_decay = self._number(group, "lr"), self._number(group, "momentum_decay")
        beta1, beta2 = self._number(group, "betas", 0), self._number(group, "betas", 1)
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        step, product, mean, square = (state[name] for name in self._state_names(group))
        step.add_(1)
        count = elementwise.astype(step, float64)
        present, coming = (
            beta1 * (1 - 0.5 * elementwise.exp(times * momentum_decay * math.log(0.96))) for times in (count, count + 1)
        )
        product.mul_(elementwise.astype(present, float32))
        so_far = elementwise.astype(product, float64)
        mean.copy_(beta1 * mean + (1 - beta1) * gradient)
        square.copy_(beta2 * square + (1 - beta2) * (gradient * gradient))
        scale = elementwise.astype(one_minus_power(beta2, step), parameter.dtype)
        denominator = elementwise.sqrt(square / scale) + self._number(group, "eps")
        rates = lr * (1 - present) / (1 - so_far), lr * coming / (1 - so_far * coming)
        for rate, direction in zip(rates, (gradient, mean), strict=True):
            parameter.sub_(elementwise.astype(rate, parameter.dtype) * (direction / denominator))


__all__ = ["NAdam"]
