"""Dropout, as modules; :mod:`.functional` says what each computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..locations import at_user_line
from ..tensor import Tensor
from . import functional
from .module import Module


class _Dropout(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise at_user_line(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
        self.p = p
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return type(self)._function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training each element becomes 0 with probability ``p``, and the others are scaled by ``1 / (1 - p)``.

    Draws from the default generator, at each call anew; in evaluation mode it changes nothing.

    >>> import tracejit as tj
    >>> Dropout(0.5).eval()(tj.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    _function = staticmethod(functional.dropout)


class Dropout1d(_Dropout):
    """:class:`Dropout` of whole channels of ``(N, C, L)`` or ``(C, L)``."""

    _function = staticmethod(functional.dropout1d)


class Dropout2d(_Dropout):
    """:class:`Dropout` of whole channels of ``(N, C, H, W)`` or ``(C, H, W)``."""

    _function = staticmethod(functional.dropout2d)


class Dropout3d(_Dropout):
    """:class:`Dropout` of whole channels of ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""

    _function = staticmethod(functional.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for :class:`SELU`; see :func:`.functional.alpha_dropout`."""

    _function = staticmethod(functional.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """:class:`AlphaDropout` of whole channels of ``(N, C, …)``."""

    _function = staticmethod(functional.feature_alpha_dropout)


__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]
