"""The array API standard: values against NumPy, ``jit`` to the bit, gradients against finite differences."""

import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits

F32, F64, I32, I64, U8, BOOL = (np.dtype(name) for name in "float32 float64 int32 int64 uint8 bool".split())
C64, C128 = np.dtype(np.complex64), np.dtype(np.complex128)
FLOATS, INTEGERS, COMPLEX = (F32, F64), (I32, I64, U8), (C64, C128)


@dataclass(frozen=True)
class Row:
    """A function of tensors of the given shapes, and NumPy's for the same."""

    name: str
    call: Callable[..., Any]
    numpy: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...] = FLOATS
    gradient: bool = True
    ulps: float = 0
    low: float = -2.0
    high: float = 2.0
    jit: bool = True
    prepare: Callable[[np.ndarray], np.ndarray] = lambda x: x

    def __str__(self) -> str:
        return self.name

    def operands(self, dtype: np.dtype) -> list[np.ndarray]:
        generator = np.random.default_rng(len(self.name))
        return [self.prepare(self._draw(generator, shape, dtype)) for shape in self.shapes]

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        x = generator.uniform(self.low, self.high, shape)
        if dtype.kind == "c":
            return np.asarray(x + 1j * generator.uniform(self.low, self.high, shape), dtype)
        if dtype == BOOL:
            return np.asarray(x > (self.low + self.high) / 2)
        if dtype.kind in "iu":
            return np.asarray(np.rint(x * 4).clip(0 if dtype.kind == "u" else -99, 99), dtype)
        return np.asarray(x, dtype)


def row(name: str, numpy: Callable[..., Any], *shapes: tuple[int, ...], call: Any = None, **options: Any) -> Row:
    return Row(name, call or getattr(tj, name.split()[0]), numpy, shapes, **options)


def linear(name: str, numpy: Callable[..., Any], *shapes: tuple[int, ...], call: Any = None, **options: Any) -> Row:
    options.setdefault("ulps", 2000)
    return Row(name, call or getattr(tj.linalg, name.split()[0]), numpy, shapes, **options)


def definite(x: np.ndarray) -> np.ndarray:
    return x @ x.mT + 2 * np.eye(x.shape[-1], dtype=x.dtype)


def apart(x: np.ndarray) -> np.ndarray:
    """Invertible, with eigenvalues and singular values that are not close to each other."""
    return x + np.diag(np.arange(2, 2 + 3 * x.shape[-1], 3).astype(x.dtype))


