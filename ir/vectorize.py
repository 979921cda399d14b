"""Batches on graphs: what a block does, done to each element of a batch, by the batching rules of its primitives.

A branch whose condition differs from element to element becomes a choice among the results of all branches; a loop
goes on until it is over for all, and what it is over for stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .autodiff import graph_emitter
from .batching import BatchedApplication
from .graph import Block, Builder, Constant, Graph, Value
from .primitive import Emitter
from .types import TensorType

if TYPE_CHECKING:
    from .primitives.control import Control

Flags = Sequence[bool]


def vmap(graph: Graph, size: int, is_batched: Flags | None = None) -> Graph:
    """The graph on a batch: parameters (those that ``is_batched`` tells) and results have one as their first axis.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse(
    ...     "func @f(%x: f32[3], %y: f32[]) -> (f32[3]) { %z = add %x, %y : f32[3]  return %z }"
    ... )
    >>> print(vmap(graph, 5))
    func @f.vmap(%x: f32[5,3], %y: f32[5]) -> (f32[5,3]) {
      %v0 = reshape %y {shape=[5, 1]} : f32[5,1]
      %z  = add %x, %v0               : f32[5,3]
      return %z
    }
    """
    flags = [True] * len(graph.parameters) if is_batched is None else is_batched
    body = _BatchedBlock(graph, flags, size)
    result = Graph(f"{graph.name}.vmap")
    block = body.finished([True] * len(graph.results))
    result.parameters, result.ops, result.results = block.parameters, block.ops, block.results
    return result


def batch_ops(
    e: Emitter, block: Block, operands: Sequence[Any], flags: Flags, size: int
) -> tuple[list[Any], list[bool]]:
    """What a block gives for operands, and which of it are batches."""
    known: dict[Value, tuple[Any, bool]] = dict(zip(block.parameters, zip(operands, flags, strict=True), strict=True))

    def read(value: Value) -> tuple[Any, bool]:
        return (e.constant(value.array), False) if isinstance(value, Constant) else known[value]

    for op in block.ops:
        pairs = [read(operand) for operand in op.operands]
        items, batched = tuple([item for item, _ in pairs]), tuple([flag for _, flag in pairs])
        results: list[Any]
        if op.regions:
            results, are_batched = batch_control(e, op.primitive, items, batched, size, op.attributes, op.regions)  # type: ignore[arg-type]
        elif any(batched):
            assert op.primitive.batch is not None, f"{op.primitive} has no batching rule"
            application = BatchedApplication(op.primitive, op.attributes, items, batched, size)
            results, are_batched = [op.primitive.batch(e, application)], [True]
        else:
            results, are_batched = [e.apply(op.primitive, items, op.attributes)], [False]
        for old, new in zip(op.results, results, strict=True):
            if isinstance(new, Value) and new.name is None:
                new.name = old.name
        known.update(zip(op.results, zip(results, are_batched, strict=True), strict=True))
    found = [read(value) for value in block.results]
    return [item for item, _ in found], [flag for _, flag in found]


def batch_control(
    e: Emitter,
    primitive: Control,
    operands: Sequence[Any],
    is_batched: Flags,
    size: int,
    attributes: Mapping[str, Any],
    regions: Sequence[Block],
) -> tuple[list[Any], list[bool]]:
    """The results of a primitive with regions, and which of them are batches."""
    if not any(is_batched):
        results = e.control(primitive, tuple(operands), attributes, regions)
        return list(results), [False] * len(results)
    if any(is_batched[: primitive.selectors]):
        return _chosen(e, operands, is_batched, size, regions), [True] * len(regions[0].results)
    layout = primitive.layout(len(operands), attributes)
    conditions, bodies = regions[: primitive.conditions], regions[primitive.conditions :]
    flags = list(is_batched)
    carries = range(layout.operand(layout.first_carry), layout.operand(layout.first_input))
    while True:  # a carry is a batch if it becomes one in any step
        own = [*[False] * layout.counters, *flags[layout.selectors :]]
        batched = [_BatchedBlock(body, own, size) for body in bodies]
        wanted = [any(one) for one in zip(*(block.flags for block in batched), strict=True)]
        tests = [_BatchedBlock(condition, own, size) for condition in conditions]
        if any(test.flags[0] for test in tests):
            wanted[: len(carries)] = [True] * len(carries)
        grown = [carry for number, carry in enumerate(carries) if wanted[number] and not flags[carry]]
        if not grown:
            break
        for carry in grown:
            flags[carry] = True
    for number, carry in enumerate(carries):
        wanted[number] = flags[carry]
    blocks = [test.finished([False]) for test in tests] + [block.finished(wanted) for block in batched]
    if any(test.flags[0] for test in tests):
        if len(wanted) > len(carries):
            raise NotImplementedError(
                f"{primitive.name}: what the steps of a loop give cannot be stacked where their number differs from "
                "element to element of a batch, as the derivative of such a loop would have it; differentiate the batch"
            )
        blocks = _until_all_are_done(regions, own, layout.constants, size)
    given = [
        operand
        if not flag
        else _exchanged(e, operand)
        if number >= layout.operand(layout.first_input)
        else operand
        if is_batched[number]
        else e.broadcast_to(operand, (size, *operand.shape))
        for number, (operand, flag) in enumerate(zip(operands, flags, strict=True))
    ]
    results = list(e.control(primitive, tuple(given), attributes, blocks))
    if primitive.selectors == 0:  # what loops stack has the steps as its first axis
        for number in range(len(carries), len(wanted)):
            if wanted[number]:
                results[number] = _exchanged(e, results[number])
    return results, wanted


def differs_in_end(
    primitive: Control, is_batched: Flags, size: int, attributes: Mapping[str, Any], regions: Sequence[Block]
) -> bool:
    """Whether a loop goes on for some elements of a batch when it is over for others."""
    if not primitive.conditions or not any(is_batched):
        return False
    layout = primitive.layout(len(is_batched), attributes)
    flags = list(is_batched)
    first = layout.operand(layout.first_carry)
    while True:
        condition, body = (_BatchedBlock(region, flags, size) for region in regions)
        if condition.flags[0]:
            return True
        grown = [first + i for i, flag in enumerate(body.flags[: layout.carries]) if flag and not flags[first + i]]
        if not grown:
            return False
        for carry in grown:
            flags[carry] = True


def _chosen(e: Emitter, operands: Sequence[Any], is_batched: Flags, size: int, regions: Sequence[Block]) -> list[Any]:
    """What each element's branch gives, of all branches; a number that is out of range means the nearest."""
    index, rest = operands[0], operands[1:]
    results: list[Any] = []
    for number, region in enumerate(regions):
        values, flags = batch_ops(e, region, rest, is_batched[1:], size)
        values = [_stretched(e, value, flag, size) for value, flag in zip(values, flags, strict=True)]
        if number == 0:
            results = values
            continue
        is_chosen = index if index.dtype.kind == "b" else e.compare(index, number, direction="ge")
        results = [_where(e, is_chosen, new, old) for new, old in zip(values, results, strict=True)]
    return results


