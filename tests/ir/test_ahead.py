"""Loops of numbers take several steps at a time, and end where they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as tj


def collatz(n: tj.Tensor) -> tuple[tj.Tensor, tj.Tensor]:
    def step(state: Any) -> Any:
        n, count = state
        return tj.where(n % 2 == 0, n // 2, 3 * n + 1), count + 1

    return tj.while_loop(lambda state: state[0] != 1, step, (n, n * 0))


def root(x: tj.Tensor, tolerance: tj.Tensor) -> tj.Tensor:
    def step(state: Any) -> Any:
        y, _ = state
        change = (y - x / y) / 2
        return y - change, change

    return tj.while_loop(lambda state: tj.abs(state[1]) > tolerance, step, (x, x))[0]


@pytest.mark.parametrize("start", [1, 2, 27, 97, 65536, 1 << 17])
def test_the_number_of_steps(start: int) -> None:
    n = tj.asarray(start)
    assert [int(part) for part in tj.jit(collatz)(n)] == [int(part) for part in collatz(n)]


@pytest.mark.parametrize("value", [0.0, 2.0, 1e30, float("nan"), float("inf")])
def test_bits_are_those_of_eager_code(value: float) -> None:
    x, tolerance = tj.asarray(value, dtype=tj.float64), tj.asarray(1e-9, dtype=tj.float64)
    assert np.array_equal(tj.jit(root)(x, tolerance).numpy(), root(x, tolerance).numpy(), equal_nan=True)


def test_gradients() -> None:
    x, tolerance = tj.asarray(3.0, dtype=tj.float64), tj.asarray(1e-9, dtype=tj.float64)
    found = tj.jit(tj.grad(root))(x, tolerance)
    assert np.array_equal(found.numpy(), tj.grad(root)(x, tolerance).numpy())
