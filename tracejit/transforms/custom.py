"""Functions with derivatives of their own: ``custom_vjp`` and ``custom_jvp``."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import TensorType, format_shape, is_differentiable

from .. import tree
from ..locations import at_user_line
from ..promotion import as_tensor
from ..tape import tensor_emitter
from ..tensor import Tensor
from .arguments import as_results, checked_callable, flat, name_of, paths, shown
from .operation import Operation, WithJvp, WithVjp, apply_operation


class _Custom:
    """A function that is called as an operation: its tensors are operands, all else is as it is."""

    def __init__(self, function: Callable[..., Any], nondiff_argnums: Sequence[int] | int = ()) -> None:
        checked_callable(type(self).__name__, function)
        functools.update_wrapper(self, function)
        self.function = function
        self.nondiff = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {name_of(self.function)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
            bound.apply_defaults()
            if bound.kwargs:
                message = f"{name_of(self.function)} has keyword-only arguments, which have no derivative rules"
                raise at_user_line(TypeError(message))
            args = bound.args
        call = _Arguments(self, args)
        results = apply_operation(self.operation(call), call.operands)
        return tree.unflatten(call.built, iter(results))

    def operation(self, call: _Arguments) -> Operation:
        """The operation that one call is."""
        raise NotImplementedError


class _Arguments:
    """One call's arguments taken apart, and the structure of what it returns."""

    def __init__(self, custom: _Custom, args: Sequence[Any]) -> None:
        self.name = name_of(custom.function)
        count = len(args)
        self.static = {i % count: args[i] for i in custom.nondiff if -count <= i < count}
        self._leaves, self.structure = flat([arg for i, arg in enumerate(args) if i not in self.static])
        self.places = [i for i, leaf in enumerate(self._leaves) if isinstance(leaf, Tensor | float | np.ndarray)]
        self.operands = [as_tensor(self._leaves[i], self.name) for i in self.places]
        self.built: tree.Structure = None  # of the result

    def differentiable(self, operands: Sequence[Any]) -> list[Any]:
        """The arguments with operands in them, but for those that are never differentiated."""
        leaves = list(self._leaves)
        for place, operand in zip(self.places, operands, strict=True):
            leaves[place] = operand
        return tree.unflatten(self.structure, iter(leaves))

    def all(self, operands: Sequence[Any]) -> list[Any]:
        """The arguments with operands in them."""
        args = self.differentiable(operands)
        for place in sorted(self.static):
            args.insert(place, self.static[place])
        return args

    @property
    def fixed(self) -> list[Any]:
        """The arguments that are never differentiated."""
        return [self.static[place] for place in sorted(self.static)]

    def results(self, returned: Any) -> list[Tensor]:
        """What the function returned, flat."""
        leaves, self.built = flat(returned)
        results = as_results(self.name, leaves)
        missing = [i for i, result in enumerate(results) if result is None]
        if missing:
            raise at_user_line(TypeError(f"{self.name}, a function with derivatives of its own, must not return None"))
        return [result for result in results if result is not None]

    def matched(self, what: str, given: Any, other: str, expected: tree.Structure, likes: Sequence[Any]) -> list[Any]:
        """The leaves of a derivative, which must be built as ``expected``; ``None`` stands for zeros anywhere."""
        leaves: list[Any] = []
        if not self._match(given, expected, leaves):
            message = (
                f"{what} of {self.name} must return what is built as {other}, {shown(expected)}, got {given!r:.80}"
            )
            raise at_user_line(TypeError(message))
        found = [self._like(leaf, like) for leaf, like in zip(leaves, likes, strict=True)]
        for number, (tensor, like) in enumerate(zip(found, likes, strict=True)):
            if tensor is not None and tensor.shape != like.shape:
                place = list(paths(expected, other))[number]
                shapes = f"{format_shape(tensor.shape)} for {place}, which has shape {format_shape(like.shape)}"
                raise at_user_line(ValueError(f"{what} of {self.name} returned a tensor of shape {shapes}"))
        return found

    def _match(self, given: Any, structure: tree.Structure, leaves: list[Any]) -> bool:
        if given is None:
            leaves += [None] * _size(structure)
            return True
        if structure is None:
            leaves.append(given)
            return isinstance(given, Tensor | float | int | np.ndarray | np.generic)
        kind, keys, children = structure
        if kind is dict:
            parts = [given[key] for key in keys] if isinstance(given, dict) and set(given) == set(keys) else None
        elif kind is list or kind is tuple:
            parts = list(given) if isinstance(given, list | tuple) else None
        else:
            parts = [getattr(given, key) for key in keys] if type(given) is kind else None
        if parts is None or len(parts) != len(children):
            return False
        return all(self._match(part, child, leaves) for part, child in zip(parts, children, strict=True))

    @staticmethod
    def _like(leaf: Any, like: Any) -> Tensor | None:
        if leaf is None or not isinstance(like, Tensor) or not is_differentiable(like.dtype):
            return None
        tensor = as_tensor(leaf, "a derivative")
        return tensor if tensor.dtype == like.dtype else tensor.astype(like.dtype)


def _size(structure: tree.Structure) -> int:
    return 1 if structure is None else sum(_size(child) for child in structure[2])


