"""Pieces: what is computed elementwise from concatenations, and from what is padded, is computed piece by piece.

A field that is rolled, or padded, by one element is a copy of the whole field for the sake of its edge.  Cut along the
edges, each piece of what is computed from it reads the field itself, and the pieces are put together as they are
written.  So a step over a periodic grid is one pass over memory for the inside, and short ones along the edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

from ..graph import Block, Emit, Graph, Op, Value
from ..primitive import Elementwise
from ..primitives.placement import concatenate, pad
from ..primitives.view import broadcast_in_dim, slice_
from .dce import dce

LEAST_ELEMENTS = 1 << 12
MOST_PIECES = 27  # a box with all its faces, edges and corners
MOST_OPS = 1 << 10  # in all pieces together

Box = tuple[tuple[int, int], ...]  # for each axis, where it begins and ends


def pieces(graph: Graph) -> Graph:
    """``graph`` with elementwise ops on concatenations of slices, and on paddings, cut into pieces.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[5000]) -> (f32[5000]) {
    ...   %a = slice %x {limit=[5000], start=[4999], strides=[1]} : f32[1]
    ...   %b = slice %x {limit=[4999], start=[0], strides=[1]}    : f32[4999]
    ...   %c = concatenate %a, %b {dimension=0}                   : f32[5000]
    ...   %d = add %x, %c                                         : f32[5000]
    ...   return %d
    ... }''')
    >>> print(pieces(graph))
    func @f(%x: f32[5000]) -> (f32[5000]) {
      %a  = slice %x {limit=[5000], start=[4999], strides=[1]} : f32[1]
      %b  = slice %x {limit=[4999], start=[0], strides=[1]}    : f32[4999]
      %v0 = slice %x {limit=[1], start=[0], strides=[1]}       : f32[1]
      %v1 = add %v0, %a                                        : f32[1]
      %v2 = slice %x {limit=[5000], start=[1], strides=[1]}    : f32[4999]
      %v3 = add %v2, %b                                        : f32[4999]
      %d  = concatenate %v1, %v3 {dimension=0}                 : f32[5000]
      return %d
    }
    """
    cutting: dict[Op, _Cluster] = {}
    for block in _blocks(graph):
        for cluster in _clusters(block):
            cutting |= dict.fromkeys(cluster.ops, cluster)
    if not cutting:
        return graph

    def rule(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        cluster = cutting.get(op)
        return None if cluster is None else cluster.cut(op, operands, emit)

    return dce(graph.rewrite(rule))


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block.ops:
        for region in op.regions:
            yield from _blocks(region)


def _clusters(block: Block) -> Iterator[_Cluster]:
    """Elementwise ops of one shape, some of which read edges, with all that is computed from those, or for them."""
    if not any(op.primitive in (concatenate, pad) for op in block.ops):
        return
    made_up = [op.result for op in block.ops if op.primitive in (concatenate, pad, slice_) and _is_wide(op.result)]
    edges = {value for value in made_up if any(_cuts(value))}
    for shape in dict.fromkeys(value.shape for value in made_up if value in edges):
        ops = [op for op in block.ops if isinstance(op.primitive, Elementwise) and op.result.shape == shape]
        own = {value for value in edges if value.shape == shape}
        inside: set[Value] = set()
        for op in ops:  # forward: what reads edges, and what reads that
            if not (inside.isdisjoint(op.operands) and own.isdisjoint(op.operands)):
                inside.add(op.result)
        if not inside:
            continue
        of_shape = set(ops)
        read_outside = {*block.results, *(value for op in block.ops if op not in of_shape for value in op.operands)}
        for op in reversed(ops):  # backward: what nothing else reads
            if op.result not in inside and op.result not in read_outside:
                inside.add(op.result)
            elif op.result not in inside:
                read_outside.update(op.operands)
        chosen = [op for op in ops if op.result in inside]
        cuts = [{0, extent} for extent in chosen[0].result.type.static_shape]
        for op in chosen:
            for operand in op.operands:
                if operand.shape == shape and operand not in inside:
                    for mine, more in zip(cuts, _cuts(operand), strict=True):
                        mine |= more
        count = math.prod(len(places) - 1 for places in cuts)
        if count <= MOST_PIECES and count * len(chosen) <= MOST_OPS:
            yield _Cluster(chosen, [sorted(places) for places in cuts], inside & read_outside)


def _is_wide(value: Value) -> bool:
    return value.type.is_static and value.ndim > 0 and value.type.size >= LEAST_ELEMENTS


def _cuts(value: Value) -> list[set[int]]:
    """Where along each axis a value changes from one array to another, if it is made up of slices or padded."""
    cuts: list[set[int]] = [set() for _ in range(value.ndim)]
    op, extents = value.op, value.type.static_shape if value.type.is_static else ()
    if op is None or not extents or 0 in extents:
        return cuts
    if op.primitive is slice_ and max(op.attributes["strides"]) == 1:
        for axis, inner in enumerate(_cuts(op.operands[0])):
            start = op.attributes["start"][axis]
            cuts[axis] = {cut - start for cut in inner if 0 < cut - start < extents[axis]}
    elif op.primitive is pad and not any(op.attributes["interior"]):
        for axis, extent in enumerate(extents):
            low, high = op.attributes["low"][axis], op.attributes["high"][axis]
            cuts[axis] = {cut for cut in (low, extent - high) if 0 < cut < extent}
    elif op.primitive is concatenate and all(_is_sliced(operand) for operand in op.operands):
        position, dimension = 0, op.attributes["dimension"]
        for operand in op.operands:
            for axis, inner in enumerate(_cuts(operand)):
                cuts[axis] |= {cut + position for cut in inner} if axis == dimension else inner
            position += operand.type.static_shape[dimension]
            cuts[dimension] |= {position} if position < extents[dimension] else set()
    return cuts


def _is_sliced(value: Value) -> bool:
    """Whether a part of a concatenation is there anyway: what is computed for it is written to its place at once."""
    return value.op is None or value.op.primitive in (slice_, concatenate)


class _Cluster:
    """Ops to be cut at ``cuts``; the ``wanted`` results are put together again."""

    def __init__(self, ops: Sequence[Op], cuts: Sequence[Sequence[int]], wanted: set[Value]) -> None:
        self.ops, self.cuts, self.wanted = ops, cuts, wanted
        self.boxes: list[Box] = list(product(*(pairwise(places) for places in cuts)))
        self.parts: dict[Value, dict[Box, Value]] = {}

    def cut(self, op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value]:
        found = self.parts[op.result] = {}
        for box in self.boxes:
            parts = [
                self.parts[old][box] if old in self.parts else _part(new, box[len(box) - new.ndim :], emit)
                for old, new in zip(op.operands, operands, strict=True)
            ]
            found[box] = emit(op.primitive, parts, op.attributes)
        return (self._whole(found, emit),) if op.result in self.wanted else ()

    def _whole(self, found: dict[Box, Value], emit: Emit) -> Value:
        """Put together along the last axis first."""
        rows = list(found.values())
        for axis in reversed(range(len(self.cuts))):
            count = len(self.cuts[axis]) - 1
            if count > 1:
                groups = [rows[first : first + count] for first in range(0, len(rows), count)]
                rows = [emit(concatenate, group, {"dimension": axis}) for group in groups]
        return rows[0]


def _part(value: Value, box: Box, emit: Emit) -> Value:
    """A box of a value, read from what it is made of; axes of extent 1 are broadcast, and stay."""
    shape = value.type.static_shape
    box = tuple((0, 1) if extent == 1 else ends for extent, ends in zip(shape, box, strict=True))
    if all(ends == (0, extent) for extent, ends in zip(shape, box, strict=True)):
        return value
    op = value.op
    if op is not None and op.primitive is slice_ and max(op.attributes["strides"]) == 1:
        moved = zip(box, op.attributes["start"], strict=True)
        return _part(op.operands[0], tuple((low + start, high + start) for (low, high), start in moved), emit)
    if op is not None and op.primitive is pad and not any(op.attributes["interior"]):
        inner, number = op.operands
        moved = zip(box, op.attributes["low"], strict=True)
        inside = tuple((low - start, high - start) for (low, high), start in moved)
        within = zip(inside, inner.type.static_shape, strict=True)
        if all(low >= 0 and high <= extent for (low, high), extent in within):
            return _part(inner, inside, emit)
        within = zip(inside, inner.type.static_shape, strict=True)
        if any(high <= 0 or low >= extent for (low, high), extent in within):
            extents = tuple(high - low for low, high in box)
            return emit(broadcast_in_dim, (number,), {"shape": extents, "dimensions": ()})
    if op is not None and op.primitive is concatenate:
        dimension, position = op.attributes["dimension"], 0
        for operand in op.operands:
            extent = operand.type.static_shape[dimension]
            low, high = (end - position for end in box[dimension])
            if low >= 0 and high <= extent:
                return _part(operand, (*box[:dimension], (low, high), *box[dimension + 1 :]), emit)
            position += extent
    attributes = {"start": tuple(low for low, _ in box), "limit": tuple(high for _, high in box)}
    return emit(slice_, (value,), {**attributes, "strides": (1,) * len(box)})
