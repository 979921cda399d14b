"""Kernels of every kind on a device: the CPU's bits, also on a real GPU."""

from __future__ import annotations

import pytest

from tests.backends.cuda.programs import CASES, entries_of, programs, reference
from tests.ir.random_graphs import same_bits
from tracejit.backends.cpu import runtime
from tracejit.backends.cuda.executable import Executable, entries
from tracejit.backends.devices import Device, on_host

# One in eight: all of them run in tests/backends/cuda, in several orders of their threads.
TESTED = list(CASES)[::8]


@pytest.mark.parametrize("name", TESTED)
def test_a_kernel(name: str, gpusim: Device) -> None:
    gpusim.load([entry for case in TESTED for entry in entries_of(CASES[case])])
    inputs = CASES[name].inputs()
    for how, program in programs(CASES[name]).items():
        found = Executable(program, gpusim)(inputs)
        for a, b in zip(found, runtime.Executable(reference(CASES[name]))(inputs), strict=True):
            assert same_bits(on_host(a), b), how


@pytest.mark.parametrize("name", ["updates of several parameters", "updates of many parameters"])
def test_updates_in_one_launch(name: str, gpusim: Device) -> None:
    program = programs(CASES[name])["for any shape"]
    (entry,) = entries(program)
    assert entry.form.sets >= len(program.calls)
    inputs = CASES[name].inputs()
    for a, b in zip(Executable(program, gpusim)(inputs), runtime.Executable(program)(inputs), strict=True):
        assert same_bits(on_host(a), b)
