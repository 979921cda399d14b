"""Complex numbers in kernels: the bits are those that eager code gives, and NumPy's where it has but one answer."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.backends.cpu.runtime import evaluate
from tracejit.backends.planning import plan
from tracejit.backends.program import KernelCall
from tracejit.ir import Builder, Graph, TensorType
from tracejit.ir.primitives import elementwise, exact

from .test_fuzz import threads

PARTS = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 1e-38, 3e38, 1e-45])


def some(shape, dtype=np.complex64, seed=0):
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(dtype)


def special_pairs(dtype):
    """Every pair of numbers whose parts are special."""
    numbers = np.empty((len(PARTS), len(PARTS)), dtype)
    numbers.real, numbers.imag = PARTS[:, None], PARTS
    x, y = np.meshgrid(numbers.ravel(), numbers.ravel())
    return x.ravel(), y.ravel()


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    for one, other in ((found.real, expected.real), (found.imag, expected.imag)):
        np.testing.assert_array_equal(one, other)
        numbers = ~np.isnan(other)
        np.testing.assert_array_equal(np.signbit(one[numbers]), np.signbit(other[numbers]))


FUNCTIONS = {
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "chain": lambda x, y: (x * y + x) / (y * y + 2.0) - 1j,
    "parts": lambda x, y: tj.real(x) * tj.imag(y),
    "conj": lambda x, y: tj.conj(x) - (-y),
    "abs": lambda x, y: tj.abs(x) + tj.abs(y),
    "where": lambda x, y: tj.where((x == y) | (tj.real(x) > 0), x, y),
    "convert": lambda x, y: tj.astype(x, tj.complex128) + tj.real(y),
    "through a library": lambda x, y: tj.exp(x * 0.1) * y,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_compiled_and_eager_code_agree(name, dtype):
    function = FUNCTIONS[name]
    jitted = tj.jit(function)
    for shape in ((3,), (1000,), (0,), (33, 20)):
        x, y = tj.tensor(some(shape, dtype)), tj.tensor(some(shape, dtype, seed=1))
        assert_same_bits(jitted(x, y).numpy(), function(x, y).numpy())
    x, y = map(tj.tensor, special_pairs(dtype))
    assert_same_bits(jitted(x, y).numpy(), function(x, y).numpy())


@pytest.mark.parametrize("count", [1, 2])
def test_views_and_broadcasting(count):
    def function(x, y):
        return x.T * tj.flip(y.T, axis=1) + x[0, 0], x * y[:1] + y[:, 3:4], (x[::2, 1:] * 2).T

    x, y = tj.tensor(some((33, 70))), tj.tensor(some((33, 70), seed=1))
    with threads(count):
        found = tj.jit(function)(x, y)
    for one, other in zip(found, function(x, y), strict=True):
        assert_same_bits(one.numpy(), other.numpy())


@pytest.mark.parametrize("primitive", [elementwise.multiply, elementwise.divide, elementwise.add, exact.complex_])
def test_kernels_are_right_to_the_bit(primitive):
    operands = special_pairs(np.complex64)
    if primitive is exact.complex_:
        operands = [operands[0].real.copy(), operands[1].imag.copy()]
    graph = Graph("one")
    builder = Builder(graph)
    parameters = [builder.parameter(TensorType(x.dtype, x.shape)) for x in operands]
    graph.results = [builder.apply(primitive, parameters, {})]
    (call,) = plan(graph).calls
    assert isinstance(call, KernelCall)
    with np.errstate(all="ignore"):
        assert_same_bits(evaluate(primitive, operands, {}), primitive.evaluate(*operands))


def test_products_do_not_depend_on_how_numbers_lie():
    x, y = some((64, 66)), some((66, 64), seed=1).T
    with np.errstate(all="ignore"):
        assert_same_bits((tj.tensor(x) * tj.tensor(y)).numpy(), (tj.tensor(x) * tj.tensor(y.copy())).numpy())
    np.testing.assert_allclose((tj.tensor(x) * tj.tensor(y)).numpy(), x * y, rtol=1e-5, atol=1e-6)


def test_absolute_values_are_numpys_within_an_ulp():
    z = some((1000,), np.complex128)
    np.testing.assert_array_max_ulp(tj.abs(tj.tensor(z)).numpy(), np.abs(z), 2)
    assert tj.abs(tj.tensor(complex(np.inf, np.nan))).item() == np.inf


def test_half_of_a_complex_number_is_numpys():
    """Kernels have complex numbers, but none of two bytes."""
    z = some((9,))
    with np.errstate(all="ignore"):
        assert_same_bits(evaluate(elementwise.convert, [z], {"dtype": np.dtype(np.float16)}), z.real.astype(np.float16))
