"""Memory for large results: what has been freed is kept for a while, since fresh pages can cost as much as the work.

The memory goes back when the last array that shares it is gone: it is the *base* of all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.ir.types import DType

LARGE = 1 << 19  # bytes, from which on a buffer is worth keeping
KEPT = 1 << 27  # bytes that are kept at the most
ALIGNMENT = 64  # a cache line, and the widest vector

_free: dict[int, list[np.ndarray]] = {}  # by size, the one freed last at the end


def aligned_bytes(count: int) -> np.ndarray:
    """Uninitialised memory that starts at a cache line."""
    raw = np.empty(count + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count]


def empty(shape: tuple[int, ...], dtype: DType, nbytes: int) -> np.ndarray:
    """An uninitialised array of ``nbytes``, in memory that was used before where there is some of that size."""
    try:
        raw = _free[nbytes].pop()
    except (KeyError, IndexError):
        raw = aligned_bytes(nbytes)
    return np.asarray(_Memory(raw)).view(dtype).reshape(shape)


class _Memory:
    """What an array of :func:`empty` and all its views share."""

    def __init__(self, raw: np.ndarray) -> None:
        self._raw = raw
        self.__array_interface__: dict[str, Any] = raw.__array_interface__

    def __del__(self) -> None:
        size = self._raw.nbytes
        _free[size] = [*_free.pop(size, []), self._raw]
        kept = 0
        for size, arrays in reversed(tuple(_free.items())):
            kept += size * len(arrays)
            if kept > KEPT:
                _free.pop(size, None)
