"""One workload of one library, timed: ``python -m tests.benchmarks.process LIBRARY WORKLOAD``; prints one line of JSON.

Importing the library and making the inputs are not counted.  With several libraries, ``numpy,torch``, all are measured
in this process, in turn: what else the machine does then hits all alike.  There is a line for each workload.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tracejit.backends.cpu.threads import available_processors

from .libraries import LIBRARIES
from .workloads import WORKLOADS, Workload

BATCH_SECONDS, BATCHES, MOST_SECONDS = 0.02, 25, 3.0
# Where libraries take turns; some leave threads that spin for a while.
TURN_SECONDS, TURNS, TURNS_SECONDS, LEAST_TURNS, PAUSE_SECONDS = 0.004, 25, 0.3, 3, 0.002


def timed(run: Any) -> float:
    """Seconds; of processor time where there is but one processor for all threads, whoever else wants it."""
    clock = time.process_time if available_processors() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def peak_megabytes() -> float:
    """The most memory that this process held; where the system tells, without what its parent did."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(workload: Workload, library: str) -> dict[str, Any]:
    m = LIBRARIES[library]()
    program = workload.program_for(library)
    assert program is not None, f"{library} has no program for {workload.name}"
    if library.startswith("tracejit"):
        import llvmlite.binding  # noqa: F401  (what jit loads at its first call)
    arrays = workload.arrays()
    inputs = [m.tensor(array) for array in arrays]
    step = program(m)
    results: list[Any] = []
    first = timed(lambda: results.append(m.wait(step(*inputs))))
    found = m.values(results[0])
    results.clear()
    if library == "tracejit":
        m.settle()
    once = min(timed(lambda: m.wait(step(*inputs))) for _ in range(2))
    count = max(1, round(BATCH_SECONDS / once))

    def batch() -> None:
        for _ in range(count):
            result = step(*inputs)
        m.wait(result)

    batches = max(3, min(BATCHES, round(MOST_SECONDS / max(once, BATCH_SECONDS))))
    times = sorted(timed(batch) / count for _ in range(batches))
    return {
        "first_s": first,
        "steady_s": times[len(times) // 4],
        "median_s": statistics.median(times),
        "peak_mb": peak_megabytes(),
        "sample": [float(np.abs(array[np.isfinite(array)]).astype(np.float64).sum()) for array in found],
        "bytes": sum(array.nbytes for array in (*arrays, *found)),
        "bits": 8 * found[0].dtype.itemsize,
    }


def measure_in_turn(workload: Workload, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The first call of each library, then short turns of all of them; the time is that of one of the fastest."""
    arrays = workload.arrays()
    calls: dict[str, Callable[[], Any]] = {}
    measured: dict[str, dict[str, Any]] = {}
    for name in names:
        program = workload.program_for(name)
        if program is None:
            continue
        m = _library(name)
        inputs, step = [m.tensor(array) for array in arrays], program(m)

        def call(m: Any = m, step: Any = step, inputs: Sequence[Any] = inputs) -> Any:
            return m.wait(step(*inputs))

        results: list[Any] = []
        try:
            first = timed(lambda results=results, call=call: results.append(call()))
            found = m.values(results.pop())
        except Exception as error:
            print(f"{workload.name}, {name}: {error}", file=sys.stderr)
            continue
        if name == "tracejit":
            m.settle()
        calls[name] = call
        measured[name] = {
            "first_s": first,
            "sample": [float(np.abs(array[np.isfinite(array)]).astype(np.float64).sum()) for array in found],
            "bytes": sum(array.nbytes for array in (*arrays, *found)),
            "bits": 8 * found[0].dtype.itemsize,
        }
    once = {name: min(timed(call) for _ in range(2)) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    for _ in range(TURNS):
        for name, call in calls.items():
            if spent[name] > TURNS_SECONDS and len(times[name]) >= LEAST_TURNS:
                continue
            count = max(1, round(TURN_SECONDS / once[name]))
            time.sleep(PAUSE_SECONDS)
            if once[name] < TURN_SECONDS:
                call()
            elapsed = timed(lambda count=count, call=call: [call() for _ in range(count)])
            times[name].append(elapsed / count)
            spent[name] += elapsed
    for name, found in times.items():
        measured[name] |= {"steady_s": sorted(found)[len(found) // 10], "median_s": statistics.median(found)}
    return measured


@cache
def _library(name: str) -> Any:
    if name.startswith("tracejit"):
        import llvmlite.binding  # noqa: F401  (what jit loads at its first call)
    return LIBRARIES[name]()


if __name__ == "__main__":
    names, *wanted = sys.argv[1:]
    for workload in [w for w in WORKLOADS if w.name in wanted]:
        if "," in names:
            print(json.dumps([workload.name, measure_in_turn(workload, names.split(","))]), flush=True)
        else:
            print(json.dumps(measure(workload, names)))
