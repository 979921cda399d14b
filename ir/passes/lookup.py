"""Lookups at places that are known: gathers that are slices, scatters that write to a slice.

Indexing with arrays is the most general way to read and write elements, and the slowest.  Where the indices are
constants at equal distances (``x[[0, 2, 4]]``, ``x[tj.arange(3)]``) a slice reads the same elements, and is no work at
all; what is written there is padded, or put into its place.  A lookup in a lookup is one, of the places looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..graph import Constant, Emit, Graph, Op, Value
from ..primitives.elementwise import add
from ..primitives.generation import iota
from ..primitives.indexing import gather, scatter
from ..primitives.placement import pad, update_slice
from ..primitives.view import broadcast_in_dim, reshape, reverse, slice_, transpose
from ..types import is_floating


def lookup(graph: Graph) -> Graph:
    """``graph`` with slices in place of lookups along one axis at constant places in equal distances.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[5,3]) -> (f32[2,3]) {
    ...   %y = gather %x, [1, 3]:i64[2] {axes=[0]} : f32[2,3]
    ...   return %y
    ... }''')
    >>> print(lookup(graph))
    func @f(%x: f32[5,3]) -> (f32[2,3]) {
      %y = slice %x {limit=[4, 3], start=[1, 0], strides=[2, 1]} : f32[2,3]
      return %y
    }
    """
    if not any(op.primitive is gather or op.primitive is scatter for op in graph.walk()):
        return graph
    uses = graph.uses()

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        value = None
        if op.primitive is gather and len(operands) == 2:
            value = _gather(op, operands, emit) or _nested(op, operands, emit, uses.get(op.operands[0]) == 1)
        elif op.primitive is scatter and len(operands) == 3:
            value = _scatter(op, operands, emit)
        return None if value is None else (value,)

    return graph.rewrite(rewrite)


def _gather(op: Op, operands: tuple[Value, ...], emit: Emit) -> Value | None:
    x, indices = operands
    (axis,) = op.attributes["axes"]
    extent = x.shape[axis]
    places = _places(indices, extent)
    if places is None or not x.type.is_static:
        return None
    first, step, count = places
    start, limit, strides = [0] * x.ndim, list(x.type.static_shape), [1] * x.ndim
    low, high = sorted((first, first + step * (count - 1)))
    start[axis], limit[axis], strides[axis] = low, high + 1, max(abs(step), 1)
    value = x
    if (low, high + 1, strides[axis]) != (0, extent, 1):
        value = emit(slice_, (x,), {"start": tuple(start), "limit": tuple(limit), "strides": tuple(strides)})
    if step < 0:
        value = emit(reverse, (value,), {"dimensions": (axis,)})
    if axis:
        order = (axis, *(other for other in range(x.ndim) if other != axis))
        value = emit(transpose, (value,), {"permutation": order})
    return value if value.shape == op.result.shape else emit(reshape, (value,), {"shape": op.result.shape})


def _nested(op: Op, operands: tuple[Value, ...], emit: Emit, alone: bool) -> Value | None:
    """``x[i][j]`` is ``x[i[j]]``, where nothing else reads ``x[i]``."""
    x, indices = operands
    inner = x.op
    if not alone or op.attributes["axes"] != (0,) or inner is None or inner.primitive is not gather:
        return None
    table, *places = inner.operands
    if len(places) != 1 or places[0].ndim != 1 or inner.attributes["axes"] != (0,):
        return None
    return emit(gather, (table, emit(gather, (places[0], indices), {"axes": (0,)})), {"axes": (0,)})


def _scatter(op: Op, operands: tuple[Value, ...], emit: Emit) -> Value | None:
    x, updates, indices = operands
    axis = op.attributes["axes"]
    places = _places(indices, x.shape[0])
    if axis != (0,) or places is None or not x.type.is_static or indices.ndim != 1:
        return None
    first, step, count = places
    if step < 0:  # each is written once, in whatever order
        first, step = first + step * (count - 1), -step
        updates = emit(reverse, (updates,), {"dimensions": (0,)})
    step = max(step, 1)
    start, strides = [0] * x.ndim, [1] * x.ndim
    start[0], strides[0] = first, step
    if op.attributes["combine"] == "set":
        return emit(update_slice, (x, updates), {"start": tuple(start), "strides": tuple(strides)})
    zero = _zero_of(x)
    if zero is None:
        return None
    if is_floating(x.dtype):  # 0.0 is added, which turns -0.0 into 0.0
        updates = emit(add, (updates, zero), {})
    rest = (0,) * (x.ndim - 1)
    after = x.type.static_shape[0] - first - (count - 1) * step - 1
    return emit(pad, (updates, zero), {"low": (first, *rest), "high": (after, *rest), "interior": (step - 1, *rest)})


def _zero_of(x: Value) -> Value | None:
    """The 0 (not -0.0) that all elements are, if they are."""
    if x.op is not None and x.op.primitive is broadcast_in_dim:
        x = x.op.operands[0]
    if (
        not isinstance(x, Constant)
        or x.ndim
        or x.dtype.kind == "c"
        or x.array != 0
        or np.signbit(x.array.astype(float))
    ):
        return None
    return x


def _places(indices: Value, extent: object) -> tuple[int, int, int] | None:
    """The first of constant indices, their distance and their number, where each addresses an element of its own."""
    if not isinstance(extent, int) or extent == 0:
        return None
    if indices.op is not None and indices.op.primitive is iota:
        count = indices.op.attributes["size"]
        return (0, 1, count) if isinstance(count, int) and 0 < count <= extent else None
    if not isinstance(indices, Constant) or indices.ndim > 1 or indices.array.size == 0:
        return None
    numbers = np.clip(indices.array.reshape(-1).astype(object), 0, extent - 1)
    steps = {int(b) - int(a) for a, b in pairwise(numbers)}
    if len(steps) > 1 or 0 in steps:
        return None
    return int(numbers[0]), steps.pop() if steps else 1, len(numbers)
