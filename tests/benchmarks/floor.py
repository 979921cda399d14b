"""The physical floor: what this machine's memory and multipliers can do at most, measured.

Bandwidth is that of copying, and of reading where more is read than written, with all processors, within as much
memory as a workload touches; the peak is that of fused multiply-additions in registers.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tracejit.backends.cpu import threads
from tracejit.backends.cpu.target import host_target

SMALLEST, LARGEST = 1 << 18, 1 << 28  # fewer bytes are moved in less time than it takes to ask for it
AT_ONCE = 1 << 26  # bytes moved between two looks at the clock, so that starting threads does not count
CHAINS = 12  # independent sums, to hide the latency of one
ROUNDS = 1 << 20

FMA_LOOP = """
define void @multiply_add(ptr %out) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{body}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {rounds}
  br i1 %more, label %loop, label %done
done:
{sums}
  store {vector} %sum.{last}, ptr %out
  ret void
}}
declare {vector} @llvm.fma.v{lanes}f{bits}({vector}, {vector}, {vector})
"""

READ_LOOP = """
define void @read(ptr %source, i64 %bytes, ptr %out) {
entry:
  br label %loop
loop:
  %at = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{body}
  %next = add i64 %at, {step}
  %more = icmp ult i64 %next, %bytes
  br i1 %more, label %loop, label %done
done:
{ors}
  store <8 x i64> %or.{last}, ptr %out
  ret void
}
"""


def seconds(work: Callable[[], object], at_least: float = 0.05) -> float:
    """The shortest of several runs."""
    best, spent = float("inf"), 0.0
    while spent < at_least:
        start = time.perf_counter()
        work()
        elapsed = time.perf_counter() - start
        best, spent = min(best, elapsed), spent + elapsed
    return best


def in_threads(work: list[Callable[[], object]]) -> None:
    others = [threading.Thread(target=one) for one in work[1:]]
    for other in others:
        other.start()
    work[0]()
    for other in others:
        other.join()


def compiled(text: str, name: str, *arguments: Any) -> Callable[..., None]:
    """A function of LLVM's text form, for this processor."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = host_target()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address(name))
    _ENGINES.append(engine)
    return function


_ENGINES: list[Any] = []  # that hold the functions' code


@cache
def _read() -> Callable[..., None]:
    """Reads so many bytes, a multiple of 512."""
    count = 8
    phis = [f"  %old.{i} = phi <8 x i64> [ zeroinitializer, %entry ], [ %new.{i}, %loop ]" for i in range(count)]
    body = []
    for i in range(count):
        body.append(f"  %at.{i} = add i64 %at, {64 * i}")
        body.append(f"  %from.{i} = getelementptr i8, ptr %source, i64 %at.{i}")
        body.append(f"  %value.{i} = load <8 x i64>, ptr %from.{i}, align 64")
        body.append(f"  %new.{i} = or <8 x i64> %old.{i}, %value.{i}")
    ors = ["  %or.0 = or <8 x i64> %new.0, %new.0"]
    ors += [f"  %or.{i} = or <8 x i64> %or.{i - 1}, %new.{i}" for i in range(1, count)]
    text = READ_LOOP.replace("{phis}", "\n".join(phis)).replace("{body}", "\n".join(body))
    text = text.replace("{ors}", "\n".join(ors)).replace("{step}", str(64 * count)).replace("{last}", str(count - 1))
    return compiled(text, "read", ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


def _aligned(size: int) -> tuple[np.ndarray, int]:
    """Bytes that have been written, and the first address in them that is a multiple of 64."""
    array = np.ones(size + 64, np.uint8)
    return array, -(-array.ctypes.data // 64) * 64


@cache
def bandwidth(size: int, copied: bool) -> float:
    """Bytes a second when ``size`` bytes are touched: half of them copied to the other half, or all of them read."""
    count = threads.available_processors() if size > 1 << 20 else 1
    repeats = max(1, AT_ONCE // size)
    step, out = size // count // 1024 * 512, np.zeros(64 * count + 64, np.int64)
    parts = [(_aligned(step), _aligned(step)) for _ in range(count)]
    read, base = _read(), -(-out.ctypes.data // 64) * 64

    def pass_over(which: int) -> None:
        at, other = (address for _, address in parts[which])
        for _ in range(repeats):
            if copied:
                ctypes.memmove(other, at, step)
            else:
                read(at, step, base + 512 * which)
                read(other, step, base + 512 * which)

    work = [lambda which=which: pass_over(which) for which in range(count)]
    return repeats * count * 2 * step / seconds(lambda: in_threads(work))


@cache
def peak(bits: int) -> float:
    """Floating-point operations a second, with floats of so many bits."""
    target = host_target()
    lanes = target.vector_bits // bits
    vector = f"<{lanes} x {'float' if bits == 32 else 'double'}>"
    phis, body, sums = [], [], [f"  %sum.0 = fadd {vector} %new.0, zeroinitializer"]
    for i in range(CHAINS):
        start = f"splat ({'float' if bits == 32 else 'double'} {i}.5)"
        phis.append(f"  %old.{i} = phi {vector} [ {start}, %entry ], [ %new.{i}, %loop ]")
        operands = ", ".join(f"{vector} {x}" for x in (f"%old.{i}", f"%old.{(i + 1) % CHAINS}", f"%old.{i}"))
        body.append(f"  %new.{i} = call {vector} @llvm.fma.v{lanes}f{bits}({operands})")
        if i:
            sums.append(f"  %sum.{i} = fadd {vector} %sum.{i - 1}, %new.{i}")
    text = FMA_LOOP.format(
        phis="\n".join(phis), body="\n".join(body), sums="\n".join(sums), vector=vector, lanes=lanes, bits=bits,
        rounds=ROUNDS, last=CHAINS - 1,
    )  # fmt: skip
    function = compiled(text, "multiply_add", ctypes.c_void_p)
    count = threads.available_processors()
    out = np.zeros(64 * count + 64)
    base = -(-out.ctypes.data // 64) * 64
    work = [lambda i=i: function(base + 64 * 8 * i) for i in range(count)]
    return count * 2 * lanes * CHAINS * ROUNDS / seconds(lambda: in_threads(work))


def floor_seconds(read: int, written: int, passes: int, flops: float, bits: int) -> float:
    """No program can be faster than this that reads and writes so many bytes in each pass."""
    size = min(max(read + written, SMALLEST), LARGEST)
    copied = 2 * min(read, written)
    moving = copied / bandwidth(size, copied=True)
    if more := read + written - copied:
        moving += more / bandwidth(size, copied=written > read)
    return max(passes * moving, flops / peak(64 if bits == 64 else 32))


def floors() -> dict[str, float]:
    """The measured figures themselves: bytes and floating-point operations a second."""
    return {
        "copied, 4 MiB": bandwidth(1 << 22, copied=True),
        "copied, 128 MiB": bandwidth(1 << 27, copied=True),
        "read, 4 MiB": bandwidth(1 << 22, copied=False),
        "read, 128 MiB": bandwidth(1 << 27, copied=False),
        "float32": peak(32),
        "float64": peak(64),
    }
