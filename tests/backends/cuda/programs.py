"""The programs that the CUDA printer is tested on: a table of graphs, with inputs for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any

import ml_dtypes
import numpy as np

from tracejit.backends.cuda import codegen
from tracejit.backends.cuda.codegen import Entry
from tracejit.backends.cuda.executable import entries
from tracejit.backends.planning import plan
from tracejit.backends.program import KernelCall, Program
from tracejit.ir import Builder, Constant, Emitter, Graph, TensorType
from tracejit.ir.types import DTYPES_BY_SHORT_NAME, HALF_DTYPES, bool_, int64, is_floating, uint32

BOOL_AND_NUMBERS = [name for name in DTYPES_BY_SHORT_NAME if name not in ("f16", "bf16", "c64", "c128")]
INTEGERS = [name for name in BOOL_AND_NUMBERS if name[0] in "iu"]
FUNCTIONS = [
    "exponential", "exponential_minus_one", "log", "log_plus_one", "logistic", "tanh", "sine", "cosine", "tan", "erf",
    "erf_inv", "erfc", "erfcx", "lgamma", "bessel_i0e", "bessel_i1e", "sqrt", "rsqrt", "floor", "ceil",
    "round_nearest_even", "sign", "abs", "is_finite",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A graph, given by a function of an emitter and the graph's parameters."""

    name: str
    function: Callable[..., Any]
    types: tuple[TensorType, ...]

    @property
    def graph(self) -> Graph:
        graph = Graph(re.sub(r"\W", "_", self.name))
        builder = Builder(graph)
        emitter = Emitter(builder.apply, Constant)
        results = self.function(emitter, *[builder.parameter(type) for type in self.types])
        graph.results = list(results) if isinstance(results, list | tuple) else [results]
        return graph

    def inputs(self) -> list[np.ndarray]:
        random = np.random.default_rng(len(self.name))
        return [_numbers(random, type) for type in self.types]


def _numbers(random: np.random.Generator, type: TensorType) -> np.ndarray:
    """Numbers of all sizes; vectors of floats start with special ones, integers have their ends among them."""
    shape, dtype = type.static_shape, type.dtype
    if dtype.kind == "c":
        made = np.empty(shape, dtype)
        made.real, made.imag = (_numbers(random, TensorType(made.real.dtype, shape)) for _ in range(2))
        return made
    if dtype == bool_:
        return np.asarray(random.integers(0, 2, shape), bool)
    if not is_floating(dtype):
        small, limits = random.integers(0, 12, shape).astype(dtype), np.iinfo(dtype)
        ends = random.choice(np.array([limits.min, limits.max, limits.max - 1], dtype), shape)
        return np.where(random.random(shape) < 0.8, small, ends)
    numbers = (random.standard_normal(shape) * np.exp(random.standard_normal(shape) * 2)).astype(dtype)
    if type.ndim == 1 and type.size in SPECIAL_SIZES:
        limits = ml_dtypes.finfo(dtype)
        special = [
            np.nan,
            np.inf,
            -np.inf,
            0.0,
            -0.0,
            limits.max,
            limits.tiny,
            limits.smallest_subnormal,
            0.5,
            1.0,
            -1.0,
            1 + 2**-11 + 2**-40,  # which is not rounded twice to float16
        ]
        numbers[: len(special)] = special
    return numbers


SPECIAL_SIZES = (300,)  # a vector of so many floats has NaN, infinities and the like in it


@cache
def programs(case: Case) -> dict[str, Program]:
    """The case's program with small extents written into the kernels, and with none."""
    graph = case.graph
    return {"specialized": plan(graph, host=False), "for any shape": plan(graph, specialize=False, host=False)}


@cache
def reference(case: Case) -> Program:
    """What the CPU runs for a case: the kernels themselves, or where it has none for their dtypes, NumPy."""
    dtypes = {value.dtype for op in case.graph.ops for value in (*op.operands, *op.results)}
    others = any(dtype in HALF_DTYPES or dtype.kind == "c" for dtype in dtypes)
    return plan(case.graph) if others else programs(case)["for any shape"]


