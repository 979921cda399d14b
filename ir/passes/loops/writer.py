"""Writing a block anew with its loops rolled up: one ``scan`` each, or ops on stacks where no step needs another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...graph import Block, Builder, Constant, Op, Value
from ...primitives.control import scan
from ...primitives.elementwise import add, convert, multiply
from ...primitives.indexing import scatter
from ...primitives.placement import concatenate, pad, update_slice
from ...primitives.view import broadcast_in_dim, slice_, transpose
from ...types import TensorType, int64, is_floating, is_integer
from . import stacks
from .plan import Accumulator, Plan, Rolled, part_of, step_of
from .recurrence import Carried, Elsewhere, Local, Loop, Operand, Varying
from .stacks import Motion

CopyBlock = Callable[[Block], Block]


class Writer:
    """Writes a block anew after a plan; ``copy_block`` copies regions."""

    def __init__(self, plan: Plan, copy_block: CopyBlock) -> None:
        self.plan, self.table, self.copy_block = plan, plan.table, copy_block
        self._now: dict[int, Value] = {}  # the new values by number

    def fill(self, target: Block) -> None:
        """Write into a block that has parameters already."""
        self.builder = Builder(target)
        self._now.update((-1 - number, parameter) for number, parameter in enumerate(target.parameters))
        loops = [*self.plan.loops.found]
        for number in self.plan.straight():
            while loops and loops[0].start <= number:
                self._roll(loops.pop(0))
            self._straight(number)
        for loop in loops:
            self._roll(loop)
        target.results = [self.value(number) for number in self.table.block_results]

    def value(self, number: int) -> Value:
        """What stands for a value now."""
        found = self._now.get(number)
        if found is None:
            found = self._now[number] = self.table.value(number) if number < 0 else self._of_loop(number)
        return found

    def _of_loop(self, number: int) -> Value:
        """A value of one step of a loop that has been written."""
        loop = self.plan.loops.of(number)
        assert loop is not None
        rolled = self.plan.rolled[loop]
        step, offset = loop.find(number)
        op = rolled.makers[offset]
        if not rolled.is_computed(op):
            if rolled.is_invariant[op]:
                step = 0
            if loop.number(step, offset) not in self._now:
                self._copy(loop.start + step * loop.period + op)
            return self._now[loop.number(step, offset)]
        value = rolled.values.get((offset, loop.count - step))
        return stacks.row(self.builder, rolled.stacks[offset], rolled.index(step)) if value is None else value

    def stack(self, what: Elsewhere) -> Value:
        """The values of several steps of a loop that has been written."""
        rolled = self.plan.rolled[what.loop]
        op = rolled.makers[what.offset]
        if rolled.is_invariant[op]:
            return stacks.repeated(self.builder, self.value(what.loop.number(0, what.offset)), what.count)
        if rolled.is_taken[op]:
            return self.taken(rolled, op, what.first, what.stride, what.count)
        stride = -what.stride if rolled.reverse else what.stride
        return stacks.rows(self.builder, rolled.stacks[what.offset], rolled.index(what.first), stride, what.count)

    def taken(self, rolled: Rolled, op: int, first: int, stride: int, count: int) -> Value:
        """What an op takes in several steps out of what is invariant."""
        (what,) = rolled.loop.operands[op]
        motion = rolled.loop.motions.get(op)
        if motion is None:
            assert isinstance(what, Local)
            stack = self.taken(rolled, rolled.makers[what.offset], first, stride, count)
            return stacks.applied(self.builder, rolled.ops[op], [stack], [True], count)
        number = rolled.invariant(what)
        assert number is not None
        return stacks.slices(self.builder, self.value(number), rolled.ops[op], motion.since(first, stride), count)

    def _straight(self, number: int) -> None:
        """Put an op there, its operands as they are now."""
        entries = self.plan.operands(number)
        op = self.table.ops[number]
        if not any(isinstance(entry, Elsewhere) for entry in entries):
            self._copy(number)
            return
        self.builder.location = op.location
        operands = []
        for entry in entries:
            if isinstance(entry, Elsewhere):
                operands.append(stacks.side_by_side(self.builder, self.stack(entry), op.attributes["dimension"]))
            else:
                operands.append(self.value(entry))
        joined = operands[0] if len(operands) == 1 else self.builder.apply(concatenate, operands, op.attributes)
        joined.name = op.result.name or joined.name
        self._now[int(self.table.first_result[number])] = joined

    def _copy(self, number: int) -> None:
        operands = [self.value(operand) for operand in self.table.operands_of(number)]
        results = self.builder.append(self.copied(self.table.ops[number], operands))
        first = int(self.table.first_result[number])
        self._now.update((first + position, result) for position, result in enumerate(results))

    def copied(self, op: Op, operands: Sequence[Value]) -> Op:
        """The same op on other operands."""
        types = [result.type for result in op.results]
        copy = Op(op.primitive, operands, op.attributes, types, op.location, [self.copy_block(r) for r in op.regions])
        for result, old in zip(copy.results, op.results, strict=True):
            result.name = old.name
        return copy

    def _roll(self, loop: Loop) -> None:
        rolled = self.plan.rolled[loop]
        (_Map if rolled.is_map else _Scan)(self, rolled).write()


class _Rolling:
    """One loop as it is written."""

    def __init__(self, writer: Writer, rolled: Rolled) -> None:
        self.writer, self.rolled, self.loop, self.table = writer, rolled, rolled.loop, rolled.table
        self.outside = writer.builder
        self.outside.location = self.location = next((op.location for op in rolled.ops if op.location), None)

    def invariant(self, what: Operand) -> Value | None:
        """The value of an operand that is the same in each step."""
        number = self.rolled.invariant(what)
        if isinstance(what, Elsewhere):
            other = self.writer.plan.rolled[what.loop]
            if other.is_invariant[other.makers[what.offset]]:
                number = what.loop.number(0, what.offset)
        return None if number is None else self.writer.value(number)

    def stack(self, what: Varying | Elsewhere) -> Value:
        """The values of an operand that is another in each step, as the steps are stacked."""
        if isinstance(what, Varying):
            return Constant(np.stack(self.arrays(what)))
        if self.rolled.reverse:
            first = what.first + (what.count - 1) * what.stride
            what = Elsewhere(what.loop, what.offset, first, -what.stride, what.count)
        return self.writer.stack(what)

    def arrays(self, what: Varying) -> list[np.ndarray]:
        arrays = [self.table.value(number).array for number in what.numbers]  # type: ignore[attr-defined]
        return arrays[::-1] if self.rolled.reverse else arrays

    def motion(self, op: int) -> Motion:
        """How an op moves, as the steps are stacked."""
        motion = self.loop.motions[op]
        return motion.since(self.loop.count - 1, -1) if self.rolled.reverse else motion

    def taken(self, op: int) -> Value:
        """The stack of what an op takes out of what is invariant."""
        stride = -1 if self.rolled.reverse else 1
        return self.writer.taken(self.rolled, op, self.rolled.index(0), stride, self.loop.count)


class _Map(_Rolling):
    """No step needs another: each op is applied to all steps at once."""

    def write(self) -> None:
        for number, op in enumerate(self.rolled.ops):
            if self.rolled.is_computed(number):
                self.outside.location = op.location
                whats = self.loop.operands[number]
                single = [self.invariant(what) for what in whats]
                operands = [value or self._stack(what) for value, what in zip(single, whats, strict=True)]
                are_stacks = [value is None for value in single]
                stack = stacks.applied(self.outside, op, operands, are_stacks, self.loop.count)
                stack.name = stack.name or op.result.name
                self.rolled.stacks[self.rolled.offsets[number]] = stack

    def _stack(self, what: Operand) -> Value:
        if not isinstance(what, Local):
            assert isinstance(what, Varying | Elsewhere)
            return self.stack(what)
        op = self.rolled.makers[what.offset]
        return self.taken(op) if self.rolled.is_taken[op] else self.rolled.stacks[what.offset]


class _Scan(_Rolling):
    """A loop as a ``scan``."""

    def __init__(self, writer: Writer, rolled: Rolled) -> None:
        super().__init__(writer, rolled)
        self.accumulators = rolled.accumulators()
        rolled.reverse = self._is_better_in_reverse()
        self.inside = Builder(Block())
        self.counter = Value(TensorType(int64, ()), "step")
        self.constants: dict[Value, Value] = {}  # parameters by what they get
        self.carries: dict[Carried, Value] = {}
        self.inputs: list[tuple[Value, Value]] = []  # stacks, parameters
        self.known: dict[Operand, Value] = {}

    def _is_better_in_reverse(self) -> bool:
        """Whether more of the stacks lie in reverse than in order."""
        moving = [number for number in self.loop.motions if self.rolled.is_taken[number]]
        moving += [accumulator.place for accumulator in self.accumulators.values()]
        strides = [self.loop.motions[number].stride for number in moving]
        for what in (what for operands in self.loop.operands for what in operands):
            if isinstance(what, Elsewhere):
                strides.append(-what.stride if self.writer.plan.rolled[what.loop].reverse else what.stride)
        return sum(stride < 0 for stride in strides) > sum(stride > 0 for stride in strides)

    def write(self) -> None:
        self._write_ops()
        rolled, loop = self.rolled, self.loop
        stacked, last = sorted(rolled.stacked), sorted(rolled.last - rolled.stacked)
        others = [self.operand(Local(offset)) for offset in stacked]
        others += [self.operand(accumulator.part) for accumulator in self.accumulators.values()]
        lasts = [self.operand(Local(offset)) for offset in last]
        carried = [self.operand(what.next) for what in [*self.carries]]
        self.outside.location = self.location
        initial = [self.writer.value(what.initial[0]) for what in self.carries]
        initial += [self._zeros(value.type) for value in lasts]
        block = self.inside.graph
        block.parameters = [
            self.counter,
            *self.constants.values(),
            *self.carries.values(),
            *(Value(value.type) for value in lasts),
            *(parameter for _, parameter in self.inputs),
        ]
        block.results = [*carried, *lasts, *others]
        results = self.outside.apply_several(
            scan,
            [*self.constants, *initial, *(stack for stack, _ in self.inputs)],
            {"constants": len(self.constants), "carries": len(initial), "length": loop.count}
            | ({"reverse": True} if rolled.reverse else {}),
            [block],
        )
        for result, value in zip(results, block.results, strict=True):
            result.name = value.name
        for what, result in zip(self.carries, results, strict=False):
            rolled.values[what.offset, what.lag] = result
        for offset, result in zip(last, results[len(carried) :], strict=False):
            rolled.values[offset, 1] = result
        rolled.stacks.update(zip(stacked, results[len(initial) :], strict=False))
        for (offset, accumulator), stack in zip(
            self.accumulators.items(), results[len(initial) + len(stacked) :], strict=True
        ):
            rolled.values[offset, 1] = self._accumulated(accumulator, stack)

    def _zeros(self, type: TensorType) -> Value:
        """What the carry of a value that only the last step's is read of begins with."""
        zero = Constant(np.zeros((), type.dtype))
        stretched = {"shape": type.shape, "dimensions": ()}
        return self.outside.apply(broadcast_in_dim, (zero,), stretched) if type.shape else zero

    def _accumulated(self, accumulator: Accumulator, stack: Value) -> Value:
        """The initial value with all parts in their places."""
        builder, motion, count = self.outside, self.motion(accumulator.place), self.loop.count
        op = self.rolled.ops[accumulator.place]
        axis = motion.axis
        if motion.stride < 0:
            stack = stacks.rows(builder, stack, count - 1, -1, count)
        parts = stacks.side_by_side(builder, stack, axis)
        initial = self.writer.value(accumulator.initial)
        step = abs(motion.stride) if stack.shape[1 + axis] == 1 else 1

        def along(name: str, entry: int) -> tuple[int, ...]:
            widths: tuple[int, ...] = op.attributes[name]
            return (*widths[:axis], entry, *widths[axis + 1 :])

        low = motion.lowest(count)
        if not accumulator.is_sum:
            places = {"start": along("start", low), "strides": along("strides", step)}
            return builder.apply(update_slice, (initial, parts), places)
        zero = Constant(np.zeros((), parts.dtype))
        high = op.result.type.static_shape[axis] - low - (parts.type.static_shape[axis] - 1) * step - 1
        widths = {"low": along("low", low), "high": along("high", high), "interior": along("interior", step - 1)}
        total = builder.apply(add, (initial, builder.apply(pad, (parts, zero), widths)), {})
        # In each place a zero has been added in some step: -0.0 has become 0.0.
        return builder.apply(add, (total, zero), {}) if is_floating(zero.dtype) else total

    # The body ---------------------------------------------------------------------------------------

    def _write_ops(self) -> None:
        replaced = {accumulator.place for accumulator in self.accumulators.values() if accumulator.is_sum}
        replaced.update(self.rolled.makers[offset] for offset in self.accumulators)
        for number in range(self.loop.period):
            if self.rolled.is_computed(number) and number not in replaced:
                self._write_op(number)

    def _write_op(self, number: int) -> None:
        op = self.rolled.ops[number]
        operands = [self.operand(what) for what in self.loop.operands[number]]
        self.inside.location = op.location
        if number in self.loop.motions:
            results: Sequence[Value] = [self._moving(number, op, operands)]
        else:
            results = self.inside.append(self.writer.copied(op, operands))
        first = self.rolled.offsets[number]
        for offset, result in enumerate(results, first):
            self.known[Local(offset)] = result
            result.name = self._name(offset)

    def operand(self, what: Operand) -> Value:
        """An operand of the step."""
        if what not in self.known:
            if isinstance(what, Local) and self.rolled.is_inside[self.rolled.makers[what.offset]]:
                self._write_op(self.rolled.makers[what.offset])
            else:
                self.known[what] = self._operand(what)
        return self.known[what]

    def _operand(self, what: Operand) -> Value:
        if isinstance(what, Carried):
            return self._carry(what)
        value = self.invariant(what)
        if value is not None:
            if isinstance(value, Constant):
                return value
            return self.constants.setdefault(value, Value(value.type, value.name))
        if isinstance(what, Local):
            return self._input(self.taken(self.rolled.makers[what.offset]), self._name(what.offset))
        assert isinstance(what, Varying | Elsewhere)
        counted = self._counted(self.arrays(what)) if isinstance(what, Varying) else None
        return self._input(self.stack(what)) if counted is None else counted

    def _carry(self, what: Carried) -> Value:
        if isinstance(what.next, Carried):
            self.operand(what.next)
        type = self.table.results[self.loop.number(0, what.offset)].type
        self.carries[what] = Value(type, self._name(what.offset) or self.table.value(what.initial[0]).name)
        return self.carries[what]

    def _input(self, stack: Value, name: str | None = None) -> Value:
        parameter = Value(TensorType(stack.dtype, stack.shape[1:]), name or stack.name)
        self.inputs.append((stack, parameter))
        return parameter

    def _name(self, offset: int) -> str | None:
        """What the user's code calls a value of the loop."""
        first, second = (self.table.results[self.loop.number(step, offset)].name for step in (0, 1))
        return first or second

    def _counted(self, arrays: Sequence[np.ndarray]) -> Value | None:
        """Integers that grow evenly, from the number of the step."""
        if arrays[0].ndim or not is_integer(arrays[0].dtype):
            return None
        numbers = [int(array) for array in arrays]
        start, stride = numbers[0], numbers[1] - numbers[0]
        limits = np.iinfo(int64)
        if any(
            number != start + position * stride or not limits.min <= number <= limits.max
            for position, number in enumerate(numbers)
        ):
            return None
        value, builder = self.counter, self.inside
        if stride != 1:
            value = builder.apply(multiply, (value, Constant(np.array(stride, int64))), {})
        if start != 0:
            value = builder.apply(add, (value, Constant(np.array(start, int64))), {})
        return value if value.dtype == arrays[0].dtype else builder.apply(convert, (value,), {"dtype": arrays[0].dtype})

    def _moving(self, number: int, op: Op, operands: Sequence[Value]) -> Value:
        """An op whose position moves, by the positions that the step gets."""
        builder, motion = self.inside, self.motion(number)
        axis = motion.axis
        if op.primitive is slice_:
            extent, stride = op.result.type.static_shape[axis], op.attributes["strides"][axis]
            at = self._input(Constant(stacks.indices(motion, extent, stride, self.loop.count)))
            return stacks.gather_along(builder, stacks.still(builder, operands[0], op, axis), at, axis)
        extent = part_of(op).type.static_shape[axis]
        at = self._input(Constant(stacks.indices(motion, extent, step_of(op, axis), self.loop.count)))
        others = {name: (*widths[:axis], 0, *widths[axis + 1 :]) for name, widths in op.attributes.items()}
        if op.primitive is pad:
            part, fill = operands
            whole = builder.apply(broadcast_in_dim, (fill,), {"shape": op.result.shape, "dimensions": ()})
            part = builder.apply(pad, (part, fill), others)
        else:
            whole, part = operands
            others["strides"] = (*others["strides"][:axis], 1, *others["strides"][axis + 1 :])
            part = builder.apply(update_slice, (stacks.gather_along(builder, whole, at, axis), part), others)
        if axis:
            order = (axis, *range(axis), *range(axis + 1, part.ndim))
            part = builder.apply(transpose, (part,), {"permutation": order})
        return builder.apply(scatter, (whole, part, at), {"axes": (axis,), "combine": "set"})
