"""Copies of matrices that the tiles of a product read well, and what is asked for: see :mod:`.contraction`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .vectors import LINE_BYTES, VectorWriter

PACKED_ROWS = 4  # rows of B at a time


class PackingWriter(VectorWriter):
    """Writes the functions that copy panels of B."""

    def pack_b(self) -> None:
        """Copy a panel of B so that each strip is contiguous, row after row.  Columns beyond the last are left or
        filled with anything, for what they yield is not written."""
        parameters = "ptr %b, i64 %b_k, i64 %b_column, i64 %depth, i64 %columns, ptr %panel"
        with self.function(f"internal void @pack_b({parameters})"):
            by_row = self.compare("eq", "%b_column", self.size)
            by_column = self.compare("eq", "%b_k", self.size)
            with self.choose(by_row, by_column) as case:
                case("row by row")
                self.do("call void @pack_rows(ptr %b, i64 %b_k, i64 %depth, i64 %columns, ptr %panel)")
                case("column by column")
                buffers = [self.buffer(self.lanes), self.buffer(self.lanes)]
                with self.panel_vectors() as (source, target, left):
                    self.pack_transposed(source, target, left, buffers)
                case("one by one")
                with (
                    self.panel_vectors() as (source, target, left),
                    self.loop("0", "%depth", 1, [("ptr", source), ("ptr", target)], runs_once=True) as ks,
                ):
                    element, to = ks.carried
                    with self.loop("0", self.min(left, self.lanes), 1) as js:
                        column = self.offset(element, self.mul(js.index, "%b_column"))
                        self.copy_scalar(column, self.offset(to, self.mul(js.index, self.size)))
                    ks.next = [self.offset(element, "%b_k"), self.offset(to, self.strip_bytes)]

    @contextmanager
    def panel_vectors(self) -> Iterator[tuple[str, str, str]]:
        """Go through a panel's columns, a vector of them at a time: where these are in B and in the panel, and how many
        are left."""
        strip_bytes = self.mul("%depth", self.strip_bytes)
        with self.loop("0", "%columns", self.lanes) as vectors:
            left = self.sub("%columns", vectors.index)
            source = self.offset("%b", self.mul(vectors.index, "%b_column"))
            yield source, self.in_panel("%panel", vectors.index, strip_bytes), left

    def in_panel(self, panel: str, column: str, strip_bytes: str) -> str:
        """Where a vector of columns begins in a panel."""
        strip = self.let("strip", f"lshr i64 {column}, {self.shape.strip.bit_length() - 1}")
        half = self.let("half", f"and i64 {column}, {self.lanes}")
        return self.offset(self.offset(panel, self.mul(strip, strip_bytes)), self.mul(half, self.size))

    def pack_rows(self) -> None:
        """Copy a panel of B whose rows are contiguous: a few rows at a time, as memory is read best, and those to come
        are asked for meanwhile."""
        parameters = "ptr %b, i64 %b_k, i64 %depth, i64 %columns, ptr %panel"
        with self.function(f"internal void @pack_rows({parameters})", hot=True):
            strip_bytes = self.mul("%depth", self.strip_bytes)
            groups = self.let("groups", f"and i64 %depth, {-PACKED_ROWS}")
            for count, first, last in ((PACKED_ROWS, "0", groups), (1, groups, "%depth")):
                with self.loop(first, last, count) as ks:
                    row = self.offset("%b", self.mul(ks.index, "%b_k"))
                    to = self.offset("%panel", self.mul(ks.index, self.strip_bytes))
                    start = [("ptr", row), ("ptr", to)]
                    with self.loop(str(self.shape.strip - 1), "%columns", self.shape.strip, start) as strips:
                        source, target = strips.carried
                        strips.next = [self.offset(source, self.strip_bytes), self.offset(target, strip_bytes)]
                        for number in range(count):
                            if number:
                                source, target = self.offset(source, "%b_k"), self.offset(target, self.strip_bytes)
                            coming = self.offset(source, self.mul("%b_k", count)) if count > 1 else ""
                            for distance in (0, self.vector_bytes):
                                if coming:
                                    at = self.offset(coming, distance)
                                    self.do(f"call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 3, i32 1)")
                                self.store(self.load(self.offset(source, distance)), self.offset(target, distance))
                    (source, target), left = strips.carried, self.sub("%columns", strips.index)
                    left = self.add(left, self.shape.strip - 1)
                    with self.when(self.compare("sgt", left, 0)):
                        for number in range(count):
                            if number:
                                source, target = self.offset(source, "%b_k"), self.offset(target, self.strip_bytes)
                            self.copy_lanes(source, target, left)
                            beyond = self.sub(left, str(self.lanes))
                            with self.when(self.compare("sgt", beyond, 0)):
                                last = self.offset(source, self.vector_bytes)
                                self.copy_lanes(last, self.offset(target, self.vector_bytes), beyond)

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

    def shuffle_functions(self) -> None:
        for rounds in sorted(set(self.shuffles)):
            self.shuffle(rounds)

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
                    halves = 0, self.lanes // 2
                    rows = [self.interleave(x, y, half, self.lanes) for x, y in pairs for half in halves]
                for row in rows:
                    self.store(row, groups.next[1])
                    groups.next[1] = self.offset(groups.next[1], "%to_step")

    # What windows show

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

    def fetch_windows(self, by_vectors: bool) -> None:
        """Ask for what windows show at some places and depths: for the processor does not foresee how it lies."""
        parameters = "ptr %image, ptr %places, i64 %count, ptr %depths, i64 %depth"
        with (
            self.function(f"internal void @fetch_windows({parameters})", hot=True),
            self.loop("0", "%count", 1, [("ptr", "%places")]) as stretches,
        ):
            (entry,) = stretches.carried
            if by_vectors:
                first = self.shown(entry, "offset")
                left = self.ceil_div(self.sub("%count", stretches.index), self.lanes)
                vectors = self.min(self.shown(entry, "chain"), left)
                last = self.vector_entry(entry, self.sub(vectors, "1"))
                run = self.sub(self.add(self.shown(last, "offset"), self.shown(last, "extent")), first)
                offset, stretches.step = self.mul(first, self.size), self.mul(vectors, self.lanes)
                stretches.next = [self.vector_entry(entry, vectors)]
            else:
                number, run = self.close(entry, self.sub("%count", stretches.index))
                offset, _ = self.place(entry, 0)
                stretches.step, stretches.next = number, [self.entry(entry, number)]
            start = self.offset("%image", offset)
            with self.loop("0", "%depth", 1) as deeper:
                here = self.entry("%depths", deeper.index)
                number, reach = self.close(here, self.sub("%depth", deeper.index))
                (distance, _), deeper.step = self.place(here, 0), number
                length = self.mul(self.add(run, reach), self.size)
                with self.loop("0", length, LINE_BYTES) as lines:
                    at = self.offset(self.offset(start, distance), lines.index)
                    self.do(f"call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 2, i32 1)")

    def close(self, entry: str, left: str) -> tuple[str, str]:
        """How many points from one on, of those left, are close together, and over how many elements they reach."""
        first, run = self.place(entry, 0)
        number = self.min(run, left)
        last, _ = self.place(self.entry(entry, self.sub(number, "1")), 0)
        return number, self.add(self.let("reach", f"sdiv i64 {self.sub(last, first)}, {self.size}"), 1)
