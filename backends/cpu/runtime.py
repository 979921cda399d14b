"""Running programs: native code walks the list of calls, without returning to Python (see :mod:`.walker`).

It is handed the arrays themselves and takes their data pointers out of NumPy's array structure.
"""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir import Builder, Constant, Graph, Op, Primitive, TensorType, Value, type_of
from tracejit.ir.primitive import Contraction, Elementwise
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.types import HALF_DTYPES, KERNEL_DTYPES, Symbol, bfloat16, float32

from ..forking import once
from . import buffers, compiler, threads
from .recipe import Recipe

if TYPE_CHECKING:  # what programs are made with is loaded when one is made
    from ..program import DotCall, Program
    from .encoding import Encoding
    from .entry import Entry

CALLS_WORTH_AN_ENTRY = 2
WORK_WORTH_WAITING = 1 << 31  # multiplications in products: code that is not optimised takes longer for more


class _Runtime:
    """The native functions that every program uses; the thread pool is loaded by the first program that wants it.

    They are called through their cells, as kernels are: code that is compiled fully takes their place.
    """

    def __init__(self) -> None:
        self.run_cell, self._run_arrays_cell, self._reserve_cell = load_walker()
        word, pointer = ctypes.c_int64, ctypes.c_void_p
        self._program = ctypes.CFUNCTYPE(word, pointer, pointer, word, word, pointer, word, *[pointer] * 3)
        self._reservation = ctypes.CFUNCTYPE(None, pointer, word)
        self.callback = ctypes.CFUNCTYPE(word, word, pointer)(_called_back)
        self.callback_address = ctypes.cast(self.callback, pointer).value
        self.reads_arrays = _array_layout_is_known()
        self.workers = threads.most_threads()

    def run(self, *arguments: Any) -> int:
        return self._program(_held(self.run_cell))(*arguments)

    def run_arrays(self, *arguments: Any) -> int:
        return self._program(_held(self._run_arrays_cell))(*arguments)

    def reserve(self, cursor: int, nbytes: int) -> None:
        self._reservation(_held(self._reserve_cell))(cursor, nbytes)

    def run_interruptible(self, *arguments: Any) -> int:
        """``run_arrays`` for what may run for long, or calls Python: Ctrl-C stops it."""
        from .interrupts import interruptible

        assert self.callback_address is not None
        run = interruptible(self._run_arrays_cell, self.callback_address)
        return self.run_arrays(*arguments, self.callback_address) if run is None else run(*arguments)

    @once
    def pool(self) -> threads.ThreadPool:
        self.parallel_for_cell, worker_cell = load_pool()
        return threads.ThreadPool(_held(self.parallel_for_cell), _held(worker_cell))


def load_walker() -> list[int]:
    """Where the addresses of the walker's functions stand."""
    return compiler.load_module("walker", ["tj_run", "tj_run_arrays", "tj_reserve"], _walker_module)


def load_pool() -> list[int]:
    """Where the addresses of the thread pool's functions stand."""
    return compiler.load_module("pool", ["tj_parallel_for", "tj_pool_worker"], _pool_module)


def _held(cell: int) -> int:
    return ctypes.c_int64.from_address(cell).value


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


def _walker_module() -> str:
    from . import walker

    return walker.walker_module()


def _pool_module() -> str:
    return threads.pool_module(compiler.host_target())


def load_dot(call: DotCall, *, waits: bool) -> str:
    """Load the kernel of a matrix product; its name.  ``waits`` for it to be compiled fully."""
    from . import contraction

    dtype, target = call.dtype, compiler.host_target()
    name = contraction.name_of(call, target)
    compiler.load_module(
        name, [name], lambda: contraction.contraction_module(dtype, target, name), in_background=not waits, hot=True
    )
    return name


def _blockwise_kernel() -> str:
    """Load the kernel that takes blocks of rows through chains of kernels; its name."""
    from . import blockwise

    compiler.load_module(blockwise.NAME, [blockwise.NAME], blockwise.blockwise_module, hot=True)
    return blockwise.NAME


