"""Operators in native code mean what they mean in Python: values, dtypes, gradients, errors; and nothing leaks."""

from __future__ import annotations

import copy
import gc
import math
import operator
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import tracejit as tj
from tracejit import dispatch, native
from tracejit.backends.cpu import compiler, objects, runtime
from tracejit.backends.cpu.records import CALLS_WORTH_A_KERNEL
from tracejit.ir.types import KERNEL_DTYPES
from tracejit.ops import elementwise
from tracejit.tape import AccumulateGrad, Node

pytestmark = [
    pytest.mark.skipif(objects.why_unsupported() is not None, reason=f"no native calls: {objects.why_unsupported()}"),
    pytest.mark.filterwarnings("ignore:Using backward:UserWarning"),
]
ROOT = Path(__file__).resolve().parents[1]

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "maximum": tj.maximum,
    "hypot": tj.hypot,
    "less": tj.less,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "abs": operator.abs,
    "invert": operator.invert,
    "exp": tj.exp,
    "asin": tj.asin,
    "sign": tj.sign,
    "signbit": tj.signbit,
}
DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool", "complex64", "float16")


@pytest.fixture(scope="module")
def kernels() -> None:
    """The kernels that these tests run, compiled once."""
    compiled = native._compiled()
    assert compiled is not None
    names = {"add", "subtract", "multiply", "divide", "and", "or", "xor", "compare", "maximum"}
    names |= {"hypot", "negate", "abs", "not", "exponential", "asin", "sign", "sign_bit", "select"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler._compiler, "run_later", lambda work, first=False: None)
        dtypes = [np.dtype(name) for name in DTYPES if np.dtype(name) in KERNEL_DTYPES]
        for record in compiled.records:
            if record.primitive.name in names:
                for dtype in dtypes:
                    for form in range(1 if record.operands == 1 else 3):
                        record.provide(form, dtype)


@pytest.fixture
def installed(kernels: None) -> Iterator[None]:
    """Native code in the place of Python's."""
    assert native.install()
    yield
    native.uninstall()


