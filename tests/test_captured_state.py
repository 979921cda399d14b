"""What a jitted function reaches by itself is never stale: changed between calls, in any way Python has, it is noticed.

Each maker returns a function and a change of something that it reads.  What it writes itself is in the second table.
"""

from __future__ import annotations

import array
import collections
import contextlib
import contextvars
import functools
import itertools
import logging
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.test_programs import described, random
from tracejit import native_calls, nn, optim

X = random(4)
CHANGES: dict[str, Callable[[], tuple[Callable[..., Any], Callable[[], Any]]]] = {}
WRITES: dict[str, Callable[[], tuple[Callable[..., Any], Callable[[], Any]]]] = {}


def change(make: Any) -> Any:
    CHANGES[make.__name__] = make
    return make


def write(make: Any) -> Any:
    WRITES[make.__name__] = make
    return make


class Node:
    pass


def setter(item: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(item, name, value)


# Containers and objects ------------------------------------------------------------------------------


@change
def a_number_deep_in_dicts():
    config = {"a": {"b": {"c": {"d": {"e": {"f": 2}}}}}}
    return lambda x: x * config["a"]["b"]["c"]["d"]["e"]["f"], lambda: config["a"]["b"]["c"]["d"]["e"].update(f=5)


@change
def a_number_deep_in_objects():
    root = leaf = Node()
    for _ in range(6):
        leaf.next = Node()
        leaf = leaf.next
    leaf.value = 2

    def f(x):
        node = root
        while hasattr(node, "next"):
            node = node.next
        return x * node.value

    return f, setter(leaf, "value", 7)


@change
def a_long_list():
    numbers = list(range(1000))
    return lambda x: x * numbers[700], lambda: numbers.__setitem__(700, 1)


@change
def a_large_dict_of_mixed_values():
    table = {i: (i, str(i)) for i in range(2000)}
    return lambda x: x * table[700][0], lambda: table.update({700: (1, "1")})


@change
def a_large_array():
    values = np.ones(100_000, np.float32)
    return lambda x: x + tj.asarray(values[:4]), lambda: values.__setitem__(0, 9)


@change
def a_deque():
    queue = collections.deque([1, 2, 3])
    return lambda x: x + queue[0], lambda: queue.rotate()


@change
def bytes_that_change():
    counts, table = array.array("i", [1, 2]), bytearray(b"ab")
    return lambda x: x * counts[0] + table[0], lambda: table.__setitem__(0, 7)


@change
def slots():
    class Slotted:
        __slots__ = ("factor",)

    item = Slotted()
    item.factor = 3
    return lambda x: x * item.factor, setter(item, "factor", 4)


@change
def a_tensor_in_a_slot():
    class Slotted:
        __slots__ = ("w",)

    item = Slotted()
    item.w = random(4, seed=1)
    return lambda x: x * item.w, setter(item, "w", random(4, seed=2))


@change
def a_descriptor():
    class Stored:
        def __get__(self, owner, kind=None):
            return self.value

    class Holder:
        field = Stored()

    Holder.__dict__["field"].value = 3
    item = Holder()
    return lambda x: x * item.field, setter(Holder.__dict__["field"], "value", 4)


@change
def what_getattr_finds():
    class Proxy:
        def __init__(self):
            self.held = {"k": 2}

        def __getattr__(self, name):
            return self.__dict__["held"][name] if not name.startswith("_") else object.__getattribute__(self, name)

    item = Proxy()
    return lambda x: x * item.k, lambda: item.held.update(k=4)


@change
def what_a_bound_method_is_bound_to():
    class Net:
        factor = 2

        def run(self, x):
            return x * self.factor

    net = Net()
    run = net.run
    return lambda x: run(x), setter(net, "factor", 3)


@change
def what_a_partial_was_given():
    settings = {"k": 2}
    scale = functools.partial(lambda table, x: x * table["k"], settings)
    return lambda x: scale(x), lambda: settings.update(k=3)


@change
def a_global_that_a_function_in_a_table_reads():
    factor = 2

    def again():
        nonlocal factor
        factor = 5

    table = {"scale": lambda x: x * factor}
    return lambda x: table["scale"](x), again


@change
def what_collections_hold():
    user, chained = collections.UserDict(k=2), collections.ChainMap({}, {"k": 3})
    return lambda x: x * user["k"] * chained["k"], lambda: chained.maps[1].update(k=4)


@change
def a_namespace_and_a_view_of_a_dict():
    space, table = types.SimpleNamespace(k=2), {"k": 3}
    view = types.MappingProxyType(table)
    return lambda x: x * space.k * view["k"], lambda: table.update(k=4)


@change
def attributes_of_a_list_and_a_dict():
    class Numbers(list):
        pass

    class Table(dict):
        def __getattr__(self, name):
            return self[name] if name in self else super().__getattribute__(name)

    numbers, table = Numbers([2]), Table(sub=Table(k=3))
    numbers.k = 3
    return lambda x: x * numbers[0] * numbers.k * table.sub.k, setter(numbers, "k", 5)


@change
def an_object_that_is_a_key():
    key = Node()
    key.k = 2
    table = {key: 1}
    return lambda x: x * sum(key.k for key in table), setter(key, "k", 9)


@change
def objects_in_sets_and_keys():
    first, second = Node(), Node()
    first.k, second.k = 1, 2
    keys, items = {first: 1}, frozenset([second])
    return lambda x: x * sum(key.k for key in keys) * sum(item.k for item in items), setter(second, "k", 9)


@change
def what_a_weak_reference_refers_to():
    item = Node()
    item.k = 2
    reference, table = weakref.ref(item), weakref.WeakValueDictionary(item=item)
    item.itself = item  # kept alive by the closure of the change
    return lambda x: x * reference().k + table["item"].k, setter(item, "k", 9)


@change
def arguments_of_an_exception():
    error = ValueError(2)
    return lambda x: x * error.args[0], setter(error, "args", (5,))


@change
def an_event():
    event = threading.Event()
    return lambda x: x * (2 if event.is_set() else 3), event.set


class Layer(nn.Module):
    factor = 2

    def __init__(self):
        super().__init__()
        self.table, self.numbers, self.held = {"a": {"k": 2}}, np.ones(4, np.float32), Node()
        self.held.k = 3

    def scaled(self, x):
        return x * self.factor

    def forward(self, x):
        return self.scaled(x) * self.table["a"]["k"] * self.numbers + self.held.k


@change
def a_dict_of_a_module():
    layer = Layer()
    return layer, lambda: layer.table["a"].update(k=5)


@change
def an_object_of_a_module_within_one():
    model = nn.Sequential(Layer())
    return lambda x: model(x), lambda: setattr(model[0].held, "k", 5)


@change
def an_array_of_a_module():
    layer = Layer()
    return lambda x: layer(x), lambda: layer.numbers.__setitem__(0, 5)


@change
def a_class_attribute_of_a_module():
    class Derived(Layer):
        factor = 2

    layer = Derived()
    return lambda x: layer(x), setter(Derived, "factor", 3)


@change
def a_method_of_a_module():
    class Derived(Layer):
        pass

    layer = Derived()
    return lambda x: layer(x), setter(Derived, "scaled", lambda self, x: x * 7)


# Classes, functions and modules ----------------------------------------------------------------------


@change
def an_inherited_attribute_of_the_class():
    class Base:
        k = 2

    class Derived(Base):
        pass

    item = Derived()
    return lambda x: x * item.k, setter(Base, "k", 4)


@change
def a_list_of_the_class():
    class Holder:
        numbers = [2, 3]  # noqa: RUF012

    item = Holder()
    return lambda x: x * item.numbers[0], lambda: Holder.numbers.__setitem__(0, 7)


@change
def a_method_that_is_replaced():
    class Net:
        def g(self, x):
            return x * 2

    net = Net()
    return lambda x: net.g(x), setter(Net, "g", lambda self, x: x * 3)


@change
def a_method_of_the_instance():
    class Net:
        def g(self, x):
            return x * 2

    net = Net()
    return lambda x: net.g(x), setter(net, "g", lambda x: x * 3)


@change
def defaults_of_a_function():
    def scale(x, k=2):
        return x * k

    return lambda x: scale(x), setter(scale, "__defaults__", (7,))


@change
def its_own_defaults():
    def f(x, k=2):
        return x * k

    return f, setter(f, "__defaults__", (7,))


@change
def a_tensor_that_becomes_a_number():
    w = random(4, seed=5)
    w.requires_grad_()

    def become():
        nonlocal w
        w = 2.5

    return lambda x: x * w, become


@change
def a_tensor_of_an_object_that_becomes_none():
    node = Node()
    node.w = random(4, seed=5)
    return lambda x: x if node.w is None else x * node.w, setter(node, "w", None)


@change
def a_variable_that_holds_a_parameter_of_a_module():
    layer = nn.Linear(4, 4)
    weight = layer.weight

    def replace():
        nonlocal weight
        weight = nn.Parameter(tj.zeros(4, 4))

    return lambda x: layer(x) + weight.sum(), replace


@change
def a_variable_that_holds_a_gradient():
    w = random(4, seed=5).requires_grad_()
    w.grad = gradient = random(4, seed=6)

    def replace():
        nonlocal gradient
        gradient = gradient * 2

    return lambda x: x * gradient + w.grad, replace


@change
def a_global_that_is_missing():
    space = {"random": random}
    exec("def f(x):\n    try:\n        return x * missing\n    except NameError:\n        return x", space)
    return space["f"], lambda: space.update(missing=3)


@change
def a_builtin_that_a_global_hides():
    space = {}
    exec("def f(x):\n    return x * len('ab')", space)
    return space["f"], lambda: space.update(len=lambda text: 7)


@change
def a_variable_that_has_no_value_yet():
    def f(x):
        try:
            return x * value
        except NameError:
            return x

    def give():
        nonlocal value
        value = 3

    value = 1
    del value
    return f, give


@change
def code_that_is_replaced():
    def scale(x):
        return x * 2

    return lambda x: scale(x), setter(scale, "__code__", (lambda x: x * 3).__code__)


@change
def an_attribute_of_a_function():
    def scale(x):
        return x * scale.k

    scale.k = 2
    return lambda x: scale(x), setter(scale, "k", 5)


@change
def an_attribute_of_a_jitted_function():
    @tj.jit
    def scale(x):
        return x * scale.k

    scale.k = 2
    return lambda x: scale(x), setter(scale, "k", 5)


def a_module(**attributes: Any) -> Any:
    module = types.ModuleType("captured_settings")
    vars(module).update(attributes)
    return module


@change
def an_attribute_of_a_module():
    settings = a_module(k=2)
    return lambda x: x * settings.k, setter(settings, "k", 5)


@change
def a_list_of_a_module():
    settings = a_module(sizes=[2])
    return lambda x: x * settings.sizes[0], lambda: settings.sizes.__setitem__(0, 5)


@change
def a_global_of_a_function_of_a_module():
    module = a_module()
    exec("k = 2\ndef scale(x): return x * k", vars(module))
    return lambda x: module.scale(x), setter(module, "k", 5)


@change
def a_module_that_is_imported_inside():
    module = sys.modules["captured_settings"] = a_module(k=2)

    def f(x):
        import captured_settings

        return x * captured_settings.k

    return f, setter(module, "k", 5)


@change
def two_closures_of_one_name():
    def scaled_by(k):
        def again(value):
            nonlocal k
            k = value

        return (lambda x: x * k), again

    first, _ = scaled_by(2)
    second, again = scaled_by(2)
    return lambda x: (first(x), second(x)), lambda: again(3)


# Around the program ----------------------------------------------------------------------------------


@change
def an_environment_variable():
    os.environ["CAPTURED_FACTOR"] = "2"
    return lambda x: x * int(os.environ["CAPTURED_FACTOR"]), lambda: os.environ.update(CAPTURED_FACTOR="3")


@change
def a_context_variable():
    variable = contextvars.ContextVar("captured", default=2)
    return lambda x: x * variable.get(), lambda: variable.set(5)


@change
def a_value_of_the_thread():
    held = threading.local()
    held.k = 2
    return lambda x: x * held.k, setter(held, "k", 5)


@change
def whether_something_is_logged():
    logger = logging.getLogger("captured")
    logger.propagate, logger.handlers = False, [logging.NullHandler()]
    logger.setLevel(logging.ERROR)
    return lambda x: x * 2 if logger.isEnabledFor(logging.INFO) else x, lambda: logger.setLevel(logging.INFO)


@change
def whether_a_file_exists(tmp="captured_state_test"):
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(tmp)
    return lambda x: x * (2 if os.path.exists(tmp) else 3), lambda: os.mkdir(tmp)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("native", [False, True])
def test_what_changes_between_calls_is_noticed(name, native, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if native and not native_calls.install():
        pytest.skip("native calls are not possible here")
    function, make_change = CHANGES[name]()
    jitted = tj.jit(function)
    before = described(function(X))
    assert [described(jitted(X)) for _ in range(6 if native else 2)] == [before] * (6 if native else 2)
    make_change()
    after = described(function(X))
    assert after != before
    assert [described(jitted(X)) for _ in range(2)] == [after] * 2


# What a function writes ------------------------------------------------------------------------------


@write
def an_array():
    values = np.zeros(3)

    def f(x):
        values[0] += 1
        return x * values[0]

    return f, lambda: values


@write
def an_array_of_an_object():
    item = Node()
    item.values = np.zeros(4, np.float32)

    def f(x):
        item.values += x.numpy()
        return x

    return f, lambda: item.values


@write
def a_list_in_a_hook_of_a_module():
    seen = []
    layer = nn.Sequential(nn.ReLU())
    layer[0].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    return lambda x: layer(x) * 2, lambda: seen


@write
def a_list_in_a_backward_hook_of_a_module():
    seen = []
    layer = nn.Linear(4, 2)
    nn.init.ones_(layer.weight)
    layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))

    def f(x):
        layer.zero_grad()
        layer(x).sum().backward()
        return layer.weight.grad * 1

    return f, lambda: seen


