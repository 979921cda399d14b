"""Planning: from an optimised graph to a program.

Each group of :mod:`.fusion` becomes one kernel call; matrix products, scatters and copies into regions have their own.
A reshape that keeps the element order is no call at all: its result is the operand's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tracejit.ir import Block, Constant, Graph, Op, TensorType, Value
from tracejit.ir.composites import decomposed
from tracejit.ir.interpreter import own_symbols
from tracejit.ir.passes import ahead, pieces, split, unroll
from tracejit.ir.primitive import Composite, Placement, Reduction, View
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.primitives.convolution import convolution
from tracejit.ir.primitives.indexing import scatter
from tracejit.ir.primitives.reduction import BLOCK
from tracejit.ir.types import Symbol, bool_, int64

from .addresses import Region, flat_address, in_memory, region_of
from .attention import has_kernel, lower_attention
from .blockwise import lower_chains
from .control import CopyCall, Loop, Memory, Place, layout_of, lower_control, place, runs_natively, walk
from .convolutions import lower_convolution
from .elements import Elements, StoreRequest
from .fusion import (
    LARGE_REDUCTION,
    Affine,
    Group,
    Index,
    fuse,
    home_index,
    is_alias,
    is_fusible,
    is_symbolic,
    reduction_domain,
    runs_in_kernels,
    source_of,
    squeezed,
    through_views,
)  # fmt: skip
from .kernel import Kernel
from .lower import BLOCK_AXIS, LoweredKernel, NotOneLoop, build_kernel
from .placements import is_update, lower_placement, lower_scatter, lower_view
from .products import (
    Matrix,
    additions,
    columns_read,
    is_bfloat16_product,
    is_product,
    lower_bfloat16_product,
    lower_integer_product,
    lower_product,
    summed_in_place,
)  # fmt: skip
from .program import Call, HostCall, KernelCall, Program
from .recomputation import recompute, widen_where_read
from .recurrences import lower_recurrence
from .scans import is_scan, lower_scan
from .small_states import lower_small_state


def plan(
    graph: Graph, *, specialize: bool = True, host: bool = True, observe: Callable[[Call], object] | None = None
) -> Program:
    """Lower a graph whose shapes are all known.

    ``specialize`` writes small extents into the kernels; without it, a kernel serves every shape.  ``host``: for the
    CPU, whose products can read an operand through windows, and whose kernels keep values between passes over a row,
    walk axes in order and know complex numbers.  ``observe(call)`` is called for calls as soon as they are planned.
    """
    graph = decomposed(graph, lambda op: not host and has_kernel(op))
    graph = ahead(pieces(split(graph))) if host else unroll(graph)
    root = _Plan(graph, specialize, host, Memory(), {}, observe)
    root.lower([])
    return root.program(graph)


class _Plan:
    """The calls of a graph, or of one of its regions, and where their values are."""

    loop: Loop | None = None  # of which the graph is a step

    def __init__(
        self,
        graph: Block,
        specialize: bool,
        host: bool,
        memory: Memory,
        symbols: Mapping[Symbol, int],
        observe: Callable[[Call], object] | None,
    ) -> None:
        self.graph = graph
        self.observe = observe
        self.specialize, self.host = specialize, host
        self.memory = memory  # shared by all regions
        own = own_symbols(graph)
        self.symbols = {symbol: word for symbol, word in symbols.items() if symbol not in own}
        self.symbols |= {symbol: memory.words(1) for symbol in sorted(own, key=str)}
        self.calls: list[Call] = []
        self.offsets: dict[Value, int] = {}  # in its part of the arena
        self.aliases = memory.aliases
        self.regions: dict[Value, Region] = {}  # a value → where in another it lies
        self.joined: set[Op] = set()  # what is computed along with other ops
        self.turned: dict[Matrix, Value] = {}  # what lies in columns → a copy that lies in rows
        # Where something lies, with extents and how far apart elements are along each axis → a contiguous copy of it.
        self.copies: dict[tuple[Value, int, tuple[tuple[int, int], ...]], Value] = {}

    def nested(self, region: Block) -> _Plan:
        return _Plan(region, self.specialize, self.host, self.memory, self.symbols, self.observe)

    def lower(self, targets: Sequence[tuple[Value, Value]]) -> None:
        """Plan the calls; each pair of ``targets`` is a result and the value in whose memory it is wanted."""
        copies = []
        ops = set(self.graph.ops)
        for value, target in targets:
            if value.op in ops and value not in self.aliases:
                self.aliases[value] = target
            else:
                copies.append(CopyCall(value, target))
        self.whole = {op for op in self.graph.ops if op.regions or (self.symbols and is_symbolic(op))}
        self.additions = additions(self.graph, self.whole)
        groups = fuse(self.graph, self.whole, self.additions, host=self.host)
        if not self.host:
            groups = widen_where_read(self.graph, recompute(self.graph, groups))
        self.stored = self._stored_values(groups)
        self.copied = {op.result for group in groups for op in group.ops if isinstance(op.primitive, View)}
        self._find_regions()
        for value, total in summed_in_place(self.graph, self.additions).items():
            if value not in self.aliases and not {value, total} & self.regions.keys():
                self.aliases[value] = total
        self.columns_read = columns_read(self, self.graph.ops)
        blockwise, in_chains = lower_chains(self, groups) if self.host else ({}, set[int]())
        for group in groups:
            planned = len(self.calls)
            self.calls += blockwise.get(group.number, [])
            if group.number not in in_chains:
                self.lower_group(group)
            if self.observe is not None:
                for call in self.calls[planned:]:
                    self.observe(call)
        self.calls += copies

    def _stored_values(self, groups: list[Group]) -> set[Value]:
        """The values that must stand in memory: results, and what another group or an unfused op reads."""
        computed = {result for group in groups for op in group.ops for result in op.results}
        stored = computed.intersection(self.graph.results)
        for group in groups:
            own = {result for op in group.ops for result in op.results}
            for op in group.ops:
                for operand in op.operands:
                    value = source_of(op, operand, self.whole)
                    if (value in computed and value not in own) or value.op is None:
                        stored.add(value)
        return stored

    def _find_regions(self) -> None:
        """The parts of concatenations, pads and updates that are written to their place at once, and not copied there.

        What kernels compute can be, where all that reads it are kernels and products too.
        """
        kept = set(self.graph.results)
        for op in self.graph.ops:
            if op in self.whole or is_alias(op) or not runs_in_kernels(op, self.host):  # these want whole memory
                kept.update(source_of(op, operand, self.whole) for operand in op.operands)
        for op in self.graph.ops:
            if op in self.whole or not runs_in_kernels(op, self.host):
                continue
            parts = self._parts(op)
            bases = [self.memory_of(operand) for operand in op.operands] if parts else []
            for part, start, step in parts:
                found = region_of(part, op.result, start, step)
                if found is None or max(step, default=1) != 1:
                    continue
                base, region = found
                is_computed = base.op is not None and (
                    is_fusible(base.op, self.host)
                    or isinstance(base.op.primitive, Placement)
                    or is_product(base.op, self.host)
                )
                if is_computed and base not in kept and base not in self.regions and bases.count(base) == 1:
                    self.regions[base] = region

    def _parts(self, op: Op) -> list[tuple[Value, tuple[int, ...], tuple[int, ...]]]:
        """What an op copies into its result, with the start and the step of its place there."""
        if isinstance(op.primitive, Placement):
            regions = op.primitive.regions([o.type for o in op.operands], **op.attributes)
            return [(op.operands[number], start, step) for number, start, step in regions[is_update(op) :]]
        if isinstance(op.primitive, View) and op.result in self.copied and not is_alias(op):
            return [(op.result, (0,) * op.result.ndim, (1,) * op.result.ndim)]
        return []

    def memory_of(self, value: Value) -> Value:
        """The value that holds the elements of a view."""
        return through_views(value, home_index(value.shape))[0]

    def elements(self, ops: Sequence[Op] = ()) -> Elements:
        return Elements(ops, self.regions)

    def as_selector(self, value: Value) -> Value:
        """An integer (or bool) as a value of a dtype that a branch understands."""
        if value.dtype in (bool_, int64):
            return value
        wide = Value(TensorType(int64, ()))
        elements = self.elements()
        store = self.store(wide, (), elements.convert(elements.element(value, ()), int64))
        lowered = build_kernel(elements, [store], (), frozenset(), title="convert", specialize=self.specialize)
        self.append(lowered)
        return wide

    # Groups -----------------------------------------------------------------------------------------

    def copy(
        self,
        source: Value,
        source_index: Index,
        target: Value,
        target_index: Index,
        shape: Sequence[int],
        *ops: Op,
        title: str = "copy",
    ) -> None:
        """Append a copy of a box of that shape; the indices are over its axes (see :func:`.fusion.home_index`)."""
        if 0 in shape:
            return
        elements = self.elements()
        store = self.store(target, target_index, elements.element(source, source_index))
        domain = squeezed(shape)
        self.append(build_kernel(elements, [store], domain, frozenset(), title=title, specialize=self.specialize), *ops)

    def laid_out(self, operand: Value, order: Sequence[int], *ops: Op) -> Value:
        """A contiguous copy of a value with its axes in some order: one copy for all that ask for it."""
        shape = operand.type.static_shape
        own = tuple(Affine(((axis, 1),)) for axis in range(len(shape)))
        whole, address = in_memory(*through_views(operand, own), self.regions)
        steps = dict(address.terms)
        key = whole, address.constant, tuple((shape[axis], steps.get(axis, 0)) for axis in order if shape[axis] != 1)
        moved = Value(TensorType(operand.dtype, tuple(shape[axis] for axis in order)))
        if not address.dynamic and (copy := self.copies.setdefault(key, moved)) is not moved:
            self.aliases[moved] = copy
            return moved
        home = home_index(moved.shape)
        turned = tuple(home[list(order).index(axis)] for axis in range(len(shape)))
        self.copy(operand, turned, moved, home, moved.type.static_shape, *ops, title="transpose")
        return moved

    def lower_group(self, group: Group) -> None:
        first, last = group.ops[0], group.ops[-1]
        if is_product(first, self.host) and first not in self.whole:
            lower_product(self, first, None if last is first else last)
            return
        if len(group.ops) == 1:
            primitive = first.primitive
            if first.regions and runs_natively(first):
                if not (self.host and (lower_recurrence(self, first) or lower_small_state(self, first))):
                    lower_control(self, first)
                return
            if first in self.whole:
                self._lower_host(first)
                return
            if self.host and is_bfloat16_product(first) and lower_bfloat16_product(self, first):
                return
            if isinstance(primitive, Composite):
                lower_attention(self, first)
                return
            if is_scan(first, self.host):
                lower_scan(self, first)
                return
            if not runs_in_kernels(first, self.host) and not (
                is_alias(first) and first.result not in self.graph.results
            ):
                self._lower_host(first)
                return
            if isinstance(primitive, View):
                lower_view(self, first)
                return
            if primitive is convolution:
                lower_convolution(self, first)
                return
            if primitive is dot:
                lower_integer_product(self, first)
                return
            if isinstance(primitive, Placement):
                lower_placement(self, first, primitive)
                return
            if primitive is scatter:
                lower_scatter(self, first)
                return
        if 0 in group.domain:
            self._lower_empty(group)
            return
        try:
            if self._is_reduced_in_blocks(group):
                self._lower_in_blocks(group)
            elif not group.total and _reduced_extent(group) > BLOCK * BLOCK and len(group.ops) > 1:
                self._lower_apart(group)
            else:
                self.append(self._fused(group.ops, group.domain, group.reduced), *group.ops)
        except NotOneLoop:
            if len(group.ops) > 1:
                self._lower_apart(group)
            else:
                self._lower_gathered_axes(first)

    def _fused(self, ops: Sequence[Op], domain: Sequence[int], reduced: frozenset[int]) -> LoweredKernel:
        elements, stores = self.requests(ops, domain, reduced)
        return build_kernel(
            elements, stores, domain, reduced, title=title_of(ops), specialize=self.specialize, host=self.host
        )

    def requests(
        self, ops: Sequence[Op], domain: Sequence[int], reduced: frozenset[int]
    ) -> tuple[Elements, list[StoreRequest]]:
        """The elements of some ops that share a kernel, and those that are stored."""
        elements = self.elements(ops)
        kept = [axis for axis in range(len(domain)) if axis not in reduced]
        stores = []
        for op in ops:  # also those that are not stored: asked for in order, no element is far from those it needs
            value = op.result
            full = not reduced or squeezed(value.shape) == tuple(domain)
            if squeezed(value.shape) != (tuple(domain) if full else tuple(domain[axis] for axis in kept)):
                continue  # it is widened where it is read
            index = home_index(value.shape, None if full else kept)
            element = elements.element(value, index)
            if value in self.stored:
                stores.append(self.store(value, index, element))
        return elements, stores

    def store(self, value: Value, index: Index, node: object) -> StoreRequest:
        return StoreRequest(*in_memory(value, index, self.regions), node)  # type: ignore[arg-type]

    def append(self, lowered: LoweredKernel, *ops: Op) -> None:
        extent, work = lowered.parallel_extent, lowered.work
        self.append_kernel(lowered.kernel, lowered.buffers, lowered.parameters, *ops, extent=extent, work=work)

    def append_kernel(
        self, kernel: Kernel, buffers: list[Value], parameters: list[int], *ops: Op, extent: int = 1, work: int = 1
    ) -> None:
        locations = list(dict.fromkeys(op.location for op in ops if op.location is not None))
        self.calls.append(KernelCall(kernel, buffers, parameters, extent, work, locations))

    def _lower_apart(self, group: Group) -> None:
        """Every op of the group by itself, where they do not fit into one nest of loops."""
        for op in group.ops:
            self.stored.add(op.result)
        for op in group.ops:
            alone = Group(-1, squeezed(op.result.shape), ops=[op])
            if isinstance(op.primitive, Reduction):
                alone.domain, alone.reduced = reduction_domain(op)
            self.lower_group(alone)

    def _lower_gathered_axes(self, op: Op) -> None:
        """A reduction over axes that are not neighbours: they are brought together in a copy first."""
        (operand,) = op.operands
        shape, axes = operand.type.static_shape, op.attributes["axes"]
        moved = self.laid_out(operand, [axis for axis in range(len(shape)) if axis not in axes] + list(axes), op)
        inner = tuple(range(len(shape) - len(axes), len(shape)))
        again = Op(op.primitive, (moved,), {"axes": inner}, [op.result.type], op.location)
        again.results = op.results
        domain, reduced = reduction_domain(again)
        self.lower_group(Group(-1, domain, reduced, [again]))

    def _lower_empty(self, group: Group) -> None:
        """A domain without elements: only what reductions leave of it is computed, and what follows from that."""
        ops = [op for op in group.ops if 0 not in op.result.shape]
        if any(op.result in self.stored for op in ops):
            self.append(self._fused(ops, group.kept, frozenset()), ops[-1])

    # Reductions in blocks ---------------------------------------------------------------------------

    def _is_reduced_in_blocks(self, group: Group) -> bool:
        """Few long rows with nothing else to do, for the threads to share; or more blocks than make a block.

        A device's threads share a total without that.
        """
        if group.total:
            return False
        stored = [op for op in group.ops if op.result in self.stored]
        if not group.reduced or len(stored) != 1 or not isinstance(stored[0].primitive, Reduction):
            return False
        extent, rows = _reduced_extent(group), int(np.prod(group.kept, dtype=np.int64))
        few_long_rows = rows < 8 and extent * rows >= LARGE_REDUCTION and len(group.domain) - 1 in group.reduced
        return few_long_rows or extent > BLOCK * BLOCK

    def _lower_in_blocks(self, group: Group) -> None:
        """First the blocks' results, side by side; then those are reduced by the same rule."""
        (op,) = [op for op in group.ops if op.result in self.stored]
        extent = _reduced_extent(group)
        blocks = -(-extent // BLOCK)
        elements = self.elements(group.ops)
        kept = [axis for axis in range(len(group.domain)) if axis not in group.reduced]
        index = home_index(op.result.shape, kept)
        node = elements.unrounded(elements.element(op.result, index))
        partial = Value(TensorType(node.dtype, (*op.result.type.static_shape, blocks)))
        address = flat_address(partial.type.static_shape, (*index, Affine(((BLOCK_AXIS, 1),))))
        first = build_kernel(
            elements, [StoreRequest(partial, address, node)], group.domain, group.reduced,
            title=title_of(group.ops), specialize=self.specialize, blocks_of=extent,
        )  # fmt: skip
        self.append(first, op)
        again = Op(op.primitive, (partial,), {"axes": (op.result.ndim,)}, [op.result.type], op.location)
        again.results = op.results
        domain, reduced = reduction_domain(again)
        self.lower_group(Group(-1, domain, reduced, [again]))

    # Ops with calls of their own --------------------------------------------------------------------

    def flat(self, value: Value) -> Value:
        """A value's elements as one row, in the same memory."""
        flat = Value(TensorType(value.dtype, (value.type.size,)))
        self.aliases[flat] = value
        return flat

    def _lower_host(self, op: Op) -> None:
        """NumPy computes the op; its operands' views are followed to what stands in memory."""
        sources = dict.fromkeys(source_of(op, operand, self.whole) for operand in op.operands)
        for result in op.results:
            if not result.type.is_static:
                self.memory.grows(result)
        if not op.results or any(0 not in result.shape for result in op.results):
            kept = [value for value in sources if not isinstance(value, Constant)]
            self.calls.append(HostCall(op, kept, self.symbols if op in self.whole else {}))

    # Memory -----------------------------------------------------------------------------------------

    def program(self, graph: Graph) -> Program:
        """Find a place for everything."""
        memory = self.memory
        places = memory.places
        inputs, results = graph.parameters, graph.results
        places.update((value, Place("input", number)) for number, value in enumerate(inputs))
        outputs: list[TensorType] = []
        for value in results:
            if isinstance(value, Constant):
                memory.constant(value)
            elif value not in places:
                places[value] = Place("output", len(outputs))
                outputs.append(value.type)
        arena_bytes = layout_of(self, set())
        place(self, 0)
        for call in walk(self.calls):
            for value in call.buffers:
                places[value] = memory.place(value)
        return Program(
            graph.name,
            [v.type for v in inputs],
            outputs,
            memory.constants,
            arena_bytes,
            memory.cursors,
            memory.growing,
            self.symbols,
            self.calls,
            places,
            list(results),
        )


def _reduced_extent(group: Group) -> int:
    """How many elements are reduced to one."""
    return int(np.prod([group.domain[axis] for axis in group.reduced], dtype=np.int64))


def title_of(ops: Sequence[Op]) -> str:
    """A name for people: the kernel's first few distinct primitives."""
    names = list(dict.fromkeys(op.primitive.name for op in ops))
    return "_".join(names[:3]) + ("_etc" if len(names) > 3 else "")
