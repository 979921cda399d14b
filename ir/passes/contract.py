"""Contraction: a product that a sum alone reads becomes a part of it, rounded once; for ``jit(numerics="fast")``."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Constant, Emit, Graph, Op, Value
from ..primitives.elementwise import add, multiply, negate, subtract
from ..primitives.exact import fused_multiply_add
from ..types import KERNEL_DTYPES, is_floating


def contract(graph: Graph) -> Graph:
    """``graph`` with one op for ``x * y + z``, ``x * y - z`` and ``z - x * y``.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[3], %y: f32[3]) -> (f32[3]) {
    ...   %a = multiply %x, %x : f32[3]
    ...   %b = add %a, %y      : f32[3]
    ...   return %b
    ... }''')
    >>> from tracejit.ir.passes import dce
    >>> print(dce(contract(graph)))
    func @f(%x: f32[3], %y: f32[3]) -> (f32[3]) {
      %b = fused_multiply_add %x, %x, %y : f32[3]
      return %b
    }
    """
    uses = graph.uses()

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if op.primitive not in (add, subtract) or not is_floating(op.result.dtype):
            return None
        if op.result.dtype not in KERNEL_DTYPES:
            return None
        for number in (0, 1):
            product, other = operands[number], operands[1 - number]
            made = product.op
            if made is None or made.primitive is not multiply or product.shape != op.result.shape:
                continue
            if uses.get(op.operands[number]) != 1:
                continue
            x, y = made.operands
            if op.primitive is subtract:
                if number == 0:
                    other = _negated(other, emit)
                else:
                    x, y = (x, _negated(y, emit)) if isinstance(y, Constant) else (_negated(x, emit), y)
            return (emit(fused_multiply_add, (x, y, other), {}),)
        return None

    return graph.rewrite(rewrite)


def _negated(value: Value, emit: Emit) -> Value:
    return Constant(-value.array) if isinstance(value, Constant) else emit(negate, (value,), {})
