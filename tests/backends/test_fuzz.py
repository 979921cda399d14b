"""Random programs: run op by op as eager code is, and compiled in each way, they give the same bits.

``TRACEJIT_FUZZ=100 pytest tests/backends/test_fuzz.py`` makes it a hundred times as long, with new examples each time.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.backends.poison import guarded_memory
from tests.ir import test_reroll as rolled_up
from tests.ir.random_control import random_control
from tests.ir.random_graphs import BACKEND_OPS, COMPLEX_OPS, random_arguments, random_graphs, same_bits
from tracejit.backends import fusion, planning
from tracejit.backends.cpu import compiler, encoding, runtime
from tracejit.backends.planning import plan
from tracejit.ir import DType, Graph, Primitive
from tracejit.ir.autodiff import vjp
from tracejit.ir.interpreter import interpret
from tracejit.ir.passes import optimize
from tracejit.ir.types import (
    SHORT_NAMES,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int32,
    int64,
    uint8,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("first_code_only")

FACTOR = int(os.environ.get("TRACEJIT_FUZZ", "1"))

# A step of a map's loop takes 16 elements, a sum has 32 lanes and blocks of 4096.
TINY = (0, 1, 1, 2, 3)
EXTENTS = (0, 1, 1, 2, 3, 3, 5, 7, 15, 16, 17, 31, 33, 64, 129)
LONG = (1, 2, 3, 100, 1021, 4095, 4096, 4097, 5000)
COMMON = (float32, float32, float32, float64, int32, int64, bool_)
BY_NUMPY = (float16, bfloat16, complex64, complex128)  # dtypes that there are no kernels for
COMPILED = tuple(dtype for dtype in SHORT_NAMES if dtype not in BY_NUMPY)


def graphs(
    max_ops: int, dtypes: Sequence[DType], extents: Sequence[int], max_size: int, ops: Any = BACKEND_OPS
) -> st.SearchStrategy[Graph]:
    return st.booleans().flatmap(lambda all_alive: random_graphs(max_ops, dtypes, extents, max_size, ops, all_alive))


def has_known_extents(graph: Graph) -> bool:
    """Whether there can be cotangents of the results."""
    return all(value.type.is_static for value in graph.results)


FAMILIES = {
    "small": graphs(12, COMMON, EXTENTS, 3000),
    "long": graphs(6, COMMON, LONG, 20_000),
    "every dtype": graphs(6, COMPILED, EXTENTS, 1000),
    "tiny": graphs(20, COMMON[:4], TINY, 100),
    "control": random_control(6, COMMON, EXTENTS, 1000, BACKEND_OPS),
    "control, tiny": random_control(6, (*COMMON, uint8), TINY, 100),
    "gradients": graphs(6, COMMON, EXTENTS, 1000).map(vjp),
    "gradients, control": random_control(3, COMMON, TINY, 100).filter(has_known_extents).map(vjp),
    "with NumPy": graphs(10, (*BY_NUMPY, float32, float32, int64), TINY, 100, COMPLEX_OPS),
}


def fuzz(examples: int) -> Any:
    """The settings of a test that draws so many examples, or more of them where that is asked for."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def evaluate(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Any) -> np.ndarray:
    """What eager code does."""
    with np.errstate(all="ignore"):
        return runtime.evaluate(primitive, arrays, attributes)


def run(graph: Graph, arguments: Sequence[np.ndarray], specialize: bool = True) -> list[np.ndarray]:
    return runtime.Executable(plan(graph, specialize=specialize))(arguments)


