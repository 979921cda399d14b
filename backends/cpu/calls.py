"""Calls of compiled functions in native code: what carries out their signatures (:mod:`.signatures`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import objects
from .entry import CONSTANT_TABLE, CONSTANTS, DONE, FAILED, INPUTS, OUTPUTS, EntryWriter
from .instances import Instances, InstanceWriter
from .signatures import (
    CALLS,
    CHANGES_UNLOCKED,
    COUNT,
    EXTENTS,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    IS_LEAF,
    KEYWORDS,
    LEAVES_ALONE,
    LOCKS,
    OWNED,
    POSITIONALS,
    PROGRAM,
    RANK,
    RECORDS,
    REGISTERS,
    REQUIRES,
    Do,
    Signature,
)
from .tape import Tape

MISS = "inttoptr (i64 1 to ptr)"  # in place of a result
EQUAL = 2  # Py_EQ


@dataclass(frozen=True)
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


class CallWriter(InstanceWriter, EntryWriter):
    """Writes what carries out signatures."""

    def __init__(self, instances: Instances, tape: Tape, callables: Callables) -> None:
        super().__init__(instances)
        self._signatures = objects.slot_offset(callables.cls, callables.signatures)
        self._address = objects.slot_offset(Signature, "address")
        self._node = self.slots[tape.node]
        self._of_node = {
            slot: objects.slot_offset(tape.Node, slot)
            for slot in tape.Node.__slots__  # type: ignore[attr-defined]
        }

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
            kwargs = self.select(self.is_same("%kwargs", "null"), "ptr", self.address("None"), "%kwargs")
            for position, given in enumerate(("%self", "%args", kwargs)):
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
            names = ("missed", "failed", "finish", "locked", "lock", "begin", "next", "unlock", "done")
            self._missed, self._failed, self._finish, locked, lock, begin, next_, unlock, done = self.labels(*names)
            program = self._program = self.load("%signature", PROGRAM, name="program")
            self._inputs, self._outputs, self._constants = (
                self.load(program, offset, "i64", "count") for offset in (INPUTS, OUTPUTS, CONSTANTS)
            )
            registers = self.load("%signature", REGISTERS, "i64")
            arrays = self.add(self.add(self._inputs, self._outputs), self._constants)
            self.do(f"%r = alloca ptr, i64 {registers}")
            self.do(f"%known = alloca ptr, i64 {arrays}")
            self.do(f"%frame = alloca i64, i64 {self.add(arrays, 1)}")
            self.do(f"%floats = alloca double, i64 {self.add(self._inputs, 1)}")
            for name in ("%key", "%value", "%has.run"):
                self.do(f"{name} = alloca ptr")
            self.store("null", "%has.run")
            for items, count in (("%r", registers), ("%known", self._inputs)):
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
            self.branch(self.either(self.is_same(locks, LEAVES_ALONE, "i64"), is_alone), begin, done)
            # (done: nothing has been taken yet)
            self.begin(done)
            self.do(f"ret ptr {MISS}")

            self.begin(begin)
            rows, count = self.load("%signature", INSTRUCTIONS), self.load("%signature", COUNT, "i64")
            with self.loop("0", count, 1) as each:
                self._row = self.offset(rows, self.mul(each.index, INSTRUCTION_BYTES), "row")
                cases = dict(zip(Do, self.labels(*(f"do.{do.name.lower()}" for do in Do)), strict=True))
                table = " ".join(f"i64 {int(do)}, label %{label}" for do, label in cases.items())
                (impossible,) = self.labels("impossible")
                self.do(f"switch i64 {self.load(self._row, 0, 'i64')}, label %{impossible} [ {table} ]")
                self.begin(impossible)
                self.do("unreachable")
                for do, label in cases.items():
                    self.begin(label)
                    ends = getattr(self, f"do_{do.name.lower()}")()
                    if not ends:
                        self.jump(next_)
                self.begin(next_)
            self.do("unreachable")  # the last instruction returns

            self.begin(self._missed)
            self.do(f"call void {self.address('PyErr_Clear')}()")
            self.arrive(self._finish, result=MISS)
            self.begin(self._failed)
            self.arrive(self._finish, result="null")
            (result,) = self.meet(self._finish, result="ptr")
            released, kept = self.labels("released", "kept")
            has_run = self.is_other(self.load("%has.run"), "null")
            self.branch(has_run, released, kept)
            self.begin(released)
            self.release("%known", self.add(self._inputs, self._outputs))
            self.jump(kept)
            self.begin(kept)
            with self.loop(self.load("%signature", OWNED, "i64"), registers, 1) as each:
                self.decref(self.words_of("%r", each.index, "ptr"))
            (end,) = self.labels("end")
            self.branch(self.is_same(locks, CHANGES_UNLOCKED, "i64"), unlock, end)
            self.begin(unlock)
            self._add_held(-1)
            self.decref(self.call("PyObject_CallNoArgs", "ptr", f"ptr {self.address('release')}"))
            self.jump(end)
            self.begin(end)
            self.do(f"ret ptr {result}")

    def _add_held(self, count: int) -> None:
        held = self.address("held")
        self.store(self.add(self.load(held, 0, "i64"), str(count)), held, 0, "i64")

    # Operands of an instruction -----------------------------------------------------------------------------

    def _word(self, name: str) -> str:
        return self.load(self._row, 8 + 8 * "abcd".index(name), "i64", name)

    def _object(self, name: str) -> str:
        return self.load(self._row, 8 + 8 * "abcd".index(name), "ptr", name)

    def _register(self, name: str, of: str | None = None) -> str:
        return self.words_of("%r", self._word(name) if of is None else of, "ptr")

    def _set(self, name: str, value: str) -> None:
        self.store(value, "%r", self.mul(self._word(name), 8))

    def _set_new(self, name: str, value: str) -> None:
        """A new reference into an owned register; an error where it is null."""
        self._set(name, value)
        self.guard(self.is_other(value, "null"), self._failed)

    def _guard_type(self, item: str, cls: str) -> None:
        self.guard(self.is_same(self.type_of(item), self.address(cls)), self._missed)

    def _guard_instance(self, item: str) -> None:
        self.guard(self.is_instance(item), self._missed)

    # Taking things apart ------------------------------------------------------------------------------------

    def do_argument(self) -> None:
        self._set("a", self.load(self.offset("%args", self.mul(self._word("b"), 8)), objects.TUPLE_ITEMS))

    def do_keyword(self) -> None:
        self._set_item("%kwargs", "b")

    def _set_item(self, items: str, key: str) -> None:
        found = self.call("PyDict_GetItemWithError", "ptr", f"ptr {items}", f"ptr {self._object(key)}")
        self.guard(self.is_other(found, "null"), self._missed)
        self._set("a", found)

    def do_tuple(self) -> None:
        self._sized("tuple")

    def do_list(self) -> None:
        self._sized("list")

    def _sized(self, cls: str) -> None:
        items = self._register("a")
        self._guard_type(items, cls)
        self.guard(self.is_same(self.load(items, objects.SIZE, "i64"), self._word("b"), "i64"), self._missed)

    def do_dict(self) -> None:
        items = self._register("a")
        self._guard_type(items, "dict")
        self.guard(self.is_same(self.call("PyDict_Size", "i64", f"ptr {items}"), self._word("b"), "i64"), self._missed)

    def do_tuple_item(self) -> None:
        self._set("a", self.load(self.offset(self._register("b"), self.mul(self._word("c"), 8)), objects.TUPLE_ITEMS))

    def do_list_item(self) -> None:
        self._set("a", self.words_of(self.load(self._register("b"), objects.LIST_ITEMS), self._word("c"), "ptr"))

    def do_next_item(self) -> None:
        position = self.offset("%r", self.mul(self._word("d"), 8))
        more = self.call(
            "PyDict_Next", "i32", f"ptr {self._register('b')}", f"ptr {position}", "ptr %key", "ptr %value"
        )
        self.guard(self.is_other(more, 0, "i32"), self._missed)
        self.guard(self.is_same(self.load("%key"), self._object("c")), self._missed)
        self._set("a", self.load("%value"))

    def do_item(self) -> None:
        items = self._register("b")
        self._guard_type(items, "dict")
        self._set_item(items, "c")

    def do_attributes(self) -> None:
        found = self.call("PyObject_GenericGetDict", "ptr", f"ptr {self._register('b')}", "ptr null")
        self.guard(self.is_other(found, "null"), self._missed)
        self.decref(found)  # the object holds it
        self._set("a", found)

    def do_content(self) -> None:
        found = self.call("PyCell_Get", "ptr", f"ptr {self._object('b')}")
        self.decref(found)  # the cell holds it
        self.guard(self.is_other(found, "null"), self._missed)
        self._set("a", found)

    def do_constant(self) -> None:
        self._set("a", self._object("b"))

    def do_slot(self) -> None:
        item = self._register("b")
        self._guard_instance(item)
        found = self.load(self.offset(item, self._word("c")))
        self.guard(self.is_other(found, "null"), self._missed)
        self._guard_instance(found)
        self._set("a", found)

    # What must hold -----------------------------------------------------------------------------------------

    def do_is(self) -> None:
        self.guard(self.is_same(self._register("a"), self._object("b")), self._missed)

    def do_lacks(self) -> None:
        items = self._register("a")
        self._guard_type(items, "dict")
        has = self.call("PyDict_Contains", "i32", f"ptr {items}", f"ptr {self._object('b')}")
        self.guard(self.is_same(has, 0, "i32"), self._missed)

    def do_equals(self) -> None:
        bits, general, equal = self.labels("bits", "general", "equal")
        item, expected = self._register("a"), self._object("b")
        self.guard(self.is_other(item, expected), equal)
        cls = self.type_of(item)
        self.guard(self.is_same(cls, self.type_of(expected)), self._missed)
        self.branch(self.is_same(cls, self.address("float")), bits, general)
        self.begin(bits)
        first, second = (self.load(number, objects.FLOAT_VALUE, "i64") for number in (item, expected))
        self.branch(self.is_same(first, second, "i64"), equal, self._missed)
        self.begin(general)
        same = self.call("PyObject_RichCompareBool", "i32", f"ptr {item}", f"ptr {expected}", f"i32 {EQUAL}")
        self.branch(self.is_same(same, 1, "i32"), equal, self._missed)
        self.begin(equal)

    def do_truth(self) -> None:
        plain, ask = self.labels("plain", "ask")
        item = self._register("a")
        cls = self.type_of(item)
        for name in ("bool", "int", "float"):
            (other,) = self.labels("other")
            self.branch(self.is_same(cls, self.address(name)), ask, other)
            self.begin(other)
        self.jump(self._missed)
        self.begin(ask)
        truth = self.let("truth", f"sext i32 {self.call('PyObject_IsTrue', 'i32', f'ptr {item}')} to i64")
        self.branch(self.is_same(truth, self._word("b"), "i64"), plain, self._missed)
        self.begin(plain)

    def do_instance(self) -> None:
        self._guard_instance(self._register("a"))

    def do_slot_is(self) -> None:
        item = self._register("a")
        self._guard_instance(item)
        found = self.load(self.offset(item, self._word("b")))
        self.guard(self.is_same(found, self._object("c")), self._missed)

    def do_word_is(self) -> None:
        self.guard(self.is_same(self.load(self._object("a"), 0, "i64"), self._word("b"), "i64"), self._missed)

    def do_not_among(self) -> None:
        item, table = self._register("a"), self._object("b")
        with self.loop("0", self._word("c"), 1) as each:
            self.guard(self.is_other(self.words_of(table, each.index, "ptr"), item), self._missed)

    def do_distinct(self) -> None:
        table, count = self._object("a"), self._word("b")
        with self.loop("0", count, 1) as each:
            item = self._register("", self.words_of(table, each.index))
            with self.loop(self.add(each.index, 1), count, 1) as others:
                other = self._register("", self.words_of(table, others.index))
                self.guard(self.is_other(item, other), self._missed)

    def do_holds(self) -> None:
        table, count = self._object("b"), self._word("c")
        items = self.call("PyList_New", "ptr", f"i64 {count}")
        self.guard(self.is_other(items, "null"), self._failed)
        places = self.load(items, objects.LIST_ITEMS)
        with self.loop("0", count, 1) as each:
            item = self._register("", self.words_of(table, each.index))
            self.incref(item)
            self.store(item, places, self.mul(each.index, 8))
        answer = self.call("PyObject_CallOneArg", "ptr", f"ptr {self._object('a')}", f"ptr {items}")
        self.decref(items)
        self.decref(answer)  # a boolean
        self.guard(self.is_same(answer, self.address("True")), self._missed)

    # Inputs -------------------------------------------------------------------------------------------------

    def do_tensor(self) -> None:
        item, table = self._register("a"), self._object("c")
        self._guard_instance(item)
        self.guard(self.is_same(self.load(item, self.gradient), self.load(table, REQUIRES)), self._missed)
        is_leaf = self.is_same(self.load(item, self._node), self.address("None"))
        expected = self.is_other(self.load(table, IS_LEAF, "i64"), 0, "i64")
        self.guard(self.is_same(is_leaf, expected, "i1"), self._missed)
        found = self.array_of(item, self._missed)
        self.guard(self.is_same(self.dtype_of(found), self._object("b")), self._missed)
        rank = self.rank_of(found)
        self.guard(self.is_same(rank, self.load(table, RANK, "i64"), "i64"), self._missed)
        shape, extents = self.shape_of(found), self.offset(table, EXTENTS)
        with self.loop("0", rank, 1) as axes:
            self.guard(
                self.is_same(self.words_of(shape, axes.index), self.words_of(extents, axes.index), "i64"), self._missed
            )
        self._set_input(found)

    def _set_input(self, found: str) -> None:
        """An array as the input numbered d, unless that is negative."""
        read, unread = self.labels("read", "unread")
        number = self._word("d")
        self.branch(self.let("is_read", f"icmp sge i64 {number}, 0"), read, unread)
        self.begin(read)
        at = self.mul(number, 8)
        self.store(found, "%known", at)
        self.store(self.data_of(found), "%frame", at)
        self.jump(unread)
        self.begin(unread)

    def do_value(self) -> None:
        item = self._register("a")
        self._guard_instance(item)
        self._set_input(self.array_of(item, self._missed))

    def do_float(self) -> None:
        item, at = self._register("a"), self.mul(self._word("d"), 8)
        self._guard_type(item, "float")
        self.store(self.load(item, objects.FLOAT_VALUE, "double"), "%floats", at, "double")
        self.store(self.offset("%floats", at), "%frame", at)

    def do_real(self) -> None:
        is_float, other, wide, done = self.labels("is.float", "other", "wide", "done")
        item, at = self._register("a"), self.mul(self._word("d"), 8)
        self.branch(self.is_same(self.type_of(item), self.address("float")), is_float, other)
        self.begin(is_float)
        self.arrive(done, value=self.load(item, objects.FLOAT_VALUE, "double"))
        self.begin(other)
        self._guard_type(item, "int")
        value = self.call("PyLong_AsDouble", "double", f"ptr {item}")
        is_minus_one = self.let("minus.one", f"fcmp oeq double {value}, -1.0")
        self.guard(is_minus_one, wide)  # which is also how an overflow is told
        self.guard(self.is_same(self.call("PyErr_Occurred", "ptr"), "null"), self._missed)
        self.jump(wide)
        self.begin(wide)
        self.arrive(done, value=value)
        (value,) = self.meet(done, value="double")
        self.store(value, "%floats", at, "double")
        self.store(self.offset("%floats", at), "%frame", at)

    def do_is_float(self) -> None:
        self._guard_type(self._register("a"), "float")

    # The program and its results ----------------------------------------------------------------------------

    def do_run(self) -> None:
        with self.loop("0", self._inputs, 1) as each:
            self.incref(self.words_of("%known", each.index, "ptr"))
        made = self.offset("%known", self.mul(self._inputs, 8))
        status = self.let("status", f"call i64 @run(ptr {self._program}, ptr %frame, ptr {made})")
        ran, not_ran = self.labels("ran", "not.ran")
        self.branch(self.is_same(status, DONE, "i64"), ran, not_ran)
        self.begin(not_ran)
        self.release("%known", self._inputs)
        self.branch(self.is_same(status, FAILED, "i64"), self._failed, self._missed)
        self.begin(ran)
        self.store(self._program, "%has.run")
        table, first = self.load(self._program, CONSTANT_TABLE), self.add(self._inputs, self._outputs)
        with self.loop("0", self._constants, 1) as each:
            constant = self.words_of(table, each.index, "ptr")
            self.store(constant, "%known", self.mul(self.add(first, each.index), 8))

    def _array_numbered(self, name: str) -> str:
        return self.words_of("%known", self._word(name), "ptr")

    def do_true(self) -> None:
        truth = self.load(self.data_of(self._array_numbered("a")), 0, "i8")
        self.guard(self.is_other(truth, 0, "i8"), self._missed)

    def do_new(self) -> None:
        made, dropped = self.labels("made", "dropped")
        array = self._array_numbered("b")
        self.incref(array)
        self._set("a", self.instance_with(array, dropped))
        self.jump(made)
        self.begin(dropped)
        self.decref(array)
        self.jump(self._failed)
        self.begin(made)

    def do_spent(self) -> None:
        node = self.new_instance(self.address("Node"))
        self.guard(self.is_other(node, "null"), self._failed)
        for slot, offset in self._of_node.items():
            value = self._object("b") if slot == "type" else self.address("no_edges" if slot == "edges" else "None")
            self.fill_slot(node, offset, value)
        item = self._register("a")
        self.store(node, item, self._node)
        self.decref(self.address("None"))
        self.fill_slot(item, self.gradient, self.address("True"))
        self.decref(self.address("False"))

    def do_number(self) -> None:
        kinds = self.labels("double", "single", "integer", "truth")
        made, impossible = self.labels("made", "impossible")
        data = self.data_of(self._array_numbered("b"))
        table = " ".join(f"i64 {number}, label %{label}" for number, label in enumerate(kinds))
        self.do(f"switch i64 {self._word('c')}, label %{impossible} [ {table} ]")
        self.begin(impossible)
        self.do("unreachable")
        self.begin(kinds[0])
        self.arrive(made, item=self.call("PyFloat_FromDouble", "ptr", f"double {self.load(data, 0, 'double')}"))
        self.begin(kinds[1])
        wide = self.let("wide", f"fpext float {self.load(data, 0, 'float')} to double")
        self.arrive(made, item=self.call("PyFloat_FromDouble", "ptr", f"double {wide}"))
        self.begin(kinds[2])
        self.arrive(made, item=self.call("PyLong_FromLongLong", "ptr", f"i64 {self.load(data, 0, 'i64')}"))
        self.begin(kinds[3])
        wide = self.let("wide", f"zext i8 {self.load(data, 0, 'i8')} to i64")
        self.arrive(made, item=self.call("PyBool_FromLong", "ptr", f"i64 {wide}"))
        (item,) = self.meet(made, item="ptr")
        self._set_new("a", item)

    def do_keep(self) -> None:
        item = self._register("b")
        self.incref(item)
        self._set("a", item)

    def do_take(self) -> None:
        item = self._object("b")
        self.incref(item)
        self._set("a", item)

    def do_array(self) -> None:
        item = self._array_numbered("b")
        self.incref(item)
        self._set("a", item)

    def do_new_tuple(self) -> None:
        items = self.new_tuple(self._word("c"))
        self._set_new("a", items)
        self._fill(self.offset(items, objects.TUPLE_ITEMS))

    def do_new_list(self) -> None:
        items = self.call("PyList_New", "ptr", f"i64 {self._word('c')}")
        self._set_new("a", items)
        self._fill(self.load(items, objects.LIST_ITEMS))

    def _fill(self, places: str) -> None:
        table = self._object("b")
        with self.loop("0", self._word("c"), 1) as each:
            item = self._register("", self.words_of(table, each.index))
            self.incref(item)
            self.store(item, places, self.mul(each.index, 8))

    def do_new_dict(self) -> None:
        items, table = self.call("PyDict_New", "ptr"), self._object("b")
        self._set_new("a", items)
        with self.loop("0", self._word("c"), 1) as each:
            pair = self.offset(table, self.mul(each.index, 16))
            item = self._register("", self.load(pair, 8, "i64"))
            put = self.call("PyDict_SetItem", "i32", f"ptr {items}", f"ptr {self.load(pair)}", f"ptr {item}")
            self.guard(self.is_same(put, 0, "i32"), self._failed)

    # The end ------------------------------------------------------------------------------------------------

    def do_put(self) -> None:
        place = self.offset(self._register("a"), self._word("b"))
        before = self.load(place)
        self.store(self._register("c"), place)
        self._set("c", before)

    def do_return(self) -> bool:
        self.store(self.add(self.load("%signature", CALLS, "i64"), 1), "%signature", CALLS, "i64")
        item = self._register("a")
        self._set("a", "null")
        self.arrive(self._finish, result=item)
        return True


@dataclass(frozen=True)
class Calls:
    """Native code for the slots of the class whose instances are called."""

    call: int
    method: int


def compile_calls(instances: Instances, tape: Tape, callables: Callables) -> Calls:
    """Native code for calls of instances of a class."""
    writer = CallWriter(instances, tape, callables)
    writer.program()
    writer.attempt()
    writer.call_of_instance()
    writer.binding()
    named: dict[str, Any] = {cls.__name__: cls for cls in (np.ndarray, bool, int, float, tuple, list, dict)}
    named |= {"slow": callables.slow, "acquire": callables.acquire, "release": callables.release}
    named |= {"no_edges": (), "Node": tape.Node, "thread": tape.thread, "mode": sys.intern(tape.mode)}
    known = instances.known() | {name: objects.immortal(item) for name, item in named.items()}
    known |= {"unrecorded": callables.unrecorded, "held": callables.held}
    addresses = objects.load_objects(writer, "calls", ["call", "method"], known)
    return Calls(addresses["call"], addresses["method"])
