"""Dead code elimination: ops whose results nobody reads are dropped."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Block, Emit, Graph, Op, Value


def dce(graph: Graph) -> Graph:
    """``graph`` without the ops that no result needs; parameters stay, and so do ops that are there for an effect.

    An op has an effect when it has no results, or holds such an op in its regions.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse("func @f(%x: f32[3]) -> (f32[3]) { %y = negate %x : f32[3]  return %x }")
    >>> print(dce(graph))
    func @f(%x: f32[3]) -> (f32[3]) {
      return %x
    }
    """
    live: set[Op] = set()
    _mark(graph, set(), live)
    if all(op in live for op in graph.walk()):
        return graph

    def drop_dead(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        return None if op in live else ()

    return graph.rewrite(drop_dead)


def _mark(block: Block, needed: set[Value], live: set[Op]) -> None:
    """Put the ops of ``block`` that are needed into ``live``, and what they read into ``needed``."""
    needed.update(block.results)
    for op in reversed(block.ops):
        if not needed.isdisjoint(op.results) or _has_effect(op):
            live.add(op)
            needed.update(op.operands)
            for region in op.regions:
                _mark(region, needed, live)


def _has_effect(op: Op) -> bool:
    return not op.results or any(_has_effect(inner) for region in op.regions for inner in region.ops)
