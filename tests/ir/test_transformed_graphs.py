"""Random graphs, transformed: a batch is a loop, forward mode is reverse mode transposed."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings, strategies as st

from tests.ir.random_graphs import random_graphs
from tracejit.ir.autodiff import vjp
from tracejit.ir.forward import jvp
from tracejit.ir.graph import Graph
from tracejit.ir.interpreter import interpret
from tracejit.ir.types import TensorType, bool_, float64, int64, is_differentiable
from tracejit.ir.vectorize import vmap
from tracejit.ir.verifier import verify

GRAPHS = random_graphs(max_ops=8, dtypes=(float64, float64, int64, bool_), extents=(0, 1, 2, 3), max_size=60)


def array(type: TensorType, random: np.random.Generator, *batch: int) -> np.ndarray:
    shape = (*batch, *type.static_shape)
    if type.dtype == bool_:
        return random.random(shape) < 0.5
    if type.dtype.kind == "f":
        return random.uniform(-2, 2, shape)
    return random.integers(0, 4, shape).astype(type.dtype)


@settings(deadline=None)
@given(GRAPHS, st.integers(0, 2**32 - 1), st.integers(0, 3), st.data())
def test_a_batch_is_a_loop(graph: Graph, seed: int, size: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    flags = [data.draw(st.booleans()) for _ in graph.parameters]
    batch = vmap(graph, size, flags)
    verify(batch)
    given = [array(p.type, random, *((size,) if flag else ())) for p, flag in zip(graph.parameters, flags, strict=True)]
    found = interpret(batch, given)
    for result, value in zip(found, graph.results, strict=True):
        assert result.shape == (size, *value.shape)
    for n in range(size):
        alone = interpret(graph, [x[n] if flag else x for x, flag in zip(given, flags, strict=True)])
        for result, expected in zip(found, alone, strict=True):
            np.testing.assert_allclose(result[n], expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(GRAPHS, st.integers(0, 2**32 - 1))
def test_forward_mode_is_reverse_mode_transposed(graph: Graph, seed: int) -> None:
    random = np.random.default_rng(seed)
    arguments = [array(p.type, random) for p in graph.parameters]
    tangents = [random.normal(size=p.shape) for p in graph.parameters if is_differentiable(p.dtype)]
    cotangents = [random.normal(size=r.shape) for r in graph.results if is_differentiable(r.dtype)]
    forward, reverse = jvp(graph), vjp(graph)
    verify(forward)
    count = len(graph.results)
    pushed = interpret(forward, [*arguments, *tangents])
    pulled = interpret(reverse, [*arguments, *cotangents])
    for one, other in zip(pushed[:count], interpret(graph, arguments), strict=True):
        np.testing.assert_array_equal(one, other)
    left = [float((c * t).sum()) for c, t in zip(cotangents, pushed[count:], strict=True)]
    right = [float((g * t).sum()) for g, t in zip(pulled[count:], tangents, strict=True)]
    assume(np.isfinite([*left, *right]).all())
    terms = [float(abs(c * t).sum()) for c, t in zip(cotangents, pushed[count:], strict=True)]
    assert abs(sum(left) - sum(right)) <= 1e-7 * (1 + sum(terms))
