"""Calls of compiled functions in native code: what carries out their signatures (:mod:`.signatures`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.facts import facts

from . import objects
from .instances import Instances
from .signatures import (
    ARRAYS,
    CHANGES_UNLOCKED,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    KEYWORDS,
    LEAVES_ALONE,
    LOCKS,
    OWNED,
    OWNED_COUNT,
    POSITIONALS,
    RECORDS,
    REGISTERS,
    Do,
    Signature,
)
from .steps import StepWriter
from .tape import Tape

MISS = "inttoptr (i64 1 to ptr)"  # in place of a result


@facts(frozen=True)
class Callables:
    """The class whose instances are called: its slot for a tuple of signatures (or ``None``), and what misses call.

    ``slow(self, args, kwargs)``, where ``kwargs`` may be ``None``.  ``unrecorded`` is the address of a word that is 0
    while all threads record gradients; ``held`` of one that is not 0 while a call changes tensors without the GIL,
    which it must ``acquire`` and ``release`` for that.
    """

    cls: type
    signatures: str
    slow: Callable[..., Any]
    unrecorded: int
    held: int
    acquire: Callable[[], Any]
    release: Callable[[], Any]


class CallWriter(StepWriter):
    """Writes what carries out signatures."""

    def __init__(self, instances: Instances, tape: Tape, callables: Callables) -> None:
        super().__init__(instances, tape)
        self._signatures = objects.slot_offset(callables.cls, callables.signatures)
        self._address = objects.slot_offset(Signature, "address")

    # The call -----------------------------------------------------------------------------------------------

    def call_of_instance(self) -> None:
        """``@call(self, args, kwargs)``, for the class's slot: the first signature that fits, else Python."""
        with self.define("ptr @call(ptr %self, ptr %args, ptr %kwargs)"):
            slow, ask, known, named, counted, other, found, failed = self.labels(
                "slow", "ask", "known", "named", "counted", "other", "found", "failed"
            )
            self.do("%items = alloca [3 x ptr]")
            signatures = self.load("%self", self._signatures)
            self.guard(self.is_other(signatures, self.address("None")), slow)
            self.guard_computing(slow)
            self.guard(self.is_same(self.load(self.address("unrecorded"), 0, "i64"), 0, "i64"), ask)
            self.arrive(known, mode=self.address("True"))
            self.begin(ask)
            mode = self.call("PyObject_GetAttr", "ptr", f"ptr {self.address('thread')}", f"ptr {self.address('mode')}")
            self.guard(self.is_other(mode, "null"), failed)
            self.decref(mode)  # one of the two booleans
            self.arrive(known, mode=mode)
            (mode,) = self.meet(known, mode="ptr")
            positionals = self.load("%args", objects.SIZE, "i64", "positionals")
            self.guard(self.is_same("%kwargs", "null"), named)
            self.arrive(counted, keywords="0")
            self.begin(named)
            self.arrive(counted, keywords=self.call("PyDict_Size", "i64", "ptr %kwargs"))
            (keywords,) = self.meet(counted, keywords="i64")
            self.incref(signatures)
            with self.loop("0", self.load(signatures, objects.SIZE, "i64"), 1) as each:
                item = self.load(self.offset(signatures, self.mul(each.index, 8)), objects.TUPLE_ITEMS)
                signature = self.call("PyLong_AsVoidPtr", "ptr", f"ptr {self.load(item, self._address)}")
                self.guard(self.is_same(self.load(signature, POSITIONALS, "i64"), positionals, "i64"), other)
                self.guard(self.is_same(self.load(signature, KEYWORDS, "i64"), keywords, "i64"), other)
                self.guard(self.is_same(self.load(signature, RECORDS), mode), other)
                result = self.let("result", f"call ptr @attempt(ptr {signature}, ptr %args, ptr %kwargs)")
                self.branch(self.is_same(result, MISS), other, found)
                self.begin(other)
            self.decref(signatures)
            self.jump(slow)
            self.begin(found)
            self.decref(signatures)
            self.do(f"ret ptr {result}")
            self.begin(slow)
            for position, given in enumerate(("%self", "%args", self._given_keywords())):
                self.store(given, "%items", 8 * position)
            self.return_call(self.address("slow"), "%items", "3")
            self.begin(failed)
            self.do("ret ptr null")

    def binding(self) -> None:
        """``@bind(self, instance, class)``: the method of an instance, for the class's ``__get__``."""
        with self.define("ptr @method(ptr %self, ptr %instance, ptr %class)"):
            unbound, bound = self.labels("unbound", "bound")
            none = self.is_same("%instance", self.address("None"))
            self.branch(self.either(self.is_same("%instance", "null"), none), unbound, bound)
            self.begin(unbound)
            self.return_reference("%self")
            self.begin(bound)
            self.do(f"ret ptr {self.call('PyMethod_New', 'ptr', 'ptr %self', 'ptr %instance')}")

    def attempt(self) -> None:
        """``@attempt(signature, args, kwargs)``: the result, null with an error set, or a miss."""
        with self.define("internal ptr @attempt(ptr %signature, ptr %args, ptr %kwargs)"):
            self._missed, self._failed, self._finish, self._go_on = self.labels("missed", "failed", "finish", "go.on")
            locked, lock, begin, unlock, alone = self.labels("locked", "lock", "begin", "unlock", "alone")
            registers, arrays = (self.load("%signature", offset, "i64") for offset in (REGISTERS, ARRAYS))
            self.do(f"%r = alloca ptr, i64 {registers}")
            self.do(f"%known = alloca ptr, i64 {arrays}")
            self.do(f"%frame = alloca i64, i64 {arrays}")
            self.do(f"%floats = alloca double, i64 {arrays}")
            self.do("%items = alloca [3 x ptr]")
            for name in ("%key", "%value", "%moved"):
                self.do(f"{name} = alloca ptr")
            self.store(0, "%moved", 0, "i64")
            for items, count in (("%r", registers), ("%known", arrays)):
                with self.loop("0", count, 1) as each:
                    self.store("null", items, self.mul(each.index, 8))
            locks = self.load("%signature", LOCKS, "i64")
            self.branch(self.is_same(locks, CHANGES_UNLOCKED, "i64"), lock, locked)
            self.begin(lock)
            taken = self.call("PyObject_CallNoArgs", "ptr", f"ptr {self.address('acquire')}")
            (unlocked,) = self.labels("unlocked")
            self.guard(self.is_other(taken, "null"), unlocked)
            self.decref(taken)
            self._add_held(1)
            self.jump(begin)
            self.begin(unlocked)
            self.do("ret ptr null")
            self.begin(locked)
            is_alone = self.is_same(self.load(self.address("held"), 0, "i64"), 0, "i64")
            self.branch(self.either(self.is_same(locks, LEAVES_ALONE, "i64"), is_alone), begin, alone)
            self.begin(alone)  # another thread is at it; nothing has been taken yet
            self.do(f"ret ptr {MISS}")

            self.begin(begin)
            rows = self.load("%signature", INSTRUCTIONS)
            self.arrive(self._go_on, at="0")
            cases = dict(zip(Do, self.labels(*(f"do.{do.name.lower()}" for do in Do)), strict=True))
            self.begin(self._go_on)
            start, at = len(self.lines), "%at"
            self._row = self.offset(rows, self.mul(at, INSTRUCTION_BYTES), "row")
            table = " ".join(f"i64 {int(do)}, label %{label}" for do, label in cases.items())
            (impossible,) = self.labels("impossible")
            self.do(f"switch i64 {self.load(self._row, 0, 'i64')}, label %{impossible} [ {table} ]")
            self.begin(impossible)
            self.do("unreachable")
            for do, label in cases.items():
                self.begin(label)
                getattr(self, f"do_{do.name.lower()}")()
                self.arrive(self._go_on, at=self.add(at, 1))
            ways = ", ".join(f"[ {values['at']}, %{block} ]" for block, values in self._ways.pop(self._go_on))
            self.lines.insert(start, f"  {at} = phi i64 {ways}")

            self.begin(self._missed)
            self.do(f"call void {self.address('PyErr_Clear')}()")
            self.arrive(self._finish, result=MISS)
            self.begin(self._failed)
            self.arrive(self._finish, result="null")
            (result,) = self.meet(self._finish, result="ptr")
            self.release("%known", arrays)
            owned = self.load("%signature", OWNED)
            with self.loop("0", self.load("%signature", OWNED_COUNT, "i64"), 1) as each:
                self.decref(self.words_of("%r", self.words_of(owned, each.index), "ptr"))
            (end,) = self.labels("end")
            self.branch(self.is_same(locks, CHANGES_UNLOCKED, "i64"), unlock, end)
            self.begin(unlock)
            self._add_held(-1)
            self.do("%error = alloca [3 x ptr]")  # which is put aside
            places = ", ".join(f"ptr {self.offset('%error', 8 * number)}" for number in range(3))
            self.do(f"call void {self.address('PyErr_Fetch')}({places})")
            self.decref(self.call("PyObject_CallNoArgs", "ptr", f"ptr {self.address('release')}"))
            error = ", ".join(f"ptr {self.load('%error', 8 * number)}" for number in range(3))
            self.do(f"call void {self.address('PyErr_Restore')}({error})")
            self.jump(end)
            self.begin(end)
            self.do(f"ret ptr {result}")

    def _add_held(self, count: int) -> None:
        held = self.address("held")
        self.store(self.add(self.load(held, 0, "i64"), str(count)), held, 0, "i64")


@facts(frozen=True)
class Calls:
    """Native code for the slots of the class whose instances are called."""

    call: int
    method: int


def compile_calls(instances: Instances, tape: Tape, callables: Callables) -> Calls:
    """Native code for calls of instances of a class."""
    writer = CallWriter(instances, tape, callables)
    writer.lines.append("declare ptr @memcpy(ptr, ptr, i64)")
    writer.recycling()
    writer.instances()
    writer.interrupted()
    writer.program()
    writer.edge()
    writer.attempt()
    writer.call_of_instance()
    writer.binding()
    named: dict[str, Any] = {cls.__name__: cls for cls in (bool, int, float, tuple, list, dict)}
    named |= {"slow": callables.slow, "acquire": callables.acquire, "release": callables.release}
    named |= {"node_of": tape.node_of, "thread": tape.thread, "mode": sys.intern(tape.mode)}
    named |= {"float64": np.dtype(np.float64)}
    known = instances.known() | {name: objects.immortal(item) for name, item in named.items()}
    known |= {"unrecorded": callables.unrecorded, "held": callables.held}
    addresses = objects.load_objects(writer, "calls", ["call", "method"], known)
    return Calls(addresses["call"], addresses["method"])
