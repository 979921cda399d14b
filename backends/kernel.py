"""The kernel IR: loops over an index domain, scalar instructions, loads and stores.

A kernel is what runs without returning to the program: one nest of loops.  Extents and strides are
parameters (``n0``, ``s3``) unless they are 0, 1 or small, so that one kernel serves all shapes; the program
passes their values at the call.  Which axis is split between threads and which is vectorised is marked
here; how (SIMD lanes, thread blocks) is for the printers: :mod:`.cpu.codegen` prints LLVM IR,
:mod:`.cuda.codegen` CUDA C.

::

    kernel softmax(x: f32, out y: f32; n0, n1, s0, s1) {
      parallel for i0 in n0 {
        reduce over i1 in n1 {
          %0 = load x[i0*s0 + i1]
        } %1 = maximum of %0
        ...
        vector for i1 in n1 {
          ...
          store y[i0*s1 + i1], %7
        }
      }
    }
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import field
from functools import cache
from typing import Any

import numpy as np

from tracejit.ir.facts import facts
from tracejit.ir.scalar import ScalarBuilder, ScalarFunction
from tracejit.ir.types import DType, int64, is_floating, short_name

Extent = int | str  # a number, or the name of a parameter


@facts(eq=False)
class Scalar:
    """The result of an instruction, a load or a reduction; its name is given when the kernel is printed."""

    dtype: DType
    name: str = ""


@facts(frozen=True)
class Literal:
    """A number written into the kernel's text."""

    value: Any
    dtype: DType

    @property
    def text(self) -> str:
        if is_floating(self.dtype):
            bits = np.asarray(self.value, self.dtype)
            return repr(float(bits)) if not np.isnan(bits) else f"nan:{bits.tobytes().hex()}"
        return str(self.value).lower() if self.dtype.kind == "b" else str(int(self.value))


Operand = Scalar | Literal


@facts
class Address:
    """An element of a buffer: ``offset + shift + sum(axis * stride) + sum(scalar * stride)``.

    Where only the ``shift`` tells addresses apart, they are neighbours.
    """

    offset: Extent
    terms: dict[str, Extent]
    dynamic: tuple[tuple[Operand, Extent], ...] = ()
    shift: int = 0


@facts
class Instruction:
    """One scalar instruction, see ``tracejit.ir.scalar``."""

    name: str
    operands: tuple[Operand, ...]
    result: Scalar


@facts(eq=False)
class Function:
    """A scalar program that kernels call for few elements; the name tells the content."""

    name: str
    parameter: Scalar
    body: list[Instruction]
    result: Operand


@facts
class Call:
    """``function(operand)`` where ``predicate``, else ``otherwise``."""

    function: Function
    predicate: Operand
    operand: Operand
    otherwise: Operand
    result: Scalar


@facts
class Index:
    """The current position along an axis, as an ``i64``."""

    axis: str
    result: Scalar


@facts
class Load:
    """Reads an element; of a complex one ``result`` is the real part."""

    buffer: str
    address: Address
    result: Scalar
    imaginary: Scalar | None = None


@facts
class Store:
    """Writes an element; ``accumulate`` adds to what is there.  Of a complex one ``value`` is the real part."""

    buffer: str
    address: Address
    value: Operand
    accumulate: bool = False
    imaginary: Operand | None = None


@facts
class Carry:
    """What a step of a serial loop leaves to the next one: ``result`` is ``initial`` first, then the last ``next``.

    ``last`` is what the last step leaves, where that is read after the loop.
    """

    initial: Operand
    result: Scalar
    next: Operand
    last: Scalar | None = None


@facts
class Loop:
    """``kinds`` holds ``"parallel"`` (split between threads) and ``"vector"``; a plain loop is serial, in order."""

    axis: str
    extent: Extent
    kinds: frozenset[str]
    body: list[Statement]
    carries: tuple[Carry, ...] = ()


@facts
class Combination:
    """One reduced value: ``result`` combines ``value`` over the axis, from ``identity`` on."""

    combine: str
    value: Operand
    identity: Literal
    result: Scalar


@facts
class Reduce:
    """Reductions over one axis that share a loop.

    The order is the one that ``tracejit.ir.primitives.reduction`` fixes; ``one_block`` tells that the extent
    is at most one block, so that the second level is not needed.  ``vector``: the axis itself is vectorised
    (else an outer axis may be).  ``block`` names an axis: only that block of the extent is reduced.
    """

    axis: str
    extent: Extent
    one_block: bool
    vector: bool
    body: list[Statement]
    combinations: list[Combination]
    block: str | None = None


@facts
class Attention:
    """Attention, or gradients of it, in place of statements (see :mod:`.attention`).

    ``part`` is ``"forward"``, ``"queries"`` or ``"keys"``; what it computes are those of its results that the kernel
    has buffers for.  Buffers and parameters go by their names.
    """

    part: str
    dtype: DType
    size: int  # of a head
    causal: bool
    scale: float
    mask: DType | None


Statement = Instruction | Call | Index | Load | Store | Loop | Reduce


@facts
class Buffer:
    name: str
    dtype: DType
    written: bool = False


@facts
class Kernel:
    """``parameters`` are 64-bit integers; a kernel's arguments are its buffers, then its parameters.

    What is no nest of loops, ``attention``, stands in place of a body.
    """

    buffers: list[Buffer]
    parameters: list[str]
    body: list[Statement]
    title: str = "kernel"
    attention: Attention | None = None
    _text: str = field(default="", repr=False)

    @property
    def text(self) -> str:
        """The canonical text: equal for equal kernels, whatever values and lines they came from."""
        if not self._text:
            self._text = "\n".join(_print(self))
        return self._text

    @property
    def name(self) -> str:
        """A name by content, the key under which machine code is kept."""
        return f"{self.title}_{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"

    @property
    def functions(self) -> list[Function]:
        """What the kernel calls."""
        return [statement.function for statement in walk(self.body) if isinstance(statement, Call)]

    @property
    def parallel_loop(self) -> Loop | None:
        """The outermost loop, where it may be split between threads."""
        for statement in self.body:
            if isinstance(statement, Loop) and "parallel" in statement.kinds:
                return statement
        return None

    def __str__(self) -> str:
        return self.text


