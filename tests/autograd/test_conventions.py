"""Gradients where a function has none, or more than one: each convention of :mod:`tracejit.autograd`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit.autograd import grad

pytestmark = pytest.mark.usefixtures("first_code_only")

inf, nan = math.inf, math.nan
SINGULAR = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
EYE = [[1.0, 0.0], [0.0, 1.0]]
NOTHING = [[0.0, 0.0], [0.0, 0.0]]
HIGH = [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]


def norm(ord: Any) -> Callable[[Any], Any]:
    return lambda x: tj.linalg.vector_norm(x, ord=ord)


# (what, function, data …, gradients)
CORNERS: list[tuple[str, Callable[..., Any], list[Any], Any]] = [
    ("relu at 0", tj.relu, [[-1.0, 0.0, -0.0, 2.0, nan]], [0.0, 0.0, 0.0, 1.0, 1.0]),
    ("abs at 0", tj.abs, [[-2.0, 0.0, 3.0, nan]], [-1.0, 0.0, 1.0, nan]),
    ("sign", tj.sign, [[-2.0, 0.0, 3.0]], [0.0, 0.0, 0.0]),
    ("copysign at 0", tj.copysign, [[0.0, 1.0, -1.0, -0.0], [1.0, -1.0, -2.0, 2.0]], [[0, -1, 1, 0], [0, 0, 0, 0]]),
    ("sqrt at 0", tj.sqrt, [[0.0, 4.0, -1.0]], [inf, 0.25, nan]),
    ("sqrt of 0 times 0", lambda x: tj.sqrt(x * x), [[0.0]], [nan]),
    ("rsqrt at 0", tj.rsqrt, [[0.0]], [-inf]),
    ("log at 0", tj.log, [[0.0, 2.0]], [inf, 0.5]),
    ("1 / x at 0", lambda x: 1 / x, [[0.0]], [-inf]),
    ("asin at 1", tj.asin, [[1.0, -1.0]], [inf, inf]),
    ("atan2 at the origin", tj.atan2, [[0.0, 1.0], [0.0, 0.0]], [[nan, 0.0], [nan, -1.0]]),
    ("hypot at the origin", tj.hypot, [[0.0, 3.0], [0.0, 4.0]], [[0.0, 0.6], [0.0, 0.8]]),
    ("max, ties", lambda x: x.max(), [[1.0, 3.0, 3.0]], [0.0, 0.5, 0.5]),
    ("min, ties", lambda x: x.min(), [[1.0, 1.0, 3.0, 1.0]], [1 / 3, 1 / 3, 0.0, 1 / 3]),
    ("max of NaN", lambda x: x.max(), [[1.0, nan, 2.0]], [nan, nan, nan]),
    ("max along an axis, ties", lambda x: x.max(1), [[[1.0, 1.0], [0.0, 2.0]]], [[0.5, 0.5], [0.0, 1.0]]),
    ("maximum", tj.maximum, [[1.0, 2.0, 3.0, nan], [2.0, 2.0, 2.0, 1.0]], [[0.0, 0.5, 1.0, nan], [1.0, 0.5, 0.0, nan]]),
    ("minimum", tj.minimum, [[1.0, 2.0, 3.0, 1.0], [2.0, 2.0, 2.0, nan]], [[1.0, 0.5, 0.0, nan], [0.0, 0.5, 1.0, nan]]),
    ("maximum of itself", lambda x: tj.maximum(x, x), [[1.0, -2.0]], [1.0, 1.0]),
    ("maximum with a number", lambda x: tj.maximum(x, 0.0), [[0.0, -1.0]], [0.5, 0.0]),
    ("clip", lambda x: x.clip(-1, 1), [[-2.0, -1.0, 0.5, 1.0, 3.0]], [0.0, 1.0, 1.0, 1.0, 0.0]),
    ("clip by tensors", tj.clip, [[-2.0, -1.0, 3.0], [-1.0] * 3, [1.0] * 3], [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
    ("clip by bounds that cross", tj.clip, [[0.0, 3.0], [2.0] * 2, [1.0] * 2], [[0, 0], [0, 0], [1, 1]]),
    ("relu6", F.relu6, [[0.0, 6.0, 3.0]], [0.0, 0.0, 1.0]),
    ("l1_loss at 0", lambda x: F.l1_loss(x, tj.zeros_like(x), reduction="sum"), [[0.0, -2.0]], [0.0, -1.0]),
    ("x ** 0", lambda x: tj.pow(x, 0), [[0.0, 2.0]], [0.0, 0.0]),
    ("x ** 1", lambda x: x**1, [[0.0, 2.0]], [1.0, 1.0]),
    ("x ** 1.0 at 0", lambda x: tj.pow(x, 1.0), [[0.0, 5.0]], [1.0, 1.0]),
    ("x ** 2 at 0", lambda x: x**2, [[0.0, -3.0]], [0.0, -6.0]),
    ("x ** 1.5 at 0", lambda x: x**1.5, [[0.0, 4.0]], [0.0, 3.0]),
    ("0 ** y", lambda y: tj.pow(0.0, y), [[0.0, 2.0]], [0.0, 0.0]),
    ("x ** y", tj.pow, [[2.0, 0.0, 0.0, -2.0], [3.0, 0.0, 2.0, 2.0]], [[12, 0, 0, -4], [8 * math.log(2), 0, 0, nan]]),
    ("prod of a 0", lambda x: x.prod(), [[2.0, 0.0, 3.0]], [0.0, 6.0, 0.0]),
    ("prod of two 0s", lambda x: x.prod(), [[2.0, 0.0, 0.0]], [0.0, 0.0, 0.0]),
    ("cumulative prod of 0s", tj.cumulative_prod, [[2.0, 0.0, 3.0, 0.0]], [1.0, 8.0, 0.0, 0.0]),
    ("where", lambda x: tj.where(x > 0, x * 2, x * 3), [[-1.0, 1.0]], [3.0, 2.0]),
    ("remainder", tj.remainder, [[5.0, -5.0], [3.0, 3.0]], [[1.0, 1.0], [-1.0, 2.0]]),
    ("floor_divide", tj.floor_divide, [[5.0], [3.0]], [[0.0], [0.0]]),
    ("sum of nothing", lambda x: x.sum(), [[]], []),
    ("mean", lambda x: x.mean(), [[1.0, 2.0]], [0.5, 0.5]),
    ("std of equals", lambda x: x.std(), [[2.0, 2.0]], [0.0, 0.0]),
    ("nanstd of equals", tj.nanstd, [[2.0, 2.0, nan]], [0.0, 0.0, 0.0]),
    ("logsumexp of -inf", lambda x: x.logsumexp(), [[-inf, 0.0]], [0.0, 1.0]),
    ("logsumexp of -inf alone", lambda x: x.logsumexp(), [[-inf, -inf]], [nan, nan]),
    ("logaddexp of infinities", tj.logaddexp, [[-inf, inf, 0.0], [-inf, 0.0, 0.0]], [[0.5, 1, 0.5], [0.5, 0, 0.5]]),
    ("logsigmoid far out", F.logsigmoid, [[0.0, -1000.0, 1000.0]], [0.5, 1.0, 0.0]),
    ("softmax of -inf", lambda x: F.softmax(x, 0)[0], [[-inf, 0.0]], [0.0, 0.0]),
    ("sort, ties", lambda x: tj.sort(x) * tj.tensor([1.0, 2.0, 3.0]), [[2.0, 1.0, 2.0]], [2.0, 1.0, 3.0]),
    ("median", tj.median, [[2.0, 1.0, 3.0, 7.0]], [0.5, 0.0, 0.5, 0.0]),
    *((f"{p}-norm at 0", norm(p), [[0.0, 0.0]], [0.0, 0.0]) for p in (0.5, 1, 1.5, 2, 3, inf)),
    ("0.5-norm", norm(0.5), [[0.0, 4.0, 1.0]], [0.0, 1.5, 3.0]),
    ("max-norm, ties", norm(inf), [[0.0, -2.0, 2.0]], [0.0, -0.5, 0.5]),
    ("Frobenius norm at 0", tj.linalg.matrix_norm, [NOTHING], NOTHING),
    ("nuclear norm of equals", lambda x: tj.linalg.matrix_norm(x, ord="nuc"), [EYE], EYE),
    ("spectral norm of equals", lambda x: tj.linalg.matrix_norm(x, ord=2), [EYE], [[0.5, 0.0], [0.0, 0.5]]),
    ("eigvalsh of equals", tj.linalg.eigvalsh, [EYE], EYE),
    ("svdvals of equals", tj.linalg.svdvals, [EYE], EYE),
    ("svdvals of a full svd", lambda x: tj.linalg.svd(x)[1], [HIGH], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
    ("pinv of equals", tj.linalg.pinv, [EYE], [[-1.0, -1.0], [-1.0, -1.0]]),
    ("det of a singular matrix", tj.linalg.det, [SINGULAR], [[-3, 6, -3], [6, -12, 6], [-3, 6, -3]]),
    ("det of nothing", tj.linalg.det, [NOTHING], NOTHING),
    ("det of one number", tj.linalg.det, [[[0.0]]], [[1.0]]),
]


@pytest.mark.parametrize(
    ("function", "data", "expected"), [row[1:] for row in CORNERS], ids=[row[0] for row in CORNERS]
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_corners(function: Callable[..., Any], data: list[Any], expected: Any, compiled: bool) -> None:
    leaves = [tj.tensor(item, dtype="float64", requires_grad=True) for item in data]
    run = tj.jit(function) if compiled else function
    gradients = grad(run(*leaves).sum(), leaves, materialize_grads=True)
    found = [None if g is None else g.tolist() for g in gradients]
    for each, wanted in zip(found, [expected] if len(found) == 1 else expected, strict=True):
        assert np.allclose(each, wanted, rtol=1e-14, atol=1e-14, equal_nan=True)


SMOOTH_AT_ZERO = [norm(2), norm(3), lambda x: tj.sqrt((x * x).sum() + 1), lambda x: x.prod(), lambda x: x**2]


@pytest.mark.parametrize("function", [tj.abs, lambda x: x.std(), *SMOOTH_AT_ZERO])
def test_second_derivatives_at_zero_are_numbers(function: Callable[[Any], Any]) -> None:
    x = tj.zeros(3, dtype="float64", requires_grad=True)
    (first,) = grad(function(x).sum(), x, create_graph=True)
    assert first is not None
    (second,) = grad(first.sum(), x, allow_unused=True)
    assert second is None or bool(tj.isfinite(second).all())


# (what, function, where its pieces meet, its second derivative there)
SEAMS: list[tuple[str, Callable[[Any], Any], float, float]] = [
    ("logaddexp", lambda x: tj.logaddexp(x, 2.0), 2.0, 0.25),
    ("logaddexp, in the second", lambda x: tj.logaddexp(2.0, x), 2.0, 0.25),
    ("logaddexp, far apart", lambda x: tj.logaddexp(x, -inf), 2.0, 0.0),
    ("logaddexp, both infinite", lambda x: tj.logaddexp(x, inf), inf, 0.0),
    ("softplus", tj.softplus, 0.0, 0.25),
    ("F.softplus", F.softplus, 0.0, 0.25),
    ("logsigmoid", F.logsigmoid, 0.0, -0.25),
    ("binary_cross_entropy_with_logits", lambda x: F.binary_cross_entropy_with_logits(x, tj.ones_like(x)), 0.0, 0.25),
    ("soft_margin_loss", lambda x: F.soft_margin_loss(x, tj.ones_like(x)), 0.0, 0.25),
    ("smooth_l1_loss", lambda x: F.smooth_l1_loss(x, tj.full_like(x, 3.0), beta=0.5), 3.0, 2.0),
    ("huber_loss", lambda x: F.huber_loss(x, tj.full_like(x, 3.0)), 3.0, 1.0),
]


@pytest.mark.parametrize(("function", "at", "expected"), [row[1:] for row in SEAMS], ids=[row[0] for row in SEAMS])
def test_second_derivatives_where_pieces_meet(function: Callable[[Any], Any], at: float, expected: float) -> None:
    second = tj.grad(tj.grad(function))
    x = tj.tensor(at, dtype="float64")
    assert second(x).item() == pytest.approx(expected, abs=1e-15)
    assert tj.jit(second)(x).item() == pytest.approx(expected, abs=1e-15)


def determinant(x: tj.Tensor) -> tj.Tensor:
    """Leibniz's sum."""
    rows, total = range(x.shape[0]), x.sum() * 0
    for order in itertools.permutations(rows):
        sign = round(np.linalg.det(np.eye(len(rows))[list(order)]))
        total = total + sign * math.prod(x[i, j] for i, j in zip(rows, order, strict=True))
    return total


