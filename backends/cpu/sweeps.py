"""Loops whose steps read a bounded neighbourhood: several steps in one sweep over memory.

Where a step's kernels go along the first axis and each row of what they write depends on rows nearby alone, a later
step can follow an earlier one at a distance, so that what it reads is still in the cache.  A sweep is a list of
*stages*, one for each kernel of each of its steps, each so many rows (its *lag*) behind the front.  Threads share it in
bands: in a band whose edge is in the midst of the rows, a stage stays its lag away from that edge, and what is missing
around the edges, the *seams*, is computed when all bands are done.

The same lags serve for all three: for a stage ``j`` and a later one ``k``, where ``k`` at row ``r`` touches rows that
``j`` at ``r - d`` to ``r + e`` touches too, and one of them writes, ``lag[k] >= lag[j] + max(d, e)``.  So what ``k``
reads has been written, and what it overwrites has been read: the two buffers of a carry are enough.

Wavefronts: Lamport, "The parallel execution of DO loops" (1974); split tiling: Grosser et al., "Split tiling for GPUs"
(2013).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tracejit.ir import Value
from tracejit.ir.facts import facts, replace

from .. import kernel as k
from ..control import Carry, CopyCall, LoopCall, Place
from ..program import KernelCall

MOST_STEPS = 16  # of a sweep
MOST_STAGES = 96
CACHE_BYTES = 640 << 10  # of a processor's own cache, that a sweep may use
SHARED_CACHE_BYTES = 4 << 20  # the same of the cache that processors share, for each of them
LEAST_BLOCK = 1 << 12  # elements that a stage does at a time
MOST_BLOCK = 32  # rows, if they are not short
SHARED_WORK = 1 << 18  # scalar operations, from which on a sweep is shared by threads

Buffer = tuple[str, int]  # a place's space and number


@facts(frozen=True)
class Access:
    """What a kernel's row touches: rows ``low`` to ``high`` of a buffer, counted from its own."""

    value: Value
    is_written: bool
    low: int
    high: int


@facts(frozen=True)
class Part:
    """A kernel of the loop's body: ``rows`` rows from ``first`` on, each ``unit`` iterations of its outermost loop."""

    call: KernelCall
    first: int
    rows: int
    unit: int
    accesses: tuple[Access, ...]
    settles: int  # the step from which on it has nothing to do: what it writes is in all buffers then


@facts(frozen=True)
class Stage:
    """A kernel of a step; ``memory`` are the values in whose memory its buffers are."""

    part: Part
    memory: tuple[Value, ...]
    lag: int


@facts(frozen=True)
class Sweep:
    """Some steps of a loop, ``repeat`` times; ``rows`` in ``bands``, ``block`` rows at a time.

    ``is_cyclic``: the first row is a neighbour of the last, and there is a seam between them too.
    """

    stages: Sequence[Stage]
    repeat: int
    rows: int
    bands: int
    block: int
    is_cyclic: bool


def sweeps_of(call: LoopCall, places: Mapping[Value, Place], workers: int) -> list[Sweep]:
    """The sweeps that do what a loop does, one after the other; none where its steps do not go along rows."""
    rows = {carry.current.shape[0] if carry.current.ndim else 0 for carry in call.carries}
    if call.length is None or call.length < 2 or len(rows) != 1 or call.inputs or call.stacked or call.condition:
        return []
    (count,) = rows
    if not isinstance(count, int) or count < 2:
        return []
    body = _Body(call, call.length, places, count)
    chains = body.find_chains()
    parts = body.parts() if chains else None
    return [] if parts is None else body.schedule(parts, workers)


@facts
class _Chain:
    """Carries of which the first is computed, and each other is what the one before it was a step ago.

    Their buffers take turns, so nothing is copied: in the last step each is found in its result.
    """

    carries: list[Carry]
    length: int

    @property
    def buffers(self) -> list[Value]:
        return [*(carry.result for carry in self.carries), self.carries[0].spare]

    def memory(self, written: int) -> Value:
        """Where the first carry is as a step has written it; before the first step, as the loop found it."""
        if written < 0:
            return self.carries[-1 - written].first
        return self.buffers[(self.length - 1 - written) % len(self.buffers)]