class Executable:
    """A program ready to run: call it with input arrays of the program's types, get the result arrays.

    Arrays that are results may be inputs or constants of the program: values are immutable, so they are shared.
    """

    def __init__(self, program: Program | Recipe) -> None:
        """Of a program; or of a recipe whose kernels are there."""
        self._host: tuple[Program, Encoding] | None = None
        if isinstance(program, Recipe):
            recipe = program
        else:
            wait = compiler.begin_kernels(program.kernels)
            from ..program import DotCall, walk
            from .encoding import Encoding

            work = sum(call.work for call in walk(program.calls) if isinstance(call, DotCall))
            dot_kernel = partial(load_dot, waits=work >= WORK_WORTH_WAITING)
            encoding = Encoding(program, dot_kernel, _blockwise_kernel, threads.most_threads())
            recipe = encoding.recipe()
            wait()
            if recipe.calls_python:
                self._host = program, encoding
        self._runtime = runtime()
        self.recipe = recipe
        self._workspace_bytes = recipe.arena_bytes + recipe.scratch_bytes * self._runtime.workers
        self._workspaces: list[np.ndarray] = []
        self._words = recipe.words_with(compiler.cells(recipe.kernels))
        self._growing = array("q", recipe.growing)
        pool = self._runtime.pool if recipe.is_parallel else None
        self._arguments = (
            recipe.frame_words,
            self._growing.buffer_info()[0],
            recipe.most_arguments,
            None if pool is None else pool.address,
            None if pool is None else self._runtime.parallel_for_cell,
        )
        self.results = recipe.results
        self._calls = 0
        self._entry: Entry | None = None

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._entry is None:
            self._calls += 1
            if self._calls >= CALLS_WORTH_AN_ENTRY:
                self.entry()
        if self._entry is not None:
            found = self._entry.call([*inputs])
            if found is not None:
                return found
        return self._call(inputs)

    def entry(self) -> Entry | None:
        """How native code calls the program; ``None`` as long as it cannot."""
        if self._entry is None and not self.recipe.calls_python:
            self._entry = self._make_entry()
        return self._entry

    def _make_entry(self) -> Entry | None:
        from . import entry  # which the first call does without

        frame_words, _, most_arguments, pool, parallel_for = self._arguments
        workspace = self._workspace()
        made = entry.make(
            entry.Plan(
                self._runtime.run_cell, self._words, frame_words, self._growing, most_arguments, pool or 0,
                parallel_for or 0, len(self.recipe.inputs), self.recipe.outputs, self.recipe.constants,
                workspace, self.results, self.recipe.work, self.recipe.runs_for_long,
            )
        )  # fmt: skip
        if made is None:
            self._workspaces.append(workspace)
        return made

    def _workspace(self) -> np.ndarray:
        """One that is not in use, or a new one."""
        try:
            return self._workspaces.pop()
        except IndexError:
            return buffers.aligned_bytes(self._workspace_bytes)

    def _call(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = [
            np.empty(shape, dtype) if nbytes < buffers.LARGE else buffers.empty(shape, dtype, nbytes)
            for shape, dtype, nbytes in self.recipe.outputs
        ]
        arrays = [*inputs, *outputs, *self.recipe.constants]
        workspace = self._workspace()
        arrays.append(workspace)
        if self._host is not None:
            run = _Run(self, *self._host, arrays)
            run.run()
            found = run.found
        else:
            self.run(arrays)
            found = {}
        # What is called once may never be called again, and an entry has a workspace of its own.
        if workspace.nbytes < buffers.LARGE or (self._entry is None and self._calls >= CALLS_WORTH_AN_ENTRY):
            self._workspaces.append(workspace)
        return [found[n] if n in found else arrays[p] for n, p in enumerate(self.results)]

    def run(self, arrays: list[np.ndarray]) -> None:
        """Run the program on its arrays; one that is not contiguous and aligned is replaced by a copy."""
        native = self._runtime
        code, count = self._words.buffer_info()[0], len(arrays)
        status = 1
        while status > 0 and native.reads_arrays:
            objects = array("Q", map(id, arrays))
            given = code, objects.buffer_info()[0], count, *self._arguments
            status = (
                native.run_interruptible(*given)
                if self.recipe.has_loops or self._host is not None
                else native.run_arrays(*given, None)
            )
            if status > 0:
                arrays[status - 1] = np.require(arrays[status - 1], requirements=("C", "A"))
        if not native.reads_arrays:
            arrays[:] = [np.require(a, requirements=("C", "A")) for a in arrays]
            pointers = array("Q", [a.ctypes.data for a in arrays])
            status = native.run(code, pointers.buffer_info()[0], count, *self._arguments, native.callback_address)
        if status < 0:
            error, _thread.error = _thread.error, None
            assert error is not None
            raise error


class _Thread(threading.local):
    """What a program that runs in this thread has to know when it calls Python."""

    run: _Run | None = None
    error: BaseException | None = None


_thread = _Thread()


def _called_back(number: int, frame: int) -> int:
    """What native code calls: for a call that Python makes, or (-1) to see whether it is to be interrupted."""
    try:
        if number >= 0:
            assert _thread.run is not None
            _thread.run.call(number, frame)
        return 0
    except BaseException as error:
        _thread.error = error
        return 1


class _Run:
    """One run of a program in which Python makes some of the calls."""

    def __init__(self, executable: Executable, program: Program, encoding: Encoding, arrays: list[np.ndarray]) -> None:
        self._executable, self._program, self._encoding, self._arrays = executable, program, encoding, arrays
        self.found: dict[int, np.ndarray] = {}  # results that lie in memory which is released at the end

    def run(self) -> None:
        outer, _thread.run = _thread.run, self
        try:
            self._executable.run(self._arrays)
        finally:
            _thread.run = outer

    def call(self, number: int, frame: int) -> None:
        code, program = self._encoding, self._program
        words = (ctypes.c_int64 * code.frame_words).from_address(frame)
        if number == len(code.host_calls):
            extents = {symbol: words[code.word(word)] for symbol, word in program.symbols.items()}
            for position, (place, result) in enumerate(zip(program.results, program.result_values, strict=True)):
                if place.space == "cursor":
                    self.found[position] = self._array(result, words, extents).copy()
            return
        call = code.host_calls[number]
        extents = {symbol: words[code.word(word)] for symbol, word in call.symbols.items()}
        sources = [self._array(value, words, extents) for value in call.sources]
        for value, found in zip(call.op.results, call.evaluate(sources, extents, evaluate), strict=True):
            if not value.type.is_static:
                cursor = ctypes.addressof(words) + 8 * code.position(value)[0]
                self._executable._runtime.reserve(cursor, found.nbytes)
            if not self._adopts(value, found, call.op, words):
                np.copyto(self._array(value, words, extents), found, casting="no")

    def _adopts(self, value: Value, found: np.ndarray, op: Op, words: Any) -> bool:
        """Whether a large array of its own becomes an output as it is, which saves a copy."""
        place = self._program.places[value]
        if place.space != "output" or found.nbytes < buffers.LARGE or not (found.flags.owndata and found.flags.carray):
            return False
        number = self._encoding.array_of(place)
        is_constant = any(isinstance(x, Constant) and np.may_share_memory(x.array, found) for x in op.operands)
        if is_constant or self._arrays[number].shape != found.shape:
            return False
        self._arrays[number], words[number] = found, found.ctypes.data
        return True

    def _array(self, value: Value, words: Any, extents: Mapping[Symbol, int]) -> np.ndarray:
        """A value's memory as an array."""
        code, place = self._encoding, self._program.places[value]
        shape = tuple([extents[dim] if isinstance(dim, Symbol) else dim for dim in value.shape])
        type = TensorType(value.dtype, shape)
        if place.space == "cursor":
            if not type.size:
                return np.empty(shape, type.dtype)
            word, start = code.position(value)
            memory = (ctypes.c_uint8 * type.nbytes).from_address(words[word] + start)
            return np.frombuffer(memoryview(memory), type.dtype).reshape(shape)
        holder = self._arrays[code.array_of(place)]
        if place.space == "arena":
            first = place.number + place.start
            return holder[first : first + type.nbytes].view(type.dtype).reshape(shape)
        first = place.start // type.dtype.itemsize
        return holder.reshape(-1)[first : first + type.size].reshape(shape)


# One primitive -------------------------------------------------------------------------------------------

ONE_OP_LIMIT = 4096
_one_op: dict[Any, Executable] = {}


def evaluate(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray:
    """One primitive on arrays: the eager path.

    NumPy's own result where IEEE 754 fixes it; else the compiled kernel of a graph with this one op, which
    gives the same bits as the op gives in any other program.
    """
    key = (primitive, *attributes.items(), *[a.dtype for a in arrays], *[a.shape for a in arrays])
    executable = _one_op.get(key)
    if executable is None:
        if not _runs_in_a_kernel(primitive, arrays, attributes):
            is_ours = isinstance(primitive, Elementwise | Contraction) and not primitive.exact
            if is_ours and _has_half(arrays):
                return _by_floats(primitive, arrays, attributes)
            if "regions" not in attributes:
                primitive.infer([type_of(array) for array in arrays], attributes)  # which compiling does, and refuses
            with np.errstate(all="ignore"):
                return primitive.evaluate(*arrays, **attributes)
        if len(_one_op) >= ONE_OP_LIMIT:
            _one_op.clear()  # the machine code stays: only plans are made again
        executable = _one_op[key] = one_op_executable(primitive, arrays, attributes)
    return executable(arrays)[0]


def _has_half(arrays: Sequence[np.ndarray]) -> bool:
    return any(a.dtype in HALF_DTYPES for a in arrays)


def _by_floats(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray:
    """What IEEE 754 does not fix, of halves: computed with the floats that they are, and rounded."""
    wide = [a.astype(float32) if a.dtype in HALF_DTYPES else a for a in arrays]
    result = primitive.infer([type_of(array) for array in arrays], attributes)
    with np.errstate(all="ignore"):
        return evaluate(primitive, wide, attributes).astype(result.dtype, copy=False)


def _runs_in_a_kernel(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> bool:
    if any(a.dtype.kind == "c" for a in arrays):
        from ..fusion import COMPLEX_KERNEL_DTYPES, takes_complex

        return takes_complex(primitive, attributes) and all(a.dtype in COMPLEX_KERNEL_DTYPES for a in arrays)
    if primitive is dot and all(a.dtype == bfloat16 for a in arrays):
        return compiler.host_target().multiplies_bfloat16
    is_wanted = primitive.is_slow_in_numpy or not primitive.exact
    return is_wanted and all(a.dtype in KERNEL_DTYPES for a in arrays)


def one_op_executable(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> Executable:
    from . import stored

    graph = Graph(primitive.name)
    builder = Builder(graph)
    operands = [builder.parameter(type_of(a)) for a in arrays]
    graph.results = [builder.apply(primitive, operands, attributes)]
    return stored.executable(graph, stored.ONE_OP, lambda: _one_op_program(graph))


def _one_op_program(graph: Graph) -> Program:
    from ..planning import plan

    return plan(graph, specialize=False)
