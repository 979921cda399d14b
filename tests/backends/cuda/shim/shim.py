"""Runs CUDA kernels on the CPU, so that their meaning is checked where there is no GPU.

The text is the one that NVRTC gets; ``cuda.h`` and ``threads.h`` supply what CUDA adds to C++.  What is wrong shows:
a missing barrier makes results depend on the order of the threads, what is read before it is written is NaN,
an access beyond a buffer faults at the unreadable page beside it, and integer overflow, bad shifts and indices trap.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from pathlib import Path

import numpy as np

from tracejit.backends.cuda import codegen
from tracejit.backends.program import KernelCall, Place, Program
from tracejit.ir import TensorType, type_of

_HEADERS = [Path(__file__).with_name(name) for name in ("threads.h", "cuda.h")]
_CHECKS = "bounds,shift,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow,alignment"
_FLAGS = [
    "-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-exceptions",
    f"-fsanitize={_CHECKS}", "-fsanitize-undefined-trap-on-error",
]  # fmt: skip
_libc = ctypes.CDLL(None)
_PROT_NONE = 0


class ShimError(RuntimeError):
    """A kernel has done what it may not do; the message says which block and thread, and what."""


class Order(IntEnum):
    """Which thread goes first; warp by warp, but for ``SHUFFLED``."""

    UP = 0
    DOWN = 1
    SHUFFLED = 2


def why_unavailable() -> str:
    """Why the shim cannot run here; empty where it can."""
    if shutil.which("g++") is None:
        return "g++ is not installed, which compiles CUDA kernels for the CPU (apt install g++)"
    return (
        "" if os.name == "posix" and os.uname().sysname == "Linux" else "the shim for CUDA kernels runs on Linux only"
    )


_KERNEL = re.compile(r"__global__ void __launch_bounds__\([\d, ]+\) (\w+)\((.*?)\n}\n", re.DOTALL)


def _is_plain(body: str) -> bool:
    """Whether a kernel's threads wait for nobody."""
    return not any(name in body for name in ("__sync", "__shfl", "_sync(", "tj_warp", "tj_block"))


class Module:
    """The kernels of a source, compiled once for each content into ``folder``."""

    def __init__(self, source: str, folder: Path) -> None:
        exports = "\n".join(f"SHIM_EXPORT({name}, {int(_is_plain(body))})" for name, body in _KERNEL.findall(source))
        text = f'#include "cuda.h"\n#line 1 "kernels.cu"\n{source}\n{exports}\n'
        key = hashlib.sha256((text + self.fingerprint()).encode())
        self.path = library = folder / f"{key.hexdigest()[:20]}.so"
        with library.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be compiling the same
            if not library.exists():
                _compile(text, library)
        self._library = ctypes.CDLL(str(library))

    @classmethod
    def at(cls, path: Path) -> Module:
        """A module that was compiled before."""
        module = cls.__new__(cls)
        module.path, module._library = path, ctypes.CDLL(str(path))
        return module

    @staticmethod
    @cache
    def fingerprint() -> str:
        """What compiled code depends on besides the kernels."""
        return "\0".join([*_FLAGS, *(header.read_text() for header in _HEADERS)])

    def argument_bytes(self, name: str) -> list[int]:
        """The sizes of a kernel's arguments."""
        size = getattr(self._library, f"argument_bytes_{name}")
        return [int(size(number)) for number in range(int(getattr(self._library, f"arguments_{name}")()))]

    def launch(self, entry: codegen.Entry, blocks: int, arguments: Sequence[int | bytes], order: Order) -> None:
        """One launch; the arguments are addresses and 64-bit integers, or a table."""
        self.launch_named(entry.name, blocks, entry.form.threads, entry.shared_bytes, arguments, order)

    def launch_named(
        self,
        name: str,
        blocks: int,
        threads: int,
        shared_bytes: int,
        arguments: Sequence[int | bytes],
        order: Order,
    ) -> None:
        sizes = self.argument_bytes(name)
        values = [a.to_bytes(8, "little", signed=True) if isinstance(a, int) else a for a in arguments]
        assert list(map(len, values)) == sizes, f"{name} takes arguments of {sizes} bytes"
        memory = [ctypes.create_string_buffer(value, len(value)) for value in values]
        table = (ctypes.c_void_p * len(memory))(*map(ctypes.addressof, memory))
        message = ctypes.create_string_buffer(256)
        function = getattr(self._library, f"launch_{name}")
        function.restype = ctypes.c_bool
        if not function(table, blocks, threads, shared_bytes, order, message):
            raise ShimError(f"{name}: {message.value.decode()}")


def _compile(text: str, library: Path) -> None:
    source, unfinished = library.with_suffix(".cpp"), library.with_suffix(".unfinished")
    source.write_text(text)
    command = ["g++", *_FLAGS, f"-I{_HEADERS[0].parent}", str(source), "-o", str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShimError(f"{source} does not compile:\n{done.stderr[:4000]}")
    unfinished.replace(library)


class Guarded:
    """Poisoned memory between unreadable pages: it ends at the second one, or starts at the first.

    It starts at a ``multiple`` of so many bytes; less than that may then lie between its end and the page.
    """

    def __init__(self, nbytes: int, at_end: bool = True, multiple: int = 1) -> None:
        page = mmap.PAGESIZE
        body = -(-max(nbytes, 1) // page) * page
        pages = mmap.mmap(-1, body + 2 * page)
        base = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        offset = page + (body - -(-nbytes // multiple) * multiple if at_end else 0)
        self.bytes = np.frombuffer(pages, np.uint8, nbytes, offset)
        self.bytes[...] = 0xFF  # NaN in every float format
        self.address = base + offset
        for guard in (base, base + page + body):
            _libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), _PROT_NONE)

    def view(self, type: TensorType) -> np.ndarray:
        return self.bytes.view(type.dtype).reshape(type.static_shape)


def run(
    program: Program, module: Module, inputs: Sequence[np.ndarray], order: Order, most_blocks: int = 1 << 30
) -> list[np.ndarray]:
    """The results of a program without matrix products; each buffer has memory of its own, also in the arena."""
    contents = {"input": inputs, "constant": program.constants, "output": (), "arena": ()}
    memory: dict[int, Guarded] = {}

    def at(place: Place, type: TensorType) -> Guarded:
        if id(place) not in memory:
            memory[id(place)] = Guarded(type.nbytes, at_end=order != Order.DOWN)
            if contents[place.space]:
                content = contents[place.space][place.number]
                memory[id(place)].view(type_of(content))[...] = content
        return memory[id(place)]

    for call in program.calls:
        assert isinstance(call, KernelCall), "the shim has no matrix product"
        launch = codegen.launch_of(call.kernel, call.parameters)
        arguments = [at(program.places[value], value.type).address for value in call.buffers]
        waiting = (
            [Guarded(4 * launch.counters), Guarded(launch.partial_bytes, multiple=8)] if launch.partial_bytes else []
        )
        for counters in waiting[:1]:
            counters.bytes[...] = 0
        arguments += [*call.parameters, *(memory.address for memory in waiting)]
        for stage in launch.stages:
            module.launch(stage.entry, min(stage.grid, most_blocks), [*arguments, *stage.numbers], order)
        if waiting and waiting[0].bytes.any():
            raise ShimError(f"{launch.entry.name}: leaves counters that are not 0")
    types = {"input": program.inputs, "output": program.outputs, "constant": list(map(type_of, program.constants))}
    results = [(place, types[place.space][place.number]) for place in program.results]
    return [at(place, type).view(type) for place, type in results]
