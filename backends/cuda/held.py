"""Rows that are read once: what a kernel holds of a row from one pass over it to the next, and where.

A softmax goes through its row three times, for the maximum, for the sum of the exponentials and to divide them.  What
it reads in the first pass, and the exponentials of the second, stay with the threads: in registers, where the row is
short enough for a block of them, else in shared memory.  Longer rows are read again, mostly from the cache: to find
maximum and sum in one pass would give another sum than one op after the other does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracejit.ir.primitives.reduction import LANES
from tracejit.ir.types import HALF_DTYPES, DType

from .. import kernel as k
from .analysis import is_ordered, operands_of
from .vectors import BYTES, is_along

WORTH_KEEPING = 8  # instructions: what takes more is not computed twice
WARP_BYTES = 64  # of a row, held by each thread of a warp
REGISTER_BYTES = 128  # held by a thread of a block of up to 512: half of its registers
UNROLLED = 2000  # statements, for all elements of a thread: more take long to compile
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """One reduction or loop over the row, with the statements of it that are carried out."""

    statement: k.Reduce | k.Loop
    body: list[k.Statement]


@dataclass(frozen=True, slots=True)
class Held:
    """Each of ``threads`` holds ``chunks`` times ``width`` neighbouring elements; 0 threads: shared memory holds them.

    ``loads`` and ``kept`` are what is held, by key: for those the statement that is met first.
    """

    threads: int
    chunks: int
    width: int
    passes: tuple[Pass, ...]
    keys: Mapping[int, Key] = field(repr=False)  # by a scalar's identity
    loads: Mapping[Key, k.Load]
    kept: Mapping[Key, k.Instruction | k.Call]
    shared_bytes: int

    def is_paired(self, dtype: DType) -> bool:
        """Whether two numbers of that dtype are held in one register."""
        return dtype in HALF_DTYPES and self.width > 1

    @property
    def capacity(self) -> int:
        """The longest row's elements."""
        return self.threads * self.chunks * self.width


