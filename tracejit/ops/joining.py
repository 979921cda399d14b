"""Tensors put together as NumPy's ``hstack``, ``block`` and the like do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..locations import at_user_line
from ..promotion import as_tensor
from ..tape import same_value
from ..tensor import Tensor
from .manipulation import concat, expand_dims, reshape


def atleast_1d(*arrays: Any) -> Any:
    """The tensor with one axis or more; a tuple for several tensors."""
    return _each(arrays, lambda x: reshape(x, (1,)) if x.ndim == 0 else same_value(x))


def atleast_2d(*arrays: Any) -> Any:
    """The tensor with two axes or more, those that it lacks in front; a tuple for several tensors.

    >>> import tracejit as tj
    >>> tj.atleast_2d(tj.tensor([1, 2])).shape
    (1, 2)
    """
    return _each(arrays, lambda x: reshape(x, (*(1,) * (2 - x.ndim), *x.shape)))


def atleast_3d(*arrays: Any) -> Any:
    """The tensor with three axes or more: of a vector the second of them, of a matrix the first two are its own."""

    def widened(x: Tensor) -> Tensor:
        if x.ndim == 1:
            return reshape(x, (1, x.shape[0], 1))
        return reshape(x, (*x.shape, *(1,) * (3 - x.ndim)))

    return _each(arrays, widened)


def _each(arrays: Sequence[Any], function: Any) -> Any:
    results = tuple(function(as_tensor(item, "atleast")) for item in arrays)
    return results[0] if len(results) == 1 else results


def hstack(arrays: Sequence[Any]) -> Tensor:
    """Tensors side by side: along the second axis, or the only one.

    >>> import tracejit as tj
    >>> tj.hstack([tj.tensor([1, 2]), tj.tensor([3])])
    tensor([1, 2, 3])
    """
    parts = [atleast_1d(item) for item in arrays]
    return concat(parts, 0 if parts and parts[0].ndim == 1 else 1)


def vstack(arrays: Sequence[Any]) -> Tensor:
    """Tensors below each other: along the first axis, vectors as rows."""
    return concat([atleast_2d(item) for item in arrays], 0)


def dstack(arrays: Sequence[Any]) -> Tensor:
    """Tensors behind each other: along the third axis."""
    return concat([atleast_3d(item) for item in arrays], 2)


def column_stack(arrays: Sequence[Any]) -> Tensor:
    """Tensors side by side, vectors as columns.

    >>> import tracejit as tj
    >>> tj.column_stack([tj.tensor([1, 2]), tj.tensor([3, 4])])
    tensor([[1, 3],
            [2, 4]])
    """
    parts = [as_tensor(item, "column_stack") for item in arrays]
    return concat([reshape(x, (x.size, 1)) if x.ndim < 2 else x for x in parts], 1)


def append(x: Any, values: Any, axis: int | None = None) -> Tensor:
    """``values`` after the elements of ``x`` along ``axis``; both flattened for ``None``."""
    return concat([as_tensor(x, "append"), as_tensor(values, "append")], axis)


def block(arrays: Any) -> Tensor:
    """Blocks put together: nested lists, the innermost along the last axis, the next along the one before it.

    >>> import tracejit as tj
    >>> tj.block([[tj.eye(1), tj.zeros(1, 2)], [tj.ones(1, 3)]])
    tensor([[1., 0., 0.],
            [1., 1., 1.]])
    """
    depth = _depth(arrays)
    ndim = max([depth, *(x.ndim for x in _leaves(arrays))])
    return same_value(_joined(arrays, depth, ndim))


def _depth(arrays: Any) -> int:
    if not isinstance(arrays, list):
        return 0
    depths = {_depth(item) for item in arrays}
    if len(depths) != 1:
        raise at_user_line(ValueError("block: lists must be nested to one depth, and none may be empty"))
    return depths.pop() + 1


def _leaves(arrays: Any) -> list[Tensor]:
    if isinstance(arrays, list):
        return [leaf for item in arrays for leaf in _leaves(item)]
    return [as_tensor(arrays, "block")]


def _joined(arrays: Any, depth: int, ndim: int) -> Tensor:
    if depth == 0:
        x = as_tensor(arrays, "block")
        return expand_dims(x, tuple(range(ndim - x.ndim))) if x.ndim < ndim else x
    return concat([_joined(item, depth - 1, ndim) for item in arrays], ndim - depth)
