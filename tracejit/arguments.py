"""The arguments of one call of a jitted function: taken apart, named, and the key that they make."""

from __future__ import annotations

import datetime
import enum
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.backends.devices import in_use
from tracejit.ir.masks import settings as masks
from tracejit.ir.types import TensorType, float64

from . import tree
from .device import name_of
from .disguise import disguised, stands_for
from .guards import ArgumentsAre
from .names import leaf_names
from .sources import Argument, FloatArgument
from .state import thread
from .tensor import Tensor, new_tensor, twin_of
from .tracing import Trace


class StaticArguments:
    """The arguments of a function that are part of the key whatever they are, numbers by value."""

    def __init__(self, function: Callable[..., Any], names: Sequence[str]) -> None:
        self._names = names
        self._positions: dict[int, str] = {}
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            return
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        for name in names:
            if name not in parameters and not takes_any:
                own = getattr(function, "__name__", function)
                raise ValueError(f"static_argnames: {name!r} is no argument of {own}")
        self._positions = {position: name for position, name in enumerate(parameters) if name in names}

    def leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> frozenset[int]:
        """The numbers of the leaves that belong to static arguments."""
        found: set[int] = set()
        count = 0
        given = [(self._positions.get(position), item) for position, item in enumerate(args)]
        for name, item in [*given, *kwargs.items()]:
            own: list[Any] = []
            tree.flatten(item, own)
            if name in self._names:
                found.update(range(count, count + len(own)))
            count += len(own)
        return frozenset(found)


