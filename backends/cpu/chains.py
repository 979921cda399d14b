"""Loops in order, whose steps leave something to the next: several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import kernel as k
from . import instructions
from .emitter import VECTOR_LANES, Context, extent_text

if TYPE_CHECKING:
    from .codegen import KernelEmitter

CHAIN_LANES = 256  # elements whose steps are taken side by side, at the most: each step waits for the one before
REGISTER_BYTES = 48 * 64  # of vectors: those that wait can be spilled
CHAINS = 4  # rows that are walked in order side by side: as many as hide what an addition takes


def loop_of_chains(kernel: KernelEmitter, loop: k.Loop, chain: k.Loop, start: str, stop: str, c: Context) -> None:
    """Some chains of steps side by side: each step waits for the one before."""
    whole = kernel.whole_vectors(start, stop, CHAINS)
    with kernel.e.loop(start, whole, str(CHAINS)) as steps:
        rows = [kernel.e.add(steps.index, number) for number in range(CHAINS)]
        carrying_loop(kernel, chain, [kernel.opened(c, loop.axis, row) for row in rows])
    with kernel.e.loop(whole, stop, "1") as steps:
        carrying_loop(kernel, chain, [kernel.opened(c, loop.axis, steps.index)])


def carrying_loop(kernel: KernelEmitter, loop: k.Loop, contexts: Sequence[Context]) -> None:
    """A loop in order, for each of the contexts."""
    carried = []
    for c in contexts:
        kernel.enter(c, loop.body)
        for carry in loop.carries:
            dtype = carry.result.dtype
            initial = kernel.read(carry.initial, c.lanes, c)
            carried.append((instructions.register_type(dtype, c.lanes), initial))
    with kernel.e.loop("0", extent_text(loop.extent), "1", carried) as steps:
        registers = iter(steps.carried)
        for c in contexts:
            inner = kernel.opened(c, loop.axis, steps.index)
            for carry in loop.carries:
                kernel.define(carry.result, next(registers), c.lanes, inner)
            kernel.block(loop.body, inner)
            steps.next += [kernel.read(carry.next, c.lanes, inner) for carry in loop.carries]
    left = iter(steps.carried)
    for c in contexts:
        for carry, register in zip(loop.carries, left, strict=False):
            if carry.last is not None:
                kernel.define(carry.last, register, c.lanes, c)


def lanes_of_chains(loop: k.Loop, chains: Sequence[k.Loop]) -> int:
    """How many elements to take side by side through chains of steps: as many as fit into registers."""
    live = max(map(_most_alive, chains)) + sum(isinstance(s, k.Load | k.Instruction) for s in loop.body)
    width = max((carry.result.dtype.itemsize for chain in chains for carry in chain.carries), default=4)
    lanes = CHAIN_LANES
    while lanes > VECTOR_LANES and lanes * live * width > REGISTER_BYTES:
        lanes //= 2
    return lanes


def _most_alive(chain: k.Loop) -> int:
    """How many values of a step are needed at once."""
    last: dict[int, int] = {}
    for number, statement in enumerate(chain.body):
        last.update((id(operand), number) for operand in _operands(statement))
    last.update((id(carry.next), len(chain.body)) for carry in chain.carries)
    alive = {id(carry.result) for carry in chain.carries}
    most = len(alive)
    for number, statement in enumerate(chain.body):
        result = getattr(statement, "result", None)
        alive = {scalar for scalar in alive if last.get(scalar, -1) > number}
        if result is not None:
            alive.add(id(result))
        most = max(most, len(alive))
    return most


def _operands(statement: k.Statement) -> tuple[k.Operand, ...]:
    match statement:
        case k.Instruction():
            return statement.operands
        case k.Call():
            return statement.predicate, statement.operand, statement.otherwise
        case k.Store():
            return (statement.value,)
    return ()
