"""Linear and bilinear maps, and one-hot vectors, as functions."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.types import is_integer

from ...locations import at_user_line
from ...ops import creation, elementwise, indexing, linalg, manipulation, reduction as reductions
from ...promotion import as_tensor
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


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Tensor:
    """``input1 @ weight[k] @ input2 + bias[k]``: ``(…, I)``, ``(…, J)`` and ``(K, I, J)`` → ``(…, K)``.

    >>> import tracejit as tj
    >>> bilinear(tj.ones(2), tj.ones(3), tj.ones(4, 2, 3))
    tensor([6., 6., 6., 6.])
    """
    x, y, w = (as_tensor(item, "bilinear") for item in (input1, input2, weight))
    problem = ""
    if x.shape[:-1] != y.shape[:-1]:
        problem = f"bilinear(): input batch dimensions do not match: got {list(x.shape)} and {list(y.shape)}"
    elif w.ndim != 3 or x.ndim == 0 or (x.shape[-1], y.shape[-1]) != w.shape[1:]:
        problem = (
            f"bilinear(): the inputs' sizes do not match the weight's: got {list(x.shape)}, {list(y.shape)} and "
            f"{list(w.shape)}"
        )
    if problem:
        raise at_user_line(RuntimeError(problem))
    rows, (outputs, first, second) = math.prod(x.shape[:-1]), w.shape
    # (N, I) @ (I, K J), then the sum over J of the product with (N, 1, J).
    matrix = manipulation.reshape(manipulation.permute_dims(w, (1, 0, 2)), (first, outputs * second))
    product = linalg.matmul(manipulation.reshape(x, (rows, first)), matrix)
    product = manipulation.reshape(product, (rows, outputs, second)) * manipulation.reshape(y, (rows, 1, second))
    result = manipulation.reshape(reductions.sum(product, -1), (*x.shape[:-1], outputs))
    return result if bias is None else elementwise.add(result, bias)


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
