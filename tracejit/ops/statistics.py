"""Statistics that skip NaN, histograms, interpolation."""

from __future__ import annotations

from typing import Any

from tracejit.ir.primitives import indexing, library as primitives
from tracejit.ir.types import int64

from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
from . import creation, elementwise, reduction
from .indexing import take
from .reduction import Axis


def _without_nan(name: str, x: Any, fill: float) -> tuple[Tensor, Tensor]:
    """The tensor with ``fill`` for NaN, and where there was none."""
    tensor = as_tensor(x, name)
    present = elementwise.logical_not(elementwise.isnan(tensor))
    if tensor.dtype.kind not in "fcV":
        return tensor, present
    return elementwise.where(present, tensor, fill), present


def nansum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum of what is not NaN.

    >>> import tracejit as tj
    >>> tj.nansum(tj.tensor([1.0, float("nan"), 2.0]))
    tensor(3.)
    """
    return reduction.sum(_without_nan("nansum", x, 0)[0], axis, keepdims)


def nanprod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product of what is not NaN."""
    return reduction.prod(_without_nan("nanprod", x, 1)[0], axis, keepdims)


def nanmean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean of what is not NaN; NaN where nothing else is."""
    values, present = _without_nan("nanmean", x, 0)
    count = reduction.sum(elementwise.astype(present, values.dtype), axis, keepdims)
    return elementwise.divide(reduction.sum(values, axis, keepdims), count)


def nanvar(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance of what is not NaN."""
    tensor = as_tensor(x, "nanvar")
    distance, present = _without_nan("nanvar", elementwise.subtract(tensor, nanmean(tensor, axis, True)), 0)
    count = elementwise.subtract(reduction.sum(elementwise.astype(present, distance.dtype), axis, keepdims), correction)
    return elementwise.divide(reduction.sum(elementwise.square(distance), axis, keepdims), count)


def nanstd(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation of what is not NaN; its gradient is 0 where it is 0."""
    return reduction.root(nanvar(x, axis, correction, keepdims))


def _nan_extremum(name: str, x: Any, axis: Axis, keepdims: bool, worst: float, extremum: Any) -> Tensor:
    values, present = _without_nan(name, x, worst)
    result = extremum(values, axis, keepdims)
    if values.dtype.kind not in "fV":
        return result
    return elementwise.where(reduction.any(present, axis, keepdims), result, float("nan"))


def nanmax(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest of what is not NaN; NaN where nothing else is."""
    return _nan_extremum("nanmax", x, axis, keepdims, float("-inf"), reduction.max)


def nanmin(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest of what is not NaN; NaN where nothing else is."""
    return _nan_extremum("nanmin", x, axis, keepdims, float("inf"), reduction.min)


def bincount(x: Any, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2 … occurs (the largest value is read for the shape)."""
    tensor = as_tensor(x, "bincount").detach()
    if tensor.ndim != 1 or tensor.dtype.kind not in "iu":
        raise at_user_line(
            TypeError(f"bincount: expected a vector of integers, got {tensor.dtype}{list(tensor.shape)}")
        )
    values = tensor._concrete("bincount")
    if values.size and values.min() < 0:
        raise at_user_line(ValueError("bincount: the integers must not be negative"))
    size = int(values.max()) + 1 if values.size else 0
    zeros = creation.zeros((size if size > minlength else minlength,), dtype=int64)
    ones = creation.ones(tensor.shape, dtype=int64)
    return apply(indexing.scatter, (zeros, ones, tensor), {"axes": (0,), "combine": "add"})


def histogram(x: Any, bins: int = 10, range: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """How many elements fall into each of ``bins`` equal intervals, and the intervals' bounds.

    >>> import tracejit as tj
    >>> tj.histogram(tj.tensor([0.0, 1.0, 1.5, 2.0]), bins=2)[0]
    tensor([1, 3])
    """
    from .manipulation import reshape
    from .sorting import searchsorted

    (tensor,) = operands("histogram", as_tensor(x, "histogram"), lowest_kind=2)
    flat = reshape(tensor, (tensor.size,)).detach()
    if range is None:
        low, high = (float(f(flat)) for f in (reduction.min, reduction.max)) if flat.size else (0.0, 1.0)
    else:
        low, high = range
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = creation.linspace(low, high, bins + 1, dtype=tensor.dtype)
    place = searchsorted(edges, flat, side="right")
    place = elementwise.where(elementwise.equal(flat, edges[-1]), bins, place)
    inside = elementwise.logical_and(elementwise.greater_equal(place, 1), elementwise.less_equal(place, bins))
    zeros = creation.zeros((bins + 1,), dtype=int64)
    slot = elementwise.where(inside, elementwise.subtract(place, 1), bins)
    ones = creation.ones(slot.shape, dtype=int64)
    counts = apply(indexing.scatter, (zeros, ones, slot), {"axes": (0,), "combine": "add"})
    return counts[:bins], edges


def interp(x: Any, xp: Any, fp: Any) -> Tensor:
    """The function through the points ``(xp, fp)``, ``xp`` increasing, linear between them and constant beyond.

    >>> import tracejit as tj
    >>> tj.interp(tj.tensor([0.5, 3.0]), tj.tensor([0.0, 1.0]), tj.tensor([10.0, 20.0]))
    tensor([15., 20.])
    """
    at, knots, values = operands("interp", x, xp, fp, lowest_kind=2)
    if knots.ndim != 1 or knots.shape != values.shape or knots.size < 2:
        raise at_user_line(ValueError(f"interp: needs as many values as points, two or more, got {values.shape}"))
    place = apply(primitives.searchsorted, (knots.detach(), at.detach()), {"side": "right"})
    right = elementwise.clip(place, 1, knots.size - 1)
    left = elementwise.subtract(right, 1)
    x0, x1, y0, y1 = take(knots, left), take(knots, right), take(values, left), take(values, right)
    part = elementwise.divide(elementwise.subtract(at, x0), elementwise.subtract(x1, x0))
    inside = elementwise.add(y0, elementwise.multiply(elementwise.subtract(y1, y0), part))
    below, above = elementwise.less(at, knots[0]), elementwise.greater_equal(at, knots[-1])
    return elementwise.where(below, values[0], elementwise.where(above, values[-1], inside))
