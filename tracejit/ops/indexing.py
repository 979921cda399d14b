"""Reading and replacing elements: ``x[key]``, ``take``, ``take_along_axis``.

A key is what NumPy takes: integers, slices, ``None``, ``...``, integer arrays, and boolean masks (whose
count of true elements must be known, so they are read when the function is traced).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.extents import as_extent, has_extents, slice_indices
from tracejit.ir.facts import facts
from tracejit.ir.primitives import indexing as primitives, placement, view
from tracejit.ir.types import DType, bool_, broadcast_static_shapes, format_shape, int64, is_integer

from .. import dispatch
from ..levels import everywhere
from ..locations import at_user_line
from ..promotion import as_tensor, kind, scalar_dtype
from ..state import thread
from ..tape import apply
from ..tensor import Tensor, concrete_tensor, is_plain
from ..trips import at_trip, refuse_writing
from . import creation, elementwise, manipulation, reduction
from .axes import normalize_axis
from .sorting import nonzero


@facts
class _Slice:
    """One axis of a basic key, with a positive step; ``reversed`` where the user's was negative."""

    start: int
    limit: int
    step: int
    reversed: bool = False


@facts
class _Key:
    """A key taken apart: slices of the axes first, then indices for some of the axes that remain."""

    slices: list[_Slice]
    shape: list[int]  # after slicing, with new axes and without those that an integer removed
    indices: list[tuple[int, Tensor]]  # (axis of ``shape``, index array)
    together: bool  # whether the indexed axes are neighbours, so that the result's axes stay in place


@facts
class _Places:
    """Where a mask is true along one of its axes; of a 0-d mask, along a new axis of extent 1."""

    index: Tensor
    mask_shape: tuple[int, ...]
    axis: int  # of the mask


def _is_array(item: Any) -> bool:
    return isinstance(item, Tensor | np.ndarray | list | range | bool | np.bool_)


def _uses_axis(item: Any) -> bool:
    return item is not None and item is not Ellipsis and not (isinstance(item, _Places) and not item.mask_shape)


def _parse(x: Tensor, key: Any) -> _Key:
    items = list(key) if isinstance(key, tuple) else [key]
    items = [_index_array(item) if _is_array(item) else item for item in items]
    expanded: list[Any] = []
    for item in items:  # a mask stands for as many index arrays as it has axes
        expanded += _mask_places(item) if isinstance(item, Tensor) and item.dtype == bool_ else [item]
    used = sum(map(_uses_axis, expanded))
    if sum(1 for item in expanded if item is Ellipsis) > 1:
        raise at_user_line(IndexError("an index can only have a single ellipsis ('...')"))
    if used > x.ndim:
        raise at_user_line(
            IndexError(
                f"too many indices for tensor of dimension {x.ndim}: shape {format_shape(x.shape)}, {used} indices"
            )
        )
    fill = [slice(None)] * (x.ndim - used)
    if Ellipsis in [item for item in expanded if not isinstance(item, Tensor)]:
        position = next(i for i, item in enumerate(expanded) if item is Ellipsis)
        expanded[position : position + 1] = fill
    else:
        expanded += fill
    return _resolve(x, expanded)


def _resolve(x: Tensor, items: list[Any]) -> _Key:
    slices: list[_Slice] = []
    shape: list[int] = []
    indices: list[tuple[int, Tensor]] = []
    positions: list[int] = []  # where, among the items, index arrays stand
    any_array = any(isinstance(item, Tensor | _Places) for item in items)
    for place, item in enumerate(items):
        if not _uses_axis(item):
            if item is not None:
                indices.append((len(shape), item.index))
                positions.append(place)
            shape.append(1)
            continue
        extent = x.shape[len(slices)]
        if isinstance(item, slice):
            slices.append(_whole_slice(item, extent))
            shape.append(view.slice_extent(slices[-1].start, slices[-1].limit, slices[-1].step))
        elif isinstance(item, Tensor | _Places):
            axis = len(slices)
            slices.append(_Slice(0, extent, 1))
            index = _checked_positions(item, extent, axis) if isinstance(item, Tensor) else _fitting(item, x, axis)
            indices.append((len(shape), index))
            positions.append(place)
            shape.append(extent)
        else:
            at = _integer(item, extent, len(slices))
            slices.append(_Slice(at, at + 1, 1))
            if any_array:
                positions.append(place)
                indices.append((len(shape), creation.tensor(0)))
                shape.append(1)
    together = not positions or positions == list(range(positions[0], positions[0] + len(positions)))
    return _Key(slices, shape, indices, together)


