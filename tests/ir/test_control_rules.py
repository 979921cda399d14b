"""Forward mode and batches of graphs with branches and loops: against differences, reverse mode and a loop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.test_autodiff import GRAPHS, random_array
from tracejit.ir.autodiff import vjp
from tracejit.ir.forward import jvp
from tracejit.ir.graph import Graph
from tracejit.ir.interpreter import interpret
from tracejit.ir.parser import parse
from tracejit.ir.types import is_differentiable
from tracejit.ir.vectorize import vmap
from tracejit.ir.verifier import verify

TEXTS = {
    **GRAPHS,
    "a case that is chosen by a number": """
        func @f(%i: i64[], %x: f64[3]) -> (f64[3]) {
          %a = case %i, %x : f64[3]
            (%u: f64[3]) { %s = sine %u : f64[3]  return %s }
            (%u: f64[3]) { %s = exponential %u : f64[3]  return %s }
            (%u: f64[3]) { return %u }
          return %a
        }""",
    "a while that ends when values say so": """
        func @f(%limit: f64[], %w: f64[2], %x: f64[2]) -> (f64[2], i64[]) {
          %y, %n = while %limit, %w, %x, 0 {constants=2} : f64[2], i64[]
            (%l: f64[], %v: f64[2], %u: f64[2], %i: i64[]) {
              %s = reduce_sum %u {axes=[0]}      : f64[]
              %t = multiply %l, 20.0:f64             : f64[]
              %c = compare %s, %t {direction=lt} : bool[]
              return %c
            }
            (%l: f64[], %v: f64[2], %u: f64[2], %i: i64[]) {
              %s = multiply %u, %v : f64[2]
              %t = add %s, %u      : f64[2]
              %j = add %i, 1       : i64[]
              return %t, %j
            }
          return %y, %n
        }""",
    "a branch on values in a scan": """
        func @f(%x: f64[], %w: f64[]) -> (f64[]) {
          %y = scan %w, %x {carries=1, constants=1, length=6} : f64[]
            (%i: i64[], %v: f64[], %s: f64[]) {
              %c = compare %s, 1.0:f64 {direction=gt} : bool[]
              %t = case %c, %s, %v : f64[]
                (%u: f64[], %a: f64[]) { %m = multiply %u, 1.5:f64 : f64[]  return %m }
                (%u: f64[], %a: f64[]) { %m = sine %u : f64[] %n = multiply %m, %a : f64[]  return %n }
              return %t
            }
          return %y
        }""",
}


@pytest.fixture(params=TEXTS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return parse(TEXTS[request.param])


def arguments(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    first, *rest = graph.parameters
    if first.dtype.kind in "bi" and not first.shape:  # what chooses a branch
        number = np.asarray(random.integers(-1, 4), first.dtype) if first.dtype.kind == "i" else random.random() < 0.5
        return [np.asarray(number), *(random_array(p.type, random) for p in rest)]
    return [random_array(p.type, random) for p in graph.parameters]


def directions(graph: Graph, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=p.shape) for p in graph.parameters if is_differentiable(p.dtype)]


def pushed(graph: Graph, arrays: list[np.ndarray], tangents: list[np.ndarray]) -> list[np.ndarray]:
    derivative = jvp(graph)
    verify(derivative)
    assert parse(str(derivative)) == derivative
    found = interpret(derivative, [*arrays, *tangents])
    for one, other in zip(found, interpret(graph, arrays), strict=False):
        np.testing.assert_array_equal(one, other)
    return found[len(graph.results) :]


def test_forward_mode_against_differences(graph: Graph) -> None:
    for seed in range(4):
        arrays, tangents = arguments(graph, seed), directions(graph, seed + 10)
        sides = []
        for step in (1e-6, -1e-6):
            moving = iter(tangents)
            moved = [a + step * next(moving) if is_differentiable(a.dtype) else a for a in arrays]
            sides.append([r for r in interpret(graph, moved) if is_differentiable(r.dtype)])
        for found, up, down in zip(pushed(graph, arrays, tangents), *sides, strict=True):
            np.testing.assert_allclose(found, (up - down) / 2e-6, rtol=1e-6, atol=1e-7)


def test_forward_mode_against_reverse_mode(graph: Graph) -> None:
    arrays, tangents = arguments(graph), directions(graph, 10)
    generator = np.random.default_rng(20)
    cotangents = [generator.normal(size=r.shape) for r in graph.results if is_differentiable(r.dtype)]
    gradients = interpret(vjp(graph), [*arrays, *cotangents])[len(graph.results) :]
    left = sum(float((c * t).sum()) for c, t in zip(cotangents, pushed(graph, arrays, tangents), strict=True))
    right = sum(float((g * t).sum()) for g, t in zip(gradients, tangents, strict=True))
    assert left == pytest.approx(right, rel=1e-10)


def test_forward_mode_in_one_parameter_at_a_time(graph: Graph) -> None:
    arrays, tangents = arguments(graph), directions(graph, 10)
    whole = pushed(graph, arrays, tangents)
    total = [np.zeros_like(x) for x in whole]
    places = [i for i, p in enumerate(graph.parameters) if is_differentiable(p.dtype)]
    for place, tangent in zip(places, tangents, strict=True):
        one = jvp(graph, [i == place for i in range(len(graph.parameters))])
        verify(one)
        found = interpret(one, [*arrays, tangent])[len(graph.results) :]
        total = [a + b for a, b in zip(total, found, strict=True)]
    for a, b in zip(total, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_derivatives_of_derivatives(graph: Graph) -> None:
    """Forward over reverse is reverse over forward."""
    arrays = arguments(graph)
    first, second = directions(graph, 10), directions(graph, 11)
    generator = np.random.default_rng(20)
    cotangents = [generator.normal(size=r.shape) for r in graph.results if is_differentiable(r.dtype)]
    count, results = len(first), len(graph.results)
    reverse = vjp(graph)
    flags = [i < len(arrays) and is_differentiable(p.dtype) for i, p in enumerate(reverse.parameters)]
    over = interpret(jvp(reverse, flags), [*arrays, *cotangents, *first])[-count:]
    left = sum(float((a * b).sum()) for a, b in zip(over, second, strict=True))
    forward = jvp(graph)
    zeros = [np.zeros_like(c) for c in cotangents]
    flags = [i < len(arrays) and is_differentiable(p.dtype) for i, p in enumerate(forward.parameters)]
    under = interpret(vjp(forward, flags), [*arrays, *first, *zeros, *cotangents])[-count:]
    right = sum(float((a * b).sum()) for a, b in zip(under, second, strict=True))
    assert results
    assert left == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("size", [3, 1])
def test_batches_against_a_loop(graph: Graph, size: int) -> None:
    count = len(graph.parameters)
    picks = [tuple(i == j for j in range(count)) for i in range(count)] + [(True,) * count]
    for is_batched in dict.fromkeys(picks):
        rows, shared = [arguments(graph, seed) for seed in range(size)], arguments(graph, 99)
        batch = vmap(graph, size, is_batched)
        verify(batch)
        assert parse(str(batch)) == batch
        given = [np.stack([row[i] for row in rows]) if b else shared[i] for i, b in enumerate(is_batched)]
        found = interpret(batch, given)
        for n in range(size):
            alone = interpret(graph, [given[i][n] if b else given[i] for i, b in enumerate(is_batched)])
            for one, other in zip(found, alone, strict=True):
                np.testing.assert_array_equal(one[n], other)


def test_a_derivative_of_a_batch_and_a_batch_of_derivatives() -> None:
    """Of a ``while`` that ends at another time for each, the one can be had, the other not."""
    graph = parse(TEXTS["a while that ends when values say so"])
    rows = [arguments(graph, seed) for seed in range(4)]
    assert len({int(interpret(graph, row)[1]) for row in rows}) > 1
    given = [np.stack(column) for column in zip(*rows, strict=True)]
    batch = interpret(vjp(vmap(graph, 4)), [*given, np.ones((4, 2))])[2:]
    single = [interpret(vjp(graph), [*row, np.ones(2)])[2:] for row in rows]
    for found, expected in zip(batch, zip(*single, strict=True), strict=True):
        np.testing.assert_allclose(found, np.stack(expected), rtol=1e-12)
    with pytest.raises(NotImplementedError, match="differentiate the batch"):
        vmap(vjp(graph), 4)
    pushed_batch = interpret(jvp(vmap(graph, 4)), [*given, *map(np.ones_like, given)])
    batch_pushed = interpret(vmap(jvp(graph), 4), [*given, *map(np.ones_like, given)])
    for one, other in zip(pushed_batch, batch_pushed, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
