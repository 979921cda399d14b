"""Products, decompositions, Fourier transforms, and what else goes over a whole axis: convolutions, differences."""

from typing import Any

import numpy as np
import pytest

import tracejit as tj

from .table import BOOL, C64, COMPLEX, F64, FLOATS, I64, Row, checks_of, row

pytestmark = pytest.mark.usefixtures("first_code_only")

PRODUCT = {"dtypes": (*FLOATS, I64), "ulps": 64, "low": 0.5}
SQUARES = ((3, 3), (2, 3, 3), (1, 1), (0, 3, 3))


def apart(x: np.ndarray) -> np.ndarray:
    """Square matrices made invertible, with eigenvalues and singular values that are not close to each other."""
    n = x.shape[-1] if x.ndim else 0
    return x + np.diag(np.arange(2, 2 + 3 * n, 3).astype(x.dtype)) if x.ndim > 1 and x.shape[-2] == n else x


def definite(x: Any) -> Any:
    namespace = tj if isinstance(x, tj.Tensor) else np
    return x @ namespace.conj(x.mT) + 2 * namespace.eye(x.shape[-1], dtype=x.dtype)


def linear(name: str, *shapes: Any, **options: Any) -> Row:
    return row(name, *shapes, **{"ulps": 2000, "slack": 1.0, "prepare": apart, **options})


def transform(name: str, *shapes: Any, **options: Any) -> Row:
    return row(f"fft.{name}", *shapes, **{"ulps": 200, "slack": 1.0, **options})


