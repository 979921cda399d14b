"""The memory plan: one arena for all intermediates of a program.

Buffers that are never alive at the same time share bytes.  Greedy by size (Pisarchyk and Lee, "Efficient
memory management for deep neural net inference", 2020): the largest first, each at the lowest offset at
which it overlaps nothing that lives when it does.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Mapping
from typing import TypeVar

from tracejit.ir.facts import facts

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@facts(frozen=True)
class Lifetime:
    """A buffer's size, and the first and last step that touch it."""

    nbytes: int
    first: int
    last: int


Key = TypeVar("Key", bound=Hashable)


def plan_arena(lifetimes: Mapping[Key, Lifetime]) -> tuple[dict[Key, int], int]:
    """Byte offsets and the arena's size.

    >>> plan_arena(
    ...     {"a": Lifetime(100, 0, 1), "b": Lifetime(100, 1, 2), "c": Lifetime(60, 2, 3)}
    ... )
    ({'a': 0, 'b': 128, 'c': 0}, 256)
    """
    offsets: dict[Key, int] = {}
    placed: list[tuple[int, int, int, int]] = []  # start, stop, first, last; in order
    total = 0
    for key, life in sorted(lifetimes.items(), key=lambda item: -item[1].nbytes):
        size = -(-life.nbytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        first, last = life.first, life.last
        for start, stop, other_first, other_last in placed:
            if other_first <= last and first <= other_last:
                if start >= offset + size:
                    break
                if offset < stop:
                    offset = stop
        offsets[key] = offset
        insort(placed, (offset, offset + size, first, last))
        total = max(total, offset + size)
    return offsets, total
