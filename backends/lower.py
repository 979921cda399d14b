"""Lowering: one group of ops becomes one kernel.

What a kernel computes is written down first as a graph of scalar nodes, by asking each stored value for
its element at an index and following the operands from there (:class:`_Elements`).  Axes that every access
walks through together are then merged, and the nodes are placed into loops, each in the outermost loop
that it can stand in (:func:`build_kernel`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from tracejit.ir import Constant, DType, Op, Value
from tracejit.ir.facts import facts
from tracejit.ir.primitive import Elementwise, Generation, Reduction
from tracejit.ir.primitives.elementwise import select
from tracejit.ir.primitives.exact import complex_dtype, real_dtype
from tracejit.ir.primitives.indexing import gather
from tracejit.ir.primitives.reduction import BLOCK
from tracejit.ir.scalar import ScalarBuilder, ScalarFunction
from tracejit.ir.types import HALF_DTYPES, float32, int64, uint64

from . import kernel as k
from .fusion import Affine, Index, operand_index, through_views
from .kept import kept_nodes

BLOCK_AXIS = -1  # the axis over the blocks of a reduction that is split between threads
SMALL_EXTENT = 16  # extents up to here are written into the kernel where specialising is asked for
NEIGHBOURS = 14  # elements from the first to the last of those that are told apart by numbers
SMALL_SIZE = 1 << 12  # elements: so few are not worth several threads,
SMALL_WORK = 1 << 15  # unless much is computed of each: elements times nodes


ORIGIN = Affine(())


class NotOneLoop(Exception):
    """A reduction's axes cannot be walked as one."""


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


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def flat_address(shape: Sequence[int], index: Index) -> Affine:
    """The position in a contiguous array of ``shape`` of the element at ``index``."""
    terms: dict[int, int] = {}
    dynamic: list[tuple[Any, int]] = []
    constant = 0
    for stride, entry in zip(strides_of(shape), index, strict=True):
        if entry == 0:
            continue
        constant += entry.constant * stride
        for axis, coefficient in entry.terms:
            terms[axis] = terms.get(axis, 0) + coefficient * stride
        dynamic += [(position, coefficient * stride) for position, coefficient in entry.dynamic]
    return Affine(tuple((axis, c) for axis, c in sorted(terms.items()) if c), constant, tuple(dynamic))


@facts(frozen=True)
class Region:
    """Where a value lies in the memory of another: in the box that begins at ``start``, every ``step``-th element.

    ``axes`` names for each axis of the whole the value's; ``None`` where the value has none.
    """

    whole: Value
    start: tuple[int, ...]
    step: tuple[int, ...]
    axes: tuple[int | None, ...]

    def index(self, index: Index) -> Index:
        """The index in the whole of the value's element at ``index``."""
        entries = [0 if axis is None else index[axis] for axis in self.axes]
        return tuple(
            (Affine((), first) if first else 0) if entry == 0 else entry * step + first
            for entry, step, first in zip(entries, self.step, self.start, strict=True)
        )


def region_of(part: Value, whole: Value, start: tuple[int, ...], step: tuple[int, ...]) -> tuple[Value, Region] | None:
    """The value behind ``part``'s views and its region, where the views only move axes and add ones of extent 1."""
    own = (0 if extent == 1 else Affine(((axis, 1),)) for axis, extent in enumerate(part.shape))
    base, index = through_views(part, tuple(own))
    axes: list[int | None] = [None] * part.ndim
    for axis, entry in enumerate(index):
        if entry == 0 and base.shape[axis] == 1:
            continue
        if entry == 0 or entry.constant or entry.dynamic or len(entry.terms) != 1:
            return None
        ((place, coefficient),) = entry.terms
        if coefficient != 1 or axes[place] is not None or base.shape[axis] != part.shape[place]:
            return None
        axes[place] = axis
    if any(axis is None and extent != 1 for axis, extent in zip(axes, part.shape, strict=True)):
        return None
    return base, Region(whole, start, step, tuple(axes))


