"""LLVM IR to machine code in memory, through llvmlite, with the persistent cache in between.

What is not in the cache is compiled twice: at once without optimising, which takes a fifth of the time and gives
code to go on with; and fully, by a thread in the background, for the cache and for the calls from then on.  Both
give the same bits.  A function is therefore called through a cell that holds its present address.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tracejit.ir

from .. import cache as disk
from . import cpuid, loader, threads
from .target import host_target, llvm_version

if TYPE_CHECKING:
    from ..kernel import Kernel

FAST, FULL = 0, 2  # LLVM's levels of optimisation in code generation
EXIT_SECONDS = 1.0
IDLE_SECONDS = 1.0  # after which the compiler's thread ends
QUIET_SECONDS = 0.015  # the background waits for a pause: LLVM serves one thread at a time

_log = logging.getLogger("tracejit.cache")
_cells: dict[str, ctypes.c_int64] = {}  # a function's name → its present address; names are by content
_modules: dict[str, str] = {}  # a function's name → the disk cache's name of the module that it is in


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
def fingerprint() -> str:
    """What machine code depends on besides the kernels' text: the processor, LLVM, and the generators."""
    return f"{cpuid.identification() or host_target()} {llvm_version()} {_sources()}"


def _sources() -> str:
    """What tells versions of the code that makes programs apart, as Python itself tells them."""
    parts: list[tuple[str, int, int]] = []
    pending = [str(Path(__file__).resolve().parents[1]), str(Path(tracejit.ir.__file__).parent)]
    for folder in pending:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    parts.append((entry.name, status.st_size, status.st_mtime_ns))
                elif entry.is_dir() and not entry.name.startswith((".", "__")):
                    pending.append(entry.path)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def module_text(kernels: Sequence[Kernel]) -> str:
    """The kernels as one LLVM module."""
    from .codegen import kernel_function

    functions, declarations = [], dict[str, None]()
    for kernel in kernels:
        text, needed = kernel_function(kernel)
        functions.append(text)
        declarations.update(dict.fromkeys(needed))
    return "\n\n".join(["\n".join(declarations), *functions])


def compile_kernels(kernels: Sequence[Kernel]) -> None:
    """Load the kernels' machine code; new kernels are compiled as one module."""
    begin_kernels(kernels)()


def begin_kernels(kernels: Sequence[Kernel]) -> Callable[[], None]:
    """The same, where LLVM goes on while the caller does something else; to be called then, to wait for it."""
    missing = [kernel for kernel in kernels if kernel.name not in _cells]
    names = [kernel.name for kernel in missing]
    key = f"{fingerprint()}\n" + "\n".join(kernel.text for kernel in missing)
    start = time.perf_counter()
    if not missing or _is_stored(key, names):
        return _nothing
    text = module_text(missing)
    job = _compiler.ask(lambda: _compile_module(key, names, lambda: text, in_background=True, hot=False))
    job.native.wait()  # until then it needs the interpreter, again and again

    def wait() -> None:
        job.wait()
        Statistics.seconds += time.perf_counter() - start

    return wait


def _nothing() -> None:
    """There is nothing to wait for."""


def cells(names: Sequence[str]) -> dict[str, int]:
    """Where the addresses of loaded functions stand."""
    return {name: ctypes.addressof(_cells[name]) for name in names}


def modules(names: Sequence[str]) -> list[str]:
    """The disk cache's names of the modules that functions are in."""
    return [_modules[name] for name in names]


def load_stored(wanted: Mapping[str, str]) -> bool:
    """Load functions, each out of the module that is named for it; whether all are there."""
    missing: dict[str, list[str]] = {}
    for name, module in wanted.items():
        if name not in _cells:
            missing.setdefault(module, []).append(name)
    return all(_load_stored(module, names) for module, names in missing.items())


def _is_stored(key: str, names: Sequence[str]) -> bool:
    """Load a module out of the disk cache; whether it is there."""
    is_stored = _load_stored(disk.name_of(key), names)
    _log.debug("the machine code of %s was %s", ", ".join(names), "there" if is_stored else "not there")
    return is_stored


