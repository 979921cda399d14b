"""Dropout."""

from __future__ import annotations

from typing import Any

from ..locations import at_user_line
from ..tensor import Tensor
from . import functional
from .module import Module


class Dropout(Module):
    """In training each element becomes 0 with probability ``p``, and the others are scaled by ``1 / (1 - p)``.

    Draws from the default generator, at each call anew; in evaluation mode it changes nothing.

    >>> import tracejit as tj
    >>> Dropout(0.5).eval()(tj.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise at_user_line(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
        self.p = p

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
