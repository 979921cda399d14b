"""The computations of the layers and losses, as functions.

Softmax, layer norm and the losses are written with reductions along rows and elementwise operations, so that
each becomes one kernel over rows when it is compiled.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from tracejit.ir.types import bool_, format_shape, int64, is_floating, is_integer

from .. import dispatch, random
from ..locations import at_user_line, user_location
from ..ops import creation, elementwise, indexing, linalg, manipulation, reduction
from ..promotion import as_tensor
from ..tensor import Tensor, new_tensor

# Layers ---------------------------------------------------------------------------------------------


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """``input @ weight.T + bias``, for ``input`` of shape ``(…, in)`` and ``weight`` of shape ``(out, in)``.

    >>> import tracejit as tj
    >>> linear(tj.ones(2, 3), tj.ones(4, 3), tj.zeros(4)).shape
    (2, 4)
    """
    x, w = as_tensor(input, "linear"), as_tensor(weight, "linear")
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[1]:
        rows = math.prod(x.shape[:-1])
        columns = x.shape[-1] if x.ndim else 0
        transposed = "x".join(map(str, reversed(w.shape)))
        message = f"mat1 and mat2 shapes cannot be multiplied ({rows}x{columns} and {transposed})"
        raise at_user_line(RuntimeError(message))
    result = linalg.matmul(x, manipulation.matrix_transpose(w))
    return result if bias is None else elementwise.add(result, bias)


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """The last axes, of shape ``normalized_shape``, shifted and scaled to mean 0 and variance 1; then ``weight``, ``bias``.

    >>> import tracejit as tj
    >>> layer_norm(tj.tensor([[1.0, 3.0]]), 2)
    tensor([[-1.,  1.]])
    """
    x = as_tensor(input, "layer_norm")
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        message = (
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[*, {', '.join(map(str, shape))}], but got input of size {list(x.shape)}"
        )
        raise at_user_line(RuntimeError(message))
    axes = tuple(range(-len(shape), 0))
    centered = x - reduction.mean(x, axes, keepdims=True)
    variance = reduction.mean(centered * centered, axes, keepdims=True)
    result = centered * elementwise.rsqrt(variance + eps)
    if weight is not None:
        result = result * weight
    return result if bias is None else result + bias


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element zero with probability ``p``, the others scaled by ``1 / (1 - p)``; a copy when not training.

    >>> import tracejit as tj
    >>> dropout(tj.ones(3), 0.5, training=False)
    tensor([1., 1., 1.])
    """
    x = as_tensor(input, "dropout")
    if not 0 <= p <= 1:
        raise at_user_line(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
    if not training or p == 0:
        return elementwise.positive(x)
    if p == 1:
        return elementwise.where(creation.full((), False), x, 0)
    return elementwise.where(random.bernoulli(1 - p, x.shape), x * (1 / (1 - p)), 0)


# Activations ----------------------------------------------------------------------------------------


def relu(input: Any) -> Tensor:
    """``max(input, 0)``, with gradient 0 at 0."""
    return elementwise.relu(input)


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


def silu(input: Any) -> Tensor:
    """``input * sigmoid(input)``."""
    x = as_tensor(input, "silu")
    return x * elementwise.sigmoid(x)


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
    shifted, axis = _shifted("softmax", input, dim, dtype)
    powers = elementwise.exp(shifted)
    return powers / reduction.sum(powers, axis, keepdims=True)


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Tensor:
    """The logarithm of :func:`softmax`, without overflow.

    >>> import tracejit as tj
    >>> log_softmax(tj.tensor([1e4, 1e4]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    shifted, axis = _shifted("log_softmax", input, dim, dtype)
    return shifted - elementwise.log(reduction.sum(elementwise.exp(shifted), axis, keepdims=True))


def _shifted(name: str, input: Any, dim: int, dtype: Any = None) -> tuple[Tensor, int]:
    """``input`` minus its largest element along ``dim`` (no gradient flows to that one), and ``dim`` from the front."""
    x = as_tensor(input, name)
    if dtype is not None:
        x = elementwise.astype(x, dtype)
    if not is_floating(x.dtype):
        raise at_user_line(RuntimeError(f"{name} is not implemented for {x.dtype.name}, only for floating-point tensors"))
    (axis,) = reduction.normalize_axes(name, dim, x.ndim)
    if x.shape[axis] == 0:
        return x, axis
    return x - reduction.max(x.detach(), axis, keepdims=True), axis


# Losses ---------------------------------------------------------------------------------------------

_REDUCTIONS = ("none", "mean", "sum")


def _check_reduction(mode: str) -> None:
    if mode not in _REDUCTIONS:
        raise at_user_line(ValueError(f"{mode} is not a valid value for reduction"))


def _reduced(losses: Tensor, mode: str) -> Tensor:
    """One number for the losses of all elements, or the losses themselves."""
    _check_reduction(mode)
    if mode == "none":
        return losses
    return reduction.mean(losses) if mode == "mean" else reduction.sum(losses)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """How far the logits ``input`` are from the classes ``target``: minus the logarithm of their softmax there.

    ``input`` has shape ``(C,)``, ``(N, C)`` or ``(N, C, …)``.  ``target`` holds a class index for each position
    (the same shape without the class axis), or probabilities (``input``'s shape).  Positions whose index is
    ``ignore_index`` count for nothing; ``weight``, of shape ``(C,)``, scales the classes, and the mean then divides
    by the sum of the weights that were used.  Raises ``IndexError`` for an index that is no class.

    >>> import tracejit as tj
    >>> cross_entropy(tj.tensor([[2.0, 0.0], [0.0, 0.0]]), tj.tensor([0, 1]))
    tensor(0.41)
    """
    _check_reduction(reduction)
    x, labels = as_tensor(input, "cross_entropy"), as_tensor(target, "cross_entropy")
    if not 0 <= label_smoothing <= 1:
        raise at_user_line(ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}"))
    if labels.shape == x.shape and x.ndim:
        return _cross_entropy_of_probabilities(x, labels, weight, reduction, label_smoothing)
    axis = _class_axis("cross_entropy", x, labels)
    shifted, _ = _shifted("cross_entropy", x, axis)
    log_total = elementwise.log(_sum(elementwise.exp(shifted), axis))
    chosen, used = _chosen_classes(x, labels, axis, ignore_index)
    class_weights = _class_weights(weight, x, axis)
    losses = log_total - _sum(elementwise.where(chosen, shifted, 0), axis)
    scale = None
    if class_weights is not None:
        scale = _sum(elementwise.where(chosen, class_weights, 0), axis)
        losses = losses * scale
    if label_smoothing:
        classes = x.shape[axis]
        if class_weights is None:
            spread = classes * log_total - _sum(shifted, axis)
        else:
            spread = log_total * _sum(class_weights, axis) - _sum(class_weights * shifted, axis)
        losses = (1 - label_smoothing) * losses + (label_smoothing / classes) * spread
    return _reduced_over_used(losses, used, scale, reduction)


def _cross_entropy_of_probabilities(x: Tensor, target: Tensor, weight: Any, mode: str, label_smoothing: float) -> Tensor:
    if not is_floating(target.dtype):
        raise at_user_line(
            RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype.name}")
        )
    axis = 1 if x.ndim > 1 else 0
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / x.shape[axis]
    class_weights = _class_weights(weight, x, axis)
    if class_weights is not None:
        target = target * class_weights
    losses = -_sum(log_softmax(x, axis) * target, axis)
    return _reduced(losses, mode)


def nll_loss(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Minus the element of ``input`` (log-probabilities) at each position's class; see :func:`cross_entropy`.

    >>> import tracejit as tj
    >>> nll_loss(tj.tensor([[-0.5, -1.0], [-2.0, -0.25]]), tj.tensor([0, 1]))
    tensor(0.375)
    """
    _check_reduction(reduction)
    x, labels = as_tensor(input, "nll_loss"), as_tensor(target, "nll_loss")
    axis = _class_axis("nll_loss", x, labels)
    chosen, used = _chosen_classes(x, labels, axis, ignore_index)
    losses = -_sum(elementwise.where(chosen, x, 0), axis)
    class_weights = _class_weights(weight, x, axis)
    scale = None
    if class_weights is not None:
        scale = _sum(elementwise.where(chosen, class_weights, 0), axis)
        losses = losses * scale
    return _reduced_over_used(losses, used, scale, reduction)


def _sum(x: Tensor, axis: int) -> Tensor:
    """The sum along one axis (``reduction`` is an argument's name in the losses, as in PyTorch)."""
    return reduction.sum(x, axis)


def _class_axis(name: str, x: Tensor, labels: Tensor) -> int:
    """The axis of the classes, when ``labels`` is a class index for each position."""
    problem: Exception | None = None
    axis = 1 if x.ndim > 1 else 0
    positions = x.shape[:axis] + x.shape[axis + 1 :]
    if not is_floating(x.dtype):
        problem = RuntimeError(f"{name} is not implemented for {x.dtype.name}, only for floating-point tensors")
    elif x.ndim == 0:
        problem = ValueError(f"{name}: input must have a class axis, got a 0-d tensor")
    elif x.ndim == 2 and labels.ndim > 1:
        problem = RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    elif x.ndim > 1 and (not labels.ndim or x.shape[0] != labels.shape[0]):
        count = labels.shape[0] if labels.ndim else 1
        problem = ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({count}).")
    elif labels.shape != positions:
        problem = RuntimeError(f"Expected target size {list(positions)}, got {list(labels.shape)}")
    elif not is_integer(labels.dtype):
        problem = RuntimeError(f"expected scalar type Long but found {_TYPE_NAMES.get(labels.dtype.name, labels.dtype.name)}")
    if problem is not None:
        raise at_user_line(problem)
    return axis


_TYPE_NAMES = {"float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "bool": "Bool"}


def _chosen_classes(x: Tensor, labels: Tensor, axis: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Where, in ``x``'s shape, a position's class is; and which positions count."""
    labels = labels.detach()
    used = elementwise.not_equal(labels, ignore_index) if _holds(labels, ignore_index) else None
    classes = x.shape[axis]
    inside = elementwise.logical_and(elementwise.greater_equal(labels, 0), elementwise.less(labels, classes))
    if used is None:
        used = creation.full(labels.shape, True)
    else:
        inside = elementwise.logical_or(inside, elementwise.logical_not(used))
    indexing.check(reduction.all(inside), IndexError, _out_of_bounds(labels, inside, classes))
    numbers = new_tensor(dispatch.payload_emitter.iota(size=classes, dtype=labels.dtype))
    column = manipulation.reshape(numbers, (classes, *[1] * (x.ndim - axis - 1)))
    chosen = elementwise.equal(manipulation.expand_dims(labels, axis), column)
    if 0 <= ignore_index < classes:
        chosen = elementwise.logical_and(chosen, manipulation.expand_dims(used, axis))
    return chosen, used
