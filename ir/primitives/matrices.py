"""What the rules of linear algebra are written with: products, triangles, diagonals, and several parts in one result.

Each takes an :class:`Emitter`; matrices are the last two axes, axes before them are a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..primitive import Emitter, Rule
from ..types import TensorType

Shape = tuple[int, ...]


def square(name: str, x: TensorType) -> TensorType:
    """The type of square matrices, or an error that names it."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name}: needs square matrices, got {x!r}")
    if x.dtype.kind not in "fc" or x.dtype.itemsize < 4:
        raise TypeError(f"{name} is defined for float32, float64 and complex matrices, got {x!r}")
    return x


def matrix_shape(x: TensorType) -> tuple[int, int]:
    if x.ndim < 2:
        raise ValueError(f"needs matrices, got {x!r}")
    rows, columns = x.static_shape[-2:]
    return rows, columns


# Arithmetic -----------------------------------------------------------------------------------------


def product(e: Emitter, first: Any, *others: Any) -> Any:
    """The product of several matrices, from the left."""
    for other in others:
        first = e.dot(first, other)
    return first


def transposed(e: Emitter, x: Any) -> Any:
    n = len(x.shape)
    return e.transpose(x, permutation=(*range(n - 2), n - 1, n - 2))


def adjoint(e: Emitter, x: Any) -> Any:
    """Transposed and conjugated."""
    return transposed(e, conjugated(e, x))


def conjugated(e: Emitter, x: Any) -> Any:
    return e.conjugate(x) if x.dtype.kind == "c" else x


def real_part(e: Emitter, x: Any) -> Any:
    """Complex numbers without their imaginary parts, complex as they were."""
    return e.convert(e.real(x), dtype=x.dtype) if x.dtype.kind == "c" else x


def imaginary_part(e: Emitter, x: Any) -> Any:
    """Complex numbers without their real parts, complex as they were."""
    return e.subtract(x, real_part(e, x))


def hermitian_part(e: Emitter, x: Any) -> Any:
    return e.multiply(e.add(x, adjoint(e, x)), 0.5)


def scaled(e: Emitter, matrices: Any, factors: Any) -> Any:
    """Each matrix times its number."""
    shape = tuple(matrices.shape)
    return e.multiply(matrices, e.broadcast_in_dim(factors, shape=shape, dimensions=tuple(range(len(shape) - 2))))


def over_columns(e: Emitter, factors: Any, shape: Shape) -> Any:
    """``factors[..., None, :]`` in a matrix's shape."""
    return e.broadcast_in_dim(factors, shape=shape, dimensions=(*range(len(shape) - 2), len(shape) - 1))


def columns_scaled(e: Emitter, x: Any, factors: Any) -> Any:
    """``x * factors[..., None, :]``."""
    return e.multiply(x, over_columns(e, factors, tuple(x.shape)))


def constant(e: Emitter, matrix: np.ndarray, like: Any) -> Any:
    return e.broadcast_to(e.constant(matrix.astype(like.dtype)), tuple(like.shape))


def lower(e: Emitter, x: Any, diagonal: float) -> Any:
    """The lower triangle, its diagonal times ``diagonal``."""
    rows, columns = x.shape[-2:]
    return e.multiply(x, constant(e, np.tril(np.ones((rows, columns)), -1) + diagonal * np.eye(rows, columns), x))


def diagonal(e: Emitter, x: Any) -> Any:
    """The diagonals of square matrices."""
    return e.reduce_sum(e.multiply(x, constant(e, np.eye(x.shape[-1]), x)), axes=(len(x.shape) - 1,))


def with_diagonal(e: Emitter, x: Any, numbers: Any) -> Any:
    """``x + diag(numbers)``."""
    return e.add(x, columns_scaled(e, constant(e, np.eye(x.shape[-1]), x), numbers))


def identity_minus(e: Emitter, x: Any) -> Any:
    return e.subtract(constant(e, np.eye(x.shape[-1]), x), x)


def divided(e: Emitter, x: Any, y: Any) -> Any:
    """``x / y``, and 0 where both are 0: what a loss does not depend on has no say in its gradient."""
    both = getattr(e, "and")(e.compare(x, 0, direction="eq"), e.compare(y, 0, direction="eq"))
    return e.divide(x, e.select(both, e.scalar(1, y.dtype), y))


def divided_by_gaps(e: Emitter, x: Any, values: Any) -> Any:
    """``x[i, j] / (values[j] - values[i])``, and 0 on the diagonal; see :func:`divided`."""
    shape = tuple(x.shape)
    columns = over_columns(e, values, shape)
    gaps = e.subtract(columns, transposed(e, columns))
    return divided(e, e.multiply(x, constant(e, 1 - np.eye(shape[-1]), x)), gaps)


def weighted(vjp: Rule) -> Rule:
    """The jvp of a number for each matrix: the tangent times the gradient, summed."""

    def rule(e: Emitter, t: Any, op: Any) -> Any:
        ndim = len(t.shape)
        return e.reduce_sum(e.multiply(t, vjp(e, e.full(1, op.result_type), op)), axes=(ndim - 2, ndim - 1))

    return rule


# Several parts in one result: each flattened, one after the other along a last axis -------------------


def pack(parts: Sequence[np.ndarray], batch: int) -> np.ndarray:
    flat = [part.reshape(*part.shape[:batch], math.prod(part.shape[batch:])) for part in parts]
    return np.concatenate(flat, axis=-1)


def packed(e: Emitter, parts: Sequence[Any], batch: int) -> Any:
    """The same for what an emitter works on."""
    flat = [e.reshape_to(part, (*part.shape[:batch], math.prod(part.shape[batch:]))) for part in parts]
    return e.concatenate(*flat, dimension=batch)


def unpack(e: Emitter, together: Any, shapes: Sequence[Shape]) -> list[Any]:
    """The parts of a packed result, each of the batch shape and one of ``shapes``."""
    batch = tuple(together.shape)[:-1]
    start, parts = 0, []
    for shape in shapes:
        count = math.prod(shape)
        cut = e.slice(
            together,
            start=(0,) * len(batch) + (start,),
            limit=(*batch, start + count),
            strides=(1,) * (len(batch) + 1),
        )
        parts.append(e.reshape_to(cut, (*batch, *shape)))
        start += count
    return parts


def packed_type(x: TensorType, shapes: Sequence[Shape], dtype: Any = None) -> TensorType:
    return TensorType(dtype or x.dtype, (*x.shape[:-2], sum(math.prod(shape) for shape in shapes)))


def first_columns(e: Emitter, x: Any, count: int) -> Any:
    return columns_between(e, x, 0, count)


def columns_between(e: Emitter, x: Any, first: int, last: int) -> Any:
    shape = tuple(x.shape)
    start = (0,) * (len(shape) - 1) + (first,)
    return e.slice(x, start=start, limit=(*shape[:-1], last), strides=(1,) * len(shape))
