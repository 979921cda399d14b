"""Connectionist temporal classification."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import int64, is_integer

from ...locations import at_user_line
from ...ops import creation, elementwise, indexing, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...tensor import Tensor
from .activation import type_name
from .loss import check_reduction


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the logarithm of the probability that ``log_probs`` spell ``targets`` (Graves et al., 2006).

    ``log_probs`` has shape ``(T, N, C)``: for each time and sample the logarithms of the probabilities of ``C`` labels,
    one of which is ``blank``; ``(T, C)`` is one sample.  ``targets`` has shape ``(N, S)``, or is flat, one after
    the other.  Of sample ``n`` the first ``input_lengths[n]`` times count, and the first ``target_lengths[n]`` targets
    (tensors or sequences of ints).  A target that does not fit into its times has the loss infinity, or 0 with
    ``zero_infinity``, and no gradient.  ``"mean"`` divides each loss by the length of its target first.

    >>> import tracejit as tj
    >>> half = tj.log(tj.full((2, 1, 2), 0.5))
    >>> ctc_loss(half, tj.tensor([[1]]), [2], [1])  # -log(3/4): a-, -a and aa of 4
    tensor(0.2877)
    """
    check_reduction(reduction)
    x, labels = as_tensor(log_probs, "ctc_loss"), as_tensor(targets, "ctc_loss")
    if x.ndim not in (2, 3):
        message = f"ctc_loss: expected log_probs of shape (T, N, C) or (T, C), got {list(x.shape)}"
        raise at_user_line(RuntimeError(message))
    if not is_integer(labels.dtype):
        raise at_user_line(RuntimeError(f"ctc_loss: expected integer targets, got {type_name(labels)}"))
    single = x.ndim == 2
    x = manipulation.expand_dims(x, 1) if single else x
    times, count, classes = x.shape
    if not 0 <= blank < classes:
        raise at_user_line(RuntimeError("blank must be in label range"))
    given = _lengths("input_lengths", input_lengths, count), _lengths("target_lengths", target_lengths, count)
    spans, lengths = given
    fits = reductions.all(elementwise.less_equal(spans, times))
    message = f"Expected input_lengths to have value at most {times} (while checking arguments for ctc_loss)"
    indexing.check(fits, RuntimeError, message)
    rows = _as_rows(labels, lengths, target_lengths, count)
    losses = _negative_log_likelihood(x, _with_blanks(rows, blank), spans, lengths, blank)
    if zero_infinity:
        losses = elementwise.where(elementwise.equal(losses, math.inf), 0, losses)
    if reduction == "mean":
        return reductions.mean(losses / elementwise.astype(elementwise.maximum(lengths, 1), losses.dtype))
    if reduction == "sum":
        return reductions.sum(losses)
    return manipulation.squeeze(losses, 0) if single else losses


def _lengths(name: str, lengths: Any, count: int) -> Tensor:
    tensor = as_tensor(np.asarray(lengths, np.int64) if isinstance(lengths, Sequence | int) else lengths, name)
    if not is_integer(tensor.dtype):
        raise at_user_line(RuntimeError(f"{name} must be integral"))
    if tensor.size != count:
        raise at_user_line(RuntimeError(f"{name} must be of size batch_size ({count}), got {tensor.size}"))
    tensor = elementwise.astype(manipulation.reshape(tensor, (count,)), int64)
    positive = reductions.all(elementwise.greater_equal(tensor, 0))
    indexing.check(positive, RuntimeError, f"Expected {name} to have value at least 0")
    return tensor


