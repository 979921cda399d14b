"""Blocks: a part of a function recorded by itself, as the body of a loop or the branch of a condition.

A block reads its own parameters alone.  What it reads of the values around it becomes a parameter too (an *import*);
a tensor from around it that it gives another value (a *cell*) is noticed, so that the loop can carry that value along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from tracejit.ir import Block, Builder, Constant, TensorType, Value
from tracejit.ir.facts import facts
from tracejit.ir.primitives.view import stop_gradient
from tracejit.ir.types import is_differentiable

from .disguise import disguised
from .levels import Box, depth_here, hidden, is_differentiated
from .state import thread
from .tape import BlockInput, Node, node_of, with_history
from .tensor import Tensor, new_tensor

if TYPE_CHECKING:
    from .paths import Check
    from .tracing import Trace


class CannotCapture(BaseException):
    """A function does something that a block cannot hold."""


class HasRules(CannotCapture):
    """It calls a function with a derivative of its own, which can be recorded outside of blocks alone."""


Import = tuple[Value, Node | None]  # a value from around a block, and where its gradient goes


@facts(frozen=True)
class Sliced:
    """A value from around a loop that its steps read at their numbers, which ascend, along an axis."""

    value: Value
    node: Node | None
    axis: int
    numbers: range


@facts(eq=False)
class Region:
    """A block under construction."""

    outer: Region | None
    block: Block = field(default_factory=Block)
    imports: dict[tuple[Value, int], tuple[Import, Value]] = field(default_factory=dict)
    own: set[Value] = field(default_factory=set)
    constant: set[Value] = field(default_factory=set)  # computed without gradients
    stopped: dict[Value, Value] = field(default_factory=dict)  # those, behind what stops gradients
    checks: list[tuple[Value, Check]] = field(default_factory=list)
    has_rules: bool = False  # it calls functions with derivatives of their own, which no op in it knows
    depth: int = field(default_factory=depth_here)  # of the transformations around it
    numbers: dict[Value, range] = field(default_factory=dict)  # of a loop's steps: what values are in them
    slices: dict[Sliced, Tensor] = field(default_factory=dict)  # with what stands for them

    def local(self, value: Value, node: Node | None = None) -> Value:
        """The value as the block's ops may read it.

        With and without a history the same value is two parameters, or a gradient would flow where it was detached.
        """
        if (isinstance(value, Constant) and node is None) or value in self.own or self._made(value):
            return value
        around = value if self.outer is None else self.outer.local(value, node)
        key = around, id(node)
        if key not in self.imports:
            parameter = Value(value.type, value.name)
            self.own.add(parameter)
            self.imports[key] = (around, node), parameter
        return self.imports[key][1]

    def slice(self, value: Value, node: Node | None, axis: int, numbers: range, type: TensorType) -> Tensor:
        """What a step reads of a value from around the loop, at its number."""
        sliced = Sliced(value, node, axis, numbers)
        if node is not None and any((other.value, other.node) == (value, node) for other in self.slices):
            raise CannotCapture("several slices of a step have gradients, which are added up in the order of the steps")
        if sliced not in self.slices:
            self.slices[sliced] = _twin(self, Like(type, False, node is not None))
        twin = self.slices[sliced]
        return with_history(twin._value, twin._node)

    def _made(self, value: Any) -> bool:
        """Whether a value is of a transformation that runs within the block."""
        return isinstance(value, Box) and value.level.depth > self.depth

    def note(self, value: Value, *, differentiable: bool) -> None:
        """A value that an op of the block gives; ``differentiable`` unless under ``no_grad``."""
        self.own.add(value)
        if not differentiable and is_differentiable(value.dtype):
            self.constant.add(value)

    def readable(self, value: Value, builder: Builder) -> Value:
        """The value as what is differentiated may read it: a block has no tape that would end where a history does."""
        if value not in self.constant:
            return value
        if value not in self.stopped:
            self.stopped[value] = builder.apply(stop_gradient, [value], {})
            self.own.add(self.stopped[value])
        return self.stopped[value]


def note_rule() -> None:
    """A function with a derivative of its own is called: a block that may be differentiated cannot hold that."""
    region = thread.trace.region if thread.trace is not None and thread.grad_enabled else None
    while region is not None:
        region.has_rules, region = True, region.outer


@facts(frozen=True)
class Like:
    """What stands for an argument of a block looks like this."""

    type: TensorType
    is_weak: bool = False
    has_history: bool = False

    @classmethod
    def of(cls, tensor: Tensor) -> Like:
        return cls(TensorType(tensor.dtype, tensor.shape), tensor._weak, node_of(tensor) is not None)

    @classmethod
    def slice_of(cls, tensor: Tensor) -> Like:
        """A slice along the first axis."""
        return cls(TensorType(tensor.dtype, tensor.shape[1:]), False, node_of(tensor) is not None)


@facts
class TracedBlock:
    """What a function did with some arguments, as a block without results yet."""

    region: Region
    imports: list[Import]
    imported: list[Value]  # the parameters that stand for them
    arguments: list[Value]  # the parameters that stand for the arguments
    result: Any  # what the function returned: tensors that hold values of the block
    cells: list[Any]  # tensors from around it (or their shadows) that it gave another value
    checks: list[Check]

    @property
    def block(self) -> Block:
        return self.region.block

    def final(self, value: Value) -> Value:
        """A value as a result of the block."""
        return self.region.readable(value, Builder(self.block))


def trace_block(trace: Trace, function: Callable[..., Any], arguments: Sequence[Tensor | Like]) -> TracedBlock:
    """Record ``function`` called with twins of ``arguments``; tensors from around it are as before afterwards."""
    region = Region(trace.region)
    likes = [argument if isinstance(argument, Like) else Like.of(argument) for argument in arguments]
    twins = [_twin(region, like) for like in likes]
    parameters: list[Value] = [twin._value for twin in twins]
    own = {id(twin) for twin in twins}
    around = [cell for cell in trace.cells() if id(cell) not in own]
    before = {id(cell): (cell, cell._value, cell._node, _needs_gradient(cell)) for cell in around}
    gradients = trace.gradients()
    graph, trace.builder.graph, trace.region = trace.builder.graph, region.block, region
    try:
        with hidden():
            result = _inside(trace, region, function(*twins))
        for shadow in trace.shadows.values():  # those that were read here first
            if id(shadow) not in before or before[id(shadow)][1] is None:
                before[id(shadow)] = shadow, shadow.first, shadow.first_node, None
        cells = [cell for cell, value, *_ in before.values() if cell._value is not value]
        if trace.gradients() != gradients:
            trace.refuse("a loop's body or a branch writes gradients of tensors from outside")
        histories = [node for (_, node), _ in region.imports.values()]
        if region.has_rules and (is_differentiated() or any(like.has_history for like in likes) or any(histories)):
            raise HasRules("it uses a function with a derivative of its own")
    finally:
        trace.builder.graph, trace.region = graph, region.outer
        for cell, value, node, flag in before.values():
            hold(cell, value, node, flag)
    imports = list(region.imports.values())
    return TracedBlock(
        region, [item for item, _ in imports], [parameter for _, parameter in imports], parameters, result, cells,
        [check for _, check in region.checks],
    )  # fmt: skip


def _inside(trace: Trace, region: Region, result: Any) -> Any:
    """What a function returned, as values of the block: what it took from around it, it reads."""
    if isinstance(result, list):
        return [_inside(trace, region, item) for item in result]
    if not isinstance(result, Tensor) or isinstance(result._value, Constant) or result._value in region.own:
        return result
    inside = new_tensor(trace.read(result))
    inside._node, inside._requires_grad = result._node, result._requires_grad
    return disguised(inside) if result._weak else inside


def _needs_gradient(cell: Any) -> bool | None:
    """A tensor's flag; a shadow has that of the tensor outside, which stays as it is."""
    return cell._requires_grad if isinstance(cell, Tensor) else None


def hold(cell: Any, value: Any, node: Node | None, needs_gradient: bool | None) -> None:
    """Have a tensor (or its shadow) hold something."""
    cell._value, cell._node = value, node
    if isinstance(cell, Tensor):
        cell._requires_grad = bool(needs_gradient)


def _twin(region: Region, like: Like) -> Tensor:
    """A tensor that stands for an argument within a block."""
    value = Value(like.type)
    region.own.add(value)
    twin = new_tensor(value)
    if like.is_weak:
        disguised(twin)
    if like.has_history:
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
