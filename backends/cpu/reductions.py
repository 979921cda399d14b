"""Reductions, in the order that the language fixes: the order's lanes in registers, or in a table on the stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tracejit.ir.primitives.reduction import BLOCK, LANES
from tracejit.ir.types import DType, float32, float64, int32, int64, is_floating

from .. import kernel as k
from . import instructions
from .emitter import Context, extent_text, leading_lanes, power_of_two

if TYPE_CHECKING:
    from .codegen import KernelEmitter

WIDE_BYTES = 1024  # of each row that are reduced side by side where nothing else is done: few rows share a page
ROW_BYTES = 512  # of a row that are reduced side by side in any order
MOST_BESIDES = 4  # statements
PREFETCHED_ROWS = 4  # how far ahead columns are asked for
CACHE_LINE = 64  # bytes


def reduce(kernel: KernelEmitter, reduce: k.Reduce, c: Context) -> None:
    kernel.enter(c, reduce.body)
    if reduce.block is not None:
        start = kernel.e.mul(c.axes[reduce.block], str(BLOCK))
        stop = kernel.e.min(kernel.e.add(start, str(BLOCK)), extent_text(reduce.extent))
        results = _one_block(kernel, reduce, start, stop, None, c)
    elif reduce.one_block or not _ordered(reduce):
        results = _one_block(kernel, reduce, "0", extent_text(reduce.extent), reduce.extent, c)
    else:
        results = _blocks(kernel, reduce, c)
    lanes = 1 if reduce.vector else c.lanes
    for combination, register in zip(reduce.combinations, results, strict=True):
        kernel.define(combination.result, register, lanes, c)


def _ordered(reduce: k.Reduce) -> bool:
    """Whether the order matters: sums and products of floats."""
    return any(c.combine in ("add", "multiply") and is_floating(c.result.dtype) for c in reduce.combinations)


def _one_block(
    kernel: KernelEmitter, reduce: k.Reduce, start: str, stop: str, extent: k.Extent | None, c: Context
) -> list[str]:
    if reduce.vector:
        return _row_block(kernel, reduce, start, stop, extent, c)
    return _column_block(kernel, reduce, start, stop, c)


def _blocks(kernel: KernelEmitter, reduce: k.Reduce, c: Context) -> list[str]:
    """More than one block: the blocks' results go to the lanes in turn, as elements do."""
    e = kernel.e
    lanes = 1 if reduce.vector else c.lanes
    tables = [_table(kernel, combination, lanes) for combination in reduce.combinations]
    extent = extent_text(reduce.extent)
    with e.loop("0", extent, str(BLOCK)) as steps:
        start = steps.index
        stop = e.min(e.add(start, str(BLOCK)), extent)
        results = _one_block(kernel, reduce, start, stop, None, c)
        slot = e.assign(f"and i64 {e.assign(f'udiv i64 {start}, {BLOCK}')}, {LANES - 1}")
        for combination, table, value in zip(reduce.combinations, tables, results, strict=True):
            _combine_into(kernel, combination, table, slot, value, lanes)
    return [
        _fold_table(kernel, combination, table, lanes)
        for combination, table in zip(reduce.combinations, tables, strict=True)
    ]


def _row_block(
    kernel: KernelEmitter, reduce: k.Reduce, start: str, stop: str, extent: k.Extent | None, c: Context
) -> list[str]:
    """The reduced axis is the vector's: one lane of the register for each lane of the order."""
    e = kernel.e
    combinations = [*map(_of_keys, reduce.combinations)]

    def values(position: str, lanes: int, mask: str | None) -> list[str]:
        inner = kernel.opened(c, reduce.axis, position, lanes, mask)
        kernel.block(reduce.body, inner)
        registers = []
        for combination in reduce.combinations:
            register = kernel.read(combination.value, lanes, inner)
            if mask is not None:
                dtype = combination.result.dtype
                identity = e.constant(combination.identity.value, dtype, lanes)
                register = instructions.select(e, mask, register, identity, dtype=dtype, lanes=lanes)
            registers.append(_key(kernel, register, combination, lanes) if _has_keys(combination) else register)
        return registers

    def fold(registers: Sequence[str], lanes: int) -> list[str]:
        totals = [_fold(kernel, *each, lanes) for each in zip(combinations, registers, strict=True)]
        return [
            _number(kernel, total, combination) if _has_keys(combination) else total
            for combination, total in zip(reduce.combinations, totals, strict=True)
        ]

    if isinstance(extent, int) and extent <= LANES:  # lanes beyond hold the neutral element: leave them out
        width = power_of_two(extent)
        mask = None if width == extent else leading_lanes(extent, width)
        return fold(values(start, width, mask), width)
    width = _row_lanes(reduce)
    types = [instructions.register_type(x.result.dtype, width) for x in combinations]
    identities = [e.constant(x.identity.value, x.result.dtype, width) for x in combinations]
    whole = kernel.whole_vectors(start, stop, width)
    with e.loop(start, whole, str(width), list(zip(types, identities, strict=True))) as steps:
        found = values(steps.index, width, None)
        steps.next = [
            _combine(kernel, combination, total, value, width)
            for combination, total, value in zip(combinations, steps.carried, found, strict=True)
        ]
    before = e.block
    rest, done = e.labels("rest", "done")
    e.do(f"br i1 {e.compare('slt', whole, stop)}, label %{rest}, label %{done}")
    e.begin(rest)
    found = values(whole, width, kernel.mask(whole, stop, width))
    masked = [
        _combine(kernel, combination, total, value, width)
        for combination, total, value in zip(combinations, steps.carried, found, strict=True)
    ]
    last = e.block
    e.do(f"br label %{done}")
    e.begin(done)
    results = [
        e.assign(f"phi {type} [ {total}, %{before} ], [ {value}, %{last} ]")
        for type, total, value in zip(types, steps.carried, masked, strict=True)
    ]
    return fold(results, width)


