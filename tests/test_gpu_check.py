"""The command for machines with a GPU, on the simulated one."""

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NoReturn

import pytest

from . import gpu_check
from .backends.cuda.shim import shim
from .gpu_check import Check, Workload, main


@pytest.mark.skipif(bool(shim.why_unavailable()), reason=shim.why_unavailable() or "the shim is there")
def test_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--dry-run", "--only", "tracejit,cupy", "--budget", "400"]) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert [phase["phase"] for phase in found["phases"]] == ["tests", "floors", "tracejit", "cupy"]
    assert found["phases"][0]["result"].startswith("exit status 0: test_tensors: 1 passed")
    assert found["floors"].keys() == {"copy_GB/s", "float32_TFLOP/s", "float16_TFLOP/s"}
    ours = {row["workload"]: row for row in found["rows"] if row["library"] == "tracejit"}
    assert all(row["ok"] and row["us"] > 0 for row in ours.values())
    assert {"gelu and bias", "GPT-2 small, a step", "20 kernels on 1 MB"} <= ours.keys()
    table = (tmp_path / "results.md").read_text()
    assert table in capsys.readouterr().out + "\n"
    assert "| softmax of rows of 4096 |" in table
    assert "WRONG" not in table


def test_what_ends_a_process_ends_one_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: BaseException) -> Any:
        def program(*inputs: Any) -> NoReturn:
            raise error

        return lambda m: program

    def wait(library: Any, result: Any) -> Any:
        if result is None:
            raise RuntimeError("an illegal memory access was encountered")
        return result

    def run(command: list[str], **options: Any) -> CompletedProcess[str]:
        processes.append(command)
        try:
            status = gpu_check.run_library("cupy", Path(command[command.index("--out") + 1]), 1e12, dry=True)
        except SystemExit:
            status = -11
        return CompletedProcess(command, status, "", "")

    processes: list[list[str]] = []
    programs = {"ends": failing(SystemExit()), "breaks": failing(ValueError("no")), "runs": lambda m: m.exp}
    workloads = [Workload(name, ((3,),), ((3,),), program) for name, program in programs.items()]
    monkeypatch.setattr(gpu_check, "WORKLOADS", workloads)
    monkeypatch.setattr(gpu_check.Library, "wait", wait)
    check = Check(tmp_path, 100, dry=True, names=["cupy"])
    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    assert check.library("cupy", 50) == "done"
    assert [row.get("error", "") for row in check.found["rows"]] == ["exit status -11: ", "ValueError: no", ""]
    assert len(processes) == 3
