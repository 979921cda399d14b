"""Splitting a joint graph into what runs forward and what runs backward."""

from __future__ import annotations

from collections.abc import Sequence

from .graph import Constant, Graph, Value


def split(
    joint: Graph, forward_ops: int, cotangents: Sequence[Value], gradients: Sequence[Value]
) -> tuple[Graph, Graph, list[Value]]:
    """The forward graph, the backward graph, and the residuals: values of the forward graph that backward reads.

    The first ``forward_ops`` ops of ``joint`` compute its results, the others compute ``gradients`` from
    ``cotangents``, which are no parameters of ``joint``.  The forward graph returns the residuals after its own
    results; the backward graph takes the residuals, then the cotangents.
    """
    known = set(cotangents)
    for op in joint.ops[forward_ops:]:
        known.update(op.results)
    residuals: dict[Value, None] = {}
    for op in joint.ops[forward_ops:]:
        residuals.update(dict.fromkeys(v for v in op.operands if v not in known and not isinstance(v, Constant)))
    residuals.update(dict.fromkeys(v for v in gradients if v not in known and not isinstance(v, Constant)))
    saved = list(residuals)
    names = [*joint.result_names, *("saved" for _ in saved)]
    forward = Graph(
        joint.name, joint.parameters, joint.ops[:forward_ops], [*joint.results, *saved], joint.sources, names
    )
    backward = Graph(f"{joint.name}.backward", [*saved, *cotangents], joint.ops[forward_ops:], gradients)
    return forward, backward.copy(), saved
