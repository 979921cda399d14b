"""Types: an element type and a shape, written ``f32[128,64]``.

Element types are NumPy dtypes (``bfloat16`` comes from ml_dtypes).  A dimension is an ``int`` or a
:class:`Symbol`, an extent that is known only when the program runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from .facts import facts

DType = np.dtype

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
float16, float32, float64 = (np.dtype(f"float{n}") for n in (16, 32, 64))
bfloat16 = np.dtype(ml_dtypes.bfloat16)
complex64, complex128 = np.dtype(np.complex64), np.dtype(np.complex128)

SHORT_NAMES: dict[DType, str] = {
    bool_: "bool",
    int8: "i8", int16: "i16", int32: "i32", int64: "i64",
    uint8: "u8", uint16: "u16", uint32: "u32", uint64: "u64",
    float16: "f16", bfloat16: "bf16", float32: "f32", float64: "f64",
    complex64: "c64", complex128: "c128",
}  # fmt: skip
DTYPES_BY_SHORT_NAME: dict[str, DType] = {name: dtype for dtype, name in SHORT_NAMES.items()}


@facts(frozen=True)
class Symbol:
    """An extent known only at run time; two symbols are the same extent when their names are equal."""

    name: str

    def __str__(self) -> str:
        return self.name


HALF_DTYPES = frozenset((float16, bfloat16))  # computed with as float32, and rounded

# What kernels compute with; operations on other dtypes are NumPy's, eagerly and in programs.
KERNEL_DTYPES = frozenset((bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64))

Dim = int | Symbol
Shape = tuple[Dim, ...]


def short_name(dtype: DType) -> str:
    """``float32`` → ``"f32"``."""
    return SHORT_NAMES[dtype]


def is_floating(dtype: DType) -> bool:
    return dtype.kind == "f" or dtype == bfloat16


def is_differentiable(dtype: DType) -> bool:
    return is_floating(dtype) or dtype.kind == "c"


def is_integer(dtype: DType) -> bool:
    return dtype.kind in "iu"


class TensorType(NamedTuple):
    """The type of an IR value.

    >>> TensorType(float32, (128, Symbol("n")))
    f32[128,n]
    """

    dtype: DType
    shape: Shape

    def __repr__(self) -> str:
        return f"{short_name(self.dtype)}[{','.join(map(str, self.shape))}]"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        return all(isinstance(dim, int) for dim in self.shape)

    @property
    def size(self) -> int:
        """The number of elements; all dimensions must be known."""
        return math.prod(self.static_shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def static_shape(self) -> tuple[int, ...]:
        for dim in self.shape:
            if isinstance(dim, Symbol):
                raise ValueError(f"{self} has a dimension that is known only at run time: {dim}")
        return self.shape  # type: ignore[return-value]


def type_of(array: np.ndarray) -> TensorType:
    """The type of a NumPy array."""
    return TensorType(array.dtype, array.shape)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all of ``shapes`` broadcast to, by NumPy's rule.

    >>> broadcast_shapes((3, 1), (4,))
    (3, 4)

    Raises ``ValueError`` when two extents differ and neither is 1.
    """
    shapes = tuple([shape for shape in shapes if shape]) or shapes[:1]
    ndim = max(map(len, shapes))
    result: list[Dim] = []
    for axis in range(ndim):
        extent: Dim = 1
        for shape in shapes:
            position = axis - ndim + len(shape)
            own: Dim = 1 if position < 0 else shape[position]
            if own is extent or (type(own) is int and own == 1):  # an extent that stands for others need not be asked
                continue
            if not (type(extent) is int and extent == 1) and own != extent:
                if own == 1:
                    continue
                if extent != 1:
                    raise ValueError(f"shapes {', '.join(format_shape(s) for s in shapes)} do not broadcast together")
            extent = own
        result.append(extent)
    return tuple(result)


def same_shape(first: Sequence[Dim], second: Sequence[Dim]) -> bool:
    """Whether two shapes are equal; extents are compared only where there are as many in both."""
    return len(first) == len(second) and tuple(first) == tuple(second)


def broadcast_static_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """:func:`broadcast_shapes` of shapes that are all known."""
    return broadcast_shapes(*shapes)  # type: ignore[return-value]


def format_shape(shape: Sequence[Dim]) -> str:
    """A shape as NumPy writes it: ``(3,)``, ``(2, 3)``."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