def entries_of(case: Case) -> Iterator[Entry]:
    """The functions that the case's programs launch, and those for one call at a time."""
    for program in programs(case).values():
        yield from functions(program)


def functions(program: Program) -> list[Entry]:
    """What a program of kernels launches, and would launch with one call at a time."""
    calls = [call for call in program.calls if isinstance(call, KernelCall)]
    return [*entries(program), *(codegen.launch_of(call.kernel, call.parameters).entry for call in calls)]


# The table -------------------------------------------------------------------------------------------------

CASES: dict[str, Case] = {}


def case(name: str, function: Callable[..., Any], *types: str) -> Case:
    """A case for a function of parameters of these types, written ``"f32[2,3]"``."""
    return Case(name, function, tuple(map(_type, types)))


def _add(name: str, function: Callable[..., Any], *types: str) -> None:
    assert name not in CASES
    CASES[name] = case(name, function, *types)


def _type(text: str) -> TensorType:
    dtype, extents = text.rstrip("]").split("[")
    return TensorType(DTYPES_BY_SHORT_NAME[dtype], tuple(int(extent) for extent in extents.split(",") if extent))


def _elementwise(name: str) -> Callable[..., Any]:
    return lambda e, *operands, **attributes: getattr(e, name)(*operands, **attributes)


def _arithmetic(e: Emitter, x: Any, y: Any) -> list[Any]:
    return [
        e.add(x, y),
        e.subtract(x, y),
        e.multiply(x, y),
        e.divide(x, y),
        e.maximum(x, y),
        e.minimum(x, y),
        e.negate(x),
    ]


def _integer_arithmetic(e: Emitter, x: Any, y: Any) -> list[Any]:
    """All of it, in one kernel: every bit of every result is in the xor."""
    results = [e.add(x, y), e.subtract(x, y), e.multiply(x, y), e.maximum(x, y), e.minimum(x, y)]
    results += [e.negate(x), e.abs(x), e.sign(x), getattr(e, "not")(x)]
    results += [getattr(e, name)(x, y) for name in ("and", "or", "xor")]
    if x.dtype.kind == "u":
        width = e.scalar(8 * x.dtype.itemsize - 1, x.dtype)
        results.append(e.shift_right_logical(x, e.minimum(y, width)))
    return [reduce(e.xor, results)]


def _comparisons(e: Emitter, x: Any, y: Any) -> Any:
    """One bit for each comparison."""
    bits = [
        e.multiply(e.convert(e.compare(x, y, direction=direction), dtype=uint32), 1 << number)
        for number, direction in enumerate(("eq", "ne", "lt", "le", "gt", "ge"))
    ]
    return reduce(e.add, bits)


def _logic(e: Emitter, p: Any, q: Any, x: Any) -> list[Any]:
    results = [getattr(e, name)(p, q) for name in ("and", "or", "xor", "maximum", "minimum")]
    return [*results, getattr(e, "not")(p), e.select(p, x, e.negate(x)), e.compare(p, q, direction="lt")]


def _conversions(e: Emitter, x: Any) -> list[Any]:
    """To bool and the integers, in one kernel; to the floats."""
    targets = [DTYPES_BY_SHORT_NAME[name] for name in BOOL_AND_NUMBERS]
    integers = [e.convert(e.convert(x, dtype=dtype), dtype=int64) for dtype in targets if not is_floating(dtype)]
    return [reduce(e.xor, integers), *(e.convert(x, dtype=dtype) for dtype in targets if is_floating(dtype))]


def _broadcasts(e: Emitter, x: Any, row: Any, column: Any, scalar: Any) -> Any:
    return e.add(e.multiply(e.add(x, row), column), scalar)


def _slices(e: Emitter, x: Any) -> Any:
    odd = e.slice(x, start=(1, 3), limit=(20, 40), strides=(2, 3))
    return e.add(odd, e.reverse(odd, dimensions=(1,)))


def _gelu(e: Emitter, x: Any) -> Any:
    return e.multiply(e.multiply(x, 0.5), e.add(e.erf(e.multiply(x, 0.7071067811865476)), 1))