@pytest.fixture
def native_only(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is left to Python fails."""

    def fail(*arguments: Any) -> Any:
        raise AssertionError("left to Python")

    monkeypatch.setattr(elementwise, "apply", fail)
    for name in ("_apply", "_compare", "_choose"):
        assert getattr(elementwise, name) is not getattr(native, name)


def outcome(function: Callable[..., Any], *operands: Any) -> Any:
    """What comes out: a tensor's type and bits, or an error's type and text."""
    try:
        result = function(*operands)
    except Exception as error:
        return type(error), str(error)
    if not isinstance(result, tj.Tensor):
        return result
    assert type(result) is tj.Tensor
    return result.dtype, result.shape, np.asarray(result).tobytes()


def in_python(function: Callable[..., Any], *operands: Any) -> Any:
    native.uninstall()
    try:
        return outcome(function, *operands)
    finally:
        assert native.install()


def example(dtype: str, shape: tuple[int, ...], seed: int = 0) -> tj.Tensor:
    values = np.random.default_rng(seed).uniform(-3, 3, shape)
    values = np.where(values > 2.5, np.nan, values) if dtype.startswith("float") else values
    values = np.where(np.abs(values) < 0.5, -0.0, values)
    return tj.tensor((np.abs(values) if dtype[0] in "ub" else values).astype(dtype))


OPERANDS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "one shape": lambda d: (example(d, (3, 5)), example(d, (3, 5), 1)),
    "vectors": lambda d: (example(d, (37,)), example(d, (37,), 1)),
    "0-d": lambda d: (example(d, ()), example(d, (), 1)),
    "empty": lambda d: (example(d, (0, 3)), example(d, (0, 3))),
    "a 0-d array on the right": lambda d: (example(d, (2, 3)), example(d, (), 1)),
    "a 0-d array on the left": lambda d: (example(d, (), 1), example(d, (2, 3))),
    "a float": lambda d: (example(d, (4,)), 1.5),
    "a float on the left": lambda d: (-0.1, example(d, (4,))),
    "an int": lambda d: (example(d, (4,)), 2),
    "an int on the left": lambda d: (-1, example(d, (4,))),
    "a large int": lambda d: (example(d, (4,)), 2**40 + 1),
    "a huge int": lambda d: (example(d, (4,)), 2**70),
    "an int that a double cannot hold": lambda d: (example(d, (4,)), 2**53 + 1),
    "NaN": lambda d: (example(d, (4,)), math.nan),
    "a large float": lambda d: (example(d, (4,)), 1e300),
    "a bool": lambda d: (example(d, (4,)), True),
    "a complex": lambda d: (example(d, (4,)), 1j),
    "a NumPy float": lambda d: (example(d, (4,)), np.float64(0.1)),
    "a NumPy array": lambda d: (example(d, (4,)), np.arange(4.0)),
    "a string": lambda d: (example(d, (4,)), "x"),
    "None": lambda d: (example(d, (4,)), None),
    "shapes that broadcast": lambda d: (example(d, (3, 4)), example(d, (4,))),
    "a row on the left": lambda d: (example(d, (5,)), example(d, (2, 3, 5))),
    "a block": lambda d: (example(d, (4, 2, 3)), example(d, (1, 2, 3))),
    "a column": lambda d: (example(d, (3, 4)), example(d, (3, 1))),
    "a column on the left": lambda d: (example(d, (2, 3, 1)), example(d, (2, 3, 4))),
    "one element": lambda d: (example(d, (3, 4)), example(d, (1, 1, 1))),
    "one element of as many axes": lambda d: (example(d, (1, 1)), example(d, (3, 4))),
    "a row and a column": lambda d: (example(d, (1, 4)), example(d, (3, 1))),
    "a stretched axis in the middle": lambda d: (example(d, (2, 3, 4)), example(d, (2, 1, 4))),
    "a row of nothing": lambda d: (example(d, (3, 0)), example(d, (1, 0))),
    "no rows": lambda d: (example(d, (0, 3)), example(d, (3,))),
    "a column of nothing": lambda d: (example(d, (3, 0)), example(d, (3, 1))),
    "many rows": lambda d: (example(d, (300, 2)), example(d, (2,))),
    "shapes that do not": lambda d: (example(d, (3,)), example(d, (4,))),
    "another dtype": lambda d: (example(d, (4,)), example("int16", (4,))),
    "not contiguous": lambda d: (example(d, (4, 6)).T, example(d, (6, 4))),
    "reversed": lambda d: (example(d, (6,)), tj.flip(example(d, (6,)))),
    "many": lambda d: (example(d, (9000,)), example(d, (9000,))),
    "a parameter": lambda d: (tj.Parameter(example(d, (4,)), requires_grad=False), example(d, (4,))),
}


@pytest.mark.parametrize("name", [*BINARY, *UNARY])
@pytest.mark.usefixtures("installed")
def test_operators_mean_the_same(name: str) -> None:
    function: Any = BINARY.get(name) or UNARY[name]
    for dtype in DTYPES:
        for what, make in OPERANDS.items():
            operands = make(dtype)
            if name in UNARY:
                operands = operands[:1]
            assert outcome(function, *operands) == in_python(function, *operands), (dtype, what)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.usefixtures("native_only")
def test_common_operands_are_not_left_to_python(name: str) -> None:
    dtypes = ["int64", "bool"] if name in ("and", "or", "xor") else ["float32", "float64"]
    for dtype in dtypes:
        x, y = example(dtype, (3, 5)), example(dtype, (3, 5), 1)
        pairs = [(x, y), (x, example(dtype, ())), (example(dtype, ()), y), (x, tj.Parameter(y, requires_grad=False))]
        stretched = [example(dtype, shape) for shape in ((5,), (1, 5), (3, 1), (1,), (1, 1), (2, 3, 5))]
        pairs += [pair for other in stretched for pair in ((x, other), (other, x))]
        pairs += [] if dtype == "bool" else [(x, 3), (3, x)]
        pairs += [(x, 0.5), (0.5, x)] if dtype.startswith("float") else []
        for pair in pairs:
            assert type(BINARY[name](*pair)) is tj.Tensor


CHOICES: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "arrays": lambda d: (example("bool", (3, 5)), example(d, (3, 5)), example(d, (3, 5), 1)),
    "a number where true": lambda d: (example("bool", (3, 5)), 2, example(d, (3, 5))),
    "a number where false": lambda d: (example("bool", (3, 5)), example(d, (3, 5)), 0),
    "a 0-d array": lambda d: (example("bool", (3, 5)), example(d, ()), example(d, (3, 5))),
    "a row": lambda d: (example("bool", (3, 5)), example(d, (3, 5)), example(d, (5,))),
    "a column": lambda d: (example("bool", (3, 5)), example(d, (3, 1)), example(d, (3, 5))),
    "0-d": lambda d: (example("bool", ()), example(d, ()), example(d, (), 1)),
    "nothing": lambda d: (example("bool", (0, 3)), example(d, (0, 3)), example(d, (3,))),
}
ODD_CHOICES: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "a wide result": lambda d: (example("bool", (3,)), example(d, (3,)), example(d, (2, 3))),
    "a wide choice": lambda d: (example("bool", (2, 3)), example(d, (3,)), example(d, (3,))),
    "a choice of another shape": lambda d: (example("bool", (3,)), example(d, (4,)), example(d, (4,))),
    "a choice that is no bool": lambda d: (example("int64", (4,)), example(d, (4,)), example(d, (4,))),
    "a Python bool": lambda d: (True, example(d, (4,)), example(d, (4,), 1)),
    "an array of NumPy's": lambda d: (np.array([True, False]), example(d, (2,)), example(d, (2,), 1)),
    "numbers": lambda d: (example("bool", (3,)), 1, 2.5),
    "another dtype": lambda d: (example("bool", (4,)), example(d, (4,)), example("int16", (4,))),
    "not contiguous": lambda d: (example("bool", (4, 3)).T, example(d, (4, 3)).T, example(d, (3, 4))),
    "many": lambda d: (example("bool", (9000,)), example(d, (9000,)), 0),
}


@pytest.mark.usefixtures("installed")
def test_choices_mean_the_same() -> None:
    for dtype in DTYPES:
        for what, make in (CHOICES | ODD_CHOICES).items():
            operands = make(dtype)
            assert outcome(tj.where, *operands) == in_python(tj.where, *operands), (dtype, what)


def test_large_choices_are_compiled(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the compiler is there, and to the same bits; NumPy takes many times as long."""
    compiled: list[tuple[int, ...]] = []

    def evaluate(primitive: Any, arrays: Any, attributes: Any) -> np.ndarray:
        compiled.append(arrays[0].shape)
        return runtime.evaluate(primitive, arrays, attributes)

    monkeypatch.setattr(dispatch, "_evaluate", evaluate)
    for shape in ((3, 4), (64, 128)):
        mask, x, y = (np.asarray(example(dtype, shape)) for dtype in ("bool", "float32", "float32"))
        for other in (y, y[0], y[:, :1], np.asarray(y[0, 0])):
            for _ in range(10):
                found = dispatch.compute(elementwise.primitives.select, [mask, x, other], {})
                assert found.tobytes() == np.where(mask, x, other).tobytes()
    assert compiled == [(64, 128)] * len(compiled)
    assert 4 <= len(compiled) < 40, "what comes often"


@pytest.mark.usefixtures("native_only")
def test_common_choices_are_not_left_to_python() -> None:
    for dtype in ("float32", "int64"):
        for make in CHOICES.values():
            assert type(tj.where(*make(dtype))) is tj.Tensor


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_elements_are_the_same_to_the_bit(kernels: None, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*BINARY, *UNARY]))
    dtype: np.dtype[Any] = np.dtype(data.draw(st.sampled_from(DTYPES)))
    shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    full = data.draw(shapes)

    def array() -> tj.Tensor:
        """Of one shape, of one that is stretched to it, or of any."""
        shape = data.draw(st.sampled_from([full, full, full[1:], (*full[:-1], 1)[: len(full)], data.draw(shapes)]))
        count = math.prod(shape)
        bits = st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)
        if dtype == np.bool_:
            return tj.tensor(np.frombuffer(data.draw(bits), np.uint8).reshape(shape) % 2 == 1)
        return tj.tensor(np.frombuffer(data.draw(bits), dtype).reshape(shape))

    def shown(found: Any) -> Any:
        """A NaN is a NaN, whatever its bits."""
        if isinstance(found[0], np.dtype) and found[0].kind in "fc":
            values = np.frombuffer(found[2], found[0])
            return found[0], found[1], np.where(np.isnan(values), 0, values).tobytes(), np.isnan(values).tobytes()
        return found

    number = st.one_of(st.integers(-(2**65), 2**65), st.floats(), st.booleans())
    operands: tuple[Any, ...] = (array(),)
    if name in BINARY:
        other = data.draw(number) if data.draw(st.booleans()) else array()
        operands = (operands[0], other) if data.draw(st.booleans()) else (other, operands[0])
    function: Any = BINARY.get(name) or UNARY[name]
    assert native.install()
    try:
        found = shown(outcome(function, *operands))
        assert found == shown(in_python(function, *operands))
    finally:
        native.uninstall()


