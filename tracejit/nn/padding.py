"""Padding, as modules; :func:`.functional.pad` says what each mode adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..locations import at_user_line
from ..tensor import Tensor
from . import functional
from .module import Module


class _Padding(Module):
    _axes: ClassVar[int]
    _mode: ClassVar[str]

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        numbers = (padding,) * (2 * self._axes) if isinstance(padding, int) else tuple(padding)
        if len(numbers) != 2 * self._axes:
            message = f"{type(self).__name__}: expected padding to be an int or {2 * self._axes} ints, got {padding}"
            raise at_user_line(ValueError(message))
        self.padding = numbers

    def forward(self, input: Any) -> Tensor:
        """``(N, C, …)`` or ``(C, …)`` → the same with longer axes."""
        if self._mode != "constant" and input.ndim not in (self._axes + 1, self._axes + 2):
            message = f"{type(self).__name__}: expected {self._axes + 1}D or {self._axes + 2}D input (got {input.ndim}D"
            raise at_user_line(ValueError(f"{message} input)"))
        return functional.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Padding):
    _mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same with longer axes."""
        return functional.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """``value`` added at the ends of the last axis: ``padding`` is ``(left, right)``, or one number for both."""

    _axes = 1


class ConstantPad2d(_ConstantPad):
    """``value`` added at the ends of the last two axes: ``padding`` is ``(left, right, top, bottom)``.

    >>> import tracejit as tj
    >>> ConstantPad2d((1, 0, 0, 1), 5.0)(tj.zeros(1, 1, 2))
    tensor([[[5., 0., 0.],
             [5., 5., 5.]]])
    """

    _axes = 2


class ConstantPad3d(_ConstantPad):
    """``value`` added at the ends of the last three axes."""

    _axes = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad):
    """Zeros added at the ends of the last axis."""

    _axes = 1


class ZeroPad2d(_ZeroPad):
    """Zeros added at the ends of the last two axes."""

    _axes = 2


class ZeroPad3d(_ZeroPad):
    """Zeros added at the ends of the last three axes."""

    _axes = 3


class ReflectionPad1d(_Padding):
    """The last axis mirrored at its end elements.

    >>> import tracejit as tj
    >>> ReflectionPad1d(2)(tj.tensor([[0.0, 1.0, 2.0]]))
    tensor([[2., 1., 0., 1., 2., 1., 0.]])
    """

    _axes, _mode = 1, "reflect"


class ReflectionPad2d(_Padding):
    """The last two axes mirrored at their end elements."""

    _axes, _mode = 2, "reflect"


class ReflectionPad3d(_Padding):
    """The last three axes mirrored at their end elements."""

    _axes, _mode = 3, "reflect"


class ReplicationPad1d(_Padding):
    """The last axis continued by its end elements.

    >>> import tracejit as tj
    >>> ReplicationPad1d((1, 2))(tj.tensor([[0.0, 1.0]]))
    tensor([[0., 0., 1., 1., 1.]])
    """

    _axes, _mode = 1, "replicate"


class ReplicationPad2d(_Padding):
    """The last two axes continued by their end elements."""

    _axes, _mode = 2, "replicate"


class ReplicationPad3d(_Padding):
    """The last three axes continued by their end elements."""

    _axes, _mode = 3, "replicate"


class CircularPad1d(_Padding):
    """The last axis continued from its other end.

    >>> import tracejit as tj
    >>> CircularPad1d((1, 2))(tj.tensor([[0.0, 1.0, 2.0]]))
    tensor([[2., 0., 1., 2., 0., 1.]])
    """

    _axes, _mode = 1, "circular"


class CircularPad2d(_Padding):
    """The last two axes continued from their other ends."""

    _axes, _mode = 2, "circular"


class CircularPad3d(_Padding):
    """The last three axes continued from their other ends."""

    _axes, _mode = 3, "circular"


__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d",
    "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip
