"""Random graphs and arguments for them: what the fuzz tests of the passes and of the backends draw from.

``random_graphs()`` draws graphs built from the primitives (small ones, for what is slow on large arrays; of any
extents, for the backends), ``random_arguments(graph)`` arrays with NaN, infinities, subnormals, both zeros and the
integers' ends among them.  :func:`reference` evaluates an op to the bit as the
language defines it, where NumPy leaves bits open (the order of a sum, the maximum of -0.0 and 0.0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from tracejit.ir import PRIMITIVES, Builder, Constant, Graph, Location, Primitive, TensorType, Value
from tracejit.ir.interpreter import evaluate_with_numpy
from tracejit.ir.primitives.reduction import ordered_reduce
from tracejit.ir.types import (
    DType,
    bool_,
    broadcast_shapes,
    float32,
    float64,
    int32,
    int64,
    is_floating,
    is_integer,
    uint32,
    uint64,
)

DTYPES = (float32, float64, int32, int64, bool_)
EXTENTS = (0, 1, 1, 2, 3)
MAX_SIZE = 200
LOCATIONS = (None, Location("demo.py", 3), Location("demo.py", 4, ("nn.py", 7), gradient=True))
NAMES = (None, None, "x", "h", "loss", "w1'", "v3", "a b", "é")

Draw = Callable[[st.SearchStrategy[Any]], Any]

# Graphs ---------------------------------------------------------------------------------------------


@st.composite
def random_graphs(
    draw: Draw,
    max_ops: int = 10,
    dtypes: Sequence[DType] = DTYPES,
    extents: Sequence[int] = EXTENTS,
    max_size: int = MAX_SIZE,
    ops: Sequence[ApplyOp] | None = None,
    all_alive: bool = False,
) -> Graph:
    """A graph of up to ``max_ops`` of the ``ops`` (and a few that make operands fit), which returns some of its values.

    Axes are as long as one of ``extents`` says; no value has more than ``max_size`` elements.  ``all_alive``: the
    graph returns whatever nothing else reads.
    """
    maker = _GraphMaker(draw, dtypes, extents, max_size, ops or OPS)
    graph = maker.make(draw(st.integers(1, max_ops)))
    if all_alive:
        used = graph.uses()
        graph.results += [value for value in maker.values if value not in used]
        graph.result_names.clear()
    return graph


class _GraphMaker:
    """Grows a graph: draws an op, and operands for it among the values so far."""

    def __init__(
        self, draw: Draw, dtypes: Sequence[DType], extents: Sequence[int], max_size: int, ops: Sequence[ApplyOp]
    ) -> None:
        self.draw = draw
        self.dtypes = list(dtypes)
        self.extents = list(extents)
        self.max_size = max_size
        self.ops = ops
        self.graph = Graph("random")
        self.builder = Builder(self.graph)
        self.values: list[Value] = []

    def make(self, ops: int) -> Graph:
        for _ in range(self.draw(st.integers(1, 3))):
            type = TensorType(self.pick(self.dtypes), self.shape())
            source = self.pick((None, None, "model.0.weight", "self.layers[0].bias"))
            self.values.append(self.builder.parameter(type, self.pick(NAMES), source))
        while len(self.graph.ops) < ops:
            self.builder.location = self.pick(LOCATIONS)
            before, known = len(self.graph.ops), len(self.values)
            try:
                value = self.pick(self.ops)(self)
            except TypeError:
                if not any(dtype.kind == "c" for dtype in self.dtypes):  # which many primitives are not defined for
                    raise
                value = None
            if value is None or value.type.size > self.max_size:
                del self.graph.ops[before:], self.values[known:]
            else:
                value.name = self.pick(NAMES)
                self.values.append(value)
        self.graph.results = [self.pick(self.values) for _ in range(self.draw(st.integers(0, 2)))] + self.values[-1:]
        if self.draw(st.booleans()):
            self.graph.result_names = ["loss", "model.0.weight'", "a result"][: len(self.graph.results)]
        return self.graph

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.draw(st.integers(0, len(choices) - 1))]

    def shape(self, max_ndim: int = 3) -> tuple[int, ...]:
        shape: list[int] = []
        for _ in range(self.draw(st.integers(0, max_ndim))):
            extent = self.pick(self.extents)
            shape.append(extent if extent * math.prod(shape) <= self.max_size else 1)
        return tuple(shape)

    def value(self, fits: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A value made so far that fits."""
        fitting = [value for value in self.values if fits(value)]
        return self.pick(fitting) if fitting else None

    def partner(self, value: Value) -> Value:
        """A value that broadcasts with ``value``: one made so far, a constant, or a constant's broadcast."""
        found = self.value(lambda other: other.dtype == value.dtype and self.broadcast(other, value))
        kind = self.draw(st.integers(0, 3))
        if found is not None and kind <= 1:
            return found
        if kind == 2 or not value.ndim:
            return self.constant(value.dtype, tuple(self.pick((1, extent)) for extent in value.shape))
        return self.apply("broadcast_in_dim", self.constant(value.dtype, ()), shape=value.shape, dimensions=())

    def constant(self, dtype: DType, shape: tuple[int, ...]) -> Constant:
        count = math.prod(shape)
        elements = [self.draw(special_numbers(dtype)) for _ in range(min(count, 2))]
        return Constant(np.resize(np.array(elements, dtype), shape))

    def apply(self, name: str, *operands: Value, **attributes: Any) -> Value:
        return self.builder.apply(PRIMITIVES[name], operands, attributes)

    def broadcast(self, x: Value, y: Value) -> bool:
        """Whether the two broadcast together, to something that is not too large."""
        try:
            return TensorType(x.dtype, broadcast_shapes(x.shape, y.shape)).size <= self.max_size
        except ValueError:
            return False


