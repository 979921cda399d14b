"""Making tensors: from data, filled, counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.backends.devices import in_use, is_array, moved
from tracejit.ir import TensorType
from tracejit.ir.extents import has_extents
from tracejit.ir.primitives.view import device_put
from tracejit.ir.types import SHORT_NAMES, DType, float64, int64, is_floating, is_integer

from .. import dispatch, dlpack
from ..device import constant, find, is_called_by_the_library, settled
from ..locations import at_user_line
from ..promotion import DEFAULT_FLOAT, as_tensor, kind, scalar_dtype
from ..state import thread
from ..tape import apply
from ..tensor import Tensor, new_tensor
from .axes import normalize_extents

Shape = int | Sequence[int]
_CPU, _CUDA = 1, 2  # as DLPack counts them


def _dtype(dtype: Any) -> DType:
    wanted = np.dtype(dtype)
    if wanted not in SHORT_NAMES:
        raise at_user_line(TypeError(f"tensors of dtype {wanted} are not supported"))
    return wanted


def _shape(shape: Shape) -> tuple[int, ...]:
    extents = normalize_extents("shape", shape)
    if any(extent < 0 for extent in extents):
        raise at_user_line(ValueError(f"a shape has no negative extents, got {extents}"))
    return extents


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor with a copy of a NumPy array's elements (values are immutable, arrays are not)."""
    dtype = _dtype(array.dtype.newbyteorder("="))
    return placed(new_tensor(dispatch.constant_payload(np.array(array, dtype, order="C"))), None)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """A tensor with a copy of ``data``: numbers, nested sequences of them, another library's array or a Tensor.

    Python floats give float32, ints int64.  Raises ``TypeError`` for what is no number, ``ValueError`` for
    ragged sequences and ``RuntimeError`` for an integer tensor that is to require gradients.

    >>> import tracejit as tj
    >>> tj.tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(data, Tensor):
        result = _from_tensor(data)
    elif _is_on_a_gpu(data):
        result = _from_gpu(data, copy=True)
    elif isinstance(data, np.ndarray | np.generic) or _is_buffer(data):
        result = from_numpy(_array_of(data))
    else:
        result = _from_python(data, None if dtype is None else _dtype(dtype))
    if dtype is not None and result.dtype != _dtype(dtype):
        from .elementwise import astype

        result = astype(result.detach(), _dtype(dtype))
    if device is not None and _is_on_a_gpu(data):
        result = put(result, device)
    elif device is not None or not (isinstance(data, Tensor) or _is_on_a_gpu(data)):
        result = placed(result, device)
    return result.requires_grad_() if requires_grad else result


def _array_of(data: Any) -> np.ndarray:
    """Another library's array as NumPy's; ``__array__`` of PyTorch's knows no bfloat16."""
    try:
        return np.asarray(data)
    except TypeError:
        if hasattr(data, "__dlpack__"):
            return dlpack.imported(data)
        raise


def _is_on_a_gpu(data: Any) -> bool:
    """Whether it is another library's array on a GPU."""
    if isinstance(data, np.ndarray | np.generic | int | float | complex | list | tuple | str | bytes | Tensor):
        return False
    return hasattr(data, "__cuda_array_interface__")


def _from_gpu(x: Any, *, copy: bool) -> Tensor:
    """A tensor on the GPU that another library's array is on."""
    number = x.__dlpack_device__()[1] if hasattr(x, "__dlpack_device__") else 0
    there = find(f"cuda:{number}")
    assert there is not None
    return new_tensor(there.imported(x, copy=copy))


def _is_buffer(data: Any) -> bool:
    """Whether another library's array, or an ``array.array`` and the like, tells its own dtype."""
    if isinstance(data, bool | int | float | complex | list | tuple | str | bytes):
        return False
    try:
        memoryview(data)
    except TypeError:
        return hasattr(data, "__array__")
    return True


def _from_tensor(data: Tensor) -> Tensor:
    """A tensor of the same value; of a float that a traced function was called with, what the float would give."""
    if data._weak:
        from .elementwise import astype

        return astype(new_tensor(dispatch.payload(data)), DEFAULT_FLOAT)
    return new_tensor(dispatch.payload(data))


