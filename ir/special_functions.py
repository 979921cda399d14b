"""Elementary functions as scalar programs, for float32 and float64.

IEEE 754 does not say what ``exp(x)`` is to the last bit; these programs do, and every machine that runs
their instructions gives the same bits.  They have no branches, tables or loops, so that they can be
vectorised, and treat infinities, NaN, subnormal numbers and the sign of zero as C99 does.  Each docstring
ends with the largest error in units in the last place (ulp): for float32 as measured over all numbers, and
for float64 (and for power) as measured over tens of millions, rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .facts import facts
from .scalar import ScalarBuilder
from .special_coefficients import (
    ERF,
    ERF_INV_CENTER,
    ERF_INV_TAIL,
    ERF_IS_ONE,
    ERFCX,
    EXP2_RANGE,
    EXP_RANGE,
    EXPM1_RANGE,
    EXPONENTIAL,
    HALF_SQRT_PI,
    INVERSE_LN2,
    LN2,
    LOG1P_FLOAT32,
    LOG1P_FLOAT64,
    LOG2_FOR_POWER_FLOAT32,
    LOG2_SERIES_FLOAT64,
    TANH_IS_ONE,
)
from .types import DType, float32, float64, uint32, uint64

# Exponentials ---------------------------------------------------------------------------------------


def exp(s: ScalarBuilder, x: Any) -> Any:
    """``2**n * exp(r)``, with x = ``n * ln 2 + r`` (Cody and Waite).  Ulp: 0.93, 1.0.

    What vanishes is not computed: processors take long to round to nothing.
    """
    lowest, highest = EXP_RANGE[x.dtype]
    shifted, remainder = _divide_by_ln2(s, _at_most(s, x, highest))
    return s.select(s.lt(x, lowest), 0.0, _scale(s, _exp_near_zero(s, remainder, x.dtype), shifted))


def exp2(s: ScalarBuilder, x: Any) -> Any:
    """``2**n * exp(r * ln 2)``, with x = ``n + r``.  Ulp: 0.92, 1.0."""
    x = _clamp(s, x, *EXP2_RANGE[x.dtype])
    shifted, nearest = _round_to_integer(s, x)
    remainder = s.multiply(s.subtract(x, nearest), LN2[float64][0])
    return _scale(s, _exp_near_zero(s, remainder, x.dtype), shifted)


def expm1(s: ScalarBuilder, x: Any) -> Any:
    """``2**n * expm1(r) + (2**n - 1)``, with x = ``n * ln 2 + r``, as in FreeBSD's s_expm1.c.  Ulp: 1.31, 1.5."""
    shifted, remainder = _divide_by_ln2(s, _clamp(s, x, *EXPM1_RANGE[x.dtype]))
    tail = s.multiply(s.multiply(remainder, remainder), _polynomial(s, remainder, EXPONENTIAL[x.dtype]))
    half_power = _power_of_two(s, shifted, x.dtype, halvings=1)  # 2**n itself would overflow before the result does
    half = s.fma(half_power, tail, s.fma(half_power, remainder, s.subtract(half_power, 0.5)))
    is_tiny = s.lt(s.abs(x), 2.0 ** -(FORMATS[x.dtype].fraction_bits + 2))
    return s.select(is_tiny, x, s.add(half, half))


def logistic(s: ScalarBuilder, x: Any) -> Any:
    """``1 / (1 + exp(-x))``, through ``exp(-abs(x))``, which does not overflow.  Ulp: 1.65, 1.7."""
    decay = exp(s, s.negate(s.abs(x)))
    ratio = s.divide(decay, s.add(decay, 1.0))
    whole = s.select(s.lt(x, 0.0), decay, 1.0)
    return s.fma(s.negate(whole), ratio, whole)


def tanh(s: ScalarBuilder, x: Any) -> Any:
    """``h + h * h / (1 - h)`` with h = ``(1 - exp(-2 * abs(x))) / 2``, a sum of two terms.  Ulp: 1.85, 2.0."""
    magnitude = _at_most(s, s.abs(x), TANH_IS_ONE[x.dtype])
    shifted, near_zero = _expm1_near_zero(s, s.multiply(magnitude, -2.0))
    half_power = _power_of_two(s, shifted, x.dtype, halvings=1)
    first = s.subtract(s.constant(0.5, x.dtype), half_power)
    second = s.negate(s.multiply(half_power, near_zero))
    h = s.add(first, second)
    ratio = s.divide(h, s.subtract(s.add(half_power, 0.5), second))
    return _with_sign_of(s, x, s.add(first, s.fma(h, ratio, second)))


