"""Operations recalled in native code: what one did before to operands of the same kind, it does again.

An operation whose result's elements are some of its operand's (a reshape, a slice), or are computed by one program (a
sum, a product), is told by what it is given: the dtypes and shapes of tensors, numbers, slices and constants.  Where
this was seen often, a *recollection* says what to do: native code finds it by a hash of all that, and copies, makes a
view or runs the program, with no Python.  What has none goes to the Python function that does the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tracejit.ir import Primitive
from tracejit.ir.facts import facts
from tracejit.ir.types import KERNEL_DTYPES

from . import compiler, entry, objects, runtime
from .entry import DONE, MISSED, EntryWriter
from .instances import Instances, InstanceWriter
from .recycling import MOST_BYTES

MISS, LEARN = "inttoptr (i64 1 to ptr)", "inttoptr (i64 2 to ptr)"  # in place of a result
PLACES = 1024
CALLS_WORTH_LEARNING = 16  # then twice as many, and so on
MOST_ITEMS, MOST_WORDS = 6, 64
TENSOR, INTEGER, SLICE, TUPLE, OTHER = range(5)  # what a thing that an operation is given begins with
COPY, VIEW, PROGRAM = range(3)
# Byte offsets in a recollection: how many words the key has, what to do, the dtype, rank, shape and strides of the
# result, where it begins in the operand and its bytes; the program, and the arrays of a call of it; the key.
KEYED, KIND, DTYPE, RANK, SHAPE, STRIDES, OFFSET, BYTES, CALLED, ARRAYS, KEY = range(0, 11 * 8, 8)
SLICE_FIELDS = (16, 24, 32)  # byte offsets in a slice


@facts(frozen=True)
class Recalled:
    """``slow`` is the function in Python; ``described`` gives the primitive, and its attributes, that it is.

    Without that, the elements of its result are some of its only operand's; ``indexes``: those at its second argument.
    """

    slow: Callable[..., Any]
    described: Callable[..., tuple[Primitive, Mapping[str, Any]] | None] | None = None
    indexes: bool = False


class Memory:
    """All recollections; native code reads ``places``, and counts in ``asked`` what it did not find."""

    def __init__(self, instances: Instances, functions: Mapping[str, Recalled]) -> None:
        self._instances = instances
        self._functions = [*functions.values()]
        self.places, self.asked = array("q", [0] * PLACES), array("q", [0] * PLACES)
        self._kept: list[Any] = []  # for good: another thread may be reading it
        self._count = 0

    def learn(self, number: int, *items: Any) -> Any:
        """What the function gives; remembered, if it can be."""
        function = self._functions[number]
        result = function.slow(*items)
        if self._count < PLACES and (key := self._key(number, items)) is not None:
            self._look(function, items, key, result)
        return result

    def _look(self, function: Recalled, items: Sequence[Any], key: list[int], result: Any) -> None:
        operands = [getattr(item, self._instances.array) for item in items if self._is_instance(item)]
        found = getattr(result, self._instances.array)
        if function.described is not None:
            described = function.described(*items)
            if described is not None and KERNEL_DTYPES.issuperset(operand.dtype for operand in operands):
                compiler.run_later(lambda: self._provide(key, items, operands, *described))
            return
        if len(operands) != 1:  # an index is a tensor too
            return
        (operand,) = operands
        if found.ndim == 0 and function.indexes:  # NumPy gives a number for an element
            index = items[1] if type(items[1]) is tuple else (items[1],)
            found = operand[index if any(item is ... for item in index) else (*index, ...)]
        start, end = operand.ctypes.data, operand.ctypes.data + operand.nbytes
        if found.dtype is not operand.dtype or not found.nbytes or not start <= found.ctypes.data < end:
            return
        kind = COPY if found.flags.c_contiguous and found.nbytes <= MOST_BYTES else VIEW
        self._put(key, items, {
            KIND: kind, DTYPE: id(found.dtype), RANK: found.ndim, SHAPE: self._table(found.shape),
            STRIDES: self._table(found.strides), OFFSET: found.ctypes.data - start, BYTES: found.nbytes,
        })  # fmt: skip

    def _provide(
        self,
        key: list[int],
        items: Sequence[Any],
        operands: Sequence[np.ndarray],
        primitive: Primitive,
        attributes: Mapping[str, Any],
    ) -> None:
        """Plan, and if need be compile, the program of one primitive."""
        executable = runtime.one_op_executable(primitive, operands, attributes)
        if executable.recipe.calls_python or [*executable.results] != [len(operands)]:
            return
        if executable.entry() is None:
            entry.load()
        called = executable.entry()
        if called is not None:
            self._kept.append(executable)
            self._put(key, items, {KIND: PROGRAM, CALLED: called.address, ARRAYS: called.arrays})

    def _put(self, key: list[int], items: Sequence[Any], words: Mapping[int, int]) -> None:
        self._count += 1
        row = [0] * (KEY // 8) + key
        for offset, value in {KEYED: len(key), **words}.items():
            row[offset // 8] = value
        constants = [item for item in items if not self._is_instance(item)]
        self._kept.append((constants, [getattr(i, self._instances.array).dtype for i in items if self._is_instance(i)]))
        self.places[_place(key)] = self._table(row)

    def _table(self, words: Sequence[int]) -> int:
        table = array("q", [*words, 0])
        self._kept.append(table)
        return table.buffer_info()[0]

    def _is_instance(self, item: Any) -> bool:
        return type(item) in self._instances.classes

    def _key(self, number: int, items: Sequence[Any]) -> list[int] | None:
        """The words that native code makes of what an operation is given; ``None`` where that may change."""
        key = [number]
        for item in items:
            if self._is_instance(item):
                held = getattr(item, self._instances.array)
                key += [TENSOR, id(held.dtype), held.ndim, *held.shape]
            elif not _tell(item, key):
                return None
        return key


def _tell(item: Any, key: list[int]) -> bool:
    kind = type(item)
    if kind is int:
        key += [INTEGER, item]
        return True
    if kind is slice:
        key.append(SLICE)
        return all(_tell(part, key) for part in (item.start, item.stop, item.step))
    if kind is tuple:
        key += [TUPLE, len(item)]
        return all(_tell(part, key) for part in item)
    key += [OTHER, id(item)]
    return item is None or item is Ellipsis or kind in (bool, str) or isinstance(item, Primitive)


_FACTOR, _MASK = 0x9E37_79B9_7F4A_7C15, (1 << 64) - 1


def _place(key: Sequence[int]) -> int:
    found = 0
    for word in key:
        found = ((found ^ word & _MASK) * _FACTOR) & _MASK
        found ^= found >> 32
    return found % PLACES


class RecallWriter(InstanceWriter, EntryWriter):
    """Writes what recalls."""

    def encoding(self) -> None:
        """``@encode(item, words, at)``: write what an item is; where the next word goes, or -1 where there is none."""
        with self.define("internal i64 @encode(ptr %item, ptr %words, i64 %at)"):
            integer, small, a_slice, a_tuple, other, full = self.labels(
                "integer", "small", "slice", "tuple", "other", "full"
            )
            self.do("%overflow = alloca i32")
            self.guard(self.let("room", f"icmp ule i64 %at, {MOST_WORDS - 2}"), full)
            first, second = self.mul("%at", 8), self.mul(self.add("%at", 1), 8)
            cls = self.type_of("%item")
            for name, label in (("int", integer), ("slice", a_slice), ("tuple", a_tuple)):
                (following,) = self.labels("following")
                self.branch(self.is_same(cls, self.address(name)), label, following)
                self.begin(following)
            self.jump(other)

            self.begin(integer)
            value = self.call("PyLong_AsLongLongAndOverflow", "i64", "ptr %item", "ptr %overflow")
            self.branch(self.is_same(self.load("%overflow", 0, "i32"), 0, "i32"), small, full)
            self.begin(small)
            self.store(INTEGER, "%words", first, "i64")
            self.store(value, "%words", second, "i64")
            self.do(f"ret i64 {self.add('%at', 2)}")
            self.begin(other)
            self.store(OTHER, "%words", first, "i64")
            self.store("%item", "%words", second)
            self.do(f"ret i64 {self.add('%at', 2)}")

            self.begin(a_slice)
            self.store(SLICE, "%words", first, "i64")
            at = self.add("%at", 1)
            for field in SLICE_FIELDS:
                at = self._encoded(self.load("%item", field), at, full)
            self.do(f"ret i64 {at}")

            self.begin(a_tuple)
            count = self.load("%item", objects.SIZE, "i64")
            self.store(TUPLE, "%words", first, "i64")
            self.store(count, "%words", second, "i64")
            with self.loop("0", count, 1, [("i64", self.add("%at", 2))]) as each:
                part = self.load(self.offset("%item", self.mul(each.index, 8)), objects.TUPLE_ITEMS)
                each.next = [self._encoded(part, each.carried[0], full)]
            self.do(f"ret i64 {each.carried[0]}")
            self.begin(full)
            self.do("ret i64 -1")

    def _encoded(self, item: str, at: str, full: str) -> str:
        found = self.let("encoded", f"call i64 @encode(ptr {item}, ptr %words, i64 {at})")
        self.guard(self.let("some", f"icmp sge i64 {found}, 0"), full)
        return found

    def recall(self) -> None:
        """``@recall(number, items, count)``: the result, null with an error set, or one of ``MISS`` and ``LEARN``."""
        with self.define("internal ptr @recall(i64 %number, ptr %items, i64 %count)"):
            miss, ask, learn, a_tensor, other, told = self.labels("miss", "ask", "learn", "tensor", "other", "told")
            self.do(f"%words = alloca [{MOST_WORDS} x i64]")
            self.do(f"%operands = alloca [{MOST_ITEMS} x ptr]")
            self.guard_computing(miss)
            self.guard(self.let("few", f"icmp ule i64 %count, {MOST_ITEMS}"), miss)
            self.store("%number", "%words", 0, "i64")
            with self.loop("0", "%count", 1, [("i64", "1"), ("i64", "0")]) as each:
                at, operands = each.carried
                item = self.words_of("%items", each.index, "ptr")
                self.branch(self.is_instance(item), a_tensor, other)
                self.begin(other)
                self.arrive(told, at=self._encoded(item, at, miss), operands=operands)
                self.begin(a_tensor)
                self.guard(self.negate(self.wants_gradient(item)), miss)
                found = self.array_of(item, miss)
                rank = self.rank_of(found)
                end = self.add(self.add(at, 3), rank)
                self.guard(self.let("room", f"icmp ule i64 {end}, {MOST_WORDS}"), miss)
                words = self.offset("%words", self.mul(at, 8))
                self.store(TENSOR, words, 0, "i64")
                self.store(self.dtype_of(found), words, 8)
                self.store(rank, words, 16, "i64")
                shape = self.shape_of(found)
                with self.loop("0", rank, 1) as axes:
                    extent = self.words_of(shape, axes.index)
                    self.store(extent, self.offset(words, self.mul(axes.index, 8)), 24, "i64")
                self.store(found, "%operands", self.mul(operands, 8))
                self.arrive(told, at=end, operands=self.add(operands, 1))
                each.next = self.meet(told, at="i64", operands="i64")
            length, operands = each.carried
            with self.loop("0", length, 1, [("i64", "0")]) as each:
                mixed = self.let("mixed", f"xor i64 {each.carried[0]}, {self.words_of('%words', each.index)}")
                product = self.mul(mixed, _FACTOR - (1 << 64))
                each.next = [self.let("hash", f"xor i64 {product}, {self.let('high', f'lshr i64 {product}, 32')}")]
            place = self.mul(self.let("place", f"and i64 {each.carried[0]}, {PLACES - 1}"), 8)
            recollection = self.load(self.address("places"), place)
            self.guard(self.is_other(recollection, "null"), ask)
            self.guard(self.is_same(self.load(recollection, KEYED, "i64"), length, "i64"), ask)
            key = self.offset(recollection, KEY)
            with self.loop("0", length, 1) as each:
                expected, found = self.words_of(key, each.index), self.words_of("%words", each.index)
                self.guard(self.is_same(expected, found, "i64"), ask)
            self._do(recollection, operands, miss)
            self.begin(ask)
            asked = self.add(self.load(self.address("asked"), place, "i64"), 1)
            self.store(asked, self.address("asked"), place, "i64")
            power = self.let("power", f"and i64 {asked}, {self.add(asked, -1)}")
            often = self.let("often", f"icmp uge i64 {asked}, {CALLS_WORTH_LEARNING}")
            self.branch(self.both(often, self.is_same(power, 0, "i64")), learn, miss)
            self.begin(learn)
            self.do(f"ret ptr {LEARN}")
            self.begin(miss)
            self.do(f"ret ptr {MISS}")

    def _do(self, recollection: str, operands: str, miss: str) -> None:
        """Do what a recollection says, and return the result."""
        copy, view, program, based, lost, failed = self.labels("copy", "view", "program", "based", "lost", "failed")
        kind = self.load(recollection, KIND, "i64")
        operand = self.load("%operands")
        dtype, shape = self.load(recollection, DTYPE), self.load(recollection, SHAPE)
        rank = self.let("rank", f"trunc i64 {self.load(recollection, RANK, 'i64')} to i32")
        self.do(f"switch i64 {kind}, label %{program} [ i64 {COPY}, label %{copy} i64 {VIEW}, label %{view} ]")
        self.begin(copy)
        made = self.new_array(dtype, rank, shape)
        self.guard(self.is_other(made, "null"), failed)
        first = self.offset(self.data_of(operand), self.load(recollection, OFFSET, "i64"))
        nbytes = self.load(recollection, BYTES, "i64")
        self.let("copied", f"call ptr @memcpy(ptr {self.data_of(made)}, ptr {first}, i64 {nbytes})")
        self._return_instance(made)

        self.begin(view)
        first = self.offset(self.data_of(operand), self.load(recollection, OFFSET, "i64"))
        flags = self.let("flags", f"and i32 {self.load(operand, objects.ARRAY_FLAGS, 'i32')}, {objects.WRITEABLE}")
        self.incref(dtype)  # which the call takes over
        made = self.call(
            "PyArray_NewFromDescr", "ptr", f"ptr {self.address('ndarray')}", f"ptr {dtype}", f"i32 {rank}",
            f"ptr {shape}", f"ptr {self.load(recollection, STRIDES)}", f"ptr {first}", f"i32 {flags}", "ptr null",
        )  # fmt: skip
        self.guard(self.is_other(made, "null"), failed)
        self.incref(operand)  # likewise
        status = self.call("PyArray_SetBaseObject", "i32", f"ptr {made}", f"ptr {operand}")
        self.branch(self.is_same(status, 0, "i32"), based, lost)
        self.begin(lost)
        self.decref(made)
        self.jump(failed)
        self.begin(based)
        self._return_instance(made)

        self.begin(program)
        called = self.load(recollection, CALLED)
        frame = self.let("frame", f"alloca i64, i64 {self.load(recollection, ARRAYS, 'i64')}")
        result = self.let("result", "alloca ptr")
        with self.loop("0", operands, 1) as each:  # held, for the tensors may change meanwhile
            operand = self.words_of("%operands", each.index, "ptr")
            self.incref(operand)
            self.store(self.data_of(operand), frame, self.mul(each.index, 8))
        status = self.let("status", f"call i64 @run(ptr {called}, ptr {frame}, ptr {result})")
        self.release("%operands", operands)
        self.guard(self.is_other(status, MISSED, "i64"), miss)
        self.guard(self.is_same(status, DONE, "i64"), failed)
        self._return_instance(self.load(result))
        self.begin(failed)
        self.do("ret ptr null")

    def _return_instance(self, array: str) -> None:
        (dropped,) = self.labels("dropped")
        self.do(f"ret ptr {self.instance_with(array, dropped)}")
        self.begin(dropped)
        self.decref(array)
        self.do("ret ptr null")

    # What Python calls --------------------------------------------------------------------------------------

    def builtin(self, name: str, number: int) -> None:
        """``@name``, a builtin function."""
        with self.define(f"ptr @{name}(ptr %owner, ptr %items, i64 %count, ptr %keywords)"):
            (slow,) = self.labels("slow")
            self.guard(self.is_same("%keywords", "null"), slow)
            self._or_in_python(name, number, "%count", slow, "%keywords")

    def slot(self, name: str, number: int) -> None:
        """``@slot.name(x, y)``, for a class's slot."""
        with self.define(f"ptr @slot.{name}(ptr %x, ptr %y)"):
            (slow,) = self.labels("slow")
            self.do("%items = alloca [2 x ptr]")
            self.store("%x", "%items")
            self.store("%y", "%items", 8)
            self._or_in_python(name, number, "2", slow, "null")

    def _or_in_python(self, name: str, number: int, count: str, slow: str, keywords: str) -> None:
        done, learn = self.labels("done", "learn")
        result = self.let("result", f"call ptr @recall(i64 {number}, ptr %items, i64 {count})")
        self.guard(self.is_other(result, MISS), slow)
        self.branch(self.is_same(result, LEARN), learn, done)
        self.begin(done)
        self.do(f"ret ptr {result}")
        self.begin(learn)
        self.return_call(self.address(f"learn.{name}"), "%items", count)
        self.begin(slow)
        self.return_call(self.address(f"slow.{name}"), "%items", count, keywords)


