"""Tracing: one run of a function, recorded as a graph while the world stays as it is.

While a trace is active in a thread, operations append to its graph instead of computing.  Tensors made
during the trace hold values of the graph.  Tensors that were there before are *shadowed*: the trace reads
them as parameters of the graph and keeps what is written to them to itself, so that a trace that fails has
changed nothing, and other threads see nothing of it.  What a trace would have changed becomes its *effects*,
committed when the compiled program has run.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.devices import Unplaced, in_use, is_array, on_host
from tracejit.ir import Block, Builder, Constant, Graph, Location, Op, Primitive, Symbol, TensorType, Value, type_of
from tracejit.ir.extents import ExtentValue, Fact, Sizes, Substitution
from tracejit.ir.facts import replace
from tracejit.ir.graph import copy_block
from tracejit.ir.primitives import effect
from tracejit.ir.structure import regions_key

from . import device as devices
from .guards import (
    ArgumentsAreOthers,
    Guard,
    HasGradient,
    NoHooks,
    RequiresGrad,
    SamePlaces,
    SameTypes,
    SameValue,
    has_hooks,
)
from .levels import innermost
from .locations import at_user_line, location_of, user_frame, user_location
from .paths import Check, Decision, Segment
from .places import Place
from .sources import Argument, Captured, GradientOf, Input, Number, Reached, Source
from .state import thread
from .tensor import Tensor

if TYPE_CHECKING:
    from .for_loops import ForLoops
    from .loops import Loops
    from .regions import Region
    from .tape import Node
    from .transforms.checkpointing import Recording
    from .world import World

MAX_DECISIONS = 64  # in one path
MAX_OUTCOMES = 8  # of one decision


class Untraceable(BaseException):
    """The function does something that a graph cannot hold: its Python code runs at each call.

    Not an ``Exception``: user code that catches those must not swallow it.
    """

    def __init__(self, reason: str) -> None:
        location, _ = user_location()
        self.reason = reason
        self.location = location
        if thread.trace is not None:
            thread.trace.failed = self
        super().__init__(f"{reason} at {location}" if location else reason)


class AliasedArgument(BaseException):
    """The function reaches one of its arguments by another way too: it is traced again with the very tensors."""


class Shadow:
    """What a trace knows of a tensor that was there before: the same fields as the tensor's own."""

    __slots__ = (
        "_gradient", "_node", "_value", "first", "first_node", "gradient_is_written", "source", "tensor", "trace",
    )  # fmt: skip

    def __init__(self, tensor: Tensor, source: Source, trace: Trace) -> None:
        self.tensor = tensor
        self.source = source
        self.trace = trace
        self._value: Value | None = None  # not read yet
        self.first: Value | None = None  # the parameter that stands for it
        self._node: Node | None = None  # an argument is a leaf here, whatever its history outside
        self.first_node: Node | None = None  # the history that it has here when it is read first
        self._gradient = tensor._grad
        self.gradient_is_written = False

    @property
    def _requires_grad(self) -> bool:
        """The tensor's flag, guarded where it is read (an argument's is part of the call's key)."""
        if not isinstance(self.source, Argument):
            guard = RequiresGrad(self.source, self.tensor._requires_grad, self.trace.name_of(self.tensor))
            self.trace.guard(("requires_grad", id(self.tensor)), guard)
        return self.tensor._requires_grad

    @_requires_grad.setter
    def _requires_grad(self, flag: bool) -> None:
        if flag != self.tensor._requires_grad:
            raise Untraceable("it changes requires_grad of a tensor from outside")

    @property
    def _grad(self) -> Tensor | None:
        return self._gradient

    @_grad.setter
    def _grad(self, gradient: Tensor | None) -> None:
        self._gradient = gradient
        self.gradient_is_written = True


_HELD = ("_value", "_node", "_requires_grad", "_grad")
_HELD_BY_SHADOWS = ("_value", "_node", "_gradient", "gradient_is_written")


