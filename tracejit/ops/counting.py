"""Counting: how often numbers occur, and how many fall into intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.ir.primitives import indexing
from tracejit.ir.types import float32, float64, format_shape, int64

from ..locations import at_user_line
from ..promotion import DEFAULT_FLOAT, as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
from . import creation, elementwise, manipulation, reduction
from .indexing import check
from .sorting import searchsorted


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2 … occurs, or the sums of their ``weights`` (the largest value is read for the shape).

    >>> import tracejit as tj
    >>> tj.bincount(tj.tensor([1, 3, 1]))
    tensor([0, 2, 0, 1])
    """
    tensor = as_tensor(x, "bincount").detach()
    if tensor.ndim != 1 or tensor.dtype.kind not in "iu":
        raise at_user_line(
            TypeError(f"bincount: expected a vector of integers, got {tensor.dtype}{list(tensor.shape)}")
        )
    size = 0
    if tensor.size:
        valid = reduction.all(elementwise.greater_equal(tensor, 0))
        check(valid, ValueError, "bincount: the integers must not be negative")
        size = int(reduction.max(tensor)._concrete("the largest integer")) + 1
    return _summed("bincount", tensor, weights, size if size > minlength else minlength)


def _summed(name: str, places: Tensor, weights: Any, size: int) -> Tensor:
    """How many of the places are 0, 1 … ``size - 1``, or the sums of their weights."""
    if weights is None:
        shares = creation.ones(places.shape, dtype=int64)
    else:
        shares = as_tensor(weights, name)
        if shares.shape != places.shape:
            shapes = f"{format_shape(shares.shape)} for {format_shape(places.shape)}"
            raise at_user_line(ValueError(f"{name}: the weights don't have the same shape: {shapes}"))
        shares = elementwise.astype(shares, DEFAULT_FLOAT) if shares.dtype.kind not in "fVc" else shares
    zeros = creation.zeros((size,), dtype=shares.dtype)
    return apply(indexing.scatter, (zeros, shares, places), {"axes": (0,), "combine": "add"})


def histogram(
    x: Any,
    bins: Any = 10,
    range: tuple[float, float] | None = None,
    weights: Any = None,
    density: bool = False,
) -> tuple[Tensor, Tensor]:
    """How many elements fall into each interval, and the intervals' bounds.

    ``bins`` is a number of equal intervals of ``range`` (that of the elements, which are read for it), or the bounds,
    increasing.  The last interval holds its upper bound.  ``weights``: what each element counts; ``density``: divided
    by the sum and by the widths.

    >>> import tracejit as tj
    >>> tj.histogram(tj.tensor([0.0, 1.0, 1.5, 2.0]), bins=2)[0]
    tensor([1, 3])
    """
    (tensor,) = operands("histogram", as_tensor(x, "histogram"), lowest_kind=2)
    flat = manipulation.reshape(tensor, (tensor.size,)).detach()
    if isinstance(bins, int):
        low, high = _range(flat, bins, range)
        edges = creation.linspace(low, high, bins + 1, dtype=flat.dtype, device=flat.device)
        regular = flat.dtype in (float32, float64) and _can_be_calculated(low, high, bins, np.finfo(flat.dtype))
    else:
        edges, regular = _bounds(bins, flat), False
    count = edges.size - 1
    inside = elementwise.logical_and(elementwise.less_equal(edges[0], flat), elementwise.less_equal(flat, edges[-1]))
    if regular:
        place = _calculated(flat, edges, inside)
    else:
        place = elementwise.subtract(searchsorted(edges, flat, side="right"), 1)
    slot = elementwise.where(inside, elementwise.minimum(place, count - 1), count)  # one more takes what lies outside
    shares = None if weights is None else manipulation.reshape(as_tensor(weights, "histogram"), (-1,))
    counts = _summed("histogram", slot, shares, count + 1)[:count]
    if density:
        widths = elementwise.subtract(edges[1:], edges[:-1])
        numbers = elementwise.astype(counts, edges.dtype) if weights is None else counts
        counts = elementwise.divide(elementwise.divide(numbers, widths), reduction.sum(numbers))
    return counts, edges


def _can_be_calculated(low: float, high: float, bins: int, limits: np.finfo) -> bool:
    """Whether rounding moves neither an element nor a bound by an interval."""
    error = 8 * bins * float(limits.eps)
    return error < 1 and error * max(abs(low), abs(high)) < high - low < float(limits.max)


def _calculated(flat: Tensor, edges: Tensor, inside: Tensor) -> Tensor:
    """The interval of each element that is inside: calculated, then corrected until the bounds say so."""
    count = edges.size - 1
    low, high = edges[0], edges[-1]
    guess = elementwise.divide(elementwise.subtract(flat, low), elementwise.subtract(high, low))
    guess = elementwise.where(inside, elementwise.multiply(guess, count), 0)
    place = elementwise.astype(elementwise.minimum(guess, count - 1), int64)
    below, above = (apply(indexing.gather, (edges, elementwise.add(place, i)), {"axes": (0,)}) for i in (0, 1))
    place = elementwise.subtract(place, elementwise.astype(elementwise.less(flat, below), int64))
    return elementwise.add(place, elementwise.astype(elementwise.greater_equal(flat, above), int64))


def _range(flat: Tensor, bins: int, range: tuple[float, float] | None) -> tuple[float, float]:
    """From where to where equal intervals go."""
    if bins < 1:
        raise at_user_line(ValueError(f"histogram: `bins` must be positive, when an integer, got {bins}"))
    if range is None:
        low, high = (float(f(flat)) for f in (reduction.min, reduction.max)) if flat.size else (0.0, 1.0)
    else:
        low, high = range
    if not (math.isfinite(low) and math.isfinite(high)):
        found = "supplied" if range is not None else "autodetected"
        raise at_user_line(ValueError(f"histogram: {found} range of [{low}, {high}] is not finite"))
    if not low <= high:
        raise at_user_line(ValueError(f"histogram: max must be larger than min in range parameter, got {low}, {high}"))
    if low == high:
        low, high = low - 0.5, high + 0.5
    return low, high


def _bounds(bins: Any, flat: Tensor) -> Tensor:
    from .indexing import check

    edges = creation.asarray(bins).detach()
    if edges.ndim != 1 or edges.size < 2:
        raise at_user_line(
            ValueError(f"histogram: `bins` must be a number or a vector, got {format_shape(edges.shape)}")
        )
    rises = reduction.all(elementwise.less_equal(edges[:-1], edges[1:]))
    check(rises, ValueError, "histogram: `bins` must increase monotonically, when an array")
    return elementwise.astype(edges, flat.dtype)
