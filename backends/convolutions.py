"""Convolutions: matrix products of which one operand is read through windows.

The matrix of what the windows show is never written down.  Its elements are found through two tables, of the places of
the windows and of the places within one.  Where vectors of memory show enough places each, the product reads them where
they are, also those between rows of places, whose sums it leaves out; else it copies panels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir import Constant, Op, TensorType, Value
from tracejit.ir.facts import facts
from tracejit.ir.primitive import Primitive
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.primitives.elementwise import multiply
from tracejit.ir.primitives.reduction import reduce_sum
from tracejit.ir.primitives.view import slice_
from tracejit.ir.types import HALF_DTYPES, DType, float32, float64

from .addresses import Region, strides_of
from .cpu.target import host_target
from .fusion import Affine, Group, home_index, reduction_domain
from .products import DotCall, Matrices, Windows, place_of

if TYPE_CHECKING:
    from .planning import _Plan

NEAR = 16  # elements: at most so far apart, they are mostly in the same line of the cache
MOST_PHASES = 16  # each is a copy
COPY = 16  # what the copy of a panel costs, in rows of a product with it
FEW_SUMS, LONG_SUM = 64, 256  # so few sums, of more products each, are reductions
SUMS_AT_A_TIME = 10  # which stay in registers
FEW_PLACES = 64  # up to so many, the places of all examples are the rows of the product, and not the columns


def lower_convolution(plan: _Plan, op: Op) -> None:
    """Append the product that is the convolution, and copies of what it cannot read or write where it is."""
    if 0 in op.result.shape:
        return
    sizes = _Sizes(op)
    if op.result.dtype not in (float32, float64) and (plan.host or op.result.dtype not in HALF_DTYPES):
        _lower_integers(plan, op, sizes)
        return
    if plan.host and sizes.is_of_single_channels:
        _by_rows(plan, op, sizes)
        return
    weights = _contiguous(plan, op.operands[1])
    if not plan.host:
        each = sizes.depth * sizes.area
        image = _Image(_written_out(plan, op, sizes), 0, sizes.groups * each, each, (), ())
        _by_examples(plan, op, sizes, image, weights, (sizes.area, 1), None)
        return
    image = _where_it_is(plan, op, sizes)
    if sizes.area > FEW_PLACES or sizes.outputs == 1:
        if _shows_little(image, sizes, op.result.dtype):
            image = _in_phases(plan, op, sizes) or image
        strides, windows = _strides_or_windows("rhs", image.depths, image.places)
        _by_examples(plan, op, sizes, image, weights, strides, windows)
    else:
        _by_places(plan, op, sizes, image, weights)


class _Sizes:
    """The extents of a convolution: ``outputs`` and ``inner`` are the channels of a group."""

    def __init__(self, op: Op) -> None:
        self.batch, outputs, *places = op.result.type.static_shape
        _, self.inner, *kernel = op.operands[1].type.static_shape
        self.groups = op.attributes["groups"]
        self.outputs = outputs // self.groups
        self.kernel, self.places = tuple(kernel), tuple(places)
        self.depth, self.area = self.inner * math.prod(kernel), math.prod(places)

    @property
    def is_of_single_channels(self) -> bool:
        """Whether a few sums over much are all: as in the gradient of a depthwise convolution's weights."""
        few = self.batch == self.outputs == 1 and self.area <= FEW_SUMS
        return few and self.kernel[-1] > 1 and self.depth // self.kernel[-1] > 1 and self.depth > LONG_SUM


Axes = tuple[tuple[int, ...], ...]  # the offsets of the points along each axis


@facts
class _Image:
    """Where the input is: its memory, an offset, the steps from example to example and from group to group; and where
    the places of the windows are, and the places within one."""

    base: Value
    offset: int
    batch_step: int
    group_step: int
    places: Axes
    depths: Axes