def _from_python(data: Any, dtype: DType | None = None) -> Tensor:
    if isinstance(data, list | tuple) and _holds_tensors(data):
        from .manipulation import stack

        return stack(
            [item if isinstance(item, Tensor) and not item._weak else tensor(item, dtype=None) for item in data]
        )
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise at_user_line(ValueError(f"tensor: {error}")) from None
    if array.dtype.kind == "O" and all(isinstance(item, int) for item in array.flat):  # wider than 64 bits
        if dtype is None or kind(dtype) < 2:
            raise at_user_line(_out_of_bounds(array, dtype or int64))
        array = array.astype(float64)
    if array.dtype.kind not in "biufc":
        raise at_user_line(TypeError(f"tensor: expected numbers, got {type(data).__name__} {data!r:.60}"))
    if dtype is not None and dtype != array.dtype and array.size and kind(dtype) == kind(array.dtype) == 1:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise at_user_line(_out_of_bounds(array, dtype))
    if dtype is not None and kind(dtype) >= kind(array.dtype):
        return new_tensor(dispatch.constant_payload(np.array(array, dtype, order="C")))
    if array.dtype == float64:
        array = array.astype(DEFAULT_FLOAT)
    elif array.dtype == np.complex128:
        array = array.astype(np.complex64)
    elif array.dtype.kind in "iu" and array.dtype.itemsize < 8:
        array = array.astype(int64)
    return new_tensor(dispatch.constant_payload(np.ascontiguousarray(array).reshape(array.shape)))


def _out_of_bounds(integers: np.ndarray, dtype: DType) -> OverflowError:
    limits = np.iinfo(dtype)
    first = next(item for item in integers.flat if not limits.min <= int(item) <= limits.max)
    return OverflowError(f"tensor: Python integer {first} out of bounds for {dtype}")


def _holds_tensors(data: Sequence[Any]) -> bool:
    return any(isinstance(item, Tensor) or (isinstance(item, list | tuple) and _holds_tensors(item)) for item in data)


def put(x: Tensor, device: str) -> Tensor:
    """A tensor on a device: itself, if it is there."""
    if device == "cpu" and not in_use[0]:
        return x
    found = find(device)
    target = "cpu" if found is None else found.name
    source = x.device
    return x if source == target else apply(device_put, (x,), {"source": source, "target": target})


def placed(x: Tensor, device: str | None) -> Tensor:
    """A tensor that has just been made, on a device.

    With none asked for, it is the CPU's where the user made it; what the library makes goes where it is needed.
    """
    if device is None:
        if not in_use[0]:
            return x
        if is_called_by_the_library(2):
            if dispatch.thread.trace is None and type(x._value) is np.ndarray:
                x._value = constant(x._value)
            return x
        device = "cpu"
    found = find(device)
    trace = dispatch.thread.trace
    if trace is not None:
        trace.put(x, "cpu" if found is None else found.name)
    elif is_array(x._value):
        x._value = settled(moved(x._value, found))
    return x


def asarray(data: Any, dtype: Any = None, device: str | None = None, copy: bool | None = None) -> Tensor:
    """``data`` as a tensor; a Tensor of that dtype is returned as it is, unless a ``copy`` is asked for.

    ``copy=False`` raises ``ValueError`` for what is no Tensor of that dtype.
    """
    if isinstance(data, Tensor) and (dtype is None or data.dtype == np.dtype(dtype)):
        own = data if device is None else put(data, device)
        if own is not data or (not copy and (thread.trace is None or not _stands_for_an_array(data))):
            return own
        from .elementwise import positive

        return positive(data)
    if copy is False:
        raise at_user_line(ValueError(f"asarray: {type(data).__name__} cannot become a tensor without a copy"))
    result = tensor(data, dtype, device=device)
    return placed(result, device) if not (isinstance(data, Tensor) or _is_on_a_gpu(data)) else result


def _stands_for_an_array(tensor: Tensor) -> bool:
    from ..disguise import Array

    return type(tensor) is Array


