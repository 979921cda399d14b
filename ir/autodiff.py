"""Reverse mode on graphs: the vector-Jacobian product of a graph is a graph.

The rules are those of the primitives, the same that the eager tape follows.  A *joint* block computes what the block
did, then its gradients; :func:`tracejit.ir.partition.split` makes a forward and a backward graph of it.  What it
consists of is differentiable again, so gradients of any order come from doing this several times.

An op with regions is replaced by one that also gives what its backward part will read: see :class:`Differential`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .facts import facts, replace
from .graph import Block, Builder, Constant, Graph, Op, Value, copy_block
from .masks import Mask, either, pull
from .primitive import Application, Emitter, Primitive
from .types import TensorType, is_differentiable


@facts(frozen=True)
class Differential:
    """How an application of a primitive with regions is differentiated.

    ``attributes`` and ``regions`` are those of the application to run instead, which gives ``residuals`` values after
    its own results.  ``active`` tells for each of its own results whether it depends on what is differentiated.
    ``backward(emitter, operands, residuals, cotangents, so_far)`` gives the operands' cotangents, to which it adds what
    there is of them ``so_far``; ``None``, here as there, stands for one that is zero.  ``start`` are operands that it
    gets after its own.
    """

    attributes: Mapping[str, Any]
    regions: tuple[Block, ...]
    residuals: int
    active: tuple[bool, ...]
    backward: Callable[[Emitter, Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]], list[Any]]
    start: tuple[np.ndarray, ...] = ()


@facts
class Joint:
    """A block's ops, the first ``forward_ops``, and those that compute the parameters' gradients from cotangents.

    There is a cotangent for each result that depends on what is differentiated, and ``None`` for the others; a gradient
    for each parameter that they depend on.  The cotangents are no parameters of the graph, nor is what there is of the
    gradients ``so_far``, to which they are added.
    """

    graph: Graph
    forward_ops: int
    cotangents: list[Value | None]
    gradients: list[Value | None]
    so_far: list[Value | None]


def vjp(graph: Graph, wanted: Sequence[bool] | None = None) -> Graph:
    """The graph that takes what ``graph`` takes, and its results' cotangents; it gives the results, and the gradients.

    There is a cotangent for each result, and a gradient for each parameter, that is of a floating-point (or complex)
    dtype; ``wanted`` limits the parameters.  A gradient that is zero whatever the values are is given as zeros.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse("func @f(%x: f32[3]) -> (f32[3]) { %y = sine %x : f32[3]  return %y }")
    >>> print(vjp(graph))
    func @f.vjp(%x: f32[3], %cotangent: f32[3]) -> (f32[3], x.gradient: f32[3]) {
      %y  = sine %x                 : f32[3]
      %v0 = cosine %x               : f32[3]
      %v1 = multiply %cotangent, %v0 : f32[3]
      return %y, %v1
    }
    """
    differentiable = [is_differentiable(parameter.dtype) for parameter in graph.parameters]
    asked = [flag and (wanted is None or wanted[i]) for i, flag in enumerate(differentiable)]
    joint = differentiate(graph, asked)
    result = joint.graph
    result.name = f"{graph.name}.vjp"
    result.sources = {
        new: graph.sources[old]
        for old, new in zip(graph.parameters, result.parameters, strict=True)
        if old in graph.sources
    }
    names = list(graph.result_names) or [""] * len(graph.results)
    emitter = graph_emitter(Builder(result))
    for value, cotangent in zip(graph.results, joint.cotangents, strict=True):
        if is_differentiable(value.dtype):
            result.parameters.append(cotangent or Value(value.type, "cotangent"))
    for parameter, gradient, flag in zip(graph.parameters, joint.gradients, asked, strict=True):
        if flag:
            result.results.append(emitter.full(0, parameter.type) if gradient is None else gradient)
            names.append(f"{parameter.name or ''}.gradient".lstrip("."))
    result.result_names = names
    return result


def active_results(block: Block, wanted: Sequence[bool]) -> list[bool]:
    """For each result, whether it depends on a ``wanted`` parameter in a way that has a derivative."""
    active = {parameter for parameter, flag in zip(block.parameters, wanted, strict=True) if flag}
    for op in block.ops:
        flags = _active_operands(op, active)
        if not any(flags):
            continue
        if op.regions:
            differentiable = op.primitive.active(op, flags)  # type: ignore[attr-defined]
        else:
            differentiable = [is_differentiable(result.dtype) for result in op.results]
        active.update(result for result, flag in zip(op.results, differentiable, strict=True) if flag)
    return [result in active for result in block.results]


def _active_operands(op: Op, active: set[Value]) -> list[bool]:
    """Which operands the op is to be differentiated in."""
    return [operand in active and op.primitive.is_differentiable_in(i) for i, operand in enumerate(op.operands)]


def graph_emitter(builder: Builder) -> Emitter:
    """Applies primitives to the values of the graph that ``builder`` builds."""

    def control(
        primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any], regions: Sequence[Block]
    ) -> tuple[Value, ...]:
        return builder.apply_several(primitive, operands, attributes, [copy_block(region) for region in regions])

    return Emitter(builder.apply, Constant, control)


def differentiate(
    block: Block, wanted: Sequence[bool], given: Sequence[bool] | None = None, added_to: Collection[int] = ()
) -> Joint:
    """The joint graph of ``block``: of its ``wanted`` parameters, from the cotangents of the ``given`` results.

    The gradients of the parameters whose numbers are in ``added_to`` are added to others.
    """
    name = block.name if isinstance(block, Graph) else "region"
    graph = Graph(name, [Value(parameter.type, parameter.name) for parameter in block.parameters])
    builder = Builder(graph)
    reverse = _Reverse(builder, wanted, added_to)
    results = reverse.forward(block)
    graph.results = list(results)
    forward_ops = len(graph.ops)
    cotangents: list[Value | None] = []
    for number, value in enumerate(results):
        cotangent = None
        if value in reverse.active and (given is None or given[number]):
            cotangent = Value(value.type, "cotangent")
            reverse.add(value, cotangent)
        cotangents.append(cotangent)
    gradients = reverse.backward()
    so_far = [None if g is None else reverse.so_far.get(p) for p, g in zip(graph.parameters, gradients, strict=True)]
    return Joint(graph, forward_ops, cotangents, gradients, so_far)


class _Reverse:
    """Copies a block's ops, remembering how each is differentiated, and then walks them backward."""

    def __init__(self, builder: Builder, wanted: Sequence[bool], added_to: Collection[int]) -> None:
        self.builder = builder
        self.emitter = graph_emitter(builder)
        self.parameters = list(builder.graph.parameters)
        self.wanted = [parameter for parameter, flag in zip(self.parameters, wanted, strict=True) if flag]
        self.active = set(self.wanted)
        self.steps: list[tuple[Op, list[bool], Differential | None]] = []
        self.cotangents: dict[Value, Value] = {}
        self.masks: dict[Value, Mask] = {}  # of those cotangents that have one
        self.so_far = {self.parameters[n]: Value(self.parameters[n].type, "so_far") for n in added_to}

    def forward(self, block: Block) -> list[Value]:
        """The copies of the block's results."""
        copies: dict[Value, Value] = dict(zip(block.parameters, self.parameters, strict=True))
        for op in block.ops:
            operands = [copies.get(operand, operand) for operand in op.operands]
            results = self._forward_op(op, operands)
            for old, new in zip(op.results, results, strict=True):
                new.name = old.name
                copies[old] = new
        return [copies.get(value, value) for value in block.results]

    def _forward_op(self, op: Op, operands: Sequence[Value]) -> tuple[Value, ...]:
        self.builder.location = op.location
        flags = [v in self.active and op.primitive.is_differentiable_in(i) for i, v in enumerate(operands)]
        differential = None
        attributes, regions = op.attributes, op.regions
        if op.regions and any(flags):
            differential = op.primitive.differentiate(  # type: ignore[attr-defined]
                [operand.type for operand in operands], attributes, regions, flags
            )
            attributes, regions = differential.attributes, differential.regions
            operands = [*operands, *map(Constant, differential.start)]
        copied = [copy_block(region) for region in regions]
        results = self.builder.apply_several(op.primitive, operands, attributes, copied)
        if any(flags):
            own = results[: len(op.results)]
            active = differential.active if differential else [is_differentiable(result.dtype) for result in own]
            self.active.update(result for result, flag in zip(own, active, strict=True) if flag)
            self.steps.append((self.builder.graph.ops[-1], flags, differential))
        return results[: len(op.results)]

    def add(self, value: Value, cotangent: Value, mask: Mask | None = None) -> None:
        """Another contribution to a value's cotangent."""
        held = self.cotangents.get(value, self.so_far.get(value))
        if held is not None:
            cotangent, mask = self.emitter.add(held, cotangent), either(self.masks.pop(value, None), mask)
        self.cotangents[value] = cotangent
        if mask is not None:
            self.masks[value] = mask

    def backward(self) -> list[Value | None]:
        """The gradients of the parameters."""
        for op, flags, differential in reversed(self.steps):
            cotangents = [self.cotangents.pop(result, None) for result in op.results]
            masks = [self.masks.pop(result, None) for result in op.results]
            if all(cotangent is None for cotangent in cotangents):
                continue
            location = op.location
            self.builder.location = None if location is None else replace(location, gradient=True)
            if differential is not None:
                own = len(op.results) - differential.residuals
                self._through_region(op, flags, differential, op.results[own:], cotangents[:own])
                continue
            contributions = self._contributions(op, flags, cotangents[0], masks[0])
            for operand, flag, (contribution, mask) in zip(op.operands, flags, contributions, strict=False):
                if flag and contribution is not None:
                    self.add(operand, contribution, mask)
        return [self.cotangents.get(parameter) for parameter in self.parameters]

    def _through_region(
        self,
        op: Op,
        flags: Sequence[bool],
        differential: Differential,
        residuals: Sequence[Value],
        cotangents: Sequence[Value | None],
    ) -> None:
        """Bring what there is of the operands' cotangents up to date."""
        operands = op.operands[: len(flags)]
        first = {operand: number for number, operand in reversed([*enumerate(operands)]) if flags[number]}
        so_far = [
            self.cotangents.get(operand, self.so_far.get(operand)) if first.get(operand) == number else None
            for number, operand in enumerate(operands)
        ]
        totals = differential.backward(self.emitter, operands, residuals, cotangents, so_far)
        for number, (operand, flag, total) in enumerate(zip(operands, flags, totals, strict=False)):
            if flag and total is not None and total is not so_far[number]:
                if first[operand] == number:
                    self.masks.pop(operand, None)
                    self.cotangents[operand] = total
                else:
                    self.add(operand, total)

    def _contributions(self, op: Op, flags: Sequence[bool], cotangent: Any, mask: Mask | None) -> list[Any]:
        types = tuple([operand.type for operand in op.operands])
        application = Application(op.primitive, op.attributes, types, op.result.type, op.operands, op.result)
        return [
            pull(self.emitter, i, cotangent, mask, application) if flag else (None, None)
            for i, flag in enumerate(flags)
        ]


def zeros_of(emitter: Emitter, value: Any, type: TensorType) -> Any:
    """``value``, or zeros of a type where it is ``None``."""
    return emitter.full(0, type) if value is None else value


__all__ = ["Differential", "Joint", "active_results", "differentiate", "graph_emitter", "vjp", "zeros_of"]
