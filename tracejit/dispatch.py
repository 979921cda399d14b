"""Applying a primitive to what tensors hold: computed at once, or recorded by the trace that is active.

This is the level below the tape: :func:`tracejit.autograd.apply` adds that.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.devices import in_use, is_array, moved, on_host
from tracejit.ir import Block, Emitter, Primitive, Value, type_of
from tracejit.ir.primitives.view import device_put, stop_gradient
from tracejit.ir.types import is_differentiable

from . import device
from .impurity import pause, resume
from .levels import Box, level_of, refuse_boxes
from .locations import at_user_line
from .state import busy, thread

if TYPE_CHECKING:
    from .tensor import Tensor

Payload = Any  # an array, a value of the graph being traced, or a box of a transformation that is running


LEAKED = "a tensor that was made inside a jitted function is used outside of it"


def compute(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray:
    """Evaluate a primitive now; what goes wrong names the user's line."""
    if in_use[0] and (primitive is device_put or not all([type(array) is np.ndarray for array in arrays] or [False])):
        return _compute_where_they_are(primitive, arrays, attributes)
    return _compute_here(primitive, arrays, attributes)


def _compute_where_they_are(primitive: Primitive, arrays: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Some of the arrays may lie on a device, or are constants of the library's, as the result then is too."""
    if not all(is_array(array) for array in arrays):
        return _compute_here(primitive, arrays, attributes)  # which says what is wrong
    place = device.common(arrays)
    if primitive is device_put:
        return moved(np.asarray(arrays[0]) if place is None else arrays[0], device.find(attributes["target"]))
    if place is None:
        result = _compute_here(primitive, [np.asarray(array) for array in arrays], attributes)
        return device.constant(result) if all(type(array) is not np.ndarray for array in arrays) else result
    try:
        result = device.evaluate_on(place, primitive, arrays, attributes)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise _explained(error, primitive, arrays, attributes) from None
    if busy[0] and thread.anomaly and is_differentiable(result.dtype):
        _check_nan(primitive, list(map(on_host, arrays)), on_host(result))
    return result


def _explained(
    error: Exception, primitive: Primitive, arrays: Sequence[Any], attributes: Mapping[str, Any]
) -> Exception:
    """What is wrong with the operands, if it can be told; at the user's line."""
    try:
        primitive.infer([type_of(array) for array in arrays], attributes)
    except (TypeError, ValueError) as better:
        return at_user_line(better)
    return at_user_line(error)


def _compute_here(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray:
    try:
        if primitive.exact and not (primitive.is_slow_in_numpy and _is_worth_compiling(arrays)):
            function = primitive.numpy
            kind = arrays[0].dtype.kind if arrays else ""
            if kind == "b" and len(arrays) < 3:  # NumPy adds bools; the primitive says whether it does
                primitive.infer([type_of(array) for array in arrays], attributes)
            elif kind == "c":
                function = primitive.evaluate
            if kind == "c" and _is_worth_compiling(arrays):
                result = _evaluate(primitive, arrays, attributes)
            else:
                result = thread.quiet.run(function, *arrays, **attributes)
            if type(result) is not np.ndarray:
                result = np.asarray(result)
        else:
            result = _evaluate(primitive, arrays, attributes)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        refuse_boxes(arrays)
        if any(isinstance(array, Value) for array in arrays):
            return _compute_here(primitive, [_outside(array) for array in arrays], attributes)
        raise _explained(error, primitive, arrays, attributes) from None
    if busy[0] and thread.anomaly and is_differentiable(result.dtype):
        _check_nan(primitive, arrays, result)
    return result


def _is_worth_compiling(arrays: Sequence[np.ndarray]) -> bool:
    """Whether a compiled kernel gains more than it costs: the compiler is there, and many elements come often."""
    if "tracejit.backends.cpu.compiler" not in sys.modules or max([a.size for a in arrays]) < _MANY_ELEMENTS:
        return False
    if len(_sightings) > _MANY_SHAPES:
        _sightings.clear()
    shapes = tuple([a.shape for a in arrays])
    _sightings[shapes] += 1
    return _sightings[shapes] > _SIGHTINGS_WORTH_A_PLAN


_MANY_ELEMENTS = 2048
_MANY_SHAPES = 1024
_SIGHTINGS_WORTH_A_PLAN = 8
_sightings: Counter[tuple[tuple[int, ...], ...]] = Counter()


def _evaluate(primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> np.ndarray:
    """The compiled one-op kernel; the first call loads the compiler, and takes this function's place."""
    global _evaluate
    from tracejit.backends.cpu import runtime

    _evaluate = runtime.evaluate
    return runtime.evaluate(primitive, arrays, attributes)


def _check_nan(primitive: Primitive, arrays: Sequence[np.ndarray], result: np.ndarray) -> None:
    if np.isnan(result).any() and not any(is_differentiable(a.dtype) and np.isnan(a).any() for a in arrays):
        raise at_user_line(FloatingPointError(nan_message(primitive, arrays, result)))


def nan_message(primitive: Primitive, arrays: Sequence[np.ndarray], result: np.ndarray) -> str:
    """Which element of which op's result is the first NaN, and what it was computed from."""
    position = tuple(int(i) for i in np.argwhere(np.isnan(result))[0])
    operands = ", ".join(
        f"{float(np.broadcast_to(a, result.shape)[position])!r}"
        for a in arrays
        if a.dtype.kind == "f" and np.broadcast_shapes(a.shape, result.shape) == result.shape
    )
    of = f" of {operands}" if operands else ""
    return f"{primitive.name}{of} is NaN (element {list(position)} of {type_of(result)!r})"


def payload(tensor: Tensor) -> Payload:
    """What a tensor holds: its array, or the traced value where a trace is active."""
    value = tensor._value
    if thread.trace is not None:
        return thread.trace.read(tensor)
    return _outside(value)


def _outside(value: Payload) -> Payload:
    """A payload where no trace is active: one that is put off in another thread is computed now."""
    if not isinstance(value, Value):
        return value
    if not hasattr(value, "settled"):
        raise at_user_line(RuntimeError(LEAKED))
    return value.settled()


def detached(value: Payload) -> Payload:
    """What a tensor holds that has the same value and no history."""
    if isinstance(value, Box):
        return value.detached()
    trace = thread.trace
    if trace is not None and trace.region is not None and is_differentiable(value.dtype):
        return trace.record(stop_gradient, [value], {})  # a block is differentiated as it stands, without the tape
    return value


def apply_to_payloads(primitive: Primitive, operands: Sequence[Payload], attributes: Mapping[str, Any]) -> Payload:
    """A primitive on what tensors hold, with no tape."""
    if thread.level is not None:
        level = level_of(operands)
        if level is not None:
            return level.apply(primitive, operands, attributes)
    trace = thread.trace
    if trace is None:
        return compute(primitive, operands, attributes)
    is_paused = pause()
    try:
        return trace.record(primitive, operands, attributes)
    finally:
        if is_paused:
            resume()


def constant_payload(array: np.ndarray) -> Payload:
    """A constant of the library's."""
    return device.constant(array) if thread.trace is None else thread.trace.constant(array)


def control_on_payloads(
    primitive: Primitive, operands: Sequence[Payload], attributes: Mapping[str, Any], regions: Sequence[Block]
) -> Sequence[Payload]:
    """A primitive with regions on what tensors hold, with no tape."""
    if thread.level is not None:
        level = level_of(operands)
        if level is not None:
            return level.apply_control(primitive, operands, attributes, regions)
    trace = thread.trace
    if trace is not None:
        return trace.record_control(primitive, operands, attributes, regions)
    results = device.evaluate_control(primitive, operands, attributes, regions)
    if thread.callbacks is not None:
        from .debug import run_callbacks

        run_callbacks()
    return results


payload_emitter = Emitter(apply_to_payloads, constant_payload, control_on_payloads)


def fields(tensor: Tensor) -> Any:
    """Where a tensor's state is now: the tensor itself, or its shadow in the trace that is active."""
    trace = thread.trace
    if trace is None or isinstance(tensor._value, Value | Box):
        return tensor
    return trace.shadow(tensor)
