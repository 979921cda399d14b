"""Losses, as functions; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.types import format_shape

from ...locations import at_user_line, warn_at_user_line
from ...ops import arrangement, elementary, elementwise, indexing, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...tensor import Tensor
from .normalization import norm_along

_REDUCTIONS = ("none", "mean", "sum")


def check_reduction(mode: str) -> None:
    """Raise ``ValueError`` for a reduction that there is none of."""
    if mode not in _REDUCTIONS:
        raise at_user_line(ValueError(f"{mode} is not a valid value for reduction"))


def reduced(losses: Tensor, mode: str) -> Tensor:
    """One number for the losses of all elements, or the losses themselves."""
    check_reduction(mode)
    if mode == "none":
        return losses
    return reductions.mean(losses) if mode == "mean" else reductions.sum(losses)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The squared difference of ``input`` and ``target``, by default its mean over all elements.

    >>> import tracejit as tj
    >>> mse_loss(tj.tensor([1.0, 2.0]), tj.tensor([1.0, 4.0]))
    tensor(2.)
    """
    x, wanted = as_tensor(input, "mse_loss"), as_tensor(target, "mse_loss")
    warn_of_broadcasting(x, wanted)
    difference = x - wanted
    return reduced(difference * difference, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The distance of ``input`` and ``target``, by default its mean over all elements.

    >>> import tracejit as tj
    >>> l1_loss(tj.tensor([1.0, 2.0]), tj.tensor([1.0, 4.0]))
    tensor(1.)
    """
    x, wanted = as_tensor(input, "l1_loss"), as_tensor(target, "l1_loss")
    warn_of_broadcasting(x, wanted)
    return reduced(elementwise.abs(x - wanted), reduction)


def warn_of_broadcasting(x: Tensor, target: Tensor) -> None:
    """Warn where a loss is of tensors of different shapes."""
    if x.shape != target.shape:
        warn_at_user_line(
            f"Using a target size ({format_shape(target.shape)}) that is different to the input size "
            f"({format_shape(x.shape)}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size."
        )


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Of the distance ``d``: ``d² / (2 beta)`` below ``beta``, else ``d - beta / 2``.

    >>> import tracejit as tj
    >>> smooth_l1_loss(tj.tensor([0.0, 0.0]), tj.tensor([1.0, 3.0]), reduction="none")
    tensor([0.5, 2.5])
    """
    if beta < 0:
        raise at_user_line(RuntimeError("smooth_l1_loss does not support negative values for beta."))
    if beta == 0:
        return l1_loss(input, target, reduction)
    x, wanted = as_tensor(input, "smooth_l1_loss"), as_tensor(target, "smooth_l1_loss")
    warn_of_broadcasting(x, wanted)
    difference = x - wanted
    distance = elementwise.abs(difference)
    near = elementwise.less(distance, beta)
    return reduced(elementwise.where(near, 0.5 * difference * difference / beta, distance - 0.5 * beta), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Of the distance ``d``: ``d² / 2`` up to ``delta``, else ``delta * (d - delta / 2)``."""
    if delta <= 0:
        raise at_user_line(RuntimeError("huber_loss does not support non-positive values for delta."))
    x, wanted = as_tensor(input, "huber_loss"), as_tensor(target, "huber_loss")
    warn_of_broadcasting(x, wanted)
    difference = x - wanted
    distance = elementwise.abs(difference)
    near = elementwise.less_equal(distance, delta)
    return reduced(elementwise.where(near, 0.5 * difference * difference, delta * (distance - 0.5 * delta)), reduction)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """The cross entropy of probabilities ``input`` and ``target``, of one shape; logarithms are at least -100.

    >>> import tracejit as tj
    >>> binary_cross_entropy(tj.tensor([0.5, 1.0]), tj.tensor([1.0, 0.0]), reduction="none")
    tensor([  0.6931, 100.    ])
    """
    x, wanted = as_tensor(input, "binary_cross_entropy"), as_tensor(target, "binary_cross_entropy")
    if x.shape != wanted.shape:
        message = (
            f"Using a target size ({format_shape(wanted.shape)}) that is different to the input size "
            f"({format_shape(x.shape)}) is deprecated. Please ensure they have the same size."
        )
        raise at_user_line(ValueError(message))
    inside = elementwise.logical_and(elementwise.greater_equal(x, 0), elementwise.less_equal(x, 1))
    indexing.check(reductions.all(inside), RuntimeError, "all elements of input should be between 0 and 1")
    losses = -(wanted * _bounded_log(x) + (1 - wanted) * _bounded_log(1 - x))
    return reduced(losses if weight is None else losses * weight, reduction)


def _bounded_log(x: Tensor) -> Tensor:
    """``max(log(x), -100)``, with gradient 0 where that is -100."""
    tiny = elementwise.less_equal(x, math.exp(-100))
    return elementwise.where(tiny, -100, elementwise.log(elementwise.where(tiny, 1, x)))


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """``target * (log(target) - input)``, for log-probabilities ``input`` and probabilities ``target``.

    With ``log_target`` the target too is given by its logarithm.  ``reduction="batchmean"`` divides the sum by the
    extent of axis 0, which is the divergence of the distributions.

    >>> import tracejit as tj
    >>> p = tj.tensor([[0.5, 0.5]])
    >>> kl_div(tj.log(tj.tensor([[0.25, 0.75]])), p, reduction="batchmean")
    tensor(0.1438)
    """
    x, wanted = as_tensor(input, "kl_div"), as_tensor(target, "kl_div")
    if log_target:
        losses = elementwise.exp(wanted) * (wanted - x)
    else:
        zero = elementwise.equal(wanted, 0)  # 0 * log(0) is 0
        entropy = wanted * elementwise.log(elementwise.where(zero, 1, wanted))
        losses = entropy - wanted * x
    if reduction == "batchmean":
        return reductions.sum(losses) / losses.shape[0]
    return reduced(losses, reduction)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Minus the logarithm of the Poisson probability of ``target`` at the rate ``exp(input)`` (or ``input``)."""
    x, wanted = as_tensor(input, "poisson_nll_loss"), as_tensor(target, "poisson_nll_loss")
    losses = elementwise.exp(x) - wanted * x if log_input else x - wanted * elementwise.log(x + eps)
    if full:  # Stirling's approximation of log(target!)
        large = elementwise.greater(wanted, 1)
        safe = elementwise.where(large, wanted, 1)
        stirling = safe * elementwise.log(safe) - safe + 0.5 * elementwise.log(2 * math.pi * safe)
        losses = losses + elementwise.where(large, stirling, 0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """Minus the logarithm of the normal density of ``target`` with mean ``input`` and variance ``var``."""
    x, wanted, variance = (as_tensor(item, "gaussian_nll_loss") for item in (input, target, var))
    indexing.check(reductions.all(elementwise.greater_equal(variance, 0)), ValueError, "var has negative entry/entries")
    if variance.ndim == x.ndim - 1 and variance.shape == x.shape[:-1]:  # one for all elements of a sample
        variance = manipulation.expand_dims(variance, -1)
    small = elementwise.less(variance, eps)
    variance = elementwise.where(small, eps, variance).detach() + (variance - variance.detach())
    difference = x - wanted
    losses = 0.5 * (elementwise.log(variance) + difference * difference / variance)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``log(1 + exp(-target * input))``, for targets of 1 and -1."""
    x, wanted = as_tensor(input, "soft_margin_loss"), as_tensor(target, "soft_margin_loss")
    return reduced(elementary.logaddexp(-wanted * x, 0), reduction)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """``input`` where ``target`` is 1; what it lacks to ``margin`` where ``target`` is -1."""
    x, wanted = as_tensor(input, "hinge_embedding_loss"), as_tensor(target, "hinge_embedding_loss")
    apart = elementwise.where(elementwise.not_equal(wanted, 1), elementwise.relu(margin - x), 0)
    together = elementwise.where(elementwise.not_equal(wanted, -1), x, 0)
    return reduced(apart + together, reduction)


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """``max(0, -target * (input1 - input2) + margin)``: 1 as target says that ``input1`` is to be the larger."""
    first, second, wanted = (as_tensor(item, "margin_ranking_loss") for item in (input1, input2, target))
    return reduced(elementwise.relu(-wanted * (first - second) + margin), reduction)


# Of vectors, along the last axis --------------------------------------------------------------------


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along ``dim``; norms count as at least ``eps``.

    >>> import tracejit as tj
    >>> cosine_similarity(tj.tensor([[1.0, 0.0]]), tj.tensor([[3.0, 4.0]]))
    tensor([0.6])
    """
    first, second = arrangement.broadcast_arrays(as_tensor(x1, "cosine_similarity"), as_tensor(x2, "cosine_similarity"))
    lengths = [elementwise.maximum(norm_along(x, 2, dim, keepdims=True), eps) for x in (first, second)]
    return reductions.sum((first / lengths[0]) * (second / lengths[1]), dim)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The ``p``-norm of ``x1 - x2 + eps`` along the last axis."""
    difference = as_tensor(x1, "pairwise_distance") - as_tensor(x2, "pairwise_distance") + eps
    return norm_along(difference, p, -1, keepdim)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """``1 - cos`` of the pairs whose target is 1; ``max(0, cos - margin)`` of those whose target is -1."""
    first, second, wanted = (as_tensor(item, "cosine_embedding_loss") for item in (input1, input2, target))
    squares = [reductions.sum(x * x, -1) + 1e-12 for x in (first, second)]
    cosine = reductions.sum(first * second, -1) / elementwise.sqrt(squares[0] * squares[1])
    same = elementwise.where(elementwise.equal(wanted, 1), 1 - cosine, 0)
    other = elementwise.where(elementwise.equal(wanted, -1), elementwise.relu(cosine - margin), 0)
    return reduced(same + other, reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """``max(0, |anchor - positive| - |anchor - negative| + margin)``, with :func:`pairwise_distance`.

    ``swap`` takes the smaller of the distances of ``negative`` to the other two.
    """
    if margin <= 0:
        raise at_user_line(ValueError(f"margin must be greater than 0, got {margin}"))
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = elementwise.minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced(elementwise.relu(near - far + margin), reduction)
