"""Embeddings: rows of a table at given indices, and sums of them."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.primitives.indexing import gather, scatter
from tracejit.ir.types import int64, is_integer

from ...autograd.function import Function, FunctionContext
from ...autograd.modes import no_grad
from ...locations import at_user_line
from ...ops import creation, elementwise, indexing, manipulation, reduction as reductions, sorting
from ...promotion import as_tensor
from ...tape import apply
from ...tensor import Tensor
from .normalization import norm_along

_MODES = ("sum", "mean", "max")


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of ``weight``, of shape ``(V, D)``, at the indices ``input``: ``(…)`` → ``(…, D)``.

    The gradient of a row is the sum over all positions that took it (their mean with ``scale_grad_by_freq``); the row
    ``padding_idx`` gets none.  With ``max_norm`` the rows that are taken and have a larger ``norm_type``-norm are first
    scaled to that, in place.  Raises ``IndexError`` for an index that is no row.  There are no sparse gradients.

    >>> import tracejit as tj
    >>> embedding(tj.tensor([[1, 0, 1]]), tj.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[[3., 4.],
             [1., 2.],
             [3., 4.]]])
    """
    index = _checked_index("embedding", input, weight, sparse)
    padding = _padding_row("embedding", weight, padding_idx)
    if max_norm is not None:
        _limit_norms(weight, index, max_norm, norm_type)
    found = _rows(as_tensor(weight, "embedding"), index, scale_grad_by_freq)
    if padding is None:
        return found
    return elementwise.where(manipulation.expand_dims(elementwise.equal(index, padding), -1), found.detach(), found)


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The ``"sum"``, ``"mean"`` or ``"max"`` of the rows of ``weight`` in each bag of indices: ``(B, N)`` → ``(B, D)``.

    Or ``input`` is flat, and bag ``b`` starts at ``offsets[b]`` (``include_last_offset``: the last one is where the
    last bag ends).  An empty bag gives zeros.  ``per_sample_weights``, of ``input``'s shape, scales the rows
    of sums; the row ``padding_idx`` counts for nothing; the other settings are :func:`embedding`'s.

    >>> import tracejit as tj
    >>> table = tj.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> embedding_bag(tj.tensor([0, 1, 1]), table, tj.tensor([0, 2]), mode="sum")
    tensor([[4., 6.],
            [3., 4.]])
    """
    index = _checked_index("embedding_bag", input, weight, sparse)
    padding = _padding_row("embedding_bag", weight, padding_idx)
    weights = None if per_sample_weights is None else as_tensor(per_sample_weights, "embedding_bag")
    _check_bags(index, offsets, mode, weights, scale_grad_by_freq)
    if max_norm is not None:
        _limit_norms(weight, index, max_norm, norm_type)
    rows = _rows(as_tensor(weight, "embedding_bag"), index, scale_grad_by_freq)
    if weights is not None:
        rows = rows * manipulation.expand_dims(weights, -1)
    used = creation.ones_like(index, dtype=bool) if padding is None else elementwise.not_equal(index, padding)
    if index.ndim == 2:
        return _reduced_bags(rows, used, mode, 1)
    starts = as_tensor(offsets, "embedding_bag")
    if include_last_offset:
        starts = starts[:-1]
    if starts.shape[0]:
        zero = elementwise.equal(starts[0], 0)
        indexing.check(
            zero,
            RuntimeError,
            "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0.",
        )
        within = elementwise.less_equal(starts[-1], index.shape[0])
        indexing.check(within, RuntimeError, "offsets[-1] can not be greater than input's length")
    if mode == "max":
        return _largest_of_bags(rows, used, starts)
    bag = sorting.searchsorted(starts, creation.arange(index.shape[0]), side="right") - 1
    count = starts.shape[0]
    shown = elementwise.where(manipulation.expand_dims(used, -1), rows, 0)
    empty = creation.zeros((count, rows.shape[-1]), dtype=rows.dtype)
    total = apply(scatter, (empty, shown, bag), {"axes": (0,), "combine": "add"})
    if mode == "sum":
        return total
    ones = elementwise.astype(used, rows.dtype)
    sizes = apply(scatter, (creation.zeros(count, dtype=rows.dtype), ones, bag), {"axes": (0,), "combine": "add"})
    return total / manipulation.expand_dims(elementwise.maximum(sizes, 1), -1)


def _checked_index(name: str, input: Any, weight: Any, sparse: bool) -> Tensor:
    table, index = as_tensor(weight, name), as_tensor(input, name)
    if sparse:
        raise at_user_line(NotImplementedError(f"{name}: there are no sparse gradients"))
    if table.ndim != 2:
        raise at_user_line(RuntimeError("'weight' must be 2-D"))
    if not is_integer(index.dtype):
        message = "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
        raise at_user_line(RuntimeError(f"{message}but got {index.dtype.name} instead"))
    index = elementwise.astype(index, int64)
    inside = elementwise.logical_and(elementwise.greater_equal(index, 0), elementwise.less(index, table.shape[0]))
    indexing.check(reductions.all(inside), IndexError, "index out of range in self")
    return index


def _padding_row(name: str, weight: Tensor, padding_idx: int | None) -> int | None:
    if padding_idx is None:
        return None
    rows = weight.shape[0]
    if not -rows <= padding_idx < rows:
        raise at_user_line(ValueError("padding_idx must be within num_embeddings"))
    return padding_idx % rows


class _ScaledGradient(Function):
    """A tensor, whose gradient is multiplied by another."""

    @staticmethod
    def forward(ctx: FunctionContext, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x

    @staticmethod
    def backward(ctx: FunctionContext, gradient: Tensor) -> Any:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


def _rows(table: Tensor, index: Tensor, mean_gradient: bool) -> Tensor:
    if mean_gradient:
        flat = manipulation.reshape(index, (index.size,))
        zeros, ones = (creation.full((n,), value, table.dtype) for n, value in ((table.shape[0], 0), (index.size, 1)))
        times = apply(scatter, (zeros, ones, flat), {"axes": (0,), "combine": "add"})
        table = _ScaledGradient.apply(table, manipulation.expand_dims(1 / elementwise.maximum(times, 1), -1))
    return apply(gather, (table, index), {"axes": (0,)})


def _limit_norms(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are taken, in place, where their norm is too large."""
    with no_grad():
        flat = manipulation.reshape(index, (index.size,))
        rows = apply(gather, (weight, flat), {"axes": (0,)})
        norms = norm_along(rows, norm_type, -1, keepdims=True)
        scaled = elementwise.where(elementwise.greater(norms, max_norm), rows * (max_norm / (norms + 1e-7)), rows)
        weight._assign(apply(scatter, (weight, scaled, flat), {"axes": (0,), "combine": "set"}))


