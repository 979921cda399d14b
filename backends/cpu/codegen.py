"""Kernels as LLVM IR, written with explicit vectors.

The text is what a mid-level optimiser would leave: invariants stand outside the loops, addresses are
advanced loop by loop, vectors are explicit, and a loop over a vector axis is a main loop over whole vectors
and one masked step for the rest.  LLVM is left with instruction selection and register allocation.

Every kernel is ``void @name(ptr %arguments, i64 %begin, i64 %end, i64 %worker)``: the arguments are 8-byte
slots (buffers, then parameters), ``[begin, end)`` a range of the kernel's parallel loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tracejit.ir.primitives.reduction import BLOCK, LANES
from tracejit.ir.types import DType, bool_, int64, is_floating

from .. import kernel as k
from . import instructions, pairs, transposition
from .writer import Writer

VECTOR_LANES = 16  # elements in a step of a map's loop
CHAIN_LANES = 256  # elements whose steps are taken side by side, at the most: each step waits for the one before
COLUMN_LANES = 64  # columns that are reduced side by side: whole stretches of a row, for the sake of memory
WIDE_BYTES = 1024  # of each row that are reduced side by side where nothing else is done: few rows share a page
REGISTER_BYTES = 32 * 64  # of vectors
ROW_BYTES = 512  # of a row that are reduced side by side in any order
MOST_BESIDES = 4  # statements
CHAINS = 4  # rows that are walked in order side by side: as many as hide what an addition takes
PREFETCHED_ROWS = 4  # how far ahead columns are asked for
CACHE_LINE = 64  # bytes
TILE = 16  # rows of the result at a time where an operand lies across them: a cache line of each of its rows


class Emitter(Writer):
    """One function: the writer's lines, with stack slots, declarations and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.entry: list[str] = []  # stack slots, which belong into the first block
        self.declarations: dict[str, None] = {}

    def assign(self, text: str) -> str:
        return self.let("t", text)

    def declare(self, text: str) -> None:
        self.declarations[text] = None

    def stack(self, type: str, count: int) -> str:
        (label,) = self.labels("stack")
        self.entry.append(f"  %{label} = alloca [{count} x {type}], align 64")
        return f"%{label}"

    def constant(self, value: Any, dtype: DType, lanes: int) -> str:
        text = instructions.literal(value, dtype)
        return text if lanes == 1 else f"splat ({instructions.element_type(dtype)} {text})"

    def splat(self, name: str, dtype: DType, lanes: int) -> str:
        vector = instructions.register_type(dtype, lanes)
        single = self.assign(f"insertelement {vector} poison, {instructions.element_type(dtype)} {name}, i64 0")
        return self.assign(f"shufflevector {vector} {single}, {vector} poison, <{lanes} x i32> zeroinitializer")

    def intrinsic(self, stem: str, operands: Sequence[str], dtype: DType, lanes: int) -> str:
        type = instructions.register_type(dtype, lanes)
        name = f"llvm.{stem}.{instructions.overload(dtype, lanes)}"
        self.declare(f"declare {type} @{name}({', '.join([type] * len(operands))})")
        return self.assign(f"call {type} @{name}({', '.join(f'{type} {operand}' for operand in operands)})")

    def add(self, x: str, y: str | int, name: str = "sum") -> str:
        return str(y) if x == "0" else x if str(y) == "0" else super().add(x, y, name)

    def mul(self, x: str, y: str | int, name: str = "product") -> str:
        return x if str(y) == "1" else str(y) if x == "1" else super().mul(x, y, name)

    def min(self, x: str, y: str | int, name: str = "min") -> str:
        self.declare("declare i64 @llvm.smin.i64(i64, i64)")
        return super().min(x, y, name)


class _Context:
    """What is in scope: registers, open axes, and the vector that the code is in."""

    def __init__(self) -> None:
        self.axes: dict[str, str] = {}  # axis → its position, an i64
        self.lanes = 1
        self.vector_axis: str | None = None
        self.mask: str | None = None  # lanes that exist, in the last step of a vector loop
        self.registers: dict[int, tuple[str, int]] = {}  # id of a scalar → register, lanes
        self.pointers: dict[int, tuple[str, frozenset[str]]] = {}  # id of an access → pointer, axes it includes
        self.tiles: dict[int, str] = {}  # id of a load → the vector that is next in its transposed tile

    def inner(self) -> _Context:
        twin = _Context()
        twin.__dict__.update(
            axes=dict(self.axes), lanes=self.lanes, vector_axis=self.vector_axis, mask=self.mask,
            registers=dict(self.registers), pointers=dict(self.pointers), tiles=self.tiles,
        )  # fmt: skip
        return twin


def kernel_function(kernel: k.Kernel) -> tuple[str, list[str]]:
    """A kernel's function, and the declarations that it needs."""
    return _KernelEmitter(kernel).run()


@cache
def _function(function: k.Function) -> tuple[str, str, list[str]]:
    """A scalar function's name, its text, and the declarations that it needs."""
    emitter = _KernelEmitter(k.Kernel([], [], []))
    e, context, parameter = emitter.e, _Context(), function.parameter
    context.registers[id(parameter)] = "%x", 1
    emitter._block(function.body, context)
    e.do(f"ret {instructions.element_type(parameter.dtype)} {emitter._read(function.result, 1, context)}")
    type = instructions.element_type(parameter.dtype)
    head = f"define internal {type} @{function.name}({type} %x) cold noinline optnone nounwind {{"
    return function.name, "\n".join([head, "entry:", *e.lines, "}"]), list(e.declarations)


