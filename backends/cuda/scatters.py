"""Writes to elements that are found when the kernel runs: several may be for one, and their order counts.

Where there are few, a block of threads takes an update.  If an earlier one has the same target, that one's block does
this one as well; else the block looks for the later ones with that target and carries them out in order, each thread
for its elements of the window.  So the results are those of one update after the other, without a word between blocks.

Where there are many, they are sorted by their targets first, so that those with one target stand one after the other,
in order (see :mod:`.sorting`).  A warp then takes all of a target for some elements of the window, and holds their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.ir.primitives.reduction import LANES

from .. import kernel as k
from . import instructions
from .analysis import operands_of, update_loops
from .emission import Emitter, address_text, read, wide_text
from .forms import KEY_BLOCKS, STARTS, WINDOW
from .sorting import SHARED


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
        updates, window = self.counts()
        threads = self.form.threads
        self.target(updates)
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
                    self.positions(updates, "update")
                    self.positions(window, "element")
                    for loop, inside in zip(self.loops, [*self.loops[1:], None], strict=True):
                        self.block([statement for statement in loop.body if statement is not inside])
                self.line("__syncthreads();")

    def counts(self) -> tuple[Sequence[k.Loop], Sequence[k.Loop]]:
        """How many updates there are, and elements of the window; the loops that go through them."""
        count = update_loops(self.loops)
        updates, window = self.loops[:count], self.loops[count:]
        for name, loops in (("updates", updates), ("window", window)):
            self.line(f"const long long {name} = {' * '.join(wide_text(loop.extent) for loop in loops) or '1ll'};")
        return updates, window

    def positions(self, loops: Sequence[k.Loop], number: str) -> None:
        """The positions along the axes of so many loops."""
        for place, loop in enumerate(loops):
            inner = "".join(f" / {other.extent}" for other in reversed(loops[place + 1 :]))
            wrapped = f" % {loop.extent}" if place else ""
            self.line(f"const long long {loop.axis} = {number}{inner}{wrapped};")

    def target(self, updates: Sequence[k.Loop]) -> None:
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
            self.positions(updates, "update")
            self.block(needed[::-1])
            terms = [f"{read(scalar)} * {stride}" for scalar, stride in store.address.dynamic]
            axes = {loop.axis for loop in updates}
            terms += [f"{axis} * {stride}" for axis, stride in store.address.terms.items() if axis in axes]
            self.line(f"return {' + '.join(terms)};")
        self.lines[-1] += ";"

    def reduce(self, reduce: k.Reduce) -> None:
        raise NotImplementedError("a scatter has no reductions")

    def inner_loop(self, loop: k.Loop) -> None:
        raise NotImplementedError("all loops of a scatter are dealt out")


class ScatterKeysEmitter(ScatterEmitter):
    """Finds the updates' targets, which they are sorted by, and which bits some of them have together."""

    def parameters(self) -> list[str]:
        return [*super().parameters(), *SHARED]

    def place(self) -> None:
        self.shared["found"] = f"__shared__ unsigned long long found[{self.form.threads // LANES}];"

    def points(self) -> None:
        updates, _ = self.counts()
        self.target(updates)
        self.line("const tj_sort sort = tj_sort_of(partials, updates);")
        slots, threads = KEY_BLOCKS, self.form.threads
        with self.braces(f"for (int slot = blockIdx.x; slot < {slots}; slot += gridDim.x)"):
            self.line("unsigned long long bits = 0;")
            first, step = f"slot * {threads}ll + threadIdx.x", f"{slots * threads}"
            with self.braces(f"for (long long update = {first}; update < updates; update += {step})"):
                self.line("sort.keys[update] = target_of(update);")
                self.line("sort.order[update] = (unsigned int)update;")
                self.line("bits |= sort.keys[update];")
            self.line("#pragma unroll")
            with self.braces(f"for (int half = {LANES // 2}; half > 0; half /= 2)"):
                self.line("bits |= __shfl_xor_sync(0xffffffffu, bits, half);")
            self.line(f"if (threadIdx.x % {LANES} == 0) found[threadIdx.x / {LANES}] = bits;")
            self.line("__syncthreads();")
            with self.braces("if (threadIdx.x == 0)"):
                self.line(f"for (int warp = 1; warp < {threads // LANES}; ++warp) bits |= found[warp];")
                self.line("sort.bits[slot] = bits;")
            self.line("__syncthreads();")


