"""Compiled code of a path: the programs of its segments, and what the call's end does to the world."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.cpu import compiler, stored
from tracejit.backends.devices import in_use, moved, on_host
from tracejit.backends.forking import lock, once
from tracejit.ir import Constant, Graph, Op, Value
from tracejit.ir.absence import without
from tracejit.ir.facts import facts
from tracejit.ir.interpreter import interpret
from tracejit.ir.partition import kept_bytes, split
from tracejit.ir.types import TensorType

from . import debug, dispatch, logs, tree
from .device import evaluate as evaluate_anywhere, find
from .locations import at_user_line
from .paths import Segment, choose
from .sources import Input, Source
from .state import thread
from .tape import Call, CallNode, CallOutput, Node, apply, apply_region, node_of, with_history
from .tensor import Tensor, new_tensor
from .world import Change

if TYPE_CHECKING:
    from array import array

    from tracejit.backends.program import Program

    from .arguments import ArgumentsOfCall

RUNS_BEFORE_COMPILING = 2  # with extents that may not be met again

# A line on which a kernel begins, in LLVM IR, assembly, CUDA C and PTX.
_DEFINITION = r"(?:^define .*@|^|__global__.* |\.entry )(\w+_[0-9a-f]{12})(?=[(:])"  # compiled when it is needed


class Effects:
    """Held by calls that change tensors, so that no update of several threads is lost; ``held`` counts how often."""

    def __init__(self) -> None:
        self._lock = lock()
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self.held = np.zeros(1, np.int64)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(self.held.fill, 0))

    def __enter__(self) -> None:
        self.acquire()
        self.held[0] += 1

    def __exit__(self, *exception: object) -> None:
        self.held[0] -= 1
        self.release()


effects = Effects()


@facts
class Effect:
    """What a call does to a tensor that was there before: a new value, or a new ``.grad``."""

    source: Source
    attribute: str  # "_value" or "_grad"
    result: int | None  # which result; None clears the gradient
    replacement: Source | None = None  # the gradient is a tensor that was there before


@facts
class Output:
    """One leaf of what the function returns, or leaves in a container."""

    kind: str  # "tensor", "number", "existing", "array", "container" or "static"
    result: int = -1
    source: Source | None = None
    static: Any = None
    spent: bool = False  # requires gradients, but its graph has been freed
    differentiable: int | None = None  # its number among the outputs that gradients can be asked for


@facts
class Store:
    """A change of an attribute, a variable or a container that a call makes."""

    change: Change
    structure: tree.Structure
    outputs: list[Output]


@facts
class Backward:
    """The compiled gradient of one path: from residuals and cotangents to the gradients of its leaves."""

    joint: Graph  # forward and backward in one, over the inputs and the cotangents: for higher derivatives
    forward_ops: int
    cotangents: list[Value]
    gradients: list[Value]
    leaves: list[Source]
    leaf_values: list[tuple[Source, Value]]  # the leaves' parameters in the joint graph
    homes: list[str]  # where the leaves are
    origins: list[frozenset[int]]  # the numbers of the outputs from which each leaf is reached
    together: list[frozenset[int]]  # the numbers of the outputs that were computed with something that each one was
    device: str | None = None
    fast: bool = False  # need not be the same to the bit
    graph: Graph | None = None  # the backward part, once it is split off
    residuals: list[int] = field(default_factory=list)  # positions among the forward program's results
    kept: list[TensorType] = field(default_factory=list)  # those that neither caller nor forward program has besides
    _executable: Executable | None = None
    _partial: dict[frozenset[int], tuple[Executable, list[bool]]] = field(default_factory=dict)  # for some outputs

    def split(self, results: list[Value]) -> tuple[list[Value], list[Op]]:
        """Part backward from forward, which gives ``results``.

        What it must give besides, for backward to read, and the ops of the gradient's part that it must do for that.
        """
        self.joint.results = [*results, *self.gradients]
        free = {*results, *self.joint.parameters}
        parts = split(self.joint, self.forward_ops, self.cotangents, self.gradients, free)
        self.graph = parts.backward
        known = set(results)
        more = [value for value in parts.saved if value not in known]
        position = {value: i for i, value in enumerate([*results, *more])}
        self.residuals = [position[value] for value in parts.saved]
        self.kept = [value.type for value in parts.saved if value not in free]
        return more, parts.early

    @once
    def optimized(self) -> Graph:
        from tracejit.ir.passes import optimize  # here and below, for programs that are stored need none of it

        assert self.graph is not None, "not split yet"
        return optimize(self.graph, fast=self.fast)

    def note(self) -> str:
        """What is kept from the forward program for this one, as a comment."""
        count = f"{len(self.kept)} value{'s' if len(self.kept) != 1 else ''}"
        return f"# {count} kept for backward: {kept_bytes(self.kept):,} bytes, beside its arguments and results"

    @once
    def program(self) -> Program:
        return self.planned(host=self.device is None)

    def planned(self, *, host: bool) -> Program:
        """The program for the CPU, or for devices."""
        from tracejit.backends.planning import plan

        return plan(self.optimized, host=host)

    @property
    def executable(self) -> Executable:
        if self._executable is None:
            assert self.graph is not None, "not split yet"
            self._executable = self._made(self.graph, lambda: self.program)
        return self._executable

    def _made(self, graph: Graph, program: Callable[[], Program]) -> Executable:
        return executable_of(graph, f"backward {self.fast}", self.device, program)

    def given(self, numbers: frozenset[int]) -> tuple[Executable, list[bool]]:
        """What runs where the outputs with these numbers have cotangents; and which of the gradients it gives."""
        if len(numbers) == len(self.cotangents):
            return self.executable, [True] * len(self.gradients)
        if numbers not in self._partial:
            assert self.graph is not None, "not split yet"
            whole = self.graph
            graph = self._without(whole, whole.parameters[-len(self.cotangents) :], whole.results, numbers)
            executable = self._made(graph, lambda: _planned(graph, self.fast, self.device is None))
            self._partial[numbers] = executable, self._left(numbers)
        return self._partial[numbers]

    def joint_given(self, numbers: Collection[int]) -> tuple[Graph, list[bool]]:
        """Forward and backward in one, of which the cotangents are parameters too, likewise."""
        joint = Graph(self.joint.name, [*self.joint.parameters, *self.cotangents], self.joint.ops)
        return self._without(joint, self.cotangents, self.gradients, numbers), self._left(numbers)

    def _left(self, numbers: Collection[int]) -> list[bool]:
        return [not origins.isdisjoint(numbers) for origins in self.origins]

    def _without(
        self, graph: Graph, cotangents: Sequence[Value], gradients: Sequence[Value], numbers: Collection[int]
    ) -> Graph:
        results = [gradient for gradient, is_left in zip(gradients, self._left(numbers), strict=True) if is_left]
        absent = [cotangent for number, cotangent in enumerate(cotangents) if number not in numbers]
        return without(Graph(graph.name, graph.parameters, graph.ops, results), cotangents, absent)


class CompiledCall(Call):
    """One call of a path whose outputs need gradients: what its backward reads."""

    __slots__ = ("_backward", "_inputs", "_residuals", "_spent")

    def __init__(self, backward: Backward, inputs: list[np.ndarray], residuals: list[np.ndarray]) -> None:
        self._backward, self._inputs, self._residuals = backward, inputs, residuals
        self._spent: frozenset[int] = frozenset()

    def spend(self, outputs: Iterable[int]) -> bool:
        self._spent = self._spent.union(*(self._backward.together[number] for number in outputs))
        return len(self._spent) == len(self._backward.cotangents)

    def is_spent(self, output: int) -> bool:
        return output in self._spent

    def backward(self, cotangents: Mapping[int, Any]) -> Sequence[Any]:
        executable, left = self._backward.given(frozenset(cotangents))
        gradients = executable([*self._residuals, *[cotangents[number] for number in sorted(cotangents)]])
        if in_use[0]:
            homes = [home for home, is_left in zip(self._backward.homes, left, strict=True) if is_left]
            gradients = _brought_home(gradients, homes)
        return _in_place(gradients, left)

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor | None]:
        """Run the joint graph on tensors: its forward part from the inputs with their history, then its backward."""
        backward = self._backward
        known: dict[Value, Tensor] = {}
        edges = dict(zip(backward.leaves, inputs, strict=True))
        for parameter, array in zip(backward.joint.parameters, self._inputs, strict=True):
            known[parameter] = new_tensor(array)
        for source, value in backward.leaf_values:
            known[value] = with_history(known[value]._value, edges[source])
        known.update((backward.cotangents[number], cotangent) for number, cotangent in cotangents.items())
        joint, left = backward.joint_given(cotangents)

        def read(value: Value) -> Tensor:
            return _constant(value.array) if isinstance(value, Constant) else known[value]

        for op in joint.ops:
            operands = [read(value) for value in op.operands]
            if op.regions:
                results = apply_region(op.primitive, operands, op.attributes, op.regions)
                known.update(zip(op.results, results, strict=True))
            else:
                known[op.result] = apply(op.primitive, operands, op.attributes)
        return _in_place([read(value) for value in joint.results], left)


def _constant(array: np.ndarray) -> Tensor:
    return new_tensor(dispatch.constant_payload(array))


def _planned(graph: Graph, fast: bool, host: bool) -> Program:
    from tracejit.backends.planning import plan
    from tracejit.ir.passes import optimize

    return plan(optimize(graph, fast=fast), host=host)


def _in_place(found: Sequence[Any], left: Sequence[bool]) -> list[Any]:
    """The gradients that there are, each at the place of its leaf."""
    rest = iter(found)
    return [next(rest) if is_left else None for is_left in left]


def _brought_home(arrays: Sequence[Any], homes: Sequence[str | None]) -> list[Any]:
    """Arrays where they are to be; those that have no place stay where they are."""
    return [
        array if home is None else moved(array, find(home)) for array, home in zip(arrays, homes, strict=True)
    ]  # fmt: skip


@facts
class Ending:
    """The end of a path: what it returns, and what it changes."""

    values: list[Value]  # what outputs and effects name by position
    outputs: list[Output]
    structure: tree.Structure
    effects: list[Effect]
    stores: list[Store]
    backward: Backward | None
    parameters: list[Value]  # of the whole path, as the joint graph's
    labels: list[str]
    places: list[str | None] | None = None  # where the values go, if the path is not the CPU's
    calls: int = 0  # made in Python
    signed: list[array[int]] = field(default_factory=list)  # counters of those made by native code

    def __post_init__(self) -> None:
        self.repeats = bool(self.stores) or len({id(output) for output in self.outputs}) < len(self.outputs)
        outputs = (*self.outputs, *(output for store in self.stores for output in store.outputs))
        self.has_containers = any(output.kind == "container" for output in outputs)

    def split_backward(self, segment: Segment) -> None:
        """Find what the gradient reads of the forward values, which this last segment of the path must give then."""
        if self.backward is not None and self.backward.graph is None:
            kept, early = self.backward.split(self.values)
            self.values += kept
            self.labels += ["saved"] * len(kept)
            if self.places is not None:
                self.places += [None] * len(kept)
            segment.graph.ops += early
            segment.early = len(early)

    @property
    def times(self) -> int:
        """How often calls have taken the path."""
        return self.calls + sum(counter[0] for counter in self.signed)

    @property
    def changes_something(self) -> bool:
        return bool(self.effects or self.stores)

    def finish(self, results: list[np.ndarray], inputs: list[np.ndarray], call: ArgumentsOfCall) -> Any:
        """Commit what the path changes: all, or nothing where something fails; give what it returns."""
        tensors = call.tensors
        self.calls += 1
        if self.places is not None:
            results = _brought_home(results[: len(self.places)], self.places)
        updates = [  # all are found before any is made: one may take away the gradient that another changes
            (effect.source.find(tensors), effect.attribute, self._update(effect, tensors, results))
            for effect in self.effects
        ]
        node = None if self.backward is None else self._call_node(self.backward, tensors, inputs, results)
        if self.has_containers:
            thread.arguments = call.args, call.kwargs
        stored: list[Any] = []
        if not self.repeats:
            returned = [self._returned(output, tensors, results, node) for output in self.outputs]
        else:  # one object in several places stays one
            made: dict[int, Any] = {}
            for output in (*self.outputs, *(output for store in self.stores for output in store.outputs)):
                if id(output) not in made:
                    made[id(output)] = self._returned(output, tensors, results, node)
            returned = [made[id(output)] for output in self.outputs]
            stored = [made[id(output)] for store in self.stores for output in store.outputs]
        for target, attribute, update in updates:
            if thread.region is not None and attribute == "_value":
                thread.region.note_change(target)
            setattr(target, attribute, update)
        thread.arguments = None
        if self.stores:
            self.commit(stored, call.args, call.kwargs)
        return _unflatten(self.structure, returned)

    def commit(self, leaves: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Make the changes of containers and attributes, which get these leaves."""
        rest = iter(leaves)
        values = [tree.unflatten(store.structure, rest) for store in self.stores]
        thread.arguments = args, kwargs or {}
        try:
            targets = [store.change.find() for store in self.stores]  # before one of them replaces another
            for store, target, value in zip(self.stores, targets, values, strict=True):
                store.change.commit(target, value)
        finally:
            thread.arguments = None

    @staticmethod
    def _update(effect: Effect, tensors: Sequence[Tensor], results: list[np.ndarray]) -> Any:
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
        call = CompiledCall(backward, arrays, [results[position] for position in backward.residuals])
        leaves = [source.find(tensors) for source in backward.leaves]
        return CallNode(call, tuple(None if leaf is None else node_of(leaf) for leaf in leaves))

    @staticmethod
    def _returned(output: Output, tensors: Sequence[Tensor], results: list[np.ndarray], node: CallNode | None) -> Any:
        if output.kind == "static":
            return output.static
        if output.kind == "container":  # one that was there before: itself
            return output.static()
        if output.kind == "array":
            return output.static.copy()
        if output.kind == "existing":
            assert output.source is not None
            return output.source.find(tensors)
        value = results[output.result]
        if output.kind == "number":
            return on_host(value).item()
        tensor = new_tensor(value)
        if output.spent:
            tensor._requires_grad = True
            tensor._node = Node(None, (), TensorType(value.dtype, value.shape), None)
        elif output.differentiable is not None:
            assert node is not None
            tensor._requires_grad = True
            tensor._node = CallOutput(node, output.differentiable, TensorType(value.dtype, value.shape))
        return tensor


