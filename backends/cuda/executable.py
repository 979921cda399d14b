"""Running programs on a device: Python drives branches and loops, the device does what lies between.

Each program has *words*: the addresses of its inputs, outputs, constants and intermediates, and the numbers that its
kernels take.  The arguments of a launch are some of them, told once by their numbers; a run sets the addresses that
vary and has the device do the work.
"""

from __future__ import annotations

import itertools
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracejit.ir import Constant, Graph, Op, TensorType, Value
from tracejit.ir.interpreter import interpret
from tracejit.ir.primitive import Elementwise, Primitive
from tracejit.ir.types import Symbol, int64

from ..control import Carry, Slices
from ..devices import ALIGNMENT, Copy, Device, Launch, Product, Replays, Work, device_of, moved, on_host
from ..program import BranchCall, Call, CopyCall, DotCall, HostCall, KernelCall, LoopCall, Place, Program, walk
from . import codegen
from .batches import Batch, together

Step = Callable[[], None]
FEW_STEPS = 8  # by which a number is counted
STILL_BYTES = 1 << 20  # of an input or output: to copy so much takes less than to launch a few kernels
SMALL = 256  # bytes: the host's inputs up to that size are sent together


def entries(program: Program, arch: str = codegen.ARCH) -> list[codegen.Entry]:
    """The functions that a program launches, each once."""
    return entries_of(ordered(program).values(), arch)


def ordered(program: Program) -> dict[int, list[Call | Batch]]:
    """By the identity of a program's list of calls, those of branches and loops among them: what is done in turn."""
    found: dict[int, list[Call | Batch]] = {}
    waiting: list[Sequence[Call]] = [program.calls]
    while waiting:
        calls = waiting.pop()
        found[id(calls)] = together(calls, program.places)
        waiting += [body.calls for call in calls for body in call.nested()]
    return found


def entries_of(orders: Iterable[Sequence[Call | Batch]], arch: str) -> list[codegen.Entry]:
    found: dict[str, codegen.Entry] = {}
    for call in itertools.chain.from_iterable(orders):
        if isinstance(call, Batch):
            found[call.entry.name] = call.entry
        elif isinstance(call, KernelCall):
            stages = codegen.launch_of(call.kernel, call.parameters, arch).stages
            found.update({stage.entry.name: stage.entry for stage in stages})
    return list(found.values())


class Executable:
    """A program ready to run on a device: call it with input arrays, the host's among them, get the device's arrays."""

    def __init__(self, program: Program, device: Device) -> None:
        self.program, self.device = program, device
        self.orders = ordered(program)
        self.functions = device.load(entries_of(self.orders.values(), device.arch))
        self.constants = [device.upload(constant) for constant in program.constants]
        self._frames: dict[int, list[_Frame]] = {}  # by the stream that uses their memory
        self._lock = threading.Lock()

    def waiting_memory(self) -> tuple[Any, Any]:
        """The counters and the memory for partial results that launches share, one after the other."""
        calls = [call for call in walk(self.program.calls) if isinstance(call, KernelCall)]
        launches = [codegen.launch_of(call.kernel, call.parameters, self.device.arch) for call in calls]
        counters = max((launch.counters for launch in launches), default=0)
        partial_bytes = max((launch.partial_bytes for launch in launches), default=0)
        device = self.device
        if not partial_bytes:
            return None, None
        return device.upload(np.zeros(max(counters, 1), np.uint32)), device.empty((partial_bytes,), np.dtype(np.uint8))

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        with self._lock:
            frames = self._frames.setdefault(self.device.stream, [])
            frame = frames.pop() if frames else None
        if frame is None:
            frame = _Frame(self)
        results = frame.run(inputs)
        if self.device.keeps_memory:
            with self._lock:
                frames.append(frame)
        return results


@dataclass(frozen=True, slots=True)
class Count:
    """A number that follows from few others in few steps: where those are the host's, so is it.

    The position of a generator is one.  To wait for the device would take longer than all that it does.
    """

    graph: Graph
    inputs: Mapping[Value, int]  # parameters → numbers of the program's inputs

    @classmethod
    def of(cls, result: Value, places: Mapping[Value, Place]) -> Count | None:
        """How a result is counted; ``None`` where it is not."""
        ops: dict[Op, None] = {}
        inputs: dict[Value, int] = {}
        waiting = [result]
        while waiting:
            value = waiting.pop()
            place = places.get(value)
            if value.shape or value.dtype.kind not in "iu":
                return None
            if value.op is not None:
                if not isinstance(value.op.primitive, Elementwise) or len(ops) >= FEW_STEPS:
                    return None
                ops = {value.op: None, **{op: None for op in ops if op is not value.op}}
                waiting += [operand for operand in value.op.operands if not isinstance(operand, Constant)]
            elif place is not None and place.space == "input":
                inputs[value] = place.number
            else:
                return None
        return cls(Graph("count", list(inputs), list(ops), [result]), inputs) if ops and inputs else None

    def on_host(self, arrays: Sequence[Any]) -> np.ndarray:
        from ..cpu import runtime

        return interpret(self.graph, [arrays[number] for number in self.inputs.values()], runtime.evaluate)[0]


