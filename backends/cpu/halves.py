"""Every second element of memory: as wide loads and stores of which the others are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracejit.ir.types import DType

from .emitter import memory_overload, memory_vector

if TYPE_CHECKING:
    from .emitter import Emitter


def load(e: Emitter, dtype: DType, pointer: str, lanes: int, mask: str | None) -> str:
    """A vector of the elements at 0, 2, 4, …, in lanes that the mask, if there is one, has."""
    wide = memory_vector(dtype, 2 * lanes)
    name = f"llvm.masked.load.{memory_overload(dtype, 2 * lanes)}.p0"
    e.declare(f"declare {wide} @{name}(ptr, i32, <{2 * lanes} x i1>, {wide})")
    both = e.assign(
        f"call {wide} @{name}(ptr {pointer}, i32 {dtype.itemsize}, {_spread(e, mask, lanes)}, {wide} zeroinitializer)"
    )
    order = ", ".join(f"i32 {2 * lane}" for lane in range(lanes))
    return e.assign(f"shufflevector {wide} {both}, {wide} poison, <{lanes} x i32> <{order}>")


def store(e: Emitter, dtype: DType, value: str, pointer: str, lanes: int, mask: str | None) -> None:
    """The same, written."""
    type, wide = memory_vector(dtype, lanes), memory_vector(dtype, 2 * lanes)
    name = f"llvm.masked.store.{memory_overload(dtype, 2 * lanes)}.p0"
    e.declare(f"declare void @{name}({wide}, ptr, i32, <{2 * lanes} x i1>)")
    order = ", ".join("i32 poison" if lane % 2 else f"i32 {lane // 2}" for lane in range(2 * lanes))
    both = e.assign(f"shufflevector {type} {value}, {type} poison, <{2 * lanes} x i32> <{order}>")
    e.do(f"call void @{name}({wide} {both}, ptr {pointer}, i32 {dtype.itemsize}, {_spread(e, mask, lanes)})")


def _spread(e: Emitter, mask: str | None, lanes: int) -> str:
    """A mask of every second lane."""
    type = f"<{2 * lanes} x i1>"
    if mask is None:
        return f"{type} <{', '.join(f'i1 {lane % 2 == 0}'.lower() for lane in range(2 * lanes))}>"
    order = ", ".join(f"i32 {lane // 2 + lane % 2 * lanes}" for lane in range(2 * lanes))
    none = f"<{lanes} x i1> zeroinitializer"
    return f"{type} " + e.assign(f"shufflevector <{lanes} x i1> {mask}, {none}, <{2 * lanes} x i32> <{order}>")
