"""Control flow as functions: what it computes, eagerly and under jit, against plain Python; gradients; errors."""

import math
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit import nn, tree

X = np.array([0.3, -1.2, 2.5])
XS = np.array([[0.5, -0.1, 0.2], [1.5, 0.3, -0.7], [-0.4, 0.9, 0.1], [0.2, -1.1, 0.6]])
W = np.array([0.9, -0.4, 0.7])

Pair = namedtuple("Pair", "left right")


@dataclass
class State:
    h: tj.Tensor
    count: tj.Tensor


# One row a program: a function of tensors x, w, xs, and the same with Python's own control flow.
def python_scan(f, carry, xs, reverse=False):
    ys = []
    for x in xs[::-1] if reverse else xs:
        carry, y = f(carry, x)
        ys.append(y)
    return carry, tj.stack(ys[::-1] if reverse else ys)


def cell(w):
    def f(h, x):
        new = tj.tanh(h * w + x)
        return new, (new * x).sum()

    return f


def newton(x, w, xs):
    return tj.while_loop(lambda v: abs(v * v - 2) > 1e-12, lambda v: v - (v * v - 2) / (2 * v), x.sum() * w.sum())


def python_newton(x, w, xs):
    v = x.sum() * w.sum()
    while abs(v * v - 2) > 1e-12:
        v = v - (v * v - 2) / (2 * v)
    return v


def collatz(x, w, xs):
    def step(pair):
        v, n = pair
        return tj.cond(v.sum() > 1, lambda: (v * w * 0.5, n + 1), lambda: (v - w, n + 2))

    return tj.while_loop(lambda pair: pair[1] < 7, step, (x, 0))


def python_collatz(x, w, xs):
    v, n = x, 0
    while n < 7:
        v, n = (v * w * 0.5, n + 1) if v.sum() > 1 else (v - w, n + 2)
    return v, tj.tensor(n)


def nested(x, w, xs):
    def f(h, row):
        inner = tj.fori_loop(0, 3, lambda i, v: tj.sin(v * w + i), h)
        return inner + row, tj.map(lambda v: v * v, inner)

    return tj.scan(f, x, xs)


def python_nested(x, w, xs):
    def f(h, row):
        v = h
        for i in range(3):
            v = tj.sin(v * w + i)
        return v + row, v * v

    return python_scan(f, x, xs)


def python_fori(x, w, xs):
    v = x
    for i in range(2, 6):
        v = v * w + i
    return v


PROGRAMS = {
    "cond, true": (
        lambda x, w, xs: tj.cond(x.sum() > 0, lambda: x * w, lambda: x - w),
        lambda x, w, xs: x * w,
    ),
    "cond, false": (
        lambda x, w, xs: tj.cond(x.sum() < 0, lambda a: (a * w, 1.0), lambda a: (tj.sin(a), a.sum()), x)[0],
        lambda x, w, xs: tj.sin(x),
    ),
    "cond on a number": (lambda x, w, xs: tj.cond(x[0], lambda: w, lambda: x), lambda x, w, xs: w),
    "switch": (
        lambda x, w, xs: tj.switch(tj.tensor(1), [lambda a: a, lambda a: a * w, lambda a: a * a], x),
        lambda x, w, xs: x * w,
    ),
    "switch out of range": (
        lambda x, w, xs: tj.switch(tj.tensor(-4), [tj.sin, tj.cos], x) + tj.switch(tj.tensor(9), [tj.sin, tj.cos], x),
        lambda x, w, xs: tj.sin(x) + tj.cos(x),
    ),
    "newton": (newton, python_newton),
    "while of no step": (
        lambda x, w, xs: tj.while_loop(lambda v: v.sum() > 100, lambda v: v * w, x), lambda x, w, xs: x * 1,
    ),
    "while with cond": (collatz, python_collatz),
    "fori": (lambda x, w, xs: tj.fori_loop(2, 6, lambda i, v: v * w + i, x), python_fori),
    "fori of tensors": (
        lambda x, w, xs: tj.fori_loop(tj.tensor(2), tj.tensor(6), lambda i, v: v * w + i, x), python_fori,
    ),
    "fori of no step": (lambda x, w, xs: tj.fori_loop(3, 1, lambda i, v: v * w, x), lambda x, w, xs: x * 1),
    "scan": (lambda x, w, xs: tj.scan(cell(w), x, xs), lambda x, w, xs: python_scan(cell(w), x, xs)),
    "scan, reverse": (
        lambda x, w, xs: tj.scan(cell(w), x, xs, reverse=True),
        lambda x, w, xs: python_scan(cell(w), x, xs, reverse=True),
    ),
    "scan of one step": (
        lambda x, w, xs: tj.scan(cell(w), x, xs[:1]), lambda x, w, xs: python_scan(cell(w), x, xs[:1]),
    ),
    "scan without inputs": (
        lambda x, w, xs: tj.scan(lambda h, _: (h * w, h), x, None, length=3),
        lambda x, w, xs: python_scan(lambda h, _: (h * w, h), x, [None] * 3),
    ),
    "map": (lambda x, w, xs: tj.map(lambda r: tj.exp(r * w), xs), lambda x, w, xs: tj.exp(xs * w)),
    "nested": (nested, python_nested),
}  # fmt: skip


