"""Activations, as functions of tensors of any shape."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.types import HALF_DTYPES, float32, is_floating

from ...locations import at_user_line
from ...ops import creation, elementary, elementwise, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...random import default_generator
from ...tensor import Tensor

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

_TYPE_NAMES = {
    "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int",
    "bool": "Bool",
}  # fmt: skip


def type_name(tensor: Tensor) -> str:
    """A dtype as PyTorch's messages call it."""
    return _TYPE_NAMES.get(tensor.dtype.name, tensor.dtype.name)


# ``inplace`` writes the result to the input tensor too, and returns that.


def written(input: Any, result: Tensor, inplace: bool) -> Tensor:
    """The result; with ``inplace`` it is the value of the input tensor too."""
    return input._assign(result) if inplace else result


def relu(input: Any, inplace: bool = False) -> Tensor:
    """``max(input, 0)``, with gradient 0 at 0."""
    return written(input, elementwise.relu(input), inplace)


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """``input`` times the normal distribution function of it, exact or by ``approximate="tanh"``.

    >>> import tracejit as tj
    >>> gelu(tj.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.    ,  0.8413])
    """
    x = as_tensor(input, "gelu")
    if approximate == "none":
        return 0.5 * x * (1 + elementwise.erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * x * (1 + elementwise.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    raise at_user_line(ValueError(f"approximate argument must be either none or tanh, got {approximate!r}"))


def silu(input: Any, inplace: bool = False) -> Tensor:
    """``input * sigmoid(input)``."""
    x = as_tensor(input, "silu")
    return written(input, x * elementwise.sigmoid(x), inplace)


def sigmoid(input: Any) -> Tensor:
    """``1 / (1 + exp(-input))``."""
    return elementwise.sigmoid(input)


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent."""
    return elementwise.tanh(input)


def softmax(input: Any, dim: int, dtype: Any = None) -> Tensor:
    """``exp(input)`` divided by its sum along ``dim``.

    >>> import tracejit as tj
    >>> softmax(tj.tensor([0.0, 0.0]), dim=0)
    tensor([0.5, 0.5])
    """
    x = as_tensor(input, "softmax")
    if dtype is None and x.dtype in HALF_DTYPES:  # rounded once
        return elementwise.astype(softmax(x, dim, float32), x.dtype)
    shifted, axis = shifted_by_max("softmax", x, dim, dtype)
    powers = elementwise.exp(shifted)
    return powers / reductions.sum(powers, axis, keepdims=True)


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Tensor:
    """The logarithm of :func:`softmax`, without overflow.

    >>> import tracejit as tj
    >>> log_softmax(tj.tensor([1e4, 1e4]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    x = as_tensor(input, "log_softmax")
    if dtype is None and x.dtype in HALF_DTYPES:  # rounded once
        return elementwise.astype(log_softmax(x, dim, float32), x.dtype)
    shifted, axis = shifted_by_max("log_softmax", x, dim, dtype)
    return shifted - elementwise.log(reductions.sum(elementwise.exp(shifted), axis, keepdims=True))


def shifted_by_max(name: str, input: Any, dim: int, dtype: Any = None) -> tuple[Tensor, int]:
    """``input`` minus its largest element along ``dim`` (no gradient flows to that one), and ``dim`` from the front."""
    x = as_tensor(input, name)
    if dtype is not None:
        x = elementwise.astype(x, dtype)
    if not is_floating(x.dtype):
        message = f"{name} is not implemented for {type_name(x)}, only for floating-point tensors"
        raise at_user_line(RuntimeError(message))
    (axis,) = reductions.normalize_axes(name, dim, x.ndim)
    if x.shape[axis] == 0:
        return x, axis
    return x - reductions.max(x.detach(), axis, keepdims=True), axis


# Piecewise activations.  Where a branch's derivative may overflow, its argument is kept harmless where the other is
# taken: 0 times infinity is no gradient.


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``input`` where it is positive, else ``negative_slope * input``."""
    x = as_tensor(input, "leaky_relu")
    return written(input, elementwise.where(elementwise.greater(x, 0), x, x * negative_slope), inplace)


def rrelu(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """:func:`leaky_relu` with a slope for each element, drawn from ``[lower, upper)`` in training, else their mean."""
    x = as_tensor(input, "rrelu")
    if lower > upper:
        message = f"Lower bound should be less than or equal to the upper bound, got {lower} and {upper}"
        raise at_user_line(RuntimeError(message))
    slope: Any = (lower + upper) / 2
    if training:
        slope = default_generator.uniform(x.shape, lower, upper, x.dtype, x.device)
    return written(input, elementwise.where(elementwise.greater(x, 0), x, x * slope), inplace)


def prelu(input: Any, weight: Any) -> Tensor:
    """:func:`leaky_relu` with a slope that is learned: one, or one for each channel (axis 1)."""
    x, slope = as_tensor(input, "prelu"), as_tensor(weight, "prelu")
    if slope.size == 1:
        slope = manipulation.reshape(slope, ())
    else:
        channels = x.shape[1] if x.ndim > 1 else 1
        if slope.size != channels:
            message = (
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {slope.size} and "
                f"channel size = {channels}."
            )
            raise at_user_line(RuntimeError(message))
        slope = manipulation.reshape(slope, (1, channels, *[1] * (x.ndim - 2)))
    return elementwise.where(elementwise.greater(x, 0), x, x * slope)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` where it is positive, else ``alpha * (exp(input) - 1)``.

    >>> import tracejit as tj
    >>> elu(tj.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.    ])
    """
    return written(input, _exponential_below("elu", input, alpha, 1.0, 1.0), inplace)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` where it is positive, else ``alpha * (exp(input / alpha) - 1)``."""
    return written(input, _exponential_below("celu", input, alpha, 1.0, alpha), inplace)


def selu(input: Any, inplace: bool = False) -> Tensor:
    """:func:`elu` with the scales that keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    result = _exponential_below("selu", input, SELU_ALPHA * SELU_SCALE, SELU_SCALE, 1.0)
    return written(input, result, inplace)


def _exponential_below(name: str, input: Any, alpha: float, scale: float, width: float) -> Tensor:
    x = as_tensor(input, name)
    positive = elementwise.greater(x, 0)
    below = elementwise.where(positive, 0, x)
    below = below if width == 1.0 else below / width
    above = x if scale == 1.0 else scale * x
    return elementwise.where(positive, above, alpha * elementwise.expm1(below))


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(beta * input)) / beta``, and ``input`` itself where ``beta * input > threshold``.

    >>> import tracejit as tj
    >>> softplus(tj.tensor([0.0, 1e4]))
    tensor([6.9315e-01, 1.0000e+04])
    """
    x = as_tensor(input, "softplus")
    scaled = x if beta == 1.0 else beta * x
    over = elementwise.greater(scaled, threshold)
    curved = elementwise.log1p(elementwise.exp(elementwise.where(over, 0, scaled)))
    return elementwise.where(over, x, curved if beta == 1.0 else curved / beta)


def logsigmoid(input: Any) -> Tensor:
    """The logarithm of the sigmoid, without overflow."""
    return -elementary.logaddexp(-as_tensor(input, "logsigmoid"), 0)


def mish(input: Any, inplace: bool = False) -> Tensor:
    """``input * tanh(softplus(input))``."""
    x = as_tensor(input, "mish")
    return written(input, x * elementwise.tanh(softplus(x)), inplace)


def softsign(input: Any) -> Tensor:
    """``input / (1 + |input|)``."""
    x = as_tensor(input, "softsign")
    return x / (1 + elementwise.abs(x))


def tanhshrink(input: Any) -> Tensor:
    """``input - tanh(input)``."""
    x = as_tensor(input, "tanhshrink")
    return x - elementwise.tanh(x)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` limited to ``[min_val, max_val]``, with gradient 0 at the limits and beyond."""
    if min_val > max_val:
        raise at_user_line(ValueError("min_val cannot be greater than max_val"))
    x = as_tensor(input, "hardtanh")
    low = elementwise.where(elementwise.less_equal(x, min_val), min_val, x)
    return written(input, elementwise.where(elementwise.greater_equal(x, max_val), max_val, low), inplace)


def relu6(input: Any, inplace: bool = False) -> Tensor:
    """``input`` limited to ``[0, 6]``."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardsigmoid(input: Any, inplace: bool = False) -> Tensor:
    """``input / 6 + 1 / 2`` limited to ``[0, 1]``."""
    return written(input, hardtanh(as_tensor(input, "hardsigmoid") + 3, 0.0, 6.0) / 6, inplace)


def hardswish(input: Any, inplace: bool = False) -> Tensor:
    """``input`` times :func:`hardsigmoid` of it."""
    x = as_tensor(input, "hardswish")
    middle = elementwise.where(elementwise.less_equal(x, -3), 0, x * (x + 3) / 6)
    return written(input, elementwise.where(elementwise.greater_equal(x, 3), x, middle), inplace)


def hardshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """``input``, but 0 in ``[-lambd, lambd]``."""
    x = as_tensor(input, "hardshrink")
    return elementwise.where(elementwise.less_equal(elementwise.abs(x), lambd), 0, x)


def softshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """``input`` moved towards 0 by ``lambd``, and 0 in ``[-lambd, lambd]``."""
    x = as_tensor(input, "softshrink")
    moved = elementwise.where(elementwise.greater(x, 0), x - lambd, x + lambd)
    return elementwise.where(elementwise.less_equal(elementwise.abs(x), lambd), 0, moved)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``input`` where it is above ``threshold``, else ``value``."""
    x = as_tensor(input, "threshold")
    return written(input, elementwise.where(elementwise.greater(x, threshold), x, value), inplace)


def glu(input: Any, dim: int = -1) -> Tensor:
    """The first half of ``input`` along ``dim`` times the sigmoid of the second: extent ``2 n`` → ``n``."""
    x = as_tensor(input, "glu")
    (axis,) = reductions.normalize_axes("glu", dim, x.ndim)
    extent = x.shape[axis]
    if extent % 2:
        message = f"Halving dimension must be even, but dimension {axis} is size {extent}"
        raise at_user_line(RuntimeError(message))
    before = (slice(None),) * axis
    return x[(*before, slice(extent // 2))] * elementwise.sigmoid(x[(*before, slice(extent // 2, None))])


def softmin(input: Any, dim: int, dtype: Any = None) -> Tensor:
    """:func:`softmax` of ``-input``."""
    return softmax(-as_tensor(input, "softmin"), dim, dtype)


def gumbel_softmax(logits: Any, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A random one-hot vector with the probabilities ``softmax(logits)``, softened so that it has a gradient.

    It is ``softmax((logits + g) / tau)`` with ``g`` of the Gumbel distribution (Jang et al., 2017).  With ``hard`` the
    value is the one-hot vector itself, and the gradient that of the soft one.  ``eps`` changes nothing, as in PyTorch.

    >>> import tracejit as tj
    >>> gumbel_softmax(tj.tensor([0.0, 200.0, 0.0]), hard=True)
    tensor([0., 1., 0.])
    """
    x = as_tensor(logits, "gumbel_softmax")
    unit = default_generator.uniform(x.shape, dtype=x.dtype, device=x.device) + 2.0**-26  # above zero
    soft = softmax((x - elementwise.log(-elementwise.log(unit))) / tau, dim)
    if not hard:
        return soft
    (axis,) = reductions.normalize_axes("gumbel_softmax", dim, x.ndim)
    chosen = creation.one_hot(reductions.argmax(soft.detach(), axis), x.shape[axis], dtype=soft.dtype)
    order = (*range(axis), x.ndim - 1, *range(axis, x.ndim - 1))
    return manipulation.permute_dims(chosen, order) - soft.detach() + soft
