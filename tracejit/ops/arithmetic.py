"""Elementwise functions of a few exact steps: integer division, shifts, parts of numbers, replacing some of them."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from tracejit.ir.primitives import exact as primitives
from tracejit.ir.types import bfloat16, bool_, is_floating, is_integer

from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
from . import elementwise
from .elementwise import FLOAT, _apply, _rounding, positive


def _division(name: str, on_integers: Any, on_floats: Any, x1: Any, x2: Any) -> Tensor:
    pair = operands(name, x1, x2)
    if is_integer(pair[0].dtype):
        return apply(on_integers, pair, {})
    if pair[0].dtype == bool_:
        pair = operands(name, *pair, lowest_kind=FLOAT)
    return apply(on_floats, pair, {})


def floor_divide(x1: Any, x2: Any) -> Tensor:
    """``x1 // x2``: the quotient rounded towards -infinity; of integers 0 where the divisor is 0.

    >>> import tracejit as tj
    >>> tj.floor_divide(tj.tensor([7, -7]), 2)
    tensor([ 3, -4])
    """
    return _division("floor_divide", primitives.floor_quotient, primitives.floor_divide, x1, x2)


def remainder(x1: Any, x2: Any) -> Tensor:
    """``x1 % x2``, with the sign of ``x2``; of integers 0 where the divisor is 0.

    >>> import tracejit as tj
    >>> tj.remainder(tj.tensor([7, -7]), 4)
    tensor([3, 1])
    """
    return _division("remainder", primitives.floor_remainder, primitives.remainder, x1, x2)


def bitwise_left_shift(x1: Any, x2: Any) -> Tensor:
    """``x1 << x2`` for integers; 0 where ``x2`` is not less than the width."""
    return _apply(primitives.shift_left, "bitwise_left_shift", x1, x2)


def bitwise_right_shift(x1: Any, x2: Any) -> Tensor:
    """``x1 >> x2`` for integers, keeping the sign."""
    return _apply(primitives.shift_right_arithmetic, "bitwise_right_shift", x1, x2)


def trunc(x: Any) -> Tensor:
    """The nearest integer between 0 and ``x``, in ``x``'s dtype."""
    return _rounding(primitives.truncate, "trunc", x)


def signbit(x: Any) -> Tensor:
    """Whether the sign bit is set: of -0.0 as of every negative number."""
    return _apply(primitives.sign_bit, "signbit", x, lowest_kind=FLOAT)


def copysign(x1: Any, x2: Any) -> Tensor:
    """The magnitude of ``x1`` with the sign of ``x2``."""
    return _apply(primitives.copysign, "copysign", x1, x2, lowest_kind=FLOAT)


def nextafter(x1: Any, x2: Any) -> Tensor:
    """The float next to ``x1`` in the direction of ``x2``."""
    return _apply(primitives.next_after, "nextafter", x1, x2, lowest_kind=FLOAT)


def real(x: Any) -> Tensor:
    """The real part; of a real tensor the same values."""
    tensor = as_tensor(x, "real")
    return apply(primitives.real, (tensor,), {}) if tensor.dtype.kind == "c" else positive(tensor)


def imag(x: Any) -> Tensor:
    """The imaginary part of a complex tensor."""
    tensor = as_tensor(x, "imag")
    if tensor.dtype.kind != "c":
        raise at_user_line(TypeError(f"imag: expected a complex tensor, got {tensor.dtype}"))
    return apply(primitives.imag, (tensor,), {})


def conj(x: Any) -> Tensor:
    """The complex conjugate; of a real tensor the same values."""
    tensor = as_tensor(x, "conj")
    return apply(primitives.conjugate, (tensor,), {}) if tensor.dtype.kind == "c" else positive(tensor)


def from_parts(real: Tensor, imag: Tensor) -> Tensor:
    """A complex tensor of its parts."""
    pair = operands("complex", real, imag)
    assert is_floating(pair[0].dtype)
    return apply(primitives.complex_, pair, {})


def angle(x: Any) -> Tensor:
    """The angle of a complex number in [-pi, pi]; of a real one 0, or pi where it is negative."""
    from .elementary import atan2

    (tensor,) = operands("angle", x, lowest_kind=FLOAT)
    if tensor.dtype.kind == "c":
        return atan2(imag(tensor), real(tensor))
    others = elementwise.where(elementwise.isnan(tensor), tensor, 0)
    return elementwise.where(elementwise.less(tensor, 0), math.pi, others)


def deg2rad(x: Any) -> Tensor:
    """Degrees as radians."""
    (tensor,) = elementwise.real_numbers("deg2rad", *operands("deg2rad", x, lowest_kind=FLOAT))
    return elementwise.multiply(tensor, math.pi / 180)


def rad2deg(x: Any) -> Tensor:
    """Radians as degrees."""
    (tensor,) = elementwise.real_numbers("rad2deg", *operands("rad2deg", x, lowest_kind=FLOAT))
    return elementwise.multiply(tensor, 180 / math.pi)


def fmax(x: Any, y: Any) -> Tensor:
    """The larger of ``x`` and ``y``; where one is NaN, the other."""
    pair = operands("fmax", x, y)
    return _unless_nan(elementwise.maximum(*pair), *pair)


def fmin(x: Any, y: Any) -> Tensor:
    """The smaller of ``x`` and ``y``; where one is NaN, the other."""
    pair = operands("fmin", x, y)
    return _unless_nan(elementwise.minimum(*pair), *pair)


def _unless_nan(result: Tensor, x: Tensor, y: Tensor) -> Tensor:
    other = elementwise.where(elementwise.isnan(y), x, result)
    return elementwise.where(elementwise.isnan(x), y, other)


def heaviside(x: Any, y: Any) -> Tensor:
    """0 where ``x`` is negative, 1 where it is positive, and ``y`` where it is 0.

    >>> import tracejit as tj
    >>> tj.heaviside(tj.tensor([-1.0, 0.0, 2.0]), 0.5)
    tensor([0. , 0.5, 1. ])
    """
    step, at_zero = elementwise.real_numbers("heaviside", *operands("heaviside", x, y, lowest_kind=FLOAT))
    ends = elementwise.where(elementwise.less(step, 0), 0, elementwise.where(elementwise.isnan(step), step, 1))
    return elementwise.where(elementwise.equal(step, 0), at_zero, ends)


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """``nan`` for NaN, and for infinities ``posinf`` and ``neginf`` or else the largest finite numbers.

    >>> import tracejit as tj
    >>> tj.nan_to_num(tj.tensor([1.0, float("nan"), float("inf")]), posinf=9.0)
    tensor([1., 0., 9.])
    """
    tensor = as_tensor(x, "nan_to_num")
    if tensor.dtype.kind == "c":
        return from_parts(*(nan_to_num(part, nan, posinf, neginf) for part in (real(tensor), imag(tensor))))
    if not is_floating(tensor.dtype):
        return positive(tensor)
    limits: Any = ml_dtypes.finfo(tensor.dtype) if tensor.dtype == bfloat16 else np.finfo(tensor.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    result = elementwise.where(elementwise.isnan(tensor), nan, tensor)
    result = elementwise.where(elementwise.equal(tensor, math.inf), high, result)
    return elementwise.where(elementwise.equal(tensor, -math.inf), low, result)
