"""From a call to a compiled path: run the function under a trace, make its results and effects a graph, compile it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.cpu import compiler
from tracejit.backends.devices import is_array
from tracejit.ir import Graph, Symbol, Value
from tracejit.ir.extents import Extent
from tracejit.ir.types import TensorType

from . import dispatch, logs, tree
from .compiled import Backward, Effect, Ending, Output, Store, compile_path
from .contents import TooLarge, contents, is_module, is_plain_instance, users_classes
from .disguise import Array
from .for_loops import ForLoops
from .guards import EmptyVariable, Guard, NoSuchGlobals, SameClasses, SameContents, SameFunctions, SameValue
from .impurity import Watch
from .loops import Loops
from .names import functions_read_by, mentioned, names_not_found, names_read_by, only_appended_to, only_stored
from .paths import Segment, choose
from .places import Attributes, Given, Item, Itself, Place
from .promotion import weak_number
from .sources import Source
from .state import thread
from .tape import FREED, AccumulateGrad, Node, node_of, order_of, propagate, runs_python
from .templates import Axis, Dimensions, path_along
from .tensor import Tensor
from .tracing import AliasedArgument, Diverged, Shadow, Trace, Untraceable
from .world import Change, Untracked, World

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range, np.dtype, np.generic)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No search for garbage, which would look at all that is recorded again and again while that grows, and no work
    in the background."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with compiler.undisturbed():
            yield
    finally:
        if was_enabled:
            gc.enable()


@_undisturbed()
def compile_call(
    function: Callable[..., Any],
    name: str,
    call: ArgumentsOfCall,
    roots: list[Segment],
    dimensions: Dimensions,
    *,
    specialize: bool,
    fast: bool = False,
) -> None:
    """Trace ``function`` with the call's arguments, compile what it does and put it into the tree of its paths.

    Where other calls had other extents, it is traced for any, and the path made of what was traced.  ``Untraceable``
    where it cannot be traced; then, as where ``function`` raises, nothing has changed.
    """
    known = choose(roots, call.tensors)
    trace, failed = None, False
    if known is None and (groups := dimensions.varying()):
        try:
            trace = _record(function, name, call, _new_template(name, call, groups), themselves=False)
        except (Exception, Untraceable, AliasedArgument):
            failed = True  # traced as it stands, it may go well, or shows what is wrong
        else:
            dimensions.note_fixed(trace.path)
    if trace is None:
        start = Segment(name) if known is None else known.origin
        start.sizes.bindings.update({} if known is None else known.bindings)
        try:
            trace = _record(function, name, call, start, themselves=start.themselves)
        except AliasedArgument:
            known = None
            trace = _record(function, name, call, Segment(name, themselves=True), themselves=True)
        dimensions.are_fixed |= failed
    path = path_along(trace.path, trace.outcomes, known)
    compile_path(path, specialize=specialize, fast=fast)
    for segment, outcome in zip(trace.path, trace.outcomes, strict=True):  # compiled: other threads see them now
        segment.graft(outcome)
    for segment in path:
        segment.graft(segment.outcome)
    if path[0] not in roots:
        roots.insert(0, path[0])
    if path[0].template is not None and known is None:
        dimensions.add_template(call, path[0].template)


def _new_template(name: str, call: ArgumentsOfCall, groups: Sequence[Sequence[Axis]]) -> Segment:
    root = Segment(name)
    axes: dict[Axis, Symbol] = {}
    for group in groups:
        position, axis = group[0]
        symbol = root.sizes.new(call.tensors[position]._value.shape[axis])
        axes |= dict.fromkeys(group, symbol)
    root.axes = axes
    return root


def _record(
    function: Callable[..., Any], name: str, call: ArgumentsOfCall, root: Segment, *, themselves: bool
) -> Trace:
    start = time.perf_counter()
    trace = Trace(name, call.tensors, call.floats, root.axes)
    functions = functions_read_by(function, call.named_by_identity)
    read = names_read_by(function, functions)
    trace.enter(root)
    try:
        with _active(trace):
            args, kwargs = call.trace_arguments(trace, function, themselves=themselves)
            roots_of_world = [*read, *_arguments_for_world(call, args, kwargs)]
            trace.loops = Loops()
            try:
                trace.world = world = World(roots_of_world, functions)
            except Untracked as reason:
                raise Untraceable(str(reason)) from None
            try:
                _name_captured(trace, read)
                contained = list(_guard_names(trace, read, functions, call))
                trace.for_loops = ForLoops(trace, sys._getframe())
                try:
                    with Watch(function):
                        result = function(*args, **kwargs)
                finally:
                    trace.for_loops.stop()
                    trace.for_loops = None
                if trace.failed is not None:  # swallowed by a bare except
                    raise trace.failed
                if not trace.loops.are_left:
                    raise Untraceable("a loop is left in a way that cannot be captured")
                try:
                    changes = world.changes()
                except Untracked as reason:
                    raise Untraceable(str(reason)) from None
            finally:
                world.restore()
                thread.arguments = None
            del args, kwargs, roots_of_world
            added_to = [
                change.container for change in changes
                if change.kind == "append" and only_appended_to(functions, change.label)
            ]  # fmt: skip
            for guard in contained:
                guard.leave_out(added_to)
            try:
                _finish(trace, result, changes)
            finally:
                world.restore()  # what a checkpoint runs again for the gradient may change things too
            trace.let_go()
            del result, changes, world
        if trace.leaked([shadow._grad for shadow in trace.shadows.values() if shadow._grad is not None]):
            raise Untraceable("it keeps a tensor that it computes in a place that cannot be seen from the function")
    except Diverged:
        raise Untraceable("it did something else than before, though nothing that it can reach had changed") from None
    for segment in trace.path:
        segment.device = trace.device
    last = trace.path[-1]
    last.seconds = time.perf_counter() - start
    count = sum(len(segment.graph.ops) for segment in trace.path)
    logs.trace.info("%s: %d ops traced in %.1f ms", name, count, last.seconds * 1e3)
    return trace


def _guard_names(
    trace: Trace, read: Sequence[tuple[str, Place, Any]], functions: Sequence[FunctionType], call: ArgumentsOfCall
) -> Iterator[SameContents]:
    def rely(key: Any, guard: Guard) -> None:
        guard.readers = functions
        trace.guard(key, guard)

    rely("functions", SameFunctions(functions))
    spaces, cells = names_not_found(functions)
    for space, missing in spaces:
        rely(("no globals", id(space)), NoSuchGlobals(space, missing))
    for name, cell in cells:
        rely(("empty", id(cell)), EmptyVariable(name, cell))
    names = frozenset().union(*(mentioned(known.__code__) for known in functions))
    for what, find, value in read:
        if hasattr(type(value), "__next__"):
            raise Untraceable(f"it reads the iterator {what}")
        if isinstance(value, Tensor):
            continue  # which tensor it is, is looked at where it is read
        rely(("name", find.identity), SameValue(what, find, value))
        if not (isinstance(value, list) and only_appended_to(functions, what)):
            yield from _guard_contents(rely, what, find, value, names)
    for item in call.named_by_identity:
        yield from _guard_contents(rely, "an argument", Itself(item), item, names)
    assert trace.world is not None
    if "param_groups" in names:  # a step reads them afresh, but the function's own code sees what they are now
        for label, group in trace.world.groups:
            for key, value in group.items():
                if not only_stored(functions, key):
                    place = Item(Itself(group), key)
                    rely(("name", place.identity), SameValue(f"{label}[{key!r}]", place, value))
    if trace.arguments_are_themselves:
        for tensor in call.tensors:
            for reached in trace.world.places.get(id(tensor), ()):
                guard = SameValue(reached.label, reached.look_up, tensor)
                rely(("name", reached.look_up.identity), guard)
    if trace.world.classes:
        rely("classes", SameClasses(trace.world.classes))
    for kind, attributes in trace.world.classes:
        for name, value in attributes.items():
            yield from _guard_contents(rely, f"{kind.__name__}.{name}", Itself(value), value, names)
    for module in trace.world.modules:
        if users_classes(type(module)):
            for name, value in vars(module).items():
                if not name.startswith("_") and not is_module(value):
                    yield from _guard_contents(rely, f"{type(module).__name__}.{name}", Itself(value), value, names)
    for known in functions:
        if vars(known) or known.__name__ in mentioned(known.__code__):
            yield from _guard_contents(rely, known.__name__, Attributes(Itself(known)), vars(known), names)


def _guard_contents(
    rely: Callable[[Any, Guard], None], what: str, find: Place, item: Any, names: frozenset[str]
) -> Iterator[SameContents]:
    """Guard what a captured container or plain object holds, where that is more than its identity.

    Of one that holds much only what the code has ``names`` for counts.
    """
    try:
        held, known = contents(item), None
    except TooLarge:
        try:
            held, known = contents(item, names=names), names
        except TooLarge:
            raise Untraceable(f"it can reach more in {what} than can be looked at before each call") from None
    if held is not None:
        guard = SameContents(what, find, held, known)
        rely(("contents", find.identity), guard)
        yield guard


def _arguments_for_world(
    call: ArgumentsOfCall, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, Place, Any]]:
    """The arguments' containers as roots: what is done to them is done to the caller's."""
    for item in call.named_by_identity:
        yield type(item).__name__, Itself(item), item
    for position, item in enumerate(args):
        if _may_be_changed(item):
            yield f"argument {position}", Given(0, position), item
    for name, item in kwargs.items():
        if _may_be_changed(item):
            yield name, Given(1, name), item


def _may_be_changed(argument: Any) -> bool:
    return isinstance(argument, list | dict) or is_plain_instance(argument) or is_module(argument)


@contextmanager
def _active(trace: Trace) -> Iterator[None]:
    """Makes a trace the active one of this thread, whose modes are then as they were."""
    thread.trace, modes = trace, (thread.grad_enabled, thread.anomaly)
    trace.sizes.tell, trace.sizes.number = trace.find_out, weak_number
    try:
        yield
        if (thread.grad_enabled, thread.anomaly) != modes:
            raise Untraceable("it leaves the recording of gradients, or the search for NaN, switched over")
    finally:
        thread.trace = trace.sizes.tell = trace.sizes.number = None
        thread.grad_enabled, thread.anomaly = modes


def _finish(trace: Trace, result: Any, changes: Sequence[Change]) -> None:
    """The end of the path: what the trace returns and changes, and its gradient, where wanted."""
    known = trace.segment if trace.segment.is_complete else None
    if known is not None and known.ending is None:
        raise Diverged
    values: dict[Value, int] = {}
    labels: list[str] = []

    def add(value: Value, label: str) -> int:
        if value not in values:
            values[value] = len(values)
            labels.append(label)
        return values[value]

    leaves: list[Any] = []
    made: dict[int, Output] = {}  # one for a leaf, however often it occurs

    def output_of(leaf: Any, label: str) -> Output:
        if id(leaf) not in made:
            made[id(leaf)] = _output(trace, leaf, add, label)
        return made[id(leaf)]

    whole = {} if trace.world is None else trace.world.containers
    structure = tree.flatten(result, leaves, whole)
    outputs = [output_of(leaf, f"output{i}" if len(leaves) > 1 else "output") for i, leaf in enumerate(leaves)]
    stores = []
    for change in changes:
        stored: list[Any] = []
        shape = tree.flatten(change.value, stored, whole)
        kept = [output_of(leaf, change.label) for leaf in stored]
        change.value = None
        stores.append(Store(change, shape, kept))
        leaves += stored
        outputs += kept
    effects: list[Effect] = []
    for shadow in list(trace.shadows.values()):
        effects += _effects_of(trace, shadow, shadow.first, add)
    differentiable = [
        (leaf, output) for leaf, output in {id(o): (leaf, o) for leaf, o in zip(leaves, outputs, strict=True)}.values()
        if isinstance(leaf, Tensor) and output.kind == "tensor" and leaf._node is not None and not output.spent
    ]  # fmt: skip
    returned = outputs[: len(outputs) - sum(len(store.outputs) for store in stores)]
    if known is not None:
        trace.close()
        return
    parameters = [value for segment in trace.path for value in segment.graph.parameters]
    backward = None
    if differentiable:
        backward = _trace_backward(trace, differentiable)
        parameters = [value for segment in trace.path for value in segment.graph.parameters]
    trace.close()
    ending = Ending(list(values), returned, structure, effects, stores, backward, parameters, labels)
    if trace.device is not None:
        ending.places = [trace.places.get(value) for value in values]
    trace.segment.ending = ending


def _trace_backward(trace: Trace, differentiable: list[tuple[Tensor, Output]]) -> Backward | None:
    """The gradient of the outputs, recorded after the forward ops."""
    ops = [op for segment in trace.path for op in segment.graph.ops]
    forward_ops = len(ops)
    graph = Graph(trace.name, [], ops)
    trace.builder.graph = graph
    cotangents = [
        Value(TensorType(leaf.dtype, leaf.shape), f"cotangent{i}") for i, (leaf, _) in enumerate(differentiable)
    ]
    nodes = [node_of(leaf) for leaf, _ in differentiable]
    roots = [node for node in nodes if node is not None]
    try:
        with _watched_backward(trace, roots):
            found = propagate(
                roots, cotangents, dispatch.payload_emitter, create_graph=False, retain_graph=True, leaf_hooks=False
            )
    except RuntimeError as error:
        if error.args[0] != FREED:
            raise
        trace.builder.graph = trace.graph
        for _, output in differentiable:
            output.spent = True
        return None
    leaves: list[Source] = []
    values: list[tuple[Source, Value]] = []
    gradients: list[Value] = []
    accumulators: list[int] = []
    for shadow in list(trace.shadows.values()):
        accumulator = shadow.tensor._accumulator
        if accumulator is not None and id(accumulator) in found:
            leaves.append(shadow.source)
            values.append((shadow.source, trace.read(shadow.tensor)))
            gradients.append(found[id(accumulator)])
            accumulators.append(id(accumulator))
    for number, (_, output) in enumerate(differentiable):
        output.differentiable = number
    trace.builder.graph = trace.graph
    trace.graph.parameters += graph.parameters  # leaves that only the gradient reads
    graph.parameters = [value for segment in trace.path for value in segment.graph.parameters]
    joint = Graph(graph.name, graph.parameters, graph.ops)
    homes = [trace.places.get(value, "cpu") for _, value in values]
    reached = [set(map(id, order_of([root]))) for root in roots]
    origins = [frozenset(n for n, known in enumerate(reached) if node in known) for node in accumulators]
    inner = [{id(node) for node in order_of([root]) if not isinstance(node, AccumulateGrad)} for root in roots]
    together = [frozenset(n for n, other in enumerate(inner) if not own.isdisjoint(other)) for own in inner]
    return Backward(joint, forward_ops, cotangents, gradients, leaves, values, homes, origins, together, trace.device)


@contextmanager
def _watched_backward(trace: Trace, roots: Sequence[Node]) -> Iterator[None]:
    """Code of the user's in the gradient (hooks, the backward of a ``Function``) does nothing that must be repeated."""
    if trace.world is None or not any(node.hooks or runs_python(node) for node in order_of(roots)):
        yield
        return
    world = World(trace.world.roots, trace.world.functions)
    try:
        with Watch(_watched_backward):
            yield
        changes = [change.label for change in world.changes()]
    except Untracked as reason:
        raise Untraceable(f"in a function's backward or a hook, {reason}") from None
    finally:
        world.restore()
    if changes:
        raise Untraceable(f"a function's backward, or a hook, changes {changes[0]}")


