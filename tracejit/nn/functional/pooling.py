"""Pooling: windows that slide along the last axes, one axis at a time, made one element each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import int64, is_floating

from ... import dispatch
from ...locations import at_user_line
from ...ops import creation, elementwise, indexing, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...tensor import Tensor, new_tensor
from .convolution import Extents, batched, each_axis, windows

OutputSize = int | Sequence[int | None] | None


def max_pool1d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window: ``(N, C, L)`` or ``(C, L)`` → the same with ``L'``.

    ``stride`` is ``kernel_size`` unless given.  The gradient goes to the first of equal elements.  With
    ``return_indices`` the result is a pair: the elements, and where each stands along the (flattened) last axes.

    >>> import tracejit as tj
    >>> max_pool1d(tj.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[3., 2.]])
    >>> max_pool1d(tj.tensor([[1.0, 3.0, 2.0, 0.0]]), 2, return_indices=True)[1]
    tensor([[1, 2]])
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As :func:`max_pool1d` on two axes: ``(N, C, H, W)`` or ``(C, H, W)``."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As :func:`max_pool1d` on three axes: ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The elements of :func:`max_pool1d` put back where they stood, zeros elsewhere.

    ``output_size``, where the pooling rounded, says how long the axes were (with or without the first two).

    >>> import tracejit as tj
    >>> pooled, indices = max_pool1d(tj.tensor([[1.0, 3.0, 2.0, 0.0]]), 2, return_indices=True)
    >>> max_unpool1d(pooled, indices, 2)
    tensor([[0., 3., 2., 0.]])
    """
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As :func:`max_unpool1d` on two axes."""
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As :func:`max_unpool1d` on three axes."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


def avg_pool1d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window: ``(N, C, L)`` or ``(C, L)`` → the same with ``L'``.

    Padding counts as zeros, or not at all without ``count_include_pad``.

    >>> import tracejit as tj
    >>> avg_pool1d(tj.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[2., 1.]])
    """
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As :func:`avg_pool1d` on two axes; the sums are divided by ``divisor_override`` if given."""
    settings = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool("avg_pool2d", 2, input, *settings)


def avg_pool3d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As :func:`avg_pool1d` on three axes; the sums are divided by ``divisor_override`` if given."""
    settings = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool("avg_pool3d", 3, input, *settings)


def lp_pool1d(
    input: Any, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
) -> Tensor:
    """The ``norm_type``-th root of the sum of each window's elements to that power: ``(N, C, L)`` or ``(C, L)``."""
    return _power_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Any, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
) -> Tensor:
    """As :func:`lp_pool1d` on two axes.

    >>> import tracejit as tj
    >>> lp_pool2d(tj.tensor([[[3.0, 4.0]]]), 2, (1, 2))
    tensor([[[5.]]])
    """
    return _power_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Any, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
) -> Tensor:
    """As :func:`lp_pool1d` on three axes."""
    return _power_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


def adaptive_avg_pool1d(input: Any, output_size: OutputSize) -> Tensor:
    """The means of ``output_size`` parts of nearly one length: ``(N, C, L)`` or ``(C, L)`` → with ``output_size``.

    >>> import tracejit as tj
    >>> adaptive_avg_pool1d(tj.tensor([[1.0, 3.0, 2.0, 0.0]]), 1)
    tensor([[1.5]])
    """
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: OutputSize) -> Tensor:
    """As :func:`adaptive_avg_pool1d` on two axes; ``None`` leaves an axis as it is."""
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: OutputSize) -> Tensor:
    """As :func:`adaptive_avg_pool1d` on three axes; ``None`` leaves an axis as it is."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


def adaptive_max_pool1d(input: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` parts of nearly one length, and their indices if wanted."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """As :func:`adaptive_max_pool1d` on two axes; ``None`` leaves an axis as it is."""
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """As :func:`adaptive_max_pool1d` on three axes; ``None`` leaves an axis as it is."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)


# What they share ------------------------------------------------------------------------------------


