"""Scalar instructions as CUDA C: the GPU's half of the one table (``backends/cpu/instructions.py`` is the other).

Each function gets the operands' texts (names and literals) and the operands' dtype, and returns an expression.
Floats use the plain operators, which IEEE 754 fixes to the bit: NVRTC is told not to contract ``a * b + c``
(:data:`.nvrtc.OPTIONS`).  Integers wrap around: signed ones go through unsigned ones, whose overflow C defines.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from tracejit.ir.primitives.exact import real_dtype
from tracejit.ir.types import HALF_DTYPES, DType, bool_, float16, float32, float64, is_floating, short_name

_INTEGER_NAMES = {1: "char", 2: "short", 4: "int", 8: "long long"}
_FLOAT_NAMES = {float32: "float", float64: "double"}

# The functions that kernels may call; a module contains those that it needs.
HELPERS = {
    "tj_vector": """\
// Neighbouring elements, which are read and written at once.
template <typename T, int N> struct alignas(sizeof(T) * N) tj_vector { T e[N]; };
""",
    "tj_load": """\
// So many neighbouring elements: at once where they are aligned, else one by one.
template <int N, typename T> __device__ __forceinline__ tj_vector<T, N> tj_load(const T *from, bool aligned) {
  if (aligned) return *(const tj_vector<T, N> *)from;
  tj_vector<T, N> elements;
  #pragma unroll
  for (int e = 0; e < N; ++e) elements.e[e] = from[e];
  return elements;
}
""",
    "tj_load_pairs": """\
// The same for halves, of which a register holds two.
template <int N> __device__ __forceinline__ tj_vector<unsigned int, N> tj_load_pairs(
    const unsigned short *from, bool aligned) {
  if (aligned) return *(const tj_vector<unsigned int, N> *)from;
  tj_vector<unsigned int, N> pairs;
  #pragma unroll
  for (int e = 0; e < N; ++e) pairs.e[e] = from[2 * e] | (unsigned int)from[2 * e + 1] << 16;
  return pairs;
}
""",
    "tj_get": """\
__device__ __forceinline__ unsigned short tj_get(unsigned int pair, int place) { return pair >> place % 2 * 16; }
""",
    "tj_put": """\
// The first of a pair is put there first.
__device__ __forceinline__ void tj_put(unsigned int &pair, int place, unsigned short bits) {
  pair = place % 2 ? pair | (unsigned int)bits << 16 : bits;
}
""",
    "tj_store": """\
template <int N, typename T>
__device__ __forceinline__ void tj_store(T *to, const tj_vector<T, N> &elements, bool aligned) {
  if (aligned) {
    *(tj_vector<T, N> *)to = elements;
    return;
  }
  #pragma unroll
  for (int e = 0; e < N; ++e) to[e] = elements.e[e];
}
""",
    "tj_fetch": """\
// A row from memory to shared memory, by all threads of a block.
template <typename T, int N> __device__ __forceinline__ void tj_fetch(T *row, const T *from, long long extent) {
  long long done = 0;
  if ((unsigned long long)from % (N * sizeof(T)) == 0) {
    done = extent / N * N;
    for (long long at = threadIdx.x * N; at < done; at += blockDim.x * N)
      *(tj_vector<T, N> *)(row + at) = *(const tj_vector<T, N> *)(from + at);
  }
  for (long long at = done + threadIdx.x; at < extent; at += blockDim.x) row[at] = from[at];
}
""",
    "tj_table": """\
// The arguments of many launches: addresses and numbers, and the blocks at which each one's end.
template <int Words, int Sets> struct tj_table { long long words[Sets][Words]; unsigned int end[Sets]; };
""",
    "TJ_DYNAMIC": """\
// The shared memory whose size a launch decides.
#ifndef TJ_DYNAMIC
#define TJ_DYNAMIC(name) extern __shared__ __align__(16) unsigned char name[]
#endif
""",
    "tj_maximum": """\
// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_maximum(T x, T y) {
  if (x == y) return x == 0 ? x + y : x;
  return x > y ? x : y > x ? y : x + y;
}
""",
    "tj_minimum": """\
// IEEE 754-2019: a NaN wins, and -0 < +0.
template <typename T> __device__ __forceinline__ T tj_minimum(T x, T y) {
  if (x == y) return x == 0 ? -(-x - y) : x;
  return x < y ? x : y < x ? y : x + y;
}
""",
    "tj_from_f16": """\