def arguments(requires_grad=False):
    return [tj.tensor(a, requires_grad=requires_grad) for a in (X, W, XS)]


def leaves_of(result):
    leaves = []
    tree.flatten(result, leaves)
    return leaves


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_as_python(name):
    function, plain = PROGRAMS[name]
    expected = leaves_of(plain(*arguments()))
    jitted = tj.jit(function)
    for run in (function, jitted, jitted):
        found = leaves_of(run(*arguments()))
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            assert same_bits(one.numpy(), other.numpy()), (one, other)
    assert jitted.cache_info().misses == 1


def total(result):
    return sum((leaf * leaf).sum() for leaf in leaves_of(result) if leaf.dtype == tj.float64)


def gradients(function, order=1):
    """Of the sum of squares of what the function returns; of second order, those of the gradients' sum of squares."""
    inputs = arguments(requires_grad=True)
    value = total(function(*inputs))
    found = tj.autograd.grad(value, inputs, create_graph=order > 1, allow_unused=True, materialize_grads=True)
    if order > 1:
        value = sum((gradient * gradient).sum() for gradient in found)
        if value.requires_grad:
            found = tj.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    return [gradient.detach().numpy() for gradient in found]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("order", [1, 2])
def test_gradients(name, order):
    function, plain = PROGRAMS[name]
    expected = gradients(plain, order)
    found = gradients(function, order)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    through = gradients(lambda *inputs: function(*[value * 1 for value in inputs]), order)  # which are no leaves
    jitted = gradients(tj.jit(function), order)
    for others in (through, jitted):
        for one, other in zip(others, found, strict=True):
            if order == 1:
                assert same_bits(one, other)
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_training_step_is_one_graph(name):
    """The gradient taken within the jitted function has the bits of the eager one."""
    function, _ = PROGRAMS[name]

    def step(*inputs):
        value = total(function(*inputs))
        return value, *tj.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)

    eager = step(*arguments(requires_grad=True))
    jitted = tj.jit(step)
    compiled = jitted(*arguments(requires_grad=True))
    for one, other in zip(compiled, eager, strict=True):
        assert same_bits(one.detach().numpy(), other.detach().numpy())
    assert jitted.cache_info().lazy == 0


# Containers and numbers -----------------------------------------------------------------------------


def test_containers():
    def f(state, x):
        return State(state.h * x["a"], state.count + 1), [x["b"].sum(), None, Pair(state.h, state.count)]

    xs = {"a": tj.tensor([2.0, 3.0]), "b": tj.ones((2, 4))}
    last, (sums, nothing, pairs) = tj.scan(f, State(tj.tensor(1.0), tj.tensor(0)), xs)
    assert (last.h.item(), last.count.item()) == (6, 2)
    assert sums.tolist() == [4, 4]
    assert nothing is None
    assert isinstance(pairs, Pair)
    assert (pairs.left.tolist(), pairs.right.tolist()) == ([1, 2], [0, 1])