class _Windows:
    """Where the windows of a pooling stand along each of the last axes."""

    def __init__(
        self,
        name: str,
        x: Tensor,
        count: int,
        kernel_size: Extents,
        stride: Extents | None,
        padding: Extents,
        dilation: Extents,
        ceil_mode: bool,
    ) -> None:
        self.sizes = each_axis(name, "kernel_size", kernel_size, count, 1)
        self.strides = self.sizes if stride is None else each_axis(name, "stride", stride, count, 1)
        self.pads = each_axis(name, "padding", padding, count)
        self.steps = each_axis(name, "dilation", dilation, count, 1)
        self.extents = x.shape[2:]
        self.counts: list[int] = []  # of windows
        self.after: list[int] = []  # padding after the axis
        for axis, extent in enumerate(self.extents):
            size, by, pad = self.sizes[axis], self.strides[axis], self.pads[axis]
            if pad > size // 2:
                message = "pad should be at most half of effective kernel size, but got "
                raise at_user_line(
                    RuntimeError(f"{message}pad={pad}, kernel_size={size} and dilation={self.steps[axis]}")
                )
            span = self.steps[axis] * (size - 1) + 1
            room = extent + 2 * pad - span
            count_here = (-(-room // by) if ceil_mode else room // by) + 1
            if ceil_mode and (count_here - 1) * by >= extent + pad:  # the last would begin in the padding
                count_here -= 1
            if count_here < 1:
                message = f"Given input size: ({'x'.join(map(str, x.shape[1:]))}). Output size is too small"
                raise at_user_line(RuntimeError(f"{name}: {message}"))
            self.counts.append(count_here)
            self.after.append(max(pad, (count_here - 1) * by + span - extent - pad))

    def of(self, x: Tensor, axis: int) -> list[Tensor]:
        """The elements at each place of the windows along one of the axes."""
        return windows(x, 2 + axis, self.sizes[axis], self.strides[axis], self.steps[axis], self.counts[axis])

    def padded(self, x: Tensor, fill: float) -> Tensor:
        """The input with its padding."""
        pads = list(zip(self.pads, self.after, strict=True))
        return manipulation.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill) if any(map(any, pads)) else x

    def reduced(self, x: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Each window's elements combined in order, the last axis first."""
        for axis in reversed(range(len(self.sizes))):
            first, *others = self.of(x, axis)
            for other in others:
                first = combine(first, other)
            x = first
        return x

    def largest(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Each window's largest element, and its place; the place of padding is negative."""
        for axis in reversed(range(len(self.sizes))):
            (x, *others), (places, *elsewhere) = self.of(x, axis), self.of(places, axis)
            for other, there in zip(others, elsewhere, strict=True):
                takes = elementwise.logical_or(_is_larger(x, other), elementwise.less(places, 0))
                x, places = elementwise.where(takes, other, x), elementwise.where(takes, there, places)
        return x, places

    def elements(self, include_padding: bool) -> np.ndarray:
        """How many elements each window has, in the shape of the windows."""
        total: np.ndarray = np.ones((), np.int64)
        for axis, extent in enumerate(self.extents):
            pad = self.pads[axis]
            start = np.arange(self.counts[axis]) * self.strides[axis] - pad
            end = np.minimum(start + self.sizes[axis], extent + pad)
            if not include_padding:
                start, end = np.maximum(start, 0), np.minimum(end, extent)
            total = total[..., None] * (end - start)
        return total


def _is_larger(first: Tensor, second: Tensor) -> Tensor:
    """Whether the later element takes the place of the first: where it is larger, or NaN."""
    return elementwise.logical_or(elementwise.greater(second, first), elementwise.isnan(second))


def _later_if_larger(first: Tensor, second: Tensor) -> Tensor:
    return elementwise.where(_is_larger(first, second), second, first)


def _places(extents: Sequence[int]) -> Tensor:
    """The number of each position along the flattened axes, ``(1, 1, …)``."""
    numbers = np.arange(math.prod(extents), dtype=np.int64).reshape(1, 1, *extents)
    return new_tensor(dispatch.constant_payload(numbers))


def _max_pool(
    name: str,
    count: int,
    input: Any,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    dilation: Extents,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    x, unbatched = batched(name, as_tensor(input, name), count)
    found = _Windows(name, x, count, kernel_size, stride, padding, dilation, ceil_mode)
    lowest = -math.inf if is_floating(x.dtype) else np.iinfo(x.dtype).min
    padded = found.padded(x, lowest)
    if not return_indices:
        result = found.reduced(padded, _later_if_larger)
        return manipulation.squeeze(result, 0) if unbatched else result
    largest, places = found.largest(padded, found.padded(_places(x.shape[2:]), -1))
    places = manipulation.broadcast_to(places, largest.shape)
    return (manipulation.squeeze(largest, 0), manipulation.squeeze(places, 0)) if unbatched else (largest, places)


def _max_unpool(
    name: str,
    count: int,
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    output_size: Sequence[int] | None,
) -> Tensor:
    x, unbatched = batched(name, as_tensor(input, name), count)
    index, _ = batched(name, as_tensor(indices, name), count)
    if index.shape != x.shape:
        message = f"Expected shape of indices to be same as that of the input tensor ({list(x.shape)}) but got "
        raise at_user_line(RuntimeError(f"{message}indices tensor with shape: {list(index.shape)}"))
    sizes = each_axis(name, "kernel_size", kernel_size, count, 1)
    strides = sizes if stride is None else each_axis(name, "stride", stride, count, 1)
    pads = each_axis(name, "padding", padding, count)
    usual = [(n - 1) * by - 2 * pad + size for n, by, pad, size in zip(x.shape[2:], strides, pads, sizes, strict=True)]
    wanted = usual if output_size is None else list(output_size)[-count:]
    for axis, (extent, least, by) in enumerate(zip(wanted, usual, strides, strict=True)):
        if not least - by < extent < least + by:
            message = f"invalid output_size {wanted} (dim {axis} must be between {least - by} and {least + by})"
            raise at_user_line(ValueError(message))
    rows, area = x.shape[0] * x.shape[1], math.prod(x.shape[2:])
    index = elementwise.astype(manipulation.reshape(index, (rows, area)), int64)
    size = math.prod(wanted)
    inside = elementwise.logical_and(elementwise.greater_equal(index, 0), elementwise.less(index, size))
    message = f"Found an invalid max index (output volumes are of size {'x'.join(map(str, wanted))})"
    indexing.check(reductions.all(inside), RuntimeError, message)
    numbers = manipulation.reshape(creation.arange(rows), (rows, 1))
    empty = creation.zeros((rows, size), dtype=x.dtype)
    result = indexing.with_item(empty, (numbers, index), manipulation.reshape(x, (rows, area)))
    return manipulation.reshape(result, (*x.shape[int(unbatched) : 2], *wanted))


def _avg_pool(
    name: str,
    count: int,
    input: Any,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    x, unbatched = batched(name, as_tensor(input, name), count)
    found = _Windows(name, x, count, kernel_size, stride, padding, 1, ceil_mode)
    total = found.reduced(found.padded(x, 0), elementwise.add)
    if divisor == 0:
        raise at_user_line(RuntimeError("divisor must be not zero"))
    elements = found.elements(count_include_pad)
    if divisor is not None or elements.min() == elements.max():
        result = total / float(divisor or elements.flat[0])
    else:
        result = total / new_tensor(dispatch.constant_payload(elements.astype(x.dtype)))
    return manipulation.squeeze(result, 0) if unbatched else result


def _power_pool(
    name: str,
    count: int,
    input: Any,
    norm_type: float,
    kernel_size: Extents,
    stride: Extents | None,
    ceil_mode: bool,
) -> Tensor:
    powers = elementwise.pow(as_tensor(input, name), norm_type)
    mean = _avg_pool(name, count, powers, kernel_size, stride, 0, ceil_mode, True, None)
    elements = math.prod(each_axis(name, "kernel_size", kernel_size, count, 1))
    # Where a sum is negative (of an odd power) or zero: zero, with gradient zero.
    positive = elementwise.greater(mean, 0)
    total = elementwise.where(positive, mean, 1) * elements
    return elementwise.where(positive, elementwise.pow(total, 1 / norm_type), 0)


# Adaptive -------------------------------------------------------------------------------------------


def _largest_along(x: Tensor, axis: int) -> Tensor:
    first, *others = _along(x, axis)
    for other in others:
        first = _later_if_larger(first, other)
    return first


def _along(x: Tensor, axis: int) -> list[Tensor]:
    return [x[(*[slice(None)] * axis, place)] for place in range(x.shape[axis])]


def _parts(name: str, x: Tensor, count: int, output_size: OutputSize) -> list[list[tuple[int, int]] | None]:
    """Where each axis's parts begin and end; ``None`` for an axis that stays as it is."""
    wanted = (output_size,) * count if output_size is None or isinstance(output_size, int) else tuple(output_size)
    if len(wanted) != count:
        raise at_user_line(ValueError(f"{name}: expected output_size to be an int or {count} ints, got {output_size}"))
    found: list[list[tuple[int, int]] | None] = []
    for extent, parts in zip(x.shape[2:], wanted, strict=True):
        if parts is None or parts == extent:
            found.append(None)
            continue
        if parts < 1 or extent == 0:
            raise at_user_line(RuntimeError(f"{name}: cannot make {parts} parts of an axis of extent {extent}"))
        found.append([(i * extent // parts, -(-(i + 1) * extent // parts)) for i in range(parts)])
    return found


def _adaptive(x: Tensor, parts: Sequence[Any], reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    for axis in reversed(range(2, x.ndim)):
        ends = parts[axis - 2]
        if ends is None:
            continue
        extent, number = x.shape[axis], len(ends)
        if extent % number == 0:
            shape = (*x.shape[:axis], number, extent // number, *x.shape[axis + 1 :])
            x = reduce(manipulation.reshape(x, shape), axis + 1)
        else:
            before = (slice(None),) * axis
            x = manipulation.stack([reduce(x[(*before, slice(*end))], axis) for end in ends], axis)
    return x


def _adaptive_avg(name: str, count: int, input: Any, output_size: OutputSize) -> Tensor:
    x, unbatched = batched(name, as_tensor(input, name), count)
    result = _adaptive(x, _parts(name, x, count, output_size), reductions.mean)
    return manipulation.squeeze(result, 0) if unbatched else result


def _adaptive_max(name: str, count: int, input: Any, output_size: OutputSize, return_indices: bool) -> Any:
    x, unbatched = batched(name, as_tensor(input, name), count)
    parts = _parts(name, x, count, output_size)
    if not return_indices:
        result = _adaptive(x, parts, _largest_along)
        return manipulation.squeeze(result, 0) if unbatched else result
    places = _places(x.shape[2:])
    for axis in reversed(range(2, x.ndim)):
        ends, before = parts[axis - 2], (slice(None),) * axis
        if ends is None:
            continue
        pairs = [_largest_with_place(x[(*before, slice(*end))], places[(*before, slice(*end))], axis) for end in ends]
        x, places = (manipulation.stack(items, axis) for items in zip(*pairs, strict=True))
    places = manipulation.broadcast_to(places, x.shape)
    return (manipulation.squeeze(x, 0), manipulation.squeeze(places, 0)) if unbatched else (x, places)


def _largest_with_place(x: Tensor, places: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    (x, *others), (places, *elsewhere) = _along(x, axis), _along(places, axis)
    for other, there in zip(others, elsewhere, strict=True):
        takes = _is_larger(x, other)
        x, places = elementwise.where(takes, other, x), elementwise.where(takes, there, places)
    return x, places