def _unflatten(structure: tree.Structure, leaves: list[Any]) -> Any:
    return leaves[0] if structure is None else tree.unflatten(structure, iter(leaves))


# Segments ----------------------------------------------------------------------------------------------

Executable = Callable[[Sequence[Any]], list[Any]]


def executable_of(graph: Graph, options: str, device: str | None, program: Callable[[], Program]) -> Any:
    """A graph's program, ready to run on a device, by default the CPU; ``program()`` makes it, as ``options`` say."""
    start, planned = time.perf_counter(), []

    def make() -> Program:
        planned.append(program())
        return planned[0]

    if device is None:
        found: Any = stored.executable(graph, options, make)
    else:
        from tracejit.backends.cuda import executable

        place = find(device)
        assert place is not None
        found = executable.Executable(make(), place)
    done, duration = "compiled" if planned else "loaded", (time.perf_counter() - start) * 1e3
    logs.compile.info("%s: %d ops %s in %.1f ms", graph.name, len(graph.ops), done, duration)
    return found


@facts
class Code:
    """The compiled program of one segment."""

    traced: Graph
    inputs: list[Value]
    sources: list[Input | None]  # ``None``: a result of an earlier segment
    results: list[Value]
    anomaly: bool
    specialize: bool
    device: str | None = None
    fast: bool = False  # need not be the same to the bit
    compiles_late: bool = False  # runs op by op until it has been run often
    seconds: dict[str, float] = field(default_factory=dict)
    passes: dict[str, float] = field(default_factory=dict)  # the seconds that each took
    runs: int = 0  # op by op

    def __post_init__(self) -> None:
        if not self.compiles_late:
            _ = self.executable

    @once
    def graph(self) -> Graph:
        """What was traced, by itself: what earlier segments compute is not looked into."""
        is_first = all(value.op is None for value in self.traced.parameters)
        return self.traced if is_first else self.traced.copy()

    @once
    def optimized(self) -> Graph:
        from tracejit.ir.passes import optimize

        def observe(name: str, graph: Graph, seconds: float) -> None:
            self.passes[name] = self.passes.get(name, 0.0) + seconds

        with self._timed("optimize"):
            return optimize(self.graph, fast=self.fast, observe=observe)

    @once
    def program(self) -> Program:
        return self.planned(host=self.device is None)

    def planned(self, *, host: bool) -> Program:
        """The program for the CPU, or for devices."""
        from tracejit.backends.cpu.early import Early
        from tracejit.backends.planning import plan

        optimized = self.optimized
        with self._timed("lower"):
            return plan(optimized, specialize=self.specialize, host=host, observe=Early() if host else None)

    @once
    def executable(self) -> Any:
        options = f"path {self.specialize} {self.fast}"
        with self._timed("compile"):
            found = executable_of(self.traced, options, self.device, lambda: self.program)
        self.seconds["compile"] -= self.seconds.get("optimize", 0.0) + self.seconds.get("lower", 0.0)
        return found

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        if thread.anomaly or self.anomaly:
            return _checked_run(self.graph, arrays)
        if self.compiles_late:
            self.runs += 1
            if self.runs <= RUNS_BEFORE_COMPILING:
                with np.errstate(all="ignore"):
                    return interpret(self.graph, arrays, evaluate_anywhere)
            self.compiles_late = False
        return self.executable(arrays)