@pytest.mark.parametrize("data", [[[0.0]], NOTHING, EYE, SINGULAR, np.zeros((3, 3)), np.ones((3, 3))])
def test_a_determinant_has_derivatives_of_any_order(data: Any) -> None:
    """Also of a singular matrix, of up to three rows."""
    x = tj.tensor(data, dtype="float64")
    for take in (tj.grad, tj.hessian, lambda f: tj.jacfwd(tj.hessian(f))):
        expected = take(determinant)(x).numpy()
        np.testing.assert_allclose(take(tj.linalg.det)(x).numpy(), expected, atol=1e-12)


def test_the_gradient_of_a_determinant_of_any_size() -> None:
    slope = tj.jit(tj.grad(tj.linalg.det))
    for rows in (4, 5, 3, 2, 1):  # compiled for any size at the second
        x = tj.randn(rows, rows, dtype="float64")
        assert slope(x).numpy().tobytes() == tj.grad(tj.linalg.det)(x).numpy().tobytes()


def test_vectors_of_equal_eigenvalues_have_no_derivative() -> None:
    """It is not a number, where a loss depends on them."""
    x = tj.tensor(EYE, requires_grad=True)
    tj.linalg.eigh(x).eigenvectors[0, 1].backward()
    assert x.grad is not None
    assert not tj.isfinite(x.grad).all()


