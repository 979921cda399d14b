"""Running programs: the list of kernel calls is walked by native code, without returning to Python.

A program's calls become one table of 64-bit words (:func:`_encode`); ``tj_run`` reads it, fills each kernel's
argument slots and calls the kernel, in one thread or split over the pool.  It is handed the arrays
themselves and takes their data pointers out of NumPy's array structure.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from tracejit.ir import Builder, Graph, Primitive, Value, type_of
from tracejit.ir.types import KERNEL_DTYPES, DType, short_name

from ..program import DotCall, HostCall, KernelCall, Program, plan
from . import buffers, compiler, contraction, threads
from .target import host_target

# One thread runs what takes less than about 20 µs; a chunk takes at least about 5 µs.
SERIAL_WORK = 1 << 18
CHUNK_WORK = 1 << 16

# Offsets in PyArrayObject_fields, fixed by NumPy's ABI: data, flags; the flags C_CONTIGUOUS and ALIGNED.
_RUNTIME = """
define i64 @tj_run(ptr %table, i64 %calls, ptr %pointers, i64 %most_arguments, ptr %pool, ptr %parallel_for) {
entry:
  %arguments = alloca i64, i64 %most_arguments, align 64
  br label %next
next:
  %call = phi i64 [ 0, %entry ], [ %call_after, %called ]
  %row = phi ptr [ %table, %entry ], [ %row_after, %called ]
  %more = icmp slt i64 %call, %calls
  br i1 %more, label %decode, label %done
decode:
  %cell = load ptr, ptr %row
  %kernel = load ptr, ptr %cell
  %extent_at = getelementptr i64, ptr %row, i64 1
  %extent = load i64, ptr %extent_at
  %grain_at = getelementptr i64, ptr %row, i64 2
  %grain = load i64, ptr %grain_at
  %count_at = getelementptr i64, ptr %row, i64 3
  %count = load i64, ptr %count_at
  %first = getelementptr i64, ptr %row, i64 4
  br label %argument
argument:
  %i = phi i64 [ 0, %decode ], [ %i_after, %stored ]
  %left = icmp slt i64 %i, %count
  br i1 %left, label %fill, label %call_kernel
fill:
  %pair = shl i64 %i, 1
  %which_at = getelementptr i64, ptr %first, i64 %pair
  %which = load i64, ptr %which_at
  %value_at = getelementptr i64, ptr %which_at, i64 1
  %value = load i64, ptr %value_at
  %is_pointer = icmp sge i64 %which, 0
  br i1 %is_pointer, label %pointer, label %stored
pointer:
  %base_at = getelementptr i64, ptr %pointers, i64 %which
  %base = load i64, ptr %base_at
  %address = add i64 %base, %value
  br label %stored
stored:
  %slot_value = phi i64 [ %value, %fill ], [ %address, %pointer ]
  %slot = getelementptr i64, ptr %arguments, i64 %i
  store i64 %slot_value, ptr %slot
  %i_after = add i64 %i, 1
  br label %argument
call_kernel:
  %is_serial = icmp eq i64 %grain, 0
  br i1 %is_serial, label %serial, label %parallel
serial:
  call void %kernel(ptr %arguments, i64 0, i64 %extent, i64 0)
  br label %called
parallel:
  call void %parallel_for(ptr %pool, ptr %kernel, ptr %arguments, i64 %extent, i64 %grain)
  br label %called
called:
  %words = shl i64 %count, 1
  %row_after = getelementptr i64, ptr %first, i64 %words
  %call_after = add i64 %call, 1
  br label %next
done:
  ret i64 0
}

