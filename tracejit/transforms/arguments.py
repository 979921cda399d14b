"""What transformations have in common: the arguments they work on, in containers, and the values that come back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from tracejit.ir.types import format_shape, is_differentiable

from .. import tree
from ..levels import Box, Level, check_open
from ..locations import at_user_line
from ..ops.creation import tensor as new_from
from ..promotion import as_tensor
from ..tape import same_value
from ..tensor import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def wraps(function: Callable[..., Any]) -> Callable[[Function], Function]:
    """Give a transformed function the name, the documentation and the signature of ``function``, if it has them."""
    made: Any = functools.wraps(function, updated=())
    return made


def name_of(function: Any) -> str:
    """What to call a function in an error."""
    return getattr(function, "__name__", type(function).__name__)


def checked_callable(transformation: str, function: Any) -> None:
    """``TypeError`` unless the function can be called."""
    if not callable(function):
        raise at_user_line(
            TypeError(f"{transformation} expects a function, got {type(function).__name__} {function!r:.60}")
        )


class Variables:
    """The arguments that a function is differentiated in, as tensors; ``None`` in a container stays what it is."""

    def __init__(self, transformation: str, args: Sequence[Any], positions: Sequence[int] | None = None) -> None:
        self._transformation = transformation
        self._positions = range(len(args)) if positions is None else positions
        leaves, structure = flat([args[i] for i in self._positions])
        self.structure = tuple, None, structure[2]
        self._places = [i for i, leaf in enumerate(leaves) if leaf is not None] or range(len(leaves))
        self._count = len(leaves)
        self.tensors = [self._variable(leaves[i], i) for i in self._places]

    def built(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """What is built as the arguments are, with one of ``values`` in the place of each tensor."""
        leaves = [None] * self._count
        for place, value in zip(self._places, values, strict=True):
            leaves[place] = value
        return tree.unflatten(self.structure, iter(leaves))

    def tangents(self, given: Sequence[Any]) -> list[Tensor]:
        """Tangents that are built as the arguments are, one for each tensor."""
        leaves = same_structure(self._transformation, "tangents", tuple(given), "primals", self.structure)
        return [self._tangent(leaves[i], i, like) for i, like in zip(self._places, self.tensors, strict=True)]

    def _variable(self, leaf: Any, number: int, what: str = "") -> Tensor:
        """A leaf as a tensor; ``TypeError`` where it is nothing that is differentiated in."""
        if isinstance(leaf, Tensor):
            variable = new_from(leaf) if leaf._weak else leaf
        elif isinstance(leaf, bool | int | float | complex | np.ndarray | np.generic):
            variable = as_tensor(leaf, self._transformation)
        else:
            found = f"{type(leaf).__name__} {leaf!r:.60} for {what}{self._path(number)}"
            raise at_user_line(TypeError(f"{self._transformation} differentiates in tensors and floats, got {found}"))
        if not is_differentiable(variable.dtype):
            kinds = "real- or complex-valued inputs (floating point numbers)"
            found = f"{variable.dtype.name} for {what}{self._path(number)}"
            raise at_user_line(TypeError(f"{self._transformation} requires {kinds}, got {found}"))
        return variable

    def _tangent(self, given: Any, number: int, primal: Tensor) -> Tensor:
        tangent = self._variable(given, number, "the tangent of ")
        if tangent.shape != primal.shape:
            shapes = f"{format_shape(tangent.shape)} was given for a primal of shape {format_shape(primal.shape)}"
            message = f"{self._transformation}: a tangent of shape {shapes}, {self._path(number)}"
            raise at_user_line(ValueError(message))
        return tangent if tangent.dtype == primal.dtype else tangent.astype(primal.dtype)

    def _path(self, number: int) -> str:
        parts = zip(self._positions, self.structure[2], strict=True)
        return [path for i, part in parts for path in paths(part, f"argument {i}")][number]


def flat(item: Any) -> tuple[list[Any], tree.Structure]:
    """The leaves of a container, and its structure."""
    leaves: list[Any] = []
    return leaves, tree.flatten(item, leaves)


def same_structure(transformation: str, what: str, item: Any, other: str, expected: tree.Structure) -> list[Any]:
    """The leaves of a container that must be built as another one is."""
    leaves, structure = flat(item)
    if structure != expected:
        raise at_user_line(
            TypeError(
                f"{transformation}: {what} must have the structure of {other}, "
                f"{shown(expected)}, got {shown(structure)}"
            )
        )
    return leaves


def shown(structure: tree.Structure) -> str:
    """A structure for people: ``*`` for a leaf."""
    if structure is None:
        return "*"
    kind, keys, children = structure
    inner = [shown(child) for child in children]
    if kind is list:
        return f"[{', '.join(inner)}]"
    if kind is tuple:
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    named = ", ".join(f"{key}: {child}" for key, child in zip(keys, inner, strict=True))
    return f"{{{named}}}" if kind is dict else f"{kind.__name__}({named})"


def paths(structure: tree.Structure, path: str) -> Iterator[str]:
    """What leads to each leaf of what is built so, as an expression."""
    if structure is None:
        yield path
        return
    container, keys, children = structure
    for position, child in enumerate(children):
        if keys is None:
            yield from paths(child, f"{path}[{position}]")
        elif container is dict:
            yield from paths(child, f"{path}[{keys[position]!r}]")
        else:
            yield from paths(child, f"{path}.{keys[position]}")


def selected(transformation: str, args: Sequence[Any], argnums: int | Sequence[int]) -> list[int]:
    """The positions that ``argnums`` names, each once."""
    numbers = list(argnums) if isinstance(argnums, Iterable) else [argnums]
    for number in numbers:
        if not isinstance(number, int | np.integer) or isinstance(number, bool):
            raise at_user_line(TypeError(f"{transformation}: argnums must be ints, got {argnums!r}"))
        if not -len(args) <= number < len(args):
            given = f"the function was given {len(args)} positional argument{'s' * (len(args) != 1)}"
            raise at_user_line(ValueError(f"{transformation}: argnums={argnums}, but {given}"))
    positions = [int(number) % len(args) for number in numbers]
    if len(set(positions)) < len(positions):
        raise at_user_line(ValueError(f"{transformation}: argnums={argnums} names an argument twice"))
    return positions


def with_arguments(args: Sequence[Any], positions: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """The arguments, those at ``positions`` replaced."""
    replaced = list(args)
    for position, value in zip(positions, values, strict=True):
        replaced[position] = value
    return replaced


def pair(transformation: str, function: Any, result: Any) -> tuple[Any, Any]:
    """What a function with ``has_aux`` returns."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise at_user_line(
            TypeError(
                f"{transformation} with has_aux=True: {name_of(function)} must return a pair (output, aux), "
                f"got {type(result).__name__}{f' of {len(result)}' if isinstance(result, tuple) else ''}"
            )
        )
    return result


def as_results(function: Any, leaves: Sequence[Any]) -> list[Tensor | None]:
    """What a function has returned, as tensors; ``None`` stays."""
    what = f"the result of {name_of(function)}"
    return [None if leaf is None else as_tensor(leaf, what) for leaf in leaves]


def inner(level: Level, leaf: Any) -> Any:
    """A leaf of a result as it is outside of a level that is done: a tensor's value one level down."""
    if not isinstance(leaf, Tensor):
        return leaf
    value = leaf._value
    if level.has(value):
        return same_value(value.tensor)
    if isinstance(value, Box):
        check_open(value.level)
    return same_value(leaf)


def outside(level: Level, item: Any) -> Any:
    """A result, with all its tensors, as it is outside of a level that is done."""
    return tree.map_leaves(lambda leaf: inner(level, leaf), item)