def _check_bags(index: Tensor, offsets: Any, mode: str, weights: Tensor | None, mean_gradient: bool) -> None:
    problem: Exception | None = None
    if mode not in _MODES:
        problem = ValueError("mode has to be one of sum, mean or max")
    elif index.ndim == 2 and offsets is not None:
        message = "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length "
        problem = ValueError(f"{message}sequences. However, found offsets of type {type(offsets).__name__}")
    elif index.ndim == 1 and offsets is None:
        problem = ValueError("offsets has to be a 1D Tensor but got None")
    elif index.ndim not in (1, 2):
        problem = ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {index.ndim}")
    elif index.ndim == 1 and as_tensor(offsets, "embedding_bag").ndim != 1:
        problem = ValueError("offsets has to be a 1D Tensor")
    elif weights is not None and mode != "sum":
        message = "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
        problem = NotImplementedError(f"{message}(got mode='{mode}').")
    elif weights is not None and weights.shape != index.shape:
        message = "embedding_bag: If per_sample_weights is not None, then it must have the same shape as the input ("
        problem = ValueError(f"{message}{index.shape}), but got {weights.shape}")
    elif mean_gradient and mode == "max":
        problem = RuntimeError("embedding_bag: scale_grad_by_freq is not supported for mode='max'")
    if problem is not None:
        raise at_user_line(problem)


def _reduced_bags(rows: Tensor, used: Tensor, mode: str, axis: int) -> Tensor:
    """The rows that are used, reduced along ``axis``."""
    mask = manipulation.expand_dims(used, -1)
    counts = reductions.sum(elementwise.astype(mask, rows.dtype), axis)
    if mode == "max":
        if rows.shape[axis] == 0:
            return reductions.sum(rows, axis)
        largest = _first_largest(elementwise.where(mask, rows, -math.inf), axis)
        return elementwise.where(elementwise.greater(counts, 0), largest, 0)
    total = reductions.sum(elementwise.where(mask, rows, 0), axis)
    return total if mode == "sum" else total / elementwise.maximum(counts, 1)


def _first_largest(x: Tensor, axis: int) -> Tensor:
    """The largest elements; the gradient goes to the first of equal ones."""
    place = reductions.argmax(x.detach(), axis, keepdims=True)
    return manipulation.squeeze(indexing.take_along_axis(x, place, axis), axis)


def _largest_of_bags(rows: Tensor, used: Tensor, starts: Tensor) -> Tensor:
    """Bag by bag: how long they are must be known."""
    ends = [*starts.tolist(), rows.shape[0]]
    pairs = [slice(ends[i], ends[i + 1]) for i in range(len(ends) - 1)]
    return manipulation.stack([_reduced_bags(rows[part], used[part], "max", 0) for part in pairs])
