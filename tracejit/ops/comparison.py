"""Whether tensors are equal, or nearly so."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.ir.types import float64, is_differentiable

from .. import dispatch
from ..promotion import as_tensor
from ..tensor import Tensor, new_tensor
from . import elementwise, reduction


def isclose(x: Any, y: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether ``abs(x - y) <= atol + rtol * abs(y)``, element by element; infinities are close to themselves only.

    >>> import tracejit as tj
    >>> tj.isclose(tj.tensor([1.0, 2.0]), tj.tensor([1.0 + 1e-6, 2.1]))
    tensor([ True, False])
    """
    first, second = (_wide(item) for item in (x, y))
    margin = elementwise.add(atol, elementwise.multiply(rtol, elementwise.abs(second)))
    near = elementwise.less_equal(elementwise.abs(elementwise.subtract(first, second)), margin)
    near = elementwise.logical_and(near, elementwise.isfinite(second))
    result = elementwise.logical_or(near, elementwise.equal(first, second))
    if equal_nan:
        both = elementwise.logical_and(elementwise.isnan(first), elementwise.isnan(second))
        result = elementwise.logical_or(result, both)
    return result


def _wide(x: Any) -> Tensor:
    """An operand whose differences are numbers: integers as float64."""
    tensor = as_tensor(x, "isclose").detach()
    return tensor if is_differentiable(tensor.dtype) else elementwise.astype(tensor, float64)


def allclose(x: Any, y: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether all elements are close, as :func:`isclose` has it: a bool tensor."""
    return reduction.all(isclose(x, y, rtol, atol, equal_nan))


def array_equal(x: Any, y: Any, equal_nan: bool = False) -> Tensor:
    """Whether two tensors have one shape and the same elements: a bool tensor.

    >>> import tracejit as tj
    >>> tj.array_equal(tj.tensor([1, 2]), tj.tensor([1, 2]))
    tensor(True)
    """
    first, second = as_tensor(x, "array_equal").detach(), as_tensor(y, "array_equal").detach()
    if first.shape != second.shape:
        return new_tensor(dispatch.constant_payload(np.asarray(False)))
    same = elementwise.equal(first, second)
    if equal_nan:
        both = elementwise.logical_and(elementwise.isnan(first), elementwise.isnan(second))
        same = elementwise.logical_or(same, both)
    return reduction.all(same)
