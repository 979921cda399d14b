"""Filling tensors with starting values, in place; each function returns the tensor.

A weight has the shape ``(out, in, …)``: its *fan in* is the number of inputs that one output is computed from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from sys import getrefcount
from typing import Any, TypeVar

from .. import lost_writes
from ..autograd.modes import no_grad
from ..locations import at_user_line
from ..lost_writes import UNNAMED
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


__all__ = [
    "calculate_gain", "constant_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "uniform_",
    "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip
