"""Elementwise functions: inverse trigonometric, hyperbolic, logarithms to other bases, and the like."""

from __future__ import annotations

from typing import Any

from tracejit.ir.primitives import elementary as primitives

from ..tensor import Tensor
from .elementwise import FLOAT, _apply


def asin(x: Any) -> Tensor:
    """The angle in [-pi/2, pi/2] whose sine is ``x``; NaN beyond ±1."""
    return _apply(primitives.asin, "asin", x, lowest_kind=FLOAT)


def acos(x: Any) -> Tensor:
    """The angle in [0, pi] whose cosine is ``x``; NaN beyond ±1."""
    return _apply(primitives.acos, "acos", x, lowest_kind=FLOAT)


def atan(x: Any) -> Tensor:
    """The angle in [-pi/2, pi/2] whose tangent is ``x``."""
    return _apply(primitives.atan, "atan", x, lowest_kind=FLOAT)


def atan2(x1: Any, x2: Any) -> Tensor:
    """The angle in [-pi, pi] of the point with ordinate ``x1`` and abscissa ``x2``.

    >>> import tracejit as tj
    >>> tj.atan2(tj.tensor([0.0, 1.0]), tj.tensor([-1.0, 1.0]))
    tensor([3.1416, 0.7854])
    """
    return _apply(primitives.atan2, "atan2", x1, x2, lowest_kind=FLOAT)


def sinh(x: Any) -> Tensor:
    """The hyperbolic sine."""
    return _apply(primitives.sinh, "sinh", x, lowest_kind=FLOAT)


def cosh(x: Any) -> Tensor:
    """The hyperbolic cosine."""
    return _apply(primitives.cosh, "cosh", x, lowest_kind=FLOAT)


def asinh(x: Any) -> Tensor:
    """The number whose hyperbolic sine is ``x``."""
    return _apply(primitives.asinh, "asinh", x, lowest_kind=FLOAT)


def acosh(x: Any) -> Tensor:
    """The number, at least 0, whose hyperbolic cosine is ``x``; NaN below 1."""
    return _apply(primitives.acosh, "acosh", x, lowest_kind=FLOAT)


def atanh(x: Any) -> Tensor:
    """The number whose hyperbolic tangent is ``x``; NaN beyond ±1."""
    return _apply(primitives.atanh, "atanh", x, lowest_kind=FLOAT)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2."""
    return _apply(primitives.log2, "log2", x, lowest_kind=FLOAT)


def log10(x: Any) -> Tensor:
    """The logarithm to base 10."""
    return _apply(primitives.log10, "log10", x, lowest_kind=FLOAT)


def exp2(x: Any) -> Tensor:
    """``2 ** x``."""
    return _apply(primitives.exp2, "exp2", x, lowest_kind=FLOAT)


def hypot(x1: Any, x2: Any) -> Tensor:
    """``sqrt(x1**2 + x2**2)``, without overflow.

    >>> import tracejit as tj
    >>> tj.hypot(tj.tensor(3.0), 4.0)
    tensor(5.)
    """
    return _apply(primitives.hypot, "hypot", x1, x2, lowest_kind=FLOAT)


def logaddexp(x1: Any, x2: Any) -> Tensor:
    """``log(exp(x1) + exp(x2))``, without overflow."""
    return _apply(primitives.logaddexp, "logaddexp", x1, x2, lowest_kind=FLOAT)
