"""Functions of each element: arithmetic, comparisons, logic, elementary and special functions."""

import numpy as np
import pytest

import tracejit as tj

from . import references as by
from .table import BOOL, COMPLEX, F32, F64, FLOATS, I32, I64, INTEGERS, TWO, U8, binary, checks_of, row, unary

pytestmark = pytest.mark.usefixtures("first_code_only")

FUNCTION = {"dtypes": (*FLOATS, I32, BOOL), "result": "float", "ulps": 4}
OF_FLOATS = FUNCTION | {"dtypes": FLOATS}
ARITHMETIC = {"dtypes": (*FLOATS, *INTEGERS)}
STEP = {"dtypes": (*FLOATS, *INTEGERS)}
EXTREMUM = {"dtypes": (*FLOATS, *INTEGERS, BOOL), "zeros": False}
PREDICATE = {"dtypes": (*FLOATS, *INTEGERS, BOOL), "result": BOOL, "gradient": False}
BITWISE = {"dtypes": (*INTEGERS, BOOL), "gradient": False}
SHIFT = {"dtypes": INTEGERS, "low": 0, "gradient": False}
INSIDE = {"low": -0.9, "high": 0.9}
POSITIVE = {"low": 0.1, "high": 4}
SPECIAL = {"dtypes": (*FLOATS, I32), "result": "float"}

