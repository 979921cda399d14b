"""What is left of a gradient where some of the cotangents are not there: nothing flows from those, not even zeros.

A gradient is linear in its cotangents.  An op all of whose cotangents are absent gives none; of a sum the other term is
left; any other op gets zeros for what is absent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from .graph import Constant, Emit, Graph, Op, Value
from .passes.dce import dce
from .primitives.elementwise import add
from .primitives.view import broadcast_in_dim


def without(graph: Graph, cotangents: Collection[Value], absent: Collection[Value]) -> Graph:
    """``graph`` without the ``absent`` ones of its ``cotangents``, the parameters in which it is linear.

    >>> from .parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[4], %g: f32[4], %h: f32[4]) -> (f32[4]) {
    ...   %a = multiply %g, %x : f32[4]
    ...   %b = divide %h, %x   : f32[4]
    ...   %c = add %a, %b      : f32[4]
    ...   return %c
    ... }''')
    >>> print(without(graph, graph.parameters[1:], graph.parameters[2:]))
    func @f(%x: f32[4], %g: f32[4]) -> (f32[4]) {
      %a = multiply %g, %x : f32[4]
      return %a
    }
    """
    linear, nothing = set(cotangents), set(absent)
    for op in graph.ops:
        flowing = [operand for operand in op.operands if operand in linear]
        if flowing:
            linear.update(op.results)
            if nothing.issuperset(flowing):
                nothing.update(op.results)

    def rule(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        missing = [operand in nothing for operand in op.operands]
        if not any(missing):
            return None
        if op.results and nothing.issuperset(op.results):
            return [_zeros(result, emit) for result in op.results] if wanted.intersection(op.results) else ()
        if op.primitive is add and sum(missing) == 1:
            other = operands[missing.index(False)]
            if other.type == op.result.type:
                return (other,)
        filled = [_zeros(value, emit) if gone else value for value, gone in zip(operands, missing, strict=True)]
        return emit.several(op.primitive, filled, op.attributes, op.regions)

    wanted = set(graph.results)
    parameters = [value for value in graph.parameters if value not in nothing]
    return dce(Graph(graph.name, parameters, graph.ops, graph.results).rewrite(rule))


def _zeros(value: Value, emit: Emit) -> Value:
    zero = Constant(np.zeros((), value.dtype))
    return emit(broadcast_in_dim, [zero], {"shape": value.shape, "dimensions": ()}) if value.shape else zero