# The greatest and the least of floats are found among integers in the same order, each of which is one instruction
# where -0.0 and NaN take several: negative numbers have all bits but the sign turned, and a NaN is beyond all others.

KEYS = {float32: int32, float64: int64}


def _has_keys(combination: k.Combination) -> bool:
    return combination.combine in ("maximum", "minimum") and combination.result.dtype in KEYS


def _of_keys(combination: k.Combination) -> k.Combination:
    """What is done to the keys."""
    if not _has_keys(combination):
        return combination
    key = KEYS[combination.result.dtype]
    bits = int(np.asarray(combination.identity.value, combination.result.dtype).view(key))
    neutral = k.Literal(bits if bits >= 0 else bits ^ int(np.iinfo(key).max), key)
    return k.Combination(combination.combine, combination.value, neutral, k.Scalar(key))


def _key(kernel: KernelEmitter, register: str, combination: k.Combination, lanes: int) -> str:
    e, dtype = kernel.e, combination.result.dtype
    key = KEYS[dtype]
    bounds = np.iinfo(key)
    is_nan = e.assign(f"fcmp uno {instructions.register_type(dtype, lanes)} {register}, {register}")
    turned = _turned(kernel, instructions.bitcast(e, register, dtype, key, lanes), key, lanes)
    beyond = e.constant(int(bounds.max if combination.combine == "maximum" else bounds.min), key, lanes)
    return instructions.select(e, is_nan, beyond, turned, dtype=key, lanes=lanes)


def _number(kernel: KernelEmitter, register: str, combination: k.Combination) -> str:
    """The number that a key stands for."""
    dtype = combination.result.dtype
    key = KEYS[dtype]
    return instructions.bitcast(kernel.e, _turned(kernel, register, key, 1), key, dtype, 1)


def _turned(kernel: KernelEmitter, bits: str, key: DType, lanes: int) -> str:
    e, type = kernel.e, instructions.register_type(key, lanes)
    width = 8 * key.itemsize
    sign = e.assign(f"ashr {type} {bits}, {e.constant(width - 1, key, lanes)}")
    rest = e.assign(f"and {type} {sign}, {e.constant(int(np.iinfo(key).max), key, lanes)}")
    return e.assign(f"xor {type} {bits}, {rest}")


