"""Elements at the number of a loop's step: ``x[i]`` in a captured ``for i in range(n)``.

The loop gets them as slices of an input, step by step, so that the gradient of ``x`` is put together once.
"""

from __future__ import annotations

from typing import Any

from tracejit.ir import Constant, TensorType, Value
from tracejit.ir.primitives.elementwise import add, multiply, subtract

from .regions import CannotCapture, Region
from .state import thread
from .tape import node_of
from .tensor import Tensor


def at_trip(x: Tensor, key: Any) -> tuple[Tensor, Any] | None:
    """The slice of ``x`` at the number of a step that ``key`` begins with, and the rest of the key; ``None``: no such.

    It begins with it where only whole axes stand before.
    """
    region: Region | None = getattr(thread.trace, "region", None)
    items = key if type(key) is tuple else (key,)
    axis = next((axis for axis, item in enumerate(items) if item != slice(None)), 0) if region is not None else 0
    number = items[axis] if axis < len(items) else None
    if region is None or not isinstance(number, Tensor) or not number._weak:
        return None
    inner: list[Region] = []
    while region is not None and (numbers := _numbers(region, number._value)) is None:
        inner.append(region)
        region = region.outer
    if region is None:
        if any(other.numbers for other in inner) and node_of(x) is not None:
            raise CannotCapture("the gradient of what is read at a computed place")
        return None
    assert numbers is not None
    assert thread.trace is not None
    value = thread.trace.around(x)
    if any(value in other.own for other in (*inner, region)):
        return None
    extent = x.shape[axis]
    if type(extent) is not int or min(numbers) < 0 or max(numbers) >= extent:
        return None
    node = node_of(x) if thread.grad_enabled else None
    slice_type = TensorType(x.dtype, (*x.shape[:axis], *x.shape[axis + 1 :]))
    return region.slice(value, node, axis, numbers, slice_type), (*items[:axis], *items[axis + 1 :])


def refuse_writing(key: Any) -> None:
    """Elements that are written at the number of a step: what a loop carries would be copied in each."""
    region: Region | None = getattr(thread.trace, "region", None)
    items = key if type(key) is tuple else (key,)
    while region is not None:
        if region.numbers and any(isinstance(item, Tensor) and item._weak for item in items):
            raise CannotCapture("it writes elements at the number of a step")
        region = region.outer


def _numbers(region: Region, value: Value) -> range | None:
    """What a number is in the steps of the region's loop, if it is known; in the order of the slices."""
    known = region.numbers.get(value)
    if known is not None or value.op is None or value not in region.own or len(value.op.operands) != 2:
        return known
    (first, second), primitive = value.op.operands, value.op.primitive
    if primitive in (add, multiply) and isinstance(first, Constant):
        first, second = second, first
    if not isinstance(second, Constant) or second.array.size != 1:
        return None
    numbers, number = _numbers(region, first), int(second.array.item())
    if numbers is None:
        return None
    if primitive is multiply and number > 0:
        return range(numbers.start * number, numbers.stop * number, numbers.step * number)
    if primitive in (add, subtract):
        shift = number if primitive is add else -number
        return range(numbers.start + shift, numbers.stop + shift, numbers.step)
    return None