# Gradients ------------------------------------------------------------------------------------------


def leaf(*shape: int, seed: int = 0) -> tj.Tensor:
    return tj.tensor(np.random.default_rng(seed).uniform(1, 2, shape).astype("float32"), requires_grad=True)


TAPED: dict[str, tuple[Callable[..., tj.Tensor], Callable[[], list[Any]]]] = {
    "two leaves": (operator.mul, lambda: [leaf(3, 4), leaf(3, 4, seed=1)]),
    "the same twice": (lambda x: x / x, lambda: [leaf(3)]),
    "one leaf": (operator.truediv, lambda: [leaf(4), tj.ones(4)]),
    "one leaf on the right": (operator.truediv, lambda: [tj.ones(4), leaf(4)]),
    "a float": (lambda x: x * 0.3, lambda: [leaf(4)]),
    "a float on the left": (lambda x: 0.3 / x, lambda: [leaf(4)]),
    "an int": (lambda x: x - 3, lambda: [leaf(4)]),
    "a 0-d leaf": (operator.mul, lambda: [leaf(4), leaf(seed=1)]),
    "a 0-d leaf and a constant": (operator.truediv, lambda: [tj.ones(4), leaf()]),
    "a 0-d constant": (operator.truediv, lambda: [tj.tensor(3.0), leaf(4)]),
    "a row": (operator.mul, lambda: [leaf(3, 4), leaf(4, seed=1)]),
    "a row alone": (operator.truediv, lambda: [tj.ones(3, 4), leaf(4)]),
    "a row on the left": (operator.truediv, lambda: [leaf(4), leaf(3, 4, seed=1)]),
    "a column": (operator.truediv, lambda: [leaf(3, 4), leaf(3, 1, seed=1)]),
    "a column on the left": (operator.sub, lambda: [leaf(3, 1), leaf(3, 4, seed=1)]),
    "a constant row": (lambda x: x * tj.tensor([1.0, 2.0]), lambda: [leaf(3, 2)]),
    "one operand": (tj.exp, lambda: [leaf(2, 3)]),
    "a float64": (lambda x: x * 0.1, lambda: [tj.tensor([1.0, 2.0], dtype="float64", requires_grad=True)]),
    "a chain": (lambda x, y: (x * y + x) / (y - 2.5) * -x, lambda: [leaf(5), leaf(5, seed=1)]),
    "a parameter": (operator.add, lambda: [tj.Parameter(leaf(4).detach()), leaf(4)]),
    "a choice": (lambda x, y: tj.where(x < y, x, y), lambda: [leaf(3, 4), leaf(3, 4, seed=1)]),
    "a choice of one": (lambda x, y: tj.where(y > 1.5, x, y), lambda: [leaf(4), leaf(4, seed=1).detach()]),
    "a choice of the other": (lambda x, y: tj.where(y > 1.5, y, x), lambda: [leaf(4), leaf(4, seed=1).detach()]),
    "a choice or a number": (lambda x: tj.where(x > 1.5, x * 2, 0), lambda: [leaf(4)]),
    "a number or a choice": (lambda x: tj.where(x > 1.5, 0.5, x), lambda: [leaf(4)]),
    "a choice or a row": (lambda x, y: tj.where(x > 1.5, x, y), lambda: [leaf(3, 4), leaf(4, seed=1)]),
    "a column or a choice": (lambda x, y: tj.where(x > 1.5, y, x), lambda: [leaf(3, 4), leaf(3, 1, seed=1)]),
    "a comparison": (lambda x: x * (x < 1.5), lambda: [leaf(4)]),
}


