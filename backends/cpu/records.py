"""Elementwise operations as native code knows them.

An elementwise operation on two arrays of one shape, or on an array and a number, is one kernel for all shapes of one
dtype.  A *record* is a table of words: what the operation is, then for each form of the operands and each dtype a
kernel: where the address of its machine code stands, in which of its argument slots x, y, the result and the extent
belong, and how often it was asked for.  Kernels that are not there yet are compiled in the background, once calls have
asked often.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

from tracejit.ir import Builder, Graph, Primitive, TensorType
from tracejit.ir.types import DType, bool_, float32, int32

from .. import planning, program
from . import compiler, objects
from .recycling import NUMBERS

MOST_ELEMENTS = 8192  # beyond, the work counts and no longer the call; the GIL is held meanwhile
MOST_ROWS = 256  # of arrays that are stretched: a kernel's call for each
CALLS_WORTH_A_KERNEL = 100

FORMS = UNARY, ARRAYS, ARRAY_NUMBER, NUMBER_ARRAY = 0, 0, 1, 2  # of the operands; a 0-d array is a number

# Byte offsets in a record: the result's dtype, where it is not the operands'; the function that the operator calls in
# Python; what becomes of gradients; for the tape, bits that tell which of the operands and the result are kept; the
# kernels.
RESULT_DTYPE, OPERATOR, GRADIENTS, SAVES, PRIMITIVE, ATTRIBUTES, KERNELS = 0, 8, 16, 24, 32, 40, 64
NONE, RECORDED, LEFT_TO_PYTHON = 0, 1, 2  # gradients
SAVES_OPERANDS, SAVES_RESULT = (1, 2, 4), 8
CELL, ORDER, ASKED, KERNEL_BYTES = 0, 8, 16, 24  # in a kernel's part of it
RECORD_BYTES = KERNELS + len(set(FORMS)) * NUMBERS * KERNEL_BYTES

NO_ATTRIBUTES: Mapping[str, Any] = {}


class Record:
    """An operation as native code knows it; ``operator`` is the Python function behind its operator, if it has one.

    The first of three operands is bools, of the result's shape.
    """

    def __init__(
        self,
        primitive: Primitive,
        operands: int,
        operator: Callable[..., Any] | None = None,
        attributes: Mapping[str, Any] = NO_ATTRIBUTES,
    ) -> None:
        self.primitive, self.operands, self.operator, self._attributes = primitive, operands, operator, attributes
        self._words = array("q", [0] * (RECORD_BYTES // 8))
        self.address = self._words.buffer_info()[0]
        objects.immortal(self)
        results = {dtype: self._result_dtype(dtype) for dtype in (float32, int32, bool_)}
        self.is_possible = any(result is not None for result in results.values())
        if any(results[dtype] is not None and results[dtype] == bool_ for dtype in (float32, int32)):
            self._set(RESULT_DTYPE, objects.immortal(bool_))
        if results[float32] is float32 and primitive.vjp is not None:
            saves = zip((*SAVES_OPERANDS, SAVES_RESULT), "012r", strict=True)
            only = primitive.differentiable_operands
            self._set(GRADIENTS, RECORDED if only is None or operands == 3 else LEFT_TO_PYTHON)  # bools have no node
            self._set(SAVES, sum(bit for bit, name in saves if name in primitive.saves))
            self._set(PRIMITIVE, objects.immortal(primitive))
            self._set(ATTRIBUTES, objects.immortal(attributes))
        if operator is not None:
            self._set(OPERATOR, objects.immortal(operator))

    def _set(self, offset: int, value: int) -> None:
        self._words[offset // 8] = value

    def provide(self, form: int, dtype: DType) -> None:
        """Compile the kernel for operands of a form and dtype, if the operation has one."""
        result = self._result_dtype(dtype)
        if result is None or result != (bool_ if self._words[RESULT_DTYPE // 8] else dtype):
            return
        graph = Graph(self.primitive.name)
        builder = Builder(graph)
        operands = [builder.parameter(type) for type in self._operand_types(dtype, form)]
        graph.results = [builder.apply(self.primitive, operands, self._attributes)]
        (call,) = planning.plan(graph, specialize=False).calls
        assert isinstance(call, program.KernelCall)
        places = [call.buffers.index(value) for value in (*operands, graph.results[0])]
        if len(operands) == 1:
            places.insert(1, 3)  # there is no y: it goes where the kernel does not look
        at = KERNELS + (form * NUMBERS + dtype.num) * KERNEL_BYTES
        self._set(at + ORDER, sum(place << 8 * i for i, place in enumerate([*places, len(call.buffers)])))
        compiler.compile_kernels([call.kernel])
        self._set(at + CELL, compiler.cells([call.kernel.name])[call.kernel.name])

    def _operand_types(self, dtype: DType, form: int) -> list[TensorType]:
        many, one = TensorType(dtype, (MOST_ELEMENTS,)), TensorType(dtype, ())
        if self.operands == 1:
            return [[many], [], []][form]
        choices = [TensorType(bool_, many.shape)] if self.operands == 3 else []
        return [*choices, *[[many, many], [many, one], [one, many]][form]]

    def _result_dtype(self, dtype: DType) -> DType | None:
        try:
            return self.primitive.infer(self._operand_types(dtype, 0), self._attributes).dtype
        except TypeError:
            return None
