"""Questions about dtypes: ``result_type``, ``can_cast``, ``isdtype``, ``finfo``, ``iinfo``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tracejit.ir.types import SHORT_NAMES, DType, bfloat16, bool_, is_floating, is_integer

from ..locations import at_user_line
from ..promotion import DEFAULT_FLOAT, kind as kind_of, promote_dtypes, scalar_dtype
from ..tensor import Tensor

_KINDS = {
    "bool": lambda d: d == bool_,
    "signed integer": lambda d: d.kind == "i",
    "unsigned integer": lambda d: d.kind == "u",
    "integral": is_integer,
    "real floating": is_floating,
    "complex floating": lambda d: d.kind == "c",
    "numeric": lambda d: d != bool_,
}


def _dtype_of(item: Any) -> DType:
    return item.dtype if isinstance(item, Tensor | np.ndarray) else np.dtype(item)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype of an operation on these tensors, dtypes and Python numbers (which are weak).

    >>> import tracejit as tj
    >>> tj.result_type(tj.int32, tj.tensor([1.0]), 2.0)
    dtype('float32')
    """
    if not arrays_and_dtypes:
        raise at_user_line(ValueError("result_type: expected at least one tensor or dtype"))
    strong: DType | None = None
    weak: list[Any] = []
    for item in arrays_and_dtypes:
        if isinstance(item, bool | int | float | complex) and not isinstance(item, np.generic):
            weak.append(item)
        else:
            dtype = _dtype_of(item)
            strong = dtype if strong is None else promote_dtypes(strong, dtype)
    lowest = max((kind_of(scalar_dtype(number)) for number in weak), default=0)
    if strong is None:
        return scalar_dtype(max(weak, key=lambda number: kind_of(scalar_dtype(number))))
    if kind_of(strong) >= lowest:
        return strong
    if lowest == 3:
        return np.dtype(np.complex128 if strong.itemsize == 8 and is_floating(strong) else np.complex64)
    return DEFAULT_FLOAT if lowest == 2 else np.dtype(np.int64)


def can_cast(from_: Any, to: Any) -> bool:
    """Whether every value of the first dtype (or tensor's dtype) is one of the second."""
    source, target = _dtype_of(from_), np.dtype(to)
    if bfloat16 in (source, target):
        return source == target or promote_dtypes(source, target) == target != bfloat16
    return bool(np.can_cast(source, target))


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is ``kind``: a dtype, the name of a kind, or a tuple of those.

    >>> import tracejit as tj
    >>> tj.isdtype(tj.float32, "real floating")
    True
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, item) for item in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise at_user_line(ValueError(f"isdtype: the kind must be one of {', '.join(_KINDS)}, got {kind!r}"))
        return bool(_KINDS[kind](np.dtype(dtype)))
    return np.dtype(dtype) == np.dtype(kind)


@dataclass(frozen=True)
class FloatInfo:
    """The limits of a floating-point dtype; of a complex one, those of its parts."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IntegerInfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def finfo(type: Any) -> FloatInfo:
    """The limits of a floating-point or complex dtype, or of a tensor's."""
    dtype = _dtype_of(type)
    if not is_floating(dtype) and dtype.kind != "c":
        raise at_user_line(ValueError(f"finfo: expected a floating-point dtype, got {dtype}"))
    info: Any = ml_dtypes.finfo(dtype) if dtype == bfloat16 else np.finfo(dtype)
    limits = (float(info.eps), float(info.max), float(info.min), float(info.smallest_normal))
    return FloatInfo(int(info.bits), *limits, np.dtype(info.dtype))


def iinfo(type: Any) -> IntegerInfo:
    """The limits of an integer dtype, or of a tensor's."""
    dtype = _dtype_of(type)
    if not is_integer(dtype):
        raise at_user_line(ValueError(f"iinfo: expected an integer dtype, got {dtype}"))
    info = np.iinfo(dtype)
    return IntegerInfo(info.bits, int(info.max), int(info.min), dtype)


class NamespaceInfo:
    """What :func:`__array_namespace_info__` returns."""

    def capabilities(self) -> dict[str, Any]:
        """What the library can do."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where tensors are made."""
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        """Where tensors can live."""
        return ("cpu",)

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:
        """The dtypes that Python numbers get."""
        int64 = np.dtype(np.int64)
        return {
            "real floating": DEFAULT_FLOAT,
            "complex floating": np.dtype(np.complex64),
            "integral": int64,
            "indexing": int64,
        }

    def dtypes(self, *, device: str | None = None, kind: Any = None) -> dict[str, DType]:
        """The standard's dtypes by name, those of a kind alone if one is given."""
        standard = {dtype.name: dtype for dtype in SHORT_NAMES if dtype != bfloat16 and dtype != np.dtype(np.float16)}
        return {name: dtype for name, dtype in standard.items() if kind is None or isdtype(dtype, kind)}


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807
    """What the array API standard asks a namespace to tell about itself."""
    return NamespaceInfo()
