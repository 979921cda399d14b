"""Small programs of every kind, each run eagerly and under ``jit``: the same bits, the same state left behind.

Each maker builds its own world and returns a function, the arguments of a few calls (some repeat), and what to look
at besides the results.  ``misses`` bounds how often something is compiled; ``lazy`` says that Python runs each time.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim


def random(*shape, seed=0):
    return tj.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def described(item: Any) -> Any:
    """Nested results with tensors as bits."""
    if isinstance(item, tj.Tensor):
        return str(item.dtype), item.shape, item.requires_grad, np.asarray(item.detach()).tobytes()
    if isinstance(item, np.ndarray):
        return str(item.dtype), item.shape, item.tobytes()
    if isinstance(item, dict):
        return type(item).__name__, {key: described(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return type(item).__name__, [described(child) for child in item]
    if isinstance(item, float):
        return "float", repr(item)
    return type(item).__name__, str(item) if isinstance(item, Enum) else item


@dataclass
class Program:
    make: Callable[[], tuple[Callable[..., Any], list[tuple[Any, ...]], Callable[[], Any]]]
    misses: int = 1
    lazy: bool = False


PROGRAMS: dict[str, Program] = {}


def program(misses: int = 1, *, lazy: bool = False) -> Callable[[Callable[[], Any]], Any]:
    def add(make: Callable[[], Any]) -> Any:
        PROGRAMS[make.__name__] = Program(make, misses, lazy)
        return make

    return add


def nothing() -> None:
    return None


XS = [(random(4, seed=n),) for n in range(3)]
TWICE = [*XS, *XS]
Pair = namedtuple("Pair", "left right")


class Mode(Enum):
    SUM = 1
    MEAN = 2


@dataclass
class State:
    h: Any
    n: int = 0
    log: list[Any] = field(default_factory=list)


# Arguments and results -------------------------------------------------------------------------------


@program()
def positional_and_keyword():
    return lambda x, *, scale=2.0: x * scale, TWICE, nothing


@program()
def star_arguments():
    return lambda *xs: functools.reduce(lambda a, b: a + b, xs), [(random(3), random(3, seed=1))] * 2, nothing


@program(2)
def numbers_and_arrays_are_no_tensors():
    def kind(item):
        match item:
            case tj.Tensor():
                return 1
            case float() | int():
                return 2
            case np.ndarray():
                return 3

    def f(x, *others):
        numbers = (*others, x.sum().item(), float(x[0]), int(x[1]), len(x))
        kinds = [kind(item) for item in (x, *numbers)]
        wrapped = [item if isinstance(item, tj.Tensor) else tj.tensor(item) for item in numbers]
        return kinds, [item.dtype.name for item in wrapped], wrapped

    calls = [(random(3, seed=n), 0.5 * n, np.arange(3.0) * n, n) for n in (1, 1)]
    return f, [*calls, (random(3), random(3)), *calls], nothing


@program(2)
def an_enum_argument():
    def f(x, mode):
        return x.sum() if mode is Mode.SUM else x.mean()

    return f, [(random(4), Mode.SUM), (random(4), Mode.MEAN), (random(4), Mode.SUM)], nothing


@program(3)
def a_slice_argument():
    return (
        lambda x, s: x[s] * 2,
        [(random(6), slice(0, 3)), (random(6), slice(1, 5, 2)), (random(6), slice(None))] * 2,
        nothing,
    )


@program(2)
def a_dtype_argument():
    return lambda x, d: x.astype(d) + 1, [(random(3), tj.float64), (random(3), tj.float32)] * 2, nothing


@program(2)
def a_string_argument():
    return lambda x, act: getattr(tj, act)(x), [(random(3), "tanh"), (random(3), "exp")] * 2, nothing


@program()
def nested_containers():
    def f(tree):
        return {"a": [tree["a"][0] + 1, (tree["a"][1],)], "n": None, "s": "done"}

    return f, [({"a": [random(2, seed=n), random(2)]},) for n in range(3)], nothing


@program()
def namedtuple_in_and_out():
    return lambda p: Pair(p.right * 2, p.left), [(Pair(random(2, seed=n), random(3)),) for n in range(3)], nothing


@program()
def an_ordered_dict():
    return (
        lambda d: [d[k] * 2 for k in d],
        [(OrderedDict(b=random(2, seed=n), a=random(2)),) for n in range(3)],
        nothing,
    )


@program()
def an_argument_returned():
    return lambda x, y: (x, y + 1, x), [(random(2, seed=n), random(2)) for n in range(3)], nothing


@program()
def unused_argument():
    return lambda x, y: x + 1, [(random(2, seed=n), random(5)) for n in range(3)], nothing


@program()
def constants_out():
    return lambda x: (1, "a", None, 2.5, (True, x.shape)), TWICE, nothing


@program()
def two_outputs_from_one_intermediate():
    def f(x):
        y = tj.exp(x)
        return y + 1, y * 2, y

    return f, TWICE, nothing


@program()
def the_same_tensor_returned_twice():
    def f(x):
        y = x * 2
        return y, y

    return f, TWICE, nothing


@program(2)
def default_arguments():
    default = random(4, seed=9)

    def f(x, w=default, n=2):
        return x * w * n

    return f, [(random(4),), (random(4), random(4, seed=1)), (random(4, seed=2),)], nothing


@program()
def a_mutated_dict_argument():
    def f(d):
        d["y"] = d["x"] * 2
        return d["y"] + 1

    dicts = [{"x": random(3, seed=n)} for n in range(3)]
    return f, [(d,) for d in dicts], lambda: dicts


@program()
def a_mutated_list_argument():
    def f(items):
        items.append(items[0] + items[1])
        return items[-1]

    lists = [[random(3, seed=n), random(3)] for n in range(3)]
    return f, [(items,) for items in lists], lambda: lists


@program()
def a_dataclass_argument_with_its_fields_set():
    def f(state):
        state.h = state.h * 2
        return state.h.sum()

    states = [State(random(3, seed=n)) for n in range(3)]
    return f, [(s,) for s in states], lambda: [s.h for s in states]


@program(2)
def numpy_arguments():
    return lambda x: tj.exp(x), [(np.ones(3, np.float32),), (np.zeros(3),), (np.full(3, 2, np.float32),)], nothing


@program()
def lambdas_and_partials():
    w = random(4, seed=7)
    return functools.partial(lambda a, b, x: a * x + b, w, 2.0), TWICE, nothing


@program(2)
def a_mutable_default_argument():
    def f(x, cache={}):  # noqa: B006
        cache["last"] = x * 2
        return x

    return f, TWICE, lambda: f.__defaults__[0]


@program(2)
def a_number_of_the_instance_of_a_method():
    class Net:
        factor = 1.0

        def forward(self, x):
            return x * self.factor

        def run(self, x, factor):
            self.factor = factor
            return self.forward(x)

    net = Net()
    return net.run, [(random(4), 2.0)] * 3, lambda: net.factor


@program()
def a_callable_object():
    class Scale:
        def __init__(self):
            self.factor = 3.0

        def __call__(self, x):
            return x * self.factor

    return Scale(), TWICE, nothing


@program()
def a_bound_method():
    class Net:
        def __init__(self):
            self.w = random(4, seed=3)

        def forward(self, x):
            return x * self.w

    return Net().forward, TWICE, nothing


@program()
def nested_jit():
    inner = tj.jit(lambda x: tj.tanh(x) + 1)
    return lambda x: inner(x) * inner(x * 2), TWICE, nothing


@program()
def recursion():
    def fib(x, n):
        return x if n < 2 else fib(x, n - 1) + fib(x * 0.5, n - 2)

    return lambda x: fib(x, 6), TWICE, nothing


@program()
def generators_inside():
    def parts(x):
        for i in range(3):
            yield x * i

    return lambda x: sum(parts(x)), TWICE, nothing


@program()
def closures_made_inside():
    def f(x):
        scale = x.sum()

        def inner(y):
            return y * scale

        return [g(x) for g in (inner, lambda y: inner(y) + 1)]

    return f, TWICE, nothing


@program()
def try_and_finally():
    def f(x):
        try:
            y = x * 2
            raise KeyError("inside")
        except KeyError:
            y = y + 1
        finally:
            y = y * 3
        return y

    return f, TWICE, nothing


@program()
def with_statements():
    def f(x):
        with contextlib.suppress(ValueError), tj.no_grad():
            return x * 2

    return f, TWICE, nothing


@program()
def match_statements():
    def f(x, how):
        match how:
            case {"scale": s}:
                return x * s
            case [a, b]:
                return x + a - b
            case _:
                return x

    return f, [(random(3), {"scale": 2.0}), (random(3), {"scale": 3.0})], nothing


@program()
def comprehensions_and_unpacking():
    def f(x):
        a, *rest = [x * i for i in range(4)]
        return sum(rest, a), {k: v + 1 for k, v in zip("ab", rest, strict=False)}

    return f, TWICE, nothing


@program()
def walrus_and_conditional_expressions():
    return lambda x: (y := x * 2) + (y if x.shape[0] > 2 else 0), TWICE, nothing


# Captured state --------------------------------------------------------------------------------------


@program()
def a_captured_tensor_updated_in_place():
    total = tj.zeros(4)

    def f(x):
        total.add_(x)
        return total * 2

    return f, TWICE, lambda: total


@program()
def a_nonlocal_tensor_rebound():
    h = tj.zeros(4)

    def f(x):
        nonlocal h
        h = tj.tanh(h + x)
        return h

    return f, TWICE, lambda: h


@program()
def an_attribute_rebound():
    state = State(tj.zeros(4))

    def f(x):
        state.h = state.h * 0.5 + x
        return state.h.sum()

    return f, TWICE, lambda: state.h


@program(2)
def an_attribute_that_is_none_at_first():
    class Cache:
        h = None

    cache = Cache()

    def f(x):
        if cache.h is None:
            cache.h = tj.zeros(4)
        cache.h = cache.h + x
        return cache.h

    return f, TWICE, lambda: cache.h


@program(lazy=True, misses=9)
def a_counter():
    state = State(None)

    def f(x):
        state.n += 1
        return x * state.n

    return f, TWICE * 3, lambda: state.n


@program()
def a_list_that_is_appended_to():
    log = []

    def f(x):
        log.append(x.sum())
        return x + 1

    return f, TWICE, lambda: log


@program()
def numbers_appended_to_a_list():
    log = []

    def f(x):
        log.append(x.sum().item())
        return x

    return f, TWICE, lambda: log


@program(lazy=True, misses=9)
def a_list_that_is_read_and_appended_to():
    log = [tj.zeros(())]

    def f(x):
        log.append(log[-1] + x.sum())
        return len(log), log[-1]

    return f, TWICE * 3, lambda: log


@program()
def a_dict_of_tensors_updated():
    table = {"a": tj.zeros(4), "b": tj.ones(4)}

    def f(x):
        table["a"] = table["a"] + x
        table["b"] *= 2
        return table["a"] * table["b"]

    return f, TWICE, lambda: table


@program(2)
def a_dict_that_gets_a_key():
    table = {}

    def f(x):
        table["last"] = x * 2
        return x

    return f, TWICE, lambda: table


@program(lazy=True)
def a_set_that_is_added_to():
    seen = set()

    def f(x):
        seen.add(len(seen))
        return x * 2

    return f, TWICE, lambda: seen


@program(lazy=True)
def printing():
    out = io.StringIO()

    def f(x):
        print("sum", x.sum(), file=out)
        return x * 2

    return f, TWICE, out.getvalue


@program(lazy=True)
def formatting():
    return lambda x: f"{x.sum():.3f} and {x}", TWICE, nothing


@program(lazy=True)
def random_of_numpy():
    generator = np.random.default_rng(3)
    return lambda x: x * float(generator.normal()), TWICE, nothing


@program(lazy=True)
def random_of_python():
    import random as python_random

    python_random.seed(0)
    return lambda x: x * python_random.random(), TWICE, nothing


@program()
def random_of_tracejit():
    generator = tj.random.Generator(5)
    return lambda x: x + generator.normal((4,)), TWICE, lambda: generator.position


@program(lazy=True)
def a_captured_iterator():
    numbers = iter(range(100))
    return lambda x: x * next(numbers), TWICE, nothing


@program()
def an_aliased_cell():
    w = tj.zeros(4)
    alias = w

    def f(x):
        w.add_(x)
        return alias + 1

    return f, TWICE, lambda: (w, alias)


@program()
def a_swap_of_two_attributes():
    state = {"a": random(4), "b": random(4, seed=1)}

    def f(x):
        state["a"], state["b"] = state["b"], state["a"] + x
        return state["a"]

    return f, TWICE, lambda: state


# Values that Python asks for -------------------------------------------------------------------------


@program(2)
def an_if():
    return lambda x: x * 2 if x.sum() > 0 else x - 1, TWICE, nothing


@program(8)
def three_branches():
    def f(x):
        y = x
        if x[0] > 0:
            y = y + 1
        if x[1] > 0:
            y = y * 2
        if x[2] > 0:
            y = tj.exp(y)
        return y

    return f, [(random(4, seed=n),) for n in range(12)] * 2, nothing


@program(3)
def elif_chain():
    def f(x):
        s = x.sum()
        if s > 1:
            return x
        if s < -1:
            return -x
        return x * 0

    return f, [(random(4, seed=n),) for n in range(8)], nothing


@program(5)
def and_or_not():
    def f(x):
        if (x[0] > 0 and x[1] > 0) or not x[2] > 0:
            return x + 1
        return x - 1

    return f, [(random(4, seed=n),) for n in range(8)], nothing


@program(2)
def an_early_return():
    def f(x):
        if x.max() > 1:
            return "large"
        return x * 2

    return f, [(random(4, seed=n),) for n in range(6)], nothing


@program(1)
def an_assert_that_holds():
    def f(x):
        assert x.sum() < 100, "too large"
        return x * 2

    return f, TWICE, nothing


@program(2)
def branches_of_other_shapes():
    return lambda x: x[:2] if x[0] > 0 else x.reshape(2, 2), [(random(4, seed=n),) for n in range(6)], nothing


@program(4)
def an_int_decides():
    return lambda x: x * sum(range(int((x > 0).sum()))), [(random(3, seed=n),) for n in range(6)], nothing


@program(4)
def masks():
    return lambda x: x[x > 0] * 2, [(random(4, seed=n),) for n in range(8)], nothing


@program(5)
def nonzero_and_unique():
    def f(x):
        whole = tj.round(x)
        return tj.nonzero(whole)[0], tj.unique_values(whole)

    return f, [(random(4, seed=n),) for n in range(5)], nothing


@program(9, lazy=True)
def a_float_that_is_always_another():
    return lambda x: x * math.sin(float(x.sum())), [(random(4, seed=n),) for n in range(12)], nothing


@program(2)
def tolist_of_bools():
    return lambda x: [v for v, keep in zip("abcd", (x > 5).tolist(), strict=True) if not keep], TWICE, nothing


@program(2)
def numpy_in_the_middle():
    return lambda x: tj.tensor(np.asarray(x > 5).astype(np.float32)) + x, TWICE, nothing


@program()
def a_loop_over_rows():
    def f(x):
        total = 0
        for row in x:
            total = total + row * row
        return total

    return f, [(random(3, 4, seed=n),) for n in range(3)], nothing


@program()
def a_loop_with_enumerate_and_zip():
    def f(x, y):
        result = x
        for i, (a, b) in enumerate(zip(x, y, strict=True)):
            result = result + a * b * i
        return result

    return f, [(random(3, seed=n), random(3)) for n in range(3)], nothing


@program(2)
def newton():
    def f(x):
        error = abs(x)
        n = 0
        while error > 1e-5 and n < 50:
            new = x - (x * x - 2) / (2 * x)
            error = abs(new - x)
            x = new
            n += 1
        return x, n

    return f, [(tj.tensor(v),) for v in (1.0, 3.0, 100.0, 1e6, 0.3, 7.0)], nothing


@program(2)
def a_while_true_with_a_break():
    def f(x):
        while True:
            step = (x * x - 2) / (2 * x)
            if abs(step) < 1e-6:
                break
            x = x - step
        return x

    return f, [(tj.tensor(v),) for v in (1.0, 3.0, 100.0, 1e6, 0.3, 7.0)], nothing


@program(2)
def a_while_with_an_if_inside():
    def f(x):
        n = 0
        while x > 1:
            if x - 2 * (x // 2) > 0.5:
                x = 3 * x + 1
            else:
                x = x / 2
            n += 1
        return n

    return f, [(tj.tensor(float(v)),) for v in (6, 7, 9, 27, 12)], nothing


@program(2)
def a_while_that_updates_in_place():
    def f(x):
        y = x * 1
        while y.sum() < 100:
            y *= 2
        return y

    return f, [(abs(random(4, seed=n)) + 0.1,) for n in range(5)], nothing


# Gradients -------------------------------------------------------------------------------------------


@program(9)
def loops_in_a_loop_that_take_a_value_from_around():
    def f(x):
        around, total, result = x + 1, x.sum(), x
        for _ in range(2):
            while abs(total) > 0.1:
                total = tj.tanh(total) * 0.5
                result = around
            total = total + 3
        return result, total

    return f, TWICE, nothing


@program(3)
def a_dict_entry_that_is_rebound_before_it_is_asked_for():
    table = {"a": tj.tensor(0.5)}

    def f(x):
        y = x * table["a"]
        table["a"] = table["a"] * 0.5 + y.sum()
        return y if y.sum() > 0 else -y

    return f, TWICE, lambda: table["a"]


@program(2)
def a_swap_of_entries_that_are_asked_for():
    table = {"a": tj.tensor(1.0), "b": tj.tensor(-1.0)}

    def f(x):
        table["a"], table["b"] = table["b"], table["a"]
        return x if table["a"] > 0 else -x

    return f, TWICE, lambda: table


@program(9, lazy=True)
def a_learning_rate_that_the_step_changes():
    tj.manual_seed(0)
    w = nn.Parameter(tj.ones(4))
    opt = optim.SGD([w], lr=1.0, momentum=0.5)

    def f(x):
        (w * x).sum().backward()
        opt.param_groups[0]["lr"] *= 0.5
        opt.step()
        opt.zero_grad()
        return w * 1.0

    return f, XS * 4, lambda: (w, opt.param_groups[0]["lr"])


@program()
def a_learning_rate_that_is_an_argument():
    w = nn.Parameter(tj.ones(4))
    opt = optim.SGD([w], lr=1.0)

    def f(x, lr):
        opt.param_groups[0]["lr"] = lr
        opt.zero_grad()
        (w * x).sum().backward()
        opt.step()
        return w.detach() * 1

    return f, [(random(4), 0.1), (random(4), 0.2), (random(4), 0.3)], lambda: (w, opt.param_groups[0]["lr"])


@program(8)
def a_loop_that_gives_an_argument_another_name():
    def f(x):
        total, result = x.sum(), x * 2
        while abs(total) > 0.1:
            total = tj.tanh(total) * 0.5
            result = x
        result += 1
        return result, result is x

    calls = [(random(4, seed=n),) for n in (0, 1, 0, 1)]
    return f, calls, lambda: calls


@program(2)
def a_step_with_backward():
    w = random(4, seed=5).requires_grad_()

    def f(x):
        loss = ((w * x - 1) ** 2).sum()
        loss.backward()
        with tj.no_grad():
            w.sub_(0.1 * w.grad)
        return loss.detach()

    return f, TWICE, lambda: (w, w.grad)


@program(2)
def gradients_of_branches():
    w = random(4, seed=5).requires_grad_()

    def f(x):
        y = (w * x).sum()
        loss = y * y if y > 0 else -y
        (g,) = tj.autograd.grad(loss, w)
        return loss.detach(), g

    return f, [(random(4, seed=n),) for n in range(6)], lambda: w


@program()
def gradients_of_gradients():
    def f(x):
        x = x.detach().requires_grad_()
        (g,) = tj.autograd.grad((x**3).sum(), x, create_graph=True)
        (h,) = tj.autograd.grad(g.sum(), x)
        return g.detach(), h

    return f, TWICE, nothing


@program(1)
def a_whole_training_step():
    tj.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    opt = optim.Adam(model.parameters(), lr=0.01)

    def f(x, y):
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.detach()

    return f, [(random(6, 4, seed=n), tj.tensor([0, 1, 2, 0, 1, 2])) for n in range(4)], lambda: model.state_dict()


@program(3)
def switching_train_and_eval():
    tj.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    def f(x, training):
        model.train(training)
        return model(x).detach()

    return f, [(random(6, 4, seed=n), n % 2 == 0) for n in range(6)], lambda: model.state_dict()


@program(1)
def gradient_accumulation_with_clipping():
    w = random(4, seed=5).requires_grad_()

    def f(a, b):
        w.grad = None
        for x in (a, b):
            ((w * x).sum() ** 2).backward()
        nn.utils.clip_grad_norm_([w], 1.0)
        with tj.no_grad():
            w.sub_(w.grad)
        return w.grad.sum()

    return f, [(random(4, seed=n), random(4, seed=n + 9)) for n in range(4)], lambda: w


# Aliasing, slices, shapes ----------------------------------------------------------------------------


@program()
def setitem_then_read():
    def f(x):
        y = x * 1
        y[1] = 5.0
        y[2:] += 1
        return y, x

    return f, TWICE, nothing


@program()
def an_input_that_is_written():
    def f(x):
        x[0] = 7.0
        return x.sum()

    inputs = [(random(4, seed=n),) for n in range(3)]
    return f, inputs, lambda: inputs


@program(3)
def other_shapes():
    return lambda x: (x * x.shape[0]).sum(0), [(random(n, 3),) for n in (2, 5, 1, 2)], nothing


@program(2)
def empty_batches():
    return lambda x: (x * 2).sum(), [(random(0, 3),), (random(2, 3),), (random(0, 3),)], nothing


@program()
def shape_arithmetic():
    return lambda x: x.reshape(x.shape[0] // 2, -1) / len(x), TWICE, nothing


@program(1)
def default_dict_state():
    table = defaultdict(lambda: tj.zeros(4))
    table["a"] = tj.ones(4)

    def f(x):
        table["a"] = table["a"] + x
        return table["a"]

    return f, TWICE, lambda: dict(table)


def run(function: Callable[..., Any], calls: list[Any], look: Callable[[], Any]) -> list[Any]:
    found = []
    for arguments in calls:
        found.append(described(function(*arguments)))
        found.append(described(look()))
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_the_same_under_jit(name: str) -> None:
    case = PROGRAMS[name]
    expected = run(*case.make())
    function, calls, look = case.make()
    jitted = tj.jit(function)
    assert run(jitted, calls, look) == expected
    info = jitted.cache_info()
    assert info.misses <= case.misses, jitted.explain()
    assert (info.lazy > 0) == case.lazy, jitted.explain()
