"""Quantiles, percentiles and medians: elements of a sorted row, and what lies between two neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.ir.types import float64, format_shape, int64

from .. import dispatch
from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tensor import Tensor, new_tensor
from . import elementwise, manipulation, reduction
from .axes import Axis, normalize_axes
from .sorting import _taken, sort

# Where in a row of n elements the q-quantile stands, counted from 0: (n - 1 + 2a - …) as in Hyndman and Fan,
# "Sample quantiles in statistical packages", The American Statistician 50 (1996): n * q + a + q * (1 - a - b) - 1.
_POSITIONS = {
    "linear": (1.0, 1.0), "weibull": (0.0, 0.0), "hazen": (0.5, 0.5), "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8), "interpolated_inverted_cdf": (0.0, 1.0),
}  # fmt: skip
_ROUNDED = ("lower", "higher", "nearest", "midpoint")  # of the position that "linear" has


def quantile(x: Any, q: Any, axis: Axis = None, keepdims: bool = False, method: str = "linear") -> Tensor:
    """The ``q``-quantiles (0 to 1) along ``axis``; NaN where there is a NaN.

    ``q`` may be a number or a tensor: its axes come first in the result.  ``method`` says what stands between two
    neighbours, as in NumPy: ``"linear"``, ``"lower"``, ``"higher"``, ``"nearest"``, ``"midpoint"``, ``"weibull"``,
    ``"hazen"``, ``"median_unbiased"``, ``"normal_unbiased"``, ``"interpolated_inverted_cdf"``.  ``ValueError`` for
    another one, for a ``q`` out of range, and where there are no elements.

    >>> import tracejit as tj
    >>> tj.quantile(tj.tensor([1.0, 2.0, 4.0]), 0.75)
    tensor(3.)
    """
    return _quantile("quantile", x, q, axis, keepdims, method)


def nanquantile(x: Any, q: Any, axis: Axis = None, keepdims: bool = False, method: str = "linear") -> Tensor:
    """:func:`quantile` of what is not NaN; NaN where nothing else is."""
    return _quantile("nanquantile", x, q, axis, keepdims, method)


def percentile(x: Any, q: Any, axis: Axis = None, keepdims: bool = False, method: str = "linear") -> Tensor:
    """:func:`quantile`, with ``q`` between 0 and 100.

    >>> import tracejit as tj
    >>> tj.percentile(tj.tensor([1.0, 2.0, 4.0]), [50, 75])
    tensor([2., 3.])
    """
    return _quantile("percentile", x, q, axis, keepdims, method)


def nanpercentile(x: Any, q: Any, axis: Axis = None, keepdims: bool = False, method: str = "linear") -> Tensor:
    """:func:`percentile` of what is not NaN."""
    return _quantile("nanpercentile", x, q, axis, keepdims, method)


def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The middle element in sorted order, or the mean of the two in the middle; NaN of nothing, and of a NaN.

    Of equal elements the one that a stable sort puts there gets the gradient.
    """
    return _quantile("median", x, 0.5, axis, keepdims)


def nanmedian(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """:func:`median` of what is not NaN."""
    return _quantile("nanmedian", x, 0.5, axis, keepdims)


def _quantile(name: str, x: Any, q: Any, axis: Axis, keepdims: bool, method: str = "linear") -> Tensor:
    (tensor,) = operands(name, as_tensor(x, name), lowest_kind=2)
    if method not in _POSITIONS and method not in _ROUNDED:
        known = ", ".join(map(repr, (*_POSITIONS, *_ROUNDED)))
        raise at_user_line(ValueError(f"{name}: method must be one of {known}, got {method!r}"))
    axes = normalize_axes(name, axis, tensor.ndim)
    rest = tuple(i for i in range(tensor.ndim) if i not in axes)
    count = math.prod(tensor.shape[i] for i in axes)
    if count == 0:
        if name.endswith("median"):
            return reduction.mean(tensor, axis, keepdims)
        raise at_user_line(ValueError(f"{name}: no elements along axes {axes} of {format_shape(tensor.shape)}"))
    parts = _fractions(name, q, 100 if name.endswith("percentile") else 1)
    kept = tuple(tensor.shape[i] for i in rest)
    rows = sort(manipulation.reshape(manipulation.permute_dims(tensor, (*rest, *axes)), (*kept, count)))

    missing = elementwise.isnan(rows.detach())
    skip_nan = name.startswith("nan")
    if skip_nan:
        present = reduction.sum(elementwise.astype(elementwise.logical_not(missing), float64), -1, keepdims=True)
    else:
        present = new_tensor(dispatch.constant_payload(np.full((), float(count))))
    flat = manipulation.reshape(parts, (parts.size,))
    result = _between(rows, _positions(flat, present, method), method)
    if not skip_nan:
        result = elementwise.where(missing[..., -1:], rows[..., -1:], result)

    order = (len(kept), *range(len(kept)))
    ends = tuple(1 if i in axes else n for i, n in enumerate(tensor.shape)) if keepdims else kept
    return manipulation.reshape(manipulation.permute_dims(result, order), (*parts.shape, *ends))


def _fractions(name: str, q: Any, whole: int) -> Tensor:
    """``q`` of a ``whole`` as a float64 tensor; what is out of range is an error."""
    from .indexing import check

    if not isinstance(q, Tensor):
        numbers = np.asarray(q, np.float64)
        if not ((numbers >= 0) & (numbers <= whole)).all():
            raise at_user_line(ValueError(f"{name}: q must lie between 0 and {whole}, got {q}"))
        return new_tensor(dispatch.constant_payload(numbers / whole))
    inside = elementwise.logical_and(elementwise.greater_equal(q, 0), elementwise.less_equal(q, whole))
    check(reduction.all(inside), ValueError, f"{name}: q must lie between 0 and {whole}")
    return elementwise.divide(elementwise.astype(q, float64), whole)


def _positions(q: Tensor, count: Tensor, method: str) -> Tensor:
    """Where the quantiles stand among ``count`` elements: one or more rows of positions."""
    a, b = _POSITIONS.get(method, (1.0, 1.0))
    slope = elementwise.add(count, 1.0 - a - b)
    places = elementwise.add(elementwise.multiply(q, slope), a - 1.0)
    last = elementwise.maximum(elementwise.subtract(count, 1.0), 0.0)
    return elementwise.clip(places, 0.0, last)


def _between(rows: Tensor, places: Tensor, method: str) -> Tensor:
    """What stands at places that need not be whole numbers, along the last axis."""
    below = elementwise.floor(places.detach())
    above = elementwise.ceil(places.detach())
    if method in ("lower", "higher", "nearest"):
        chosen = below if method == "lower" else above if method == "higher" else elementwise.round(places.detach())
        return _at(rows, chosen)
    low, high = _at(rows, below), _at(rows, above)
    part = elementwise.subtract(places, below)
    if method == "midpoint":
        part = elementwise.where(elementwise.equal(below, above), 0.0, 0.5)
    part = elementwise.astype(part, rows.dtype)
    moved = elementwise.add(low, elementwise.multiply(elementwise.subtract(high, low), part))
    return elementwise.where(elementwise.equal(low, high), low, moved)  # infinities too


def _at(rows: Tensor, places: Tensor) -> Tensor:
    index = elementwise.astype(places, int64)
    return _taken(rows, manipulation.broadcast_to(index, (*rows.shape[:-1], index.shape[-1])), -1)
