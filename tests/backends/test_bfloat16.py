"""Products of bfloat16 keep their order of summation too, where the processor multiplies pairs."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

pytest.importorskip("llvmlite.binding")

import tracejit as tj
from tests.backends.test_contraction import FLOAT32, fma_of, guarded
from tracejit.backends.cpu.runtime import evaluate
from tracejit.backends.cpu.target import host_target
from tracejit.backends.cpu.vectors import DEPTH
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.types import bfloat16

multiplies = pytest.mark.skipif(not host_target().multiplies_bfloat16, reason="no AVX512-BF16 on this processor")


def oracle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The definition: of each pair of k the second one first."""
    fma, k = fma_of(FLOAT32), a.shape[1]
    a, b = a.astype(np.float32), b.astype(np.float32)
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for first in range(0, k, 2 * DEPTH):
        end, block = min(first + 2 * DEPTH, k), np.zeros_like(total)
        for pair in range(first, end, 2):
            for number in range(min(pair + 1, end - 1), pair - 1, -1):
                block = fma(a[:, number, None], b[None, number], block).astype(np.float32)
        total = block if first == 0 else total + block
    return total.astype(bfloat16)


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(bfloat16)


def both_ways(function: Callable[..., tj.Tensor], *arrays: np.ndarray) -> np.ndarray:
    """What a function gives, eagerly and compiled."""
    tensors = [tj.tensor(array) for array in arrays]
    eager, compiled = function(*tensors).numpy(), tj.jit(function)(*tensors).numpy()
    assert eager.dtype == compiled.dtype == bfloat16
    assert eager.tobytes() == compiled.tobytes()
    return eager


