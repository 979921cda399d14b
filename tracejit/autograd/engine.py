"""``backward`` and ``grad``: gradients of tensors, through the tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.ir.types import TensorType, format_shape

from .. import dispatch
from ..dispatch import fields
from ..locations import at_user_line
from ..state import thread
from ..tape import AccumulateGrad, Node, node_of, order_of, propagate, tensor_emitter, with_history
from ..tensor import Tensor, new_tensor
from .modes import set_grad_enabled


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
        emitter = tensor_emitter() if create_graph else dispatch.payload_emitter
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
    given = list(grad_tensors) if isinstance(grad_tensors, Sequence) else [grad_tensors]
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
    nodes = {id(node): node for node in order_of(starts)}
    found = _run(roots, given, retain_graph, create_graph, wanted)
    updates: list[tuple[Any, Any]] = []
    targets = (
        [(nodes[key].leaf, g) for key, g in found.items() if isinstance(nodes[key], AccumulateGrad)]  # type: ignore[attr-defined]
        if leaves is None or wanted is None
        else [(leaf, found[id(node)]) for leaf, node in zip(leaves, wanted, strict=True) if id(node) in found]
    )
    for leaf, gradient in targets:
        if thread.trace is not None and leaf._node is not None and fields(leaf)._node is None:
            from ..tracing import Untraceable

            raise Untraceable("it differentiates through a tensor whose history lies outside of the function")
        held = leaf.grad
        if held is None:
            updates.append((leaf, _own(gradient)))
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


def wanted_node(tensor: Any) -> Node:
    if not isinstance(tensor, Tensor):
        raise at_user_line(TypeError(f"gradients can be taken of Tensors, got {type(tensor).__name__}"))
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
    given = list(grad_outputs) if isinstance(grad_outputs, Sequence) else [grad_outputs]
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
        results.append(None if gradient is None else _own(gradient))
    return tuple(results)


def _own(gradient: Any) -> Tensor:
    """A gradient as a tensor of its own: what flows through a sum is one tensor for all that it flows to."""
    if isinstance(gradient, Tensor):
        return with_history(dispatch.payload(gradient), node_of(gradient))
    return new_tensor(gradient)
