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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir import Builder, Constant, Graph, Location, Primitive, TensorType, Value, type_of

from .contents import contents
from .locations import at_user_line, user_location
from .state import thread
from .tensor import Retyped, Tensor

if TYPE_CHECKING:
    from .tape import Node


class Untraceable(BaseException):
    """The function does something that a graph cannot hold; it runs eagerly instead.

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

    __slots__ = ("_gradient", "_node", "_value", "gradient_is_written", "source", "tensor", "trace")

    def __init__(self, tensor: Tensor, source: Source, trace: Trace) -> None:
        self.tensor = tensor
        self.source = source
        self.trace = trace
        self._value: Value | None = None  # not read yet
        self._node: Node | None = None  # an argument is a leaf here, whatever its history outside
        self._gradient = tensor._grad
        self.gradient_is_written = False

    @property
    def _requires_grad(self) -> bool:
        """The tensor's flag, guarded where it is read (an argument's is part of the call's key)."""
        if not isinstance(self.source, Argument):
            self.trace.guard(("requires_grad", id(self.tensor)), RequiresGrad(self.source, self.tensor._requires_grad))
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


class Input:
    """Where the array for one parameter of a graph comes from at each call."""

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        """The array, given the call's tensor and float arguments."""
        raise NotImplementedError


@dataclass(frozen=True)
class FloatArgument(Input):
    """The float at a position among the call's float arguments."""

    position: int

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        return np.asarray(floats[self.position], np.float64)


@dataclass(frozen=True)
class Number(Input):
    """A Python float that the function looks up by itself."""

    find: Callable[[], float]

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        return np.asarray(self.find(), np.float64)


class Source(Input):
    """A tensor that a trace reads."""

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        """The tensor, given the call's tensor arguments."""
        raise NotImplementedError

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        tensor = self.find(tensors)
        assert tensor is not None
        return tensor._value


@dataclass(frozen=True)
class Argument(Source):
    """The tensor at a position among the call's tensor arguments."""

    position: int

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        return arguments[self.position]


@dataclass(frozen=True)
class Captured(Source):
    """A tensor that the function reached by itself: the cell stays the same, its value is read afresh."""

    tensor: Tensor

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        return self.tensor


@dataclass(frozen=True)
class GradientOf(Source):
    """Another tensor's ``.grad``."""

    owner: Source

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        tensor = self.owner.find(arguments)
        return None if tensor is None else tensor._grad


