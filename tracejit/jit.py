"""``jit``: a function that is traced once for each kind of call, and from then on runs as one native program."""

from __future__ import annotations

import functools
import inspect
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, overload

import numpy as np

from tracejit.backends.cpu import compiler, runtime
from tracejit.backends.program import Program, plan
from tracejit.ir import Constant, Graph, Location, Value
from tracejit.ir.partition import split
from tracejit.ir.passes import optimize
from tracejit.ir.types import TensorType, float64

from . import dispatch, tree
from .autograd import FREED, Call, CallNode, CallOutput, Node, apply, node_of, propagate, with_history
from .locations import at_user_line, is_library
from .state import thread
from .tensor import Tensor, new_tensor
from .tracing import (
    Argument,
    Captured,
    Check,
    FloatArgument,
    Guard,
    Input,
    SameValue,
    Shadow,
    Source,
    Trace,
    Untraceable,
)  # fmt: skip

STAGES = ("trace", "grad", "optimized", "kernels", "llvm", "asm", "cuda", "ptx")


@overload
def jit(function: Callable[..., Any]) -> JittedFunction: ...
@overload
def jit(function: None = None) -> Callable[[Callable[..., Any]], JittedFunction]: ...
def jit(function: Callable[..., Any] | None = None) -> Any:
    """Compile ``function``: the same results, to the bit, and the same effects on tensors, faster.

    The first call with arguments of some structure, shapes and dtypes records what the function does and compiles
    it; later calls run the native program.  Tensors that the function reaches by itself (parameters, optimizer state)
    are read afresh at each call and updated when it has run.  What cannot be compiled runs eagerly, and
    :meth:`JittedFunction.explain` says why.

    >>> import tracejit as tj
    >>> @tj.jit
    ... def scale(x, factor):
    ...     return x * factor
    >>> scale(tj.tensor([1.0, 2.0]), 3.0)
    tensor([3., 6.])
    >>> scale.cache_info().misses
    1
    """
    return JittedFunction(function) if function is not None else JittedFunction


@dataclass(frozen=True)
class CacheInfo:
    """How often calls found a compiled program (``hits``), compiled one (``misses``) or ran eagerly."""

    hits: int
    misses: int
    eager: int
    entries: int


@dataclass
class _Effect:
    """What a call does to a tensor that was there before: a new value, or a new ``.grad``."""

    source: Source
    attribute: str  # "_value" or "_grad"
    result: int | None  # which result; None clears the gradient
    replacement: Source | None = None  # the gradient is a tensor that was there before


@dataclass
class _Output:
    """One leaf of what the function returns."""

    kind: str  # "tensor", "number", "existing" or "static"
    result: int = -1
    source: Source | None = None
    static: Any = None
    spent: bool = False  # requires gradients, but its graph has been freed
    differentiable: int | None = None  # its number among the outputs that gradients can be asked for


@dataclass
class Backward:
    """The compiled gradient of one path: from residuals and cotangents to the gradients of its leaves."""

    joint: Graph  # forward and backward in one, over the inputs and the cotangents: for higher derivatives
    forward_ops: int
    cotangents: list[Value]
    gradients: list[Value]
    graph: Graph
    leaves: list[Source]
    leaf_values: list[tuple[Source, Value]]  # the leaves' parameters in the joint graph
    residuals: list[int]  # positions among the forward program's results
    outputs: list[TensorType]
    _executable: runtime.Executable | None = None

    @functools.cached_property
    def optimized(self) -> Graph:
        return optimize(self.graph)

    @functools.cached_property
    def program(self) -> Program:
        return plan(self.optimized)

    @property
    def executable(self) -> runtime.Executable:
        if self._executable is None:
            self._executable = runtime.Executable(self.program)
        return self._executable


