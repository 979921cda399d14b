"""NVIDIA's libraries, through ctypes: cuBLASLt for matrix products.

CuPy has no cuBLASLt, and refuses its own cuBLAS while a graph is being captured.  A product here allocates nothing and
can be captured.  cuBLASLt counts matrices by columns: it computes the transpose, ``out.T = rhs.T @ lhs.T``.  What it
cannot read where it lies (rows and columns both apart, most broadcast addends) is copied first, by a kernel.
"""

from __future__ import annotations

import ctypes
import os
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir.types import HALF_DTYPES, DType, bfloat16, float16, float32, float64, short_name

from .. import kernel as k
from ..devices import ALIGNMENT, Launch
from ..products import Matrices
from . import codegen

if TYPE_CHECKING:
    from ..products import DotCall
    from .driver import CupyDevice

Strides = tuple[int, int, int, int]
WORKSPACE_BYTES = 32 << 20  # what cuBLAS asks for on Hopper


@dataclass(frozen=True, slots=True)
class Layout:
    """A stack of matrices as cuBLASLt counts: by columns, ``leading`` elements apart, matrices ``stride`` apart."""

    rows: int
    columns: int
    leading: int
    stride: int


@dataclass(frozen=True, slots=True)
class Multiplication:
    """``d = op(a) @ op(b) + c`` for stacks of ``batch`` matrices; ``c`` is ``None`` for none.

    With a ``bias`` a vector is added, the same to each column.
    """

    dtype: DType
    transpose_a: bool
    transpose_b: bool
    a: Layout
    b: Layout
    c: Layout | None
    d: Layout
    batch: int
    alignment: int  # of all addresses, in bytes
    bias: bool = False


class Products:
    """The matrix products of one device."""

    def __init__(self, device: CupyDevice) -> None:
        self._device = device

    @cached_property
    def library(self) -> CuBLASLt:
        """Loaded by the first product."""
        return CuBLASLt()

    @cached_property
    def workspace(self) -> Any:
        """Memory for the library, used by one product after the other."""
        return self._device.empty((WORKSPACE_BYTES,), np.dtype(np.uint8))

    def prepare(self, call: DotCall, words: array[int], slots: Sequence[int]) -> Callable[[int], None]:
        """What computes a product on a stream."""
        device, size = self._device, call.dtype.itemsize
        stack = 1 if _is_one_stack(call) else call.batch // call.inner
        inner = call.batch // stack
        lhs_slot, rhs_slot, out_slot, *rest = slots
        copies: list[_StridedCopy] = []

        def source(matrices: Matrices, rows: int, columns: int, slot: int) -> _Operand:
            found = _operand(_stack_strides(matrices.strides, call, stack), rows, columns)
            if found is not None:
                return _Operand(found, slot, matrices.offset, matrices.strides[0], None)
            copied = device.empty((call.batch, rows, columns), call.dtype)
            copies.append(_StridedCopy(self._device, call, matrices, rows, columns, slot, copied))
            layout = _operand((rows * columns, columns, 1), rows, columns)
            assert layout is not None
            return _Operand(layout, None, 0, call.inner * rows * columns, copied)

        lhs = source(call.lhs, call.m, call.k, lhs_slot)
        rhs = source(call.rhs, call.k, call.n, rhs_slot)
        step = _stack_strides(call.out.strides, call, stack)
        out = Layout(call.n, call.m, max(step[1], call.n) if call.m == 1 else step[1], step[0])
        own = (0, 0, 0) if call.addend is None else _stack_strides(call.addend.strides, call, stack)
        offsets = [call.out.offset, lhs.offset, rhs.offset, 0 if call.addend is None else call.addend.offset]
        offsets += [out.stride, lhs.layout.stride, rhs.layout.stride, own[0], own[1]]
        offsets += [out.leading, lhs.layout.leading, rhs.layout.leading]
        alignment = int(np.gcd.reduce([ALIGNMENT, *(abs(offset) * size for offset in offsets)]))

        def what(addend: Layout | None, *, bias: bool = False) -> Multiplication:
            return Multiplication(
                call.dtype, rhs.layout.transposed, lhs.layout.transposed, rhs.layout.layout, lhs.layout.layout,
                addend, out, inner, alignment, bias,
            )  # fmt: skip

        if not call.k:
            zero, nothing = device.upload(np.zeros(1, call.dtype)), Matrices(call.out.value, 0, (0, 0, 0, 0))
            fill = _StridedCopy(device, call, nothing, call.m, call.n, zero, out_slot)
            return lambda stream: fill(words, stream)
        addend: Layout | None = None
        addend_slot, addend_offset, addend_stack = out_slot, call.out.offset, call.out.strides[0]
        is_row = call.addend is not None and own == (0, 0, 1) and call.dtype == float32
        plan = self.library.plan(what(None, bias=True)) if is_row else None
        if call.addend is not None:
            is_in_rows = (own[2] == 1 or call.n == 1) and (own[1] >= call.n or call.m == 1)
            if plan is not None or (is_in_rows and (own[0] or inner == 1)):
                addend = Layout(call.n, call.m, max(own[1], call.n), own[0])
                addend_slot, addend_offset, addend_stack = rest[0], call.addend.offset, call.addend.strides[0]
            else:
                copies.append(_StridedCopy(device, call, call.addend, call.m, call.n, rest[0], out_slot))
                addend = out
        plan = plan or self.library.plan(what(addend))
        assert plan is not None, "there is a plan for every product without a bias"
        workspace = device.address(self.workspace)

        def run(stream: int) -> None:
            for copy in copies:
                copy(words, stream)
            for number in range(stack):
                first, second = lhs.at(device, words, number, size), rhs.at(device, words, number, size)
                result = words[out_slot] + size * (call.out.offset + number * call.out.strides[0])
                added = words[addend_slot] + size * (addend_offset + number * addend_stack)
                self.library.multiply(plan, second, first, added, result, workspace, stream)

        return run


