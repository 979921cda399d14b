"""The tape: what each operation on tensors that need gradients leaves behind, and walking it backward.

Each operation leaves a :class:`Node`, which holds what its primitive's derivative rule needs.  Values are
immutable, so what is saved stays right whatever is done to the tensors in place.  Under ``jit`` the same tape is
made of traced values, and walking it records the gradient into the graph.
"""

from __future__ import annotations

import functools
import itertools
import operator
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracejit.ir import Application, Block, Emitter, Location, Primitive
from tracejit.ir.autodiff import Differential
from tracejit.ir.masks import Mask, either, pull
from tracejit.ir.primitives.control import Control
from tracejit.ir.types import TensorType, float32, is_differentiable

from . import dispatch
from .dispatch import Payload, fields
from .impurity import pause, resume
from .levels import Level, level_of, refuse_boxes
from .locations import at_user_line, user_location
from .state import busy, thread
from .tensor import Tensor, concrete_tensor, new_tensor

if TYPE_CHECKING:
    from .tracing import Trace

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
    "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
    "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
    "saved tensors after calling backward. (A loss or hidden state that is carried over iterations wants .detach().)"
)


class Node:
    """One recorded operation: its derivative rule's inputs, and the nodes of its operands."""

    __slots__ = ("application", "edges", "hooks", "location", "number", "retained_by", "type")

    def __init__(
        self,
        application: Application | None,
        edges: tuple[Node | None, ...],
        type: TensorType,
        location: Location | None,
    ) -> None:
        self.application = application  # None once freed
        self.edges = edges
        self.number = next(node_numbers)  # in the order in which nodes are made: edges lead to lower ones
        self.type = type
        self.location = location
        self.hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
        self.retained_by: weakref.ref[Tensor] | None = None  # the tensor that asked for its gradient to be kept

    @property
    def is_freed(self) -> bool:
        """Whether what was saved here has been let go of."""
        return self.application is None

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes that gradients flow on to, one for each operand, each with the number of its output."""
        return tuple((edge, edge.index if isinstance(edge, CallOutput) else 0) for edge in self.edges)

    def name(self) -> str:
        """What the operation is called, as in ``repr``."""
        primitive = self.application.primitive.name if self.application else "freed"
        return f"{''.join(part.capitalize() for part in primitive.split('_'))}Backward"

    def __repr__(self) -> str:
        return f"<{self.name()}>"


node_numbers = itertools.count()


class Variable(Node):
    """Where a gradient ends: what a function is differentiated in."""

    __slots__ = ()

    def __init__(self, type: TensorType) -> None:
        super().__init__(None, (), type, None)


class AccumulateGrad(Variable):
    """Where a gradient ends: a leaf tensor."""

    __slots__ = ("_leaf",)

    def __init__(self, leaf: Tensor, type: TensorType) -> None:
        super().__init__(type)
        self._leaf = weakref.ref(leaf)  # which holds this node: a cycle would keep both until the collector runs

    @property
    def leaf(self) -> Tensor | None:
        """The tensor that the gradient is added to; ``None`` once nobody can read it there."""
        return self._leaf()

    @property
    def is_freed(self) -> bool:
        return False

    def name(self) -> str:
        return "AccumulateGrad"


class BlockInput(Node):
    """Where a gradient would leave a block that is being recorded by itself (see :mod:`.regions`)."""

    __slots__ = ()

    def __init__(self, type: TensorType) -> None:
        super().__init__(None, (), type, None)

    @property
    def is_freed(self) -> bool:
        return False


class Call:
    """What was computed as a whole: by a compiled function, an op with regions, a ``Function`` of the user's."""

    __slots__ = ()
    name = "JittedCall"
    runs_python = False  # of the user's, to differentiate it

    def itself(self) -> Call:
        """The call, made again if it has been forgotten."""
        return self

    def backward(self, cotangents: Mapping[int, Payload]) -> Sequence[Payload | None]:
        """The gradients of the inputs, one for each edge, from those of the outputs that have one."""
        raise NotImplementedError

    def release(self) -> None:
        """Let go of what was saved."""

    def spend(self, outputs: Iterable[int]) -> bool:
        """The graph behind some outputs is freed; whether nothing is left of the call."""
        return True

    def is_spent(self, output: int) -> bool:
        """Whether the graph behind an output is freed, while there is one behind others."""
        return False

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor | None]:
        """The same as tensors on the tape."""
        raise NotImplementedError

    def backward_below(self, cotangents: Mapping[int, Tensor]) -> Sequence[Tensor | None]:
        """The same as tensors of the level below that of the call, which is over."""
        raise NotImplementedError


