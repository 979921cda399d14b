"""Loop-invariant motion: what is the same in each step of a loop is computed before it.

An op moves out where all that it reads is the same in each step.  Ops that only rearrange or count stay, for a kernel
does that for nothing, and so do those whose results are larger than what they read, unless they are costly.  A carry
that no step changes is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..facts import replace
from ..graph import Block, Constant, Emit, Graph, Op, Value
from ..primitive import Elementwise, Library, View
from ..primitives.control import Control, Layout, case, scan


def hoist(graph: Graph) -> Graph:
    """``graph`` with what does not change in loops computed before them.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%w: f32[3], %x: f32[3]) -> (f32[3]) {
    ...   %y = scan %w, %x {carries=1, constants=1, length=9} : f32[3]
    ...     (%i: i64[], %w: f32[3], %x: f32[3]) {
    ...       %a = exponential %w : f32[3]
    ...       %b = multiply %a, %x : f32[3]
    ...       return %b
    ...     }
    ...   return %y
    ... }''')
    >>> print(hoist(graph))
    func @f(%w: f32[3], %x: f32[3]) -> (f32[3]) {
      %a = exponential %w                                 : f32[3]
      %y = scan %w, %a, %x {carries=1, constants=2, length=9} : f32[3]
        (%i: i64[], %w_1: f32[3], %a_1: f32[3], %x_1: f32[3]) {
          %b = multiply %a_1, %x_1 : f32[3]
          return %b
        }
      return %y
    }
    """
    if not any(op.regions for op in graph.ops):
        return graph

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if not op.regions or op.primitive is case:
            return None
        return _Loop(op).hoisted(operands, emit)

    return graph.rewrite(rewrite)


class _Loop:
    def __init__(self, op: Op) -> None:
        assert isinstance(op.primitive, Control)
        self.op, self.primitive = op, op.primitive
        self.layout: Layout = op.primitive.layout_of(op)
        (self.body,) = op.primitive.bodies_of(op)
        length = op.attributes.get("length")
        self.has_steps = op.primitive is scan and isinstance(length, int) and length > 0
        first = self.layout.first_carry
        self.unchanged = [  # carries, by number
            number
            for number in range(self.layout.carries)
            if self.body.results[number] is self.body.parameters[first + number]
        ]
        # The parameters that are the same in each step.
        self.constants = [*range(self.layout.counters, first), *(first + number for number in self.unchanged)]
        self.parts = [_Part(self, region) for region in op.regions]

    def hoisted(self, operands: Sequence[Value], emit: Emit) -> Sequence[Value] | None:
        """The loop's results, those of a loop that has less to do."""
        read = [value for part in self.parts for value in part.read]
        if not read and not self.unchanged:
            return None
        layout, op = self.layout, self.op
        before = [operands[layout.operand(number)] for number in self.constants]
        before += [value for part in self.parts for value in part.move_out(before, emit)]
        emit.location = op.location
        carries = [number for number in range(layout.carries) if number not in self.unchanged]
        start = [operands[layout.operand(layout.first_carry + number)] for number in carries]
        given = [*before, *start, *operands[layout.operand(layout.first_input) :]]
        attributes = self.primitive.attributes_of(
            op.attributes,
            replace(layout, constants=len(before), carries=len(carries)),
            len(op.results) > layout.carries,
        )
        regions = [part.rest(read, carries) for part in self.parts]
        found = iter(emit.several(self.primitive, given, attributes, regions))
        return [
            operands[layout.operand(layout.first_carry + number)] if number in self.unchanged else next(found)
            for number in range(len(op.results))
        ]


class _Part:
    """One of a loop's regions: which of its ops ``stay``, and what they ``read`` of the others."""

    def __init__(self, loop: _Loop, region: Block) -> None:
        self.loop, self.region = loop, region
        known = {region.parameters[number] for number in loop.constants}
        self.invariant: list[Op] = []
        for op in region.ops:
            if self._may_move(op) and all(isinstance(v, Constant) or v in known for v in op.operands):
                known.add(op.result)
                self.invariant.append(op)
        invariant = set(self.invariant)
        needed = set(region.results)
        read: dict[Value, None] = {}
        self.stay: list[Op] = []
        for op in reversed(region.ops):
            if op in invariant and (needed.isdisjoint(op.results) or _is_worth_moving(op)):
                read.update(dict.fromkeys(value for value in op.results if value in needed))
            else:
                self.stay.insert(0, op)
                needed.update(op.operands)
        self.read = list(read)

    def _may_move(self, op: Op) -> bool:
        if op.regions or len(op.results) != 1 or not op.result.type.is_static:
            return False
        return self.loop.has_steps or not isinstance(op.primitive, Library)  # which may raise

    def move_out(self, constants: Sequence[Value], emit: Emit) -> list[Value]:
        """What the ops that stay read of those that go, computed outside."""
        parameters = [self.region.parameters[number] for number in self.loop.constants]
        outside = dict(zip(parameters, constants, strict=False))
        wanted = set(self.read)
        going = []
        for op in reversed(self.invariant):
            if op.result in wanted:
                going.append(op)
                wanted.update(op.operands)
        for op in reversed(going):
            emit.location = op.location
            value = emit(op.primitive, [outside.get(operand, operand) for operand in op.operands], op.attributes)
            value.name = op.result.name
            outside[op.result] = value
        return [outside[value] for value in self.read]

    def rest(self, read: Sequence[Value], carries: Sequence[int]) -> Block:
        """The region without what has gone; ``read`` is what all regions read of that."""
        loop, region, layout = self.loop, self.region, self.loop.layout
        own = set(self.read)
        parameters = [region.parameters[number] for number in (*range(layout.counters), *loop.constants)]
        parameters += [value if value in own else Value(value.type) for value in read]
        parameters += [region.parameters[layout.first_carry + number] for number in carries]
        parameters += region.parameters[layout.first_input :]
        results = region.results
        if region is loop.body:
            results = [results[number] for number in carries] + results[layout.carries :]
        return Block(parameters, self.stay, results)


def _is_worth_moving(op: Op) -> bool:
    primitive = op.primitive
    if isinstance(primitive, View) or not op.operands:
        return False
    if isinstance(primitive, Elementwise) and primitive.exact:
        return op.result.type.size <= sum(operand.type.size for operand in op.operands)
    return True
