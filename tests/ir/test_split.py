"""Coordinates are computed apart: no array of all pairs in memory, and the bits of eager code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit.ir import Graph
from tracejit.ir.parser import parse
from tracejit.ir.passes import split

COUNT = 90


def points(count: int, coordinates: int, dtype: str = "float32") -> tj.Tensor:
    return tj.asarray(np.random.default_rng(count).normal(size=(count, coordinates)).astype(dtype))


def gravity(position: tj.Tensor, others: tj.Tensor) -> tj.Tensor:
    offset = others[None, :, :] - position[:, None, :]
    distance = tj.sum(offset * offset, axis=-1) + 1e-3
    return tj.sum(offset * (1 / (distance * tj.sqrt(distance)))[:, :, None], axis=1)


def largest_difference(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
    return tj.max(tj.abs(x[:, None] - y[None]), axis=-1)


def nearest(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
    return tj.argmin(tj.sum((x[:, None] - y[None]) ** 2, axis=-1), axis=1)


def weighed(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
    weights = tj.asarray([0.5, 2.0, 3.0, 4.0])[: x.shape[1]]
    return tj.sum((x[:, None] - y[None]) * weights, axis=0) + tj.min(x[:, None] * y[None], axis=(0, 1))


@pytest.mark.parametrize("coordinates", [2, 3, 4])
@pytest.mark.parametrize("function", [gravity, largest_difference, nearest, weighed])
def test_bits_are_those_of_eager_code(function: Callable[..., Any], coordinates: int) -> None:
    x, y = points(COUNT, coordinates), points(COUNT + 1, coordinates)
    assert np.array_equal(tj.jit(function)(x, y).numpy(), function(x, y).numpy())


def test_all_pairs_are_not_in_memory() -> None:
    x = points(700, 3, "float64")
    program = str(tj.jit(gravity).ir(x, x, stage="kernels"))
    (arena,) = [int(line.split()[-2]) for line in program.splitlines() if line.startswith("program")]
    assert arena < 700 * 700


def test_steps_of_a_loop() -> None:
    def moved(x: tj.Tensor) -> tj.Tensor:
        return tj.fori_loop(0, 4, lambda _, x: x + 0.01 * gravity(x, x), x)

    x = points(COUNT, 3)
    assert np.array_equal(tj.jit(moved)(x).numpy(), moved(x).numpy())


def test_gradients() -> None:
    def energy(x: tj.Tensor) -> tj.Tensor:
        offset = x[None] - x[:, None]
        return tj.sum(1 / tj.sqrt(tj.sum(offset * offset, axis=-1) + 0.1))

    x = points(COUNT, 3)
    assert np.array_equal(tj.jit(tj.grad(energy))(x).numpy(), tj.grad(energy)(x).numpy())


WHOLE = """
func @f(%x: f32[100,1,3], %y: f32[1,100,3], %z: f32[100,100,3]) -> (f32[100,100]) {
  %a = subtract %x, %y          : f32[100,100,3]
  BODY
  return %c
}"""


@pytest.mark.parametrize(
    "body",
    [
        "%b = multiply %a, %z : f32[100,100,3]\n%c = reduce_sum %b {axes=[2]} : f32[100,100]",
        "%b = reduce_sum %a {axes=[1,2]} : f32[100]\n%c = subtract %b, 1.0 : f32[100]",
        "%b = slice %a {limit=[100,100,1], start=[0,0,0], strides=[1,1,1]} : f32[100,100,1]\n"
        "%d = reshape %b {shape=[100,100]} : f32[100,100]\n"
        "%e = reduce_sum %a {axes=[2]} : f32[100,100]\n%c = add %d, %e : f32[100,100]",
    ],
)
def test_what_is_read_otherwise_stays_whole(body: str) -> None:
    result = "f32[100]" if "axes=[1,2]" in body else "f32[100,100]"
    text = WHOLE.replace("BODY", body).replace("-> (f32[100,100])", f"-> ({result})")
    graph = parse(text)
    assert isinstance(graph, Graph)
    assert split(graph) is graph
