"""Dead code elimination: what nobody reads is dropped, ops as well as operands and results of ops with regions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..facts import replace
from ..graph import Block, Emit, Graph, Op, Value
from ..primitives.control import Control, Layout
from ..types import Symbol


def dce(graph: Graph) -> Graph:
    """``graph`` without what no result needs; parameters stay, and so do ops that are there for an effect.

    An op has an effect when it has no results, or holds such an op in its regions.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse("func @f(%x: f32[3]) -> (f32[3]) { %y = negate %x : f32[3]  return %x }")
    >>> print(dce(graph))
    func @f(%x: f32[3]) -> (f32[3]) {
      return %x
    }
    """
    liveness = _Liveness()
    liveness.block(graph, range(len(graph.results)))
    if liveness.is_all(graph):
        return graph

    def drop_dead(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if op not in liveness.live:
            return ()
        kept = liveness.kept.get(op)
        return None if kept is None or kept.is_all(op) else kept.shrink(op, operands, emit)

    return graph.rewrite(drop_dead)


class _Kept:
    """Which parameters and results of an op's bodies are needed, by number."""

    def __init__(self, layout: Layout, parameters: Iterable[int], results: Iterable[int]) -> None:
        self.layout = layout
        self.parameters = sorted(parameters)
        self.results = sorted(results)

    def is_all(self, op: Op) -> bool:
        return len(self.parameters) == len(op.regions[0].parameters) and len(self.results) == len(op.results)

    def shrink(self, op: Op, operands: Sequence[Value], emit: Emit) -> Sequence[Value]:
        """Put the op there without what nobody needs."""
        layout = self.layout
        primitive = op.primitive
        assert isinstance(primitive, Control)
        regions = []
        for number, region in enumerate(op.regions):
            chosen = region.results
            if number >= primitive.conditions:
                chosen = [region.results[result] for result in self.results]
            regions.append(Block([region.parameters[p] for p in self.parameters], region.ops, chosen))
        given = [layout.operand(p) for p in self.parameters if p >= layout.counters]
        constants = sum(layout.counters <= p < layout.first_carry for p in self.parameters)
        carries = sum(layout.first_carry <= p < layout.first_input for p in self.parameters)
        attributes = primitive.attributes_of(
            op.attributes, replace(layout, constants=constants, carries=carries), len(self.results) > carries
        )
        found = emit.several(
            primitive, [*operands[: layout.selectors], *(operands[i] for i in given)], attributes, regions
        )
        values = list(op.results)  # those that are dropped stand for themselves, as nobody reads them
        for number, value in zip(self.results, found, strict=True):
            values[number] = value
        return values


class _Liveness:
    """``live`` ops, and for those with regions what is ``kept`` of them."""

    def __init__(self) -> None:
        self.live: set[Op] = set()
        self.kept: dict[Op, _Kept] = {}

    def is_all(self, graph: Graph) -> bool:
        return all(op in self.live for op in graph.walk()) and all(kept.is_all(op) for op, kept in self.kept.items())

    def block(self, block: Block, results: Iterable[int]) -> set[Value]:
        """Mark what the block needs for some of its results; returns all values that are needed."""
        needed = {block.results[number] for number in results}
        live = self.live
        has_symbols = any(isinstance(op.attributes.get("length"), Symbol) for op in block.ops if op.regions)
        symbols: set[Symbol] = set()
        for op in reversed(block.ops):
            if op.regions:
                if not self._control(op, needed, symbols):
                    continue
            elif op.results and needed.isdisjoint(op.results):
                continue
            else:
                needed.update(op.operands)
            live.add(op)
            if has_symbols:
                symbols.update(_symbols(op))
        return needed

    def _control(self, op: Op, needed: set[Value], symbols: set[Symbol]) -> bool:
        """Whether the op is needed; if so, adds what it needs."""
        primitive, length = op.primitive, op.attributes.get("length")
        assert isinstance(primitive, Control)
        used = {number for number, result in enumerate(op.results) if result in needed}
        counts = primitive.conditions > 0 and length in symbols
        if not used and not _has_effect(op) and not counts:
            return False
        layout = primitive.layout_of(op)
        carries = range(layout.carries)
        if counts and not any(number not in carries for number in used):
            used.add(min(set(range(len(op.results))) - set(carries)))  # the symbol is the extent of what is stacked
        while True:
            parameters: set[int] = set(range(layout.counters))
            for number, region in enumerate(op.regions):
                values = self.block(region, range(1) if number < primitive.conditions else used)
                parameters.update(i for i, parameter in enumerate(region.parameters) if parameter in values)
            read = {number for number in carries if layout.first_carry + number in parameters}
            if read <= used:
                break
            used |= read
        parameters.update(layout.first_carry + number for number in carries if number in used)
        if layout.inputs and isinstance(length, Symbol) and max(parameters, default=0) < layout.first_input:
            parameters.add(layout.first_input)
        self.kept[op] = _Kept(layout, parameters, used)
        needed.update(op.operands[: layout.selectors])
        needed.update(op.operands[layout.operand(number)] for number in parameters if number >= layout.counters)
        return True


def _symbols(op: Op) -> Iterable[Symbol]:
    """The symbols that an op reads or has in its results."""
    pending: list[Any] = [*op.attributes.values(), *(value.shape for value in (*op.operands, *op.results))]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            pending += item
        elif isinstance(item, Symbol):
            yield item


def _has_effect(op: Op) -> bool:
    return not op.results or any(_has_effect(inner) for region in op.regions for inner in region.ops)
