"""Loops that read neighbours: right at every extent and alignment, and with nothing read beyond the page."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest

import tracejit as tj


def blurred(x: tj.Tensor) -> tj.Tensor:
    return x[..., :-3] * 0.5 + x[..., 1:-2] - x[..., 3:]


def nine_points(x: tj.Tensor) -> tj.Tensor:
    rows = (x[:-2], x[1:-1], x[2:])
    return sum((row[:, :-2] + 2 * row[:, 1:-1] + row[:, 2:] for row in rows), 0 * x[1:-1, 1:-1])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
@pytest.mark.parametrize("columns", [19, 36, 67, 130])
def test_neighbours_are_shifted_in_registers(dtype: str, columns: int) -> None:
    everything = tj.asarray((np.arange(9 * 200) % 251).reshape(9, 200).astype(dtype))
    for first in (0, 1, 5):
        x = everything[:, first : first + columns] + 0
        for function in (blurred, nine_points):
            assert np.array_equal(tj.jit(function)(x).numpy(), function(x).numpy())


def test_neighbours_of_booleans() -> None:
    alive = tj.asarray(np.arange(1000) % 3 == 0)
    either = tj.jit(lambda x: x[1:] | x[:-1])(alive)
    assert np.array_equal(either.numpy(), alive.numpy()[1:] | alive.numpy()[:-1])


@pytest.mark.parametrize("count", [39, 63, 78, 165])
def test_nothing_is_read_beyond_the_page(count: int) -> None:
    libc, page = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for forbidden in (start, start + 2 * page):
        assert libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), 0) == 0
    functions = [tj.jit(lambda x: x[:-2] - x[1:-1] + x[2:]), tj.jit(lambda x: nine_points(x.reshape(3, -1)))]
    for offset in (page, 2 * page - 4 * count):
        x = np.frombuffer(memory, np.float32, count, offset)
        x[:] = np.arange(count)
        for function in functions:
            expected = function(tj.asarray(x.copy())).numpy()
            assert np.array_equal(function(tj.from_dlpack(x, copy=False)).numpy(), expected)
