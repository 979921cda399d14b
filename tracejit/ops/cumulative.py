"""Running sums, products and extremes."""

from __future__ import annotations

from typing import Any, NamedTuple

from tracejit.ir.primitives import library as primitives
from tracejit.ir.types import DType, bool_, float32, format_shape, int64, is_integer, uint64

from ..locations import at_user_line
from ..promotion import as_tensor, kind
from ..tape import apply
from ..tensor import Tensor
from . import creation, elementwise, manipulation
from .axes import normalize_axis
from .sorting import _taken


def _cumulative(name: str, primitive: Any, x: Any, axis: int | None, dtype: Any, initial: int | None) -> Tensor:
    tensor = as_tensor(x, name)
    if dtype is not None:
        tensor = elementwise.astype(tensor, dtype)
    elif kind(tensor.dtype) < 2:
        tensor = elementwise.astype(tensor, sum_dtype(tensor.dtype))
    if axis is None:
        if tensor.ndim > 1:
            raise at_user_line(ValueError(f"{name}: axis is needed for shape {format_shape(tensor.shape)}"))
        axis = 0
    if tensor.ndim == 0:
        tensor = manipulation.reshape(tensor, (1,))
    along = normalize_axis(name, axis, tensor.ndim)
    result = apply(primitive, (tensor,), {"axis": along})
    if initial is None:
        return result
    shape = tuple(1 if i == along else n for i, n in enumerate(tensor.shape))
    return manipulation.concat([creation.full(shape, initial, dtype=tensor.dtype), result], along)


def sum_dtype(dtype: DType) -> DType:
    """What bools and integers are summed in."""
    return uint64 if dtype.kind == "u" else int64 if is_integer(dtype) or dtype == bool_ else dtype


def cumulative_sum(x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """The sums of the elements up to each one, in order; with ``include_initial`` a 0 in front.

    >>> import tracejit as tj
    >>> tj.cumulative_sum(tj.tensor([1, 2, 3]))
    tensor([1, 3, 6])
    """
    initial = 0 if include_initial else None
    return _cumulative("cumulative_sum", primitives.cumulative_sum, x, axis, dtype, initial)


def cumulative_prod(x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """The products of the elements up to each one, in order; with ``include_initial`` a 1 in front."""
    initial = 1 if include_initial else None
    return _cumulative("cumulative_prod", primitives.cumulative_product, x, axis, dtype, initial)


def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """The sums of the elements up to each one along ``axis``, of the flattened tensor for ``None``, as in NumPy.

    >>> import tracejit as tj
    >>> tj.cumsum(tj.tensor([[1, 2], [3, 4]]))
    tensor([ 1,  3,  6, 10])
    """
    return cumulative_sum(*_flat("cumsum", x, axis), dtype=dtype)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    """The products of the elements up to each one along ``axis``, of the flattened tensor for ``None``, as in NumPy."""
    return cumulative_prod(*_flat("cumprod", x, axis), dtype=dtype)


def _flat(name: str, x: Any, axis: int | None) -> tuple[Tensor, int]:
    tensor = as_tensor(x, name)
    return (manipulation.reshape(tensor, (tensor.size,)), 0) if axis is None else (tensor, axis)


def logcumsumexp(x: Any, axis: int) -> Tensor:
    """``log(cumsum(exp(x)))`` along ``axis``, without overflow, as in PyTorch.

    >>> import tracejit as tj
    >>> tj.logcumsumexp(tj.tensor([0.0, 0.0, 1000.0]), 0)
    tensor([0.0000e+00, 6.9315e-01, 1.0000e+03])
    """
    tensor = as_tensor(x, "logcumsumexp")
    if kind(tensor.dtype) < 2:
        tensor = elementwise.astype(tensor, float32)
    if tensor.ndim == 0:
        return elementwise.positive(tensor)
    return apply(
        primitives.cumulative_logsumexp, (tensor,), {"axis": normalize_axis("logcumsumexp", axis, tensor.ndim)}
    )


class CumulativeExtremum(NamedTuple):
    """What :func:`cummax` and :func:`cummin` return."""

    values: Tensor
    indices: Tensor


def cummax(x: Any, axis: int) -> CumulativeExtremum:
    """The largest element up to each one along ``axis``, and where it is: the last among equals; NaN is the largest.

    >>> import tracejit as tj
    >>> tj.cummax(tj.tensor([1.0, 3.0, 2.0]), 0).values
    tensor([1., 3., 3.])
    """
    return _extremum("cummax", x, axis, smallest=False)


def cummin(x: Any, axis: int) -> CumulativeExtremum:
    """The smallest element up to each one along ``axis``, and where it is; NaN is the smallest.  See :func:`cummax`."""
    return _extremum("cummin", x, axis, smallest=True)


def _extremum(name: str, x: Any, axis: int, smallest: bool) -> CumulativeExtremum:
    tensor = as_tensor(x, name)
    if tensor.ndim == 0:
        return CumulativeExtremum(elementwise.positive(tensor), creation.zeros((), dtype=int64))
    along = normalize_axis(name, axis, tensor.ndim)
    where = apply(primitives.cumulative_extremum, (tensor,), {"axis": along, "smallest": smallest})
    return CumulativeExtremum(_taken(tensor, where, along), where)
