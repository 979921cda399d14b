"""Statistics: weighted means, covariances, and reductions that skip NaN."""

from __future__ import annotations

from typing import Any

from tracejit.ir.extents import as_float
from tracejit.ir.types import format_shape

from ..locations import at_user_line
from ..promotion import as_tensor, kind, operands
from ..tensor import Tensor
from . import arithmetic, cumulative, elementwise, linalg, manipulation, reduction
from .axes import Axis, normalize_axes

# Without NaN ----------------------------------------------------------------------------------------


def _without_nan(name: str, x: Any, fill: float) -> tuple[Tensor, Tensor]:
    """The tensor with ``fill`` for NaN, and where there was none."""
    tensor = as_tensor(x, name)
    present = elementwise.logical_not(elementwise.isnan(tensor))
    if tensor.dtype.kind not in "fcV":
        return tensor, present
    return elementwise.where(present, tensor, fill), present


def nansum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum of what is not NaN.

    >>> import tracejit as tj
    >>> tj.nansum(tj.tensor([1.0, float("nan"), 2.0]))
    tensor(3.)
    """
    return reduction.sum(_without_nan("nansum", x, 0)[0], axis, keepdims)


def nanprod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product of what is not NaN."""
    return reduction.prod(_without_nan("nanprod", x, 1)[0], axis, keepdims)


def nanmean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean of what is not NaN; NaN where nothing else is."""
    tensor = as_tensor(x, "nanmean")
    values, present = _without_nan("nanmean", reduction.widened(tensor), 0)
    count = reduction.sum(elementwise.astype(present, values.dtype), axis, keepdims)
    return _rounded(elementwise.divide(reduction.sum(values, axis, keepdims), count), tensor)


def _rounded(result: Tensor, operand: Tensor) -> Tensor:
    return elementwise.astype(result, operand.dtype) if kind(operand.dtype) == 2 else result


def nanvar(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance of what is not NaN."""
    given = as_tensor(x, "nanvar")
    tensor = reduction.widened(given)
    distance, present = _without_nan("nanvar", elementwise.subtract(tensor, nanmean(tensor, axis, True)), 0)
    count = elementwise.subtract(reduction.sum(elementwise.astype(present, distance.dtype), axis, keepdims), correction)
    return _rounded(elementwise.divide(reduction.sum(elementwise.square(distance), axis, keepdims), count), given)