class Forgotten(Application):
    """What stands for an application whose operands and result are computed again when they are wanted."""

    def __init__(self, application: Application, recall: Callable[[], Application]) -> None:
        known = application
        super().__init__(known.primitive, known.attributes, known.operand_types, known.result_type, (), None)
        self.recall = recall


class CallNode(Node):
    """One call: its edges lead to its differentiable inputs."""

    __slots__ = ("_name", "call")

    def __init__(self, call: Call, edges: tuple[Node | None, ...], location: Location | None = None) -> None:
        super().__init__(None, edges, TensorType(float32, ()), location)
        self.call: Call | None = call  # None once freed
        if thread.region is not None:
            thread.region.add(self)
        self._name = call.name

    def name(self) -> str:
        return f"{self._name}Backward"


class CallOutput(Node):
    """One output of a call."""

    __slots__ = ("__weakref__", "call_node", "index")

    def __init__(self, node: CallNode, index: int, type: TensorType) -> None:
        super().__init__(None, (node,), type, None)
        self.call_node = node
        self.index = index

    @property
    def is_freed(self) -> bool:
        call = self.call_node.call
        return call is None or call.is_spent(self.index)

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        return self.call_node.next_functions

    def name(self) -> str:
        return self.call_node.name()


def runs_python(node: Node) -> bool:
    """Whether a gradient that comes through the node calls code of the user's."""
    return isinstance(node, CallNode) and node.call is not None and node.call.runs_python


def node_of(tensor: Tensor) -> Node | None:
    """The node that a gradient of this tensor flows to; ``None`` where none is wanted."""
    state = fields(tensor)
    if state._node is not None:
        return state._node
    if not state._requires_grad:
        return None
    if tensor._accumulator is None:
        tensor._accumulator = AccumulateGrad(tensor, TensorType(tensor.dtype, tensor.shape))
    return tensor._accumulator


def same_value(tensor: Tensor) -> Tensor:
    """A tensor of the same value and history: what an operation returns that has nothing to do.

    Never the very tensor: else it would depend on the shape whether changing the result changes the operand.
    """
    return with_history(dispatch.payload(tensor), node_of(tensor) if thread.grad_enabled else None)


