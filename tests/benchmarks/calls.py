"""What calls cost beside the work: of compiled functions on small arrays, and the first one in a new process.

``python -m tests.benchmarks.calls`` measures the steady calls of all libraries in one process, in turns, and prints a
line of JSON; ``… first LIBRARY PROGRAM`` measures a first call.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from .libraries import LIBRARIES
from .workers import environment
from .workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
COLUMNS = {
    "numpy": "NumPy", "tracejit, eager": "tracejit", "tracejit": "tracejit, `@jit`", "torch": "PyTorch",
    "torch.compile": "`torch.compile`", "jax": "`jax.jit`",
}  # fmt: skip
COMPILING = ("tracejit", "torch.compile", "jax")
ROUNDS, SECONDS = 200, 0.001  # so short that on a busy machine too some round is not interrupted
Make = Callable[[Any], Callable[[], Any] | None]


def _array(m: Any, *shape: int) -> Any:
    return m.tensor(np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32))


def _addition(m: Any) -> Callable[[], Any]:
    f, x, y = m.compile(m.add), _array(m, 4), _array(m, 4)
    return lambda: f(x, y)


def _of_a_matrix(function: Callable[[Any], Any]) -> Make:
    def make(m: Any) -> Callable[[], Any]:
        f, x = m.compile(function), _array(m, 8, 8)
        return lambda: f(x)

    return make


def _chain(m: Any) -> Callable[[], Any]:
    def ten(x: Any) -> Any:
        for _ in range(5):
            x = x * 1.5 + 0.5
        return x

    f, x = m.compile(ten), _array(m, 16)
    return lambda: f(x)


def _parameters(m: Any) -> Callable[[], Any]:
    f = m.compile(lambda parameters, x, y: x * y + parameters["p7"])
    parameters, x, y = {f"p{n}": _array(m, 4) for n in range(50)}, _array(m, 4), _array(m, 4)
    return lambda: f(parameters, x, y)


def _branch(m: Any) -> Callable[[], Any] | None:
    if m.name == "jax":
        return None  # a value cannot decide
    f, x = m.compile(lambda x: x * 2 if x.sum() > 0 else x - 1), _array(m, 4)
    return lambda: f(x)


def _recorded(m: Any) -> Callable[[], Any] | None:
    if m.name in ("jax", "numpy"):
        return None  # which record nothing
    w = _array(m, 4).requires_grad_()
    f, x = m.compile(lambda x: (x * w).sum()), _array(m, 4)
    return lambda: f(x)


CALLS: dict[str, Make] = {
    "`x + y`, 4 numbers": _addition,
    "`x.sum()`, 8×8 numbers": _of_a_matrix(lambda x: x.sum()),
    "`x @ x`, 8×8 numbers": _of_a_matrix(lambda x: x @ x),
    "`x[1]`, 8×8 numbers": _of_a_matrix(lambda x: x[1]),
    "10 operations in a row, 16 numbers": _chain,
    "a dict of 50 arrays and 2 arrays, 2 operations": _parameters,
    "a branch that a value decides": _branch,
    "2 operations that `backward()` can go through": _recorded,
}


def _timed(call: Callable[[], Any], count: int, wait: Callable[[Any], Any]) -> float:
    times = repeat(None, count)
    start = time.perf_counter()
    for _ in times:
        result = call()
    wait(result)
    return (time.perf_counter() - start) / count


def _count(call: Callable[[], Any], wait: Callable[[Any], Any]) -> int:
    """How many calls make a round."""
    return max(1, round(SECONDS / min(_timed(call, 64, wait) for _ in range(20))))


def steady() -> dict[str, dict[str, float]]:
    """Seconds a call in the best round, by what is called and by library; the libraries take turns."""
    libraries: dict[str, Any] = {}
    for name in COLUMNS:
        try:
            libraries[name] = LIBRARIES[name]()
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
    found: dict[str, dict[str, float]] = {}
    for title, make in CALLS.items():
        calls = {name: call for name, m in libraries.items() if (call := make(m)) is not None}
        for name, call in calls.items():
            for _ in range(64):
                call()
            if name.startswith("tracejit"):
                for _ in range(2):
                    libraries[name].settle()
                    for _ in range(256):
                        call()
                libraries[name].settle()
        counts = {name: _count(call, libraries[name].wait) for name, call in calls.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                times[name].append(_timed(call, counts[name], libraries[name].wait))
        found[title] = {name: min(seconds) for name, seconds in times.items()}
    return found


# First calls ----------------------------------------------------------------------------------------

PROGRAMS = ("GELU 1024", "MLP, training step", "GPT 4×128, training step")


def first(library: str, program: str) -> float:
    """Seconds of the first call, with all that it loads but the library itself."""
    m = LIBRARIES[library]()
    workload = next(w for w in WORKLOADS if w.name == program)
    make = workload.program_for(library)
    assert make is not None
    inputs = [m.tensor(array) for array in workload.arrays()]
    step = make(m)
    start = time.perf_counter()
    m.wait(step(*inputs))
    return time.perf_counter() - start


def first_calls(peers: str, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds by program, and by library with an empty cache (``cold``) and with what a process has left (``warm``)."""
    found: dict[str, dict[str, float]] = {}
    for program in PROGRAMS:
        for library in COMPILING:
            python = sys.executable if library == "tracejit" else peers
            with tempfile.TemporaryDirectory() as cache:
                command = [python, "-m", "tests.benchmarks.calls", "first", library, program]
                variables = environment(cache)
                times: list[float] = []
                for _ in range(1 + repeats):
                    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
                    if done.returncode:
                        break
                    times.append(json.loads(done.stdout.splitlines()[-1]))
            if len(times) > 1:
                of_program = found.setdefault(program, {})
                of_program[f"{library} cold"], of_program[f"{library} warm"] = times[0], statistics.median(times[1:])
    return found


# The tables -----------------------------------------------------------------------------------------


def run(peers: str, repeats: int) -> tuple[dict[str, Any], str]:
    """The figures, and tables of them as Markdown."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [peers, "-m", "tests.benchmarks.calls"]
    done = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    calls = json.loads(done.stdout.splitlines()[-1])
    starts = first_calls(peers, repeats)
    return {"steady_s": calls, "first_s": starts}, tables(calls, starts)


def tables(calls: dict[str, dict[str, float]], starts: dict[str, dict[str, float]]) -> str:
    """Both tables, as Markdown."""
    columns = {name: title for name, title in COLUMNS.items() if any(name in row for row in calls.values())}
    lines = [f"| a call | {' | '.join(columns.values())} |", f"|---|{'---|' * len(columns)}"]
    for title, row in calls.items():
        cells = [f"{row[name] * 1e9:,.0f} ns" if name in row else "–" for name in columns]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    compiling = [name for name in COMPILING if any(f"{name} cold" in row for row in starts.values())]
    titles = [f"{COLUMNS[name]}, {cache}" for name in compiling for cache in ("empty cache", "warm cache")]
    if not compiling:
        return "\n".join(lines)
    lines += ["", f"| the first call in a process | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for title, row in starts.items():
        keys = [f"{name} {state}" for name in compiling for state in ("cold", "warm")]
        cells = [f"{row[key] * 1e3:,.0f} ms" if key in row else "–" for key in keys]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(first(*sys.argv[2:]) if sys.argv[1:2] == ["first"] else steady()))
