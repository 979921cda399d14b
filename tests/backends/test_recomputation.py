"""On devices, sums over columns compute what the kernel before them has not written."""

import numpy as np

from tests.backends.cuda.programs import CASES, programs
from tests.ir.random_graphs import same_bits
from tracejit.backends.cpu import runtime
from tracejit.backends.planning import plan
from tracejit.backends.program import KernelCall
from tracejit.ir.interpreter import interpret


def test_the_gradient_of_a_norm_writes_no_product() -> None:
    case = CASES["gradients of a layer norm"]
    program = programs(case)["specialized"]
    first, second = program.calls
    assert isinstance(first, KernelCall)
    assert isinstance(second, KernelCall)
    assert [buffer.written for buffer in second.kernel.buffers].count(True) == 2
    assert program.arena_bytes < 70 * 129 * 4  # no more than numbers of the rows are between the kernels
    inputs = case.inputs()
    on_host = plan(case.graph)
    assert len(on_host.calls) >= 2
    for found, expected in zip(runtime.Executable(program)(inputs), runtime.Executable(on_host)(inputs), strict=True):
        assert same_bits(found, expected)
    for found, expected in zip(runtime.Executable(program)(inputs), interpret(case.graph, inputs), strict=True):
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)
