"""Chains of calls that go through blocks of rows together, so that what is between them never leaves the cache.

The scores of attention are a product's rows; a softmax changes each of them, and the rows that it leaves are those of
another product.  Computed one call after the other, matrices of scores go to memory and come back twice.  Here a thread
takes a block of rows through the whole chain, in memory of its own, and then the next block.  What each call computes
of a row, and in which order, stays what it is: the same kernels run, for fewer rows at a time.

Where the scores are masked, and the mask is known, the columns that it leaves out for all rows of a block are not even
computed (:mod:`.masks`): the *limit* is how many are.  Nor are the weights there, which are 0, multiplied by what the
last product's right operand has for them, wherever that cannot be told: the *reach* is how many are, all up to the last
that is not finite.  Beyond, a 0 is added, which changes no sum but -0.0: where there is one, all are multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from tracejit.ir import Location, Op, TensorType, Value
from tracejit.ir.facts import facts, replace
from tracejit.ir.primitive import Reduction

from .addresses import flat_address
from .elements import Elements, Node, StoreRequest, reachable
from .fusion import Affine, Group, home_index, is_fusible, source_of, squeezed, through_views
from .lower import NotOneLoop, build_kernel
from .masks import masked_columns
from .memory import ALIGNMENT
from .products import FEW_ROWS, DotCall, Matrices, extents, factorized, is_product, lower_product, one_stride

if TYPE_CHECKING:
    from .control import Body
    from .planning import _Plan
    from .program import KernelCall

ROWS = 48  # in a block: whole tiles of a product, whose scores leave room for its other operands in the cache
PADDING = 64  # bytes between the rows of a block, so that they fall into different sets of the cache
WORTHWHILE_BYTES = 1 << 18  # of a matrix of scores: fewer are in the cache anyway
# Where the products are of longer rows (the inner extent of the first and the columns of the last one, together), what
# is between them matters less than that their right operands are read, and turned, for each block: all the more where
# these are the same for all matrices, as weights are.  Where a mask leaves out columns, there is more to be had.
LONGEST, LONGEST_MASKED = 512, 1024
LEAST_BLOCKS = 6  # in all: so few are not shared evenly by threads, each of which would turn the weights for itself

Move = tuple[int, int, int, int]  # in bytes: for each stack of matrices, matrix, row, and column of the limit
Slope = tuple[int, int, int]  # for each row, each column of the limit, and each of the reach


@facts
class Step:
    """One call of a chain.

    ``call`` is that of the first block of the first matrix; ``moves`` says where the buffers are for others.
    ``slopes`` tells how a kernel's parameters change, and ``by_row`` the extent of its parallel loop, for each row.
    ``limited`` is the extent of a product that is the limit ("n") or the reach ("k").
    """

    call: KernelCall | DotCall
    inner: int  # matrices in a stack
    moves: list[Move]
    slopes: list[Slope] = field(default_factory=list)
    by_row: int = 1
    limited: str = ""


@facts
class BlockwiseCall:
    """``body`` for each block of ``rows`` of the ``m`` rows of each matrix, after ``prologue``, for each matrix.

    ``limits``: for each block, how many of the ``n`` columns are computed.  ``has_reach``: the last product need not
    have all of them; the step before completes them.  ``scratch_bytes`` is what a thread needs.
    """

    prologue: list[Step]
    body: list[Step]
    batch: int
    m: int
    n: int
    rows: int
    limits: list[int]
    has_reach: bool
    scratch_bytes: int
    location: Location | None

    @property
    def calls(self) -> list[KernelCall | DotCall]:
        return [step.call for step in (*self.prologue, *self.body)]

    @property
    def buffers(self) -> list[Value]:
        return list(dict.fromkeys(value for call in self.calls for value in call.buffers))

    @property
    def work(self) -> int:
        return self.batch * len(self.limits) * sum(step.call.work for step in self.body)

    def nested(self) -> Sequence[Body]:
        return ()


@facts
class Chain:
    """Groups that follow one another row by row: scores are the first product's result.

    ``inside`` are the values that only the chain itself reads.
    """

    groups: list[Group]
    scores: Value
    inside: set[Value]


def lower_chains(plan: _Plan, groups: Sequence[Group]) -> tuple[dict[int, list[BlockwiseCall]], set[int]]:
    """Products whose rows a kernel takes to another product, with what gives the first one its rows: their calls, by
    the number of the group before which they run, and the numbers of the groups that they make up."""
    place: dict[int, float] = {group.number: position for position, group in enumerate(groups)}
    maker = {result: group for group in groups for op in group.ops for result in op.results}
    readers: dict[Value, dict[int, Group]] = {}
    for group in groups:
        for op in group.ops:
            for operand in op.operands:
                readers.setdefault(source_of(op, operand, plan.whole), {})[group.number] = group
    calls: dict[int, list[BlockwiseCall]] = {}
    taken: set[int] = set()
    for chain in (chain for first in groups for chain in _candidates(plan, first, maker, readers)):
        if not taken.isdisjoint(group.number for group in chain.groups):
            continue
        # It runs where its last group stands, or before, where another one waits for it.
        numbers = {group.number for group in chain.groups}
        ops = [op for group in chain.groups for op in group.ops]
        read = {source_of(op, operand, plan.whole) for op in ops for operand in op.operands}
        needed = {maker[value].number for value in read if value in maker} - numbers
        waiting = {number for op in ops for number in readers.get(op.result, ())} - numbers
        start = math.floor(min(place[number] for number in {chain.groups[-1].number, *waiting}))
        if max((place[number] for number in needed), default=-1) >= start or not waiting.isdisjoint(taken):
            continue
        call = _Lowering(plan, chain).run()
        if call is not None:
            calls.setdefault(groups[start].number, []).append(call)
            taken |= numbers
            place |= dict.fromkeys(numbers, start - 0.5)
    return calls, taken


def _candidates(
    plan: _Plan, first: Group, maker: Mapping[Value, Group], readers: Mapping[Value, Mapping[int, Group]]
) -> list[Chain]:
    """The chains of a first product, the longest first."""
    if not _is_product(plan, first):
        return []
    results = set(plan.graph.results)

    def only_reader(value: Value) -> Group | None:
        found = list(readers.get(value, {}).values())
        return found[0] if len(found) == 1 and value not in results and value not in plan.regions else None

    scores = first.ops[-1].result
    *_, m, n = scores.type.static_shape
    between = only_reader(scores)
    if between is None or m <= FEW_ROWS or n == 1 or scores.type.nbytes < WORTHWHILE_BYTES:
        return []
    if scores.type.size // (m * n) * -(-m // ROWS) < LEAST_BLOCKS:
        return []
    if not all(is_fusible(op) for op in between.ops) or between.domain != squeezed(scores.shape):
        return []
    if between.reduced - {len(between.domain) - 1} or between.total:
        return []
    for value in [op.result for op in between.ops if op.result in plan.stored]:
        for last in readers.get(value, {}).values():
            product = last.ops[0]
            if not _is_product(plan, last) or not _reads_rows(product, value):
                continue
            if last.ops[-1].result.shape[:-1] != scores.shape[:-1] or value.shape != scores.shape:
                continue
            if last.ops[-1].result.shape[-1] == 1:
                continue
            inside = {scores} | ({value} if only_reader(value) is last else set())
            found = [Chain([first, between, last], scores, inside)]
            rows = source_of(first.ops[0], first.ops[0].operands[0], plan.whole)
            before = maker.get(rows)
            if before is not None and _goes_by_rows(plan, before, rows, scores) and _reads_rows(first.ops[0], rows):
                own = {rows} if only_reader(rows) is first else set()
                found.insert(0, Chain([before, first, between, last], scores, inside | own))
            return found
    return []


def _is_product(plan: _Plan, group: Group) -> bool:
    op = group.ops[0]
    return is_product(op) and op not in plan.whole and 0 not in (*op.result.shape, extents(op)[3])


def _reads_rows(product: Op, value: Value) -> bool:
    """Whether the rows of a product's left operand are those of a value."""
    (rows, _) = product.operands
    return (
        not product.attributes.get("transpose_lhs", False)
        and rows.shape == value.shape
        and through_views(rows, home_index(rows.shape)) == (value, home_index(value.shape))
    )


