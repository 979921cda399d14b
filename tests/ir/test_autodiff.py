"""The vjp of graphs: as text, and against finite differences, to second order."""

import tracemalloc

import numpy as np
import pytest

from tracejit.ir.autodiff import vjp
from tracejit.ir.interpreter import interpret
from tracejit.ir.parser import parse
from tracejit.ir.passes import optimize
from tracejit.ir.primitives import while_vjp
from tracejit.ir.types import is_differentiable
from tracejit.ir.verifier import verify

STEP = 1e-5


def gradients_by_differences(graph, arguments, cotangents):
    """Of the results, weighted by the cotangents and added up, by each floating-point argument."""

    def total(arguments):
        results = interpret(graph, arguments)
        kept = [r for r in results if is_differentiable(r.dtype)]
        return sum(float((r * c).sum()) for r, c in zip(kept, cotangents, strict=True))

    found = []
    for number, argument in enumerate(arguments):
        if not is_differentiable(argument.dtype):
            continue
        gradient = np.zeros_like(argument)
        for place in np.ndindex(argument.shape):
            values = []
            for sign in (1, -1):
                moved = argument.copy()
                moved[place] += sign * STEP
                values.append(total([*arguments[:number], moved, *arguments[number + 1 :]]))
            gradient[place] = (values[0] - values[1]) / (2 * STEP)
        found.append(gradient)
    return found


def random_array(type, random):
    if type.dtype.kind == "f":
        return random.uniform(0.4, 1.4, type.static_shape)
    return np.ones(type.static_shape, type.dtype)


