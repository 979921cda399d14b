"""Python's objects in native code: where CPython and NumPy keep things, and a writer of LLVM IR that knows it.

Native code that is handed ``PyObject *`` needs no C extension: the layouts below are read off the running interpreter
and checked against it, the functions of both C APIs are called by their addresses, and the result is wrapped as a
builtin function or as a special method of a class.  Addresses differ from process to process and must not stand in
machine code that the cache keeps, so a module finds them in a table, its *context*, which is filled when it is loaded.

Where anything is not as expected (another interpreter, a build without a GIL, a new version), :func:`why_unsupported`
says so, and everything stays in Python.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import sys
import types
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from . import compiler
from .writer import Writer

VERSIONS = ((3, 11), (3, 12), (3, 13))  # of CPython, on which the tests have run

# Byte offsets of fields.
TYPE = 8  # of any object
FLOAT_VALUE = 16
SIZE = 16  # of a tuple or a list
TUPLE_ITEMS = tuple.__basicsize__
LIST_ITEMS = 24  # where they stand
ARRAY_DATA, ARRAY_RANK, ARRAY_SHAPE, ARRAY_DTYPE, ARRAY_FLAGS = 16, 24, 32, 56, 64
DTYPE_NUMBER = 28
FUNCTION_PARTS = {"__code__": 48, "__defaults__": 56, "__kwdefaults__": 64}
TYPE_VERSION = 384  # 32 bits, other ones after each change of the class or of one it is derived from
WRAPPER_BASE = 40  # of a special method that is written in C: what kind of method it is

CONTIGUOUS_AND_ALIGNED, WRITEABLE = 0x101, 0x400  # flags of an array
NUMPY_FUNCTIONS = {"PyArray_NewFromDescr": 94, "PyArray_SetBaseObject": 282}  # positions in NumPy's table of functions
NUMPY_ARRAY_TYPE = 2
FASTCALL, WITH_KEYWORDS = 0x80, 0x02  # how a builtin function is called

_immortal: list[Any] = []  # what native code knows by its address


@cache
def why_unsupported() -> str | None:
    """Why native code cannot handle Python's objects here; ``None`` where it can."""
    if os.environ.get("TRACEJIT_NATIVE_CALLS") == "0":
        return "TRACEJIT_NATIVE_CALLS is 0"
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in VERSIONS:
        return f"{platform.python_implementation()} {platform.python_version()} is not known to it"
    if set("td") & set(getattr(sys, "abiflags", "")):
        return "this build of CPython lays objects out in another way"
    if struct.calcsize("PlN") != 24 or sys.byteorder != "little":
        return "pointers, longs and sizes are not of 64 bits here"
    try:
        wrong = [name for name, is_right in _layout_checks() if not is_right]
    except Exception as error:
        return f"its layouts could not be looked at: {error!r}"
    return f"the layout of {' and '.join(wrong)} is another one" if wrong else None


class _Example:
    __slots__ = ("first", "second")


def _example(x: int = 1, *, y: int = 2) -> None:
    pass


def _parts_of(function: Any) -> list[int]:
    return [word(id(function) + offset) for offset in FUNCTION_PARTS.values()]


def _layout_checks() -> Iterator[tuple[str, bool]]:
    """What is laid out as this module has it; each look stays inside the object."""
    number, pair, grid = 1.25, ("a", "b"), np.zeros((3, 5), np.float32)
    yield "objects", word(id(number) + TYPE) == id(float) and object.__basicsize__ == 16
    yield "floats", ctypes.c_double.from_address(id(number) + FLOAT_VALUE).value == number
    items = list(pair)
    yield "tuples", [word(id(pair) + TUPLE_ITEMS + 8 * i) for i in range(2)] == [id(item) for item in pair]
    yield "lists", [word(word(id(items) + LIST_ITEMS) + 8 * i) for i in range(2)] == [id(item) for item in items]
    yield "sizes", word(id(pair) + SIZE) == word(id(items) + SIZE) == 2
    yield "functions", _parts_of(_example) == [id(getattr(_example, name)) for name in FUNCTION_PARTS]
    versions = []
    for number in range(2):
        _Example.version = number  # type: ignore[attr-defined]
        versions.append((_Example.version, word(id(_Example) + TYPE_VERSION) & 0xFFFFFFFF)[1])  # type: ignore[attr-defined]
    yield "classes", versions[0] != versions[1] and 0 not in versions
    example = _Example()
    example.first, example.second = number, pair  # type: ignore[attr-defined]
    offsets = [slot_offset(_Example, name) for name in _Example.__slots__]
    yield "slots", [word(id(example) + offset) for offset in offsets] == [id(number), id(pair)]
    yield "NumPy's functions", word(_numpy_table() + 8 * NUMPY_ARRAY_TYPE) == id(np.ndarray)
    for sample in (grid, grid.T, np.zeros(7, np.int64)[::2]):
        address = id(sample)
        shape = word(address + ARRAY_SHAPE)
        flags = ctypes.c_int32.from_address(address + ARRAY_FLAGS).value & CONTIGUOUS_AND_ALIGNED
        yield (
            "arrays",
            word(address + ARRAY_DATA) == sample.ctypes.data
            and ctypes.c_int32.from_address(address + ARRAY_RANK).value == sample.ndim
            and [word(shape + 8 * i) for i in range(sample.ndim)] == list(sample.shape)
            and word(address + ARRAY_DTYPE) == id(sample.dtype)
            and (flags == CONTIGUOUS_AND_ALIGNED) == (sample.flags.c_contiguous and sample.flags.aligned),
        )
    for dtype in (np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)):
        yield "dtypes", ctypes.c_int32.from_address(id(dtype) + DTYPE_NUMBER).value == dtype.num
    plus = np.ndarray.__dict__["__add__"]
    yield (
        "special methods",
        type(plus) is type(int.__add__) and (word(id(plus) + WRAPPER_BASE) == word(id(int.__add__) + WRAPPER_BASE)),
    )