// Halves are passed round by their bits, and computed with as floats.
#ifndef TJ_WITHOUT_PTX
__device__ __forceinline__ float tj_from_f16(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
#endif
""",
    "tj_to_f16": """\
#ifndef TJ_WITHOUT_PTX
__device__ __forceinline__ unsigned short tj_to_f16(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
#endif
""",
    "tj_from_bf16": """\
// The upper half of a float.
__device__ __forceinline__ float tj_from_bf16(unsigned short bits) {
  return __int_as_float((int)((unsigned int)bits << 16));
}
""",
    "tj_to_bf16": """\
#ifndef TJ_WITHOUT_PTX
__device__ __forceinline__ unsigned short tj_to_bf16(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
#endif
""",
    "tj_odd": """\
// Rounded to the float whose last bit tells that digits are missing: rounding that again is rounding once.
__device__ __forceinline__ float tj_odd(double x) {
  const float nearest = (float)x;
  if ((double)nearest == x || x != x) return nearest;
  return __int_as_float(__float_as_int(nearest) - (fabs((double)nearest) > fabs(x)) | 1);
}
""",
    "tj_saturate": """\
// Truncates; below `lowest` is `least`, from `beyond` on `most`, and NaN is 0.
template <typename Integer, typename Float>
__device__ __forceinline__ Integer tj_saturate(Float x, Float lowest, Float beyond, Integer least, Integer most) {
  return x != x ? 0 : x <= lowest ? least : x >= beyond ? most : (Integer)x;
}
""",
}


def element_type(dtype: DType) -> str:
    """The C type of one element in a register: ``bool`` for bool, and the bits for halves."""
    if dtype == bool_:
        return "bool"
    if dtype in _FLOAT_NAMES:
        return _FLOAT_NAMES[dtype]
    if dtype in HALF_DTYPES:
        return "unsigned short"
    if dtype.kind not in "iu":
        raise NotImplementedError(f"CUDA kernels do not compute with {short_name(dtype)}")
    sign = "unsigned " if dtype.kind == "u" else "signed " if dtype.itemsize == 1 else ""
    return sign + _INTEGER_NAMES[dtype.itemsize]


def memory_type(dtype: DType) -> str:
    """The C type of one element in memory: a bool is a byte, a complex number the vector of its parts."""
    if dtype.kind == "c":
        return f"tj_vector<{element_type(real_dtype(dtype))}, 2>"
    return "unsigned char" if dtype == bool_ else element_type(dtype)


def literal(value: Any, dtype: DType) -> str:
    """A number as C writes it, exactly: a float in decimal where that is short, else in hexadecimal."""
    if dtype in HALF_DTYPES:
        return f"0x{int(np.asarray(value, dtype).view(np.uint16)):04x}"
    if is_floating(dtype):
        return _float_literal(np.asarray(value, dtype))
    if dtype == bool_:
        return "true" if value else "false"
    number = int(value)
    if dtype.kind == "u":
        number %= 1 << 8 * dtype.itemsize  # -1 stands for all bits
    suffix = ("u" if dtype.kind == "u" and dtype.itemsize >= 4 else "") + ("ll" if dtype.itemsize == 8 else "")
    if dtype.kind == "i" and dtype.itemsize >= 4 and number == np.iinfo(dtype).min:
        return f"({number + 1}{suffix} - 1)"  # C has no literal for it: the minus sign is an operator
    return f"{number}{suffix}"


def _float_literal(value: np.ndarray) -> str:
    suffix = "f" if value.dtype == float32 else ""
    if not np.isfinite(value):  # INFINITY and NAN would need headers
        if value.dtype == float32:
            return f"__int_as_float(0x{int(value.view(np.uint32)):08x})"
        return f"__longlong_as_double(0x{int(value.view(np.uint64)):016x}ll)"
    number = float(value)
    decimal = repr(number)
    if len(decimal) <= 10 and Fraction(decimal) == Fraction(number):
        return decimal + suffix
    digits, exponent = number.hex().split("p")
    return f"{digits.rstrip('0').rstrip('.')}p{exponent}{suffix}"


Emit = Callable[..., str]


def _unsigned(dtype: DType) -> str:
    """The unsigned type in which an integer's arithmetic is done: C widens narrow ones to ``int`` otherwise."""
    return "unsigned long long" if dtype.itemsize == 8 else "unsigned int"


def _is_unsigned(dtype: DType) -> bool:
    """Whether C's own arithmetic wraps around."""
    return dtype.kind == "u" and dtype.itemsize >= 4


def _infix(symbol: str) -> Emit:
    return lambda x, y, *, dtype: f"{x} {symbol} {y}"


def _wrapping(symbol: str) -> Emit:
    def emit(x: str, y: str, *, dtype: DType) -> str:
        if is_floating(dtype) or _is_unsigned(dtype):
            return f"{x} {symbol} {y}"
        wide = _unsigned(dtype)
        return f"({element_type(dtype)})(({wide}){x} {symbol} ({wide}){y})"

    return emit


def _function(name: str) -> Emit:
    """A function of C's mathematical library that IEEE 754 fixes; ``f`` at its end says float."""

    def emit(*operands: str, dtype: DType) -> str:
        return f"{name}{'f' if dtype == float32 else ''}({', '.join(operands)})"

    return emit


def _extremum(symbol: str, name: str) -> Emit:
    def emit(x: str, y: str, *, dtype: DType) -> str:
        return f"tj_{name}({x}, {y})" if is_floating(dtype) else f"{x} {symbol} {y} ? {x} : {y}"

    return emit


def _negate(x: str, *, dtype: DType) -> str:
    if is_floating(dtype):
        return f"-{x}" if not x.startswith("-") else f"-({x})"
    return f"({element_type(dtype)})(0 - ({_unsigned(dtype)}){x})"


def _abs(x: str, *, dtype: DType) -> str:
    if is_floating(dtype):
        return _function("fabs")(x, dtype=dtype)
    return x if dtype.kind == "u" else f"{x} < 0 ? {_negate(x, dtype=dtype)} : {x}"


def _quotient(x: str, y: str, *, dtype: DType) -> str:
    """The lowest integer by -1 overflows, and wraps around like the rest."""
    return f"{x} / {y}" if dtype.kind == "u" else f"{y} == -1 ? {_negate(x, dtype=dtype)} : {x} / {y}"


def _remainder(x: str, y: str, *, dtype: DType) -> str:
    return f"{x} % {y}" if dtype.kind == "u" else f"{y} == -1 ? 0 : {x} % {y}"


def _shift_left(x: str, y: str, *, dtype: DType) -> str:
    return f"{x} << {y}" if _is_unsigned(dtype) else f"({element_type(dtype)})(({_unsigned(dtype)}){x} << {y})"


INSTRUCTIONS: dict[str, Emit] = {
    "add": _wrapping("+"),
    "subtract": _wrapping("-"),
    "multiply": _wrapping("*"),
    "divide": _infix("/"),
    "quotient": _quotient,
    "remainder": _remainder,
    "and_": _infix("&"),
    "or_": _infix("|"),
    "xor": _infix("^"),
    "shift_left": _shift_left,
    "shift_right": _infix(">>"),
    "multiply_high": lambda x, y, *, dtype: f"__umulhi({x}, {y})",
    "negate": _negate,
    "abs": _abs,
    "not_": lambda x, *, dtype: f"!{x}" if dtype == bool_ else f"~{x}",
    "sqrt": _function("sqrt"),
    "fma": _function("fma"),
    "floor": _function("floor"),
    "ceil": _function("ceil"),
    "trunc": _function("trunc"),
    "rint": _function("rint"),
    "maximum": _extremum(">", "maximum"),
    "minimum": _extremum("<", "minimum"),
    "eq": _infix("=="),
    "ne": _infix("!="),
    "lt": _infix("<"),
    "le": _infix("<="),
    "gt": _infix(">"),
    "ge": _infix(">="),
}


def sum(x: str, y: str, *, dtype: DType) -> str:
    """Of two elements in memory; that of halves is rounded."""
    if dtype not in HALF_DTYPES:
        return INSTRUCTIONS["add"](x, y, dtype=dtype)
    x, y = (convert(operand, dtype, float32) for operand in (x, y))
    return convert(f"{x} + {y}", float32, dtype)


def select(predicate: str, x: str, y: str) -> str:
    return f"{predicate} ? {x} : {y}"


def bitcast(x: str, source: DType, target: DType) -> str:
    if (is_floating(source) and is_floating(target)) or HALF_DTYPES & {source, target}:
        return x
    if is_floating(target):
        name = "__int_as_float" if target == float32 else "__longlong_as_double"
        return f"{name}({x})"
    if is_floating(source):
        name = "__float_as_int" if source == float32 else "__double_as_longlong"
        return f"({element_type(target)}){name}({x})"
    return f"({element_type(target)}){x}"


def convert(x: str, source: DType, target: DType) -> str:
    """Value conversion; a float outside an integer's range saturates, NaN becomes 0.

    What becomes a half becomes a float first, as NumPy has it; but float64 is rounded to float16 at once.
    """
    if target in HALF_DTYPES:
        single = x if source == float32 else convert(x, source, float32)
        if source == float64 and target == float16:
            single = f"tj_odd({x})"
        return f"tj_to_{short_name(target)}({single})"
    if source in HALF_DTYPES:
        single = f"tj_from_{short_name(source)}({x})"
        return single if target == float32 else convert(single, float32, target)
    name = element_type(target)
    if is_floating(source) and target.kind in "iu":
        limits = np.iinfo(target)
        bounds = [literal(float(limits.min), source), literal(float(limits.max + 1), source)]
        bounds += [literal(limits.min, target), literal(limits.max, target)]
        return f"tj_saturate<{name}>({x}, {', '.join(bounds)})"
    return f"({name}){x}"
