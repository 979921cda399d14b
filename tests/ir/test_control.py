"""The primitives with regions: their types, what they compute, what passes make of them."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.ir.random_control import random_control
from tests.ir.random_graphs import random_arguments, reference, same_bits
from tracejit.ir.autodiff import vjp
from tracejit.ir.interpreter import interpret
from tracejit.ir.parser import ParseError, parse
from tracejit.ir.passes import PASSES, dce, hoist, inline, optimize
from tracejit.ir.printer import graph_constants
from tracejit.ir.types import float32, int64
from tracejit.ir.verifier import verify

SWITCH = """
func @f(%i: i32[], %x: f32[2]) -> (f32[2]) {
  %y = case %i, %x : f32[2]
    (%a: f32[2]) { return %a }
    (%a: f32[2]) { %b = negate %a : f32[2]  return %b }
    (%a: f32[2]) { %b = add %a, %a : f32[2]  return %b }
  return %y
}"""

COUNT = """
func @f(%limit: f32[], %x: f32[]) -> (f32[], i64[]) {
  %y, %n = while %limit, %x, 0 {constants=1} : f32[], i64[]
    (%limit: f32[], %x: f32[], %n: i64[]) { %p = compare %x, %limit {direction=lt} : bool[]  return %p }
    (%limit: f32[], %x: f32[], %n: i64[]) {
      %y = multiply %x, 2.0 : f32[]
      %m = add %n, 1 : i64[]
      return %y, %m
    }
  return %y, %n
}"""

STACKING_WHILE = """
func @f(%x: f32[]) -> (f32[]) {
  %y, %seen = while %x {constants=0, length=?trips} : f32[], f32[trips]
    (%x: f32[]) { %p = compare %x, 10.0 {direction=lt} : bool[]  return %p }
    (%x: f32[]) { %y = multiply %x, 2.0 : f32[]  return %y, %x }
  %last, %doubled = scan %y, %seen {carries=1, constants=0, length=?trips, reverse} : f32[], f32[trips]
    (%i: i64[], %c: f32[], %x: f32[]) {
      %d = subtract %c, %x : f32[]
      %e = add %x, %x      : f32[]
      return %d, %e
    }
  %total = reduce_sum %doubled {axes=[0]} : f32[]
  %both = add %last, %total : f32[]
  return %both
}"""

SCAN = """
func @f(%w: f32[2], %h: f32[2], %xs: f32[3,2]) -> (f32[2], f32[3,2], i64[3]) {
  %last, %hs, %is = scan %w, %h, %xs {carries=1, constants=1, length=3} : f32[2], f32[3,2], i64[3]
    (%i: i64[], %w: f32[2], %h: f32[2], %x: f32[2]) {
      %a = multiply %h, %w : f32[2]
      %b = add %a, %x      : f32[2]
      return %b, %h, %i
    }
  return %last, %hs, %is
}"""


@pytest.mark.parametrize("text", [SWITCH, COUNT, STACKING_WHILE, SCAN])
def test_text(text):
    graph = parse(text)
    verify(graph)
    assert parse(str(graph)) == graph == graph.copy()


@pytest.mark.parametrize(("index", "expected"), [(-5, [1, 2]), (0, [1, 2]), (1, [-1, -2]), (2, [2, 4]), (9, [2, 4])])
def test_case(index, expected):
    (y,) = interpret(parse(SWITCH), [np.array(index, np.int32), np.array([1, 2], float32)])
    assert y.tolist() == expected


@pytest.mark.parametrize(
    ("limit", "x", "expected", "count"), [(10, 1, 16, 4), (10, 10, 10, 0), (1e30, 1, 2.0**100, 100)]
)
def test_while(limit, x, expected, count):
    y, n = interpret(parse(COUNT), [np.array(limit, float32), np.array(x, float32)])
    assert (float(y), int(n)) == (expected, count)


@pytest.mark.parametrize(("x", "expected"), [(3, 12 - 9 + 18), (10, 10), (1, 16 - 15 + 30)])
def test_what_a_while_stacks(x, expected):
    """As many entries as steps; each evaluation of the loop has its own number of them."""
    (both,) = interpret(parse(STACKING_WHILE), [np.array(x, float32)])
    assert float(both) == expected


def test_a_length_is_that_of_one_evaluation():
    inner = STACKING_WHILE.split("{", 1)[1].rsplit("return", 1)[0]
    graph = parse(f"""
        func @g(%xs: f32[3]) -> (f32[3]) {{
          %ys = scan %xs {{carries=0, constants=0, length=3}} : f32[3]
            (%i: i64[], %x: f32[]) {{ {inner} return %both }}
          return %ys
        }}""")
    verify(graph)
    (ys,) = interpret(graph, [np.array([3, 10, 1], float32)])
    assert ys.tolist() == [21, 10, 31]


def test_a_region_has_symbols_of_its_own():
    """What a symbol stands for outside of a region, it need not stand for within."""
    inner = STACKING_WHILE.split("{", 1)[1].rsplit("return", 1)[0]
    graph = parse(
        STACKING_WHILE.replace(
            "return %both",
            f"""%again = case 0, %last : f32[]
      (%x: f32[]) {{ {inner} return %both }}
    return %again""",
        )
    )
    verify(graph)
    (again,) = interpret(graph, [np.array(3, float32)])
    assert float(again) == float(interpret(parse(STACKING_WHILE), [np.array(12 - 9, float32)])[0])
    (again,) = interpret(graph, [np.array(4, float32)])
    assert float(again) == float(interpret(parse(STACKING_WHILE), [np.array(16 - 12, float32)])[0])
    (again,) = interpret(graph, [np.array(1, float32)])
    assert float(again) == float(interpret(parse(STACKING_WHILE), [np.array(16 - 15, float32)])[0])


def test_scan():
    w, h, xs = np.array([2, 3], float32), np.array([1, 1], float32), np.arange(6, dtype=float32).reshape(3, 2)
    last, hs, numbers = interpret(parse(SCAN), [w, h, xs])
    assert hs.tolist() == [[1, 1], [2, 4], [6, 15]]
    assert last.tolist() == [16, 50]
    assert numbers.tolist() == [0, 1, 2]
    last, hs, numbers = interpret(parse(SCAN.replace("length=3}", "length=3, reverse}")), [w, h, xs])
    assert hs.tolist() == [[14, 27], [6, 8], [1, 1]]
    assert last.tolist() == [28, 82]
    assert numbers.tolist() == [0, 1, 2]


def test_a_scan_of_no_steps():
    text = SCAN.replace("[3,2]", "[0,2]").replace("i64[3]", "i64[0]").replace("length=3", "length=0")
    last, hs, numbers = interpret(parse(text), [np.ones(2, float32), np.ones(2, float32), np.ones((0, 2), float32)])
    assert last.tolist() == [1, 1]
    assert (hs.shape, hs.dtype, numbers.shape, numbers.dtype) == ((0, 2), float32, (0,), int64)


MISTAKES = {
    "case of a float": (SWITCH.replace("%i: i32[]", "%i: f32[]"), "case: which region is said by one bool or int"),
    "case of a vector": (SWITCH.replace("%i: i32[]", "%i: i32[3]"), "case: which region is said by one bool or int"),
    "case with other parameters": (
        SWITCH.replace("(%a: f32[2]) { return %a }", "(%a: f32[3]) { return 1.0 }"),
        r"case: region 0 takes \(f32\[3\]\), but is given \(f32\[2\]\)",
    ),
    "case with other results": (
        SWITCH.replace("{ return %a }", "{ return 1.0 }"),
        r"case: region 0 gives \(f32\[\]\), but region 1 gives \(f32\[2\]\)",
    ),
    "case of nothing": (
        "func @f(%p: bool[]) -> () { case %p : () return }", "case: there is no region",
    ),
    "while without a bool": (
        COUNT.replace("return %p", "return %x"), r"while: the condition should give one bool, but gives \(f32\[\]\)",
    ),
    "while that changes a carry": (
        COUNT.replace("return %y, %m", "return %m, %y"),
        r"while: the carries are \(f32\[\], i64\[\]\), but the body gives \(i64\[\], f32\[\]\)",
    ),
    "while that stacks without a length": (
        STACKING_WHILE.replace(", length=?trips}", "}"), "while: the length should be a symbol where the body stacks",
    ),
    "scan over inputs that are too short": (
        SCAN.replace("length=3", "length=4"), r"scan: an input of 4 steps .* got f32\[3,2\]",
    ),
    "scan without the number of the step": (
        SCAN.replace("(%i: i64[], ", "(").replace("%i\n", "1\n"),
        r"scan: the body takes \(f32\[2\], f32\[2\], f32\[2\]\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    text, message = MISTAKES[mistake]
    with pytest.raises(ParseError, match=message):
        parse(text)


# Passes ---------------------------------------------------------------------------------------------

# One row a rewrite: the pass, the graph before, the graph after.
REWRITES = {
    "a carry that nobody reads goes": (
        dce,
        """func @f(%x: f32[], %y: f32[]) -> (f32[]) {
          %a, %b = scan %x, %y {carries=2, constants=0, length=3} : f32[], f32[]
            (%i: i64[], %x: f32[], %y: f32[]) {
              %p = negate %x : f32[]
              %q = add %y, %x : f32[]
              return %p, %q
            }
          return %a
        }""",
        """func @f(%x: f32[], %y: f32[]) -> (f32[]) {
          %a = scan %x {carries=1, constants=0, length=3} : f32[]
            (%i: i64[], %x: f32[]) { %p = negate %x : f32[]  return %p }
          return %a
        }""",
    ),
    "a carry that another one reads stays": (
        dce,
        """func @f(%x: f32[], %y: f32[]) -> (f32[]) {
          %a, %b, %s = scan %x, %y {carries=2, constants=0, length=3} : f32[], f32[], f32[3]
            (%i: i64[], %x: f32[], %y: f32[]) {
              %p = negate %x : f32[]
              %q = add %y, %x : f32[]
              return %p, %q, %q
            }
          return %b
        }""",
        """func @f(%x: f32[], %y: f32[]) -> (f32[]) {
          %a, %b = scan %x, %y {carries=2, constants=0, length=3} : f32[], f32[]
            (%i: i64[], %x: f32[], %y: f32[]) {
              %p = negate %x : f32[]
              %q = add %y, %x : f32[]
              return %p, %q
            }
          return %b
        }""",
    ),
    "inputs and constants that nobody reads go": (
        dce,
        """func @f(%w: f32[], %xs: f32[3], %ys: f32[3]) -> (f32[3]) {
          %s, %t = scan %w, %xs, %ys {carries=0, constants=1, length=3} : f32[3], f32[3]
            (%i: i64[], %w: f32[], %x: f32[], %y: f32[]) {
              %p = negate %x : f32[]
              %q = add %y, %w : f32[]
              return %p, %q
            }
          return %s
        }""",
        """func @f(%w: f32[], %xs: f32[3], %ys: f32[3]) -> (f32[3]) {
          %s = scan %xs {carries=0, constants=0, length=3} : f32[3]
            (%i: i64[], %x: f32[]) { %p = negate %x : f32[]  return %p }
          return %s
        }""",
    ),
    "what a condition reads stays": (
        dce,
        """func @f(%x: f32[], %y: f32[]) -> (f32[]) {
          %a, %b, %c, %s = while %x, %y, 0 {constants=0, length=?n} : f32[], f32[], i64[], f32[n]
            (%x: f32[], %y: f32[], %n: i64[]) { %p = compare %n, 3 {direction=lt} : bool[]  return %p }
            (%x: f32[], %y: f32[], %n: i64[]) {
              %p = negate %x : f32[]
              %q = negate %y : f32[]
              %m = add %n, 1 : i64[]
              return %p, %q, %m, %x
            }
          return %b
        }""",
        """func @f(%x: f32[], %y: f32[]) -> (f32[]) {
          %b, %c = while %y, 0 {constants=0} : f32[], i64[]
            (%y: f32[], %n: i64[]) { %p = compare %n, 3 {direction=lt} : bool[]  return %p }
            (%y: f32[], %n: i64[]) { %q = negate %y : f32[] %m = add %n, 1 : i64[]  return %q, %m }
          return %b
        }""",
    ),
    "a result of a branch that nobody reads goes": (
        dce,
        """func @f(%p: bool[], %x: f32[], %y: f32[]) -> (f32[]) {
          %a, %b = case %p, %x, %y : f32[], f32[]
            (%x: f32[], %y: f32[]) { %u = negate %x : f32[] %v = negate %y : f32[]  return %u, %v }
            (%x: f32[], %y: f32[]) { return %x, %y }
          return %a
        }""",
        """func @f(%p: bool[], %x: f32[], %y: f32[]) -> (f32[]) {
          %a = case %p, %x : f32[]
            (%x: f32[]) { %u = negate %x : f32[]  return %u }
            (%x: f32[]) { return %x }
          return %a
        }""",
    ),
    "a known branch": (
        inline,
        """func @f(%x: f32[]) -> (f32[], f32[]) {
          %a, %b = case 7, %x : f32[], f32[]
            (%x: f32[]) { return %x, %x }
            (%x: f32[]) { %u = negate %x : f32[]  return %x, %u }
          return %a, %b
        }""",
        """func @f(%x: f32[]) -> (f32[], f32[]) {
          %u = negate %x : f32[]
          return %x, %u
        }""",
    ),
    "no step": (
        inline,
        """func @f(%x: f32[], %ys: f32[0]) -> (f32[], f32[0,2]) {
          %a, %s = scan %x, %ys {carries=1, constants=0, length=0} : f32[], f32[0,2]
            (%i: i64[], %x: f32[], %y: f32[]) {
              %z = add %x, %y : f32[]
              %t = broadcast_in_dim %z {shape=[2], dimensions=[]} : f32[2]
              return %z, %t
            }
          return %a, %s
        }""",
        """func @f(%x: f32[], %ys: f32[0]) -> (f32[], f32[0,2]) {
          return %x, []:f32[0,2]
        }""",
    ),
    "one step": (
        inline,
        """func @f(%w: f32[], %x: f32[], %ys: f32[1]) -> (f32[], f32[1], i64[1]) {
          %a, %s, %t = scan %w, %x, %ys {carries=1, constants=1, length=1, reverse} : f32[], f32[1], i64[1]
            (%i: i64[], %w: f32[], %x: f32[], %y: f32[]) { %z = add %w, %y : f32[]  return %z, %x, %i }
          return %a, %s, %t
        }""",
        """func @f(%w: f32[], %x: f32[], %ys: f32[1]) -> (f32[], f32[1], i64[1]) {
          %v0 = reshape %ys {shape=[]}  : f32[]
          %z  = add %w, %v0             : f32[]
          %s  = reshape %x {shape=[1]}  : f32[1]
          %t  = reshape 0 {shape=[1]}   : i64[1]
          return %z, %s, %t
        }""",
    ),
    "a loop that never begins": (
        inline,
        """func @f(%w: f32[], %x: f32[]) -> (f32[]) {
          %a = while %w, %x {constants=1} : f32[]
            (%w: f32[], %x: f32[]) { return false }
            (%w: f32[], %x: f32[]) { %z = add %w, %x : f32[]  return %z }
          return %a
        }""",
        "func @f(%w: f32[], %x: f32[]) -> (f32[]) { return %x }",
    ),
    "constants and what is stretched move in": (
        inline,
        """func @f(%w: f32[], %x: f32[3]) -> (f32[3]) {
          %v = broadcast_in_dim %w {shape=[3], dimensions=[]} : f32[3]
          %a = scan 2.0, %v, %x {carries=1, constants=2, length=3} : f32[3]
            (%i: i64[], %c: f32[], %v: f32[3], %x: f32[3]) {
              %y = multiply %x, %c : f32[3]
              %z = add %y, %v      : f32[3]
              return %z
            }
          return %a
        }""",
        """func @f(%w: f32[], %x: f32[3]) -> (f32[3]) {
          %v = broadcast_in_dim %w {shape=[3], dimensions=[]} : f32[3]
          %a = scan %w, %x {carries=1, constants=1, length=3} : f32[3]
            (%i: i64[], %v1: f32[], %x: f32[3]) {
              %v = broadcast_in_dim %v1 {shape=[3], dimensions=[]} : f32[3]
              %y = multiply %x, 2.0 : f32[3]
              %z = add %y, %v      : f32[3]
              return %z
            }
          return %a
        }""",
    ),
    "what does not change moves out": (
        hoist,
        """func @f(%w: f32[3], %b: f32[], %x: f32[3]) -> (f32[3]) {
          %a = while %w, %b, %x {constants=2} : f32[3]
            (%w: f32[3], %b: f32[], %x: f32[3]) {
              %m = reduce_max %w {axes=[0]} : f32[]
              %n = reduce_max %x {axes=[0]} : f32[]
              %p = compare %n, %m {direction=lt} : bool[]
              return %p
            }
            (%w: f32[3], %b: f32[], %x: f32[3]) {
              %e = exponential %w                                 : f32[3]
              %t = broadcast_in_dim %b {shape=[3], dimensions=[]} : f32[3]
              %y = multiply %x, %e                                : f32[3]
              %z = add %y, %t                                     : f32[3]
              return %z
            }
          return %a
        }""",
        """func @f(%w: f32[3], %b: f32[], %x: f32[3]) -> (f32[3]) {
          %m = reduce_max %w {axes=[0]} : f32[]
          %e = exponential %w           : f32[3]
          %a = while %w, %b, %m, %e, %x {constants=4} : f32[3]
            (%w: f32[3], %b: f32[], %m: f32[], %v1: f32[3], %x: f32[3]) {
              %n = reduce_max %x {axes=[0]} : f32[]
              %p = compare %n, %m {direction=lt} : bool[]
              return %p
            }
            (%w: f32[3], %b: f32[], %v1: f32[], %e: f32[3], %x: f32[3]) {
              %t = broadcast_in_dim %b {shape=[3], dimensions=[]} : f32[3]
              %y = multiply %x, %e                                : f32[3]
              %z = add %y, %t                                     : f32[3]
              return %z
            }
          return %a
        }""",
    ),
    "what is transposed for products moves in": (
        inline,
        """func @f(%w: f32[3,2], %x: f32[4,3]) -> (f32[4,3]) {
          %t = transpose %w {permutation=[1, 0]} : f32[2,3]
          %u = transpose %w {permutation=[1, 0]} : f32[2,3]
          %y = scan %t, %u, %x {carries=1, constants=2, length=3} : f32[4,3]
            (%i: i64[], %t: f32[2,3], %u: f32[2,3], %x: f32[4,3]) {
              %a = dot %x, %t {transpose_rhs} : f32[4,2]
              %b = negate %u : f32[2,3]
              %c = dot %a, %b : f32[4,3]
              return %c
            }
          return %y
        }""",
        """func @f(%w: f32[3,2], %x: f32[4,3]) -> (f32[4,3]) {
          %t = transpose %w {permutation=[1, 0]} : f32[2,3]
          %u = transpose %w {permutation=[1, 0]} : f32[2,3]
          %y = scan %w, %u, %x {carries=1, constants=2, length=3} : f32[4,3]
            (%i: i64[], %v0: f32[3,2], %u: f32[2,3], %x: f32[4,3]) {
              %t = transpose %v0 {permutation=[1, 0]} : f32[2,3]
              %a = dot %x, %t {transpose_rhs} : f32[4,2]
              %b = negate %u : f32[2,3]
              %c = dot %a, %b : f32[4,3]
              return %c
            }
          return %y
        }""",
    ),
    "a carry that no step changes is a constant": (
        hoist,
        """func @f(%x: f32[], %y: f32[]) -> (f32[], f32[]) {
          %a, %b = scan %x, %y {carries=2, constants=0, length=3} : f32[], f32[]
            (%i: i64[], %x: f32[], %y: f32[]) { %z = add %x, %y : f32[]  return %z, %y }
          return %a, %b
        }""",
        """func @f(%x: f32[], %y: f32[]) -> (f32[], f32[]) {
          %a = scan %y, %x {carries=1, constants=1, length=3} : f32[]
            (%i: i64[], %y: f32[], %x: f32[]) { %z = add %x, %y : f32[]  return %z }
          return %a, %y
        }""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITES)