define i64 @tj_run_arrays(ptr %table, i64 %calls, ptr %objects, i64 %count, i64 %most_arguments, ptr %pool,
                          ptr %parallel_for) {
entry:
  %pointers = alloca i64, i64 %count, align 64
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i_after, %usable ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %read, label %run
read:
  %object_at = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %object_at
  %data_at = getelementptr i8, ptr %object, i64 16
  %data = load i64, ptr %data_at
  %flags_at = getelementptr i8, ptr %object, i64 64
  %flags = load i32, ptr %flags_at
  %wanted = and i32 %flags, 257
  %good = icmp eq i32 %wanted, 257
  %i_after = add i64 %i, 1
  br i1 %good, label %usable, label %refuse
refuse:
  ret i64 %i_after
usable:
  %pointer_at = getelementptr i64, ptr %pointers, i64 %i
  store i64 %data, ptr %pointer_at
  br label %next
run:
  %status = call i64 @tj_run(ptr %table, i64 %calls, ptr %pointers, i64 %most_arguments, ptr %pool,
                          ptr %parallel_for)
  ret i64 %status
}
"""


class _Runtime:
    """The native functions that every program uses; the thread pool is loaded by the first program that wants it."""

    def __init__(self) -> None:
        names = ["tj_run", "tj_run_arrays"]
        run, run_arrays = _addresses(compiler.load_module("runtime", names, lambda: _RUNTIME, in_background=False))
        word, pointer = ctypes.c_int64, ctypes.c_void_p
        self.run = ctypes.CFUNCTYPE(word, pointer, word, pointer, word, pointer, pointer)(run)
        self.run_arrays = ctypes.CFUNCTYPE(word, pointer, word, pointer, word, word, pointer, pointer)(run_arrays)
        self.reads_arrays = _array_layout_is_known()
        self.workers = threads.available_processors()

    @cached_property
    def pool(self) -> threads.ThreadPool:
        names = ["tj_parallel_for", "tj_pool_worker"]
        text = threads.pool_module(host_target())
        parallel_for, worker = _addresses(compiler.load_module("pool", names, lambda: text, in_background=False))
        return threads.ThreadPool(parallel_for, worker, self.workers)


def _addresses(cells: list[int]) -> list[int]:
    return [ctypes.c_int64.from_address(cell).value for cell in cells]


def _array_layout_is_known() -> bool:
    """Whether data pointer and flags stand where NumPy's C header says (not so on other interpreters)."""
    samples = [np.arange(6.0), np.arange(6.0)[::2], np.zeros((2, 3)).T, np.empty(0)]
    try:
        return all(
            ctypes.c_uint64.from_address(id(a) + 16).value == a.ctypes.data
            and (ctypes.c_int32.from_address(id(a) + 64).value & 257 == 257)
            == (a.flags.c_contiguous and a.flags.aligned)
            for a in samples
        )
    except Exception:
        return False


@cache
def runtime() -> _Runtime:
    return _Runtime()


def _dot_kernel(dtype: DType) -> int:
    name = f"dot_{short_name(dtype)}"
    return compiler.load_module(name, [name], lambda: contraction.contraction_module(dtype, host_target()), hot=True)[0]


