"""Chains of calls that go through blocks of rows, against the ops one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import Tensor

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def program(f: Callable[..., Any], *args: Any) -> str:
    return str(tj.jit(f).ir(*args, stage="kernels")).split("\nprogram ")[1]


def assert_same(f: Callable[..., Any], *arrays: np.ndarray) -> None:
    """Eager and compiled to the bit; of a NaN only that it is one."""
    args = [tj.tensor(array) for array in arrays]
    expected, found = (np.asarray(g(*args)) for g in (f, tj.jit(f)))
    nan = np.isnan(expected)
    np.testing.assert_array_equal(nan, np.isnan(found))
    expected, found = (np.where(nan, 0, array) for array in (expected, found))
    np.testing.assert_array_equal(expected, found)
    assert expected.tobytes() == found.tobytes(), "the signs of zeros differ"


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rows that see no column at all come out as NaN here, or as 0, as the softmax says."""
    rows, columns = np.arange(q.shape[-2])[:, None], np.arange(k.shape[-2])
    mask = tj.asarray((columns > rows - 20) & (columns < rows - 3))
    scores = tj.where(mask, q @ k.mT, -np.inf)
    return F.softmax(scores, -1) @ v


SHAPES = [
    (2, 3, 128, 128, 32),  # blocks of 48, 48 and 32 rows
    (2, 1, 300, 300, 16),  # matrices in parts
    (3, 2, 101, 257, 24),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("f", [causal, full, window])
def test_attention_is_what_it_is_op_by_op(f: Callable[..., Any], shape: tuple[int, ...]) -> None:
    batch, heads, rows, columns, size = shape
    q, k, v = normal(batch, heads, rows, size), normal(batch, heads, columns, size), normal(batch, heads, columns, size)
    assert f"rows of each of {batch * heads} matrices" in program(f, *map(tj.tensor, (q, k, v)))
    assert_same(f, q, k, v)
    q[0, 0, 60, 3], k[-1, -1, columns // 2, 1], v[0, 0, columns - 3, 2] = np.nan, np.inf, -np.inf
    assert_same(f, q * 40, k, v)
    assert_same(f, q, k, -abs(v) * 1e-38)


def test_one_matrix_is_worth_it_where_a_mask_leaves_out_columns() -> None:
    q, k, v = (normal(300, 16) for _ in range(3))
    args = [tj.tensor(x) for x in (q, k, v)]
    assert "rows of each of 1 matrices" in program(causal, *args)
    assert "rows of each" not in program(full, *args)
    assert_same(causal, q, k, v)


def test_columns_that_a_mask_leaves_out_are_not_computed() -> None:
    q, k, v = (tj.tensor(normal(4, 130, 16)) for _ in range(3))
    assert "with 48, 96, 130 of 130 columns" in program(causal, q, k, v)
    assert "columns" not in program(full, q, k, v)
    assert "with 44, 92, 126 of 130 columns" in program(window, q, k, v)
    mask = tj.tensor(np.tri(130, dtype=bool))
    assert "columns" not in program(F.scaled_dot_product_attention, q, k, v, mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [5, 16, 40])
def test_weights_of_zero_are_not_multiplied_unless_that_shows(dtype: type, width: int) -> None:
    q = np.zeros((8, 128, 16), dtype)
    v = normal(8, 128, width).astype(dtype)
    v[0, 100, 2], v[1, 127, width - 1], v[2, 10, 0], v[3, 127] = np.inf, np.nan, -np.inf, np.inf
    v[4, :64] = -np.finfo(dtype).smallest_subnormal  # these add up to -0.0, to which a 0 adds up to 0.0
    assert_same(causal, q, q, v)


def test_what_is_read_elsewhere_too_is_written() -> None:
    def f(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = F.softmax(tj.where(tj.asarray(np.tri(128, dtype=bool)), q @ k.mT, -np.inf), -1)
        return (weights @ v).sum() + (weights.mT @ v).sum() + weights[:, 5, :].sum()

    assert_same(f, normal(8, 128, 16), normal(8, 128, 16), normal(8, 128, 16))


def test_gradients() -> None:
    def f(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        causal(q, k, v).square().sum().backward()
        return tj.stack([x.grad for x in (q, k, v)])

    assert_same(f, normal(2, 2, 160, 16), normal(2, 2, 160, 16), normal(2, 2, 160, 16))


def test_a_training_step() -> None:
    def f(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
        x, w, u = (each.detach().requires_grad_() for each in (x, w, u))
        q, k, v = (x @ w).reshape(4, 128, 3, 2, 16).permute(2, 0, 3, 1, 4)
        y = causal(q, k, v).transpose(1, 2).reshape(4, 128, 32)
        (x + y @ u).square().sum().backward()
        return tj.concat([each.grad.reshape(-1) for each in (x, w, u)])

    assert_same(f, normal(4, 128, 32), normal(32, 96), normal(32, 32))


def test_heads_are_read_where_they_lie() -> None:
    def f(x: Tensor) -> Tensor:
        q, k, v = x.reshape(4, 128, 3, 2, 32).permute(2, 0, 3, 1, 4)
        return causal(q, k, v).transpose(1, 2).reshape(4, 128, 64) * 2

    x = normal(4, 128, 192)
    assert "rows of each of 8 matrices" in program(f, tj.tensor(x))
    assert "copy" not in program(f, tj.tensor(x))
    assert_same(f, x)


def test_within_a_loop() -> None:
    def f(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return tj.scan(lambda c, _: (causal(c, k, v), c[0, 0]), q, None, length=3)[0]

    assert_same(f, normal(8, 128, 16), normal(8, 128, 16), normal(8, 128, 16))


def test_rows_that_are_read_in_two_ways_are_refused() -> None:
    def f(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT
        return tj.tanh(scores + scores.mT) @ v

    args = normal(8, 128, 16), normal(8, 128, 16), normal(8, 128, 16)
    assert "rows of each" not in program(f, *map(tj.tensor, args))
    assert_same(f, *args)


def test_without_a_reduction() -> None:
    def f(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.relu(q @ k.mT) @ v

    args = normal(8, 128, 16), normal(8, 128, 16), normal(8, 128, 16)
    assert "rows of each of 8 matrices" in program(f, *map(tj.tensor, args))
    assert_same(f, *args)


def test_layers_of_few_rows_stay_apart() -> None:
    """Their blocks are too few for the threads to share them evenly."""
    x, w, v = tj.tensor(normal(128, 100)), tj.tensor(normal(100, 600)), tj.tensor(normal(600, 50))
    assert "rows of each" not in program(lambda x: F.relu(x @ w) @ v, x)
