"""Tensors put together, taken apart and moved around: repeat, roll, split and the like."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.primitives import library
from tracejit.ir.types import broadcast_static_shapes, format_shape, int64

from .. import dispatch
from ..locations import at_user_line
from ..promotion import as_tensor
from ..tape import apply, same_value
from ..tensor import Tensor, new_tensor
from . import elementwise, reduction
from .axes import normalize_axis
from .manipulation import broadcast_to, concat, flip, permute_dims, reshape, transpose


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that all of ``shapes`` broadcast to.

    >>> import tracejit as tj
    >>> tj.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    try:
        return broadcast_static_shapes(*(tuple(shape) for shape in shapes)) if shapes else ()
    except ValueError as error:
        raise at_user_line(error) from None


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """The tensors stretched to the shape that they broadcast to."""
    tensors = [as_tensor(item, "broadcast_arrays") for item in arrays]
    shape = broadcast_shapes(*(tensor.shape for tensor in tensors))
    return tuple(broadcast_to(tensor, shape) for tensor in tensors)


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to other positions; the others keep their order."""
    tensor = as_tensor(x, "moveaxis")
    sources, places = (
        [
            normalize_axis("moveaxis", axis, tensor.ndim)
            for axis in (side if isinstance(side, tuple | list) else (side,))
        ]
        for side in (source, destination)
    )
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise at_user_line(ValueError(f"moveaxis: {source} and {destination} must be as many distinct axes"))
    order = [axis for axis in range(tensor.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return permute_dims(tensor, order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    return transpose(x, axis1, axis2)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element ``repeats`` times in a row along ``axis``; of the flattened tensor for ``None``.

    >>> import tracejit as tj
    >>> tj.repeat(tj.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    tensor = as_tensor(x, "repeat")
    if axis is None:
        tensor, axis = reshape(tensor, (tensor.size,)), 0
    along = normalize_axis("repeat", axis, tensor.ndim)
    if isinstance(repeats, int):
        if repeats < 0:
            raise at_user_line(ValueError(f"repeat: repeats must not be negative, got {repeats}"))
        before, extent, after = tensor.shape[:along], tensor.shape[along], tensor.shape[along + 1 :]
        stretched = broadcast_to(reshape(tensor, (*before, extent, 1, *after)), (*before, extent, repeats, *after))
        return reshape(stretched, (*before, extent * repeats, *after))
    from .creation import asarray
    from .indexing import check, take

    counts = broadcast_to(elementwise.astype(asarray(repeats), int64), (tensor.shape[along],))
    check(reduction.all(elementwise.greater_equal(counts, 0)), ValueError, "repeat: repeats must not be negative")
    size = reduction.sum(counts)._extent("the sum of the repeats")
    return take(tensor, apply(library.repeated_positions, (counts,), {"size": size}), axis=along)


def tile(x: Any, repetitions: int | Sequence[int]) -> Tensor:
    """The whole tensor repeated along each axis; missing axes are added in front.

    >>> import tracejit as tj
    >>> tj.tile(tj.tensor([1, 2]), (2,))
    tensor([1, 2, 1, 2])
    """
    tensor = as_tensor(x, "tile")
    counts = [repetitions] if isinstance(repetitions, int) else list(repetitions)
    ndim = max(tensor.ndim, len(counts))
    counts = [1] * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - tensor.ndim) + tensor.shape
    apart = [extent for extent in shape for extent in (1, extent)]
    stretched = [item for count, extent in zip(counts, shape, strict=True) for item in (count, extent)]
    return reshape(
        broadcast_to(reshape(tensor, apart), stretched),
        [count * extent for count, extent in zip(counts, shape, strict=True)],
    )


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved by ``shift`` places along ``axis``, those that leave coming in again at the other end.

    >>> import tracejit as tj
    >>> tj.roll(tj.tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    tensor = as_tensor(x, "roll")
    if axis is None:
        total = shift if isinstance(shift, int) else math.fsum(shift)
        flat = roll(reshape(tensor, (tensor.size,)), int(total), 0)
        return reshape(flat, tensor.shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    shifts = [shift] * len(axes) if isinstance(shift, int) else list(shift)
    if len(shifts) != len(axes):
        raise at_user_line(ValueError(f"roll: needs one shift an axis, got {shift} for {axis}"))
    for item, count in zip(axes, shifts, strict=True):
        along = normalize_axis("roll", item, tensor.ndim)
        extent = tensor.shape[along]
        places = count % extent if extent else 0
        if places:
            lead = (slice(None),) * along
            cut = extent - places
            tensor = concat([tensor[(*lead, slice(cut, None))], tensor[(*lead, slice(cut))]], along)
    return elementwise.positive(tensor) if tensor is x else tensor


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along ``axis``, without that axis."""
    tensor = as_tensor(x, "unstack")
    along = normalize_axis("unstack", axis, tensor.ndim)
    return tuple(tensor[(*[slice(None)] * along, i)] for i in range(tensor.shape[along]))


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Equal parts along ``axis`` (a number of them), or parts cut at the given positions.

    >>> import tracejit as tj
    >>> tj.split(tj.arange(4), 2)
    [tensor([0, 1]), tensor([2, 3])]
    """
    tensor = as_tensor(x, "split")
    along = normalize_axis("split", axis, tensor.ndim)
    extent = tensor.shape[along]
    if isinstance(sections, int):
        if sections < 1 or extent % sections:
            raise at_user_line(
                ValueError(f"split: axis {axis} of shape {format_shape(tensor.shape)} is not divided by {sections}")
            )
        sections = [extent // sections * i for i in range(1, sections)]
    bounds = [0, *sections, extent]
    lead = (slice(None),) * along
    return [tensor[(*lead, slice(first, last))] for first, last in itertools.pairwise(bounds)]


def array_split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """:func:`split`, but a number of parts need not divide the extent: the first ones are longer by one.

    >>> import tracejit as tj
    >>> tj.array_split(tj.arange(3), 2)
    [tensor([0, 1]), tensor([2])]
    """
    tensor = as_tensor(x, "array_split")
    if isinstance(sections, int):
        if sections < 1:
            raise at_user_line(ValueError(f"array_split: number sections must be larger than 0, got {sections}"))
        extent = tensor.shape[normalize_axis("array_split", axis, tensor.ndim)]
        each, longer = divmod(extent, sections)
        lengths = [each + 1] * longer + [each] * (sections - longer)
        sections = list(itertools.accumulate(lengths))[:-1]
    return split(tensor, sections, axis)


def fliplr(x: Any) -> Tensor:
    """The order along the second axis reversed."""
    return flip(x, normalize_axis("fliplr", 1, as_tensor(x, "fliplr").ndim))


def flipud(x: Any) -> Tensor:
    """The order along the first axis reversed."""
    return flip(x, normalize_axis("flipud", 0, as_tensor(x, "flipud").ndim))


def rot90(x: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """The plane of two axes turned ``k`` times by a right angle, from the first axis towards the second.

    >>> import tracejit as tj
    >>> tj.rot90(tj.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    tensor = as_tensor(x, "rot90")
    first, second = (normalize_axis("rot90", axis, tensor.ndim) for axis in axes)
    if first == second:
        raise at_user_line(ValueError(f"rot90: axes must be two different ones, got {tuple(axes)}"))
    if k % 4 == 0:
        return same_value(tensor)
    if k % 4 == 2:
        return flip(tensor, (first, second))
    return (
        swapaxes(flip(tensor, second), first, second) if k % 4 == 1 else flip(swapaxes(tensor, first, second), second)
    )


def ravel(x: Any) -> Tensor:
    """All elements along one axis."""
    return reshape(x, (-1,))


def diagonal(x: Any, offset: int = 0) -> Tensor:
    """The diagonals of the matrices on the last two axes.

    >>> import tracejit as tj
    >>> tj.diagonal(tj.tensor([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    tensor = as_tensor(x, "diagonal")
    if tensor.ndim < 2:
        raise at_user_line(ValueError(f"diagonal: needs two axes, got shape {format_shape(tensor.shape)}"))
    rows, columns = tensor.shape[-2:]
    row, column = max(0, -offset), max(0, offset)
    count = max(0, min(rows - row, columns - column))
    places = np.arange(count)
    flat = reshape(tensor, (*tensor.shape[:-2], rows * columns))
    index = new_tensor(dispatch.constant_payload((places + row) * columns + places + column))
    from .indexing import take

    return take(flat, index, axis=-1)


def trace(x: Any, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sums of the diagonals of the matrices on the last two axes."""
    from .reduction import sum

    return sum(diagonal(x, offset), -1, dtype=dtype)
