"""Complex numbers in memory: pairs that are loaded as two registers, the real parts' and the imaginary parts'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracejit.ir.types import DType

from .. import kernel as k
from . import instructions

if TYPE_CHECKING:
    from .codegen import KernelEmitter
    from .emitter import Context, Emitter


def load(kernel: KernelEmitter, statement: k.Load, c: Context) -> None:
    e, part = kernel.e, statement.result.dtype
    assert statement.imaginary is not None
    lanes = c.lanes if kernel.is_vector(statement, c) else 1
    pointer, offsets = kernel.pointer(statement, c)
    type, size = instructions.register_type(part, lanes), part.itemsize
    if offsets is not None:
        name = f"llvm.masked.gather.{instructions.overload(part, lanes)}.v{lanes}p0"
        e.declare(f"declare {type} @{name}(<{lanes} x ptr>, i32, <{lanes} x i1>, {type})")
        registers = [
            e.assign(
                f"call {type} @{name}(<{lanes} x ptr> {addresses}, i32 {size}, "
                f"<{lanes} x i1> {c.mask or 'splat (i1 true)'}, {type} zeroinitializer)"
            )
            for addresses in _addresses(e, pointer, offsets, part, lanes)
        ]
    else:
        both = instructions.register_type(part, 2 * lanes)
        if lanes > 1 and c.mask is not None:
            name = f"llvm.masked.load.{instructions.overload(part, 2 * lanes)}.p0"
            e.declare(f"declare {both} @{name}(ptr, i32, <{2 * lanes} x i1>, {both})")
            mask = f"<{2 * lanes} x i1> {_twice(e, c.mask, lanes)}"
            pairs = e.assign(f"call {both} @{name}(ptr {pointer}, i32 {size}, {mask}, {both} zeroinitializer)")
        else:
            pairs = e.assign(f"load {both}, ptr {pointer}, align {size}")
        registers = [_every_second(e, pairs, both, first, lanes) for first in (0, 1)]
    for scalar, register in zip((statement.result, statement.imaginary), registers, strict=True):
        kernel.define(scalar, register, lanes, c)


def store(kernel: KernelEmitter, statement: k.Store, c: Context) -> None:
    e = kernel.e
    assert statement.imaginary is not None
    part = statement.value.dtype
    lanes = c.lanes if kernel.is_vector(statement, c) else 1
    values = [kernel.read(value, lanes, c) for value in (statement.value, statement.imaginary)]
    pointer, offsets = kernel.pointer(statement, c)
    type, size = instructions.register_type(part, lanes), part.itemsize
    if offsets is not None:
        name = f"llvm.masked.scatter.{instructions.overload(part, lanes)}.v{lanes}p0"
        e.declare(f"declare void @{name}({type}, <{lanes} x ptr>, i32, <{lanes} x i1>)")
        mask = f"<{lanes} x i1> {c.mask or 'splat (i1 true)'}"
        for value, addresses in zip(values, _addresses(e, pointer, offsets, part, lanes), strict=True):
            e.do(f"call void @{name}({type} {value}, <{lanes} x ptr> {addresses}, i32 {size}, {mask})")
        return
    both = instructions.register_type(part, 2 * lanes)
    if lanes == 1:
        pairs = "poison"
        for place, value in enumerate(values):
            pairs = e.assign(f"insertelement {both} {pairs}, {type} {value}, i64 {place}")
    else:
        order = ", ".join(f"i32 {lane // 2 + lane % 2 * lanes}" for lane in range(2 * lanes))
        pairs = e.assign(f"shufflevector {type} {values[0]}, {type} {values[1]}, <{2 * lanes} x i32> <{order}>")
    if lanes > 1 and c.mask is not None:
        name = f"llvm.masked.store.{instructions.overload(part, 2 * lanes)}.p0"
        e.declare(f"declare void @{name}({both}, ptr, i32, <{2 * lanes} x i1>)")
        mask = f"<{2 * lanes} x i1> {_twice(e, c.mask, lanes)}"
        e.do(f"call void @{name}({both} {pairs}, ptr {pointer}, i32 {size}, {mask})")
    else:
        e.do(f"store {both} {pairs}, ptr {pointer}, align {size}")


def _addresses(e: Emitter, pointer: str, offsets: str, part: DType, lanes: int) -> list[str]:
    """Where the parts lie, of pairs that are no neighbours."""
    element = instructions.element_type(part)
    first = e.assign(f"getelementptr <2 x {element}>, ptr {pointer}, <{lanes} x i64> {offsets}")
    return [first, e.assign(f"getelementptr {element}, <{lanes} x ptr> {first}, i64 1")]


def _every_second(e: Emitter, pairs: str, both: str, first: int, lanes: int) -> str:
    if lanes == 1:
        return e.assign(f"extractelement {both} {pairs}, i64 {first}")
    order = ", ".join(f"i32 {2 * lane + first}" for lane in range(lanes))
    return e.assign(f"shufflevector {both} {pairs}, {both} poison, <{lanes} x i32> <{order}>")


def _twice(e: Emitter, mask: str, lanes: int) -> str:
    """A mask of pairs as one of their parts."""
    order = ", ".join(f"i32 {lane // 2}" for lane in range(2 * lanes))
    return e.assign(f"shufflevector <{lanes} x i1> {mask}, <{lanes} x i1> poison, <{2 * lanes} x i32> <{order}>")
