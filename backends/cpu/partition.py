"""Loops whose rows do not depend on one another: each thread takes some of the rows through all steps.

A recurrent layer goes on step by step, but each sequence of a batch goes its own way, and what all of them read, the
weights, stays the same.  Threads that share the rows need not wait for one another at each product of each step, and
what a step leaves to the next one stays in the processor's own cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from tracejit.ir import Value

from ..control import CopyCall, LoopCall, Place
from ..products import DotCall
from ..program import KernelCall
from .sweeps import accesses_of
from .target import Target
from .vectors import blocking

LEAST_WORK = 1 << 20  # scalar operations of a loop
MOST_WORK = 3 << 21  # multiplications of a step's products: waiting for one another matters little in longer ones
SHARED_BYTES = 3 << 18  # of what products read in each step, which each thread's cache then holds


def rows_of(call: LoopCall, places: Mapping[Value, Place], target: Target, workers: int) -> int:
    """The rows of a loop that is to be shared by rows; 0 where it is not."""
    if workers < 2 or call.length is None or call.length < 2 or call.condition or call.work < LEAST_WORK:
        return 0
    calls = call.body.calls
    products = [each for each in calls if isinstance(each, DotCall)]
    if not products or not all(isinstance(each, KernelCall | DotCall | CopyCall) for each in calls):
        return 0
    rows = products[0].m
    if any(rows // workers <= blocking(each.dtype, target).few for each in products):
        return 0
    if sum(each.n * each.k * each.dtype.itemsize for each in products) > SHARED_BYTES:
        return 0
    if sum(each.work for each in products) > MOST_WORK:
        return 0
    return rows if _Body(call, places, rows).is_by_rows() else 0


class _Body:
    """The step of a loop."""

    def __init__(self, call: LoopCall, places: Mapping[Value, Place], rows: int) -> None:
        self.call, self.places, self.rows = call, places, rows
        self.own: dict[tuple[str, int, int], int] = {}  # places of what the steps write, and its bytes

    def is_by_rows(self) -> bool:
        """Whether each row of all that the steps write depends on the same row alone, and on what they do not write."""
        values = [value for carry in self.call.carries for value in (carry.current, carry.next)]
        for each in self.call.body.calls:
            values += self._written(each)
        for value in values:
            place = self._key(value)
            if value.type.size % self.rows or self.own.setdefault(place, value.type.nbytes) != value.type.nbytes:
                return False
        counter = self.call.counter
        return self._are_apart() and all(
            self._is_by_rows(each) and (counter is None or self._key(counter) not in map(self._key, each.buffers))
            for each in self.call.body.calls
        )

    def _key(self, value: Value) -> tuple[str, int, int]:
        place = self.places[value]
        return place.space, place.number, place.start

    def _written(self, call: object) -> list[Value]:
        match call:
            case KernelCall():
                return [v for v, b in zip(call.buffers, call.kernel.buffers, strict=True) if b.written]
            case DotCall():
                return [call.out.value]
            case CopyCall():
                return [call.target]
        raise AssertionError(call)

    def _are_apart(self) -> bool:
        """Whether what the steps write overlaps nothing else of it, for threads are not at the same call."""
        spans = sorted((number + start, number + start + size) for (space, number, start), size in self.own.items()
                       if space == "arena")  # fmt: skip
        behind = [(number, start) for space, number, start in self.own if space == "cursor"]
        return all(a[1] <= b[0] for a, b in pairwise(spans)) and len({n for n, _ in behind}) == len(behind)

    def _is_own(self, value: Value) -> bool | None:
        """Whether the steps write a value, or (``None``) a part of it."""
        place = self.places[value]
        if self._key(value) in self.own:
            return True
        first, last = place.number + place.start, place.number + place.start + value.type.nbytes
        for (space, number, start), size in self.own.items():
            is_near = number + start < last and first < number + start + size if space == "arena" else (
                number == place.number
            )  # fmt: skip
            if space == place.space and is_near:
                return None
        return False

    def _is_by_rows(self, call: object) -> bool:
        match call:
            case KernelCall():
                return self._is_kernel_by_rows(call)
            case DotCall():
                return self._is_product_by_rows(call)
            case CopyCall():
                return self._is_own(call.source) is not None
        return False

    def _is_kernel_by_rows(self, call: KernelCall) -> bool:
        loop = call.kernel.parallel_loop
        if loop is None or len(call.kernel.body) != 1 or call.extent % self.rows:
            return False
        values = dict(zip((buffer.name for buffer in call.kernel.buffers), call.buffers, strict=True))
        for access in accesses_of(call):
            if access is None:
                return False
            value = values[access.buffer]
            is_own = self._is_own(value)
            if is_own:
                stride = access.strides.get(loop.axis, 0)
                low, high = access.span(loop.axis)
                is_whole = stride * (call.extent // self.rows) * self.rows == value.type.size
                if access.is_unknown or not is_whole or low < 0 or high >= stride:
                    return False
            elif is_own is None:
                return False
        return True

    def _is_product_by_rows(self, call: DotCall) -> bool:
        if call.batch != 1 or call.m != self.rows or call.windows is not None:
            return False
        if call.n <= 4 or self._is_own(call.rhs.value) is not False:
            return False
        for matrices, columns in ((call.lhs, call.k), (call.out, call.n), (call.addend, call.n)):
            if matrices is None:
                continue
            is_own, (_, _, row, column) = self._is_own(matrices.value), matrices.strides
            if is_own is None:
                return False
            last = matrices.offset + (columns - 1) * column
            if is_own and not (row * self.rows == matrices.value.type.size and 0 <= matrices.offset <= last < row):
                return False
        return True
