"""Clipping of gradients: call between ``backward()`` and ``optimizer.step()``."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from typing import Any

from ...autograd.modes import no_grad
from ...locations import warn_at_user_line
from ...ops import creation, elementwise, indexing, manipulation, reduction
from ...tensor import Tensor

Parameters = Tensor | Iterable[Tensor]


def clip_grad_norm_(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients, in place, so that their norm as one vector is at most ``max_norm``; the norm before, 0-d.

    The gradients are multiplied by ``min(max_norm / (norm + 1e-6), 1)``, always.  ``norm_type`` may be ``inf``.
    With ``error_if_nonfinite`` a norm that is NaN or infinite raises ``RuntimeError``.  ``foreach`` is accepted for
    compatibility and changes nothing.

    >>> import tracejit as tj
    >>> p = tj.tensor([0.0, 0.0], requires_grad=True)
    >>> p.grad = tj.tensor([3.0, 4.0])
    >>> clip_grad_norm_(p, max_norm=1.0)
    tensor(5.)
    >>> p.grad
    tensor([0.6, 0.8])
    """
    gradients = _gradients(parameters, warn=True)
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    _scale(gradients, max_norm, total)
    return total


def get_total_norm(
    tensors: Parameters, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of tensors as one vector, 0-d; of the norms of each, computed without recording.

    >>> import tracejit as tj
    >>> get_total_norm([tj.tensor([3.0, 0.0]), tj.tensor([4.0])])
    tensor(5.)
    """
    items, norm_type = [tensors] if isinstance(tensors, Tensor) else list(tensors), float(norm_type)
    if not items:
        return creation.zeros(())
    with no_grad():
        norms = [_norm(tensor, norm_type) for tensor in items]
        total = _norm(manipulation.concat([manipulation.reshape(norm, (1,)) for norm in norms]), norm_type)
        if error_if_nonfinite:
            message = (
                f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
                "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
                "`error_if_nonfinite=False`"
            )
            indexing.check(elementwise.isfinite(total), RuntimeError, message)
    return total


def clip_grads_with_norm_(
    parameters: Parameters, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """As :func:`clip_grad_norm_`, with the norm given.

    >>> import tracejit as tj
    >>> p = tj.tensor([0.0], requires_grad=True)
    >>> p.grad = tj.tensor([3.0])
    >>> clip_grads_with_norm_(p, 1.0, tj.tensor(6.0))
    >>> p.grad
    tensor([0.5])
    """
    _scale(_gradients(parameters), max_norm, total_norm)


def _scale(gradients: list[Tensor], max_norm: float, total: Tensor) -> None:
    with no_grad():
        factor = elementwise.minimum(float(max_norm) / (total + 1e-6), 1.0)
        for gradient in gradients:
            gradient.mul_(elementwise.astype(factor, gradient.dtype))


def clip_grad_value_(parameters: Parameters, clip_value: float, foreach: bool | None = None) -> None:
    """Limit each element of the gradients, in place, to ``[-clip_value, clip_value]``.

    >>> import tracejit as tj
    >>> p = tj.tensor([0.0, 0.0], requires_grad=True)
    >>> p.grad = tj.tensor([3.0, -0.5])
    >>> clip_grad_value_(p, 1.0)
    >>> p.grad
    tensor([ 1. , -0.5])
    """
    clip_value = float(clip_value)
    with no_grad():
        for gradient in _gradients(parameters):
            gradient.copy_(elementwise.clip(gradient, -clip_value, clip_value))


def _gradients(parameters: Any, warn: bool = False) -> list[Tensor]:
    items = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if warn and not items and isinstance(parameters, types.GeneratorType):
        warn_at_user_line("`parameters` is an empty generator, no gradient clipping will occur.")
    return [gradient for item in items if (gradient := item.grad) is not None]


def _norm(x: Tensor, order: float) -> Tensor:
    """The norm of all elements as one vector, 0-d."""
    sizes = elementwise.abs(x)
    if x.size == 0:
        return creation.zeros((), dtype=x.dtype)
    if order == math.inf:
        return reduction.max(sizes)
    if order == -math.inf:
        return reduction.min(sizes)
    if order == 0:
        return reduction.sum(elementwise.astype(elementwise.not_equal(x, 0), x.dtype))
    if order == 1:
        return reduction.sum(sizes)
    if order == 2:
        return elementwise.sqrt(reduction.sum(x * x))
    return elementwise.pow(reduction.sum(elementwise.pow(sizes, order)), 1 / order)


__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]