ROWS = [
    # Arithmetic
    binary("add", **ARITHMETIC),
    binary("subtract", **ARITHMETIC),
    binary("multiply", **ARITHMETIC),
    binary("divide", dtypes=(*FLOATS, I32, I64), result="float"),
    binary("floor_divide", dtypes=(*FLOATS, I32, I64, U8), specials=False),  # NumPy: 1.0 // -inf == -1
    binary("remainder", dtypes=(*FLOATS, I32, I64, U8)),
    binary("pow", **OF_FLOATS | {"low": 0.2, "high": 3}),
    binary("pow", dtypes=INTEGERS, low=0, gradient=False, specials=False, detail="of integers"),
    *[
        row("pow", (3, 4), (), call=lambda x, n=n: tj.pow(x, n), like=lambda x, n=n: x**n, ulps=4, low=0.3,
            detail=f"to the {n}")
        for n in (1, 2, 3, 4, 5, -1, -2, 0.5, 2.5)
    ],
    row("pow", (3, 4), call=lambda x: tj.pow(2, x), like=lambda x: 2**x, ulps=4, detail="of 2"),
    unary("negative", **ARITHMETIC),
    unary("positive", **ARITHMETIC),
    unary("abs", **ARITHMETIC),
    unary("sign", **ARITHMETIC),
    unary("square", **ARITHMETIC),
    unary("reciprocal", low=0.3, high=3),
    binary("maximum", **EXTREMUM),
    binary("minimum", **EXTREMUM),
    binary("fmax", **EXTREMUM),
    binary("fmin", **EXTREMUM),
    row("clip", (3, 4), (), (0,), args=(-0.5, 0.7), dtypes=FLOATS),
    row("clip", (3, 4), (0,), call=lambda x: tj.clip(x, max=1), like=lambda x: np.minimum(x, 1), dtypes=(*FLOATS, I64),
        detail="from above"),
    row("clip", ((3, 4), (4,), (3, 1)), ((), (), ()), dtypes=FLOATS, detail="to tensors"),
    binary("copysign"),
    binary("nextafter", gradient=False),
    binary("heaviside", **OF_FLOATS | {"ulps": 0}),
    unary("relu", by.relu, **ARITHMETIC),
    unary("floor", **STEP),
    unary("ceil", **STEP),
    unary("round", np.rint, **STEP),
    row("round", (3, 4), (0,), args=(2,), dtypes=FLOATS, gradient=False),
    row("round", (3, 4), decimals=-1, low=-30, dtypes=(*FLOATS, I32, I64), gradient=False),
    row("round", (3, 4), args=(1,), dtypes=(I32,), gradient=False, detail="of integers"),
    unary("trunc", **STEP),
    unary("nan_to_num", dtypes=(*FLOATS, I64)),
    row("nan_to_num", (3, 4), nan=2.5, posinf=7.0, neginf=-7.0, dtypes=FLOATS, specials=True),
    unary("real", **ARITHMETIC),
    unary("conj", **ARITHMETIC),
    unary("angle", **OF_FLOATS | {"specials": False}),
    unary("deg2rad", **FUNCTION),
    unary("rad2deg", **FUNCTION),
    # Elementary functions
    unary("exp", **FUNCTION),
    unary("exp2", **FUNCTION),
    unary("expm1", **FUNCTION),
    unary("log", **FUNCTION | POSITIVE),
    unary("log2", **FUNCTION | POSITIVE),
    unary("log10", **FUNCTION | POSITIVE),
    unary("log1p", **FUNCTION | {"low": -0.9, "high": 4}),
    unary("sqrt", **FUNCTION | POSITIVE | {"ulps": 1}),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), **FUNCTION | POSITIVE),
    unary("sin", **FUNCTION),
    unary("cos", **FUNCTION),
    unary("tan", low=-1.2, high=1.2, **FUNCTION),
    unary("tanh", **FUNCTION),
    unary("sinh", **FUNCTION),
    unary("cosh", **FUNCTION),
    unary("asin", **FUNCTION | INSIDE),
    unary("acos", **FUNCTION | INSIDE),
    unary("atan", **FUNCTION),
    unary("asinh", **FUNCTION),
    unary("acosh", low=1.1, high=4, **FUNCTION),
    unary("atanh", **FUNCTION | INSIDE),
    binary("atan2", **OF_FLOATS),
    binary("hypot", **OF_FLOATS),
    binary("logaddexp", **OF_FLOATS | {"ulps": 16}),
    # Special functions
    unary("sigmoid", by.sigmoid, **FUNCTION),
    unary("expit", by.sigmoid, **FUNCTION),
    unary("logit", lambda x: np.log(x) - np.log1p(-x), **OF_FLOATS | {"low": 0.1, "high": 0.9, "ulps": 8,
        "slack": 1.0}),
    unary("softplus", lambda x: np.logaddexp(x, x.dtype.type(0)), **SPECIAL, ulps=8),
    unary("erf", by.erf, **FUNCTION),
    unary("erfc", by.erfc, **FUNCTION),
    unary("erfcx", by.by_scipy("erfcx"), **SPECIAL, ulps=8),
    unary("erfinv", by.erfinv, **OF_FLOATS | INSIDE | {"ulps": 64}),
    unary("ndtr", by.ndtr, **SPECIAL, ulps=16),
    unary("log_ndtr", by.by_scipy("log_ndtr"), **SPECIAL, ulps=16),
    unary("gammaln", by.gammaln, **SPECIAL, ulps=8, low=0.1, high=4, slack=1.0),
    row("lgamma", (3, 4), like=by.gammaln, ulps=8, low=0.1, high=4, slack=1.0),
    row("gammaln", (3, 4), like=by.gammaln, ulps=64, low=-2.9, high=-2.1, slack=1.0, detail="reflected"),
    unary("digamma", by.by_scipy("psi"), **SPECIAL, ulps=16, slack=1.0, low=0.1, high=4, specials=False),
    row("digamma", (3, 4), like=by.by_scipy("psi"), ulps=64, low=-2.9, high=-2.1, slack=1.0, detail="reflected"),
    *[
        row("polygamma", (3, 4), (), (0,), call=lambda x, n=n: tj.polygamma(n, x),
            like=lambda x, n=n: by.by_scipy("polygamma")(n, x), ulps=16, slack=0.0 if n else 1.0, low=0.5, high=9,
            detail=str(n))
        for n in (0, 1, 2, 5)
    ],
    unary("i0", by.by_scipy("i0"), **SPECIAL, ulps=8),
    unary("i0e", by.by_scipy("i0e"), **SPECIAL, ulps=8),
    unary("i1", by.by_scipy("i1"), **SPECIAL, ulps=8, zeros=False),
    unary("i1e", by.by_scipy("i1e"), **SPECIAL, ulps=8, zeros=False),
    unary("sinc", **SPECIAL, ulps=8, slack=1.0, specials=False),
    binary("xlogy", by.xlogy, **OF_FLOATS | {"low": 0.1, "high": 3, "specials": False}),
    # Complex numbers
    *[
        row(name, ((3, 4), (4,)), ((), (2,)), dtypes=COMPLEX, ulps=16, slack=1.0, detail="complex")
        for name in ("add", "subtract", "multiply", "divide", "pow")
    ],
    *[
        row(name, (3, 4), (), (0,), dtypes=COMPLEX, ulps=64, slack=1.0, detail="complex", low=0.2, like=like)
        for name, like in (
            ("negative", None), ("positive", None), ("square", None), ("reciprocal", None), ("sign", None), ("exp",
                None),
            ("exp2", None), ("expm1", None), ("log", None), ("log2", None), ("log10", None), ("log1p", None), ("sqrt",
                None),
            ("rsqrt", lambda x: 1 / np.sqrt(x)), ("sin", None), ("cos", None), ("tan", None), ("sinh", None), ("cosh",
                None),
            ("tanh", None), ("asin", None), ("acos", None), ("atan", None), ("asinh", None), ("acosh", None), ("atanh",
                None),
            ("sigmoid", by.sigmoid), ("conj", None), ("nan_to_num", None),
        )
    ],
    *[
        row(name, (3, 4), (), (0,), dtypes=COMPLEX, result="real", ulps=4, detail="complex")
        for name in ("real", "imag", "abs", "angle")
    ],
    row("isfinite", (3, 4), dtypes=COMPLEX, result=BOOL, gradient=False, detail="complex"),
    row("isclose", ((3, 4), (4,)), dtypes=COMPLEX, result=BOOL, gradient=False, rtol=1.0, detail="complex"),
    row("where", ((3, 4), (4,)), call=lambda x, y: tj.where(tj.real(x) < 0, x, y), like=lambda x,
        y: np.where(x.real < 0, x, y),
        dtypes=COMPLEX, detail="complex"),
    # Comparisons, logic, bits
    *[binary(name, **PREDICATE) for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")],
    *[unary(name, **PREDICATE) for name in ("isnan", "isinf", "isfinite", "logical_not")],
    *[binary(name, **PREDICATE) for name in ("logical_and", "logical_or", "logical_xor")],
    unary("signbit", result=BOOL, gradient=False),
    binary("isclose", **PREDICATE | {"specials": False}),
    binary("isclose", **PREDICATE | {"dtypes": FLOATS}, equal_nan=True, rtol=0.5, atol=0.1),
    binary("allclose", **PREDICATE | {"specials": False}),
    binary("array_equal", **PREDICATE, detail="of other shapes"),
    row("array_equal", ((3,), (3,)), prepare=np.ones_like, **PREDICATE),
    *[binary(name, **BITWISE) for name in ("bitwise_and", "bitwise_or", "bitwise_xor")],
    unary("bitwise_invert", **BITWISE),
    binary("bitwise_left_shift", **SHIFT),
    binary("bitwise_right_shift", **SHIFT),
    # Choice and conversion
    row("where", *TWO, call=lambda x, y: tj.where(x < y, x, y * 2), like=lambda x, y: np.where(x < y, x, y * 2),
        dtypes=(*FLOATS, I64)),
    row("where", (3, 4), (), call=lambda x: tj.where(x > 0, x, 0), like=lambda x: np.where(x > 0, x, x.dtype.type(0)),
        dtypes=(*FLOATS, I64), detail="a number"),
    row("where", (3, 9), call=lambda x: tj.where(x)[1], like=lambda x: np.where(x)[1], dtypes=(I64, BOOL), result=I64,
        gradient=False, by_value=True, detail="positions"),
    row("astype", (3, 4), (), (0,), args=(F64,), result=F64, like=lambda x, d: x.astype(d)),
    row("astype", (3, 4), args=(I32,), result=I32, gradient=False, like=lambda x, d: x.astype(d)),
    row("astype", (3, 4), call=lambda x: tj.astype(x, tj.bool), like=lambda x: x != 0, result=BOOL, gradient=False,
        detail="bool"),
]  # fmt: skip

