"""The forms in which kernels are dealt out to a device's threads, and which of them a launch takes.

Kept loops are dealt out: a *point* is one combination of their positions, and a *team* of threads works on a point.
The order of a reduction (see :mod:`tracejit.ir.primitives.reduction`) maps onto the device as it stands: the 32 lanes
of the order are the lanes of a warp, or 32 threads of a block, so every form has the CPU's bits.  Which one is the
fastest depends on the extents, so a kernel may be printed in several forms: each launch takes one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tracejit.ir.primitives.reduction import BLOCK, LANES

from .. import kernel as k
from . import held, vectors
from .analysis import SIDE, across, is_in_one_stage, update_loops
from .vectors import Wide

MAX_BLOCKS = 4096  # several waves on the largest devices; the kernels' loops do the rest
LONG_ROW = 8 * BLOCK  # elements: from here on there is work for most warps of a block in one row
FEW_ROWS = 1024  # too few to give each a warp
FEW_TILES = 128  # blocks that leave parts of the largest devices idle
FEW_POINTS = 256  # too few to give each a block, or to give one to each tile of them
FEW_UPDATES = 2048  # for which each may look at all others
STARTS = 8  # places in the sorted order that a warp looks at for where a target begins
WINDOW = 128  # elements of a window that a warp takes
SORT_TILE = 4096  # elements, of eight warps
PASSES = 5  # of a sort by eight bits each: keys have up to 40
KEY_BLOCKS = 256  # that find the keys; each tells which bits its keys have
ATTENTION_ROWS = 64  # queries, or keys, that a block works on: 16 for each warp
ARCH = "sm_90"  # the architecture that is printed for where none is named
TABLES_BYTES = 4 << 10  # of shared memory, for what is not a row
SHARED_KIB = {"80": 163, "87": 163, "90": 227, "100": 227, "103": 227, "110": 227}  # of a block, by architecture
LEAST_SHARED_KIB = 99  # of the others since 2020
PREFIXES = {"row": "rows_", "shared row": "shared_", "row total": "total_", "column total": "total_", "tile": "tiles_",
    "scatter keys": "keys_", "sort counts": "counts_", "sort offsets": "offsets_", "sort places": "places_",
    "scatter sorted": "sorted_"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """``loops``, one in the other, are dealt out to teams; a block of ``threads`` has ``points`` of them at a time.

    ``blocks`` is what there is work for; where several work on one point, they need ``counters`` and memory for
    partial results.
    """

    kind: str
    who: str
    loops: tuple[k.Loop, ...]
    threads: int
    points: int
    blocks: int = 1
    wide: Wide | None = None
    held: held.Held | None = None
    across: tuple[k.Load, ...] = ()
    counters: int = 0
    partial_bytes: int = 0
    sets: int = 0  # of buffers, for which the same is done at once
    dynamic_bytes: int = 0  # of shared memory, whose size a launch decides
    before: tuple[tuple[Form, tuple[int, ...]], ...] = ()  # launches that come first, with numbers after the arguments

    @property
    def prefix(self) -> str:
        """What tells a kernel's functions apart."""
        if self.kind == "held" and self.held is not None:
            return f"held_{self.held.threads}x{self.held.chunks}x{self.held.width}_"
        if self.sets:
            return f"each_{self.sets}_"
        narrow = "narrow_" if self.points == 8 and self.kind in ("column", "column total") else ""
        return f"{narrow}{PREFIXES.get(self.kind, '')}"

    @property
    def grid(self) -> int:
        """The blocks of a launch."""
        return max(1, min(self.blocks, MAX_BLOCKS))


def shared_bytes(arch: str) -> int:
    """The shared memory that a block has for rows, on an architecture (``"sm_90"``)."""
    return (SHARED_KIB.get(arch.removeprefix("sm_"), LEAST_SHARED_KIB) << 10) - TABLES_BYTES


