"""Tiles of a matrix product: the sums of a few rows and vectors of columns, see :mod:`.contraction`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tracejit.ir.facts import facts

from .vectors import VectorWriter

ROWS_AHEAD = 32  # of B, in high tiles: how far ahead they are asked for

# Strides are in bytes.  Every tile function has this signature.  The sums are added to what is at %old, which is C or
# -0.0, and then to what is at %addend, which may be -0.0 too: that changes no number, not even a zero.  %old_vector
# and %addend_vector are the distances of the vectors there: those in memory, or 0.  Of an operand that is read through
# windows in place, the table of its depths stands for the stride along k, and that of its places, or of its vectors of
# places, for the other one.
TILE_NAMES = (
    "%a %a_row %a_k %b %b_k %b_strip %depth %c %c_row %columns %rows %old %old_row %old_vector "
    "%addend %addend_row %addend_vector %ahead %ahead_step %ahead_strip"
).split()
POINTERS = {"%a", "%b", "%c", "%old", "%addend", "%ahead"}
TILE_TYPES = ["ptr" if name in POINTERS else "i64" for name in TILE_NAMES]
TILE_PARAMETERS = ", ".join(f"{kind} {name}" for kind, name in zip(TILE_TYPES, TILE_NAMES, strict=True))


@facts(frozen=True)
class Corner:
    """Where the sums of a tile go: pointers to what they are stored to and what is added to them."""

    c: str = "%c"
    old: str = "%old"
    addend: str = "%addend"

    @property
    def carried(self) -> list[tuple[str, str]]:
        """As a loop carries it."""
        return [("ptr", pointer) for pointer in (self.c, self.old, self.addend)]


@facts(frozen=True)
class Chosen:
    """Masks: of some lanes of a vector, and of as many first ones."""

    lanes: str
    side_by_side: str


class TileWriter(VectorWriter):
    """Writes the functions that multiply some rows of A by a panel of B."""

    in_place = ""  # the operand, "lhs" or "rhs", that is read through windows, where it lies
    depths = ""  # and the table of its depths

    @property
    def height(self) -> int:
        """Rows of a high tile: half as many where each has a pointer of its own, for these take registers too."""
        return self.shape.height // 2 if self.in_place == "lhs" else self.shape.height

    def tile(self, height: int) -> None:
        """Multiply ``height`` rows of A by all strips of a panel.  The lower of the two tiles may have fewer rows: it
        computes the last of them again in place of those it lacks."""
        low = height == self.shape.low
        with self.function(f"internal void @tile_{height}({TILE_PARAMETERS})", hot=True):
            if self.in_place:
                stride = "%a_k" if self.in_place == "lhs" else "%b_k"
                self.depths = self.let("depths", f"inttoptr i64 {stride} to ptr")
            if self.in_place == "lhs":
                table, last = self.let("places", "inttoptr i64 %a_row to ptr"), self.sub("%rows", "1")
                numbers = [self.min(last, i) if low else i for i in range(height)]
                bases = [self.freeze("ptr", self.offset("%a", self.place(table, number)[0])) for number in numbers]
            elif low:
                last = self.sub("%rows", "1")
                bases = [self.offset("%a", self.mul("%a_row", self.min(last, i))) for i in range(height)]
            else:
                # A pointer to every third row: the next two are one and two strides on, which the address of a load
                # can add.  Frozen, for otherwise LLVM sees that each row is one stride after the last, and makes one
                # long chain of additions of them.
                bases = [self.freeze("ptr", self.offset("%a", self.mul("%a_row", i))) for i in range(0, height, 3)]
            buffer = self.buffer(2 * height)
            # The rows of B that come next are asked for, too, where there is much to compute meanwhile.
            coming = "" if low or self.in_place == "rhs" else self.mul("%b_k", ROWS_AHEAD)
            b_start = self.let("vectors", "inttoptr i64 %b_strip to ptr") if self.in_place == "rhs" else "%b"
            start = [("ptr", b_start), ("i64", "%columns"), *Corner().carried, ("ptr", "%ahead")]
            with self.loop("0" if low else str(self.lanes), "%columns", 2 * self.lanes, start) as strips:
                b, left, *corner, ahead = strips.carried
                if not low:
                    self.prefetch(ahead, height, "%ahead_step", level=2)
                if self.in_place == "rhs":
                    self.window_strip(height, bases, [b, self.vector_entry(b, 1)], buffer)
                    after = self.vector_entry(b, 2)
                else:
                    if not low:
                        self.prefetch(corner[0], height, "%c_row", 2, write=True)
                    b_starts = [b, self.offset(b, self.vector_bytes)]
                    self.strip(height, bases, b_starts, coming, left, buffer, Corner(*corner))
                    after, corner = self.offset(b, "%b_strip"), self.moved(Corner(*corner), 2)
                left = self.sub(left, str(2 * self.lanes))
                strips.next = [after, left, *corner, self.offset(ahead, "%ahead_strip")]
            if not low:
                b, left, *corner, _ = strips.carried
                with self.when(self.compare("sgt", left, 0)):
                    if self.in_place == "rhs":
                        self.window_strip(height, bases, [b], buffer)
                    else:
                        self.strip(height, bases, [b], coming, left, buffer, Corner(*corner))

    def prefetch(self, start: str, count: int, step: str, width: int = 1, level: int = 1, write: bool = False) -> None:
        """Ask for what lies some steps apart, each some vectors wide, to be in a cache of some level."""
        for number in range(count):
            start = self.offset(start, step) if number else start
            for column in range(width):
                at = self.offset(start, column * self.vector_bytes) if column else start
                self.do(f"call void @llvm.prefetch.p0(ptr {at}, i32 {int(write)}, i32 {4 - level}, i32 1)")

    def row(self) -> None:
        """Multiply a single row of A: four whole strips at a time, for a single row by two vectors would leave the
        multipliers waiting for one another's results.  The other tile does what remains."""
        low = self.shape.low
        with self.function(f"internal void @tile_1({TILE_PARAMETERS})"):
            buffer = self.buffer(8)
            wide = self.add("%columns", 1 - 8 * self.lanes)
            with self.loop("0", wide, 8 * self.lanes, [("ptr", "%b"), *Corner().carried]) as groups:
                b, *corner = groups.carried
                starts = [b]
                for _ in range(3):
                    starts += [self.offset(starts[-1], self.vector_bytes), self.offset(starts[-1], "%b_strip")]
                starts.append(self.offset(starts[-1], self.vector_bytes))
                for i, value in enumerate(self.sums(1, ["%a"], starts, [None] * 8)):
                    self.store(value, self.offset(buffer, i * self.vector_bytes), aligned=True)
                self.write_tile(buffer, 8, Corner(*corner), str(8 * self.lanes))
                groups.next = [self.offset(starts[-2], "%b_strip"), *self.moved(Corner(*corner), 8)]
            left = self.sub("%columns", groups.index)
            with self.when(self.compare("sgt", left, 0)):
                values = dict(zip(TILE_NAMES, TILE_NAMES, strict=True))
                values |= dict(zip(("%b", "%c", "%old", "%addend"), groups.carried, strict=True), **{"%columns": left})
                arguments = ", ".join(f"{kind} {values[n]}" for kind, n in zip(TILE_TYPES, TILE_NAMES, strict=True))
                self.do(f"call void @tile_{low}({arguments})")

    def moved(self, corner: Corner, vectors: int) -> list[str]:
        """A corner's pointers so many vectors further."""
        return [
            self.offset(corner.c, vectors * self.vector_bytes),
            self.offset(corner.old, self.mul("%old_vector", vectors)),
            self.offset(corner.addend, self.mul("%addend_vector", vectors)),
        ]

    def sums(
        self, height: int, a_bases: list[str], b_starts: list[str], masks: Sequence[str | None], coming: str = ""
    ) -> list[str]:
        """The sums of one tile, row by row: ``height`` rows by one or more vectors.  What is ``coming`` in B, so many
        bytes ahead, is asked for."""
        moving = [*(a_bases if self.in_place != "lhs" else []), *(b_starts if self.in_place != "rhs" else [])]
        pointers = [("ptr", p) for p in [*moving, *([self.depths] if self.in_place else [])]]
        zeros = [(self.vector, "zeroinitializer")] * (height * len(b_starts))
        with self.loop("0", "%depth", 1, [*pointers, *zeros], runs_once=True) as ks:
            here = ks.carried[: len(moving)]
            a, b = here[: len(a_bases)], here[-len(b_starts) :]
            steps = ["%a_k"] * len(a_bases) + ["%b_k"] * len(b_starts)
            if self.in_place:
                depth = self.let("depth", f"load i64, ptr {ks.carried[len(moving)]}")
                there = [
                    self.offset(p, depth, unit=self.scalar) for p in (a_bases if self.in_place == "lhs" else b_starts)
                ]
                a, b = (there, here) if self.in_place == "lhs" else (here, there)
                steps = ["%b_k" if self.in_place == "lhs" else "%a_k"] * len(here)
            sums = iter(ks.carried[len(pointers) :])
            columns = [self.load(p, mask) for p, mask in zip(b, masks, strict=True)]
            if coming:
                for p in b:
                    self.prefetch(self.offset(p, coming), 1, "")
            ks.next = [self.offset(p, step) for p, step in zip(here, steps, strict=True)]
            if self.in_place:
                ks.next.append(self.entry(ks.carried[len(moving)], 1))
            if len(a) == height:
                rows = a
            else:
                strides = [("i8", "0"), ("i8", "%a_row"), ("i16", "%a_row")]
                rows = [self.offset(p, stride, unit=unit) for p in a for unit, stride in strides]
            for row in rows:
                x = self.broadcast(self.scalar, self.load_scalar(row))
                ks.next += [self.fma(x, y, next(sums)) for y in columns]
        return ks.next[len(pointers) :]

    def strip(
        self, height: int, a_bases: list[str], b_starts: list[str], coming: str, left: str, buffer: str, corner: Corner
    ) -> None:
        """One tile, of whose columns the first ``left`` are within the matrix."""
        width = len(b_starts)
        masks: list[str | None] = [None] * width
        if self.target.has_masked_memory:
            for j in range(width):
                # Frozen, for otherwise LLVM moves the comparison into the loop.
                masks[j] = self.freeze(self.mask, self.first_lanes(self.sub(left, str(j * self.lanes))))
        sums = self.sums(height, a_bases, b_starts, masks, coming)
        whole = self.compare("sge", left, width * self.lanes)
        if height == self.height:
            with self.when(whole):
                self.write_sums(sums, width, corner)
            whole = self.negate(whole)
        else:
            whole = self.compare("sge", left, 0)
        with self.when(whole):
            for i, value in enumerate(sums):
                self.store(value, self.offset(buffer, i * self.vector_bytes), aligned=True)
            self.write_tile(buffer, width, corner, self.min(left, width * self.lanes))

    def window_strip(self, height: int, a_bases: list[str], vectors: list[str], buffer: str) -> None:
        """One tile, whose columns are some vectors of places of windows: each has its own place in C."""
        masks: list[str | None] = [None] * len(vectors)
        if self.target.has_masked_memory:
            masks = [self.freeze(self.mask, self.first_lanes(self.shown(vector, "extent"))) for vector in vectors]
        b_starts = [self.offset("%b", self.mul(self.shown(vector, "offset"), self.size)) for vector in vectors]
        sums, width = self.sums(height, a_bases, b_starts, masks), len(vectors)
        if height == self.height:
            lanes = self.shown(vectors[0], "lanes")
            for vector in vectors[1:]:
                lanes = self.let("lanes", f"and i64 {lanes}, {self.shown(vector, 'lanes')}")
            whole = self.compare("eq", lanes, (1 << self.lanes) - 1)
            with self.when(whole):
                self.write_sums(sums, width, self.landing(vectors[0], Corner())[0])
            if self.target.has_masked_memory:
                with self.when(self.negate(whole)):
                    for column, vector in enumerate(vectors):
                        corner, chosen = self.landing(vector, Corner())
                        self.write_sums([self.chosen(new, chosen) for new in sums[column::width]], 1, corner, chosen)
            return
        for i, value in enumerate(sums):
            self.store(value, self.offset(buffer, i * self.vector_bytes), aligned=True)
        self.write_tile(buffer, width, Corner(), str(width * self.lanes), vectors=vectors[0])

    # Into C

    def landing(self, vector: str, corner: Corner) -> tuple[Corner, Chosen | None]:
        """Where in C a vector of places is, and which of its lanes, if not all."""
        start = self.mul(self.shown(vector, "first"), self.size)
        old = self.select(self.compare("eq", "%old_vector", 0), "i64", 0, start)
        corner = Corner(self.offset(corner.c, start), self.offset(corner.old, old), corner.addend)
        if not self.target.has_masked_memory:
            return corner, None
        lanes = self.let("lanes", f"trunc i64 {self.shown(vector, 'lanes')} to i{self.lanes}")
        mask = self.let("mask", f"bitcast i{self.lanes} {lanes} to {self.mask}")
        return corner, Chosen(mask, self.first_lanes(self.shown(vector, "count")))

    def chosen(self, value: str, chosen: Chosen | None) -> str:
        """Some lanes of a vector, side by side."""
        if chosen is None:
            return value
        operands = f"{self.vector} {value}, {self.mask} {chosen.lanes}, {self.vector} poison"
        return self.let("v", f"call {self.vector} @llvm.experimental.vector.compress.{self.suffix}({operands})")

    def write_sums(self, sums: list[str], width: int, corner: Corner, chosen: Chosen | None = None) -> None:
        """Bring a tile that is whole into C."""
        c, old, addend = corner.c, corner.old, corner.addend
        for number, new in enumerate(sums):
            row, column = divmod(number, width)
            if row and not column:
                c, old, addend = (
                    self.offset(c, "%c_row"), self.offset(old, "%old_row"), self.offset(addend, "%addend_row")
                )  # fmt: skip
            before = self.offset(old, self.mul("%old_vector", column)) if column else old
            after = self.offset(addend, self.mul("%addend_vector", column)) if column else addend
            target = self.offset(c, column * self.vector_bytes)
            self.write_vector(new, before, after, target, chosen.side_by_side if chosen else None)

    def write_tile(
        self, buffer: str, width: int, corner: Corner, columns: str, rows: str = "%rows", vectors: str = "null"
    ) -> None:
        """Bring a tile's sums from the buffer into C."""
        self.do(
            f"call void @write(ptr {buffer}, i64 {width * self.vector_bytes}, i64 {rows}, i64 {columns}, "
            f"ptr {corner.c}, i64 %c_row, ptr {corner.old}, i64 %old_row, i64 %old_vector, "
            f"ptr {corner.addend}, i64 %addend_row, i64 %addend_vector, ptr {vectors})"
        )

    def write(self) -> None:
        """C = sums, C + sums, or either and the addend."""
        parameters = (
            "ptr %sums, i64 %sums_row, i64 %rows, i64 %columns, ptr %c, i64 %c_row, "
            "ptr %old, i64 %old_row, i64 %old_vector, ptr %addend, i64 %addend_row, i64 %addend_vector, ptr %vectors"
        )
        with self.function(f"internal void @write({parameters})"):
            start = [("ptr", "%sums"), ("ptr", "%vectors"), *Corner().carried]
            with self.loop("0", "%columns", self.lanes, start) as vectors:
                sums, vector, *carried = vectors.carried
                corner, left = Corner(*carried), self.sub("%columns", vectors.index)
                if self.in_place == "rhs":
                    place, chosen = self.landing(vector, corner)
                    with self.written_rows(sums, place) as (new, here):
                        value, mask = self.chosen(self.load(new), chosen), chosen.side_by_side if chosen else None
                        self.write_vector(value, here.old, here.addend, here.c, mask)
                elif self.target.has_masked_memory:
                    mask = self.first_lanes(left)
                    with self.written_rows(sums, corner) as (new, here):
                        self.write_vector(self.load(new), here.old, here.addend, here.c, mask)
                else:
                    whole = self.compare("sge", left, self.lanes)
                    with self.written_rows(sums, corner) as (new, here):
                        with self.when(whole):
                            self.write_vector(self.load(new), here.old, here.addend, here.c)
                        with self.when(self.negate(whole)):
                            self.write_lanes(new, here.old, here.addend, here.c, left)
                after = self.vector_entry(vector, 1) if self.in_place == "rhs" else vector
                moved = carried if self.in_place == "rhs" else self.moved(corner, 1)
                vectors.next = [self.offset(sums, self.vector_bytes), after, *moved]

    @contextmanager
    def written_rows(self, sums: str, corner: Corner) -> Iterator[tuple[str, Corner]]:
        """Go through the rows of a tile: where the sums of each are, and where they go."""
        with self.loop("0", "%rows", 1, [("ptr", sums), *corner.carried], runs_once=True) as rows:
            new, *here = rows.carried
            yield new, Corner(*here)
            steps = "%sums_row", "%c_row", "%old_row", "%addend_row"
            rows.next = [self.offset(p, step) for p, step in zip(rows.carried, steps, strict=True)]

    def write_vector(self, new: str, old: str, addend: str, target: str, mask: str | None = None) -> None:
        total = self.let("total", f"fadd {self.vector} {self.load(old, mask)}, {new}")
        total = self.let("total", f"fadd {self.vector} {total}, {self.load(addend, mask)}")
        self.store(total, target, mask)

    def write_lanes(self, new: str, old: str, addend: str, target: str, count: str) -> None:
        with self.loop("0", count, 1) as lanes:
            byte = self.mul(lanes.index, self.size)
            x, y, z = (self.load_scalar(self.offset(pointer, byte)) for pointer in (old, new, addend))
            total = self.let("total", f"fadd {self.scalar} {x}, {y}")
            total = self.let("total", f"fadd {self.scalar} {total}, {z}")
            self.do(f"store {self.scalar} {total}, ptr {self.offset(target, byte)}, align {self.size}")
