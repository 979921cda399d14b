"""Collectives: what joins the values that a batch has at its places, from within the function that is batched.

``axis`` is the number of the transformation that makes the batch, and ``index`` the place: an operand that only that
transformation can know, so that it sees every collective that is its own, and takes it apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..batching import BatchedApplication
from ..facts import facts
from ..primitive import Application, Emitter, Primitive, linear
from ..types import TensorType


@facts(frozen=True, eq=False, kw_only=True)
class Collective(Primitive):
    """``join(emitter, x)`` makes the values along the first axis of ``x`` into the one that all places get."""

    join: Callable[[Emitter, Any], Any]


def _unbound(x: np.ndarray, index: np.ndarray, axis: int, size: int) -> np.ndarray:
    raise RuntimeError("a collective runs only where its axis is that of a batch")


def _reduced(e: Emitter, g: Any, index: Any, op: Application) -> Any:
    return e.all_reduce(g, index, **op.attributes)


def _all_reduce_vjp(e: Emitter, number: int, g: Any, op: Application) -> Any:
    return _reduced(e, g, op.operands[1], op)


def _all_reduce_batch(e: Emitter, op: BatchedApplication) -> Any:
    return e.apply(op.primitive, (op.stretched(e, 0), op.operands[1]), op.attributes)


# The sum over all places.
all_reduce = Collective(
    name="all_reduce",
    type_rule=lambda x, index, axis, size: x,
    numpy=_unbound,
    join=lambda e, x: e.reduce_sum(x, axes=(0,)),
    vjp=_all_reduce_vjp,
    saves="1",
    differentiable_operands=(0,),
    jvp=linear,
    batch=_all_reduce_batch,
)


def _all_gather_vjp(e: Emitter, number: int, g: Any, op: Application) -> Any:
    index = op.operands[1]
    return e.gather(_reduced(e, g, index, op), index, axes=(0,))


def _all_gather_batch(e: Emitter, op: BatchedApplication) -> Any:
    gathered = e.apply(op.primitive, (op.stretched(e, 0), op.operands[1]), op.attributes)
    return e.transpose(gathered, permutation=(1, 0, *range(2, len(gathered.shape))))


def _split_batch(e: Emitter, op: BatchedApplication) -> Any:
    x = op.stretched(e, 0)
    first = e.transpose(x, permutation=(1, 0, *range(2, len(x.shape))))
    return e.apply(op.primitive, (first, op.operands[1]), op.attributes)


# The values of all places, along a new first axis.
all_gather = Collective(
    name="all_gather",
    type_rule=lambda x, index, axis, size: TensorType(x.dtype, (size, *x.shape)),
    numpy=_unbound,
    join=lambda e, x: x,
    vjp=_all_gather_vjp,
    saves="1",
    differentiable_operands=(0,),
    jvp=linear,
    batch=_all_gather_batch,
)


# The batch itself as a first axis, which is not a batch any more, and back: what is done between the two is done to the
# batch as a whole.  Each is the other's derivative.
gather_batch = Collective(
    name="gather_batch",
    type_rule=lambda x, index, axis, size: TensorType(x.dtype, (size, *x.shape)),
    numpy=_unbound,
    join=lambda e, x: x,
    vjp=lambda e, number, g, op: e.split_batch(g, op.operands[1], **op.attributes),
    saves="1",
    differentiable_operands=(0,),
    jvp=linear,
    batch=_all_gather_batch,
)
split_batch = Collective(
    name="split_batch",
    type_rule=lambda x, index, axis, size: TensorType(x.dtype, x.shape[1:]),
    numpy=_unbound,
    join=lambda e, x: x,
    vjp=lambda e, number, g, op: e.gather_batch(g, op.operands[1], **op.attributes),
    saves="1",
    differentiable_operands=(0,),
    jvp=linear,
    batch=_split_batch,
)
