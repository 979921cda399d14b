"""What the instructions of signatures (:mod:`.signatures`) do, in native code."""

from __future__ import annotations

from . import objects
from .entry import DONE, FAILED, INPUTS, OUTPUTS, EntryWriter
from .instances import Instances
from .signatures import (
    CONTENT,
    EXTENTS,
    FILL_BYTES,
    IS_LEAF,
    NBYTES,
    NEXT,
    OUTCOME,
    OUTCOME_BYTES,
    PLACE,
    RANK,
    REGISTER,
    REQUIRES,
    TARGET,
)
from .tape import Tape, TapeWriter

EQUAL = 2  # Py_EQ


class StepWriter(TapeWriter, EntryWriter):
    """Writes what carries out one instruction, each in a method of its name.

    It goes on after the method's code, or where that arrives by itself.  ``%r`` are the registers, ``%known`` the
    arrays, ``%frame`` their data, ``%floats`` the numbers that stand for arrays.
    """

    _row: str  # the instruction
    _missed: str  # labels
    _failed: str
    _finish: str
    _go_on: str

    def __init__(self, instances: Instances, tape: Tape) -> None:
        super().__init__(instances, tape)

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

    def do_keywords(self) -> None:
        self._set("a", "%kwargs")

    def _set_item(self, items: str, key: str) -> None:
        found = self.call("PyDict_GetItemWithError", "ptr", f"ptr {items}", f"ptr {self._object(key)}")
        self.guard(self.is_other(found, "null"), self._missed)
        self._set("a", found)

    def do_sized(self) -> None:
        items = self._register("a")
        self.guard(self.is_same(self.type_of(items), self._object("c")), self._missed)
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

    def do_same(self) -> None:
        self.guard(self.is_same(self._register("a"), self._register("b")), self._missed)

    def do_type_is(self) -> None:
        self.guard(self.is_same(self.type_of(self._register("a")), self._object("b")), self._missed)

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

    def do_like(self) -> None:
        another, like = self.labels("another", "like")
        item = self._register("a")
        self.branch(self.is_same(item, self._object("d")), like, another)
        self.begin(another)
        self._guard_like(item)
        self.store(1, "%moved", 0, "i64")
        self.jump(like)
        self.begin(like)

    def do_apart(self) -> None:
        moved, same = self.labels("moved", "same")
        self.branch(self.is_same(self.load("%moved", 0, "i64"), 0, "i64"), same, moved)
        self.begin(moved)
        self.do_distinct()
        self.jump(same)
        self.begin(same)

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
        self._set_input(self._guard_like(self._register("a")))

    def _guard_like(self, item: str) -> str:
        """An instance of the dtype *b, and as the table c says; its array."""
        table = self._object("c")
        self._guard_instance(item)
        self.guard(self.is_same(self.load(item, self.gradient), self.load(table, REQUIRES)), self._missed)
        is_leaf = self.is_same(self.load(item, self._node), self.address("None"))
        expected = self.is_other(self.load(table, IS_LEAF, "i64"), 0, "i64")
        self.guard(self.is_same(is_leaf, expected, "i1"), self._missed)
        found = self.array_of(item, self._missed)
        self._guard_kind(found)
        return found

    def _guard_kind(self, found: str) -> None:
        """An array of the dtype *b, and of the rank and extents that the table c has."""
        table = self._object("c")
        self.guard(self.is_same(self.dtype_of(found), self._object("b")), self._missed)
        rank = self.rank_of(found)
        self.guard(self.is_same(rank, self.load(table, RANK, "i64"), "i64"), self._missed)
        shape, extents = self.shape_of(found), self.offset(table, EXTENTS)
        with self.loop("0", rank, 1) as axes:
            self.guard(
                self.is_same(self.words_of(shape, axes.index), self.words_of(extents, axes.index), "i64"), self._missed
            )

    def do_copy(self) -> None:
        item = self._register("a")
        self.guard_plain(item, self._missed)
        self._guard_kind(item)
        rank = self.load(item, objects.ARRAY_RANK, "i32")
        made = self.new_array(self._object("b"), rank, self.shape_of(item))
        self.guard(self.is_other(made, "null"), self._failed)
        at, nbytes = self.mul(self._word("d"), 8), self.load(self._object("c"), NBYTES, "i64")
        self.let("copied", f"call ptr @memcpy(ptr {self.data_of(made)}, ptr {self.data_of(item)}, i64 {nbytes})")
        self.store(made, "%known", at)
        self.store(self.data_of(made), "%frame", at)

    def _set_input(self, found: str) -> None:
        """Array d, unless that is negative."""
        read, unread = self.labels("read", "unread")
        number = self._word("d")
        self.branch(self.let("is_read", f"icmp sge i64 {number}, 0"), read, unread)
        self.begin(read)
        self._set_array(number, found)
        self.jump(unread)
        self.begin(unread)

    def _set_array(self, number: str, found: str) -> None:
        at = self.mul(number, 8)
        self.incref(found)
        self.store(found, "%known", at)
        self.store(self.data_of(found), "%frame", at)

    def do_pass(self) -> None:
        self._set_array(self._word("d"), self._array_numbered("a"))

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
        ran, not_ran, failed = self.labels("ran", "not.ran", "failed")
        entry, first = self._object("a"), self.mul(self._word("b"), 8)
        inputs, outputs = (self.load(entry, offset, "i64", "count") for offset in (INPUTS, OUTPUTS))
        made = self.offset("%known", self.add(first, self.mul(inputs, 8)))
        status = self.let("status", f"call i64 @run(ptr {entry}, ptr {self.offset('%frame', first)}, ptr {made})")
        self.branch(self.is_same(status, DONE, "i64"), ran, not_ran)
        self.begin(not_ran)
        self.guard(self.is_same(status, FAILED, "i64"), self._missed)
        with self.loop("0", outputs, 1) as each:  # which have been let go of
            self.store("null", made, self.mul(each.index, 8))
        self.jump(failed)
        self.begin(failed)
        self.jump(self._failed)
        self.begin(ran)

    def do_run_python(self) -> None:
        lost, found = self.labels("lost", "found")
        given, first, count, results = (self.load(self._object("b"), 8 * number, "i64") for number in range(4))
        items = self.call("PyList_New", "ptr", f"i64 {given}")
        self.guard(self.is_other(items, "null"), self._failed)
        places = self.load(items, objects.LIST_ITEMS)
        with self.loop("0", given, 1) as each:
            item = self.words_of("%known", self.add(first, each.index), "ptr")
            self.incref(item)
            self.store(item, places, self.mul(each.index, 8))
        made = self.call("PyObject_CallOneArg", "ptr", f"ptr {self._object('a')}", f"ptr {items}")
        self.decref(items)
        self.guard(self.is_other(made, "null"), self._failed)
        self.guard(self.is_same(self.type_of(made), self.address("list")), lost)
        self.guard(self.is_same(self.load(made, objects.SIZE, "i64"), count, "i64"), lost)
        places = self.load(made, objects.LIST_ITEMS)
        with self.loop("0", count, 1) as each:
            item = self.words_of(places, each.index, "ptr")
            self.guard_plain(item, lost)
            self._set_array(self.add(results, each.index), item)
        self.decref(made)
        self.jump(found)
        self.begin(lost)
        self.decref(made)
        self.jump(self._missed)
        self.begin(found)

    def do_number_array(self) -> None:
        at = self.mul(self._word("a"), 8)
        made = self.new_array(self.address("float64"), "0", "null")
        self.store(made, "%known", at)
        self.guard(self.is_other(made, "null"), self._failed)
        self.store(self.load("%floats", at, "double"), self.data_of(made), 0, "double")

    def do_constant_array(self) -> None:
        self._set_array(self._word("a"), self._object("b"))

    def _array_numbered(self, name: str) -> str:
        return self.words_of("%known", self._word(name), "ptr")

    def do_true(self) -> None:
        truth = self.load(self.data_of(self._array_numbered("a")), 0, "i8")
        self.guard(self.is_other(truth, 0, "i8"), self._missed)

    def do_decide(self) -> None:
        data, nbytes = self.data_of(self._array_numbered("a")), self._word("b")
        table = self._object("c")
        with self.loop("0", self._word("d"), 1) as each:
            outcome = self.offset(table, self.mul(each.index, OUTCOME_BYTES))
            (other,) = self.labels("other.outcome")
            expected = self.load(outcome, OUTCOME)
            with self.loop("0", nbytes, 1) as byte:
                first, second = (self.load(bytes, byte.index, "i8") for bytes in (data, expected))
                self.guard(self.is_same(first, second, "i8"), other)
            self.arrive(self._go_on, at=self.load(outcome, TARGET, "i64"))
            self.begin(other)
        self.jump(self._missed)
        (unreachable,) = self.labels("after")
        self.begin(unreachable)

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

    def do_object(self) -> None:
        register, other, constant, following, filled = self.labels(
            "register", "other", "constant", "following", "filled"
        )
        made, table = self.new_instance(self._object("b")), self._object("c")
        self._set_new("a", made)
        with self.loop("0", self._word("d"), 1) as each:
            row = self.offset(table, self.mul(each.index, FILL_BYTES))
            number, content = self.load(row, REGISTER, "i64"), self.load(row, CONTENT)
            self.branch(self.let("is_object", f"icmp slt i64 {number}, 0"), other, register)
            self.begin(register)
            item = self._register("", number)
            self.incref(item)
            self.arrive(filled, item=item)
            self.begin(other)
            self.branch(self.is_same(number, NEXT, "i64"), following, constant)
            self.begin(constant)
            self.incref(content)
            self.arrive(filled, item=content)
            self.begin(following)
            item = self.call("PyIter_Next", "ptr", f"ptr {content}")
            self.guard(self.is_other(item, "null"), self._failed)
            self.arrive(filled, item=item)
            (item,) = self.meet(filled, item="ptr")
            self.store(item, self.offset(made, self.load(row, PLACE, "i64")))

    def do_edge(self) -> None:
        item = self._register("b")
        self._guard_instance(item)
        self._set_new("a", self.let("edge", f"call ptr @edge(ptr {item}, ptr {item})"))

    def do_attach(self) -> None:
        item, node = self._register("a"), self._register("b")
        self.fill_slot(item, self._node, node)
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
            arguments = f"ptr {items}", f"ptr {self.load(pair)}", f"ptr {item}"
            self._guard_done(self.call("PyDict_SetItem", "i32", *arguments))

    # The end ------------------------------------------------------------------------------------------------

    def do_put(self) -> None:
        place = self.offset(self._register("a"), self._word("b"))
        before = self.load(place)
        self.store(self._register("c"), place)
        self._set("c", before)

    def do_set_item(self) -> None:
        arguments = f"ptr {self._register('a')}", f"ptr {self._object('b')}", f"ptr {self._register('c')}"
        self._guard_done(self.call("PyDict_SetItem", "i32", *arguments))

    def do_extend(self) -> None:
        most = str((1 << 63) - 1)
        keeps = self.is_other(self._word("c"), 0, "i64")
        start = self.select(keeps, "i64", most, "0")
        arguments = f"ptr {self._register('a')}", f"i64 {start}", f"i64 {most}", f"ptr {self._register('b')}"
        self._guard_done(self.call("PyList_SetSlice", "i32", *arguments))

    def do_set_cell(self) -> None:
        self._guard_done(self.call("PyCell_Set", "i32", f"ptr {self._register('a')}", f"ptr {self._register('b')}"))

    def _guard_done(self, status: str) -> None:
        self.guard(self.is_same(status, 0, "i32"), self._failed)

    def do_call(self) -> None:
        arguments = f"ptr {self._object('b')}", f"ptr {self._register('c')}"
        self._set_new("a", self.call("PyObject_CallOneArg", "ptr", *arguments))

    def do_commit(self) -> None:
        for position, item in enumerate((self._register("b"), "%args", self._given_keywords())):
            self.store(item, "%items", 8 * position)
        arguments = f"ptr {self._object('a')}", "ptr %items", "i64 3", "ptr null"
        done = self.call("PyObject_Vectorcall", "ptr", *arguments)
        self.guard(self.is_other(done, "null"), self._failed)
        self.decref(done)

    def _given_keywords(self) -> str:
        return self.select(self.is_same("%kwargs", "null"), "ptr", self.address("None"), "%kwargs")

    def do_return(self) -> None:
        counter = self._object("b")
        self.store(self.add(self.load(counter, 0, "i64"), 1), counter, 0, "i64")
        item = self._register("a")
        self._set("a", "null")
        self.arrive(self._finish, result=item)
        (unreachable,) = self.labels("after")
        self.begin(unreachable)
