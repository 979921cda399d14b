"""Eager calls in native code: ``x + y`` on small arrays, from the interpreter to the kernel and back.

The operators here look at their operands, find the kernel in the operation's record (:mod:`.records`), make the result,
run the kernel, and where gradients are wanted leave a node on the tape.  Whatever is out of the ordinary (another
class, a dtype that must be promoted, shapes that broadcast, an active trace) is a *miss*: it is handed to the Python
function that does the same, at leisure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tracejit.ir import TensorType
from tracejit.ir.facts import facts
from tracejit.ir.types import DType, bool_, float32, is_floating

from . import compiler, objects
from .instances import Instances
from .records import (
    ARRAY_NUMBER,
    ARRAYS,
    ASKED,
    CALLS_WORTH_A_KERNEL,
    CELL,
    GRADIENTS,
    KERNEL_BYTES,
    KERNELS,
    MOST_ELEMENTS,
    MOST_ROWS,
    NONE,
    NUMBER_ARRAY,
    OPERATOR,
    ORDER,
    RECORDED,
    RESULT_DTYPE,
    UNARY,
    Record,
)
from .recycling import DTYPES, NUMBERS
from .tape import Tape, TapeWriter

MISS = "inttoptr (i64 1 to ptr)"  # in place of a result
LARGEST_EXACT_INTEGER = 1 << 53  # of a double


@facts(frozen=True)
class Function:
    """A Python function ``slow(…, …, x)`` or ``slow(…, …, x, y)`` whose argument numbered ``key`` is the operation's
    in ``unary`` or ``binary``."""

    slow: Callable[..., Any]
    key: int
    unary: Mapping[Any, Record]
    binary: Mapping[Any, Record]


class OperatorWriter(TapeWriter):
    """Writes the operators for the instances of some classes."""

    # Operands -----------------------------------------------------------------------------------------------

    def known_dtype_of(self, found: str, miss: str) -> tuple[str, str]:
        """An array's dtype and its number; a miss where it is not the one object that stands for a type of kernels."""
        dtype = self.dtype_of(found)
        number = self.let("number", f"zext i32 {self.load(dtype, objects.DTYPE_NUMBER, 'i32')} to i64")
        self.guard(self.let("low", f"icmp ult i64 {number}, {NUMBERS}"), miss)
        self.guard(self.is_same(dtype, self.load(self.address("dtypes"), self.mul(number, 8))), miss)
        return dtype, number

    def store_number(self, item: str, dtype: str, miss: str) -> None:
        """A Python float or int, at ``%scalar``, as an element of the dtype with a number.

        A miss where the result's dtype would be another one, and where the conversion would overflow or round twice.
        """
        float_, int_, other, double, single, done = self.labels("float", "int", "other", "double", "single", "stored")
        cls = self.type_of(item)
        floating = self.let("floating", f"icmp uge i64 {dtype}, {float32.num}")
        self.branch(self.is_same(cls, self.address("float")), float_, other)
        self.begin(other)
        self.branch(self.is_same(cls, self.address("int")), int_, miss)
        self.begin(int_)
        value = self.call("PyLong_AsLongLongAndOverflow", "i64", f"ptr {item}", "ptr %overflow")
        self.guard(self.is_same(self.load("%overflow", 0, "i32"), 0, "i32"), miss)
        bounds = self.offset(self.address("bounds"), self.mul(dtype, 16))
        self.guard(self.let("inside", f"icmp sge i64 {value}, {self.load(bounds, 0, 'i64')}"), miss)
        self.guard(self.let("inside", f"icmp sle i64 {value}, {self.load(bounds, 8, 'i64')}"), miss)
        self.store(value, "%scalar", 0, "i64")  # a narrower integer is its first bytes
        self.guard(floating, done)
        self.arrive(double, value=self.let("value", f"sitofp i64 {value} to double"))
        self.begin(float_)
        self.guard(floating, miss)
        self.arrive(double, value=self.load(item, objects.FLOAT_VALUE, "double"))
        (value,) = self.meet(double, value="double")
        self.store(value, "%scalar", 0, "double")
        self.branch(self.is_same(dtype, float32.num, "i64"), single, done)
        self.begin(single)
        self.store(self.let("value", f"fptrunc double {value} to float"), "%scalar", 0, "float")
        self.jump(done)
        self.begin(done)

    # Operations ---------------------------------------------------------------------------------------------

    def operation(self, chooses: bool = False) -> None:
        """``@operate(record, x, y)``: the result, null with an error set, or a miss; y is null for one operand.

        ``@choose(record, p, x, y)`` has bools of the result's shape as its first operand.
        """
        name, first = ("choose", "ptr %p, ") if chooses else ("operate", "")
        with self.define(f"internal ptr @{name}(ptr %record, {first}ptr %x, ptr %y)"):
            ready, miss, ask, plain, taped, failed = self.labels("ready", "miss", "ask", "plain", "taped", "failed")
            self.do("%arguments = alloca [5 x i64], align 16")
            self.do("%scalar = alloca i64")
            self.do("%overflow = alloca i32")
            self.do("%rows = alloca [4 x i64]")
            self._operands(ready, miss)
            form, like, dtype, kind, gradient, x, y, x_data, y_data, element, rows, size, x_step, y_step = self.meet(
                ready, form="i64", like="ptr", dtype="ptr", kind="i64", gradient="i1", x="ptr", y="ptr", x_data="ptr",
                y_data="ptr", element="i64", rows="i64", size="i64", x_step="i64", y_step="i64",
            )  # fmt: skip
            self.guard_computing(miss)
            self.guard(self.let("small", f"icmp ule i64 {self.mul(rows, size)}, {MOST_ELEMENTS}"), miss)
            number = self.mul(self.add(self.mul(element, NUMBERS), kind), KERNEL_BYTES)
            kernel = self.offset(self.offset("%record", KERNELS), number, "kernel")
            self.guard(self.is_other(self.load(kernel, CELL), "null"), ask)
            bytes_ = self.load(self.address("bytes"), self.mul(kind, 8), "i64")
            held, data, moves = [x, y], [x_data, y_data], [self.mul(step, bytes_) for step in (x_step, y_step)]
            if chooses:
                chosen = self._choices(like, miss)
                held, data, moves = [chosen, *held], [self.data_of(chosen), *data], [size, *moves]
            compute = partial(self._compute, kernel, like, dtype, rows, size, data, moves, bytes_)
            gradients = self.load("%record", GRADIENTS, "i64")
            self.branch(self.both(gradient, self.is_other(gradients, NONE, "i64")), taped, plain)

            self.begin(plain)
            self.do(f"ret ptr {compute(failed)}")

            self.begin(taped)
            self.guard(self.is_same(gradients, RECORDED, "i64"), miss)
            self.compute_on_tape(compute, held, form, kind, dtype, failed)

            self.begin(ask)
            asked = self.add(self.load(kernel, ASKED, "i64"), 1)
            self.store(asked, kernel, ASKED, "i64")
            self.guard(self.is_same(asked, CALLS_WORTH_A_KERNEL, "i64"), miss)
            self.do(f"call void {self.address('request')}(ptr %record, i64 {element}, i64 {kind})")
            self.jump(miss)
            self.begin(miss)
            self.do(f"ret ptr {MISS}")
            self.begin(failed)
            self.do("ret ptr null")

    def _operands(self, ready: str, miss: str) -> None:
        """What the operands are; ``like`` is the array that the result is like, ``kind`` its dtype's number.

        The result has ``rows`` of ``size`` elements, from one to the next of which the operands move by their steps;
        ``element`` is the form of the operands of one row's kernel.
        """
        binary, arrays, mixed, number, unequal, right, stretched, other = self.labels(
            "binary", "arrays", "mixed", "number", "unequal", "right", "stretched", "other"
        )

        def whole(like: str) -> dict[str, str | int]:
            return {"rows": 1, "size": self.size_of(like), "x_step": 0, "y_step": 0}

        x_is = self.is_instance("%x")
        self.guard(self.is_same("%y", "null"), binary)
        self.guard(x_is, miss)
        x = self.array_of("%x", miss)
        dtype, kind = self.known_dtype_of(x, miss)
        gradient, x_data = self.wants_gradient("%x"), self.data_of(x)
        self.arrive(
            ready, form=UNARY, like=x, dtype=dtype, kind=kind, gradient=gradient, x=x, y="null", x_data=x_data,
            y_data="null", element=UNARY, **whole(x),
        )  # fmt: skip

        self.begin(binary)
        y_is = self.is_instance("%y")
        self.branch(self.both(x_is, y_is), arrays, mixed)
        self.begin(arrays)
        x, y = self.array_of("%x", miss), self.array_of("%y", miss)
        dtype, kind = self.known_dtype_of(x, miss)
        self.guard(self.is_same(dtype, self.dtype_of(y)), miss)
        both = {
            "dtype": dtype, "kind": kind, "x": x, "y": y, "x_data": self.data_of(x), "y_data": self.data_of(y),
            "gradient": self.either(self.wants_gradient("%x"), self.wants_gradient("%y")),
        }  # fmt: skip
        ranks = self.rank_of(x), self.rank_of(y)
        self.guard(self.is_same(*ranks, "i64"), unequal)
        self.guard_same_shape(x, y, ranks[0], unequal)
        self.arrive(ready, form=ARRAYS, like=x, element=ARRAYS, **both, **whole(x))
        self.begin(unequal)
        self.guard(self.is_same(ranks[1], 0, "i64"), right)
        self.arrive(ready, form=ARRAY_NUMBER, like=x, element=ARRAY_NUMBER, **both, **whole(x))
        self.begin(right)
        self.guard(self.is_same(ranks[0], 0, "i64"), stretched)
        self.arrive(ready, form=NUMBER_ARRAY, like=y, element=NUMBER_ARRAY, **both, **whole(y))
        self.begin(stretched)  # for the tape one of them is no array of the result's type, as a number is not
        self.guard(self.let("found", f"call i1 @rows(ptr {x}, ptr {y}, ptr %rows)"), other)
        rows, size, step, is_number = [self.load("%rows", 8 * i, "i64") for i in range(4)]
        element = self.select(self.is_same(is_number, 0, "i64"), "i64", ARRAYS, ARRAY_NUMBER)
        parts = {"rows": rows, "size": size, "x_step": size, "y_step": step, "element": element}
        self.arrive(ready, form=ARRAY_NUMBER, like=x, **both, **parts)
        self.begin(other)
        self.guard(self.let("found", f"call i1 @rows(ptr {y}, ptr {x}, ptr %rows)"), miss)
        rows, size, step, is_number = [self.load("%rows", 8 * i, "i64") for i in range(4)]
        element = self.select(self.is_same(is_number, 0, "i64"), "i64", ARRAYS, NUMBER_ARRAY)
        parts = {"rows": rows, "size": size, "x_step": step, "y_step": size, "element": element}
        self.arrive(ready, form=NUMBER_ARRAY, like=y, **both, **parts)

        self.begin(mixed)
        self.branch(self.either(x_is, y_is), number, miss)
        self.begin(number)
        instance, other = self.select(x_is, "ptr", "%x", "%y"), self.select(x_is, "ptr", "%y", "%x")
        found = self.array_of(instance, miss)
        dtype, kind = self.known_dtype_of(found, miss)
        self.store_number(other, kind, miss)
        gradient, data = self.wants_gradient(instance), self.data_of(found)
        form = self.select(x_is, "i64", ARRAY_NUMBER, NUMBER_ARRAY)
        self.arrive(
            ready, form=form, like=found, dtype=dtype, kind=kind, element=form, gradient=gradient,
            x=self.select(x_is, "ptr", found, "null"), y=self.select(x_is, "ptr", "null", found),
            x_data=self.select(x_is, "ptr", data, "%scalar"), y_data=self.select(x_is, "ptr", "%scalar", data),
            **whole(found),
        )  # fmt: skip

    def _choices(self, like: str, miss: str) -> str:
        """The array of bools, of the result's shape, that ``%p`` holds."""
        self.guard(self.is_instance("%p"), miss)
        found = self.array_of("%p", miss)
        _, kind = self.known_dtype_of(found, miss)
        self.guard(self.is_same(kind, bool_.num, "i64"), miss)
        rank = self.rank_of(found)
        self.guard(self.is_same(rank, self.rank_of(like), "i64"), miss)
        self.guard_same_shape(found, like, rank, miss)
        return found

    def rows(self) -> None:
        """``@rows(x, y, at)``: whether an array y is stretched to the shape of x in a way that kernels of rows handle.

        Writes how many rows there are, the elements of a row, those by which y moves from row to row, and whether y is
        a number for a row.  Either y is the same block of x's last axes for all rows, or it has one number for each row
        along the last axis.
        """
        with self.define("internal i1 @rows(ptr %x, ptr %y, ptr %at)"):
            column, done, no = self.labels("column", "done", "no")
            ranks = self.rank_of("%x"), self.rank_of("%y")
            sizes = self.size_of("%x"), self.size_of("%y")
            self.guard(self.let("within", f"icmp uge i64 {ranks[0]}, {ranks[1]}"), no)
            self.guard(self.is_other(sizes[1], 0, "i64"), no)
            with self.loop("0", ranks[1], 1, [("i1", "true"), ("i1", "true")]) as axes:
                is_same, is_one = self._last_extents(ranks, axes.index)
                fits, is_block = axes.carried
                is_block = self.both(is_block, is_same)
                axes.next = [self.both(fits, self.either(is_block, is_one)), is_block]
            self.guard(axes.carried[0], column)
            one = self.is_same(sizes[1], 1, "i64")
            row = self.select(one, "i64", sizes[0], sizes[1])
            count = self.select(one, "i64", 1, self.let("rows", f"udiv i64 {sizes[0]}, {sizes[1]}"))
            self.arrive(done, rows=count, size=row, step=0, number=self.let("number", f"zext i1 {one} to i64"))

            self.begin(column)
            self.guard(self.is_same(*ranks, "i64"), no)
            _, is_one = self._last_extents(ranks, "0")
            self.guard(is_one, no)
            with self.loop("1", ranks[0], 1) as axes:
                is_same, _ = self._last_extents(ranks, axes.index)
                self.guard(is_same, no)
            size = self.let("size", f"udiv i64 {sizes[0]}, {sizes[1]}")
            self.arrive(done, rows=sizes[1], size=size, step=1, number=1)
            found = self.meet(done, rows="i64", size="i64", step="i64", number="i64")
            self.guard(self.let("few", f"icmp ule i64 {found[0]}, {MOST_ROWS}"), no)
            for place, value in enumerate(found):
                self.store(value, "%at", 8 * place, "i64")
            self.do("ret i1 true")
            self.begin(no)
            self.do("ret i1 false")

    def _last_extents(self, ranks: tuple[str, str], axis: str) -> tuple[str, str]:
        """Whether x and y have the same extent along an axis counted from the last, and whether y's is 1."""
        of_x, of_y = [
            self.load(self.shape_of(item), self.mul(self.sub(self.sub(rank, "1"), axis), 8), "i64")
            for item, rank in zip(("%x", "%y"), ranks, strict=True)
        ]
        return self.is_same(of_x, of_y, "i64"), self.is_same(of_y, 1, "i64")

    def _compute(
        self, kernel: str, like: str, dtype: str, rows: str, size: str, data: Sequence[str], moves: Sequence[str],
        element: str, failed: str,
    ) -> str:  # fmt: skip
        """Run the kernel for each row; the result as an instance, a new reference.

        ``moves`` are the bytes by which the operands' ``data`` move from row to row, ``element`` those of an element.
        """
        dropped, computed = self.labels("dropped", "computed")
        own = self.load("%record", RESULT_DTYPE)
        result_dtype = self.select(self.is_same(own, "null"), "ptr", dtype, own)
        result = self.new_array(result_dtype, self.load(like, objects.ARRAY_RANK, "i32"), self.shape_of(like))
        self.guard(self.is_other(result, "null"), failed)
        order = self.load(kernel, ORDER, "i64", "order")
        slots = [
            self.mul(self.let("slot", f"and i64 {self.let('order', f'lshr i64 {order}, {8 * place}')}, 255"), 8)
            for place in range(len(data) + 2)
        ]
        own_element = self.select(self.is_same(own, "null"), "i64", element, 1)  # another dtype is bool
        pointers = [*data, self.data_of(result)]
        steps = [*moves, self.mul(size, own_element)]
        code = self.load(self.load(kernel, CELL), name="code")
        self.store(size, "%arguments", slots[-1], "i64")
        with self.loop("0", rows, 1) as row:
            for pointer, move, slot in zip(pointers, steps, slots, strict=False):
                self.store(self.offset(pointer, self.mul(row.index, move)), "%arguments", slot)
            self.do(f"call void {code}(ptr %arguments, i64 0, i64 {size}, i64 0)")
        instance = self.instance_with(result, dropped)
        self.jump(computed)
        self.begin(dropped)
        self.decref(result)
        self.jump(failed)
        self.begin(computed)
        return instance

    # What Python calls --------------------------------------------------------------------------------------

    def operators(self, records: Mapping[str, Record]) -> None:
        """``@name(x, y)`` or ``@name(x)`` for a class's slots; what they do not do is left to the record's function."""
        for name, record in records.items():
            items = ["%x", "%y"][: record.operands]
            with self.define(f"ptr @{name}({', '.join(f'ptr {item}' for item in items)})"):
                self._or_in_python(self.address(f"record.{name}"), items)

    def comparison(self) -> None:
        """``@compare(x, y, relation)`` for the slot of all six relations."""
        with self.define("ptr @compare(ptr %x, ptr %y, i32 %relation)"):
            at = self.mul(self.let("relation", "sext i32 %relation to i64"), 8)
            self._or_in_python(self.load(self.address("records.compare"), at), ["%x", "%y"])

    def _or_in_python(self, record: str, items: list[str]) -> None:
        miss, done = self.labels("miss", "done")
        self.do(f"%items = alloca [{len(items)} x ptr]")
        result = self._attempt(record, items)
        self.branch(self.is_same(result, MISS), miss, done)
        self.begin(done)
        self.do(f"ret ptr {result}")
        self.begin(miss)
        for position, item in enumerate(items):
            self.store(item, "%items", 8 * position)
        self.return_call(self.load(record, OPERATOR), "%items", str(len(items)))

    def _attempt(self, record: str, items: list[str]) -> str:
        arguments = ", ".join(f"ptr {item}" for item in (record, *items, *["null"] * (2 - len(items))))
        return self.let("result", f"call ptr @operate({arguments})")

    def lookup(self, name: str, key: int) -> None:
        """``@name``, a builtin function of two arguments and then the operands: see :class:`Function`."""
        with self.define(f"ptr @{name}(ptr %owner, ptr %items, i64 %count, ptr %keywords)"):
            slow, done, other = self.labels("slow", "done", "other")
            self.guard(self.is_same("%count", 4, "i64"), other)
            self.arrive(done, result=self._attempt_looked_up(f"binary.{name}", key, 2, slow))
            self.begin(other)
            self.guard(self.is_same("%count", 3, "i64"), slow)
            self.arrive(done, result=self._attempt_looked_up(f"unary.{name}", key, 1, slow))
            (result,) = self.meet(done, result="ptr")
            self.guard(self.is_other(result, MISS), slow)
            self.do(f"ret ptr {result}")
            self.begin(slow)
            self.return_call(self.address(f"slow.{name}"), "%items", "%count", "%keywords")

    def choice(self, name: str) -> None:
        """``@name``, a builtin function of bools and what to take where they are true, and where false."""
        with self.define(f"ptr @{name}(ptr %owner, ptr %items, i64 %count, ptr %keywords)"):
            slow, done = self.labels("slow", "done")
            self.guard(self.is_same("%count", 3, "i64"), slow)
            items = [self.address(f"record.{name}"), *[self.load("%items", 8 * position) for position in range(3)]]
            result = self.let("result", f"call ptr @choose({', '.join(f'ptr {item}' for item in items)})")
            self.branch(self.is_same(result, MISS), slow, done)
            self.begin(done)
            self.do(f"ret ptr {result}")
            self.begin(slow)
            self.return_call(self.address(f"slow.{name}"), "%items", "%count", "%keywords")

    def _attempt_looked_up(self, records: str, key: int, operands: int, otherwise: str) -> str:
        items = [self.load("%items", 8 * position) for position in (key, 2, 3)[: 1 + operands]]
        found = self.call("PyDict_GetItemWithError", "ptr", f"ptr {self.address(records)}", f"ptr {items[0]}")
        self.guard(self.is_other(found, "null"), otherwise)
        return self._attempt(self.call("PyLong_AsVoidPtr", "ptr", f"ptr {found}"), items[1:])


