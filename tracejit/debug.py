"""Looking into functions while they run: printing and callbacks, eagerly and within compiled code.

An ordinary ``print`` of a traced value has a jitted function run its Python code at each call.  These do not: they
become part of the compiled program, loops included.  What a call shows appears when the call is done, in order.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .promotion import as_tensor, is_weak
from .state import thread
from .tensor import Tensor, new_tensor


def callback(function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function`` with the values of ``arguments`` (tensors or numbers), at this point of each run.

    What it returns is ignored.  It gets tensors without a history, and must not change anything that the function that
    is being compiled reads.  What a derivative runs once more does not call it again.

    >>> import tracejit as tj
    >>> seen = []
    >>> @tj.jit
    ... def f(x):
    ...     tj.debug.callback(lambda y: seen.append(y.item()), x * 2)
    ...     return x + 1
    >>> f(tj.tensor(1.0)), f(tj.tensor(2.0)), seen
    (tensor(2.), tensor(3.), [2.0, 4.0])
    """
    if thread.region is not None and thread.region.is_second:
        return  # a checkpoint runs again for its derivative
    numbers = tuple([is_weak(argument) for argument in arguments])
    tensors = [as_tensor(argument, "callback").detach() for argument in arguments]
    call = _with_numbers(function, numbers)
    if thread.trace is None:
        call(*tensors)
    else:
        thread.trace.effect(call, tensors)


def print(text: str, *arguments: Any, **named: Any) -> None:
    """Print ``text.format(*arguments, **named)`` at this point of each run.

    >>> import tracejit as tj
    >>> @tj.jit
    ... def f(x):
    ...     tj.debug.print("x is {} and its sum {total}", x, total=x.sum())
    ...     return x * 2
    >>> y = f(tj.tensor([1.0, 2.0]))
    x is tensor([1., 2.]) and its sum tensor(3.)
    """
    names = tuple(named)
    key = text, len(arguments), names
    if key not in _printers:
        _printers[key] = partial(_print, text, len(arguments), names)
    callback(_printers[key], *arguments, *named.values())


@lru_cache(maxsize=256)
def _with_numbers(function: Callable[..., None], numbers: tuple[bool, ...]) -> Callable[..., None]:
    """``function`` called with those arguments as Python numbers that were some."""

    def call(*tensors: Tensor) -> None:
        function(*[t.item() if number else t for t, number in zip(tensors, numbers, strict=True)])

    return call


_printers: dict[Any, Callable[..., None]] = {}


def _print(text: str, count: int, names: tuple[str, ...], *values: Tensor) -> None:
    builtins.print(text.format(*values[:count], **dict(zip(names, values[count:], strict=True))))


class Recorder:
    """A callback's stand-in in a program: notes that it is due, with copies of the values."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, *arrays: np.ndarray) -> None:
        if thread.callbacks is None:
            thread.callbacks = []
        thread.callbacks.append((self.function, [np.array(array) for array in arrays]))


@lru_cache(maxsize=256)
def recorder_of(function: Callable[..., None]) -> Recorder:
    """The same recorder for the same function."""
    return Recorder(function)


def run_callbacks() -> None:
    """Make the calls that are due."""
    due, thread.callbacks = thread.callbacks or (), None
    for function, arrays in due:
        function(*[new_tensor(array) for array in arrays])


__all__ = ["callback", "print"]
