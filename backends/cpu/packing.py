"""Copies of matrices that the tiles of a product read well: see :mod:`.contraction`."""

from __future__ import annotations

from .vectors import VectorWriter


class PackingWriter(VectorWriter):
    """Writes the functions that copy panels of B and tiles of A."""

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

    # What windows show

    def entry(self, table: str, number: str) -> str:
        """Where a table tells of a place."""
        return self.offset(table, number, unit="{ i64, i64 }")

    def place(self, table: str, number: str) -> tuple[str, str]:
        """The place's offset in bytes, and how many from there on are neighbours."""
        at = self.entry(table, number)
        offset = self.mul(self.let("offset", f"load i64, ptr {at}"), self.size)
        return offset, self.let("run", f"load i64, ptr {self.offset(at, 8)}")

    def pack_windows(self) -> None:
        """Copy a panel of B, whose columns are places of windows: for each vector, one stretch of neighbours after the
        other, down all depths."""
        parameters = "ptr %b, ptr %places, ptr %depths, i64 %depth, i64 %columns, ptr %panel"
        with self.function(f"internal void @pack_windows({parameters})", hot=True):
            strip_bytes = self.mul("%depth", self.strip_bytes)
            with self.loop("0", "%columns", self.lanes) as vectors:
                left = self.min(self.sub("%columns", vectors.index), self.lanes)
                strip = self.let("strip", f"lshr i64 {vectors.index}, {self.shape.strip.bit_length() - 1}")
                half = self.let("half", f"and i64 {vectors.index}, {self.lanes}")
                target = self.offset(self.offset("%panel", self.mul(strip, strip_bytes)), self.mul(half, self.size))
                with self.loop("0", left, 1) as stretches:
                    lane = stretches.index
                    offset, run = self.place("%places", self.add(vectors.index, lane))
                    count = self.min(run, self.sub(left, lane))
                    source = self.offset("%b", offset)
                    with self.loop("0", "%depth", 1, [("ptr", target)], runs_once=True) as ks:
                        (to,) = ks.carried
                        distance, _ = self.place("%depths", ks.index)
                        self.copy_stretch(self.offset(source, distance), to, lane, count)
                        ks.next = [self.offset(to, self.strip_bytes)]
                    stretches.step = count

    def copy_stretch(self, source: str, target: str, lane: str, count: str) -> None:
        """Copy some elements to the lanes of the target from ``lane`` on; those behind them may be overwritten."""
        lane_bytes = self.mul(lane, self.size)
        if self.target.has_masked_memory:
            beyond = self.first_lanes(self.add(lane, count))
            mask = self.let("mask", f"xor {self.mask} {beyond}, {self.first_lanes(lane)}")
            lanes = self.load(self.offset(source, self.sub("0", lane_bytes)), mask, self.load(target))
            self.store(lanes, target)
        else:
            to = self.offset(target, lane_bytes)
            with self.loop("0", count, 1) as js:
                byte = self.mul(js.index, self.size)
                self.copy_scalar(self.offset(source, byte), self.offset(to, byte))

    def copy_windows(self) -> None:
        """Copy a tile's rows of A, which are places of windows: for each row, one stretch of neighbours after the
        other."""
        parameters = "ptr %a, ptr %places, ptr %depths, i64 %rows, i64 %depth, ptr %copy"
        start = [("ptr", "%copy")]
        with (
            self.function(f"internal void @copy_windows({parameters})"),
            self.loop("0", "%rows", 1, start, runs_once=True) as rows,
        ):
            (to,) = rows.carried
            offset, _ = self.place("%places", rows.index)
            source = self.offset("%a", offset)
            with self.loop("0", "%depth", 1) as stretches:
                distance, run = self.place("%depths", stretches.index)
                count = self.min(run, self.sub("%depth", stretches.index))
                element = self.offset(source, distance)
                target = self.offset(to, self.mul(stretches.index, self.size))
                alone = self.compare("eq", count, 1)
                with self.when(alone):
                    self.copy_scalar(element, target)
                with self.when(self.negate(alone)):
                    size = self.mul(count, self.size)
                    self.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {element}, i64 {size}, i1 false)")
                stretches.step = count
            rows.next = [self.offset(to, self.shape.copied_row_bytes)]

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
