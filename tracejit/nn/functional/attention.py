"""Attention: each query takes the mean of the values, weighted by how well their keys fit."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.types import bool_, is_differentiable

from ...locations import at_user_line
from ...ops import creation, elementwise, linalg, manipulation, reduction as reductions
from ...promotion import as_tensor, operands
from ...tensor import Tensor
from .dropout import dropout


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(query @ keyᵀ * scale + mask) @ value``: ``(…, L, E)``, ``(…, S, E)``, ``(…, S, V)`` → ``(…, L, V)``.

    ``scale`` is ``1 / sqrt(E)`` unless given.  A bool ``attn_mask``, broadcast to ``(…, L, S)``, is true where a query
    may look; a float one is added.  ``is_causal`` lets query ``i`` look at keys up to ``i``.  A query that
    may look nowhere gets zeros.  With ``enable_gqa`` the keys and values may have fewer heads (axis -3).

    >>> import tracejit as tj
    >>> q, v = tj.zeros(1, 2, 4), tj.tensor([[[1.0], [3.0]]])
    >>> scaled_dot_product_attention(q, q, v)
    tensor([[[2.],
             [2.]]])
    >>> scaled_dot_product_attention(q, q, v, is_causal=True)
    tensor([[[1.],
             [2.]]])
    """
    q, k, v = operands("attention", *(as_tensor(item, "attention") for item in (query, key, value)))
    if is_causal and attn_mask is not None:
        message = "scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"
        raise at_user_line(RuntimeError(message))
    for name, x in (("query", q), ("key", k), ("value", v)):
        if x.ndim < 2:
            message = f"scaled_dot_product_attention: Expected {name} to have at least 2 dimensions, got {x.ndim}"
            raise at_user_line(RuntimeError(message))
    if enable_gqa:
        k, v = (_repeated_heads(x, q.shape[-3]) for x in (k, v))
    if is_causal:
        attn_mask = causal_mask(q.shape[-2], k.shape[-2])
    weights = attention_weights(q, k, attn_mask, scale)
    return linalg.matmul(dropout(weights, dropout_p) if dropout_p else weights, v)


def attention_weights(q: Tensor, k: Tensor, mask: Any = None, scale: float | None = None) -> Tensor:
    """How much each query takes of each value: rows that sum to 1, or to 0 where all is masked."""
    if q.shape[-1] != k.shape[-1]:
        message = f"attention: query and key must have one last extent, got {q.shape[-1]} and {k.shape[-1]}"
        raise at_user_line(RuntimeError(message))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = linalg.matmul(q * scale, manipulation.matrix_transpose(k))
    if mask is not None:
        mask = as_tensor(mask, "attn_mask")
        if mask.dtype != bool_ and not is_differentiable(mask.dtype):
            message = (
                "Expected attn_mask dtype to be bool or float or to match query dtype, "
                f"but got attn_mask.dtype: {mask.dtype.name} and query.dtype: {q.dtype.name}"
            )
            raise at_user_line(RuntimeError(message))
    if not scores.shape[-1]:
        return scores
    if mask is None:
        shift = reductions.max(scores.detach(), -1, keepdims=True)
        powers = elementwise.exp(scores - shift)
        return powers / reductions.sum(powers, -1, keepdims=True)
    if mask.dtype == bool_:
        scores = elementwise.where(mask, scores, -math.inf)
    else:
        scores = scores + elementwise.astype(mask, scores.dtype)
    largest = reductions.max(scores.detach(), -1, keepdims=True)
    nowhere = elementwise.equal(largest, -math.inf)
    powers = elementwise.exp(scores - elementwise.where(nowhere, 0, largest))
    total = reductions.sum(powers, -1, keepdims=True)
    return powers / elementwise.where(nowhere, 1, total)


def causal_mask(queries: int, keys: int) -> Tensor:
    """True where query ``i`` (rows) may look at key ``j`` (columns): ``j <= i``.

    >>> causal_mask(2, 3)
    tensor([[ True, False, False],
            [ True,  True, False]])
    """
    rows = manipulation.reshape(creation.arange(queries), (queries, 1))
    return elementwise.less_equal(creation.arange(keys), rows)


def _repeated_heads(x: Tensor, heads: int) -> Tensor:
    """``(…, H, S, E)`` with each head repeated, next to itself, so that there are ``heads``."""
    if x.ndim < 3 or heads % x.shape[-3]:
        message = f"attention: the number of heads of the query, {heads}, must be a multiple of that of key and value"
        raise at_user_line(RuntimeError(message))
    times = heads // x.shape[-3]
    if times == 1:
        return x
    apart = manipulation.expand_dims(x, -3)
    wide = manipulation.broadcast_to(apart, (*apart.shape[:-3], times, *apart.shape[-2:]))
    return manipulation.reshape(wide, (*x.shape[:-3], heads, *x.shape[-2:]))
