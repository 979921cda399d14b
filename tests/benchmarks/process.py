"""One workload of one library, timed: ``python -m tests.benchmarks.process LIBRARY WORKLOAD``; prints one line of JSON.

Importing the library and making the inputs are not counted.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .libraries import LIBRARIES
from .workloads import WORKLOADS, Workload

BATCH_SECONDS, BATCHES, MOST_SECONDS = 0.02, 25, 3.0


def timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


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
        "sample": [float(np.abs(array[np.isfinite(array)].astype(np.float64)).sum()) for array in found],
        "bytes": sum(array.nbytes for array in (*arrays, *found)),
        "bits": 8 * found[0].dtype.itemsize,
    }


if __name__ == "__main__":
    name, wanted = sys.argv[1:]
    print(json.dumps(measure(next(w for w in WORKLOADS if w.name == wanted), name)))
