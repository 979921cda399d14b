"""Pooling, as modules; :mod:`.functional` says what each computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..tensor import Tensor
from . import functional
from .functional.convolution import Extents, each_axis
from .functional.pooling import OutputSize
from .module import Module


class _Pool(Module):
    """``_function`` is the function that the layer stands for."""

    _function: ClassVar[Callable[..., Any]]


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Extents,
        stride: Extents | None = None,
        padding: Extents = 0,
        dilation: Extents = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Any) -> Any:
        """``(N, C, …)`` or ``(C, …)`` → the same with shorter axes, and their indices with ``return_indices``."""
        windows = (self.kernel_size, self.stride, self.padding, self.dilation)
        return type(self)._function(input, *windows, self.ceil_mode, self.return_indices)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest element of each window of ``(N, C, L)`` or ``(C, L)``; see :func:`.functional.max_pool1d`."""

    _function = staticmethod(functional.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest element of each window of ``(N, C, H, W)`` or ``(C, H, W)``; see :func:`.functional.max_pool1d`.

    >>> import tracejit as tj
    >>> MaxPool2d(2)(tj.arange(8, dtype=tj.float32).reshape(1, 2, 4))
    tensor([[[5., 7.]]])
    """

    _function = staticmethod(functional.max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest element of each window of ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    _function = staticmethod(functional.max_pool3d)


class _MaxUnpool(_Pool):
    _axes: ClassVar[int]

    def __init__(self, kernel_size: Extents, stride: Extents | None = None, padding: Extents = 0) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = each_axis(name, "kernel_size", kernel_size, self._axes, 1)
        self.stride = self.kernel_size if stride is None else each_axis(name, "stride", stride, self._axes, 1)
        self.padding = each_axis(name, "padding", padding, self._axes)

    def forward(self, input: Any, indices: Any, output_size: Sequence[int] | None = None) -> Tensor:
        """``(N, C, …)`` or ``(C, …)``, twice → the same with longer axes."""
        return type(self)._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Undoes :class:`MaxPool1d`, with zeros for what is lost; see :func:`.functional.max_unpool1d`.

    >>> import tracejit as tj
    >>> pool, unpool = MaxPool1d(2, return_indices=True), MaxUnpool1d(2)
    >>> unpool(*pool(tj.tensor([[1.0, 3.0, 2.0, 0.0]])))
    tensor([[0., 3., 2., 0.]])
    """

    _axes = 1
    _function = staticmethod(functional.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """Undoes :class:`MaxPool2d`, with zeros for what is lost."""

    _axes = 2
    _function = staticmethod(functional.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """Undoes :class:`MaxPool3d`, with zeros for what is lost."""

    _axes = 3
    _function = staticmethod(functional.max_unpool3d)


class _AvgPool(_Pool):
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

    def forward(self, input: Any) -> Tensor:
        """``(N, C, …)`` or ``(C, …)`` → the same with shorter axes."""
        return type(self)._function(input, *self._settings())

    def _settings(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of ``(N, C, L)`` or ``(C, L)``; see :func:`.functional.avg_pool1d`."""

    _function = staticmethod(functional.avg_pool1d)

    def extra_repr(self) -> str:
        shown = (each_axis("", name, getattr(self, name), 1) for name in ("kernel_size", "stride", "padding"))
        return "kernel_size={}, stride={}, padding={}".format(*shown)


class AvgPool2d(_AvgPool):
    """The mean of each window of ``(N, C, H, W)`` or ``(C, H, W)``; see :func:`.functional.avg_pool1d`.

    >>> import tracejit as tj
    >>> AvgPool2d(2)(tj.arange(8, dtype=tj.float32).reshape(1, 2, 4))
    tensor([[[2.5, 4.5]]])
    """

    _function = staticmethod(functional.avg_pool2d)

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

    def _settings(self) -> tuple[Any, ...]:
        return *super()._settings(), self.divisor_override


class AvgPool3d(AvgPool2d):
    """The mean of each window of ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    _function = staticmethod(functional.avg_pool3d)


class _PowerPool(_Pool):
    def __init__(
        self, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Any) -> Tensor:
        """``(N, C, …)`` or ``(C, …)`` → the same with shorter axes."""
        return type(self)._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_PowerPool):
    """The norm of each window of ``(N, C, L)`` or ``(C, L)``; see :func:`.functional.lp_pool1d`."""

    _function = staticmethod(functional.lp_pool1d)


class LPPool2d(_PowerPool):
    """The norm of each window of ``(N, C, H, W)`` or ``(C, H, W)``."""

    _function = staticmethod(functional.lp_pool2d)


class LPPool3d(_PowerPool):
    """The norm of each window of ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    _function = staticmethod(functional.lp_pool3d)


class _AdaptiveAvgPool(_Pool):
    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> Tensor:
        """``(N, C, …)`` or ``(C, …)`` → the same with the extents ``output_size``."""
        return type(self)._function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of ``output_size`` parts; see :func:`.functional.adaptive_avg_pool1d`."""

    _function = staticmethod(functional.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of ``output_size`` parts; see :func:`.functional.adaptive_avg_pool1d`.

    >>> import tracejit as tj
    >>> AdaptiveAvgPool2d((1, 2))(tj.arange(8, dtype=tj.float32).reshape(1, 2, 4))
    tensor([[[2.5, 4.5]]])
    """

    _function = staticmethod(functional.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of ``output_size`` parts of ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    _function = staticmethod(functional.adaptive_avg_pool3d)


class _AdaptiveMaxPool(_Pool):
    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Any) -> Any:
        """``(N, C, …)`` or ``(C, …)`` → the same with the extents ``output_size``."""
        return type(self)._function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of ``output_size`` parts."""

    _function = staticmethod(functional.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of ``output_size`` parts."""

    _function = staticmethod(functional.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of ``output_size`` parts of ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    _function = staticmethod(functional.adaptive_max_pool3d)


__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d",
    "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]  # fmt: skip