Regions = Mapping[Value, Region]


def in_memory(value: Value, index: Index, regions: Regions) -> tuple[Value, Affine]:
    """The value whose memory holds the element, and the element's position there."""
    while (region := regions.get(value)) is not None:
        value, index = region.whole, region.index(index)
    return value, flat_address(value.type.static_shape, index)


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


@facts
class LoweredKernel:
    """A kernel, the values its buffers stand for, and its parameters' values; ``extent_of`` says which parameter is the
    extent of an axis."""

    kernel: k.Kernel
    buffers: list[Value]
    parameters: list[int]
    parallel_extent: int = 1
    work: int = 1  # rough number of scalar operations
    extent_of: dict[int, int] = field(default_factory=dict)


@facts
class _Layout:
    """Loop axes after merging: the kept ones outermost first, and the reduced one."""

    extents: dict[int, int]
    kept: list[int]
    reduced: int | None
    merged: dict[int, int] = field(default_factory=dict)


def build_kernel(
    elements: Elements,
    stores: list[StoreRequest],
    domain: Sequence[int] | Mapping[int, int],
    reduced: frozenset[int],
    *,
    title: str,
    specialize: bool,
    serial: bool = False,
    blocks_of: int | None = None,
    host: bool = False,
    carries: Sequence[CarryRequest] = (),
) -> LoweredKernel:
    """Loops over ``domain``, the extents of axes by number, that perform ``stores``.

    ``serial``: no two iterations may overlap (scatter).  ``blocks_of``: the domain is one reduced axis of
    that extent, and one partial result is stored for each of its blocks.  On the ``host`` a value may be kept from one
    pass over a row to the next (see :mod:`.kept`), for the passes follow one another, and addresses tell neighbours.
    ``carries``: the reduced axis is walked in order, and these values go from step to step.
    """
    needed = reachable(elements.nodes, stores, carries)
    layout = _merge_axes(needed, stores, domain, reduced, keep_apart=serial)
    return _Emission(needed, stores, layout, title, specialize, serial, blocks_of, host, carries).run()


