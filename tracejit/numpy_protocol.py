"""NumPy's functions on tensors.

A ufunc (``np.exp(x)``, ``array + x``) is this library's function of that meaning: it gives a Tensor, records gradients
and can be traced.  Every other function of NumPy's, and a ufunc that has no counterpart or is told more than its
operands (``out=``, ``np.add.reduce``), works on the tensors' arrays and gives arrays: it raises ``RuntimeError`` for
a tensor that requires gradients, as ``x.numpy()`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from .locations import at_user_line

# Where NumPy's own name of a ufunc is another than the array API standard's.
_NAMES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "conjugate": "conj", "degrees": "rad2deg", "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift", "power": "pow", "radians": "deg2rad",
    "rint": "round",
}  # fmt: skip
_NUMBERS = (bool, int, float, complex, np.ndarray, np.generic)


@cache
def counterpart(ufunc: np.ufunc) -> Callable[..., Any] | None:
    """This library's function for one of NumPy's ufuncs; ``None`` where there is none."""
    import tracejit

    if getattr(np, ufunc.__name__, None) is not ufunc:  # another library's
        return None
    return getattr(tracejit, _NAMES.get(ufunc.__name__, ufunc.__name__), None)


class NumPyProtocol:
    """The methods by which NumPy hands its functions over (NEP 13 and NEP 18)."""

    __slots__ = ()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        function = counterpart(ufunc) if method == "__call__" and not keywords else None
        if function is None:
            changed = inputs[:1] if method == "at" else keywords.get("out", ())  # NumPy gives out as a tuple
            if any(isinstance(item, NumPyProtocol) for item in changed):
                raise at_user_line(TypeError(f"{ufunc.__name__}: an array can be changed in place, not a Tensor"))
            return getattr(ufunc, method)(*_with_arrays(inputs), **keywords)
        known = (*_NUMBERS, NumPyProtocol)
        return function(*[item if isinstance(item, known) else np.asarray(item) for item in inputs])

    def __array_function__(
        self, function: Callable[..., Any], kinds: Iterable[type], arguments: Any, keywords: dict[str, Any]
    ) -> Any:
        return function(*_with_arrays(arguments), **_with_arrays(keywords))


def _with_arrays(item: Any) -> Any:
    """Arguments with the arrays of the tensors among them, in lists, tuples and dicts too."""
    if isinstance(item, NumPyProtocol):
        return np.asarray(item)
    if isinstance(item, tuple | list):
        return type(item)([_with_arrays(each) for each in item])
    if isinstance(item, dict):
        return {key: _with_arrays(value) for key, value in item.items()}
    return item