def erf(s: ScalarBuilder, x: Any) -> Any:
    """``1 - exp(log(erfc(a)))`` with a = ``abs(x)``, the logarithm as ``-a - a * polynomial(a)``.  Ulp: 1.84, 1.8."""
    magnitude = _at_most(s, s.abs(x), ERF_IS_ONE[x.dtype])
    log_erfc = s.negate(s.fma(magnitude, _polynomial(s, magnitude, ERF[x.dtype]), magnitude))
    shifted, near_zero = _expm1_near_zero(s, log_erfc)
    power = _power_of_two(s, shifted, x.dtype)
    return _with_sign_of(s, x, s.fma(power, s.negate(near_zero), s.subtract(s.constant(1.0, x.dtype), power)))


def erfc(s: ScalarBuilder, x: Any) -> Any:
    """``exp(-x**2) * erfcx(x)``, and ``2 - erfc(-x)`` for x < 0; in float64.  Ulp: 0.6, 3.6."""
    wide = s.convert(x, float64)
    magnitude = _at_most(s, s.abs(wide), 30.0)
    square, error = _two_product(s, magnitude, magnitude)
    decay = exp(s, s.negate(square))
    tail = s.multiply(s.fma(s.negate(decay), error, decay), _erfcx_of_positive(s, magnitude, x.dtype))
    return s.convert(s.select(s.lt(wide, 0.0), s.subtract(s.constant(2.0, float64), tail), tail), x.dtype)


def erfcx(s: ScalarBuilder, x: Any) -> Any:
    """``exp(x**2) * erfc(x)``; ``2 * exp(x**2) - erfcx(-x)`` for x < 0; in float64.  Ulp: 0.6, 3.6."""
    wide = s.convert(x, float64)
    magnitude = s.abs(wide)
    square, error = _two_product(s, magnitude, magnitude)
    growth = exp(s, square)
    growth = s.select(s.lt(square, 709.0), s.fma(growth, error, growth), growth)
    positive = _erfcx_of_positive(s, magnitude, x.dtype)
    return s.convert(s.select(s.lt(wide, 0.0), s.fma(growth, 2.0, s.negate(positive)), positive), x.dtype)


def _erfcx_of_positive(s: ScalarBuilder, x: Any, accuracy: DType) -> Any:
    """A polynomial in ``(x - 4) / (x + 4)``: Shepherd, Laframboise, Mathematics of Computation 36 (1981)."""
    q = s.divide(s.subtract(x, 4.0), s.add(x, 4.0))
    q = s.select(s.lt(x, math.inf), q, 1.0)
    half = s.constant(0.5, float64)
    numerator = s.fma(s.fma(q, half, half), _polynomial(s, q, ERFCX[accuracy]), half)
    return s.select(s.is_nan(x), x, s.divide(numerator, s.add(x, half)))


# Logarithms -----------------------------------------------------------------------------------------


def log(s: ScalarBuilder, x: Any) -> Any:
    """``k * ln 2 + log(m)``, with x = ``2**k * m`` and m between sqrt(1/2) and sqrt(2).  Ulp: 0.91, 1.3."""
    return _log_special_cases(s, x, _log_of_parts(s, *_split(s, x)))


def log2(s: ScalarBuilder, x: Any) -> Any:
    """``k + log(m) / ln 2``, as for log.  Ulp: 1.09, 1.2."""
    exponent, fraction = _split(s, x)
    high, low = INVERSE_LN2[x.dtype]
    tail = _log1p_tail(s, fraction)
    log2_of_mantissa = s.fma(fraction, high, s.fma(tail, high, s.multiply(fraction, low)))
    return _log_special_cases(s, x, s.add(exponent, log2_of_mantissa))


