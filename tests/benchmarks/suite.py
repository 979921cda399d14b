"""Runs the workloads, each library in processes of its own that take turns, and compares the libraries.

The libraries of :data:`APART` have a new process for each workload, with empty caches, that tells the first call and
the peak of memory, and another one afterwards that finds what the first has left.  The others have one process for all
workloads.  All take short turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .floor import floor_seconds
from .workers import Failed, Remote
from .workloads import WORKLOADS, Workload

APART = ("tracejit", "tracejit, fast", "jax")
PEERS = ("numpy", "torch", "torch.compile", "jax", "numba")
TURNS, TURNS_SECONDS, LEAST_TURNS = 25, 0.3, 3
TOLERANCE = 2e-3  # of the results' sums, between libraries

Measured = dict[str, Any]


class Suite:
    """``pythons`` has the interpreter of each library."""

    def __init__(self, pythons: Mapping[str, str]) -> None:
        self.pythons = pythons
        self.lasting: dict[str, Remote] = {}
        self.caches = tempfile.TemporaryDirectory()

    def close(self) -> None:
        for remote in self.lasting.values():
            remote.close()
        self.caches.cleanup()

    def compare(self, workload: Workload) -> dict[str, Measured]:
        """What each library measured, by its name; tells on stderr which fail, and where results differ."""
        found: dict[str, Measured] = {}
        with self._caches() as caches:
            remotes: dict[str, Remote] = {}
            for library in self.pythons:
                if workload.program_for(library) is None:
                    continue
                remotes[library] = self._remote(library, caches)
                if (first := self._asked(workload, library, remotes[library], f"start {workload.name}")) is not None:
                    found[library] = first
            times = self._turns(workload, {library: remotes[library] for library in found})
            for library, seconds in times.items():
                found[library] |= {"steady_s": sorted(seconds)[len(seconds) // 10]}
                found[library] |= {"median_s": statistics.median(seconds)}
            for library in found:
                if library not in APART:
                    continue
                found[library]["peak_mb"] = self._asked(workload, library, remotes[library], "peak")
                remotes[library].close()
                with Remote(self.pythons[library], library, f"{caches}/{library}") as again:
                    if warm := self._asked(workload, library, again, f"start {workload.name}"):
                        found[library]["warm_s"] = warm["first_s"]
        return checked(workload, {library: facts for library, facts in found.items() if "steady_s" in facts})

    @contextmanager
    def _caches(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory() as caches:
            yield caches

    def _remote(self, library: str, caches: str) -> Remote:
        if library in APART:
            return Remote(self.pythons[library], library, f"{caches}/{library}")
        if library not in self.lasting:
            self.lasting[library] = Remote(self.pythons[library], library, f"{self.caches.name}/{library}")
        return self.lasting[library]

    def _asked(self, workload: Workload, library: str, remote: Remote, command: str) -> Any:
        try:
            return remote.ask(command)
        except Failed as error:
            print(f"{workload.name}, {library}: {error}", file=sys.stderr)
            remote.close()
            self.lasting.pop(library, None)
            return None

    def _turns(self, workload: Workload, remotes: dict[str, Remote]) -> dict[str, list[float]]:
        """Seconds a call in each turn."""
        times: dict[str, list[float]] = {library: [] for library in remotes}
        for _ in range(TURNS):
            for library, seconds in times.items():
                if sum(seconds) > TURNS_SECONDS and len(seconds) >= LEAST_TURNS:
                    continue
                seconds.append(self._asked(workload, library, remotes[library], "turn"))
        return times


def checked(workload: Workload, found: dict[str, Measured]) -> dict[str, Measured]:
    """The same, without the samples of the results; tells where they differ."""
    samples = {library: measured.pop("sample") for library, measured in found.items()}
    for library, sample in samples.items():
        first = next(iter(samples.values()))
        if not all(math.isclose(x, y, rel_tol=TOLERANCE) for x, y in zip(first, sample, strict=True)):
            print(f"{workload.name}: {library} gives {sample}, {next(iter(samples))} {first}", file=sys.stderr)
    return found


def compared(workload: Workload, found: dict[str, Measured]) -> Measured:
    """The comparison of one workload: of tracejit to the best peer, and to the floor."""
    ours = found.get("tracejit")
    peers = {library: measured for library, measured in found.items() if library in PEERS}
    result: Measured = {"workload": workload.name, "libraries": found}
    some = ours or next(iter(peers.values()), None)
    if some:
        result["floor_s"] = floor_seconds(some["read"], some["written"], workload.passes, workload.flops, some["bits"])
    if ours and peers:
        best = min(peers, key=lambda library: peers[library]["steady_s"])
        result |= {"best": best, "ratio": peers[best]["steady_s"] / ours["steady_s"]}
    return result


def selected(patterns: Sequence[str]) -> list[Workload]:
    return [w for w in WORKLOADS if not patterns or any(re.search(p, w.name) for p in patterns)]


def run_suite(patterns: Sequence[str], pythons: Mapping[str, str]) -> Iterator[Measured]:
    """The results, as they come."""
    suite = Suite(pythons)
    try:
        for workload in selected(patterns):
            yield compared(workload, suite.compare(workload))
    finally:
        suite.close()
