"""Branches and loops of the graph in transformed functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.test_control_rules import TEXTS, arguments
from tracejit.ir import Graph, Value
from tracejit.ir.graph import Constant
from tracejit.ir.parser import parse
from tracejit.ir.types import is_differentiable
from tracejit.tape import apply, apply_region

pytestmark = pytest.mark.usefixtures("first_code_only")


@pytest.fixture(params=TEXTS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return parse(TEXTS[request.param])


def run(graph: Graph, *operands: tj.Tensor) -> list[tj.Tensor]:
    """The graph's ops, on tensors."""
    known: dict[Value, tj.Tensor] = dict(zip(graph.parameters, operands, strict=True))

    def read(value: Value) -> tj.Tensor:
        return tj.tensor(value.array) if isinstance(value, Constant) else known[value]

    for op in graph.ops:
        given = [read(operand) for operand in op.operands]
        if op.regions:
            known.update(zip(op.results, apply_region(op.primitive, given, op.attributes, op.regions), strict=True))
        else:
            known[op.result] = apply(op.primitive, given, op.attributes)
    return [read(value) for value in graph.results]


def tensors(arrays: Any) -> list[tj.Tensor]:
    return [tj.tensor(array) for array in arrays]


def total(graph: Graph) -> Any:
    """A scalar of the operands that are differentiated, the others given, and those operands."""
    given = tensors(arguments(graph))
    places = [i for i, x in enumerate(given) if is_differentiable(x.dtype)]

    def f(*variables: tj.Tensor) -> tj.Tensor:
        operands = list(given)
        for place, variable in zip(places, variables, strict=True):
            operands[place] = variable
        results = [r for r in run(graph, *operands) if is_differentiable(r.dtype)]
        weights = [tj.tensor(np.random.default_rng(i).normal(size=r.shape)) for i, r in enumerate(results)]
        return sum(((r * w).sum() for r, w in zip(results, weights, strict=True)), tj.zeros((), dtype="float64"))

    return f, [given[place] for place in places]


def dot(xs: Any, ys: Any) -> float:
    return sum(float((x * y).sum().item()) for x, y in zip(xs, ys, strict=True))


@pytest.mark.parametrize("wrap", [lambda f: f, tj.jit, tj.checkpoint], ids=["eager", "jit", "checkpoint"])
def test_first_and_second_derivatives(graph: Graph, wrap: Any) -> None:
    """By every mode, and by every one in every other."""
    f, x = total(graph)
    generator = np.random.default_rng(1)
    first, second = ([tj.tensor(generator.normal(size=v.shape)) for v in x] for _ in range(2))
    argnums = tuple(range(len(x)))

    def slope(*x: tj.Tensor) -> tj.Tensor:
        gradients = tj.grad(f, argnums)(*x)
        return sum(((g * t).sum() for g, t in zip(gradients, first, strict=True)), tj.zeros((), dtype="float64"))

    def along(*x: tj.Tensor) -> tj.Tensor:
        return tj.jvp(f, x, tuple(first))[1]

    ends = [f(*[v + s * t for v, t in zip(x, first, strict=True)]).item() for s in (1e-6, -1e-6)]
    measured = pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-7)
    assert wrap(slope)(*x).item() == measured
    assert wrap(along)(*x).item() == measured
    assert tj.linearize(f, *x)[1](*first).item() == measured
    assert dot([r.reshape(v.shape) for r, v in zip(tj.jacfwd(f, argnums)(*x), x, strict=True)], first) == measured
    bends = [
        *[wrap(lambda *x, one=one: tj.jvp(one, x, tuple(second))[1])(*x).item() for one in (slope, along)],
        *[dot(wrap(tj.grad(one, argnums))(*x), second) for one in (slope, along)],
    ]
    assert bends == pytest.approx([bends[0]] * 4, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.jit], ids=["eager", "jit"])
def test_batches(graph: Graph, wrap: Any) -> None:
    rows = [tensors(arguments(graph, seed)) for seed in range(3)]
    for row in rows[1:]:  # what chooses a branch may differ, what ends a loop too
        assert [x.shape for x in row] == [x.shape for x in rows[0]]
    batch = [tj.stack(column) for column in zip(*rows, strict=True)]
    found = wrap(tj.vmap(lambda *x: run(graph, *x)))(*batch)
    for i, row in enumerate(rows):
        for one, other in zip(found, run(graph, *row), strict=True):
            np.testing.assert_array_equal(one[i].numpy(), other.numpy())


@pytest.mark.parametrize("wrap", [lambda f: f, tj.jit], ids=["eager", "jit"])
def test_batches_of_derivatives_and_derivatives_of_batches(graph: Graph, wrap: Any) -> None:
    f, x = total(graph)
    argnums = tuple(range(len(x)))
    shifts = tj.tensor([0.0, 0.05, 0.1], dtype="float64")

    def moved(shift: tj.Tensor) -> tj.Tensor:
        return f(*[v + shift for v in x])

    expected = [tj.grad(moved)(shift).item() for shift in shifts]
    assert argnums
    assert wrap(tj.grad(lambda s: tj.vmap(moved)(s).sum()))(shifts).tolist() == pytest.approx(expected, rel=1e-12)
    pushed = wrap(tj.vmap(lambda s: tj.jvp(moved, (s,), (tj.ones((), dtype="float64"),))[1]))(shifts)
    assert pushed.tolist() == pytest.approx(expected, rel=1e-12)
    assert wrap(tj.vmap(tj.grad(moved)))(shifts).tolist() == pytest.approx(expected, rel=1e-12)
    bends = wrap(tj.vmap(tj.grad(tj.grad(moved))))(shifts)
    assert bends.tolist() == pytest.approx([tj.grad(tj.grad(moved))(shift).item() for shift in shifts], rel=1e-11)
