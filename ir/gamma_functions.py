"""The logarithm of the gamma function and its derivatives as scalar programs, in float64 for either type.

Negative numbers, which are rare, are left to a function of their own, which reflects them.  Relative errors
grow near zeros on the negative axis, and near the zero 1.46… of digamma; each docstring ends with a bound on the
error in ulp, of numbers at least 1 in magnitude where the result is smaller.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import numpy as np

from .scalar import ScalarBuilder, ScalarFunction
from .special_coefficients import HALF_LOG_2_PI, LGAMMA, PI, STIRLING
from .special_functions import _polynomial, log
from .trigonometric_functions import sin_and_cos
from .types import float64

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)


def lgamma(s: ScalarBuilder, x: Any) -> Any:
    """``log(abs(gamma(x)))``.  Ulp: 0.6, 2.5."""
    wide = s.convert(x, float64)
    result = s.seldom(s.lt(wide, 0.0), LGAMMA_OF_NEGATIVE, wide, _lgamma_of_positive(s, wide))
    return s.convert(result, x.dtype)


def polygamma(s: ScalarBuilder, x: Any, order: int) -> Any:
    """The derivative of lgamma of order ``order + 1``.  Ulp: 0.6, 8.0."""
    wide = s.convert(x, float64)
    of_positive = partial(_polygamma_of_positive, order=order) if order else _digamma_of_positive
    result = s.seldom(s.lt(wide, 0.0), _polygamma_of_negative(order), wide, of_positive(s, wide))
    return s.convert(result, x.dtype)


# Positive numbers -----------------------------------------------------------------------------------


def _lgamma_of_positive(s: ScalarBuilder, x: Any) -> Any:
    """Below 15/2 a polynomial of the distance to 2, from where products lead to the others; then Stirling's series."""
    is_large = s.ge(x, 7.5)
    nearest = s.rint(s.select(is_large, 2.0, x))
    nearest = s.select(s.and_(s.gt(x, 1.2), s.lt(x, 1.6)), 2.0, nearest)  # 1 is too far: little is left of two terms
    rest = s.subtract(x, nearest)
    product = s.select(s.lt(nearest, 1.0), s.multiply(x, s.add(x, 1.0)), s.select(s.lt(nearest, 2.0), x, 1.0))
    for factor in range(2, 7):
        product = s.select(s.gt(nearest, float(factor)), s.multiply(product, s.add(rest, float(factor))), product)
    logarithm = log(s, s.select(is_large, x, product))
    curve = s.multiply(rest, _polynomial(s, rest, LGAMMA))
    small = s.add(curve, s.select(s.lt(nearest, 2.0), s.negate(logarithm), logarithm))
    inverse = s.divide(s.constant(1.0, float64), x)
    series = s.fma(inverse, _polynomial(s, s.multiply(inverse, inverse), STIRLING), HALF_LOG_2_PI - 0.5)
    large = s.fma(s.subtract(x, 0.5), s.subtract(logarithm, 1.0), series)
    return s.select(is_large, large, small)


def _digamma_of_positive(s: ScalarBuilder, x: Any) -> Any:
    """The asymptotic series of y = x + 10, less the sum of ``1 / (x + k)`` for k < 10: a ratio of polynomials."""
    is_small = s.lt(x, 10.0)
    y = s.select(is_small, s.add(x, 10.0), x)
    inverse = s.divide(s.constant(1.0, float64), y)
    square = s.multiply(inverse, inverse)
    series = _polynomial(s, square, [number / (2 * k) for k, number in enumerate(BERNOULLI[:8], start=1)])
    result = s.subtract(log(s, y), s.fma(inverse, 0.5, s.multiply(square, series)))
    # 1 / (x + k) + 1 / (x + 9 - k) = (2 * x + 9) / (w + k * (9 - k)), with w = x * (x + 9)
    ends = [np.array([float(k * (9 - k)), 1.0]) for k in range(5)]
    denominator = np.array([1.0])
    numerator = np.array([0.0])
    for end in ends:
        numerator = np.polynomial.polynomial.polyadd(np.convolve(numerator, end), denominator)
        denominator = np.convolve(denominator, end)
    w = s.select(is_small, s.multiply(x, s.add(x, 9.0)), 1.0)
    below = s.multiply(w, _polynomial(s, w, denominator[1:].tolist()))  # which has the sign of a zero
    ratio = s.divide(_polynomial(s, w, numerator.tolist()), below)
    shifted = s.fma(s.fma(x, 2.0, 9.0), s.negate(ratio), result)
    return s.select(is_small, shifted, result)


