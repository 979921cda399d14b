"""Loops that take several vectors in a step give what single elements give."""

from collections.abc import Callable

import numpy as np
import pytest

import tracejit as tj


def black_scholes(x: tj.Tensor) -> tuple[tj.Tensor, ...]:
    root = 0.3 * tj.sqrt(tj.abs(x) + 1)
    d = (tj.log(tj.abs(x) / 90) + x) / root
    return tj.exp(-d) * tj.erf(d), tj.sigmoid(d) > 0.5


def powers(x: tj.Tensor) -> tuple[tj.Tensor, ...]:
    return tj.tanh(x) ** 3.7 + tj.sin(x * 1e5), tj.astype(tj.exp(x / 50) * 7, tj.int8)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("function", [black_scholes, powers])
def test_positions_do_not_matter(function: Callable[[tj.Tensor], tuple[tj.Tensor, ...]], dtype: str) -> None:
    x = (np.random.default_rng(3).standard_normal(1000) * 100).astype(dtype)
    if dtype != "int16":
        x[[5, 100, 333, 999]] = np.nan, np.inf, -np.inf, 0.0
    compiled = tj.jit(function)
    pieces = [compiled(tj.asarray(x[first : first + 10])) for first in range(0, 1000, 10)]
    expected = [np.concatenate([piece[number].numpy() for piece in pieces]) for number in range(2)]
    for size in (63, 64, 130, 1000):
        for found, wanted in zip(compiled(tj.asarray(x[:size])), expected, strict=True):
            assert found.numpy().tobytes() == wanted[:size].tobytes()
    rows = compiled(tj.asarray(x.reshape(10, 100))[:, 3:])
    for found, wanted in zip(rows, expected, strict=True):
        assert found.numpy().tobytes() == wanted.reshape(10, 100)[:, 3:].tobytes()
