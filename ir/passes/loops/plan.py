"""What a loop is to be rolled up into: which of its values stay the same, and which are needed after it."""

from __future__ import annotations

from collections.abc import Iterator

from ...facts import facts
from ...graph import Constant, Op, Value
from ...primitive import Elementwise, Generation, View
from ...primitives.elementwise import add
from ...primitives.placement import concatenate, pad, update_slice
from ...primitives.view import slice_
from ...types import is_floating, is_integer
from ..assemble import is_zero
from .recurrence import Carried, Elsewhere, Invariant, Local, Loop, Loops, Operand, Table
from .stacks import tiles

LEAST_JOINED = 4  # values of a loop's steps, one after the other in a concatenation


@facts(frozen=True)
class Accumulator:
    """A value of which each step writes a part of its own, and which nothing else in the loop reads.

    The op ``place`` puts the ``part`` in its place: into what was there, or into zeros that are then added to it.
    """

    place: int
    part: Operand
    initial: int
    is_sum: bool


class Rolled:
    """A loop, what is needed of it, and once it is written, where that is."""

    def __init__(self, table: Table, loop: Loop) -> None:
        self.table, self.loop = table, loop
        self.ops = table.ops[loop.start : loop.start + loop.period]
        self.makers = [number for number, op in enumerate(self.ops) for _ in op.results]  # ops by offset
        self.offsets = (table.first_result[loop.start : loop.start + loop.period] - loop.base).tolist()  # by op
        self.is_invariant: list[bool] = []
        self.is_inside: list[bool] = []  # of those, what is better done in each step
        self._find_invariants()
        self.is_taken: list[bool] = []  # out of what is invariant, by moving slices, of all steps at once
        for number in range(loop.period):
            self.is_taken.append(self._is_taken(number))
        self.carried: set[tuple[int, int]] = set()  # offsets and lags
        for operands in loop.operands:
            for what in operands:
                if isinstance(what, Carried):
                    self.carried.update((what.offset, lag) for lag in range(1, what.lag + 1))
        self.is_map = not self.carried and all(
            isinstance(op.primitive, Elementwise | View) and number not in loop.motions
            for number, op in enumerate(self.ops)
            if self.is_computed(number)
        )
        self.last: set[int] = set()  # offsets that are needed of the last step alone
        self.stacked: set[int] = set()  # of several
        self.loose = 0  # values of single steps that are to be taken out of stacks
        self.reverse = False
        self.values: dict[tuple[int, int], Value] = {}  # by offset, and steps before the end
        self.stacks: dict[int, Value] = {}  # by offset

    def _find_invariants(self) -> None:
        """Views, what is larger than what it is made of, and what folds need not be kept from one step to the next."""
        sizes: list[int] = []  # what lies in memory for each op
        folds: list[bool] = []
        for number, (op, operands) in enumerate(zip(self.ops, self.loop.operands, strict=True)):
            is_invariant, size, is_constant = number not in self.loop.motions, 0, op.primitive.exact
            for what in operands:
                if isinstance(what, Invariant):
                    value = self.table.value(what.number)
                    size += value.type.size
                    is_constant &= isinstance(value, Constant)
                elif isinstance(what, Local) and self.is_invariant[self.makers[what.offset]]:
                    size += sizes[self.makers[what.offset]]
                    is_constant &= folds[self.makers[what.offset]]
                else:
                    is_invariant = False
            grows = isinstance(op.primitive, Elementwise) and op.result.type.size > max(size, 1)
            is_inside = isinstance(op.primitive, View | Generation) or is_constant or grows
            self.is_invariant.append(is_invariant)
            self.is_inside.append(is_invariant and is_inside)
            sizes.append(size if is_inside else sum(result.type.size for result in op.results))
            folds.append(is_constant)

    def _is_taken(self, number: int) -> bool:
        op, operands = self.ops[number], self.loop.operands[number]
        motion = self.loop.motions.get(number)
        if motion is None:
            (what, *_) = operands or (None,)
            return (
                isinstance(op.primitive, View) and isinstance(what, Local) and self.is_taken[self.makers[what.offset]]
            )
        if op.primitive is not slice_ or self.invariant(operands[0]) is None:
            return False
        extent, stride = op.result.type.static_shape[motion.axis], op.attributes["strides"][motion.axis]
        return tiles(extent, stride, motion.stride)

    def is_computed(self, number: int) -> bool:
        """Whether an op is done in each step."""
        return not self.is_invariant[number] and not self.is_taken[number]

    def invariant(self, what: Operand) -> int | None:
        """The number of an operand that is the same in each step."""
        if isinstance(what, Local) and self.is_invariant[self.makers[what.offset]]:
            return self.loop.number(0, what.offset)
        return what.number if isinstance(what, Invariant) else None

    def index(self, step: int) -> int:
        """Where a step stands in a stack."""
        return self.loop.count - 1 - step if self.reverse else step

    # What is needed ---------------------------------------------------------------------------------

    def need(self, step: int, offset: int) -> None:
        """A value of one step is read outside."""
        before_end = self.loop.count - step
        if not self.is_computed(self.makers[offset]) or (offset, before_end) in self.carried:
            return
        if before_end == 1:
            self.last.add(offset)
        else:
            self.stacked.add(offset)
            self.loose += 1

    def need_all(self, offset: int) -> None:
        """The values of many steps are read outside."""
        if self.is_computed(self.makers[offset]):
            self.stacked.add(offset)

    # Accumulators -----------------------------------------------------------------------------------

    def accumulators(self) -> dict[int, Accumulator]:
        """The accumulators by their offsets, once all is known that is needed."""
        uses: dict[int, int] = dict.fromkeys(self.last | self.stacked, 2)
        for operands in self.loop.operands:
            for what in operands:
                if isinstance(what, Local | Carried):
                    uses[what.offset] = uses.get(what.offset, 0) + 1
        found = {}
        for number, operands in enumerate(self.loop.operands):
            offset = self.offsets[number]
            if uses.get(offset) != 1:
                continue
            accumulator = None
            if self.ops[number].primitive is update_slice:
                accumulator = self._buffer(number, *operands)
            elif self.ops[number].primitive is add:
                x, y = operands
                accumulator = self._sum(number, x, y, uses) or self._sum(number, y, x, uses)
            if accumulator is not None:
                found[offset] = accumulator
        return found

    def _buffer(self, number: int, whole: Operand, part: Operand) -> Accumulator | None:
        initial = self._initial(whole, number)
        return None if initial is None or not self._fits(number) else Accumulator(number, part, initial, is_sum=False)

    def _sum(self, number: int, whole: Operand, padded: Operand, uses: dict[int, int]) -> Accumulator | None:
        initial = self._initial(whole, number)
        if initial is None or not isinstance(padded, Local) or uses[padded.offset] > 1:
            return None
        place = self.makers[padded.offset]
        op = self.ops[place]
        if op.primitive is not pad or not (is_floating(op.result.dtype) or is_integer(op.result.dtype)):
            return None
        part, fill = self.loop.operands[place]
        if self._fits(place) and isinstance(fill, Invariant) and is_zero(self.table.value(fill.number)):
            return Accumulator(place, part, initial, is_sum=True)
        return None

    def _initial(self, what: Operand, number: int) -> int | None:
        """What an operand is at first, if later it is what the op itself has computed in the step before."""
        if isinstance(what, Carried) and what.lag == 1 and self.makers[what.offset] == number:
            return what.initial[0]
        return None

    def _fits(self, number: int) -> bool:
        """Whether the op's parts lie evenly spaced, so that they can be put in their places all at once."""
        op, motion = self.ops[number], self.loop.motions.get(number)
        if motion is None:
            return False
        extent = part_of(op).type.static_shape[motion.axis]
        return tiles(extent, step_of(op, motion.axis), motion.stride)


