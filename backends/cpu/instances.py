"""Instances of a class that holds an array, as tensors do, in native code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import objects
from .objects import ObjectWriter


@dataclass(frozen=True)
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
        return {name: objects.immortal(item) for name, item in named.items()} | {"busy": self.busy}


class InstanceWriter(ObjectWriter):
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
        instance = self.new_instance(self.address(self._classes[0]))
        self.guard(self.is_other(instance, "null"), failed)
        self.store(array, instance, self._array)
        for offset, name in self._fresh:
            self.fill_slot(instance, offset, self.address(name))
        return instance