def test_matrices_without_a_derivative() -> None:
    high = tj.tensor(HIGH, requires_grad=True)
    message = "The QR decomposition is not differentiable when mode='complete' and nrows > ncols"
    with pytest.raises(RuntimeError, match=message):
        tj.linalg.qr(high, mode="complete").R.sum().backward()
    singular = tj.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
        tj.linalg.slogdet(singular).logabsdet.backward()


def test_one_element_has_no_deviation() -> None:
    x = tj.tensor([2.0], requires_grad=True)
    for name in ("std", "var"):
        with pytest.warns(UserWarning, match=rf"{name}\(\): degrees of freedom is <= 0"):
            y = getattr(tj, name)(x, correction=1)
        assert math.isnan(y.item())
        (g,) = grad(y, x)
        assert g is not None
        assert math.isnan(g.item())


def test_the_unchosen_branch_of_where() -> None:
    """Its gradient is 0, also where its derivative is infinite, with and without something to be finite at."""
    x = tj.tensor([0.0, 4.0], requires_grad=True)
    for root in (tj.sqrt(x), tj.sqrt(tj.where(x > 0, x, 1.0))):
        (g,) = grad(tj.where(x > 0, root, 0.0).sum(), x)
        assert g is not None
        assert g.tolist() == [0.0, 0.25]
