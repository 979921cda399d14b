"""Elementwise functions; operands broadcast and promote (see :mod:`tracejit.promotion`)."""

from __future__ import annotations

import itertools
import math
from typing import Any

from tracejit.ir.primitives import elementwise as primitives, exact
from tracejit.ir.types import DType, bool_, float64, is_differentiable, is_floating, is_integer

from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply, same_value
from ..tensor import Tensor, new_tensor

FLOAT = 2  # the lowest kind of the result's dtype: integers become float32


_OF_BOOLS = {primitives.add: primitives.logical_or, primitives.multiply: primitives.logical_and}
_calls = itertools.count(1)
_CALLS_BETWEEN = 256  # looks whether native code should take over


def _apply(primitive: Any, name: str, *arguments: Any, lowest_kind: int = 0) -> Tensor:
    calls = next(_calls)
    if calls % _CALLS_BETWEEN == 0:
        from ..native import install_if_worthwhile

        install_if_worthwhile(calls)
    ready = operands(name, *arguments, lowest_kind=lowest_kind)
    if primitive in _OF_BOOLS and ready[0].dtype == bool_:
        primitive = _OF_BOOLS[primitive]
    return apply(primitive, ready, {})


def add(x: Any, y: Any) -> Tensor:
    """``x + y``.

    >>> import tracejit as tj
    >>> tj.add(tj.tensor([1.0, 2.0]), 3)
    tensor([4., 5.])
    """
    return _apply(primitives.add, "add", x, y)


def subtract(x: Any, y: Any) -> Tensor:
    """``x - y``."""
    return _apply(primitives.subtract, "subtract", x, y)


def multiply(x: Any, y: Any) -> Tensor:
    """``x * y``."""
    return _apply(primitives.multiply, "multiply", x, y)


def divide(x: Any, y: Any) -> Tensor:
    """``x / y``; integers are divided as float32."""
    return _apply(primitives.divide, "divide", x, y, lowest_kind=FLOAT)


def pow(x: Any, y: Any) -> Tensor:
    """``x ** y``; where ``y`` is one of the numbers 1 to 4 a product, where it is 0.5 a root; integers give integers.

    >>> import tracejit as tj
    >>> tj.pow(tj.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    """
    if isinstance(y, Tensor) and y._weak and (is_integer(y.dtype) or (is_floating(y.dtype) and bool(_is_short(y)))):
        y = y._number()  # which decides how the power is computed
    if isinstance(y, float) and y in (1, 2, 3, 4) and isinstance(x, Tensor) and is_differentiable(x.dtype):
        y = int(y)
    if isinstance(y, int) and not isinstance(y, bool) and 0 < y <= 4 and isinstance(x, Tensor):
        result = square = same_value(x) if y == 1 else x
        if y >= 2:
            square = multiply(x, x)
            result = square if y != 3 else multiply(square, x)
        return multiply(square, square) if y == 4 else result
    if isinstance(y, float | int) and y == 0.5:
        return sqrt(x)
    base, exponent = operands("pow", x, y)
    if is_integer(base.dtype):
        if isinstance(y, int) and y < 0:
            raise at_user_line(ValueError("pow: integers to negative integer powers are not allowed"))
        return apply(exact.integer_power, (base, exponent), {})
    return _apply(primitives.power, "pow", x, y, lowest_kind=FLOAT)


