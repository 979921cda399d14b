"""Points of 32 threads that are far apart: reductions over an outer axis, whose neighbours are points."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.ir.primitives.reduction import LANES
from tracejit.ir.types import short_name

from .. import kernel as k
from . import instructions
from .emission import Emitter, name_of


class ColumnEmitter(Emitter):
    member = "lane == 0 && active"

    def place(self) -> None:
        if self.loops:
            points = self.form.points
            self.line(f"const int lane = threadIdx.x / {points}, column = threadIdx.x % {points};")

    def points(self) -> None:
        """All threads of a block stay together: they meet at barriers."""
        position, count = self.count()
        points = self.form.points
        with self.braces(f"for (long long tile = blockIdx.x; tile * {points} < {count}; tile += gridDim.x)"):
            self.line(f"const bool active = tile * {points} + column < {count};")
            self.line(f"const long long {position} = active ? tile * {points} + column : {count} - 1;")
            self.point()

    def inner_loop(self, loop: k.Loop) -> None:
        axis = loop.axis
        with (
            self.split_between_lanes(),
            self.braces(f"for (long long {axis} = lane; active && {axis} < {loop.extent}; {axis} += {LANES})"),
        ):
            self.block(loop.body)

    def reduce(self, reduce: k.Reduce) -> None:
        results = [name_of(combination.result) for combination in reduce.combinations]
        self.accumulators(reduce, results)
        self.combine_in_order(reduce, results)
        self.fold(reduce, results)

    def fold(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        """Through a table in shared memory: each warp folds one column of it, and writes the result below.

        Two barriers do: the next fold writes the rows that were read before the second one.
        """
        for combination, name in zip(reduce.combinations, names, strict=True):
            dtype = combination.result.dtype
            table, points = f"table_{short_name(dtype)}", self.form.points
            self.shared[table] = f"__shared__ {instructions.element_type(dtype)} {table}[{LANES + 1}][{points + 1}];"
            slot, warp = f"threadIdx.x % {LANES}", f"threadIdx.x / {LANES}"
            self.line(f"{table}[lane][column] = {name};")
            self.line("__syncthreads();")
            self.line(f"{name} = {table}[{slot}][{warp}];")
            self.fold_warp(combination, name)
            self.line(f"if ({slot} == 0) {table}[{LANES}][{warp}] = {name};")
            self.line("__syncthreads();")
            self.line(f"{name} = {table}[{LANES}][column];")
