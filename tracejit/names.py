"""Names: the variables that a function reads, and what its arguments are called."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from . import tree
from .locations import is_library


def names_read_by(function: Callable[..., Any], limit: int = 64) -> list[tuple[str, Callable[[], Any], Any]]:
    """The globals and closure variables that a function reads, and those of the functions of the user's it reads."""
    found: list[tuple[str, Callable[[], Any], Any]] = []
    pending: list[Any] = [function]
    seen: set[int] = set()
    while pending and len(found) < limit:
        current = inspect.unwrap(pending.pop())
        current = getattr(current, "__func__", current)
        if id(current) in seen or not isinstance(current, types.FunctionType):
            continue
        seen.add(id(current))
        for name, find in _variables(current):
            try:
                value = find()
            except (KeyError, ValueError):
                continue
            if isinstance(value, types.ModuleType):
                continue
            found.append((name, find, value))
            inner = inspect.unwrap(value) if callable(value) else value
            if isinstance(inner, types.FunctionType) and not is_library(inner.__code__.co_filename):
                pending.append(inner)
    return found


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, partial(getattr, cell, "cell_contents")
    space = function.__globals__
    for name in _global_names(function.__code__):
        if name in space:
            yield name, partial(space.__getitem__, name)


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
