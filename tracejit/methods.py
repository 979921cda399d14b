"""The operators and methods of a tensor that are functions of :mod:`tracejit.ops` under another spelling."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import ops  # its modules need the class that these methods are mixed into: they are loaded later
from .function_methods import Along, FunctionMethods
from .locations import at_user_line
from .numpy_protocol import NumPyProtocol
from .state import thread

if TYPE_CHECKING:
    from .ops.axes import Axis
    from .tensor import Tensor


class TensorMethods(FunctionMethods, NumPyProtocol):
    """Mixed into :class:`~tracejit.Tensor`; each method names the function that documents it."""

    __slots__ = ()

    # Arithmetic -------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.add, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.add, other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.subtract, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.subtract, other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.multiply, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.multiply, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.divide, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.divide, other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.floor_divide, other, self)

    def __mod__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.remainder, self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.remainder, other, self)

    def __pow__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.pow, self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.pow, other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __matmul__(self, other: Any) -> Tensor:
        return _binary(ops.linalg.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _binary(ops.linalg.matmul, other, self)

    def __neg__(self) -> Tensor:
        return _unary(ops.elementwise.negative, self)

    def __pos__(self) -> Tensor:
        return ops.elementwise.positive(self)

    def __abs__(self) -> Tensor:
        return _unary(ops.elementwise.abs, self)

    def __and__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.bitwise_and, self, other)

    def __rand__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.bitwise_and, other, self)

    def __or__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.bitwise_or, self, other)

    def __ror__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.bitwise_or, other, self)

    def __xor__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.bitwise_xor, self, other)

    def __rxor__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.bitwise_xor, other, self)

    def __lshift__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.bitwise_left_shift, self, other)

    def __rlshift__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.bitwise_left_shift, other, self)

    def __rshift__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.bitwise_right_shift, self, other)

    def __rrshift__(self, other: Any) -> Tensor:
        return _binary(ops.arithmetic.bitwise_right_shift, other, self)

    def __invert__(self) -> Tensor:
        return ops.elementwise.bitwise_invert(self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return _binary(ops.elementwise.equal, self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return _binary(ops.elementwise.not_equal, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.less, self, other)

    def __le__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.less_equal, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.greater, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _binary(ops.elementwise.greater_equal, self, other)

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Tensor:
        return ops.indexing.get_item(self, key)  # type: ignore[arg-type]

    def __contains__(self, item: Any) -> bool:
        equal: Any = self == item
        return bool(equal if isinstance(equal, bool) else equal.any())

    # In place ---------------------------------------------------------------------------------------

    def __iadd__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.add, self, other)

    def __isub__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.subtract, self, other)

    def __imul__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.multiply, self, other)

    def __itruediv__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.divide, self, other)

    def __ipow__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.pow, self, other)

    def __ifloordiv__(self, other: Any) -> Tensor:
        return _in_place(ops.arithmetic.floor_divide, self, other)

    def __imod__(self, other: Any) -> Tensor:
        return _in_place(ops.arithmetic.remainder, self, other)

    def __imatmul__(self, other: Any) -> Tensor:
        return _in_place(ops.linalg.matmul, self, other)

    def __iand__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.bitwise_and, self, other)

    def __ior__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.bitwise_or, self, other)

    def __ixor__(self, other: Any) -> Tensor:
        return _in_place(ops.elementwise.bitwise_xor, self, other)

    def __ilshift__(self, other: Any) -> Tensor:
        return _in_place(ops.arithmetic.bitwise_left_shift, self, other)

    def __irshift__(self, other: Any) -> Tensor:
        return _in_place(ops.arithmetic.bitwise_right_shift, self, other)

    # Elementwise functions --------------------------------------------------------------------------

    def abs(self) -> Tensor:
        """See :func:`tracejit.abs`."""
        return ops.elementwise.abs(self)

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """See :func:`tracejit.clip`."""
        return ops.elementwise.clip(self, min, max)

    clamp = clip

    def cos(self) -> Tensor:
        """See :func:`tracejit.cos`."""
        return ops.elementwise.cos(self)

    def erf(self) -> Tensor:
        """See :func:`tracejit.erf`."""
        return ops.elementwise.erf(self)

    def exp(self) -> Tensor:
        """See :func:`tracejit.exp`."""
        return ops.elementwise.exp(self)

    def log(self) -> Tensor:
        """See :func:`tracejit.log`."""
        return ops.elementwise.log(self)

    def pow(self, exponent: Any) -> Tensor:
        """See :func:`tracejit.pow`."""
        return ops.elementwise.pow(self, exponent)

    def relu(self) -> Tensor:
        """See :func:`tracejit.relu`."""
        return ops.elementwise.relu(self)

    def rsqrt(self) -> Tensor:
        """See :func:`tracejit.rsqrt`."""
        return ops.elementwise.rsqrt(self)

    def sigmoid(self) -> Tensor:
        """See :func:`tracejit.sigmoid`."""
        return ops.elementwise.sigmoid(self)

    def sin(self) -> Tensor:
        """See :func:`tracejit.sin`."""
        return ops.elementwise.sin(self)

    def sqrt(self) -> Tensor:
        """See :func:`tracejit.sqrt`."""
        return ops.elementwise.sqrt(self)

    def square(self) -> Tensor:
        """See :func:`tracejit.square`."""
        return ops.elementwise.square(self)

    def tanh(self) -> Tensor:
        """See :func:`tracejit.tanh`."""
        return ops.elementwise.tanh(self)

    # Reductions -------------------------------------------------------------------------------------
    # Where an axis is named as in PyTorch, by ``dim=``, the result is PyTorch's: values and positions, an unbiased
    # variance.

    def sum(
        self, axis: Axis = None, keepdims: bool = False, dtype: Any = None, *, dim: Axis = None, keepdim: bool = False
    ) -> Tensor:
        """See :func:`tracejit.sum`."""
        return ops.reduction.sum(self, axis if dim is None else dim, keepdims or keepdim, dtype)

    def mean(self, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Tensor:
        """See :func:`tracejit.mean`."""
        return ops.reduction.mean(self, axis if dim is None else dim, keepdims or keepdim)

    def var(
        self,
        axis: Axis = None,
        correction: float | None = None,
        keepdims: bool = False,
        *,
        dim: Axis = None,
        keepdim: bool = False,
        unbiased: bool | None = None,
    ) -> Tensor:
        """See :func:`tracejit.var`; with ``dim=``, ``correction`` is 1 by default, and with ``unbiased=True``."""
        correction = _correction(correction, dim, unbiased)
        return ops.reduction.var(self, axis if dim is None else dim, correction, keepdims or keepdim)

    def std(
        self,
        axis: Axis = None,
        correction: float | None = None,
        keepdims: bool = False,
        *,
        dim: Axis = None,
        keepdim: bool = False,
        unbiased: bool | None = None,
    ) -> Tensor:
        """See :func:`tracejit.std`; with ``dim=``, ``correction`` is 1 by default, and with ``unbiased=True``."""
        correction = _correction(correction, dim, unbiased)
        return ops.reduction.std(self, axis if dim is None else dim, correction, keepdims or keepdim)

    def max(self, axis: Axis = None, keepdims: bool = False, *, dim: int | None = None, keepdim: bool = False) -> Any:
        """See :func:`tracejit.max`; along a ``dim``, the values and the positions of the first of them."""
        if dim is not None:
            return _along(self, ops.reduction.argmax, dim, keepdim)
        return ops.reduction.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False, *, dim: int | None = None, keepdim: bool = False) -> Any:
        """See :func:`tracejit.min`; along a ``dim``, the values and the positions of the first of them."""
        if dim is not None:
            return _along(self, ops.reduction.argmin, dim, keepdim)
        return ops.reduction.min(self, axis, keepdims)

    # The array API standard -------------------------------------------------------------------------

    @property
    def real(self) -> Tensor:
        """See :func:`tracejit.real`."""
        return ops.arithmetic.real(self)

    @property
    def imag(self) -> Tensor:
        """See :func:`tracejit.imag`."""
        return ops.arithmetic.imag(self)

    def conj(self) -> Tensor:
        """See :func:`tracejit.conj`."""
        return ops.arithmetic.conj(self)

    def sort(
        self: Any, axis: int = -1, descending: bool = False, *, dim: int | None = None, stable: bool = True
    ) -> Any:
        """See :func:`tracejit.sort`; along a ``dim``, the values and where they were."""
        if dim is not None:
            return ops.sorting.topk(self, self.shape[dim], dim, descending)
        return ops.sorting.sort(self, axis, descending)

    def argsort(self, axis: int = -1, descending: bool = False, *, dim: int = -1, stable: bool = True) -> Tensor:
        """See :func:`tracejit.argsort`."""
        return ops.sorting.argsort(self, axis if dim == -1 else dim, descending)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        """The module with the functions of the array API standard: :mod:`tracejit`."""
        import tracejit

        if api_version not in (None, *_API_VERSIONS):
            known = ", ".join(_API_VERSIONS)
            raise at_user_line(ValueError(f"the versions of the array API are {known}, got {api_version!r}"))
        return tracejit

    def to_device(self, device: str, /, *, stream: Any = None) -> Any:
        """The tensor on a device."""
        return self.to(device=device)

    # Shape and dtype --------------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """All axes in reverse order: a matrix transposed."""
        return ops.manipulation._transpose(self, None, None)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return ops.manipulation.matrix_transpose(self)

    def reshape(self, *shape: Any) -> Tensor:
        """See :func:`tracejit.reshape`."""
        return ops.manipulation._reshape(self, shape[0] if len(shape) == 1 else shape)

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """See :func:`tracejit.flatten`."""
        return ops.manipulation.flatten(self, start_dim, end_dim)

    def transpose(self, dim0: Any = None, dim1: int | None = None, *more: int) -> Tensor:
        """See :func:`tracejit.transpose`."""
        return ops.manipulation._transpose(self, dim0, dim1, *more)

    def permute(self, *axes: Any, dims: Any = None) -> Tensor:
        """See :func:`tracejit.permute_dims`."""
        return ops.manipulation.permute_dims(self, dims or (axes[0] if len(axes) == 1 else axes))

    def squeeze(self, axis: Any = None, *, dim: Any = None) -> Tensor:
        """See :func:`tracejit.squeeze`."""
        return ops.manipulation.squeeze(self, axis if dim is None else dim)

    def unsqueeze(self, dim: int) -> Tensor:
        """See :func:`tracejit.expand_dims`."""
        return ops.manipulation.expand_dims(self, dim)

    def expand(self, *shape: Any) -> Tensor:
        """See :func:`tracejit.broadcast_to`; -1 stands for the extent that the tensor has there."""
        wanted = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if -1 in wanted:
            own: tuple[int, ...] = self.shape  # type: ignore[attr-defined]
            first = len(wanted) - len(own)
            wanted = tuple(own[i - first] if n == -1 and i >= first else n for i, n in enumerate(wanted))
        return ops.manipulation.broadcast_to(self, wanted)

    def clone(self) -> Tensor:
        """A tensor of the same value; gradients flow through."""
        return ops.elementwise.positive(self)

    def astype(self, dtype: Any) -> Tensor:
        """See :func:`tracejit.astype`."""
        return ops.elementwise.astype(self, dtype)

    def float(self) -> Tensor:
        """Converted to float32."""
        return ops.elementwise.astype(self, "float32")

    def double(self) -> Tensor:
        """Converted to float64."""
        return ops.elementwise.astype(self, "float64")

    def long(self) -> Tensor:
        """Converted to int64."""
        return ops.elementwise.astype(self, "int64")

    def to(self, *arguments: Any, device: str | None = None, dtype: Any = None) -> Any:
        """Converted to a dtype, moved to a device, or both, as another tensor is; ``self`` where nothing changes.

        Gradients flow back to where the values came from.
        """
        from .device import check, is_name

        for argument in arguments:
            if is_name(argument):
                device = argument
            elif isinstance(argument, TensorMethods):
                device, dtype = argument.device, argument.dtype  # type: ignore[attr-defined]
            elif not isinstance(argument, bool):  # non_blocking, copy
                dtype = argument
        if device is not None:
            check(device)
        converted: Any = self if dtype is None else ops.elementwise.astype(self, dtype)
        return converted if device is None else ops.creation.put(converted, device)

    def cpu(self) -> Any:
        """On the CPU; ``self`` if it is there."""
        return self.to(device="cpu")

    def cuda(self, device: int | None = None) -> Any:
        """On a GPU; ``self`` if it is there."""
        return self.to(device="cuda" if device is None else f"cuda:{device}")


_API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")


def _correction(given: float | None, dim: Axis, unbiased: bool | None) -> float:
    """What a count is lessened by: as in PyTorch where an argument is named as there."""
    if given is not None:
        return given
    return float(dim is not None) if unbiased is None else float(unbiased)


def _along(x: Any, position: Any, dim: int, keepdim: bool) -> Along:
    """An extreme element along an axis and its position, to which all of the gradient flows."""
    indices = position(x, dim, keepdims=True)
    values = ops.indexing.take_along_axis(x, indices, dim)
    if not keepdim:
        values, indices = (ops.manipulation.squeeze(item, dim) for item in (values, indices))
    return Along(values, indices)


def _binary(function: Any, x: Any, y: Any) -> Any:
    """A binary operator; an operand that is no number lets the other side try."""
    if not (isinstance(x, _OPERANDS) and isinstance(y, _OPERANDS)):
        return NotImplemented
    if thread.trace is not None:
        from .promotion import is_weak  # needs the class that these methods are mixed into

        if is_weak(x) and is_weak(y):  # numbers in disguise
            return _with_numbers(function, x, y)
    return function(x, y)


def _with_numbers(function: Any, x: Any, y: Any) -> Any:
    """An operator on numbers in disguise: as Python's."""
    from .promotion import on_numbers

    name = function.__name__
    assert thread.trace is not None
    if name in ("add", "subtract", "multiply"):
        return on_numbers(function, x, y)
    if name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        result = on_numbers(function, x, y)
        return result if thread.trace.comparisons_are_tensors else bool(result)
    if (
        name in ("floor_divide", "remainder")
        and thread.trace.capturing
        and type(y) is int
        and y
        and x.dtype.kind == "i"
    ):
        return on_numbers(function, x, y)
    if name == "divide":
        if y == 0:
            raise ZeroDivisionError("float division by zero")
        return on_numbers(function, x, y)
    return getattr(operator, {"floor_divide": "floordiv", "remainder": "mod"}.get(name, name))(_plain(x), _plain(y))


def _plain(number: Any) -> Any:
    return number._number() if hasattr(number, "_number") else number


def _unary(function: Any, x: Any) -> Any:
    if not x._weak:
        return function(x)
    from .promotion import on_numbers

    return on_numbers(function, x)


def _in_place(function: Any, x: Any, y: Any) -> Any:
    if not isinstance(y, _OPERANDS):
        return NotImplemented
    if x._weak:  # a float: the name gets another value
        return _binary(function, x, y)
    result = function(x, y)
    return x._assign(result)


_OPERANDS = (TensorMethods, bool, int, float, complex, np.ndarray, np.generic)
