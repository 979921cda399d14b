"""Fusion: which ops share a kernel.

A group has one index domain (extents of 1 left out) and at most one set of reduced axes.  Its members
live at one of two levels: *full*, one value for each point of the domain, or *kept*, one value for each
point of the axes that are not reduced.  That covers elementwise chains, reductions with their producers
and consumers, and rows that are read by several reductions (softmax, layer norm).

An op joins the group of a producer when it reads that producer's values at the very same point (or, from
the kept level, at the point's projection), and when no path leads out of the group and back into it.
Whatever is decided here is about speed alone: :mod:`.elements` computes a member at any index it is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any

from tracejit.ir import Block, Op, Value
from tracejit.ir.facts import facts
from tracejit.ir.primitive import Elementwise, Generation, Library, Placement, Primitive, Reduction, View
from tracejit.ir.primitives.exact import next_after
from tracejit.ir.primitives.indexing import gather
from tracejit.ir.primitives.reduction import reduce_sum
from tracejit.ir.types import HALF_DTYPES, KERNEL_DTYPES, complex64, complex128

COMPLEX_KERNEL_DTYPES = KERNEL_DTYPES | {complex64, complex128}
DEVICE_DTYPES = KERNEL_DTYPES | HALF_DTYPES
MAX_GROUP = 120  # ops; larger kernels spill registers
MAX_SCALARS = 16  # groups of scalars that others may join
NEAR_PRODUCTS = 4  # for so long, a result may be kept that could be computed later
SMALL_RESULT = 1 << 12  # elements: it does not matter how long so few are kept
LARGE_REDUCTION = 1 << 16  # elements; from here on, few long rows are split between threads

Domain = tuple[int, ...]


@facts(frozen=True)
class Affine:
    """An integer that is affine in loop axes: ``sum(coefficient * axis) + constant``.

    ``dynamic`` holds further summands, ``(position, coefficient)``: the positions are read when the kernel runs.
    """

    terms: tuple[tuple[int, int], ...]
    constant: int = 0
    dynamic: tuple[tuple[Any, int], ...] = ()

    def __add__(self, number: int) -> Affine:
        return Affine(self.terms, self.constant + number, self.dynamic)

    def __mul__(self, number: int) -> Affine:
        if number == 0:
            return Affine(())
        terms, dynamic = (
            tuple((item, coefficient * number) for item, coefficient in summands)
            for summands in (self.terms, self.dynamic)
        )
        return Affine(terms, self.constant * number, dynamic)


Index = tuple[Any, ...]  # an Affine or the integer 0, one entry a dimension


def squeezed(shape: Sequence[Any]) -> Domain:
    """A shape's extents other than 1."""
    return tuple(extent for extent in shape if extent != 1)


def reduction_domain(op: Op) -> tuple[Domain, frozenset[int]]:
    """A reduction's domain, and which of its axes are reduced."""
    shape, axes = op.operands[0].type.static_shape, op.attributes["axes"]
    long = [axis for axis, extent in enumerate(shape) if extent != 1]
    return squeezed(shape), frozenset(number for number, axis in enumerate(long) if axis in axes)


def home_index(shape: Sequence[Any], axes: Sequence[int] | None = None) -> Index:
    """The index of a value at its own point: one axis for each extent other than 1."""
    return _home_index(tuple([extent != 1 for extent in shape]), None if axes is None else tuple(axes))


@lru_cache(1 << 10)
def _home_index(is_long: tuple[bool, ...], axes: tuple[int, ...] | None) -> Index:
    numbers = iter(range(len(is_long)) if axes is None else axes)
    return tuple([Affine(((next(numbers), 1),)) if long else 0 for long in is_long])


def operand_index(operand: Value, index: Index) -> Index:
    """The index at which an elementwise op at ``index`` reads ``operand``: NumPy's broadcasting."""
    shape = operand.type.shape
    tail = index[len(index) - len(shape) :]
    return (
        tuple([0 if extent == 1 else entry for extent, entry in zip(shape, tail, strict=True)]) if 1 in shape else tail
    )


