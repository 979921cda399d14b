"""What is computed from rolled and padded fields is computed in pieces: the bits are those of eager code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit.ir import Graph
from tracejit.ir.parser import parse
from tracejit.ir.passes import pieces


def around(u: tj.Tensor) -> tj.Tensor:
    total = -4.0 * u
    for axis in range(u.ndim):
        total = total + tj.roll(u, 1, axis=axis) + tj.roll(u, -2, axis=axis)
    return total


def diagonal(u: tj.Tensor) -> tj.Tensor:
    return u * tj.roll(u, (1,) * u.ndim, axis=tuple(range(u.ndim))) + u[0]


def padded(u: tj.Tensor) -> tj.Tensor:
    wide = tj.pad(u, 1, constant_values=0.5)
    return wide * 2 + tj.roll(wide, 1, axis=0)


def shared(u: tj.Tensor) -> tuple[tj.Tensor, ...]:
    rolled = tj.roll(u, 3, axis=-1)
    square = u * u
    return rolled, square, tj.exp(rolled) + square, tj.sum(rolled - u, axis=0)


def differences(u: tj.Tensor) -> tj.Tensor:
    return tj.grad(lambda u: tj.sum((u[1:] - u[:-1]) ** 2) + tj.sum(u[..., 2:] * u[..., :-2]))(u)


def carried(u: tj.Tensor) -> tj.Tensor:
    for _ in range(12):
        u = u + 0.1 * around(u)
    return u


@pytest.mark.parametrize("shape", [(5001,), (70, 67), (20, 17, 19)])
@pytest.mark.parametrize("function", [around, diagonal, padded, shared, differences, carried])
def test_bits_are_those_of_eager_code(function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    u = tj.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    found, expected = tj.jit(function)(u), function(u)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    assert all(np.array_equal(one.numpy(), other.numpy()) for one, other in pairs)


def test_a_step_over_a_periodic_grid_copies_nothing() -> None:
    program = str(tj.jit(lambda u: u + 0.1 * around(u)).ir(tj.ones((100, 90)), stage="kernels"))
    assert "arena 0 bytes" in program
    assert "concatenate" not in program


@pytest.mark.parametrize(
    "body",
    [
        "%n = negate %a : f32[1]\n%c = concatenate %n, %b {dimension=0} : f32[5000]\n%d = add %x, %c : f32[5000]",
        "%c = concatenate %a, %b {dimension=0} : f32[5000]\n%d = reshape %c {shape=[5000]} : f32[5000]",
    ],
)
def test_what_is_computed_for_its_place_or_read_otherwise_stays_whole(body: str) -> None:
    graph = parse(
        "func @f(%x: f32[5000]) -> (f32[5000]) {\n"
        "%a = slice %x {limit=[5000], start=[4999], strides=[1]} : f32[1]\n"
        f"%b = slice %x {{limit=[4999], start=[0], strides=[1]}} : f32[4999]\n{body}\nreturn %d\n}}"
    )
    assert isinstance(graph, Graph)
    assert pieces(graph) is graph
