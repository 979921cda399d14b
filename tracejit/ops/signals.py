"""Along an axis: differences, slopes, integrals, convolutions; and functions given by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.primitives import library as primitives
from tracejit.ir.types import bool_, format_shape

from .. import dispatch
from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor, new_tensor
from . import arithmetic, elementwise, linalg, manipulation, reduction
from .axes import normalize_axis
from .indexing import take

# Differences ----------------------------------------------------------------------------------------


def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """The differences of neighbours along ``axis``, ``n`` times over; those of bools tell where they differ.

    >>> import tracejit as tj
    >>> tj.diff(tj.tensor([1, 4, 9]))
    tensor([3, 5])
    """
    tensor = as_tensor(x, "diff")
    if n < 0:
        raise at_user_line(ValueError(f"diff: n must not be negative, got {n}"))
    along = normalize_axis("diff", axis, tensor.ndim)
    ends = [None if item is None else _end(item, tensor.shape, along) for item in (prepend, append)]
    parts = [item for item in (ends[0], tensor, ends[1]) if item is not None]
    if len(parts) > 1:
        tensor = manipulation.concat(parts, along)
    if n == 0:
        return elementwise.positive(tensor)
    for _ in range(n):
        ahead = tensor[(*[slice(None)] * along, slice(1, None))]
        behind = tensor[(*[slice(None)] * along, slice(None, -1))]
        tensor = (elementwise.not_equal if tensor.dtype == bool_ else elementwise.subtract)(ahead, behind)
    return tensor


def _end(item: Any, shape: tuple[int, ...], axis: int) -> Tensor:
    """What is put at an end: a number stands for one at each place."""
    tensor = as_tensor(item, "diff")
    if tensor.ndim:
        return tensor
    return manipulation.broadcast_to(tensor, tuple(1 if i == axis else n for i, n in enumerate(shape)))


def ediff1d(x: Any, to_end: Any = None, to_begin: Any = None) -> Tensor:
    """The differences of neighbours in the flattened tensor, between ``to_begin`` and ``to_end``."""
    tensor = as_tensor(x, "ediff1d")
    parts = [diff(manipulation.reshape(tensor, (tensor.size,)))]
    for position, item in ((0, to_begin), (len(parts) + 1, to_end)):
        if item is not None:
            parts.insert(position, manipulation.reshape(as_tensor(item, "ediff1d"), (-1,)))
    return manipulation.concat(parts)


def gradient(f: Any, *varargs: Any, axis: int | Sequence[int] | None = None, edge_order: int = 1) -> Any:
    """The slopes of a function given by its values, from central differences (one-sided ones at the ends).

    ``varargs``: the distance of the points, or their coordinates, for all axes or one for each.  A tuple for several
    axes.  (For derivatives of programs see :func:`tracejit.autograd.grad`.)

    >>> import tracejit as tj
    >>> tj.gradient(tj.tensor([1.0, 2.0, 4.0, 7.0]))
    tensor([1. , 1.5, 2.5, 3. ])
    """
    (values,) = operands("gradient", as_tensor(f, "gradient"), lowest_kind=2)
    axes = range(values.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    along = [normalize_axis("gradient", item, values.ndim) for item in axes]
    steps = list(varargs) or [1.0]
    if len(steps) == 1:
        steps = steps * len(along)
    if len(steps) != len(along):
        raise at_user_line(TypeError(f"gradient: needs one distance an axis, got {len(varargs)} for {len(along)} axes"))
    if edge_order not in (1, 2):
        raise at_user_line(ValueError(f"gradient: edge_order must be 1 or 2, got {edge_order}"))
    results = tuple(_slopes(values, step, item, edge_order) for step, item in zip(steps, along, strict=True))
    return results[0] if len(results) == 1 else results


def _slopes(f: Tensor, spacing: Any, axis: int, edge_order: int) -> Tensor:
    """Along one axis: from three neighbours, whose distances are ``a`` and ``b``."""
    extent = f.shape[axis]
    if extent < edge_order + 1:
        raise at_user_line(
            ValueError(f"gradient: needs {edge_order + 1} points or more along axis {axis} of {format_shape(f.shape)}")
        )
    f = manipulation.permute_dims(f, (*(i for i in range(f.ndim) if i != axis), axis))
    steps = as_tensor(spacing, "gradient")
    if steps.ndim == 0:
        distances = manipulation.broadcast_to(elementwise.astype(steps, f.dtype), (extent - 1,))
    elif steps.shape == (extent,):
        distances = elementwise.astype(diff(steps), f.dtype)
    else:
        raise at_user_line(
            ValueError(f"gradient: {format_shape(steps.shape)} coordinates for {extent} points along axis {axis}")
        )
    rises = diff(f)
    slopes = elementwise.divide(rises, distances)
    first, last = slopes[..., :1], slopes[..., -1:]
    a, b = distances[:-1], distances[1:]
    weights = elementwise.divide(a, elementwise.add(a, b))
    left, right = slopes[..., :-1], slopes[..., 1:]
    inner = elementwise.add(left, elementwise.multiply(elementwise.subtract(right, left), weights))
    if edge_order == 2:  # the slope of the parabola through three points, at its ends
        first = elementwise.subtract(elementwise.multiply(first, 2), inner[..., :1])
        last = elementwise.subtract(elementwise.multiply(last, 2), inner[..., -1:])
    result = manipulation.concat([first, inner, last], -1)
    return manipulation.permute_dims(result, (*range(axis), f.ndim - 1, *range(axis, f.ndim - 1)))


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    """The integral along ``axis`` of a function that is linear between its values ``y`` at ``x``, or ``dx`` apart.

    >>> import tracejit as tj
    >>> tj.trapezoid(tj.tensor([1.0, 2.0, 3.0]))
    tensor(4.)
    """
    values = as_tensor(y, "trapezoid")
    along = normalize_axis("trapezoid", axis, values.ndim)
    widths: Any = dx
    if x is not None:
        points = as_tensor(x, "trapezoid")
        widths = diff(points) if points.ndim == 1 else diff(points, axis=axis)
        if points.ndim == 1:
            widths = manipulation.reshape(widths, (-1, *(1,) * (values.ndim - along - 1)))
    lead = (slice(None),) * along
    ahead, behind = values[(*lead, slice(1, None))], values[(*lead, slice(None, -1))]
    areas = elementwise.divide(elementwise.multiply(widths, elementwise.add(ahead, behind)), 2)
    return reduction.sum(areas, along)


# Convolution ----------------------------------------------------------------------------------------


def convolve(x: Any, y: Any, mode: str = "full") -> Tensor:
    """The sums of ``x[i] * y[n - i]`` for each n: of vectors of m and n elements m + n - 1 (``"full"``).

    ``"same"`` gives the middle ones, as many as the longer vector has, ``"valid"`` those where the vectors overlap
    completely.

    >>> import tracejit as tj
    >>> tj.convolve(tj.tensor([1.0, 2.0, 3.0]), tj.tensor([1.0, 1.0]))
    tensor([1., 3., 5., 3.])
    """
    longer, shorter = _vectors("convolve", x, y, mode)
    if longer.size < shorter.size:
        longer, shorter = shorter, longer
    return _sliding_products(longer, manipulation.flip(shorter), mode)


def correlate(x: Any, y: Any, mode: str = "valid") -> Tensor:
    """The sums of ``x[n + i] * conj(y[i])`` for each n; ``mode`` as for :func:`convolve`."""
    first, second = _vectors("correlate", x, y, mode)
    if first.size >= second.size:
        return _sliding_products(first, arithmetic.conj(second), mode)
    return arithmetic.conj(manipulation.flip(_sliding_products(second, arithmetic.conj(first), mode)))


def _vectors(name: str, x: Any, y: Any, mode: str) -> list[Tensor]:
    if mode not in ("full", "same", "valid"):
        raise at_user_line(ValueError(f"{name}: mode must be 'full', 'same' or 'valid', got {mode!r}"))
    pair = operands(name, as_tensor(x, name), as_tensor(y, name))
    pair = [manipulation.reshape(tensor, (1,)) if tensor.ndim == 0 else tensor for tensor in pair]
    if any(tensor.ndim != 1 or tensor.size == 0 for tensor in pair):
        shapes = " and ".join(format_shape(tensor.shape) for tensor in pair)
        raise at_user_line(ValueError(f"{name}: needs vectors that are not empty, got shapes {shapes}"))
    return pair


def _sliding_products(x: Tensor, kernel: Tensor, mode: str) -> Tensor:
    """The products of ``kernel``, which is not longer, with each stretch of ``x``: a matrix product."""
    width = kernel.size
    before = {"full": width - 1, "same": width // 2, "valid": 0}[mode]
    after = {"full": width - 1, "same": width - 1 - width // 2, "valid": 0}[mode]
    padded = manipulation.pad(x, (before, after)) if before or after else x
    count = padded.size - width + 1
    windows = np.arange(count)[:, None] + np.arange(width)
    stretches = take(padded, new_tensor(dispatch.constant_payload(windows)), axis=0)
    if x.dtype == bool_:
        return reduction.any(elementwise.logical_and(stretches, kernel), -1)
    return linalg.matmul(stretches, kernel)


# Functions given by numbers -------------------------------------------------------------------------


def polyval(p: Any, x: Any) -> Tensor:
    """The polynomial with coefficients ``p``, the highest power first, at ``x`` (Horner's rule).

    >>> import tracejit as tj
    >>> tj.polyval(tj.tensor([1.0, 0.0, -1.0]), tj.tensor([2.0, 3.0]))
    tensor([3., 8.])
    """
    coefficients, at = operands("polyval", as_tensor(p, "polyval"), as_tensor(x, "polyval"))
    if coefficients.ndim != 1:
        raise at_user_line(ValueError(f"polyval: p must be a vector, got shape {format_shape(coefficients.shape)}"))
    result = elementwise.multiply(at, 0)
    for i in range(coefficients.size):
        result = elementwise.add(elementwise.multiply(result, at), coefficients[i])
    return result


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Tensor:
    """The function through the points ``(xp, fp)``, ``xp`` increasing, linear between them and constant beyond.

    ``left`` and ``right``, if given, are the values below and above the points.

    >>> import tracejit as tj
    >>> tj.interp(tj.tensor([0.5, 3.0]), tj.tensor([0.0, 1.0]), tj.tensor([10.0, 20.0]))
    tensor([15., 20.])
    """
    at, knots, values = operands("interp", x, xp, fp, lowest_kind=2)
    if knots.ndim != 1 or knots.shape != values.shape or knots.size < 1:
        shapes = f"{format_shape(knots.shape)} and {format_shape(values.shape)}"
        raise at_user_line(ValueError(f"interp: needs as many values as points, one or more, got shapes {shapes}"))
    if knots.size == 1:
        knots, values = (manipulation.broadcast_to(tensor, (2,)) for tensor in (knots, values))
    place = apply(primitives.searchsorted, (knots.detach(), at.detach()), {"side": "right"})
    upper = elementwise.clip(place, 1, knots.size - 1)
    lower = elementwise.subtract(upper, 1)
    x0, x1, y0, y1 = take(knots, lower), take(knots, upper), take(values, lower), take(values, upper)
    width = elementwise.subtract(x1, x0)
    width = elementwise.where(elementwise.equal(width, 0), 1, width)  # where points coincide
    part = elementwise.divide(elementwise.subtract(at, x0), width)
    inside = elementwise.add(y0, elementwise.multiply(elementwise.subtract(y1, y0), part))
    inside = elementwise.where(elementwise.equal(at, knots[-1]), values[-1], inside)
    below, above = elementwise.less(at, knots[0]), elementwise.greater(at, knots[-1])
    beyond = elementwise.where(above, values[-1] if right is None else right, inside)
    return elementwise.where(below, values[0] if left is None else left, beyond)
