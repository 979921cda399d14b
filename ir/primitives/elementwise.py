"""Elementwise primitives: arithmetic, comparisons, logic, elementary functions.

Operands broadcast by NumPy's rule and share one dtype (``select``'s predicate aside); promotion is
the caller's work.  Each record's ``scalar`` is its kernel; its derivative rules are products
``g * df/dx``, one an operand, which serve for cotangents and for tangents.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from .. import complex_numbers, special_functions as special, trigonometric_functions as trigonometric
from ..extents import has_extents
from ..primitive import (
    Application,
    Elementwise,
    Emitter,
    JvpRule,
    Rule,
    broadcast_rule,
    holomorphic,
    linear,
    per_operand,
    same_dtype,
    summed,
)
from ..types import (
    HALF_DTYPES,
    DType,
    TensorType,
    bool_,
    float32,
    is_differentiable,
    is_floating,
    is_integer,
    short_name,
)


def _numeric(dtype: DType) -> bool:
    return dtype != bool_


def _any(dtype: DType) -> bool:
    return True


def _signed(dtype: DType) -> bool:
    return is_differentiable(dtype) or dtype.kind == "i"


def _logical(dtype: DType) -> bool:
    return dtype == bool_ or is_integer(dtype)


def _type_rule(
    name: str, operands: int, accepts: Callable[[DType], bool], result: DType | None = None
) -> Callable[..., TensorType]:
    def rule(*types: TensorType) -> TensorType:
        if len(types) != operands:
            raise TypeError(f"{name} takes {operands} operand{'s' * (operands > 1)}, got {len(types)}")
        dtype = same_dtype(name, *types)
        if not accepts(dtype):
            raise TypeError(f"{name} is not defined for {short_name(dtype)}, got {', '.join(map(repr, types))}")
        return TensorType(result or dtype, broadcast_rule(name, *types))

    known = lru_cache(4096)(rule)

    def remembered(*types: TensorType) -> TensorType:
        for type in types:
            if has_extents(type.shape):
                return rule(*types)
        return known(*types)

    return remembered


def _unbroadcast(rule: Rule, index: int) -> Rule:
    """The cotangent of an operand that was stretched is summed back to the operand's shape."""

    def unbroadcast(e: Emitter, g: Any, op: Application) -> Any:
        return e.sum_to(rule(e, g, op), op.operand_types[index].shape)

    return unbroadcast


def partials(*rules: Rule) -> JvpRule:
    """The jvp rule of an elementwise primitive: tangents are stretched as the operands are."""

    def stretched(rule: Rule) -> Rule:
        return lambda e, t, op: rule(e, e.broadcast_to(t, op.result_type.shape), op)

    return summed(*map(stretched, rules))


def _conjugating(rule: Rule, saves: str) -> Rule:
    """The vjp of ``g * df/dx``; a rule that reads nothing multiplies by real numbers alone."""
    return holomorphic(rule) if saves else rule


def unary(
    name: str,
    numpy: Callable[..., Any],
    scalar: Callable[..., Any],
    *,
    accepts: Callable[[DType], bool] = is_differentiable,
    exact: bool = False,
    result: DType | None = None,
    vjp: Rule | None = None,
    adjoint: Rule | None = None,
    saves: str = "",
    **others: Any,
) -> Elementwise:
    """A record for a function of one operand; ``vjp(e, g, op)`` is ``g * df/dx``.

    ``adjoint`` is the vjp rule where, of complex numbers, that is not the product with the conjugate.
    """
    return Elementwise(
        name=name,
        type_rule=_type_rule(name, 1, accepts, result),
        numpy=numpy,
        scalar=scalar,
        exact=exact,
        vjp=None if vjp is None else per_operand(adjoint or _conjugating(vjp, saves)),
        jvp=None if vjp is None else partials(vjp),
        saves=saves,
        **others,
    )


