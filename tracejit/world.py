"""The world around a trace: the Python objects that the function can reach, before it runs and after.

A trace must leave the world as it was, whatever the function does to attributes, lists, dicts and variables.  So
those that it can reach are copied (each container by itself, its items as they are) before the function runs; what
differs afterwards is a change that each compiled call repeats, and is taken back.  Tensors found on the way are
known by the place that holds them, so that another tensor put there later is read in its stead.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import io
import pickle
import re
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from .contents import (
    BUFFERS,
    MAX_BYTES,
    attributes_of_class,
    copy_of,
    is_module,
    is_optimizer,
    is_plain_instance,
    is_wrapper,
    same_bytes,
    size_of,
    slots,
    users_classes,
)
from .names import mentioned, named
from .places import Attribute, Attributes, Item, Itself, Place
from .sources import Reached
from .tensor import Tensor
from .tree import is_registered

MAX_ITEMS = 50_000  # of all containers together: what lies deeper in a larger world is not watched
MAX_DEPTH = 64
_ABSENT = object()


class Change:
    """Something that a container holds now and did not before."""

    def __init__(
        self, label: str, find: Place, kind: str, key: Any, value: Any, module: Any = None, container: Any = None
    ) -> None:
        self.label = label  # for people: self.hidden
        self.container = container  # of an "append"
        self.find = find  # the container, at a later call
        # "item" (of a dict or of an object's attributes), "gone", "append", "list", "cell", "slot", "empty slot"
        self.kind = kind
        self.key = key
        self.value = value
        self.module = module  # whose attributes these are

    def commit(self, target: Any, value: Any) -> None:
        """Make the change again to the container, as it is found now, with a value in place of the traced one."""
        if self.module is not None and self.key != "training" and not _is_alike(target.get(self.key), value):
            vars(self.module)["_module_version"] += 1
        match self.kind:
            case "item":
                target[self.key] = value
            case "gone":
                target.pop(self.key, None)
            case "append":
                target.extend(value)
            case "list":
                target[:] = value
            case "cell":
                target.cell_contents = value
            case "slot":
                setattr(target, self.key, value)
            case "empty slot":
                delattr(target, self.key)


class _Held:
    """A container, and what it held."""

    __slots__ = ("container", "copy", "find", "label", "module", "template")

    def __init__(self, container: Any, find: Place, label: str, template: str, module: Any) -> None:
        self.container, self.find, self.label = container, find, label
        self.template = template  # what an item is called
        self.module = module  # whose attributes these are
        self.copy = container.copy()


class Untracked(Exception):
    """A change that cannot be repeated by putting values into containers."""


class World:
    """What can be reached from some named roots; ``extra`` objects count as reached from nowhere."""

    def __init__(self, roots: Iterable[tuple[str, Place, Any]], functions: Iterable[types.FunctionType]) -> None:
        self.roots, self.functions = list(roots), list(functions)
        self.places: dict[int, list[Reached]] = {}
        self.held_fast: set[int] = set()  # tensors of modules and optimizers, which have guards of their own
        self._held: list[_Held] = []
        self._seen: dict[int, Any] = {}  # kept alive, so that an identity is not used again
        self._cells: list[tuple[str, types.CellType, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self.classes: list[tuple[type, dict[str, Any]]] = []  # with their attributes
        self.modules: list[Any] = []
        self.containers: dict[int, Place] = {}  # where those are that a function may return
        self._settings: dict[int, dict[str, Any]] = {}  # what they were
        self.groups: list[tuple[str, dict[str, Any]]] = []  # of optimizers: their settings
        self._buffers: list[tuple[str, Any, Any]] = []
        self._slots: list[tuple[str, Place, Any, dict[str, Any]]] = []
        self._generators: list[tuple[Any, Any]] = []
        self._count = 0
        self._mentioned: frozenset[str] = frozenset().union(*(mentioned(f.__code__) for f in self.functions))
        for function in self.functions:
            self._watch_variables(function)
        pending = deque((label, find, value, 0) for label, find, value in self.roots)
        while pending and self._count < MAX_ITEMS:
            pending.extend(self._visit(*pending.popleft()))
        self._numpy_state = _numpy_random_state()

    def _watch_variables(self, function: types.FunctionType) -> None:
        stored, globals_stored = _stored(function.__code__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name in stored:
                self._cells.append((name, cell, _content(cell)))
        space = function.__globals__
        for name in globals_stored:
            self._globals.append((space, name, space.get(name, _ABSENT)))
        if function.__dict__ or function.__name__ in mentioned(function.__code__):
            self._hold(vars(function), Itself(vars(function)), function.__name__, "{}.{}")

    def _visit(self, label: str, find: Place, item: Any, depth: int) -> Iterator[tuple[str, Place, Any, int]]:
        if isinstance(item, Tensor):
            self.places.setdefault(id(item), []).append(Reached(label, find, item))
            return
        if isinstance(item, type):
            for base in users_classes(item):
                yield from self._visit_class(base, depth)
        if isinstance(item, _ATOMS) or id(item) in self._seen:
            return
        self._seen[id(item)] = item
        self._count += 1
        if _is_generator(item):
            source = item.bit_generator if isinstance(item, np.random.Generator) else item._bit_generator
            self._generators.append((source, pickle.dumps(source.state)))
        elif isinstance(item, BUFFERS):
            if size_of(item) <= MAX_BYTES:
                self._buffers.append((label, item, copy_of(item)))
        elif isinstance(item, ContextVar):
            value = item.get(None)
            yield label, Itself(value), value, depth + 1
        elif hasattr(type(item), "__next__") and not isinstance(item, io.IOBase):
            self._refuse_iterator(label, item)
        if depth == MAX_DEPTH:
            return
        if isinstance(item, _CONTAINERS) and getattr(item, "__dict__", None):  # of a class derived from a container's
            yield f"{label}.__dict__", Attributes(find), vars(item), depth + 1
        is_record = dataclasses.is_dataclass(item) and not isinstance(item, type)
        if isinstance(item, list | dict) or is_record or is_registered(type(item)):
            self.containers[id(item)] = find
        if isinstance(item, dict):
            self._hold(item, find, label)
            yield from ((f"{label}[{key!r:.30}]", Item(find, key), value, depth + 1) for key, value in item.items())
            yield from ((label, Itself(key), key, depth + 1) for key in item if not isinstance(key, _ATOMS))
        elif isinstance(item, list | tuple | deque):
            if not isinstance(item, tuple):
                self._hold(item, find, label)
            yield from ((f"{label}[{i}]", Item(find, i), value, depth + 1) for i, value in enumerate(item))
        elif isinstance(item, set | frozenset):
            if isinstance(item, set):
                self._hold(item, find, label)
            yield from ((label, Itself(child), child, depth + 1) for child in item if not isinstance(child, _ATOMS))
        elif isinstance(item, types.MappingProxyType):
            yield label, find, item | {}, depth + 1
        elif isinstance(item, weakref.ref):
            yield label, find, item(), depth + 1
        elif isinstance(item, BaseException):
            yield label, Itself(item.args), item.args, depth + 1
        elif isinstance(item, types.MethodType):
            yield label, Itself(item.__self__), item.__self__, depth + 1
        elif is_module(item):
            yield from self._visit_module(label, item, depth)
        elif is_optimizer(item):
            for number, group in enumerate(item.param_groups):
                name = f"{label}.param_groups[{number}]"
                self.groups.append((name, group))
                self._hold(group, Itself(group), name)
                self._settings[id(group)] = dict(group)
                self.held_fast.update(map(id, group["params"]))
        elif isinstance(item, functools.partial):
            for number, value in enumerate((item.func, *item.args, *item.keywords.values())):
                yield f"{label}({number})", Itself(value), value, depth + 1
        elif is_plain_instance(item) or is_wrapper(item):
            attributes = Attributes(find)
            yield type(item).__name__, Itself(type(item)), type(item), depth
            if not is_wrapper(item) and hasattr(item, "__dict__"):
                self._hold(vars(item), attributes, label, "{}.{}")
                for name, value in vars(item).items():
                    yield f"{label}.{name}", Item(attributes, name), value, depth + 1
            slotted = dict(slots(item))
            self._slots.append((label, find, item, slotted))
            for name, value in slotted.items():
                yield f"{label}.{name}", Attribute(find, name), value, depth + 1

    def _visit_class(self, kind: type, depth: int) -> Iterator[tuple[str, Place, Any, int]]:
        if id(kind) in self._seen:
            return
        self._seen[id(kind)] = kind
        attributes = attributes_of_class(kind)
        self.classes.append((kind, attributes))
        for name, value in attributes.items():
            yield f"{kind.__name__}.{name}", Item(Attributes(Itself(kind)), name), value, depth + 1

    def _refuse_iterator(self, label: str, item: Any) -> None:
        """An iterator that the function may go on with gives something else at each call."""
        if self._mentioned.issuperset(re.findall(r"\.(\w+)", label)):
            raise Untracked(f"it can reach the iterator {label}, a {type(item).__name__}")

    def _visit_module(self, label: str, module: Any, depth: int) -> Iterator[tuple[str, Place, Any, int]]:
        """A module: its attributes, buffers and children; its parameters stay what they are while its version does."""
        self.modules.append(module)
        yield type(module).__name__, Itself(type(module)), type(module), depth
        for name in (None, "_parameters", "_buffers", "_modules"):
            fields = vars(module) if name is None else vars(module).get(name, {})
            find = Itself(fields)
            self._hold(fields, find, label, "{}.{}", module)
            if name == "_parameters":
                self.held_fast.update(map(id, fields.values()))
                continue
            for key, value in fields.items():
                if name is not None or key not in _REGISTRIES:
                    # A child counts as no deeper than its parent: models are nested at will.
                    yield f"{label}.{key}", Item(find, key), value, depth if name == "_modules" else depth + 1
        for hooks in module._module_hooks.kinds() if module._module_hooks is not None else ():
            self._hold(hooks, Itself(hooks), f"{label}'s hooks", module=module)

    def _hold(self, container: Any, find: Place, label: str, template: str = "{}[{!r}]", module: Any = None) -> None:
        self._count += len(container)
        if self._count < MAX_ITEMS:
            self._held.append(_Held(container, find, label, template, module))

    def knows(self, item: Any) -> bool:
        """Whether an object was there, within reach, before the trace."""
        return id(item) in self._seen

    def is_changed(self, container: Any, key: Any) -> bool:
        """Whether the function has put something else into the settings of an optimizer so far."""
        before = self._settings.get(id(container))
        return before is not None and before.get(key, _ABSENT) is not container.get(key, _ABSENT)

    # Afterwards -------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        """What differs; ``Untracked`` where it cannot be repeated."""
        found: list[Change] = []
        for held in self._held:
            if not _same_items(held.container, held.copy):
                found += _differences(held)
        for name, cell, before in self._cells:
            now = _content(cell)
            if now is not before:
                if now is _ABSENT:
                    raise Untracked(f"it deletes {name}")
                found.append(Change(name, Itself(cell), "cell", None, now))
        for space, name, before in self._globals:
            now = space.get(name, _ABSENT)
            if now is not before:
                kind = "gone" if now is _ABSENT else "item"
                found.append(Change(name, Itself(space), kind, name, now))
        for users_class, before in self.classes:
            if not _same_items(attributes_of_class(users_class), before):
                raise Untracked(f"it changes the class {users_class.__name__}")
        for label, buffer, before in self._buffers:
            if not same_bytes(buffer, before):
                raise Untracked(f"it changes the {type(buffer).__name__} {label}")
        for label, find, item, before in self._slots:
            now = dict(slots(item))
            for name, value in now.items():
                if value is not before.get(name, _ABSENT):
                    found.append(Change(f"{label}.{name}", find, "slot", name, value))
            for name in before.keys() - now.keys():
                found.append(Change(f"{label}.{name}", find, "empty slot", name, None))
        if any(pickle.dumps(generator.state) != state for generator, state in self._generators):
            raise Untracked("it draws from a random generator of NumPy's")
        if _has_drawn(self._numpy_state):
            raise Untracked("it draws from NumPy's random generator")
        return found

    def restore(self) -> None:
        """Put everything back as it was."""
        for held in self._held:
            if not _same_items(held.container, held.copy):
                container = held.container
                container.clear()
                container.extend(held.copy) if isinstance(container, list | deque) else container.update(held.copy)
        for _, cell, before in self._cells:
            if _content(cell) is not before:
                if before is _ABSENT:
                    del cell.cell_contents
                else:
                    cell.cell_contents = before
        for space, name, before in self._globals:
            if before is _ABSENT:
                space.pop(name, None)
            else:
                space[name] = before
        for kind, attributes in self.classes:
            now = attributes_of_class(kind)
            if not _same_items(now, attributes):
                for name in now.keys() - attributes.keys():
                    delattr(kind, name)
                for name, value in attributes.items():
                    if now.get(name, _ABSENT) is not value:
                        setattr(kind, name, value)
        for _, buffer, before in self._buffers:
            if not same_bytes(buffer, before):
                _restore_buffer(buffer, before)
        for _, _, item, before in self._slots:
            now = dict(slots(item))
            if not _same_items(now, before):
                for name in now.keys() - before.keys():
                    object.__delattr__(item, name)
                for name, value in before.items():
                    object.__setattr__(item, name, value)
        for generator, state in self._generators:
            generator.state = pickle.loads(state)
        if self._numpy_state and _has_drawn(self._numpy_state):
            _set_numpy_random_state(self._numpy_state)


def _differences(held: _Held) -> list[Change]:
    now, before, find, label = held.container, held.copy, held.find, held.label
    if isinstance(now, dict):
        order = [key for key in before if key in now] != [key for key in now if key in before]
        if order:
            raise Untracked(f"it reorders {label}")
        shown, module = held.template, held.module
        changes = [
            Change(shown.format(label, key), find, "item", key, value, module)
            for key, value in now.items()
            if before.get(key, _ABSENT) is not value
        ]
        gone = [Change(shown.format(label, key), find, "gone", key, None, module) for key in before if key not in now]
        return changes + gone
    if isinstance(now, list):
        count = len(before)
        if len(now) >= count and all(a is b for a, b in zip(now, before, strict=False)):
            return [Change(label, find, "append", None, now[count:], container=now)]
        return [Change(label, find, "list", None, list(now))]
    raise Untracked(f"it changes the {type(now).__name__} {label}")


def _same_items(now: Any, before: Any) -> bool:
    if len(now) != len(before):
        return False
    if isinstance(now, dict):
        missing = _ABSENT
        return all(before.get(key, missing) is value for key, value in now.items()) and list(now) == list(before)
    if isinstance(now, set):
        return now == before
    return all(a is b for a, b in zip(now, before, strict=True))


def _restore_buffer(buffer: Any, before: Any) -> None:
    if isinstance(buffer, np.ndarray):
        if buffer.shape == before.shape and buffer.flags.writeable:
            buffer[...] = before
    else:
        buffer[:] = before


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


@functools.lru_cache(1 << 12)
def _stored(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The variables around it, and the globals, that the code binds."""
    return named(code, "STORE_DEREF", "DELETE_DEREF"), named(code, "STORE_GLOBAL", "DELETE_GLOBAL")


