"""Writing a kernel's code: registers, constants and intrinsics of vectors, and what is in scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.ir.types import DType, bool_

from .. import kernel as k
from . import instructions
from .writer import Writer

VECTOR_LANES = 16  # elements in a step of a map's loop


class Emitter(Writer):
    """One function: the writer's lines, with stack slots, declarations and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.entry: list[str] = []  # stack slots, which belong into the first block
        self.declarations: dict[str, None] = {}

    def assign(self, text: str) -> str:
        return self.let("t", text)

    def declare(self, text: str) -> None:
        self.declarations[text] = None

    def stack(self, type: str, count: int) -> str:
        (label,) = self.labels("stack")
        self.entry.append(f"  %{label} = alloca [{count} x {type}], align 64")
        return f"%{label}"

    def constant(self, value: Any, dtype: DType, lanes: int) -> str:
        text = instructions.literal(value, dtype)
        return text if lanes == 1 else f"splat ({instructions.element_type(dtype)} {text})"

    def splat(self, name: str, dtype: DType, lanes: int) -> str:
        vector = instructions.register_type(dtype, lanes)
        single = self.assign(f"insertelement {vector} poison, {instructions.element_type(dtype)} {name}, i64 0")
        return self.assign(f"shufflevector {vector} {single}, {vector} poison, <{lanes} x i32> zeroinitializer")

    def intrinsic(self, stem: str, operands: Sequence[str], dtype: DType, lanes: int) -> str:
        type = instructions.register_type(dtype, lanes)
        name = f"llvm.{stem}.{instructions.overload(dtype, lanes)}"
        self.declare(f"declare {type} @{name}({', '.join([type] * len(operands))})")
        return self.assign(f"call {type} @{name}({', '.join(f'{type} {operand}' for operand in operands)})")

    def add(self, x: str, y: str | int, name: str = "sum") -> str:
        return str(y) if x == "0" else x if str(y) == "0" else super().add(x, y, name)

    def mul(self, x: str, y: str | int, name: str = "product") -> str:
        return x if str(y) == "1" else str(y) if x == "1" else super().mul(x, y, name)

    def max(self, x: str, y: str | int, name: str = "max") -> str:
        self.declare("declare i64 @llvm.smax.i64(i64, i64)")
        return super().max(x, y, name)

    def min(self, x: str, y: str | int, name: str = "min") -> str:
        self.declare("declare i64 @llvm.smin.i64(i64, i64)")
        return super().min(x, y, name)


class Context:
    """What is in scope: registers, open axes, and the vector that the code is in."""

    def __init__(self) -> None:
        self.axes: dict[str, str] = {}  # axis → its position, an i64
        self.lanes = 1
        self.vector_axis: str | None = None
        self.mask: str | None = None  # lanes that exist, in the last step of a vector loop
        self.registers: dict[int, tuple[str, int]] = {}  # id of a scalar → register, lanes
        self.pointers: dict[int, tuple[str, frozenset[str]]] = {}  # id of an access → pointer, axes it includes
        self.bypass = False  # stores are aligned, and go past the caches
        self.tiles: dict[int, str] = {}  # id of a load → the vector that is next in its transposed tile
        self.loaded: dict[int, str] = {}  # id of a load → the vector, where that is in a register

    def inner(self) -> Context:
        twin = Context()
        twin.__dict__.update(
            axes=dict(self.axes), lanes=self.lanes, vector_axis=self.vector_axis, mask=self.mask,
            registers=dict(self.registers), pointers=dict(self.pointers), tiles=self.tiles,
            bypass=self.bypass,
            loaded=self.loaded,
        )  # fmt: skip
        return twin


def extent_text(extent: k.Extent) -> str:
    return str(extent) if isinstance(extent, int) else f"%{extent}"


def memory_vector(dtype: DType, lanes: int) -> str:
    type = instructions.memory_type(dtype)
    return type if lanes == 1 else f"<{lanes} x {type}>"


def memory_overload(dtype: DType, lanes: int) -> str:
    return f"v{lanes}i8" if dtype == bool_ else instructions.overload(dtype, lanes)


def power_of_two(extent: int) -> int:
    return 1 << max(0, extent - 1).bit_length()


def leading_lanes(count: int, lanes: int) -> str:
    """A constant mask: the first ``count`` lanes."""
    return f"<{', '.join(f'i1 {str(lane < count).lower()}' for lane in range(lanes))}>"