def compile_path(path: Sequence[Segment], *, specialize: bool, fast: bool = False) -> None:
    """Compile the segments of a path; those compiled before only where a later one needs more of them.

    ``specialize`` writes small extents into kernels; without it the kernels serve calls with other extents too.
    ``fast`` gives up that the results are the same to the bit.
    """
    home: dict[Value, Segment] = {}
    inputs: dict[Value, Input] = {}
    for segment in path:
        if segment.ending is not None:
            segment.ending.split_backward(segment)
        inputs.update(segment.inputs)
        used = {operand for op in segment.graph.ops for operand in op.operands}
        used.update(check.predicate for check in segment.checks)
        if segment.decision is not None:
            used.add(segment.decision.value)
        if segment.ending is not None:
            used.update(segment.ending.values)
            used.update(segment.ending.parameters)
        for value in used:
            owner = home.get(value)
            if owner is not None and value not in owner.needed:
                owner.needed[value] = None
        home.update((result, segment) for op in segment.graph.ops for result in op.results)
    for segment in path:
        results = segment.results()
        code = segment.code
        if code is None or set(code.results) != set(results) or code.device != segment.device:
            segment.code = _compile(segment, results, inputs, specialize, fast)


def _compile(
    segment: Segment, results: list[Value], inputs: Mapping[Value, Input], specialize: bool, fast: bool
) -> Code:
    own = {result for op in segment.graph.ops for result in op.results}
    used = dict.fromkeys(segment.graph.parameters)
    used.update((v, None) for op in segment.graph.ops for v in op.operands if not isinstance(v, Constant))
    parameters = [value for value in used if value not in own]
    names = _result_names(segment, results)
    texts = {v: text for v, text in segment.graph.sources.items() if v in used}
    graph = Graph(segment.name, parameters, segment.graph.ops, results, texts, names)
    sources = [inputs.get(value) for value in parameters]
    if segment.ending is not None and segment.ending.backward is not None:
        segment.ending.backward.fast = fast
    device, late = segment.device, segment.compiles_late
    return Code(graph, parameters, sources, results, segment.anomaly, specialize, device, fast, late)