def log1p(s: ScalarBuilder, x: Any) -> Any:
    """As log of 1 + x, but ``m - 1 = 2**-k * x + (2**-k - 1)`` is rounded once.  Ulp: 1.52, 1.9."""
    moved_bits = _bits_from_sqrt_half(s, s.add(x, 1.0))
    exponent = _exponent(s, moved_bits, x.dtype, FORMATS[x.dtype].integer_zero)
    inverse_power = _inverse_power_of_two(s, moved_bits, x.dtype)
    fraction = s.fma(x, inverse_power, s.subtract(inverse_power, 1.0))
    result = _log_of_parts(s, exponent, fraction)
    is_own_logarithm = s.eq(s.add(x, x), x)  # 0, -0 and infinity
    result = s.select(is_own_logarithm, x, result)
    return s.select(s.gt(x, -1.0), result, s.select(s.eq(x, -1.0), s.constant(-math.inf, x.dtype), math.nan))


# Powers, roots, the inverse of erf ------------------------------------------------------------------


def rsqrt(s: ScalarBuilder, x: Any) -> Any:
    """``1 / sqrt(x)``, each of the two rounded correctly.  Ulp: 1.50, 1.5."""
    return s.divide(s.constant(1.0, x.dtype), s.sqrt(x))


def power(s: ScalarBuilder, x: Any, y: Any) -> Any:
    """``2**(y * log2(abs(x)))``, the exponent to twice the precision, and C99's special cases.  Ulp: 0.7, 1.3."""
    bits = FORMATS[x.dtype].bits
    even = 2.0 ** (FORMATS[x.dtype].fraction_bits + 12)  # any power as large as this is 0, 1 or infinite
    y = _clamp(s, y, -even, even)
    result = (_power_float32 if x.dtype == float32 else _power_float64)(s, s.abs(x), y)
    half = s.multiply(y, 0.5)
    is_integer = s.eq(s.trunc(y), y)
    is_odd = s.and_(is_integer, s.ne(s.trunc(half), half))
    sign = s.select(is_odd, _sign(s, x), 0)
    result = s.bitcast(s.xor(s.bitcast(result, bits), sign), x.dtype)
    is_real = s.or_(is_integer, s.or_(s.ge(x, 0.0), s.eq(x, -math.inf)))
    result = s.select(is_real, result, math.nan)
    return s.select(s.or_(s.eq(x, 1.0), s.eq(y, 0.0)), 1.0, result)


def erf_inv(s: ScalarBuilder, x: Any) -> Any:
    """A rational function of x, or of v = ``sqrt(-log((1 - x) / 2))``, after Wichura's AS 241.  Ulp: 2.68, 3.1."""
    magnitude = s.abs(x)
    is_tail = s.gt(magnitude, 0.85)
    parts = _split_normal(s, s.fma(magnitude, -0.5, 0.5), FORMATS[x.dtype].integer_zero)
    v = s.sqrt(s.negate(_log_of_parts(s, *parts)))
    variable = s.select(is_tail, s.subtract(v, 1.6), s.fma(s.negate(x), x, 0.85**2))
    numerator, denominator = (
        _polynomial(s, variable, [s.select(is_tail, s.constant(t, x.dtype), c) for t, c in zip(*tables, strict=True)])
        for tables in zip(ERF_INV_TAIL[x.dtype], ERF_INV_CENTER[x.dtype], strict=True)
    )
    # x * (sqrt(pi) / 2 + x**2 * ratio), or else v + ratio
    factor = s.select(is_tail, 1.0, s.multiply(s.multiply(magnitude, magnitude), magnitude))
    base = s.select(is_tail, v, s.multiply(magnitude, HALF_SQRT_PI))
    inside = s.fma(factor, s.divide(numerator, denominator), base)
    outside = s.select(s.eq(magnitude, 1.0), s.constant(math.inf, x.dtype), math.nan)
    return _with_sign_of(s, x, s.select(s.lt(magnitude, 1.0), inside, outside))


