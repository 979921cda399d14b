"""Elements of memory that are a short stride apart: wide loads and stores of whose lanes some are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracejit.ir.types import DType

from . import instructions
from .emitter import memory_overload, memory_vector

if TYPE_CHECKING:
    from .emitter import Emitter

STRIDES = (2, -1)  # every second element, or one after the other backwards


def load(e: Emitter, dtype: DType, pointer: str, lanes: int, mask: str | None, stride: int) -> str:
    """A vector of elements, in the lanes that the mask, if there is one, has; the first is at the pointer."""
    width = lanes * abs(stride)
    wide = memory_vector(dtype, width)
    name = f"llvm.masked.load.{memory_overload(dtype, width)}.p0"
    e.declare(f"declare {wide} @{name}(ptr, i32, <{width} x i1>, {wide})")
    first, present = _first(e, dtype, pointer, lanes, stride), _spread(e, mask, lanes, stride)
    loaded = e.assign(f"call {wide} @{name}(ptr {first}, i32 {dtype.itemsize}, {present}, {wide} zeroinitializer)")
    order = _order([_place(lane, lanes, stride) for lane in range(lanes)])
    return e.assign(f"shufflevector {wide} {loaded}, {wide} poison, <{lanes} x i32> <{order}>")


def store(e: Emitter, dtype: DType, value: str, pointer: str, lanes: int, mask: str | None, stride: int) -> None:
    """The same, written."""
    width = lanes * abs(stride)
    type, wide = memory_vector(dtype, lanes), memory_vector(dtype, width)
    name = f"llvm.masked.store.{memory_overload(dtype, width)}.p0"
    e.declare(f"declare void @{name}({wide}, ptr, i32, <{width} x i1>)")
    first, present = _first(e, dtype, pointer, lanes, stride), _spread(e, mask, lanes, stride)
    spread = e.assign(f"shufflevector {type} {value}, {type} poison, <{width} x i32> <{_sources(lanes, stride)}>")
    e.do(f"call void @{name}({wide} {spread}, ptr {first}, i32 {dtype.itemsize}, {present})")


def _place(lane: int, lanes: int, stride: int) -> int:
    """Where among the wide lanes a lane is."""
    return lane * stride if stride > 0 else (lanes - 1 - lane) * -stride


def _sources(lanes: int, stride: int) -> str:
    """For each wide lane the lane that is there, or the first of another vector."""
    there = {_place(lane, lanes, stride): lane for lane in range(lanes)}
    return _order([there.get(place, lanes) for place in range(lanes * abs(stride))])


def _order(lanes: list[int]) -> str:
    return ", ".join(f"i32 {lane}" for lane in lanes)


def _first(e: Emitter, dtype: DType, pointer: str, lanes: int, stride: int) -> str:
    """Where the wide vector begins."""
    if stride > 0:
        return pointer
    return e.assign(f"getelementptr {instructions.memory_type(dtype)}, ptr {pointer}, i64 {(lanes - 1) * stride}")


def _spread(e: Emitter, mask: str | None, lanes: int, stride: int) -> str:
    """A mask of the wide lanes."""
    width = lanes * abs(stride)
    mask, none = mask or "splat (i1 true)", f"<{lanes} x i1> zeroinitializer"
    order = _sources(lanes, stride)
    return f"<{width} x i1> " + e.assign(f"shufflevector <{lanes} x i1> {mask}, {none}, <{width} x i32> <{order}>")