@pytest.mark.parametrize(
    ("start", "f", "expected"),
    [
        (0, lambda i, x: x + 1, np.int64),
        (0, lambda i, x: x + 0.5, np.float32),
        (0.0, lambda i, x: x + i, np.float32),
        (1.0, lambda i, x: x * tj.tensor(2.0, dtype=tj.float64), np.float64),
        (1, lambda i, x: 5, np.int64),
        (False, lambda i, x: tj.logical_not(x), np.bool_),
        (tj.tensor(1.0, dtype=tj.float64), lambda i, x: 3, np.float64),
    ],
)
def test_numbers_take_the_dtype_that_they_stand_for(start, f, expected):
    result = tj.fori_loop(0, 3, f, start)
    assert result.dtype == expected
    value = start
    for i in range(3):
        value = f(i, value)
    assert float(result) == float(value)
    jitted = tj.jit(lambda: tj.fori_loop(0, 3, f, start))()
    assert same_bits(jitted.numpy(), result.numpy())


def test_branches_that_return_numbers():
    x = tj.tensor([1.0, 2.0], dtype=tj.float64)
    assert tj.cond(tj.tensor(True), lambda: x.sum(), lambda: 0).dtype == tj.float64
    assert tj.cond(tj.tensor(False), lambda: 0, lambda: 1.5).item() == 1.5
    assert tj.switch(tj.tensor(2), [lambda: 1, lambda: x[0], lambda: 2.5]).dtype == tj.float64


def test_conditions_that_python_knows():
    x = tj.tensor(2.0)
    assert tj.cond(True, lambda v: v + 1, lambda v: "not taken", x).item() == 3
    assert tj.switch(5, [lambda v: v, lambda v: v * 10], x).item() == 20


def test_lengths():
    last, ys = tj.scan(lambda c, x: (c + x, (c, x)), tj.tensor(1.0), tj.zeros((0, 3)).sum(axis=1))
    assert (last.item(), ys[0].shape, ys[1].shape) == (1, (0,), (0,))
    assert tj.fori_loop(0, 0, lambda i, x: x, tj.tensor(3.0)).item() == 3


def test_one_compiled_loop_serves_any_number_of_trips():
    f = tj.jit(lambda x, limit: tj.while_loop(lambda v: v < limit, lambda v: v * 2, x))
    for limit in (1.0, 10.0, 1e3, 1e30):
        value = 1.0
        while value < limit:
            value *= 2
        assert f(tj.tensor(1.0), tj.tensor(limit)).item() == value
    assert f.cache_info().misses == 1
    g = tj.jit(lambda x, n: tj.fori_loop(0, n, lambda i, v: v + i, x))
    assert [g(tj.tensor(0), tj.tensor(n)).item() for n in range(6)] == [0, 0, 1, 3, 6, 10]
    assert g.cache_info().misses == 1


# What functions do besides --------------------------------------------------------------------------


def both(function):
    return pytest.mark.parametrize("jit", [lambda f: f, tj.jit], ids=["eager", "jit"])(function)


@both
def test_tensors_are_changed_in_place(jit):
    total, seen = tj.zeros(()), tj.zeros(3)

    @jit
    def f(xs):
        def step(c, x):
            total.add_(x)
            tj.cond(x > 1, lambda: seen.add_(1), lambda: seen.mul_(2))
            return c + total, total * 1

        return tj.scan(step, tj.tensor(0.0), xs)

    for start in (0, 6):
        last, ys = f(tj.tensor([1.0, 2.0, 3.0]))
        assert ys.tolist() == [start + 1, start + 3, start + 6]
        assert last.item() == sum(ys.tolist())
    assert total.item() == 12
    assert seen.tolist() == [((0 * 2 + 1 + 1) * 2 + 1 + 1)] * 3


