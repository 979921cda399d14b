"""What a kernel computes, as a graph of scalar nodes.

Each stored value is asked for its element at an index, and the operands are followed from there
(:class:`Elements`).  :mod:`.lower` places the nodes into loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.ir import Constant, DType, Op, Value
from tracejit.ir.facts import facts
from tracejit.ir.primitive import Elementwise, Generation, Reduction
from tracejit.ir.primitives.elementwise import select
from tracejit.ir.primitives.exact import complex_dtype, real_dtype
from tracejit.ir.primitives.indexing import gather
from tracejit.ir.scalar import ScalarBuilder, ScalarFunction
from tracejit.ir.types import HALF_DTYPES, float32, int64, uint64

from . import kernel as k
from .addresses import Regions, in_memory
from .fusion import Affine, Index, operand_index, through_views

ORIGIN = Affine(())


@facts(eq=False)
class Node:
    """A scalar of the kernel under construction; ``axes`` are the loop axes that it depends on."""

    # An instruction's name, or "call", "index", "load", "reduce", "carry", "last", "pair", "real", "imag".
    kind: str
    operands: tuple[Node | k.Literal, ...]
    dtype: DType
    axes: frozenset[int]
    address: Affine = ORIGIN  # the element of a load; the position of an index
    buffer: Value | None = None
    reduced: frozenset[int] = frozenset()
    combine: str = ""
    identity: Node | k.Literal | None = None
    stage: int = 0  # how many reductions, one after the other, stand before it
    function: k.Function | None = None  # of a call


@facts(eq=False)
class CarryRequest:
    """What one step over the reduced axis leaves to the next one, where the loop has an order."""

    node: Node  # of the kind "carry"; its identity is what the first step finds
    next: Node | k.Literal
    last: Node | None = None  # of the kind "last": what the last step leaves, where that is read


@facts(eq=False)
class StoreRequest:
    """An element to be written: the value's, at ``index``, to ``target`` at ``address``."""

    target: Value
    address: Affine
    node: Node | k.Literal
    accumulate: bool = False


