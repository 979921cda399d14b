"""Normalization, as functions: reductions along rows and elementwise operations, one kernel when compiled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

from ml_dtypes import finfo

from tracejit.ir.types import format_shape

from ...autograd.modes import no_grad
from ...locations import at_user_line
from ...ops import elementwise, manipulation, reduction as reductions
from ...promotion import as_tensor, promote_dtypes
from ...tensor import Tensor


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """The last axes, of shape ``normalized_shape``, brought to mean 0 and variance 1; then ``weight`` and ``bias``.

    >>> import tracejit as tj
    >>> layer_norm(tj.tensor([[1.0, 3.0]]), 2)
    tensor([[-1.,  1.]])
    """
    dtype, x, weight, bias = _widened("layer_norm", input, weight, bias)
    axes = _axes_of(x, normalized_shape)
    centered = x - reductions.mean(x, axes, keepdims=True)
    variance = reductions.mean(centered * centered, axes, keepdims=True)
    result = centered * elementwise.rsqrt(variance + eps)
    if weight is not None:
        result = result * weight
    return elementwise.astype(result if bias is None else result + bias, dtype)


def _widened(name: str, *given: Any) -> list[Any]:
    """The dtype of what comes out, and what goes in: halves as float32, for the result is to be rounded once."""
    tensors = [None if item is None else as_tensor(item, name) for item in given]
    dtype = reduce(promote_dtypes, [tensor.dtype for tensor in tensors if tensor is not None])
    return [dtype, *(None if tensor is None else reductions.widened(tensor) for tensor in tensors)]


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """The last axes, of shape ``normalized_shape``, divided by the root of their mean square; then ``weight``.

    ``eps`` is the dtype's epsilon if ``None``.

    >>> import tracejit as tj
    >>> rms_norm(tj.tensor([[1.0, 7.0]]), 2)
    tensor([[0.2, 1.4]])
    """
    dtype, x, weight = _widened("rms_norm", input, weight)
    axes = _axes_of(x, normalized_shape)
    if eps is None:
        eps = float(finfo(as_tensor(input, "rms_norm").dtype).eps)
    result = x * elementwise.rsqrt(reductions.mean(x * x, axes, keepdims=True) + eps)
    return elementwise.astype(result if weight is None else result * weight, dtype)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Each group of channels of each sample brought to mean 0 and variance 1: ``(N, C, …)`` → the same shape.

    ``weight`` and ``bias``, of shape ``(C,)``, then scale and shift the channels.

    >>> import tracejit as tj
    >>> group_norm(tj.tensor([[1.0, 3.0, 2.0, 6.0]]), 2)
    tensor([[-1.,  1., -1.,  1.]])
    """
    x = as_tensor(input, "group_norm")
    if x.ndim < 2:
        raise at_user_line(RuntimeError(f"Expected at least 2 dimensions for input tensor but received {x.ndim}"))
    if x.shape[1] % num_groups:
        message = "Expected number of channels in input to be divisible by num_groups, but got input of shape "
        raise at_user_line(RuntimeError(f"{message}{list(x.shape)} and num_groups={num_groups}"))
    if x.size == num_groups:
        message = f"Expected more than 1 value per channel when training, got input size {list(x.shape)}"
        raise at_user_line(ValueError(message))
    rows = manipulation.reshape(x, (x.shape[0], num_groups, *((-1,) if x.size else (0,))))
    centered = rows - reductions.mean(rows, -1, keepdims=True)
    variance = reductions.mean(centered * centered, -1, keepdims=True)
    result = manipulation.reshape(centered * elementwise.rsqrt(variance + eps), x.shape)
    return _scaled_channels(result, weight, bias)


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel brought to mean 0 and variance 1 over the batch: ``(N, C)`` or ``(N, C, …)`` → the same shape.

    In training (or without running statistics) the batch's own mean and biased variance are used, and the running ones
    become ``(1 - momentum) * running + momentum * batch``, the variance unbiased, in place.  Otherwise the
    running ones are used.  ``weight`` and ``bias``, of shape ``(C,)``, then scale and shift the channels.

    >>> import tracejit as tj
    >>> mean, var = tj.zeros(1), tj.ones(1)
    >>> batch_norm(tj.tensor([[1.0], [3.0]]), mean, var, training=True, momentum=0.5)
    tensor([[-1.],
            [ 1.]])
    >>> mean, var
    (tensor([1.]), tensor([1.5]))
    """
    x = as_tensor(input, "batch_norm")
    if not training:
        if running_mean is None or running_var is None:
            raise at_user_line(RuntimeError("Expected running_mean and running_var to be defined when training=False"))
        centered = x - _as_channels(running_mean, x.ndim)
        result = centered * elementwise.rsqrt(_as_channels(running_var, x.ndim) + eps)
        return _scaled_channels(result, weight, bias)
    if x.ndim < 2:
        raise at_user_line(ValueError(f"batch_norm: needs (N, C) or (N, C, …), got {format_shape(x.shape)}"))
    count = x.size // max(x.shape[1], 1)
    if count == 1:
        message = f"Expected more than 1 value per channel when training, got input size {list(x.shape)}"
        raise at_user_line(ValueError(message))
    axes = (0, *range(2, x.ndim))
    mean = reductions.mean(x, axes, keepdims=True)
    centered = x - mean
    variance = reductions.mean(centered * centered, axes, keepdims=True)
    if x.size:
        with no_grad():
            _move_running(running_mean, mean, momentum)
            _move_running(running_var, variance * (count / (count - 1)), momentum)
    return _scaled_channels(centered * elementwise.rsqrt(variance + eps), weight, bias)


def instance_norm(
    input: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As :func:`batch_norm`, with a mean and a variance for each sample of its own: ``(N, C, …)`` → the same shape.

    The running statistics move towards the means over the batch.

    >>> import tracejit as tj
    >>> instance_norm(tj.tensor([[[1.0, 3.0]], [[2.0, 6.0]]]))
    tensor([[[-1.,  1.]],
    <BLANKLINE>
            [[-1.,  1.]]])
    """
    x = as_tensor(input, "instance_norm")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            message = "Expected running_mean and running_var to be defined when use_input_stats is false"
            raise at_user_line(RuntimeError(message))
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    area = math.prod(x.shape[2:])
    if area == 1:
        message = f"Expected more than 1 spatial element when training, got input size {list(x.shape)}"
        raise at_user_line(ValueError(message))
    axes = tuple(range(2, x.ndim))
    mean = reductions.mean(x, axes, keepdims=True)
    centered = x - mean
    variance = reductions.mean(centered * centered, axes, keepdims=True)
    if x.size:
        with no_grad():
            _move_running(running_mean, reductions.mean(mean, 0), momentum)
            _move_running(running_var, reductions.mean(variance * (area / (area - 1)), 0), momentum)
    return _scaled_channels(centered * elementwise.rsqrt(variance + eps), weight, bias)


