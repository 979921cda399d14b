"""Weight and spectral normalization."""

from __future__ import annotations

from typing import Any

from ...autograd.modes import no_grad
from ...locations import at_user_line
from ...ops import elementwise, linalg, manipulation, reduction
from ...random import default_generator
from ...tensor import Tensor
from .. import functional
from ..convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..module import Module
from .parametrize import register_parametrization


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """A weight as its length and its direction (Salimans and Kingma, 2016): ``original0 * original1 / |original1|``.

    The length is that of each slice along ``dim``, or of the whole weight for ``None``.

    >>> from tracejit import nn
    >>> layer = weight_norm(nn.Linear(20, 40))
    >>> [
    ...     (name, parameter.shape)
    ...     for name, parameter in layer.parametrizations.named_parameters()
    ... ]
    [('weight.original0', (40, 1)), ('weight.original1', (40, 20))]
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """A weight divided by its largest singular value (Miyato et al., 2018), as power iterations know it.

    The weight counts as a matrix whose rows are its slices along ``dim`` (0; 1 for transposed convolutions).  In
    training each use of the weight does ``n_power_iterations`` more.

    >>> import tracejit as tj
    >>> from tracejit import nn
    >>> layer = spectral_norm(nn.Linear(20, 40)).eval()
    >>> singular_values = tj.linalg.svdvals(layer.weight.detach())
    >>> bool(abs(singular_values[0] - 1) < 0.1)
    True
    """
    if dim is None:
        dim = 1 if isinstance(module, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d) else 0
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise at_user_line(ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'"))
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, length: Any, direction: Any) -> Tensor:
        return direction * (length / self._length(direction))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._length(weight), weight

    def _length(self, x: Tensor) -> Tensor:
        axes = None if self.dim is None else tuple(axis for axis in range(x.ndim) if axis != self.dim % x.ndim)
        return elementwise.sqrt(reduction.sum(x * x, axes, keepdims=self.dim is not None))


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if n_power_iterations <= 0:
            message = "Expected n_power_iterations to be positive, but got n_power_iterations="
            raise at_user_line(ValueError(f"{message}{n_power_iterations}"))
        if not -weight.ndim <= dim < weight.ndim:
            message = f"Dimension out of range (expected to be in range of [-{weight.ndim}, {weight.ndim - 1}] but got "
            raise at_user_line(IndexError(f"{message}{dim})"))
        self.dim = dim % weight.ndim
        self.eps = eps
        self.n_power_iterations = n_power_iterations
        if weight.ndim > 1:
            matrix = self._matrix(weight.detach())
            for name, extent in zip(("_u", "_v"), matrix.shape, strict=True):
                start = default_generator.normal((extent,), dtype=weight.dtype, device=weight.device)
                self.register_buffer(name, functional.normalize(start, dim=0, eps=eps))
            self._iterate(matrix, 15)

    def forward(self, weight: Any) -> Tensor:
        if weight.ndim == 1:
            return functional.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        sigma = linalg.vecdot(self._u.detach(), linalg.matmul(matrix, self._v.detach()))
        return weight / sigma

    def right_inverse(self, value: Tensor) -> Tensor:
        return value  # scaled at the next use, which is as it should be

    def _matrix(self, weight: Tensor) -> Tensor:
        order = (self.dim, *(axis for axis in range(weight.ndim) if axis != self.dim))
        return manipulation.reshape(manipulation.permute_dims(weight, order), (weight.shape[self.dim], -1))

    def _iterate(self, matrix: Tensor, count: int) -> None:
        with no_grad():
            for _ in range(count):
                self._u.copy_(functional.normalize(linalg.matmul(matrix, self._v), dim=0, eps=self.eps))
                self._v.copy_(functional.normalize(linalg.matmul(matrix.T, self._u), dim=0, eps=self.eps))


__all__ = ["spectral_norm", "weight_norm"]