def binary(
    name: str,
    numpy: Callable[..., Any],
    scalar: Callable[..., Any],
    *,
    accepts: Callable[[DType], bool] = _numeric,
    exact: bool = True,
    vjps: tuple[Rule, Rule] | None = None,
    saves: str = "",
    **others: Any,
) -> Elementwise:
    """A record for a function of two operands, with one derivative rule for each."""
    return Elementwise(
        name=name,
        type_rule=_type_rule(name, 2, accepts),
        numpy=numpy,
        scalar=scalar,
        exact=exact,
        vjp=None
        if vjps is None
        else per_operand(*(_unbroadcast(_conjugating(rule, saves), i) for i, rule in enumerate(vjps))),
        jvp=None if vjps is None else partials(*vjps),
        saves=saves,
        **others,
    )


def _zero(e: Emitter, g: Any, op: Application) -> Any:
    """The derivative of a step function."""
    return e.full(0, op.operand_types[0])


# Arithmetic -----------------------------------------------------------------------------------------

add = binary(
    "add",
    np.add,
    lambda s, x, y: s.add(x, y),
    vjps=(lambda e, g, op: g, lambda e, g, op: g),
    takes_complex=True,
)
subtract = binary(
    "subtract",
    np.subtract,
    lambda s, x, y: s.subtract(x, y),
    vjps=(lambda e, g, op: g, lambda e, g, op: e.negate(g)),
    takes_complex=True,
)
multiply = binary(
    "multiply",
    np.multiply,
    lambda s, x, y: s.multiply(x, y),
    vjps=(lambda e, g, op: e.multiply(g, op.operands[1]), lambda e, g, op: e.multiply(g, op.operands[0])),
    saves="01",
    takes_complex=True,
    numpy_complex=complex_numbers.multiply,
)
divide = binary(
    "divide",
    np.divide,
    lambda s, x, y: s.divide(x, y),
    accepts=is_differentiable,
    vjps=(
        lambda e, g, op: e.divide(g, op.operands[1]),
        lambda e, g, op: e.negate(e.divide(e.multiply(g, op.result), op.operands[1])),
    ),
    saves="1r",
    takes_complex=True,
)


def _tie_share(e: Emitter, g: Any, op: Application, direction: str, first: int) -> Any:
    """The cotangent of a maximum or minimum: all to the winner, half to each at a tie; NaN where either is NaN."""
    x, y = op.operands[first], op.operands[1 - first]
    tied = e.select(e.compare(x, y, direction="eq"), e.multiply(g, 0.5), e.scalar(math.nan, g.dtype))
    lost = "lt" if direction == "gt" else "gt"
    rest = e.select(e.compare(x, y, direction=lost), e.scalar(0, g.dtype), tied)
    return e.select(e.compare(x, y, direction=direction), g, rest)


def ieee_maximum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NumPy's, but -0.0 is less than 0.0, which NumPy leaves open."""
    return (
        _with_sign_of_zero(np.maximum(x, y), np.signbit(x) & np.signbit(y))
        if is_floating(x.dtype)
        else np.maximum(x, y)
    )


def ieee_minimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NumPy's, but -0.0 is less than 0.0, which NumPy leaves open."""
    return (
        _with_sign_of_zero(np.minimum(x, y), np.signbit(x) | np.signbit(y))
        if is_floating(x.dtype)
        else np.minimum(x, y)
    )


def _with_sign_of_zero(result: np.ndarray, is_negative: np.ndarray) -> np.ndarray:
    one = result.dtype.type(1)
    return np.where(result == 0, np.copysign(result, np.where(is_negative, -one, one)), result)


def _extremum(name: str, numpy: Callable[..., Any], direction: str) -> Elementwise:
    return binary(
        name,
        numpy,
        lambda s, x, y: getattr(s, name)(x, y),
        accepts=_any,
        exact=False,
        vjps=(
            lambda e, g, op: _tie_share(e, g, op, direction, 0),
            lambda e, g, op: _tie_share(e, g, op, direction, 1),
        ),
        saves="01",
    )


maximum = _extremum("maximum", ieee_maximum, "gt")
minimum = _extremum("minimum", ieee_minimum, "lt")


def _power_base(e: Emitter, g: Any, op: Application) -> Any:
    """``y * x**(y - 1)``, and 0 where y is 0, whatever x is."""
    x, y = op.operands
    slope = e.multiply(y, e.power(x, e.subtract(y, 1)))
    return e.multiply(g, e.select(e.compare(y, 0, direction="eq"), e.scalar(0, y.dtype), slope))


