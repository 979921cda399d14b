"""Guards: what a compiled path relied on while it was traced, looked at before each run."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Mapping, Sequence
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

from tracejit.backends.devices import in_use
from tracejit.ir import Location, Value

from .contents import attributes_of_class, contents, difference, holds_still
from .device import name_of
from .names import where_read
from .places import Itself, Place
from .sources import Argument, Captured, Reached, Source
from .state import changes
from .tensor import Tensor

if TYPE_CHECKING:
    from tracejit.ir.types import TensorType

    from .signing import Signing


class Guard:
    """Something that a trace relied on; ``describe`` says what, for people."""

    location: Location | None = None  # the user's line that relied on it
    what = ""  # a name that the user's functions read
    readers: Sequence[FunctionType] = ()  # those

    def where(self) -> Location | None:
        """The user's line that relied on it, or reads it."""
        return where_read(self.readers, self.what) if self.readers else self.location

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        raise NotImplementedError

    def describe(self) -> str:
        raise NotImplementedError

    def cause(self) -> str:
        """Why what it guards is traced again, for people."""
        return f"no longer true that {self.describe()}"

    def tell(self, signing: Signing) -> None:
        """Tell how native code sees that it holds."""
        signing.ask(self.holds)


class ArgumentsAreOthers(Guard):
    """No tensor argument is one that the function reaches by itself."""

    def __init__(self, captured: Sequence[tuple[Source, Value]]) -> None:
        self._sources = [source for source, _ in captured if isinstance(source, Captured)]
        self._captured = frozenset(id(source.tensor) for source in self._sources)
        self._reached = [source for source, _ in captured if isinstance(source, Reached)]

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        identities = [id(argument) for argument in arguments]
        if not self._captured.isdisjoint(identities):
            return False
        return not self._reached or {id(source.find(arguments)) for source in self._reached}.isdisjoint(identities)

    def describe(self) -> str:
        return "no argument is a tensor that the function reaches by itself"

    def tell(self, signing: Signing) -> None:
        signing.arguments_are_others([*self._sources, *self._reached])


class ArgumentsAre(Guard):
    """The tensor arguments are these very tensors, which the function reaches by itself too."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tuple(tensors)

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        return all(found is expected for found, expected in zip(arguments, self._tensors, strict=True))

    def describe(self) -> str:
        return "an argument is a tensor that the function reaches by itself"


class RequiresGrad(Guard):
    """A tensor that the function reaches by itself does or does not require gradients, and has no history."""

    def __init__(self, source: Source, expected: bool, name: str) -> None:
        self._source, self._expected, self._name = source, expected, name

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        tensor = self._source.find(arguments)
        return tensor is not None and tensor._requires_grad == self._expected and tensor._node is None

    def describe(self) -> str:
        return f"{self._name} has requires_grad={self._expected}"

    def tell(self, signing: Signing) -> None:
        signing.is_leaf(self._source, self._expected)


class HasGradient(Guard):
    """A tensor's ``.grad`` is there, or not."""

    def __init__(self, source: Source, expected: bool, name: str) -> None:
        self._source, self._expected, self._name = source, expected, name

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        tensor = self._source.find(arguments)
        return tensor is not None and (tensor._grad is not None) == self._expected

    def describe(self) -> str:
        return f"{self._name} has {'a' if self._expected else 'no'} gradient"

    def tell(self, signing: Signing) -> None:
        signing.has_gradient(self._source, self._expected)


class NoHooks(Guard):
    """A leaf has no hooks: those run at each call, in Python."""

    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name = source, name
        self._seen = changes.hooks

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        if self._seen == changes.hooks:
            return True
        now = changes.hooks
        tensor = self._source.find(arguments)
        if tensor is None or has_hooks(tensor):
            return False
        self._seen = now
        return True

    def describe(self) -> str:
        return f"{self._name} has no hooks"

    def tell(self, signing: Signing) -> None:
        signing.unchanged("hooks")


def has_hooks(tensor: Tensor) -> bool:
    """Whether something is to be called when a leaf's gradient is there."""
    return bool(tensor._post_hooks) or (tensor._accumulator is not None and bool(tensor._accumulator.hooks))


class SameContents(Guard):
    """A captured container or object still holds what it held."""

    def __init__(self, what: str, find: Place, expected: Any, names: frozenset[str] | None = None) -> None:
        self.what, self._find, self._expected, self._names = what, find, expected, names
        self._leave_out: frozenset[int] = frozenset()

    def leave_out(self, containers: Sequence[Any]) -> None:
        """The path does not rely on what these hold: it only adds to them."""
        if containers:
            self._leave_out |= frozenset(map(id, containers))
            self._expected = contents(self._find(), self._leave_out, self._names)

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        try:
            return holds_still(self._expected, self._find(), self._leave_out, self._names)
        except Exception:
            return False

    def describe(self) -> str:
        return f"{self.what} holds what it held"

    def cause(self) -> str:
        try:
            now = contents(self._find(), self._leave_out, self._names)
        except Exception:
            return f"`{self.what}` is gone"
        return difference(self.what, self._expected, now)

    def tell(self, signing: Signing) -> None:
        if self._names is not None or not signing.same_contents(self._find, self._leave_out):
            signing.ask(self.holds)