def _load_stored(module: str, names: Sequence[str]) -> bool:
    """Load a module out of the disk cache; whether it is there."""
    code = disk.read_named(module)
    if code is None:
        return False
    _load(code, names, module)
    Statistics.disk_hits += 1
    Statistics.modules += 1
    Statistics.kernels += len(names)
    return True


def load_module(
    key: str, names: Sequence[str], text: Callable[[], str], *, in_background: bool = True, hot: bool = False
) -> list[int]:
    """Where the addresses of ``names`` stand: of functions of the module that ``text()`` gives.

    ``key`` stands for the text: equal keys must mean equal modules.  Without ``in_background`` the addresses do not
    change any more.  ``hot``: to be compiled fully before other modules that wait for it.
    """
    if not all(name in _cells for name in names):
        start = time.perf_counter()
        full_key = f"{fingerprint()}\n{key}"
        if not _is_stored(full_key, names):
            _compiler.run(lambda: _compile_module(full_key, names, text, in_background, hot))
        Statistics.seconds += time.perf_counter() - start
    return [ctypes.addressof(_cells[name]) for name in names]


def _compile_module(key: str, names: Sequence[str], text: Callable[[], str], in_background: bool, hot: bool) -> None:
    """In the compiler's thread."""
    if all(name in _cells for name in names):  # another thread asked for it too
        return
    Statistics.modules += 1
    Statistics.kernels += len(names)
    if in_background and threads.available_processors() > 1:
        module = text()
        _load(emit_object(module, FAST), names, disk.name_of(key))
        _compiler.run_later(lambda: _compile_fully(module, key, names), first=hot)
    else:
        _compile_fully(text(), key, names)


def _compile_fully(text: str, key: str, names: Sequence[str]) -> None:
    code = emit_object(text, FULL)
    disk.write(key, code)
    _load(code, names, disk.name_of(key))


def _load(code: bytes, names: Sequence[str], module: str) -> None:
    addresses = loader.load(code, names)
    if addresses is None:
        found: list[list[int]] = []
        _compiler.run(lambda: found.append(_load_with_llvm(code, names)))
        (addresses,) = found
    for name, address in zip(names, addresses, strict=True):
        _cells.setdefault(name, ctypes.c_int64()).value = address
        _modules.setdefault(name, module)


def _load_with_llvm(code: bytes, names: Sequence[str]) -> list[int]:
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(FULL))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    # It owns the machine code, which objects that die with the interpreter may still call: never freed.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    return [engine.get_function_address(name) for name in names]


@cache
def _head() -> str:
    """What a module says of the processor."""
    machine = _machine(FAST)  # as good as any
    return f'target triple = "{machine.triple}"\ntarget datalayout = "{machine.target_data}"\n'


def _parsed(text: str) -> Any:
    import llvmlite.binding as llvm

    return llvm.parse_assembly(_head() + text)


def emit_object(text: str, level: int = FULL) -> bytes:
    """Machine code for a module."""
    machine, module = _machine(level), _parsed(text)
    _compiler.note_native()
    return machine.emit_object(module)


def assembly(text: str) -> str:
    """A module as assembly, to read."""
    found: list[str] = []
    _compiler.run(lambda: found.append(_machine(FULL).emit_assembly(_parsed(text))))
    return found[0]


