"""Large buffers are used again, but never while anything still shares them."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.backends.cpu import buffers
from tracejit.ir.types import bfloat16, float32

SIZE = buffers.LARGE


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_free", {})


def fresh(nbytes: int = SIZE) -> np.ndarray:
    return buffers.empty((nbytes // 4,), float32, nbytes)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_freed_memory_is_used_again_and_starts_at_a_cache_line() -> None:
    first = fresh()
    where = address(first)
    del first
    assert address(fresh()) == where
    assert where % buffers.ALIGNMENT == 0


@pytest.mark.parametrize("share", [lambda a: a[8:], lambda a: a.reshape(2, -1).T, np.from_dlpack, memoryview])
def test_memory_is_not_used_again_while_it_is_shared(share: object) -> None:
    first = fresh()
    where, shared = address(first), share(first)  # type: ignore[operator]
    del first
    other = fresh()
    assert address(other) != where
    del shared, other
    assert where in [address(a) for a in [fresh(), fresh()]]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "KEPT", 4 * SIZE)
    arrays = [fresh(SIZE * (1 + i % 3)) for i in range(12)]
    del arrays
    assert 0 < sum(size * len(kept) for size, kept in buffers._free.items()) <= 4 * SIZE


def test_any_dtype_and_shape() -> None:
    array = buffers.empty((2, SIZE // 4), bfloat16, SIZE)
    assert (array.dtype, array.shape, array.flags.writeable) == (bfloat16, (2, SIZE // 4), True)


def test_what_numpy_returns_is_the_output_and_nobody_elses():
    x = tj.tensor(np.random.default_rng(0).standard_normal(1 << 18).astype(np.float32))
    expected = np.sort(x.numpy())
    sort = tj.jit(lambda x: tj.sort(x))
    twice = tj.jit(lambda x: (tj.sort(x), tj.sort(x) * 2, tj.sort(x)[::-1]))
    first, second = sort(x), sort(x)
    first += 1
    np.testing.assert_array_equal(second.numpy(), expected)
    for found, wanted in zip(twice(x), (expected, expected * 2, expected[::-1]), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)
    ordered = np.arange(1 << 18, dtype=np.float64)
    constant = tj.jit(lambda: tj.sort(tj.asarray(ordered)))
    constant().add_(1)
    np.testing.assert_array_equal(constant().numpy(), np.arange(1 << 18))
    np.testing.assert_array_equal(ordered, np.arange(1 << 18))
