"""Inverses, determinants, decompositions and norms: what :mod:`tracejit.linalg` exports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tracejit.ir import TensorType
from tracejit.ir.primitives import decomposition, inversion
from tracejit.ir.primitives.exact import real_dtype
from tracejit.ir.primitives.matrices import unpack
from tracejit.ir.types import broadcast_static_shapes, format_shape

from .. import dispatch
from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply, tensor_emitter
from ..tensor import Tensor, new_tensor
from . import arithmetic, creation, elementwise, linalg, manipulation, reduction
from .arrangement import diagonal, moveaxis
from .axes import Axis, normalize_axis


class EighResult(NamedTuple):
    """What :func:`eigh` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class EigResult(NamedTuple):
    """What :func:`eig` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """What :func:`qr` returns."""

    Q: Tensor
    R: Tensor


class SlogdetResult(NamedTuple):
    """What :func:`slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


class SVDResult(NamedTuple):
    """What :func:`svd` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _matrices(name: str, x: Any, square: bool = False) -> Tensor:
    (tensor,) = operands(name, as_tensor(x, name), lowest_kind=2)
    if tensor.ndim < 2 or (square and tensor.shape[-1] != tensor.shape[-2]):
        what = "square matrices" if square else "matrices"
        raise at_user_line(ValueError(f"{name}: needs {what}, got shape {format_shape(tensor.shape)}"))
    return tensor


def _apply(primitive: Any, *tensors: Tensor, **attributes: Any) -> Tensor:
    try:
        return apply(primitive, tensors, attributes)
    except np.linalg.LinAlgError as error:
        raise at_user_line(error) from None


def _parts(packed: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    return unpack(tensor_emitter(), packed, shapes)


def _type(x: Tensor) -> TensorType:
    return TensorType(x.dtype, x.shape)


def _real(x: Tensor) -> Tensor:
    return arithmetic.real(x)


def inv(x: Any) -> Tensor:
    """The inverses of square matrices; ``LinAlgError`` for a singular one.

    >>> import tracejit as tj
    >>> tj.linalg.inv(tj.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    return _apply(inversion.inverse, _matrices("inv", x, True))


def det(x: Any) -> Tensor:
    """The determinants of square matrices; the gradient is right for singular ones too."""
    return _apply(inversion.determinant, _matrices("det", x, True))


def slogdet(x: Any) -> SlogdetResult:
    """The sign of the determinants, and the logarithm of their magnitude.

    Gradients of a singular matrix, whose logarithm is -inf, are a ``LinAlgError``.
    """
    packed = _apply(inversion.log_determinant, _matrices("slogdet", x, True))
    return SlogdetResult(packed[..., 0], _real(packed[..., 1]))


def solve(x1: Any, x2: Any) -> Tensor:
    """``x`` with ``x1 @ x = x2``; a vector ``x2`` is one right-hand side, else its columns are.

    >>> import tracejit as tj
    >>> tj.linalg.solve(tj.tensor([[2.0, 0.0], [0.0, 4.0]]), tj.tensor([2.0, 2.0]))
    tensor([1. , 0.5])
    """
    a, b = operands("solve", _matrices("solve", x1, True), as_tensor(x2, "solve"), lowest_kind=2)
    vector = b.ndim == 1
    if vector:
        b = manipulation.expand_dims(b, 1)
    try:
        batch = broadcast_static_shapes(a.shape[:-2], b.shape[:-2])
        fits = b.ndim >= 2 and b.shape[-2] == a.shape[-1]
    except ValueError:
        fits = False
    if not fits:
        shapes = f"{format_shape(a.shape)} and {format_shape(b.shape)}"
        raise at_user_line(ValueError(f"solve: matrices and right-hand sides of shapes {shapes} do not fit"))
    a = manipulation.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = manipulation.broadcast_to(b, (*batch, *b.shape[-2:]))
    result = _apply(inversion.solve, a, b)
    return manipulation.squeeze(result, -1) if vector else result


def cholesky(x: Any, upper: bool = False) -> Tensor:
    """The lower triangular ``L`` with ``L @ L^H = x``, of positive definite matrices; with ``upper`` its adjoint."""
    lower = _apply(decomposition.cholesky, _matrices("cholesky", x, True))
    return arithmetic.conj(manipulation.matrix_transpose(lower)) if upper else lower


def eigh(x: Any, UPLO: str = "L") -> EighResult:
    """The eigenvalues of symmetric (Hermitian) matrices in increasing order, and the eigenvectors as columns.

    The lower triangles are read, with ``UPLO="U"`` the upper ones.
    The gradient is symmetric (Hermitian).  It is that of what does not depend on the vectors' phases (signs, of real
    ones), and where it depends on the vectors of equal eigenvalues it is infinite or NaN: they are not determined.
    """
    tensor = _matrices("eigh", x, True)
    if UPLO not in ("L", "U"):
        raise at_user_line(ValueError(f"eigh: UPLO must be 'L' or 'U', got {UPLO!r}"))
    if UPLO == "U":
        tensor = arithmetic.conj(manipulation.matrix_transpose(tensor))
    values, vectors = _parts(_apply(decomposition.eigh, tensor), decomposition.eigh_shapes(_type(tensor)))
    return EighResult(_real(values), vectors)


def eigvalsh(x: Any, UPLO: str = "L") -> Tensor:
    """The eigenvalues of symmetric (Hermitian) matrices, in increasing order; see :func:`eigh`."""
    return eigh(x, UPLO).eigenvalues


def eig(x: Any) -> EigResult:
    """The eigenvalues of square matrices, and the eigenvectors as columns of length 1: complex numbers.

    The gradient is that of what does not depend on the vectors' phases; see :func:`eigh` for equal eigenvalues.
    """
    tensor = _matrices("eig", x, True)
    values, vectors = _parts(_apply(decomposition.eig, tensor), decomposition.eigh_shapes(_type(tensor)))
    return EigResult(values, vectors)


def eigvals(x: Any) -> Tensor:
    """The eigenvalues of square matrices, complex numbers."""
    return eig(x).eigenvalues


def qr(x: Any, mode: str = "reduced") -> QRResult:
    """``Q`` with orthonormal columns and the upper triangular ``R``, with ``Q @ R = x``.

    The gradient needs the first ``min(rows, columns)`` columns to be independent; ``"complete"`` of a matrix that is
    higher than wide has none.
    """
    if mode not in ("reduced", "complete"):
        raise at_user_line(ValueError(f"qr: mode must be 'reduced' or 'complete', got {mode!r}"))
    tensor = _matrices("qr", x)
    complete = mode == "complete"
    shapes = decomposition.qr_shapes(_type(tensor), complete)
    q, r = _parts(_apply(decomposition.qr, tensor, complete=complete), shapes)
    return QRResult(q, r)


def svd(x: Any, full_matrices: bool = True) -> SVDResult:
    """``U``, the singular values in decreasing order, and ``Vh``, with ``U @ diag(S) @ Vh = x``.

    The gradient is that of what does not depend on the vectors' phases, nor on the basis of the vectors beyond the
    singular values; see :func:`eigh` for equal values.
    """
    tensor = _matrices("svd", x)
    packed = _apply(decomposition.svd, tensor, full=full_matrices)
    u, s, vh = _parts(packed, decomposition.svd_shapes(_type(tensor), full_matrices))
    return SVDResult(u, _real(s), vh)


def svdvals(x: Any) -> Tensor:
    """The singular values, in decreasing order."""
    return svd(x, full_matrices=False).S


def _tolerance(x: Tensor, values: Tensor, rtol: Any) -> Tensor:
    """Below what a singular value counts as 0."""
    if rtol is None:
        rtol = _default_tolerance(x)
    elif isinstance(rtol, Tensor) and rtol.ndim:
        rtol = manipulation.expand_dims(rtol, -1)
    largest = reduction.max(values, -1, keepdims=True)
    return elementwise.multiply(largest, rtol)


def _default_tolerance(x: Tensor) -> float:
    rows, columns = x.shape[-2:]
    return (rows if rows > columns else columns) * float(np.finfo(real_dtype(x.dtype)).eps)


def matrix_rank(x: Any, rtol: Any = None) -> Tensor:
    """How many singular values are larger than ``rtol`` times the largest."""
    tensor = _matrices("matrix_rank", x).detach()
    values = svdvals(tensor)
    if 0 in tensor.shape[-2:]:
        return creation.zeros(tensor.shape[:-2], dtype=np.int64)
    above = elementwise.greater(values, _tolerance(tensor, values, rtol))
    return reduction.sum(elementwise.astype(above, np.int64), -1)


def pinv(x: Any, rtol: Any = None) -> Tensor:
    """The pseudo-inverses of matrices; singular values below ``rtol`` times the largest count as 0.

    The gradient is that of matrices whose rank does not change.
    """
    tensor = _matrices("pinv", x)
    dtype = real_dtype(tensor.dtype)
    if rtol is None:
        rtol = _default_tolerance(tensor)
    tolerance = elementwise.astype(as_tensor(rtol, "pinv").detach(), dtype)
    return _apply(inversion.pseudo_inverse, tensor, manipulation.broadcast_to(tolerance, tensor.shape[:-2]))


def matrix_power(x: Any, n: int) -> Tensor:
    """A square matrix times itself, ``n`` factors; of the inverse for a negative ``n``."""
    tensor = _matrices("matrix_power", x, True)
    if not hasattr(n, "__index__"):
        raise at_user_line(TypeError(f"matrix_power: the exponent must be an integer, got {type(n).__name__} {n!r}"))
    n = n.__index__()
    if n < 0:
        tensor, n = inv(tensor), -n
    if n == 0:
        eye = creation.eye(tensor.shape[-1], dtype=tensor.dtype, device=tensor.device)
        return manipulation.broadcast_to(eye, tensor.shape)
    result: Tensor | None = None
    while n:
        if n & 1:
            result = tensor if result is None else linalg.matmul(result, tensor)
        n >>= 1
        if n:
            tensor = linalg.matmul(tensor, tensor)
    assert result is not None
    return result


# Norms ----------------------------------------------------------------------------------------------


def vector_norm(x: Any, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """``sum(abs(x)**ord)**(1/ord)``; the largest or smallest magnitude for ±inf, a count for 0.

    Where the norm is 0 its gradient is 0.

    >>> import tracejit as tj
    >>> tj.linalg.vector_norm(tj.tensor([3.0, 4.0]))
    tensor(5.)
    """
    (tensor,) = operands("vector_norm", as_tensor(x, "vector_norm"), lowest_kind=2)
    if ord == 2:
        squares = elementwise.multiply(arithmetic.conj(tensor), tensor)
        return reduction.root(reduction.sum(_real(squares), axis, keepdims))
    magnitude = elementwise.abs(tensor)
    if ord == math.inf:
        return reduction.max(magnitude, axis, keepdims)
    if ord == -math.inf:
        return reduction.min(magnitude, axis, keepdims)
    if ord == 0:
        return reduction.sum(elementwise.astype(elementwise.not_equal(tensor, 0), magnitude.dtype), axis, keepdims)
    if ord == 1:
        return reduction.sum(magnitude, axis, keepdims)
    return _power(reduction.sum(_power(magnitude, ord), axis, keepdims), 1 / ord)


def _power(x: Tensor, exponent: float) -> Tensor:
    """A power of what is not negative, with gradient 0 at 0."""
    if exponent < 0:
        return elementwise.pow(x, exponent)
    is_zero = elementwise.equal(x, 0)
    return elementwise.where(is_zero, 0, elementwise.pow(elementwise.where(is_zero, 1, x), exponent))


def matrix_norm(x: Any, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norms of matrices: "fro", "nuc", 1 or inf (the largest sum), 2 (the largest singular value), or negative."""
    tensor = _matrices("matrix_norm", x)
    if ord == "fro":
        result = vector_norm(tensor, (-2, -1))
    elif ord in (1, -1, math.inf, -math.inf):
        sums = reduction.sum(elementwise.abs(tensor), -2 if ord in (1, -1) else -1)
        result = (reduction.max if ord > 0 else reduction.min)(sums, -1)
    elif ord in (2, -2, "nuc"):
        values = svdvals(tensor)
        extremum = reduction.sum if ord == "nuc" else reduction.max if ord > 0 else reduction.min
        result = extremum(values, -1)
    else:
        raise at_user_line(ValueError(f"matrix_norm: ord must be 'fro', 'nuc', ±1, ±2 or ±inf, got {ord!r}"))
    return manipulation.reshape(result, (*tensor.shape[:-2], 1, 1)) if keepdims else result


def norm(x: Any, ord: Any = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """:func:`vector_norm` under PyTorch's name, of all elements by default; ``"fro"`` is 2, ``"nuc"`` of matrices."""
    if ord == "nuc":
        return norm_of_either(x, ord, (-2, -1) if axis is None else axis, keepdims)
    return vector_norm(x, axis, keepdims, 2 if ord == "fro" else ord)


def norm_of_either(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors or of matrices, as NumPy's ``linalg.norm`` tells them apart.

    Along one ``axis``, or of a vector, it is :func:`vector_norm`; along two axes, or of a matrix, :func:`matrix_norm`.
    Without an ``ord`` it is the root of the sum of squares, of all elements if there is no ``axis`` either.

    >>> import tracejit as tj
    >>> x = tj.tensor([[3.0, 4.0], [0.0, 0.0]])
    >>> tj.linalg.norm(x), tj.linalg.norm(x, tj.inf), tj.linalg.norm(x, tj.inf, axis=1)
    (tensor(5.), tensor(7.), tensor([4., 0.]))
    """
    tensor = as_tensor(x, "norm")
    if ord is None:
        return vector_norm(tensor, axis, keepdims)
    if axis is None:
        if tensor.ndim not in (1, 2):
            shape = format_shape(tensor.shape)
            raise at_user_line(ValueError(f"norm: ord={ord!r} needs a vector, a matrix or an axis, got shape {shape}"))
        axis = tuple(range(tensor.ndim))
    axes = [normalize_axis("norm", item, tensor.ndim) for item in (axis if isinstance(axis, tuple | list) else (axis,))]
    if len(axes) == 1:
        if not isinstance(ord, (int, float)):
            raise at_user_line(ValueError(f"norm: ord of a vector must be a number, got {ord!r}"))
        return vector_norm(tensor, axes, keepdims, ord)
    if len(set(axes)) != 2 or len(axes) != 2:
        raise at_user_line(ValueError(f"norm: expected one axis or two that differ, got {axis!r}"))
    result = matrix_norm(moveaxis(tensor, axes, (-2, -1)), False, ord)
    return manipulation.expand_dims(result, sorted(axes)) if keepdims else result


def diag(x: Any, k: int = 0) -> Tensor:
    """A matrix with a vector as its ``k``-th diagonal, or the ``k``-th diagonal of a matrix.

    >>> import tracejit as tj
    >>> tj.diag(tj.tensor([1, 2]), 1)
    tensor([[0, 1, 0],
            [0, 0, 2],
            [0, 0, 0]])
    """
    tensor = as_tensor(x, "diag")
    if tensor.ndim == 2:
        return diagonal(tensor, k)
    if tensor.ndim != 1:
        raise at_user_line(ValueError(f"diag: needs a vector or a matrix, got shape {format_shape(tensor.shape)}"))
    size = tensor.size + (k if k > 0 else -k)
    eye = new_tensor(dispatch.constant_payload(np.eye(size, k=k, dtype=np.bool_)))
    zero = new_tensor(dispatch.constant_payload(np.zeros((), tensor.dtype)))
    columns = manipulation.pad(tensor, (k, 0) if k > 0 else (0, -k)) if k else tensor
    return elementwise.where(eye, columns, zero)
