"""Loops that threads share by rows give the bits of their steps, done one by one; others are not shared so."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import tracejit as tj
from tracejit import nn
from tracejit.backends.cpu import partition
from tracejit.backends.cpu.runtime import runtime

needs_threads = pytest.mark.skipif(runtime().workers < 2, reason="there is one processor")


@pytest.fixture
def shared(monkeypatch):
    """The rows of each loop that is encoded, 0 where they are not shared; even of small ones."""
    found, rows_of = [], partition.rows_of

    def watched(*arguments):
        found.append(rows_of(*arguments))
        return found[-1]

    monkeypatch.setattr(partition, "rows_of", watched)
    monkeypatch.setattr(partition, "LEAST_WORK", 0)
    monkeypatch.setenv("TRACEJIT_PASSES_LIMIT", str(10**9))  # programs of such passes are not kept on disk
    return found


def random(*shape, seed=0):
    return tj.tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def bits(x):
    return x.shape, np.asarray(x).tobytes()


@needs_threads
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda layer: layer.__name__)
@pytest.mark.parametrize(("rows", "hidden"), [(16, 128), (23, 40)])
def test_recurrent_layers(layer, rows, hidden, shared):
    model, x = layer(20, hidden), random(12, rows, 20)
    with tj.no_grad():
        expected = model(x)[0]
        found = tj.jit(lambda x: model(x)[0])(x)
    assert bits(found) == bits(expected)
    assert shared[-1] == rows


@needs_threads
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wide_products_are_cut_into_columns(dtype, shared):
    w, start = (random(8, 1700, seed=1) * 0.1).astype(dtype), random(100, 8).astype(dtype)

    def step(x):
        wide = tj.tanh(x @ w + 0.5)
        return wide[:, 1:9] + wide[:, 1600:1608] * x

    def loop(x):
        return tj.scan(lambda carry, _: ((step(carry[0]),), None), (x,), None, length=5)[0][0]

    expected = start
    for _ in range(5):
        expected = step(expected)
    assert bits(tj.jit(loop)(start)) == bits(expected)
    assert shared[-1] == 100


@needs_threads
@pytest.mark.parametrize(
    "mix",
    [
        lambda x: tj.flip(x, axis=0),
        lambda x: x - tj.mean(x, axis=0),
        lambda x: tj.concat([x[1:], x[:1]]),
        lambda x: tj.cumulative_sum(x, axis=0),
        lambda x: x @ (x.mT @ x),
    ],
)
def test_rows_that_depend_on_others(mix, shared):
    w, start = random(32, 32, seed=1) * 0.2, random(32, 32)

    def step(x):
        return tj.tanh(mix(x) @ w)

    expected = start
    for _ in range(6):
        expected = step(expected)
    found = tj.jit(lambda x: tj.scan(lambda c, _: ((step(c[0]),), None), (x,), None, length=6)[0][0])(start)
    assert bits(found) == bits(expected)
    assert not any(shared)


@needs_threads
def test_what_is_stacked_and_read_step_by_step(shared):
    w, xs, start = random(24, 24, seed=1) * 0.3, random(9, 21, 24, seed=2), random(21, 24)

    def step(h, x):
        following = tj.tanh(h @ w + x)
        return following, (h, following * 2.0)

    def loop(start, xs):
        (last,), ys = tj.scan(lambda carry, x: ((step(carry[0], x)[0],), step(carry[0], x)[1]), (start,), xs)
        return last, *ys

    h, ys = start, []
    for x in xs:
        h, y = step(h, x)
        ys.append(y)
    expected = [h, *(tj.stack(y) for y in zip(*ys, strict=True))]
    assert [*map(bits, tj.jit(loop)(start, xs))] == [*map(bits, expected)]
    assert shared[-1] == 21


@needs_threads
def test_values_of_a_step_that_could_share_memory(shared):
    w, v, start = random(40, 72, seed=1) * 0.1, random(72, 40, seed=2) * 0.1, random(30, 40)

    def step(x):
        return tj.tanh(tj.tanh(x @ w) @ v + x)

    expected = start
    for _ in range(5):
        expected = step(expected)
    found = tj.jit(lambda x: tj.scan(lambda c, _: ((step(c[0]),), None), (x,), None, length=5)[0][0])(start)
    assert bits(found) == bits(expected)
    assert shared[-1] == 30


@needs_threads
def test_interrupts(shared):
    w, start = random(128, 128, seed=1) * 0.1, random(64, 128)
    loop = tj.jit(lambda x: tj.scan(lambda c, _: ((tj.tanh(c[0] @ w),), None), (x,), None, length=10**6)[0][0])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    begin = time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop(start)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert shared[-1] == 64
    assert time.monotonic() - begin < 5


@needs_threads
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda layer: layer.__name__)
def test_gradients_of_weights_are_added_up_in_loops_of_their_own(layer, shared):
    found = []
    for wrap in (lambda f: f, tj.jit):
        tj.manual_seed(0)
        model, x = layer(10, 24), random(13, 20, 10)

        def gradients(x, model=model):
            (model(x)[0] ** 2).sum().backward()
            return [parameter.grad for parameter in model.parameters()]

        found.append([*map(bits, wrap(gradients)(x))])
    assert found[0] == found[1]
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[layer]
    assert shared == [20, 20, 24 * gates]