class SortedScatterEmitter(ScatterEmitter):
    """Carries out the updates of a target in order, on elements that are held meanwhile."""

    def parameters(self) -> list[str]:
        return [*super().parameters(), *SHARED]

    def place(self) -> None:
        self.line(f"const int lane = threadIdx.x % {LANES};")

    def points(self) -> None:
        _, window = self.counts()
        (store,) = [s for s in k.walk(self.kernel.body) if isinstance(s, k.Store)]
        axes = {loop.axis for loop in window}
        inside = {axis: stride for axis, stride in store.address.terms.items() if axis in axes}
        element = f"{store.buffer}[target + {address_text(k.Address(store.address.offset, inside))}]"
        warps = self.form.threads // LANES
        self.line("const tj_sort sort = tj_sort_of(partials, updates);")
        self.line("const long long last = tj_passes(sort) % 2 * updates;")
        self.line("const unsigned long long *const keys = sort.keys + last;")
        self.line("const unsigned int *const order = sort.order + last;")
        self.line(f"const long long parts = (window + {WINDOW - 1}) / {WINDOW};")
        self.line(f"const long long all = (updates + {STARTS - 1}) / {STARTS} * parts;")
        first, step = f"blockIdx.x * {warps}ll + threadIdx.x / {LANES}", f"gridDim.x * {warps}ll"
        with self.braces(f"for (long long item = {first}; item < all; item += {step})"):
            self.line(f"const long long place = item / parts * {STARTS}, part = item % parts * {WINDOW};")
            self.line("const long long own = place + lane;")
            self.line(
                f"const bool is_start = lane < {STARTS} && own < updates && (!own || keys[own] != keys[own - 1]);"
            )
            self.line("unsigned int starts = __ballot_sync(0xffffffffu, is_start);")
            with self.braces("for (; starts; starts &= starts - 1)"):
                self.line("const long long first = place + __ffs(starts) - 1, target = keys[first];")
                self.line("long long end = first;")
                with self.braces("for (unsigned int same = 0xffffffffu; same == 0xffffffffu;)"):
                    self.line("const long long at = end + lane;")
                    self.line("same = __ballot_sync(0xffffffffu, at < updates && keys[at] == keys[first]);")
                    self.line("end += __popc(same);")
                bound = f"element < window && element < part + {WINDOW}"
                with self.braces(f"for (long long element = part + lane; {bound}; element += {LANES})"):
                    self.positions(window, "element")
                    self._elements(store, element)

    def _elements(self, store: k.Store, element: str) -> None:
        """One element of the window, through all updates; of those that replace it, the last."""
        type = instructions.memory_type(self.dtypes[store.buffer])
        start = f"{element}" if store.accumulate else "0"
        self.line(f"{type} kept = {start};")
        if store.accumulate:
            self.line("#pragma unroll 4")
        with self.braces(f"for (long long at = {'first' if store.accumulate else 'end - 1'}; at < end; ++at)"):
            self.line("const long long update = order[at];")
            self.positions(self.loops[: update_loops(self.loops)], "update")
            for loop, inner in zip(self.loops, [*self.loops[1:], None], strict=True):
                self.block([s for s in loop.body if s is not inner and s is not store])
            value = read(store.value)
            if store.accumulate:
                value = instructions.sum("kept", value, dtype=self.dtypes[store.buffer])
            self.line(f"kept = {value};")
        self.line(f"{element} = kept;")
