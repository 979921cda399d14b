"""Names: the variables that a function reads, and what its arguments are called."""

from __future__ import annotations

import dis
import functools
import inspect
import os
import re
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.ir import Location

from . import tree
from .contents import fields, is_module
from .locations import is_library
from .places import Attributes, Content, Item, Itself, Place
from .tensor import Tensor


def names_read_by(
    function: Callable[..., Any], functions: Sequence[types.FunctionType] | None = None, limit: int = 1024
) -> list[tuple[str, Place, Any]]:
    """The variables from around them that a function, and those ``functions`` of the user's that it calls, read."""
    found: dict[Any, tuple[str, Place, Any]] = {}
    for name, owner in _owners(function):
        found[id(owner)] = (name, Itself(owner), owner)
    for current in functions_read_by(function) if functions is None else functions:
        for name, find in _variables(current):
            try:
                value = find()
            except (KeyError, ValueError):
                continue
            if not isinstance(value, types.ModuleType) and len(found) < limit:
                found.setdefault(find.identity, (name, find, value))
    return list(found.values())


def names_not_found(
    functions: Sequence[types.FunctionType],
) -> tuple[list[tuple[dict[str, Any], list[str]]], list[tuple[str, types.CellType]]]:
    """What functions look up and do not find: names in their globals (builtins among them), variables around them."""
    spaces: dict[int, tuple[dict[str, Any], set[str]]] = {}
    cells = []
    for function in functions:
        space = function.__globals__
        spaces.setdefault(id(space), (space, set()))[1].update(_global_names(function.__code__).difference(space))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if cell == types.CellType():
                cells.append((name, cell))
    return [(space, sorted(names)) for space, names in spaces.values() if names], cells


def _owners(function: Any) -> list[tuple[str, Any]]:
    """The objects that a callable holds: a method's instance, what a partial was given, defaults, an instance."""
    if isinstance(function, types.MethodType):
        return [("self", function.__self__), *_owners(function.__func__)]
    if isinstance(function, functools.partial):
        given = [item for item in (*function.args, *function.keywords.values()) if not isinstance(item, _PLAIN)]
        return [*_owners(function.func), *[("an argument of the partial", item) for item in given]]
    if isinstance(function, types.FunctionType):
        code, defaults = function.__code__, function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        owned = [*zip(names, defaults, strict=True), *(function.__kwdefaults__ or {}).items()]
        return [(name, item) for name, item in owned if isinstance(item, list | dict | set)]
    return [] if isinstance(function, types.BuiltinFunctionType | type) else [("self", function)]


def functions_read_by(
    function: Callable[..., Any], given: Sequence[Any] = (), limit: int = 1024
) -> list[types.FunctionType]:
    """A function, those of the user's that it can call (by name, as methods, in what it names holds), and ``given``."""
    pending: deque[Any] = deque([function, *given])
    seen: dict[int, Any] = {}
    found: list[types.FunctionType] = []
    while pending and len(found) < limit and len(seen) < MAX_OBJECTS:
        current = pending.popleft()
        if isinstance(current, _DATA) or id(current) in seen:
            continue
        seen[id(current)] = current
        if isinstance(current, functools.partial):
            pending += [current.func, *current.args, *current.keywords.values()]
        elif isinstance(current, types.MethodType):
            pending += [current.__func__, current.__self__]
        elif isinstance(current, property):
            pending += [current.fget, current.fset]
        elif isinstance(current, functools.cached_property):
            pending.append(current.func)
        elif isinstance(current, staticmethod | classmethod):
            pending.append(current.__func__)
        elif isinstance(current, dict):
            pending += current.values()
        elif isinstance(current, list | tuple | set | frozenset | deque):
            pending += current
        elif isinstance(current, types.FunctionType):
            if not is_library(current.__code__.co_filename):
                found.append(current)
                pending += _named_by(current)
            if hasattr(current, "__wrapped__"):
                pending.append(current.__wrapped__)
        else:
            wrapped = getattr(current, "__dict__", {}).get("__wrapped__")
            if wrapped is not None:
                pending.append(wrapped)
            pending += _methods_of(current)
            pending += (fields(current) or {}).values()
            if is_module(current):
                pending += current.modules()
                pending += current._module_hooks.functions() if current._module_hooks is not None else ()
    return found


def _named_by(function: types.FunctionType) -> list[Any]:
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
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
        if isinstance(member, _METHODS)
    ]


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Place]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, Content(cell)
        yield from _of_module(name, cell, function.__code__)
    space = function.__globals__
    for name in _global_names(function.__code__):
        if name in space:
            yield name, Item(Itself(space), name)
            yield from _of_module(name, space[name], function.__code__)
    for name in _imported(function.__code__):
        yield from _of_module(name, sys.modules.get(name), function.__code__)


def _of_module(name: str, module: Any, code: types.CodeType) -> Iterator[tuple[str, Place]]:
    """What the code may read of a module of the user's."""
    if isinstance(module, types.CellType):
        try:
            module = module.cell_contents
        except ValueError:
            return
    if not isinstance(module, types.ModuleType):
        return
    known = mentioned(code)
    if module is os and not known.isdisjoint(("environ", "getenv")):
        yield "os.environ", Item(Attributes(Itself(os.environ)), "_data")
    file = getattr(module, "__file__", None) or ""
    if module.__name__.split(".")[0] in sys.stdlib_module_names or "site-packages" in file or is_library(file):
        return  # installed, and left as it is
    space = vars(module)
    for attribute in sorted(known.intersection(space)):
        yield f"{name}.{attribute}", Item(Itself(space), attribute)
        inner = space[attribute]
        if isinstance(inner, types.ModuleType) and inner.__name__.startswith(f"{module.__name__}."):
            yield from _of_module(f"{name}.{attribute}", inner, code)


