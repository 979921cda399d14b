"""``for`` loops of Python's over many steps: they are traced step by step, compiled as one step, and change no bit."""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tests.test_programs import described
from tracejit import nn, optim


def random(*shape, seed=0):
    return tj.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def scalar(x):
    for _ in range(1000):
        x = tj.sin(x) * 1.5 + 0.1
    return x


def product(x, w):
    for _ in range(100):
        x = tj.tanh(x @ w)
    return x


def first_and_last(x, w):
    for i in range(50):
        if i == 0:
            x = x * 2
        x = tj.tanh(x @ w)
        if i == 49:
            x = x - 1
    return x


def rows(x, w):
    h = w[0]
    for i in range(40):
        h = tj.tanh(w @ h) + x[i]
    return h


def strided_rows(x, w):
    h = w[0]
    for i in range(38, 0, -2):
        h = tj.tanh(w @ h) + x[i] * i
    return h


def appended(x, w):
    found = []
    for _ in range(40):
        x = tj.tanh(x @ w)
        found.append(x.sum(axis=0))
    return tj.stack(found), x


def written(x, w):
    found = tj.zeros((40, 4))
    for i in range(40):
        x = tj.tanh(x @ w)
        found[i] = x[i]
    return found


def several_dtypes(x, w):
    count, seen, high = tj.tensor(0), tj.tensor(False), tj.zeros(4, dtype=tj.float64)
    for i in range(60):
        x = tj.cos(x @ w)
        count = count + (x > 0.5).sum()
        seen = seen | (x > 0.99).any()
        high = high + x.sum(axis=0).astype(tj.float64) / (i + 1)
    return x, count, seen, high


def interleaved(x, w):
    y = x * 0.5
    for _ in range(50):
        x = tj.tanh(x @ w)
        y = tj.sin(y @ w + x)
        x, y = y, x
    return x, y


def nested(x, w):
    for _ in range(20):
        for _ in range(10):
            x = tj.tanh(x @ w)
        x = x - x.mean(axis=0)
    return x


def random_steps(x, w):
    for _ in range(50):
        x = tj.tanh(x @ w) + 0.1 * tj.rand(4)
    return x


def in_turn(x, w):
    """The midpoint rule: each step is made of two that are alike but for what they read."""
    for _ in range(60):
        middle = x + 0.05 * tj.tanh(x @ w)
        x = x + 0.1 * tj.tanh(middle @ w)
    return x


def newton(x):
    """Second derivatives in each step."""
    x = x.detach()
    for _ in range(30):
        y = x.detach().requires_grad_()
        (g,) = tj.autograd.grad((tj.cos(y) * y).sum(), y, create_graph=True)
        (h,) = tj.autograd.grad(g.sum(), y)
        x = x - 0.1 * g.detach() / (abs(h) + 1)
    return x


def unrolled_gradient(x, w):
    """The gradient of 40 steps of gradient descent."""
    rate = tj.tensor(0.1, requires_grad=True)
    v = w.detach().requires_grad_()
    u = v
    for _ in range(40):
        (g,) = tj.autograd.grad(((x @ u) ** 2).mean() + (u**4).sum(), u, create_graph=True)
        u = u - rate * g
    return tj.autograd.grad((u**2).sum(), [rate, v])


X, W = random(40, 4), random(4, 4, seed=1) * 0.5
LOOPS = {
    scalar: (tj.tensor(0.3),), product: (X, W), first_and_last: (X, W), rows: (X, W), strided_rows: (X, W),
    appended: (X, W), written: (X, W), several_dtypes: (X, W), interleaved: (X, W), nested: (X, W),
    in_turn: (X, W),    random_steps: (X, W), newton: (random(3),), unrolled_gradient: (X, W),
}  # fmt: skip


@pytest.mark.parametrize("function", LOOPS, ids=lambda function: function.__name__)
def test_a_loop_is_compiled_as_one_step(function):
    arguments = LOOPS[function]
    tj.manual_seed(0)
    expected = described(function(*arguments))
    jitted = tj.jit(function)
    for _ in range(3):
        tj.manual_seed(0)
        assert described(jitted(*arguments)) == expected
    text = jitted.ir(*arguments, stage="optimized")
    assert "scan" in text
    assert len(text.split("\n")) < 150, text
    assert jitted.cache_info().misses == 1


def trained(steps, jit):
    tj.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)

    def train(x, y):
        for _ in range(steps):
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss

    function = tj.jit(train) if jit else train
    x, y = random(16, 4), random(16, 1, seed=1)
    losses = [function(x, y).item() for _ in range(3)]
    return function, (x, y), [*losses, *(p.tolist() for p in model.parameters())]


def test_a_loop_of_training_steps():
    _, _, expected = trained(100, jit=False)
    function, arguments, found = trained(100, jit=True)
    assert found == expected
    text = function.ir(*arguments, stage="optimized")
    assert "scan" in text
    assert len(text.split("\n")) < 500


@pytest.mark.parametrize("function", [product, rows, nested], ids=lambda function: function.__name__)
def test_gradients_from_outside(function):
    gradients = []
    for each in (function, tj.jit(function)):
        x, w = X.clone().requires_grad_(), W.clone().requires_grad_()
        each(x, w).sum().backward()
        gradients.append((x.grad.tolist(), w.grad.tolist()))
    assert gradients[0] == gradients[1]


def test_layers_with_weights_of_their_own_stay_as_they_are():
    layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(24)))
    jitted = tj.jit(lambda x: layers(x))
    x = random(4, 8)
    assert described(jitted(x).detach()) == described(layers(x).detach())
    assert "scan" not in jitted.ir(x, stage="optimized")
