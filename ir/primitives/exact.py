"""Elementwise primitives that are fixed to the bit: integer arithmetic, shifts, and the parts of a float."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import elementwise
from ..elementary_functions import hypot
from ..primitive import Application, Elementwise, Emitter, Library, broadcast_rule, linear, per_operand, same_dtype
from ..special_functions import FORMATS, _with_sign_of
from ..types import DType, TensorType, bool_, float64, is_floating, is_integer, short_name
from .elementwise import _type_rule, _unbroadcast, _zero, binary, partials, unary

# Integers: division by zero gives 0, and what overflows wraps around, as NumPy has it ---------------


def _safe_divisor(s: Any, y: Any) -> Any:
    """The divisor, but 1 where the machine's division would trap."""
    unsafe = s.eq(y, 0)
    if y.dtype.kind == "i":
        unsafe = s.or_(unsafe, s.eq(y, -1))
    return s.select(unsafe, s.constant(1, y.dtype), y)


def _quotient_scalar(s: Any, x: Any, y: Any) -> Any:
    divisor = _safe_divisor(s, y)
    quotient = s.quotient(x, divisor)
    if y.dtype.kind == "i":
        rest = s.remainder(x, divisor)
        is_below = s.and_(s.ne(rest, 0), s.ne(s.lt(rest, 0), s.lt(divisor, 0)))
        quotient = s.select(is_below, s.subtract(quotient, 1), quotient)
        quotient = s.select(s.eq(y, -1), s.negate(x), quotient)
    return s.select(s.eq(y, 0), s.constant(0, y.dtype), quotient)


def _remainder_scalar(s: Any, x: Any, y: Any) -> Any:
    divisor = _safe_divisor(s, y)
    rest = s.remainder(x, divisor)
    if y.dtype.kind == "i":
        is_other_side = s.and_(s.ne(rest, 0), s.ne(s.lt(rest, 0), s.lt(divisor, 0)))
        rest = s.select(is_other_side, s.add(rest, divisor), rest)
    return s.select(s.eq(y, 0), s.constant(0, y.dtype), rest)


floor_quotient = binary("floor_quotient", np.floor_divide, _quotient_scalar, accepts=is_integer)
floor_remainder = binary("floor_remainder", np.remainder, _remainder_scalar, accepts=is_integer)


def _power_numpy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind == "u":
        return np.power(x, y)
    inverse = np.where(np.abs(x) == 1, np.where(y & 1, x, 1), 0).astype(x.dtype)
    return np.where(y < 0, inverse, np.power(x, np.maximum(y, 0)))


def _power_scalar(s: Any, x: Any, y: Any) -> Any:
    """Square and multiply; a negative exponent gives the truncated inverse."""
    result, base, one = s.constant(1, x.dtype), x, s.constant(1, x.dtype)
    is_signed = x.dtype.kind == "i"
    bits = 8 * x.dtype.itemsize - is_signed
    for bit in range(bits):
        is_set = s.ne(s.and_(y, 1 << bit), 0)
        result = s.multiply(result, s.select(is_set, base, one))
        if bit + 1 < bits:
            base = s.multiply(base, base)
    if not is_signed:
        return result
    is_unit = s.or_(s.eq(x, 1), s.eq(x, -1))
    inverse = s.select(is_unit, s.select(s.ne(s.and_(y, 1), 0), x, one), s.constant(0, x.dtype))
    return s.select(s.lt(y, 0), inverse, result)


integer_power = binary("integer_power", _power_numpy, _power_scalar, accepts=is_integer)


def _shift(s: Any, x: Any, y: Any, direction: str) -> Any:
    """By the width or more (or a negative count): all bits leave."""
    width = 8 * x.dtype.itemsize
    is_within = s.and_(s.ge(y, 0), s.lt(y, width)) if y.dtype.kind == "i" else s.lt(y, width)
    shifted = getattr(s, direction)(x, s.select(is_within, y, s.constant(0, y.dtype)))
    rest = s.constant(0, x.dtype)
    if direction == "shift_right" and x.dtype.kind == "i":
        rest = s.select(s.lt(x, 0), s.constant(-1, x.dtype), rest)
    return s.select(is_within, shifted, rest)


