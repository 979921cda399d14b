"""Loops over what lies across the rows of a result: transposed in tiles, and written past the caches where it is large.

Where a large result is stored, each line of it would first be read from memory, and displace in the caches what others
need; and rows of it are often some pages apart, so that few lines of a tile's rows fit into the caches at a time.
Stores that bypass the caches ask for whole lines: all rows must be aligned alike.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from .. import kernel as k
from . import transposition
from .emitter import VECTOR_LANES, Context, extent_text, memory_vector

if TYPE_CHECKING:
    from .codegen import KernelEmitter

TILE = 16  # rows of the result at a time where an operand lies across them: a cache line of each of its rows
BAND = 32  # rows of the result that are written side by side
BYPASSING_BYTES = 1 << 24  # of a result that goes past the caches: as much as would displace all else
LINE_BYTES = 64  # of a cache


def loads_across(loop: k.Loop) -> list[k.Load]:
    """The loads of a nest of two loops that are contiguous along the outer one and not along the vector's, if any.

    None where tiles would not do: where there are reductions or few columns.
    """
    columns = loop.body[-1] if loop.body else None
    if not isinstance(columns, k.Loop) or "vector" not in columns.kinds:
        return []
    if isinstance(columns.extent, int) and columns.extent < VECTOR_LANES:
        return []
    simple = k.Instruction | k.Index | k.Load
    if not all(isinstance(s, simple) for s in loop.body[:-1]):
        return []
    if not all(isinstance(s, simple | k.Store) for s in columns.body):
        return []
    return [
        s
        for s in columns.body
        if isinstance(s, k.Load)
        and s.imaginary is None
        and not s.address.dynamic
        and s.address.terms.get(loop.axis, 0) == 1
        and s.address.terms.get(columns.axis, 0) not in (0, 1)
    ]


def tiled_loop(kernel: KernelEmitter, loop: k.Loop, across: list[k.Load], start: str, stop: str, c: Context) -> None:
    """Tiles of ``TILE`` rows by one vector of columns; what lies across them is transposed into a buffer first."""
    e, columns = kernel.e, loop.body[-1]
    assert isinstance(columns, k.Loop)
    lanes, extent = VECTOR_LANES, extent_text(columns.extent)
    buffers = [e.stack(memory_vector(load.result.dtype, lanes), TILE) for load in across]

    def tile(row: str, stop_row: str, column: str, count: str, mask: str | None, bypass: bool) -> None:
        corner = kernel.opened(kernel.opened(c, loop.axis, row), columns.axis, column)
        rows = e.sub(stop_row, row)
        for load, buffer in zip(across, buffers, strict=True):
            pointer, _ = kernel.pointer(load, corner)
            size = load.result.dtype.itemsize
            step = e.mul(extent_text(load.address.terms[columns.axis]), size)
            e.declare(transposition.function(size, lanes))
            e.do(
                f"call void @{transposition.name(size)}(ptr {pointer}, i64 {step}, i64 {count}, i64 {rows}, "
                f"ptr {buffer})"
            )
        with e.loop(row, stop_row, "1") as steps:
            inner = kernel.opened(c, loop.axis, steps.index)
            for statement in loop.body[:-1]:
                kernel.block([statement], inner)
            inner = kernel.opened(inner, columns.axis, column, lanes, mask)
            inner.tiles, inner.bypass = {}, bypass
            for load, buffer in zip(across, buffers, strict=True):
                type = memory_vector(load.result.dtype, lanes)
                at = e.sub(steps.index, row)
                inner.tiles[id(load)] = e.assign(f"getelementptr {type}, ptr {buffer}, i64 {at}")
            kernel.block(columns.body, inner)

    def tiles(row: str, stop_row: str, column: str, count: str, mask: str | None, bypass: bool = False) -> None:
        with e.loop(row, stop_row, str(TILE)) as steps:
            tile(steps.index, e.min(e.add(steps.index, str(TILE)), stop_row), column, count, mask, bypass)

    bypasses, first = _aligned_start(kernel, loop, columns, c) or (None, "0")
    whole = kernel.whole_vectors(first, extent, lanes)
    with e.loop(start, stop, str(BAND)) as rows:
        stop_row = e.min(e.add(rows.index, str(BAND)), stop)
        with e.loop(first, whole, str(lanes)) as steps:
            if bypasses is not None:
                with e.when(bypasses):
                    tiles(rows.index, stop_row, steps.index, str(lanes), None, bypass=True)
            with nullcontext() if bypasses is None else e.when(e.negate(bypasses)):
                tiles(rows.index, stop_row, steps.index, str(lanes), None)
        # What comes before the first whole vector, and after the last one.
        with e.loop("0", "2", "1") as edges:
            is_last = e.compare("eq", edges.index, 1)
            begin, end = e.select(is_last, "i64", whole, "0"), e.select(is_last, "i64", extent, first)
            with e.when(e.compare("slt", begin, end)):
                tiles(rows.index, stop_row, begin, e.sub(end, begin), kernel.mask(begin, end, lanes))
    if bypasses is not None:
        with e.when(bypasses):  # such stores have an order of their own
            e.do("fence seq_cst")


def _aligned_start(kernel: KernelEmitter, loop: k.Loop, columns: k.Loop, c: Context) -> tuple[str, str] | None:
    """Whether stores are to bypass the caches, and from which column on they are aligned; none where they cannot be."""
    e = kernel.e
    stores = [statement for statement in columns.body if isinstance(statement, k.Store)]
    if len(stores) != 1 or stores[0].accumulate or stores[0].imaginary is not None or stores[0].address.dynamic:
        return None
    (store,) = stores
    if store.address.terms.get(columns.axis) != 1:
        return None
    size = kernel.dtypes[store.buffer].itemsize
    pointer, _ = kernel.pointer(store, kernel.opened(kernel.opened(c, loop.axis, "0"), columns.axis, "0"))
    address = e.sub("0", e.let("address", f"ptrtoint ptr {pointer} to i64"))
    first = e.let("first", f"udiv i64 {e.let('ahead', f'and i64 {address}, {LINE_BYTES - 1}')}, {size}")
    extent = extent_text(columns.extent)
    bytes = e.mul(e.mul(extent_text(loop.extent), extent), size)
    is_large = e.let(
        "large", f"and i1 {e.compare('sge', bytes, BYPASSING_BYTES)}, {e.compare('sge', extent, LINE_BYTES)}"
    )
    step = e.mul(extent_text(store.address.terms.get(loop.axis, 0)), size)
    skew = e.let("skew", f"and i64 {step}, {LINE_BYTES - 1}")
    bypasses = e.let("bypasses", f"and i1 {e.compare('eq', skew, 0)}, {is_large}")
    return bypasses, e.select(bypasses, "i64", first, "0")
