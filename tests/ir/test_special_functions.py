"""The elementary functions stay within their published errors, and treat special cases as C99 says."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import product
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.ir.scalar_evaluator import Evaluator
from tests.ir.special_values import VALUES
from tracejit.ir import (
    bessel_functions,
    elementary_functions,
    gamma_functions,
    special_functions,
    trigonometric_functions,
)
from tracejit.ir.types import DType, float32, float64

INF, NAN = math.inf, math.nan
FLOATS = [pytest.param(float32, id="f32"), pytest.param(float64, id="f64")]


MODULES = (special_functions, trigonometric_functions, elementary_functions, gamma_functions, bessel_functions)


def run(name: str, *arguments: np.ndarray) -> np.ndarray:
    program = next(vars(module)[name] for module in MODULES if name in vars(module))
    result = program(Evaluator(), *arguments)
    assert result.dtype == arguments[0].dtype
    return result


def ulps(result: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The errors in units in the last place of the exact result; too large a number counts as ``2 ** emax``."""
    info = np.finfo(result.dtype)
    ends = np.longdouble(2) ** info.maxexp
    exponent = np.clip(np.frexp(exact)[1], info.minexp + 1, info.maxexp)
    unit = np.ldexp(np.longdouble(1), exponent - info.nmant - 1)
    error = np.abs(np.clip(result.astype(np.longdouble), -ends, ends) - np.clip(exact, -ends, ends)) / unit
    return np.where(np.isnan(exact) & np.isnan(result), 0, np.where(np.isnan(error), INF, error))


def bound(name: str, dtype: DType) -> float:
    """The published error; skips the test where ``longdouble`` is too narrow to measure it."""
    if dtype == float64 and np.finfo(np.longdouble).nmant < 60:
        pytest.skip("long double is hardly wider than float64 here")
    return PUBLISHED[name].float32_ulps if dtype == float32 else PUBLISHED[name].float64_ulps


def assert_same(result: np.ndarray, expected: np.ndarray) -> None:
    """Equal, the signs of zeros too."""
    np.testing.assert_array_equal(result, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])


# Accuracy -------------------------------------------------------------------------------------------


def _erf(x: np.ndarray) -> np.ndarray:
    """The series ``exp(-x**2) * sum(2**n * x**(2n + 1) / (1 * 3 … (2n + 1)))``, whose terms have one sign."""
    x = np.clip(x, -7, 7)
    term = total = x
    for n in range(1, 220):
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return total * np.exp(-x * x) * (2 / np.sqrt(4 * np.arctan(np.longdouble(1))))


def _erf_inv(x: np.ndarray) -> np.ndarray:
    """Newton's iteration; good to float64 where abs(x) < 0.99, and to float32 everywhere."""
    inside = np.where(np.abs(x) < 1, x, 0)
    inverse = np.vectorize(lambda p: NormalDist().inv_cdf(p) / math.sqrt(2), otypes=[np.float64])
    y = inverse(inside.astype(np.float64) / 2 + 0.5).astype(np.longdouble)
    for _ in range(3):
        y = y - (_erf(y) - inside) * np.exp(y * y) * (np.sqrt(4 * np.arctan(np.longdouble(1))) / 2)
    return np.where(np.abs(x) < 1, y, np.where(np.abs(x) == 1, np.copysign(INF, x), NAN))


def _logistic(x: np.ndarray) -> np.ndarray:
    decay = np.exp(-np.abs(x))
    return np.where(x < 0, decay, 1) / (1 + decay)


class Accuracy(NamedTuple):
    """A published error for each type, and ranges to measure it in, besides numbers of any exponent."""

    exact: Callable[..., np.ndarray]
    float32_ulps: float
    float64_ulps: float
    ranges: tuple[tuple[float, float], ...]


