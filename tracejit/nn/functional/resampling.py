"""Other resolutions: axes resampled by weighted sums of neighbours, and channels dealt out over space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tracejit.ir.types import float64

from ... import dispatch
from ...locations import at_user_line
from ...ops import indexing, manipulation
from ...promotion import as_tensor
from ...tensor import Tensor, new_tensor
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

_AREA = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)
_INTERPOLATING = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}  # how many axes each is for


class _Taps(NamedTuple):
    """For each place of an axis that is resampled, the elements it is made of, and how much it takes of each."""

    element: np.ndarray  # (places, taps): which
    weight: np.ndarray | None  # the same shape; None: all of the only one


def interpolate(
    input: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """``(N, C, …)`` with other extents of the last one to three axes: ``size``, or ``scale_factor`` times as many.

    ``mode`` is ``"nearest"``, ``"nearest-exact"``, ``"area"``, ``"linear"`` (one axis), ``"bilinear"`` or ``"bicubic"``
    (two) or ``"trilinear"``.  With ``align_corners`` the centers of the first and last elements stay where they are,
    else the outer edges do.  ``recompute_scale_factor`` takes the ratio of the extents for the scale, rather than the
    ``scale_factor`` that was given.  ``antialias`` widens the filter where there are fewer places than elements.

    >>> import tracejit as tj
    >>> interpolate(tj.tensor([[[1.0, 3.0]]]), scale_factor=2, mode="linear")
    tensor([[[1. , 1.5, 2.5, 3. ]]])
    """
    x = as_tensor(input, "interpolate")
    axes = x.ndim - 2
    if not 1 <= axes <= 3:
        message = f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {x.ndim}D) for the modes: nearest | "
        raise at_user_line(NotImplementedError(f"{message}linear | bilinear | bicubic | trilinear | area"))
    _check_mode(mode, axes, align_corners, antialias)
    sizes, scales = _sizes(x, axes, size, scale_factor)
    if mode == "area":
        return _AREA[axes - 1](x, sizes)
    if recompute_scale_factor:
        scales = [None] * axes
    for axis in reversed(range(axes)):
        extent, wanted = x.shape[2 + axis], sizes[axis]
        if extent < 1 or wanted < 1:
            message = f"Input and output sizes should be greater than 0, but got input size {list(x.shape[2:])} and "
            raise at_user_line(RuntimeError(f"{message}output size {sizes}"))
        dtype = np.dtype(np.float64 if x.dtype == float64 else np.float32)  # in which the weights are computed
        taps = _taps(mode, extent, wanted, scales[axis], bool(align_corners), antialias, dtype)
        x = _resampled(x, 2 + axis, taps)
    return x


def _check_mode(mode: str, axes: int, align_corners: bool | None, antialias: bool) -> None:
    problem: Exception | None = None
    if mode in ("nearest", "nearest-exact", "area"):
        if align_corners is not None:
            message = "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic |"
            problem = ValueError(f"{message} trilinear")
    elif mode not in _INTERPOLATING:
        problem = NotImplementedError(
            f"Input Error: mode must be one of nearest | nearest-exact | area | {' | '.join(_INTERPOLATING)}, "
            f"got {mode}"
        )
    elif _INTERPOLATING[mode] != axes:
        problem = NotImplementedError(f"Got {axes + 2}D input, but {mode} mode needs {_INTERPOLATING[mode] + 2}D input")
    if antialias and mode not in ("bilinear", "bicubic"):
        problem = ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor")
    if problem is not None:
        raise at_user_line(problem)


def _sizes(x: Tensor, axes: int, size: Any, scale_factor: Any) -> tuple[list[int], list[float | None]]:
    """The new extents, and the scales if they were given."""
    if size is not None and scale_factor is not None:
        raise at_user_line(ValueError("only one of size or scale_factor should be defined"))
    given = size if size is not None else scale_factor
    if given is None:
        raise at_user_line(ValueError("either size or scale_factor should be defined"))
    wanted = list(given) if isinstance(given, list | tuple) else [given] * axes
    if len(wanted) != axes:
        what = "output size" if size is not None else "scale_factor"
        message = f"Input and {what} must have the same number of spatial dimensions, but got input with spatial "
        raise at_user_line(ValueError(f"{message}dimensions of {list(x.shape[2:])} and {what} of {given}"))
    if size is not None:
        return [int(extent) for extent in wanted], [None] * axes
    scales = [float(scale) for scale in wanted]
    return [math.floor(n * scale) for n, scale in zip(x.shape[2:], scales, strict=True)], list(scales)


def _taps(
    mode: str, extent: int, wanted: int, factor: float | None, align: bool, antialias: bool, dtype: np.dtype[Any]
) -> _Taps:
    places = np.arange(wanted)
    scale = dtype.type(extent / wanted if factor is None or factor <= 0 else 1 / factor)
    if mode in ("nearest", "nearest-exact"):
        step = np.float32(scale)
        offset = np.float32(0.5 if mode == "nearest-exact" else 0)
        nearest = np.floor((places.astype(np.float32) + offset) * step).astype(np.int64)
        return _Taps(np.minimum(nearest, extent - 1)[:, None], None)
    if align:
        scale = dtype.type((extent - 1) / (wanted - 1) if wanted > 1 else 0)
    if antialias:
        return _widened_taps(mode, extent, wanted, scale)
    source = (
        scale * places.astype(dtype) if align else scale * (places.astype(dtype) + dtype.type(0.5)) - dtype.type(0.5)
    )
    if mode == "bicubic":
        first = np.floor(source)
        part = source - first
        distances = [part + 1, part, 1 - part, 2 - part]
        weights = np.stack([_cubic(distance, -0.75) for distance in distances], 1)
        index = first.astype(np.int64)[:, None] + np.arange(-1, 3)
        return _Taps(np.clip(index, 0, extent - 1), weights)
    source = np.maximum(source, 0)
    first = np.minimum(source.astype(np.int64), extent - 1)
    part = np.clip(source - first, 0, 1).astype(dtype)
    return _Taps(np.stack([first, np.minimum(first + 1, extent - 1)], 1), np.stack([1 - part, part], 1))


def _widened_taps(mode: str, extent: int, wanted: int, scale: Any) -> _Taps:
    """A filter that is as wide as the places are apart, as Pillow's."""
    dtype = scale.dtype
    reach = 1 if mode == "bilinear" else 2
    support = reach * max(scale, dtype.type(1))
    count = 2 * math.ceil(support) + 1
    kernel: Callable[[np.ndarray], np.ndarray] = _triangle if mode == "bilinear" else (lambda d: _cubic(d, -0.5))
    center = scale * (np.arange(wanted) + 0.5).astype(dtype)
    start = np.maximum((center - support + 0.5).astype(np.int64), 0)
    end = np.minimum((center + support + 0.5).astype(np.int64), extent)
    index = start[:, None] + np.arange(count)
    distance = (index - center[:, None] + 0.5).astype(dtype) / max(scale, dtype.type(1))
    weight = np.where(index < end[:, None], kernel(np.abs(distance)), 0).astype(dtype)
    used = weight.any(0)
    weight = weight / weight.sum(1, keepdims=True)
    return _Taps(np.minimum(index, end[:, None] - 1)[:, used], weight[:, used])


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """The cubic convolution kernel (Keys, 1981)."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0)).astype(d.dtype)


def _resampled(x: Tensor, axis: int, taps: _Taps) -> Tensor:
    """The sum, in order, of the elements that each place takes."""
    places = len(taps.element)
    if taps.weight is None and places % x.shape[axis] == 0:
        times = places // x.shape[axis]
        if (taps.element[:, 0] == np.arange(places) // times).all():  # each element so many times: no gather
            wide = manipulation.expand_dims(x, axis + 1)
            wide = manipulation.broadcast_to(wide, (*wide.shape[: axis + 1], times, *wide.shape[axis + 2 :]))
            return manipulation.reshape(wide, (*x.shape[:axis], places, *x.shape[axis + 1 :]))
    total: Tensor | None = None
    for tap in range(taps.element.shape[1]):
        part = indexing.take(x, _constant(np.ascontiguousarray(taps.element[:, tap])), axis)
        if taps.weight is not None:
            weight = taps.weight[:, tap].reshape(-1, *[1] * (x.ndim - axis - 1))
            part = part * _constant(weight.astype(x.dtype))
        total = part if total is None else total + part
    assert total is not None
    return total


def _constant(array: np.ndarray) -> Tensor:
    return new_tensor(dispatch.constant_payload(array))


# Channels and space ---------------------------------------------------------------------------------


def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """Channels dealt out over space: ``(…, C r², H, W)`` → ``(…, C, H r, W r)`` (Shi et al., 2016).

    >>> import tracejit as tj
    >>> pixel_shuffle(tj.arange(4).reshape(4, 1, 1), 2)
    tensor([[[0, 1],
             [2, 3]]])
    """
    x, r = as_tensor(input, "pixel_shuffle"), upscale_factor
    if r <= 0:
        raise at_user_line(RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}"))
    if x.ndim < 3 or x.shape[-3] % (r * r):
        message = "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
        raise at_user_line(RuntimeError(f"{message}upscale_factor, but got shape {list(x.shape)}"))
    *front, channels, height, width = x.shape
    apart = manipulation.reshape(x, (*front, channels // (r * r), r, r, height, width))
    n = len(front)
    mixed = manipulation.permute_dims(apart, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return manipulation.reshape(mixed, (*front, channels // (r * r), height * r, width * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """The inverse of :func:`pixel_shuffle`: ``(…, C, H r, W r)`` → ``(…, C r², H, W)``."""
    x, r = as_tensor(input, "pixel_unshuffle"), downscale_factor
    if r <= 0:
        raise at_user_line(RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}"))
    if x.ndim < 3 or x.shape[-1] % r or x.shape[-2] % r:
        message = "pixel_unshuffle expects height and width to be divisible by downscale_factor, but got shape "
        raise at_user_line(RuntimeError(f"{message}{list(x.shape)}"))
    *front, channels, height, width = x.shape
    apart = manipulation.reshape(x, (*front, channels, height // r, r, width // r, r))
    n = len(front)
    mixed = manipulation.permute_dims(apart, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return manipulation.reshape(mixed, (*front, channels * r * r, height // r, width // r))


def channel_shuffle(input: Any, groups: int) -> Tensor:
    """``groups`` groups of channels interleaved: ``(N, C, …)`` → the same shape (Zhang et al., 2018).

    >>> import tracejit as tj
    >>> channel_shuffle(tj.arange(4).reshape(1, 4, 1), 2).flatten()
    tensor([0, 2, 1, 3])
    """
    x = as_tensor(input, "channel_shuffle")
    if x.ndim < 3 or groups <= 0 or x.shape[1] % groups:
        message = f"Number of channels must be divisible by groups. Got shape {list(x.shape)} and {groups} groups."
        raise at_user_line(RuntimeError(message))
    apart = manipulation.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    return manipulation.reshape(manipulation.transpose(apart, 1, 2), x.shape)
