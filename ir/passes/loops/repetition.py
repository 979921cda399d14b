"""Finding what repeats: the stretches of a sequence that are one part over and over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...facts import facts


@facts(frozen=True)
class Stretch:
    """``count`` parts of ``period`` elements each, equal to one another."""

    start: int
    period: int
    count: int

    @property
    def stop(self) -> int:
        return self.start + self.period * self.count


def repetitions(codes: np.ndarray, least: int) -> list[Stretch]:
    """Where a part stands at least ``least`` times (4 or more) in a row, the shortest parts first.

    Stretches are as long as can be; those of different periods may overlap.  Takes O(n log n) steps for few periods.

    >>> repetitions(np.array([9, 1, 2, 1, 2, 1, 2, 1, 2, 1, 9]), 4)
    [Stretch(start=1, period=2, count=4)]
    """
    found = []
    for period in _periods(codes, least):
        equal = np.concatenate([[False], codes[period:] == codes[:-period], [False]])
        edges = np.flatnonzero(equal[1:] != equal[:-1])
        for start, stop in edges.reshape(-1, 2).tolist():
            count = (stop - start) // period + 1
            if count >= least:
                found.append(Stretch(start, period, count))
    return found


def _periods(codes: np.ndarray, least: int) -> Iterator[int]:
    """Periods that are worth a look, in order.

    A window of ``w`` elements in a stretch of period ``p <= w`` was there ``p`` elements before, and not since: so for
    windows of 1, 2, 4, … elements, it is counted how far back each was seen last.
    """
    if not len(codes):
        return
    window = 1
    generator = np.random.default_rng(0)
    hashes = generator.integers(1 << 63, size=int(codes.max()) + 1, dtype=np.uint64)[codes]
    while window * least < 2 * len(codes) and len(hashes):
        order = np.argsort(hashes, kind="stable")
        back = np.diff(order)[np.diff(hashes[order]) == 0]
        back = back[(back > window // 2) & (back <= window)]
        counts = np.bincount(back, minlength=1)
        for period in np.flatnonzero(counts).tolist():
            if counts[period] > (least - 3) * period:
                yield period
        factor = 2 * generator.integers(1 << 62, dtype=np.uint64) + np.uint64(1)
        hashes = hashes[:-window] * factor + hashes[window:]
        window *= 2
