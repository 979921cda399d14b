"""Elementwise functions that are fixed to the bit: integer division, shifts, parts of floats and complex numbers."""

from __future__ import annotations

from typing import Any

from tracejit.ir.primitives import exact as primitives
from tracejit.ir.types import bool_, is_floating, is_integer

from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
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
