"""Inverses, determinants and solutions of linear systems, by LAPACK through NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import leading
from ..primitive import Application, Emitter, Library, Rule, holomorphic, per_operand, summed
from ..types import TensorType
from .exact import real_dtype
from .matrices import (
    adjoint,
    identity_minus,
    imaginary_part,
    matrix_shape,
    packed,
    packed_type,
    product,
    real_part,
    scaled,
    square,
    transposed,
    unpack,
    weighted,
)


def _holomorphic(name: str, numpy: Any, vjp: Rule, jvp: Rule, scalar: bool = False) -> Library:
    def type_rule(x: TensorType) -> TensorType:
        type = square(name, x)
        return TensorType(type.dtype, type.shape[:-2]) if scalar else type

    return Library(
        name=name, type_rule=type_rule, numpy=numpy, vjp=per_operand(holomorphic(vjp)), saves="0r", jvp=summed(jvp),
        batch=leading,
    )  # fmt: skip


def _inverse_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return e.negate(product(e, transposed(e, op.result), g, transposed(e, op.result)))


inverse = _holomorphic(
    "inverse", np.linalg.inv, _inverse_vjp, lambda e, t, op: e.negate(product(e, op.result, t, op.result))
)


def _adjugate_numpy(x: np.ndarray) -> np.ndarray:
    """From the singular values: each one's place gets the product of the others, which is right for singular ones.

    Of small matrices as :func:`_cofactors` has it, to the bit.
    """
    if x.shape[-1] == 0:
        return x
    if x.shape[-1] <= 3:
        return _small_cofactors(x).mT
    u, s, vh = np.linalg.svd(x)
    one = np.ones((*s.shape[:-1], 1), s.dtype)
    before = np.cumprod(np.concatenate([one, s[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([one, s[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    turn = np.linalg.det(u) * np.linalg.det(vh)
    columns = vh.mT.conj() * (before * after)[..., None, :]
    return (turn[..., None, None] * (columns @ u.mT.conj())).astype(x.dtype)


def _adjugate_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """Of ``det(x) * inverse(x)``; not for singular matrices."""
    inverse_t, result_t = transposed(e, e.inverse(op.operands[0])), transposed(e, op.result)
    ndim = len(g.shape)
    along = e.reduce_sum(e.multiply(g, transposed(e, inverse_t)), axes=(ndim - 2, ndim - 1))
    return e.subtract(scaled(e, result_t, along), product(e, inverse_t, g, result_t))


def _adjugate_jvp(e: Emitter, t: Any, op: Application) -> Any:
    inverse, ndim = e.inverse(op.operands[0]), len(t.shape)
    change = e.reduce_sum(e.multiply(t, transposed(e, op.result)), axes=(ndim - 2, ndim - 1))
    return e.subtract(scaled(e, inverse, change), product(e, inverse, t, op.result))


# The determinant times the inverse, and what that tends to for a singular matrix.
adjugate = _holomorphic("adjugate", _adjugate_numpy, _adjugate_vjp, _adjugate_jvp)


def _cofactors(e: Emitter, x: Any) -> Any:
    """The gradient of the determinant; of small matrices written out, which has derivatives of any order."""
    rows = x.shape[-1]
    if rows == 1:
        return e.full(1, TensorType(x.dtype, tuple(x.shape)))
    if rows == 2:
        signs = e.constant(np.array([[1, -1], [-1, 1]], x.dtype))
        return e.multiply(e.reverse(x, dimensions=(len(x.shape) - 2, len(x.shape) - 1)), signs)
    if rows == 3:
        turned = [[_turned(e, _turned(e, x, 2, i), 1, j) for j in (1, 2)] for i in (1, 2)]
        first, second = e.multiply(turned[0][0], turned[1][1]), e.multiply(turned[0][1], turned[1][0])
        return e.subtract(first, second)
    return transposed(e, e.adjugate(x))


def _small_cofactors(x: np.ndarray) -> np.ndarray:
    """The same of arrays of up to three rows."""
    if x.shape[-1] == 1:
        return np.ones_like(x)
    if x.shape[-1] == 2:
        return x[..., ::-1, ::-1] * np.array([[1, -1], [-1, 1]], x.dtype)
    turned = [[np.roll(x, (-i, -j), (-2, -1)) for j in (1, 2)] for i in (1, 2)]
    return turned[0][0] * turned[1][1] - turned[0][1] * turned[1][0]


def _turned(e: Emitter, x: Any, axis: int, count: int) -> Any:
    """What begins with the ``count``-th along an axis, counted from the last, and goes on in a circle."""
    axis, limit = len(x.shape) - axis, list(x.shape)
    start, strides = [0] * len(limit), (1,) * len(limit)
    start[axis] = limit[axis] = count
    end = e.slice(x, start=(0,) * len(limit), limit=tuple(limit), strides=strides)
    begin = e.slice(x, start=tuple(start), limit=tuple(x.shape), strides=strides)
    return e.concatenate(begin, end, dimension=axis)


def _determinant_vjp(e: Emitter, g: Any, op: Application) -> Any:
    return scaled(e, _cofactors(e, op.operands[0]), g)


determinant = _holomorphic("determinant", np.linalg.det, _determinant_vjp, weighted(_determinant_vjp), scalar=True)


def _log_determinant_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """The magnitude moves with the real part of ``trace(inverse(x) @ dx)``, the sign turns with the imaginary one."""
    (sign, _), (g_sign, g_log) = unpack(e, op.result, ((), ())), unpack(e, g, ((), ()))
    factor = real_part(e, g_log)
    if g.dtype.kind == "c":
        factor = e.add(factor, imaginary_part(e, e.multiply(g_sign, e.conjugate(sign))))
    return scaled(e, adjoint(e, e.inverse(op.operands[0])), factor)


def _log_determinant_jvp(e: Emitter, t: Any, op: Application) -> Any:
    batch = len(t.shape) - 2
    sign, _ = unpack(e, op.result, ((), ()))
    change = e.reduce_sum(e.multiply(t, transposed(e, e.inverse(op.operands[0]))), axes=(batch, batch + 1))
    return packed(e, [e.multiply(imaginary_part(e, change), sign), real_part(e, change)], batch)


# The sign and the logarithm of the magnitude.
log_determinant = Library(
    name="log_determinant",
    type_rule=lambda x: packed_type(square("log_determinant", x), ((), ())),
    numpy=lambda x: np.stack(np.linalg.slogdet(x), axis=-1).astype(x.dtype),
    vjp=per_operand(_log_determinant_vjp),
    saves="0r",
    jvp=summed(_log_determinant_jvp),
    batch=leading,
)


def _solve_type(a: TensorType, b: TensorType) -> TensorType:
    square("solve", a)
    if a.dtype != b.dtype or a.shape[:-2] != b.shape[:-2] or a.ndim != b.ndim or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"solve: the right-hand sides do not fit the matrices, got {a!r} and {b!r}")
    return b


solve = Library(
    name="solve",
    type_rule=_solve_type,
    numpy=np.linalg.solve,
    vjp=per_operand(
        lambda e, g, op: e.negate(product(e, e.solve(adjoint(e, op.operands[0]), g), adjoint(e, op.result))),
        lambda e, g, op: e.solve(adjoint(e, op.operands[0]), g),
    ),
    saves="0r",
    jvp=summed(
        lambda e, t, op: e.negate(e.solve(op.operands[0], product(e, t, op.result))),
        lambda e, t, op: e.solve(op.operands[0], t),
    ),
    batch=leading,
)


def _pseudo_inverse_type(x: TensorType, tolerance: TensorType) -> TensorType:
    rows, columns = matrix_shape(x)
    if tolerance != TensorType(real_dtype(x.dtype), x.shape[:-2]):
        raise ValueError(f"pseudo_inverse: needs one tolerance for each matrix, got {x!r} and {tolerance!r}")
    return TensorType(x.dtype, (*x.shape[:-2], columns, rows))


def _pseudo_inverse_vjp(e: Emitter, g: Any, op: Application) -> Any:
    x, p = op.operands[0], op.result
    p_h, g_h = adjoint(e, p), adjoint(e, g)
    outside_rows = identity_minus(e, product(e, x, p))
    outside_columns = identity_minus(e, product(e, p, x))
    result = e.negate(product(e, p_h, g, p_h))
    result = e.add(result, product(e, outside_rows, g_h, p, p_h))
    return e.add(result, product(e, p_h, p, g_h, outside_columns))


def _pseudo_inverse_jvp(e: Emitter, t: Any, op: Application) -> Any:
    x, p = op.operands[0], op.result
    p_h, t_h = adjoint(e, p), adjoint(e, t)
    result = e.negate(product(e, p, t, p))
    result = e.add(result, product(e, p, p_h, t_h, identity_minus(e, product(e, x, p))))
    return e.add(result, product(e, identity_minus(e, product(e, p, x)), t_h, p_h, p))


# Singular values not above ``tolerance`` times the largest count as 0.  The derivative is that of matrices whose rank
# does not change (Golub, Pereyra: "The differentiation of pseudo-inverses", 1973).
pseudo_inverse = Library(
    name="pseudo_inverse",
    type_rule=_pseudo_inverse_type,
    numpy=lambda x, tolerance: np.linalg.pinv(x, tolerance),
    vjp=per_operand(_pseudo_inverse_vjp, None),
    saves="0r",
    differentiable_operands=(0,),
    jvp=summed(_pseudo_inverse_jvp, None),
    batch=leading,
)
