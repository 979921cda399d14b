"""Rematerialisation: what a gradient needs of the values before it is computed again where that is cheap.

A training step computes values and then goes backward through them, so that each has to be kept until its turn comes.
Where the graph's gradient begins, it is split by the rule of :mod:`tracejit.ir.partition`: the fewest bytes are kept,
and what follows from them by ops that kernels fuse is computed again right before its first use.  The same goes for
each stretch that a checkpoint runs again, and the gradient of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..graph import Constant, Graph, Op, Value
from ..partition import Partition, kept_bytes
from ..primitive import Elementwise, View
from ..primitives.view import optimization_barrier, reshape

WORTH_BYTES = 1 << 16  # kept less for the gradient: below, memory is no concern
WORTH_PART = 0.25  # of what is kept without


def rematerialize(graph: Graph, worth: int = WORTH_BYTES) -> Graph:
    """``graph``, where what is cheap is computed a second time for the gradient, and not kept.

    The gradient begins at the first op whose location says that it differentiates another.  Nothing is done where less
    than ``worth`` bytes, or than a quarter, need not be kept.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[256,256]) -> (f32[]) {
    ...   %a = dot %x, %x                  : f32[256,256]
    ...   %b = negate %a                   : f32[256,256]
    ...   %c = sine %b                     : f32[256,256]
    ...   %d = reduce_sum %c {axes=[0, 1]} : f32[]
    ...   %e = multiply %b, %d             : f32[256,256] # gradient of demo.py:1
    ...   %f = multiply %c, %e             : f32[256,256] # gradient of demo.py:1
    ...   %g = reduce_sum %f {axes=[0, 1]} : f32[]        # gradient of demo.py:1
    ...   return %g
    ... }''')
    >>> print(rematerialize(graph))
    func @f(%x: f32[256,256]) -> (f32[]) {
      %a  = dot %x, %x                  : f32[256,256]
      %b  = negate %a                   : f32[256,256]
      %c  = sine %b                     : f32[256,256]
      %d  = reduce_sum %c {axes=[0, 1]} : f32[]
      %e  = multiply %b, %d             : f32[256,256]   # gradient of demo.py:1
      %v0 = sine %b                     : f32[256,256]
      %f  = multiply %v0, %e            : f32[256,256]   # gradient of demo.py:1
      %g  = reduce_sum %f {axes=[0, 1]} : f32[]          # gradient of demo.py:1
      return %g
    }
    """
    start = next((i for i, op in enumerate(graph.ops) if _is_gradient(op)), None)
    if start is None:
        return graph
    ops = _cut(graph, graph.ops, 0, start, len(graph.ops), worth)
    for begin, middle, end in reversed(_run_again(ops)):
        ops = _cut(graph, ops, begin, middle, end, worth)
    return graph if ops is graph.ops else _remade(graph, ops)


def _is_gradient(op: Op) -> bool:
    return op.location is not None and op.location.gradient


def _run_again(ops: Sequence[Op]) -> list[tuple[int, int, int]]:
    """Where what a checkpoint runs again begins, where the gradient of that begins, and where it ends."""
    found, barriers = [], [i for i, op in enumerate(ops) if op.primitive is optimization_barrier]
    begins = [
        i for before, i in zip([None, *barriers], barriers, strict=False)
        if before is None or ops[before].attributes["number"] != ops[i].attributes["number"]
    ]  # fmt: skip
    for begin, end in pairwise([*begins, len(ops)]):
        later = (i for i in range(begin, end) if _is_gradient(ops[i]) and ops[i].primitive is not optimization_barrier)
        middle = next(later, end)
        found.append((begin, middle, end))
    return found


def _cut(graph: Graph, ops: list[Op], begin: int, middle: int, end: int, worth: int) -> list[Op]:
    """The ops, those of ``ops[begin:middle]`` again between the ones up to ``end`` where that is cheap."""
    part = ops[begin:end]
    made = {result for op in part for result in op.results}
    given = [operand for op in part for operand in op.operands if operand not in made]
    later = {operand for op in ops[end:] for operand in op.operands}.union(graph.results)
    parameters = dict.fromkeys([*graph.parameters, *(value for value in given if not isinstance(value, Constant))])
    free = {*parameters, *(value for value in later if value in made)}
    partition = Partition(
        Graph(graph.name, parameters, part), middle - begin, [], [], free, all_late=True, is_cheap=_fuses
    )
    saved = partition.saved()
    most = kept_bytes(value.type for value in partition.read() if value not in free)
    if most - kept_bytes(value.type for value in saved if value not in free) < max(worth, WORTH_PART * most, 1):
        return ops
    return [*ops[:middle], *partition.backward_ops(saved), *ops[end:]]


def _remade(graph: Graph, ops: Sequence[Op]) -> Graph:
    """The graph with these ops, some of which occur twice."""
    same = next(i for i, (op, old) in enumerate(zip(ops, graph.ops, strict=False)) if op is not old)
    twins: dict[Value, Value] = {}
    made: list[Op] = list(ops[:same])
    named = {result for op in made for result in op.results}
    for op in ops[same:]:
        operands = [twins.get(operand, operand) for operand in op.operands]
        twin = Op(op.primitive, operands, op.attributes, [r.type for r in op.results], op.location, op.regions)
        for old, new in zip(op.results, twin.results, strict=True):
            twins[old] = new
            new.name = None if old in named else old.name
            named.add(old)
        made.append(twin)
    results = [twins.get(value, value) for value in graph.results]
    return Graph(graph.name, graph.parameters, made, results, graph.sources, graph.result_names)


def _fuses(op: Op) -> bool:
    return isinstance(op.primitive, Elementwise) or (isinstance(op.primitive, View) and op.primitive is not reshape)