def _result_names(segment: Segment, results: list[Value]) -> list[str]:
    labels = {} if segment.ending is None else dict(zip(segment.ending.values, segment.ending.labels, strict=False))
    labels.update((check.predicate, "check") for check in segment.checks)
    if segment.decision is not None:
        labels[segment.decision.value] = "decision"
    return [labels.get(value) or value.name or "saved" for value in results]


def run(roots: Sequence[Segment], call: ArgumentsOfCall) -> tuple[bool, Any]:
    """Walk down the tree; ``(False, None)`` where an outcome or a guard is new."""
    found = False
    try:
        found, result = _run(roots, call)
    finally:
        if thread.callbacks is not None:
            if found or sys.exc_info()[0] is not None:
                debug.run_callbacks()
            thread.callbacks = None  # of a run that is done again
    return found, result


def _run(roots: Sequence[Segment], call: ArgumentsOfCall) -> tuple[bool, Any]:
    root = choose(roots, call.tensors)
    if root is None:
        return False, None
    ending = root.ending
    if ending is not None:
        if not ending.changes_something:
            return _run_straight(root, ending, call)
        with effects:  # what is read, computed and written back belongs together
            return _run_straight(root, ending, call) if root.holds(call.tensors) else (False, None)
    with effects:
        return _run_tree(root, call) if root.holds(call.tensors) else (False, None)