def _where_it_is(plan: _Plan, op: Op, sizes: _Sizes) -> _Image:
    base, offset, (batch_step, channel_step, *steps) = place_of(plan, op.operands[0])
    depths = [_axis(sizes.inner, channel_step)]
    depths += map(_axis, sizes.kernel, map(int.__mul__, steps, op.attributes["dilations"]))
    places = map(_axis, sizes.places, map(int.__mul__, steps, op.attributes["strides"]))
    return _Image(base, offset, batch_step, sizes.inner * channel_step, tuple(places), tuple(depths))


def _axis(extent: int, step: int) -> tuple[int, ...]:
    return tuple(number * step for number in range(extent))


def _shows_little(image: _Image, sizes: _Sizes, dtype: DType) -> bool:
    """Whether vectors of memory show few places: these are apart."""
    lanes = host_target().lanes(dtype)
    return 2 * sizes.area <= (len(_vectors(image.places, dtype).array) - 1) * lanes


def _in_phases(plan: _Plan, op: Op, sizes: _Sizes) -> _Image | None:
    """A copy of the input in which all that a window shows by one of its elements is side by side: the places within a
    stride come before those of the strides.  ``None`` where there are too many of them."""
    strides, dilations = op.attributes["strides"], op.attributes["dilations"]
    steps = [_axis(size, dilation) for size, dilation in zip(sizes.kernel, dilations, strict=True)]
    phases = [sorted({step % stride for step in axis}) for axis, stride in zip(steps, strides, strict=True)]
    if math.prod(map(len, phases)) > MOST_PHASES:
        return None
    extents = [axis[-1] // stride + count for axis, stride, count in zip(steps, strides, sizes.places, strict=True)]
    batch, channels = op.operands[0].type.static_shape[:2]
    counts = [len(axis) for axis in phases]
    copy = Value(TensorType(op.result.dtype, (batch, channels, *counts, *extents)))
    for numbers in np.ndindex(*counts):
        chosen = [axis[number] for axis, number in zip(phases, numbers, strict=True)]
        used = [
            max(step // stride for step in axis if step % stride == phase) + count
            for axis, stride, phase, count in zip(steps, strides, chosen, sizes.places, strict=True)
        ]
        shape = (batch, channels, *used)
        home = home_index(shape)
        source = [
            _plus(_times(entry, stride), phase) for entry, stride, phase in zip(home[2:], strides, chosen, strict=True)
        ]
        target = [_plus(0, number) for number in numbers]
        plan.copy(
            op.operands[0], (*home[:2], *source), copy, (*home[:2], *target, *home[2:]), shape, op, title="phases"
        )
    pitches = strides_of((*counts, *extents))
    within = [
        tuple(axis.index(step % stride) * outer + step // stride * inner for step in found)
        for found, axis, stride, outer, inner in zip(
            steps, phases, strides, pitches[: len(counts)], pitches[len(counts) :], strict=True
        )
    ]
    plane = math.prod((*counts, *extents))
    places = tuple(map(_axis, sizes.places, pitches[len(counts) :]))
    depths = (_axis(sizes.inner, plane), *within)
    return _Image(copy, 0, channels * plane, sizes.inner * plane, places, depths)


def _by_examples(
    plan: _Plan, op: Op, sizes: _Sizes, image: _Image, weights: Matrices, strides: tuple[int, int],
    windows: Windows | None,
) -> None:  # fmt: skip
    """For each example and group: the weights times what the windows show, place by place."""
    lhs = Matrices(weights.value, weights.offset, (0, sizes.outputs * sizes.depth, sizes.depth, 1))
    columns = sizes.area
    if windows is not None and sizes.depth:
        vectors, lanes = _vectors(image.places, op.result.dtype), host_target().lanes(op.result.dtype)
        if _is_read_in_place(vectors.array, columns, lanes, sizes.outputs):
            windows, columns = Windows("rhs", vectors, windows.depths), (len(vectors.array) - 1) * lanes
    rhs = Matrices(image.base, image.offset, (image.batch_step, image.group_step, *strides))
    each = sizes.outputs * sizes.area
    out = Matrices(op.result, 0, (sizes.groups * each, each, sizes.area, 1))
    _append(plan, op, lhs, rhs, out, windows, sizes.batch * sizes.groups, sizes.outputs, columns, sizes.depth)


def _by_places(plan: _Plan, op: Op, sizes: _Sizes, image: _Image, weights: Matrices) -> None:
    """For each group: what the windows show, of all examples, times the weights; then the channels go to their axis."""
    count = sizes.batch * sizes.area
    rows = (_axis(sizes.batch, image.batch_step), *image.places)
    strides, windows = _strides_or_windows("lhs", image.depths, rows)
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
    strides = [_stride(_offsets(axes)) for axes in (depths, places)]
    if strides[0] is not None and strides[1] is not None:
        return (strides[0], strides[1]), None
    # What is copied needs to know of neighbours, what is only asked for of what is in the same lines of the cache.
    return (0, 0), Windows(side, _table(places, 1 if side == "rhs" else NEAR), _table(depths, NEAR))


def _stride(offsets: np.ndarray) -> int | None:
    """By how much each is more than the one before, where that is always the same."""
    steps = np.diff(offsets)
    if not steps.size:
        return 0
    return int(steps[0]) if np.all(steps == steps[0]) else None


def _is_read_in_place(vectors: np.ndarray, area: int, lanes: int, outputs: int) -> bool:
    """Whether a product reads vectors of places where they are: or else, it copies them, closely packed."""
    if not host_target().has_masked_memory:
        return len(vectors) % 2 == 1 and bool(np.all(vectors[:-1, 3] == lanes))
    return (len(vectors) - 1) * outputs <= -(-area // lanes) * (outputs + COPY)


def _offsets(axes: Axes) -> np.ndarray:
    """The offset of each point of some axes, in elements."""
    offsets = np.zeros(1, np.int64)
    for axis in axes:
        offsets = np.add.outer(offsets, np.array(axis, np.int64)).ravel()
    return offsets


@lru_cache(maxsize=512)
def _table(axes: Axes, apart: int) -> Constant:
    """For each point of some axes its offset, and how many points from there on are at most so far apart each."""
    flat = _offsets(axes)
    steps = np.diff(flat)
    return Constant(np.stack([flat, _runs(np.append((steps < 1) | (steps > apart), True))], axis=1))


def _runs(is_last: np.ndarray) -> np.ndarray:
    """For each item how many there are up to the end of its run."""
    items, ends = np.arange(is_last.size), np.flatnonzero(is_last) + 1
    return ends[np.searchsorted(ends, items, side="right")] - items


@lru_cache(maxsize=512)
def _vectors(axes: Axes, dtype: DType) -> Constant:
    return Constant(vectors_of_places(_offsets(axes), host_target().lanes(dtype)))


def vectors_of_places(offsets: np.ndarray, lanes: int) -> np.ndarray:
    """The vectors of memory that show all places, each as many as it can: their offsets, how many lanes they are,
    which of these show places (as bits), how many do, the first of the places, and how many vectors from there on are
    close together.  One without lanes is the last.

    >>> vectors_of_places(np.array([0, 1, 2, 5, 6, 7, 17]), 4)
    array([[ 0,  3,  7,  3,  0,  2],
           [ 5,  3,  7,  3,  3,  1],
           [17,  1,  1,  1,  6,  1],
           [ 0,  0,  0,  0,  0,  1]])
    """
    count = offsets.size
    reach, fits = np.ones(count, np.int64), np.ones(count, bool)  # how many places a vector shows that starts there
    for number in range(1, min(lanes, count)):
        there, before = offsets[number:], offsets[number - 1 : -1]
        fits[count - number :] = False
        fits[: count - number] &= (there > before) & (there - offsets[: count - number] < lanes)
        reach += fits
    starts, following = [0], (np.arange(count) + reach).tolist()
    while following[starts[-1]] < count:
        starts.append(following[starts[-1]])
    first = np.array(starts)
    table = np.zeros((len(starts) + 1, 6), np.int64)
    table[:-1, 0], table[:-1, 3], table[:-1, 4] = offsets[first], reach[first], first
    distances = np.diff(offsets[first])
    table[:, 5] = _runs(np.append((distances < 0) | (distances > 2 * lanes), [True, True]))
    for number in range(lanes):
        shows = reach[first] > number
        lane = offsets[np.minimum(first + number, count - 1)] - offsets[first]
        table[:-1, 1] = np.where(shows, lane + 1, table[:-1, 1])
        table[:-1, 2] |= np.where(shows, 1 << np.where(shows, lane, 0), 0)
    return table


def _contiguous(plan: _Plan, operand: Value) -> Matrices:
    """The weights in memory, all in order."""
    shape = operand.type.static_shape
    base, offset, steps = place_of(plan, operand)
    expected = 1
    for extent, step in zip(reversed(shape), reversed(steps), strict=True):
        if extent != 1 and step != expected:
            return Matrices(plan.laid_out(operand, range(len(shape))), 0, (0, 0, 0, 1))
        expected *= extent
    return Matrices(base, offset, (0, 0, 0, 1))


# Where there are but a few sums ------------------------------------------------------------------------


def _by_rows(plan: _Plan, op: Op, sizes: _Sizes) -> None:
    """The sums over the rows of the weights, for all places, and then the sums of those.

    The order of summation is that of these two reductions.
    """
    x, weights = op.operands
    strides, dilations = op.attributes["strides"], op.attributes["dilations"]
    whole = sizes.groups, sizes.inner, *sizes.kernel
    last = len(whole) - 1
    lying = _contiguous(plan, x)
    if lying.offset or lying.value.type.size != x.type.size:
        copy = lying.value = Value(x.type)
        plan.copy(x, home_index(x.shape), copy, home_index(x.shape), x.type.static_shape)
    image = Value(TensorType(op.result.dtype, (*whole[:2], *x.type.static_shape[2:])))
    plan.aliases[image] = lying.value

    def made(primitive: Primitive, operands: tuple[Value, ...], extents: Sequence[int], **attributes: Any) -> Op:
        return Op(primitive, operands, attributes, [TensorType(op.result.dtype, tuple(extents))], op.location)

    sums = Value(TensorType(op.result.dtype, (sizes.area, *whole[:-1])))
    pairs = []
    for number, place in enumerate(np.ndindex(*sizes.places)):
        start = [index * stride for index, stride in zip(place, strides, strict=True)]
        limit = [
            first + (size - 1) * step + 1 for first, size, step in zip(start, sizes.kernel, dilations, strict=True)
        ]
        box = {"start": (0, 0, *start), "limit": (*whole[:2], *limit), "strides": (1, 1, *dilations)}
        product = made(multiply, (made(slice_, (image,), whole, **box).result, weights), whole)
        found = made(reduce_sum, (product.result,), whole[:-1], axes=(last,))
        plan.regions[found.result] = Region(sums, (number, *[0] * last), (1,) * (last + 1), (None, *range(last)))
        pairs.append((product, found))
    target = Value(TensorType(op.result.dtype, (sizes.groups, sizes.area)))
    plan.aliases[target] = op.result
    total = made(reduce_sum, (sums,), (sizes.area, sizes.groups), axes=tuple(range(2, last + 1)))
    plan.regions[total.result] = Region(target, (0, 0), (1, 1), (1, 0))
    plan.stored |= {total.result, *(found.result for _, found in pairs)}
    for first in range(0, len(pairs), SUMS_AT_A_TIME):
        chosen = pairs[first : first + SUMS_AT_A_TIME]
        plan.lower_group(Group(-1, *reduction_domain(chosen[0][1]), [op for pair in chosen for op in pair]))
    plan.lower_group(Group(-1, *reduction_domain(total), [total]))


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


def _plus(entry: Any, number: int) -> Any:
    return _sum(entry, Affine((), number) if number else 0)


def _sum(x: Any, y: Any) -> Any:
    """The sum of two entries of an index."""
    if x == 0 or y == 0:
        return y if x == 0 else x
    return Affine(x.terms + y.terms, x.constant + y.constant, x.dynamic + y.dynamic)
