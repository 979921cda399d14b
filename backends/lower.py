"""Lowering: one group of ops becomes one kernel.

What it computes is a graph of scalar nodes (:mod:`.elements`).  Axes that every access walks through together are
merged, and the nodes are placed into loops, each in the outermost loop that it can stand in (:func:`build_kernel`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from tracejit.ir import Value
from tracejit.ir.facts import facts
from tracejit.ir.primitives.exact import real_dtype
from tracejit.ir.primitives.reduction import BLOCK

from . import kernel as k
from .elements import CarryRequest, Elements, Node, StoreRequest, reachable
from .fusion import Affine
from .kept import kept_nodes

BLOCK_AXIS = -1  # the axis over the blocks of a reduction that is split between threads
SMALL_EXTENT = 16  # extents up to here are written into the kernel where specialising is asked for
NEIGHBOURS = 14  # elements from the first to the last of those that are told apart by numbers
SMALL_SIZE = 1 << 12  # elements: so few are not worth several threads,
SMALL_WORK = 1 << 15  # unless much is computed of each: elements times nodes


class NotOneLoop(Exception):
    """A reduction's axes cannot be walked as one."""


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
