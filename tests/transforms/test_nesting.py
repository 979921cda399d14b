"""Transformations in one another and in ``jit``: every pair and triple gives the derivative that calculus gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit import nn
from tracejit.ir.types import float64

pytestmark = pytest.mark.usefixtures("first_code_only")

Function = Callable[[Any], Any]
POINT = tj.tensor(0.7, dtype=float64)
ONE = tj.ones((), dtype=float64)


def plain(x: tj.Tensor) -> tj.Tensor:
    """``sin(x) * x``, written as people write: a loop, a branch on Python values, changes in place."""
    pieces = tj.zeros(2, dtype=float64)
    for i in range(2):
        pieces[i] = tj.sin(x) if i == 0 else x
    total = pieces[0].clone()
    total *= pieces[1]
    return total


@tj.custom_jvp
def with_jvp(x: tj.Tensor) -> tj.Tensor:
    return tj.sin(x) * x


@with_jvp.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return with_jvp(x), (tj.cos(x) * x + tj.sin(x)) * t


@tj.custom_vjp
def with_vjp(x: tj.Tensor) -> tj.Tensor:
    return tj.sin(x) * x


with_vjp.defvjp(lambda x: (with_vjp(x), x), lambda x, cotangent: ((tj.cos(x) * x + tj.sin(x)) * cotangent,))


class WithBackward(tj.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return tj.sin(x) * x

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (x,) = ctx.saved_tensors
        return (tj.cos(x) * x + tj.sin(x)) * gradient


DERIVATIVES = [
    lambda x: math.sin(x) * x,
    lambda x: math.cos(x) * x + math.sin(x),
    lambda x: 2 * math.cos(x) - math.sin(x) * x,
    lambda x: -3 * math.sin(x) - math.cos(x) * x,
]


def by_vjp(f: Function) -> Function:
    return lambda x: tj.vjp(f, x)[1](ONE)[0]


def by_jvp(f: Function) -> Function:
    return lambda x: tj.jvp(f, (x,), (ONE,))[1]


def by_linearize(f: Function) -> Function:
    return lambda x: tj.linearize(f, x)[1](ONE)


def by_tape(f: Function) -> Function:
    """The gradient as PyTorch's users write it, from within: the leaf belongs to the innermost transformation."""

    def derivative(x: tj.Tensor) -> tj.Tensor:
        leaf = x.clone()
        leaf = leaf if leaf.requires_grad else leaf.requires_grad_()
        return tj.autograd.grad(f(leaf), leaf, create_graph=True)[0]

    return derivative


def in_batch(f: Function) -> Function:
    """The second of a batch, along an axis that is not the first."""

    def pick(x: tj.Tensor) -> tj.Tensor:
        batch = tj.stack([tj.stack([x + 1, x]), tj.stack([x - 1, x * 2])])
        return tj.vmap(lambda pair: f(pair[0]), in_axes=1, out_axes=0)(batch)[1]

    return pick


def shared_in_batch(f: Function) -> Function:
    """Within a batch that the argument is not part of."""
    return lambda x: tj.vmap(lambda i: f(x) + 0 * i)(tj.arange(2)).sum() / 2


def jitted(f: Function) -> Function:
    return tj.jit(lambda x: f(x))


DIFFERENTIATE: dict[str, Callable[[Function], Function]] = {
    "grad": tj.grad,
    "vjp": by_vjp,
    "jvp": by_jvp,
    "linearize": by_linearize,
    "jacfwd": tj.jacfwd,
    "jacrev": tj.jacrev,
}
KEEP: dict[str, Callable[[Function], Function]] = {
    "vmap": in_batch,
    "vmap shared": shared_in_batch,
    "checkpoint": tj.checkpoint,
    "jit": jitted,
}
ALL = {**DIFFERENTIATE, **KEEP}


def nested(names: tuple[str, ...], f: Function) -> tuple[Function, int]:
    """The transformations applied, the last one first; and how many of them differentiate."""
    for name in reversed(names):
        f = ALL[name](f)
    return f, sum(name in DIFFERENTIATE for name in names)


