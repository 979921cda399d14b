"""Linear algebra by LAPACK (through NumPy): inverses, determinants, decompositions.

What has several results gives them in one, each flattened and put one after the other along a last axis;
:func:`unpack` takes them apart.  Derivative rules are those for real matrices; of complex ones only
``inverse``, ``solve`` and ``determinant``, which are holomorphic, have one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..batching import leading
from ..primitive import Application, Emitter, Library, Rule, per_operand, summed
from ..types import TensorType
from .exact import complex_dtype, real_dtype

Shape = tuple[int, ...]


def _square(name: str, x: TensorType) -> TensorType:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name}: needs square matrices, got {x!r}")
    if x.dtype.kind not in "fc" or x.dtype.itemsize < 4:
        raise TypeError(f"{name} is defined for float32, float64 and complex matrices, got {x!r}")
    return x


def _real_only(op: Application) -> None:
    if op.operand_types[0].dtype.kind == "c":
        raise TypeError(f"{op.primitive.name} has no derivative for complex matrices")


def _dot(e: Emitter, x: Any, y: Any) -> Any:
    return e.dot(x, y)


def _t(e: Emitter, x: Any) -> Any:
    n = len(x.shape)
    return e.transpose(x, permutation=(*range(n - 2), n - 1, n - 2))


def _scaled(e: Emitter, matrices: Any, factors: Any) -> Any:
    """Each matrix times its number."""
    shape = tuple(matrices.shape)
    return e.multiply(matrices, e.broadcast_in_dim(factors, shape=shape, dimensions=tuple(range(len(shape) - 2))))


def _constant(e: Emitter, matrix: np.ndarray, like: Any) -> Any:
    return e.broadcast_to(e.constant(matrix.astype(like.dtype)), tuple(like.shape))


def _lower(e: Emitter, x: Any, diagonal: float) -> Any:
    """The lower triangle, its diagonal times ``diagonal``."""
    rows, columns = x.shape[-2:]
    return e.multiply(x, _constant(e, np.tril(np.ones((rows, columns)), -1) + diagonal * np.eye(rows, columns), x))


def _columns_scaled(e: Emitter, x: Any, factors: Any) -> Any:
    """``x * factors[..., None, :]``."""
    shape = tuple(x.shape)
    dimensions = (*range(len(shape) - 2), len(shape) - 1)
    return e.multiply(x, e.broadcast_in_dim(factors, shape=shape, dimensions=dimensions))


def _diagonal(e: Emitter, x: Any) -> Any:
    """The diagonals of square matrices."""
    return e.reduce_sum(e.multiply(x, _constant(e, np.eye(x.shape[-1]), x)), axes=(len(x.shape) - 1,))


def _symmetric_part(e: Emitter, x: Any) -> Any:
    return e.multiply(e.add(x, _t(e, x)), 0.5)


# Packing --------------------------------------------------------------------------------------------


def pack(parts: Sequence[np.ndarray], batch: int) -> np.ndarray:
    flat = [part.reshape(*part.shape[:batch], math.prod(part.shape[batch:])) for part in parts]
    return np.concatenate(flat, axis=-1)


def _packed(e: Emitter, parts: Sequence[Any], batch: int) -> Any:
    """The same for what an emitter works on."""
    flat = [e.reshape_to(part, (*part.shape[:batch], math.prod(part.shape[batch:]))) for part in parts]
    return e.concatenate(*flat, dimension=batch)


def unpack(e: Emitter, packed: Any, shapes: Sequence[Shape]) -> list[Any]:
    """The parts of a packed result, each of the batch shape and one of ``shapes``."""
    batch = tuple(packed.shape)[:-1]
    start, parts = 0, []
    for shape in shapes:
        count = math.prod(shape)
        cut = e.slice(
            packed,
            start=(0,) * len(batch) + (start,),
            limit=(*batch, start + count),
            strides=(1,) * (len(batch) + 1),
        )
        parts.append(e.reshape_to(cut, (*batch, *shape)))
        start += count
    return parts


def _packed_type(x: TensorType, shapes: Sequence[Shape], dtype: Any = None) -> TensorType:
    return TensorType(dtype or x.dtype, (*x.shape[:-2], sum(math.prod(shape) for shape in shapes)))


def _matrix_shape(x: TensorType) -> tuple[int, int]:
    if x.ndim < 2:
        raise ValueError(f"needs matrices, got {x!r}")
    rows, columns = x.static_shape[-2:]
    return rows, columns


# Inverses and determinants --------------------------------------------------------------------------


def _weighted(vjp: Rule) -> Rule:
    """The jvp of a number for each matrix: the tangent times the gradient, summed."""

    def rule(e: Emitter, t: Any, op: Application) -> Any:
        ndim = len(t.shape)
        return e.reduce_sum(e.multiply(t, vjp(e, e.full(1, op.result_type), op)), axes=(ndim - 2, ndim - 1))

    return rule


def _holomorphic(name: str, numpy: Callable[..., Any], vjp: Rule, jvp: Rule, scalar: bool = False) -> Library:
    def type_rule(x: TensorType) -> TensorType:
        type = _square(name, x)
        return TensorType(type.dtype, type.shape[:-2]) if scalar else type

    return Library(
        name=name, type_rule=type_rule, numpy=numpy, vjp=per_operand(vjp), saves="0r", jvp=summed(jvp), batch=leading
    )


def _inverse_vjp(e: Emitter, g: Any, op: Application) -> Any:
    transposed = _t(e, op.result)
    return e.negate(_dot(e, _dot(e, transposed, g), transposed))


def _determinant_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return _scaled(e, _t(e, e.inverse(op.operands[0])), e.multiply(g, op.result))


inverse = _holomorphic(
    "inverse",
    np.linalg.inv,
    _inverse_vjp,
    lambda e, t, op: e.negate(_dot(e, _dot(e, op.result, t), op.result)),
)
determinant = _holomorphic("determinant", np.linalg.det, _determinant_vjp, _weighted(_determinant_vjp), scalar=True)


def _log_determinant_vjp(e: Emitter, g: Any, op: Application) -> Any:
    _real_only(op)
    return _scaled(e, _t(e, e.inverse(op.operands[0])), unpack(e, g, ((), ()))[1])


def _log_determinant_jvp(e: Emitter, t: Any, op: Application) -> Any:
    _real_only(op)
    batch = len(t.shape) - 2
    change = e.reduce_sum(e.multiply(t, _t(e, e.inverse(op.operands[0]))), axes=(batch, batch + 1))
    change = e.reshape(change, shape=(*change.shape, 1))
    return _packed(e, [e.full(0, TensorType(change.dtype, tuple(change.shape))), change], batch)


# The sign and the logarithm of the magnitude.
log_determinant = Library(
    name="log_determinant",
    type_rule=lambda x: _packed_type(_square("log_determinant", x), ((), ())),
    numpy=lambda x: np.stack(np.linalg.slogdet(x), axis=-1).astype(x.dtype),
    vjp=per_operand(_log_determinant_vjp),
    saves="0",
    jvp=summed(_log_determinant_jvp),
    batch=leading,
)


def _solve_type(a: TensorType, b: TensorType) -> TensorType:
    _square("solve", a)
    if a.dtype != b.dtype or a.shape[:-2] != b.shape[:-2] or a.ndim != b.ndim or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"solve: the right-hand sides do not fit the matrices, got {a!r} and {b!r}")
    return b


solve = Library(
    name="solve",
    type_rule=_solve_type,
    numpy=np.linalg.solve,
    vjp=per_operand(
        lambda e, g, op: e.negate(_dot(e, e.solve(_t(e, op.operands[0]), g), _t(e, op.result))),
        lambda e, g, op: e.solve(_t(e, op.operands[0]), g),
    ),
    saves="0r",
    jvp=summed(
        lambda e, t, op: e.negate(e.solve(op.operands[0], _dot(e, t, op.result))),
        lambda e, t, op: e.solve(op.operands[0], t),
    ),
    batch=leading,
)

# Decompositions -------------------------------------------------------------------------------------


def _cholesky_vjp(e: Emitter, g: Any, op: Application) -> Any:
    _real_only(op)
    factor = op.result
    inner = _lower(e, _dot(e, _t(e, factor), _lower(e, g, 1.0)), 0.5)
    inverse_factor = e.inverse(factor)
    return _symmetric_part(e, _dot(e, _t(e, inverse_factor), _dot(e, inner, inverse_factor)))


def _cholesky_jvp(e: Emitter, t: Any, op: Application) -> Any:
    _real_only(op)
    inverse_factor = e.inverse(op.result)
    inner = _dot(e, _dot(e, inverse_factor, _symmetric_part(e, t)), _t(e, inverse_factor))
    return _dot(e, op.result, _lower(e, inner, 0.5))


cholesky = Library(
    name="cholesky",
    type_rule=lambda x: _square("cholesky", x),
    numpy=np.linalg.cholesky,
    vjp=per_operand(_cholesky_vjp),
    saves="r",
    jvp=summed(_cholesky_jvp),
    batch=leading,
)


def eigh_shapes(x: TensorType) -> tuple[Shape, Shape]:
    n = _matrix_shape(x)[1]
    return (n,), (n, n)


def _gaps(e: Emitter, values: Any) -> Any:
    """``1 / (values[j] - values[i])``, and 0 on the diagonal."""
    n = values.shape[-1]
    shape = (*values.shape, n)
    batch = tuple(range(len(shape) - 2))
    columns = e.broadcast_in_dim(values, shape=shape, dimensions=(*batch, len(shape) - 1))
    rows = e.broadcast_in_dim(values, shape=shape, dimensions=(*batch, len(shape) - 2))
    eye = _constant(e, np.eye(n), columns)
    off = e.subtract(e.full(1, TensorType(columns.dtype, tuple(columns.shape))), eye)
    return e.divide(off, e.add(e.subtract(columns, rows), eye))


def _with_diagonal(e: Emitter, x: Any, diagonal: Any) -> Any:
    return e.add(x, _columns_scaled(e, _constant(e, np.eye(x.shape[-1]), x), diagonal))


def _eigh_vjp(e: Emitter, g: Any, op: Application) -> Any:
    _real_only(op)
    shapes = eigh_shapes(op.operand_types[0])
    values, vectors = unpack(e, op.result, shapes)
    g_values, g_vectors = unpack(e, g, shapes)
    inner = e.multiply(_dot(e, _t(e, vectors), g_vectors), _gaps(e, values))
    return _symmetric_part(e, _dot(e, vectors, _dot(e, _with_diagonal(e, inner, g_values), _t(e, vectors))))


def _eigh_jvp(e: Emitter, t: Any, op: Application) -> Any:
    _real_only(op)
    values, vectors = unpack(e, op.result, eigh_shapes(op.operand_types[0]))
    inner = _dot(e, _t(e, vectors), _dot(e, _symmetric_part(e, t), vectors))
    t_vectors = _dot(e, vectors, e.multiply(inner, _gaps(e, values)))
    return _packed(e, [_diagonal(e, inner), t_vectors], len(t.shape) - 2)


def _eigh_numpy(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(x)
    return pack((values.astype(x.dtype), vectors), x.ndim - 2)


# Eigenvalues in increasing order, and the eigenvectors as columns.
eigh = Library(
    name="eigh",
    type_rule=lambda x: _packed_type(_square("eigh", x), eigh_shapes(x)),
    numpy=_eigh_numpy,
    vjp=per_operand(_eigh_vjp),
    saves="r",
    jvp=summed(_eigh_jvp),
    batch=leading,
)


def _eig_numpy(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(x)
    return pack((values, vectors), x.ndim - 2).astype(complex_dtype(real_dtype(x.dtype)))


eig = Library(
    name="eig",
    type_rule=lambda x: _packed_type(_square("eig", x), eigh_shapes(x), complex_dtype(real_dtype(x.dtype))),
    numpy=_eig_numpy,
    batch=leading,
)


def qr_shapes(x: TensorType, complete: bool) -> tuple[Shape, Shape]:
    rows, columns = _matrix_shape(x)
    inner = rows if complete else min(rows, columns)
    return (rows, inner), (inner, columns)


def _qr_shapes_of(op: Application) -> tuple[Shape, Shape]:
    """The parts' shapes, where there is a derivative."""
    _real_only(op)
    rows, columns = _matrix_shape(op.operand_types[0])
    if rows < columns or (op.attributes.get("complete", False) and rows != columns):
        raise TypeError("qr has a derivative for matrices that are not wider than high, in mode 'reduced' alone")
    return qr_shapes(op.operand_types[0], False)


