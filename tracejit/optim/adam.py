"""Adam and AdamW."""

from __future__ import annotations

from typing import Any, Unpack

from tracejit.ir.types import float64

from ..ops import creation, elementwise
from ..tensor import Tensor
from .optimizer import Group, Implementation, Optimizer, check_at_least, check_betas


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015).

    With the running means ``m`` of the gradient and ``v`` of its square, and ``t`` steps done, ``p`` moves by
    ``-lr / (1 - beta1**t) * m / (sqrt(v) / sqrt(1 - beta2**t) + eps)``.  ``weight_decay`` adds to the gradient
    (``decoupled_weight_decay``: ``p`` shrinks by ``lr * weight_decay`` first, as in :class:`AdamW`);  ``amsgrad`` puts
    the largest ``v`` so far in its place.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0, 2.0], requires_grad=True)
    >>> opt = optim.Adam([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> opt.step()
    >>> p
    tensor([0.5, 1.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        check_at_least(0.0, "epsilon value", group["eps"])
        check_at_least(0.0, "weight_decay value", group["weight_decay"])
        check_betas(group["betas"])

    def _state_names(self, group: Group) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        lr = self._number(group, "lr")
        beta1, beta2 = self._number(group, "betas", 0), self._number(group, "betas", 1)
        if self._enabled(group, "maximize"):
            gradient = -gradient
        gradient = self._with_decay(parameter, gradient, group)
        step, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
        step.add_(1)
        mean.copy_(beta1 * mean + (1 - beta1) * gradient)
        square.copy_(beta2 * square + (1 - beta2) * (gradient * gradient))
        if self._enabled(group, "amsgrad"):
            largest = state["max_exp_avg_sq"]
            largest.copy_(elementwise.maximum(largest, square))
            square = largest
        rate = elementwise.astype(lr / one_minus_power(beta1, step), parameter.dtype)
        scale = elementwise.astype(elementwise.rsqrt(one_minus_power(beta2, step)), parameter.dtype)
        denominator = elementwise.sqrt(square) * scale + self._number(group, "eps")
        parameter.sub_(rate * (mean / denominator))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): ``p`` shrinks by ``lr * weight_decay`` first.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([1.0], requires_grad=True)
    >>> opt = optim.AdamW([p], lr=0.5, weight_decay=0.5)
    >>> p.grad = tj.tensor([0.0])
    >>> opt.step()
    >>> p
    tensor([0.75], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **implementation: Unpack[Implementation],
    ) -> None:
        settings: Any = {"maximize": maximize, "decoupled_weight_decay": True, **implementation}
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **settings)


def one_minus_power(beta: Any, step: Tensor) -> Tensor:
    """``1 - beta ** step`` in float64, 0-d; from tensors in both modes, so that eager and compiled agree."""
    base = creation.full((), beta, float64)
    return -elementwise.expm1(elementwise.astype(step, float64) * elementwise.log(base))
