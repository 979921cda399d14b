"""Decompositions of matrices by LAPACK, through NumPy.

What has several results gives them in one, see :func:`.matrices.unpack`.  Derivatives are those of what does not
depend on the choices that LAPACK makes: the phase of an eigenvector or singular vector, the order of vectors that
belong to equal values, the basis of a complement.  The formulas are Giles's ("Collected matrix derivative results for
forward and reverse mode algorithmic differentiation", 2008), for complex matrices as in Boeddeker et al. ("On the
computation of complex-valued gradients", 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import leading
from ..primitive import Application, Emitter, Library, per_operand, summed
from ..types import TensorType
from .exact import complex_dtype, real_dtype
from .matrices import (
    Shape,
    adjoint,
    columns_between,
    columns_scaled,
    diagonal,
    divided,
    divided_by_gaps,
    first_columns,
    hermitian_part,
    imaginary_part,
    lower,
    matrix_shape,
    over_columns,
    pack,
    packed,
    packed_type,
    product,
    real_part,
    square,
    unpack,
    with_diagonal,
)

# Cholesky -------------------------------------------------------------------------------------------


def _cholesky_vjp(e: Emitter, g: Any, op: Application) -> Any:
    inner = lower(e, product(e, adjoint(e, op.result), g), 0.5)
    inverse = e.inverse(op.result)
    return hermitian_part(e, product(e, adjoint(e, inverse), inner, inverse))


def _cholesky_jvp(e: Emitter, t: Any, op: Application) -> Any:
    inverse = e.inverse(op.result)
    inner = product(e, inverse, hermitian_part(e, t), adjoint(e, inverse))
    return product(e, op.result, lower(e, inner, 0.5))


cholesky = Library(
    name="cholesky",
    type_rule=lambda x: square("cholesky", x),
    numpy=np.linalg.cholesky,
    vjp=per_operand(_cholesky_vjp),
    saves="r",
    jvp=summed(_cholesky_jvp),
    batch=leading,
)

# Eigenvalues ----------------------------------------------------------------------------------------


def eigh_shapes(x: TensorType) -> tuple[Shape, Shape]:
    n = matrix_shape(x)[1]
    return (n,), (n, n)


def _eigh_vjp(e: Emitter, g: Any, op: Application) -> Any:
    shapes = eigh_shapes(op.operand_types[0])
    values, vectors = unpack(e, op.result, shapes)
    g_values, g_vectors = unpack(e, g, shapes)
    inner = divided_by_gaps(e, product(e, adjoint(e, vectors), g_vectors), values)
    inner = with_diagonal(e, inner, real_part(e, g_values))
    return hermitian_part(e, product(e, vectors, inner, adjoint(e, vectors)))


def _eigh_jvp(e: Emitter, t: Any, op: Application) -> Any:
    values, vectors = unpack(e, op.result, eigh_shapes(op.operand_types[0]))
    inner = product(e, adjoint(e, vectors), hermitian_part(e, t), vectors)
    t_vectors = product(e, vectors, divided_by_gaps(e, inner, values))
    return packed(e, [real_part(e, diagonal(e, inner)), t_vectors], len(t.shape) - 2)


def _eigh_numpy(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(x)
    return pack((values.astype(x.dtype), vectors), x.ndim - 2)


# Eigenvalues in increasing order, and the eigenvectors as columns.
eigh = Library(
    name="eigh",
    type_rule=lambda x: packed_type(square("eigh", x), eigh_shapes(x)),
    numpy=_eigh_numpy,
    vjp=per_operand(_eigh_vjp),
    saves="r",
    jvp=summed(_eigh_jvp),
    batch=leading,
)


def _eig_vjp(e: Emitter, g: Any, op: Application) -> Any:
    shapes = eigh_shapes(op.operand_types[0])
    values, vectors = unpack(e, op.result, shapes)
    g_values, g_vectors = unpack(e, g, shapes)
    vectors_h = adjoint(e, vectors)
    inner = product(e, vectors_h, g_vectors)
    along = real_part(e, diagonal(e, inner))  # would change the vectors' lengths, which are 1
    inner = e.subtract(inner, columns_scaled(e, product(e, vectors_h, vectors), along))
    inner = with_diagonal(e, divided_by_gaps(e, inner, e.conjugate(values)), g_values)
    return e.convert(e.solve(vectors_h, product(e, inner, vectors_h)), dtype=op.operand_types[0].dtype)


def _eig_jvp(e: Emitter, t: Any, op: Application) -> Any:
    values, vectors = unpack(e, op.result, eigh_shapes(op.operand_types[0]))
    inner = e.solve(vectors, product(e, e.convert(t, dtype=vectors.dtype), vectors))
    turn = product(e, vectors, divided_by_gaps(e, inner, values))
    along = real_part(e, diagonal(e, product(e, adjoint(e, vectors), turn)))
    t_vectors = e.subtract(turn, columns_scaled(e, vectors, along))
    return packed(e, [diagonal(e, inner), t_vectors], len(t.shape) - 2)


def _eig_numpy(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(x)
    return pack((values, vectors), x.ndim - 2).astype(complex_dtype(real_dtype(x.dtype)))


# Complex eigenvalues, and the eigenvectors as columns of length 1.
eig = Library(
    name="eig",
    type_rule=lambda x: packed_type(square("eig", x), eigh_shapes(x), complex_dtype(real_dtype(x.dtype))),
    numpy=_eig_numpy,
    vjp=per_operand(_eig_vjp),
    saves="r",
    jvp=summed(_eig_jvp),
    batch=leading,
)

# QR -------------------------------------------------------------------------------------------------


def qr_shapes(x: TensorType, complete: bool) -> tuple[Shape, Shape]:
    rows, columns = matrix_shape(x)
    inner = rows if complete else min(rows, columns)
    return (rows, inner), (inner, columns)


def _qr_shapes_of(op: Application) -> tuple[Shape, Shape]:
    """The parts' shapes, where there is a derivative."""
    rows, columns = matrix_shape(op.operand_types[0])
    if op.attributes.get("complete", False) and rows > columns:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols.")
    return qr_shapes(op.operand_types[0], False)


