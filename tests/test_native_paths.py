"""Native calls of functions that decide, give gradients, and change Python objects: the same as in Python."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit import native_calls, nn
from tracejit.backends.cpu import compiler, entry, objects
from tracejit.jit import JittedFunction

from .test_native_calls import described, in_python, random, warm

pytestmark = [
    pytest.mark.skipif(objects.why_unsupported() is not None, reason=f"no native calls: {objects.why_unsupported()}"),
    pytest.mark.usefixtures("installed"),
]


@pytest.fixture(scope="module")
def installed() -> None:
    if entry._execute is None:
        entry.load()
    assert native_calls.install()


x4, y4 = random(4), random(4, seed=1)

# Decisions ------------------------------------------------------------------------------------------


def branch(x: tj.Tensor) -> tj.Tensor:
    return x * 2 if x.sum() > 0 else x - 1


def nested(x: tj.Tensor, y: tj.Tensor) -> Any:
    total = x.sum()
    if total > 0:
        y = y * total
        if y.max() > 3:
            return y, "large"
        return {"small": y - x}
    return [total, x]


def counted(x: tj.Tensor, n: tj.Tensor) -> tj.Tensor:
    for _ in range(int(n)):
        x = x * 1.5
    return x + n


def of_numbers(x: tj.Tensor, k: float, m: float) -> Any:
    if k > 2:
        return x * k + m, k, m
    return x / m, k + m


def of_arrays(x: tj.Tensor) -> Any:
    signs = (x > 0).tolist()
    return [x * 2 if sign else x for sign in signs[:2]]


def returned(x: tj.Tensor, y: tj.Tensor) -> Any:
    """What the first segment computes, an argument, a constant, and a number."""
    z = x + y
    if z.sum() > 0:
        return z, x, tj.tensor([1.0, 2.0]), z.sum().item()
    return y, z


DECISIONS: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]]]] = {
    "a branch": (branch, [(x4,), (-x4,)]),
    "nested": (nested, [(x4, y4), (-x4, y4), (x4, y4 / 100)]),
    "an int": (counted, [(x4, tj.tensor(n)) for n in (0, 3, 1)]),
    "numbers": (of_numbers, [(x4, 3.0, 0.5), (x4, 1.0, 2.0), (x4, 5.0, -1.0)]),
    "a list": (of_arrays, [(x4,), (-x4,), (tj.tensor([1.0, -1.0, 0.0, 2.0]),)]),
    "what was known before": (returned, [(x4, y4), (-x4, y4 - 3)]),
    "the same tensor twice": (returned, [(x4, x4), (y4, y4)]),
}


@pytest.mark.parametrize("case", DECISIONS)
def test_decisions(case: str) -> None:
    function, calls = DECISIONS[case]
    f = tj.jit(function)
    for args in calls * 2:
        warm_with_paths(f, *args)
    before = made_natively(f)
    for args in calls * 3:
        assert described(f(*args)) == described(function(*args))
    assert made_natively(f) == before + 3 * len(calls), f.explain()


def made_natively(f: JittedFunction) -> int:
    """How many calls native code has made so far."""
    return f.cache_info().hits - sum(signature.hits for signature in f._signatures.values())


def warm_with_paths(f: JittedFunction, *args: Any) -> None:
    for _ in range(3):
        f(*args)


def test_an_outcome_that_is_new_is_learnt() -> None:
    f = tj.jit(counted)
    for n in range(7):
        for _ in range(4):
            assert described(f(x4, tj.tensor(n))) == described(counted(x4, tj.tensor(n)))
    before = made_natively(f)
    for n in range(7):
        f(x4, tj.tensor(n))
    assert made_natively(f) == before + 7


scale, shift, limit = random(4, seed=3), {"by": 2.0}, 3.0


def test_what_only_one_way_relies_on() -> None:
    global scale, limit

    def function(x: tj.Tensor) -> tj.Tensor:
        if x.sum() > limit:
            return x * scale + shift["by"]
        return x

    f = tj.jit(function)
    small = x4 / 100
    for change in (None, "scale", "shift", "limit", "shape"):
        if change == "scale":
            scale = scale + 1
        elif change == "shift":
            shift["by"] = 5.0
        elif change == "limit":
            limit = 2.0
        elif change == "shape":
            scale = random(1, seed=4)
        for x in (x4, small) * 4:
            assert described(f(x)) == described(function(x)), change
    assert made_natively(f) > 10


def test_a_state_is_changed_on_one_way() -> None:
    def make(compiled: bool) -> tuple[Callable[[tj.Tensor], tj.Tensor], list[tj.Tensor]]:
        state = [tj.zeros(4), tj.tensor(0)]

        def step(x: tj.Tensor) -> tj.Tensor:
            state[1].add_(1)
            loss = ((x - state[0]) ** 2).sum()
            if loss > 2.0:
                state[0] += 0.125 * (x - state[0])
                return loss
            return -loss

        return (tj.jit(step) if compiled else step), state

    (f, mine), (function, theirs) = make(True), make(False)
    for number in range(60):
        x = x4 * (number % 3)
        assert described(f(x)) == described(function(x))
        assert described(mine) == described(theirs)
    assert isinstance(f, JittedFunction)
    assert made_natively(f) > 30


# Gradients ------------------------------------------------------------------------------------------

GRADIENTS: dict[str, Callable[..., Any]] = {
    "one": lambda x, y: (x * y).sum(),
    "several": lambda x, y: (tj.exp(x), {"product": x * y, "known": y.detach() * 2}),
    "a float": lambda x, y, k=1.5: x * k + y,
    "an intermediate": lambda x, y: tj.sigmoid(tj.tanh(x) * y) @ y,
    "an argument too": lambda x, y: (x, x * y),
    "a decision": lambda x, y: x * y if x.sum() > 1 else x + y,
    "twice the same": lambda x, y: (lambda z: (z, [z]))(x * y),
    "a constant": lambda x, y: x + tj.tensor([1.0, 2.0, 3.0, 4.0]) * y,
}


def outputs_of(item: Any) -> list[tj.Tensor]:
    leaves: list[Any] = []
    tj.tree.flatten(item, leaves)
    return [leaf for leaf in leaves if isinstance(leaf, tj.Tensor) and leaf.requires_grad]


@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("history", [False, True], ids=["leaves", "results"])
def test_gradients(case: str, history: bool) -> None:
    function = GRADIENTS[case]
    f = tj.jit(function)

    def run(g: Callable[..., Any], float_too: bool) -> Any:
        leaves = [random(4, seed=5).requires_grad_(), random(4, seed=6).requires_grad_()]
        args = [leaf * 1.0 for leaf in leaves] if history else leaves
        result = g(*args, 2.5) if float_too else g(*args)
        found = outputs_of(result)
        total = sum((output * output).sum() for output in found)
        assert isinstance(total, tj.Tensor)
        first = tj.autograd.grad(total, leaves, create_graph=True)
        second = tj.autograd.grad(sum(g.sum() for g in first), leaves)
        return (described(result), described(first)), described(second), [g.tolist() for g in second]

    float_too = case == "a float"
    expected = run(f, float_too)
    for _ in range(4):
        run(f, float_too)
    before = made_natively(f)
    assert run(f, float_too) == expected
    eager = run(function, float_too)
    assert eager[0] == expected[0]
    np.testing.assert_allclose(eager[2], expected[2], rtol=1e-5)
    assert made_natively(f) == before + 1, f.explain()
    with in_python():
        assert run(f, float_too) == expected


def test_a_graph_is_freed_once() -> None:
    f = tj.jit(lambda x: (x * x).sum())
    leaf = random(4).requires_grad_()
    for _ in range(4):
        f(leaf).backward()
    result = warm(f, leaf)
    result.backward(retain_graph=True)
    result.backward()
    with pytest.raises(RuntimeError, match="second time"):
        result.backward()
    assert repr(result.grad_fn) == "<JittedCallBackward>"


def test_hooks_of_gradients() -> None:
    w = random(4, seed=8).requires_grad_()
    f = tj.jit(lambda x: x * w)
    result = warm(f, x4)
    seen: list[list[float]] = []
    result.register_hook(lambda g: seen.append(g.tolist()))
    handle = w.register_hook(lambda g: g * 2)
    f(x4).sum().backward()
    result.sum().backward()
    handle.remove()
    assert seen == [[1.0] * 4]
    assert w.grad is not None
    assert w.grad.tolist() == (x4 * 4).tolist()


def test_modules_train_outside() -> None:
    def trained(compiled: bool) -> Any:
        tj.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        forward = tj.jit(model.__call__) if compiled else model
        opt = tj.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            loss = forward(random(6, 4)).square().mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
        if isinstance(forward, JittedFunction):
            assert made_natively(forward) > 10, forward.explain()
        return described([loss, *model.parameters()])

    assert trained(True) == trained(False)


# Changes of Python objects ---------------------------------------------------------------------------


class Thing:
    def __init__(self) -> None:
        self.last: Any = None
        self.inner = {"count": tj.tensor(0)}
        self.items: list[Any] = []


total: Any = None


def attribute(thing: Thing, x: tj.Tensor) -> tj.Tensor:
    thing.last = x * 2
    return x


def item(thing: Thing, x: tj.Tensor) -> None:
    thing.inner["count"] = thing.inner["count"] + 1
    thing.inner["x", 1] = x + 1


def appended(thing: Thing, x: tj.Tensor) -> int:
    thing.items.append(x + 1)
    thing.items.append(None)
    return 3


def replaced(thing: Thing, x: tj.Tensor) -> tj.Tensor:
    thing.items[:] = [x, x * 2]
    return x + 1


def through_what_changes(thing: Thing, x: tj.Tensor) -> None:
    thing.last = {"a": x}
    thing.last["b"] = x * 2
    thing.inner["deep"] = thing.last


def gone(thing: Thing, x: tj.Tensor) -> tj.Tensor:
    thing.inner["temporary"] = x
    if "old" in thing.inner:
        del thing.inner["old"]
    return x * 2


def of_a_global(thing: Thing, x: tj.Tensor) -> tj.Tensor:
    global total
    total = x if total is None else total + x
    return total * 2


def with_gradients(thing: Thing, x: tj.Tensor) -> tj.Tensor:
    thing.last = (x.requires_grad_() if x.is_leaf and not x.requires_grad else x) * 2
    return thing.last


STORES = {
    function.__name__: function
    for function in (
        attribute, item, appended, replaced, through_what_changes, gone, of_a_global,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", STORES)
def test_changes_of_objects(name: str) -> None:
    global total
    outcomes = []
    for compiled in (True, False):
        thing, seen = Thing(), []
        total = None

        f = tj.jit(STORES[name]) if compiled else STORES[name]
        for number in range(12):
            seen.append(described((f(thing, x4 * number), vars(thing), total)))
        if isinstance(f, JittedFunction):
            assert made_natively(f) > 4, f.explain()
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]


def test_variables_of_enclosing_functions_are_changed() -> None:
    def make(compiled: bool) -> Callable[[tj.Tensor], Any]:
        before: Any = tj.zeros(4)

        def step(x: tj.Tensor) -> tj.Tensor:
            nonlocal before
            before, found = x, before + x
            return found

        return tj.jit(step) if compiled else step

    f, function = make(True), make(False)
    for number in range(10):
        assert described(f(x4 * number)) == described(function(x4 * number))
    assert isinstance(f, JittedFunction)
    assert made_natively(f) > 4, f.explain()


def test_arguments_are_changed() -> None:
    def function(state: dict[str, Any], history: list[Any], x: tj.Tensor) -> tj.Tensor:
        state["x"] = state["x"] + x
        history[0] = x
        return state["x"] * 2

    f = tj.jit(function)
    outcomes = []
    for g in (f, function):
        state, history = {"x": tj.zeros(4)}, [None]
        outcomes.append([described((g(state, history, x4 * n), state, history)) for n in range(12)])
    assert outcomes[0] == outcomes[1]
    assert made_natively(f) > 4, f.explain()


def test_modules_remember() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.hidden = tj.zeros(1, 4)

        def forward(self, x: tj.Tensor) -> tj.Tensor:
            with tj.no_grad():
                self.hidden = tj.tanh(self.linear(x) + self.hidden)
            return self.hidden * 2

    outcomes = []
    for compiled in (True, False):
        tj.manual_seed(0)
        cell = Cell()
        f = tj.jit(cell.__call__) if compiled else cell
        outcomes.append([described(f(random(1, 4, seed=n))) for n in range(12)])
        if isinstance(f, JittedFunction):
            assert made_natively(f) > 4, f.explain()
    assert outcomes[0] == outcomes[1]


def test_a_container_that_is_another_one_is_left_to_python() -> None:
    thing = Thing()

    class Kept(list[Any]):
        pass

    def function(x: tj.Tensor) -> tj.Tensor:
        thing.items.append(x)
        return x + 1

    f = tj.jit(function)
    warm(f, x4)
    thing.items = Kept()
    for _ in range(5):
        f(x4)
    assert type(thing.items) is Kept
    assert len(thing.items) == 5


# Arguments --------------------------------------------------------------------------------------------


def test_a_number_is_returned_as_it_came() -> None:
    f = tj.jit(lambda x, k: (x * k, k, [k, x]))
    found = warm(f, x4, 2.5)
    assert described(found) == described((x4 * 2.5, 2.5, [2.5, x4]))


def test_static_numbers() -> None:
    def function(x: tj.Tensor, k: float, n: int, name: str = "a") -> tj.Tensor:
        return x * k + n if name == "a" else x

    f = tj.jit(function, static_argnames=("k", "n", "name"))
    for args in ((x4, 2.0, 3), (x4, -0.0, 3), (x4, 0.0, 3), (x4, 2.0, 4)):
        assert described(warm(f, *args)) == described(function(*args))
    assert described(f(x4, 2.0, 3, name="b")) == described(x4)


def test_one_tensor_as_several_arguments() -> None:
    def function(x: tj.Tensor, y: tj.Tensor, z: tj.Tensor) -> Any:
        return x - y * z, x is y, x is z

    f = tj.jit(function)
    for args in ((x4, x4, y4), (x4, y4, x4), (y4, x4, x4), (x4, x4, x4), (x4, y4, x4 + 1)):
        assert described(warm(f, *args)) == described(
            (args[0] - args[1] * args[2], args[0] is args[1], args[0] is args[2])
        )


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Pair:
    first: Any
    second: Any


def test_named_tuples_and_dataclasses() -> None:
    def function(point: Any, pair: Any) -> Any:
        total = point.x * pair.first + pair.second["k"]
        return Point(total, pair.second["k"] * 2), Pair(total - 1, [Point(total, point.y)])

    f = tj.jit(function)
    args = Point(x4, 2), Pair(y4, {"k": x4 + 1})
    found = warm(f, *args)
    assert described(found) == described(function(*args))
    assert (type(found[0]), type(found[1]), type(found[1].second[0])) == (Point, Pair, Point)
    before = made_natively(f)
    args[1].first = x4 * 3
    assert described(f(*args)) == described(function(*args))
    assert made_natively(f) == before + 1
    for other in (Point(x4, 3), (x4, 2), Point(y4, x4)):
        if not isinstance(other, Point):
            with pytest.raises(AttributeError):
                f(other, args[1])
            continue
        assert described(f(other, args[1])) == described(function(other, args[1]))


# Nothing leaks ------------------------------------------------------------------------------------------

LEAKS: dict[str, Callable[..., Any]] = {
    "a decision": nested,
    "numbers": lambda x, y, k=2.0: of_numbers(x, k, 1.5),
    "gradients": lambda x, y: ((x * leaf).sum(), tj.exp(y) * leaf),
    "an attribute": lambda x, y: attribute(kept, x),
    "a named tuple": lambda x, y: Point(x + 1, Pair(y * 2, None)),
    "a variable": lambda x, y: of_a_global(kept, x - x),
}  # fmt: skip
leaf, kept = random(4, seed=11).requires_grad_(), Thing()


@pytest.mark.parametrize("case", LEAKS)
def test_reference_counts_balance(case: str) -> None:
    f = tj.jit(LEAKS[case])
    x, y = random(4), random(4, seed=1)
    warm(f, x, y)
    watched = [x, y, x._value, y._value, leaf, leaf._value, None, True, False, x._value.dtype]
    ballast: list[Any] = []

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(item) for item in watched]

    for _ in range(3):
        f(x, y)
    compiler.wait()
    before = counts()
    for _ in range(500):
        f(x, y)
    after = counts()
    assert all(abs(a - b) <= 20 for a, b in zip(after, before, strict=True)), (before, after)
    assert not ballast


def test_a_million_decisions_keep_no_memory(request: pytest.FixtureRequest) -> None:
    import tracemalloc

    f, g = tj.jit(nested), tj.jit(lambda x: (x * leaf).sum())
    for args in ((x4, y4), (-x4, y4)):
        warm_with_paths(f, *args)
    warm(g, x4)
    count = 300_000 if request.config.getoption("--all") else 3_000
    negative = -x4
    compiler.wait()
    tracemalloc.start()
    try:
        for _ in range(100):
            f(x4, y4), f(negative, y4), g(x4)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count):
            f(x4, y4), f(negative, y4), g(x4)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


def test_a_miss_in_the_midst_keeps_nothing() -> None:
    f = tj.jit(nested)
    for args in ((x4, y4), (-x4, y4)):
        warm_with_paths(f, *args)
    array = np.full(4, np.nan, np.float32)  # decides as no call before
    odd = tj.tensor(array)
    before = sys.getrefcount(odd._value)
    for _ in range(200):
        f._signatures[next(iter(f._signatures))].misses = 0
        f(odd, y4)
    assert abs(sys.getrefcount(odd._value) - before) <= 2