def described(node: Node | None) -> Any:
    """A node and all that it reaches."""
    if node is None or isinstance(node, AccumulateGrad):
        return None if node is None else ("leaf", node.type)
    held = node.application
    assert held is not None

    def bits(value: Any) -> Any:
        return None if value is None else (value.dtype, value.shape, value.tobytes())

    return (
        held.primitive.name, dict(held.attributes), held.operand_types, held.result_type,
        tuple(map(bits, held.operands)), bits(held.result), node.type, node.location, node.hooks, node.retained_by,
        tuple(map(described, node.edges)),
    )  # fmt: skip


@pytest.mark.parametrize("case", TAPED)
@pytest.mark.usefixtures("installed")
def test_the_tape_is_the_same(case: str) -> None:
    function, make = TAPED[case]

    def run() -> Any:
        leaves = make()
        result = function(*leaves)
        tape = described(result._node)
        assert result.requires_grad
        result.backward(tj.ones_like(result), create_graph=True)
        gradients = [None if x.grad is None else x.grad.detach() for x in leaves if isinstance(x, tj.Tensor)]
        for x in leaves:
            x.grad = None
        return outcome(result.detach), tape, [None if g is None else outcome(g.detach) for g in gradients]

    found = run()
    native.uninstall()
    assert found == run()


