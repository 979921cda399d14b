"""Blocks: a part of a function recorded by itself, as the body of a loop or the branch of a condition.

A block reads its own parameters alone.  What it reads of the values around it becomes a parameter too (an *import*);
a tensor from around it that it gives another value (a *cell*) is noticed, so that the loop can carry that value along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracejit.ir import Block, Constant, Value

from .tape import BlockInput, Node, node_of
from .tensor import Tensor, new_tensor

if TYPE_CHECKING:
    from .paths import Check
    from .tracing import Trace

Import = tuple[Value, Node | None]  # a value from around a block, and where its gradient goes


@dataclass(eq=False)
class Region:
    """A block under construction."""

    outer: Region | None
    block: Block = field(default_factory=Block)
    imports: dict[tuple[Value, int], tuple[Import, Value]] = field(default_factory=dict)
    own: set[Value] = field(default_factory=set)
    checks: list[tuple[Value, Check]] = field(default_factory=list)

    def local(self, value: Value, node: Node | None = None) -> Value:
        """The value as the block's ops may read it.

        With and without a history the same value is two parameters, or a gradient would flow where it was detached.
        """
        if isinstance(value, Constant) or value in self.own:
            return value
        around = value if self.outer is None else self.outer.local(value, node)
        key = around, id(node)
        if key not in self.imports:
            parameter = Value(value.type, value.name)
            self.own.add(parameter)
            self.imports[key] = (around, node), parameter
        return self.imports[key][1]


@dataclass
class TracedBlock:
    """What a function did with some arguments, as a block without results yet."""

    block: Block
    imports: list[Import]
    imported: list[Value]  # the parameters that stand for them
    arguments: list[Value]  # the parameters that stand for the arguments
    result: Any  # what the function returned: tensors that hold values of the block
    cells: list[Any]  # tensors from around it (or their shadows) that it gave another value
    checks: list[Check]


def trace_block(trace: Trace, function: Callable[..., Any], arguments: Sequence[Tensor]) -> TracedBlock:
    """Record ``function`` called with twins of ``arguments``; tensors from around it are as before afterwards."""
    region = Region(trace.region)
    twins = [_twin(region, argument) for argument in arguments]
    parameters: list[Value] = [twin._value for twin in twins]
    before = {id(cell): (cell, cell._value, cell._node) for cell in trace.cells()}
    gradients = trace.gradients()
    graph, trace.builder.graph, trace.region = trace.builder.graph, region.block, region  # type: ignore[assignment]
    try:
        result = function(*twins)
        for shadow in trace.shadows.values():  # those that were read here first
            if id(shadow) not in before or before[id(shadow)][1] is None:
                before[id(shadow)] = shadow, shadow.first, None
        cells = [cell for cell, value, _ in before.values() if cell._value is not value]
        if trace.gradients() != gradients:
            trace.refuse("a loop's body or a branch writes gradients of tensors from outside")
    finally:
        trace.builder.graph, trace.region = graph, region.outer
        for cell, value, node in before.values():
            cell._value, cell._node = value, node
    imports = list(region.imports.values())
    return TracedBlock(
        region.block, [item for item, _ in imports], [parameter for _, parameter in imports], parameters, result, cells,
        [check for _, check in region.checks],
    )  # fmt: skip


def _twin(region: Region, argument: Tensor) -> Tensor:
    """A tensor that stands for an argument within a block."""
    value = Value(argument._value.type)
    region.own.add(value)
    twin = new_tensor(value)
    twin._weak = argument._weak
    if node_of(argument) is not None:
        twin._node, twin._requires_grad = BlockInput(value.type), True
    return twin


def unite(blocks: Sequence[TracedBlock], counters: Sequence[Value] = ()) -> list[Import]:
    """Give the blocks of one op the same parameters: counters, the imports of all, arguments; the imports."""
    imports: dict[tuple[Value, int], Import] = {}
    for traced in blocks:
        imports.update({(value, id(node)): (value, node) for value, node in traced.imports})
    for traced in blocks:
        own = {(v, id(node)): p for (v, node), p in zip(traced.imports, traced.imported, strict=True)}
        parameters = [own.get(key) or Value(value.type) for key, (value, _) in imports.items()]
        traced.block.parameters = [*counters, *parameters, *traced.arguments]
    return list(imports.values())
