"""Sine, cosine and tangent as scalar programs: the angle is reduced to r with x = ``n * pi / 2 + r``.

Built like the programs in :mod:`.special_functions`; each docstring ends with a bound on the error in ulp.
Angles below 2**45 are reduced by Cody and Waite's subtractions.  Larger ones, which are rare, are left to a
function of their own (see :meth:`.ScalarBuilder.seldom`): M. Payne, R. Hanek, "Radian reduction for
trigonometric functions", SIGNUM Newsletter 18 (1983), in integers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from .scalar import ScalarBuilder, ScalarFunction
from .special_coefficients import (
    COS,
    HALF_PI,
    SIN,
    TAN_DENOMINATOR,
    TAN_NUMERATOR,
    TWO_OVER_PI,
    TWO_OVER_PI_WORDS,
)
from .special_functions import FORMATS, _polynomial, _quick_two_sum, _round_product, _subtract_multiple, _two_product
from .types import float32, float64, uint64

LARGE = 2.0**45


def sin(s: ScalarBuilder, x: Any) -> Any:
    """A polynomial of r.  Ulp: 1.54, 1.6."""
    return s.select(s.eq(x, 0.0), x, _by_reduction(s, x, partial(_sin_of_reduced, turns=0), SIN_OF_LARGE))


def cos(s: ScalarBuilder, x: Any) -> Any:
    """``sin(x + pi / 2)``.  Ulp: 1.54, 1.6."""
    return _by_reduction(s, x, partial(_sin_of_reduced, turns=1), COS_OF_LARGE)


def tan(s: ScalarBuilder, x: Any) -> Any:
    """A rational function of r, or -1 over it.  Ulp: 0.54, 1.8."""
    return s.select(s.eq(x, 0.0), x, _by_reduction(s, x, _tan_of_reduced, TAN_OF_LARGE, x.dtype == float64))


def sin_and_cos(s: ScalarBuilder, x: Any) -> tuple[Any, Any]:
    """Both, of abs(x) < 2**45."""
    angle = _reduce(s, x, False)
    return _sin_of_reduced(s, x, angle, 0), _sin_of_reduced(s, x, angle, 1)


class _Reduced(NamedTuple):
    """An angle as ``quarters * pi / 2 + remainder + error``: the low bits of an integer, and f64."""

    quarters: Any
    remainder: Any
    error: Any


def _by_reduction(
    s: ScalarBuilder, x: Any, of_reduced: Callable[..., Any], of_large: ScalarFunction, precise: bool = False
) -> Any:
    usual = of_reduced(s, x, _reduce(s, x, precise))
    return s.seldom(s.ge(s.abs(x), LARGE), of_large, x, usual)


def _of_large(of_reduced: Callable[..., Any]) -> Callable[..., Any]:
    def program(s: ScalarBuilder, x: Any) -> Any:
        return s.select(s.lt(s.abs(x), math.inf), of_reduced(s, x, _reduce_large(s, x)), math.nan)

    return program


# Reduction ------------------------------------------------------------------------------------------


def _reduce(s: ScalarBuilder, x: Any, precise: bool) -> _Reduced:
    """For abs(x) < 2**45; unless it is to be precise, without the error."""
    angle = s.convert(x, float64)
    shifted, nearest = _round_product(s, angle, TWO_OVER_PI)
    quarters = s.bitcast(shifted, uint64)
    if not precise:
        return _Reduced(quarters, _subtract_multiple(s, angle, nearest, HALF_PI[x.dtype]), None)
    first, second, third = HALF_PI[float64]
    remainder = s.fma(nearest, -first, angle)  # exact
    product, product_error = _two_product(s, nearest, second)
    remainder, error = _quick_two_sum(s, remainder, s.negate(product))
    return _Reduced(quarters, remainder, s.fma(nearest, -third, s.subtract(error, product_error)))


def _reduce_large(s: ScalarBuilder, x: Any) -> _Reduced:
    """For abs(x) >= 2**45: the product of x and 2 / pi modulo 4, to 137 bits after the point."""
    form = FORMATS[float64]
    bits = s.bitcast(s.convert(x, float64), uint64)
    exponent = s.and_(s.shift_right(bits, form.fraction_bits), 2047)
    mantissa = s.or_(s.and_(bits, form.fraction_mask), 1 << form.fraction_bits)

    # x is mantissa * 2**(exponent - 1075).  Bits of 2 / pi that count multiples of 4 are left out: the window starts
    # exponent - 1077 bits after the point, or that many before it, where 32 bits of the table are 0.
    start = s.subtract(exponent, 1077 - 32)
    word, offset = s.shift_right(start, 5), s.and_(start, 31)
    words: list[Any] = [s.constant(number, uint64) for number in TWO_OVER_PI_WORDS]
    for step in (16, 8, 4, 2, 1):
        is_set = s.ne(s.and_(word, step), 0)
        words = [s.select(is_set, far, near) for near, far in zip(words, words[step:], strict=False)]
    back = s.subtract(s.constant(32, uint64), offset)
    window = [
        s.and_(s.or_(s.shift_left(high, offset), s.shift_right(low, back)), 0xFFFFFFFF)
        for high, low in itertools.pairwise(words)  # six
    ]

    # The last 192 bits of mantissa * window, in pieces of 32 bits, the lowest first.
    low, high = s.and_(mantissa, 0xFFFFFFFF), s.shift_right(mantissa, 32)
    product: list[Any] = []
    carry = other_carry = before = s.constant(0, uint64)
    for piece in reversed(window):
        by_low = s.add(s.multiply(low, piece), carry)
        total = s.add(s.add(s.multiply(high, before), s.and_(by_low, 0xFFFFFFFF)), other_carry)
        product.append(s.and_(total, 0xFFFFFFFF))
        carry, other_carry, before = s.shift_right(by_low, 32), s.shift_right(total, 32), piece

    # Two bits of it stand before the point.  What follows is a signed number, once n has been rounded to nearest.
    *_, fourth, third, second, first = product
    quarters = s.shift_right(first, 30)
    upper = s.or_(s.or_(s.shift_left(first, 34), s.shift_left(second, 2)), s.shift_right(third, 30))
    lower = s.or_(s.shift_left(third, 34), s.shift_left(fourth, 2))
    is_beyond = s.shift_right(upper, 63)
    ones = s.subtract(s.constant(0, uint64), is_beyond)  # all bits, where the number is negative
    upper, lower = s.xor(upper, ones), s.xor(lower, ones)
    quarters = s.add(quarters, is_beyond)

    halves = [half for word in (upper, lower) for half in (s.shift_right(word, 32), s.and_(word, 0xFFFFFFFF))]
    pieces = [s.multiply(s.convert(half, float64), 2.0 ** (-32 * i)) for i, half in enumerate(halves, start=1)]
    fraction, rest = _quick_two_sum(s, pieces[0], pieces[1])
    fraction, rest = _quick_two_sum(s, fraction, s.add(rest, s.add(pieces[2], pieces[3])))
    half_pi, half_pi_low, _ = HALF_PI[float64]
    remainder, error = _two_product(s, fraction, s.constant(half_pi, float64))
    error = s.add(error, s.fma(fraction, half_pi_low, s.multiply(rest, half_pi)))
    remainder, error = _quick_two_sum(s, remainder, error)

    sign = s.and_(bits, form.sign_bit)  # of x; sin(-x) is -sin(x)
    is_negative = s.ne(sign, 0)
    sign = s.xor(sign, s.shift_left(is_beyond, 63))
    remainder, error = (s.bitcast(s.xor(s.bitcast(part, uint64), sign), float64) for part in (remainder, error))
    return _Reduced(s.select(is_negative, s.subtract(s.constant(0, uint64), quarters), quarters), remainder, error)


# Functions of what is left --------------------------------------------------------------------------


def _is_odd(s: ScalarBuilder, integer: Any) -> Any:
    return s.ne(s.and_(integer, 1), 0)


def _sin_of_reduced(s: ScalarBuilder, x: Any, angle: _Reduced, turns: int) -> Any:
    """``sin(x + turns * pi / 2)``."""
    form = FORMATS[x.dtype]
    remainder = s.convert(angle.remainder, x.dtype)
    square = s.multiply(remainder, remainder)
    sine = s.fma(s.multiply(square, remainder), _polynomial(s, square, SIN[x.dtype]), remainder)
    cosine = _polynomial(s, square, (1.0, *COS[x.dtype]))
    quarters = s.add(angle.quarters, turns) if turns else angle.quarters
    sign = s.shift_left(s.convert(s.and_(quarters, 2), form.bits), 8 * form.bits.itemsize - 2)
    result = s.select(_is_odd(s, quarters), cosine, sine)
    return s.bitcast(s.xor(s.bitcast(result, form.bits), sign), x.dtype)


def _tan_of_reduced(s: ScalarBuilder, x: Any, angle: _Reduced) -> Any:
    return (_tan_float32 if x.dtype == float32 else _tan_float64)(s, x, angle)


def _tan_float32(s: ScalarBuilder, x: Any, angle: _Reduced) -> Any:
    """``sin(r) / cos(r)`` or ``-cos(r) / sin(r)``, in float64."""
    remainder = angle.remainder
    square = s.multiply(remainder, remainder)
    sine = s.multiply(remainder, _polynomial(s, square, (1.0, *TAN_NUMERATOR[x.dtype])))
    cosine = _polynomial(s, square, (1.0, *TAN_DENOMINATOR[x.dtype]))
    is_odd = _is_odd(s, angle.quarters)
    tangent = s.divide(s.select(is_odd, s.negate(cosine), sine), s.select(is_odd, sine, cosine))
    return s.convert(tangent, x.dtype)


def _tan_float64(s: ScalarBuilder, x: Any, angle: _Reduced) -> Any:
    """The same, with the rounding errors of r, of both functions and of the quotient made good."""
    _, remainder, error = angle
    square = s.multiply(remainder, remainder)
    cube = s.multiply(square, remainder)
    sine = _quick_two_sum(s, remainder, s.fma(cube, _polynomial(s, square, TAN_NUMERATOR[x.dtype]), error))
    polynomial = s.multiply(square, _polynomial(s, square, TAN_DENOMINATOR[x.dtype]))
    cosine = _quick_two_sum(s, s.constant(1.0, x.dtype), polynomial)

    is_odd = _is_odd(s, angle.quarters)
    numerator, numerator_error = (s.select(is_odd, s.negate(c), t) for c, t in zip(cosine, sine, strict=True))
    denominator, denominator_error = (s.select(is_odd, t, c) for c, t in zip(cosine, sine, strict=True))
    inverse = s.divide(s.constant(1.0, x.dtype), denominator)
    quotient = s.multiply(numerator, inverse)
    negated = s.negate(quotient)
    rest = s.add(s.fma(negated, denominator, numerator), s.fma(negated, denominator_error, numerator_error))
    return s.fma(rest, inverse, quotient)


SIN_OF_LARGE = ScalarFunction("sin_of_large", _of_large(partial(_sin_of_reduced, turns=0)))
COS_OF_LARGE = ScalarFunction("cos_of_large", _of_large(partial(_sin_of_reduced, turns=1)))
TAN_OF_LARGE = ScalarFunction("tan_of_large", _of_large(_tan_of_reduced))