class Trace:
    """One run of a function that is being recorded, along a path of segments."""

    def __init__(
        self, name: str, tensors: Sequence[Tensor], floats: Sequence[float], axes: Mapping[tuple[int, int], Symbol]
    ) -> None:
        self.name = name
        self.axes = axes  # of the tensors, whose extents stand for others
        self.graph = Graph(name)  # where ops go: the segment's own graph
        self.builder = Builder(self.graph)
        self.path: list[Segment] = []
        self.outcomes: list[np.ndarray | None] = []  # of the decisions before each
        self.sizes = Sizes()
        self.world: World | None = None
        self.shadows: dict[int, Shadow] = {}
        self.captured: list[tuple[Source, Value]] = []
        self.inputs: dict[Value, Input] = {}
        self.born: list[weakref.ref[Tensor]] = []
        self.anomaly = False  # detect_anomaly() was entered
        self.device: str | None = None  # the one that is not the CPU where the function's tensors are
        self.places: dict[Value, str] = {}  # the device of each value that has one
        self.arguments: set[int] = set()  # the call's tensors, where the function was given twins
        self.arguments_are_themselves = False  # else
        self.failed: Untraceable | None = None  # raised, whether or not the function let it pass
        self.differentiated: Location | None = None  # the forward op whose gradient is being recorded
        self.names: dict[int, str] = {}  # of tensors from outside
        self._tensors, self._floats = tensors, floats
        self._numbers: dict[Any, Value] = {}
        self._known: dict[Value, np.ndarray] = {}  # arrays of this call
        self._decided: set[Value] = set()
        self._extents: dict[Value, Symbol] = {}  # those that were decided so
        self._facts: set[Fact] = set()
        self._segment_captured = 0  # how many of ``captured`` belong to earlier segments
        self.region: Region | None = None  # the block that is being recorded by itself
        self.capturing = 0  # loops of Python's that are being captured
        self.comparisons_are_tensors = 0  # else those of numbers are Python's bools
        self.loops: Loops | None = None
        self.for_loops: ForLoops | None = None
        self._position: int | None = None  # among the ops of a segment that was recorded before
        self._parameter = 0
        self._line: tuple[int, int] | None = None
        self._keep_alive: list[Any] = []
        self._guarded: set[Any] = set()

    # Segments ---------------------------------------------------------------------------------------

    def enter(self, segment: Segment, outcome: np.ndarray | None = None) -> None:
        """Go on in a segment: record into a new one, follow one that was recorded before."""
        self.path.append(segment)
        self.outcomes.append(outcome)
        self.sizes = segment.sizes
        self.segment = segment
        self.graph = self.builder.graph = segment.graph
        self._segment_captured = len(self.captured)
        self._parameter = 0
        self._position = 0 if segment.is_complete else None

    def close(self) -> None:
        """The end of a segment: what it read is guarded from its beginning."""
        self.segment.anomaly |= self.anomaly
        if self._position is not None:
            if self._position != len(self.graph.ops) - self.segment.early or self._parameter != len(
                self.graph.parameters
            ):
                raise Diverged
            return
        captured = self.captured[self._segment_captured :]
        if captured:
            places = {value: self.places.get(value) for _, value in captured} if in_use[0] else {}
            self.segment.guards.append(SameTypes(captured, places))
            if not self.arguments_are_themselves:
                self.segment.guards.append(ArgumentsAreOthers(captured))

    def concrete(self, value: Value, what: str) -> np.ndarray:
        """The array of a value that Python asks for; from here on the path is that of this outcome."""
        if what == "a condition":
            answer = None if self.loops is None else self.loops.answer(self)
            if answer is not None:
                return np.asarray(answer)
        if self.region is not None and not isinstance(value, Constant):
            if self.capturing:
                from .regions import CannotCapture

                raise CannotCapture(f"{what} needs a value")
            raise Untraceable(f"{what} needs a value in a loop or a branch")
        return self._asked(partial(self._decided_array, value, what))

    @property
    def _checkpoint(self) -> Recording | None:
        """The innermost function under way whose derivative will run it again, of those that this trace records."""
        region = thread.region
        return region if region is not None and region.trace is self else None

    def _asked(self, decide: Callable[[], Any]) -> Any:
        """What Python code is told; where it runs again for a derivative, what it was told before."""
        return decide() if self._checkpoint is None else self._checkpoint.answer(decide)

    def _decided_array(self, value: Value, what: str) -> np.ndarray:
        array = self.evaluate(value)
        if not isinstance(value, Constant) and value not in self._decided:
            self._decide(value, array, what, None)
        return array

    def extent(self, value: Value, what: str) -> Any:
        """The number of elements that a value says something has: what follows is recorded for any."""
        if self.region is not None or isinstance(value, Constant):
            return int(self.concrete(value, what))
        return self._asked(partial(self._decided_extent, value, what))

    def _decided_extent(self, value: Value, what: str) -> Any:
        number = int(self.evaluate(value))
        if value in self._decided:
            symbol = self._extents.get(value)
            return number if symbol is None else self.sizes.extent(symbol)
        known = self.segment.decision if self.segment.is_complete else None
        symbol = self.sizes.new(number) if known is None else known.symbol
        if symbol is None:
            raise Diverged
        self.sizes.bindings[symbol] = number
        self._extents[value] = symbol
        self._decide(value, np.asarray(number, value.dtype), what, symbol)
        return self.sizes.extent(symbol)

    def _decide(self, value: Value, array: np.ndarray, what: str, symbol: Symbol | None) -> None:
        """End the segment where a value must be known, and go on in the one that follows."""
        if self.differentiated is not None:
            raise Untraceable(f"{what} needs a value within a gradient")
        self._decided.add(value)
        if len(self.path) > MAX_DECISIONS:
            raise Untraceable(f"{what} needs a value, and so did {MAX_DECISIONS} before on the way")
        segment = self.segment
        self.close()
        if segment.is_complete:
            if segment.decision is None or segment.decision.value is not value:
                raise Diverged
        else:
            location, _ = user_location()
            segment.decide(Decision(value, what, location, symbol))
        following = segment.traced_after(array, self._tensors, self.sizes.bindings)
        if following is None:
            if len(segment.children if symbol is None else segment.templates) >= MAX_OUTCOMES:
                raise Untraceable(f"{what} has had {MAX_OUTCOMES} outcomes")
            following = segment.new_child(array)
        self.enter(following, array)

    def find_out(self, fact: Fact) -> None:
        """Something was found to hold of extents, on which the path relies from here on."""
        if self._position is None and fact not in self._facts:
            self._facts.add(fact)
            location, _ = user_location()
            self.segment.facts.append((fact, location))

    def shape_of(self, tensor: Tensor) -> tuple[Any, ...]:
        """The shape of a tensor that was there before, with the extents that stand for others."""
        shadow = self.shadows.get(id(tensor))
        value = tensor._value if shadow is None or shadow._value is None else shadow._value
        return tuple(value.shape)

    def evaluate(self, value: Value) -> np.ndarray:
        """A value's array in this call: just the ops that it needs are run."""
        if isinstance(value, Constant):
            return value.array
        if value not in self._known:
            needed: dict[Op, None] = {}
            boundary: dict[Value, None] = {}
            pending = [value]
            while pending:
                current = pending.pop()
                if isinstance(current, Constant) or current in boundary:
                    continue
                if current in self._known or current.op is None:
                    boundary[current] = None
                elif current.op not in needed:
                    needed[current.op] = None
                    pending += current.op.operands
            for item in boundary:
                if item not in self._known:
                    if item not in self.inputs:  # of a gradient that is yet to be asked for
                        raise Untraceable("a function's backward, or a hook, needs the value of a gradient")
                    self._known[item] = self.inputs[item].first_array(self._tensors, self._floats)
            copy = Substitution(self.sizes.bindings, {})
            parameters = [copy.parameter(item) for item in boundary]
            ops = {copy.op(op): op for segment in self.path for op in segment.graph.ops if op in needed}
            known = self._known
            graph = Graph(self.name, parameters, ops, [copy.value(value)])

            def keep(op: Op, results: tuple[np.ndarray, ...]) -> None:
                if op in ops:  # not one of a loop's or a branch's
                    known.update(zip(ops[op].results, results, strict=True))

            if ops:
                from tracejit.ir.interpreter import interpret

                interpret(graph, [known[item] for item in boundary], devices.evaluate, keep)
        return on_host(self._known[value])

    def item(self, tensor: Tensor) -> Any:
        """The only element of a tensor as a number, in a tensor's disguise: only what depends on it asks for it."""
        kind = tensor.dtype.kind
        if kind not in "fiV" and tensor.dtype != np.uint8:
            return self.concrete(self.read(tensor), "item()").item()
        from .disguise import disguised
        from .ops import elementwise, manipulation

        plain = manipulation.reshape(tensor.detach(), ())
        return disguised(elementwise.astype(plain, np.dtype(np.int64 if kind in "iu" else np.float64)))

    def effect(self, function: Callable[..., None], operands: Sequence[Tensor]) -> None:
        """Call ``function`` with the values of the operands each time that the program comes here."""
        from .debug import recorder_of

        attributes = {"function": effect.number_of(recorder_of(function))}
        self.record_control(effect.callback, [self.read(operand) for operand in operands], attributes, ())

    def shown(self, value: Value, what: str) -> np.ndarray:
        """The array of a value that is shown to a person, which must happen at each call."""
        raise Untraceable(f"{what} is shown")

    def changes(self, item: Any, otherwise: str) -> bool:
        """An object's attributes change: whether that is taken back, and repeated by each call."""
        if self.world is None or not self.world.knows(item):
            raise Untraceable(otherwise)
        return True

    def refuse(self, what: str) -> None:
        """The function does something that no graph holds."""
        raise Untraceable(what)

    # Tensors ----------------------------------------------------------------------------------------

    def shadow(self, tensor: Tensor) -> Shadow:
        """The stand-in for a tensor that was there before the trace."""
        found = self.shadows.get(id(tensor))
        if found is None:
            if id(tensor) in self.arguments:
                raise AliasedArgument
            found = self.shadow_from(tensor, self._source(tensor))
        return found

    def _source(self, tensor: Tensor) -> Source:
        places = [] if self.world is None else self.world.places.get(id(tensor), [])
        if places and self.world is not None and id(tensor) in self.world.held_fast:
            for place in places:  # another one there would not be the module's, or the optimizer's
                self.guard(("name", place.look_up.identity), SameValue(place.label, place.look_up, tensor))
            return Captured(tensor)
        for other in places[1:]:
            self.guard(("places", other.label), SamePlaces(places[0], other, other.label))
        return places[0] if places else Captured(tensor)

    def shadow_from(self, tensor: Tensor, source: Source) -> Shadow:
        shadow = self.shadows[id(tensor)] = Shadow(tensor, source, self)
        if tensor._node is not None and not isinstance(source, Argument):
            raise Untraceable("it reads a tensor whose history lies outside of the function")
        return shadow

    def gradient_of(self, shadow: Shadow) -> Tensor | None:
        """``.grad`` of a shadowed tensor, guarded: it must be there (or not) at the next call too."""
        gradient = shadow._grad
        tensor = shadow.tensor
        if not shadow.gradient_is_written:
            guard = HasGradient(shadow.source, gradient is not None, self.name_of(tensor))
            self.guard(("grad", id(tensor)), guard)
            if gradient is not None:
                source = GradientOf(shadow.source)
                for place in () if self.world is None else self.world.places.get(id(gradient), ()):
                    name = f"{self.name_of(tensor)}.grad"
                    self.guard(("places", place.label, id(tensor)), SamePlaces(place, source, name))
                if id(gradient) not in self.shadows:
                    self.shadow_from(gradient, source)
        return gradient

    def refuse_hooks(self, leaf: Tensor) -> None:
        """A gradient is added to a tensor; if it is from outside, and has hooks, they must run at each call."""
        shadow = self.shadows.get(id(leaf))
        if shadow is None:
            return
        name = self.name_of(leaf)
        self.guard(("hooks", id(leaf)), NoHooks(shadow.source, name))
        tensor = shadow.source.first(self._tensors)
        if tensor is not None and has_hooks(tensor):
            raise Untraceable(f"{name} has hooks, which run at each call")

    def refuse_history(self, leaf: Tensor) -> None:
        """A gradient arrives at a tensor; if that is from outside, and computed there, it must go on from there."""
        shadow = self.shadows.get(id(leaf))
        tensor = None if shadow is None else shadow.source.first(self._tensors)
        if tensor is not None and tensor._node is not None and shadow is not None and shadow._node is None:
            raise Untraceable("it differentiates through a tensor whose history lies outside of the function")

    def name_of(self, tensor: Tensor) -> str:
        """What the user's code calls a tensor from outside."""
        return self.names.get(id(tensor), "a captured tensor")

    def read(self, tensor: Tensor) -> Value:
        """The graph's value of a tensor, as the block that is being recorded reads it."""
        value = self.around(tensor)
        if self.region is not None and value not in self.region.own:
            from .tape import node_of

            return self.region.local(value, node_of(tensor) if thread.grad_enabled else None)
        return value

    def around(self, tensor: Tensor) -> Value:
        """The graph's value of a tensor."""
        value = tensor._value
        if is_array(value):
            shadow = self.shadow(tensor)
            if shadow._value is None:
                name = self.names.get(id(tensor))
                shadow._value = shadow.first = self.parameter(type_of(value), shadow.source, name)
                self.captured.append((shadow.source, shadow._value))
            value = shadow._value
        return value

    def around_blocks(self) -> AbstractContextManager[None]:
        """Where a recorded block is applied: here."""
        return nullcontext()

    def imported(self, value: Value, node: Node | None) -> Tensor:
        """A value from around a block, with its history."""
        from .tape import with_history

        return with_history(value, node)

    def outside(self, tensor: Tensor) -> Tensor:
        """A tensor of the trace, where blocks are applied."""
        return tensor

    def give(self, cell: Any, result: Tensor) -> None:
        """Have a tensor (or its shadow) hold what a block has given it."""
        from .regions import hold

        hold(cell, result._value, result._node, result._requires_grad)

    def mark(self) -> tuple[int, int]:
        """Where the recording stands, for :meth:`back_to`."""
        return len(self.builder.graph.ops), len(self.segment.checks)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget what was recorded since."""
        ops, checks = mark
        if self._position is None:
            del self.builder.graph.ops[ops:]
            del self.segment.checks[checks:]

    def leave_aside(self) -> Any:
        """Record what follows nowhere, until :meth:`come_back`; what that needs."""
        before = self.builder.graph, self._position, len(self.segment.checks)
        self.builder.graph, self._position = Block(), None
        return before

    def come_back(self, before: Any) -> None:
        """Go on where the recording was."""
        self.builder.graph, self._position, checks = before
        del self.segment.checks[checks:]

    def cells(self) -> list[Any]:
        """Everything that may be given another value in place: tensors of the trace, and shadows of others."""
        alive = [tensor for ref in self.born if (tensor := ref()) is not None]
        return [*self.shadows.values(), *alive]

    def held(self) -> list[tuple[Any, dict[str, Any]]]:
        """What all cells hold, for :meth:`hold`."""
        return [
            (cell, {name: getattr(cell, name) for name in (_HELD_BY_SHADOWS if isinstance(cell, Shadow) else _HELD)})
            for cell in self.cells()
        ]

    def hold(self, held: Sequence[tuple[Any, dict[str, Any]]]) -> None:
        """Have the cells hold what they held; tensors met since then, what they held at first."""
        known = {id(cell) for cell, _ in held}
        for shadow in self.shadows.values():
            if id(shadow) not in known:
                shadow._value, shadow._node = shadow.first, shadow.first_node
                shadow._gradient, shadow.gradient_is_written = shadow.tensor._grad, False
        for cell, fields in held:
            for name, value in fields.items():
                setattr(cell, name, value)

    def gradients(self) -> list[tuple[int, int]]:
        """Which gradients of tensors from outside have been written."""
        return [(id(s), id(s._gradient)) for s in self.shadows.values() if s.gradient_is_written]

    def parameter(self, type: TensorType, source: Input, name: str | None = None) -> Value:
        """A value that is read from outside at each call."""
        if self._position is None:
            label = name if isinstance(source, Captured | Reached) else None
            value = Value(type, name and name.replace(".", "_"))
            self.graph.parameters.append(value)
            if label is not None:
                self.graph.sources[value] = label
            self.segment.inputs[value] = source
        else:
            if self._parameter == len(self.graph.parameters):
                raise Diverged
            value = self.graph.parameters[self._parameter]
            self._parameter += 1
            if value.type != type or self.segment.inputs[value].key != source.key:
                raise Diverged
        self.inputs[value] = source
        if isinstance(source, Number):  # which the function may change
            self._known[value] = source.array(self._tensors, self._floats)
        if in_use[0] and isinstance(source, Source):
            self._find_place(value, source.first_array(self._tensors, self._floats))
        return value

    def number(self, owner: Any, name: Any, find: Place) -> Value:
        """A Python float that is looked up afresh at each call, as a 0-d float64."""
        number = Number(owner, name, find)
        if number.key not in self._numbers:
            self._numbers[number.key] = self.parameter(TensorType(np.dtype(np.float64), ()), number)
        return self._numbers[number.key]

    def guard(self, key: Any, guard: Guard) -> None:
        """The path relies on something; ``key`` is the same for the same thing."""
        if key not in self._guarded:
            self._guarded.add(key)
            self._keep_alive.append(guard)
            if self._position is None:
                guard.location, _ = user_location()
                self.segment.guards.append(guard)

    def check(self, predicate: Value, error: type[Exception], message: str, extents: tuple[Any, ...]) -> None:
        """Raise when the compiled program has run and ``predicate`` was false; nothing is committed then."""
        location, _ = user_location()
        self.check_as(predicate, Check(predicate, error, message, location, extents))

    def check_as(self, predicate: Value, check: Check) -> None:
        """The same check of another value."""
        if self._checkpoint is not None and self._checkpoint.is_second:
            return  # it has been looked at in the first run
        if self.region is not None:
            self.region.checks.append((predicate, check))
        elif self._position is None:
            self.segment.checks.append(replace(check, predicate=predicate))

    # Devices ----------------------------------------------------------------------------------------

    def place_of(self, value: Value) -> str | None:
        """The name of the device that a value is on; ``None`` for a constant, which goes where it is needed."""
        return self.places.get(value)

    def put(self, tensor: Tensor, place: str) -> None:
        """A tensor that has just been made is on a device."""
        self._put(tensor._value, place)

    def _put(self, value: Value, place: str) -> None:
        if place != "cpu" and self.device not in (None, place):
            raise Untraceable(f"it computes on {self.device} and on {place}")
        self.device = place if place != "cpu" else self.device
        self.places[value] = place

    def _find_place(self, value: Value, array: Any) -> None:
        if type(array) is not Unplaced:
            self._put(value, devices.name_of(array))

    def _put_result(
        self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any], results: Sequence[Value]
    ) -> None:
        """The results are where the operands are; ``RuntimeError`` where those are in different places."""
        known = [(self.places[operand], operand.type.ndim) for operand in operands if operand in self.places]
        place = devices.join(known) if known else None
        if primitive.name == "device_put":
            place = attributes["target"]
        if place is not None:
            for result in results:
                self._put(result, place)

    # Ops --------------------------------------------------------------------------------------------

    def record(self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
        result = self._record(primitive, operands, attributes)
        if in_use[0]:
            self._put_result(primitive, operands, attributes, [result])
        return result

    def _record(self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
        if self.region is not None:
            operands = self._in_region(operands)
        elif self._position is not None:
            return self._follow(primitive, operands, attributes).result
        self._locate()
        try:
            result = self.builder.apply(primitive, operands, attributes)
        except (TypeError, ValueError) as error:
            raise at_user_line(error) from None
        if self.region is not None:
            self.region.note(result, differentiable=thread.grad_enabled)
        return result

    def _in_region(self, operands: Sequence[Value]) -> list[Value]:
        """Operands as the block that is being recorded may read them."""
        assert self.region is not None
        own = [self.region.local(operand) for operand in operands]
        return [self.region.readable(value, self.builder) for value in own] if thread.grad_enabled else own

    def record_control(
        self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any], regions: Sequence[Block]
    ) -> tuple[Value, ...]:
        """The results of an op with copies of the regions."""
        results = self._record_control(primitive, operands, attributes, regions)
        if in_use[0]:
            self._put_result(primitive, operands, attributes, results)
        return results

    def _record_control(
        self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any], regions: Sequence[Block]
    ) -> tuple[Value, ...]:
        if self.region is not None:
            operands = self._in_region(operands)
        elif self._position is not None:
            return self._follow(primitive, operands, attributes, regions).results
        self._locate()
        blocks = [copy_block(block) for block in regions]
        results = self.builder.apply_several(primitive, operands, attributes, blocks)
        if self.region is not None:
            for result in results:
                self.region.note(result, differentiable=thread.grad_enabled)
        return results

    def _locate(self) -> None:
        """Find the user's line that the next op stands for, and name the values that its variables hold."""
        location, frame = user_location()
        if self.for_loops is not None:
            self.for_loops.pass_by(frame)
        runs_again = thread.region is not None and thread.region.is_second  # for a checkpoint: that is no gradient
        if self.differentiated is not None and not runs_again:
            forward = self.differentiated
            location = location_of(forward.file, forward.line, forward.via, True)
        elif frame is not None and (id(frame), frame.f_lineno) != self._line:
            self._line = id(frame), frame.f_lineno
            self.name_values(frame.f_locals)
        self.builder.location = location

    def _follow(
        self,
        primitive: Primitive,
        operands: Sequence[Value],
        attributes: Mapping[str, Any],
        regions: Sequence[Block] = (),
    ) -> Op:
        """The op that stands here in a segment that was recorded before."""
        assert self._position is not None
        if self.for_loops is not None:
            self.for_loops.pass_by(user_frame())
        if self._position == len(self.graph.ops):
            raise Diverged
        op = self.graph.ops[self._position]
        self._position += 1
        if op.primitive is not primitive or len(op.operands) != len(operands):
            raise Diverged
        if op.attributes != dict(attributes) and primitive is not effect.callback:  # a closure is made anew
            raise Diverged
        for found, expected in zip(operands, op.operands, strict=True):
            if found is not expected and not _same_constant(found, expected):
                raise Diverged
        if (regions or op.regions) and regions_key(regions) != regions_key(op.regions):
            raise Diverged
        return op

    def constant(self, array: np.ndarray) -> Value:
        return Constant(array)

    def name_values(self, variables: Mapping[str, Any]) -> None:
        """Give values the names of the user's variables that hold them."""
        for name, item in variables.items():
            if isinstance(item, Tensor):
                value = innermost(item._value)
                if isinstance(value, Value) and value.name is None:
                    value.name = name

    def let_go(self) -> None:
        """Keep nothing alive but what the path needs."""
        self.world = self.loops = None

    def leaked(self, returned: Sequence[Tensor]) -> bool:
        """Whether a tensor made during the trace is still reachable, other than the ``returned`` ones."""
        known = {id(tensor) for tensor in returned}
        for attempt in range(2):
            alive = [tensor for ref in self.born if (tensor := ref()) is not None and id(tensor) not in known]
            if not alive:
                return False
            if attempt == 0:
                del alive
                gc.collect()
        for tensor in alive:  # wherever they are, they must hold something
            if isinstance(tensor._value, Value):
                tensor._value, tensor._node = self.evaluate(tensor._value), None
        return True


class Diverged(BaseException):
    """A function that is traced again did something else than before where nothing that is known had changed."""


def _same_constant(first: Value, second: Value) -> bool:
    if isinstance(first, ExtentValue) or isinstance(second, ExtentValue):
        return isinstance(first, ExtentValue) and isinstance(second, ExtentValue) and first.extent == second.extent
    return (
        isinstance(first, Constant)
        and isinstance(second, Constant)
        and first.type == second.type
        and first.array.tobytes() == second.array.tobytes()
    )
