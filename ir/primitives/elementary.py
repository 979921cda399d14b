"""Elementary functions beyond those of :mod:`.elementwise`: inverse, hyperbolic, of two operands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import elementary_functions as functions, special_functions as special
from ..primitive import Application, Elementwise, Emitter, Rule
from ..types import is_floating
from .elementwise import _function, binary


def _one(e: Emitter, x: Any) -> Any:
    return e.scalar(1, x.dtype)


def _over_root(sign: int, shift: int) -> Rule:
    """``g / sqrt(sign * x**2 + shift)``."""

    def rule(e: Emitter, g: Any, op: Application) -> Any:
        x = op.operands[0]
        square = e.multiply(x, x)
        inside = e.add(square, shift) if sign > 0 else e.subtract(_one(e, x), square)
        return e.divide(g, e.sqrt(inside))

    return rule


asin = _function("asin", np.arcsin, functions.asin, _over_root(-1, 1), "0")
acos = _function("acos", np.arccos, functions.acos, lambda e, g, op: e.negate(_over_root(-1, 1)(e, g, op)), "0")
atan = _function(
    "atan",
    np.arctan,
    functions.atan,
    lambda e, g, op: e.divide(g, e.add(e.multiply(op.operands[0], op.operands[0]), 1)),
    "0",
)
sinh = _function("sinh", np.sinh, functions.sinh, lambda e, g, op: e.multiply(g, e.cosh(op.operands[0])), "0")
cosh = _function("cosh", np.cosh, functions.cosh, lambda e, g, op: e.multiply(g, e.sinh(op.operands[0])), "0")
asinh = _function("asinh", np.arcsinh, functions.asinh, _over_root(1, 1), "0")
acosh = _function(
    "acosh",
    np.arccosh,
    functions.acosh,
    lambda e, g, op: e.divide(g, e.multiply(e.sqrt(e.subtract(op.operands[0], 1)), e.sqrt(e.add(op.operands[0], 1)))),
    "0",
)
atanh = _function(
    "atanh",
    np.arctanh,
    functions.atanh,
    lambda e, g, op: e.divide(g, e.subtract(_one(e, op.operands[0]), e.multiply(op.operands[0], op.operands[0]))),
    "0",
)
log2 = _function(
    "log2", np.log2, special.log2, lambda e, g, op: e.divide(e.multiply(g, 1 / math.log(2)), op.operands[0]), "0"
)
log10 = _function(
    "log10", np.log10, functions.log10, lambda e, g, op: e.divide(e.multiply(g, 1 / math.log(10)), op.operands[0]), "0"
)
exp2 = _function("exp2", np.exp2, special.exp2, lambda e, g, op: e.multiply(e.multiply(g, math.log(2)), op.result), "r")


def _two(name: str, numpy: Any, scalar: Callable[..., Any], vjps: tuple[Rule, Rule], saves: str) -> Elementwise:
    return binary(name, numpy, scalar, accepts=is_floating, exact=False, vjps=vjps, saves=saves)


def _square_norm(e: Emitter, op: Application) -> Any:
    y, x = op.operands
    return e.add(e.multiply(y, y), e.multiply(x, x))


atan2 = _two(
    "atan2",
    np.arctan2,
    functions.atan2,
    (
        lambda e, g, op: e.multiply(g, e.divide(op.operands[1], _square_norm(e, op))),
        lambda e, g, op: e.negate(e.multiply(g, e.divide(op.operands[0], _square_norm(e, op)))),
    ),
    "01",
)


def _hypot_share(index: int) -> Rule:
    """``g * x / r``, and 0 at the origin."""

    def rule(e: Emitter, g: Any, op: Application) -> Any:
        share = e.divide(op.operands[index], op.result)
        return e.multiply(g, e.select(e.compare(op.result, 0, direction="eq"), e.scalar(0, op.result.dtype), share))

    return rule


hypot = _two("hypot", np.hypot, functions.hypot, (_hypot_share(0), _hypot_share(1)), "01r")


def _softmax_share(first: int) -> Rule:
    """``g`` times the logistic of the difference, which is 0 for equal infinities."""

    def rule(e: Emitter, g: Any, op: Application) -> Any:
        x, y = op.operands[first], op.operands[1 - first]
        difference = e.subtract(x, y)
        unequal = e.compare(difference, 0, direction="ne")
        is_infinite = getattr(e, "and")(e.compare(x, y, direction="eq"), unequal)
        return e.multiply(g, e.logistic(e.select(is_infinite, e.scalar(0, op.result_type.dtype), difference)))

    return rule


logaddexp = _two("logaddexp", np.logaddexp, functions.logaddexp, (_softmax_share(0), _softmax_share(1)), "01")