@write
def a_hook_of_a_module_that_takes_itself_away():
    seen = []
    layer = nn.ReLU()

    def hook(module, args, output):
        seen.append(output.shape)
        handle.remove()
        return output * 3

    handle = layer.register_forward_hook(hook)
    return lambda x: layer(x) * 2, lambda: seen


@write
def hooks_of_a_module_that_come_and_go():
    layer = nn.ReLU()

    def f(x):
        with layer.register_forward_hook(lambda module, args, output: output + 1):
            return layer(x) * 2

    return f, lambda: layer(X)


@write
def a_hook_of_a_module_that_stays():
    layer = nn.ReLU()

    def f(x):
        layer.register_forward_hook(lambda module, args, output: output + 1)
        return layer(x) * 2

    return f, lambda: layer(X)


@write
def a_counter_in_a_function_of_a_module():
    counts = {"calls": 0}

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = self.make()

        def make(self):
            def activation(x):
                counts["calls"] += 1
                return x.tanh()

            return activation

        def forward(self, x):
            return self.activation(x)

    layer = Layer()
    return lambda x: layer(x), lambda: counts["calls"]


@write
def a_list_in_a_schedule():
    seen = []
    weight = tj.ones(4, requires_grad=True)
    opt = optim.SGD([weight], lr=0.1)
    scheduler = optim.lr_scheduler.LambdaLR(opt, lambda epoch: (seen.append(epoch), 0.5)[1])

    def f(x):
        weight.grad = x
        opt.step()
        scheduler.step()
        return weight.detach() * 1

    return f, lambda: seen