def nanstd(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation of what is not NaN; its gradient is 0 where it is 0."""
    return reduction.root(nanvar(x, axis, correction, keepdims))


def _nan_extremum(name: str, x: Any, axis: Axis, keepdims: bool, worst: float, extremum: Any) -> Tensor:
    values, present = _without_nan(name, x, worst)
    result = extremum(values, axis, keepdims)
    if values.dtype.kind not in "fV":
        return result
    return elementwise.where(reduction.any(present, axis, keepdims), result, float("nan"))


def nanmax(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest of what is not NaN; NaN where nothing else is."""
    return _nan_extremum("nanmax", x, axis, keepdims, float("-inf"), reduction.max)


def nanmin(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest of what is not NaN; NaN where nothing else is."""
    return _nan_extremum("nanmin", x, axis, keepdims, float("inf"), reduction.min)


def nanargmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the largest element that is not NaN; ``ValueError`` where nothing else is."""
    return _nan_position("nanargmax", x, axis, keepdims, float("-inf"), reduction.argmax)


def nanargmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the smallest element that is not NaN; ``ValueError`` where nothing else is."""
    return _nan_position("nanargmin", x, axis, keepdims, float("inf"), reduction.argmin)


def _nan_position(name: str, x: Any, axis: int | None, keepdims: bool, worst: float, position: Any) -> Tensor:
    from .indexing import check

    values, present = _without_nan(name, as_tensor(x, name).detach(), worst)
    if values.dtype.kind not in "fcV":
        return position(values, axis, keepdims)
    check(reduction.all(reduction.any(present, axis)), ValueError, f"{name}: All-NaN slice encountered")
    # Where all that is present is as bad as what stands for NaN, the first that is present wins.
    best = position(values, axis, keepdims=True)
    hidden = elementwise.where(present, elementwise.where(elementwise.equal(values, worst), 1, 2), 0)
    worst_only = elementwise.less_equal(reduction.max(hidden, axis, keepdims=True), 1)
    first = reduction.argmax(hidden, axis, keepdims=True)
    result = elementwise.where(worst_only, first, best)
    if keepdims:
        return result
    axes = normalize_axes(name, axis, values.ndim)
    return manipulation.reshape(result, tuple(n for i, n in enumerate(values.shape) if i not in axes))


def nancumsum(x: Any, axis: int | None = None) -> Tensor:
    """The sums of the elements up to each one, NaN left out."""
    return cumulative.cumsum(_without_nan("nancumsum", x, 0)[0], axis)


def nancumprod(x: Any, axis: int | None = None) -> Tensor:
    """The products of the elements up to each one, NaN left out."""
    return cumulative.cumprod(_without_nan("nancumprod", x, 1)[0], axis)


# Spread and relation --------------------------------------------------------------------------------


def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element less the smallest."""
    tensor = as_tensor(x, "ptp")
    return elementwise.subtract(reduction.max(tensor, axis, keepdims), reduction.min(tensor, axis, keepdims))


def average(x: Any, axis: Axis = None, weights: Any = None, returned: bool = False, keepdims: bool = False) -> Any:
    """The mean with ``weights``: of the tensor's shape, or a vector for one axis; equal ones for ``None``.

    With ``returned`` also the sum of the weights.  ``ZeroDivisionError`` where that is 0.

    >>> import tracejit as tj
    >>> tj.average(tj.tensor([1.0, 4.0]), weights=tj.tensor([3.0, 1.0]))
    tensor(1.75)
    """
    from .indexing import check

    (tensor,) = operands("average", as_tensor(x, "average"), lowest_kind=2)
    axes = normalize_axes("average", axis, tensor.ndim)
    if weights is None:
        result = reduction.mean(tensor, axis, keepdims)
        total = elementwise.add(elementwise.multiply(result.detach(), 0), reduction._count("average", tensor, axis))
        return (result, total) if returned else result
    tensor, shares = operands("average", tensor, weights)
    if shares.shape != tensor.shape:
        if tuple(shares.shape) != tuple(tensor.shape[i] for i in axes):
            shapes = f"{format_shape(shares.shape)} for {format_shape(tensor.shape)}"
            raise at_user_line(ValueError(f"average: the weights' shape does not fit along the axes: {shapes}"))
        shares = manipulation.reshape(shares, tuple(n if i in axes else 1 for i, n in enumerate(tensor.shape)))
        shares = manipulation.broadcast_to(shares, tensor.shape)
    total = reduction.sum(shares, axis, keepdims)
    message = "average: weights sum to zero, can't be normalized"
    check(reduction.all(elementwise.not_equal(total, 0)), ZeroDivisionError, message)
    result = elementwise.divide(reduction.sum(elementwise.multiply(tensor, shares), axis, keepdims), total)
    return (result, total) if returned else result


def cov(x: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: float | None = None) -> Tensor:
    """The covariances of variables: the rows of ``x`` (and ``y``), or with ``rowvar=False`` the columns.

    Sums are divided by the number of observations less ``ddof``: 1, or 0 with ``bias``.

    >>> import tracejit as tj
    >>> tj.cov(tj.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    (variables,) = operands("cov", _variables("cov", x, rowvar), lowest_kind=2)
    if y is not None:
        variables = manipulation.concat([variables, _variables("cov", y, rowvar)], 0)
    lost = ddof if ddof is not None else 0 if bias else 1
    centered = elementwise.subtract(variables, reduction.mean(variables, 1, keepdims=True))
    products = linalg.matmul(centered, arithmetic.conj(manipulation.matrix_transpose(centered)))
    result = elementwise.divide(products, as_float(reduction.max_number(variables.shape[1] - lost, 0)))
    return manipulation.squeeze(result)


def _variables(name: str, x: Any, rowvar: bool) -> Tensor:
    tensor = as_tensor(x, name)
    if tensor.ndim > 2:
        raise at_user_line(ValueError(f"{name}: needs two axes or fewer, got shape {format_shape(tensor.shape)}"))
    if tensor.ndim < 2:
        return manipulation.reshape(tensor, (1, tensor.size))
    return tensor if rowvar else manipulation.matrix_transpose(tensor)


def corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Tensor:
    """The coefficients of correlation of variables, see :func:`cov`."""
    covariances = cov(x, y, rowvar)
    if covariances.ndim == 0:
        return elementwise.divide(covariances, covariances)
    from .arrangement import diagonal

    deviations = elementwise.sqrt(arithmetic.real(diagonal(covariances)))
    rows = manipulation.expand_dims(deviations, 1)
    result = elementwise.divide(elementwise.divide(covariances, rows), deviations)
    if result.dtype.kind == "c":
        parts = (elementwise.clip(part, -1, 1) for part in (arithmetic.real(result), arithmetic.imag(result)))
        return arithmetic.from_parts(*parts)
    return elementwise.clip(result, -1, 1)
