"""The convolution: a window slides over the input, and what it shows is multiplied by the weights and summed up."""

from __future__ import annotations

import math
from typing import Any

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
    """The convolution of the cotangent, spread out by the strides, with the weights turned around."""
    strides, dilations, groups = (op.attributes[name] for name in ("strides", "dilations", "groups"))
    x, (outputs, inner, *kernel) = op.operand_types[0].static_shape, op.operand_types[1].static_shape
    count = len(kernel)
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
    spread = [(extent - 1) * stride + 1 for extent, stride in zip(g.shape[2:], strides, strict=True)]
    high = [extent - size for extent, size in zip(x[2:], spread, strict=True)]
    interior = [stride - 1 for stride in strides]
    g = e.pad(g, e.scalar(0, g.dtype), low=(0, 0, *reach), high=(0, 0, *high), interior=(0, 0, *interior))
    weights = _split(e, e.reverse(op.operands[1], dimensions=tuple(range(2, 2 + count))), 0, groups)
    weights = e.transpose(weights, permutation=(0, 2, 1, *range(3, 3 + count)))
    weights = e.reshape_to(weights, (groups * inner, outputs // groups, *kernel))
    return e.convolution(g, weights, strides=(1,) * count, dilations=dilations, groups=groups)


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
