"""Slices of what is computed element by element, or of a convolution: each computes its own part.

Where parts of one array are read apart (the gates of an LSTM, the halves of a gated unit), what reads a part can then
compute it in its own kernel, and the whole need not stand in memory.  Of a convolution's result, the gradient of a
padded one is cut out: so the edge is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Block, Emit, Graph, Op, Value
from ..primitive import Elementwise
from ..primitives.contraction import dot
from ..primitives.convolution import convolution
from ..primitives.elementwise import add
from ..primitives.placement import pad
from ..primitives.view import slice_

MOST_PARTS = 8  # each computes the same ops


def narrow(graph: Graph) -> Graph:
    """``graph``, where an elementwise result that only slices read is computed in these, if they compute no more.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[4], %y: f32[]) -> (f32[2]) {
    ...   %a = multiply %x, %y : f32[4]
    ...   %b = slice %a {start=[0], limit=[2], strides=[1]} : f32[2]
    ...   %c = slice %a {start=[2], limit=[4], strides=[1]} : f32[2]
    ...   %d = add %b, %c : f32[2]
    ...   return %d
    ... }''')
    >>> from .dce import dce
    >>> print(dce(narrow(graph)))
    func @f(%x: f32[4], %y: f32[]) -> (f32[2]) {
      %v0 = slice %x {limit=[2], start=[0], strides=[1]} : f32[2]
      %b  = multiply %v0, %y                             : f32[2]
      %v1 = slice %x {limit=[4], start=[2], strides=[1]} : f32[2]
      %c  = multiply %v1, %y                             : f32[2]
      %d  = add %b, %c                                   : f32[2]
      return %d
    }
    """
    parts = {op for block in _blocks(graph) for op in _parts(block)}
    if not parts:
        return graph
    uses = graph.uses()

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if op not in parts:
            return None
        whole, maker = operands[0], op.operands[0].op
        assert maker is not None
        if maker.primitive is convolution:
            return (_cut_convolution(op, whole, uses[maker.operands[0]] == 1, emit),)
        return (_narrowed(op, whole, emit),)

    return graph.rewrite(rewrite)


def _blocks(block: Block) -> list[Block]:
    """The block and those of its ops' regions."""
    return [block, *(inner for op in block.ops for region in op.regions for inner in _blocks(region))]


def _parts(block: Block) -> list[Op]:
    """The slices that can compute their part."""
    others = {*block.results}
    slices: dict[Value, list[Op]] = {}
    for op in block.ops:
        if op.primitive is slice_:
            slices.setdefault(op.operands[0], []).append(op)
        else:
            others.update(op.operands)
    return [
        op for whole, ops in slices.items() if whole not in others and _can_be_apart(whole, ops) for op in ops
    ]  # fmt: skip


def _can_be_apart(whole: Value, slices: Sequence[Op]) -> bool:
    maker = whole.op
    if maker is not None and maker.primitive is convolution and len(slices) == 1:
        return _is_cut(slices[0])
    if maker is None or not isinstance(maker.primitive, Elementwise) or len(slices) > MOST_PARTS:
        return False
    if not all(value.type.is_static and value.type.size for value in (*maker.operands, *(op.result for op in slices))):
        return False
    if maker.primitive is add and any(x.op is not None and x.op.primitive is dot for x in maker.operands):
        return False  # which is part of the product
    return sum(op.result.type.size for op in slices) <= whole.type.size


def _narrowed(op: Op, whole: Value, emit: Emit) -> Value:
    """A slice of an elementwise op's result, as the op on slices."""
    start, limit, strides = (op.attributes[name] for name in ("start", "limit", "strides"))

    def part(value: Value) -> Value:
        axes = range(whole.ndim - value.ndim, whole.ndim)
        stretched = [extent == 1 for extent in value.shape]
        if all(stretched):
            return value
        attributes = {
            name: tuple(alone if one else numbers[axis] for one, axis in zip(stretched, axes, strict=True))
            for name, numbers, alone in (("start", start, 0), ("limit", limit, 1), ("strides", strides, 1))
        }
        return emit(slice_, (value,), attributes)

    maker = whole.op
    assert maker is not None
    return emit(maker.primitive, [part(operand) for operand in maker.operands], maker.attributes)


def _is_cut(op: Op) -> bool:
    """Whether a slice cuts places out of a convolution's result."""
    x, y = op.operands[0].type, op.result.type
    if not x.is_static or not y.size or set(op.attributes["strides"]) != {1}:
        return False
    return x.shape != y.shape and x.shape[:2] == y.shape[:2]


def _cut_convolution(op: Op, whole: Value, alone: bool, emit: Emit) -> Value:
    """A slice of a convolution as that of what its windows show; where nothing else reads that, less is padded."""
    maker = whole.op
    assert maker is not None
    x, weights = maker.operands
    strides, dilations = ((1, 1, *maker.attributes[name]) for name in ("strides", "dilations"))
    kernel = (1, 1, *weights.type.static_shape[2:])
    start = tuple(first * stride for first, stride in zip(op.attributes["start"], strides, strict=True))
    limit = tuple(
        (last - 1) * stride + dilation * (size - 1) + 1
        for last, stride, dilation, size in zip(op.attributes["limit"], strides, dilations, kernel, strict=True)
    )
    limit = (x.type.static_shape[0], x.type.static_shape[1], *limit[2:])
    inside = _cut_pad(x, start, limit, emit) if alone else None
    if inside is None:
        inside = emit(slice_, (x,), {"start": start, "limit": limit, "strides": (1,) * x.ndim})
    return emit(convolution, (inside, weights), maker.attributes)


def _cut_pad(x: Value, start: Sequence[int], limit: Sequence[int], emit: Emit) -> Value | None:
    """A slice of a pad as a smaller one, where only the fill is cut off."""
    if x.op is None or x.op.primitive is not pad:
        return None
    low, high, interior = (x.op.attributes[name] for name in ("low", "high", "interior"))
    before = tuple(edge - first for edge, first in zip(low, start, strict=True))
    after = tuple(edge - extent + last for edge, extent, last in zip(high, x.type.static_shape, limit, strict=True))
    if min(*before, *after) < 0:
        return None
    return emit(pad, x.op.operands, {"low": before, "high": after, "interior": interior})
