"""Methods of a tensor that are functions of the library under PyTorch's name, or NumPy's where PyTorch has none.

``dim=`` and ``keepdim=`` mean ``axis=`` and ``keepdims=``.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tracejit.ir.types import format_shape, is_floating

from . import ops  # its modules need the class that these methods are mixed into: they are loaded later
from .locations import at_user_line

if TYPE_CHECKING:
    from .tensor import Tensor


class Along(NamedTuple):
    """What a reduction found along an axis, and where."""

    values: Tensor
    indices: Tensor


_NAMES = {
    "dim": "axis", "dims": "axis", "keepdim": "keepdims", "shifts": "shift", "diagonal": "k", "p": "ord",
}  # fmt: skip


def in_our_words(keywords: dict[str, Any]) -> dict[str, Any]:
    """Keywords with PyTorch's names replaced by this library's."""
    return {_NAMES.get(name, name): value for name, value in keywords.items()}


def _by(module: str, function: str) -> Callable[..., Any]:
    """A method that is a function of the tensor and of the method's arguments."""

    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        return getattr(getattr(ops, module), function)(self, *args, **in_our_words(keywords))

    method.__name__, method.__qualname__ = function, f"Tensor.{function}"
    method.__doc__ = f"See :func:`tracejit.{function}`."
    return method


def _to(dtype: str) -> Callable[..., Tensor]:
    """A method that converts to a dtype."""

    def method(self: Any) -> Tensor:
        return ops.elementwise.astype(self, dtype)

    method.__doc__ = f"Converted to {dtype}."
    return method


