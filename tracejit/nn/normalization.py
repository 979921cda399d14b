"""Normalization layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..device import check
from ..locations import at_user_line
from ..ops import creation
from ..tensor import Parameter, Tensor
from . import functional
from .module import Module


class LayerNorm(Module):
    """The last axes, of shape ``normalized_shape``, brought to mean 0 and variance 1; then ``weight`` and ``bias``.

    >>> import tracejit as tj
    >>> LayerNorm(2)(tj.tensor([[1.0, 3.0]])).detach()
    tensor([[-1.,  1.]])
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(creation.ones(shape, dtype=dtype)) if elementwise_affine else None
        self.bias = Parameter(creation.zeros(shape, dtype=dtype)) if elementwise_affine and bias else None

    def forward(self, input: Any) -> Tensor:
        """``(…, *normalized_shape)`` → the same shape."""
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """The last axes, of shape ``normalized_shape``, divided by the root of their mean square; then ``weight``.

    >>> import tracejit as tj
    >>> RMSNorm(2)(tj.tensor([[1.0, 7.0]])).detach()
    tensor([[0.2, 1.4]])
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = Parameter(creation.ones(shape, dtype=dtype)) if elementwise_affine else None

    def forward(self, input: Any) -> Tensor:
        """``(…, *normalized_shape)`` → the same shape."""
        return functional.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """The channels in ``num_groups`` groups, each brought to mean 0 and variance 1 in each sample.

    >>> import tracejit as tj
    >>> GroupNorm(2, 4)(tj.tensor([[1.0, 3.0, 2.0, 6.0]])).detach()
    tensor([[-1.,  1., -1.,  1.]])
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        if num_channels % num_groups:
            message = f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})"
            raise at_user_line(ValueError(message))
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = Parameter(creation.ones(num_channels, dtype=dtype)) if affine else None
        self.bias = Parameter(creation.zeros(num_channels, dtype=dtype)) if affine and bias else None

    def forward(self, input: Any) -> Tensor:
        """``(N, num_channels, …)`` → the same shape."""
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LocalResponseNorm(Module):
    """Each element divided by the size of those in the channels around; see :func:`.functional.local_response_norm`."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Tensor:
        """``(N, C, …)`` → the same shape."""
        return functional.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


__all__ = ["GroupNorm", "LayerNorm", "LocalResponseNorm", "RMSNorm"]
