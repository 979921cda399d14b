"""Which dtype an operation on mixed operands has.

Arrays promote among themselves: the kind (bool, integer, float, complex) by the highest, the width by NumPy's
rule within a kind; an integer array never widens a float one.  Python numbers are *weak*: they take the
arrays' dtype, and only raise its kind (to float32, int64 or complex64; float64 to complex128).  So are
the floats that a jitted function is called with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.extents import Extent, ExtentValue
from tracejit.ir.primitives.elementwise import convert
from tracejit.ir.types import (
    DType,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int64,
)  # fmt: skip

from . import dispatch
from .disguise import disguised
from .locations import at_user_line
from .state import thread
from .tape import apply
from .tensor import Tensor, new_tensor

DEFAULT_FLOAT = float32
_KINDS = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2, "c": 3}
_known_kinds: dict[DType, int] = {}


def kind(dtype: DType) -> int:
    """0 bool, 1 integer, 2 float, 3 complex."""
    found = _known_kinds.get(dtype)
    if found is None:
        found = _known_kinds[dtype] = 2 if dtype == bfloat16 else _KINDS[dtype.kind]
    return found


def promote_dtypes(first: DType, second: DType) -> DType:
    """The dtype of an operation on arrays of two dtypes.

    >>> promote_dtypes(np.dtype("int64"), np.dtype("float32"))
    dtype('float32')
    """
    if first == second:
        return first
    if kind(first) < kind(second):
        first, second = second, first
    if kind(first) > kind(second):
        if first == complex64 and second == float64:
            return complex128
        return first
    if {first, second} == {float16, bfloat16}:
        return float32
    if bfloat16 in (first, second):
        return second if first == bfloat16 else first
    return np.promote_types(first, second)


def scalar_dtype(number: Any) -> DType:
    """The dtype of a Python number among no arrays."""
    if isinstance(number, bool):
        return bool_
    if isinstance(number, int):
        return int64
    return complex64 if isinstance(number, complex) else DEFAULT_FLOAT


def _describe(argument: Any) -> str:
    text = repr(argument)
    return f"{type(argument).__name__} {text if len(text) < 40 else text[:37] + '...'}"


def as_tensor(argument: Any, name: str) -> Tensor:
    """A Tensor, array or number as a tensor; anything else is a ``TypeError``."""
    if isinstance(argument, Tensor):
        return argument
    if type(argument) is Extent:
        return new_tensor(ExtentValue(argument))
    if isinstance(argument, bool | int | float | complex):
        return new_tensor(dispatch.constant_payload(np.asarray(argument, scalar_dtype(argument))))
    if isinstance(argument, np.ndarray | np.generic):
        from .ops.creation import from_numpy

        return from_numpy(np.asarray(argument))
    raise at_user_line(TypeError(f"{name}: expected a Tensor, an array or a number, got {_describe(argument)}"))


def operands(name: str, *arguments: Any, lowest_kind: int = 0) -> list[Tensor]:
    """The arguments as tensors of one dtype; ``lowest_kind=2`` makes integers float32."""
    ready = _ready_operands(arguments, lowest_kind)
    if ready is not None:
        return ready
    strong: DType | None = None
    weak_kind = lowest_kind
    items: list[Any] = []
    for argument in arguments:
        if isinstance(argument, bool | int | float | complex):  # NumPy's float64 and complex128 among them
            weak_kind = max(weak_kind, kind(scalar_dtype(argument)))
            items.append(argument)
            continue
        tensor = as_tensor(argument, name)
        items.append(tensor)
        if tensor._weak:
            weak_kind = max(weak_kind, kind(tensor.dtype))
        else:
            strong = tensor.dtype if strong is None else promote_dtypes(strong, tensor.dtype)
    if strong is None:
        strong = bool_
    if kind(strong) < weak_kind:
        is_wide = weak_kind == 3 and strong == float64
        strong = complex128 if is_wide else (bool_, int64, DEFAULT_FLOAT, complex64)[weak_kind]
    result: list[Tensor] = []
    for item in items:
        if isinstance(item, Tensor):
            result.append(item if item.dtype == strong else apply(convert, (item,), {"dtype": strong}))
        else:
            result.append(_scalar(name, item, strong))
    return result


def is_weak(operand: Any) -> bool:
    """Whether an operand is a Python number, or stands for one while a function is traced."""
    return operand._weak if isinstance(operand, Tensor) else isinstance(operand, bool | int | float)


def weak_number(number: Any) -> Tensor:
    """A Python number in a tensor's disguise, while a function is traced."""
    if type(number) is Extent:
        return disguised(new_tensor(ExtentValue(number)))
    dtype = int64 if isinstance(number, int) else float64
    return disguised(new_tensor(dispatch.constant_payload(np.asarray(number, dtype))))


def on_numbers(function: Callable[..., Tensor], *numbers: Any) -> Tensor:
    """An operator between numbers that stand for Python's: in int64 or float64, as Python does it, and weak again."""
    weak = [number if isinstance(number, Tensor) else weak_number(number) for number in numbers]
    dtype = int64 if all(number.dtype == int64 for number in weak) and function.__name__ != "divide" else float64
    wide = [new_tensor(number._value) if number.dtype == dtype else _converted(number, dtype) for number in weak]
    result = function(*wide)
    return disguised(result) if result.dtype == dtype else result


def _converted(number: Tensor, dtype: DType) -> Tensor:
    return apply(convert, (new_tensor(number._value),), {"dtype": dtype})


def _ready_operands(arguments: tuple[Any, ...], lowest_kind: int) -> list[Tensor] | None:
    """The common cases, quickly: tensors of one dtype, or a floating-point tensor and a Python number."""
    dtype: DType | None = None
    numbers = False
    for argument in arguments:
        if not isinstance(argument, Tensor):
            numbers = True
        elif argument._weak:
            return None
        else:
            own = argument._value.dtype
            if dtype is None:
                dtype = own
            elif own is not dtype and own != dtype:
                return None
    if dtype is None or ((numbers or lowest_kind) and kind(dtype) < (lowest_kind or 2)):
        return None
    if not numbers:
        return list(arguments)
    result: list[Tensor] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            result.append(argument)
        elif kind(dtype) == 2 and (type(argument) is float or type(argument) is int):
            result.append(new_tensor(dispatch.constant_payload(_rounded(argument, dtype))))
        else:
            return None
    return result


def _scalar(name: str, number: Any, dtype: DType) -> Tensor:
    """A Python number as a 0-d tensor of an operand's dtype."""
    if kind(dtype) == 1 and not (np.iinfo(dtype).min <= number <= np.iinfo(dtype).max):
        raise at_user_line(OverflowError(f"{name}: Python integer {number} out of bounds for {dtype}"))
    if type(number) is Extent:
        return _converted(new_tensor(ExtentValue(number)), dtype)
    return new_tensor(dispatch.constant_payload(_rounded(number, dtype)))


def _rounded(number: Any, dtype: DType) -> np.ndarray:
    """A Python number in a dtype; infinity, and no warning, where it is too large."""
    array: np.ndarray = thread.quiet.run(np.array, number, dtype)
    return array