def _sizes(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """``(2, 3)`` for the arguments ``2, 3`` and for ``(2, 3)``."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes


class FunctionMethods:
    """Mixed into :class:`~tracejit.Tensor`.

    >>> import tracejit as tj
    >>> tj.tensor([[1.0, 3.0], [2.0, 1.0]]).cumsum(dim=0)
    tensor([[1., 3.],
            [3., 4.]])
    """

    __slots__ = ()

    # Elementwise ------------------------------------------------------------------------------------

    acos = _by("elementary", "acos")
    acosh = _by("elementary", "acosh")
    angle = _by("arithmetic", "angle")
    asin = _by("elementary", "asin")
    asinh = _by("elementary", "asinh")
    atan = _by("elementary", "atan")
    atan2 = _by("elementary", "atan2")
    atanh = _by("elementary", "atanh")
    bitwise_and = _by("elementwise", "bitwise_and")
    bitwise_not = _by("elementwise", "bitwise_invert")
    bitwise_or = _by("elementwise", "bitwise_or")
    bitwise_xor = _by("elementwise", "bitwise_xor")
    ceil = _by("elementwise", "ceil")
    conjugate = _by("arithmetic", "conj")
    copysign = _by("arithmetic", "copysign")
    cosh = _by("elementary", "cosh")
    deg2rad = _by("arithmetic", "deg2rad")
    digamma = _by("special", "digamma")
    div = divide = true_divide = _by("elementwise", "divide")
    eq = _by("elementwise", "equal")
    erfc = _by("special", "erfc")
    erfinv = _by("elementwise", "erfinv")
    exp2 = _by("elementary", "exp2")
    expm1 = _by("elementwise", "expm1")
    floor = _by("elementwise", "floor")
    floor_divide = _by("arithmetic", "floor_divide")
    fmax = _by("arithmetic", "fmax")
    fmin = _by("arithmetic", "fmin")
    ge = greater_equal = _by("elementwise", "greater_equal")
    gt = greater = _by("elementwise", "greater")
    hypot = _by("elementary", "hypot")
    i0 = _by("special", "i0")
    isclose = _by("comparison", "isclose")
    isfinite = _by("elementwise", "isfinite")
    isinf = _by("elementwise", "isinf")
    isnan = _by("elementwise", "isnan")
    le = less_equal = _by("elementwise", "less_equal")
    lgamma = _by("special", "gammaln")
    log10 = _by("elementary", "log10")
    log1p = _by("elementwise", "log1p")
    log2 = _by("elementary", "log2")
    logaddexp = _by("elementary", "logaddexp")
    logical_and = _by("elementwise", "logical_and")
    logical_not = _by("elementwise", "logical_not")
    logical_or = _by("elementwise", "logical_or")
    logical_xor = _by("elementwise", "logical_xor")
    logit = _by("special", "logit")
    lt = less = _by("elementwise", "less")
    maximum = _by("elementwise", "maximum")
    minimum = _by("elementwise", "minimum")
    mul = multiply = _by("elementwise", "multiply")
    nan_to_num = _by("arithmetic", "nan_to_num")
    ne = not_equal = _by("elementwise", "not_equal")
    neg = negative = _by("elementwise", "negative")
    rad2deg = _by("arithmetic", "rad2deg")
    reciprocal = _by("elementwise", "reciprocal")
    remainder = _by("arithmetic", "remainder")
    round = _by("elementwise", "round")
    sign = _by("elementwise", "sign")
    signbit = _by("arithmetic", "signbit")
    sinc = _by("special", "sinc")
    sinh = _by("elementary", "sinh")
    tan = _by("elementwise", "tan")
    trunc = _by("arithmetic", "trunc")
    xlogy = _by("special", "xlogy")

    def add(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """``self + alpha * other``."""
        return ops.elementwise.add(self, other if alpha == 1 else ops.elementwise.multiply(other, alpha))

    def sub(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """``self - alpha * other``."""
        return ops.elementwise.subtract(self, other if alpha == 1 else ops.elementwise.multiply(other, alpha))

    def lerp(self: Any, end: Any, weight: Any) -> Tensor:
        """``self + weight * (end - self)``."""
        return self + weight * (end - self)

    def where(self: Any, condition: Any, other: Any) -> Tensor:
        """This tensor where the condition is true, else ``other``."""
        return ops.elementwise.where(condition, self, other)

    def masked_fill(self: Any, mask: Any, value: Any) -> Tensor:
        """``value`` where the ``mask`` is true."""
        return ops.elementwise.where(mask, value, self)

    def clamp_min(self: Any, min: Any) -> Tensor:
        """See :func:`tracejit.clip`."""
        return ops.elementwise.clip(self, min=min)

    def clamp_max(self: Any, max: Any) -> Tensor:
        """See :func:`tracejit.clip`."""
        return ops.elementwise.clip(self, max=max)

    def allclose(
        self: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> builtins.bool:
        """Whether all elements are close: see :func:`tracejit.isclose`."""
        return builtins.bool(ops.comparison.allclose(self, other, rtol, atol, equal_nan))

    def equal(self: Any, other: Any) -> builtins.bool:
        """Whether the shapes and all elements are equal."""
        return builtins.bool(ops.comparison.array_equal(self, other))

    # Reductions, and along an axis ------------------------------------------------------------------

    all = _by("reduction", "all")
    amax = _by("reduction", "max")
    amin = _by("reduction", "min")
    bincount = _by("counting", "bincount")
    any = _by("reduction", "any")
    argmax = _by("reduction", "argmax")
    argmin = _by("reduction", "argmin")
    count_nonzero = _by("sorting", "count_nonzero")
    cummax = _by("cumulative", "cummax")
    cummin = _by("cumulative", "cummin")
    cumprod = _by("cumulative", "cumprod")
    cumsum = _by("cumulative", "cumsum")
    logcumsumexp = _by("cumulative", "logcumsumexp")
    diff = _by("signals", "diff")
    log_softmax = _by("special", "log_softmax")
    logsumexp = _by("reduction", "logsumexp")
    nanmean = _by("statistics", "nanmean")
    nansum = _by("statistics", "nansum")
    prod = _by("reduction", "prod")
    quantile = _by("quantiles", "quantile")
    searchsorted = _by("sorting", "searchsorted")
    softmax = _by("special", "softmax")
    topk = _by("sorting", "topk")

    # Products ---------------------------------------------------------------------------------------

    bmm = matmul = mm = mv = _by("linalg", "matmul")
    cross = _by("linalg", "cross")
    det = _by("decompositions", "det")
    diag = _by("decompositions", "diag")
    diagonal = _by("arrangement", "diagonal")
    dot = _by("linalg", "dot")
    inner = _by("linalg", "inner")
    inverse = _by("decompositions", "inv")
    kron = _by("linalg", "kron")
    norm = _by("decompositions", "norm")
    outer = _by("linalg", "outer")
    trace = _by("arrangement", "trace")
    tril = _by("creation", "tril")
    triu = _by("creation", "triu")
    vdot = _by("linalg", "vdot")

    # Shape and order --------------------------------------------------------------------------------

    argwhere = _by("sorting", "argwhere")
    broadcast_to = _by("manipulation", "broadcast_to")
    fliplr = _by("arrangement", "fliplr")
    flipud = _by("arrangement", "flipud")
    moveaxis = movedim = _by("arrangement", "moveaxis")
    ravel = _by("arrangement", "ravel")
    repeat_interleave = _by("arrangement", "repeat")
    roll = _by("arrangement", "roll")
    rot90 = _by("arrangement", "rot90")
    swapaxes = swapdims = _by("arrangement", "swapaxes")
    unbind = _by("arrangement", "unstack")
    unique = _by("sets", "unique")

    @property
    def H(self: Any) -> Tensor:
        """A matrix transposed and conjugated."""
        return ops.arithmetic.conj(self.T)

    @property
    def mH(self: Any) -> Tensor:
        """The last two axes exchanged, and conjugated."""
        return ops.arithmetic.conj(self.mT)

    def t(self: Any) -> Tensor:
        """A matrix transposed; a vector or a scalar as it is."""
        if self.ndim > 2:
            raise at_user_line(RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {self.ndim}D"))
        return self.T

    def tile(self: Any, *repetitions: Any) -> Tensor:
        """See :func:`tracejit.tile`."""
        return ops.arrangement.tile(self, _sizes(repetitions))

    def repeat(self: Any, *sizes: Any) -> Tensor:
        """The tensor repeated whole along each axis, as PyTorch does it; for its elements see `repeat_interleave`."""
        counts = _sizes(sizes)
        if len(counts) < self.ndim:
            message = "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor"
            raise at_user_line(RuntimeError(f"{message}: {counts} for shape {format_shape(self.shape)}"))
        return ops.arrangement.tile(self, counts)

    def flip(self: Any, *axes: Any, **keywords: Any) -> Tensor:
        """See :func:`tracejit.flip`."""
        return ops.manipulation.flip(self, *([_sizes(axes)] if axes else []), **in_our_words(keywords))

    def expand_as(self: Any, other: Tensor) -> Tensor:
        """Broadcast to the shape of another tensor."""
        return ops.manipulation.broadcast_to(self, other.shape)

    def view_as(self: Any, other: Tensor) -> Tensor:
        """The same elements under the shape of another tensor."""
        return ops.manipulation.reshape(self, other.shape)

    reshape_as = view_as

    def unflatten(self: Any, dim: int, sizes: Sequence[int]) -> Tensor:
        """An axis made several."""
        at = dim % self.ndim
        return ops.manipulation.reshape(self, (*self.shape[:at], *sizes, *self.shape[at + 1 :]))

    def split(self: Any, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Parts of ``split_size`` along an axis, the last of what is left; or of the sizes given."""
        extent = self.shape[dim]
        if isinstance(split_size, int):
            if split_size <= 0:
                raise at_user_line(RuntimeError(f"split expects split_size be positive, but got {split_size}"))
            cuts = list(range(split_size, extent, split_size))
        else:
            if sum(split_size) != extent:
                wanted = f"{extent} (input tensor's size at dimension {dim})"
                message = f"split expects split_size to sum exactly to {wanted}, but got {list(split_size)}"
                raise at_user_line(RuntimeError(message))
            cuts = [sum(split_size[:i]) for i in range(1, len(split_size))]
        return tuple(ops.arrangement.split(self, cuts, dim))

    def chunk(self: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most so many parts along an axis, all but the last of one size."""
        return self.split(max(-(-self.shape[dim] // chunks), 1), dim)

    # Indexing ---------------------------------------------------------------------------------------

    take = _by("indexing", "take")

    def nonzero(self: Any, *, as_tuple: bool = False) -> Any:
        """The positions of what is not 0: a row each, or with ``as_tuple`` a vector for each axis."""
        return ops.sorting.nonzero(self) if as_tuple else ops.sorting.argwhere(self)

    def select(self: Any, dim: int, index: int) -> Tensor:
        """What has that index along an axis, without the axis."""
        return self[(*[slice(None)] * (dim % self.ndim), index)]

    def narrow(self: Any, dim: int, start: int, length: int) -> Tensor:
        """So many elements along an axis."""
        return self[(*[slice(None)] * (dim % self.ndim), slice(start, start + length))]

    def index_select(self: Any, dim: int, index: Any) -> Tensor:
        """See :func:`tracejit.take`."""
        return ops.indexing.take(self, index, dim)

    def scatter_add(self: Any, dim: int, index: Any, src: Any) -> Tensor:
        """See :func:`tracejit.scatter_add`."""
        return ops.scattering.scatter_add(self, dim, index, src)

    def masked_select(self: Any, mask: Any) -> Tensor:
        """The elements where the mask is true."""
        return self[ops.manipulation.broadcast_to(mask, self.shape)]

    def gather(self: Any, dim: int, index: Tensor) -> Tensor:
        """The elements with the indices along an axis, and with their own positions along the others."""
        part = self[tuple(slice(None) if i == dim % self.ndim else slice(n) for i, n in enumerate(index.shape))]
        return ops.indexing.take_along_axis(part, index, dim)

    # Kinds of tensors -------------------------------------------------------------------------------

    bfloat16 = _to("bfloat16")
    bool = _to("bool")
    byte = _to("uint8")
    char = _to("int8")
    half = _to("float16")
    int = _to("int32")
    short = _to("int16")

    def type_as(self: Any, other: Tensor) -> Tensor:
        """Converted to the dtype of another tensor."""
        return ops.elementwise.astype(self, other.dtype)

    def cpu(self: Any) -> Tensor:
        """The tensor on the CPU."""
        return self.to("cpu")

    def cuda(self: Any) -> Tensor:
        """The tensor on the GPU."""
        return self.to("cuda")

    @property
    def is_cuda(self: Any) -> builtins.bool:
        """Whether the tensor lies on the GPU."""
        return self.device.startswith("cuda")

    def contiguous(self: Any) -> Tensor:
        """The tensor itself: tensors are values, their layout cannot be seen."""
        return self

    def is_contiguous(self: Any) -> builtins.bool:
        """Whether :meth:`contiguous` is the tensor itself: always."""
        return True

    def copy(self: Any) -> Tensor:
        """See :meth:`clone`."""
        return self.clone()

    def is_floating_point(self: Any) -> builtins.bool:
        """Whether the elements are real floating-point numbers."""
        return is_floating(self.dtype)

    def is_complex(self: Any) -> builtins.bool:
        """Whether the elements are complex numbers."""
        return self.dtype.kind == "c"

    @property
    def itemsize(self: Any) -> builtins.int:
        """The bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self: Any) -> builtins.int:
        """The bytes of all elements."""
        return self.size * self.dtype.itemsize

    def element_size(self: Any) -> builtins.int:
        """The bytes of an element."""
        return self.dtype.itemsize

    def nelement(self: Any) -> builtins.int:
        """The number of elements."""
        return self.size

    def ndimension(self: Any) -> builtins.int:
        """The number of axes."""
        return self.ndim

    def new_tensor(self: Any, data: Any, *, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
        """A tensor of ``data``, of this one's dtype."""
        return ops.creation.tensor(data, dtype or self.dtype, requires_grad)

    def new_zeros(self: Any, *size: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
        """Zeros of this tensor's dtype."""
        return ops.creation.zeros(_sizes(size), dtype=dtype or self.dtype, requires_grad=requires_grad)

    def new_ones(self: Any, *size: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
        """Ones of this tensor's dtype."""
        return ops.creation.ones(_sizes(size), dtype=dtype or self.dtype, requires_grad=requires_grad)

    new_empty = new_zeros

    def new_full(self: Any, size: Any, fill_value: Any, *, dtype: Any = None) -> Tensor:
        """``fill_value`` everywhere, in this tensor's dtype."""
        return ops.creation.full(size, fill_value, dtype or self.dtype)