ApplyOp = Callable[[_GraphMaker], Value | None]


def _numeric(value: Value) -> bool:
    return value.dtype != bool_


# One function a kind of op: it applies one, or gives None where no value fits.


def _binary(m: _GraphMaker) -> Value | None:
    x = m.value()
    if x is None:
        return None
    if x.dtype == bool_:
        names = ["and", "or", "xor", "maximum"]
    else:
        names = ["add", "subtract", "multiply", "maximum", "minimum"]
        names += ["divide"] if is_floating(x.dtype) else ["and", "or", "xor"]
    operands = [x, m.partner(x)]
    return m.apply(m.pick(names), *(operands[::-1] if m.draw(st.booleans()) else operands))


def _unary(m: _GraphMaker) -> Value | None:
    x = m.value()
    if x is None:
        return None
    if x.dtype == bool_:
        return m.apply("not", x)
    names = ["negate", "negate", "abs", "sign"]
    names += ["sqrt", "floor", "is_finite"] if is_floating(x.dtype) else ["not"]
    names += ["exponential"] if x.dtype in (float32, float64) else []
    return m.apply(m.pick(names), x)


def _compare(m: _GraphMaker) -> Value | None:
    x = m.value()
    return None if x is None else m.apply("compare", x, m.partner(x), direction=m.pick(("eq", "ne", "lt", "ge")))


def _select(m: _GraphMaker) -> Value | None:
    x = m.value()
    if x is None:
        return None
    y = m.pick((x, m.partner(x)))
    predicate = m.value(lambda p: p.dtype == bool_ and m.broadcast(p, x) and m.broadcast(p, y))
    if predicate is None or m.draw(st.integers(0, 3)) == 0:
        predicate = m.constant(bool_, ())
    try:
        return m.apply("select", predicate, *((x, y) if m.draw(st.booleans()) else (y, x)))
    except ValueError:
        return None  # each two of them broadcast, the three do not


def _convert(m: _GraphMaker) -> Value | None:
    x = m.value()
    return None if x is None else m.apply("convert", x, dtype=m.pick(m.dtypes))


def _broadcast_in_dim(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.ndim < 4)
    if x is None:
        return None
    shape: list[int] = []
    dimensions = []
    for extent in x.type.static_shape:
        if m.draw(st.integers(0, 3)) == 0:
            shape.append(m.pick(m.extents))
        dimensions.append(len(shape))
        shape.append(m.pick(m.extents) if extent == 1 else extent)
    if not shape or m.draw(st.integers(0, 3)) == 0:
        shape.append(m.pick(m.extents))
    if math.prod(shape) > m.max_size or len(shape) > 5:
        return None
    return m.apply("broadcast_in_dim", x, shape=tuple(shape), dimensions=tuple(dimensions))


def _reshape(m: _GraphMaker) -> Value | None:
    x = m.value()
    if x is None:
        return None
    flat = (x.type.size,)
    squeezed = tuple(extent for extent in x.type.static_shape if extent != 1)
    return m.apply("reshape", x, shape=m.pick((flat, squeezed, (1, *squeezed), x.shape[::-1], x.shape)))


def _transpose(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.ndim > 0)
    return None if x is None else m.apply("transpose", x, permutation=tuple(m.draw(st.permutations(range(x.ndim)))))


