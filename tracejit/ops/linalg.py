"""Matrix products."""

from __future__ import annotations

from typing import Any

from tracejit.ir.primitives.contraction import dot
from tracejit.ir.types import broadcast_static_shapes, format_shape

from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
from . import manipulation


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product, as NumPy's ``@``: vectors count as a row and a column, leading axes broadcast.

    >>> import tracejit as tj
    >>> tj.matmul(tj.ones(2, 3), tj.ones(3, 4)).shape
    (2, 4)
    """
    lhs, rhs = operands("matmul", as_tensor(x, "matmul"), as_tensor(y, "matmul"))
    if lhs.ndim == 0 or rhs.ndim == 0:
        raise at_user_line(ValueError("matmul: operands must have at least one axis, got a 0-d tensor"))
    left_vector, right_vector = lhs.ndim == 1, rhs.ndim == 1
    if left_vector:
        lhs = manipulation.expand_dims(lhs, 0)
    if right_vector:
        rhs = manipulation.expand_dims(rhs, 1)
    if rhs.ndim == 2 and lhs.ndim > 2 and 0 not in lhs.shape:  # one product with all rows
        flat = matmul(manipulation.reshape(lhs, (-1, lhs.shape[-1])), rhs)
        result = manipulation.reshape(flat, (*lhs.shape[:-1], rhs.shape[-1]))
    else:
        result = _batched(lhs, rhs)
    if left_vector:
        result = manipulation.squeeze(result, -2)
    return manipulation.squeeze(result, -1) if right_vector else result


def _batched(lhs: Tensor, rhs: Tensor) -> Tensor:
    try:
        batch = broadcast_static_shapes(lhs.shape[:-2], rhs.shape[:-2])
    except ValueError:
        shapes = f"{format_shape(lhs.shape)} and {format_shape(rhs.shape)}"
        raise at_user_line(ValueError(f"matmul: batch dimensions of {shapes} do not broadcast")) from None
    lhs = manipulation.broadcast_to(lhs, (*batch, *lhs.shape[-2:]))
    rhs = manipulation.broadcast_to(rhs, (*batch, *rhs.shape[-2:]))
    return apply(dot, (lhs, rhs), {})
