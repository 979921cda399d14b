"""Convolutions, and their adjoints: the input is padded, then one primitive does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.ir.primitives import convolution, placement
from tracejit.ir.types import format_shape

from ...locations import at_user_line
from ...ops import creation, manipulation
from ...promotion import as_tensor, operands
from ...tape import apply, tensor_emitter
from ...tensor import Tensor

Extents = int | Sequence[int]


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents | str = 0,
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of ``input`` with ``weight``: ``(N, C, L)`` and ``(O, C / groups, K)`` → ``(N, O, L')``.

    ``L' = (L + 2 padding - dilation (K - 1) - 1) / stride + 1``, rounded down; ``padding="same"`` keeps ``L``.
    ``(C, L)`` counts as a batch of one.

    >>> import tracejit as tj
    >>> conv1d(tj.tensor([[[1.0, 2.0, 4.0]]]), tj.tensor([[[-1.0, 1.0]]]))
    tensor([[[1., 2.]]])
    """
    return _convolution("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents | str = 0,
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """As :func:`conv1d` on two axes: ``(N, C, H, W)`` and ``(O, C / groups, KH, KW)`` → ``(N, O, H', W')``.

    >>> import tracejit as tj
    >>> conv2d(tj.ones(1, 3, 8, 8), tj.ones(4, 3, 3, 3), stride=2, padding=1).shape
    (1, 4, 4, 4)
    """
    return _convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents | str = 0,
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """As :func:`conv1d` on three axes: ``(N, C, D, H, W)`` and ``(O, C / groups, KD, KH, KW)``."""
    return _convolution("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    groups: int = 1,
    dilation: Extents = 1,
) -> Tensor:
    """The adjoint of :func:`conv1d`: ``(N, C, L)`` and ``(C, O / groups, K)`` → ``(N, O, L')``.

    ``L' = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1``.

    >>> import tracejit as tj
    >>> conv_transpose1d(tj.tensor([[[1.0, 2.0]]]), tj.tensor([[[1.0, 10.0]]]), stride=2)
    tensor([[[ 1., 10.,  2., 20.]]])
    """
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    groups: int = 1,
    dilation: Extents = 1,
) -> Tensor:
    """As :func:`conv_transpose1d` on two axes: ``(N, C, H, W)`` and ``(C, O / groups, KH, KW)``."""
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    groups: int = 1,
    dilation: Extents = 1,
) -> Tensor:
    """As :func:`conv_transpose1d` on three axes."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# What they share ------------------------------------------------------------------------------------


def each_axis(name: str, what: str, value: Extents, count: int, least: int = 0) -> tuple[int, ...]:
    """One number of at least ``least`` for each of ``count`` axes, of one for all or of a sequence."""
    numbers = (value,) * count if isinstance(value, int) else tuple(int(item) for item in value)
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count:
        raise at_user_line(ValueError(f"{name}: expected {what} to be an int or {count} ints, got {value}"))
    if any(number < least for number in numbers):
        raise at_user_line(ValueError(f"{name}: expected {what} of at least {least}, got {value}"))
    return numbers


def batched(name: str, x: Tensor, count: int) -> tuple[Tensor, bool]:
    """``(N, C, …)`` of ``count`` axes after the channels, and whether the batch axis was missing."""
    if x.ndim == count + 1:
        return manipulation.expand_dims(x, 0), True
    if x.ndim != count + 2:
        message = (
            f"Expected {count + 1}D (unbatched) or {count + 2}D (batched) input to {name}, but got input of size: "
            f"{list(x.shape)}"
        )
        raise at_user_line(RuntimeError(message))
    return x, False


def windows(x: Tensor, axis: int, size: int, stride: int, dilation: int, count: int) -> list[Tensor]:
    """For each position of a window that slides along ``axis``: its elements at the ``count`` places of the window."""
    before = (slice(None),) * axis
    starts = (offset * dilation for offset in range(size))
    return [x[(*before, slice(start, start + (count - 1) * stride + 1, stride))] for start in starts]


def _checked_operands(name: str, count: int, input: Any, weight: Any, bias: Any) -> tuple[Tensor, Tensor, bool]:
    x, w = operands(name, as_tensor(input, name), as_tensor(weight, name))
    x, unbatched = batched(name, x, count)
    if w.ndim != count + 2:
        message = f"{name}: expected a weight of {count + 2} dimensions, got shape {format_shape(w.shape)}"
        raise at_user_line(RuntimeError(message))
    return x, w, unbatched


def _convolution(
    name: str,
    count: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Extents,
    padding: Extents | str,
    dilation: Extents,
    groups: int,
) -> Tensor:
    x, w, unbatched = _checked_operands(name, count, input, weight, bias)
    strides, steps = each_axis(name, "stride", stride, count, 1), each_axis(name, "dilation", dilation, count, 1)
    channels, outputs, kernel = x.shape[1], w.shape[0], w.shape[2:]
    if groups <= 0 or outputs % groups or channels != w.shape[1] * groups:
        message = (
            f"Given groups={groups}, weight of size {list(w.shape)}, expected input{list(x.shape)} to have "
            f"{w.shape[1] * groups} channels, but got {channels} channels instead"
        )
        raise at_user_line(RuntimeError(message))
    pads = _paddings(name, padding, kernel, strides, steps)
    padded = [extent + sum(pad) for extent, pad in zip(x.shape[2:], pads, strict=True)]
    spans = [step * (size - 1) + 1 for step, size in zip(steps, kernel, strict=True)]
    if any(span > extent for span, extent in zip(spans, padded, strict=True)):
        message = (
            f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
            f"({' x '.join(map(str, spans))}). Kernel size can't be greater than actual input size"
        )
        raise at_user_line(RuntimeError(message))
    if any(map(any, pads)):
        x = manipulation.pad(x, [(0, 0), (0, 0), *pads])
    return _finished(_applied(x, w, strides, steps, groups), bias, unbatched)


def _applied(x: Tensor, w: Tensor, strides: Sequence[int], steps: Sequence[int], groups: int) -> Tensor:
    attributes = {"strides": tuple(strides), "dilations": tuple(steps), "groups": groups}
    return apply(convolution.convolution, (x, w), attributes)


def _finished(result: Tensor, bias: Any, unbatched: bool) -> Tensor:
    if bias is not None:
        result = result + manipulation.reshape(as_tensor(bias, "bias"), (-1, *[1] * (result.ndim - 2)))
    return manipulation.squeeze(result, 0) if unbatched else result


def _paddings(
    name: str, padding: Extents | str, kernel: Sequence[int], strides: Sequence[int], steps: Sequence[int]
) -> list[tuple[int, int]]:
    """How much is added before and after each axis."""
    if not isinstance(padding, str):
        return [(amount, amount) for amount in each_axis(name, "padding", padding, len(kernel))]
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding != "same":
        raise at_user_line(ValueError(f"Invalid padding string {padding!r}, should be one of 'valid', 'same'"))
    if any(stride != 1 for stride in strides):
        raise at_user_line(ValueError("padding='same' is not supported for strided convolutions"))
    totals = [step * (size - 1) for step, size in zip(steps, kernel, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _transposed(
    name: str,
    count: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Extents,
    padding: Extents,
    output_padding: Extents,
    groups: int,
    dilation: Extents,
) -> Tensor:
    x, w, unbatched = _checked_operands(name, count, input, weight, bias)
    strides, steps = each_axis(name, "stride", stride, count, 1), each_axis(name, "dilation", dilation, count, 1)
    pads = each_axis(name, "padding", padding, count)
    extras = each_axis(name, "output_padding", output_padding, count)
    channels, kernel = x.shape[1], w.shape[2:]
    if w.shape[0] != channels or groups <= 0 or channels % groups:
        message = (
            f"Given transposed=1, weight of size {list(w.shape)}, expected input{list(x.shape)} to have "
            f"{w.shape[0]} channels, but got {channels} channels instead"
        )
        raise at_user_line(RuntimeError(message))
    if any(extra >= max(by, step) for extra, by, step in zip(extras, strides, steps, strict=True)):
        message = f"output padding must be smaller than either stride or dilation, but got output_padding={extras}"
        raise at_user_line(RuntimeError(message))
    sizes = [
        (extent - 1) * stride - 2 * pad + step * (size - 1) + extra + 1
        for extent, stride, pad, step, size, extra in zip(
            x.shape[2:], strides, pads, steps, kernel, extras, strict=True
        )
    ]  # fmt: skip
    if any(size <= 0 for size in sizes):
        raise at_user_line(RuntimeError(f"{name}: the calculated output size is not positive: {sizes}"))
    whole = [size + pad + max(pad - extra, 0) for size, pad, extra in zip(sizes, pads, extras, strict=True)]
    result = convolution.adjoint(tensor_emitter(), x, w, tuple(whole), strides, steps, groups)
    if any(pads):
        box = (slice(pad, pad + size) for pad, size in zip(pads, sizes, strict=True))
        result = result[(slice(None), slice(None), *box)]
    return _finished(result, bias, unbatched)


def folded(x: Tensor, window: int, axis: int, stride: int, dilation: int, padding: int, extra: int) -> Tensor:
    """The sum of overlapping windows: ``window`` is the axis within them, ``axis`` theirs once that has gone."""
    size, count = x.shape[window], x.shape[axis + 1]
    span = (count - 1) * stride + 1
    length = span + dilation * (size - 1)
    zero = creation.zeros((), dtype=x.dtype)
    total: Tensor | None = None
    for offset in range(size):
        part = manipulation.squeeze(x[(*[slice(None)] * window, slice(offset, offset + 1))], window)
        low, high, interior = ([0] * part.ndim for _ in range(3))
        low[axis], interior[axis] = offset * dilation, stride - 1
        high[axis] = length - low[axis] - span
        if low[axis] or high[axis] or stride > 1:
            attributes = {"low": tuple(low), "high": tuple(high), "interior": tuple(interior)}
            part = apply(placement.pad, (part, zero), attributes)
        total = part if total is None else total + part
    assert total is not None
    end = length - padding + extra
    if end > length:
        total = manipulation.pad(total, [(0, end - length if i == axis else 0) for i in range(total.ndim)])
    if end <= padding:
        raise at_user_line(RuntimeError(f"conv_transpose: the calculated output size is not positive: {end - padding}"))
    return total[(*[slice(None)] * axis, slice(padding, end))]