def check(graph: Graph, actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], how: str) -> None:
    for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert same_bits(one, other), f"result {number} {how}:\n{one!r}\nbut eagerly:\n{other!r}\nof\n{graph}"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Everything that may be split between threads is, into the smallest pieces."""
    native = runtime.runtime()
    with ExitStack() as stack:
        for name in ("SERIAL_WORK", "CHUNK_WORK"):
            stack.enter_context(mock.patch.object(encoding, name, 1))
        for module in (fusion, planning):
            stack.enter_context(mock.patch.object(module, "LARGE_REDUCTION", 64))
        stack.enter_context(mock.patch.object(native, "workers", count))
        before = native.pool.num_threads
        native.pool.set_num_threads(count)
        stack.callback(native.pool.set_num_threads, before)
        yield


LAYOUTS = {
    "contiguous": lambda array: array,
    "transposed": lambda array: array.copy(order="F"),
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "unaligned": lambda array: _unaligned(array),
    "read-only": lambda array: _read_only(array),
}


def _unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.empty(array.nbytes + 1, np.uint8)
    result = raw[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def _read_only(array: np.ndarray) -> np.ndarray:
    result = array.copy()
    result.flags.writeable = False
    return result


@pytest.mark.parametrize("family", FAMILIES)
@fuzz(40)
@given(data=st.data())
def test_compiled_is_eager(family: str, data: st.DataObject) -> None:
    graph = data.draw(FAMILIES[family])
    arguments = data.draw(random_arguments(graph))
    before = [argument.copy() for argument in arguments]
    expected = interpret(graph, arguments, evaluate)
    level = data.draw(st.sampled_from((compiler.FAST, compiler.FAST, compiler.FULL)))
    with mock.patch.object(compiler, "FAST", level), guarded_memory() as memory:
        guarded = [memory.copy(argument) for argument in arguments]
        check(graph, run(graph, guarded), expected, "compiled")
        check(graph, run(optimize(graph), guarded), expected, "compiled after the passes")
        check(graph, run(graph, guarded, specialize=False), expected, "compiled for any shape")
    for argument, copy in zip(guarded, before, strict=True):
        assert same_bits(argument, copy), f"an argument has changed, of\n{graph}"


@contextmanager
def forgotten_kernels() -> Iterator[None]:
    """Kernels are compiled anew, all of them; products, which take long, are not."""
    kept = {name: cell for name, cell in compiler._cells.items() if name.startswith("dot_")}
    with (
        mock.patch.dict(compiler._cells, kept, clear=True),
        mock.patch.object(compiler.disk, "read", return_value=None),
    ):
        yield
        compiler.wait()


@fuzz(15)
@given(data=st.data())
def test_code_that_was_compiled_fast_is_as_good(data: st.DataObject) -> None:
    """A program runs at first in code that is not optimised, later in code that is: the bits are the same."""
    graph = data.draw(FAMILIES["small"])
    arguments = data.draw(random_arguments(graph))
    expected = interpret(graph, arguments, evaluate)
    with forgotten_kernels():
        executable = runtime.Executable(plan(graph))
        check(graph, executable(arguments), expected, "in the first code")
        compiler.wait()
        check(graph, executable(arguments), expected, "in the code from the background")


@fuzz(30)
@given(data=st.data())
def test_layouts(data: st.DataObject) -> None:
    graph = data.draw(FAMILIES["small"])
    arguments = data.draw(random_arguments(graph))
    expected = interpret(graph, arguments, evaluate)
    layouts = [data.draw(st.sampled_from(sorted(LAYOUTS))) for _ in arguments]
    laid_out = [LAYOUTS[layout](argument) for layout, argument in zip(layouts, arguments, strict=True)]
    check(graph, interpret(graph, laid_out, evaluate), expected, f"eagerly of arguments that are {layouts}")
    check(graph, run(graph, laid_out), expected, f"compiled of arguments that are {layouts}")


@fuzz(40)
@given(data=st.data())
def test_threads(data: st.DataObject) -> None:
    graph = data.draw(st.one_of(FAMILIES["small"], FAMILIES["long"], FAMILIES["control"]))
    arguments = data.draw(random_arguments(graph))
    expected = interpret(graph, arguments, evaluate)
    with guarded_memory():
        for count in (1, 2):
            with threads(count):
                check(graph, run(graph, arguments), expected, f"with {count} threads")
                check(graph, run(graph, arguments, False), expected, f"for any shape, with {count} threads")


@pytest.mark.parametrize("fused", [0, 5])
@fuzz(25)
@given(data=st.data())
def test_loops_that_are_rolled_up(fused: int, data: st.DataObject) -> None:
    """Stretches that repeat are made loops, however little that pays."""
    graph = data.draw(rolled_up.programs())
    with rolled_up.eagerly(fused):
        after = optimize(graph)
    arguments = data.draw(random_arguments(graph))
    check(after, run(after, arguments), interpret(graph, arguments, evaluate), "compiled after the passes")