def _output(trace: Trace, leaf: Any, add: Callable[[Value, str], int], label: str) -> Output:
    if isinstance(leaf, np.ndarray):
        return Output("array", static=leaf.copy())
    if type(leaf) is Extent:
        return Output("static", static=leaf)
    if not isinstance(leaf, Tensor):
        world = trace.world
        if world is not None and id(leaf) in world.containers:
            return Output("container", static=world.containers[id(leaf)])
        is_function = callable(leaf) and not is_module(leaf)
        if not isinstance(leaf, _PLAIN) and not is_function and not (world is not None and world.knows(leaf)):
            raise Untraceable(f"it makes a {type(leaf).__name__}, a new one at each call")
        return Output("static", static=leaf)
    if type(leaf) is Array:
        raise Untraceable("it returns or keeps an argument that is a NumPy array")
    if is_array(leaf._value):  # a tensor from outside, returned itself
        return Output("existing", source=trace.shadow(leaf).source)
    if leaf._weak:
        return Output("number", add(leaf._value, label))
    if type(leaf) is not Tensor or (leaf._requires_grad and leaf._node is None):
        raise Untraceable("it makes a leaf that requires gradients, or a parameter, a new one at each call")
    spent = leaf._node is not None and leaf._node.is_freed
    return Output("tensor", add(leaf._value, leaf._value.name or label), spent=spent)


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
        elif is_array(gradient._value):
            effects.append(Effect(shadow.source, "_grad", None, trace.shadow(gradient).source))
        else:
            if gradient._node is not None:
                raise Untraceable("a gradient that it leaves behind has a history of its own (create_graph)")
            effects.append(Effect(shadow.source, "_grad", add(gradient._value, f"{name or 'state'}.grad")))
    return effects


def _name_captured(trace: Trace, read: Sequence[tuple[str, Place, Any]]) -> None:
    """Name the tensors that the function can reach as the user's code would."""
    assert trace.world is not None
    for name, _, item in read:
        if isinstance(item, Tensor):
            trace.names.setdefault(id(item), name)
        elif hasattr(type(item), "named_tensors"):
            for path, tensor in item.named_tensors():
                trace.names.setdefault(id(tensor), f"{name}.{path}")
    for places in trace.world.places.values():
        trace.names.setdefault(id(places[0].tensor), places[0].label)
