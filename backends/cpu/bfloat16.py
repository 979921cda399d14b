"""Matrix products of bfloat16, with the instruction that multiplies pairs and adds them to float32 (AVX512-BF16).

A pair of neighbours along k takes the place of a float32, so that the tiles are those of :mod:`.contraction`: strips of
B hold pairs, and of A pairs are read in place where k is contiguous and even.  The sums of the blocks of k are added up
in float32, in scratch memory, and rounded to bfloat16 when the last one is done.  Where there are few rows of A, whose
pairs lie as they are wanted, B is read but once: columns as if they were of float32, rows two by two, interleaved in
registers.

**Order of summation.**  For each block of ``2 * DEPTH`` consecutive k, one chain of sums from +0.0: for each pair
``sum = fma(a[i, k + 1], b[k + 1, j], sum)`` and then ``sum = fma(a[i, k], b[k, j], sum)``, the pairs in increasing k,
and an odd last k with zeros; and the blocks' sums are added in increasing order.  The processor takes subnormal numbers
for zeros here, and rounds what would be one to zero.  Other processors convert the operands, as NumPy does.
"""

from __future__ import annotations

from tracejit.ir.types import float32

from .contraction import MOST_TILES, ContractionWriter, Operands, RowsOfA, Stretch
from .target import Target
from .tiles import Corner
from .vectors import ALIGNMENT, DEPTH

NUMBER_BYTES = 2