def form_of(kernel: k.Kernel, values: Mapping[str, int], most_shared: int) -> Form:
    """The form for a launch with these values of the parameters; a block may have so many bytes of shared memory."""
    statements = list(k.walk(kernel.body))
    if kernel.attention is not None:
        return _of_attention(kernel.attention, values)
    if any(isinstance(statement, k.Store) and statement.address.dynamic for statement in statements):
        loops = tuple(statement for statement in statements if isinstance(statement, k.Loop))
        if loops and not any(loop.carries for loop in loops):
            return _of_scatters(loops, values)
    reduces = [statement for statement in statements if isinstance(statement, k.Reduce)]
    loops = tuple(_kept_loops(kernel.body, {reduce.axis for reduce in reduces}))
    extents = {loop.axis: value_of(loop.extent, values) for loop in loops}
    points = math.prod(extents.values())
    scanned = next((s for s in statements if isinstance(s, k.Loop) and s.carries), None)
    if scanned is not None:
        return _of_scans(scanned, loops, points)
    if not reduces:
        return _of_maps(kernel, loops, extents)
    if all(isinstance(reduce.extent, int) and reduce.extent <= LANES for reduce in reduces):
        return Form("thread", "One thread", loops, 256 if loops else LANES, 256, _quotient(points, 256))
    extent = max(value_of(reduce.extent, values) for reduce in reduces)
    if any(reduce.vector for reduce in reduces):
        return _of_rows(kernel, loops, points, extent, values, most_shared)
    return _of_columns(kernel, loops, points, extent)


def _of_scatters(loops: tuple[k.Loop, ...], values: Mapping[str, int]) -> Form:
    """Many updates are sorted by their targets."""
    count = update_loops(loops)
    updates, window = (
        math.prod(value_of(loop.extent, values) for loop in part) for part in (loops[:count], loops[count:])
    )
    if updates <= FEW_UPDATES:
        return Form("scatter", "A block for each update that is the first with its target", loops, 128, 1, updates)
    steps = {"sort counts": 256, "sort offsets": 1024, "sort places": 256}
    tiles = _quotient(updates, SORT_TILE)
    before: list[tuple[Form, tuple[int, ...]]] = [
        (Form("scatter keys", "A thread for each update", loops, 256, 1, KEY_BLOCKS), ())
    ]
    for number in range(PASSES):
        for kind, threads in steps.items():
            who, blocks = ("One block", 1) if kind == "sort offsets" else ("A block for each tile", tiles)
            before.append((Form(kind, who, loops[:count], threads, 1, blocks), (number,)))
    items = _quotient(updates, STARTS) * _quotient(window, WINDOW)
    who, partial_bytes = "A warp for each target and part of its window", sort_bytes(updates)
    return Form(
        "scatter sorted", who, loops, 128, 1, _quotient(items, 4), partial_bytes=partial_bytes, before=tuple(before)
    )


def sort_bytes(count: int) -> int:
    """The memory that it takes to sort so many elements."""
    return 8 * KEY_BLOCKS + 24 * count + 4 * 256 * _quotient(count, SORT_TILE) + 8


def _of_attention(found: k.Attention, values: Mapping[str, int]) -> Form:
    """A block for each tile of queries or keys of a head."""
    rows, heads = ("keys", "shared") if found.part == "keys" else ("queries", "heads")
    blocks = _quotient(values[rows], ATTENTION_ROWS) * values["batch"] * values[heads]
    tiles = 5 if found.part == "forward" else 4  # queries and two each of keys and values; else one of each operand
    dynamic_bytes = tiles * ATTENTION_ROWS * (found.size + 8) * 2
    dynamic_bytes += 2 * ATTENTION_ROWS * 4 if found.part == "keys" else 0  # what there is once for each query
    who = f"A block for {ATTENTION_ROWS} {rows} of a head"
    return Form("attention", who, (), 4 * LANES, 1, blocks, dynamic_bytes=dynamic_bytes)


def _of_maps(kernel: k.Kernel, loops: tuple[k.Loop, ...], extents: Mapping[str, int]) -> Form:
    """One thread for each point, or for some neighbours; where reads go across the writes, in tiles."""
    points = math.prod(extents.values())
    found = across(loops, extents)
    if found:
        *outer, last, inner = extents.values()
        count = math.prod(outer) * _quotient(last, SIDE) * _quotient(inner, SIDE)
        return Form("tile", "One thread for four", loops, 256, 1, count, across=found)
    wide = vectors.wide(kernel, loops)
    blocks = _quotient(points, 256 * (wide.width if wide is not None else 1))
    return Form("thread", "One thread", loops, 256 if loops else LANES, 256, blocks, wide)


