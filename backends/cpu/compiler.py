"""LLVM IR to machine code in memory, through llvmlite, with the persistent cache in between.

What is not in the cache is compiled twice: at once without optimising, which takes a fifth of the time and gives
code to go on with; and fully, by a thread in the background, for the cache and for the calls from then on.  Both
give the same bits.  A function is therefore called through a cell that holds its present address.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tracejit.ir.primitives.reduction import BLOCK, LANES

from .. import cache as disk
from ..kernel import Kernel
from . import threads
from .target import host_target

FAST, FULL = 0, 2  # LLVM's levels of optimisation in code generation
EXIT_SECONDS = 1.0
QUIET_SECONDS = 0.05  # the background waits for a pause: LLVM serves one thread at a time

_lock = threading.RLock()
_cells: dict[str, ctypes.c_int64] = {}  # a function's name → its present address; names are by content
_engines: list[Any] = []  # own the machine code


class Statistics:
    """What compiling has cost the callers in this process so far."""

    modules = 0
    kernels = 0
    seconds = 0.0
    disk_hits = 0


@cache
def _machine(level: int) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = host_target()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, jit=True
    )


@cache
def _fingerprint() -> str:
    """What machine code depends on besides the kernels' text: the processor, LLVM, and the generators."""
    import llvmlite

    target = host_target()
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    order = f"{BLOCK} {LANES}"  # of sums
    digest = hashlib.sha256(sources).hexdigest()
    return f"{target.triple} {target.cpu} {target.features} {llvmlite.__version__} {order} {digest}"


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
    """Where the addresses of the kernels' machine code stand, by name; new kernels are compiled as one module."""
    with _lock:
        missing = [kernel for kernel in kernels if kernel.name not in _cells]
        if missing:
            names = [kernel.name for kernel in missing]
            load_module("\n".join(kernel.text for kernel in missing), names, lambda: module_text(missing))
        return {kernel.name: ctypes.addressof(_cells[kernel.name]) for kernel in kernels}


def load_module(key: str, names: Sequence[str], text: Callable[[], str], *, in_background: bool = True) -> list[int]:
    """Where the addresses of ``names`` stand: of functions of the module that ``text()`` gives.

    ``key`` stands for the text: equal keys must mean equal modules.  Without ``in_background`` the addresses do not
    change any more.
    """
    with _lock:
        if not all(name in _cells for name in names):
            start = time.perf_counter()
            full_key = f"{_fingerprint()}\n{key}"
            code = disk.read(full_key)
            if code is not None:
                Statistics.disk_hits += 1
                _load(code, names)
            elif in_background and threads.available_processors() > 1:
                module = text()
                _load(emit_object(module, FAST), names)
                _background.compile(module, full_key, names)
            else:
                _compile_fully(text(), full_key, names)
            Statistics.modules += 1
            Statistics.kernels += len(names)
            Statistics.seconds += time.perf_counter() - start
        return [ctypes.addressof(_cells[name]) for name in names]


def _compile_fully(text: str, key: str, names: Sequence[str]) -> None:
    code = emit_object(text, FULL)
    disk.write(key, code)
    _load(code, names)


def _load(code: bytes, names: Sequence[str]) -> None:
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(FULL))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    for name in names:
        _cells.setdefault(name, ctypes.c_int64()).value = engine.get_function_address(name)


def _parsed(text: str, machine: Any) -> Any:
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return module


def emit_object(text: str, level: int = FULL) -> bytes:
    """Machine code for a module."""
    machine = _machine(level)
    return machine.emit_object(_parsed(text, machine))


def assembly(text: str) -> str:
    """A module as assembly, to read."""
    machine = _machine(FULL)
    return machine.emit_assembly(_parsed(text, machine))


class _Background:
    """The thread that compiles fully what is running already; started by the first work, gone when idle."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[str, str, Sequence[str]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pending = 0
        self._state = threading.Condition()
        self._compiling = threading.Lock()  # held while LLVM is at work, so that no fork happens in its midst
        self._stopped = False
        self._hurry = False  # somebody waits
        self._last_request = 0.0

    def compile(self, text: str, key: str, names: Sequence[str]) -> None:
        with self._state:
            self._pending += 1
            self._last_request = time.monotonic()
            self._work.put((text, key, names))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tracejit-compiler", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                job = self._work.get(timeout=1.0)
            except queue.Empty:
                with self._state:
                    if self._pending == 0:
                        self._thread = None
                        return
                continue
            while (pause := self._last_request + QUIET_SECONDS - time.monotonic()) > 0 and not self._hurry:
                time.sleep(pause)
            with self._compiling:
                if not self._stopped:
                    _compile_fully(*job)
            with self._state:
                self._pending -= 1
                self._state.notify_all()

    def wait(self) -> None:
        self._hurry = True
        with self._state:
            self._state.wait_for(lambda: self._pending == 0)
        self._hurry = False

    def stop(self) -> None:
        """At exit: finish what is waiting, so that the next process finds it, but do not hold up the exit for long."""
        self._hurry = True
        with self._state:
            self._state.wait_for(lambda: self._pending == 0, timeout=EXIT_SECONDS)
        self._stopped = True
        with self._compiling:
            pass

    def before_fork(self) -> None:
        self._compiling.acquire()

    def after_fork_in_parent(self) -> None:
        self._compiling.release()

    def after_fork_in_child(self) -> None:
        """The thread is gone, and its work with it: what it would have replaced stays as it is."""
        self.__init__()  # type: ignore[misc]


_background = _Background()
atexit.register(_background.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_background.before_fork,
        after_in_parent=_background.after_fork_in_parent,
        after_in_child=_background.after_fork_in_child,
    )


def wait() -> None:
    """Return when the background has compiled all that is waiting: for measurements."""
    _background.wait()
