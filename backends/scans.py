"""Running sums, products, extremes and recurrences: one loop in order along the axis, the other axes side by side.

The order is NumPy's, one element after the other, so that the bits are the same.  The first element stands as it is:
what is carried begins with a neutral element, and a recurrence does not look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir import DType, Op
from tracejit.ir.elementary_functions import logaddexp
from tracejit.ir.primitives.library import (
    cumulative_extremum,
    cumulative_logsumexp,
    cumulative_product,
    cumulative_sum,
    linear_recurrence,
)
from tracejit.ir.types import KERNEL_DTYPES, bool_, int64, is_floating

from . import kernel as k
from .elements import CarryRequest, Elements
from .fusion import DEVICE_DTYPES, Affine, home_index, operand_index, squeezed
from .lower import build_kernel

if TYPE_CHECKING:
    from .planning import _Plan

# What the result is, and what is carried, given the elements of the operands and the number of the loop's axis.
Step = Callable[[Elements, list[Any], int, Op], tuple[Any, list[CarryRequest]]]


def _sum(e: Elements, operands: list[Any], axis: int, op: Op) -> tuple[Any, list[CarryRequest]]:
    (x,) = operands
    before = e.carried(axis, k.Literal(-0.0 if is_floating(x.dtype) else 0, x.dtype))
    total = _rounded(e, "add", before, x)
    return total, [CarryRequest(before, total)]


def _rounded(e: Elements, name: str, *operands: Any) -> Any:
    """An instruction on floats or integers; that on halves is rounded at each step."""
    wide = tuple(map(e.widened, operands))
    return e.rounded(e.instruction(name, wide, wide[0].dtype), operands[0].dtype)


def _product(e: Elements, operands: list[Any], axis: int, op: Op) -> tuple[Any, list[CarryRequest]]:
    (x,) = operands
    before = e.carried(axis, k.Literal(1, x.dtype))
    product = _rounded(e, "multiply", before, x)
    return product, [CarryRequest(before, product)]


def _extremum(e: Elements, operands: list[Any], axis: int, op: Op) -> tuple[Any, list[CarryRequest]]:
    x, smallest = e.widened(operands[0]), op.attributes["smallest"]
    best = e.carried(axis, k.Literal(_worst(x.dtype, smallest), x.dtype))
    place = e.carried(axis, k.Literal(0, int64))
    better = e.instruction("minimum" if smallest else "maximum", (best, x), x.dtype)
    is_best = e.instruction("eq", (x, better), bool_)
    if is_floating(x.dtype):
        is_best = e.instruction("or_", (is_best, e.instruction("ne", (x, x), bool_)), bool_)
    here = e.instruction("select", (is_best, e.position(Affine(((axis, 1),))), place), int64)
    return here, [CarryRequest(best, better), CarryRequest(place, here)]


def _worst(dtype: DType, smallest: bool) -> Any:
    if is_floating(dtype):
        return np.inf if smallest else -np.inf
    if dtype == bool_:
        return smallest
    return np.iinfo(dtype).max if smallest else np.iinfo(dtype).min


def _recurrence(e: Elements, operands: list[Any], axis: int, op: Op) -> tuple[Any, list[CarryRequest]]:
    factor, term = operands
    before = e.carried(axis, k.Literal(0, term.dtype))
    product = _rounded(e, "multiply", factor, before)
    is_first = e.instruction("eq", (e.position(Affine(((axis, 1),))), k.Literal(0, int64)), bool_)
    following = _rounded(e, "add", product, term)
    result = e.instruction("select", (is_first, term, following), term.dtype)
    return result, [CarryRequest(before, result)]


def _logsumexp(e: Elements, operands: list[Any], axis: int, op: Op) -> tuple[Any, list[CarryRequest]]:
    (x,) = operands
    before = e.carried(axis, k.Literal(-np.inf, x.dtype))
    total = logaddexp(e, before, x)
    return total, [CarryRequest(before, total)]


_STEPS: dict[Any, Step] = {
    cumulative_sum: _sum,
    cumulative_product: _product,
    cumulative_extremum: _extremum,
    cumulative_logsumexp: _logsumexp,
    linear_recurrence: _recurrence,
}


def is_scan(op: Op, host: bool = True) -> bool:
    """Whether a loop that carries something computes the op."""
    dtypes = KERNEL_DTYPES if host or op.primitive is cumulative_logsumexp else DEVICE_DTYPES
    is_known = op.primitive in _STEPS and all(value.dtype in dtypes for value in (*op.operands, *op.results))
    return is_known and 0 not in op.result.shape


def lower_scan(plan: _Plan, op: Op) -> None:
    result, shape = op.result, op.result.type.static_shape
    elements, index = plan.elements(), home_index(shape)
    operands = [elements.element(operand, operand_index(operand, index)) for operand in op.operands]
    along, reduced = index[op.attributes["axis"]], frozenset[int]()
    carries: list[CarryRequest] = []
    if along == 0:  # one step: loops do not have the axis
        node = k.Literal(0, int64) if op.primitive is cumulative_extremum else operands[-1]
    else:
        ((axis, _),) = along.terms
        node, carries = _STEPS[op.primitive](elements, operands, axis, op)
        reduced = frozenset((axis,))
    lowered = build_kernel(
        elements, [plan.store(result, index, node)], squeezed(shape), reduced,
        title=op.primitive.name, specialize=plan.specialize, carries=carries,
    )  # fmt: skip
    plan.append(lowered, op)
