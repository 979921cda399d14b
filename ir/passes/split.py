"""Splitting: what has a short last axis, of coordinates say, is computed one coordinate at a time.

A sum over three coordinates for each pair of points, and one over the points for each coordinate, do not fit into one
nest of loops.  With the coordinates as values of their own, the first is a few additions, and the second is a sum for
each coordinate in the same loop: no array of all pairs is ever in memory, and the loop's axis is long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..graph import Emit, Graph, Op, Value
from ..primitive import Elementwise, Primitive, Reduction
from ..primitives.elementwise import add, maximum, minimum
from ..primitives.placement import concatenate
from ..primitives.reduction import reduce_max, reduce_min, reduce_sum
from ..primitives.view import reshape, slice_, transpose
from ..types import float32, float64, is_integer

MOST_COORDINATES = 4
LEAST_ELEMENTS = 1 << 12
SPREAD = 8  # what is split has so many times the elements of what it is computed from

COMBINATIONS: Mapping[Primitive, Primitive] = {reduce_sum: add, reduce_max: maximum, reduce_min: minimum}


def split(graph: Graph) -> Graph:
    """``graph`` with elementwise ops, and reductions of them, split along short last axes.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[100,1,2], %y: f32[1,100,2]) -> (f32[100,100]) {
    ...   %a = subtract %x, %y         : f32[100,100,2]
    ...   %b = multiply %a, %a         : f32[100,100,2]
    ...   %c = reduce_sum %b {axes=[2]} : f32[100,100]
    ...   return %c
    ... }''')
    >>> [op.primitive.name for op in split(graph).ops if op.result.shape == (100, 100)]
    ['subtract', 'subtract', 'multiply', 'multiply', 'add']
    """
    chosen = _chosen(graph)
    if not chosen:
        return graph
    splitting = _Splitting(chosen)
    return graph.rewrite(splitting.rule)


def _chosen(graph: Graph) -> set[Value]:
    """The values to split: nothing but one another and reductions, along the last axis or across it, reads them."""
    ops = [*graph.walk()]
    if not any(_kind(op) for op in ops):
        return set()
    chosen = {op.result for op in ops if isinstance(op.primitive, Elementwise) and _is_wide(op.result)}
    results = {*graph.results, *(value for op in ops for region in op.regions for value in region.results)}
    chosen -= results
    while True:
        dropped: set[Value] = set()
        for op in ops:
            read = {operand for operand in op.operands if operand in chosen}
            if op.results and op.results[0] in chosen:
                if any(not _is_narrow(operand, op.result) for operand in op.operands if operand not in chosen):
                    dropped.add(op.result)
            elif read and not _kind(op):
                dropped |= read
        if not dropped:
            break
        chosen -= dropped
    reduced = {op.operands[0].shape for op in ops if _kind(op) and op.operands[0] in chosen}
    return {value for value in chosen if value.shape in reduced}


def _is_wide(value: Value) -> bool:
    if not value.type.is_static or value.ndim < 2 or value.dtype.kind == "c":
        return False
    return 1 < value.type.static_shape[-1] <= MOST_COORDINATES and value.type.size >= LEAST_ELEMENTS


def _is_narrow(operand: Value, result: Value) -> bool:
    return operand.ndim == 0 or operand.shape[-1] == 1 or operand.type.size * SPREAD <= result.type.size


def _kind(op: Op) -> str:
    """Whether an op is a reduction along the last axis of what is wide, or across it; else nothing."""
    if not isinstance(op.primitive, Reduction) or not _is_wide(op.operands[0]):
        return ""
    (operand,), axes = op.operands, op.attributes["axes"]
    last = operand.ndim - 1
    if tuple(axes) == (last,):
        is_plain = operand.dtype in (float32, float64) or is_integer(operand.dtype)
        return "along" if is_plain and op.primitive in COMBINATIONS else ""
    return "across" if axes and last not in axes else ""


class _Splitting:
    def __init__(self, chosen: set[Value]) -> None:
        self.chosen = chosen
        self.coordinates: dict[Value, list[Value]] = {}
        self.turned: dict[tuple[int, Value], Value] = {}

    def rule(self, op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if op.results and op.results[0] in self.chosen:
            count = op.result.type.static_shape[-1]
            parts = [
                self._parts(old, new, op.result.ndim, count, emit)
                for old, new in zip(op.operands, operands, strict=True)
            ]
            self.coordinates[op.result] = [emit(op.primitive, each, op.attributes) for each in zip(*parts, strict=True)]
            return ()
        if not _kind(op) or op.operands[0] not in self.chosen:
            return None
        values = self.coordinates[op.operands[0]]
        if _kind(op) == "along":
            return (_combined(COMBINATIONS[op.primitive], values, emit),)
        reduced = [emit(op.primitive, (value,), op.attributes) for value in values]
        shape = (*reduced[0].type.static_shape, 1)
        columns = [emit(reshape, (value,), {"shape": shape}) for value in reduced]
        return (emit(concatenate, columns, {"dimension": len(shape) - 1}),)

    def _parts(self, old: Value, new: Value, rank: int, count: int, emit: Emit) -> list[Value]:
        """The operand of each coordinate's op."""
        if old in self.chosen:
            return self.coordinates[old]
        if new.ndim == 0:
            return [new] * count
        *outer, last = new.type.static_shape
        if last == 1:
            return [_without_last(new, tuple(outer), emit)] * count
        rows = _turned(new, self.turned, emit)
        size = rows.type.size // count
        return [
            emit(reshape, (_slice(rows, number * size, size, emit),), {"shape": tuple(outer)})
            for number in range(count)
        ]


def _without_last(value: Value, shape: tuple[int, ...], emit: Emit) -> Value:
    if value.op is not None and value.op.primitive is reshape and value.op.operands[0].shape == shape:
        return value.op.operands[0]
    return emit(reshape, (value,), {"shape": shape})


def _turned(value: Value, known: dict[tuple[int, Value], Value], emit: Emit) -> Value:
    """A value's coordinates one after the other, in one row: in memory, so that each is a row there."""
    while value.op is not None and value.op.primitive is reshape and _keeps_last(value, value.op.operands[0]):
        (value,) = value.op.operands
    key = id(emit.target), value  # a constant may be read in several blocks
    if key not in known:
        last = value.ndim - 1
        turned = emit(transpose, (value,), {"permutation": (last, *range(last))})
        known[key] = emit(reshape, (turned,), {"shape": (value.type.size,)})
    return known[key]


def _keeps_last(value: Value, source: Value) -> bool:
    return source.ndim > 0 and source.type.static_shape[-1] == value.type.static_shape[-1]


def _slice(row: Value, start: int, size: int, emit: Emit) -> Value:
    return emit(slice_, (row,), {"start": (start,), "limit": (start + size,), "strides": (1,)})


def _combined(combine: Primitive, values: Sequence[Value], emit: Emit) -> Value:
    """In halves, as every reduction is combined; what is beyond the extent is the neutral element."""
    left = list(values)
    half = 1 << (len(left) - 1).bit_length() >> 1
    while len(left) > 1:
        pairs = [emit(combine, (x, y), {}) for x, y in zip(left, left[half:], strict=False)]
        left = [*pairs, *left[len(pairs) : half]]
        half //= 2
    return left[0]