def _integer(item: Any, extent: int, axis: int) -> int:
    if not hasattr(item, "__index__"):
        raise at_user_line(
            IndexError(
                "tensor indices must be integers, slices (':'), ellipsis ('...'), None, integer tensors or boolean "
                f"masks, got {type(item).__name__}"
            )
        )
    position = as_extent(item)
    if not -extent <= position < extent:
        raise at_user_line(IndexError(f"index {position} is out of bounds for axis {axis} with size {extent}"))
    return position if position >= 0 else position + extent


def _whole_slice(item: slice, extent: int) -> _Slice:
    if has_extents((extent, item.start, item.stop)):
        start, stop, step = slice_indices(item, extent)
    else:
        start, stop, step = item.indices(extent)
    count = view.slice_extent(start, stop, step) if step > 0 else view.slice_extent(stop, start, -step)
    if step == 1:
        return _Slice(start, start + count, step)
    if step > 0:
        return _Slice(start, start + (count - 1) * step + 1 if count else start, step)
    first = start + (count - 1) * step if count else 0
    return _Slice(first, start + 1 if count else 0, -step, reversed=True)


def _index_array(item: Any) -> Tensor:
    if isinstance(item, list | range):
        item = np.asarray(item, dtype=None if item else np.int64)
    tensor = as_tensor(item, "index")
    if tensor.dtype != bool_ and not is_integer(tensor.dtype):
        raise at_user_line(
            IndexError(f"tensors used as indices must be integer or boolean tensors, got {tensor.dtype}")
        )
    return tensor


def _mask_places(mask: Tensor) -> list[_Places]:
    found = nonzero(mask if mask.ndim else manipulation.reshape(mask, (1,)))
    return [_Places(index, mask.shape, axis) for axis, index in enumerate(found)]


def _fitting(places: _Places, x: Tensor, axis: int) -> Tensor:
    """The index array, if the mask is as long as the axis."""
    if places.mask_shape[places.axis] != x.shape[axis]:
        first = axis - places.axis
        raise at_user_line(
            IndexError(
                f"the shape of the mask {format_shape(places.mask_shape)} at axis {first} does not match the shape "
                f"of the indexed tensor, {format_shape(x.shape)}"
            )
        )
    return places.index


def _checked_positions(index: Tensor, extent: int, axis: int) -> Tensor:
    """Non-negative int64 positions; ``IndexError`` for one that is out of range, now or when the program has run."""
    wide = elementwise.astype(index.detach(), int64)
    inside = elementwise.logical_and(elementwise.greater_equal(wide, -extent), elementwise.less(wide, extent))
    check(reduction.all(inside), IndexError, "an index is out of bounds for axis {} with size {}", axis, extent)
    return elementwise.where(elementwise.less(wide, 0), elementwise.add(wide, extent), wide)


def check(predicate: Tensor, error: type[Exception], message: str | Callable[[], str], *extents: int) -> None:
    """Raise ``error`` unless the predicate is true: at once, or after the compiled program has run.

    ``extents`` take the places of ``{}`` in the message, if there are any.
    """
    predicate = everywhere(predicate)
    if thread.trace is not None:
        text = message if isinstance(message, str) else message()
        thread.trace.check(dispatch.payload(predicate), error, text, extents)
    elif not bool(predicate._concrete("a check")):
        text = message if isinstance(message, str) else message()
        raise at_user_line(error(text.format(*extents) if extents else text))


