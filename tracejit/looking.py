"""How native code follows places, and looks at what a compiled path relies on (see :mod:`.signing`)."""

from __future__ import annotations

import types
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import islice
from logging import Logger
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.cpu import objects
from tracejit.backends.cpu.signatures import Do
from tracejit.ir.facts import facts

from . import contents
from .places import Attributes, Content, Given, Item, Itself, Place, Truth
from .sources import Argument, Captured, FloatArgument, GradientOf, Number, Reached, Source
from .state import changes
from .tensor import Parameter, Tensor

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall

BY_VALUE = (int, str, bytes)
SINGLE = (bool, type(None), type(Ellipsis))
_LOOKED_INTO = (
    dict, list, tuple, deque, set, frozenset, *contents.BUFFERS, ContextVar, MethodType, partial, Logger,
    types.MappingProxyType, weakref.ref, BaseException,
)  # fmt: skip
_KEYS = (*BY_VALUE, *SINGLE, float, complex, Tensor, *contents.BY_IDENTITY)
MOST_PARTS = 2000  # of what a captured object holds


class Unsigned(Exception):
    """A call that has no signature."""


class Numbers:
    """Numbers of one kind of registers, or of arrays; ways that part use the same ones."""

    def __init__(self, new: Callable[[], int]) -> None:
        self._new = new
        self.all: list[int] = []
        self.used = 0

    def take(self) -> int:
        if self.used == len(self.all):
            self.all.append(self._new())
        self.used += 1
        return self.all[self.used - 1]


