"""Sampling at points that are computed: spatial transformers (Jaderberg et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from tracejit.ir.types import int64

from ... import dispatch
from ...locations import at_user_line
from ...ops import arithmetic, creation, elementwise, indexing, linalg, manipulation
from ...promotion import as_tensor, operands
from ...tensor import Tensor, new_tensor

_MODES = ("bilinear", "nearest", "bicubic")
_PADDING_MODES = ("zeros", "border", "reflection")


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The points at which an affine map sees the places of an image, for :func:`grid_sample`.

    ``theta`` has shape ``(N, 2, 3)`` for ``size`` ``(N, C, H, W)``, and the result ``(N, H, W, 2)``; or ``(N, 3, 4)``
    for ``(N, C, D, H, W)``, and the result ``(N, D, H, W, 3)``.

    >>> import tracejit as tj
    >>> affine_grid(tj.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2))
    tensor([[[[-0.5,  0. ],
              [ 0.5,  0. ]]]])
    """
    matrices, extents = as_tensor(theta, "affine_grid"), tuple(size[2:])
    count = len(extents)
    if count not in (2, 3):
        message = "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
        raise at_user_line(NotImplementedError(f"{message}{list(size)}."))
    if matrices.shape != (size[0], count, count + 1):
        message = f"Expected a batch of {count}D affine matrices of shape {size[0]}x{count}x{count + 1} for size "
        raise at_user_line(ValueError(f"{message}{list(size)}. Got {list(matrices.shape)}."))
    axes = [_places(extent, bool(align_corners)) for extent in extents]
    points = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(extents)], -1)  # x, y, …, 1
    base = new_tensor(dispatch.constant_payload(points.reshape(-1, count + 1).astype(matrices.dtype)))
    found = linalg.matmul(base, manipulation.matrix_transpose(matrices))
    return manipulation.reshape(found, (size[0], *extents, count))


def _places(extent: int, align_corners: bool) -> np.ndarray:
    if extent <= 1:
        return np.zeros(extent)
    ends = np.linspace(-1, 1, extent)
    return ends if align_corners else ends * (extent - 1) / extent


def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """``input`` at points: ``(N, C, H, W)`` and ``(N, H', W', 2)`` → ``(N, C, H', W')``.

    A point is ``(x, y)``, -1 and 1 at the outer edges of ``input`` (at the centers of the end elements with
    ``align_corners``).  Between the elements it is ``"bilinear"``, ``"nearest"`` or ``"bicubic"``; outside, by
    ``padding_mode``, ``"zeros"``, the ``"border"``, or ``"reflection"``.  Of three axes alike, with
    ``(N, D', H', W', 3)``, but for ``"bicubic"``.

    >>> import tracejit as tj
    >>> image = tj.tensor([[[[1.0, 3.0]]]])
    >>> grid_sample(image, tj.tensor([[[[0.0, 0.0], [0.5, 0.0]]]]))
    tensor([[[[2., 3.]]]])
    """
    x, points = operands("grid_sample", as_tensor(input, "grid_sample"), as_tensor(grid, "grid_sample"))
    count = x.ndim - 2
    problem: Exception | None = None
    if mode not in _MODES:
        message = "nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: "
        problem = ValueError(f"{message}'{mode}'")
    elif padding_mode not in _PADDING_MODES:
        message = "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but "
        problem = ValueError(f"{message}got: '{padding_mode}'")
    elif count not in (2, 3) or points.ndim != x.ndim or points.shape[0] != x.shape[0]:
        message = "grid_sampler(): expected 4D or 5D input and grid with same number of dimensions and batch size, "
        problem = RuntimeError(f"{message}but got input with sizes {list(x.shape)} and grid with {list(points.shape)}")
    elif points.shape[-1] != count:
        message = f"grid_sampler(): expected grid to have size {count} in last dimension, but got grid with sizes "
        problem = RuntimeError(f"{message}{list(points.shape)}")
    elif mode == "bicubic" and count != 2:
        problem = RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if problem is not None:
        raise at_user_line(problem)
    sampler = _Sampler(x, padding_mode, bool(align_corners))
    # From the first of the axes on: y, x.
    at = [sampler.unscaled(points[..., count - 1 - axis], axis) for axis in range(count)]
    if mode == "bicubic":
        return sampler.cubic(at)
    at = [sampler.inside(position, axis) for axis, position in enumerate(at)]
    if mode == "nearest":
        return sampler.element([elementwise.round(position.detach()) for position in at])
    return sampler.linear(at)


