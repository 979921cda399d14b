"""Batching: the rule by which a primitive is applied to operands that have one axis more.

The batch is the *first* axis of the operands that are batched, and of the result.  Most rules come with the kind of
primitive: elementwise ones line their operands up behind the batch, those that name axes name the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .facts import facts
from .types import Shape, TensorType

if TYPE_CHECKING:
    from .primitive import Emitter, Primitive


@facts
class BatchedApplication:
    """One application of a primitive; at least one of the operands is batched."""

    primitive: Primitive
    attributes: Mapping[str, Any]
    operands: tuple[Any, ...]
    is_batched: tuple[bool, ...]
    size: int

    def shape(self, index: int) -> Shape:
        """The shape of an operand, the batch left out."""
        shape = tuple(self.operands[index].shape)
        return shape[1:] if self.is_batched[index] else shape

    def stretched(self, e: Emitter, index: int) -> Any:
        """An operand with the batch as its first axis."""
        operand = self.operands[index]
        return operand if self.is_batched[index] else e.broadcast_to(operand, (self.size, *operand.shape))

    def all_stretched(self, e: Emitter) -> tuple[Any, ...]:
        """All operands with the batch as their first axis."""
        return tuple([self.stretched(e, i) for i in range(len(self.operands))])


BatchRule = Callable[["Emitter", BatchedApplication], Any]


def elementwise(e: Emitter, op: BatchedApplication) -> Any:
    """The rule where operands broadcast: those of fewer axes get axes of extent 1 behind the batch."""
    ndim = max(len(op.shape(i)) for i in range(len(op.operands)))
    operands = [
        e.reshape_to(operand, (op.size, *(1,) * (ndim - len(op.shape(i))), *op.shape(i))) if batched else operand
        for i, (operand, batched) in enumerate(zip(op.operands, op.is_batched, strict=True))
    ]
    return e.apply(op.primitive, tuple(operands), op.attributes)


def leading(e: Emitter, op: BatchedApplication) -> Any:
    """The rule of what leaves all axes but the last ones alone."""
    return e.apply(op.primitive, op.all_stretched(e), op.attributes)


def renamed(attributes: Callable[..., Mapping[str, Any]]) -> BatchRule:
    """The rule of what names axes: ``attributes(size, **attributes)`` names them with the batch in front."""

    def rule(e: Emitter, op: BatchedApplication) -> Any:
        return e.apply(op.primitive, op.all_stretched(e), attributes(op.size, **op.attributes))

    return rule


along_axis = renamed(lambda size, axis, **others: {**others, "axis": axis + 1})


def one_by_one(e: Emitter, op: BatchedApplication) -> Any:
    """The rule where there is no better one: apply it to each element of the batch, and put the results together."""
    types = [TensorType(operand.dtype, op.shape(i)) for i, operand in enumerate(op.operands)]
    result = op.primitive.infer(types, op.attributes)
    rows = [e.full(0, TensorType(result.dtype, (0, *result.shape)))]
    for number in range(op.size):
        operands = [
            e.reshape_to(_row(e, operand, number), op.shape(i)) if batched else operand
            for i, (operand, batched) in enumerate(zip(op.operands, op.is_batched, strict=True))
        ]
        rows.append(e.reshape(e.apply(op.primitive, tuple(operands), op.attributes), shape=(1, *result.shape)))
    return e.concatenate(*rows, dimension=0)


def _row(e: Emitter, x: Any, number: int) -> Any:
    shape = tuple(x.shape)
    start, limit = (number, *(0,) * (len(shape) - 1)), (number + 1, *shape[1:])
    return e.slice(x, start=start, limit=limit, strides=(1,) * len(shape))
