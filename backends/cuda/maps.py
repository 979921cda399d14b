"""Points of one thread each: maps, short reductions in registers, and writes that must keep their order."""

from __future__ import annotations

import itertools

from .. import kernel as k
from . import instructions
from .emission import Emitter, address_text, combined, name_of, read


class MapEmitter(Emitter):
    block_count = "gridDim.x"

    def place(self) -> None:
        """A thread is its own team."""

    def alone(self) -> list[str]:
        return ["threadIdx.x == 0"]

    def inner_loop(self, loop: k.Loop) -> None:
        self.carried(loop)
        with self.braces(f"for (long long {loop.axis} = 0; {loop.axis} < {loop.extent}; ++{loop.axis})"):
            self.block(loop.body)
            self.carry_on(loop)

    def points(self) -> None:
        position, count = self.count()
        points = self.form.points
        first, step = f"{self.first_block} * {points}ll + threadIdx.x", f"{self.block_count} * {points}ll"
        if self.form.wide is not None:
            self._groups(position, count, first, step)
            first = f"done + {first}"
        with self.braces(f"for (long long {position} = {first}; {position} < {count}; {position} += {step})"):
            self.point()

    def _groups(self, position: str, count: str, first: str, step: str) -> None:
        """As many points as can be, in groups of neighbours; the loop that follows goes on at ``done``."""
        loops, wide = self.loops, self.form.wide
        assert wide is not None
        inner, width = loops[-1], wide.width
        condition = wide.condition if len(loops) == 1 else f"{inner.extent} % {width} == 0 && {wide.condition}"
        self.line("long long done = 0;")
        with self.braces(f"if ({condition})"):
            self.line(f"done = {count} / {width} * {width};")
            with self.braces(f"for (long long group = {first}; group < done / {width}; group += {step})"):
                self.line(f"const long long {position} = group * {width};")
                self.axes()
                for loop, inside in itertools.pairwise(loops):
                    self.block([statement for statement in loop.body if statement is not inside])
                for number, statement in enumerate(wide.accesses):
                    self.known[id(statement)] = f"w{number}.e[e]"
                    type = f"tj_vector<{instructions.memory_type(self.dtypes[statement.buffer])}, {width}>"
                    if isinstance(statement, k.Load):
                        where = f"({statement.buffer} + {address_text(statement.address)})"
                        self.line(f"const {type} w{number} = *(const {type} *){where};")
                    else:
                        self.line(f"{type} w{number};")
                self.line(f"const long long start = {inner.axis};")
                self.line("#pragma unroll")
                with self.braces(f"for (int e = 0; e < {width}; ++e)"):
                    self.line(f"const long long {inner.axis} = start + e;")
                    self.block(inner.body)
                for number, store in enumerate(wide.stores, len(wide.loads)):
                    type = f"tj_vector<{instructions.memory_type(self.dtypes[store.buffer])}, {width}>"
                    self.line(f"*({type} *)({store.buffer} + {address_text(store.address)}) = w{number};")
        self.known.clear()

    def reduce(self, reduce: k.Reduce) -> None:
        """A short extent: its elements are the first lanes, the others hold the neutral element."""
        assert isinstance(reduce.extent, int)
        width = 1 << (reduce.extent - 1).bit_length()
        lanes = [f"lanes_{name_of(combination.result)}" for combination in reduce.combinations]
        for combination, name in zip(reduce.combinations, lanes, strict=True):
            self.line(f"{instructions.element_type(combination.result.dtype)} {name}[{width}];")
        self.line("#pragma unroll")
        with self.braces(f"for (int {reduce.axis} = 0; {reduce.axis} < {reduce.extent}; ++{reduce.axis})"):
            self.block(reduce.body)
            for combination, name in zip(reduce.combinations, lanes, strict=True):
                self.line(f"{name}[{reduce.axis}] = {read(combination.value)};")
        if width > reduce.extent:
            self.line("#pragma unroll")
            with self.braces(f"for (int lane = {reduce.extent}; lane < {width}; ++lane)"):
                for combination, name in zip(reduce.combinations, lanes, strict=True):
                    self.line(f"{name}[lane] = {read(combination.identity)};")
        for combination, name in zip(reduce.combinations, lanes, strict=True):
            half = width
            while half > 1:
                half //= 2
                for lane in range(half):
                    folded = combined(combination, f"{name}[{lane}]", f"{name}[{lane + half}]")
                    self.line(f"{name}[{lane}] = {folded};")
            self.define(combination.result, f"{name}[0]")


class EachEmitter(MapEmitter):
    """The same map for many sets of buffers at once: their addresses and parameters stand in a table.

    The table is an argument.  Each set has some blocks of the launch; the table says where they end.
    """

    first_block, block_count = "own", "blocks"

    def parameters(self) -> list[str]:
        count = len(self.kernel.buffers) + len(self.kernel.parameters)
        return [f"const __grid_constant__ tj_table<{count}, {self.form.sets}> table"]

    def summary(self) -> str:
        return f"Many sets of buffers. {super().summary()}"

    def body(self) -> None:
        self.line(
            "int set = 0;  // the first whose blocks end behind this one; all that are not there end with the last"
        )
        self.line(f"for (int step = {self.form.sets // 2}; step > 0; step /= 2)")
        self.line("  if (table.end[set + step - 1] <= blockIdx.x) set += step;")
        self.line("const long long start = set ? table.end[set - 1] : 0;")
        self.line("const long long own = blockIdx.x - start, blocks = table.end[set] - start;")
        for number, buffer in enumerate(self.kernel.buffers):
            constant = "" if buffer.written else "const "
            type = f"{constant}{instructions.memory_type(buffer.dtype)} *"
            self.line(f"{type}__restrict__ const {buffer.name} = ({type})table.words[set][{number}];")
        for number, parameter in enumerate(self.kernel.parameters, len(self.kernel.buffers)):
            self.line(f"const long long {parameter} = table.words[set][{number}];")
        super().body()
