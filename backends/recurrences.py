"""Loops that one kernel runs: the steps are in the innermost loop, and what they carry stays in registers.

That is for steps of elementwise ops on carries of one shape, whose elements do not depend on one another, however many
there are.  Where a carry is a few elements, one vector, they may: a small matrix product reads its lanes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracejit.ir import Constant, Op, Value
from tracejit.ir.primitive import Elementwise, Generation, View
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.primitives.control import Control, scan
from tracejit.ir.primitives.indexing import gather
from tracejit.ir.types import KERNEL_DTYPES, int64

from . import kernel as k
from .elements import CarryRequest, Elements, Node
from .fusion import Affine, Index, home_index, squeezed
from .lower import SMALL_EXTENT, NotOneLoop, build_kernel
from .products import is_product

if TYPE_CHECKING:
    from .planning import _Plan

STEP = 0  # the axis of the steps
MOST_NODES = 512  # of a kernel: larger ones take long to compile
MOST_WORK = 1 << 36  # scalar operations, in vectors: a kernel is not interrupted
MOST_SUMS = 1024  # elements of a product: those of larger ones do not stay in registers, as the kernels for them see to

FEW = 64

Element = Callable[[Index], Any]


def lower_recurrence(plan: _Plan, op: Op) -> bool:
    """Append the kernel that runs a loop; whether there is one."""
    if not _may_be_one_kernel(op):
        return False
    try:
        steps = Steps(plan, op)
        lowered = steps.kernel()
    except NotOneLoop:
        return False
    idle = max(1, FEW // max(1, math.prod(steps.domain)))  # fewer elements take no less time
    if len(steps.nodes) > MOST_NODES or lowered.work * idle > MOST_WORK:
        return False
    plan.append(lowered, op)
    return True


def _may_be_one_kernel(op: Op) -> bool:
    if op.primitive is not scan or not isinstance(op.attributes["length"], int) or op.attributes["length"] < 2:
        return False
    (body,) = op.regions
    carries = body.results[: op.attributes["carries"]]
    domains = {squeezed(value.shape) for value in carries}
    if len(domains) != 1 or any(squeezed(value.shape) not in {(), *domains} for value in body.results):
        return False
    if any(0 in value.shape for value in (*op.operands, *op.results)):
        return False
    for inner in body.ops:
        if inner.regions or any(value.dtype not in KERNEL_DTYPES for value in (*inner.operands, *inner.results)):
            return False
        if is_product(inner) and inner.result.type.size > MOST_SUMS:
            return False
        if isinstance(inner.primitive, Elementwise | Generation) or is_product(inner) or inner.primitive is gather:
            if squeezed(inner.result.shape) not in {(), *domains}:
                return False
        elif not isinstance(inner.primitive, View):
            return False
    return all(value.type.is_static and value.dtype in KERNEL_DTYPES for value in (*op.operands, *op.results))


class Steps(Elements):
    """The elements of what a step computes."""

    def __init__(self, plan: _Plan, op: Op) -> None:
        (self.body,) = op.regions
        super().__init__([inner for inner in self.body.ops if not isinstance(inner.primitive, View)], plan.regions)
        assert isinstance(op.primitive, Control)
        self.inside = set(self.body.ops)
        self.plan, self.op, self.layout = plan, op, op.primitive.layout_of(op)
        self.length, reverse = op.attributes["length"], op.attributes.get("reverse", False)
        self.domain = squeezed(self.body.results[0].shape)
        self.is_one_vector = plan.specialize and len(self.domain) == 1 and self.domain[0] <= SMALL_EXTENT
        self.number = Affine(((STEP, -1),), self.length - 1) if reverse else Affine(((STEP, 1),))
        self.carries: list[CarryRequest] = []
        self.parameters: dict[Value, Element] = {}
        first, last = self.layout.first_carry, self.layout.first_input
        self.same = set(self.body.parameters[self.layout.counters : first])  # in each step
        self.varying = {*self.body.parameters[first:last], *self.computed}
        for position, parameter in enumerate(self.body.parameters):
            if position < self.layout.counters:
                self.parameters[parameter] = lambda index: self.position(self.number)
                continue
            operand = op.operands[self.layout.operand(position)]
            if position < self.layout.first_carry:
                self.parameters[parameter] = self._constant(operand)
            elif position < self.layout.first_input:
                self.parameters[parameter] = self._carry(parameter, operand)
            else:
                self.parameters[parameter] = self._input(operand)

    def kernel(self) -> Any:
        results, stores, uses = self.body.results, [], self.plan.graph.uses()
        for carry, value, result in zip(self.carries, results, self.op.results, strict=False):
            carry.next = self.element(value, self.home(value))
            if uses.get(result):
                stores.append(self.plan.store(result, self.home(value), carry.last))
        for value, result in zip(results[self.layout.carries :], self.op.results[self.layout.carries :], strict=True):
            home = self.home(value)
            stores.append(self.plan.store(result, (self.number, *home), self.element(value, home)))
        names = dict.fromkeys(inner.primitive.name for inner in self.body.ops if not isinstance(inner.primitive, View))
        return build_kernel(
            self, stores, (self.length, *self.domain), frozenset((STEP,)),
            title="_".join(["loop", *list(names)[:3]]), specialize=self.plan.specialize, carries=self.carries,
        )  # fmt: skip

    def home(self, value: Value) -> Index:
        """The index of a value at its own point."""
        return home_index(value.shape, range(STEP + 1, STEP + 1 + len(squeezed(value.shape))))

    def _constant(self, operand: Value) -> Element:
        if isinstance(operand, Constant) and operand.ndim == 0:
            return lambda index: k.Literal(operand.array.item(), operand.dtype)
        return lambda index: self.load(operand, index)

    def _input(self, operand: Value) -> Element:
        return lambda index: self.load(operand, (self.number, *index))

    def _carry(self, parameter: Value, operand: Value) -> Element:
        home = self.home(parameter)
        carry = self.carried(STEP, self._constant(operand)(home))
        carry.axes = carry.axes | {axis for entry in home if entry != 0 for axis, _ in entry.terms}
        last = Node("last", (), carry.dtype, carry.axes - {STEP}, stage=carry.stage + 1)
        self.carries.append(CarryRequest(carry, k.Literal(0, carry.dtype), last))

        def element(index: Index) -> Node:
            if index != home:
                raise NotOneLoop
            return carry

        return element

    # Elements -------------------------------------------------------------------------------------------

    def _compute(self, value: Value, index: Index) -> Any:
        if value in self.varying and self._is_fixed(value, index):
            return self._lane(value, index)
        parameter = self.parameters.get(value)
        return super()._compute(value, index) if parameter is None else parameter(index)

    def _is_fixed(self, value: Value, index: Index) -> bool:
        """Whether the index is that of one element of several."""
        return any(
            extent != 1 and (entry == 0 or not (entry.terms or entry.dynamic))
            for extent, entry in zip(value.shape, index, strict=True)
        )

    def _lane(self, value: Value, index: Index) -> Any:
        if not self.is_one_vector:
            raise NotOneLoop
        (entry,) = [entry for extent, entry in zip(value.shape, index, strict=True) if extent != 1]
        node = self.element(value, self.home(value))
        if isinstance(node, k.Literal) or STEP + 1 not in node.axes:
            return node
        return self.instruction("lane", (node, k.Literal(0 if entry == 0 else entry.constant, int64)), node.dtype)

    def apply(self, op: Op, index: Index) -> Any:
        if op.primitive is dot:
            return self._product(op, index)
        if op.primitive is gather and op.operands[0] not in self.same:
            raise NotOneLoop
        return super().apply(op, index)

    def _product(self, op: Op, index: Index) -> Any:
        """As all matrix products are summed up: in order, each term rounded with the sum."""
        lhs, rhs = op.operands
        if len(index) != 2:
            raise NotOneLoop
        turned = [op.attributes.get(name, False) for name in ("transpose_lhs", "transpose_rhs")]
        inner = lhs.type.static_shape[0 if turned[0] else 1]
        if inner > SMALL_EXTENT:
            raise NotOneLoop
        total: Any = k.Literal(0.0, op.result.dtype)
        row, column = index
        for number in range(inner):
            depth = Affine((), number) if number else 0
            left = self.element(lhs, (depth, row) if turned[0] else (row, depth))
            right = self.element(rhs, (column, depth) if turned[1] else (depth, column))
            total = self.instruction("fma", (left, right, total), op.result.dtype)
        return total