test_value, test_special_values, test_gradient, test_gradient_of_a_jitted_function = checks_of(ROWS)


def test_derivatives_of_sinc_at_zero() -> None:
    """Those of the series, to fourth order."""
    x = tj.tensor(0.0, dtype=F64, requires_grad=True)
    value = tj.sinc(x)
    for expected in (1.0, 0.0, -(np.pi**2) / 3, 0.0, np.pi**4 / 5):
        assert value.item() == pytest.approx(expected)
        (value,) = tj.autograd.grad(value, x, create_graph=True)


def test_xlogy_at_zero() -> None:
    x = tj.tensor([0.0, 0.0, 0.0, 0.0], requires_grad=True)
    y = tj.tensor([0.0, np.nan, np.inf, 2.0], requires_grad=True)
    result = tj.xlogy(x, y)
    assert np.array_equal(np.asarray(result.detach()), [0, np.nan, 0, 0], equal_nan=True)
    to_x, to_y = tj.autograd.grad(result.sum(), (x, y))
    assert to_x[3] == tj.log(tj.tensor(2.0))
    assert to_y[3] == 0
    assert tj.isfinite(to_x[0])


def test_log_ndtr_far_out() -> None:
    """The derivative is the inverse Mills ratio: about -x on the left, and nothing on the right."""
    x = tj.tensor([-1e10, -30.0, -1.0, 30.0], dtype=F64, requires_grad=True)
    (slope,) = tj.autograd.grad(tj.log_ndtr(x).sum(), x)
    np.testing.assert_allclose(np.asarray(slope), [1e10, 30.03322, 1.5251353, 0], rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("function", [tj.digamma, tj.gammaln, tj.i0, tj.erfc, tj.erfcx, tj.softplus])
def test_half_precision(function) -> None:
    """To what is nearest in float16, but for a last digit."""
    for dtype in (tj.float16, tj.bfloat16):
        x = tj.tensor([0.5, 1.5, 2.7]).astype(dtype)
        result = function(x)
        assert result.dtype == dtype
        exact = np.asarray(function(x.astype(F32)))
        np.testing.assert_allclose(np.asarray(result).astype(F32), exact, rtol=2e-3 if dtype == tj.float16 else 2e-2)
        assert exact.dtype == F32


@pytest.mark.parametrize("dtype", [tj.float16, F32, F64, tj.complex64])
def test_exponents_that_are_whole_numbers(dtype) -> None:
    """Are so as floats too, to the bit, and in compiled code that is given them."""
    x = tj.tensor([0.1, 1.3, -7.7, 1e4]).astype(dtype)
    power = tj.jit(lambda x, y: x**y)
    for n in (1, 2, 3, 4):
        expected = x**n
        for found in (x ** float(n), power(x, float(n)), power(x, n)):
            assert (found.dtype, found.tolist()) == (dtype, expected.tolist())
    assert (tj.tensor([3]) ** 2.0).dtype == F32
    if dtype != tj.complex64:
        assert power(x, 2.5).numpy().tobytes() == (x**2.5).numpy().tobytes()
