"""Calls of jitted functions under odd circumstances: other threads, profilers, collections, odd storage."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj

x4, y4 = tj.tensor([1.0, 2.0, 3.0, 4.0]), tj.tensor([4.0, 3.0, 2.0, 1.0])


def warmed(function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    f = tj.jit(function)
    for _ in range(6):
        f(*args)
    return f


def test_threads_make_the_first_call_together() -> None:
    f = tj.jit(lambda x: (x * 1.125 + 2).sum() if x.sum() > 0 else x.sum() * 0.5)
    expected = [(x4 * 1.125 + 2).sum().item(), (-x4).sum().item() * 0.5]
    errors: list[BaseException] = []
    start = threading.Barrier(6)

    def run() -> None:
        try:
            start.wait()
            for number in range(40):
                assert f(-x4 if number % 2 else x4).item() == expected[number % 2]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_an_argument_changes_in_another_thread() -> None:
    items = [tj.ones(4), tj.ones(4)]
    f = warmed(lambda items: items[0] + items[-1], items)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            items.append(tj.ones(4))
            items.pop(0)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert f(items).tolist() == [2.0] * 4
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("set_hook", [sys.setprofile, sys.settrace], ids=["profiler", "tracer"])
def test_profilers_and_tracers(set_hook: Callable[[Any], None]) -> None:
    before = sys.getprofile() if set_hook is sys.setprofile else sys.gettrace()
    f = tj.jit(lambda x: x * 3 if x.sum() > 0 else x)
    set_hook(lambda frame, event, argument: None)
    try:
        found = [f(x4).tolist() for _ in range(8)]
    finally:
        set_hook(before)
    assert found == [(x4 * 3).tolist()] * 8


def test_collections_during_calls() -> None:
    f = warmed(lambda x: (x * 2, [x + 1, {"k": x}]), x4)
    calls: list[Any] = []

    def collected(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and len(calls) < 50:
            calls.append(None)
            calls[-1] = f(y4)[0].tolist()

    threshold = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        for _ in range(300):
            assert f(x4)[0].tolist() == (x4 * 2).tolist()
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(collected)
    assert [call for call in calls if call is not None] == [(y4 * 2).tolist()] * len(calls)


def test_callbacks_of_weak_references_call() -> None:
    f = warmed(lambda x: x * 2, x4)
    found: list[Any] = []
    for _ in range(5):
        result = f(x4)
        reference = weakref.ref(result, lambda _: found.append(f(y4).tolist()))
        del result
        assert reference() is None
    assert found == [(y4 * 2).tolist()] * 5


def test_arrays_that_lie_oddly() -> None:
    f = warmed(lambda x: x * 2 + x, x4)
    base = np.arange(4, dtype=np.float32)
    frozen = base.copy()
    frozen.flags.writeable = False
    unaligned = np.zeros(17, np.uint8)[1:].view(np.float32)
    unaligned[:] = base
    for array in (frozen, unaligned, base[::-1], np.arange(8, dtype=np.float32)[::2], base.astype(">f4")):
        expected = (array.astype(np.float32) * 2 + array.astype(np.float32)).tolist()
        tensor = tj.tensor([0.0] * 4)
        tensor._value = array if array.dtype.isnative else array.astype(np.float32)
        for _ in range(3):
            assert f(tensor).tolist() == f(array).tolist() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forks_between_calls() -> None:
    f = warmed(lambda x: x * 2 + 1 if x.sum() > 0 else x, x4)
    for _ in range(2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                g = warmed(lambda x: x * 3.25, x4)
                status = int(f(x4).tolist() != (x4 * 2 + 1).tolist() or g(x4).tolist() != (x4 * 3.25).tolist())
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert f(x4).tolist() == (x4 * 2 + 1).tolist()


def test_recursion_to_the_limit() -> None:
    f = warmed(lambda x: x * 2, x4)

    def descend(depth: int) -> Any:
        f(x4)
        return descend(depth + 1)

    with pytest.raises(RecursionError):
        descend(0)
    assert f(x4).tolist() == (x4 * 2).tolist()
