"""A fork-join thread pool: its loops are LLVM IR, its threads are Python's, parked inside native code.

OpenMP would be a large and platform-bound dependency for what one counter, one state word and a futex can do.  A
worker is a daemon Python thread that calls ``tj_pool_worker`` through ctypes, which releases the GIL, and stays there.

How a fork and join work, and why no wake-up is lost
----------------------------------------------------
The caller writes the job, sets ``GATE`` to *open* with no worker inside, and then increments ``GENERATION``.  A worker
that sees a new generation enters by adding one to the gate, in a compare-and-exchange that succeeds only while the gate
is open; inside, it takes chunks off a counter until none is left, and then subtracts itself.  The caller takes chunks
too; when none is left it closes the gate and waits until nobody is inside.

* *The caller never waits for a worker that has not entered*, so one still asleep, or held up by the operating system or
  the GIL, costs nothing but its help: when it arrives, the gate is closed.
* *The job is stable while somebody is inside*, for it is written only when the gate is closed and nobody is.
* *A sleeping worker is woken.*  It increments ``SLEEPERS`` and then sleeps only if ``GENERATION`` is still the one it
  has seen, which the system checks.  The caller increments ``GENERATION`` and then reads ``SLEEPERS``.  All four steps
  are sequentially consistent, so either the caller sees the sleeper, and wakes it, or the worker sees the new
  generation, and does not sleep.
* *A sleeping caller is woken.*  It sleeps on the gate itself, only if the gate still has the value in which the caller
  marked itself as waiting; a worker that leaves changes that value, and the last to leave sees the mark and wakes it.
* *A woken worker gets a processor of its own.*  The system tends to put it on that of the thread that woke it, where it
  would wait for as long as that one computes.  So the caller lets it in once, and it moves away.
* *A second caller* finds ``LOCK`` taken, and runs its job alone.

Both wait by spinning for some 50 µs, as long as waking would take, before they sleep: a pool without work uses no time.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import platform
import sys
import threading
import time
import weakref
from functools import cache
from pathlib import Path
from string import Template

from tracejit.ir.primitives import ordering

from .target import Target

# The pool's state: byte offsets of its fields, on cache lines by who writes them when.
GENERATION, SLEEPERS, STOPPING = 0, 4, 8  # i32: number of jobs so far; workers asleep; 1 when workers shall return
GATE = 64  # i32: the number of workers inside, and the two flags below
NEXT = 128  # i64: the first unit that is yet to be handed out
KERNEL, ARGUMENTS, COUNT, GRAIN = 192, 200, 208, 216  # the job
LOCK, WORKERS = 256, 260  # i32: whether a job runs; number of workers there are
PROCESSOR = 224  # i32: the number of the processor that the caller was on when it wrote the job
START = 264  # ptr: a function that starts the workers, or null once it has
STATE_BYTES = 320

PROCESSOR_SET_BYTES = 128  # of the set of processors a thread may run on: 1024 of them
OPEN, WAITING = 1 << 30, 1 << 29  # flags of the gate

SPIN_NANOSECONDS = 50_000
YIELD_NANOSECONDS = 5_000  # from when on a spinning thread lets others run between its looks
PAUSES_PER_CLOCK = 16  # how often a spinning thread looks before it looks at the clock

# System call number of futex, and the instruction that tells the processor that this is a spinning loop.
FUTEX = {"x86_64": 202, "aarch64": 98}
PAUSE = {
    "x86_64": ("void @llvm.x86.sse2.pause()", "void @llvm.x86.sse2.pause()"),
    "aarch64": ("void @llvm.aarch64.hint(i32)", "void @llvm.aarch64.hint(i32 1)"),
}

SERIAL_MODULE = """
define void @tj_parallel_for(ptr %pool, ptr %kernel, ptr %arguments, i64 %count, i64 %grain) nounwind {
  call void %kernel(ptr %arguments, i64 0, i64 %count, i64 0)
  ret void
}

