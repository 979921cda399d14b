"""From a call to a compiled path: run the function under a trace, make its results and effects a graph, compile it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.cpu import runtime
from tracejit.backends.program import plan
from tracejit.ir import Graph, Value
from tracejit.ir.partition import split
from tracejit.ir.passes import optimize
from tracejit.ir.types import TensorType

from . import dispatch, tree
from .compiled import Backward, Compiled, Effect, Output
from .contents import contents
from .names import names_read_by
from .state import thread
from .tape import FREED, node_of, propagate
from .tensor import Tensor
from .tracing import (
    AliasedArgument,
    ArgumentsAre,
    ArgumentsAreOthers,
    Captured,
    Check,
    FloatArgument,
    Input,
    SameContents,
    SameTypes,
    SameValue,
    Shadow,
    Source,
    Trace,
    Untraceable,
)

if TYPE_CHECKING:
    from .jit import ArgumentsOfCall


def compile_call(function: Callable[..., Any], name: str, call: ArgumentsOfCall) -> Compiled:
    """Trace ``function`` with the call's arguments and compile what it does; ``Untraceable`` where that cannot be."""
    try:
        return _compile(function, name, call, themselves=False)
    except AliasedArgument:
        return _compile(function, name, call, themselves=True)


def _compile(function: Callable[..., Any], name: str, call: ArgumentsOfCall, *, themselves: bool) -> Compiled:
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[stage] = now - start
        start = now

    trace = Trace(name)
    with _active(trace):
        args, kwargs = call.trace_arguments(trace, function, themselves=themselves)
        floats = [p for p in trace.graph.parameters if p not in {value for _, value in trace.captured}]
        for what, find, value in names_read_by(function):
            trace.guard(("name", what), SameValue(what, find, value))
            _guard_contents(trace, what, find, value)
        for item in call.named_by_identity:
            _guard_contents(trace, "an argument", partial(_itself, item), item)
        result = function(*args, **kwargs)
        del args, kwargs
        if trace.failed is not None:  # swallowed by a bare except
            raise trace.failed
        outputs, structure, effects, checks, backward = _finish(trace, result)
        del result
    _name_captured(trace, function)
    if trace.leaked([shadow._grad for shadow in trace.shadows.values() if shadow._grad is not None]):
        raise RuntimeError(
            f"a tensor that {trace.name} computes is stored outside of it (in a list, a global, an attribute), "
            "where a compiled call would not renew it; return it instead"
        )
    inputs = _inputs(trace, floats)
    trace.guards.append(SameTypes(trace.captured))
    trace.guards.append(ArgumentsAre(tuple(call.tensors)) if themselves else ArgumentsAreOthers(trace.captured))
    lap("trace")
    optimized = optimize(trace.graph)
    lap("optimize")
    program = plan(optimized)
    lap("lower")
    executable = runtime.Executable(program)
    lap("compile")
    return Compiled(
        trace, trace.graph, optimized, program, executable, inputs, trace.guards, effects, checks, outputs,
        structure, seconds, backward,
    )  # fmt: skip


def _guard_contents(trace: Trace, what: str, find: Callable[[], Any], item: Any) -> None:
    """Guard what a captured container or plain object holds, where that is more than its identity."""
    held = contents(item)
    if held is not None:
        trace.guard(("contents", what, id(item)), SameContents(what, find, held))


def _itself(item: Any) -> Any:
    return item


