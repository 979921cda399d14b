"""Matrix products with few rows of A, where B is read once and not copied, see :mod:`.contraction`.

Rows of B that are contiguous come in a stream, columns by the vector, and fewer columns than a vector has lanes one by
one.  Here ``%ahead`` is scratch memory, and ``%ahead_step`` the distance of the columns of C.
"""

from __future__ import annotations

from .tiles import TILE_PARAMETERS, Corner, TileWriter
from .vectors import DEPTH, PART_BYTES

STREAMED_ROWS = 4  # rows of B at a time, where there is a single row of A
STREAMED_BLOCKS = 16  # and blocks of columns: memory is read best in long stretches
COLUMNS_ABREAST = 4  # columns of B at a time, where there are some blocks of them side by side
PREFETCHED_BYTES = 512  # how far ahead columns of B are asked for: more streams than the processor foresees by itself


class FewRowsWriter(TileWriter):
    """Writes the functions that multiply a few rows of A by all of some columns of B."""

    filler = "@minus_zeros"  # of rows of A, where B has zeros

    def write_few(self, sums: str, columns: str, corner: Corner, rows: str) -> None:
        """Bring the sums of some rows, a vector apart, into C."""
        near = self.compare("eq", "%ahead_step", self.size)
        with self.when(near):
            self.write_tile(sums, 1, corner, columns, rows)
        with self.when(self.negate(near)):
            self.do(
                f"call void @write_apart(ptr {sums}, i64 {rows}, i64 {columns}, ptr {corner.c}, i64 %c_row, "
                f"i64 %ahead_step, ptr {corner.addend}, i64 %addend_row, i64 %addend_vector)"
            )

    def write_apart(self) -> None:
        """C = sums and the addend, element by element."""
        parameters = (
            "ptr %sums, i64 %rows, i64 %columns, ptr %c, i64 %c_row, i64 %c_column, "
            "ptr %addend, i64 %addend_row, i64 %addend_vector"
        )
        with self.function(f"internal void @write_apart({parameters})", hot=True):
            addend_column = self.let("column", f"sdiv i64 %addend_vector, {self.lanes}")
            start = [("ptr", "%sums"), ("ptr", "%c"), ("ptr", "%addend")]
            with self.loop("0", "%columns", 1, start) as columns:
                with self.loop("0", "%rows", 1, [("ptr", p) for p in columns.carried], runs_once=True) as rows:
                    new, c, addend = rows.carried
                    total = self.let("total", f"fadd {self.scalar} {self.load_scalar(new)}, {self.load_scalar(addend)}")
                    self.do(f"store {self.scalar} {total}, ptr {c}, align {self.size}")
                    steps = str(self.vector_bytes), "%c_row", "%addend_row"
                    rows.next = [self.offset(p, step) for p, step in zip(rows.carried, steps, strict=True)]
                steps = str(self.size), "%c_column", addend_column
                columns.next = [self.offset(p, step) for p, step in zip(columns.carried, steps, strict=True)]

    def stream(self, height: int) -> None:
        """Multiply a few rows of A by rows of B that are contiguous: a few of them at a time, along all columns, so
        that memory is read as it lies.  The sums stay in the first-level cache."""
        width = self.shape.stream_block * STREAMED_BLOCKS
        with self.function(f"internal void @stream_{height}({TILE_PARAMETERS})", hot=True):
            rows = self.few_rows(height)
            sums, totals = ([self.buffer(width // self.lanes) for _ in rows] for _ in range(2))
            whole = self.let("whole", f"and i64 %columns, {-self.lanes}")
            masked = self.target.has_masked_memory  # else only whole vectors come here
            mask = self.freeze(self.mask, self.first_lanes(self.sub("%columns", whole))) if masked else None
            with self.loop("0", "%columns", self.lanes) as vectors:
                for total in totals:
                    at = self.offset(total, self.mul(vectors.index, self.size))
                    self.store(self.load("@minus_zeros"), at, aligned=True)
            with self.loop("0", "%depth", DEPTH) as blocks:
                with self.loop("0", "%columns", self.lanes) as vectors:
                    for chain in sums:
                        at = self.offset(chain, self.mul(vectors.index, self.size))
                        self.store("zeroinitializer", at, aligned=True)
                end = self.min(self.add(blocks.index, DEPTH), "%depth")
                self.stream_rows(rows, sums, blocks.index, end, whole, mask)
                with self.loop("0", "%columns", self.lanes) as vectors:
                    for chain, total in zip(sums, totals, strict=True):
                        byte = self.mul(vectors.index, self.size)
                        new, at = self.load(self.offset(chain, byte)), self.offset(total, byte)
                        self.store(self.let("total", f"fadd {self.vector} {self.load(at)}, {new}"), at, aligned=True)
            for number, total in enumerate(totals):
                with self.when(self.compare("sgt", "%rows", number)):
                    corner = Corner(
                        self.offset("%c", self.mul("%c_row", number)),
                        addend=self.offset("%addend", self.mul("%addend_row", number)),
                    )
                    self.write_few(total, "%columns", corner, "1")

    def few_rows(self, height: int) -> list[str]:
        """The rows of A and, where some are lacking, the last of them again."""
        last = self.sub("%rows", "1")
        return [self.offset("%a", self.mul("%a_row", self.min(last, number))) for number in range(height)]

    def stream_rows(
        self, a_rows: list[str], sums: list[str], first: str, last: str, whole: str, mask: str | None
    ) -> None:
        """Multiply some elements of the rows of A by as many rows of B."""
        count = self.let("count", f"and i64 {self.sub(last, first)}, {-STREAMED_ROWS}")
        middle = self.add(first, count)
        for height, begin, end in ((STREAMED_ROWS, first, middle), (1, middle, last)):
            with self.loop(begin, end, height) as ks:
                rows = [self.offset("%b", self.mul(ks.index, "%b_k"))]
                for _ in range(1, height):
                    rows.append(self.offset(rows[-1], "%b_k"))
                # No more rows of A than fit into registers: the next ones find these rows of B in the cache, and
                # while there is no waiting for these, those that come are asked for.
                for part in range(0, len(a_rows), self.shape.low):
                    chains = sums[part : part + self.shape.low]
                    factors: list[list[str]] = []
                    for start in a_rows[part : part + self.shape.low]:
                        element, of_row = self.offset(start, self.mul(ks.index, "%a_k")), []
                        for number in range(height):
                            element = self.offset(element, "%a_k") if number else element
                            of_row.append(self.broadcast(self.scalar, self.load_scalar(element)))
                        factors.append(of_row)
                    coming = self.mul("%b_k", height) if part else ""
                    with self.loop("0", whole, self.lanes) as vectors:
                        self.stream_vector(chains, factors, rows, vectors.index, None, coming)
                    if mask:
                        with self.when(self.compare("slt", whole, "%columns")):
                            self.stream_vector(chains, factors, rows, whole, mask)

    def stream_vector(
        self, sums: list[str], factors: list[list[str]], rows: list[str], column: str, mask: str | None,
        coming: str = "",
    ) -> None:  # fmt: skip
        byte = self.mul(column, self.size)
        vectors = [self.row_vector(row, column, mask, coming) for row in rows]
        for chain, of_row in zip(sums, factors, strict=True):
            at = self.offset(chain, byte)
            total = self.load(at)
            for x, y in zip(of_row, vectors, strict=True):
                total = self.fma(x, y, total)
            self.store(total, at, aligned=True)

    def row_vector(self, row: str, column: str, mask: str | None, coming: str) -> str:
        """Some columns of a row of B, or of a pair of rows; what is ``coming``, so many bytes ahead, is asked for."""
        start = self.offset(row, self.mul(column, self.size))
        if coming:
            self.prefetch(self.offset(start, coming), 1, "")
        return self.load(start, mask)

    def columns(self, height: int) -> None:
        """Multiply a few rows of A by columns of B that are contiguous, a vector of columns after the other.

        ``%b_strip`` is the distance of the columns, ``%ahead`` scratch memory.  There are at least as many columns as
        lanes; the last ones are computed with those before them.
        """
        with self.function(f"internal void @columns_{height}({TILE_PARAMETERS})", hot=True):
            rows = self.few_rows(height)
            square, rest = self.buffer(self.lanes), [self.buffer(1) for _ in rows]
            buffer = self.buffer(height + 1)  # one more, for whole vectors are read at any place in the rows
            stretched = self.let("stretched", f"and i64 %depth, {-self.stretch_depth}")
            self.copy_stretches(rows, stretched)
            last = self.sub("%columns", str(self.lanes))
            with self.loop("0", "%columns", self.lanes) as groups:
                column = self.min(groups.index, last)
                start = self.offset("%b", self.mul("%b_strip", column))
                self.stretches(height, start, stretched, buffer)
                totals = [(self.vector, self.load(self.offset(buffer, i * self.vector_bytes))) for i in range(height)]
                with self.loop(stretched, "%depth", DEPTH, totals) as blocks:
                    depth = self.min(self.sub("%depth", blocks.index), DEPTH)
                    corner = self.offset(start, self.mul(blocks.index, self.size))
                    a = [self.offset(row, self.mul(blocks.index, "%a_k")) for row in rows]
                    sums = self.column_sums(corner, a, depth, square, rest)
                    blocks.next = [
                        self.let("total", f"fadd {self.vector} {total}, {new}")
                        for total, new in zip(blocks.carried, sums, strict=True)
                    ]
                for i, value in enumerate(blocks.carried):
                    self.store(value, self.offset(buffer, i * self.vector_bytes), aligned=True)
                # What the group before has written is left alone.
                known = self.mul(self.sub(groups.index, column), self.size)
                vectors = self.let("vectors", f"udiv i64 {groups.index}, {self.lanes}")
                into = Corner(
                    self.offset("%c", self.mul(groups.index, "%ahead_step")),
                    addend=self.offset("%addend", self.mul(vectors, "%addend_vector")),
                )
                left = self.min(self.sub("%columns", groups.index), self.lanes)
                self.write_few(self.offset(buffer, known), left, into, "%rows")

    # Some blocks of few columns side by side: the lanes are, for each of these columns, the blocks of a stretch.  So
    # memory is read in few places, each of them in long stretches.

    @property
    def abreast(self) -> int:
        return min(COLUMNS_ABREAST, self.lanes)

    @property
    def stretch_blocks(self) -> int:
        return self.lanes // self.abreast

    @property
    def stretch_depth(self) -> int:
        return self.stretch_blocks * DEPTH

    def copy_stretches(self, rows: list[str], depth: str) -> None:
        """Copy the elements of A, those side by side that blocks of a stretch need at a time."""
        count = self.stretch_blocks
        for number, row in enumerate(rows):
            to_row = self.offset("%ahead", self.mul(depth, number * self.size))
            with self.loop("0", depth, self.stretch_depth) as stretches, self.loop("0", str(DEPTH), 1) as ks:
                first = self.add(stretches.index, ks.index)
                element = self.offset(row, self.mul(first, "%a_k"))
                to = self.offset(to_row, self.mul(self.add(stretches.index, self.mul(ks.index, count)), self.size))
                for block in range(count):
                    at = self.offset(element, self.mul("%a_k", block * DEPTH)) if block else element
                    self.copy_scalar(at, self.offset(to, block * self.size))

    def stretches(self, height: int, start: str, depth: str, buffer: str) -> None:
        """Bring the sums of a vector of columns, as far as there are whole stretches, into the buffer."""
        few = f"<{self.abreast} x {self.scalar}>"
        count, step = self.stretch_blocks, self.mul("%b_strip", self.abreast)
        zeros = [(few, f"splat ({self.scalar} -0.0)")] * height
        with self.loop("0", str(self.lanes), self.abreast, [("ptr", start)]) as columns:
            (column,) = columns.carried
            columns.next = [self.offset(column, step)]
            with self.loop("0", depth, self.stretch_depth, zeros) as stretches:
                following = self.add(stretches.index, self.stretch_depth)
                here, there = (self.offset(column, self.mul(k, self.size)) for k in (stretches.index, following))
                there = self.select(self.compare("slt", following, depth), "ptr", there, columns.next[0])
                sums = self.stretch_sums(height, here, there, stretches.index, depth)
                for total, value in zip(stretches.carried, sums, strict=True):
                    for block in range(count):
                        order = ", ".join(f"i32 {lane}" for lane in range(block, self.lanes, count))
                        found = f"shufflevector {self.vector} {value}, {self.vector} poison"
                        part = self.let("part", f"{found}, <{self.abreast} x i32> <{order}>")
                        total = self.let("total", f"fadd {few} {total}, {part}")
                    stretches.next.append(total)
            for number, total in enumerate(stretches.carried):
                at = self.offset(buffer, self.add(self.mul(columns.index, self.size), number * self.vector_bytes))
                self.do(f"store {few} {total}, ptr {at}, align {self.size}")

    def stretch_sums(self, height: int, start: str, following: str, first: str, depth: str) -> list[str]:
        """The sums of the blocks of a stretch; what is ``following`` is asked for in the order of memory."""
        count = self.stretch_blocks
        columns, aheads = [start], [following]
        for _ in range(1, self.abreast):
            columns.append(self.offset(columns[-1], "%b_strip"))
            aheads.append(self.offset(aheads[-1], "%b_strip"))
        factors = self.offset("%ahead", self.mul(first, self.size))
        rows = [self.offset(factors, self.mul(depth, i * self.size)) for i in range(height)]
        few = f"<{count} x {self.scalar}>"
        order = ", ".join(f"i32 {lane % count}" for lane in range(self.lanes))
        zeros = [(self.vector, "zeroinitializer")] * height
        with self.loop("0", str(DEPTH), self.lanes, zeros) as ks:
            byte = self.mul(ks.index, self.size)
            for ahead in aheads:
                self.prefetch(self.offset(ahead, self.mul(byte, count)), count, str(self.vector_bytes))
            starts = [self.offset(column, byte) for column in columns]
            vectors = [self.load(self.offset(p, b * DEPTH * self.size)) for p in starts for b in range(count)]
            elements = self.elements(vectors)
            sums, at = [*ks.carried], self.mul(byte, count)
            for number, y in enumerate(elements):
                for i, row in enumerate(rows):
                    pointer = self.offset(self.offset(row, at), number * count * self.size)
                    x = self.let("x", f"load {few}, ptr {pointer}, align {self.size}")
                    x = self.let("all", f"shufflevector {few} {x}, {few} poison, <{self.lanes} x i32> <{order}>")
                    sums[i] = self.fma(x, y, sums[i])
            ks.next = sums
        return ks.carried

    def elements(self, vectors: list[str]) -> list[str]:
        """As many vectors as there are lanes, transposed: shuffled across, then within parts."""
        part = PART_BYTES // self.size
        across = [self.parts(vectors[number::part]) for number in range(part)]
        return [y for group in zip(*across, strict=True) for y in self.transposed([*group])]

    def pairs(self, height: int) -> None:
        """Multiply a few rows of A by fewer columns of B than there are lanes, all contiguous: one by one."""
        with self.function(f"internal void @pairs_{height}({TILE_PARAMETERS})", hot=True):
            # One vector more, for what is filled up may end anywhere.
            copies = [self.buffer(DEPTH + 1) for _ in range(2)]
            sums, totals = self.buffer(1), self.buffer(height)
            with self.loop("0", "%rows", 1) as rows, self.loop("0", "%columns", 1) as columns:
                row = self.offset("%a", self.mul(rows.index, "%a_row"))
                column = self.offset("%b", self.mul(columns.index, "%b_strip"))
                at = self.add(self.mul(rows.index, self.vector_bytes), self.mul(columns.index, self.size))
                total = self.pair(row, column, copies, sums)
                self.do(f"store {self.scalar} {total}, ptr {self.offset(totals, at)}, align {self.size}")
            self.write_few(totals, "%columns", Corner(), "%rows")

    def pair(self, row: str, column: str, copies: list[str], sums: str) -> str:
        """The product of a row and a column: as many blocks side by side as there are lanes."""
        depth = self.lanes * DEPTH
        with self.loop("0", "%depth", depth, [(self.scalar, "-0.0")]) as stretches:
            count = self.min(self.sub("%depth", stretches.index), depth)
            whole = self.compare("eq", count, depth)
            starts = [self.offset(p, self.mul(stretches.index, self.size)) for p in (row, column)]
            with self.when(self.negate(whole)):
                self.fill_up(starts, copies, count)
            pointers = [self.select(whole, "ptr", *pair) for pair in zip(starts, copies, strict=True)]
            with self.loop("0", self.min(count, DEPTH), self.lanes, [(self.vector, "zeroinitializer")]) as ks:
                here = [self.offset(p, self.mul(ks.index, self.size)) for p in pointers]
                blocks = range(0, depth * self.size, DEPTH * self.size)
                x, y = (self.elements([self.load(self.offset(p, byte)) for byte in blocks]) for p in here)
                (total,) = ks.carried
                for factors in zip(x, y, strict=True):
                    total = self.fma(*factors, total)
                ks.next = [total]
            self.store(ks.carried[0], sums, aligned=True)
            with self.loop("0", self.ceil_div(count, DEPTH), 1, [(self.scalar, stretches.carried[0])]) as filled:
                new = self.load_scalar(self.offset(sums, self.mul(filled.index, self.size)))
                filled.next = [self.let("total", f"fadd {self.scalar} {filled.carried[0]}, {new}")]
            stretches.next = filled.carried
        return stretches.carried[0]

    def fill_up(self, starts: list[str], copies: list[str], count: str) -> None:
        """Copy what is no whole stretch, and fill up its last block: with what changes no sum, see ``copy_piece``."""
        end = self.mul(self.ceil_div(count, DEPTH), DEPTH)
        for start, copy, filler in zip(starts, copies, ("@minus_zeros", ""), strict=True):
            self.do(
                f"call void @llvm.memcpy.p0.p0.i64(ptr {copy}, ptr {start}, i64 {self.mul(count, self.size)}, i1 false)"
            )
            with self.loop(count, end, self.lanes) as ks:
                self.store(
                    self.load(filler) if filler else "zeroinitializer", self.offset(copy, self.mul(ks.index, self.size))
                )

    # One block of as many columns as there are lanes

    def column_sums(self, corner: str, rows: list[str], depth: str, square: str, rests: list[str]) -> list[str]:
        """The sums of some rows of A and a vector of columns."""
        part = PART_BYTES // self.size
        starts = [self.offset(corner, self.mul("%b_strip", first)) for first in range(0, self.lanes, part)]
        starts = [self.freeze("ptr", start) for start in starts]  # see the tiles
        copies = [self.offset(square, first * self.vector_bytes) for first in range(0, self.lanes, part)]
        sums = [(self.vector, "zeroinitializer")] * len(rows)
        with self.loop("0", depth, self.lanes, sums) as pieces:
            count = self.min(self.sub(depth, pieces.index), self.lanes)
            whole = self.compare("eq", count, self.lanes)
            corners = [self.offset(start, self.mul(pieces.index, self.size)) for start in starts]
            a = [self.offset(row, self.mul(pieces.index, "%a_k")) for row in rows]
            for start in corners:
                self.prefetch(self.offset(start, PREFETCHED_BYTES), part, "%b_strip")
            with self.when(self.negate(whole)):
                self.copy_piece(corners[0], a, count, square, rests)
            pieces.next = self.square(
                [self.select(whole, "ptr", *pointers) for pointers in zip(corners, copies, strict=True)],
                self.select(whole, "i64", "%b_strip", self.vector_bytes),
                [self.select(whole, "ptr", *pointers) for pointers in zip(a, rests, strict=True)],
                self.select(whole, "i64", "%a_k", self.size),
                pieces.carried,
            )
        return pieces.carried

    def copy_piece(self, column: str, rows: list[str], count: str, square: str, rests: list[str]) -> None:
        """Copy fewer k than there are lanes.  Elements of A are followed by -0.0, and those of B by 0.0: the product,
        -0.0, changes no sum, not even one that is -0.0."""
        for row, to in zip(rows, rests, strict=True):
            self.store(self.load(self.filler), to, aligned=True)
            with self.loop("0", count, 1) as ks:
                element = self.offset(row, self.mul(ks.index, "%a_k"))
                self.copy_scalar(element, self.offset(to, self.mul(ks.index, self.size)))
        for number in range(self.lanes):
            column = self.offset(column, "%b_strip") if number else column
            to = self.offset(square, number * self.vector_bytes)
            self.store("zeroinitializer", to, aligned=True)
            self.copy_lanes(column, to, count)

    def square(self, corners: list[str], step: str, rows: list[str], a_step: str, totals: list[str]) -> list[str]:
        """The sums, and the products of as many elements of the rows as there are lanes with those of columns.

        ``corners``: a pointer to every so many columns as a part has elements, which are ``step`` apart.
        """
        columns = []
        for number in range(PART_BYTES // self.size):
            corners = [self.offset(pointer, step) if number else pointer for pointer in corners]
            columns.append(self.parts([self.load(pointer) for pointer in corners]))
        for vectors in zip(*columns, strict=True):
            for y in self.transposed([*vectors]):
                factors = [self.broadcast(self.scalar, self.load_scalar(row)) for row in rows]
                totals = [self.fma(x, y, total) for x, total in zip(factors, totals, strict=True)]
                rows = [self.offset(row, a_step) for row in rows]
        return totals