shift_left = binary("shift_left", np.left_shift, lambda s, x, y: _shift(s, x, y, "shift_left"), accepts=is_integer)
shift_right_arithmetic = binary(
    "shift_right_arithmetic", np.right_shift, lambda s, x, y: _shift(s, x, y, "shift_right"), accepts=is_integer
)

# Floats ---------------------------------------------------------------------------------------------

truncate = unary("truncate", np.trunc, lambda s, x: s.trunc(x), accepts=is_floating, exact=True, vjp=_zero)


def _is_negative(s: Any, x: Any) -> Any:
    form = FORMATS[x.dtype]
    return s.ne(s.and_(s.bitcast(x, form.bits), form.sign_bit), 0)


sign_bit = unary("sign_bit", np.signbit, _is_negative, accepts=is_floating, exact=True, result=bool_)


def _copysign_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """1 or -1, and 0 at 0, as of ``abs``."""
    x = op.operands[0]
    kept = e.compare(e.sign_bit(x), e.sign_bit(op.result), direction="eq")
    return e.select(e.compare(x, 0, direction="eq"), e.scalar(0, g.dtype), e.select(kept, g, e.negate(g)))


def _flat(e: Emitter, g: Any, op: Application) -> Any:
    return e.full(0, op.result_type)


copysign = binary(
    "copysign",
    np.copysign,
    lambda s, x, y: _with_sign_of(s, y, s.abs(x)),
    accepts=is_floating,
    vjps=(_copysign_vjp, _flat),
    saves="0r",
)


def _nextafter_scalar(s: Any, x: Any, y: Any) -> Any:
    """One step on the bits: away from zero where y lies farther out, else towards it."""
    form = FORMATS[x.dtype]
    bits = s.bitcast(x, form.bits)
    outward = s.eq(s.lt(x, y), s.gt(x, 0.0))
    step = s.select(outward, s.add(bits, 1), s.subtract(bits, 1))
    smallest = s.select(s.lt(y, 0.0), s.constant(form.sign_bit | 1, form.bits), s.constant(1, form.bits))
    moved = s.bitcast(s.select(s.eq(x, 0.0), smallest, step), x.dtype)
    return s.select(s.or_(s.is_nan(x), s.is_nan(y)), s.add(x, y), s.select(s.eq(x, y), y, moved))


next_after = binary(
    "next_after",
    np.nextafter,
    _nextafter_scalar,
    accepts=is_floating,
    vjps=(lambda e, g, op: g, _flat),
)


def _float_pair(name: str, x: TensorType, y: TensorType) -> TensorType:
    dtype: DType = same_dtype(name, x, y)
    if not is_floating(dtype):
        raise TypeError(f"{name} is not defined for {short_name(dtype)}, got {x!r}, {y!r}")
    return TensorType(dtype, broadcast_rule(name, x, y))


def _remainder_divisor(e: Emitter, g: Any, op: Application) -> Any:
    return e.negate(e.multiply(g, e.floor_divide(op.operands[0], op.operands[1])))


def _floor_divide_numpy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NumPy's, but an infinity is divided as the array API standard says: ``floor(x / y)``."""
    return np.where(np.isinf(x) | np.isinf(y), np.floor(x / y), np.floor_divide(x, y))


# The exact remainder of two floats takes a loop that scalar programs do not have.
remainder = Library(
    name="remainder",
    type_rule=lambda x, y: _float_pair("remainder", x, y),
    numpy=np.remainder,
    vjp=per_operand(_unbroadcast(lambda e, g, op: g, 0), _unbroadcast(_remainder_divisor, 1)),
    saves="01",
    jvp=partials(lambda e, t, op: t, _remainder_divisor),
    batch=elementwise,
)
floor_divide = Library(
    name="floor_divide",
    type_rule=lambda x, y: _float_pair("floor_divide", x, y),
    numpy=_floor_divide_numpy,
    vjp=per_operand(_zero, lambda e, g, op: e.full(0, op.operand_types[1])),
    jvp=partials(_flat, _flat),
    batch=elementwise,
)

# Complex numbers ------------------------------------------------------------------------------------