@dataclass
class Trace:
    """The graph under construction, and what it has touched."""

    name: str
    graph: Graph = field(init=False)
    builder: Builder = field(init=False)
    shadows: dict[int, Shadow] = field(default_factory=dict)
    captured: list[tuple[Source, Value]] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    numbers: dict[tuple[int, Any], tuple[Number, Value]] = field(default_factory=dict)
    born: list[weakref.ref[Tensor]] = field(default_factory=list)
    anomaly: bool = False  # detect_anomaly() was entered
    arguments: set[int] = field(default_factory=set)  # the call's tensors, where the function was given twins
    failed: Untraceable | None = None  # raised, whether or not the function let it pass
    differentiated: Location | None = None  # the forward op whose gradient is being recorded
    _line: tuple[int, int] | None = None
    _keep_alive: list[Any] = field(default_factory=list)
    _guarded: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.graph = Graph(self.name)
        self.builder = Builder(self.graph)

    # Tensors ----------------------------------------------------------------------------------------

    def shadow(self, tensor: Tensor) -> Shadow:
        """The stand-in for a tensor that was there before the trace."""
        found = self.shadows.get(id(tensor))
        if found is None:
            if id(tensor) in self.arguments:
                raise AliasedArgument
            found = self.shadow_from(tensor, Captured(tensor))
        return found

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
            self.guard(("grad", id(tensor)), HasGradient(shadow.source, gradient is not None))
            if gradient is not None and id(gradient) not in self.shadows:
                self.shadow_from(gradient, GradientOf(shadow.source))
        return gradient

    def read(self, tensor: Tensor) -> Value:
        """The graph's value of a tensor."""
        value = tensor._value
        if isinstance(value, np.ndarray):
            shadow = self.shadow(tensor)
            if shadow._value is None:
                shadow._value = self.builder.parameter(type_of(value))
                self.captured.append((shadow.source, shadow._value))
            return shadow._value
        return value

    def guard(self, key: Any, guard: Guard) -> None:
        if key not in self._guarded:
            self._guarded.add(key)
            self.guards.append(guard)
            self._keep_alive.append(guard)

    def check(self, predicate: Value, error: type[Exception], message: str) -> None:
        """Raise when the compiled program has run and ``predicate`` was false; nothing is committed then."""
        location, _ = user_location()
        self.checks.append(Check(predicate, error, message, location))

    def number(self, key: tuple[int, Any], find: Callable[[], float]) -> Value:
        """A Python float that is looked up afresh at each call, as a 0-d float64."""
        found = self.numbers.get(key)
        if found is None:
            value = self.builder.parameter(TensorType(np.dtype(np.float64), ()))
            found = self.numbers[key] = Number(find), value
        return found[1]

    # Ops --------------------------------------------------------------------------------------------

    def record(self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
        location, frame = user_location()
        if self.differentiated is not None:
            forward = self.differentiated
            location = Location(forward.file, forward.line, forward.via, gradient=True)
        elif frame is not None and (id(frame), frame.f_lineno) != self._line:
            self._line = id(frame), frame.f_lineno
            self.name_values(frame.f_locals)
        self.builder.location = location
        try:
            return self.builder.apply(primitive, operands, attributes)
        except (TypeError, ValueError) as error:
            raise at_user_line(error) from None

    def constant(self, array: np.ndarray) -> Value:
        return Constant(array)

    def name_values(self, variables: Mapping[str, Any]) -> None:
        """Give values the names of the user's variables that hold them."""
        for name, item in variables.items():
            if isinstance(item, Tensor) and isinstance(item._value, Value) and item._value.name is None:
                item._value.name = name

    def leaked(self, returned: Sequence[Tensor]) -> bool:
        """Whether a tensor made during the trace is still reachable, other than the ``returned`` ones."""
        known = {id(tensor) for tensor in returned}
        for attempt in range(2):
            alive = [tensor for ref in self.born if (tensor := ref()) is not None and id(tensor) not in known]
            if not alive:
                return False
            del alive
            if attempt == 0:
                gc.collect()
        return True


@dataclass(frozen=True)
class Check:
    predicate: Value
    error: type[Exception]
    message: str
    location: Location | None

    def fail(self) -> None:
        raise at_user_line(self.error(self.message), self.location)


class Guard:
    """Something that a trace relied on; ``describe`` says what, for people."""

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        raise NotImplementedError

    def describe(self) -> str:
        raise NotImplementedError


class ArgumentsAreOthers(Guard):
    """No tensor argument is one that the function captures."""

    def __init__(self, captured: Sequence[tuple[Source, Value]]) -> None:
        self._captured = frozenset(id(source.tensor) for source, _ in captured if isinstance(source, Captured))

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        return self._captured.isdisjoint(map(id, arguments))

    def describe(self) -> str:
        return "no argument is a tensor that the function reaches by itself"


@dataclass(frozen=True)
class ArgumentsAre(Guard):
    """The tensor arguments are these very tensors, which the function reaches by itself too."""

    tensors: tuple[Tensor, ...]

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        return all(found is expected for found, expected in zip(arguments, self.tensors, strict=True))

    def describe(self) -> str:
        return "an argument is a tensor that the function reaches by itself"


@dataclass(frozen=True)
class RequiresGrad(Guard):
    source: Source
    expected: bool

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        tensor = self.source.find(arguments)
        return tensor is not None and tensor._requires_grad == self.expected and tensor._node is None

    def describe(self) -> str:
        return f"a captured tensor has requires_grad={self.expected}"


@dataclass(frozen=True)
class SameContents(Guard):
    """A captured container or object still holds what it held."""

    what: str
    find: Callable[[], Any]
    expected: Any

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        return contents(self.find()) == self.expected

    def describe(self) -> str:
        return f"{self.what} holds what it held"


class SameTypes(Guard):
    """The captured tensors have the dtypes that they had; looked at only when some tensor's was changed in place."""

    def __init__(self, captured: Sequence[tuple[Source, Value]]) -> None:
        self._expected = [(source, value.dtype, value.shape) for source, value in captured]
        self._seen = Retyped.count

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        if self._seen == Retyped.count:
            return True
        for source, dtype, shape in self._expected:
            tensor = source.find(arguments)
            if tensor is None or tensor._value.dtype != dtype or tensor._value.shape != shape:
                return False
        self._seen = Retyped.count
        return True

    def describe(self) -> str:
        return "the captured tensors have the dtypes that they had"


@dataclass(frozen=True)
class HasGradient(Guard):
    source: Source
    expected: bool

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        tensor = self.source.find(arguments)
        return tensor is not None and (tensor._grad is not None) == self.expected

    def describe(self) -> str:
        return f"a captured tensor has {'a' if self.expected else 'no'} gradient"


@dataclass(frozen=True)
class SameValue(Guard):
    """A name or an attribute still holds what it held: the same object, or an equal number or string."""

    what: str
    find: Callable[[], Any]
    expected: Any

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        try:
            found = self.find()
        except Exception:
            return False
        if found is self.expected:
            return True
        return isinstance(self.expected, int | float | str | bytes) and (
            type(found) is type(self.expected) and (found == self.expected and repr(found) == repr(self.expected))
        )

    def describe(self) -> str:
        return f"{self.what} is {self.expected!r:.60}"