# Putting it together ----------------------------------------------------------------------------------------


@facts(frozen=True)
class Operators:
    """Native code for a class's slots, by the operator's name (``compare`` is for all six relations), and functions."""

    slots: Mapping[str, int]
    functions: Mapping[str, Callable[..., Any]]
    records: Sequence[Record]


def compile_operators(
    instances: Instances,
    tape: Tape,
    operators: Mapping[str, Record],
    relations: Sequence[Record],
    functions: Mapping[str, Function],
    choices: Mapping[str, Record],
) -> Operators:
    """``relations`` are those of <, <=, ==, !=, > and >=, in this order; ``choices`` have three operands."""
    writer = OperatorWriter(instances, tape)
    writer.recycling()
    writer.instances()
    writer.operation()
    writer.operation(chooses=True)
    writer.rows()
    for count in (1, 2, 3):
        writer.recording(count)
    writer.tape_parts()
    writer.operators(operators)
    writer.comparison()
    for name, function in functions.items():
        writer.lookup(name, function.key)
    for name in choices:
        writer.choice(name)
    named: dict[str, Any] = {cls.__name__: cls for cls in (float, int)}
    named |= {name: getattr(tape, name) for name in ("Node", "Application", "node_of", "type_of", "thread", "numbers")}
    named |= {"mode": sys.intern(tape.mode)} | {f"slow.{name}": function.slow for name, function in functions.items()}
    named |= {f"slow.{name}": record.operator for name, record in choices.items()}
    records = [*operators.values(), *relations, *choices.values()]
    for name, function in functions.items():
        for kind, found in (("unary", function.unary), ("binary", function.binary)):
            records += found.values()
            named[f"{kind}.{name}"] = {key: record.address for key, record in found.items()}
    known = instances.known() | {name: objects.immortal(item) for name, item in named.items()}
    known |= {f"record.{name}": record.address for name, record in [*operators.items(), *choices.items()]}
    known["request"] = objects.callback(_request(records))
    known["records.compare"] = objects.words([record.address for record in relations])
    known["bounds"] = objects.words([bound for n in range(NUMBERS) for bound in _bounds(DTYPES.get(n))])
    scalars = [TensorType(DTYPES[n], ()) if n in DTYPES else None for n in range(NUMBERS)]
    known["scalar_types"] = objects.words([objects.immortal(type) for type in scalars])
    builtins = [*functions, *choices]
    addresses = objects.load_objects(writer, "operators", [*operators, "compare", *builtins], known)
    wrapped = {name: objects.Builtin(name, addresses[name]).of(None) for name in builtins}
    return Operators({name: addresses[name] for name in (*operators, "compare")}, wrapped, records)


def _request(records: Sequence[Record]) -> Callable[[int, int, int], None]:
    """What native code calls when a kernel has been asked for often."""
    by_address = {record.address: record for record in records}

    def request(address: int, form: int, number: int) -> None:
        record = by_address[address]
        compiler.run_later(lambda: record.provide(form, DTYPES[number]))

    return request


def _bounds(dtype: DType | None) -> tuple[int, int]:
    """The Python ints that are converted to a dtype without further ado; none, where the second is the smaller."""
    if dtype is None or dtype.kind == "b":
        return 1, 0
    if is_floating(dtype):
        return -LARGEST_EXACT_INTEGER, LARGEST_EXACT_INTEGER
    limits = np.iinfo(dtype)
    return int(limits.min), min(int(limits.max), (1 << 63) - 1)
