"""What a compiled program cannot do again: printing, reading a clock, drawing random numbers, touching files.

While a function is traced, the C functions that it calls are watched.  One that has an effect, or a result, of its own
at each call stops the trace before it runs: the function's Python code must run at each call then.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any

from .locations import is_library

# Functions by module, and methods by class; ``None`` means all.
_FUNCTIONS: dict[str, frozenset[str] | None] = {
    "builtins": frozenset(("print", "open", "input", "breakpoint", "exec", "eval", "next", "globals", "locals")),
    "time": None,
    "posix": None,
    "nt": None,
    "_io": None,
    "_random": None,
    "_warnings": frozenset(("warn", "warn_explicit")),
    "_socket": None,
    "_thread": frozenset(("start_new_thread", "start_joinable_thread")),
    "_ctypes": None,
}  # fmt: skip
_PURE = frozenset(("fspath", "_path_normpath", "_path_splitroot"))
_METHODS = frozenset(("write", "writelines", "read", "readline", "readlines", "flush"))
_CLOCKS = frozenset(("now", "today", "utcnow"))


class Watch:
    """While it is entered, a call that cannot be repeated raises ``Untraceable`` instead of running."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._is_on = False

    def __enter__(self) -> None:
        if sys.getprofile() is None:  # else a profiler is at work
            self._is_on = True
            gc.callbacks.insert(0, _note_collection)
            sys.setprofile(_look)

    def __exit__(self, *exception: object) -> None:
        if self._is_on:
            sys.setprofile(None)
            gc.callbacks.remove(_note_collection)


def pause() -> bool:
    """Stop watching where the library calls nothing of the user's, since that slows it down several times.

    Whether anything was being watched: then :func:`resume` is due.
    """
    if sys.getprofile() is not _look:
        return False
    sys.setprofile(None)
    return True


def resume() -> None:
    sys.setprofile(_look)


def _look(frame: FrameType, event: str, called: Any) -> None:
    if event != "c_call" or is_library(frame.f_code.co_filename):
        return
    name = called.__name__
    owner = getattr(called, "__self__", None)
    if owner is None or type(owner) is _MODULE:
        module = called.__module__
        if module not in _FUNCTIONS:
            return
        names = _FUNCTIONS[module]
        if (name not in names) if names is not None else (name in _PURE):
            return
    elif isinstance(owner, random.Random):
        pass
    elif type(owner) in _LOCKS:
        if frame.f_code.co_filename.startswith(_STANDARD_LIBRARY):
            return
    elif type(owner) is ContextVar:
        if name == "get" or "site-packages" in frame.f_code.co_filename:  # as NumPy's errstate
            return
    elif name in _METHODS:
        if not hasattr(owner, "fileno") and not hasattr(owner, "getvalue"):
            return
    elif not (name in _CLOCKS and isinstance(owner, type)):
        return
    if _is_importing(frame):
        return
    caller: FrameType | None = frame
    while caller is not None and _serves_its_caller(caller.f_code.co_filename):
        caller = caller.f_back
    if caller is None or is_library(caller.f_code.co_filename):
        return
    from .tracing import Untraceable

    if name in ("exec", "eval", "next") and caller is not frame:  # as namedtuple, dataclass and contextmanager do
        return
    if _is_collecting(frame):
        return
    raise Untraceable(f"it calls {name}")


def _serves_its_caller(file: str) -> bool:
    """Whether what code of a file does is its caller's doing: the standard library's, and the compiler's."""
    return file.startswith(_STANDARD_LIBRARY) or _COMPILER in file


def _note_collection(phase: str, info: dict[str, int]) -> None:
    if phase == "start":
        _collecting.add(threading.get_ident())
    else:
        _collecting.discard(threading.get_ident())


_collecting: set[int] = set()  # the threads in which the garbage collector is at work


def _is_collecting(frame: FrameType | None) -> bool:
    """Whether the garbage collector has the code run, or it is one of its callbacks, or a finalizer."""
    if threading.get_ident() in _collecting:
        return True
    callbacks = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    while frame is not None:
        if frame.f_code in callbacks or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported for the first time."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


_MODULE = type(sys)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_STANDARD_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep, "<frozen "
_COMPILER = f"{os.sep}llvmlite{os.sep}"
