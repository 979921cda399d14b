"""The convolution: a window slides over the input, and what it shows is multiplied by the weights and summed up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..batching import BatchedApplication, one_by_one
from ..primitive import Application, Contraction, Emitter, holomorphic, per_operand, same_dtype, summed
from ..types import TensorType, bool_, short_name
from .contraction import dot

Extents = tuple[int, ...]


def places(extents: Extents, kernel: Extents, strides: Extents, dilations: Extents) -> Extents:
    """How many places a window has along each axis."""
    return tuple(
        max((extent - dilation * (size - 1) - 1) // stride + 1, 0)
        for extent, size, stride, dilation in zip(extents, kernel, strides, dilations, strict=True)
    )


def _type(lhs: TensorType, rhs: TensorType, strides: Extents, dilations: Extents, groups: int) -> TensorType:
    dtype = same_dtype("convolution", lhs, rhs)
    if dtype == bool_:
        raise TypeError(f"convolution is not defined for {short_name(dtype)}, got {lhs!r} and {rhs!r}")
    count = len(strides)
    if lhs.ndim != count + 2 or rhs.ndim != count + 2 or len(dilations) != count:
        raise ValueError(f"convolution: expected two operands with {count} axes after the channels: {lhs!r}, {rhs!r}")
    (batch, channels, *extents), (outputs, inner, *kernel) = lhs.static_shape, rhs.static_shape
    if groups < 1 or channels != groups * inner or outputs % groups:
        raise ValueError(f"convolution: {lhs!r} and {rhs!r} do not fit in {groups} groups")
    if 0 in kernel:
        raise ValueError(f"convolution: a window without elements: {rhs!r}")
    return TensorType(dtype, (batch, outputs, *places(tuple(extents), tuple(kernel), strides, dilations)))


def _numpy(lhs: np.ndarray, rhs: np.ndarray, strides: Extents, dilations: Extents, groups: int) -> np.ndarray:
    (batch, _, *extents), (outputs, inner, *kernel) = lhs.shape, rhs.shape
    found = places(tuple(extents), tuple(kernel), strides, dilations)
    shape = (batch, groups, inner, *kernel, *found)
    steps = lhs.strides[2:]
    columns = np.lib.stride_tricks.as_strided(
        lhs,
        shape,
        (
            lhs.strides[0], inner * lhs.strides[1], lhs.strides[1],
            *(step * dilation for step, dilation in zip(steps, dilations, strict=True)),
            *(step * stride for step, stride in zip(steps, strides, strict=True)),
        ),
        writeable=False,
    )  # fmt: skip
    rows, area = inner * math.prod(kernel), math.prod(found)
    weights = np.broadcast_to(rhs.reshape(groups, outputs // groups, rows), (batch, groups, outputs // groups, rows))
    product = dot.numpy(weights, columns.reshape(batch, groups, rows, area))
    return np.asarray(product).reshape(batch, outputs, *found)


def _split(e: Emitter, x: Any, axis: int, groups: int) -> Any:
    """An axis as two: the groups, and what is in one."""
    shape = tuple(x.shape)
    return e.reshape_to(x, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))


def _lhs_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return adjoint(e, g, op.operands[1], op.operand_types[0].static_shape[2:], **op.attributes)


def adjoint(
    e: Emitter, g: Any, weights: Any, extents: Extents, strides: Extents, dilations: Extents, groups: int
) -> Any:
    """The transposed convolution: the weights, times each element of ``g``, summed up where the windows lie in
    ``extents``.

    The elements at the places ``stride q + r`` are, for each r, a convolution of ``g`` with every stride-th weight,
    turned around.  The r that meet equally many weights go together, as channels, which are then laid out in space
    ("sub-pixel convolution", Shi et al. 2016): no zeros between the elements of ``g`` are multiplied.
    """
    inner, *kernel = weights.shape[1:]
    split = tuple(stride if dilation == 1 else 1 for stride, dilation in zip(strides, dilations, strict=True))
    counts = tuple(-(-extent // parts) for extent, parts in zip(extents, split, strict=True))
    interior = tuple(stride // parts - 1 for stride, parts in zip(strides, split, strict=True))
    spread = [max((size - 1) * (gap + 1) + 1, 0) for size, gap in zip(g.shape[2:], interior, strict=True)]
    high = [count - size for count, size in zip(counts, spread, strict=True)]

    def joined(chosen: tuple[_Phases, ...]) -> Any:
        """(N, C, r…, q…), for the chosen r along the first axes and all along the others."""
        if (axis := len(chosen)) < len(split):
            found = [joined((*chosen, phases)) for phases in _phases(kernel[axis], split[axis])]
            return found[0] if len(found) == 1 else e.concatenate(*found, dimension=2 + axis)
        reach = [dilation * (phases.taps - 1) for dilation, phases in zip(dilations, chosen, strict=True)]
        x = e.pad(g, e.scalar(0, g.dtype), low=(0, 0, *reach), high=(0, 0, *high), interior=(0, 0, *interior))
        turned = _turned(e, weights, split, chosen, groups)
        result = e.convolution(x, turned, strides=(1,) * len(split), dilations=dilations, groups=groups)
        if set(split) == {1}:
            return result
        return e.reshape_to(result, (g.shape[0], groups * inner, *(phases.number for phases in chosen), *counts))

    count, result = len(split), joined(())
    if set(split) == {1}:
        return result
    lacking = [parts - found for parts, found in zip(split, result.shape[2:], strict=False)]
    if any(lacking):  # no weight meets these
        none = (0,) * (2 + 2 * count)
        after = (0, 0, *lacking, *[0] * count)
        result = e.pad(result, e.scalar(0, g.dtype), low=none, high=after, interior=none)
    order = [axis for pair in zip(range(2 + count, 2 + 2 * count), range(2, 2 + count), strict=True) for axis in pair]
    whole = [number * parts for number, parts in zip(counts, split, strict=True)]
    result = e.transpose(result, permutation=(0, 1, *order))
    result = e.reshape_to(result, (g.shape[0], groups * inner, *whole))
    if whole != [*extents]:
        limit = (g.shape[0], groups * inner, *extents)
        result = e.slice(result, start=(0,) * (2 + count), limit=limit, strides=(1,) * (2 + count))
    return result


class _Phases(NamedTuple):
    """Some places within a stride, and how many weights each of them meets."""

    first: int
    number: int
    taps: int


def _phases(size: int, stride: int) -> list[_Phases]:
    """The places within a stride that a window of some size meets."""
    taps, more = divmod(size, stride)
    found = [_Phases(0, more, taps + 1), _Phases(more, stride - more, taps)]
    return [phases for phases in found if phases.number and phases.taps]


def _turned(e: Emitter, weights: Any, strides: Extents, chosen: Sequence[_Phases], groups: int) -> Any:
    """The weights that some phases meet, turned around: (O, C / groups, K…) → (C r…, O / groups, K' …)."""
    (outputs, inner), count = weights.shape[:2], len(chosen)
    start = (0, 0, *(phases.first for phases in chosen))
    limit = [
        phases.first + (phases.taps - 1) * stride + phases.number
        for phases, stride in zip(chosen, strides, strict=True)
    ]  # fmt: skip
    if (*start[2:], *limit) != (*[0] * count, *weights.shape[2:]):
        weights = e.slice(weights, start=start, limit=(outputs, inner, *limit), strides=(1,) * (2 + count))
    # A few more, so that they fall into rows of a stride each.
    widths = [
        phases.number if phases.taps == 1 else stride for phases, stride in zip(chosen, strides, strict=True)
    ]  # fmt: skip
    high = [width - phases.number for phases, width in zip(chosen, widths, strict=True)]
    if any(high):
        none = (0,) * (2 + count)
        weights = e.pad(weights, e.scalar(0, weights.dtype), low=none, high=(0, 0, *high), interior=none)
    rows = [extent for phases, width in zip(chosen, widths, strict=True) for extent in (phases.taps, width)]
    weights = e.reshape_to(weights, (groups, outputs // groups, inner, *rows))
    if any(high):
        limit = [extent for phases in chosen for extent in (phases.taps, phases.number)]
        zeros, ones = (0,) * (3 + 2 * count), (1,) * (3 + 2 * count)
        weights = e.slice(weights, start=zeros, limit=(groups, outputs // groups, inner, *limit), strides=ones)
    taps, within = tuple(range(3, 3 + 2 * count, 2)), range(4, 4 + 2 * count, 2)
    weights = e.transpose(e.reverse(weights, dimensions=taps), permutation=(0, 2, *within, 1, *taps))
    shape = weights.shape
    return e.reshape_to(weights, (math.prod(shape[: 2 + count]), *shape[2 + count :]))


def _rhs_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """The convolution of the input with the cotangent: channels take the place of the batch, which is summed over."""
    strides, dilations, groups = (op.attributes[name] for name in ("strides", "dilations", "groups"))
    (batch, channels, *extents), (outputs, inner, *kernel) = (type.static_shape for type in op.operand_types)
    found = tuple(g.shape[2:])
    used = [
        (extent - 1) * stride + dilation * (size - 1) + 1
        for extent, stride, dilation, size in zip(found, strides, dilations, kernel, strict=True)
    ]
    ndim = 2 + len(kernel)
    x = op.operands[0]
    if used != extents:
        x = e.slice(x, start=(0,) * ndim, limit=(batch, channels, *used), strides=(1,) * ndim)
    after = tuple(range(3, ndim + 1))
    x = e.transpose(_split(e, x, 1, groups), permutation=(2, 1, 0, *after))
    g = e.transpose(_split(e, g, 1, groups), permutation=(1, 2, 0, *after))
    x = e.reshape_to(x, (inner, groups * batch, *used))
    g = e.reshape_to(g, (outputs, batch, *found))
    found_weights = e.convolution(x, g, strides=dilations, dilations=strides, groups=groups)
    return e.transpose(found_weights, permutation=(1, 0, *range(2, ndim)))


def _batch(e: Emitter, op: BatchedApplication) -> Any:
    """More examples, where the weights are the same for all; else each of them is a group of its own."""
    if not op.size:
        return one_by_one(e, op)
    lhs, rhs = op.operands
    groups = op.attributes["groups"]
    if not op.is_batched[1]:
        flat = e.reshape_to(lhs, (lhs.shape[0] * lhs.shape[1], *lhs.shape[2:]))
        result = e.apply(op.primitive, (flat, rhs), op.attributes)
        return e.reshape_to(result, (lhs.shape[0], lhs.shape[1], *result.shape[1:]))
    lhs = op.stretched(e, 0)
    size, batch, channels, *extents = lhs.shape
    x = e.transpose(lhs, permutation=(1, 0, *range(2, len(lhs.shape))))
    x = e.reshape_to(x, (batch, size * channels, *extents))
    weights = e.reshape_to(rhs, (size * rhs.shape[1], *rhs.shape[2:]))
    result = e.apply(op.primitive, (x, weights), {**op.attributes, "groups": size * groups})
    result = e.reshape_to(result, (batch, size, rhs.shape[1], *result.shape[2:]))
    return e.transpose(result, permutation=(1, 0, *range(2, len(result.shape))))


def _lhs_jvp(e: Emitter, t: Any, op: Application) -> Any:
    return e.convolution(t, op.operands[1], **op.attributes)


def _rhs_jvp(e: Emitter, t: Any, op: Application) -> Any:
    return e.convolution(op.operands[0], t, **op.attributes)


# (N, C, S…), (O, C / groups, K…) → (N, O, L…).  An element is the sum over (C / groups, K…), in row-major order, in
# blocks of 256 as dot's is.
convolution = Contraction(
    name="convolution",
    type_rule=_type,
    numpy=_numpy,
    exact=False,
    vjp=per_operand(holomorphic(_lhs_vjp), holomorphic(_rhs_vjp)),
    saves="01",
    jvp=summed(_lhs_jvp, _rhs_jvp),
    batch=_batch,
)