@pytest.mark.usefixtures("native_only")
def test_gradients_are_recorded_natively() -> None:
    x, y = leaf(4), leaf(4, seed=1)
    result = (x * y + 2.0) / x
    assert repr(result.grad_fn) == "<DivideBackward>"
    with tj.no_grad():
        assert not (x * y).requires_grad
        assert (x * y).grad_fn is None


# What surrounds the operands --------------------------------------------------------------------------


@pytest.mark.usefixtures("installed")
def test_subclasses_override_operators() -> None:
    class Loud(tj.Tensor):
        def __add__(self, other: Any) -> Any:
            return "added"

        def __rmul__(self, other: Any) -> Any:
            return "multiplied on the right"

        def __lt__(self, other: Any) -> Any:
            return super().__lt__(other) | True

    loud, x = Loud([1.0, 2.0]), tj.ones(2)
    assert loud + x == "added"
    assert x * loud == "multiplied on the right"
    assert (loud < x).tolist() == [True, True]
    assert (loud - x).tolist() == [0.0, 1.0]
    assert type(x + loud) is tj.Tensor


@pytest.mark.usefixtures("installed")
def test_operators_can_be_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    x = tj.ones(2)
    with monkeypatch.context() as patch:
        patch.setattr(tj.Tensor, "__add__", lambda self, other: "mine")
        assert x + x == "mine"
        assert native.install()
        assert x + x == "mine"
    assert (x + x).tolist() == [2.0, 2.0]


