"""Loops that carry numbers from step to step: running sums and the like, in the order of the CPU.

Where points are neighbours in memory, each has a thread.  A row has a warp: its lanes read 32 elements at once, and
compute what does not wait for the step before; then all of them take the 32 steps, on elements that are passed round.
"""

from __future__ import annotations

from tracejit.ir.primitives.reduction import LANES

from .. import kernel as k
from . import instructions
from .analysis import operands_of, split
from .emission import address_text, name_of, read
from .rows import WarpEmitter


class ScanEmitter(WarpEmitter):
    def inner_loop(self, loop: k.Loop) -> None:
        axis, extent = loop.axis, loop.extent
        self.carried(loop)
        stores = [s for s in loop.body if isinstance(s, k.Store)]
        early, late = split(loop.body, [carry.result for carry in loop.carries])
        read_late = [operand for s in late for operand in operands_of(s)] + [carry.next for carry in loop.carries]
        made = {id(s.result): s.result for s in early if not isinstance(s, k.Store | k.Loop | k.Reduce)}
        passed = list({id(operand): made[id(operand)] for operand in read_late if id(operand) in made}.values())
        with self.split_between_lanes(), self.braces(f"for (long long first = 0; first < {extent}; first += {LANES})"):
            self.line(f"const bool is_inside = first + lane < {extent};")
            self.line(f"const long long {axis} = is_inside ? first + lane : {extent} - 1;")
            self.block(early)
            for scalar in passed:
                self.line(f"const {instructions.element_type(scalar.dtype)} own_{name_of(scalar)} = {name_of(scalar)};")
            for number, store in enumerate(stores):
                self.line(f"{instructions.element_type(self.dtypes[store.buffer])} kept{number};")
            self.line("#pragma unroll 8")
            with self.braces(f"for (int step = 0; step < {LANES}; ++step)"):
                self.line(f"if (first + step >= {extent}) break;")
                for scalar in passed:
                    type, name = instructions.element_type(scalar.dtype), name_of(scalar)
                    self.line(f"const {type} {name} = __shfl_sync(0xffffffffu, own_{name}, step);")
                self.block([statement for statement in late if not isinstance(statement, k.Store)])
                for number, store in enumerate(stores):
                    self.line(f"if (lane == step) kept{number} = {read(store.value)};")
                self.carry_on(loop)
            for number, store in enumerate(stores):
                self.line(f"if (is_inside) {store.buffer}[{address_text(store.address)}] = kept{number};")