class custom_vjp(_Custom):
    """A function with a reverse-mode derivative of its own, which :meth:`defvjp` gives; called like the function.

    ``forward(*args)`` returns the result and what ``backward`` needs; ``backward(residuals, cotangent)`` returns a
    tuple with a cotangent for each argument (``None`` for zeros).  The arguments at ``nondiff_argnums`` are never
    differentiated: ``backward`` gets them first.  Forward mode uses the transpose of ``backward``; higher derivatives
    are those of ``forward`` and ``backward`` as they are written.

    The function gets by its arguments whatever it is differentiated in: a tensor of an outer transformation that it
    reaches in another way raises ``RuntimeError``, one that requires gradients counts as constant.

    >>> import tracejit as tj
    >>> @tj.custom_vjp
    ... def clipped(x):
    ...     return x * x
    >>> clipped.defvjp(
    ...     lambda x: (x * x, x), lambda x, cotangent: (tj.clip(2 * x * cotangent, -1, 1),)
    ... )
    >>> tj.grad(clipped)(3.0)
    tensor(1.)
    """

    forward: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Give the derivative."""
        checked_callable("defvjp", forward)
        checked_callable("defvjp", backward)
        self.forward, self.backward = forward, backward

    def operation(self, call: _Arguments) -> Operation:
        if self.forward is None or self.backward is None:
            raise at_user_line(
                AttributeError(
                    f"No VJP defined for custom_vjp function {call.name}: give one with defvjp(forward, backward)"
                )
            )
        return _Vjp(self.function, self.forward, self.backward, call)


class _Vjp(WithVjp):
    def __init__(
        self, function: Callable[..., Any], forward: Callable[..., Any], backward: Callable[..., Any], call: _Arguments
    ) -> None:
        self.name = call.name
        self._function, self._forward, self._backward, self._call = function, forward, backward, call
        self._types: list[TensorType] = []  # of the results

    def run(self, operands: Sequence[Tensor]) -> list[Tensor]:
        return self._call.results(self._function(*self._call.all(operands)))

    def forward(self, operands: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        returned = self._forward(*self._call.all(operands))
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise at_user_line(
                TypeError(
                    f"the forward rule of {self.name} must return a pair (output, residuals), got {returned!r:.80}"
                )
            )
        results = self._call.results(returned[0])
        self._types = [TensorType(result.dtype, result.shape) for result in results]
        return results, (list(operands), returned[1])

    def backward(self, residuals: Any, cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        operands, kept = residuals
        emitter = tensor_emitter()
        given = [
            emitter.full(0, type) if cotangent is None else cotangent
            for cotangent, type in zip(cotangents, self._types, strict=True)
        ]
        cotangent = tree.unflatten(self._call.built, iter(given))
        returned = self._backward(*self._call.fixed, kept, cotangent)
        if not isinstance(returned, tuple | list):
            message = f"the backward rule of {self.name} must return a tuple, one cotangent for each argument"
            raise at_user_line(TypeError(f"{message}, got {type(returned).__name__}"))
        likes = _leaves(self._call.differentiable(operands))
        found = self._call.matched("the backward rule", list(returned), "the arguments", self._call.structure, likes)
        return [found[place] for place in self._call.places]


def _leaves(item: Any) -> list[Any]:
    return flat(item)[0]


class custom_jvp(_Custom):
    """A function with a forward-mode derivative of its own, which :meth:`defjvp` gives; called like the function.

    The rule gets the arguments and their tangents, each a tuple, and returns the result and its tangent, which must be
    linear in those.  Reverse mode uses its transpose.  The arguments at ``nondiff_argnums`` are never differentiated:
    the rule gets them first.  See :class:`custom_vjp` for what the function may reach.

    >>> import tracejit as tj
    >>> @tj.custom_jvp
    ... def softplus(x):
    ...     return tj.log(1 + tj.exp(x))
    >>> @softplus.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return softplus(x), t * tj.sigmoid(x)
    >>> tj.grad(softplus)(1000.0)
    tensor(1.)
    """

    rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Give the derivative; may be used as a decorator."""
        checked_callable("defjvp", rule)
        self.rule = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Give a derivative for each argument: ``rule(tangent, result, *args)``; ``None`` where it is zero."""

        def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
            result = self(*primals)
            terms = [
                one(tangent, result, *primals) for one, tangent in zip(rules, tangents, strict=True) if one is not None
            ]
            zero = tree.map_leaves(lambda leaf: tensor_emitter().full(0, TensorType(leaf.dtype, leaf.shape)), result)
            return result, functools.reduce(_added, terms, zero)

        self.rule = rule

    def operation(self, call: _Arguments) -> Operation:
        if self.rule is None:
            message = f"No JVP defined for custom_jvp function {call.name}: give one with defjvp"
            raise at_user_line(AttributeError(message))
        return _Jvp(self.function, self.rule, call)


def _added(x: Any, y: Any) -> Any:
    others = iter(_leaves(y))
    return tree.map_leaves(lambda leaf: leaf + next(others), x)


class _Jvp(WithJvp):
    def __init__(self, function: Callable[..., Any], rule: Callable[..., Any], call: _Arguments) -> None:
        self.name = call.name
        self._function, self._rule, self._call = function, rule, call

    def run(self, operands: Sequence[Tensor]) -> list[Tensor]:
        return self._call.results(self._function(*self._call.all(operands)))

    def push(
        self, operands: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        emitter = tensor_emitter()
        given = [
            emitter.full(0, TensorType(operand.dtype, operand.shape)) if tangent is None else tangent
            for operand, tangent in zip(operands, tangents, strict=True)
        ]
        primals, changes = tuple(self._call.differentiable(operands)), tuple(self._call.differentiable(given))
        returned = self._rule(*self._call.fixed, primals, changes)
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise at_user_line(
                TypeError(f"the jvp rule of {self.name} must return a pair (output, tangent), got {returned!r:.80}")
            )
        results = self._call.results(returned[0])
        return results, self._call.matched("the jvp rule", returned[1], "the output", self._call.built, results)


__all__ = ["custom_jvp", "custom_vjp"]