@pytest.mark.usefixtures("installed")
def test_other_classes_get_their_turn() -> None:
    class Other:
        def __radd__(self, left: Any) -> str:
            return "other"

        def __gt__(self, left: Any) -> str:
            return "greater"

    x = tj.ones(2)
    assert x + Other() == "other"
    assert (x < Other()) == "greater"
    assert x.__add__("text") is NotImplemented
    assert (x == "text") is False


@pytest.mark.usefixtures("installed")
def test_results_are_ordinary_tensors() -> None:
    result = tj.ones(2) + tj.ones(2)
    assert result.is_leaf
    assert result.grad is None
    result.note = "mine"  # type: ignore[attr-defined]
    assert result.__dict__ == {"note": "mine"}
    reference = weakref.ref(result)
    assert pickle.loads(pickle.dumps(result)).tolist() == copy.deepcopy(result).tolist() == [2.0, 2.0]
    result.requires_grad_()
    (result * result).sum().backward()
    assert result.grad is not None
    assert result.grad.tolist() == [4.0, 4.0]
    del result
    gc.collect()
    assert reference() is None


@pytest.mark.usefixtures("native_only")
def test_values_are_read_where_they_lie() -> None:
    """A tensor that was changed in place has another array."""
    x = tj.zeros(4)
    for i in range(3):
        x._value = np.full(4, float(i), np.float32)
        assert (x + x).tolist() == [2.0 * i] * 4
    x._value = x._value.astype(np.float64)[::2]
    with pytest.raises(AssertionError, match="left to Python"):
        x + x


@pytest.mark.usefixtures("installed")
def test_traces_and_anomalies_are_left_to_python() -> None:
    x = tj.tensor([1.0, -1.0])

    @tj.jit
    def f(y: tj.Tensor) -> tj.Tensor:
        return -x * y + 1.0

    assert "multiply" in f.ir(x)
    assert f(x).tolist() == [0.0, 0.0]
    with tj.autograd.detect_anomaly(), pytest.raises(FloatingPointError, match="NaN"):
        tj.tensor([0.0]) / tj.tensor([0.0])
    assert native.state.busy[0] == 0


@pytest.mark.usefixtures("installed")
def test_threads_that_trace_do_not_disturb_those_that_compute() -> None:
    x, errors, done = tj.ones(8), [], threading.Event()

    def compute() -> None:
        try:
            while not done.is_set():
                assert (x * 3.0 - x).tolist() == [2.0] * 8
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(20):
        assert tj.jit(lambda y, i=i: y * 3.0 - y + i)(x).tolist() == [2.0 + i] * 8
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.usefixtures("installed")
def test_the_collector_may_run_at_any_allocation() -> None:
    x, y = leaf(4), leaf(4, seed=1)

    class Cycle:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            y._value = y._value.copy()
            y._accumulator = None
            x._node = None

    expected = (x * y + 1.0).tolist()
    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(300):
            Cycle()
            assert (x * y + 1.0).tolist() == expected
    finally:
        gc.set_threshold(*threshold)


# Nothing leaks ----------------------------------------------------------------------------------------


def references(items: list[Any]) -> list[int]:
    return [sys.getrefcount(item) for item in items]


@pytest.mark.usefixtures("native_only")
@pytest.mark.parametrize(
    "case", ["plain", "a number", "compared", "taped", "in no_grad", "stretched", "a choice", "a function"]
)
def test_reference_counts_balance(case: str) -> None:
    x, y = leaf(4), leaf(4, seed=1)
    a, b, zero = x.detach(), y.detach(), leaf()
    number, row, mask = 123456.5, tj.ones(1, 4), a < b
    cases: dict[str, Callable[[], Any]] = {
        "plain": lambda: a + b,
        "a number": lambda: (a * number, number - a, a * 1000),
        "compared": lambda: (a < b, a == number),
        "taped": lambda: (x * y * 3.0 / zero, -x, zero - b),
        "in no_grad": tj.no_grad()(lambda: x * y),
        "stretched": lambda: (a + row, x * row, row / y),
        "a choice": lambda: (tj.where(mask, a, b), tj.where(mask, x, number), tj.where(mask, zero, y)),
        "a function": lambda: (tj.exp(a), tj.maximum(a, b), tj.hypot(x, y)),
    }
    run = cases[case]
    run()
    compiler.wait()  # other tests' code may be compiled in the background still
    watched = [None, True, False, x, y, a, b, a._value, x._value, x._accumulator, a.dtype, np.dtype(bool), number]
    watched += [
        row,
        mask,
        row._value,
        mask._value,
        tj.Tensor,
        Node,
        np.ndarray,
        np.dtype,
        native.state.thread,
        zero._accumulator,
    ]
    gc.collect()
    before, objects_before = references(watched), len(gc.get_objects())
    for _ in range(2000):
        run()
    after = references(watched)
    gc.collect()
    assert [abs(one - other) < 50 for one, other in zip(before, after, strict=True)] == [True] * len(watched)
    assert len(gc.get_objects()) - objects_before < 50


