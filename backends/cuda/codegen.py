"""Kernels as CUDA C.

Kept loops are dealt out: a *point* is one combination of their positions, and a *team* of threads works on a
point (:class:`Team`).  The order of a reduction (see :mod:`tracejit.ir.primitives.reduction`) maps onto the
device as it stands: the 32 lanes of the order are the lanes of a warp, or 32 threads of a block, so sums have
the CPU's bits.  Every kernel is right for any number of blocks.

A kernel's arguments are pointers to its buffers, then its parameters as 64-bit integers.  A buffer that is
written overlaps no other buffer of the call (the memory plan sees to that); a bool in memory is a byte.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tracejit.ir.primitives.reduction import BLOCK, LANES
from tracejit.ir.types import bool_, is_floating, short_name

from .. import kernel as k
from . import instructions
from .vectors import Wide, wide

MAX_BLOCKS = 4096  # several waves on the largest devices; the kernels' loops do the rest
LONG_ROW = 8 * BLOCK  # elements: from here on there is work for most warps of a block in one row
FEW_ROWS = 1024  # too few to give each a warp


@dataclass(frozen=True, slots=True)
class Launch:
    """A function, the blocks of a launch and the threads of a block, as CUDA counts them; no dynamic shared memory."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Team:
    """Who works on a point; a block has ``threads`` threads and works on ``points`` points at a time."""

    name: str
    threads: int
    points: int


