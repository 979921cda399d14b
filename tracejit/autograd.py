"""Reverse-mode differentiation: the tape, ``backward`` and ``grad``, and the gradient modes.

Each operation on tensors that require gradients leaves a :class:`Node` behind, which holds what its
primitive's derivative rule needs.  Values are immutable, so what is saved stays right whatever is done to
the tensors in place.  Under ``jit`` the same tape is made of traced values, and ``backward`` records the
gradient into the graph.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tracejit.ir import Application, Emitter, Location, Primitive
from tracejit.ir.types import TensorType, float32, format_shape, is_differentiable

from . import dispatch
from .dispatch import Payload, fields
from .locations import at_user_line, user_location
from .state import thread
from .tensor import Tensor, new_tensor

Function = TypeVar("Function", bound=Callable[..., Any])

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
    "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
    "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
    "saved tensors after calling backward. (A loss or hidden state that is carried over iterations wants .detach().)"
)


class Node:
    """One recorded operation: its derivative rule's inputs, and the nodes of its operands."""

    __slots__ = ("application", "edges", "location", "type")

    def __init__(
        self,
        application: Application | None,
        edges: tuple[Node | None, ...],
        type: TensorType,
        location: Location | None,
    ) -> None:
        self.application = application  # None once freed
        self.edges = edges
        self.type = type
        self.location = location

    def __repr__(self) -> str:
        name = self.application.primitive.name if self.application else "freed"
        return f"<{''.join(part.capitalize() for part in name.split('_'))}Backward>"


class AccumulateGrad(Node):
    """Where a gradient ends: a leaf tensor."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: Tensor, type: TensorType) -> None:
        super().__init__(None, (), type, None)
        self.leaf = leaf


class Call:
    """A compiled function that was called on tensors which need gradients; see :mod:`.jit`."""

    def backward(self, cotangents: Mapping[int, Payload]) -> Sequence[Payload | None]:
        """The gradients of the inputs, one for each edge, from those of the outputs that have one."""
        raise NotImplementedError

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor | None]:
        """The same as tensors on the tape."""
        raise NotImplementedError


class CallNode(Node):
    """One call of a compiled function: its edges lead to its differentiable inputs."""

    __slots__ = ("call",)

    def __init__(self, call: Call, edges: tuple[Node | None, ...]) -> None:
        super().__init__(None, edges, TensorType(float32, ()), None)
        self.call: Call | None = call  # None once freed

    def __repr__(self) -> str:
        return "<JittedCallBackward>"


class CallOutput(Node):
    """One output of a call."""

    __slots__ = ("index",)

    def __init__(self, node: CallNode, index: int, type: TensorType) -> None:
        super().__init__(None, (node,), type, None)
        self.index = index

    def __repr__(self) -> str:
        return "<JittedCallBackward>"


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


def apply(primitive: Primitive, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Tensor:
    """A primitive on tensors, recorded on the tape where gradients are wanted."""
    trace = thread.trace
    if trace is None:
        payloads: list[Payload] = [tensor._value for tensor in operands]
        value: Payload = dispatch.compute(primitive, payloads, attributes)
    else:
        payloads = [trace.read(tensor) for tensor in operands]
        value = trace.record(primitive, payloads, attributes)
    result = new_tensor(value)
    if primitive.vjp is not None and thread.grad_enabled:
        record_on_tape(primitive, operands, payloads, attributes, result)
    return result


def record_on_tape(
    primitive: Primitive,
    operands: Sequence[Tensor],
    payloads: Sequence[Payload],
    attributes: Mapping[str, Any],
    result: Tensor,
) -> None:
    """Give ``result`` its node, if any operand that the primitive is differentiable in wants a gradient."""
    if thread.trace is None:
        for operand in operands:
            if operand._requires_grad:
                break
        else:
            return
    if not is_differentiable(result.dtype):
        return
    edges = tuple(
        [node_of(operand) if primitive.is_differentiable_in(i) else None for i, operand in enumerate(operands)]
    )
    if all(edge is None for edge in edges):
        return
    saves = primitive.saves
    application = Application(
        primitive,
        attributes,
        tuple([TensorType(p.dtype, p.shape) for p in payloads]),
        TensorType(result.dtype, result.shape),
        tuple([p if str(i) in saves else None for i, p in enumerate(payloads)]),
        result._value if "r" in saves else None,
    )
    location = None
    if thread.trace is not None or thread.anomaly:
        location, _ = user_location()
    result._node = Node(application, edges, application.result_type, location)
    result._requires_grad = True


# Backward -------------------------------------------------------------------------------------------


def _order(roots: Sequence[Node]) -> list[Node]:
    """All nodes that the roots reach, each after every node that feeds it (no recursion: graphs are deep)."""
    seen: set[int] = set()
    order: list[Node] = []
    for root in roots:
        stack: list[tuple[Node, int]] = [(root, 0)]
        if id(root) in seen:
            continue
        seen.add(id(root))
        while stack:
            node, position = stack.pop()
            while position < len(node.edges):
                edge = node.edges[position]
                position += 1
                if edge is not None and id(edge) not in seen:
                    seen.add(id(edge))
                    stack.append((node, position))
                    node, position = edge, 0
            order.append(node)
    order.reverse()
    return order


def _tensor_emitter() -> Emitter:
    return Emitter(apply, lambda array: new_tensor(dispatch.constant_payload(array)))


def with_history(value: Payload, node: Node | None) -> Tensor:
    """A saved value as a tensor that is connected to the tape again, for higher derivatives."""
    tensor = new_tensor(value)
    if node is not None:
        tensor._node, tensor._requires_grad = node, True
    return tensor


def _connected(node: Node) -> Application:
    """A node's application with its saved values as tensors on the tape."""
    saved = node.application
    assert saved is not None
    operands = tuple(
        None if value is None else with_history(value, edge)
        for value, edge in zip(saved.operands, node.edges, strict=True)
    )
    result = None if saved.result is None else with_history(saved.result, node)
    return Application(saved.primitive, saved.attributes, saved.operand_types, saved.result_type, operands, result)