@functools.lru_cache(1 << 12)
def _global_names(code: types.CodeType) -> frozenset[str]:
    """The globals that the code reads (``co_names`` has the names of attributes too)."""
    return named(code, "LOAD_GLOBAL", "LOAD_NAME")


@functools.lru_cache(1 << 12)
def _imported(code: types.CodeType) -> frozenset[str]:
    """The modules that the code imports."""
    return named(code, "IMPORT_NAME")


@functools.lru_cache(1 << 12)
def mentioned(code: types.CodeType) -> frozenset[str]:
    """All names and strings in the code: what attributes it can ask for may be called."""
    found = {*code.co_names, *code.co_freevars}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= mentioned(constant)
        elif isinstance(constant, str):
            found.add(constant)
        elif isinstance(constant, tuple):
            found.update(item for item in constant if isinstance(item, str))
    return frozenset(found)


def named(code: types.CodeType, *operations: str) -> frozenset[str]:
    """The names that such operations in the code, and in the functions that are made in it, are about."""
    wanted = {dis.opmap[operation] for operation in operations}
    return frozenset(name for each in _codes(code) for name in _named(each, wanted))


def _named(code: types.CodeType, wanted: set[int]) -> Iterator[str]:
    """As ``dis`` has it, which takes twenty times as long: most code does not have what is rare, or only globals."""
    found = wanted.intersection(code.co_code[::2])
    if found <= {_LOAD_GLOBAL}:
        extended = 0
        for opcode, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True) if found else ():
            argument |= extended
            extended = argument << 8 if opcode == dis.EXTENDED_ARG else 0
            if opcode == _LOAD_GLOBAL:
                yield code.co_names[argument >> 1]  # the lowest bit says whether it is called
    else:
        yield from (instruction.argval for instruction in dis.get_instructions(code) if instruction.opcode in found)


def where_read(functions: Iterable[types.FunctionType], what: str) -> Location | None:
    """The first line that reads what is called ``name``, ``name.attribute`` or ``name['key']``; else a function's."""
    for name in reversed(_NAME.findall(what)):
        for function in functions:
            for code in _codes(function.__code__):
                for instruction in dis.get_instructions(code):
                    if (
                        instruction.argval == name
                        and instruction.opname in _LOADS
                        and instruction.positions is not None
                    ):
                        return Location(code.co_filename, instruction.positions.lineno or code.co_firstlineno)
    for function in functions:
        return Location(function.__code__.co_filename, function.__code__.co_firstlineno)
    return None


_NAME = re.compile(r"\w+")


def sees_order_of_keywords(function: Callable[..., Any]) -> bool:
    """Whether a function can tell in which order its keyword arguments were given."""
    if isinstance(function, types.MethodType):
        return sees_order_of_keywords(function.__func__)
    return not isinstance(function, types.FunctionType) or bool(function.__code__.co_flags & inspect.CO_VARKEYWORDS)


def leaf_names(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[str]:
    """A name for each leaf of the arguments, from the function's signature."""
    try:
        own = getattr(function, "forward") if is_module(function) else function  # noqa: B009
        names = list(inspect.signature(own).parameters)
    except (TypeError, ValueError):
        names = []
    count = len(args)
    labelled = [(names[i] if i < len(names) else f"arg{i}", item) for i, item in enumerate(args)]
    for name, item in [*labelled[:count], *kwargs.items()]:
        leaves: list[Any] = []
        structure = tree.flatten(item, leaves)
        yield from [name] if structure is None else [f"{name}.{i}" for i in range(len(leaves))]


def only_appended_to(functions: Iterable[types.FunctionType], name: str) -> bool:
    """Whether the code does nothing with a list of this name but to call its ``append`` or ``extend``."""
    found = False
    name = name.rpartition(".")[2]  # of a module's, or an object's, the attribute
    for function in functions:
        for code in _codes(function.__code__):
            instructions = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]
            for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
                if instruction.argval == name and instruction.opname in _LOADS:
                    if following is None or following.opname not in ("LOAD_METHOD", "LOAD_ATTR"):
                        return False
                    if following.argval not in ("append", "extend"):
                        return False
                    found = True
    return found


def only_stored(functions: Iterable[types.FunctionType], key: str) -> bool:
    """Whether the code does nothing with a key but to store something under it."""
    found = False
    for function in functions:
        for code in _codes(function.__code__):
            known = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]
            for instruction, following in zip(known, [*known[1:], None], strict=True):
                if instruction.opname == "LOAD_CONST" and instruction.argval == key:
                    if following is None or following.opname != "STORE_SUBSCR":
                        return False
                    found = True
    return found


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


_LOAD_GLOBAL = dis.opmap["LOAD_GLOBAL"]
MAX_OBJECTS = 5000  # that are looked through for functions
_METHODS = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)
_PLAIN = (int, float, str, bytes, bool, type(None))
_DATA = (*_PLAIN, complex, np.ndarray, np.generic, Tensor, types.ModuleType, types.BuiltinFunctionType)
_LOADS = (
    "LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR",
    "LOAD_METHOD",
)  # fmt: skip