def _sliced(x: Tensor, key: _Key) -> Tensor:
    attributes: dict[str, Any] = {
        "start": tuple(s.start for s in key.slices),
        "limit": tuple(s.limit for s in key.slices),
        "strides": tuple(s.step for s in key.slices),
    }
    whole = all(s.start == 0 and s.step == 1 and s.limit == n for s, n in zip(key.slices, x.shape, strict=True))
    result = x if whole else apply(view.slice_, (x,), attributes)
    backwards = tuple(axis for axis, s in enumerate(key.slices) if s.reversed)
    return apply(view.reverse, (result,), {"dimensions": backwards}) if backwards else result


def get_item(x: Tensor, key: Any) -> Tensor:
    """``x[key]``, as a value of its own."""
    if is_plain(x):
        ready = key if _is_basic(key) else _of_arrays(key)
        try:
            if ready is not None or key is None:
                return concrete_tensor(np.asarray(x._value[ready]))
        except (IndexError, TypeError, ValueError):
            pass  # to be told in this library's words
    if type(key) is int and x.ndim:
        return _row(x, key)
    found = at_trip(x, key)
    if found is not None:
        row, rest = found
        return get_item(row, rest) if rest else row
    parsed = _parse(x, key)
    result = manipulation.reshape(_sliced(x, parsed), parsed.shape)
    if not parsed.indices:
        return result
    axes = tuple(axis for axis, _ in parsed.indices)
    index = _broadcast([index for _, index in parsed.indices])
    gathered = apply(primitives.gather, (result, *index), {"axes": axes})
    if parsed.together and axes[0]:
        gathered = manipulation.permute_dims(gathered, _to_place(index[0].ndim, axes[0], gathered.ndim))
    return gathered


def _row(x: Tensor, key: int) -> Tensor:
    """``x[key]`` of an integer: what the general way gives, quickly."""
    extent, *rest = x.shape
    at = _integer(key, extent, 0)
    if extent > 1:
        ones = (1,) * len(rest)
        bounds = {"start": (at, *[0] * len(rest)), "limit": (at + 1, *rest), "strides": (1, *ones)}
        x = apply(view.slice_, (x,), bounds)
    return apply(view.reshape, (x,), {"shape": tuple(rest)})


def _is_basic(key: Any) -> bool:
    """Whether a key is made of ints, slices, ``None`` and ``...`` alone: NumPy gives a view for it."""
    kind = type(key)
    if kind is tuple:
        return _BASIC.issuperset(map(type, key))
    return kind in _BASIC


_BASIC = frozenset((int, slice, type(None), type(Ellipsis)))  # no extent that stands for others: a trace has those


def _of_arrays(key: Any) -> tuple[Any, ...] | None:
    """A key of plain tensors and arrays, as NumPy takes it; ``None`` where there is more to do."""
    items = []
    for item in key if type(key) is tuple else (key,):
        array = item._value if is_plain(item) else item
        if type(array) is np.ndarray and array.dtype.kind in "biu":
            items.append(array)
        elif type(item) in _BASIC or (type(item) is list and item and all(type(at) is int for at in item)):
            items.append(item)
        else:
            return None
    return tuple(items)


def _to_place(count: int, first: int, ndim: int) -> list[int]:
    """The order that moves the index axes from the front to where the indexed axes were."""
    window = list(range(count, ndim))
    return [*window[:first], *range(count), *window[first:]]


def _broadcast(indices: list[Tensor]) -> list[Tensor]:
    try:
        shape = broadcast_static_shapes(*(index.shape for index in indices))
    except ValueError:
        shapes = " ".join(format_shape(index.shape) for index in indices)
        raise at_user_line(
            IndexError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}")
        ) from None
    return [manipulation.broadcast_to(index, shape) for index in indices]


def with_item(x: Tensor, key: Any, value: Any) -> Tensor:
    """A copy of ``x`` in which ``x[key]`` is ``value``, broadcast and converted to ``x``'s dtype."""
    if isinstance(key, Tensor) and key.dtype == bool_ and key.shape == x.shape and _is_scalar(value):
        replacement = _as_dtype(value, x.dtype, x.device)
        return elementwise.where(key, replacement, x)
    refuse_writing(key)
    parsed = _parse(x, key)
    update = _as_dtype(value, x.dtype, x.device)
    attributes = {
        "start": tuple(s.start for s in parsed.slices),
        "strides": tuple(s.step for s in parsed.slices),
    }
    backwards = tuple(axis for axis, s in enumerate(parsed.slices) if s.reversed)
    region = tuple(view.slice_extent(s.start, s.limit, s.step) for s in parsed.slices)
    if parsed.indices:
        inside = manipulation.reshape(_sliced(x, parsed), parsed.shape)
        axes = tuple(axis for axis, _ in parsed.indices)
        index = _broadcast([index for _, index in parsed.indices])
        window = tuple(n for axis, n in enumerate(parsed.shape) if axis not in axes)
        count, first = index[0].ndim, axes[0] if parsed.together else 0
        shape = (*window[:first], *index[0].shape, *window[first:])
        update = _fitted(update, shape)
        front = [*range(first, first + count), *range(first), *range(first + count, len(shape))]
        update = manipulation.permute_dims(update, front)
        update = apply(primitives.scatter, (inside, update, *index), {"axes": axes, "combine": "set"})
    else:
        update = _fitted(update, tuple(parsed.shape))
    update = manipulation.reshape(update, region)
    if backwards:
        update = apply(view.reverse, (update,), {"dimensions": backwards})
    return apply(placement.update_slice, (x, update), attributes)


def _as_dtype(value: Any, dtype: DType, device: str) -> Tensor:
    """A value to be stored; a Python number is rounded once, to ``dtype``."""
    if isinstance(value, list | tuple):
        return creation.tensor(value, dtype=dtype)
    if isinstance(value, int | float | complex) and kind(dtype) >= kind(scalar_dtype(value)):
        return creation.tensor(value, dtype=dtype)
    return elementwise.astype(as_tensor(value, "setitem"), dtype, device=device)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, Tensor) and value.ndim == 0)


def _fitted(update: Tensor, shape: tuple[int, ...]) -> Tensor:
    while update.ndim > len(shape) and update.shape[0] == 1:
        update = manipulation.squeeze(update, 0)
    return manipulation.broadcast_to(update, shape)


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements at ``indices`` along ``axis``; of the flattened tensor for ``None``."""
    tensor = as_tensor(x, "take")
    if axis is None:
        tensor, axis = manipulation.reshape(tensor, (tensor.size,)), 0
    along = normalize_axis("take", axis, tensor.ndim)
    index = indices if isinstance(indices, list | range) else as_tensor(indices, "take")
    return get_item(tensor, (*[slice(None)] * along, index))


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """For each position of ``indices`` the element of ``x`` with that index along ``axis``; other axes broadcast.

    With ``axis=None``, ``indices`` is a vector of positions in the flattened ``x``.

    >>> import tracejit as tj
    >>> tj.take_along_axis(tj.tensor([[1.0, 2.0], [3.0, 4.0]]), tj.tensor([[1], [0]]), axis=1)
    tensor([[2.],
            [3.]])
    """
    tensor = as_tensor(x, "take_along_axis")
    if axis is None:
        tensor, axis = manipulation.reshape(tensor, (tensor.size,)), 0
    return get_item(tensor, along_axis("take_along_axis", tensor, as_tensor(indices, "take_along_axis"), axis))


def along_axis(name: str, tensor: Tensor, index: Tensor, axis: int) -> tuple[Any, ...]:
    """The key of the elements that have the indices along ``axis``, and their own positions along the other axes."""
    if index.ndim != tensor.ndim:
        raise at_user_line(
            ValueError(
                f"{name}: `indices` and `x` must have the same number of dimensions, "
                f"got {format_shape(index.shape)} and {format_shape(tensor.shape)}"
            )
        )
    along = normalize_axis(name, axis, tensor.ndim)
    key: list[Any] = []
    for dimension in range(tensor.ndim):
        if dimension == along:
            key.append(index)
        elif tensor.shape[dimension] == 1:
            key.append(manipulation.reshape(creation.tensor([0]), (1,) * tensor.ndim))
        else:
            shape = tuple(-1 if i == dimension else 1 for i in range(tensor.ndim))
            key.append(manipulation.reshape(creation.arange(tensor.shape[dimension]), shape))
    return tuple(key)