class SameFunctions(Guard):
    """The functions that are called still have the code and the defaults that they had."""

    def __init__(self, functions: Sequence[FunctionType]) -> None:
        self._functions = tuple(functions)
        self._expected = self._parts()

    def _parts(self) -> list[tuple[Any, ...]]:
        return list(map(_parts_of_function, self._functions))

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        return self._parts() == self._expected

    def describe(self) -> str:
        return "the functions that it calls have the code and the defaults that they had"

    def tell(self, signing: Signing) -> None:
        signing.same_functions(self._functions)


class SameClasses(Guard):
    """Classes of the user's have the attributes that they had."""

    def __init__(self, classes: Sequence[tuple[type, dict[str, Any]]]) -> None:
        from tracejit.backends.cpu import objects  # here, so that importing tracejit does not load the compiler

        self._classes = tuple(classes)
        self._versions = [objects.class_version(kind) for kind, _ in self._classes]

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        if all(version.is_same() for version in self._versions):
            return True
        if self._changed() is not None:
            return False
        for version in self._versions:
            version.renew()
        return True

    def _changed(self) -> str | None:
        """The first attribute that is another one."""
        for kind, before in self._classes:
            now = attributes_of_class(kind)
            for name in {**before, **now}:
                if before.get(name, _ABSENT) is not now.get(name, _ABSENT):
                    return f"{kind.__name__}.{name}"
        return None

    def describe(self) -> str:
        changed = self._changed()
        return "the classes that it uses are as they were" if changed is None else f"{changed} is as it was"

    def tell(self, signing: Signing) -> None:
        signing.same_classes(self._versions)


_ABSENT = object()
_parts_of_function = operator.attrgetter("__code__", "__defaults__", "__kwdefaults__")


class SameTypes(Guard):
    """The tensors read have the dtypes and shapes that they had, and are where they were.

    The same cell can only have changed where some tensor's type was changed in place; another cell in its place is
    looked at, and must be no other one that the path reads.
    """

    def __init__(self, captured: Sequence[tuple[Source, Value]], places: Mapping[Value, str | None]) -> None:
        self._expected = [
            (s, (v.type, places.get(v)), getattr(s, "tensor", None)) for s, v in captured if not isinstance(s, Argument)
        ]
        self._reached = [item for item in self._expected if isinstance(item[0], Reached)]
        self._seen = changes.types

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        if self._seen != changes.types:
            if not all(self._fits(s.find(arguments), type) for s, type, _ in self._expected):
                return False
            self._seen = changes.types
        others = False
        for source, type, before in self._reached:
            try:
                tensor = source.find(arguments)
            except Exception:
                return False
            if tensor is not before:
                if not isinstance(tensor, Tensor) or not self._fits(tensor, type):
                    return False
                others = True
        if others:
            found = [id(source.find(arguments)) for source, _, _ in self._expected]
            return len(set(found)) == len(found)
        return True

    @staticmethod
    def _fits(tensor: Tensor | None, expected: tuple[TensorType, str | None]) -> bool:
        type, place = expected
        return (
            tensor is not None
            and tensor._value.dtype == type.dtype
            and tensor._value.shape == type.shape
            and (not in_use[0] or name_of(tensor._value) == (place or "cpu"))
        )

    def describe(self) -> str:
        return "the tensors that it reaches by itself have the dtypes and shapes that they had"

    def tell(self, signing: Signing) -> None:
        signing.unchanged("types")
        if self._reached:
            signing.reads([source for source, _, _ in self._expected])


class SamePlaces(Guard):
    """Two places that held one tensor still hold one."""

    def __init__(self, first: Reached, second: Source, name: str) -> None:
        self._first, self._second, self._name = first, second, name

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        found = self._first.find(arguments)
        return found is not None and found is self._second.find(arguments)

    def describe(self) -> str:
        return f"{self._first.label} and {self._name} are one tensor"


class SameValue(Guard):
    """A name or an attribute still holds what it held: the same object, or an equal number or string."""

    def __init__(self, what: str, find: Place, expected: Any) -> None:
        self.what, self._find, self._expected = what, find, expected

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        try:
            found = self._find()
        except Exception:
            return False
        expected = self._expected
        if found is expected:
            return True
        return isinstance(expected, int | float | str | bytes) and (
            type(found) is type(expected) and (found == expected and repr(found) == repr(expected))
        )

    def describe(self) -> str:
        return f"{self.what} is {self._expected!r:.60}"

    def tell(self, signing: Signing) -> None:
        signing.equals(self._find, self._expected)

    def cause(self) -> str:
        try:
            return f"`{self.what}` was {self._expected!r:.60}, now {self._find()!r:.60}"
        except Exception:
            return f"`{self.what}` is gone"


class NoSuchGlobals(Guard):
    """There are no globals of these names: they are those of builtins, or there is nothing."""

    def __init__(self, space: dict[str, Any], names: Sequence[str]) -> None:
        self._space, self._names = space, tuple(names)

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        return all(name not in self._space for name in self._names)

    def describe(self) -> str:
        missing = [name for name in self._names if not hasattr(builtins, name)]
        if missing:
            return f"there is no global {' and no '.join(missing)}"
        return "no global has the name of a builtin that it uses"

    def tell(self, signing: Signing) -> None:
        for name in self._names:
            signing.lacks(Itself(self._space), name)


class EmptyVariable(Guard):
    """A variable of an enclosing function has no value."""

    def __init__(self, name: str, cell: CellType) -> None:
        self.what, self._cell = name, cell

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        return self._cell == _EMPTY

    def describe(self) -> str:
        return f"{self.what} has no value"


_EMPTY = CellType()
