"""Scalar instructions as LLVM IR: the CPU's half of the one table (``backends/cuda/instructions.py`` is the other).

Each function gets the emitter, the operands' LLVM names, the operands' dtype and the number of lanes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir.primitives.exact import real_dtype
from tracejit.ir.types import DType, bool_, float32, float64, is_floating

if TYPE_CHECKING:
    from .emitter import Emitter

_FLOAT_NAMES = {float32: "float", float64: "double"}
_OVERLOADS = {float32: "f32", float64: "f64"}


def element_type(dtype: DType) -> str:
    """The LLVM type of one element in a register: ``i1`` for bool."""
    if dtype == bool_:
        return "i1"
    if dtype.kind == "c":
        return f"<2 x {element_type(real_dtype(dtype))}>"
    return _FLOAT_NAMES.get(dtype) or f"i{8 * dtype.itemsize}"


def memory_type(dtype: DType) -> str:
    """The LLVM type of one element in memory: a bool is a byte."""
    return "i8" if dtype == bool_ else element_type(dtype)


def register_type(dtype: DType, lanes: int) -> str:
    return element_type(dtype) if lanes == 1 else f"<{lanes} x {element_type(dtype)}>"


def overload(dtype: DType, lanes: int) -> str:
    """The suffix of an intrinsic's name: ``v16f32``."""
    element = _OVERLOADS.get(dtype) or element_type(dtype)
    return element if lanes == 1 else f"v{lanes}{element}"


def literal(value: Any, dtype: DType) -> str:
    """A number as LLVM writes it: floats by their bits."""
    if is_floating(dtype):
        (bits,) = struct.unpack("<Q", struct.pack("<d", float(np.asarray(value, dtype))))
        return f"0x{bits:016X}"
    if dtype == bool_:
        return "true" if value else "false"
    return str(int(value))


Emit = Callable[..., str]


def _infix(float_name: str | None, signed_name: str | None, unsigned_name: str | None = None) -> Emit:
    def emit(e: Emitter, x: str, y: str, *, dtype: DType, lanes: int) -> str:
        name = float_name if is_floating(dtype) else signed_name
        if dtype.kind in "ub" and unsigned_name is not None:
            name = unsigned_name
        return e.assign(f"{name} {register_type(dtype, lanes)} {x}, {y}")

    return emit


def _intrinsic(float_name: str | None, signed_name: str | None = None, unsigned_name: str | None = None) -> Emit:
    def emit(e: Emitter, *operands: str, dtype: DType, lanes: int) -> str:
        name = float_name if is_floating(dtype) else unsigned_name if dtype.kind in "ub" else signed_name
        assert name is not None
        return e.intrinsic(name, operands, dtype, lanes)

    return emit


def _extremum(float_name: str, signed_name: str, unsigned_name: str, logical_name: str) -> Emit:
    """Of bools the logical function: LLVM 22, where it does not optimise, aborts on the intrinsics of ``<n x i1>``."""
    numbers, bools = _intrinsic(float_name, signed_name, unsigned_name), _infix(None, logical_name)

    def emit(e: Emitter, x: str, y: str, *, dtype: DType, lanes: int) -> str:
        return (bools if dtype == bool_ else numbers)(e, x, y, dtype=dtype, lanes=lanes)

    return emit


def _negate(e: Emitter, x: str, *, dtype: DType, lanes: int) -> str:
    type = register_type(dtype, lanes)
    return e.assign(
        f"fneg {type} {x}"
        if is_floating(dtype)
        else f"sub {type} zeroinitializer, {x}"
        if lanes > 1
        else f"sub {type} 0, {x}"
    )


def _abs(e: Emitter, x: str, *, dtype: DType, lanes: int) -> str:
    if is_floating(dtype):
        return e.intrinsic("fabs", (x,), dtype, lanes)
    if dtype.kind == "u":
        return x
    type = register_type(dtype, lanes)
    name = f"llvm.abs.{overload(dtype, lanes)}"
    e.declare(f"declare {type} @{name}({type}, i1)")
    return e.assign(f"call {type} @{name}({type} {x}, i1 false)")


def _not(e: Emitter, x: str, *, dtype: DType, lanes: int) -> str:
    ones = e.constant(True if dtype == bool_ else -1, dtype, lanes)
    return e.assign(f"xor {register_type(dtype, lanes)} {x}, {ones}")


