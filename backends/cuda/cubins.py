"""Machine code for GPUs, kept on disk by kernel and architecture: compiled once, on any machine that has NVRTC.

A module of several kernels compiles in much less time than each by itself, so new kernels share modules; for each
kernel a note tells which module it is in.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from .. import cache as disk
from . import codegen, nvrtc
from .codegen import Entry
from .nvrtc import KernelReport

TOGETHER = 8  # kernels of a module: the compiler's own time is then shared by enough
_lock = threading.Lock()
_known: dict[tuple[str, str], bytes] = {}  # by kernel and architecture: the module that holds it


def compile_entries(entries: Sequence[Entry], arch: str) -> Mapping[str, bytes]:
    """For each function's name a module (an ELF file) that holds its machine code for ``arch`` (``"sm_90"``)."""
    with _lock:
        sources = {entry.name: codegen.module_source([entry]) for entry in entries}
        missing = [entry for entry in entries if not _find(entry.name, sources[entry.name], arch)]
        parts = [missing[first : first + TOGETHER] for first in range(0, len(missing), TOGETHER)]
        if parts:
            with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
                for part, (cubin, _) in zip(parts, pool.map(lambda part: _compile(part, arch), parts), strict=True):
                    _keep(part, sources, arch, cubin)
        return {entry.name: _known[entry.name, arch] for entry in entries}


def report(entries: Sequence[Entry], arch: str) -> list[KernelReport]:
    """What each function takes of the machine, as the assembler reports it."""
    return _compile(entries, arch)[1]


def _compile(entries: Sequence[Entry], arch: str) -> tuple[bytes, list[KernelReport]]:
    return nvrtc.compile_to_cubin(codegen.module_source(entries), arch)


def _find(name: str, source: str, arch: str) -> bool:
    """Whether a kernel is known, perhaps from the disk."""
    if (name, arch) in _known:
        return True
    note = disk.read(_key(source, arch))
    cubin = None if note is None else disk.read(note.decode())
    if cubin is not None:
        _known[name, arch] = cubin
    return cubin is not None


def _keep(entries: Sequence[Entry], sources: Mapping[str, str], arch: str, cubin: bytes) -> None:
    where = f"cubin {hashlib.sha256(cubin).hexdigest()}"
    disk.write(where, cubin)
    for entry in entries:
        disk.write(_key(sources[entry.name], arch), where.encode())
        _known[entry.name, arch] = cubin


def _key(source: str, arch: str) -> str:
    return f"kernel for {arch} by {nvrtc.version()}\n{' '.join(nvrtc.OPTIONS)}\n{source}"


def forget() -> None:
    """Read everything from the disk again."""
    with _lock:
        _known.clear()
