"""Several steps of a loop in one sweep over memory: the bits are those of the steps one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit.backends.control import LoopCall, Place
from tracejit.backends.cpu import sweeps
from tracejit.ir import Value


def heat(u: tj.Tensor, steps: int) -> tj.Tensor:
    inner = (slice(1, -1),) * u.ndim
    for _ in range(steps):
        change = -2.0 * u.ndim * u[inner]
        for axis in range(u.ndim):
            for part in (slice(2, None), slice(None, -2)):
                change = change + u[tuple(part if i == axis else s for i, s in enumerate(inner))]
        u[inner] = u[inner] + 0.1 * change
    return u


def upwind(u: tj.Tensor, steps: int) -> tj.Tensor:
    def step(_: object, u: tj.Tensor) -> tj.Tensor:
        return tj.concat([u[:3], u[3:] - 0.25 * (u[3:] - u[:-3])])

    return tj.fori_loop(0, steps, step, u)


def in_two_stages(u: tj.Tensor, steps: int) -> tj.Tensor:
    for _ in range(steps):
        middle = (u[2:] + u[:-2] + u[1:-1]) / 3
        u[1:-1, 2:-1] = (middle[:, 3:] + middle[:, :-3] + middle[:, 1:-2]) / 3
    return u


def two_fields(u: tj.Tensor, steps: int) -> tj.Tensor:
    v = u * u
    for _ in range(steps):
        u[1:-1], v[2:-2] = u[1:-1] + 0.1 * (v[2:] - v[:-2]), v[2:-2] + 0.1 * (u[4:] - u[:-4])
    return u + v


def wave(u: tj.Tensor, steps: int) -> tj.Tensor:
    before = u * 0.9
    for _ in range(steps):
        around = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]
        after = tj.zeros_like(u)
        after[1:-1, 1:-1] = 2 * u[1:-1, 1:-1] - before[1:-1, 1:-1] + 0.1 * around
        u, before = after, u
    return u - 2 * before


def remembering_three(u: tj.Tensor, steps: int) -> tj.Tensor:
    first, second = u * 0.9, u * 0.8
    for _ in range(steps):
        after = u.clone()
        after[1:-1] = u[1:-1] + 0.1 * (first[2:] - first[:-2]) + 0.05 * (second[2:] - u[:-2]) * u[1:-1]
        u, first, second = after, u, first
    return u - 2 * first + 3 * second


def around_a_ring(u: tj.Tensor, steps: int) -> tj.Tensor:
    v = u * u
    for _ in range(steps):
        reaction = 0.01 * u * v * v
        spread = tj.roll(u, 1, axis=0) + tj.roll(u, -2, axis=0) - 2 * u
        u, v = u + 0.1 * spread - reaction, v + 0.1 * (tj.roll(v, (1, -1), axis=(0, 1)) - v) + reaction
    return u + 2 * v


def weighed(u: tj.Tensor, steps: int) -> tj.Tensor:
    weights, edge = u * 0.3, u[0]
    for _ in range(steps):
        u[1:-1] = u[1:-1] * edge + weights[1:-1] * (u[2:] - u[:-2])
    return u


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[sweeps.Sweep]:
    """The sweeps that are made, of small blocks in three bands."""
    made: list[sweeps.Sweep] = []
    for name, value in (("SHARED_WORK", 0), ("CACHE_BYTES", 1 << 12), ("LEAST_BLOCK", 300), ("MOST_STEPS", 4)):
        monkeypatch.setattr(sweeps, name, value)
    whole = sweeps.sweeps_of

    def sweeps_of(call: LoopCall, places: Mapping[Value, Place], workers: int) -> list[sweeps.Sweep]:
        made.extend(own := whole(call, places, 3))
        return own

    monkeypatch.setattr(sweeps, "sweeps_of", sweeps_of)
    return made


@pytest.mark.parametrize(
    ("function", "shape", "steps"),
    [
        (heat, (301,), 10),
        (heat, (97, 43), 9),
        (heat, (101, 7, 21), 15),
        (upwind, (403, 5), 12),
        (in_two_stages, (280, 31), 11),
        (two_fields, (340, 6), 10),
        (weighed, (150, 9), 13),
        (wave, (170, 33), 17),
        (wave, (171, 33), 13),
        (remembering_three, (210, 8), 22),
        (remembering_three, (211, 8), 9),
        (around_a_ring, (683, 19), 18),
        (around_a_ring, (650, 23), 11),
    ],
)
def test_a_sweep_computes_what_the_steps_do(
    function: Callable[..., Any], shape: tuple[int, ...], steps: int, found: list[sweeps.Sweep]
) -> None:
    start = tj.asarray(np.random.default_rng(0).random(shape, np.float32))
    compiled = tj.jit(lambda u: function(u.clone(), steps))(start)
    assert [sweep.bands for sweep in found] == [3] * len(found)
    assert found
    assert {stage.lag for stage in found[0].stages} != {0}
    assert np.array_equal(compiled.numpy(), function(start.clone(), steps).numpy())


def test_what_never_changes_is_copied_twice(found: list[sweeps.Sweep]) -> None:
    tj.jit(lambda u: heat(u.clone(), 20))(tj.ones((88, 51)))
    first, second, *_ = found
    assert [sum(stage.part.settles == 2 for stage in sweep.stages) for sweep in (first, second)] == [8, 0]


def test_what_depends_on_all_rows_is_not_swept(found: list[sweeps.Sweep]) -> None:
    def turned(u: tj.Tensor) -> tj.Tensor:
        for _ in range(9):
            u = u + 0.5 * tj.flip(u, axis=0) + tj.sum(u, axis=0)
        return u

    start = tj.asarray(np.random.default_rng(0).random((120, 64), np.float32))
    assert np.array_equal(tj.jit(turned)(start).numpy(), turned(start).numpy())
    assert not found
