"""What CuPy computes on a GPU where there is no kernel: sorting, searching, transforms and decompositions.

Each function gets CuPy, the arrays and the primitive's attributes, and gives what the primitive's own evaluation gives
on the host, to the bit where nothing is rounded.  CuPy's sorts are stable, and put NaN behind every number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.ir.primitives.matrices import pack

Function = Callable[..., Any]


def _argsort(cp: Any, x: Any, axis: int, descending: bool = False) -> Any:
    if not descending:
        return cp.argsort(x, axis=axis)
    return cp.flip(x.shape[axis] - 1 - cp.argsort(cp.flip(x, axis), axis=axis), axis)


def _sort(cp: Any, x: Any, axis: int, descending: bool = False) -> Any:
    return cp.take_along_axis(x, _argsort(cp, x, axis, descending), axis) if descending else cp.sort(x, axis=axis)


def _fourier(cp: Any, x: Any, kind: str, n: int, axis: int) -> Any:
    return getattr(cp.fft, kind)(x, n=n, axis=axis)


def _log_determinant(cp: Any, x: Any) -> Any:
    return cp.stack(cp.linalg.slogdet(x), axis=-1).astype(x.dtype)


def _eigh(cp: Any, x: Any) -> Any:
    values, vectors = cp.linalg.eigh(x)
    return pack((values.astype(x.dtype), vectors), x.ndim - 2)


def _qr(cp: Any, x: Any, complete: bool = False) -> Any:
    return pack(cp.linalg.qr(x, "complete" if complete else "reduced"), x.ndim - 2)


def _svd(cp: Any, x: Any, full: bool = False) -> Any:
    u, s, vh = cp.linalg.svd(x, full_matrices=full)
    return pack((u, s.astype(x.dtype), vh), x.ndim - 2)


# By the primitive's name.  What raises on the host for a matrix without a result raises here too: see ``LINEAR``.
FUNCTIONS: dict[str, Function] = {
    "argsort": _argsort,
    "sort": _sort,
    "searchsorted": lambda cp, edges, x, side: cp.searchsorted(edges, x, side=side),
    "nonzero": lambda cp, x, size: cp.argwhere(x),
    "cumulative_sum": lambda cp, x, axis: cp.cumsum(x, axis=axis, dtype=x.dtype),
    "cumulative_product": lambda cp, x, axis: cp.cumprod(x, axis=axis, dtype=x.dtype),
    "fourier": _fourier,
    "cholesky": lambda cp, x: cp.linalg.cholesky(x),
    "inverse": lambda cp, x: cp.linalg.inv(x),
    "solve": lambda cp, a, b: cp.linalg.solve(a, b),
    "log_determinant": _log_determinant,
    "eigh": _eigh,
    "qr": _qr,
    "svd": _svd,
}
LINEAR = frozenset(("cholesky", "inverse", "solve", "log_determinant", "eigh", "qr", "svd"))