def _polygamma_of_positive(s: ScalarBuilder, x: Any, order: int) -> Any:
    """``n! * zeta(n + 1, x)`` up to the sign, by the formula of Euler and Maclaurin."""
    shift = 10 + order
    one = s.constant(1.0, float64)
    total: Any = None
    for k in range(shift - 1, -1, -1):
        power = _integer_power(s, s.divide(one, s.add(x, float(k))), order + 1)
        total = power if total is None else s.add(total, power)
    inverse = s.divide(one, s.add(x, float(shift)))
    coefficients = []
    rising = 1.0  # (n + 1) (n + 2) … (n + 2j - 1) / (2j)!
    for j, number in enumerate(BERNOULLI, start=1):
        for factor in (order + 2 * j - 2, order + 2 * j - 1) if j > 1 else (order + 1,):
            rising *= factor
        coefficients.append(number * rising / math.factorial(2 * j))
    square = s.multiply(inverse, inverse)
    series = s.fma(inverse, 0.5, s.fma(square, _polynomial(s, square, coefficients), 1.0 / order))
    total = s.fma(_integer_power(s, inverse, order), series, total)
    return s.multiply(total, math.factorial(order) * (1.0 if order % 2 else -1.0))


def _integer_power(s: ScalarBuilder, x: Any, exponent: int) -> Any:
    result: Any = None
    while exponent:
        if exponent & 1:
            result = x if result is None else s.multiply(result, x)
        exponent >>= 1
        x = s.multiply(x, x) if exponent else x
    return result


# Negative numbers -----------------------------------------------------------------------------------


def _lgamma_of_negative(s: ScalarBuilder, x: Any) -> Any:
    """``log(pi / abs(sin(pi * x))) - lgamma(1 - x)``; infinite at integers."""
    rest = s.abs(s.subtract(x, s.rint(x)))
    sine, _ = sin_and_cos(s, s.multiply(rest, math.pi))
    ratio = s.divide(s.constant(math.pi, float64), sine)
    result = s.subtract(log(s, ratio), _lgamma_of_positive(s, s.subtract(s.constant(1.0, float64), x)))
    return s.select(s.or_(s.eq(rest, 0.0), s.eq(x, -math.inf)), math.inf, result)


def _polygamma_below(s: ScalarBuilder, x: Any, order: int) -> Any:
    """``polygamma(1 - x)`` up to the sign, less a derivative of ``pi * cot(pi * x)``, in powers of the cotangent."""
    one = s.constant(1.0, float64)
    of_positive = partial(_polygamma_of_positive, order=order) if order else _digamma_of_positive
    mirrored = of_positive(s, s.subtract(one, x))
    rest = s.subtract(x, s.rint(x))
    high, low = PI[float64]
    sine, cosine = sin_and_cos(s, s.fma(rest, high, s.multiply(rest, low)))
    cotangent = s.divide(cosine, sine)
    coefficients = np.array([0.0, 1.0])
    for _ in range(order):  # d cot = -(1 + cot**2)
        coefficients = np.convolve(np.polynomial.polynomial.polyder(coefficients), [-1.0, 0.0, -1.0])
    slope = s.multiply(_polynomial(s, cotangent, coefficients.tolist()), math.pi ** (order + 1))
    result = s.subtract(s.negate(mirrored) if order % 2 else mirrored, slope)
    at_poles = s.constant(math.inf if order % 2 else math.nan, float64)
    return s.select(s.eq(rest, 0.0), at_poles, result)


LGAMMA_OF_NEGATIVE = ScalarFunction("lgamma_of_negative", _lgamma_of_negative)


@cache
def _polygamma_of_negative(order: int) -> ScalarFunction:
    return ScalarFunction(f"polygamma_{order}_of_negative", partial(_polygamma_below, order=order))
