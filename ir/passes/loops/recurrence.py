"""What changes from step to step where ops repeat: each operand as a recurrence, found by arithmetic on numbers.

:class:`Table` numbers the values of a block.  In a stretch of repeated ops the numbers of an operand, step by step,
tell what it is: always the same for what is *invariant*; as far from the op for what the same step computes (*local*)
or one before (*carried*); at another regular distance for the values of another loop's steps (*elsewhere*).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import field
from itertools import pairwise

import numpy as np

from ...facts import facts
from ...graph import Block, Constant, Op, Value
from ...primitives.placement import pad, update_slice
from ...primitives.view import slice_
from ...structure import attributes_key, constant_key, regions_key
from .repetition import Stretch
from .stacks import Motion

MAX_LAG = 4  # steps that a value is carried at most

# Where these put or take a part, the position may change from step to step.
POSITIONS = {slice_: "start", update_slice: "start", pad: "low"}
_FOLLOWS = {slice_: ("limit",), update_slice: (), pad: ("high",)}  # from the position and the types


class Table:
    """A block in numbers.

    Results are numbered from 0 in program order, parameters and constants from -1 down.  ``codes`` are equal for ops
    that differ in nothing but operands, lines and :data:`POSITIONS`; of an op that is not to be repeated, it is unique.
    """

    def __init__(self, block: Block) -> None:
        self.ops = block.ops
        self.results: list[Value] = []
        self.outside: list[Value] = [*block.parameters]
        self._numbers: dict[Value, int] = {value: -1 - i for i, value in enumerate(self.outside)}
        self._constants: dict[object, int] = {}
        codes: list[int] = []
        operands: list[int] = []
        first_operand, first_result = [0], [0]
        known: dict[object, int] = {}
        numbers, results = self._numbers, self.results
        for op in block.ops:
            key = _op_key(op)
            code = known.setdefault(key, len(known))
            if code == len(known) - 1 and not _is_repeatable(op):
                known[op] = known.pop(key)
            codes.append(code)
            for operand in op.operands:
                number = numbers.get(operand)
                operands.append(self._outside(operand) if number is None else number)
            for result in op.results:
                numbers[result] = len(results)
                results.append(result)
            first_operand.append(len(operands))
            first_result.append(len(results))
        self.codes = np.array(codes, np.int64)
        self.operands = np.array(operands, np.int64)
        self.first_operand, self.first_result = np.array(first_operand), np.array(first_result)
        self.block_results = [self.number(value) for value in block.results]
        self.is_constant = np.array([isinstance(value, Constant) for value in self.outside], bool)

    def number(self, value: Value) -> int:
        number = self._numbers.get(value)
        return self._outside(value) if number is None else number

    def value(self, number: int) -> Value:
        return self.results[number] if number >= 0 else self.outside[-1 - number]

    def operands_of(self, op: int) -> list[int]:
        numbers: list[int] = self.operands[self.first_operand[op] : self.first_operand[op + 1]].tolist()
        return numbers

    def _outside(self, value: Value) -> int:
        """The number of a constant that is met for the first time: constants of one content share it."""
        assert isinstance(value, Constant)
        key = constant_key(value)
        number = self._constants.get(key)
        if number is None:
            self.outside.append(value)
            number = self._constants[key] = -len(self.outside)
        self._numbers[value] = number
        return number


def _op_key(op: Op) -> object:
    attributes = op.attributes
    primitive = op.primitive
    types = tuple([operand.type for operand in op.operands])
    if primitive in POSITIONS:
        moving = (POSITIONS[primitive], *_FOLLOWS[primitive])
        others = tuple([entry for name, entry in attributes.items() if name not in moving])
        return primitive, types, others, op.results[0].type
    if not attributes:
        return primitive, types
    entries: Hashable = tuple(attributes.items())
    if float in map(type, attributes.values()):
        entries = attributes_key(attributes)  # 0.0 is not -0.0
    return primitive, types, entries, regions_key(op.regions) if op.regions else ()


def _is_repeatable(op: Op) -> bool:
    """Whether the op is there for its results alone, and all extents are known."""
    return bool(op.results) and all(value.type.is_static for value in (*op.operands, *op.results))


# Recurrences ----------------------------------------------------------------------------------------


@facts(frozen=True)
class Invariant:
    """The same value in each step."""

    number: int


@facts(frozen=True)
class Local:
    """A result of the same step: which of the step's results."""

    offset: int


@facts(frozen=True)
class Carried:
    """A result of ``lag`` steps before; at first, ``initial`` values in turn."""

    offset: int
    lag: int
    initial: tuple[int, ...]

    @property
    def next(self) -> Carried | Local:
        """What it becomes in the next step."""
        return Local(self.offset) if self.lag == 1 else Carried(self.offset, self.lag - 1, self.initial[1:])


@facts(frozen=True)
class Varying:
    """A constant of its own for each step."""

    numbers: tuple[int, ...]


@facts(frozen=True)
class Elsewhere:
    """A result of ``count`` steps of another loop: of ``first``, then of every ``stride``-th."""

    loop: Loop
    offset: int
    first: int
    stride: int
    count: int


Operand = Invariant | Local | Carried | Varying | Elsewhere


@facts(eq=False)
class Loop:
    """``count`` steps of ``period`` ops from op ``start`` on; results are numbered from ``base``, ``width`` a step."""

    start: int
    period: int
    count: int
    base: int
    width: int
    operands: list[list[Operand]] = field(default_factory=list)  # of each op of a step
    motions: dict[int, Motion] = field(default_factory=dict)  # of ops of a step

    @property
    def stop(self) -> int:
        return self.start + self.period * self.count

    def number(self, step: int, offset: int) -> int:
        """The number of a result of a step."""
        return self.base + step * self.width + offset

    def find(self, number: int) -> tuple[int, int]:
        """The step, and which of its results, a number stands for."""
        return divmod(number - self.base, self.width)