PUBLISHED = {
    "exp": Accuracy(np.exp, 0.93, 1.0, ((-750, 720), (-105, 90), (-1, 1))),
    "exp2": Accuracy(np.exp2, 0.92, 1.0, ((-1080, 1030), (-152, 130), (-1, 1))),
    "expm1": Accuracy(np.expm1, 1.31, 1.5, ((-40, 720), (-18, 90), (-1, 1), (0.34, 0.4))),
    "logistic": Accuracy(_logistic, 1.65, 1.7, ((-750, 40), (-105, 20), (-3, 3))),
    "tanh": Accuracy(np.tanh, 1.85, 2.0, ((-20, 20), (-1, 1), (0.5, 0.6), (0.17, 0.26))),
    "erf": Accuracy(_erf, 1.84, 1.8, ((-6, 6), (-1, 1), (0.1, 0.3))),
    "log": Accuracy(np.log, 0.91, 1.3, ((0, 10), (0.6, 1.6), (0.99, 1.01))),
    "log2": Accuracy(np.log2, 1.09, 1.2, ((0, 10), (0.6, 1.6), (0.99, 1.01))),
    "log1p": Accuracy(np.log1p, 1.52, 1.9, ((-1, 10), (-0.4, 0.6), (-0.01, 0.01))),
    "sin": Accuracy(np.sin, 1.54, 1.6, ((-4, 4), (-1e5, 1e5), (-3e13, 3e13), (-1e15, 1e15))),
    "cos": Accuracy(np.cos, 1.54, 1.6, ((-4, 4), (-1e5, 1e5), (-3e13, 3e13), (-1e15, 1e15))),
    "tan": Accuracy(np.tan, 0.54, 1.8, ((-4, 4), (-1e5, 1e5), (-3e13, 3e13), (-1e15, 1e15))),
    "asin": Accuracy(np.arcsin, 1.8, 1.7, ((-1, 1), (-1e-3, 1e-3))),
    "acos": Accuracy(np.arccos, 1.8, 1.7, ((-1, 1), (0.999, 1))),
    "atan": Accuracy(np.arctan, 1.8, 1.7, ((-1, 1), (-5, 5))),
    "sinh": Accuracy(np.sinh, 2.8, 2.8, ((-1, 1), (-90, 90), (-710, 710))),
    "cosh": Accuracy(np.cosh, 2.8, 2.8, ((-1, 1), (-90, 90), (-710, 710))),
    "asinh": Accuracy(np.arcsinh, 2.2, 2.3, ((-1, 1), (-100, 100))),
    "acosh": Accuracy(np.arccosh, 2.5, 2.5, ((1, 2), (1, 100))),
    "atanh": Accuracy(np.arctanh, 2.2, 2.3, ((-1, 1), (-1e-2, 1e-2))),
    "log10": Accuracy(np.log10, 1.0, 1.0, ((0, 10), (0.6, 1.6), (0.99, 1.01))),
    "rsqrt": Accuracy(lambda x: 1 / np.sqrt(x), 1.50, 1.5, ((0, 4), (1, 1.1))),
    "erf_inv": Accuracy(_erf_inv, 2.68, 3.1, ((-0.99, 0.99), (0.85, 0.97))),
    "power": Accuracy(np.power, 0.7, 1.3, ()),  # of two arguments: see test_published_error_of_power
}


def any_exponent(dtype: DType, each: int, random: np.random.Generator) -> np.ndarray:
    """Numbers of every sign and exponent: subnormal, normal, infinite, NaN."""
    bits = np.dtype(f"u{dtype.itemsize}")
    fraction = np.finfo(dtype).nmant
    high = np.arange(1 << (8 * dtype.itemsize - fraction), dtype=bits) << bits.type(fraction)
    low = random.integers(0, 1 << fraction, size=(each, high.size), dtype=bits)
    low[0] = 0
    return (high | low).ravel().view(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "power"])
def test_published_error(name: str, dtype: DType) -> None:
    accuracy, most = PUBLISHED[name], bound(name, dtype)
    random = np.random.default_rng(1)
    count, each = (12_000, 8) if dtype == float32 else (600, 2)
    sweep = any_exponent(dtype, each, random)
    if name == "erf_inv":
        sweep = sweep[np.abs(sweep) < 0.9]
    for x in (sweep, *(random.uniform(low, high, count).astype(dtype) for low, high in accuracy.ranges)):
        with np.errstate(all="ignore"):
            error = ulps(run(name, x), accuracy.exact(x.astype(np.longdouble)))
        worst = np.argmax(error)
        assert error[worst] <= most, f"{name}({x[worst]!r}) is off by {error[worst]} ulp"