def _qr_vjp(e: Emitter, g: Any, op: Application) -> Any:
    shapes = _qr_shapes_of(op)
    q, r = unpack(e, op.result, shapes)
    g_q, g_r = unpack(e, g, shapes)
    m = e.subtract(_dot(e, r, _t(e, g_r)), _dot(e, _t(e, g_q), q))
    symmetric = e.add(_lower(e, m, 1.0), _t(e, _lower(e, m, 0.0)))
    return _t(e, e.solve(r, _t(e, e.add(g_q, _dot(e, q, symmetric)))))


def _qr_jvp(e: Emitter, t: Any, op: Application) -> Any:
    q, r = unpack(e, op.result, _qr_shapes_of(op))
    moved = _t(e, e.solve(_t(e, r), _t(e, t)))  # t r^-1
    m = _dot(e, _t(e, q), moved)
    below = _lower(e, m, 0.0)
    turn = e.subtract(below, _t(e, below))  # how q rotates within its own columns
    t_q = e.add(moved, _dot(e, q, e.subtract(turn, m)))
    return _packed(e, [t_q, _dot(e, e.subtract(m, turn), r)], len(t.shape) - 2)


qr = Library(
    name="qr",
    type_rule=lambda x, complete=False: _packed_type(x, qr_shapes(x, complete)),
    numpy=lambda x, complete=False: pack(np.linalg.qr(x, "complete" if complete else "reduced"), x.ndim - 2),
    vjp=per_operand(_qr_vjp),
    saves="r",
    jvp=summed(_qr_jvp),
    batch=leading,
)


