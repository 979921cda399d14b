"""Gradients of complex numbers: they point where a real loss grows fastest, as PyTorch's do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit.autograd import GradcheckError, grad, gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("first_code_only")

generator = np.random.default_rng(0)


def complexes(*shape: int) -> np.ndarray:
    return generator.normal(size=shape) + 1j * generator.normal(size=shape)


Z, W = complexes(4), complexes(4)
MATRIX, OTHER, HIGH = complexes(3, 3) + 3 * np.eye(3), complexes(3, 2), complexes(4, 3)
DEFINITE = MATRIX @ MATRIX.conj().T + np.eye(3)
REAL = generator.normal(size=(3, 3)) + np.diag([1.0, 5.0, 9.0])
SERIES = generator.normal(size=6)


def leaf(data: Any) -> Any:
    return tj.tensor(data, requires_grad=True)


def hermitian(x: Any) -> Any:
    return (x + tj.conj(x.mT)) / 2


def eigh(x: Any) -> tuple[Any, ...]:
    """What of the decomposition does not depend on the vectors' phases."""
    values, vectors = tj.linalg.eigh(hermitian(x))
    return values, tj.abs(vectors), (vectors * tj.exp(-values)) @ tj.conj(vectors.mT)


def eig(x: Any) -> Any:
    values, vectors = tj.linalg.eig(x)
    return (tj.abs(vectors) * tj.real(values)).sum()


def svd(x: Any, full: bool = False) -> tuple[Any, ...]:
    u, s, vh = tj.linalg.svd(x, full_matrices=full)
    count = s.shape[0]
    u, vh, rest = u[:, :count], vh[:count], u[:, count:]
    return s, tj.abs(u), tj.abs(vh), (u * tj.exp(-s)) @ vh, tj.abs(rest @ tj.conj(rest.mT))


# (name, function, data …)
FUNCTIONS: list[tuple[str, Callable[..., Any], tuple[np.ndarray, ...]]] = [
    *(
        (name, getattr(tj, name), (Z,))
        for name in (
            "positive", "negative", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "square", "reciprocal",
            "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "sigmoid",
            "abs", "sign", "conj", "real", "imag", "sum", "mean", "prod", "cumulative_sum", "cumulative_prod", "norm",
            "var", "std",
        )
    ),
    *((name, getattr(tj, name), (Z, W)) for name in ("add", "subtract", "multiply", "divide", "pow", "vecdot")),
    ("to the 3rd", lambda z: z**3, (Z,)),
    ("to the 2.5th", lambda z: z**2.5, (Z,)),
    ("2 to the z", lambda z: 2**z, (Z,)),
    ("times reals", lambda z, x: z * x, (Z, SERIES[:4])),
    ("of its parts", lambda x, y: x + 1j * y, (SERIES[:4], SERIES[2:])),
    ("as complex", lambda x: x.astype("complex128") * 2j, (SERIES,)),
    ("its parts", lambda z: (z.real * z.imag, tj.conj(z) * z), (Z,)),
    ("where", lambda z, w: tj.where(z.real > 0, z * w, w), (Z, W)),
    ("elements", lambda z: z[[0, 0, 1]] * z[1:].sum(), (Z,)),
    ("parts of both", lambda z, w: tj.concat([z, w[::2]]) ** 2, (Z, W)),
    ("broadcast", lambda z, m: z[:3] * m + m.T, (Z, MATRIX)),
    ("1-norm", lambda z: tj.linalg.vector_norm(z, ord=1), (Z,)),
    ("3-norm", lambda z: tj.linalg.vector_norm(z, ord=3), (Z,)),
    ("max-norm", lambda z: tj.linalg.vector_norm(z, ord=math.inf), (Z,)),
    ("nuclear norm", lambda m: tj.linalg.matrix_norm(m, ord="nuc"), (HIGH,)),
    ("spectral norm", lambda m: tj.linalg.matrix_norm(m, ord=2), (HIGH,)),
    ("matmul", tj.matmul, (MATRIX, OTHER)),
    ("einsum", lambda a, b: tj.einsum("ij,jk->ki", a, b), (MATRIX, OTHER)),
    ("inv", tj.linalg.inv, (MATRIX,)),
    ("det", tj.linalg.det, (MATRIX,)),
    ("slogdet", lambda m: tuple(tj.linalg.slogdet(m)), (MATRIX,)),
    ("solve", tj.linalg.solve, (MATRIX, OTHER)),
    ("matrix_power", lambda m: tj.linalg.matrix_power(m, -3), (MATRIX,)),
    ("pinv", tj.linalg.pinv, (HIGH,)),
    ("pinv wide", tj.linalg.pinv, (HIGH.T.copy(),)),
    ("cholesky", lambda m: tj.linalg.cholesky(hermitian(m)), (DEFINITE,)),
    ("cholesky upper", lambda m: tj.linalg.cholesky(hermitian(m), upper=True), (DEFINITE,)),
    ("eigvalsh", lambda m: tj.linalg.eigvalsh(hermitian(m)), (DEFINITE,)),
    ("eigh", eigh, (DEFINITE,)),
    ("eigvals", lambda m: (tj.linalg.eigvals(m) ** 2).sum(), (MATRIX,)),
    ("eigvals of reals", lambda m: (tj.linalg.eigvals(m) ** 2).sum(), (REAL,)),
    ("eig", eig, (MATRIX,)),
    ("eig of reals", eig, (REAL,)),
    ("svdvals", tj.linalg.svdvals, (HIGH,)),
    ("svd", svd, (HIGH,)),
    ("svd wide", svd, (HIGH.T.copy(),)),
    ("svd full", lambda m: svd(m, True), (HIGH,)),
    ("svd full of reals", lambda m: svd(m, True), (HIGH.real.copy(),)),
    ("qr", lambda m: tuple(tj.linalg.qr(m)), (HIGH,)),
    ("qr wide", lambda m: tuple(tj.linalg.qr(m)), (HIGH.T.copy(),)),
    ("qr wide of reals", lambda m: tuple(tj.linalg.qr(m)), (HIGH.T.real.copy(),)),
    *((name, getattr(tj.fft, name), (HIGH,)) for name in ("fft", "ifft", "fftn", "ifftn", "irfft", "irfftn", "hfft")),
    *((f"{name} of reals", getattr(tj.fft, name), (SERIES,)) for name in ("fft", "rfft", "ihfft", "rfftn")),
    ("fft padded", lambda z: tj.fft.fft(z, n=7, norm="ortho"), (Z,)),
    ("fft cut", lambda z: tj.fft.fft(z, n=3, norm="forward"), (Z,)),
    ("irfft odd", lambda z: tj.fft.irfft(z, n=5), (Z,)),
    ("rfft cut", lambda x: tj.fft.rfft(x, n=5), (SERIES,)),
]  # fmt: skip
table = pytest.mark.parametrize(("function", "data"), [row[1:] for row in FUNCTIONS], ids=[row[0] for row in FUNCTIONS])


