"""Inverse trigonometric and hyperbolic functions as scalar programs: the rest of :mod:`.special_functions`.

Built like those there, from instructions alone; each docstring ends with a bound on the error in ulp.
"""

from __future__ import annotations

import math
from typing import Any

from .scalar import ScalarBuilder
from .special_coefficients import ASIN, ATAN, INVERSE_LN10, LN2, LOG10_2, PI, TAN_3_PI_8, TAN_PI_8
from .special_functions import (
    _log1p_tail,
    _log_special_cases,
    _polynomial,
    _sign,
    _split,
    _with_sign_of,
    exp,
    expm1,
    log,
    log1p,
)
from .types import float32, float64

HALF = {float32: 12.0, float64: 22.0}  # from here on, exp(-x) is nothing beside exp(x)
LARGEST = {float32: 2.0**127, float64: 2.0**1023}  # powers of two
HUGE = {float32: 2.0**14, float64: 2.0**28}  # from here on, 1 is nothing beside x * x

# Inverse trigonometry -------------------------------------------------------------------------------


def atan(s: ScalarBuilder, x: Any) -> Any:
    """An odd polynomial, after the angle is moved by 0, pi / 4 or pi / 2.  Ulp: 1.8, 1.7."""
    one = s.constant(1.0, x.dtype)
    return _with_sign_of(s, x, s.abs(_atan_of_ratio(s, s.abs(x), one, one)))


def atan2(s: ScalarBuilder, y: Any, x: Any) -> Any:
    """The angle of the point (x, y), with C99's special cases.  Ulp: 1.9, 1.9."""
    high, low = PI[x.dtype]
    across, up = s.abs(x), s.abs(y)
    both_infinite = s.and_(s.eq(across, math.inf), s.eq(up, math.inf))
    larger = s.maximum(up, across)
    scale = s.select(s.gt(larger, LARGEST[x.dtype] / 4), s.constant(0.25, x.dtype), 1.0)  # sums do not overflow
    up = s.select(both_infinite, 1.0, s.multiply(up, scale))
    across = s.select(s.or_(both_infinite, s.eq(larger, 0.0)), 1.0, s.multiply(across, scale))
    is_left = s.ne(_sign(s, x), 0)
    is_flat = s.le(up, s.multiply(across, TAN_3_PI_8))
    angle = _atan_of_ratio(s, up, across, s.select(is_left, s.negate(across), across))
    is_moved = s.and_(is_left, is_flat)
    angle = s.select(is_moved, s.subtract(s.constant(high, x.dtype), s.subtract(angle, low)), angle)
    angle = s.select(s.or_(s.is_nan(x), s.is_nan(y)), math.nan, s.abs(angle))
    return _with_sign_of(s, y, angle)


def _atan_of_ratio(s: ScalarBuilder, y: Any, x: Any, signed_x: Any) -> Any:
    """``atan(y / x)`` for y >= 0 and x >= 0, not both 0; where it is steep, the angle of (``signed_x``, y)."""
    high, low = PI[x.dtype]
    is_steep, is_diagonal = s.gt(y, s.multiply(x, TAN_3_PI_8)), s.gt(y, s.multiply(x, TAN_PI_8))
    numerator = s.select(is_steep, s.negate(signed_x), s.select(is_diagonal, s.subtract(y, x), y))
    denominator = s.select(is_steep, y, s.select(is_diagonal, s.add(y, x), x))
    t = s.divide(numerator, denominator)
    square = s.multiply(t, t)
    tail = s.multiply(s.multiply(square, t), _polynomial(s, square, ATAN[x.dtype]))
    turned = s.select(is_steep, s.constant(low / 2, x.dtype), s.select(is_diagonal, low / 4, s.constant(0.0, x.dtype)))
    base = s.select(is_steep, s.constant(high / 2, x.dtype), s.select(is_diagonal, high / 4, s.constant(0.0, x.dtype)))
    return s.add(base, s.add(t, s.add(tail, turned)))


