"""A worker: the workloads of one library in this process, on demand: ``python -m tests.benchmarks.process LIBRARY``.

Each line of its input is a command, each line of its output the answer in JSON: ``start WORKLOAD`` makes the inputs and
calls once, ``turn`` times some calls of the workload last started, ``peak`` tells the most memory that it has held.
Importing the library and making the inputs are not counted.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tracejit.backends.cpu.threads import available_processors

from .libraries import LIBRARIES
from .workloads import WORKLOADS

TURN_SECONDS, WARM_UP_SECONDS = 0.004, 0.02
PAUSE_SECONDS, REST_SECONDS = 0.01, 0.3  # between looks whether threads still spin; the longest rest
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def timed(run: Callable[[], Any]) -> float:
    """Seconds; of processor time where there is but one processor for all threads, whoever else wants it."""
    clock = time.process_time if available_processors() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def memory(field: str) -> float:
    """Megabytes: ``VmRSS``, what is held now, or ``VmHWM``, the most since :func:`forget_peak`."""
    try:
        status = STATUS.read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def forget_peak() -> None:
    """Let the peak be what is held now, where the system can."""
    with suppress(OSError):
        CLEAR.write_text("5")


class Worker:
    def __init__(self, library: str) -> None:
        self.library = library
        self.m = LIBRARIES[library]()
        if library.startswith("tracejit"):
            import llvmlite.binding  # noqa: F401  (what jit loads at its first call)
        self.call: Callable[[], Any] = lambda: None
        self.once, self.imported = 0.0, memory("VmRSS")

    def start(self, name: str) -> dict[str, Any]:
        self.call = lambda: None
        m, workload = self.m, next(w for w in WORKLOADS if w.name == name)
        m.forget()
        program = workload.program_for(self.library)
        assert program is not None, f"{self.library} has no program for {name}"
        arrays = workload.arrays()
        read = sum(array.nbytes for array in arrays)
        inputs, step = [m.tensor(array) for array in arrays], program(m)
        del arrays
        forget_peak()
        self.call = lambda: m.wait(step(*inputs))
        results: list[Any] = []
        first = timed(lambda: results.append(self.call()))
        found = m.values(results.pop())
        facts = {
            "first_s": first,
            "sample": [float(np.abs(array[np.isfinite(array)]).astype(np.float64).sum()) for array in found],
            "read": read,
            "written": sum(array.nbytes for array in found),
            "bits": 8 * found[0].dtype.itemsize,
        }
        del found
        self._warm_up()
        return facts

    def _warm_up(self) -> None:
        """Call until nothing more is compiled: some only compile what is called again."""
        for _ in range(3):
            self.m.settle()
            start = time.perf_counter()
            while time.perf_counter() - start < WARM_UP_SECONDS:
                self.once = timed(self.call)
        self.once = min(timed(self.call) for _ in range(2))

    def turn(self) -> float:
        """Seconds a call."""
        count = max(1, round(TURN_SECONDS / self.once))
        if self.once < TURN_SECONDS:
            self._repeat(count)  # until all threads run, each on a processor of its own
        seconds = timed(lambda: self._repeat(count)) / count
        self._rest()
        return seconds

    def _rest(self) -> None:
        """Wait until this process is idle: some libraries leave threads that spin for a while, in the others' turns."""
        start = time.perf_counter()
        while time.perf_counter() - start < REST_SECONDS:
            used = time.process_time()
            time.sleep(PAUSE_SECONDS)
            if time.process_time() - used < PAUSE_SECONDS / 2:
                return

    def _repeat(self, count: int) -> None:
        for _ in range(count):  # nobody holds the results
            self.call()

    def peak(self) -> float:
        """Megabytes beyond the library's import, the inputs included."""
        return memory("VmHWM") - self.imported


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        answer = getattr(worker, command)(*([argument] if argument else []))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
