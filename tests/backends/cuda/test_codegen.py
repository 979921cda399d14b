"""The printed CUDA C means what the CPU's kernels mean, to the bit: it is run on the CPU by the shim.

Each program runs in three orders of its threads and on different numbers of blocks.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.ir.random_graphs import same_bits
from tracejit.backends.cpu import runtime
from tracejit.backends.cuda import codegen
from tracejit.backends.kernel import Kernel
from tracejit.backends.program import Program
from tracejit.ir.types import bfloat16, float32

from .programs import CASES, Case, kernels, programs
from .shim import shim
from .shim.shim import Module, Order, ShimError

GOLDEN = Path(__file__).with_name("golden")
MODULES = 8  # the kernels of all cases are compiled in so many
MOST_BLOCKS = {Order.UP: codegen.MAX_BLOCKS, Order.DOWN: 1, Order.SHUFFLED: 3}

needs_shim = pytest.mark.skipif(bool(shim.why_unavailable()), reason=shim.why_unavailable() or "the shim is there")


@pytest.fixture(scope="session")
def module_of(shim_folder: Path) -> Callable[[Case], Module]:
    """The compiled module that holds a case's kernels; all are compiled at the first use."""
    names = list(CASES)
    groups = [names[first::MODULES] for first in range(MODULES)]

    def compile(group: list[str]) -> Module:
        return Module(codegen.module_source([k for name in group for k in kernels(CASES[name])]), shim_folder)

    with ThreadPoolExecutor(2) as pool:
        modules = list(pool.map(compile, groups))
    return lambda case: modules[names.index(case.name) % MODULES]


def differences(program: Program, module: Module, inputs: list[np.ndarray]) -> list[str]:
    """The orders in which the results are not the CPU backend's."""
    expected = runtime.Executable(program)(inputs)
    wrong = []
    for order in Order:
        results = shim.run(program, module, inputs, order, MOST_BLOCKS[order])
        if not all(same_bits(result, other) for result, other in zip(results, expected, strict=True)):
            wrong.append(f"{order.name}: {results} but on the CPU {expected}")
    return wrong


@needs_shim
@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_the_cpus(name: str, module_of: Callable[[Case], Module]) -> None:
    case = CASES[name]
    for how, program in programs(case).items():
        assert differences(program, module_of(case), case.inputs()) == [], how


# What the shim would notice ---------------------------------------------------------------------------------

BARRIER = "__syncthreads();"
FAULTS = {
    "first barrier left out": ("sums of columns of 33", BARRIER, "", 1),
    "second barrier left out": ("softmax of columns of 40", f"v1;\n    {BARRIER}", "v1;", 1),
    "no barrier in a divergent branch": ("sums of columns of 33", BARRIER, f"if (lane < 3) {BARRIER}", 1),
    "shuffle in a divergent branch": ("sums of rows of 33", "#pragma unroll", "if (lane < 20)", 1),
    "lanes folded in pairs": ("sums of rows of 33", "half = 16; half > 0; half /= 2", "half = 1; half < 32; half *= 2", 1),
    "blocks not dealt out to the lanes": ("sums of rows of 9000", "first / 4096 % 32 == lane", "lane == 0", 1),
    "one element too many": ("gelu", "i0 < n0", "i0 <= n0", 1),
    "one element of a row too many": ("sums of rows of 31", "i1 < n1", "i1 <= n1", 1),
    "every lane writes": ("scatter add of elements", "blockIdx.x == 0 && threadIdx.x == 0", "threadIdx.x < 2", 1),
    "a result left out": ("layer norm", "if (lane == 0) b1", "if (lane == 32) b1", 1),
    "sum without an end": ("arithmetic i32", "(int)((unsigned int)v0 + (unsigned int)v1)", "v0 + v1", 1),
}


@needs_shim
@pytest.mark.parametrize("fault", FAULTS)
def test_the_shim_notices(fault: str, shim_folder: Path) -> None:
    name, old, new, count = FAULTS[fault]
    case = CASES[name]
    program = programs(case)["for any shape"]
    source = codegen.module_source(program.kernels)
    assert old in source, "the kernels' text has changed: so must this test"
    module = Module(source.replace(old, new, count), shim_folder)
    try:
        assert differences(program, module, case.inputs()) != []
    except ShimError:
        pass


# The text ---------------------------------------------------------------------------------------------------

# One case a way of printing, and the file that holds its kernels.
GOLDEN_CASES = {
    "map": "broadcasts",
    "map_over_two_axes": "transpose",
    "scalars": "scalars",
    "rows": "softmax of rows of 33",
    "rows_of_many_blocks": "sums of rows of 4097",
    "short_rows": "layer norm of short rows",
    "columns": "sums of columns of 4097",
    "columns_with_consumers": "argmax of columns of 40",
    "between_threads": "sum of a long vector",
    "scatter": "scatter add of rows",
}


@pytest.mark.parametrize("file", GOLDEN_CASES)
def test_golden(file: str, request: pytest.FixtureRequest) -> None:
    text = codegen.module_source(programs(CASES[GOLDEN_CASES[file]])["specialized"].kernels)
    path = GOLDEN / f"{file}.cu"
    if request.config.getoption("update_golden", default=False):
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == expected, f"{path.name} differs; if that is meant: pytest tests/backends/cuda --update-golden"


def test_launch_shape() -> None:
    def launches(name: str) -> list[codegen.Launch]:
        program = programs(CASES[name])["for any shape"]
        return [codegen.launch_shape(call.kernel, call.parameters) for call in program.calls]

    def launch(blocks: int, threads: int) -> codegen.Launch:
        return codegen.Launch((blocks, 1, 1), (threads, 1, 1))

    assert launches("gelu") == [launch(59, 256)]  # 15000 elements, a thread each
    assert launches("sums of rows of 33") == [launch(3, 256)]  # 17 rows, a warp each
    assert launches("sums of columns of 33") == [launch(2, 512)]  # 19 columns, 16 at a time
    assert launches("scalars") == [launch(1, 32)]
    assert launches("sum of a long vector") == [launch(3, 256), launch(1, 32)]  # 18 blocks, a warp each; then one row


def test_one_source_for_equal_kernels() -> None:
    program = programs(CASES["gelu"])["specialized"]
    source = codegen.module_source([*program.kernels, *program.kernels])
    assert source == codegen.module_source(program.kernels)


def test_other_dtypes_are_refused() -> None:
    kernel: Kernel = programs(CASES["gelu"])["specialized"].kernels[0]
    assert {buffer.dtype for buffer in kernel.buffers} == {float32}
    with pytest.raises(NotImplementedError, match="CUDA kernels do not compute with bf16"):
        codegen.instructions.element_type(bfloat16)