class Executable:
    """A program ready to run: call it with input arrays of the program's types, get the result arrays.

    Arrays that are results may be inputs or constants of the program: values are immutable, so they are shared.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._runtime = runtime()
        self._cells = compiler.compile_kernels(program.kernels)
        workers = self._runtime.workers
        per_worker = max(
            [
                contraction.scratch_bytes(call.dtype, host_target(), call.m, call.n, call.k)
                for call in program.calls
                if isinstance(call, DotCall)
            ],
            default=0,
        )
        self._workspace_bytes = program.arena_bytes + per_worker * workers
        self._workspaces: list[np.ndarray] = []
        first_output = len(program.inputs)
        first_constant = first_output + len(program.outputs)
        self._spaces = {
            "input": 0,
            "output": first_output,
            "constant": first_constant,
            "arena": first_constant + len(program.constants),
        }
        self._outputs = [(type.static_shape, type.dtype, type.nbytes) for type in program.outputs]
        self._most_arguments = 1
        self._is_parallel = False
        self._table = array("q")
        self._steps: list[tuple[int, int] | HostCall] = []  # (offset, count) of native calls, or NumPy
        self._encode_all(per_worker, workers)
        self._pool_arguments: tuple[int | None, int | None] = (None, None)
        if self._is_parallel:
            pool = self._runtime.pool
            self._pool_arguments = pool.address, pool.parallel_for_address
        self._results = [self._position(place.space, place.number) for place in program.results]

    def _position(self, space: str, number: int) -> int:
        """The array, among all that are passed, that holds a place."""
        return self._spaces[space] + (0 if space == "arena" else number)

    def _encode_all(self, per_worker: int, workers: int) -> None:
        """The native calls between calls of NumPy, each stretch a part of the table."""
        pending: list[KernelCall | DotCall] = []

        def flush() -> None:
            if pending:
                self._steps.append((len(self._table) * self._table.itemsize, len(pending)))
                self._table.extend(self._encode(pending, per_worker, workers))
                pending.clear()

        for call in self.program.calls:
            if isinstance(call, HostCall):
                flush()
                self._steps.append(call)
            else:
                pending.append(call)
        flush()

    def _encode(self, calls: Sequence[KernelCall | DotCall], per_worker: int, workers: int) -> list[int]:
        """Native calls as words.

        For each: where the kernel's address stands, the extent, the grain, how many arguments, and for each argument
        the array that it points into (or -1) with a byte offset (or its number).
        """
        program, words = self.program, []
        for call in calls:
            pairs: list[tuple[int, int]] = []
            for value in call.buffers:
                place = program.places[value]
                offset = place.number if place.space == "arena" else 0
                pairs.append((self._position(place.space, place.number), offset))
            if isinstance(call, KernelCall):
                pairs += [(-1, value) for value in call.parameters]
                kernel, extent = self._cells[call.kernel.name], call.extent
                grain = _grain(extent, call.work, workers)
            else:
                kernel = _dot_kernel(call.dtype)
                pairs = self._dot_arguments(call, pairs, per_worker)
                shape = (call.dtype, host_target(), call.batch, call.m, call.n, call.k)
                extent = contraction.parallel_units(*shape)
                grain = contraction.grain(*shape, workers) if call.work >= 16 * SERIAL_WORK and workers > 1 else 0
            self._most_arguments = max(self._most_arguments, len(pairs))
            self._is_parallel = self._is_parallel or grain > 0
            words += [kernel, extent, grain, len(pairs)]
            for pair in pairs:
                words += pair
        return words

    def _dot_arguments(self, call: DotCall, pairs: list[tuple[int, int]], per_worker: int) -> list[tuple[int, int]]:
        size = call.dtype.itemsize
        for number, operand in enumerate((call.lhs, call.rhs)):
            which, offset = pairs[number]
            pairs[number] = which, offset + operand.offset * size
        numbers = [call.batch, call.m, call.n, call.k, *call.lhs.strides, *call.rhs.strides]
        scratch = (self._spaces["arena"], self.program.arena_bytes)
        return [*pairs, *((-1, number) for number in numbers), scratch, (-1, per_worker)]

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = [
            np.empty(shape, dtype) if nbytes < buffers.LARGE else buffers.empty(shape, dtype, nbytes)
            for shape, dtype, nbytes in self._outputs
        ]
        arrays = [*inputs, *outputs, *self.program.constants]
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = buffers.aligned_bytes(self._workspace_bytes)
        arrays.append(workspace)
        table = self._table.buffer_info()[0]
        for step in self._steps:
            if isinstance(step, HostCall):
                self._run_host(step, arrays)
            else:
                self._run_native(table + step[0], step[1], arrays)
        self._workspaces.append(workspace)
        return [arrays[position] for position in self._results]

    def _run_native(self, table: int, count: int, arrays: list[np.ndarray]) -> None:
        native = self._runtime
        while native.reads_arrays:
            objects = array("Q", map(id, arrays))
            status = native.run_arrays(
                table, count, objects.buffer_info()[0], len(objects), self._most_arguments, *self._pool_arguments
            )
            if status == 0:
                return
            arrays[status - 1] = np.require(arrays[status - 1], requirements=("C", "A"))
        arrays[:] = [np.require(a, requirements=("C", "A")) for a in arrays]
        pointers = array("Q", [a.ctypes.data for a in arrays])
        native.run(table, count, pointers.buffer_info()[0], self._most_arguments, *self._pool_arguments)

    def _run_host(self, call: HostCall, arrays: list[np.ndarray]) -> None:
        sources = [self._array_of(value, arrays) for value in call.sources]
        np.copyto(self._array_of(call.out, arrays), call.evaluate(sources), casting="no")

    def _array_of(self, value: Value, arrays: list[np.ndarray]) -> np.ndarray:
        """A value's memory as an array."""
        place, type = self.program.places[value], value.type
        holder = arrays[self._position(place.space, place.number)]
        if place.space == "arena":
            return holder[place.number : place.number + type.nbytes].view(type.dtype).reshape(type.static_shape)
        return holder.reshape(type.static_shape)


def _grain(extent: int, work: int, workers: int) -> int:
    """Iterations of the parallel loop to hand out at a time; 0 runs them all in the calling thread."""
    if workers == 1 or extent < 2 or work < SERIAL_WORK:
        return 0
    per_iteration = max(1, work // extent)
    chunk = max(math.ceil(CHUNK_WORK / per_iteration), math.ceil(extent / (4 * workers)))
    return -(-chunk // 64) * 64 if chunk >= 64 else chunk


# One primitive -------------------------------------------------------------------------------------------

ONE_OP_LIMIT = 4096
_one_op: dict[Any, Executable] = {}


def evaluate(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray:
    """One primitive on arrays: the eager path.

    NumPy's own result where IEEE 754 fixes it; else the compiled kernel of a graph with this one op, which
    gives the same bits as the op gives in any other program.
    """
    if primitive.exact or any(a.dtype not in KERNEL_DTYPES for a in arrays):
        with np.errstate(all="ignore"):
            return primitive.evaluate(*arrays, **attributes)
    key = (primitive, tuple(attributes.items()), tuple([(a.dtype, a.shape) for a in arrays]))
    executable = _one_op.get(key)
    if executable is None:
        if len(_one_op) >= ONE_OP_LIMIT:
            _one_op.clear()  # the machine code stays: only plans are made again
        executable = _one_op[key] = one_op_executable(primitive, arrays, attributes)
    return executable(arrays)[0]


def one_op_executable(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Executable:
    graph = Graph(primitive.name)
    builder = Builder(graph)
    operands = [builder.parameter(type_of(a)) for a in arrays]
    graph.results = [builder.apply(primitive, operands, attributes)]
    return Executable(plan(graph, specialize=False))
