"""The native code of a sweep (:mod:`.sweeps`): a band, and a seam between two bands.

Both are kernels for the thread pool.  Their first argument is the address of the walker's instruction; from word
``SWEEP_ARGUMENTS`` on, the arguments of its stages follow one after the other.  The record of a stage is: where its
kernel's address stands, its lag, its first row and the number of its rows, the iterations of a row, the number of its
arguments, and their places.
"""

from __future__ import annotations

from collections.abc import Callable

from .writer import Writer

SWEEP_ARGUMENTS = 1
BANDS, SEAMS, ROWS, BLOCK, LAG, STAGES, RECORDS = range(3, 10)  # words of the instruction

Interval = tuple[str, str]


def functions() -> str:
    """``tj_bands`` and ``tj_seams``."""
    w = Writer()
    head = "(ptr %arguments, i64 %begin, i64 %end, i64 %worker)"
    with w.function(f"internal void @tj_bands{head}", hot=True):
        instruction, (bands, seams, rows, block, lag) = _opened(w)
        is_open = w.compare("slt", seams, bands)  # no seam between the last row and the first
        with w.loop("%begin", "%end", 1) as each:
            following = w.add(each.index, 1)
            first, last = (_edge(w, number, rows, bands) for number in (each.index, following))
            is_first, is_last = w.compare("eq", each.index, 0), w.compare("eq", following, bands)
            starts, ends = (w.let("open", f"and i1 {is_open}, {edge}") for edge in (is_first, is_last))
            with w.loop(first, w.add(last, lag), block) as front:

                def between(behind: str) -> list[Interval]:
                    low = w.select(starts, "i64", 0, w.add(first, behind))
                    high = w.select(ends, "i64", rows, w.sub(last, behind))
                    start = w.sub(front.index, behind)
                    return [(w.max(start, low), w.min(w.add(start, block), high))]

                _stages(w, instruction, between)
    with w.function(f"internal void @tj_seams{head}", hot=True):
        instruction, (bands, _, rows, *_) = _opened(w)
        with w.loop("%begin", "%end", 1) as each:
            edge = _edge(w, w.add(each.index, 1), rows, bands)
            beyond = w.sub(edge, rows)  # after the last row comes the first

            def around(behind: str) -> list[Interval]:
                return [(w.sub(place, behind), w.add(place, behind)) for place in (edge, beyond)]

            _stages(w, instruction, around)
    return "\n".join(w.lines)


def _word(w: Writer, pointer: str, number: int, kind: str = "i64") -> str:
    return w.let("word", f"load {kind}, ptr {w.offset(pointer, number, unit='i64')}")


def _opened(w: Writer) -> tuple[str, list[str]]:
    instruction = _word(w, "%arguments", 0, "ptr")
    return instruction, [_word(w, instruction, number) for number in (BANDS, SEAMS, ROWS, BLOCK, LAG)]


def _edge(w: Writer, band: str, rows: str, bands: str) -> str:
    """Where a band begins."""
    return w.let("edge", f"sdiv i64 {w.mul(band, rows)}, {bands}")


def _stages(w: Writer, instruction: str, intervals: Callable[[str], list[Interval]]) -> None:
    """Every stage in turn, on the rows that ``intervals(lag)`` tells."""
    first = w.offset(instruction, RECORDS, unit="i64")
    slots = w.offset("%arguments", SWEEP_ARGUMENTS, unit="i64")
    with w.loop("0", _word(w, instruction, STAGES), 1, [("ptr", first), ("ptr", slots)]) as stages:
        record, arguments = stages.carried
        cell = _word(w, record, 0, "ptr")
        lag, own, rows, unit, count = (_word(w, record, number) for number in range(1, 6))
        for start, stop in intervals(lag):
            start, stop = w.max(w.sub(start, own), 0), w.min(w.sub(stop, own), rows)
            with w.when(w.compare("slt", start, stop)):
                kernel = w.let("kernel", f"load ptr, ptr {cell}")
                begin, end = w.mul(start, unit), w.mul(stop, unit)
                w.do(f"call void {kernel}(ptr {arguments}, i64 {begin}, i64 {end}, i64 %worker)")
        words = w.add(w.mul(count, 2), 6)
        stages.next = [w.offset(record, words, unit="i64"), w.offset(arguments, count, unit="i64")]
