"""The matrix product C[b] = A[b] @ B[b] as LLVM IR, written out in vector form.

The shape of the computation is that of BLIS (Van Zee and van de Geijn 2015) and of Goto and van de Geijn, "Anatomy of
high-performance matrix multiplication" (2008): a *tile* of C, several rows high and two vectors wide, stays in
registers while k runs; a *strip* of B, two vectors wide and ``DEPTH`` rows deep, serves all rows of A; a *panel* of
strips stays in the second-level cache.  Unlike theirs, a tile's rows of A are the innermost block: they stay in the
first-level cache while the strips of the panel stream past, so that C is written along its rows.

**Order of summation.**  Every element is computed alike, whatever the shapes, strides, edges, threads or vector width:
for each block of ``DEPTH`` consecutive k, one chain ``sum = fma(a[i, k], b[k, j], sum)`` from +0.0 in increasing k; and
these block sums are added in increasing order.  An addend, if there is one, is added last.  ``DEPTH`` is therefore part
of what a product *means* here, and not a parameter to tune.  (Where an operand is NaN the result is NaN, but which NaN
is left open.)

**Packing.**  The tile functions take B in strips with arbitrary strides between rows and between strips, and A with two
arbitrary strides.  Operands that already lie well in memory are read in place; others are first copied to scratch
memory: B where its rows are not contiguous, or are far apart or cross the lines of the cache, and there are enough rows
of A to repay the copy.  Where A has a single row or very few, B is read but once, as it lies: by rows, or by columns
that are transposed in registers, few columns but some of their blocks at a time; and of a product with few columns the
transpose is computed.  One of the operands may be what windows show of an image (a convolution): no strides
lead through it, but tables; it is read in place, but for a B whose vectors would show few of its columns, and asked for
before.  What will be needed of A and of C soon is asked for while a strip of B goes by.

**No passes needed.**  The text is already what LLVM's mid-level passes would make of it, so that none need to run:
vectors and their loops are explicit, and invariant addresses stand outside the loops.  There are few kinds of tile,
functions of their own; but for the highest they leave their sums in a buffer, and one function brings these into C,
whatever the edges.  All but the tiles is compiled without optimisation, which makes it quick to compile and, by
measurement, no slower: the work is in the vectors, and these are as they should be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tracejit.ir.facts import facts, replace
from tracejit.ir.types import bfloat16

from .few_rows import STREAMED_BLOCKS, FewRowsWriter
from .packing import PackingWriter
from .target import Target
from .vectors import ALIGNMENT, DEPTH, LINE_BYTES, VECTOR_FACTS, blocking
from .writer import Loop

if TYPE_CHECKING:
    from ..products import DotCall, Matrices

# The kernel's arguments, in order: 8-byte slots.  Strides count elements; a batch stride may be 0, any stride negative.
# The addend may be null.  Its columns are neighbours, or it is one number, of which a vector (``NUMBER_BYTES``) is
# given, with all strides 0.  The columns of C are neighbours.  Where there is a single column, this holds for the rows.
# Where B is read but once, the columns of both may be apart, too: see ``read_once``.
# The matrices of a batch lie in stacks of stacks, ``inner`` of them in each.  A unit is some rows, a tile's or less,
# in a block of columns, whole strips of them (see :mod:`.shares`).
# Of an operand that is read through windows, the tables tell where its rows (of A) or columns (of B) and its depths
# are: for each two numbers, an offset in elements, and how many from there on are neighbours.  Such products have more
# than one column, or a single row too.  A B that is read in place has a table of vectors of its columns
# (``VECTOR_FACTS``), with one without lanes at the end; n then counts the lanes, and there is no addend.
SLOTS = (
    "a b c addend batch inner m n k a_stack_stride a_batch_stride a_row_stride a_column_stride "
    "b_stack_stride b_batch_stride b_row_stride b_column_stride c_stack_stride c_batch_stride c_row_stride "
    "c_column_stride addend_stack_stride addend_batch_stride addend_row_stride addend_column_stride unit_rows "
    "block_columns scratch scratch_bytes_per_worker places depths"
).split()
TABLES = ("places", "depths")  # read only by the kernels for windows

NUMBER_BYTES = 64  # the widest vector

# When to copy a panel of B whose rows are contiguous: so many tiles share it, B is larger than this, and
FAR_TILES, FAR_BYTES, FAR_STEP = 8, 1 << 20, 2048  # its rows are so far apart,
HUGE_TILES, HUGE_BYTES = 0, 1 << 22  # also where it comes from memory,
SKEW_TILES, SKEW_BYTES = 2, 1 << 17  # or its vectors cross the lines of the cache.

MOST_TILES = 96  # that share a panel of B, where their sums are kept apart
LEAST_DEPTH = 32  # k of a product whose transpose is computed
PAIR_DEPTH = 128  # and, for each pair of a row and a column, of one where these are taken one by one
READ_ONCE = 8  # how much longer a multiplication takes where B is read but once


def scratch_bytes(dtype: np.dtype, target: Target, m: int, n: int, k: int) -> int:
    """Scratch memory for each worker.  Grows with each extent, so that upper bounds may be passed for unknown ones."""
    shape = blocking(dtype, target)
    copy = sums = 0
    if dtype == bfloat16:
        k, copy = -(-k // 2), shape.tile_bytes
        sums = min(-(-m // shape.height), MOST_TILES) * shape.height * shape.sums_row_bytes
    panel = max(shape.panel_bytes(n, k), shape.panel_bytes(m, k) if n == 1 else 0, shape.few * k * shape.element_bytes)
    return -(-(copy + sums + panel) // ALIGNMENT) * ALIGNMENT


def flops(batch: int, m: int, n: int, k: int) -> int:
    """The work: a multiplication and an addition for each k of each element."""
    return 2 * batch * m * n * k


def effort(dtype: np.dtype, target: Target, batch: int, m: int, n: int, k: int) -> int:
    """The time it takes, in multiplications of a large product: where B is read but once, each takes longer."""
    is_read_once = n == 1 or m <= blocking(dtype, target).few
    return batch * m * n * k * (READ_ONCE if is_read_once else 1)


def kernel_name(
    dtype: np.dtype,
    target: Target,
    sizes: Sequence[int],
    a_strides: Sequence[int],
    b_strides: Sequence[int],
    windows: str | None = None,
    places: np.ndarray | None = None,
) -> str:
    """Which kernel is for a product: one reads B but once, as it lies, where few rows of A make use of it.

    ``sizes`` are m, n and k, the strides those of rows and columns; ``windows``: the operand that is read through them,
    with the table of its places.
    """
    shape, (m, n, k) = blocking(dtype, target), sizes
    if windows is not None and places is not None:
        copied = "copied_" if windows == "rhs" and places.shape[1] != len(VECTOR_FACTS) else ""
        return f"dot_windows_{windows}_{copied}{'f32' if dtype.itemsize == 4 else 'f64'}"
    (along_k, along_n), width = b_strides, n
    if n == 1:  # the kernel computes the transpose
        m, width, (along_n, along_k) = n, m, a_strides
    by_row = along_n == 1 and (target.has_masked_memory or width % shape.lanes == 0)
    by_column = along_k == 1 and width >= shape.lanes
    by_pair = m * width == 1 or (m * width * PAIR_DEPTH <= k and width < shape.lanes and not by_row)
    by_pair = by_pair and a_strides[1] == b_strides[0] == 1
    few = "pairs" if by_pair else "stream" if by_row else "columns" if by_column else ""
    if dtype == bfloat16 and (by_pair or k % 2 or (b_strides[0] if n == 1 else a_strides[1]) != 1):
        few = ""  # pairs do not lie as they are wanted
    height = 1 if m == 1 else shape.low if m <= shape.low else shape.few
    few = f"{few}_{height}_" if few and m <= shape.few else ""
    return f"dot_{few}{'bf16' if dtype == bfloat16 else 'f32' if dtype.itemsize == 4 else 'f64'}"


def name_of(call: DotCall, target: Target) -> str:
    """The name of the kernel of a product."""
    windows = () if call.windows is None else (call.windows.side, call.windows.places.array)
    sizes = call.m, call.n, call.k
    return kernel_name(call.dtype, target, sizes, call.lhs.strides[2:], call.rhs.strides[2:], *windows)


def read_once(call: DotCall, target: Target) -> DotCall:
    """The product, or its transpose where that has few rows, so that its B is read but once."""
    if call.windows or call.dtype == bfloat16 or not 1 < call.n <= blocking(call.dtype, target).few < call.m:
        return call
    a, b, c = map(_transposed, (call.lhs, call.rhs, call.out))
    addend = None if call.addend is None else _transposed(call.addend)
    turned = replace(call, lhs=b, rhs=a, out=c, addend=addend, m=call.n, n=call.m)
    name = kernel_name(call.dtype, target, (turned.m, turned.n, turned.k), b.strides[2:], a.strides[2:])
    return turned if call.k >= LEAST_DEPTH and name.startswith(("dot_stream", "dot_columns")) else call


def _transposed(matrices: Matrices) -> Matrices:
    stacks, stack, row, column = matrices.strides
    return replace(matrices, strides=(stacks, stack, column, row))


def contraction_module(dtype: np.dtype, target: Target, name: str) -> str:
    """LLVM IR of the kernel of that name, whose arguments are ``SLOTS``."""
    if dtype == bfloat16:
        from .bfloat16 import Bfloat16Writer

        return Bfloat16Writer(target).module(name)
    return ContractionWriter(np.dtype(dtype), target).module(name)


@facts(frozen=True)
class Operands:
    """What the kernel was given: its arguments by name, strides in bytes; and some of them as they are of the product
    or, if ``swap``, of its transpose."""

    slot: dict[str, str]
    swap: str
    windows: str | None
    m: str
    n: str
    k: str
    a_row: str
    a_k: str
    b_k: str
    b_column: str


@facts(frozen=True)
class Stretch:
    """What is computed at a time: how many rows and columns, where they are, and this worker's scratch memory."""

    rows: str
    columns: str
    a: str
    b: str
    c: str
    addend: str
    places: str
    panel: str