class _CompiledCall(Call):
    """One call of a path whose outputs need gradients: what its backward reads."""

    def __init__(self, backward: Backward, inputs: list[np.ndarray], residuals: list[np.ndarray]) -> None:
        self._backward, self._inputs, self._residuals = backward, inputs, residuals

    def backward(self, cotangents: Mapping[int, Any]) -> Sequence[Any]:
        given = [
            cotangents[i] if i in cotangents else np.zeros(type.static_shape, type.dtype)
            for i, type in enumerate(self._backward.outputs)
        ]
        return self._backward.executable([*self._residuals, *given])

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor]:
        """Run the joint graph on tensors: its forward part from the inputs with their history, then its backward."""
        backward = self._backward
        known: dict[Value, Tensor] = {}
        edges = dict(zip(backward.leaves, inputs, strict=True))
        for parameter, array in zip(backward.joint.parameters, self._inputs, strict=True):
            known[parameter] = new_tensor(array)
        for source, value in backward.leaf_values:
            known[value] = with_history(known[value]._value, edges[source])
        for i, (value, type) in enumerate(zip(backward.cotangents, backward.outputs, strict=True)):
            known[value] = cotangents[i] if i in cotangents else new_tensor(np.zeros(type.static_shape, type.dtype))

        def read(value: Value) -> Tensor:
            return new_tensor(value.array) if isinstance(value, Constant) else known[value]

        for op in backward.joint.ops:
            known[op.result] = apply(op.primitive, [read(v) for v in op.operands], op.attributes)
        return [read(value) for value in backward.gradients]


