"""Dropout, as functions: random elements, channels or units left out in training."""

from __future__ import annotations

from typing import Any

from ... import random
from ...locations import at_user_line
from ...ops import creation, elementwise
from ...promotion import as_tensor
from ...tensor import Tensor
from .activation import SELU_ALPHA, SELU_SCALE, written


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element zero with probability ``p``, the others scaled by ``1 / (1 - p)``; a copy when not training.

    >>> import tracejit as tj
    >>> dropout(tj.ones(3), 0.5, training=False)
    tensor([1., 1., 1.])
    """
    x = _checked("dropout", input, p)
    return written(input, _dropped(x, p, training, x.shape), inplace)


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """:func:`dropout` of whole channels: ``(N, C, L)`` or ``(C, L)`` → the same shape."""
    return _channels("dropout1d", 1, input, p, training, inplace)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """:func:`dropout` of whole channels: ``(N, C, H, W)`` or ``(C, H, W)`` → the same shape.

    >>> import tracejit as tj
    >>> channels = dropout2d(tj.ones(4, 8, 3, 3)).reshape(4, 8, 9)
    >>> bool((channels == channels[:, :, :1]).all())
    True
    """
    return _channels("dropout2d", 2, input, p, training, inplace)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """:func:`dropout` of whole channels: ``(N, C, D, H, W)`` or ``(C, D, H, W)`` → the same shape."""
    return _channels("dropout3d", 3, input, p, training, inplace)


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Each element the least value of :func:`selu` with probability ``p``; then mean 0 and variance 1 are restored."""
    x = _checked("alpha_dropout", input, p)
    return written(input, _at_least_value(x, p, training, x.shape), inplace)


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """:func:`alpha_dropout` of whole channels: ``(N, C, …)`` → the same shape."""
    x = _checked("feature_alpha_dropout", input, p)
    return written(input, _at_least_value(x, p, training, _of_channels(x, 2)), inplace)


def _checked(name: str, input: Any, p: float) -> Tensor:
    if not 0 <= p <= 1:
        raise at_user_line(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
    return as_tensor(input, name)


def _of_channels(x: Tensor, leading: int) -> tuple[int, ...]:
    return (*x.shape[:leading], *[1] * (x.ndim - leading))


def _channels(name: str, axes: int, input: Any, p: float, training: bool, inplace: bool) -> Tensor:
    x = _checked(name, input, p)
    if x.ndim not in (axes + 1, axes + 2):
        message = f"{name}: Expected {axes + 1}D or {axes + 2}D input, but received a {x.ndim}D input"
        raise at_user_line(RuntimeError(message))
    return written(input, _dropped(x, p, training, _of_channels(x, x.ndim - axes)), inplace)


def _dropped(x: Tensor, p: float, training: bool, shape: tuple[int, ...]) -> Tensor:
    if not training or p == 0:
        return elementwise.positive(x)
    if p == 1:
        return elementwise.where(creation.full((), False), x, 0)
    return elementwise.where(random.bernoulli(1 - p, shape, device=x.device), x * (1 / (1 - p)), 0)


def _at_least_value(x: Tensor, p: float, training: bool, shape: tuple[int, ...]) -> Tensor:
    """``x`` or selu's limit at -∞, scaled and shifted back (Klambauer et al., 2017, section 3)."""
    if not training or p == 0:
        return elementwise.positive(x)
    if p == 1:
        return elementwise.where(creation.full((), False), x, 0)
    limit = -SELU_ALPHA * SELU_SCALE
    scale = ((1 - p) * (1 + p * limit * limit)) ** -0.5
    return elementwise.where(random.bernoulli(1 - p, shape, device=x.device), x, limit) * scale - scale * limit * p
