"""Transposing small tiles in registers, for operands that lie across the rows of a result."""

from __future__ import annotations

from functools import cache

from .writer import Writer


def name(size: int) -> str:
    return f"transpose_{8 * size}"


@cache
def function(size: int, lanes: int) -> str:
    """``transpose(from, step, rows, columns, to)``: ``to[column][row] = from[row][column]``, for elements of ``size``.

    The rows of ``from`` are ``step`` bytes apart, those of ``to`` hold ``lanes`` elements; there are at most ``lanes``
    rows.  Whole squares go through log2(lanes) perfect shuffles: one makes rows i and i + half, interleaved, rows 2i
    and 2i + 1.
    """
    w, element, vector = Writer(), f"i{8 * size}", f"<{lanes} x i{8 * size}>"
    row_bytes = size * lanes
    with w.function(f"internal void @{name(size)}(ptr %from, i64 %step, i64 %rows, i64 %columns, ptr %to)", hot=True):
        square = w.compare("eq", "%rows", lanes)
        with w.loop("0", "%columns", lanes) as groups:
            source = w.offset("%from", w.mul(groups.index, size))
            target = w.offset("%to", w.mul(groups.index, row_bytes))
            left = w.sub("%columns", groups.index)
            fits = w.let("fits", f"and i1 {square}, {w.compare('sge', left, lanes)}")
            with w.when(fits):
                pointer, rows = source, []
                for number in range(lanes):
                    rows.append(w.let("row", f"load {vector}, ptr {pointer}, align {size}"))
                    if number < lanes - 1:
                        pointer = w.offset(pointer, "%step")
                for _ in range(lanes.bit_length() - 1):
                    pairs = zip(rows[: lanes // 2], rows[lanes // 2 :], strict=True)
                    rows = [_interleaved(w, x, y, vector, lanes, start) for x, y in pairs for start in (0, lanes // 2)]
                for number, row in enumerate(rows):
                    at = w.offset(target, number * row_bytes)
                    w.do(f"store {vector} {row}, ptr {at}, align {row_bytes}")
            with (
                w.when(w.negate(fits)),
                w.loop("0", w.min(left, lanes), 1) as columns,
                w.loop("0", "%rows", 1) as rows_left,
            ):
                at = w.offset(w.offset(source, w.mul(rows_left.index, "%step")), w.mul(columns.index, size))
                to = w.offset(w.offset(target, w.mul(columns.index, row_bytes)), w.mul(rows_left.index, size))
                value = w.let("element", f"load {element}, ptr {at}, align {size}")
                w.do(f"store {element} {value}, ptr {to}, align {size}")
    return "\n".join(w.lines)


def _interleaved(w: Writer, x: str, y: str, vector: str, lanes: int, start: int) -> str:
    """Half of the lanes of two vectors, from ``start`` on, in turn."""
    order = ", ".join(f"i32 {start + i // 2 + i % 2 * lanes}" for i in range(lanes))
    return w.let("row", f"shufflevector {vector} {x}, {vector} {y}, <{lanes} x i32> <{order}>")