def _move_running(running: Tensor | None, batch: Tensor, momentum: Any) -> None:
    """A running statistic moved towards the batch's, in place."""
    if running is not None:
        latest = elementwise.astype(manipulation.reshape(batch, running.shape), running.dtype)
        running.copy_((1 - momentum) * running + momentum * latest)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Each element divided by ``(k + alpha * m) ** beta``, ``m`` the mean square of ``size`` channels around it.

    ``(N, C, …)`` → the same shape (Krizhevsky et al., 2012); outside of the channels stand zeros.
    """
    x = as_tensor(input, "local_response_norm")
    if x.ndim < 3:
        message = f"Expected 3D or higher dimensionality input (got {x.ndim} dimensions)"
        raise at_user_line(ValueError(message))
    squares = manipulation.pad(x * x, [(0, 0), (size // 2, (size - 1) // 2), *[(0, 0)] * (x.ndim - 2)])
    total, *others = (squares[:, start : start + x.shape[1]] for start in range(size))
    for other in others:
        total = total + other
    return x / elementwise.pow(total * (alpha / size) + k, beta)


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """``input`` divided by its ``p``-norm along ``dim``, or by ``eps`` where that is smaller.

    >>> import tracejit as tj
    >>> normalize(tj.tensor([[3.0, 4.0]]))
    tensor([[0.6, 0.8]])
    """
    x = as_tensor(input, "normalize")
    return x / elementwise.maximum(norm_along(x, p, dim, keepdims=True), eps)


def norm_along(x: Tensor, p: float, dim: int, keepdims: bool = False) -> Tensor:
    """The ``p``-norm along ``dim``, for a ``p`` of 0 how many are not zero; its gradient at zero is zero."""
    if p == 0:
        return reductions.sum(elementwise.astype(elementwise.not_equal(x, 0), x.dtype), dim, keepdims)
    if p == 2:
        total = reductions.sum(x * x, dim, keepdims)
        exponent = 0.5
    elif p == 1:
        return reductions.sum(elementwise.abs(x), dim, keepdims)
    elif p == math.inf:
        return reductions.max(elementwise.abs(x), dim, keepdims)
    else:
        total = reductions.sum(elementwise.pow(elementwise.abs(x), p), dim, keepdims)
        exponent = 1 / p
    zero = elementwise.equal(total, 0)
    return elementwise.where(zero, 0, elementwise.pow(elementwise.where(zero, 1, total), exponent))


def _axes_of(x: Tensor, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The last axes, which must have this shape."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        message = "Expected normalized_shape to be at least 1-dimensional, but got normalized_shape=[]"
        raise at_user_line(RuntimeError(message))
    if x.shape[-len(shape) :] != shape:
        message = (
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[*, {', '.join(map(str, shape))}], but got input of size {list(x.shape)}"
        )
        raise at_user_line(RuntimeError(message))
    return tuple(range(-len(shape), 0))


def _as_channels(x: Any, ndim: int) -> Tensor:
    """A vector in a shape that broadcasts against ``(N, C, …)`` of so many axes."""
    return manipulation.reshape(as_tensor(x, "channels"), (1, -1, *[1] * (ndim - 2)))


def _scaled_channels(x: Tensor, weight: Any, bias: Any) -> Tensor:
    if weight is not None:
        x = x * _as_channels(weight, x.ndim)
    return x if bias is None else x + _as_channels(bias, x.ndim)