def part_of(op: Op) -> Value:
    """What an ``update_slice`` or a ``pad`` puts in its place."""
    return op.operands[0] if op.primitive is pad else op.operands[1]


def step_of(op: Op, axis: int) -> int:
    """How far apart it puts its elements."""
    step: int = op.attributes["interior"][axis] + 1 if op.primitive is pad else op.attributes["strides"][axis]
    return step


class Plan:
    """The loops of a block, with what is needed of each."""

    def __init__(self, table: Table, loops: Loops) -> None:
        self.table, self.loops = table, loops
        self.rolled = {loop: Rolled(table, loop) for loop in loops.found}
        for number in self.straight():
            for entry in self.operands(number):
                self._need(entry)
        for number in table.block_results:
            self._need(number)
        for loop in loops.found:
            for operands in loop.operands:
                for what in operands:
                    if isinstance(what, Invariant):
                        self._need(what.number)
                    elif isinstance(what, Carried):
                        for number in what.initial:
                            self._need(number)
                    elif isinstance(what, Elsewhere):
                        self._need(what)

    def straight(self) -> Iterator[int]:
        """The ops outside of loops."""
        number = 0
        for loop in self.loops.found:
            yield from range(number, loop.start)
            number = loop.stop
        yield from range(number, len(self.table.ops))

    def operands(self, number: int) -> list[int | Elsewhere]:
        """An op's operands; those of a concatenation that are a loop's step by step are one entry."""
        operands = self.table.operands_of(number)
        if self.table.ops[number].primitive is not concatenate:
            return [*operands]
        entries: list[int | Elsewhere] = []
        position = 0
        while position < len(operands):
            joined = self._joined(operands, position)
            entries.append(operands[position] if joined is None else joined)
            position += 1 if joined is None else joined.count
        return entries

    def _joined(self, operands: list[int], start: int) -> Elsewhere | None:
        """The operands from ``start`` on, as far as they are steps of a loop."""
        loop, stop = self.loops.of(operands[start]), start + 1
        if loop is None or len(operands) < start + LEAST_JOINED:
            return None
        stride = operands[stop] - operands[start]
        while (
            stop < len(operands)
            and operands[stop] - operands[stop - 1] == stride
            and self.loops.of(operands[stop]) is loop
        ):
            stop += 1
        if stop - start < LEAST_JOINED or stride == 0 or stride % loop.width:
            return None
        step, offset = loop.find(operands[start])
        return Elsewhere(loop, offset, step, stride // loop.width, stop - start)

    def _need(self, entry: int | Elsewhere) -> None:
        if isinstance(entry, Elsewhere):
            self.rolled[entry.loop].need_all(entry.offset)
        else:
            loop = self.loops.of(entry)
            if loop is not None:
                self.rolled[loop].need(*loop.find(entry))
