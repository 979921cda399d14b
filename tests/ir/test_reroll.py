"""Rerolling: which loops are found in stretches of ops, what they become, and that no bit changes."""

import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.ir.random_graphs import random_arguments, reference, same_bits
from tracejit.ir import PRIMITIVES, Builder, Constant, Graph, TensorType
from tracejit.ir.interpreter import interpret
from tracejit.ir.parser import parse
from tracejit.ir.passes.loops.repetition import Stretch, repetitions
from tracejit.ir.passes.reroll import reroll
from tracejit.ir.types import float32, int32
from tracejit.ir.verifier import verify

rerolling = sys.modules[reroll.__module__]

# Stretches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("abababa", []),
        ("xabababab", [(1, 2, 4)]),
        ("xxxx", [(0, 1, 4)]),
        ("xxaaaaaaay", [(2, 1, 7)]),
        ("abcabcabcabcab", [(0, 3, 4)]),
        ("xaaaabaaaabaaaabaaaaby", [(1, 1, 4), (6, 1, 4), (11, 1, 4), (16, 1, 4), (1, 5, 4)]),
        ("abababab-cbcbcbcb", [(0, 2, 4), (9, 2, 4)]),
    ],
)
def test_repetitions(text, expected):
    codes = np.array([ord(letter) for letter in text], np.int64)
    assert repetitions(codes, 4) == [Stretch(*stretch) for stretch in expected]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_repetition_is_found_amid_noise(data):
    letters = st.lists(st.integers(0, 3), max_size=30)
    part = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=20))
    count = data.draw(st.integers(4, 9))
    before, after = data.draw(letters), data.draw(letters)
    found = repetitions(np.array([*before, *part * count, *after], np.int64), 4)
    start, stop = len(before), len(before) + len(part) * count
    assert any(
        len(part) % stretch.period == 0 and stretch.start <= start and stop < stretch.stop + stretch.period
        for stretch in found
    )  # fmt: skip


# What loops become ----------------------------------------------------------------------------------


def function(parameters, results, body):
    return parse(f"func @f({parameters}) -> ({results}) {{\n{body}\n}}")


def steps(step, numbers):
    return "\n".join(step(t) for t in numbers)


def product(t):
    return f"%a{t} = dot %h{t}, %w : f32[2,2]  %h{t + 1} = tanh %a{t} : f32[2,2]"


def backward(t):
    return (
        f"%b{t} = multiply %g{t + 1}, %h{t + 1} : f32[2,2]  %g{t} = dot %b{t}, %w {{transpose_rhs}} : f32[2,2]  "
    )  # fmt: skip


def row_of(x, t):
    return (
        f"%s{t} = slice {x} {{start=[{t}, 0], limit=[{t + 1}, 2], strides=[1, 1]}} : f32[1,2]  "
        f"%r{t} = reshape %s{t} {{shape=[2]}} : f32[2]  "
    )


def sum_of_product(t):
    return (
        f"%h{t + 1} = dot %h{t}, %h{t} : f32[2,2]  %s{t} = reduce_sum %h{t + 1} {{axes=[0]}} : f32[2]  "
        f"%r{t} = reshape %s{t} {{shape=[1, 2]}} : f32[1,2]  "
    )


def chain(t, length):
    """A step of elementwise ops."""
    ops = [f"%a{t}.{i} = {'sqrt' if i % 2 else 'abs'} %a{t}.{i - 1} : f32[8]" for i in range(1, length)]
    first = f"%a{t}.0 = ceil %h{t} : f32[8]"
    return "  ".join([first, *ops[:-1], f"%h{t + 1} = negate %a{t}.{length - 2} : f32[8]"])


def side_by_side(name, count):
    rows = steps(lambda t: f"%q{t} = reshape %{name}{t} {{shape=[1, 2]}} : f32[1,2]", range(count))
    operands = ", ".join(f"%q{t}" for t in range(count))
    return f"{rows} %y = concatenate {operands} {{dimension=0}} : f32[{count},2]"


