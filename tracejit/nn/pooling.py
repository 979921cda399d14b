"""Pooling, as modules; :mod:`.functional` says what each computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor
from . import functional
from .functional.convolution import Extents
from .module import Module


class _MaxPool(Module):
    def __init__(
        self,
        kernel_size: Extents,
        stride: Extents | None = None,
        padding: Extents = 0,
        dilation: Extents = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest element of each window; see :func:`.functional.max_pool1d`."""

    def forward(self, input: Any) -> Tensor:
        """``(N, C, L)`` or ``(C, L)`` → the same with ``L'``."""
        return functional.max_pool1d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class MaxPool2d(_MaxPool):
    """The largest element of each window; see :func:`.functional.max_pool1d`.

    >>> import tracejit as tj
    >>> MaxPool2d(2)(tj.arange(8, dtype=tj.float32).reshape(1, 2, 4))
    tensor([[[5., 7.]]])
    """

    def forward(self, input: Any) -> Tensor:
        """``(N, C, H, W)`` or ``(C, H, W)`` → the same with ``H'`` and ``W'``."""
        return functional.max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class _AvgPool(Module):
    def __init__(
        self,
        kernel_size: Extents,
        stride: Extents | None = None,
        padding: Extents = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window; see :func:`.functional.avg_pool1d`."""

    def forward(self, input: Any) -> Tensor:
        """``(N, C, L)`` or ``(C, L)`` → the same with ``L'``."""
        return functional.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class AvgPool2d(_AvgPool):
    """The mean of each window; see :func:`.functional.avg_pool1d`.

    >>> import tracejit as tj
    >>> AvgPool2d(2)(tj.arange(8, dtype=tj.float32).reshape(1, 2, 4))
    tensor([[[2.5, 4.5]]])
    """

    def __init__(
        self,
        kernel_size: Extents,
        stride: Extents | None = None,
        padding: Extents = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Tensor:
        """``(N, C, H, W)`` or ``(C, H, W)`` → the same with ``H'`` and ``W'``."""
        return functional.avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip


class _AdaptivePool(Module):
    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """The means of ``output_size`` parts; see :func:`.functional.adaptive_avg_pool1d`."""

    def forward(self, input: Any) -> Tensor:
        """``(N, C, L)`` or ``(C, L)`` → the same with the extent ``output_size``."""
        return functional.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptivePool):
    """The means of ``output_size`` parts; see :func:`.functional.adaptive_avg_pool1d`.

    >>> import tracejit as tj
    >>> AdaptiveAvgPool2d((1, 2))(tj.arange(8, dtype=tj.float32).reshape(1, 2, 4))
    tensor([[[2.5, 4.5]]])
    """

    def forward(self, input: Any) -> Tensor:
        """``(N, C, H, W)`` or ``(C, H, W)`` → the same with the extents ``output_size``."""
        return functional.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveMaxPool1d(_AdaptivePool):
    """The largest elements of ``output_size`` parts."""

    def forward(self, input: Any) -> Tensor:
        """``(N, C, L)`` or ``(C, L)`` → the same with the extent ``output_size``."""
        return functional.adaptive_max_pool1d(input, self.output_size)


class AdaptiveMaxPool2d(_AdaptivePool):
    """The largest elements of ``output_size`` parts."""

    def forward(self, input: Any) -> Tensor:
        """``(N, C, H, W)`` or ``(C, H, W)`` → the same with the extents ``output_size``."""
        return functional.adaptive_max_pool2d(input, self.output_size)


__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AvgPool1d", "AvgPool2d",
    "MaxPool1d", "MaxPool2d",
]  # fmt: skip
