"""``jit(check=True)``: each call runs eagerly too, and must have done the same to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.devices import on_host
from tracejit.ir.types import is_differentiable

from . import tree
from .names import functions_read_by, names_read_by
from .places import Itself
from .tensor import Tensor
from .world import World

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall
    from .jit import JittedFunction


def checked_call(jitted: JittedFunction, function: Callable[..., Any], call: ArgumentsOfCall) -> Any:
    """The jitted call's result; ``AssertionError`` where the eager one gives another, or changes a tensor otherwise."""
    functions = functions_read_by(function, call.named_by_identity)
    read = names_read_by(function, functions)
    arguments = [(f"argument {i}", Itself(item), item) for i, item in enumerate([*call.args, *call.kwargs.values()])]
    world = World([*read, *arguments], functions)
    tensors = _tensors(world, read, call)
    before = [(tensor._value, tensor._grad, tensor._node, tensor._requires_grad) for _, tensor in tensors]
    gradients = [None if grad is None else grad._value for _, grad, _, _ in before]
    expected = _described(function(*call.args, **call.kwargs))
    after = [_state(tensor) for _, tensor in tensors]
    world.restore()
    for (_, tensor), (value, grad, node, flag), gradient in zip(tensors, before, gradients, strict=True):
        tensor._value, tensor._grad, tensor._node, tensor._requires_grad = value, grad, node, flag
        if grad is not None:
            grad._value = gradient
    result = jitted._call(call)
    _compare("its result", _described(result), expected)
    for (name, tensor), state in zip(tensors, after, strict=True):
        _compare(name, _state(tensor), state)
    return result


def _tensors(world: World, read: Any, call: ArgumentsOfCall) -> list[tuple[str, Tensor]]:
    """The tensors that the function can reach, each once, with names."""
    found: dict[int, tuple[str, Tensor]] = {}
    for number, tensor in enumerate(call.tensors):
        found.setdefault(id(tensor), (f"tensor argument {number}", tensor))
    for places in world.places.values():
        found.setdefault(id(places[0].tensor), (places[0].label, places[0].tensor))
    for name, _, item in read:
        if hasattr(type(item), "named_tensors"):
            for path, tensor in item.named_tensors():
                found.setdefault(id(tensor), (f"{name}.{path}", tensor))
    from .random import default_generator

    found.setdefault(id(default_generator.position), ("the random generator", default_generator.position))
    return list(found.values())


def _state(tensor: Tensor) -> list[Any]:
    return [_bits(tensor), None if tensor._grad is None else _bits(tensor._grad)]


def _bits(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return str(tensor.dtype), tensor.shape, _bytes(np.ascontiguousarray(on_host(tensor._value)))


def _bytes(array: np.ndarray) -> bytes:
    """The bits of an array; one NaN is as good as another, for IEEE 754 leaves their signs and payloads open."""
    if is_differentiable(array.dtype):
        array = array.copy()
        numbers = array.view(array.real.dtype) if array.dtype.kind == "c" else array
        numbers[np.isnan(numbers)] = np.nan
    return array.tobytes()


def _described(result: Any) -> list[Any]:
    leaves: list[Any] = []
    structure = tree.flatten(result, leaves)
    return [structure, *(_bits(leaf) if isinstance(leaf, Tensor) else _plain(leaf) for leaf in leaves)]


def _plain(leaf: Any) -> Any:
    return (str(leaf.dtype), leaf.shape, _bytes(leaf)) if isinstance(leaf, np.ndarray) else repr(leaf)


def _compare(what: str, found: list[Any], expected: list[Any]) -> None:
    for position, (ours, theirs) in enumerate(_pairs(found, expected)):
        if ours != theirs:
            raise AssertionError(
                f"{what} differs between the compiled function and eager code"
                f"{f' (part {position})' if position else ''}: {_shown(ours)}, eagerly {_shown(theirs)}"
            )


def _pairs(found: list[Any], expected: list[Any]) -> Iterator[tuple[Any, Any]]:
    yield len(found), len(expected)
    yield from zip(found, expected, strict=True)


def _shown(part: Any) -> str:
    if isinstance(part, tuple) and len(part) == 3 and isinstance(part[2], bytes):
        array = np.frombuffer(part[2], part[0]).reshape(part[1]) if part[0] != "bfloat16" else part[1]
        return f"{part[0]}{list(part[1])} {np.array2string(np.asarray(array), threshold=8)}"
    return str(part)
