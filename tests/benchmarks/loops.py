"""The workloads that are written as loops over numbers, for Numba: each function takes and returns arrays.

Large ones run in parallel, small ones on one processor, as a user of Numba would have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np
from numba import njit, prange

f32 = np.float32
PARALLEL_FROM = 1 << 15  # numbers; below, starting the threads takes longer than the work

HALF, ONE, TWO, FOUR = f32(0.5), f32(1), f32(2), f32(4)
ROOT_HALF, STEPS = f32(0.7071067811865476), 30


def compiled(function: Callable[..., Any], parallel_from: int = PARALLEL_FROM) -> Callable[..., Any]:
    alone, together = njit(function), njit(parallel=True)(function)

    @wraps(function)
    def call(first: np.ndarray, *others: np.ndarray) -> Any:
        return (together if first.size >= parallel_from else alone)(first, *others)

    return call


@compiled
def gelu(x: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = HALF * x[i] * (ONE + math.erf(x[i] * ROOT_HALF))
    return out


@compiled
def black_scholes(price: Any, strike: Any, time: Any) -> Any:
    rate, volatility, drift = f32(0.02), f32(0.3), f32(0.065)
    out = np.empty_like(price)
    for i in prange(price.size):
        root = volatility * math.sqrt(time[i])
        d1 = (math.log(price[i] / strike[i]) + drift * time[i]) / root
        d2 = d1 - root
        cdf1, cdf2 = HALF + HALF * math.erf(d1 * ROOT_HALF), HALF + HALF * math.erf(d2 * ROOT_HALF)
        out[i] = price[i] * cdf1 - strike[i] * math.exp(-rate * time[i]) * cdf2
    return out


@compiled
def escape_time(cr: Any, ci: Any) -> Any:
    out = np.empty_like(cr)
    for i in prange(cr.size):
        x, y, count = cr[i], ci[i], f32(0)
        for _ in range(STEPS):
            if x * x + y * y > FOUR:
                break
            count += ONE
            x, y = x * x - y * y + cr[i], TWO * x * y + ci[i]
        out[i] = count
    return out


@compiled
def log_sum_exp(x: Any, y: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.size):
        larger = max(x[i], y[i])
        out[i] = larger + math.log(math.exp(x[i] - larger) + math.exp(y[i] - larger))
    return out


@compiled
def complex_map(z: Any, w: Any) -> Any:
    out = np.empty_like(z)
    two = np.complex64(2)
    for i in prange(z.size):
        out[i] = (z[i] * w[i] + z[i]) / (w[i] * w[i] + two)
    return out


@compiled
def cumulative_sum(x: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        total = f32(0)
        for j in range(x.shape[1]):
            total += x[i, j]
            out[i, j] = total
    return out


@compiled
def _heat_plane(u: Any) -> Any:
    old, new = u, u.copy()
    for step in range(10):
        for i in prange(1, old.shape[0] - 1):
            for j in range(1, old.shape[1] - 1):
                sides = old[i + 1, j] + old[i - 1, j] + old[i, j + 1] + old[i, j - 1]
                new[i, j] = old[i, j] + f32(0.1) * (sides - FOUR * old[i, j])
        old, new = new, u.copy() if step == 0 else old
    return old


@compiled
def _heat_space(u: Any) -> Any:
    old, new = u, u.copy()
    for step in range(10):
        for i in prange(1, old.shape[0] - 1):
            for j in range(1, old.shape[1] - 1):
                for k in range(1, old.shape[2] - 1):
                    sides = old[i + 1, j, k] + old[i - 1, j, k] + old[i, j + 1, k] + old[i, j - 1, k]
                    sides += old[i, j, k + 1] + old[i, j, k - 1]
                    new[i, j, k] = old[i, j, k] + f32(0.1) * (sides - f32(6) * old[i, j, k])
        old, new = new, u.copy() if step == 0 else old
    return old


def heat(u: Any) -> Any:
    return (_heat_plane if u.ndim == 2 else _heat_space)(u)


@partial(compiled, parallel_from=1024)  # pairs of them count
def n_body(position: Any, velocity: Any, mass: Any) -> Any:
    moved, faster = np.empty_like(position), np.empty_like(velocity)
    for i in prange(position.shape[0]):
        ax, ay, az = 0.0, 0.0, 0.0
        for j in range(position.shape[0]):
            x, y, z = (
                position[j, 0] - position[i, 0],
                position[j, 1] - position[i, 1],
                position[j, 2] - position[i, 2],
            )
            distance = x * x + y * y + z * z + 1e-3
            pull = mass[j] / (distance * math.sqrt(distance))
            ax, ay, az = ax + x * pull, ay + y * pull, az + z * pull
        for k, a in enumerate((ax, ay, az)):
            faster[i, k] = velocity[i, k] + 0.01 * a
            moved[i, k] = position[i, k] + 0.01 * faster[i, k]
    return moved, faster


@compiled
def cube_root(x: Any) -> Any:
    y = np.ones_like(x)
    largest = ONE
    while largest > f32(1e-5):
        largest = f32(0)
        for i in range(x.size):
            step = (y[i] - x[i] / (y[i] * y[i])) / f32(3)
            y[i] -= step
            largest = max(largest, abs(step))
    return y


@compiled
def ode(start: Any, coupling: Any) -> Any:
    y, middle = start.copy(), np.empty_like(start)
    for _ in range(10_000):
        for i in range(y.size):
            change = f32(0)
            for j in range(y.size):
                change += coupling[i, j] * y[j]
            middle[i] = y[i] + f32(5e-4) * (change - f32(0.1) * y[i] * y[i] * y[i])
        for i in range(y.size):
            change = f32(0)
            for j in range(y.size):
                change += coupling[i, j] * middle[j]
            y[i] += f32(1e-3) * (change - f32(0.1) * middle[i] * middle[i] * middle[i])
    return y
