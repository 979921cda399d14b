"""What of a captured container or object a trace may have relied on, in a form that can be compared.

Numbers and strings count by value, containers, arrays and plain objects by what they hold, all else by identity
(tensors are inputs; classes, functions, modules and optimizers have guards of their own).
"""

from __future__ import annotations

import array
import functools
import logging
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from .locations import is_library
from .tensor import Tensor

MAX_DEPTH = 100
MAX_ITEMS = 500  # of one captured object, where all that it holds is looked at
MAX_NAMED_ITEMS = 20_000  # where only the attributes are looked at whose names the code knows
MAX_BYTES = 1 << 26  # of one array
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_FLAT = frozenset((int, str, bytes, bool, type(None)))  # whose equality is identity, for one type
BY_IDENTITY = (Tensor, type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
BUFFERS = (np.ndarray, bytearray, array.array)


class TooLarge(Exception):
    """What an object holds cannot be looked at before each call."""


class _Identity:
    """Equal to itself for the same object; keeps the object, so that its identity is not used again."""

    __slots__ = ("_item",)

    def __init__(self, item: Any) -> None:
        self._item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._item is other._item

    __hash__ = None  # type: ignore[assignment]


class _Buffer:
    """Equal to one of the same type and bytes."""

    __slots__ = ("_item",)

    def __init__(self, item: Any) -> None:
        self._item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Buffer) and same_bytes(self._item, other._item)

    __hash__ = None  # type: ignore[assignment]


def contents(item: Any, leave_out: frozenset[int] = frozenset(), names: frozenset[str] | None = None) -> Any:
    """What ``item`` holds; ``None`` where only its identity counts.

    Of containers to ``leave_out``, given by their identities, only the identity counts; of objects only the attributes
    with these ``names``, if any are given.  Raises :class:`TooLarge`.

    >>> before = contents({"rate": 0.1, "sizes": [1, 2]})
    >>> (
    ...     before == contents({"rate": 0.1, "sizes": [1, 2]}),
    ...     before == contents({"rate": 0.2, "sizes": [1, 2]}),
    ... )
    (True, False)
    """
    return _Snapshot(leave_out, names, keep=True).of(item)


def holds_still(expected: Any, item: Any, leave_out: frozenset[int], names: frozenset[str] | None) -> bool:
    """Whether ``item`` holds what it held when its :func:`contents` were taken."""
    return bool(_Snapshot(leave_out, names, keep=False).of(item) == expected)


def difference(label: str, before: Any, now: Any) -> str:
    """The first thing in which two :func:`contents` of what is called ``label`` differ, for people.

    >>> before = contents({"rate": 0.1, "sizes": [1, 2]})
    >>> difference("config", before, contents({"rate": 0.1, "sizes": [1, 3]}))
    "`config['sizes'][1]` was 2, now 3"
    """
    if _is_plain(before) and _is_plain(now):
        return f"`{label}` was {_shown(before)}, now {_shown(now)}"
    old, new = _children(before), _children(now)
    if old is None or new is None:
        was, is_now = _kind(before), _kind(now)
        return f"`{label}` is another one" if was == is_now else f"`{label}` was {was}, now {is_now}"
    if before[0] != now[0]:
        return f"`{label}` is another one"
    for place in new.keys() - old.keys():
        return f"`{label}{place}` was not there before"
    for place in old.keys() - new.keys():
        return f"`{label}{place}` is gone"
    for place, child in old.items():
        if child != new[place]:
            return difference(f"{label}{place}", child, new[place])
    return f"`{label}` has another order"


def _is_plain(content: Any) -> bool:
    return isinstance(content, tuple) and len(content) == 2 and content[0] in _PLAIN


def _shown(content: Any) -> str:
    kind, value = content
    return str(value) if kind in (float, complex) else f"{value!r:.60}"  # a float's is its text


def _kind(content: Any) -> str:
    """What something is, for people."""
    if _is_plain(content):
        return _shown(content)
    if content is Tensor:
        return "a tensor"
    if isinstance(content, _Buffer):
        return "an array"
    if isinstance(content, tuple) and isinstance(content[0], type):
        return f"a {content[0].__name__}"
    return "an object"