class _KernelEmitter:
    def __init__(self, kernel: k.Kernel) -> None:
        self.kernel = kernel
        self.e = Emitter()
        self.dtypes = {buffer.name: buffer.dtype for buffer in kernel.buffers}

    def run(self) -> tuple[str, list[str]]:
        e = self.e
        slots = [(f"%{buffer.name}", "ptr") for buffer in self.kernel.buffers]
        slots += [(f"%{parameter}", "i64") for parameter in self.kernel.parameters]
        for number, (name, type) in enumerate(slots):
            slot = e.assign(f"getelementptr i64, ptr %arguments, i64 {number}")
            e.do(f"{name} = load {type}, ptr {slot}")
        context = _Context()
        self._enter(context, self.kernel.body)
        self._block(self.kernel.body, context)
        e.do("ret void")
        head = f"define void @{self.kernel.name}(ptr %arguments, i64 %begin, i64 %end, i64 %worker) {{"
        return "\n".join([head, "entry:", *e.entry, *e.lines, "}"]), list(e.declarations)

    # Statements -------------------------------------------------------------------------------------

    def _block(self, statements: Sequence[k.Statement], c: _Context) -> None:
        for statement in statements:
            match statement:
                case k.Instruction():
                    self._instruction(statement, c)
                case k.Call():
                    self._call(statement, c)
                case k.Index():
                    self._index(statement, c)
                case k.Load(imaginary=None):
                    self._define(statement.result, *self._load(statement, c), c)
                case k.Load():
                    pairs.load(self, statement, c)
                case k.Store(imaginary=None):
                    self._store(statement, c)
                case k.Store():
                    pairs.store(self, statement, c)
                case k.Loop():
                    self._loop(statement, c)
                case k.Reduce():
                    self._reduce(statement, c)

    def _define(self, scalar: k.Scalar, register: str, lanes: int, c: _Context) -> None:
        c.registers[id(scalar)] = register, lanes

    def _lanes(self, operands: Sequence[k.Operand], c: _Context) -> int:
        return max((c.registers[id(o)][1] for o in operands if isinstance(o, k.Scalar)), default=1)

    def _read(self, operand: k.Operand, lanes: int, c: _Context) -> str:
        """An operand in a register of ``lanes`` lanes."""
        if isinstance(operand, k.Literal):
            return self.e.constant(operand.value, operand.dtype, lanes)
        register, has = c.registers[id(operand)]
        return register if has == lanes else self.e.splat(register, operand.dtype, lanes)

    def _instruction(self, statement: k.Instruction, c: _Context) -> None:
        operands, result = statement.operands, statement.result
        lanes = self._lanes(operands, c)
        registers = [self._read(operand, lanes, c) for operand in operands]
        source = operands[0].dtype
        match statement.name:
            case "copy":
                register = self._read(operands[0], 1, c)
                if isinstance(operands[0], k.Literal):
                    type = instructions.element_type(source)
                    register = self.e.assign(f"select i1 true, {type} {register}, {type} {register}")
            case "lane":
                vector = instructions.register_type(source, lanes)
                register = registers[0]
                if lanes > 1:
                    assert isinstance(operands[1], k.Literal)
                    register = self.e.assign(f"extractelement {vector} {register}, i64 {operands[1].value}")
                lanes = 1
            case "select":
                register = instructions.select(self.e, *registers, dtype=result.dtype, lanes=lanes)
            case "convert":
                register = instructions.convert(self.e, registers[0], source, result.dtype, lanes)
            case "bitcast":
                register = instructions.bitcast(self.e, registers[0], source, result.dtype, lanes)
            case name:
                register = instructions.INSTRUCTIONS[name](self.e, *registers, dtype=source, lanes=lanes)
        self._define(result, register, lanes, c)

    def _call(self, statement: k.Call, c: _Context) -> None:
        """A branch past the function, which is called for one lane after the other."""
        e, dtype = self.e, statement.result.dtype
        name, text, declarations = _function(statement.function)
        for needed in (*declarations, text, '!0 = !{!"branch_weights", i32 1, i32 4096}'):
            e.declare(needed)
        operands = (statement.predicate, statement.operand, statement.otherwise)
        lanes = self._lanes(operands, c)
        predicate, x, otherwise = [self._read(operand, lanes, c) for operand in operands]
        type, element = instructions.register_type(dtype, lanes), instructions.element_type(dtype)
        any_lane = predicate
        if lanes > 1:
            bits = e.assign(f"bitcast <{lanes} x i1> {predicate} to i{lanes}")
            any_lane = e.assign(f"icmp ne i{lanes} {bits}, 0")
        before = e.block
        seldom, after = e.labels("seldom", "after")
        e.do(f"br i1 {any_lane}, label %{seldom}, label %{after}, !prof !0")
        e.begin(seldom)
        if lanes == 1:
            result = e.assign(f"call {element} @{name}({element} {x})")
        else:
            table, results = e.stack(element, lanes), e.stack(element, lanes)
            e.do(f"store {type} {x}, ptr {table}")
            e.do(f"store {type} {otherwise}, ptr {results}")
            with e.loop("0", str(lanes), "1") as steps:
                bit = e.assign(f"extractelement <{lanes} x i1> {predicate}, i64 {steps.index}")
                with e.when(bit):
                    at = e.assign(f"getelementptr {element}, ptr {table}, i64 {steps.index}")
                    value = e.assign(f"call {element} @{name}({element} {e.assign(f'load {element}, ptr {at}')})")
                    at = e.assign(f"getelementptr {element}, ptr {results}, i64 {steps.index}")
                    e.do(f"store {element} {value}, ptr {at}")
            result = e.assign(f"load {type}, ptr {results}")
        last = e.block
        e.do(f"br label %{after}")
        e.begin(after)
        result = e.assign(f"phi {type} [ {otherwise}, %{before} ], [ {result}, %{last} ]")
        self._define(statement.result, result, lanes, c)

    def _index(self, statement: k.Index, c: _Context) -> None:
        position = c.axes[statement.axis]
        if statement.axis != c.vector_axis or c.lanes == 1:
            self._define(statement.result, position, 1, c)
            return
        counts = ", ".join(f"i64 {lane}" for lane in range(c.lanes))
        register = self.e.assign(f"add <{c.lanes} x i64> {self.e.splat(position, int64, c.lanes)}, <{counts}>")
        self._define(statement.result, register, c.lanes, c)

    # Memory -----------------------------------------------------------------------------------------

    def _enter(self, c: _Context, body: Sequence[k.Statement]) -> None:
        """Before a loop: advance the pointers of all accesses inside by the axes that are open."""
        for statement in k.walk(body):
            if isinstance(statement, k.Load | k.Store):
                pointer, included = c.pointers.get(id(statement), (f"%{statement.buffer}", frozenset[str]()))
                at = statement.address
                offset = _text(at.offset) if id(statement) not in c.pointers else "0"
                ready = [axis for axis in at.terms if axis in c.axes and axis not in included]
                for axis in ready:
                    offset = self.e.add(offset, self.e.mul(c.axes[axis], _text(at.terms[axis])))
                if offset != "0":
                    pointer = self._advance(pointer, statement.buffer, offset)
                c.pointers[id(statement)] = pointer, included | set(ready)

    def _advance(self, pointer: str, buffer: str, offset: str) -> str:
        type = instructions.memory_type(self.dtypes[buffer])
        return self.e.assign(f"getelementptr {type}, ptr {pointer}, i64 {offset}")

    def _pointer(self, statement: k.Load | k.Store, c: _Context) -> tuple[str, str | None]:
        """The pointer of an access, and the vector of element offsets to add where lanes are not neighbours."""
        pointer, included = c.pointers[id(statement)]
        at, e = statement.address, self.e
        offset = "0"
        for axis, stride in at.terms.items():
            if axis not in included:
                offset = e.add(offset, e.mul(c.axes[axis], _text(stride)))
        vectors: list[str] = []
        for scalar, stride in at.dynamic:
            lanes = self._lanes([scalar], c)
            register = self._read(scalar, lanes, c)
            if lanes == 1:
                offset = e.add(offset, e.mul(register, _text(stride)))
            elif stride == 1:
                vectors.append(register)
            else:
                vectors.append(e.assign(f"mul <{lanes} x i64> {register}, {e.splat(_text(stride), int64, lanes)}"))
        lane_stride = at.terms.get(c.vector_axis or "", 0) if c.lanes > 1 else 0
        if lane_stride != 0 and (vectors or lane_stride != 1):
            counts = f"<{', '.join(f'i64 {lane}' for lane in range(c.lanes))}>"
            step = e.splat(_text(lane_stride), int64, c.lanes)
            vectors.append(e.assign(f"mul <{c.lanes} x i64> {counts}, {step}"))
        if offset != "0":
            pointer = self._advance(pointer, statement.buffer, offset)
        while len(vectors) > 1:
            vectors[:2] = [e.assign(f"add <{c.lanes} x i64> {vectors[0]}, {vectors[1]}")]
        return pointer, vectors[0] if vectors else None

    def _is_vector(self, statement: k.Load | k.Store, c: _Context) -> bool:
        if c.lanes == 1:
            return False
        strides = statement.address.terms.get(c.vector_axis or "", 0)
        return strides != 0 or self._lanes([scalar for scalar, _ in statement.address.dynamic], c) > 1

    def _load(self, statement: k.Load, c: _Context) -> tuple[str, int]:
        e, dtype = self.e, statement.result.dtype
        lanes = c.lanes if self._is_vector(statement, c) else 1
        type = _memory_vector(dtype, lanes)
        align = dtype.itemsize
        tile = c.tiles.get(id(statement))
        pointer, offsets = self._pointer(statement, c) if tile is None else (tile, None)
        if tile is not None:
            register = e.assign(f"load {type}, ptr {tile}, align {align * lanes}")
        elif offsets is not None:
            addresses = e.assign(
                f"getelementptr {instructions.memory_type(dtype)}, ptr {pointer}, <{lanes} x i64> {offsets}"
            )
            suffix = f"{_memory_overload(dtype, lanes)}.v{lanes}p0"
            e.declare(f"declare {type} @llvm.masked.gather.{suffix}(<{lanes} x ptr>, i32, <{lanes} x i1>, {type})")
            mask = c.mask or "splat (i1 true)"
            register = e.assign(
                f"call {type} @llvm.masked.gather.{suffix}(<{lanes} x ptr> {addresses}, i32 {align}, "
                f"<{lanes} x i1> {mask}, {type} zeroinitializer)"
            )
        elif lanes > 1 and c.mask is not None:
            suffix = f"{_memory_overload(dtype, lanes)}.p0"
            e.declare(f"declare {type} @llvm.masked.load.{suffix}(ptr, i32, <{lanes} x i1>, {type})")
            register = e.assign(
                f"call {type} @llvm.masked.load.{suffix}(ptr {pointer}, i32 {align}, <{lanes} x i1> {c.mask}, "
                f"{type} zeroinitializer)"
            )
        else:
            register = e.assign(f"load {type}, ptr {pointer}, align {align}")
        if dtype == bool_:
            zero = "0" if lanes == 1 else "zeroinitializer"
            register = e.assign(f"icmp ne {type} {register}, {zero}")
        return register, lanes

    def _store(self, statement: k.Store, c: _Context) -> None:
        e, dtype = self.e, self.dtypes[statement.buffer]
        lanes = c.lanes if self._is_vector(statement, c) else 1
        assert lanes == 1 or not (
            statement.accumulate and self._lanes([s for s, _ in statement.address.dynamic], c) > 1
        )
        value = self._read(statement.value, lanes, c)
        if statement.accumulate:
            old, _ = self._load(_load_of(statement, dtype, c), c)
            value = instructions.INSTRUCTIONS["add"](e, old, value, dtype=dtype, lanes=lanes)
        pointer, offsets = self._pointer(statement, c)
        type = _memory_vector(dtype, lanes)
        if dtype == bool_:
            value = e.assign(f"zext {instructions.register_type(dtype, lanes)} {value} to {type}")
        align = dtype.itemsize
        if offsets is not None:
            addresses = e.assign(
                f"getelementptr {instructions.memory_type(dtype)}, ptr {pointer}, <{lanes} x i64> {offsets}"
            )
            suffix = f"{_memory_overload(dtype, lanes)}.v{lanes}p0"
            e.declare(f"declare void @llvm.masked.scatter.{suffix}({type}, <{lanes} x ptr>, i32, <{lanes} x i1>)")
            mask = c.mask or "splat (i1 true)"
            e.do(
                f"call void @llvm.masked.scatter.{suffix}({type} {value}, <{lanes} x ptr> {addresses}, i32 {align}, "
                f"<{lanes} x i1> {mask})"
            )
        elif lanes > 1 and c.mask is not None:
            suffix = f"{_memory_overload(dtype, lanes)}.p0"
            e.declare(f"declare void @llvm.masked.store.{suffix}({type}, ptr, i32, <{lanes} x i1>)")
            e.do(
                f"call void @llvm.masked.store.{suffix}({type} {value}, ptr {pointer}, i32 {align}, "
                f"<{lanes} x i1> {c.mask})"
            )
        else:
            e.do(f"store {type} {value}, ptr {pointer}, align {align}")

    # Loops ------------------------------------------------------------------------------------------

    def _loop(self, loop: k.Loop, c: _Context) -> None:
        if loop is self.kernel.parallel_loop:
            start, stop = "%begin", "%end"
        else:
            start, stop = "0", _text(loop.extent)
        self._enter(c, loop.body)
        if "vector" in loop.kinds:
            self._vector_loop(loop, start, stop, c)
            return
        if loop.carries:
            self._carrying_loop(loop, [c])
            return
        if len(loop.body) == 1 and isinstance(loop.body[0], k.Loop) and loop.body[0].carries:
            self._loop_of_chains(loop, loop.body[0], start, stop, c)
            return
        across = _loads_across(loop)
        if across:
            self._tiled_loop(loop, across, start, stop, c)
            return
        with self.e.loop(start, stop, "1") as steps:
            inner = self._opened(c, loop.axis, steps.index)
            self._enter(inner, loop.body)
            self._block(loop.body, inner)

    def _loop_of_chains(self, loop: k.Loop, chain: k.Loop, start: str, stop: str, c: _Context) -> None:
        """Some chains of steps side by side: each step waits for the one before."""
        whole = self._whole_vectors(start, stop, CHAINS)
        with self.e.loop(start, whole, str(CHAINS)) as steps:
            rows = [self.e.add(steps.index, number) for number in range(CHAINS)]
            self._carrying_loop(chain, [self._opened(c, loop.axis, row) for row in rows])
        with self.e.loop(whole, stop, "1") as steps:
            self._carrying_loop(chain, [self._opened(c, loop.axis, steps.index)])

    def _carrying_loop(self, loop: k.Loop, contexts: Sequence[_Context]) -> None:
        """A loop in order, for each of the contexts."""
        carried = []
        for c in contexts:
            self._enter(c, loop.body)
            for carry in loop.carries:
                dtype = carry.result.dtype
                initial = self._read(carry.initial, c.lanes, c)
                carried.append((instructions.register_type(dtype, c.lanes), initial))
        with self.e.loop("0", _text(loop.extent), "1", carried) as steps:
            registers = iter(steps.carried)
            for c in contexts:
                inner = self._opened(c, loop.axis, steps.index)
                for carry in loop.carries:
                    self._define(carry.result, next(registers), c.lanes, inner)
                self._block(loop.body, inner)
                steps.next += [self._read(carry.next, c.lanes, inner) for carry in loop.carries]
        left = iter(steps.carried)
        for c in contexts:
            for carry, register in zip(loop.carries, left, strict=False):
                if carry.last is not None:
                    self._define(carry.last, register, c.lanes, c)

    def _tiled_loop(self, loop: k.Loop, across: list[k.Load], start: str, stop: str, c: _Context) -> None:
        """Tiles of ``TILE`` rows by one vector of columns; what lies across them is transposed into a buffer first."""
        e, columns = self.e, loop.body[-1]
        assert isinstance(columns, k.Loop)
        lanes, extent = VECTOR_LANES, _text(columns.extent)
        buffers = [e.stack(_memory_vector(load.result.dtype, lanes), TILE) for load in across]

        def tile(row: str, stop_row: str, column: str, count: str, mask: str | None) -> None:
            corner = self._opened(self._opened(c, loop.axis, row), columns.axis, column)
            rows = e.sub(stop_row, row)
            for load, buffer in zip(across, buffers, strict=True):
                pointer, _ = self._pointer(load, corner)
                size = load.result.dtype.itemsize
                step = e.mul(_text(load.address.terms[columns.axis]), size)
                e.declare(transposition.function(size, lanes))
                e.do(
                    f"call void @{transposition.name(size)}(ptr {pointer}, i64 {step}, i64 {count}, i64 {rows}, "
                    f"ptr {buffer})"
                )
            with e.loop(row, stop_row, "1") as steps:
                inner = self._opened(c, loop.axis, steps.index)
                for statement in loop.body[:-1]:
                    self._block([statement], inner)
                inner = self._opened(inner, columns.axis, column, lanes, mask)
                inner.tiles = {}
                for load, buffer in zip(across, buffers, strict=True):
                    type = _memory_vector(load.result.dtype, lanes)
                    at = e.sub(steps.index, row)
                    inner.tiles[id(load)] = e.assign(f"getelementptr {type}, ptr {buffer}, i64 {at}")
                self._block(columns.body, inner)

        whole = self._whole_vectors("0", extent, lanes)
        with e.loop(start, stop, str(TILE)) as rows:
            stop_row = e.min(e.add(rows.index, str(TILE)), stop)
            with e.loop("0", whole, str(lanes)) as steps:
                tile(rows.index, stop_row, steps.index, str(lanes), None)
            with e.when(e.compare("slt", whole, extent)):
                tile(rows.index, stop_row, whole, e.sub(extent, whole), self._mask(whole, extent, lanes))

    def _opened(self, c: _Context, axis: str, position: str, lanes: int = 0, mask: str | None = None) -> _Context:
        """The scope inside a loop; ``lanes`` where the loop is the vector's."""
        inner = c.inner()
        inner.axes[axis] = position
        if lanes:
            inner.lanes, inner.vector_axis, inner.mask = lanes, axis, mask
        return inner

    def _vector_loop(self, loop: k.Loop, start: str, stop: str, c: _Context) -> None:
        def body(position: str, lanes: int, mask: str | None) -> None:
            inner = self._opened(c, loop.axis, position, lanes, mask)
            self._enter(inner, loop.body)
            self._block(loop.body, inner)

        reductions = [statement for statement in loop.body if isinstance(statement, k.Reduce)]
        chains = [statement for statement in loop.body if isinstance(statement, k.Loop) and statement.carries]
        extent = loop.extent if start == "0" else None
        if reductions and not isinstance(extent, int) and _only_adds_up(loop.body):
            lanes = WIDE_BYTES // reductions[0].combinations[0].result.dtype.itemsize
            whole = self._whole_vectors(start, stop, lanes)
            with self.e.loop(start, whole, str(lanes)) as steps:
                body(steps.index, lanes, None)
            start = whole
        lanes = COLUMN_LANES if reductions else _lanes_of_chains(loop, chains) if chains else VECTOR_LANES
        self._vector_steps(start, stop, extent, lanes, body)

    def _vector_steps(
        self, start: str, stop: str, extent: k.Extent | None, lanes: int, body: Callable[[str, int, str | None], None]
    ) -> None:
        """Whole vectors first, then one step with a mask for the rest."""
        e = self.e
        if isinstance(extent, int) and extent <= lanes:
            width = _power_of_two(extent)
            body(start, width, None if width == extent or width == 1 else _leading_lanes(extent, width))
            return
        whole = self._whole_vectors(start, stop, lanes)
        with e.loop(start, whole, str(lanes)) as steps:
            body(steps.index, lanes, None)
        if lanes > COLUMN_LANES:  # side by side as far as that costs nothing
            with e.loop(whole, stop, str(COLUMN_LANES)) as steps:
                body(steps.index, COLUMN_LANES, self._mask(steps.index, stop, COLUMN_LANES))
            return
        with e.when(e.compare("slt", whole, stop)):
            body(whole, lanes, self._mask(whole, stop, lanes))

    def _whole_vectors(self, start: str, stop: str, lanes: int) -> str:
        """Where the last whole vector ends."""
        count = stop if start == "0" else self.e.assign(f"sub i64 {stop}, {start}")
        return self.e.add(start, self.e.assign(f"and i64 {count}, {-lanes}"))

    def _mask(self, start: str, stop: str, lanes: int) -> str:
        left = self.e.splat(self.e.assign(f"sub i64 {stop}, {start}"), int64, lanes)
        counts = ", ".join(f"i64 {lane}" for lane in range(lanes))
        return self.e.assign(f"icmp slt <{lanes} x i64> <{counts}>, {left}")

    # Reductions -------------------------------------------------------------------------------------

    def _reduce(self, reduce: k.Reduce, c: _Context) -> None:
        self._enter(c, reduce.body)
        if reduce.block is not None:
            start = self.e.mul(c.axes[reduce.block], str(BLOCK))
            stop = self.e.min(self.e.add(start, str(BLOCK)), _text(reduce.extent))
            results = self._one_block(reduce, start, stop, None, c)
        elif reduce.one_block or not self._ordered(reduce):
            results = self._one_block(reduce, "0", _text(reduce.extent), reduce.extent, c)
        else:
            results = self._blocks(reduce, c)
        lanes = 1 if reduce.vector else c.lanes
        for combination, register in zip(reduce.combinations, results, strict=True):
            self._define(combination.result, register, lanes, c)

    def _ordered(self, reduce: k.Reduce) -> bool:
        """Whether the order matters: sums and products of floats."""
        return any(c.combine in ("add", "multiply") and is_floating(c.result.dtype) for c in reduce.combinations)

    def _one_block(self, reduce: k.Reduce, start: str, stop: str, extent: k.Extent | None, c: _Context) -> list[str]:
        if reduce.vector:
            return self._row_block(reduce, start, stop, extent, c)
        return self._column_block(reduce, start, stop, c)

    def _blocks(self, reduce: k.Reduce, c: _Context) -> list[str]:
        """More than one block: the blocks' results go to the lanes in turn, as elements do."""
        e = self.e
        lanes = 1 if reduce.vector else c.lanes
        tables = [self._table(combination, lanes) for combination in reduce.combinations]
        extent = _text(reduce.extent)
        with e.loop("0", extent, str(BLOCK)) as steps:
            start = steps.index
            stop = e.min(e.add(start, str(BLOCK)), extent)
            results = self._one_block(reduce, start, stop, None, c)
            slot = e.assign(f"and i64 {e.assign(f'udiv i64 {start}, {BLOCK}')}, {LANES - 1}")
            for combination, table, value in zip(reduce.combinations, tables, results, strict=True):
                self._combine_into(combination, table, slot, value, lanes)
        return [
            self._fold_table(combination, table, lanes)
            for combination, table in zip(reduce.combinations, tables, strict=True)
        ]

    def _row_block(self, reduce: k.Reduce, start: str, stop: str, extent: k.Extent | None, c: _Context) -> list[str]:
        """The reduced axis is the vector's: one lane of the register for each lane of the order."""
        e = self.e

        def values(position: str, lanes: int, mask: str | None) -> list[str]:
            inner = self._opened(c, reduce.axis, position, lanes, mask)
            self._block(reduce.body, inner)
            registers = []
            for combination in reduce.combinations:
                register = self._read(combination.value, lanes, inner)
                if mask is not None:
                    dtype = combination.result.dtype
                    identity = e.constant(combination.identity.value, dtype, lanes)
                    register = instructions.select(e, mask, register, identity, dtype=dtype, lanes=lanes)
                registers.append(register)
            return registers

        if isinstance(extent, int) and extent <= LANES:  # lanes beyond hold the neutral element: leave them out
            width = _power_of_two(extent)
            mask = None if width == extent else _leading_lanes(extent, width)
            registers = values(start, width, mask)
            return [self._fold(c_, r, width) for c_, r in zip(reduce.combinations, registers, strict=True)]
        width = self._row_lanes(reduce)
        types = [instructions.register_type(x.result.dtype, width) for x in reduce.combinations]
        identities = [e.constant(x.identity.value, x.result.dtype, width) for x in reduce.combinations]
        whole = self._whole_vectors(start, stop, width)
        with e.loop(start, whole, str(width), list(zip(types, identities, strict=True))) as steps:
            found = values(steps.index, width, None)
            steps.next = [
                self._combine(combination, total, value, width)
                for combination, total, value in zip(reduce.combinations, steps.carried, found, strict=True)
            ]
        before = e.block
        rest, done = e.labels("rest", "done")
        e.do(f"br i1 {e.compare('slt', whole, stop)}, label %{rest}, label %{done}")
        e.begin(rest)
        found = values(whole, width, self._mask(whole, stop, width))
        masked = [
            self._combine(combination, total, value, width)
            for combination, total, value in zip(reduce.combinations, steps.carried, found, strict=True)
        ]
        last = e.block
        e.do(f"br label %{done}")
        e.begin(done)
        results = []
        for combination, type, total, value in zip(reduce.combinations, types, steps.carried, masked, strict=True):
            register = e.assign(f"phi {type} [ {total}, %{before} ], [ {value}, %{last} ]")
            results.append((combination, register))
        return [self._fold(combination, register, width) for combination, register in results]

    def _row_lanes(self, reduce: k.Reduce) -> int:
        """As many lanes as the order has; more where there is none and little is done: each step waits for the last."""
        size = max(combination.result.dtype.itemsize for combination in reduce.combinations)
        is_short = size > 1 and all(isinstance(statement, k.Load) for statement in reduce.body)
        return LANES if self._ordered(reduce) or not is_short else max(LANES, ROW_BYTES // size)

    def _column_block(self, reduce: k.Reduce, start: str, stop: str, c: _Context) -> list[str]:
        """The reduced axis is walked in order, with an outer axis in the vector's lanes."""
        e = self.e
        ordered = self._ordered(reduce)
        types = [instructions.register_type(x.result.dtype, c.lanes) for x in reduce.combinations]
        if ordered:
            tables = [self._table(combination, c.lanes) for combination in reduce.combinations]
            with e.loop(start, stop, "1") as steps:
                position = steps.index
                values = self._column_values(reduce, position, c)
                lane = position if start == "0" else e.assign(f"sub i64 {position}, {start}")
                slot = e.assign(f"and i64 {lane}, {LANES - 1}")
                for combination, table, value in zip(reduce.combinations, tables, values, strict=True):
                    self._combine_into(combination, table, slot, value, c.lanes)
            return [
                self._fold_table(combination, table, c.lanes)
                for combination, table in zip(reduce.combinations, tables, strict=True)
            ]
        identities = [e.constant(x.identity.value, x.result.dtype, c.lanes) for x in reduce.combinations]
        with e.loop(start, stop, "1", list(zip(types, identities, strict=True))) as steps:
            values = self._column_values(reduce, steps.index, c)
            steps.next = [
                self._combine(combination, total, value, c.lanes)
                for combination, total, value in zip(reduce.combinations, steps.carried, values, strict=True)
            ]
        return steps.carried

    def _column_values(self, reduce: k.Reduce, position: str, c: _Context) -> list[str]:
        inner = self._opened(c, reduce.axis, position)
        for statement in reduce.body:
            if isinstance(statement, k.Load) and statement.address.terms.get(reduce.axis) not in (None, 0, 1):
                self._prefetch(statement, reduce.axis, inner)
        self._block(reduce.body, inner)
        return [self._read(combination.value, c.lanes, inner) for combination in reduce.combinations]

    def _prefetch(self, load: k.Load, axis: str, c: _Context) -> None:
        """Ask for what a load wants some rows on: each lies on a page of its own, which no processor foresees."""
        e, size = self.e, load.result.dtype.itemsize
        if load.address.dynamic or load.address.terms.get(c.vector_axis or "", 0) != 1:
            return
        pointer, _ = self._pointer(load, c)
        ahead = e.mul(_text(load.address.terms[axis]), PREFETCHED_ROWS)
        pointer = self._advance(pointer, load.buffer, ahead)
        e.declare("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for byte in range(0, c.lanes * size, CACHE_LINE):
            e.do(f"call void @llvm.prefetch.p0(ptr {e.offset(pointer, byte)}, i32 0, i32 3, i32 1)")

    def _combine(self, combination: k.Combination, x: str, y: str, lanes: int) -> str:
        emit = instructions.INSTRUCTIONS[combination.combine]
        return emit(self.e, x, y, dtype=combination.result.dtype, lanes=lanes)

    def _fold(self, combination: k.Combination, register: str, lanes: int) -> str:
        """The lanes of a register combined in halves."""
        dtype = combination.result.dtype
        while lanes > 1:
            wide = instructions.register_type(dtype, lanes)
            half = lanes // 2
            if half == 1:
                low, high = [self.e.assign(f"extractelement {wide} {register}, i64 {lane}") for lane in (0, 1)]
                return self._combine(combination, low, high, 1)
            low, high = [
                self.e.assign(
                    f"shufflevector {wide} {register}, {wide} poison, "
                    f"<{half} x i32> <{', '.join(f'i32 {lane}' for lane in range(first, first + half))}>"
                )
                for first in (0, half)
            ]
            register = self._combine(combination, low, high, half)
            lanes = half
        return register

    # Lanes in memory: where there are more of them than registers ---------------------------------------

    def _table(self, combination: k.Combination, lanes: int) -> str:
        """A table of the order's lanes on the stack, filled with the neutral element."""
        dtype = combination.result.dtype
        type = instructions.register_type(dtype, lanes)
        table = self.e.stack(type, LANES)
        with self.e.loop("0", str(LANES), "1") as steps:
            pointer = self.e.assign(f"getelementptr {type}, ptr {table}, i64 {steps.index}")
            self.e.do(f"store {type} {self.e.constant(combination.identity.value, dtype, lanes)}, ptr {pointer}")
        return table

    def _combine_into(self, combination: k.Combination, table: str, slot: str, value: str, lanes: int) -> None:
        type = instructions.register_type(combination.result.dtype, lanes)
        pointer = self.e.assign(f"getelementptr {type}, ptr {table}, i64 {slot}")
        old = self.e.assign(f"load {type}, ptr {pointer}")
        self.e.do(f"store {type} {self._combine(combination, old, value, lanes)}, ptr {pointer}")

    def _fold_table(self, combination: k.Combination, table: str, lanes: int) -> str:
        e, dtype = self.e, combination.result.dtype
        if lanes == 1:
            type = instructions.register_type(dtype, LANES)
            return self._fold(combination, e.assign(f"load {type}, ptr {table}"), LANES)
        type = instructions.register_type(dtype, lanes)
        with e.loop("0", str(LANES.bit_length() - 1), "1") as levels:
            half = e.assign(f"lshr i64 {LANES // 2}, {levels.index}")
            with e.loop("0", half, "1") as steps:
                pointer = e.assign(f"getelementptr {type}, ptr {table}, i64 {e.add(steps.index, half)}")
                self._combine_into(combination, table, steps.index, e.assign(f"load {type}, ptr {pointer}"), lanes)
        return e.assign(f"load {type}, ptr {table}")


def _loads_across(loop: k.Loop) -> list[k.Load]:
    """The loads of a nest of two loops that are contiguous along the outer one and not along the vector's, if any.

    None where tiles would not do: where there are reductions or few columns.
    """
    columns = loop.body[-1] if loop.body else None
    if not isinstance(columns, k.Loop) or "vector" not in columns.kinds:
        return []
    if isinstance(columns.extent, int) and columns.extent < VECTOR_LANES:
        return []
    simple = k.Instruction | k.Index | k.Load
    if not all(isinstance(s, simple) for s in loop.body[:-1]):
        return []
    if not all(isinstance(s, simple | k.Store) for s in columns.body):
        return []
    return [
        s
        for s in columns.body
        if isinstance(s, k.Load)
        and s.imaginary is None
        and not s.address.dynamic
        and s.address.terms.get(loop.axis, 0) == 1
        and s.address.terms.get(columns.axis, 0) not in (0, 1)
    ]


def _lanes_of_chains(loop: k.Loop, chains: Sequence[k.Loop]) -> int:
    """How many elements to take side by side through chains of steps: as many as fit into registers."""
    live = max(map(_most_alive, chains)) + sum(isinstance(s, k.Load | k.Instruction) for s in loop.body)
    width = max((carry.result.dtype.itemsize for chain in chains for carry in chain.carries), default=4)
    lanes = CHAIN_LANES
    while lanes > VECTOR_LANES and lanes * live * width > REGISTER_BYTES:
        lanes //= 2
    return lanes


def _most_alive(chain: k.Loop) -> int:
    """How many values of a step are needed at once."""
    last: dict[int, int] = {}
    for number, statement in enumerate(chain.body):
        last.update((id(operand), number) for operand in _operands(statement))
    last.update((id(carry.next), len(chain.body)) for carry in chain.carries)
    alive = {id(carry.result) for carry in chain.carries}
    most = len(alive)
    for number, statement in enumerate(chain.body):
        result = getattr(statement, "result", None)
        alive = {scalar for scalar in alive if last.get(scalar, -1) > number}
        if result is not None:
            alive.add(id(result))
        most = max(most, len(alive))
    return most


def _operands(statement: k.Statement) -> tuple[k.Operand, ...]:
    match statement:
        case k.Instruction():
            return statement.operands
        case k.Call():
            return statement.predicate, statement.operand, statement.otherwise
        case k.Store():
            return (statement.value,)
    return ()


def _only_adds_up(statements: Sequence[k.Statement]) -> bool:
    """Whether a loop reduces one column of numbers in memory for each lane and does little else."""
    reductions = [statement for statement in statements if isinstance(statement, k.Reduce)]
    if len(reductions) != 1 or len(statements) > MOST_BESIDES + 1:
        return False
    (reduction,) = reductions
    is_simple = len(reduction.combinations) == 1 and all(isinstance(statement, k.Load) for statement in reduction.body)
    return is_simple and reduction.combinations[0].result.dtype.itemsize >= 4


def _text(extent: k.Extent) -> str:
    return str(extent) if isinstance(extent, int) else f"%{extent}"


def _memory_vector(dtype: DType, lanes: int) -> str:
    type = instructions.memory_type(dtype)
    return type if lanes == 1 else f"<{lanes} x {type}>"


def _memory_overload(dtype: DType, lanes: int) -> str:
    return f"v{lanes}i8" if dtype == bool_ else instructions.overload(dtype, lanes)


def _power_of_two(extent: int) -> int:
    return 1 << max(0, extent - 1).bit_length()


def _leading_lanes(count: int, lanes: int) -> str:
    """A constant mask: the first ``count`` lanes."""
    return f"<{', '.join(f'i1 {str(lane < count).lower()}' for lane in range(lanes))}>"


def _load_of(store: k.Store, dtype: DType, c: _Context) -> k.Load:
    """The load of the element that a store writes."""
    load = k.Load(store.buffer, store.address, k.Scalar(dtype))
    c.pointers[id(load)] = c.pointers[id(store)]
    return load
