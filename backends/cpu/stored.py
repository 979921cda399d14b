"""Whole programs in the persistent cache: what any process has compiled before is loaded, not compiled.

A program is kept under the digest of the graph that it was made of, the options, and everything else that it depends
on.  It names the modules that its kernels are in, which are entries of their own, shared between programs; where one
of these is gone, the program is compiled again.
"""

from __future__ import annotations

import hashlib
import logging
import marshal
import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from tracejit.ir.structure import content_key

from .. import cache as disk
from . import compiler, threads
from .recipe import from_bytes, to_bytes
from .runtime import Executable, load_walker

if TYPE_CHECKING:
    from tracejit.ir import Graph

    from ..program import Program

_log = logging.getLogger("tracejit.cache")
ONE_OP = "one op"  # the options of the program that an eager operation runs


def executable(graph: Graph, options: str, program: Callable[[], Program]) -> Executable:
    """The program of a graph: one that is kept, or else the one that ``program()`` makes, which ``options`` say how."""
    key = _key_of(graph, options)
    found = None if key is None else _load(key)
    if key is not None:
        _log.debug("the program of %s was %s", graph.name, "not there" if found is None else "there")
    if found is None:
        modules = compiler.Statistics.modules
        compiler.begin(load_walker)  # while the program is made
        found = Executable(program())
        recipe = found.recipe
        # One op whose code was there already, for another shape, is planned anew in less time than a file takes.
        is_worthwhile = options != ONE_OP or compiler.Statistics.modules > modules
        if key is not None and is_worthwhile and not recipe.calls_python:
            disk.write(key, to_bytes(recipe, compiler.modules(recipe.kernels)), disk.PROGRAM)
    return found


def optimized_program(graph: Graph, *, host: bool = True) -> Program:
    """The program of a graph that passes have gone over."""
    from tracejit.ir.passes import optimize

    from ..planning import plan

    return plan(optimize(graph), host=host)


def _load(key: str) -> Executable | None:
    data = disk.read(key, disk.PROGRAM)
    if data is None:
        return None
    recipe, modules = from_bytes(data)
    return Executable(recipe) if compiler.load_stored(modules) else None


def _key_of(graph: Graph, options: str) -> str | None:
    """What a program is kept under; ``None`` where it is not to be kept."""
    if disk.directory() is None or any(name in os.environ for name in _CHANGE_PASSES):
        return None
    found = content_key(graph)
    if found is None:
        return None
    digest = hashlib.sha256(marshal.dumps(found, 2)).hexdigest()  # a version that writes the same for what is equal
    return f"program {digest} {options}\n{_surroundings()}"


@cache
def _surroundings() -> str:
    """What programs depend on besides their graphs, which a process asks for once."""
    return f"{threads.most_threads()}\n{compiler.fingerprint()}"


_CHANGE_PASSES = ("TRACEJIT_CHECK", "TRACEJIT_PASSES_LIMIT")