def _row_lanes(reduce: k.Reduce) -> int:
    """As many lanes as the order has; more where there is none and little is done: each step waits for the last."""
    size = max(combination.result.dtype.itemsize for combination in reduce.combinations)
    is_short = size > 1 and all(isinstance(statement, k.Load) for statement in reduce.body)
    return LANES if _ordered(reduce) or not is_short else max(LANES, ROW_BYTES // size)


def _column_block(kernel: KernelEmitter, reduce: k.Reduce, start: str, stop: str, c: Context) -> list[str]:
    """The reduced axis is walked in order, with an outer axis in the vector's lanes."""
    e = kernel.e
    ordered = _ordered(reduce)
    types = [instructions.register_type(x.result.dtype, c.lanes) for x in reduce.combinations]
    if ordered:
        tables = [_table(kernel, combination, c.lanes) for combination in reduce.combinations]
        with e.loop(start, stop, "1") as steps:
            position = steps.index
            values = _column_values(kernel, reduce, position, c)
            lane = position if start == "0" else e.assign(f"sub i64 {position}, {start}")
            slot = e.assign(f"and i64 {lane}, {LANES - 1}")
            for combination, table, value in zip(reduce.combinations, tables, values, strict=True):
                _combine_into(kernel, combination, table, slot, value, c.lanes)
        return [
            _fold_table(kernel, combination, table, c.lanes)
            for combination, table in zip(reduce.combinations, tables, strict=True)
        ]
    identities = [e.constant(x.identity.value, x.result.dtype, c.lanes) for x in reduce.combinations]
    with e.loop(start, stop, "1", list(zip(types, identities, strict=True))) as steps:
        values = _column_values(kernel, reduce, steps.index, c)
        steps.next = [
            _combine(kernel, combination, total, value, c.lanes)
            for combination, total, value in zip(reduce.combinations, steps.carried, values, strict=True)
        ]
    return steps.carried


def _column_values(kernel: KernelEmitter, reduce: k.Reduce, position: str, c: Context) -> list[str]:
    inner = kernel.opened(c, reduce.axis, position)
    for statement in reduce.body:
        if isinstance(statement, k.Load) and statement.address.terms.get(reduce.axis) not in (None, 0, 1):
            _prefetch(kernel, statement, reduce.axis, inner)
    kernel.block(reduce.body, inner)
    return [kernel.read(combination.value, c.lanes, inner) for combination in reduce.combinations]


def _prefetch(kernel: KernelEmitter, load: k.Load, axis: str, c: Context) -> None:
    """Ask for what a load wants some rows on: each lies on a page of its own, which no processor foresees."""
    e, size = kernel.e, load.result.dtype.itemsize
    if load.address.dynamic or load.address.terms.get(c.vector_axis or "", 0) != 1:
        return
    pointer, _ = kernel.pointer(load, c)
    ahead = e.mul(extent_text(load.address.terms[axis]), PREFETCHED_ROWS)
    pointer = kernel.advance(pointer, load.buffer, ahead)
    e.declare("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for byte in range(0, c.lanes * size, CACHE_LINE):
        e.do(f"call void @llvm.prefetch.p0(ptr {e.offset(pointer, byte)}, i32 0, i32 3, i32 1)")


def _combine(kernel: KernelEmitter, combination: k.Combination, x: str, y: str, lanes: int) -> str:
    emit = instructions.INSTRUCTIONS[combination.combine]
    return emit(kernel.e, x, y, dtype=combination.result.dtype, lanes=lanes)


def _fold(kernel: KernelEmitter, combination: k.Combination, register: str, lanes: int) -> str:
    """The lanes of a register combined in halves."""
    dtype = combination.result.dtype
    while lanes > 1:
        wide = instructions.register_type(dtype, lanes)
        half = lanes // 2
        if half == 1:
            low, high = [kernel.e.assign(f"extractelement {wide} {register}, i64 {lane}") for lane in (0, 1)]
            return _combine(kernel, combination, low, high, 1)
        low, high = [
            kernel.e.assign(
                f"shufflevector {wide} {register}, {wide} poison, "
                f"<{half} x i32> <{', '.join(f'i32 {lane}' for lane in range(first, first + half))}>"
            )
            for first in (0, half)
        ]
        register = _combine(kernel, combination, low, high, half)
        lanes = half
    return register


# Lanes in memory: where there are more of them than registers -----------------------------------------


def _table(kernel: KernelEmitter, combination: k.Combination, lanes: int) -> str:
    """A table of the order's lanes on the stack, filled with the neutral element."""
    dtype = combination.result.dtype
    type = instructions.register_type(dtype, lanes)
    table = kernel.e.stack(type, LANES)
    with kernel.e.loop("0", str(LANES), "1") as steps:
        pointer = kernel.e.assign(f"getelementptr {type}, ptr {table}, i64 {steps.index}")
        kernel.e.do(f"store {type} {kernel.e.constant(combination.identity.value, dtype, lanes)}, ptr {pointer}")
    return table


def _combine_into(
    kernel: KernelEmitter, combination: k.Combination, table: str, slot: str, value: str, lanes: int
) -> None:
    type = instructions.register_type(combination.result.dtype, lanes)
    pointer = kernel.e.assign(f"getelementptr {type}, ptr {table}, i64 {slot}")
    old = kernel.e.assign(f"load {type}, ptr {pointer}")
    kernel.e.do(f"store {type} {_combine(kernel, combination, old, value, lanes)}, ptr {pointer}")


def _fold_table(kernel: KernelEmitter, combination: k.Combination, table: str, lanes: int) -> str:
    e, dtype = kernel.e, combination.result.dtype
    if lanes == 1:
        type = instructions.register_type(dtype, LANES)
        return _fold(kernel, combination, e.assign(f"load {type}, ptr {table}"), LANES)
    type = instructions.register_type(dtype, lanes)
    with e.loop("0", str(LANES.bit_length() - 1), "1") as levels:
        half = e.assign(f"lshr i64 {LANES // 2}, {levels.index}")
        with e.loop("0", half, "1") as steps:
            pointer = e.assign(f"getelementptr {type}, ptr {table}, i64 {e.add(steps.index, half)}")
            _combine_into(kernel, combination, table, steps.index, e.assign(f"load {type}, ptr {pointer}"), lanes)
    return e.assign(f"load {type}, ptr {table}")


def only_adds_up(statements: Sequence[k.Statement]) -> bool:
    """Whether a loop reduces one column of numbers in memory for each lane and does little else."""
    reductions = [statement for statement in statements if isinstance(statement, k.Reduce)]
    if len(reductions) != 1 or len(statements) > MOST_BESIDES + 1:
        return False
    (reduction,) = reductions
    is_simple = len(reduction.combinations) == 1 and all(isinstance(statement, k.Load) for statement in reduction.body)
    return is_simple and reduction.combinations[0].result.dtype.itemsize >= 4
