"""Unrolling: several steps of a loop of elementwise ops are one step, so that they share a kernel.

Each step of such a loop is a pass over memory.  Taken together, up to :data:`FUSED_OPS` ops for a kernel, there are as
many fewer; more would take longer to compile, and run no faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..graph import Block, Builder, Constant, Emit, Graph, Op, Value, copy_block
from ..primitive import Elementwise
from ..primitives.control import scan
from ..primitives.elementwise import add, multiply
from ..primitives.view import broadcast_in_dim, reshape
from ..types import int64

FUSED_OPS = 40
OPS_OF_A_FUNCTION = 10  # that a function such as exp counts as


def unroll(graph: Graph) -> Graph:
    """``graph`` with loops of elementwise ops taking several steps at a time.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%w: f32[3], %x: f32[3]) -> (f32[3]) {
    ...   %y = scan %w, %x {carries=1, constants=1, length=200} : f32[3]
    ...     (%i: i64[], %w: f32[3], %x: f32[3]) {
    ...       %a = exponential %x : f32[3]
    ...       %b = multiply %w, %a : f32[3]
    ...       return %b
    ...     }
    ...   return %y
    ... }''')
    >>> print(unroll(graph))
    func @f(%w: f32[3], %x: f32[3]) -> (f32[3]) {
      %y = scan %w, %x {carries=1, constants=1, length=100} : f32[3]
        (%v0: i64[], %v1: f32[3], %v2: f32[3]) {
          %v3  = multiply %v0, 2    : i64[]
          %a   = exponential %v2    : f32[3]
          %b   = multiply %v1, %a   : f32[3]
          %v4  = add %v3, 1         : i64[]
          %a_1 = exponential %b     : f32[3]
          %b_1 = multiply %v1, %a_1 : f32[3]
          return %b_1
        }
      return %y
    }
    """

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        steps = _steps_together(op)
        if steps < 2:
            return None
        (body,) = op.regions
        constants, length = op.attributes["constants"], op.attributes["length"]
        whole, rest = divmod(length, steps)
        number = Constant(np.asarray(whole * steps, int64))
        results = emit.several(scan, operands, {**op.attributes, "length": whole}, [_together(body, constants, steps)])
        for further in range(rest):
            position = Constant(number.array + further)
            results = tuple(emit.inline(copy_block(body), [position, *operands[:constants], *results]))
        return results

    return graph.rewrite(rewrite)


def cost_of(ops: Iterable[Op]) -> int | None:
    """How many simple ops, in a kernel, some ops count as; ``None`` if there are others than elementwise ones."""
    cost = 0
    for op in ops:
        if isinstance(op.primitive, Elementwise):
            cost += 1 if op.primitive.exact else OPS_OF_A_FUNCTION
        elif op.primitive in (broadcast_in_dim, reshape):
            cost += 1
        else:
            return None
    return cost


def steps_together(cost: int, count: int) -> int:
    """How many of ``count`` steps are taken together: as many as a kernel holds, or what goes in evenly."""
    most = min(max(1, FUSED_OPS // max(cost, 1)), count)
    steps = max(number for number in range(1, most + 1) if count % number == 0)
    return steps if steps > most // 2 else most


def _steps_together(op: Op) -> int:
    """How many of the op's steps; 1 if they stay as they are."""
    if op.primitive is not scan or not isinstance(op.attributes["length"], int) or op.attributes.get("reverse"):
        return 1
    (body,) = op.regions
    carries = op.attributes["carries"]
    if len(body.results) != carries or len(body.parameters) != 1 + op.attributes["constants"] + carries:
        return 1  # slices of inputs, and of what is stacked, are taken one by one
    cost = cost_of(body.ops)
    return 1 if cost is None or not body.ops else steps_together(cost, max(op.attributes["length"], 1))


def _together(body: Block, constants: int, steps: int) -> Block:
    """A step that is several."""
    block = Block()
    builder = Builder(block)
    counter, *values = [builder.parameter(parameter.type) for parameter in body.parameters]
    shared, carried = values[:constants], values[constants:]
    first = builder.apply(multiply, [counter, Constant(np.asarray(steps, int64))], {})
    for number in range(steps):
        position = first if not number else builder.apply(add, [first, Constant(np.asarray(number, int64))], {})
        copy = copy_block(body)
        known = dict(zip(copy.parameters, [position, *shared, *carried], strict=True))
        for op in copy.ops:
            op.operands = tuple([known.get(operand, operand) for operand in op.operands])
            builder.append(op)
        carried = [known.get(value, value) for value in copy.results]
    block.results = carried
    return block
