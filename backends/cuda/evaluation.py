"""Ops on a device's arrays, one at a time: the eager path.

Views are views; everything else is a program of one op, whose kernels serve all shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracejit.ir import Builder, Graph, Primitive, TensorType
from tracejit.ir.primitive import View

from ..devices import Device, row_major
from ..fusion import Affine
from ..program import plan
from .executable import Executable

LIMIT = 4096
_one_op: dict[Any, Executable] = {}


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
        if len(_one_op) >= LIMIT:
            _one_op.clear()  # the machine code stays: only plans are made again
        executable = _one_op[key] = Executable(plan(graph, specialize=False, host=False), device)
    return executable(arrays)[0]


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
