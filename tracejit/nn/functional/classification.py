"""Losses of classifiers: cross entropy and its relatives."""

from __future__ import annotations

from typing import Any

from tracejit.backends.devices import is_array
from tracejit.ir.types import HALF_DTYPES, int64, is_floating, is_integer

from ... import dispatch
from ...locations import at_user_line
from ...ops import elementary, elementwise, indexing, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...tensor import Tensor, new_tensor
from .activation import log_softmax, shifted_by_max, type_name
from .loss import check_reduction, reduced


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
    check_reduction(reduction)
    x, labels = as_tensor(input, "cross_entropy"), as_tensor(target, "cross_entropy")
    if not 0 <= label_smoothing <= 1:
        raise at_user_line(RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}"))
    if x.dtype in HALF_DTYPES:
        wide = cross_entropy(
            reductions.widened(x), labels, weight, ignore_index, reduction, label_smoothing
        )  # rounded once
        return elementwise.astype(wide, x.dtype)
    if x.ndim and labels.shape == x.shape:
        return _cross_entropy_of_probabilities(x, labels, weight, reduction, label_smoothing)
    axis = _class_axis("cross_entropy", x, labels)
    chosen, used = _chosen_classes(x, labels, axis, ignore_index)
    shifted, _ = shifted_by_max("cross_entropy", x, axis)
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
        message = f"Expected floating point type for target with class probabilities, got {type_name(target)}"
        raise at_user_line(RuntimeError(message))
    axis = 1 if x.ndim > 1 else 0
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / x.shape[axis]
    weights = _class_weights(weight, x, axis)
    if weights is not None:
        target = target * weights
    return reduced(-reductions.sum(log_softmax(x, axis) * target, axis), mode)


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """Minus the element of ``input`` (log-probabilities) at each position's class; see :func:`cross_entropy`.

    >>> import tracejit as tj
    >>> nll_loss(tj.tensor([[-0.5, -1.0], [-2.0, -0.25]]), tj.tensor([0, 1]))
    tensor(0.375)
    """
    check_reduction(reduction)
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
    softplus = elementary.logaddexp(-x, 0)  # of -x
    if pos_weight is not None:
        softplus = softplus * (1 + (as_tensor(pos_weight, "binary_cross_entropy") - 1) * wanted)
    losses = (1 - wanted) * x + softplus
    return reduced(losses if weight is None else losses * weight, reduction)


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
        problem = RuntimeError(f"expected scalar type Long but found {type_name(labels)}")
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
    indexing.check(reductions.all(allowed), IndexError, lambda: _out_of_bounds(labels, allowed, classes))
    numbers = new_tensor(dispatch.payload_emitter.iota(size=classes, dtype=int64))
    column = manipulation.reshape(numbers, (classes, *[1] * (x.ndim - axis - 1)))
    return elementwise.equal(manipulation.expand_dims(labels, axis), column), used


def _out_of_bounds(labels: Tensor, allowed: Tensor, classes: int) -> str:
    """Names the first label that is no class, where there are values to look at: not in a trace or a transformation."""
    if not (is_array(allowed._value) and is_array(labels._value)):
        return f"Target is out of bounds: expected classes from 0 to {classes - 1}."
    wrong = labels.cpu().numpy()[~allowed.cpu().numpy()]
    return f"Target {wrong[0]} is out of bounds."


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
