"""The report that ``explain()`` gives: what compiled, why, how long, and what does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tracejit.backends.program import Call, DotCall, HostCall, KernelCall

if TYPE_CHECKING:
    from .jit import Compiled, _Signature


def explain(name: str, signatures: Iterable[_Signature], history: Sequence[str]) -> str:
    """A report for a person, one paragraph a signature."""
    lines = [f"{name}:"]
    for signature in signatures:
        lines.append(f"  called with {signature.description}")
        if signature.eager is not None:
            eager = signature.eager
            lines.append(f"    runs eagerly ({eager.calls} calls): {eager.reason}")
            if eager.location is not None:
                lines.append(f"      at {eager.location}")
        for path in signature.paths:
            lines += [f"    {line}" for line in _path(path)]
    if len(lines) == 1:
        lines.append("  not called yet")
    return "\n".join([*lines, *(f"  {event}" for event in history)])


def _title(call: Call) -> str:
    match call:
        case KernelCall():
            return call.kernel.name
        case DotCall():
            return f"dot {call.batch}x{call.m}x{call.n}x{call.k}"
        case HostCall():
            return f"numpy {call.op.primitive.name}"


def _path(path: Compiled) -> list[str]:
    calls = path.program.calls
    kernels = sum(isinstance(call, KernelCall) for call in calls)
    products = sum(isinstance(call, DotCall) for call in calls)
    times = ", ".join(f"{stage} {seconds * 1e3:.1f} ms" for stage, seconds in path.seconds.items())
    lines = [
        f"compiled in {sum(path.seconds.values()) * 1e3:.1f} ms ({times}); {path.calls} calls",
        f"{len(path.graph.ops)} ops traced, {len(path.optimized.ops)} after passes; {kernels} kernel calls "
        f"({len(path.program.kernels)} distinct), {products} matrix products, "
        f"{len(calls) - kernels - products} by NumPy; "
        f"arena {path.program.arena_bytes:,} bytes",
    ]
    captured = list(path.graph.sources.values())
    if captured:
        lines.append(f"captured: {', '.join(captured)}")
    for number, call in enumerate(calls):
        lines.append(f"  {number:3d} {_title(call):48} {call.work:>12,} operations   {call.location or ''}")
    return lines
