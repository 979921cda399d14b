"""A table of functions: how each is called, and what NumPy says of it.

``checks_of(rows)`` makes the tests of a table: values, types and shapes against NumPy, compiled to the bit, and
derivatives to second order against differences.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tests.ir.random_graphs import same_bits

grad: Any = tj.autograd.grad  # a gradient may be None, here it is not
F32, F64, I32, I64, U8, BOOL = (np.dtype(name) for name in "float32 float64 int32 int64 uint8 bool".split())
C64, C128 = np.dtype(np.complex64), np.dtype(np.complex128)
FLOATS, INTEGERS, COMPLEX = (F32, F64), (I32, I64, U8), (C64, C128)
Shapes = tuple[tuple[int, ...], ...]

ONE: tuple[Shapes, ...] = (((3, 4),), ((),), ((0,),), ((1,),), ((2, 0, 3),), ((2, 17, 3),))
TWO: tuple[Shapes, ...] = (
    ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), ()), ((), (5,)), ((2, 1, 3), (4, 1)), ((0, 3), (3,)),
    ((1,), (0,)),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One way of calling a function.

    ``result``: the result's dtype, or "same", "float" (float32 for integers), "sum" (64 bits for integers), "complex"
    or "real" (of the same width); ``by_value``: its shape depends on values.
    ``ulps``: how far from NumPy in float64, relative to ``slack`` where the result is smaller; 0 for NumPy's very bits.
    ``low`` and ``high`` bound the operands, which ``prepare`` makes fit.
    ``specials``: tested on infinities, NaN and the like too; ``zeros``: NumPy says the signs of zeros.
    """

    name: str
    call: Callable[..., Any]
    numpy: Callable[..., Any]
    shapes: tuple[Shapes, ...]
    dtypes: tuple[np.dtype, ...] = FLOATS
    result: Any = "same"
    ulps: float = 0
    low: float = -2.0
    high: float = 2.0
    gradient: bool = True
    specials: bool = False
    zeros: bool = True
    by_value: bool = False
    slack: float = 0.0
    prepare: Callable[[np.ndarray], np.ndarray] = lambda x: x
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.detail}".strip()

    def operands(self, shapes: Shapes, dtype: np.dtype, seed: int = 0) -> list[np.ndarray]:
        generator = np.random.default_rng([seed, len(shapes)])
        drawn = [self._numbers(generator, shape, dtype) for shape in shapes]
        return [np.asarray(self.prepare(x), x.dtype) for x in drawn]

    def _numbers(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array: Any = generator.uniform(self.low, self.high, shape)
        if dtype == BOOL:
            array = array > (self.low + self.high) / 2
        elif dtype.kind == "c":
            array = array + 1j * generator.uniform(self.low, self.high, shape)
        elif dtype.kind != "f":
            array = np.rint(array * 3).clip(0 if dtype.kind == "u" else -9, 9)
        return np.asarray(array, dtype)

    @property
    def differentiated_in(self) -> np.dtype:
        """float64, or complex128 for a function of complex numbers alone."""
        return C128 if self.dtypes and all(dtype.kind == "c" for dtype in self.dtypes) else F64

    def dtype_of(self, dtype: np.dtype) -> np.dtype:
        if not isinstance(self.result, str):
            return np.dtype(self.result)
        if self.result == "complex":
            return C128 if dtype in (F64, C128) else C64
        if self.result == "real":
            return F64 if dtype in (F64, C128) else F32
        if self.result == "same" or dtype.kind == "f":
            return dtype
        return F32 if self.result == "float" else np.dtype(np.uint64) if dtype.kind == "u" else I64


def resolve(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def row(
    name: str,
    *shapes: Any,
    call: Callable[..., Any] | None = None,
    like: Callable[..., Any] | None = None,
    args: tuple[Any, ...] = (),
    pick: int | Callable[[Any], Any] | None = None,
    many: bool = False,
    **options: Any,
) -> Row:
    """A row for ``tj.name`` (``linalg.name``, ``fft.name``; ``F.name`` is of ``tracejit.nn.functional``).

    ``shapes``: those of the operand, one a way to call it; tuples of shapes for functions of several operands.
    ``like``: NumPy's function, by default the one of the same name.  ``args`` and the keywords that :class:`Row` does
    not know are given to both; ``pick`` chooses what is compared; ``many``: the operands are given as one list.
    """
    keywords = {key: options.pop(key) for key in list(options) if key not in Row.__dataclass_fields__}
    ours = call or resolve(F if name.startswith("F.") else tj, name.removeprefix("F."))
    theirs = like or resolve(np, name)
    choose = pick if callable(pick) else (lambda r: r) if pick is None else lambda r: r[pick]

    def bound(function: Callable[..., Any]) -> Callable[..., Any]:
        if many:
            return lambda *x: choose(function(list(x), *args, **keywords))
        return lambda *x: choose(function(*x, *args, **keywords))

    ways = tuple(way if way and isinstance(way[0], tuple) else (way,) for way in shapes)
    exact = options.get("ulps", 0) == 0
    options.setdefault("dtypes", (*FLOATS, I64, BOOL) if exact else FLOATS)
    detail = ", ".join([*map(str, args), *(f"{k}={v}" for k, v in keywords.items())]).replace("\n", "")
    if not isinstance(ours, types.FunctionType):
        assert callable(ours)
    return Row(name, bound(ours), bound(theirs), ways, **{"detail": detail, **options})


def unary(name: str, like: Callable[..., Any] | None = None, **options: Any) -> Row:
    return row(name, *(way[0] for way in ONE), like=like, **{"specials": True, "dtypes": FLOATS, **options})


def binary(name: str, like: Callable[..., Any] | None = None, **options: Any) -> Row:
    return row(name, *TWO, like=like, **{"specials": True, "dtypes": FLOATS, **options})


def quietly(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(function(*arrays))


# Values ---------------------------------------------------------------------------------------------


def ulps_apart(actual: np.ndarray, expected: np.ndarray, slack: float = 0.0) -> float:
    """How many units in the last place of ``actual``'s dtype the two are apart; infinities and NaN must agree."""
    if actual.dtype.kind == "c":
        assert np.isfinite(expected).all()
        unit = np.spacing(np.maximum(np.abs(expected), slack).astype(actual.real.dtype)).astype(np.float64)
        return float((np.abs(actual - expected) / unit).max(initial=0))
    expected = np.asarray(expected, np.float64)
    finite = np.isfinite(expected) & np.isfinite(actual)
    with np.errstate(over="ignore"):
        rounded = expected.astype(actual.dtype)
    if not np.array_equal(np.where(finite, 0, actual), np.where(finite, 0, rounded), equal_nan=True):
        return math.inf
    scale = np.maximum(np.abs(np.where(finite, rounded, 1)), slack).astype(actual.dtype)
    unit = np.spacing(scale).astype(np.float64)
    distance = np.abs(np.where(finite, actual, 0).astype(np.float64) - np.where(finite, expected, 0)) / unit
    return float(distance.max(initial=0))


def assert_close(row: Row, actual: np.ndarray, operands: Sequence[np.ndarray]) -> None:
    if row.ulps == 0 or actual.dtype.kind not in "fc":
        converted = [x.astype(F32) if row.result == "float" and x.dtype.kind != "f" else x for x in operands]
        expected = quietly(row.numpy, *converted).astype(actual.dtype)
        assert actual.shape == expected.shape
        assert np.array_equal(actual, expected, equal_nan=actual.dtype.kind in "fc")
    else:
        wide = [x.astype(C128 if x.dtype.kind == "c" else F64) for x in operands]
        expected = quietly(row.numpy, *wide)
        assert actual.shape == expected.shape
        assert ulps_apart(actual, expected, row.slack) <= row.ulps


def check_value(row: Row) -> None:
    """Against NumPy: for every dtype and shape, of contiguous operands and of others, eagerly and compiled."""
    for dtype in row.dtypes:
        for shapes in row.shapes:
            operands = row.operands(shapes, dtype)
            tensors = [tj.tensor(x) for x in operands]
            result = row.call(*tensors)
            actual = np.asarray(result)
            assert result.dtype == row.dtype_of(dtype), f"{result.dtype} of {dtype}{shapes}"
            assert result.shape == actual.shape
            assert_close(row, actual, operands)
            compiled = tj.jit(lambda *x: row.call(*x))(*tensors)
            assert same_bits(np.asarray(compiled), actual), f"under jit, {compiled} for {result}"
            views = [tj.flip(tj.tensor(np.flip(x))) for x in operands]  # arrays of negative strides
            assert same_bits(np.asarray(row.call(*views)), actual), "of operands that are not contiguous"


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -1e-45, 3e38, -3e38, 1e-5, 88.0, -104.0, np.inf, -np.inf, np.nan], F32
)


def check_special_values(row: Row) -> None:
    grid = np.meshgrid(*[SPECIAL] * len(row.shapes[0]))
    operands = [axis.reshape(-1) for axis in grid]
    result = np.asarray(row.call(*[tj.tensor(x) for x in operands]))
    assert_close(row, result, operands)
    compiled = tj.jit(row.call)(*[tj.tensor(x) for x in operands])
    assert same_bits(np.asarray(compiled), result)
    if result.dtype.kind == "f" and row.zeros:
        expected = quietly(row.numpy, *operands)
        zeros = (result == 0) & (expected == 0)
        assert np.array_equal(np.signbit(result[zeros]), np.signbit(expected[zeros])), "signs of zeros"


# Gradients ------------------------------------------------------------------------------------------


def loss(row: Row, operands: Sequence[tj.Tensor]) -> tj.Tensor:
    """A scalar that depends on each element of the result in a way of its own."""
    result = row.call(*operands)
    parts = [tj.real(result), tj.imag(result)] if result.dtype.kind == "c" else [result]
    generator = np.random.default_rng(1)
    weights = [tj.tensor(generator.uniform(0.5, 2.0, part.shape)).astype(part.dtype) for part in parts]
    return sum(
        ((part * w).sum() for part, w in zip(parts[1:], weights[1:], strict=True)), (parts[0] * weights[0]).sum()
    )


def slope(row: Row, operands: Sequence[tj.Tensor], directions: Sequence[np.ndarray]) -> tj.Tensor:
    """The derivative of :func:`loss` along some directions, as a function of the operands."""
    gradients = grad(loss(row, operands), operands, create_graph=True, materialize_grads=True)
    terms = (tj.real((tj.conj(g) * tj.tensor(v)).sum()) for g, v in zip(gradients, directions, strict=True))
    return sum(terms, tj.zeros((), dtype=F64))


def by_differences(
    function: Callable[[list[tj.Tensor]], tj.Tensor], operands: Sequence[np.ndarray], directions: Sequence[np.ndarray]
) -> float:
    """The derivative of a function along some directions by central differences."""
    step = 1e-5
    ends = []
    for sign in (1, -1):
        moved = [tj.tensor(x + sign * step * v, requires_grad=True) for x, v in zip(operands, directions, strict=True)]
        ends.append(float(function(moved).detach().item()))
    return (ends[0] - ends[1]) / (2 * step)


def _direction(generator: np.random.Generator, x: np.ndarray) -> np.ndarray:
    direction: Any = generator.standard_normal(x.shape)
    return np.asarray(direction + 1j * generator.standard_normal(x.shape) if x.dtype.kind == "c" else direction)


def check_gradient(row: Row) -> None:
    """To second order against differences in float64; the same bits from a compiled function."""
    for number, shapes in enumerate(row.shapes):
        operands = row.operands(shapes, row.differentiated_in, seed=number)
        first, second = ([_direction(g, x) for x in operands] for g in map(np.random.default_rng, (2, 3)))
        tensors = [tj.tensor(x, requires_grad=True) for x in operands]
        total = loss(row, tensors)
        if not total.requires_grad:
            assert row.name.endswith("_like")
            continue
        gradients = grad(total, tensors, materialize_grads=True)
        for g, x in zip(gradients, operands, strict=True):
            assert (g.dtype, g.shape) == (x.dtype, x.shape)
        along = sum(np.vdot(np.asarray(g), v).real for g, v in zip(gradients, first, strict=True))
        assert along == pytest.approx(by_differences(lambda x: loss(row, x), operands, first), rel=1e-6, abs=1e-8)

        slanted = slope(row, tensors, first)
        expected = by_differences(lambda x, v=first: slope(row, x, v), operands, second)  # type: ignore[misc]
        if slanted.requires_grad:
            curvature = grad(slanted, tensors, materialize_grads=True)
            bent = sum(np.vdot(np.asarray(g), v).real for g, v in zip(curvature, second, strict=True))
            assert bent == pytest.approx(expected, rel=1e-5, abs=1e-6)
        else:
            assert expected == pytest.approx(0, abs=1e-6)

        compiled = tj.jit(lambda *x: grad(loss(row, x), x, materialize_grads=True))(*tensors)
        for one, other in zip(compiled, gradients, strict=True):
            assert same_bits(np.asarray(one), np.asarray(other)), f"the gradient inside a jitted function of {shapes}"


def check_gradient_of_a_jitted_function(row: Row) -> None:
    shapes = row.shapes[0]
    dtype = F32 if row.differentiated_in == F64 else C64
    tensors = [tj.tensor(x, requires_grad=True) for x in row.operands(shapes, dtype)]
    total = loss(row, tensors)
    if not total.requires_grad:
        return
    gradients = grad(total, tensors, materialize_grads=True)
    compiled = grad(tj.jit(lambda *x: loss(row, x))(*tensors), tensors, materialize_grads=True)
    for one, other in zip(compiled, gradients, strict=True):
        assert same_bits(np.asarray(one), np.asarray(other))


def checks_of(rows: Sequence[Row]) -> tuple[Any, ...]:
    """The tests of a table, to be given names that start with ``test_``: values, special ones, two of gradients.

    ``None`` where there is nothing to test.
    """

    def over(check: Callable[[Row], None], chosen: Sequence[Row]) -> Any:
        if not chosen:
            return None

        def test(row: Row) -> None:
            check(row)

        return pytest.mark.parametrize("row", chosen, ids=str)(test)

    differentiable = [row for row in rows if row.gradient]
    return (
        over(check_value, rows),
        over(check_special_values, [row for row in rows if row.specials and F32 in row.dtypes]),
        over(check_gradient, differentiable),
        over(check_gradient_of_a_jitted_function, differentiable),
    )
