"""The gradient modes: what is recorded for ``backward``, and whether NaNs are looked for."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Generator
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
        self._set(self._value)

    def __exit__(self, *exception: object) -> None:
        self._set(self._previous.pop())

    def _set(self, value: bool) -> None:
        if value and self._field == "anomaly" and thread.trace is not None:
            thread.trace.anomaly = True
        setattr(thread, self._field, value)

    def _recreate_cm(self) -> _Mode:
        return _Mode(self._field, self._value)

    def __call__(self, function: Function) -> Function:
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            """The generator, in the mode while it runs; between its items the mode is the caller's."""
            generator = function(*args, **kwargs)
            resume: Callable[[Any], Any] = generator.send
            sent: Any = None
            while True:
                try:
                    with self._recreate_cm():
                        item = resume(sent)
                except StopIteration as stop:
                    return stop.value
                try:
                    resume, sent = generator.send, (yield item)
                except GeneratorExit:
                    with self._recreate_cm():
                        generator.close()
                    raise
                except BaseException as error:
                    resume, sent = generator.throw, error

        return generate  # type: ignore[return-value]


class _BareMode(_Mode):
    """A mode that decorates with and without parentheses: ``@no_grad()``, ``@no_grad``."""

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None or isinstance(function, bool) else cls()(function)


class _Setting(_Mode):
    """A mode that is set by the call itself; as a context manager or decorator it is set back at the end."""

    def __init__(self, field: str, value: bool) -> None:
        super().__init__(field, value)
        self._before: bool = getattr(thread, field)
        self._set(value)

    def __enter__(self) -> None:
        super().__enter__()
        self._previous[-1] = self._before

    def __call__(self, function: Function) -> Function:
        self._set(self._before)
        return super().__call__(function)


class no_grad(_BareMode):
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


class inference_mode(_BareMode):
    """As :class:`no_grad`; what is computed within it are ordinary tensors, which may be used anywhere later."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__("grad_enabled", not mode)


class enable_grad(_BareMode):
    """Within it operations are recorded again, inside of :class:`no_grad`."""

    def __init__(self) -> None:
        super().__init__("grad_enabled", True)


class set_grad_enabled(_Setting):
    """Recording on or off, by a flag: from the call on, or within a ``with`` or a decorated function.

    >>> import tracejit as tj
    >>> with tj.set_grad_enabled(False):
    ...     tj.is_grad_enabled()
    False
    """

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


class set_detect_anomaly(_Setting):
    """:class:`detect_anomaly` by a flag: from the call on, or within a ``with`` or a decorated function."""

    def __init__(self, mode: bool) -> None:
        super().__init__("anomaly", mode)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded."""
    return thread.grad_enabled