def word(address: int) -> int:
    """The 64-bit word at an address."""
    return ctypes.c_uint64.from_address(address).value


class ClassVersion:
    """A class as it is: it gets another version with each change of it, or of one that it is derived from."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.address = id(kind) + TYPE_VERSION
        self._now = ctypes.c_uint32.from_address(self.address)
        self.renew()

    def renew(self) -> None:
        """Take the class for the same as it is now."""
        getattr(self.kind, "_", None)  # a look-up gives it a version
        self._expected = self._now.value

    def is_same(self) -> bool:
        return self._now.value == self._expected != 0


class UnknownVersion(ClassVersion):
    """Of a class where versions cannot be read."""

    def __init__(self, kind: type) -> None:
        self.kind, self.address = kind, 0

    def renew(self) -> None:
        pass

    def is_same(self) -> bool:
        return False


def class_version(kind: type) -> ClassVersion:
    """The version of a class."""
    return ClassVersion(kind) if why_unsupported() is None else UnknownVersion(kind)


def slot_offset(cls: type, name: str) -> int:
    """Where, in an instance, the slot ``name`` stands: out of its descriptor's ``PyMemberDef``."""
    definition = word(id(cls.__dict__[name]) + 40)
    return ctypes.c_ssize_t.from_address(definition + 16).value


@cache
def _numpy_table() -> int:
    """NumPy's table of C functions and types."""
    from_capsule = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    multiarray: Any = import_module("numpy._core.multiarray")
    address: int = from_capsule(multiarray._ARRAY_API, None)
    return address


def _function_address(name: str) -> int:
    if name in NUMPY_FUNCTIONS:
        return word(_numpy_table() + 8 * NUMPY_FUNCTIONS[name])
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return address


