"""Reverse mode: ``vjp``, ``grad`` and ``value_and_grad``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracejit.ir import Block, Primitive
from tracejit.ir.types import TensorType, format_shape, is_differentiable

from .. import dispatch, tree
from ..levels import Box, Level
from ..locations import at_user_line
from ..ops import arithmetic
from ..promotion import as_tensor
from ..tape import Variable, apply, apply_region, node_of, propagate, same_value, tensor_emitter
from ..tensor import Tensor, new_tensor
from .arguments import (
    Variables,
    as_results,
    checked_callable,
    flat,
    inner,
    name_of,
    outside,
    pair,
    same_structure,
    selected,
    with_arguments,
    wraps,
)


class Reverse(Level):
    """A level of which nothing is known but that it is there: its derivatives are the tape's, which stands above it."""

    name = "grad"

    def lifted(self, tensor: Tensor) -> Box:
        return Box(self, same_value(tensor), tensor.shape)

    def process(self, primitive: Primitive, boxes: Sequence[Any], attributes: Mapping[str, Any], active: bool) -> Box:
        result = apply(primitive, [box.tensor for box in boxes], attributes)
        return Box(self, result, result.shape)

    def process_control(
        self,
        primitive: Primitive,
        boxes: Sequence[Any],
        attributes: Mapping[str, Any],
        regions: Sequence[Block],
        active: bool,
    ) -> Sequence[Box]:
        results = apply_region(primitive, [box.tensor for box in boxes], attributes, regions)
        return [Box(self, result, result.shape) for result in results]

    def variable(self, tensor: Tensor) -> Tensor:
        """A tensor of the level below as one that the function is differentiated in."""
        variable = new_tensor(self.lifted(tensor))
        variable._node, variable._requires_grad = Variable(TensorType(tensor.dtype, tensor.shape)), True
        return variable


class Pullback:
    """A function's result, and the map from its cotangents to those of the variables."""

    def __init__(self, function: Callable[..., Any], variables: Sequence[Tensor], call: Any) -> None:
        level = Reverse()
        with level:
            inputs = [level.variable(tensor) for tensor in variables]
            self._nodes = [tensor._node for tensor in inputs]
            self._types = [TensorType(tensor.dtype, tensor.shape) for tensor in inputs]
            result, self.aux = call(inputs)
            leaves, self.structure = flat(result)
            tensors = as_results(function, leaves)
            self._outputs = [None if tensor is None else node_of(tensor) for tensor in tensors]
        self.results = [inner(level, tensor) for tensor in tensors]
        self.aux = outside(level, self.aux)
        del inputs, result, leaves, tensors
        level.settle()

    @property
    def value(self) -> Any:
        """The function's result."""
        return tree.unflatten(self.structure, iter(self.results))

    def __call__(self, cotangents: Sequence[Tensor | None]) -> list[Tensor]:
        """The cotangents of the variables."""
        pairs = [
            (node, cotangent)
            for node, cotangent in zip(self._outputs, cotangents, strict=True)
            if node is not None and cotangent is not None
        ]
        emitter = tensor_emitter()
        found = propagate(
            [node for node, _ in pairs], [cotangent for _, cotangent in pairs], emitter, create_graph=True,
            retain_graph=True, wanted=[node for node in self._nodes if node is not None], below=True,
        )  # fmt: skip
        return [
            same_value(found[id(node)]) if id(node) in found else emitter.full(0, type)
            for node, type in zip(self._nodes, self._types, strict=True)
        ]


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``function(*primals)``, and the function that maps cotangents of the result to those of ``primals``.

    The second takes one argument, built as the result is, and returns a tuple with an entry for each of ``primals``,
    built as that is; it may be called any number of times, and be transformed itself.  With ``has_aux`` the function
    returns a pair, of which the second is not differentiated; it is returned as the third.

    >>> import tracejit as tj
    >>> value, pull = tj.vjp(lambda x, y: x * y, 3.0, 4.0)
    >>> value
    tensor(12.)
    >>> pull(tj.tensor(1.0))
    (tensor(4.), tensor(3.))
    """
    checked_callable("vjp", function)
    variables = Variables("vjp", primals)

    def call(inputs: list[Tensor]) -> tuple[Any, Any]:
        result = function(*variables.built(inputs))
        return pair("vjp", function, result) if has_aux else (result, None)

    pullback = Pullback(function, variables.tensors, call)

    def pull(cotangents: Any) -> Any:
        given = same_structure("vjp", "the cotangents", cotangents, "the result", pullback.structure)
        checked = [_cotangent(item, like) for item, like in zip(given, pullback.results, strict=True)]
        return variables.built(pullback(checked))

    return (pullback.value, pull, pullback.aux) if has_aux else (pullback.value, pull)


def _cotangent(given: Any, result: Any) -> Tensor | None:
    """A cotangent for a result; ``None`` for one that has none."""
    if result is None or not is_differentiable(result.dtype):
        return None
    cotangent = as_tensor(given, "vjp")
    if cotangent.shape != result.shape:
        raise at_user_line(
            ValueError(
                f"vjp: a cotangent of shape {format_shape(cotangent.shape)} was given for a result of shape "
                f"{format_shape(result.shape)}"
            )
        )
    return cotangent if cotangent.dtype == result.dtype else cotangent.astype(result.dtype)


def value_and_grad(
    function: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that returns ``function``'s result and its gradient; see :func:`grad`.

    >>> import tracejit as tj
    >>> tj.value_and_grad(lambda x: x * x)(3.0)
    (tensor(9.), tensor(6.))
    """
    return _differentiated("value_and_grad", function, argnums, has_aux, holomorphic)