@write
def a_slot():
    class Slotted:
        __slots__ = ("h",)

    item = Slotted()
    item.h = tj.zeros(4)

    def f(x):
        item.h = item.h + x
        return item.h * 2

    return f, lambda: item.h


@write
def a_counter_in_a_slot():
    class Slotted:
        __slots__ = ("n",)

    item = Slotted()
    item.n = 0

    def f(x):
        item.n += 1
        return x * item.n

    return f, lambda: item.n


@write
def a_counter_of_a_bound_method_in_a_tuple():
    class Counter:
        def __init__(self):
            self.n = 0

        def count(self, x):
            self.n += 1
            return x * self.n

    counter = Counter()
    methods = (counter.count,)
    return lambda x: methods[0](x), lambda: counter.n


@write
def a_counter_of_the_function():
    def f(x):
        f.n = getattr(f, "n", 0) + 1
        return x * f.n

    return f, lambda: f.n


@write
def a_list_that_is_the_default_of_an_argument():
    def f(x, seen=[]):  # noqa: B006
        seen.append(x * 2)
        return x * len(seen), list(seen)

    return f, lambda: f.__defaults__


@write
def a_list_that_a_partial_was_given():
    seen = []

    def f(seen, x):
        seen.append(x * 2)
        return x * len(seen)

    return functools.partial(f, seen), lambda: seen