@table
def test_against_differences(function: Callable[..., Any], data: tuple[np.ndarray, ...]) -> None:
    assert gradcheck(function, [leaf(array) for array in data])


@table
def test_second_order(function: Callable[..., Any], data: tuple[np.ndarray, ...]) -> None:
    assert gradgradcheck(function, [leaf(array) for array in data], atol=1e-4)


@table
def test_compiled(function: Callable[..., Any], data: tuple[np.ndarray, ...]) -> None:
    """The same bits."""

    def gradients(run: Callable[..., Any]) -> list[np.ndarray]:
        leaves = [leaf(array) for array in data]
        outputs = run(*leaves)
        outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
        weights = [tj.ones_like(output.detach()) for output in outputs]
        return [np.asarray(g) for g in grad(outputs, leaves, weights) if g is not None]

    for eager, compiled in zip(gradients(function), gradients(tj.jit(function)), strict=True):
        assert same_bits(eager, compiled)


def test_a_gradient_is_the_way_up() -> None:
    """Its parts are the derivatives by the real and the imaginary part."""
    z = leaf(3 + 4j)
    (z.real * z.real + 3 * z.imag).backward()
    assert z.grad.item() == 6 + 3j
    z.grad = None
    tj.abs(z).backward()
    assert z.grad.item() == pytest.approx(0.6 + 0.8j)
    z.grad = None
    (z * (1 + 2j)).real.backward()
    assert z.grad.item() == 1 - 2j  # the conjugate of the derivative


def test_gradient_descent() -> None:
    target, z = tj.tensor([1 - 2j, 3 + 0.5j]), leaf([0j, 0j])
    for _ in range(100):
        z.grad = None
        (tj.abs(z - target) ** 2).sum().backward()
        with tj.no_grad():
            z -= 0.1 * z.grad
    assert np.allclose(z.detach().numpy(), target.numpy(), atol=1e-5)


def test_optimizers_go_down() -> None:
    target, z = tj.tensor([1 - 2j, 3 + 0.5j]), leaf([0j, 0j])
    optimizer = tj.optim.SGD([z], lr=0.1, momentum=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        (tj.abs(z - target) ** 2).sum().backward()
        optimizer.step()
    assert np.allclose(z.detach().numpy(), target.numpy(), atol=1e-5)


@pytest.mark.parametrize("function", [tj.abs, tj.sign, tj.linalg.vector_norm, lambda z: tj.abs(z) ** 2])
def test_at_zero(function: Callable[[Any], Any]) -> None:
    """The gradient is 0, and so is its derivative."""
    z = leaf([0j, 0j])
    output = function(z)
    (first,) = grad(output, z, tj.ones_like(output.detach()), create_graph=True)
    assert first is not None
    assert first.tolist() == [0, 0]
    (second,) = grad(first, z, tj.ones_like(first.detach()))
    assert second is not None
    assert np.isfinite(second.numpy()).all()


def test_real_inputs_have_real_gradients() -> None:
    x, z = leaf([1.0, 2.0]), leaf([1j, 2 + 1j])
    tj.abs(x * z * 1j).sum().backward()
    assert (x.grad.dtype, z.grad.dtype) == (tj.float32, tj.complex64)
    assert np.allclose(x.grad.numpy(), [1, math.sqrt(5)])


def test_a_function_of_ones_own() -> None:
    """A backward gets gradients of this kind, and returns them."""

    class Square(tj.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Any) -> Any:
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            (z,) = ctx.saved_tensors
            return gradient * tj.conj(2 * z)

    assert gradcheck(Square.apply, leaf(Z))
    assert gradgradcheck(Square.apply, leaf(Z))

    class Wrong(Square):
        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient * 2 * ctx.saved_tensors[0]

    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(Wrong.apply, leaf(Z))


def test_hooks_and_retained_gradients() -> None:
    z, seen = leaf(1 + 1j), []
    y = z * 1j
    y.retain_grad()
    y.register_hook(lambda g: seen.append(g.item()))
    (y * (2 + 1j)).real.backward()
    assert (seen, y.grad.item(), z.grad.item()) == ([2 - 1j], 2 - 1j, (2 - 1j) * -1j)
