"""From a compiled path to a signature: what native code does in place of :func:`tracejit.compiled.run`.

A call in Python has found its path, so everything that the path relies on holds at this moment.  The signature says
how native code sees at a later call that it still does, where the inputs are, and what becomes of the results; what has
no such form is :class:`Unsigned`, and stays in Python.
"""

from __future__ import annotations

import dataclasses
import types
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

from tracejit.backends.cpu import objects, signatures
from tracejit.backends.cpu.signatures import Do, Signature
from tracejit.ir.masks import settings as masks
from tracejit.ir.types import TensorType

from . import contents, tree
from .compiled import Code, Effect, Ending, Output
from .config import config
from .places import Attributes, Content, Item, Itself, Place, Truth
from .sources import Argument, Captured, FloatArgument, GradientOf, Number, Reached, Source
from .state import changes
from .tensor import Parameter, Tensor

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall
    from .paths import Segment

_BY_VALUE = (int, str, bytes)
_SINGLE = (bool, type(None), type(Ellipsis))
_LOOKED_INTO = (
    dict, list, tuple, deque, set, frozenset, type, *contents.BUFFERS, ContextVar, MethodType, partial, Logger,
)  # fmt: skip
_OF_CLASSES = (*_BY_VALUE, *_SINGLE, float, property, staticmethod, classmethod, types.GetSetDescriptorType)
MOST_PARTS = 2000  # of what a captured object holds


class Unsigned(Exception):
    """A call that has no signature."""


def sign(call: ArgumentsOfCall, segment: Segment) -> Signature:
    """The signature of a call that took a path of one segment."""
    return Signing(call, segment).run()


