"""The passes: functions from graph to graph, one a file, and the pipeline that runs them.

A pass leaves the graph that it is given alone, and returns that very graph where there is nothing to do.  No pass
changes a value: the results are the same to the bit, infinities, NaNs and the signs of zeros included; only
the sign and the payload of a NaN are open.  (So ``x * 0`` is not 0, and ``x + 0.0`` is not ``x``.)  The exceptions
are :func:`relax` and :func:`contract`, which run where ``jit(numerics="fast")`` asks for them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

from ..graph import Graph
from ..interpreter import Evaluate
from ..verifier import VerificationError, verify
from .absorb import absorb
from .ahead import ahead
from .assemble import assemble
from .contract import contract
from .cse import cse
from .dce import dce
from .depthwise import depthwise
from .fission import fission
from .fold import fold
from .hoist import hoist
from .inline import inline
from .lookup import lookup
from .narrow import narrow
from .pieces import pieces
from .relax import relax
from .rematerialize import rematerialize
from .reroll import reroll
from .simplify import simplify
from .split import split
from .strength import strength
from .unroll import unroll

Pass = Callable[[Graph], Graph]
Observe = Callable[[str, Graph, float], None]

FIRST: list[Pass] = [absorb, reroll]  # on what has been traced: there the loops are
PASSES: list[Pass] = [simplify, strength, lookup, narrow, fold, inline, hoist, cse, dce, assemble]
LAST: list[Pass] = [fission, rematerialize, depthwise, dce]  # what these compute twice, the others would compute once
ROUNDS = 3

_log = logging.getLogger("tracejit.passes")


def optimize(
    graph: Graph, *, fast: bool = False, evaluate: Evaluate | None = None, observe: Observe | None = None
) -> Graph:
    """``graph`` after :data:`FIRST`, :data:`PASSES` until they change nothing (or :data:`ROUNDS` times), :data:`LAST`.

    ``fast`` adds the two that are not exact: :func:`relax` to the second, :func:`contract` to the last.
    ``evaluate`` is for :func:`fold`.  ``observe(name, graph, seconds)`` is called after each pass.
    ``TRACEJIT_CHECK=1`` verifies the graph after each pass, ``TRACEJIT_PASSES_LIMIT=n`` stops after ``n``
    passes (to find by bisection the one that breaks a program).

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[2,3]) -> (f32[2,3]) {
    ...   %half = divide 1.0, 2.0 : f32[]
    ...   %halves = broadcast_in_dim %half {shape=[2, 3], dimensions=[]} : f32[2,3]
    ...   %y = multiply %x, %halves : f32[2,3]
    ...   return %y
    ... }''')
    >>> print(optimize(graph))
    func @f(%x: f32[2,3]) -> (f32[2,3]) {
      %y = multiply %x, 0.5 : f32[2,3]
      return %y
    }
    """
    check = os.environ.get("TRACEJIT_CHECK") == "1"
    limit, number = _limit(), 0

    def run(step: Pass, graph: Graph) -> Graph:
        nonlocal number
        if number == limit:
            return graph
        number += 1
        start = time.perf_counter()
        result = fold(graph, evaluate) if step is fold else step(graph)
        seconds = time.perf_counter() - start
        if check:
            _verify_after(step.__name__, result)
        if observe is not None:
            observe(step.__name__, result, seconds)
        if _log.isEnabledFor(logging.DEBUG):
            made = "" if result is graph else f"{len(graph.ops)} ops became {len(result.ops)}, "
            _log.debug("%s: %d %s: %s%.2f ms", graph.name, number, step.__name__, made, seconds * 1e3)
        return result

    for step in FIRST:
        graph = run(step, graph)
    unchanged, passes = 0, [relax, *PASSES] if fast else PASSES
    for step in passes * ROUNDS:
        result = run(step, graph)
        unchanged = unchanged + 1 if result is graph else 0
        graph = result
        if unchanged == len(passes):
            break
    for step in [contract, *LAST] if fast else LAST:
        graph = run(step, graph)
    return graph


def _limit() -> int:
    """How many passes run."""
    text = os.environ.get("TRACEJIT_PASSES_LIMIT") or str(sys.maxsize)
    if not text.isdecimal():
        raise ValueError(f"TRACEJIT_PASSES_LIMIT should be a number of passes, got {text!r}")
    return int(text)


def _verify_after(name: str, graph: Graph) -> None:
    try:
        verify(graph)
    except VerificationError as error:
        error.add_note(f"This is the graph after the pass {name!r}:\n{graph}")
        raise


__all__ = [
    "FIRST", "LAST", "PASSES", "ROUNDS", "Observe", "Pass", "absorb", "ahead", "assemble", "contract", "cse", "dce",
    "depthwise", "fission", "fold", "hoist", "inline", "lookup", "narrow", "optimize", "pieces", "relax",
    "rematerialize", "reroll", "simplify", "split", "strength", "unroll",
]  # fmt: skip
