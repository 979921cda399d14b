"""Convolutions: matrix products of which one operand is read through windows.

The matrix of what the windows show is never written down.  Its elements are found through two tables, of the places of
the windows and of the places within one, when the product copies a panel or a tile of it, as it does with any operand
that lies badly in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir import Constant, Op, TensorType, Value
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.types import HALF_DTYPES, float32, float64

from .fusion import Affine, Group, home_index
from .products import DotCall, Matrices, Windows, one_stride, place_of

if TYPE_CHECKING:
    from .program import _Plan

FEW_PLACES = 48  # up to so many, the places of all examples are the rows of the product, and not the columns


def lower_convolution(plan: _Plan, op: Op) -> None:
    """Append the product that is the convolution, and copies of what it cannot read or write where it is."""
    if 0 in op.result.shape:
        return
    sizes = _Sizes(op)
    if op.result.dtype not in (float32, float64) and (plan.host or op.result.dtype not in HALF_DTYPES):
        _lower_integers(plan, op, sizes)
        return
    weights = _contiguous(plan, op.operands[1])
    if not plan.host:
        each = sizes.depth * sizes.area
        image = _Image(_written_out(plan, op, sizes), 0, sizes.groups * each, each)
        _by_examples(plan, op, sizes, image, weights, ((sizes.depth,), (sizes.area,)), ((sizes.area,), (1,)))
        return
    base, offset, steps = place_of(plan, op.operands[0])
    batch_step, channel_step, *steps = steps
    depths = (sizes.inner, *sizes.kernel), (channel_step, *map(int.__mul__, steps, op.attributes["dilations"]))
    places = sizes.places, tuple(map(int.__mul__, steps, op.attributes["strides"]))
    image = _Image(base, offset, batch_step, sizes.inner * channel_step)
    if sizes.area > FEW_PLACES or sizes.outputs == 1:
        _by_examples(plan, op, sizes, image, weights, depths, places)
    else:
        rows = (sizes.batch, *places[0]), (batch_step, *places[1])
        _by_places(plan, op, sizes, image, weights, depths, rows)


class _Sizes:
    """The extents of a convolution: ``outputs`` and ``inner`` are the channels of a group."""

    def __init__(self, op: Op) -> None:
        self.batch, outputs, *places = op.result.type.static_shape
        _, self.inner, *kernel = op.operands[1].type.static_shape
        self.groups = op.attributes["groups"]
        self.outputs = outputs // self.groups
        self.kernel, self.places = tuple(kernel), tuple(places)
        self.depth, self.area = self.inner * math.prod(kernel), math.prod(places)


class _Image:
    """Where the input is: its memory, an offset, and the steps from example to example, from group to group."""

    def __init__(self, base: Value, offset: int, batch_step: int, group_step: int) -> None:
        self.base, self.offset, self.batch_step, self.group_step = base, offset, batch_step, group_step


Axes = tuple[Sequence[int], Sequence[int]]  # extents and steps


def _by_examples(
    plan: _Plan, op: Op, sizes: _Sizes, image: _Image, weights: Matrices, depths: Axes, places: Axes
) -> None:
    """For each example and group: the weights times what the windows show, place by place."""
    lhs = Matrices(weights.value, weights.offset, (0, sizes.outputs * sizes.depth, sizes.depth, 1))
    strides, windows = _strides_or_windows("rhs", depths, places)
    rhs = Matrices(image.base, image.offset, (image.batch_step, image.group_step, *strides))
    each = sizes.outputs * sizes.area
    out = Matrices(op.result, 0, (sizes.groups * each, each, sizes.area, 1))
    _append(plan, op, lhs, rhs, out, windows, sizes.batch * sizes.groups, sizes.outputs, sizes.area, sizes.depth)


def _by_places(plan: _Plan, op: Op, sizes: _Sizes, image: _Image, weights: Matrices, depths: Axes, rows: Axes) -> None:
    """For each group: what the windows show, of all examples, times the weights; then the channels go to their axis."""
    count = sizes.batch * sizes.area
    strides, windows = _strides_or_windows("lhs", depths, rows)
    lhs = Matrices(image.base, image.offset, (0, image.group_step, *strides[::-1]))
    rhs = Matrices(weights.value, weights.offset, (0, sizes.outputs * sizes.depth, 1, sizes.depth))
    shape = (sizes.batch, sizes.area, sizes.groups, sizes.outputs)
    product = Value(TensorType(op.result.dtype, shape))
    width = sizes.groups * sizes.outputs
    out = Matrices(product, 0, (0, sizes.outputs, width, 1))
    _append(plan, op, lhs, rhs, out, windows, sizes.groups, count, sizes.outputs, sizes.depth)
    turned = (sizes.batch, width, sizes.area)
    target = Value(TensorType(op.result.dtype, turned))
    plan.aliases[target] = op.result
    flat = Value(TensorType(op.result.dtype, (sizes.batch, sizes.area, width)))
    plan.aliases[flat] = product
    home = home_index(turned)
    plan.copy(flat, (home[0], home[2], home[1]), target, home, turned, op, title="transpose")


def _append(
    plan: _Plan, op: Op, lhs: Matrices, rhs: Matrices, out: Matrices, windows: Windows | None, batch: int, m: int,
    n: int, k: int,
) -> None:  # fmt: skip
    inner = op.attributes["groups"]
    call = DotCall(op.result.dtype, lhs, rhs, out, None, batch, inner, m, n, k, op.location, windows)
    plan.calls.append(call)


def _strides_or_windows(side: str, depths: Axes, places: Axes) -> tuple[tuple[int, int], Windows | None]:
    """The strides along the depth and the places, where there is one of each; else tables."""
    strides = tuple(one_stride(steps, extents, 0, len(extents)) for extents, steps in (depths, places))
    if strides[0] is not None and strides[1] is not None:
        return (strides[0], strides[1]), None
    return (0, 0), Windows(side, _table(*map(tuple, places)), _table(*map(tuple, depths)))


@lru_cache(maxsize=512)
def _table(extents: tuple[int, ...], steps: tuple[int, ...]) -> Constant:
    """For each point of some axes its offset, in elements, and how many points from there on are neighbours."""
    offsets = np.zeros((1,) * len(extents), np.int64)
    for axis, (extent, step) in enumerate(zip(extents, steps, strict=True)):
        shape = [extent if i == axis else 1 for i in range(len(extents))]
        offsets = offsets + (np.arange(extent) * step).reshape(shape)
    flat = offsets.ravel()
    ends = np.append(np.flatnonzero(np.diff(flat) != 1) + 1, flat.size)
    runs = ends[np.searchsorted(ends, np.arange(flat.size), side="right")] - np.arange(flat.size)
    return Constant(np.stack([flat, runs], axis=1))


def _contiguous(plan: _Plan, operand: Value) -> Matrices:
    """The weights in memory, all in order."""
    shape = operand.type.static_shape
    base, offset, steps = place_of(plan, operand)
    expected = 1
    for extent, step in zip(reversed(shape), reversed(steps), strict=True):
        if extent != 1 and step != expected:
            copy, home = Value(operand.type), home_index(shape)
            plan.copy(operand, home, copy, home, shape)
            return Matrices(copy, 0, (0, 0, 0, 1))
        expected *= extent
    return Matrices(base, offset, (0, 0, 0, 1))


# Where no product reads through windows ------------------------------------------------------------------


def _written_out(plan: _Plan, op: Op, sizes: _Sizes) -> Value:
    """What the windows show, written down: a matrix for each example and group."""
    dtype, batch, count = op.result.dtype, (sizes.batch, sizes.groups), len(sizes.kernel)
    shape = (*batch, sizes.inner, *sizes.kernel, *sizes.places)
    columns, home = Value(TensorType(dtype, shape)), home_index(shape)
    example, group, channel = home[:3]
    within, place = home[3 : 3 + count], home[3 + count :]
    dilations, strides = op.attributes["dilations"], op.attributes["strides"]
    index = [example, _sum(_times(group, sizes.inner), channel)]
    index += [_sum(_times(w, d), _times(p, s)) for w, d, p, s in zip(within, dilations, place, strides, strict=True)]
    plan.copy(op.operands[0], tuple(index), columns, home, shape, op, title="windows")
    matrices = Value(TensorType(dtype, (*batch, sizes.depth, sizes.area)))
    plan.aliases[matrices] = columns
    return matrices


def _lower_integers(plan: _Plan, op: Op, sizes: _Sizes) -> None:
    """As the product of two values in memory."""
    dtype, batch = op.result.dtype, (sizes.batch, sizes.groups)
    columns = _written_out(plan, op, sizes)
    shape = (*batch, sizes.outputs, sizes.inner, *sizes.kernel)
    weights, home = Value(TensorType(dtype, shape)), home_index(shape)
    source = (_sum(_times(home[1], sizes.outputs), home[2]), *home[3:])
    plan.copy(op.operands[1], source, weights, home, shape, op)
    matrices = Value(TensorType(dtype, (*batch, sizes.outputs, sizes.depth)))
    plan.aliases[matrices] = weights
    product = Op(dot, (matrices, columns), {}, [TensorType(dtype, (*batch, sizes.outputs, sizes.area))], op.location)
    plan.aliases[product.result] = op.result
    plan.stored.add(product.result)
    plan.lower_group(Group(-1, (), ops=[product]))


def _times(entry: Any, number: int) -> Any:
    return entry if entry == 0 else entry * number


def _sum(x: Any, y: Any) -> Any:
    """The sum of two entries of an index."""
    if x == 0 or y == 0:
        return y if x == 0 else x
    return Affine(x.terms + y.terms, x.constant + y.constant, x.dynamic + y.dynamic)
