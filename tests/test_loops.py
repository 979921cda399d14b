"""``while`` statements on traced values: captured as one loop where they can be, and right in any case."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import tracejit as tj


def scalars(*values):
    return [(tj.tensor(value),) for value in values]


def counted(x):
    n = 0
    while x < 10:
        x = x + 3
        n += 1
    else:
        x = x * 2
    return x, n


def negated(x):
    while not (x > 10):
        x = x * 2
    return x


def either(x):
    y = x * 0.5 - 3
    while x < 10 or y < 5:
        x = x + 1
        y = y + 1
    return x, y


def chained(x):
    while 0 < x < 100:
        x = x * 1.5 - 1
    return x


def bounded(x):
    n = 0
    while x < 1e6 and n < 7:
        x = x * 2
        n += 1
    return x, n


def broken_off(x):
    while True:
        step = (x * x - 2) / (2 * x)
        if abs(step) < 1e-6:
            break
        x = x - step
    return x


def returned(x):
    while True:
        x = x * 2
        if x > 50:
            return x - 1


def branching(x):
    n = 0
    while x > 1:
        if x - 2 * (x // 2) > 0.5:
            x = 3 * x + 1
        elif x - 4 * (x // 4) > 0.5:
            x = x / 2
        else:
            x = x / 4
            n += 1
        n += 1
    return n


def nested(x):
    total = x * 0
    while x > 1:
        y = x
        while y > 1:
            y = y / 2
            total = total + y
        x = x - 1
    return total


def run_again(x):
    found = []
    for k in range(3):
        y = x * (k + 1)
        while y < 100:
            y = y * 2
        found.append(y)
    return found


def in_place(x):
    y = x * 1
    alias = y
    while y < 10:
        y += 1
    return y, alias


def with_a_float(x):
    t = 0.0
    while t < 1.0:
        x = x + 0.25 * x
        t += 0.25
    return x, t


def differentiated(x):
    x = x.detach().requires_grad_()
    y, n = x, 0
    while y < 100:
        y = y * y + 1
        n += 1
    (g,) = tj.autograd.grad(y, x)
    return y.detach(), g, n


def inner_gradient(x):
    while x * x > 1e-3:
        y = x.detach().requires_grad_()
        (g,) = tj.autograd.grad(y * y, y)
        x = x - 0.1 * g
    return x


def breaking(x):
    n = 0
    while x < 100:
        x = x * 2
        if x > 50:
            break
        n += 1
    return x, n


def breaking_nested(x):
    y = x * 0
    while x < 1000:
        x = x + 3
        if x > 20:
            y = y + 1
            if y > 5:
                x = x + 1000
                break
        else:
            y = y - 0.5
        x = x + 1
    return x, y


def continued(x):
    n = 0
    while x < 10:
        x = x + 1
        if x > 5:
            continue
        n += 1
    return x, n


def both(x):
    n = 0
    while x < 50:
        x = x + 1
        if x - 2 * (x // 2) > 0.5:
            continue
        if n > 6:
            break
        n += 1
    return x, n


def two_exits(x):
    y = x
    while True:
        x = x * 1.5
        if x > 100:
            break
        y = y + 1
        if y > 12:
            break
    return x, y


def counted_for(x):
    for i in range(50):  # noqa: B007
        x = x * 1.5
        if x > 100:
            break
    return x, i


def for_before_and_after(x):
    s = x * 0
    for i in range(3, 40, 2):
        x = x + i
        if x > 200:
            break
        s = s + x
        if s > 900:
            continue
        s = s + 1
    return x, s, i


def down(x):
    for i in range(20, 0, -1):
        if x > 60:
            break
        x = x + i
    return x, i


def python_while(x):
    n = 0
    while n < 30:
        n += 1
        x = x * 1.25
        if x > 100:
            break
    return x, n


def newton(x):
    y = x * 0 + 1
    for _ in range(100):
        step = (y * y - x) / (2 * y)
        y = y - step
        if abs(step) < 1e-6:
            break
    return y


def inner_break(x):
    total = x * 0
    while x < 30:
        y = x
        while True:
            y = y * 2
            if y > 40:
                break
        total = total + y
        x = x + 5
        if total > 300:
            break
    return x, total


def with_else(x):
    n = 0
    while x < 10:
        x = x + 2
        if x > 7:
            continue
        n += 1
    else:
        x = x * 2
    return x, n


def returning(x):
    while x < 100:
        x = x * 2
        if x > 50:
            return x - 1
        x = x + 1
    return x + 1000


def two_returns(x):
    y = x
    while True:
        x = x * 1.5
        if x > 100:
            return x
        y = y + 1
        if y > 12:
            z = y * 2
            return z, "late"


def else_and_break(x):
    n = 0
    while x < 40:
        x = x + 7
        if x - 2 * (x // 2) > 0.5:
            n += 1
            if n > 3:
                break
    else:
        x = x * 100
    return x, n


def break_with_work(x):
    y = x * 0
    while True:
        x = x + 1
        if x > 20:
            y = y + 100
            break
        y = y + x
        if y > 90:
            y = -y
            break
    return x, y


def in_place_return(x):
    y = x * 1
    while y < 10:
        y += 1
        if y > 7:
            return y * 2, x
    return y


def for_return(x):
    while x < 1000:
        if x < 0:
            x = -x
            continue
        x = x * 3
        if x > 70:
            if x > 100:
                return x
            x = x - 1
            return -x
    return x + 0.5


CAPTURED = {
    counted: (1.0, 11.0, 5.0), negated: (1.0, 3.0, 20.0), either: (1.0, 3.0, 80.0), chained: (1.0, 3.0, 30.0, -1.0),
    bounded: (1.0, 3e5, 2e6), broken_off: (1.0, 3.0, 1e6), returned: (1.0, 60.0), branching: (6.0, 27.0, 1.0, 97.0),
    nested: (5.0, 2.0, 0.0), run_again: (5.0, 7.0, 200.0), in_place: (0.5, 3.0, 20.0),
    differentiated: (0.1, 2.0, 0.0), inner_gradient: (1.0, 5.0), breaking: (1.0, 3.0, 60.0, 200.0),
    breaking_nested: (1.0, 19.0, 2000.0), continued: (1.0, 7.0, 3.0, 20.0), both: (0.0, 40.0, 3.0, 60.0),
    two_exits: (1.0, 90.0, 11.5, 0.1), counted_for: (1.0, 0.0, 1e-9, 200.0),
    for_before_and_after: (1.0, 150.0, 300.0, -500.0), down: (1.0, 50.0, 100.0, -900.0),
    python_while: (1.0, 200.0, 1e-3), newton: (2.0, 50.0, 1e4), inner_break: (1.0, 29.0, 50.0, 0.25),
    with_else: (1.0, 8.0, 30.0), returning: (1.0, 3.0, 60.0, 200.0, 49.0), two_returns: (1.0, 90.0, 11.5, 0.1),
    else_and_break: (1.0, 0.0, 39.0, 50.0, 2.5), break_with_work: (1.0, 19.0, 30.0, 8.0),
    in_place_return: (1.0, 20.0, 9.5), for_return: (1.0, -5.0, 2000.0, 25.0, 30.0, -8.0),
}  # fmt: skip


MOST_MISSES = {run_again: 4, branching: 4, two_returns: 4, for_return: 5}  # a path for each way out


@pytest.mark.parametrize("function", CAPTURED, ids=lambda function: function.__name__)
def test_a_captured_loop_runs_any_number_of_trips(function):
    jitted = tj.jit(function)
    for arguments in scalars(*CAPTURED[function]) * 2:
        assert repr(jitted(*arguments)) == repr(function(*arguments))
    info = jitted.cache_info()
    assert info.lazy == 0
    # The first trip is code like any other: its branches are paths.
    assert info.misses <= MOST_MISSES.get(function, 3), jitted.explain()
    assert "while" in jitted.ir(tj.tensor(CAPTURED[function][0]))


def collected(x):
    found = []
    while x < 4:
        x = x + 1
        found.append(x)
    return found


class Counter:
    count = 0


def counting(x):
    while x < 4:
        x = x + 1
        Counter.count += 1
    return x


NOT_CAPTURED = {
    collected: (1.0, 0.0, 0.5), counting: (1.0, 2.0), with_a_float: (1.0, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("function", NOT_CAPTURED, ids=lambda function: function.__name__)
def test_a_loop_that_cannot_be_captured_is_right_too(function):
    jitted = tj.jit(function)
    for arguments in scalars(*NOT_CAPTURED[function]) * 2:
        Counter.count = 0
        expected = function(*arguments), Counter.count
        Counter.count = 0
        assert repr((jitted(*arguments), Counter.count)) == repr(expected)


def test_gradients_flow_through_a_captured_loop():
    w = tj.tensor([0.5, 0.7], requires_grad=True)

    def f(x):
        while x.sum() < 50:
            x = x + w * x
        return x

    jitted = tj.jit(f)
    for value in (1.0, 2.0, 3.0, 100.0):
        found = []
        for function in (f, jitted):
            w.grad = None
            result = function(tj.tensor([value, value]))
            if result.requires_grad:
                result.sum().backward()
            found.append((result.tolist(), None if w.grad is None else w.grad.tolist()))
        assert found[0] == found[1]
    assert jitted.cache_info().misses == 2


def test_gradients_flow_through_a_loop_that_is_left_early():
    w = tj.tensor([0.5, 0.7], requires_grad=True)

    def f(x):
        for i in range(20):
            x = x + w * x
            if x.sum() > 50:
                break
            if x[0] > 3:
                continue
            x = x * (1 + 0.1 * i)
        return x

    jitted = tj.jit(f)
    for value in (1.0, 2.0, 0.01, 100.0, -3.0):
        found = []
        for function in (f, jitted):
            w.grad = None
            result = function(tj.tensor([value, value]))
            result.sum().backward()
            found.append((result.tolist(), w.grad.tolist()))
        assert found[0] == found[1]
    assert jitted.cache_info().misses <= 3


def test_checks_and_random_numbers_in_a_loop():
    def sum_from(x, i):
        total = tj.tensor(0.0)
        while i < 4:
            total = total + x[i]
            i = i + 1
        return total

    jitted = tj.jit(sum_from)
    for start in (0, 2):
        assert jitted(tj.arange(6.0), tj.tensor(start)).item() == sum_from(tj.arange(6.0), tj.tensor(start)).item()
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 3"):
        jitted(tj.arange(3.0), tj.tensor(0))

    def draw(x):
        while x.sum() < 10:
            x = x + tj.rand(3)
        return x

    def draw_and_return(x):
        while x.sum() < 10:
            x = x + tj.rand(3)
            if x[0] > 3:
                return x * 2
        return x

    jitted = tj.jit(draw_and_return)
    found = []
    for function in (draw_and_return, jitted):
        tj.manual_seed(0)
        found.append([function(tj.zeros(3)).tolist() for _ in range(4)])
    assert found[0] == found[1]
    assert jitted.cache_info().lazy == 0

    jitted = tj.jit(draw)
    found = []
    for function in (draw, jitted):
        tj.manual_seed(0)
        found.append([function(tj.zeros(3)).tolist() for _ in range(3)])
    assert found[0] == found[1]
    assert jitted.cache_info().misses == 1


def test_a_captured_loop_may_run_for_long():
    @tj.jit
    def decay(x, rate):
        n = 0
        while x > 1e-3:
            x = x * rate
            n += 1
        return n

    assert decay(tj.tensor(1.0), 0.5) == 10
    assert decay(tj.tensor(1.0), 0.9999) == pytest.approx(69074, abs=100)
    assert decay.cache_info().misses == 1


def test_a_loop_whose_source_cannot_be_read_is_right():
    space = {"tj": tj}
    exec("def f(x):\n    while x < 4:\n        x = x + 1\n    return x", space)
    jitted = tj.jit(space["f"])
    for value in (0.0, 2.5, 9.0):
        assert jitted(tj.tensor(value)).item() == space["f"](tj.tensor(value)).item()


def test_bits_of_a_vector_loop():
    def f(x):
        while tj.max(abs(x)) > 0.5:
            x = tj.sin(x) * 0.9
        return x

    jitted = tj.jit(f)
    for seed in range(4):
        x = tj.tensor(np.random.default_rng(seed).normal(size=100).astype(np.float32))
        assert np.asarray(jitted(x)).tobytes() == np.asarray(f(x)).tobytes()
    assert jitted.cache_info().misses <= 2


ENDLESS = """
import signal
import tracejit as tj

