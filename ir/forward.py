"""Forward mode on graphs: a graph that computes what another does, and how that changes with its parameters.

The rules are the primitives' own, the same that eager code follows.  An op with regions becomes one whose regions
compute tangents too: constants, carries and inputs are followed by the tangents of those that have one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .autodiff import graph_emitter
from .facts import replace
from .graph import Block, Builder, Constant, Graph, Value, copy_block
from .primitive import Application, Emitter
from .types import TensorType, is_differentiable

if TYPE_CHECKING:
    from .primitives.control import Control, Layout


def jvp(graph: Graph, wanted: Sequence[bool] | None = None) -> Graph:
    """The graph that takes what ``graph`` takes, and tangents; it gives the results, and their tangents.

    There is a tangent for each parameter of a floating-point (or complex) dtype; ``wanted`` limits them.  There is one
    for each result of such a dtype, zeros where it does not depend on them.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse("func @f(%x: f32[3]) -> (f32[3]) { %y = sine %x : f32[3]  return %y }")
    >>> print(jvp(graph))
    func @f.jvp(%x: f32[3], %x_tangent: f32[3]) -> (f32[3], f32[3]) {
      %y  = sine %x                  : f32[3]
      %v0 = cosine %x                : f32[3]
      %v1 = multiply %x_tangent, %v0 : f32[3]
      return %y, %v1
    }
    """
    flags = [is_differentiable(p.dtype) and (wanted is None or wanted[i]) for i, p in enumerate(graph.parameters)]
    result = Graph(f"{graph.name}.jvp")
    emitter = graph_emitter(Builder(result))
    parameters = [Value(parameter.type, parameter.name) for parameter in graph.parameters]
    tangents = _tangents_of(parameters, flags)
    values, changes = push_ops(emitter, graph, parameters, tangents)
    result.parameters = [*parameters, *(tangent for tangent in tangents if tangent is not None)]
    result.results = [
        *values,
        *(
            emitter.full(0, value.type) if change is None else change
            for value, change in zip(values, changes, strict=True)
            if is_differentiable(value.dtype)
        ),
    ]
    return result


def push_ops(e: Emitter, block: Block, operands: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What a block gives for operands, and its tangents; ``None``, here as there, stands for one that is zero."""
    known: dict[Value, tuple[Any, Any]] = dict(zip(block.parameters, zip(operands, tangents, strict=True), strict=True))

    def read(value: Value) -> tuple[Any, Any]:
        return (e.constant(value.array), None) if isinstance(value, Constant) else known[value]

    for op in block.ops:
        pairs = [read(operand) for operand in op.operands]
        items, changes = [item for item, _ in pairs], [change for _, change in pairs]
        if op.regions:
            results, moved = push_control(e, op.primitive, items, changes, op.attributes, op.regions)  # type: ignore[arg-type]
        else:
            results, moved = _push(e, op.primitive, items, changes, op.attributes)
        for old, new in zip(op.results, results, strict=True):
            if isinstance(new, Value) and new.name is None:
                new.name = old.name
        known.update(zip(op.results, zip(results, moved, strict=True), strict=True))
    found = [read(value) for value in block.results]
    return [item for item, _ in found], [change for _, change in found]


def _push(
    e: Emitter, primitive: Any, items: Sequence[Any], changes: Sequence[Any], attributes: Mapping[str, Any]
) -> tuple[list[Any], list[Any]]:
    result = e.apply(primitive, tuple(items), attributes)
    wanted = [change if primitive.is_differentiable_in(i) else None for i, change in enumerate(changes)]
    if primitive.jvp is None or not is_differentiable(result.dtype) or all(change is None for change in wanted):
        return [result], [None]
    types = tuple([_type(item) for item in items])
    application = Application(primitive, attributes, types, _type(result), tuple(items), result)
    return [result], [primitive.jvp(e, wanted, application)]


def _type(item: Any) -> TensorType:
    return TensorType(item.dtype, tuple(item.shape))


