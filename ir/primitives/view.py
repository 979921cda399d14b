"""Views: each element of the result is one element of the operand, found by an index map.

A view costs nothing inside a fused kernel; the eager path gives NumPy views.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import renamed
from ..primitive import Application, Emitter, View, linear, per_operand
from ..types import Dim, Shape, TensorType, format_shape

# broadcast_in_dim -----------------------------------------------------------------------------------


def _broadcast_type(x: TensorType, shape: Shape, dimensions: tuple[int, ...]) -> TensorType:
    if len(dimensions) != x.ndim or list(dimensions) != sorted(set(dimensions)):
        raise ValueError(f"broadcast_in_dim: {x!r} needs one increasing dimension an axis, got {dimensions}")
    for axis, dimension in enumerate(dimensions):
        if x.shape[axis] not in (shape[dimension], 1):
            raise ValueError(f"broadcast: {x!r} cannot be broadcast to shape {format_shape(shape)}")
    return TensorType(x.dtype, tuple(shape))


def _broadcast_numpy(x: np.ndarray, shape: Shape, dimensions: tuple[int, ...]) -> np.ndarray:
    full = [1] * len(shape)
    for axis, dimension in enumerate(dimensions):
        full[dimension] = x.shape[axis]
    return np.broadcast_to(x.reshape(full), TensorType(x.dtype, shape).static_shape)


def _broadcast_index(index: tuple[Any, ...], x: TensorType, shape: Shape, dimensions: tuple[int, ...]) -> Any:
    return tuple(0 if x.shape[axis] == 1 else index[dimension] for axis, dimension in enumerate(dimensions))


def _broadcast_vjp(e: Emitter, g: Any, op: Application) -> Any:
    shape, dimensions = op.operand_types[0].shape, op.attributes["dimensions"]
    stretched = tuple(
        axis
        for axis, extent in enumerate(op.result_type.shape)
        if axis not in dimensions or (shape[dimensions.index(axis)] == 1 and extent != 1)
    )
    return e.reshape_to(e.reduce_sum(g, axes=stretched) if stretched else g, shape)


broadcast_in_dim = View(
    name="broadcast_in_dim",
    type_rule=_broadcast_type,
    numpy=_broadcast_numpy,
    index_map=_broadcast_index,
    vjp=per_operand(_broadcast_vjp),
    jvp=linear,
    batch=renamed(
        lambda size, shape, dimensions: {"shape": (size, *shape), "dimensions": (0, *(axis + 1 for axis in dimensions))}
    ),
)

# reshape --------------------------------------------------------------------------------------------


def _reshape_type(x: TensorType, shape: Shape) -> TensorType:
    old, new = TensorType(x.dtype, x.shape), TensorType(x.dtype, tuple(shape))
    if old.is_static and new.is_static and old.size != new.size:
        raise ValueError(f"reshape: cannot reshape {x!r} of {old.size} elements into shape {format_shape(shape)}")
    return new


def _reshape_index(index: tuple[Any, ...], x: TensorType, shape: Shape) -> tuple[Any, ...] | None:
    """Affine only where dimensions of extent 1 come or go."""
    old = [extent for extent in x.shape if extent != 1]
    new = [(extent, entry) for extent, entry in zip(shape, index, strict=True) if extent != 1]
    if old != [extent for extent, _ in new]:
        return None
    entries = iter(entry for _, entry in new)
    return tuple(0 if extent == 1 else next(entries) for extent in x.shape)


reshape = View(
    name="reshape",
    type_rule=_reshape_type,
    numpy=lambda x, shape: x.reshape(shape),
    index_map=_reshape_index,
    vjp=per_operand(lambda e, g, op: e.reshape_to(g, op.operand_types[0].shape)),
    vjp_moves=True,
    jvp=linear,
    batch=renamed(lambda size, shape: {"shape": (size, *shape)}),
)

# transpose ------------------------------------------------------------------------------------------


def _transpose_type(x: TensorType, permutation: tuple[int, ...]) -> TensorType:
    if sorted(permutation) != list(range(x.ndim)):
        raise ValueError(f"transpose: axes {permutation} are no permutation of the axes of {x!r}")
    return TensorType(x.dtype, tuple(x.shape[axis] for axis in permutation))


def inverse_permutation(permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


transpose = View(
    name="transpose",
    type_rule=_transpose_type,
    numpy=lambda x, permutation: x.transpose(permutation),
    index_map=lambda index, x, permutation: tuple(index[axis] for axis in inverse_permutation(permutation)),
    vjp=per_operand(
        lambda e, g, op: e.transpose(g, permutation=inverse_permutation(op.attributes["permutation"])),
    ),
    vjp_moves=True,
    jvp=linear,
    batch=renamed(lambda size, permutation: {"permutation": (0, *(axis + 1 for axis in permutation))}),
)

# optimization_barrier -------------------------------------------------------------------------------

# The operand, but no pass knows: what is computed from it is not what is computed from the operand.  Each has a number.
optimization_barrier = View(
    name="optimization_barrier",
    type_rule=lambda x, number: x,
    numpy=lambda x, number: x,
    index_map=lambda index, x, number: index,
    vjp=per_operand(lambda e, g, op: g),
    vjp_moves=True,
    jvp=linear,
    batch=renamed(lambda size, number: {"number": number}),
)

# named ----------------------------------------------------------------------------------------------

# The operand, with a name by which a checkpoint's policy knows it.
named = View(
    name="named",
    type_rule=lambda x, label: x,
    numpy=lambda x, label: x,
    index_map=lambda index, x, label: index,
    vjp=per_operand(lambda e, g, op: g),
    vjp_moves=True,
    jvp=linear,
    batch=renamed(lambda size, label: {"label": label}),
)

# stop_gradient --------------------------------------------------------------------------------------

# The operand, as far as its value goes; it has no derivative.
stop_gradient = View(
    name="stop_gradient",
    type_rule=lambda x: x,
    numpy=lambda x: x,
    index_map=lambda index, x: index,
    batch=renamed(lambda size: {}),
)

# device_put -----------------------------------------------------------------------------------------

# The operand on another device.  A program runs on one device: inside of it there is nothing to do.
device_put = View(
    name="device_put",
    type_rule=lambda x, source, target: x,
    numpy=lambda x, source, target: x,
    index_map=lambda index, x, source, target: index,
    vjp=per_operand(
        lambda e, g, op: e.device_put(g, source=op.attributes["target"], target=op.attributes["source"]),
    ),
    vjp_moves=True,
    jvp=linear,
    batch=renamed(lambda size, source, target: {"source": source, "target": target}),
)

# slice ----------------------------------------------------------------------------------------------


def slice_extent(start: int, limit: int, stride: int) -> int:
    """How many of ``range(start, limit, stride)`` there are."""
    count = (limit - start + stride - 1) // stride
    return count if count >= 0 else 0


def _slice_type(x: TensorType, start: tuple[int, ...], limit: tuple[int, ...], strides: tuple[int, ...]) -> TensorType:
    shape: list[Dim] = []
    for extent, first, last, stride in zip(x.shape, start, limit, strides, strict=True):
        if stride < 1 or first < 0 or not isinstance(extent, int) or last > extent:
            raise ValueError(f"slice: [{first}:{last}:{stride}] is out of range for {x!r}")
        shape.append(slice_extent(first, last, stride))
    return TensorType(x.dtype, tuple(shape))


def _slice_vjp(e: Emitter, g: Any, op: Application) -> Any:
    start, strides = op.attributes["start"], op.attributes["strides"]
    low, high, interior = [], [], []
    for extent, first, stride, kept in zip(
        op.operand_types[0].static_shape, start, strides, op.result_type.static_shape, strict=True
    ):
        if stride == 1:
            low.append(first)
            high.append(extent - first - kept)
        else:
            low.append(first if kept else extent)
            high.append(extent - first - (kept - 1) * stride - 1 if kept else 0)
        interior.append(stride - 1)
    return e.pad(g, e.scalar(0, g.dtype), low=tuple(low), high=tuple(high), interior=tuple(interior))


slice_ = View(
    name="slice",
    type_rule=_slice_type,
    numpy=lambda x, start, limit, strides: x[tuple(map(slice, start, limit, strides))],
    index_map=lambda index, x, start, limit, strides: tuple(
        entry * stride + first for entry, first, stride in zip(index, start, strides, strict=True)
    ),
    vjp=per_operand(_slice_vjp),
    vjp_moves=True,
    jvp=linear,
    batch=renamed(
        lambda size, start, limit, strides: {"start": (0, *start), "limit": (size, *limit), "strides": (1, *strides)}
    ),
)


def _reverse_index(index: tuple[Any, ...], x: TensorType, dimensions: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(
        entry * -1 + (extent - 1) if axis in dimensions else entry
        for axis, (entry, extent) in enumerate(zip(index, x.static_shape, strict=True))
    )


reverse = View(
    name="reverse",
    type_rule=lambda x, dimensions: x,
    numpy=lambda x, dimensions: np.flip(x, dimensions),
    index_map=_reverse_index,
    vjp=per_operand(lambda e, g, op: e.reverse(g, dimensions=op.attributes["dimensions"])),
    vjp_moves=True,
    jvp=linear,
    batch=renamed(lambda size, dimensions: {"dimensions": tuple(axis + 1 for axis in dimensions)}),
)