class _Job:
    """Work for the compiler's thread."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.native = threading.Event()  # LLVM is at work on it, or it is done
        self._done = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self._error = error
        self.end()

    def end(self) -> None:
        self.native.set()
        self._done.set()

    def wait(self) -> None:
        """Return when it is done; what it raised is raised here."""
        self._done.wait()
        if self._error is not None:
            raise self._error


class _Compiler:
    """The one thread that calls LLVM: at once for those who wait, and in pauses for what is running already.

    A thread of its own, so that Ctrl-C interrupts who waits and never LLVM.  It ends when there is nothing to do.
    """

    def __init__(self) -> None:
        self._urgent: deque[_Job] = deque()
        self._later: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._state = threading.Condition()
        self._working = threading.Lock()  # held while LLVM is at work, so that no fork happens in its midst
        self._pending = 0
        self._job: _Job | None = None  # at work
        self._hurry = 0  # how many wait for all that is left
        self._traced = 0  # how many functions are being compiled, for which somebody waits
        self._last_request = 0.0
        self._stopped = False

    def run(self, work: Callable[[], object]) -> None:
        """Have the thread do ``work``, and wait for it."""
        self.ask(work).wait()

    def begin(self, work: Callable[[], object]) -> None:
        """Have the thread do ``work``, and wait until that is done, or LLVM at it: nothing holds that up then."""
        if threading.current_thread() is self._thread:
            return
        job = _Job(work)
        self._submit(self._urgent, job)
        job.native.wait()

    def ask(self, work: Callable[[], object]) -> _Job:
        """Have the thread do ``work`` as soon as it can."""
        job = _Job(work)
        if threading.current_thread() is self._thread:
            job.run()
        else:
            self._submit(self._urgent, job)
        return job

    def note_native(self) -> None:
        """From here on LLVM is at work."""
        if self._job is not None:
            self._job.native.set()

    def run_later(self, work: Callable[[], object], *, first: bool = False) -> None:
        """Have the thread do ``work`` when nothing has been asked of it for a while."""
        self._submit(self._later, _Job(work), first=first)

    def _submit(self, queue: deque[_Job], job: _Job, *, first: bool = False) -> None:
        with self._state:
            if first:
                queue.appendleft(job)
            else:
                queue.append(job)
            self._pending += 1
            self._last_request = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="tracejit-compiler", daemon=True)
                self._thread.start()
            self._state.notify_all()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            with self._working:
                self._job = job
                if self._stopped:
                    job.end()
                else:
                    job.run()
            self._job = None
            with self._state:
                self._pending -= 1
                self._state.notify_all()

    def _next(self) -> _Job | None:
        """The next job; ``None``, and no thread any more, where there is none for a second."""
        with self._state:
            idle_since = time.monotonic()
            while True:
                now = time.monotonic()
                pause = self._last_request + QUIET_SECONDS - now
                if self._urgent:
                    return self._urgent.popleft()
                is_free = pause <= 0 and not self._traced
                if self._later and (is_free or self._hurry):
                    return self._later.popleft()
                if not self._later and now - idle_since > IDLE_SECONDS:
                    self._thread = None
                    self._state.notify_all()
                    return None
                self._state.wait(IDLE_SECONDS if self._traced or not self._later else pause)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        with self._state:
            self._traced += 1
        try:
            yield
        finally:
            with self._state:
                self._traced = max(self._traced - 1, 0)  # 0 after a fork
                self._last_request = time.monotonic()
                self._state.notify_all()

    def wait(self, timeout: float | None = None) -> None:
        """Return when all is done, or after ``timeout`` seconds."""
        with self._state:
            self._hurry += 1
            self._state.notify_all()
            self._state.wait_for(lambda: self._pending == 0, timeout)
            self._hurry -= 1

    def stop(self) -> None:
        """At exit: finish what is waiting, so that the next process finds it, but do not hold up the exit for long."""
        self.wait(EXIT_SECONDS)
        self._stopped = True
        with self._working:
            pass

    def before_fork(self) -> None:
        self._working.acquire()

    def after_fork_in_parent(self) -> None:
        self._working.release()

    def after_fork_in_child(self) -> None:
        """The thread is gone, and its work with it: what it would have replaced stays as it is."""
        self.__init__()  # type: ignore[misc]


_compiler = _Compiler()
atexit.register(_compiler.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_compiler.before_fork,
        after_in_parent=_compiler.after_fork_in_parent,
        after_in_child=_compiler.after_fork_in_child,
    )


def begin(work: Callable[[], object]) -> None:
    """Have the compiler's thread do ``work``, which loads what will be wanted soon, while the caller goes on."""
    _compiler.begin(work)


def ask(work: Callable[[], object]) -> None:
    """Have the compiler's thread do ``work``, which loads what will be wanted later, as soon as it can."""
    _compiler.ask(work)


def run_later(work: Callable[[], object]) -> None:
    """Have the compiler's thread do ``work``, which may compile, in a pause."""
    _compiler.run_later(work)


def undisturbed() -> AbstractContextManager[None]:
    """While it is entered, the background begins nothing: its Python code would hold up that of the caller."""
    return _compiler.undisturbed()


def wait() -> None:
    """Return when the background has compiled all that is waiting: for measurements."""
    _compiler.wait()
