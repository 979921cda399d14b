"""The matrix product C[b] = A[b] @ B[b] as LLVM IR, written out in vector form.

The shape of the computation is that of BLIS (Van Zee and van de Geijn 2015) and of Goto and van de Geijn, "Anatomy of
high-performance matrix multiplication" (2008): a *tile* of C, several rows high and two vectors wide, stays in
registers while k runs; a *strip* of B, two vectors wide and ``DEPTH`` rows deep, serves all rows of A; a *panel* of
strips stays in the second-level cache.  Unlike theirs, a tile's rows of A are the innermost block: they stay in the
first-level cache while the strips of the panel stream past, so that C is written along its rows.

**Order of summation.**  Every element is computed alike, whatever the shapes, strides, edges, threads or vector width:
for each block of ``DEPTH`` consecutive k, one chain ``sum = fma(a[i, k], b[k, j], sum)`` from +0.0 in increasing k; and
these block sums are added in increasing order.  ``DEPTH`` is therefore part of what a product *means* here, and not a
parameter to tune.  (Where an operand is NaN the result is NaN, but which NaN is left open.)

**Packing.**  The tile functions take B in strips with arbitrary strides between rows and between strips, and A with two
arbitrary strides.  Operands that already lie well in memory are read in place; others are first copied to scratch
memory: B where its rows are not contiguous, or are pages apart and there are enough rows of A to repay the copy; a
tile's rows of A where they would compete for the same few places in the cache.

**No passes needed.**  The text is already what LLVM's mid-level passes would make of it, so that none need to run:
vectors and their loops are explicit, and invariant addresses stand outside the loops.  There are three kinds of tile
only, functions of their own, which leave their sums in a buffer; one function brings these into C, whatever the edges.
All but the tiles is compiled without optimisation, which makes it quick to compile and, by measurement, no slower: the
work is in the vectors, and these are as they should be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .target import Target
from .writer import Writer

DEPTH = 256  # how many k make up one chain of fma: see "Order of summation"

# The kernel's arguments, in order: 8-byte slots.  Strides count elements; a batch stride may be 0, any stride negative.
SLOTS = (
    "a b c batch m n k a_batch_stride a_row_stride a_column_stride b_batch_stride b_row_stride b_column_stride "
    "scratch scratch_bytes_per_worker"
).split()

ALIGNMENT = 64  # of scratch memory, for speed: a cache line

COLUMN_BLOCK_BYTES = 3072  # the width of a panel: with DEPTH rows, three quarters of a second-level cache of 1 MiB

# When to copy.
PAGE_BYTES = 4096  # also, in most processors, the distance of addresses that share a set of the first-level cache
PACKED_TILES = 8  # B, where its rows are at least a page apart and at least this many tiles share the panel
COPIED_STRIPS = 8  # a tile of A, where its rows share a set and at least this many strips use it


@dataclass(frozen=True)
class Blocking:
    """How a product is cut up for a dtype and a processor."""

    lanes: int  # elements in a vector
    strip: int  # columns in a strip: two vectors
    height: int  # rows in a tile
    low: int  # rows in a low tile, for what remains; it may also have fewer
    column_block: int  # columns whose panel of B stays in the second-level cache
    narrow_block: int  # columns in a block where there is one tile of rows only: few, for there is nothing to reuse
    element_bytes: int

    @property
    def copied_row_bytes(self) -> int:
        """The distance of the rows in a copy of a tile's rows of A: such that they fall into different cache sets."""
        return DEPTH * self.element_bytes + ALIGNMENT

    @property
    def tile_bytes(self) -> int:
        """Scratch memory for a copy of a tile's rows of A."""
        return self.height * self.copied_row_bytes

    def panel_bytes(self, n: int, k: int) -> int:
        """Scratch memory for a packed panel of B, including what storing whole transposed blocks may overrun."""
        columns = -(-min(n, self.column_block) // self.strip) * self.strip
        return columns * min(k, DEPTH) * self.element_bytes + self.lanes * self.strip * self.element_bytes


def blocking(dtype: np.dtype, target: Target) -> Blocking:
    """With 32 registers a tile is 12×2 vectors (24 sums, 2 of B, 1 of A); with 16 it is 6×2."""
    lanes = target.lanes(dtype)
    height, low = (12, 4) if target.vector_registers >= 32 else (6, 2)
    return Blocking(
        lanes=lanes,
        strip=2 * lanes,
        height=height,
        low=low,
        column_block=COLUMN_BLOCK_BYTES // dtype.itemsize,
        narrow_block=8 * lanes,
        element_bytes=dtype.itemsize,
    )


def parallel_units(dtype: np.dtype, target: Target, batch: int, m: int, n: int, k: int) -> int:
    """The extent of the kernel's parallel axis: tiles of rows, within blocks of columns, within the batch."""
    shape = blocking(dtype, target)
    if n == 1:  # the kernel computes the transpose
        m, n = n, m
    columns = shape.narrow_block if m <= shape.height else shape.column_block
    return batch * -(-m // shape.height) * -(-n // columns)


def scratch_bytes(dtype: np.dtype, target: Target, m: int, n: int, k: int) -> int:
    """Scratch memory for each worker.  Grows with each extent, so that upper bounds may be passed for unknown ones."""
    shape = blocking(dtype, target)
    total = shape.tile_bytes + max(shape.panel_bytes(n, k), shape.panel_bytes(m, k) if n == 1 else 0)
    return -(-total // ALIGNMENT) * ALIGNMENT


def flops(batch: int, m: int, n: int, k: int) -> int:
    """The work: a multiplication and an addition for each k of each element."""
    return 2 * batch * m * n * k


def grain(dtype: np.dtype, target: Target, batch: int, m: int, n: int, k: int, threads: int) -> int:
    """How many units a thread should take at a time.

    An even share or, where it is large, an even part of it, so that a thread held up by other work does not hold up the
    rest; but no part so small that packing the panel of B once more does not pay.
    """
    units = parallel_units(dtype, target, batch, m, n, k)
    share = -(-units // max(threads, 1))
    parts = min(max(share // 16, 1), 4)
    return max(-(-share // parts), 1)


def contraction_module(dtype: np.dtype, target: Target) -> str:
    """LLVM IR of the kernel ``dot_f32`` or ``dot_f64``, whose arguments are ``SLOTS``."""
    return ContractionWriter(np.dtype(dtype), target).module()


# Strides are in bytes from here on.  Every tile function has this signature.
TILE_TYPES = ["ptr", "i64", "i64", "ptr", "i64", "i64", "i64", "ptr", "i64", "i64", "i64", "i1"]
TILE_NAMES = "%a %a_row %a_k %b %b_k %b_strip %depth %c %c_row %columns %rows %accumulate".split()
TILE_PARAMETERS = ", ".join(f"{kind} {name}" for kind, name in zip(TILE_TYPES, TILE_NAMES, strict=True))


class ContractionWriter(Writer):
    """Writes the kernel for one dtype and one processor."""

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

    def module(self) -> str:
        self.tile(self.shape.height)
        self.tile(self.shape.low)
        self.row()
        self.write()
        self.pack_b()
        for rounds in sorted(set(self.shuffles)):
            self.shuffle(rounds)
        self.copy_a()
        self.kernel()
        v, m, s = self.vector, self.mask, self.suffix
        declarations = [
            f'target triple = "{self.target.triple}"',
            f"@minus_zeros = private constant {v} splat ({self.scalar} -0.0), align 64",
            f"declare {v} @llvm.fma.{s}({v}, {v}, {v})",
            "declare i64 @llvm.smin.i64(i64, i64)",
            "declare i64 @llvm.smax.i64(i64, i64)",
            "declare i64 @llvm.abs.i64(i64, i1)",
            "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
            "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
        ]
        if self.target.has_masked_memory:
            declarations += [
                f"declare {v} @llvm.masked.load.{s}.p0(ptr, i32, {m}, {v})",
                f"declare void @llvm.masked.store.{s}.p0({v}, ptr, i32, {m})",
            ]
        return "\n".join([*declarations, "", *self.lines])

    # Vectors

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

    # Tiles of C

    def tile(self, height: int) -> None:
        """Multiply ``height`` rows of A by all strips of a panel.  The lower of the two tiles may have fewer rows: it
        computes the last of them again in place of those it lacks."""
        low = height == self.shape.low
        with self.function(f"internal void @tile_{height}({TILE_PARAMETERS})", hot=True):
            if low:
                last = self.sub("%rows", "1")
                bases = [self.offset("%a", self.mul("%a_row", self.min(last, i))) for i in range(height)]
            else:
                # A pointer to every third row: the next two are one and two strides on, which the address of a load
                # can add.  Frozen, for otherwise LLVM sees that each row is one stride after the last, and makes one
                # long chain of additions of them.
                bases = [self.freeze("ptr", self.offset("%a", self.mul("%a_row", i))) for i in range(0, height, 3)]
            buffer = self.buffer(2 * height)
            start = [("ptr", "%b"), ("ptr", "%c"), ("i64", "%columns")]
            with self.loop("0" if low else str(self.lanes), "%columns", 2 * self.lanes, start) as strips:
                b, c, left = strips.carried
                b_next = self.offset(b, self.vector_bytes)
                self.strip(height, bases, [b, b_next], left, buffer)
                self.write_tile(buffer, 2, c, self.min(left, 2 * self.lanes))
                strips.next = [
                    self.offset(b, "%b_strip"), self.offset(c, self.strip_bytes), self.sub(left, str(2 * self.lanes))
                ]  # fmt: skip
            if not low:
                b, c, left = strips.carried
                with self.when(self.compare("sgt", left, 0)):
                    self.strip(height, bases, [b], left, buffer)
                    self.write_tile(buffer, 1, c, left)

    def row(self) -> None:
        """Multiply a single row of A: four whole strips at a time, for a single row by two vectors would leave the
        multipliers waiting for one another's results.  The other tile does what remains."""
        low = self.shape.low
        with self.function(f"internal void @tile_1({TILE_PARAMETERS})"):
            buffer = self.buffer(8)
            wide = self.add("%columns", 1 - 8 * self.lanes)
            with self.loop("0", wide, 8 * self.lanes, [("ptr", "%b"), ("ptr", "%c")]) as groups:
                b, c = groups.carried
                starts = [b]
                for _ in range(3):
                    starts += [self.offset(starts[-1], self.vector_bytes), self.offset(starts[-1], "%b_strip")]
                starts.append(self.offset(starts[-1], self.vector_bytes))
                self.strip(1, ["%a"], starts, None, buffer)
                self.write_tile(buffer, 8, c, str(8 * self.lanes))
                groups.next = [self.offset(starts[-2], "%b_strip"), self.offset(c, 8 * self.vector_bytes)]
            left = self.sub("%columns", groups.index)
            with self.when(self.compare("sgt", left, 0)):
                values = [*TILE_NAMES]
                values[values.index("%b")], values[values.index("%c")] = groups.carried
                values[values.index("%columns")] = left
                arguments = ", ".join(f"{kind} {value}" for kind, value in zip(TILE_TYPES, values, strict=True))
                self.do(f"call void @tile_{low}({arguments})")

    def write_tile(self, buffer: str, width: int, c: str, columns: str) -> None:
        """Bring a tile's sums from the buffer into C."""
        self.do(
            f"call void @write(ptr {buffer}, i64 {width * self.vector_bytes}, ptr {c}, i64 %c_row, i64 %rows, "
            f"i64 {columns}, i1 %accumulate)"
        )

    def buffer(self, vectors: int) -> str:
        return self.let("buffer", f"alloca [{vectors} x {self.vector}], align {ALIGNMENT}")

    def strip(self, height: int, a_bases: list[str], b_starts: list[str], left: str | None, buffer: str) -> None:
        """The sums of one tile, put into a buffer: ``height`` rows by one or more vectors, of whose columns the first
        ``left``, or all, are within the matrix."""
        masks: list[str | None] = [None] * len(b_starts)
        if left and self.target.has_masked_memory:
            for j in range(len(b_starts)):
                # Frozen, for otherwise LLVM moves the comparison into the loop.
                masks[j] = self.freeze(self.mask, self.first_lanes(self.sub(left, str(j * self.lanes))))
        pointers = [("ptr", p) for p in [*a_bases, *b_starts]]
        zeros = [(self.vector, "zeroinitializer")] * (height * len(b_starts))
        with self.loop("0", "%depth", 1, [*pointers, *zeros], runs_once=True) as ks:
            a = ks.carried[: len(a_bases)]
            b = ks.carried[len(a_bases) : len(pointers)]
            sums = iter(ks.carried[len(pointers) :])
            columns = [self.load(p, mask) for p, mask in zip(b, masks, strict=True)]
            ks.next = [*(self.offset(p, "%a_k") for p in a), *(self.offset(p, "%b_k") for p in b)]
            if len(a) == height:
                rows = a
            else:
                strides = [("i8", "0"), ("i8", "%a_row"), ("i16", "%a_row")]
                rows = [self.offset(p, stride, unit=unit) for p in a for unit, stride in strides]
            for row in rows:
                x = self.broadcast(self.scalar, self.load_scalar(row))
                for y in columns:
                    operands = f"{self.vector} {x}, {self.vector} {y}, {self.vector} {next(sums)}"
                    ks.next.append(self.let("fma", f"call {self.vector} @llvm.fma.{self.suffix}({operands})"))
        for i, value in enumerate(ks.next[len(pointers) :]):
            self.store(value, self.offset(buffer, i * self.vector_bytes), aligned=True)

    def write(self) -> None:
        """C = sums or C = C + sums, without a branch: where there is nothing to add to, add to -0.0, which changes no
        number, not even a zero."""
        parameters = "ptr %sums, i64 %sums_row, ptr %c, i64 %c_row, i64 %rows, i64 %columns, i1 %accumulate"
        with self.function(f"internal void @write({parameters})"):
            old_row = self.select("%accumulate", "i64", "%c_row", 0)
            with self.loop("0", "%columns", self.lanes) as vectors:
                byte = self.mul(vectors.index, self.size)
                new, target = self.offset("%sums", byte), self.offset("%c", byte)
                old = self.select("%accumulate", "ptr", target, "@minus_zeros")
                start = [("ptr", new), ("ptr", old), ("ptr", target)]
                left = self.sub("%columns", vectors.index)
                mask = self.first_lanes(left) if self.target.has_masked_memory else None
                with self.loop("0", "%rows", 1, start, runs_once=True) as rows:
                    new, old, target = rows.carried
                    if mask:
                        self.write_vector(new, old, target, mask)
                    else:
                        whole = self.compare("sge", left, self.lanes)
                        with self.when(whole):
                            self.write_vector(new, old, target)
                        with self.when(self.negate(whole)):
                            self.write_lanes(new, old, target, left)
                    rows.next = [
                        self.offset(new, "%sums_row"), self.offset(old, old_row), self.offset(target, "%c_row")
                    ]  # fmt: skip

    def write_vector(self, new: str, old: str, target: str, mask: str | None = None) -> None:
        total = self.let("total", f"fadd {self.vector} {self.load(old, mask)}, {self.load(new)}")
        self.store(total, target, mask)

    def write_lanes(self, new: str, old: str, target: str, count: str) -> None:
        with self.loop("0", count, 1) as lanes:
            byte = self.mul(lanes.index, self.size)
            x, y = self.load_scalar(self.offset(old, byte)), self.load_scalar(self.offset(new, byte))
            total = self.let("total", f"fadd {self.scalar} {x}, {y}")
            self.do(f"store {self.scalar} {total}, ptr {self.offset(target, byte)}, align {self.size}")

    # Copies

    def pack_b(self) -> None:
        """Copy a panel of B so that each strip is contiguous, row after row.  Columns beyond the last are left or
        filled with anything, for what they yield is not written."""
        parameters = "ptr %b, i64 %b_k, i64 %b_column, i64 %depth, i64 %columns, ptr %panel"
        with self.function(f"internal void @pack_b({parameters})"):
            strip_bytes = self.mul("%depth", self.strip_bytes)
            buffers = [self.buffer(self.lanes), self.buffer(self.lanes)]
            with self.loop("0", "%columns", self.lanes) as vectors:
                left = self.sub("%columns", vectors.index)
                source = self.offset("%b", self.mul(vectors.index, "%b_column"))
                strip = self.let("strip", f"lshr i64 {vectors.index}, {self.shape.strip.bit_length() - 1}")
                half = self.let("half", f"and i64 {vectors.index}, {self.lanes}")
                target = self.offset(self.offset("%panel", self.mul(strip, strip_bytes)), self.mul(half, self.size))
                by_row = self.compare("eq", "%b_column", self.size)
                by_column = self.compare("eq", "%b_k", self.size)
                with self.choose(by_row, by_column) as case:
                    case("row by row")
                    with self.loop("0", "%depth", 1, [("ptr", source), ("ptr", target)], runs_once=True) as ks:
                        self.copy_lanes(ks.carried[0], ks.carried[1], left)
                        ks.next = [self.offset(ks.carried[0], "%b_k"), self.offset(ks.carried[1], self.strip_bytes)]
                    case("column by column")
                    self.pack_transposed(source, target, left, buffers)
                    case("one by one")
                    with self.loop("0", "%depth", 1, [("ptr", source), ("ptr", target)], runs_once=True) as ks:
                        element, to = ks.carried
                        with self.loop("0", self.min(left, self.lanes), 1) as js:
                            column = self.offset(element, self.mul(js.index, "%b_column"))
                            self.copy_scalar(column, self.offset(to, self.mul(js.index, self.size)))
                        ks.next = [self.offset(element, "%b_k"), self.offset(to, self.strip_bytes)]

    def pack_transposed(self, source: str, target: str, left: str, buffers: list[str]) -> None:
        """Copy columns that are contiguous: transpose squares of as many as there are lanes."""
        with self.loop("0", "%depth", self.lanes) as ks:
            below = self.sub("%depth", ks.index)
            origin = self.offset(source, self.mul(ks.index, self.size))
            whole = self.compare("sge", self.min(left, below), self.lanes)
            with self.when(self.negate(whole)), self.loop("0", self.min(left, self.lanes), 1) as js:
                column = self.offset(origin, self.mul(js.index, "%b_column"))
                self.copy_lanes(column, self.offset(buffers[0], self.mul(js.index, self.vector_bytes)), below)
            origin = self.select(whole, "ptr", origin, buffers[0])
            step = self.select(whole, "i64", "%b_column", self.vector_bytes)
            for rounds in self.shuffles[:-1]:
                target_step = str(self.vector_bytes)
                self.do(f"call void @shuffle_{rounds}(ptr {origin}, i64 {step}, ptr {buffers[1]}, i64 {target_step})")
                origin, step = buffers[1], target_step
            # Rows beyond the depth run into the next strip, which is yet to be written, or past the end of the panel.
            to = self.offset(target, self.mul(ks.index, self.strip_bytes))
            rounds = self.shuffles[-1]
            self.do(f"call void @shuffle_{rounds}(ptr {origin}, i64 {step}, ptr {to}, i64 {self.strip_bytes})")

    def shuffle(self, rounds: int) -> None:
        """One or two perfect shuffles of a square of vectors.  One makes rows i and i + half, interleaved, rows 2i and
        2i + 1."""
        ways = 2**rounds
        part = self.lanes // ways
        parameters = "ptr %from, i64 %from_step, ptr %to, i64 %to_step"
        with self.function(f"internal void @shuffle_{rounds}({parameters})"):
            distance = self.mul("%from_step", part)
            start = [("ptr", "%from"), ("ptr", "%to")]
            with self.loop("0", str(part), 1, start, runs_once=True) as groups:
                source, target = groups.carried
                groups.next = [self.offset(source, "%from_step"), target]
                rows = []
                for _ in range(ways):
                    rows.append(self.load(source))
                    source = self.offset(source, distance)
                for _ in range(rounds):
                    pairs = zip(rows[: ways // 2], rows[ways // 2 :], strict=True)
                    rows = [self.interleave(x, y, start) for x, y in pairs for start in (0, self.lanes // 2)]
                for row in rows:
                    self.store(row, groups.next[1])
                    groups.next[1] = self.offset(groups.next[1], "%to_step")

    def interleave(self, x: str, y: str, start: int) -> str:
        """Half of the lanes of two vectors, from ``start`` on, in turn."""
        order = ", ".join(f"i32 {start + i // 2 + i % 2 * self.lanes}" for i in range(self.lanes))
        operands = f"{self.vector} {x}, {self.vector} {y}, <{self.lanes} x i32> <{order}>"
        return self.let("interleaved", f"shufflevector {operands}")

    def copy_a(self) -> None:
        """Copy a tile's rows of A: row after row where these are contiguous, otherwise column after column."""
        height, size = self.shape.height, self.size
        with self.function("internal void @copy_a(ptr %a, i64 %a_row, i64 %a_k, i64 %rows, i64 %depth, ptr %copy)"):
            by_row, by_column = self.compare("eq", "%a_k", size), self.compare("eq", "%a_row", size)
            start = [("ptr", "%a"), ("ptr", "%copy")]
            row_bytes = self.mul("%depth", size)
            with self.choose(by_row, by_column) as case:
                case("row by row")
                with self.loop("0", "%rows", 1, start, runs_once=True) as rows:
                    source, target = rows.carried
                    self.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {row_bytes}, i1 false)")
                    rows.next = [self.offset(source, "%a_row"), self.offset(target, self.shape.copied_row_bytes)]
                case("column by column")
                with self.loop("0", "%depth", 1, start, runs_once=True) as ks:
                    source, target = ks.carried
                    for first in range(0, height, self.lanes):  # what is copied too much, the next column overwrites
                        left = self.add("%rows", -first)
                        self.copy_lanes(self.offset(source, first * size), self.offset(target, first * size), left)
                    ks.next = [self.offset(source, "%a_k"), self.offset(target, height * size)]
                case("one by one")
                with self.loop("0", "%depth", 1, start, runs_once=True) as ks:
                    source, target = ks.carried
                    with self.loop("0", "%rows", 1) as rows:
                        element = self.offset(source, self.mul(rows.index, "%a_row"))
                        self.copy_scalar(element, self.offset(target, self.mul(rows.index, size)))
                    ks.next = [self.offset(source, "%a_k"), self.offset(target, height * size)]

    # The kernel

    def kernel(self) -> None:
        """Cut a range of units into stretches of tiles that share a panel of B, and multiply each."""
        shape = self.shape
        name = f"@dot_{self.short_name}"
        with self.function(f"void {name}(ptr %arguments, i64 %begin, i64 %end, i64 %worker)"):
            slot = {}
            for i, label in enumerate(SLOTS):
                kind = "ptr" if label in ("a", "b", "c", "scratch") else "i64"
                slot[label] = self.let(label, f"load {kind}, ptr {self.offset('%arguments', 8 * i)}, align 8")
            for label in SLOTS:
                if label.endswith("stride"):
                    slot[label] = self.mul(slot[label], self.size, label)

            # A product with a single column is computed as its transpose, B'A', which lies in memory alike.
            swap = self.compare("eq", slot["n"], 1)

            def either(kind: str, x: str, y: str) -> str:
                return self.select(swap, kind, slot[y], slot[x])

            a, b = either("ptr", "a", "b"), either("ptr", "b", "a")
            m, n, k = either("i64", "m", "n"), either("i64", "n", "m"), slot["k"]
            a_batch = either("i64", "a_batch_stride", "b_batch_stride")
            b_batch = either("i64", "b_batch_stride", "a_batch_stride")
            a_row = either("i64", "a_row_stride", "b_column_stride")
            a_k = either("i64", "a_column_stride", "b_row_stride")
            b_k = either("i64", "b_row_stride", "a_column_stride")
            b_column = either("i64", "b_column_stride", "a_row_stride")

            worker_bytes = self.mul("%worker", slot["scratch_bytes_per_worker"])
            copy = self.offset(slot["scratch"], worker_bytes)
            panel = self.offset(copy, shape.tile_bytes)
            c_row = self.mul(n, self.size)
            tiles = self.ceil_div(m, shape.height)
            single = self.compare("sle", m, shape.height)
            blocks = self.ceil_div(n, self.select(single, "i64", shape.narrow_block, shape.column_block))
            blocks = self.max(blocks, 1)
            # Blocks of about equal width, for a narrow last one would be slow.
            block_columns = self.mul(self.ceil_div(self.ceil_div(n, blocks), shape.strip), shape.strip)

            with self.loop("%begin", "%end", 1) as units:
                tile = self.let("tile", f"urem i64 {units.index}, {tiles}")
                outer = self.let("outer", f"udiv i64 {units.index}, {tiles}")
                block = self.let("block", f"urem i64 {outer}, {blocks}")
                batch = self.let("batch", f"udiv i64 {outer}, {blocks}")
                count = self.min(self.sub(tiles, tile), self.sub("%end", units.index))
                first_row = self.mul(tile, shape.height)
                rows = self.min(self.mul(count, shape.height), self.sub(m, first_row))
                first_column = self.mul(block, block_columns)
                columns = self.min(block_columns, self.sub(n, first_column))

                a = self.offset(self.offset(a, self.mul(batch, a_batch)), self.mul(first_row, a_row))
                b = self.offset(self.offset(b, self.mul(batch, b_batch)), self.mul(first_column, b_column))
                c_index = self.add(self.mul(self.add(self.mul(batch, m), first_row), n), first_column)
                c = self.offset(slot["c"], self.mul(c_index, self.size))

                with self.when(self.compare("eq", k, 0)), self.loop("0", rows, 1) as rs:
                    target = self.offset(c, self.mul(rs.index, c_row))
                    row_bytes = self.mul(columns, self.size)
                    self.do(f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {row_bytes}, i1 false)")

                # Read B in place?  And does a copy of a tile of A pay?
                packed = self.compare("ne", b_column, self.size)
                if not self.target.has_masked_memory:
                    edge = self.let("edge", f"and i64 {columns}, {shape.strip - 1}")
                    packed = self.let("or", f"or i1 {packed}, {self.compare('ne', edge, 0)}")
                distance = self.let("abs", f"call i64 @llvm.abs.i64(i64 {b_k}, i1 false)")
                far = self.compare("sge", distance, PAGE_BYTES)
                reused = self.compare("sge", rows, PACKED_TILES * shape.height)
                packed = self.let("packed", f"or i1 {packed}, {self.let('and', f'and i1 {far}, {reused}')}")
                along_k = self.compare("eq", a_k, self.size)
                spacing = self.select(along_k, "i64", a_row, a_k)
                crowded = self.compare("eq", self.let("and", f"and i64 {spacing}, {PAGE_BYTES - 1}"), 0)
                reused = self.compare("sge", columns, COPIED_STRIPS * shape.strip)
                copied = self.let("copied", f"and i1 {crowded}, {reused}")

                with self.loop("0", k, DEPTH) as ks:
                    depth = self.min(self.sub(k, ks.index), DEPTH)
                    accumulate = self.compare("ne", ks.index, 0)
                    a_block = self.offset(a, self.mul(ks.index, a_k))
                    b_block = self.offset(b, self.mul(ks.index, b_k))
                    with self.when(packed):
                        self.do(
                            f"call void @pack_b(ptr {b_block}, i64 {b_k}, i64 {b_column}, i64 {depth}, "
                            f"i64 {columns}, ptr {panel})"
                        )
                    tile_b = self.select(packed, "ptr", panel, b_block)
                    tile_b_k = self.select(packed, "i64", self.strip_bytes, b_k)
                    tile_b_strip = self.select(packed, "i64", self.mul(depth, self.strip_bytes), self.strip_bytes)
                    self.tiles(
                        a_block, a_row, a_k, copied, copy, depth, f"ptr {tile_b}, i64 {tile_b_k}, i64 {tile_b_strip}",
                        c, c_row, columns, rows, accumulate,
                    )  # fmt: skip
                units.step = count

    def tiles(
        self, a: str, a_row: str, a_k: str, copied: str, copy: str, depth: str, b: str,
        c: str, c_row: str, columns: str, rows: str, accumulate: str,
    ) -> None:  # fmt: skip
        """Cut some rows into tiles, as high as possible, and multiply each by a panel of B."""
        shape = self.shape
        along_k = self.compare("eq", a_k, self.size)
        with self.loop("0", rows, 1) as tiles:
            left = self.sub(rows, tiles.index)
            source = self.offset(a, self.mul(tiles.index, a_row))
            fits, single = self.compare("sge", left, shape.height), self.compare("eq", left, 1)
            height = self.select(fits, "i64", shape.height, self.min(left, shape.low))
            function = self.select(fits, "ptr", f"@tile_{shape.height}", f"@tile_{shape.low}")
            function = self.select(single, "ptr", "@tile_1", function)
            with self.when(copied):
                self.do(
                    f"call void @copy_a(ptr {source}, i64 {a_row}, i64 {a_k}, i64 {height}, i64 {depth}, ptr {copy})"
                )
            source = self.select(copied, "ptr", copy, source)
            row = self.select(along_k, "i64", shape.copied_row_bytes, self.size)
            column = self.select(along_k, "i64", self.size, shape.height * self.size)
            row = self.select(copied, "i64", row, a_row)
            column = self.select(copied, "i64", column, a_k)
            target = self.offset(c, self.mul(tiles.index, c_row))
            self.do(
                f"call void {function}(ptr {source}, i64 {row}, i64 {column}, {b}, i64 {depth}, ptr {target}, "
                f"i64 {c_row}, i64 {columns}, i64 {height}, i1 {accumulate})"
            )
            tiles.step = height