def _slice(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.ndim > 0)
    if x is None:
        return None
    start = tuple(m.draw(st.integers(0, extent)) if m.draw(st.booleans()) else 0 for extent in x.type.static_shape)
    limit = tuple(
        m.draw(st.integers(first, extent)) if m.draw(st.booleans()) else extent
        for first, extent in zip(start, x.type.static_shape, strict=True)
    )
    return m.apply("slice", x, start=start, limit=limit, strides=tuple(m.pick((1, 1, 2)) for _ in start))


def _reverse(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.ndim > 0)
    return None if x is None else m.apply("reverse", x, dimensions=(m.draw(st.integers(0, x.ndim - 1)),))


def _reduce(m: _GraphMaker) -> Value | None:
    name = m.pick(("reduce_sum", "reduce_product", "reduce_max", "reduce_min", "reduce_and", "reduce_or"))
    accepts: Callable[[Value], bool] = lambda value: True  # noqa: E731
    if name in ("reduce_sum", "reduce_product"):
        accepts = _numeric
    elif name in ("reduce_and", "reduce_or"):
        accepts = lambda value: not is_floating(value.dtype)  # noqa: E731
    x = m.value(accepts)
    if x is None:
        return None
    axes = tuple(axis for axis in range(x.ndim) if m.draw(st.booleans()))
    if name in ("reduce_max", "reduce_min") and any(x.shape[axis] == 0 for axis in axes):
        return None
    return m.apply(name, x, axes=axes)


