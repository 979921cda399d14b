"""Linear and Bilinear: products with a weight, and a bias."""

from __future__ import annotations

import math
from typing import Any

from ..device import check
from ..locations import at_user_line
from ..ops import creation
from ..tensor import Parameter, Tensor
from . import functional, init
from .module import Module


class Linear(Module):
    """``x @ weight.T + bias``; ``weight`` has shape ``(out_features, in_features)``.

    Both start uniform in ``±1 / sqrt(in_features)``.

    >>> import tracejit as tj
    >>> layer = Linear(3, 4)
    >>> layer(tj.ones(2, 3)).shape
    (2, 4)
    >>> layer
    Linear(in_features=3, out_features=4, bias=True)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(creation.empty(out_features, in_features, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the starting values anew."""
        if self.in_features == 0:
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Tensor:
        """``(…, in_features)`` → ``(…, out_features)``."""
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """``x1 @ weight[k] @ x2 + bias[k]`` for each output ``k``.

    ``weight`` has shape ``(out_features, in1_features, in2_features)``; both start uniform in
    ``±1 / sqrt(in1_features)``.

    >>> import tracejit as tj
    >>> Bilinear(3, 4, 2)(tj.ones(5, 3), tj.ones(5, 4)).shape
    (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        if in1_features <= 0:
            raise at_user_line(ValueError(f"in1_features must be > 0, but got {in1_features}"))
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(creation.empty(out_features, in1_features, in2_features, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the starting values anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Any, input2: Any) -> Tensor:
        """``(…, in1_features)`` and ``(…, in2_features)`` → ``(…, out_features)``."""
        return functional.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


__all__ = ["Bilinear", "Linear"]
