"""Rematerialisation: what a gradient needs of the values before it is computed again where that is cheap.

A training step computes values and then goes backward through them, so that each has to be kept until its turn comes.
Where the graph's gradient begins, it is split by the rule of :mod:`tracejit.ir.partition`: the fewest bytes are kept,
and what follows from them by ops that kernels fuse is computed again right before its first use.
"""

from __future__ import annotations

from ..graph import Graph, Op, Value
from ..partition import Partition, kept_bytes
from ..primitive import Elementwise, View
from ..primitives.view import reshape

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
    start = next((i for i, op in enumerate(graph.ops) if op.location is not None and op.location.gradient), None)
    if start is None:
        return graph
    before = {result for op in graph.ops[:start] for result in op.results}
    free = {*graph.parameters, *graph.results}
    partition = Partition(graph, start, [], [], free, all_late=True, is_cheap=_fuses)
    saved = partition.saved()
    most = kept_bytes(value.type for value in partition.read() if value not in free)
    if most - kept_bytes(value.type for value in saved if value not in free) < max(worth, WORTH_PART * most, 1):
        return graph
    twins: dict[Value, Value] = {}
    ops = graph.ops[:start]
    for op in partition.backward_ops(saved):
        operands = [twins.get(operand, operand) for operand in op.operands]
        twin = Op(op.primitive, operands, op.attributes, [r.type for r in op.results], op.location, op.regions)
        for old, new in zip(op.results, twin.results, strict=True):
            twins[old] = new
            new.name = None if old in before else old.name
        ops.append(twin)
    results = [value if value in before else twins.get(value, value) for value in graph.results]
    return Graph(graph.name, graph.parameters, ops, results, graph.sources, graph.result_names)


def _fuses(op: Op) -> bool:
    return isinstance(op.primitive, Elementwise) or (isinstance(op.primitive, View) and op.primitive is not reshape)
