"""Loops in two: what is only added up over the steps is added up by a loop of its own.

The gradient of a recurrent layer's weights is a sum over the steps, of products of what each of them computes; nothing
else waits for it.  A loop without it has less to do in each step, its rows may be independent of one another, and the
loop that adds up need not wait for steps.  The terms and their order stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..facts import replace
from ..graph import Block, Constant, Emit, Graph, Op, Value
from ..primitive import View
from ..primitives.contraction import dot
from ..primitives.control import Control, Layout, scan


def fission(graph: Graph) -> Graph:
    """``graph`` with loops in two where products are added up in loops that have others.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%w: f32[4,4], %x: f32[1,4], %zero: f32[4,4]) -> (f32[1,4], f32[4,4]) {
    ...   %y, %sum = scan %w, %x, %zero {carries=2, constants=1, length=9} : f32[1,4], f32[4,4]
    ...     (%i: i64[], %w: f32[4,4], %x: f32[1,4], %so_far: f32[4,4]) {
    ...       %a = dot %x, %w : f32[1,4]
    ...       %b = dot %a, %x {transpose_lhs} : f32[4,4]
    ...       %c = add %so_far, %b : f32[4,4]
    ...       return %a, %c
    ...     }
    ...   return %y, %sum
    ... }''')
    >>> print(fission(graph))
    func @f(%w: f32[4,4], %x: f32[1,4], %zero: f32[4,4]) -> (f32[1,4], f32[4,4]) {
      %y, %v0, %v1 = scan %w, %x {carries=1, constants=1, length=9}              : f32[1,4], f32[9,1,4], f32[9,1,4]
        (%i: i64[], %w_1: f32[4,4], %x_1: f32[1,4]) {
          %a = dot %x_1, %w_1 : f32[1,4]
          return %a, %a, %x_1
        }
      %sum         = scan %w, %zero, %v0, %v1 {carries=1, constants=1, length=9} : f32[4,4]
        (%i_1: i64[], %w_2: f32[4,4], %so_far: f32[4,4], %a_1: f32[1,4], %x_2: f32[1,4]) {
          %b = dot %a_1, %x_2 {transpose_lhs} : f32[4,4]
          %c = add %so_far, %b                : f32[4,4]
          return %c
        }
      return %y, %sum
    }
    """
    if not any(op.primitive is scan for op in graph.walk()):
        return graph

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if op.primitive is not scan or not isinstance(op.attributes["length"], int):
            return None
        loop = _Loop(op)
        return loop.in_two(operands, emit) if loop.is_worth_it() else None

    return graph.rewrite(rewrite)


class _Loop:
    """A loop: its ``sums`` are carries that only they read, by number; the ops of ``tail`` compute nothing else."""

    def __init__(self, op: Op) -> None:
        assert isinstance(op.primitive, Control)
        self.op, self.primitive = op, op.primitive
        self.layout: Layout = op.primitive.layout_of(op)
        (self.body,) = op.regions
        self.sums = self._sums()
        carries = self.body.parameters[self.layout.first_carry : self.layout.first_input]
        self.rest = [number for number in range(self.layout.carries) if number not in self.sums]
        self.given = {*self.body.parameters} - {carries[number] for number in self.rest}
        self.stacked = dict.fromkeys(self.body.results[self.layout.carries :])
        self.tail = self._tail() if self.sums else []

    def _sums(self) -> list[int]:
        """The carries on which no result depends but the next one's own."""
        layout, body = self.layout, self.body
        reaches: dict[Value, set[int]] = {
            body.parameters[layout.first_carry + number]: {number} for number in range(layout.carries)
        }
        for op in body.ops:
            read = set().union(*(reaches.get(value, ()) for value in (*op.operands, *_inner(op))))
            reaches.update((result, read) for result in op.results)
        others = set[int]()
        for position, value in enumerate(body.results):
            others |= reaches.get(value, set()) - {position}
        return [number for number in range(layout.carries) if number not in others]

    def _tail(self) -> list[Op]:
        """What depends on the sums and, where this leaves no more to be stacked, what only that reads."""
        layout, body = self.layout, self.body
        after = {body.parameters[layout.first_carry + number] for number in self.sums}
        tail: list[Op] = []
        for op in body.ops:
            if not after.isdisjoint((*op.operands, *_inner(op))):
                after.update(op.results)
                tail.append(op)
        read = {value for op in tail for value in op.operands}
        chosen = set(tail)
        for op in reversed(body.ops):
            if op in chosen or op.regions or len(op.results) != 1 or op.result not in read:
                continue
            users = [user for user in body.ops if op.result in user.operands]
            if op.result in body.results or not all(user in chosen for user in users):
                continue
            if isinstance(op.primitive, View) or self._new_bytes(op.operands, read) <= op.result.type.nbytes:
                chosen.add(op)
                read.update(op.operands)
        return [op for op in body.ops if op in chosen]

    def _new_bytes(self, values: Sequence[Value], read: set[Value]) -> int:
        """How many bytes of the values would have to be stacked that are not now."""
        new = {value for value in values if value not in read and self._is_to_be_stacked(value)}
        return sum(value.type.nbytes for value in new if value not in self.stacked)

    def _is_to_be_stacked(self, value: Value) -> bool:
        return not isinstance(value, Constant) and value not in self.given

    def is_worth_it(self) -> bool:
        tail = set(self.tail)
        products = [op for op in self.body.ops if op.primitive is dot]
        if all(op in tail for op in products) or not any(op in tail for op in products):
            return False
        if any(not value.type.is_static for value in self.body.results) or any(op.regions for op in self.tail):
            return False
        sums = sum(self.body.results[number].type.nbytes for number in self.sums)
        return sum(value.type.nbytes for value in self._read() if value not in self.stacked) <= sums

    def _read(self) -> list[Value]:
        """What the tail reads of what the other loop computes or carries."""
        own = {result for op in self.tail for result in op.results}
        values = [value for op in self.tail for value in op.operands]
        values += [self.body.results[number] for number in self.sums]
        return [v for v in dict.fromkeys(values) if v not in own and self._is_to_be_stacked(v)]

    def in_two(self, operands: Sequence[Value], emit: Emit) -> Sequence[Value]:
        layout, body, tail = self.layout, self.body, set(self.tail)
        first, last = layout.first_carry, layout.first_input
        start, inputs = operands[layout.operand(first) : layout.operand(last)], operands[layout.operand(last) :]
        same = operands[: layout.operand(first)]
        before, behind = body.parameters[:first], body.parameters[last:]
        read = self._read()
        emit.location = self.op.location

        stacked = [*body.results[layout.carries :], *(value for value in read if value not in self.stacked)]
        found = emit.several(
            self.primitive,
            [*same, *(start[number] for number in self.rest), *inputs],
            self._attributes(self.rest),
            [
                Block(
                    [*before, *(body.parameters[first + number] for number in self.rest), *behind],
                    [op for op in body.ops if op not in tail],
                    [*(body.results[number] for number in self.rest), *stacked],
                )
            ],
        )
        results = dict(zip(self.rest, found, strict=False))
        stacks = dict(zip(stacked, found[len(self.rest) :], strict=True))
        sums = emit.several(
            self.primitive,
            [*same, *(start[number] for number in self.sums), *inputs, *(stacks[value] for value in read)],
            self._attributes(self.sums),
            [
                Block(
                    [*before, *(body.parameters[first + number] for number in self.sums), *behind, *read],
                    self.tail,
                    [body.results[number] for number in self.sums],
                )
            ],
        )
        results.update(zip(self.sums, sums, strict=True))
        kept = found[len(self.rest) : len(self.rest) + len(body.results) - layout.carries]
        return [*(results[number] for number in range(layout.carries)), *kept]

    def _attributes(self, carries: Sequence[int]) -> dict[str, object]:
        return self.primitive.attributes_of(self.op.attributes, replace(self.layout, carries=len(carries)), True)


def _inner(op: Op) -> Sequence[Value]:
    """What the regions of an op read of the block around."""
    return [value for region in op.regions for inner in region.walk() for value in inner.operands]
