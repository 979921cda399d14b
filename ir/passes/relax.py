"""Rewrites that are not exact, for ``jit(numerics="fast")`` alone: they hold for real numbers, not for floats.

Results may differ in their last bits, and where infinities, NaN and the signs of zeros are concerned: ``x * 0`` is 0,
``x - x`` is 0, ``x / x`` is 1.  Constants are gathered (``(x * 2) * 3`` is ``x * 6``), divisors that are constant, or
that many elements share, become their reciprocals, powers products and roots, and functions undo their inverses.  A
product with rows of an identity matrix (one-hot vectors) is a lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..graph import Constant, Emit, Graph, Op, Value
from ..primitive import Primitive
from ..primitives.contraction import dot
from ..primitives.elementwise import (
    abs,
    add,
    compare,
    convert,
    divide,
    exponential,
    log,
    multiply,
    power,
    rsqrt,
    select,
    sqrt,
    subtract,
)  # fmt: skip
from ..primitives.generation import iota
from ..primitives.indexing import gather
from ..primitives.view import broadcast_in_dim, reshape
from ..types import is_floating
from .strength import stretched

POWERS = 4  # up to which a power is written out as products

Rule = Callable[[Op, Sequence[Value], Emit], "Value | None"]


def relax(graph: Graph) -> Graph:
    """``graph`` after the rules of this module, in one forward walk.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[3]) -> (f32[3]) {
    ...   %a = multiply %x, 3.0 : f32[3]
    ...   %b = divide %a, 6.0   : f32[3]
    ...   return %b
    ... }''')
    >>> print(relax(relax(graph)))
    func @f(%x: f32[3]) -> (f32[3]) {
      %a = multiply %x, 3.0 : f32[3]
      %b = multiply %x, 0.5 : f32[3]
      return %b
    }
    """

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        rule = RULES.get(op.primitive)
        if rule is None or not is_floating(op.result.dtype):
            return None
        value = rule(op, operands, emit)
        return None if value is None else (stretched(value, op, emit),)

    return graph.rewrite(rewrite)


# Arithmetic -----------------------------------------------------------------------------------------


def _add(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
    x, number = _with_number(operands)
    if number is None:
        return None
    if number == 0:
        return x
    inner = _inner(x, add)
    return None if inner is None else emit(add, (inner[0], _constant(inner[1] + number, op)), {})


def _subtract(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
    x, y = operands
    if x is y:
        return _constant(0, op)
    number = _number(y)
    return None if number is None else emit(add, (x, _constant(-number, op)), {})


def _multiply(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
    x, number = _with_number(operands)
    if number is None:
        return None
    if number in (0, 1):
        return x if number else _constant(0, op)
    inner = _inner(x, multiply)
    return None if inner is None else emit(multiply, (inner[0], _constant(inner[1] * number, op)), {})


def _divide(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
    x, y = operands
    if x is y:
        return _constant(1, op)
    if _number(x) is not None:
        return x if _number(x) == 0 else None
    number = _number(y)
    if number:
        return emit(multiply, (x, _constant(1 / number, op)), {})
    if y.op is not None and y.op.primitive is sqrt:
        return emit(multiply, (x, emit(rsqrt, y.op.operands, {})), {})
    source = y
    while source.op is not None and source.op.primitive in (broadcast_in_dim, reshape):
        source = source.op.operands[0]
    if _elements(source) * 2 <= _elements(op.result):  # many elements have the same divisor
        return emit(multiply, (x, emit(divide, (_constant(1, op), y), {})), {})
    return None


def _power(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
    x, exponent = operands
    number = _number(exponent)
    if number is None or x.shape != op.result.shape:
        return None
    if number in (0.5, -0.5):
        return emit(sqrt if number > 0 else rsqrt, (x,), {})
    if number != int(number) or not -POWERS <= number <= POWERS:
        return None
    result = x if number else _constant(1, op)
    for _ in range(int(np.abs(number)) - 1):
        result = emit(multiply, (result, x), {})
    return result if number >= 0 else emit(divide, (_constant(1, op), result), {})


# Functions ------------------------------------------------------------------------------------------


def _undoes(inverse: Primitive) -> Rule:
    def rule(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
        (x,) = operands
        return x.op.operands[0] if x.op is not None and x.op.primitive is inverse else None

    return rule


def _sqrt(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
    """The root of a square."""
    (x,) = operands
    if x.op is None or x.op.primitive is not multiply or x.op.operands[0] is not x.op.operands[1]:
        return None
    return emit(abs, (x.op.operands[0],), {})


def _dot(op: Op, operands: Sequence[Value], emit: Emit) -> Value | None:
    """``one_hot(i) @ w`` is ``w[i]``, and 0 where ``i`` is out of range."""
    rows, table = operands
    if any(op.attributes.values()) or table.ndim != 2 or rows.ndim != 2:
        return None
    index = _hot_places(rows)
    extent = table.shape[0]
    if index is None or not isinstance(extent, int):
        return None
    found = emit(gather, (table, index), {"axes": (0,)})
    zero, last = Constant(np.zeros((), index.dtype)), Constant(np.asarray(extent - 1, index.dtype))
    is_low = emit(compare, (index, zero), {"direction": "lt"})
    is_high = emit(compare, (index, last), {"direction": "gt"})
    out = [emit(broadcast_in_dim, (flags,), {"shape": found.shape, "dimensions": (0,)}) for flags in (is_low, is_high)]
    for flags in out:
        found = emit(select, (flags, _constant(0, op), found), {})
    return found


def _hot_places(rows: Value) -> Value | None:
    """The places of the ones, where the rows are made by comparing them to 0, 1, 2 …"""
    if rows.op is None or rows.op.primitive is not convert:
        return None
    made = rows.op.operands[0].op
    if made is None or made.primitive is not compare or made.attributes["direction"] != "eq":
        return None
    places, numbers = made.operands
    counts = isinstance(numbers, Constant) and np.array_equal(numbers.array, np.arange(numbers.array.size))
    counts = counts or (numbers.op is not None and numbers.op.primitive is iota)
    if not counts or numbers.ndim != 1 or numbers.shape[0] != rows.shape[1]:
        return None
    if places.shape != (rows.shape[0], 1) or places.op is None or places.op.primitive is not reshape:
        return None
    source = places.op.operands[0]
    return source if source.shape == rows.shape[:1] else None


# What rules ask -------------------------------------------------------------------------------------


def _number(value: Value) -> float | None:
    if not isinstance(value, Constant) or value.array.size != 1:
        return None
    number = float(value.array.reshape(()).astype(np.float64))
    return number if np.isfinite(number) else None


def _with_number(operands: Sequence[Value]) -> tuple[Value, float | None]:
    """The operand beside a number, and the number."""
    x, y = operands
    number = _number(y)
    return (x, number) if number is not None else (y, _number(x))


def _inner(x: Value, primitive: Primitive) -> tuple[Value, float] | None:
    """What the same op took beside a number."""
    if x.op is None or x.op.primitive is not primitive:
        return None
    inner, number = _with_number(x.op.operands)
    return None if number is None or inner.shape != x.shape else (inner, number)


def _constant(number: float, op: Op) -> Constant:
    return Constant(np.asarray(number, op.result.dtype))


def _elements(value: Value) -> int:
    return value.type.size if value.type.is_static else 0


RULES: dict[Primitive, Rule] = {
    add: _add,
    subtract: _subtract,
    multiply: _multiply,
    divide: _divide,
    power: _power,
    exponential: _undoes(log),
    log: _undoes(exponential),
    sqrt: _sqrt,
    dot: _dot,
}
