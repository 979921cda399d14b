"""Gather and scatter: elements addressed by arrays of indices.

``indices`` are integer arrays of one shape, one for each of ``axes``; entry ``j`` of the index shape
addresses the slice ``operand[..., indices[0][j], ..., indices[1][j], ...]``.  The index shape comes
first in the gathered result, the axes that are not indexed follow.  Indices are not negative; one that
is out of range is clamped (callers check first, where the user is to see an ``IndexError``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import BatchedApplication
from ..primitive import Application, Emitter, Indexing, linear
from ..types import Shape, TensorType, int64, is_integer


def _window(operand: TensorType, axes: tuple[int, ...]) -> Shape:
    return tuple(extent for axis, extent in enumerate(operand.shape) if axis not in axes)


def _check_indices(name: str, operand: TensorType, indices: tuple[TensorType, ...], axes: tuple[int, ...]) -> None:
    if len(indices) != len(axes) or not indices:
        raise ValueError(f"{name}: needs one index array an axis, got {len(indices)} for axes {axes}")
    for index in indices:
        if not is_integer(index.dtype):
            raise TypeError(f"{name}: indices must be integers, got {index!r}")
        if index.shape != indices[0].shape:
            raise ValueError(f"{name}: index arrays must have one shape, got {', '.join(map(repr, indices))}")


def _gather_type(operand: TensorType, *indices: TensorType, axes: tuple[int, ...]) -> TensorType:
    _check_indices("gather", operand, indices, axes)
    return TensorType(operand.dtype, indices[0].shape + _window(operand, axes))


def _address(operand: np.ndarray, indices: tuple[np.ndarray, ...], axes: tuple[int, ...]) -> tuple[np.ndarray, Any]:
    """The operand with the indexed axes in front, and the clamped indices."""
    rest = [axis for axis in range(operand.ndim) if axis not in axes]
    clamped = tuple(
        np.clip(index, 0, min(operand.shape[axis] - 1, np.iinfo(index.dtype).max))
        for index, axis in zip(indices, axes, strict=True)
    )
    return operand.transpose([*axes, *rest]), clamped


def _gather_numpy(operand: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    moved, address = _address(operand, indices, axes)
    return moved[address]


def _gather_vjp(e: Emitter, index: int, g: Any, op: Application) -> Any:
    zeros = e.full(0, op.operand_types[0])
    return e.scatter(zeros, g, *op.operands[1:], axes=op.attributes["axes"], combine="add")


def _batched_indices(e: Emitter, op: BatchedApplication, first: int) -> tuple[list[Any], tuple[int, ...]]:
    """Index arrays, from operand ``first`` on, of which each addresses its own element of the batch; and their axes."""
    indices = [op.stretched(e, i) for i in range(first, len(op.operands))]
    numbers = e.iota(size=op.size, dtype=int64)
    rows = e.broadcast_in_dim(numbers, shape=tuple(indices[0].shape), dimensions=(0,))
    return [rows, *indices], (0, *(axis + 1 for axis in op.attributes["axes"]))


def _gather_batch(e: Emitter, op: BatchedApplication) -> Any:
    axes = op.attributes["axes"]
    if not op.is_batched[0]:
        return e.gather(op.operands[0], *(op.stretched(e, i) for i in range(1, len(op.operands))), axes=axes)
    if any(op.is_batched[1:]):
        indices, axes = _batched_indices(e, op, 1)
        return e.gather(op.operands[0], *indices, axes=axes)
    gathered = e.gather(*op.operands, axes=tuple(axis + 1 for axis in axes))
    return e.transpose(gathered, permutation=_moved(len(op.shape(1)), len(gathered.shape)))


def _moved(position: int, ndim: int) -> tuple[int, ...]:
    """The order in which the axis at ``position`` comes first."""
    return (position, *(axis for axis in range(ndim) if axis != position))


gather = Indexing(
    name="gather",
    type_rule=_gather_type,
    numpy=_gather_numpy,
    vjp=_gather_vjp,
    saves="123456789",
    differentiable_operands=(0,),
    jvp=linear,
    batch=_gather_batch,
)


def _scatter_type(
    operand: TensorType, updates: TensorType, *indices: TensorType, axes: tuple[int, ...], combine: str
) -> TensorType:
    _check_indices("scatter", operand, indices, axes)
    expected = TensorType(operand.dtype, indices[0].shape + _window(operand, axes))
    if updates != expected:
        raise ValueError(f"scatter: updates must be {expected!r}, got {updates!r}")
    return operand


def _scatter_numpy(
    operand: np.ndarray, updates: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...], combine: str
) -> np.ndarray:
    result = operand.copy()
    moved, address = _address(result, indices, axes)
    if combine == "add":
        np.add.at(moved, address, updates)
    else:
        moved[address] = updates
    return result


def _scatter_vjp(e: Emitter, index: int, g: Any, op: Application) -> Any:
    axes, indices = op.attributes["axes"], op.operands[2:]
    adds = op.attributes["combine"] == "add"
    if index == 0:
        return g if adds else e.scatter(g, e.full(0, op.operand_types[1]), *indices, axes=axes, combine="set")
    gathered = e.gather(g, *indices, axes=axes)
    if adds:
        return gathered
    lasts = _is_last(e, op)
    kept = e.broadcast_in_dim(lasts, shape=tuple(gathered.shape), dimensions=tuple(range(len(lasts.shape))))
    return e.select(kept, gathered, e.scalar(0, g.dtype))


def _is_last(e: Emitter, op: Application) -> Any:
    """For each entry of the index arrays, whether no later one addresses the same elements."""
    types, axes, indices = op.operand_types, op.attributes["axes"], op.operands[2:]
    addressed = TensorType(int64, tuple(types[0].shape[axis] for axis in axes))
    index_type = TensorType(int64, types[2].shape)
    numbers = e.reshape_to(e.iota(size=index_type.size, dtype=int64), index_type.shape)
    along: dict[str, Any] = {"axes": tuple(range(len(axes)))}
    last = e.gather(e.scatter(e.full(0, addressed), numbers, *indices, combine="set", **along), *indices, **along)
    return e.compare(last, numbers, direction="eq")


def _scatter_batch(e: Emitter, op: BatchedApplication) -> Any:
    operand, updates = op.stretched(e, 0), op.stretched(e, 1)
    indices, axes = list(op.operands[2:]), tuple(axis + 1 for axis in op.attributes["axes"])
    if any(op.is_batched[2:]):
        indices, axes = _batched_indices(e, op, 2)
    else:  # the batch is one of the axes that are not indexed: the first
        count = len(op.shape(2))
        behind = tuple(range(count + 1, len(updates.shape)))
        updates = e.transpose(updates, permutation=(*range(1, count + 1), 0, *behind))
    return e.scatter(operand, updates, *indices, axes=axes, combine=op.attributes["combine"])


# Updates are applied in row-major order of the index shape: sums are deterministic, and with "set" the last wins.
scatter = Indexing(
    name="scatter",
    type_rule=_scatter_type,
    numpy=_scatter_numpy,
    vjp=_scatter_vjp,
    saves="23456789",
    differentiable_operands=(0, 1),
    jvp=linear,
    batch=_scatter_batch,
)