class ArgumentsOfCall:
    """Arguments taken apart: tensors, floats, and a key for everything that the traced program depends on."""

    __slots__ = (
        "_leaves", "_static", "args", "floats", "ints", "iterators", "key", "kwargs", "named_by_identity", "ordered",
        "structure", "tensors",
    )  # fmt: skip

    def __init__(
        self, static: StaticArguments | None, args: tuple[Any, ...], kwargs: dict[str, Any], *, ordered: bool
    ) -> None:
        if not ordered and kwargs:
            kwargs = dict(sorted(kwargs.items()))
        self.args, self.kwargs = args, kwargs
        self.ordered = ordered  # calls with keyword arguments in another order are of another kind
        leaves: list[Any] = []
        self.structure = tree.flatten((args, kwargs), leaves)
        self._leaves = leaves
        self._static: frozenset[int] = frozenset() if static is None else static.leaves(args, kwargs)
        self.tensors: list[Tensor] = []
        self.floats: list[float] = []
        self.ints = False
        self.named_by_identity: list[Any] = []
        self.iterators: list[Any] = []
        parts: list[Any] = []
        for number, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                self.tensors.append(leaf)
                value = leaf._value
                place = (name_of(value),) if in_use[0] else ()
                parts.append((value.dtype, value.shape, leaf._requires_grad, leaf._node is None, *place))
            elif number in self._static:
                parts.append((type(leaf), repr(leaf) if isinstance(leaf, float) else self._key_of(leaf)))
            elif isinstance(leaf, float):
                self.floats.append(float(leaf))
                parts.append(float)
            elif isinstance(leaf, np.ndarray | np.generic):
                self.tensors.append(new_tensor(np.array(leaf, leaf.dtype.newbyteorder("="), order="C")))
                parts.append(("array", leaf.dtype, leaf.shape))
            else:
                parts.append((type(leaf), self._key_of(leaf)))
        identities = [id(tensor) for tensor in self.tensors]
        aliases = tuple(map(identities.index, identities)) if len(set(identities)) < len(identities) else None
        self.key = self.structure, tuple(parts), aliases, thread.grad_enabled, masks.masked

    def _key_of(self, leaf: Any) -> Any:
        kind = type(leaf)
        if kind in _BY_VALUE:
            self.ints |= kind is int
            return leaf
        if kind is slice:
            return leaf.start, leaf.stop, leaf.step
        if isinstance(leaf, enum.Enum | np.dtype | frozenset | datetime.date | datetime.timedelta):
            return leaf
        if isinstance(leaf, complex):
            return repr(leaf)
        if hasattr(kind, "__next__"):
            self.iterators.append(leaf)
        self.named_by_identity.append(leaf)  # kept alive with the key, so that the identity is not used again
        return id(leaf)

    def kind_for_any_extents(self) -> Any:
        """The key without extents."""
        parts: list[Any] = []
        for part in self.key[1]:
            match part:
                case (np.dtype() as dtype, tuple() as shape, *rest):
                    parts.append((dtype, len(shape), *rest))
                case ("array", dtype, shape):
                    parts.append((dtype, len(shape)))
                case _:
                    parts.append(part)
        return self.key[0], tuple(parts), self.key[2:]

    def family_key(self) -> Any:
        """The key without extents, ints and objects."""
        structure, parts, rest = self.kind_for_any_extents()
        return structure, tuple(map(_without_value, parts)), rest

    def describe(self, function: Callable[..., Any]) -> dict[str, Any]:
        """The call for people: each argument's name, and its type or what it is."""
        parts = [
            TensorType(leaf._value.dtype, leaf._value.shape) if isinstance(leaf, Tensor)
            else TensorType(leaf.dtype, leaf.shape) if isinstance(leaf, np.ndarray)
            else "float" if type(leaf) is float and number not in self._static
            else repr(leaf)[:40]
            for number, leaf in enumerate(self._leaves)
        ]  # fmt: skip
        return dict(zip(leaf_names(function, self.args, self.kwargs), parts, strict=True))

    def trace_arguments(
        self, trace: Trace, function: Callable[..., Any], *, themselves: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to trace with: tensors become parameters of the graph, floats weak 0-d tensors.

        The function gets twins of the tensors, so that it shows where it reaches one of them by another way than
        its arguments; or, if that is known, the tensors ``themselves``.
        """
        names = leaf_names(function, self.args, self.kwargs)
        twins: dict[int, Tensor] = {}
        replaced: list[Any] = []
        position = floats = 0
        for index, (name, leaf) in enumerate(zip(names, self._leaves, strict=True)):
            if isinstance(leaf, Tensor | np.ndarray) or (isinstance(leaf, np.generic) and not isinstance(leaf, float)):
                tensor = self.tensors[position]
                if not themselves:
                    trace.arguments.add(id(tensor))
                    tensor = twins[id(tensor)] if id(tensor) in twins else _twin(tensor, twins)
                shadow = trace.shadows.get(id(tensor))
                if shadow is None:
                    shadow = trace.shadow_from(tensor, Argument(position))
                    shape: list[Any] = [
                        extent if (symbol := trace.axes.get((position, axis))) is None else trace.sizes.extent(symbol)
                        for axis, extent in enumerate(tensor._value.shape)
                    ]
                    shadow._value = shadow.first = trace.parameter(
                        TensorType(tensor.dtype, tuple(shape)), shadow.source, name
                    )
                    trace.captured.append((shadow.source, shadow._value))
                position += 1
                replaced.append(tensor if isinstance(leaf, Tensor) else stands_for(tensor, leaf))
            elif isinstance(leaf, float) and index not in self._static:
                number = trace.parameter(TensorType(float64, ()), FloatArgument(floats), name)
                replaced.append(disguised(new_tensor(number)))
                floats += 1
            else:
                replaced.append(leaf)
        if themselves:
            trace.arguments_are_themselves = True
            trace.guard("arguments", ArgumentsAre(self.tensors))
        args, kwargs = thread.arguments = tree.unflatten(self.structure, iter(replaced))
        return args, kwargs


def _without_value(part: Any) -> Any:
    match part:
        case (kind, _) if kind is int:
            return int
        case (kind, int()) if kind not in _BY_VALUE and isinstance(kind, type):
            return kind  # an object that is named by its identity
    return part


_BY_VALUE = frozenset((int, str, bytes, bool, type(None), type(Ellipsis), range))


def _twin(tensor: Tensor, twins: dict[int, Tensor]) -> Tensor:
    twin = twins[id(tensor)] = twin_of(tensor)
    return twin