def through_view(value: Value, index: Index) -> tuple[Value, Index] | None:
    """The operand of the view that ``value`` is, and the index there; ``None`` where it is no view of that kind."""
    if value.op is None or not isinstance(value.op.primitive, View):
        return None
    (operand,) = value.op.operands
    mapped = value.op.primitive.index_map(index, operand.type, **value.op.attributes)
    if mapped is None:
        return None
    # An index map turns the 0 of an axis of extent 1 into whatever number the slice starts at.
    return operand, tuple(Affine((), entry) if isinstance(entry, int) and entry else entry for entry in mapped)


def through_views(value: Value, index: Index) -> tuple[Value, Index]:
    """The value that holds the elements of a view, and the index there."""
    while (step := through_view(value, index)) is not None:
        value, index = step
    return value, index


def is_alias(op: Op) -> bool:
    """Whether the op's result is its operand's memory under another shape (a reshape that is not affine)."""
    return isinstance(op.primitive, View) and through_view(op.result, home_index(op.result.shape)) is None


def is_symbolic(op: Op) -> bool:
    """Whether an extent is known only when the program runs: NumPy computes such ops."""
    return not all(value.type.is_static for value in (*op.operands, *op.results))


def source_of(op: Op, operand: Value, whole: Collection[Op] = ()) -> Value:
    """The value in memory that the op reads for its operand; ``whole`` are ops that take views as they are."""
    if operand.op is None or not isinstance(operand.op.primitive, View) or op in whole or is_alias(op):
        return operand
    return through_views(operand, home_index(operand.shape))[0]


def runs_in_kernels(op: Op, host: bool = True) -> bool:
    """Whether kernels compute the op; else NumPy does, between them.  Halves are for the kernels of devices alone."""
    if isinstance(op.primitive, Library) or (op.primitive is next_after and has_half(op)):
        return False
    values = (*op.operands, *op.results)
    if not host and _takes_complex_on_devices(op):
        return all(value.dtype in DEVICE_DTYPES or value.dtype.kind == "c" for value in values)
    dtypes = KERNEL_DTYPES if host else DEVICE_DTYPES
    return all(value.dtype in dtypes for value in values) or (
        takes_complex(op.primitive, op.attributes) and all(value.dtype in COMPLEX_KERNEL_DTYPES for value in values)
    )


def takes_complex(primitive: Primitive, attributes: Mapping[str, Any]) -> bool:
    """Whether kernels compute a primitive of complex numbers: of their order they know nothing."""
    is_known = isinstance(primitive, Elementwise) and primitive.takes_complex
    is_known &= attributes.get("dtype", complex64) in COMPLEX_KERNEL_DTYPES
    return is_known and attributes.get("direction") not in ("lt", "le", "gt", "ge")


def _takes_complex_on_devices(op: Op) -> bool:
    """Of a device's kernels, also those that move complex numbers, and add them up."""
    is_known = isinstance(op.primitive, View | Placement) or op.primitive in (gather, reduce_sum)
    return is_known or (isinstance(op.primitive, Elementwise) and takes_complex(op.primitive, op.attributes))


def has_half(op: Op) -> bool:
    return any(value.dtype in HALF_DTYPES for value in (*op.operands, *op.results))


def is_fusible(op: Op, host: bool = True) -> bool:
    if not runs_in_kernels(op, host):
        return False
    return isinstance(op.primitive, Elementwise | Generation | Reduction) or op.primitive is gather


@facts(eq=False)
class Group:
    """Ops that share a kernel; ``reduced`` are axes of the domain, ``closed`` groups take no more ops.

    A ``total`` has few points with many elements each.  Many threads work on one, so what is done for each element
    must not wait for what is reduced.  ``era`` is how many ops that are not fused stand before the first of its ops.
    """

    number: int
    domain: Domain
    reduced: frozenset[int] = frozenset()
    ops: list[Op] = field(default_factory=list)
    closed: bool = False
    total: bool = False
    era: int = 0

    @property
    def kept(self) -> Domain:
        return tuple(extent for axis, extent in enumerate(self.domain) if axis not in self.reduced)

    @property
    def kept_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(len(self.domain)) if axis not in self.reduced)