class Unexplained(Exception):
    """An operand is another value in each step, and those are of no loop that is known."""


class Loops:
    """The loops found so far, and to which of them each result belongs."""

    def __init__(self, table: Table) -> None:
        self.found: list[Loop] = []
        self.owner = np.full(len(table.results), -1)

    def add(self, loop: Loop) -> None:
        self.owner[loop.base : loop.number(loop.count, 0)] = len(self.found)
        self.found.append(loop)

    def of(self, number: int) -> Loop | None:
        """The loop that computes a value, if one does."""
        owner = self.owner[number] if number >= 0 else -1
        return self.found[owner] if owner >= 0 else None


def recurrence(table: Table, stretch: Stretch, loops: Loops, least: int) -> Loop | None:
    """The longest loop in a stretch, around its middle, if it has ``least`` steps; ``loops`` are those before.

    Raises :class:`Unexplained` where an operand would have to be of another loop.
    """
    start, period, count = stretch.start, stretch.period, stretch.count
    base, width = int(table.first_result[start]), int(table.first_result[start + period] - table.first_result[start])
    first = table.first_operand[start : start + period + 1] - table.first_operand[start]
    begin = table.first_operand[start]
    numbers = table.operands[begin : begin + count * first[-1]].reshape(count, first[-1])
    positions = _positions(table, stretch)
    middle = count // 2
    steps = np.arange(count) - middle

    slopes = numbers[middle] - numbers[middle - 1]
    regular = numbers == numbers[middle] + steps[:, None] * slopes
    offsets = numbers[middle] - (base + middle * width)
    lags = -(offsets // width)
    is_own = (numbers[middle] >= base) & (slopes == width) & (lags <= MAX_LAG)
    for column in np.flatnonzero((numbers[middle] < 0) | ~is_own & (slopes != 0)).tolist():
        entries = numbers[:, column]
        if entries[middle] >= 0:
            owners = _owners(loops, entries)
            if owners[middle] < 0:
                raise Unexplained
            loop = loops.found[owners[middle]]
            if slopes[column] % loop.width:
                return None
            regular[:, column] &= owners == owners[middle]
        elif table.is_constant[-1 - entries[middle]]:
            regular[:, column] = (entries < 0) & table.is_constant[np.maximum(-1 - entries, 0)]
        elif slopes[column]:
            return None  # parameters in a row
    stays = np.ones(count, bool)
    for entries in positions.values():
        stays &= (entries == entries[middle] + steps[:, None] * (entries[middle] - entries[middle - 1])).all(axis=1)

    low, high = _around(middle, stays & regular.all(axis=1))
    fixed = (slopes == 0) & (numbers[middle] >= 0)
    latest = int(numbers[middle][fixed].max(initial=-1))  # an invariant that an earlier step has computed
    low = max(low, (latest - base) // width + 1)
    begins = np.where(is_own, lags, 0)  # for how many steps an operand may be something else at first
    settled = low
    while low > 0 and stays[low - 1] and latest < base + (low - 1) * width:
        early = numbers[low - 1 : settled] < base + (low - 1) * width
        since = np.arange(settled - low + 1)[:, None]
        if not (regular[low - 1 : settled] | (early & (since < begins))).all():
            break
        low -= 1
    if high - low < least:
        return None

    loop = Loop(start + low * period, period, high - low, base + low * width, width)
    columns: list[Operand] = []
    for column, entries in enumerate(numbers[low:high].T):
        number, slope = int(numbers[middle, column]), int(slopes[column])
        if is_own[column] and lags[column] <= 0:
            columns.append(Local(int(offsets[column])))
        elif is_own[column]:
            lag = int(lags[column])
            initial = entries[:lag].tolist()
            if lag >= loop.count or max(initial) >= loop.base:
                return None
            columns.append(Carried(int(offsets[column] + lag * width), lag, tuple(initial)))
        elif (entries == entries[0]).all():
            columns.append(Invariant(number))
        elif number < 0:
            columns.append(Varying(tuple(entries.tolist())))
        else:
            other = loops.of(number)
            assert other is not None
            step, offset = other.find(int(entries[0]))
            columns.append(Elsewhere(other, offset, step, slope // other.width, loop.count))
    loop.operands = [columns[a:b] for a, b in pairwise(first)]
    for op, entries in positions.items():
        moving = np.flatnonzero(entries[middle] != entries[middle - 1])
        if len(moving) > 1:
            return None
        for axis in moving.tolist():
            stride = int(entries[middle, axis] - entries[middle - 1, axis])
            loop.motions[op] = Motion(axis, int(entries[low, axis]), stride)
    return loop


def _positions(table: Table, stretch: Stretch) -> dict[int, np.ndarray]:
    """For each op of a step that has one, its position in each step."""
    found = {}
    for number in range(stretch.period):
        name = POSITIONS.get(table.ops[stretch.start + number].primitive)
        if name is not None:
            ops: Sequence[Op] = table.ops[stretch.start + number : stretch.stop : stretch.period]
            found[number] = np.array([op.attributes[name] for op in ops], np.int64).reshape(len(ops), -1)
    return found


def _owners(loops: Loops, numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers >= 0, loops.owner[np.maximum(numbers, 0)], -1)


def _around(middle: int, flags: np.ndarray) -> tuple[int, int]:
    """The longest range around ``middle`` in which all flags are set."""
    gaps = np.flatnonzero(~flags)
    at = int(np.searchsorted(gaps, middle))
    return (int(gaps[at - 1]) + 1 if at else 0), (int(gaps[at]) if at < len(gaps) else len(flags))
