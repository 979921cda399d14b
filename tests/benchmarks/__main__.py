"""Compares with peers, each library in processes of its own: ``python -m tests.benchmarks``.

Without arguments everything is measured: the demo's training, calls, and all workloads.  ``--peers PYTHON`` names an
interpreter that has torch, jax and scipy, ``--numba PYTHON`` one that has Numba.  ``--write`` puts the figures into
``results.json`` and the tables into ``results.md`` and, in part, the README.  ``--only`` measures a part, by regular
expressions, and keeps what the file has of the rest; what an interrupted run has measured is kept, too.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import textwrap
from pathlib import Path
from typing import Any

from tracejit.backends.cpu.threads import available_processors

from . import calls, digits_table
from .floor import floors
from .libraries import LIBRARIES
from .report import HEAD, floors_text, line, summary, table
from .suite import run_suite
from .workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results.json"
FULL = Path(__file__).parent / "results.md"
# The workloads that the README shows.
SHOWN = (
    "GELU 1048576", "Black-Scholes 1M", "softmax 4096×1024", "layer norm 4096×1024", "sum of columns 4096×4096",
    "heat 1024², 10 steps", "matmul 64×64×64 f32", "matmul 1024×1024×1024 f32", "convolution 3×3, 64 channels",
    "attention, causal, 8 heads, 512 tokens", "MLP, training step", "CNN, training step",
    "LSTM 200 steps, training step", "GPT 4×128, training step", "n-body 512 f64", "Newton, while loop, 1k",
)  # fmt: skip
MARKERS = "<!-- benchmarks -->", "<!-- /benchmarks -->"
MARKERS_OF_CALLS = "<!-- calls -->", "<!-- /calls -->"


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
    options = _options()
    figures: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    figures["machine"] = f"{processor()}, {available_processors()} cores, Python {platform.python_version()}"

    def keep() -> None:
        if options.write:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")

    if options.calls or not options.only:
        figures["calls"], text = calls.run(options.peers, options.repeats)
        print(f"{text}\n")
        keep()
        if options.write:
            rounds = f"Calls in the best of {calls.ROUNDS} rounds, medians of {options.repeats} first calls"
            _put_into_readme(MARKERS_OF_CALLS, [text, f"{rounds}, on {figures['machine']}."])
    if options.calls:
        return
    if not options.only:
        figures["digits"], text = digits_table.run(options.peers, options.repeats)
        print(f"{text}\n")
        keep()
    figures["floors"] = floors()
    pythons = {name: _python(name, options) for name in options.libraries}
    kept = {result["workload"]: result for result in figures.get("workloads", [])}
    print(HEAD, flush=True)
    measured = []
    for result in run_suite(options.only, pythons):
        print(line(result), flush=True)
        measured.append(result)
        kept[result["workload"]] = result
        figures["workloads"] = [kept[w.name] for w in WORKLOADS if w.name in kept]
        keep()
    print(f"{summary(measured)}\n{floors_text(figures['floors'])}")
    if options.write:
        _write_tables(figures, options.repeats)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="only workloads with such names")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="one that has torch, jax and scipy")
    parser.add_argument("--numba", metavar="PYTHON", help="one that has Numba; without it, Numba is not measured")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES,
                        default=["tracejit", "numpy", "torch", "torch.compile", "jax", "numba"])  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3, help="of the demo's training")
    parser.add_argument("--calls", action="store_true", help="only what calls cost beside the work")
    parser.add_argument("--json", type=Path, default=RESULTS, help="the file of the figures")
    parser.add_argument("--write", action="store_true", help="update it, results.md and README.md")
    options = parser.parse_args()
    if not options.numba:
        options.libraries = [name for name in options.libraries if name != "numba"]
    return options


def _python(library: str, options: argparse.Namespace) -> str:
    if library.startswith("tracejit"):
        return sys.executable
    return options.numba if library == "numba" else options.peers


def _write_tables(figures: dict[str, Any], repeats: int) -> None:
    results = figures["workloads"]
    how = (
        f"On {figures['machine']}, each library in a process of its own, in turn (`python -m tests.benchmarks`); of "
        "tracejit and JAX there is a new one for each workload, with empty caches for the first call, and another "
        'with warm ones. "Of the floor" is the time that the bytes or the arithmetic need at the least, in parts of '
        "tracejit's; small and serial work is far from it. Memory is the peak of the process beyond the library's "
        f"import. {floors_text(figures['floors'])}"
    )
    FULL.write_text("\n\n".join(["# Workloads", table(results), *map(_wrapped, [summary(results), how])]) + "\n")
    note = f"Medians of {repeats} runs on {figures['machine']}; × is against eager PyTorch."
    shown = table([result for result in results if result["workload"] in SHOWN])
    more = f"{how} All workloads: [tests/benchmarks/results.md](tests/benchmarks/results.md)."
    _put_into_readme(MARKERS, [digits_table.table(figures["digits"]), note, shown, summary(results), more])


def _put_into_readme(markers: tuple[str, str], texts: list[str]) -> None:
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(markers[0])
    after = rest.split(markers[1])[1]
    readme.write_text("\n\n".join([before + markers[0], *map(_wrapped, texts), markers[1] + after]))


def _wrapped(text: str) -> str:
    """Prose in lines of the README's width; a table as it is."""
    return text if text.startswith("|") else textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