def fuse(
    graph: Block, whole: Collection[Op] = (), additions: Mapping[Op, Op] | None = None, *, host: bool = True
) -> list[Group]:
    """The graph's ops in groups, in an order in which they can run; views that are only read are in none.

    The ``whole`` ops stand alone, and what they read stands in memory.  ``additions`` go with a product each.  On the
    ``host`` few long rows are for one op, on a device for all that reduces them (:attr:`Group.total`).
    """
    return _Fusion(graph, whole, additions or {}, host).run()


class _Fusion:
    def __init__(self, graph: Block, whole: Collection[Op], additions: Mapping[Op, Op], host: bool) -> None:
        self.graph = graph
        self.host = host
        self.whole = whole
        self.additions = additions
        self.taken = set(additions.values())
        self.groups: dict[int, Group] = {}
        self.scalars: dict[int, Group] = {}  # the latest of them
        self.latest: dict[int, Group] = {}  # of those that reduce columns, or few long rows
        self.group_of: dict[Value, Group] = {}
        self.level: dict[Value, str] = {}
        self.depends: dict[int, int] = {}  # a group's number → bit set of the groups it needs
        self.needed = 0  # bit set of all that any needs
        self.era = 0
        self.uses = graph.uses()
        self.results = set(graph.results)
        self.in_memory = {operand for op in whole for operand in op.operands}
        self.in_memory |= {op.operands[0] for op in graph.ops if op not in whole and is_alias(op)}

    def run(self) -> list[Group]:
        for op in self.graph.ops:
            if op in self.taken:
                continue
            if op in self.additions:
                self._add(self._open(self.additions[op], (), closed=True), op, "full")
            elif op in self.whole:
                self.era += 1
                self._open(op, (), closed=True)
            elif not isinstance(op.primitive, View):
                self._place(op)
            elif op.result in self.results or is_alias(op) or op.result in self.in_memory:
                self._open(op, squeezed(op.result.shape), closed=True)
        return list(self._in_order())

    # Placing one op ---------------------------------------------------------------------------------

    def _place(self, op: Op) -> None:
        if not is_fusible(op, self.host):
            self.era += 1
            self._open(op, (), closed=True)
            return
        reads = self._reads(op)
        if isinstance(op.primitive, Reduction):
            self._place_reduction(op, reads)
            return
        domain = squeezed(op.result.shape)
        candidates = [group for group in self._producers(reads) if self._accepts(group, op, domain, reads)]
        if not domain:  # scalars go together, related or not
            candidates += [
                group
                for group in self.scalars.values()
                if group not in candidates and self._accepts(group, op, domain, reads)
            ]
        self._join(op, domain, candidates, reads)

    def _place_reduction(self, op: Op, reads: list[tuple[Value, Index]]) -> None:
        shape = op.operands[0].shape
        domain = squeezed(shape)
        numbers = {axis: number for number, axis in enumerate(a for a, extent in enumerate(shape) if extent != 1)}
        reduced = frozenset(numbers[axis] for axis in op.attributes["axes"] if axis in numbers)
        kept_size, size = 1, 1
        for axis, extent in enumerate(domain):
            size *= extent
            kept_size *= 1 if axis in reduced else extent
        few_long_rows = kept_size < 8 and size >= LARGE_REDUCTION
        by_columns = bool(reduced) and bool(domain) and len(domain) - 1 not in reduced
        total = few_long_rows and not self.host and len(domain) - len(reduced) <= 1
        beside = self._beside(reads) if total or (by_columns and not self.host) else []
        candidates = [
            group
            for group in dict.fromkeys([*self._producers(reads), *beside])
            if group.domain == domain
            and self._is_near(group, op, reads)
            and group.reduced in (frozenset(), reduced)
            and self._reads_fit(group, reads, full=True)
            and (total or group in beside or not (few_long_rows or by_columns) or self._feeds_only(group, op))
        ]
        group = self._join(op, domain, candidates, reads, reduced)
        group.total = group.total or total
        group.closed = group.closed or (few_long_rows and not total)
        if total or by_columns:
            self.latest[group.number] = group
            if len(self.latest) > MAX_SCALARS:
                del self.latest[next(iter(self.latest))]

    def _beside(self, reads: list[tuple[Value, Index]]) -> list[Group]:
        """The latest groups with reductions that read one of these values too, or what those are computed from."""
        values = {value for value, _ in reads}
        for group in self._producers(reads):
            values |= {source_of(op, operand) for op in group.ops for operand in op.operands}
        return [
            group
            for group in self.latest.values()
            if any(source_of(op, operand) in values for op in group.ops for operand in op.operands)
        ]

    def _accepts(self, group: Group, op: Op, domain: Domain, reads: list[tuple[Value, Index]]) -> bool:
        if group.closed or not self._is_near(group, op, reads):
            return False
        if domain == group.domain and self._reads_fit(group, reads, full=True):
            return True
        return bool(group.reduced) and domain == group.kept and self._reads_fit(group, reads, full=False)

    def _is_near(self, group: Group, op: Op, reads: list[tuple[Value, Index]]) -> bool:
        """Whether the op's result may be computed in the group, so early: what stands far ahead in the graph would be
        kept until then.  Nor must the group wait for what comes late, for what it reads would be kept."""
        if self.era - group.era <= NEAR_PRODUCTS:
            return True
        latest = max((producer.era for producer in self._producers(reads)), default=0)
        return op.result.type.size < SMALL_RESULT and latest - group.era <= NEAR_PRODUCTS

    def _reads_fit(self, group: Group, reads: list[tuple[Value, Index]], *, full: bool) -> bool:
        """Whether all values that are read from the group are read at the reader's own point."""
        if group.closed:
            return False
        identity = [((axis, 1),) for axis in range(len(group.domain))]
        kept = [identity[axis] for axis in group.kept_axes]
        for value, index in reads:
            if self.group_of.get(value) is not group:
                continue
            if full and group.total and self.level[value] == "kept":
                return False
            terms = [entry.terms for entry in index if entry != 0]
            if any(entry != 0 and entry.constant != 0 for entry in index):
                return False
            if self.level[value] == "full":
                if not full or terms != identity:
                    return False
            elif terms != (kept if full else identity[: len(kept)]):
                return False
        return True

    def _feeds_only(self, group: Group, op: Op) -> bool:
        """Whether nothing but the group itself and ``op`` reads the group's values."""
        if group.reduced or len(group.ops) > 16:
            return False
        inside: dict[Value, int] = {}
        for user in [*group.ops, op]:
            for operand in user.operands:
                value = through_views(operand, home_index(operand.shape))[0]
                inside[value] = inside.get(value, 0) + 1
        return all(
            member not in self.results and inside.get(member, 0) == self.uses.get(member, 0)
            for member in (member_op.result for member_op in group.ops)
        )

    def _reads(self, op: Op) -> list[tuple[Value, Index]]:
        """The stored values behind the op's operands, with the index at which the op's own point reads them."""
        if isinstance(op.primitive, Reduction):
            return [through_views(op.operands[0], home_index(op.operands[0].shape))]
        if op.primitive is gather:
            positions = home_index(op.result.shape)
            return [through_views(index, positions[: index.ndim]) for index in op.operands[1:]] + [
                (through_views(op.operands[0], home_index(op.operands[0].shape))[0], (Affine((), -1),))
            ]
        index = home_index(op.result.shape)
        return [through_views(operand, operand_index(operand, index)) for operand in op.operands]

    def _producers(self, reads: list[tuple[Value, Index]]) -> list[Group]:
        groups: list[Group] = []
        for value, _ in reads:
            group = self.group_of.get(value)
            if group is not None and group not in groups:
                groups.append(group)
        return groups

    # Groups and their order -------------------------------------------------------------------------

    def _open(self, op: Op, domain: Domain, *, closed: bool = False) -> Group:
        group = Group(len(self.depends), domain, closed=closed, era=self.era)
        self.groups[group.number] = group
        if not domain and not closed:
            self.scalars[group.number] = group
            if len(self.scalars) > MAX_SCALARS:
                del self.scalars[next(iter(self.scalars))]
        self.depends[group.number] = 0
        self._add(group, op, "full")
        return group

    def _add(self, group: Group, op: Op, level: str) -> None:
        group.ops.append(op)
        for result in op.results:
            self.group_of[result] = group
            self.level[result] = level
        needed = 0
        for operand in op.operands:
            producer = self.group_of.get(source_of(op, operand, self.whole))
            if producer is not None and producer is not group:
                needed |= self.depends[producer.number] | 1 << producer.number
        self._require(group.number, needed)

    def _require(self, number: int, needed: int) -> None:
        """Record that a group needs others, and so does every group that needs it."""
        if needed & ~self.depends[number]:
            self.depends[number] |= needed
            self.needed |= needed
            bit = 1 << number
            if self.needed & bit:
                for other, bits in self.depends.items():
                    if bits & bit:
                        self.depends[other] = bits | needed

    def _join(
        self,
        op: Op,
        domain: Domain,
        candidates: list[Group],
        reads: list[tuple[Value, Index]],
        reduced: frozenset[int] | None = None,
    ) -> Group:
        """Put the op into one group, merged from as many candidates as fit together."""
        producers = self._producers(reads)
        chosen: Group | None = None
        for group in sorted(candidates, key=lambda group: -group.number):
            bit = 1 << group.number
            if len(group.ops) >= MAX_GROUP or any(
                self.depends[producer.number] & bit for producer in producers if producer is not group
            ):
                continue
            if chosen is None:
                chosen = group
            elif self._can_merge(chosen, group):
                self._merge(chosen, group)
        if chosen is None:
            chosen = self._open(op, domain)
        else:
            full = reduced is not None or domain == chosen.domain
            self._add(chosen, op, "full" if full else "kept")
        if reduced:
            chosen.reduced = reduced
            self.level[op.result] = "kept"
        return chosen

    def _can_merge(self, left: Group, right: Group) -> bool:
        if left.domain != right.domain or len(left.ops) + len(right.ops) > MAX_GROUP:
            return False
        if left.reduced and right.reduced and left.reduced != right.reduced:
            return False
        between = self.depends[left.number] | self.depends[right.number]
        if (left.total or right.total) and between & (1 << left.number | 1 << right.number):
            return False
        pair = 1 << left.number | 1 << right.number
        return not any(
            self.depends[number] & pair
            for number in self.groups
            if between >> number & 1 and number not in (left.number, right.number)
        )

    def _merge(self, into: Group, group: Group) -> None:
        into.ops += group.ops
        into.reduced |= group.reduced
        into.total = into.total or group.total
        for op in group.ops:
            self.group_of[op.result] = into
        del self.groups[group.number]
        self.scalars.pop(group.number, None)
        if self.latest.pop(group.number, None) is not None:
            self.latest[into.number] = into
        needed = self.depends.pop(group.number)
        old, new = 1 << group.number, 1 << into.number
        if self.needed & old:
            self.needed |= new
        for number, bits in self.depends.items():
            if bits & old:
                self.depends[number] = (bits & ~old) | (new if number != into.number else 0)
        self.depends[group.number] = 0  # numbers are not used again
        self._require(into.number, (needed | self.depends[into.number]) & ~(old | new))

    def _in_order(self) -> Iterator[Group]:
        """The groups as their first ops stand in the graph: one that has to wait for a later one holds up no other.

        So what is computed late, to save memory, stays late.
        """
        order = {op: position for position, op in enumerate(self.graph.ops)}
        for group in self.groups.values():
            group.ops.sort(key=order.__getitem__)
        done = 0
        waiting: list[Group] = []  # for groups that come later in the graph
        for group in sorted(self.groups.values(), key=lambda group: order[group.ops[0]]):
            waiting.append(group)
            while (ready := next((g for g in waiting if not self.depends[g.number] & ~done), None)) is not None:
                waiting.remove(ready)
                done |= 1 << ready.number
                yield ready
        assert not waiting, "fusion made a cycle"
