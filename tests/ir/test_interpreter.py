"""The interpreter: what a graph means."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.ir.random_graphs import random_arguments, random_graphs
from tracejit.ir.interpreter import evaluate_with_numpy, interpret
from tracejit.ir.parser import parse
from tracejit.ir.types import SHORT_NAMES, float32

LAYER = parse("""
    func @layer(%x: f32[2,3], %w: f32[4,3]) -> (f32[4], f32[2,4]) {
      %h = dot %x, %w {transpose_rhs} : f32[2,4]   # demo.py:2
      %a = maximum %h, 0.0 : f32[2,4]              # demo.py:3
      %s = reduce_sum %a {axes=[0]} : f32[4]       # demo.py:4
      return %s, %a
    }
""")
ARGUMENTS = [
    np.array([[1, 2, 3], [4, 5, 6]], float32),
    np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], float32),
]


def test_a_layer():
    total, activations = interpret(LAYER, ARGUMENTS)
    assert activations.tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]
    assert total.tolist() == [5, 7, 9, 0]


def test_constants_and_parameters_may_be_returned():
    graph = parse("func @f(%x: i64[]) -> (i64[], i64[], f32[]) { return %x, 3, 0.5 }")
    assert interpret(graph, [np.array(7)]) == [7, 3, 0.5]


def test_the_caller_may_evaluate():
    seen = []

    def evaluate(primitive, arrays, attributes):
        seen.append((primitive.name, len(arrays), dict(attributes)))
        return evaluate_with_numpy(primitive, arrays, attributes)

    interpret(LAYER, ARGUMENTS, evaluate)
    assert seen == [("dot", 2, {"transpose_rhs": True}), ("maximum", 2, {}), ("reduce_sum", 1, {"axes": (0,)})]


def test_the_caller_may_observe():
    seen = []
    interpret(LAYER, ARGUMENTS, observe=lambda op, results: seen.append((op.location.line, results[0].shape)))
    assert seen == [(2, (2, 4)), (3, (2, 4)), (4, (4,))]


def test_values_are_freed_after_their_last_use():
    graph = parse("""
        func @f(%x: f32[3]) -> (f32[3]) {
          %a = negate %x : f32[3]
          %b = add %a, %a : f32[3]
          %unused = negate %b : f32[3]
          %c = negate %b : f32[3]
          %d = add %c, %x : f32[3]
          return %d
        }
    """)
    made, alive = [], []

    def evaluate(primitive, arrays, attributes):
        result = evaluate_with_numpy(primitive, arrays, attributes)
        alive.append([reference() is not None for reference in made])
        made.append(weakref.ref(result))
        return result

    gc.disable()
    try:
        interpret(graph, [np.ones(3, float32)], evaluate)
    finally:
        gc.enable()
    # Before op n is done, of what the ops before it made: its operands.
    assert alive == [[], [True], [False, True], [False, True, False], [False, False, False, True]]


def test_symbols_are_bound_by_the_arguments():
    graph = parse("""
        func @f(%x: f32[n], %y: f32[n,m]) -> (f32[n,m], i64[m]) {
          %z = broadcast_in_dim %x {shape=[?n, ?m], dimensions=[0]} : f32[n,m]
          %s = add %z, %y : f32[n,m]
          %i = iota {size=?m, dtype=i64} : i64[m]
          return %s, %i
        }
    """)
    total, indices = interpret(graph, [np.array([1, 2], float32), np.zeros((2, 3), float32)])
    assert total.tolist() == [[1, 1, 1], [2, 2, 2]]
    assert indices.tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match=r"@f: <%y: f32\[n,m\]> cannot be f32\[3,3\] where n is 2"):
        interpret(graph, [np.zeros(2, float32), np.zeros((3, 3), float32)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"@f has 1 parameters, got 0 arguments"),
        ([np.zeros(3)], r"@f: <%x: f32\[3\]> cannot be f64\[3\]"),
        ([np.zeros((3, 1), float32)], r"@f: <%x: f32\[3\]> cannot be f32\[3,1\]"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(TypeError, match=message):
        interpret(parse("func @f(%x: f32[3]) -> (f32[3]) { return %x }"), arguments)


def test_results_that_do_not_fit():
    with pytest.raises(TypeError, match=r"<dot .* at demo.py:2: evaluating it gave f64\[\]"):
        interpret(LAYER, ARGUMENTS, lambda primitive, arrays, attributes: np.array(0.0))


def test_regions(effect):
    graph = parse("""
        func @f(%p: bool[], %x: f32[2]) -> (f32[2], i64[]) {
          %double = add %x, %x : f32[2]
          %y, %n = case %p, %x, %double : f32[2], i64[]
            (%a: f32[2], %b: f32[2]) { %c = negate %a : f32[2]  return %c, 2 }
            (%a: f32[2], %b: f32[2]) { %c = add %a, %b : f32[2]  effect %c : ()  return %c, 1 }
          return %y, %n
        }
    """)
    seen = []
    x = np.array([1, 2], float32)
    taken, number = interpret(graph, [np.array(True), x], observe=lambda op, results: seen.append(op.primitive.name))
    assert (taken.tolist(), int(number)) == ([3, 6], 1)
    assert seen == ["add", "add", "effect", "case"]
    other, number = interpret(graph, [np.array(False), x])
    assert (other.tolist(), int(number)) == ([-1, -2], 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_numpy_gives_what_the_type_rules_promise(data):
    """In every dtype: the interpreter raises ``TypeError`` where an array is not of its op's type."""
    graph = data.draw(random_graphs(dtypes=[dtype for dtype in SHORT_NAMES if dtype.kind != "c"]))
    interpret(graph, data.draw(random_arguments(graph)))
