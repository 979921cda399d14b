"""``cond``, ``while_loop``, ``scan`` and their kin in transformed functions, and what their functions reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits

pytestmark = pytest.mark.usefixtures("first_code_only")

W = tj.tensor([0.5, 1.5, -1.0], dtype="float64")
ROWS = tj.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.2], [3.0, 1.0, 2.0]], dtype="float64")


def closed_cond(x: tj.Tensor) -> tj.Tensor:
    return tj.cond(x.sum() > 3, lambda: (x * x * W).sum(), lambda: tj.sin(x).sum())


def closed_while(x: tj.Tensor) -> tj.Tensor:
    return tj.while_loop(lambda c: (c * c).sum() < 50, lambda c: c * 1.5 + x * W, x).sum()


def closed_scan(x: tj.Tensor) -> tj.Tensor:
    carry, ys = tj.scan(lambda c, a: (c * a + tj.sin(x).sum(), c * x), tj.tensor(1.0, dtype="float64"), W)
    return carry + ys.sum()


def gradient_within(x: tj.Tensor) -> tj.Tensor:
    """A gradient in each step, of a function that reaches what is around the loop."""

    def step(c: tj.Tensor, a: tj.Tensor) -> Any:
        slope = tj.grad(lambda y: (y * y * x).sum() * a)(c)
        return c - 0.1 * slope, slope.sum()

    carry, slopes = tj.scan(step, tj.ones(3, dtype="float64"), W)
    return carry.sum() + slopes.sum()


def batch_within(x: tj.Tensor) -> tj.Tensor:
    return tj.scan(lambda c, a: (tj.vmap(lambda y: y * a * x[0])(c), None), x, W)[0].sum()


FUNCTIONS: dict[str, Callable[[tj.Tensor], tj.Tensor]] = {
    "cond": lambda x: tj.cond(x.sum() > 3, lambda x: (x * x).sum(), lambda x: tj.sin(x).sum(), x),
    "cond that closes over": closed_cond,
    "switch": lambda x: tj.switch(
        tj.floor(x.sum() + 0.5).astype("int64") % 3, [lambda: x.sum(), lambda: (x * x).sum(), lambda: (x * x * x).sum()]
    ),
    "while_loop": lambda x: tj.while_loop(lambda c: (c * c).sum() < 50, lambda c: c * 1.5, x).sum(),
    "while_loop that closes over": closed_while,
    "scan": lambda x: tj.scan(lambda c, a: (c * a + 1, tj.sin(c)), tj.tensor(1.0, dtype="float64"), x)[1].sum(),
    "scan that closes over": closed_scan,
    "fori_loop": lambda x: tj.fori_loop(0, 4, lambda i, c: tj.sin(c) * x + i, x).sum(),
    "map": lambda x: tj.map(lambda a: tj.sin(a) * x.sum(), x).sum(),
    "associative_scan": lambda x: tj.associative_scan(tj.multiply, x).sum(),
    "gradient within": gradient_within,
    "batch within": batch_within,
}


@pytest.fixture(params=FUNCTIONS)
def f(request: pytest.FixtureRequest) -> Callable[[tj.Tensor], tj.Tensor]:
    return FUNCTIONS[request.param]


def measured(f: Callable[[Any], Any], x: tj.Tensor) -> np.ndarray:
    """The derivatives by differences."""
    columns = []
    for i in range(3):
        step = tj.tensor(np.eye(3)[i] * 1e-6)
        columns.append((np.asarray(f(x + step)) - np.asarray(f(x - step))) / 2e-6)
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.jit, tj.checkpoint], ids=["eager", "jit", "checkpoint"])
def test_derivatives(f: Callable[[tj.Tensor], tj.Tensor], wrap: Any) -> None:
    ones = tj.ones(3, dtype="float64")
    for x in ROWS[:2]:
        expected = measured(f, x)
        np.testing.assert_allclose(wrap(tj.grad(f))(x).numpy(), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(wrap(tj.jacfwd(f))(x).numpy(), expected, rtol=1e-6, atol=1e-6)
        pushed = wrap(lambda x: tj.jvp(f, (x,), (ones,))[1])(x)
        assert pushed.item() == pytest.approx(expected.sum(), rel=1e-6, abs=1e-6)
        bends = measured(tj.grad(f), x)
        for second in (tj.hessian, lambda f: tj.jacrev(tj.grad(f)), lambda f: tj.jacrev(tj.jacfwd(f))):
            np.testing.assert_allclose(wrap(second(f))(x).numpy(), bends, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.jit], ids=["eager", "jit"])
def test_batches(f: Callable[[tj.Tensor], tj.Tensor], wrap: Any) -> None:
    """Also where conditions differ from element to element."""
    rows = np.stack([np.asarray(f(x)) for x in ROWS])
    np.testing.assert_allclose(wrap(tj.vmap(f))(ROWS).numpy(), rows, rtol=1e-12)
    slopes = np.stack([tj.grad(f)(x).numpy() for x in ROWS])
    np.testing.assert_allclose(wrap(tj.vmap(tj.grad(f)))(ROWS).numpy(), slopes, rtol=1e-11)
    np.testing.assert_allclose(wrap(tj.grad(lambda x: tj.vmap(f)(x).sum()))(ROWS).numpy(), slopes, rtol=1e-11)
    bends = np.stack([tj.hessian(f)(x).numpy() for x in ROWS])
    np.testing.assert_allclose(wrap(tj.vmap(tj.hessian(f)))(ROWS).numpy(), bends, rtol=1e-10, atol=1e-11)


def test_random_numbers_and_collectives_within() -> None:
    """No block holds what differs from element to element: Python runs the steps."""

    def noisy(x: tj.Tensor) -> tj.Tensor:
        return tj.scan(lambda c, a: (c + tj.rand(2) + a, None), tj.zeros(2), x)[0]

    x = tj.zeros(3, 4)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        tj.vmap(noisy)(x)
    assert len(np.unique(np.asarray(tj.vmap(noisy, randomness="different")(x)))) == 6
    assert len(np.unique(np.asarray(tj.vmap(noisy, randomness="same")(x)))) == 2

    def joined(x: tj.Tensor) -> tj.Tensor:
        return tj.fori_loop(0, 3, lambda i, c: c / tj.psum(c, "rows"), x)

    found = tj.vmap(joined, axis_name="rows")(tj.tensor([1.0, 3.0]))
    assert found.tolist() == [0.25, 0.75]


def test_pythons_own_loops_and_branches() -> None:
    """Under ``jit`` they become loops and branches of the graph; what is differentiated goes through them."""

    def f(x: tj.Tensor) -> tj.Tensor:
        count = 0
        while (x * x).sum() < 100:
            x = x * 1.5 + tj.sin(x)
            count += 1
        if x[0] > 1:
            x = x * x[1]
        return x.sum()

    for x in ROWS[:1]:
        for transform in (tj.grad, tj.jacfwd, tj.jacrev, tj.hessian):
            np.testing.assert_allclose(tj.jit(transform(f))(x).numpy(), transform(f)(x).numpy(), rtol=1e-12)


# Functions that loop, transformed in the bodies of loops.
HALF = tj.tensor(0.5, dtype="float64")


def unrolled(q: tj.Tensor, a: tj.Tensor) -> tj.Tensor:
    for i in range(3):
        a = tj.sin(a * q) + W[i]
    return a


INNER: dict[str, Any] = {
    "scan": lambda q, a: tj.scan(lambda d, b: (tj.sin(d * q) + b, None), a, W)[0],
    "while": lambda q, a: tj.while_loop(
        lambda c: c[1] < 3, lambda c: (tj.sin(c[0] * q) + W[c[1]], c[1] + 1), (a, tj.tensor(0))
    )[0],
}
OUTER: dict[str, Any] = {
    "scan": lambda g: tj.scan(lambda c, a: (c + g(c, a), c), HALF, ROWS[0])[0],
    "while": lambda g: tj.while_loop(
        lambda c: c[1] < 3, lambda c: (c[0] + g(c[0], ROWS[0][c[1]]), c[1] + 1), (HALF, tj.tensor(0))
    )[0],
}
WITHIN: dict[str, Any] = {
    "grad": lambda f: tj.grad(f),
    "vmap of grad": lambda f: lambda q, a: tj.vmap(lambda a: tj.grad(f)(q, a))(tj.stack([a, a * 2])).sum(),
}


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("outer", OUTER)
def test_transformations_in_bodies_of_functions_with_bodies(outer: str, within: str) -> None:
    def expected(s: tj.Tensor) -> tj.Tensor:
        total = HALF
        for i in range(3):
            total = total + WITHIN[within](lambda q, a: unrolled(q * s, a))(total, ROWS[0][i])
        return total

    one = tj.ones((), dtype="float64")
    value, slope = expected(one).item(), tj.grad(expected)(one).item()
    for inner in INNER.values():

        def found(s: tj.Tensor, inner: Any = inner) -> tj.Tensor:
            return OUTER[outer](WITHIN[within](lambda q, a: inner(q * s, a)))

        assert found(one).item() == pytest.approx(value, rel=1e-9)
        assert same_bits(tj.jit(found)(one).numpy(), found(one).numpy())
        assert tj.grad(found)(one).item() == pytest.approx(slope, rel=1e-8)


def test_a_body_that_adds_to_a_tensor_around_it() -> None:
    """The tensor has a history then, and is no leaf that must not be changed."""

    def f(x: tj.Tensor) -> tj.Tensor:
        total = tj.zeros(())

        def body(i: tj.Tensor, c: tj.Tensor) -> tj.Tensor:
            total.add_(c)
            return c * 2

        return tj.fori_loop(0, 3, body, x.sum()) + total

    def backward(x: tj.Tensor) -> tj.Tensor:
        y = x.clone().requires_grad_()
        f(y).backward()
        assert y.grad is not None
        return y.grad

    for derivative in (tj.grad(f), tj.jit(tj.grad(f)), backward, tj.jit(backward)):
        assert derivative(tj.tensor([1.0, 2.0, 3.0])).tolist() == [15.0] * 3
