"""Reductions over ``axes``, which leave the result.

The order of summation is part of the language, so that every way of running a program gives the same
bits: a function of the reduced extent alone.  The reduced elements, in row-major order, are cut into
blocks of :data:`BLOCK`; within a block lane ``l`` of :data:`LANES` combines the elements ``l, l + LANES,
l + 2 LANES …`` in order; the lanes are combined in halves (``l`` with ``l + LANES/2``, and so on).  More
than one block: the blocks' results are reduced by the same rule.  The error of a sum grows with
``BLOCK / LANES + log2(LANES)`` a level, as a pairwise sum's does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..batching import renamed
from ..primitive import Application, Emitter, JvpRule, Reduction, Rule, holomorphic, linear, per_operand, summed
from ..types import DType, TensorType, bool_, float32, is_differentiable, is_floating, is_integer, short_name
from .elementwise import ieee_maximum, ieee_minimum

LANES = 32
BLOCK = 4096


def ordered_reduce(elements: np.ndarray, combine: Callable[..., Any], identity: Any) -> np.ndarray:
    """The reduction over the last axis in the order that the language fixes, by NumPy.

    Only for elements on which ``combine`` is fixed to the bit (a sum of floats, say).
    """
    *rows, extent = elements.shape
    blocks = max(1, -(-extent // BLOCK))
    steps = BLOCK // LANES if blocks > 1 else max(1, -(-extent // LANES))
    padded = np.full((*rows, blocks * steps * LANES), identity, elements.dtype)
    padded[..., :extent] = elements
    table = padded.reshape(*rows, blocks, steps, LANES)
    lanes = table[..., 0, :]
    for step in range(1, steps):
        lanes = combine(lanes, table[..., step, :])
    half = LANES
    while half > 1:
        half //= 2
        lanes = combine(lanes[..., :half], lanes[..., half:])
    results = lanes[..., 0]
    return results[..., 0] if blocks == 1 else ordered_reduce(results, combine, identity)


def _by_numpy(x: np.ndarray, axes: tuple[int, ...], function: np.ufunc, identity: Any) -> np.ndarray:
    """A reduction whose bits depend on the elements alone, not on how they lie in memory; halves add up as floats."""
    if not axes:
        return x
    if not is_differentiable(x.dtype) or (x.dtype.kind == "c" and function in (np.maximum, np.minimum)):
        return np.asarray(function.reduce(x, axis=axes, dtype=x.dtype))
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    count = math.prod(x.shape[axis] for axis in axes)
    elements = x.transpose(*kept, *axes).reshape(*[x.shape[axis] for axis in kept], count)
    if x.dtype.kind == "c" and function is np.multiply:  # 1 is no neutral element where there are infinities
        return np.asarray(function.reduce(np.ascontiguousarray(elements), axis=-1, dtype=x.dtype))
    if count == 0:
        return np.full(elements.shape[:-1], 0 if function is np.add else identity, x.dtype)
    extrema: dict[Any, Any] = {np.maximum: ieee_maximum, np.minimum: ieee_minimum}
    combine = extrema.get(function, function)
    wide = elements.astype(float32) if x.dtype.itemsize == 2 else elements
    return np.asarray(ordered_reduce(wide, combine, identity).astype(x.dtype))


def _reduction_type(name: str, x: TensorType, axes: tuple[int, ...]) -> TensorType:
    if any(not 0 <= axis < x.ndim for axis in axes) or list(axes) != sorted(set(axes)):
        raise ValueError(f"{name}: axes {axes} are not increasing axes of {x!r}")
    return TensorType(x.dtype, tuple(extent for axis, extent in enumerate(x.shape) if axis not in axes))


def _lowest(dtype: DType) -> Any:
    if is_differentiable(dtype):
        return -math.inf
    return False if dtype == bool_ else np.iinfo(dtype).min


def _highest(dtype: DType) -> Any:
    if is_differentiable(dtype):
        return math.inf
    return True if dtype == bool_ else np.iinfo(dtype).max


def _sum_vjp(e: Emitter, g: Any, op: Application) -> Any:
    shape, axes = op.operand_types[0].shape, op.attributes["axes"]
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    return e.broadcast_in_dim(g, shape=shape, dimensions=kept)


def _extremum_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """The cotangent goes to the extreme elements, in equal shares."""
    x, shape, axes = op.operands[0], op.operand_types[0].shape, op.attributes["axes"]
    kept = e.keep_axes(op.result, shape, axes)
    chosen = e.convert(e.compare(x, kept, direction="eq"), dtype=op.result_type.dtype)
    count = e.reduce_sum(chosen, axes=axes)
    return e.multiply(chosen, e.keep_axes(e.divide(g, count), shape, axes))


def _product_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """The product of all other elements, from running products on both sides: no division by a zero."""
    x, axes, shape = op.operands[0], op.attributes["axes"], op.operand_types[0].shape
    order = (*(axis for axis in range(len(shape)) if axis not in axes), *axes)
    moved = e.transpose(x, permutation=order)
    kept, count = moved.shape[: len(shape) - len(axes)], math.prod(shape[axis] for axis in axes)
    rows = e.reshape_to(moved, (*kept, count))
    last = len(kept)
    before = _running_product(e, rows, last)
    after = e.reverse(_running_product(e, e.reverse(rows, dimensions=(last,)), last), dimensions=(last,))
    share = e.multiply(before, after)
    share = e.multiply(share, e.broadcast_in_dim(g, shape=tuple(share.shape), dimensions=tuple(range(last))))
    inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
    return e.transpose(e.reshape_to(share, tuple(moved.shape)), permutation=inverse)


def _running_product(e: Emitter, x: Any, axis: int) -> Any:
    """The product of all elements before each one along ``axis``."""
    shape = tuple(x.shape)
    zero = (0,) * len(shape)
    one = tuple(int(i == axis) for i in range(len(shape)))
    padded = e.pad(x, e.scalar(1, x.dtype), low=one, high=zero, interior=zero)
    return e.cumulative_product(e.slice(padded, start=zero, limit=shape, strides=(1,) * len(shape)), axis=axis)


def _weighted(vjp: Rule) -> Rule:
    """The jvp of what depends on each element alone: the tangent times the gradient, summed."""

    def rule(e: Emitter, t: Any, op: Application) -> Any:
        gradient = vjp(e, e.full(1, op.result_type), op)
        return e.reduce_sum(e.multiply(t, gradient), axes=op.attributes["axes"])

    return rule


def _reduction(
    name: str,
    combine: str,
    function: np.ufunc,
    identity: Any,
    *,
    vjp: Rule | None = None,
    jvp: JvpRule | None = None,
    saves: str = "",
    vjp_moves: bool = False,
    accepts: Any = None,
) -> Reduction:
    def type_rule(x: TensorType, axes: tuple[int, ...]) -> TensorType:
        if accepts is not None and not accepts(x.dtype):
            raise TypeError(f"{name} is not defined for {short_name(x.dtype)}, got {x!r}")
        result = _reduction_type(name, x, axes)
        if name in ("reduce_max", "reduce_min") and any(x.shape[axis] == 0 for axis in axes):
            raise ValueError(f"{name}: zero-size array {x!r} to reduction operation which has no identity")
        return result

    return Reduction(
        name=name,
        type_rule=type_rule,
        numpy=lambda x, axes: _by_numpy(x, axes, function, identity(x.dtype)),
        combine=combine,
        identity=identity,
        exact=False,
        vjp=None if vjp is None else per_operand(holomorphic(vjp) if saves else vjp),
        saves=saves,
        vjp_moves=vjp_moves,
        jvp=jvp if jvp is not None or vjp is None else summed(_weighted(vjp)),
        batch=renamed(lambda size, axes: {"axes": tuple(axis + 1 for axis in axes)}),
    )


# The neutral element of a floating-point sum is -0.0: 0.0 would turn a sum of -0.0 into 0.0.
reduce_sum = _reduction(
    "reduce_sum",
    "add",
    np.add,
    lambda dtype: complex(-0.0, -0.0) if dtype.kind == "c" else -0.0 if is_floating(dtype) else 0,
    vjp=_sum_vjp,
    vjp_moves=True,
    jvp=linear,
    accepts=lambda dtype: dtype != bool_,
)
reduce_product = _reduction(
    "reduce_product",
    "multiply",
    np.multiply,
    lambda dtype: 1,
    vjp=_product_vjp,
    saves="0",
    accepts=lambda dtype: dtype != bool_,
)
reduce_max = _reduction("reduce_max", "maximum", np.maximum, _lowest, vjp=_extremum_vjp, saves="0r")
reduce_min = _reduction("reduce_min", "minimum", np.minimum, _highest, vjp=_extremum_vjp, saves="0r")
_is_logical = lambda dtype: dtype == bool_ or is_integer(dtype)  # noqa: E731
reduce_and = _reduction(
    "reduce_and", "and_", np.bitwise_and, lambda dtype: True if dtype == bool_ else -1, accepts=_is_logical
)
reduce_or = _reduction(
    "reduce_or", "or_", np.bitwise_or, lambda dtype: False if dtype == bool_ else 0, accepts=_is_logical
)