def _power_exponent(e: Emitter, g: Any, op: Application) -> Any:
    """``x**y * log(x)``, and 0 where x is 0 and y at least 0 (the limit)."""
    x, y = op.operands
    flat = getattr(e, "and")(e.compare(x, 0, direction="eq"), e.compare(y, 0, direction="ge"))
    slope = e.multiply(op.result, e.log(x))
    return e.multiply(g, e.select(flat, e.scalar(0, y.dtype), slope))


power = binary(
    "power",
    np.power,
    special.power,
    accepts=is_differentiable,
    exact=False,
    vjps=(_power_base, _power_exponent),
    saves="01r",
)

negate = unary(
    "negate",
    np.negative,
    lambda s, x: s.negate(x),
    accepts=_numeric,
    exact=True,
    vjp=lambda e, g, op: e.negate(g),
    takes_complex=True,
)
abs = unary(
    "abs",
    np.abs,
    lambda s, x: s.abs(x),
    accepts=lambda dtype: dtype.kind != "c" and dtype != bool_,
    exact=True,
    vjp=lambda e, g, op: e.multiply(g, e.sign(op.operands[0])),
    saves="0",
)


def _by_floats(numpy: Callable[..., Any]) -> Callable[..., Any]:
    """A function of halves is that of float32, rounded once; what ml_dtypes makes of bfloat16 may be another."""

    def evaluate(x: np.ndarray) -> Any:
        return numpy(x.astype(float32)).astype(x.dtype) if x.dtype in HALF_DTYPES else numpy(x)

    return evaluate


def _sign_scalar(s: Any, x: Any) -> Any:
    zero = s.constant(0, x.dtype)
    nonpositive = s.select(s.eq(x, 0), zero, x) if is_floating(x.dtype) else zero  # NaN stays NaN
    if x.dtype.kind != "u":
        nonpositive = s.select(s.lt(x, 0), s.constant(-1, x.dtype), nonpositive)
    return s.select(s.gt(x, 0), s.constant(1, x.dtype), nonpositive)


def _sign_rule(e: Emitter, g: Any, op: Application) -> Any:
    """0; of complex numbers what of ``g`` turns the result: ``(g - s * Re(conj(s) * g)) / abs(z)``."""
    z, s = op.operands[0], op.result
    if op.result_type.dtype.kind != "c":
        return _zero(e, g, op)
    along = e.convert(e.real(e.multiply(e.conjugate(s), g)), dtype=s.dtype)
    is_zero = e.compare(z, 0, direction="eq")
    size = e.convert(e.complex_abs(e.select(is_zero, e.scalar(1, z.dtype), z)), dtype=z.dtype)
    return e.select(is_zero, e.scalar(0, z.dtype), e.divide(e.subtract(g, e.multiply(s, along)), size))


sign = unary(
    "sign",
    _by_floats(np.sign),
    _sign_scalar,
    accepts=_numeric,
    exact=True,
    vjp=_sign_rule,
    adjoint=_sign_rule,
    saves="0r",
)
sqrt = unary(
    "sqrt",
    np.sqrt,
    lambda s, x: s.sqrt(x),
    exact=True,
    vjp=lambda e, g, op: e.divide(e.multiply(g, 0.5), op.result),
    saves="r",
)
rsqrt = unary(
    "rsqrt",
    _by_floats(lambda x: x.dtype.type(1) / np.sqrt(x)),
    lambda s, x: s.divide(s.constant(1, x.dtype), s.sqrt(x)),
    exact=True,
    vjp=lambda e, g, op: e.multiply(e.multiply(g, -0.5), e.divide(op.result, op.operands[0])),
    saves="0r",
)
floor = unary("floor", np.floor, lambda s, x: s.floor(x), accepts=is_floating, exact=True, vjp=_zero)
ceil = unary("ceil", np.ceil, lambda s, x: s.ceil(x), accepts=is_floating, exact=True, vjp=_zero)
round_nearest_even = unary("round_nearest_even", np.rint, lambda s, x: s.rint(x), exact=True, vjp=_zero)

# Elementary functions -------------------------------------------------------------------------------


