"""Rerolling: stretches of ops that repeat, as a loop of Python's leaves them in a trace, become one ``scan``.

So what is optimised, lowered and compiled is one step, however many there are.  An operand that is the same in each
step becomes a constant of the scan, what the step before has computed a carry, and what changes otherwise (a constant,
a slice that moves along, what another loop has computed in the same step) an input.  What is read of steps afterwards
is carried out of the last one, or stacked.

Each value is computed by the same ops on the same values as before, so it has the same bits.
"""

from __future__ import annotations

from bisect import insort

import numpy as np

from ..graph import Block, Graph, Op, Value, copy_block
from .loops.plan import Plan, Rolled
from .loops.recurrence import Loop, Loops, Table, Unexplained, recurrence
from .loops.repetition import Stretch, repetitions
from .loops.writer import Writer
from .unroll import FUSED_OPS, cost_of, steps_together

LEAST_STEPS = 8
LEAST_SAVED = 64  # ops; for less it is not worth while
LOOSE_COST = 8  # ops that taking one value out of a stack is worth: it is a copy as the program runs
DEPTH = 4  # of loops within loops

# Steps of elementwise ops alone can share a kernel with those that follow: they are taken together, as :mod:`.unroll`
# does.  A loop of no more than a few such kernels stays as it is.
FEW_KERNELS = 10


def reroll(graph: Graph) -> Graph:
    """``graph`` with repeated stretches of ops as loops.

    >>> from tracejit.ir.parser import parse
    >>> steps = "".join(
    ...     f"%a{t} = dot %h{t}, %w : f32[2,2]  %h{t + 1} = tanh %a{t} : f32[2,2]  "
    ...     for t in range(100)
    ... )
    >>> graph = parse(
    ...     f"func @f(%h0: f32[2,2], %w: f32[2,2]) -> (f32[2,2]) {{ {steps} return %h100 }}"
    ... )
    >>> print(reroll(graph))
    func @f(%h0: f32[2,2], %w: f32[2,2]) -> (f32[2,2]) {
      %h1 = scan %w, %h0 {carries=1, constants=1, length=100} : f32[2,2]
        (%step: i64[], %w_1: f32[2,2], %h1_1: f32[2,2]) {
          %a0   = dot %h1_1, %w_1 : f32[2,2]
          %h1_2 = tanh %a0        : f32[2,2]
          return %h1_2
        }
      return %h1
    }
    """
    block: Block = graph
    for _ in range(DEPTH):
        rerolled = _rerolled(block)
        if rerolled is None:
            break
        block = rerolled
    if block is graph:
        return graph
    twins = dict(zip(graph.parameters, block.parameters, strict=True))
    sources = {twins[value]: text for value, text in graph.sources.items()}
    return Graph(graph.name, block.parameters, block.ops, block.results, sources, graph.result_names)


def _rerolled(block: Block) -> Block | None:
    """The block anew, with loops where stretches repeat, there and in its regions; ``None`` where none does."""
    regions: dict[Block, Block] = {}
    for op in block.ops:
        for region in op.regions:
            rerolled = _rerolled(region)
            if rerolled is not None:
                regions[region] = rerolled
    plan = _plan(block) if len(block.ops) >= LEAST_STEPS else None
    if plan is None and not regions:
        return None
    if plan is None:
        table = Table(block)
        plan = Plan(table, Loops(table))
    target = Block([Value(parameter.type, parameter.name) for parameter in block.parameters])
    Writer(plan, lambda region: regions.get(region) or copy_block(region)).fill(target)
    return target


def _plan(block: Block) -> Plan | None:
    """The loops of the block.  Of stretches that overlap, those of the shortest steps are tried first: inner loops."""
    table = Table(block)
    candidates = repetitions(table.codes, LEAST_STEPS)
    shortest = set(candidates)
    rejected: set[Stretch] = set()
    while True:
        loops = Loops(table)
        origins: dict[Loop, Stretch] = {}
        wrong: set[Stretch] = set()
        dependent: set[Stretch] = set()
        for candidate, stretch in _disjoint([c for c in candidates if c not in rejected], len(table.codes)):
            try:
                loop = _loop(table, stretch, loops)
            except Unexplained:
                dependent.add(candidate)
                continue
            if loop is None:
                wrong.add(candidate)
            else:
                loops.add(loop)
                origins[loop] = candidate
        if not (wrong or dependent):
            if not loops.found:
                return None
            plan = Plan(table, loops)
            wrong = {origins[loop] for loop, rolled in plan.rolled.items() if not _is_worthwhile(rolled)}
            if not wrong:
                return plan
        for candidate in wrong or dependent:
            rejected.add(candidate)
            if candidate in shortest:  # steps that differ in turn: two of them are one
                twice = Stretch(candidate.start, 2 * candidate.period, candidate.count // 2)
                if twice.count >= LEAST_STEPS and twice not in candidates:
                    insort(candidates, twice, key=lambda stretch: stretch.period)


def _disjoint(candidates: list[Stretch], length: int) -> list[tuple[Stretch, Stretch]]:
    """Each candidate that is not within others before it, and what it leaves free of it, in program order."""
    free = np.ones(length, bool)
    found = []
    for candidate in candidates:
        edges = np.flatnonzero(np.diff(free[candidate.start : candidate.stop], prepend=False, append=False))
        if not len(edges):
            continue
        first, last = max(edges.reshape(-1, 2).tolist(), key=lambda edge: edge[1] - edge[0])
        stretch = Stretch(candidate.start + first, candidate.period, (last - first) // candidate.period)
        if stretch.count >= LEAST_STEPS:
            found.append((candidate, stretch))
            free[stretch.start : stretch.stop] = False
    return sorted(found, key=lambda pair: pair[1].start)


def _loop(table: Table, stretch: Stretch, loops: Loops) -> Loop | None:
    """A stretch as a loop, where one pays."""
    loop = recurrence(table, stretch, loops, LEAST_STEPS)
    if loop is None:
        return None
    rolled = Rolled(table, loop)
    if rolled.is_map:
        return loop
    computed = [op for number, op in enumerate(rolled.ops) if rolled.is_computed(number)]
    if sum(map(_size, computed)) * (loop.count - 1) < LEAST_SAVED:
        return None
    cost = cost_of(computed)
    if cost is None:
        return loop
    if cost * loop.count <= FUSED_OPS * FEW_KERNELS:
        return None
    steps = steps_together(cost, loop.count)
    together = Stretch(loop.start, loop.period * steps, loop.count // steps)
    return recurrence(table, together, loops, FEW_KERNELS)


def _size(op: Op) -> int:
    """An op and those in its regions."""
    return 1 + sum(1 for region in op.regions for _ in region.walk())


def _is_worthwhile(rolled: Rolled) -> bool:
    """Whether what is read of single steps, outside of the loop, is little beside what is saved."""
    computed = sum(_size(op) for number, op in enumerate(rolled.ops) if rolled.is_computed(number))
    return rolled.is_map or LOOSE_COST * rolled.loose < computed * (rolled.loop.count - 1)