def _run_straight(segment: Segment, ending: Ending, call: ArgumentsOfCall) -> tuple[bool, Any]:
    code = segment.code
    assert code is not None
    arrays = [source.array(call.tensors, call.floats) for source in code.sources]  # type: ignore[union-attr]
    results = code.run(arrays)
    for check in segment.checks:
        if not on_host(results[code.results.index(check.predicate)]):
            check.fail()
    return True, ending.finish(results, arrays, call)


def _run_tree(segment: Segment, call: ArgumentsOfCall) -> tuple[bool, Any]:
    known: dict[Value, np.ndarray] = {}

    def array_of(value: Value) -> np.ndarray:
        return value.array if isinstance(value, Constant) else known[value]

    while True:
        code = segment.code
        assert code is not None
        for value, source in zip(code.inputs, code.sources, strict=True):
            if value not in known:
                if source is None:
                    return False, None  # compiled anew by another thread in the meantime
                known[value] = source.array(call.tensors, call.floats)
        known.update(zip(code.results, code.run([known[value] for value in code.inputs]), strict=True))
        for check in segment.checks:
            if not on_host(array_of(check.predicate)):
                check.fail()
        if segment.ending is not None:
            ending = segment.ending
            results = [array_of(value) for value in ending.values]
            return True, ending.finish(results, [known[value] for value in ending.parameters if value in known], call)
        assert segment.decision is not None
        outcome = on_host(array_of(segment.decision.value))
        following = segment.follow(outcome, call.tensors)
        if following is None:
            thread.missed = segment, outcome
            return False, None
        segment = following