def _numpy_random_state() -> bytes | None:
    """The state of NumPy's global generator (its attribute takes a quarter of a millisecond); ``None``: not the usual.

    ``mt19937_state`` is 624 words and a position.  As long as nobody has imported ``numpy.random``, which takes long,
    there is no state.
    """
    if "numpy.random" not in sys.modules:
        return _NOT_LOADED
    generator = np.random.mtrand._rand._bit_generator
    return ctypes.string_at(generator.ctypes.state_address, 2500) if _is_usual(generator) else None


_NOT_LOADED = b""


def _has_drawn(before: bytes | None) -> bool:
    """Whether NumPy's global generator has another state than before."""
    return before is not None and _numpy_random_state() != before


def _set_numpy_random_state(state: bytes) -> None:
    generator = np.random.mtrand._rand._bit_generator
    if _is_usual(generator):
        ctypes.memmove(generator.ctypes.state_address, state, len(state))


def _is_generator(item: Any) -> bool:
    return "numpy.random" in sys.modules and isinstance(item, np.random.Generator | np.random.RandomState)


def _is_usual(generator: Any) -> bool:
    return type(generator) is np.random.MT19937


def _is_alike(before: Any, now: Any) -> bool:
    """Whether one tensor took another's place of which a trace cannot tell it."""
    return (
        isinstance(before, Tensor)
        and isinstance(now, Tensor)
        and before.dtype == now.dtype
        and before.shape == now.shape
        and before._requires_grad == now._requires_grad
    )


_CONTAINERS = (dict, list, tuple, deque, set, frozenset)
_REGISTRIES = (
    "_parameters",
    "_buffers",
    "_modules",
    "_module_version",
    "_module_trace",
    "_transient_buffers",
    "_module_hooks",
)
_ATOMS = (
    int, float, complex, str, bytes, bool, type(None), np.generic, type, types.ModuleType,
    types.FunctionType, types.BuiltinFunctionType, types.CodeType, np.dtype,
)  # fmt: skip