@both
@pytest.mark.parametrize("look", [lambda i: None, int], ids=["recorded", "by Python"])
def test_a_carry_is_changed_in_place(jit, look):
    def fill(x):
        def step(i, c):
            look(i)
            c[i] = x[i] * 2
            c += x
            return c

        start = x * 3
        return tj.fori_loop(0, 3, step, start), start

    def python_fill(x):
        c = x * 3
        for i in range(3):
            c[i] = x[i] * 2
            c = c + x
        return c, x * 3

    x = tj.tensor([1.0, 2.0, 3.0])
    for _ in range(2):
        assert [t.tolist() for t in jit(fill)(x)] == [t.tolist() for t in python_fill(x)]
    weights = tj.tensor([1.0, 10.0, 100.0])
    gradients = [tj.grad(lambda x, f=f: (f(x)[0] * weights).sum())(x).tolist() for f in (jit(fill), python_fill)]
    assert gradients[0] == gradients[1]

    def shifted(xs):
        def step(c, x):
            look(x)
            x.mul_(c[0])
            return c.add_(1), x

        return tj.scan(step, tj.ones(2), xs), tj.map(lambda x: x.exp_(), xs), xs

    (last, ys), mapped, xs = jit(shifted)(x)
    assert (last.tolist(), ys.tolist(), xs.tolist()) == ([4, 4], [1, 4, 9], [1, 2, 3])
    assert mapped.tolist() == x.exp().tolist()
    looped = jit(lambda x: tj.while_loop(lambda c: c[0] < 20, lambda c: c.mul_(2), x))
    assert (looped(x).tolist(), x.tolist()) == ([32, 64, 96], [1, 2, 3])


@both
def test_state_and_random_numbers_are_carried_together(jit):
    mean, layer = tj.zeros(2), nn.BatchNorm1d(2)

    @jit
    def f(xs):
        def step(c, x):
            mean.mul_(0.5).add_(x.mean(0))
            return c + layer(x).sum(), tj.random.rand(2)

        return tj.scan(step, tj.tensor(0.0), xs)[1]

    xs = tj.arange(24.0).reshape(3, 4, 2)
    for n in range(2):
        tj.manual_seed(n)
        drawn = f(xs)
        tj.manual_seed(n)
        assert drawn.tolist() == [tj.random.rand(2).tolist() for _ in range(3)]
    expected, kept = tj.zeros(2), nn.BatchNorm1d(2)
    for x in (*xs, *xs):
        expected = expected * 0.5 + x.mean(0)
        kept(x)
    assert mean.tolist() == expected.tolist()
    assert layer.running_mean.tolist() == kept.running_mean.tolist()


@both
def test_what_changes_python_objects_is_called_at_each_step(jit):
    seen, count, node = [], 0, State(tj.zeros(()), tj.zeros(()))

    @jit
    def f(x):
        def step(i, c):
            nonlocal count
            seen.append(c * 1)
            count += 1
            node.h = c
            return c + count

        def chosen(c):
            seen.append(c)
            return c

        return tj.cond(x > 0, chosen, lambda c: c - 1, tj.fori_loop(0, 3, step, x))

    assert [f(tj.tensor(v)).item() for v in (1.0, -40.0)] == [1 + 1 + 2 + 3, -40 + 4 + 5 + 6 - 1]
    assert [t.item() for t in seen] == [1, 2, 4, 7, -40, -36, -31]
    assert (count, node.h.item()) == (6, -31)


@both
def test_a_backward_within_a_step(jit):
    w = tj.ones(2, requires_grad=True)

    @jit
    def f(x):
        def step(i, c):
            loss = (w * c).sum()
            w.grad = None
            loss.backward()
            with tj.no_grad():
                w.sub_(w.grad * 0.5)
            return c + 1

        return tj.fori_loop(0, 3, step, x)

    for n in (1, 2):
        assert f(tj.ones(2)).tolist() == [4, 4]
        assert w.tolist() == [1 - 3.0 * n] * 2


@both
def test_random_numbers(jit):
    def draw():
        tj.manual_seed(3)
        return jit(lambda: tj.fori_loop(0, 4, lambda i, x: x + tj.random.rand(2), tj.zeros(2)))(), tj.random.rand(1)

    tj.manual_seed(3)
    expected = tj.zeros(2)
    for _ in range(4):
        expected = expected + tj.random.rand(2)
    following = tj.random.rand(1)
    sums, after = draw()
    assert sums.tolist() == expected.tolist()
    assert after.item() == following.item()