A, V = (3, 4), (5,)
FUNCTION = {"ulps": 4, "dtypes": FLOATS}
ROWS = [
    row("asin", np.arcsin, A, **FUNCTION, low=-0.9, high=0.9),
    row("acos", np.arccos, A, **FUNCTION, low=-0.9, high=0.9),
    row("atan", np.arctan, A, **FUNCTION),
    row("atan2", np.arctan2, A, (4,), **FUNCTION),
    row("sinh", np.sinh, A, **FUNCTION),
    row("cosh", np.cosh, A, **FUNCTION),
    row("asinh", np.arcsinh, A, **FUNCTION),
    row("acosh", np.arccosh, A, **FUNCTION, low=1.2, high=4),
    row("atanh", np.arctanh, A, **FUNCTION, low=-0.9, high=0.9),
    row("log2", np.log2, A, **FUNCTION, low=0.2),
    row("log10", np.log10, A, **FUNCTION, low=0.2),
    row("exp2", np.exp2, A, **FUNCTION),
    row("hypot", np.hypot, A, (4,), **FUNCTION),
    row("logaddexp", np.logaddexp, A, (4,), **FUNCTION, low=0),
    row("floor_divide", np.floor_divide, A, (4,), dtypes=(*FLOATS, *INTEGERS), gradient=False),
    row("remainder", np.remainder, A, (4,), dtypes=(*FLOATS, *INTEGERS), gradient=False),
    row("remainder apart", np.remainder, A, (4,), prepare=lambda x: x + np.sign(x) * 3 if x.ndim == 1 else x),
    row("pow", np.power, A, (4,), dtypes=INTEGERS, low=0, gradient=False),
    row("bitwise_left_shift", np.left_shift, A, (4,), dtypes=INTEGERS, low=0, gradient=False),
    row("bitwise_right_shift", np.right_shift, A, (4,), dtypes=INTEGERS, low=0, gradient=False),
    row("trunc", np.trunc, A, dtypes=(*FLOATS, I32)),
    row("signbit", np.signbit, A, gradient=False),
    row("copysign", np.copysign, A, (4,)),
    row("nextafter", np.nextafter, A, (4,)),
    row("real", np.real, A, dtypes=(*FLOATS, *COMPLEX)),
    row("imag", np.imag, A, dtypes=COMPLEX),
    row("conj", np.conj, A, dtypes=(*FLOATS, *COMPLEX)),
    row("abs", np.abs, A, dtypes=COMPLEX),
    row("exp", np.exp, A, dtypes=COMPLEX),
    row("multiply", np.multiply, A, (4,), dtypes=COMPLEX),
    row("prod", np.prod, A, ulps=8),
    row("prod of zeros", np.prod, A, prepare=lambda x: np.where(np.arange(4) == 1, 0, x)),
    row("prod axis", lambda x: np.prod(x, (0, 2)), (2, 3, 2), call=lambda x: tj.prod(x, (0, 2)), ulps=8),
    row("cumulative_sum", lambda x: np.cumsum(x, 1), A, call=lambda x: tj.cumulative_sum(x, 1), dtypes=(*FLOATS, I64)),
    row("cumulative_prod", lambda x: np.cumprod(x, 1), A, call=lambda x: tj.cumulative_prod(x, 1)),
    row("diff", lambda x: np.diff(x, n=2), A, call=lambda x: tj.diff(x, n=2), dtypes=(*FLOATS, I64)),
    row("sort", np.sort, A, dtypes=(*FLOATS, *INTEGERS)),
    row("sort descending", lambda x: -np.sort(-x, 0), A, call=lambda x: tj.sort(x, 0, descending=True)),
    row("argsort", lambda x: np.argsort(x, stable=True), A, dtypes=(*FLOATS, *INTEGERS), gradient=False),
    row("searchsorted", np.searchsorted, V, A, gradient=False, prepare=lambda x: np.sort(x) if x.ndim == 1 else x),
    row("median", lambda x: np.median(x, 1), A, call=lambda x: tj.median(x, 1), ulps=2),
    row("quantile", lambda x: np.quantile(x, 0.3), A, call=lambda x: tj.quantile(x, 0.3), ulps=8),
    row("count_nonzero", np.count_nonzero, A, dtypes=(*FLOATS, *INTEGERS, BOOL), gradient=False),
    row("isin", np.isin, A, V, dtypes=INTEGERS, gradient=False),
    row("nonzero", lambda x: np.nonzero(x)[1], A, call=lambda x: tj.nonzero(x)[1], dtypes=(I32,), gradient=False),
    row("unique_values", np.unique, A, dtypes=(*FLOATS, I32)),
    row("unique_counts", lambda x: np.unique_counts(x)[1], A, call=lambda x: tj.unique_counts(x)[1], dtypes=(I32,)),
    row("unique_inverse", lambda x: np.unique_inverse(x)[1], A, dtypes=(I32,),
        call=lambda x: tj.unique_inverse(x)[1]),
    row("unique_all", lambda x: np.unique_all(x)[1], A, call=lambda x: tj.unique_all(x)[1], dtypes=(I32,)),
    row("broadcast_arrays", lambda x, y: np.broadcast_arrays(x, y)[1], A, (4,),
        call=lambda *a: tj.broadcast_arrays(*a)[1]),
    row("moveaxis", lambda x: np.moveaxis(x, 0, 2), (2, 3, 4), call=lambda x: tj.moveaxis(x, 0, 2)),
    row("swapaxes", lambda x: np.swapaxes(x, 0, 2), (2, 3, 4), call=lambda x: tj.swapaxes(x, 0, 2)),
    row("repeat", lambda x: np.repeat(x, 3, 0), A, call=lambda x: tj.repeat(x, 3, 0)),
    row("repeat unevenly", lambda x: np.repeat(x, [1, 0, 2], 0), A, call=lambda x: tj.repeat(x, [1, 0, 2], 0)),
    row("tile", lambda x: np.tile(x, (2, 1, 3)), A, call=lambda x: tj.tile(x, (2, 1, 3))),
    row("roll", lambda x: np.roll(x, (1, -2), (0, 1)), A, call=lambda x: tj.roll(x, (1, -2), (0, 1))),
    row("unstack", lambda x: x[:, 1], A, call=lambda x: tj.unstack(x, axis=1)[1]),
    row("split", lambda x: np.split(x, [1, 3], 1)[1], A, call=lambda x: tj.split(x, [1, 3], 1)[1]),
    row("diagonal", lambda x: np.diagonal(x, 1), A, call=lambda x: tj.diagonal(x, 1)),
    row("trace", np.trace, A, ulps=2),
    row("diag", np.diag, V),
    row("tril", lambda x: np.tril(x, 1), A, call=lambda x: tj.tril(x, k=1)),
    row("triu", lambda x: np.triu(x, -1), A, call=lambda x: tj.triu(x, k=-1)),
    row("meshgrid", lambda x, y: np.meshgrid(x, y)[0], V, (3,), call=lambda x, y: tj.meshgrid(x, y)[0]),
    row("vecdot", np.vecdot, A, (4,), ulps=4),
    row("outer", np.outer, V, (3,)),
    row("cross", np.cross, (4, 3), (4, 3)),
    row("tensordot", lambda x, y: np.tensordot(x, y, 1), (2, 3), (3, 4), ulps=8,
        call=lambda x, y: tj.tensordot(x, y, 1)),
    row("einsum", lambda x, y: np.einsum("bij,bjk->bik", x, y), (2, 3, 4), (2, 4, 2), ulps=8,
        call=lambda x, y: tj.einsum("bij,bjk->bik", x, y)),
    row("einsum diagonal", lambda x, y: np.einsum("ii,i->i", x, y), (3, 3), (3,),
        call=lambda *a: tj.einsum("ii,i->i", *a)),
    row("einsum ellipsis", lambda x: np.einsum("...i->...", x), A, call=lambda x: tj.einsum("...i->...", x), ulps=4),
    row("norm", np.linalg.norm, A, ulps=4),
    row("nansum", np.nansum, A, ulps=16, prepare=lambda x: np.where(x > 1, np.nan, x), gradient=False),
    row("nanprod", np.nanprod, A, ulps=16, prepare=lambda x: np.where(x > 1, np.nan, x), gradient=False),
    row("nanmean", np.nanmean, A, ulps=16, prepare=lambda x: np.where(x > 1, np.nan, x), gradient=False),
    row("nanvar", np.nanvar, A, ulps=16, prepare=lambda x: np.where(x > 1, np.nan, x), gradient=False),
    row("nanstd", np.nanstd, A, ulps=16, prepare=lambda x: np.where(x > 1, np.nan, x), gradient=False),
    row("nanmax", np.nanmax, A, prepare=lambda x: np.where(x > 1, np.nan, x), gradient=False),
    row("nanmin", np.nanmin, A, prepare=lambda x: np.where(x < -1, np.nan, x), gradient=False),
    row("bincount", np.bincount, V, dtypes=(I32, I64), low=0, gradient=False),
    row("histogram", lambda x: np.histogram(x, 3)[0], A, call=lambda x: tj.histogram(x, 3)[0], gradient=False),
    row("interp", np.interp, A, V, V, prepare=lambda x: np.sort(x), ulps=16, dtypes=(F64,)),
    linear("inv", np.linalg.inv, (2, 3, 3), prepare=apart),
    linear("det", np.linalg.det, (2, 3, 3), prepare=apart),
    linear("slogdet", lambda x: np.linalg.slogdet(x)[1], (3, 3), prepare=apart, call=lambda x: tj.linalg.slogdet(x)[1]),
    linear("solve", np.linalg.solve, (3, 3), (3, 2), prepare=lambda x: apart(x) if x.shape == (3, 3) else x),
    linear("cholesky", np.linalg.cholesky, (2, 3, 3), prepare=definite, gradient=False),
    linear("cholesky gradient", lambda x: np.linalg.cholesky(definite(x)), (3, 3),
           call=lambda x: tj.linalg.cholesky(x @ x.mT + 2 * tj.eye(3, dtype=x.dtype))),
    linear("eigvalsh", lambda x: np.linalg.eigvalsh(x + x.mT), (3, 3), prepare=apart,
           call=lambda x: tj.linalg.eigvalsh(x + x.mT)),
    linear("eigh projector", lambda x: np.linalg.eigh(x + x.mT)[1][:, :1] ** 2, (3, 3), prepare=apart,
           call=lambda x: tj.square(tj.linalg.eigh(x + x.mT)[1][:, :1])),
    linear("qr", lambda x: np.abs(np.linalg.qr(x)[1]), (4, 3), call=lambda x: tj.abs(tj.linalg.qr(x)[1])),
    linear("qr of Q", lambda x: np.linalg.qr(x)[0] ** 2, (4, 3), call=lambda x: tj.square(tj.linalg.qr(x)[0])),
    linear("svdvals", lambda x: np.linalg.svd(x, compute_uv=False), (4, 3)),
    linear("svd of U", lambda x: np.linalg.svd(x, False)[0] ** 2, (4, 3),
           call=lambda x: tj.square(tj.linalg.svd(x, False)[0])),
    linear("svd of V", lambda x: np.linalg.svd(x, False)[2] ** 2, (3, 4),
           call=lambda x: tj.square(tj.linalg.svd(x, False)[2])),
    linear("pinv", np.linalg.pinv, (4, 3)),
    linear("matrix_rank", np.linalg.matrix_rank, (4, 3), gradient=False),
    linear("matrix_power", lambda x: np.linalg.matrix_power(x, 3), (3, 3), call=lambda x: tj.linalg.matrix_power(x, 3)),
    linear("matrix_norm", np.linalg.norm, A),
    linear("vector_norm", lambda x: np.linalg.norm(x.ravel(), 3), A, call=lambda x: tj.linalg.vector_norm(x, ord=3)),
]  # fmt: skip
FOURIER = [
    Row(f"fft.{name}", getattr(tj.fft, name), getattr(np.fft, name), (shape,), dtypes, ulps=2000)
    for name, shape, dtypes in (
        ("fft", (2, 6), COMPLEX), ("ifft", (2, 5), COMPLEX), ("rfft", (2, 6), FLOATS), ("irfft", (2, 4), COMPLEX),
        ("hfft", (4,), COMPLEX), ("ihfft", (6,), FLOATS), ("fftn", (2, 3), COMPLEX), ("ifftn", (2, 3), COMPLEX),
        ("rfftn", (2, 4), FLOATS), ("irfftn", (2, 3), COMPLEX), ("fftshift", (3, 4), FLOATS),
        ("ifftshift", (3, 4), FLOATS),
    )
]  # fmt: skip
ROWS += FOURIER
CALLS = [(each, dtype) for each in ROWS for dtype in each.dtypes]
calls = pytest.mark.parametrize(("each", "dtype"), CALLS, ids=[f"{each}-{dtype}" for each, dtype in CALLS])


