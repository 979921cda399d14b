"""Strength reduction: arithmetic with constants by cheaper operations, where not a bit changes.

===========================================  ==========================================================================
``x / 2**k``                                 ``x * 2**-k``, where that is a normal number
``x ** 0``, ``x ** 1``                       1 and ``x`` (the latter in float32, where power is exact)
``x % 1``, ``x // 1`` of floats              ``x - floor(x)`` and ``floor(x)``
``x // 2**k``, ``x % 2**k`` of integers      a shift, and the low bits: Python's division rounds down, as shifts do
``x // -1``, ``x % -1``, ``x // 0``, …       ``-x``, 0, 0
``x ** n`` of integers                       squares and products, of which the order does not matter: they wrap around
===========================================  ==========================================================================

Other divisors are left to the compiler, which multiplies by a reciprocal of more bits; what is not exact (``x / 3``,
``x ** 3`` of floats) is :func:`relax`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from ..graph import Constant, Emit, Graph, Op, Value
from ..primitives import exact
from ..primitives.elementwise import divide, floor, logical_and, multiply, negate, power, subtract
from ..primitives.view import broadcast_in_dim
from ..types import DType, float32, float64, is_floating

MOST_PRODUCTS = 12  # that an integer power is written out as

Rule = Callable[[Op, Value, Any, Emit], "Value | None"]


def strength(graph: Graph) -> Graph:
    """``graph`` after the rules of this module, in one forward walk.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[3], %i: i64[3]) -> (f32[3], i64[3], i64[3]) {
    ...   %a = divide %x, 8.0       : f32[3]
    ...   %b = floor_quotient %i, 4 : i64[3]
    ...   %c = integer_power %b, 5  : i64[3]
    ...   return %a, %b, %c
    ... }''')
    >>> print(strength(graph))
    func @f(%x: f32[3], %i: i64[3]) -> (f32[3], i64[3], i64[3]) {
      %a  = multiply %x, 0.125           : f32[3]
      %b  = shift_right_arithmetic %i, 2 : i64[3]
      %v0 = multiply %b, %b              : i64[3]
      %v1 = multiply %v0, %v0            : i64[3]
      %c  = multiply %b, %v1             : i64[3]
      return %a, %b, %c
    }
    """
    if not any(op.primitive in RULES and _number(op.operands[1]) is not None for op in graph.walk()):
        return graph

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        rule = RULES.get(op.primitive)
        number = None if rule is None else _number(operands[1])
        if rule is None or number is None:
            return None
        value = rule(op, operands[0], number, emit)
        return None if value is None else (stretched(value, op, emit),)

    return graph.rewrite(rewrite)


def stretched(value: Value, op: Op, emit: Emit) -> Value:
    """``value`` broadcast to the shape of an op's result by NumPy's rule."""
    shape = op.result.shape
    if value.shape == shape:
        return value
    dimensions = tuple(range(len(shape) - value.ndim, len(shape)))
    return emit(broadcast_in_dim, (value,), {"shape": shape, "dimensions": dimensions})


def _number(value: Value) -> Any:
    """The real number that a constant of one element is, else ``None``."""
    if type(value) is not Constant or value.array.size != 1 or value.dtype.kind == "c":
        return None
    number = value.array.item()
    return number if isinstance(number, int) else float(number)


def _constant(number: float, op: Op) -> Constant:
    return Constant(np.asarray(number, op.result.dtype))


# Floats ---------------------------------------------------------------------------------------------


def _divide(op: Op, x: Value, number: float, emit: Emit) -> Value | None:
    reciprocal = _exact_reciprocal(number, op.result.dtype)
    return None if reciprocal is None else emit(multiply, (x, _constant(reciprocal, op)), {})


def _exact_reciprocal(number: float, dtype: DType) -> float | None:
    """1 / ``number`` where that is exact: for powers of two whose reciprocal is a normal number of ``dtype``."""
    if not is_floating(dtype) or not math.isfinite(number) or abs(math.frexp(number)[0]) != 0.5:
        return None
    reciprocal = 1 / number
    limits = ml_dtypes.finfo(dtype)
    return reciprocal if float(limits.smallest_normal) <= abs(reciprocal) <= float(limits.max) else None


def _power(op: Op, x: Value, number: float, emit: Emit) -> Value | None:
    """1 also for NaN; the power is computed to more bits than float32 has, which leaves ``x ** 1`` as it is."""
    if number == 0 and x.dtype in (float32, float64):
        return _constant(1, op)
    return x if number == 1 and x.dtype == float32 else None


def _remainder(op: Op, x: Value, number: float, emit: Emit) -> Value | None:
    """The nearest to ``x - floor(x)``, as of the remainder that is exact: the floor is, and so is any part."""
    if number != 1 or x.dtype not in (float32, float64):
        return None
    return emit(subtract, (x, emit(floor, (x,), {})), {})


def _floor_divide(op: Op, x: Value, number: float, emit: Emit) -> Value | None:
    return emit(floor, (x,), {}) if number == 1 and x.dtype in (float32, float64) else None


# Integers -------------------------------------------------------------------------------------------


def _floor_quotient(op: Op, x: Value, number: int, emit: Emit) -> Value | None:
    if number in (0, 1):
        return x if number else _constant(0, op)
    if number == -1:
        return emit(negate, (x,), {})
    if number & (number - 1) or number < 0:
        return None
    return emit(exact.shift_right_arithmetic, (x, _constant(number.bit_length() - 1, op)), {})


def _floor_remainder(op: Op, x: Value, number: int, emit: Emit) -> Value | None:
    if number in (-1, 0, 1):
        return _constant(0, op)
    return None if number & (number - 1) or number < 0 else emit(logical_and, (x, _constant(number - 1, op)), {})


def _integer_power(op: Op, x: Value, number: int, emit: Emit) -> Value | None:
    """Square and multiply, from the lowest bit of the exponent."""
    if number < 0 or number.bit_length() + number.bit_count() - 2 > MOST_PRODUCTS:
        return None
    result: Value | None = None
    while number:
        if number & 1:
            result = x if result is None else emit(multiply, (result, x), {})
        number >>= 1
        if number:
            x = emit(multiply, (x, x), {})
    return _constant(1, op) if result is None else result


RULES: dict[Any, Rule] = {
    divide: _divide,
    power: _power,
    exact.remainder: _remainder,
    exact.floor_divide: _floor_divide,
    exact.floor_quotient: _floor_quotient,
    exact.floor_remainder: _floor_remainder,
    exact.integer_power: _integer_power,
}
