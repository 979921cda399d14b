"""What the documentation of JAX (sharp bits), ``tf.function`` (limitations) and ``torch.compile`` (graph breaks) says
not to do: each does here what it does eagerly."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import logging
import math
import operator
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.test_programs import Program, described, nothing, random, run
from tracejit import nn

PROGRAMS: dict[str, Program] = {}
XS = [(random(4, seed=n),) for n in range(3)] * 2


def program(misses: int = 1, *, lazy: bool = False) -> Any:
    def add(make: Any) -> Any:
        PROGRAMS[make.__name__] = Program(make, misses, lazy)
        return make

    return add


# JAX: the sharp bits ---------------------------------------------------------------------------------


@program(lazy=True)
def jax_print_in_a_pure_function():
    out = io.StringIO()

    def f(x):
        out.write("called\n")
        return x

    return f, XS, out.getvalue


@program()
def jax_a_global_that_is_written():
    def f(x):
        global _written
        _written = x * 2
        return x

    return f, XS, lambda: _written


_written: Any = None


@program(lazy=True)
def jax_an_iterator_as_state():
    iterator = iter([tj.ones(4)] * 20)
    return lambda x: x + next(iterator), XS, nothing


@program()
def jax_in_place_updates():
    def f(x):
        y = tj.zeros(4, 4)
        y[1, :] = x
        y[:, 2] += 1
        return y

    return f, XS, nothing


@program()
def jax_scatter_with_repeated_indices():
    index = tj.tensor([0, 0, 1])

    def f(x):
        y = x * 1
        y[index] = 5.0
        return y

    return f, XS, nothing


@program()
def jax_non_array_inputs():
    return lambda items: tj.asarray(items).sum(), [([1, 2, 3],)] * 2, nothing


@program()
def jax_random_without_keys():
    generator = tj.random.Generator(3)
    return lambda x: (x + generator.uniform((4,)), generator.normal((2,))), XS, lambda: generator.position


@program(2)
def jax_python_control_flow():
    return lambda x: 3.0 * x**2 if x.sum() < 3 else -4 * x, XS, nothing


@program(4)
def jax_logical_operators():
    return lambda x: x if x[0] > 0 and x[1] > 0 else -x, [(random(4, seed=n),) for n in range(6)], nothing


@program()
def jax_a_loop_whose_length_is_an_argument():
    def f(x, n):
        y = 0.0
        for i in range(n):
            y = y + x[i]
        return y

    return f, [(random(4, seed=n), 3) for n in range(3)], nothing


@program(4)
def jax_shapes_that_depend_on_values():
    return lambda x: x[~(x < 0)], [(random(4, seed=n),) for n in range(6)], nothing


@program()
def jax_nans_flow():
    return lambda x: tj.log(x) / (x * 0), XS, nothing


@program()
def jax_double_precision():
    return lambda x: x.astype(tj.float64) + 1e-12, XS, nothing


@program(2)
def jax_int_of_a_tensor_as_a_size():
    return lambda x: tj.zeros(int((x > -100).sum())) + x, XS, nothing


@program(2)
def jax_a_class_with_a_jitted_method():
    class Custom:
        def __init__(self, mul):
            self.mul = mul

        def calc(self, x, y):
            return self.mul * x * y

    custom = Custom(2.0)

    def f(x, mul):
        custom.mul = mul
        return custom.calc(x, x)

    return f, [(random(4), 2.0), (random(4), 2.0), (random(4, seed=1), 2.0)], nothing


# tf.function -----------------------------------------------------------------------------------------


@program()
def tf_appending_to_a_list():
    seen: list[Any] = []

    def f(x):
        for row in x:
            seen.append(row * 2)
        return x

    return f, XS, lambda: seen


@program(9, lazy=True)
def tf_a_python_counter():
    box = {"n": 0}

    def f(x):
        box["n"] += 1
        return x + box["n"]

    return f, XS * 3, lambda: box


@program(2)
def tf_a_free_variable_that_changes():
    box = {"scale": 1.0}

    def f(x, scale):
        box["scale"] = scale
        return x * box["scale"]

    return f, [(random(4), 1.0), (random(4), 1.0)], nothing


@program()
def tf_a_variable_made_inside():
    def f(x):
        w = nn.Parameter(tj.ones(4))
        return (w * x).detach()

    return f, XS, nothing


@program(2)
def tf_a_variable_made_at_the_first_call():
    class Layer:
        def __init__(self):
            self.w = None

        def __call__(self, x):
            if self.w is None:
                self.w = tj.full((4,), 3.0)
            return self.w * x

    layer = Layer()
    return layer, XS, lambda: layer.w


@program()
def tf_recursion():
    def f(x, n=5):
        return x if n == 0 else f(x * 0.5, n - 1) + 1

    return f, XS, nothing


@program()
def tf_exceptions_as_control_flow():
    def f(x):
        try:
            return x.reshape(3, 7)
        except ValueError:
            return x + 1

    return f, XS, nothing


@program()
def tf_generators():
    def pieces(x):
        for i in range(2):
            yield x[2 * i : 2 * i + 2]

    return lambda x: tj.stack([p.sum() for p in pieces(x)]), XS, nothing


@program()
def tf_dicts_that_change_their_keys_inside():
    def f(x):
        table = {}
        for name in "abc":
            table[name] = x * len(table)
        table.pop("b")
        return table

    return f, XS, nothing


@program()
def tf_different_types_in_branches_of_python():
    return lambda x: (x, 1) if x.ndim == 1 else x, XS, nothing


@program(2)
def tf_a_break_on_a_value():
    def f(x):
        total = tj.tensor(0.0)
        for value in x:
            if value > 100:
                break
            total = total + value
        return total

    return f, XS, nothing


# torch.compile ---------------------------------------------------------------------------------------


@program(lazy=True)
def torch_logging():
    stream = io.StringIO()
    logger = logging.getLogger("tracejit-elsewhere")
    logger.handlers = [logging.StreamHandler(stream)]
    logger.propagate = False

    def f(x):
        logger.warning("sum %s", x.sum())
        return x * 2

    return f, XS, stream.getvalue


@program()
def torch_logging_that_is_off():
    logger = logging.getLogger("tracejit-elsewhere-off")
    logger.setLevel(logging.ERROR)

    def f(x):
        logger.debug("called")
        return x * 2

    return f, XS, nothing


@program()
def torch_items():
    return lambda x: x * x.sum().item() + x.max().item(), XS, nothing


@program(2)
def torch_data_dependent_branches():
    def f(x):
        b = x / (abs(x) + 1)
        if b.sum() < 0:
            b = b * -1
        return x * b

    return f, XS, nothing


@program()
def torch_closures_over_changing_cells():
    def f(x):
        y = x

        def add(v):
            nonlocal y
            y = y + v

        add(1)
        add(x)
        return y

    return f, XS, nothing


@program()
def torch_context_managers():
    @contextlib.contextmanager
    def scaled(box):
        box.append(2)
        yield
        box.pop()

    def f(x):
        box: list[int] = []
        with scaled(box):
            y = x * len(box)
        return y + len(box)

    return f, XS, nothing


@program()
def torch_functools():
    add = functools.partial(operator.add)
    return lambda x: functools.reduce(add, map(abs, [x, x + 1])), XS, nothing


@program()
def torch_copying_tensors():
    return lambda x: copy.copy(x) + copy.deepcopy(x * 2), XS, nothing


@program(lazy=True)
def torch_warnings():
    shown: list[str] = []

    def f(x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("careful", UserWarning, stacklevel=1)
        shown.append(str(caught[0].message))
        return x

    return f, XS, lambda: len(shown)


@program()
def torch_numpy_in_the_middle():
    table = np.arange(4, dtype=np.float32)
    return lambda x: x + tj.asarray(np.sqrt(table) * math.pi), XS, nothing


@program(3)
def torch_numpy_of_values():
    return lambda x: tj.asarray(np.sort(np.asarray(x))), XS, nothing


@program(2)
def torch_setattr_and_getattr():
    class Box:
        pass

    box = Box()
    box.scale = 2.0

    def f(x):
        setattr(box, "last", x * getattr(box, "scale"))  # noqa: B009, B010
        return box.last

    return f, [(random(4, seed=n),) for n in range(3)], lambda: box.last


@program()
def torch_class_made_inside():
    def f(x):
        class Pair:
            def __init__(self, a):
                self.a = a

        return Pair(x * 2).a

    return f, XS, nothing


@program()
def torch_sorting_python_lists():
    return lambda x: [x * k for k in sorted([3, 1, 2], key=lambda v: -v)], XS, nothing


@program()
def torch_modules_in_a_dict():
    tj.manual_seed(0)
    layers = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}
    return lambda x: layers["b"](layers["a"](x)).detach(), XS, nothing


@program()
def torch_a_tensor_in_a_default_argument():
    def f(x, total=tj.zeros(4)):  # noqa: B008
        total.add_(x)
        return total * 1

    return f, XS, nothing


@program(9, lazy=True)
def torch_json_of_a_value():
    return lambda x: json.dumps({"sum": float(x.sum())}), [(random(4, seed=n),) for n in range(12)], nothing


@program()
def torch_isinstance_checks():
    calls = [(random(4), random(4)), (random(4, seed=1), random(4))]
    return lambda x, y: x + y if isinstance(y, tj.Tensor) else x * y, calls, nothing


@program()
def torch_any_and_all_of_python():
    return lambda x: x * 2 if all(n > 0 for n in x.shape) and any([False, True]) else x, XS, nothing


@program(4)
def torch_training_flags():
    class Net(nn.Module):
        def forward(self, x):
            return x * 2 if self.training else x

    net = Net()

    def f(x, training):
        net.train(training)
        return net(x)

    return f, [(random(4), n % 2 == 0) for n in range(4)], lambda: net.training


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_others_warn_of_works_here(name: str) -> None:
    case = PROGRAMS[name]
    expected = run(*case.make())
    function, calls, look = case.make()
    jitted = tj.jit(function)
    assert run(jitted, calls, look) == expected
    info = jitted.cache_info()
    assert info.misses <= case.misses, jitted.explain()
    assert (info.lazy > 0) == case.lazy, jitted.explain()


def test_results_can_be_pickled_and_described():
    f = tj.jit(lambda x: {"y": x * 2})
    assert described(pickle.loads(pickle.dumps(f(random(3))))) == described({"y": random(3) * 2})
