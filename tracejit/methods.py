"""The operators and methods of a tensor that are functions of :mod:`tracejit.ops` under another spelling."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import ops  # its modules need the class that these methods are mixed into: they are loaded later
from .numpy_protocol import NumPyProtocol
from .state import thread

if TYPE_CHECKING:
    from .ops.reduction import Axis
    from .tensor import Tensor


class TensorMethods(NumPyProtocol):
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

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.sum`."""
        return ops.reduction.sum(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.mean`."""
        return ops.reduction.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.var`."""
        return ops.reduction.var(self, axis, correction, keepdims)

    def std(self, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.std`."""
        return ops.reduction.std(self, axis, correction, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.max`."""
        return ops.reduction.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.min`."""
        return ops.reduction.min(self, axis, keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.all`."""
        return ops.reduction.all(self, axis, keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.any`."""
        return ops.reduction.any(self, axis, keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.argmax`."""
        return ops.reduction.argmax(self, axis, keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.argmin`."""
        return ops.reduction.argmin(self, axis, keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.prod`."""
        return ops.reduction.prod(self, axis, keepdims)

    def logsumexp(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """See :func:`tracejit.logsumexp`."""
        return ops.reduction.logsumexp(self, axis, keepdims)

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

    def sort(self, axis: int = -1, descending: bool = False) -> Tensor:
        """See :func:`tracejit.sort`."""
        return ops.sorting.sort(self, axis, descending)

    def argsort(self, axis: int = -1, descending: bool = False) -> Tensor:
        """See :func:`tracejit.argsort`."""
        return ops.sorting.argsort(self, axis, descending)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        """The module with the functions of the array API standard: :mod:`tracejit`."""
        import tracejit

        if api_version is not None and api_version > tracejit.__array_api_version__:
            raise ValueError(f"tracejit follows version {tracejit.__array_api_version__}, not {api_version!r}")
        return tracejit

    def to_device(self, device: str, /, *, stream: Any = None) -> Any:
        """The tensor on a device."""
        return self.to(device=device)

    # Shape and dtype --------------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """A matrix transposed."""
        return ops.manipulation.matrix_transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return ops.manipulation.matrix_transpose(self)

    def reshape(self, *shape: Any) -> Tensor:
        """See :func:`tracejit.reshape`."""
        return ops.manipulation.reshape(self, shape[0] if len(shape) == 1 else shape)

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """See :func:`tracejit.flatten`."""
        return ops.manipulation.flatten(self, start_dim, end_dim)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """See :func:`tracejit.transpose`."""
        return ops.manipulation.transpose(self, dim0, dim1)

    def permute(self, *axes: Any) -> Tensor:
        """See :func:`tracejit.permute_dims`."""
        return ops.manipulation.permute_dims(self, axes[0] if len(axes) == 1 else axes)

    def squeeze(self, axis: Any = None) -> Tensor:
        """See :func:`tracejit.squeeze`."""
        return ops.manipulation.squeeze(self, axis)

    def unsqueeze(self, axis: int) -> Tensor:
        """See :func:`tracejit.expand_dims`."""
        return ops.manipulation.expand_dims(self, axis)

    def expand(self, *shape: Any) -> Tensor:
        """See :func:`tracejit.broadcast_to`."""
        return ops.manipulation.broadcast_to(
            self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        )

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
        """Converted to a dtype, moved to a device; ``self`` where nothing changes."""
        from .device import check

        for argument in arguments:
            if isinstance(argument, str) and argument.split(":")[0] in ("cpu", "cuda"):
                device = argument
            else:
                dtype = argument
        if device is not None:
            check(device)
        return self if dtype is None else ops.elementwise.astype(self, dtype)


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
    if name in ("add", "subtract", "multiply"):
        return on_numbers(function, x, y)
    if name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        assert thread.trace is not None
        result = on_numbers(function, x, y)
        return result if thread.trace.comparisons_are_tensors else bool(result)
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
