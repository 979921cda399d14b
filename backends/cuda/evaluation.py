"""Ops on a device's arrays, one at a time: the eager path.

Views are views; everything else is a program of one op, whose kernels serve all shapes, or what the device has a
function for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracejit.ir import Builder, Graph, Op, Primitive, TensorType
from tracejit.ir.primitive import View

from ..cpu import runtime
from ..devices import Device, moved, on_host, row_major
from ..fusion import Affine
from ..planning import plan
from ..program import HostCall
from .executable import Executable

LIMIT = 4096
_one_op: dict[Any, Callable[[Sequence[Any]], list[Any]]] = {}


def evaluate(primitive: Primitive, arrays: Sequence[Any], attributes: Mapping[str, Any], device: Device) -> Any:
    """One primitive on arrays, on a device; the host's arrays are copied there."""
    if isinstance(primitive, View) and len(arrays) == 1:
        return _view(primitive, arrays[0], attributes, device)
    key = (device, primitive, *attributes.items(), *[a.dtype for a in arrays], *[tuple(a.shape) for a in arrays])
    executable = _one_op.get(key)
    if executable is None:
        graph = Graph(primitive.name)
        builder = Builder(graph)
        operands = [builder.parameter(TensorType(a.dtype, tuple(a.shape))) for a in arrays]
        graph.results = [builder.apply(primitive, operands, attributes)]
        program = plan(graph, specialize=False, host=False)
        if len(_one_op) >= LIMIT:
            _one_op.clear()  # the machine code stays: only plans are made again
        by_kernels = not any(isinstance(call, HostCall) for call in program.calls)
        executable = _one_op[key] = Executable(program, device) if by_kernels else _elsewhere(graph.ops[-1], device)
    return executable(arrays)[0]


def _elsewhere(op: Op, device: Device) -> Callable[[Sequence[Any]], list[Any]]:
    """An op without a kernel: by a function of the device's, or by NumPy."""
    function = device.function(op.primitive.name)

    def run(arrays: Sequence[Any]) -> list[Any]:
        if function is not None:
            return [function(*[moved(array, device) for array in arrays], **op.attributes)]
        found = runtime.evaluate(op.primitive, [on_host(array) for array in arrays], op.attributes)
        return [device.upload(found)]

    return run


def _view(view: View, array: Any, attributes: Mapping[str, Any], device: Device) -> Any:
    """The same memory under another shape: strides follow from the index map."""
    operand = TensorType(array.dtype, tuple(array.shape))
    shape = view.infer([operand], attributes).static_shape
    index = tuple(0 if extent == 1 else Affine(((axis, 1),)) for axis, extent in enumerate(shape))
    mapped = view.index_map(index, operand, **attributes)
    if mapped is None:  # the same order of the elements
        return device.view(device.contiguous(array), 0, shape, row_major(shape, array.dtype.itemsize))
    strides, offset = [0] * len(shape), 0
    for entry, step in zip(mapped, device.strides(array), strict=True):
        if isinstance(entry, int):
            offset += entry * step
            continue
        offset += entry.constant * step
        for axis, coefficient in entry.terms:
            strides[axis] += coefficient * step
    return device.view(array, 0 if 0 in shape else offset, shape, tuple(strides))
