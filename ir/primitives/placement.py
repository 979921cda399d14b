"""Placements: operands copied into regions of the result."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import BatchedApplication, renamed
from ..primitive import Application, Emitter, Placement, linear, same_dtype
from ..types import Dim, TensorType, bool_

# concatenate ----------------------------------------------------------------------------------------


def _concatenate_type(*types: TensorType, dimension: int) -> TensorType:
    dtype = same_dtype("concatenate", *types)
    first = types[0].shape
    total = 0
    for type in types:
        rest = type.shape[:dimension] + type.shape[dimension + 1 :]
        if type.ndim != len(first) or rest != first[:dimension] + first[dimension + 1 :]:
            raise ValueError(
                f"concatenate: all dimensions but {dimension} must be equal, got {', '.join(map(repr, types))}"
            )
        total += type.static_shape[dimension]
    return TensorType(dtype, (*first[:dimension], total, *first[dimension + 1 :]))


def _concatenate_regions(
    types: tuple[TensorType, ...], dimension: int
) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    regions, position = [], 0
    ndim = types[0].ndim
    for number, type in enumerate(types):
        start = tuple(position if axis == dimension else 0 for axis in range(ndim))
        regions.append((number, start, (1,) * ndim))
        position += type.static_shape[dimension]
    return regions


def _concatenate_vjp(e: Emitter, index: int, g: Any, op: Application) -> Any:
    dimension = op.attributes["dimension"]
    position = sum(type.static_shape[dimension] for type in op.operand_types[:index])
    shape = op.operand_types[index].static_shape
    start = tuple(position if axis == dimension else 0 for axis in range(len(shape)))
    limit = tuple(first + extent for first, extent in zip(start, shape, strict=True))
    return e.slice(g, start=start, limit=limit, strides=(1,) * len(shape))


concatenate = Placement(
    name="concatenate",
    type_rule=_concatenate_type,
    numpy=lambda *arrays, dimension: np.concatenate(arrays, dimension),
    regions=_concatenate_regions,
    vjp=_concatenate_vjp,
    vjp_moves=True,
    jvp=linear,
    batch=renamed(lambda size, dimension: {"dimension": dimension + 1}),
)

# pad ------------------------------------------------------------------------------------------------


def _pad_type(
    x: TensorType, value: TensorType, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...]
) -> TensorType:
    dtype = same_dtype("pad", x, value)
    shape: list[Dim] = []
    for extent, before, after, between in zip(x.static_shape, low, high, interior, strict=True):
        if before < 0 or after < 0 or between < 0:
            raise ValueError(f"pad: padding must not be negative, got low={low} high={high} interior={interior}")
        shape.append(before + after + extent + (max(0, extent - 1) * between if between else 0))
    return TensorType(dtype, tuple(shape))


def _pad_slices(shape: tuple[int, ...], low: tuple[int, ...], interior: tuple[int, ...]) -> dict[str, Any]:
    """The slice of the padded array that holds the operand."""
    strides = tuple(between + 1 for between in interior)
    limit = tuple(
        before + (extent - 1) * stride + 1 if extent else before
        for before, extent, stride in zip(low, shape, strides, strict=True)
    )
    return {"start": low, "limit": limit, "strides": strides}


def _pad_numpy(
    x: np.ndarray, value: np.ndarray, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...]
) -> np.ndarray:
    type = TensorType(x.dtype, x.shape)
    result = np.full(_pad_type(type, TensorType(value.dtype, ()), low, high, interior).static_shape, value)
    where = _pad_slices(x.shape, low, interior)
    result[tuple(map(slice, where["start"], where["limit"], where["strides"]))] = x
    return result


def _pad_vjp(e: Emitter, index: int, g: Any, op: Application) -> Any:
    attributes = op.attributes
    where = _pad_slices(op.operand_types[0].static_shape, attributes["low"], attributes["interior"])
    inside = e.slice(g, **where)
    if index == 0:
        return inside
    axes = tuple(range(len(g.shape)))
    return e.subtract(e.reduce_sum(g, axes=axes), e.reduce_sum(inside, axes=axes))


def _pad_batch(e: Emitter, op: BatchedApplication) -> Any:
    x, value = op.stretched(e, 0), op.operands[1]
    attributes = {name: (0, *widths) for name, widths in op.attributes.items()}
    if not op.is_batched[1]:
        return e.pad(x, value, **attributes)
    is_padding = e.pad(e.full(0, TensorType(bool_, tuple(x.shape))), e.scalar(1, bool_), **attributes)
    padded = e.pad(x, e.scalar(0, x.dtype), **attributes)
    return e.select(is_padding, e.reshape(value, shape=(op.size, *(1,) * (len(x.shape) - 1))), padded)


pad = Placement(
    name="pad",
    type_rule=_pad_type,
    numpy=_pad_numpy,
    regions=lambda types, low, high, interior: [(0, low, tuple(between + 1 for between in interior))],
    fill=1,
    vjp=_pad_vjp,
    jvp=linear,
    batch=_pad_batch,
)

# update_slice ---------------------------------------------------------------------------------------


def _update_type(x: TensorType, update: TensorType, start: tuple[int, ...], strides: tuple[int, ...]) -> TensorType:
    same_dtype("update_slice", x, update)
    for extent, count, first, stride in zip(x.static_shape, update.static_shape, start, strides, strict=True):
        if first < 0 or (first + count > extent if stride == 1 else count and first + (count - 1) * stride >= extent):
            raise ValueError(f"update_slice: {update!r} does not fit into {x!r} at {start} with strides {strides}")
    return x


def _region(shape: tuple[int, ...], start: tuple[int, ...], strides: tuple[int, ...]) -> dict[str, Any]:
    limit = tuple(
        first + (count - 1) * stride + 1 if count else first
        for first, count, stride in zip(start, shape, strides, strict=True)
    )
    return {"start": start, "limit": limit, "strides": strides}


def _update_numpy(x: np.ndarray, update: np.ndarray, start: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    result = x.copy()
    where = _region(update.shape, start, strides)
    result[tuple(map(slice, where["start"], where["limit"], where["strides"]))] = update
    return result


def _update_vjp(e: Emitter, index: int, g: Any, op: Application) -> Any:
    start, strides = op.attributes["start"], op.attributes["strides"]
    if index == 0:
        return e.update_slice(g, e.full(0, op.operand_types[1]), start=start, strides=strides)
    return e.slice(g, **_region(op.operand_types[1].static_shape, start, strides))


update_slice = Placement(
    name="update_slice",
    type_rule=_update_type,
    numpy=_update_numpy,
    regions=lambda types, start, strides: [(0, (0,) * len(start), (1,) * len(start)), (1, start, strides)],
    vjp=_update_vjp,
    jvp=linear,
    batch=renamed(lambda size, start, strides: {"start": (0, *start), "strides": (1, *strides)}),
)