def _power_float32(s: ScalarBuilder, x: Any, y: Any) -> Any:
    """``x**y`` for x >= 0, in float64."""
    x, y = s.convert(x, float64), s.convert(y, float64)
    exponent, fraction = _split_normal(s, x, FORMATS[float64].integer_zero)
    log2_of_x = _log_special_cases(s, x, s.fma(fraction, _polynomial(s, fraction, LOG2_FOR_POWER_FLOAT32), exponent))
    product = _clamp(s, s.multiply(y, log2_of_x), *EXP2_RANGE[float32])
    shifted, nearest = _round_to_integer(s, product)
    remainder = s.multiply(s.subtract(product, nearest), LN2[float64][0])
    mantissa = _exp_near_zero(s, remainder, accuracy=float32)
    return s.convert(s.multiply(mantissa, _power_of_two(s, shifted, float64)), float32)


def _power_float64(s: ScalarBuilder, x: Any, y: Any) -> Any:
    """``x**y`` for x >= 0, its logarithm to twice the precision."""
    high, low = _log2_twice_precise(s, x)
    product, error = _two_product(s, y, _log_special_cases(s, x, high))
    bounded = _clamp(s, product, *EXP2_RANGE[float64])
    error = s.select(s.eq(bounded, product), s.fma(y, low, error), 0.0)
    shifted, nearest = _round_to_integer(s, bounded)
    remainder = s.multiply(s.add(s.subtract(bounded, nearest), error), LN2[float64][0])
    return _scale(s, _exp_near_zero(s, remainder, float64), shifted)


# Pieces: numbers and bits ---------------------------------------------------------------------------


@facts(frozen=True)
class Format:
    """A float type as bits: a sign, an exponent to which ``bias`` is added, and ``fraction_bits``."""

    bits: DType
    fraction_bits: int
    bias: int
    sqrt_half: int  # the bits of sqrt(1/2)

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.fraction_bits

    @property
    def sign_bit(self) -> int:
        return 1 << (8 * self.bits.itemsize - 1)

    @property
    def fraction_mask(self) -> int:
        return (1 << self.fraction_bits) - 1

    @property
    def shifter(self) -> float:
        """``x + shifter`` rounds x to an integer, which then stands in the lowest bits."""
        return 1.5 * 2.0**self.fraction_bits

    @property
    def integer_zero(self) -> float:
        """The float whose lowest bits hold the exponent field of 1.0."""
        return 2.0**self.fraction_bits + self.bias


FORMATS = {
    float32: Format(uint32, 23, 127, sqrt_half=0x3F3504F3),
    float64: Format(uint64, 52, 1023, sqrt_half=0x3FE6A09E667F3BCD),
}


def _polynomial(s: ScalarBuilder, x: Any, coefficients: Sequence[Any]) -> Any:
    """Horner's rule; the constant term stands first."""
    *others, result = coefficients
    for coefficient in reversed(others):
        result = s.fma(x, result, coefficient)
    return result


def _at_most(s: ScalarBuilder, x: Any, bound: float) -> Any:
    """x, or ``bound`` where x is greater; NaN stays NaN."""
    return s.select(s.gt(x, bound), bound, x)


def _clamp(s: ScalarBuilder, x: Any, low: float, high: float) -> Any:
    x = _at_most(s, x, high)
    return s.select(s.lt(x, low), low, x)


def _sign(s: ScalarBuilder, x: Any) -> Any:
    """The bits of x, but for the sign all cleared."""
    form = FORMATS[x.dtype]
    return s.and_(s.bitcast(x, form.bits), form.sign_bit)


def _with_sign_of(s: ScalarBuilder, x: Any, magnitude: Any) -> Any:
    """``magnitude``, whose sign bit is 0, with the sign of x."""
    return s.bitcast(s.or_(s.bitcast(magnitude, FORMATS[x.dtype].bits), _sign(s, x)), x.dtype)


def _round_to_integer(s: ScalarBuilder, x: Any) -> tuple[Any, Any]:
    """The integer n nearest to x as "shifted" (a float with n in its lowest bits), and as a float."""
    shifter = FORMATS[x.dtype].shifter
    shifted = s.add(x, shifter)
    return shifted, s.subtract(shifted, shifter)


def _round_product(s: ScalarBuilder, x: Any, factor: float) -> tuple[Any, Any]:
    """The same for ``x * factor``."""
    shifter = FORMATS[x.dtype].shifter
    shifted = s.fma(x, factor, shifter)
    return shifted, s.subtract(shifted, shifter)