def grad(
    function: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that returns the gradient of ``function``, which must return a real scalar.

    ``argnums`` says in which positional arguments: an int, or several (then the gradient is a tuple).  An argument may
    be a container of tensors; the gradient is built in the same way, and ``None`` in a container stays.  Python numbers
    count as tensors.  With ``has_aux`` the function returns a pair (output, aux), and the result is (gradient, aux).

    The gradient in a complex number points where the output grows fastest, as in PyTorch.  With ``holomorphic`` the
    function must be one from complex numbers to a complex number, and the result is its complex derivative.

    Raises ``TypeError`` for arguments that are no floating-point numbers and for results that are no scalars.

    >>> import tracejit as tj
    >>> tj.grad(tj.sin)(0.0)
    tensor(1.)
    >>> tj.grad(tj.grad(lambda x: x**3))(2.0)
    tensor(12.)
    >>> tj.grad(lambda w, x: (w["a"] * x).sum())({"a": tj.ones(2)}, tj.tensor([1.0, 2.0]))
    {'a': tensor([1., 2.])}
    """
    evaluate = _differentiated("grad", function, argnums, has_aux, holomorphic)

    @wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = evaluate(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def _differentiated(
    transformation: str, function: Callable[..., Any], argnums: Any, has_aux: bool, holomorphic: bool
) -> Callable[..., Any]:
    checked_callable(transformation, function)

    @wraps(function)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        positions = selected(transformation, args, argnums)
        variables = Variables(transformation, args, positions)
        for variable in variables.tensors:
            if holomorphic and variable.dtype.kind != "c":
                message = f"{transformation} with holomorphic=True requires complex inputs, got {variable.dtype.name}"
                raise at_user_line(TypeError(message))

        def call(inputs: list[Tensor]) -> tuple[Any, Any]:
            result = function(*with_arguments(args, positions, variables.built(inputs)), **kwargs)
            return pair(transformation, function, result) if has_aux else (result, None)

        pullback = Pullback(function, variables.tensors, call)
        value = _scalar(transformation, function, pullback.value, holomorphic)
        one = new_tensor(dispatch.payload_emitter.full(1, TensorType(value.dtype, ())))
        gradients = pullback([one])
        if holomorphic:  # the cotangent is that of the conjugate
            gradients = [arithmetic.conj(gradient) for gradient in gradients]
        found = variables.built(gradients)
        return (value, pullback.aux) if has_aux else value, found[0] if isinstance(argnums, int) else found

    return evaluate


def _scalar(transformation: str, function: Any, value: Any, holomorphic: bool) -> Tensor:
    """The value, if it is one that has a gradient."""
    requires = f"{transformation} is defined for functions that return a scalar, but {name_of(function)} returned"
    if not isinstance(value, Tensor):
        raise at_user_line(TypeError(f"{requires} {type(value).__name__}"))
    if value.shape:
        raise at_user_line(TypeError(f"{requires} a tensor of shape {format_shape(value.shape)}; use vjp or jacrev"))
    if not is_differentiable(value.dtype):
        raise at_user_line(TypeError(f"{requires} {value.dtype.name}"))
    if (value.dtype.kind == "c") != holomorphic:
        hint = "pass holomorphic=True if it is holomorphic" if not holomorphic else "with holomorphic=True"
        raise at_user_line(TypeError(f"{requires} {value.dtype.name}; {hint}"))
    return value


def stop_gradient(x: Any) -> Any:
    """``x``, or each tensor in a container, as a constant for every derivative.

    >>> import tracejit as tj
    >>> tj.grad(lambda x: x * tj.stop_gradient(x))(3.0)
    tensor(3.)
    """
    return tree.map_leaves(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, x)


__all__ = ["grad", "stop_gradient", "value_and_grad", "vjp"]
