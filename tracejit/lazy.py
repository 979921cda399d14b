"""The lazy tier: Python runs at each call, and what it computes is put off until Python asks for a value.

For functions whose Python code must run at each call: it prints, reads a clock, changes an object that no compiled
path can reach, or asks for another value each time.  Operations are only noted; when Python wants to see a value,
and at the end, all that was noted since runs as one program, compiled when the same stretch of operations comes for
the second time, whatever the numbers in it.  Effects are those of eager code, at once and in order.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.devices import Unplaced, in_use, moved, on_host
from tracejit.backends.forking import lock
from tracejit.ir import Block, Builder, Constant, Graph, Primitive, TensorType, Value, type_of

from . import device as devices
from .locations import at_user_line, user_location
from .paths import Check
from .places import Place
from .state import thread
from .tape import AccumulateGrad, Node, RegionCall
from .tensor import Tensor, new_tensor

if TYPE_CHECKING:
    from .compiled import Executable
    from .guards import Guard

MAX_STEPS = 200_000  # remembered, of one function's calls


class LazyValue(Value):
    """A result that is not computed yet (``array`` is ``None``), or is."""

    __slots__ = ("__weakref__", "_trace", "array", "number", "place")

    def __init__(
        self, type: TensorType, number: int, array: np.ndarray | None = None, trace: LazyTrace | None = None
    ) -> None:
        super().__init__(type)
        self._trace = trace
        self.number = number  # among the operations put off
        self.array = array
        self.place: str | None = None  # the device that it is on; a constant's is not known

    def settled(self) -> np.ndarray:
        """The array, for a thread that the function has handed the tensor to."""
        if self.array is None:
            assert self._trace is not None
            self._trace.flush()
        assert self.array is not None
        return self.array


class Step:
    """One operation after those before it, in any call: what may follow, and the programs that end here."""

    __slots__ = ("following", "programs", "type")

    def __init__(self, type: TensorType | None) -> None:
        self.type = type
        self.following: dict[Any, Step] = {}
        self.programs: dict[tuple[int, ...], Executable | None] = {}  # by which results are wanted; None: seen once


class Stretches:
    """What a function's calls have put off so far, as a tree of steps."""

    def __init__(self) -> None:
        self.root = Step(None)
        self.count = 0
        self.compiled = 0
        self.lock = lock()  # held by a call: what it changes is not seen half done by another

    def follow(self, step: Step, key: Any, infer: Callable[[], TensorType]) -> Step:
        found = step.following.get(key)
        if found is None:
            if self.count >= MAX_STEPS:
                self.root, self.count = Step(None), 0
            found = step.following[key] = Step(infer())
            self.count += 1
        return found