@dataclass
class Compiled:
    """One traced and compiled path of a function."""

    trace: Trace
    graph: Graph
    optimized: Graph
    program: Program
    executable: runtime.Executable
    inputs: list[Input]
    guards: list[Guard]
    effects: list[_Effect]
    checks: list[tuple[int, Check]]
    outputs: list[_Output]
    structure: tree.Structure
    seconds: dict[str, float]
    backward: Backward | None = None
    calls: int = 0

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        return all(guard.holds(tensors) for guard in self.guards)

    def run(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> Any:
        """Run the program, then commit its effects: all, or none where something fails."""
        arrays = [source.array(tensors, floats) for source in self.inputs]
        results = _checked_run(self, arrays) if thread.anomaly or self.trace.anomaly else self.executable(arrays)
        for position, check in self.checks:
            if not results[position]:
                check.fail()
        self.calls += 1
        updates = [(effect, self._update(effect, tensors, results)) for effect in self.effects]
        node = None if self.backward is None else self._call_node(self.backward, tensors, arrays, results)
        returned = [self._returned(output, tensors, results, node) for output in self.outputs]
        for effect, update in updates:
            setattr(effect.source.find(tensors), effect.attribute, update)
        return returned[0] if self.structure is None else tree.unflatten(self.structure, iter(returned))

    @staticmethod
    def _update(effect: _Effect, tensors: Sequence[Tensor], results: list[np.ndarray]) -> Any:
        if effect.replacement is not None:
            return effect.replacement.find(tensors)
        if effect.result is None:
            return None
        value = results[effect.result]
        return value if effect.attribute == "_value" else new_tensor(value)

    @staticmethod
    def _call_node(
        backward: Backward, tensors: Sequence[Tensor], arrays: list[np.ndarray], results: list[np.ndarray]
    ) -> CallNode:
        call = _CompiledCall(backward, arrays, [results[position] for position in backward.residuals])
        leaves = [source.find(tensors) for source in backward.leaves]
        return CallNode(call, tuple(None if leaf is None else node_of(leaf) for leaf in leaves))

    @staticmethod
    def _returned(output: _Output, tensors: Sequence[Tensor], results: list[np.ndarray], node: CallNode | None) -> Any:
        if output.kind == "static":
            return output.static
        if output.kind == "existing":
            assert output.source is not None
            return output.source.find(tensors)
        value = results[output.result]
        if output.kind == "number":
            return float(value)
        tensor = new_tensor(value)
        if output.spent:
            tensor._requires_grad = True
            tensor._node = Node(None, (), TensorType(value.dtype, value.shape), None)
        elif output.differentiable is not None:
            assert node is not None
            tensor._requires_grad = True
            tensor._node = CallOutput(node, output.differentiable, TensorType(value.dtype, value.shape))
        return tensor


@dataclass
class Eager:
    """A kind of call that cannot be compiled, and why."""

    reason: str
    location: Location | None
    calls: int = 0


def _checked_run(compiled: Compiled, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The traced graph, op by op, until one makes a NaN out of none: the same bits as the program's."""
    from tracejit.ir.interpreter import interpret

    def evaluate(primitive: Any, operands: Sequence[np.ndarray], attributes: Any) -> np.ndarray:
        result = runtime.evaluate(primitive, operands, attributes)
        if (
            result.dtype.kind == "f"
            and np.isnan(result).any()
            and not any(a.dtype.kind == "f" and np.isnan(a).any() for a in operands)
        ):
            raise FloatingPointError(dispatch.nan_message(primitive, operands, result))
        return result

    locations = iter([op.location for op in compiled.graph.ops])
    current: list[Location | None] = [None]

    def located(primitive: Any, operands: Sequence[np.ndarray], attributes: Any) -> np.ndarray:
        current[0] = next(locations)
        return evaluate(primitive, operands, attributes)

    try:
        with np.errstate(all="ignore"):
            return interpret(compiled.graph, arrays, located)
    except FloatingPointError as error:
        if current[0] is not None and current[0].gradient:
            error.args = (f"{error.args[0]}, in the gradient",)
        raise at_user_line(error, current[0]) from None


@dataclass
class _Signature:
    """The calls of one kind: argument structure, shapes, dtypes, static values, gradient mode."""

    description: str
    paths: list[Compiled] = field(default_factory=list)
    eager: Eager | None = None


class JittedFunction:
    """What :func:`jit` returns: called like the function; ``ir``, ``explain`` and ``cache_info`` show its insides."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"jit cannot compile the coroutine function {getattr(function, '__name__', function)!r}")
        functools.update_wrapper(self, function)
        self._function = function
        self._name = getattr(function, "__name__", type(function).__name__).strip("<>")
        self._signatures: dict[Any, _Signature] = {}
        self._lock = threading.RLock()
        self._hits = self._misses = self._eager_calls = 0
        self._keep: list[Any] = []  # objects that keys name by identity
        self._history: list[str] = []

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jitted function {self._name}>"

    def __reduce__(self) -> Any:
        return jit, (self._function,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if thread.trace is not None:  # part of the function that is being traced
            return self._function(*args, **kwargs)
        call = _Call(self, args, kwargs)
        signature = self._signatures.get(call.key)
        if signature is not None:
            if signature.eager is not None:
                return self._run_eagerly(signature.eager, args, kwargs)
            for path in signature.paths:
                if path.holds(call.tensors):
                    self._hits += 1
                    return path.run(call.tensors, call.floats)
        with self._lock:
            found = self._compile(call)
        if isinstance(found, Eager):
            return self._run_eagerly(found, args, kwargs)
        return found.run(call.tensors, call.floats)

    def _run_eagerly(self, eager: Eager, args: Any, kwargs: Any) -> Any:
        self._eager_calls += 1
        eager.calls += 1
        return self._function(*args, **kwargs)

    def _compile(self, call: _Call) -> Compiled | Eager:
        signature = self._signatures.get(call.key)
        if signature is None:
            signature = self._signatures[call.key] = _Signature(call.describe())
            self._keep += call.named_by_identity
        else:  # another thread may have been faster
            for path in signature.paths:
                if path.holds(call.tensors):
                    return path
            self._history += [
                f"recompiled for {signature.description}: no longer true that {guard.describe()}"
                for guard in (signature.paths[-1].guards if signature.paths else [])
                if not guard.holds(call.tensors)
            ][:1]
        self._misses += 1
        try:
            path = _compile(self._function, self._name, call)
        except Untraceable as reason:
            signature.eager = Eager(reason.reason, reason.location)
            return signature.eager
        except BaseException:
            if not signature.paths:
                del self._signatures[call.key]
            raise
        signature.paths.insert(0, path)
        return path

    # Looking inside ---------------------------------------------------------------------------------

    def ir(self, *args: Any, stage: str = "optimized", **kwargs: Any) -> str:
        """The program that a call with these arguments runs, as text, without running it.

        ``stage`` is ``"trace"`` (as recorded), ``"grad"`` (the gradient of its outputs), ``"optimized"``,
        ``"kernels"``, ``"llvm"``, ``"asm"``, ``"cuda"`` or ``"ptx"`` (needs NVRTC, the ``nvrtc`` extra).
        """
        if stage not in STAGES:
            raise ValueError(f"unknown stage {stage!r}: expected one of {', '.join(STAGES)}")
        call = _Call(self, args, kwargs)
        signature = self._signatures.get(call.key)
        path: Compiled | Eager | None = None
        if signature is not None:
            path = signature.eager or next((p for p in signature.paths if p.holds(call.tensors)), None)
        if path is None:
            with self._lock:
                path = self._compile(call)
        if isinstance(path, Eager):
            raise RuntimeError(f"{self._name} runs eagerly for these arguments: {path.reason} ({path.location})")
        return _text(path, stage)

    def explain(self) -> str:
        """What was compiled, for which calls, how long it took, and what runs eagerly and why."""
        from .explain import explain

        return explain(self._name, self._signatures.values(), self._history)

    def cache_info(self) -> CacheInfo:
        """Counts of the calls so far, as ``functools.lru_cache`` gives them."""
        entries = sum(len(s.paths) + (s.eager is not None) for s in self._signatures.values())
        return CacheInfo(self._hits, self._misses, self._eager_calls, entries)

    def clear_cache(self) -> None:
        """Forget everything that was compiled."""
        with self._lock:
            self._signatures.clear()
            self._keep.clear()


def _text(path: Compiled, stage: str) -> str:
    match stage:
        case "trace":
            return str(path.graph)
        case "grad":
            if path.backward is None:
                raise RuntimeError(
                    "no gradient flows out of this function: backward() inside it is part of stage 'trace'"
                )
            return str(path.backward.optimized)
        case "optimized":
            return str(path.optimized)
        case "kernels":
            return str(path.program)
        case "llvm":
            return compiler.module_text(path.program.kernels)
        case "asm":
            return compiler.assembly(compiler.module_text(path.program.kernels))
    from tracejit.backends.cuda import codegen, nvrtc

    source = codegen.module_source(path.program.kernels)
    return source if stage == "cuda" else nvrtc.compile_to_ptx(source)


# One call's arguments --------------------------------------------------------------------------------------


class _Call:
    """Arguments taken apart: tensors, floats, and a key for everything that the traced program depends on."""

    __slots__ = ("_leaves", "_names", "args", "floats", "key", "kwargs", "named_by_identity", "structure", "tensors")

    def __init__(self, function: JittedFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs
        leaves: list[Any] = []
        self.structure = tree.flatten((args, dict(sorted(kwargs.items()))), leaves)
        self._leaves = leaves
        self.tensors: list[Tensor] = []
        self.floats: list[float] = []
        self.named_by_identity: list[Any] = []
        parts: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                self.tensors.append(leaf)
                value = leaf._value
                parts.append((value.dtype, value.shape, leaf._requires_grad, leaf._node is None))
            elif type(leaf) is float:
                self.floats.append(leaf)
                parts.append(float)
            elif isinstance(leaf, np.ndarray):
                tensor = new_tensor(leaf if leaf.dtype.isnative else leaf.astype(leaf.dtype.newbyteorder("=")))
                self.tensors.append(tensor)
                parts.append(("array", leaf.dtype, leaf.shape))
            else:
                parts.append((type(leaf), self._static(leaf)))
        identities = [id(tensor) for tensor in self.tensors]
        aliases = tuple(map(identities.index, identities)) if len(set(identities)) < len(identities) else None
        self.key = self.structure, tuple(parts), aliases, thread.grad_enabled

    def _static(self, leaf: Any) -> Any:
        if isinstance(leaf, int | str | bytes | bool | complex | type(None)):
            return leaf
        self.named_by_identity.append(leaf)  # kept alive with the key, so that the identity is not used again
        return id(leaf)

    def describe(self) -> str:
        """The call for people: each argument's type."""
        parts = [
            repr(TensorType(leaf._value.dtype, leaf._value.shape)) if isinstance(leaf, Tensor)
            else repr(TensorType(leaf.dtype, leaf.shape)) if isinstance(leaf, np.ndarray)
            else "float" if type(leaf) is float
            else repr(leaf)[:40]
            for leaf in self._leaves
        ]  # fmt: skip
        return f"({', '.join(parts)}){'' if thread.grad_enabled else ' without gradients'}"

    def trace_arguments(self, trace: Trace, function: Callable[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to trace with: tensors become parameters of the graph, floats weak 0-d tensors."""
        names = _leaf_names(function, self.args, self.kwargs)
        replaced: list[Any] = []
        position = 0
        for name, leaf in zip(names, self._leaves, strict=True):
            if isinstance(leaf, Tensor | np.ndarray):
                tensor = self.tensors[position]
                shadow = trace.shadows.get(id(tensor))
                if shadow is None:
                    shadow = trace.shadow_from(tensor, Argument(position))
                    shadow._value = trace.builder.parameter(TensorType(tensor.dtype, tensor.shape), name)
                    trace.captured.append((shadow.source, shadow._value))
                position += 1
                replaced.append(tensor)
            elif type(leaf) is float:
                number = new_tensor(trace.builder.parameter(TensorType(float64, ()), name))
                number._weak = True
                replaced.append(number)
            else:
                replaced.append(leaf)
        return tree.unflatten(self.structure, iter(replaced))


def _leaf_names(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[str]:
    """A name for each leaf of the arguments, from the function's signature."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    count = len(args)
    labelled = [(names[i] if i < len(names) else f"arg{i}", item) for i, item in enumerate(args)]
    for name, item in [*labelled[:count], *sorted(kwargs.items())]:
        leaves: list[Any] = []
        structure = tree.flatten(item, leaves)
        yield from [name] if structure is None else [f"{name}.{i}" for i in range(len(leaves))]


# Tracing and compiling -------------------------------------------------------------------------------------


def _compile(function: Callable[..., Any], name: str, call: _Call) -> Compiled:
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[stage] = now - start
        start = now

    trace = Trace(name)
    with _active(trace):
        args, kwargs = call.trace_arguments(trace, function)
        floats = [p for p in trace.graph.parameters if p not in {value for _, value in trace.captured}]
        for what, find, value in _names_read_by(function):
            trace.guard(("name", what), SameValue(what, find, value))
        result = function(*args, **kwargs)
        del args, kwargs
        outputs, structure, effects, checks, backward = _finish(trace, result)
        del result
    _name_captured(trace, function)
    inputs = _inputs(trace, floats)
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
) -> tuple[list[_Output], tree.Structure, list[_Effect], list[tuple[int, Check]], Backward | None]:
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
    effects: list[_Effect] = []
    kept = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    for shadow in list(trace.shadows.values()):
        effects += _effects_of(trace, shadow, add, kept)
    checks = [(add(check.predicate, "check"), check) for check in trace.checks]
    if trace.leaked(kept):
        raise RuntimeError(
            f"a tensor that {trace.name} computes is stored outside of it (in a list, a global, an attribute), "
            "where a compiled call would not renew it; return it instead"
        )
    trace.graph.results = results
    trace.graph.result_names = names
    differentiable = [
        (leaf, output) for leaf, output in zip(leaves, outputs, strict=True)
        if isinstance(leaf, Tensor) and output.kind == "tensor" and leaf._node is not None and not output.spent
    ]  # fmt: skip
    backward = _trace_backward(trace, differentiable) if differentiable else None
    return outputs, structure, effects, checks, backward


def _trace_backward(trace: Trace, differentiable: list[tuple[Tensor, _Output]]) -> Backward | None:
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


def _output(trace: Trace, leaf: Any, add: Callable[[Value, str], int], label: str) -> _Output:
    if not isinstance(leaf, Tensor):
        return _Output("static", static=leaf)
    if isinstance(leaf._value, np.ndarray):  # a tensor from outside, returned itself
        return _Output("existing", source=trace.shadow(leaf).source)
    if leaf._weak:
        return _Output("number", add(leaf._value, label))
    spent = leaf._node is not None and leaf._node.application is None
    return _Output("tensor", add(leaf._value, leaf._value.name or label), spent=spent)


def _effects_of(trace: Trace, shadow: Shadow, add: Callable[[Value, str], int], kept: list[Tensor]) -> list[_Effect]:
    effects: list[_Effect] = []
    read = {id(source): value for source, value in trace.captured}
    name = shadow._value.name if shadow._value is not None else None
    if shadow._node is not None:
        raise Untraceable("it changes a tensor from outside in place, with gradients")
    if shadow._value is not None and shadow._value is not read.get(id(shadow.source)):
        effects.append(_Effect(shadow.source, "_value", add(shadow._value, f"{name or 'state'}'")))
    if shadow.gradient_is_written:
        gradient = shadow._grad
        if gradient is None:
            effects.append(_Effect(shadow.source, "_grad", None))
        elif isinstance(gradient._value, np.ndarray):
            effects.append(_Effect(shadow.source, "_grad", None, trace.shadow(gradient).source))
        else:
            if gradient._node is not None:
                raise Untraceable("a gradient that it leaves behind has a history of its own (create_graph)")
            kept.append(gradient)
            effects.append(_Effect(shadow.source, "_grad", add(gradient._value, f"{name or 'state'}.grad")))
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
    for name, _, item in _names_read_by(function):
        if isinstance(item, Tensor):
            names.setdefault(id(item), name)
        elif hasattr(item, "named_tensors"):
            for path, tensor in item.named_tensors():
                names.setdefault(id(tensor), f"{name}.{path}")
    labels: dict[Value, str] = {}
    for shadow in trace.shadows.values():
        read = next((v for source, v in trace.captured if source is shadow.source), None)
        name = names.get(id(shadow.tensor), "")
        if read is not None and isinstance(shadow.source, Captured):
            read.name = read.name or (name.replace(".", "_") or None)
            if name:
                trace.graph.sources[read] = name
            if shadow._value is not None and shadow._value is not read:
                labels[shadow._value] = f"{name or 'state'}'"
        if shadow._grad is not None and shadow.gradient_is_written and name:
            labels.setdefault(shadow._grad._value, f"{name}.grad")
    trace.graph.result_names = [
        labels.get(value, label) for value, label in zip(trace.graph.results, trace.graph.result_names, strict=True)
    ]


def _names_read_by(function: Callable[..., Any], limit: int = 64) -> list[tuple[str, Callable[[], Any], Any]]:
    """The globals and closure variables that a function reads, and those of the functions of the user's it reads."""
    found: list[tuple[str, Callable[[], Any], Any]] = []
    pending: list[Any] = [function]
    seen: set[int] = set()
    while pending and len(found) < limit:
        current = inspect.unwrap(pending.pop())
        current = getattr(current, "__func__", current)
        if id(current) in seen or not isinstance(current, types.FunctionType):
            continue
        seen.add(id(current))
        for name, find in _variables(current):
            try:
                value = find()
            except (KeyError, ValueError):
                continue
            if isinstance(value, types.ModuleType):
                continue
            found.append((name, find, value))
            inner = inspect.unwrap(value) if callable(value) else value
            if isinstance(inner, types.FunctionType) and not is_library(inner.__code__.co_filename):
                pending.append(inner)
    return found


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, partial(getattr, cell, "cell_contents")
    space = function.__globals__
    for name in _global_names(function.__code__):
        if name in space:
            yield name, partial(space.__getitem__, name)


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


__all__ = ["CacheInfo", "JittedFunction", "jit"]
