"""What blocks compute, as keys: equal for blocks that differ in names and lines alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .graph import Block, Constant, Value
from .types import short_name

# Larger constants are the same only if they are the same array: nothing is won by hashing megabytes.
HASHED_BYTES = 1 << 16


def block_key(block: Block) -> Hashable:
    """A key for a block: equal keys, equal results.  It is good as long as the block's constants live.

    >>> from tracejit.ir.parser import parse
    >>> graphs = [
    ...     parse(
    ...         f"func @{x}(%{x}: f32[3]) -> (f32[3]) {{ %y = add %{x}, 1.0 : f32[3]  return %y }}"
    ...     )
    ...     for x in "ab"
    ... ]
    >>> block_key(graphs[0]) == block_key(graphs[1])
    True
    """
    numbers: dict[Value, int] = {}
    parts: list[Any] = [len(block.parameters)]

    def operand(value: Value) -> Any:
        return constant_key(value) if isinstance(value, Constant) else numbers[value]

    for parameter in block.parameters:
        numbers[parameter] = len(numbers)
        parts.append(parameter.type)
    for op in block.ops:
        operands = tuple([operand(value) for value in op.operands])
        parts.append((op.primitive, operands, attributes_key(op.attributes), regions_key(op.regions)))
        for result in op.results:
            numbers[result] = len(numbers)
    return (*parts, *map(operand, block.results))


def content_key(block: Block) -> list[Any] | None:
    """What a block computes, in lists, numbers, strings and bytes: the same in every process.

    Equal for blocks that differ in names and lines alone, as :func:`block_key` is, whatever their constants' size;
    ``None`` where the extents of a parameter are found out when the block runs, or it reads what is not its own.
    """
    try:
        return _content_key(block)
    except KeyError:
        return None


def _content_key(block: Block) -> list[Any]:
    known: dict[Value, Any] = {}
    parts: list[Any] = []
    for number, parameter in enumerate(block.parameters):
        known[parameter] = number
        if not parameter.type.is_static:
            raise KeyError(parameter)
        parts.append((short_name(parameter.dtype), parameter.shape))
    count = len(known)

    def told(values: Sequence[Value]) -> list[Any]:
        found = []
        for value in values:
            told = known.get(value)
            if told is None:
                if not isinstance(value, Constant):
                    raise KeyError(value)
                told = known[value] = short_name(value.dtype), value.shape, value.array.tobytes()
            found.append(told)
        return found

    for op in block.ops:
        attributes = op.attributes and [
            (name, _portable(op.attributes[name])) for name in sorted(op.attributes) if op.attributes[name] is not False
        ]
        regions = op.regions and [_content_key(region) for region in op.regions]
        parts.append((op.primitive.name, told(op.operands), attributes, regions))
        for result in op.results:
            known[result] = count
            count += 1
    parts.append(told(block.results))
    return parts


def _portable(attribute: Any) -> Any:
    kind = type(attribute)
    if kind is str or kind is int:
        return attribute
    if kind is tuple:
        return tuple([_portable(entry) for entry in attribute])
    return kind.__name__, repr(attribute)


def regions_key(regions: Sequence[Block]) -> Hashable:
    return tuple([block_key(region) for region in regions])


def constant_key(constant: Constant) -> Hashable:
    """Equal for constants of one type and content; for large ones, for the same array."""
    array = constant.array
    return constant.type, array.tobytes() if array.nbytes <= HASHED_BYTES else id(array)


def attributes_key(attributes: Mapping[str, Any]) -> Hashable:
    """The same for attributes that print alike: a flag that is not set counts as absent, 1 is not 1.0, nor 0.0 -0.0."""
    return tuple([(name, _key(attributes[name])) for name in sorted(attributes) if attributes[name] is not False])


def _key(attribute: Any) -> Hashable:
    kind = type(attribute)
    if kind is str or kind is int:
        return attribute
    if kind is tuple:
        return tuple([entry if type(entry) is int else _key(entry) for entry in attribute])
    return (kind, repr(attribute))
