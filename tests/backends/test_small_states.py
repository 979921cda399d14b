"""Loops that carry small arrays of different shapes are one kernel of numbers, with the bits of eager code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj


def random(*shape: int, dtype: str = "float64") -> tj.Tensor:
    return tj.asarray(np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype) * 0.3)


def kalman(measured: tj.Tensor, moves: tj.Tensor, noise: tj.Tensor) -> Any:
    def step(state: Any, z: tj.Tensor) -> Any:
        x, covariance = state
        x = moves @ x
        covariance = moves @ covariance @ moves.T + noise
        gain = covariance[:, 0] / (covariance[0, 0] + 0.5)
        x = x + gain * (z - x[0])
        return (x, covariance - gain[:, None] * covariance[0][None]), x[0]

    count = moves.shape[0]
    return tj.scan(step, (tj.zeros(count, dtype=moves.dtype), tj.eye(count, dtype=moves.dtype)), measured)


def normalized(x: tj.Tensor, w: tj.Tensor) -> Any:
    def step(_: Any, state: Any) -> Any:
        x, norm = state
        y = tj.concat([x[1:], x[:1]]) @ w
        y = y / (tj.sqrt(tj.sum(y * y)) + tj.max(tj.abs(y)))
        return y, norm + tj.sum(tj.reshape(y, (2, 2)), axis=0)

    return tj.fori_loop(0, 9, step, (x, x[:2]))


def written(x: tj.Tensor, w: tj.Tensor) -> Any:
    def step(_: Any, state: Any) -> Any:
        x, table = state
        rows = tj.concat([table[1:], x[None]])
        return tj.sum(rows * w, axis=0) * 0.3, tj.pad(rows[:, 1:-1], ((0, 0), (1, 1)), constant_values=0.25)

    return tj.fori_loop(0, 7, step, (x, w * 2))


def leaves(result: Any) -> list[tj.Tensor]:
    return [leaf for part in result for leaf in leaves(part)] if isinstance(result, tuple | list) else [result]


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (kalman, (random(40), random(3, 3), random(3, 3))),
        (kalman, (random(40, dtype="float32"), random(2, 2, dtype="float32"), random(2, 2, dtype="float32"))),
        (normalized, (random(4), random(4, 4))),
        (written, (random(4), random(4, 4))),
    ],
)
def test_bits_are_those_of_eager_code(function: Callable[..., Any], inputs: tuple[tj.Tensor, ...]) -> None:
    compiled = tj.jit(function)
    found, expected = leaves(compiled(*inputs)), leaves(function(*inputs))
    assert all(np.array_equal(one.numpy(), other.numpy()) for one, other in zip(found, expected, strict=True))
    assert "loop_of_numbers" in str(compiled.ir(*inputs, stage="kernels"))


def test_large_states_are_not() -> None:
    inputs = random(10), random(6, 6), random(6, 6)
    assert "loop_of_numbers" not in str(tj.jit(kalman).ir(*inputs, stage="kernels"))
