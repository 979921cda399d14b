"""Operations with derivatives of their own, as the levels and the tape handle them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracejit.ir.types import TensorType, is_differentiable

from .. import dispatch, tree
from ..autograd.modes import enable_grad, no_grad
from ..levels import HIDDEN, Box, level_of, refuse_boxes
from ..locations import at_user_line
from ..ops import manipulation, reduction
from ..regions import note_rule
from ..state import thread
from ..tape import Call, CallNode, CallOutput, node_of, tensor_emitter, with_history
from ..tensor import Tensor, new_tensor
from .batch import Batch, Batched
from .forward import Dual, Forward
from .reverse import Pullback, Reverse


class Operation:
    """A function of tensors with derivatives of its own."""

    name: str

    def run(self, operands: Sequence[Tensor]) -> list[Tensor]:
        """The results."""
        raise NotImplementedError

    def forward(self, operands: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """The results, and what :meth:`backward` needs."""
        raise NotImplementedError

    def backward(self, residuals: Any, cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The cotangents of the operands; ``None`` stands for zeros."""
        raise NotImplementedError

    def push(
        self, operands: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """The results and their tangents."""
        raise NotImplementedError

    def batched(self, batch: Batch, is_batched: Sequence[bool]) -> Operation:
        """The operation on a batch; all its results have the batch as their first axis."""
        raise NotImplementedError


def apply_operation(operation: Operation, operands: Sequence[Tensor]) -> list[Tensor]:
    """An operation on tensors of any level, recorded on the tape where gradients are wanted."""
    level = None if thread.level is None else level_of([tensor._value for tensor in operands])
    if level is None:
        return _at_base(operation, operands)
    inside = [x if level.has(x._value) else new_tensor(level.lifted(x)) for x in operands]
    boxes: list[Any] = [tensor._value for tensor in inside]
    below = [box.tensor for box in boxes]
    edges = _edges(inside)
    call: _OperationCall | None = None
    if any(edge is not None for edge in edges):
        if isinstance(level, Reverse):
            with level.below():
                values, residuals = operation.forward(below)
        else:
            values, residuals = operation.forward([new_tensor(box) for box in boxes])
        call = _OperationCall(operation, boxes, residuals, len(values), level if isinstance(level, Reverse) else None)
        results: list[Box] = [x._value if level.has(x._value) else level.lifted(x) for x in values]
    elif isinstance(level, Batch) and any(box.is_batched for box in boxes):
        operation = operation.batched(level, [box.is_batched for box in boxes])
        with level.below():
            results = [Batched(level, x, True) for x in apply_operation(operation, below)]
    elif isinstance(level, Forward) and thread.grad_enabled and any(box.tangent is not None for box in boxes):
        with level.below():
            values, changes = operation.push(below, [box.tangent for box in boxes])
        results = [Dual(level, x, change) for x, change in zip(values, changes, strict=True)]
    else:
        with level.below():
            results = [level.lifted(x) for x in apply_operation(operation, below)]
    for box in results:
        value = box.tensor._value
        if isinstance(value, Box) and value.level.depth >= level.depth:
            raise at_user_line(RuntimeError(HIDDEN))
    return _connected(call, edges, results)


def _at_base(operation: Operation, operands: Sequence[Tensor]) -> list[Tensor]:
    """On tensors that hold no boxes: what the function reaches by itself gets no gradient."""
    note_rule()
    edges = _edges(operands)
    values = [dispatch.payload(operand) for operand in operands]
    with no_grad():
        detached = [new_tensor(value) for value in values]
        is_wanted = any(edge is not None for edge in edges)
        results, residuals = operation.forward(detached) if is_wanted else (operation.run(detached), None)
    refuse_boxes([result._value for result in results])
    if not is_wanted:
        return results
    call = _OperationCall(operation, values, residuals, len(results))
    return _connected(call, edges, [dispatch.payload(result) for result in results])


def _edges(operands: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple([node_of(x) if thread.grad_enabled and is_differentiable(x.dtype) else None for x in operands])


def _connected(call: _OperationCall | None, edges: tuple[Any, ...], values: Sequence[Any]) -> list[Tensor]:
    """Tensors for the results of a call, with a node for all of them."""
    results = [new_tensor(value) for value in values]
    if call is not None:
        node = CallNode(call, edges)
        for number, result in enumerate(results):
            if is_differentiable(result.dtype):
                result._node = CallOutput(node, number, TensorType(result.dtype, result.shape))
                result._requires_grad = True
    return results


class _OperationCall(Call):
    """One application of an operation to tensors that need gradients, by what those hold.

    With a ``level``, what is saved are tensors of the level below.
    """

    def __init__(
        self, operation: Operation, values: Sequence[Any], residuals: Any, count: int, level: Reverse | None = None
    ) -> None:
        self.name = operation.name
        self._operation, self._values, self._residuals, self._count = operation, values, residuals, count
        self._level = level

    def backward(self, cotangents: Mapping[int, Any]) -> Sequence[Any]:
        level = self._level
        if level is None:
            with no_grad() if thread.level is None else contextlib.nullcontext():
                found = self.backward_below({i: new_tensor(value) for i, value in cotangents.items()})
            return [None if x is None else dispatch.payload(x) for x in found]
        with level.below():
            found = self.backward_below({i: level.box_of(value).tensor for i, value in cotangents.items()})
        return [None if x is None else level.lifted(x) for x in found]

    def backward_below(self, cotangents: Mapping[int, Tensor]) -> Sequence[Tensor | None]:
        return self._operation.backward(self._residuals, [cotangents.get(i) for i in range(self._count)])

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor | None]:
        """The forward part is run again, on operands with their history."""
        operands = [with_history(value, node) for value, node in zip(self._values, inputs, strict=True)]
        with enable_grad():
            _, residuals = self._operation.forward(operands)
            return self._operation.backward(residuals, [cotangents.get(i) for i in range(self._count)])

    def release(self) -> None:
        self._residuals = None


# Either rule from the other -------------------------------------------------------------------------


class WithVjp(Operation):
    """An operation that says how it is pulled back; it is pushed forward by the transpose of that."""

    def push(
        self, operands: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        results, residuals = self.forward(operands)
        places = [i for i, result in enumerate(results) if is_differentiable(result.dtype)]

        def pull(cotangents: list[Tensor]) -> tuple[Any, None]:
            given: list[Tensor | None] = [None] * len(results)
            for place, cotangent in zip(places, cotangents, strict=True):
                given[place] = cotangent
            return self.backward(residuals, given), None

        changes: list[Tensor | None] = [None] * len(results)
        transpose = Pullback(self.backward, [_zeros(results[i]) for i in places], pull)
        for place, change in zip(places, transpose(tangents), strict=True):
            changes[place] = change
        return results, changes

    def batched(self, batch: Batch, is_batched: Sequence[bool]) -> Operation:
        return _BatchedVjp(self, batch, is_batched)

    @staticmethod
    def summed(cotangents: Sequence[Tensor | None], is_batched: Sequence[bool]) -> list[Tensor | None]:
        """The cotangents of operands: of those that the batch shares, summed over it."""
        return [
            x if x is None or batched else reduction.sum(x, 0, dtype=x.dtype)
            for x, batched in zip(cotangents, is_batched, strict=True)
        ]


class WithJvp(Operation):
    """An operation that says how it is pushed forward; it is pulled back by the transpose of that."""

    def forward(self, operands: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        places = [i for i, operand in enumerate(operands) if is_differentiable(operand.dtype)]
        count = len(operands)

        def push(tangents: list[Tensor]) -> tuple[Any, Any]:
            given: list[Tensor | None] = [None] * count
            for place, tangent in zip(places, tangents, strict=True):
                given[place] = tangent
            results, changes = self.push(operands, given)
            return changes, results

        pullback = Pullback(self.push, [_zeros(operands[i]) for i in places], push)
        return pullback.aux, (pullback, places, count)

    def backward(self, residuals: Any, cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        pullback, places, count = residuals
        found: list[Tensor | None] = [None] * count
        for place, cotangent in zip(places, pullback(cotangents), strict=True):
            found[place] = cotangent
        return found

    def batched(self, batch: Batch, is_batched: Sequence[bool]) -> Operation:
        return _BatchedJvp(self, batch, is_batched)


def _zeros(like: Tensor) -> Tensor:
    return tensor_emitter().full(0, TensorType(like.dtype, like.shape))


# On batches -----------------------------------------------------------------------------------------


def mapped(batch: Batch, function: Callable[[Any], Any], given: Any, is_batched: Sequence[bool]) -> Any:
    """``function(given)`` with some of the tensors in ``given`` batches; all those in the result are."""
    level = Batch(batch.size, batch.axis_name, batch.randomness)
    flags = iter(is_batched)

    def inside(leaf: Any) -> Any:
        return new_tensor(Batched(level, leaf, next(flags))) if isinstance(leaf, Tensor) else leaf

    def stretched(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        box = level.box_of(leaf._value)
        return box.tensor if box.is_batched else manipulation.broadcast_to(box.tensor, (level.size, *box.shape))

    with level:
        result = function(tree.map_leaves(inside, given))
    found = tree.map_leaves(stretched, result)
    del result
    level.settle()
    return found


def count_tensors(item: Any) -> int:
    """How many tensors a container holds."""
    leaves: list[Any] = []
    tree.flatten(item, leaves)
    return sum(isinstance(leaf, Tensor) for leaf in leaves)


class _BatchedVjp(WithVjp):
    """An operation with a vjp, applied to each element of a batch."""

    def __init__(self, operation: Operation, batch: Batch, is_batched: Sequence[bool]) -> None:
        self.name, self._operation, self._batch, self._is_batched = operation.name, operation, batch, is_batched

    def run(self, operands: Sequence[Tensor]) -> list[Tensor]:
        return mapped(self._batch, self._operation.run, list(operands), self._is_batched)

    def forward(self, operands: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        return mapped(self._batch, self._operation.forward, list(operands), self._is_batched)

    def backward(self, residuals: Any, cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        given = (residuals, list(cotangents))
        found = mapped(self._batch, lambda pair: self._operation.backward(*pair), given, [True] * count_tensors(given))
        return self.summed(found, self._is_batched)


class _BatchedJvp(WithJvp):
    """An operation with a jvp, applied to each element of a batch."""

    def __init__(self, operation: Operation, batch: Batch, is_batched: Sequence[bool]) -> None:
        self.name, self._operation, self._batch, self._is_batched = operation.name, operation, batch, is_batched

    def run(self, operands: Sequence[Tensor]) -> list[Tensor]:
        return mapped(self._batch, self._operation.run, list(operands), self._is_batched)

    def push(
        self, operands: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        given = (list(operands), list(tangents))
        flags = [*self._is_batched, *[b for b, t in zip(self._is_batched, tangents, strict=True) if t is not None]]
        return mapped(self._batch, lambda pair: self._operation.push(*pair), given, flags)
