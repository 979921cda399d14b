"""Tensors in disguise: what stands for a Python number, or for an array of NumPy's, while a function is traced.

A float argument, or what ``item()`` gives, is an input or a value of the program, not one number; the function's code
should not see the difference.  So these tensors say that they are floats or ints, and where code asks for something
that only a number has (a hash, a method of float), it gets that of the number, and the path is that of this number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .locations import is_library
from .state import thread
from .tensor import Tensor, disguises


class Number(Tensor):
    """A 0-d int64 or float64 tensor that stands for a Python number."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What ``isinstance`` looks at: the number's class, for code that is not the library's."""
        file = sys._getframe(1).f_code.co_filename
        if is_library(file) or not self._weak:
            return Number
        return float if self._value.dtype.kind == "f" else int

    def _is_disguised(self) -> bool:
        return self._weak

    def __hash__(self) -> int:
        return object.__hash__(self) if is_library(sys._getframe(1).f_code.co_filename) else hash(self._number())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(float if self.dtype.kind == "f" else int, name):
            return getattr(self._number(), name)
        raise AttributeError(f"'{type(self._number()).__name__}' object has no attribute {name!r}")

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self


def disguised(number: Tensor) -> Tensor:
    """A 0-d int64 or float64 tensor that stands for a Python number from here on."""
    object.__setattr__(number, "__class__", Number)
    number._weak = True
    return number


class Array(Tensor):
    """A tensor that stands for a NumPy array or scalar that was given as an argument.

    The library's functions take it for a tensor, as they do eagerly; what code computes with NumPy is NumPy's to do.
    """

    __slots__ = ()

    def _is_disguised(self) -> bool:
        return True

    def __getattribute__(self, name: str) -> Any:
        if not is_library(sys._getframe(1).f_code.co_filename):
            if name == "__class__":  # what isinstance looks at, as in Number
                return object.__getattribute__(self, "__dict__")["stands_for"]
            if name not in _OF_BOTH:
                _refuse()
        return object.__getattribute__(self, name)


def stands_for(tensor: Tensor, item: Any) -> Tensor:
    """The tensor, which stands for an array from here on."""
    object.__setattr__(tensor, "__class__", Array)
    object.__getattribute__(tensor, "__dict__")["stands_for"] = type(item)
    return tensor


def _refuse() -> None:
    if thread.trace is not None:
        thread.trace.refuse("it computes with an argument that is a NumPy array; tracejit.asarray makes that a tensor")


def _operator(name: str) -> Callable[..., Any]:
    own = getattr(Tensor, name)

    def operate(self: Any, *others: Any, **keywords: Any) -> Any:
        is_with_tensor = any(isinstance(other, Tensor) and type(other) is not Array for other in others)
        if not (is_with_tensor and name in _BINARY) and not is_library(sys._getframe(1).f_code.co_filename):
            _refuse()
        return own(self, *others, **keywords)

    return operate


_OF_BOTH = ("shape", "ndim", "size", "dtype", "__len__")
_BINARY = frozenset(
    f"__{reflected}{name}__"
    for name in "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()
    for reflected in ("", "r")
) | {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
_OTHERS = frozenset(
    f"__{name}__"
    for name in """neg pos abs invert getitem setitem iadd isub imul itruediv ipow ifloordiv imod imatmul iand ior ixor
    ilshift irshift iter array bool float complex int round index str repr format reduce copy deepcopy array_ufunc
    array_function""".split()
)
disguises.update((Number, Array))
for _name in _BINARY | _OTHERS:
    setattr(Array, _name, _operator(_name))