def _is_short(exponent: Tensor) -> Tensor:
    """Whether a power with this exponent is a product or a root."""
    is_whole = equal(floor(exponent), exponent)
    within = logical_and(greater_equal(exponent, 1), less_equal(exponent, 4))
    return logical_or(equal(exponent, 0.5), logical_and(is_whole, within))


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of ``x`` and ``y``; NaN where either is NaN."""
    return _apply(primitives.maximum, "maximum", x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of ``x`` and ``y``; NaN where either is NaN."""
    return _apply(primitives.minimum, "minimum", x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """``x`` limited to ``[min, max]``, with gradient 1 at the bounds too; ``None`` does not limit."""
    if min is None and max is None:
        return same_value(as_tensor(x, "clip"))
    result, *bounds = operands("clip", *(item for item in (x, min, max) if item is not None))
    if min is not None:
        result = where(less(result, bounds[0]), bounds[0], result)
    if max is not None:
        result = where(greater(result, bounds[-1]), bounds[-1], result)
    return result


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """``x`` where ``condition``, else ``y``; without those the positions where it is true, see :func:`nonzero`.

    The gradient of what is not taken is 0, also where it was computed by operations whose derivative there is infinite
    or NaN (``tj.config.masked_where = False`` makes it NaN, as in other libraries).

    >>> import tracejit as tj
    >>> tj.where(tj.tensor([True, False]), 1.0, 2.0)
    tensor([1., 2.])
    >>> tj.grad(lambda x: tj.where(x > 0, tj.sqrt(x), 0.0))(0.0)
    tensor(0.)
    """
    if x is None and y is None:
        from .sorting import nonzero

        return nonzero(condition)
    return _choose(condition, x, y)


def _choose(condition: Any, x: Any, y: Any) -> Tensor:
    predicate = as_tensor(condition, "where")
    if predicate.dtype != bool_:
        raise at_user_line(TypeError(f"where: the condition must be bool, got {predicate.dtype}"))
    return apply(primitives.select, (predicate, *operands("where", x, y)), {})


def negative(x: Any) -> Tensor:
    """``-x``."""
    return _apply(primitives.negate, "negative", x)


def positive(x: Any) -> Tensor:
    """``x``, as a new tensor."""
    tensor = as_tensor(x, "positive")
    return apply(primitives.convert, (tensor,), {"dtype": tensor.dtype})


def abs(x: Any) -> Tensor:
    """The absolute value; of a complex number its magnitude, a real number."""
    tensor = as_tensor(x, "abs")
    if tensor.dtype.kind == "c":
        return apply(exact.complex_abs, (tensor,), {})
    return _apply(primitives.abs, "abs", tensor)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1, as ``x`` is negative, zero or positive; NaN for NaN."""
    return _apply(primitives.sign, "sign", x)


def square(x: Any) -> Tensor:
    """``x * x``."""
    tensor = as_tensor(x, "square")
    return multiply(tensor, tensor)


def reciprocal(x: Any) -> Tensor:
    """``1 / x``."""
    return divide(1, x)


def exp(x: Any) -> Tensor:
    """``e ** x``."""
    return _apply(primitives.exponential, "exp", x, lowest_kind=FLOAT)


def expm1(x: Any) -> Tensor:
    """``e ** x - 1``, accurate near 0."""
    return _apply(primitives.exponential_minus_one, "expm1", x, lowest_kind=FLOAT)


def log(x: Any) -> Tensor:
    """The natural logarithm; NaN for negative numbers, -inf for 0."""
    return _apply(primitives.log, "log", x, lowest_kind=FLOAT)


def log1p(x: Any) -> Tensor:
    """``log(1 + x)``, accurate near 0."""
    return _apply(primitives.log_plus_one, "log1p", x, lowest_kind=FLOAT)


def sqrt(x: Any) -> Tensor:
    """The square root; NaN for negative numbers."""
    return _apply(primitives.sqrt, "sqrt", x, lowest_kind=FLOAT)


def rsqrt(x: Any) -> Tensor:
    """``1 / sqrt(x)``."""
    return _apply(primitives.rsqrt, "rsqrt", x, lowest_kind=FLOAT)


def sin(x: Any) -> Tensor:
    """The sine of an angle in radians."""
    return _apply(primitives.sine, "sin", x, lowest_kind=FLOAT)


def cos(x: Any) -> Tensor:
    """The cosine of an angle in radians."""
    return _apply(primitives.cosine, "cos", x, lowest_kind=FLOAT)


def tan(x: Any) -> Tensor:
    """The tangent of an angle in radians."""
    return _apply(primitives.tan, "tan", x, lowest_kind=FLOAT)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""
    return _apply(primitives.tanh, "tanh", x, lowest_kind=FLOAT)


def sigmoid(x: Any) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return _apply(primitives.logistic, "sigmoid", x, lowest_kind=FLOAT)


expit = sigmoid  # as SciPy has it


def erf(x: Any) -> Tensor:
    """The error function."""
    return _apply(primitives.erf, "erf", x, lowest_kind=FLOAT)


def erfinv(x: Any) -> Tensor:
    """The inverse of the error function; ±inf at ±1, NaN beyond."""
    return _apply(primitives.erf_inv, "erfinv", x, lowest_kind=FLOAT)


def real_numbers(name: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors; ``TypeError`` for complex ones."""
    for tensor in tensors:
        if tensor.dtype.kind == "c":
            raise at_user_line(TypeError(f"{name} is defined for real numbers, got {tensor.dtype}"))
    return tensors


def relu(x: Any) -> Tensor:
    """``max(x, 0)``, with gradient 0 at 0; NaN stays NaN.

    >>> import tracejit as tj
    >>> tj.relu(tj.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    (tensor,) = real_numbers("relu", as_tensor(x, "relu"))
    return where(less_equal(tensor, 0), 0, tensor)


def _rounding(primitive: Any, name: str, x: Any) -> Tensor:
    tensor = as_tensor(x, name)
    return same_value(tensor) if is_integer(tensor.dtype) else _apply(primitive, name, tensor)


def floor(x: Any) -> Tensor:
    """The largest integer not above ``x``, in ``x``'s dtype."""
    return _rounding(primitives.floor, "floor", x)


def ceil(x: Any) -> Tensor:
    """The smallest integer not below ``x``, in ``x``'s dtype."""
    return _rounding(primitives.ceil, "ceil", x)


def round(x: Any, decimals: int = 0) -> Tensor:
    """The nearest number of so many ``decimals``, halves to even, in ``x``'s dtype.

    >>> import tracejit as tj
    >>> tj.round(tj.tensor([0.5, 1.25]), decimals=1)
    tensor([0.5, 1.2])
    """
    if decimals == 0:
        return _rounding(primitives.round_nearest_even, "round", x)
    tensor = as_tensor(x, "round")
    factor = 10.0 ** (decimals if decimals > 0 else -decimals)
    if decimals > 0:
        if is_integer(tensor.dtype):
            return same_value(tensor)
        return divide(round(multiply(tensor, factor)), factor)
    scaled = divide(astype(tensor, float64) if is_integer(tensor.dtype) else tensor, factor)
    return astype(multiply(round(scaled), factor), tensor.dtype)


def _compare(name: str, direction: str, x: Any, y: Any) -> Tensor:
    return apply(primitives.compare, operands(name, x, y), {"direction": direction})


def equal(x: Any, y: Any) -> Tensor:
    """``x == y``."""
    return _compare("equal", "eq", x, y)


def not_equal(x: Any, y: Any) -> Tensor:
    """``x != y``."""
    return _compare("not_equal", "ne", x, y)


def less(x: Any, y: Any) -> Tensor:
    """``x < y``."""
    return _compare("less", "lt", x, y)


def less_equal(x: Any, y: Any) -> Tensor:
    """``x <= y``."""
    return _compare("less_equal", "le", x, y)


def greater(x: Any, y: Any) -> Tensor:
    """``x > y``."""
    return _compare("greater", "gt", x, y)


def greater_equal(x: Any, y: Any) -> Tensor:
    """``x >= y``."""
    return _compare("greater_equal", "ge", x, y)


def isnan(x: Any) -> Tensor:
    """Whether each element is NaN."""
    tensor = as_tensor(x, "isnan")
    return not_equal(tensor, tensor)


def isfinite(x: Any) -> Tensor:
    """Whether each element is neither NaN nor infinite."""
    tensor = as_tensor(x, "isfinite")
    if not is_differentiable(tensor.dtype):
        return equal(tensor, tensor)
    return apply(primitives.is_finite, (tensor,), {})


def isinf(x: Any) -> Tensor:
    """Whether each element is infinite."""
    tensor = as_tensor(x, "isinf")
    if tensor.dtype.kind == "c":
        return logical_or(isinf(apply(exact.real, (tensor,), {})), isinf(apply(exact.imag, (tensor,), {})))
    if not is_floating(tensor.dtype):
        return not_equal(tensor, tensor)
    return equal(abs(tensor), math.inf)


def _logical(primitive: Any, name: str, *arguments: Any) -> Tensor:
    tensors = [as_tensor(argument, name) for argument in arguments]
    truths = [t if t.dtype == bool_ else apply(primitives.convert, (t,), {"dtype": bool_}) for t in tensors]
    return _apply(primitive, name, *truths)


def logical_and(x: Any, y: Any) -> Tensor:
    """Whether both are true (not zero)."""
    return _logical(primitives.logical_and, "logical_and", x, y)


def logical_or(x: Any, y: Any) -> Tensor:
    """Whether either is true (not zero)."""
    return _logical(primitives.logical_or, "logical_or", x, y)


def logical_xor(x: Any, y: Any) -> Tensor:
    """Whether exactly one is true (not zero)."""
    return _logical(primitives.logical_xor, "logical_xor", x, y)


def logical_not(x: Any) -> Tensor:
    """Whether each element is false (zero)."""
    return _logical(primitives.logical_not, "logical_not", x)


def bitwise_and(x: Any, y: Any) -> Tensor:
    """``x & y`` for integers and bools."""
    return _apply(primitives.logical_and, "bitwise_and", x, y)


def bitwise_or(x: Any, y: Any) -> Tensor:
    """``x | y`` for integers and bools."""
    return _apply(primitives.logical_or, "bitwise_or", x, y)


def bitwise_xor(x: Any, y: Any) -> Tensor:
    """``x ^ y`` for integers and bools."""
    return _apply(primitives.logical_xor, "bitwise_xor", x, y)


def bitwise_invert(x: Any) -> Tensor:
    """``~x`` for integers and bools."""
    return _apply(primitives.logical_not, "bitwise_invert", x)


def astype(x: Any, dtype: Any, copy: bool = True, device: str | None = None) -> Tensor:
    """``x`` converted to ``dtype``; ``x`` itself where it has that dtype (tensors share values, so ``copy`` is moot).

    A float outside an integer's range saturates, NaN becomes 0, and a bool is "not zero".
    """
    import numpy as np

    tensor = as_tensor(x, "astype")
    wanted: DType = np.dtype(dtype)
    if tensor.dtype.kind == "c" and wanted.kind != "c" and wanted != bool_:
        raise at_user_line(TypeError(f"astype: {tensor.dtype} cannot be cast to {wanted}; take real(x) or abs(x)"))
    if device is not None:
        from .creation import put

        tensor = put(tensor, device)
    if tensor.dtype == wanted and not tensor._weak:
        return tensor
    if tensor.dtype == wanted:
        return new_tensor(tensor._value)
    return apply(primitives.convert, (tensor,), {"dtype": wanted})