define void @tj_pool_worker(ptr %pool, i64 %worker) nounwind {
  ret void
}
"""

PARALLEL_MODULE = """
declare $PAUSE_DECLARATION
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)

define internal i64 @nanoseconds() nounwind {
  %time = alloca [2 x i64], align 8
  %status = call i32 @clock_gettime(i32 1, ptr %time)  ; CLOCK_MONOTONIC
  %whole = load i64, ptr %time, align 8
  %part.at = getelementptr i8, ptr %time, i64 8
  %part = load i64, ptr %part.at, align 8
  %scaled = mul i64 %whole, 1000000000
  %sum = add i64 %scaled, %part
  ret i64 %sum
}

; Wait until the word equals %value, or until it does not, for at most $SPIN_NANOSECONDS ns.  Returns the word.
define internal i32 @spin(ptr %address, i32 %value, i1 %until.equal) nounwind {
entry:
  %first = load atomic i32, ptr %address seq_cst, align 4
  %first.equal = icmp eq i32 %first, %value
  %at.once = icmp eq i1 %first.equal, %until.equal
  br i1 %at.once, label %done, label %begin
begin:
  %started = call i64 @nanoseconds()
  br label %look
look:
  %round = phi i32 [ 0, %begin ], [ %next, %again ], [ 0, %yield ], [ 0, %give ]
  call $PAUSE_CALL
  %word = load atomic i32, ptr %address seq_cst, align 4
  %equal = icmp eq i32 %word, %value
  %reached = icmp eq i1 %equal, %until.equal
  br i1 %reached, label %done, label %again
again:
  %next = add i32 %round, 1
  %enough = icmp eq i32 %next, $PAUSES_PER_CLOCK
  br i1 %enough, label %clock, label %look
clock:
  %now = call i64 @nanoseconds()
  %spent = sub i64 %now, %started
  %tired = icmp sgt i64 %spent, $SPIN_NANOSECONDS
  br i1 %tired, label %done, label %yield
yield:
  ; Whoever is waited for may have been put on this very processor.
  %long = icmp sgt i64 %spent, $YIELD_NANOSECONDS
  br i1 %long, label %give, label %look
give:
  %yielded = call i32 @sched_yield()
  br label %look
done:
  %result = phi i32 [ %first, %entry ], [ %word, %look ], [ %word, %clock ]
  ret i32 %result
}

; Sleep until woken, unless the word is no longer %value.  May also return for no reason.
define internal void @sleep(ptr %address, i32 %value) nounwind {
  %wide = zext i32 %value to i64
  %status = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr %address, i64 128, i64 %wide, ptr null, ptr null, i64 0)
  ret void
}

define internal void @wake(ptr %address, i64 %threads) nounwind {
  %status = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr %address, i64 129, i64 %threads, ptr null, ptr null, i64 0)
  ret void
}

; A woken thread often starts on the processor of the thread that woke it, which is busy.  If so, move to another one:
; forbid this one for a moment.  (Where there is no other, or it has a number beyond the set, nothing happens.)
define internal void @move_away(ptr %pool) nounwind {
entry:
  %allowed = alloca [$PROCESSOR_SET_BYTES x i8], align 8
  %here = call i32 @sched_getcpu()
  %caller.at = getelementptr i8, ptr %pool, i64 $PROCESSOR
  %caller = load atomic i32, ptr %caller.at monotonic, align 4
  %same = icmp eq i32 %here, %caller
  %bits = mul i32 $PROCESSOR_SET_BYTES, 8
  %known = icmp ult i32 %here, %bits
  %both = and i1 %same, %known
  br i1 %both, label %ask, label %done
ask:
  %asked = call i32 @sched_getaffinity(i32 0, i64 $PROCESSOR_SET_BYTES, ptr %allowed)
  %answered = icmp eq i32 %asked, 0
  br i1 %answered, label %move, label %done
move:
  %byte.number = lshr i32 %here, 3
  %byte.at = getelementptr i8, ptr %allowed, i32 %byte.number
  %byte = load i8, ptr %byte.at, align 1
  %bit.number = and i32 %here, 7
  %bit.index = trunc i32 %bit.number to i8
  %bit = shl i8 1, %bit.index
  %others = xor i8 %byte, %bit
  store i8 %others, ptr %byte.at, align 1
  %left = call i32 @sched_setaffinity(i32 0, i64 $PROCESSOR_SET_BYTES, ptr %allowed)
  store i8 %byte, ptr %byte.at, align 1
  %restored = call i32 @sched_setaffinity(i32 0, i64 $PROCESSOR_SET_BYTES, ptr %allowed)
  br label %done
done:
  ret void
}

