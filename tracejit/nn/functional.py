"""The computations of the layers and losses, as functions.

Softmax, layer norm and the losses are written with reductions along rows and elementwise operations, so that
each becomes one kernel over rows when it is compiled.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from tracejit.ir.types import format_shape, int64, is_floating, is_integer

from .. import dispatch, random
from ..locations import at_user_line, user_location
from ..ops import creation, elementwise, indexing, linalg, manipulation, reduction as reductions
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
    """The last axes, of shape ``normalized_shape``, brought to mean 0 and variance 1; then ``weight`` and ``bias``.

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
    centered = x - reductions.mean(x, axes, keepdims=True)
    variance = reductions.mean(centered * centered, axes, keepdims=True)
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
    return powers / reductions.sum(powers, axis, keepdims=True)


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Tensor:
    """The logarithm of :func:`softmax`, without overflow.

    >>> import tracejit as tj
    >>> log_softmax(tj.tensor([1e4, 1e4]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    shifted, axis = _shifted("log_softmax", input, dim, dtype)
    return shifted - elementwise.log(reductions.sum(elementwise.exp(shifted), axis, keepdims=True))


def _shifted(name: str, input: Any, dim: int, dtype: Any = None) -> tuple[Tensor, int]:
    """``input`` minus its largest element along ``dim`` (no gradient flows to that one), and ``dim`` from the front."""
    x = as_tensor(input, name)
    if dtype is not None:
        x = elementwise.astype(x, dtype)
    if not is_floating(x.dtype):
        message = f"{name} is not implemented for {_type_name(x)}, only for floating-point tensors"
        raise at_user_line(RuntimeError(message))
    (axis,) = reductions.normalize_axes(name, dim, x.ndim)
    if x.shape[axis] == 0:
        return x, axis
    return x - reductions.max(x.detach(), axis, keepdims=True), axis


# Losses ---------------------------------------------------------------------------------------------


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
    if x.ndim and labels.shape == x.shape:
        return _cross_entropy_of_probabilities(x, labels, weight, reduction, label_smoothing)
    axis = _class_axis("cross_entropy", x, labels)
    chosen, used = _chosen_classes(x, labels, axis, ignore_index)
    shifted, _ = _shifted("cross_entropy", x, axis)
    log_total = elementwise.log(reductions.sum(elementwise.exp(shifted), axis))
    losses = log_total - reductions.sum(elementwise.where(chosen, shifted, 0), axis)
    weights = _class_weights(weight, x, axis)
    scale = None
    if weights is not None:
        scale = reductions.sum(elementwise.where(chosen, weights, 0), axis)
        losses = losses * scale
    if label_smoothing:
        classes = x.shape[axis]
        if weights is None:
            spread = log_total * classes - reductions.sum(shifted, axis)
        else:
            spread = log_total * reductions.sum(weights) - reductions.sum(weights * shifted, axis)
        losses = (1 - label_smoothing) * losses + (label_smoothing / classes) * spread
    return _reduced_over_used(losses, used, scale, reduction)


def _cross_entropy_of_probabilities(
    x: Tensor, target: Tensor, weight: Any, mode: str, label_smoothing: float
) -> Tensor:
    if not is_floating(target.dtype):
        message = f"Expected floating point type for target with class probabilities, got {_type_name(target)}"
        raise at_user_line(RuntimeError(message))
    axis = 1 if x.ndim > 1 else 0
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / x.shape[axis]
    weights = _class_weights(weight, x, axis)
    if weights is not None:
        target = target * weights
    return _reduced(-reductions.sum(log_softmax(x, axis) * target, axis), mode)


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """Minus the element of ``input`` (log-probabilities) at each position's class; see :func:`cross_entropy`.

    >>> import tracejit as tj
    >>> nll_loss(tj.tensor([[-0.5, -1.0], [-2.0, -0.25]]), tj.tensor([0, 1]))
    tensor(0.375)
    """
    _check_reduction(reduction)
    x, labels = as_tensor(input, "nll_loss"), as_tensor(target, "nll_loss")
    axis = _class_axis("nll_loss", x, labels)
    chosen, used = _chosen_classes(x, labels, axis, ignore_index)
    losses = -reductions.sum(elementwise.where(chosen, x, 0), axis)
    weights = _class_weights(weight, x, axis)
    scale = None
    if weights is not None:
        scale = reductions.sum(elementwise.where(chosen, weights, 0), axis)
        losses = losses * scale
    return _reduced_over_used(losses, used, scale, reduction)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The squared difference of ``input`` and ``target``, by default its mean over all elements.

    >>> import tracejit as tj
    >>> mse_loss(tj.tensor([1.0, 2.0]), tj.tensor([1.0, 4.0]))
    tensor(2.)
    """
    x, wanted = as_tensor(input, "mse_loss"), as_tensor(target, "mse_loss")
    _warn_of_broadcasting(x, wanted)
    difference = x - wanted
    return _reduced(difference * difference, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The distance of ``input`` and ``target``, by default its mean over all elements.

    >>> import tracejit as tj
    >>> l1_loss(tj.tensor([1.0, 2.0]), tj.tensor([1.0, 4.0]))
    tensor(1.)
    """
    x, wanted = as_tensor(input, "l1_loss"), as_tensor(target, "l1_loss")
    _warn_of_broadcasting(x, wanted)
    return _reduced(elementwise.abs(x - wanted), reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """The cross entropy of ``sigmoid(input)`` and the probabilities ``target``, of one shape, without overflow.

    ``weight`` scales the losses, ``pos_weight`` those of the positive class.

    >>> import tracejit as tj
    >>> binary_cross_entropy_with_logits(tj.tensor([0.0, 1e4]), tj.tensor([1.0, 1.0]))
    tensor(0.3466)
    """
    x, wanted = as_tensor(input, "binary_cross_entropy"), as_tensor(target, "binary_cross_entropy")
    if x.shape != wanted.shape:
        message = f"Target size ({wanted.shape}) must be the same as input size ({x.shape})"
        raise at_user_line(ValueError(message))
    softplus = elementwise.log1p(elementwise.exp(-elementwise.abs(x))) + elementwise.maximum(-x, 0)  # of -x
    if pos_weight is not None:
        softplus = softplus * (1 + (as_tensor(pos_weight, "binary_cross_entropy") - 1) * wanted)
    losses = (1 - wanted) * x + softplus
    return _reduced(losses if weight is None else losses * weight, reduction)


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """1 at each label's position along a new last axis, else 0; as many classes as there are, for -1.

    >>> import tracejit as tj
    >>> one_hot(tj.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    labels = as_tensor(tensor, "one_hot")
    if not is_integer(labels.dtype):
        raise at_user_line(RuntimeError(f"one_hot is only applicable to index tensors, got {labels.dtype.name}"))
    if num_classes == -1:
        if labels.size == 0:
            raise at_user_line(RuntimeError("Can not infer total number of classes from empty tensor."))
        num_classes = int(reductions.max(labels)) + 1
    elif num_classes < 1:
        raise at_user_line(RuntimeError("num_classes should be positive"))
    positive = reductions.all(elementwise.greater_equal(labels, 0))
    indexing.check(positive, RuntimeError, "Class values must be non-negative.")
    below = reductions.all(elementwise.less(labels, num_classes))
    indexing.check(below, RuntimeError, "Class values must be smaller than num_classes.")
    return creation.one_hot(labels, num_classes)


# What the losses share ------------------------------------------------------------------------------

_REDUCTIONS = ("none", "mean", "sum")
_TYPE_NAMES = {
    "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int",
    "bool": "Bool",
}  # fmt: skip


def _type_name(tensor: Tensor) -> str:
    return _TYPE_NAMES.get(tensor.dtype.name, tensor.dtype.name)


def _check_reduction(mode: str) -> None:
    if mode not in _REDUCTIONS:
        raise at_user_line(ValueError(f"{mode} is not a valid value for reduction"))


def _reduced(losses: Tensor, mode: str) -> Tensor:
    """One number for the losses of all elements, or the losses themselves."""
    _check_reduction(mode)
    if mode == "none":
        return losses
    return reductions.mean(losses) if mode == "mean" else reductions.sum(losses)


def _reduced_over_used(losses: Tensor, used: Tensor, scale: Tensor | None, mode: str) -> Tensor:
    """The losses of the positions that count; the mean divides by their number, or by the sum of their weights."""
    losses = elementwise.where(used, losses, 0)
    if mode == "none":
        return losses
    total = reductions.sum(losses)
    if mode == "sum":
        return total
    if scale is None:
        return total / elementwise.astype(reductions.sum(used), losses.dtype)
    return total / reductions.sum(elementwise.where(used, scale, 0))


def _class_axis(name: str, x: Tensor, labels: Tensor) -> int:
    """The axis of the classes, where ``labels`` is a class index for each position."""
    axis = 1 if x.ndim > 1 else 0
    positions = x.shape[:axis] + x.shape[axis + 1 :]
    problem: Exception | None = None
    if x.ndim == 0:
        problem = ValueError(f"{name}: the input must have a class axis, got a 0-d tensor")
    elif x.ndim == 2 and labels.ndim > 1:
        problem = RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    elif x.ndim > 1 and x.shape[0] != (labels.shape[0] if labels.ndim else 1):
        count = labels.shape[0] if labels.ndim else 1
        problem = ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({count}).")
    elif labels.shape != positions:
        problem = RuntimeError(f"Expected target size {list(positions)}, got {list(labels.shape)}")
    elif not is_integer(labels.dtype):
        problem = RuntimeError(f"expected scalar type Long but found {_type_name(labels)}")
    if problem is not None:
        raise at_user_line(problem)
    return axis


def _chosen_classes(x: Tensor, labels: Tensor, axis: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Where, in ``x``'s shape, each position's class is; and which positions count."""
    labels = elementwise.astype(labels, int64)
    classes = x.shape[axis]
    used = elementwise.not_equal(labels, ignore_index)
    inside = elementwise.logical_and(elementwise.greater_equal(labels, 0), elementwise.less(labels, classes))
    allowed = elementwise.logical_or(inside, elementwise.logical_not(used))
    indexing.check(reductions.all(allowed), IndexError, _out_of_bounds(labels, allowed, classes))
    numbers = new_tensor(dispatch.payload_emitter.iota(size=classes, dtype=int64))
    column = manipulation.reshape(numbers, (classes, *[1] * (x.ndim - axis - 1)))
    return elementwise.equal(manipulation.expand_dims(labels, axis), column), used


def _out_of_bounds(labels: Tensor, allowed: Tensor, classes: int) -> str:
    """Names the first label that is no class; a compiled function has no text for one that it has yet to see."""
    if creation.is_traced(allowed):
        return f"Target is out of bounds: expected classes from 0 to {classes - 1}."
    wrong = labels.numpy()[~allowed.numpy()]
    return f"Target {wrong[0]} is out of bounds." if wrong.size else ""


def _class_weights(weight: Any, x: Tensor, axis: int) -> Tensor | None:
    """The classes' weights in a shape that broadcasts against ``x``."""
    if weight is None:
        return None
    weights = as_tensor(weight, "weight")
    classes = x.shape[axis]
    if weights.shape != (classes,):
        message = f"weight tensor should be defined either for all {classes} classes or no classes"
        raise at_user_line(RuntimeError(f"{message} but got weight tensor of shape: {list(weights.shape)}"))
    return manipulation.reshape(weights, (classes, *[1] * (x.ndim - axis - 1)))


def _warn_of_broadcasting(x: Tensor, target: Tensor) -> None:
    if x.shape == target.shape:
        return
    message = (
        f"Using a target size ({format_shape(target.shape)}) that is different to the input size "
        f"({format_shape(x.shape)}). This will likely lead to incorrect results due to broadcasting. "
        "Please ensure they have the same size."
    )
    location, frame = user_location()
    if location is None or frame is None:
        warnings.warn(message, UserWarning, stacklevel=3)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})  # as warnings.warn does: once a line
    warnings.warn_explicit(message, UserWarning, location.file, location.line, registry=registry)


__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "dropout", "gelu", "l1_loss", "layer_norm", "linear",
    "log_softmax", "mse_loss", "nll_loss", "one_hot", "relu", "sigmoid", "silu", "softmax", "tanh",
]  # fmt: skip