@facts(frozen=True)
class Recalling:
    """Builtin functions in place of those in Python, and native code for a class's slots, by name."""

    functions: Mapping[str, Callable[..., Any]]
    slots: Mapping[str, int]


def compile_recalling(instances: Instances, functions: Mapping[str, Recalled], slots: Collection[str]) -> Recalling:
    """Native code for functions, or where they are slots of two operands, for these."""
    memory = Memory(instances, functions)
    objects.immortal(memory)
    writer = RecallWriter(instances)
    writer.lines.append("declare ptr @memcpy(ptr, ptr, i64)")
    writer.recycling()
    writer.instances()
    writer.interrupted()
    writer.program()
    writer.encoding()
    writer.recall()
    named: dict[str, Any] = {cls.__name__: cls for cls in (int, slice, tuple)}
    names: dict[str, str] = {}
    for number, (name, function) in enumerate(functions.items()):
        names[name] = f"slot.{name}" if name in slots else name
        (writer.slot if name in slots else writer.builtin)(name, number)
        named |= {f"slow.{name}": function.slow, f"learn.{name}": partial(memory.learn, number)}
    known = instances.known() | {name: objects.immortal(item) for name, item in named.items()}
    known |= {"places": memory.places.buffer_info()[0], "asked": memory.asked.buffer_info()[0]}
    addresses = objects.load_objects(writer, "recall", [*names.values()], known)
    return Recalling(
        {name: objects.Builtin(name, addresses[name]).of(None) for name in functions if name not in slots},
        {name: addresses[f"slot.{name}"] for name in slots},
    )
