"""Runs the benchmarks, each implementation in processes of its own and in turn, and prints a table.

``python -m tests.benchmarks --peers PYTHON`` measures the peers with another interpreter (one that has
torch and jax installed); ``--write`` puts the table into the README and the figures into ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARKERS = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def run(python: str, name: str, cache: str) -> dict[str, Any] | None:
    """One process; ``None`` where the implementation is not installed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [python, "-m", "tests.benchmarks.digits", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr else 'failed'}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


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
        run(sys.executable, "tracejit", warm)
        run(sys.executable, "tracejit jit", warm)
        for _ in range(repeats):
            for label, python, name, state in plan:
                if label in missing:
                    continue
                with tempfile.TemporaryDirectory() as cold:
                    result = run(python, name, warm if state == "warm" else cold)
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


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has torch and jax")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="update README.md and results.json")
    options = parser.parse_args()
    results = measure(options.peers, options.repeats)
    text = table(results)
    print(text)
    if options.write:
        machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        (Path(__file__).parent / "results.json").write_text(
            json.dumps({"machine": machine, "digits": results}, indent=1) + "\n"
        )
        readme = ROOT / "README.md"
        before, rest = readme.read_text().split(MARKERS[0])
        after = rest.split(MARKERS[1])[1]
        note = f"Medians of {options.repeats} runs on {machine}; × is against eager PyTorch."
        readme.write_text(f"{before}{MARKERS[0]}\n{text}\n\n{note}\n{MARKERS[1]}{after}")


if __name__ == "__main__":
    main()