def _scalar_update(e: Emitter, x: Any, y: Any) -> list[Any]:
    return [e.add(x, y), e.exponential(x)]


def _outer(e: Emitter, x: Any, y: Any) -> Any:
    shape = (x.shape[0], y.shape[0])
    stretched = e.broadcast_in_dim(x, shape=shape, dimensions=(0,)), e.broadcast_in_dim(y, shape=shape, dimensions=(1,))
    return e.multiply(*stretched)


for _name in FUNCTIONS:
    for _dtype in ("f32", "f64"):
        _add(f"{_name} {_dtype}", _elementwise(_name), f"{_dtype}[300]")
for _dtype in ("f32", "f64"):
    for _order in (0, 1, 3):
        _add(f"polygamma {_order} {_dtype}", lambda e, x, n=_order: e.polygamma(x, order=n), f"{_dtype}[300]")
    _add(f"power {_dtype}", _elementwise("power"), f"{_dtype}[300]", f"{_dtype}[300]")
    _add(f"arithmetic {_dtype}", _arithmetic, f"{_dtype}[300]", f"{_dtype}[300]")
for _dtype in INTEGERS:
    _add(f"arithmetic {_dtype}", _integer_arithmetic, f"{_dtype}[200]", f"{_dtype}[200]")
for _dtype in BOOL_AND_NUMBERS:
    _add(f"comparisons of {_dtype}", _comparisons, f"{_dtype}[300]", f"{_dtype}[300]")
    _add(f"conversions of {_dtype}", _conversions, f"{_dtype}[300]")
_add("logic", _logic, "bool[100]", "bool[100]", "f32[100]")
_add("broadcasts", _broadcasts, "f32[37,33]", "f32[33]", "f32[37,1]", "f32[]")
_add("broadcasts of a small array", _broadcasts, "f32[3,5]", "f32[5]", "f32[3,1]", "f32[1,1]")
_add("outer product", _outer, "f64[40]", "f64[70]")
_add("transpose", lambda e, x, y: e.add(e.transpose(x, permutation=(1, 0)), y), "f32[40,30]", "f32[30,40]")
_add("transpose of four axes", lambda e, x: e.negate(e.transpose(x, permutation=(2, 0, 3, 1))), "i32[3,17,5,20]")
_add("slices", _slices, "f32[20,50]")
_add("gelu", _gelu, "f32[50,300]")
_add("scalars", _scalar_update, "f32[]", "f32[]")
_add("one element", _scalar_update, "f32[1,1]", "f32[]")
_add("iota", lambda e, x: [e.add(e.iota(size=500, dtype=x.dtype), x), e.iota(size=7, dtype=uint32)], "i32[]")
_add("random bits", lambda e, key, offset: e.random_bits(key, offset, size=1001), "u64[]", "u64[]")


# Reductions by rows and by columns


def _softmax(e: Emitter, x: Any, axis: int = -1) -> Any:
    axes = (axis % x.ndim,)
    shifted = e.subtract(x, e.keep_axes(e.reduce_max(x, axes=axes), x.shape, axes))
    numerator = e.exponential(shifted)
    return e.divide(numerator, e.keep_axes(e.reduce_sum(numerator, axes=axes), x.shape, axes))


def _normalize(e: Emitter, x: Any, scale: Any, axis: int = -1) -> list[Any]:
    """Layer norm over an axis; the mean and the deviation are results too."""
    axes, count = (axis % x.ndim,), x.shape[axis]
    mean = e.keep_axes(e.divide(e.reduce_sum(x, axes=axes), count), x.shape, axes)
    centered = e.subtract(x, mean)
    variance = e.divide(e.reduce_sum(e.multiply(centered, centered), axes=axes), count)
    deviation = e.rsqrt(e.add(e.keep_axes(variance, x.shape, axes), 1e-5))
    return [e.multiply(e.multiply(centered, deviation), scale), mean, variance]


def _argmax(e: Emitter, x: Any, axis: int) -> Any:
    extent = x.shape[axis]
    is_largest = e.compare(x, e.keep_axes(e.reduce_max(x, axes=(axis,)), x.shape, (axis,)), direction="eq")
    positions = e.broadcast_in_dim(e.iota(size=extent, dtype=int64), shape=x.shape, dimensions=(axis,))
    return e.reduce_min(e.select(is_largest, positions, e.scalar(extent, int64)), axes=(axis,))


