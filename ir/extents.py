"""Extents that stand for others: integers that a graph is recorded with, and that it can be had for others of.

While a function is traced for one batch of 64 rows, ``x.shape[0]`` is an :class:`Extent`: a polynomial in symbols
(``n``, ``2*n + 1``) which behaves as the number 64.  Arithmetic gives other extents.  A comparison gives what holds
for the number, and is put down as a :class:`Fact` (``n > 3``); asking for the number itself (``range(n)``,
``int(n)``, ``f"{n}"``) puts down that ``n`` is 64.  So the graph is right for every ``n`` for which its facts hold,
and :func:`substitute` makes that graph.  No pass sees an extent: what is compiled has numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any

import numpy as np

from .facts import facts
from .graph import Block, Constant, Op, Value
from .types import Symbol, TensorType, int64

# Sum of products: each product a tuple of factors, in order, and its coefficient.
Factor = "Symbol | Rounded"
Terms = tuple[tuple[tuple[Any, ...], int], ...]
Bindings = Mapping[Symbol, int]


@facts(frozen=True)
class Rounded:
    """A quotient rounded down (``//``), or what remains (``%``), of two sums."""

    operator: str
    dividend: Terms
    divisor: Terms

    def __str__(self) -> str:
        dividend, divisor = (
            f"({text})" if " " in (text := text_of(terms)) else text for terms in (self.dividend, self.divisor)
        )
        return f"({dividend} {self.operator} {divisor})"

    def evaluate(self, bindings: Bindings) -> int:
        dividend, divisor = evaluate(self.dividend, bindings), evaluate(self.divisor, bindings)
        return dividend // divisor if self.operator == "//" else dividend % divisor


def evaluate(terms: Terms, bindings: Bindings) -> int:
    """The number that a sum stands for."""
    total = 0
    for factors, coefficient in terms:
        for factor in factors:
            coefficient *= bindings[factor] if isinstance(factor, Symbol) else factor.evaluate(bindings)
        total += coefficient
    return total


def text_of(terms: Terms) -> str:
    """``2*n + 1``."""
    text = ""
    for factors, coefficient in terms:
        number = abs(coefficient)
        part = "*".join([*([str(number)] if number != 1 or not factors else []), *map(str, factors)])
        sign = "-" if coefficient < 0 else "+"
        text += f" {sign} {part}" if text else part if sign == "+" else f"-{part}"
    return text or "0"


def symbols_of(terms: Terms) -> set[Symbol]:
    """The symbols in a sum."""
    found: set[Symbol] = set()
    for factors, _ in terms:
        for factor in factors:
            found |= (
                {factor} if isinstance(factor, Symbol) else symbols_of(factor.dividend) | symbols_of(factor.divisor)
            )
    return found


def _collected(parts: list[tuple[tuple[Any, ...], int]]) -> Terms:
    sums: dict[tuple[Any, ...], int] = {}
    for factors, coefficient in parts:
        sums[factors] = sums.get(factors, 0) + coefficient
    kept = [(factors, coefficient) for factors, coefficient in sums.items() if coefficient]
    return tuple(sorted(kept, key=lambda term: (-len(term[0]), tuple(map(str, term[0])))))


def _scaled(terms: Terms, number: int) -> Terms:
    return tuple([(factors, coefficient * number) for factors, coefficient in terms]) if number else ()


def _product(first: Terms, second: Terms) -> Terms:
    return _collected([(tuple(sorted((*f, *g), key=str)), c * d) for f, c in first for g, d in second])


def _quotient(dividend: Terms, divisor: Terms) -> Terms | None:
    """``dividend / divisor``, where the divisor is one product that goes into each term."""
    if len(divisor) != 1:
        return None
    ((wanted, by),) = divisor
    result = []
    for factors, coefficient in dividend:
        left = list(factors)
        for factor in wanted:
            if factor not in left:
                return None
            left.remove(factor)
        if coefficient % by:
            return None
        result.append((tuple(left), coefficient // by))
    return tuple(result)


@facts(frozen=True)
class Fact:
    """What was found when an extent was compared: whether ``terms`` is (``==``) or exceeds (``>``) zero.

    ``is`` instead of ``==`` where the number itself was asked for.
    """

    terms: Terms
    relation: str
    truth: bool

    def holds(self, bindings: Bindings) -> bool:
        number = evaluate(self.terms, bindings)
        return (number > 0 if self.relation == ">" else number == 0) == self.truth

    @property
    def fixes(self) -> bool:
        """Whether the number was asked for: any other would have to be asked for too."""
        return self.relation == "is"

    def __str__(self) -> str:
        terms, relation = self.terms, self.relation if self.truth else {"==": "!=", ">": "<="}[self.relation]
        if terms[0][1] < 0:
            terms, relation = _scaled(terms, -1), {">": "<", "<=": ">="}.get(relation, relation)
        rest = tuple(term for term in terms if term[0])
        return f"{text_of(rest)} {relation} {-dict(terms).get((), 0)}"


class Sizes:
    """What the symbols of a trace stand for now, and who is told what is found out about them.

    ``number`` makes of an extent a number that a program computes with, where one is recorded.
    """

    def __init__(self) -> None:
        self.bindings: dict[Symbol, int] = {}
        self.tell: Callable[[Fact], None] | None = None
        self.number: Callable[[Extent], Any] | None = None

    def new(self, number: int) -> Symbol:
        """A new symbol, which stands for ``number``."""
        count = len(self.bindings)
        symbol = Symbol("nmklpqrstuvwxyz"[count] if count < 15 else f"n{count}")
        self.bindings[symbol] = number
        return symbol

    def extent(self, symbol: Symbol) -> Extent:
        return Extent((((symbol,), 1),), self)

    def find_out(self, fact: Fact) -> bool:
        if self.tell is not None:
            self.tell(fact)
        return fact.truth


class Extent:
    """An integer that stands for others; see the module."""

    __slots__ = ("sizes", "terms")
    __array_ufunc__ = None  # NumPy's operators leave it to the methods here, which compute with an int

    def __init__(self, terms: Terms, sizes: Sizes) -> None:
        self.terms = terms
        self.sizes = sizes

    # It passes for an int wherever Python code asks; C code that wants an int gets one from __index__.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return int

    @property
    def value(self) -> int:
        """The number, without relying on it."""
        return evaluate(self.terms, self.sizes.bindings)

    @property
    def expression(self) -> str:
        return text_of(self.terms)

    # Asking for the number -----------------------------------------------------------------------------

    def __index__(self) -> int:
        number = self.value
        constant = (((), -number),) if number else ()
        self.sizes.find_out(Fact(_collected([*self.terms, *constant]), "is", True))
        return number

    def __int__(self) -> int:
        return self.__index__()

    def __float__(self) -> float:
        return float(self.__index__())

    def __complex__(self) -> complex:
        return complex(self.__index__())

    def __hash__(self) -> int:
        return hash(self.__index__())

    def __str__(self) -> str:
        return str(self.__index__())

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(self.__index__(), spec)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.__index__(), dtype)

    def __reduce__(self) -> Any:
        return int, (self.__index__(),)

    def __copy__(self) -> Extent:
        return self

    def __deepcopy__(self, memo: Any) -> Extent:
        return self

    def bit_length(self) -> int:
        return self.__index__().bit_length()

    def is_integer(self) -> bool:
        return True

    # Comparisons -----------------------------------------------------------------------------------------

    def _minus(self, other: Any) -> Terms | None:
        terms = _terms_of(other)
        return None if terms is None else _collected([*self.terms, *_scaled(terms, -1)])

    def _is(self, terms: Terms, relation: str) -> bool:
        """Whether a difference is, or exceeds, zero."""
        rest = [coefficient for factors, coefficient in terms if factors]
        constant = dict(terms).get((), 0)
        if not rest:
            return constant == 0 if relation == "==" else constant > 0
        # No extent is negative.
        if min(rest) > 0 and constant > 0:
            return relation == ">"
        if max(rest) < 0 and (constant < 0 or (constant == 0 and relation == ">")):
            return False
        number = evaluate(terms, self.sizes.bindings)
        truth = number == 0 if relation == "==" else number > 0
        return self.sizes.find_out(Fact(terms, relation, truth))

    def __eq__(self, other: object) -> Any:
        if self is other:
            return True
        terms = self._minus(other)
        if terms is None:
            return self.__index__() == other if isinstance(other, float | complex) else NotImplemented
        return self._is(terms, "==")

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __gt__(self, other: Any) -> Any:
        terms = self._minus(other)
        if terms is None:
            return self.__index__() > other if isinstance(other, float) else NotImplemented
        return self._is(terms, ">")

    def __lt__(self, other: Any) -> Any:
        terms = self._minus(other)
        if terms is None:
            return self.__index__() < other if isinstance(other, float) else NotImplemented
        return self._is(_scaled(terms, -1), ">")

    def __ge__(self, other: Any) -> Any:
        less = self.__lt__(other)
        return less if less is NotImplemented else not less

    def __le__(self, other: Any) -> Any:
        greater = self.__gt__(other)
        return greater if greater is NotImplemented else not greater

    def __bool__(self) -> bool:
        return not self._is(self.terms, "==")

    # Arithmetic -------------------------------------------------------------------------------------------

    def _made(self, terms: Terms) -> Any:
        if any(factors for factors, _ in terms):
            return Extent(terms, self.sizes)
        return dict(terms).get((), 0)

    def __add__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return self._beyond(other, lambda x, y: x + y)
        return self._made(_collected([*self.terms, *terms]))

    def __radd__(self, other: Any) -> Any:
        return self.__add__(other) if _terms_of(other) is not None else self._beyond(other, lambda x, y: y + x)

    def __sub__(self, other: Any) -> Any:
        terms = self._minus(other)
        return self._beyond(other, lambda x, y: x - y) if terms is None else self._made(terms)

    def __rsub__(self, other: Any) -> Any:
        terms = self._minus(other)
        return self._beyond(other, lambda x, y: y - x) if terms is None else self._made(_scaled(terms, -1))

    def __mul__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return self._beyond(other, lambda x, y: x * y)
        return self._made(_product(self.terms, terms))

    def __rmul__(self, other: Any) -> Any:
        return self.__mul__(other) if _terms_of(other) is not None else self._beyond(other, lambda x, y: y * x)

    def __neg__(self) -> Any:
        return self._made(_scaled(self.terms, -1))

    def __pos__(self) -> Extent:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def _divided(self, operator: str, dividend: Terms, divisor: Terms) -> Any:
        if not divisor or (len(divisor) == 1 and not divisor[0][0] and divisor[0][1] < 0):
            return None
        if any(factors for factors, _ in divisor) and Extent(divisor, self.sizes) <= 0:
            return None
        exact = _quotient(dividend, divisor)
        if exact is not None:
            return self._made(exact if operator == "//" else ())
        for terms in dividend, divisor:  # no factor is negative
            if any(coefficient < 0 for _, coefficient in terms) and (self._made(terms) < 0):
                return None
        return self._made((((Rounded(operator, dividend, divisor),), 1),))

    def __floordiv__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return self._beyond(other, lambda x, y: x // y)
        found = self._divided("//", self.terms, terms)
        return int(self) // int(other) if found is None else found

    def __rfloordiv__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return self._beyond(other, lambda x, y: y // x)
        found = self._divided("//", terms, self.terms)
        return int(other) // int(self) if found is None else found

    def __mod__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return self._beyond(other, lambda x, y: x % y)
        found = self._divided("%", self.terms, terms)
        return int(self) % int(other) if found is None else found

    def __rmod__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return self._beyond(other, lambda x, y: y % x)
        found = self._divided("%", terms, self.terms)
        return int(other) % int(self) if found is None else found

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __truediv__(self, other: Any) -> Any:
        return self._beyond(other, lambda x, y: x / y)

    def __rtruediv__(self, other: Any) -> Any:
        return self._beyond(other, lambda x, y: y / x)

    def __pow__(self, other: Any) -> Any:
        if type(other) is int and 0 < other <= 4:
            return math.prod([self] * other)
        return self._beyond(other, lambda x, y: x**y)

    def __rpow__(self, other: Any) -> Any:
        return self._beyond(other, lambda x, y: y**x)

    def _beyond(self, other: Any, function: Callable[[Any, Any], Any]) -> Any:
        """What is no polynomial: a number that the program computes, where numbers are concerned."""
        if isinstance(other, np.generic | np.ndarray):
            return function(int(self), other)
        if not isinstance(other, int | float):
            return NotImplemented
        if self.sizes.number is None or (type(other) not in (int, float, Extent)):
            return function(int(self), int(other) if type(other) is Extent else other)
        return function(self.sizes.number(self), self.sizes.number(other) if type(other) is Extent else other)


def _terms_of(number: Any) -> Terms | None:
    if type(number) is Extent:
        return number.terms
    if type(number) is int or type(number) is bool or isinstance(number, np.integer):
        return (((), int(number)),) if number else ()
    return None


def has_extents(shape: Sequence[Any]) -> bool:
    """Whether a shape has extents that stand for others."""
    for extent in shape:  # noqa: SIM110 - a generator takes longer
        if type(extent) is Extent:
            return True
    return False


def as_float(number: Any) -> Any:
    """A number as ``float``, but for an extent that stands for others: that stays one."""
    return number if type(number) is Extent else float(number)


def slice_indices(item: slice, extent: Any) -> tuple[Any, Any, int]:
    """``item.indices(extent)``, of extents that stand for others."""
    step = 1 if item.step is None else item.step.__index__()
    if step == 0:
        raise ValueError("slice step cannot be zero")
    lowest, highest = (0, extent) if step > 0 else (-1, extent - 1)

    def bounded(number: Any, otherwise: Any) -> Any:
        if number is None:
            return otherwise
        number = as_extent(number)
        if number < 0:
            return max(number + extent, lowest)
        return min(number, highest)

    start = bounded(item.start, lowest if step > 0 else highest)
    return start, bounded(item.stop, highest if step > 0 else lowest), step


def as_extent(number: Any) -> Any:
    """An integer as ``int``, but for an extent that stands for others: that stays one."""
    return number if type(number) is Extent else index(number)


class ExtentValue(Constant):
    """An extent as a 0-d int64 to compute with: the constant that it stands for is another for other extents."""

    __slots__ = ("extent",)

    def __init__(self, extent: Extent) -> None:
        Value.__init__(self, TensorType(int64, ()))
        self.extent = extent

    @property
    def array(self) -> np.ndarray:  # type: ignore[override]
        return np.asarray(self.extent.__index__(), np.int64)


# Putting numbers in their place ------------------------------------------------------------------------


def substitute(item: Any, bindings: Bindings) -> Any:
    """An attribute with numbers for its extents."""
    if type(item) is Extent:
        return evaluate(item.terms, bindings)
    if type(item) is tuple:
        return tuple([substitute(entry, bindings) for entry in item])
    return item


def substitute_type(type: TensorType, bindings: Bindings) -> TensorType:
    return TensorType(type.dtype, substitute(type.shape, bindings))


class Substitution:
    """Copies ops, with numbers for extents; ``values`` says what stands for each value."""

    def __init__(self, bindings: Bindings, values: dict[Value, Value]) -> None:
        self.bindings = bindings
        self.values = values

    def value(self, value: Value) -> Value:
        if isinstance(value, ExtentValue):
            return Constant(np.asarray(evaluate(value.extent.terms, self.bindings), np.int64))
        return value if isinstance(value, Constant) else self.values.get(value, value)

    def parameter(self, value: Value) -> Value:
        copy = self.values[value] = Value(substitute_type(value.type, self.bindings), value.name)
        return copy

    def op(self, op: Op) -> Op:
        attributes = {name: substitute(item, self.bindings) for name, item in op.attributes.items()}
        types = [substitute_type(result.type, self.bindings) for result in op.results]
        regions = [self.block(region) for region in op.regions]
        copy = Op(op.primitive, [self.value(v) for v in op.operands], attributes, types, op.location, regions)
        for old, new in zip(op.results, copy.results, strict=True):
            self.values[old] = new
            new.name = old.name
        return copy

    def block(self, block: Block) -> Block:
        parameters = [self.parameter(value) for value in block.parameters]
        ops = [self.op(op) for op in block.ops]
        return Block(parameters, ops, [self.value(value) for value in block.results])
