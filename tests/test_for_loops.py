"""``for`` loops of Python's over many steps are compiled as one step, and change no bit.

Long ones over a range are traced once, as a loop; others step by step.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tests.test_programs import described
from tracejit import for_loops, nn, optim


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


# Loops that are traced once -----------------------------------------------------------------------------


def wave(x):
    return tj.tanh(x * 1.01 + 0.1) * 0.9 + tj.sin(x) * 0.1 - x * x * 0.01


def by_number(x, w):
    h = w[0]
    for i in range(120):
        h = wave(w @ h) * (1 + i * 0.001) + x[3]
    return h, i


def backwards(x, w):
    h = w[0]
    for i in range(39, -1, -1):
        h = wave(wave(w @ h) + x[i])
    return h


def numbers(x, w):
    time, count = 0.0, 3
    for _ in range(100):
        x = wave(x) + time * 0.01 + count
        time += 0.01
        count += 2
    return x, time, count


def temporaries(x, w):
    h = w[0]
    for i in range(x.shape[0]):
        a = w @ h
        total = a.sum()
        h = wave(wave(a * 2 - total * 0.1) + x[i])
    else:
        h = h * 2
    return h, a, total, i


def updated(x, w):
    h = w[0].clone()
    for _ in range(100):
        h += wave(w @ h)
        h *= 0.5
    return h


def branching(x, w):
    h = w[0]
    for i in range(100):
        h = wave(w @ h)
        if h.sum() > 0.5:
            continue
        if i == 50:
            h = h + 1
        else:
            h = wave(w.T @ h)
    return h


def within(x, w):
    h = w[0]
    for i in range(20):
        for j in range(60):
            h = wave(w @ h) + j * 0.01
        h = h - i * 0.1
    return h


def numbered_rows(x, w):
    h = w[0]
    for number, (row, i) in enumerate(zip(x, range(39, -1, -1), strict=True)):
        h = wave(wave(w @ h) + row * number - sum([row * scale for scale in (0.1, 0.2)]) * 0.1) + i * 0.1
    return h, row, i, number


def in_both_directions(x, w):
    """The gradients of rows are added up in the order of the steps."""
    h = w[0]
    for i in range(40):
        h = wave(wave(w @ h) + x[i] - x[39 - i] * 0.1) + x[i] * 0.1
    return h + x.sum()


def rows_and_all(x, w):
    h = w[0]
    for i in range(40):
        h = wave(wave(w @ h) + x[i] - x.sum() * 0.1)
    return h


def differences(x, w):
    h = x[:, 0]
    for t in range(1, 40):
        early = h * 0.5
        if t % 3 == 1:
            h = wave(wave(early) + (x[t] - x[t - 1]).sum())
        h = wave(h) - t // 2 * 0.01
    return h


def drawn(x, w):
    for _ in range(100):
        x = wave(x) + 0.1 * tj.rand(4)
    return x


def second_order(x, w):
    """Gradients within each step, of which the whole is differentiated."""
    rate = tj.tensor(0.1, requires_grad=True)
    u = w.detach().requires_grad_()
    for _ in range(40):
        (g,) = tj.autograd.grad(((x @ u) ** 2).mean() + (u**4).sum(), u, create_graph=True)
        u = u - rate * g
    return u * rate


TRACED_ONCE = [
    by_number, backwards, numbers, temporaries, updated, branching, within, numbered_rows,
    differences, drawn, second_order,
]  # fmt: skip


def gradients_of(function):
    def gradients(x, w):
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        result = function(x, w)
        result = result[0] if isinstance(result, tuple) else result
        return tj.autograd.grad((result * result).sum(), [x, w], allow_unused=True)

    return gradients


@pytest.mark.parametrize("function", TRACED_ONCE, ids=lambda function: function.__name__)
def test_a_long_loop_is_traced_once(function):
    for each in (function, gradients_of(function)):
        tj.manual_seed(0)
        expected = described(each(X, W))
        jitted = tj.jit(each)
        for _ in range(2):
            tj.manual_seed(0)
            assert described(jitted(X, W)) == expected
    trace = tj.jit(function).ir(X, W, stage="trace")
    assert "scan" in trace
    assert len(trace.split("\n")) < 220, trace


class Counter:
    count = 0


def sums(x, w):
    found = []
    for _ in range(100):
        x = wave(x)
        found.append(x.sum())
    return tj.stack(found)


def counted(x, w):
    for i in range(100):
        x = wave(x)
        if i % 10 == 3:
            Counter.count += i
    return x


def powers(x, w):
    for i in range(100):
        x = wave(x) * 0.99**i
    return x


def picked(x, w):
    layers = {f"w{i}": w * (i / 100) for i in range(100)}
    for i in range(100):
        x = wave(x @ layers[f"w{i}"])
    return x


def stored(x, w):
    found, h = tj.zeros(100, 4), w[0]
    for i in range(100):
        h = wave(w @ h)
        found[i] = h
    return found, h


def growing(x, w):
    h = w[0]
    for _ in range(40):
        h = wave(tj.concat([wave(h), h[:1]]))
    return h


def two_names(x, w):
    h = best = w[0]
    for _ in range(100):
        h = wave(w @ h)
        best = h
    best += 1
    return h, best


@pytest.mark.parametrize(
    "function", [sums, counted, powers, picked, stored, growing, two_names], ids=lambda f: f.__name__
)
def test_a_long_loop_that_is_traced_step_by_step(function):
    found = []
    for each in (function, jitted := tj.jit(function), jitted):
        Counter.count = 0
        found.append((described(each(X, W)), Counter.count))
    assert found[1] == found[2] == found[0]


@pytest.mark.parametrize("function", [in_both_directions, rows_and_all, differences], ids=lambda f: f.__name__)
def test_gradients_of_rows_that_are_read_several_times(function):
    each = gradients_of(function)
    assert described(tj.jit(each)(X, W)) == described(each(X, W))


def test_any_batch_is_one_trace():
    def forward(x):
        h = x[:, 0]
        for t in range(1, x.shape[1]):
            h = wave(wave(h) + x[:, t])
        return h

    def gradient(x):
        x = x.detach().requires_grad_()
        (forward(x) ** 2).sum().backward()
        return x.grad

    for function in (forward, gradient):
        jitted = tj.jit(function)
        for count in (3, 5, 7, 1):
            x = random(count, 40, seed=count)
            assert described(jitted(x)) == described(function(x))
        assert jitted.cache_info().misses == 2


def test_second_derivatives():
    def squares(x, w):
        return (backwards(x, w) ** 2).sum()

    def penalty(x, w):
        x = x.detach().requires_grad_()
        (g,) = tj.autograd.grad(squares(x, w), x, create_graph=True)
        return tj.autograd.grad((g * g).sum(), x)[0]

    for function in (tj.grad(lambda x, w: (tj.grad(squares)(x, w) ** 2).sum()), penalty):
        assert described(tj.jit(function)(X, W)) == described(function(X, W))


def test_the_gradient_of_rows_is_put_together_once():
    def f(x, w):
        return (backwards(x, w) ** 2).sum()

    text = tj.jit(tj.grad(f)).ir(X, W, stage="optimized")
    assert "scatter" not in text
    assert "gather" not in text


def test_a_function_raises_in_the_midst_of_a_long_loop():
    def f(x):
        for i in range(200):
            x = wave(x)
            if i == 150:
                raise KeyError(i)
        return x

    for function in (f, tj.jit(f)):
        with pytest.raises(KeyError, match="150"):
            function(X)
    assert sys.gettrace() is None


def test_a_debugger_stays_at_work():
    def f(x):
        for _ in range(200):
            x = wave(x)
        return x

    def trace(frame, event, argument):
        return trace

    expected = described(f(X))
    before = sys.gettrace()
    for_loops.is_possible.cache_clear()
    sys.settrace(trace)
    try:
        found = described(tj.jit(f)(X))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert found == expected


@pytest.mark.parametrize(
    "function",
    [lambda w: (w * 2.0).sum(), nn.Linear(4, 2), tj.tanh],
    ids=["with a gradient", "a module", "a function of the library"],
)
def test_loops_around_the_call_are_not_watched(function):
    compiled, seen = tj.jit(function), []
    w = random(3, 4).requires_grad_()
    for number in range(300):
        compiled(w)
        seen.append((number, sys.gettrace()))
    assert seen == [(number, None) for number in range(300)]