; Take chunks of the job and run the kernel on them, until none is left.
define internal void @take_part(ptr %pool, i64 %worker) nounwind {
entry:
  %next = getelementptr i8, ptr %pool, i64 $NEXT
  %kernel.at = getelementptr i8, ptr %pool, i64 $KERNEL
  %arguments.at = getelementptr i8, ptr %pool, i64 $ARGUMENTS
  %count.at = getelementptr i8, ptr %pool, i64 $COUNT
  %grain.at = getelementptr i8, ptr %pool, i64 $GRAIN
  %kernel = load ptr, ptr %kernel.at, align 8
  %arguments = load ptr, ptr %arguments.at, align 8
  %count = load i64, ptr %count.at, align 8
  %grain = load i64, ptr %grain.at, align 8
  br label %take
take:
  %begin = atomicrmw add ptr %next, i64 %grain monotonic, align 8
  %some = icmp slt i64 %begin, %count
  br i1 %some, label %run, label %done
run:
  %stop = add i64 %begin, %grain
  %end = call i64 @llvm.smin.i64(i64 %stop, i64 %count)
  call void %kernel(ptr %arguments, i64 %begin, i64 %end, i64 %worker)
  br label %take
done:
  ret void
}

define void @tj_pool_worker(ptr %pool, i64 %worker) nounwind {
entry:
  %generation = getelementptr i8, ptr %pool, i64 $GENERATION
  %sleepers = getelementptr i8, ptr %pool, i64 $SLEEPERS
  %stopping = getelementptr i8, ptr %pool, i64 $STOPPING
  %gate = getelementptr i8, ptr %pool, i64 $GATE
  br label %wait
wait:
  ; The first generation is one that no job has: a worker that starts late still helps with the job it finds.
  %seen = phi i32 [ -1, %entry ], [ %current, %closed ], [ %current, %leave ]
  %spun = call i32 @spin(ptr %generation, i32 %seen, i1 false)
  %new = icmp ne i32 %spun, %seen
  br i1 %new, label %arrive, label %doze
doze:
  %more = atomicrmw add ptr %sleepers, i32 1 seq_cst, align 4
  call void @sleep(ptr %generation, i32 %seen)
  %fewer = atomicrmw sub ptr %sleepers, i32 1 seq_cst, align 4
  %slept = load atomic i32, ptr %generation seq_cst, align 4
  %woken = icmp ne i32 %slept, %seen
  br i1 %woken, label %awake, label %doze
awake:
  call void @move_away(ptr %pool)
  br label %arrive
arrive:
  %current = phi i32 [ %spun, %wait ], [ %slept, %awake ]
  %stop = load atomic i32, ptr %stopping acquire, align 4
  %stops = icmp ne i32 %stop, 0
  br i1 %stops, label %return, label %knock
knock:
  %state = load atomic i32, ptr %gate acquire, align 4
  br label %try
try:
  %expected = phi i32 [ %state, %knock ], [ %actual, %enter ]
  %flag = and i32 %expected, $OPEN
  %open = icmp ne i32 %flag, 0
  br i1 %open, label %enter, label %closed
enter:
  %entered = add i32 %expected, 1
  %exchange = cmpxchg ptr %gate, i32 %expected, i32 %entered acq_rel acquire, align 4
  %actual = extractvalue { i32, i1 } %exchange, 0
  %inside = extractvalue { i32, i1 } %exchange, 1
  br i1 %inside, label %help, label %try
closed:
  br label %wait
help:
  call void @take_part(ptr %pool, i64 %worker)
  %before = atomicrmw sub ptr %gate, i32 1 acq_rel, align 4
  %last.waited.for = icmp eq i32 %before, $LAST_WAITED_FOR
  br i1 %last.waited.for, label %report, label %leave
report:
  call void @wake(ptr %gate, i64 1)
  br label %leave
leave:
  br label %wait
return:
  ret void
}