def _multiply_high(e: Emitter, x: str, y: str, *, dtype: DType, lanes: int) -> str:
    narrow = register_type(dtype, lanes)
    wide = "i64" if lanes == 1 else f"<{lanes} x i64>"
    x, y = (e.assign(f"zext {narrow} {operand} to {wide}") for operand in (x, y))
    product = e.assign(f"mul {wide} {x}, {y}")
    shift = "32" if lanes == 1 else "splat (i64 32)"
    high = e.assign(f"lshr {wide} {product}, {shift}")
    return e.assign(f"trunc {wide} {high} to {narrow}")


def _compare(float_name: str, signed_name: str, unsigned_name: str) -> Emit:
    def emit(e: Emitter, x: str, y: str, *, dtype: DType, lanes: int) -> str:
        type = register_type(dtype, lanes)
        if is_floating(dtype):
            return e.assign(f"fcmp {float_name} {type} {x}, {y}")
        return e.assign(f"icmp {unsigned_name if dtype.kind in 'ub' else signed_name} {type} {x}, {y}")

    return emit


INSTRUCTIONS: dict[str, Emit] = {
    "add": _infix("fadd", "add"),
    "subtract": _infix("fsub", "sub"),
    "multiply": _infix("fmul", "mul"),
    "divide": _infix("fdiv", None),
    "quotient": _infix(None, "sdiv", "udiv"),
    "remainder": _infix(None, "srem", "urem"),
    "and_": _infix(None, "and"),
    "or_": _infix(None, "or"),
    "xor": _infix(None, "xor"),
    "shift_left": _infix(None, "shl"),
    "shift_right": _infix(None, "ashr", "lshr"),
    "multiply_high": _multiply_high,
    "negate": _negate,
    "abs": _abs,
    "not_": _not,
    "sqrt": _intrinsic("sqrt"),
    "fma": _intrinsic("fma"),
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "trunc": _intrinsic("trunc"),
    "rint": _intrinsic("rint"),
    "maximum": _extremum("maximum", "smax", "umax", "or"),
    "minimum": _extremum("minimum", "smin", "umin", "and"),
    "eq": _compare("oeq", "eq", "eq"),
    "ne": _compare("une", "ne", "ne"),
    "lt": _compare("olt", "slt", "ult"),
    "le": _compare("ole", "sle", "ule"),
    "gt": _compare("ogt", "sgt", "ugt"),
    "ge": _compare("oge", "sge", "uge"),
}


def select(e: Emitter, predicate: str, x: str, y: str, *, dtype: DType, lanes: int) -> str:
    mask = "i1" if lanes == 1 else f"<{lanes} x i1>"
    type = register_type(dtype, lanes)
    return e.assign(f"select {mask} {predicate}, {type} {x}, {type} {y}")


def bitcast(e: Emitter, x: str, source: DType, target: DType, lanes: int) -> str:
    if element_type(source) == element_type(target):
        return x
    return e.assign(f"bitcast {register_type(source, lanes)} {x} to {register_type(target, lanes)}")


def convert(e: Emitter, x: str, source: DType, target: DType, lanes: int) -> str:
    """Value conversion; a float outside an integer's range saturates, NaN becomes 0."""
    before, after = register_type(source, lanes), register_type(target, lanes)
    if is_floating(source):
        if is_floating(target):
            return e.assign(f"{'fpext' if target.itemsize > source.itemsize else 'fptrunc'} {before} {x} to {after}")
        kind = "fptoui" if target.kind == "u" else "fptosi"
        name = f"llvm.{kind}.sat.{overload(target, lanes)}.{overload(source, lanes)}"
        e.declare(f"declare {after} @{name}({before})")
        return e.assign(f"call {after} @{name}({before} {x})")
    if is_floating(target):
        return e.assign(f"{'uitofp' if source.kind in 'ub' else 'sitofp'} {before} {x} to {after}")
    if before == after:
        return x
    narrower = target.itemsize < source.itemsize and source != bool_
    verb = "trunc" if narrower else "zext" if source.kind in "ub" else "sext"
    return e.assign(f"{verb} {before} {x} to {after}")
