"""What transformations have in common: the arguments they work on, in containers, and the values that come back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from tracejit.ir.types import is_differentiable, is_floating

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


def as_variable(transformation: str, leaf: Any, accepts_complex: bool = True) -> Tensor:
    """A leaf of the arguments that a function is differentiated in, as a tensor."""
    if isinstance(leaf, Tensor):
        variable = new_from(leaf) if leaf._weak else leaf
    elif isinstance(leaf, bool | int | float | complex | np.ndarray | np.generic):
        variable = as_tensor(leaf, transformation)
    else:
        raise at_user_line(
            TypeError(f"{transformation} differentiates in tensors and floats, got {type(leaf).__name__} {leaf!r:.60}")
        )
    if not (is_differentiable(variable.dtype) if accepts_complex else is_floating(variable.dtype)):
        kinds = "real- or complex-valued" if accepts_complex else "real-valued"
        raise at_user_line(
            TypeError(f"{transformation} requires {kinds} inputs (floating point numbers), got {variable.dtype.name}")
        )
    return variable


def as_variables(transformation: str, leaves: Sequence[Any]) -> list[Tensor]:
    """The leaves that are something as tensors: what is ``None`` in a container stays what it is."""
    present = [leaf for leaf in leaves if leaf is not None] or leaves
    return [as_variable(transformation, leaf) for leaf in present]


def with_nothing(leaves: Sequence[Any], values: Iterable[Any]) -> Iterator[Any]:
    """The values in the places of the leaves that are something."""
    found = iter(values)
    return iter([None if leaf is None else next(found) for leaf in leaves])


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


def selected(transformation: str, args: Sequence[Any], argnums: int | Sequence[int]) -> list[int]:
    """The positions that ``argnums`` names."""
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool):
            raise at_user_line(TypeError(f"{transformation}: argnums must be ints, got {argnums!r}"))
        if not -len(args) <= number < len(args):
            raise at_user_line(
                ValueError(f"{transformation}: argnums={argnums}, but the function was given {len(args)} arguments")
            )
    return [number % len(args) for number in numbers]


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
                f"got {type(result).__name__}"
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
