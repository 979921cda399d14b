"""Sorting with NumPy: stable where elements can be told apart, by several threads, and with packed keys."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import pairwise

import numpy as np

SHARED_SIZE = 1 << 18  # elements from which on several threads sort: one takes a fraction of a millisecond to start
most_threads = [1 << 16]  # as the user allows
PACKED_SIZE = 1 << 10  # elements from which on positions are sorted as part of the keys


def argsorted(x: np.ndarray, axis: int, descending: bool = False) -> np.ndarray:
    """Positions in order: equal elements keep theirs, in descending order too, and every NaN is the largest number."""
    if x.dtype.kind in "iuf" and x.dtype.itemsize >= 4 and x.size >= PACKED_SIZE and x.shape[axis] < 1 << 31:
        rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        order = _by_packed_keys(rows, descending) if x.dtype.itemsize == 4 else _by_ranks(rows, descending)
        return np.moveaxis(order, -1, axis)
    if not descending:
        return np.argsort(x, axis=axis, stable=True)
    backwards = np.argsort(np.flip(x, axis), axis=axis, stable=True)
    return np.flip(x.shape[axis] - 1 - backwards, axis)


def sorted_alike(x: np.ndarray, axis: int, descending: bool = False) -> np.ndarray:
    """As a stable sort, which takes far longer: where no equal elements can be told apart, any other gives the same."""
    found = _sorted(x, axis) if x.dtype.kind in "biuf" else None
    if found is not None and x.dtype.kind == "f" and x.size:
        last = np.take(found, -1, axis)
        if x.ndim == 1:
            zero = found.dtype.type(0)
            zeros = found[found.searchsorted(zero) : found.searchsorted(zero, "right")]
        else:
            zeros = found[found == 0]
        if np.isnan(last).any() or np.signbit(zeros).any():
            found = None
    if found is None:
        return np.take_along_axis(x, argsorted(x, axis, descending), axis)
    return np.ascontiguousarray(np.flip(found, axis)) if descending else found


def _by_packed_keys(x: np.ndarray, descending: bool) -> np.ndarray:
    """Positions along rows, for each element has an integer of the same order in half a word."""
    if x.dtype.kind == "f":
        bits = (x + np.float32(0)).view(np.int32)  # no zero is negative
        keys = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
        keys[x != x] = 0x7FFFFFFF
    else:
        keys = x
    words = keys.astype(np.int64)
    if x.dtype.kind == "u":
        words -= 1 << 31
    return _positions(words, np.arange(x.shape[-1]), descending)


def _by_ranks(x: np.ndarray, descending: bool) -> np.ndarray:
    """Positions along rows by a sort that is not stable, and by another one of the ranks where elements are equal."""
    order = np.argsort(x, axis=-1)
    found = np.take_along_axis(x, order, -1)
    following, before = found[..., 1:], found[..., :-1]
    is_larger = (following != before) & (before == before)
    if is_larger.all():
        return order[..., ::-1] if descending else order
    ranks = np.zeros(x.shape, np.int64)
    np.cumsum(is_larger, axis=-1, out=ranks[..., 1:])
    return _positions(ranks, order, descending)


def _positions(words: np.ndarray, positions: np.ndarray, descending: bool) -> np.ndarray:
    """Those in the order of integers of half a word, and among equal ones in their own: both packed into words."""
    if descending:
        np.invert(words, out=words)
    words <<= 32
    words |= positions
    _sort_rows(words)
    words &= 0xFFFFFFFF
    return words


def _sorted(x: np.ndarray, axis: int) -> np.ndarray:
    if x.dtype.itemsize == 1:  # NumPy counts where it is to be stable
        return np.sort(x, axis, stable=True)
    if x.size < SHARED_SIZE or axis not in (-1, x.ndim - 1):
        return np.sort(x, axis)
    found = x.copy(order="C")
    _sort_rows(found)
    return found


def _sort_rows(x: np.ndarray) -> None:
    """Sort along the last axis, in place."""
    threads = min(_processors(), most_threads[0]) if x.size >= SHARED_SIZE else 1
    rows = x.reshape(-1, x.shape[-1])
    if threads == 1:
        x.sort()
    elif len(rows) >= threads:
        edges = [len(rows) * number // threads for number in range(threads + 1)]
        _all_at_once([rows[first:last].sort for first, last in pairwise(edges)])
    else:
        for row in rows:
            edges = [row.size * number // threads for number in range(threads + 1)]
            row.partition(edges[1:-1])
            _all_at_once([row[first:last].sort for first, last in pairwise(edges)])


def _all_at_once(work: list[Callable[[], object]]) -> None:
    others = [threading.Thread(target=part) for part in work[1:]]
    for other in others:
        other.start()
    work[0]()
    for other in others:
        other.join()


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