@pytest.mark.parametrize("names", list(itertools.product(ALL, repeat=2)), ids=" ".join)
def test_pairs(names: tuple[str, ...]) -> None:
    f, order = nested(names, plain)
    expected = pytest.approx(DERIVATIVES[order](POINT.item()), rel=1e-12)
    assert f(POINT).item() == expected
    assert tj.jit(f)(POINT).item() == expected


@pytest.mark.parametrize("names", list(itertools.product((n for n in ALL if n != "jit"), repeat=3)), ids=" ".join)
def test_triples(names: tuple[str, ...]) -> None:
    f, order = nested(names, plain)
    assert f(POINT).item() == pytest.approx(DERIVATIVES[order](POINT.item()), rel=1e-11)


@pytest.mark.parametrize(
    "names", list(itertools.product(("grad", "jvp", "vmap", "checkpoint"), repeat=3)), ids=" ".join
)
def test_triples_compiled(names: tuple[str, ...]) -> None:
    """To the bit what they give eagerly."""
    f, _ = nested(names, plain)
    assert same_bits(np.asarray(tj.jit(f)(POINT)), np.asarray(f(POINT)))


@pytest.mark.parametrize("custom", [with_jvp, with_vjp, WithBackward.apply], ids=["jvp", "vjp", "Function"])
@pytest.mark.parametrize("names", list(itertools.product((n for n in ALL if n != "jit"), repeat=2)), ids=" ".join)
def test_functions_with_derivatives_of_their_own(names: tuple[str, ...], custom: Function) -> None:
    f, order = nested(names, custom)
    assert f(POINT).item() == pytest.approx(DERIVATIVES[order](POINT.item()), rel=1e-11)
    assert tj.jit(f)(POINT).item() == pytest.approx(DERIVATIVES[order](POINT.item()), rel=1e-11)


@pytest.mark.parametrize(
    "custom", [plain, with_jvp, with_vjp, WithBackward.apply], ids=["plain", "jvp", "vjp", "Function"]
)
@pytest.mark.parametrize("names", [(), *itertools.product(ALL, repeat=1)], ids=" ".join)
def test_the_tape_around_and_within(names: tuple[str, ...], custom: Function) -> None:
    """``requires_grad``, ``backward`` and ``autograd.grad`` outside of a transformed function, and inside of one."""
    f, order = nested(names, custom)
    x = POINT.clone().requires_grad_()
    f(x).backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(DERIVATIVES[order + 1](POINT.item()), rel=1e-11)
    f, order = nested(names, by_tape(custom))
    assert f(POINT).item() == pytest.approx(DERIVATIVES[order + 1](POINT.item()), rel=1e-11)


def test_a_gradient_that_keeps_no_graph_is_differentiated_from_below() -> None:
    """``create_graph`` is about the tape of the transformation that it is used in, no other."""

    def slope(x: tj.Tensor) -> tj.Tensor:
        leaf = x.clone().requires_grad_()
        return tj.autograd.grad(plain(leaf), leaf)[0]

    batch = tj.stack([POINT, POINT + 1])
    gradient = tj.grad(lambda x: tj.vmap(slope)(x).sum())(batch)
    assert gradient.tolist() == pytest.approx([DERIVATIVES[2](0.7), DERIVATIVES[2](1.7)])
    assert tj.jvp(slope, (POINT,), (ONE,))[1].item() == pytest.approx(DERIVATIVES[2](0.7))


# Perturbations are kept apart ------------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(DIFFERENTIATE, repeat=2)))
def test_an_inner_derivative_does_not_see_the_outer_one(outer: str, inner: str) -> None:
    """d/dx (x * d/dy (x + y)) == 1, and d/dx (x * d/dy (x * y)) == 2x."""
    add = ALL[outer](lambda x: x * ALL[inner](lambda y: x + y)(ONE))
    assert add(POINT).item() == 1
    multiply = ALL[outer](lambda x: x * ALL[inner](lambda y: x * y)(ONE))
    assert multiply(POINT).item() == pytest.approx(2 * POINT.item())