def check(graph, arguments, order):
    """The gradients of ``graph`` are right, and those of its vjp, and so on."""
    random = np.random.default_rng(order)
    results = interpret(graph, arguments)
    cotangents = [random.uniform(0.5, 1.5, r.shape) for r in results if is_differentiable(r.dtype)]
    derivative = vjp(graph)
    verify(derivative)
    assert parse(str(derivative)) == derivative
    found = interpret(derivative, [*arguments, *cotangents])
    for one, other in zip(found[: len(results)], results, strict=True):
        np.testing.assert_array_equal(one, other)
    expected = gradients_by_differences(graph, arguments, cotangents)
    for one, other in zip(found[len(results) :], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
    optimized = optimize(derivative)
    verify(optimized)
    for one, other in zip(interpret(optimized, [*arguments, *cotangents]), found, strict=True):
        np.testing.assert_array_equal(one, other)
    if order > 1:
        check(derivative, [*arguments, *cotangents], order - 1)


GRAPHS = {
    "straight line": """
        func @f(%x: f64[3], %w: f64[2,3]) -> (f64[2]) {
          %a = multiply %w, %x         : f64[2,3]
          %b = sine %a                 : f64[2,3]
          %c = reduce_sum %b {axes=[1]} : f64[2]
          return %c
        }""",
    "a result twice, a parameter as a result": """
        func @f(%x: f64[2], %y: f64[2]) -> (f64[2], f64[2], f64[2]) {
          %a = multiply %x, %y : f64[2]
          return %a, %x, %a
        }""",
    "nothing to differentiate": """
        func @f(%x: f64[2], %n: i64[2]) -> (i64[2], f64[2]) {
          %a = add %n, 1 : i64[2]
          return %a, 1.0:f64
        }""".replace("(i64[2], f64[2])", "(i64[2], f64[])"),
    "case": """
        func @f(%p: bool[], %x: f64[3], %y: f64[3]) -> (f64[3], f64[3]) {
          %u, %v = case %p, %x, %y : f64[3], f64[3]
            (%a: f64[3], %b: f64[3]) { %c = multiply %a, %a : f64[3]  return %c, %b }
            (%a: f64[3], %b: f64[3]) { %c = sine %a : f64[3] %d = multiply %c, %b : f64[3]  return %d, %c }
          return %u, %v
        }""",
    "case in which one region has no gradient": """
        func @f(%i: i64[], %x: f64[], %y: f64[]) -> (f64[]) {
          %u = case %i, %x, %y : f64[]
            (%a: f64[], %b: f64[]) { return 1.0:f64 }
            (%a: f64[], %b: f64[]) { %c = multiply %a, %b : f64[]  return %c }
          return %u
        }""",
    "scan": """
        func @f(%w: f64[2,2], %h: f64[2], %xs: f64[4,2]) -> (f64[2], f64[4,2], i64[4]) {
          %last, %hs, %is = scan %w, %h, %xs {carries=1, constants=1, length=4} : f64[2], f64[4,2], i64[4]
            (%i: i64[], %w: f64[2,2], %h: f64[2], %x: f64[2]) {
              %a = multiply %w, %h          : f64[2,2]
              %b = reduce_sum %a {axes=[1]} : f64[2]
              %c = add %b, %x               : f64[2]
              %d = tanh %c                  : f64[2]
              %e = multiply %d, %x          : f64[2]
              return %d, %e, %i
            }
          return %last, %hs, %is
        }""",
    "scan backwards, whose carry starts without a gradient": """
        func @f(%w: f64[], %xs: f64[3]) -> (f64[], f64[3]) {
          %last, %ys = scan %w, 0.0:f64, 0, %xs {carries=2, constants=1, length=3, reverse} : f64[], i64[], f64[3]
            (%i: i64[], %w: f64[], %h: f64[], %n: i64[], %x: f64[]) {
              %a = multiply %w, %x : f64[]
              %b = add %h, %a      : f64[]
              %k = convert %i {dtype=f64} : f64[]
              %c = multiply %b, %k : f64[]
              %m = add %n, 1       : i64[]
              return %c, %m, %c
            }
          return %last, %ys
        }""".replace("%last, %ys = scan", "%last, %count, %ys = scan"),
    "while": """
        func @f(%w: f64[], %x: f64[2]) -> (f64[2], i64[]) {
          %y, %n = while %w, %x, 0 {constants=1} : f64[2], i64[]
            (%w: f64[], %x: f64[2], %n: i64[]) { %p = compare %n, 3 {direction=lt} : bool[]  return %p }
            (%w: f64[], %x: f64[2], %n: i64[]) {
              %a = multiply %x, %w : f64[2]
              %b = sine %a         : f64[2]
              %m = add %n, 1       : i64[]
              return %b, %m
            }
          return %y, %n
        }""",
    "while of no step": """
        func @f(%x: f64[2]) -> (f64[2]) {
          %y = while %x {constants=0} : f64[2]
            (%x: f64[2]) { return false }
            (%x: f64[2]) { %b = sine %x : f64[2]  return %b }
          return %y
        }""",
    "while that needs no residuals": """
        func @f(%w: f64[], %x: f64[]) -> (f64[]) {
          %y, %n = while %w, %x, 0 {constants=1} : f64[], i64[]
            (%w: f64[], %x: f64[], %n: i64[]) { %p = compare %n, 4 {direction=lt} : bool[]  return %p }
            (%w: f64[], %x: f64[], %n: i64[]) { %a = add %x, %w : f64[] %m = add %n, 1 : i64[]  return %a, %m }
          return %y
        }""",
    "while in a scan": """
        func @f(%x: f64[], %xs: f64[3]) -> (f64[], f64[3]) {
          %last, %ys = scan %x, %xs {carries=1, constants=0, length=3} : f64[], f64[3]
            (%i: i64[], %c: f64[], %x: f64[]) {
              %y, %n = while %x, %i, %c, 0 {constants=2} : f64[], i64[]
                (%w: f64[], %i: i64[], %x: f64[], %n: i64[]) {
                  %p = compare %n, %i {direction=le} : bool[]
                  return %p
                }
                (%w: f64[], %i: i64[], %x: f64[], %n: i64[]) {
                  %a = multiply %x, %w : f64[]
                  %b = sine %a         : f64[]
                  %m = add %n, 1       : i64[]
                  return %b, %m
                }
              %z = multiply %y, %x : f64[]
              return %y, %z
            }
          return %last, %ys
        }""",
    "case in a while in a while": """
        func @f(%x: f64[]) -> (f64[]) {
          %y, %n = while %x, 0 {constants=0} : f64[], i64[]
            (%x: f64[], %n: i64[]) { %p = compare %n, 2 {direction=lt} : bool[]  return %p }
            (%x: f64[], %n: i64[]) {
              %z, %k = while %x, %n {constants=0} : f64[], i64[]
                (%x: f64[], %n: i64[]) { %p = compare %n, 3 {direction=lt} : bool[]  return %p }
                (%x: f64[], %n: i64[]) {
                  %p = compare %n, 1 {direction=eq} : bool[]
                  %u = case %p, %x : f64[]
                    (%a: f64[]) { %b = sine %a : f64[]  return %b }
                    (%a: f64[]) { %b = multiply %a, %a : f64[]  return %b }
                  %m = add %n, 1 : i64[]
                  return %u, %m
                }
              %m = add %n, 1 : i64[]
              return %z, %m
            }
          return %y
        }""",
}  # fmt: skip
# At third order too, where it is not too long a wait.
THIRD = ("straight line", "case", "while", "scan backwards, whose carry starts without a gradient")


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients(name):
    graph = parse(GRAPHS[name])
    random = np.random.default_rng(0)
    arguments = [random_array(parameter.type, random) for parameter in graph.parameters]
    check(graph, arguments, 3 if name in THIRD else 2)
    if name.startswith("case"):
        arguments[0] = np.zeros_like(arguments[0])
        check(graph, arguments, 2)


LONG_LOOP = """
func @f(%x: f64[100], %w: f64[100], %n: i64[]) -> (f64[100]) {
  %i, %y = while %w, %n, 0, %x {constants=2} : i64[], f64[100]
    (%a: f64[100], %m: i64[], %i: i64[], %c: f64[100]) {
      %p = compare %i, %m {direction=lt} : bool[]
      return %p
    }
    (%a: f64[100], %m: i64[], %i: i64[], %c: f64[100]) {
      %d = multiply %c, %a : f64[100]
      %e = sine %d : f64[100]
      %j = add %i, 1 : i64[]
      return %j, %e
    }
  return %y
}"""


def test_the_memory_of_a_loop_of_unknown_length(monkeypatch):
    """Past the budget, the backward part keeps what grows with the root of the number of steps; no bit changes."""
    x, w, g = np.linspace(0.1, 1.5, 100), np.linspace(0.9, 1.1, 100), np.ones(100)

    def run(steps, budget):
        monkeypatch.setattr(while_vjp.settings, "memory", budget)
        derivative = vjp(parse(LONG_LOOP))
        verify(derivative)
        tracemalloc.start()
        results = interpret(derivative, [x, w, np.array(steps), g])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return [result.tobytes() for result in results], peak

    for steps, budgets in ((0, (1,)), (1, (1,)), (7, (1, 5000)), (400, (1, 5_000, 100_000))):
        expected, most = run(steps, 1 << 30)
        for budget in budgets:
            found, peak = run(steps, budget)
            assert found == expected
            if steps == 400:  # 20 stretches of 20 steps, or as long as the budget lets them be
                assert peak < most / 3
