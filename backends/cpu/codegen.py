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

from tracejit.ir.types import DType, bool_, int64

from .. import kernel as k
from . import across, chains, instructions, pairs, reductions, strided, unrolling, windows
from .emitter import (
    VECTOR_LANES,
    Context,
    Emitter,
    extent_text,
    leading_lanes,
    memory_overload,
    memory_vector,
    power_of_two,
)

COLUMN_LANES = 64  # columns that are reduced side by side: whole stretches of a row, for the sake of memory


def kernel_function(kernel: k.Kernel) -> tuple[str, list[str]]:
    """A kernel's function, and the declarations that it needs."""
    return KernelEmitter(kernel).run()


@cache
def _function(function: k.Function) -> tuple[str, str, list[str]]:
    """A scalar function's name, its text, and the declarations that it needs."""
    emitter = KernelEmitter(k.Kernel([], [], []))
    e, context, parameter = emitter.e, Context(), function.parameter
    context.registers[id(parameter)] = "%x", 1
    emitter.block(function.body, context)
    e.do(f"ret {instructions.element_type(parameter.dtype)} {emitter.read(function.result, 1, context)}")
    type = instructions.element_type(parameter.dtype)
    head = f"define internal {type} @{function.name}({type} %x) cold noinline optnone nounwind {{"
    return function.name, "\n".join([head, "entry:", *e.lines, "}"]), list(e.declarations)