def test_rewrites(name):
    step, before, after = REWRITES[name]
    graph = parse(before)
    result = step(graph)
    verify(result)
    assert result == parse(after)
    random = np.random.default_rng(0)
    arguments = [
        random.uniform(0.5, 1.5, parameter.shape).astype(parameter.dtype) if parameter.dtype.kind == "f"
        else np.ones(parameter.shape, parameter.dtype)
        for parameter in graph.parameters
    ]  # fmt: skip
    for one, other in zip(interpret(result, arguments), interpret(graph, arguments), strict=True):
        assert same_bits(one, other)


# Random graphs --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(graph=random_control())
def test_any_graph_survives(graph):
    verify(graph)
    assert parse(str(graph), graph_constants(graph)) == graph == graph.copy()


@pytest.mark.parametrize("step", [*PASSES, optimize])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bit_changes(step, data):
    graph = data.draw(random_control())
    text = str(graph)
    after = step(graph)
    verify(after)
    assert str(graph) == text
    arguments = data.draw(random_arguments(graph))
    results = zip(interpret(graph, arguments, reference), interpret(after, arguments, reference), strict=True)
    for expected, found in results:
        assert same_bits(expected, found), f"{graph}\nbecame\n{after}\n{expected} became {found} on {arguments}"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_graph_has_a_vjp(data):
    graph = data.draw(random_control())
    graph.results = [value for value in graph.results if value.type.is_static]
    derivative = vjp(graph)
    verify(derivative)
    optimized = optimize(derivative)
    verify(optimized)
    arguments = data.draw(random_arguments(derivative))
    expected = interpret(derivative, arguments, reference)
    for one, other in zip(interpret(optimized, arguments, reference), expected, strict=True):
        assert same_bits(one, other)
    alone = interpret(graph, arguments[: len(graph.parameters)], reference)
    for one, other in zip(alone, expected, strict=False):
        assert same_bits(one, other)
