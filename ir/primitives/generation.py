"""Values made from an index alone: counting and random bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import one_by_one
from ..primitive import Generation
from ..types import TensorType, uint32, uint64

iota = Generation(
    name="iota",
    type_rule=lambda size, dtype: TensorType(dtype, (size,)),
    numpy=lambda size, dtype: np.arange(size, dtype=dtype),
    scalar=lambda s, index, size, dtype: s.convert(index, dtype),
)

# Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(s: Any, counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Four random u32 for one 128-bit counter and 64-bit key, as a scalar program."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for round in range(ROUNDS):
        if round:
            k0, k1 = s.add(k0, WEYL[0]), s.add(k1, WEYL[1])
        high0, low0 = s.multiply_high(c0, MULTIPLIERS[0]), s.multiply(c0, MULTIPLIERS[0])
        high1, low1 = s.multiply_high(c2, MULTIPLIERS[1]), s.multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = s.xor(s.xor(high1, c1), k0), low1, s.xor(s.xor(high0, c3), k1), low0
    return c0, c1, c2, c3


def _random_scalar(s: Any, index: Any, key: Any, offset: Any, size: int) -> Any:
    """Element ``i`` is word ``i % 4`` of the block numbered ``offset + i // 4``."""
    position = s.convert(index, uint64)
    block = s.add(offset, s.shift_right(position, 2))
    lane = s.convert(s.and_(position, 3), uint32)
    zero = s.constant(0, uint32)
    words = philox(
        s,
        (s.convert(block, uint32), s.convert(s.shift_right(block, 32), uint32), zero, zero),
        (s.convert(key, uint32), s.convert(s.shift_right(key, 32), uint32)),
    )
    low = s.select(s.eq(lane, 0), words[0], words[1])
    high = s.select(s.eq(lane, 2), words[2], words[3])
    return s.select(s.lt(lane, 2), low, high)


def _random_numpy(key: np.ndarray, offset: np.ndarray, size: int) -> np.ndarray:
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    block: Any = np.asarray(offset, np.uint64) + np.arange((size + 3) // 4, dtype=np.uint64)
    c0, c1 = block & mask, block >> shift
    c2 = c3 = np.zeros_like(block)
    k0, k1 = int(key) & 0xFFFFFFFF, int(key) >> 32
    for _ in range(ROUNDS):
        product0, product1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1 = (product1 >> shift) ^ c1 ^ np.uint64(k0), product1 & mask
        c2, c3 = (product0 >> shift) ^ c3 ^ np.uint64(k1), product0 & mask
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).reshape(-1)[:size].astype(np.uint32)


def _random_type(key: TensorType, offset: TensorType, size: int) -> TensorType:
    expected = TensorType(uint64, ())
    if key != expected or offset != expected:
        raise TypeError(f"random_bits: key and offset must be u64[], got {key!r} and {offset!r}")
    return TensorType(uint32, (size,))


# ``size`` random u32; the draw uses the blocks ``offset`` to ``offset + ceil(size / 4) - 1`` of the key's stream.
random_bits = Generation(
    name="random_bits",
    type_rule=_random_type,
    numpy=_random_numpy,
    scalar=_random_scalar,
    batch=one_by_one,
)