@pytest.mark.parametrize("dtype", FLOATS)
def test_published_error_of_power(dtype: DType) -> None:
    most = bound("power", dtype)
    random = np.random.default_rng(2)
    info = np.finfo(dtype)
    count = 20_000 if dtype == float32 else 800
    exponent = random.uniform(info.minexp - info.nmant, info.maxexp, count)
    x = np.concatenate([
        np.exp2(random.uniform(info.minexp - info.nmant, info.maxexp, count).astype(np.longdouble)),
        random.uniform(0.5, 2, count),
        1 + random.uniform(-1, 1, count) * np.exp2(-random.uniform(1, info.nmant - 1, count)),
    ]).astype(dtype)  # fmt: skip
    x = np.where(x == 1, 2, x)
    y = (np.tile(exponent, 3) / np.log2(x.astype(np.longdouble))).astype(dtype)
    exact = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert ulps(run("power", x, y), exact).max() <= most


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "most"), [("atan2", (1.9, 1.9)), ("hypot", (0.6, 2.0))])
def test_published_error_of_two_arguments(name: str, most: tuple[float, float], dtype: DType) -> None:
    bound("sin", dtype)  # skips
    sweep = any_exponent(dtype, 8, np.random.default_rng(3))
    sweep = sweep[~np.isnan(sweep)]
    x, y = np.random.default_rng(4).permuted(np.tile(sweep, (2, 4)), axis=1)
    with np.errstate(over="ignore"):
        near = y * np.random.default_rng(5).uniform(0.2, 5, y.size).astype(dtype)
    for first, second in (x, y), (x, np.ones_like(x)), (near, y), (near, -y):
        exact = {"atan2": np.arctan2, "hypot": np.hypot}[name](
            first.astype(np.longdouble), second.astype(np.longdouble)
        )
        assert ulps(run(name, first, second), exact).max() <= most[dtype == float64]


# erf_inv(1 - 2**n) to 30 digits, from mpmath.
TAIL_OF_ERF_INV = {
    -5: "1.5230194019969561109680060385",
    -10: "2.33146777362194767232054591435",
    -20: "3.465505025803330717256203997",
    -24: "3.83250685690071090945826117221",
    -40: "5.05125408524938996707226326326",
    -53: "5.86358474875516792720766258583",
}


