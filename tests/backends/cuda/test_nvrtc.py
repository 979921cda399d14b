"""NVRTC compiles every kernel for two generations of GPUs, without spilling registers to memory."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tracejit as tj
from tracejit.backends.cuda import codegen, cubins, libraries, nvrtc
from tracejit.backends.cuda.codegen import Entry
from tracejit.backends.cuda.executable import entries
from tracejit.ir.types import bfloat16, float32, float64

from .programs import CASES, entries_of, programs


def why_unavailable() -> str:
    try:
        nvrtc.compile_to_ptx("")
    except nvrtc.NotAvailable as error:
        return str(error)
    return ""


needs_nvrtc = pytest.mark.skipif(bool(why_unavailable()), reason=why_unavailable() or "NVRTC is there")


def batches(count: int) -> Iterator[list[Entry]]:
    """All functions of all cases, in so many parts: a module costs more than a function in it."""
    distinct = {entry.name: entry for case in CASES.values() for entry in entries_of(case)}
    distinct |= {entry.name: entry for entry in map(libraries.copy_entry, (float32, float64, bfloat16))}
    for first in range(count):
        yield list(distinct.values())[first::count]


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_kernel_compiles_without_spills(arch: str) -> None:
    def compile(batch: list[Entry]) -> list[nvrtc.KernelReport]:
        cubin, reports = nvrtc.compile_to_cubin(codegen.module_source(batch), arch)
        assert cubin.startswith(b"\x7fELF")
        assert {report.name for report in reports} == {entry.name for entry in batch}
        return reports

    with ThreadPoolExecutor(2) as pool:
        reports = [report for part in pool.map(compile, batches(8)) for report in part]
    assert [report for report in reports if report.stack_bytes or report.spill_bytes] == []
    assert max(report.registers for report in reports) <= 128
    assert max(report.shared_bytes for report in reports) <= 48 << 10


@needs_nvrtc
def test_ptx() -> None:
    (entry,) = entries(programs(CASES["softmax of rows of 33"])["specialized"])
    ptx = nvrtc.compile_to_ptx(codegen.module_source([entry]))
    assert f".entry {entry.name}(" in ptx
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


# Machine code that is kept -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and nothing known in memory."""
    monkeypatch.setattr(cubins.disk, "directory", lambda: tmp_path)
    cubins.forget()
    yield tmp_path
    cubins.forget()


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The architectures of the modules that are compiled from here on, by a compiler that takes no time."""
    compiled: list[str] = []

    def compile(source: str, arch: str) -> tuple[bytes, list[nvrtc.KernelReport]]:
        compiled.append(arch)
        return f"{arch} {source}".encode(), []

    monkeypatch.setattr(nvrtc, "compile_to_cubin", compile)
    return compiled


def test_a_kernel_is_compiled_once_for_an_architecture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = counting(monkeypatch)
    first = list(
        {e.name: e for name in ("gelu", "softmax of rows of 33", "scalars") for e in entries_of(CASES[name])}.values()
    )
    found = cubins.compile_entries(first, "sm_90")
    assert compiled == ["sm_90"]
    assert all(f"{entry.name}(".encode() in found[entry.name] for entry in first)
    cubins.compile_entries(first[::-1], "sm_90")
    cubins.forget()
    assert cubins.compile_entries(first[1:], "sm_90") == {e.name: found[e.name] for e in first[1:]}
    assert compiled == ["sm_90"]
    cubins.compile_entries(first, "sm_80")
    assert compiled == ["sm_90", "sm_80"]
    for path in folder.iterdir():  # damaged entries are compiled anew
        path.write_bytes(path.read_bytes()[:-1])
    cubins.forget()
    assert cubins.compile_entries(first, "sm_90") == found
    assert compiled == ["sm_90", "sm_80", "sm_90"]


def test_many_kernels_share_few_modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = counting(monkeypatch)
    distinct = list({e.name: e for case in list(CASES.values())[:40] for e in entries_of(case)}.values())
    cubins.compile_entries(distinct, "sm_90")
    assert len(compiled) == -(-len(distinct) // cubins.TOGETHER)


@needs_nvrtc
def test_precompile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tj.nn.Linear(8, 4)

    @tj.jit
    def f(x: tj.Tensor, scale: float) -> tj.Tensor:
        return tj.softmax(model(x) * scale, -1).sum(0)

    reports = tj.precompile(f, [("f32[16, 8]", 0.5), (tj.ones(3, 8), 0.5)], arch="sm_90")
    assert any("reduce_max" in report.name for report in reports)  # of the function, and more of its gradient
    assert all(report.registers > 0 and report.spill_bytes == 0 for report in reports)
    assert list(folder.iterdir()) != []
    cubins.forget()
    monkeypatch.setattr(nvrtc, "compile_to_cubin", lambda *_: pytest.fail("it was compiled again"))
    codes = [code for x in (tj.zeros(16, 8), tj.ones(3, 8)) for code in f.codes((x, 0.5), {})]
    needed = [entry for code in codes for entry in entries(code.planned(host=False))]
    assert all(code.startswith(b"\x7fELF") for code in cubins.compile_entries(needed, "sm_90").values())
    with pytest.raises(TypeError, match="expected a jitted function, got function"):
        tj.precompile(lambda x: x, [])  # type: ignore[arg-type]


def test_precompile_chooses_as_on_a_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEJIT_CACHE_DIR", str(folder))
    attend = tj.jit(lambda q: tj.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True))
    q = tj.ones(1, 2, 16, 16, dtype=tj.bfloat16)
    attend(q)  # on the CPU it is a chain of operations
    (report,) = tj.precompile(attend, [(q,)], arch="sm_90")
    assert "attention" in report.name
    assert "= attention" not in attend.ir(q)


@needs_nvrtc
def test_what_kernels_take_is_shown() -> None:
    text = tj.jit(lambda x: tj.softmax(x, -1)).ir(tj.ones(3, 100), stage="cuda")
    assert re.search(r"^// \d+ registers, \d+ bytes shared, 0 bytes spilled$", text, re.MULTILINE)
    assert text.index("registers,") < text.index("__global__")
