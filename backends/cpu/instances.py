"""Instances of a class that holds an array, as tensors do, in native code."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from tracejit.ir.facts import facts

from . import objects, recycling
from .recycling import (
    ATTRIBUTES,
    AWAY,
    DEALLOCATE,
    DEALLOCATION,
    FINALIZE,
    MANAGED,
    MOST_INSTANCES,
    RecyclingWriter,
)


@facts(frozen=True)
class Instances:
    """The class whose instances native code takes, and how it holds an array.

    ``classes`` are those whose instances are ordinary; results are of the first.  ``fresh`` gives the slots of a new
    instance but for ``array``; ``gradient`` is the slot that is ``False`` where nothing is to be recorded.  ``busy`` is
    the address of a word that is 0 while operations are nothing but computed.
    """

    classes: tuple[type, ...]
    array: str
    gradient: str
    fresh: Mapping[str, Any]
    busy: int

    def known(self) -> dict[str, int]:
        """The addresses that :class:`InstanceWriter` needs."""
        named: dict[str, Any] = {f"class.{number}": cls for number, cls in enumerate(self.classes)}
        named |= {repr(value): value for value in (*self.fresh.values(), None, False, True)}
        named["ndarray"] = np.ndarray
        known = {name: objects.immortal(item) for name, item in named.items()}
        return known | recycling.known() | {"busy": self.busy}


class InstanceWriter(RecyclingWriter):
    """Writes what deals with instances."""

    def __init__(self, instances: Instances) -> None:
        super().__init__()
        self.slots = {
            slot: objects.slot_offset(instances.classes[0], slot) for slot in (instances.array, *instances.fresh)
        }
        self._array, self.gradient = self.slots[instances.array], self.slots[instances.gradient]
        self._fresh = [(self.slots[slot], repr(value)) for slot, value in instances.fresh.items()]
        self._classes = [f"class.{number}" for number in range(len(instances.classes))]

    def is_instance(self, item: str) -> str:
        cls = self.type_of(item)
        found, *others = [self.is_same(cls, self.address(name)) for name in self._classes]
        for other in others:
            found = self.either(found, other)
        return found

    def value_of(self, item: str) -> str:
        """What an instance holds."""
        return self.load(item, self._array, name="array")

    def array_of(self, item: str, miss: str) -> str:
        """An instance's array, which code can read as it lies."""
        found = self.value_of(item)
        self.guard_plain(found, miss)
        return found

    def wants_gradient(self, item: str) -> str:
        return self.is_other(self.load(item, self.gradient), self.address("False"))

    def guard_computing(self, miss: str) -> None:
        """That operations are nothing but computed now."""
        self.guard(self.is_same(self.load(self.address("busy"), 0, "i64"), 0, "i64"), miss)

    def instance_with(self, array: str, failed: str) -> str:
        """A new instance that takes over a reference to an array; which is left alone where there is no memory."""
        instance = self.let("instance", f"call ptr @new.instance(ptr {array})")
        self.guard(self.is_other(instance, "null"), failed)
        return instance

    def instances(self) -> None:
        """``@new.instance(array)``: a new reference, or null with an error set."""
        with self.define("internal ptr @new.instance(ptr %array)"):
            new, failed = self.labels("new", "failed")
            kept = self.address("kept")
            count = self.load(kept, 0, "i64", "count")
            self.guard(self.is_other(count, 0, "i64"), new)
            instance = self.load(self.offset(kept, self.mul(count, 8)))
            self.store(self.sub(count, "1"), kept, 0, "i64")
            self.do(f"call void {self.address('_Py_NewReference')}(ptr {instance})")
            self.store("%array", instance, self._array)
            self.do(f"call void {self.address('PyObject_GC_Track')}(ptr {instance})")
            self.do(f"ret ptr {instance}")
            self.begin(new)
            instance = self.new_instance(self.address(self._classes[0]))
            self.guard(self.is_other(instance, "null"), failed)
            self.store("%array", instance, self._array)
            for offset, name in self._fresh:
                self.fill_slot(instance, offset, self.address(name))
            self.do(f"ret ptr {instance}")
            self.begin(failed)
            self.do("ret ptr null")

    def deallocation(self, cls: type) -> None:
        """``@deallocate(instance)``, for the class's slot: put it aside, or leave it to ``@in.python``."""
        with self.define("void @deallocate(ptr %instance)"):
            other, derived = self.labels("other", "derived")
            own, python = self.address(self._classes[0]), self.address("in.python")
            kept = self.address("kept")
            self.guard(self.is_same(self.type_of("%instance"), own), derived)
            self.guard(self.is_same(self.load(own, FINALIZE), "null"), other)
            empty = [*ATTRIBUTES] if cls.__flags__ & MANAGED else []
            empty += [offset for offset in (cls.__dictoffset__, cls.__weakrefoffset__) if offset > 0]
            for offset in empty:
                self.guard(self.is_same(self.load("%instance", offset), "null"), other)
            for offset, name in self._fresh:
                self.guard(self.is_same(self.load("%instance", offset), self.address(name)), other)
            array = self.value_of("%instance")
            self.guard(self.is_other(array, "null"), other)
            count = self.add(self.load(kept, 0, "i64"), 1, "count")
            self.guard(self.let("room", f"icmp ule i64 {count}, {MOST_INSTANCES}"), other)
            self.do(f"call void {self.address('PyObject_GC_UnTrack')}(ptr %instance)")
            self.store(count, kept, 0, "i64")
            self.store("%instance", self.offset(kept, self.mul(count, 8)))
            self.do(f"call void @leave(ptr {array})")
            self.do("ret void")
            # CPython lets go of the part of an instance that a derived class adds, and then calls this for the rest.
            # What it would itself do for the rest includes the former, and finds that done.
            self.begin(derived)
            if sys.version_info < (3, 12):
                self.store("null", "%instance", min(ATTRIBUTES))  # which it has let go of, and left there
            self.jump(other)
            self.begin(other)  # to CPython, the class must look like any other meanwhile
            self.store(self.add(self.load(kept, AWAY, "i64"), 1), kept, AWAY, "i64")
            self.store(python, own, DEALLOCATE)
            self.do(f"call void {python}(ptr %instance)")
            away = self.add(self.load(kept, AWAY, "i64"), -1)
            self.store(away, kept, AWAY, "i64")
            with self.when(self.is_same(away, 0, "i64")):
                self.store(self.load(kept, DEALLOCATION), own, DEALLOCATE)
            self.do("ret void")


def recycle(instances: Instances) -> bool:
    """Have instances of the first class be put aside when nobody holds them any more; whether that is possible."""
    cls = instances.classes[0]
    slot = ctypes.c_uint64.from_address(id(cls) + DEALLOCATE)
    if not recycling.is_possible() or slot.value != objects.word(id(recycling.Plain) + DEALLOCATE):
        return False
    writer = InstanceWriter(instances)
    writer.leaving()
    writer.deallocation(cls)
    known = instances.known() | {"in.python": slot.value}
    addresses = objects.load_objects(writer, "instances", ["deallocate"], known)
    ctypes.c_uint64.from_address(known["kept"] + DEALLOCATION).value = slot.value = addresses["deallocate"]
    return True
