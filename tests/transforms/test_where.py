"""Gradients of what ``where`` has not taken: 0, whatever the derivative there, in every mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit import nn
from tracejit.ir.masks import settings

pytestmark = pytest.mark.usefixtures("first_code_only")

X = [0.0, 1.0, 2.0, -1.0]
Function = Callable[[Any], Any]
NAN = float("nan")


def chain(x: Any) -> Any:
    """Through many operations, with constants, numbers and another tensor on the way."""
    return 3 * tj.exp(tj.sqrt(tj.log(x) * x) / x - x**0.5) + 1


FUNCTIONS: dict[str, tuple[Function, Function]] = {  # with ``where``, and the same where it is taken alone
    "sqrt": (lambda x: tj.where(x > 0, tj.sqrt(x), 0.0), tj.sqrt),
    "taken second": (lambda x: tj.where(x <= 0, 0.0, tj.log(x)), tj.log),
    "quotient": (lambda x: tj.where(x > 0, tj.sin(x) / x, 1.0), lambda x: tj.sin(x) / x),
    "pow": (lambda x: tj.where(x > 0, x**-1.5, 0.0), lambda x: x**-1.5),
    "a chain": (lambda x: tj.where(x > 1, chain(x), 0.0), lambda x: tj.where(x > 1, chain(x), 0.0)),
    "twice the same": (lambda x: tj.where(x > 0, tj.sqrt(x) * tj.log(x), 0.0), lambda x: tj.sqrt(x) * tj.log(x)),
    "through a sum": (
        lambda x: tj.where(x > 0, tj.sqrt(x) + 1 / x - tj.log(x), 0.0), lambda x: tj.sqrt(x) + 1 / x - tj.log(x)
    ),
    "moved": (lambda x: tj.where(tj.flip(x) > 0, tj.flip(tj.sqrt(x)), 0.0), tj.sqrt),
    "reshaped": (lambda x: tj.where(x.reshape(2, 2).T > 0, tj.sqrt(x).reshape(2, 2).T, 0.0), tj.sqrt),
    "converted": (lambda x: tj.where(x > 0, tj.sqrt(x).astype("float32").astype("float64"), 0.0), tj.sqrt),
    "one in another": (
        lambda x: tj.where(x > 0, tj.where(x > 0.5, tj.sqrt(x), tj.log(x)), 0.0), lambda x: tj.sqrt(x)
    ),
    "beside each other": (
        lambda x: tj.where(x > 0, tj.sqrt(x), 0.0) + tj.where(x > 0, tj.log(x), 0.0), lambda x: tj.sqrt(x) + tj.log(x)
    ),
    "a shared part": (lambda x: (lambda s: tj.where(x > 0, s * 2, 0.0) + tj.where(x > 0, s * s, 0.0))(tj.sqrt(x)),
                      lambda x: 2 * tj.sqrt(x) + x),
    "a product with a row": (lambda x: tj.where(x > 0, tj.sqrt(x) * tj.ones(3, 1, dtype="float64"), 0.0),
                             lambda x: 3 * tj.sqrt(x)),
    "a predicate of a row": (lambda x: tj.where(x[0:1] < 1, tj.where(x > 0, tj.sqrt(x), 0.0), 0.0), tj.sqrt),
    "an assignment": (lambda x: assigned(tj.sqrt(x), x <= 0), tj.sqrt),
    "clip": (lambda x: tj.clip(tj.where(x > 0, tj.sqrt(x), 0.0), 0, 10), tj.sqrt),
}  # fmt: skip


def assigned(y: tj.Tensor, mask: tj.Tensor) -> tj.Tensor:
    y[mask] = 0.0
    return y


def by_backward(f: Function) -> Function:
    def slope(x: tj.Tensor) -> Any:
        leaf = x.clone().requires_grad_()
        f(leaf).sum().backward()
        return leaf.grad

    return slope


def by_jitted_backward(f: Function) -> Function:
    jitted = tj.jit(lambda x: f(x).sum())

    def slope(x: tj.Tensor) -> Any:
        leaf = x.clone().requires_grad_()
        jitted(leaf).backward()
        return leaf.grad

    return slope


def of_sum(f: Function) -> Function:
    return lambda x: f(x).sum()


WAYS: dict[str, Callable[[Function], Function]] = {
    "backward": by_backward,
    "backward of a compiled call": by_jitted_backward,
    "backward compiled": lambda f: tj.jit(lambda x: tj.autograd.grad(f(y := x.clone().requires_grad_()).sum(), y)[0]),
    "grad": lambda f: tj.grad(of_sum(f)),
    "grad compiled": lambda f: tj.jit(tj.grad(of_sum(f))),
    "jacrev": lambda f: lambda x: tj.jacrev(lambda x: f(x).sum())(x),
    "checkpoint": lambda f: tj.grad(of_sum(tj.checkpoint(f))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str, way: str) -> None:
    """0 where nothing is taken, else what there is without ``where``; the same bits every way."""
    masked, plain = FUNCTIONS[name]
    x = tj.tensor(X, dtype="float64")
    slope = WAYS[way](masked)(x)
    taken = np.asarray(x) > (1 if name == "a chain" else 0)
    assert slope[~taken].tolist() == [0] * int((~taken).sum())
    np.testing.assert_allclose(slope.numpy()[taken], tj.grad(of_sum(plain))(x[taken]).numpy(), rtol=1e-12)
    assert same_bits(np.asarray(slope), np.asarray(WAYS["backward"](masked)(x)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_mode_and_second_derivatives(name: str) -> None:
    f = FUNCTIONS[name][0]
    x = tj.tensor(X, dtype="float64")
    columns = tj.jacfwd(lambda x: f(x).sum())(x)
    np.testing.assert_allclose(columns.numpy(), tj.grad(of_sum(f))(x).numpy(), rtol=1e-7)
    bends = [outer(inner(of_sum(f)))(x).numpy() for outer in (tj.jacfwd, tj.jacrev) for inner in (tj.jacfwd, tj.jacrev)]
    for bend in bends:
        assert np.isfinite(bend).all()
        np.testing.assert_allclose(bend, bends[0], rtol=1e-6, atol=1e-12)


def test_batches() -> None:
    x = tj.tensor(X, dtype="float64")
    for name in ("sqrt", "a chain", "one in another", "beside each other"):
        f = FUNCTIONS[name][0]
        expected = tj.grad(of_sum(f))(x).tolist()
        assert tj.vmap(tj.grad(f))(x).tolist() == expected
        assert tj.grad(lambda x, f=f: tj.vmap(f)(x).sum())(x).tolist() == expected


def is_nan(x: tj.Tensor) -> Any:
    return tj.isnan(x).tolist()


def test_where_it_ends() -> None:
    """In a product of matrices the elements are no longer told apart, and what comes from elsewhere has no mask."""
    x = tj.tensor([[0.0, 1.0], [4.0, 9.0]])
    rows = tj.grad(lambda x: tj.where(x.sum(1) > 2, tj.sqrt(x).sum(1), 0.0).sum())(x)
    assert rows.tolist() == [[0, 0], [0.25, pytest.approx(1 / 6)]]
    rows = tj.grad(lambda x: tj.where(x.sum(1) > 2, tj.sqrt(x) @ tj.ones(2), 0.0).sum())(x)
    assert is_nan(rows) == [[True, False], [False, False]]
    rows = tj.grad(lambda x: (lambda s: tj.where(x > 0, s, 0.0).sum() + (s * 0).sum())(tj.sqrt(x)))(x)
    assert is_nan(rows) == [[True, False], [False, False]]


def test_what_is_taken_keeps_its_nan() -> None:
    slope = tj.grad(lambda x: tj.where(x >= 0, tj.sqrt(x) * 0, x).sum())(tj.tensor([0.0, 1.0, -1.0]))
    assert is_nan(slope) == [True, False, False]
    assert tj.grad(lambda x: tj.where(x >= 0, tj.sqrt(x), 0.0))(0.0).item() == float("inf")


def test_a_hook_sees_and_changes_the_gradient() -> None:
    """What a hook returns is a gradient like any other: nothing is known of it."""
    x = tj.tensor([0.0, 4.0], requires_grad=True)
    y = tj.sqrt(x)
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()) or g + 1)
    tj.where(x > 0, y, 0.0).sum().backward()
    assert seen == [[0, 1]]
    assert x.grad is not None
    assert x.grad.tolist() == [float("inf"), 0.5]


@pytest.fixture
def unmasked() -> Iterator[None]:
    tj.config.masked_where = False
    yield
    tj.config.masked_where = True


def test_the_switch(unmasked: None) -> None:
    x = tj.tensor([0.0, 4.0])
    f = FUNCTIONS["sqrt"][0]
    jitted = tj.jit(tj.grad(of_sum(f)))
    assert not settings.masked
    for slope in (jitted, tj.grad(of_sum(f)), by_backward(f)):
        assert is_nan(slope(x)) == [True, False]
    tj.config.masked_where = True
    assert jitted(x).tolist() == [0, 0.25], "a compiled function looks at the switch"
    tj.config.masked_where = False
    assert is_nan(jitted(x)) == [True, False]


def test_networks_pay_nothing() -> None:
    """What masks a gradient once need not mask it again: behind a sum or a product nothing is left of the mask."""
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    x = tj.ones(2, 3)
    texts = []
    for masked in (True, False):
        tj.config.masked_where = masked
        texts.append(tj.jit(tj.grad(lambda x: net(x).sum())).ir(x, stage="trace"))
    tj.config.masked_where = True
    assert texts[0].count("select") == texts[1].count("select")