def immortal(item: Any) -> int:
    """The object's address, which stays valid as long as the process lives, even past the end of the interpreter."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
    _immortal.append(item)
    return id(item)


def words(values: list[int]) -> int:
    """The address of a table of words that lives as long as the process."""
    table = array("q", values)
    immortal(table)
    return table.buffer_info()[0]


# Writing ----------------------------------------------------------------------------------------------------


class ObjectWriter(Writer):
    """Writes functions that handle Python objects; the GIL is held throughout.

    References are borrowed unless an instruction says otherwise.  Code of others may run wherever an object is let
    go of, or one that the garbage collector knows is made; an array is no such object.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []  # of the context's addresses
        self._ways: dict[str, list[tuple[str, dict[str, str | int]]]] = {}  # that arrive at a label

    # Functions and branches ---------------------------------------------------------------------------------

    @contextmanager
    def define(self, signature: str) -> Iterator[None]:
        """A function; its last block must end it."""
        self.lines.append(f"define {signature} nounwind {{")
        self.begin("entry")
        yield
        self.lines += ["}", ""]

    def jump(self, label: str) -> None:
        self.do(f"br label %{label}")

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")

    def guard(self, condition: str, otherwise: str) -> None:
        """Go on if the condition holds, else at a label."""
        (go_on,) = self.labels("go.on")
        self.branch(condition, go_on, otherwise)
        self.begin(go_on)

    def arrive(self, label: str, **values: str | int) -> None:
        """Go to a label where ways meet, with this way's values."""
        self._ways.setdefault(label, []).append((self.block, values))
        self.jump(label)

    def meet(self, label: str, **kinds: str) -> list[str]:
        """Begin a label at which ways arrive, all of them written by now; what they bring."""
        self.begin(label)
        ways = self._ways.pop(label)
        return [
            self.let(name, f"phi {kind} {', '.join(f'[ {values[name]}, %{block} ]' for block, values in ways)}")
            for name, kind in kinds.items()
        ]

    # Memory -------------------------------------------------------------------------------------------------

    def load(self, pointer: str, offset: str | int = 0, kind: str = "ptr", name: str = "field") -> str:
        at = pointer if offset == 0 else self.offset(pointer, offset, "at")
        return self.let(name, f"load {kind}, ptr {at}")

    def store(self, value: str | int, pointer: str, offset: str | int = 0, kind: str = "ptr") -> None:
        at = pointer if offset == 0 else self.offset(pointer, offset, "at")
        self.do(f"store {kind} {value}, ptr {at}")

    def is_same(self, x: str, y: str | int, kind: str = "ptr") -> str:
        return self.let("same", f"icmp eq {kind} {x}, {y}")

    def is_other(self, x: str, y: str | int, kind: str = "ptr") -> str:
        return self.let("other", f"icmp ne {kind} {x}, {y}")

    def both(self, x: str, y: str) -> str:
        return self.let("both", f"and i1 {x}, {y}")

    def either(self, x: str, y: str) -> str:
        return self.let("either", f"or i1 {x}, {y}")

    # Objects ------------------------------------------------------------------------------------------------

    def address(self, name: str) -> str:
        """An address from the context: of a function of CPython or NumPy, or what :func:`load_objects` is given."""
        if name not in self.names:
            self.names.append(name)
        position = 8 * self.names.index(name)
        return self.let(name, f"load ptr, ptr getelementptr (i8, ptr @context, i64 {position})")

    def call(self, function: str, kind: str, *arguments: str) -> str:
        """Call a function of one of the C APIs; each argument is written with its type."""
        return self.let("result", f"call {kind} {self.address(function)}({', '.join(arguments)})")

    def type_of(self, item: str) -> str:
        return self.load(item, TYPE, name="type")

    def incref(self, item: str) -> None:
        """One reference more; of null, nothing."""
        self.do(f"call void {self.address('Py_IncRef')}(ptr {item})")

    def decref(self, item: str) -> None:
        """One reference less; of null, nothing."""
        self.do(f"call void {self.address('Py_DecRef')}(ptr {item})")

    def fill_slot(self, item: str, offset: int, value: str) -> None:
        """Put a value into a fresh object's slot, with a new reference."""
        self.incref(value)
        self.store(value, item, offset)

    def new_instance(self, cls: str) -> str:
        """An instance with empty slots: a new reference, or null with an error set."""
        return self.call("PyType_GenericAlloc", "ptr", f"ptr {cls}", "i64 0")

    def new_tuple(self, count: str | int) -> str:
        """A tuple without items: a new reference, or null with an error set."""
        return self.call("PyTuple_New", "ptr", f"i64 {count}")

    def return_reference(self, item: str) -> None:
        self.incref(item)
        self.do(f"ret ptr {item}")

    def return_call(self, function: str, items: str, count: str, keywords: str = "null") -> None:
        """Return what a Python function makes of the items in memory."""
        arguments = f"ptr {function}", f"ptr {items}", f"i64 {count}", f"ptr {keywords}"
        self.do(f"ret ptr {self.call('PyObject_Vectorcall', 'ptr', *arguments)}")

    def owner(self, most: int, failed: str) -> Callable[[str], str]:
        """What keeps new references on the stack; given null it goes to the label, which begins with :meth:`disown`."""
        self.do(f"%owned = alloca [{most} x ptr]")
        self._owned = most
        for number in range(most):
            self.store("null", "%owned", 8 * number)
        places = iter(range(most))

        def own(item: str) -> str:
            self.store(item, "%owned", 8 * next(places))
            self.guard(self.is_other(item, "null"), failed)
            return item

        return own

    def disown(self) -> None:
        """Let go of everything that is kept."""
        for number in range(self._owned):
            self.decref(self.load("%owned", 8 * number))

    # Arrays -------------------------------------------------------------------------------------------------

    def new_array(self, dtype: str, rank: str, shape: str) -> str:
        """An uninitialised array: a new reference, or null with an error set."""
        self.incref(dtype)  # which the call takes over
        return self.call(
            "PyArray_NewFromDescr", "ptr", f"ptr {self.address('ndarray')}", f"ptr {dtype}", f"i32 {rank}",
            f"ptr {shape}", "ptr null", "ptr null", "i32 0", "ptr null",
        )  # fmt: skip

    def guard_plain(self, found: str, miss: str) -> None:
        """That an object is an array which code can read as it lies."""
        self.guard(self.is_same(self.type_of(found), self.address("ndarray")), miss)
        flags = self.let("flags", f"and i32 {self.load(found, ARRAY_FLAGS, 'i32')}, {CONTIGUOUS_AND_ALIGNED}")
        self.guard(self.is_same(flags, CONTIGUOUS_AND_ALIGNED, "i32"), miss)

    def guard_same_shape(self, x: str, y: str, rank: str, miss: str) -> None:
        """That two arrays of one rank have one shape."""
        shapes = [self.shape_of(found) for found in (x, y)]
        with self.loop("0", rank, 1) as axes:
            at = self.mul(axes.index, 8)
            first, second = [self.load(shape, at, "i64", "extent") for shape in shapes]
            self.guard(self.is_same(first, second, "i64"), miss)

    def data_of(self, found: str) -> str:
        return self.load(found, ARRAY_DATA, name="data")

    def dtype_of(self, found: str) -> str:
        return self.load(found, ARRAY_DTYPE, name="dtype")

    def shape_of(self, found: str) -> str:
        return self.load(found, ARRAY_SHAPE, name="shape")

    def rank_of(self, found: str) -> str:
        return self.let("rank", f"sext i32 {self.load(found, ARRAY_RANK, 'i32')} to i64")

    def size_of(self, found: str) -> str:
        """How many elements an array has."""
        shape = self.shape_of(found)
        with self.loop("0", self.rank_of(found), 1, [("i64", "1")]) as axes:
            axes.next = [self.mul(axes.carried[0], self.load(shape, self.mul(axes.index, 8), "i64"))]
        return axes.carried[0]

    # The module ---------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The module: its functions, the context, and ``@bind``, which fills it."""
        context = f"@context = internal global [{len(self.names)} x ptr] zeroinitializer, align 16"
        with self.define("void @bind(ptr %addresses)"):
            for number in range(len(self.names)):
                self.store(self.load("%addresses", 8 * number), "@context", 8 * number)
            self.do("ret void")
        return "\n".join([context, *self.lines])


