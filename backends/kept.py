"""Values that a kernel keeps from one pass over a row to the next, in the row that it will write in the end.

A softmax goes through its row three times, for the maximum, for the sum of the exponentials, and to divide each of
them: in the second pass they are kept where the quotients will stand, so that the third need not compute them again.
Where there are more passes, each may leave something else there for those that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tracejit.ir.types import bool_

from .kernel import Literal

if TYPE_CHECKING:
    from .elements import Node, StoreRequest

WORTH_KEEPING = 8  # instructions: what takes more is not computed twice


def kept_nodes(
    passes: Sequence[Sequence[Node]], stores: Sequence[StoreRequest], is_inner: Callable[[Node], bool]
) -> tuple[StoreRequest, list[Node | None]] | None:
    """The store in whose place something is kept, and for each pass but the last what it leaves there: the costliest
    node of those that a later pass needs too, be it what a pass before has left.

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
    costs = {
        key: sum(other.kind not in ("load", "index") for other in _reached([node], is_inner).values())
        for key, node in everything.items()
        if node.kind not in ("load", "index")
        and node.dtype in [store.target.dtype for store in free if node.dtype != bool_]
        and sum(key in nodes for nodes in reached) > 1
    }
    costliest = max(costs, key=lambda key: costs[key], default=None)
    if costliest is None or costs[costliest] <= WORTH_KEEPING:
        return None
    store = next(store for store in free if store.target.dtype == everything[costliest].dtype)
    left: list[Node | None] = []
    for number, nodes in enumerate(reached[:-1]):
        last = left[-1] if left else None
        found = nodes if last is None else {id(last): last, **nodes}
        options = [
            key
            for key, node in found.items()
            if costs.get(key, 0) > WORTH_KEEPING
            and node.dtype == store.target.dtype
            and any(key in later for later in reached[number + 1 :])
        ]
        left.append(everything[max(options, key=lambda key: costs[key])] if options else last)
    return store, left


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
