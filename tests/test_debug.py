"""``tj.debug``: what is shown while a function runs, in the order in which it would be eagerly."""

from __future__ import annotations

import pytest

import tracejit as tj


def noisy(x):
    tj.debug.print("x {} {name}", x, name=x.sum())
    y = x * 2
    if y.sum() > 3:
        tj.debug.print("large")
    n = 0
    while y.sum() < 20:
        tj.debug.print("trip {}: {}", n, y)
        y = y * 2
        n += 1
    return y


def test_prints_come_at_each_call_in_order(capsys):
    shown = []
    jitted = tj.jit(noisy)
    for function in (noisy, jitted):
        for value in (1.0, 2.0, 3.0, 2.0):
            function(tj.tensor([value, 0.0]))
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "trip 1: tensor([4., 0.])" in shown[0]
    assert jitted.cache_info().lazy == 0


def test_callbacks_get_values_and_leave_the_graph_alone():
    seen = []

    def f(x):
        y = x.exp()
        tj.debug.callback(lambda v, n: seen.append((v.tolist(), v.requires_grad, n)), y, 3)
        return y * 2

    x = tj.zeros(2, requires_grad=True)
    jitted = tj.jit(f)
    for function in (f, jitted, jitted):
        function(x).sum().backward()
    assert seen == [([1.0, 1.0], False, 3)] * 3
    assert x.grad.tolist() == [6.0, 6.0]
    assert jitted.cache_info().misses == 1


def test_what_was_shown_before_an_error_is_shown(capsys):
    @tj.jit
    def pick(x, i):
        tj.debug.print("index {}", i)
        return x[i]

    pick(tj.arange(3), tj.tensor([1]))
    with pytest.raises(IndexError):
        pick(tj.arange(3), tj.tensor([7]))
    assert capsys.readouterr().out == "index tensor([1])\nindex tensor([7])\n"


def test_a_callback_in_the_ir():
    f = tj.jit(noisy)
    assert "callback %x" in f.ir(tj.tensor([2.0, 0.0]))


def test_once_a_step_in_loops_and_their_derivatives():
    """Eagerly too, and not again where the backward part runs the steps once more."""
    seen = []

    def note(x):
        tj.debug.callback(lambda v: seen.append(v.item()), x)
        return x * 2

    functions = {
        "while": lambda x: tj.while_loop(lambda c: c < 10, note, x),
        "scan": lambda x: tj.scan(lambda c, _: (note(c), None), x, tj.zeros(3))[0],
        "cond": lambda x: tj.cond(x > 0, lambda: note(x), lambda: x),
        "checkpoint": lambda x: tj.checkpoint(lambda x: tj.sin(note(x)))(x),
    }
    for name, f in functions.items():
        for wrapped in (f, tj.jit(f), tj.grad(f), tj.jit(tj.grad(f))):
            seen.clear()
            wrapped(tj.tensor(2.0))
            assert seen == ([2.0, 4.0, 8.0] if name in ("while", "scan") else [2.0]), name
