"""How threads share the work of a matrix product: blocks of columns, and how many tiles a thread takes at a time.

None of it changes a result.  What is weighed: threads should be done at the same time, and a panel of B should be
packed by as few of them as possible.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tracejit.ir.facts import facts

from .few_rows import STREAMED_BLOCKS
from .target import Target
from .vectors import Blocking, blocking

FEW_TILES = 4  # of rows: blocks of columns are narrow then
CHUNK_TILES = 32  # that a thread takes at a time: about so many repay packing a panel of B once more
CHUNKS = 4  # for each thread, where there are enough tiles: so that one held up by other work does not hold up the rest

# Costs, in rows of a tile by a vector: packing a panel of B, starting on one; and of rows of low tiles, which wait.
PACKING, STARTING, LOW = 4, 4, 1.3
ABOUT = 0.02  # so much more time is no reason for more and smaller parts
MOST_WEIGHED = 64  # products of a batch, of which there are enough parts otherwise


@facts(frozen=True)
class Shares:
    """``units`` tiles of rows by blocks of ``columns``, rows first; ``grain`` of them at a time."""

    columns: int
    units: int
    grain: int


@lru_cache(4096)
def shares(dtype: np.dtype, target: Target, batch: int, m: int, n: int, k: int, threads: int) -> Shares:
    """The division of a product's work among some threads."""
    shape = blocking(dtype, target)
    if n == 1:  # the kernel computes the transpose
        m, n = n, m
    threads = max(threads, 1)
    if 0 in (batch, m, n):
        return Shares(shape.strip, 0, 1)
    if m <= shape.few:
        return _streamed(shape, batch, n, threads)
    tiles, strips = -(-m // shape.height), -(-n // shape.strip)
    most = (shape.column_block if tiles > FEW_TILES else shape.narrow_block) // shape.strip
    least = -(-strips // most)
    found = []
    for count in sorted({least, *range(threads, 2 * threads + 1)}):
        if least <= count <= max(strips, least):
            width = -(-strips // count)  # about equal, for a narrow last one would be slow
            units = batch * tiles * -(-strips // width)
            found += [Shares(width * shape.strip, units, grain) for grain in _grains(tiles, units, threads)]
    if len(found) == 1 or batch > MOST_WEIGHED:
        return found[0]
    times = [_time(shape, m, n, each, threads) for each in found]
    limit = (1 + ABOUT) * min(times)
    return next(each for each, time in zip(found, times, strict=True) if time <= limit)


def _grains(tiles: int, units: int, threads: int) -> list[int]:
    """An even share, or even parts of it."""
    share = -(-units // threads)
    if share >= CHUNKS * CHUNK_TILES:
        part = -(-share // CHUNKS)
        return [-(-part // tiles) * tiles if part >= tiles else part]
    return sorted({-(-share // parts) for parts in range(1, CHUNKS + 1)} | {max(share - 1, 1)}, reverse=True)


def _time(shape: Blocking, m: int, n: int, given: Shares, threads: int) -> float:
    """About how long it takes, where each thread takes what comes next once it is done."""
    tiles, vectors, width = -(-m // shape.height), -(-n // shape.lanes), given.columns // shape.lanes
    blocks = -(-vectors // width)
    last = m - (tiles - 1) * shape.height  # rows of the last tile
    last_cost = last if last == shape.height else LOW * -(-last // shape.low) * shape.low
    done = [0.0] * threads
    for first in range(0, given.units, given.grain):
        end, cost = min(first + given.grain, given.units), 0.0
        for block in range(first // tiles, -(-end // tiles)):
            begin, stop = max(first - block * tiles, 0), min(end - block * tiles, tiles)
            rows = (stop - begin) * shape.height + (last_cost - shape.height) * (stop == tiles)
            cost += (rows + PACKING) * min(width, vectors - block % blocks * width) + STARTING
        done[done.index(min(done))] += cost
    return max(done)


def _streamed(shape: Blocking, batch: int, n: int, threads: int) -> Shares:
    """Of few rows of A, for which B is read once: an even share or, where it is large, an even part of it, but no part
    so small that B is read in short stretches."""
    strips = -(-n // shape.strip)
    width = -(-strips // -(-strips * shape.strip // shape.stream_block)) * shape.strip
    units = batch * -(-strips * shape.strip // width)
    share = -(-units // threads)
    return Shares(width, units, min(share, max(STREAMED_BLOCKS, share // CHUNKS)))
