"""Branches and loops of a program.

A region's calls are planned as a program's are, and use the same arena and the same constants.  Its parameters and
results have no memory of their own: what stays the same is where the op's operand is; what changes from step to step
is behind a *cursor*, an address that the loop moves:

* a carry has two buffers, of which the step reads one and writes the other, one of them the op's result;
* an input's cursor goes through the whole input, and that of a stacked result through the whole result.

What has an extent that is found out by a loop (its number of steps, a symbol) is in memory that grows, whose address is
a cursor too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np

from tracejit.ir import Constant, Location, Op, TensorType, Value
from tracejit.ir.facts import facts, replace
from tracejit.ir.primitives.control import Control
from tracejit.ir.types import Symbol, uint8

from .blockwise import BlockwiseCall
from .memory import Lifetime, plan_arena
from .products import DotCall

if TYPE_CHECKING:
    from .planning import _Plan
    from .program import Call


APART_BYTES = 1 << 19  # of a step's values, which need not share memory then


@facts(frozen=True)
class Place:
    """Where a value's memory is: ``space`` is ``input``, ``output``, ``constant``, ``arena``,
    ``scratch`` (memory of a thread's own) or ``cursor``."""

    space: str
    number: int  # of the input, output, constant or cursor; the byte offset in the arena or in a thread's memory
    start: int = 0  # where it begins there, in bytes

    def __str__(self) -> str:
        return f"{self.space}[{self.number}]{f' + {self.start}' if self.start else ''}"


@facts
class CopyCall:
    """A value's bytes, copied to another's memory."""

    source: Value
    target: Value
    location: Location | None = None

    @property
    def buffers(self) -> list[Value]:
        return [self.source, self.target]

    @property
    def work(self) -> int:
        return self.target.type.size

    def nested(self) -> Sequence[Body]:
        return ()


@facts
class Body:
    """A region's calls, and the plan that they are part of."""

    plan: _Plan

    @property
    def calls(self) -> list[Call]:
        return self.plan.calls


@facts
class BranchCall:
    """One of several bodies, as ``selector`` says: a bool, or an int64 that is brought into range."""

    op: Op
    selector: Value
    bodies: list[Body]
    scratch: Value  # the bodies' part of the arena

    @property
    def buffers(self) -> list[Value]:
        return [self.selector, *self.op.operands[1:], *self.op.results, self.scratch]

    @property
    def location(self) -> Location | None:
        return self.op.location

    @property
    def work(self) -> int:
        return max(sum(call.work for call in body.calls) for body in self.bodies)

    def nested(self) -> Sequence[Body]:
        return self.bodies


@facts
class Carry:
    """What goes from step to step: it starts as ``first``; a step reads ``current`` and writes ``next``."""

    first: Value
    current: Value
    next: Value
    result: Value
    spare: Value  # the other buffer


@facts
class Slices:
    """A value whose slices the steps read or write, each at the number of the step."""

    whole: Value
    step: Value


@facts
class Loop:
    """A loop, for the plan of its step: what is the same in each step by what it is in the plan ``around``, and how
    many steps there are.  ``read`` is what the steps read besides, of the plan around."""

    around: _Plan
    outside: Mapping[Value, Value]
    steps: float
    read: dict[Value, None] = field(default_factory=dict)


@facts
class LoopCall:
    """A body that runs ``length`` times, or as long as ``predicate`` is true after the condition's calls."""

    op: Op
    body: Body
    carries: list[Carry]
    inputs: list[Slices]
    stacked: list[Slices]
    scratch: Value  # the bodies' part of the arena
    read: Sequence[Value]  # besides the operands
    counter: Value | None = None  # the number of the step, for the body
    condition: Body | None = None
    predicate: Value | None = None
    length: int | None = None
    reverse: bool = False
    steps: int | None = None  # the word that holds the number of steps, where that is found out

    @property
    def buffers(self) -> list[Value]:
        own = [carry.spare for carry in self.carries] + [self.scratch, *self.read]
        own += [value for value in (self.counter, self.predicate) if value is not None]
        return [*self.op.operands, *self.op.results, *own]

    @property
    def location(self) -> Location | None:
        return self.op.location

    @property
    def work(self) -> int:
        return (self.length or 1) * sum(call.work for body in self.nested() for call in body.calls)

    def nested(self) -> Sequence[Body]:
        return [self.body] if self.condition is None else [self.condition, self.body]

    def title(self, places: Mapping[Value, Place]) -> str:
        """How the loop goes on, for people."""
        if self.condition is not None:
            return "while" if self.steps is None else f"while, counting in cursor[{self.steps}]"
        length = str(self.length) if self.steps is None else f"cursor[{self.steps}]"
        counter = "" if self.counter is None else f"{places[self.counter]} "
        return f"for {counter}{'from the last ' if self.reverse else ''}in {length}"


def walk(calls: Sequence[Call]) -> Iterator[Call]:
    """Every call, those within branches, loops and blocks of rows included."""
    for call in calls:
        yield call
        if isinstance(call, BlockwiseCall):
            yield from call.calls
        for body in call.nested():
            yield from walk(body.calls)


@facts
class Memory:
    """Where the values of a program are; shared by the plans of all its regions."""

    places: dict[Value, Place] = field(default_factory=dict)
    aliases: dict[Value, Value] = field(default_factory=dict)  # a value → the value whose memory it is, or a part of it
    starts: dict[Value, int] = field(default_factory=dict)  # and where there it begins, in bytes, if not at 0
    constants: list[np.ndarray] = field(default_factory=list)
    cursors: int = 0
    growing: list[int] = field(default_factory=list)  # cursors of memory that grows

    def root(self, value: Value) -> Value:
        while value in self.aliases:
            value = self.aliases[value]
        return value

    def place(self, value: Value) -> Place:
        """Where a value is whose root has a place."""
        start = 0
        while value in self.aliases:
            start += self.starts.get(value, 0)
            value = self.aliases[value]
        found = self.places[value]
        return replace(found, start=found.start + start) if start else found

    def words(self, count: int) -> int:
        """The first of some words that change while the program runs: cursors, and numbers of steps."""
        first = self.cursors
        self.cursors += count
        return first

    def cursor(self, value: Value, words: int = 1) -> None:
        """Put a value behind a new cursor."""
        self.places[value] = Place("cursor", self.words(words))

    def grows(self, value: Value) -> None:
        """A value whose size is found out: its cursor, with the bytes that there is room for behind it."""
        root = self.root(value)
        if root not in self.places:
            self.cursor(root, 2)
            self.growing.append(self.places[root].number)

    def constant(self, value: Constant) -> None:
        if value not in self.places:
            self.places[value] = Place("constant", len(self.constants))
            self.constants.append(np.asarray(value.array, order="C"))


def runs_natively(op: Op) -> bool:
    """Whether a branch or a loop can be planned: not a loop that carries what has an extent that is found out."""
    primitive = op.primitive
    assert isinstance(primitive, Control)
    layout = primitive.layout_of(op)
    return all(value.type.is_static for value in op.regions[-1].parameters[layout.first_carry :])


# Planning -------------------------------------------------------------------------------------------


def lower_control(plan: _Plan, op: Op) -> None:
    """Append the call of a branch or a loop."""
    scratch = Value(TensorType(uint8, ()))  # its type says how large it is as soon as that is known
    for result in op.results:
        if not result.type.is_static:
            plan.memory.grows(result)
    if op.primitive.name == "case":
        plan.calls.append(_branch(plan, op, scratch))
    else:
        plan.calls.append(_loop(plan, op, scratch))


def _branch(plan: _Plan, op: Op, scratch: Value) -> BranchCall:
    selector = plan.as_selector(op.operands[0])
    bodies = []
    for region in op.regions:
        nested = plan.nested(region)
        for parameter, operand in zip(region.parameters, op.operands[1:], strict=True):
            plan.memory.aliases[parameter] = operand
        nested.lower(list(zip(region.results, op.results, strict=True)))
        bodies.append(Body(nested))
    return BranchCall(op, selector, bodies, scratch)


def _loop(plan: _Plan, op: Op, scratch: Value) -> LoopCall:
    primitive, memory = op.primitive, plan.memory
    assert isinstance(primitive, Control)
    layout = primitive.layout_of(op)
    *conditions, region = op.regions
    parameters = region.parameters
    same = {region.parameters[n]: op.operands[layout.operand(n)] for n in range(layout.counters, layout.first_carry)}
    for number in range(layout.counters, layout.first_carry):
        for block in op.regions:
            memory.aliases[block.parameters[number]] = op.operands[layout.operand(number)]
    carries, targets = [], []
    for number in range(layout.carries):
        position = layout.first_carry + number
        current, following = parameters[position], Value(parameters[position].type)
        memory.cursor(current, 3)  # this one, the next one, and the sum of the two addresses
        memory.places[following] = Place("cursor", memory.places[current].number + 1)
        for block in conditions:
            memory.aliases[block.parameters[position]] = current
        operand, result = op.operands[layout.operand(position)], op.results[number]
        carries.append(Carry(operand, current, following, result, Value(current.type)))
        targets.append(following)
    inputs, stacked = [], []
    for parameter, operand in zip(parameters[layout.first_input :], op.operands[-layout.inputs :], strict=False):
        memory.cursor(parameter)
        inputs.append(Slices(operand, parameter))
    for value, result in zip(region.results[layout.carries :], op.results[layout.carries :], strict=True):
        step = Value(value.type)
        memory.cursor(step)
        stacked.append(Slices(result, step))
        targets.append(step)
    length = op.attributes.get("length")
    body = plan.nested(region)
    body.loop = Loop(plan, same, length if isinstance(length, int) else math.inf)
    body.lower(list(zip(region.results, targets, strict=True)))
    call = LoopCall(op, Body(body), carries, inputs, stacked, scratch, [*body.loop.read])
    if isinstance(length, Symbol):
        call.steps = plan.symbols[length]
    else:
        call.length = length
    if layout.counters:
        call.counter, call.reverse = parameters[0], op.attributes.get("reverse", False)
    if conditions:
        condition = plan.nested(conditions[0])
        condition.lower([])
        call.condition = Body(condition)
        (call.predicate,) = conditions[0].results
    return call


def layout_of(plan: _Plan, foreign: set[Value]) -> int:
    """Plan the part of the arena that a plan's values take; how many bytes that is.

    Not those that are somewhere already, nor the ``foreign`` ones, of the blocks around.
    """
    memory = plan.memory
    lives: dict[Value, Lifetime] = {}
    for step, call in enumerate(plan.calls):
        bodies = call.nested()
        if bodies:
            around = foreign | {memory.root(value) for value in call.buffers}
            size = max(layout_of(body.plan, around) for body in bodies)
            call.scratch.type = TensorType(uint8, (size,))  # type: ignore[union-attr]
        for value in call.buffers:
            root = memory.root(value)
            if isinstance(root, Constant):
                memory.constant(root)
            elif root not in memory.places and root not in foreign:
                life = lives.get(root)
                lives[root] = Lifetime(root.type.nbytes, step if life is None else life.first, step)
    if _may_be_shared(plan) and sum(life.nbytes for life in lives.values()) <= APART_BYTES:
        lives = {root: Lifetime(life.nbytes, 0, 0) for root, life in lives.items()}
    plan.offsets, size = plan_arena(lives)
    return size


def _may_be_shared(plan: _Plan) -> bool:
    """Whether threads may go through the steps of a loop each by itself, so that all of a step's values are in use."""
    return plan.loop is not None and any(isinstance(call, DotCall) for call in plan.calls)


def place(plan: _Plan, start: int) -> None:
    """Put what :func:`layout_of` has planned into the arena, from a byte on."""
    memory = plan.memory
    for value, offset in plan.offsets.items():
        memory.places[value] = Place("arena", start + offset)
    for call in plan.calls:
        for body in call.nested():
            place(body.plan, memory.places[call.scratch].number)  # type: ignore[union-attr]