class _active:
    """Makes a trace the active one of this thread."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __enter__(self) -> None:
        thread.trace = self._trace

    def __exit__(self, *exception: object) -> None:
        thread.trace = None


def _finish(
    trace: Trace, result: Any
) -> tuple[list[Output], tree.Structure, list[Effect], list[tuple[int, Check]], Backward | None]:
    """Make what the trace returns and changes results of the graph, and its gradient, where wanted, another graph."""
    results: list[Value] = []
    names: list[str] = []
    positions: dict[Value, int] = {}

    def add(value: Value, label: str) -> int:
        if value not in positions:
            positions[value] = len(results)
            results.append(value)
            names.append(label)
        return positions[value]

    leaves: list[Any] = []
    structure = tree.flatten(result, leaves)
    outputs = [
        _output(trace, leaf, add, f"output{i}" if len(leaves) > 1 else "output") for i, leaf in enumerate(leaves)
    ]
    effects: list[Effect] = []
    before = _values_before(trace)
    for shadow in list(trace.shadows.values()):
        effects += _effects_of(trace, shadow, before.get(shadow), add)
    checks = [(add(check.predicate, "check"), check) for check in trace.checks]
    trace.graph.results = results
    trace.graph.result_names = names
    differentiable = [
        (leaf, output) for leaf, output in zip(leaves, outputs, strict=True)
        if isinstance(leaf, Tensor) and output.kind == "tensor" and leaf._node is not None and not output.spent
    ]  # fmt: skip
    backward = _trace_backward(trace, differentiable) if differentiable else None
    return outputs, structure, effects, checks, backward


def _trace_backward(trace: Trace, differentiable: list[tuple[Tensor, Output]]) -> Backward | None:
    """Record the gradient of the outputs into the graph, then split it off."""
    graph = trace.graph
    forward_ops = len(graph.ops)
    cotangents = [
        Value(TensorType(leaf.dtype, leaf.shape), f"cotangent{i}") for i, (leaf, _) in enumerate(differentiable)
    ]
    nodes = [node_of(leaf) for leaf, _ in differentiable]
    roots = [node for node in nodes if node is not None]
    try:
        found = propagate(roots, cotangents, dispatch.payload_emitter, create_graph=False, retain_graph=True)
    except RuntimeError as error:
        if error.args[0] != FREED:
            raise
        del graph.ops[forward_ops:]
        for _, output in differentiable:
            output.spent = True
        return None
    leaves: list[Source] = []
    values: list[tuple[Source, Value]] = []
    gradients: list[Value] = []
    for shadow in list(trace.shadows.values()):
        accumulator = shadow.tensor._accumulator
        if accumulator is not None and id(accumulator) in found:
            leaves.append(shadow.source)
            values.append((shadow.source, trace.read(shadow.tensor)))
            gradients.append(found[id(accumulator)])
    for number, (_, output) in enumerate(differentiable):
        output.differentiable = number
    joint = Graph(graph.name, graph.parameters, graph.ops, [*graph.results, *gradients], graph.sources)
    forward, backward, residuals = split(graph, forward_ops, cotangents, gradients)
    first = len(graph.results)
    types = [value.type for value in cotangents]
    positions = [first + i for i in range(len(residuals))]
    trace.graph = trace.builder.graph = forward
    return Backward(joint, forward_ops, cotangents, gradients, backward, leaves, values, positions, types)


def _output(trace: Trace, leaf: Any, add: Callable[[Value, str], int], label: str) -> Output:
    if not isinstance(leaf, Tensor):
        return Output("static", static=leaf)
    if isinstance(leaf._value, np.ndarray):  # a tensor from outside, returned itself
        return Output("existing", source=trace.shadow(leaf).source)
    if leaf._weak:
        return Output("number", add(leaf._value, label))
    spent = leaf._node is not None and leaf._node.is_freed
    return Output("tensor", add(leaf._value, leaf._value.name or label), spent=spent)


def _values_before(trace: Trace) -> dict[Shadow, Value]:
    """The parameters of the graph that stand for tensors from outside, as they were before the call."""
    shadows = {id(shadow.source): shadow for shadow in trace.shadows.values()}
    return {shadows[id(source)]: value for source, value in trace.captured}


def _effects_of(trace: Trace, shadow: Shadow, before: Value | None, add: Callable[[Value, str], int]) -> list[Effect]:
    """What the trace has done to a tensor from outside."""
    effects: list[Effect] = []
    name = before.name if before is not None else None
    if shadow._node is not None:
        raise Untraceable("it changes a tensor from outside in place, with gradients")
    if shadow._value is not before:
        assert shadow._value is not None
        effects.append(Effect(shadow.source, "_value", add(shadow._value, f"{name or 'state'}'")))
    if shadow.gradient_is_written:
        gradient = shadow._grad
        if gradient is None:
            effects.append(Effect(shadow.source, "_grad", None))
        elif isinstance(gradient._value, np.ndarray):
            effects.append(Effect(shadow.source, "_grad", None, trace.shadow(gradient).source))
        else:
            if gradient._node is not None:
                raise Untraceable("a gradient that it leaves behind has a history of its own (create_graph)")
            effects.append(Effect(shadow.source, "_grad", add(gradient._value, f"{name or 'state'}.grad")))
    return effects


def _inputs(trace: Trace, floats: Sequence[Value]) -> list[Input]:
    """For each parameter of the graph, where its array comes from at a call."""
    inputs: dict[Value, Input] = {value: source for source, value in trace.captured}
    inputs.update((value, FloatArgument(position)) for position, value in enumerate(floats))
    inputs.update((value, number) for number, value in trace.numbers.values())
    return [inputs[parameter] for parameter in trace.graph.parameters]


def _name_captured(trace: Trace, function: Callable[..., Any]) -> None:
    """Name the graph's captured parameters, and its results that renew them, as the user's code would."""
    names: dict[int, str] = {}
    for name, _, item in names_read_by(function):
        if isinstance(item, Tensor):
            names.setdefault(id(item), name)
        elif hasattr(item, "named_tensors") and not isinstance(item, type):
            for path, tensor in item.named_tensors():
                names.setdefault(id(tensor), f"{name}.{path}")
    labels: dict[Value, str] = {}
    before = _values_before(trace)
    for shadow in trace.shadows.values():
        read = before.get(shadow)
        name = names.get(id(shadow.tensor), "")
        if read is not None and isinstance(shadow.source, Captured):
            read.name = read.name or (name.replace(".", "_") or None)
            if name:
                trace.graph.sources[read] = name
            if shadow._value is not None and shadow._value is not read:
                labels[shadow._value] = f"{name or 'state'}'"
        if shadow._grad is not None and shadow.gradient_is_written and name and isinstance(shadow._grad._value, Value):
            labels.setdefault(shadow._grad._value, f"{name}.grad")
    trace.graph.result_names = [
        labels.get(value, label) for value, label in zip(trace.graph.results, trace.graph.result_names, strict=True)
    ]