def _dot(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.ndim >= 2 and _numeric(value))
    if x is None:
        return None
    transposed = m.draw(st.booleans())
    *batch, rows, columns = x.type.static_shape
    inner, outer = (rows if transposed else columns), m.pick(m.extents)
    other = m.value(lambda value: value.type == TensorType(x.dtype, (*batch, inner, outer)))
    if other is not None:
        return m.apply("dot", x, other, transpose_lhs=transposed)
    if m.draw(st.booleans()):
        return m.apply("dot", x, x, transpose_lhs=transposed, transpose_rhs=not transposed)
    swapped = m.apply("transpose", x, permutation=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
    return m.apply("dot", x, swapped, transpose_lhs=transposed, transpose_rhs=transposed)


def _pad(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: 0 < value.ndim <= 2)
    if x is None:
        return None
    low, high, interior = (tuple(m.pick((0, 0, 1)) for _ in x.shape) for _ in range(3))
    return m.apply("pad", x, m.constant(x.dtype, ()), low=low, high=high, interior=interior)


def _concatenate(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.ndim > 0 and value.type.size <= 0.3 * m.max_size)
    if x is None:
        return None
    others = [value for value in m.values if value.type == x.type]
    operands = [x, *(m.pick(others) for _ in range(m.draw(st.integers(0, 2))))]
    return m.apply("concatenate", *operands, dimension=m.draw(st.integers(0, x.ndim - 1)))


def _indices(m: _GraphMaker) -> Value:
    found = m.value(lambda value: is_integer(value.dtype) and value.ndim <= 2 and value.type.size <= 9)
    return found if found is not None else Constant(np.array([0, 5, -1, 1], int64))


def _gather(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: 0 < value.ndim <= 2 and value.type.size > 0)
    return None if x is None else m.apply("gather", x, _indices(m), axes=(m.draw(st.integers(0, x.ndim - 1)),))


def _scatter(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: 0 < value.ndim <= 2 and value.type.size > 0 and _numeric(value))
    if x is None:
        return None
    indices, axes = _indices(m), (m.draw(st.integers(0, x.ndim - 1)),)
    gathered = m.apply("gather", x, indices, axes=axes)
    return m.apply("scatter", x, gathered, indices, axes=axes, combine=m.pick(("add", "set")))


def _iota(m: _GraphMaker) -> Value | None:
    return m.apply("iota", size=m.pick(m.extents), dtype=m.pick([dtype for dtype in m.dtypes if dtype != bool_]))


def _update_slice(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.ndim > 0 and value.type.size > 0)
    update = x and m.value(
        lambda value: (
            value.dtype == x.dtype
            and value.ndim == x.ndim
            and all(part <= whole for part, whole in zip(value.type.static_shape, x.type.static_shape, strict=True))
        )
    )
    if x is None or update is None:
        return None
    start, strides = [], []
    for whole, part in zip(x.type.static_shape, update.type.static_shape, strict=True):
        strides.append(m.pick((1, 2)) if 2 * part <= whole else 1)
        start.append(m.draw(st.integers(0, whole - 1 - (part - 1) * strides[-1] if part else whole)))
    return m.apply("update_slice", x, update, start=tuple(start), strides=tuple(strides))


def _random_bits(m: _GraphMaker) -> Value | None:
    key, offset = (Constant(np.array(m.pick((0, 1, 2**32, 2**64 - 1)), uint64)) for _ in range(2))
    bits = m.apply("random_bits", key, offset, size=m.pick(m.extents))
    dtype = m.pick([*m.dtypes, uint32])
    return bits if dtype == uint32 else m.apply("convert", bits, dtype=dtype)


def _function(m: _GraphMaker) -> Value | None:
    x = m.value(lambda value: value.dtype in (float32, float64))
    if x is None:
        return None
    name = m.pick(("exponential", "log", "tanh", "sine", "logistic", "rsqrt", "power", "erf", "round_nearest_even"))
    return m.apply(name, x, m.partner(x)) if name == "power" else m.apply(name, x)


def _binary_to_the_bit(m: _GraphMaker) -> Value | None:
    x = m.value(_numeric)
    if x is None:
        return None
    names = ["floor_quotient", "floor_remainder", "integer_power", "shift_left", "shift_right_arithmetic"]
    if is_floating(x.dtype):
        names = ["remainder", "floor_divide"] + (["copysign", "next_after"] if x.dtype in (float32, float64) else [])
    return m.apply(m.pick(names), x, m.partner(x))


def _by_numpy(m: _GraphMaker) -> Value | None:
    """An op that the backend leaves to NumPy."""
    x = m.value(lambda value: value.ndim > 0 and _numeric(value))
    if x is None:
        return None
    axis = m.draw(st.integers(0, x.ndim - 1))
    if m.draw(st.booleans()):
        return m.apply("argsort", x, axis=axis, descending=m.draw(st.booleans()))
    return m.apply(m.pick(("cumulative_sum", "cumulative_product")), x, axis=axis)


def _complex(m: _GraphMaker) -> Value | None:
    z = m.value(lambda value: value.dtype.kind == "c")
    if z is not None and m.draw(st.booleans()):
        return m.apply(m.pick(("real", "imag", "conjugate", "complex_abs")), z)
    x = m.value(lambda value: value.dtype in (float32, float64))
    return None if x is None else m.apply("complex", x, m.partner(x))


def _normalize(m: _GraphMaker) -> Value | None:
    """A row kernel: a reduction, its result put back beside the axes that stayed, and a reduction of that."""
    x = m.value(lambda value: value.ndim > 0 and is_floating(value.dtype) and value.type.size > 0)
    if x is None:
        return None
    axes = tuple(axis for axis in range(x.ndim) if m.draw(st.booleans())) or (x.ndim - 1,)
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
    for name, combine in (("reduce_max", "subtract"), ("reduce_sum", "multiply")):
        reduced = m.apply("reshape", m.apply(name, x, axes=axes), shape=kept)
        if m.draw(st.booleans()):
            m.values.append(reduced)
        x = m.apply(combine, x, reduced)
    return x


OPS: tuple[ApplyOp, ...] = (
    _binary, _binary, _binary, _unary, _compare, _select, _convert, _broadcast_in_dim, _broadcast_in_dim, _reshape,
    _transpose, _slice, _reverse, _reduce, _dot, _pad, _concatenate, _gather, _scatter, _iota,
)  # fmt: skip
BACKEND_OPS: tuple[ApplyOp, ...] = (
    *OPS, _reduce, _reduce, _normalize, _update_slice, _random_bits, _function, _binary_to_the_bit, _by_numpy,
)  # fmt: skip
COMPLEX_OPS: tuple[ApplyOp, ...] = (*BACKEND_OPS, _complex, _complex)

# Arguments ------------------------------------------------------------------------------------------


def special_numbers(dtype: DType) -> st.SearchStrategy[Any]:
    """Numbers of ``dtype``, those that break things more often than others."""
    if dtype.kind == "c":
        part = special_numbers(np.dtype(f"f{dtype.itemsize // 2}"))
        return st.builds(complex, part, part)
    if dtype == bool_:
        return st.booleans()
    if is_integer(dtype):
        ends = np.iinfo(dtype)
        return st.sampled_from([0, 1, -1, 2, 3, ends.min, ends.max] if ends.min else [0, 1, 2, 3, ends.max])
    limits: Any = ml_dtypes.finfo(dtype)
    extremes = [math.inf, -math.inf, math.nan, float(limits.max), float(limits.smallest_subnormal)]
    return st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -8.0, 3.0, 0.1, *extremes])


