"""Runs a graph op by op, as eager code would: the meaning of a graph, and the oracle of every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .graph import Block, Constant, Graph, Op, Value
from .primitive import Primitive
from .types import Symbol, TensorType, type_of

Evaluate = Callable[[Primitive, tuple[np.ndarray, ...], Mapping[str, Any]], Any]
Observe = Callable[[Op, tuple[np.ndarray, ...]], None]
Extents = dict[Symbol, int]


def interpret(
    graph: Graph,
    arguments: Sequence[np.ndarray],
    evaluate: Evaluate | None = None,
    observe: Observe | None = None,
    extents: Mapping[Symbol, int] | None = None,
) -> list[np.ndarray]:
    """The results of ``graph`` on ``arguments``.

    ``evaluate(primitive, arrays, attributes)`` computes an op, by default with ``primitive.evaluate``; it
    gives a tuple where the op has several results, or none.  An op's regions come as the attribute
    ``regions``: a :class:`Region` each.  ``observe(op, results)`` is called after each op.  A value is
    freed after its last use.  ``extents`` of symbols that no argument tells may be given.  A
    ``FloatingPointError`` gets the op where it came from as its attribute ``op``.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse(
    ...     "func @double(%x: f32[n]) -> (f32[n]) { %y = add %x, %x : f32[n]  return %y }"
    ... )
    >>> interpret(graph, [np.array([1, 2], np.float32)])
    [array([2., 4.], dtype=float32)]
    """
    if len(arguments) != len(graph.parameters):
        raise TypeError(f"@{graph.name} has {len(graph.parameters)} parameters, got {len(arguments)} arguments")
    found: Extents = dict(extents or {})
    for parameter, argument in zip(graph.parameters, arguments, strict=True):
        if not _fits(argument, parameter.type, found):
            known = ", ".join(f"{symbol} is {extent}" for symbol, extent in found.items())
            where = f" where {known}" if known else ""
            raise TypeError(f"@{graph.name}: {parameter!r} cannot be {type_of(argument)}{where}")
    return _Interpreter(evaluate or evaluate_with_numpy, observe, found).block(graph, arguments)


def evaluate_with_numpy(primitive: Primitive, arrays: tuple[np.ndarray, ...], attributes: Mapping[str, Any]) -> Any:
    """``primitive.evaluate``, without NumPy's warnings about overflow, NaN and the like."""
    with np.errstate(all="ignore"):
        return primitive.evaluate(*arrays, **attributes)


def checked_results(op: Op, results: Any, extents: Extents) -> tuple[np.ndarray, ...]:
    """What evaluating ``op`` gave, as a tuple of arrays; ``TypeError`` where they are not of the promised types."""
    arrays: tuple[np.ndarray, ...] = results if isinstance(results, tuple) else (results,)
    if len(arrays) != len(op.results) or not all(
        _fits(array, result.type, extents) for array, result in zip(arrays, op.results, strict=True)
    ):
        given = ", ".join(repr(type_of(array)) for array in arrays) or "no result"
        raise TypeError(f"{op!r} at {op.location}: evaluating it gave {given}")
    return arrays


def last_uses(block: Block) -> dict[Op, list[Value]]:
    """For each op, the values defined in this block that nothing reads after it."""
    local = {*block.parameters, *(result for op in block.ops for result in op.results)}
    needed = set(block.results)
    dying: dict[Op, list[Value]] = {}
    for op in reversed(block.ops):
        touched = dict.fromkeys((*op.results, *op.operands))
        dying[op] = [value for value in touched if value in local and value not in needed]
        needed.update(touched)
    return dying


def own_symbols(block: Block) -> set[Symbol]:
    """The symbols that loops of the block give a meaning: their numbers of steps."""
    found = {op.attributes.get("length") for op in block.ops if op.regions}
    known = {dim for parameter in block.parameters for dim in parameter.shape}
    return {symbol for symbol in found if isinstance(symbol, Symbol) and symbol not in known}


class Region:
    """A region as a function from arrays to a list of arrays; what it finds out of extents is its own."""

    def __init__(self, block: Block, interpreter: _Interpreter) -> None:
        self._block, self._interpreter = block, interpreter
        self._own = own_symbols(block)

    @property
    def result_types(self) -> list[TensorType]:
        extents = self._interpreter.extents
        return [TensorType(result.dtype, _substitute(result.shape, extents)) for result in self._block.results]

    def __call__(self, *arguments: np.ndarray) -> list[np.ndarray]:
        outer = self._interpreter
        extents = {symbol: extent for symbol, extent in outer.extents.items() if symbol not in self._own}
        return _Interpreter(outer.evaluate, outer.observe, extents).block(self._block, arguments)


class _Interpreter:
    def __init__(self, evaluate: Evaluate, observe: Observe | None, extents: Extents) -> None:
        self.evaluate = evaluate
        self.observe = observe
        self.extents = extents

    def block(self, block: Block, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        arrays = dict(zip(block.parameters, arguments, strict=True))
        dying = last_uses(block)
        for op in block.ops:
            operands = tuple([_array(operand, arrays) for operand in op.operands])
            try:
                results = self.evaluate(op.primitive, operands, self.attributes(op))
            except FloatingPointError as error:
                error.__dict__.setdefault("op", op)  # the innermost
                raise
            results = checked_results(op, results, self.extents)
            arrays.update(zip(op.results, results, strict=True))
            if self.observe is not None:
                self.observe(op, results)
            for value in dying[op]:
                del arrays[value]
            del operands, results  # or this frame would keep what has just died until the next op is done
        return [_array(value, arrays) for value in block.results]

    def attributes(self, op: Op) -> Mapping[str, Any]:
        """The op's attributes with extents for symbols, and its regions as functions."""
        attributes: Mapping[str, Any] = op.attributes
        if self.extents:
            attributes = {name: _substitute(value, self.extents) for name, value in attributes.items()}
        if op.regions:
            attributes = {**attributes, "regions": tuple([Region(region, self) for region in op.regions])}
        return attributes


def _array(value: Value, arrays: Mapping[Value, np.ndarray]) -> np.ndarray:
    return value.array if isinstance(value, Constant) else arrays[value]


def _fits(array: np.ndarray, type: TensorType, extents: Extents) -> bool:
    """Whether ``array`` is of ``type``; a symbol met for the first time is put down in ``extents``."""
    return (
        array.dtype == type.dtype
        and array.ndim == type.ndim
        and all(
            (extents.setdefault(dim, extent) if isinstance(dim, Symbol) else dim) == extent
            for dim, extent in zip(type.shape, array.shape, strict=True)
        )
    )


def _substitute(attribute: Any, extents: Extents) -> Any:
    if isinstance(attribute, tuple):
        return tuple([_substitute(entry, extents) for entry in attribute])
    return extents.get(attribute, attribute) if isinstance(attribute, Symbol) else attribute
