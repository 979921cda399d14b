"""Loops that one kernel runs give the bits of their steps, done one by one."""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as tj
from tracejit.backends.cpu.runtime import Executable
from tracejit.backends.planning import plan
from tracejit.ir import Block, Graph, Op, TensorType, Value
from tracejit.ir.primitives.control import scan


def random(*shape, dtype="float32", seed=0):
    return tj.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def by_steps(function, init, xs, length, reverse=False):
    carry, found = init, []
    for number in reversed(range(length)) if reverse else range(length):
        carry, y = function(carry, None if xs is None else xs[number])
        found.append(y)
    found = found[::-1] if reverse else found
    return (*carry, *([] if found[0] is None else [tj.stack(found)]))


def at_once(function, init, xs, length, reverse=False):
    carry, ys = tj.scan(function, init, xs, length=length, reverse=reverse)
    return (*carry, *([] if ys is None else [ys]))


def bits(results):
    return [(str(x.dtype), x.shape, np.asarray(x).tobytes()) for x in results]


def kernels(function, *arguments):
    return tj.jit(function).ir(*arguments, stage="kernels")


@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (16,), (17,), (100,), (700,), (3, 1, 5), (40, 33)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_elementwise_steps(shape, dtype):
    scale = (
        random(*shape, dtype="float64", seed=1).astype(dtype) if dtype != "int32" else tj.full(shape, 3, dtype=dtype)
    )
    start = (random(*shape, dtype="float64") * 9).astype(dtype)

    def step(carry, x):
        a, b = carry
        c = tj.where(a > b, a - b, b * scale + a)
        return (c, a), None

    expected = bits(by_steps(step, (start, start + 1), None, 13))
    assert bits(at_once(step, (start, start + 1), None, 13)) == expected
    assert "carrying" in kernels(lambda a: at_once(step, (a, a + 1), None, 13), start)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(), (6,), (300,)], ids=str)
def test_steps_with_slices_and_stacks(shape, reverse):
    xs = random(11, *shape)

    def step(carry, x):
        (total,) = carry
        return (tj.tanh(total * 0.5 + x),), total * x

    start = (random(*shape, seed=2),)
    assert bits(at_once(step, start, xs, 11, reverse)) == bits(by_steps(step, start, xs, 11, reverse))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [2, 5, 8, 16])
def test_small_products(size, dtype):
    w, start = random(size, size, dtype=dtype), random(size, dtype=dtype, seed=1)
    row, column = start[None, :], start[:, None]

    def steps(carry, x):
        v, r, c = carry
        return (w @ v * 0.3 - v * v * 0.1, tj.tanh(r @ w), tj.tanh(w.T @ c) + v[2 - 1]), None

    expected = bits(by_steps(steps, (start, row, column), None, 9))
    assert bits(at_once(steps, (start, row, column), None, 9)) == expected

    def one(v):
        return at_once(lambda carry, x: ((w @ carry[0] * 0.3,), None), (v,), None, 9)

    text = kernels(one, start)
    assert "lane" in text
    assert bits(tj.jit(one)(start)) == bits(by_steps(lambda carry, x: ((w @ carry[0] * 0.3,), None), (start,), None, 9))


def test_larger_products_have_kernels_of_their_own():
    start, xs = random(48, 40), random(7, 9, 48)

    def step(carry, x):
        return (carry[0] + x.T @ x[:, :40],), None

    assert "carrying" not in kernels(lambda a: at_once(step, (a,), xs, 7), start)
    assert bits(tj.jit(lambda a: at_once(step, (a,), xs, 7))(start)) == bits(by_steps(step, (start,), xs, 7))


def test_rows_by_number():
    x, start = random(20, 6), random(6, seed=1)

    def f(x, h):
        for t in range(20):
            h = tj.sin(h * 1.1) + x[t] * t - tj.cos(tj.sin(h) * tj.exp(-h * h)) * 0.5 + tj.tanh(tj.sin(h))
        return h

    jitted = tj.jit(f)
    assert bits([jitted(x, start)]) == bits([f(x, start)])


def test_gradients():
    def f(x, w):
        for _ in range(100):
            x = tj.tanh(x * w + 0.1) * 1.01 - tj.sin(x) * 0.1 * w
        return x

    found = []
    for function in (f, tj.jit(f)):
        x, w = random(9).requires_grad_(), random(9, seed=1).requires_grad_()
        (function(x, w) ** 2).sum().backward()
        found.append(bits([x.grad, w.grad]))
    assert found[0] == found[1]


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), (3,)], ids=str)
def test_what_is_stacked_may_be_larger_than_what_is_carried(shape):
    whole = random(*shape)

    def step(carry, _):
        (total,) = carry
        return (total + 1.5,), whole

    start = (tj.tensor(0.0),)
    expected = bits(by_steps(step, start, None, 4))
    assert bits(at_once(step, start, None, 4)) == expected
    assert bits(tj.jit(lambda x: at_once(step, (x,), None, 4))(*start)) == expected


def test_carries_without_elements():
    def step(carry, x):
        (total,) = carry
        return (total * x + 1,), total

    start, xs = (random(2, 0),), random(3, 2, 0)
    expected = bits(by_steps(step, start, xs, 3))
    assert bits(tj.jit(lambda x, xs: at_once(step, (x,), xs, 3))(*start, xs)) == expected


def test_loops_that_give_nothing():
    x, number = Value(TensorType(np.dtype("float32"), ())), Value(TensorType(np.dtype("int64"), ()))
    attributes = {"carries": 0, "constants": 0, "length": 3}
    loop = Op(scan, (), attributes, [], None, [Block([number], [], [])])
    (found,) = Executable(plan(Graph("nothing", [x], [loop], [x])))([np.array(2, "float32")])
    assert found == 2
