"""Elements added to, or put into, the places that indices name."""

from __future__ import annotations

from typing import Any

from tracejit.ir.primitives import indexing as primitives
from tracejit.ir.types import format_shape, is_integer

from ..locations import at_user_line
from ..promotion import as_tensor
from ..tape import apply
from ..tensor import Tensor
from . import creation, elementwise, indexing, manipulation, reduction
from .axes import normalize_axis


def scatter_add(x: Any, dim: int, index: Any, src: Any) -> Tensor:
    """``x`` with each of ``src`` added at the same position, but for axis ``dim``, where ``index`` says the place.

    As in PyTorch, ``index`` may be smaller than ``src``, and than ``x`` along the other axes.  ``IndexError`` for an
    index that is out of range.

    >>> import tracejit as tj
    >>> tj.scatter_add(tj.zeros(3), 0, tj.tensor([0, 2, 0]), tj.tensor([1.0, 2.0, 3.0]))
    tensor([4., 0., 2.])
    """
    target, positions, source = (as_tensor(item, "scatter_add") for item in (x, index, src))
    along = normalize_axis("scatter_add", dim, target.ndim)
    _check_fit(target, positions, source, along)
    key = list(_grid(positions.shape, along))
    key.insert(along, indexing._checked_positions(positions, target.shape[along], along))
    update = elementwise.astype(source, target.dtype)[tuple(slice(extent) for extent in positions.shape)]
    return apply(primitives.scatter, (target, update, *key), {"axes": tuple(range(target.ndim)), "combine": "add"})


def _check_fit(x: Tensor, index: Tensor, src: Tensor, dim: int) -> None:
    shapes = f"index {format_shape(index.shape)}, self {format_shape(x.shape)}, src {format_shape(src.shape)}"
    if not is_integer(index.dtype):
        raise at_user_line(TypeError(f"scatter_add: the index must be of integers, got {index.dtype}"))
    if not x.ndim == index.ndim == src.ndim:
        raise at_user_line(ValueError(f"scatter_add: index, self and src must have as many axes, got {shapes}"))
    for axis, extent in enumerate(index.shape):
        if extent > src.shape[axis] or (axis != dim and extent > x.shape[axis]):
            raise at_user_line(ValueError(f"scatter_add: expected index to be smaller than self and src, got {shapes}"))


def _grid(shape: tuple[int, ...], without: int) -> list[Tensor]:
    """The position along each axis but one, at every element of ``shape``."""
    grid = []
    for axis, extent in enumerate(shape):
        if axis != without:
            numbers = manipulation.reshape(
                creation.arange(extent), tuple(extent if i == axis else 1 for i in range(len(shape)))
            )
            grid.append(manipulation.broadcast_to(numbers, shape))
    return grid


def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None) -> Tensor:
    """The sums of the slices of ``data`` (along the first axis) that have one id, for ids 0, 1, 2 …

    An id that is negative or not below ``num_segments`` is left out; ``None`` takes as many as there are (the ids are
    read for the shape).

    >>> import tracejit as tj
    >>> tj.segment_sum(tj.tensor([1.0, 2.0, 3.0]), tj.tensor([0, 2, 0]), 3)
    tensor([4., 0., 2.])
    """
    values, ids = as_tensor(data, "segment_sum"), as_tensor(segment_ids, "segment_sum").detach()
    if values.ndim == 0 or ids.shape != values.shape[:1] or not is_integer(ids.dtype):
        raise at_user_line(
            ValueError(
                f"segment_sum: needs an integer for each slice of shape {format_shape(values.shape)}, "
                f"got {ids.dtype} {format_shape(ids.shape)}"
            )
        )
    if num_segments is None:
        largest = int(reduction.max(ids)._concrete("the largest segment")) if ids.size else -1
        num_segments = max(0, largest + 1)
    inside = elementwise.logical_and(elementwise.greater_equal(ids, 0), elementwise.less(ids, num_segments))
    places = elementwise.where(
        inside, elementwise.astype(ids, "int64"), num_segments
    )  # one more takes what is left out
    zeros = creation.zeros((num_segments + 1, *values.shape[1:]), dtype=values.dtype)
    sums = apply(primitives.scatter, (zeros, values, places), {"axes": (0,), "combine": "add"})
    return sums[:num_segments]


def put_along_axis(x: Tensor, indices: Any, values: Any, axis: int) -> None:
    """Put ``values`` into the places of ``x`` that :func:`take_along_axis` takes from, in place.

    >>> import tracejit as tj
    >>> x = tj.zeros(2, 2)
    >>> tj.put_along_axis(x, tj.tensor([[1], [0]]), 5.0, axis=1)
    >>> x
    tensor([[0., 5.],
            [5., 0.]])
    """
    if not isinstance(x, Tensor):
        raise at_user_line(TypeError(f"put_along_axis: changes a Tensor, got {type(x).__name__}"))
    x[indexing.along_axis("put_along_axis", x, as_tensor(indices, "put_along_axis"), axis)] = values
