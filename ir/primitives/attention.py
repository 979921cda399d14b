"""Attention as one operation, and its gradients, for devices with kernels for them.

Queries are ``(B, H, L, E)``, keys and values ``(B, S, …)`` with heads of their own, ``(B, K, S, E)``: each is shared by
``H / K`` heads of queries.  A mask, if there is one, broadcasts to ``(B, H, L, S)``: a bool one is true where a query
may look, one of numbers is added to the scores.  All sums are in float32 (float64 of float64), in which ``log_sum``,
``delta`` and such masks are too; the results have the queries' dtype.

Backward the weights are computed again from each query's ``log_sum``, of shape ``(B, H, L)`` as ``delta``: the sum of
the result times its cotangent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..batching import BatchedApplication
from ..composites import composite
from ..primitive import Application, Composite, Emitter
from ..types import TensorType, bool_, float32, float64, int64


def _wide(e: Emitter, x: Any) -> Any:
    return x if x.dtype in (float32, float64) else e.convert(x, dtype=float32)


def _as(e: Emitter, x: Any, like: Any) -> Any:
    return x if x.dtype == like.dtype else e.convert(x, dtype=like.dtype)


def _for_each_head(e: Emitter, x: Any, heads: int) -> Any:
    """In the dtype of sums, each head of keys or values as often as it is shared, next to itself."""
    x = _wide(e, x)
    batch, shared, *rest = x.shape
    if shared == heads:
        return x
    apart = e.broadcast_in_dim(x, shape=(batch, shared, heads // shared, *rest), dimensions=(0, 1, 3, 4))
    return e.reshape(apart, shape=(batch, heads, *rest))


def _for_shared_heads(e: Emitter, x: Any, shared: int) -> Any:
    """The sums over the heads that share one."""
    batch, heads, *rest = x.shape
    if shared == heads:
        return x
    return e.reduce_sum(e.reshape(x, shape=(batch, shared, heads // shared, *rest)), axes=(2,))


def _columns(e: Emitter, x: Any) -> Any:
    return e.reshape(x, shape=(*x.shape, 1))


def _scores(e: Emitter, q: Any, k: Any, mask: tuple[Any, ...], causal: bool = False, scale: float = 1.0) -> Any:
    product = e.dot(_wide(e, q), _for_each_head(e, k, q.shape[1]), transpose_lhs=False, transpose_rhs=True)
    scores = e.multiply(product, scale)
    if causal:
        queries, keys = (e.iota(size=x.shape[2], dtype=int64) for x in (q, k))
        mask = (e.compare(_columns(e, queries), keys, direction="ge"),)
    for one in mask:
        scores = e.select(one, scores, e.scalar(-math.inf, scores.dtype)) if one.dtype == bool_ else e.add(scores, one)
    return scores


def _powers(e: Emitter, scores: Any) -> tuple[Any, Any, Any]:
    """The largest of each row (0 where there is none), the powers of what the scores are above it, and their sums."""
    largest = e.stop_gradient(e.keep_axes(e.reduce_max(scores, axes=(3,)), scores.shape, (3,)))
    shift = e.select(e.compare(largest, -math.inf, direction="eq"), e.scalar(0, scores.dtype), largest)
    powers = e.exponential(e.subtract(scores, shift))
    return shift, powers, e.keep_axes(e.reduce_sum(powers, axes=(3,)), scores.shape, (3,))


def _attention(e: Emitter, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False, scale: float = 1.0) -> Any:
    _, powers, total = _powers(e, _scores(e, q, k, mask, causal, scale))
    total = e.select(e.compare(total, 0, direction="eq"), e.scalar(1, total.dtype), total)
    found = e.dot(e.divide(powers, total), _for_each_head(e, v, q.shape[1]), transpose_lhs=False, transpose_rhs=False)
    return _as(e, found, q)


def _log_sum(e: Emitter, q: Any, k: Any, *mask: Any, causal: bool = False, scale: float = 1.0) -> Any:
    shift, _, total = _powers(e, _scores(e, q, k, mask, causal, scale))
    return e.reshape(e.add(shift, e.log(total)), shape=tuple(q.shape[:3]))


def _weights(
    e: Emitter, q: Any, k: Any, log_sum: Any, mask: tuple[Any, ...], causal: bool = False, scale: float = 1.0
) -> Any:
    """0 for queries that may look nowhere."""
    nowhere = e.compare(log_sum, -math.inf, direction="eq")
    shift = _columns(e, e.select(nowhere, e.scalar(math.inf, log_sum.dtype), log_sum))
    return e.exponential(e.subtract(_scores(e, q, k, mask, causal, scale), shift))


def _changes(e: Emitter, operands: tuple[Any, ...], causal: bool = False, scale: float = 1.0) -> Any:
    """How the result changes with the scores."""
    q, k, v, cotangent, log_sum, delta, *mask = operands
    weights = _weights(e, q, k, log_sum, tuple(mask), causal, scale)
    values = _for_each_head(e, v, q.shape[1])
    product = e.dot(_wide(e, cotangent), values, transpose_lhs=False, transpose_rhs=True)
    return e.multiply(weights, e.subtract(product, _columns(e, delta)))


def _query_gradient(e: Emitter, *operands: Any, causal: bool = False, scale: float = 1.0) -> Any:
    q, k, *_ = operands
    changes = _changes(e, operands, causal, scale)
    found = e.dot(changes, _for_each_head(e, k, q.shape[1]), transpose_lhs=False, transpose_rhs=False)
    return _as(e, e.multiply(found, scale), q)


def _key_gradient(e: Emitter, *operands: Any, causal: bool = False, scale: float = 1.0) -> Any:
    q, k, *_ = operands
    changes = _changes(e, operands, causal, scale)
    found = e.dot(changes, _wide(e, q), transpose_lhs=True, transpose_rhs=False)
    return _as(e, e.multiply(_for_shared_heads(e, found, k.shape[1]), scale), k)


def _value_gradient(e: Emitter, *operands: Any, causal: bool = False, scale: float = 1.0) -> Any:
    q, k, v, cotangent, log_sum, _, *mask = operands
    weights = _weights(e, q, k, log_sum, tuple(mask), causal, scale)
    found = e.dot(weights, _wide(e, cotangent), transpose_lhs=True, transpose_rhs=False)
    return _as(e, _for_shared_heads(e, found, v.shape[1]), v)


def _vjp(e: Emitter, index: int, cotangent: Any, op: Application) -> Any:
    q, k, v, *mask = op.operands
    log_sum = e.attention_log_sum(q, k, *mask, **op.attributes)
    delta = e.reduce_sum(e.multiply(_wide(e, op.result), _wide(e, cotangent)), axes=(3,))
    operands = (q, k, v, cotangent, log_sum, delta, *mask)
    if index == 3:
        return e.sum_to(_changes(e, operands, **op.attributes), mask[0].shape)
    gradient = (attention_query_gradient, attention_key_gradient, attention_value_gradient)[index]
    return e.apply(gradient, operands, op.attributes)


def _batch(e: Emitter, op: BatchedApplication) -> Any:
    """The batch and the examples in each of its elements are examples, one after the other."""
    count: Any = op.shape(0)[0]
    folded = []
    for x in op.all_stretched(e):
        whole = e.broadcast_to(x, (op.size, count, *x.shape[2:]))  # of a mask there may be one for all
        folded.append(e.reshape(whole, shape=(op.size * count, *x.shape[2:])))
    result = e.apply(op.primitive, tuple(folded), op.attributes)
    return e.reshape(result, shape=(op.size, count, *result.shape[1:]))


def _check(name: str, query: TensorType, key: TensorType, *others: TensorType) -> None:
    types = [query, key, *others]
    shares = query.ndim == key.ndim == 4 and (query.shape[0], query.shape[3]) == (key.shape[0], key.shape[3])
    if not shares or not key.shape[1] or query.static_shape[1] % key.static_shape[1]:
        raise ValueError(f"{name}: queries and keys do not fit: {', '.join(map(repr, types))}")
    if others and (others[0].ndim != 4 or others[0].shape[:3] != key.shape[:3]):
        raise ValueError(f"{name}: keys and values do not fit: {', '.join(map(repr, types))}")


def _type(query: TensorType, key: TensorType, value: TensorType, *mask: TensorType, **attributes: Any) -> TensorType:
    _check("attention", query, key, value)
    return TensorType(query.dtype, (*query.shape[:3], value.shape[3]))


def _log_sum_type(query: TensorType, key: TensorType, *mask: TensorType, **attributes: Any) -> TensorType:
    _check("attention_log_sum", query, key)
    return TensorType(float64 if query.dtype == float64 else float32, query.shape[:3])


def _gradient(name: str, number: int, decomposition: Callable[..., Any]) -> Composite:
    def type_rule(*types: TensorType, **attributes: Any) -> TensorType:
        _check(name, *types[:3])
        return types[number]

    return composite(name, type_rule, decomposition, batch=_batch)


attention = composite("attention", _type, _attention, vjp=_vjp, saves="0123r", batch=_batch)
attention_log_sum = composite("attention_log_sum", _log_sum_type, _log_sum, batch=_batch)
attention_query_gradient = _gradient("attention_query_gradient", 0, _query_gradient)
attention_key_gradient = _gradient("attention_key_gradient", 1, _key_gradient)
attention_value_gradient = _gradient("attention_value_gradient", 2, _value_gradient)
