"""Memory that shows mistakes: fresh buffers hold no zeros, and what is written beside them is noticed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from tracejit.backends.cpu import buffers, runtime

MARGIN = 256  # bytes on either side
POISON = 0xA5


class Guarded:
    """Arrays between margins of poison, filled with poison themselves."""

    def __init__(self) -> None:
        self.raw: list[tuple[np.ndarray, int]] = []

    def bytes(self, count: int) -> np.ndarray:
        """A buffer as :func:`buffers.aligned_bytes` gives it."""
        raw = np.full(count + 2 * MARGIN + 64, POISON, np.uint8)
        start = MARGIN + -(raw.ctypes.data + MARGIN) % 64
        self.raw.append((raw, start + count))
        return raw[start : start + count]

    def empty(self, shape: Any, dtype: Any = np.float64) -> np.ndarray:
        """A buffer as ``numpy.empty`` gives it."""
        wanted = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        return self.bytes(count * wanted.itemsize).view(wanted).reshape(shape)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """An array's elements in a buffer of their own."""
        result = self.empty(array.shape, array.dtype)
        result[...] = array
        return result

    def check(self) -> None:
        """Raise ``AssertionError`` where a margin has been written to."""
        for raw, end in self.raw:
            start = MARGIN + -(raw.ctypes.data + MARGIN) % 64
            assert (raw[:start] == POISON).all(), "a kernel has written in front of a buffer"
            assert (raw[end:] == POISON).all(), "a kernel has written behind a buffer"


@contextmanager
def guarded_memory() -> Iterator[Guarded]:
    """Programs that run inside write their results and intermediates to guarded memory, which is checked at the end."""
    memory = Guarded()
    numpy = mock.Mock(wraps=np, empty=memory.empty, spec=np)
    numpy.uint8 = np.uint8
    with mock.patch.object(runtime, "np", numpy), mock.patch.object(buffers, "aligned_bytes", memory.bytes):
        yield memory
    memory.check()
