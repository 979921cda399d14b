"""The report that ``explain()`` gives: what compiled, why, how long, and what does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tracejit.backends.program import (
    BlockwiseCall,
    BranchCall,
    Call,
    CopyCall,
    DotCall,
    HostCall,
    KernelCall,
    LoopCall,
    walk,
)
from tracejit.ir import Value

from .sources import Argument

if TYPE_CHECKING:
    from .jit import Signature
    from .paths import Segment


def explain(name: str, signatures: Iterable[Signature], history: Sequence[str]) -> str:
    """A report for a person, one paragraph a signature."""
    lines = [f"{name}:"]
    advice: dict[str, None] = {}
    for signature in signatures:
        lines.append(f"  called with {signature.description}")
        advice.update(dict.fromkeys(_advice(signature)))
        if signature.lazy is not None:
            lazy = signature.lazy
            lines.append(
                f"    its Python code runs at each call ({lazy.calls} calls, {lazy.stretches.compiled} stretches of "
                f"operations compiled): {lazy.reason}"
            )
            if lazy.location is not None:
                lines.append(f"      at {lazy.location}")
        for root in signature.roots:
            for segment in root.shown():
                lines += [f"    {line}" for line in _segment(segment)]
    if len(lines) == 1:
        lines.append("  not called yet")
    lines += [f"  {event}" for event in history]
    if advice:
        lines += ["  to make it faster:", *(f"    {hint}" for hint in advice)]
    return "\n".join(lines)


def _advice(signature: Signature) -> Iterator[str]:
    """What the user could do."""
    lazy = signature.lazy
    if lazy is not None:
        where = f" ({lazy.location})" if lazy.location is not None else ""
        if lazy.reason.endswith("is shown") or "print" in lazy.reason:
            yield f"tj.debug.print shows values from within compiled code{where}"
        elif "outcomes" in lazy.reason or "needs a value" in lazy.reason:
            yield f"tj.where, tj.cond and tj.while_loop decide without Python{where}"
    names = {source.position: value.name for root in signature.roots for value, source in _arguments(root)}
    for (position, axis), location in signature.family.dimensions.fixed.items():
        where = f" ({location})" if location is not None else ""
        yield (
            f"extent {axis} of `{names.get(position, 'an argument')}` is asked for as a number{where}: "
            f"each other one is traced again"
        )


def _arguments(root: Segment) -> Iterator[tuple[Value, Argument]]:
    for value, source in root.inputs.items():
        if isinstance(source, Argument):
            yield value, source


def _title(call: Call) -> str:
    match call:
        case KernelCall():
            return call.kernel.name
        case DotCall():
            return f"dot {call.batch}x{call.m}x{call.n}x{call.k}"
        case HostCall():
            return f"numpy {call.op.primitive.name}"
        case CopyCall():
            return "copy"
        case BlockwiseCall():
            return f"{call.batch}x{call.m} rows"
        case BranchCall() | LoopCall():
            return call.op.primitive.name


def _segment(segment: Segment) -> list[str]:
    code = segment.code
    if code is None:
        return []
    if code.compiles_late:
        outcome = [f"{segment.describe()}:"] if segment.after is not None else []
        return [*outcome, segment.made_of(), "runs op by op: it is compiled when it has come more often"]
    program = code.program
    calls = list(walk(program.calls))
    kernels = sum(isinstance(call, KernelCall) for call in calls)
    products = sum(isinstance(call, DotCall) for call in calls)
    by_numpy = sum(isinstance(call, HostCall) for call in calls)
    seconds = {"trace": segment.seconds, **code.seconds}
    times = ", ".join(f"{stage} {duration * 1e3:.1f} ms" for stage, duration in seconds.items() if duration)
    lines = [f"{segment.describe()}:"] if segment.after is not None else []
    if template := segment.made_of():
        lines.append(template)
    count = "" if segment.ending is None else f"; {segment.ending.times} calls"
    passes = [f"{name} {duration * 1e3:.1f} ms" for name, duration in code.passes.items() if duration > 5e-5]
    lines += [
        f"compiled in {sum(seconds.values()) * 1e3:.1f} ms ({times}){count}",
        *([f"passes: {', '.join(passes)}"] if passes else []),
        f"{len(segment.graph.ops)} ops traced, {len(code.optimized.ops)} after passes; {kernels} kernel calls "
        f"({len(program.kernels)} distinct), {products} matrix products, "
        f"{by_numpy} by NumPy; arena {program.arena_bytes:,} bytes",
    ]
    if segment.ending is not None and segment.ending.backward is not None:
        lines.append(segment.ending.backward.note().lstrip("# "))
    captured = list(segment.graph.sources.values())
    if captured:
        lines.append(f"captured: {', '.join(captured)}")
    for number, call in enumerate(calls):
        lines.append(f"  {number:3d} {_title(call):48} {call.work:>12,} operations   {call.location or ''}")
    for guard in segment.guards:
        line = guard.where()
        lines.append(f"relies on: {guard.describe()}{f' ({line})' if line else ''}")
    if segment.decision is not None:
        where = f" ({segment.decision.location})" if segment.decision.location else ""
        lines.append(f"then {segment.decision.what} decides{where}")
    return lines
