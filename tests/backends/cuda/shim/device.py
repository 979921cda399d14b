"""``device="gpusim"``: tensors in guarded, poisoned memory, on which CUDA kernels run by the shim.

Each launch runs in several orders of its threads, from the same memory, and must write the same bits in each.
"""

from __future__ import annotations

import bisect
import hashlib
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tracejit.backends import devices
from tracejit.backends.cuda import codegen
from tracejit.backends.cuda.codegen import Entry
from tracejit.backends.devices import Copy, Launch, Product, Work
from tracejit.backends.products import DotCall, Matrices
from tracejit.ir.types import DType

from .shim import Guarded, Module, Order, ShimError


class ShimArray:
    """An array that only the device can read, as a GPU's would be."""

    __array_ufunc__ = None

    def __init__(
        self, memory: Guarded, offset: int, shape: tuple[int, ...], dtype: DType, strides: tuple[int, ...]
    ) -> None:
        self.memory, self.offset = memory, offset
        self.shape, self.dtype, self.strides = shape, dtype, strides

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("a simulated GPU's array is no NumPy array")

    def __bool__(self) -> bool:
        raise TypeError("a simulated GPU's array is no Python number")

    @property
    def inside(self) -> np.ndarray:
        """The elements, for the device alone."""
        return np.ndarray(self.shape, self.dtype, self.memory.bytes, self.offset, self.strides)


