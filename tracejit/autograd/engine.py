"""``backward`` and ``grad``: gradients of tensors, through the tape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tracejit.backends.devices import in_use
from tracejit.ir.types import TensorType, format_shape

from .. import dispatch
from ..device import beside
from ..dispatch import fields
from ..locations import at_user_line, warn_at_user_line
from ..state import thread
from ..tape import AccumulateGrad, Node, node_of, order_of, propagate, tensor_emitter, with_history
from ..tensor import Tensor, new_tensor
from .modes import set_grad_enabled


def _initial(tensor: Tensor, gradient: Any, position: int, create_graph: bool) -> tuple[Node, Any]:
    """A root's node and its cotangent."""
    node = node_of(tensor)
    if node is None:
        if thread.trace is not None and thread.trace.region is not None:  # blocks have no tape
            thread.trace.refuse("backward() in a loop's body or a branch")
        raise RuntimeError(f"element {position} of tensors does not require grad and does not have a grad_fn")
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if tensor.dtype.kind == "c":
            raise RuntimeError(
                f"grad can be implicitly created only for real scalar outputs but got {tensor.dtype.name}"
            )
        one = dispatch.payload_emitter.full(1, TensorType(tensor.dtype, tensor.shape))
        return node, with_history(one, None) if create_graph else one
    if gradient.shape != tensor.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{position}] has a shape of {format_shape(gradient.shape)} and "
            f"output[{position}] has a shape of {format_shape(tensor.shape)}."
        )
    if gradient.dtype != tensor.dtype:
        if "c" in (gradient.dtype.kind, tensor.dtype.kind):
            raise RuntimeError(
                "For complex Tensors, both grad_output and output are required to have the same dtype. "
                f"Mismatch in dtype: grad_output[{position}] has a dtype of {gradient.dtype.name} and "
                f"output[{position}] has a dtype of {tensor.dtype.name}."
            )
        gradient = gradient.astype(tensor.dtype)
    return node, gradient if create_graph else dispatch.payload(gradient)


_CYCLE = (
    "Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient, "
    "which only the garbage collector breaks. We recommend using autograd.grad when creating the graph to avoid this, "
    "or to reset the .grad fields of your parameters to None after use."
)


def _tensors(what: str, given: Any) -> list[Tensor]:
    """One tensor or several as a list."""
    tensors = [given] if isinstance(given, Tensor) or not isinstance(given, Iterable) else list(given)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise at_user_line(TypeError(f"{what} must be Tensors, but got {type(tensor).__name__}"))
    return tensors


def _gradients(given: Any, roots: Sequence[Tensor]) -> list[Any]:
    """One gradient for each root; ``None`` stands for none given."""
    gradients = [None] * len(roots) if given is None else list(given) if isinstance(given, Sequence) else [given]
    for gradient in gradients:
        if gradient is not None and not isinstance(gradient, Tensor):
            name = type(gradient).__name__
            raise at_user_line(TypeError(f"gradients can be either Tensors or None, but got {name}"))
    if len(gradients) != len(roots):
        raise at_user_line(RuntimeError(f"got {len(roots)} tensors and {len(gradients)} gradients"))
    return gradients


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
        emitter = tensor_emitter() if create_graph else dispatch.payload_emitter
        # The levels below a transformation record what it does, whether it keeps a graph of its own or not.
        with set_grad_enabled(create_graph or (thread.level is not None and thread.grad_enabled)):
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
    roots = _tensors("tensors", tensors)
    given = _gradients(grad_tensors, roots)
    leaves: list[Tensor] | None = None
    wanted: list[Node] | None = None
    if inputs is not None:
        leaves = _tensors("inputs", inputs)
        if not leaves:
            raise at_user_line(RuntimeError("'inputs' argument to backward() cannot be empty."))
        wanted = [wanted_node(leaf) for leaf in leaves]
    if create_graph:
        warn_at_user_line(_CYCLE)
    starts = [node for node in map(node_of, roots) if node is not None]
    nodes = {id(node): node for node in order_of(starts)}
    found = _run(roots, given, retain_graph, create_graph, wanted)
    updates: list[tuple[Any, Any]] = []
    if leaves is None or wanted is None:
        reached = [(node.leaf, g) for key, g in found.items() if isinstance(node := nodes[key], AccumulateGrad)]
        targets = [(leaf, g) for leaf, g in reached if leaf is not None]
    else:
        targets = [(leaf, found[id(node)]) for leaf, node in zip(leaves, wanted, strict=True) if id(node) in found]
    if in_use[0]:
        targets = [(leaf, beside(leaf, gradient)) for leaf, gradient in targets]
    for leaf, gradient in targets:
        if thread.trace is not None:
            thread.trace.refuse_history(leaf)
        state = fields(leaf)
        held = state._grad if state is leaf else leaf.grad  # a trace guards what it reads
        if held is None:
            updates.append((leaf, _own(leaf, gradient)))
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
    for leaf, _ in targets:
        for hook in list((leaf._post_hooks or {}).values()):
            hook(leaf)