def from_dlpack(x: Any, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A tensor of what another library's array holds; copied, as that array may change, unless ``copy=False``.

    Of arrays on a GPU it takes those too that have no ``__dlpack__`` but a ``__cuda_array_interface__``.

    >>> import numpy as np
    >>> from_dlpack(np.array([1.0, 2.0], np.float32))
    tensor([1., 2.])
    """
    if isinstance(x, Tensor):
        return asarray(x.detach(), copy=copy, device=device)
    if not hasattr(x, "__dlpack__") and not _is_on_a_gpu(x):
        raise at_user_line(TypeError(f"from_dlpack: expected an array that has __dlpack__, got {type(x).__name__}"))
    kind, _ = x.__dlpack_device__() if hasattr(x, "__dlpack_device__") else (_CPU, 0)
    if int(kind) == _CUDA or not hasattr(x, "__dlpack__"):
        result = _from_gpu(x, copy=copy is not False)
        return result if device is None else put(result, device)
    array = dlpack.imported(x)
    if copy is False:
        return placed(new_tensor(dispatch.constant_payload(np.ascontiguousarray(array).reshape(array.shape))), device)
    return placed(from_numpy(array), device)


def full(
    shape: Shape, fill_value: Any, dtype: Any = None, requires_grad: bool = False, device: str | None = None
) -> Tensor:
    """A tensor of ``shape`` with ``fill_value`` everywhere.

    >>> import tracejit as tj
    >>> tj.full((2,), 7)
    tensor([7, 7])
    """
    extents = _shape(shape)
    if isinstance(fill_value, Tensor):
        from .elementwise import astype
        from .manipulation import broadcast_to

        own = DEFAULT_FLOAT if fill_value._weak and is_floating(fill_value.dtype) else fill_value.dtype
        result = broadcast_to(astype(fill_value, dtype or own), extents)
    else:
        wanted = scalar_dtype(fill_value) if dtype is None else _dtype(dtype)
        if isinstance(fill_value, float | complex) and kind(scalar_dtype(fill_value)) > kind(wanted):
            return full(extents, tensor(fill_value, wanted), requires_grad=requires_grad)
        if dispatch.thread.trace is None:
            result = new_tensor(np.full(extents, fill_value, wanted))
        else:
            result = new_tensor(dispatch.payload_emitter.full(fill_value, TensorType(wanted, extents)))
    if device is not None or not isinstance(fill_value, Tensor):
        result = placed(result, device)
    return result.requires_grad_() if requires_grad else result


def zeros(
    shape: Shape, *more: int, dtype: Any = None, requires_grad: bool = False, device: str | None = None
) -> Tensor:
    """Zeros, float32 unless told otherwise; ``zeros(2, 3)`` and ``zeros((2, 3))`` are the same."""
    return placed(full(_varargs(shape, more), 0, dtype or DEFAULT_FLOAT, requires_grad, device), device)


def ones(shape: Shape, *more: int, dtype: Any = None, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """Ones, float32 unless told otherwise."""
    return placed(full(_varargs(shape, more), 1, dtype or DEFAULT_FLOAT, requires_grad, device), device)


def empty(
    shape: Shape, *more: int, dtype: Any = None, requires_grad: bool = False, device: str | None = None
) -> Tensor:
    """Like :func:`zeros`: values are immutable, so there is nothing to gain from leaving them open."""
    return placed(zeros(shape, *more, dtype=dtype, requires_grad=requires_grad, device=device), device)


def _varargs(shape: Shape, more: tuple[int, ...]) -> Shape:
    return (shape, *more) if isinstance(shape, int) and more else shape


def full_like(x: Tensor, fill_value: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor of ``x``'s shape and dtype with ``fill_value`` everywhere."""
    tensor = as_tensor(x, "full_like")
    return full(tensor.shape, fill_value, dtype or tensor.dtype, device=device or tensor.device)


def zeros_like(x: Tensor, dtype: Any = None, device: str | None = None) -> Tensor:
    """Zeros of ``x``'s shape and dtype."""
    return full_like(x, 0, dtype, device)


def ones_like(x: Tensor, dtype: Any = None, device: str | None = None) -> Tensor:
    """Ones of ``x``'s shape and dtype."""
    return full_like(x, 1, dtype, device)


def empty_like(x: Tensor, dtype: Any = None, device: str | None = None) -> Tensor:
    """Like :func:`zeros_like`."""
    return zeros_like(x, dtype, device)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, device: str | None = None) -> Tensor:
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
    if has_extents((start, stop)) and isinstance(start + stop, int) and isinstance(step, int):
        return _counting(start, stop, step, wanted)
    count = max(0, math.ceil((stop - start) / step))
    return placed(new_tensor(dispatch.constant_payload((start + np.arange(count) * step).astype(wanted))), device)


