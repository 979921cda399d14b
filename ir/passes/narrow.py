"""Slices of what is computed element by element: each computes its own part.

Where parts of one array are read apart (the gates of an LSTM, the halves of a gated unit), what reads a part can then
compute it in its own kernel, and the whole need not stand in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Block, Emit, Graph, Op, Value
from ..primitive import Elementwise
from ..primitives.contraction import dot
from ..primitives.elementwise import add
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

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        return (_narrowed(op, operands[0], emit),) if op in parts else None

    return graph.rewrite(rewrite) if parts else graph


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
