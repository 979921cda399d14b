"""Making tensors, their dtypes, random numbers, promotion."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits

from .table import BOOL, C64, C128, F32, F64, I32, I64, U8

pytestmark = pytest.mark.usefixtures("first_code_only")

CREATION: list[tuple[str, Callable[[], Any], np.ndarray]] = [
    ("zeros", lambda: tj.zeros(2, 3), np.zeros((2, 3), F32)),
    ("zeros", lambda: tj.zeros((2, 3), dtype=I64), np.zeros((2, 3), I64)),
    ("zeros", lambda: tj.zeros(()), np.zeros((), F32)),
    ("ones", lambda: tj.ones(3), np.ones(3, F32)),
    ("ones", lambda: tj.ones(0, 2), np.ones((0, 2), F32)),
    ("empty", lambda: tj.empty(2), np.zeros(2, F32)),
    ("full", lambda: tj.full((2,), 7), np.full(2, 7)),
    ("full", lambda: tj.full((2,), 0.1), np.full(2, 0.1, F32)),
    ("full", lambda: tj.full((), True), np.array(True)),
    ("full", lambda: tj.full(2, 1j), np.full(2, 1j, C64)),
    ("full", lambda: tj.full(3, tj.tensor(2.5)), np.full(3, 2.5, F32)),
    ("full", lambda: tj.full(2, np.nan, dtype=I64), np.zeros(2, I64)),
    ("tensor", lambda: tj.tensor([2**70], dtype=F64), np.array([2.0**70])),
    ("eye", lambda: tj.eye(2, 3), np.eye(2, 3, dtype=F32)),
    ("eye", lambda: tj.eye(3, k=-1, dtype=I32), np.eye(3, k=-1, dtype=I32)),
    ("eye", lambda: tj.eye(0), np.eye(0, dtype=F32)),
    ("arange", lambda: tj.arange(5), np.arange(5)),
    ("arange", lambda: tj.arange(2, 9, 3), np.arange(2, 9, 3)),
    ("arange", lambda: tj.arange(5, 0, -2), np.arange(5, 0, -2)),
    ("arange", lambda: tj.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25, dtype=F32)),
    ("arange", lambda: tj.arange(3, 1), np.arange(3, 1)),
    ("arange", lambda: tj.arange(3, dtype=F64), np.arange(3, dtype=F64)),
    ("linspace", lambda: tj.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=F32)),
    ("linspace", lambda: tj.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, False, dtype=F32)),
    ("linspace", lambda: tj.linspace(0, 1, 0), np.zeros(0, F32)),
    ("logspace", lambda: tj.logspace(0, 2, 5), np.logspace(0, 2, 5).astype(F32)),
    ("logspace", lambda: tj.logspace(1, 3, 4, endpoint=False, base=2), np.logspace(1, 3, 4, False, 2).astype(F32)),
    ("geomspace", lambda: tj.geomspace(1, 8, 4, dtype=F64), np.geomspace(1, 8, 4)),
    ("geomspace", lambda: tj.geomspace(1, 8, 3, endpoint=False), np.geomspace(1, 8, 3, False).astype(F32)),
    ("tril_indices", lambda: tj.stack(tj.tril_indices(3)), np.stack(np.tril_indices(3))),
    ("tril_indices", lambda: tj.stack(tj.tril_indices(3, -1, 4)), np.stack(np.tril_indices(3, -1, 4))),
    ("triu_indices", lambda: tj.stack(tj.triu_indices(3, 1)), np.stack(np.triu_indices(3, 1))),
    ("triu_indices", lambda: tj.stack(tj.triu_indices(0)), np.zeros((2, 0), I64)),
    ("tensor", lambda: tj.tensor([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]])),
    ("tensor", lambda: tj.tensor([1, 2.5]), np.array([1, 2.5], F32)),
    ("tensor", lambda: tj.tensor([1, 2.5j]), np.array([1, 2.5j], C64)),
    ("tensor", lambda: tj.tensor([]), np.zeros(0, F32)),
    ("tensor", lambda: tj.tensor(3), np.array(3)),
    ("tensor", lambda: tj.tensor([True, False]), np.array([True, False])),
    ("tensor", lambda: tj.tensor(np.arange(3, dtype=">i4")), np.arange(3, dtype=I32)),
    ("tensor", lambda: tj.tensor([tj.tensor(1.0), tj.tensor(2.0)]), np.array([1, 2], F32)),
    ("asarray", lambda: tj.asarray(3.5), np.array(3.5, F32)),
    ("Parameter", lambda: tj.Parameter(tj.ones(2)), np.ones(2, F32)),
    ("Tensor", lambda: tj.Tensor([1.5]), np.array([1.5], F32)),
]


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in CREATION], ids=[case[0] for case in CREATION])
def test_creation(make: Callable[[], tj.Tensor], expected: np.ndarray) -> None:
    for function in (make, tj.jit(make)):
        made = function()
        assert isinstance(made, tj.Tensor)
        assert same_bits(np.asarray(made.detach()), expected)


PROMOTION = [
    ("f32 + f64", lambda: tj.ones(2) + tj.ones(2, dtype=F64), F64),
    ("f32 + i64", lambda: tj.ones(2) + tj.arange(2), F32),
    ("i32 + i64", lambda: tj.arange(2, dtype=I32) + tj.arange(2), I64),
    ("u8 + i32", lambda: tj.ones(2, dtype=U8) + tj.arange(2, dtype=I32), I32),
    ("bool + i32", lambda: tj.tensor([True, False]) + tj.arange(2, dtype=I32), I32),
    ("f32 + 1", lambda: tj.ones(2) + 1, F32),
    ("f32 + 0.1", lambda: tj.ones(2) + 0.1, F32),
    ("f32 + 1j", lambda: tj.ones(2) + 1j, C64),
    ("f64 + 1j", lambda: tj.ones(2, dtype=F64) + 1j, C128),
    ("f64 + 0.1", lambda: tj.ones(2, dtype=F64) + 0.1, F64),
    ("i32 + 1", lambda: tj.arange(2, dtype=I32) + 1, I32),
    ("i32 + 0.5", lambda: tj.arange(2, dtype=I32) + 0.5, F32),
    ("i64 / i64", lambda: tj.arange(2) / tj.ones(2, dtype=I64), F32),
    ("bool + bool", lambda: tj.tensor([True, False]) + tj.tensor([True, True]), BOOL),
    ("bool * True", lambda: tj.tensor([True, False]) * True, BOOL),
    ("bool + 1", lambda: tj.tensor([True]) + 1, I64),
    ("1 - f32", lambda: 1 - tj.ones(2), F32),
    ("2 ** f32", lambda: 2 ** tj.ones(2), F32),
    ("2.0 / i64", lambda: 2.0 / tj.ones(2, dtype=I64), F32),
    ("f32 0-d + f64", lambda: tj.tensor(1.0) + tj.ones(2, dtype=F64), F64),
    ("f32 + NumPy's f64", lambda: tj.ones(2) + np.float64(1), F32),  # which is a Python float
    ("where(p, 1.0, 2)", lambda: tj.where(tj.tensor([True]), 1.0, 2), F32),
    ("where(p, f64, 2)", lambda: tj.where(tj.tensor([True]), tj.ones(1, dtype=F64), 2), F64),
    ("concat", lambda: tj.concat([tj.ones(1), tj.arange(2)]), F32),
    ("matmul", lambda: tj.ones(2, 2) @ tj.ones(2, 2, dtype=F64), F64),
]


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in PROMOTION], ids=[case[0] for case in PROMOTION])
def test_promotion(make: Callable[[], tj.Tensor], expected: np.dtype) -> None:
    assert make().dtype == expected
    assert tj.jit(make)().dtype == expected
    assert same_bits(np.asarray(tj.jit(make)()), np.asarray(make()))


RANDOM = [
    ("rand", lambda: tj.rand(3, 4), F32, 0.0, 1.0),
    ("rand", lambda: tj.rand(5, dtype=F64), F64, 0.0, 1.0),
    ("randn", lambda: tj.randn(2, 50), F32, -7.0, 7.0),
    ("randint", lambda: tj.randint(-3, 4, (100,)), I64, -3, 3),
]


@pytest.mark.parametrize(("draw", "dtype", "low", "high"), [case[1:] for case in RANDOM], ids=[c[0] for c in RANDOM])
def test_random(draw: Callable[[], tj.Tensor], dtype: np.dtype, low: float, high: float) -> None:
    compiled = tj.jit(draw)
    runs = []
    for function in (draw, compiled):
        tj.manual_seed(3)
        runs.append([np.asarray(function()) for _ in range(3)])
    for one, other in zip(*runs, strict=True):
        assert one.dtype == dtype
        assert low <= one.min() <= one.max() <= high
        assert same_bits(one, other)
    assert not np.array_equal(runs[0][0], runs[0][1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.tensor("a"), TypeError, "expected numbers, got str"),
        (lambda: tj.tensor([[1], [1, 2]]), ValueError, "tensor: "),
        (lambda: tj.zeros(-1), ValueError, "no negative extents"),
        (lambda: tj.zeros(2.5), TypeError, "shape: a shape is made of integers, got 2.5"),
        (lambda: tj.zeros((2, 1.0)), TypeError, r"a shape is made of integers, got \(2, 1.0\)"),
        (lambda: tj.tensor([1, 300], dtype=U8), OverflowError, "Python integer 300 out of bounds for uint8"),
        (lambda: tj.asarray(-1, dtype=U8), OverflowError, "Python integer -1 out of bounds for uint8"),
        (lambda: tj.tensor([2**70]), OverflowError, f"Python integer {2**70} out of bounds for int64"),
        (lambda: tj.zeros_like([1]), TypeError, r"expected a Tensor, an array or a number, got list \[1\]"),
        (lambda: tj.one_hot(tj.ones(2), 3), TypeError, "labels must be integers, got float32"),
        (lambda: tj.zeros(1, dtype="U4"), TypeError, "are not supported"),
        (lambda: tj.arange(0, 1, 0), ValueError, "step must not be zero"),
        (lambda: tj.geomspace(0, 1, 3), ValueError, "geomspace: Geometric sequence cannot include zero"),
        (
            lambda: tj.add(tj.ones(2), tj.ones(3)),
            ValueError,
            r"could not be broadcast together with shapes \(2,\) \(3,\)",
        ),
        (lambda: tj.add(tj.ones(2), "a"), TypeError, "add: expected a Tensor, an array or a number, got str 'a'"),
        (lambda: tj.tensor([2]) ** -1, ValueError, "negative integer powers"),
        (lambda: tj.tensor([1], dtype=U8) + 300, OverflowError, "Python integer 300 out of bounds for uint8"),
        (lambda: tj.imag(tj.ones(2)), TypeError, "expected a complex tensor, got float32"),
        (lambda: tj.polygamma(-1, tj.ones(2)), ValueError, "order must be between 0 and 100, got -1"),
        (lambda: tj.gammaln(tj.tensor([1j])), TypeError, r"lgamma is not defined for c64, got c64\[1\]"),
        (lambda: tj.relu(tj.tensor([1j])), TypeError, "relu is defined for real numbers, got complex64"),
        (lambda: tj.deg2rad(tj.tensor([1j])), TypeError, "deg2rad is defined for real numbers, got complex64"),
        (lambda: tj.heaviside(tj.tensor([1j]), 0), TypeError, "heaviside is defined for real numbers, got complex64"),
        (lambda: tj.reshape(tj.ones(6), (2.0, 3)), TypeError, r"reshape: a shape is made of integers, got \(2.0, 3\)"),
        (lambda: tj.softmax(tj.tensor([1j])), TypeError, "softmax is defined for real numbers, got complex64"),
        (lambda: tj.softmax(tj.ones(2), 1), IndexError, "softmax: axis 1 is out of bounds"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_creation.py" in str(caught.value), "the user's line is named"
