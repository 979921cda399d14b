"""Other shapes for the same elements, and windows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..locations import at_user_line
from ..ops import manipulation
from ..ops.axes import normalize_axis
from ..tensor import Tensor
from . import functional
from .functional.convolution import Extents
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
        axis = normalize_axis("Unflatten", self.dim, input.ndim)
        sizes, known = list(self.unflattened_size), 1
        for size in sizes:
            known *= size if size != -1 else 1
        if sizes.count(-1) == 1 and known and input.shape[axis] % known == 0:
            sizes[sizes.index(-1)] = input.shape[axis] // known
        if math.prod(sizes) != input.shape[axis] or -1 in sizes:
            message = f"unflatten: Provided sizes {list(self.unflattened_size)} don't multiply up to the size of dim "
            raise at_user_line(RuntimeError(f"{message}{self.dim} ({input.shape[axis]}) in the input tensor"))
        return manipulation.reshape(input, (*input.shape[:axis], *sizes, *input.shape[axis + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


__all__ = ["Flatten", "Unflatten"]


class Unfold(Module):
    """The windows that slide over an image, as columns; see :func:`.functional.unfold`.

    >>> import tracejit as tj
    >>> Unfold(2)(tj.ones(5, 3, 4, 4)).shape
    (5, 12, 9)
    """

    def __init__(self, kernel_size: Extents, dilation: Extents = 1, padding: Extents = 0, stride: Extents = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Any) -> Tensor:
        """``(N, C, H, W)`` → ``(N, C K, L)``."""
        return functional.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """The sum of windows put back into an image; see :func:`.functional.fold`."""

    def __init__(
        self,
        output_size: Extents,
        kernel_size: Extents,
        dilation: Extents = 1,
        padding: Extents = 0,
        stride: Extents = 1,
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Any) -> Tensor:
        """``(N, C K, L)`` → ``(N, C, *output_size)``."""
        windows = (self.kernel_size, self.dilation, self.padding, self.stride)
        return functional.fold(input, self.output_size, *windows)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
