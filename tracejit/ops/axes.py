"""Arguments that name axes, and shapes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from tracejit.ir.extents import as_extent

from ..locations import at_user_line

Axis = int | Sequence[int] | None


def normalize_axis(name: str, axis: Any, ndim: int) -> int:
    """The axis as a non-negative int; ``IndexError`` if it is out of range, ``TypeError`` if it is no integer."""
    if type(axis) is not int:
        axis = _integer(name, axis)
    if not -ndim <= axis < ndim:
        raise at_user_line(IndexError(f"{name}: axis {axis} is out of bounds for a tensor of dimension {ndim}"))
    return axis % ndim


def normalize_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes (all, for ``None``) as increasing non-negative ints; ``ValueError`` for one that appears twice."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple | list):
        return (normalize_axis(name, axis, ndim),)
    normal = tuple(sorted(normalize_axis(name, item, ndim) for item in axis))
    if len(set(normal)) != len(normal):
        raise at_user_line(ValueError(f"{name}: an axis appears twice in {tuple(axis)}"))
    return normal


def normalize_extents(name: str, shape: Any) -> tuple[Any, ...]:
    """The extents of a shape, which may be one number; ``TypeError`` for what is no integer."""
    try:
        return (as_extent(shape),) if hasattr(shape, "__index__") else tuple(map(as_extent, shape))
    except TypeError:
        raise at_user_line(TypeError(f"{name}: a shape is made of integers, got {shape!r}")) from None


def _integer(name: str, axis: Any) -> int:
    if not isinstance(axis, bool):
        try:
            return operator.index(axis)
        except TypeError:
            pass
    raise at_user_line(TypeError(f"{name}: an axis must be an integer, got {type(axis).__name__} {axis!r}"))
