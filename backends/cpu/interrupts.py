"""Ctrl-C while native code runs: loops that run for long look whether a handler of signals has to run, and may raise.

Python handles signals when it enters a function, so a callback that Python runs would be interrupted before it could
tell anybody.  Native code asks CPython instead, and leaves the error where Python finds it when the program has ended.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from . import objects
from .objects import ObjectWriter


class InterruptWriter(ObjectWriter):
    """Writes what loops call now and then."""

    def interrupted(self) -> None:
        """``@interrupted(number, frame)``, called without the GIL or with it: not 0 where a handler raises an error."""
        with self.define("internal i64 @interrupted(i64 %number, ptr %frame)"):
            state = self.call("PyGILState_Ensure", "i32")
            raised = self.call("PyErr_CheckSignals", "i32")
            self.do(f"call void {self.address('PyGILState_Release')}(i32 {state})")
            self.do(f"ret i64 {self.let('wide', f'sext i32 {raised} to i64')}")

    def called_back(self) -> None:
        """``@called.back(number, frame)``: the same, and unless an error is raised, the call that Python makes."""
        with self.define("internal i64 @called.back(i64 %number, ptr %frame)"):
            done, python = self.labels("done", "python")
            raised = self.let("raised", "call i64 @interrupted(i64 %number, ptr %frame)")
            looks = self.let("looks", "icmp slt i64 %number, 0")
            self.branch(self.either(looks, self.is_other(raised, 0, "i64")), done, python)
            self.begin(done)
            self.do(f"ret i64 {raised}")
            self.begin(python)
            self.do(f"ret i64 {self.call('callback', 'i64', 'i64 %number', 'ptr %frame')}")

    def run(self) -> None:
        """``@run``: ``tj_run_arrays`` without the GIL, with ``@called.back`` in place of Python's callback."""
        parameters = [("ptr", "code"), ("ptr", "objects"), ("i64", "count"), ("i64", "words"), ("ptr", "growing")]
        parameters += [("i64", "most"), ("ptr", "pool"), ("ptr", "for")]
        given = ", ".join(f"{kind} %{name}" for kind, name in parameters)
        with self.define(f"ptr @run({given})"):
            state = self.call("PyEval_SaveThread", "ptr")
            run = self.load(self.address("run_arrays"))
            status = self.let("status", f"call i64 {run}({given}, ptr @called.back)")
            self.do(f"call void {self.address('PyEval_RestoreThread')}(ptr {state})")
            self.do(f"ret ptr {self.let('status', f'inttoptr i64 {status} to ptr')}")


@cache
def interruptible(run_arrays: int, callback: int) -> Callable[..., int] | None:
    """``tj_run_arrays``, whose address stands at ``run_arrays``, that raises what handlers of signals raise.

    ``None`` where there is no native code for that.
    """
    if objects.why_unsupported() is not None:
        return None
    writer = InterruptWriter()
    writer.interrupted()
    writer.called_back()
    writer.run()
    addresses = objects.load_objects(writer, "interrupts", ["run"], {"run_arrays": run_arrays, "callback": callback})
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    types = (pointer, pointer, word, word, pointer, word, pointer, pointer)
    return ctypes.PYFUNCTYPE(word, *types)(addresses["run"])
