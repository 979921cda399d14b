"""Loops that carry a few small arrays of different shapes, in one kernel: each element is a number in a register.

So are all elements of what a step computes from them, the terms of its small matrix products and sums included.  A
filter's state and covariance, say, never go to memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from tracejit.ir import Op, Value
from tracejit.ir.primitive import Elementwise, Generation, Placement, Reduction, View
from tracejit.ir.primitives.control import scan
from tracejit.ir.primitives.reduction import LANES
from tracejit.ir.types import KERNEL_DTYPES

from . import kernel as k
from .elements import CarryRequest, Elements, Node
from .fusion import Affine, Index, through_view
from .lower import LoweredKernel, NotOneLoop, build_kernel
from .products import is_product
from .recurrences import FEW, MOST_WORK, STEP, Element, Steps

if TYPE_CHECKING:
    from .planning import _Plan

MOST_CARRIED = 32  # elements: about as many as there are registers
MOST_TERMS = 400  # numbers that a step computes

Place = tuple[int, ...]


def lower_small_state(plan: _Plan, op: Op) -> bool:
    """Append the kernel that runs a loop; whether there is one."""
    if not _is_small(op):
        return False
    try:
        lowered = _Numbers(plan, op).kernel()
    except NotOneLoop:
        return False
    if lowered.work * FEW > MOST_WORK:
        return False
    plan.append(lowered, op)
    return True


def _is_small(op: Op) -> bool:
    if op.primitive is not scan or not isinstance(op.attributes["length"], int) or op.attributes["length"] < 2:
        return False
    (body,) = op.regions
    values = [*op.operands, *op.results, *(value for inner in body.ops for value in inner.results)]
    if any(not value.type.is_static or value.dtype not in KERNEL_DTYPES or 0 in value.shape for value in values):
        return False
    if not 0 < sum(value.type.size for value in body.results) <= MOST_CARRIED:
        return False
    terms = 0
    for inner in body.ops:
        if isinstance(inner.primitive, View | Placement):
            continue
        if isinstance(inner.primitive, Reduction) or is_product(inner):
            terms += inner.operands[0].type.size * (inner.result.type.static_shape[-1] if is_product(inner) else 1)
        elif isinstance(inner.primitive, Elementwise | Generation) and not inner.regions:
            terms += inner.result.type.size
        else:
            return False
    return terms <= MOST_TERMS


class _Numbers(Steps):
    """Every element is asked for at its place, which is known."""

    def kernel(self) -> LoweredKernel:
        stores, uses = [], self.plan.graph.uses()
        layout, results = self.layout, self.body.results
        requests = iter(self.carries)
        for value, result in zip(results[: layout.carries], self.op.results, strict=False):
            for place in _places(value):
                carry = next(requests)
                carry.next = self.element(value, _index(place))
                if uses.get(result):
                    stores.append(self.plan.store(result, _index(place), carry.last))
        for value, result in zip(results[layout.carries :], self.op.results[layout.carries :], strict=True):
            for place in _places(value):
                where = (self.number, *_index(place))
                stores.append(self.plan.store(result, where, self.element(value, _index(place))))
        return build_kernel(
            self, stores, (self.length,), frozenset((STEP,)), title="loop_of_numbers",
            specialize=self.plan.specialize, carries=self.carries,
        )  # fmt: skip

    def _carry(self, parameter: Value, operand: Value) -> Element:
        carried: dict[Place, Node] = {}
        for place in _places(parameter):
            carry = carried[place] = self.carried(STEP, self._constant(operand)(_index(place)))
            last = Node("last", (), carry.dtype, carry.axes - {STEP}, stage=carry.stage + 1)
            self.carries.append(CarryRequest(carry, k.Literal(0, carry.dtype), last))
        return lambda index: carried[_place(index)]

    def _compute(self, value: Value, index: Index) -> Any:
        if value in self.parameters:
            return self.parameters[value](index)
        op = value.op
        if op is not None and op in self.inside and isinstance(op.primitive, View):
            step = through_view(value, index)
            if step is not None:
                return self.element(*step)
            (operand,) = op.operands  # the elements are in the same order
            return self.element(operand, _index(_unraveled(_raveled(_place(index), value.shape), operand.shape)))
        return Elements._compute(self, value, index)

    def apply(self, op: Op, index: Index) -> Any:
        if isinstance(op.primitive, Placement):
            return self._placed(op, op.primitive, _place(index))
        if isinstance(op.primitive, Reduction):
            return self._total(op, op.primitive, _place(index))
        return super().apply(op, index)

    def _placed(self, op: Op, primitive: Placement, place: Place) -> Any:
        """The element of the last operand that is written there."""
        regions = primitive.regions([operand.type for operand in op.operands], **op.attributes)
        for number, start, steps in reversed(regions):
            operand = op.operands[number]
            apart = [(at - first, step) for at, first, step in zip(place, start, steps, strict=True)]
            within = zip(apart, operand.type.static_shape, strict=True)
            if all(0 <= at < extent * step and at % step == 0 for (at, step), extent in within):
                return self.element(operand, _index(tuple(at // step for at, step in apart)))
        if primitive.fill is None:
            raise NotOneLoop
        return self.element(op.operands[primitive.fill], ())

    def _total(self, op: Op, primitive: Reduction, place: Place) -> Any:
        """One block of the order that the language fixes."""
        (operand,), axes = op.operands, op.attributes["axes"]
        shape = operand.type.static_shape
        if math.prod(shape[axis] for axis in axes) > LANES:
            raise NotOneLoop
        numbers = []
        for inner in product(*(range(shape[axis]) for axis in axes)):
            outer, reduced = iter(place), dict(zip(axes, inner, strict=True))
            at = tuple(reduced[axis] if axis in reduced else next(outer) for axis in range(len(shape)))
            numbers.append(self.element(operand, _index(at)))
        half = 1 << (len(numbers) - 1).bit_length() >> 1
        while len(numbers) > 1:  # what is beyond the last is neutral
            pairs = zip(numbers, numbers[half:], strict=False)
            joined = [self.instruction(primitive.combine, pair, op.result.dtype) for pair in pairs]
            numbers, half = [*joined, *numbers[len(joined) : half]], half // 2
        return numbers[0]


def _places(value: Value) -> Iterator[Place]:
    return product(*map(range, value.type.static_shape))


def _index(place: Place) -> Index:
    return tuple(Affine((), at) if at else 0 for at in place)


def _place(index: Index) -> Place:
    if any(entry != 0 and (entry.terms or entry.dynamic) for entry in index):
        raise NotOneLoop
    return tuple(0 if entry == 0 else entry.constant for entry in index)


def _raveled(place: Place, shape: Any) -> int:
    number = 0
    for at, extent in zip(place, shape, strict=True):
        number = number * extent + at
    return number


def _unraveled(number: int, shape: Any) -> Place:
    place = []
    for extent in reversed(shape):
        number, at = divmod(number, extent)
        place.append(at)
    return tuple(reversed(place))
