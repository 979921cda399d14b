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
from .vectors import Wide

MAX_BLOCKS = 4096  # several waves on the largest devices; the kernels' loops do the rest
LONG_ROW = 8 * BLOCK  # elements: from here on there is work for most warps of a block in one row
FEW_ROWS = 1024  # too few to give each a warp


@dataclass(frozen=True, slots=True)
class Form:
    """``loops``, one in the other, are dealt out to teams; a block of ``threads`` has ``points`` of them at a time."""

    kind: str
    who: str
    loops: tuple[k.Loop, ...]
    threads: int
    points: int
    wide: Wide | None = None
    held: held.Held | None = None

    @property
    def prefix(self) -> str:
        """What tells a kernel's functions apart."""
        if self.kind == "held" and self.held is not None:
            return f"held_{self.held.threads}x{self.held.chunks}x{self.held.width}_"
        return PREFIXES[self.kind]

    def blocks(self, points: int) -> int:
        """How many blocks there is work for."""
        at_a_time = self.points * (self.wide.width if self.wide is not None else 1)
        return max(1, min(-(-points // at_a_time), MAX_BLOCKS))


PREFIXES = {"thread": "", "serial": "", "warp": "", "column": "", "row": "rows_", "shared row": "shared_"}


def thread(loops: tuple[k.Loop, ...], wide: Wide | None = None) -> Form:
    """There is nothing to reduce, or so little that the lanes fit into registers."""
    return Form("thread", "One thread", loops, 256 if loops else LANES, 256, wide)


def warp(loops: tuple[k.Loop, ...]) -> Form:
    """Neighbouring threads read neighbouring elements of the reduced axis."""
    return Form("warp", "One warp", loops, 256 if loops else LANES, 256 // LANES)


def row(loops: tuple[k.Loop, ...], kind: str = "row") -> Form:
    """The warps of a block share the blocks of a long row's sums between them."""
    return Form(kind, "One block", loops, 16 * LANES, 1)


def column(loops: tuple[k.Loop, ...]) -> Form:
    """32 threads of a block that are 16 apart: neighbouring threads read neighbouring points.

    As many points as the block has warps, so that each warp folds the lanes of one point.
    """
    return Form("column", "32 threads of a block", loops, 16 * LANES if loops else LANES, 16)


def form_of(kernel: k.Kernel, values: Mapping[str, int]) -> Form:
    """The form for a launch with these values of the parameters."""
    statements = list(k.walk(kernel.body))
    if any(isinstance(statement, k.Store) and statement.address.dynamic for statement in statements):
        # Two stores may find the same element: their order counts, but along the vector axis.
        loops = tuple(s for s in statements if isinstance(s, k.Loop) and "vector" in s.kinds)
        return Form("serial", "One thread", loops, 256 if loops else LANES, 256)
    reduces = [statement for statement in statements if isinstance(statement, k.Reduce)]
    loops = tuple(_kept_loops(kernel.body, {reduce.axis for reduce in reduces}))
    if not reduces:
        return thread(loops, vectors.wide(kernel, loops))
    if all(isinstance(reduce.extent, int) and reduce.extent <= LANES for reduce in reduces):
        return thread(loops)
    if not any(reduce.vector for reduce in reduces):
        return column(loops)
    if any(reduce.block is not None for reduce in reduces):
        return warp(loops)
    return _of_rows(kernel, loops, reduces, values)


def _of_rows(
    kernel: k.Kernel, loops: tuple[k.Loop, ...], reduces: Sequence[k.Reduce], values: Mapping[str, int]
) -> Form:
    """Rows that are gone through more than once stay in registers, or in shared memory, if they fit there."""
    extent = max(value_of(reduce.extent, values) for reduce in reduces)
    holding = held.find(kernel, extent, values) if loops else None
    if holding is not None:
        if holding.threads == LANES:
            return Form("held", "One warp", loops, 256, 256 // LANES, held=holding)
        return Form(
            "held" if holding.threads else "shared row", "One block", loops, holding.threads or 512, 1, held=holding
        )
    is_long = extent >= LONG_ROW or math.prod(value_of(loop.extent, values) for loop in loops) < FEW_ROWS
    return row(loops) if extent > BLOCK and is_long else warp(loops)


def value_of(extent: k.Extent, values: Mapping[str, int]) -> int:
    return extent if isinstance(extent, int) else values[extent]


def _kept_loops(statements: Sequence[k.Statement], reduced: set[str]) -> Iterator[k.Loop]:
    """The loops over axes that are not reduced: each is the last statement in the one around it."""
    if not statements or any(isinstance(statement, k.Store) for statement in statements):
        return
    last = statements[-1]
    if isinstance(last, k.Loop) and last.axis not in reduced:
        yield last
        yield from _kept_loops(last.body, reduced)