class _Sampler:
    """An image, and what stands outside of it."""

    def __init__(self, x: Tensor, padding_mode: str, align_corners: bool) -> None:
        self.x, self.padding_mode, self.align_corners = x, padding_mode, align_corners
        self.extents = x.shape[2:]

    def unscaled(self, position: Tensor, axis: int) -> Tensor:
        """A coordinate in elements."""
        extent = self.extents[axis]
        if self.align_corners:
            return (position + 1) / 2 * (extent - 1)
        return ((position + 1) * extent - 1) / 2

    def inside(self, position: Tensor, axis: int) -> Tensor:
        """A coordinate brought into the image, but for padding with zeros."""
        extent = self.extents[axis]
        if self.padding_mode == "zeros":
            return position
        if self.padding_mode == "reflection":
            low, high = (0.0, extent - 1.0) if self.align_corners else (-0.5, extent - 0.5)
            position = self._reflected(position, low, high)
        # The gradient at the bounds is zero, as everywhere outside.
        within = elementwise.logical_and(elementwise.greater(position, 0), elementwise.less(position, extent - 1))
        return elementwise.where(within, position, elementwise.clip(position.detach(), 0, extent - 1))

    @staticmethod
    def _reflected(position: Tensor, low: float, high: float) -> Tensor:
        span = high - low
        if span == 0:
            return elementwise.where(creation.full((), True), 0, position)
        distance = elementwise.abs(position - low)
        turns = elementwise.floor(distance.detach() / span)
        extra = distance - turns * span
        even = elementwise.equal(arithmetic.remainder(turns, 2), 0)
        return elementwise.where(even, extra + low, high - extra)

    def element(self, at: Sequence[Tensor]) -> Tensor:
        """``(N, C, …)``: the elements at whole coordinates, zero outside."""
        inside: Tensor | None = None
        index: list[Tensor] = []
        for axis, position in enumerate(at):
            extent = self.extents[axis]
            fits = elementwise.logical_and(
                elementwise.greater_equal(position, 0), elementwise.less_equal(position, extent - 1)
            )
            inside = fits if inside is None else elementwise.logical_and(inside, fits)
            index.append(elementwise.astype(elementwise.where(fits, position, 0), int64))
        assert inside is not None
        batch = manipulation.reshape(creation.arange(self.x.shape[0]), (-1, *[1] * (at[0].ndim - 1)))
        found = indexing.get_item(self.x, (batch, slice(None), *index))  # (N, …, C)
        found = manipulation.permute_dims(found, (0, found.ndim - 1, *range(1, found.ndim - 1)))
        return elementwise.where(manipulation.expand_dims(inside, 1), found, 0)

    def linear(self, at: Sequence[Tensor]) -> Tensor:
        """The mean of the corners around each point, by how near they are."""
        first = [elementwise.floor(position.detach()) for position in at]
        part = [position - low for position, low in zip(at, first, strict=True)]
        total: Tensor | None = None
        for corner in product((0, 1), repeat=len(at)):
            weight: Tensor | None = None
            for far, share in zip(corner, part, strict=True):
                factor = share if far else 1 - share
                weight = factor if weight is None else weight * factor
            assert weight is not None
            found = self.element([low + far for low, far in zip(first, corner, strict=True)])
            found = found * manipulation.expand_dims(weight, 1)
            total = found if total is None else total + found
        assert total is not None
        return total

    def cubic(self, at: Sequence[Tensor]) -> Tensor:
        """The cubic convolution of the 16 elements around each point (Keys, 1981)."""
        top, left = (elementwise.floor(position.detach()) for position in at)
        weights = [_cubic_weights(at[0] - top), _cubic_weights(at[1] - left)]
        total: Tensor | None = None
        for y in range(4):
            row: Tensor | None = None
            for x in range(4):
                places = [self.inside(top + (y - 1), 0), self.inside(left + (x - 1), 1)]
                found = self.element(places) * manipulation.expand_dims(weights[1][x], 1)
                row = found if row is None else row + found
            assert row is not None
            row = row * manipulation.expand_dims(weights[0][y], 1)
            total = row if total is None else total + row
        assert total is not None
        return total


def _cubic_weights(part: Tensor) -> list[Tensor]:
    a = -0.75

    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]
