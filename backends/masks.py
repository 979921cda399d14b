"""What a mask that is known leaves out of a softmax.

Where a mask replaces scores by -inf before a softmax, the weights there are 0, or NaN where all of the row is NaN: such
scores are neither the greatest nor do they change the sum.  So they need not be computed, if 0 (or NaN) is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracejit.ir import Constant, Op, Value
from tracejit.ir.primitive import Elementwise, View
from tracejit.ir.primitives.elementwise import compare, divide, exponential, select, subtract
from tracejit.ir.primitives.reduction import reduce_max, reduce_sum

from .fusion import Group, home_index, through_views

if TYPE_CHECKING:
    from .planning import _Plan

MOST_ELEMENTS = 1 << 22  # of a mask that is looked at


def masked_columns(plan: _Plan, group: Group, scores: Value, weights: Value) -> list[int] | None:
    """How many of its first columns each row of the scores needs; ``None`` where that is not known.

    The group makes the weights of the scores; what else it stores, of each row, does not depend on the columns beyond.
    """
    found = _softmax(weights)
    if found is None:
        return None
    masked, ops = found
    mask, on_true, on_false = masked.operands
    is_kept = _is_number(on_false, -np.inf)
    if is_kept == _is_number(on_true, -np.inf) or masked.result.shape != scores.shape:
        return None
    of_scores = _ancestors(group, [mask, on_true, on_false])
    stored = {op.result for op in group.ops} & plan.stored
    if not all(op in ops or op in of_scores for op in group.ops) or stored & {op.result for op in of_scores}:
        return None
    if any(value is not weights and value.shape == scores.shape for value in stored):
        return None
    array = _known(mask)
    if array is None:
        return None
    kept = array if is_kept else np.logical_not(array)
    if kept.ndim > 2:
        kept = np.logical_or.reduce(kept.reshape(-1, *kept.shape[-2:]))
    *_, m, n = scores.type.static_shape
    kept = np.broadcast_to(kept, (m, n))
    return np.where(kept.any(1), n - np.argmax(kept[:, ::-1], 1), 0).tolist()


def _softmax(weights: Value) -> tuple[Op, set[Op]] | None:
    """The op that masks the scores, where ``weights`` are a softmax of its result along the last axis; and the ops from
    there on.  Rows of which nothing is left may be treated by themselves."""
    match weights.op:
        case Op(primitive=p, operands=(powers, total)) if p is divide:
            pass
        case _:
            return None
    match powers.op:
        case Op(primitive=p, operands=(difference,)) if p is exponential:
            pass
        case _:
            return None
    match difference.op:
        case Op(primitive=p, operands=(scores, top)) if p is subtract:
            pass
        case _:
            return None
    if scores.op is None or scores.op.primitive is not select:
        return None
    greatest = _reduced(top, reduce_max, scores)
    summed = _reduced(total, reduce_sum, powers)
    if greatest is None or summed is None:
        return None
    maximum = next(op for op in greatest if op.primitive is reduce_max)
    for guard in [op for op in (*greatest, *summed) if op.primitive is select]:
        # What is put in the place of the greatest score, or of the sum, where there is no score.
        predicate = guard.operands[0].op
        if predicate is None or predicate.primitive is not compare or predicate.attributes["direction"] != "eq":
            return None
        value, number = predicate.operands
        if _behind(value) is not maximum.result or not _is_number(number, -np.inf):
            return None
        greatest.append(predicate)
    own = [op for op in (weights.op, powers.op, difference.op, scores.op) if op is not None]
    return scores.op, {*own, *greatest, *summed}


def _reduced(value: Value, primitive: object, operand: Value) -> list[Op] | None:
    """The ops that reduce the last axis of ``operand``: the reduction, and what guards it."""
    op = _behind(value).op
    ops = []
    if op is not None and op.primitive is select:
        ops.append(op)
        number = op.operands[1]
        if not isinstance(number, Constant) or number.array.size != 1 or not np.isfinite(number.array).all():
            return None
        op = _behind(op.operands[2]).op
    if op is None or op.primitive is not primitive or op.operands[0] is not operand:
        return None
    return [*ops, op] if tuple(op.attributes["axes"]) == (operand.ndim - 1,) else None


def _behind(value: Value) -> Value:
    return through_views(value, home_index(value.shape))[0]


def _is_number(value: Value, number: float) -> bool:
    return isinstance(value, Constant) and value.array.size == 1 and bool(value.array == number)


def _ancestors(group: Group, values: list[Value]) -> set[Op]:
    """The group's ops that lead to some values."""
    own, found = set(group.ops), set[Op]()
    waiting = [_behind(value) for value in values]
    while waiting:
        op = waiting.pop().op
        if op is not None and op in own and op not in found:
            found.add(op)
            waiting += map(_behind, op.operands)
    return found


def _known(value: Value) -> np.ndarray | None:
    """The value's elements, where constants are all that they are computed from."""
    if isinstance(value, Constant):
        return value.array
    op = value.op
    if op is None or not isinstance(op.primitive, Elementwise | View) or not op.primitive.exact:
        return None
    if not value.type.is_static or value.type.size > MOST_ELEMENTS:
        return None
    arrays = [array for operand in op.operands if (array := _known(operand)) is not None]
    if len(arrays) < len(op.operands):
        return None
    found: np.ndarray = op.primitive.evaluate(*arrays, **op.attributes)
    return found