class Signing:
    """A signature under construction, and what guards tell of themselves."""

    def __init__(self, call: ArgumentsOfCall, segment: Segment) -> None:
        if segment.code is None or segment.ending is None:
            raise Unsigned("it decides on its way")
        if not _IS_COMPLETE:
            raise Unsigned("what paths do has changed")
        self._call, self._segment = call, segment
        self._code: Code = segment.code
        self._ending: Ending = segment.ending
        self._rows: list[tuple[int, ...]] = []
        self._held: list[Any] = [call.key]
        self._borrowed = self._owned = 0
        self._known: dict[Any, int] = {}  # registers of places and sources
        self._conditions: list[Callable[[], object]] = []
        self._asked: list[Callable[[Sequence[Tensor]], bool]] = []

    def run(self) -> Signature:
        _, _, aliases, records, _ = self._call.key
        if aliases is not None or self._call.iterators or self._call._static:
            raise Unsigned("of its arguments")
        code, ending = self._code, self._ending
        if code.anomaly or ending.stores or ending.backward is not None:
            raise Unsigned("of what it does")
        entry = code.executable.entry()
        if entry is None:
            raise Unsigned("of its program")
        self._hold(entry)
        for guard in self._segment.guards:
            guard.tell(self)
        leaves = self._take_apart()
        if self._asked:
            tensors = self._table(register for item, register in leaves if isinstance(item, Tensor))
            for ask in self._asked:
                self._do(Do.HOLDS, self._hold(ask), tensors, len(self._call.tensors))
            leaves = self._take_apart()  # for the code that was asked may have changed what the arguments hold
        self._look_at(leaves)
        self._slot_unchanged(config, "disable_jit")
        self._slot_unchanged(masks, "masked")
        for condition in self._conditions:
            condition()
        for number, source in enumerate(code.sources):
            self._read(number, source)
        self._finish()
        changes_tensors = bool(ending.effects)
        words = {
            signatures.PROGRAM: entry.address,
            signatures.POSITIONALS: len(self._call.args),
            signatures.KEYWORDS: len(self._call.kwargs),
            signatures.REGISTERS: self._borrowed + self._owned,
            signatures.OWNED: self._borrowed,
            signatures.RECORDS: id(records),
            signatures.LOCKS: signatures.LEAVES_ALONE
            if not changes_tensors
            else signatures.CHANGES_UNLOCKED
            if entry.lets_go
            else signatures.CHANGES,
        }
        return Signature(self._call.key, words, self._rows, self._held)

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

    def _new(self) -> int:
        """A register for a borrowed reference."""
        assert not self._owned
        self._borrowed += 1
        return self._borrowed - 1

    def _new_owned(self) -> int:
        self._owned += 1
        return self._borrowed + self._owned - 1

    # Arguments --------------------------------------------------------------------------------------

    def _take_apart(self) -> list[tuple[Any, int]]:
        """The leaves of the arguments, in their order, each with its register."""
        leaves: list[tuple[Any, int]] = []
        for position, item in enumerate(self._call.args):
            register = self._new()
            self._do(Do.ARGUMENT, register, position)
            self._unpack(item, register, leaves)
        for name, item in sorted(self._call.kwargs.items()):
            register = self._new()
            self._do(Do.KEYWORD, register, self._hold(name))
            self._unpack(item, register, leaves)
        return leaves

    def _unpack(self, item: Any, register: int, leaves: list[tuple[Any, int]]) -> None:
        kind = type(item)
        if kind in (tuple, list):
            self._do(Do.TUPLE if kind is tuple else Do.LIST, register, len(item))
            for position, child in enumerate(item):
                of_child = self._new()
                self._do(Do.TUPLE_ITEM if kind is tuple else Do.LIST_ITEM, of_child, register, position)
                self._unpack(child, of_child, leaves)
        elif kind is dict:
            self._do(Do.DICT, register, len(item))
            position = self._new()
            for key, child in item.items():
                of_child = self._new()
                self._do(Do.NEXT_ITEM, of_child, register, self._hold(key), position)
                self._unpack(child, of_child, leaves)
        elif isinstance(item, tuple) or dataclasses.is_dataclass(item):
            raise Unsigned(f"an argument is a {kind.__name__}")
        else:
            leaves.append((item, register))

    def _look_at(self, leaves: Sequence[tuple[Any, int]]) -> None:
        """What the key says of the arguments; the inputs among them are read."""
        inputs = {s.key: number for number, s in enumerate(self._code.sources) if s is not None}
        tensors = floats = 0
        for item, register in leaves:
            kind = type(item)
            if isinstance(item, Tensor):
                self._known[Argument, tensors] = register
                self._do(Do.TENSOR, *self._tensor(item, register), inputs.get((Argument, tensors), -1))
                tensors += 1
            elif kind is float:
                number = inputs.get((FloatArgument, floats))
                if number is None:
                    self._do(Do.IS_FLOAT, register)
                else:
                    self._do(Do.FLOAT, register, 0, 0, number)
                floats += 1
            elif kind in _SINGLE:
                self._do(Do.IS, register, self._hold(item))
            elif kind in _BY_VALUE:
                self._do(Do.EQUALS, register, self._hold(item))
            elif any(item is other for other in self._call.named_by_identity):
                self._do(Do.IS, register, self._hold(item))
            else:
                raise Unsigned(f"an argument is a {kind.__name__}")
        if tensors > 1:
            registers = self._table(register for item, register in leaves if isinstance(item, Tensor))
            self._do(Do.DISTINCT, registers, tensors)

    def _tensor(self, tensor: Tensor, register: int) -> tuple[int, int, int]:
        value = tensor._value
        if type(tensor) not in (Tensor, Parameter) or type(value) is not np.ndarray:
            raise Unsigned(f"an argument is a {type(tensor).__name__}")
        about = id(tensor._requires_grad), int(tensor._node is None), value.ndim, *value.shape
        return register, self._hold(value.dtype), self._table(about)

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
        do = Do.EQUALS if type(item) in (*_BY_VALUE, float) else Do.IS
        self._conditions.append(lambda: self._do(do, self._at(place), self._hold(item)))

    def holds_items(self, place: Place, items: Sequence[Any]) -> None:
        """The list, or the values of the dict, at a place are these very objects, in this order."""

        def write() -> None:
            register, container = self._at(place), place()
            if type(container) not in (list, dict):
                raise Unsigned(f"it relies on a {type(container).__name__}")
            self._do(Do.LIST if type(container) is list else Do.DICT, register, len(items))
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
                case _Version():
                    address, word = item.address, item.word
                    self._conditions.append(partial(self._do, Do.WORD_IS, address, word))
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

    def _holds_keys(self, place: Place, expected: _Dict) -> None:
        """The dict at a place has these keys, in this order; its values are known from here on."""
        register, position = self._at(place), self._new()
        self._do(Do.DICT, register, len(expected.keys))
        for key in expected.keys:
            value = self._known[Item, register, type(key), key] = self._new()
            self._do(Do.NEXT_ITEM, value, register, self._hold(key), position)

    def _is_sized(self, place: Place, expected: _Sized) -> None:
        self._do(Do.LIST if expected.kind is list else Do.TUPLE, self._at(place), expected.count)

    def _is_instance(self, place: Place) -> None:
        self._do(Do.INSTANCE, self._at(place))

    def lacks(self, place: Place, key: Any) -> None:
        """The dict at a place has no such key."""
        self._conditions.append(lambda: self._do(Do.LACKS, self._at(place), self._hold(key)))

    def reads(self, source: Source) -> None:
        """The tensor that the path reads is where it is now."""
        self._conditions.append(partial(self._of, source))

    def unchanged(self, counter: str) -> None:
        """One of the counters of :data:`tracejit.state.changes` is what it was."""
        self._conditions.append(lambda: self._slot_unchanged(changes, counter))

    def is_leaf(self, source: Source, requires_grad: bool) -> None:
        """A tensor does or does not require gradients, and has no history."""

        def write() -> None:
            register = self._of(source)
            self._do(Do.SLOT_IS, register, _offset("_requires_grad"), id(requires_grad))
            self._do(Do.SLOT_IS, register, _offset("_node"), id(None))

        self._conditions.append(write)

    def has_gradient(self, source: Source, is_there: bool) -> None:
        """A tensor's ``.grad`` is there, or not."""

        def write() -> None:
            if is_there:
                self._of(GradientOf(source))
            else:
                self._do(Do.SLOT_IS, self._of(source), _offset("_grad"), id(None))

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
        of = self._at(place.of)
        container = place.of()
        register = self._new()
        if isinstance(place, Attributes):
            self._do(Do.ATTRIBUTES, register, of)
        elif type(container) is dict:
            self._do(Do.ITEM, register, of, self._hold(place.key))
        elif type(container) in (list, tuple) and isinstance(place.key, int):
            is_list = type(container) is list
            self._do(Do.LIST if is_list else Do.TUPLE, of, len(container))
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
                self._do(Do.IS, register, self._hold(source.look_up()))
            case GradientOf():
                owner = self._of(source.owner)
                register = self._new()
                self._do(Do.SLOT, register, owner, _offset("_grad"))
            case _:
                raise Unsigned("of where it finds a tensor")
        self._known[key] = register
        return register

    def _read(self, number: int, source: Any) -> None:
        """The input with a number, unless it is an argument."""
        match source:
            case Argument() | FloatArgument():
                pass
            case Number():
                if type(source.find()) not in (float, int):
                    raise Unsigned("it reads a number that is no float")
                self._do(Do.REAL, self._at(source.find), 0, 0, number)
            case Source():
                self._do(Do.VALUE, self._of(source), 0, 0, number)
            case _:
                raise Unsigned("of what it reads")

    # The end ----------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Run the program, make what is returned, and change what is changed."""
        ending, code = self._ending, self._code
        sources = [effect.source for effect in ending.effects]
        sources += [effect.replacement for effect in ending.effects if effect.replacement is not None]
        sources += [output.source for output in ending.outputs if output.source is not None]
        borrowed = {source.key: self._of(source) for source in sources}
        kept: dict[Any, int] = {}
        for key, register in borrowed.items():  # held from here on, for code of others may run
            kept[key] = self._new_owned()
            self._do(Do.KEEP, kept[key], register)
        self._do(Do.RUN)
        arrays = code.executable.results
        for check in self._segment.checks:
            self._do(Do.TRUE, arrays[code.results.index(check.predicate)])
        made: dict[int, int] = {}
        for output in ending.outputs:
            if id(output) not in made:
                made[id(output)] = self._made(output, arrays, kept)
        updates = []
        for effect in ending.effects:
            update = self._new_owned()
            if effect.replacement is not None:
                self._do(Do.KEEP, update, kept[effect.replacement.key])
            elif effect.result is None:
                self._do(Do.TAKE, update, id(None))
            elif effect.attribute == "_value":
                self._do(Do.ARRAY, update, arrays[effect.result])
            else:
                self._do(Do.NEW, update, arrays[effect.result])
            updates.append((kept[effect.source.key], _offset(effect.attribute), update))
        root = self._structure(ending.structure, iter([made[id(output)] for output in ending.outputs]))
        for target, offset, update in updates:
            self._do(Do.PUT, target, offset, update)
        self._do(Do.RETURN, root)

    def _made(self, output: Output, arrays: Sequence[int], kept: dict[Any, int]) -> int:
        """The register of one leaf of what is returned."""
        register = self._new_owned()
        value = self._code.results[output.result] if output.result >= 0 else None
        if output.kind == "tensor" and output.differentiable is None:
            self._do(Do.NEW, register, arrays[output.result])
            if output.spent and value is not None:
                self._do(Do.SPENT, register, self._hold(TensorType(value.dtype, value.shape)))
        elif output.kind == "number" and value is not None and value.dtype in signatures.NUMBERS:
            self._do(Do.NUMBER, register, arrays[output.result], signatures.NUMBERS[value.dtype])
        elif output.kind == "existing" and output.source is not None:
            self._do(Do.KEEP, register, kept[output.source.key])
        elif output.kind == "static":
            self._do(Do.TAKE, register, self._hold(output.static))
        else:
            raise Unsigned("of what it returns")
        return register

    def _structure(self, structure: tree.Structure, leaves: Any) -> int:
        """The register of a container of leaves."""
        if structure is None:
            return next(leaves)
        kind, keys, children = structure
        items = [self._structure(child, leaves) for child in children]
        register = self._new_owned()
        if kind is dict:
            pairs = [word for key, item in zip(keys, items, strict=True) for word in (self._hold(key), item)]
            self._do(Do.NEW_DICT, register, self._table(pairs), len(items))
        elif kind in (tuple, list):
            self._do(Do.NEW_TUPLE if kind is tuple else Do.NEW_LIST, register, self._table(items), len(items))
        else:
            raise Unsigned(f"it returns a {kind.__name__}")
        return register


