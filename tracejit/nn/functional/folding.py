"""Unfold and fold: all windows of an image side by side, and their sum put back."""

from __future__ import annotations

import math
from typing import Any

from ...locations import at_user_line
from ...ops import manipulation
from ...promotion import as_tensor
from ...tensor import Tensor
from .convolution import Extents, batched, each_axis, folded, windows


def unfold(
    input: Any, kernel_size: Extents, dilation: Extents = 1, padding: Extents = 0, stride: Extents = 1
) -> Tensor:
    """The windows that slide over ``(N, C, H, W)``, as columns: ``(N, C K, L)`` for windows of ``K`` elements.

    >>> import tracejit as tj
    >>> unfold(tj.arange(6.0).reshape(1, 1, 2, 3), 2)
    tensor([[[0., 1.],
             [1., 2.],
             [3., 4.],
             [4., 5.]]])
    """
    x, unbatched = batched("unfold", as_tensor(input, "unfold"), 2)
    sizes, steps = (
        each_axis("unfold", "kernel_size", kernel_size, 2, 1),
        each_axis("unfold", "dilation", dilation, 2, 1),
    )
    pads, strides = each_axis("unfold", "padding", padding, 2), each_axis("unfold", "stride", stride, 2, 1)
    counts = _counts(x.shape[2:], sizes, steps, pads, strides)
    if min(counts) < 1:
        message = (
            f"Given input with spatial size {x.shape[2:]}, kernel_size={sizes}, dilation={steps}, padding={pads}, "
            f"stride={strides}, calculated shape of the array of sliding blocks as {tuple(counts)}, but its components "
            "must be at least one."
        )
        raise at_user_line(RuntimeError(message))
    if any(pads):
        x = manipulation.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in pads)])
    for i in range(2):
        x = manipulation.stack(windows(x, 2 + 2 * i, sizes[i], strides[i], steps[i], counts[i]), axis=2 + i)
    result = manipulation.reshape(x, (x.shape[0], x.shape[1] * math.prod(sizes), math.prod(counts)))
    return manipulation.squeeze(result, 0) if unbatched else result


def fold(
    input: Any,
    output_size: Extents,
    kernel_size: Extents,
    dilation: Extents = 1,
    padding: Extents = 0,
    stride: Extents = 1,
) -> Tensor:
    """The adjoint of :func:`unfold`: ``(N, C K, L)`` → ``(N, C, *output_size)``, sums where windows overlap.

    >>> import tracejit as tj
    >>> fold(tj.ones(1, 4, 2), (2, 3), 2)
    tensor([[[[1., 2., 1.],
              [1., 2., 1.]]]])
    """
    x = as_tensor(input, "fold")
    if x.ndim not in (2, 3):
        message = f"Expected 2D or 3D (batch mode) tensor for input, but got input of size: {list(x.shape)}"
        raise at_user_line(RuntimeError(message))
    unbatched = x.ndim == 2
    x = manipulation.expand_dims(x, 0) if unbatched else x
    sizes, steps = each_axis("fold", "kernel_size", kernel_size, 2, 1), each_axis("fold", "dilation", dilation, 2, 1)
    pads, strides = each_axis("fold", "padding", padding, 2), each_axis("fold", "stride", stride, 2, 1)
    extents = each_axis("fold", "output_size", output_size, 2, 1)
    counts = _counts(extents, sizes, steps, pads, strides)
    area = math.prod(sizes)
    if x.shape[1] % area:
        message = "Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
        raise at_user_line(RuntimeError(f"{message}input.size(1)={x.shape[1]} and kernel_size={sizes}."))
    if x.shape[2] != math.prod(counts) or min(counts) < 1:
        message = (
            f"Given output_size={extents}, kernel_size={sizes}, dilation={steps}, padding={pads}, stride={strides}, "
            f"expected size of input's dimension 2 to match the calculated number of sliding blocks {counts[0]} * "
            f"{counts[1]} = {math.prod(counts)}, but got input.size(2)={x.shape[2]}."
        )
        raise at_user_line(RuntimeError(message))
    x = manipulation.reshape(x, (x.shape[0], x.shape[1] // area, *sizes, *counts))
    for i in (1, 0):
        reached = (counts[i] - 1) * strides[i] + steps[i] * (sizes[i] - 1) + 1
        extra = extents[i] + 2 * pads[i] - reached
        x = folded(x, 2 + i, 2 + 2 * i, strides[i], steps[i], pads[i], extra)
    return manipulation.squeeze(x, 0) if unbatched else x


def _counts(extents: Any, sizes: Any, steps: Any, pads: Any, strides: Any) -> list[int]:
    """How many windows there are along each axis."""
    rows = zip(extents, sizes, steps, pads, strides, strict=True)
    return [(extent + 2 * pad - step * (size - 1) - 1) // by + 1 for extent, size, step, pad, by in rows]
