"""``autograd.Function`` in transformed functions: its ``backward`` is the derivative at every level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracejit.ir.types import TensorType

from .. import dispatch, tree
from ..autograd.modes import no_grad
from ..levels import level_of
from ..locations import at_user_line
from ..tape import node_of
from ..tensor import Tensor
from .operation import Operation, WithVjp, apply_operation, count_tensors, mapped

if TYPE_CHECKING:
    from ..autograd.function import Function, FunctionContext
    from .batch import Batch


def is_transformed(arguments: Sequence[Any]) -> bool:
    """Whether one of the arguments belongs to a transformation that is running."""
    return level_of([a._value for a in arguments if isinstance(a, Tensor)]) is not None


def apply_function(function: type[Function], arguments: Sequence[Any]) -> Any:
    """``function.apply(*arguments)`` within a transformation."""
    call = _Call(function, arguments)
    results = apply_operation(call, [a for a in arguments if isinstance(a, Tensor)])
    outputs = [results[item.number] if isinstance(item, _Output) else item for item in call.outputs]
    return tuple(outputs) if call.returns_tuple else outputs[0]


class _Place:
    """Where a tensor that ``backward`` reads stands: among the operands or the results."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Operand(_Place):
    pass


class _Output(_Place):
    pass


class _Opaque(WithVjp):
    """An operation that every level handles by its vjp: never by what it is made of."""

    def forward(self, operands: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        results = apply_operation(self, operands)
        return results, (list(operands), results)

    def batched(self, batch: Batch, is_batched: Sequence[bool]) -> Operation:
        return _BatchedOpaque(self, batch, is_batched)


class _BatchedOpaque(_Opaque):
    """The same for each element of a batch."""

    def __init__(self, operation: Operation, batch: Batch, is_batched: Sequence[bool]) -> None:
        self.name, self._operation, self._batch, self._is_batched = operation.name, operation, batch, is_batched

    def run(self, operands: Sequence[Tensor]) -> list[Tensor]:
        return mapped(self._batch, self._operation.run, list(operands), self._is_batched)

    def backward(self, residuals: Any, cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        operands, results = residuals
        flags = [*self._is_batched, *[True] * count_tensors([results, list(cotangents)])]
        given = (operands, results, list(cotangents))
        found = mapped(self._batch, lambda x: self._operation.backward((x[0], x[1]), x[2]), given, flags)
        return self.summed(found, self._is_batched)


class _Call(_Opaque):
    """One application; it has the tensors that the context holds besides its operands and outputs as results too."""

    def __init__(self, function: type[Function], arguments: Sequence[Any]) -> None:
        self.name = function.__name__
        self.outputs: list[Any] = []
        self.returns_tuple = False
        self._function, self._arguments = function, arguments
        self._places = [i for i, argument in enumerate(arguments) if isinstance(argument, Tensor)]
        self._saved: list[Any] = []
        self._attributes: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}
        self._types: list[TensorType] = []  # of the outputs that are tensors

    def run(self, operands: Sequence[Tensor]) -> list[Tensor]:
        from ..autograd.function import Function, FunctionContext

        arguments = list(self._arguments)
        for place, operand in zip(self._places, operands, strict=True):
            arguments[place] = operand
        ctx = FunctionContext(tuple([isinstance(argument, Tensor) for argument in arguments]))
        with no_grad():
            if self._function.setup_context is Function.setup_context:
                returned = self._function.forward(ctx, *arguments)
            else:
                returned = self._function.forward(*arguments)
                self._function.setup_context(ctx, tuple(arguments), returned)
        if ctx._dirty:
            message = f"{self.name} changes its inputs in place (mark_dirty), which no transformation can follow"
            raise at_user_line(RuntimeError(message))
        self.returns_tuple = isinstance(returned, tuple)
        results: list[Tensor] = []
        found: dict[int, _Place] = {id(operand): _Operand(i) for i, operand in enumerate(operands)}

        def place_of(item: Any) -> Any:
            if not isinstance(item, Tensor):
                return item
            if id(item) not in found:
                found[id(item)] = _Output(len(results))
                results.append(item)
            return found[id(item)]

        self.outputs = []
        for output in returned if isinstance(returned, tuple) else (returned,):
            if isinstance(output, Tensor) and isinstance(found.get(id(output)), _Operand):  # returned as it is
                output = output.detach()
            self.outputs.append(place_of(output))
        self._types = [TensorType(result.dtype, result.shape) for result in results]
        self._saved = [None if item is None else place_of(item[0]) for item in ctx._to_save]
        fresh = vars(FunctionContext(()))
        self._attributes = {k: tree.map_leaves(place_of, v) for k, v in vars(ctx).items() if k not in fresh}
        self._settings = {k: v for k, v in vars(ctx).items() if k in ("needs_input_grad", "_materialize")}
        return results

    def _context(self, operands: Sequence[Tensor], results: Sequence[Tensor]) -> FunctionContext:
        """The context, with the tensors of the level that asks."""
        from ..autograd.function import FunctionContext

        def tensor_at(item: Any) -> Any:
            if not isinstance(item, _Place):
                return item
            return (operands if isinstance(item, _Operand) else results)[item.number]

        ctx = FunctionContext(())
        vars(ctx).update({**self._settings, **{k: tree.map_leaves(tensor_at, v) for k, v in self._attributes.items()}})
        tensors = [tensor_at(item) for item in self._saved]
        ctx._saved = [None if x is None else (dispatch.payload(x), node_of(x)) for x in tensors]
        return ctx

    def backward(self, residuals: Any, cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        from ..autograd.function import _FunctionCall

        operands, results = residuals
        inputs: list[TensorType | None] = [None] * len(self._arguments)
        for place, operand in zip(self._places, operands, strict=True):
            inputs[place] = TensorType(operand.dtype, operand.shape)
        numbers = [item.number if isinstance(item, _Output) else None for item in self.outputs]
        types = [None if number is None else self._types[number] for number in numbers]
        given = {
            i: cotangent
            for i, number in enumerate(numbers)
            if number is not None and (cotangent := cotangents[number]) is not None
        }
        found = _FunctionCall(self._function, self._context(operands, results), types, inputs)._gradients(given)
        return [found[place] for place in self._places]

    def push(
        self, operands: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        rule = getattr(self._function, "jvp", None)
        if rule is None:
            return super().push(operands, tangents)
        results = apply_operation(self, operands)
        given: list[Any] = [None] * len(self._arguments)
        for place, tangent in zip(self._places, tangents, strict=True):
            given[place] = tangent
        returned = rule(self._context(operands, results), *given)
        changes: list[Tensor | None] = [None] * len(results)
        for item, change in zip(self.outputs, returned if self.returns_tuple else (returned,), strict=True):
            if isinstance(item, _Output):
                changes[item.number] = change
        return results, changes