@dataclasses.dataclass(frozen=True)
class _Dict:
    """A dict, of which the keys count."""

    keys: tuple[Any, ...]


class _Version:
    """A class, of which the version counts: another one after each change of it or of one it is derived from."""

    def __init__(self, kind: type) -> None:
        getattr(kind, "_", None)  # a look-up gives it a version
        self.address = id(kind) + objects.TYPE_VERSION
        self.word = objects.word(self.address)
        if self.word & 0xFFFFFFFF == 0:
            raise Unsigned(f"{kind.__name__} has no version")


@dataclasses.dataclass(frozen=True)
class _Sized:
    """A list or a tuple, of which the length counts."""

    kind: type
    count: int


def _parts(place: Place, item: Any, leave_out: frozenset[int], seen: set[int]) -> Iterator[tuple[Place, Any]]:
    """Places of what counts in an item, each with what is to be there: see :func:`~tracejit.contents.contents`."""
    kind = type(item)
    if kind in (*_BY_VALUE, *_SINGLE, float):
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
            yield from _parts_of_class(kind, leave_out, seen)


def _parts_of_class(kind: type, leave_out: frozenset[int], seen: set[int]) -> Iterator[tuple[Place, Any]]:
    """Its version, and what its containers hold."""
    if id(kind) in seen:
        return
    seen.add(id(kind))
    yield Itself(kind), _Version(kind)
    for base in contents.users_classes(kind):
        seen.add(id(base))
        for value in contents.attributes_of_class(base).values():
            if not isinstance(value, (*contents.BY_IDENTITY, *_OF_CLASSES)) or isinstance(value, _LOOKED_INTO):
                yield from _parts(Itself(value), value, leave_out, seen)


def _field_names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


# What ends of paths consist of: with anything more, they would have to be signed in another way.
_IS_COMPLETE = (
    _field_names(Ending) == {
        "values", "outputs", "structure", "effects", "stores", "backward", "parameters", "labels", "calls", "signed",
    }
    and _field_names(Effect) == {"source", "attribute", "result", "replacement"}
    and _field_names(Output) == {"kind", "result", "source", "static", "spent", "differentiable"}
)  # fmt: skip


def _offset(slot: str) -> int:
    return objects.slot_offset(Tensor, slot)
