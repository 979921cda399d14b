"""Facts about a kernel's statements, by which its form is chosen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from tracejit.ir.primitives.reduction import LANES
from tracejit.ir.types import is_floating

from .. import kernel as k

SIDE = LANES  # of a tile: neighbouring threads read, and write, neighbouring elements
SHORT = 8  # extents for which a tile would be mostly empty


def operands_of(statement: k.Statement) -> list[k.Operand]:
    """The scalars and literals that a statement reads."""
    match statement:
        case k.Instruction(operands=operands):
            return list(operands)
        case k.Call(_, predicate, operand, otherwise):
            return [predicate, operand, otherwise]
        case k.Load(address=address):
            return [scalar for scalar, _ in address.dynamic]
        case k.Store(address=address, value=value):
            parts = [value] if statement.imaginary is None else [value, statement.imaginary]
            return [*parts, *(scalar for scalar, _ in address.dynamic)]
    return []


def is_ordered(combination: k.Combination) -> bool:
    """Whether the order matters: sums (and products) of floats."""
    return combination.combine in ("add", "multiply") and is_floating(combination.result.dtype)


def split(
    statements: Sequence[k.Statement], waited_for: Sequence[k.Scalar] = ()
) -> tuple[list[k.Statement], list[k.Statement]]:
    """What waits for no loop, reduction or given scalar; and the rest."""
    known = set(map(id, waited_for))
    early: list[k.Statement] = []
    late: list[k.Statement] = []
    for statement in statements:
        if isinstance(statement, k.Loop | k.Reduce | k.Store) or any(id(o) in known for o in operands_of(statement)):
            late.append(statement)
            if isinstance(statement, k.Reduce):
                known.update(id(combination.result) for combination in statement.combinations)
            elif not isinstance(statement, k.Loop | k.Store):
                known.add(id(statement.result))
                if isinstance(statement, k.Load) and statement.imaginary is not None:
                    known.add(id(statement.imaginary))
        else:
            early.append(statement)
    return early, late


def is_in_one_stage(loops: Sequence[k.Loop], body: Sequence[k.Statement]) -> bool:
    """Whether nothing that is done for each element waits for a reduction, and all stands in the innermost loop."""
    for outer, inner in itertools.pairwise(loops):
        if outer.body != [inner]:
            return False
    if loops and any(isinstance(statement, k.Reduce) for statement in body):
        return False
    statements = loops[-1].body if loops else body
    _, late = split(statements)
    reduced = {id(c.result) for s in late if isinstance(s, k.Reduce) for c in s.combinations}
    reduced |= {id(s.result) for s in late if not isinstance(s, k.Loop | k.Reduce | k.Store)}
    inside = [one for s in late if isinstance(s, k.Loop | k.Reduce) for one in s.body]
    if any(isinstance(one, k.Loop | k.Reduce) for one in inside):
        return False
    return not any(id(operand) in reduced for one in inside for operand in operands_of(one))


def across(loops: Sequence[k.Loop], extents: Mapping[str, int]) -> tuple[k.Load, ...]:
    """The loads whose neighbours are neighbours along the last axis but one; none where tiles do not pay."""
    if len(loops) < 2 or any(extents[loop.axis] < SHORT for loop in loops[-2:]):
        return ()
    outer, inner = loops[-2].axis, loops[-1].axis
    return tuple(
        statement for statement in loops[-1].body
        if isinstance(statement, k.Load) and not statement.address.dynamic
        and statement.address.terms.get(outer) == 1 and statement.address.terms.get(inner, 0) != 0
    )  # fmt: skip


def update_loops(loops: Sequence[k.Loop]) -> int:
    """How many of a scatter's loops go through updates; those inside go through the window of each."""
    stores = [s for loop in loops for s in loop.body if isinstance(s, k.Store)]
    wanted = {id(scalar) for store in stores for scalar, _ in store.address.dynamic}
    depth = 0
    for number, loop in enumerate(loops, 1):
        if any(id(getattr(statement, "result", None)) in wanted for statement in loop.body):
            depth = number
    return depth
