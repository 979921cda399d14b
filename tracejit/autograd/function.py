"""Functions with a derivative of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tracejit.ir.types import TensorType, is_differentiable

from .. import dispatch
from ..locations import at_user_line
from ..state import thread
from ..tape import FREED, Call, CallNode, CallOutput, Node, node_of, with_history
from ..tensor import Tensor, new_tensor
from .modes import enable_grad, no_grad

Backward = TypeVar("Backward", bound=Callable[..., Any])


class FunctionContext:
    """What ``forward`` hands on to ``backward``; other attributes may be set freely."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: list[tuple[Any, Node | None] | None] | None = []
        self._to_save: tuple[Tensor | None, ...] = ()
        self._nondifferentiable: set[int] = set()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep the present values of tensors (inputs, outputs or others) for ``backward``."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(f"save_for_backward can only save Tensors, but got {type(tensor).__name__}")
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors of :meth:`save_for_backward`; ``RuntimeError`` once the graph has been freed."""
        if self._saved is None:
            raise RuntimeError(FREED)
        return tuple(None if item is None else with_history(*item) for item in self._saved)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """These outputs get no gradient."""
        self._nondifferentiable |= {id(tensor) for tensor in tensors}

    def set_materialize_grads(self, value: bool) -> None:
        """Whether ``backward`` gets zeros (the default) or ``None`` for an output without a gradient."""
        self._materialize = value


class Function:
    """An operation with a ``forward`` and a ``backward`` of your own, both static; called by ``apply``.

    ``forward(ctx, *arguments)`` computes without recording.  ``backward(ctx, *gradients)`` gets a gradient for each
    output and returns one for each argument, ``None`` for those that have none.  Made of tensor operations, it can
    be differentiated again.

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
    def backward(ctx: FunctionContext, *gradients: Any) -> Any:
        raise NotImplementedError("You must implement the backward for your custom autograd.Function to use it.")

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        """Run ``forward`` on the arguments; what it returns is connected to ``backward``."""
        edges = tuple(node_of(a) if isinstance(a, Tensor) and thread.grad_enabled else None for a in arguments)
        ctx = FunctionContext(tuple(edge is not None for edge in edges))
        with no_grad():
            returned = cls.forward(ctx, *arguments)
        outputs = returned if isinstance(returned, tuple) else (returned,)
        inputs = {id(argument): edge for argument, edge in zip(arguments, edges, strict=True)}
        node = None
        if any(edge is not None for edge in edges):
            types = [TensorType(o.dtype, o.shape) if isinstance(o, Tensor) else None for o in outputs]
            shapes = [a.shape if isinstance(a, Tensor) else None for a in arguments]
            node = CallNode(_FunctionCall(cls, ctx, types, shapes), edges)
        results: list[Any] = []
        connected: dict[int, Node] = {}
        for index, output in enumerate(outputs):
            if isinstance(output, Tensor) and node is not None:
                result = new_tensor(dispatch.payload(output))
                if is_differentiable(output.dtype) and id(output) not in ctx._nondifferentiable:
                    result._node = connected[id(output)] = CallOutput(
                        node, index, TensorType(output.dtype, output.shape)
                    )
                    result._requires_grad = True
                output = result
            results.append(output)
        ctx._saved = [
            None if t is None else (dispatch.payload(t), inputs.get(id(t)) or connected.get(id(t)) or node_of(t))
            for t in ctx._to_save
        ]
        ctx._to_save = ()
        return tuple(results) if isinstance(returned, tuple) else results[0]


class _FunctionCall(Call):
    """One application of a :class:`Function`."""

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionContext,
        outputs: Sequence[TensorType | None],
        inputs: Sequence[tuple[int, ...] | None],
    ) -> None:
        self._function, self._ctx, self._outputs, self._inputs = function, ctx, outputs, inputs

    def backward(self, cotangents: Mapping[int, Any]) -> Sequence[Any]:
        given = {i: c if isinstance(c, Tensor) else new_tensor(c) for i, c in cotangents.items()}
        with no_grad():
            gradients = self._gradients(given)
        return [None if gradient is None else dispatch.payload(gradient) for gradient in gradients]

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor | None]:
        if getattr(self._function.backward, "_once_differentiable", False):
            raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
        with enable_grad():
            return self._gradients(cotangents)

    def release(self) -> None:
        self._ctx._saved = None

    def _gradients(self, cotangents: Mapping[int, Tensor]) -> list[Tensor | None]:
        arguments = [cotangents.get(i, self._missing(type)) for i, type in enumerate(self._outputs)]
        returned = self._function.backward(self._ctx, *arguments)
        gradients = list(returned) if isinstance(returned, tuple | list) else [returned]
        count, name = len(self._inputs), f"{self._function.__name__}Backward"
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
        """A gradient of its input's shape: one that was broadcast is summed."""
        shape = self._inputs[index]
        if gradient is None or shape is None:
            return None
        if not isinstance(gradient, Tensor):
            raise at_user_line(
                TypeError(f"expected Variable or None (got {type(gradient).__name__}) from {name} at index {index}")
            )
        if gradient.shape == shape:
            return gradient
        from ..ops.manipulation import sum_to

        try:
            return sum_to(gradient, shape)
        except ValueError:
            message = (
                f"Function {name} returned an invalid gradient at index {index} - got {list(gradient.shape)} "
                f"but expected shape compatible with {list(shape)}"
            )
            raise at_user_line(RuntimeError(message)) from None


def once_differentiable(backward: Backward) -> Backward:
    """Mark a ``backward`` that must not be differentiated again."""
    backward._once_differentiable = True  # type: ignore[attr-defined]
    return backward


__all__ = ["Function", "FunctionContext", "once_differentiable"]
