"""Functions with a derivative of your own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tracejit.ir.types import TensorType, is_differentiable

from .. import dispatch
from ..dispatch import fields
from ..locations import at_user_line
from ..regions import note_rule
from ..state import thread
from ..tape import FREED, Call, CallNode, CallOutput, Node, node_of, with_history
from ..tensor import Tensor, new_tensor
from .modes import enable_grad, no_grad

Backward = TypeVar("Backward", bound=Callable[..., Any])


class FunctionContext:
    """What ``forward`` hands on to ``backward``; other attributes may be set freely."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: list[tuple[Any, Node | weakref.ref[Node] | None] | None] | None = []
        self._to_save: list[tuple[Tensor, Any] | None] = []
        self._nondifferentiable: set[int] = set()
        self._dirty: tuple[Tensor, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep the present values of tensors (inputs, outputs or others) for ``backward``."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                message = f"save_for_backward can only save Tensors, but got {type(tensor).__name__}"
                raise at_user_line(TypeError(message))
        self._to_save = [None if tensor is None else (tensor, dispatch.payload(tensor)) for tensor in tensors]

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors of :meth:`save_for_backward`; ``RuntimeError`` once the graph has been freed."""
        if self._saved is None:
            raise at_user_line(RuntimeError(FREED))
        return tuple(None if item is None else with_history(item[0], _alive(item[1])) for item in self._saved)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """These outputs get no gradient."""
        self._nondifferentiable |= {id(tensor) for tensor in tensors}

    def mark_dirty(self, *tensors: Tensor) -> None:
        """These inputs were changed in place; each must be returned, and its history goes through the function."""
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether ``backward`` gets zeros (the default) or ``None`` for an output without a gradient."""
        self._materialize = value


class Function:
    """An operation with a ``forward`` and a ``backward`` of your own, both static; called by ``apply``.

    ``forward(ctx, *arguments)`` computes without recording.  ``backward(ctx, *gradients)`` gets a gradient for each
    output and returns one for each argument, ``None`` for those that have none.  Made of tensor operations, it can
    be differentiated again.  Where ``setup_context(ctx, inputs, output)`` is defined, ``forward`` gets the arguments
    alone, and ``setup_context`` saves what ``backward`` needs.

    >>> import tracejit as tj
    >>> class Cube(tj.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, gradient):
    ...         (x,) = ctx.saved_tensors
    ...         return gradient * 3 * x * x
    >>> x = tj.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    @staticmethod
    def forward(ctx: FunctionContext, *arguments: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: FunctionContext, inputs: tuple[Any, ...], output: Any) -> None:
        """Save for ``backward``, of a ``forward`` that has no ``ctx``."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: FunctionContext, *gradients: Any) -> Any:
        raise NotImplementedError("You must implement the backward for your custom autograd.Function to use it.")

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        """Run ``forward`` on the arguments; what it returns is connected to ``backward``."""
        if thread.level is not None:
            from ..transforms.function import apply_function, is_transformed

            if is_transformed(arguments):
                return apply_function(cls, arguments)
        note_rule()
        edges = tuple(node_of(a) if isinstance(a, Tensor) and thread.grad_enabled else None for a in arguments)
        ctx = FunctionContext(tuple(edge is not None for edge in edges))
        before = [(fields(a), fields(a)._value) for a in arguments if isinstance(a, Tensor)]
        with no_grad():
            if cls.setup_context is Function.setup_context:
                returned = cls.forward(ctx, *arguments)
            else:
                returned = cls.forward(*arguments)
                cls.setup_context(ctx, arguments, returned)
        outputs = returned if isinstance(returned, tuple) else (returned,)
        try:
            _check_dirty(ctx._dirty, outputs)
        except RuntimeError as error:
            for state, value in before:
                state._value = value
            raise at_user_line(error) from None
        if not any(ctx.needs_input_grad):
            return returned
        types = [TensorType(o.dtype, o.shape) if isinstance(o, Tensor) else None for o in outputs]
        inputs = [TensorType(a.dtype, a.shape) if isinstance(a, Tensor) else None for a in arguments]
        node = CallNode(_FunctionCall(cls, ctx, types, inputs), edges)
        dirty = {id(tensor) for tensor in ctx._dirty}
        connected: dict[int, Node] = {}
        results: list[Any] = []
        for index, (output, type) in enumerate(zip(outputs, types, strict=True)):
            if type is not None:
                result = output if id(output) in dirty else new_tensor(dispatch.payload(output))
                if is_differentiable(type.dtype) and id(output) not in ctx._nondifferentiable:
                    state = fields(result)
                    state._node = connected[id(output)] = CallOutput(node, index, type)
                    state._requires_grad = True
                output = result
            results.append(output)
        known = {
            id(argument): edge for argument, edge in zip(arguments, edges, strict=True) if id(argument) not in dirty
        }
        outputs_of = {key: weakref.ref(output) for key, output in connected.items()}  # they lead here: no cycle
        ctx._saved = [
            None
            if item is None
            else (item[1], known.get(id(item[0])) or outputs_of.get(id(item[0])) or node_of(item[0]))
            for item in ctx._to_save
        ]
        ctx._to_save = []
        return tuple(results) if isinstance(returned, tuple) else results[0]


def _alive(node: Node | weakref.ref[Node] | None) -> Node | None:
    return node() if isinstance(node, weakref.ref) else node


def _check_dirty(dirty: Sequence[Tensor], outputs: Sequence[Any]) -> None:
    """What was changed in place is returned, and is no leaf that wants gradients."""
    for tensor in dirty:
        if not any(output is tensor for output in outputs):
            raise RuntimeError(
                "Some elements marked as dirty during the forward method were not returned as output. "
                "The inputs that are modified inplace must all be outputs of the Function."
            )
        if thread.grad_enabled and tensor.requires_grad and tensor.is_leaf:
            raise RuntimeError("a leaf Variable that requires grad has been used in an in-place operation.")


class _FunctionCall(Call):
    """One application of a :class:`Function`."""

    runs_python = True

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionContext,
        outputs: Sequence[TensorType | None],
        inputs: Sequence[TensorType | None],
    ) -> None:
        self.name = function.__name__
        self._function, self._ctx, self._outputs, self._inputs = function, ctx, outputs, inputs

    def backward(self, cotangents: Mapping[int, Any]) -> Sequence[Any]:
        given = {i: c if isinstance(c, Tensor) else new_tensor(c) for i, c in cotangents.items()}
        with no_grad():
            gradients = self._gradients(given)
        return [None if gradient is None else dispatch.payload(gradient) for gradient in gradients]

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor | None]:
        if not getattr(self._function.backward, "_once_differentiable", False):
            with enable_grad():
                return self._gradients(cotangents)
        with no_grad():
            gradients = self._gradients(cotangents)
        node = CallNode(_Undifferentiable(), (*map(node_of, cotangents.values()), *inputs))
        return [
            None if g is None else with_history(dispatch.payload(g), CallOutput(node, i, TensorType(g.dtype, g.shape)))
            for i, g in enumerate(gradients)
        ]

    def release(self) -> None:
        self._ctx._saved = None

    def _gradients(self, cotangents: Mapping[int, Tensor]) -> list[Tensor | None]:
        arguments = [cotangents.get(i, self._missing(type)) for i, type in enumerate(self._outputs)]
        returned = self._function.backward(self._ctx, *arguments)
        gradients = list(returned) if isinstance(returned, tuple | list) else [returned]
        count, name = len(self._inputs), f"{self.name}Backward"
        while len(gradients) > count and gradients[-1] is None:
            gradients.pop()
        if len(gradients) != count:
            raise at_user_line(
                RuntimeError(
                    f"function {name} returned an incorrect number of gradients "
                    f"(expected {count}, got {len(gradients)})"
                )
            )
        return [self._fitted(i, g, name) for i, g in enumerate(gradients)]

    def _missing(self, type: TensorType | None) -> Tensor | None:
        if type is None or not self._ctx._materialize:
            return None
        return new_tensor(dispatch.payload_emitter.full(0, type))

    def _fitted(self, index: int, gradient: Any, name: str) -> Tensor | None:
        """A gradient of its input's shape and dtype: one that was broadcast is summed."""
        from ..ops.manipulation import sum_to

        type = self._inputs[index]
        if gradient is None:
            return None
        if type is None:
            raise at_user_line(
                RuntimeError(
                    f"function {name} returned a gradient different than None at position {index + 1}, "
                    "but the corresponding forward input was not a Variable"
                )
            )
        if not isinstance(gradient, Tensor):
            given = gradient.__class__.__name__
            raise at_user_line(TypeError(f"expected Variable or None (got {given}) from {name} at index {index}"))
        invalid = f"Function {name} returned an invalid gradient at index {index} - got"
        if gradient.dtype.kind == "c" and type.dtype.kind != "c":
            raise at_user_line(RuntimeError(f"{invalid} {gradient.dtype.name} but expected {type.dtype.name}"))
        try:
            fitted = gradient if gradient.shape == type.shape else sum_to(gradient, type.static_shape)
        except ValueError:
            message = f"{invalid} {list(gradient.shape)} but expected shape compatible with {list(type.shape)}"
            raise at_user_line(RuntimeError(message)) from None
        return fitted.astype(type.dtype)


class _Undifferentiable(Call):
    """What the gradients of a ``once_differentiable`` backward lead to."""

    name = "OnceDifferentiable"

    def backward(self, cotangents: Mapping[int, Any]) -> Sequence[Any]:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor | None]:
        return self.backward(cotangents)


def once_differentiable(backward: Backward) -> Backward:
    """Mark a ``backward`` that cannot be differentiated again: ``RuntimeError`` where that is tried."""
    backward._once_differentiable = True  # type: ignore[attr-defined]
    return backward


__all__ = ["Function", "FunctionContext", "once_differentiable"]
