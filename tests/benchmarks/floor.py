"""The physical floor: what this machine's memory and multipliers can do at most, measured.

Bandwidth is that of copying, with all processors, within as much memory as a workload touches; the peak is that of
fused multiply-additions in registers.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np

from tracejit.backends.cpu import threads
from tracejit.backends.cpu.target import host_target

SMALLEST, LARGEST = 1 << 18, 1 << 28  # fewer bytes are copied in less time than it takes to ask for it
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


@cache
def bandwidth(size: int) -> float:
    """Bytes a second, read and written, when ``size`` bytes are touched."""
    size = min(max(size, SMALLEST), LARGEST)
    count = threads.available_processors() if size > 1 << 20 else 1
    parts = [(np.ones(size // 2 // count, np.uint8), np.ones(size // 2 // count, np.uint8)) for _ in range(count)]
    repeats = max(1, (1 << 24) // size)

    def copy(source: np.ndarray, target: np.ndarray) -> None:
        for _ in range(repeats):
            np.copyto(target, source)

    return repeats * size / seconds(lambda: in_threads([lambda pair=pair: copy(*pair) for pair in parts]))


@cache
def peak(bits: int) -> float:
    """Floating-point operations a second, with floats of so many bits."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
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
    module = llvm.parse_assembly(text)
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=True
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("multiply_add"))
    count = threads.available_processors()
    out = np.zeros(64 * count + 64)
    base = -(-out.ctypes.data // 64) * 64
    work = [lambda i=i: function(base + 64 * 8 * i) for i in range(count)]
    return count * 2 * lanes * CHAINS * ROUNDS / seconds(lambda: in_threads(work))


def floor_seconds(bytes: float, flops: float, bits: int) -> float:
    """No program can be faster than this."""
    return max(bytes / bandwidth(1 << int(bytes).bit_length()), flops / peak(64 if bits == 64 else 32))