def propagate(
    roots: Sequence[Node],
    cotangents: Sequence[Any],
    emitter: Emitter,
    *,
    create_graph: bool,
    retain_graph: bool,
    wanted: Sequence[Node] | None = None,
) -> dict[int, Any]:
    """The cotangents of all leaves and of the ``wanted`` nodes, by the node's identity."""
    order = _order(roots)
    targets = {id(node) for node in wanted or ()}
    if wanted is not None:
        needed = set(targets)
        for node in reversed(order):
            if any(edge is not None and id(edge) in needed for edge in node.edges):
                needed.add(id(node))
    else:
        needed = {id(node) for node in order}
    gathered: dict[int, Any] = {}
    results: dict[int, Any] = {}
    for root, cotangent in zip(roots, cotangents, strict=True):
        held = gathered.get(id(root))
        gathered[id(root)] = cotangent if held is None else emitter.add(held, cotangent)
    trace = thread.trace
    outer = trace.differentiated if trace is not None else None
    try:
        for node in order:
            cotangent = gathered.pop(id(node), None)
            if cotangent is None or id(node) not in needed:
                continue
            if id(node) in targets or isinstance(node, AccumulateGrad):
                results[id(node)] = cotangent
            if isinstance(node, AccumulateGrad):
                continue
            if isinstance(node, CallOutput):
                gathered.setdefault(id(node.edges[0]), {})[node.index] = cotangent
                continue
            if isinstance(node, CallNode):
                _through_call(node, cotangent, emitter, gathered, needed, create_graph)
                if not retain_graph:
                    node.call = None
                continue
            if node.application is None:
                raise RuntimeError(FREED)
            if not any(edge is not None and id(edge) in needed for edge in node.edges):
                continue
            if trace is not None:
                trace.differentiated = node.location
            application = _connected(node) if create_graph else node.application
            rule = application.primitive.vjp
            assert rule is not None
            for index, edge in enumerate(node.edges):
                if edge is None or id(edge) not in needed:
                    continue
                contribution = _checked(rule, emitter, index, cotangent, application, node)
                held = gathered.get(id(edge))
                gathered[id(edge)] = contribution if held is None else emitter.add(held, contribution)
            if not retain_graph:
                node.application = None
    finally:
        if trace is not None:
            trace.differentiated = outer
    return results


