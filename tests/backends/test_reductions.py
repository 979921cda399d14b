"""The order of summation: a compiled sum is the one that the language defines, wherever its elements lie."""

import math

import numpy as np
import pytest

from tests.ir.random_graphs import same_bits, varied_numbers
from tracejit.backends import fusion, planning
from tracejit.backends.cpu import runtime
from tracejit.backends.planning import plan
from tracejit.ir import Builder, Graph, type_of
from tracejit.ir.parser import parse
from tracejit.ir.primitives import reduction
from tracejit.ir.primitives.reduction import BLOCK, LANES, ordered_reduce
from tracejit.ir.types import (
    DType,
    bfloat16,
    complex64,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    short_name,
    uint32,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("first_code_only")

EXTENTS = (0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 100, 4095, 4096, 4097, 8192, 100_000, 300_000)

SEED = 1  # of numbers that are not subnormal: sums of those are exact in any order

# How n reduced elements lie in memory: a shape and the reduced axes.
ARRANGEMENTS = {
    "all": lambda n: ((n,), (0,)),
    "one row": lambda n: ((1, n), (1,)),
    "rows": lambda n: ((3, n), (1,)),
    "columns": lambda n: ((n, 5), (0,)),
    "a column": lambda n: ((n, 1), (0,)),
    "a middle axis": lambda n: ((2, n, 3), (1,)),
    "two axes that are neighbours": lambda n: ((2, *_factors(n)), (1, 2)),
    "two axes that are not": lambda n: ((_factors(n)[0], 2, _factors(n)[1]), (0, 2)),
    "first and third of four axes": lambda n: ((_factors(n)[0], 2, _factors(n)[1], 2), (0, 2)),
    "all of three axes": lambda n: ((*_factors(n), 1), (0, 1, 2)),
}


def _factors(n: int) -> tuple[int, int]:
    """Two extents whose product is n, as near to each other as there are."""
    low = next(f for f in range(math.isqrt(n) or 1, 0, -1) if n % f == 0)
    return low, n // low


def reduced(x: np.ndarray, axes: tuple[int, ...], name: str = "reduce_sum", specialize: bool = True) -> np.ndarray:
    graph = Graph("reduce")
    builder = Builder(graph)
    graph.results = [builder.apply(getattr(reduction, name), [builder.parameter(type_of(x))], {"axes": axes})]
    (result,) = runtime.Executable(plan(graph, specialize=specialize))([x])
    return result


def in_order(x: np.ndarray, axes: tuple[int, ...], name: str = "reduce_sum") -> np.ndarray:
    """The reduction as the language defines it."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    elements = x.transpose([*kept, *axes]).reshape(*(x.shape[axis] for axis in kept), -1 if x.size else 0)
    neutral = getattr(reduction, name).identity(x.dtype)
    if not x.size:
        return np.full(elements.shape[:-1], neutral + 0, x.dtype)  # an empty sum is 0.0, not -0.0
    return ordered_reduce(elements, {"reduce_sum": np.add, "reduce_product": np.multiply}[name], neutral)


@pytest.mark.parametrize("dtype", [float32, float64, int8, int32, int64, uint32], ids=short_name)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_sum(arrangement: str, dtype: DType) -> None:
    for n in EXTENTS:
        shape, axes = ARRANGEMENTS[arrangement](n)
        x = varied_numbers(SEED, shape, dtype)
        expected = in_order(x, axes)
        assert same_bits(reduced(x, axes), expected), f"{n} elements"
        assert same_bits(reduced(x, axes, specialize=False), expected), f"{n} elements, in a kernel for any shape"


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_product(arrangement: str) -> None:
    for n in EXTENTS:
        shape, axes = ARRANGEMENTS[arrangement](n)
        x = np.random.default_rng(n).uniform(0.5, 2.0, shape) ** (100 / max(n, 100))
        for array in (x.astype(float32), x, varied_numbers(SEED, shape, int64)):
            expected = in_order(array, axes, "reduce_product")
            for specialize in (False, True):
                assert same_bits(reduced(array, axes, "reduce_product", specialize), expected), f"{n} elements"


@pytest.mark.parametrize("dtype", [float16, bfloat16, complex64], ids=short_name)
def test_dtypes_without_kernels(dtype: DType) -> None:
    """NumPy reduces them, in the same order, however they lie in memory; halves are added up as float32."""
    for n in EXTENTS[:-2]:
        x = varied_numbers(SEED, (3, n, 2), dtype)
        wide = x.astype(float32) if dtype != complex64 else x
        expected = in_order(wide, (1,)).astype(dtype)
        for array in (x, x.copy(order="F"), x[::-1].copy()[::-1]):
            assert same_bits(reduced(array, (1,)), expected), f"{n} elements"
    assert same_bits(reduced(np.full((1, 3), -0.0, dtype), (0,)), np.full(3, -0.0, dtype))


def test_the_order_shows() -> None:
    """The numbers above are such that another order gives other bits."""
    for n in (3 * LANES, BLOCK + LANES, 3 * BLOCK):
        x = varied_numbers(SEED, (n,), float32)
        assert in_order(x, (0,)) != in_order(x[::-1].copy(), (0,))
        assert in_order(x, (0,)) != x.cumsum()[-1]


def test_the_order_by_hand() -> None:
    x = varied_numbers(SEED, (BLOCK + 40,), float32)

    def block(elements: np.ndarray) -> np.float32:
        lanes = [np.float32(-0.0)] * LANES
        for position, element in enumerate(elements):
            lanes[position % LANES] += element
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[lane] + lanes[lane + half] for lane in range(half)]
        return lanes[0]

    assert reduced(x, (0,)) == block(np.array([block(x[:BLOCK]), block(x[BLOCK:])]))


@pytest.mark.parametrize("dtype", [float32, float64], ids=short_name)
@pytest.mark.parametrize("n", [1, 5, 32, 100, 5000])
def test_signs_of_zeros(n: int, dtype: DType) -> None:
    zeros = np.full((n, 3), -0.0, dtype)
    assert np.signbit(reduced(zeros, (0,))).all()
    assert np.signbit(reduced(zeros, (1,))).all()
    zeros[n // 2] = 0.0
    assert not np.signbit(reduced(zeros, (0,))).any()
    for axes in ((0,), (1,), (0, 1)):
        empty = reduced(np.empty((0, 0), dtype), axes)
        assert empty.shape == (0,) * (2 - len(axes))
    assert not np.signbit(reduced(np.empty((0, n), dtype), (0,))).any()
    assert reduced(np.empty((0, n), dtype), (0,)).tolist() == [0.0] * n


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("name", ["reduce_max", "reduce_min"])
def test_extremes(name: str, arrangement: str) -> None:
    for n in EXTENTS[1:-1]:
        shape, axes = ARRANGEMENTS[arrangement](n)
        for dtype in (float32, int32):
            x = varied_numbers(SEED, shape, dtype)
            expected = getattr(np, name[-3:])(x, axis=axes)
            assert same_bits(reduced(x, axes, name), expected), f"{n} elements"
        flat = x.astype(float32).reshape(-1)
        flat[flat.size // 2] = np.nan
        assert np.isnan(reduced(flat.reshape(shape), axes, name)).sum() == 1, f"{n} elements, one of them NaN"
        infinite = np.full(shape, -np.inf if name == "reduce_max" else np.inf, float32)
        assert same_bits(reduced(infinite, axes, name), infinite.max(axis=axes)), f"{n} infinities"


@pytest.mark.parametrize("n", EXTENTS[1:-1])
def test_logic(n: int) -> None:
    x = np.ones((2, n), bool)
    x[1, -1] = False
    assert reduced(x, (1,), "reduce_and").tolist() == [True, False]
    assert reduced(~x, (1,), "reduce_or").tolist() == [False, True]
    bits = varied_numbers(n, (n, 3), int32)
    assert same_bits(reduced(bits, (0,), "reduce_and"), np.bitwise_and.reduce(bits, axis=0))
    assert same_bits(reduced(bits, (0,), "reduce_or"), np.bitwise_or.reduce(bits, axis=0))


@pytest.mark.parametrize("n", [7, 100, 4097])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_fusing_keeps_the_order(axis: int, n: int) -> None:
    """A sum that shares its kernel with what it reads, other sums and what reads it is still that sum."""
    shape = tuple(n if i == axis else 6 for i in range(3))
    kept = tuple(extent for i, extent in enumerate(shape) if i != axis)
    dimensions = [i for i in range(3) if i != axis]
    text = ",".join(map(str, shape))
    small = ",".join(map(str, kept))
    graph = parse(f"""
        func @f(%x: f32[{text}], %y: f32[{text}]) -> (f32[{small}], f32[{small}], f32[{text}]) {{
          %z = multiply %x, %y : f32[{text}]
          %s = reduce_sum %z {{axes=[{axis}]}} : f32[{small}]
          %t = reduce_sum %x {{axes=[{axis}]}} : f32[{small}]
          %u = add %s, %t : f32[{small}]
          %v = broadcast_in_dim %u {{shape={list(shape)}, dimensions={dimensions}}} : f32[{text}]
          %w = subtract %z, %v : f32[{text}]
          %q = multiply %w, %w : f32[{text}]
          %r = reduce_sum %q {{axes=[{axis}]}} : f32[{small}]
          return %u, %r, %w
        }}
    """)
    x, y = varied_numbers(1, shape, float32), varied_numbers(6, shape, float32)
    u, r, w = runtime.Executable(plan(graph))([x, y])
    assert same_bits(u, in_order(x * y, (axis,)) + in_order(x, (axis,)))
    assert same_bits(w, x * y - np.expand_dims(u, axis))
    assert same_bits(r, in_order(w * w, (axis,)))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_long_rows_are_split_between_threads(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fusion, planning):
        monkeypatch.setattr(module, "LARGE_REDUCTION", 1000)
    graph = parse(f"""
        func @f(%x: f32[{rows},100,150]) -> (f32[{rows}]) {{
          %y = multiply %x, %x : f32[{rows},100,150]
          %s = reduce_sum %y {{axes=[1, 2]}} : f32[{rows}]
          return %s
        }}
    """)
    planned = plan(graph)
    assert [call.extent for call in planned.calls][:1] == [-(-15_000 // BLOCK)]  # type: ignore[union-attr]
    x = varied_numbers(5, (rows, 100, 150), float32)
    (result,) = runtime.Executable(planned)([x])
    assert same_bits(result, in_order(x * x, (1, 2)))


def test_long_rows_over_axes_that_are_no_neighbours() -> None:
    x = varied_numbers(4, (300, 2, 300), float32)
    assert x.size > planning.LARGE_REDUCTION
    assert same_bits(reduced(x, (0, 2)), in_order(x, (0, 2)))