@dataclass(frozen=True, slots=True)
class _Stored:
    """How the transpose of a matrix in rows is read: its layout, and whether that is transposed again."""

    layout: Layout
    transposed: bool

    @property
    def stride(self) -> int:
        return self.layout.stride

    @property
    def leading(self) -> int:
        return self.layout.leading


@dataclass(frozen=True, slots=True)
class _Operand:
    """An operand: behind the word ``slot``, or a copy."""

    layout: _Stored
    slot: int | None
    offset: int
    stack: int  # elements from one stack to the next
    copied: Any

    def at(self, device: CupyDevice, words: array[int], number: int, size: int) -> int:
        start = device.address(self.copied) if self.slot is None else words[self.slot]
        return start + size * (self.offset + number * self.stack)


def _is_one_stack(call: DotCall) -> bool:
    """Whether all of the batch is evenly spaced, for each of the matrices."""
    stacks = [call.lhs, call.rhs, call.out, *([] if call.addend is None else [call.addend])]
    return call.inner in (1, call.batch) or all(m.strides[0] == call.inner * m.strides[1] for m in stacks)


def _stack_strides(strides: Strides, call: DotCall, stack: int) -> tuple[int, int, int]:
    """The strides of the matrices of one stack, of rows and of columns."""
    batch = strides[0] if stack == 1 and call.inner == 1 else strides[1]
    return (0 if call.batch == 1 else batch), strides[2], strides[3]


def _operand(strides: tuple[int, int, int], rows: int, columns: int) -> _Stored | None:
    """How a matrix in rows is read, as its transpose; ``None`` where neither rows nor columns are contiguous."""
    batch, row, column = strides
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return _Stored(Layout(columns, rows, max(row, columns) if rows > 1 else max(columns, 1), batch), False)
    if (row == 1 or rows == 1) and (column >= rows or columns == 1):
        return _Stored(Layout(rows, columns, max(column, rows) if columns > 1 else max(rows, 1), batch), True)
    return None


# Copies -----------------------------------------------------------------------------------------------------


def copy_kernel(dtype: DType) -> k.Kernel:
    """``b1 = b0`` for arrays of four axes with any strides."""
    axes = [f"i{number}" for number in range(4)]
    value = k.Scalar(dtype)
    source = k.Address(0, {axis: f"s{number}" for number, axis in enumerate(axes)})
    target = k.Address(0, {axis: f"t{number}" for number, axis in enumerate(axes)})
    body: list[k.Statement] = [k.Load("b0", source, value), k.Store("b1", target, value)]
    for number in reversed(range(4)):
        kinds = {0: frozenset(("parallel",)), 3: frozenset(("vector",))}.get(number, frozenset[str]())
        body = [k.Loop(axes[number], f"n{number}", kinds, body)]
    parameters = [f"{letter}{number}" for letter in "nst" for number in range(4)]
    buffers = [k.Buffer("b0", dtype), k.Buffer("b1", dtype, written=True)]
    return k.Kernel(buffers, parameters, body, f"strided_copy_{short_name(dtype)}")


