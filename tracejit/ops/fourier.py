"""Fourier transforms: what :mod:`tracejit.fft` exports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.primitives import library as primitives

from .. import dispatch
from ..locations import at_user_line
from ..promotion import DEFAULT_FLOAT, as_tensor, operands
from ..tape import apply
from ..tensor import Tensor, new_tensor
from . import arithmetic, creation, elementwise
from .arrangement import roll
from .axes import normalize_axis
from .manipulation import pad

_NORMS = ("backward", "ortho", "forward")


def _one(name: str, kind: str, x: Tensor, n: int | None, axis: int, norm: str) -> Tensor:
    """One transform along one axis."""
    if norm not in _NORMS:
        raise at_user_line(ValueError(f"{name}: norm must be one of {', '.join(_NORMS)}, got {norm!r}"))
    along = normalize_axis(name, axis, x.ndim)
    size = n if n is not None else 2 * (x.shape[along] - 1) if kind == "irfft" else x.shape[along]
    if size < 1:
        raise at_user_line(ValueError(f"{name}: invalid number of data points ({size})"))
    if kind == "rfft":
        (x,) = operands(name, x, lowest_kind=2)
    elif x.dtype.kind != "c":
        (x,) = operands(name, x, lowest_kind=2)
        x = arithmetic.from_parts(x, creation.zeros_like(x))
    taken = size // 2 + 1 if kind == "irfft" else size
    x = _fitted(x, along, taken)
    result = apply(primitives.fourier, (x,), {"kind": kind, "n": size, "axis": along})
    inverse = kind in ("ifft", "irfft")
    if norm == "backward":
        return result
    scale = math.sqrt(size) if norm == "ortho" else float(size)
    return elementwise.multiply(result, scale if inverse else 1 / scale)


def _fitted(x: Tensor, along: int, extent: int) -> Tensor:
    if x.shape[along] > extent:
        return x[(*[slice(None)] * along, slice(extent))]
    missing = extent - x.shape[along]
    return pad(x, [(0, missing if i == along else 0) for i in range(x.ndim)]) if missing else x


def fft(x: Any, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The discrete Fourier transform along ``axis``, cut or padded with zeros to ``n`` points.

    >>> import tracejit as tj
    >>> tj.fft.fft(tj.tensor([1.0, 0.0, 0.0, 0.0])).real
    tensor([1., 1., 1., 1.])
    """
    return _one("fft", "fft", as_tensor(x, "fft"), n, axis, norm)


def ifft(x: Any, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of :func:`fft`."""
    return _one("ifft", "ifft", as_tensor(x, "ifft"), n, axis, norm)


def rfft(x: Any, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The first ``n // 2 + 1`` terms of the transform of real numbers."""
    return _one("rfft", "rfft", as_tensor(x, "rfft"), n, axis, norm)


def irfft(x: Any, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of :func:`rfft`, of ``n`` real numbers."""
    return _one("irfft", "irfft", as_tensor(x, "irfft"), n, axis, norm)


def hfft(x: Any, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The transform of a signal with Hermitian symmetry, whose first half is given: real numbers."""
    return _one("hfft", "irfft", arithmetic.conj(as_tensor(x, "hfft")), n, axis, _swapped(norm))


def ihfft(x: Any, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of :func:`hfft`."""
    return arithmetic.conj(_one("ihfft", "rfft", as_tensor(x, "ihfft"), n, axis, _swapped(norm)))


def _swapped(norm: str) -> str:
    return {"backward": "forward", "forward": "backward"}.get(norm, norm)


def _axes(name: str, x: Tensor, s: Sequence[int] | None, axes: Sequence[int] | None) -> list[tuple[int, int | None]]:
    if axes is None:
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    sizes: list[int | None] = [None] * len(axes) if s is None else list(s)
    if len(sizes) != len(axes):
        raise at_user_line(ValueError(f"{name}: s and axes must have one length, got {s} and {tuple(axes)}"))
    return [(normalize_axis(name, axis, x.ndim), size) for axis, size in zip(axes, sizes, strict=True)]


def _many(name: str, kind: str, x: Any, s: Any, axes: Any, norm: str) -> Tensor:
    tensor = as_tensor(x, name)
    for axis, size in reversed(_axes(name, tensor, s, axes)):
        tensor = _one(name, kind, tensor, size, axis, norm)
    return tensor


def fftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward") -> Tensor:
    """:func:`fft` along several axes (all, by default)."""
    return _many("fftn", "fft", x, s, axes, norm)


def ifftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward") -> Tensor:
    """The inverse of :func:`fftn`."""
    return _many("ifftn", "ifft", x, s, axes, norm)


def rfftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward") -> Tensor:
    """:func:`rfft` along the last of several axes, :func:`fft` along the others."""
    tensor = as_tensor(x, "rfftn")
    *others, (last, size) = _axes("rfftn", tensor, s, axes)
    tensor = _one("rfftn", "rfft", tensor, size, last, norm)
    for axis, count in reversed(others):
        tensor = _one("rfftn", "fft", tensor, count, axis, norm)
    return tensor


def irfftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward") -> Tensor:
    """The inverse of :func:`rfftn`."""
    tensor = as_tensor(x, "irfftn")
    *others, (last, size) = _axes("irfftn", tensor, s, axes)
    for axis, count in others:
        tensor = _one("irfftn", "ifft", tensor, count, axis, norm)
    return _one("irfftn", "irfft", tensor, size, last, norm)


def fftfreq(n: int, d: float = 1.0, dtype: Any = None, device: str | None = None) -> Tensor:
    """The frequencies of the terms of :func:`fft` for samples ``d`` apart."""
    array = np.fft.fftfreq(n, d).astype(dtype or DEFAULT_FLOAT)
    return creation.placed(new_tensor(dispatch.constant_payload(array)), device)


def rfftfreq(n: int, d: float = 1.0, dtype: Any = None, device: str | None = None) -> Tensor:
    """The frequencies of the terms of :func:`rfft` for samples ``d`` apart."""
    array = np.fft.rfftfreq(n, d).astype(dtype or DEFAULT_FLOAT)
    return creation.placed(new_tensor(dispatch.constant_payload(array)), device)


def _shift_axes(x: Tensor, axes: int | Sequence[int] | None) -> list[int]:
    if axes is None:
        return list(range(x.ndim))
    return [axes] if isinstance(axes, int) else list(axes)


def fftshift(x: Any, axes: int | Sequence[int] | None = None) -> Tensor:
    """The zero frequency moved to the middle."""
    tensor = as_tensor(x, "fftshift")
    along = _shift_axes(tensor, axes)
    return roll(tensor, [tensor.shape[axis] // 2 for axis in along], along)


def ifftshift(x: Any, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of :func:`fftshift`."""
    tensor = as_tensor(x, "ifftshift")
    along = _shift_axes(tensor, axes)
    return roll(tensor, [-(tensor.shape[axis] // 2) for axis in along], along)