def load_objects(writer: ObjectWriter, name: str, functions: list[str], known: Mapping[str, int]) -> dict[str, int]:
    """Compile the module and fill its context; the addresses of its functions.

    ``known`` gives the addresses of what is neither a function of CPython nor of NumPy.
    """
    text = re.sub(r"^(define ptr|define void) @", rf"\1 @tj_{name}_", writer.text(), flags=re.MULTILINE)
    names = [f"tj_{name}_{function}" for function in ("bind", *functions)]
    cells = compiler.load_module(text, names, lambda: text, in_background=False)
    bind, *found = (ctypes.c_int64.from_address(cell).value for cell in cells)
    addresses = array("q", [known[n] if n in known else _function_address(n) for n in writer.names])
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(bind)(addresses.buffer_info()[0])
    return dict(zip(functions, found, strict=True))


def callback(function: Callable[[int, int, int], None]) -> int:
    """The address of native code that calls ``function`` with three words; what it raises is printed."""
    native = ctypes.PYFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(function)
    immortal(native)
    address = ctypes.cast(native, ctypes.c_void_p).value
    assert address is not None
    return address


# Wrapping ---------------------------------------------------------------------------------------------------


class _MethodDefinition(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]  # fmt: skip


class Builtin:
    """``ptr function(ptr owner, ptr arguments, i64 count, ptr keywords)`` as builtin functions, one for each owner."""

    def __init__(self, name: str, address: int) -> None:
        self._definition = _MethodDefinition(name.encode(), address, FASTCALL | WITH_KEYWORDS, None)
        immortal(self._definition)
        self._make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
            ("PyCFunction_NewEx", ctypes.pythonapi)
        )

    def of(self, owner: Any) -> Callable[..., Any]:
        function: Callable[..., Any] = self._make(ctypes.addressof(self._definition), owner, None)
        return function


_EXAMPLES = (np.ndarray, types.FunctionType)  # classes written in C that have the methods


def special_method(cls: type, name: str, address: int) -> Any:
    """A function in a class's slot, as a C extension would have it: to be assigned to ``cls.__add__`` and the like.

    Python puts the function itself into the slot, for the class and those that inherit from it, and takes it out
    again where the method is assigned to or overridden.
    """
    example = next(kind for kind in _EXAMPLES if name in kind.__dict__)
    base = word(id(example.__dict__[name]) + WRAPPER_BASE)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p)(
        ("PyDescr_NewWrapper", ctypes.pythonapi)
    )
    return make(cls, base, address)
