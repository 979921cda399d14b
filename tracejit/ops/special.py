"""Special functions: of error, gamma and Bessel, and the smooth steps that probabilities are made of."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.primitives import special as primitives
from tracejit.ir.types import HALF_DTYPES

from ..promotion import operands
from ..tape import apply
from ..tensor import Tensor
from . import elementary, elementwise, reduction
from .axes import normalize_axis
from .elementwise import FLOAT, _apply

SQRT_HALF = math.sqrt(0.5)


def _float(name: str, x: Any) -> Tensor:
    """The argument as a floating-point tensor."""
    (tensor,) = operands(name, x, lowest_kind=FLOAT)
    return tensor


# Error functions ------------------------------------------------------------------------------------


def erfc(x: Any) -> Tensor:
    """``1 - erf(x)``, accurate where that is small.

    >>> import tracejit as tj
    >>> tj.erfc(tj.tensor([0.0, 5.0]))
    tensor([1.0000e+00, 1.5375e-12])
    """
    return _apply(primitives.erfc, "erfc", x, lowest_kind=FLOAT)


def erfcx(x: Any) -> Tensor:
    """``exp(x**2) * erfc(x)``, which does not vanish where ``erfc`` does."""
    return _apply(primitives.erfcx, "erfcx", x, lowest_kind=FLOAT)


def ndtr(x: Any) -> Tensor:
    """The standard normal distribution function: how likely a draw is to be at most ``x``.

    >>> import tracejit as tj
    >>> tj.ndtr(tj.tensor([0.0, 1.96]))
    tensor([0.5  , 0.975])
    """
    tensor = _float("ndtr", x)
    return elementwise.multiply(erfc(elementwise.multiply(tensor, -SQRT_HALF)), 0.5)


def log_ndtr(x: Any) -> Tensor:
    """The logarithm of :func:`ndtr`, accurate on both sides.

    >>> import tracejit as tj
    >>> tj.log_ndtr(tj.tensor([-100.0, 0.0]))
    tensor([-5.0055e+03, -6.9315e-01])
    """
    tensor = _float("log_ndtr", x)
    is_left = elementwise.less(tensor, -1)
    left = elementwise.where(is_left, tensor, -1)
    scaled = erfcx(elementwise.multiply(left, -SQRT_HALF))
    squares = elementwise.multiply(elementwise.multiply(left, left), 0.5)
    below = elementwise.subtract(elementwise.log(elementwise.multiply(scaled, 0.5)), squares)
    right = elementwise.where(is_left, 0, tensor)
    above = elementwise.log1p(elementwise.multiply(erfc(elementwise.multiply(right, SQRT_HALF)), -0.5))
    return elementwise.where(is_left, below, above)


# Gamma ----------------------------------------------------------------------------------------------


def gammaln(x: Any) -> Tensor:
    """``log(abs(gamma(x)))``; infinite at 0 and the negative integers.

    >>> import tracejit as tj
    >>> tj.exp(tj.gammaln(tj.tensor([1.0, 4.0, 5.0])))
    tensor([ 1.,  6., 24.])
    """
    return _apply(primitives.lgamma, "gammaln", x, lowest_kind=FLOAT)


lgamma = gammaln  # as PyTorch has it


def digamma(x: Any) -> Tensor:
    """The derivative of :func:`gammaln`."""
    return polygamma(0, x)


def polygamma(n: int, x: Any) -> Tensor:
    """The derivative of order ``n`` of :func:`digamma`; ``ValueError`` for an order below 0 or above 100.

    >>> import tracejit as tj
    >>> tj.polygamma(1, tj.tensor(1.0))
    tensor(1.6449)
    """
    return apply(primitives.polygamma, (_float("polygamma", x),), {"order": n})


# Bessel functions -----------------------------------------------------------------------------------


def i0e(x: Any) -> Tensor:
    """``exp(-abs(x)) * i0(x)``."""
    return _apply(primitives.bessel_i0e, "i0e", x, lowest_kind=FLOAT)


def i1e(x: Any) -> Tensor:
    """``exp(-abs(x)) * i1(x)``."""
    return _apply(primitives.bessel_i1e, "i1e", x, lowest_kind=FLOAT)


def i0(x: Any) -> Tensor:
    """The modified Bessel function of the first kind and order 0.

    >>> import tracejit as tj
    >>> tj.i0(tj.tensor([0.0, 1.0]))
    tensor([1.    , 1.2661])
    """
    tensor = _float("i0", x)
    return _unscaled(tensor, i0e(tensor))


def i1(x: Any) -> Tensor:
    """The modified Bessel function of the first kind and order 1."""
    tensor = _float("i1", x)
    return _unscaled(tensor, i1e(tensor))


def _unscaled(x: Tensor, scaled: Tensor) -> Tensor:
    """Times ``exp(abs(x))``, in two steps: the factor overflows before the product does."""
    root = elementwise.exp(elementwise.multiply(elementwise.abs(x), 0.5))
    return elementwise.multiply(elementwise.multiply(scaled, root), root)


# Logarithms and steps -------------------------------------------------------------------------------


def xlogy(x: Any, y: Any) -> Tensor:
    """``x * log(y)``, and 0 where ``x`` is 0 (unless ``y`` is NaN).

    >>> import tracejit as tj
    >>> tj.xlogy(tj.tensor([0.0, 2.0]), tj.tensor([0.0, 1.0]))
    tensor([0., 0.])
    """
    factor, argument = operands("xlogy", x, y, lowest_kind=FLOAT)
    usual = elementwise.logical_and(elementwise.greater(argument, 0), elementwise.less(argument, math.inf))
    flat = elementwise.logical_and(
        elementwise.equal(factor, 0),
        elementwise.logical_not(elementwise.logical_or(usual, elementwise.isnan(argument))),
    )
    return elementwise.multiply(factor, elementwise.log(elementwise.where(flat, 1, argument)))


def logit(x: Any) -> Tensor:
    """``log(x / (1 - x))``, the inverse of the sigmoid; NaN outside [0, 1]."""
    tensor = _float("logit", x)
    return elementwise.subtract(elementwise.log(tensor), elementwise.log1p(elementwise.negative(tensor)))


def softplus(x: Any) -> Tensor:
    """``log(1 + exp(x))``, without overflow.

    >>> import tracejit as tj
    >>> tj.softplus(tj.tensor([0.0, 1e4]))
    tensor([6.9315e-01, 1.0000e+04])
    """
    return elementary.logaddexp(_float("softplus", x), 0)


def sinc(x: Any) -> Tensor:
    """``sin(pi * x) / (pi * x)``, and 1 at 0, with the derivatives of the series there.

    >>> import tracejit as tj
    >>> tj.sinc(tj.tensor([0.0, 0.5]))
    tensor([1.    , 0.6366])
    """
    angle = elementwise.multiply(_float("sinc", x), math.pi)
    is_small = elementwise.less(elementwise.abs(angle), 1e-2)
    square = elementwise.square(elementwise.where(is_small, angle, 0))
    series: Any = -1 / 5040
    for coefficient in (1 / 120, -1 / 6, 1.0):
        series = elementwise.add(elementwise.multiply(square, series), coefficient)
    safe = elementwise.where(is_small, 1, angle)
    return elementwise.where(is_small, series, elementwise.divide(elementwise.sin(safe), safe))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """``exp(x)`` divided by its sum along ``axis``.

    >>> import tracejit as tj
    >>> tj.softmax(tj.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    given = _float("softmax", x)
    if given.dtype in HALF_DTYPES:  # rounded once
        return elementwise.astype(softmax(reduction.widened(given), axis), given.dtype)
    shifted, along = _shifted("softmax", given, axis)
    powers = elementwise.exp(shifted)
    return elementwise.divide(powers, reduction.sum(powers, along, keepdims=True))


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """The logarithm of :func:`softmax`, without overflow.

    >>> import tracejit as tj
    >>> tj.log_softmax(tj.tensor([1e4, 1e4]))
    tensor([-0.6931, -0.6931])
    """
    given = _float("log_softmax", x)
    if given.dtype in HALF_DTYPES:  # rounded once
        return elementwise.astype(log_softmax(reduction.widened(given), axis), given.dtype)
    shifted, along = _shifted("log_softmax", given, axis)
    total = reduction.sum(elementwise.exp(shifted), along, keepdims=True)
    return elementwise.subtract(shifted, elementwise.log(total))


def _shifted(name: str, x: Any, axis: int) -> tuple[Tensor, int]:
    """``x`` minus its largest element along ``axis`` (no gradient flows to that one), and the axis from the front."""
    tensor = _float(name, x)
    elementwise.real_numbers(name, tensor)
    along = normalize_axis(name, axis, tensor.ndim)
    if tensor.shape[along] == 0:
        return tensor, along
    return elementwise.subtract(tensor, reduction.max(tensor.detach(), along, keepdims=True)), along