@pytest.mark.parametrize("dtype", FLOATS)
def test_tail_of_erf_inv(dtype: DType) -> None:
    exponents = [e for e in TAIL_OF_ERF_INV if e >= -np.finfo(dtype).nmant - 1]
    x = np.array([1 - 2.0**e for e in exponents], dtype)
    exact = np.array([np.longdouble(TAIL_OF_ERF_INV[e]) for e in exponents])
    assert ulps(run("erf_inv", x), exact).max() <= bound("erf_inv", dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_near_multiples_of_half_pi(name: str, dtype: DType) -> None:
    multiples = np.concatenate([np.arange(1, 200), np.exp2(np.linspace(8, 44, 300)).round()])
    x = (multiples * (math.pi / 2)).astype(dtype)
    x = np.concatenate([np.nextafter(x, dtype.type(0)), x, np.nextafter(x, dtype.type(INF))])
    error = ulps(run(name, x), PUBLISHED[name].exact(x.astype(np.longdouble)))
    assert error.max() <= bound(name, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_next_to_multiples_of_half_pi(name: str, dtype: DType) -> None:
    """The numbers of each type that come closest to a multiple of pi / 2 (from Muller's "Elementary Functions")."""
    nearest = 6381956970095103 * 2.0**797 if dtype == float64 else 16367173 * 2.0**72
    x = np.array([nearest, -nearest], dtype)
    assert abs(run("cos", x)[0]) == pytest.approx(4.6871659e-19 if dtype == float64 else 1.6147698e-09, rel=1e-7)
    assert ulps(run(name, x), PUBLISHED[name].exact(x.astype(np.longdouble))).max() <= bound(name, dtype)


# The largest errors for float32 and float64 of what is computed in float64, and whether they are relative to 1 where
# the result is smaller.
FROM_TABLE: dict[str, tuple[Callable[..., Any], float, float, bool]] = {
    "erfc": (special_functions.erfc, 0.51, 3.6, False),
    "erfcx": (special_functions.erfcx, 0.51, 3.6, False),
    "lgamma": (gamma_functions.lgamma, 0.51, 2.5, False),
    "digamma": (partial(gamma_functions.polygamma, order=0), 0.51, 8.0, True),
    "trigamma": (partial(gamma_functions.polygamma, order=1), 0.51, 4.0, False),
    "tetragamma": (partial(gamma_functions.polygamma, order=2), 0.51, 4.0, False),
    "i0e": (bessel_functions.i0e, 0.51, 2.5, False),
    "i1e": (bessel_functions.i1e, 0.51, 2.5, False),
    "reflected lgamma": (gamma_functions.lgamma, 0.51, 4.0, True),
    "reflected digamma": (partial(gamma_functions.polygamma, order=0), 0.51, 8.0, True),
    "reflected trigamma": (partial(gamma_functions.polygamma, order=1), 0.51, 8.0, True),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", VALUES)
def test_values_from_a_table(name: str, dtype: DType) -> None:
    bound("sin", dtype)  # skips
    program, float32_ulps, float64_ulps, from_one = FROM_TABLE[name]
    x = np.array([*VALUES[name]], dtype)
    exact = np.array([np.longdouble(digits) for digits in VALUES[name].values()])
    result: Any = program(Evaluator(), x)
    assert result.dtype == dtype
    error = ulps(result, exact)
    if from_one:
        scale = np.spacing(np.maximum(np.abs(exact), 1).astype(dtype))
        error = np.minimum(error, np.abs(result - exact) / scale)
    assert error.max() <= (float32_ulps if dtype == float32 else float64_ulps), x[error.argmax()]


# Special cases --------------------------------------------------------------------------------------

EXACT = {
    "exp": ([-INF, -1e4, -0.0, 0.0, 1e4, INF], [0.0, 0.0, 1.0, 1.0, INF, INF]),
    "exp2": ([-INF, -1e4, -10.0, -0.0, 0.0, 100.0, 1e4, INF], [0.0, 0.0, 2.0**-10, 1.0, 1.0, 2.0**100, INF, INF]),
    "expm1": ([-INF, -100.0, -0.0, 0.0, 1e4, INF], [-1.0, -1.0, -0.0, 0.0, INF, INF]),
    "logistic": ([-INF, -1e4, -0.0, 0.0, 100.0, INF], [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]),
    "tanh": ([-INF, -30.0, -0.0, 0.0, 30.0, INF], [-1.0, -1.0, -0.0, 0.0, 1.0, 1.0]),
    "erf": ([-INF, -10.0, -0.0, 0.0, 10.0, INF], [-1.0, -1.0, -0.0, 0.0, 1.0, 1.0]),
    "log": ([-INF, -1.0, -0.0, 0.0, 1.0, INF], [NAN, NAN, -INF, -INF, 0.0, INF]),
    "log2": ([-INF, -1.0, -0.0, 0.0, 2.0**-130, 1.0, 1024.0, INF], [NAN, NAN, -INF, -INF, -130.0, 0.0, 10.0, INF]),
    "log1p": ([-INF, -2.0, -1.0, -0.0, 0.0, INF], [NAN, NAN, -INF, -0.0, 0.0, INF]),
    "sin": ([-INF, -0.0, 0.0, INF], [NAN, -0.0, 0.0, NAN]),
    "cos": ([-INF, -0.0, 0.0, INF], [NAN, 1.0, 1.0, NAN]),
    "tan": ([-INF, -0.0, 0.0, INF], [NAN, -0.0, 0.0, NAN]),
    "rsqrt": ([-INF, -1.0, -0.0, 0.0, 0.25, INF], [NAN, NAN, -INF, INF, 2.0, 0.0]),
    "erfc": ([-INF, -10.0, -0.0, 0.0, 40.0, INF], [2.0, 2.0, 1.0, 1.0, 0.0, 0.0]),
    "erfcx": ([-INF, -40.0, -0.0, 0.0, INF], [INF, INF, 1.0, 1.0, 0.0]),
    "lgamma": ([-INF, -2.0, -0.0, 0.0, 1.0, 2.0, INF], [INF, INF, INF, INF, 0.0, 0.0, INF]),
    "i0e": ([-INF, -0.0, 0.0, INF], [0.0, 1.0, 1.0, 0.0]),
    "i1e": ([-INF, -0.0, 0.0, INF], [-0.0, -0.0, 0.0, 0.0]),
    "erf_inv": ([-INF, -2.0, -1.0, -0.0, 0.0, 1.0, 1.5, INF], [NAN, NAN, -INF, -0.0, 0.0, INF, NAN, NAN]),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_exact_results(name: str, dtype: DType) -> None:
    arguments, results = (np.array(values, dtype) for values in EXACT[name])
    assert_same(run(name, arguments), results)


@pytest.mark.parametrize("dtype", FLOATS)
def test_poles_of_polygamma(dtype: DType) -> None:
    x = np.array([-INF, -2.0, -0.0, 0.0, INF, NAN], dtype)
    for order, expected in (0, [NAN, NAN, INF, -INF, INF, NAN]), (1, [NAN, INF, INF, INF, 0.0, NAN]):
        assert_same(gamma_functions.polygamma(Evaluator(), x, order), np.array(expected, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_power_has_the_special_cases_of_c99(dtype: DType) -> None:
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny, 0.5, 1 - info.epsneg, 1.0, 1 + info.eps, 2.0, 2.5, 3.0, 101.0]
    positive += [2.0**info.nmant + 1, 2.0 ** (info.nmant + 1), info.max, INF]
    values = [NAN, *positive, *(-v for v in positive)]
    x, y = np.array([*product(values, values)], dtype).T
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(float64), y.astype(float64)).astype(dtype)
    result = run("power", x, y)
    finite = np.isfinite(expected) & (expected != 0)
    assert_same(result[~finite], expected[~finite])
    assert ulps(result[finite], expected[finite].astype(np.longdouble)).max() <= 2


@pytest.mark.parametrize("dtype", FLOATS)
def test_power_of_integers_is_exact(dtype: DType) -> None:
    x = np.arange(-200, 201).astype(dtype)
    for y in 0, 1, 2, 3:
        assert_same(run("power", x, np.full_like(x, y)), x**y)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*PUBLISHED, "erfc", "erfcx", "lgamma", "i0e", "i1e"])
def test_nan_stays_nan_whatever_its_payload(name: str, dtype: DType) -> None:
    bits = np.dtype(f"u{dtype.itemsize}")
    infinity = int(np.array(INF, dtype).view(bits))
    payloads = np.random.default_rng(3).integers(infinity + 1, 1 << (8 * dtype.itemsize - 1), size=200, dtype=bits)
    payloads[:2] = infinity + 1, (1 << (8 * dtype.itemsize - 1)) - 1
    nan = np.concatenate([payloads, payloads | bits.type(1 << (8 * dtype.itemsize - 1))]).view(dtype)
    other = [np.full_like(nan, 2.5)] if name == "power" else []
    assert np.isnan(run(name, nan, *other)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "tan", "erf_inv"])
def test_odd_functions(name: str, dtype: DType) -> None:
    x = any_exponent(dtype, 2, np.random.default_rng(4))
    assert_same(run(name, -x), -run(name, x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "low"), [("tanh", -1), ("erf", -1), ("sin", -1), ("cos", -1), ("logistic", 0)])
def test_bounded_functions(name: str, low: int, dtype: DType) -> None:
    near_multiples = np.arange(-50, 50) * (math.pi / 2)
    x = np.concatenate([near_multiples, near_multiples + 1e-4, np.linspace(-25, 25, 500)]).astype(dtype)
    result = run(name, x)
    assert result.min() >= low
    assert result.max() <= 1


# The evaluator --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_is_rounded_once(dtype: DType) -> None:
    random = np.random.default_rng(5)
    x, y = random.uniform(-1, 1, (2, 300)).astype(dtype)
    z = np.where(np.arange(300) % 2, -x * y, random.uniform(-1, 1, 300) * np.exp2(random.integers(-60, 60, 300)))
    z = z.astype(dtype)
    result: Any = Evaluator().fma(x, y, z)
    for got, *operands in zip(result, x, y, z, strict=True):
        a, b, c = map(Fraction, map(float, operands))
        error = abs(Fraction(float(got)) - (a * b + c))
        neighbours = (Fraction(float(np.nextafter(got, dtype.type(end)))) for end in (-INF, INF))
        assert all(error <= abs(neighbour - (a * b + c)) for neighbour in neighbours)
