"""Reductions: sums, extremes, means.  ``axis`` is an int, a tuple of ints, or ``None`` for all axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.ir.extents import as_float
from tracejit.ir.primitives import reduction as primitives
from tracejit.ir.types import HALF_DTYPES, bool_, float32, int32, int64, is_differentiable, uint64

from ..locations import at_user_line, warn_at_user_line
from ..promotion import as_tensor, kind
from ..tape import apply
from ..tensor import Tensor, concrete_tensor, is_plain
from . import creation, elementwise, manipulation
from .axes import Axis, normalize_axes, normalize_axis


def _reduce(primitive: Any, name: str, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    axes = normalize_axes(name, axis, x.ndim)
    result = apply(primitive, (x,), {"axes": axes}) if axes else elementwise.positive(x)
    if keepdims and axes:
        result = manipulation.reshape(result, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    return result


def sum(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """The sum; of bools and narrow integers in int64.

    >>> import tracejit as tj
    >>> tj.sum(tj.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    tensor = x if isinstance(x, Tensor) else as_tensor(x, "sum")
    if dtype is not None:
        tensor = elementwise.astype(tensor, dtype)
    elif kind(tensor.dtype) < 2:
        tensor = elementwise.astype(tensor, uint64 if tensor.dtype.kind == "u" else int64)
    return _reduce(primitives.reduce_sum, "sum", tensor, axis, keepdims)


def prod(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """The product; of bools and narrow integers in 64 bits.  Its gradient is exact where elements are 0.

    >>> import tracejit as tj
    >>> tj.prod(tj.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    tensor = as_tensor(x, "prod")
    if dtype is not None:
        tensor = elementwise.astype(tensor, dtype)
    elif kind(tensor.dtype) < 2:
        tensor = elementwise.astype(tensor, uint64 if tensor.dtype.kind == "u" else int64)
    return _reduce(primitives.reduce_product, "prod", tensor, axis, keepdims)


def _count(name: str, tensor: Tensor, axis: Axis) -> int:
    count = 1
    for item in normalize_axes(name, axis, tensor.ndim):
        count *= tensor.shape[item]
    return count


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean of a floating-point tensor; NaN of no elements."""
    return _mean("mean", as_tensor(x, "mean"), axis, keepdims)


def _mean(name: str, tensor: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    if not is_differentiable(tensor.dtype):
        wanted = "Input dtype must be either a floating point or complex dtype"
        message = f"{name}(): could not infer output dtype. {wanted}. Got: {tensor.dtype.name}"
        raise at_user_line(TypeError(message))
    total = _reduce(primitives.reduce_sum, name, widened(tensor), axis, keepdims)
    return elementwise.astype(elementwise.divide(total, as_float(_count(name, tensor, axis))), tensor.dtype)


def widened(tensor: Tensor) -> Tensor:
    """Half-precision numbers in float32, where sums and counts have room."""
    return elementwise.astype(tensor, float32) if tensor.dtype in HALF_DTYPES else tensor


def var(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance, from the squared distances to the mean, divided by ``count - correction`` (NaN if that is 0)."""
    return _variance("var", x, axis, correction, keepdims)


def _variance(name: str, x: Any, axis: Axis, correction: float, keepdims: bool) -> Tensor:
    given = as_tensor(x, name)
    tensor = widened(given)
    centered = elementwise.subtract(tensor, _mean(name, tensor, axis, keepdims=True))
    count = _count(name, tensor, axis) - (int(correction) if correction == int(correction) else correction)
    if count <= 0:
        warn_at_user_line(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
            "(input numel divided by output numel)."
        )
    distances = elementwise.abs(centered) if tensor.dtype.kind == "c" else centered
    squares = sum(elementwise.square(distances), axis, keepdims)
    result = elementwise.divide(squares, as_float(max_number(count, 0)))
    return result if tensor is given else elementwise.astype(result, given.dtype)


def max_number(first: float, second: float) -> float:
    """The larger of two Python numbers (``max`` is the tensor function here)."""
    return first if first >= second else second


def std(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation: the square root of :func:`var`; its gradient is 0 where it is 0."""
    return root(_variance("std", x, axis, correction, keepdims))


def root(x: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0: the smallest subgradient of the root of a sum of squares."""
    is_zero = elementwise.equal(x, 0)
    return elementwise.where(is_zero, 0, elementwise.sqrt(elementwise.where(is_zero, 1, x)))


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element; its gradient is shared evenly among ties.  ``ValueError`` of no elements."""
    return _extremum(primitives.reduce_max, "max", x, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element; its gradient is shared evenly among ties.  ``ValueError`` of no elements."""
    return _extremum(primitives.reduce_min, "min", x, axis, keepdims)


def _extremum(primitive: Any, name: str, x: Any, axis: Axis, keepdims: bool) -> Tensor:
    return _reduce(primitive, name, as_tensor(x, name), axis, keepdims)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are true (not zero)."""
    return _reduce(primitives.reduce_and, "all", elementwise.astype(as_tensor(x, "all"), bool_), axis, keepdims)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element is true (not zero)."""
    return _reduce(primitives.reduce_or, "any", elementwise.astype(as_tensor(x, "any"), bool_), axis, keepdims)


def _position(name: str, extremum: Any, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    """The first position of an extreme element (or of the first NaN)."""
    if is_plain(x) and x.dtype.kind in "biuf" and x.size:
        along = None if axis is None else normalize_axis(name, axis, x.ndim)
        position = np.argmax if extremum is max else np.argmin
        return concrete_tensor(np.asarray(position(x._value, along, keepdims=keepdims)))
    tensor = as_tensor(x, name).detach()
    if axis is None:
        flat = _position(name, extremum, manipulation.reshape(tensor, (tensor.size,)), 0, False)
        return manipulation.reshape(flat, (1,) * tensor.ndim) if keepdims else flat
    along = normalize_axis(name, axis, tensor.ndim)
    best = extremum(tensor, along, keepdims=True)
    hit = elementwise.logical_or(elementwise.equal(tensor, best), elementwise.isnan(tensor))
    extent = tensor.shape[along]
    is_short = type(extent) is int and extent < 1 << 31  # numbers of half the width are found twice as fast
    numbers = creation.arange(extent, dtype=int32 if is_short else int64)
    shape = tuple(extent if i == along else 1 for i in range(tensor.ndim))
    candidates = elementwise.where(hit, manipulation.reshape(numbers, shape), extent)
    return elementwise.astype(min(candidates, along, keepdims), int64)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the largest element, the first among equals; of the first NaN if there is one.

    >>> import tracejit as tj
    >>> tj.argmax(tj.tensor([1.0, 3.0, 3.0]))
    tensor(1)
    """
    return _position("argmax", max, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the smallest element, the first among equals; of the first NaN if there is one."""
    return _position("argmin", min, x, axis, keepdims)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` without overflow; -inf where all elements are -inf, and of nothing."""
    tensor = as_tensor(x, "logsumexp")
    if tensor.dtype in HALF_DTYPES:  # rounded once
        return elementwise.astype(logsumexp(widened(tensor), axis, keepdims), tensor.dtype)
    if tensor.size == 0 and _count("logsumexp", tensor, axis) == 0:
        return elementwise.log(sum(tensor, axis, keepdims))
    largest = max(tensor.detach(), axis, keepdims=True)
    shift = elementwise.where(elementwise.isfinite(largest), largest, 0)
    total = elementwise.log(sum(elementwise.exp(elementwise.subtract(tensor, shift)), axis, keepdims=True))
    result = elementwise.add(total, shift)
    if keepdims:
        return result
    axes = normalize_axes("logsumexp", axis, tensor.ndim)
    return manipulation.reshape(result, tuple(n for i, n in enumerate(tensor.shape) if i not in axes))