define void @tj_parallel_for(ptr %pool, ptr %kernel, ptr %arguments, i64 %count, i64 %grain) nounwind {
entry:
  %generation = getelementptr i8, ptr %pool, i64 $GENERATION
  %sleepers = getelementptr i8, ptr %pool, i64 $SLEEPERS
  %gate = getelementptr i8, ptr %pool, i64 $GATE
  %next = getelementptr i8, ptr %pool, i64 $NEXT
  %kernel.at = getelementptr i8, ptr %pool, i64 $KERNEL
  %arguments.at = getelementptr i8, ptr %pool, i64 $ARGUMENTS
  %count.at = getelementptr i8, ptr %pool, i64 $COUNT
  %grain.at = getelementptr i8, ptr %pool, i64 $GRAIN
  %lock = getelementptr i8, ptr %pool, i64 $LOCK
  %workers.at = getelementptr i8, ptr %pool, i64 $WORKERS
  %start.at = getelementptr i8, ptr %pool, i64 $START
  %several = icmp sgt i64 %count, %grain
  br i1 %several, label %look, label %serial
look:
  %start = load atomic ptr, ptr %start.at acquire, align 8
  %started = icmp eq ptr %start, null
  br i1 %started, label %acquire, label %launch
launch:
  call void %start()
  br label %acquire
acquire:
  %exchange = cmpxchg ptr %lock, i32 0, i32 1 acquire monotonic, align 4
  %locked = extractvalue { i32, i1 } %exchange, 1
  br i1 %locked, label %count.workers, label %serial
count.workers:
  %workers = load i32, ptr %workers.at, align 4
  %alone = icmp eq i32 %workers, 0
  br i1 %alone, label %release, label %fork
release:
  store atomic i32 0, ptr %lock release, align 4
  br label %serial
serial:
  call void %kernel(ptr %arguments, i64 0, i64 %count, i64 0)
  ret void
fork:
  store ptr %kernel, ptr %kernel.at, align 8
  store ptr %arguments, ptr %arguments.at, align 8
  store i64 %count, ptr %count.at, align 8
  store i64 %grain, ptr %grain.at, align 8
  store atomic i64 0, ptr %next monotonic, align 8
  %here = call i32 @sched_getcpu()
  %here.at = getelementptr i8, ptr %pool, i64 $PROCESSOR
  store atomic i32 %here, ptr %here.at monotonic, align 4
  store atomic i32 $OPEN, ptr %gate release, align 4
  %old = atomicrmw add ptr %generation, i32 1 seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  br i1 %any, label %rouse, label %work
rouse:
  ; No more of them than there are chunks beside the caller's own.
  %others = sub i64 %count, 1
  %useful = sdiv i64 %others, %grain
  %bounded = call i64 @llvm.smin.i64(i64 %useful, i64 2147483647)
  call void @wake(ptr %generation, i64 %bounded)
  ; One that was put on this very processor could not even move away while this thread runs.
  %yielded = call i32 @sched_yield()
  br label %work
work:
  call void @take_part(ptr %pool, i64 0)
  %open.gate = atomicrmw and ptr %gate, i32 $NOT_OPEN seq_cst, align 4
  br label %join
join:
  %state = call i32 @spin(ptr %gate, i32 0, i1 true)
  %empty = icmp eq i32 %state, 0
  br i1 %empty, label %joined, label %mark
mark:
  %waiting = or i32 %state, $WAITING
  %marking = cmpxchg ptr %gate, i32 %state, i32 %waiting seq_cst seq_cst, align 4
  %marked = extractvalue { i32, i1 } %marking, 1
  br i1 %marked, label %rest, label %join
rest:
  %occupied = phi i32 [ %waiting, %mark ], [ %after, %rest ]
  call void @sleep(ptr %gate, i32 %occupied)
  %after = load atomic i32, ptr %gate acquire, align 4
  %left = icmp eq i32 %after, $WAITING
  br i1 %left, label %joined, label %rest
joined:
  store atomic i32 0, ptr %lock release, align 4
  ret void
}
"""


def is_supported(architecture: str, is_linux: bool) -> bool:
    """Whether there is a pool at all; elsewhere everything runs in the caller's thread."""
    return is_linux and architecture in FUTEX


