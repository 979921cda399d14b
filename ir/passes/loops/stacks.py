"""Stacks: the values of all steps in one, along a new first axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...batching import BatchedApplication
from ...facts import facts
from ...graph import Builder, Constant, Op, Value
from ...primitive import Emitter
from ...primitives.indexing import gather
from ...primitives.view import broadcast_in_dim, reshape, reverse, slice_, transpose
from ...types import int64


@facts(frozen=True)
class Motion:
    """A position that moves along an axis: from ``first``, by ``stride`` each step."""

    axis: int
    first: int
    stride: int

    def since(self, step: int, every: int = 1) -> Motion:
        """The motion from a step on, of every so many steps."""
        return Motion(self.axis, self.first + step * self.stride, self.stride * every)

    def lowest(self, count: int) -> int:
        """The lowest position of ``count`` steps."""
        return min(self.first, self.first + (count - 1) * self.stride)


def applied(builder: Builder, op: Op, operands: Sequence[Value], are_stacks: Sequence[bool], count: int) -> Value:
    """An op on each entry of stacks of ``count`` entries; operands that are none are the same for all."""
    emitter = Emitter(builder.apply, Constant)
    if not any(are_stacks):
        single = builder.apply(op.primitive, operands, op.attributes)
        return repeated(builder, single, count)
    application = BatchedApplication(op.primitive, op.attributes, tuple(operands), tuple(are_stacks), count)
    assert op.primitive.batch is not None
    stack: Value = op.primitive.batch(emitter, application)
    return stack


def repeated(builder: Builder, value: Value, count: int) -> Value:
    """A stack of one value."""
    attributes = {"shape": (count, *value.shape), "dimensions": tuple(range(1, value.ndim + 1))}
    return builder.apply(broadcast_in_dim, (value,), attributes)


def rows(builder: Builder, stack: Value, first: int, stride: int, count: int) -> Value:
    """``count`` entries of a stack, from ``first`` on, by ``stride``, which may be negative."""
    last = first + (count - 1) * stride
    low, high = min(first, last), max(first, last)
    if (low, high + 1, abs(stride)) != (0, stack.shape[0], 1):
        stack = _entries(builder, stack, low, high + 1, abs(stride))
    return builder.apply(reverse, (stack,), {"dimensions": (0,)}) if stride < 0 else stack


def row(builder: Builder, stack: Value, number: int) -> Value:
    """One entry."""
    return builder.apply(reshape, (_entries(builder, stack, number, number + 1, 1),), {"shape": stack.shape[1:]})


def side_by_side(builder: Builder, stack: Value, axis: int) -> Value:
    """The entries one after the other along ``axis`` of theirs."""
    count, *shape = stack.type.static_shape
    permutation = (*range(1, axis + 1), 0, *range(axis + 1, len(shape) + 1))
    if axis:
        stack = builder.apply(transpose, (stack,), {"permutation": permutation})
    return builder.apply(reshape, (stack,), {"shape": (*shape[:axis], count * shape[axis], *shape[axis + 1 :])})


def tiles(extent: int, step: int, stride: int) -> bool:
    """Whether parts of ``extent`` elements, ``step`` apart, lie evenly spaced when they move by ``stride``."""
    return extent == 1 or (step == 1 and abs(stride) == extent)


def slices(builder: Builder, x: Value, op: Op, motion: Motion, count: int) -> Value:
    """What ``op``, a slice that moves, takes of ``x`` in ``count`` steps."""
    shape = op.result.type.static_shape
    axis, extent, stride = motion.axis, shape[motion.axis], op.attributes["strides"][motion.axis]
    if not tiles(extent, stride, motion.stride):
        numbers = indices(motion, extent, stride, count)
        gathered = gather_along(builder, still(builder, x, op, axis), Constant(numbers), axis)
        return _to_front(builder, gathered, axis)
    low = motion.lowest(count)
    start, limit, strides = (list(op.attributes[name]) for name in ("start", "limit", "strides"))
    start[axis] = low
    if extent == 1:
        limit[axis], strides[axis] = low + (count - 1) * abs(motion.stride) + 1, abs(motion.stride)
    else:
        limit[axis] = low + count * extent
    x = builder.apply(slice_, (x,), {"start": tuple(start), "limit": tuple(limit), "strides": tuple(strides)})
    x = builder.apply(reshape, (x,), {"shape": (*shape[:axis], count, *shape[axis:])})
    x = _to_front(builder, x, axis)
    return builder.apply(reverse, (x,), {"dimensions": (0,)}) if motion.stride < 0 else x


def indices(motion: Motion, extent: int, stride: int, count: int) -> np.ndarray:
    """The positions that a part of ``extent`` elements, ``stride`` apart, covers along the axis in each step."""
    starts = motion.first + np.arange(count, dtype=int64) * motion.stride
    return starts[:, None] + np.arange(extent, dtype=int64) * stride


def still(builder: Builder, x: Value, op: Op, axis: int) -> Value:
    """What a slice takes of ``x`` along the axes other than ``axis``."""
    start, limit, strides = (list(op.attributes[name]) for name in ("start", "limit", "strides"))
    start[axis], limit[axis], strides[axis] = 0, x.shape[axis], 1
    return builder.apply(slice_, (x,), {"start": tuple(start), "limit": tuple(limit), "strides": tuple(strides)})


def gather_along(builder: Builder, x: Value, numbers: Value, axis: int) -> Value:
    """The elements with the given ``numbers`` along an axis, of which each axis of ``numbers`` takes the place."""
    found = builder.apply(gather, (x, numbers), {"axes": (axis,)})
    order = (*range(numbers.ndim, numbers.ndim + axis), *range(numbers.ndim), *range(numbers.ndim + axis, found.ndim))
    return found if axis == 0 else builder.apply(transpose, (found,), {"permutation": order})


def _to_front(builder: Builder, x: Value, axis: int) -> Value:
    if axis == 0:
        return x
    order = (axis, *range(axis), *range(axis + 1, x.ndim))
    return builder.apply(transpose, (x,), {"permutation": order})


def _entries(builder: Builder, stack: Value, start: int, limit: int, stride: int) -> Value:
    others = stack.type.static_shape[1:]
    attributes = {
        "start": (start, *(0 for _ in others)),
        "limit": (limit, *others),
        "strides": (stride, *(1 for _ in others)),
    }
    return builder.apply(slice_, (stack,), attributes)
