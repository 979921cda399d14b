"""Batch normalization."""

from __future__ import annotations

from typing import Any, ClassVar

from ..autograd.modes import no_grad
from ..device import check
from ..locations import at_user_line
from ..ops import creation, elementwise
from ..tensor import Parameter, Tensor
from . import functional
from .module import Module


class _BatchNorm(Module):
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ranks: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = Parameter(creation.ones(num_features, dtype=dtype)) if affine else None
        self.bias = Parameter(creation.zeros(num_features, dtype=dtype)) if affine else None
        self.register_buffer("running_mean", creation.zeros(num_features, dtype=dtype) if track_running_stats else None)
        self.register_buffer("running_var", creation.ones(num_features, dtype=dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", creation.tensor(0) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Forget the batches seen."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Start anew."""
        self.reset_running_stats()
        with no_grad():
            if self.weight is not None:
                self.weight.fill_(1)
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, input: Any) -> Tensor:
        """``(N, num_features, …)`` → the same shape."""
        if input.ndim not in self._ranks:
            expected = " or ".join(f"{rank}D" for rank in self._ranks)
            raise at_user_line(ValueError(f"expected {expected} input (got {input.ndim}D input)"))
        if input.shape[1] != self.num_features:
            message = f"running_mean should contain {input.shape[1]} elements not {self.num_features}"
            raise at_user_line(RuntimeError(message))
        momentum: Any = self.momentum
        tracked = self.num_batches_tracked
        if self.training and tracked is not None:
            tracked.add_(1)
            if momentum is None:  # the mean of all batches
                momentum = 1 / elementwise.astype(tracked, input.dtype)
        keeps = self.training or self.running_mean is None
        running = (self.running_mean, self.running_var)
        return functional.batch_norm(input, *running, self.weight, self.bias, keeps, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Each channel of ``(N, C)`` or ``(N, C, L)`` brought to mean 0 and variance 1; see :func:`.functional.batch_norm`.

    In training by the batch's statistics, which also move the running ones: a new value counts ``momentum``
    (``None``: all batches count the same).  In evaluation mode by the running ones.

    >>> import tracejit as tj
    >>> layer = BatchNorm1d(1)
    >>> layer(tj.tensor([[1.0], [3.0]])).detach()
    tensor([[-1.],
            [ 1.]])
    >>> layer.running_mean
    tensor([0.2])
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """As :class:`BatchNorm1d` for ``(N, C, H, W)``."""

    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """As :class:`BatchNorm1d` for ``(N, C, D, H, W)``."""

    _ranks = (5,)


__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]
