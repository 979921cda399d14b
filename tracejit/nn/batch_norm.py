"""Batch and instance normalization."""

from __future__ import annotations

from typing import Any, ClassVar

from ..autograd.modes import no_grad
from ..device import check
from ..locations import at_user_line, warn_at_user_line
from ..ops import creation, elementwise, manipulation
from ..tensor import Parameter, Tensor
from . import functional
from .module import Module


class _ChannelNorm(Module):
    """Weights and running statistics for each channel."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ranks: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: str | None,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = Parameter(creation.ones(num_features, dtype=dtype)) if affine else None
        self.bias = Parameter(creation.zeros(num_features, dtype=dtype)) if affine and bias else None
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

    def _check_rank(self, input: Any) -> None:
        if input.ndim not in self._ranks:
            expected = " or ".join(f"{rank}D" for rank in self._ranks)
            raise at_user_line(ValueError(f"expected {expected} input (got {input.ndim}D input)"))

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Any) -> Tensor:
        """``(N, num_features, …)`` → the same shape."""
        self._check_rank(input)
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


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Any) -> Tensor:
        """``(N, num_features, …)`` or ``(num_features, …)`` → the same shape."""
        self._check_rank(input)
        unbatched = input.ndim == self._ranks[0]
        channels = input.shape[0 if unbatched else 1]
        if channels != self.num_features:
            message = f"expected input's size at dim={0 if unbatched else 1} to match num_features"
            problem = f"{message} ({self.num_features}), but got: {channels}."
            if self.affine:
                raise at_user_line(ValueError(problem))
            warn_at_user_line(
                f"input's size at dim={0 if unbatched else 1} does not match num_features. You can silence "
                "this warning by not passing in num_features, which is not used because affine=False"
            )
        x = manipulation.expand_dims(input, 0) if unbatched else input
        own = self.training or not self.track_running_stats
        running = (self.running_mean, self.running_var)
        momentum = 0.0 if self.momentum is None else self.momentum
        result = functional.instance_norm(x, *running, self.weight, self.bias, own, momentum, self.eps)
        return manipulation.squeeze(result, 0) if unbatched else result


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample of ``(N, C, L)`` or ``(C, L)`` brought to mean 0 and variance 1.

    See :func:`.functional.instance_norm`.  Without ``affine`` there are no weights, without ``track_running_stats``
    the sample's own statistics count in evaluation mode too.

    >>> import tracejit as tj
    >>> InstanceNorm1d(1)(tj.tensor([[[1.0, 3.0]]]))
    tensor([[[-1.,  1.]]])
    """

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """As :class:`InstanceNorm1d` for ``(N, C, H, W)`` or ``(C, H, W)``."""

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """As :class:`InstanceNorm1d` for ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    _ranks = (4, 5)


__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"]