@both
def test_indices_are_checked(jit):
    table = tj.tensor([1.0, 2.0, 3.0])
    f = jit(lambda n: tj.fori_loop(0, n, lambda i, x: x + table[i], tj.tensor(0.0)))
    assert f(3).item() == 6
    with pytest.raises(IndexError):
        f(4)
    g = jit(lambda p, i: tj.cond(p, lambda: table[i], lambda: table[0]))
    assert g(tj.tensor(False), tj.tensor(7)).item() == 1
    with pytest.raises(IndexError):
        g(tj.tensor(True), tj.tensor(7))


def test_python_runs_each_step_where_it_must(capsys):
    seen = []

    def step(i, x):
        print("step", int(i))
        seen.append(i)
        return x + 1 if x > 1 else x * 4

    assert tj.fori_loop(0, 3, step, tj.tensor(1.0)).item() == 6
    assert capsys.readouterr().out == "step 0\nstep 1\nstep 2\n"
    assert [int(i) for i in seen] == [0, 1, 2]
    value = tj.while_loop(lambda x: bool(x < 10), lambda x: x * 3, tj.tensor(1.0))
    assert value.item() == 27
    carry, ys = tj.scan(lambda c, x: (c + x.item(), c), tj.tensor(0.0), tj.tensor([1.0, 2.0]), reverse=True)
    assert (carry.item(), ys.tolist()) == (3, [2, 0])
    assert tj.cond(tj.tensor(True), lambda: tj.tensor(float(tj.tensor(2.0))), lambda: tj.tensor(0.0)).item() == 2


def test_python_runs_each_step_under_jit():
    def f(xs):
        return tj.scan(lambda c, x: (c + x if c > 0 else c - x, c), tj.tensor(1.0), xs)

    xs = tj.tensor([2.0, -4.0, 3.0])
    jitted = tj.jit(f)
    for _ in range(3):
        assert [t.tolist() for t in jitted(xs)] == [t.tolist() for t in f(xs)]


@both
def test_exceptions_come_through(jit):
    def fail(i, x):
        raise KeyError("mine")

    x = tj.tensor(1.0)
    with pytest.raises(KeyError, match="mine"):
        jit(lambda: tj.fori_loop(0, 3, fail, x))()
    assert x.item() == 1


# Gradients in functions -----------------------------------------------------------------------------