def _of_scans(scanned: k.Loop, loops: tuple[k.Loop, ...], points: int) -> Form:
    """A warp for each row whose elements are neighbours; else neighbouring threads have neighbouring points."""
    accesses = [statement for statement in scanned.body if isinstance(statement, k.Load | k.Store)]
    if any(access.address.terms.get(scanned.axis) == 1 for access in accesses):
        return Form("scan", "One warp", loops, 256 if loops else LANES, 8, _quotient(points, 8))
    return Form("thread", "One thread", loops, 64 if loops else LANES, 64, _quotient(points, 64))


def _of_rows(
    kernel: k.Kernel, loops: tuple[k.Loop, ...], points: int, extent: int, values: Mapping[str, int], most_shared: int
) -> Form:
    """Rows that are gone through more than once stay in registers, or in shared memory, if they fit there."""
    reduces = [statement for statement in k.walk(kernel.body) if isinstance(statement, k.Reduce)]
    in_blocks = any(reduce.block is not None for reduce in reduces)
    holding = held.find(kernel, extent, values, most_shared) if loops and not in_blocks else None
    if holding is not None and holding.threads == LANES:
        return Form("held", "One warp", loops, 256, 8, _quotient(points, 8), held=holding)
    if holding is not None:
        kind, threads = ("held", holding.threads) if holding.threads else ("shared row", 16 * LANES)
        return Form(kind, "One block", loops, threads, 1, points, held=holding)
    if points < FEW_POINTS and extent > 2 * BLOCK and not in_blocks and is_in_one_stage(loops, kernel.body):
        # A warp for each block of the order; the warps of a block have neighbouring ones.
        blocks, partial_bytes = _partials(kernel, points, extent)
        count = points * _quotient(blocks, 8)
        who = "One warp for each block of the order"
        return Form("row total", who, loops, 256, 1, count, counters=points, partial_bytes=partial_bytes)
    if extent > BLOCK and not in_blocks and (extent >= LONG_ROW or points < FEW_ROWS):
        return Form("row", "One block", loops, 16 * LANES, 1, points)  # its warps share the row between them
    return Form("warp", "One warp", loops, 256 if loops else LANES, 8, _quotient(points, 8))


def _of_columns(kernel: k.Kernel, loops: tuple[k.Loop, ...], points: int, extent: int) -> Form:
    """32 threads of a block that are 16 or 8 apart for each point: neighbouring threads read neighbouring points.

    As many points as the block has warps, so that each warp folds the lanes of one point.
    """
    side = 16 if points >= 16 * FEW_TILES else 8  # which reads 32 bytes at a time, the least that memory gives
    who, count = "32 threads of a block", _quotient(points, side)
    if loops and count < FEW_POINTS and extent > BLOCK and is_in_one_stage(loops, kernel.body):
        blocks, partial_bytes = _partials(kernel, points, extent)
        return Form(
            "column total", f"{who} for each block of the order", loops, side * LANES, side, count * blocks,
            counters=count, partial_bytes=partial_bytes,
        )  # fmt: skip
    return Form("column", who, loops, side * LANES if loops else LANES, side, count)


def _partials(kernel: k.Kernel, points: int, extent: int) -> tuple[int, int]:
    """How many blocks of the order there are, and the bytes that all their results take."""
    blocks = _quotient(extent, BLOCK)
    results = sum(len(statement.combinations) for statement in k.walk(kernel.body) if isinstance(statement, k.Reduce))
    return blocks, 8 * points * blocks * results


def _quotient(number: int, divisor: int) -> int:
    """Rounded up."""
    return -(-number // divisor)


def value_of(extent: k.Extent, values: Mapping[str, int]) -> int:
    return extent if isinstance(extent, int) else values[extent]


def _kept_loops(statements: Sequence[k.Statement], reduced: set[str]) -> Iterator[k.Loop]:
    """The loops over axes that are not reduced: each is the last statement in the one around it."""
    if not statements or any(isinstance(statement, k.Store) for statement in statements):
        return
    last = statements[-1]
    if isinstance(last, k.Loop) and last.axis not in reduced and not last.carries:
        yield last
        yield from _kept_loops(last.body, reduced)
