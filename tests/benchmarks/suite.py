"""Runs the workloads, each library and workload in processes of its own, and prints how the libraries compare.

Every pair runs twice: with empty caches, and with what the first run left in them.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .floor import floor_seconds
from .libraries import LIBRARIES
from .workloads import WORKLOADS, Workload

ROOT = Path(__file__).parents[2]
PEERS = ("numpy", "torch", "torch.compile", "jax")
TIMEOUT = 900
TOLERANCE = 2e-3  # of the results' sums, between libraries

Measured = dict[str, Any]


def environment(cache: str) -> dict[str, str]:
    """Where each library keeps what it compiles."""
    return {
        **os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": f"{cache}/tracejit",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torch", "JAX_COMPILATION_CACHE_DIR": f"{cache}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }  # fmt: skip


def run(python: str, library: str, workload: Workload, cache: str) -> Measured | None:
    """One process; ``None``, with the reason on stderr, where it fails."""
    command = [python, "-m", "tests.benchmarks.process", library, workload.name]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(cache), capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        print(f"{workload.name}, {library}: more than {TIMEOUT} s", file=sys.stderr)
        return None
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        print(f"{workload.name}, {library}: {reason}", file=sys.stderr)
        return None
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(python: str, library: str, workload: Workload) -> Measured | None:
    """Cold, then warm; the steady time is the better one."""
    with tempfile.TemporaryDirectory() as cache:
        cold = run(python, library, workload, cache)
        warm = run(python, library, workload, cache) if cold is not None else None
    if cold is None or warm is None:
        return None
    steady = min(cold["steady_s"], warm["steady_s"])
    return {**warm, "steady_s": steady, "first_s": cold["first_s"], "warm_s": warm["first_s"]}


def in_turn(workloads: Sequence[Workload], libraries: Sequence[str], python: str) -> Iterator[tuple[Workload, Any]]:
    """What the libraries measured of each workload, all in one process and with empty caches."""
    by_name = {workload.name: workload for workload in workloads}
    command = [python, "-m", "tests.benchmarks.process", ",".join(libraries), *by_name]
    with tempfile.TemporaryDirectory() as cache:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(cache), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for text in process.stdout:
            name, found = json.loads(text)
            yield by_name[name], found
        process.wait()


def selected(patterns: Sequence[str]) -> list[Workload]:
    return [w for w in WORKLOADS if not patterns or any(re.search(p, w.name) for p in patterns)]


def compare(workload: Workload, libraries: Iterable[str], peers_python: str) -> dict[str, Measured]:
    """What each library measured, by its name; tells on stderr where results differ."""
    found: dict[str, Measured] = {}
    for library in libraries:
        python = sys.executable if library.startswith("tracejit") else peers_python
        if workload.program_for(library) is not None and (measured := measure(python, library, workload)):
            found[library] = measured
    return checked(workload, found)


def checked(workload: Workload, found: dict[str, Measured]) -> dict[str, Measured]:
    """The same, without the samples of the results; tells where they differ."""
    samples = {library: measured.pop("sample") for library, measured in found.items()}
    for library, sample in samples.items():
        first = next(iter(samples.values()))
        if not all(math.isclose(x, y, rel_tol=TOLERANCE) for x, y in zip(first, sample, strict=True)):
            print(f"{workload.name}: {library} gives {sample}, {next(iter(samples))} {first}", file=sys.stderr)
    return found


def row(workload: Workload, found: dict[str, Measured]) -> Measured:
    """The comparison of one workload: of tracejit to the best peer, and to the floor."""
    ours = found.get("tracejit")
    peers = {library: measured for library, measured in found.items() if library in PEERS}
    result: Measured = {"workload": workload.name, "libraries": found}
    some = ours or next(iter(peers.values()), None)
    if some:
        result["floor_s"] = floor_seconds(workload.bytes or some["bytes"], workload.flops, some["bits"])
    if ours and peers:
        best = min(peers, key=lambda library: peers[library]["steady_s"])
        result |= {"best": best, "ratio": peers[best]["steady_s"] / ours["steady_s"]}
    if ours and "jax" in peers:
        result["first_ratio"] = peers["jax"]["first_s"] / ours["first_s"]
    return result


def duration(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def line(result: Measured) -> str:
    """A row of the Markdown table."""
    found, ours = result["libraries"], result["libraries"].get("tracejit")
    cells = [result["workload"], duration(ours["steady_s"]) if ours else "–"]
    cells += [duration(found[peer]["steady_s"]) if peer in found else "–" for peer in PEERS]
    cells.append(f"**{result['ratio']:.2f}×**" if "ratio" in result else "–")
    cells.append(f"{result['floor_s'] / ours['steady_s']:.0%}" if ours else "–")
    for key in ("first_s", "warm_s"):
        jax = f" ({duration(found['jax'][key])})" if key in found.get("jax", {}) else ""
        cells.append(f"{duration(ours[key])}{jax}" if ours and key in ours else "–")
    jax = f" ({found['jax']['peak_mb']:.0f})" if "peak_mb" in found.get("jax", {}) else ""
    cells.append(f"{ours['peak_mb']:.0f}{jax}" if ours and "peak_mb" in ours else "–")
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| workload | tracejit | NumPy | PyTorch | `torch.compile` | JAX | × best peer | of the floor "
    "| first call (JAX) | warm cache (JAX) | peak MB (JAX) |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def summary(results: Sequence[Measured]) -> str:
    ratios = [result["ratio"] for result in results if "ratio" in result]
    if not ratios:
        return ""
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    slower = [result["workload"] for result in results if result.get("ratio", 1) < 1]
    text = f"{mean:.2f}× the best peer in the geometric mean of {len(ratios)} workloads; slower in {len(slower)}"
    return f"{text}: {', '.join(slower)}." if slower else f"{text}."


def run_suite(
    patterns: Sequence[str], libraries: Sequence[str], peers_python: str, take_turns: bool = False
) -> list[Measured]:
    """The results; the lines of their table are printed as they come."""
    print(HEAD, flush=True)
    results = []
    pairs: Iterable[tuple[Workload, dict[str, Measured]]]
    if take_turns:
        found = in_turn(selected(patterns), libraries, peers_python)
        pairs = ((workload, checked(workload, measured)) for workload, measured in found)
    else:
        pairs = ((workload, compare(workload, libraries, peers_python)) for workload in selected(patterns))
    for workload, measured in pairs:
        results.append(row(workload, measured))
        print(line(results[-1]), flush=True)
    print(summary(results))
    return results


def table(results: Sequence[Measured]) -> str:
    """The table in Markdown, without columns that nothing was measured for."""
    rows = [text.strip("|").split("|") for text in (*HEAD.splitlines(), *map(line, results))]
    columns = [column for column in zip(*rows, strict=True) if {cell.strip() for cell in column[2:]} != {"–"}]
    lines = [f"|{'|'.join(cells)}|" for cells in zip(*columns, strict=True)]
    return "\n".join(lines)


__all__ = ["LIBRARIES", "run_suite", "summary", "table"]