def pool_module(target: Target) -> str:
    """LLVM IR of ``tj_parallel_for`` and ``tj_pool_worker``.

    ``tj_parallel_for(pool, kernel, arguments, count, grain)`` runs ``kernel(arguments, begin, end, worker)`` on chunks
    of ``grain`` units that make up ``range(count)``.  The caller is worker 0.
    """
    if not is_supported(target.architecture, target.is_linux):
        return SERIAL_MODULE
    declaration, call = PAUSE[target.architecture]
    constants = {
        name: value for name, value in globals().items() if name.isupper() and isinstance(value, int)
    } | {
        "FUTEX": FUTEX[target.architecture],
        "PAUSE_DECLARATION": declaration,
        "PAUSE_CALL": call,
        "NOT_OPEN": ~OPEN,
        "LAST_WAITED_FOR": WAITING + 1,
    }  # fmt: skip
    return Template(PARALLEL_MODULE).substitute(constants)


def cgroup_quota() -> float:
    """How many processors' worth of time this process's control groups allow (versions 2 and 1), or infinity."""
    quota = math.inf
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return quota
    names: tuple[str, ...]
    for _, controllers, path in groups:
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("cpu.max",)
        elif "cpu" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/cpu"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        group = root / path.lstrip("/")
        for folder in [group, *group.parents]:  # each group above limits this one too
            try:
                limit, period = " ".join((folder / name).read_text() for name in names).split()
            except (OSError, ValueError):
                limit, period = "max", "1"
            if limit not in ("max", "-1"):
                quota = min(quota, int(limit) / int(period))
            if folder == root:
                break
    return quota


def available_processors() -> int:
    """How many threads can run at once: the processors this process may use, within its quota of time."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, math.floor(min(cgroup_quota(), count))))


@cache
def most_threads() -> int:
    """How many threads there may be: what programs reserve memory for."""
    return available_processors() if is_supported(platform.machine(), sys.platform == "linux") else 1


_wanted = [sys.maxsize]


def num_threads() -> int:
    """How many threads share parallel work, the caller's among them."""
    return min(_wanted[0], most_threads())