def copy_entry(dtype: DType) -> codegen.Entry:
    """The function of :func:`copy_kernel`, which serves all strides."""
    kernel = copy_kernel(dtype)
    return codegen.launch_of(kernel, [1] * len(kernel.parameters)).entry


class _StridedCopy:
    """Copies the matrices of a product that the library cannot read: to memory of their own, or to the result.

    Where they are, and where they go, is an array or the number of a word.
    """

    def __init__(
        self,
        device: CupyDevice,
        call: DotCall,
        matrices: Matrices,
        rows: int,
        columns: int,
        source: Any,
        target: Any,
    ) -> None:
        kernel = copy_kernel(call.dtype)
        shape = (call.batch // call.inner, call.inner, rows, columns)
        size = call.dtype.itemsize
        strides = call.inner * rows * columns, rows * columns, columns, 1
        if isinstance(target, int):
            strides = call.out.strides
        self._ends = (source, matrices.offset * size), (target, call.out.offset * size * isinstance(target, int))
        self._device = device
        parameters = [*shape, *matrices.strides, *strides]
        launch = codegen.launch_of(kernel, parameters)
        self._words = array("q", [0, 0, *parameters])
        function = device.load([launch.entry])[launch.entry.name]
        item = Launch(launch.entry, function, launch.grid, self._words, range(len(self._words)))
        self._launch = device.prepare(item)

    def __call__(self, words: array[int], stream: int) -> None:
        for number, (place, offset) in enumerate(self._ends):
            start = words[place] if isinstance(place, int) else self._device.address(place)
            self._words[number] = start + offset
        self._launch(stream)


# The library ------------------------------------------------------------------------------------------------

_TYPES = {float32: 0, float64: 1, float16: 2, bfloat16: 14}  # cudaDataType
_COMPUTE = {float32: 68, float64: 70}  # cublasComputeType_t: in full precision; halves are summed up in float32
_TRANSPOSE_A, _TRANSPOSE_B = 3, 4  # CUBLASLT_MATMUL_DESC_*
_EPILOGUE, _BIAS_POINTER, _EPILOGUE_BIAS = 7, 8, 4
_BATCH, _BATCH_STRIDE = 5, 6  # CUBLASLT_MATRIX_LAYOUT_*
_MAX_WORKSPACE, _REDUCTIONS, _ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # CUBLASLT_MATMUL_PREF_*
_BY_WORKSPACE, _UNROUNDED = 6, 2  # CUBLASLT_REDUCTION_SCHEME_*: of partial sums, not by atomic additions


class _Algorithm(ctypes.Structure):
    _fields_ = (("data", ctypes.c_uint64 * 8),)


class _Heuristic(ctypes.Structure):
    _fields_ = (
        ("algorithm", _Algorithm),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    description: ctypes.c_void_p
    a: ctypes.c_void_p
    b: ctypes.c_void_p
    c: ctypes.c_void_p
    d: ctypes.c_void_p
    alpha: Any
    beta: Any
    algorithm: _Algorithm
    adds_bias: bool = False


class CuBLASLt:
    """The library, with its plans."""

    def __init__(self) -> None:
        self._library = _load()
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._library.cublasLtMatmul.argtypes = [*[pointer] * 13, size, pointer]
        self._handle = pointer()
        self._check(self._library.cublasLtCreate(ctypes.byref(self._handle)), "cublasLtCreate")
        self._plans: dict[Multiplication, _Plan] = {}

    def plan(self, what: Multiplication) -> _Plan | None:
        """The library's choice of how to compute a multiplication; ``None`` where it cannot add the bias to that."""
        if what.bias:
            return self._with_bias(what)
        found = self._plans.get(what)
        if found is None:
            found = self._plans[what] = self._plan(what)
        return found

    def multiply(self, plan: _Plan, a: int, b: int, c: int, d: int, workspace: int, stream: int) -> None:
        """Compute; ``c`` counts where the multiplication has an addend or a bias."""
        if plan.adds_bias:
            set_attribute = self._library.cublasLtMatmulDescSetAttribute
            self._set(set_attribute, plan.description, _BIAS_POINTER, ctypes.c_uint64(c))
            c = d
        status = self._library.cublasLtMatmul(
            self._handle, plan.description, ctypes.addressof(plan.alpha), a, plan.a, b, plan.b,
            ctypes.addressof(plan.beta), c, plan.c, d, plan.d, ctypes.addressof(plan.algorithm), workspace,
            WORKSPACE_BYTES, stream,
        )  # fmt: skip
        self._check(status, "cublasLtMatmul")

    def _plan(self, what: Multiplication) -> _Plan:
        library, pointer = self._library, ctypes.c_void_p
        type, sums = _TYPES[what.dtype], float32 if what.dtype in HALF_DTYPES else what.dtype
        description = pointer()
        status = library.cublasLtMatmulDescCreate(ctypes.byref(description), _COMPUTE[sums], _TYPES[sums])
        self._check(status, "descriptor")
        for attribute, flag in ((_TRANSPOSE_A, what.transpose_a), (_TRANSPOSE_B, what.transpose_b)):
            self._set(library.cublasLtMatmulDescSetAttribute, description, attribute, ctypes.c_int32(flag))
        layouts = [self._layout(layout, what, type) for layout in (what.a, what.b, what.c or what.d, what.d)]
        preference = pointer()
        self._check(library.cublasLtMatmulPreferenceCreate(ctypes.byref(preference)), "preference")
        prefer = library.cublasLtMatmulPreferenceSetAttribute
        self._set(prefer, preference, _MAX_WORKSPACE, ctypes.c_uint64(WORKSPACE_BYTES))
        self._set(prefer, preference, _REDUCTIONS, ctypes.c_uint32(_BY_WORKSPACE if sums == what.dtype else _UNROUNDED))
        for attribute in _ALIGNMENTS:
            self._set(prefer, preference, attribute, ctypes.c_uint32(what.alignment))
        results, count = (_Heuristic * 1)(), ctypes.c_int()
        status = library.cublasLtMatmulAlgoGetHeuristic(
            self._handle, description, *layouts, preference, 1, results, ctypes.byref(count)
        )
        library.cublasLtMatmulPreferenceDestroy(preference)
        self._check(status if count.value else status or 15, f"cublasLtMatmulAlgoGetHeuristic for {what}")
        scalar = ctypes.c_float if sums == float32 else ctypes.c_double
        beta = scalar(0 if what.c is None else 1)
        a, b, c, d = layouts
        return _Plan(description, a, b, c, d, scalar(1), beta, results[0].algorithm)

    def _with_bias(self, what: Multiplication) -> _Plan | None:
        """The bias is added by the algorithm that multiplies without one, or not: so the product has the same bits.

        The plan is one caller's own, as its description holds the bias's address.
        """
        library = self._library
        plan = replace(self._plan(replace(what, bias=False)), adds_bias=True)
        set_attribute = library.cublasLtMatmulDescSetAttribute
        self._set(set_attribute, plan.description, _EPILOGUE, ctypes.c_uint32(_EPILOGUE_BIAS))
        found = _Heuristic()
        status = library.cublasLtMatmulAlgoCheck(
            self._handle, plan.description, plan.a, plan.b, plan.c, plan.d, ctypes.byref(plan.algorithm),
            ctypes.byref(found),
        )  # fmt: skip
        return plan if status == 0 and found.workspace <= WORKSPACE_BYTES else None

    def _layout(self, layout: Layout, what: Multiplication, type: int) -> ctypes.c_void_p:
        library, made = self._library, ctypes.c_void_p()
        extents = ctypes.c_uint64(layout.rows), ctypes.c_uint64(layout.columns), ctypes.c_int64(layout.leading)
        self._check(library.cublasLtMatrixLayoutCreate(ctypes.byref(made), type, *extents), "layout")
        if what.batch > 1:
            for attribute, number in (
                (_BATCH, ctypes.c_int32(what.batch)),
                (_BATCH_STRIDE, ctypes.c_int64(layout.stride)),
            ):
                self._set(library.cublasLtMatrixLayoutSetAttribute, made, attribute, number)
        return made

    def _set(self, function: Any, target: ctypes.c_void_p, attribute: int, number: Any) -> None:
        size = ctypes.c_size_t(ctypes.sizeof(number))
        self._check(function(target, attribute, ctypes.byref(number), size), f"attribute {attribute}")

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status:
            raise RuntimeError(f"cuBLASLt: {what} failed with status {status}")


def _load() -> Any:
    """Where the library may lie: NVIDIA's Python packages, the linker's path."""
    folders = [os.path.join(path, "nvidia", kind, "lib") for path in sys.path for kind in ("cu13", "cublas")]
    for version in (13, 12):
        for folder in (*folders, ""):
            try:
                return ctypes.CDLL(os.path.join(folder, f"libcublasLt.so.{version}"))
            except OSError:
                continue
    raise RuntimeError("cuBLASLt, which multiplies matrices on GPUs, was not found; pip install nvidia-cublas")
