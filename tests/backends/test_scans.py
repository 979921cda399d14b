"""Running sums, products, extremes and recurrences in kernels: NumPy's bits."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.backends.cpu.runtime import evaluate
from tracejit.backends.planning import plan
from tracejit.backends.program import KernelCall
from tracejit.ir import Builder, Graph, TensorType
from tracejit.ir.primitives import library

from .test_fuzz import threads

SHAPES = [(2,), (1000,), (7, 33), (130, 70), (2, 300, 3), (9, 257), (1, 5, 1)]
DTYPES = [np.float32, np.float64, np.int8, np.int64, np.uint8]
SCANS = [
    (library.cumulative_sum, {}),
    (library.cumulative_product, {}),
    (library.cumulative_extremum, {"smallest": False}),
    (library.cumulative_extremum, {"smallest": True}),
    (library.linear_recurrence, {}),
]


def some(shape, dtype, seed=0):
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind != "f":
        return generator.integers(-100 if np.dtype(dtype).kind == "i" else 0, 100, shape).astype(dtype)
    x = generator.standard_normal(shape).astype(dtype)
    x.flat[0] = -0.0
    x.flat[x.size // 2] = [np.nan, np.inf, -np.inf][x.size % 3]
    return x


def planned(primitive, operands, **attributes):
    graph = Graph("scan")
    builder = Builder(graph)
    parameters = [builder.parameter(TensorType(x.dtype, x.shape)) for x in operands]
    graph.results = [builder.apply(primitive, parameters, attributes)]
    return plan(graph, specialize=False)


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    if found.dtype.kind == "f":
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize(("primitive", "attributes"), SCANS, ids=lambda p: getattr(p, "name", None))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_give_numpys_bits(primitive, attributes, shape):
    for dtype in DTYPES:
        operands = [some(shape, dtype)]
        if primitive is library.linear_recurrence:
            operands.append(some(shape, dtype, seed=1))
        for axis in range(len(shape)):
            with np.errstate(all="ignore"):
                expected = primitive.evaluate(*operands, axis=axis, **attributes)
            (call,) = planned(primitive, operands, axis=axis, **attributes).calls
            assert isinstance(call, KernelCall)
            assert_same_bits(evaluate(primitive, operands, {"axis": axis, **attributes}), expected)


@pytest.mark.parametrize("count", [1, 2])
def test_views_are_read_as_they_lie(count):
    x = some((70, 67), np.float32)

    @tj.jit
    def f(t):
        turned = tj.cumulative_sum(t.T, axis=0)
        backwards = tj.flip(tj.cumulative_sum(tj.flip(t, axis=1), axis=1), axis=1)
        return turned, backwards, tj.cumulative_prod(t[3:, ::2] * 2, axis=0)

    with threads(count):
        turned, backwards, products = f(tj.tensor(x))
    with np.errstate(all="ignore"):
        assert_same_bits(turned.numpy(), np.cumsum(x.T, 0))
        assert_same_bits(backwards.numpy(), np.flip(np.cumsum(np.flip(x, 1), 1), 1))
        assert_same_bits(products.numpy(), np.cumprod(x[3:, ::2] * 2, 0))


def test_sums_of_powers_neither_overflow_nor_lose_infinities():
    x = tj.tensor([[-np.inf, -np.inf, 0.0, 1000.0, 1000.0, -np.inf], [np.inf, 1.0, np.inf, 0.0, -5.0, 7.0]])
    for function in (tj.logcumsumexp, tj.jit(tj.logcumsumexp)):
        first, second = function(x, 1).numpy()
        np.testing.assert_allclose(first, [-np.inf, -np.inf, 0, 1000, 1000 + np.log(2), 1000 + np.log(2)], rtol=1e-6)
        np.testing.assert_array_equal(second, np.inf)
    y = tj.tensor([-np.inf, 0.0, 1000.0, 1000.0], requires_grad=True)
    tj.logcumsumexp(y, 0)[-1].backward()
    np.testing.assert_allclose(y.grad.numpy(), [0, 0, 0.5, 0.5], atol=1e-4)


def test_none_and_no_steps():
    assert tj.jit(lambda t: tj.cumulative_sum(t, axis=0))(tj.zeros((0, 3))).shape == (0, 3)
    assert evaluate(library.cumulative_sum, [np.ones((3, 0), np.float32)], {"axis": 0}).shape == (3, 0)
    assert tj.jit(lambda t: tj.cumulative_sum(t, axis=1))(tj.ones((3, 1))).tolist() == [[1], [1], [1]]


def test_gradients_go_backwards():
    x = tj.tensor(some((5, 6), np.float64)[1:, :3], requires_grad=True)
    tj.jit(lambda t: (tj.cumulative_sum(t, axis=0) * 2).sum())(x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.arange(8, 0, -2)[:, None] * np.ones((1, 3)))


def test_the_kernels_text_tells_what_is_carried():
    (kernel,) = planned(library.cumulative_sum, [np.ones((3, 4), np.float32)], axis=1).kernels
    assert "carrying %0 from -0.0:f32 {" in kernel.text
    assert "} leaving %2" in kernel.text