def _reductions(*axes: int) -> Callable[..., Any]:
    """All that the dtype has, of one operand."""

    def reductions(e: Emitter, x: Any) -> list[Any]:
        names = ["reduce_max", "reduce_min"]
        names += ["reduce_sum"] if x.dtype != bool_ else []
        names += ["reduce_and", "reduce_or"] if not is_floating(x.dtype) else []
        return [getattr(e, name)(x, axes=axes) for name in names]

    return reductions


def _sum(*axes: int) -> Callable[..., Any]:
    return lambda e, x: e.reduce_sum(x, axes=axes)


def _mean_square(e: Emitter, x: Any) -> Any:
    return e.divide(e.reduce_sum(e.multiply(x, x), axes=tuple(range(x.ndim))), x.type.size)


for _extent in (1, 2, 5, 16, 17, 31, 32, 33, 4095, 4096, 4097, 9000):
    _add(f"softmax of rows of {_extent}", _softmax, f"f32[19,{_extent}]")
    _add(f"sums of rows of {_extent}", _sum(1), f"f32[17,{_extent}]")
    _add(f"sums of columns of {_extent}", _sum(0), f"f32[{_extent},19]")
for _extent in (3, 40, 5000):
    _add(f"softmax of columns of {_extent}", lambda e, x: _softmax(e, x, 0), f"f32[{_extent},17]")
    _add(f"argmax of rows of {_extent}", lambda e, x: _argmax(e, x, 1), f"f32[17,{_extent}]")
    _add(f"argmax of columns of {_extent}", lambda e, x: _argmax(e, x, 0), f"i32[{_extent},17]")
for _dtype in ("bool", "i8", "u16", "i32", "u64", "f32", "f64"):
    _add(f"row reductions of {_dtype}", _reductions(1), f"{_dtype}[19,70]")
    _add(f"column reductions of {_dtype}", _reductions(0), f"{_dtype}[70,19]")
    _add(f"short reductions of {_dtype}", _reductions(1), f"{_dtype}[50,6]")
_add("reductions of special numbers", _reductions(0), "f32[300]")
_add("softmax of rows of 20000", _softmax, "f32[3,20000]")
_add("softmax of rows of 60000", _softmax, "f32[8,60000]")
_add("products of rows of 9000", lambda e, x: e.reduce_product(x, axes=(1,)), "f32[3,9000]")
for _extent in (900, 2048, 9000):
    _add(f"layer norm of rows of {_extent}", _normalize, f"f32[5,{_extent}]", f"f32[{_extent}]")
_add("layer norm", _normalize, "f32[10,257]", "f32[257]")
_add("layer norm f64", _normalize, "f64[3,4,40]", "f64[40]")
_add("layer norm of short rows", _normalize, "f32[40,8]", "f32[8]")
_add("layer norm of columns", lambda e, x, scale: _normalize(e, x, scale, 0), "f32[100,40]", "f32[40]")
_add("layer norm of a middle axis", lambda e, x, scale: _normalize(e, x, scale, 1), "f64[3,50,7]", "f64[7]")
_add("sums of a matrix's rows and columns", lambda e, x: [_sum(0)(e, x), _sum(1)(e, x)], "f32[65,67]")
_add("sum of all", _sum(0, 1), "f32[200,200]")
_add("sum of all between threads", _sum(0, 1), "f32[300,300]")
_add("sum of a long vector", _sum(0), "f32[70001]")
_add("sums of few long rows", _sum(1), "f64[3,30011]")
_add("integer sum of a long vector", _sum(0), "i32[70001]")
_add("mean square of a long vector", _mean_square, "f32[100000]")
_add("sum over the outer axes", _sum(0, 2), "f32[6,20,30]")
_add("sum over leading axes", _sum(0, 1), "f32[30,40,20]")


# Few points with many elements each: several of their reductions in one launch


