"""Effects: what a program asks Python to do while it runs, in order; for debugging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..facts import facts
from ..primitive import Library
from ..types import TensorType

# An attribute of an op is text that can be printed and read back: a function is named by its number here.
_functions: list[Callable[..., None]] = []
_numbers: dict[int, int] = {}


def number_of(function: Callable[..., None]) -> int:
    """The number that stands for a function in a graph."""
    if id(function) not in _numbers:
        _numbers[id(function)] = len(_functions)
        _functions.append(function)
    return _numbers[id(function)]


@facts(frozen=True, eq=False, kw_only=True)
class Effect(Library):
    """A primitive without results: passes keep its ops, where they are."""

    def evaluate(self, *arrays: np.ndarray, **attributes: Any) -> Any:
        self.numpy(*arrays, **attributes)
        return ()


def _no_results(*types: TensorType, function: int) -> Any:
    return ()


callback = Effect(
    name="callback", type_rule=_no_results, numpy=lambda *arrays, function: _functions[function](*arrays)
)  # fmt: skip