def _through_call(
    node: CallNode,
    cotangents: dict[int, Any],
    emitter: Emitter,
    gathered: dict[int, Any],
    needed: set[int],
    create_graph: bool,
) -> None:
    """Add the gradients of a compiled call's inputs to what is gathered."""
    if node.call is None:
        raise RuntimeError(FREED)
    if create_graph:
        contributions = node.call.differentiable_backward(cotangents, node.edges)
    else:
        contributions = node.call.backward(cotangents)
    for edge, contribution in zip(node.edges, contributions, strict=True):
        if edge is None or contribution is None or id(edge) not in needed:
            continue
        held = gathered.get(id(edge))
        gathered[id(edge)] = contribution if held is None else emitter.add(held, contribution)


def _checked(rule: Any, emitter: Emitter, index: int, cotangent: Any, application: Application, node: Node) -> Any:
    """A derivative; in anomaly mode a NaN that it makes names the forward operation's line."""
    try:
        return rule(emitter, index, cotangent, application)
    except FloatingPointError as error:
        if node.location is not None and not getattr(error, "_names_forward", False):
            message = str(error.args[0]).split("\n  at ")[0]
            error = FloatingPointError(f"{message}, in the gradient of {application.primitive.name}")
            error._names_forward = True  # type: ignore[attr-defined]
            raise at_user_line(error, node.location) from None
        raise


def _initial(tensor: Tensor, gradient: Any, position: int, create_graph: bool) -> tuple[Node, Any]:
    """A root's node and its cotangent."""
    node = node_of(tensor)
    if node is None:
        raise RuntimeError(f"element {position} of tensors does not require grad and does not have a grad_fn")
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        one = dispatch.payload_emitter.full(1, TensorType(tensor.dtype, tensor.shape))
        return node, with_history(one, None) if create_graph else one
    if not isinstance(gradient, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    if gradient.shape != tensor.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{position}] has a shape of {format_shape(gradient.shape)} and "
            f"output[{position}] has a shape of {format_shape(tensor.shape)}."
        )
    if gradient.dtype != tensor.dtype:
        raise RuntimeError(
            f"Mismatch in dtype: grad_output[{position}] has dtype {gradient.dtype} "
            f"and output[{position}] {tensor.dtype}."
        )
    return node, gradient if create_graph else dispatch.payload(gradient)


