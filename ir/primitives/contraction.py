"""The matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batching import BatchedApplication
from ..primitive import Application, Contraction, Emitter, holomorphic, per_operand, same_dtype, summed
from ..types import Dim, TensorType, bool_, short_name


def _dot_type(lhs: TensorType, rhs: TensorType, transpose_lhs: bool = False, transpose_rhs: bool = False) -> TensorType:
    dtype = same_dtype("dot", lhs, rhs)
    if dtype == bool_:
        raise TypeError(f"dot is not defined for {short_name(dtype)}, got {lhs!r} and {rhs!r}")
    if lhs.ndim < 2 or lhs.ndim != rhs.ndim or lhs.shape[:-2] != rhs.shape[:-2]:
        raise ValueError(f"dot: operands must be matrices with equal batch dimensions, got {lhs!r} and {rhs!r}")
    m, k = _oriented(lhs, transpose_lhs)
    k_rhs, n = _oriented(rhs, transpose_rhs)
    if k != k_rhs:
        raise ValueError(f"mat1 and mat2 shapes cannot be multiplied ({m}x{k} and {k_rhs}x{n})")
    return TensorType(dtype, (*lhs.shape[:-2], m, n))


def _oriented(type: TensorType, transposed: bool) -> tuple[Dim, Dim]:
    rows, columns = type.shape[-2:]
    return (columns, rows) if transposed else (rows, columns)


def _dot_numpy(
    lhs: np.ndarray, rhs: np.ndarray, transpose_lhs: bool = False, transpose_rhs: bool = False
) -> np.ndarray:
    # What BLAS rounds depends on how the operands lie in memory.
    left = np.ascontiguousarray(lhs.mT if transpose_lhs else lhs)
    right = np.ascontiguousarray(rhs.mT if transpose_rhs else rhs)
    product = np.matmul(left, right)
    return product.astype(lhs.dtype, copy=False)  # ml_dtypes multiplies bfloat16 into float32


def _lhs_vjp(e: Emitter, g: Any, op: Application) -> Any:
    """``g @ rhs^T``, or its transpose where lhs was read transposed."""
    rhs, rhs_transposed = op.operands[1], op.attributes.get("transpose_rhs", False)
    if op.attributes.get("transpose_lhs", False):
        return e.dot(rhs, g, transpose_lhs=rhs_transposed, transpose_rhs=True)
    return e.dot(g, rhs, transpose_lhs=False, transpose_rhs=not rhs_transposed)


def _rhs_vjp(e: Emitter, g: Any, op: Application) -> Any:
    lhs, lhs_transposed = op.operands[0], op.attributes.get("transpose_lhs", False)
    if op.attributes.get("transpose_rhs", False):
        return e.dot(g, lhs, transpose_lhs=True, transpose_rhs=lhs_transposed)
    return e.dot(lhs, g, transpose_lhs=not lhs_transposed, transpose_rhs=False)


def _dot_batch(e: Emitter, op: BatchedApplication) -> Any:
    """One more batch dimension; but a matrix that is the same for the whole batch makes one product of it all."""
    lhs, rhs = op.operands
    lhs_transposed = op.attributes.get("transpose_lhs", False)
    rhs_transposed = op.attributes.get("transpose_rhs", False)
    if all(op.is_batched) or len(op.shape(0)) > 2:
        return e.apply(op.primitive, op.all_stretched(e), op.attributes)
    if op.is_batched[0]:
        rows = e.transpose(lhs, permutation=(0, 2, 1)) if lhs_transposed else lhs
        flat = e.reshape(rows, shape=(op.size * rows.shape[1], rows.shape[2]))
        product = e.dot(flat, rhs, transpose_lhs=False, transpose_rhs=rhs_transposed)
        return e.reshape(product, shape=(op.size, rows.shape[1], product.shape[1]))
    columns = rhs if rhs_transposed else e.transpose(rhs, permutation=(0, 2, 1))
    flat = e.reshape(columns, shape=(op.size * columns.shape[1], columns.shape[2]))
    product = e.dot(lhs, flat, transpose_lhs=lhs_transposed, transpose_rhs=True)
    apart = e.reshape(product, shape=(product.shape[0], op.size, columns.shape[1]))
    return e.transpose(apart, permutation=(1, 0, 2))


def _lhs_jvp(e: Emitter, t: Any, op: Application) -> Any:
    return e.dot(t, op.operands[1], **op.attributes)


def _rhs_jvp(e: Emitter, t: Any, op: Application) -> Any:
    return e.dot(op.operands[0], t, **op.attributes)


# An element's sum runs over k in blocks of 256: within a block one chain of fused multiply-adds in
# increasing k, then the blocks' sums in order.  It depends on k's extent alone.  bfloat16 is summed up in
# float32 and rounded once: in the order that the CPU's instruction has, where it has one for pairs.
dot = Contraction(
    name="dot",
    type_rule=_dot_type,
    numpy=_dot_numpy,
    exact=False,
    vjp=per_operand(holomorphic(_lhs_vjp), holomorphic(_rhs_vjp)),
    saves="01",
    jvp=summed(_lhs_jvp, _rhs_jvp),
    batch=_dot_batch,
)
