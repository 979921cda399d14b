"""What two kernels of a device compute, each for itself, so that it is neither written nor read.

The gradient of a norm sums a product over the columns, of which the kernel that goes through the rows has just computed
the elements.  To write them and read them again takes longer than to compute them again from what the sums read anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracejit.ir import Block, Constant, Op, Value
from tracejit.ir.primitive import Elementwise
from tracejit.ir.primitives.elementwise import convert
from tracejit.ir.types import HALF_DTYPES, is_floating

from .fusion import MAX_GROUP, Group, is_fusible, source_of, squeezed

CHEAP = frozenset(
    ("add", "subtract", "multiply", "divide", "negate", "convert", "select", "compare", "maximum", "minimum")
)  # fmt: skip
MOST_OPS = 8  # to compute an element again
MORE_READ = 2  # values of the whole domain, in the place of one that is written and read


def recompute(graph: Block, groups: Sequence[Group]) -> list[Group]:
    """The groups, in which those that sum columns carry out themselves what they had better not read.

    Neighbours that then read the same become one.
    """
    group_of = {op.result: group for group in groups for op in group.ops if len(op.results) == 1}
    readers: dict[Value, set[int]] = {}
    for group in groups:
        for op in group.ops:
            for operand in op.operands:
                readers.setdefault(source_of(op, operand), set()).add(group.number)
    results = set(graph.results)
    for group in groups:
        if not _sums_columns(group):
            continue
        own = {op.result for op in group.ops}
        read = dict.fromkeys(source_of(op, operand) for op in group.ops for operand in op.operands)
        for value in [value for value in read if value not in own]:
            home = group_of.get(value)
            if home is None or home.domain != group.domain or value in results:
                continue
            if readers[value] - {home.number, group.number}:
                continue  # it is written for others
            again = _ops_for(value, home, group_of)
            if again is None:
                continue
            leaves = {source_of(op, operand) for op in again for operand in op.operands} - {op.result for op in again}
            wide = {leaf for leaf in leaves if squeezed(leaf.shape) == group.domain}
            if len(wide - read.keys()) <= MORE_READ:
                known = set(group.ops)
                group.ops[:0] = [op for op in again if op not in known]
    merged: list[Group] = []
    for group in groups:
        last = merged[-1] if merged else None
        if last is not None and _sums_columns(group) and _sums_columns(last) and _go_together(last, group):
            last.ops += [op for op in group.ops if op not in last.ops]
        else:
            merged.append(group)
    return merged


def widen_where_read(graph: Block, groups: Sequence[Group]) -> list[Group]:
    """The groups, in which those that read halves as float32 widen them themselves: so halves stand in memory."""
    kept = set(graph.results)
    homes = {op: group for group in groups for op in group.ops if is_widening(op) and op.result not in kept}
    readers: dict[Op, dict[Group, None]] = {op: {} for op in homes}
    for group in groups:
        for op in group.ops:
            for operand in op.operands:
                made_by = source_of(op, operand).op
                if made_by in readers:
                    readers[made_by][group] = None
    for op, found in readers.items():
        if all(is_fusible(member, host=False) for group in found for member in group.ops):
            if homes[op] not in found:
                homes[op].ops.remove(op)
            for group in found:
                if group is not homes[op]:
                    group.ops.insert(0, op)
    return [group for group in groups if group.ops]


def is_widening(op: Op) -> bool:
    """Whether an op makes wider floats of halves."""
    return op.primitive is convert and op.operands[0].dtype in HALF_DTYPES and is_floating(op.result.dtype)


def _sums_columns(group: Group) -> bool:
    return bool(group.reduced) and len(group.domain) - 1 not in group.reduced


def _go_together(first: Group, second: Group) -> bool:
    """Whether two groups reduce the same axes of what is partly the same, and neither waits for the other."""
    reads = [{source_of(op, operand) for op in group.ops for operand in op.operands} for group in (first, second)]
    own = [{op.result for op in group.ops} for group in (first, second)]
    common = {value for value in reads[0] & reads[1] if squeezed(value.shape) == first.domain}
    return (
        first.domain == second.domain
        and first.reduced == second.reduced
        and len(first.ops) + len(second.ops) <= MAX_GROUP
        and bool(common)
        and not (reads[1] - own[1]) & own[0]
    )


def _ops_for(value: Value, home: Group, group_of: Mapping[Value, Group]) -> list[Op] | None:
    """The ops of a group that give a value, from what is in memory or reduced; ``None`` where that is too much."""
    found: dict[Op, None] = {}
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Constant) or group_of.get(one) is not home or squeezed(one.shape) != home.domain:
            continue
        op = one.op
        if op is None or not isinstance(op.primitive, Elementwise) or op.primitive.name not in CHEAP:
            return None
        found[op] = None
        if len(found) > MOST_OPS:
            return None
        waiting += [source_of(op, operand) for operand in op.operands]
    return [op for op in home.ops if op in found]