@tj.jit
def endless(x, step):
    while x > 0:
        x = x + step
    return x

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

signal.signal(signal.SIGALRM, stop)
stopped = []
for calls in (1, 3, 200):  # run by Python, and called by native code
    for _ in range(calls):
        endless(tj.tensor(3.0), tj.tensor(-1.0))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        endless(tj.tensor(1.0), tj.tensor(0.0))
    except Stop:
        stopped.append(calls)
    assert endless(tj.tensor(3.0), tj.tensor(-1.0)).item() == 0
print(stopped)
"""


def test_a_signal_stops_a_loop(tmp_path):
    program = tmp_path / "endless.py"  # whose source can be read
    program.write_text(ENDLESS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.stdout == "[1, 3, 200]\n"


def test_a_loop_that_cannot_be_captured_leaves_tensors_as_they_were():
    settings = [{"rate": 1.0}]

    def shrink(x):
        u = x.sum() * 0 + 0.75
        a = x * 2
        count = 0
        while -1 < u < 1:
            count += 1
            if count > 3:
                break
            a[1:] *= u.item()
            settings[0]["rate"] *= 0.5
        return a

    jitted = tj.jit(shrink)
    for n in (4, 5, 4):
        x = tj.arange(n) * 0.5
        settings[0]["rate"] = 1.0
        expected = shrink(x)
        assert settings[0]["rate"] == 0.125
        settings[0]["rate"] = 1.0
        assert jitted(x).tolist() == expected.tolist()
        assert settings[0]["rate"] == 0.125


def test_gradients_are_as_they_were_where_a_loop_cannot_be_captured():
    scale = tj.tensor(1.5, requires_grad=True)
    settings = [{"rate": 1.0}]

    def learn(x):
        u, a, count = x.sum() * 0 + 0.75, x * 2, 0
        while -1 < u < 1:
            count += 1
            if count > 3:
                break
            a[1:] *= u.item()
            (tj.tanh(a * scale) * a).sum().backward()
            settings[0]["rate"] *= 0.5
        return a

    def run(function):
        scale.grad, found = None, []
        for n in (4, 5, 4, 5):
            found.append(function(tj.arange(n) * 0.5).tolist())
            found.append(scale.grad.item())
        return found

    assert run(tj.jit(learn)) == run(learn)


COLD = """
import numpy as np
import tracejit as tj