# One row a kind of loop: parameters, result types, the body before, the body after.
LOOPS = {
    "a carry and a constant": (
        "%w: f32[2,2], %h0: f32[2,2]", "f32[2,2]",
        steps(product, range(40)) + " return %h40",
        """
        %h1 = scan %w, %h0 {carries=1, constants=1, length=40} : f32[2,2]
          (%step: i64[], %w_1: f32[2,2], %h1_1: f32[2,2]) {
            %a0   = dot %h1_1, %w_1 : f32[2,2]
            %h1_2 = tanh %a0        : f32[2,2]
            return %h1_2
          }
        return %h1
        """,
    ),
    "what is read of the last step, and of another": (
        "%w: f32[2,2], %h0: f32[2,2]", "f32[2,2], f32[2,2], f32[2,2]",
        steps(product, range(40)) + " return %h40, %a39, %h20",
        """
        %v0 = broadcast_in_dim 0.0 {dimensions=[], shape=[2, 2]} : f32[2,2]
        %h1, %a0, %h1_1 = scan %w, %h0, %v0 {carries=2, constants=1, length=40} : f32[2,2], f32[2,2], f32[40,2,2]
          (%step: i64[], %w_1: f32[2,2], %h1_2: f32[2,2], %v1: f32[2,2]) {
            %a0_1 = dot %h1_2, %w_1 : f32[2,2]
            %h1_3 = tanh %a0_1      : f32[2,2]
            return %h1_3, %a0_1, %h1_3
          }
        %v2 = slice %h1_1 {limit=[20, 2, 2], start=[19, 0, 0], strides=[1, 1, 1]} : f32[1,2,2]
        %v3 = reshape %v2 {shape=[2, 2]} : f32[2,2]
        return %h1, %a0, %v3
        """,
    ),
    "values of two steps before": (
        "%w: f32[2,2], %h0: f32[2,2], %h1: f32[2,2]", "f32[2,2], f32[2,2]",
        steps(lambda t: f"%a{t} = dot %h{t}, %w : f32[2,2]  %h{t + 2} = subtract %a{t}, %h{t + 1} : f32[2,2]",
              range(40)) + " return %h41, %h40",
        """
        %h2, %h2_1 = scan %w, %h1, %h0 {carries=2, constants=1, length=40} : f32[2,2], f32[2,2]
          (%step: i64[], %w_1: f32[2,2], %h2_2: f32[2,2], %h2_3: f32[2,2]) {
            %a0   = dot %h2_3, %w_1     : f32[2,2]
            %h2_4 = subtract %a0, %h2_2 : f32[2,2]
            return %h2_4, %h2_2
          }
        return %h2, %h2_1
        """,
    ),
    "slices that move along": (
        "%h0: f32[2], %x: f32[40,2]", "f32[2]",
        steps(lambda t: row_of("%x", t) + f"%a{t} = reduce_sum %h{t} {{axes=[0]}} : f32[]  "
                        f"%h{t + 1} = add %a{t}, %r{t} : f32[2]", range(40)) + " return %h40",
        """
        %v0 = slice %x {limit=[40, 2], start=[0, 0], strides=[1, 1]} : f32[40,2]
        %v1 = reshape %v0 {shape=[40, 1, 2]}                         : f32[40,1,2]
        %v2 = reshape %v1 {shape=[40, 2]}                            : f32[40,2]
        %h1 = scan %h0, %v2 {carries=1, constants=0, length=40}      : f32[2]
          (%step: i64[], %h1_1: f32[2], %r0: f32[2]) {
            %a0   = reduce_sum %h1_1 {axes=[0]} : f32[]
            %h1_2 = add %a0, %r0                : f32[2]
            return %h1_2
          }
        return %h1
        """,
    ),
    "constants, and integers that count": (
        "%h0: f32[2]", "f32[2]",
        steps(lambda t: f"%a{t} = reduce_sum %h{t} {{axes=[0]}} : f32[]  %b{t} = convert {3 * t + 1} {{dtype=f32}}"
                        f" : f32[]  %c{t} = multiply %a{t}, {t % 5 / 2} : f32[]  %d{t} = add %c{t}, %b{t} : f32[]"
                        f" %h{t + 1} = multiply %h{t}, %d{t} : f32[2]", range(16)) + " return %h16",
        """
        %h1 = scan %h0, [0.0, 0.5, 1.0, 1.5, 2.0, 0.0, 0.5, 1.0, 1.5, 2.0, 0.0, 0.5, 1.0, 1.5, 2.0, 0.0]:f32[16]
          {carries=1, constants=0, length=16} : f32[2]
          (%step: i64[], %h1_1: f32[2], %v0: f32[]) {
            %a0   = reduce_sum %h1_1 {axes=[0]} : f32[]
            %v1   = multiply %step, 3           : i64[]
            %v2   = add %v1, 1                  : i64[]
            %b0   = convert %v2 {dtype=f32}     : f32[]
            %c0   = multiply %a0, %v0           : f32[]
            %d0   = add %c0, %b0                : f32[]
            %h1_2 = multiply %h1_1, %d0         : f32[2]
            return %h1_2
          }
        return %h1
        """,
    ),
    "what is invariant is computed before, but for views and what folds": (
        "%w: f32[2,2], %h0: f32[2,2], %beta: f64[]", "f32[2,2]",
        steps(lambda t: f"%c{t} = convert %beta {{dtype=f32}} : f32[]  %l{t} = log %c{t} : f32[]  "
                        f"%z{t} = divide 1.0, 3.0 : f32[]  %k{t} = multiply %l{t}, %z{t} : f32[]  "
                        f"%wt{t} = transpose %w {{permutation=[1, 0]}} : f32[2,2]  "
                        f"%a{t} = dot %h{t}, %wt{t} : f32[2,2]  %b{t} = multiply %a{t}, %z{t} : f32[2,2]  "
                        f"%h{t + 1} = multiply %b{t}, %k{t} : f32[2,2]", range(40)) + " return %h40",
        """
        %c0 = convert %beta {dtype=f32} : f32[]
        %l0 = log %c0                   : f32[]
        %z0 = divide 1.0, 3.0           : f32[]
        %k0 = multiply %l0, %z0         : f32[]
        %h1 = scan %w, %k0, %h0 {carries=1, constants=2, length=40} : f32[2,2]
          (%step: i64[], %w_1: f32[2,2], %k0_1: f32[], %h1_1: f32[2,2]) {
            %wt0  = transpose %w_1 {permutation=[1, 0]} : f32[2,2]
            %a0   = dot %h1_1, %wt0                     : f32[2,2]
            %z0_1 = divide 1.0, 3.0                     : f32[]
            %b0   = multiply %a0, %z0_1                 : f32[2,2]
            %h1_2 = multiply %b0, %k0_1                 : f32[2,2]
            return %h1_2
          }
        return %h1
        """,
    ),
    "all steps side by side": (
        "%w: f32[2,2], %h0: f32[2]", "f32[40,2]",
        steps(lambda t: f"%a{t} = multiply %w, %h{t} : f32[2,2]  %h{t + 1} = reduce_sum %a{t} {{axes=[0]}} : f32[2]",
              range(40)) + side_by_side("h", 40) + " return %y",
        """
        %h1, %h1_1 = scan %w, %h0 {carries=1, constants=1, length=40} : f32[2], f32[40,2]
          (%step: i64[], %w_1: f32[2,2], %h1_2: f32[2]) {
            %a0   = multiply %w_1, %h1_2      : f32[2,2]
            %h1_3 = reduce_sum %a0 {axes=[0]} : f32[2]
            return %h1_3, %h1_3
          }
        %q0 = reshape %h0 {shape=[1, 2]}                                : f32[1,2]
        %v0 = slice %h1_1 {limit=[39, 2], start=[0, 0], strides=[1, 1]} : f32[39,2]
        %q1 = reshape %v0 {shape=[39, 1, 2]}                            : f32[39,1,2]
        %v1 = reshape %q1 {shape=[39, 2]}                               : f32[39,2]
        %y  = concatenate %q0, %v1 {dimension=0}                        : f32[40,2]
        return %y
        """,
    ),
    "backward, as the loop before went": (
        "%w: f32[2,2], %h0: f32[2,2], %g40: f32[2,2]", "f32[2,2], f32[2,2]",
        steps(product, range(40)) + steps(backward, range(39, -1, -1)) + " return %h40, %g0",
        """
        %h1, %h1_1 = scan %w, %h0 {carries=1, constants=1, length=40} : f32[2,2], f32[40,2,2]
          (%step: i64[], %w_1: f32[2,2], %h1_2: f32[2,2]) {
            %a0   = dot %h1_2, %w_1 : f32[2,2]
            %h1_3 = tanh %a0        : f32[2,2]
            return %h1_3, %h1_3
          }
        %g39 = scan %w, %g40, %h1_1 {carries=1, constants=1, length=40, reverse} : f32[2,2]
          (%step_1: i64[], %w_2: f32[2,2], %g39_1: f32[2,2], %h1_4: f32[2,2]) {
            %b39   = multiply %g39_1, %h1_4         : f32[2,2]
            %g39_2 = dot %b39, %w_2 {transpose_rhs} : f32[2,2]
            return %g39_2
          }
        return %h1, %g39
        """,
    ),
    "no step needs another": (
        "%x: f32[40,2]", "f32[2], f32[40,2]",
        steps(lambda t: row_of("%x", t) + f"%e{t} = exponential %r{t} : f32[2]", range(40))
        + side_by_side("e", 40) + " return %e39, %y",
        """
        %v0 = slice %x {limit=[40, 2], start=[0, 0], strides=[1, 1]}   : f32[40,2]
        %v1 = reshape %v0 {shape=[40, 1, 2]}                           : f32[40,1,2]
        %v2 = reshape %v1 {shape=[40, 2]}                              : f32[40,2]
        %e0 = exponential %v2                                          : f32[40,2]
        %q0 = reshape %e0 {shape=[40, 1, 2]}                           : f32[40,1,2]
        %y  = reshape %q0 {shape=[40, 2]}                              : f32[40,2]
        %v3 = slice %e0 {limit=[40, 2], start=[39, 0], strides=[1, 1]} : f32[1,2]
        %v4 = reshape %v3 {shape=[2]}                                  : f32[2]
        return %v4, %y
        """,
    ),
    "a buffer that is filled step by step": (
        "%h0: f32[2,2], %x0: f32[40,2]", "f32[40,2], f32[2,2]",
        steps(lambda t: sum_of_product(t)
              + f"%x{t + 1} = update_slice %x{t}, %r{t} {{start=[{t}, 0], strides=[1, 1]}} : f32[40,2]", range(40))
        + " return %x40, %h40",
        """
        %h1, %r0 = scan %h0 {carries=1, constants=0, length=40} : f32[2,2], f32[40,1,2]
          (%step: i64[], %h1_1: f32[2,2]) {
            %h1_2 = dot %h1_1, %h1_1            : f32[2,2]
            %s0   = reduce_sum %h1_2 {axes=[0]} : f32[2]
            %r0_1 = reshape %s0 {shape=[1, 2]}  : f32[1,2]
            return %h1_2, %r0_1
          }
        %v0 = reshape %r0 {shape=[40, 2]}                          : f32[40,2]
        %v1 = update_slice %x0, %v0 {start=[0, 0], strides=[1, 1]} : f32[40,2]
        return %v1, %h1
        """,
    ),
    "the gradient of slices": (
        "%h0: f32[2,2], %x0: f32[40,2]", "f32[40,2], f32[2,2]",
        steps(lambda t: sum_of_product(t)
              + f"%p{t} = pad %r{t}, 0.0 {{low=[{39 - t}, 0], high=[{t}, 0], interior=[0, 0]}} : f32[40,2]  "
                f"%x{t + 1} = add %x{t}, %p{t} : f32[40,2]", range(40))
        + " return %x40, %h40",
        """
        %h1, %r0 = scan %h0 {carries=1, constants=0, length=40, reverse} : f32[2,2], f32[40,1,2]
          (%step: i64[], %h1_1: f32[2,2]) {
            %h1_2 = dot %h1_1, %h1_1            : f32[2,2]
            %s0   = reduce_sum %h1_2 {axes=[0]} : f32[2]
            %r0_1 = reshape %s0 {shape=[1, 2]}  : f32[1,2]
            return %h1_2, %r0_1
          }
        %v0 = reshape %r0 {shape=[40, 2]}                             : f32[40,2]
        %v1 = pad %v0, 0.0 {high=[0, 0], interior=[0, 0], low=[0, 0]} : f32[40,2]
        %v2 = add %x0, %v1                                            : f32[40,2]
        %v3 = add %v2, 0.0                                            : f32[40,2]
        return %v3, %h1
        """,
    ),
    "moving slices of what changes": (
        "%x0: f32[18]", "f32[18]",
        steps(lambda t: f"%s{t} = slice %x{t} {{start=[{t}], limit=[{t + 1}], strides=[1]}} : f32[1]  "
                        f"%r{t} = reduce_sum %s{t} {{axes=[0]}} : f32[]  %e{t} = reshape %r{t} {{shape=[1]}} : f32[1]"
                        f"  %n{t} = negate %e{t} : f32[1]"
                        f"  %x{t + 1} = update_slice %x{t}, %n{t} {{start=[{t + 2}], strides=[1]}} : f32[18]",
              range(16)) + " return %x16",
        """
        %x1 = scan %x0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]:i64[16,1],
          [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]:i64[16,1]
          {carries=1, constants=0, length=16} : f32[18]
          (%step: i64[], %x1_1: f32[18], %v0: i64[1], %v1: i64[1]) {
            %v2   = slice %x1_1 {limit=[18], start=[0], strides=[1]} : f32[18]
            %s0   = gather %v2, %v0 {axes=[0]}                       : f32[1]
            %r0   = reduce_sum %s0 {axes=[0]}                        : f32[]
            %e0   = reshape %r0 {shape=[1]}                          : f32[1]
            %n0   = negate %e0                                       : f32[1]
            %v3   = gather %x1_1, %v1 {axes=[0]}                     : f32[1]
            %v4   = update_slice %v3, %n0 {start=[0], strides=[1]}   : f32[1]
            %x1_2 = scatter %x1_1, %v4, %v1 {axes=[0], combine=set}  : f32[18]
            return %x1_2
          }
        return %x1
        """,
    ),
    "steps that a kernel can hold together": (
        "%h0: f32[8]", "f32[8]",
        steps(lambda t: chain(t, 13), range(31)) + " return %h31",
        f"""
        %h3 = scan %h0 {{carries=1, constants=0, length=10}} : f32[8]
          (%step: i64[], %h3_1: f32[8]) {{
            {steps(lambda t: chain(t, 13), range(3)).replace("%h0 ", "%h3_1 ").replace("%h3 =", "%h3_2 =")}
            return %h3_2
          }}
        {chain(30, 13).replace("%h30", "%h3")}
        return %h31
        """,
    ),
    "a loop within a loop": (
        "%w: f32[2,2], %h0: f32[2,2]", "f32[2,2]",
        steps(lambda t: steps(product, range(50 * t, 50 * t + 49))
              + f" %h{50 * t + 50} = subtract %h{50 * t + 49}, %h{50 * t} : f32[2,2]", range(30)) + " return %h1500",
        """
        %h50 = scan %w, %h0 {carries=1, constants=1, length=30} : f32[2,2]
          (%step: i64[], %w_1: f32[2,2], %h50_1: f32[2,2]) {
            %h1    = scan %w_1, %h50_1 {carries=1, constants=1, length=49} : f32[2,2]
              (%step_1: i64[], %w_2: f32[2,2], %h1_1: f32[2,2]) {
                %a0   = dot %h1_1, %w_2 : f32[2,2]
                %h1_2 = tanh %a0        : f32[2,2]
                return %h1_2
              }
            %h50_2 = subtract %h1, %h50_1 : f32[2,2]
            return %h50_2
          }
        return %h50
        """,
    ),
    "another step in between": (
        "%w: f32[2,2], %h0: f32[2,2]", "f32[2,2]",
        steps(product, range(40)) + " %h41 = negate %h40 : f32[2,2] " + steps(product, range(41, 81)) + " return %h81",
        """
        %h1 = scan %w, %h0 {carries=1, constants=1, length=40} : f32[2,2]
          (%step: i64[], %w_1: f32[2,2], %h1_1: f32[2,2]) {
            %a0   = dot %h1_1, %w_1 : f32[2,2]
            %h1_2 = tanh %a0        : f32[2,2]
            return %h1_2
          }
        %h41 = negate %h1 : f32[2,2]
        %h42 = scan %w, %h41 {carries=1, constants=1, length=40} : f32[2,2]
          (%step_1: i64[], %w_2: f32[2,2], %h42_1: f32[2,2]) {
            %a41   = dot %h42_1, %w_2 : f32[2,2]
            %h42_2 = tanh %a41        : f32[2,2]
            return %h42_2
          }
        return %h42
        """,
    ),
    "another operand from a step on": (
        "%w: f32[2,2], %v: f32[2,2], %h0: f32[2,2]", "f32[2,2]",
        steps(product, range(40)) + steps(product, range(40, 100)).replace("%w", "%v") + " return %h100",
        """
        %h1 = scan %w, %h0 {carries=1, constants=1, length=40} : f32[2,2]
          (%step: i64[], %w_1: f32[2,2], %h1_1: f32[2,2]) {
            %a0   = dot %h1_1, %w_1 : f32[2,2]
            %h1_2 = tanh %a0        : f32[2,2]
            return %h1_2
          }
        %h41 = scan %v, %h1 {carries=1, constants=1, length=60} : f32[2,2]
          (%step_1: i64[], %v_1: f32[2,2], %h41_1: f32[2,2]) {
            %a40   = dot %h41_1, %v_1 : f32[2,2]
            %h41_2 = tanh %a40        : f32[2,2]
            return %h41_2
          }
        return %h41
        """,
    ),
    "in a region": (
        "%p: bool[], %w: f32[2,2], %h0: f32[2,2]", "f32[2,2]",
        f"""
        %y = case %p, %w, %h0 : f32[2,2]
          (%w: f32[2,2], %h0: f32[2,2]) {{ return %w }}
          (%w: f32[2,2], %h0: f32[2,2]) {{ {steps(product, range(40))} return %h40 }}
        return %y
        """,
        """
        %y = case %p, %w, %h0 : f32[2,2]
          (%w_1: f32[2,2], %h0_1: f32[2,2]) { return %w_1 }
          (%w_2: f32[2,2], %h0_2: f32[2,2]) {
            %h1 = scan %w_2, %h0_2 {carries=1, constants=1, length=40} : f32[2,2]
              (%step: i64[], %w_3: f32[2,2], %h1_1: f32[2,2]) {
                %a0   = dot %h1_1, %w_3 : f32[2,2]
                %h1_2 = tanh %a0        : f32[2,2]
                return %h1_2
              }
            return %h1
          }
        return %y
        """,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOOPS)
def test_loops(kind):
    parameters, results, before, after = LOOPS[kind]
    graph = function(parameters, results, before)
    found = reroll(graph)
    verify(found)
    assert found == function(parameters, results, after)
    assert graph == function(parameters, results, before)


# What stays as it is: parameters, result types, the body.
OTHERS = {
    "a few steps": ("%w: f32[2,2], %h0: f32[2,2]", "f32[2,2]", steps(product, range(7)) + " return %h7"),
    "little in each step": ("%h0: f32[8]", "f32[8]", steps(
        lambda t: f"%a{t} = negate %h{t} : f32[8]  %h{t + 1} = add %h{t}, %a{t} : f32[8]", range(99)) + " return %h99"),
    "layers, each with weights of its own": (
        ", ".join(f"%w{t}: f32[2,2], %b{t}: f32[2]" for t in range(40)) + ", %h0: f32[2,2]", "f32[2,2]",
        steps(lambda t: f"%a{t} = dot %h{t}, %w{t} : f32[2,2]  %c{t} = add %a{t}, %b{t} : f32[2,2]  "
                        f"%h{t + 1} = tanh %c{t} : f32[2,2]", range(40)) + " return %h40"),
    "all values of each step are read": (
        "%w: f32[2,2], %h0: f32[2,2]", ", ".join(["f32[2,2]"] * 80),
        steps(product, range(40)) + "return " + ", ".join(f"%a{t}, %h{t + 1}" for t in range(40))),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_stays(kind):
    graph = function(*OTHERS[kind])
    assert reroll(graph) is graph


# Random loops ---------------------------------------------------------------------------------------
# Values are rows, f32[3] or i32[3]; sheets hold many, along their first axis or their second.

SIZE = 40


class Program:
    """A program with loops, unrolled into a graph as a trace would be.

    What a loop does is drawn once, as functions of the step.
    """

    def __init__(self, draw, dtype):
        self.draw, self.dtype = draw, dtype
        self.graph = Graph("random")
        self.builder = Builder(self.graph)
        row, sheet, flat = (TensorType(dtype, shape) for shape in ((3,), (SIZE, 3), (3, SIZE)))
        self.rows = [self.builder.parameter(row, "w"), self.builder.parameter(row, "h")]
        self.sheets = [self.builder.parameter(sheet, "xs"), self.builder.parameter(flat, "ys")]
        self.loops = []  # for each the number of steps, and the values of each step

    def pick(self, choices):
        return choices[self.draw(st.integers(0, len(choices) - 1))]

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def apply(self, name, *operands, **attributes):
        return self.builder.apply(PRIMITIVES[name], operands, attributes)

    def loop(self):
        count, history = self.number(4, 9), []
        slots = [self.slot(number, history, count) for number in range(self.number(1, 4))]
        for step in range(count):
            values = []
            history.append(values)
            for slot in slots:
                values.append(slot(step))
        self.loops.append((count, history))

    def slot(self, number, history, count):
        """One value of each step."""
        match self.pick(["op"] * 4 + ["slice", "slice", "buffer", "gradient", "invariant", "loop"]):
            case "op":
                name = self.pick(("add", "multiply", "maximum", "subtract"))
                left, right = (self.row(number, history) for _ in range(2))
                return lambda step: self.apply(name, left(step), right(step))
            case "invariant":
                return lambda step: self.apply("add", self.apply("negate", self.rows[0]), self.rows[1])
            case "slice":
                return self.sliced(history, count)
            case "loop":
                return self.inner(number, history)
            case kind:
                return self.placed(kind, number, history, count)

    def row(self, number, history):
        """A row that a step reads."""
        kind = self.pick(("outside", "carried", "carried", "local", "constant", "earlier", "earlier"))
        if kind == "carried":
            slot, lag = self.number(0, 3), self.number(1, 2)
            initial = [self.pick(self.rows) for _ in range(lag)]
            return lambda step: (
                self.as_row(history[step - lag][slot % len(history[0])]) if step >= lag else initial[step]
            )
        if kind == "local" and number:
            slot = self.number(0, number - 1)
            return lambda step: self.as_row(history[step][slot])
        if kind == "constant":
            start, stride, shape = self.number(-2, 3), self.pick((0, 1, -2, 0.5)), self.pick(((), (3,)))
            return lambda step: Constant(np.full(shape, start + stride * step, self.dtype))
        if kind == "earlier" and self.loops:
            length, earlier = self.pick(self.loops)
            slot, shift, is_mirrored = self.number(0, 3), self.number(-1, 1), self.draw(st.booleans())

            def read(step):
                at = length - 1 - step - shift if is_mirrored else step + shift
                return self.as_row(earlier[min(max(at, 0), length - 1)][slot % len(earlier[0])])

            return read
        found = self.pick(self.rows)
        return lambda step: found

    def as_row(self, value):
        if value.shape == ():
            return self.apply("broadcast_in_dim", value, shape=(3,), dimensions=())
        return value if value.shape == (3,) else self.apply("reduce_max", value, axes=(value.shape.index(SIZE),))

    def motion(self, count, width):
        """Where a part of a sheet lies in each step."""
        stride = self.pick([stride for stride in (-2, -1, 0, 1, 1, 2, 3) if abs(stride) * count + width < SIZE])
        first = self.number(0, 2) + max(0, -stride * (count - 1))
        return lambda step: first + stride * step

    def sliced(self, history, count):
        """A part of a sheet, from outside or one that the loop changes."""
        sheet, width, stride = self.pick(self.sheets), self.pick((1, 1, 2)), self.number(1, 2)
        where, changes = self.motion(count, 2 * width), self.draw(st.booleans())

        def read(step):
            x = next((value for value in history[step - 1] if step and changes and value.ndim == 2), sheet)
            axis = x.shape.index(SIZE)
            start, limit, strides = [0, 0], [*x.shape], [1, 1]
            start[axis], limit[axis], strides[axis] = where(step), where(step) + (width - 1) * stride + 1, stride
            part = self.apply("slice", x, start=tuple(start), limit=tuple(limit), strides=tuple(strides))
            return (
                self.apply("reduce_sum", part, axes=(axis,)) if width > 1 else self.apply("reshape", part, shape=(3,))
            )

        return read

    def placed(self, kind, number, history, count):
        """A sheet into which each step puts a row, or to which it adds one amid zeros."""
        sheet, where, value = self.pick(self.sheets), self.motion(count, 1), self.row(number, history)
        axis, reads_it = sheet.shape.index(SIZE), self.draw(st.booleans())

        def put(step):
            before = history[step - 1][number] if step else sheet
            row = self.as_row(value(step))
            if reads_it:
                row = self.apply("add", row, self.as_row(before))
            part = self.apply("reshape", row, shape=(1, 3) if axis == 0 else (3, 1))
            low = (where(step), 0) if axis == 0 else (0, where(step))
            if kind == "buffer":
                return self.apply("update_slice", before, part, start=low, strides=(1, 1))
            high = tuple(a - b - c for a, b, c in zip(sheet.shape, low, part.shape, strict=True))
            zero = Constant(np.zeros((), self.dtype))
            return self.apply("add", before, self.apply("pad", part, zero, low=low, high=high, interior=(0, 0)))

        return put

    def inner(self, number, history):
        """What a loop within the loop ends with."""
        length, name = self.number(4, 6), self.pick(("add", "multiply"))
        start, other = self.row(number, history), self.row(number, history)

        def run(step):
            value = self.as_row(start(step))
            for _ in range(length):
                value = self.apply("maximum", self.apply(name, value, other(step)), self.rows[0])
            return value

        return run

    def finish(self):
        """The results: values of the last step, of another, all side by side, or added up."""
        for count, history in self.loops:
            for slot in range(len(history[0])):
                values = [step[slot] for step in history]
                match self.number(0, 3):
                    case 0:
                        result = values[self.number(0, count - 1)]
                    case 1:
                        rows = [self.as_row(value) for value in values[:: self.pick((-1, 1, 2))]]
                        rows = [self.apply("reshape", row, shape=(1, 3)) for row in rows]
                        result = self.apply("concatenate", *rows, dimension=0)
                    case 2:
                        result = self.rows[1]
                        for value in values:
                            result = self.apply("add", result, self.as_row(value))
                    case _:
                        result = values[-1]
                self.graph.results.append(result)
        return self.graph


@st.composite
def programs(draw):
    program = Program(draw, draw(st.sampled_from([float32, int32])))
    for _ in range(draw(st.integers(1, 3))):
        program.loop()
    return program.finish()


@contextmanager
def eagerly(fused):
    """Loops are rolled up however little that pays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rerolling, "LEAST_STEPS", 4)
        patch.setattr(rerolling, "LEAST_SAVED", 0)
        patch.setattr(rerolling, "FUSED_OPS", fused)
        patch.setattr(rerolling, "_is_worthwhile", lambda rolled: True)
        yield


@pytest.mark.parametrize("fused", [0, 5, 100])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_bit_changes(fused, data):
    graph = data.draw(programs())
    text = str(graph)
    with eagerly(fused):
        after = reroll(graph)
    verify(after)
    assert str(graph) == text
    arguments = data.draw(random_arguments(graph))
    expected, found = (interpret(each, arguments, reference) for each in (graph, after))
    for one, other in zip(expected, found, strict=True):
        assert same_bits(one, other), f"{graph}\nbecame\n{after}\n{one} became {other} on {arguments}"