ROWS = [
    # Products
    *[
        row("matmul", *ways, **PRODUCT, detail=detail)
        for detail, ways in (
            ("matrices", (((3, 4), (4, 5)), ((1, 17), (17, 1)), ((33, 40), (40, 18)), ((0, 3), (3, 2)))),
            ("vectors", (((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)))),
            ("stacks", (((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)))),
            ("nothing", (((3, 0), (0, 5)), ((2, 0, 3), (3, 4)), ((0, 2, 3), (0, 3, 4)))),
        )
    ],
    row("matmul", ((4, 3), (5, 4)), call=lambda x, y: tj.matmul(x.T, y.T), like=lambda x, y: x.T @ y.T, ulps=64,
        low=0.5,
        detail="transposed"),
    row("matmul", ((3, 4), (4, 2)), dtypes=COMPLEX, ulps=64, slack=1.0, detail="complex"),
    row("linalg.matmul", ((3, 4), (4, 5)), **PRODUCT, like=np.matmul),
    row("dot", ((4,), (4,)), ((3, 4), (4,)), ((2, 3, 4), (5, 4, 2)), ((), (3,)), ((0,), (0,)), **PRODUCT),
    row("inner", ((4,), (4,)), ((3, 4), (2, 4)), ((), (3,)), **PRODUCT),
    row("vdot", ((4,), (4,)), ((2, 3), (2, 3)), **PRODUCT),
    row("vdot", ((4,), (4,)), dtypes=COMPLEX, ulps=64, slack=1.0, detail="complex"),
    row("vecdot", ((3, 4), (3, 4)), ((4,), (3, 4)), ((3, 0), (3, 0)), **PRODUCT),
    row("linalg.vecdot", ((4, 3), (4, 3)), axis=0, **PRODUCT),
    row("outer", ((3,), (4,)), ((0,), (2,)), dtypes=(*FLOATS, I64)),
    row("linalg.outer", ((3,), (4,)), dtypes=(*FLOATS, I64)),
    row("kron", ((2,), (3,)), ((2, 2), (1, 3)), ((2, 2), (3,)), ((), (3,)), ((0,), (3,)), dtypes=(*FLOATS, I64)),
    row("cross", ((4, 3), (4, 3)), ((3,), (3,)), ((3,), (2, 3)), **PRODUCT | {"slack": 1.0}),
    row("linalg.cross", ((3, 4), (3, 4)), axis=0, **PRODUCT | {"slack": 1.0}),
    row("tensordot", ((2, 3, 4), (3, 4, 5)), ((3, 0), (3, 0)), **PRODUCT),
    row("tensordot", ((2, 3), (3, 4)), axes=1, **PRODUCT),
    row("tensordot", ((2, 3), (4,)), axes=0, **PRODUCT),
    row("linalg.tensordot", ((2, 3, 4), (4, 5, 2)), axes=([0, 2], [2, 0]), **PRODUCT),
    *[
        row("einsum", ways, call=lambda *x, s=subscripts: tj.einsum(s, *x), like=lambda *x, s=subscripts: np.einsum(s,
            *x),
            **PRODUCT, detail=subscripts)
        for subscripts, ways in (
            ("bij,bjk->ik", ((2, 3, 4), (2, 4, 5))), ("ii,i->i", ((3, 3), (3,))), ("...i->...", ((3, 4),)), ("ij->",
                ((3, 4),)),
            ("i,j", ((3,), (4,))), ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 2))), ("...ij,...jk", ((2, 3, 4), (4, 5))),
            ("ji", ((3, 4),)), ("i,i,i", ((3,), (3,), (3,))), ("ij,j->ij", ((3, 4), (4,))), (",i->i", ((), (3,))),
        )
    ],
    # Matrices
    linear("linalg.inv", *SQUARES),
    linear("linalg.det", *SQUARES),
    linear("linalg.slogdet", (3, 3), (2, 3, 3), pick=1),
    linear("linalg.slogdet", (3, 3), (2, 3, 3), pick=0, gradient=False),
    linear("linalg.solve", ((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (3, 2))),
    linear("linalg.cholesky", (3, 3), (2, 3, 3), (1, 1), call=lambda x: tj.linalg.cholesky(definite(x)),
           like=lambda x: np.linalg.cholesky(definite(x))),
    linear("linalg.cholesky", (3, 3), upper=True, prepare=definite, gradient=False),
    linear("linalg.eigvalsh", (3, 3), (2, 3, 3), call=lambda x: tj.linalg.eigvalsh(x + x.mT),
           like=lambda x: np.linalg.eigvalsh(x + x.mT)),
    linear("linalg.eigvalsh", (3, 3), args=("U",), gradient=False, prepare=lambda x: x),
    linear("linalg.eigh", (3, 3), call=lambda x: tj.square(tj.linalg.eigh(x + x.mT)[1][:, :1]),
           like=lambda x: np.linalg.eigh(x + x.mT)[1][:, :1] ** 2),
    linear("linalg.eig", (3, 3), call=lambda x: tj.sort(tj.real(tj.linalg.eig(x)[0])),
           like=lambda x: np.sort(np.linalg.eig(x)[0].real)),
    linear("linalg.eigvals", (3, 3), call=lambda x: tj.sort(tj.abs(tj.linalg.eigvals(x))),
           like=lambda x: np.sort(abs(np.linalg.eigvals(x)))),
    linear("linalg.qr", (4, 3), (2, 3, 3), (3, 4), call=lambda x: tj.abs(tj.linalg.qr(x)[1]),
           like=lambda x: np.abs(np.linalg.qr(x)[1]), prepare=lambda x: x),
    linear("linalg.qr", (4, 3), call=lambda x: tj.square(tj.linalg.qr(x)[0]), like=lambda x: np.linalg.qr(x)[0] ** 2,
           detail="of Q"),
    linear("linalg.svd", (4, 3), call=lambda x: tj.square(tj.linalg.svd(x, False)[0]),
           like=lambda x: np.linalg.svd(x, False)[0] ** 2),
    linear("linalg.svd", (3, 4), call=lambda x: tj.square(tj.linalg.svd(x, False)[2]),
           like=lambda x: np.linalg.svd(x, False)[2] ** 2, detail="of V"),
    linear("linalg.svdvals", (4, 3), (2, 3, 3)),
    linear("linalg.pinv", (4, 3), (3, 3), (0, 3)),
    linear("linalg.matrix_rank", (4, 3), (2, 3, 3), result=I64, gradient=False),
    *[
        linear("linalg.matrix_power", (3, 3), (2, 2, 2), args=(n,), ulps=20_000, gradient=n != 0) for n in (3, 0, -2, 1)
    ],
    *[
        linear("linalg.matrix_norm", (3, 4), (2, 3, 3), ord=kind, like=lambda x, ord: np.linalg.norm(x, ord, (-2, -1)))
        for kind in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    ],
    *[
        linear("linalg.vector_norm", (7,), (3, 4), ord=kind, prepare=lambda x: x, gradient=kind != 0)
        for kind in (0, 1, 2, 3, 2.5, np.inf, -np.inf)
    ],
    linear("linalg.vector_norm", (3, 4), (), axis=(), like=lambda x, axis: np.abs(x), ulps=4, detail="over nothing"),
    linear("linalg.vector_norm", (3, 4), axis=0, keepdims=True, prepare=lambda x: x),
    row("norm", (3, 4), (5,), (), like=np.linalg.norm, ulps=8),
    row("norm", (3, 4), args=(3, 0), like=np.linalg.norm, ulps=16, low=0.1),
    row("norm", (3, 4), args=("fro",), like=np.linalg.norm, ulps=8),
    row("linalg.norm", (3, 4), (5,), (), (2, 3, 4), like=np.linalg.norm, ulps=8),
    row("linalg.norm", (3, 4), axis=1, like=np.linalg.norm, ulps=8),
    row("linalg.norm", (3, 4), args=(1,), like=np.linalg.norm, ulps=8),
    row("linalg.norm", (2, 3, 4), args=(np.inf, (2, 0), True), like=np.linalg.norm, ulps=8),
    row("linalg.norm", (2, 3, 3), args=("nuc",), axis=(0, -1), like=np.linalg.norm, ulps=32),
    row("linalg.diagonal", (2, 3, 4), offset=1, like=lambda x, offset: x.diagonal(offset, -2, -1)),
    row("linalg.trace", (2, 3, 3), like=lambda x: np.linalg.trace(x), ulps=8, slack=1.0),
    row("linalg.matrix_transpose", (2, 3, 4)),
    *[
        linear(name, (3, 3), dtypes=COMPLEX, detail="complex", **options)
        for name, options in (
            ("linalg.inv", {}), ("linalg.det", {}), ("linalg.matrix_norm", {"result": "real", "like": np.linalg.norm}),
            ("linalg.svdvals", {"result": "real"}),
        )
    ],
    linear("linalg.solve", ((3, 3), (3, 2)), dtypes=COMPLEX, detail="complex"),
    linear("linalg.cholesky", (3, 3), call=lambda x: tj.linalg.cholesky(definite(x)), dtypes=COMPLEX, detail="complex",
           like=lambda x: np.linalg.cholesky(definite(x))),
    # Fourier transforms
    transform("fft", (2, 6), (5,), dtypes=COMPLEX),
    transform("fft", (2, 6), (1,), result="complex", detail="of real numbers"),
    transform("fft", (6,), n=8, axis=0, norm="ortho", dtypes=COMPLEX),
    transform("fft", (6,), n=3, norm="forward", dtypes=COMPLEX),
    transform("ifft", (2, 6), (5,), dtypes=COMPLEX),
    transform("ifft", (2, 6), axis=0, norm="forward", dtypes=COMPLEX),
    transform("rfft", (2, 6), (5,), result="complex"),
    transform("rfft", (6, 2), n=4, axis=0, result="complex"),
    transform("irfft", (2, 4), dtypes=COMPLEX, result="real"),
    transform("irfft", (2, 4), n=5, norm="ortho", dtypes=COMPLEX, result="real"),
    transform("hfft", (4,), (2, 3), dtypes=COMPLEX, result="real"),
    transform("ihfft", (6,), (2, 5), result="complex"),
    transform("fftn", (2, 3), (2, 3, 2), dtypes=COMPLEX),
    transform("fftn", (2, 3, 4), s=(3, 3), axes=(0, 2), dtypes=COMPLEX),
    transform("ifftn", (2, 3), dtypes=COMPLEX),
    transform("rfftn", (2, 4), (3, 2, 3), result="complex"),
    transform("irfftn", (2, 3), dtypes=COMPLEX, result="real"),
    transform("irfftn", (3, 3), s=(2, 5), axes=(0, 1), dtypes=COMPLEX, result="real"),
    row("fft.fftshift", (3, 4), (5,), dtypes=FLOATS),
    row("fft.fftshift", (3, 4), axes=1, dtypes=FLOATS),
    row("fft.ifftshift", (3, 4), (5,), dtypes=FLOATS),
    row("fft.ifftshift", (3, 4), axes=(0,), dtypes=FLOATS),
    # Convolutions
    *[
        row(name, ((7,), (3,)), ((3,), (7,)), ((4,), (4,)), ((5,), (2,)), ((1,), (4,)), mode=mode, dtypes=(*FLOATS,
            I64), ulps=64,
            slack=1.0)
        for name in ("convolve", "correlate")
        for mode in ("full", "same", "valid")
    ],
    row("correlate", ((5,), (3,)), ((2,), (4,)), mode="full", dtypes=COMPLEX, ulps=64, slack=1.0, detail="complex"),
    row("convolve", ((5,), (3,)), dtypes=(BOOL,), gradient=False),
    # Differences, slopes, integrals
    row("diff", (3, 5), (4,), (1,), (2, 0), dtypes=(*FLOATS, I64, BOOL)),
    row("diff", (3, 5), n=2, axis=0),
    row("diff", (3, 5), args=(2, 0)),
    row("diff", (3, 5), n=0, dtypes=FLOATS),
    row("diff", (3, 5), prepend=0.5, append=[[1.0, 2.0]] * 3, dtypes=FLOATS,
        call=lambda x, prepend, append: tj.diff(x, prepend=prepend, append=tj.tensor(append).astype(x.dtype)),
        like=lambda x, prepend, append: np.diff(x, prepend=x.dtype.type(prepend), append=np.array(append, x.dtype))),
    row("ediff1d", (3, 4), (5,), (1,), dtypes=(*FLOATS, I64)),
    row("ediff1d", (5,), args=([1.0, 2.0], 3.0), dtypes=FLOATS,
        call=lambda x, end, begin: tj.ediff1d(x, tj.tensor(end).astype(x.dtype), tj.tensor(begin).astype(x.dtype)),
        like=lambda x, end, begin: np.ediff1d(x, np.array(end, x.dtype), x.dtype.type(begin))),
    row("gradient", (5,), (2,), ulps=16, slack=1.0),
    row("gradient", (3, 4), (3, 4, 2), pick=1, ulps=16, slack=1.0),
    row("gradient", (3, 4), args=(0.5, 2.0), pick=0, edge_order=2, ulps=16, slack=1.0),
    row("gradient", (3, 5), args=(np.array([0.0, 1, 3, 3.5, 7]),), axis=1, edge_order=2, ulps=64, slack=1.0),
    row("gradient", (3, 5), args=(np.array([0.0, 1, 3, 3.5, 7]),), axis=1, ulps=64, slack=1.0),
    row("trapezoid", (3, 5), (4,), (1,), ulps=16, slack=1.0),
    row("trapezoid", ((3, 5), (5,)), ((3, 5), (3, 5)), ((5,), (5,)), ulps=16, slack=1.0),
    row("trapezoid", (3, 5), dx=0.5, axis=0, ulps=16, slack=1.0),
    row("trapezoid", ((3, 5), (3,)), axis=0, ulps=16, slack=1.0),
    # Functions given by numbers
    row("polyval", ((4,), (3, 2)), ((1,), (3,)), ((3,), ()), ((0,), (2,)), ulps=16, slack=1.0),
    row("polyval", ((4,), (3,)), dtypes=(I64,), gradient=False),
    row("interp", ((3, 4), (5,), (5,)), prepare=np.sort, ulps=64, slack=1.0),
    row("interp", ((7,), (3,), (3,)), prepare=np.sort, left=-9.0, right=9.0, ulps=64, slack=1.0),
    row("interp", ((7,), (1,), (1,)), ((), (3,), (3,)), prepare=lambda x: np.sort(x) if x.ndim else x, ulps=64,
        slack=1.0),
]  # fmt: skip