class Looking:
    """Instructions under construction, and what guards tell of themselves."""

    def __init__(self, call: ArgumentsOfCall) -> None:
        self._call = call
        self._rows: list[tuple[int, ...]] = []
        self._held: list[Any] = [call.key]
        self._registers = 0
        self._borrowed, self._owned = Numbers(self._register), Numbers(self._register)
        self._known: dict[Any, int] = {}  # registers of places and sources
        self._conditions: list[Callable[[], object]] = []
        self._asked: list[Callable[[Sequence[Tensor]], bool]] = []

    # Instructions -----------------------------------------------------------------------------------

    def _do(self, do: Do, *operands: int) -> None:
        self._rows.append((do, *operands))

    def _hold(self, item: Any) -> int:
        """An object's address, which is right as long as the signature is there."""
        self._held.append(item)
        return id(item)

    def _table(self, words: Iterable[int]) -> int:
        table = array("q", [*words, 0])
        self._held.append(table)
        return table.buffer_info()[0]

    def _register(self) -> int:
        self._registers += 1
        return self._registers - 1

    def _new(self) -> int:
        """A register for a borrowed reference."""
        return self._borrowed.take()

    def _new_owned(self) -> int:
        return self._owned.take()

    def _about(self, tensor: Tensor) -> tuple[int, int]:
        """What must be true of a tensor in the place of this one, as ``TENSOR`` has it."""
        value = tensor._value
        if type(tensor) not in (Tensor, Parameter) or type(value) is not np.ndarray:
            raise Unsigned(f"it reads a {type(tensor).__name__}")
        about = id(tensor._requires_grad), int(tensor._node is None), value.ndim, *value.shape
        return self._hold(value.dtype), self._table(about)

    # What guards tell -------------------------------------------------------------------------------

    def ask(self, holds: Callable[[Sequence[Tensor]], bool]) -> None:
        """Python is to be asked."""
        self._asked.append(holds)

    def is_item(self, place: Place, item: Any) -> None:
        """The very object stands at a place."""
        self._conditions.append(lambda: self._do(Do.IS, self._at(place), self._hold(item)))

    def equals(self, place: Place, item: Any) -> None:
        """An equal number or string stands at a place, or the very object."""
        if isinstance(place, Truth):
            place, truth = place.of, int(item)
            self._conditions.append(lambda: self._do(Do.TRUTH, self._at(place), truth))
            return
        do = Do.EQUALS if type(item) in (*BY_VALUE, float) else Do.IS
        self._conditions.append(lambda: self._do(do, self._at(place), self._hold(item)))

    def holds_items(self, place: Place, items: Sequence[Any]) -> None:
        """The list, or the values of the dict, at a place are these very objects, in this order."""

        def write() -> None:
            register, container = self._at(place), place()
            if type(container) not in (list, dict):
                raise Unsigned(f"it relies on a {type(container).__name__}")
            if type(container) is list:
                self._do(Do.SIZED, register, len(items), self._hold(list))
            else:
                self._do(Do.DICT, register, len(items))
            position = self._new()
            for number, (key, item) in enumerate(zip(container, items, strict=True)):
                at = self._new()
                if type(container) is list:
                    self._do(Do.LIST_ITEM, at, register, number)
                else:
                    self._do(Do.NEXT_ITEM, at, register, self._hold(key), position)
                self._do(Do.IS, at, self._hold(item))

        self._conditions.append(write)

    def same_contents(self, place: Place, leave_out: frozenset[int]) -> bool:
        """What stands at a place holds what it holds now, as :func:`~tracejit.contents.contents` sees it.

        ``False`` where native code cannot look at that.
        """
        try:
            parts = [*islice(_parts(place, place(), leave_out, set()), MOST_PARTS)]
        except Unsigned:
            return False
        if len(parts) == MOST_PARTS:
            return False
        for part, item in parts:
            match item:
                case _Dict():
                    self._conditions.append(partial(self._holds_keys, part, item))
                case _Sized():
                    self._conditions.append(partial(self._is_sized, part, item))
                case Tensor():
                    self._conditions.append(partial(self._is_instance, part))
                case _:
                    self.equals(part, item)
        return True

    def same_functions(self, functions: Sequence[FunctionType]) -> None:
        """The functions have the code and the defaults that they have now."""

        def write() -> None:
            for function in functions:
                for name, offset in objects.FUNCTION_PARTS.items():
                    self._hold(getattr(function, name))
                    self._do(Do.WORD_IS, self._hold(function) + offset, objects.word(id(function) + offset))

        self._conditions.append(write)

    def same_classes(self, versions: Sequence[objects.ClassVersion]) -> None:
        """The classes have the versions that they have now."""

        def write() -> None:
            for version in versions:
                self._hold(version.kind)
                if not version.is_same():
                    raise Unsigned(f"{version.kind.__name__} has no version")
                self._do(Do.WORD_IS, version.address, objects.word(version.address))

        self._conditions.append(write)

    def _holds_keys(self, place: Place, expected: _Dict) -> None:
        """The dict at a place has these keys, in this order; its values are known from here on."""
        register, position = self._at(place), self._new()
        self._do(Do.DICT, register, len(expected.keys))
        for key in expected.keys:
            value = self._known[Item, register, type(key), key] = self._new()
            self._do(Do.NEXT_ITEM, value, register, self._hold(key), position)

    def _is_sized(self, place: Place, expected: _Sized) -> None:
        self._do(Do.SIZED, self._at(place), expected.count, self._hold(expected.kind))

    def _is_instance(self, place: Place) -> None:
        self._do(Do.INSTANCE, self._at(place))

    def lacks(self, place: Place, key: Any) -> None:
        """The dict at a place has no such key."""
        self._conditions.append(lambda: self._do(Do.LACKS, self._at(place), self._hold(key)))

    def reads(self, sources: Sequence[Source]) -> None:
        """The tensors that the path reads are where they were, or others like them that it does not read otherwise."""

        def write() -> None:
            registers = [self._of(source) for source in sources]
            registers += [register for key, register in self._known.items() if key[0] is Argument]
            self._do(Do.APART, self._table(dict.fromkeys(registers)), len(set(registers)))

        self._conditions.append(write)

    def unchanged(self, counter: str) -> None:
        """One of the counters of :data:`tracejit.state.changes` is what it was."""
        self._conditions.append(lambda: self._slot_unchanged(changes, counter))

    def is_leaf(self, source: Source, requires_grad: bool) -> None:
        """A tensor does or does not require gradients, and has no history."""

        def write() -> None:
            register = self._of(source)
            self._do(Do.SLOT_IS, register, offset("_requires_grad"), id(requires_grad))
            self._do(Do.SLOT_IS, register, offset("_node"), id(None))

        self._conditions.append(write)

    def has_gradient(self, source: Source, is_there: bool) -> None:
        """A tensor's ``.grad`` is there, or not."""

        def write() -> None:
            if is_there:
                self._of(GradientOf(source))
            else:
                self._do(Do.SLOT_IS, self._of(source), offset("_grad"), id(None))

        self._conditions.append(write)

    def arguments_are_others(self, sources: Iterable[Source]) -> None:
        """No tensor argument is one of these."""
        others = [source.find(self._call.tensors) for source in sources]

        def write() -> None:
            table = self._table(map(self._hold, others))
            for number in range(len(self._call.tensors)):
                self._do(Do.NOT_AMONG, self._known[Argument, number], table, len(others))

        if others:
            self._conditions.append(write)

    def _slot_unchanged(self, owner: Any, slot: str) -> None:
        address = self._hold(owner) + objects.slot_offset(type(owner), slot)
        self._do(Do.WORD_IS, address, self._hold(getattr(owner, slot)))

    # Where things are -------------------------------------------------------------------------------

    def _at(self, place: Place) -> int:
        """The register of what stands at a place."""
        match place:
            case Itself():
                key: Any = Itself, id(place.item)
            case Content():
                key = Content, id(place.cell)
            case Item():
                key = Item, self._at(place.of), type(place.key), place.key
            case Attributes():
                key = Attributes, self._at(place.of)
            case Given():
                key = Given, place.which, place.key
            case _:
                raise Unsigned("it looks something up in Python")
        if key not in self._known:
            self._known[key] = self._look_up(place)
        return self._known[key]

    def _look_up(self, place: Any) -> int:
        if isinstance(place, Itself | Content):
            register = self._new()
            do = Do.CONSTANT if isinstance(place, Itself) else Do.CONTENT
            self._do(do, register, self._hold(place.item if isinstance(place, Itself) else place.cell))
            return register
        if isinstance(place, Given):
            register = self._new()
            if place.which == 0:
                self._do(Do.ARGUMENT, register, place.key)
            else:
                self._do(Do.KEYWORDS, register)
                self._do(Do.ITEM, register, register, self._hold(place.key))
            return register
        of = self._at(place.of)
        container = place.of()
        register = self._new()
        if isinstance(place, Attributes):
            self._do(Do.ATTRIBUTES, register, of)
        elif type(container) is dict:
            self._do(Do.ITEM, register, of, self._hold(place.key))
        elif type(container) in (list, tuple) and isinstance(place.key, int):
            is_list = type(container) is list
            self._do(Do.SIZED, of, len(container), self._hold(type(container)))
            self._do(Do.LIST_ITEM if is_list else Do.TUPLE_ITEM, register, of, range(len(container))[place.key])
        else:
            raise Unsigned(f"it looks something up in a {type(container).__name__}")
        return register

    def _of(self, source: Source) -> int:
        """The register of a tensor that the path reads."""
        key = source.key
        if key in self._known:
            return self._known[key]
        match source:
            case Captured():
                register = self._at(Itself(source.tensor))
            case Reached():
                register = self._at(source.look_up)
                tensor = source.look_up()
                self._do(Do.LIKE, register, *self._about(tensor), self._hold(tensor))
            case GradientOf():
                owner = self._of(source.owner)
                register = self._new()
                self._do(Do.SLOT, register, owner, offset("_grad"))
            case _:
                raise Unsigned("of where it finds a tensor")
        self._known[key] = register
        return register

    def _read(self, number: int, source: Any) -> None:
        """The array with a number."""
        match source:
            case FloatArgument():
                self._do(Do.FLOAT, self._known[source.key], 0, 0, number)
            case Number():
                if type(source.find()) not in (float, int):
                    raise Unsigned("it reads a number that is no float")
                self._do(Do.REAL, self._at(source.find), 0, 0, number)
            case Source():
                self._do(Do.VALUE, self._of(source), 0, 0, number)
            case _:
                raise Unsigned("of what it reads")


