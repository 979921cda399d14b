"""Calls of programs in native code: arrays in, arrays out, with no Python in between.

An executable's *entry* is a table of words that tells :meth:`EntryWriter.program` what to allocate, what to put into
the program's frame and how to run it.  Programs in which Python makes some of the calls, and arrays that are not as
the program has them, are *misses*: :class:`~.runtime.Executable` handles them in Python.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tracejit.ir.facts import facts

from . import buffers, compiler, objects
from .interrupts import InterruptWriter

RELEASED_WORK = 1 << 18  # scalar operations, some 20 µs, from which on other threads may run meanwhile

# Byte offsets in an entry: how to run the program (the arguments of tj_run), what its frame holds, and where tables
# stand: of the outputs, of the constants' data and of the constants, and of which arrays are results.
(
    RUN, CODE, FRAME_WORDS, GROWING, MOST_ARGUMENTS, POOL, PARALLEL_FOR, INPUTS, OUTPUTS, CONSTANTS, RESULTS, RELEASES,
    WORKSPACE, IN_USE, OUTPUT_TABLE, CONSTANT_DATA, CONSTANT_TABLE, RESULT_TABLE, ENTRY_BYTES,
) = range(0, 19 * 8, 8)  # fmt: skip
# In the table of outputs: the dtype, the rank, where the shape stands, and what allocates it if it is large.
DTYPE, RANK, SHAPE, ALLOCATE, OUTPUT_BYTES = range(0, 5 * 8, 8)

DONE, MISSED, FAILED = 0, 1, 2


@facts(frozen=True)
class Plan:
    """What an entry is made of: see :class:`~.runtime.Executable`."""

    run: int
    words: array[int]
    frame_words: int
    growing: array[int]
    most_arguments: int
    pool: int
    parallel_for: int
    inputs: int
    outputs: Sequence[tuple[tuple[int, ...], np.dtype, int]]
    constants: Sequence[np.ndarray]
    workspace: np.ndarray
    results: Sequence[int]
    work: int
    runs_for_long: bool  # or may do so: nobody knows


class Entry:
    """A program's entry; ``call`` takes a list of arrays and gives a list of arrays, or ``None`` for a miss."""

    def __init__(self, plan: Plan, execute: objects.Builtin) -> None:
        """``arrays`` is how many a call has, with the workspace; ``constants`` those that it does not fill."""
        self._held: list[Any] = [plan]
        workspace = plan.workspace if plan.workspace.nbytes else None
        constants = [np.require(constant, requirements=("C", "A")) for constant in plan.constants]
        outputs: list[int] = []
        for shape, dtype, nbytes in plan.outputs:
            allocate = partial(buffers.empty, shape, dtype, nbytes) if nbytes >= buffers.LARGE else None
            self._held += [dtype, allocate]
            outputs += [id(dtype), len(shape), self._table(shape), 0 if allocate is None else id(allocate)]
        self._held += [workspace, *constants]
        self.constants = dict(enumerate(constants, plan.inputs + len(plan.outputs)))
        self.arrays = plan.inputs + len(plan.outputs) + len(constants) + 1
        releases = plan.work >= RELEASED_WORK or plan.runs_for_long
        # Whether other threads may run meanwhile: where the GIL is released, or Python code allocates.
        self.lets_go = releases or any(nbytes >= buffers.LARGE for _, _, nbytes in plan.outputs)
        words = [0] * (ENTRY_BYTES // 8)
        for offset, value in {
            RUN: plan.run,
            CODE: plan.words.buffer_info()[0],
            FRAME_WORDS: plan.frame_words,
            GROWING: plan.growing.buffer_info()[0],
            MOST_ARGUMENTS: plan.most_arguments,
            POOL: plan.pool,
            PARALLEL_FOR: plan.parallel_for,
            INPUTS: plan.inputs,
            OUTPUTS: len(plan.outputs),
            CONSTANTS: len(constants),
            RESULTS: len(plan.results),
            RELEASES: releases,
            WORKSPACE: 0 if workspace is None else workspace.ctypes.data,
            OUTPUT_TABLE: self._table(outputs),
            CONSTANT_DATA: self._table([constant.ctypes.data for constant in constants]),
            CONSTANT_TABLE: self._table(map(id, constants)),
            RESULT_TABLE: self._table(plan.results),
        }.items():
            words[offset // 8] = value
        self.address = self._table(words)
        self.call = execute.of(self.address)

    def _table(self, values: Any) -> int:
        table = array("q", [*values, 0])
        self._held.append(table)
        return table.buffer_info()[0]


class EntryWriter(InterruptWriter):
    """Writes what calls programs."""

    def words_of(self, table: str, number: str, kind: str = "i64") -> str:
        """A word of a table."""
        return self.load(table, self.mul(number, 8), kind, "word")

    def release(self, items: str, count: str) -> None:
        """Let go of some references that stand in memory."""
        with self.loop("0", count, 1) as each:
            self.decref(self.words_of(items, each.index, "ptr"))

    def program(self) -> None:
        """``@run(program, frame, made)``: run a program whose inputs' data stand in the frame; see ``DONE`` and so on.

        The outputs, new references, are put at ``made``.
        """
        with self.define("internal i64 @run(ptr %program, ptr %frame, ptr %made)"):
            missed, failed, new, large, made, held, free, ran, done = self.labels(
                "missed", "failed", "new", "large", "made", "held", "free", "ran", "done"
            )
            self.do("%number = alloca i64")
            inputs, outputs, constants = (
                self.load("%program", offset, "i64", "count") for offset in (INPUTS, OUTPUTS, CONSTANTS)
            )
            workspace = self.load("%program", WORKSPACE, "ptr", "workspace")
            self.guard(self.is_same(self.load("%program", IN_USE, "i64"), 0, "i64"), missed)
            in_use = self.let("in_use", f"zext i1 {self.is_other(workspace, 'null')} to i64")
            self.store(in_use, "%program", IN_USE, "i64")
            table = self.load("%program", OUTPUT_TABLE)
            with self.loop("0", outputs, 1) as each:
                output = self.offset(table, self.mul(each.index, OUTPUT_BYTES))
                allocate = self.load(output, ALLOCATE)
                self.branch(self.is_same(allocate, "null"), new, large)
                self.begin(new)
                rank = self.let("rank", f"trunc i64 {self.load(output, RANK, 'i64')} to i32")
                self.arrive(made, item=self.new_array(self.load(output, DTYPE), rank, self.load(output, SHAPE)))
                self.begin(large)
                self.arrive(made, item=self.call("PyObject_CallNoArgs", "ptr", f"ptr {allocate}"))
                (item,) = self.meet(made, item="ptr")
                self.store(item, "%made", self.mul(each.index, 8))
                self.store(each.index, "%number", kind="i64")
                self.guard(self.is_other(item, "null"), failed)
                self.store(self.data_of(item), "%frame", self.mul(self.add(inputs, each.index), 8))
            self.store(outputs, "%number", kind="i64")
            first = self.add(inputs, outputs)
            data = self.load("%program", CONSTANT_DATA)
            with self.loop("0", constants, 1) as each:
                self.store(self.words_of(data, each.index), "%frame", self.mul(self.add(first, each.index), 8), "i64")
            last = self.add(first, constants)
            self.store(workspace, "%frame", self.mul(last, 8))
            arguments = [f"ptr {self.load('%program', CODE)}", "ptr %frame", f"i64 {self.add(last, 1)}"]
            arguments += [f"i64 {self.load('%program', FRAME_WORDS, 'i64')}", f"ptr {self.load('%program', GROWING)}"]
            arguments += [f"i64 {self.load('%program', MOST_ARGUMENTS, 'i64')}"]
            arguments += [f"ptr {self.load('%program', offset)}" for offset in (POOL, PARALLEL_FOR)]
            call = f"call i64 {self.load(self.load('%program', RUN))}({', '.join(arguments)}, ptr @interrupted)"
            self.branch(self.is_same(self.load("%program", RELEASES, "i64"), 0, "i64"), held, free)
            self.begin(held)
            self.arrive(ran, status=self.let("status", call))
            self.begin(free)
            state = self.call("PyEval_SaveThread", "ptr")
            status = self.let("status", call)
            self.do(f"call void {self.address('PyEval_RestoreThread')}(ptr {state})")
            self.arrive(ran, status=status)
            (status,) = self.meet(ran, status="i64")
            self.branch(self.is_same(status, 0, "i64"), done, failed)
            self.begin(done)
            self.store(0, "%program", IN_USE, "i64")
            self.do(f"ret i64 {DONE}")
            self.begin(failed)
            self.release("%made", self.load("%number", 0, "i64"))
            self.store(0, "%program", IN_USE, "i64")
            self.do(f"ret i64 {FAILED}")
            self.begin(missed)
            self.do(f"ret i64 {MISSED}")

    def execute(self) -> None:
        """``@execute``, a builtin function whose owner is an entry's address: a list of arrays, or None for a miss."""
        with self.define("ptr @execute(ptr %owner, ptr %items, i64 %count, ptr %keywords)"):
            miss, released, unmade, dropped = self.labels("miss", "released", "unmade", "dropped")
            entry = self.call("PyLong_AsVoidPtr", "ptr", "ptr %owner")
            inputs, outputs, constants, results = (
                self.load(entry, offset, "i64", "count") for offset in (INPUTS, OUTPUTS, CONSTANTS, RESULTS)
            )
            self.guard(self.is_same("%count", 1, "i64"), miss)
            given = self.load("%items")
            self.guard(self.is_same(self.type_of(given), self.address("list")), miss)
            self.guard(self.is_same(self.load(given, objects.SIZE, "i64"), inputs, "i64"), miss)
            items = self.load(given, objects.LIST_ITEMS)
            with self.loop("0", inputs, 1) as each:
                self.guard_plain(self.words_of(items, each.index, "ptr"), miss)
            arrays = self.add(self.add(inputs, outputs), constants)
            known = self.let("known", f"alloca ptr, i64 {arrays}")
            frame = self.let("frame", f"alloca i64, i64 {self.add(arrays, 1)}")
            with self.loop("0", inputs, 1) as each:  # held, for the list may change meanwhile
                item = self.words_of(items, each.index, "ptr")
                self.incref(item)
                self.store(item, known, self.mul(each.index, 8))
                self.store(self.data_of(item), frame, self.mul(each.index, 8))
            table, first = self.load(entry, CONSTANT_TABLE), self.add(inputs, outputs)
            with self.loop("0", constants, 1) as each:
                self.store(self.words_of(table, each.index, "ptr"), known, self.mul(self.add(first, each.index), 8))
            made = self.offset(known, self.mul(inputs, 8))
            status = self.let("status", f"call i64 @run(ptr {entry}, ptr {frame}, ptr {made})")
            self.guard(self.is_same(status, DONE, "i64"), unmade)
            found = self.call("PyList_New", "ptr", f"i64 {results}")
            self.guard(self.is_other(found, "null"), dropped)
            places, table = self.load(found, objects.LIST_ITEMS), self.load(entry, RESULT_TABLE)
            with self.loop("0", results, 1) as each:
                item = self.words_of(known, self.words_of(table, each.index), "ptr")
                self.incref(item)
                self.store(item, places, self.mul(each.index, 8))
            self.jump(dropped)
            self.begin(dropped)
            self.release(made, outputs)
            self.arrive(released, found=found)
            self.begin(unmade)
            none = self.select(self.is_same(status, MISSED, "i64"), "ptr", self.address("None"), "null")
            self.incref(none)
            self.arrive(released, found=none)
            (found,) = self.meet(released, found="ptr")
            self.release(known, inputs)
            self.do(f"ret ptr {found}")
            self.begin(miss)
            self.return_reference(self.address("None"))


_execute: objects.Builtin | None = None
_is_asked_for = False


def make(plan: Plan) -> Entry | None:
    """An entry for a program; ``None`` where there can be none, or as long as the code is not loaded."""
    global _is_asked_for
    if _execute is None and not _is_asked_for:
        _is_asked_for = True
        if objects.why_unsupported() is None:
            compiler.run_later(load)
    return None if _execute is None else Entry(plan, _execute)


def load() -> None:
    """Load the native code."""
    global _execute
    writer = EntryWriter()
    writer.interrupted()
    writer.program()
    writer.execute()
    known = {"ndarray": objects.immortal(np.ndarray), "list": objects.immortal(list), "None": objects.immortal(None)}
    addresses = objects.load_objects(writer, "entry", ["execute"], known)
    _execute = objects.Builtin("execute", addresses["execute"])
