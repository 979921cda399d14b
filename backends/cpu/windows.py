"""Loops that read neighbours, as those over a stencil do: each vector is loaded once, and shifted in registers.

What lies across two cache lines takes two loads, and where a loop reads ``x[i - 1]``, ``x[i]`` and ``x[i + 1]``, at
least two of the three do.  So the loop begins where ``x[i]`` is aligned, loads one vector in each step, and puts the
others together from it and those of the steps before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import kernel as k
from .emitter import VECTOR_LANES, Context, memory_overload, memory_vector

if TYPE_CHECKING:
    from .codegen import KernelEmitter

Window = list[k.Load]  # whose addresses differ by their shifts


def of(loop: k.Loop) -> list[Window]:
    """The windows of a vector loop over a straight line of statements."""
    if isinstance(loop.extent, int) or not all(
        isinstance(s, k.Instruction | k.Call | k.Index | k.Load | k.Store) for s in loop.body
    ):
        return []
    found: dict[tuple[object, ...], Window] = {}
    for load in loop.body:
        if isinstance(load, k.Load) and load.imaginary is None and not load.address.dynamic:
            at = load.address
            if at.terms.get(loop.axis) == 1:
                found.setdefault((load.buffer, at.offset, *at.terms.items()), []).append(load)
    return [loads for loads in found.values() if len({load.address.shift for load in loads}) > 1]


def loop_of_windows(kernel: KernelEmitter, loop: k.Loop, start: str, stop: str, c: Context) -> None:
    """Up to where the first window is aligned, whole vectors from there on, and the rest."""
    e, lanes, windows = kernel.e, VECTOR_LANES, of(loop)

    def step(position: str, mask: str | None, loaded: Mapping[int, str]) -> None:
        inner = kernel.opened(c, loop.axis, position, lanes, mask)
        inner.loaded = dict(loaded)
        kernel.enter(inner, loop.body)
        kernel.block(loop.body, inner)

    before = kernel.opened(c, loop.axis, start)
    size = windows[0][0].result.dtype.itemsize
    address = e.assign(f"ptrtoint ptr {_middle(kernel, windows[0], before)} to i64")
    bytes_left = e.assign(f"and i64 {e.sub('0', address)}, {lanes * size - 1}")
    first = e.min(e.add(start, e.assign(f"udiv i64 {bytes_left}, {size}")), stop)
    with e.when(e.compare("slt", start, first)):
        step(start, kernel.mask(start, first, lanes), {})
    # The vector after the last is read too: aligned, it is on one page with its first element, which is wanted.
    limit = stop if len(windows) == 1 else e.add(stop, -lanes)
    whole = e.max(first, kernel.whole_vectors(first, limit, lanes))
    with e.when(e.compare("slt", first, whole)):
        begin = kernel.opened(c, loop.axis, first)
        carried = []
        for window in windows:
            type, pointer = memory_vector(window[0].result.dtype, lanes), _middle(kernel, window, begin)
            carried += [(type, _vector(kernel, window, pointer, number)) for number in _numbers(window)[:-1]]
        with e.loop(first, whole, str(lanes), carried, runs_once=True) as steps:
            here, registers = kernel.opened(c, loop.axis, steps.index), iter(steps.carried)
            loaded: dict[int, str] = {}
            for window in windows:
                numbers = _numbers(window)
                last = _vector(kernel, window, _middle(kernel, window, here), numbers[-1])
                vectors = dict(zip(numbers, [*(next(registers) for _ in numbers[:-1]), last], strict=True))
                loaded |= {id(load): _shifted(kernel, load, vectors) for load in window}
                steps.next += [vectors[number] for number in numbers[1:]]
            step(steps.index, None, loaded)
    with e.loop(whole, stop, str(lanes)) as steps:
        step(steps.index, kernel.mask(steps.index, stop, lanes), {})


def _numbers(window: Window) -> list[int]:
    """Which vectors a step needs: the one before, its own, the next one."""
    shifts = [load.address.shift for load in window]
    return list(range(-1 if min(shifts) < 0 else 0, 2 if max(shifts) > 0 else 1))


def _middle(kernel: KernelEmitter, window: Window, c: Context) -> str:
    """The address that the shifts are from."""
    pointer, _ = kernel.pointer(window[0], c)
    shift = window[0].address.shift
    return kernel.advance(pointer, window[0].buffer, str(-shift)) if shift else pointer


def _vector(kernel: KernelEmitter, window: Window, pointer: str, number: int) -> str:
    e, dtype, lanes = kernel.e, window[0].result.dtype, VECTOR_LANES
    at = kernel.advance(pointer, window[0].buffer, str(number * lanes)) if number else pointer
    type, align = memory_vector(dtype, lanes), dtype.itemsize
    if number >= 0:
        return e.assign(f"load {type}, ptr {at}, align {align}")
    first = lanes + min(load.address.shift for load in window)  # what stands before it need not be memory
    mask = f"<{', '.join(f'i1 {str(lane >= first).lower()}' for lane in range(lanes))}>"
    suffix = f"{memory_overload(dtype, lanes)}.p0"
    e.declare(f"declare {type} @llvm.masked.load.{suffix}(ptr, i32, <{lanes} x i1>, {type})")
    return e.assign(
        f"call {type} @llvm.masked.load.{suffix}(ptr {at}, i32 {align}, <{lanes} x i1> {mask}, {type} zeroinitializer)"
    )


def _shifted(kernel: KernelEmitter, load: k.Load, vectors: Mapping[int, str]) -> str:
    shift, lanes = load.address.shift, VECTOR_LANES
    if shift == 0:
        return vectors[0]
    type = memory_vector(load.result.dtype, lanes)
    low, high = (vectors[-1], vectors[0]) if shift < 0 else (vectors[0], vectors[1])
    numbers = ", ".join(f"i32 {shift % lanes + lane}" for lane in range(lanes))
    return kernel.e.assign(f"shufflevector {type} {low}, {type} {high}, <{lanes} x i32> <{numbers}>")