@multiplies
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        (3, 5, 7),
        (12, 8, 32),
        (13, 33, 40),
        (13, 600, 20),
        (2, 1030, 3),
        (40, 7, 1),
        (5, 513, 17),
        (1, 30, 20),
        (1, 6, 1100),
        (4, 2600, 33),
        (8, 1062, 37),
        (6, 2048, 16),
        (9, 64, 48),
        (40, 2070, 1),
    ],
    ids=str,
)
def test_the_order_of_summation_is_the_documented_one(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rng = np.random.default_rng(m + k + n)
    for lhs_transposed, rhs_transposed in product((False, True), repeat=2):
        a = numbers(rng, *((k, m) if lhs_transposed else (m, k)))
        b = numbers(rng, *((n, k) if rhs_transposed else (k, n)))

        def multiply(
            a: tj.Tensor, b: tj.Tensor, left: bool = lhs_transposed, right: bool = rhs_transposed
        ) -> tj.Tensor:
            return (a.T if left else a) @ (b.T if right else b)

        expected = oracle(a.T if lhs_transposed else a, b.T if rhs_transposed else b)
        assert both_ways(multiply, a, b).tobytes() == expected.tobytes()


@pytest.mark.parametrize("batches", [(3, 3), (1, 4)])
def test_batches_slices_and_many_rows(batches: tuple[int, int]) -> None:
    """On any processor; more rows than share a panel, and more columns than a panel has."""
    rng = np.random.default_rng(5)
    a, b = numbers(rng, batches[0], 14, 9), numbers(rng, batches[1], 19, 9)
    found = both_ways(lambda a, b: a[:, 1:, 1:] @ b.mT[:, 1:, ::2], a, b)
    for number in range(max(batches)):
        left, right = a[min(number, batches[0] - 1)], b[min(number, batches[1] - 1)]
        single = both_ways(lambda a, b: a @ b, left[1:, 1:], np.ascontiguousarray(right.T[1:, ::2]))
        assert found[number].tobytes() == single.tobytes()
    a, b = numbers(rng, 1200, 20), numbers(rng, 20, 900)
    whole = both_ways(lambda a, b: a @ b, a, b)
    assert whole[1190:, 895:].tobytes() == both_ways(lambda a, b: a @ b, a[1190:], b[:, 895:]).tobytes()


@multiplies
def test_sums_gradients_and_empty_products() -> None:
    rng = np.random.default_rng(6)
    a, b = (tj.tensor(numbers(rng, 6, 6)) for _ in range(2))
    bias = tj.tensor(numbers(rng, 6))
    assert tj.jit(lambda a, b: a @ b + bias)(a, b).numpy().tobytes() == (a @ b + bias).numpy().tobytes()
    gradient = tj.grad(lambda a: (a @ b).sum())
    assert tj.jit(gradient)(a).numpy().tobytes() == gradient(a).numpy().tobytes()
    assert both_ways(lambda a, b: a @ b, numbers(rng, 3, 0), numbers(rng, 0, 2)).tolist() == [[0, 0]] * 3
    assert both_ways(lambda a, b: a @ b, numbers(rng, 0, 4), numbers(rng, 4, 2)).shape == (0, 2)


@multiplies
def test_zeros_infinities_nans_and_subnormals() -> None:
    """Subnormal numbers are zeros, and so is a sum that would be one."""
    one, small, least = np.eye(2, dtype=bfloat16), 2.0**-130, 2.0**-126
    a = np.array([[small, np.inf], [np.nan, least], [-0.0, 1.0]], bfloat16)
    found = both_ways(lambda a, b: a @ b, a[:, :1], one[:1, :1])[:, 0]
    assert [found[0], found[2]] == [0, 0]
    assert np.isnan(found[1])
    assert both_ways(lambda a, b: a @ b, a[:1, 1:], one[:1, :1])[0, 0] == np.inf
    half = np.full((1, 1), 0.5, bfloat16)
    assert both_ways(lambda a, b: a @ b, a[1:2, 1:], half)[0, 0] == 0
    assert both_ways(lambda a, b: a @ b, a[1:2, 1:], one[:1, :1])[0, 0] == least


@multiplies
def test_nothing_is_read_beyond_the_operands() -> None:
    rng = np.random.default_rng(7)
    for m, k, n in ((13, 33, 40), (2, 1, 3), (5, 14, 31)):
        a, b = numbers(rng, m, k), numbers(rng, k, n)
        expected = both_ways(lambda a, b: a @ b, a, b)
        with guarded(2 * m * k) as left, guarded(2 * k * n) as right:
            x, y = left.view(bfloat16).reshape(m, k), right.view(bfloat16).reshape(k, n)
            x[...], y[...] = a, b
            assert evaluate(dot, (x, y), {}).tobytes() == expected.tobytes()
            del x, y, left, right


@multiplies
@pytest.mark.parametrize("m", [1, 4, 7])
def test_few_rows_read_b_as_it_lies(m: int) -> None:
    """By rows or by columns; parts of them, and batches; nothing beyond them; signs of zeros and subnormal numbers."""
    rng = np.random.default_rng(m)
    k, n = 2094, 37
    a, b = numbers(rng, m, k), numbers(rng, k, n)
    b[:, 0], b[:, 1] = 0, 2.0**-126
    a[:, :8] = -(2.0**-20)
    a[0] = -(2.0**-20)
    with guarded(2 * m * k) as left, guarded(2 * k * n) as right:
        x, y = left.view(bfloat16).reshape(m, k), right.view(bfloat16).reshape(n, k)
        x[...], y[...] = a, b.T
        turned = evaluate(dot, (x, y), {"transpose_rhs": True})
        y = right.view(bfloat16).reshape(k, n)
        y[...] = b
        assert evaluate(dot, (x, y), {}).tobytes() == turned.tobytes()
        del x, y, left, right
    assert turned[0, 1] == 0
    assert np.signbit(turned[0, 1])
    wide = np.zeros((2, k + 3, n + 5), bfloat16)
    wide[:, 1:-2, 2:-3] = b
    found = both_ways(lambda a, b: a @ b[:, 1:-2, 2:-3], a, wide)
    found_turned = both_ways(lambda a, b: a @ b.mT[:, 1:-2, 2:-3], a, np.ascontiguousarray(wide.mT))
    assert found[0].tobytes() == found[1].tobytes() == found_turned[1].tobytes() == turned.tobytes()
    padded = np.concatenate([a, np.zeros((9, k), bfloat16)])  # many rows: panels of B are packed
    assert both_ways(lambda a, b: a @ b, padded, b)[:m].tobytes() == turned.tobytes()