class KernelEmitter:
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
        context = Context()
        self.enter(context, self.kernel.body)
        self.block(self.kernel.body, context)
        e.do("ret void")
        head = f"define void @{self.kernel.name}(ptr %arguments, i64 %begin, i64 %end, i64 %worker) {{"
        return "\n".join([head, "entry:", *e.entry, *e.lines, "}"]), list(e.declarations)

    # Statements -------------------------------------------------------------------------------------

    def block(self, statements: Sequence[k.Statement], c: Context) -> None:
        for statement in statements:
            match statement:
                case k.Instruction():
                    self._instruction(statement, c)
                case k.Call():
                    self._call(statement, c)
                case k.Index():
                    self._index(statement, c)
                case k.Load(imaginary=None):
                    self.define(statement.result, *self._load(statement, c), c)
                case k.Load():
                    pairs.load(self, statement, c)
                case k.Store(imaginary=None):
                    self._store(statement, c)
                case k.Store():
                    pairs.store(self, statement, c)
                case k.Loop():
                    self._loop(statement, c)
                case k.Reduce():
                    reductions.reduce(self, statement, c)

    def define(self, scalar: k.Scalar, register: str, lanes: int, c: Context) -> None:
        c.registers[id(scalar)] = register, lanes

    def lanes(self, operands: Sequence[k.Operand], c: Context) -> int:
        return max((c.registers[id(o)][1] for o in operands if isinstance(o, k.Scalar)), default=1)

    def read(self, operand: k.Operand, lanes: int, c: Context) -> str:
        """An operand in a register of ``lanes`` lanes."""
        if isinstance(operand, k.Literal):
            return self.e.constant(operand.value, operand.dtype, lanes)
        register, has = c.registers[id(operand)]
        return register if has == lanes else self.e.splat(register, operand.dtype, lanes)

    def _instruction(self, statement: k.Instruction, c: Context) -> None:
        operands, result = statement.operands, statement.result
        lanes = self.lanes(operands, c)
        registers = [self.read(operand, lanes, c) for operand in operands]
        source = operands[0].dtype
        match statement.name:
            case "copy":
                register = self.read(operands[0], 1, c)
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
        self.define(result, register, lanes, c)

    def _call(self, statement: k.Call, c: Context) -> None:
        """A branch past the function, which is called for one lane after the other."""
        e, dtype = self.e, statement.result.dtype
        name, text, declarations = _function(statement.function)
        for needed in (*declarations, text, '!0 = !{!"branch_weights", i32 1, i32 4096}'):
            e.declare(needed)
        operands = (statement.predicate, statement.operand, statement.otherwise)
        lanes = self.lanes(operands, c)
        predicate, x, otherwise = [self.read(operand, lanes, c) for operand in operands]
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
        self.define(statement.result, result, lanes, c)

    def _index(self, statement: k.Index, c: Context) -> None:
        position = c.axes[statement.axis]
        if statement.axis != c.vector_axis or c.lanes == 1:
            self.define(statement.result, position, 1, c)
            return
        counts = ", ".join(f"i64 {lane}" for lane in range(c.lanes))
        register = self.e.assign(f"add <{c.lanes} x i64> {self.e.splat(position, int64, c.lanes)}, <{counts}>")
        self.define(statement.result, register, c.lanes, c)

    # Memory -----------------------------------------------------------------------------------------

    def enter(self, c: Context, body: Sequence[k.Statement]) -> None:
        """Before a loop: advance the pointers of all accesses inside by the axes that are open."""
        for statement in k.walk(body):
            if isinstance(statement, k.Load | k.Store):
                pointer, included = c.pointers.get(id(statement), (f"%{statement.buffer}", frozenset[str]()))
                at = statement.address
                is_first = id(statement) not in c.pointers
                offset = self.e.add(extent_text(at.offset), at.shift) if is_first else "0"
                ready = [axis for axis in at.terms if axis in c.axes and axis not in included]
                for axis in ready:
                    offset = self.e.add(offset, self.e.mul(c.axes[axis], extent_text(at.terms[axis])))
                if offset != "0":
                    pointer = self.advance(pointer, statement.buffer, offset)
                c.pointers[id(statement)] = pointer, included | set(ready)

    def advance(self, pointer: str, buffer: str, offset: str) -> str:
        type = instructions.memory_type(self.dtypes[buffer])
        return self.e.assign(f"getelementptr {type}, ptr {pointer}, i64 {offset}")

    def pointer(self, statement: k.Load | k.Store, c: Context) -> tuple[str, str | None]:
        """The pointer of an access, and the vector of element offsets to add where lanes are not neighbours."""
        pointer, included = c.pointers[id(statement)]
        at, e = statement.address, self.e
        offset = "0"
        for axis, stride in at.terms.items():
            if axis not in included:
                offset = e.add(offset, e.mul(c.axes[axis], extent_text(stride)))
        vectors: list[str] = []
        for scalar, stride in at.dynamic:
            lanes = self.lanes([scalar], c)
            register = self.read(scalar, lanes, c)
            if lanes == 1:
                offset = e.add(offset, e.mul(register, extent_text(stride)))
            elif stride == 1:
                vectors.append(register)
            else:
                vectors.append(
                    e.assign(f"mul <{lanes} x i64> {register}, {e.splat(extent_text(stride), int64, lanes)}")
                )
        lane_stride = at.terms.get(c.vector_axis or "", 0) if c.lanes > 1 else 0
        if lane_stride != 0 and (vectors or lane_stride != 1) and not self.short_stride(statement, c):
            counts = f"<{', '.join(f'i64 {lane}' for lane in range(c.lanes))}>"
            step = e.splat(extent_text(lane_stride), int64, c.lanes)
            vectors.append(e.assign(f"mul <{c.lanes} x i64> {counts}, {step}"))
        if offset != "0":
            pointer = self.advance(pointer, statement.buffer, offset)
        while len(vectors) > 1:
            vectors[:2] = [e.assign(f"add <{c.lanes} x i64> {vectors[0]}, {vectors[1]}")]
        return pointer, vectors[0] if vectors else None

    def is_vector(self, statement: k.Load | k.Store, c: Context) -> bool:
        if c.lanes == 1:
            return False
        strides = statement.address.terms.get(c.vector_axis or "", 0)
        return strides != 0 or self.lanes([scalar for scalar, _ in statement.address.dynamic], c) > 1

    def short_stride(self, statement: k.Load | k.Store, c: Context) -> int:
        """The distance of the lanes in memory, if it is one of :data:`.strided.STRIDES`; else 0."""
        stride = statement.address.terms.get(c.vector_axis or "", 0)
        if c.lanes == 1 or statement.imaginary is not None or stride not in strided.STRIDES:
            return 0
        return int(stride) if self.lanes([scalar for scalar, _ in statement.address.dynamic], c) == 1 else 0

    def _load(self, statement: k.Load, c: Context) -> tuple[str, int]:
        e, dtype = self.e, statement.result.dtype
        lanes = c.lanes if self.is_vector(statement, c) else 1
        type = memory_vector(dtype, lanes)
        align = dtype.itemsize
        tile, loaded = c.tiles.get(id(statement)), c.loaded.get(id(statement))
        pointer, offsets = self.pointer(statement, c) if tile is None and loaded is None else ("", None)
        if loaded is not None:
            register = loaded
        elif tile is not None:
            register = e.assign(f"load {type}, ptr {tile}, align {align * lanes}")
        elif stride := self.short_stride(statement, c):
            register = strided.load(e, dtype, pointer, lanes, c.mask, stride)
        elif offsets is not None:
            addresses = e.assign(
                f"getelementptr {instructions.memory_type(dtype)}, ptr {pointer}, <{lanes} x i64> {offsets}"
            )
            suffix = f"{memory_overload(dtype, lanes)}.v{lanes}p0"
            e.declare(f"declare {type} @llvm.masked.gather.{suffix}(<{lanes} x ptr>, i32, <{lanes} x i1>, {type})")
            mask = c.mask or "splat (i1 true)"
            register = e.assign(
                f"call {type} @llvm.masked.gather.{suffix}(<{lanes} x ptr> {addresses}, i32 {align}, "
                f"<{lanes} x i1> {mask}, {type} zeroinitializer)"
            )
        elif lanes > 1 and c.mask is not None:
            suffix = f"{memory_overload(dtype, lanes)}.p0"
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

    def _store(self, statement: k.Store, c: Context) -> None:
        e, dtype = self.e, self.dtypes[statement.buffer]
        lanes = c.lanes if self.is_vector(statement, c) else 1
        assert lanes == 1 or not (statement.accumulate and self.lanes([s for s, _ in statement.address.dynamic], c) > 1)
        value = self.read(statement.value, lanes, c)
        if statement.accumulate:
            old, _ = self._load(_load_of(statement, dtype, c), c)
            value = instructions.INSTRUCTIONS["add"](e, old, value, dtype=dtype, lanes=lanes)
        pointer, offsets = self.pointer(statement, c)
        type = memory_vector(dtype, lanes)
        if dtype == bool_:
            value = e.assign(f"zext {instructions.register_type(dtype, lanes)} {value} to {type}")
        align = dtype.itemsize
        if stride := self.short_stride(statement, c):
            strided.store(e, dtype, value, pointer, lanes, c.mask, stride)
        elif offsets is not None:
            addresses = e.assign(
                f"getelementptr {instructions.memory_type(dtype)}, ptr {pointer}, <{lanes} x i64> {offsets}"
            )
            suffix = f"{memory_overload(dtype, lanes)}.v{lanes}p0"
            e.declare(f"declare void @llvm.masked.scatter.{suffix}({type}, <{lanes} x ptr>, i32, <{lanes} x i1>)")
            mask = c.mask or "splat (i1 true)"
            e.do(
                f"call void @llvm.masked.scatter.{suffix}({type} {value}, <{lanes} x ptr> {addresses}, i32 {align}, "
                f"<{lanes} x i1> {mask})"
            )
        elif lanes > 1 and c.mask is not None:
            suffix = f"{memory_overload(dtype, lanes)}.p0"
            e.declare(f"declare void @llvm.masked.store.{suffix}({type}, ptr, i32, <{lanes} x i1>)")
            e.do(
                f"call void @llvm.masked.store.{suffix}({type} {value}, ptr {pointer}, i32 {align}, "
                f"<{lanes} x i1> {c.mask})"
            )
        elif c.bypass:
            e.declare("!1 = !{i32 1}")
            e.do(f"store {type} {value}, ptr {pointer}, align {across.LINE_BYTES}, !nontemporal !1")
        else:
            e.do(f"store {type} {value}, ptr {pointer}, align {align}")

    # Loops ------------------------------------------------------------------------------------------

    def _loop(self, loop: k.Loop, c: Context) -> None:
        if loop is self.kernel.parallel_loop:
            start, stop = "%begin", "%end"
        else:
            start, stop = "0", extent_text(loop.extent)
        self.enter(c, loop.body)
        if "vector" in loop.kinds:
            self._vector_loop(loop, start, stop, c)
            return
        if loop.carries:
            chains.carrying_loop(self, loop, [c])
            return
        if len(loop.body) == 1 and isinstance(loop.body[0], k.Loop) and loop.body[0].carries:
            chains.loop_of_chains(self, loop, loop.body[0], start, stop, c)
            return
        loads = across.loads_across(loop)
        if loads:
            across.tiled_loop(self, loop, loads, start, stop, c)
            return
        with self.e.loop(start, stop, "1") as steps:
            inner = self.opened(c, loop.axis, steps.index)
            self.enter(inner, loop.body)
            self.block(loop.body, inner)

    def opened(self, c: Context, axis: str, position: str, lanes: int = 0, mask: str | None = None) -> Context:
        """The scope inside a loop; ``lanes`` where the loop is the vector's."""
        inner = c.inner()
        inner.axes[axis] = position
        if lanes:
            inner.lanes, inner.vector_axis, inner.mask = lanes, axis, mask
        return inner

    def _vector_loop(self, loop: k.Loop, start: str, stop: str, c: Context) -> None:
        def body(position: str, lanes: int, mask: str | None) -> None:
            inner = self.opened(c, loop.axis, position, lanes, mask)
            self.enter(inner, loop.body)
            self.block(loop.body, inner)

        if windows.of(loop):
            windows.loop_of_windows(self, loop, start, stop, c)
            return
        reduced = [statement for statement in loop.body if isinstance(statement, k.Reduce)]
        walked = [statement for statement in loop.body if isinstance(statement, k.Loop) and statement.carries]
        extent = loop.extent if start == "0" else None
        if reduced and not isinstance(extent, int) and reductions.only_adds_up(loop.body):
            lanes = reductions.WIDE_BYTES // reduced[0].combinations[0].result.dtype.itemsize
            whole = self.whole_vectors(start, stop, lanes)
            with self.e.loop(start, whole, str(lanes)) as steps:
                body(steps.index, lanes, None)
            start = whole
        lanes = (
            COLUMN_LANES if reduced else chains.lanes_of_chains(loop, walked) if walked else unrolling.map_lanes(loop)
        )
        rest = min(lanes, COLUMN_LANES if reduced or walked else VECTOR_LANES)
        self._vector_steps(start, stop, extent, lanes, rest, body)

    def _vector_steps(
        self, start: str, stop: str, extent: k.Extent | None, lanes: int, rest: int,
        body: Callable[[str, int, str | None], None],
    ) -> None:  # fmt: skip
        """Whole vectors first, then steps with a mask, of fewer lanes if that is enough for the ``rest``."""
        e = self.e
        if isinstance(extent, int) and extent <= lanes:
            width = power_of_two(extent)
            body(start, width, None if width == extent or width == 1 else leading_lanes(extent, width))
            return
        whole = self.whole_vectors(start, stop, lanes)
        with e.loop(start, whole, str(lanes)) as steps:
            body(steps.index, lanes, None)
        if lanes > rest:
            with e.loop(whole, stop, str(rest)) as steps:
                body(steps.index, rest, self.mask(steps.index, stop, rest))
            return
        with e.when(e.compare("slt", whole, stop)):
            body(whole, lanes, self.mask(whole, stop, lanes))

    def whole_vectors(self, start: str, stop: str, lanes: int) -> str:
        """Where the last whole vector ends."""
        count = stop if start == "0" else self.e.assign(f"sub i64 {stop}, {start}")
        return self.e.add(start, self.e.assign(f"and i64 {count}, {-lanes}"))

    def mask(self, start: str, stop: str, lanes: int) -> str:
        left = self.e.splat(self.e.assign(f"sub i64 {stop}, {start}"), int64, lanes)
        counts = ", ".join(f"i64 {lane}" for lane in range(lanes))
        return self.e.assign(f"icmp slt <{lanes} x i64> <{counts}>, {left}")


def _load_of(store: k.Store, dtype: DType, c: Context) -> k.Load:
    """The load of the element that a store writes."""
    load = k.Load(store.buffer, store.address, k.Scalar(dtype))
    c.pointers[id(load)] = c.pointers[id(store)]
    return load
