"""Programs as words, for the native code that runs them: see :mod:`.walker`."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence

from tracejit.ir import Value
from tracejit.ir.types import bool_

from ..blockwise import BlockwiseCall, Step
from ..control import Carry, Slices
from ..program import BranchCall, Call, CopyCall, DotCall, HostCall, KernelCall, LoopCall, Place, Program, walk
from . import blockwise, contraction, partition, sweeps, walker
from .recipe import Recipe
from .shares import shares
from .target import host_target
from .vectors import blocking

# One thread runs what takes less than about 20 µs; a chunk takes at least about 5 µs.
SERIAL_WORK = 1 << 18
CHUNK_WORK = 1 << 16
# A matrix whose blocks of rows threads share is cut into parts: so many in all for each thread, of so many blocks.
PARTS, LEAST_BLOCKS = 4, 2
QUICK_STEP = 1 << 14  # of less work than that: a loop of such steps need not look at the clock at each
SELDOM = 255

Position = tuple[int, int]  # a word of the frame, and bytes to add


class _Cell(int):
    """In the place of a kernel's address: the kernel's number."""


class Encoding:
    """The words of a program, with numbers of its ``kernels`` in place of their addresses.

    ``dot_kernel`` names the kernel of a matrix product, ``blockwise_kernel`` that of chains.  The frame holds the
    addresses of the inputs, the outputs, the constants and the workspace (the arena, then ``scratch`` bytes for each
    worker), a zero, and the program's cursors.
    """

    def __init__(
        self, program: Program, dot_kernel: Callable[[DotCall], str], blockwise_kernel: Callable[[], str], workers: int
    ) -> None:
        self._program, self._workers = program, workers
        self._dot_kernel, self._blockwise_kernel = dot_kernel, blockwise_kernel
        self._calls = list(walk(program.calls))
        products = [contraction.read_once(call, host_target()) for call in self._calls if isinstance(call, DotCall)]
        sizes = [(call.dtype, host_target(), call.m, call.n, call.k) for call in products]
        kept = max((contraction.scratch_bytes(*size) for size in sizes), default=0)
        self._blocks = program.arena_bytes + kept  # where a thread's blocks of rows begin
        self._scratch = kept + max(
            (call.scratch_bytes for call in self._calls if isinstance(call, BlockwiseCall)), default=0
        )
        self.kernels: dict[str, _Cell] = {}
        first_output = len(program.inputs)
        first_constant = first_output + len(program.outputs)
        self._arena = first_constant + len(program.constants)
        self._spaces = {
            "input": 0, "output": first_output, "constant": first_constant, "arena": self._arena,
            "cursor": self._arena + 2,
        }  # fmt: skip
        self.arrays = self._arena + 1
        self.frame_words = self._arena + 2 + program.cursors
        self.growing = [len(program.growing), *(self.word(number) for number in program.growing)]
        self.most_arguments = 1
        self.is_parallel = False
        self.host_calls: list[HostCall] = []
        self.words = self._block(program.calls)
        if any(place.space == "cursor" for place in program.results):  # to be fetched before their memory is released
            self.words[0] += 1
            self.words += [walker.HOST, 3, len(self.host_calls)]

    def recipe(self) -> Recipe:
        """The program as it runs and is kept."""
        program = self._program
        return Recipe(
            kernels=[*self.kernels],
            cells=[(position, int(word)) for position, word in enumerate(self.words) if type(word) is _Cell],
            words=array("q", self.words),
            growing=self.growing,
            frame_words=self.frame_words,
            most_arguments=self.most_arguments,
            arena_bytes=program.arena_bytes,
            scratch_bytes=self._scratch,
            inputs=[(type.static_shape, type.dtype, type.nbytes) for type in program.inputs],
            outputs=[(type.static_shape, type.dtype, type.nbytes) for type in program.outputs],
            constants=program.constants,
            results=[self.array_of(place) for place in program.results],
            work=sum(call.work for call in program.calls),
            is_parallel=self.is_parallel,
            has_loops=any(isinstance(call, LoopCall) for call in self._calls),
            runs_for_long=any(isinstance(call, LoopCall) and call.condition is not None for call in self._calls),
            calls_python=bool(self.host_calls) or any(place.space == "cursor" for place in program.results),
        )

    def word(self, cursor: int) -> int:
        """The word of the frame that a cursor, or a number of steps, is."""
        return self._spaces["cursor"] + cursor

    def array_of(self, place: Place) -> int:
        """Which of the arrays holds a place (not one behind a cursor)."""
        return self._arena if place.space == "arena" else self._spaces[place.space] + place.number

    def position(self, value: Value) -> Position:
        """Where a value is."""
        place = self._program.places[value]
        if place.space == "arena":
            return self._arena, place.number + place.start
        if place.space == "scratch":  # the first thread's
            return self._arena, self._blocks + place.number + place.start
        return self._spaces[place.space] + place.number, place.start

    def _number(self, number: int) -> Position:
        return self._arena + 1, number

    def _block(self, calls: Sequence[Call]) -> list[int]:
        words = [len(calls)]
        for call in calls:
            swept = isinstance(call, LoopCall) and sweeps.sweeps_of(call, self._program.places, self._workers)
            if isinstance(call, LoopCall) and swept:
                words[0] += len(swept) - 1
                for sweep in swept:
                    words += self._sweep(sweep)
                continue
            match call:
                case KernelCall() | DotCall():
                    words += self._kernel(call)
                case BlockwiseCall():
                    words += self._blockwise(call)
                case HostCall():
                    words += [walker.HOST, 3, len(self.host_calls)]
                    self.host_calls.append(call)
                case CopyCall():
                    words += self._copy(call)
                case BranchCall():
                    words += self._branch(call)
                case LoopCall():
                    rows = partition.rows_of(call, self._program.places, host_target(), self._workers)
                    words += self._shared_loop(call, rows) if rows else self._loop(call, self._block(call.body.calls))
        return words

    def _copy(self, call: CopyCall) -> list[int]:
        return [walker.COPY, 7, *self.position(call.target), *self.position(call.source), call.target.type.nbytes]

    def _kernel(self, call: KernelCall | DotCall) -> list[int]:
        if isinstance(call, DotCall):
            call = contraction.read_once(call, host_target())
        places = [self.position(value) for value in call.buffers]
        if isinstance(call, KernelCall):
            places += map(self._number, call.parameters)
            kernel, extent = self._cell(call.kernel.name), call.extent
            grain = self._grain(extent, call.work)
        else:
            shape = (call.dtype, host_target(), call.batch, call.m, call.n, call.k)
            is_worth_it = contraction.effort(*shape) >= 4 * SERIAL_WORK and self._workers > 1
            parts = shares(*shape, self._workers if is_worth_it else 1)
            kernel, places = self._cell(self._dot_kernel(call)), self._dot_arguments(call, places, parts.columns)
            extent, grain = parts.units, parts.grain if is_worth_it else 0
        return self._instruction(kernel, extent, grain, places)

    def _instruction(self, kernel: int, extent: int, grain: int, arguments: Sequence[Position]) -> list[int]:
        self.most_arguments = max(self.most_arguments, len(arguments))
        self.is_parallel = self.is_parallel or grain > 0
        words = [kernel, extent, grain, len(arguments)]
        for place in arguments:
            words += place
        return [walker.KERNEL, len(words) + 2, *words]

    def _blockwise(self, call: BlockwiseCall) -> list[int]:
        """Several parts of a matrix, where there are few matrices, for the threads to share."""
        blocks = len(call.limits)
        parts = min(max(blocks // LEAST_BLOCKS, 1), -(-PARTS * self._workers // call.batch))
        share = -(-blocks // parts)
        parts = -(-blocks // share)
        grain = 1 if call.work >= 4 * SERIAL_WORK and self._workers > 1 else 0
        steps, count = [], 0
        for step in (*call.prologue, *call.body):
            words, arguments_of_step = self._step(call, step, count)
            steps.append(words)
            count += arguments_of_step
        counts = len(call.prologue), len(call.body)
        numbers = [count, parts, share, blocks, call.rows, call.m, *counts, call.n]
        arguments = [*map(self._number, numbers), *self._reach(call), *map(self._number, call.limits)]
        arguments += [place for step in steps for place in step]
        return self._instruction(self._cell(self._blockwise_kernel()), call.batch * parts, grain, arguments)

    def _reach(self, call: BlockwiseCall) -> list[Position]:
        """The right operand and the result of the last product, if the reach is to be found out."""
        last = call.body[-1]
        if not call.has_reach or not isinstance(last.call, DotCall):
            return [self._number(int(number == 1)) for number in range(blockwise.REACH)]  # nothing, in stacks of one
        words: list[Position] = [*map(self._number, (last.call.dtype.itemsize, last.inner, last.call.n))]
        for matrices, move in ((last.call.rhs, last.moves[1]), (last.call.out, last.moves[2])):
            size = matrices.value.dtype.itemsize
            word, base = self.position(matrices.value)
            words.append((word, base + matrices.offset * size))
            words += map(self._number, (*move[:2], matrices.strides[2] * size))
        return words

    def _step(self, call: BlockwiseCall, step: Step, before: int) -> tuple[list[Position], int]:
        """A step as words, see :mod:`.blockwise`, and how many arguments it has; ``before``: those of steps before."""
        own = step.call
        places = [self.position(value) for value in own.buffers]
        of_thread = [self._scratch if self._program.places[value].space == "scratch" else 0 for value in own.buffers]
        blocks = [(min(call.rows, call.m - n * call.rows), limit) for n, limit in enumerate(call.limits)]
        slopes = [(0, 0, 0)] * len(places)
        moves = step.moves
        if isinstance(own, KernelCall):
            cell = self._cell(own.kernel.name)
            places += map(self._number, own.parameters)
            slopes += step.slopes
            extents = [own.extent + (rows - call.rows) * step.by_row for rows, _ in blocks]
        else:
            cell = self._cell(self._dot_kernel(own))
            if own.addend is None:
                moves, of_thread, slopes = [*moves, (0, 0, 0, 0)], [*of_thread, 0], [*slopes, (0, 0, 0)]
            width = shares(own.dtype, host_target(), 1, call.rows, own.n, own.k, 1).columns
            places = self._dot_arguments(own, places, width)
            slopes += [(0, 0, 0)] * (len(places) - len(slopes))
            slopes[contraction.SLOTS.index("m")] = 1, 0, 0
            if step.limited:
                slopes[contraction.SLOTS.index(step.limited)] = (0, 1, 0) if step.limited == "n" else (0, 0, 1)
            height = blocking(own.dtype, host_target()).height
            extents = [
                -(-rows // height) * -(-(limit if step.limited == "n" else own.n) // width) for rows, limit in blocks
            ]
        arguments: list[Position] = []
        changes: list[int] = []
        for number, ((word, base), (by_row, by_limit, by_reach)) in enumerate(zip(places, slopes, strict=True)):
            stack, within, row, column = moves[number] if number < len(moves) else (0, 0, 0, 0)
            thread = of_thread[number] if number < len(of_thread) else 0
            start = base - by_row * call.rows - (by_limit + by_reach) * call.n
            arguments += [(word, start), *map(self._number, (stack, within, thread))]
            change = row, by_row, by_limit + column, by_reach
            if any(change):
                changes += number, *change
        words = blockwise.STEP_HEAD + len(extents) + len(arguments) + len(changes)
        head = step.inner, len(places), words, before, len(changes) // blockwise.CHANGES
        numbers = map(self._number, extents)
        own_words = [(self._arena + 1, cell), *map(self._number, head), *numbers, *arguments]
        return [*own_words, *map(self._number, changes)], len(places)

    def _cell(self, kernel: str) -> int:
        return self.kernels.setdefault(kernel, _Cell(len(self.kernels)))

    def _dot_arguments(
        self, call: DotCall, places: list[Position], columns: int, unit_rows: int | None = None
    ) -> list[Position]:
        tables = places[len(call.matrices) :] or [self._number(0)] * 2
        places = [
            (word, offset + each.offset * call.dtype.itemsize)
            for (word, offset), each in zip(places, call.matrices, strict=False)
        ]
        if call.addend is None:
            places.append(self._number(0))
        strides = [
            *call.lhs.strides,
            *call.rhs.strides,
            *call.out.strides[:3],
            1 if call.n == 1 else call.out.strides[3],
        ]
        strides += (0, 0, 0, 0) if call.addend is None else call.addend.strides
        unit_rows = unit_rows or blocking(call.dtype, host_target()).height
        numbers = map(self._number, [call.batch, call.inner, call.m, call.n, call.k, *strides, unit_rows, columns])
        scratch = [(self._arena, self._program.arena_bytes), self._number(self._scratch)]
        return [*places, *numbers, *scratch, *tables]

    def _branch(self, call: BranchCall) -> list[int]:
        blocks = [self._block(body.calls) for body in call.bodies]
        words = [*self.position(call.selector), int(call.selector.dtype == bool_), len(blocks)]
        start = 2 + len(words) + len(blocks)
        for block in blocks:
            words.append(start)
            start += len(block)
        return [walker.CASE, start, *words, *(word for block in blocks for word in block)]

    def _shared_loop(self, call: LoopCall, rows: int) -> list[int]:
        """A loop of which each thread takes some rows: the iterations of each kernel are those rows."""
        body = [0]
        for each in call.body.calls:
            for part in self._by_rows(each):
                body[0] += 1
                body += part
        loop = self._loop(call, body)
        self.is_parallel = True
        head = [self._workers, rows, self.frame_words, self.most_arguments]
        return [walker.SHARED, walker.SHARED_WORDS + len(loop), *head, *loop]

    def _by_rows(self, call: Call) -> Iterator[list[int]]:
        match call:
            case KernelCall():
                places = [*map(self.position, call.buffers), *map(self._number, call.parameters)]
                yield self._instruction(self._cell(call.kernel.name), call.extent, 0, places)
            case DotCall():
                width = blocking(call.dtype, host_target()).column_block
                for first in range(0, call.n, width):
                    part = call.columns(first, min(width, call.n - first))
                    places = [self.position(value) for value in part.buffers]
                    arguments = self._dot_arguments(part, places, width, unit_rows=1)
                    yield self._instruction(self._cell(self._dot_kernel(part)), part.m, 0, arguments)
            case CopyCall():
                yield self._copy(call)

    def _loop(self, call: LoopCall, body: list[int]) -> list[int]:
        records = [word for carry in call.carries for word in self._carry(carry)]
        records += [word for slices in call.inputs for word in self._slices(slices)]
        for slices in call.stacked:
            records += [*self._slices(slices), int(not slices.whole.type.is_static)]
        condition = [] if call.condition is None else self._block(call.condition.calls)
        words = [0] * walker.LOOP_WORDS
        words[0], words[1] = walker.LOOP, len(words) + len(records) + len(condition) + len(body)
        words[walker.STEPS] = -1
        if call.predicate is not None:
            words[walker.CONDITION_BLOCK] = len(words) + len(records)
            words[walker.PREDICATE_PLACE : walker.PREDICATE_PLACE + 2] = self.position(call.predicate)
            if call.steps is not None:
                words[walker.STEPS] = self.word(call.steps)
        elif call.steps is not None:
            words[walker.COUNTED], words[walker.LENGTH] = 2, self.word(call.steps)
        else:
            words[walker.COUNTED], words[walker.LENGTH] = 1, call.length or 0
        words[walker.REVERSE] = int(call.reverse)
        if call.counter is not None:
            words[walker.HAS_COUNTER] = 1
            words[walker.COUNTER_PLACE : walker.COUNTER_PLACE + 2] = self.position(call.counter)
        words[walker.BODY_BLOCK] = len(words) + len(records) + len(condition)
        step = sum(inner.work for block in call.nested() for inner in block.calls)
        words[walker.LOOKS] = SELDOM if step < QUICK_STEP else 0
        words[walker.CARRIES] = len(call.carries)
        words[walker.INPUTS] = len(call.inputs)
        words[walker.STACKED] = len(call.stacked)
        return [*words, *records, *condition, *body]

    def _sweep(self, sweep: sweeps.Sweep) -> list[int]:
        records, count = list[int](), 0
        for stage in sweep.stages:
            part = stage.part
            places = [*map(self.position, stage.memory), *map(self._number, part.call.parameters)]
            records += [self._cell(part.call.kernel.name), stage.lag, part.first, part.rows, part.unit, len(places)]
            records += [word for place in places for word in place]
            count += len(places)
        self.most_arguments = max(self.most_arguments, walker.SWEEP_ARGUMENTS + count)
        self.is_parallel = self.is_parallel or sweep.bands > 1
        seams = sweep.bands - (not sweep.is_cyclic)
        most = max(stage.lag for stage in sweep.stages)
        head = [sweep.repeat, sweep.bands, seams, sweep.rows, sweep.block, most, len(sweep.stages)]
        return [walker.SWEEP, 2 + len(head) + len(records), *head, *records]

    def _carry(self, carry: Carry) -> list[int]:
        places = [self.position(value) for value in (carry.first, carry.result, carry.spare)]
        cursor, _ = self.position(carry.current)
        return [cursor, *(word for place in places for word in place), carry.result.type.nbytes]

    def _slices(self, slices: Slices) -> list[int]:
        cursor, _ = self.position(slices.step)
        return [cursor, *self.position(slices.whole), slices.step.type.nbytes]

    def _grain(self, extent: int, work: int) -> int:
        """Iterations of the parallel loop to hand out at a time; 0 runs them all in the calling thread."""
        if self._workers == 1 or extent < 2 or work < SERIAL_WORK:
            return 0
        per_iteration = max(1, work // extent)
        chunk = max(math.ceil(CHUNK_WORK / per_iteration), math.ceil(extent / (4 * self._workers)))
        return -(-chunk // 64) * 64 if chunk >= 64 else chunk
