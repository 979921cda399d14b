"""Writes to elements that are found when the kernel runs: several may be for one, and their order counts.

A block of threads takes an update.  If an earlier one has the same target, that one's block does this one as well;
else the block looks for the later ones with that target and carries them out in order, each thread for its elements of
the window.  So the results are those of one update after the other, without a word between blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.ir.primitives.reduction import LANES

from .. import kernel as k
from .analysis import operands_of, update_loops
from .emission import Emitter, read, wide_text


class ScatterEmitter(Emitter):
    def place(self) -> None:
        warps = self.form.threads // LANES
        self.shared["masks"] = f"__shared__ unsigned int masks[{warps}];"

    def body(self) -> None:
        self.place()
        self.block(self.kernel.body)

    def summary(self) -> str:
        return f"{self.form.who}."

    def points(self) -> None:
        count = update_loops(self.loops)
        updates, window = self.loops[:count], self.loops[count:]
        threads = self.form.threads
        extents = " * ".join(wide_text(loop.extent) for loop in updates) or "1ll"
        self.line(f"const long long updates = {extents};")
        self.line(f"const long long window = {' * '.join(wide_text(loop.extent) for loop in window) or '1ll'};")
        self._target(updates)
        with self.braces("for (long long own = blockIdx.x; own < updates; own += gridDim.x)"):
            self.line("const long long target = target_of(own);")
            self.line("bool is_taken = false;")
            with self.braces(f"for (long long last = own - 1; last >= 0 && !is_taken; last -= {threads})"):
                self.line("const long long other = last - threadIdx.x;")
                self.line("is_taken = __syncthreads_or(other >= 0 && target_of(other) == target);")
            self.line("if (is_taken) continue;")
            with self.braces(f"for (long long first = own; first < updates; first += {threads})"):
                self.line("const long long other = first + threadIdx.x;")
                self.line("const bool is_same = other < updates && target_of(other) == target;")
                self.line("const unsigned int mask = __ballot_sync(0xffffffffu, is_same);")
                self.line(f"if (threadIdx.x % {LANES} == 0) masks[threadIdx.x / {LANES}] = mask;")
                self.line("if (!__syncthreads_or(is_same)) continue;")
                with (
                    self.braces(f"for (long long element = threadIdx.x; element < window; element += {threads})"),
                    self.braces(f"for (int warp = 0; warp < {threads // LANES}; ++warp)"),
                    self.braces("for (unsigned int rest = masks[warp]; rest; rest &= rest - 1)"),
                ):
                    self.line(f"const long long update = first + warp * {LANES} + __ffs(rest) - 1;")
                    self._positions(updates, "update")
                    self._positions(window, "element")
                    for loop, inside in zip(self.loops, [*self.loops[1:], None], strict=True):
                        self.block([statement for statement in loop.body if statement is not inside])
                self.line("__syncthreads();")

    def _positions(self, loops: Sequence[k.Loop], number: str) -> None:
        """The positions along the axes of so many loops."""
        for place, loop in enumerate(loops):
            inner = "".join(f" / {other.extent}" for other in reversed(loops[place + 1 :]))
            wrapped = f" % {loop.extent}" if place else ""
            self.line(f"const long long {loop.axis} = {number}{inner}{wrapped};")

    def _target(self, updates: Sequence[k.Loop]) -> None:
        """Where an update goes, without its window."""
        statements = [s for loop in updates for s in loop.body if not isinstance(s, k.Loop | k.Store)]
        (store,) = [s for s in k.walk(self.kernel.body) if isinstance(s, k.Store)]
        wanted = {id(scalar) for scalar, _ in store.address.dynamic}
        needed: list[k.Statement] = []
        for statement in reversed(statements):
            if id(getattr(statement, "result", None)) in wanted:
                needed.append(statement)
                wanted |= {id(operand) for operand in operands_of(statement)}
        with self.braces("const auto target_of = [&](long long update) -> long long"):
            self._positions(updates, "update")
            self.block(needed[::-1])
            terms = [f"{read(scalar)} * {stride}" for scalar, stride in store.address.dynamic]
            self.line(f"return {' + '.join(terms)};")
        self.lines[-1] += ";"

    def reduce(self, reduce: k.Reduce) -> None:
        raise NotImplementedError("a scatter has no reductions")

    def inner_loop(self, loop: k.Loop) -> None:
        raise NotImplementedError("all loops of a scatter are dealt out")
