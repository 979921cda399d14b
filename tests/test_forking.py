"""The child of a fork goes on, whatever other threads were at."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

import tracejit as tj
from tracejit import state
from tracejit.compiled import effects

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


def child(work: Callable[[], bool]) -> int:
    """The exit status of a child that does this work: 0 where it returns true."""
    process = os.fork()
    if process == 0:
        try:
            signal.alarm(60)
            os._exit(0 if work() else 2)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    return status


def test_what_another_thread_holds_is_free_in_the_child() -> None:
    weight = tj.ones(3)

    @tj.jit
    def step(x: tj.Tensor) -> tj.Tensor:
        weight.add_(x)
        return weight * 2

    step(tj.ones(3))
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with step._lock, effects, tj.no_grad():
            state.thread.anomaly = True
            held.set()
            over.wait()
            state.thread.anomaly = False

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def work() -> bool:
        is_free = not (state.busy[0] or state.unrecorded[0] or effects.held[0])
        return is_free and step(tj.ones(3)).tolist() == [6.0] * 3 and step(tj.ones(3, dtype=tj.float64)) is not None

    try:
        assert child(work) == 0
    finally:
        over.set()
        thread.join()
    assert not state.busy[0]


def test_children_of_a_process_that_compiles() -> None:
    over = threading.Event()

    def compile_on() -> None:
        extent = 3
        while not over.is_set():
            extent += 1
            tj.jit(lambda x: (x * 2 + 1).sum())(tj.ones(extent))

    thread = threading.Thread(target=compile_on)
    thread.start()
    try:
        statuses = [child(lambda: tj.jit(lambda x: x * 3 - 1)(tj.ones(5)).tolist() == [2.0] * 5) for _ in range(15)]
    finally:
        over.set()
        thread.join()
    assert statuses == [0] * 15
