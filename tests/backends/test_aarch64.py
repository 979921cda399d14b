"""The code generator serves other processors: what is compiled here for AArch64 is not run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

llvm = pytest.importorskip("llvmlite.binding")

from tests.backends.test_programs import PROGRAMS  # noqa: E402
from tracejit.backends.cpu import compiler, contraction, threads, walker  # noqa: E402
from tracejit.backends.cpu.target import Target, describe  # noqa: E402
from tracejit.backends.planning import plan  # noqa: E402
from tracejit.ir.parser import parse  # noqa: E402

TARGET = describe("aarch64-unknown-linux-gnu", "generic", {"neon": True})
FLOAT32 = np.dtype(np.float32)


@pytest.fixture(scope="module")
def machine() -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(TARGET.triple)
    except RuntimeError as error:
        pytest.skip(str(error))
    return target.create_target_machine(cpu=TARGET.cpu, features=TARGET.features, opt=2)


def functions(machine: Any, text: str) -> set[str]:
    """The functions of a module's object file."""
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    code = machine.emit_object(module)
    assert code[:4] == b"\x7fELF"
    assert int.from_bytes(code[18:20], "little") == 183  # the number of the architecture
    return {f.name for f in module.functions if not f.is_declaration and f.name.encode() in code}


MODULES: dict[str, Callable[[Target], str]] = {
    "tj_run": lambda target: walker.walker_module(),
    "tj_parallel_for": threads.pool_module,
    **{
        name: lambda target, name=name: contraction.contraction_module(FLOAT32, target, name)
        for name in (
            "dot_f32",
            "dot_stream_1_f32",
            "dot_columns_4_f32",
            "dot_windows_lhs_f32",
            "dot_windows_rhs_f32",
            "dot_windows_rhs_copied_f32",
        )
    },
}


@pytest.mark.parametrize("name", MODULES)
def test_what_programs_call(machine: Any, name: str) -> None:
    assert name in functions(machine, MODULES[name](TARGET))


@pytest.mark.parametrize("name", ["elements of views", "operands that lie across the result", "updates of a region"])
def test_kernels(machine: Any, name: str) -> None:
    kernels = plan(parse(f"func @f{PROGRAMS[name]}")).kernels
    assert {kernel.name for kernel in kernels} <= functions(machine, compiler.module_text(kernels))
