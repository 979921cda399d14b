"""Nested containers as a flat list of leaves and a structure that puts them back.

Containers are dict, list, tuple, namedtuple and dataclass instances, ordered and default dicts, and those of types
that were registered; everything else is a leaf.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_NOTHING: Mapping[int, Any] = {}
Structure = Any  # hashable: None for a leaf, else (kind, keys, children)


def flatten(item: Any, leaves: list[Any], whole: Mapping[int, Any] = _NOTHING) -> Structure:
    """Append the leaves of ``item`` and return its structure.

    Containers whose identities are in ``whole`` are leaves.

    >>> leaves = []
    >>> structure = flatten({"a": 1, "b": [2, 3]}, leaves)
    >>> leaves
    [1, 2, 3]
    >>> unflatten(structure, iter(leaves))
    {'a': 1, 'b': [2, 3]}
    """
    kind = type(item)
    if whole and id(item) in whole:
        leaves.append(item)
        return None
    if kind is tuple or kind is list:
        return kind, None, tuple([flatten(child, leaves, whole) for child in item])
    if kind is dict or kind is OrderedDict:
        return kind, tuple(item), tuple([flatten(child, leaves, whole) for child in item.values()])
    if kind is defaultdict:
        keys = (item.default_factory, *item)
        return kind, keys, tuple([flatten(child, leaves, whole) for child in item.values()])
    if kind in _registered:
        children, key = _registered[kind][0](item)
        return kind, key, tuple([flatten(child, leaves, whole) for child in children])
    if isinstance(item, tuple) and hasattr(kind, "_fields"):
        return kind, kind._fields, tuple([flatten(child, leaves, whole) for child in item])
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        names = tuple(field.name for field in dataclasses.fields(item))
        return kind, names, tuple([flatten(getattr(item, name), leaves, whole) for name in names])
    leaves.append(item)
    return None


def register_container(
    kind: type, flatten: Callable[[Any], tuple[Any, Any]], unflatten: Callable[[Any, list[Any]], Any]
) -> None:
    """Make the instances of a class containers, whose tensors are inputs and outputs of jitted functions.

    ``flatten(item)`` gives the children and a hashable rest; ``unflatten(rest, children)`` makes another instance.

    >>> import tracejit as tj
    >>> class Interval:
    ...     def __init__(self, low, high):
    ...         self.low, self.high = low, high
    >>> tj.register_container(
    ...     Interval,
    ...     lambda i: ((i.low, i.high), None),
    ...     lambda rest, children: Interval(*children),
    ... )
    >>> width = tj.jit(lambda interval: interval.high - interval.low)
    >>> width(Interval(tj.tensor(1.0), tj.tensor(3.0))), width.cache_info().misses
    (tensor(2.), 1)
    """
    if not isinstance(kind, type):
        raise TypeError(f"register_container expects a class, got {kind!r:.60}")
    _registered[kind] = flatten, unflatten


_registered: dict[type, tuple[Callable[[Any], tuple[Any, Any]], Callable[[Any, list[Any]], Any]]] = {}


def is_registered(kind: type) -> bool:
    """Whether functions of the user's take the instances of a class apart."""
    return kind in _registered


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The nested container of a structure, filled with leaves."""
    if structure is None:
        return next(leaves)
    kind, keys, children = structure
    values = [unflatten(child, leaves) for child in children]
    if kind is tuple or kind is list:
        return kind(values)
    if kind is dict or kind is OrderedDict:
        return kind(zip(keys, values, strict=True))
    if kind is defaultdict:
        return defaultdict(keys[0], zip(keys[1:], values, strict=True))
    if kind in _registered:
        return _registered[kind][1](keys, values)
    if issubclass(kind, tuple):
        return kind(*values)
    made = object.__new__(kind)  # a dataclass: the fields as they are, without running __init__ again
    for name, value in zip(keys, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def map_leaves(function: Callable[[Any], Any], item: Any) -> Any:
    """The container with ``function`` applied to each leaf."""
    leaves: list[Any] = []
    structure = flatten(item, leaves)
    return unflatten(structure, iter([function(leaf) for leaf in leaves]))
