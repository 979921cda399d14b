"""Ahead: a loop that carries a few numbers, as long as a condition holds, takes several steps at a time.

Each of them keeps what it finds where the condition does not hold, so the steps that are too many change nothing.  What
is left is a short loop of known length in the loop, which one kernel runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..graph import Block, Builder, Emit, Graph, Op, Value, copy_block
from ..primitive import Elementwise, View
from ..primitives.control import scan, while_
from ..primitives.elementwise import select
from ..types import TensorType, int64

STEPS = 16
MOST_CARRIED = 8  # numbers
MOST_OPS = 64


def ahead(graph: Graph) -> Graph:
    """``graph`` with such loops taking :data:`STEPS` steps at a time.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[]) -> (f32[]) {
    ...   %y = while %x {constants=0} : f32[]
    ...     (%a: f32[]) {
    ...       %p = compare %a, 100.0 {direction=lt} : bool[]
    ...       return %p
    ...     }
    ...     (%a: f32[]) {
    ...       %b = multiply %a, 2.0 : f32[]
    ...       return %b
    ...     }
    ...   return %y
    ... }''')
    >>> print(ahead(graph))
    func @f(%x: f32[]) -> (f32[]) {
      %y = while %x {constants=0} : f32[]
        (%a: f32[]) {
          %p = compare %a, 100.0 {direction=lt} : bool[]
          return %p
        }
        (%v0: f32[]) {
          %v1 = scan %v0 {carries=1, constants=0, length=16} : f32[]
            (%v2: i64[], %v3: f32[]) {
              %p_1 = compare %v3, 100.0 {direction=lt} : bool[]
              %b   = multiply %v3, 2.0                 : f32[]
              %v4  = select %p_1, %b, %v3              : f32[]
              return %v4
            }
          return %v1
        }
      return %y
    }
    """

    def rule(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if op.primitive is not while_ or not _is_small(op):
            return None
        condition, body = op.regions
        return emit.several(while_, operands, op.attributes, [condition, _several(condition, body, op.attributes)])

    return graph.rewrite(rule)


def _is_small(op: Op) -> bool:
    condition, body = op.regions
    ops = [*condition.ops, *body.ops]
    if len(ops) > MOST_OPS or any(inner.primitive is scan for inner in body.ops):
        return False
    simple = all(isinstance(inner.primitive, Elementwise | View) for inner in ops)
    values = [*op.results, *(value for inner in ops for value in inner.results)]
    return simple and all(value.shape == () for value in values) and len(op.results) <= MOST_CARRIED


def _several(condition: Block, body: Block, attributes: Mapping[str, int]) -> Block:
    """The body of the loop of several steps."""
    constants = attributes["constants"]
    block, step = Block(), Block()
    outer, inner = Builder(block), Builder(step)
    given = [outer.parameter(parameter.type) for parameter in body.parameters]
    inner.parameter(TensorType(int64, ()))
    values = [inner.parameter(parameter.type) for parameter in body.parameters]
    (predicate,) = _inlined(condition, values, inner)
    following = _inlined(body, values, inner)
    step.results = [
        inner.apply(select, [predicate, new, old], {}) for new, old in zip(following, values[constants:], strict=True)
    ]
    carried = {"carries": len(step.results), "constants": constants, "length": STEPS}
    block.results = [*outer.apply_several(scan, given, carried, [step])]
    return block


def _inlined(source: Block, operands: Sequence[Value], builder: Builder) -> list[Value]:
    copy = copy_block(source)
    known = dict(zip(copy.parameters, operands, strict=True))
    for op in copy.ops:
        op.operands = tuple([known.get(operand, operand) for operand in op.operands])
        builder.append(op)
    return [known.get(value, value) for value in copy.results]