# One thread: there is nothing to reduce, or so little that the lanes fit into registers.
THREAD = Team("thread", threads=256, points=256)
# A warp: neighbouring threads read neighbouring elements of the reduced axis.
WARP = Team("warp", threads=256, points=256 // LANES)
# A block: its warps share the blocks of a long row's sums between them.
ROW = Team("row", threads=16 * LANES, points=1)
# 32 threads of a block that are 16 apart: neighbouring threads read neighbouring points.  As many points as
# the block has warps, so that each warp folds the lanes of one point.
COLUMN = Team("column", threads=16 * LANES, points=16)


def module_source(kernels: Sequence[k.Kernel]) -> str:
    """The text of a module that contains the kernels, each under its name."""
    functions = {function.name: _function_source(function) for kernel in kernels for function in kernel.functions}
    functions |= {kernel.name: kernel_source(kernel) for kernel in kernels}
    body = "\n".join(functions.values())
    helpers = [text for name, text in instructions.HELPERS.items() if f"{name}(" in body or f"{name}<" in body]
    return "\n".join(
        ["// To be compiled with -fmad=false: products and sums are rounded one by one.\n", *helpers, body]
    )


def kernel_source(kernel: k.Kernel) -> str:
    """A kernel's functions; what they call of :data:`.instructions.HELPERS` stands in front of them in a module."""
    return "\n".join(_KernelEmitter(kernel, mapping).run() for mapping in _mappings(kernel))


def function_names(kernel: k.Kernel) -> list[str]:
    """The names of a kernel's functions: one, or another one for long rows too."""
    return [mapping.name(kernel) for mapping in _mappings(kernel)]


def launch_shape(kernel: k.Kernel, parameters: Sequence[int]) -> Launch:
    """The launch that gives every point a team (as far as ``MAX_BLOCKS`` allows) for these parameters' values."""
    values = dict(zip(kernel.parameters, parameters, strict=True))
    mapping, *others = _mappings(kernel)
    extents = [loop.extent if isinstance(loop.extent, int) else values[loop.extent] for loop in mapping.loops]
    if others:
        long = max(r.extent if isinstance(r.extent, int) else values[r.extent] for r in _reduces(kernel))
        if long >= LONG_ROW or math.prod(extents) < FEW_ROWS:
            (mapping,) = others
    points = mapping.team.points * (mapping.wide.width if mapping.wide is not None else 1)
    blocks = -(-math.prod(extents) // points)
    return Launch(mapping.name(kernel), (max(1, min(blocks, MAX_BLOCKS)), 1, 1), (mapping.threads, 1, 1))


@dataclass(frozen=True, slots=True)
class _Mapping:
    """``loops``, one in the other, are dealt out to teams."""

    team: Team
    loops: tuple[k.Loop, ...]
    wide: Wide | None = None

    def name(self, kernel: k.Kernel) -> str:
        """The name of the kernel's function."""
        return f"rows_{kernel.name}" if self.team is ROW else kernel.name

    @property
    def threads(self) -> int:
        """The threads of a block: one warp where there is but one point, and that is not a block's."""
        return self.team.threads if self.loops or self.team is ROW else LANES


def _reduces(kernel: k.Kernel) -> list[k.Reduce]:
    return [statement for statement in k.walk(kernel.body) if isinstance(statement, k.Reduce)]


def _mappings(kernel: k.Kernel) -> list[_Mapping]:
    """How the kernel may be dealt out: in the first way, or where its rows are long or few in the second."""
    first = _map(kernel)
    if first.team is not WARP or any(r.one_block or r.block is not None for r in _reduces(kernel)):
        return [first]
    return [first, _Mapping(ROW, first.loops)]


def _map(kernel: k.Kernel) -> _Mapping:
    statements = list(k.walk(kernel.body))
    if any(isinstance(statement, k.Store) and statement.address.dynamic for statement in statements):
        # Two stores may find the same element: their order counts, but along the vector axis.
        loops = tuple(s for s in statements if isinstance(s, k.Loop) and "vector" in s.kinds)
        return _Mapping(THREAD, loops)
    reduces = _reduces(kernel)
    loops = tuple(_kept_loops(kernel.body, {reduce.axis for reduce in reduces}))
    if not reduces:
        return _Mapping(THREAD, loops, wide(kernel, loops))
    if all(isinstance(reduce.extent, int) and reduce.extent <= LANES for reduce in reduces):
        return _Mapping(THREAD, loops)
    return _Mapping(WARP if any(reduce.vector for reduce in reduces) else COLUMN, loops)


def _kept_loops(statements: Sequence[k.Statement], reduced: set[str]) -> Iterator[k.Loop]:
    """The loops over axes that are not reduced: each is the last statement in the one around it."""
    if not statements or any(isinstance(statement, k.Store) for statement in statements):
        return
    last = statements[-1]
    if isinstance(last, k.Loop) and last.axis not in reduced:
        yield last
        yield from _kept_loops(last.body, reduced)


def _function_source(function: k.Function) -> str:
    type = instructions.element_type(function.parameter.dtype)
    lines = [
        f"  const {instructions.element_type(step.result.dtype)} {_name(step.result)} = {_expression(step)};"
        for step in function.body
    ]
    head = f"__device__ __forceinline__ {type} {function.name}({type} {_name(function.parameter)}) {{"
    return "\n".join([head, *lines, f"  return {_read(function.result)};", "}\n"])


class _KernelEmitter:
    def __init__(self, kernel: k.Kernel, mapping: _Mapping) -> None:
        self.kernel = kernel
        self.name = mapping.name(kernel)  # also gives every scalar its number
        self.mapping = mapping
        self.team = self.mapping.team
        self.dtypes = {buffer.name: buffer.dtype for buffer in kernel.buffers}
        self.shared: dict[str, str] = {}  # tables in shared memory: name → declaration
        self.lines: list[str] = []
        self.depth = 1
        self.among_lanes = False  # in a loop that is split between the lanes of a team
        self.vectors: dict[int, str] = {}  # by a load's or store's identity: the variable with its elements

    def run(self) -> str:
        self._kernel_body()
        parameters = [self._buffer(buffer) for buffer in self.kernel.buffers]
        parameters += [f"const long long {parameter}" for parameter in self.kernel.parameters]
        # One resident block will do: without saying so, ptxas spills rather than use more than 32 registers.
        head = f'extern "C" __global__ void __launch_bounds__({self.mapping.threads}, 1) {self.name}('
        return "\n".join(
            [
                f"// {self._summary()}",
                head,
                ",\n".join(f"    {parameter}" for parameter in parameters),
                ") {",
                *(f"  {line}" for line in self.shared.values()),
                *self.lines,
                "}\n",
            ]
        )

    def _summary(self) -> str:
        axes = ", ".join(loop.axis for loop in self.mapping.loops)
        who = {THREAD: "One thread", WARP: "One warp", ROW: "One block", COLUMN: "32 threads of a block"}[self.team]
        return f"{who} for each {axes}." if axes else f"{who}."

    def _buffer(self, buffer: k.Buffer) -> str:
        constant = "" if buffer.written else "const "
        return f"{constant}{instructions.memory_type(buffer.dtype)} *__restrict__ {buffer.name}"

    def _kernel_body(self) -> None:
        if not self.mapping.loops:
            members = {THREAD: " && threadIdx.x == 0", ROW: ""}.get(self.team, f" && threadIdx.x < {LANES}")
            with self._braces(f"if (blockIdx.x == 0{members})"):
                self._place_in_team()
                self._block(self.kernel.body)
            return
        self._place_in_team()
        self._block(self.kernel.body)

    def _place_in_team(self) -> None:
        if self.team is WARP:
            self._line(f"const int lane = threadIdx.x % {LANES};")
        elif self.team is ROW:
            self._line(f"const int lane = threadIdx.x % {LANES}, warp = threadIdx.x / {LANES};")
        elif self.team is COLUMN and self.mapping.loops:
            self._line(f"const int lane = threadIdx.x / {COLUMN.points}, column = threadIdx.x % {COLUMN.points};")

    # Lines ------------------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    @contextmanager
    def _braces(self, head: str) -> Iterator[None]:
        self._line(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self._line("}")

    def _define(self, scalar: k.Scalar, expression: str) -> None:
        self._line(f"const {instructions.element_type(scalar.dtype)} {_name(scalar)} = {expression};")

    # Statements -------------------------------------------------------------------------------------

    def _block(self, statements: Sequence[k.Statement]) -> None:
        for statement in statements:
            match statement:
                case k.Instruction():
                    self._define(statement.result, _expression(statement))
                case k.Call():
                    self._call(statement)
                case k.Index(axis, result):
                    self._define(result, axis)
                case k.Load(buffer, address, result) if id(statement) in self.vectors:
                    element = f"{self.vectors[id(statement)]}.e[e]"
                    self._define(result, f"{element} != 0" if self.dtypes[buffer] == bool_ else element)
                case k.Load(buffer, address, result):
                    self._define(result, self._element(buffer, address))
                case k.Store():
                    self._store(statement)
                case k.Loop():
                    self._loop(statement)
                case k.Reduce():
                    self._reduce(statement)

    def _call(self, call: k.Call) -> None:
        name = _name(call.result)
        self._line(f"{instructions.element_type(call.result.dtype)} {name} = {_read(call.otherwise)};")
        self._line(f"if ({_read(call.predicate)}) {name} = {call.function.name}({_read(call.operand)});")

    def _element(self, buffer: str, address: k.Address) -> str:
        element = f"{buffer}[{_address(address)}]"
        return f"{element} != 0" if self.dtypes[buffer] == bool_ else element

    def _store(self, store: k.Store) -> None:
        value = _read(store.value)
        if id(store) in self.vectors:
            self._line(f"{self.vectors[id(store)]}.e[e] = {value};")
            return
        if store.accumulate:
            old = self._element(store.buffer, store.address)
            value = instructions.INSTRUCTIONS["add"](old, value, dtype=self.dtypes[store.buffer])
        text = f"{store.buffer}[{_address(store.address)}] = {value};"
        if self.team is not THREAD and not self.among_lanes:
            one = {WARP: "lane == 0", ROW: "threadIdx.x == 0"}.get(self.team, "lane == 0 && active")
            text = f"if ({one}) {text}"
        self._line(text)

    # Loops ------------------------------------------------------------------------------------------

    def _loop(self, loop: k.Loop) -> None:
        if any(loop is other for other in self.mapping.loops):
            self._points()
        elif self.team is THREAD:
            with self._braces(f"for (long long {loop.axis} = 0; {loop.axis} < {loop.extent}; ++{loop.axis})"):
                self._block(loop.body)
        else:
            present = "active && " if self.team is COLUMN else ""
            first, step = ("threadIdx.x", ROW.threads) if self.team is ROW else ("lane", LANES)
            self.among_lanes = True
            with self._braces(_lane_loop(loop.axis, first, f"{present}{loop.axis} < {loop.extent}", step)):
                self._block(loop.body)
            self.among_lanes = False

    def _points(self) -> None:
        """The loops that are dealt out, as one loop over points; each team takes every so many-th."""
        loops, team = self.mapping.loops, self.team
        count = str(loops[0].extent)
        if len(loops) > 1:
            count = "points"
            self._line(f"const long long points = {' * '.join(_wide(loop.extent) for loop in loops)};")
        position = loops[0].axis if len(loops) == 1 else "point"
        if team is COLUMN:  # all threads of a block stay together: they meet at barriers
            with self._braces(f"for (long long tile = blockIdx.x; tile * {team.points} < {count}; tile += gridDim.x)"):
                self._line(f"const bool active = tile * {team.points} + column < {count};")
                self._line(f"const long long {position} = active ? tile * {team.points} + column : {count} - 1;")
                self._point()
            return
        if team is ROW:
            with self._braces(
                f"for (long long {position} = blockIdx.x; {position} < {count}; {position} += gridDim.x)"
            ):
                self._point()
            return
        member = "threadIdx.x" if team is THREAD else f"threadIdx.x / {LANES}"
        first, step = f"blockIdx.x * {team.points}ll + {member}", f"gridDim.x * {team.points}ll"
        if self.mapping.wide is not None:
            self._groups(self.mapping.wide, position, count, first, step)
            first = f"done + {first}"
        with self._braces(f"for (long long {position} = {first}; {position} < {count}; {position} += {step})"):
            self._point()

    def _groups(self, wide: Wide, position: str, count: str, first: str, step: str) -> None:
        """As many points as can be, in groups of neighbours; the loop that follows goes on at ``done``."""
        loops, width = self.mapping.loops, wide.width
        inner = loops[-1]
        condition = wide.condition if len(loops) == 1 else f"{inner.extent} % {width} == 0 && {wide.condition}"
        self._line("long long done = 0;")
        with self._braces(f"if ({condition})"):
            self._line(f"done = {count} / {width} * {width};")
            with self._braces(f"for (long long group = {first}; group < done / {width}; group += {step})"):
                self._line(f"const long long {position} = group * {width};")
                self._axes()
                for loop, inside in itertools.pairwise(loops):
                    self._block([statement for statement in loop.body if statement is not inside])
                for number, statement in enumerate(wide.accesses):
                    name = self.vectors[id(statement)] = f"w{number}"
                    type = f"tj_vector<{instructions.memory_type(self.dtypes[statement.buffer])}, {width}>"
                    if isinstance(statement, k.Load):
                        where = f"({statement.buffer} + {_address(statement.address)})"
                        self._line(f"const {type} {name} = *(const {type} *){where};")
                    else:
                        self._line(f"{type} {name};")
                self._line(f"const long long start = {inner.axis};")
                self._line("#pragma unroll")
                with self._braces(f"for (int e = 0; e < {width}; ++e)"):
                    self._line(f"const long long {inner.axis} = start + e;")
                    self._block(inner.body)
                for statement in wide.stores:
                    type = f"tj_vector<{instructions.memory_type(self.dtypes[statement.buffer])}, {width}>"
                    where = f"({statement.buffer} + {_address(statement.address)})"
                    self._line(f"*({type} *){where} = {self.vectors[id(statement)]};")
        self.vectors.clear()

    def _axes(self) -> None:
        """The positions along the axes, of a point."""
        loops = self.mapping.loops
        for number, loop in enumerate(loops if len(loops) > 1 else ()):
            inner = [str(other.extent) for other in loops[number + 1 :]]
            outer = " / ".join(["point", *reversed(inner)])
            self._line(f"const long long {loop.axis} = {outer}{f' % {loop.extent}' if number else ''};")

    def _point(self) -> None:
        """What stands in the loops that are dealt out, outermost first."""
        loops = self.mapping.loops
        self._axes()
        for loop, inside in zip(loops, [*loops[1:], None], strict=True):
            self._block([statement for statement in loop.body if statement is not inside])

    # Reductions -------------------------------------------------------------------------------------

    def _reduce(self, reduce: k.Reduce) -> None:
        if self.team is THREAD:
            self._reduce_in_registers(reduce)
            return
        results = [_name(combination.result) for combination in reduce.combinations]
        self._accumulators(reduce, results)
        if self.team is ROW:
            if _is_ordered(reduce):
                self._combine_blocks_of_row(reduce, results)
            else:
                self._combine_threads(reduce, results)
            return
        extent = reduce.extent
        if reduce.block is not None:
            first, end = f"{reduce.block} * {BLOCK}", f"({reduce.block} + 1) * {BLOCK}"
            self._combine_lanes(reduce, results, f"{first} + lane", _lesser(extent, end))
        elif reduce.one_block or not _is_ordered(reduce):
            self._combine_lanes(reduce, results, "lane", str(extent))
        else:
            self._combine_blocks(reduce, results)
        self._fold(reduce, results)

    def _combine_blocks(self, reduce: k.Reduce, results: Sequence[str]) -> None:
        """More than one block: the blocks' results go to the lanes in turn, as elements do."""
        extent = reduce.extent
        parts = [f"part_{result}" for result in results]
        with self._braces(f"for (long long first = 0; first < {extent}; first += {BLOCK})"):
            self._accumulators(reduce, parts)
            self._combine_lanes(reduce, parts, "first + lane", _lesser(extent, f"first + {BLOCK}"))
            self._fold(reduce, parts)
            with self._braces(f"if (first / {BLOCK} % {LANES} == lane)"):
                for combination, result, part in zip(reduce.combinations, results, parts, strict=True):
                    self._line(f"{result} = {_combined(combination, result, part)};")

    def _combine_blocks_of_row(self, reduce: k.Reduce, results: Sequence[str]) -> None:
        """As many blocks as there are lanes at a time: the warps sum them up, each lane then takes one, in order."""
        extent, tables = reduce.extent, self._tables(reduce)
        parts = [f"part_{result}" for result in results]
        with self._braces(f"for (long long round = 0; round < {extent}; round += {LANES * BLOCK})"):
            with self._braces(f"for (int block = warp; block < {LANES}; block += {ROW.threads // LANES})"):
                self._line(f"const long long first = round + block * {BLOCK}ll;")
                self._line(f"if (first >= {extent}) break;")
                self._accumulators(reduce, parts)
                self._combine_lanes(reduce, parts, "first + lane", _lesser(extent, f"first + {BLOCK}"))
                self._fold(reduce, parts)
                for table, part in zip(tables, parts, strict=True):
                    self._line(f"if (lane == 0) {table}[block] = {part};")
            self._line("__syncthreads();")
            with self._braces(f"if (round + lane * {BLOCK}ll < {extent})"):
                for combination, result, table in zip(reduce.combinations, results, tables, strict=True):
                    self._line(f"{result} = {_combined(combination, result, f'{table}[lane]')};")
            self._line("__syncthreads();")
        self._fold(reduce, results)

    def _combine_threads(self, reduce: k.Reduce, results: Sequence[str]) -> None:
        """Where the order does not matter: all threads at once, then the warps' results."""
        tables = self._tables(reduce)
        self._combine_lanes(reduce, results, "threadIdx.x", str(reduce.extent), ROW.threads)
        self._fold(reduce, results)
        for table, result in zip(tables, results, strict=True):
            self._line(f"if (lane == 0) {table}[warp] = {result};")
        self._line("__syncthreads();")
        for combination, table, result in zip(reduce.combinations, tables, results, strict=True):
            self._line(f"{result} = lane < {ROW.threads // LANES} ? {table}[lane] : {_read(combination.identity)};")
        self._line("__syncthreads();")
        self._fold(reduce, results)

    def _tables(self, reduce: k.Reduce) -> list[str]:
        """A table in shared memory for each of the values that are reduced."""
        names = []
        for number, combination in enumerate(reduce.combinations):
            dtype = combination.result.dtype
            names.append(f"row_{short_name(dtype)}_{number}")
            self.shared[names[-1]] = f"__shared__ {instructions.element_type(dtype)} {names[-1]}[{LANES}];"
        return names

    def _accumulators(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        for combination, name in zip(reduce.combinations, names, strict=True):
            type = instructions.element_type(combination.result.dtype)
            self._line(f"{type} {name} = {_read(combination.identity)};")

    def _combine_lanes(self, reduce: k.Reduce, names: Sequence[str], first: str, end: str, step: int = LANES) -> None:
        """Each lane combines its elements, in order; several are read before the first of them is needed."""
        count = _unrolled(reduce)
        with self._braces(""):
            self._line(f"long long next = {first};")
            self._line(f"const long long end = {end};")
            if count > 1:
                with self._braces(f"for (; next + {(count - 1) * step} < end; next += {count * step})"):
                    self._line("#pragma unroll")
                    with self._braces(f"for (int e = 0; e < {count}; ++e)"):
                        self._combine_one(reduce, names, f"next + e * {step}")
            with self._braces(f"for (; next < end; next += {step})"):
                self._combine_one(reduce, names, "next")

    def _combine_one(self, reduce: k.Reduce, names: Sequence[str], position: str) -> None:
        self._line(f"const long long {reduce.axis} = {position};")
        self._block(reduce.body)
        for combination, name in zip(reduce.combinations, names, strict=True):
            self._line(f"{name} = {_combined(combination, name, _read(combination.value))};")

    def _fold(self, reduce: k.Reduce, names: Sequence[str]) -> None:
        """The lanes combined in halves; every lane gets the result."""
        for combination, name in zip(reduce.combinations, names, strict=True):
            if self.team is not COLUMN:
                self._fold_warp(combination, name)
            else:
                self._fold_column(combination, name)

    def _fold_warp(self, combination: k.Combination, name: str) -> None:
        """Lane ``l`` and lane ``l + half`` trade values, so that both have the sum: adding commutes to the bit."""
        type = instructions.element_type(combination.result.dtype)
        self._line("#pragma unroll")
        with self._braces(f"for (int half = {LANES // 2}; half > 0; half /= 2)"):
            self._line(f"const {type} other = __shfl_xor_sync(0xffffffffu, {name}, half);")
            self._line(f"{name} = {_combined(combination, name, 'other')};")

    def _fold_column(self, combination: k.Combination, name: str) -> None:
        """Through a table in shared memory: each warp folds one column of it, and writes the result below.

        Two barriers do: the next fold writes the rows that were read before the second one.
        """
        dtype = combination.result.dtype
        table = f"table_{short_name(dtype)}"
        self.shared[table] = f"__shared__ {instructions.element_type(dtype)} {table}[{LANES + 1}][{COLUMN.points + 1}];"
        slot, warp = f"threadIdx.x % {LANES}", f"threadIdx.x / {LANES}"
        self._line(f"{table}[lane][column] = {name};")
        self._line("__syncthreads();")
        self._line(f"{name} = {table}[{slot}][{warp}];")
        self._fold_warp(combination, name)
        self._line(f"if ({slot} == 0) {table}[{LANES}][{warp}] = {name};")
        self._line("__syncthreads();")
        self._line(f"{name} = {table}[{LANES}][column];")

    def _reduce_in_registers(self, reduce: k.Reduce) -> None:
        """A short extent, by one thread: its elements are the first lanes, the others hold the neutral element."""
        assert isinstance(reduce.extent, int)
        width = 1 << (reduce.extent - 1).bit_length()
        lanes = [f"lanes_{_name(combination.result)}" for combination in reduce.combinations]
        for combination, name in zip(reduce.combinations, lanes, strict=True):
            self._line(f"{instructions.element_type(combination.result.dtype)} {name}[{width}];")
        self._line("#pragma unroll")
        with self._braces(f"for (int {reduce.axis} = 0; {reduce.axis} < {reduce.extent}; ++{reduce.axis})"):
            self._block(reduce.body)
            for combination, name in zip(reduce.combinations, lanes, strict=True):
                self._line(f"{name}[{reduce.axis}] = {_read(combination.value)};")
        if width > reduce.extent:
            self._line("#pragma unroll")
            with self._braces(f"for (int lane = {reduce.extent}; lane < {width}; ++lane)"):
                for combination, name in zip(reduce.combinations, lanes, strict=True):
                    self._line(f"{name}[lane] = {_read(combination.identity)};")
        for combination, name in zip(reduce.combinations, lanes, strict=True):
            half = width
            while half > 1:
                half //= 2
                for lane in range(half):
                    folded = _combined(combination, f"{name}[{lane}]", f"{name}[{lane + half}]")
                    self._line(f"{name}[{lane}] = {folded};")
            self._define(combination.result, f"{name}[0]")


def _name(scalar: k.Scalar) -> str:
    """``%7`` in the kernel's text is ``v7`` here."""
    return f"v{scalar.name[1:]}"


def _read(operand: k.Operand) -> str:
    return instructions.literal(operand.value, operand.dtype) if isinstance(operand, k.Literal) else _name(operand)


def _expression(statement: k.Instruction) -> str:
    operands = [_read(operand) for operand in statement.operands]
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


def _combined(combination: k.Combination, x: str, y: str) -> str:
    return instructions.INSTRUCTIONS[combination.combine](x, y, dtype=combination.result.dtype)


def _is_ordered(reduce: k.Reduce) -> bool:
    """Whether the order matters: sums of floats."""
    return any(c.combine == "add" and is_floating(c.result.dtype) for c in reduce.combinations)


def _address(address: k.Address) -> str:
    """An index into a buffer, in 64 bits."""
    steps = [(axis, stride) for axis, stride in address.terms.items()]
    steps += [(_read(scalar), stride) for scalar, stride in address.dynamic]
    parts = [text if stride == 1 else f"{text} * {stride}" for text, stride in steps if stride != 0]
    if address.offset != 0 or not parts:
        parts.append(str(address.offset))
    return " + ".join(parts)


def _wide(extent: k.Extent) -> str:
    return f"{extent}ll" if isinstance(extent, int) else extent


def _lesser(extent: k.Extent, end: str) -> str:
    return f"{extent} < {end} ? {extent} : {end}"


def _unrolled(reduce: k.Reduce) -> int:
    """How many elements of a reduction are read at a time: so many loads are under way, as registers allow."""
    return 8 if len(reduce.body) <= 8 else 4 if len(reduce.body) <= 40 else 1


def _lane_loop(axis: str, first: str, condition: str, step: int) -> str:
    return f"for (long long {axis} = {first}; {condition}; {axis} += {step})"