def _run(
    tensors: Sequence[Tensor],
    gradients: Sequence[Any],
    retain_graph: bool | None,
    create_graph: bool,
    wanted: Sequence[Node] | None = None,
) -> dict[int, Any]:
    retain = create_graph if retain_graph is None else retain_graph
    try:
        starts = [_initial(t, g, i, create_graph) for i, (t, g) in enumerate(zip(tensors, gradients, strict=True))]
        emitter = _tensor_emitter() if create_graph else dispatch.payload_emitter
        with set_grad_enabled(create_graph):
            return propagate(
                [node for node, _ in starts], [g for _, g in starts], emitter,
                create_graph=create_graph, retain_graph=retain, wanted=wanted,
            )  # fmt: skip
    except (RuntimeError, TypeError) as error:
        raise at_user_line(error) from None


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradient of ``tensors`` (summed) to the ``.grad`` of the leaves that they were computed from.

    Either all gradients are added or, where something fails, none.  Raises ``RuntimeError`` for a tensor that
    is no scalar and has no gradient given, for one that does not require gradients, and for a graph that
    was freed by an earlier call.
    """
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    given = [grad_tensors] if grad_tensors is None or isinstance(grad_tensors, Tensor) else list(grad_tensors)
    if len(given) == 1 and given[0] is None:
        given = [None] * len(roots)
    leaves: list[Tensor] | None = None
    wanted: list[Node] | None = None
    if inputs is not None:
        leaves = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        if not leaves:
            raise at_user_line(RuntimeError("'inputs' argument to backward() cannot be empty."))
        wanted = [wanted_node(leaf) for leaf in leaves]
    starts = [node for node in map(node_of, roots) if node is not None]
    nodes = {id(node): node for node in _order(starts)}
    found = _run(roots, given, retain_graph, create_graph, wanted)
    updates: list[tuple[Any, Any]] = []
    targets = (
        [(nodes[key].leaf, g) for key, g in found.items() if isinstance(nodes[key], AccumulateGrad)]  # type: ignore[attr-defined]
        if leaves is None or wanted is None
        else [(leaf, found[id(node)]) for leaf, node in zip(leaves, wanted, strict=True) if id(node) in found]
    )
    for leaf, gradient in targets:
        if thread.trace is not None and leaf._node is not None and fields(leaf)._node is None:
            from .tracing import Untraceable

            raise Untraceable("it differentiates through a tensor whose history lies outside of the function")
        held = leaf.grad
        if held is None:
            updates.append((leaf, gradient if create_graph else new_tensor(gradient)))
        elif create_graph:
            updates.append((leaf, held + gradient))
        else:
            total = dispatch.payload_emitter.add(dispatch.payload(held), gradient)
            updates.append((held, total))
    for target, update in updates:
        if isinstance(update, Tensor):
            fields(target)._grad = update
        else:
            fields(target)._value = update


def wanted_node(tensor: Tensor) -> Node:
    node = node_of(tensor)
    if node is None:
        raise at_user_line(RuntimeError("One of the differentiated Tensors does not require grad"))
    return node


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradient of ``outputs`` (summed) with respect to each of ``inputs``; ``.grad`` is not touched.

    >>> import tracejit as tj
    >>> x = tj.tensor(3.0, requires_grad=True)
    >>> tj.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    sources = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Tensor) else list(grad_outputs)
    if len(given) == 1 and given[0] is None:
        given = [None] * len(roots)
    wanted = [wanted_node(tensor) for tensor in sources]
    found = _run(roots, given, retain_graph, create_graph, wanted)
    results: list[Tensor | None] = []
    for tensor, node in zip(sources, wanted, strict=True):
        gradient = found.get(id(node))
        if gradient is None and materialize_grads:
            gradient = dispatch.payload_emitter.full(0, TensorType(tensor.dtype, tensor.shape))
        elif gradient is None and not allow_unused:
            message = (
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
            raise at_user_line(RuntimeError(message))
        results.append(gradient if gradient is None or isinstance(gradient, Tensor) else new_tensor(gradient))
    return tuple(results)


# Modes ----------------------------------------------------------------------------------------------


class _Mode(contextlib.ContextDecorator):
    """A context manager and decorator that sets one field of the thread's state."""

    def __init__(self, field: str, value: bool) -> None:
        self._field, self._value = field, value
        self._previous: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(getattr(thread, self._field))
        if self._field == "anomaly" and thread.trace is not None:
            thread.trace.anomaly = True
        setattr(thread, self._field, self._value)

    def __exit__(self, *exception: object) -> None:
        setattr(thread, self._field, self._previous.pop())

    def _recreate_cm(self) -> _Mode:
        return _Mode(self._field, self._value)

    def __call__(self, function: Function) -> Function:
        import inspect

        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            generator = function(*args, **kwargs)
            while True:
                with self._recreate_cm():
                    try:
                        item = next(generator)
                    except StopIteration as stop:
                        return stop.value
                yield item

        return generate  # type: ignore[return-value]


class no_grad(_Mode):
    """Within it, or in a function that it decorates, nothing is recorded for ``backward``.

    >>> import tracejit as tj
    >>> x = tj.tensor(2.0, requires_grad=True)
    >>> with tj.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__("grad_enabled", False)


class enable_grad(_Mode):
    """Within it operations are recorded again, inside of :class:`no_grad`."""

    def __init__(self) -> None:
        super().__init__("grad_enabled", True)


class set_grad_enabled(_Mode):
    """Recording on or off, by a flag."""

    def __init__(self, mode: bool) -> None:
        super().__init__("grad_enabled", mode)


class detect_anomaly(_Mode):
    """Within it an operation, forward or backward, that makes a NaN out of none raises ``FloatingPointError``.

    The error names the operation, the element, what it was computed from, and the user's line.  Jitted
    functions called within it do the same, op by op, with nothing committed.

    >>> import tracejit as tj
    >>> with tj.autograd.detect_anomaly():
    ...     tj.log(tj.tensor([1.0, -1.0]))  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    FloatingPointError: log of -1.0 is NaN (element [1] of f32[2])
    """

    def __init__(self) -> None:
        super().__init__("anomaly", True)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded."""
    return thread.grad_enabled


__all__ = [
    "backward", "detect_anomaly", "enable_grad", "grad", "is_grad_enabled", "no_grad", "set_grad_enabled",
]  # fmt: skip