@both
def test_what_is_detached_has_no_gradient(jit):
    def f(w, x):
        def step(h, _):
            with tj.no_grad():
                scale = h * w
            return tj.sin(h) * w.detach() + scale + h.detach() * w * w, None

        return tj.scan(step, x, None, length=3)[0]

    def plain(w, x):
        h = x
        for _ in range(3):
            with tj.no_grad():
                scale = h * w
            h = tj.sin(h) * w.detach() + scale + h.detach() * w * w
        return h

    found = []
    for function in (jit(f), plain):
        w, x = (
            tj.tensor(1.3, dtype=tj.float64, requires_grad=True),
            tj.tensor(0.7, requires_grad=True, dtype=tj.float64),
        )
        y = function(w, x)
        first = tj.autograd.grad(y, (w, x), create_graph=True)
        second = tj.autograd.grad(first[0] * first[1], (w, x), allow_unused=True, materialize_grads=True)
        found.append([t.item() for t in (y, *first, *second)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-14)


@both
def test_gradients_within_a_step(jit):
    """Gradient descent in a loop, and the gradient of where it gets to."""

    def descend(w, rate):
        def step(w, _):
            loss = ((w - 2) ** 2 * w).sum()
            (slope,) = tj.autograd.grad(loss, w, create_graph=True)
            return w - rate * slope, loss

        return tj.scan(step, w, None, length=4)

    def plain(w, rate):
        losses = []
        for _ in range(4):
            loss = ((w - 2) ** 2 * w).sum()
            (slope,) = tj.autograd.grad(loss, w, create_graph=True)
            w = w - rate * slope
            losses.append(loss)
        return w, tj.stack(losses)

    found = []
    for function in (jit(descend), plain):
        w = tj.tensor([1.0, 3.0], dtype=tj.float64, requires_grad=True)
        rate = tj.tensor(0.05, dtype=tj.float64, requires_grad=True)
        last, losses = function(w, rate)
        slopes = tj.autograd.grad(last.sum() + losses.sum(), (w, rate))
        found.append(np.concatenate([t.detach().numpy().ravel() for t in (last, losses, *slopes)]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)


@both
def test_functions_with_their_own_derivative(jit):
    class Double(tj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 100

    x = tj.tensor(1.0, requires_grad=True)
    jit(lambda: tj.fori_loop(0, 2, lambda i, v: Double.apply(v), x))().backward()
    assert x.grad.item() == 10_000


@both
def test_closures_over_computed_tensors(jit):
    a = tj.tensor(0.5, requires_grad=True)
    b = a * 3 if jit is not tj.jit else None

    def f(x):
        scale = a * 3 if b is None else b
        return tj.while_loop(lambda v: v < 50, lambda v: v * scale, x)

    y = jit(f)(tj.tensor(1.0))
    y.backward()
    steps = math.ceil(math.log(50) / math.log(1.5))
    np.testing.assert_allclose(a.grad.item(), steps * 1.5 ** (steps - 1) * 3, rtol=1e-5)


def test_no_gradients_are_kept_where_none_are_wanted():
    x = tj.tensor(1.0, requires_grad=True)
    with tj.no_grad():
        y = tj.fori_loop(0, 3, lambda i, v: v * 2, x)
    assert not y.requires_grad
    z = tj.fori_loop(0, 3, lambda i, v: v * 2, x)
    assert z.requires_grad
    assert "Scan" in repr(z.grad_fn)
    counts = tj.scan(lambda n, _: (n + 1, n), 0, None, length=3)[1]
    assert not counts.requires_grad


def test_a_second_backward_is_refused():
    x = tj.tensor(1.0, requires_grad=True)
    y = tj.fori_loop(0, 3, lambda i, v: v * v, x)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


# Associative scans ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(length, reverse):
    numbers = np.random.default_rng(length).integers(-5, 5, (2, length))

    def composed(first, second):
        """Of two affine functions."""
        return {"a": first["a"] * second["a"], "b": second["a"] * first["b"] + second["b"]}

    elems = {"a": tj.tensor(numbers), "b": tj.tensor(numbers[::-1].copy())}
    for run in (lambda f: f, tj.jit):
        found = run(lambda e: tj.associative_scan(composed, e, reverse=reverse, axis=1))(elems)
        order = range(length)[::-1] if reverse else range(length)
        a, b = np.ones(2, int), np.zeros(2, int)
        for i in order:
            a, b = a * numbers[:, i], numbers[:, i] * b + numbers[::-1][:, i]
            assert found["a"].numpy()[:, i].tolist() == a.tolist()
            assert found["b"].numpy()[:, i].tolist() == b.tolist()


# Errors ---------------------------------------------------------------------------------------------

T = tj.tensor([1.0, 2.0])
ERRORS = {
    "while carry shape": (
        lambda: tj.while_loop(lambda s: s["n"] < 3, lambda s: {"n": s["n"] + 1, "x": s["x"][:1]}, {"n": 0, "x": T}),
        TypeError,
        r"while_loop: a carry must have the same type after each step, but init_val\['x'\] is float32\[2\] and "
        r"what <lambda> returns\['x'\] is float32\[1\]",
    ),
    "while carry dtype": (
        lambda: tj.while_loop(lambda x: x.sum() < 3, lambda x: x > 0, T),
        TypeError, r"init_val is float32\[2\] and what <lambda> returns is bool\[2\]",
    ),
    "while carry structure": (
        lambda: tj.while_loop(lambda p: p[0] < 3, lambda p: [p[0]], (tj.tensor(1), T)),
        TypeError,
        r"while_loop: what <lambda> returns must have the structure of init_val, but init_val is \(\*, \*\) and "
        r"what <lambda> returns is \[\*\]",
    ),
    "while condition": (
        lambda: tj.while_loop(lambda x: x < 3, lambda x: x, T),
        TypeError, r"while_loop: what <lambda> returns must be a scalar, got bool\[2\]",
    ),
    "fori bounds": (
        lambda: tj.fori_loop(0.5, 3, lambda i, x: x, T),
        TypeError, r"fori_loop: lower must be a scalar integer, got float32\[\]",
    ),
    "scan pair": (
        lambda: tj.scan(lambda c, x: c, T, T), TypeError, r"scan: <lambda> must return a pair \(carry, y\), got ",
    ),
    "scan carry": (
        lambda: tj.scan(lambda c, x: (c.sum(), x), T, T),
        TypeError, r"init is float32\[2\] and the carry that <lambda> returns is float32\[\]",
    ),
    "scan lengths": (
        lambda: tj.scan(lambda c, x: (c, x), T, {"a": T, "b": tj.zeros(3)}),
        ValueError, r"scan: the lengths .* xs\['a'\] is float32\[2\], xs\['b'\] is float32\[3\]",
    ),
    "scan length": (
        lambda: tj.scan(lambda c, x: (c, x), T, T, length=5), ValueError, "xs is float32\\[2\\], length is 5",
    ),
    "scan without length": (lambda: tj.scan(lambda c, x: (c, x), T), ValueError, "scan: length must be given"),
    "scan of a scalar": (lambda: tj.scan(lambda c, x: (c, x), T, 3.0), ValueError, "scan: xs has no axis to go along"),
    "scan of words": (
        lambda: tj.scan(lambda c, x: (c, x), "a", T), TypeError, "init must be a tensor or a number, got str 'a'",
    ),
    "cond types": (
        lambda: tj.cond(T[0] > 0, lambda: (T, T), lambda: (T, T[:1])),
        TypeError,
        r"cond: all functions must return the same types, but what <lambda> returns\[1\] is float32\[1\] and "
        r"what <lambda> returns\[1\] is float32\[2\]",
    ),
    "cond structures": (
        lambda: tj.cond(T[0] > 0, lambda: (T, T), lambda: T),
        TypeError, "cond: all functions must return the same structure",
    ),
    "cond pred": (lambda: tj.cond(T > 0, lambda: T, lambda: T), TypeError, r"cond: pred must be a scalar, got bool\[2"),
    "cond of what is no function": (
        lambda: tj.cond(T[0] > 0, T, lambda: T), TypeError, "cond expects a function, got Tensor",
    ),
    "switch of nothing": (lambda: tj.switch(tj.tensor(0), []), ValueError, "switch: there are no branches"),
    "switch by a float": (
        lambda: tj.switch(tj.tensor(0.5), [lambda: T]),
        TypeError, r"switch: index must be a scalar integer, got float32\[\]",
    ),
    "associative scan": (
        lambda: tj.associative_scan(tj.add, (T, tj.zeros(3))),
        ValueError, "associative_scan: elems must be equally long",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
@both
def test_errors(name, jit):
    function, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message) as caught:
        jit(function)()
    assert "test_control.py" in str(caught.value)


def test_a_loop_past_its_memory_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its derivatives are the same to the bit, those of second order too."""

    def loss(x: tj.Tensor, w: tj.Tensor) -> tj.Tensor:
        total, _, last = tj.while_loop(
            lambda c: c[1] < 3 * tj.abs(w).sum(), lambda c: (c[0] + tj.sin(c[2] * w), c[1] + 1, c[2] * w), (x, 0.0, x)
        )
        return (total * last).sum()

    x, w = tj.tensor([0.3, 0.5]), tj.tensor([1.1, 0.9])

    def derivatives() -> list[tj.Tensor]:
        gradient = tj.grad(loss, argnums=(0, 1))
        return [*gradient(x, w), *tj.jit(tj.grad(loss, argnums=(0, 1)))(x, w), tj.hessian(loss, argnums=1)(x, w)]

    expected = derivatives()
    for budget in (1, 100):
        monkeypatch.setattr(tj.config, "loop_memory", budget)
        for one, other in zip(derivatives(), expected, strict=True):
            assert one.numpy().tobytes() == other.numpy().tobytes()
    with pytest.raises(ValueError, match="loop_memory is a number of bytes, got 0"):
        tj.config.loop_memory = 0
