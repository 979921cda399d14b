"""The command for machines with a GPU, on the simulated one."""

import json
from pathlib import Path

import pytest

from .backends.cuda.shim import shim
from .gpu_check import main


@pytest.mark.skipif(bool(shim.why_unavailable()), reason=shim.why_unavailable() or "the shim is there")
def test_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--dry-run", "--only", "tracejit,cupy", "--budget", "400"]) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert [phase["phase"] for phase in found["phases"]] == ["tests", "floors", "tracejit", "cupy"]
    assert found["phases"][0]["result"].startswith("exit status 0: 1 passed")
    assert found["floors"].keys() == {"copy_GB/s", "float32_TFLOP/s", "float16_TFLOP/s"}
    ours = {row["workload"]: row for row in found["rows"] if row["library"] == "tracejit"}
    assert all(row["ok"] and row["us"] > 0 for row in ours.values())
    assert {"gelu and bias", "GPT-2 small, a step", "20 kernels on 1 MB"} <= ours.keys()
    table = (tmp_path / "results.md").read_text()
    assert table in capsys.readouterr().out + "\n"
    assert "| softmax of rows of 4096 |" in table
    assert "WRONG" not in table
