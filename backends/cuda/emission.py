"""What all forms of kernels have in common in CUDA C: the signature, statements, and the points that are dealt out.

A *point* is one combination of the positions of the loops that are dealt out, and a *team* of threads works on it
(see :mod:`.forms`).  Each form has an emitter of its own, which says how its team goes through points, reductions and
the loops inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tracejit.ir.primitives.reduction import BLOCK, LANES
from tracejit.ir.types import bool_

from .. import kernel as k
from . import instructions
from .analysis import is_ordered
from .forms import Form


class Emitter(ABC):
    """Writes one function; ``member`` is the condition under which a thread stores what its point has once."""

    member = ""
    first_block = "blockIdx.x"  # the number of a block among those of its launch

    def __init__(self, kernel: k.Kernel, form: Form, name: str) -> None:
        self.kernel, self.form, self.name = kernel, form, name
        self.loops = form.loops
        self.dtypes = {buffer.name: buffer.dtype for buffer in kernel.buffers}
        self.shared: dict[str, str] = {}  # arrays in shared memory: name → declaration
        self.lines: list[str] = []
        self.depth = 1
        self.among_lanes = False  # in a loop that is split between the threads of a team
        self.known: dict[int, str] = {}  # by a load's or store's identity: where its element is kept

    def run(self) -> str:
        """The function's text."""
        self.body()
        # One resident block will do: without saying so, ptxas spills rather than use more than 32 registers.
        head = f'extern "C" __global__ void __launch_bounds__({self.form.threads}, 1) {self.name}('
        return "\n".join(
            [
                f"// {self.summary()}",
                head,
                ",\n".join(f"    {parameter}" for parameter in self.parameters()),
                ") {",
                *(f"  {line}" for line in self.shared.values()),
                *self.lines,
                "}\n",
            ]
        )

    def summary(self) -> str:
        axes = ", ".join(loop.axis for loop in self.loops)
        return f"{self.form.who} for each {axes}." if axes else f"{self.form.who}."

    def parameters(self) -> list[str]:
        """The function's parameters."""
        buffers = [self.buffer(buffer) for buffer in self.kernel.buffers]
        return [*buffers, *(f"const long long {parameter}" for parameter in self.kernel.parameters)]

    def buffer(self, buffer: k.Buffer) -> str:
        constant = "" if buffer.written else "const "
        return f"{constant}{instructions.memory_type(buffer.dtype)} *__restrict__ {buffer.name}"

    def body(self) -> None:
        """The points, or what stands alone."""
        self.place()
        if self.loops:
            self.block(self.kernel.body)
            return
        with self.braces(f"if ({' && '.join([f'{self.first_block} == 0', *self.alone()])})"):
            self.block(self.kernel.body)

    # What a form decides ----------------------------------------------------------------------------

    @abstractmethod
    def place(self) -> None:
        """Where in its team a thread is."""

    def alone(self) -> list[str]:
        """Which threads of the first block work where there is one point only."""
        return [f"threadIdx.x < {LANES}"]

    @abstractmethod
    def points(self) -> None:
        """The loops that are dealt out, as one loop over points; each team takes every so many-th."""

    @abstractmethod
    def reduce(self, reduce: k.Reduce) -> None:
        """One pass over the reduced axis."""

    @abstractmethod
    def inner_loop(self, loop: k.Loop) -> None:
        """A loop that is not dealt out to teams."""

    # Lines ------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    @contextmanager
    def braces(self, head: str) -> Iterator[None]:
        self.line(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    @contextmanager
    def split_between_lanes(self) -> Iterator[None]:
        self.among_lanes = True
        yield
        self.among_lanes = False

    def define(self, scalar: k.Scalar, expression: str) -> None:
        self.line(f"const {instructions.element_type(scalar.dtype)} {name_of(scalar)} = {expression};")

    # Statements -------------------------------------------------------------------------------------

    def block(self, statements: Sequence[k.Statement]) -> None:
        for statement in statements:
            match statement:
                case k.Instruction():
                    self.define(statement.result, expression(statement))
                case k.Call():
                    self.call(statement)
                case k.Index(axis, result):
                    self.define(result, axis)
                case k.Load(buffer, address, result, imaginary) if imaginary is not None:
                    element = self.known.get(id(statement)) or self.element(buffer, address)
                    for number, part in enumerate((result, imaginary)):
                        self.define(part, f"{element}.e[{number}]")
                case k.Load(buffer, address, result) if id(statement) in self.known:
                    element = self.known[id(statement)]
                    self.define(result, f"{element} != 0" if self.dtypes[buffer] == bool_ else element)
                case k.Load(buffer, address, result):
                    self.define(result, self.element(buffer, address))
                case k.Store():
                    self.store(statement)
                case k.Loop():
                    if any(statement is loop for loop in self.loops):
                        self.points()
                    else:
                        self.inner_loop(statement)
                case k.Reduce():
                    self.reduce(statement)

    def call(self, call: k.Call) -> None:
        name = name_of(call.result)
        self.line(f"{instructions.element_type(call.result.dtype)} {name} = {read(call.otherwise)};")
        self.line(f"if ({read(call.predicate)}) {name} = {call.function.name}({read(call.operand)});")

    def element(self, buffer: str, address: k.Address) -> str:
        element = f"{buffer}[{address_text(address)}]"
        return f"{element} != 0" if self.dtypes[buffer] == bool_ else element

    def store(self, store: k.Store) -> None:
        value = read(store.value)
        if store.imaginary is not None:
            value = f"{instructions.memory_type(self.dtypes[store.buffer])}{{{{{value}, {read(store.imaginary)}}}}}"
        if id(store) in self.known:
            self.line(f"{self.known[id(store)]} = {value};")
            return
        if store.accumulate:
            value = instructions.sum(self.element(store.buffer, store.address), value, dtype=self.dtypes[store.buffer])
        text = f"{store.buffer}[{address_text(store.address)}] = {value};"
        self.line(f"if ({self.member}) {text}" if self.member and not self.among_lanes else text)

    def carried(self, loop: k.Loop) -> None:
        """What the first step of a loop finds."""
        for carry in loop.carries:
            type = instructions.element_type(carry.result.dtype)
            self.line(f"{type} {name_of(carry.result)} = {read(carry.initial)};")

    def carry_on(self, loop: k.Loop) -> None:
        """What a step leaves to the next one; all of it is found before any changes."""
        for number, carry in enumerate(loop.carries):
            self.line(f"const {instructions.element_type(carry.result.dtype)} next{number} = {read(carry.next)};")
        for number, carry in enumerate(loop.carries):
            self.line(f"{name_of(carry.result)} = next{number};")

    # Points -----------------------------------------------------------------------------------------

    def count(self) -> tuple[str, str]:
        """The name of a point's number, and how many there are."""
        if len(self.loops) == 1:
            return self.loops[0].axis, str(self.loops[0].extent)
        self.line(f"const long long points = {' * '.join(wide_text(loop.extent) for loop in self.loops)};")
        return "point", "points"

    def axes(self) -> None:
        """The positions along the axes, of a point."""
        for number, loop in enumerate(self.loops if len(self.loops) > 1 else ()):
            inner = [str(other.extent) for other in self.loops[number + 1 :]]
            outer = " / ".join(["point", *reversed(inner)])
            self.line(f"const long long {loop.axis} = {outer}{f' % {loop.extent}' if number else ''};")

    def point(self) -> None:
        """What stands in the loops that are dealt out, outermost first."""
        self.axes()
        for loop, inside in zip(self.loops, [*self.loops[1:], None], strict=True):
            self.block([statement for statement in loop.body if statement is not inside])

    # Reductions -------------------------------------------------------------------------------------

    def accumulators(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        for combination, name in zip(reduce.combinations, names, strict=True):
            type = instructions.element_type(combination.result.dtype)
            self.line(f"{type} {name} = {read(combination.identity)};")

    def combine_lanes(self, reduce: k.Reduce, names: Sequence[str], first: str, end: str, step: int = LANES) -> None:
        """Each lane combines its elements, in order; several are read before the first of them is needed."""
        count = _unrolled(reduce)
        with self.braces(""):
            self.line(f"long long next = {first};")
            self.line(f"const long long end = {end};")
            if count > 1:
                with self.braces(f"for (; next + {(count - 1) * step} < end; next += {count * step})"):
                    self.line("#pragma unroll")
                    with self.braces(f"for (int e = 0; e < {count}; ++e)"):
                        self.combine_one(reduce, names, f"next + e * {step}")
            with self.braces(f"for (; next < end; next += {step})"):
                self.combine_one(reduce, names, "next")

    def combine_in_order(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        """The lanes' results; of more than one block, the blocks' results go to the lanes in turn, as elements do."""
        extent = reduce.extent
        if reduce.one_block or not any(map(is_ordered, reduce.combinations)):
            self.combine_lanes(reduce, names, "lane", str(extent))
            return
        parts = [f"part_{name}" for name in names]
        with self.braces(f"for (long long first = 0; first < {extent}; first += {BLOCK})"):
            self.accumulators(reduce, parts)
            self.combine_lanes(reduce, parts, "first + lane", lesser(extent, f"first + {BLOCK}"))
            self.fold(reduce, parts)
            with self.braces(f"if (first / {BLOCK} % {LANES} == lane)"):
                for combination, name, part in zip(reduce.combinations, names, parts, strict=True):
                    self.line(f"{name} = {combined(combination, name, part)};")

    def combine_one(self, reduce: k.Reduce, names: Sequence[str], position: str) -> None:
        self.line(f"const long long {reduce.axis} = {position};")
        with self.split_between_lanes():
            self.block(reduce.body)
        for combination, name in zip(reduce.combinations, names, strict=True):
            self.line(f"{name} = {combined(combination, name, read(combination.value))};")

    def fold(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        """The lanes' results to one, which all of them have."""
        for combination, name in zip(reduce.combinations, names, strict=True):
            self.fold_warp(combination, name)

    def fold_warp(self, combination: k.Combination, name: str) -> None:
        """Lane ``l`` and lane ``l + half`` trade values, so that both have the sum: adding commutes to the bit."""
        type = instructions.element_type(combination.result.dtype)
        self.line("#pragma unroll")
        with self.braces(f"for (int half = {LANES // 2}; half > 0; half /= 2)"):
            self.line(f"const {type} other = __shfl_xor_sync(0xffffffffu, {name}, half);")
            self.line(f"{name} = {combined(combination, name, 'other')};")


# Texts ------------------------------------------------------------------------------------------------------


def name_of(scalar: k.Scalar) -> str:
    """``%7`` in the kernel's text is ``v7`` here."""
    return f"v{scalar.name[1:]}"


def read(operand: k.Operand) -> str:
    return instructions.literal(operand.value, operand.dtype) if isinstance(operand, k.Literal) else name_of(operand)


def expression(statement: k.Instruction) -> str:
    operands = [read(operand) for operand in statement.operands]
    source, target = statement.operands[0].dtype, statement.result.dtype
    match statement.name:
        case "copy":
            return operands[0]
        case "select":
            return instructions.select(*operands)
        case "convert":
            return instructions.convert(operands[0], source, target)
        case "bitcast":
            return instructions.bitcast(operands[0], source, target)
        case name:
            return instructions.INSTRUCTIONS[name](*operands, dtype=source)


def combined(combination: k.Combination, x: str, y: str) -> str:
    return instructions.INSTRUCTIONS[combination.combine](x, y, dtype=combination.result.dtype)


def address_text(address: k.Address) -> str:
    """An index into a buffer, in 64 bits."""
    steps = [(axis, stride) for axis, stride in address.terms.items()]
    steps += [(read(scalar), stride) for scalar, stride in address.dynamic]
    parts = [text if stride == 1 else f"{text} * {stride}" for text, stride in steps if stride != 0]
    if address.offset != 0 or not parts:
        parts.append(str(address.offset))
    return " + ".join(parts)


def wide_text(extent: k.Extent) -> str:
    return f"{extent}ll" if isinstance(extent, int) else extent


def lesser(extent: k.Extent, end: str) -> str:
    return f"{extent} < {end} ? {extent} : {end}"


def _unrolled(reduce: k.Reduce) -> int:
    """How many elements of a reduction are read at a time: so many loads are under way, as registers allow."""
    return 8 if len(reduce.body) <= 8 else 4 if len(reduce.body) <= 40 else 1