# Text --------------------------------------------------------------------------------------------------


def text_of(root: Segment, stage: str) -> str:
    """A stage of the compilation of all segments of a tree, for people."""
    parts = []
    for segment in root.shown():
        if segment.code is not None:
            comment = _COMMENTS.get(stage, "#")
            notes = [f"{comment} {note}\n" for note in (segment.describe(), segment.made_of()) if note]
            parts.append("".join([*notes, _text(segment, stage)]))
    return "\n\n".join(parts)


_COMMENTS = {"llvm": ";", "cuda": "//", "ptx": "//"}


def _text(segment: Segment, stage: str) -> str:
    code = segment.code
    assert code is not None
    program = code.program
    match stage:
        case "trace":
            return str(code.graph)
        case "grad":
            # Where backward() is called inside, the gradient is part of the trace.
            backward = None if segment.ending is None else segment.ending.backward
            return str(code.graph) if backward is None else f"{backward.note()}\n{code.graph}\n\n{backward.optimized}"
        case "optimized":
            return str(code.optimized)
        case "kernels":
            return str(program)
        case "llvm":
            return _with_lines(program, compiler.module_text(program.kernels), ";")
        case "asm":
            return _with_lines(program, compiler.assembly(compiler.module_text(program.kernels)), "#")
    from tracejit.backends.cuda import codegen, nvrtc
    from tracejit.backends.cuda.executable import entries

    source = codegen.module_source(entries(program))
    try:
        _, reports = nvrtc.compile_to_cubin(source) if program.kernels else (b"", [])
    except nvrtc.NotAvailable:
        if stage == "ptx":
            raise
        reports = []
    taken = {report.name: str(report) for report in reports}
    return _with_lines(program, source if stage == "cuda" else nvrtc.compile_to_ptx(source), "//", taken)


def _with_lines(program: Program, text: str, comment: str, notes: Mapping[str, str] | None = None) -> str:
    """Code with the user's lines that each kernel stands for written before it, and what else is known of it."""
    from tracejit.backends.program import KernelCall, walk

    lines: dict[str, dict[str, None]] = {}
    for call in walk(program.calls):
        if isinstance(call, KernelCall):
            found = lines.setdefault(call.kernel.name, {})
            found.update(dict.fromkeys(str(location) for location in call.locations))
    result, seen = [], set()
    for line in text.split("\n"):
        match = re.search(_DEFINITION, line)
        name = match[1] if match is not None else ""
        kernel = next((kernel for kernel in lines if name.endswith(kernel)), None)  # its forms have prefixes on GPUs
        if kernel is not None and name not in seen:
            seen.add(name)
            result.append(f"{comment} {', '.join(lines[kernel])}")
            if notes and name in notes:
                result.append(f"{comment} {notes[name]}")
        result.append(line)
    return "\n".join(result)


def _checked_run(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The traced graph, op by op, until one makes a NaN out of none: the same bits as the program's."""

    def evaluate(primitive: Any, operands: Sequence[np.ndarray], attributes: Any) -> Any:
        result = evaluate_anywhere(primitive, operands, attributes)
        if "regions" in attributes or result.dtype.kind != "f":  # the ops of regions are looked at one by one
            return result
        values, given = on_host(result), [on_host(operand) for operand in operands]
        if np.isnan(values).any() and not any(a.dtype.kind == "f" and np.isnan(a).any() for a in given):
            raise FloatingPointError(dispatch.nan_message(primitive, given, values))
        return result

    try:
        with np.errstate(all="ignore"):
            return interpret(graph, arrays, evaluate)
    except FloatingPointError as error:
        location = error.op.location  # type: ignore[attr-defined]
        if location is not None and location.gradient:
            error.args = (f"{error.args[0]}, in the gradient",)
        raise at_user_line(error, location) from None