def _counting(start: int, stop: int, step: int, dtype: DType) -> Tensor:
    """``arange`` of integers, as an operation."""
    from .elementwise import add, astype, multiply

    count = -((start - stop) // step) if step > 0 else -((stop - start) // -step)
    numbers = new_tensor(dispatch.payload_emitter.iota(size=count if count >= 0 else 0, dtype=int64))
    if step != 1:
        numbers = multiply(numbers, step)
    return astype(numbers if type(start) is int and start == 0 else add(numbers, start), dtype)


def linspace(
    start: Any, stop: Any, num: int, dtype: Any = None, endpoint: bool = True, device: str | None = None
) -> Tensor:
    """``num`` evenly spaced numbers from ``start`` to ``stop``."""
    array = np.linspace(start, stop, num, endpoint=endpoint)
    wanted = dtype or (np.complex64 if array.dtype.kind == "c" else DEFAULT_FLOAT)
    return placed(new_tensor(dispatch.constant_payload(array.astype(_dtype(wanted)))), device)


def eye(n_rows: int, n_cols: int | None = None, k: int = 0, dtype: Any = None, device: str | None = None) -> Tensor:
    """Ones on the ``k``-th diagonal, zeros elsewhere."""
    if has_extents((n_rows, n_cols)):
        from .elementwise import astype

        return astype(_diagonals(n_rows, n_cols if n_cols is not None else n_rows, k, "eq"), dtype or DEFAULT_FLOAT)
    array = np.eye(n_rows, n_cols, k, dtype=_dtype(dtype or DEFAULT_FLOAT))
    return placed(new_tensor(dispatch.constant_payload(array)), device)


def _diagonals(rows: int, columns: int, k: int, direction: str) -> Tensor:
    """Where the number of an element's diagonal compares so with ``k``."""
    from .elementwise import equal, greater_equal, less_equal, subtract
    from .manipulation import reshape

    down, right = (new_tensor(dispatch.payload_emitter.iota(size=n, dtype=int64)) for n in (rows, columns))
    compare = {"eq": equal, "le": less_equal, "ge": greater_equal}[direction]
    return compare(subtract(right, reshape(down, (rows, 1))), k)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinate vectors as a grid: one tensor of the grid's shape for each vector.

    With ``indexing="xy"`` the first two axes are exchanged: rows are the second vector's.
    """
    from .manipulation import broadcast_to, reshape

    if indexing not in ("xy", "ij"):
        raise at_user_line(ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}"))
    vectors = [as_tensor(array, "meshgrid") for array in arrays]
    places = list(range(len(vectors)))
    if indexing == "xy" and len(places) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(vectors)
    for vector, place in zip(vectors, places, strict=True):
        shape[place] = vector.size
    return tuple(
        broadcast_to(reshape(vector, tuple(vector.size if i == place else 1 for i in range(len(shape)))), shape)
        for vector, place in zip(vectors, places, strict=True)
    )


def _triangle(name: str, x: Any, k: int, lower: bool) -> Tensor:
    from .elementwise import where

    matrices = as_tensor(x, name)
    if matrices.ndim < 2:
        raise at_user_line(ValueError(f"{name}: needs at least two axes, got shape {matrices.shape}"))
    rows, columns = matrices.shape[-2:]
    if has_extents((rows, columns)):
        mask = _diagonals(rows, columns, k, "le" if lower else "ge")
    else:
        kept = np.tri(rows, columns, k if lower else k - 1, dtype=np.bool_)
        mask = new_tensor(dispatch.constant_payload(kept if lower else ~kept))
    zero = new_tensor(dispatch.constant_payload(np.zeros((), matrices.dtype)))
    return where(mask, matrices, zero)


def tril(x: Any, k: int = 0) -> Tensor:
    """The lower triangles of matrices: 0 above the ``k``-th diagonal."""
    return _triangle("tril", x, k, True)


def triu(x: Any, k: int = 0) -> Tensor:
    """The upper triangles of matrices: 0 below the ``k``-th diagonal."""
    return _triangle("triu", x, k, False)


def one_hot(labels: Any, num_classes: int, dtype: Any = None) -> Tensor:
    """1 at each label's position along a new last axis, else 0; all zeros for a label out of range."""
    from .elementwise import astype, equal
    from .manipulation import expand_dims

    tensor = as_tensor(labels, "one_hot")
    if not is_integer(tensor.dtype):
        raise at_user_line(TypeError(f"one_hot: labels must be integers, got {tensor.dtype}"))
    classes = new_tensor(dispatch.payload_emitter.iota(size=num_classes, dtype=tensor.dtype))
    return astype(equal(expand_dims(tensor, -1), classes), dtype or int64)
