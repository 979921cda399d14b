"""Pooling: windows that slide along the last axes, one axis at a time, made one element each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import is_floating

from ... import dispatch
from ...locations import at_user_line
from ...ops import elementwise, manipulation, reduction as reductions
from ...promotion import as_tensor
from ...tensor import Tensor, new_tensor
from .convolution import Extents, batched, each_axis, windows


def max_pool1d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window: ``(N, C, L)`` or ``(C, L)`` → the same with ``L'``.

    ``stride`` is ``kernel_size`` unless given.  The gradient goes to the first of equal elements.

    >>> import tracejit as tj
    >>> max_pool1d(tj.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[3., 2.]])
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """As :func:`max_pool1d` on two axes: ``(N, C, H, W)`` or ``(C, H, W)``."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode)


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
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def adaptive_avg_pool1d(input: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The means of ``output_size`` parts of nearly one length: ``(N, C, L)`` or ``(C, L)`` → with ``output_size``.

    >>> import tracejit as tj
    >>> adaptive_avg_pool1d(tj.tensor([[1.0, 3.0, 2.0, 0.0]]), 1)
    tensor([[1.5]])
    """
    return _adaptive("adaptive_avg_pool1d", 1, input, output_size, reductions.mean)


def adaptive_avg_pool2d(input: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """As :func:`adaptive_avg_pool1d` on two axes; ``None`` leaves an axis as it is."""
    return _adaptive("adaptive_avg_pool2d", 2, input, output_size, reductions.mean)


def adaptive_max_pool1d(input: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The largest elements of ``output_size`` parts of nearly one length."""
    return _adaptive("adaptive_max_pool1d", 1, input, output_size, _largest_along)


def adaptive_max_pool2d(input: Any, output_size: int | Sequence[int | None] | None) -> Tensor:
    """As :func:`adaptive_max_pool1d` on two axes; ``None`` leaves an axis as it is."""
    return _adaptive("adaptive_max_pool2d", 2, input, output_size, _largest_along)


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
                message = f"Given input size: {tuple(x.shape[1:])}. Calculated output size is too small"
                raise at_user_line(RuntimeError(f"{name}: {message}"))
            self.counts.append(count_here)
            self.after.append(max(pad, (count_here - 1) * by + span - extent - pad))

    def reduced(self, x: Tensor, fill: float, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Each window's elements combined in order, the last axis first."""
        pads = list(zip(self.pads, self.after, strict=True))
        if any(map(any, pads)):
            x = manipulation.pad(x, [(0, 0), (0, 0), *pads], fill)
        for axis in reversed(range(len(self.sizes))):
            first, *others = windows(
                x, 2 + axis, self.sizes[axis], self.strides[axis], self.steps[axis], self.counts[axis]
            )
            for other in others:
                first = combine(first, other)
            x = first
        return x

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


def _later_if_larger(first: Tensor, second: Tensor) -> Tensor:
    """The larger element, the first of equals; NaN where either is NaN."""
    takes = elementwise.logical_or(elementwise.greater(second, first), elementwise.isnan(second))
    return elementwise.where(takes, second, first)


def _max_pool(
    name: str,
    count: int,
    input: Any,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    dilation: Extents,
    ceil_mode: bool,
) -> Tensor:
    x, unbatched = batched(name, as_tensor(input, name), count)
    found = _Windows(name, x, count, kernel_size, stride, padding, dilation, ceil_mode)
    lowest = -math.inf if is_floating(x.dtype) else np.iinfo(x.dtype).min
    result = found.reduced(x, lowest, _later_if_larger)
    return manipulation.squeeze(result, 0) if unbatched else result


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
    total = found.reduced(x, 0, elementwise.add)
    if divisor == 0:
        raise at_user_line(RuntimeError("divisor must be not zero"))
    elements = found.elements(count_include_pad)
    if divisor is not None or elements.min() == elements.max():
        result = total / float(divisor or elements.flat[0])
    else:
        result = total / new_tensor(dispatch.constant_payload(elements.astype(x.dtype)))
    return manipulation.squeeze(result, 0) if unbatched else result


def _largest_along(x: Tensor, axis: int) -> Tensor:
    first, *others = (x[(*[slice(None)] * axis, place)] for place in range(x.shape[axis]))
    for other in others:
        first = _later_if_larger(first, other)
    return first


def _adaptive(name: str, count: int, input: Any, output_size: Any, reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    x, unbatched = batched(name, as_tensor(input, name), count)
    wanted = (output_size,) * count if output_size is None or isinstance(output_size, int) else tuple(output_size)
    if len(wanted) != count:
        raise at_user_line(ValueError(f"{name}: expected output_size to be an int or {count} ints, got {output_size}"))
    for axis in reversed(range(2, 2 + count)):
        extent, parts = x.shape[axis], wanted[axis - 2]
        if parts is None or parts == extent:
            continue
        if parts < 1 or extent == 0:
            raise at_user_line(RuntimeError(f"{name}: cannot make {parts} parts of an axis of extent {extent}"))
        if extent % parts == 0:
            shape = (*x.shape[:axis], parts, extent // parts, *x.shape[axis + 1 :])
            x = reduce(manipulation.reshape(x, shape), axis + 1)
            continue
        before = (slice(None),) * axis
        ends = [(i * extent // parts, -(-(i + 1) * extent // parts)) for i in range(parts)]
        x = manipulation.stack([reduce(x[(*before, slice(*end))], axis) for end in ends], axis)
    return manipulation.squeeze(x, 0) if unbatched else x
