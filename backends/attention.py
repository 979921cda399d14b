"""Attention on a device: one kernel for the operation and its log-sum-exp, one for the gradient of queries, one for
those of keys and values.

They multiply on tensor cores, so they are for half floats and heads of a multiple of 16.  What else there is, and all
of it on the CPU, goes by the decomposition (:mod:`tracejit.ir.composites`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracejit.ir import Op, Primitive, TensorType, Value
from tracejit.ir.primitives.attention import (
    attention,
    attention_key_gradient,
    attention_log_sum,
    attention_query_gradient,
    attention_value_gradient,
)
from tracejit.ir.types import bfloat16, bool_, float16, float32

from . import kernel as k
from .addresses import strides_of
from .fusion import home_index
from .products import place_of

if TYPE_CHECKING:
    from .planning import _Plan

MOST_SIZE = 128  # of a head: what it takes for one warp's rows are registers
STEP = 16  # elements that tensor cores take at a time
ALIGNED = 8  # elements that are read at once

PARTS: dict[Primitive, str] = {
    attention: "forward",
    attention_log_sum: "forward",
    attention_query_gradient: "queries",
    attention_key_gradient: "keys",
    attention_value_gradient: "keys",
}
RESULTS: dict[Primitive, str] = {
    attention: "output",
    attention_log_sum: "log_sum",
    attention_query_gradient: "query_gradient",
    attention_key_gradient: "key_gradient",
    attention_value_gradient: "value_gradient",
}
JOINED: dict[Primitive, Primitive] = {  # what the kernel of another gives along with that
    attention: attention_log_sum,
    attention_key_gradient: attention_value_gradient,
}
ROWS = ("query", "key", "value", "cotangent")


def has_kernel(op: Op) -> bool:
    """Whether there is a kernel for an op."""
    return op.primitive in PARTS and takes([operand.type for operand in op.operands])


def takes(types: list[TensorType]) -> bool:
    """Whether kernels are for operands (queries, keys and others) of these types."""
    (query, key, *others) = types
    if query.dtype not in (float16, bfloat16) or not all(type.is_static and type.size for type in types):
        return False
    size = query.static_shape[-1]
    is_rows = [type for type in (query, key, *others) if type.dtype == query.dtype]
    masks = [type for type in others if type.ndim == 4 and type.dtype != query.dtype]
    return (
        size % STEP == 0
        and size <= MOST_SIZE
        and all(type.shape[-1] == size for type in is_rows)
        and all(mask.dtype in (bool_, float32) for mask in masks)
    )


def lower_attention(plan: _Plan, op: Op) -> None:
    """Append the kernel that computes the op, and those that it gives along with it."""
    if op in plan.joined or any(0 in result.shape for result in op.results):
        return
    results = {RESULTS[op.primitive]: op.result}
    names = _names(op.primitive)
    operands = dict(zip(names, op.operands, strict=False))
    other = _joined(plan, op, operands)
    if other is not None:
        plan.joined.add(other)
        results[RESULTS[other.primitive]] = other.result
    if set(results) == {"value_gradient"}:
        del operands["value"], operands["delta"]
    batch, heads, queries, size = operands["query"].type.static_shape
    parameters = {"batch": batch, "heads": heads, "shared": 0, "queries": queries, "keys": 0}
    parameters["shared"], parameters["keys"] = operands["key"].type.static_shape[1:3]
    buffers: list[tuple[k.Buffer, Value]] = []
    for name, value in operands.items():
        where, start, steps = place_of(plan, value)
        in_order = (start, tuple(steps)) == (0, strides_of(value.type.static_shape))
        in_rows = name in ROWS and steps[-1] == 1 and not any(number % ALIGNED for number in (start, *steps[:-1]))
        if not (in_order or in_rows or name == "mask"):
            where, start, steps = _copied(plan, value)
        if name in ROWS or name == "mask":
            axes = ("batch", "head", "row", "column")[: 4 if name == "mask" else 3]
            parameters[f"{name}_start"] = start
            for axis, extent, step in zip(axes, value.type.static_shape, steps, strict=False):
                parameters[f"{name}_{axis}"] = 0 if extent == 1 else step
        buffers.append((k.Buffer(name, value.dtype), where))
    buffers += [(k.Buffer(name, value.dtype, written=True), value) for name, value in results.items()]
    part, mask = PARTS[op.primitive], operands.get("mask")
    content = k.Attention(
        part, op.operands[0].dtype, size, op.attributes.get("causal", False), op.attributes["scale"],
        None if mask is None else mask.dtype,
    )  # fmt: skip
    kernel = k.Kernel([buffer for buffer, _ in buffers], list(parameters), [], f"attention_{part}", content)
    plan.append_kernel(kernel, [value for _, value in buffers], list(parameters.values()), op)


def _names(primitive: Primitive) -> tuple[str, ...]:
    """The operands' names."""
    if primitive is attention_log_sum:
        return ("query", "key", "mask")
    gradient = () if primitive is attention else ("cotangent", "log_sum", "delta")
    return ("query", "key", "value", *gradient, "mask")


def _joined(plan: _Plan, op: Op, operands: dict[str, Value]) -> Op | None:
    """The op whose result the kernel can give along."""
    primitive = JOINED.get(op.primitive)
    for other in plan.graph.ops if primitive is not None else ():
        if other.primitive is primitive and other.attributes == op.attributes:
            names = _names(other.primitive)
            own = dict(zip(names, other.operands, strict=False))
            if own.keys() <= operands.keys() and all(operands[name] is value for name, value in own.items()):
                return other if ("mask" in own) == ("mask" in operands) else None
    return None


def _copied(plan: _Plan, value: Value) -> tuple[Value, int, list[int]]:
    """Where a contiguous copy lies."""
    copy, home = Value(value.type), home_index(value.shape)
    plan.copy(value, home, copy, home, value.type.static_shape)
    return place_of(plan, copy)
