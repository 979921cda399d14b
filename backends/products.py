"""Matrix products: where the matrices lie in memory, and what is added to the product on its way out.

A product reads its operands where they are, through transposes and slices, and writes into its part of a whole.  The
addition of a bias, of a residual or to what other products have summed up is part of the product.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tracejit.ir import Block, Constant, Location, Op, TensorType, Value
from tracejit.ir.facts import facts, replace
from tracejit.ir.primitive import Reduction
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.primitives.elementwise import add
from tracejit.ir.primitives.reduction import reduce_sum
from tracejit.ir.types import HALF_DTYPES, DType, bfloat16, float32, float64

from .addresses import in_memory
from .fusion import (
    Affine,
    Group,
    Index,
    home_index,
    is_fusible,
    operand_index,
    reduction_domain,
    squeezed,
    through_views,
)  # fmt: skip
from .lower import build_kernel

if TYPE_CHECKING:
    from .control import Body
    from .planning import _Plan

NUMBER_BYTES = 64  # how much of a number is given that is added everywhere: the widest vector
CHAIN = 256  # the k of one chain of sums: only such short products may be added to what is in their place
FEW_ROWS = 48  # up to so many, a right operand that lies in columns is not worth turning for one product
TURNED = 4  # but for so many products


Lying = tuple[Value, int, list[int]]  # where matrices lie: offset, and how far apart the elements along each axis are
Matrix = tuple[Value, int, int, int, int]  # where one lies in columns: offset, their distance, k and n


@facts
class Matrices:
    """Matrices in memory: element offset, then strides of stacks of matrices, of matrices, rows and columns."""

    value: Value
    offset: int
    strides: tuple[int, int, int, int]


@facts
class Windows:
    """An operand whose elements are found through tables: of places (its rows or columns) and of depths.

    A table has for each point an offset, in elements, and how many points from there on are neighbours.
    """

    side: str  # "lhs" or "rhs"
    places: Constant
    depths: Constant


@facts
class DotCall:
    """``out[b] = lhs[b] @ rhs[b]``, and the addend, for floating-point operands; stacks hold ``inner`` matrices."""

    dtype: DType
    lhs: Matrices
    rhs: Matrices
    out: Matrices
    addend: Matrices | None
    batch: int
    inner: int
    m: int
    n: int
    k: int
    location: Location | None = None
    windows: Windows | None = None  # the operand's strides of rows and columns then have no meaning

    @property
    def matrices(self) -> list[Matrices]:
        return [self.lhs, self.rhs, self.out] + ([] if self.addend is None else [self.addend])

    @property
    def buffers(self) -> list[Value]:
        tables: list[Value] = [] if self.windows is None else [self.windows.places, self.windows.depths]
        return [*(matrices.value for matrices in self.matrices), *tables]

    @property
    def work(self) -> int:
        return self.batch * self.m * self.n * self.k

    def columns(self, first: int, count: int) -> DotCall:
        """The part of the product that has ``count`` columns from the ``first`` on."""
        moved = [
            None if each is None else replace(each, offset=each.offset + first * each.strides[3])
            for each in (self.rhs, self.out, self.addend)
        ]
        rhs, out, addend = moved
        assert rhs is not None
        assert out is not None
        return replace(self, rhs=rhs, out=out, addend=addend, n=count)

    def nested(self) -> Sequence[Body]:
        return ()


def is_product(op: Op, host: bool = True) -> bool:
    """Whether an op is a product of floating-point matrices; those of halves are for devices."""
    if op.primitive is not dot or not op.result.type.is_static:
        return False
    return op.result.dtype in (float32, float64) or (not host and op.result.dtype in HALF_DTYPES)


def is_bfloat16_product(op: Op) -> bool:
    """Whether an op is a product of matrices of bfloat16 that this processor multiplies."""
    from .cpu.target import host_target

    is_one = op.primitive is dot and op.result.dtype == bfloat16 and op.result.type.is_static
    return is_one and host_target().multiplies_bfloat16


def extents(op: Op) -> tuple[tuple[int, ...], int, int, int]:
    """The batch's shape, m, n and k."""
    *batch, m, n = op.result.type.static_shape
    rows, columns = op.operands[0].type.static_shape[-2:]
    return tuple(batch), m, n, rows if op.attributes.get("transpose_lhs", False) else columns