class ShimDevice(devices.Device):
    """One of them, ``"gpusim:0"``; ``folder`` keeps the compiled kernels."""

    name = "gpusim:0"
    array_class = ShimArray
    keeps_memory = False
    orders: Sequence[Order] = tuple(Order)
    folder: Path | None = None
    launches = 0  # made so far

    def __init__(self) -> None:
        self._modules: dict[str, Module] = {}  # by function
        self._starts: list[int] = []
        self._memory: weakref.WeakValueDictionary[int, Guarded] = weakref.WeakValueDictionary()

    @classmethod
    def of(cls, array: Any) -> ShimDevice:
        return device

    # Memory -----------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: DType) -> ShimArray:
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = Guarded(nbytes, multiple=devices.ALIGNMENT)
        self._memory[memory.address] = memory
        bisect.insort(self._starts, memory.address)
        weakref.finalize(memory, self._starts.remove, memory.address).atexit = False
        return ShimArray(memory, 0, shape, dtype, devices.row_major(shape, dtype.itemsize))

    def address(self, array: Any) -> int:
        return int(array.memory.address + array.offset)

    def strides(self, array: Any) -> tuple[int, ...]:
        return tuple(array.strides)

    def view(self, array: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> ShimArray:
        return ShimArray(array.memory, array.offset + offset, shape, array.dtype, strides)

    def copied(self, array: Any) -> ShimArray:
        made = self.empty(array.shape, array.dtype)
        made.inside[...] = array.inside
        return made

    def memory_of(self, address: int) -> Any:
        """The piece of memory that begins there or before; ``None`` where there is none."""
        position = bisect.bisect_right(self._starts, address) - 1
        return self._memory.get(self._starts[position]) if position >= 0 else None

    def _memory_at(self, address: int, nbytes: int) -> np.ndarray:
        """The bytes there; the test fails if they are not a device's."""
        memory = self.memory_of(address)
        if memory is None or address + nbytes > memory.address + memory.bytes.size:
            raise ShimError(f"{nbytes} bytes at {address:#x} are not in one piece of the device's memory")
        start = address - memory.address
        return memory.bytes[start : start + nbytes]

    def write(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        self._memory_at(address, array.nbytes)[...] = array.reshape(-1).view(np.uint8)

    def read(self, address: int, nbytes: int) -> np.ndarray:
        return self._memory_at(address, nbytes).copy()

    def copy(self, target: int, source: int, nbytes: int) -> None:
        if nbytes:
            assert target + nbytes <= source or source + nbytes <= target
            self._memory_at(target, nbytes)[...] = self._memory_at(source, nbytes)

    # Work -------------------------------------------------------------------------------------------

    def load(self, entries: Sequence[Entry]) -> Mapping[str, Any]:
        missing = {entry.name: entry for entry in entries if entry.name not in self._modules}
        if missing:
            if self.folder is None:
                self.folder = Path(tempfile.mkdtemp(prefix="tracejit-shim-"))
            self._modules.update(_modules(list(missing.values()), self.folder))
        return self._modules

    def runner(self, work: Sequence[Work]) -> Callable[[], None]:
        items = list(work)

        def run() -> None:
            for item in items:
                values = [item.words[slot] for slot in item.slots]
                match item:
                    case Launch():
                        self._launch(item, values)
                    case Product(call):
                        self._dot(call, values)
                    case Copy(nbytes):
                        self.copy(values[0], values[1], nbytes)

        return run

    def _launch(self, launch: Launch, values: list[int]) -> None:
        entry = launch.entry
        own = len(entry.kernel.buffers) + len(entry.kernel.parameters)  # what follows is memory that blocks share
        sets = [values[first : first + own] for first in range(0, own * max(1, len(launch.ends)), own)]
        buffers = entry.kernel.buffers
        written = [value for one in sets for buffer, value in zip(buffers, one, strict=False) if buffer.written]
        written += values[own * len(sets) :][:2]  # then there may be numbers
        arguments = [launch.table().tobytes()] if launch.ends else values
        memory = {id(m): m for m in (self._memory_of(address) for address in written)}
        before = [m.bytes.copy() for m in memory.values()]
        first: list[np.ndarray] = []
        self.launches += 1
        for order in self.orders:
            for m, old in zip(memory.values(), before, strict=True):
                m.bytes[...] = old
            most = launch.grid if launch.ends else MOST_BLOCKS[order]
            launch.function.launch(entry, min(launch.grid, most), arguments, order)
            now = [m.bytes.copy() for m in memory.values()]
            if first and not all(np.array_equal(a, b) for a, b in zip(first, now, strict=True)):
                raise ShimError(f"{entry.name}: what it writes depends on the order of the threads")
            first = first or now

    def _memory_of(self, address: int) -> Guarded:
        position = bisect.bisect_right(self._starts, address) - 1
        return self._memory[self._starts[position]]

    def _dot(self, call: DotCall, addresses: Sequence[int]) -> None:
        """By the CPU's kernels: the library's product has the bits of that order of summation."""
        from tracejit.backends.cpu import runtime
        from tracejit.ir.primitives.contraction import dot

        places = dict(zip(("lhs", "rhs", "out", "addend"), addresses, strict=False))
        lhs = self._matrices(call, call.lhs, places["lhs"], call.m, call.k)
        rhs = self._matrices(call, call.rhs, places["rhs"], call.k, call.n)
        found = runtime.evaluate(dot, [np.ascontiguousarray(lhs), np.ascontiguousarray(rhs)], {})
        if call.addend is not None:
            found = found + self._matrices(call, call.addend, places["addend"], call.m, call.n)
        self._matrices(call, call.out, places["out"], call.m, call.n)[...] = found

    def _matrices(self, call: DotCall, matrices: Matrices, address: int, rows: int, columns: int) -> np.ndarray:
        """Matrices in the device's memory."""
        shape = (call.batch // call.inner, call.inner, rows, columns)
        size = call.dtype.itemsize
        if 0 in shape:
            return np.empty(shape, call.dtype)
        steps = [(extent - 1) * stride for extent, stride in zip(shape, matrices.strides, strict=True)]
        first, last = sum(min(step, 0) for step in steps), sum(max(step, 0) for step in steps)
        memory = self._memory_at(address + (matrices.offset + first) * size, (last - first + 1) * size)
        return np.ndarray(shape, call.dtype, memory, -first * size, tuple(size * stride for stride in matrices.strides))


TOGETHER = 32  # functions of a module
MOST_BLOCKS = {Order.UP: 1 << 30, Order.DOWN: 1, Order.SHUFFLED: 3}


def _modules(entries: Sequence[Entry], folder: Path) -> dict[str, Module]:
    """A module for each function: those that were compiled before with others, the rest together."""
    found: dict[str, Module] = {}
    missing: dict[str, tuple[Entry, Path]] = {}
    known: dict[Path, Module] = {}
    for entry in entries:
        digest = hashlib.sha256((codegen.module_source([entry]) + Module.fingerprint()).encode()).hexdigest()[:20]
        note = folder / f"{entry.name}-{digest}.module"
        library = folder / note.read_text() if note.exists() else None
        if library is None or not library.exists():
            missing[entry.name] = entry, note
        else:
            found[entry.name] = known[library] = known.get(library) or Module.at(library)
    rest = list(missing.values())
    parts = [rest[first : first + TOGETHER] for first in range(0, len(rest), TOGETHER)]
    with ThreadPoolExecutor(2) as pool:
        sources = [codegen.module_source([entry for entry, _ in part]) for part in parts]
        for part, module in zip(parts, pool.map(lambda source: Module(source, folder), sources), strict=True):
            for entry, note in part:
                note.write_text(module.path.name)
                found[entry.name] = module
    return found


device = ShimDevice()
devices.register("gpusim", lambda number: device)