class Elements(ScalarBuilder):
    """The elements of values at symbolic indices, as nodes; equal nodes are one.

    The results of ``ops`` are computed; all other values are loaded from memory, some from regions of others.
    """

    def __init__(self, ops: Sequence[Op] = (), regions: Regions | None = None) -> None:
        self.computed = {op.result: op for op in ops}
        self.regions = regions or {}
        self.nodes: list[Node] = []
        self._known: dict[Any, Node] = {}
        self._elements: dict[tuple[Value, Index], Node | k.Literal] = {}

    def element(self, value: Value, index: Index) -> Node | k.Literal:
        key = (value, index)
        found = self._elements.get(key)
        if found is None:
            found = self._elements[key] = self._compute(value, index)
        return found

    def load(self, value: Value, index: Index) -> Node:
        value, address = in_memory(value, index, self.regions)
        axes = frozenset(axis for axis, _ in address.terms)
        operands = tuple(position for position, _ in address.dynamic)
        return self._node(("load", value, address), "load", operands, value.dtype, axes, address=address, buffer=value)

    def position(self, entry: Any) -> Node | k.Literal:
        """An index entry as an ``i64``."""
        if entry == 0:
            return k.Literal(0, int64)
        summands = [(self._index(axis), coefficient) for axis, coefficient in entry.terms] + list(entry.dynamic)
        total: Any = k.Literal(entry.constant, int64)
        for position, coefficient in summands:
            step: Any = position if coefficient == 1 else self.multiply(position, coefficient)
            total = step if isinstance(total, k.Literal) and total.value == 0 else self.add(total, step)
        return total

    def carried(self, axis: int, initial: Node | k.Literal) -> Node:
        """What the step before has left, of a loop over ``axis`` that has an order."""
        node = Node("carry", (), initial.dtype, frozenset((axis,)), identity=initial)
        self.nodes.append(node)
        return node

    def _index(self, axis: int) -> Node:
        return self._node(("index", axis), "index", (), int64, frozenset((axis,)), address=Affine(((axis, 1),)))

    # The scalar builder -----------------------------------------------------------------------------

    def constant(self, number: float | int | bool, dtype: DType) -> k.Literal:
        return k.literal(number, dtype)

    def instruction(self, name: str, operands: tuple[Any, ...], dtype: DType) -> Node:
        return self._node((name, dtype, _operands_key(operands)), name, operands, dtype, frozenset())

    def seldom(self, predicate: Any, function: ScalarFunction, x: Any, otherwise: Any) -> Node:
        own, operands = k.function_of(function, x.dtype), (predicate, x, otherwise)
        key = (own.name, _operands_key(operands))
        return self._node(key, "call", operands, x.dtype, frozenset(), function=own)

    def _node(
        self, key: Any, kind: str, operands: tuple[Any, ...], dtype: DType, axes: frozenset[int], **fields: Any
    ) -> Node:
        node = self._known.get(key)
        if node is None:
            stage = 0
            for operand in operands:
                if isinstance(operand, Node):
                    axes = axes | operand.axes
                    stage = max(stage, operand.stage)
            node = self._known[key] = Node(kind, operands, dtype, axes, stage=stage, **fields)
            self.nodes.append(node)
        return node

    def pair(self, real: Any, imaginary: Any) -> Node:
        operands = real, imaginary
        key = ("pair", _operands_key(operands))
        return self._node(key, "pair", operands, complex_dtype(real.dtype), frozenset())

    def parts(self, number: Any) -> tuple[Any, Any]:
        if number.kind == "pair":
            return number.operands
        dtype = real_dtype(number.dtype)
        real, imaginary = (self._node((kind, number), kind, (number,), dtype, frozenset()) for kind in ("real", "imag"))
        return real, imaginary

    # Halves: a kernel computes with the float32 that they are, and an op rounds its result once ----------

    def widened(self, x: Any) -> Any:
        """A half as float32; anything else as it is."""
        if x.dtype not in HALF_DTYPES:
            return x
        return k.Literal(float(x.value), float32) if isinstance(x, k.Literal) else self.convert(x, float32)

    def rounded(self, x: Any, dtype: DType) -> Any:
        """What an op of halves leaves; the results of others are of their dtype already."""
        return self.convert(x, dtype) if dtype in HALF_DTYPES else x

    def unrounded(self, x: Node | k.Literal) -> Node | k.Literal:
        """What :meth:`rounded` was given."""
        is_rounded = isinstance(x, Node) and x.kind == "convert" and x.dtype in HALF_DTYPES
        return x.operands[0] if is_rounded and isinstance(x, Node) else x

    # One value --------------------------------------------------------------------------------------

    def _compute(self, value: Value, index: Index) -> Node | k.Literal:
        if isinstance(value, Constant) and value.ndim == 0:
            number = value.array.item()
            return self._lifted(number, value.dtype) if value.dtype.kind == "c" else k.Literal(number, value.dtype)
        if value in self.computed:
            return self.apply(self.computed[value], index)
        base, where = through_views(value, index)
        return self.load(value, index) if base is value else self.element(base, where)

    def apply(self, op: Op, index: Index) -> Node | k.Literal:
        """The element of an op's result, computed here."""
        primitive = op.primitive
        if isinstance(primitive, Elementwise):
            operands = [self.element(operand, operand_index(operand, index)) for operand in op.operands]
            if primitive is not select:
                operands = list(map(self.widened, operands))
            return self.rounded(primitive.scalar(self, *operands, **op.attributes), op.result.dtype)
        if isinstance(primitive, Generation):
            operands = [self.element(operand, ()) for operand in op.operands]
            return primitive.scalar(self, self.position(index[0]), *operands, **op.attributes)
        if isinstance(primitive, Reduction):
            return self._reduction(op, primitive, index)
        assert primitive is gather, f"{primitive.name} has no element at an index"
        return self._gathered(op, index)

    def _gathered(self, op: Op, index: Index) -> Node | k.Literal:
        operand, *indices = op.operands
        return self.element(operand, self.addressed(operand, indices, op.attributes["axes"], index))

    def addressed(self, operand: Value, indices: Sequence[Value], axes: Sequence[int], index: Index) -> Index:
        """The operand's index that a gather's result, or a scatter's update, at ``index`` stands for."""
        count = indices[0].ndim
        window = iter(index[count:])
        positions = dict(zip(axes, indices, strict=True))
        return tuple(
            self._clamped(self.element(positions[axis], index[:count]), extent) if axis in positions else next(window)
            for axis, extent in enumerate(operand.type.static_shape)
        )

    def _clamped(self, position: Any, extent: int) -> Affine:
        """A position inside ``[0, extent)``: memory is safe whatever the index."""
        if position.dtype == uint64:  # before it becomes an i64: there its upper half is negative
            position = self.minimum(position, max(extent - 1, 0))
        wide = self.convert(position, int64)
        return Affine((), 0, ((self.minimum(self.maximum(wide, 0), extent - 1), 1),))

    def _reduction(self, op: Op, primitive: Reduction, index: Index) -> Node | k.Literal:
        (operand,) = op.operands
        axes = op.attributes["axes"]
        shape = operand.type.static_shape
        if any(shape[axis] == 0 for axis in axes):
            if op.result.dtype.kind == "c":  # a sum
                return self.pair(*[k.Literal(0, real_dtype(op.result.dtype))] * 2)
            return k.Literal(0 if primitive.combine == "add" else primitive.identity(op.result.dtype), op.result.dtype)
        numbers, entries, kept = [], [], iter(index)
        home = _squeezed_numbers(shape)
        for axis, extent in enumerate(shape):
            if axis not in axes:
                entries.append(next(kept))
            elif extent == 1:
                entries.append(0)
            else:
                numbers.append(home[axis])
                entries.append(Affine(((home[axis], 1),)))
        used = {axis for entry in entries if entry != 0 for axis, _ in entry.terms}
        assert used == set(home.values()), "a reduction is computed at its own point only"
        value = self.widened(self.element(operand, tuple(entries)))
        if not numbers:
            return self.rounded(value, op.result.dtype)
        reduced = frozenset(numbers)
        if value.dtype.kind == "c":
            return self.pair(*(self._reduced(primitive, part, reduced) for part in self.parts(value)))
        return self.rounded(self._reduced(primitive, value, reduced), op.result.dtype)

    def _reduced(self, primitive: Reduction, value: Node | k.Literal, reduced: frozenset[int]) -> Node:
        if not isinstance(value, Node):  # a constant, reduced: give it a node, so that it has a loop
            value = self._node(("constant", _literal_key(value)), "copy", (value,), value.dtype, frozenset())
        identity = k.Literal(primitive.identity(value.dtype), value.dtype)
        node = self._node(
            ("reduce", primitive.combine, value, reduced), "reduce", (value,), value.dtype, frozenset(),
            reduced=reduced, combine=primitive.combine, identity=identity,
        )  # fmt: skip
        node.axes = value.axes - reduced
        node.stage = value.stage + 1
        return node


def _squeezed_numbers(shape: Sequence[int]) -> dict[int, int]:
    return {axis: number for number, axis in enumerate(a for a, extent in enumerate(shape) if extent != 1)}


def _operands_key(operands: tuple[Node | k.Literal, ...]) -> tuple[Any, ...]:
    return tuple(_literal_key(operand) if isinstance(operand, k.Literal) else operand for operand in operands)


def _literal_key(literal: k.Literal) -> tuple[str, DType]:
    return literal.text, literal.dtype


def reachable(nodes: list[Node], stores: list[StoreRequest], carries: Sequence[CarryRequest] = ()) -> list[Node]:
    """The nodes that the stores and carries need, operands first."""
    wanted: set[int] = set()
    stack = [s.node for s in stores] + [node for s in stores for node, _ in s.address.dynamic]
    stack += [node for carry in carries for node in (carry.next, carry.node.identity)]
    while stack:
        node = stack.pop()
        if isinstance(node, Node) and id(node) not in wanted:
            wanted.add(id(node))
            stack += node.operands
    return [node for node in nodes if id(node) in wanted]
