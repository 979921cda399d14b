"""The results of the workloads as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .suite import PEERS

Measured = dict[str, Any]

HEAD = (
    "| workload | tracejit | NumPy | PyTorch | `torch.compile` | JAX | Numba | × best peer | of the floor "
    "| first call (JAX) | warm cache (JAX) | peak MB (JAX) |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def duration(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def line(result: Measured) -> str:
    """A row of the table."""
    found, ours, jax = result["libraries"], result["libraries"].get("tracejit", {}), result["libraries"].get("jax", {})
    cells = [result["workload"], duration(ours["steady_s"]) if ours else "–"]
    cells += [duration(found[peer]["steady_s"]) if peer in found else "–" for peer in PEERS]
    cells.append(f"**{result['ratio']:.2f}×**" if "ratio" in result else "–")
    cells.append(f"{result['floor_s'] / ours['steady_s']:.0%}" if ours else "–")
    for key, written in (("first_s", duration), ("warm_s", duration), ("peak_mb", "{:.0f}".format)):
        theirs = f" ({written(jax[key])})" if key in jax else ""
        cells.append(f"{written(ours[key])}{theirs}" if key in ours else "–")
    return f"| {' | '.join(cells)} |"


def table(results: Sequence[Measured]) -> str:
    """The table, without columns that nothing was measured for."""
    rows = [text.strip("|").split("|") for text in (*HEAD.splitlines(), *map(line, results))]
    columns = [column for column in zip(*rows, strict=True) if {cell.strip() for cell in column[2:]} != {"–"}]
    lines = [f"|{'|'.join(cells)}|" for cells in zip(*columns, strict=True)]
    return "\n".join(lines)


def mean(ratios: Sequence[float]) -> float:
    """The geometric one."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def summary(results: Sequence[Measured]) -> str:
    """In a paragraph: how often tracejit is ahead, and by how much."""
    ratios = [result["ratio"] for result in results if "ratio" in result]
    if not ratios:
        return ""
    slower = [result["workload"] for result in results if result.get("ratio", 1) < 1]
    text = f"{mean(ratios):.2f}× the best peer in the geometric mean of {len(ratios)} workloads; "
    text += f"slower in {len(slower)}{': ' if slower else ''}{', '.join(slower)}."
    if training := [r["ratio"] for r in results if "ratio" in r and r["workload"].endswith("training step")]:
        text += f" Training steps: {mean(training):.2f}×."
    for key, what in (("first_s", "the first call"), ("warm_s", "the first call with a warm cache"),
                      ("peak_mb", "peak memory")):  # fmt: skip
        pairs = [(r["libraries"].get("tracejit", {}).get(key), r["libraries"].get("jax", {}).get(key)) for r in results]
        if shares := [ours / theirs for ours, theirs in pairs if ours and theirs]:
            below = sum(share < (1 / 3 if key == "first_s" else 1) for share in shares)
            bound = "under a third of JAX's" if key == "first_s" else "below JAX's"
            text += f" {what[0].upper()}{what[1:]}: {mean(shares):.2f} of JAX's, {bound} in {below} of {len(shares)}."
    return text


def floors_text(floors: dict[str, float]) -> str:
    """The measured floors in a sentence."""
    moved = [f"{what} {value / 1e9:.0f} GB/s" for what, value in floors.items() if not what.startswith("float")]
    peaks = [f"{what} {value / 1e9:.0f} GFLOP/s" for what, value in floors.items() if what.startswith("float")]
    return f"Floors: {', '.join(moved)}; fused multiply-adds in {', '.join(peaks)}."