def _where(e: Emitter, predicates: Any, new: Any, old: Any) -> Any:
    """``new`` for the elements of a batch whose predicate is true."""
    return e.select(e.reshape_to(predicates, (*predicates.shape, *(1,) * (len(new.shape) - 1))), new, old)


def _stretched(e: Emitter, value: Any, is_batched: bool, size: int) -> Any:
    return value if is_batched else e.broadcast_to(value, (size, *value.shape))


def _exchanged(e: Emitter, value: Any) -> Any:
    """A value with its first two axes in each other's place."""
    return e.transpose(value, permutation=(1, 0, *range(2, len(value.shape))))


def _until_all_are_done(regions: Sequence[Block], flags: Flags, constants: int, size: int) -> list[Block]:
    """The condition and the body of a ``while`` that ends for each element of the batch at a time of its own."""
    condition, body = (_BatchedBlock(region, flags, size) for region in regions)
    e, going = condition.emitter, condition.results[0]
    condition.block.parameters = condition.parameters
    condition.block.results = [e.reduce_or(going, axes=(0,))]
    e = body.emitter
    (going,), _ = batch_ops(e, regions[0], body.parameters, flags, size)
    body.block.parameters = body.parameters
    body.block.results = [
        _where(e, going, _stretched(e, new, flag, size), old)
        for new, flag, old in zip(body.results, body.flags, body.parameters[constants:], strict=True)
    ]
    return [condition.block, body.block]


class _BatchedBlock:
    """A block's ops on a batch: nothing is a parameter or a result of it yet."""

    def __init__(self, source: Block, flags: Flags, size: int) -> None:
        self.block = Block()
        self.emitter = graph_emitter(Builder(self.block))
        self.parameters = [
            Value(TensorType(p.dtype, (size, *p.shape)) if flag else p.type, p.name)
            for p, flag in zip(source.parameters, flags, strict=True)
        ]
        self.results, self.flags = batch_ops(self.emitter, source, self.parameters, flags, size)
        self._size = size

    def finished(self, wanted: Flags) -> Block:
        """The block, its ``wanted`` results batches."""
        self.block.parameters = self.parameters
        self.block.results = [
            _stretched(self.emitter, value, flag or not want, self._size)
            for value, flag, want in zip(self.results, self.flags, wanted, strict=True)
        ]
        return self.block


__all__ = ["batch_control", "batch_ops", "differs_in_end", "vmap"]
