"""Linear: a matrix product and a bias."""

from __future__ import annotations

import math
from typing import Any

from ..device import check
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