# Additions --------------------------------------------------------------------------------------------


def additions(block: Block, whole: Collection[Op]) -> dict[Op, Op]:
    """The products whose result only an addition reads, by the addition that is part of them."""
    uses = block.uses()
    found: dict[Op, Op] = {}
    for op in block.ops:
        if op.primitive is not add or op in whole:
            continue
        for product, other in (op.operands[::-1], op.operands):
            if product.op is not None and _takes(product, op, other, uses):
                found[op] = product.op
                break
    return found


def _takes(product: Value, op: Op, other: Value, uses: Mapping[Value, int]) -> bool:
    """Whether a product can add ``other`` to make the result of ``op``."""
    assert product.op is not None
    if not is_product(product.op) or uses[product] != 1 or product.shape != op.result.shape:
        return False
    batch, m, n, k = extents(product.op)
    if 0 in (*batch, m, n, k):
        return False
    base, index = through_views(other, operand_index(other, _own_axes(op.result)))
    if base.op is not None and is_fusible(base.op) and not isinstance(base.op.primitive, Reduction) and uses[base] < 2:
        return False  # it need not stand in memory at all
    if isinstance(base, Constant) and base.array.size == 1:
        return True
    if any(entry != 0 and entry.dynamic for entry in index):
        return False
    steps = _steps(base, index, op.result.ndim)
    return _is_row_major(steps, m, n) and factorized([steps], batch) is not None


def summed_in_place(block: Block, found: Mapping[Op, Op]) -> dict[Value, Value]:
    """The products and sums of products that only an addition reads, and its result, which takes over their memory."""
    uses = block.uses()
    totals: dict[Value, Value] = {}
    for op, product in found.items():
        (other,) = [operand for operand in op.operands if operand is not product.result]
        is_sum = other.op is not None and (other.op in found or is_product(other.op))
        if is_sum and uses[other] == 1 and other.shape == op.result.shape and extents(product)[3] <= CHAIN:
            totals[other] = op.result
    return totals


# Memory -----------------------------------------------------------------------------------------------


def _own_axes(value: Value) -> Index:
    """The index of a value with one axis for each dimension, also those of extent 1."""
    return tuple(Affine(((axis, 1),)) for axis in range(value.ndim))


def _steps(base: Value, index: Index, ndim: int) -> list[int]:
    """How far apart in memory the elements along each axis are."""
    strides, step = [], 1
    for extent in reversed(base.type.static_shape):
        strides.append(step)
        step *= extent
    steps = [0] * ndim
    for entry, stride in zip(index, reversed(strides), strict=True):
        for axis, coefficient in () if entry == 0 else entry.terms:
            steps[axis] += coefficient * stride
    return steps


def _is_row_major(steps: Sequence[int], m: int, n: int) -> bool:
    """Whether a product can be written there, and what lies there added: columns are neighbours."""
    row, column = steps[-2:]
    return column == 1 if n != 1 else row == 1 or m == 1


def factorized(all_steps: Sequence[Sequence[int]], batch: Sequence[int]) -> tuple[int, int] | None:
    """How many of the batch's axes are the stacks', and how many matrices are in one; ``None`` where neither part of
    the axes is walked with a single stride by all."""
    for split in range(len(batch) + 1):
        if all(
            one_stride(steps[: len(batch)], batch, *part) is not None
            for steps in all_steps
            for part in ((0, split), (split, len(batch)))
        ):
            return split, math.prod(batch[split:])
    return None


def one_stride(steps: Sequence[int], batch: Sequence[int], first: int, last: int) -> int | None:
    """The stride that walks some axes as one."""
    long = [(step, extent) for step, extent in zip(steps[first:last], batch[first:last], strict=True) if extent != 1]
    if any(step != extent * inner for (step, _), (inner, extent) in pairwise(long)):
        return None
    return long[-1][0] if long else 0


# Lowering ---------------------------------------------------------------------------------------------


def lower_product(plan: _Plan, op: Op, addition: Op | None) -> None:
    """Append the call of a product, and of copies of what it cannot read or write where it is."""
    batch, m, n, k = extents(op)
    if 0 in (*batch, m, n):
        return
    result = (op if addition is None else addition).result
    transposed = [op.attributes.get(name, False) for name in ("transpose_lhs", "transpose_rhs")]
    places = [place_of(plan, operand, flag) for operand, flag in zip(op.operands, transposed, strict=True)]
    places.append(place_of(plan, result, False))
    if addition is not None:
        (other,) = [operand for operand in addition.operands if operand is not op.result]
        base, index = through_views(other, operand_index(other, _own_axes(result)))
        if isinstance(base, Constant) and base.array.size == 1:
            base, index = Constant(np.full(NUMBER_BYTES // base.dtype.itemsize, base.array.item(), base.dtype)), (0,)
        value, offset, steps = _at(plan, base, index, result.ndim)
        if n == 1:
            steps[-1] = steps[-2]  # the rows of a single column are neighbours, as columns are otherwise
        places.append((value, offset, steps))
    factors = factorized([place[2] for place in places], batch)
    if not _is_row_major(places[2][2], m, n) or (addition is not None and factors is None):
        _lower_apart(plan, op, addition)
        return
    if factors is None:
        places[:2] = [
            place if factorized([place[2]], batch) == (0, math.prod(batch)) else _copied(plan, operand, flag)
            for place, operand, flag in zip(places, op.operands, transposed, strict=False)
        ]
        factors = factorized([place[2] for place in places], batch)
        if factors is None:
            _lower_apart(plan, op, addition)
            return
    if n != 1 and m <= FEW_ROWS and not any(places[1][2][:-2]) and places[1][2][-2] == 1 != places[1][2][-1]:
        places[1] = _turned(plan, places[1], k, n)
    _append_product(plan, op, result, places, factors)


def lower_bfloat16_product(plan: _Plan, op: Op) -> bool:
    """Append the call of a product of bfloat16, which no kernel copies; whether all can be read and written where it
    is."""
    batch, m, n, _ = extents(op)
    if 0 in (*batch, m, n):
        return True
    transposed = [op.attributes.get(name, False) for name in ("transpose_lhs", "transpose_rhs")]
    places = [place_of(plan, operand, flag) for operand, flag in zip(op.operands, transposed, strict=True)]
    places.append(place_of(plan, op.result, False))
    factors = factorized([place[2] for place in places], batch)
    if factors is None or not _is_row_major(places[2][2], m, n):
        return False
    _append_product(plan, op, op.result, places, factors)
    return True


def lower_integer_product(plan: _Plan, op: Op) -> None:
    """Integer products wrap around, so their order is free: an ordinary reduction."""
    if 0 in op.result.shape:
        return
    lhs, rhs = op.operands
    transpose_lhs, transpose_rhs = (op.attributes.get(n, False) for n in ("transpose_lhs", "transpose_rhs"))
    inner = extents(op)[3]
    *batch, m, n = op.result.type.static_shape
    shape = (*batch, m, n, inner)
    product_type = TensorType(op.result.dtype, shape)
    point = home_index(shape)
    elements = plan.elements()
    left = (*point[:-3], point[-1], point[-3]) if transpose_lhs else (*point[:-3], point[-3], point[-1])
    right = (*point[:-3], point[-2], point[-1]) if transpose_rhs else (*point[:-3], point[-1], point[-2])
    node = elements.multiply(elements.element(lhs, left), elements.element(rhs, right))
    product = Value(product_type)
    domain = squeezed(shape)
    if 0 not in domain:
        store = plan.store(product, point, node)
        lowered = build_kernel(elements, [store], domain, frozenset(), title="products", specialize=plan.specialize)
        plan.append(lowered, op)
    again = Op(reduce_sum, (product,), {"axes": (len(shape) - 1,)}, [op.result.type], op.location)
    again.results = op.results
    reduced_domain, reduced = reduction_domain(again)
    plan.lower_group(Group(-1, reduced_domain, reduced, [again]))


def _append_product(plan: _Plan, op: Op, result: Value, places: Sequence[Lying], factors: tuple[int, int]) -> None:
    batch, m, n, k = extents(op)
    split, inner = factors

    def matrices(place: Lying) -> Matrices:
        value, offset, steps = place
        stacks = one_stride(steps[: len(batch)], batch, 0, split)
        stack = one_stride(steps[: len(batch)], batch, split, len(batch))
        return Matrices(value, offset, (stacks or 0, stack or 0, steps[-2], steps[-1]))

    lhs, rhs, out, *addend = map(matrices, places)
    plan.calls.append(
        DotCall(
            result.dtype, lhs, rhs, out, addend[0] if addend else None, math.prod(batch), inner, m, n, k, op.location
        )
    )  # fmt: skip


def place_of(plan: _Plan, operand: Value, transposed: bool = False) -> tuple[Value, int, list[int]]:
    """Where an operand's matrices are: the value, an offset, and how far apart the elements along each axis are."""
    value, offset, steps = _at(plan, *through_views(operand, _own_axes(operand)), operand.ndim)
    return value, offset, [*steps[:-2], steps[-1], steps[-2]] if transposed else steps


def _at(plan: _Plan, base: Value, index: Index, ndim: int) -> tuple[Value, int, list[int]]:
    whole, address = in_memory(base, index, plan.regions)
    terms = dict(address.terms)
    return whole, address.constant, [terms.get(axis, 0) for axis in range(ndim)]


def _copied(plan: _Plan, operand: Value, transposed: bool) -> tuple[Value, int, list[int]]:
    """The same for a contiguous copy."""
    copy, home = Value(operand.type), home_index(operand.shape)
    plan.copy(operand, home, copy, home, operand.type.static_shape)
    return place_of(plan, copy, transposed)


def _turned(plan: _Plan, place: tuple[Value, int, list[int]], k: int, n: int) -> tuple[Value, int, list[int]]:
    """A right operand that lies in columns, turned once for all the products that read it: before the loops in which
    it stays the same."""
    value, offset, steps = place
    times: float = plan.columns_read.get((value, offset, steps[-1], k, n), 0)
    loops = []
    while (loop := plan.loop) is not None and value in loop.outside:
        loops.append(loop)
        times *= loop.steps
        plan, value = loop.around, loop.outside[value]
    key = value, offset, steps[-1], k, n
    if key not in plan.turned and times < TURNED:
        return place
    turned = plan.turned.get(key)
    if turned is None:
        turned = plan.turned[key] = Value(TensorType(value.dtype, (k, n)))
        lying = Affine(((0, 1), (1, steps[-1])), offset)
        plan.copy(plan.flat(value), (lying,), turned, home_index(turned.shape), (k, n), title="transpose")
    for loop in loops:
        loop.read[turned] = None
    return turned, 0, [0] * (len(steps) - 2) + [n, 1]


def columns_read(plan: _Plan, ops: Sequence[Op]) -> dict[Matrix, int]:
    """How often each matrix that lies in columns is the right operand of products with few rows."""
    counts: dict[Matrix, int] = {}
    for op in ops:
        if is_product(op) and op.attributes.get("transpose_rhs", False):
            _, m, n, k = extents(op)
            if n != 1 and m <= FEW_ROWS:
                value, offset, steps = place_of(plan, op.operands[1], True)
                key = value, offset, steps[-1], k, n
                counts[key] = counts.get(key, 0) + 1
    return counts


def _lower_apart(plan: _Plan, op: Op, addition: Op | None) -> None:
    """The product into memory of its own, then what is to be done with it."""
    if addition is not None:
        plan.stored |= {op.result, addition.result}
        lower_product(plan, op, None)
        plan.lower_group(Group(-1, squeezed(addition.result.shape), ops=[addition]))
        return
    alone = Op(op.primitive, op.operands, op.attributes, [op.result.type], op.location)
    lower_product(plan, alone, None)
    home = home_index(op.result.shape)
    plan.copy(alone.result, home, op.result, home, op.result.type.static_shape, op)
