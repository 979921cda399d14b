"""Filling tensors with starting values, in place; each function returns the tensor.

A weight has the shape ``(out, in, …)``: its *fan in* is the number of inputs that one output is computed from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from sys import getrefcount
from typing import Any, TypeVar

import numpy as np

from tracejit.ir.types import float64

from .. import lost_writes
from ..autograd.modes import no_grad
from ..locations import at_user_line
from ..lost_writes import UNNAMED
from ..ops import arrangement, creation, decompositions, elementwise, manipulation, sorting
from ..random import Generator, default_generator
from ..tensor import Tensor

_GAINS = {"linear": 1.0, "identity": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 3 / 4}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the size of activations through a nonlinearity; ``param`` is leaky_relu's slope.

    >>> calculate_gain("leaky_relu", 0.0) == math.sqrt(2)
    True
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise at_user_line(ValueError(f"Unsupported nonlinearity {nonlinearity}"))
    return _GAINS[nonlinearity]


Function = TypeVar("Function", bound=Callable[..., Tensor])


def _in_place(function: Function) -> Function:
    """The function, with a warning where it fills a slice that nothing holds."""

    @functools.wraps(function)
    def fill(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if getrefcount(tensor) <= UNNAMED:
            lost_writes.look(function.__name__, argument=True)
        return function(tensor, *args, **kwargs)

    return fill  # type: ignore[return-value]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """The fan in and the fan out of a weight."""
    if tensor.ndim < 2:
        message = "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        raise at_user_line(ValueError(message))
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise at_user_line(ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']"))
    return _fans(tensor)[mode == "fan_out"]


@_in_place
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform numbers in ``[a, b)``.

    >>> import tracejit as tj
    >>> w = uniform_(tj.zeros(2, 3), 1.0, 2.0)
    >>> bool((w >= 1.0).all()), bool((w < 2.0).all())
    (True, True)
    """
    with no_grad():
        return tensor.copy_((generator or default_generator).uniform(tensor.shape, a, b, tensor.dtype))


@_in_place
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal numbers of the given mean and standard deviation."""
    with no_grad():
        return tensor.copy_((generator or default_generator).normal(tensor.shape, mean, std, tensor.dtype))


@_in_place
def constant_(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere.

    >>> import tracejit as tj
    >>> constant_(tj.zeros(2), 0.5)
    tensor([0.5, 0.5])
    """
    with no_grad():
        return tensor.fill_(val)


@_in_place
def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


@_in_place
def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


@_in_place
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform, with the variance ``2 gain² / (fan in + fan out)`` (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


@_in_place
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal, with the variance ``2 gain² / (fan in + fan out)`` (Glorot and Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


@_in_place
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform, with the variance ``gain² / fan`` (He et al., 2015); ``a`` is leaky_relu's slope."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


@_in_place
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal, with the variance ``gain² / fan`` (He et al., 2015); ``a`` is leaky_relu's slope."""
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return normal_(tensor, 0.0, std, generator)


@_in_place
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers of the given mean and standard deviation, those outside of ``[a, b]`` left out.

    By the inverse of the distribution function.

    >>> import tracejit as tj
    >>> w = trunc_normal_(tj.zeros(100), std=2.0, a=-1.0, b=1.0)
    >>> bool((abs(w) <= 1).all())
    True
    """

    def below(x: float) -> float:
        return (1 + math.erf((x - mean) / std / math.sqrt(2))) / 2

    unit = (generator or default_generator).uniform(tensor.shape, below(a), below(b), float64)
    with no_grad():
        found = elementwise.erfinv(2 * unit - 1) * (std * math.sqrt(2)) + mean
        return tensor.copy_(elementwise.clip(found, a, b))


@_in_place
def eye_(tensor: Tensor) -> Tensor:
    """The identity, for a matrix.

    >>> import tracejit as tj
    >>> eye_(tj.zeros(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    if tensor.ndim != 2:
        raise at_user_line(ValueError("Only tensors with 2 dimensions are supported"))
    with no_grad():
        rows, columns = tensor.shape
        return tensor.copy_(creation.eye(rows, columns))


@_in_place
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The weight of a convolution that hands on as many channels as it can: ones in the middle of the kernels."""
    if tensor.ndim not in (3, 4, 5):
        raise at_user_line(ValueError("Only tensors with 3, 4, or 5 dimensions are supported"))
    outputs, inputs, *kernel = tensor.shape
    if outputs % groups:
        raise at_user_line(ValueError("dim 0 must be divisible by groups"))
    values = np.zeros(tensor.shape)
    for channel in range(min(outputs // groups, inputs)):
        place: Any = (slice(channel, None, outputs // groups), channel, *(extent // 2 for extent in kernel))
        values[place] = 1
    with no_grad():
        return tensor.copy_(values)


@_in_place
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, times ``gain`` (Saxe et al., 2013).

    The axes after the first count as one.

    >>> import tracejit as tj
    >>> w = orthogonal_(tj.zeros(3, 5))
    >>> bool((abs(w @ w.T - tj.eye(3)) < 1e-6).all())
    True
    """
    if tensor.ndim < 2:
        raise at_user_line(ValueError("Only tensors with 2 or more dimensions are supported"))
    if tensor.size == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    shape = (max(rows, columns), min(rows, columns))
    with no_grad():
        q, r = decompositions.qr((generator or default_generator).normal(shape, dtype=tensor.dtype))
        q = q * elementwise.sign(arrangement.diagonal(r))  # uniform over all such matrices (Mezzadri, 2007)
        q = manipulation.matrix_transpose(q) if rows < columns else q
        return tensor.copy_(gain * manipulation.reshape(q, tensor.shape))


@_in_place
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal numbers, but for zeros at random places in each column of a matrix: ``sparsity`` of it, rounded up."""
    if tensor.ndim != 2:
        raise at_user_line(ValueError("Only tensors with 2 dimensions are supported"))
    stream = generator or default_generator
    keys = stream.uniform(tensor.shape)
    with no_grad():
        place = sorting.argsort(sorting.argsort(keys, 0), 0)
        kept = elementwise.greater_equal(place, math.ceil(sparsity * tensor.shape[0]))
        return tensor.copy_(elementwise.where(kept, stream.normal(tensor.shape, 0.0, std, tensor.dtype), 0))


__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_",
    "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip
