"""NVRTC, NVIDIA's compiler as a library: CUDA C to machine code for a named GPU, which need not be here."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from glob import glob
from importlib.util import find_spec
from pathlib import Path

# The language's arithmetic is IEEE 754's: nothing is contracted, flushed to zero or approximated.
OPTIONS = ("-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")


class NotAvailable(RuntimeError):
    """NVRTC is not installed."""


class CompileError(RuntimeError):
    """The source does not compile; the message holds the compiler's log."""


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What a kernel takes: registers a thread, shared memory a block, and memory in place of registers."""

    name: str
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int

    def __str__(self) -> str:
        return f"{self.registers} registers, {self.shared_bytes} bytes shared, {self.spill_bytes} bytes spilled"


def compile_to_cubin(source: str, arch: str = "sm_90") -> tuple[bytes, list[KernelReport]]:
    """Machine code for ``arch``, and a report on each kernel in it."""
    code, log = _compile(source, (*OPTIONS, f"-arch={arch}", "--ptxas-options=-v"), "CUBIN")
    return code, _reports(log)


def compile_to_ptx(source: str, arch: str = "compute_90") -> str:
    """PTX, the assembly language that all later GPUs take."""
    code, _ = _compile(source, (*OPTIONS, f"-arch={arch}"), "PTX")
    return code.rstrip(b"\0").decode()


@cache
def version() -> str:
    """The compiler's version, ``"none"`` where there is none: machine code that was kept can be used all the same."""
    try:
        library = _library()
    except NotAvailable:
        return "none"
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"NVRTC {major.value}.{minor.value}"


def _compile(source: str, options: Sequence[str], product: str) -> tuple[bytes, str]:
    """The product (``"CUBIN"`` or ``"PTX"``) and the log."""
    library = _library()
    program = ctypes.c_void_p()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None))
    try:
        arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), arguments)
        log = _fetch(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if status:
            raise CompileError(f"{_error_text(status)}\n{log}")
        return _fetch(program, product), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _fetch(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(_library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_library(), f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC: {_error_text(status)}")


def _error_text(status: int) -> str:
    return str(_library().nvrtcGetErrorString(status).decode())


_REPORT = re.compile(
    r"entry function '(\S+)' for.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


def _reports(log: str) -> list[KernelReport]:
    """The assembler's verbose log, taken apart."""
    reports = []
    for name, stack, stores, loads, registers, rest in _REPORT.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        shared_bytes = int(shared[1]) if shared else 0
        reports.append(KernelReport(name, int(registers), shared_bytes, int(stack), int(stores) + int(loads)))
    return reports


# Finding the library ---------------------------------------------------------------------------------------


@cache
def _library() -> ctypes.CDLL:
    for path in _candidates():
        try:
            # NVRTC opens its builtins by name: loaded before, they are found wherever they lie.
            for builtins in glob(os.path.join(os.path.dirname(path) or ".", "libnvrtc-builtins.so*")):
                ctypes.CDLL(builtins, ctypes.RTLD_GLOBAL)
            library = ctypes.CDLL(path)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    raise NotAvailable("NVRTC, which compiles CUDA C, was not found; pip install 'tracejit[nvrtc]'")


def _candidates() -> Iterator[str]:
    """Where libnvrtc may lie, newest first: NVIDIA's Python packages, a CUDA toolkit, the linker's path."""
    package = find_spec("nvidia")
    folders = [
        folder
        for root in (package.submodule_search_locations or () if package else ())
        for folder in (Path(root, "cu13", "lib"), Path(root, "cu12", "lib"), Path(root, "cuda_nvrtc", "lib"))
    ]
    toolkits = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders += [Path(toolkit, "lib64") for toolkit in toolkits if toolkit]
    for folder in folders:
        yield from sorted(glob(str(folder / "libnvrtc.so.*[0-9]")), reverse=True)
    yield from ("libnvrtc.so.13", "libnvrtc.so.12")