@facts(frozen=True)
class _Dict:
    """A dict, of which the keys count."""

    keys: tuple[Any, ...]


@facts(frozen=True)
class _Sized:
    """A list or a tuple, of which the length counts."""

    kind: type
    count: int


def _parts(place: Place, item: Any, leave_out: frozenset[int], seen: set[int]) -> Iterator[tuple[Place, Any]]:
    """Places of what counts in an item, each with what is to be there: see :func:`~tracejit.contents.contents`."""
    kind = type(item)
    if kind in (*BY_VALUE, *SINGLE, float):
        yield place, item
    elif isinstance(item, complex):
        raise Unsigned(f"it relies on a {kind.__name__}'s value")
    elif isinstance(item, Tensor):
        if kind not in (Tensor, Parameter):
            raise Unsigned(f"it relies on a {kind.__name__}")
        yield place, item
    elif isinstance(item, contents.BY_IDENTITY) or id(item) in leave_out or id(item) in seen:
        yield place, item
    elif kind is dict:
        seen.add(id(item))
        if not all(isinstance(key, _KEYS) for key in item):
            raise Unsigned("it relies on what the keys of a dict hold")
        yield place, _Dict(tuple(item))
        for key, value in item.items():
            yield from _parts(Item(place, key), value, leave_out, seen)
    elif kind in (list, tuple):
        seen.add(id(item))
        yield place, _Sized(kind, len(item))
        for position, value in enumerate(item):
            yield from _parts(Item(place, position), value, leave_out, seen)
    elif isinstance(item, _LOOKED_INTO):
        raise Unsigned(f"it relies on what a {kind.__name__} holds")
    else:
        seen.add(id(item))
        yield place, item
        held = contents.fields(item)
        if held is not None and not (contents.is_wrapper(item) and not held):
            if any(True for _ in contents.slots(item)):
                raise Unsigned(f"it relies on the slots of a {kind.__name__}")
            attributes = Attributes(place)
            yield attributes, _Dict(tuple(held))
            for name, value in held.items():
                yield from _parts(Item(attributes, name), value, leave_out, seen)


def offset(slot: str) -> int:
    """Where a tensor has a slot."""
    return objects.slot_offset(Tensor, slot)