def wanted_node(tensor: Tensor) -> Node:
    """Where the gradient that is asked for arrives."""
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
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradient of ``outputs`` (summed) with respect to each of ``inputs``; ``.grad`` is not touched.

    An input that no output depends on is a ``RuntimeError``; its gradient is ``None`` with ``allow_unused``, zeros
    with ``materialize_grads``.  With ``is_grads_batched`` each of ``grad_outputs`` holds several gradients along its
    first axis, and so do the results.

    >>> import tracejit as tj
    >>> x = tj.tensor(3.0, requires_grad=True)
    >>> tj.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    if materialize_grads and allow_unused is False:
        message = (
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
        raise at_user_line(ValueError(message))
    roots, sources = _tensors("outputs", outputs), _tensors("inputs", inputs)
    if not sources:
        raise at_user_line(RuntimeError("'inputs' argument to grad() cannot be empty."))
    given = _gradients(grad_outputs, roots)
    wanted = [wanted_node(tensor) for tensor in sources]
    retain = create_graph if retain_graph is None else retain_graph
    batches = _batches(given) if is_grads_batched else [given]
    rows: list[list[Tensor | None]] = []
    for number, gradients in enumerate(batches):
        found = _run(roots, gradients, retain or number + 1 < len(batches), create_graph, wanted)
        gradients_of = zip(sources, wanted, strict=True)
        rows.append([_own(tensor, found[id(node)]) if id(node) in found else None for tensor, node in gradients_of])
    results = [_stacked(column) for column in zip(*rows, strict=True)] if is_grads_batched else rows[0]
    for position, tensor in enumerate(sources):
        if results[position] is None and materialize_grads:
            shape = (len(batches), *tensor.shape) if is_grads_batched else tensor.shape
            zeros = new_tensor(dispatch.payload_emitter.full(0, TensorType(tensor.dtype, shape)))
            results[position] = beside(tensor, zeros) if in_use[0] else zeros
        elif results[position] is None and not allow_unused:
            message = (
                "One of the differentiated Tensors appears to not have been used in the graph. "
                f"Set allow_unused=True if this is the desired behavior. (It is the one at index {position}.)"
            )
            raise at_user_line(RuntimeError(message))
    return tuple(results)


def _batches(gradients: Sequence[Any]) -> list[list[Any]]:
    """The gradients that lie along the first axes, one list of them for each place on that axis."""
    counts = {len(gradient) for gradient in gradients if isinstance(gradient, Tensor)}
    if len(counts) != 1 or 0 in counts:
        shapes = ", ".join(format_shape(g.shape) if isinstance(g, Tensor) else repr(g) for g in gradients)
        message = f"is_grads_batched=True expects grad_outputs with one number of gradients, got {shapes}"
        raise at_user_line(RuntimeError(message))
    return [[g if g is None else g[i] for g in gradients] for i in range(counts.pop())]


def _stacked(gradients: Sequence[Tensor | None]) -> Tensor | None:
    from ..ops.manipulation import stack

    present = [gradient for gradient in gradients if gradient is not None]
    return stack(present) if present else None


def _own(tensor: Tensor, gradient: Any) -> Tensor:
    """A gradient as a tensor of its own: what flows through a sum is one tensor for all that it flows to."""
    if in_use[0]:
        gradient = beside(tensor, gradient)
    if isinstance(gradient, Tensor):
        return with_history(dispatch.payload(gradient), node_of(gradient))
    return new_tensor(gradient)