def _children(content: Any) -> dict[str, Any] | None:
    """What a container or an object holds, by how one asks for it."""
    if not isinstance(content, tuple) or len(content) < 2:
        return None
    if isinstance(content[0], _Identity):
        items = content[1]
        if isinstance(items, list) and all(isinstance(item, tuple) and isinstance(item[0], str) for item in items):
            return {f".{name}": value for name, value in items}
        return None
    if not isinstance(content[0], type) or _is_plain(content):
        return None
    items = content[1]
    if isinstance(items, tuple):  # what many numbers and strings are kept as
        return None
    if issubclass(content[0], dict):
        return {f"[{_shown(key) if _is_plain(key) else '…'}]": value for key, value in items}
    return {f"[{position}]": value for position, value in enumerate(items)}


class _Snapshot:
    """One walk; ``keep`` copies arrays, so that they can be compared later."""

    def __init__(self, leave_out: frozenset[int], names: frozenset[str] | None, *, keep: bool) -> None:
        self._leave_out, self._names, self._keep = leave_out, names, keep
        self._left = MAX_ITEMS if names is None else MAX_NAMED_ITEMS
        self._seen: set[int] = set()

    def of(self, item: Any) -> Any:
        if isinstance(item, (*_PLAIN, *BY_IDENTITY)):
            return None
        found = self._visit(item, 0)
        return None if isinstance(found, _Identity) and not self._leave_out else found

    def _visit(self, item: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise TooLarge
        if isinstance(item, _PLAIN):
            return type(item), repr(item) if isinstance(item, float | complex) else item  # -0.0 is not 0.0, NaN is NaN
        if isinstance(item, Tensor):
            return Tensor  # which one is read is another guard's business
        if isinstance(item, BY_IDENTITY) or id(item) in self._leave_out or id(item) in self._seen:
            return _Identity(item)
        if isinstance(item, BUFFERS):
            if size_of(item) > MAX_BYTES:
                raise TooLarge
            return _Buffer(copy_of(item) if self._keep else item)
        self._seen.add(id(item))
        depth += 1
        if isinstance(item, dict | list | tuple | deque | set | frozenset):
            own = getattr(item, "__dict__", None)  # of a class derived from a container's
            return type(item), self._items(item, depth), self._visit(own, depth) if own else None
        if isinstance(item, types.MappingProxyType):
            return types.MappingProxyType, self._items(item.copy(), depth)
        if isinstance(item, weakref.ref):
            return _Identity(item), self._visit(item(), depth)
        if isinstance(item, BaseException):
            return _Identity(item), self._visit([item.args, vars(item)], depth)
        if isinstance(item, ContextVar):
            return _Identity(item), self._visit(item.get(None), depth)
        if isinstance(item, types.MethodType):
            return _Identity(item.__func__), self._visit(item.__self__, depth)
        if isinstance(item, functools.partial):
            return _Identity(item), self._visit([item.func, item.args, item.keywords], depth)
        if isinstance(item, logging.Logger):
            return _Identity(item), item.getEffectiveLevel(), item.disabled, item.manager.disable
        held = fields(item)
        if held is None:
            return _Identity(item)
        names = self._names
        if names is not None:
            held = {name: value for name, value in held.items() if name in names}
        attributes = [(name, self._visit(value, depth)) for name, value in held.items()]
        return _Identity(item), attributes

    def _items(self, item: Any, depth: int) -> Any:
        """What a container holds."""
        if isinstance(item, dict):
            flat = _flat(item.values())
            if flat is not None:
                return list(item), flat
            return [(self._visit(k, depth), self._visit(v, depth)) for k, v in item.items()]
        if isinstance(item, set | frozenset) and all(isinstance(child, _PLAIN) for child in item):
            if len(item) > self._left:
                raise TooLarge
            return sorted(map(repr, item))
        flat = _flat(item)
        return [self._visit(child, depth) for child in item] if flat is None else flat


def _flat(items: Any) -> Any:
    """Many numbers and strings, or many tensors, at the price of a few items."""
    if len(items) <= 16:
        return None
    kinds = set(map(type, items))
    if len(kinds) == 1:
        (kind,) = kinds
        if kind in _FLAT:
            return kind, list(items)
        if kind is float:
            return kind, array.array("d", items).tobytes()
        if issubclass(kind, Tensor):
            return kind, len(items)
    return None


def size_of(buffer: Any) -> int:
    """How many bytes an array holds."""
    return buffer.nbytes if isinstance(buffer, np.ndarray) else len(buffer) * getattr(buffer, "itemsize", 1)


def copy_of(buffer: Any) -> Any:
    """Another array that holds the same."""
    return buffer.copy() if isinstance(buffer, np.ndarray) else buffer[:]


def same_bytes(first: Any, second: Any) -> bool:
    """Whether two arrays are of one type and hold the same."""
    if type(first) is not type(second):
        return False
    if not isinstance(first, np.ndarray):
        return bool(first == second)
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype.hasobject:
        return all(a is b for a, b in zip(first.flat, second.flat, strict=True))
    if first.flags.c_contiguous and second.flags.c_contiguous and first.size:
        return np.array_equal(first.reshape(-1).view(np.uint8), second.reshape(-1).view(np.uint8))
    return first.tobytes() == second.tobytes()


def is_module(item: Any) -> bool:
    """Whether something is an ``nn.Module``."""
    return hasattr(type(item), "named_tensors") and "_modules" in getattr(item, "__dict__", ())


def is_optimizer(item: Any) -> bool:
    """Whether something is an optimizer."""
    return hasattr(type(item), "named_tensors") and "param_groups" in getattr(item, "__dict__", ())


def is_plain_instance(item: Any) -> bool:
    """Whether something is an object of a class of the user's."""
    return not isinstance(item, type) and _has_fields(item) and is_users_class(type(item))


def is_wrapper(item: Any) -> bool:
    """Whether something is a jitted function."""
    return "__wrapped__" in getattr(item, "__dict__", ()) and hasattr(type(item), "cache_info") and _is_own(type(item))


def is_users_class(kind: type) -> bool:
    """Whether a class is the user's own, and no module or optimizer, which guard themselves."""
    known = _is_users.get(kind)
    if known is None:
        known = _is_users[kind] = _is_written_by_user(kind) and not hasattr(kind, "named_tensors")
    return known


_is_users: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


def users_classes(kind: type) -> list[type]:
    """A class and those it is derived from, as far as they are the user's."""
    return [base for base in kind.__mro__ if _is_written_by_user(base)]


def _is_written_by_user(kind: type) -> bool:
    return kind.__module__.split(".")[0] not in _LIBRARIES and not _is_own(kind)


def attributes_of_class(kind: type) -> dict[str, Any]:
    """What a class of the user's says of its instances."""
    return {
        name: value for name, value in vars(kind).items()
        if not isinstance(value, types.MemberDescriptorType) and (not name.startswith("__") or callable(value))
    }  # fmt: skip


def fields(item: Any) -> dict[str, Any] | None:
    """The attributes of an instance of the user's."""
    if is_wrapper(item):
        return dict(slots(item))
    if not is_plain_instance(item):
        return None
    own: dict[str, Any] | None = getattr(item, "__dict__", None)
    slotted = dict(slots(item))
    return own if not slotted and own is not None else {**(own or {}), **slotted}


def slots(item: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that an object keeps in slots; those that a user gave a jitted function."""
    if is_wrapper(item):
        yield from [(name, value) for name, value in vars(item).items() if not name.startswith("_")]
        return
    for base in type(item).__mro__:
        if "__slots__" in vars(base):
            for name, descriptor in vars(base).items():
                if isinstance(descriptor, types.MemberDescriptorType):
                    try:
                        yield name, descriptor.__get__(item)
                    except AttributeError:
                        continue


def _has_fields(item: Any) -> bool:
    kind = type(item)
    if kind.__dictoffset__ or isinstance(item, threading.local):
        return True
    return any("__slots__" in vars(base) for base in kind.__mro__)


def _is_own(kind: type) -> bool:
    """Whether a class is one of this package's."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is not None and is_library(file)


_LIBRARIES = frozenset(("builtins", "numpy", "typing", "functools", "logging", "enum", "abc", "re", "io", "_io"))
