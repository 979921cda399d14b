"""Names: the variables that a function reads, and what its arguments are called."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import tree
from .locations import is_library
from .places import Content, Item, Itself, Place


def names_read_by(function: Callable[..., Any], limit: int = 256) -> list[tuple[str, Place, Any]]:
    """The globals and closure variables that a function reads, and those of the functions of the user's it reads."""
    found: list[tuple[str, Place, Any]] = []
    for owner in _owners(function):
        found.append(("self", Itself(owner), owner))
    for current in functions_read_by(function):
        for name, find in _variables(current):
            try:
                value = find()
            except (KeyError, ValueError):
                continue
            if not isinstance(value, types.ModuleType) and len(found) < limit:
                found.append((name, find, value))
    return found


def _owners(function: Any) -> list[Any]:
    """The objects that a callable holds: a method's instance, what a partial was given, defaults, an instance."""
    if isinstance(function, types.MethodType):
        return [function.__self__, *_owners(function.__func__)]
    if isinstance(function, functools.partial):
        given = [item for item in (*function.args, *function.keywords.values()) if not isinstance(item, _PLAIN)]
        return [*_owners(function.func), *given]
    if isinstance(function, types.FunctionType):
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        return [item for item in defaults if isinstance(item, list | dict | set)]
    return [] if isinstance(function, types.BuiltinFunctionType | type) else [function]


def functions_read_by(function: Callable[..., Any], limit: int = 256) -> list[types.FunctionType]:
    """A function and those of the user's that it can call: by name, and as methods of objects that it names."""
    pending: list[Any] = [function]
    seen: set[int] = set()
    found: list[types.FunctionType] = []
    while pending and len(found) < limit:
        current = pending.pop()
        if isinstance(current, functools.partial):
            pending += [current.func, *current.args, *current.keywords.values()]
            continue
        if isinstance(current, types.MethodType):
            pending += [current.__func__, current.__self__]
            continue
        if isinstance(current, property):
            pending += [current.fget, current.fset]
            continue
        if isinstance(current, staticmethod | classmethod):
            current = current.__func__
        current = inspect.unwrap(current) if callable(current) else current
        if id(current) in seen or current is None:
            continue
        seen.add(id(current))
        if isinstance(current, types.FunctionType):
            if not is_library(current.__code__.co_filename):
                found.append(current)
                pending += _named_by(current)
        else:
            pending += _methods_of(current)
            if hasattr(current, "modules") and not isinstance(current, type | types.ModuleType):
                pending += [child for child in current.modules() if child is not current]
    return found


def _named_by(function: types.FunctionType) -> list[Any]:
    values = []
    for _, find in _variables(function):
        try:
            values.append(find())
        except (KeyError, ValueError):
            continue
    return [value for value in values if not isinstance(value, types.ModuleType)]


def _methods_of(item: Any) -> list[Any]:
    """The methods that the user's classes give an object."""
    kind = item if isinstance(item, type) else type(item)
    return [
        member
        for base in kind.__mro__
        if (module := sys.modules.get(base.__module__)) is not None
        and not is_library(getattr(module, "__file__", None) or "")
        and base.__module__.split(".")[0] not in sys.stdlib_module_names
        and base.__module__.split(".")[0] != "numpy"
        for member in vars(base).values()
        if isinstance(member, types.FunctionType | staticmethod | classmethod | property)
    ]


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Place]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, Content(cell)
    space = function.__globals__
    for name in _global_names(function.__code__):
        if name in space:
            yield name, Item(Itself(space), name)


def _global_names(code: types.CodeType) -> set[str]:
    """The globals that the code reads (``co_names`` has the names of attributes too)."""
    names = {item.argval for item in dis.get_instructions(code) if item.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def leaf_names(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[str]:
    """A name for each leaf of the arguments, from the function's signature."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    count = len(args)
    labelled = [(names[i] if i < len(names) else f"arg{i}", item) for i, item in enumerate(args)]
    for name, item in [*labelled[:count], *sorted(kwargs.items())]:
        leaves: list[Any] = []
        structure = tree.flatten(item, leaves)
        yield from [name] if structure is None else [f"{name}.{i}" for i in range(len(leaves))]


def only_appended_to(functions: Iterable[types.FunctionType], name: str) -> bool:
    """Whether the code does nothing with a list of this name but to call its ``append`` or ``extend``."""
    for function in functions:
        for code in _codes(function.__code__):
            instructions = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]
            for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
                if instruction.argval == name and instruction.opname in _LOADS:
                    if following is None or following.opname not in ("LOAD_METHOD", "LOAD_ATTR"):
                        return False
                    if following.argval not in ("append", "extend"):
                        return False
    return True


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


_PLAIN = (int, float, str, bytes, bool, type(None))
_LOADS = (
    "LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR",
    "LOAD_METHOD",
)  # fmt: skip