def set_num_threads(number: int) -> None:
    """Have that many threads share parallel work, or as many as there may be, if these are fewer."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"set_num_threads expects an int, but got {type(number).__name__}")
    if number < 1:
        raise ValueError(f"set_num_threads expects a positive number of threads, but got {number}")
    _wanted[0] = ordering.most_threads[0] = number
    for pool in list(_pools):
        if pool.is_default:
            pool.set_num_threads(num_threads())


class ThreadPool:
    """The threads that share parallel work, started when there first is some.

    Native code is given ``address``, the pool's state, which stays valid as long as the process lives: across forks,
    changes of size, and the end of the interpreter.  Kernels see worker numbers below ``num_threads``.

    Args:
        parallel_for: The address of ``tj_parallel_for``.
        worker: The address of ``tj_pool_worker``.  The code of both must stay loaded as long as the process lives.
        size: The number of threads, the caller's among them; by default, what :func:`set_num_threads` says.
    """

    def __init__(self, parallel_for: int, worker: int, size: int | None = None) -> None:
        self._supported = is_supported(platform.machine(), sys.platform == "linux")
        self._parallel_for = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)(parallel_for)
        self._worker = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(worker)
        self._start_function = ctypes.CFUNCTYPE(None)(self._start)
        memory = ctypes.create_string_buffer(STATE_BYTES + 64)
        # Native code keeps the address, and threads may outlive the interpreter: this memory is never freed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
        self.address = -(-ctypes.addressof(memory) // 64) * 64
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._lock = threading.RLock()
        self._num_threads = 1
        self.is_default = size is None
        _pools.add(self)
        self.set_num_threads(num_threads() if size is None else size)

    @property
    def num_threads(self) -> int:
        return self._num_threads

    def set_num_threads(self, num_threads: int) -> None:
        """Change the size.  The present threads end, once the job they are in is done; others start when needed."""
        if num_threads < 1:
            raise ValueError(f"a thread pool needs at least 1 thread, not {num_threads}")
        with self._lock:
            if self._closed:
                return
            self._stop()
            self._num_threads = num_threads if self._supported else 1
            self._arm()

    def parallel_for(self, kernel: int, arguments: int, count: int, grain: int) -> None:
        """Run a kernel from Python: see ``pool_module``.  The GIL is released meanwhile."""
        self._parallel_for(self.address, kernel, arguments, count, grain)

    def close(self) -> None:
        """End the threads.  From now on everything runs in the caller's thread."""
        with self._lock:
            self._closed = True
            self._stop(seconds=1.0)

    def _field(self, offset: int) -> ctypes.c_int32:
        return ctypes.c_int32.from_address(self.address + offset)

    def _arm(self) -> None:
        """Have the next parallel call start the threads."""
        start = ctypes.cast(self._start_function, ctypes.c_void_p).value if self._num_threads > 1 else None
        ctypes.c_void_p.from_address(self.address + START).value = start

    def _disarm(self) -> None:
        ctypes.c_void_p.from_address(self.address + START).value = None

    def _start(self) -> None:
        """Start the threads.  Called by native code, through ctypes, at the first parallel call."""
        with self._lock:
            if self._threads or self._closed:
                return
            self._disarm()
            for index in range(1, self._num_threads):
                thread = threading.Thread(target=self._work, args=(index,), name=f"tracejit-{index}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads to be had: do with those there are
                    break
                self._threads.append(thread)
            self._field(WORKERS).value = len(self._threads)

    def _work(self, index: int) -> None:
        self._worker(self.address, index)

    def _stop(self, seconds: float = math.inf) -> None:
        """End the threads: tell them that there is news, which is that they shall return.  Those in the middle of a job
        finish it first, for which this waits so many seconds."""
        self._disarm()
        self._field(WORKERS).value = 0
        if not self._threads:
            return
        self._field(STOPPING).value = 1
        syscall = ctypes.CDLL(None).syscall
        deadline = time.monotonic() + seconds
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            # A caller may be counting its jobs at this moment; a step this large cannot be taken for one of them.
            generation = self._field(GENERATION)
            generation.value += 1 << 20
            number = ctypes.c_long(FUTEX[platform.machine()])
            wake, everyone = ctypes.c_int(129), ctypes.c_int(2**31 - 1)
            syscall(number, ctypes.c_void_p(self.address + GENERATION), wake, everyone, None, None, ctypes.c_int(0))
            for thread in self._threads:
                thread.join(0.002)
        if not any(thread.is_alive() for thread in self._threads):
            self._field(STOPPING).value = 0
        self._threads = []

    def _after_fork(self) -> None:
        """In the child there are no workers, and whoever held a lock is gone: begin anew."""
        self._lock = threading.RLock()
        self._threads = []
        ctypes.memset(self.address, 0, STATE_BYTES)
        if not self._closed:
            self._arm()


_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in _pools:
        pool._after_fork()


def _at_exit() -> None:
    for pool in list(_pools):
        pool.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
