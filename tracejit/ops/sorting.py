"""Sorting, searching, sets, and running sums."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tracejit.ir.primitives import indexing, library as primitives
from tracejit.ir.types import DType, bool_, format_shape, int64, is_integer, uint64

from .. import dispatch
from ..locations import at_user_line
from ..promotion import as_tensor, kind, operands
from ..tape import apply
from ..tensor import Tensor, new_tensor
from . import creation, elementwise, manipulation, reduction

# Sorting --------------------------------------------------------------------------------------------


def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions along ``axis`` in the order of their elements; equal ones keep their order."""
    tensor = as_tensor(x, "argsort")
    if tensor.ndim == 0:
        raise at_user_line(IndexError("argsort: a 0-d tensor has no axis to sort along"))
    (along,) = reduction.normalize_axes("argsort", axis, tensor.ndim)
    return apply(primitives.argsort, (tensor,), {"axis": along, "descending": descending})


def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements along ``axis`` in increasing (or decreasing) order, NaN as the largest.

    >>> import tracejit as tj
    >>> tj.sort(tj.tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    """
    tensor = as_tensor(x, "sort")
    return _taken(tensor, argsort(tensor, axis, descending), axis)


def _taken(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """``take_along_axis`` with positions that are known to be in range."""
    (along,) = reduction.normalize_axes("sort", axis, x.ndim)
    positions = []
    for dimension, extent in enumerate(x.shape):
        if dimension == along:
            positions.append(index)
        else:
            shape = tuple(extent if i == dimension else 1 for i in range(x.ndim))
            numbers = manipulation.reshape(creation.arange(extent), shape)
            positions.append(manipulation.broadcast_to(numbers, index.shape))
    return apply(indexing.gather, (x, *positions), {"axes": tuple(range(x.ndim))})


def searchsorted(x1: Any, x2: Any, side: str = "left", sorter: Any = None) -> Tensor:
    """Where each of ``x2`` would be inserted into the sorted vector ``x1`` to keep it sorted.

    >>> import tracejit as tj
    >>> tj.searchsorted(tj.tensor([1.0, 2.0, 3.0]), tj.tensor([2.5, 0.0]))
    tensor([2, 0])
    """
    if side not in ("left", "right"):
        raise at_user_line(ValueError(f"searchsorted: side must be 'left' or 'right', got {side!r}"))
    table = as_tensor(x1, "searchsorted")
    if sorter is not None:
        from .indexing import take

        table = take(table, sorter, axis=0)
    table, values = operands("searchsorted", table, x2)
    return apply(primitives.searchsorted, (table.detach(), values.detach()), {"side": side})


def median(x: Any, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
    """The middle element in sorted order, or the mean of the two in the middle; NaN where there is a NaN."""
    return quantile(x, 0.5, axis, keepdims)


def quantile(x: Any, q: Any, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
    """The ``q``-quantile (0 to 1), linear between the two nearest elements; NaN where there is a NaN.

    >>> import tracejit as tj
    >>> tj.quantile(tj.tensor([1.0, 2.0, 4.0]), 0.75)
    tensor(3.)
    """
    (tensor,) = operands("quantile", x, lowest_kind=2)
    if isinstance(q, list | tuple):
        return manipulation.stack([quantile(tensor, item, axis, keepdims) for item in q])
    number = float(q)
    if not 0 <= number <= 1:
        raise at_user_line(ValueError(f"quantile: q must lie between 0 and 1, got {number}"))
    axes = reduction.normalize_axes("quantile", axis, tensor.ndim)
    rest = tuple(i for i in range(tensor.ndim) if i not in axes)
    moved = manipulation.permute_dims(tensor, (*rest, *axes))
    count = 1
    for i in axes:
        count *= tensor.shape[i]
    if count == 0:
        raise at_user_line(ValueError(f"quantile: no elements along axes {axes} of {format_shape(tensor.shape)}"))
    rows = sort(manipulation.reshape(moved, (*(tensor.shape[i] for i in rest), count)))
    position = number * (count - 1)
    low = int(position)
    high = low if low + 1 >= count else low + 1
    below, above = rows[..., low], rows[..., high]
    result = elementwise.add(below, elementwise.multiply(elementwise.subtract(above, below), position - low))
    if low == high or position == low:
        result = below
    result = elementwise.where(elementwise.isnan(rows[..., -1]), rows[..., -1], result)
    shape = tuple(1 if i in axes else n for i, n in enumerate(tensor.shape))
    return manipulation.reshape(result, shape) if keepdims else result


# Searching ------------------------------------------------------------------------------------------


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """The positions of the elements that are not zero, one vector an axis (the values are read for it)."""
    tensor = as_tensor(x, "nonzero")
    if tensor.ndim == 0:
        raise at_user_line(ValueError("nonzero: a 0-d tensor has no positions"))
    return tuple(_constant(np.ascontiguousarray(axis)) for axis in np.nonzero(tensor._concrete("nonzero")))


def _constant(array: np.ndarray) -> Tensor:
    return new_tensor(dispatch.constant_payload(array))


def count_nonzero(x: Any, axis: reduction.Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero."""
    truths = elementwise.astype(as_tensor(x, "count_nonzero"), bool_)
    return reduction.sum(elementwise.astype(truths, int64), axis, keepdims)


# Sets -----------------------------------------------------------------------------------------------


class UniqueAll(NamedTuple):
    """What :func:`unique_all` returns."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What :func:`unique_counts` returns."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What :func:`unique_inverse` returns."""

    values: Tensor
    inverse_indices: Tensor


def unique_all(x: Any) -> UniqueAll:
    """The distinct elements in increasing order, where each stands first, which one each element is, and how many."""
    tensor = as_tensor(x, "unique_all")
    array = tensor._concrete("unique_all")
    _, indices, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    index = _constant(indices.astype(np.int64))
    flat = manipulation.reshape(tensor, (tensor.size,))
    chosen = apply(indexing.gather, (flat, index), {"axes": (0,)})
    return UniqueAll(
        chosen,
        index,
        _constant(inverse.astype(np.int64).reshape(array.shape)),
        _constant(counts.astype(np.int64)),
    )


def unique_counts(x: Any) -> UniqueCounts:
    """The distinct elements in increasing order, and how often each occurs."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any) -> UniqueInverse:
    """The distinct elements in increasing order, and which of them each element is."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any) -> Tensor:
    """The distinct elements in increasing order; every NaN counts as one of its own.

    >>> import tracejit as tj
    >>> tj.unique_values(tj.tensor([3, 1, 3]))
    tensor([1, 3])
    """
    return unique_all(x).values


def isin(x1: Any, x2: Any, invert: bool = False) -> Tensor:
    """Whether each of ``x1`` is an element of ``x2`` (with ``invert``: is none)."""
    elements, table = (t.detach() for t in operands("isin", x1, x2))
    flat = manipulation.reshape(table, (table.size,))
    if table.size == 0:
        found = creation.zeros(elements.shape, dtype=bool_)
    elif table.size <= 16 or table.dtype.kind == "c":
        found = reduction.any(elementwise.equal(manipulation.expand_dims(elements, -1), flat), -1)
    else:
        ordered = sort(flat)
        place = elementwise.minimum(searchsorted(ordered, elements), table.size - 1)
        found = elementwise.equal(apply(indexing.gather, (ordered, place), {"axes": (0,)}), elements)
    return elementwise.logical_not(found) if invert else found


# Running sums ---------------------------------------------------------------------------------------


def _cumulative(name: str, primitive: Any, x: Any, axis: int | None, dtype: Any, initial: int | None) -> Tensor:
    tensor = as_tensor(x, name)
    if dtype is not None:
        tensor = elementwise.astype(tensor, dtype)
    elif kind(tensor.dtype) < 2:
        tensor = elementwise.astype(tensor, sum_dtype(tensor.dtype))
    if axis is None:
        if tensor.ndim > 1:
            raise at_user_line(ValueError(f"{name}: axis is needed for shape {format_shape(tensor.shape)}"))
        axis = 0
    if tensor.ndim == 0:
        tensor = manipulation.reshape(tensor, (1,))
    (along,) = reduction.normalize_axes(name, axis, tensor.ndim)
    result = apply(primitive, (tensor,), {"axis": along})
    if initial is None:
        return result
    shape = tuple(1 if i == along else n for i, n in enumerate(tensor.shape))
    return manipulation.concat([creation.full(shape, initial, dtype=tensor.dtype), result], along)


def sum_dtype(dtype: DType) -> DType:
    """What bools and integers are summed in."""
    return uint64 if dtype.kind == "u" else int64 if is_integer(dtype) or dtype == bool_ else dtype


def cumulative_sum(x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """The sums of the elements up to each one, in order; with ``include_initial`` a 0 in front.

    >>> import tracejit as tj
    >>> tj.cumulative_sum(tj.tensor([1, 2, 3]))
    tensor([1, 3, 6])
    """
    initial = 0 if include_initial else None
    return _cumulative("cumulative_sum", primitives.cumulative_sum, x, axis, dtype, initial)


def cumulative_prod(x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """The products of the elements up to each one, in order; with ``include_initial`` a 1 in front."""
    initial = 1 if include_initial else None
    return _cumulative("cumulative_prod", primitives.cumulative_product, x, axis, dtype, initial)


def diff(x: Any, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """The differences of neighbours along ``axis``, ``n`` times over; those of bools tell where they differ.

    >>> import tracejit as tj
    >>> tj.diff(tj.tensor([1, 4, 9]))
    tensor([3, 5])
    """
    tensor = as_tensor(x, "diff")
    if n < 0:
        raise at_user_line(ValueError(f"diff: n must not be negative, got {n}"))
    (along,) = reduction.normalize_axes("diff", axis, tensor.ndim)
    parts = [item for item in (prepend, tensor, append) if item is not None]
    if len(parts) > 1:
        tensor = manipulation.concat(parts, along)
    if n == 0:
        return elementwise.positive(tensor)
    for _ in range(n):
        ahead = tensor[(*[slice(None)] * along, slice(1, None))]
        behind = tensor[(*[slice(None)] * along, slice(None, -1))]
        tensor = (elementwise.not_equal if tensor.dtype == bool_ else elementwise.subtract)(ahead, behind)
    return tensor