def _shifts(nodes: list[Node]) -> dict[Affine, int]:
    """How far the addresses of loads are from one in their midst, where they are neighbours."""
    groups: dict[tuple[Value | None, tuple[tuple[int, int], ...]], set[int]] = {}
    for node in nodes:
        if node.kind == "load" and not node.address.dynamic:
            groups.setdefault((node.buffer, node.address.terms), set()).add(node.address.constant)
    shifts: dict[Affine, int] = {}
    for (_, terms), constants in groups.items():
        near: list[int] = []
        for constant in [*sorted(constants), math.inf]:
            if near and constant - near[0] > NEIGHBOURS:
                middle = near[(len(near) - 1) // 2]
                shifts |= {Affine(terms, each): each - middle for each in near if each != middle}
                near = []
            near.append(int(constant)) if constant != math.inf else None
    return shifts


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


def _merge_axes(
    nodes: list[Node],
    stores: list[StoreRequest],
    domain: Sequence[int] | Mapping[int, int],
    reduced: frozenset[int],
    *,
    keep_apart: bool,
) -> _Layout:
    """Merge neighbouring axes that every access walks as one; the reduced axes must become one."""
    extents = dict(domain if isinstance(domain, Mapping) else enumerate(domain))
    addresses = [dict(node.address.terms) for node in nodes if node.kind == "load"]
    addresses += [dict(store.address.terms) for store in stores]
    pinned = {axis for node in nodes if node.kind == "index" for axis, _ in node.address.terms}
    order = list(extents)
    merged: dict[int, int] = {}
    position = len(order) - 1
    while position > 0:
        inner, outer = order[position], order[position - 1]
        together = (inner in reduced) == (outer in reduced) and not keep_apart
        if (
            together
            and not {inner, outer} & pinned
            and all(terms.get(outer, 0) == terms.get(inner, 0) * extents[inner] for terms in addresses)
        ):
            extents[inner] *= extents.pop(outer)
            merged[outer] = inner
            order.remove(outer)
        position -= 1
    inner_axes = [axis for axis in order if axis in reduced]
    if len(inner_axes) > 1:
        raise NotOneLoop
    kept = [axis for axis in order if axis not in reduced]
    if not keep_apart:
        kept = _in_loop_order(kept, extents, addresses, bool(inner_axes))
    return _Layout(extents, kept, inner_axes[0] if inner_axes else None, merged)


def _in_loop_order(
    kept: list[int], extents: dict[int, int], addresses: list[dict[int, int]], has_reduction: bool
) -> list[int]:
    """The axes as the loops are nested; the last one stays where it is, for it is the vector's.

    Where an operand lies across it, the axis along which that operand is contiguous comes next to it, so that the
    printer can go through both in tiles.  And the first one, which is split between threads, should not be short.
    """
    *outer, last = kept or [0]
    if len(outer) > 1 and not has_reduction:
        across = {axis: sum(t.get(axis) == 1 and t.get(last, 0) > 1 for t in addresses) for axis in outer}
        best = max(outer, key=lambda axis: (across[axis], extents[axis]))
        if across[best]:
            outer.remove(best)
            return [*_longest_first(outer, extents), best, last]
    return [*_longest_first(outer, extents), *kept[-1:]]


def _longest_first(axes: list[int], extents: dict[int, int]) -> list[int]:
    """The axes in order, but for the longest, which comes first if the first is short."""
    if not axes or extents[axes[0]] > SMALL_EXTENT:
        return axes
    longest = max(axes, key=extents.__getitem__)
    return [longest, *(axis for axis in axes if axis != longest)]


class _Emission:
    """Places nodes into loops and gives extents and strides their parameters."""

    def __init__(
        self,
        nodes: list[Node],
        stores: list[StoreRequest],
        layout: _Layout,
        title: str,
        specialize: bool,
        serial: bool,
        blocks_of: int | None,
        host: bool,
        carries: Sequence[CarryRequest],
    ) -> None:
        self.carries = carries
        self.nodes, self.stores, self.layout = nodes, stores, layout
        self.title, self.specialize, self.serial, self.blocks_of = title, specialize, serial, blocks_of
        self.scalars: dict[int, k.Scalar] = {}
        self.imaginary: dict[int, k.Scalar] = {}  # of complex loads, of which the scalar is the real part
        self.parameters: list[str] = []
        self.values: list[int] = []
        self.extent_of: dict[int, int] = {}
        self.shared: dict[tuple[str, int], str] = {}
        self.buffers: dict[Value, k.Buffer] = {}
        self.buffer_values: list[Value] = []
        kept = layout.kept
        self.axis_names = {axis: f"i{number}" for number, axis in enumerate(kept)} | {BLOCK_AXIS: "block"}
        if layout.reduced is not None:
            self.axis_names[layout.reduced] = f"i{len(kept)}"
        gone = layout.merged
        depth = {axis: number + 1 for number, axis in enumerate(kept)}
        for outer in gone:
            axis = outer
            while axis in gone:
                axis = gone[axis]
            depth[outer] = depth.get(axis, 0)
        self.depth_of_axis = depth
        self.host = host
        self.shifts = _shifts(nodes) if host else {}
        self.kept: tuple[StoreRequest, dict[int, Node | None]] | None = None
        self.now_kept: Node | None = None  # what the latest pass has left there
        self.inside: set[int] = set()  # the nodes of the latest pass
        self.inner_axes = {layout.reduced} | {a for a in gone if self._final(a) == layout.reduced}

    def _final(self, axis: int) -> int:
        while axis in self.layout.merged:
            axis = self.layout.merged[axis]
        return axis

    def run(self) -> LoweredKernel:
        kept, reduced = self.layout.kept, self.layout.reduced
        outer = [self._extent(axis, f"n{number}") for number, axis in enumerate(kept)]
        self.reduced_extent: k.Extent = 1
        if reduced is not None:
            self.reduced_extent = self._extent(reduced, f"n{len(kept)}")
        # The innermost axis of memory is the vector axis: the reduced one ("rows"), or a kept one ("columns").
        self.by_rows = reduced is not None and (not kept or reduced > max(kept))
        vector_axis = kept[-1] if kept and not self.by_rows and self._may_vectorize() else None
        has_complex = any(node.dtype.kind == "c" for node in self.nodes)
        if self.host and self.by_rows and not self.serial and self.blocks_of is None and not has_complex:
            self.kept = self._find_kept()
        scopes = [self._scope(depth) for depth in range(len(kept) + 1)]
        body = scopes[-1]
        for number in range(len(kept) - 1, -1, -1):
            axis = kept[number]
            kinds = set()
            if number == 0 and self._may_split(outer[0]):
                kinds.add("parallel")
            if axis == vector_axis:
                kinds.add("vector")
            loop = k.Loop(self.axis_names[axis], outer[number], frozenset(kinds), body)
            body = [*scopes[number], loop]
        parallel = 1
        if self.blocks_of is not None:
            parallel = -(-self.blocks_of // BLOCK)
            body = [k.Loop("block", self._parameter("blocks", parallel), frozenset(("parallel",)), body)]
        elif kept and self._may_split(outer[0]):
            parallel = self.layout.extents[kept[0]]
        kernel = k.Kernel(list(self.buffers.values()), self.parameters, body, self.title)
        size = 1
        for extent in self.layout.extents.values():
            size *= extent
        work = size * (len(self.nodes) + 1)
        return LoweredKernel(kernel, self.buffer_values, self.values, parallel, work, self.extent_of)

    def _may_split(self, extent: k.Extent) -> bool:
        """Whether the outermost loop is worth splitting between threads: not where all is small for sure."""
        if any(carry.last for carry in self.carries) and isinstance(extent, int):
            return False  # one vector
        size = math.prod(self.layout.extents.values())
        is_large = isinstance(extent, str) or size > SMALL_SIZE or size * len(self.nodes) > SMALL_WORK
        return not self.serial and self.blocks_of is None and is_large

    def _may_vectorize(self) -> bool:
        """Whether iterations over the innermost kept axis are independent (not where stores may collide)."""
        innermost = self.layout.kept[-1]
        return not self.serial or all(
            any(axis == innermost for axis, _ in store.address.terms)
            and not any(isinstance(node, Node) and innermost in node.axes for node, _ in store.address.dynamic)
            for store in self.stores
        )

    # Scopes -----------------------------------------------------------------------------------------

    def _scope(self, depth: int) -> list[k.Statement]:
        """The statements that stand directly in the loop over the first ``depth`` kept axes."""
        outside = [
            node for node in self.nodes
            if node.kind != "last" and not self._is_inner(node) and self._depth(node) == depth
        ]  # fmt: skip
        statements: list[k.Statement] = []
        for stage in range(max((node.stage for node in outside), default=0) + 1):
            reductions = [node for node in outside if node.kind == "reduce" and node.stage == stage]
            if reductions:
                statements.append(self._reduce(reductions))
            statements += self._statements(n for n in outside if n.stage == stage and n.kind != "reduce")
        if depth == len(self.layout.kept):
            statements += self._stores()
        return statements

    def _find_kept(self) -> tuple[StoreRequest, dict[int, Node | None]] | None:
        """What to keep from one pass of the innermost scope to the next, by the passes' stages, and where."""
        depth = len(self.layout.kept)
        reductions = [node for node in self.nodes if node.kind == "reduce" and self._depth(node) == depth]
        stages = sorted({node.stage for node in reductions})
        passes = [
            [
                operand
                for node in reductions
                if node.stage == stage
                for operand in node.operands
                if isinstance(operand, Node)
            ]
            for stage in stages
        ]
        stores = self._inner_stores()
        roots = [store.node for store in stores if isinstance(store.node, Node)]
        found = kept_nodes([*passes, roots], stores, self._is_inner) if stores and passes else None
        return None if found is None else (found[0], dict(zip(stages, found[1], strict=True)))

    def _inner_stores(self) -> list[StoreRequest]:
        return [s for s in self.stores if any(self._final(axis) == self.layout.reduced for axis, _ in s.address.terms)]

    def _depth(self, node: Node) -> int:
        return max((self.depth_of_axis.get(axis, 0) for axis in node.axes), default=0)

    def _is_inner(self, node: Node) -> bool:
        return self.layout.reduced is not None and not self.inner_axes.isdisjoint(node.axes)

    def _stores(self) -> list[k.Statement]:
        inner = self._inner_stores()
        outer = [self._store(store) for store in self.stores if store not in inner and not self.carries]
        statements: list[k.Statement] = [*outer]
        if inner or self.carries:
            assert self.layout.reduced is not None
            for carry in self.carries:
                self.scalars[id(carry.node)] = k.Scalar(carry.node.dtype)
            body = self._inner_statements([item.node for item in inner] + [carry.next for carry in self.carries])
            body += [self._store(store) for store in inner]
            kinds = frozenset(("vector",)) if self.by_rows and not self.carries else frozenset[str]()
            carries = tuple(map(self._carry, self.carries))
            axis = self.axis_names[self.layout.reduced]
            statements.append(k.Loop(axis, self.reduced_extent, kinds, body, carries))
            statements += [self._store(store) for store in self.stores if store not in inner and self.carries]
        return statements

    def _carry(self, carry: CarryRequest) -> k.Carry:
        assert carry.node.identity is not None
        last = None
        if carry.last is not None:
            last = self.scalars[id(carry.last)] = k.Scalar(carry.last.dtype)
        initial, result = self._operand(carry.node.identity), self.scalars[id(carry.node)]
        return k.Carry(initial, result, self._operand(carry.next), last)

    def _reduce(self, nodes: list[Node]) -> k.Reduce:
        assert self.layout.reduced is not None
        reduced = self.layout.reduced
        body = self._inner_statements([operand for node in nodes for operand in node.operands])
        if self.kept is not None and self._depth(nodes[0]) == len(self.layout.kept):
            store, left = self.kept
            found = left[nodes[0].stage]
            if found is not None and id(found) in self.inside and not self._is_stored(found):
                body.append(self._store(StoreRequest(store.target, store.address, found)))
                self.now_kept = found
        combinations = []
        for node in nodes:
            assert isinstance(node.identity, k.Literal)
            scalar = self.scalars[id(node)] = k.Scalar(node.dtype)
            value = self._operand(node.operands[0])
            combinations.append(k.Combination(node.combine, value, node.identity, scalar))
        one_block = self.layout.extents[reduced] <= BLOCK
        return k.Reduce(
            self.axis_names[reduced], self.reduced_extent, one_block, self.by_rows, body, combinations,
            "block" if self.blocks_of is not None else None,
        )  # fmt: skip

    def _inner_statements(self, roots: Sequence[Node | k.Literal]) -> list[k.Statement]:
        """The nodes inside the reduced axis that ``roots`` need, each loop with its own."""
        wanted: set[int] = set()
        stack = list(roots)
        while stack:
            node = stack.pop()
            if isinstance(node, Node) and id(node) not in wanted and self._is_inner(node):
                wanted.add(id(node))
                stack += () if self._is_stored(node) else node.operands
        self.inside = wanted
        return self._statements(node for node in self.nodes if id(node) in wanted)

    def _is_stored(self, node: Node) -> bool:
        """Whether an earlier pass has kept the node."""
        return node is self.now_kept

    # Statements -------------------------------------------------------------------------------------

    def _statements(self, nodes: Iterable[Node]) -> list[k.Statement]:
        statements: list[k.Statement] = []
        for node in nodes:
            if node.kind in ("real", "imag"):
                (load,) = node.operands
                self.scalars[id(node)] = (self.scalars if node.kind == "real" else self.imaginary)[id(load)]
            elif node.kind not in ("carry", "pair"):
                statements.append(self._statement(node))
        return statements

    def _statement(self, node: Node) -> k.Statement:
        scalar = self.scalars[id(node)] = k.Scalar(node.dtype)
        if self.kept is not None and self._is_stored(node):
            store = self.kept[0]
            return k.Load(self._buffer(store.target).name, self._address(store.address), scalar)
        if node.kind == "index":
            ((axis, _),) = node.address.terms
            return k.Index(self.axis_names[self._final(axis)], scalar)
        if node.kind == "load":
            assert node.buffer is not None
            imaginary = None
            if node.dtype.kind == "c":
                scalar.dtype = real_dtype(node.dtype)
                imaginary = self.imaginary[id(node)] = k.Scalar(scalar.dtype)
            return k.Load(self._buffer(node.buffer).name, self._address(node.address), scalar, imaginary)
        operands = tuple(map(self._operand, node.operands))
        if node.function is None:
            return k.Instruction(node.kind, operands, scalar)
        predicate, x, otherwise = operands
        return k.Call(node.function, predicate, x, otherwise, scalar)

    def _store(self, store: StoreRequest) -> k.Store:
        buffer = self._buffer(store.target, written=True)
        address, node = self._address(store.address), store.node
        if isinstance(node, k.Literal) or node.dtype.kind != "c":
            return k.Store(buffer.name, address, self._operand(node), store.accumulate)
        if node.kind == "pair":
            real, imaginary = map(self._operand, node.operands)
        else:
            real, imaginary = self.scalars[id(node)], self.imaginary[id(node)]
        return k.Store(buffer.name, address, real, store.accumulate, imaginary)

    def _operand(self, operand: Node | k.Literal) -> k.Operand:
        return operand if isinstance(operand, k.Literal) else self.scalars[id(operand)]

    def _address(self, affine: Affine) -> k.Address:
        terms = {
            self.axis_names[axis]: self._stride(stride)
            for axis, stride in affine.terms
            if axis not in self.layout.merged
        }
        steps = tuple((self._operand(node), self._stride(stride)) for node, stride in affine.dynamic)
        shift = self.shifts.get(affine, 0)
        offset = affine.constant - shift
        return k.Address(0 if offset == 0 else self._shared("o", offset), terms, steps, shift)

    def _stride(self, stride: int) -> k.Extent:
        return stride if stride in (-1, 0, 1, 2) else self._shared("s", stride)

    def _shared(self, letter: str, value: int) -> str:
        """A parameter for all offsets, or all strides, of that value."""
        name = self.shared.get((letter, value))
        if name is None:
            name = self.shared[letter, value] = self._parameter(f"{letter}{len(self.parameters)}", value)
        return name

    def _extent(self, axis: int, name: str) -> k.Extent:
        extent = self.layout.extents[axis]
        if self.specialize and extent <= SMALL_EXTENT:
            return extent
        self.extent_of[axis] = len(self.parameters)
        return self._parameter(name, extent)

    def _parameter(self, name: str, value: int) -> str:
        self.parameters.append(name)
        self.values.append(value)
        return name

    def _buffer(self, value: Value, *, written: bool = False) -> k.Buffer:
        buffer = self.buffers.get(value)
        if buffer is None:
            buffer = self.buffers[value] = k.Buffer(f"b{len(self.buffers)}", value.dtype)
            self.buffer_values.append(value)
        buffer.written = buffer.written or written
        return buffer