class _Frame:
    """The words of one run at a time, and what is done with them."""

    def __init__(self, executable: Executable) -> None:
        self._executable = executable
        self._device, self._program = executable.device, executable.program
        program = self._program
        self._words = array("q")
        self._slots: dict[tuple[str, int], int] = {}
        self._numbers: dict[int, int] = {}  # words of the program that hold extents
        self._grown: dict[int, Any] = {}  # by cursor: memory that is found out to be needed
        self._arena = self._device.empty((program.arena_bytes,), np.dtype(np.uint8)) if program.arena_bytes else None
        self._counters, self._partials = executable.waiting_memory()
        self._inputs = [self._slot(("input", number)) for number in range(len(program.inputs))]
        self._outputs = [self._slot(("output", number)) for number in range(len(program.outputs))]
        for number, constant in enumerate(executable.constants):
            self._words[self._slot(("constant", number))] = self._device.address(constant)
        self._steps = self._block(program.calls)
        self._runners = [step for step in self._steps if isinstance(step, Replays)]
        self._before: dict[int, int] = {}  # where inputs and outputs were when addresses were last looked at
        self._given: dict[int, int] = {}  # where outputs are wanted that are held still
        self._still_inputs: dict[int, tuple[Any, int]] = {}  # with their bytes
        self._still_outputs: dict[int, tuple[Any, int]] = {}
        for place, value in zip(program.results, program.result_values, strict=True):
            if place.space not in ("input", "output", "constant"):
                self._place(value)  # no word is added after this: devices may have taken down where they are

        self._counts = {
            number: found
            for number, value in enumerate(program.result_values)
            if (found := Count.of(value, program.places)) is not None
        }

    # A run ------------------------------------------------------------------------------------------

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        device, words = self._device, self._words
        held = self._read(inputs)
        outputs = [device.empty(type.static_shape, type.dtype) for type in self._program.outputs]
        for slot, output in zip(self._outputs, outputs, strict=True):
            words[slot] = device.address(output)
        self._settle()
        for step in self._steps:
            step()
        for slot, (still, nbytes) in self._still_outputs.items():
            device.copy(self._given[slot], device.address(still), nbytes)
        results = []
        for place, value in zip(self._program.results, self._program.result_values, strict=True):
            match place.space:
                case "output":
                    results.append(outputs[place.number])
                case "input":
                    results.append(moved(inputs[place.number], device))
                case "constant":
                    results.append(self._executable.constants[place.number])
                case _:
                    results.append(self._fetched(value))
        for number, count in self._counts.items():
            if all(device_of(inputs[place]) is None for place in count.inputs.values()):
                results[number] = count.on_host(inputs)
        self._grown.clear()
        del held
        return results

    def _settle(self) -> None:
        """Where addresses never come again, put what is small to the same places each time: then they do."""
        device, words = self._device, self._words
        if any(step.is_lost for step in self._runners):
            now = {slot: words[slot] for slot in (*self._inputs, *self._outputs)}
            before, self._before = self._before, now
            if before:
                self._hold_still([slot for slot, address in now.items() if before[slot] != address])
                for step in self._runners:
                    step.start_again()
        for slot, (still, nbytes) in self._still_inputs.items():
            device.copy(device.address(still), words[slot], nbytes)
            words[slot] = device.address(still)
        for slot, (still, _) in self._still_outputs.items():
            self._given[slot] = words[slot]
            words[slot] = device.address(still)

    def _hold_still(self, moving: Sequence[int]) -> None:
        """Memory for the inputs and outputs behind these words, of those that are not much to copy."""
        program = self._program
        for slots, types, still in (
            (self._inputs, program.inputs, self._still_inputs),
            (self._outputs, program.outputs, self._still_outputs),
        ):
            for slot, type in zip(slots, types, strict=True):
                if slot in moving and slot not in still and type.is_static and 0 < type.nbytes <= STILL_BYTES:
                    still[slot] = self._device.empty(type.static_shape, type.dtype), type.nbytes

    def _read(self, inputs: Sequence[Any]) -> list[Any]:
        """Set the inputs' addresses; what has to be kept until the work has been asked for."""
        device, words = self._device, self._words
        held: list[Any] = []
        small: list[tuple[int, np.ndarray]] = []
        for slot, given in zip(self._inputs, inputs, strict=True):
            if device_of(given) is None and given.nbytes <= SMALL:
                small.append((slot, np.ascontiguousarray(given)))
                continue
            held.append(device.contiguous(moved(given, device)))
            words[slot] = device.address(held[-1])
        if small:
            offsets, size = [], 0
            for _, item in small:
                offsets.append(size)
                size += -(-item.nbytes // ALIGNMENT) * ALIGNMENT
            packed = np.zeros(size, np.uint8)
            for offset, (_, item) in zip(offsets, small, strict=True):
                packed[offset : offset + item.nbytes] = item.reshape(-1).view(np.uint8)
            held.append(device.upload(packed))
            start = device.address(held[-1])
            for offset, (slot, _) in zip(offsets, small, strict=True):
                words[slot] = start + offset
        return held

    def _fetched(self, value: Value) -> Any:
        """A result whose memory is the program's own."""
        shape = tuple([self._extent(dim) for dim in value.shape])
        made = self._device.empty(shape, value.dtype)
        if 0 not in shape:
            source = self._words[self._place(value)]
            self._device.copy(self._device.address(made), source, TensorType(value.dtype, shape).nbytes)
        return made

    # Words ------------------------------------------------------------------------------------------

    def _slot(self, key: tuple[str, int], word: int = 0) -> int:
        """The number of the word for a key."""
        found = self._slots.get(key)
        if found is None:
            found = self._slots[key] = len(self._words)
            self._words.append(word)
        return found

    def _number(self, number: int) -> int:
        return self._slot(("number", number), number)

    def _place(self, value: Value) -> int:
        """The word that holds a value's address."""
        place: Place = self._program.places[value]
        start = self._device.address(self._arena) if place.space == "arena" and self._arena is not None else 0
        return self._slot((place.space, place.number), start + place.number if start else 0)

    def _extent(self, dim: Any) -> int:
        return self._numbers[self._program.symbols[dim]] if isinstance(dim, Symbol) else dim

    def _number_in(self, value: Value) -> Any:
        """A value's only element, on the host."""
        found: Any = self._device.read(self._words[self._place(value)], value.type.nbytes).view(value.dtype)[0]
        return found

    def _array(self, value: Value, extents: Mapping[Symbol, int]) -> Any:
        """A value's elements, in memory of their own."""
        shape = tuple([extents[dim] if isinstance(dim, Symbol) else dim for dim in value.shape])
        made, nbytes = self._device.empty(shape, value.dtype), TensorType(value.dtype, shape).nbytes
        if nbytes:
            self._device.copy(self._device.address(made), self._words[self._place(value)], nbytes)
        return made

    def _reserve(self, cursor: int, nbytes: int) -> None:
        """See to it that there is room for some bytes behind a cursor that grows."""
        old = self._grown.get(cursor)
        if old is not None and old.size >= nbytes:
            return
        device = self._device
        new = device.empty((max(nbytes, 2 * old.size if old is not None else 0, 4096),), np.dtype(np.uint8))
        if old is not None:
            device.copy(device.address(new), device.address(old), old.size)
        self._grown[cursor] = new
        self._words[self._slot(("cursor", cursor))] = device.address(new)

    # Calls ------------------------------------------------------------------------------------------

    def _block(self, calls: Sequence[Call]) -> list[Step]:
        """Some calls; the device gets those that it can do by itself together."""
        steps: list[Step] = []
        work: list[Work] = []

        def flush() -> None:
            if work:
                steps.append(self._device.runner(list(work)))
                work.clear()

        for call in self._executable.orders[id(calls)]:
            match call:
                case Batch():
                    work.append(self._launch_of_many(call))
                case KernelCall():
                    work += self._launches(call)
                case DotCall():
                    work.append(Product(call, self._words, [self._place(value) for value in call.buffers]))
                case CopyCall():
                    places = self._place(call.target), self._place(call.source)
                    work.append(Copy(call.target.type.nbytes, self._words, places))
                case HostCall():
                    flush()
                    steps.append(self._call_without_kernel(call))
                case BranchCall():
                    flush()
                    steps.append(self._branch(call))
                case LoopCall():
                    flush()
                    steps.append(self._loop(call))
        flush()
        return steps

    def _arguments(self, call: KernelCall) -> list[int]:
        return [self._place(value) for value in call.buffers] + [self._number(number) for number in call.parameters]

    def _launches(self, call: KernelCall) -> Iterator[Launch]:
        launch = codegen.launch_of(call.kernel, call.parameters, self._device.arch)
        slots = self._arguments(call)
        if launch.partial_bytes:
            for name, memory in (("counters", self._counters), ("partials", self._partials)):
                slots.append(self._slot((name, 0), self._device.address(memory)))
        for stage in launch.stages:
            numbers = [self._number(number) for number in stage.numbers]
            function = self._executable.functions[stage.entry.name]
            yield Launch(stage.entry, function, stage.grid, self._words, [*slots, *numbers])

    def _launch_of_many(self, batch: Batch) -> Launch:
        slots = [slot for call in batch.calls for slot in self._arguments(call)]
        grids = [codegen.launch_of(call.kernel, call.parameters).grid for call in batch.calls]
        ends = list(itertools.accumulate(grids))
        function = self._executable.functions[batch.entry.name]
        return Launch(batch.entry, function, ends[-1], self._words, slots, ends)

    def _call_without_kernel(self, call: HostCall) -> Step:
        """An op, or several with extents that are found out, one by one on the device where it has what it takes."""
        device = self._device

        def evaluate(primitive: Primitive, arrays: tuple[Any, ...], attributes: Mapping[str, Any]) -> Any:
            from ..cpu import runtime
            from . import evaluation

            if "regions" in attributes:
                return runtime.evaluate(primitive, [on_host(array) for array in arrays], attributes)
            return evaluation.evaluate(primitive, [moved(array, device) for array in arrays], attributes, device)

        def step() -> None:
            extents = {symbol: self._numbers[word] for symbol, word in call.symbols.items() if word in self._numbers}
            sources = [self._array(value, extents) for value in call.sources]
            for value, found in zip(call.op.results, call.evaluate(sources, extents, evaluate), strict=True):
                place, nbytes = self._program.places[value], found.nbytes
                if not value.type.is_static:
                    self._reserve(place.number, nbytes)
                if nbytes:
                    whole = device.contiguous(moved(found, device))
                    device.copy(self._words[self._place(value)], device.address(whole), nbytes)

        for value in (*call.sources, *call.op.results):
            self._place(value)
        return step

    def _branch(self, call: BranchCall) -> Step:
        bodies = [self._block(body.calls) for body in call.bodies]

        def step() -> None:
            selected = self._number_in(call.selector)
            for inner in bodies[min(max(int(selected), 0), len(bodies) - 1)]:
                inner()

        self._place(call.selector)
        return step

    def _loop(self, call: LoopCall) -> Step:
        words, device = self._words, self._device
        condition = [] if call.condition is None else self._block(call.condition.calls)
        body = self._block(call.body.calls)
        carries = [_Carry(self, carry) for carry in call.carries]
        inputs = [_Slices(self, slices) for slices in call.inputs]
        stacked = [_Slices(self, slices) for slices in call.stacked]
        counter = None if call.counter is None else self._place(call.counter)
        for value in (call.predicate,) if call.predicate is not None else ():
            self._place(value)

        def step() -> None:
            length = None
            if call.predicate is None:
                length = self._numbers[call.steps] if call.steps is not None else call.length or 0
            for carry in carries:
                carry.begin(length or 0)
            count = 0
            while length is None or count < length:
                for inner in condition:
                    inner()
                if call.predicate is not None and not self._number_in(call.predicate):
                    break
                position = length - 1 - count if call.reverse and length is not None else count
                if counter is not None:
                    device.write(words[counter], np.asarray(position, int64))
                for slices in (*inputs, *stacked):
                    slices.move(position)
                for inner in body:
                    inner()
                for carry in carries:
                    carry.rotate()
                count += 1
            for carry in carries:
                carry.end()
            if call.predicate is not None and call.steps is not None:
                self._numbers[call.steps] = count

        return step


class _Carry:
    """What goes from step to step, in two buffers by turns."""

    def __init__(self, frame: _Frame, carry: Carry) -> None:
        self._words, self._device = frame._words, frame._device
        self._nbytes = carry.result.type.nbytes
        self._first, self._result, self._spare = map(frame._place, (carry.first, carry.result, carry.spare))
        self._current, self._next = frame._place(carry.current), frame._place(carry.next)

    def begin(self, length: int) -> None:
        words = self._words
        words[self._current] = words[self._first]
        words[self._next] = words[self._result if length % 2 else self._spare]

    def rotate(self) -> None:
        words = self._words
        words[self._current] = written = words[self._next]
        words[self._next] = words[self._result] + words[self._spare] - written

    def end(self) -> None:
        words = self._words
        if words[self._current] != words[self._result]:
            self._device.copy(words[self._result], words[self._current], self._nbytes)


class _Slices:
    """A value that the steps read or write a slice of."""

    def __init__(self, frame: _Frame, slices: Slices) -> None:
        self._frame = frame
        self._whole, self._step = frame._place(slices.whole), frame._place(slices.step)
        self._nbytes = slices.step.type.nbytes
        place = frame._program.places[slices.whole]
        self._cursor = None if slices.whole.type.is_static or place.space != "cursor" else place.number

    def move(self, position: int) -> None:
        words = self._frame._words
        if self._cursor is not None:
            self._frame._reserve(self._cursor, (position + 1) * self._nbytes)
        words[self._step] = words[self._whole] + position * self._nbytes
