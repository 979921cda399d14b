"""Instances and small arrays that nobody holds any more are the next results of native code.

To make an array and an instance and to let go of them again takes longer than a small operation.  So an instance of
the class that native code makes, and the array in it, are put aside where they are as native code made them: nothing
refers to them, weakly or not, they have no attributes, the array owns its memory and is laid out in the ordinary way.
Everything else is let go of by CPython, as ever.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from functools import cache

import numpy as np

from tracejit.ir.types import KERNEL_DTYPES, DType

from . import objects
from .objects import ObjectWriter, word

MOST_INSTANCES = 64
MOST_BYTES = 1024  # of an array; NumPy keeps the memory of larger ones no longer either
MOST_RANK = 4
PLACES = 64  # for kinds of arrays: which of them it is, its dtype and shape tell
PLACE_BYTES = 64  # how many arrays there are, and the arrays
MOST_ARRAYS = PLACE_BYTES // 8 - 1
# Byte offsets in what is kept: behind the number of instances and the instances, how often CPython lets go of one just
# now, what does it in its stead, and the places of arrays.
AWAY, DEALLOCATION, ARRAY_PLACES = (8 * (1 + MOST_INSTANCES + number) for number in range(3))
PLAIN_FLAGS = 0x505  # contiguous, owns its memory, aligned, writeable
COLUMNS_FLAG = 0x2  # contiguous in Fortran's order too

# Byte offsets in a class.
DEALLOCATE, FREE, FINALIZE = 48, 320, 392
# Byte offsets in an instance whose dict Python manages, before it: what is in use if either is not 0.
ATTRIBUTES = (-32, -24)
MANAGED = 0b11000  # flags of a class: weak references and attributes stand before the instance
# Byte offsets in an array.
STRIDES, BASE, WEAK_REFERENCES, BUFFER = 40, 48, 72, 80

DTYPES: dict[int, DType] = {dtype.num: dtype for dtype in KERNEL_DTYPES}  # by NumPy's numbers, less than
NUMBERS = 16


class Plain:
    """An ordinary class."""

    __slots__ = ("__dict__", "__weakref__", "first")


class _Finalized:
    __slots__ = ()

    def __del__(self) -> None:
        pass


@cache
def is_possible() -> bool:
    """Whether classes, instances and arrays are laid out as this module has it."""
    try:
        return all(_layout_checks())
    except Exception:
        return False


def _layout_checks() -> Iterator[bool]:
    yield word(id(Plain) + DEALLOCATE) == word(id(_Finalized) + DEALLOCATE) != word(id(object) + DEALLOCATE)
    yield word(id(Plain) + FREE) == ctypes.cast(ctypes.pythonapi.PyObject_GC_Del, ctypes.c_void_p).value
    yield word(id(_Finalized) + FINALIZE) != 0 == word(id(Plain) + FINALIZE)
    yield bool(Plain.__flags__ & 0b10000)
    item = Plain()
    item.other = item  # type: ignore[attr-defined]
    yield any(word(id(item) + offset) for offset in ATTRIBUTES)
    item.__dict__.clear()
    grid = np.zeros((3, 5), np.float32)
    yield [word(word(id(grid) + STRIDES) + 8 * axis) for axis in range(2)] == [20, 4]
    yield word(id(grid) + BASE) == word(id(grid) + WEAK_REFERENCES) == word(id(grid) + BUFFER) == 0
    flags = ctypes.c_int32.from_address(id(grid) + objects.ARRAY_FLAGS)
    yield flags.value == PLAIN_FLAGS
    part = grid[1:]
    yield word(id(part) + BASE) == id(grid)
    reference = weakref.ref(grid)
    yield word(id(grid) + WEAK_REFERENCES) == id(reference)
    with grid.data:
        yield word(id(grid) + BUFFER) != 0
    grid.flags.writeable = False
    yield flags.value != PLAIN_FLAGS


@cache
def known() -> dict[str, int]:
    """Addresses for :class:`RecyclingWriter`."""
    return {
        "kept": objects.words([0] * ((ARRAY_PLACES + PLACES * PLACE_BYTES) // 8)),
        "dtypes": objects.words([objects.immortal(DTYPES[n]) if n in DTYPES else 0 for n in range(NUMBERS)]),
        "bytes": objects.words([DTYPES[n].itemsize if n in DTYPES else 0 for n in range(NUMBERS)]),
    }


class RecyclingWriter(ObjectWriter):
    """Writes what takes and leaves arrays."""

    def recycling(self) -> None:
        """``@new.array(dtype, rank, shape)``: an uninitialised array, a new reference, or null with an error set."""
        with self.define("internal ptr @new.array(ptr %dtype, i32 %rank, ptr %shape)"):
            new, stale = self.labels("new", "stale")
            place, wide = self._place("%dtype", "%rank", "%shape", new)
            count = self.load(place, 0, "i64", "count")
            self.guard(self.is_other(count, 0, "i64"), new)
            found = self.load(self.offset(place, self.mul(count, 8)))
            self.store(self.sub(count, "1"), place, 0, "i64")
            self.guard(self.is_same(self.dtype_of(found), "%dtype"), stale)
            self.guard(self.is_same(self.load(found, objects.ARRAY_RANK, "i32"), "%rank", "i32"), stale)
            extents = self.shape_of(found)
            with self.loop("0", wide, 1) as axes:
                at = self.mul(axes.index, 8)
                same = self.is_same(self.load(extents, at, "i64"), self.load("%shape", at, "i64"), "i64")
                self.guard(same, stale)
            self.do(f"ret ptr {found}")
            self.begin(stale)  # of another kind that has its place here too
            self.decref(found)
            self.jump(new)
            self.begin(new)
            self.do(f"ret ptr {super().new_array('%dtype', '%rank', '%shape')}")

    def new_array(self, dtype: str, rank: str, shape: str) -> str:
        return self.let("made", f"call ptr @new.array(ptr {dtype}, i32 {rank}, ptr {shape})")

    def _place(self, dtype: str, rank: str, shape: str, otherwise: str) -> tuple[str, str]:
        """Where arrays of a kind are kept, if any are, and the rank, which may be undefined."""
        number = self.let("number", f"zext i32 {self.load(dtype, objects.DTYPE_NUMBER, 'i32')} to i64")
        self.guard(self.let("low", f"icmp ult i64 {number}, {NUMBERS}"), otherwise)
        self.guard(self.is_same(self.load(self.address("dtypes"), self.mul(number, 8)), dtype), otherwise)
        self.guard(self.let("low", f"icmp ule i32 {rank}, {MOST_RANK}"), otherwise)
        wide = self.let("wide", f"zext i32 {rank} to i64")
        with self.loop("0", wide, 1, [("i64", self.add(self.mul(number, 5), wide))]) as axes:
            extent = self.load(shape, self.mul(axes.index, 8), "i64")
            axes.next = [self.add(self.mul(axes.carried[0], 31), extent)]
        which = self.mul(self.let("which", f"and i64 {axes.carried[0]}, {PLACES - 1}"), PLACE_BYTES)
        return self.offset(self.offset(self.address("kept"), ARRAY_PLACES), which, "place"), wide

    def leaving(self) -> None:
        """``@leave(array)``: let go of an object, which may be an array that is put aside."""
        with self.define("internal void @leave(ptr %item)"):
            (other,) = self.labels("other")
            self.guard(self.is_same(self.load("%item", 0, "i64"), 1, "i64"), other)
            self.guard(self.is_same(self.type_of("%item"), self.address("ndarray")), other)
            for offset in (BASE, WEAK_REFERENCES, BUFFER):
                self.guard(self.is_same(self.load("%item", offset), "null"), other)
            flags = self.let("flags", f"and i32 {self.load('%item', objects.ARRAY_FLAGS, 'i32')}, {~COLUMNS_FLAG}")
            self.guard(self.is_same(flags, PLAIN_FLAGS, "i32"), other)
            dtype, rank = self.dtype_of("%item"), self.load("%item", objects.ARRAY_RANK, "i32")
            shape, strides = self.shape_of("%item"), self.load("%item", STRIDES)
            place, wide = self._place(dtype, rank, shape, other)
            number = self.let("number", f"zext i32 {self.load(dtype, objects.DTYPE_NUMBER, 'i32')} to i64")
            bytes_ = self.load(self.address("bytes"), self.mul(number, 8), "i64")
            with self.loop("0", wide, 1, [("i64", bytes_)]) as axes:
                at = self.mul(self.sub(self.sub(wide, "1"), axes.index), 8)
                self.guard(self.is_same(self.load(strides, at, "i64"), axes.carried[0], "i64"), other)
                axes.next = [self.mul(axes.carried[0], self.load(shape, at, "i64"))]
            few = self.let("few", f"icmp ult i64 {self.sub(axes.carried[0], '1')}, {MOST_BYTES}")  # and not none
            self.guard(few, other)
            count = self.add(self.load(place, 0, "i64"), 1, "count")
            self.guard(self.let("room", f"icmp ule i64 {count}, {MOST_ARRAYS}"), other)
            self.store(count, place, 0, "i64")
            self.store("%item", self.offset(place, self.mul(count, 8)))
            self.do("ret void")
            self.begin(other)
            self.decref("%item")
            self.do("ret void")