@calls
def test_value_is_numpys(each: Row, dtype: np.dtype) -> None:
    operands = each.operands(dtype)
    with np.errstate(all="ignore"):
        expected = np.asarray(each.numpy(*operands))
    result = each.call(*map(tj.tensor, operands))
    assert result.shape == expected.shape
    if each.ulps == 0:
        np.testing.assert_array_equal(np.asarray(result), expected)
    else:
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(np.asarray(result), expected, rtol=each.ulps * eps, atol=each.ulps * eps)


@calls
def test_jit_gives_the_same_bits(each: Row, dtype: np.dtype) -> None:
    tensors = [tj.tensor(x) for x in each.operands(dtype)]
    jitted = tj.jit(lambda *a: each.call(*a))
    eager = np.asarray(each.call(*tensors))
    for _ in range(2):
        assert same_bits(np.asarray(jitted(*tensors)), eager)


def scalar(each: Row, tensors: list[tj.Tensor]) -> tj.Tensor:
    """A number that every element of the result has another part in."""
    result = each.call(*tensors)
    parts = [tj.real(result), tj.imag(result)] if result.dtype.kind == "c" else [result]
    total = tj.tensor(0.0, dtype=tj.float64)
    for number, part in enumerate(parts):
        total = total + tj.sum(part * tj.cos(tj.arange(part.size, dtype=tj.float64).reshape(part.shape) + number))
    return total


