"""Common subexpression elimination: what is computed twice is computed once.

Values are numbered by what computes them: the primitive, the operands, the attributes; constants by their
bytes, so 0.0 and -0.0 stay apart.  The operands of a commutative primitive are put in order, which can change
the payload of a NaN and nothing else.
"""

from __future__ import annotations

from typing import Any

from ..graph import Block, Constant, Graph, Op, Value
from ..primitive import PRIMITIVES
from ..structure import attributes_key, constant_key

COMMUTATIVE = frozenset(PRIMITIVES[name] for name in "add multiply maximum minimum and or xor".split())
SYMMETRIC_DIRECTIONS = ("eq", "ne")  # of compare


def cse(graph: Graph) -> Graph:
    """``graph`` with each computation done once in each block, at its first place.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[3]) -> (f32[3]) {
    ...   %a = negate %x : f32[3]
    ...   %b = negate %x : f32[3]
    ...   %c = multiply %a, %b : f32[3]
    ...   return %c
    ... }''')
    >>> print(cse(graph))
    func @f(%x: f32[3]) -> (f32[3]) {
      %a = negate %x       : f32[3]
      %c = multiply %a, %a : f32[3]
      return %c
    }
    """
    numbering = _Numbering()
    numbering.block(graph, {})
    return graph.replace(numbering.replacements)


class _Numbering:
    """``numbers`` gives equal values equal numbers; ``replacements`` maps a value to the first that equals it."""

    def __init__(self) -> None:
        self.numbers: dict[Value, int] = {}
        self.constants: dict[Any, int] = {}
        self.replacements: dict[Value, Value] = {}

    def block(self, block: Block, known: dict[Any, Op]) -> None:
        """``known`` maps what is computed in the block so far to the op that does."""
        numbers, replacements = self.numbers, self.replacements
        for op in block.ops:
            if op.regions or not op.results:
                for region in op.regions:
                    self.block(region, {})
                continue
            operands = tuple([numbers.get(operand) or self.number(operand) for operand in op.operands])
            key = (op.primitive, _ordered(op, operands), attributes_key(op.attributes) if op.attributes else ())
            first = known.setdefault(key, op)
            if first is not op:
                for result, twin in zip(op.results, first.results, strict=True):
                    replacements[result] = twin
                    numbers[result] = numbers.get(twin) or self.number(twin)

    def number(self, value: Value) -> int:
        """The number of a value that is met for the first time."""
        number = len(self.numbers) + 1
        if isinstance(value, Constant):
            number = self.constants.setdefault(constant_key(value), number)
        self.numbers[value] = number
        return number


def _ordered(op: Op, operands: tuple[int, ...]) -> tuple[int, ...]:
    if op.primitive in COMMUTATIVE or op.attributes.get("direction") in SYMMETRIC_DIRECTIONS:
        return tuple(sorted(operands))
    return operands
