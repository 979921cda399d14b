"""Padding: axes made longer by a value, or by their own elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.ir.types import is_integer

from ...locations import at_user_line
from ...ops import manipulation
from ...promotion import as_tensor
from ...tensor import Tensor

_MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements added at the ends of the last axes, or taken away where a number is negative.

    ``pad`` holds ``(before, after)`` of the last axis, then of the one before it, and so on.  ``mode`` says what is
    added: ``"constant"`` the ``value`` (0), ``"reflect"`` the axis mirrored at its end elements, ``"replicate"`` these
    themselves, ``"circular"`` the other end.

    >>> import tracejit as tj
    >>> pad(tj.tensor([[1.0, 2.0, 3.0]]), (1, 2))
    tensor([[0., 1., 2., 3., 0., 0.]])
    >>> pad(tj.tensor([[1.0, 2.0, 3.0]]), (2, 1), mode="reflect")
    tensor([[3., 2., 1., 2., 3., 2.]])
    """
    x = as_tensor(input, "pad")
    if len(pad) % 2:
        raise at_user_line(RuntimeError("Padding length must be divisible by 2"))
    if len(pad) // 2 > x.ndim:
        message = "Padding length should be less than or equal to two times the input dimension but got padding length"
        raise at_user_line(RuntimeError(f"{message} {len(pad)} and input of dimension {x.ndim}"))
    if mode not in _MODES:
        raise at_user_line(NotImplementedError(f"Unrecognised padding mode {mode}"))
    pads = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    if mode != "constant":
        if value is not None and value != 0:
            raise at_user_line(ValueError(f'Padding mode "{mode}" doesn\'t take in value argument'))
        return padded_by_copies(x, pads, mode)
    first = x.ndim - len(pads)
    kept = tuple(
        slice(max(-before, 0), extent - max(-after, 0))
        for extent, (before, after) in zip(x.shape[first:], pads, strict=True)
    )
    for extent, (before, after) in zip(x.shape[first:], pads, strict=True):
        if extent + before + after < 0:
            message = f"The input size {extent}, plus negative padding {before} and {after}, resulted in a negative "
            raise at_user_line(RuntimeError(f"{message}output size"))
    if any(number < 0 for pair in pads for number in pair):
        x = x[(*[slice(None)] * first, *kept)]
    added = [(max(before, 0), max(after, 0)) for before, after in pads]
    return manipulation.pad(x, [*[(0, 0)] * first, *added], constant_values=0 if value is None else fill_of(x, value))


def fill_of(x: Tensor, value: float) -> float:
    """A number that ``x`` is filled up with, without a change of its dtype."""
    return int(value) if is_integer(x.dtype) else value


def padded_by_copies(x: Tensor, pads: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """The last axes continued by their own elements."""
    for position, (before, after) in enumerate(pads):
        axis = x.ndim - len(pads) + position
        extent = x.shape[axis]
        if mode == "reflect" and max(before, after) >= extent:
            message = "Padding size should be less than the corresponding input dimension, but got: padding "
            raise at_user_line(
                RuntimeError(f"{message}({before}, {after}) at dimension {axis} of input {list(x.shape)}")
            )
        if mode == "circular" and max(before, after) > extent:
            raise at_user_line(RuntimeError("Padding value causes wrapping around more than once."))
        kept = _part(x, axis, max(-before, 0), extent - max(-after, 0))
        x = kept if mode == "circular" else x
        pieces = [*_continued(x, axis, before, mode, False), kept, *_continued(x, axis, after, mode, True)]
        x = manipulation.concat([piece for piece in pieces if piece.shape[axis]] or [kept], axis)
    return x


def _continued(x: Tensor, axis: int, count: int, mode: str, at_end: bool) -> list[Tensor]:
    """What comes before the axis, or after it."""
    if count <= 0:
        return []
    extent = x.shape[axis]
    if mode == "circular":
        return [_part(x, axis, 0, count) if at_end else _part(x, axis, extent - count, extent)]
    if mode == "replicate":
        end = _part(x, axis, extent - 1, extent) if at_end else _part(x, axis, 0, 1)
        return [manipulation.broadcast_to(end, (*x.shape[:axis], count, *x.shape[axis + 1 :]))]
    start = extent - 1 - count if at_end else 1
    return [manipulation.flip(_part(x, axis, start, start + count), axis)]


def _part(x: Tensor, axis: int, start: int, end: int) -> Tensor:
    return x[(*[slice(None)] * axis, slice(start, end))]