@write
def a_list_that_is_changed_and_replaced():
    node = Node()
    node.items = [random(4), random(4, seed=3)]

    def f(x):
        node.items[0] = x * 2
        node.items = [*node.items[-2:], x]
        return x

    return f, lambda: node.items


@write
def a_global_that_is_made():
    space = {}
    exec(
        "def f(x):\n"
        "    global total\n"
        "    try:\n"
        "        total = total + x\n"
        "    except NameError:\n"
        "        total = x\n"
        "    return total * 1",
        space,
    )
    return space["f"], lambda: space["total"]


@write
def bytes_and_numbers():
    counts, seen = array.array("i", [1]), bytearray(b"a")

    def f(x):
        counts.append(2)
        seen.append(7)
        return x * len(counts)

    return f, lambda: (list(counts), bytes(seen))


@write
def an_iterator_of_an_object():
    item = Node()
    item.rest = iter(range(1, 100))

    def f(x):
        for number in item.rest:
            return x * number
        return x

    return f, lambda: None


@write
def a_map_of_an_object():
    item = Node()
    item.rest = map(str, itertools.count())

    def f(x):
        (pair,) = zip(item.rest, [0], strict=False)
        return x * int(pair[0])

    return f, lambda: None


@write
def a_list_of_a_class():
    class Holder:
        seen: list[Any] = []  # noqa: RUF012

    def f(x):
        Holder.seen.append(len(Holder.seen))
        return x * len(Holder.seen)

    return f, lambda: Holder.seen


