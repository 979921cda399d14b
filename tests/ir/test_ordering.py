"""Sorting by threads, packed keys and ranks gives what NumPy's stable sort gives, to the bit."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.ir.primitives import ordering

SHAPES = [(1500,), (300, 11), (6, 7, 30), (2, 700), (600, 2), (1,), (0,), (3, 0)]


def stable_order(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    if not descending:
        return np.argsort(x, axis=axis, stable=True)
    return np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, stable=True), axis)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    """Of the whole range; and few different ones, among them what is special."""
    kind = np.dtype(dtype)
    if kind.kind in "fc":
        few = np.array([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, -np.nan], dtype)
        return [rng.standard_normal(shape).astype(dtype), rng.choice(few, shape), rng.choice(few[2:6], shape)]
    whole = rng.integers(0, 256, (*shape, kind.itemsize), np.uint8).view(dtype)[..., 0]
    return [whole % 2 == 0 if kind.kind == "b" else whole, rng.integers(0, 4, shape).astype(dtype)]


@pytest.mark.parametrize(
    "dtype", "bool int8 uint16 int32 uint32 int64 uint64 float16 float32 float64 complex64".split()
)
def test_order_is_stable(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "SHARED_SIZE", 1 << 10)
    monkeypatch.setattr(ordering, "_processors", lambda: 3)
    rng = np.random.default_rng(8)
    for shape in SHAPES:
        for x in numbers(rng, shape, dtype):
            for axis in range(len(shape)):
                for descending in (False, True):
                    expected, before = stable_order(x, axis, descending), x.tobytes()
                    assert np.array_equal(ordering.argsorted(x, axis, descending), expected)
                    found = ordering.sorted_alike(x, axis, descending)
                    assert found.tobytes() == np.take_along_axis(x, expected, axis).tobytes()
                    assert x.tobytes() == before


def test_several_threads_share_a_row() -> None:
    x = np.random.default_rng(9).standard_normal(ordering.SHARED_SIZE + 5).astype(np.float32)
    assert np.array_equal(ordering.sorted_alike(x, 0), np.sort(x))
    assert np.array_equal(x[ordering.argsorted(x, 0)], np.sort(x))


def test_no_more_threads_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[int] = []
    monkeypatch.setattr(ordering, "_all_at_once", lambda work: shared.append(len(work)))
    monkeypatch.setattr(ordering, "_processors", lambda: 3)
    monkeypatch.setattr(ordering, "most_threads", [ordering.most_threads[0]])
    number = tj.get_num_threads()
    for allowed in (1, 2):
        tj.set_num_threads(allowed)
        tj.sort(tj.zeros(ordering.SHARED_SIZE))
    tj.set_num_threads(number)
    assert shared == [2]