def _over_triangle(e: Emitter, x: Any, r: Any) -> Any:
    """``x @ inverse(r)``."""
    return adjoint(e, e.solve(adjoint(e, r), adjoint(e, x)))


def _turn(e: Emitter, x: Any) -> Any:
    """The part of ``x`` that turns ``q`` within its columns; the rest is upper triangular, with a real diagonal."""
    below = lower(e, x, 0.0)
    turn = e.subtract(below, adjoint(e, below))
    return with_diagonal(e, turn, imaginary_part(e, diagonal(e, x))) if x.dtype.kind == "c" else turn


def _qr_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """Where the matrix is wider than high, its first columns make ``q``; the others are ``q`` times theirs of ``r``."""
    rows, columns = matrix_shape(op.operand_types[0])
    shapes = _qr_shapes_of(op)
    q, r = unpack(e, op.result, shapes)
    g_q, g_r = unpack(e, g, shapes)
    if columns > rows:
        rest, g_rest = (columns_between(e, each, rows, columns) for each in (r, g_r))
        g_q = e.add(g_q, product(e, q, rest, adjoint(e, g_rest)))
        r, g_r = first_columns(e, r, rows), first_columns(e, g_r, rows)
    m = e.subtract(product(e, r, adjoint(e, g_r)), product(e, adjoint(e, g_q), q))
    symmetric = e.add(lower(e, m, 0.0), adjoint(e, lower(e, m, 0.0)))
    symmetric = with_diagonal(e, symmetric, real_part(e, diagonal(e, m)))
    result = adjoint(e, e.solve(r, adjoint(e, e.add(g_q, product(e, q, symmetric)))))
    return result if columns <= rows else e.concatenate(result, product(e, q, g_rest), dimension=len(result.shape) - 1)


def _qr_jvp(e: Emitter, t: Any, op: Application) -> Any:
    q, r = unpack(e, op.result, _qr_shapes_of(op))
    count = q.shape[-1]
    moved = _over_triangle(e, first_columns(e, t, count), first_columns(e, r, count))
    m = product(e, adjoint(e, q), moved)
    turn = _turn(e, m)
    t_q = e.add(moved, product(e, q, e.subtract(turn, m)))
    t_r = e.subtract(product(e, adjoint(e, q), t), product(e, turn, r))
    return packed(e, [t_q, t_r], len(t.shape) - 2)


qr = Library(
    name="qr",
    type_rule=lambda x, complete=False: packed_type(x, qr_shapes(x, complete)),
    numpy=lambda x, complete=False: pack(np.linalg.qr(x, "complete" if complete else "reduced"), x.ndim - 2),
    vjp=per_operand(_qr_vjp),
    saves="r",
    jvp=summed(_qr_jvp),
    batch=leading,
)

# Singular values ------------------------------------------------------------------------------------


def svd_shapes(x: TensorType, full: bool) -> tuple[Shape, Shape, Shape]:
    rows, columns = matrix_shape(x)
    inner = min(rows, columns)
    return (rows, rows if full else inner), (inner,), (columns if full else inner, columns)


def _complement(e: Emitter, vectors: Any, count: int) -> tuple[Any, Any]:
    """The first ``count`` columns and the others."""
    return first_columns(e, vectors, count), columns_between(e, vectors, count, vectors.shape[-1])


def _through_complement(e: Emitter, vectors: Any, g: Any, count: int) -> tuple[Any, Any]:
    """The first columns and their cotangent: the others move as little as they can to stay orthogonal to them."""
    if vectors.shape[-1] == count:
        return vectors, g
    (first, others), (g_first, g_others) = _complement(e, vectors, count), _complement(e, g, count)
    return first, e.subtract(g_first, product(e, others, adjoint(e, g_others), first))


