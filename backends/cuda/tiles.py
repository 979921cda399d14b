"""Maps that read across the order in which they write: a block goes through both in tiles, by shared memory."""

from __future__ import annotations

from .. import kernel as k
from . import instructions
from .analysis import SIDE
from .emission import address_text
from .maps import MapEmitter


class TileEmitter(MapEmitter):
    def points(self) -> None:
        *outer, across, along = self.loops
        threads = self.form.threads
        self.line(f"const long long tiles_across = ({across.extent} + {SIDE - 1}) / {SIDE};")
        self.line(f"const long long tiles_along = ({along.extent} + {SIDE - 1}) / {SIDE};")
        self.line("const long long tiles = tiles_across * tiles_along;")
        count = " * ".join([*(str(loop.extent) for loop in outer), "tiles"])
        self.line(f"const int side = threadIdx.x % {SIDE}, row = threadIdx.x / {SIDE};")
        with self.braces(f"for (long long tile = blockIdx.x; tile < {count}; tile += gridDim.x)"):
            self.line(f"const long long first_across = tile / tiles_along % tiles_across * {SIDE};")
            self.line(f"const long long first_along = tile % tiles_along * {SIDE};")
            for number, loop in enumerate(outer):
                inner = "".join(f" / {other.extent}" for other in reversed(outer[number + 1 :]))
                wrapped = f" % {loop.extent}" if number else ""
                self.line(f"const long long {loop.axis} = tile / tiles{inner}{wrapped};")
            for loop, inside in zip(outer, [*outer[1:], across], strict=False):
                self.block([statement for statement in loop.body if statement is not inside])
            steps = f"for (int step = row; step < {SIDE}; step += {threads // SIDE})"
            exists = f"if ({across.axis} < {across.extent} && {along.axis} < {along.extent})"
            with self.braces(steps):
                self.line(f"const long long {across.axis} = first_across + side, {along.axis} = first_along + step;")
                with self.braces(exists):
                    for number, load in enumerate(self.form.across):
                        self._tile(number, load)
            self.line("__syncthreads();")
            with self.braces(steps):
                self.line(f"const long long {across.axis} = first_across + step, {along.axis} = first_along + side;")
                with self.braces(exists):
                    self.block([statement for statement in across.body if statement is not along])
                    self.block(along.body)
            self.line("__syncthreads();")

    def _tile(self, number: int, load: k.Load) -> None:
        """Its row is one element longer than its side: what lies below each other is in different banks."""
        type = instructions.memory_type(self.dtypes[load.buffer])
        self.shared[f"tile{number}"] = f"__shared__ {type} tile{number}[{SIDE}][{SIDE + 1}];"
        self.line(f"tile{number}[step][side] = {load.buffer}[{address_text(load.address)}];")
        self.known[id(load)] = f"tile{number}[side][step]"