@write
def a_context_variable_set():
    variable = contextvars.ContextVar("captured", default=2)

    def f(x):
        variable.set(variable.get() + 1)
        return x * variable.get()

    return f, variable.get


@write
def a_generator_of_old():
    generator = np.random.RandomState(3)
    return lambda x: x + generator.randn(4).astype(np.float32), lambda: None


@write
def a_lock_that_stays_locked():
    lock = threading.Lock()
    return lambda x: x * (2 if lock.acquire(blocking=False) else 3), lock.locked


@write
def a_thread_of_its_own():
    def f(x):
        found = []
        thread = threading.Thread(target=lambda: found.append(x * 2))
        thread.start()
        thread.join()
        return found[0]

    return f, lambda: None


@dataclass(slots=True)
class Slotted:
    h: Any
    n: int = 0


@pytest.mark.parametrize("name", WRITES)
def test_what_a_function_writes_is_written_at_each_call(name):
    def run(wrap):
        function, look = WRITES[name]()
        called = wrap(function)
        return [(described(called(random(4, seed=n % 2))), described(look())) for n in range(6)]

    assert run(tj.jit) == run(lambda function: function)


def test_slots_of_an_argument_are_written():
    def f(x, state):
        state.h = state.h * 2 + x
        state.n = 3
        return state.h.sum()

    states = [Slotted(random(4)), Slotted(random(4))]
    jitted = tj.jit(f)
    for n in range(3):
        assert described(jitted(random(4, seed=n), states[0])) == described(f(random(4, seed=n), states[1]))
        assert described(states[0].h) == described(states[1].h)
        assert states[0].n == states[1].n


def test_what_an_argument_writes_when_it_is_called():
    seen, layer = [], nn.ReLU()
    layer.register_forward_hook(lambda module, args, output: seen.append(1))

    def see(x):
        seen.append(2)
        return x * 2

    jitted = tj.jit(lambda x, function: function(x) + 1)
    for number in range(1, 4):
        assert jitted(X, see).tolist() == (X * 2 + 1).tolist()
        assert jitted(X, layer).tolist() == (tj.relu(X) + 1).tolist()
        assert seen == [2, 1] * number


def test_a_variable_holds_an_argument_no_longer():
    def running():
        total = None

        def add(x):
            nonlocal total
            total = x if total is None else total + x
            return total

        return add

    jitted, eagerly, x = tj.jit(running()), running(), random(4)
    assert [described(jitted(x)) for _ in range(8)] == [described(eagerly(x)) for _ in range(8)]


@pytest.mark.parametrize("native", [False, True])
def test_an_optimizer_keeps_its_parameters(native):
    """They are not those that stand where they stood."""
    if native and not native_calls.install():
        pytest.skip("native calls are not possible here")

    def run(wrap):
        node = Node()
        node.w = first = random(4, seed=5).requires_grad_()
        opt = optim.SGD([first], lr=0.1, momentum=0.5)

        @wrap
        def step(x):
            opt.zero_grad()
            loss = (x * node.w).sum()
            loss.backward()
            opt.step()
            return loss

        for n in range(14):
            if n == 7:
                node.w = random(4, seed=6).requires_grad_()
            yield described([step(X), first, node.w, node.w.grad])

    assert [*run(tj.jit)] == [*run(lambda function: function)]


def test_attributes_of_a_registered_container_are_written():
    class Pair:
        def __init__(self, left, right):
            self.left, self.right = left, right

    tj.register_container(Pair, lambda pair: ((pair.left, pair.right), None), lambda rest, items: Pair(*items))

    def f(pair, x):
        pair.left = pair.left + x
        return pair, pair.left * pair.right

    pairs = [Pair(random(4), random(4, seed=1)) for _ in range(2)]
    jitted = tj.jit(f)
    for n in range(3):
        results = [function(pair, random(4, seed=n)) for function, pair in zip((jitted, f), pairs, strict=True)]
        assert [result[0] is pair for result, pair in zip(results, pairs, strict=True)] == [True, True]
        assert described(results[0][1]) == described(results[1][1])
        assert described(pairs[0].left) == described(pairs[1].left)