def _asin_tail(s: ScalarBuilder, x: Any, square: Any) -> Any:
    """``asin(x) - x`` for abs(x) <= 1/2."""
    return s.multiply(s.multiply(x, square), _polynomial(s, square, ASIN[x.dtype]))


def asin(s: ScalarBuilder, x: Any) -> Any:
    """An odd polynomial; above 1/2, ``pi / 2 - 2 * asin(sqrt((1 - x) / 2))``.  Ulp: 1.8, 1.7."""
    high, low = PI[x.dtype]
    magnitude = s.abs(x)
    is_large = s.gt(magnitude, 0.5)
    rest = s.fma(magnitude, -0.5, 0.5)
    root = s.select(is_large, s.sqrt(rest), magnitude)
    square = s.select(is_large, rest, s.multiply(magnitude, magnitude))
    tail = _asin_tail(s, root, square)
    twice = s.add(root, s.subtract(tail, low / 4))
    large = s.subtract(s.constant(high / 2, x.dtype), s.add(twice, twice))
    result = s.select(is_large, large, s.add(root, tail))
    return _with_sign_of(s, x, s.select(s.gt(magnitude, 1.0), math.nan, s.abs(result)))


def acos(s: ScalarBuilder, x: Any) -> Any:
    """``pi / 2 - asin(x)``; above 1/2, ``2 * asin(sqrt((1 - x) / 2))``.  Ulp: 1.8, 1.7."""
    high, low = PI[x.dtype]
    magnitude = s.abs(x)
    is_large = s.gt(magnitude, 0.5)
    rest = s.fma(magnitude, -0.5, 0.5)
    root = s.select(is_large, s.sqrt(rest), x)
    tail = _asin_tail(s, root, s.select(is_large, rest, s.multiply(x, x)))
    near_one = s.add(root, tail)
    near_one = s.add(near_one, near_one)
    twice = s.add(root, s.subtract(tail, low / 2))
    near_minus_one = s.subtract(s.constant(high, x.dtype), s.add(twice, twice))
    small = s.subtract(s.constant(high / 2, x.dtype), s.add(root, s.subtract(tail, low / 2)))
    large = s.select(s.gt(x, 0.0), near_one, near_minus_one)
    return s.select(s.gt(magnitude, 1.0), math.nan, s.select(is_large, large, small))


# Hyperbolic functions -------------------------------------------------------------------------------


def sinh(s: ScalarBuilder, x: Any) -> Any:
    """``(t + t / (t + 1)) / 2`` with t = ``expm1(abs(x))``.  Ulp: 2.8, 2.8."""
    magnitude = s.abs(x)
    is_large = s.gt(magnitude, HALF[x.dtype])
    t = expm1(s, s.select(is_large, s.constant(1.0, x.dtype), magnitude))
    small = s.multiply(s.add(t, s.divide(t, s.add(t, 1.0))), 0.5)
    return _with_sign_of(s, x, s.abs(s.select(is_large, _half_exp(s, magnitude), small)))


def cosh(s: ScalarBuilder, x: Any) -> Any:
    """``(t + 1 / t) / 2`` with t = ``exp(abs(x))``.  Ulp: 2.8, 2.8."""
    magnitude = s.abs(x)
    is_large = s.gt(magnitude, HALF[x.dtype])
    half = s.multiply(exp(s, s.select(is_large, s.constant(1.0, x.dtype), magnitude)), 0.5)
    small = s.add(half, s.divide(s.constant(0.25, x.dtype), half))
    return s.select(is_large, _half_exp(s, magnitude), small)


def _half_exp(s: ScalarBuilder, x: Any) -> Any:
    """``exp(x) / 2``, which does not overflow before it must."""
    root = exp(s, s.multiply(x, 0.5))
    return s.multiply(s.multiply(root, 0.5), root)