def _power_of_two(s: ScalarBuilder, shifted: Any, dtype: DType, halvings: int = 0) -> Any:
    """``2**(n - halvings)``, a normal number."""
    form = FORMATS[dtype]
    exponent = s.shift_left(s.bitcast(shifted, form.bits), form.fraction_bits)
    return s.bitcast(s.add(exponent, form.one - (halvings << form.fraction_bits)), dtype)


def _scale(s: ScalarBuilder, x: Any, shifted: Any) -> Any:
    """``x * 2**n``, in two steps of about n / 2, as the result may be subnormal or infinite."""
    form = FORMATS[x.dtype]
    integer = s.bitcast(shifted, form.bits)
    first = s.shift_left(s.shift_right(integer, 1), form.fraction_bits)
    second = s.subtract(s.shift_left(integer, form.fraction_bits), first)
    for exponent in first, second:
        x = s.multiply(x, s.bitcast(s.add(exponent, form.one), x.dtype))
    return x


def _two_product(s: ScalarBuilder, x: Any, y: Any) -> tuple[Any, Any]:
    """``x * y`` and its rounding error."""
    product = s.multiply(x, y)
    return product, s.fma(x, y, s.negate(product))


def _quick_two_sum(s: ScalarBuilder, x: Any, y: Any) -> tuple[Any, Any]:
    """``x + y`` and its rounding error, where x is 0 or abs(x) >= abs(y) (Dekker)."""
    total = s.add(x, y)
    return total, s.subtract(y, s.subtract(total, x))


# Pieces: exponentials -------------------------------------------------------------------------------


def _divide_by_ln2(s: ScalarBuilder, x: Any) -> tuple[Any, Any]:
    """The integer n nearest to x / ln 2, shifted, and ``x - n * ln 2``."""
    shifted, nearest = _round_product(s, x, INVERSE_LN2[float64][0])
    return shifted, _subtract_multiple(s, x, nearest, LN2[x.dtype])


def _subtract_multiple(s: ScalarBuilder, x: Any, n: Any, parts: Sequence[float]) -> Any:
    """``x - n * sum(parts)``."""
    for part in parts:
        x = s.fma(n, -part, x)
    return x


def _exp_near_zero(s: ScalarBuilder, x: Any, accuracy: DType) -> Any:
    """``exp(x)`` for x between -ln(2) / 2 and ln(2) / 2, as accurate as the type ``accuracy``."""
    return _polynomial(s, x, (1.0, 1.0, *EXPONENTIAL[accuracy]))


def _expm1_near_zero(s: ScalarBuilder, x: Any) -> tuple[Any, Any]:
    """n, shifted, and ``expm1(r)``, with x = ``n * ln 2 + r``."""
    shifted, remainder = _divide_by_ln2(s, x)
    square = s.multiply(remainder, remainder)
    return shifted, s.fma(square, _polynomial(s, remainder, EXPONENTIAL[x.dtype]), remainder)


# Pieces: logarithms ---------------------------------------------------------------------------------


def _log_of_parts(s: ScalarBuilder, exponent: Any, fraction: Any) -> Any:
    """``log(2**exponent * (1 + fraction))``, with 1 + fraction between sqrt(1/2) and sqrt(2)."""
    return s.fma(exponent, LN2[float64][0], s.add(fraction, _log1p_tail(s, fraction)))


def _log_special_cases(s: ScalarBuilder, x: Any, result: Any) -> Any:
    """-inf for 0, NaN for negative numbers, x itself for infinity and NaN."""
    result = s.select(s.lt(x, math.inf), result, x)
    return s.select(s.gt(x, 0.0), result, s.select(s.eq(x, 0.0), s.constant(-math.inf, x.dtype), math.nan))


def _split(s: ScalarBuilder, x: Any) -> tuple[Any, Any]:
    """k and ``m - 1`` as floats, with x = ``2**k * m`` and m between sqrt(1/2) and sqrt(2), for x > 0."""
    form = FORMATS[x.dtype]
    digits = form.fraction_bits + 1
    is_subnormal = s.lt(x, 2.0 ** (1 - form.bias))
    zero = s.select(is_subnormal, s.constant(form.integer_zero + digits, x.dtype), form.integer_zero)
    return _split_normal(s, s.select(is_subnormal, s.multiply(x, 2.0**digits), x), zero)


