"""The program: kernel calls in order, over inputs, outputs, constants and one arena."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

import numpy as np

from tracejit.ir import Constant, Graph, Location, Op, TensorType, Value
from tracejit.ir.facts import facts
from tracejit.ir.interpreter import Evaluate, interpret
from tracejit.ir.types import Symbol, short_name

from .blockwise import BlockwiseCall
from .control import Body, BranchCall, CopyCall, LoopCall, Place, walk
from .kernel import Kernel
from .products import DotCall


@facts
class KernelCall:
    """One kernel with its buffers and parameters; ``extent`` iterations of its parallel loop, ``work`` in all."""

    kernel: Kernel
    buffers: list[Value]
    parameters: list[int]
    extent: int
    work: int
    locations: list[Location] = field(default_factory=list)  # of the ops that the kernel computes, each once

    @property
    def location(self) -> Location | None:
        """The last of them."""
        return self.locations[-1] if self.locations else None

    def nested(self) -> Sequence[Body]:
        return ()


@facts
class HostCall:
    """An op that NumPy computes between kernels, from the values in memory behind its operands.

    ``symbols`` says which words hold the extents that the program finds out, if it does.
    """

    op: Op
    sources: list[Value]
    symbols: dict[Symbol, int]

    @property
    def buffers(self) -> list[Value]:
        return [*self.sources, *self.op.results]

    @property
    def location(self) -> Location | None:
        return self.op.location

    @property
    def work(self) -> int:
        return sum(result.type.size for result in self.op.results if result.type.is_static)

    def nested(self) -> Sequence[Body]:
        return ()

    def evaluate(
        self, arrays: Sequence[np.ndarray], extents: dict[Symbol, int], evaluate: Evaluate
    ) -> Sequence[np.ndarray]:
        """The results, given the sources' arrays; views among the operands are NumPy's."""
        known = dict(zip(self.sources, arrays, strict=True))
        if self.op.regions or self.symbols:
            graph = Graph(self.op.primitive.name, self.sources, [self.op], self.op.results)
            return interpret(graph, arrays, evaluate, extents=extents)

        def elements(value: Value) -> np.ndarray:
            if value in known:
                return known[value]
            if isinstance(value, Constant):
                return value.array
            assert value.op is not None
            return evaluate(value.op.primitive, (elements(value.op.operands[0]),), value.op.attributes)

        result = evaluate(self.op.primitive, tuple(map(elements, self.op.operands)), self.op.attributes)
        return result if isinstance(result, tuple) else [result]


Call = KernelCall | DotCall | HostCall | CopyCall | BranchCall | LoopCall | BlockwiseCall


@facts
class Program:
    """What runs: ``places`` says where each value lies.

    ``cursors`` words change while it runs; those of ``growing`` are addresses of memory that is found out to be needed,
    those of ``symbols`` the extents that it has.
    """

    name: str
    inputs: list[TensorType]
    outputs: list[TensorType]
    constants: list[np.ndarray]
    arena_bytes: int
    cursors: int
    growing: list[int]
    symbols: dict[Symbol, int]
    calls: list[Call]
    places: dict[Value, Place]
    result_values: list[Value]
    _kernels: list[Kernel] = field(default_factory=list, repr=False)

    @property
    def results(self) -> list[Place]:
        return [self.places[value] for value in self.result_values]

    @property
    def kernels(self) -> list[Kernel]:
        """The distinct kernels, in order of first use."""
        if not self._kernels:
            distinct = {call.kernel.text: call.kernel for call in walk(self.calls) if isinstance(call, KernelCall)}
            self._kernels = list(distinct.values())
        return self._kernels

    def __str__(self) -> str:
        lines = [kernel.text + "\n" for kernel in self.kernels]
        lines.append(f"program {self.name} {{  # arena {self.arena_bytes} bytes")
        lines += print_calls(self.calls, self.places, "  ")
        lines.append(f"  return {', '.join(map(str, self.results))}")
        return "\n".join([*lines, "}"])


def print_calls(calls: Sequence[Call], places: Mapping[Value, Place], indent: str) -> Iterator[str]:
    """The lines of some calls."""
    for call in calls:
        where = f"   # {call.location}" if call.location else ""
        buffers = ", ".join(str(places[value]) for value in call.buffers if value in places)
        match call:
            case KernelCall(kernel, parameters=parameters):
                bound = zip(kernel.parameters, parameters, strict=True)
                named = "".join(f", {name}={value}" for name, value in bound)
                yield f"{indent}call {kernel.name}({buffers}{named}){where}"
            case HostCall(op):
                yield f"{indent}numpy {op.primitive.name}({buffers}){where}"
            case DotCall():
                sizes = f"batch={call.batch}, m={call.m}, n={call.n}, k={call.k}"
                yield f"{indent}dot_{short_name(call.dtype)}({buffers}, {sizes}){where}"
            case CopyCall():
                yield f"{indent}copy({buffers})"
            case BlockwiseCall():
                yield f"{indent}for {call.rows} of {call.m} rows of each of {call.batch} matrices {{{where}"
                if call.prologue:
                    yield f"{indent}  once for each matrix {{"
                    yield from print_calls([step.call for step in call.prologue], places, indent + "    ")
                    yield f"{indent}  }}"
                yield from print_calls([step.call for step in call.body], places, indent + "  ")
                columns = ", ".join(map(str, call.limits))
                yield f"{indent}}}{'' if min(call.limits) == call.n else f' with {columns} of {call.n} columns'}"
            case BranchCall(selector=selector, bodies=bodies):
                for number, body in enumerate(bodies):
                    yield f"{indent}{'else ' if number else ''}case {places[selector]} is {number} {{{where}"
                    yield from print_calls(body.calls, places, indent + "  ")
                    yield f"{indent}}}"
            case LoopCall():
                yield f"{indent}{call.title(places)} {{{where}"
                for carry in call.carries:
                    start, buffers = places[carry.first], f"{places[carry.result]}, {places[carry.spare]}"
                    yield f"{indent}  carry {places[carry.current]} from {start} in {buffers}"
                for slices, verb in [*((s, "read") for s in call.inputs), *((s, "write") for s in call.stacked)]:
                    yield f"{indent}  {verb} {places[slices.step]} along {places[slices.whole]}"
                if call.condition is not None and call.predicate is not None:
                    yield from print_calls(call.condition.calls, places, indent + "  ")
                    yield f"{indent}  stop unless {places[call.predicate]}"
                yield from print_calls(call.body.calls, places, indent + "  ")
                yield f"{indent}}}"


__all__ = [
    "BranchCall", "Call", "CopyCall", "DotCall", "HostCall", "KernelCall", "LoopCall", "Place", "Program", "walk",
]  # fmt: skip