def real_dtype(dtype: DType) -> DType:
    """The dtype of a complex number's parts."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def complex_dtype(dtype: DType) -> DType:
    """The complex dtype with parts of a float dtype."""
    return np.dtype("c16") if dtype.itemsize == 8 else np.dtype("c8")


def _part_type(name: str, x: TensorType) -> TensorType:
    if x.dtype.kind != "c":
        raise TypeError(f"{name} is defined for complex numbers, got {x!r}")
    return TensorType(real_dtype(x.dtype), x.shape)


def _complex_type(x: TensorType, y: TensorType) -> TensorType:
    type = _float_pair("complex", x, y)
    return TensorType(complex_dtype(type.dtype), type.shape)


def _complex_numpy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    result = np.empty(np.broadcast_shapes(x.shape, y.shape), complex_dtype(x.dtype))
    result.real, result.imag = x, y
    return result


def _from_parts(e: Emitter, x: Any, y: Any) -> Any:
    return e.complex(x, y)


def _zeros_like(e: Emitter, x: Any) -> Any:
    return e.full(0, TensorType(x.dtype, tuple(x.shape)))


def _conjugate_scalar(s: Any, z: Any) -> Any:
    if z.dtype.kind != "c":
        return z
    real, imaginary = s.parts(z)
    return s.pair(real, s.negate(imaginary))


real = Elementwise(
    name="real",
    type_rule=lambda x: _part_type("real", x),
    numpy=lambda x: np.ascontiguousarray(x.real).reshape(x.shape),
    scalar=lambda s, z: s.parts(z)[0],
    vjp=per_operand(lambda e, g, op: _from_parts(e, g, _zeros_like(e, g))),
    jvp=linear,
    takes_complex=True,
)
imag = Elementwise(
    name="imag",
    type_rule=lambda x: _part_type("imag", x),
    numpy=lambda x: np.ascontiguousarray(x.imag).reshape(x.shape),
    scalar=lambda s, z: s.parts(z)[1],
    vjp=per_operand(lambda e, g, op: _from_parts(e, _zeros_like(e, g), g)),
    jvp=linear,
    takes_complex=True,
)
complex_ = Elementwise(
    name="complex",
    type_rule=_complex_type,
    numpy=_complex_numpy,
    scalar=lambda s, x, y: s.pair(x, y),
    vjp=per_operand(_unbroadcast(lambda e, g, op: e.real(g), 0), _unbroadcast(lambda e, g, op: e.imag(g), 1)),
    jvp=linear,
    takes_complex=True,
)
conjugate = Elementwise(
    name="conjugate",
    type_rule=lambda x: x,
    numpy=np.conjugate,
    scalar=_conjugate_scalar,
    vjp=per_operand(lambda e, g, op: e.conjugate(g)),
    jvp=linear,
    takes_complex=True,
)
complex_abs = Elementwise(
    name="complex_abs",
    type_rule=lambda x: _part_type("complex_abs", x),
    numpy=np.abs,
    scalar=lambda s, z: hypot(s, *s.parts(z)),
    exact=False,
    vjp=per_operand(lambda e, g, op: e.multiply(_from_parts(e, g, _zeros_like(e, g)), e.sign(op.operands[0]))),
    saves="0",
    jvp=partials(lambda e, t, op: e.real(e.multiply(t, e.conjugate(e.sign(op.operands[0]))))),
    takes_complex=True,
)

# Products and sums, rounded once --------------------------------------------------------------------


def _fma_numpy(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """In more digits than the dtype has, and rounded: NumPy has no fused operation."""
    wider = np.longdouble if x.dtype == float64 else np.float64
    return np.asarray(x.astype(wider) * y.astype(wider) + z.astype(wider)).astype(x.dtype)


# ``x * y + z``.  Only passes make it, where results need not be the same to the bit.
fused_multiply_add = Elementwise(
    name="fused_multiply_add",
    type_rule=_type_rule("fused_multiply_add", 3, is_floating),
    numpy=_fma_numpy,
    scalar=lambda s, x, y, z: s.fma(x, y, z),
    exact=False,
    vjp=per_operand(
        _unbroadcast(lambda e, g, op: e.multiply(g, op.operands[1]), 0),
        _unbroadcast(lambda e, g, op: e.multiply(g, op.operands[0]), 1),
        _unbroadcast(lambda e, g, op: g, 2),
    ),
    saves="01",
    jvp=partials(
        lambda e, t, op: e.multiply(t, op.operands[1]),
        lambda e, t, op: e.multiply(t, op.operands[0]),
        lambda e, t, op: t,
    ),
)