def push_control(
    e: Emitter,
    primitive: Control,
    operands: Sequence[Any],
    tangents: Sequence[Any],
    attributes: Mapping[str, Any],
    regions: Sequence[Block],
) -> tuple[list[Any], list[Any]]:
    """The results of a primitive with regions, and their tangents."""
    layout = primitive.layout(len(operands), attributes)
    conditions, bodies = regions[: primitive.conditions], regions[primitive.conditions :]
    flags = [tangent is not None for tangent in tangents]
    if not any(flags):
        results = e.control(primitive, tuple(operands), attributes, regions)
        return list(results), [None] * len(results)
    carries = range(layout.operand(layout.first_carry), layout.operand(layout.first_input))
    while True:  # a carry has a tangent if it gets one in any step
        pushed = [_PushedBody(body, [*[False] * layout.counters, *flags[layout.selectors :]]) for body in bodies]
        active = [any(changes) for changes in zip(*(body.active for body in pushed), strict=True)]
        grown = [carry for number, carry in enumerate(carries) if active[number] and not flags[carry]]
        if not grown:
            break
        for carry in grown:
            flags[carry] = True
    for number, carry in enumerate(carries):
        active[number] = flags[carry]
    changes = [
        e.full(0, _type(operand)) if flag and tangent is None else tangent
        for operand, tangent, flag in zip(operands, tangents, flags, strict=True)
    ]
    own = operands[layout.selectors :], changes[layout.selectors :], flags[layout.selectors :]
    groups = _groups(layout)
    wide = _widened(layout, flags)
    blocks = [_with_tangents(block, groups, layout, own[2]) for block in conditions]
    blocks += [body.finished(groups, layout, own[2], active) for body in pushed]
    results = list(
        e.control(
            primitive,
            (*operands[: layout.selectors], *_arranged(groups, *own)),
            primitive.attributes_of(attributes, wide, len(active) > layout.carries),
            blocks,
        )
    )
    values: list[Any] = [None] * len(active)
    moved: list[Any] = [None] * len(active)
    places = [(values, number) for number in range(len(active))]
    for (target, number), result in zip(
        _arranged(_of_results(layout, active), places, [(moved, number) for _, number in places], active),
        results,
        strict=True,
    ):
        target[number] = result
    return values, moved


def _of_results(layout: Layout, results: Sequence[Any]) -> list[int]:
    return [layout.carries, len(results) - layout.carries]


def _groups(layout: Layout) -> list[int]:
    return [layout.constants, layout.carries, layout.inputs]


def _widened(layout: Layout, flags: Sequence[bool]) -> Layout:
    """The layout with tangents for the flagged operands."""
    bounds, start = [], layout.selectors
    for count in _groups(layout):
        bounds.append(count + sum(flags[start : start + count]))
        start += count
    return replace(layout, constants=bounds[0], carries=bounds[1], inputs=bounds[2])


def _arranged(groups: Sequence[int], items: Sequence[Any], tangents: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """Items in their groups, each group followed by the tangents of those of it that are flagged."""
    found, start = [], 0
    for count in groups:
        part = slice(start, start + count)
        found += [*items[part], *(t for t, flag in zip(tangents[part], flags[part], strict=True) if flag)]
        start += count
    return found


def _tangents_of(parameters: Sequence[Value], flags: Sequence[bool]) -> list[Value | None]:
    return [
        Value(parameter.type, f"{parameter.name}_tangent" if parameter.name else None) if flag else None
        for parameter, flag in zip(parameters, flags, strict=True)
    ]


def _with_tangents(condition: Block, groups: Sequence[int], layout: Layout, flags: Sequence[bool]) -> Block:
    """A condition that takes tangents, and does not look at them."""
    block = copy_block(condition)
    tangents = _tangents_of(block.parameters, flags)
    block.parameters = _arranged(groups, block.parameters, tangents, flags)
    return block


class _PushedBody:
    """A region's ops with those of its tangents."""

    def __init__(self, region: Block, flags: Sequence[bool]) -> None:
        self._block = Block()
        self._emitter = graph_emitter(Builder(self._block))
        self._parameters = [Value(parameter.type, parameter.name) for parameter in region.parameters]
        self._tangents = _tangents_of(self._parameters, flags)
        self._results, self._changes = push_ops(self._emitter, region, self._parameters, self._tangents)
        self.active = [change is not None for change in self._changes]

    def finished(self, groups: Sequence[int], layout: Layout, flags: Sequence[bool], active: Sequence[bool]) -> Block:
        """The region, with a tangent for each ``active`` result."""
        counters = layout.counters
        changes = [
            self._emitter.full(0, value.type) if flag and change is None else change
            for value, change, flag in zip(self._results, self._changes, active, strict=True)
        ]
        own = self._parameters[counters:], self._tangents[counters:], flags
        self._block.parameters = [*self._parameters[:counters], *_arranged(groups, *own)]
        self._block.results = _arranged(_of_results(layout, active), self._results, changes, active)
        return self._block


__all__ = ["jvp", "push_control", "push_ops"]