def asinh(s: ScalarBuilder, x: Any) -> Any:
    """``log1p(a + a**2 / (1 + sqrt(a**2 + 1)))`` with a = ``abs(x)``.  Ulp: 2.2, 2.3."""
    magnitude = s.abs(x)
    is_large = s.gt(magnitude, HUGE[x.dtype])
    a = s.select(is_large, s.constant(1.0, x.dtype), magnitude)
    square = s.multiply(a, a)
    rise = s.divide(square, s.add(s.sqrt(s.add(square, 1.0)), 1.0))
    large = s.add(log(s, magnitude), LN2[float64][0])
    return _with_sign_of(s, x, s.abs(s.select(is_large, large, log1p(s, s.add(a, rise)))))


def acosh(s: ScalarBuilder, x: Any) -> Any:
    """``log1p(t + sqrt(t * (t + 2)))`` with t = ``x - 1``; NaN below 1.  Ulp: 2.5, 2.5."""
    is_large = s.gt(x, HUGE[x.dtype])
    t = s.subtract(s.select(is_large, s.constant(1.0, x.dtype), x), 1.0)
    near = log1p(s, s.add(t, s.sqrt(s.multiply(t, s.add(t, 2.0)))))
    large = s.add(log(s, x), LN2[float64][0])
    return s.select(s.lt(x, 1.0), math.nan, s.select(is_large, large, near))


def atanh(s: ScalarBuilder, x: Any) -> Any:
    """``log1p(2 * a / (1 - a)) / 2`` with a = ``abs(x)``.  Ulp: 2.2, 2.3."""
    a = s.abs(x)
    twice, rest = s.add(a, a), s.subtract(s.constant(1.0, x.dtype), a)
    small = s.fma(twice, s.divide(a, rest), twice)
    ratio = s.select(s.lt(a, 0.5), small, s.divide(twice, rest))
    result = s.multiply(log1p(s, ratio), 0.5)
    return _with_sign_of(s, x, s.select(s.gt(a, 1.0), math.nan, s.abs(result)))


# Others ---------------------------------------------------------------------------------------------


def log10(s: ScalarBuilder, x: Any) -> Any:
    """``k * log10(2) + log(m) / ln 10``, as for log.  Ulp: 1.0, 1.0."""
    exponent, fraction = _split(s, x)
    high, low = INVERSE_LN10[x.dtype]
    of_two, of_two_low = LOG10_2[x.dtype]
    tail = s.fma(exponent, of_two_low, s.multiply(fraction, low))
    mantissa = s.fma(fraction, high, s.fma(_log1p_tail(s, fraction), high, tail))
    return _log_special_cases(s, x, s.fma(exponent, of_two, mantissa))


def hypot(s: ScalarBuilder, x: Any, y: Any) -> Any:
    """``a * sqrt(1 + (b / a)**2)`` with a the larger of the magnitudes; inf wins over NaN.  Ulp: 0.6, 2.0."""
    first, second = s.abs(x), s.abs(y)
    larger, smaller = s.maximum(first, second), s.minimum(first, second)
    if x.dtype == float32:
        wide, narrow = s.convert(larger, float64), s.convert(smaller, float64)
        result = s.convert(s.sqrt(s.fma(wide, wide, s.multiply(narrow, narrow))), float32)
    else:
        ratio = s.divide(smaller, s.select(s.eq(larger, 0.0), 1.0, larger))
        result = s.multiply(larger, s.sqrt(s.fma(ratio, ratio, 1.0)))
    is_infinite = s.or_(s.eq(first, math.inf), s.eq(second, math.inf))
    return s.select(is_infinite, s.constant(math.inf, x.dtype), result)


def logaddexp(s: ScalarBuilder, x: Any, y: Any) -> Any:
    """``max(x, y) + log1p(exp(-abs(x - y)))``.  Ulp: 2 of the larger operand."""
    same = s.add(x, LN2[float64][0])
    decay = exp(s, s.negate(s.abs(s.subtract(x, y))))
    return s.select(s.eq(x, y), same, s.add(s.maximum(x, y), log1p(s, decay)))