def apply(primitive: Primitive, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    """A primitive on tensors, recorded on the tape where gradients are wanted."""
    if busy[0]:
        if thread.level is not None:
            level = level_of([tensor._value for tensor in operands])
            if level is not None:
                return _apply_at(level, primitive, operands, attributes)
        if thread.region is not None and thread.region.policy is not None:
            return thread.region.apply(primitive, operands, attributes)
    trace = thread.trace if busy[0] else None
    if trace is None:
        payloads: list[Payload] = [tensor._value for tensor in operands]
        result = concrete_tensor(dispatch.compute(primitive, payloads, attributes))
        wanted = False
        for operand in operands:
            wanted = wanted or operand._requires_grad
    else:
        is_paused = pause()
        try:
            return _record(trace, primitive, operands, attributes)
        finally:
            if is_paused:
                resume()
    if wanted and primitive.vjp is not None and thread.grad_enabled:
        record_on_tape(primitive, operands, payloads, attributes, result)
    return result


def _record(trace: Trace, primitive: Primitive, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    """A primitive on the tensors of a trace."""
    payloads = [trace.read(tensor) for tensor in operands]
    refuse_boxes(payloads)
    result = new_tensor(trace.record(primitive, payloads, attributes))
    if primitive.vjp is not None and thread.grad_enabled:
        record_on_tape(primitive, operands, payloads, attributes, result)
    return result


def _apply_at(level: Level, primitive: Primitive, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    """A primitive on tensors that hold boxes."""
    inside = _lifted(level, operands)
    payloads = [tensor._value for tensor in inside]
    result = new_tensor(level.apply(primitive, payloads, attributes))
    if primitive.vjp is not None and thread.grad_enabled:
        record_on_tape(primitive, inside, payloads, attributes, result)
    return result


def apply_known(
    primitive: Primitive, operands: Sequence[Tensor], attributes: Mapping[str, Any], value: Payload
) -> Tensor:
    """What :func:`apply` gives for operands without boxes where ``value``, what the result holds, is known already."""
    result = new_tensor(value)
    if primitive.vjp is not None and thread.grad_enabled:
        record_on_tape(primitive, operands, [dispatch.payload(x) for x in operands], attributes, result)
    return result


def _lifted(level: Level, operands: Sequence[Tensor]) -> list[Tensor]:
    """Tensors that hold boxes of a level; those of the levels below keep their history in boxes of their own."""
    return [tensor if level.has(tensor._value) else new_tensor(level.lifted(tensor)) for tensor in operands]


def record_on_tape(
    primitive: Primitive,
    operands: Sequence[Tensor],
    payloads: Sequence[Payload],
    attributes: Mapping[str, Any],
    result: Tensor,
) -> None:
    """Give ``result`` its node, if any operand that the primitive is differentiable in wants a gradient."""
    value = result._value
    if not is_differentiable(value.dtype):
        return
    edges, is_wanted = [], False
    for i, operand in enumerate(operands):
        edge = node_of(operand) if primitive.is_differentiable_in(i) else None
        is_wanted = is_wanted or edge is not None
        edges.append(edge)
    if not is_wanted:
        return
    saves = primitive.saves
    application = Application(
        primitive,
        attributes,
        tuple([TensorType(p.dtype, p.shape) for p in payloads]),
        TensorType(value.dtype, value.shape),
        tuple([p if str(i) in saves else None for i, p in enumerate(payloads)]) if saves else (None,) * len(edges),
        value if "r" in saves else None,
    )
    location = None
    if thread.trace is not None or thread.anomaly:
        location, _ = user_location()
    result._node = Node(application, tuple(edges), application.result_type, location)
    result._requires_grad = True
    if thread.region is not None:
        thread.region.add(result._node)


def apply_region(
    primitive: Primitive, operands: Sequence[Tensor], attributes: Mapping[str, Any], regions: Sequence[Block]
) -> list[Tensor]:
    """A primitive with regions on tensors, its results recorded on the tape where gradients are wanted.

    The regions are not changed, and may be used again.
    """
    if thread.level is not None:
        level = level_of([tensor._value for tensor in operands])
        if level is not None:
            from .transforms.batch import loop_of_the_batch

            results = loop_of_the_batch(level, primitive, operands, attributes, regions)  # type: ignore[arg-type]
            if results is not None:
                return results
            operands = _lifted(level, operands)
    payloads = [dispatch.payload(operand) for operand in operands]
    edges: tuple[Node | None, ...] = ()
    if thread.grad_enabled:
        edges = tuple([node_of(x) if primitive.is_differentiable_in(i) else None for i, x in enumerate(operands)])
    wanted = [edge is not None for edge in edges]
    if not any(wanted):
        return [new_tensor(value) for value in dispatch.control_on_payloads(primitive, payloads, attributes, regions)]
    assert isinstance(primitive, Control)
    types = [TensorType(value.dtype, tuple(value.shape)) for value in payloads]
    differential = primitive.differentiate(types, attributes, regions, wanted)
    started = [*payloads, *map(dispatch.constant_payload, differential.start)]
    values = dispatch.control_on_payloads(primitive, started, differential.attributes, differential.regions)
    own = len(values) - differential.residuals
    location = user_location()[0] if thread.trace is not None else None
    call = RegionCall(primitive, differential, payloads, values[own:])
    node = CallNode(call, edges, location)
    results = [new_tensor(value) for value in values[:own]]
    for number, (tensor, active) in enumerate(zip(results, differential.active, strict=True)):
        if active:
            tensor._node = CallOutput(node, number, TensorType(tensor.dtype, tensor.shape))
            tensor._requires_grad = True
    return results


class RegionCall(Call):
    """A primitive with regions that was applied to tensors which need gradients."""

    def __init__(
        self,
        primitive: Control,
        differential: Differential,
        operands: Sequence[Payload],
        residuals: Sequence[Payload],
    ) -> None:
        self.name = primitive.name.capitalize()
        self._primitive, self._differential = primitive, differential
        self._operands, self._residuals = operands, residuals

    def replace(self, function: Callable[[Payload], Payload]) -> None:
        """Hold something else in place of what is held."""
        self._operands, self._residuals = list(map(function, self._operands)), list(map(function, self._residuals))

    def totals(
        self,
        cotangents: Mapping[int, Any],
        so_far: Sequence[Any],
        inputs: Sequence[Node | None],
        create_graph: bool,
        below: bool,
    ) -> Sequence[Any]:
        """The gradients of the inputs, added to what there is of them so far."""
        differential = self._differential
        given = [cotangents.get(number) for number in range(len(differential.active))]
        if below:
            operands, residuals = ([box.tensor for box in boxes] for boxes in (self._operands, self._residuals))
            return differential.backward(tensor_emitter(), operands, residuals, given, so_far)
        if not create_graph:
            return differential.backward(dispatch.payload_emitter, self._operands, self._residuals, given, so_far)
        # The forward part is run again, on operands with their history, so that the residuals have one.
        operands = [with_history(value, node) for value, node in zip(self._operands, inputs, strict=True)]
        started = [*operands, *(new_tensor(dispatch.constant_payload(array)) for array in differential.start)]
        values = apply_region(self._primitive, started, differential.attributes, differential.regions)
        residuals = values[len(differential.active) :]
        return differential.backward(tensor_emitter(), operands, residuals, given, so_far)


# Backward -------------------------------------------------------------------------------------------


def order_of(roots: Sequence[Node]) -> list[Node]:
    """All nodes that the roots reach, from the last that was made to the first.

    So each comes after every node that feeds it, and gradients are added up in one order, in loops as well: that of the
    operations, backwards.
    """
    is_paused = pause()
    try:
        seen = set(roots)
        pending = list(seen)
        while pending:
            for edge in pending.pop().edges:
                if edge is not None and edge not in seen:
                    seen.add(edge)
                    pending.append(edge)
        return sorted(seen, key=_number, reverse=True)
    finally:
        if is_paused:
            resume()


_number = operator.attrgetter("number")


@functools.cache
def tensor_emitter() -> Emitter:
    return Emitter(apply, lambda array: new_tensor(dispatch.constant_payload(array)), apply_region)


def with_history(value: Payload, node: Node | None) -> Tensor:
    """A saved value as a tensor that is connected to the tape again, for higher derivatives."""
    tensor = new_tensor(value)
    if node is not None:
        tensor._node, tensor._requires_grad = node, True
    return tensor


def _held(node: Node) -> Application:
    """A node's application as it is, or was."""
    saved = node.application
    while isinstance(saved, Forgotten):
        saved = saved.recall()
    assert saved is not None
    return saved


def _in_boxes(node: Node) -> Application:
    """A node's application with the tensors in the boxes that it has saved."""
    saved = _held(node)
    operands = tuple([None if box is None else box.tensor for box in saved.operands])
    result = None if saved.result is None else saved.result.tensor
    return Application(saved.primitive, saved.attributes, saved.operand_types, saved.result_type, operands, result)


def _connected(node: Node) -> Application:
    """A node's application with its saved values as tensors on the tape."""
    saved = _held(node)
    operands = tuple(
        None if value is None else with_history(value, edge)
        for value, edge in zip(saved.operands, node.edges, strict=True)
    )
    result = None if saved.result is None else with_history(saved.result, node)
    return Application(saved.primitive, saved.attributes, saved.operand_types, saved.result_type, operands, result)


class Gathered:
    """The cotangents of nodes, by the nodes' identities, and where they are zero; what comes later is added."""

    def __init__(self, emitter: Emitter) -> None:
        self.cotangents: dict[int, Any] = {}
        self._emitter = emitter
        self._masks: dict[int, Mask] = {}

    def add(self, node: Node, cotangent: Any, mask: Mask | None = None) -> None:
        """Add to a node's cotangent."""
        key = id(node)
        held = self.cotangents.get(key)
        if held is not None:
            cotangent, mask = self._emitter.add(held, cotangent), either(self._masks.pop(key, None), mask)
        self.cotangents[key] = cotangent
        if mask is not None:
            self._masks[key] = mask

    def take(self, node: Node) -> tuple[Any, Mask | None]:
        """A node's cotangent, which is complete, and where it is zero."""
        key = id(node)
        return self.cotangents.pop(key, None), self._masks.pop(key, None)


def propagate(
    roots: Sequence[Node],
    cotangents: Sequence[Any],
    emitter: Emitter,
    *,
    create_graph: bool,
    retain_graph: bool,
    wanted: Sequence[Node] | None = None,
    below: bool = False,
    leaf_hooks: bool = True,
) -> dict[int, Any]:
    """The cotangents of all leaves and of the ``wanted`` nodes, by the node's identity.

    ``leaf_hooks=False`` leaves the hooks of leaves to a later pass, through which the cotangents arrive there.
    ``below``: the nodes hold boxes of a transformation that is over, and the cotangents are tensors of the level below.
    """
    saved = _in_boxes if below else _connected if create_graph else _held
    is_paused = pause()

    def watched(function: Callable[..., Any], *arguments: Any) -> Any:
        """What may call the user's code."""
        if not is_paused:
            return function(*arguments)
        resume()
        try:
            return function(*arguments)
        finally:
            pause()

    trace = thread.trace
    outer = trace.differentiated if trace is not None else None
    results: dict[int, Any] = {}
    try:
        order = order_of(roots)
        targets = {id(node) for node in wanted or ()}
        if wanted is not None:
            needed = set(targets)
            for node in reversed(order):
                if any(edge is not None and id(edge) in needed for edge in node.edges):
                    needed.add(id(node))
        else:
            needed = {id(node) for node in order}
        gathered = Gathered(emitter)
        for root, cotangent in zip(roots, cotangents, strict=True):
            gathered.add(root, cotangent)
        for node in order:
            cotangent, mask = gathered.take(node)
            if cotangent is None or id(node) not in needed:
                continue
            if isinstance(node, AccumulateGrad):
                if not leaf_hooks:
                    results[id(node)] = cotangent
                    continue
                if trace is not None and node.leaf is not None:
                    trace.refuse_hooks(node.leaf)
            if node.hooks or node.retained_by is not None:
                cotangent, mask = watched(_through_hooks, node, cotangent, create_graph), None
            if id(node) in targets or isinstance(node, Variable):
                results[id(node)] = cotangent
            if isinstance(node, Variable):
                continue
            if isinstance(node, BlockInput):
                if id(node) not in targets:
                    assert trace is not None
                    trace.refuse("a gradient flows out of a loop's body")
                continue
            if isinstance(node, CallOutput):
                gathered.cotangents.setdefault(id(node.call_node), {})[node.index] = cotangent
                continue
            if isinstance(node, CallNode):
                if trace is not None:
                    trace.differentiated = node.location
                watched(_through_call, node, cotangent, gathered, needed, create_graph, below)
                if not retain_graph and node.call is not None and node.call.spend(cotangent):
                    node.call.release()
                    node.call = None
                continue
            leads_on = any(edge is not None and id(edge) in needed for edge in node.edges)
            if not leads_on and (node.edges or id(node) in targets):
                continue
            if node.application is None:
                raise RuntimeError(FREED)
            if trace is not None:
                trace.differentiated = node.location
            application = saved(node)
            for index, edge in enumerate(node.edges):
                if edge is not None and id(edge) in needed:
                    gathered.add(edge, *_checked(emitter, index, cotangent, mask, application, node))
            if not retain_graph:
                node.application = None
    finally:
        if trace is not None:
            trace.differentiated = outer
        if is_paused:
            resume()
    return results


def _through_hooks(node: Node, cotangent: Any, create_graph: bool) -> Any:
    """The gradient as the hooks leave it, kept where its tensor asked for that."""
    if isinstance(cotangent, dict):  # of a compiled call: its outputs have the hooks
        return cotangent
    gradient = cotangent if isinstance(cotangent, Tensor) else new_tensor(cotangent)
    for hook in list((node.hooks or {}).values()):
        replacement = hook(gradient)
        if replacement is not None:
            if not isinstance(replacement, Tensor):
                raise TypeError(f"expected a hook to return a Tensor or None, got {type(replacement).__name__}")
            if (replacement.shape, replacement.dtype) != (gradient.shape, gradient.dtype):
                raise RuntimeError(
                    f"hook has changed the size or dtype of the gradient: {gradient.dtype}{list(gradient.shape)} "
                    f"became {replacement.dtype}{list(replacement.shape)}"
                )
            gradient = replacement
    tensor = None if node.retained_by is None else node.retained_by()
    if tensor is not None:
        held = tensor._grad
        fields(tensor)._grad = (
            gradient
            if held is None
            else new_tensor(dispatch.payload_emitter.add(dispatch.payload(held), dispatch.payload(gradient)))
        )
    return gradient if create_graph else dispatch.payload(gradient)


def _through_call(
    node: CallNode,
    cotangents: dict[int, Any],
    gathered: Gathered,
    needed: set[int],
    create_graph: bool,
    below: bool,
) -> None:
    """Add the gradients of a compiled call's inputs to what is gathered."""
    if node.call is None or any(map(node.call.is_spent, cotangents)):
        raise RuntimeError(FREED)
    call = node.call.itself()
    if isinstance(call, RegionCall):
        edges = [edge if edge is not None and id(edge) in needed else None for edge in node.edges]
        taken = [(None, None) if edge is None else gathered.take(edge) for edge in edges]
        so_far = [cotangent for cotangent, _ in taken]
        totals = call.totals(cotangents, so_far, node.edges, create_graph, below)
        for edge, total, (before, mask) in zip(edges, totals, taken, strict=True):
            if edge is not None and total is not None:
                gathered.add(edge, total, mask if total is before else None)
        return
    if below:
        contributions = call.backward_below(cotangents)
    elif create_graph:
        contributions = call.differentiable_backward(cotangents, node.edges)
    else:
        contributions = call.backward(cotangents)
    for edge, contribution in zip(node.edges, contributions, strict=True):
        if edge is not None and contribution is not None and id(edge) in needed:
            gathered.add(edge, contribution)


def _checked(
    emitter: Emitter, index: int, cotangent: Any, mask: Mask | None, application: Application, node: Node
) -> tuple[Any, Mask | None]:
    """A derivative; in anomaly mode a NaN that it makes names the forward operation's line."""
    try:
        return pull(emitter, index, cotangent, mask, application)
    except FloatingPointError as error:
        if node.location is not None and not getattr(error, "_names_forward", False):
            message = str(error.args[0]).split("\n  at ")[0]
            error = FloatingPointError(f"{message}, in the gradient of {application.primitive.name}")
            error._names_forward = True  # type: ignore[attr-defined]
            raise at_user_line(error, node.location) from None
        raise
