"""Branches and loops of the graph from functions: each is recorded as a block, and the op with the blocks is applied.

Tensors from around a function that it gives another value (*cells*) are carried along, or given by each branch, and
have their new values afterwards; so it goes for what a function checks (an index that is out of range).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.ir import Block, Graph, Primitive, Value
from tracejit.ir.passes import dce
from tracejit.ir.primitives import control
from tracejit.ir.types import TensorType, int64

from .disguise import disguised
from .levels import everywhere
from .ops import elementwise
from .ops.arrangement import moveaxis
from .ops.creation import tensor
from .ops.indexing import get_item
from .regions import CannotCapture, Import, Like, Sliced, TracedBlock, hold, trace_block, unite
from .tape import apply_region, with_history
from .tensor import Tensor, new_tensor
from .tracing import Trace


def branches(
    trace: Trace, selector: Tensor, functions: Sequence[Callable[[], list[Tensor]]], *, again: bool = False
) -> list[Tensor]:
    """What one of ``functions`` gives: the first where ``selector`` is false or 0.

    ``again``: a derivative computes what it needs of their values once more.
    """
    traced = [trace_block(trace, function, ()) for function in functions]
    cells = list({id(cell): cell for block in traced for cell in block.cells}.values())
    checked = any(block.checks for block in traced)

    def with_cells(function: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            results = [*function(), *[_value_of(trace, cell) for cell in cells]]
            return [*results, _verdict(trace, None)] if checked else results

        return run

    if cells or checked:
        traced = [trace_block(trace, with_cells(function), ()) for function in functions]
    _check_alike("the branches of a condition", *(block.result for block in traced))
    imports = unite(traced)
    blocks = [_finished(block, block.result) for block in traced]
    results = _applied(trace, control.case, [selector], imports, [], {"again": True} if again else {}, blocks)
    return _settle(trace, results, traced[0].result, cells, traced)


def while_loop(
    trace: Trace,
    condition: Callable[..., Tensor],
    body: Callable[..., list[Tensor]],
    carries: Sequence[Tensor],
) -> list[Tensor]:
    """Repeat ``carries = body(*carries)`` while ``condition(*carries)``."""
    count, start = len(carries), list(carries)
    step = trace_block(trace, body, start)
    written = step.cells
    if written or step.checks:
        cells = _Cells(trace, step, count)
        start += cells.values()
        condition, body = cells.read_by(condition, count), cells.written_by(body, count)
        step = trace_block(trace, body, start)
    test = trace_block(trace, condition, start)
    if test.checks or not all(any(cell is other for other in written) for cell in test.cells):
        raise CannotCapture("its condition has effects")
    _check_alike("a loop's variables before and after a trip", start, step.result)
    imports = unite([test, step])
    blocks = [_finished(test, [test.result]), _finished(step, step.result)]
    results = _applied(trace, control.while_, [], imports, start, {"constants": len(imports)}, blocks)
    return _settle(trace, results, step.result, written, [step])


def scan(
    trace: Trace,
    body: Callable[..., list[Tensor]],
    carries: Sequence[Tensor],
    inputs: Sequence[Tensor],
    length: int,
    reverse: bool,
) -> list[Tensor]:
    """``length`` steps of ``carries, stacked = body(number, *carries, *slices)``; the carries, then what was stacked.

    The slices are those of ``inputs`` at the number of the step.
    """
    count, start = len(carries), list(carries)
    number, slices = Like(TensorType(int64, ())), [Like.slice_of(x) for x in inputs]
    step = trace_block(trace, body, [number, *start, *slices])
    written = step.cells
    if written or step.checks:
        cells = _Cells(trace, step, count)
        start += cells.values()
        step = trace_block(trace, cells.written_by(body, 1 + count), [number, *start, *slices])
    carried, stacked = step.result[: len(start)], step.result[len(start) :]
    _check_alike("a loop's variables before and after a step", start, carried)
    counter = step.arguments.pop(0)
    found = step.region.slices
    if any(sliced.node is not None and (sliced.value, sliced.node) in step.imports for sliced in found):
        raise CannotCapture("gradients of slices and of the whole are added up in the order of the steps")
    step.arguments += [twin._value for twin in found.values()]
    with trace.around_blocks():
        inputs = [*inputs, *(_along(trace, sliced) for sliced in found)]
    imports = unite([step], [counter])
    attributes = {"constants": len(imports), "carries": len(start), "length": length, "reverse": reverse}
    blocks = [_finished(step, step.result)]
    results = _applied(trace, control.scan, [], imports, [*start, *inputs], attributes, blocks)
    last = _settle(trace, results[: len(start)], carried, written, [step])
    return [*last, *results[len(start) : len(start) + len(stacked)]]


def _along(trace: Trace, sliced: Sliced) -> Tensor:
    """What a loop's steps read slices of, which lie along its first axis."""
    whole = trace.imported(sliced.value, sliced.node)
    numbers, axis = sliced.numbers, sliced.axis
    rows = get_item(whole, (*[slice(None)] * axis, slice(numbers.start, numbers.stop, numbers.step)))
    return moveaxis(rows, axis, 0)


