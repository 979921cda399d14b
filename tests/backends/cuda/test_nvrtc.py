"""NVRTC compiles every kernel for two generations of GPUs, without spilling registers to memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracejit.backends.cuda import codegen, nvrtc
from tracejit.backends.kernel import Kernel

from .programs import CASES, kernels, programs


def why_unavailable() -> str:
    try:
        nvrtc.compile_to_ptx("")
    except nvrtc.NotAvailable as error:
        return str(error)
    return ""


needs_nvrtc = pytest.mark.skipif(bool(why_unavailable()), reason=why_unavailable() or "NVRTC is there")


def batches(count: int) -> Iterator[list[Kernel]]:
    """All kernels of all cases, in so many parts: a module costs more than a kernel in it."""
    distinct = {kernel.name: kernel for case in CASES.values() for kernel in kernels(case)}
    for first in range(count):
        yield list(distinct.values())[first::count]


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_kernel_compiles_without_spills(arch: str) -> None:
    def compile(batch: list[Kernel]) -> list[nvrtc.KernelReport]:
        cubin, reports = nvrtc.compile_to_cubin(codegen.module_source(batch), arch)
        assert cubin.startswith(b"\x7fELF")
        assert {report.name for report in reports} == {kernel.name for kernel in batch}
        return reports

    with ThreadPoolExecutor(2) as pool:
        reports = [report for part in pool.map(compile, batches(8)) for report in part]
    assert [report for report in reports if report.stack_bytes or report.spill_bytes] == []
    assert max(report.registers for report in reports) <= 128
    assert max(report.shared_bytes for report in reports) <= 48 << 10


@needs_nvrtc
def test_ptx() -> None:
    (kernel,) = programs(CASES["softmax of rows of 33"])["specialized"].kernels
    ptx = nvrtc.compile_to_ptx(codegen.module_source([kernel]))
    assert f".entry {kernel.name}(" in ptx
    assert "div.rn.f32" in ptx
    assert "approx" not in ptx
    assert ".ftz" not in ptx


@needs_nvrtc
def test_products_and_sums_are_not_contracted() -> None:
    kernel = """
extern "C" __global__ void k(const float *x, float *y) { y[0] = x[0] * x[1] + x[2]; y[1] = fmaf(x[0], x[1], x[2]); }"""
    ptx = nvrtc.compile_to_ptx(kernel)
    assert ptx.count("fma.rn.f32") == 1
    assert ptx.count("mul.rn.f32") == ptx.count("add.rn.f32") == 1


@needs_nvrtc
def test_errors_hold_the_log() -> None:
    with pytest.raises(nvrtc.CompileError, match=r'kernels.cu\(1\): error: .*"y"'):
        nvrtc.compile_to_cubin('extern "C" __global__ void k(float *x) { x[0] = y; }')


def test_reports_of_the_assembler() -> None:
    log = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'b' for 'sm_90'
ptxas info    : Function properties for b
    8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 4488 bytes smem
ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas info    : Function properties for a
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers
"""
    expected = [nvrtc.KernelReport("b", 40, 4488, 8, 16), nvrtc.KernelReport("a", 12, 0, 0, 0)]
    assert nvrtc._reports(log) == expected


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_candidates", lambda: iter(["/nowhere/libnvrtc.so.13"]))
    nvrtc._library.cache_clear()
    try:
        with pytest.raises(nvrtc.NotAvailable, match=r"pip install 'tracejit\[nvrtc\]'"):
            nvrtc.compile_to_ptx("")
    finally:
        nvrtc._library.cache_clear()
