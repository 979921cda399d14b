"""GPUs, driven by CuPy: its arrays, its memory pool and streams, its loader and launcher of kernels.

This module and :mod:`.libraries` are the only ones that know CuPy or CUDA's libraries; neither imports them before a
GPU is asked for.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np

from tracejit.ir.types import DType, bfloat16, uint16

from ..devices import Copy, Device, Launch, Product, Work
from . import cubins
from .codegen import Entry
from .functions import FUNCTIONS, LINEAR
from .libraries import Products

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
SHARED_BYTES, MAX_DYNAMIC_SHARED_BYTES = 48 << 10, 8  # what a block has without asking; CU_FUNC_ATTRIBUTE_*
WORTH_A_GRAPH = 4  # launches: so many cost the host more than to look for their graph
MOST_GRAPHS = 4  # of one stretch of work, each for other addresses
MOST_MISSES = 32  # in a row, after which no more addresses are remembered


def why_unavailable() -> str:
    """What is missing for ``device="cuda"`` and what to do about it, empty where nothing is; never raises."""
    try:
        import cupy
    except ImportError as error:
        if error.name == "cupy":
            return "CuPy is not installed; pip install 'tracejit[cuda]'"
        return f"CuPy cannot be imported: {error}"
    except Exception as error:
        return f"CuPy cannot be imported: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy finds no usable NVIDIA driver ({error}); install or update it"
    return "" if count else "there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it"


class CupyDevice(Device):
    """One GPU.  Work goes to CuPy's current stream."""

    def __init__(self, number: int) -> None:
        self._cupy: Any = importlib.import_module("cupy")
        self._runtime: Any = self._cupy.cuda.runtime
        count = self._runtime.getDeviceCount()
        if number >= count:
            raise RuntimeError(f"device 'cuda:{number}' is not available: there are {count} CUDA devices")
        self.name, self.array_class = f"cuda:{number}", self._cupy.ndarray
        self._number, self._is_only = number, count == 1
        self._driver: Any = importlib.import_module("cupy_backends.cuda.api.driver")
        self._device: Any = self._cupy.cuda.Device(number)
        self.arch = f"sm_{self._device.compute_capability}"
        self._functions: dict[str, Any] = {}
        self._shared_bytes: dict[str, int] = {}  # that they have been allowed
        self._modules: dict[bytes, Any] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._products = Products(self)

    @classmethod
    @cache
    def numbered(cls, number: int) -> CupyDevice:
        """The GPU of that number."""
        return cls(number)

    @classmethod
    def of(cls, array: Any) -> CupyDevice:
        return cls.numbered(array.device.id)

    def _here(self) -> AbstractContextManager[Any]:
        """In which this GPU is CUDA's current one; a thread's first use of it makes CUDA's context the thread's own."""
        if not hasattr(self._thread, "is_ready"):
            before = self._runtime.getDevice()
            self._runtime.setDevice(self._number)
            self._thread.is_ready = True
            self._runtime.setDevice(before)
        return nullcontext() if self._is_only or self._runtime.getDevice() == self._number else self._device

    @property
    def stream(self) -> int:
        """The current stream's address."""
        return int(self._cupy.cuda.get_current_stream().ptr)

    # Memory -----------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: DType) -> Any:
        with self._here():
            return self._cupy.empty(shape, dtype)

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def strides(self, array: Any) -> tuple[int, ...]:
        return tuple(array.strides)

    def view(self, array: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        return self._cupy.ndarray(shape, array.dtype, memptr=array.data + offset, strides=strides)

    def copied(self, array: Any) -> Any:
        with self._here():
            if array.dtype != bfloat16:
                return array.copy(order="C")
            # As integers: CuPy's own kernels of bfloat16 need CUDA's headers.
            bits = self._cupy.ndarray(array.shape, uint16, memptr=array.data, strides=array.strides).copy(order="C")
            return self._cupy.ndarray(array.shape, bfloat16, memptr=bits.data)

    def write(self, address: int, array: np.ndarray) -> None:
        with self._here():
            self._runtime.memcpyAsync(address, array.ctypes.data, array.nbytes, HOST_TO_DEVICE, self.stream)

    def read(self, address: int, nbytes: int) -> np.ndarray:
        found = np.empty(nbytes, np.uint8)
        with self._here():
            stream = self.stream
            self._runtime.memcpyAsync(found.ctypes.data, address, nbytes, DEVICE_TO_HOST, stream)
            self._runtime.streamSynchronize(stream)
        return found

    def copy(self, target: int, source: int, nbytes: int) -> None:
        if nbytes:
            with self._here():
                self._runtime.memcpyAsync(target, source, nbytes, DEVICE_TO_DEVICE, self.stream)

    def function(self, name: str) -> Callable[..., Any] | None:
        found = FUNCTIONS.get(name)
        if found is None:
            return None

        def run(*arrays: Any, **attributes: Any) -> Any:
            checks = importlib.import_module("cupyx").errstate(linalg="raise") if name in LINEAR else nullcontext()
            with self._here(), checks:
                return found(self._cupy, *arrays, **attributes)

        return run

    def imported(self, item: Any, *, copy: bool) -> Any:
        with self._here():
            found = self._cupy.from_dlpack(item) if hasattr(item, "__dlpack__") else self._cupy.asarray(item)
            return self.copied(found) if copy else found

    # Work -------------------------------------------------------------------------------------------

    def load(self, entries: Sequence[Entry]) -> Mapping[str, Any]:
        with self._lock:
            missing = {entry.name: entry for entry in entries if entry.name not in self._functions}
            if missing:
                with self._here():
                    compiled = cubins.compile_entries(list(missing.values()), self.arch)
                    for name in missing:
                        self._functions[name] = self._module(compiled[name]).get_function(name)
            for entry in entries:  # a function may take more for longer rows
                if entry.shared_bytes > self._shared_bytes.get(entry.name, SHARED_BYTES):
                    self._shared_bytes[entry.name] = entry.shared_bytes
                    with self._here():
                        function = self._functions[entry.name].ptr
                        self._driver.funcSetAttribute(function, MAX_DYNAMIC_SHARED_BYTES, entry.shared_bytes)
            return self._functions

    def _module(self, cubin: bytes) -> Any:
        found = self._modules.get(cubin)
        if found is None:
            found = self._cupy.cuda.function.Module()
            found.load(cubin)
            self._modules[cubin] = found
        return found

    def runner(self, work: Sequence[Work]) -> Callable[[], None]:
        return _Runner(self, work)

    def prepare(self, item: Work) -> Callable[[int], None]:
        """What does some work on a stream; its words must not move from here on."""
        start = item.words.buffer_info()[0]
        match item:
            case Launch(ends=ends) if ends:
                return self._launch_of_many(item)
            case Launch():
                places = [start + 8 * slot for slot in item.slots]
                table = (ctypes.c_void_p * len(places))(*places)
                return self._launch(_shape(item), table)
            case Product(call):
                return self._products.prepare(call, item.words, item.slots)
            case Copy(nbytes):
                return self._copying(nbytes, item.words, *item.slots)

    def _launch(self, shape: tuple[int, ...], table: Any) -> Callable[[int], None]:
        launch, address = self._driver.launchKernel, ctypes.addressof

        def run(stream: int) -> None:
            launch(*shape, stream, address(table), 0)

        return run

    def _launch_of_many(self, item: Launch) -> Callable[[int], None]:
        """The table is filled in before each launch, which takes a copy of it."""
        memory = np.frombuffer(item.table(), np.int64).copy()
        words = np.ctypeslib.as_array((ctypes.c_longlong * len(item.words)).from_address(item.words.buffer_info()[0]))
        slots, arguments = np.asarray(item.slots), memory[: len(item.slots)]
        table = (ctypes.c_void_p * 1)(memory.ctypes.data)
        launch = self._launch(_shape(item), table)

        def run(stream: int) -> None:
            np.take(words, slots, out=arguments)
            launch(stream)

        return run

    def _copying(self, nbytes: int, words: array[int], target: int, source: int) -> Callable[[int], None]:
        copy = self._runtime.memcpyAsync

        def run(stream: int) -> None:
            if nbytes:
                copy(words[target], words[source], nbytes, DEVICE_TO_DEVICE, stream)

        return run

    def captured(self, steps: Sequence[Callable[[int], None]]) -> Any:
        """A CUDA graph of some work."""
        stream = self._cupy.cuda.Stream(non_blocking=True)
        stream.begin_capture(self._runtime.streamCaptureModeRelaxed)
        try:
            for step in steps:
                step(stream.ptr)
        finally:
            graph = stream.end_capture()
        return graph


def _shape(item: Launch) -> tuple[int, ...]:
    """What ``cuLaunchKernel`` is told besides stream and arguments."""
    return item.function.ptr, item.grid, 1, 1, item.entry.form.threads, 1, 1, item.entry.shared_bytes


class _Runner:
    """Does some work whenever it is called; where addresses come again, by a graph that was captured with them.

    A graph holds the addresses that its work had.  What goes into a program and comes out of it mostly lies at the
    same few places, since memory that is freed is given out again; so a few graphs do.
    """

    def __init__(self, device: CupyDevice, work: Sequence[Work]) -> None:
        self._device, self._work = device, list(work)
        self._words = self._work[0].words
        self._start = -1
        self._steps: list[Callable[[int], None]] = []
        self._graphs: dict[bytes, Any] = {}  # None where the addresses were seen once
        self._misses = 0 if len(self._work) >= WORTH_A_GRAPH else MOST_MISSES
        self._tries = 2 if len(self._work) >= WORTH_A_GRAPH else 0

    @property
    def is_lost(self) -> bool:
        return self._tries > 1 and self._misses >= MOST_MISSES

    def start_again(self) -> None:
        if self.is_lost:
            self._tries, self._misses = 1, 0
            self._graphs.clear()

    def __call__(self) -> None:
        device = self._device
        start = self._words.buffer_info()[0]
        if start != self._start:
            self._start, self._steps = start, [device.prepare(item) for item in self._work]
        with device._here():
            if self._misses < MOST_MISSES and self._by_graph():
                return
            stream = device.stream
            for step in self._steps:
                step(stream)

    def _by_graph(self) -> bool:
        """Whether there is a graph for the addresses of now, which has been launched."""
        key = self._words.tobytes()
        if key not in self._graphs:
            while len(self._graphs) >= MOST_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[key] = None
            self._misses += 1
            return False
        graph = self._graphs.pop(key)
        if graph is None:
            try:
                graph = self._device.captured(self._steps)
            except Exception:  # work that cannot be captured is done without
                self._misses, self._tries = MOST_MISSES, 0
                self._graphs.clear()
                return False
        self._graphs[key] = graph  # the one used last stands at the end
        self._misses = 0
        graph.launch()
        return True
