"""Extents that stand for others: the numbers that they are, and what holds for the others where the facts do."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tracejit.ir import Builder, Graph, TensorType
from tracejit.ir.extents import Extent, ExtentValue, Sizes, Substitution, as_extent, evaluate, slice_indices, substitute
from tracejit.ir.interpreter import interpret
from tracejit.ir.primitives.elementwise import multiply
from tracejit.ir.primitives.view import broadcast_in_dim
from tracejit.ir.types import int64

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@st.composite
def programs(draw):
    """A straight piece of arithmetic on three numbers, with comparisons that choose what follows."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*ARITHMETIC, *COMPARISONS, min, max]),
                st.integers(0, 20),
                st.one_of(st.integers(0, 20), st.sampled_from([-2, -1, 1, 2, 3])),
                st.booleans(),
            ),
            max_size=8,
        )
    )

    def run(*numbers):
        known = list(numbers)
        for function, first, second, is_constant in steps:
            x = known[first % len(known)]
            y = second if is_constant else known[second % len(known)]
            if function in (operator.floordiv, operator.mod) and y == 0:
                known.append(x + 1)
            elif function in COMPARISONS:
                known.append(x * 2 + 1 if function(x, y) else y)
            else:
                known.append(function(x, y))
        return known

    return run


@given(programs(), st.lists(st.integers(0, 9), min_size=6, max_size=6))
def test_what_the_facts_hold_for_has_the_same_expressions(run, numbers):
    sizes, facts = Sizes(), []
    sizes.tell = facts.append
    symbols = [sizes.new(number) for number in numbers[:3]]
    found = run(*map(sizes.extent, symbols))
    sizes.tell = None
    assert [int(item) for item in found] == run(*numbers[:3])
    others = dict(zip(symbols, numbers[3:], strict=True))
    if all(fact.holds(others) for fact in facts):
        assert [substitute(item, others) for item in found] == run(*numbers[3:])


@given(st.integers(0, 9), st.tuples(*[st.none() | st.integers(-12, 12)] * 2), st.sampled_from([None, 1, 2, 3, -1, -2]))
def test_slices_are_pythons(extent, ends, step):
    sizes = Sizes()
    item = slice(*ends, step)
    found = slice_indices(item, sizes.extent(sizes.new(extent)))
    assert len(range(*map(int, found))) == len(range(*item.indices(extent)))
    if len(range(extent)[item]):
        assert int(found[0]) == item.indices(extent)[0]


def test_it_passes_for_an_int_and_says_when_its_number_is_asked_for():
    sizes, facts = Sizes(), []
    sizes.tell = facts.append
    n = sizes.extent(sizes.new(6))
    assert isinstance(n, int)
    assert n * 2 + 1 - n == n + 1
    assert (n * 64) // 64 == n
    assert (n * 64) % 32 == 0
    assert n >= 0
    assert -1 not in (n, n + 1)
    assert math.prod((n, 2, 3)) == 6 * n
    assert not facts
    assert n > 3
    assert [str(fact) for fact in facts] == ["n > 3"]
    assert n != 1
    assert n // 4 == 1
    assert [str(fact) for fact in facts[1:]] == ["n != 1", "(n // 4) == 1"]
    assert list(range(n)) == [0, 1, 2, 3, 4, 5]
    assert str(facts[-1]) == "n is 6"
    for ask in (int, float, hash, str, np.asarray, operator.index, lambda n: f"{n:3}", lambda n: np.float32(2) * n):
        facts.clear()
        ask(n)
        assert [str(fact) for fact in facts] == ["n is 6"]
    assert type(as_extent(n)) is Extent
    with pytest.raises(TypeError):
        as_extent(2.0)


def test_a_graph_is_had_for_other_extents():
    sizes = Sizes()
    symbol = sizes.new(3)
    n = sizes.extent(symbol)
    graph = Graph("f")
    builder = Builder(graph)
    x = builder.parameter(TensorType(int64, (n, 2)), "x")
    stretched = builder.apply(broadcast_in_dim, [ExtentValue(n * 10)], {"shape": (n, 2), "dimensions": ()})
    graph.results = [builder.apply(multiply, [x, stretched], {})]
    for number in (0, 1, 5):
        copy = Substitution({symbol: number}, {})
        block = copy.block(graph)
        array = np.arange(number * 2).reshape(number, 2)
        (result,) = interpret(Graph("f", block.parameters, block.ops, block.results), [array])
        assert np.array_equal(result, array * number * 10)
    assert evaluate((n * n + 1).terms, {symbol: 4}) == 17