class _Cells:
    """What a loop carries besides its function's own ``count`` carries: the cells that it changes, what it checks."""

    def __init__(self, trace: Trace, traced: TracedBlock, count: int) -> None:
        self._trace, self._cells, self._count = trace, traced.cells, count
        self._checked = bool(traced.checks)

    def values(self) -> list[Tensor]:
        """What they are at first."""
        return [*[_value_of(self._trace, cell) for cell in self._cells], *([tensor(True)] if self._checked else [])]

    def read_by(self, function: Callable[..., Any], first: int) -> Callable[..., Any]:
        """A function that gets them too, behind its ``first`` arguments."""
        last = first + len(self._cells) + self._checked

        def run(*twins: Tensor) -> Any:
            for cell, twin in zip(self._cells, twins[first:], strict=False):
                hold(cell, twin._value, twin._node, twin._requires_grad)
            return function(*twins[:first], *twins[last:])

        return run

    def written_by(self, function: Callable[..., list[Tensor]], first: int) -> Callable[..., list[Tensor]]:
        """The same, which gives their values in the next step too, behind the function's own carries."""
        reading = self.read_by(function, first)

        def run(*twins: Tensor) -> list[Tensor]:
            results = reading(*twins)
            values = [_value_of(self._trace, cell) for cell in self._cells]
            verdict = [_verdict(self._trace, twins[first + len(self._cells)])] if self._checked else []
            return [*results[: self._count], *values, *verdict, *results[self._count :]]

        return run


def _value_of(trace: Trace, cell: Any) -> Tensor:
    """What a cell holds now, as a tensor."""
    value = cell._value if isinstance(cell._value, Value) else trace.read(cell.tensor)
    return with_history(value, cell._node)


def _verdict(trace: Trace, before: Tensor | None) -> Tensor:
    """Whether all checks of the block under construction hold, and held before."""
    assert trace.region is not None
    result = tensor(True) if before is None else before
    for predicate, _ in trace.region.checks:
        result = elementwise.logical_and(result, new_tensor(predicate))
    return result


def _finished(traced: TracedBlock, results: Sequence[Tensor]) -> Block:
    """The block with its results, and nothing that they do not need."""
    block = traced.block
    return dce(Graph("block", block.parameters, block.ops, [traced.final(result._value) for result in results]))


def _applied(
    trace: Trace,
    primitive: Primitive,
    selectors: Sequence[Tensor],
    imports: Sequence[Import],
    arguments: Sequence[Tensor],
    attributes: dict[str, Any],
    blocks: Sequence[Block],
) -> list[Tensor]:
    with trace.around_blocks():
        own = [*selectors, *(trace.imported(*item) for item in imports), *map(trace.outside, arguments)]
        return apply_region(primitive, own, attributes, blocks)


def _settle(
    trace: Trace, results: list[Tensor], like: Sequence[Tensor], cells: Sequence[Any], blocks: Sequence[TracedBlock]
) -> list[Tensor]:
    """An op's results: variables, then cells, which get their new values, then the verdict on checks."""
    for result, twin in zip(results, like, strict=True):
        if twin._weak:
            disguised(result)
    checks = [check for traced in blocks for check in traced.checks]
    if checks:
        trace.check_as(everywhere(results[-1])._value, checks[0])
        results = results[:-1]
    count = len(results) - len(cells)
    for cell, result in zip(cells, results[count:], strict=True):
        trace.give(cell, result)
    return results[:count]


def _check_alike(what: str, first: Sequence[Tensor], *others: Sequence[Tensor]) -> None:
    for other in others:
        for a, b in zip(first, other, strict=True):
            if a.dtype != b.dtype or a.shape != b.shape or a._weak != b._weak:
                raise CannotCapture(f"{what} have other types: {a.dtype}{list(a.shape)}, {b.dtype}{list(b.shape)}")
