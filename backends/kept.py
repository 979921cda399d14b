"""Values that a kernel keeps from one pass over a row to the next, in the row that it will write in the end.

A softmax goes through its row three times, for the maximum, for the sum of the exponentials, and to divide each of
them: in the second pass they are kept where the quotients will stand, so that the third need not compute them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tracejit.ir.types import bool_

from .kernel import Literal

if TYPE_CHECKING:
    from .lower import Node, StoreRequest

WORTH_KEEPING = 8  # instructions: what takes more is not computed twice


def kept_node(
    passes: Sequence[Sequence[Node]], stores: Sequence[StoreRequest], is_inner: Callable[[Node], bool]
) -> tuple[Node, StoreRequest] | None:
    """The costliest node that several passes need, and the store in whose place it is kept until then.

    ``passes``: what each pass is for; the last one performs the ``stores``.
    """
    reached = [_reached(roots, is_inner) for roots in passes]
    everything = {id(node): node for nodes in reached for node in nodes.values()}
    loaded = {node.buffer for node in everything.values() if node.kind == "load"}
    free = [
        store
        for store in stores
        if not store.accumulate
        and not store.address.dynamic
        and store.target not in loaded
        and [other.target for other in stores].count(store.target) == 1
    ]
    best: tuple[int, Node, StoreRequest] | None = None
    for key, node in everything.items():
        if node.kind in ("load", "index") or node.dtype == bool_ or sum(key in nodes for nodes in reached) < 2:
            continue
        store = next((store for store in free if store.target.dtype == node.dtype), None)
        cost = sum(other.kind not in ("load", "index") for other in _reached([node], is_inner).values())
        if store is not None and cost > max(WORTH_KEEPING, best[0] if best else 0):
            best = cost, node, store
    return best[1:] if best else None


def _reached(roots: Sequence[Node], is_inner: Callable[[Node], bool]) -> dict[int, Node]:
    """The nodes inside the reduced axis that the roots need."""
    found: dict[int, Node] = {}
    stack = [root for root in roots if is_inner(root)]
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            operands = (*node.operands, *(position for position, _ in node.address.dynamic))
            stack += [operand for operand in operands if not isinstance(operand, Literal) and is_inner(operand)]
    return found
