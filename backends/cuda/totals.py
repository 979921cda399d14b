"""Reductions of few points with many elements each, in one launch: many blocks work on a point.

In the first stage each block of the order (see :mod:`tracejit.ir.primitives.reduction`) is reduced by itself.  Whoever
is the last to finish of those that work on a point reduces the results by the same rule, and does what is left to do
for the point.  So the bits are those of a single team, whatever comes last.

Two arguments follow the parameters: a counter for each point or tile of points, 0 before and after a launch, and
memory for the blocks' results, eight bytes for each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from tracejit.ir.primitives.reduction import BLOCK, LANES

from .. import kernel as k
from . import instructions
from .analysis import split
from .columns import ColumnEmitter
from .emission import Emitter, lesser, name_of
from .rows import RowEmitter


class _TwoStages(Emitter):
    """What rows and columns have in common."""

    writer = ""  # which thread stores a block's result of the order
    present = ""  # the condition under which a thread's point is there, if need be

    def parameters(self) -> list[str]:
        return [*super().parameters(), "unsigned int *__restrict__ counters", "unsigned char *partials"]

    def summary(self) -> str:
        return f"Many blocks, in two stages: {super().summary()[:1].lower()}{super().summary()[1:]}"

    @abstractmethod
    def fold(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        """The lanes combined in halves."""

    def body(self) -> None:
        self.place()
        if self.loops:
            self.block(self.kernel.body)
        else:
            self.stages("0", "1", self.kernel.body)

    def points(self) -> None:
        position, count = self.count()
        self.stages(position, count, self.loops[-1].body)

    @abstractmethod
    def stages(self, position: str, count: str, statements: Sequence[k.Statement]) -> None:
        """Both stages for all points; the statements stand in the innermost loop that is dealt out."""

    def first_stage(self, statements: Sequence[k.Statement], place: str) -> None:
        """What a block of the order gives, and what is written for each of its elements."""
        first, end = f"block * {BLOCK} + lane", f"(block + 1) * {BLOCK}"
        number = 0
        for statement in statements:
            if isinstance(statement, k.Reduce):
                parts = [f"part_{name_of(combination.result)}" for combination in statement.combinations]
                self.accumulators(statement, parts)
                self.combine_lanes(statement, parts, first, lesser(statement.extent, end))
                self.fold(statement, parts)
                for combination, part in zip(statement.combinations, parts, strict=True):
                    self.line(f"if ({self.writer}) {self._partial(number, combination)}[{place}] = {part};")
                    number += 1
            elif isinstance(statement, k.Loop):
                axis, end = statement.axis, lesser(statement.extent, end)
                with (
                    self.split_between_lanes(),
                    self.braces(f"for (long long {axis} = {first}; {self.present}{axis} < ({end}); {axis} += {LANES})"),
                ):
                    self.block(statement.body)

    def is_last(self, counter: str, arrivals: str) -> str:
        """The condition under which a block is the last of those that work on a point or tile."""
        self.shared["is_last"] = "__shared__ bool is_last;"
        self.line("__threadfence();")
        self.line("__syncthreads();")
        self.line(f"if (threadIdx.x == 0) is_last = atomicAdd(&counters[{counter}], 1u) == {arrivals} - 1;")
        self.line("__syncthreads();")
        return "is_last"

    def second_stage(self, statements: Sequence[k.Statement], place: str, counter: str) -> None:
        """The blocks' results to one, and what follows from that."""
        self.line("__threadfence();")
        number = 0
        for statement in statements:
            if isinstance(statement, k.Loop):
                continue
            if not isinstance(statement, k.Reduce):
                self.block([statement])
                continue
            body: list[k.Statement] = []
            again = []
            for combination in statement.combinations:
                found = k.Scalar(combination.result.dtype, f"%p{number}")
                load = k.Load(f"partial{number}", k.Address(0, {"part": 1}), found)
                self.dtypes[load.buffer] = found.dtype
                self.known[id(load)] = f"__ldcg({self._partial(number, combination)} + {place})"
                body.append(load)
                again.append(k.Combination(combination.combine, found, combination.identity, combination.result))
                number += 1
            self.reduce(k.Reduce("part", "blocks", False, True, body, again))
        self.line(f"if (threadIdx.x == 0) counters[{counter}] = 0;")

    def _partial(self, number: int, combination: k.Combination) -> str:
        type = instructions.memory_type(combination.result.dtype)
        return f"(({type} *)(partials + {number} * all * 8))"


class RowTotalEmitter(_TwoStages, RowEmitter):
    """A warp for each block of the order; the warps of a block have neighbouring ones."""

    writer = "lane == 0"

    def fold(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        RowEmitter.fold(self, reduce, names)

    def stages(self, position: str, count: str, statements: Sequence[k.Statement]) -> None:
        warps = self.form.threads // LANES
        extent = next(s.extent for s in statements if isinstance(s, k.Reduce))
        self.line(f"const long long blocks = ({extent} + {BLOCK - 1}) / {BLOCK}, all = {count} * blocks;")
        self.line(f"const long long groups = (blocks + {warps - 1}) / {warps};")
        with self.braces(f"for (long long item = blockIdx.x; item < {count} * groups; item += gridDim.x)"):
            self.line("const long long place = item / groups, block = item % groups * " + f"{warps} + warp;")
            if self.loops:
                self.line(f"const long long {position} = place;")
                self.axes()
            early, late = split(statements)
            self.block(early)
            with self.braces("if (block < blocks)"):
                self.first_stage(late, "place * blocks + block")
            with self.braces(f"if ({self.is_last('place', 'groups')})"):
                self.second_stage(late, "place * blocks + part", "place")


class ColumnTotalEmitter(_TwoStages, ColumnEmitter):
    """A block of threads for each block of the order, and each tile of columns."""

    writer = "lane == 0 && active"
    present = "active && "

    def fold(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        ColumnEmitter.fold(self, reduce, names)

    def stages(self, position: str, count: str, statements: Sequence[k.Statement]) -> None:
        points = self.form.points
        extent = next(s.extent for s in statements if isinstance(s, k.Reduce))
        self.line(f"const long long blocks = ({extent} + {BLOCK - 1}) / {BLOCK}, all = {count} * blocks;")
        self.line(f"const long long tiles = ({count} + {points - 1}) / {points};")
        with self.braces("for (long long item = blockIdx.x; item < tiles * blocks; item += gridDim.x)"):
            self.line("const long long tile = item % tiles, block = item / tiles;")
            self.line(f"const bool active = tile * {points} + column < {count};")
            self.line(f"const long long {position} = active ? tile * {points} + column : {count} - 1;")
            self.axes()
            early, late = split(statements)
            self.block(early)
            self.first_stage(late, f"block * {count} + {position}")
            with self.braces(f"if ({self.is_last('tile', 'blocks')})"):
                self.second_stage(late, f"part * {count} + {position}", "tile")
