"""Splitting a joint graph into what runs forward and what runs backward, where the fewest bytes have to be kept.

What the backward graph reads of the forward graph's values are the *saved* ones.  A cheap value need not be saved: it
can be computed again from others.  Which ones to save is a minimum cut (:mod:`.minimum_cut`), as in functorch: each
value is an edge of its size in bytes, what an op reads leads to what it makes, the source feeds what cannot be computed
again, and what only the backward graph can go on with leads to the sink.

Computed again is what kernels fuse: elementwise ops, views, copies into place, lookups.  Products, reductions, sorts,
random numbers, loops and branches never are, but behind an ``optimization_barrier`` in the gradient's part: that is
how a checkpoint asks for it, and none of what depends on one is saved.  What is computed again has the bits that it
had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

from .facts import facts
from .graph import Constant, Graph, Op, Value
from .minimum_cut import SINK, SOURCE, UNLIMITED, Network
from .primitive import Elementwise, Placement, View
from .primitives.attention import attention_log_sum
from .primitives.generation import iota
from .primitives.indexing import gather
from .primitives.view import optimization_barrier
from .types import TensorType

TYPICAL_EXTENT = 64  # of a dimension that is known only when the program runs


@facts(frozen=True)
class Split:
    """The two graphs; the forward graph returns the ``saved`` values after its own results.

    The backward graph takes the saved values, then the cotangents.  ``early`` are ops of the gradient's part that the
    forward graph runs, because what they make is smaller than what they read.
    """

    forward: Graph
    backward: Graph
    saved: list[Value]
    early: list[Op]


def split(
    joint: Graph,
    forward_ops: int,
    cotangents: Sequence[Value],
    gradients: Sequence[Value],
    free: Collection[Value] = (),
) -> Split:
    """Split ``joint``, the first ``forward_ops`` ops of which compute its results.

    The others compute ``gradients`` from ``cotangents``, which are no parameters of ``joint``.  To save ``free`` values
    costs nothing: they are there anyway.

    >>> from .parser import parse
    >>> joint = parse('''
    ... func @f(%x: f32[4], %g: f32[4]) -> (f32[4], f32[4]) {
    ...   %y = exponential %x  : f32[4]
    ...   %z = sine %y         : f32[4]
    ...   %c = cosine %y       : f32[4]
    ...   %gy = multiply %g, %c : f32[4]
    ...   %gx = multiply %gy, %y : f32[4]
    ...   return %z, %gx
    ... }''')
    >>> (z, gx), cotangent = joint.results, joint.parameters.pop()
    >>> joint.results = [z]
    >>> halves = split(joint, 2, [cotangent], [gx])
    >>> halves.saved
    [<%y: f32[4]>]
    """
    partition = Partition(joint, forward_ops, cotangents, gradients, free)
    saved = partition.saved()
    early = partition.leading_to(saved)
    names = [*(joint.result_names or [""] * len(joint.results)), *("saved" for _ in saved)]
    ops = [*joint.ops[:forward_ops], *early]
    forward = Graph(joint.name, joint.parameters, ops, [*joint.results, *saved], joint.sources, names)
    backward = Graph(f"{joint.name}.backward", [*saved, *cotangents], partition.backward_ops(saved), gradients)
    return Split(forward, backward.copy(), saved, early)


def kept_bytes(types: Iterable[TensorType]) -> int:
    """How much memory values of some types take; unknown extents count as :data:`TYPICAL_EXTENT`."""
    return sum(
        math.prod(dim if type(dim) is int else TYPICAL_EXTENT for dim in item.shape) * item.dtype.itemsize
        for item in types
    )


def is_cheap(op: Op) -> bool:
    """Whether the op may be run twice."""
    if op.regions or len(op.results) != 1:
        return False
    return isinstance(op.primitive, Elementwise | View | Placement) or op.primitive in (gather, iota)


class Partition:
    """What a split goes by: ``late`` is what depends on a cotangent, or ``all_late`` that the gradient's part computes.

    ``again`` is what lies behind a barrier.  What makes the graph's parameters is not looked at.
    """

    def __init__(
        self,
        joint: Graph,
        forward_ops: int,
        cotangents: Sequence[Value],
        gradients: Sequence[Value],
        free: Collection[Value],
        all_late: bool = False,
        is_cheap: Callable[[Op], bool] = is_cheap,
    ) -> None:
        self.joint, self.gradients, self.free, self.is_cheap = joint, gradients, set(free), is_cheap
        self.rest = joint.ops[forward_ops:]
        self.late = set(cotangents)
        self.late_ops = []
        self.again: set[Value] = set()
        for op in self.rest:
            if all_late or not op.results or not self.late.isdisjoint(op.operands):
                self.late.update(op.results)
                self.late_ops.append(op)
            elif op.primitive is optimization_barrier or not self.again.isdisjoint(op.operands):
                self.again.update(op.results)
        self.own = {result for op in self.rest for result in op.results}
        self.given = set(joint.parameters)

    def read(self) -> dict[Value, None]:
        """The values that do not depend on a cotangent and are read by what does."""
        values = [operand for op in self.late_ops for operand in op.operands] + list(self.gradients)
        return dict.fromkeys(v for v in values if v not in self.late and not isinstance(v, Constant))

    def saved(self) -> list[Value]:
        """The values to save."""
        network = Network()
        nodes: dict[Value, int] = {}  # a value's first node: the next one is where its edge leads

        def node(value: Value) -> int:
            if value not in nodes:
                nodes[value] = network.node()
                network.connect(nodes[value], network.node(), self._cost(value))
                pending.append(value)
            return nodes[value]

        pending: list[Value] = []
        for value in self.read():
            network.connect(node(value) + 1, SINK)
        while pending:
            value = pending.pop()
            if value in self.given or value.op is None or not self._may_run_backward(value.op):
                network.connect(SOURCE, nodes[value])
                continue
            for operand in value.op.operands:
                if not isinstance(operand, Constant):
                    network.connect(node(operand) + 1, nodes[value])
        _, side = network.minimum_cut()
        return [value for value, number in nodes.items() if number not in side and number + 1 in side]

    def _cost(self, value: Value) -> int:
        if value in self.free:
            return 0
        if value in self.again or (value in self.own and not self._is_early(value.op) and not is_cheap(value.op)):  # type: ignore[arg-type]
            return UNLIMITED
        is_view = value.op is not None and isinstance(value.op.primitive, View)  # what it shows is there already
        return kept_bytes([value.type]) + is_view

    def _may_run_backward(self, op: Op) -> bool:
        return self.is_cheap(op) or (op.results[0] in self.own and not self._is_early(op))

    def _is_early(self, op: Op | None) -> bool:
        """Whether the forward graph computes the op along with its own: what is small, and takes long by itself."""
        return op is not None and op.primitive is attention_log_sum and op.results[0] not in self.again

    def leading_to(self, saved: Sequence[Value]) -> list[Op]:
        """The ops of the gradient's part that compute saved values."""
        wanted = {value for value in saved if value in self.own}
        found = []
        for op in reversed(self.rest):
            if not wanted.isdisjoint(op.results):
                found.append(op)
                wanted.update(operand for operand in op.operands if operand in self.own)
        return found[::-1]

    def backward_ops(self, saved: Sequence[Value]) -> list[Op]:
        """What computes the gradients from saved values: what is computed again, as late as it can be."""
        there = {*saved, *self.given}
        ops: dict[Op, None] = {}

        def run(wanted: Sequence[Value]) -> None:
            """Add the ops that compute the values, each after those that it needs."""
            pending = [value.op for value in wanted if value.op is not None and value not in there]
            while pending:
                op = pending[-1]
                missing = [v.op for v in op.operands if v.op is not None and v not in there and v.op not in ops]
                if missing and op not in ops:
                    pending += missing
                else:
                    ops[pending.pop()] = None

        for op in self.late_ops:
            run(op.operands)
            ops[op] = None
        run(self.gradients)
        return list(ops)


__all__ = ["Split", "is_cheap", "kept_bytes", "split"]
