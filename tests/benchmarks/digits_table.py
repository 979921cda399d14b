"""The demo's training, compared: see :mod:`.digits`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_process(python: str, name: str, cache: str) -> dict[str, Any] | None:
    """One process; ``None`` where the implementation is not installed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [python, "-m", "tests.benchmarks.digits", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr else 'failed'}", file=sys.stderr)
        return None
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(peers: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Medians over ``repeats`` rounds of all implementations in turn."""
    plan = [
        ("tracejit, eager", sys.executable, "tracejit", "warm"),
        ("tracejit, `@jit`, empty cache", sys.executable, "tracejit jit", "cold"),
        ("tracejit, `@jit`, warm cache", sys.executable, "tracejit jit", "warm"),
        ("PyTorch, eager", peers, "torch", "warm"),
        ("PyTorch, `torch.compile`", peers, "torch.compile", "warm"),
        ("JAX, `jax.jit`", peers, "jax.jit", "warm"),
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    missing: set[str] = set()
    with tempfile.TemporaryDirectory() as warm:
        run_process(sys.executable, "tracejit", warm)
        run_process(sys.executable, "tracejit jit", warm)
        for _ in range(repeats):
            for label, python, name, state in plan:
                if label in missing:
                    continue
                with tempfile.TemporaryDirectory() as cold:
                    result = run_process(python, name, warm if state == "warm" else cold)
                if result is None:
                    missing.add(label)
                else:
                    found.setdefault(label, []).append(result)
    return {
        label: {
            key: statistics.median(r[key] for r in results) for key in results[0] if isinstance(results[0][key], float)
        }
        for label, results in found.items()
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown, with ratios to eager PyTorch."""
    base = results.get("PyTorch, eager")
    lines = [
        "| | 30 epochs, compiling included | first step | one step | peak memory |",
        "|---|---|---|---|---|",
    ]
    for label, r in results.items():
        ratio = f" ({base['total_s'] / r['total_s']:.1f}×)" if base else ""
        step_ratio = f" ({base['step_s'] / r['step_s']:.1f}×)" if base else ""
        lines.append(
            f"| {label} | {r['total_s'] * 1e3:,.0f} ms{ratio} | {r['first_step_s'] * 1e3:,.0f} ms "
            f"| {r['step_s'] * 1e6:,.0f} µs{step_ratio} | {r['peak_mb']:,.0f} MB |"
        )
    return "\n".join(lines)


def run(peers: str, repeats: int) -> tuple[dict[str, dict[str, Any]], str]:
    results = measure(peers, repeats)
    return results, table(results)
