"""Losses that ask for a margin between classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.ir.types import int64

from ...locations import at_user_line
from ...ops import creation, cumulative, elementwise, indexing, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...tensor import Tensor
from .activation import logsigmoid
from .loss import pairwise_distance, reduced


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """What each other class lacks to stand ``margin`` below the target's, to the power ``p``, over the classes.

    ``(N, C)`` scores and ``(N,)`` classes; ``weight``, of shape ``(C,)``, scales the losses by their target.

    >>> import tracejit as tj
    >>> multi_margin_loss(tj.tensor([[0.0, 0.5, 0.0]]), tj.tensor([1]))
    tensor(0.3333)
    """
    x, labels = as_tensor(input, "multi_margin_loss"), as_tensor(target, "multi_margin_loss")
    if p not in (1, 2):
        raise at_user_line(ValueError("only p == 1 and p == 2 supported"))
    single = x.ndim < 2
    rows = manipulation.reshape(x, (1, -1)) if single else x
    labels = manipulation.reshape(labels, (-1, 1))
    if rows.ndim != 2 or labels.shape[0] != rows.shape[0]:
        message = f"inconsistent target size, expected [{rows.shape[0]}] but got {list(labels.shape[:1])}"
        raise at_user_line(RuntimeError(message))
    _check_labels(labels, rows.shape[1])
    lacks = elementwise.relu(margin - indexing.take_along_axis(rows, labels, 1) + rows)
    losses = lacks if p == 1 else lacks * lacks
    if weight is not None:
        losses = losses * indexing.get_item(as_tensor(weight, "multi_margin_loss"), labels)
    others = elementwise.not_equal(creation.arange(rows.shape[1]), labels)
    total = reductions.sum(elementwise.where(others, losses, 0), 1) / rows.shape[1]
    return reduced(manipulation.squeeze(total, 0) if single else total, reduction)


def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """What each class that is no target lacks to stand 1 below each that is, summed, over the number of classes.

    ``(N, C)`` or ``(C,)`` scores; ``target``, of the same shape, holds the classes, up to the first -1.
    """
    x, labels = as_tensor(input, "multilabel_margin_loss"), as_tensor(target, "multilabel_margin_loss")
    if x.shape != labels.shape:
        message = f"inconsistent target size: {list(labels.shape)} for input of size: {list(x.shape)}"
        raise at_user_line(RuntimeError(message))
    single = x.ndim < 2
    rows, labels = (manipulation.reshape(item, (1, -1)) if single else item for item in (x, labels))
    classes = rows.shape[1]
    counts = elementwise.astype(elementwise.greater_equal(labels, 0), int64)
    used = elementwise.greater(cumulative.cumulative_prod(counts, axis=1), 0)
    labels = elementwise.where(used, elementwise.astype(labels, int64), 0)
    _check_labels(labels, classes)
    matches = elementwise.equal(manipulation.expand_dims(labels, -1), creation.arange(classes))
    chosen = reductions.any(elementwise.logical_and(matches, manipulation.expand_dims(used, -1)), 1)
    wanted = manipulation.expand_dims(indexing.take_along_axis(rows, labels, 1), -1)  # (N, J, 1)
    lacks = elementwise.relu(1 - wanted + manipulation.expand_dims(rows, 1))  # (N, J, C)
    counted = elementwise.logical_and(
        manipulation.expand_dims(used, -1), manipulation.expand_dims(elementwise.logical_not(chosen), 1)
    )
    total = reductions.sum(elementwise.where(counted, lacks, 0), (1, 2)) / classes
    return reduced(manipulation.squeeze(total, 0) if single else total, reduction)


def _check_labels(labels: Tensor, classes: int) -> None:
    inside = elementwise.logical_and(elementwise.greater_equal(labels, 0), elementwise.less(labels, classes))
    indexing.check(reductions.all(inside), IndexError, "target out of range")


def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """The cross entropy of ``sigmoid(input)`` and the targets, 0 or 1 for each class: its mean over the classes."""
    x, wanted = as_tensor(input, "multilabel_soft_margin_loss"), as_tensor(target, "multilabel_soft_margin_loss")
    losses = -(wanted * logsigmoid(x) + (1 - wanted) * logsigmoid(-x))
    if weight is not None:
        losses = losses * weight
    return reduced(reductions.mean(losses, -1), reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """:func:`triplet_margin_loss` with another distance."""
    if margin <= 0:
        raise at_user_line(ValueError(f"margin must be greater than 0, got {margin}"))
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = elementwise.minimum(far, distance(positive, negative))
    return reduced(elementwise.relu(near - far + margin), reduction)