class Bfloat16Writer(ContractionWriter):
    """Writes the kernel for one processor.  Its vectors are those of pairs and of sums."""

    most_tiles = MOST_TILES
    filler = "@minus_zero_pairs"

    def __init__(self, target: Target) -> None:
        super().__init__(float32, target)
        self.numbers = f"<{2 * self.lanes} x bfloat>"

    @property
    def element_bytes(self) -> int:
        return NUMBER_BYTES

    def module(self, name: str) -> str:
        few = self.few_function(name)
        if few is None:
            self.tile_functions()
            self.pack_pairs()
            self.shuffle_functions()
            self.copy_pairs()
        self.narrow()
        self.kernel(name, few, windows=None)
        return "\n".join([*self.declarations(), "", *self.lines])

    def declarations(self) -> list[str]:
        v, lanes, numbers = self.vector, self.lanes, self.numbers
        return [
            *super().declarations(),
            f"@minus_zero_pairs = private constant <{2 * lanes} x bfloat> splat (bfloat -0.0), align {ALIGNMENT}",
            f"declare {v} @llvm.x86.avx512bf16.dpbf16ps.512({v}, {numbers}, {numbers})",
            f"declare <{lanes} x i16> @llvm.masked.load.v{lanes}i16.p0(ptr, i32, {self.mask}, <{lanes} x i16>)",
            f"declare void @llvm.masked.store.v{lanes}bf16.p0(<{lanes} x bfloat>, ptr, i32, {self.mask})",
        ]

    def fma(self, x: str, y: str, total: str) -> str:
        x, y = (self.let("pairs", f"bitcast {self.vector} {v} to {self.numbers}") for v in (x, y))
        operands = f"{self.vector} {total}, {self.numbers} {y}, {self.numbers} {x}"
        return self.let("fma", f"call {self.vector} @llvm.x86.avx512bf16.dpbf16ps.512({operands})")

    def few(self, function: str, operands: Operands, stretch: Stretch) -> None:
        """Multiply a few rows of A, read in pairs as they lie, by pairs of rows of B or by pairs in columns."""
        into = self.added(operands, stretch, "false", "true")
        panel = f"ptr {stretch.b}, i64 {self.mul(operands.b_k, 2)}, i64 {operands.b_column}"
        a = stretch.a, operands.a_row, str(self.size)
        ahead = f"ptr {stretch.panel}, i64 {NUMBER_BYTES}, i64 0"
        depth = self.let("pairs", f"lshr i64 {operands.k}, 1")
        self.multiply(function, a, panel, depth, stretch.columns, stretch.rows, into, ahead)

    def row_vector(self, row: str, column: str, mask: str | None, coming: str) -> str:
        upper, step = self.offset(row, self.mul(column, NUMBER_BYTES)), self.let("step", "ashr exact i64 %b_k, 1")
        lower = self.offset(upper, step)
        if coming:
            self.prefetch(self.offset(upper, coming), 2, step)
        return self.pair_up(*(self.vector_of_numbers(pointer, mask) for pointer in (upper, lower)))

    def write_few(self, sums: str, columns: str, corner: Corner, rows: str) -> None:
        self.narrow_into(sums, str(self.vector_bytes), corner.c, "%c_row", rows, columns)

    def narrow_into(self, sums: str, sums_row: str, c: str, c_row: str, rows: str, columns: str) -> None:
        self.do(f"call void @narrow(ptr {sums}, i64 {sums_row}, ptr {c}, i64 {c_row}, i64 {rows}, i64 {columns})")

    def blocks(self, operands: Operands, stretch: Stretch) -> None:
        shape, k, c_row = self.shape, operands.k, operands.slot["c_row_stride"]
        sums, sums_row = self.offset(stretch.panel, shape.tile_bytes), str(shape.sums_row_bytes)
        high = self.min(self.ceil_div(operands.m, shape.height), MOST_TILES)
        panel = self.offset(sums, self.mul(high, shape.height * shape.sums_row_bytes))
        with self.loop("0", k, 2 * DEPTH) as ks:
            depth = self.min(self.sub(k, ks.index), 2 * DEPTH)
            pairs = self.ceil_div(depth, 2)
            b = self.offset(stretch.b, self.mul(ks.index, operands.b_k))
            self.do(
                f"call void @pack_pairs(ptr {b}, i64 {operands.b_k}, i64 {operands.b_column}, i64 {depth}, "
                f"i64 {pairs}, i64 {stretch.columns}, ptr {panel})"
            )
            follows = self.compare("ne", ks.index, 0)
            old = (
                self.select(follows, "ptr", sums, "@minus_zeros"), self.select(follows, "i64", sums_row, 0),
                self.select(follows, "i64", self.vector_bytes, 0),
            )  # fmt: skip
            is_last = self.compare("sle", self.sub(k, ks.index), 2 * DEPTH)

            def finish(first: str, height: str, is_last: str = is_last) -> None:
                with self.when(is_last):
                    source = self.offset(sums, self.mul(first, sums_row))
                    target = self.offset(stretch.c, self.mul(first, c_row))
                    self.narrow_into(source, sums_row, target, c_row, height, stretch.columns)

            rows = self.rows_in_pairs(
                operands, stretch, self.offset(stretch.a, self.mul(ks.index, operands.a_k)), depth
            )
            place = f"ptr {panel}, i64 {self.strip_bytes}, i64 {self.mul(pairs, self.strip_bytes)}"
            into = [(sums, sums_row), old, ("@minus_zeros", "0", "0")]
            self.tiles(stretch, rows, place, pairs, into, finish)

    def rows_in_pairs(self, operands: Operands, stretch: Stretch, start: str, depth: str) -> RowsOfA:
        """The rows as they lie, if that is in pairs, or else copies."""
        as_they_lie = self.rows_by_strides(operands, start)
        along_k = self.compare("eq", operands.a_k, NUMBER_BYTES)
        across = self.both(self.compare("eq", operands.a_row, NUMBER_BYTES), self.negate(along_k))
        even = self.compare("eq", self.let("odd", f"and i64 {depth}, 1"), 0)
        whole = self.both(along_k, even)
        row = self.select(
            whole, "i64", operands.a_row, self.select(across, "i64", self.size, self.shape.copied_row_bytes)
        )
        pair = self.select(across, "i64", self.shape.height * self.size, self.size)

        def rows(first: str, height: str) -> tuple[tuple[str, str, str], str]:
            (source, a_row, a_k), ahead = as_they_lie(first, height)
            with self.when(self.negate(whole)):
                self.do(
                    f"call void @copy_pairs(ptr {source}, i64 {a_row}, i64 {a_k}, i64 {height}, i64 {depth}, "
                    f"i1 {across}, ptr {stretch.panel})"
                )
            return (self.select(whole, "ptr", source, stretch.panel), row, pair), ahead

        return rows

    # Copies

    def numbers_at(self, pointer: str, count: str) -> str:
        """Some numbers, a vector of sums' worth at the most, and zeros."""
        return self.vector_of_numbers(pointer, self.first_lanes(count))

    def vector_of_numbers(self, pointer: str, mask: str | None) -> str:
        kind = f"<{self.lanes} x i16>"
        if mask is None:
            return self.let("numbers", f"load {kind}, ptr {pointer}, align {NUMBER_BYTES}")
        arguments = f"ptr {pointer}, i32 {NUMBER_BYTES}, {self.mask} {mask}, {kind} zeroinitializer"
        return self.let("numbers", f"call {kind} @llvm.masked.load.v{self.lanes}i16.p0({arguments})")

    def pair_up(self, first: str, second: str) -> str:
        """The pairs that two vectors of numbers make."""
        narrow, order = f"<{self.lanes} x i16>", ", ".join(f"i32 {i}, i32 {i + self.lanes}" for i in range(self.lanes))
        operands = f"{narrow} {first}, {narrow} {second}, <{2 * self.lanes} x i32> <{order}>"
        both = self.let("both", f"shufflevector {operands}")
        return self.let("pairs", f"bitcast <{2 * self.lanes} x i16> {both} to {self.vector}")

    def copy_number(self, source: str, target: str) -> None:
        number = self.let("number", f"load i16, ptr {source}, align 2")
        self.do(f"store i16 {number}, ptr {target}, align 2")

    def pack_pairs(self) -> None:
        """Copy a panel of B so that each strip is contiguous, pair after pair of rows."""
        parameters = "ptr %b, i64 %b_k, i64 %b_column, i64 %numbers, i64 %depth, i64 %columns, ptr %panel"
        with self.function(f"internal void @pack_pairs({parameters})", hot=True):
            even = self.compare("eq", self.let("odd", "and i64 %numbers, 1"), 0)
            by_row = self.compare("eq", "%b_column", NUMBER_BYTES)
            by_column = self.both(even, self.compare("eq", "%b_k", NUMBER_BYTES))
            with self.choose(by_row, by_column) as case:
                case("row by row")
                self.pack_rows_of_pairs()
                case("column by column")  # its pairs lie as they are wanted
                buffers = [self.buffer(self.lanes), self.buffer(self.lanes)]
                with self.panel_vectors() as (source, target, left):
                    self.pack_transposed(source, target, left, buffers)
                case("one by one")
                with self.panel_vectors() as (source, target, left), self.loop("0", "%depth", 1) as ks:
                    to = self.offset(target, self.mul(ks.index, self.strip_bytes))
                    self.store("zeroinitializer", to)
                    first = self.mul(ks.index, 2)
                    with self.loop(first, self.min(self.add(first, 2), "%numbers"), 1) as numbers:
                        row = self.offset(source, self.mul(numbers.index, "%b_k"))
                        at = self.offset(to, self.mul(self.sub(numbers.index, first), NUMBER_BYTES))
                        with self.loop("0", self.min(left, self.lanes), 1) as js:
                            element = self.offset(row, self.mul(js.index, "%b_column"))
                            self.copy_number(element, self.offset(at, self.mul(js.index, self.size)))

    def pack_rows_of_pairs(self) -> None:
        strip_bytes = self.mul("%depth", self.strip_bytes)
        with self.loop("0", "%depth", 1) as ks:
            first = self.mul(ks.index, 2)
            row = self.offset("%b", self.mul(first, "%b_k"))
            follows = self.compare("slt", self.add(first, 1), "%numbers")
            step = self.select(follows, "i64", "%b_k", 0)
            to = self.offset("%panel", self.mul(ks.index, self.strip_bytes))
            with self.loop("0", "%columns", self.lanes) as vectors:
                source = self.offset(row, self.mul(vectors.index, NUMBER_BYTES))
                left = self.sub("%columns", vectors.index)
                upper = self.numbers_at(source, left)
                lower = self.numbers_at(self.offset(source, step), self.select(follows, "i64", left, 0))
                self.store(self.pair_up(upper, lower), self.in_panel(to, vectors.index, strip_bytes))

    def copy_pairs(self) -> None:
        """Copy a tile's rows of A: where these are neighbours, pair after pair of columns, otherwise row after row."""
        height, size = self.shape.height, self.size
        parameters = "ptr %a, i64 %a_row, i64 %a_k, i64 %rows, i64 %numbers, i1 %across, ptr %copy"
        with self.function(f"internal void @copy_pairs({parameters})", hot=True):
            with self.when("%across"), self.loop("0", "%numbers", 2, [("ptr", "%copy")]) as ks:
                source = self.offset("%a", self.mul(ks.index, "%a_k"))
                follows = self.compare("slt", self.add(ks.index, 1), "%numbers")
                step = self.select(follows, "i64", "%a_k", 0)
                first = self.numbers_at(source, "%rows")
                second = self.numbers_at(self.offset(source, step), self.select(follows, "i64", "%rows", 0))
                self.store(self.pair_up(first, second), ks.carried[0])  # the next ones overwrite what is too much
                ks.next = [self.offset(ks.carried[0], height * size)]
            start = [("ptr", "%a"), ("ptr", "%copy")]
            with self.when(self.negate("%across")), self.loop("0", "%rows", 1, start) as rows:
                source, target = rows.carried
                with self.loop("0", "%numbers", 1, [("ptr", source)]) as ks:
                    self.copy_number(ks.carried[0], self.offset(target, self.mul(ks.index, NUMBER_BYTES)))
                    ks.next = [self.offset(ks.carried[0], "%a_k")]
                end = self.offset(target, self.mul("%numbers", NUMBER_BYTES))
                self.do(f"store i16 0, ptr {end}, align 2")  # the pair of an odd last number
                rows.next = [self.offset(source, "%a_row"), self.offset(target, self.shape.copied_row_bytes)]

    def narrow(self) -> None:
        """Round a tile's sums to C."""
        numbers = f"<{self.lanes} x bfloat>"
        parameters = "ptr %sums, i64 %sums_row, ptr %c, i64 %c_row, i64 %rows, i64 %columns"
        start = [("ptr", "%sums"), ("ptr", "%c")]
        with (
            self.function(f"internal void @narrow({parameters})", hot=True),
            self.loop("0", "%rows", 1, start) as rows,
        ):
            source, target = rows.carried
            with self.loop("0", "%columns", self.lanes) as vectors:
                total = self.load(self.offset(source, self.mul(vectors.index, self.size)))
                rounded = self.let("rounded", f"fptrunc {self.vector} {total} to {numbers}")
                mask = self.first_lanes(self.sub("%columns", vectors.index))
                to = self.offset(target, self.mul(vectors.index, NUMBER_BYTES))
                self.do(
                    f"call void @llvm.masked.store.v{self.lanes}bf16.p0({numbers} {rounded}, ptr {to}, "
                    f"i32 {NUMBER_BYTES}, {self.mask} {mask})"
                )
            rows.next = [self.offset(source, "%sums_row"), self.offset(target, "%c_row")]