def _svd_vjp(e: Emitter, g: Any, op: Application) -> Any:
    rows, columns = matrix_shape(op.operand_types[0])
    shapes = svd_shapes(op.operand_types[0], op.attributes.get("full", False))
    count = min(rows, columns)
    u, s, vh = unpack(e, op.result, shapes)
    g_u, g_s, g_vh = unpack(e, g, shapes)
    u, g_u = _through_complement(e, u, g_u, count)
    v, g_v = _through_complement(e, adjoint(e, vh), adjoint(e, g_vh), count)
    squares, u_h, v_h = e.multiply(s, s), adjoint(e, u), adjoint(e, v)
    j, k = product(e, u_h, g_u), product(e, v_h, g_v)
    inner_u, inner_v = divided_by_gaps(e, j, squares), divided_by_gaps(e, k, squares)
    inner = columns_scaled(e, e.add(inner_u, adjoint(e, inner_u)), s)
    inner = e.add(inner, adjoint(e, columns_scaled(e, e.add(inner_v, adjoint(e, inner_v)), s)))
    change = real_part(e, g_s)
    if s.dtype.kind == "c":  # what turns the phases of the vectors of u against those of v
        phase = imaginary_part(e, e.subtract(diagonal(e, j), diagonal(e, k)))
        change = e.add(change, divided(e, phase, e.add(s, s)))
    result = product(e, u, with_diagonal(e, inner, change), v_h)
    if rows > columns:
        outside = divided(e, g_u, over_columns(e, s, tuple(g_u.shape)))
        result = e.add(result, product(e, e.subtract(outside, product(e, u, u_h, outside)), v_h))
    if columns > rows:
        outside = divided(e, g_v, over_columns(e, s, tuple(g_v.shape)))
        result = e.add(result, product(e, u, adjoint(e, e.subtract(outside, product(e, v, v_h, outside)))))
    return result


def _svd_jvp(e: Emitter, t: Any, op: Application) -> Any:
    rows, columns = matrix_shape(op.operand_types[0])
    count = min(rows, columns)
    all_u, s, all_vh = unpack(e, op.result, svd_shapes(op.operand_types[0], op.attributes.get("full", False)))
    all_v = adjoint(e, all_vh)
    u, v = first_columns(e, all_u, count), first_columns(e, all_v, count)
    squares, u_h, v_h = e.multiply(s, s), adjoint(e, u), adjoint(e, v)
    m = product(e, u_h, t, v)
    right, left = columns_scaled(e, m, s), adjoint(e, columns_scaled(e, adjoint(e, m), s))  # m s, s m
    inner_u = divided_by_gaps(e, e.add(right, adjoint(e, right)), squares)
    inner_v = divided_by_gaps(e, e.add(left, adjoint(e, left)), squares)
    if s.dtype.kind == "c":
        phase = divided(e, imaginary_part(e, diagonal(e, m)), e.add(s, s))
        inner_u, inner_v = with_diagonal(e, inner_u, phase), with_diagonal(e, inner_v, e.negate(phase))
    t_u, t_v = product(e, u, inner_u), product(e, v, inner_v)
    if rows > columns:
        outside = divided(e, product(e, t, v), over_columns(e, s, tuple(t_u.shape)))
        t_u = e.add(t_u, e.subtract(outside, product(e, u, u_h, outside)))
    if columns > rows:
        outside = divided(e, product(e, adjoint(e, t), u), over_columns(e, s, tuple(t_v.shape)))
        t_v = e.add(t_v, e.subtract(outside, product(e, v, v_h, outside)))
    t_u, t_v = _with_complement(e, all_u, t_u), _with_complement(e, all_v, t_v)
    return packed(e, [t_u, real_part(e, diagonal(e, m)), adjoint(e, t_v)], len(t.shape) - 2)


def _with_complement(e: Emitter, vectors: Any, t: Any) -> Any:
    """The tangents of all columns from those of the first ones."""
    count = t.shape[-1]
    if vectors.shape[-1] == count:
        return t
    first, others = _complement(e, vectors, count)
    t_others = e.negate(product(e, first, adjoint(e, t), others))
    return e.concatenate(t, t_others, dimension=len(t.shape) - 1)


def _svd_numpy(x: np.ndarray, full: bool = False) -> np.ndarray:
    u, s, vh = np.linalg.svd(x, full_matrices=full)
    return pack((u, s.astype(x.dtype), vh), x.ndim - 2)


svd = Library(
    name="svd",
    type_rule=lambda x, full=False: packed_type(x, svd_shapes(x, full)),
    numpy=_svd_numpy,
    vjp=per_operand(_svd_vjp),
    saves="r",
    jvp=summed(_svd_jvp),
    batch=leading,
)
