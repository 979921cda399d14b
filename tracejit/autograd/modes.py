"""The gradient modes: what is recorded for ``backward``, and whether NaNs are looked for."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..state import thread

Function = TypeVar("Function", bound=Callable[..., Any])


class _Mode(contextlib.ContextDecorator):
    """A context manager and decorator that sets one field of the thread's state."""

    def __init__(self, field: str, value: bool) -> None:
        self._field, self._value = field, value
        self._previous: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(getattr(thread, self._field))
        if self._field == "anomaly" and thread.trace is not None:
            thread.trace.anomaly = True
        setattr(thread, self._field, self._value)

    def __exit__(self, *exception: object) -> None:
        setattr(thread, self._field, self._previous.pop())

    def _recreate_cm(self) -> _Mode:
        return _Mode(self._field, self._value)

    def __call__(self, function: Function) -> Function:
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            generator = function(*args, **kwargs)
            while True:
                with self._recreate_cm():
                    try:
                        item = next(generator)
                    except StopIteration as stop:
                        return stop.value
                yield item

        return generate  # type: ignore[return-value]


class no_grad(_Mode):
    """Within it, or in a function that it decorates, nothing is recorded for ``backward``.

    >>> import tracejit as tj
    >>> x = tj.tensor(2.0, requires_grad=True)
    >>> with tj.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__("grad_enabled", False)


class inference_mode(_Mode):
    """As :class:`no_grad`; what is computed within it are ordinary tensors, which may be used anywhere later."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__("grad_enabled", not mode)


class enable_grad(_Mode):
    """Within it operations are recorded again, inside of :class:`no_grad`."""

    def __init__(self) -> None:
        super().__init__("grad_enabled", True)


class set_grad_enabled(_Mode):
    """Recording on or off, by a flag."""

    def __init__(self, mode: bool) -> None:
        super().__init__("grad_enabled", mode)


class detect_anomaly(_Mode):
    """Within it an operation, forward or backward, that makes a NaN out of none raises ``FloatingPointError``.

    The error names the operation, the element, what it was computed from, and the user's line.  Jitted
    functions called within it do the same, op by op, with nothing committed.

    >>> import tracejit as tj
    >>> with tj.autograd.detect_anomaly():
    ...     tj.log(tj.tensor([1.0, -1.0]))  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    FloatingPointError: log of -1.0 is NaN (element [1] of f32[2])
    """

    def __init__(self) -> None:
        super().__init__("anomaly", True)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded."""
    return thread.grad_enabled
