"""Algebraic simplification: a table of rewrites, each of them exact.

Exact means that no value changes, be it infinite or -0.0 (NaN stays NaN; its sign and payload are open, as IEEE
754 leaves them open: ``x * -1`` may become ``negate x``).  So ``x + 0.0`` stays, for it turns -0.0 into 0.0,
while ``x + (-0.0)`` goes.  A rule gets an op that is about to be emitted, and returns a value that equals its
result, or ``None``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..facts import facts
from ..graph import Constant, Emit, Graph, Op, Value
from ..primitive import Elementwise, Primitive, Reduction, View
from ..primitives.contraction import dot
from ..primitives.elementwise import add, convert, divide, logical_not, multiply, negate, select, subtract
from ..primitives.placement import concatenate, pad
from ..primitives.reduction import reduce_product
from ..primitives.view import broadcast_in_dim, named, reshape, slice_, stop_gradient, transpose
from ..types import HALF_DTYPES, KERNEL_DTYPES, DType, TensorType, bool_, is_floating


def simplify(graph: Graph) -> Graph:
    """``graph`` after the rules of this module, in one forward walk; what a rule makes is simplified too.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[2,3]) -> (f32[2,3]) {
    ...   %a = multiply %x, 1.0  : f32[2,3]
    ...   %b = multiply %a, -1.0 : f32[2,3]
    ...   return %b
    ... }''')
    >>> print(simplify(graph))
    func @f(%x: f32[2,3]) -> (f32[2,3]) {
      %b = negate %x : f32[2,3]
      return %b
    }
    """

    uses = graph.uses()

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if len(op.results) != 1 or not _rules(op.primitive):
            return None
        alone = all(uses[operand] == 1 for operand in op.operands)
        value = _Candidate(op.primitive, operands, op.attributes, op.results[0].type, emit, alone).simplified()
        return None if value is None else (value,)

    return graph.rewrite(rewrite)


@facts
class _Candidate:
    """An op that is about to be emitted."""

    primitive: Primitive
    operands: tuple[Value, ...]
    attributes: Mapping[str, Any]
    type: TensorType
    emit: Emit
    reads_alone: bool = False  # nothing else is known to read its operands

    def simplified(self) -> Value | None:
        """What the first rule that fits gives."""
        for rule in _rules(self.primitive):
            value = rule(self)
            if value is not None:
                return value
        return None

    def make(self, primitive: Primitive, *operands: Value, **attributes: Any) -> Value:
        """Emit another op, or what is simpler."""
        type = primitive.infer([operand.type for operand in operands], attributes)
        value = _Candidate(primitive, operands, attributes, type, self.emit).simplified()
        return self.emit(primitive, operands, attributes) if value is None else value

    def stretched(self, value: Value) -> Value:
        """``value`` broadcast to the shape of this op's result by NumPy's rule."""
        shape = self.type.shape
        if value.shape == shape:
            return value
        return self.make(broadcast_in_dim, value, shape=shape, dimensions=_aligned_right(value.ndim, len(shape)))


Rule = Callable[[_Candidate], Value | None]

# Kinds of primitives --------------------------------------------------------------------------------


def _stretch_later(op: _Candidate) -> Value | None:
    """An elementwise op broadcasts by itself: it reads what was stretched, and its result is stretched if need be.

    ``multiply(x, broadcast(2.0))`` is ``multiply(x, 2.0)``, and ``exp(broadcast(x))`` is ``broadcast(exp(x))``.
    """
    for operand in op.operands:
        if operand.op is not None and operand.op.primitive is broadcast_in_dim:
            break
    else:
        return None
    sources = tuple([_before_stretching(operand) for operand in op.operands])
    return None if sources == op.operands else op.stretched(op.make(op.primitive, *sources, **op.attributes))


def _before_stretching(value: Value) -> Value:
    """The operand of a broadcast by NumPy's rule, else ``value``."""
    if not _is_made_by(value, broadcast_in_dim):
        return value
    source = _operand(value)
    return source if _attribute(value, "dimensions") == _aligned_right(source.ndim, value.ndim) else value


def _aligned_right(ndim: int, result_ndim: int) -> tuple[int, ...]:
    """The ``dimensions`` of a broadcast by NumPy's rule."""
    return tuple(range(result_ndim - ndim, result_ndim))


def _view_of_scalar(op: _Candidate) -> Value | None:
    """A view of a scalar's broadcast is the scalar's broadcast to another shape."""
    (x,) = op.operands
    if _is_made_by(x, broadcast_in_dim) and _operand(x).ndim == 0:
        return op.stretched(_operand(x))
    return None


def _reduce_single_elements(op: _Candidate) -> Value | None:
    """The reduction of one element is the element; a complex product by 1 may change the signs of zeros."""
    (x,) = op.operands
    if op.primitive is reduce_product and x.dtype.kind == "c":
        return None
    if all(x.shape[axis] == 1 for axis in op.attributes["axes"]):
        return op.make(reshape, x, shape=op.type.shape)
    return None


# Elementwise ----------------------------------------------------------------------------------------


def _add(op: _Candidate) -> Value | None:
    for x, y in (op.operands, op.operands[::-1]):
        number = _number(y)
        if number == 0 and (isinstance(number, int) or math.copysign(1, number) < 0 or _is_never_minus_zero(x)):
            return op.stretched(x)
        if _is_made_by(y, negate):
            return op.make(subtract, x, _operand(y))
        before = _add_to_product(op, x, y)
        if before is not None:
            return before
    return None


def _add_to_product(op: _Candidate, x: Value, y: Value) -> Value | None:
    """Adding to a view of a product is a view of adding to the product, which makes it a part of the product.

    Where that is a number, or a row and the view keeps the rows as they are.  The product of halves is rounded first.
    """
    if x.dtype in HALF_DTYPES or x.shape != op.type.shape or not (_is_made_by(x, reshape) or _is_made_by(x, transpose)):
        return None
    source = _operand(x)
    keeps_rows = _is_made_by(x, reshape) and y.ndim == 1 and y.shape == x.shape[-1:] == source.shape[-1:]
    if not (y.ndim == 0 or keeps_rows):
        return None
    inner = source
    while _is_made_by(inner, reshape) or _is_made_by(inner, transpose):
        inner = _operand(inner)
    if not _is_made_by(inner, dot):
        return None
    assert x.op is not None
    return op.make(x.op.primitive, op.make(add, source, y), **x.op.attributes)


def _is_never_minus_zero(x: Value) -> bool:
    """Whether no element is -0.0: where 0.0 has been added to all of them already."""
    if x.op is None:
        return type(x) is Constant and x.dtype.kind == "f" and not np.any((x.array == 0) & np.signbit(x.array))
    if x.op.primitive is concatenate:
        return all(map(_is_never_minus_zero, x.op.operands))
    return (x.op.primitive is broadcast_in_dim and _is_never_minus_zero(_operand(x))) or (
        x.op.primitive is add and any(_number(y) == 0 and math.copysign(1, _number(y)) > 0 for y in x.op.operands)
    )


def _subtract(op: _Candidate) -> Value | None:
    x, y = op.operands
    number = _number(y)
    if number == 0 and (isinstance(number, int) or math.copysign(1, number) > 0):
        return op.stretched(x)
    return op.make(add, x, _operand(y)) if _is_made_by(y, negate) else None


def _multiply(op: _Candidate) -> Value | None:
    for x, y in (op.operands, op.operands[::-1]):
        number = _number(y)
        if number == 1:
            return op.stretched(x)
        if number == -1:
            return op.stretched(op.make(negate, x))
    return None


def _divide(op: _Candidate) -> Value | None:
    x, y = op.operands
    return op.stretched(x) if _number(y) == 1 else None


def _undo_itself(op: _Candidate) -> Value | None:
    """Twice negate, or twice not, is nothing."""
    (x,) = op.operands
    return _operand(x) if _is_made_by(x, op.primitive) else None


def _select(op: _Candidate) -> Value | None:
    predicate, on_true, on_false = op.operands
    chosen = _number(predicate)
    if chosen is not None:
        return op.stretched(on_true if chosen else on_false)
    return op.stretched(on_true) if _is_same(on_true, on_false) else None


def _convert(op: _Candidate) -> Value | None:
    (x,) = op.operands
    if x.dtype == op.type.dtype:
        return x
    if _is_made_by(x, convert) and _keeps_values(_operand(x).dtype, x.dtype):
        return op.make(convert, _operand(x), dtype=op.type.dtype)
    return None


def _keeps_values(source: DType, target: DType) -> bool:
    """Whether ``target`` holds every value of ``source``, and converts it on as ``source`` would."""
    if is_floating(source):
        return is_floating(target) and np.promote_types(source, target) == target
    return source == bool_ or (source.kind == target.kind and source.itemsize <= target.itemsize)


# Views, placements, products ------------------------------------------------------------------------


def _broadcast_in_dim(op: _Candidate) -> Value | None:
    (x,) = op.operands
    if x.shape == op.type.shape:
        return x
    if _is_made_by(x, broadcast_in_dim):
        dimensions = tuple(op.attributes["dimensions"][axis] for axis in _attribute(x, "dimensions"))
        return op.make(broadcast_in_dim, _operand(x), shape=op.type.shape, dimensions=dimensions)
    return None


def _stop_gradient(op: _Candidate) -> Value | None:
    """Derivatives have been taken by now, and policies asked."""
    return op.operands[0]


def _reshape(op: _Candidate) -> Value | None:
    (x,) = op.operands
    if x.shape == op.type.shape:
        return x
    return op.make(reshape, _operand(x), shape=op.type.shape) if _is_made_by(x, reshape) else None


def _transpose(op: _Candidate) -> Value | None:
    (x,) = op.operands
    permutation = op.attributes["permutation"]
    if permutation == tuple(range(x.ndim)):
        return x
    if _is_made_by(x, transpose):
        inner = _attribute(x, "permutation")
        return op.make(transpose, _operand(x), permutation=tuple(inner[axis] for axis in permutation))
    is_swap = permutation == (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    if is_swap and op.reads_alone and _is_made_by(x, dot) and x.dtype in KERNEL_DTYPES | HALF_DTYPES:
        assert x.op is not None
        lhs, rhs = (
            x.op.operands
        )  # (l @ r)^T is r^T @ l^T, to the bit: the order of sums stays, but for NumPy's products
        flags = [not x.op.attributes.get(name, False) for name in ("transpose_rhs", "transpose_lhs")]
        return op.make(dot, rhs, lhs, transpose_lhs=flags[0], transpose_rhs=flags[1])
    return None


def _pad(op: _Candidate) -> Value | None:
    """Padding by nothing."""
    return op.operands[0] if op.operands[0].shape == op.type.shape else None


def _slice(op: _Candidate) -> Value | None:
    """A slice of everything, of another slice, of one part of a concatenation (split by a reshape or not), or of the
    inside or outside of a pad."""
    (x,) = op.operands
    if x.shape == op.type.shape:
        return x
    start, limit, strides = (op.attributes[name] for name in ("start", "limit", "strides"))
    if x.op is None or 0 in op.type.shape:
        return None
    if x.op.primitive is slice_:
        inner, steps = _attribute(x, "start"), _attribute(x, "strides")
        return op.make(
            slice_, _operand(x),
            start=tuple(i + s * t for i, s, t in zip(inner, start, steps, strict=True)),
            limit=tuple(i + (s - 1) * t + 1 for i, s, t in zip(inner, limit, steps, strict=True)),
            strides=tuple(s * t for s, t in zip(strides, steps, strict=True)),
        )  # fmt: skip
    if x.op.primitive is concatenate:
        axis, position = _attribute(x, "dimension"), 0
        for part in x.op.operands:
            stop = position + part.type.static_shape[axis]
            if position <= start[axis] and limit[axis] <= stop:
                return _slice_of_part(op, part, tuple(position if i == axis else 0 for i in range(x.ndim)))
            position = stop
    if x.op.primitive is reshape and _is_made_by(_operand(x), concatenate) and set(strides) == {1}:
        return _slice_of_split(op, _operand(x))
    if x.op.primitive is pad and not any(_attribute(x, "interior")):
        part, fill = x.op.operands
        low = _attribute(x, "low")
        stop = tuple(first + extent for first, extent in zip(low, part.type.static_shape, strict=True))
        if all(a <= b and c <= d for a, b, c, d in zip(low, start, limit, stop, strict=True)):
            return _slice_of_part(op, part, low)
        if any(b <= a or d <= c for a, b, c, d in zip(low, limit, start, stop, strict=True)):
            return op.stretched(fill)
    return None


def _slice_of_part(op: _Candidate, part: Value, corner: Sequence[int]) -> Value:
    """The same slice of a part of its operand that begins at ``corner``."""
    start, limit = (
        tuple(position - first for position, first in zip(op.attributes[name], corner, strict=True))
        for name in ("start", "limit")
    )
    return op.make(slice_, part, start=start, limit=limit, strides=op.attributes["strides"])


def _slice_of_split(op: _Candidate, whole: Value) -> Value | None:
    """Some of the parts that a reshape has split the first axis of ``whole`` into, taken before that."""
    (x,), parts = op.operands, op.operands[0].type.static_shape
    start, limit = op.attributes["start"], op.attributes["limit"]
    if whole.ndim + 1 != x.ndim or whole.shape[1:] != x.shape[2:] or any(start[1:]) or limit[1:] != parts[1:]:
        return None
    rows = tuple(position * parts[1] for position in (start[0], limit[0]))
    taken = op.make(slice_, whole, start=(rows[0], *start[2:]), limit=(rows[1], *limit[2:]), strides=(1,) * whole.ndim)
    return op.make(reshape, taken, shape=op.type.shape)


def _concatenate(op: _Candidate) -> Value | None:
    dimension = op.attributes["dimension"]
    filled = [operand for operand in op.operands if operand.shape[dimension] != 0] or op.operands[:1]
    if len(filled) == 1:
        return filled[0]
    return op.make(concatenate, *filled, dimension=dimension) if len(filled) < len(op.operands) else None


def _dot(op: _Candidate) -> Value | None:
    """A product reads an operand transposed at no cost, and sums in the same order.

    Used where a transpose moved the last axis to the last but one: the rest of the transpose, if any, keeps it last.
    """
    flags = {name: op.attributes.get(name, False) for name in ("transpose_lhs", "transpose_rhs")}
    sources = list(op.operands)
    for position, (flag, operand) in enumerate(zip(flags, op.operands, strict=True)):
        if _is_made_by(operand, transpose):
            *batch, rows, columns = _attribute(operand, "permutation")
            if rows == operand.ndim - 1:
                sources[position] = op.make(transpose, _operand(operand), permutation=(*batch, columns, rows))
                flags[flag] = not flags[flag]
    return None if tuple(sources) == op.operands else op.make(dot, *sources, **flags)


# What rules ask -------------------------------------------------------------------------------------


def _number(value: Value) -> Any:
    """The number that a constant of one element is, else ``None``."""
    if type(value) is not Constant or value.array.size != 1 or value.dtype.kind == "c":
        return None
    number = value.array.item()
    return number if isinstance(number, int) else float(number)


def _is_made_by(value: Value, primitive: Primitive) -> bool:
    return value.op is not None and value.op.primitive is primitive


def _operand(value: Value) -> Value:
    """The first operand of the op that made ``value``."""
    assert value.op is not None
    return value.op.operands[0]


def _attribute(value: Value, name: str) -> Any:
    assert value.op is not None
    return value.op.attributes[name]


def _is_same(x: Value, y: Value) -> bool:
    if isinstance(x, Constant) and isinstance(y, Constant):
        return x.type == y.type and x.array.tobytes() == y.array.tobytes()
    return x is y


# The table ------------------------------------------------------------------------------------------

KIND_RULES: dict[type[Primitive], Rule] = {
    Elementwise: _stretch_later,
    View: _view_of_scalar,
    Reduction: _reduce_single_elements,
}
RULES: dict[Primitive, Rule] = {
    add: _add,
    subtract: _subtract,
    multiply: _multiply,
    divide: _divide,
    negate: _undo_itself,
    logical_not: _undo_itself,
    select: _select,
    convert: _convert,
    broadcast_in_dim: _broadcast_in_dim,
    stop_gradient: _stop_gradient,
    named: _stop_gradient,
    reshape: _reshape,
    transpose: _transpose,
    slice_: _slice,
    pad: _pad,
    concatenate: _concatenate,
    dot: _dot,
}
_rules_of: dict[Primitive, tuple[Rule, ...]] = {}


def _rules(primitive: Primitive) -> tuple[Rule, ...]:
    """The rule for the primitive's kind, then its own."""
    rules = _rules_of.get(primitive)
    if rules is None:
        candidates = (KIND_RULES.get(type(primitive)), RULES.get(primitive))
        rules = _rules_of[primitive] = tuple(rule for rule in candidates if rule is not None)
    return rules
