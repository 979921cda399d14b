"""What NumPy computes, eagerly and between kernels: sorting, searching, running sums and transforms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..batching import BatchedApplication, along_axis, one_by_one
from ..primitive import Application, Emitter, Library, holomorphic, linear, per_operand, summed
from ..types import TensorType, bool_, int64, is_floating, short_name
from .exact import complex_dtype, real_dtype
from .ordering import argsorted, sorted_alike

# Sorting --------------------------------------------------------------------------------------------


# Equal elements keep their order, in descending order too; NaN stands after every number.
argsort = Library(
    name="argsort",
    type_rule=lambda x, axis, descending=False: TensorType(int64, x.shape),
    numpy=lambda x, axis, descending=False: np.ascontiguousarray(argsorted(x, axis, descending)),
    batch=along_axis,
)


def _sorted_positions(e: Emitter, op: Application) -> tuple[list[Any], tuple[int, ...]]:
    """The indices of the elements in order, and the axes that they are for: all."""
    (x,), axis, shape = op.operands, op.attributes["axis"], tuple(op.result_type.shape)
    order = e.argsort(x, axis=axis, descending=op.attributes["descending"])
    numbers = [
        e.broadcast_in_dim(e.iota(size=extent, dtype=int64), shape=shape, dimensions=(dimension,))
        for dimension, extent in enumerate(shape)
    ]
    return [*numbers[:axis], order, *numbers[axis + 1 :]], tuple(range(len(shape)))


def _sort_vjp(e: Emitter, g: Any, op: Application) -> Any:
    positions, axes = _sorted_positions(e, op)
    return e.scatter(e.full(0, op.operand_types[0]), g, *positions, axes=axes, combine="add")


def _sort_jvp(e: Emitter, t: Any, op: Application) -> Any:
    positions, axes = _sorted_positions(e, op)
    return e.gather(t, *positions, axes=axes)


# NaN stands after every number; in descending order, where argsort has it.
sort = Library(
    name="sort",
    type_rule=lambda x, axis, descending=False: x,
    numpy=lambda x, axis, descending=False: sorted_alike(x, axis, descending),
    vjp=per_operand(_sort_vjp),
    saves="0",
    jvp=summed(_sort_jvp),
    batch=along_axis,
)


def _searchsorted_type(sorted: TensorType, x: TensorType, side: str) -> TensorType:
    if sorted.ndim != 1 or sorted.dtype != x.dtype:
        raise ValueError(f"searchsorted: needs a sorted vector and values of its dtype, got {sorted!r} and {x!r}")
    return TensorType(int64, x.shape)


def _searchsorted_batch(e: Emitter, op: BatchedApplication) -> Any:
    return one_by_one(e, op) if op.is_batched[0] else e.apply(op.primitive, op.operands, op.attributes)


searchsorted = Library(
    name="searchsorted",
    type_rule=_searchsorted_type,
    numpy=lambda sorted, x, side: np.searchsorted(sorted, x, side=side),
    batch=_searchsorted_batch,
)

# Positions whose number depends on the values ----------------------------------------------------------
#
# The number (``size``) is found first, by an op of its own, and is part of what the op is asked for.


def _nonzero_numpy(x: np.ndarray, size: int) -> np.ndarray:
    return np.argwhere(x)


nonzero = Library(
    name="nonzero",
    type_rule=lambda x, size: TensorType(int64, (size, x.ndim)),
    numpy=_nonzero_numpy,
    batch=one_by_one,
)


def _unique_numpy(x: np.ndarray, part: str, axis: int | None, equal_nan: bool, size: int = 0) -> np.ndarray:
    found = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis, equal_nan=equal_nan
    )  # fmt: skip
    if part == "size":
        return np.asarray(found[1].size, int64)
    result = found[("indices", "inverse", "counts").index(part) + 1].astype(int64)
    return result.reshape(-1 if axis is not None else x.shape) if part == "inverse" else result


def _unique_type(x: TensorType, part: str, axis: int | None, equal_nan: bool, size: int = 0) -> TensorType:
    whole = x.shape if axis is None else (x.shape[axis],)
    return TensorType(int64, {"size": (), "inverse": whole}.get(part, (size,)))


# Of the distinct elements (or slices along an axis) in order: how many (``size``), where each stands first
# (``indices``), which of them each is (``inverse``), how often each occurs (``counts``).
unique = Library(
    name="unique",
    type_rule=_unique_type,
    numpy=_unique_numpy,
    batch=one_by_one,
)

# Position ``i`` as often as ``counts[i]`` says.
repeated_positions = Library(
    name="repeated_positions",
    type_rule=lambda counts, size: TensorType(int64, (size,)),
    numpy=lambda counts, size: np.repeat(np.arange(counts.size), counts),
    batch=one_by_one,
)

# Running sums and products --------------------------------------------------------------------------


def _cumulative_type(x: TensorType, axis: int) -> TensorType:
    if x.dtype == bool_:
        raise TypeError(f"cumulative sums and products are not defined for {short_name(x.dtype)}, got {x!r}")
    return x


def _cumulative_sum_vjp(e: Emitter, g: Any, op: Application) -> Any:
    axis = op.attributes["axis"]
    return e.reverse(e.cumulative_sum(e.reverse(g, dimensions=(axis,)), axis=axis), dimensions=(axis,))


cumulative_sum = Library(
    name="cumulative_sum",
    type_rule=_cumulative_type,
    numpy=lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype),
    vjp=per_operand(_cumulative_sum_vjp),
    jvp=linear,
    batch=along_axis,
    is_slow_in_numpy=True,
)


def _extremum_numpy(x: np.ndarray, axis: int, smallest: bool) -> np.ndarray:
    best = (np.minimum if smallest else np.maximum).accumulate(x, axis=axis)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    positions = np.arange(x.shape[axis]).reshape(shape)
    return np.maximum.accumulate(np.where((x == best) | (x != x), positions, 0), axis=axis)


# Where the largest (or smallest) element up to each one stands: the last among equals, a NaN before all others.
cumulative_extremum = Library(
    name="cumulative_extremum",
    type_rule=lambda x, axis, smallest: TensorType(int64, x.shape),
    numpy=_extremum_numpy,
    batch=along_axis,
    is_slow_in_numpy=True,
)


def _recurrence_type(a: TensorType, b: TensorType, axis: int) -> TensorType:
    if a != b:
        raise ValueError(f"linear_recurrence: operands must have one type, got {a!r} and {b!r}")
    return a


def _recurrence_numpy(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    factor, term = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    result = np.empty_like(term, order="C")
    for i in range(len(term)):
        result[i] = factor[i] * result[i - 1] + term[i] if i else term[i]
    return np.ascontiguousarray(np.moveaxis(result, 0, axis))


def _shifted(e: Emitter, x: Any, axis: int, first: float) -> Any:
    """``x`` moved one place along ``axis``, ``first`` in front."""
    shape = tuple(x.shape)
    one = tuple(1 if i == axis else 0 for i in range(len(shape)))
    padded = e.pad(x, e.scalar(first, x.dtype), low=one, high=(0,) * len(shape), interior=(0,) * len(shape))
    return e.slice(padded, start=(0,) * len(shape), limit=shape, strides=(1,) * len(shape))


def _backward_recurrence(e: Emitter, a: Any, g: Any, axis: int) -> Any:
    """``h[i] = g[i] + a[i + 1] * h[i + 1]``."""
    factor, term = e.reverse(a, dimensions=(axis,)), e.reverse(g, dimensions=(axis,))
    return e.reverse(e.linear_recurrence(_shifted(e, factor, axis, 0), term, axis=axis), dimensions=(axis,))


def _factor_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return e.multiply(_term_vjp(e, g, op), _shifted(e, op.result, op.attributes["axis"], 0))


def _term_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return _backward_recurrence(e, op.operands[0], g, op.attributes["axis"])


def _recurrence_jvp(e: Emitter, tangents: Any, op: Application) -> Any:
    """``t[i] = a[i] * t[i - 1] + (a'[i] * y[i - 1] + b'[i])``."""
    axis, (t_a, t_b) = op.attributes["axis"], tangents
    if t_a is not None:
        change = e.multiply(t_a, _shifted(e, op.result, axis, 0))
        t_b = change if t_b is None else e.add(change, t_b)
    return None if t_b is None else e.linear_recurrence(op.operands[0], t_b, axis=axis)


# y[i] = a[i] * y[i - 1] + b[i]; its derivative is another one, so that no element is divided by.
linear_recurrence = Library(
    name="linear_recurrence",
    type_rule=_recurrence_type,
    numpy=_recurrence_numpy,
    vjp=per_operand(holomorphic(_factor_vjp), holomorphic(_term_vjp)),
    saves="0r",
    jvp=_recurrence_jvp,
    batch=along_axis,
    is_slow_in_numpy=True,
)


def _cumulative_product_vjp(e: Emitter, g: Any, op: Application) -> Any:
    axis = op.attributes["axis"]
    before = _shifted(e, op.result, axis, 1)
    return e.multiply(before, _backward_recurrence(e, op.operands[0], g, axis))


def _cumulative_product_jvp(e: Emitter, t: Any, op: Application) -> Any:
    axis = op.attributes["axis"]
    return e.linear_recurrence(op.operands[0], e.multiply(t, _shifted(e, op.result, axis, 1)), axis=axis)


cumulative_product = Library(
    name="cumulative_product",
    type_rule=_cumulative_type,
    numpy=lambda x, axis: np.cumprod(x, axis=axis, dtype=x.dtype),
    vjp=per_operand(holomorphic(_cumulative_product_vjp)),
    saves="0r",
    jvp=summed(_cumulative_product_jvp),
    batch=along_axis,
    is_slow_in_numpy=True,
)


def _logsumexp_type(x: TensorType, axis: int) -> TensorType:
    if not is_floating(x.dtype):
        raise TypeError(f"cumulative_logsumexp is not defined for {short_name(x.dtype)}, got {x!r}")
    return x


def _share(e: Emitter, x: Any, y: Any) -> Any:
    """``exp(x - y)``; 1 where they are equal, infinities too."""
    return e.exponential(e.select(e.compare(x, y, direction="eq"), e.scalar(0, x.dtype), e.subtract(x, y)))


def _decay(e: Emitter, y: Any, axis: int) -> Any:
    """What the sum of powers up to the element before is of that up to each element."""
    return _share(e, _shifted(e, y, axis, -math.inf), y)


def _logsumexp_vjp(e: Emitter, g: Any, op: Application) -> Any:
    axis = op.attributes["axis"]
    return e.multiply(
        _share(e, op.operands[0], op.result), _backward_recurrence(e, _decay(e, op.result, axis), g, axis)
    )


def _logsumexp_jvp(e: Emitter, t: Any, op: Application) -> Any:
    axis = op.attributes["axis"]
    change = e.multiply(_share(e, op.operands[0], op.result), t)
    return e.linear_recurrence(_decay(e, op.result, axis), change, axis=axis)


# y[i] = logaddexp(y[i - 1], x[i]); the derivatives are recurrences with factors of 1 at the most.
cumulative_logsumexp = Library(
    name="cumulative_logsumexp",
    type_rule=_logsumexp_type,
    numpy=lambda x, axis: np.logaddexp.accumulate(x, axis=axis, dtype=x.dtype),
    exact=False,
    vjp=per_operand(_logsumexp_vjp),
    saves="0r",
    jvp=summed(_logsumexp_jvp),
    batch=along_axis,
)

# Fourier transforms ---------------------------------------------------------------------------------

_FOURIER: dict[str, Callable[..., np.ndarray]] = {
    "fft": np.fft.fft,
    "ifft": np.fft.ifft,
    "rfft": np.fft.rfft,
    "irfft": np.fft.irfft,
}


def _fourier_type(x: TensorType, kind: str, n: int, axis: int) -> TensorType:
    extent = n // 2 + 1 if kind == "rfft" else n
    if (x.dtype.kind == "c") == (kind == "rfft") or x.dtype.kind not in "fc":
        raise TypeError(f"{kind} needs {'real' if kind == 'rfft' else 'complex'} numbers, got {x!r}")
    if n < 1:
        raise ValueError(f"{kind}: invalid number of data points ({n}), got {x!r}")
    dtype = complex_dtype(x.dtype) if kind == "rfft" else real_dtype(x.dtype) if kind == "irfft" else x.dtype
    return TensorType(dtype, (*x.shape[:axis], extent, *x.shape[axis + 1 :]))


def _fitted(e: Emitter, x: Any, axis: int, extent: int) -> Any:
    """``x`` cut or padded with zeros to ``extent`` along ``axis``."""
    shape = tuple(x.shape)
    ndim = len(shape)
    if shape[axis] > extent:
        limit = tuple(extent if i == axis else n for i, n in enumerate(shape))
        return e.slice(x, start=(0,) * ndim, limit=limit, strides=(1,) * ndim)
    high = tuple(extent - shape[axis] if i == axis else 0 for i in range(ndim))
    return e.pad(x, e.scalar(0, x.dtype), low=(0,) * ndim, high=high, interior=(0,) * ndim)


def _fourier_vjp(e: Emitter, g: Any, op: Application) -> Any:
    kind, n, axis = op.attributes["kind"], op.attributes["n"], op.attributes["axis"]
    extent = op.operand_types[0].shape[axis]
    assert isinstance(extent, int)
    if kind == "ifft":
        return _fitted(e, e.divide(e.fourier(g, kind="fft", n=n, axis=axis), n), axis, extent)
    if kind in ("fft", "rfft"):
        sums = e.multiply(e.fourier(_fitted(e, g, axis, n), kind="ifft", n=n, axis=axis), n)
        return _fitted(e, e.real(sums) if kind == "rfft" else sums, axis, extent)
    spectrum = e.fourier(g, kind="rfft", n=n, axis=axis)
    weights = np.full(n // 2 + 1, 2 / n, g.dtype)
    weights[0] = 1 / n
    if n % 2 == 0:
        weights[-1] = 1 / n
    scale = e.broadcast_in_dim(e.constant(weights.astype(spectrum.dtype)), shape=spectrum.shape, dimensions=(axis,))
    return _fitted(e, e.multiply(spectrum, scale), axis, extent)


# Normalised "backward"; along one axis, cut or padded to n.
fourier = Library(
    name="fourier",
    type_rule=_fourier_type,
    numpy=lambda x, kind, n, axis: _FOURIER[kind](x, n=n, axis=axis),
    vjp=per_operand(_fourier_vjp),
    jvp=linear,
    batch=along_axis,
)