class LazyTrace:
    """The trace that is active while a function runs in the lazy tier."""

    def __init__(self, stretches: Stretches) -> None:
        self.stretches = stretches
        self._lock = lock()  # other threads may ask for a value
        self.born: list[weakref.ref[Tensor]] = []
        self.differentiated = None
        self.anomaly = False
        self.failed = None
        self.region = None
        self._touched: dict[int, Tensor] = {}  # tensors from outside, which may have been given a value put off
        self._begin()

    def _begin(self) -> None:
        self._step = self.stretches.root
        self._ops: list[tuple[Primitive, tuple[int, ...], Mapping[str, Any], TensorType]] = []
        self._inputs: list[np.ndarray] = []
        self._slots: dict[int, int] = {}  # an array's identity → its number among the inputs
        self._device: str | None = None  # the one that is not the CPU where it is done
        self._waiting: list[weakref.ref[LazyValue]] = []

    # What the library asks of a trace ---------------------------------------------------------------

    def shadow(self, tensor: Tensor) -> Tensor:
        """The tensor itself: what is done to it is done at once."""
        self._touched[id(tensor)] = tensor
        return tensor

    def read(self, tensor: Tensor) -> Any:
        return tensor._value

    def constant(self, array: np.ndarray) -> np.ndarray:
        return array

    def number(self, owner: Any, name: Any, find: Place) -> LazyValue:
        array = np.asarray(float(find()), np.float64)
        return LazyValue(type_of(array), -1, array)

    def guard(self, key: Any, guard: Guard) -> None:
        """Nothing is relied on: Python runs at each call."""

    def changes(self, item: Any, otherwise: str) -> bool:
        """Nothing is repeated: a change is made when Python makes it."""
        return False

    def refuse(self, what: str) -> None:
        """Python code may do anything."""

    def refuse_history(self, leaf: Tensor) -> None:
        """Its history is there."""

    def refuse_hooks(self, leaf: Tensor) -> None:
        """Hooks run when Python comes to them."""

    def shape_of(self, tensor: Tensor) -> tuple[int, ...]:
        return tuple(tensor._value.shape)

    def check(self, predicate: Any, error: type[Exception], message: str, extents: tuple[int, ...]) -> None:
        """Raise if ``predicate`` is false: now, since Python goes on to effects that would not be undone."""
        if not self.concrete(predicate, "a check"):
            Check(predicate, error, message, user_location()[0], extents).fail()

    def concrete(self, value: Any, what: str) -> np.ndarray:
        """The array of a value: all that was put off runs now."""
        if isinstance(value, LazyValue):
            if value.array is None:
                self.flush()
            assert value.array is not None
            return on_host(value.array)
        return on_host(value.array if isinstance(value, Constant) else value)

    def place_of(self, value: Any) -> str | None:
        """The name of the device that a value is on; ``None`` for a constant, which goes where it is needed."""
        if isinstance(value, LazyValue):
            return value.place
        return None if isinstance(value, Value | Unplaced) else devices.name_of(value)

    def put(self, tensor: Tensor, place: str) -> None:
        """A tensor that has just been made is on a device."""
        value = tensor._value
        if isinstance(value, LazyValue):
            value.place = place
        else:
            tensor._value = moved(np.asarray(value), devices.find(place))

    def shown(self, value: Any, what: str) -> np.ndarray:
        return self.concrete(value, what)

    def effect(self, function: Callable[..., None], operands: Sequence[Tensor]) -> None:
        """Call ``function`` now."""
        function(*[new_tensor(self.concrete(operand._value, "a callback")) for operand in operands])

    def extent(self, value: Any, what: str) -> int:
        return int(self.concrete(value, what))

    def item(self, tensor: Tensor) -> Any:
        return self.concrete(self.read(tensor), "item()").item()

    # Operations -------------------------------------------------------------------------------------

    def record(self, primitive: Primitive, operands: Sequence[Any], attributes: Mapping[str, Any]) -> LazyValue:
        with self._lock:
            return self._placed(primitive, operands, attributes)

    def _placed(self, primitive: Primitive, operands: Sequence[Any], attributes: Mapping[str, Any]) -> LazyValue:
        if not in_use[0]:
            return self._record(primitive, operands, attributes)
        known = [(place, len(x.shape)) for x in operands if (place := self.place_of(x)) is not None]
        place = devices.join(known) if known else None
        if primitive.name == "device_put":
            place = attributes["target"]
        if place is not None and place != "cpu":
            if self._device not in (None, place):
                self.flush()
            self._device = place
        value = self._record(primitive, operands, attributes)
        value.place = place
        return value

    def _record(self, primitive: Primitive, operands: Sequence[Any], attributes: Mapping[str, Any]) -> LazyValue:
        numbers: list[int] = []
        key: list[Any] = [primitive]
        for operand in operands:
            if isinstance(operand, LazyValue) and operand.array is None:
                numbers.append(operand.number)
                key.append(operand.number)
                continue
            array: np.ndarray = operand.array if isinstance(operand, Value) else operand  # type: ignore[attr-defined]
            slot = self._slots.get(id(array))
            if slot is None:
                slot = self._slots[id(array)] = len(self._inputs)
                self._inputs.append(array)
            numbers.append(-1 - slot)
            key += (-1 - slot, array.dtype, array.shape)
            if in_use[0]:
                key.append(devices.name_of(array))
        if attributes:
            key += attributes.items()

        def infer() -> TensorType:
            types = [self._ops[n][3] if n >= 0 else type_of(self._inputs[-1 - n]) for n in numbers]
            try:
                return primitive.infer(types, attributes)
            except (TypeError, ValueError) as error:
                raise at_user_line(error) from None

        step = self._step = self.stretches.follow(self._step, tuple(key), infer)
        assert step.type is not None
        value = LazyValue(step.type, len(self._ops), trace=self)
        self._ops.append((primitive, tuple(numbers), attributes, step.type))
        self._waiting.append(weakref.ref(value))
        return value

    def flush(self) -> None:
        """Compute everything that is still wanted of what was put off."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        wanted = {value.number: value for ref in self._waiting if (value := ref()) is not None}
        if wanted:
            step, numbers = self._step, tuple(wanted)
            executable = step.programs.get(numbers)
            if executable is not None:
                results = executable(self._inputs)
            else:
                results = self._compute(numbers)
                if numbers in step.programs:
                    step.programs[numbers] = self._compile(numbers)
                    self.stretches.compiled += 1
                else:
                    step.programs[numbers] = None
            for number, array in zip(numbers, results, strict=True):
                value = wanted[number]
                value.array = array if value.place is None else moved(array, devices.find(value.place))
        self._begin()

    def _compute(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Op by op, as eager code does."""
        last: dict[int, int] = {}
        for position, (_, operands, _, _) in enumerate(self._ops):
            last.update(dict.fromkeys(operands, position))
        last.update(dict.fromkeys(numbers, len(self._ops)))
        arrays: dict[int, np.ndarray] = {}
        for position, (primitive, operands, attributes, _) in enumerate(self._ops):
            if position not in last:
                continue
            given = [arrays[n] if n >= 0 else self._inputs[-1 - n] for n in operands]
            arrays[position] = devices.evaluate(primitive, given, attributes)
            for number in {n for n in operands if n >= 0 and last[n] == position}:
                del arrays[number]
        return [arrays[number] for number in numbers]

    def _compile(self, numbers: Sequence[int]) -> Executable:
        from tracejit.backends.cpu.stored import optimized_program

        from .compiled import executable_of

        graph = Graph("stretch")
        builder = Builder(graph)
        inputs = [builder.parameter(type_of(array)) for array in self._inputs]
        values: list[Value] = []
        for primitive, operands, attributes, _ in self._ops:
            given = [values[n] if n >= 0 else inputs[-1 - n] for n in operands]
            values.append(builder.apply(primitive, given, attributes))
        graph.results = [values[number] for number in numbers]
        on_cpu = self._device is None
        return executable_of(graph, "stretch", self._device, lambda: optimized_program(graph, host=on_cpu))

    def record_control(
        self, primitive: Primitive, operands: Sequence[Any], attributes: Mapping[str, Any], regions: Sequence[Block]
    ) -> Sequence[np.ndarray]:
        """The results of an op with regions: it is not put off."""
        arrays = [self._array(operand) for operand in operands]
        return devices.evaluate_control(primitive, arrays, attributes, regions)

    def _array(self, value: Any) -> Any:
        """The array of a value, wherever it is."""
        if isinstance(value, LazyValue) and value.array is None:
            self.flush()
        return value.array if isinstance(value, Value) else value  # type: ignore[attr-defined]

    def settle(self) -> None:
        """Compute everything that was put off, and have tensors hold what it is."""
        self.flush()
        for tensor in (*(found for ref in self.born if (found := ref()) is not None), *self._touched.values()):
            if isinstance(tensor._value, LazyValue):
                tensor._value = tensor._value.array

    # The end ----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Compute what is left, and leave no value put off behind in any tensor or on the tape."""
        alive = [tensor for ref in self.born if (tensor := ref()) is not None]
        tensors = {id(tensor): tensor for tensor in (*alive, *self._touched.values())}
        for tensor in list(tensors.values()):
            gradient = tensor._grad
            if gradient is not None:
                tensors[id(gradient)] = gradient
        self.flush()
        nodes: list[Node] = []
        for tensor in tensors.values():
            if isinstance(tensor._value, LazyValue):
                tensor._value = tensor._value.array
            if tensor._node is not None:
                nodes.append(tensor._node)
        seen: set[int] = set()
        while nodes:
            node = nodes.pop()
            if id(node) in seen or isinstance(node, AccumulateGrad):
                continue
            seen.add(id(node))
            nodes += [edge for edge in node.edges if edge is not None]
            call = getattr(node, "call", None)
            if isinstance(call, RegionCall):
                call.replace(_computed)
            application = node.application
            if application is not None:
                application.operands = tuple([_computed(operand) for operand in application.operands])
                application.result = _computed(application.result)


def _computed(payload: Any) -> Any:
    return payload.array if isinstance(payload, LazyValue) else payload


def run_lazily(function: Callable[..., Any], stretches: Stretches, args: Any, kwargs: Any) -> Any:
    """Call ``function``, its operations put off."""
    if thread.anomaly:  # each operation is looked at when it is done
        return function(*args, **kwargs)
    with stretches.lock:
        trace: Any = LazyTrace(stretches)
        thread.trace = trace
        try:
            return function(*args, **kwargs)
        finally:
            try:
                trace.finish()
            finally:
                thread.trace = None