test_value, test_special_values, test_gradient, test_gradient_of_a_jitted_function = checks_of(ROWS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.linalg.matrix_power(tj.eye(2), 0.5), TypeError, "exponent must be an integer, got float 0.5"),
        (lambda: tj.matmul(tj.ones(2, 3), tj.ones(2, 3)), ValueError, r"cannot be multiplied \(2x3 and 2x3\)"),
        (lambda: tj.matmul(tj.tensor(1.0), tj.ones(2)), ValueError, "at least one axis, got a 0-d tensor"),
        (lambda: tj.dot(tj.ones(2), tj.ones(3)), ValueError, r"of shapes \(2,\) and \(3,\) do not match"),
        (lambda: tj.inner(tj.ones(2), tj.ones(3)), ValueError, "do not match"),
        (lambda: tj.vdot(tj.ones(2), tj.ones(3)), ValueError, "vectors of 2 and 3 elements"),
        (lambda: tj.einsum("ij,j->i", tj.ones(2, 3)), ValueError, "names 2 operands, got 1"),
        (lambda: tj.einsum("ij->k", tj.ones(2, 3)), ValueError, "unknown or repeated subscript"),
        (lambda: tj.linalg.inv(tj.ones(2, 3)), ValueError, r"square matrices, got shape \(2, 3\)"),
        (lambda: tj.linalg.inv(tj.zeros(2, 2)), np.linalg.LinAlgError, "Singular"),
        (lambda: tj.linalg.matrix_norm(tj.ones(2, 2), ord=7), ValueError, "ord must be 'fro'"),
        (lambda: tj.linalg.norm(tj.ones(2, 2, 2), 1), ValueError, r"a matrix or an axis, got shape \(2, 2, 2\)"),
        (lambda: tj.linalg.norm(tj.ones(2), "fro"), ValueError, "ord of a vector must be a number, got 'fro'"),
        (lambda: tj.linalg.norm(tj.ones(2, 2), 1, (0, 0)), ValueError, "one axis or two that differ"),
        (
            lambda: tj.fft.fft(tj.ones(2), norm="no"),
            ValueError,
            "norm must be one of backward, ortho, forward, got 'no'",
        ),
        (lambda: tj.fft.fft(tj.ones(2), n=0), ValueError, r"invalid number of data points \(0\)"),
        (lambda: tj.convolve(tj.ones(2), tj.ones(0)), ValueError, r"not empty, got shapes \(2,\) and \(0,\)"),
        (lambda: tj.convolve(tj.ones(2), tj.ones(2), "half"), ValueError, "mode must be 'full', 'same' or 'valid'"),
        (lambda: tj.diff(tj.ones(2), n=-1), ValueError, "n must not be negative, got -1"),
        (lambda: tj.gradient(tj.ones(2), edge_order=2), ValueError, r"needs 3 points or more along axis 0 of \(2,\)"),
        (lambda: tj.gradient(tj.ones(3), 1.0, 2.0), TypeError, "one distance an axis, got 2 for 1 axes"),
        (lambda: tj.gradient(tj.ones(3), tj.ones(2)), ValueError, r"\(2,\) coordinates for 3 points"),
        (lambda: tj.polyval(tj.ones(2, 2), tj.ones(2)), ValueError, "p must be a vector"),
        (lambda: tj.interp(tj.ones(2), tj.ones(2), tj.ones(3)), ValueError, r"shapes \(2,\) and \(3,\)"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_products.py" in str(caught.value), "the user's line is named"


def test_frequencies() -> None:
    for n in (1, 4, 7):
        np.testing.assert_allclose(np.asarray(tj.fft.fftfreq(n, 0.5)), np.fft.fftfreq(n, 0.5), rtol=1e-6)
        np.testing.assert_allclose(np.asarray(tj.fft.rfftfreq(n, d=2.0, dtype=F64)), np.fft.rfftfreq(n, 2.0))


def test_complex_matrices_are_adjoint() -> None:
    x = tj.tensor([[1 + 1j, 2.0], [0.5j, 3.0]], dtype=C64)
    lower = tj.linalg.cholesky(definite(x))
    upper = tj.linalg.cholesky(definite(x), upper=True)
    assert bool(tj.allclose(upper, tj.conj(lower.mT)))