@st.composite
def random_arguments(draw: Draw, graph: Graph) -> list[np.ndarray]:
    """An array for each parameter of ``graph``: a few special numbers over and over, or numbers that all differ."""
    arguments = []
    for parameter in graph.parameters:
        shape, dtype, size = parameter.type.static_shape, parameter.dtype, parameter.type.size
        if size > 6 and draw(st.booleans()):
            arguments.append(varied_numbers(draw(st.integers(0, 1 << 16)), shape, dtype))
            continue
        elements = draw(st.lists(special_numbers(dtype), min_size=min(size, 6), max_size=min(size, 6)))
        arguments.append(np.resize(np.array(elements, dtype), shape))
    return arguments


def varied_numbers(seed: int, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Numbers of every size (subnormal ones too) and sign, whose sum depends on its order."""
    if dtype.kind == "c":
        part = np.dtype(f"f{dtype.itemsize // 2}")
        return (varied_numbers(seed, shape, part) + 1j * varied_numbers(seed + 1, shape, part)).astype(dtype)
    generator = np.random.default_rng(seed)
    if dtype == bool_:
        return generator.integers(0, 2, shape).astype(bool)
    if is_integer(dtype):
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    scale = float(generator.choice([1.0, 1.0, 1e3, 4 * float(ml_dtypes.finfo(dtype).smallest_normal)]))
    return (generator.standard_normal(shape) * 2.0 ** generator.integers(-4, 5, shape) * scale).astype(dtype)


# The reference --------------------------------------------------------------------------------------


def reference(primitive: Primitive, arrays: tuple[Any, ...], attributes: Mapping[str, Any]) -> Any:
    """An op's result to the bit, as the language defines it."""
    with np.errstate(all="ignore"):
        if primitive.name in ("maximum", "minimum"):
            return _extremum(primitive.name)(*arrays)
        if primitive.name in REDUCTIONS:
            return _reduce_in_order(primitive.name, *arrays, **attributes)
        if primitive.name == "dot":
            return _dot_in_order(*arrays, **attributes)
        if primitive.name == "exponential":  # one element at a time: NumPy's vector loops may differ in the last bit
            return np.array([np.exp(x) for x in arrays[0].ravel()], arrays[0].dtype).reshape(arrays[0].shape)
    return evaluate_with_numpy(primitive, arrays, attributes)


def _extremum(name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The maximum or minimum by IEEE 754-2019: NaN wins, and -0.0 is less than 0.0."""

    def evaluate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        result = np.asarray(getattr(np, name)(x, y))
        if is_floating(x.dtype):
            negative = np.signbit(x) & np.signbit(y) if name == "maximum" else np.signbit(x) | np.signbit(y)
            zeros = np.where(negative, x.dtype.type(-0.0), x.dtype.type(0.0))
            result = np.where((x == 0) & (y == 0), zeros, result)
        return result

    return evaluate


REDUCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "reduce_sum": np.add,
    "reduce_product": np.multiply,
    "reduce_max": _extremum("maximum"),
    "reduce_min": _extremum("minimum"),
    "reduce_and": np.bitwise_and,
    "reduce_or": np.bitwise_or,
}


def _reduce_in_order(name: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(x.shape[axis] for axis in kept)
    elements = x.transpose([*kept, *axes]).reshape(*shape, math.prod(x.shape[axis] for axis in axes))
    identity = PRIMITIVES[name].identity(x.dtype)  # type: ignore[attr-defined]
    return np.asarray(ordered_reduce(elements, REDUCTIONS[name], identity))  # type: ignore[arg-type]


def _dot_in_order(
    lhs: np.ndarray, rhs: np.ndarray, transpose_lhs: bool = False, transpose_rhs: bool = False
) -> np.ndarray:
    """Products summed in increasing k: not the language's fused multiply-adds, but the same for any layout."""
    lhs, rhs = (lhs.mT if transpose_lhs else lhs), (rhs.mT if transpose_rhs else rhs)
    result = np.zeros((*lhs.shape[:-1], rhs.shape[-1]), lhs.dtype)
    for k in range(lhs.shape[-1]):
        result = result + lhs[..., :, k, None] * rhs[..., None, k, :]
    return result


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two arrays are of one type and equal, -0.0 and 0.0 told apart; any NaN equals any other."""
    if x.dtype != y.dtype or x.shape != y.shape:
        return False
    if x.dtype.kind == "c":
        return same_bits(x.real, y.real) and same_bits(x.imag, y.imag)
    if not is_floating(x.dtype):
        return bool(np.array_equal(x, y))
    return bool(np.array_equal(x, y, equal_nan=True) and np.all((np.signbit(x) == np.signbit(y)) | np.isnan(x)))