def _goes_by_rows(plan: _Plan, group: Group, result: Value, scores: Value) -> bool:
    """Whether a group computes only ``result``, each row of it from what stands at that row."""
    return (
        all(is_fusible(op) and not isinstance(op.primitive, Reduction) for op in group.ops)
        and [op.result for op in group.ops if op.result in plan.stored] == [result]
        and result.shape[:-1] == scores.shape[:-1]
        and result.shape[-1] != 1
    )


class _Refused(Exception):
    """A group that does not go by rows."""


class _Lowering:
    def __init__(self, plan: _Plan, chain: Chain) -> None:
        self.plan, self.chain = plan, chain
        shape = chain.scores.type.static_shape
        *batch, self.m, self.n = shape
        self.batch = tuple(batch)
        self.rows = min(ROWS, self.m)
        self.row_axis = len(squeezed(batch))
        self.column_axis = self.row_axis + 1
        self.scratch_bytes = 0
        self.blocks: dict[Value, Matrices] = {}  # where a block of what is inside is
        self.prologue: list[Step] = []
        self._turned_ones: set[Value] = set()
        self._reads_weights = False  # whether a right operand is the same for all matrices

    def run(self) -> BlockwiseCall | None:
        """The chain's call; ``None`` where some of it cannot be computed block by block."""
        plan, calls = self.plan, self.plan.calls
        for value in self.chain.inside:
            self.blocks[value] = self._scratch(self.rows, value.type.static_shape[-1], value)
        try:
            limits = self._limits()
            steps = self._body(is_limited=min(limits) < self.n)
        except (_Refused, NotOneLoop):
            return None
        finally:
            plan.calls = calls
        last = self.chain.groups[-1].ops[-1]
        return BlockwiseCall(
            self.prologue, steps, math.prod(self.batch), self.m, self.n, self.rows, limits, steps[-1].limited == "k",
            self.scratch_bytes, last.location,
        )  # fmt: skip

    def _limits(self) -> list[int]:
        blocks = -(-self.m // self.rows)
        masked = masked_columns(self.plan, self.chain.groups[-2], self.chain.scores, self._weights)
        if masked is None:
            return [self.n] * blocks
        return [max(1, max(masked[first : first + self.rows])) for first in range(0, self.m, self.rows)]

    @property
    def _weights(self) -> Value:
        """What the last product reads."""
        product = self.chain.groups[-1].ops[0]
        return source_of(product, product.operands[0], self.plan.whole)

    def _body(self, *, is_limited: bool) -> list[Step]:
        *before, first, between, last = self.chain.groups
        steps = [self._kernel(group, is_limited=False) for group in before]
        steps.append(self._product(first, "n" if is_limited else ""))
        steps.append(self._kernel(between, is_limited=is_limited))
        end = self._product(last, "")
        if is_limited:
            product, own = end.call, self._weights in self.blocks
            assert isinstance(product, DotCall)
            if own and product.addend is None and product.rhs.value not in self._turned_ones:
                end.limited = "k"  # it can be computed again, and its operand's columns are neighbours
            steps.append(self._rest(self._weights, to_reach=bool(end.limited)))
        longest = LONGEST_MASKED if is_limited else 0 if self._reads_weights else LONGEST
        if extents(first.ops[0])[3] + extents(last.ops[0])[2] > longest:
            raise _Refused
        return [*steps, end]

    # Memory of a thread's own ---------------------------------------------------------------------------------

    def _scratch(self, rows: int, columns: int, like: Value) -> Matrices:
        """Room for some rows."""
        from .control import Place

        pitch = columns + PADDING // like.dtype.itemsize
        value = Value(TensorType(like.dtype, (rows, pitch)))
        self.plan.memory.places[value] = Place("scratch", self.scratch_bytes)
        self.scratch_bytes += -(-value.type.nbytes // ALIGNMENT) * ALIGNMENT
        return Matrices(value, 0, (0, 0, pitch, 1))

    def _point(self, row: int, column: int, offset: int = 0) -> Affine:
        """Where a row and a column are, given how far apart they are in memory."""
        terms = (self.row_axis, row), (self.column_axis, column)
        return Affine(tuple((axis, step) for axis, step in terms if step), offset)

    # Products ---------------------------------------------------------------------------------------------------

    def _product(self, group: Group, limited: str) -> Step:
        plan, (op, *addition) = self.plan, group.ops
        plan.calls = []
        lower_product(plan, op, addition[0] if addition else None)
        if len(plan.calls) != 1:
            raise _Refused
        (call,) = plan.calls
        assert isinstance(call, DotCall)
        if any(matrices.value in self.blocks for matrices in (call.rhs, call.addend) if matrices is not None):
            raise _Refused
        lhs, out = self._block(call.lhs, call, call.k), self._block(call.out, call, call.n)
        self._reads_weights |= not any(call.rhs.strides[:2])
        rhs = call.rhs if call.rhs.strides[3] == 1 or call.n == 1 else self._turned(call)
        operands = [each for each in (lhs, rhs, out, call.addend) if each is not None]
        own = [replace(each, strides=(0, 0, *each.strides[2:])) for each in operands]
        moves = []
        for each in operands:
            stack, within, row, _ = each.strides
            is_here = each is rhs or each in self.blocks.values()
            moves.append(self._bytes(each.value, stack, within, 0 if is_here else row))
        one = DotCall(
            call.dtype, own[0], own[1], own[2], own[3] if addition else None, 1, 1, self.rows, call.n, call.k,
            call.location,
        )  # fmt: skip
        return Step(one, call.inner, moves, limited=limited)

    def _bytes(self, value: Value, stack: int, within: int, row: int) -> Move:
        size = value.dtype.itemsize
        return stack * size, within * size, row * size, 0

    def _block(self, matrices: Matrices, call: DotCall, columns: int) -> Matrices:
        """Where the block of a matrix is."""
        block = self.blocks.get(matrices.value)
        if block is None:
            return matrices
        stack, within, row, column = matrices.strides
        lies = matrices.offset == 0 and row == columns and column == 1
        lies &= call.inner == 1 or within == self.m * columns
        lies &= call.batch == call.inner or stack == call.inner * self.m * columns
        if not lies:
            raise _Refused
        return block

    def _turned(self, call: DotCall) -> Matrices:
        """A right operand that lies in columns, turned once for all blocks of its matrix."""
        turned = self._scratch(call.k, call.n, call.rhs.value)
        self._turned_ones.add(turned.value)
        stack, within, along_k, along_n = call.rhs.strides
        elements = self.plan.elements()
        flat = self.plan.flat(call.rhs.value)
        source = elements.load(flat, (self._point(along_k, along_n, call.rhs.offset),))
        store = StoreRequest(turned.value, self._point(turned.strides[2], 1), source)
        row, column = self.row_axis, self.column_axis
        own, _ = self._call(elements, [store], {row: call.k, column: call.n}, frozenset(), "transpose", (0, 0))
        moved = self._bytes(flat, stack, within, 0)
        moves = [(0, 0, 0, 0) if buffer is turned.value else moved for buffer in own.buffers]
        self.prologue.append(Step(own, call.inner, moves, [(0, 0, 0)] * len(own.parameters), by_row=0))
        return turned

    # Kernels ----------------------------------------------------------------------------------------------------

    def _call(
        self,
        elements: Elements,
        stores: list[StoreRequest],
        domain: Mapping[int, int],
        reduced: frozenset[int],
        title: str,
        by_column: tuple[int, int],
        ops: Sequence[Op] = (),
    ) -> tuple[KernelCall, list[Slope]]:
        """A kernel's call, and its slopes: ``by_column`` tells how its columns change with the limit and the reach."""
        from .program import KernelCall

        lowered = build_kernel(elements, stores, domain, reduced, title=title, specialize=False, host=True)
        locations = list(dict.fromkeys(op.location for op in ops if op.location is not None))
        call = KernelCall(
            lowered.kernel, lowered.buffers, lowered.parameters, lowered.parallel_extent, lowered.work, locations
        )
        row, column = lowered.extent_of.get(self.row_axis), lowered.extent_of.get(self.column_axis)
        if row is None or column is None or lowered.parallel_extent != domain[self.row_axis]:
            raise _Refused  # rows and columns are walked as one, or the columns first
        slopes: list[Slope] = [(0, 0, 0)] * len(lowered.parameters)
        slopes[row], slopes[column] = (1, 0, 0), (0, *by_column)
        return call, slopes

    def _kernel(self, group: Group, *, is_limited: bool) -> Step:
        """A group's kernel for a block."""
        from .planning import title_of

        plan = self.plan
        elements, stores = plan.requests(group.ops, group.domain, group.reduced)
        nodes = reachable(elements.nodes, stores)
        leading = range(self.row_axis)
        steps: dict[Value, tuple[int, ...]] = {}
        accesses: list[Node | StoreRequest] = [node for node in nodes if node.kind == "load"]
        accesses += stores
        for access in accesses:
            value = access.buffer if isinstance(access, Node) else access.target
            assert value is not None
            terms = dict(access.address.terms)
            along = (*(terms.get(axis, 0) for axis in leading), terms.get(self.row_axis, 0))
            block = self.blocks.get(value)
            if block is not None:
                home = flat_address(value.type.static_shape, home_index(value.shape))
                if access.address != home:
                    raise _Refused
                value, along = block.value, (0,) * len(along)
                access.address = self._point(block.strides[2], 1)
                if isinstance(access, Node):
                    access.buffer = value
                else:
                    access.target = value
            else:
                kept = tuple((axis, step) for axis, step in access.address.terms if axis not in leading)
                access.address = replace(access.address, terms=kept)
            if steps.setdefault(value, along) != along:
                raise _Refused  # its rows are read in two ways
        for node in nodes:
            if node.kind == "index" and any(axis <= self.row_axis for axis, _ in node.address.terms):
                raise _Refused
            node.axes -= frozenset(leading)
        domain = {axis: extent for axis, extent in enumerate(group.domain) if axis not in leading}
        domain[self.row_axis] = self.rows
        call, slopes = self._call(
            elements, stores, domain, group.reduced, title_of(group.ops), (int(is_limited), 0), group.ops
        )
        batch = squeezed(self.batch)
        places = [steps[value] for value in call.buffers]
        factors = factorized(places, batch)
        if factors is None:
            raise _Refused
        split, inner = factors
        moves = []
        for value, place in zip(call.buffers, places, strict=True):
            stack, within = (one_stride(place, batch, *part) or 0 for part in ((0, split), (split, len(batch))))
            moves.append(self._bytes(value, stack, within, place[-1]))
        return Step(call, inner, moves, slopes)

    def _rest(self, weights: Value, *, to_reach: bool) -> Step:
        """The columns from the limit on, or those up to the reach, which are 0, but NaN where the row is."""
        plan, size = self.plan, weights.dtype.itemsize
        block = self.blocks.get(weights)
        memory, row = (weights, self.n) if block is None else (block.value, block.strides[2])
        first, rest = plan.flat(memory), plan.flat(memory)
        elements = plan.elements()
        zero = elements.multiply(elements.load(first, (self._point(row, 0),)), elements.constant(0, weights.dtype))
        store = StoreRequest(rest, self._point(row, 1), zero)
        domain = {self.row_axis: self.rows, self.column_axis: self.n}
        call, slopes = self._call(elements, [store], domain, frozenset(), "rest", (-1, int(to_reach)))
        matrix, row = (self.m * self.n * size, self.n * size) if block is None else (0, 0)
        moves = [(matrix, 0, row, size if buffer is rest else 0) for buffer in call.buffers]
        call.parameters[slopes.index((0, -1, int(to_reach)))] = 0  # where the limit is all columns
        return Step(call, 1, moves, slopes)
