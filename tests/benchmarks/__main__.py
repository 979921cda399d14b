"""Compares with peers, each implementation in processes of its own: ``python -m tests.benchmarks``.

Without arguments everything is measured: the demo's training and all workloads.  ``--peers PYTHON`` names an
interpreter that has torch, jax and scipy, ``--write`` puts the tables into ``results.md``, a part of them into the
README, and the figures into ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import textwrap
from pathlib import Path

from tracejit.backends.cpu.threads import available_processors

from . import calls, digits_table
from .suite import LIBRARIES, run_suite, summary, table

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
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="regular expressions: only workloads with such names, not the demo")
    parser.add_argument("--peers", default=sys.executable, help="a Python that has torch, jax and scipy")
    parser.add_argument("--libraries", nargs="+", default=["tracejit", "numpy", "torch", "torch.compile", "jax"],
                        choices=LIBRARIES)  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5, help="of the demo's training")
    parser.add_argument("--in-turn", action="store_true",
                        help="all libraries in one process, in turn: for a machine that is not at rest, best on one "
                             "of its processors (taskset -c 0), where processor time is counted")  # fmt: skip
    parser.add_argument("--calls", action="store_true", help="only what calls cost beside the work")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--write", action="store_true", help="update README.md, results.md and results.json")
    options = parser.parse_args()
    figures: dict[str, object] = {
        "machine": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    }
    if options.calls or not options.patterns:
        figures["calls"], text = calls.run(options.peers, options.repeats)
        print(f"{text}\n")
        if options.write:
            rounds = f"Calls in the best of {calls.ROUNDS} rounds, medians of {options.repeats} first calls"
            note = f"{rounds}, on {figures['machine']}."
            _put_into_readme(MARKERS_OF_CALLS, [text, note])
    if options.calls:
        return
    texts = []
    if not options.patterns:
        figures["digits"], text = digits_table.run(options.peers, options.repeats)
        note = f"Medians of {options.repeats} runs on {figures['machine']}; × is against eager PyTorch."
        texts += [text, note]
        print(f"{text}\n")
    results = run_suite(options.patterns, options.libraries, options.peers, options.in_turn)
    figures["workloads"] = results
    if options.json or options.write:
        (options.json or RESULTS).write_text(json.dumps(figures, indent=1) + "\n")
    if options.write:
        how = _how(options)
        FULL.write_text("\n\n".join(["# Workloads", table(results), *map(_wrapped, [summary(results), how])]) + "\n")
        shown = table([result for result in results if result["workload"] in SHOWN])
        more = "All workloads: [tests/benchmarks/results.md](tests/benchmarks/results.md)."
        _put_into_readme(MARKERS, [*texts, shown, summary(results), f"{how} {more}"])


def _how(options: argparse.Namespace) -> str:
    """How the workloads were measured."""
    cores = available_processors()
    clock = "processor time on one core" if cores == 1 else f"{cores} cores"
    machine = f"{processor()}, {clock}, Python {platform.python_version()}"
    floor = (
        '"Of the floor" is the time that the bytes or the arithmetic need at the least, in parts of tracejit\'s; '
        "small and serial work is far from it."
    )
    if options.in_turn:
        return (
            f"On {machine}, all libraries in one process, in turn (`python -m tests.benchmarks --in-turn`); the "
            f"first call finds what the workloads before it have left. {floor}"
        )
    return (
        f"On {machine}, each library and workload in processes of its own (`python -m tests.benchmarks`); the first "
        f"call is with empty caches. {floor}"
    )


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
