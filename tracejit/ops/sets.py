"""Sets: the distinct elements of a tensor, and whether elements are among others."""

from __future__ import annotations

from typing import Any, NamedTuple

from tracejit.ir.primitives import indexing, library
from tracejit.ir.types import bool_

from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
from . import creation, elementwise, manipulation, reduction
from .axes import normalize_axis
from .sorting import searchsorted, sort


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
    index, inverse, counts = _distinct(tensor, None, False)
    flat = manipulation.reshape(tensor, (tensor.size,))
    return UniqueAll(apply(indexing.gather, (flat, index), {"axes": (0,)}), index, inverse, counts)


def _distinct(tensor: Tensor, axis: int | None, equal_nan: bool) -> list[Tensor]:
    """Where the distinct elements stand first, which of them each element is, and how often each occurs."""
    how = {"axis": axis, "equal_nan": equal_nan}

    def part(name: str, **more: int) -> Tensor:
        return apply(library.unique, (tensor.detach(),), {"part": name, **how, **more})

    size = part("size")._extent("the number of distinct elements")
    return [part("indices", size=size), part("inverse"), part("counts", size=size)]


def unique(
    x: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
) -> Any:
    """The distinct elements (or slices along ``axis``) in order; NaN once, unless ``equal_nan`` is false.

    With the flags a tuple: where each stands first, which of them each element is, and how often each occurs.

    >>> import tracejit as tj
    >>> tj.unique(tj.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    tensor = as_tensor(x, "unique")
    if axis is not None:
        axis = normalize_axis("unique", axis, tensor.ndim)
    first, inverse, counts = _distinct(tensor, axis, equal_nan)
    along = 0 if axis is None else axis
    flat = manipulation.reshape(tensor, (tensor.size,)) if axis is None else tensor
    chosen = apply(indexing.gather, (flat, first), {"axes": (along,)})
    values = manipulation.permute_dims(chosen, [*range(1, along + 1), 0, *range(along + 1, flat.ndim)])
    asked = zip((return_index, return_inverse, return_counts), (first, inverse, counts), strict=True)
    others = tuple(tensor for is_asked, tensor in asked if is_asked)
    return (values, *others) if others else values


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