DIFFERENTIABLE = [each for each in ROWS if each.gradient and (F64 in each.dtypes or C128 in each.dtypes)]


@pytest.mark.parametrize("each", DIFFERENTIABLE, ids=str)
def test_gradient_is_the_slope(each: Row) -> None:
    operands = each.operands(F64 if F64 in each.dtypes else C128)
    tensors = [tj.tensor(x, requires_grad=True) for x in operands]
    scalar(each, tensors).backward()
    generator = np.random.default_rng(1)
    for i, x in enumerate(operands):
        direction = generator.uniform(-1, 1, x.shape).astype(x.dtype)
        if x.dtype.kind == "c":
            direction = direction + 1j * generator.uniform(-1, 1, x.shape)
        step = 1e-6
        ends = []
        for sign in (1, -1):
            moved = [tj.tensor(y + sign * step * direction if j == i else y) for j, y in enumerate(operands)]
            ends.append(scalar(each, moved).item())
        slope = (ends[0] - ends[1]) / (2 * step)
        gradient = tensors[i].grad
        found = 0 if gradient is None else np.vdot(np.asarray(gradient), direction).real
        np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-7)


# The namespace ------------------------------------------------------------------------------------------


def test_the_namespace_tells_about_itself() -> None:
    x = tj.tensor([1.0])
    assert x.__array_namespace__() is tj
    assert x.__array_namespace__(api_version="2025.12") is tj
    info = tj.__array_namespace_info__()
    assert info.default_dtypes()["real floating"] == tj.float32
    assert set(info.dtypes(kind="complex floating")) == {"complex64", "complex128"}
    assert x.to_device("cpu") is x
    assert all(hasattr(tj, name) for name in tj.__all__)
    assert tj.__all__ == sorted(tj.__all__)


