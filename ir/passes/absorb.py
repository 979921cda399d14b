"""Absorption: a step that has been done before a loop, in ops of its own, becomes the first one of the loop.

So the loop that is captured from Python's after its first trip is all of it, and that trip need not be compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Block, Constant, Emit, Graph, Op, Value
from ..primitives.control import scan


def absorb(graph: Graph) -> Graph:
    """``graph`` with loops that begin as early as they can.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%w: f32[3], %x: f32[3]) -> (f32[3]) {
    ...   %a = multiply %w, %x : f32[3]
    ...   %b = sine %a : f32[3]
    ...   %y = scan %w, %b {carries=1, constants=1, length=9} : f32[3]
    ...     (%i: i64[], %w: f32[3], %x: f32[3]) {
    ...       %a = multiply %w, %x : f32[3]
    ...       %b = sine %a : f32[3]
    ...       return %b
    ...     }
    ...   return %y
    ... }''')
    >>> from tracejit.ir.passes import dce
    >>> print(dce(absorb(graph)))
    func @f(%w: f32[3], %x: f32[3]) -> (f32[3]) {
      %y = scan %w, %x {carries=1, constants=1, length=10} : f32[3]
        (%i: i64[], %w_1: f32[3], %x_1: f32[3]) {
          %a = multiply %w_1, %x_1 : f32[3]
          %b = sine %a             : f32[3]
          return %b
        }
      return %y
    }
    """

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if op.primitive is not scan or not isinstance(op.attributes["length"], int) or op.attributes.get("reverse"):
            return None
        (body,) = op.regions
        constants, carries = op.attributes["constants"], op.attributes["carries"]
        if not carries or len(body.results) != carries or len(operands) != constants + carries:
            return None
        before = _Before(body, constants, operands)
        starts = before.find()
        if starts is None:
            return None
        attributes = {**op.attributes, "length": op.attributes["length"] + 1}
        return emit.several(scan, [*operands[:constants], *starts], attributes, op.regions)

    return graph.rewrite(rewrite)


class _Before:
    """What a loop's carries were a step before they became what it begins with."""

    def __init__(self, body: Block, constants: int, operands: Sequence[Value]) -> None:
        self.body, self.operands, self.constants = body, operands, constants
        self.places = {value: number for number, value in enumerate(body.parameters)}
        self.found: dict[Value, Value] = {}  # the body's values, and what they were

    def find(self) -> list[Value] | None:
        carries = self.operands[self.constants :]
        if not all(self._is(inner, outer) for inner, outer in zip(self.body.results, carries, strict=True)):
            return None
        parameters = self.body.parameters[1 + self.constants :]
        starts = [self.found.get(parameter, start) for parameter, start in zip(parameters, carries, strict=True)]
        return None if all(a is b for a, b in zip(starts, carries, strict=True)) else starts

    def _is(self, inner: Value, outer: Value) -> bool:
        """Whether ``outer`` is what the body's value ``inner`` was."""
        pending = [(inner, outer)]
        while pending:
            inner, outer = pending.pop()
            if inner in self.found:
                if self.found[inner] is not outer:
                    return False
                continue
            if isinstance(inner, Constant):
                if not (isinstance(outer, Constant) and _same(inner, outer)):
                    return False
                continue
            if inner.type != outer.type:
                return False
            self.found[inner] = outer
            place = self.places.get(inner)
            if place is None:
                ops = inner.op, outer.op
                if not _alike(*ops) or inner.op.results.index(inner) != outer.op.results.index(outer):  # type: ignore[union-attr]
                    return False
                pending += zip(inner.op.operands, outer.op.operands, strict=True)  # type: ignore[union-attr]
            elif place == 0 or (place <= self.constants and self.operands[place - 1] is not outer):
                return False  # the number of the step is another
        return True


def _alike(first: Op | None, second: Op | None) -> bool:
    return (
        first is not None and second is not None and first.primitive is second.primitive
        and first.attributes == second.attributes and len(first.operands) == len(second.operands)
        and not first.regions and not second.regions
    )  # fmt: skip


def _same(first: Constant, second: Constant) -> bool:
    return first.type == second.type and np.asarray(first.array).tobytes() == np.asarray(second.array).tobytes()
