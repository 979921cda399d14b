"""Jitted functions called by native code: the same results, effects and errors as in Python; and nothing leaks."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import native_calls, nn, optim, state, tree
from tracejit.backends.cpu import compiler, entry, objects
from tracejit.jit import JittedFunction

pytestmark = [
    pytest.mark.skipif(objects.why_unsupported() is not None, reason=f"no native calls: {objects.why_unsupported()}"),
    pytest.mark.usefixtures("installed"),
]
ROOT = Path(__file__).resolve().parents[1]
Point = namedtuple("Point", "x y")


@pytest.fixture(scope="module")
def installed() -> None:
    if entry._execute is None:
        entry.load()
    assert native_calls.install()


def served(f: JittedFunction) -> int:
    """How many calls native code has made."""
    return sum(signed.calls for signed in f._signed or ())


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> tj.Tensor:
    return tj.tensor(np.random.default_rng(seed).uniform(1, 2, shape).astype(dtype))


def described(item: Any) -> Any:
    """Structure, types and bits."""
    leaves: list[Any] = []
    structure = tree.flatten(item, leaves)
    found = []
    for leaf in leaves:
        if isinstance(leaf, tj.Tensor):
            value = leaf._value
            found.append((type(leaf), value.dtype, value.shape, value.tobytes(), leaf.requires_grad, leaf.is_leaf))
        else:
            found.append((type(leaf), repr(leaf)))
    return structure, found


@contextmanager
def in_python() -> Iterator[None]:
    """No call is native within."""
    state.busy[0] += 1
    try:
        yield
    finally:
        state.busy[0] -= 1


def warm(f: JittedFunction, *args: Any, **kwargs: Any) -> Any:
    """Call until native code makes the calls."""
    for _ in range(3):
        result = f(*args, **kwargs)
    before = served(f)
    result = f(*args, **kwargs)
    assert served(f) == before + 1, f.explain()
    return result


# What functions take and return ---------------------------------------------------------------------

x4, y4, m = random(4), random(4, seed=1), random(3, 4, seed=2)
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "one tensor": (lambda x: x + 1.0, (x4,), {}),
    "two": (lambda x, y: x * y, (x4, y4), {}),
    "an intermediate": (lambda x: (tj.exp(x) @ tj.exp(x)) * x, (x4,), {}),
    "one that is not used": (lambda x, y: x * 2, (x4, y4), {}),
    "keywords": (lambda x, *, y, scale: x * y * scale, (x4,), {"scale": 2.0, "y": y4}),
    "a float": (lambda x, factor: x * factor, (x4, 0.5), {}),
    "a float that is not used": (lambda x, factor: x * 1.5, (x4, 0.5), {}),
    "an int, a string, None, a bool": (lambda x, n, s, o, b: x * n if b else x, (x4, 3, "s", None, True), {}),
    "a list": (lambda items: items[0] + items[1], ([x4, y4],), {}),
    "a tuple in a list": (lambda items: items[0][1] * 2, ([(y4, x4), 1.5],), {}),
    "a dict": (lambda d: d["a"] * d["b"][0], ({"a": x4, "b": [y4]},), {}),
    "many parameters": (
        lambda d, x: sum(d.values(), x), ({f"p{i}": random(4, seed=i) for i in range(40)}, random(4)), {}
    ),
    "0-d and empty": (lambda x, y: (x + 1, y * 2), (random(), tj.zeros(0, 3)), {}),
    "several dtypes": (lambda x, n: (x < 1.5, n * 2), (x4, tj.tensor([1, 2])), {}),
    "an argument returned": (lambda x, y: (y, x + y), (x4, y4), {}),
    "a tuple": (lambda x: (x + 1, x * 2), (x4,), {}),
    "a dict returned": (lambda x: {"double": x * 2, "rest": [x - 1, {"none": None}]}, (x4,), {}),
    "the same object twice": (lambda x: (lambda y: (y, y, [y]))(x + 1), (x4,), {}),
    "nothing": (lambda x: None, (x4,), {}),
    "constants": (lambda x: (1, "text", 2.5, x + 1), (x4,), {}),
    "a Python number": (lambda x, factor: (x * factor, factor * 2.0), (x4, 1.5), {}),
    "a constant tensor": (lambda x: (x + tj.tensor([1.0, 2.0, 3.0, 4.0]), tj.tensor([5.0])), (x4,), {}),
    "large": (lambda x: tj.exp(x) * 2, (random(600, 300),), {}),
    "a parameter": (lambda p: p * 2, (tj.Parameter(x4, requires_grad=False),), {}),
    "an object": (lambda o, x: x * o.factor, (type("Thing", (), {"factor": 2.5})(), x4), {}),
    "a function": (lambda f, x: f(x), (tj.exp, x4), {}),
    "an array": (lambda a, x: tj.asarray(a) * x, (np.arange(4.0, dtype=np.float32), x4), {}),
    "arrays": (
        lambda d, b: tj.asarray(d["a"]) @ tj.asarray(b) + 1, ({"a": m.numpy()}, np.ones((4, 2), np.float32)), {}
    ),
    "NumPy's functions": (
        lambda x, factor: (tj.sort(x * factor), tj.linalg.inv(x[:, None] + tj.eye(4))), (x4, 2.0), {}
    ),
    "a branch between NumPy's functions": (
        lambda x: tj.cumsum(tj.sort(x)) if tj.sort(x)[0] < 10 else tj.sort(x), (x4,), {}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_a_native_call_is_the_same(case: str) -> None:
    function, args, kwargs = CALLS[case]
    f = tj.jit(function)
    found = warm(f, *args, **kwargs)
    with in_python():
        assert described(found) == described(f(*args, **kwargs))
    if case == "the same object twice":
        assert found[0] is found[1] is found[2][0]
    if case == "an argument returned":
        assert found[0] is args[1]


def test_arrays_are_taken_as_they_are_now() -> None:
    a = np.ones(3, np.float32)
    f = tj.jit(lambda a: (tj.asarray(a), tj.asarray(a) * 2))
    same, twice = warm(f, a)
    a[:] = 5.0
    assert (same.tolist(), twice.tolist()) == ([1.0] * 3, [2.0] * 3)
    before = served(f)
    assert f(a)[1].tolist() == [10.0] * 3
    assert f(a)[0] is not f(a)[0]
    assert served(f) == before + 3
    for other in (a.astype(np.float64), np.ones(4, np.float32), np.ones((3, 1), np.float32)):
        assert f(other)[1].tolist() == (other * 2).tolist()
    assert f(np.ones(6, np.float32)[::2])[1].tolist() == [2.0] * 3
    same = f(a)[0]
    same[0] = 7.0
    assert a.tolist() == [5.0] * 3


def test_errors_of_functions_of_numpy() -> None:
    f = tj.jit(lambda x: tj.linalg.inv(x) + 1)
    good, bad = tj.eye(3), tj.zeros(3, 3)
    warm(f, good)
    for _ in range(3):
        with pytest.raises(np.linalg.LinAlgError):
            f(bad)
        assert f(good).tolist() == (tj.eye(3) + 1).tolist()


def test_keywords_come_in_any_order() -> None:
    f = tj.jit(lambda *, a, b: a - b)
    warm(f, a=x4, b=y4)
    before = served(f)
    assert described(f(b=y4, a=x4)) == described(x4 - y4)
    assert served(f) == before + 1


class Loud(tj.Tensor):
    """A subclass, which is no ordinary tensor."""


OTHERS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "another shape": lambda: (random(5), 2, [y4], {"k": x4}, 1.0),
    "another rank": lambda: (random(4, 1), 2, [y4], {"k": x4}, 1.0),
    "another dtype": lambda: (random(4, dtype="float64"), 2, [y4], {"k": x4}, 1.0),
    "another int": lambda: (x4, 3, [y4], {"k": x4}, 1.0),
    "a bool for an int": lambda: (x4, True, [y4], {"k": x4}, 1.0),
    "a float for an int": lambda: (x4, 2.0, [y4], {"k": x4}, 1.0),
    "a longer list": lambda: (x4, 2, [y4, y4 + 1], {"k": x4}, 1.0),
    "a tuple for a list": lambda: (x4, 2, (y4,), {"k": x4}, 1.0),
    "another key": lambda: (x4, 2, [y4], {"j": x4}, 1.0),
    "an int for a float": lambda: (x4, 2, [y4], {"k": x4}, 1),
    "another float": lambda: (x4, 2, [y4], {"k": x4}, -3.5),
    "NaN": lambda: (x4, 2, [y4], {"k": x4}, math.nan),
    "a NumPy float": lambda: (x4, 2, [y4], {"k": x4}, np.float64(2.0)),
    "a NumPy array": lambda: (np.ones(4, np.float32), 2, [y4], {"k": x4}, 1.0),
    "a view": lambda: (random(4, 2)[:, 0], 2, [y4], {"k": x4}, 1.0),
    "a subclass": lambda: (Loud([1.0, 2.0, 3.0, 4.0]), 2, [y4], {"k": x4}, 1.0),
    "one that requires gradients": lambda: (random(4).requires_grad_(), 2, [y4], {"k": x4}, 1.0),
    "one with a history": lambda: (random(4).requires_grad_() * 2, 2, [y4], {"k": x4}, 1.0),
    "the same twice": lambda: (x4, 2, [x4], {"k": y4}, 1.0),
    "a number for a tensor": lambda: (2.0, 2, [y4], {"k": x4}, 1.0),
    "None for a tensor": lambda: (None, 2, [y4], {"k": x4}, 1.0),
    "too few": lambda: (x4, 2, [y4], {"k": x4}),
    "too many": lambda: (x4, 2, [y4], {"k": x4}, 1.0, 1.0),
}


def outcome(f: Callable[..., Any], *args: Any) -> Any:
    try:
        return described(f(*args))
    except Exception as error:
        return type(error), str(error).split("\n")[0]


@pytest.mark.parametrize("case", OTHERS)
def test_calls_of_other_kinds_are_told_apart(case: str) -> None:
    def function(x: Any, n: Any, items: Any, d: Any, factor: Any) -> Any:
        total = x * n + factor
        for item in items:
            total = total - item
        for name, item in d.items():
            total = total * item if name == "k" else total / item
        return total, x is items[0]

    f = tj.jit(function)
    usual = (x4, 2, [y4 + 0], {"k": x4 + 0}, 1.0)
    expected = described(warm(f, *usual))
    other = OTHERS[case]()
    for _ in range(4):
        assert outcome(f, *other) == outcome(function, *other)
        assert described(f(*usual)) == expected


def test_the_mode_of_gradients_is_part_of_the_kind() -> None:
    f = tj.jit(lambda x: x * 2)
    leaf = random(4).requires_grad_()
    with tj.no_grad():
        assert not warm(f, leaf).requires_grad
    for _ in range(4):
        result = f(leaf)
        assert result.requires_grad
        result.sum().backward()
    with tj.no_grad():
        assert not f(leaf).requires_grad
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [8.0] * 4


def test_several_kinds_are_served_side_by_side() -> None:
    f = tj.jit(lambda x: x.sum() * 2)
    kinds = [random(n, seed=n) for n in range(1, 6)]
    for kind in kinds:
        warm(f, kind)
    before = served(f)
    for kind in kinds:
        assert described(f(kind)) == described(kind.sum() * 2)
    assert served(f) == before + len(kinds)
    for n in range(6, 30):  # more than are kept
        warm(f, random(n, seed=n))
    assert len(f._signed or ()) == native_calls.MOST_SIGNATURES
    assert described(f(kinds[0])) == described(kinds[0].sum() * 2)


# What functions rely on -------------------------------------------------------------------------------

setting, table, weight = 2.0, {"scale": 2.0, "shift": [1, 2]}, random(4, seed=9)


def assert_follows(f: JittedFunction, function: Callable[..., Any], change: Callable[[int], Any], *args: Any) -> None:
    """However the world is changed, the jitted function does what the function does."""
    warm(f, *args)
    for step in range(6):
        change(step)
        for _ in range(3):
            assert described(f(*args)) == described(function(*args)), step


def test_globals_are_looked_up() -> None:
    def function(x: tj.Tensor) -> tj.Tensor:
        return x * setting + table["scale"] + table["shift"][1] * weight

    def change(step: int) -> None:
        global setting, weight
        match step:
            case 0:
                setting = 3.0
            case 1:
                table["scale"] = 5.0
            case 2:
                table["shift"][1] = 7  # type: ignore[index]
            case 3:
                weight = random(4, seed=10)
            case 4:
                weight._value = weight._value + 1
            case 5:
                table["scale"] = 2

    assert_follows(tj.jit(function), function, change, x4)


def test_variables_of_enclosing_functions_are_looked_up() -> None:
    factor, bias, items = 2, random(4, seed=3), [random(4, seed=4)]

    def function(x: tj.Tensor) -> tj.Tensor:
        return x * factor + bias - items[0]

    def change(step: int) -> None:
        nonlocal factor, bias
        match step:
            case 0:
                factor = 300
            case 1:
                bias = random(4, seed=5)
            case 2:
                bias.mul_(2)
            case 3:
                items[0] = random(4, seed=6)
            case 4:
                items.append(bias)
            case 5:
                bias = tj.tensor(3.0)

    assert_follows(tj.jit(function), function, change, x4)


def test_attributes_are_looked_up() -> None:
    class Thing:
        def __init__(self) -> None:
            self.factor, self.weight, self.name = 2.0, random(4, seed=3), "thing"

        def apply(self, x: tj.Tensor) -> tj.Tensor:
            return x * self.factor + self.weight

    thing = Thing()

    def function(x: tj.Tensor) -> tj.Tensor:
        return thing.apply(x)

    def change(step: int) -> None:
        nonlocal thing
        match step:
            case 0:
                thing.factor = 4.0
            case 1:
                thing.weight = random(4, seed=7)
            case 2:
                thing.weight = tj.tensor(1.0)
            case 3:
                thing.extra = 1  # type: ignore[attr-defined]
            case 4:
                thing = Thing()
            case 5:
                thing.weight = thing.weight.double()

    assert_follows(tj.jit(function), function, change, x4)


def test_modules_are_followed() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model.eval()

    def function(x: tj.Tensor) -> tj.Tensor:
        return model(x)

    def change(step: int) -> None:
        match step:
            case 0:
                model[0].weight.requires_grad_(False)
            case 1:
                model[0] = nn.Linear(4, 8)
            case 2:
                model[2].weight = nn.Parameter(random(2, 8))
            case 3:
                model[2].bias.data = random(2)
            case 4:
                model.double()
                x._value = x._value.astype(np.float64)
            case 5:
                model.append(nn.ReLU())

    x = random(3, 4)
    f = tj.jit(function)
    with tj.no_grad():
        assert_follows(f, function, change, x)
    model.train()
    with tj.no_grad():
        assert any(not np.array_equal(f(x).numpy(), f(x).numpy()) for _ in range(5))


def test_methods_are_bound() -> None:
    class Scale:
        def __init__(self, factor: float) -> None:
            self.factor = tj.tensor(factor)

        @tj.jit
        def apply(self, x: tj.Tensor) -> tj.Tensor:
            """What it does."""
            return x * self.factor

    one, two = Scale(1.0), Scale(2.0)
    for scale in (one, two):
        for _ in range(4):
            assert scale.apply(x4).tolist() == (x4 * scale.factor).tolist()
    assert served(Scale.__dict__["apply"]) > 0
    assert Scale.apply.__doc__ == "What it does."
    assert Scale.apply is Scale.__dict__["apply"]
    assert Scale.apply(two, x4).tolist() == (x4 * 2.0).tolist()


# What functions change --------------------------------------------------------------------------------


def trained(kind: Callable[..., optim.Optimizer], steps: int, compiled: bool, change: Any = None) -> Any:
    tj.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    opt = kind(model.parameters())

    def step(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    run = tj.jit(step) if compiled else step
    x, y = random(16, 4), tj.tensor(np.random.default_rng(0).integers(0, 3, 16))
    losses = []
    for number in range(steps):
        losses.append(described(run(x, y))[1][0][3])
        if change is not None:
            change(number, model, opt)
    if isinstance(run, JittedFunction):
        assert served(run) > steps // 2, run.explain()
        assert run.cache_info().hits + run.cache_info().misses == steps
        assert f"{steps} calls" in run.explain() or change is not None
    moments = [value for per in opt.state.values() for value in per.values()]
    gradients = [p.grad for p in model.parameters()]
    return losses, described([*model.parameters(), *moments, *gradients])


OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_is_the_same(kind: str) -> None:
    assert trained(OPTIMIZERS[kind], 30, True) == trained(OPTIMIZERS[kind], 30, False)


def test_training_follows_what_is_changed_meanwhile() -> None:
    def change(number: int, model: nn.Module, opt: optim.Optimizer) -> None:
        group = opt.param_groups[0]
        match number:
            case 10:
                group["lr"] = 0.05
            case 15:
                group["weight_decay"] = 0.1
            case 20:
                group["betas"] = (0.8, 0.9)
            case 25:
                with tj.no_grad():
                    next(model.parameters()).mul_(0.5)
            case 30:
                group["lr"] = 1
            case 35:
                opt.load_state_dict(opt.state_dict())

    kind = OPTIMIZERS["AdamW"]
    assert trained(kind, 60, True, change) == trained(kind, 60, False, change)


def test_hooks_are_noticed() -> None:
    w, seen = random(4).requires_grad_(), []

    @tj.jit
    def step(x: tj.Tensor) -> tj.Tensor:
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss.detach()

    warm(step, x4)
    handle = w.register_hook(lambda g: seen.append(1))
    step(x4)
    step(x4)
    assert len(seen) == 2
    handle.remove()
    step(x4)
    assert len(seen) == 2


def test_a_tensor_without_a_name_changes_too() -> None:
    counter, cell = tj.zeros(()), {"total": tj.zeros(4)}

    @tj.jit
    def count(x: tj.Tensor) -> tj.Tensor:
        counter.add_(1)
        cell["total"].add_(x)
        return counter * 2

    for n in range(1, 20):
        assert count(x4).item() == 2.0 * n
    assert served(count) > 10
    assert counter.item() == 19.0
    np.testing.assert_allclose(cell["total"].numpy(), x4.numpy() * 19, rtol=1e-5)


def test_what_a_change_takes_away_stays_where_it_is_held() -> None:
    total = tj.zeros(4)

    @tj.jit
    def step() -> tj.Tensor:
        before = total + 0
        total.add_(1)
        return before

    kept = [step() for _ in range(10)]
    assert [k.tolist() for k in kept] == [[float(n)] * 4 for n in range(10)]
    held = total._value
    step()
    assert held.tolist() == [10.0] * 4


def test_a_check_that_fails_changes_nothing() -> None:
    total = tj.zeros(())

    @tj.jit
    def pick(x: tj.Tensor, i: tj.Tensor) -> tj.Tensor:
        total.add_(1)
        return x[i]

    good, bad = tj.tensor([0, 3]), tj.tensor([0, 9])
    warm(pick, x4, good)
    before = total.item()
    for _ in range(3):
        with pytest.raises(IndexError, match="out of bounds"):
            pick(x4, bad)
    assert total.item() == before
    pick(x4, good)
    assert total.item() == before + 1


@pytest.mark.parametrize("size", [4, 700])
def test_no_update_of_several_threads_is_lost(size: int) -> None:
    total, errors = tj.zeros(size, size), []

    @tj.jit
    def add(x: tj.Tensor) -> tj.Tensor:
        total.add_(x)
        return total.sum()

    one = tj.ones(size, size)
    warm(add, one)
    start, calls = float(total._value[0, 0]), 200 if size == 4 else 20
    compiler.wait()

    def work() -> None:
        try:
            for number in range(calls):
                if number % 7 == 0:
                    with tj.no_grad():  # another kind of call, some of which are made in Python
                        add(one)
                else:
                    add(one)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert np.all(total.numpy() == start + 4 * calls)


# What surrounds calls ---------------------------------------------------------------------------------


def test_traces_transformations_and_anomalies_see_the_python_code() -> None:
    seen = []

    @tj.jit
    def inner(x: tj.Tensor) -> tj.Tensor:
        seen.append(type(x._value).__name__)
        return tj.log(x) * 2

    f = tj.jit(lambda x: tj.log(x) * 2)
    warm(f, x4)
    outer = tj.jit(lambda x: f(x) + 1)
    assert "log" in outer.ir(x4)
    assert described(outer(x4)) == described(f(x4) + 1)
    batched = tj.vmap(f)(random(3, 4))
    assert batched.shape == (3, 4)
    with tj.autograd.detect_anomaly(), pytest.raises(FloatingPointError):
        f(tj.tensor([1.0, -1.0, 1.0, 1.0]))
    assert np.isnan(f(tj.tensor([1.0, -1.0, 1.0, 1.0])).numpy()).tolist() == [False, True, False, False]


def test_jit_can_be_disabled() -> None:
    calls = []

    def function(x: tj.Tensor) -> tj.Tensor:
        calls.append(1)
        return x * 2

    f = tj.jit(lambda x: x * 2)
    warm(f, x4)
    before = served(f)
    tj.config.disable_jit = True
    try:
        assert described(f(x4)) == described(x4 * 2)
    finally:
        tj.config.disable_jit = False
    assert served(f) == before


def test_masks_of_where_are_part_of_the_kind() -> None:
    x = tj.tensor([0.0, 4.0])

    @tj.jit
    def slope(x: tj.Tensor) -> tj.Tensor:
        y = x.detach().requires_grad_()
        tj.where(y > 0, tj.sqrt(y), 0.0).sum().backward()
        assert y.grad is not None
        return y.grad

    masked = warm(slope, x).tolist()
    tj.config.masked_where = False
    try:
        assert np.isnan(slope(x).numpy()[0])
    finally:
        tj.config.masked_where = True
    assert slope(x).tolist() == masked == [0.0, 0.25]


def test_calls_that_are_checked_stay_in_python() -> None:
    f = tj.jit(lambda x: x * 2, check=True)
    for _ in range(5):
        f(x4)
    assert f._signed is None


def test_the_cache_can_be_cleared() -> None:
    f = tj.jit(lambda x: x * 2)
    warm(f, x4)
    hits = f.cache_info().hits
    f.clear_cache()
    assert f._signed is None
    assert f.cache_info().hits == hits
    warm(f, x4)


def test_a_function_may_call_itself_and_be_called_by_finalizers() -> None:
    f = tj.jit(lambda x: x * 2.0 + 1.0)
    expected = warm(f, x4).tolist()
    results = []

    class Last:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            results.append(f(x4).tolist())

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(200):
            Last()
            assert f(x4).tolist() == expected
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert results == [expected] * 200


def test_what_is_read_may_be_replaced_while_it_runs() -> None:
    """The collector runs code that gives everything another value, in the midst of calls."""
    w, d = random(4), {"w": random(4, seed=1)}

    @tj.jit
    def f(x: tj.Tensor) -> tuple[tj.Tensor, tj.Tensor]:
        w.add_(0.0)
        return x * w * d["w"], w

    expected = described(warm(f, x4)[0])

    class Cycle:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            w._value = w._value.copy()
            d["w"]._value = d["w"]._value.copy()
            x4._value = x4._value.copy()

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(200):
            Cycle()
            assert described(f(x4)[0]) == expected
    finally:
        gc.set_threshold(*threshold)


def test_threads_call_at_once() -> None:
    f = tj.jit(lambda x: tj.tanh(x @ x) * 2)
    inputs = [random(200, 200, seed=n) for n in range(4)]
    expected = [described(warm(f, x)) for x in inputs]
    errors = []

    def work(number: int) -> None:
        try:
            for _ in range(50):
                assert described(f(inputs[number])) == expected[number]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# Nothing leaks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CALLS)
def test_reference_counts_balance(case: str) -> None:
    function, args, kwargs = CALLS[case]
    f = tj.jit(function)
    warm(f, *args, **kwargs)
    leaves: list[Any] = []
    tree.flatten((args, kwargs), leaves)
    arrays = [leaf._value for leaf in leaves if isinstance(leaf, tj.Tensor)]
    watched = [None, True, False, args, *args, *leaves, *arrays, np.dtype("float32"), tj.Tensor, f, f._signed, tuple]
    if case == "large":
        watched.remove(None)  # NumPy loses references to it where an array takes over another's memory

    def run() -> None:
        f(*args, **kwargs)

    run()
    compiler.wait()
    gc.collect()
    before, count = [sys.getrefcount(item) for item in watched], len(gc.get_objects())
    for _ in range(500):
        run()
    gc.collect()  # what Python does for a program leaves cycles
    after = [sys.getrefcount(item) for item in watched]
    assert [now - then for then, now in zip(before, after, strict=True) if now - then > 20] == []
    assert len(gc.get_objects()) - count < 20


def test_reference_counts_of_what_is_changed_balance() -> None:
    w = random(4).requires_grad_()
    opt = optim.Adam([w], lr=0.01)

    @tj.jit
    def step(x: tj.Tensor) -> tj.Tensor:
        loss = ((w - x) ** 2).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    warm(step, x4)
    watched = [None, True, False, w, x4, *opt.state[w].values(), np.dtype("float32"), opt, opt.state]
    compiler.wait()
    gc.collect()
    before, count = [sys.getrefcount(item) for item in watched], len(gc.get_objects())
    for _ in range(1000):
        step(x4)
    after = [sys.getrefcount(item) for item in watched]
    assert [now - then for then, now in zip(before, after, strict=True) if now - then > 20] == []
    gc.collect()
    assert len(gc.get_objects()) - count < 20


def test_misses_keep_nothing() -> None:
    f = tj.jit(lambda d, x: d["a"] * x)
    good, d = ({"a": x4}, y4), {"a": x4, "b": 1}
    warm(f, *good)
    others = [({"a": x4}, None), ({"a": x4},), (d, y4), ({"a": 3}, y4), ({1: x4}, y4), ({"a": x4}, [])]
    watched = [None, x4, y4, d, f, f._signed]
    before = [sys.getrefcount(item) for item in watched]
    with in_python_raising(f):
        for _ in range(300):
            for other in others:
                with pytest.raises(LookupError):
                    f(*other)
    gc.collect()
    after = [sys.getrefcount(item) for item in watched]
    assert [now - then for then, now in zip(before, after, strict=True) if now - then > 20] == []


@contextmanager
def in_python_raising(f: JittedFunction) -> Iterator[None]:
    """A call that reaches Python raises ``LookupError``."""

    def refuse(call: Any) -> None:
        raise LookupError

    f._call = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        del f._call  # type: ignore[method-assign]


def test_a_million_calls_keep_no_memory() -> None:
    f = tj.jit(lambda x, y: x * y + 1.0)
    warm(f, x4, y4)
    compiler.wait()
    tracemalloc.start()
    try:
        for _ in range(1000):
            f(x4, y4)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20_000):
            f(x4, y4)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000
    hits = served(f)
    for _ in range(1_000_000):
        f(x4, y4)
    assert served(f) == hits + 1_000_000


def test_functions_go_when_nobody_holds_them() -> None:
    def references() -> tuple[Any, Any]:
        w = random(4)
        f = tj.jit(lambda x: x * w)
        warm(f, x4)
        return weakref.ref(f), weakref.ref(w)

    found = references()
    gc.collect()
    assert [reference() for reference in found] == [None, None]


# Coming and going -------------------------------------------------------------------------------------


def script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", text], env=variables, capture_output=True, text=True, check=False
    )


MANY = """
import tracejit as tj
from tracejit.backends.cpu import compiler
f = tj.jit(lambda x: x * 2.0)
x = tj.ones(4)
for _ in range(6):
    for _ in range(20):
        assert f(x).tolist() == [2.0] * 4
    compiler.wait()
