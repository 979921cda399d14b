"""Checks that a graph is what the rest of the compiler takes for granted.

Values are defined once, and before they are used; types are those that the primitives' rules give;
constants and names fit.  The pipeline runs it after each pass where ``TRACEJIT_CHECK=1``.
"""

from __future__ import annotations

from typing import NoReturn

from .graph import Block, Constant, Graph, Op, Value, infer_types
from .printer import format_attributes
from .types import type_of


class VerificationError(ValueError):
    """A graph that breaks a rule; the message names the op and the line it came from."""


def verify(graph: Graph) -> None:
    """Raise :class:`VerificationError` for the first op, in program order, that breaks a rule.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse("func @f(%x: f32[3]) -> (f32[3]) { %y = negate %x : f32[3]  return %y }")
    >>> verify(graph)
    >>> graph.ops.clear()
    >>> verify(graph)
    Traceback (most recent call last):
    ...
    tracejit.ir.verifier.VerificationError: @f: result 0, <%y: f32[3]>, is not defined
    """
    verifier = _Verifier(graph)
    verifier.block(graph, set())
    if graph.result_names and len(graph.result_names) != len(graph.results):
        verifier.fail(f"{len(graph.result_names)} result names for {len(graph.results)} results")
    for value in graph.sources:
        if value not in graph.parameters:
            verifier.fail(f"a source is given for {value!r}, which is no parameter")


class _Verifier:
    """Walks the blocks of one graph; knows the op that it is at, for the messages."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.op: Op | None = None

    def block(self, block: Block, defined: set[Value]) -> None:
        """``defined`` is what the block sees, and grows by what it defines: a nested one sees nothing at first."""
        outer = self.op
        for number, parameter in enumerate(block.parameters):
            if parameter.op is not None or isinstance(parameter, Constant):
                self.fail(f"parameter {number}, {parameter!r}, is made by an op or is a constant")
            self.define(parameter, defined)
        for op in block.ops:
            self.op = op
            for number, operand in enumerate(op.operands):
                self.use(operand, defined, f"operand {number}")
            for region in op.regions:
                self.block(region, set())
            self.types(op)
            for result in op.results:
                if result.op is not op:
                    self.fail(f"the result {result!r} names another op as its maker: {result.op!r}")
                self.define(result, defined)
        self.op = outer
        for number, value in enumerate(block.results):
            self.use(value, defined, f"result {number}")

    def use(self, value: Value, defined: set[Value], what: str) -> None:
        if not isinstance(value, Constant):
            if value not in defined:
                self.fail(f"{what}, {value!r}, is not defined")
        elif type_of(value.array) != value.type:
            self.fail(f"{what} is a constant of type {value.type}, but its array is {type_of(value.array)}")

    def types(self, op: Op) -> None:
        try:
            inferred = infer_types(op.primitive, [operand.type for operand in op.operands], op.attributes, op.regions)
            format_attributes(op.attributes)
        except (TypeError, ValueError, LookupError) as error:
            self.fail(str(error))
        if inferred != tuple(result.type for result in op.results):
            self.fail(f"the primitive's type rule gives {', '.join(map(repr, inferred)) or 'no result'}")

    def define(self, value: Value, defined: set[Value]) -> None:
        if value in defined:
            self.fail(f"{value!r} is defined twice")
        defined.add(value)

    def fail(self, message: str) -> NoReturn:
        where = f"@{self.graph.name}"
        if self.op is not None:
            where += f": {self.op!r}" + (f" at {self.op.location}" if self.op.location is not None else "")
        raise VerificationError(f"{where}: {message}") from None