def svd_shapes(x: TensorType, full: bool) -> tuple[Shape, Shape, Shape]:
    rows, columns = _matrix_shape(x)
    inner = min(rows, columns)
    return (rows, rows if full else inner), (inner,), (columns if full else inner, columns)


def _svd_shapes_of(op: Application) -> tuple[Shape, Shape, Shape]:
    """The parts' shapes, where there is a derivative."""
    _real_only(op)
    rows, columns = _matrix_shape(op.operand_types[0])
    if op.attributes.get("full", False) and rows != columns:
        raise TypeError("svd has a derivative with full_matrices=False alone")
    return svd_shapes(op.operand_types[0], False)


def _svd_vjp(e: Emitter, g: Any, op: Application) -> Any:
    rows, columns = _matrix_shape(op.operand_types[0])
    shapes = _svd_shapes_of(op)
    u, s, vh = unpack(e, op.result, shapes)
    g_u, g_s, g_vh = unpack(e, g, shapes)
    inverse_s = e.divide(e.full(1, TensorType(s.dtype, tuple(s.shape))), s)
    gaps = _gaps(e, e.multiply(s, s))
    j = e.multiply(gaps, _dot(e, _t(e, u), g_u))
    k = e.multiply(gaps, _dot(e, vh, _t(e, g_vh)))
    inner = _columns_scaled(e, e.add(j, _t(e, j)), s)
    inner = e.add(inner, _t(e, _columns_scaled(e, e.add(k, _t(e, k)), s)))
    result = _dot(e, u, _dot(e, _with_diagonal(e, inner, g_s), vh))
    if rows > columns:
        scaled = _columns_scaled(e, g_u, inverse_s)
        result = e.add(result, _dot(e, e.subtract(scaled, _dot(e, u, _dot(e, _t(e, u), scaled))), vh))
    if columns > rows:
        scaled = _t(e, _columns_scaled(e, _t(e, g_vh), inverse_s))
        result = e.add(result, _dot(e, u, e.subtract(scaled, _dot(e, _dot(e, scaled, _t(e, vh)), vh))))
    return result