def find(kernel: k.Kernel, extent: int, values: Mapping[str, int], most_shared: int) -> Held | None:
    """How to hold the rows of a kernel, with so much shared memory; ``None`` where that gains nothing, or cannot be."""
    statements = list(k.walk(kernel.body))
    reduces = [s for s in statements if isinstance(s, k.Reduce)]
    axis = reduces[0].axis
    passes: list[k.Reduce | k.Loop] = [*reduces, *(s for s in statements if isinstance(s, k.Loop) and s.axis == axis)]
    passes.sort(key=lambda p: next(i for i, s in enumerate(statements) if s is p))
    if len(passes) < 2 or any(p.axis != axis for p in passes):
        return None
    if any(isinstance(s, k.Loop | k.Reduce) for p in passes for s in p.body):
        return None
    if any(buffer.dtype.kind == "c" for buffer in kernel.buffers):
        return None
    stores = [s for s in statements if isinstance(s, k.Store)]
    if {s.buffer for s in stores} & {s.buffer for s in statements if isinstance(s, k.Load)}:
        return None
    keys = _keys(passes)
    loads, kept, planned = _plan(passes, axis, keys, WORTH_KEEPING)
    if not loads:
        return None
    dtypes = {buffer.name: buffer.dtype for buffer in kernel.buffers}
    read = [dtypes[load.buffer] for load in loads.values()]
    made = [node.result.dtype for node in kept.values()]
    live = max(_register_bytes(read, False), _register_bytes(made, False))
    ordered = max(
        sum(c.result.dtype.itemsize for c in reduce.combinations if is_ordered(c)) for reduce in reduces
    )  # exchanged between the threads of a block, for each element
    most = UNROLLED // max(len(p.body) for p in planned)  # elements of a thread
    if extent * live <= LANES * WARP_BYTES and extent <= LANES * most:
        chunks = next(count for count in (1, 4, 16, 64) if count * LANES >= extent)
        return Held(LANES, chunks, 1, planned, keys, loads, kept, 0)
    accesses = [s for p in planned for s in p.body if isinstance(s, k.Load | k.Store) and is_along(s.address, axis)]
    width = BYTES // max(dtypes[access.buffer].itemsize for access in accesses)
    if extent % width or any(_steps(access.address, axis, values, width) for access in accesses):
        width = 1
    live = max(_register_bytes(read, width > 1), _register_bytes(made, width > 1))
    for threads in (128, 256, 512, 1024):
        elements = REGISTER_BYTES // live // (2 if threads == 1024 else 1)
        enough = 16 if threads < 1024 else elements  # more threads rather than more for each of them
        chunks = 1 << max(0, -(-extent // (threads * width)) - 1).bit_length()
        shared = threads * chunks * width * ordered
        if chunks * width <= min(elements, enough, most) and shared <= most_shared:
            return Held(threads, chunks, width, planned, keys, loads, kept, shared)
    loads, _, planned = _plan(passes, axis, keys, math.inf)
    needed = sum(-(-extent * dtypes[load.buffer].itemsize // BYTES) * BYTES for load in loads.values())
    if needed > most_shared:
        return None
    return Held(0, 0, width, planned, keys, loads, {}, needed)


def _register_bytes(dtypes: Sequence[DType], in_pairs: bool) -> int:
    """What one element of each takes in a thread's registers; halves may share one."""
    return sum(2 if in_pairs and dtype in HALF_DTYPES else max(dtype.itemsize, 4) for dtype in dtypes)


def _steps(address: k.Address, axis: str, values: Mapping[str, int], width: int) -> bool:
    """Whether rows start elsewhere than at multiples of a vector."""
    steps = [address.offset, *(stride for name, stride in address.terms.items() if name != axis)]
    return any((step if isinstance(step, int) else values[step]) % width for step in steps)


def _keys(passes: Sequence[k.Reduce | k.Loop]) -> dict[int, Key]:
    """A key for each scalar inside the passes, equal for those that have equal values."""
    keys: dict[int, Key] = {}

    def of(operand: k.Operand) -> Key:
        if isinstance(operand, k.Literal):
            return ("literal", operand.text, operand.dtype)
        return keys.get(id(operand), ("outside", id(operand)))

    for one in passes:
        for statement in one.body:
            match statement:
                case k.Load(buffer, address, result):
                    dynamic = tuple((of(scalar), stride) for scalar, stride in address.dynamic)
                    keys[id(result)] = ("load", buffer, address.offset, *address.terms.items(), dynamic)
                case k.Index(axis, result):
                    keys[id(result)] = ("index", axis)
                case k.Instruction(name, operands, result):
                    keys[id(result)] = (name, result.dtype, *map(of, operands))
                case k.Call(function, predicate, operand, otherwise, result):
                    keys[id(result)] = (function.name, of(predicate), of(operand), of(otherwise))
    return keys


def _plan(
    passes: Sequence[k.Reduce | k.Loop], axis: str, keys: Mapping[int, Key], worth: float
) -> tuple[dict[Key, k.Load], dict[Key, k.Instruction | k.Call], tuple[Pass, ...]]:
    """What is held, and of each pass the statements that are still carried out."""
    first: dict[Key, k.Statement] = {}
    loads: dict[Key, k.Load] = {}
    kept: dict[Key, k.Instruction | k.Call] = {}
    planned = []
    for one in passes:
        made = {id(s.result): s for s in one.body if not isinstance(s, k.Store | k.Loop | k.Reduce)}
        stores = [s for s in one.body if isinstance(s, k.Store)]
        roots = [operand for s in stores for operand in operands_of(s)]
        roots += [c.value for c in one.combinations] if isinstance(one, k.Reduce) else []
        wanted: set[int] = set()
        while roots:
            statement = made.get(id(roots.pop()))
            if statement is None or id(statement) in wanted:
                continue
            wanted.add(id(statement))
            key = keys[id(statement.result)]
            if key in first:
                if isinstance(statement, k.Load) and is_along(statement.address, axis):
                    loads.setdefault(key, first[key])  # type: ignore[arg-type]
                    continue
                if (
                    isinstance(statement, k.Instruction | k.Call)
                    and not _widens(statement)
                    and _cost(statement, made) > worth
                ):
                    kept.setdefault(key, first[key])  # type: ignore[arg-type]
                    continue
            roots += operands_of(statement)
        planned.append(Pass(one, [s for s in one.body if isinstance(s, k.Store) or id(s) in wanted]))
        for made_here in made.values():
            first.setdefault(keys[id(made_here.result)], made_here)
    return loads, kept, tuple(planned)


def _widens(statement: k.Statement) -> bool:
    """Whether it makes a float of a half, which takes less room."""
    if not isinstance(statement, k.Instruction) or statement.name != "convert":
        return False
    return statement.operands[0].dtype in HALF_DTYPES


def _cost(statement: k.Statement, made: Mapping[int, k.Statement]) -> int:
    """How many instructions a scalar takes."""
    seen: set[int] = set()
    stack = [statement]
    while stack:
        one = stack.pop()
        if id(one) in seen or not isinstance(one, k.Instruction | k.Call):
            continue
        seen.add(id(one))
        stack += [made[id(operand)] for operand in operands_of(one) if id(operand) in made]
    return len(seen)