def _as_rows(labels: Tensor, lengths: Tensor, given: Any, count: int) -> Tensor:
    """The targets as ``(N, S)``; flat ones are taken apart."""
    if labels.ndim == 2 and labels.shape[0] == count:
        fits = reductions.all(elementwise.less_equal(lengths, labels.shape[1]))
        message = f"Expected target_lengths to have value at most {labels.shape[1]}"
        indexing.check(fits, RuntimeError, message)
        return labels
    if labels.ndim != 1:
        message = f"ctc_loss: expected targets of shape ({count}, S) or flat ones, got {list(labels.shape)}"
        raise at_user_line(RuntimeError(message))
    known = np.asarray(given.tolist() if isinstance(given, Tensor) else given, np.int64).reshape(count)
    if known.sum() > labels.shape[0]:
        message = f"ctc_loss: target_lengths add up to {known.sum()}, but there are {labels.shape[0]} targets"
        raise at_user_line(RuntimeError(message))
    starts = np.cumsum(known) - known
    places = np.minimum(starts[:, None] + np.arange(known.max(initial=0)), max(labels.shape[0] - 1, 0))
    return indexing.get_item(labels, creation.tensor(places))


def _with_blanks(rows: Tensor, blank: int) -> Tensor:
    """``(N, 2 S + 1)``: a blank before, between and after the targets."""
    rows = elementwise.astype(rows, int64)
    blanks = creation.full_like(rows, blank)
    pairs = manipulation.reshape(manipulation.stack([blanks, rows], -1), (rows.shape[0], 2 * rows.shape[1]))
    return manipulation.concat([pairs, creation.full((rows.shape[0], 1), blank, int64)], 1)


def _negative_log_likelihood(x: Tensor, states: Tensor, spans: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """The forward algorithm: how probable it is to have spelt the first states after each time, by logarithms."""
    count, width = states.shape
    samples = manipulation.reshape(creation.arange(count), (count, 1))
    scores = indexing.get_item(x, (slice(None), samples, states))  # the index axes, where they stood: (T, N, L)
    nothing = creation.full((count, 2), -math.inf, x.dtype)
    # A state may be reached from the one but one before, if that is another label, not a blank.
    earlier = manipulation.concat([creation.full((count, 2), blank, int64), states[:, : width - 2]], 1)[:, :width]
    skips = elementwise.logical_and(elementwise.not_equal(states, blank), elementwise.not_equal(states, earlier))
    start = elementwise.less(creation.arange(width), 2)
    reached = elementwise.logical_and(start, _within(lengths, width))
    alive = elementwise.greater(spans, 0)
    first = elementwise.where(manipulation.expand_dims(alive, 1), scores[0], 0)
    alpha = elementwise.where(reached, first, -math.inf)
    for time in range(1, x.shape[0]):
        shifted = manipulation.concat([nothing, alpha], 1)
        before, skipped = shifted[:, 1 : width + 1], shifted[:, :width]
        total = _log_sum([alpha, before, elementwise.where(skips, skipped, -math.inf)]) + scores[time]
        alpha = elementwise.where(manipulation.expand_dims(elementwise.less(time, spans), 1), total, alpha)
    last = manipulation.stack([2 * lengths, elementwise.maximum(2 * lengths - 1, 0)], 1)
    ends = indexing.take_along_axis(alpha, last, 1)
    target = elementwise.greater(lengths, 0)  # an empty target ends in one state
    return -_log_sum([ends[:, 0], elementwise.where(target, ends[:, 1], -math.inf)])


def _within(lengths: Tensor, width: int) -> Tensor:
    """The states that belong to each sample's target."""
    return elementwise.less_equal(creation.arange(width), manipulation.expand_dims(2 * lengths, 1))


def _log_sum(terms: list[Tensor]) -> Tensor:
    """The logarithm of the sum of exponentials; where that is zero, -∞ without a gradient."""
    largest = terms[0].detach()
    for term in terms[1:]:
        largest = elementwise.maximum(largest, term.detach())
    nowhere = elementwise.equal(largest, -math.inf)
    shift = elementwise.where(nowhere, 0, largest)
    total = elementwise.exp(terms[0] - shift)
    for term in terms[1:]:
        total = total + elementwise.exp(term - shift)
    return elementwise.where(nowhere, -math.inf, elementwise.log(elementwise.where(nowhere, 1, total)) + shift)
