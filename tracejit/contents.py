"""What of a captured container or object a trace may have relied on, in a form that can be compared.

Numbers and strings count by value, containers and plain objects by what they hold, all else by identity
(tensors are inputs, modules and optimizers have guards of their own).
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from .locations import is_library
from .tensor import Tensor

MAX_DEPTH = 3
MAX_ITEMS = 500  # a larger container (a data set, say) counts by identity
MAX_BYTES = 1 << 16  # a larger array counts by identity
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
BY_IDENTITY = (Tensor, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


class _Identity:
    """Equal to itself for the same object; keeps the object, so that its identity is not used again."""

    __slots__ = ("_item",)

    def __init__(self, item: Any) -> None:
        self._item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._item is other._item

    __hash__ = None  # type: ignore[assignment]


class _TooLarge(Exception):
    pass


def contents(item: Any, leave_out: frozenset[int] = frozenset()) -> Any:
    """A snapshot of what ``item`` holds; ``None`` where only its identity counts.

    Of containers to ``leave_out``, given by their identities, only the identity counts.

    >>> before = contents({"rate": 0.1, "sizes": [1, 2]})
    >>> (
    ...     before == contents({"rate": 0.1, "sizes": [1, 2]}),
    ...     before == contents({"rate": 0.2, "sizes": [1, 2]}),
    ... )
    (True, False)
    """
    if isinstance(item, (*_PLAIN, *BY_IDENTITY)):
        return None
    count = 0

    def snapshot(item: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > MAX_ITEMS:
            raise _TooLarge
        if isinstance(item, _PLAIN):
            return type(item), repr(item) if isinstance(item, float | complex) else item  # -0.0 is not 0.0, NaN is NaN
        if isinstance(item, np.ndarray) and item.nbytes <= MAX_BYTES:
            return item.dtype.str, item.shape, item.tobytes()
        if isinstance(item, Tensor):
            return Tensor  # which one is read is another guard's business
        if depth == MAX_DEPTH or isinstance(item, BY_IDENTITY) or id(item) in leave_out:
            return _Identity(item)
        if isinstance(item, dict):
            return type(item), [(snapshot(k, depth + 1), snapshot(v, depth + 1)) for k, v in item.items()]
        if isinstance(item, list | tuple):
            return type(item), [snapshot(child, depth + 1) for child in item]
        if isinstance(item, set | frozenset):
            return type(item), sorted(map(repr, item))
        held = fields(item)
        if held is None:
            return _Identity(item)
        return _Identity(item), [(name, snapshot(value, depth + 1)) for name, value in held.items()]

    try:
        found = snapshot(item, 0)
    except _TooLarge:
        return None
    return None if isinstance(found, _Identity) and not leave_out else found


def is_module(item: Any) -> bool:
    """Whether something is an ``nn.Module``."""
    return hasattr(type(item), "named_tensors") and "_modules" in getattr(item, "__dict__", ())


def is_plain_instance(item: Any) -> bool:
    """Whether something is an object of a class of the user's."""
    return hasattr(item, "__dict__") and is_users_class(type(item))


def is_users_class(kind: type) -> bool:
    """Whether a class is the user's own."""
    return kind.__module__.split(".")[0] not in _LIBRARIES and not _is_own(kind)


def fields(item: Any) -> dict[str, Any] | None:
    """The attributes of an instance or class of the user's."""
    kind: Callable[..., Any] = item if isinstance(item, type) else type(item)
    module = getattr(kind, "__module__", "")
    if not hasattr(item, "__dict__") or module.split(".")[0] in _LIBRARIES:
        return None
    if isinstance(item, type):
        return {name: value for name, value in vars(item).items() if isinstance(value, _PLAIN) and name[:2] != "__"}
    return vars(item) if not _is_own(kind) else None


def _is_own(kind: Any) -> bool:
    """Whether a class is, or is derived from, one of this package's (modules and optimizers guard themselves)."""
    for base in kind.__mro__:
        file = getattr(_module_of(base), "__file__", None)
        if file is not None and is_library(file):
            return True
    return False


def _module_of(kind: Any) -> Any:
    import sys

    return sys.modules.get(kind.__module__)


_LIBRARIES = frozenset(("builtins", "numpy", "types", "typing", "functools", "collections", "threading", "logging"))