def _split_normal(s: ScalarBuilder, x: Any, zero: Any) -> tuple[Any, Any]:
    """The same for a normal x; ``zero`` as for :func:`_exponent`."""
    form = FORMATS[x.dtype]
    moved_bits = _bits_from_sqrt_half(s, x)
    mantissa = s.bitcast(s.add(s.and_(moved_bits, form.fraction_mask), form.sqrt_half), x.dtype)
    return _exponent(s, moved_bits, x.dtype, zero), s.subtract(mantissa, 1.0)


def _bits_from_sqrt_half(s: ScalarBuilder, x: Any) -> Any:
    """The bits of x, moved so that the exponent field changes at ``2**k * sqrt(1/2)`` instead of ``2**k``."""
    form = FORMATS[x.dtype]
    return s.add(s.bitcast(x, form.bits), form.one - form.sqrt_half)


def _exponent(s: ScalarBuilder, bits: Any, dtype: DType, zero: Any) -> Any:
    """The exponent field of a positive number as a float; ``zero`` is subtracted (see Format.integer_zero)."""
    form = FORMATS[dtype]
    field = s.shift_right(bits, form.fraction_bits)
    return s.subtract(s.bitcast(s.or_(field, (form.bias + form.fraction_bits) << form.fraction_bits), dtype), zero)


def _inverse_power_of_two(s: ScalarBuilder, bits: Any, dtype: DType) -> Any:
    """``2**-k``, where k is the exponent of a positive number; it may be subnormal."""
    form = FORMATS[dtype]
    field = s.and_(bits, form.sign_bit - 1 - form.fraction_mask)
    four_times = s.subtract(s.constant((2 * form.bias + 2) << form.fraction_bits, form.bits), field)
    return s.multiply(s.bitcast(four_times, dtype), 0.25)


def _log1p_tail(s: ScalarBuilder, x: Any) -> Any:
    """``log1p(x) - x`` for 1 + x between sqrt(1/2) and sqrt(2); the float64 form is that of FreeBSD's e_log.c."""
    square = s.multiply(x, x)
    if x.dtype == float32:
        return s.multiply(square, _polynomial(s, x, LOG1P_FLOAT32))
    half_square = s.multiply(square, 0.5)
    ratio = s.divide(x, s.add(x, 2.0))
    ratio_square = s.multiply(ratio, ratio)
    series = s.fma(ratio_square, _polynomial(s, ratio_square, LOG1P_FLOAT64), half_square)
    return s.fma(ratio, series, s.negate(half_square))


def _log2_twice_precise(s: ScalarBuilder, x: Any) -> tuple[Any, Any]:
    """``log2(x)`` as a sum of two floats, from the series of ``log2((1 + q) / (1 - q))`` in q, after SLEEF's pow."""
    exponent, fraction = _split(s, x)

    divisor, divisor_error = _quick_two_sum(s, s.constant(2.0, x.dtype), fraction)
    inverse = s.divide(s.constant(1.0, x.dtype), divisor)
    ratio = s.multiply(fraction, inverse)
    negated = s.negate(ratio)
    ratio_error = s.multiply(s.fma(negated, divisor_error, s.fma(negated, divisor, fraction)), inverse)

    square, square_error = _two_product(s, ratio, ratio)
    square_error = s.fma(s.add(ratio, ratio), ratio_error, square_error)

    (first, first_error), (third, third_error), others = LOG2_SERIES_FLOAT64
    tail = s.multiply(square, _polynomial(s, square, others))
    inner, inner_error = _quick_two_sum(s, s.constant(third, x.dtype), tail)
    inner_error = s.add(inner_error, third_error)
    product, product_error = _two_product(s, square, inner)
    product_error = s.fma(square, inner_error, s.fma(square_error, inner, product_error))
    slope, slope_error = _quick_two_sum(s, s.constant(first, x.dtype), product)
    slope_error = s.add(slope_error, s.add(product_error, first_error))

    log2_of_mantissa, error = _two_product(s, ratio, slope)
    error = s.fma(ratio, slope_error, s.fma(ratio_error, slope, error))
    total, total_error = _quick_two_sum(s, exponent, log2_of_mantissa)
    return total, s.add(total_error, error)
