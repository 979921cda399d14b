"""Runs scalar programs on NumPy arrays: a second reading of the table of instructions in ``ir/scalar.py``.

>>> s = Evaluator()
>>> x = np.array([1, 2, 3], np.float32)
>>> s.fma(x, x, 1.0)
array([ 2.,  5., 10.], dtype=float32)
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.scalar import ScalarBuilder
from tracejit.ir.types import DType, float64


class Evaluator(ScalarBuilder):
    """A builder whose scalars are arrays and whose instructions run at once.

    ``count`` is how many have run; a bitcast costs nothing on a machine, and is not counted.
    """

    def __init__(self) -> None:
        self.count = 0

    def constant(self, number: float | int | bool, dtype: DType) -> np.ndarray:
        return np.asarray(number).astype(dtype)

    def instruction(self, name: str, operands: tuple[Any, ...], dtype: DType) -> np.ndarray:
        self.count += name != "bitcast"
        arrays = [np.asarray(operand) for operand in operands]
        typed = arrays[1:] if name == "select" else arrays
        assert len({array.dtype for array in typed}) == 1, f"{name} of {[array.dtype for array in typed]}"
        with np.errstate(all="ignore"):
            if name in {"convert", "bitcast"}:
                return INSTRUCTIONS[name](*arrays, dtype)
            result = np.asarray(INSTRUCTIONS[name](*arrays))
        assert result.dtype == dtype, f"{name} gives {result.dtype}, not {dtype}"
        return result


def _fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """``x*y + z``, rounded once."""
    if x.dtype == float64:
        return np.asarray(_C_FMA(x, y, z), float64)
    product, addend = x.astype(float64) * y.astype(float64), z.astype(float64)  # exact
    total = np.asarray(product + addend)
    part = total - product
    error = (product - (total - part)) + (addend - part)  # exact too (Knuth)
    # Where the sum is not exact, make its last bit odd, so that the second rounding is as if it were the only one.
    bits = total.view(np.int64)
    away = np.where((error > 0) == (total > 0), 1, -1)
    inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    return np.where(inexact, bits + away, bits).view(float64).astype(x.dtype)


def _load_fma() -> Callable[..., Any]:
    function = ctypes.CDLL(ctypes.util.find_library("m")).fma
    function.argtypes, function.restype = [ctypes.c_double] * 3, ctypes.c_double
    return np.frompyfunc(lambda x, y, z: function(x, y, z), 3, 1)


_C_FMA = _load_fma()


def _maximum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """NaN wins, and -0 < +0."""
    return np.where((x == 0) & (y == 0), x + y, np.maximum(x, y))


def _minimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -_maximum(-x, -y) if x.dtype.kind == "f" else np.minimum(x, y)


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x - np.fmod(x, y)) // y


def _multiply_high(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x.astype(np.uint64) * y.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _convert(x: np.ndarray, dtype: DType) -> np.ndarray:
    """From float to integer: truncates and saturates, NaN gives 0."""
    if x.dtype.kind != "f" or dtype.kind not in "iu":
        return x.astype(dtype)
    info = np.iinfo(dtype)
    inside = (x > info.min - 1.0) & (x < 2.0 ** (info.bits - (dtype.kind == "i")))
    limit = np.where(x > 0, dtype.type(info.max), np.where(x < 0, dtype.type(info.min), dtype.type(0)))
    return np.where(inside, np.where(inside, x, 0).astype(dtype), limit)


INSTRUCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "negate": np.negative, "abs": np.abs,
    "divide": np.divide, "sqrt": np.sqrt, "fma": _fma,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint,
    "maximum": _maximum, "minimum": _minimum,
    "quotient": _quotient, "remainder": np.fmod,
    "and_": np.bitwise_and, "or_": np.bitwise_or, "xor": np.bitwise_xor, "not_": np.invert,
    "shift_left": np.left_shift, "shift_right": np.right_shift,
    "multiply_high": _multiply_high,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "select": np.where,
    "convert": _convert,
    "bitcast": lambda x, dtype: x.view(dtype),
}  # fmt: skip
