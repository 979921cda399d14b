"""Branches and loops of which it is known how they go: their regions' ops take the place of the op.

That is a ``case`` whose selector is a constant, a ``scan`` of one step or none, and a ``while`` that never begins.  And
what regions get that is a constant, or one number many times, they get as such; a matrix that was transposed for their
products alone they get as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Block, Constant, Emit, Graph, Op, Value
from ..interpreter import own_symbols
from ..primitives.contraction import dot
from ..primitives.control import Control, case, scan, while_
from ..primitives.view import broadcast_in_dim, reshape, transpose
from ..types import int64


def inline(graph: Graph) -> Graph:
    """``graph`` without the branches and loops that need not be any.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[3]) -> (f32[3]) {
    ...   %y = case true, %x : f32[3]
    ...     (%a: f32[3]) { return %a }
    ...     (%a: f32[3]) { %b = negate %a : f32[3]  return %b }
    ...   return %y
    ... }''')
    >>> print(inline(graph))
    func @f(%x: f32[3]) -> (f32[3]) {
      %b = negate %x : f32[3]
      return %b
    }
    """
    if not any(op.regions for op in graph.ops):
        return graph

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if not op.regions:
            return None
        if op.primitive is case and isinstance(operands[0], Constant):
            found = _inline_case(op, operands, emit)
        elif op.primitive is scan and op.attributes["length"] in (0, 1):
            found = _inline_scan(op, operands, emit)
        elif op.primitive is while_ and "length" not in op.attributes and _is_false(op.regions[0].results[0]):
            found = operands[op.attributes["constants"] :]
        else:
            found = None
        return _move_in(op, operands, emit) if found is None else found

    return graph.rewrite(rewrite)


def _inline_case(op: Op, operands: Sequence[Value], emit: Emit) -> Sequence[Value] | None:
    selector = operands[0]
    assert isinstance(selector, Constant)
    region = op.regions[min(max(int(selector.array), 0), len(op.regions) - 1)]
    if not own_symbols(region):
        return emit.inline(region, operands[1:])
    if len(op.regions) == 1:  # what an extent is that it finds out is known within a region only
        return None
    return emit.several(case, [Constant(np.array(0, int64)), *operands[1:]], {}, [region])


def _inline_scan(op: Op, operands: Sequence[Value], emit: Emit) -> Sequence[Value] | None:
    layout, (region,) = scan.layout_of(op), op.regions
    first = layout.constants
    carries = operands[first : first + layout.carries]
    stacked = op.results[layout.carries :]
    if op.attributes["length"] == 0:
        if not all(result.type.is_static for result in stacked):
            return None
        return [*carries, *(Constant(np.empty(result.type.static_shape, result.dtype)) for result in stacked)]
    if own_symbols(region):
        return None
    inputs = [emit(reshape, [x], {"shape": x.shape[1:]}) for x in operands[first + layout.carries :]]
    number = Constant(np.array(0, int64))
    found = emit.inline(region, [number, *operands[:first], *carries, *inputs])
    steps = zip(found[layout.carries :], stacked, strict=True)
    return [*found[: layout.carries], *(emit(reshape, [y], {"shape": result.shape}) for y, result in steps)]


def _is_false(value: Value) -> bool:
    return isinstance(value, Constant) and not value.array


def _move_in(op: Op, operands: Sequence[Value], emit: Emit) -> Sequence[Value] | None:
    """The op, whose regions know the constants that they get, and view by themselves what is a view."""
    primitive = op.primitive
    assert isinstance(primitive, Control)
    layout = primitive.layout_of(op)
    known: dict[Value, Value] = {}
    given = list(operands)
    views: dict[int, Value] = {}
    for number in range(layout.selectors, layout.selectors + layout.constants):
        value = operands[number]
        if isinstance(value, Constant):
            known.update((region.parameters[layout.parameter(number)], value) for region in op.regions)
        elif _is_for_regions(op, layout.parameter(number), value):
            assert value.op is not None
            views[number] = value
            given[number] = value.op.operands[0]
    if not known and not views:
        return None
    kept = [n for n in range(len(operands)) if layout.parameter(n) < layout.counters or not _is_known(op, n, known)]
    regions = [_with_views(op, region, views, known) for region in op.regions]
    constants = sum(layout.selectors <= n < layout.selectors + layout.constants for n in kept)
    attributes = dict(op.attributes)
    if "constants" in attributes:
        attributes["constants"] = constants
    return emit.several(primitive, [given[n] for n in kept], attributes, regions, known)


def _is_known(op: Op, operand: int, known: dict[Value, Value]) -> bool:
    assert isinstance(op.primitive, Control)
    layout = op.primitive.layout_of(op)
    return operand >= layout.selectors and op.regions[0].parameters[layout.parameter(operand)] in known


def _is_for_regions(op: Op, parameter: int, value: Value) -> bool:
    """Whether the regions had better see by themselves what a value is a view of."""
    if value.op is None or value.op.primitive not in (broadcast_in_dim, transpose):
        return False
    if value.op.primitive is broadcast_in_dim:
        return True
    own = {region.parameters[parameter] for region in op.regions}
    readers = [inner for region in op.regions for inner in region.ops if not own.isdisjoint(inner.operands)]
    return (
        value.op.attributes["permutation"] == (*range(value.ndim - 2), value.ndim - 1, value.ndim - 2)
        and all(reader.primitive is dot for reader in readers)
        and not any(result in own for region in op.regions for result in region.results)
    )


def _with_views(op: Op, region: Block, views: dict[int, Value], known: dict[Value, Value]) -> Block:
    """The region without the parameters that are known; what is a view, it gets as it was before that."""
    assert isinstance(op.primitive, Control)
    layout = op.primitive.layout_of(op)
    parameters, ops = list(region.parameters), []
    for number, value in views.items():
        old = parameters[layout.parameter(number)]
        assert value.op is not None
        source = parameters[layout.parameter(number)] = Value(value.op.operands[0].type)
        again = Op(value.op.primitive, [source], value.op.attributes, [value.type], value.op.location)
        again.results = (old,)
        ops.append(again)
    return Block([p for p in parameters if p not in known], [*ops, *region.ops], region.results)
