"""Programs called by native code: the same arrays as from Python, and nothing leaks."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from tracejit.backends.cpu import buffers, compiler, entry, objects
from tracejit.backends.cpu.runtime import Executable
from tracejit.backends.planning import plan
from tracejit.ir.parser import parse

pytestmark = [
    pytest.mark.skipif(objects.why_unsupported() is not None, reason=f"no native calls: {objects.why_unsupported()}"),
    pytest.mark.usefixtures("first_code_only"),
]

PROGRAMS = {
    "elementwise": "func @f(%x: f32[4], %y: f32[4]) -> (f32[4]) { %z = add %x, %y : f32[4]  return %z }",
    "an intermediate": (
        "func @f(%x: f32[40,50], %y: f32[50,3]) -> (f32[3]) { %d = dot %x, %y : f32[40,3]"
        "  %e = exponential %d : f32[40,3]  %s = reduce_sum %e {axes=[0]} : f32[3]  return %s }"
    ),
    "an input as it is": "func @f(%x: f32[4]) -> (f32[4], f32[4]) { %y = negate %x : f32[4]  return %x, %y }",
    "one result twice": "func @f(%x: f32[4]) -> (f32[4], f32[4]) { %y = negate %x : f32[4]  return %y, %y }",
    "constants": (
        "func @f(%x: f32[2]) -> (f32[2], f32[2]) { %y = add %x, [1.0, 2.0]:f32[2] : f32[2]"
        "  return %y, [3.0, 4.0]:f32[2] }"
    ),
    "0-d and empty": (
        "func @f(%x: f32[], %y: f32[0,3]) -> (f32[], f32[0,3], f32[3]) { %a = exponential %x : f32[]"
        "  %b = negate %y : f32[0,3]  %c = reduce_sum %y {axes=[0]} : f32[3]  return %a, %b, %c }"
    ),
    "nothing": "func @f() -> () { return }",
    "large": "func @f(%x: f32[400,400]) -> (f32[400,400]) { %y = exponential %x : f32[400,400]  return %y }",
    "several dtypes": (
        "func @f(%x: f64[3], %n: i64[3]) -> (bool[3], i64[3]) { %a = compare %x, %x {direction=\"ne\"} : bool[3]"
        "  %b = multiply %n, %n : i64[3]  return %a, %b }"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded() -> None:
    if entry._execute is None:
        entry.load()


def make(text: str) -> tuple[Executable, entry.Entry]:
    executable = Executable(plan(parse(text)))
    found = executable._make_entry()
    assert found is not None
    return executable, found


def inputs_of(executable: Executable, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.uniform(-2, 2, shape).astype(dtype) for shape, dtype, _ in executable.recipe.inputs]


def assert_same(found: Sequence[np.ndarray] | None, expected: Sequence[np.ndarray]) -> None:
    assert found is not None
    assert [(a.dtype, a.shape, a.tobytes()) for a in found] == [(a.dtype, a.shape, a.tobytes()) for a in expected]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("loaded")
def test_results_are_the_same(name: str) -> None:
    executable, native = make(PROGRAMS[name])
    for seed in range(3):
        inputs = inputs_of(executable, seed)
        expected = executable._call(inputs)
        found = native.call(inputs)
        assert_same(found, expected)
        assert found is not None
        for one, other in zip(found, expected, strict=True):
            assert any(one is x for x in inputs) == any(other is x for x in inputs)


@pytest.mark.usefixtures("loaded")
def test_what_it_does_not_take_is_a_miss() -> None:
    executable, native = make(PROGRAMS["elementwise"])
    x, y = inputs_of(executable)
    wide = np.arange(8, dtype=np.float32)
    for given in ([x], [x, y, x], (x, y), [x, [1.0] * 4], [x, None], [x, wide[::2]], None, x):
        assert native.call(given) is None  # type: ignore[arg-type]
    assert native.call(x, y) is None  # type: ignore[call-arg]
    executable._entry = native
    assert_same(executable([x, wide[::2]]), [x + wide[::2]])


@pytest.mark.usefixtures("loaded")
def test_executables_use_it_from_the_second_call_on() -> None:
    executable, _ = make(PROGRAMS["an intermediate"])
    inputs = inputs_of(executable)
    results = [executable(inputs) for _ in range(4)]
    assert executable._entry is not None
    for result in results[1:]:
        assert_same(result, results[0])


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("loaded")
def test_reference_counts_balance(name: str) -> None:
    executable, native = make(PROGRAMS[name])
    inputs = inputs_of(executable)
    watched = [inputs, *inputs, *(dtype for _, dtype, _ in executable.recipe.outputs), *executable.recipe.constants]
    if name != "large":  # NumPy loses a reference to None where an array takes over another's memory
        watched.append(None)

    def run() -> None:
        native.call(inputs)
        native.call([])

    run()
    compiler.wait()
    gc.collect()
    before = [sys.getrefcount(item) for item in watched]
    for _ in range(500):
        run()
    after = [sys.getrefcount(item) for item in watched]
    assert [other - one for one, other in zip(before, after, strict=True) if abs(other - one) > 20] == []


@pytest.mark.usefixtures("loaded")
def test_results_own_their_memory() -> None:
    """Neither the next call nor another thread's writes into a result, and the program's workspace is its own."""
    executable, native = make(PROGRAMS["an intermediate"])
    inputs = [inputs_of(executable, seed) for seed in range(4)]
    expected = [executable._call(given)[0].tobytes() for given in inputs]
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(300):
                found = executable([*inputs[number]])
                assert found[0].tobytes() == expected[number]
        except BaseException as error:
            errors.append(error)

    executable._entry = native
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.usefixtures("loaded")
def test_other_threads_run_during_long_programs() -> None:
    size = 700
    text = (
        f"func @f(%x: f32[{size},{size}]) -> (f32[{size},{size}]) {{ %y = dot %x, %x : f32[{size},{size}] return %y }}"
    )
    executable, native = make(text)
    (x,) = inputs_of(executable)
    expected = executable._call([x])
    executable._entry = native
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                assert_same(executable([x]), expected)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.usefixtures("loaded")
def test_memory_that_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(buffers, "empty", fail)
    executable, native = make(PROGRAMS["large"])
    inputs = inputs_of(executable)
    count = sys.getrefcount(inputs[0])
    for _ in range(100):
        with pytest.raises(MemoryError, match="no more"):
            native.call(inputs)
    assert sys.getrefcount(inputs[0]) - count < 10
