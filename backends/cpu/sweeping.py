"""The native code of a sweep (:mod:`.sweeps`): its steps, a band, and a seam between two bands.

A band and a seam are kernels for the thread pool.  Their first argument is the address of the walker's instruction;
from word ``SWEEP_ARGUMENTS`` on, the arguments of its stages follow one after the other.  The record of a stage is:
where its kernel's address stands, its lag, its first row and the number of its rows, the iterations of a row, the
number of its arguments, and their places.
"""

from __future__ import annotations

from collections.abc import Callable

from .walker import SWEEP_ARGUMENTS
from .writer import Writer

BANDS, SEAMS, ROWS, BLOCK, LAG, STAGES, RECORDS = range(3, 10)  # words of the instruction

Interval = tuple[str, str]

TEXT = """
; Some steps of a loop, sweeping over their rows.
define internal void @sweep(ptr %instruction, ptr %frame, ptr %context) nounwind noinline {
entry:
  %repeat.at = getelementptr i64, ptr %instruction, i64 2
  %bands.at = getelementptr i64, ptr %instruction, i64 3
  %seams.at = getelementptr i64, ptr %instruction, i64 4
  %stages.at = getelementptr i64, ptr %instruction, i64 8
  %repeat = load i64, ptr %repeat.at
  %bands = load i64, ptr %bands.at
  %stages = load i64, ptr %stages.at
  %seams = load i64, ptr %seams.at
  %arguments.at = getelementptr i64, ptr %context, i64 $ARGUMENTS
  %pool.at = getelementptr i64, ptr %context, i64 $POOL
  %parallel.for.at = getelementptr i64, ptr %context, i64 $PARALLEL_FOR
  %status.at = getelementptr i64, ptr %context, i64 $STATUS
  %arguments = load ptr, ptr %arguments.at
  %pool = load ptr, ptr %pool.at
  %parallel.for.cell = load ptr, ptr %parallel.for.at
  store ptr %instruction, ptr %arguments
  %first.stage = getelementptr i64, ptr %instruction, i64 9
  %first.slot = getelementptr i64, ptr %arguments, i64 $SWEEP_ARGUMENTS
  br label %stage
stage:
  %s = phi i64 [ 0, %entry ], [ %s.after, %filled ]
  %this.stage = phi ptr [ %first.stage, %entry ], [ %place, %filled ]
  %stage.slot = phi ptr [ %first.slot, %entry ], [ %slot, %filled ]
  %s.more = icmp slt i64 %s, %stages
  br i1 %s.more, label %begun, label %step
begun:
  %count.at = getelementptr i64, ptr %this.stage, i64 5
  %count = load i64, ptr %count.at
  %first.place = getelementptr i64, ptr %this.stage, i64 6
  br label %argument
argument:
  %a = phi i64 [ 0, %begun ], [ %a.after, %fill ]
  %place = phi ptr [ %first.place, %begun ], [ %place.after, %fill ]
  %slot = phi ptr [ %stage.slot, %begun ], [ %slot.after, %fill ]
  %a.more = icmp slt i64 %a, %count
  br i1 %a.more, label %fill, label %filled
fill:
  %value = call i64 @address(ptr %place, ptr %frame)
  store i64 %value, ptr %slot
  %a.after = add i64 %a, 1
  %place.after = getelementptr i64, ptr %place, i64 2
  %slot.after = getelementptr i64, ptr %slot, i64 1
  br label %argument
filled:
  %s.after = add i64 %s, 1
  br label %stage
step:
  %i = phi i64 [ 0, %stage ], [ %i.after, %swept ]
  %left = icmp slt i64 %i, %repeat
  br i1 %left, label %go, label %stop
go:
  %several = icmp sgt i64 %bands, 1
  br i1 %several, label %share, label %alone
alone:
  call void @tj_bands(ptr %arguments, i64 0, i64 1, i64 0)
  call void @tj_seams(ptr %arguments, i64 0, i64 %seams, i64 0)
  br label %look
share:
  %parallel.for = load ptr, ptr %parallel.for.cell
  call void %parallel.for(ptr %pool, ptr @tj_bands, ptr %arguments, i64 %bands, i64 1)
  call void %parallel.for(ptr %pool, ptr @tj_seams, ptr %arguments, i64 %seams, i64 1)
  br label %look
look:
  call void @look(ptr %frame, ptr %context)
  %status = load i64, ptr %status.at
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %stop, label %swept
swept:
  %i.after = add i64 %i, 1
  br label %step
stop:
  ret void
}
"""


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