def _svd_jvp(e: Emitter, t: Any, op: Application) -> Any:
    rows, columns = _matrix_shape(op.operand_types[0])
    u, s, vh = unpack(e, op.result, _svd_shapes_of(op))
    inverse_s = e.divide(e.full(1, TensorType(s.dtype, tuple(s.shape))), s)
    gaps, v = _gaps(e, e.multiply(s, s)), _t(e, vh)
    m = _dot(e, _dot(e, _t(e, u), t), v)
    right, left = _columns_scaled(e, m, s), _t(e, _columns_scaled(e, _t(e, m), s))  # m s, s m
    t_u = _dot(e, u, e.multiply(gaps, e.add(right, _t(e, right))))
    t_v = _dot(e, v, e.multiply(gaps, e.add(left, _t(e, left))))
    if rows > columns:
        scaled = _columns_scaled(e, _dot(e, t, v), inverse_s)
        t_u = e.add(t_u, e.subtract(scaled, _dot(e, u, _dot(e, _t(e, u), scaled))))
    if columns > rows:
        scaled = _columns_scaled(e, _dot(e, _t(e, t), u), inverse_s)
        t_v = e.add(t_v, e.subtract(scaled, _dot(e, v, _dot(e, vh, scaled))))
    return _packed(e, [t_u, _diagonal(e, m), _t(e, t_v)], len(t.shape) - 2)


def _svd_numpy(x: np.ndarray, full: bool = False) -> np.ndarray:
    u, s, vh = np.linalg.svd(x, full_matrices=full)
    return pack((u, s.astype(x.dtype), vh), x.ndim - 2)


svd = Library(
    name="svd",
    type_rule=lambda x, full=False: _packed_type(x, svd_shapes(x, full)),
    numpy=_svd_numpy,
    vjp=per_operand(_svd_vjp),
    saves="r",
    jvp=summed(_svd_jvp),
    batch=leading,
)
