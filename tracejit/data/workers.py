"""Worker threads that fetch batches ahead: work is dealt out in turn and taken back in turn, so order is kept."""

from __future__ import annotations

import atexit
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..locations import at_user_line
from ..random import Generator


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker thread may ask about itself, by :func:`get_worker_info`.

    ``seed`` is the epoch's seed plus ``id``; ``generator`` draws from it and is this worker's own.  The global random
    generators of Python and NumPy are shared by all threads: workers draw different numbers from them, but in
    no fixed order.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any
    generator: Generator


class _ThreadInfo(threading.local):
    info: WorkerInfo | None = None


_this_thread = _ThreadInfo()


def get_worker_info() -> WorkerInfo | None:
    """Which worker of a :class:`DataLoader` this code runs in; ``None`` outside of workers."""
    return _this_thread.info


class _Failure:
    """An error in a worker; raised again where the batch is awaited, with the worker's traceback."""

    def __init__(self, error: BaseException, worker: int) -> None:
        error.add_note(f"Caught {type(error).__name__} in DataLoader worker {worker}.")
        self.error = error


_EXHAUSTED = object()
_STOP = object()


def _work(
    info: WorkerInfo,
    fetcher: Callable[[], Callable[[Any], Any]],
    init: Callable[[int], Any] | None,
    tasks: queue.SimpleQueue[Any],
    results: queue.SimpleQueue[Any],
    stopped: threading.Event,
) -> None:
    """A worker: fetch what the tasks name until told to stop."""
    _this_thread.info = info
    problem: _Failure | None = None
    fetch: Callable[[Any], Any] | None = None
    try:
        if init is not None:
            init(info.id)
        fetch = fetcher()
    except BaseException as error:
        problem = _Failure(error, info.id)
    while (task := tasks.get()) is not _STOP:
        if stopped.is_set():
            return
        result: Any = problem
        if fetch is not None:
            try:
                result = fetch(task)
            except StopIteration:
                result = _EXHAUSTED
            except BaseException as error:
                result = _Failure(error, info.id)
        results.put(result)
        del task, result


_running: weakref.WeakSet[WorkerIterator] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """When the interpreter ends no worker is left in the middle of something."""
    for iterator in list(_running):
        iterator.close(wait=1.0)


class WorkerIterator:
    """An iterator over batches that worker threads prepare; ``close`` ends them, and so does losing the iterator.

    ``fetcher`` makes, in the worker, the function from a task to a batch; that raises ``StopIteration`` where there is
    nothing left.
    """

    def __init__(
        self,
        tasks: Iterator[Any],
        fetcher: Callable[[], Callable[[Any], Any]],
        dataset: Any,
        count: int,
        ahead: int,
        seed: int,
        init: Callable[[int], Any] | None,
        timeout: float,
    ) -> None:
        self._tasks = tasks
        self._timeout = timeout
        self._stopped = threading.Event()
        self._inboxes: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(count)]
        self._outboxes: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(count)]
        self._threads: list[threading.Thread] = []
        self._awaited: list[int] = []  # the workers that owe a result, in order
        self._left = set(range(count))  # the workers that have not run out
        for number in range(count):
            info = WorkerInfo(number, count, seed + number, dataset, Generator(seed + number))
            arguments = (info, fetcher, init, self._inboxes[number], self._outboxes[number], self._stopped)
            thread = threading.Thread(target=_work, args=arguments, name=f"DataLoader worker {number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        _running.add(self)
        self._turn = 0
        for _ in range(ahead * count):
            self._deal()

    def _deal(self) -> None:
        """Hand a task to the worker whose turn it is."""
        if not self._left:
            return
        while self._turn % len(self._inboxes) not in self._left:
            self._turn += 1
        try:
            task = next(self._tasks)
        except StopIteration:
            self._left.clear()
            return
        worker = self._turn % len(self._inboxes)
        self._turn += 1
        self._inboxes[worker].put(task)
        self._awaited.append(worker)

    def __iter__(self) -> WorkerIterator:
        return self

    def __next__(self) -> Any:
        try:
            while self._awaited:
                worker = self._awaited.pop(0)
                result = self._result_of(worker)
                if result is _EXHAUSTED:
                    self._left.discard(worker)
                self._deal()
                if isinstance(result, _Failure):
                    raise result.error
                if result is not _EXHAUSTED:
                    return result
        except queue.Empty:
            self.close()
            message = f"DataLoader timed out after {self._timeout} seconds"
            raise at_user_line(RuntimeError(message)) from None
        except Exception:
            self.close()
            raise
        except BaseException:  # Ctrl-C: whoever pressed it does not want to wait
            self.close(wait=0)
            raise
        self.close()
        raise StopIteration

    def _result_of(self, worker: int) -> Any:
        """What a worker has fetched; ``queue.Empty`` after the timeout.

        Waits a second at a time: a signal that comes just before a wait does not end that, but the next one.
        """
        until = time.monotonic() + (self._timeout or math.inf)
        while True:
            try:
                return self._outboxes[worker].get(timeout=max(min(until - time.monotonic(), 1.0), 0.0))
            except queue.Empty:
                if time.monotonic() >= until:
                    raise

    def close(self, wait: float = 5.0) -> None:
        """End the workers, and wait for what they are at, but not for long: they do not keep the program alive."""
        until = time.monotonic() + wait
        self._stopped.set()
        self._left.clear()
        self._awaited.clear()
        for inbox in self._inboxes:
            inbox.put(_STOP)
        for thread in self._threads:
            if wait and thread is not threading.current_thread():
                thread.join(max(until - time.monotonic(), 0))

    def __del__(self) -> None:
        if hasattr(self, "_turn"):
            self.close(wait=0)


__all__ = ["WorkerInfo", "WorkerIterator", "get_worker_info"]