def test_what_a_function_closes_over() -> None:
    """A gradient in a tensor from outside flows through every transformation."""
    w = tj.tensor(3.0, dtype=float64, requires_grad=True)
    for name, transform in ALL.items():
        w.grad = None
        transform(lambda x: w * w * tj.sin(x))(POINT).backward()
        slope = math.cos(0.7) if name in DIFFERENTIATE else math.sin(0.7)
        assert w.grad is not None
        assert w.grad.item() == pytest.approx(6 * slope), name


def test_no_grad_within_and_around() -> None:
    def half(x: tj.Tensor) -> tj.Tensor:
        with tj.no_grad():
            constant = x * x
        return constant * x

    for transform in DIFFERENTIATE.values():
        assert transform(half)(POINT).item() == pytest.approx(0.49)
        assert transform(transform(half))(POINT).item() == pytest.approx(0, abs=1e-12)
        with tj.no_grad():
            assert transform(plain)(POINT).item() == pytest.approx(DERIVATIVES[1](0.7))
        x = POINT.clone().requires_grad_()
        with tj.no_grad():
            assert not transform(plain)(x).requires_grad
        assert transform(plain)(x).requires_grad
        assert not transform(plain)(POINT).requires_grad


# Models ----------------------------------------------------------------------------------------------


def model() -> Any:
    tj.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def test_a_hessian_of_a_model() -> None:
    net, x = model(), tj.tensor([0.3, -0.2, 0.9], dtype=float64)
    whole = tj.hessian(lambda x: net(x).sum())(x)
    reverse = tj.jacrev(tj.jacrev(lambda x: net(x).sum()))(x)
    np.testing.assert_allclose(whole.detach().numpy(), reverse.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(whole.detach().numpy(), whole.detach().numpy().T, rtol=1e-12, atol=1e-14)
    step = 1e-6
    for i in range(3):
        shift = tj.zeros(3, dtype=float64)
        shift[i] = step
        slope = tj.grad(lambda x: net(x).sum())
        row = (slope(x + shift) - slope(x - shift)) / (2 * step)
        np.testing.assert_allclose(row.detach().numpy(), whole[i].detach().numpy(), rtol=1e-6, atol=1e-9)


def test_gradients_of_each_example() -> None:
    """The norm of each example's gradient in the parameters, against one backward an example."""
    net, x = model(), tj.randn(5, 3, dtype=float64)
    names = {name: parameter.detach() for name, parameter in net.named_parameters()}

    def loss(parameters: dict[str, tj.Tensor], example: tj.Tensor) -> tj.Tensor:
        return (nn.utils.stateless.functional_call(net, parameters, (example,)) ** 2).sum()

    for run in (lambda f: f, tj.jit):
        found = run(tj.vmap(tj.grad(loss), in_axes=(None, 0)))(names, x)
        for i in range(5):
            net.zero_grad()
            (net(x[i]) ** 2).sum().backward()
            for name, parameter in net.named_parameters():
                np.testing.assert_allclose(found[name][i].numpy(), parameter.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_a_step_of_a_step() -> None:
    """The gradient through a step of gradient descent, as in meta-learning, by every combination of modes."""
    target = tj.tensor([1.0, -2.0], dtype=float64)

    def inner(w: tj.Tensor, rate: tj.Tensor) -> tj.Tensor:
        return ((w * w * rate - target) ** 2).sum()

    def outer(rate: tj.Tensor, slope: Callable[..., Any]) -> tj.Tensor:
        w = tj.ones(2, dtype=float64)
        for _ in range(3):
            w = w - 0.1 * slope(inner)(w, rate)
        return inner(w, rate)

    rate = tj.tensor(0.5, dtype=float64)
    found = [
        derivative(lambda r: outer(r, slope))(rate).item()  # noqa: B023
        for derivative in (tj.grad, by_jvp, tj.jacfwd, tj.jacrev)
        for slope in (tj.grad, tj.jacrev, tj.jacfwd)
    ]
    assert found == pytest.approx([found[0]] * len(found), rel=1e-10)
    ends = [outer(rate + s, tj.grad).item() for s in (1e-6, -1e-6)]
    assert found[0] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)
