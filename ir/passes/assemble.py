"""Assembling: a sum of parts that are each padded with zeros, side by side along one axis, is their concatenation.

The gradient of ``x[0], x[1], …`` is such a sum (of which a concatenation with zeros may be a part already), and adding
whole arrays for every part would cost the square of what it yields.  A part that is added to zeros stays what it is,
but for -0.0, which becomes 0.0: so 0.0 is added to floating-point parts once.

Parts may also take turns, as in the gradient of ``x[::2], x[1::2]``: they are side by side once each stretch of a turn
is a row of its own.
"""

from __future__ import annotations

import math
from bisect import bisect, insort
from collections.abc import Sequence

import numpy as np

from ..facts import facts
from ..graph import Block, Constant, Emit, Graph, Op, Value
from ..primitives.elementwise import add
from ..primitives.placement import concatenate, pad
from ..primitives.view import broadcast_in_dim, reshape
from ..types import is_differentiable


def assemble(graph: Graph) -> Graph:
    """``graph`` with such sums as concatenations.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: i32[3], %y: i32[2]) -> (i32[5]) {
    ...   %a = pad %x, 0:i32 {low=[0], high=[2], interior=[0]} : i32[5]
    ...   %b = pad %y, 0:i32 {low=[3], high=[0], interior=[0]} : i32[5]
    ...   %c = add %a, %b : i32[5]
    ...   return %c
    ... }''')
    >>> from .dce import dce
    >>> print(dce(assemble(graph)))
    func @f(%x: i32[3], %y: i32[2]) -> (i32[5]) {
      %c = concatenate %x, %y {dimension=0} : i32[5]
      return %c
    }
    """
    sums = _Sums(graph)

    def rule(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        parts = sums.found.get(op)
        return None if parts is None else (_assembled(parts, op.result, emit),)

    return graph.rewrite(rule) if sums.found else graph


@facts
class _Parts:
    """What is not zero in a value: operands of pads, by where they start along the axis, or within turns so long."""

    axis: int
    starts: list[int]  # in order
    by_start: dict[int, Value]
    turn: int = 1

    def stop(self, start: int) -> int:
        return start + (self.by_start[start].type.static_shape[self.axis] if self.turn == 1 else 1)

    def has_room(self, other: _Parts) -> bool:
        """Whether no part of ``other`` overlaps one of these."""
        for start in other.starts:
            at = bisect(self.starts, start)
            if at > 0 and self.stop(self.starts[at - 1]) > start:
                return False
            if at < len(self.starts) and self.starts[at] < other.stop(start):
                return False
        return True

    def join(self, other: _Parts) -> None:
        for start, part in other.by_start.items():
            insort(self.starts, start)
            self.by_start[start] = part


class _Sums:
    """``found``: the additions that make a whole, with its parts."""

    def __init__(self, graph: Graph) -> None:
        self.uses = graph.uses()
        self.parts: dict[Value, _Parts] = {}
        self.found: dict[Op, _Parts] = {}
        self._block(graph)

    def _block(self, block: Block) -> None:
        for op in block.ops:
            for region in op.regions:
                self._block(region)
            if op.primitive is pad:
                parts = _padded(op)
                if parts is not None:
                    self.parts[op.result] = parts
            elif op.primitive is concatenate:
                parts = _concatenated(op)
                if parts is not None:
                    self.parts[op.result] = parts
            elif op.primitive is add:
                self._add(op)

    def _add(self, op: Op) -> None:
        x, y = op.operands
        left, right = self.parts.get(x), self.parts.get(y)
        if left is None or right is None or x.shape != y.shape:
            return
        if (left.axis, left.turn) != (right.axis, right.turn):
            return
        if len(left.by_start) < len(right.by_start):
            left, right, x, y = right, left, y, x
        if any(len(parts.by_start) > 1 and self.uses[v] > 1 for v, parts in ((x, left), (y, right))):
            return  # a sum that is read elsewhere stands by itself
        if not left.has_room(right):
            return
        for value in (x, y):
            if value.op in self.found:
                del self.found[value.op]
        if len(left.by_start) == 1:
            left = _Parts(
                left.axis, [*left.starts], {**left.by_start}, left.turn
            )  # a pad may be a part of several sums
        left.join(right)
        self.parts[op.result] = self.found[op] = left


def _padded(op: Op) -> _Parts | None:
    """The operand of a pad with zeros along one axis."""
    x, fill = op.operands
    low, high, interior = (op.attributes[name] for name in ("low", "high", "interior"))
    axes = [axis for axis in range(x.ndim) if low[axis] or high[axis] or interior[axis]]
    if len(axes) != 1 or not is_zero(fill) or 0 in x.shape:
        return None
    (axis,) = axes
    turn = interior[axis] + 1
    if turn > 1 and low[axis] + high[axis] != interior[axis]:
        return None  # it does not have its turn each time
    return _Parts(axis, [low[axis]], {low[axis]: x}, turn)


def _concatenated(op: Op) -> _Parts | None:
    """The operands of a concatenation that are not zero, if some are."""
    parts, position = _Parts(op.attributes["dimension"], [], {}), 0
    for operand in op.operands:
        maker = operand.op
        if maker is None or maker.primitive is not broadcast_in_dim or not is_zero(maker.operands[0]):
            parts.starts.append(position)
            parts.by_start[position] = operand
        position += operand.type.static_shape[parts.axis]
    return parts if 0 < len(parts.starts) < len(op.operands) else None


def is_zero(value: Value) -> bool:
    """Whether a value is the constant 0, but not -0.0."""
    if not isinstance(value, Constant) or value.array.size != 1 or value.dtype.kind == "c":
        return False
    number = value.array.item()
    return bool(number == 0) and math.copysign(1, number) > 0


def _assembled(parts: _Parts, whole: Value, emit: Emit) -> Value:
    zero = Constant(np.zeros((), whole.dtype))
    shape, axis = whole.type.static_shape, parts.axis
    if parts.turn > 1:
        shape, axis = (*shape[:axis], shape[axis] // parts.turn, parts.turn, *shape[axis + 1 :]), axis + 1
    operands: list[Value] = []
    position = 0

    def fill(until: int) -> None:
        if until > position:
            gap = (*shape[:axis], until - position, *shape[axis + 1 :])
            operands.append(emit(broadcast_in_dim, [zero], {"shape": gap, "dimensions": ()}))

    for start in parts.starts:
        fill(start)
        part = emit.rewriter.now(parts.by_start[start])
        part = emit(add, [part, zero], {}) if is_differentiable(part.dtype) else part
        if parts.turn > 1:
            part = emit(reshape, [part], {"shape": (*shape[:axis], 1, *shape[axis + 1 :])})
        operands.append(part)
        position = parts.stop(start)
    fill(shape[axis])
    found = emit(concatenate, operands, {"dimension": axis})
    return found if parts.turn == 1 else emit(reshape, [found], {"shape": whole.shape})