def _several(e: Emitter, x: Any) -> list[Any]:
    """The largest, the mean size and the mean square, of all elements."""
    axes, size = tuple(range(x.ndim)), e.abs(x)
    mean = e.divide(e.reduce_sum(size, axes=axes), x.type.size)
    return [e.reduce_max(size, axes=axes), mean, e.sqrt(_mean_square(e, x))]


def _norm_gradients(e: Emitter, x: Any, g: Any) -> list[Any]:
    """Sums over columns that read the same."""
    return [e.reduce_sum(e.multiply(x, g), axes=(0,)), e.reduce_sum(g, axes=(0,))]


def _kept_and_summed(e: Emitter, x: Any) -> list[Any]:
    y = e.exponential(x)
    return [y, e.reduce_sum(y, axes=(1,)), e.add(e.reduce_max(y, axes=(1,)), 1)]


def _updates(e: Emitter, rate: Any, *tensors: Any) -> list[Any]:
    """The same for several parameters and their gradients."""
    pairs = list(zip(tensors[::2], tensors[1::2], strict=True))
    return [e.subtract(w, e.multiply(g, rate)) for w, g in pairs]


_add("updates of several parameters", _updates, "f32[]", *["f32[900]"] * 2, *["f32[70,30]"] * 2, *["f32[1025]"] * 2)
_add("updates of many parameters", _updates, "f32[]", *[f"f32[{n // 2 * 7 + 20}]" for n in range(200)])


def _norm_backward(e: Emitter, x: Any, weight: Any, g: Any) -> list[Any]:
    """The gradients of a layer norm's input, weight and bias."""
    normalized, mean, variance = _normalize(e, x, e.scalar(1, x.dtype))
    deviation = e.rsqrt(e.add(e.keep_axes(variance, x.shape, (1,)), 1e-5))
    scaled = e.multiply(g, weight)
    along = e.keep_axes(e.divide(e.reduce_sum(e.multiply(scaled, normalized), axes=(1,)), x.shape[1]), x.shape, (1,))
    change = e.multiply(e.subtract(scaled, e.multiply(normalized, along)), deviation)
    return [change, e.reduce_sum(e.multiply(g, normalized), axes=(0,)), e.reduce_sum(g, axes=(0,)), mean]


_add("gradients of a layer norm", _norm_backward, "f32[70,129]", "f32[129]", "f32[70,129]")
_add("several reductions of all", _several, "f32[70001]")
_add("several reductions of a matrix", _several, "f64[300,301]")
_add("elements and their sums", _kept_and_summed, "f32[3,30011]")
_add("logical reductions of all", _reductions(0), "bool[70001]")
_add("gradients of a norm", _norm_gradients, "f32[5000,40]", "f32[5000,40]")
_add("deviation of a long vector", lambda e, x: _normalize(e, x, x, 0), "f32[70001]")
_add("sums of many columns", _sum(0), "f32[40,2053]")
_add("columns of many blocks", lambda e, x: [_sum(0)(e, x), e.reduce_max(x, axes=(0,))], "f32[20000,7]")
_add("columns with all of their elements", lambda e, x: _softmax(e, x, 0), "f32[9000,5]")


# Elements found through indices, and copies into regions


def _gather_rows(e: Emitter, table: Any, index: Any) -> Any:
    return e.gather(table, index, axes=(0,))


def _scatter(combine: str, *axes: int) -> Callable[..., Any]:
    return lambda e, x, updates, *indices: e.scatter(x, updates, *indices, axes=axes, combine=combine)