def _one_minus_square(e: Emitter, y: Any) -> Any:
    return e.subtract(e.scalar(1, y.dtype), e.multiply(y, y))


def _function(
    name: str,
    numpy: Callable[..., Any],
    scalar: Callable[..., Any],
    vjp: Rule,
    saves: str,
    accepts: Callable[[DType], bool] = is_differentiable,
) -> Elementwise:
    """A function that IEEE 754 does not fix: one definition of ours, see :mod:`..special_functions`."""
    return unary(name, numpy, scalar, accepts=accepts, vjp=vjp, saves=saves)


def _vectorized(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of Python floats as an oracle on arrays."""

    def evaluate(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "c":
            raise TypeError("of real numbers only")
        return np.vectorize(function, otypes=[np.float64])(x.astype(np.float64)).astype(x.dtype)

    return evaluate


def _inverse_erf(x: float) -> float:
    from statistics import NormalDist

    if math.isnan(x) or math.fabs(x) > 1:
        return math.nan
    if math.fabs(x) == 1:
        return math.copysign(math.inf, x)
    return NormalDist().inv_cdf((x + 1) / 2) / math.sqrt(2) if x else x


def _expm1_numpy(x: np.ndarray) -> np.ndarray:
    """NumPy's, but of complex numbers what C99 says of ``cexp`` at infinities."""
    if x.dtype.kind != "c":
        return np.expm1(x)
    result = np.empty_like(x)
    decay, angle = np.expm1(x.real), x.imag
    flat = (angle == 0) | (np.isneginf(x.real) & ~np.isfinite(angle))
    result.real = np.where(flat, decay, decay * np.cos(angle) - 2 * np.square(np.sin(angle / 2)))
    result.real = np.where(np.isposinf(x.real) & ~np.isfinite(angle), np.inf, result.real) + 0.0  # never -0
    still = np.where(np.isfinite(angle), angle, 0)
    result.imag = np.where(flat, still, np.exp(x.real) * np.sin(angle))
    return result


def _tanh_numpy(x: np.ndarray) -> np.ndarray:
    """NumPy's, but of complex numbers with an infinite real part the imaginary part keeps its sign."""
    result = np.asarray(np.tanh(x))
    if x.dtype.kind == "c":
        result.imag = np.where(np.isinf(x.real) & np.isfinite(x.imag), np.copysign(0, x.imag), result.imag)
    return result


exponential = _function("exponential", np.exp, special.exp, lambda e, g, op: e.multiply(g, op.result), "r")
exponential_minus_one = _function(
    "exponential_minus_one",
    _expm1_numpy,
    special.expm1,
    lambda e, g, op: e.multiply(g, e.add(op.result, 1)),
    "r",
)
log = _function("log", np.log, special.log, lambda e, g, op: e.divide(g, op.operands[0]), "0")
log_plus_one = _function(
    "log_plus_one",
    np.log1p,
    special.log1p,
    lambda e, g, op: e.divide(g, e.add(op.operands[0], 1)),
    "0",
)
logistic = _function(
    "logistic",
    lambda x: 1 / (1 + np.exp(-x)),
    special.logistic,
    lambda e, g, op: e.multiply(g, e.multiply(op.result, e.subtract(e.scalar(1, op.result.dtype), op.result))),
    "r",
)
tanh = _function(
    "tanh", _tanh_numpy, special.tanh, lambda e, g, op: e.multiply(g, _one_minus_square(e, op.result)), "r"
)
sine = _function("sine", np.sin, trigonometric.sin, lambda e, g, op: e.multiply(g, e.cosine(op.operands[0])), "0")
cosine = _function(
    "cosine", np.cos, trigonometric.cos, lambda e, g, op: e.negate(e.multiply(g, e.sine(op.operands[0]))), "0"
)
tan = _function(
    "tan",
    np.tan,
    trigonometric.tan,
    lambda e, g, op: e.multiply(g, e.add(e.multiply(op.result, op.result), 1)),
    "r",
)
erf = _function(
    "erf",
    _vectorized(math.erf),
    special.erf,
    lambda e, g, op: e.multiply(
        e.multiply(g, 2 / math.sqrt(math.pi)),
        e.exponential(e.negate(e.multiply(op.operands[0], op.operands[0]))),
    ),
    "0",
    is_floating,
)
erf_inv = _function(
    "erf_inv",
    _vectorized(_inverse_erf),
    special.erf_inv,
    lambda e, g, op: e.multiply(e.multiply(g, math.sqrt(math.pi) / 2), e.exponential(e.multiply(op.result, op.result))),
    "r",
    is_floating,
)

# Comparisons, logic, choice -------------------------------------------------------------------------

DIRECTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip

_compared_type = _type_rule("compare", 2, _any, result=bool_)


def _compare_type(*types: TensorType, direction: str) -> TensorType:
    if direction not in DIRECTIONS:
        raise ValueError(f"compare: the direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    return _compared_type(*types)


compare = Elementwise(
    name="compare",
    type_rule=_compare_type,
    numpy=lambda x, y, direction: DIRECTIONS[direction](x, y),
    scalar=lambda s, x, y, direction: getattr(s, direction)(x, y),
    takes_complex=True,  # for equality
)

logical_and = binary("and", np.bitwise_and, lambda s, x, y: s.and_(x, y), accepts=_logical)
logical_or = binary("or", np.bitwise_or, lambda s, x, y: s.or_(x, y), accepts=_logical)
logical_xor = binary("xor", np.bitwise_xor, lambda s, x, y: s.xor(x, y), accepts=_logical)
shift_right_logical = binary(
    "shift_right_logical",
    np.right_shift,
    lambda s, x, y: s.shift_right(x, y),
    accepts=lambda dtype: dtype.kind == "u",
)
logical_not = unary("not", np.invert, lambda s, x: s.not_(x), accepts=_logical, exact=True)


def _is_finite(s: Any, x: Any) -> Any:
    return s.lt(s.abs(x), s.constant(math.inf, x.dtype))


is_finite = unary("is_finite", np.isfinite, _is_finite, accepts=is_differentiable, exact=True, result=bool_)


def _select_type(predicate: TensorType, on_true: TensorType, on_false: TensorType) -> TensorType:
    if predicate.dtype != bool_:
        raise TypeError(f"select: the predicate must be bool, got {predicate!r}")
    dtype = same_dtype("select", on_true, on_false)
    return TensorType(dtype, broadcast_rule("select", predicate, on_true, on_false))


select = Elementwise(
    name="select",
    type_rule=_select_type,
    numpy=np.where,
    is_slow_in_numpy=True,  # it branches for each element
    scalar=lambda s, p, x, y: s.select(p, x, y),
    takes_complex=True,
    vjp=per_operand(
        None,
        _unbroadcast(lambda e, g, op: e.select(op.operands[0], g, e.scalar(0, g.dtype)), 1),
        _unbroadcast(lambda e, g, op: e.select(op.operands[0], e.scalar(0, g.dtype), g), 2),
    ),
    saves="0",
    differentiable_operands=(1, 2),
    jvp=linear,
)


def _convert_numpy(x: np.ndarray, dtype: DType) -> np.ndarray:
    """``astype``, but a float out of an integer's range saturates and NaN becomes 0, on every machine."""
    if x.dtype.kind == "c" and dtype.kind != "c" and dtype != bool_:
        x = x.real
    if is_floating(x.dtype) and is_integer(dtype):
        info = np.iinfo(dtype)
        inside = np.trunc(np.where(np.isnan(x), 0, x))
        low, high = inside <= float(info.min), inside >= float(info.max)
        converted = np.where(low | high, 0, inside).astype(dtype)
        return np.where(low, dtype.type(info.min), np.where(high, dtype.type(info.max), converted))
    return x != 0 if dtype == bool_ else x.astype(dtype)


def _convert_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return e.convert(g, dtype=op.operand_types[0].dtype)


convert = Elementwise(
    name="convert",
    type_rule=lambda x, dtype: TensorType(dtype, x.shape),
    numpy=_convert_numpy,
    scalar=lambda s, x, dtype: s.ne(x, 0) if dtype == bool_ and x.dtype != bool_ else s.convert(x, dtype),
    takes_complex=True,
    vjp=per_operand(_convert_vjp),
    jvp=linear,
)
