"""Devices: ``"cpu"``, and ``"cuda"`` where there is one.

A tensor's values lie on one device, and operations on it are done there.  Tensors on different devices do not mix, but
for those of the CPU with no axes, and for constants that the library makes: they go where the others are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends import devices
from tracejit.backends.devices import Device, Unplaced, in_use, is_array, moved
from tracejit.ir import Block, Primitive, Value

from .locations import at_user_line
from .state import changes, thread

if TYPE_CHECKING:
    from .tensor import Tensor

_LIBRARY = __name__.partition(".")[0] + "."


def check(device: str) -> None:
    """Raise unless tensors can live on ``device``: ``ValueError`` for an unknown one, ``RuntimeError`` for one
    that is missing here, saying what is missing."""
    find(device)


def find(device: str) -> Device | None:
    """The device of that name, ``None`` for the CPU; errors as :func:`check` raises them."""
    try:
        return devices.find(device)
    except (ValueError, RuntimeError) as error:
        raise at_user_line(error) from None


def is_name(item: Any) -> bool:
    """Whether it names a device, also one that is missing here."""
    return isinstance(item, str) and item.partition(":")[0] in ("cpu", *devices.kinds())


def place_of(payload: Any) -> str:
    """Where the innermost thing that a tensor holds is; ``"cpu"`` where that is not known."""
    if thread.trace is not None and isinstance(payload, Value):
        return thread.trace.place_of(payload) or "cpu"
    return name_of(payload)


def name_of(array: Any) -> str:
    """The name of the device that an array is on."""
    device = devices.device_of(array)
    return "cpu" if device is None else device.name


def why_no_cuda() -> str:
    """What stands between this process and a GPU, and what to do about it; empty where nothing does."""
    from importlib.util import find_spec

    if find_spec("cupy") is None:
        return "CuPy is not installed; pip install 'tracejit[cuda]'"
    from tracejit.backends.cuda import driver

    return driver.why_unavailable()


def _find_cuda(number: int) -> Device:
    missing = why_no_cuda()
    if missing:
        raise RuntimeError(f"device 'cuda' is not available: {missing}")
    from tracejit.backends.cuda.driver import CupyDevice

    return CupyDevice.numbered(number)


devices.register("cuda", _find_cuda)


# What is computed where -----------------------------------------------------------------------------------


def common(arrays: Sequence[Any]) -> Device | None:
    """The device that an operation is done on; ``RuntimeError`` for tensors on different ones."""
    try:
        return devices.common(arrays)
    except RuntimeError as error:
        raise at_user_line(error) from None


def join(places: Sequence[tuple[str, int]]) -> str:
    """Where an operation is done on values of that many axes: :func:`common`, by the names of their devices."""
    names = {name for name, ndim in places if name != "cpu" or ndim}
    if len(names) > 1:
        raise at_user_line(RuntimeError(devices.mixed(*sorted(names, key=lambda name: name == "cpu")[:2])))
    return next(iter(names), places[0][0])


def any_device(arrays: Sequence[Any]) -> Device | None:
    """The first device that one of the arrays is on."""
    for array in arrays:
        device = devices.device_of(array)
        if device is not None:
            return device
    return None


def evaluate(primitive: Primitive, arrays: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """One primitive on arrays, wherever the first that is on a device lies."""
    device = any_device(arrays) if in_use[0] else None
    if device is None or "regions" in attributes:
        from tracejit.backends.cpu import runtime

        return runtime.evaluate(primitive, [devices.on_host(array) for array in arrays], attributes)
    return evaluate_on(device, primitive, arrays, attributes)


def evaluate_on(device: Device, primitive: Primitive, arrays: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """One primitive on arrays, on a device."""
    from tracejit.backends.cuda import evaluation

    if primitive.name == "device_put":
        return devices.moved(arrays[0], find(attributes["target"]))
    return evaluation.evaluate(primitive, arrays, attributes, device)


def evaluate_control(
    primitive: Primitive, arrays: Sequence[Any], attributes: Mapping[str, Any], regions: Sequence[Block]
) -> Sequence[Any]:
    """The results of a primitive with regions."""
    from tracejit.backends import regions as compiled  # here, so that importing tracejit does not load the compiler

    return compiled.evaluate(primitive, arrays, attributes, regions, any_device(arrays) if in_use[0] else None)


def constant(array: np.ndarray) -> np.ndarray:
    """An array of the library's own, which goes where it is needed."""
    return np.asarray(array).view(Unplaced) if in_use[0] else array


def settled(payload: Any) -> Any:
    """What a tensor holds that is to stay where it is: an array without a place is the CPU's from now on."""
    return np.asarray(payload) if type(payload) is Unplaced else payload


def at_home_of(cell: Tensor, result: Tensor) -> Tensor:
    """A result as a tensor is given it as its new value: on the device where the tensor is."""
    value = result._value
    if type(value) is Unplaced and type(cell._value) is np.ndarray:
        return new_like(result, np.asarray(value))
    if cell.device == result.device:
        return result
    from .ops.creation import put

    return put(result, cell.device)


def beside(tensor: Tensor, gradient: Any) -> Any:
    """A gradient (a tensor, or what one holds) that is a constant is where its tensor is."""
    value = gradient if is_array(gradient) else getattr(gradient, "_value", None)
    if type(value) is not Unplaced:
        return gradient
    there = moved(np.asarray(value), devices.device_of(tensor._value))
    return there if value is gradient else new_like(gradient, there)


def follow(tensor: Tensor, other: Tensor) -> None:
    """Have a tensor from outside of any trace be where another one is."""
    place = devices.device_of(other._value)
    if devices.device_of(tensor._value) is not place:
        tensor._value = devices.moved(tensor._value, place)
        changes.types += 1


def new_like(tensor: Tensor, value: Any) -> Tensor:
    """A tensor with another value and the same history."""
    from .tape import node_of, with_history

    return with_history(value, node_of(tensor))


def is_called_by_the_library(depth: int) -> bool:
    """Whether the function so many frames up is one of this library's."""
    name: str = sys._getframe(depth + 1).f_globals.get("__name__", "")
    return name.startswith(_LIBRARY)