@tj.jit
def cube_root(x):
    y = 0 * x + 1
    step = y
    while tj.max(tj.abs(step)) > 1e-5:
        step = (y - x / (y * y)) / 3
        y = y - step
    return y

cube_root(tj.tensor([8.0, 27.0]))
print("Python code runs" in cube_root.explain())
"""


def test_loading_the_compiler_is_not_the_functions_doing(tmp_path):
    program = tmp_path / "cold.py"
    program.write_text(COLD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TRACEJIT_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout == "False\n", result.stderr


def ends_in_parentheses(x):
    while x.sum() < 100:
        x = x * 2
    return (
        x
        # the end of the source leaves no trace in the code
    )


def ends_in_dead_code(x):
    while x.sum() < 100:
        x = x * 2
    if True:
        return x
    else:  # noqa: RET505
        return (
            1,  # never
        )


def ends_in_a_function(x):
    while x.sum() < 100:
        x = x * 2

    def last(y):
        return (
            y
        )  # fmt: skip

    return last(x) if False else x


@pytest.mark.parametrize("function", [ends_in_parentheses, ends_in_dead_code, ends_in_a_function])
def test_a_loop_is_found_wherever_the_source_ends(function):
    x = tj.tensor([1.0, 2.0])
    jitted = tj.jit(function)
    assert jitted(x).tolist() == function(x).tolist()
    assert " = while " in str(jitted.ir(x, stage="trace"))
