"""LLVM IR to machine code in memory, through llvmlite, with the persistent cache in between."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .. import cache as disk
from ..kernel import Kernel
from .target import host_target

_lock = threading.RLock()
_addresses: dict[str, int] = {}  # a function's name → its address; names are by content
_engines: list[Any] = []  # own the machine code


class Statistics:
    """What compiling has cost this process so far."""

    modules = 0
    kernels = 0
    seconds = 0.0
    disk_hits = 0


@cache
def _machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = host_target()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=True
    )


@cache
def _fingerprint() -> str:
    """What machine code depends on besides the kernels' text: the processor, LLVM, and the generators."""
    import llvmlite

    target = host_target()
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return f"{target.triple} {target.cpu} {target.features} {llvmlite.__version__} {hashlib.sha256(sources).hexdigest()}"


def module_text(kernels: Sequence[Kernel]) -> str:
    """The kernels as one LLVM module."""
    from .codegen import kernel_function

    functions, declarations = [], dict[str, None]()
    for kernel in kernels:
        text, needed = kernel_function(kernel)
        functions.append(text)
        declarations.update(dict.fromkeys(needed))
    return "\n\n".join(["\n".join(declarations), *functions])


def compile_kernels(kernels: Sequence[Kernel]) -> dict[str, int]:
    """Addresses of the kernels' machine code, by name; those not known yet are compiled as one module."""
    with _lock:
        missing = [kernel for kernel in kernels if kernel.name not in _addresses]
        if missing:
            names = [kernel.name for kernel in missing]
            load_module("\n".join(kernel.text for kernel in missing), names, lambda: module_text(missing))
        return {kernel.name: _addresses[kernel.name] for kernel in kernels}


def load_module(key: str, names: Sequence[str], text: Callable[[], str]) -> list[int]:
    """Addresses of ``names`` in the module that ``text()`` gives, from the disk cache if it is there.

    ``key`` stands for the text: equal keys must mean equal modules.
    """
    import time

    import llvmlite.binding as llvm

    with _lock:
        if all(name in _addresses for name in names):
            return [_addresses[name] for name in names]
        start = time.perf_counter()
        machine = _machine()
        full_key = f"{_fingerprint()}\n{key}"
        code = disk.read(full_key)
        if code is None:
            code = emit_object(text())
            disk.write(full_key, code)
        else:
            Statistics.disk_hits += 1
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        for name in names:
            _addresses[name] = engine.get_function_address(name)
        Statistics.modules += 1
        Statistics.kernels += len(names)
        Statistics.seconds += time.perf_counter() - start
        return [_addresses[name] for name in names]


def emit_object(text: str) -> bytes:
    """Machine code for a module."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    machine = _machine()
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return machine.emit_object(module)


def assembly(text: str) -> str:
    """A module as assembly, to read."""
    import llvmlite.binding as llvm

    machine = _machine()
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return machine.emit_assembly(module)