RowsOfA = Callable[[str, str], tuple[tuple[str, str, str], str]]  # of a tile: pointer and steps; what comes next
Into = list[tuple[str, ...]]  # C, what is added to a tile's sums and the addend: pointer, distance of rows, of vectors


class ContractionWriter(FewRowsWriter, PackingWriter):
    """Writes the kernels for one dtype and one processor."""

    most_tiles = sys.maxsize  # that share a panel of B

    @property
    def element_bytes(self) -> int:
        """Of the operands and the result."""
        return self.size

    def module(self, name: str) -> str:
        few = self.few_function(name)
        windows = next((side for side in ("lhs", "rhs") if f"windows_{side}" in name), None)
        self.in_place = windows if windows and "copied" not in name else ""
        if few:
            self.write()
            self.write_apart()
        else:
            self.tile_functions()
            if windows:
                self.fetch_windows(self.in_place == "rhs")
            if windows == "rhs":
                if not self.in_place:
                    self.pack_windows()
            else:
                self.pack_b()
                self.pack_rows()
                self.shuffle_functions()
        self.kernel(name, few, windows)
        return "\n".join([*self.declarations(), "", *self.lines])

    def few_function(self, name: str) -> str | None:
        """Write the function that reads B but once, if the kernel has one; its name."""
        ways = {"stream": self.stream, "columns": self.columns, "pairs": self.pairs}
        way = next((way for way in ways if f"_{way}_" in name), None)
        if way is None:
            return None
        height = int(name.split("_")[2])
        ways[way](height)
        return f"@{way}_{height}"

    def tile_functions(self) -> None:
        self.tile(self.height)
        self.tile(self.shape.low)
        if not self.in_place:
            self.row()
        self.write()

    def declarations(self) -> list[str]:
        v, m, s = self.vector, self.mask, self.suffix
        found = [
            f'target triple = "{self.target.triple}"',
            f"@minus_zeros = private constant {v} splat ({self.scalar} -0.0), align 64",
            f"declare {v} @llvm.fma.{s}({v}, {v}, {v})",
            "declare i64 @llvm.smin.i64(i64, i64)",
            "declare i64 @llvm.smax.i64(i64, i64)",
            "declare i64 @llvm.abs.i64(i64, i1)",
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
            "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
            "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
        ]
        if self.target.has_masked_memory:
            found += [
                f"declare {v} @llvm.masked.load.{s}.p0(ptr, i32, {m}, {v})",
                f"declare void @llvm.masked.store.{s}.p0({v}, ptr, i32, {m})",
                f"declare {v} @llvm.experimental.vector.compress.{s}({v}, {m}, {v})",
            ]
        return found

    def kernel(self, name: str, few: str | None, windows: str | None) -> None:
        """Cut a range of units into stretches, and multiply each; ``few``: the function that does it all at once."""
        with self.function(f"void @{name}(ptr %arguments, i64 %begin, i64 %end, i64 %worker)"):
            operands = self.operands(windows)
            with self.loop("%begin", "%end", 1) as units:
                stretch = self.stretch(operands, units, STREAMED_BLOCKS if few else 1)
                with self.when(self.compare("eq", operands.k, 0)), self.loop("0", stretch.rows, 1) as rows:
                    target = self.offset(stretch.c, self.mul(rows.index, operands.slot["c_row_stride"]))
                    row_bytes = self.mul(stretch.columns, self.element_bytes)
                    self.do(f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {row_bytes}, i1 false)")
                if few:
                    with self.when(self.compare("ne", operands.k, 0)):
                        self.few(few, operands, stretch)
                else:
                    self.blocks(operands, stretch)

    def operands(self, windows: str | None) -> Operands:
        """Take the arguments.  A product with a single column is computed as its transpose, B'A', which lies in memory
        alike."""
        slot = {}
        for i, label in enumerate(SLOTS):
            if label in TABLES and windows is None:
                continue
            kind = "ptr" if label in ("a", "b", "c", "addend", "scratch", *TABLES) else "i64"
            slot[label] = self.let(label, f"load {kind}, ptr {self.offset('%arguments', 8 * i)}, align 8")
        for label in SLOTS:
            if label.endswith("stride"):
                slot[label] = self.mul(slot[label], self.element_bytes, label)
        swap = "false" if windows else self.compare("eq", slot["n"], 1)
        labels = "m", "n", "a_row_stride", "a_column_stride", "b_row_stride", "b_column_stride"
        swapped = "n", "m", "b_column_stride", "b_row_stride", "a_column_stride", "a_row_stride"
        m, n, a_row, a_k, b_k, b_column = (
            self.select(swap, "i64", slot[y], slot[x]) for x, y in zip(labels, swapped, strict=True)
        )
        return Operands(slot, swap, windows, m, n, slot["k"], a_row, a_k, b_k, b_column)

    def stretch(self, operands: Operands, units: Loop, most_blocks: int) -> Stretch:
        """The next units that are computed together: tiles of rows that share a panel of B or, where there are few
        rows, some blocks of columns."""
        shape, slot = self.shape, operands.slot
        height = slot["unit_rows"]
        tiles = self.ceil_div(operands.m, height)
        low, width = self.compare("sle", operands.m, shape.few), slot["block_columns"]
        blocks = self.max(self.ceil_div(operands.n, width), 1)

        tile = self.let("tile", f"urem i64 {units.index}, {tiles}")
        outer = self.let("outer", f"udiv i64 {units.index}, {tiles}")
        block = self.let("block", f"urem i64 {outer}, {blocks}")
        batch = self.let("batch", f"udiv i64 {outer}, {blocks}")
        left = self.sub("%end", units.index)
        high = self.min(self.min(self.sub(tiles, tile), left), self.most_tiles)
        wide = self.min(self.min(self.sub(blocks, block), left), most_blocks)
        units.step = self.select(low, "i64", wide, high)
        first_row, first_column = self.mul(tile, height), self.mul(block, width)
        rows = self.min(self.mul(high, height), self.sub(operands.m, first_row))
        columns = self.mul(width, self.select(low, "i64", wide, 1))
        columns = self.min(columns, self.sub(operands.n, first_column))

        stack = self.let("stack", f"udiv i64 {batch}, {slot['inner']}")
        within = self.sub(batch, self.mul(stack, slot["inner"]))
        start = {
            label: self.offset(
                self.offset(slot[label], self.mul(stack, slot[f"{label}_stack_stride"])),
                self.mul(within, slot[f"{label}_batch_stride"]),
            )
            for label in ("a", "b", "c", "addend")
        }
        a = self.select(operands.swap, "ptr", start["b"], start["a"])
        b = self.select(operands.swap, "ptr", start["a"], start["b"])
        if operands.windows != "lhs":
            a = self.offset(a, self.mul(first_row, operands.a_row))
        if operands.windows != "rhs":
            b = self.offset(b, self.mul(first_column, operands.b_column))
        places = ""
        if operands.windows:
            places = self.entry(slot["places"], first_row if operands.windows == "lhs" else first_column)
            if self.in_place == "rhs":
                vector = self.let("vector", f"udiv i64 {first_column}, {self.lanes}")
                places, first_column = self.vector_entry(slot["places"], vector), "0"
        c, addend = (
            self.offset(
                self.offset(start[label], self.mul(first_row, slot[f"{label}_row_stride"])),
                self.mul(first_column, slot[f"{label}_column_stride"]),
            )
            for label in ("c", "addend")
        )
        panel = self.offset(slot["scratch"], self.mul("%worker", slot["scratch_bytes_per_worker"]))
        return Stretch(rows, columns, a, b, c, addend, places, panel)

    def added(self, operands: Operands, stretch: Stretch, accumulate: str, is_last: str) -> Into:
        """Where sums go and what is added to them: what is there already, and the addend."""
        slot = operands.slot
        given = self.compare("ne", self.let("int", f"ptrtoint ptr {slot['addend']} to i64"), 0)
        into: Into = [(stretch.c, slot["c_row_stride"])]
        addend_vector = self.mul(slot["addend_column_stride"], self.lanes)
        for label, condition, pointer, vector in (
            ("c", accumulate, stretch.c, str(self.vector_bytes)),
            ("addend", self.both(is_last, given), stretch.addend, addend_vector),
        ):
            into.append(
                (
                    self.select(condition, "ptr", pointer, "@minus_zeros"),
                    self.select(condition, "i64", slot[f"{label}_row_stride"], 0),
                    self.select(condition, "i64", vector, 0),
                )
            )
        return into

    def few(self, function: str, operands: Operands, stretch: Stretch) -> None:
        """Multiply a few rows of A by rows of B or by columns, whatever is contiguous."""
        into = self.added(operands, stretch, "false", "true")
        panel = f"ptr {stretch.b}, i64 {operands.b_k}, i64 {operands.b_column}"
        a = stretch.a, operands.a_row, operands.a_k
        ahead = f"ptr {stretch.panel}, i64 {operands.slot['c_column_stride']}, i64 0"
        self.multiply(function, a, panel, operands.k, stretch.columns, stretch.rows, into, ahead)

    def blocks(self, operands: Operands, stretch: Stretch) -> None:
        """Multiply tiles of rows by panels of B, one block of k after the other."""
        k, windows = operands.k, operands.windows
        packed = "false" if windows == "rhs" else self.is_packed(operands, stretch)
        with self.loop("0", k, DEPTH) as ks:
            depth = self.min(self.sub(k, ks.index), DEPTH)
            depths = self.entry(operands.slot["depths"], ks.index) if windows else ""
            if windows:
                image, count = (stretch.a, stretch.rows) if windows == "lhs" else (stretch.b, stretch.columns)
                self.do(
                    f"call void @fetch_windows(ptr {image}, ptr {stretch.places}, i64 {count}, ptr {depths}, "
                    f"i64 {depth})"
                )
            if windows == "rhs" and self.in_place:
                b, b_k, b_strip = stretch.b, *map(self.as_stride, (depths, stretch.places))
            elif windows == "rhs":
                self.do(
                    f"call void @pack_windows(ptr {stretch.b}, ptr {stretch.places}, ptr {depths}, i64 {depth}, "
                    f"i64 {stretch.columns}, ptr {stretch.panel})"
                )
                b, b_k, b_strip = stretch.panel, str(self.strip_bytes), self.mul(depth, self.strip_bytes)
            else:
                b = self.offset(stretch.b, self.mul(ks.index, operands.b_k))
                with self.when(packed):
                    self.do(
                        f"call void @pack_b(ptr {b}, i64 {operands.b_k}, i64 {operands.b_column}, i64 {depth}, "
                        f"i64 {stretch.columns}, ptr {stretch.panel})"
                    )
                b = self.select(packed, "ptr", stretch.panel, b)
                b_k = self.select(packed, "i64", self.strip_bytes, operands.b_k)
                b_strip = self.select(packed, "i64", self.mul(depth, self.strip_bytes), self.strip_bytes)
            is_last = self.compare("sle", self.sub(k, ks.index), DEPTH)
            into = self.added(operands, stretch, self.compare("ne", ks.index, 0), is_last)
            if windows == "lhs":
                rows = self.rows_through_windows(stretch, depths)
            else:
                rows = self.rows_by_strides(operands, self.offset(stretch.a, self.mul(ks.index, operands.a_k)))
            self.tiles(stretch, rows, f"ptr {b}, i64 {b_k}, i64 {b_strip}", depth, into)

    def is_packed(self, operands: Operands, stretch: Stretch) -> str:
        """Whether to copy a panel of B."""
        shape = self.shape
        packed = self.negate(self.compare("eq", operands.b_column, self.size))
        if not self.target.has_masked_memory:
            edge = self.let("edge", f"and i64 {stretch.columns}, {shape.strip - 1}")
            packed = self.let("or", f"or i1 {packed}, {self.compare('ne', edge, 0)}")
        distance = self.let("abs", f"call i64 @llvm.abs.i64(i64 {operands.b_k}, i1 false)")
        size = self.mul(distance, operands.k)
        address = self.let("address", f"ptrtoint ptr {stretch.b} to i64")
        either = self.let("either", f"or i64 {address}, {operands.b_k}")
        skew = self.let("skew", f"and i64 {either}, {self.vector_bytes - 1}")
        is_far = self.compare("sge", distance, FAR_STEP)
        for tiles, bytes, reason in (
            (FAR_TILES, FAR_BYTES, is_far),
            (HUGE_TILES, HUGE_BYTES, is_far),
            (SKEW_TILES, SKEW_BYTES, self.compare("ne", skew, 0)),
        ):
            worthwhile = self.both(self.compare("sgt", size, bytes), reason)
            is_reused = self.compare("sge", stretch.rows, tiles * shape.height)
            packed = self.let("or", f"or i1 {packed}, {self.both(worthwhile, is_reused)}")
        return packed

    def both(self, x: str, y: str) -> str:
        return self.let("both", f"and i1 {x}, {y}")

    def tiles(
        self, stretch: Stretch, rows_of_a: RowsOfA, panel: str, depth: str, into: Into,
        then: Callable[[str, str], None] | None = None,
    ) -> None:  # fmt: skip
        """Cut some rows into tiles, as high as possible, and multiply each by a panel of B; ``then`` is told which it
        was."""
        with self.loop("0", stretch.rows, 1) as tiles:
            left = self.sub(stretch.rows, tiles.index)
            fits, single = self.compare("sge", left, self.height), self.compare("eq", left, 1)
            height = self.select(fits, "i64", self.height, self.min(left, self.shape.low))
            function = self.select(fits, "ptr", f"@tile_{self.height}", f"@tile_{self.shape.low}")
            if not self.in_place:
                function = self.select(single, "ptr", "@tile_1", function)
            a, ahead = rows_of_a(tiles.index, height)
            here = [(self.offset(p, self.mul(tiles.index, step)), step, *rest) for p, step, *rest in into]
            self.multiply(function, a, panel, depth, stretch.columns, height, here, ahead)
            if then is not None:
                then(tiles.index, height)
            tiles.step = height

    def rows_by_strides(self, operands: Operands, start: str) -> RowsOfA:
        """The rows as they lie.  The next tile's part of A is asked for while the strips of this one go by: with each
        of them some of it."""
        a_row, a_k = operands.a_row, operands.a_k
        along_k = self.compare("eq", a_k, self.element_bytes)
        step = self.select(along_k, "i64", a_row, a_k)
        strip = self.select(along_k, "i64", LINE_BYTES, self.mul(a_k, self.shape.height))

        def rows(first: str, height: str) -> tuple[tuple[str, str, str], str]:
            source = self.offset(start, self.mul(first, a_row))
            return (source, a_row, a_k), f"ptr {self.offset(source, self.mul(height, a_row))}, i64 {step}, i64 {strip}"

        return rows

    def rows_through_windows(self, stretch: Stretch, depths: str) -> RowsOfA:
        """The rows are places of windows."""

        def rows(first: str, height: str) -> tuple[tuple[str, str, str], str]:
            places = self.as_stride(self.entry(stretch.places, first))
            return (stretch.a, places, self.as_stride(depths)), f"ptr {stretch.a}, i64 0, i64 0"

        return rows

    def as_stride(self, table: str) -> str:
        """A table in the place of a stride."""
        return self.let("table", f"ptrtoint ptr {table} to i64")

    def multiply(
        self, function: str, a: tuple[str, str, str], panel: str, depth: str, columns: str, rows: str,
        into: list[tuple[str, ...]], ahead: str,
    ) -> None:  # fmt: skip
        """Have a tile function multiply some rows of A by a panel of B."""
        (start, a_row, a_k), ((c, c_row), *sources) = a, into
        added = ", ".join(f"ptr {pointer}, i64 {step}, i64 {vector}" for pointer, step, vector in sources)
        self.do(
            f"call void {function}(ptr {start}, i64 {a_row}, i64 {a_k}, {panel}, i64 {depth}, ptr {c}, i64 {c_row}, "
            f"i64 {columns}, i64 {rows}, {added}, {ahead})"
        )