@pytest.mark.usefixtures("native_only")
def test_a_million_calls_keep_no_memory() -> None:
    a, b = tj.ones(4), tj.ones(4)
    x = leaf(4)

    def run(count: int) -> None:
        for _ in range(count):
            a + b
            x * b

    run(1000)
    compiler.wait()
    tracemalloc.start()
    try:
        run(1000)
        before, _ = tracemalloc.get_traced_memory()
        run(20_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000
    run(500_000)


# Coming and going -------------------------------------------------------------------------------------


def script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", text], env=variables, capture_output=True, text=True, check=False
    )


LOADED = """
import tracejit as tj
from tracejit import native
from tracejit.backends.cpu import compiler
x = tj.ones(4)
for _ in range({calls}):
    x + x
    tj.exp(x)
compiler.wait()
wrapper = type(int.__add__)
print(type(tj.Tensor.__add__) is wrapper)
"""


def test_many_calls_load_it() -> None:
    done = script(LOADED.format(calls=600))
    assert (done.stdout.split(), done.stderr, done.returncode) == (["True"], "", 0)


def test_few_calls_do_not() -> None:
    done = script(LOADED.format(calls=10))
    assert (done.stdout.split(), done.stderr, done.returncode) == (["False"], "", 0)


def test_a_variable_turns_it_off() -> None:
    done = script(LOADED.format(calls=600), TRACEJIT_NATIVE_CALLS="0")
    assert (done.stdout.split(), done.stderr, done.returncode) == (["False"], "", 0)


def test_a_kernel_is_compiled_when_it_has_been_asked_for_often() -> None:
    text = f"""
import tracejit as tj
from tracejit import native
from tracejit.backends.cpu import compiler
from tracejit.ops import elementwise
assert native.install()
x = tj.ones(4)
for _ in range({CALLS_WORTH_A_KERNEL}):
    x - x
compiler.wait()
def fail(*arguments):
    raise AssertionError
elementwise.apply = fail
print((x - x).tolist())
try:
    x + x
except AssertionError:
    print("not yet")
"""
    done = script(text)
    assert (done.stdout, done.returncode) == ("[0.0, 0.0, 0.0, 0.0]\nnot yet\n", 0), done.stderr


def test_the_interpreter_may_end_in_the_midst() -> None:
    text = """
import tracejit as tj, sys, threading
from tracejit import native
assert native.install()
class Last:
    def __init__(self):
        self.x, self.own = tj.ones(4), self
    def __del__(self):
        for _ in range(200):
            y = self.x + self.x * 2.0
        print(y.tolist())
sys.last = Last()
kept = Last()
"""
    done = script(text)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split("\n")) <= {"[3.0, 3.0, 3.0, 3.0]", ""}


def test_forked_children_go_on() -> None:
    text = """
import os, tracejit as tj
from tracejit import native
from tracejit.backends.cpu import compiler
assert native.install()
x = tj.ones(4)
for _ in range(200):
    x + x
compiler.wait()
if os.fork() == 0:
    os._exit(0 if (x + x).tolist() == [2.0] * 4 else 1)
print(os.wait()[1])
"""
    done = script(text)
    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr
