"""Devices: what a program needs of a machine that it runs on besides the CPU, and which such machines there are.

``"cpu"`` is no :class:`Device`: its arrays are NumPy's, and ``None`` stands for it here.  A device's arrays are of a
class of their own, by which they are told apart.  Nothing here knows CUDA: :mod:`.cuda` registers its devices, and so
may anything that runs CUDA C (the tests run it on the CPU).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from array import array as Words
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tracejit.ir.facts import facts
from tracejit.ir.types import DType

if TYPE_CHECKING:
    from .cuda.codegen import Entry
    from .products import DotCall

ALIGNMENT = 16  # bytes, at which each array that a kernel gets starts: its widest load


class Unplaced(np.ndarray):
    """An array that the library has made by itself, a constant: it goes wherever it is needed."""


@facts(frozen=True)
class Launch:
    """A kernel's launch.  Its arguments are 64-bit words: those numbered ``slots`` of ``words``, when it is made.

    With ``ends`` these are the arguments of several calls, which end at these blocks; the one argument is a table.
    """

    entry: Entry
    function: Any
    grid: int
    words: Words[int]
    slots: Sequence[int]
    ends: Sequence[int] = ()

    @property
    def table_bytes(self) -> int:
        """The size of the table."""
        sets = self.entry.form.sets
        return 8 * sets * (len(self.slots) // len(self.ends)) + -(-4 * sets // 8) * 8

    def table(self) -> Words[int]:
        """The table, with the words as they are now; unused sets end where the last one does."""
        sets = self.entry.form.sets
        table = Words("q", [self.words[slot] for slot in self.slots])
        table.extend([0] * ((self.table_bytes - 4 * sets) // 8 - len(table)))
        ends = Words("I", [*self.ends, *[self.ends[-1]] * (sets - len(self.ends))])
        table.frombytes(ends.tobytes())
        return table


@facts(frozen=True)
class Product:
    """A matrix product; the words numbered ``slots`` are the addresses of its buffers, in their order."""

    call: DotCall
    words: Words[int]
    slots: Sequence[int]


@facts(frozen=True)
class Copy:
    """A copy of bytes; the words are the target's address and the source's."""

    nbytes: int
    words: Words[int]
    slots: tuple[int, int]


Work = Launch | Product | Copy


@runtime_checkable
class Replays(Protocol):
    """What does some work, by a recording of it where addresses come again."""

    @property
    def is_lost(self) -> bool:
        """Whether they have not for so long that none are looked for."""

    def start_again(self) -> None:
        """Look for them again."""

    def __call__(self) -> None: ...


class Device(ABC):
    """A machine that runs kernels, with memory of its own.

    Addresses are integers.  What is asked of a device is done in the order in which it is asked; only
    :meth:`download` and :meth:`read` wait for it.
    """

    name: str  # "cuda:0"
    array_class: type
    arch = "sm_90"  # as CUDA names it
    keeps_memory = True  # whether the memory of one run may serve the next one on the same stream

    @property
    def stream(self) -> int:
        """Where work goes now, as a number."""
        return 0

    @classmethod
    @abstractmethod
    def of(cls, array: Any) -> Device:
        """The device that an array of the class is on."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: DType) -> Any:
        """An uninitialised array."""

    @abstractmethod
    def address(self, array: Any) -> int:
        """Where an array's first element is."""

    @abstractmethod
    def strides(self, array: Any) -> tuple[int, ...]:
        """An array's strides in bytes."""

    @abstractmethod
    def view(self, array: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        """Other elements of an array's memory, from ``offset`` bytes after its first one on; strides in bytes."""

    @abstractmethod
    def copied(self, array: Any) -> Any:
        """The same elements in order, in memory of their own."""

    @abstractmethod
    def write(self, address: int, array: np.ndarray) -> None:
        """Copy a contiguous array of the host's to an address."""

    @abstractmethod
    def read(self, address: int, nbytes: int) -> np.ndarray:
        """The bytes at an address, on the host."""

    @abstractmethod
    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy bytes that do not overlap."""

    @abstractmethod
    def load(self, entries: Sequence[Entry]) -> Mapping[str, Any]:
        """The functions by name, compiled if need be."""

    @abstractmethod
    def runner(self, work: Sequence[Work]) -> Callable[[], None]:
        """What does some work in order, as often as it is called, with what the words are then."""

    def function(self, name: str) -> Callable[..., Any] | None:
        """What computes a primitive that has no kernel on this device's arrays; ``None``: NumPy does, on the host."""
        return None

    def imported(self, item: Any, *, copy: bool) -> Any:
        """An array of another library's that is on this device."""
        raise BufferError(f"{self.name} takes no arrays of other libraries")

    # Built on the above ------------------------------------------------------------------------------

    def upload(self, array: np.ndarray) -> Any:
        """A copy of a host's array; one that repeats a single element is repeated on the device."""
        if array.size > 1 and not any(array.strides):
            whole = self.upload(array[(slice(0, 1),) * array.ndim])
            return self.view(whole, 0, array.shape, (0,) * array.ndim)
        made = self.empty(array.shape, array.dtype)
        if array.size:
            self.write(self.address(made), np.ascontiguousarray(array))
        return made

    def download(self, array: Any) -> np.ndarray:
        """A copy on the host."""
        shape, dtype = tuple(array.shape), array.dtype
        if 0 in shape:
            return np.empty(shape, dtype)
        whole = self.contiguous(array)
        return self.read(self.address(whole), array.dtype.itemsize * math.prod(shape)).view(dtype).reshape(shape)

    def contiguous(self, array: Any) -> Any:
        """An array with the same elements in order, aligned for kernels: the array itself, if it is so."""
        in_order = row_major(tuple(array.shape), array.dtype.itemsize)
        if all(
            extent <= 1 or stride == wanted
            for extent, stride, wanted in zip(array.shape, self.strides(array), in_order, strict=True)
        ):
            return array if self.address(array) % ALIGNMENT == 0 else self.copied(array)
        return self.copied(array)


def row_major(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides in bytes of a contiguous array."""
    strides: list[int] = []
    for extent in reversed(shape):
        strides.append(itemsize)
        itemsize *= max(extent, 1)
    return tuple(reversed(strides))


# Which there are ------------------------------------------------------------------------------------------

Find = Callable[[int], Device]  # the device of a kind with a number; raises where there is none
_kinds: dict[str, Find] = {}
_open: dict[str, Device] = {}
_of_class: dict[type, Callable[[Any], Device]] = {}
in_use = [False]  # whether there can be arrays on devices in this process


def register(kind: str, find: Find) -> None:
    """Make a kind of device known: ``"gpusim"`` and ``"gpusim:0"`` are then found by ``find(0)``."""
    _kinds[kind] = find


def kinds() -> Iterator[str]:
    """The kinds that are known."""
    return iter(_kinds)


def find(name: str) -> Device | None:
    """The device of that name (``None`` for the CPU); ``ValueError`` where no such kind is known."""
    found = _open.get(name)
    if found is not None:
        return found
    kind, _, number = name.partition(":")
    if kind == "cpu":
        return None
    if kind not in _kinds or not (number.isdigit() or not number):
        raise ValueError(f"unknown device {name!r}: expected {' or '.join(map(repr, ['cpu', *_kinds]))}")
    device = _kinds[kind](int(number or 0))
    _open[name] = _open[device.name] = device
    _of_class[device.array_class] = device.of
    in_use[0] = True
    return device


def device_of(array: Any) -> Device | None:
    """The device that an array is on; ``None`` for the host's."""
    found = _of_class.get(type(array))
    return None if found is None else found(array)


def on_host(array: Any) -> np.ndarray:
    """An array as NumPy's: copied, if it is on a device."""
    device = device_of(array)
    return array if device is None else device.download(array)


def moved(array: Any, device: Device | None) -> Any:
    """An array on a device: itself, or a copy."""
    here = device_of(array)
    if here is device:
        return array
    host = array if here is None else here.download(array)
    return host if device is None else device.upload(np.asarray(host))


def common(arrays: Sequence[Any]) -> Device | None:
    """The device that an operation on arrays is done on; ``RuntimeError`` where they lie on several.

    Arrays without a place, and the host's with a single number and no axes, go where the others are.
    """
    device: Device | None = None
    elsewhere = False
    for array in arrays:
        own = device_of(array)
        if own is None:
            elsewhere = elsewhere or (array.ndim > 0 and type(array) is not Unplaced)
        elif device is None:
            device = own
        elif device is not own:
            raise RuntimeError(mixed(device.name, own.name))
    if device is not None and elsewhere:
        raise RuntimeError(mixed(device.name, "cpu"))
    return device


def mixed(first: str, second: str) -> str:
    """What is wrong with operands on two devices."""
    return f"Expected all tensors to be on the same device, but found at least two devices, {first} and {second}!"


def is_array(item: Any) -> bool:
    """Whether it is an array, wherever it is."""
    return isinstance(item, np.ndarray) or type(item) in _of_class