class _Recorder(ScalarBuilder):
    """Writes a scalar program down as instructions."""

    def __init__(self) -> None:
        self.body: list[Instruction] = []

    def constant(self, number: float | int | bool, dtype: DType) -> Literal:
        return literal(number, dtype)

    def instruction(self, name: str, operands: tuple[Any, ...], dtype: DType) -> Scalar:
        self.body.append(Instruction(name, operands, Scalar(dtype)))
        return self.body[-1].result


def literal(number: float | int | bool, dtype: DType) -> Literal:
    """A number as a literal of a dtype."""
    return Literal(np.asarray(number).astype(dtype).item() if dtype != int64 else int(number), dtype)


@cache
def function_of(source: ScalarFunction, dtype: DType) -> Function:
    """A scalar program's function for one dtype."""
    recorder, parameter = _Recorder(), Scalar(dtype, "%x")
    result = source.program(recorder, parameter)
    return Function(Kernel([], [], [*recorder.body], source.name).name, parameter, recorder.body, result)


def walk(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Every statement, those inside loops included."""
    for statement in statements:
        yield statement
        if isinstance(statement, Loop | Reduce):
            yield from walk(statement.body)


def _print(kernel: Kernel) -> Iterator[str]:
    count = 0

    def define(scalar: Scalar) -> str:
        nonlocal count
        scalar.name = f"%{count}"
        count += 1
        return scalar.name

    def operand(value: Operand) -> str:
        return value.name if isinstance(value, Scalar) else f"{value.text}:{short_name(value.dtype)}"

    def address(at: Address) -> str:
        parts = [axis if stride == 1 else f"{axis}*{stride}" for axis, stride in at.terms.items() if stride != 0]
        parts += [f"{operand(scalar)}*{stride}" for scalar, stride in at.dynamic]
        if at.offset != 0 or not (parts or at.shift):
            parts.append(str(at.offset))
        shift = f" {'-' if at.shift < 0 else '+'} {abs(at.shift)}" if at.shift else ""
        return " + ".join(parts) + shift

    def block(statements: Sequence[Statement], indent: str) -> Iterator[str]:
        for statement in statements:
            match statement:
                case Instruction(name, operands, result):
                    arguments = ", ".join(map(operand, operands))
                    yield f"{indent}{define(result)} = {name} {arguments} : {short_name(result.dtype)}"
                case Call(function, predicate, argument, otherwise, result):
                    call = f"{function.name} {operand(argument)} where {operand(predicate)} else {operand(otherwise)}"
                    yield f"{indent}{define(result)} = {call} : {short_name(result.dtype)}"
                case Index(axis, result):
                    yield f"{indent}{define(result)} = index {axis}"
                case Load(buffer, at, result, imaginary):
                    where = address(at)
                    defined = ", ".join(define(part) for part in (result, imaginary) if part is not None)
                    yield f"{indent}{defined} = load {buffer}[{where}]"
                case Store(buffer, at, value, accumulate, imaginary):
                    verb = "accumulate" if accumulate else "store"
                    second = f", {operand(imaginary)}" if imaginary else ""
                    yield f"{indent}{verb} {buffer}[{address(at)}], {operand(value)}{second}"
                case Loop(axis, extent, kinds, body, carries):
                    starts = [operand(c.initial) for c in carries]
                    carried = ", ".join(f"{define(c.result)} from {x}" for c, x in zip(carries, starts, strict=True))
                    head = f"for {axis} in {extent}{' carrying ' if carries else ''}{carried}"
                    yield f"{indent}{''.join(kind + ' ' for kind in sorted(kinds))}{head} {{"
                    yield from block(body, indent + "  ")
                    nexts = [operand(c.next) for c in carries]
                    left = ", ".join(
                        x if c.last is None else f"{x} as {define(c.last)}" for c, x in zip(carries, nexts, strict=True)
                    )
                    yield f"{indent}}}{' leaving ' if carries else ''}{left}"
                case Reduce(axis, extent, one_block, vector, body, combinations, in_block):
                    marks = ("vector " if vector else "") + ("" if one_block or in_block else "blocked ")
                    where = f" of {in_block}" if in_block else ""
                    yield f"{indent}{marks}reduce over {axis} in {extent}{where} {{"
                    yield from block(body, indent + "  ")
                    values = [operand(c.value) for c in combinations]
                    results = [
                        f"{define(c.result)} = {c.combine} of {value}"
                        for c, value in zip(combinations, values, strict=True)
                    ]
                    yield f"{indent}}} {', '.join(results)}"

    buffers = ", ".join(f"{'out ' if b.written else ''}{b.name}: {short_name(b.dtype)}" for b in kernel.buffers)
    parameters = f"; {', '.join(kernel.parameters)}" if kernel.parameters else ""
    yield f"kernel {kernel.title}({buffers}{parameters}) {{"
    yield from block(kernel.body, "  ")
    if kernel.attention is not None:
        one = kernel.attention
        marks = ["causal"] if one.causal else [] if one.mask is None else [f"masked by {short_name(one.mask)}"]
        heads = f"heads of {one.size} {short_name(one.dtype)}"
        yield f"  attention {one.part}: {', '.join([heads, f'scale {one.scale!r}', *marks])}"
    yield "}"
