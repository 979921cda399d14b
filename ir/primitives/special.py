"""Special functions: the complements of erf, the logarithm of the gamma function and its derivatives, Bessel functions.

Half-precision numbers are computed in Python, from series.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import bessel_functions as bessel, gamma_functions as gamma, special_functions as special
from ..primitive import Application, Elementwise, Emitter, per_operand
from ..types import TensorType, is_floating, short_name
from .elementwise import _function, _vectorized, partials

TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)


def _erfcx_float(x: float) -> float:
    if x < 25:
        return math.exp(x * x) * math.erfc(x) if x > -26 else math.inf
    return (1 - 1 / (2 * x * x)) / (x * math.sqrt(math.pi))


def _erfc_vjp(e: Emitter, g: Any, op: Application) -> Any:
    x = op.operands[0]
    return e.multiply(e.multiply(g, -TWO_OVER_SQRT_PI), e.exponential(e.negate(e.multiply(x, x))))


def _erfcx_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """``2 * x * y - 2 / sqrt(pi)``."""
    slope = e.subtract(e.multiply(e.multiply(op.operands[0], 2), op.result), TWO_OVER_SQRT_PI)
    return e.multiply(g, slope)


erfc = _function("erfc", _vectorized(math.erfc), special.erfc, _erfc_vjp, "0", is_floating)
erfcx = _function("erfcx", _vectorized(_erfcx_float), special.erfcx, _erfcx_vjp, "0r", is_floating)

# Gamma ----------------------------------------------------------------------------------------------


def _lgamma_float(x: float) -> float:
    return math.inf if x <= 0 and x == math.floor(x) else math.lgamma(x)


def _polygamma_float(x: float, order: int) -> float:
    """The asymptotic series of ``x + 20``, and the recurrence."""
    if math.isnan(x) or math.isinf(x):
        return x if order == 0 or x != math.inf else 0.0
    sign = 1.0 if order % 2 else -1.0
    total = 0.0
    while x < 20:
        if x == 0:
            return math.inf if order % 2 else -math.inf
        total += sign * math.factorial(order) / x ** (order + 1)
        x += 1
    if order == 0:
        total += math.log(x) - 0.5 / x
    else:
        total += sign * (math.factorial(order - 1) / x**order + math.factorial(order) / (2 * x ** (order + 1)))
    for j, number in enumerate(gamma.BERNOULLI, start=1):
        rising = math.factorial(2 * j + order - 1) / math.factorial(2 * j)
        total += sign * number * rising / x ** (2 * j + order)
    return total


def _polygamma_type(x: TensorType, order: int) -> TensorType:
    if not is_floating(x.dtype):
        raise TypeError(f"polygamma is not defined for {short_name(x.dtype)}, got {x!r}")
    if not 0 <= order <= 100:
        raise ValueError(f"polygamma: the order must be between 0 and 100, got {order}")
    return x


def _polygamma_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return e.multiply(g, e.polygamma(op.operands[0], order=op.attributes["order"] + 1))


lgamma = _function(
    "lgamma",
    _vectorized(_lgamma_float),
    gamma.lgamma,
    lambda e, g, op: e.multiply(g, e.polygamma(op.operands[0], order=0)),
    "0",
    is_floating,
)
polygamma = Elementwise(
    name="polygamma",
    type_rule=_polygamma_type,
    numpy=lambda x, order: _vectorized(lambda number: _polygamma_float(number, order))(x),
    scalar=gamma.polygamma,
    exact=False,
    vjp=per_operand(_polygamma_vjp),
    jvp=partials(_polygamma_vjp),
    saves="0",
)

# Bessel functions -----------------------------------------------------------------------------------


def _bessel_float(order: int) -> Callable[[float], float]:
    def evaluate(x: float) -> float:
        a = math.fabs(x)
        if a > 30:
            series = term = 1.0
            for k in range(1, 20):
                term *= -(4 * order * order - (2 * k - 1) ** 2) / (8 * k * a)
                series += term
            value = series / math.sqrt(2 * math.pi * a)
        else:
            value = term = (a / 2) ** order
            for k in range(1, 80):
                term *= a * a / (4 * k * (k + order))
                value += term
            value *= math.exp(-a)
        return math.copysign(value, x) if order % 2 else value

    return evaluate


def _i0e_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """``i1e(x) - sign(x) * i0e(x)``."""
    x = op.operands[0]
    return e.multiply(g, e.subtract(e.bessel_i1e(x), e.multiply(e.sign(x), op.result)))


def _i1e_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """``i0e(x) - i1e(x) * (sign(x) + 1 / x)``, and 1/2 at 0."""
    x = op.operands[0]
    at_zero = e.compare(x, 0, direction="eq")
    safe = e.select(at_zero, e.scalar(1, x.dtype), x)
    inner = e.multiply(op.result, e.add(e.sign(x), e.divide(e.scalar(1, x.dtype), safe)))
    slope = e.subtract(e.bessel_i0e(x), inner)
    return e.multiply(g, e.select(at_zero, e.scalar(0.5, x.dtype), slope))


bessel_i0e = _function("bessel_i0e", _vectorized(_bessel_float(0)), bessel.i0e, _i0e_vjp, "0r", is_floating)
bessel_i1e = _function("bessel_i1e", _vectorized(_bessel_float(1)), bessel.i1e, _i1e_vjp, "0r", is_floating)
