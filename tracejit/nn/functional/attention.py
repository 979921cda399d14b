"""Attention: each query takes the mean of the values, weighted by how well their keys fit."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.primitives.attention import attention
from tracejit.ir.types import (
    TensorType,
    bfloat16,
    bool_,
    broadcast_static_shapes,
    float16,
    float32,
    is_differentiable,
)

from ...locations import at_user_line
from ...ops import creation, elementwise, linalg, manipulation, reduction as reductions
from ...promotion import as_tensor, operands
from ...state import thread
from ...tape import apply
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
    if (q.device != "cpu" or thread.for_device) and not dropout_p:
        found = _by_kernel(q, k, v, attn_mask, is_causal, scale, enable_gqa)
        if found is not None:
            return found
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


def _by_kernel(
    q: Tensor, k: Tensor, v: Tensor, mask: Any, is_causal: bool, scale: float | None, shares_heads: bool
) -> Tensor | None:
    """The result of the operation that devices have kernels for; ``None`` where they have none for such operands."""
    from tracejit.backends.attention import takes

    given = [q, k, v] if mask is None else [q, k, v, as_tensor(mask, "attn_mask")]
    ndim, result_ndim = max(4, *(x.ndim for x in given)), max(x.ndim for x in given[:3])
    if k.shape[-2] != v.shape[-2]:
        return None
    given = [manipulation.reshape(x, (*(1,) * (ndim - x.ndim), *x.shape)) for x in given]
    heads = [x.shape[-3] for x in given[:3]]
    if not (shares_heads and heads[1] == heads[2] and heads[1] and heads[0] % heads[1] == 0):
        heads = [max(heads)] * 3
    scores = (heads[0], q.shape[-2], k.shape[-2])
    try:
        lead = broadcast_static_shapes(*(x.shape[:-3] for x in given[:3]))
        if broadcast_static_shapes(*((*x.shape[:-3], 1, 1, 1) for x in given), (*lead, *scores)) != (*lead, *scores):
            return None
        wide = [
            manipulation.broadcast_to(x, (*lead, count, *x.shape[-2:]))
            for x, count in zip(given, heads, strict=False)
        ]  # fmt: skip
        for one in given[3:]:
            broadcast_static_shapes(one.shape, (*lead, *scores))
            has_lead = any(extent != 1 for extent in one.shape[:-3])
            one = elementwise.astype(one, float32) if one.dtype in (float16, bfloat16) else one
            wide.append(manipulation.broadcast_to(one, (*(lead if has_lead else (1,)), *one.shape[-3:])))
    except ValueError:  # the products say what is wrong
        return None
    flat = [manipulation.reshape(x, (math.prod(x.shape[:-3]), *x.shape[-3:])) for x in wide]
    if not takes([TensorType(x.dtype, x.shape) for x in flat]):
        return None
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    result = apply(attention, tuple(flat), {"causal": is_causal, "scale": scale})
    return manipulation.reshape(result, (*lead, *result.shape[1:])[-result_ndim:])


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
