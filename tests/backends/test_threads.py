"""The thread pool hands out every unit once, loses no wake-up, and survives callers, forks and exits."""

import ctypes
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

llvm = pytest.importorskip("llvmlite.binding")

import tracejit as tj  # noqa: E402
from tracejit.backends.cpu import threads  # noqa: E402
from tracejit.backends.cpu.target import host_target  # noqa: E402
from tracejit.backends.cpu.threads import ThreadPool, pool_module  # noqa: E402

# A kernel that adds 1 to each of its units, and notes how many units each worker had.
KERNEL = """
define void @count(ptr %arguments, i64 %begin, i64 %end, i64 %worker) {
entry:
  %units = load ptr, ptr %arguments
  %shares.at = getelementptr i64, ptr %arguments, i64 1
  %shares = load ptr, ptr %shares.at
  %share = getelementptr i64, ptr %shares, i64 %worker
  %number = sub i64 %end, %begin
  %before = atomicrmw add ptr %share, i64 %number seq_cst
  br label %next
next:
  %i = phi i64 [ %begin, %entry ], [ %after, %next ]
  %unit = getelementptr i32, ptr %units, i64 %i
  %old = load i32, ptr %unit
  %new = add i32 %old, 1
  store i32 %new, ptr %unit
  %after = add i64 %i, 1
  %more = icmp slt i64 %after, %end
  br i1 %more, label %next, label %done
done:
  ret void
}
"""


def compiled() -> tuple[object, dict[str, int]]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = host_target()
    module = llvm.parse_assembly(pool_module(target) + KERNEL)
    module.verify()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    names = ("tj_parallel_for", "tj_pool_worker", "count")
    return engine, {name: engine.get_function_address(name) for name in names}


ENGINE, ADDRESSES = compiled()  # never freed: the pool's threads run in it


@pytest.fixture(params=[2, 4])
def pool(request: pytest.FixtureRequest) -> Iterator[ThreadPool]:
    pool = ThreadPool(ADDRESSES["tj_parallel_for"], ADDRESSES["tj_pool_worker"], request.param)
    if pool.num_threads == 1:
        pytest.skip("no thread pool on this platform")
    yield pool
    pool.close()


class Job:
    def __init__(self, pool: ThreadPool, units: int = 97) -> None:
        self.pool = pool
        self.units = np.zeros(units, np.int32)
        self.shares = np.zeros(64, np.int64)
        self.arguments = np.array([self.units.ctypes.data, self.shares.ctypes.data], np.int64)

    def run(self, count: int, grain: int) -> None:
        self.pool.parallel_for(ADDRESSES["count"], self.arguments.ctypes.data, count, grain)


def stress(pool: ThreadPool, runs: int, seed: int) -> bool:
    """Many jobs of all sizes, with pauses short and long enough for the workers to fall asleep, and just not to."""
    job, expected, draw = Job(pool), np.zeros(97, np.int64), random.Random(seed)
    for _ in range(runs):
        count, grain = draw.randrange(1, 98), draw.randrange(1, 12)
        job.run(count, grain)
        expected[:count] += 1
        if draw.random() < 0.003:
            time.sleep(draw.random() * 2e-4)
        if job.units[0] != expected[0]:
            return False
    return bool((job.units == expected).all()) and job.shares.sum() == expected.sum()


def test_each_unit_runs_once(pool: ThreadPool) -> None:
    assert stress(pool, 20_000, seed=1)


def test_two_callers_at_once(pool: ThreadPool) -> None:
    outcomes: list[bool] = []
    callers = [threading.Thread(target=lambda s=s: outcomes.append(stress(pool, 10_000, s))) for s in (1, 2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert outcomes == [True, True]


def test_threads_start_when_first_needed(pool: ThreadPool) -> None:
    before = threading.active_count()
    job = Job(pool)
    job.run(10, 10)  # one chunk
    assert threading.active_count() == before
    job.run(10, 5)
    assert threading.active_count() == before + pool.num_threads - 1
    pool.close()
    assert threading.active_count() == before
    job.run(10, 5)
    assert (job.units[:10] == 3).all()


def test_the_size_may_change_while_jobs_run(pool: ThreadPool) -> None:
    outcomes: list[bool] = []
    caller = threading.Thread(target=lambda: outcomes.append(stress(pool, 20_000, 3)))
    caller.start()
    for i in range(50):
        pool.set_num_threads(1 + i % 4)
        time.sleep(0.001)
    caller.join(60)
    assert outcomes == [True]
    with pytest.raises(ValueError, match="at least 1 thread"):
        pool.set_num_threads(0)


def test_workers_sleep_when_there_is_no_work(pool: ThreadPool) -> None:
    def used() -> float:
        """The workers' own processor time: other threads of this process may be busy."""
        clocks = [time.pthread_getcpuclockid(thread.ident) for thread in pool._threads if thread.ident is not None]
        return sum(map(time.clock_gettime, clocks))

    Job(pool).run(97, 3)
    time.sleep(0.01)
    before = used()
    time.sleep(0.2)
    assert used() - before < 0.05


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(pool: ThreadPool) -> None:
    assert stress(pool, 100, seed=4)
    child = os.fork()
    if child == 0:
        good = stress(pool, 500, seed=5) and threading.active_count() == pool.num_threads
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert stress(pool, 100, seed=6)


def test_the_interpreter_exits_cleanly_with_threads_asleep_or_busy() -> None:
    program = f"""
import sys, threading
sys.path[:0] = {sys.path!r}
from tests.backends.test_threads import ADDRESSES, Job, ThreadPool, stress
pool = ThreadPool(ADDRESSES["tj_parallel_for"], ADDRESSES["tj_pool_worker"], 2)
Job(pool).run(97, 3)
threading.Thread(target=stress, args=(pool, 10**9, 1), daemon=True).start()
"""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_available_processors_respects_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cgroup_quota", lambda: 0.5)
    assert threads.available_processors() == 1
    monkeypatch.setattr(threads, "cgroup_quota", lambda: float("inf"))
    assert threads.available_processors() == len(os.sched_getaffinity(0))


def test_a_platform_without_futex_runs_serially() -> None:
    llvm.parse_assembly(threads.SERIAL_MODULE).verify()
    assert not threads.is_supported("arm64", is_linux=False)
    assert ctypes.sizeof(ctypes.c_void_p) == 8


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    before = tj.get_num_threads()
    yield
    tj.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x = tj.asarray(np.random.default_rng(0).standard_normal((700, 700), np.float32))
    step = tj.jit(lambda x: (tj.tanh(x) @ x, tj.softmax(x), x.sum(axis=0)))
    found = []
    for number in (1, 2, 1):
        tj.set_num_threads(number)
        assert tj.get_num_threads() == min(number, threads.most_threads())
        found.append([result.numpy().tobytes() for result in step(x)])
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name == f"tracejit-{index}" for index in range(1, 9) for name in names) < number
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("threads_as_before")
def test_no_more_threads_than_processors_and_at_least_one() -> None:
    tj.set_num_threads(10**6)
    assert tj.get_num_threads() == threads.most_threads()
    for wrong, error in ((0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="set_num_threads expects"):
            tj.set_num_threads(wrong)  # type: ignore[arg-type]
    assert tj.get_num_threads() == threads.most_threads()
