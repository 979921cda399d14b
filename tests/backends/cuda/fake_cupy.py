"""A CuPy in which the GPU is simulated: what :class:`CupyDevice` asks of it, no more.

Memory is the shim's, guarded and poisoned; a "cubin" is the source that it was compiled from, and runs by the shim;
graphs replay the very addresses that they were captured with; cuBLASLt computes by NumPy, counting by columns.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tracejit import device
from tracejit.backends import devices
from tracejit.backends.cuda import cubins, driver, libraries, nvrtc
from tracejit.backends.cuda.libraries import Layout, Multiplication
from tracejit.backends.devices import row_major

from .shim.device import MOST_BLOCKS, ShimDevice
from .shim.shim import Module, Order


class Pointer:
    def __init__(self, memory: Any, offset: int = 0) -> None:
        self.memory, self.offset = memory, offset

    @property
    def ptr(self) -> int:
        return int(self.memory.address) + self.offset

    def __add__(self, offset: int) -> Pointer:
        return Pointer(self.memory, self.offset + offset)


class Array:
    """``cupy.ndarray``."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any = float,
        memptr: Pointer | None = None,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        assert memptr is not None
        self.shape, self.dtype, self.data = tuple(shape), np.dtype(dtype), memptr
        self.strides = row_major(self.shape, self.dtype.itemsize) if strides is None else tuple(strides)
        self.device = SimpleNamespace(id=0)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def inside(self) -> np.ndarray:
        return np.ndarray(self.shape, self.dtype, self.data.memory.bytes, self.data.offset, self.strides)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = self.data.ptr, False
        return {"shape": self.shape, "typestr": self.dtype.str, "data": data, "strides": self.strides, "version": 3}

    def copy(self, order: str) -> Array:
        assert order == "C"
        made = GPU.instance.empty(self.shape, self.dtype)
        made.inside[...] = self.inside
        return made

    def __array__(self, *arguments: Any, **keywords: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


class Stream:
    def __init__(self, ptr: int = 0, non_blocking: bool = False) -> None:
        self.ptr = ptr or id(self)

    def begin_capture(self, mode: int) -> None:
        assert GPU.instance.capturing is None
        GPU.instance.capturing = []

    def end_capture(self) -> Graph:
        taken, GPU.instance.capturing = GPU.instance.capturing, None
        assert taken is not None
        return Graph(taken)


class Graph:
    def __init__(self, work: list[Callable[[], None]]) -> None:
        self.work = work

    def launch(self, stream: Any = None) -> None:
        GPU.instance.graph_launches += 1
        for item in self.work:
            item()


class GPU:
    """What the fake does, and counts of it."""

    instance: GPU

    def __init__(self, folder: Path) -> None:
        GPU.instance = self
        self.memory = ShimDevice()
        self.folder = folder
        self.capturing: list[Callable[[], None]] | None = None
        self.launches = self.graph_launches = self.products = self.biases = 0
        self.functions: dict[int, tuple[Module, str]] = {}
        self.shared_bytes: dict[int, int] = {}  # of dynamic shared memory, that functions have asked for
        self.threads: list[int] = []  # one entry for each time that a thread chose the device

    def empty(self, shape: Any, dtype: Any) -> Array:
        made = self.memory.empty(tuple(shape), np.dtype(dtype))
        return Array(made.shape, made.dtype, Pointer(made.memory))

    def imported(self, item: Any) -> Array:
        """``cupy.asarray`` of another library's array, and ``cupy.from_dlpack``: no copy."""
        known = item.__cuda_array_interface__
        memory = self.memory.memory_of(known["data"][0])
        place = Pointer(memory, known["data"][0] - memory.address)
        return Array(known["shape"], known["typestr"], place, known["strides"])

    def do(self, work: Callable[[], None], stream: int) -> None:
        """At once, or put into the graph that is being captured."""
        if self.capturing is None:
            work()
        else:
            assert stream, "CUDA captures no work of the null stream"
            self.capturing.append(work)

    def copy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        if kind != driver.DEVICE_TO_DEVICE:
            assert self.capturing is None, "memory of the host in a graph"
        data: Any = (
            (ctypes.c_uint8 * nbytes).from_address(source)
            if kind == driver.HOST_TO_DEVICE
            else self.memory._memory_at(source, nbytes)
        )
        if kind == driver.DEVICE_TO_HOST:
            ctypes.memmove(target, data.ctypes.data, nbytes)
        elif kind == driver.HOST_TO_DEVICE:
            self.memory._memory_at(target, nbytes)[...] = np.frombuffer(data, np.uint8)
        else:
            self.do(lambda: self.memory.copy(target, source, nbytes), stream)

    def launch(self, function: int, *arguments: int) -> None:
        gx, gy, gz, bx, by, bz, shared, stream, table, extra = arguments
        assert (gy, gz, by, bz, extra) == (1, 1, 1, 1, 0)
        module, name = self.functions[function]
        sizes = module.argument_bytes(name)
        pointers = (ctypes.c_void_p * len(sizes)).from_address(table)
        values = [
            ctypes.string_at(pointer, size) for pointer, size in zip(pointers, sizes, strict=True)
        ]  # now, as CUDA
        most = gx if name.startswith("each_") else MOST_BLOCKS[Order.SHUFFLED]

        def run() -> None:
            self.launches += 1
            assert shared <= self.shared_bytes.get(function, driver.SHARED_BYTES)
            module.launch_named(name, min(gx, most), bx, shared, values, Order.SHUFFLED)

        self.do(run, stream)

    def set_attribute(self, function: int, attribute: int, value: int) -> None:
        assert attribute == driver.MAX_DYNAMIC_SHARED_BYTES
        self.shared_bytes[function] = value

    def load(self, cubin: bytes) -> Callable[[str], Any]:
        assert cubin.startswith(b"\x7fELF")
        module = Module(cubin[4:].decode(), self.folder)

        def get_function(name: str) -> Any:
            number = len(self.functions) + 1
            self.functions[number] = module, name
            return SimpleNamespace(ptr=number)

        return get_function


class FakeCuBLASLt:
    """By NumPy; matrices are by columns."""

    def plan(self, what: Multiplication) -> Multiplication | None:
        if what.bias and what.d.rows == 3:  # as if there was no algorithm for it
            return None
        for layout in (what.a, what.b, what.c, what.d):
            assert layout is None or layout.leading >= max(1, layout.rows)
        return what

    def multiply(self, plan: Multiplication, a: int, b: int, c: int, d: int, workspace: int, stream: int) -> None:
        assert all(address % plan.alignment == 0 for address in (a, b, d))
        assert GPU.instance.memory._memory_at(workspace, libraries.WORKSPACE_BYTES).size

        def run() -> None:
            GPU.instance.products += 1
            first, second = self._matrices(plan, plan.a, a), self._matrices(plan, plan.b, b)
            first = first.swapaxes(1, 2) if plan.transpose_a else first
            second = second.swapaxes(1, 2) if plan.transpose_b else second
            assert first.shape[2] == second.shape[1]
            found = first.astype(np.float32) @ second if first.dtype.itemsize == 2 else first @ second
            if plan.bias:
                vector = GPU.instance.memory._memory_at(c, plan.d.rows * plan.dtype.itemsize)
                found = found + vector.view(plan.dtype)[None, :, None]
                GPU.instance.biases += 1
            elif plan.c is not None:
                found = found + self._matrices(plan, plan.c, c)
            self._matrices(plan, plan.d, d)[...] = found

        GPU.instance.do(run, stream)

    def _matrices(self, plan: Multiplication, layout: Layout, address: int) -> np.ndarray:
        size = plan.dtype.itemsize
        shape, strides = (plan.batch, layout.rows, layout.columns), (layout.stride, 1, layout.leading)
        extent = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        memory = GPU.instance.memory._memory_at(address, extent * size)
        return np.ndarray(shape, plan.dtype, memory, 0, tuple(size * step for step in strides))


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[GPU]:
    """``device="cuda"`` with one simulated GPU."""
    gpu = GPU(folder)
    current = Stream()
    current.ptr = 0

    class Device:
        compute_capability = "90"

        def __init__(self, number: int) -> None:
            assert number == 0

    class CuModule:
        def load(self, cubin: bytes) -> None:
            self.get_function = gpu.load(cubin)

    cupy: Any = ModuleType("cupy")
    cupy.ndarray, cupy.empty = Array, gpu.empty
    cupy.asarray = cupy.from_dlpack = gpu.imported
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1, getDevice=lambda: 0, setDevice=gpu.threads.append,
        memcpyAsync=gpu.copy, streamSynchronize=lambda stream: None,
        streamCaptureModeRelaxed=2,
    )  # fmt: skip
    cupy.cuda = SimpleNamespace(
        runtime=runtime, Device=Device, Stream=Stream, get_current_stream=lambda: current,
        function=SimpleNamespace(Module=CuModule),
    )  # fmt: skip
    api: Any = ModuleType("cupy_backends.cuda.api.driver")
    api.launchKernel = gpu.launch
    api.funcSetAttribute = gpu.set_attribute
    for name, module in (
        ("cupy", cupy), ("cupy_backends", ModuleType("cupy_backends")),
        ("cupy_backends.cuda", ModuleType("cupy_backends.cuda")),
        ("cupy_backends.cuda.api", ModuleType("cupy_backends.cuda.api")), ("cupy_backends.cuda.api.driver", api),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(nvrtc, "compile_to_cubin", lambda source, arch: (b"\x7fELF" + source.encode(), []))
    monkeypatch.setattr(libraries, "CuBLASLt", FakeCuBLASLt)
    monkeypatch.setattr(cubins.disk, "directory", lambda: None)
    monkeypatch.setattr(device, "why_no_cuda", driver.why_unavailable)  # which need not look for the package
    cubins.forget()
    driver.CupyDevice.numbered.cache_clear()
    known = dict(devices._open), dict(devices._of_class)
    try:
        yield gpu
    finally:
        devices._open.clear()
        devices._of_class.clear()
        devices._open.update(known[0])
        devices._of_class.update(known[1])
        devices.in_use[0] = False
        cubins.forget()
        driver.CupyDevice.numbered.cache_clear()
