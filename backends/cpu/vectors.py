"""How a matrix product is cut up, and writing about its vectors: see :mod:`.contraction`."""

from __future__ import annotations

import numpy as np

from tracejit.ir.facts import facts
from tracejit.ir.types import bfloat16, float32

from .target import Target
from .writer import Writer

PART_BYTES = 16  # of a vector, within which x86 shuffles fast
DEPTH = 256  # how many k make up one chain of fma: part of what a product means, see "Order of summation"
LINE_BYTES = 64  # of a cache
ALIGNMENT = 64  # of scratch memory, for speed: a cache line
COLUMN_BLOCK_BYTES = 3072  # the width of a panel: with DEPTH rows, three quarters of a second-level cache of 1 MiB


# What a table tells of a vector of places of windows: the offset of what is read, in elements; how many lanes are read;
# which of these show places, as bits; how many those are; the first of the places, which follow one another; and how
# many vectors from there on are close together.
VECTOR_FACTS = "offset extent lanes count first chain".split()


@facts(frozen=True)
class Blocking:
    """How a product is cut up for a dtype and a processor."""

    lanes: int  # elements in a vector
    strip: int  # columns in a strip: two vectors
    height: int  # rows in a tile
    low: int  # rows in a low tile, for what remains; it may also have fewer
    few: int  # so few rows that B is read but once, where it lies well for this
    column_block: int  # columns whose panel of B stays in the second-level cache
    narrow_block: int  # columns in a block where there are few tiles of rows: few, for there is little to reuse
    stream_block: int  # columns in a block where there are fewer rows of A yet: a line of each row of B, or some
    element_bytes: int

    @property
    def copied_row_bytes(self) -> int:
        """The distance of the rows in a copy of a tile's rows of A: such that they fall into different cache sets."""
        return DEPTH * self.element_bytes + ALIGNMENT

    @property
    def tile_bytes(self) -> int:
        """Scratch memory for a copy of a tile's rows of A."""
        return self.height * self.copied_row_bytes

    @property
    def sums_row_bytes(self) -> int:
        """The distance of rows of sums that are kept apart from C."""
        return self.column_block * self.element_bytes + ALIGNMENT

    def panel_bytes(self, n: int, k: int) -> int:
        """Scratch memory for a packed panel of B, including what storing whole transposed blocks may overrun."""
        columns = -(-min(n, self.column_block) // self.strip) * self.strip
        return columns * min(k, DEPTH) * self.element_bytes + self.lanes * self.strip * self.element_bytes


def blocking(dtype: np.dtype, target: Target) -> Blocking:
    """With 32 registers a tile is 12×2 vectors (24 sums, 2 of B, 1 of A); with 16 it is 6×2.

    Pairs of bfloat16 take the place of float32, and the sums are float32.
    """
    pairs = dtype == bfloat16
    dtype = float32 if pairs else dtype
    lanes = target.lanes(dtype)
    height, low = (12, 4) if target.vector_registers >= 32 else (6, 2)
    return Blocking(
        lanes=lanes,
        strip=2 * lanes,
        height=height,
        low=low,
        few=2 * low if pairs else low,
        column_block=COLUMN_BLOCK_BYTES // dtype.itemsize,
        narrow_block=8 * lanes,
        stream_block=4 * lanes,
        element_bytes=dtype.itemsize,
    )


class VectorWriter(Writer):
    """Writes code for vectors of one dtype and one processor."""

    def __init__(self, dtype: np.dtype, target: Target) -> None:
        super().__init__()
        self.target = target
        self.shape = blocking(dtype, target)
        self.size = dtype.itemsize
        self.lanes = self.shape.lanes
        self.scalar = {"float32": "float", "float64": "double"}[dtype.name]
        self.short_name = {"float32": "f32", "float64": "f64"}[dtype.name]
        self.vector = f"<{self.lanes} x {self.scalar}>"
        self.mask = f"<{self.lanes} x i1>"
        self.suffix = f"v{self.lanes}{self.short_name}"
        self.vector_bytes = self.lanes * self.size
        self.strip_bytes = 2 * self.vector_bytes
        # The log2(lanes) perfect shuffles that transpose a square of vectors, one or two at a time.
        self.shuffles = {2: [1], 4: [2], 8: [2, 1], 16: [2, 2]}[self.lanes]

    def broadcast(self, kind: str, value: str) -> str:
        one = self.let("one", f"insertelement <{self.lanes} x {kind}> poison, {kind} {value}, i32 0")
        vector = f"<{self.lanes} x {kind}>"
        return self.let("all", f"shufflevector {vector} {one}, {vector} poison, <{self.lanes} x i32> zeroinitializer")

    def first_lanes(self, count: str) -> str:
        """The mask of the first lanes; the count may also be below 0 or above the number of lanes."""
        narrow = self.let("count", f"trunc i64 {self.min(count, self.lanes)} to i32")
        numbers = ", ".join(f"i32 {i}" for i in range(self.lanes))
        return self.let("mask", f"icmp sgt <{self.lanes} x i32> {self.broadcast('i32', narrow)}, <{numbers}>")

    def load(self, pointer: str, mask: str | None = None, otherwise: str = "zeroinitializer") -> str:
        if mask is None:
            return self.let("v", f"load {self.vector}, ptr {pointer}, align {self.size}")
        arguments = f"ptr {pointer}, i32 {self.size}, {self.mask} {mask}, {self.vector} {otherwise}"
        return self.let("v", f"call {self.vector} @llvm.masked.load.{self.suffix}.p0({arguments})")

    def store(self, value: str, pointer: str, mask: str | None = None, aligned: bool = False) -> None:
        if mask is None:
            alignment = self.vector_bytes if aligned else self.size
            self.do(f"store {self.vector} {value}, ptr {pointer}, align {alignment}")
        else:
            arguments = f"{self.vector} {value}, ptr {pointer}, i32 {self.size}, {self.mask} {mask}"
            self.do(f"call void @llvm.masked.store.{self.suffix}.p0({arguments})")

    def load_scalar(self, pointer: str) -> str:
        return self.let("s", f"load {self.scalar}, ptr {pointer}, align {self.size}")

    def copy_scalar(self, source: str, target: str) -> None:
        self.do(f"store {self.scalar} {self.load_scalar(source)}, ptr {target}, align {self.size}")

    def copy_lanes(self, source: str, target: str, count: str) -> None:
        """Copy some elements, none at the least and a vector's worth at the most.  The other lanes of the target may be
        overwritten as well."""
        if self.target.has_masked_memory:
            self.store(self.load(source, self.first_lanes(count)), target)
        else:
            size = self.mul(self.max(self.min(count, self.lanes), 0), self.size)
            self.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")

    def interleave(self, x: str, y: str, start: int, part: int) -> str:
        """Half of the lanes of each part of two vectors, from ``start`` on, in turn."""
        places = [i // part * part + start + i % part // 2 + i % 2 * self.lanes for i in range(self.lanes)]
        order = ", ".join(f"i32 {place}" for place in places)
        operands = f"{self.vector} {x}, {self.vector} {y}, <{self.lanes} x i32> <{order}>"
        return self.let("interleaved", f"shufflevector {operands}")

    def parts(self, rows: list[str]) -> list[str]:
        """Vectors of what is in the first part of each row, in the second, and so on."""
        if len(rows) == 1:
            return rows
        size = PART_BYTES // self.size
        halves = []
        for first in (0, size):  # of the parts, every second
            places = [i // size * 2 * size + first + i % size for i in range(self.lanes)]
            order = ", ".join(f"i32 {place}" for place in places)
            halves.append(
                [
                    self.let(
                        "parts", f"shufflevector {self.vector} {x}, {self.vector} {y}, <{self.lanes} x i32> <{order}>"
                    )
                    for x, y in zip(rows[::2], rows[1::2], strict=True)
                ]
            )
        return [vector for pair in zip(*map(self.parts, halves), strict=True) for vector in pair]

    def transposed(self, rows: list[str]) -> list[str]:
        """Squares of parts of vectors, transposed: by perfect shuffles, each of which halves the distance to go."""
        half = len(rows) // 2
        for _ in range(len(rows).bit_length() - 1):
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [self.interleave(x, y, start, 2 * half) for x, y in pairs for start in (0, half)]
        return rows

    def fma(self, x: str, y: str, total: str) -> str:
        v = self.vector
        return self.let("fma", f"call {v} @llvm.fma.{self.suffix}({v} {x}, {v} {y}, {v} {total})")

    def buffer(self, vectors: int) -> str:
        return self.let("buffer", f"alloca [{vectors} x {self.vector}], align {ALIGNMENT}")

    # What windows show

    def entry(self, table: str, number: str | int) -> str:
        """Where a table tells of a place."""
        return self.offset(table, number, unit="{ i64, i64 }")

    def place(self, table: str, number: str | int) -> tuple[str, str]:
        """The place's offset in bytes, and how many from there on are neighbours."""
        at = self.entry(table, number)
        offset = self.mul(self.let("offset", f"load i64, ptr {at}"), self.size)
        return offset, self.let("run", f"load i64, ptr {self.offset(at, 8)}")

    def vector_entry(self, table: str, number: str | int) -> str:
        """Where a table tells of a vector of places."""
        return self.offset(table, number, unit=f"[{len(VECTOR_FACTS)} x i64]")

    def shown(self, entry: str, fact: str) -> str:
        """What a table tells of a vector of places."""
        return self.let(fact, f"load i64, ptr {self.offset(entry, 8 * VECTOR_FACTS.index(fact))}")
