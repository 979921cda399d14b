"""The benchmarks run: one workload, of one library; what they measure is for people to read."""

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks import floor, report
from tests.benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parents[1]


def test_a_workload_is_measured_and_kept(tmp_path):
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps({"workloads": [{"workload": "GELU 1024", "libraries": {}}]}))
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "matmul 4×4×4", "--libraries", "tracejit"]
    done = subprocess.run([*command, "--json", str(figures)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| matmul 4×4×4 f32 |" in done.stdout, done.stderr
    assert "Floors: copied, 4 MiB" in done.stdout
    assert json.loads(figures.read_text())["workloads"][0]["workload"] == "GELU 1024"  # --write was not given


def test_summaries_count_what_is_slower():
    measured = {"steady_s": 1.0, "first_s": 0.1, "warm_s": 0.01, "peak_mb": 10.0}
    peer = {"steady_s": 2.0, "first_s": 0.5, "warm_s": 0.02, "peak_mb": 20.0}
    results = [
        {"workload": name, "libraries": {"tracejit": measured, "jax": peer}, "ratio": ratio, "floor_s": 0.5}
        for name, ratio in (("one", 2.0), ("two, training step", 0.5))
    ]
    text = report.summary(results)
    assert "1.00× the best peer in the geometric mean of 2 workloads; slower in 1: two, training step." in text
    assert "Training steps: 0.50×." in text
    assert "under a third of JAX's in 2 of 2" in text
    cells = "1 s | – | – | – | 2 s | – | **2.00×** | 50% | 100 ms (500 ms) | 10 ms (20 ms) | 10 (20)"
    assert report.line(results[0]) == f"| one | {cells} |"
    assert "torch" not in report.table(results)


def test_names_of_workloads_tell_them_apart():
    assert len({workload.name for workload in WORKLOADS}) == len(WORKLOADS)


def test_floors_are_what_the_slower_of_bytes_and_flops_takes():
    of_bytes = floor.floor_seconds(1 << 20, 1 << 20, 1, 0, 32)
    assert floor.floor_seconds(1 << 20, 1 << 20, 3, 0, 32) == 3 * of_bytes
    assert floor.floor_seconds(1 << 20, 1 << 20, 1, 1e12, 32) > of_bytes
