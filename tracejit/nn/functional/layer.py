"""Linear, embedding, dropout and the like, as functions."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.primitives.indexing import gather
from tracejit.ir.types import int64, is_integer

from ... import random
from ...locations import at_user_line
from ...ops import creation, elementwise, indexing, linalg, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...tape import apply
from ...tensor import Tensor


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


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """The rows of ``weight``, of shape ``(V, D)``, at the indices ``input``: ``(…)`` → ``(…, D)``.

    The gradient of a row is the sum over all positions that took it; the row ``padding_idx`` gets none.  Raises
    ``IndexError`` for an index that is no row.

    >>> import tracejit as tj
    >>> embedding(tj.tensor([[1, 0, 1]]), tj.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[[3., 4.],
             [1., 2.],
             [3., 4.]]])
    """
    table, index = as_tensor(weight, "embedding"), as_tensor(input, "embedding")
    if table.ndim != 2:
        raise at_user_line(RuntimeError("'weight' must be 2-D"))
    if not is_integer(index.dtype):
        message = "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
        raise at_user_line(RuntimeError(f"{message}but got {index.dtype.name} instead"))
    rows = table.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise at_user_line(ValueError("padding_idx must be within num_embeddings"))
        padding_idx %= rows
    index = elementwise.astype(index, int64)
    inside = elementwise.logical_and(elementwise.greater_equal(index, 0), elementwise.less(index, rows))
    indexing.check(reductions.all(inside), IndexError, "index out of range in self")
    found = apply(gather, (table, index), {"axes": (0,)})
    if padding_idx is None:
        return found
    return elementwise.where(manipulation.expand_dims(elementwise.equal(index, padding_idx), -1), found.detach(), found)
