"""Convolutions, as modules; :mod:`.functional` says what each computes."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..device import check
from ..locations import at_user_line
from ..ops import creation
from ..tensor import Parameter, Tensor
from . import functional, init
from .functional.convolution import Extents, each_axis
from .functional.padding import padded_by_copies
from .module import Module

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    weight: Parameter
    bias: Parameter | None
    _axes: ClassVar[int]
    _transposed: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extents,
        stride: Extents = 1,
        padding: Extents | str = 0,
        dilation: Extents = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        self._check_settings(in_channels, out_channels, groups, padding_mode, padding, stride)
        name = type(self).__name__
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = each_axis(name, "kernel_size", kernel_size, self._axes, 1)
        self.stride = each_axis(name, "stride", stride, self._axes, 1)
        self.padding = padding if isinstance(padding, str) else each_axis(name, "padding", padding, self._axes)
        self.dilation = each_axis(name, "dilation", dilation, self._axes, 1)
        self.output_padding = (0,) * self._axes
        self.padding_mode = padding_mode
        rows, columns = (in_channels, out_channels) if self._transposed else (out_channels, in_channels)
        self.weight = Parameter(creation.empty((rows, columns // groups, *self.kernel_size), dtype=dtype))
        self.bias = Parameter(creation.empty(out_channels, dtype=dtype)) if bias else None
        self.reset_parameters()

    def _check_settings(
        self, in_channels: int, out_channels: int, groups: int, padding_mode: str, padding: Any, stride: Any
    ) -> None:
        problem = ""
        if isinstance(padding, str) and padding not in ("same", "valid"):
            problem = f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}"
        elif padding == "same" and stride not in (1, (1,) * self._axes, [1] * self._axes):
            problem = "padding='same' is not supported for strided convolutions"
        elif groups <= 0:
            problem = "groups must be a positive integer"
        elif in_channels % groups:
            problem = "in_channels must be divisible by groups"
        elif out_channels % groups:
            problem = "out_channels must be divisible by groups"
        elif padding_mode not in _PADDING_MODES:
            problem = f"padding_mode must be one of {set(_PADDING_MODES)}, but got padding_mode={padding_mode!r}"
        elif self._transposed and padding_mode != "zeros":
            problem = f'Only "zeros" padding mode is supported for {type(self).__name__}'
        if problem:
            raise at_user_line(ValueError(problem))

    def reset_parameters(self) -> None:
        """Draw the starting values anew: uniform in ``±1 / sqrt(fan in)``."""
        if self.weight.size == 0:
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight.shape[1] * math.prod(self.kernel_size))
            init.uniform_(self.bias, -bound, bound)

    def _padded(self, input: Any) -> tuple[Any, Any]:
        """The input padded as ``padding_mode`` says, and the padding that is left for the convolution."""
        if self.padding_mode == "zeros":
            return input, self.padding
        pads: list[tuple[int, int]] = []
        for axis in range(self._axes):
            if isinstance(self.padding, str):
                total = self.dilation[axis] * (self.kernel_size[axis] - 1) if self.padding == "same" else 0
                pads.append((total // 2, total - total // 2))
            else:
                pads.append((self.padding[axis], self.padding[axis]))
        return padded_by_copies(input, pads, self.padding_mode), 0

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        if self.padding not in ((0,) * self._axes, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self._axes:
            parts.append(f"dilation={self.dilation}")
        if self.output_padding != (0,) * self._axes:
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Convolution):
    """A convolution of ``(N, C, L)``; ``weight`` has shape ``(out_channels, in_channels / groups, kernel_size)``.

    >>> import tracejit as tj
    >>> layer = Conv1d(2, 4, 3, padding=1)
    >>> layer(tj.ones(5, 2, 8)).shape
    (5, 4, 8)
    """

    _axes = 1

    def forward(self, input: Any) -> Tensor:
        """``(N, in_channels, L)`` → ``(N, out_channels, L')``."""
        x, padding = self._padded(input)
        return functional.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Convolution):
    """A convolution of ``(N, C, H, W)``; ``weight`` has shape ``(out_channels, in_channels / groups, *kernel_size)``.

    >>> import tracejit as tj
    >>> layer = Conv2d(3, 4, 3, stride=2, padding=1)
    >>> layer(tj.ones(5, 3, 8, 8)).shape
    (5, 4, 4, 4)
    >>> layer
    Conv2d(3, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    """

    _axes = 2

    def forward(self, input: Any) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, out_channels, H', W')``."""
        x, padding = self._padded(input)
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(_Convolution):
    """A convolution of ``(N, C, D, H, W)``."""

    _axes = 3

    def forward(self, input: Any) -> Tensor:
        """``(N, in_channels, D, H, W)`` → ``(N, out_channels, D', H', W')``."""
        x, padding = self._padded(input)
        return functional.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _TransposedConvolution(_Convolution):
    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extents,
        stride: Extents = 1,
        padding: Extents = 0,
        output_padding: Extents = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Extents = 1,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self.output_padding = each_axis(type(self).__name__, "output_padding", output_padding, self._axes)

    def forward(self, input: Any) -> Tensor:
        """``(N, in_channels, …)`` → ``(N, out_channels, …)``."""
        function = getattr(functional, f"conv_transpose{self._axes}d")
        return function(
            input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose1d(_TransposedConvolution):
    """The adjoint of :class:`Conv1d`; ``weight`` has shape ``(in_channels, out_channels / groups, kernel_size)``.

    >>> import tracejit as tj
    >>> ConvTranspose1d(4, 2, 3, stride=2)(tj.ones(5, 4, 8)).shape
    (5, 2, 17)
    """

    _axes = 1


class ConvTranspose2d(_TransposedConvolution):
    """The adjoint of :class:`Conv2d`; ``weight`` has shape ``(in_channels, out_channels / groups, *kernel_size)``.

    >>> import tracejit as tj
    >>> layer = ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1)
    >>> layer(tj.ones(5, 4, 8, 8)).shape
    (5, 2, 16, 16)
    """

    _axes = 2


class ConvTranspose3d(_TransposedConvolution):
    """The adjoint of :class:`Conv3d`."""

    _axes = 3


__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