_add("gather rows", _gather_rows, "f32[12,33]", "i64[40]")
_add("gather rows of a gelu", lambda e, x, i: _gelu(e, _gather_rows(e, x, i)), "f32[12,33]", "i32[4,5]")
_add("gather elements", lambda e, x, i, j: e.gather(x, i, j, axes=(0, 1)), "f64[12,9]", "i64[50]", "i64[50]")
_add("gather columns", lambda e, x, i: e.gather(x, i, axes=(1,)), "bool[9,12]", "u8[30]")
_add("scatter add of rows", _scatter("add", 0), "f32[12,33]", "f32[40,33]", "i64[40]")
_add("scatter add of many rows", _scatter("add", 0), "f32[5,40]", "f32[300,40]", "i64[300]")
_add("scatter add of elements", _scatter("add", 0), "f32[12]", "f32[100]", "i64[100]")
_add("scatter add of columns", _scatter("add", 1), "i32[9,12]", "i32[30,9]", "i64[30]")
_add("scatter set of rows", _scatter("set", 0), "f64[12,33]", "f64[40,33]", "i32[40]")
_add("scatter set of bools", _scatter("set", 0, 1), "bool[12,9]", "bool[50]", "i64[50]", "i64[50]")
_add("scatter add of thousands of rows", _scatter("add", 0), "f32[12,3]", "f32[9000,3]", "i64[9000]")
_add("scatter add of wide rows", _scatter("add", 0), "f32[12,150]", "f32[2100,150]", "i64[2100]")
_add("scatter set of thousands of elements", _scatter("set", 0, 1), "f64[9,12]", "f64[3000]", *["i64[3000]"] * 2)
_add("scatter add of thousands of columns", _scatter("add", 1), "bf16[5,12]", "bf16[2500,5]", "i32[2500]")
_add("concatenate", lambda e, x, y: e.concatenate(x, y, x, dimension=1), "f32[20,7]", "f32[20,30]")
_add("pad", lambda e, x, v: e.pad(x, v, low=(1, 2), high=(3, 0), interior=(0, 2)), "f32[30,7]", "f32[]")
_add(
    "update a slice",
    lambda e, x, y: e.update_slice(x, e.exponential(y), start=(2, 1), strides=(3, 2)),
    "f32[30,20]",
    "f32[5,8]",
)
for _shape in ("[5,70]", "[70,40]", "[1000]"):
    _last = _shape.count(",")
    for _dtype in ("f32", "i32", "u8"):
        _add(
            f"running sums of {_dtype}{_shape}", lambda e, x, a=_last: e.cumulative_sum(x, axis=a), f"{_dtype}{_shape}"
        )
    _add(f"running products of {_shape}", lambda e, x: e.cumulative_product(x, axis=0), f"f64{_shape}")
    for _smallest in (False, True):
        _extremum = partial(_elementwise("cumulative_extremum"), axis=0, smallest=_smallest)
        _add(f"running extremes of {_shape} {_smallest}", _extremum, f"f32{_shape}")
    _add(f"recurrence of {_shape}", partial(_elementwise("linear_recurrence"), axis=_last), *[f"f32{_shape}"] * 2)
_add("running sums of special numbers", lambda e, x: e.cumulative_sum(x, axis=0), "f32[300]")
_add("integer product", lambda e, x, y: e.dot(x, y), "i32[9,40]", "i32[40,11]")


# Halves: float16 and bfloat16


def _each(*names: str) -> Callable[..., Any]:
    return lambda e, x: [getattr(e, name)(x) for name in names]


def _from_everything(dtype: str) -> Callable[..., Any]:
    return lambda e, *operands: [e.convert(x, dtype=DTYPES_BY_SHORT_NAME[dtype]) for x in operands]


def _to_everything(e: Emitter, x: Any) -> list[Any]:
    return [e.convert(x, dtype=DTYPES_BY_SHORT_NAME[name]) for name in (*BOOL_AND_NUMBERS, "f16", "bf16")]


def _mixed(e: Emitter, x: Any, weight: Any, g: Any, rate: Any) -> list[Any]:
    """A step of training in halves with weights in float32, as a kernel sees it."""
    wide = e.convert(e.multiply(x, e.convert(weight, dtype=x.dtype)), dtype=weight.dtype)
    return [wide, e.subtract(weight, e.multiply(e.convert(g, dtype=weight.dtype), rate))]