class _Body:
    """The step of a loop."""

    def __init__(self, call: LoopCall, length: int, places: Mapping[Value, Place], rows: int) -> None:
        self.call, self.length, self.places, self.rows = call, length, places, rows
        self.kernels = [inner for inner in call.body.calls if isinstance(inner, KernelCall)]
        self.chains: dict[Buffer, tuple[_Chain, int]] = {}  # of a carry's buffers, and the carry's place in it
        self.carries: dict[Buffer, tuple[Carry, int]] = {}  # and whether it is what the step writes
        for carry in call.carries:
            for is_next, value in enumerate((carry.current, carry.next)):
                self.carries[self._buffer(value)] = carry, is_next
        own = {self._buffer(value) for value in call.buffers if value in places} - self.carries.keys()
        self.own = own - {self._buffer(call.scratch)} if call.scratch in places else own

    def _buffer(self, value: Value) -> Buffer:
        place = self.places[value]
        return place.space, place.number

    def find_chains(self) -> list[_Chain]:
        """All chains of carries; none where a carry is something else."""
        following: dict[Buffer, Carry] = {}  # what a carry is copied to
        copied: set[Buffer] = set()
        for call in self.call.body.calls:
            if isinstance(call, CopyCall):
                source, target = (self.carries.get(self._buffer(value)) for value in (call.source, call.target))
                if source is None or target is None or source[1] or self._buffer(source[0].current) in following:
                    return []
                following[self._buffer(source[0].current)] = target[0]
                copied.add(self._buffer(target[0].current))
            elif not isinstance(call, KernelCall):
                return []
        chains = []
        for carry in self.call.carries:
            if self._buffer(carry.current) in copied:
                continue
            chains.append(chain := _Chain([carry], self.length))
            while (after := following.get(self._buffer(chain.carries[-1].current))) is not None:
                chain.carries.append(after)
            for number, member in enumerate(chain.carries):
                for value in (member.current, member.next):
                    self.chains[self._buffer(value)] = chain, number
        return chains if len(self.chains) == len(self.carries) else []

    def memory(self, value: Value, step: int) -> Value:
        """The value in whose memory a carry is found, or written, in a step; any other is itself."""
        buffer = self._buffer(value)
        if buffer not in self.chains:
            return value
        (chain, number), (_, is_next) = self.chains[buffer], self.carries[buffer]
        return chain.memory(step - 1 + is_next - number)

    # What the kernels touch -----------------------------------------------------------------------------

    def parts(self) -> list[Part] | None:
        self.written = {
            self._buffer(value)
            for call in self.kernels
            for value, buffer in zip(call.buffers, call.kernel.buffers, strict=True)
            if buffer.written
        }
        if self.written & self.own or not self.kernels or not self._are_apart(self.kernels):
            return None
        parts = [self._part(call) for call in self.kernels]
        found = [part for part in parts if part is not None]
        return found if len(found) == len(parts) else None

    def _are_apart(self, calls: Sequence[KernelCall]) -> bool:
        """Whether no two of the step's buffers share memory: in a sweep, all are in use."""
        ranges: dict[Buffer, tuple[int, int]] = {}
        for value in dict.fromkeys(value for call in calls for value in call.buffers):
            place = self.places[value]
            if place.start or (place.space == "cursor" and self._buffer(value) in self.written - self.carries.keys()):
                return False
            if place.space == "arena":
                found = ranges.get(self._buffer(value), (place.number, place.number))
                ranges[self._buffer(value)] = place.number, max(found[1], place.number + value.type.nbytes)
        spans = sorted(ranges.values())
        return all(before[1] <= after[0] for before, after in pairwise(spans))

    def _part(self, call: KernelCall) -> Part | None:
        loop = call.kernel.parallel_loop
        if loop is not None and len(call.kernel.body) != 1:
            return None
        numbers = dict(zip(call.kernel.parameters, call.parameters, strict=True))
        values = dict(zip((buffer.name for buffer in call.kernel.buffers), call.buffers, strict=True))
        found: list[tuple[Value, Walked]] = []
        for access in _accesses(call.kernel.body, {}, numbers):
            if access is None or access.is_unknown:
                return None
            if self._buffer(values[access.buffer]) in self.written | self.carries.keys():  # else the same in all steps
                found.append((values[access.buffer], access))
        axis = "" if loop is None else loop.axis
        extent = 1 if loop is None else _number(loop.extent, numbers)
        steps = {(_row(value), access.strides.get(axis, 0)) for value, access in found}
        units = {row // stride if stride > 0 and row % stride == 0 else 0 for row, stride in steps}
        unit = min(units)
        if len(units) > 1 or unit == 0 or extent % unit:  # it does not go from row to row: all at once
            axis, unit = "", extent
        accesses = []
        for value, access in found:
            low, high = access.span(axis)
            high += access.strides.get(axis, 0) * (unit - 1)
            accesses.append(Access(value, access.is_written, low // _row(value), high // _row(value)))
        first = min(access.low for access in accesses if access.is_written)
        moved = (self._nearest(a.value, a.is_written, a.low - first, a.high - first) for a in accesses)
        rows = extent // unit
        if first < 0 or first + rows > self.rows:
            return None
        return Part(call, first, rows, unit, tuple(dict.fromkeys(moved)), self._settles(call, found))

    def _nearest(self, value: Value, is_written: bool, low: int, high: int) -> Access:
        """An access to rows that may as well be counted from the other end."""
        turns = round((low + high) / 2 / self.rows) * self.rows
        return Access(value, is_written, low - turns, high - turns)

    def _settles(self, call: KernelCall, found: list[tuple[Value, Walked]]) -> int:
        """From which step on all buffers of a carry have what a kernel writes; the number of steps if none.

        That is so for a number, or elements that are copied from the same place a step ago, if nothing else writes
        there.
        """
        body = call.kernel.body
        while len(body) == 1 and isinstance(body[0], k.Loop):
            body = body[0].body
        match body:
            case [k.Store(value=k.Literal(), accumulate=False)]:
                is_same = True
            case [k.Load(address=source, result=result), k.Store(address=target, value=value, accumulate=False)]:
                is_same = len(found) == 2 and value is result and source == target
            case _:
                is_same = False
        (following, written) = found[-1]
        own = self._buffer(following)
        if not is_same or own not in self.chains:
            return self.length
        chain, number = self.chains[own]
        if len(found) == 2 and self._buffer(found[0][0]) != self._buffer(chain.carries[number].current):
            return self.length
        shape = following.type.static_shape
        for other in self.kernels:
            if other is call:
                continue
            numbers = dict(zip(other.kernel.parameters, other.parameters, strict=True))
            names = [b.name for b, v in zip(other.kernel.buffers, other.buffers, strict=True) if self._buffer(v) == own]
            for access in _accesses(other.kernel.body, {}, numbers):
                writes = access is None or (access.is_written and access.buffer in names)
                if writes and (access is None or not _are_disjoint(access, written, shape)):
                    return self.length
        return len(chain.buffers)

    # When they run --------------------------------------------------------------------------------------

    def schedule(self, parts: list[Part], workers: int) -> list[Sweep]:
        length = self.length
        turn = math.lcm(*(len(chain.buffers) for chain, _ in self.chains.values()))  # then the buffers are the same
        work = sum(part.call.work for part in parts)
        touched = {a.value for part in parts for a in part.accesses}
        row_bytes = sum(_row(value) * value.dtype.itemsize for value in touched)
        row = max(_row(value) for value in touched)
        steps = min(length, MOST_STEPS, MOST_STAGES // len(parts)) // turn * turn
        if not steps:
            return []
        counts = [*range(turn, steps + 1, turn), *([length] if length <= steps + 1 else [])]
        stages = self._stages(parts, range(turn, turn + 2))
        if not stages:  # steps that compute nothing
            return []
        reach = stages[-1].lag + 1  # rows by which a step is behind the last
        block = min(self.rows, -(-LEAST_BLOCK // row))
        for size in (CACHE_BYTES, SHARED_CACHE_BYTES):
            fitting = [n for n in counts if (n * reach + block) * row_bytes <= size]
            if fitting:
                steps = fitting[-1]
                break
        bands = max(1, min(workers, self.rows // (4 * steps * reach))) if work * steps >= SHARED_WORK else 1
        if 4 * steps * reach > self.rows and not self.rows * row_bytes <= CACHE_BYTES:
            return []  # each row depends on most others
        is_cyclic = any(
            part.first + access.low < 0 or part.first + part.rows - 1 + access.high >= self.rows
            for part in parts
            for access in part.accesses
        )
        in_order = bands == 1 and self.rows * row_bytes <= CACHE_BYTES
        block = self.rows if in_order else max(block, min(MOST_BLOCK, CACHE_BYTES // row_bytes - steps * reach))

        def sweep(first: int, count: int, repeat: int = 1) -> Sweep:
            stages = self._stages(parts, range(first, first + count))
            if in_order:
                stages = [replace(stage, lag=0) for stage in stages]
            return Sweep(stages, repeat, self.rows, bands, block, is_cyclic and not in_order)

        if length <= steps:
            return [sweep(0, length)]
        repeat, rest = divmod(length - steps, steps)
        found = [sweep(0, steps)]
        found += [sweep(steps, steps, repeat)] if repeat else []
        found += [sweep(length - rest, rest)] if rest else []
        return found

    def _stages(self, parts: list[Part], steps: range) -> list[Stage]:
        stages: list[Stage] = []
        touched: dict[Buffer, dict[tuple[bool, int, int], int]] = {}  # in which way → the latest lag
        for step in steps:
            for part in parts:
                if step >= part.settles:
                    continue
                lag = 0
                keys = [self._buffer(self.memory(access.value, step)) for access in part.accesses]
                for key, own in zip(keys, part.accesses, strict=True):
                    for (is_written, low, high), before in touched.get(key, {}).items():
                        if own.is_written or is_written:
                            lag = max(lag, before + max(own.high - low, high - own.low))
                stages.append(Stage(part, tuple(self.memory(value, step) for value in part.call.buffers), lag))
                for key, own in zip(keys, part.accesses, strict=True):
                    ways = touched.setdefault(key, {})
                    way = own.is_written, own.low, own.high
                    ways[way] = max(lag, ways.get(way, 0))
        return stages


# Addresses ----------------------------------------------------------------------------------------------


@facts(frozen=True)
class Walked:
    """An access, with numbers for parameters."""

    buffer: str
    is_written: bool
    offset: int
    strides: dict[str, int]
    extents: dict[str, int]
    is_unknown: bool  # where, until the kernel runs

    def span(self, without: str = "") -> tuple[int, int]:
        """The first and the last element, where an axis is at 0."""
        low = high = self.offset
        for axis, stride in self.strides.items():
            if axis != without:
                reach = stride * (self.extents[axis] - 1)
                low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high


def _accesses(
    statements: Sequence[k.Statement], extents: dict[str, int], numbers: Mapping[str, int]
) -> Iterator[Walked | None]:
    """Every access of some statements; ``None`` for what is not understood."""
    for statement in statements:
        match statement:
            case k.Loop(axis, extent, _, body, _) | k.Reduce(axis, extent, _, _, body, _, None):
                yield from _accesses(body, {**extents, axis: _number(extent, numbers)}, numbers)
            case k.Reduce():
                yield None
            case k.Load(buffer, at) | k.Store(buffer, at):
                strides = {axis: _number(stride, numbers) for axis, stride in at.terms.items() if stride != 0}
                offset, is_written = _number(at.offset, numbers) + at.shift, isinstance(statement, k.Store)
                yield Walked(buffer, is_written, offset, strides, extents, bool(at.dynamic))


def accesses_of(call: KernelCall) -> Iterator[Walked | None]:
    """Every access of a kernel; ``None`` for what is not understood."""
    return _accesses(call.kernel.body, {}, dict(zip(call.kernel.parameters, call.parameters, strict=True)))


def _number(extent: k.Extent, numbers: Mapping[str, int]) -> int:
    return extent if isinstance(extent, int) else numbers[extent]


def _row(value: Value) -> int:
    """How many elements a value has for each of its rows."""
    return math.prod(value.type.static_shape[1:])


def _are_disjoint(one: Walked, other: Walked, shape: Sequence[int]) -> bool:
    """Whether two accesses to an array have no element in common, as far as boxes tell."""
    boxes = [_box(access, shape) for access in (one, other)]
    return any(x[1] < y[0] or y[1] < x[0] for x, y in zip(*boxes, strict=False))


def _box(access: Walked, shape: Sequence[int]) -> list[tuple[int, int]]:
    """The first and the last index along each axis; fewer axes where the access goes from one row into the next."""
    offset, box = access.offset, []
    left = dict(access.strides)
    for number in range(len(shape)):
        stride = math.prod(shape[number + 1 :])
        first, offset = divmod(offset, stride)
        inside = {axis: s for axis, s in left.items() if abs(s) < stride}
        low, high = Walked("", False, offset, inside, access.extents, False).span()
        outside = {axis: s // stride for axis, s in left.items() if axis not in inside}
        begin, end = Walked("", False, first, outside, access.extents, False).span()
        box.append((begin + low // stride, end + high // stride))
        if low < 0 or high >= stride or any(s % stride for axis, s in left.items() if axis not in inside):
            return box
        left = inside
    return box
