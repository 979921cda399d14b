"""Sorting and searching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tracejit.ir.primitives import indexing, library as primitives
from tracejit.ir.types import bool_, int64

from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
from . import arrangement, creation, elementwise, manipulation, reduction
from .axes import Axis, normalize_axis

# Sorting --------------------------------------------------------------------------------------------


def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions along ``axis`` in the order of their elements; equal ones keep their order."""
    tensor = as_tensor(x, "argsort")
    if tensor.ndim == 0:
        raise at_user_line(IndexError("argsort: a 0-d tensor has no axis to sort along"))
    along = normalize_axis("argsort", axis, tensor.ndim)
    return apply(primitives.argsort, (tensor,), {"axis": along, "descending": descending})


def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements along ``axis`` in increasing (or decreasing) order, NaN as the largest.

    >>> import tracejit as tj
    >>> tj.sort(tj.tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    """
    tensor = as_tensor(x, "sort")
    if tensor.ndim == 0:
        raise at_user_line(IndexError("sort: a 0-d tensor has no axis to sort along"))
    along = normalize_axis("sort", axis, tensor.ndim)
    return apply(primitives.sort, (tensor,), {"axis": along, "descending": descending})


def _taken(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """``take_along_axis`` with positions that are known to be in range."""
    along = normalize_axis("sort", axis, x.ndim)
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


def digitize(x: Any, bins: Any, right: bool = False) -> Tensor:
    """The number of the interval between ``bins`` (increasing or decreasing) that each of ``x`` lies in; 0 is before.

    An interval holds its lower bound, or with ``right`` its upper one.  ``ValueError`` for bins that are not monotonic.

    >>> import tracejit as tj
    >>> tj.digitize(tj.tensor([0.5, 1.0, 9.0]), tj.tensor([0.0, 1.0, 2.0]))
    tensor([1, 2, 3])
    """
    from .indexing import check

    values, bounds = (tensor.detach() for tensor in operands("digitize", x, bins))
    if bounds.ndim != 1:
        raise at_user_line(ValueError(f"digitize: bins must be a vector, got shape {bounds.shape}"))
    if bounds.size < 2:
        return searchsorted(bounds, values, "left" if right else "right")
    ahead, behind = bounds[1:], bounds[:-1]
    rises = reduction.all(elementwise.less_equal(behind, ahead))
    falls = reduction.all(elementwise.greater_equal(behind, ahead))
    check(elementwise.logical_or(rises, falls), ValueError, "digitize: bins must be monotonic")
    rising = searchsorted(bounds, values, "left" if right else "right")
    from_end = searchsorted(manipulation.flip(bounds), values, "left" if right else "right")
    return elementwise.where(rises, rising, elementwise.subtract(bounds.size, from_end))


def lexsort(keys: Any, axis: int = -1) -> Tensor:
    """The positions that put several keys in order at once: the last key counts first, then the one before it.

    >>> import tracejit as tj
    >>> tj.lexsort((tj.tensor([3, 1, 2]), tj.tensor([0, 1, 0])))
    tensor([2, 0, 1])
    """
    columns = [as_tensor(key, "lexsort") for key in keys]
    if not columns:
        raise at_user_line(TypeError("lexsort: need sequence of keys with len > 0 in lexsort"))
    order = argsort(columns[0], axis)
    for key in columns[1:]:
        order = _taken(order, argsort(_taken(key, order, axis), axis), axis)
    return order


def partition(x: Any, kth: int | Sequence[int], axis: int | None = -1) -> Tensor:
    """The elements along ``axis`` with the ``kth`` in its place, smaller ones before and larger ones behind it.

    They are sorted: one of the orders that NumPy leaves open.
    """
    tensor, along = _partitioned("partition", x, kth, axis)
    return sort(tensor, along)


def argpartition(x: Any, kth: int | Sequence[int], axis: int | None = -1) -> Tensor:
    """The positions of the elements in the order of :func:`partition`."""
    tensor, along = _partitioned("argpartition", x, kth, axis)
    return argsort(tensor, along)


def _partitioned(name: str, x: Any, kth: int | Sequence[int], axis: int | None) -> tuple[Tensor, int]:
    tensor = as_tensor(x, name)
    if axis is None:
        tensor, axis = manipulation.reshape(tensor, (tensor.size,)), 0
    along = normalize_axis(name, axis, tensor.ndim)
    extent = tensor.shape[along]
    for place in [kth] if isinstance(kth, int) else kth:
        if not -extent <= place < extent:
            raise at_user_line(ValueError(f"{name}: kth(={place}) out of bounds ({extent})"))
    return tensor, along


class TopK(NamedTuple):
    """What :func:`topk` returns."""

    values: Tensor
    indices: Tensor


def topk(x: Any, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> TopK:
    """The ``k`` largest (or smallest) elements along ``axis`` in order, NaN as the largest, and their positions.

    >>> import tracejit as tj
    >>> tj.topk(tj.tensor([3.0, 1.0, 2.0]), 2).indices
    tensor([0, 2])
    """
    tensor = as_tensor(x, "topk")
    along = normalize_axis("topk", axis, tensor.ndim)
    if not 0 <= k <= tensor.shape[along]:
        raise at_user_line(RuntimeError(f"selected index k out of range: {k} of {tensor.shape[along]}"))
    order = argsort(tensor, along, descending=largest)[(*[slice(None)] * along, slice(k))]
    return TopK(_taken(tensor, order, along), order)


# Searching ------------------------------------------------------------------------------------------


def nonzero(x: Any) -> tuple[Tensor, ...]:
    """The positions of the elements that are not zero, one vector an axis (the values are read for it)."""
    tensor = as_tensor(x, "nonzero")
    if tensor.ndim == 0:
        raise at_user_line(ValueError("nonzero: a 0-d tensor has no positions"))
    return arrangement.unstack(argwhere(tensor), axis=1)


def flatnonzero(x: Any) -> Tensor:
    """The positions of the elements of the flattened tensor that are not zero."""
    tensor = as_tensor(x, "flatnonzero")
    return nonzero(manipulation.reshape(tensor, (tensor.size,)))[0]


def argwhere(x: Any) -> Tensor:
    """The positions of the elements that are not zero, one row each.

    >>> import tracejit as tj
    >>> tj.argwhere(tj.tensor([[0, 5], [6, 0]]))
    tensor([[0, 1],
            [1, 0]])
    """
    tensor = as_tensor(x, "argwhere").detach()
    count = count_nonzero(tensor)._extent("the number of elements that are not zero")
    if tensor.ndim == 0:
        return creation.zeros((count, 0), dtype=int64)
    return apply(primitives.nonzero, (tensor,), {"size": count})


def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero."""
    truths = elementwise.astype(as_tensor(x, "count_nonzero"), bool_)
    return reduction.sum(elementwise.astype(truths, int64), axis, keepdims)