for _half in ("f16", "bf16"):
    for _first in range(0, len(FUNCTIONS), 8):
        _names = FUNCTIONS[_first : _first + 8]
        _add(f"{_names[0]} and others of {_half}", _each(*_names), f"{_half}[300]")
    _add(f"arithmetic {_half}", _arithmetic, f"{_half}[300]", f"{_half}[300]")
    _add(f"comparisons of {_half}", _comparisons, f"{_half}[300]", f"{_half}[300]")
    _add(f"conversions of {_half}", _to_everything, f"{_half}[300]")
    _others = [name for name in (*BOOL_AND_NUMBERS, "f16", "bf16") if name != _half]
    _add(f"conversions to {_half}", _from_everything(_half), *[f"{name}[300]" for name in _others])
    _add(f"row reductions of {_half}", _reductions(1), f"{_half}[19,70]")
    _add(f"column reductions of {_half}", _reductions(0), f"{_half}[70,19]")
    _add(f"short reductions of {_half}", _reductions(1), f"{_half}[50,6]")
    _add(f"softmax of rows of {_half}", _softmax, f"{_half}[19,33]")
    _add(f"scatter add of rows of {_half}", _scatter("add", 0), f"{_half}[12,33]", f"{_half}[40,33]", "i64[40]")
    _add(f"running sums of {_half}", lambda e, x: e.cumulative_sum(x, axis=1), f"{_half}[5,70]")
for _extent in (4096, 32768, 60000):
    _add(f"softmax of rows of {_extent} bf16", _softmax, f"bf16[8,{_extent}]")
_add("layer norm bf16", _normalize, "bf16[5,2048]", "bf16[2048]")
_add("gradients of a layer norm bf16", _norm_backward, "bf16[70,129]", "bf16[129]", "bf16[70,129]")
_add("sum of a long vector bf16", _sum(0), "bf16[70001]")
_add("columns of many blocks bf16", _sum(0), "bf16[20000,7]")
_add("mixed precision", _mixed, "bf16[300]", "f32[300]", "bf16[300]", "f32[]")
_add("updates in bf16", _updates, "bf16[]", *["bf16[900]"] * 2, *["bf16[1025]"] * 2)
_add("recurrence bf16", partial(_elementwise("linear_recurrence"), axis=1), *["bf16[5,70]"] * 2)
_add("running extremes bf16", partial(_elementwise("cumulative_extremum"), axis=0, smallest=False), "bf16[300]")
_add(
    "gather and concatenate f16",
    lambda e, x, i: e.concatenate(x, _gelu(e, _gather_rows(e, x, i)), dimension=0),
    "f16[12,33]",
    "i64[40]",
)
_add("transpose of bf16", lambda e, x: e.negate(e.transpose(x, permutation=(2, 0, 3, 1))), "bf16[3,17,5,20]")
_add("selected halves", lambda e, p, x: e.select(p, x, e.scalar(0.5, x.dtype)), "bool[300]", "f16[300]")


# Complex numbers


def _complex_arithmetic(e: Emitter, x: Any, y: Any) -> list[Any]:
    results = [getattr(e, name)(x, y) for name in ("add", "subtract", "multiply", "divide")]
    results += [e.negate(x), e.conjugate(x), e.complex_abs(x), e.complex(e.real(x), e.imag(y))]
    is_equal = e.compare(x, y, direction="eq")
    return [*results, is_equal, e.select(is_equal, x, y)]


def _complex_copies(e: Emitter, x: Any, i: Any) -> list[Any]:
    turned = e.transpose(x, permutation=(1, 0))
    return [e.negate(turned), e.concatenate(e.gather(x, i, axes=(0,)), x, dimension=0)]


def _complex_sums(e: Emitter, x: Any) -> list[Any]:
    return [*(e.reduce_sum(x, axes=axes) for axes in ((0,), (1,), (0, 1))), e.reduce_max(e.complex_abs(x), axes=(1,))]


for _dtype in ("c64", "c128"):
    _add(f"arithmetic {_dtype}", _complex_arithmetic, f"{_dtype}[300]", f"{_dtype}[300]")
    _add(f"copies of {_dtype}", _complex_copies, f"{_dtype}[40,50]", "i64[9]")
    _add(f"sums of {_dtype}", _complex_sums, f"{_dtype}[70,90]")
_add("sum of a long vector c64", _sum(0), "c64[70001]")
_add("conversions to c64", _from_everything("c64"), "f16[300]", "f32[300]", "f64[300]", "i32[300]", "c128[300]")