print(f._signed is not None and sum(s.calls for s in f._signed) > 0, f.cache_info().hits)
"""


def test_many_calls_load_it() -> None:
    done = script(MANY)
    assert (done.stdout.split(), done.returncode) == (["True", "119"], 0), done.stderr


def test_a_variable_turns_it_off() -> None:
    done = script(MANY, TRACEJIT_NATIVE_CALLS="0")
    assert (done.stdout.split(), done.returncode) == (["False", "119"], 0), done.stderr


def test_the_interpreter_may_end_in_the_midst() -> None:
    text = f"""{MANY}
import sys
class Last:
    def __init__(self):
        self.f, self.x, self.own = f, x, self
    def __del__(self):
        for _ in range(100):
            y = self.f(self.x)
        print(y.tolist())
sys.last = Last()
kept = Last()
"""
    done = script(text)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split("\n")[1:]) <= {"[2.0, 2.0, 2.0, 2.0]", ""}


def test_forked_children_go_on() -> None:
    text = f"""{MANY}
import os
if os.fork() == 0:
    os._exit(0 if all(f(x).tolist() == [2.0] * 4 for _ in range(10)) else 1)
print(os.wait()[1])
"""
    done = script(text)
    assert (done.stdout.split()[-1:], done.returncode) == (["0"], 0), done.stderr