def test_questions_about_dtypes() -> None:
    assert tj.result_type(tj.int32, tj.float32, 1j) == tj.complex64
    assert tj.result_type(tj.tensor([1], dtype=tj.uint8), 3) == tj.uint8
    assert (tj.ones(1, dtype="float64") * 1j).dtype == tj.complex128 == tj.result_type(tj.float64, 1j)
    assert (tj.ones(1) * 1j).dtype == (tj.tensor([1]) * 1j).dtype == tj.complex64
    assert tj.can_cast(tj.int8, tj.int16)
    assert not tj.can_cast(tj.float64, tj.float32)
    assert tj.isdtype(tj.bfloat16, ("bool", "real floating"))
    assert tj.finfo(tj.bfloat16).eps == 2**-7
    assert tj.iinfo(tj.uint8).max == 255
    with pytest.raises(ValueError, match="integer dtype"):
        tj.iinfo(tj.float32)


def test_shapes_without_values() -> None:
    assert tj.broadcast_shapes((3, 1), (2, 1, 4)) == (2, 3, 4)
    assert tj.broadcast_shapes() == ()
    with pytest.raises(ValueError, match="do not broadcast"):
        tj.broadcast_shapes((2,), (3,))
    x = tj.empty_like(tj.ones(2, 3), dtype=tj.int8)
    assert (x.shape, x.dtype) == ((2, 3), tj.int8)


def test_a_stored_number_is_rounded_once() -> None:
    x = tj.zeros(2, dtype=tj.float64)
    x[0] = 0.1
    x[x == 0] = 16777217
    assert x.tolist() == [0.1, 16777217.0]


def test_a_scalar_mask_selects_all_or_nothing() -> None:
    x = tj.tensor(3.0)
    assert x[tj.tensor(True)].tolist() == [3.0]
    assert x[tj.tensor(False)].tolist() == []
    x[tj.tensor(True)] = 5.0
    assert x.item() == 5.0


def test_values_travel_through_dlpack() -> None:
    x = tj.tensor([[1.0, 2.0]])
    exported = np.from_dlpack(x)
    assert not exported.flags.writeable
    assert same_bits(exported, np.asarray(x))
    source = np.array([1.0, 2.0])
    y = tj.from_dlpack(source)
    source[0] = 5
    assert y.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.tensor([2]) ** -1, ValueError, "negative integer powers"),
        (lambda: tj.linalg.inv(tj.ones(2, 3)), ValueError, r"square matrices, got shape \(2, 3\)"),
        (lambda: tj.linalg.inv(tj.zeros(2, 2)), np.linalg.LinAlgError, "Singular"),
        (lambda: tj.imag(tj.ones(2)), TypeError, "expected a complex tensor, got float32"),
        (lambda: tj.astype(tj.tensor([1j]), tj.float32), TypeError, "real"),
        (lambda: tj.einsum("ij,j->i", tj.ones(2, 3)), ValueError, "names 2 operands, got 1"),
        (lambda: tj.cumulative_sum(tj.ones(2, 2)), ValueError, "axis is needed"),
        (lambda: tj.asarray([1], copy=False), ValueError, "without a copy"),
        (lambda: tj.fft.fft(tj.ones(2), norm="no"), ValueError, "norm must be"),
        (lambda: tj.split(tj.ones(5), 2), ValueError, "not divided"),
        (lambda: tj.quantile(tj.ones(5), 2), ValueError, "between 0 and 1"),
    ],
)
def test_errors_name_what_is_wrong(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_array_api.py" in str(caught.value), "the user's line is named"


def test_buffers_keep_their_dtype() -> None:
    x = tj.asarray(array.array("d", [1, 2]))
    assert (x.dtype, x.tolist()) == (tj.float64, [1.0, 2.0])
    assert tj.asarray(memoryview(b"ab")).dtype == tj.uint8
