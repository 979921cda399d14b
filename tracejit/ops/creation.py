"""Making tensors: from data, filled, counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir import TensorType, Value
from tracejit.ir.types import SHORT_NAMES, DType, float64, int64

from .. import dispatch
from ..locations import at_user_line
from ..promotion import DEFAULT_FLOAT, as_tensor, kind, scalar_dtype
from ..tensor import Tensor, new_tensor

Shape = int | Sequence[int]


def _dtype(dtype: Any) -> DType:
    wanted = np.dtype(dtype)
    if wanted not in SHORT_NAMES:
        raise at_user_line(TypeError(f"tensors of dtype {wanted} are not supported"))
    return wanted


def _shape(shape: Shape) -> tuple[int, ...]:
    extents = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(extent) for extent in shape)
    if any(extent < 0 for extent in extents):
        raise at_user_line(ValueError(f"a shape has no negative extents, got {extents}"))
    return extents


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor with a copy of a NumPy array's elements (values are immutable, arrays are not)."""
    dtype = _dtype(array.dtype.newbyteorder("="))
    return new_tensor(dispatch.constant_payload(np.array(array, dtype, order="C")))


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """A tensor with a copy of ``data``: numbers, nested sequences of them, a NumPy array or a Tensor.

    Python floats give float32, ints int64.  Raises ``TypeError`` for what is no number, ``ValueError`` for
    ragged sequences and ``RuntimeError`` for an integer tensor that is to require gradients.

    >>> import tracejit as tj
    >>> tj.tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    _check_device(device)
    if isinstance(data, Tensor):
        result = new_tensor(dispatch.payload(data))
    elif isinstance(data, np.ndarray | np.generic):
        result = from_numpy(np.asarray(data))
    else:
        result = _from_python(data, None if dtype is None else _dtype(dtype))
    if dtype is not None and result.dtype != _dtype(dtype):
        from .elementwise import astype

        result = astype(result.detach(), _dtype(dtype))
    if requires_grad:
        result.requires_grad_()
    return result


def _from_python(data: Any, dtype: DType | None = None) -> Tensor:
    if isinstance(data, list | tuple) and _holds_tensors(data):
        from .manipulation import stack

        return stack([_from_python(item, dtype) if not isinstance(item, Tensor) else item for item in data])
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise at_user_line(ValueError(f"tensor: {error}")) from None
    if array.dtype.kind not in "biufc":
        raise at_user_line(TypeError(f"tensor: expected numbers, got {type(data).__name__} {data!r:.60}"))
    if dtype is not None and kind(dtype) >= kind(array.dtype):
        return new_tensor(dispatch.constant_payload(np.array(array, dtype, order="C")))
    if array.dtype == float64:
        array = array.astype(DEFAULT_FLOAT)
    elif array.dtype == np.complex128:
        array = array.astype(np.complex64)
    elif array.dtype.kind in "iu" and array.dtype.itemsize < 8:
        array = array.astype(int64)
    return new_tensor(dispatch.constant_payload(np.ascontiguousarray(array).reshape(array.shape)))


def _holds_tensors(data: Sequence[Any]) -> bool:
    return any(isinstance(item, Tensor) or (isinstance(item, list | tuple) and _holds_tensors(item)) for item in data)


def _check_device(device: str | None) -> None:
    if device in (None, "cpu"):
        return
    from ..device import check

    check(device)


def asarray(data: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """``data`` as a tensor; a Tensor of that dtype is returned as it is."""
    if isinstance(data, Tensor) and (dtype is None or data.dtype == np.dtype(dtype)):
        return data
    return tensor(data, dtype, device=device)


def full(shape: Shape, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ``shape`` with ``fill_value`` everywhere.

    >>> import tracejit as tj
    >>> tj.full((2,), 7)
    tensor([7, 7])
    """
    extents = _shape(shape)
    if isinstance(fill_value, Tensor):
        from .elementwise import astype
        from .manipulation import broadcast_to

        result = broadcast_to(astype(fill_value, dtype or fill_value.dtype), extents)
    else:
        wanted = scalar_dtype(fill_value) if dtype is None else _dtype(dtype)
        if dispatch.thread.trace is None:
            result = new_tensor(np.full(extents, fill_value, wanted))
        else:
            result = new_tensor(dispatch.payload_emitter.full(fill_value, TensorType(wanted, extents)))
    return result.requires_grad_() if requires_grad else result


def zeros(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros, float32 unless told otherwise; ``zeros(2, 3)`` and ``zeros((2, 3))`` are the same."""
    return full(_varargs(shape), 0, dtype or DEFAULT_FLOAT, requires_grad)


def ones(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones, float32 unless told otherwise."""
    return full(_varargs(shape), 1, dtype or DEFAULT_FLOAT, requires_grad)


def empty(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Like :func:`zeros`: values are immutable, so there is nothing to gain from leaving them open."""
    return zeros(*shape, dtype=dtype, requires_grad=requires_grad)


def _varargs(shape: tuple[Any, ...]) -> Shape:
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


def full_like(x: Tensor, fill_value: Any, dtype: Any = None) -> Tensor:
    """A tensor of ``x``'s shape and dtype with ``fill_value`` everywhere."""
    return full(x.shape, fill_value, dtype or x.dtype)


def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Zeros of ``x``'s shape and dtype."""
    return full_like(x, 0, dtype)


def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Ones of ``x``'s shape and dtype."""
    return full_like(x, 1, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """Numbers from ``start`` up to, not including, ``stop``.

    >>> import tracejit as tj
    >>> tj.arange(3)
    tensor([0, 1, 2])
    """
    if stop is None:
        start, stop = 0, start
    if isinstance(start, Tensor) or isinstance(stop, Tensor) or isinstance(step, Tensor):
        start, stop, step = (item.item() if isinstance(item, Tensor) else item for item in (start, stop, step))
    if step == 0:
        raise at_user_line(ValueError("arange: step must not be zero"))
    wanted = scalar_dtype(start + stop + step) if dtype is None else _dtype(dtype)
    count = max(0, math.ceil((stop - start) / step))
    return new_tensor(dispatch.constant_payload((start + np.arange(count) * step).astype(wanted)))


def linspace(start: float, stop: float, num: int, dtype: Any = None, endpoint: bool = True) -> Tensor:
    """``num`` evenly spaced numbers from ``start`` to ``stop``."""
    array = np.linspace(start, stop, num, endpoint=endpoint)
    return new_tensor(dispatch.constant_payload(array.astype(_dtype(dtype or DEFAULT_FLOAT))))


def eye(n_rows: int, n_cols: int | None = None, dtype: Any = None) -> Tensor:
    """Ones on the diagonal, zeros elsewhere."""
    return new_tensor(dispatch.constant_payload(np.eye(n_rows, n_cols, dtype=_dtype(dtype or DEFAULT_FLOAT))))


def one_hot(labels: Any, num_classes: int, dtype: Any = None) -> Tensor:
    """1 at each label's position along a new last axis, else 0; all zeros for a label out of range."""
    from .elementwise import astype, equal
    from .manipulation import expand_dims

    tensor = as_tensor(labels, "one_hot")
    classes = new_tensor(dispatch.payload_emitter.iota(size=num_classes, dtype=tensor.dtype))
    return astype(equal(expand_dims(tensor, -1), classes), dtype or int64)


def is_traced(x: Tensor) -> bool:
    """Whether the tensor belongs to a function that is being traced."""
    return isinstance(x._value, Value)
