"""Flatten and Unflatten: other shapes for the same elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..locations import at_user_line
from ..ops import manipulation, reduction
from ..tensor import Tensor
from .module import Module


class Flatten(Module):
    """The axes from ``start_dim`` to ``end_dim`` made one; by default all but the batch axis.

    >>> import tracejit as tj
    >>> Flatten()(tj.ones(5, 2, 3)).shape
    (5, 6)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Tensor:
        """``(…, A, B, …)`` → ``(…, A B, …)``."""
        return manipulation.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """The axis ``dim`` split into axes of the extents ``unflattened_size``, one of which may be -1.

    >>> import tracejit as tj
    >>> Unflatten(1, (2, 3))(tj.ones(5, 6)).shape
    (5, 2, 3)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(dim, int):
            raise at_user_line(TypeError("Unflatten requires an int dim"))
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Any) -> Tensor:
        """``(…, A B, …)`` → ``(…, A, B, …)``."""
        (axis,) = reduction.normalize_axes("Unflatten", self.dim, input.ndim)
        sizes, known = list(self.unflattened_size), 1
        for size in sizes:
            known *= size if size != -1 else 1
        if sizes.count(-1) == 1 and known and input.shape[axis] % known == 0:
            sizes[sizes.index(-1)] = input.shape[axis] // known
        return manipulation.reshape(input, (*input.shape[:axis], *sizes, *input.shape[axis + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


__all__ = ["Flatten", "Unflatten"]
