"""The passes: what each makes of a graph, as text, and that none changes a bit of any result."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.ir.random_graphs import random_arguments, random_graphs, reference, same_bits
from tracejit.ir import Builder, Constant, Graph, TensorType, passes
from tracejit.ir.autodiff import vjp
from tracejit.ir.interpreter import evaluate_with_numpy, interpret
from tracejit.ir.parser import parse
from tracejit.ir.passes import (
    FIRST,
    LAST,
    PASSES,
    absorb,
    assemble,
    contract,
    cse,
    dce,
    fold,
    lookup,
    narrow,
    optimize,
    relax,
    rematerialize,
    simplify,
    strength,
)  # fmt: skip
from tracejit.ir.primitives.elementwise import add, negate, subtract
from tracejit.ir.types import float32
from tracejit.ir.verifier import VerificationError, verify


def function(parameters, results, body):
    return parse(f"func @f({parameters}) -> ({results}) {{\n{body}\n}}")


def simplified(graph):
    """What ``simplify`` leaves, without the ops that it made superfluous."""
    return dce(simplify(graph))


X, XY = "%x: f32[2,3]", "%x: f32[2,3], %y: f32[2,3]"

# One row a rewrite: parameters, result types, the body before, the body after.
SIMPLIFICATIONS = {
    # Arithmetic
    "x * 1": (X, "f32[2,3]", "%z = multiply %x, 1.0 : f32[2,3] return %z", "return %x"),
    "1 * x, integer": ("%x: i32[3]", "i32[3]", "%z = multiply 1:i32, %x : i32[3] return %z", "return %x"),
    "x * 1, stretched": (
        "%x: f32[]", "f32[1,1]",
        "%z = multiply %x, [1.0]:f32[1,1] : f32[1,1] return %z",
        "%z = broadcast_in_dim %x {shape=[1, 1], dimensions=[]} : f32[1,1] return %z",
    ),
    "x * -1": (X, "f32[2,3]", "%z = multiply %x, -1.0 : f32[2,3] return %z", "%z = negate %x : f32[2,3] return %z"),
    "x / 1": (X, "f32[2,3]", "%z = divide %x, 1.0 : f32[2,3] return %z", "return %x"),
    "x - 0.0": (X, "f32[2,3]", "%z = subtract %x, 0.0 : f32[2,3] return %z", "return %x"),
    "x + -0.0": (X, "f32[2,3]", "%z = add -0.0, %x : f32[2,3] return %z", "return %x"),
    "x + 0, integer": ("%x: u8[3]", "u8[3]", "%z = add %x, 0:u8 : u8[3] return %z", "return %x"),
    "x - 0, integer": ("%x: i64[3]", "i64[3]", "%z = subtract %x, 0 : i64[3] return %z", "return %x"),
    "--x": (X, "f32[2,3]", "%a = negate %x : f32[2,3] %z = negate %a : f32[2,3] return %z", "return %x"),
    "not not x": ("%x: bool[3]", "bool[3]", "%a = not %x : bool[3] %z = not %a : bool[3] return %z", "return %x"),
    "x - -y": (XY, "f32[2,3]", "%a = negate %y : f32[2,3] %z = subtract %x, %a : f32[2,3] return %z",
               "%z = add %x, %y : f32[2,3] return %z"),
    "x + -y": (XY, "f32[2,3]", "%a = negate %y : f32[2,3] %z = add %x, %a : f32[2,3] return %z",
               "%z = subtract %x, %y : f32[2,3] return %z"),
    "-x + y": (XY, "f32[2,3]", "%a = negate %x : f32[2,3] %z = add %a, %y : f32[2,3] return %z",
               "%z = subtract %y, %x : f32[2,3] return %z"),
    # Choice and conversion
    "select(true, x, y)": (XY, "f32[2,3]", "%z = select true, %x, %y : f32[2,3] return %z", "return %x"),
    "select(false, x, y)": (XY, "f32[2,3]", "%z = select false, %x, %y : f32[2,3] return %z", "return %y"),
    "select(p, x, x)": ("%p: bool[3], " + X, "f32[2,3]", "%z = select %p, %x, %x : f32[2,3] return %z", "return %x"),
    "select(p, 1, 1), stretched": (
        "%p: bool[3]", "f32[3]",
        "%z = select %p, 1.0, 1.0 : f32[3] return %z",
        "%z = broadcast_in_dim 1.0 {shape=[3], dimensions=[]} : f32[3] return %z",
    ),
    "convert to the same": (X, "f32[2,3]", "%z = convert %x {dtype=f32} : f32[2,3] return %z", "return %x"),
    "convert up and down": (
        "%x: bf16[3]", "bf16[3]",
        "%a = convert %x {dtype=f32} : f32[3] %z = convert %a {dtype=bf16} : bf16[3] return %z",
        "return %x",
    ),
    "convert up and on": (
        "%x: i8[3]", "f32[3]",
        "%a = convert %x {dtype=i32} : i32[3] %z = convert %a {dtype=f32} : f32[3] return %z",
        "%z = convert %x {dtype=f32} : f32[3] return %z",
    ),
    # Broadcasts
    "broadcast to the same": (
        X, "f32[2,3]", "%z = broadcast_in_dim %x {shape=[2, 3], dimensions=[0, 1]} : f32[2,3] return %z", "return %x",
    ),
    "broadcast of a broadcast": (
        "%x: f32[3]", "f32[4,3,2]",
        "%a = broadcast_in_dim %x {shape=[3, 1], dimensions=[0]} : f32[3,1]"
        " %z = broadcast_in_dim %a {shape=[4, 3, 2], dimensions=[1, 2]} : f32[4,3,2] return %z",
        "%z = broadcast_in_dim %x {shape=[4, 3, 2], dimensions=[1]} : f32[4,3,2] return %z",
    ),
    "broadcast constant": (
        X, "f32[2,3]",
        "%a = broadcast_in_dim 2.0 {shape=[2, 3], dimensions=[]} : f32[2,3]"
        " %z = multiply %x, %a : f32[2,3] return %z",
        "%z = multiply %x, 2.0 : f32[2,3] return %z",
    ),
    "broadcast operand": (
        "%p: bool[3], %b: f32[3], " + X, "f32[2,3]",
        "%a = broadcast_in_dim %b {shape=[2, 3], dimensions=[1]} : f32[2,3]"
        " %z = select %p, %a, %x : f32[2,3] return %z",
        "%z = select %p, %b, %x : f32[2,3] return %z",
    ),
    "broadcast operands": (
        "%a: f32[3], %b: f32[2,1]", "f32[2,3]",
        "%c = broadcast_in_dim %a {shape=[2, 3], dimensions=[1]} : f32[2,3]"
        " %d = broadcast_in_dim %b {shape=[2, 3], dimensions=[0, 1]} : f32[2,3]"
        " %z = add %c, %d : f32[2,3] return %z",
        "%z = add %a, %b : f32[2,3] return %z",
    ),
    "broadcast after": (
        "%b: f32[3]", "f32[2,3]",
        "%a = broadcast_in_dim %b {shape=[2, 3], dimensions=[1]} : f32[2,3]"
        " %c = multiply %a, 2.0 : f32[2,3] %z = exponential %c : f32[2,3] return %z",
        "%v0 = multiply %b, 2.0 : f32[3] %v1 = exponential %v0 : f32[3]"
        " %z = broadcast_in_dim %v1 {shape=[2, 3], dimensions=[1]} : f32[2,3] return %z",
    ),
    "view of a scalar": (
        "%x: f32[]", "f32[3,1]",
        "%a = broadcast_in_dim %x {shape=[2, 3], dimensions=[]} : f32[2,3]"
        " %b = transpose %a {permutation=[1, 0]} : f32[3,2]"
        " %z = slice %b {start=[0, 1], limit=[3, 2], strides=[1, 1]} : f32[3,1] return %z",
        "%z = broadcast_in_dim %x {shape=[3, 1], dimensions=[]} : f32[3,1] return %z",
    ),
    # Other views, placements
    "reshape to the same": (X, "f32[2,3]", "%z = reshape %x {shape=[2, 3]} : f32[2,3] return %z", "return %x"),
    "reshape of a reshape": (
        X, "f32[3,2]",
        "%a = reshape %x {shape=[6]} : f32[6] %z = reshape %a {shape=[3, 2]} : f32[3,2] return %z",
        "%z = reshape %x {shape=[3, 2]} : f32[3,2] return %z",
    ),
    "transpose of nothing": (X, "f32[2,3]", "%z = transpose %x {permutation=[0, 1]} : f32[2,3] return %z", "return %x"),
    "transpose and back": (
        X, "f32[2,3]",
        "%a = transpose %x {permutation=[1, 0]} : f32[3,2]"
        " %z = transpose %a {permutation=[1, 0]} : f32[2,3] return %z",
        "return %x",
    ),
    "transpose of a transpose": (
        "%x: f32[2,3,4]", "f32[3,4,2]",
        "%a = transpose %x {permutation=[2, 0, 1]} : f32[4,2,3]"
        " %z = transpose %a {permutation=[2, 0, 1]} : f32[3,4,2] return %z",
        "%z = transpose %x {permutation=[1, 2, 0]} : f32[3,4,2] return %z",
    ),
    "slice of a slice": (
        "%x: f32[9]", "f32[2]",
        "%a = slice %x {start=[1], limit=[8], strides=[2]} : f32[4]"
        " %z = slice %a {start=[1], limit=[3], strides=[1]} : f32[2] return %z",
        "%z = slice %x {start=[3], limit=[6], strides=[2]} : f32[2] return %z",
    ),
    "slice of a part": (
        "%x: f32[3], %y: f32[4]", "f32[2], f32[4]",
        "%a = concatenate %x, %y {dimension=0} : f32[7]"
        " %b = slice %a {start=[4], limit=[6], strides=[1]} : f32[2]"
        " %c = slice %a {start=[1], limit=[5], strides=[1]} : f32[4] return %b, %c",
        "%a = concatenate %x, %y {dimension=0} : f32[7]"
        " %b = slice %y {start=[1], limit=[3], strides=[1]} : f32[2]"
        " %c = slice %a {start=[1], limit=[5], strides=[1]} : f32[4] return %b, %c",
    ),
    "slice of padding": (
        "%x: f32[3]", "f32[2], f32[4]",
        "%a = pad %x, 7.0 {low=[2], high=[4], interior=[0]} : f32[9]"
        " %b = slice %a {start=[3], limit=[5], strides=[1]} : f32[2]"
        " %c = slice %a {start=[5], limit=[9], strides=[1]} : f32[4] return %b, %c",
        "%b = slice %x {start=[1], limit=[3], strides=[1]} : f32[2]"
        " %c = broadcast_in_dim 7.0 {dimensions=[], shape=[4]} : f32[4] return %b, %c",
    ),
    "what is added to a view of a number": (
        "%x: f32[], %y: f32[1]", "f32[1]",
        "%a = reshape %x {shape=[1]} : f32[1] %z = add %a, %y : f32[1] return %z",
        "%a = reshape %x {shape=[1]} : f32[1] %z = add %a, %y : f32[1] return %z",
    ),
    "what is added to a view of a product": (
        "%x: f32[6,4], %y: f32[4,5], %b: f32[5], %c: f32[6], %d: f32[6,4], %e: f32[6,4]",
        "f32[5,6], f32[2,3,5], f32[5,6]",
        "%p = dot %x, %y : f32[6,5] %t = reshape %p {shape=[2, 3, 5]} : f32[2,3,5] %u = add %b, %t : f32[2,3,5]"
        " %q = dot %d, %y : f32[6,5] %v = reshape %q {shape=[5, 6]} : f32[5,6] %w = add %v, 1.0 : f32[5,6]"
        " %r = dot %e, %y : f32[6,5] %s = reshape %r {shape=[5, 6]} : f32[5,6] %z = add %s, %c : f32[5,6]"
        " return %w, %u, %z",
        "%p = dot %x, %y : f32[6,5] %v0 = add %p, %b : f32[6,5] %u = reshape %v0 {shape=[2, 3, 5]} : f32[2,3,5]"
        " %q = dot %d, %y : f32[6,5] %v1 = add %q, 1.0 : f32[6,5] %w = reshape %v1 {shape=[5, 6]} : f32[5,6]"
        " %r = dot %e, %y : f32[6,5] %s = reshape %r {shape=[5, 6]} : f32[5,6] %z = add %s, %c : f32[5,6]"
        " return %w, %u, %z",
    ),
    "x + 0.0 + 0.0": (
        XY, "f32[4,3]",
        "%a = add %x, 0.0 : f32[2,3] %b = add 0.0, %y : f32[2,3] %c = concatenate %a, %b {dimension=0} : f32[4,3]"
        " %z = add %c, 0.0 : f32[4,3] return %z",
        "%a = add %x, 0.0 : f32[2,3] %b = add 0.0, %y : f32[2,3] %c = concatenate %a, %b {dimension=0} : f32[4,3]"
        " return %c",
    ),
    "slice of everything": (
        X, "f32[2,3]", "%z = slice %x {start=[0, 0], limit=[2, 3], strides=[1, 1]} : f32[2,3] return %z", "return %x",
    ),
    "pad by nothing": (
        X, "f32[2,3]", "%z = pad %x, 0.0 {low=[0, 0], high=[0, 0], interior=[0, 0]} : f32[2,3] return %z", "return %x",
    ),
    "concatenate one": (X, "f32[2,3]", "%z = concatenate %x {dimension=0} : f32[2,3] return %z", "return %x"),
    "concatenate nothing to it": (
        "%e: f32[0,3], " + X, "f32[2,3]", "%z = concatenate %e, %x, %e {dimension=0} : f32[2,3] return %z", "return %x",
    ),
    # Reductions, products
    "reduce over no axes": (X, "f32[2,3]", "%z = reduce_sum %x {axes=[]} : f32[2,3] return %z", "return %x"),
    "reduce one element": (
        "%x: f32[2,1]", "f32[2]",
        "%z = reduce_max %x {axes=[1]} : f32[2] return %z", "%z = reshape %x {shape=[2]} : f32[2] return %z",
    ),
    "dot of a transpose": (
        XY, "f32[2,2]",
        "%a = transpose %y {permutation=[1, 0]} : f32[3,2] %z = dot %x, %a : f32[2,2] return %z",
        "%z = dot %x, %y {transpose_rhs} : f32[2,2] return %z",
    ),
    "transposed dot of transposes": (
        XY, "f32[2,2]",
        "%a = transpose %x {permutation=[1, 0]} : f32[3,2] %b = transpose %y {permutation=[1, 0]} : f32[3,2]"
        " %z = dot %a, %b {transpose_lhs} : f32[2,2] return %z",
        "%z = dot %x, %y {transpose_rhs} : f32[2,2] return %z",
    ),
    "transpose of a dot": (
        XY, "f32[2,2]",
        "%a = dot %x, %y {transpose_rhs} : f32[2,2] %z = transpose %a {permutation=[1, 0]} : f32[2,2] return %z",
        "%z = dot %y, %x {transpose_rhs} : f32[2,2] return %z",
    ),
    "transpose of a dot of NumPy's": (
        "%x: c64[2,3], %y: c64[2,3]", "c64[2,2]",
        "%a = dot %x, %y {transpose_rhs} : c64[2,2] %z = transpose %a {permutation=[1, 0]} : c64[2,2] return %z",
        "%a = dot %x, %y {transpose_rhs} : c64[2,2] %z = transpose %a {permutation=[1, 0]} : c64[2,2] return %z",
    ),
    "transpose of a dot that is read elsewhere": (
        XY, "f32[2,2]",
        "%a = dot %x, %y {transpose_rhs} : f32[2,2] %b = transpose %a {permutation=[1, 0]} : f32[2,2]"
        " %z = add %a, %b : f32[2,2] return %z",
        "%a = dot %x, %y {transpose_rhs} : f32[2,2] %b = transpose %a {permutation=[1, 0]} : f32[2,2]"
        " %z = add %a, %b : f32[2,2] return %z",
    ),
    "dot of transposed heads": (
        "%q: f32[5,2,3], %k: f32[4,2,3]", "f32[2,5,4]",
        "%a = transpose %q {permutation=[1, 0, 2]} : f32[2,5,3] %b = transpose %k {permutation=[1, 2, 0]} : f32[2,3,4]"
        " %z = dot %a, %b : f32[2,5,4] return %z",
        "%a = transpose %q {permutation=[1, 0, 2]} : f32[2,5,3] %v0 = transpose %k {permutation=[1, 0, 2]} : f32[2,4,3]"
        " %z = dot %a, %v0 {transpose_rhs} : f32[2,5,4] return %z",
    ),
    # Several at once: what a rule makes is simplified too
    "a chain": (
        "%x: f32[3]", "f32[2,3]",
        "%one = broadcast_in_dim -1.0 {shape=[3], dimensions=[]} : f32[3] %a = multiply %x, %one : f32[3]"
        " %b = negate %a : f32[3] %c = broadcast_in_dim %b {shape=[1, 3], dimensions=[1]} : f32[1,3]"
        " %z = broadcast_in_dim %c {shape=[2, 3], dimensions=[0, 1]} : f32[2,3] return %z",
        "%z = broadcast_in_dim %x {shape=[2, 3], dimensions=[1]} : f32[2,3] return %z",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("parameters", "results", "before", "after"), SIMPLIFICATIONS.values(), ids=SIMPLIFICATIONS)
def test_simplify(parameters, results, before, after):
    graph = simplified(function(parameters, results, before))
    verify(graph)
    assert graph == function(parameters, results, after)
    assert optimize(graph) is graph


# What looks alike and isn't: the value, the infinity, the NaN or the sign of a zero would change.
@pytest.mark.parametrize(
    "line",
    [
        "multiply %x, 0.0 : f32[3]",
        "add %x, 0.0 : f32[3]",
        "subtract %x, -0.0 : f32[3]",
        "subtract 0.0, %x : f32[3]",
        "subtract %x, %x : f32[3]",
        "divide %x, %x : f32[3]",
        "divide %x, 3.0 : f32[3]",
        "divide %x, 0.0 : f32[3]",
        "divide %x, inf : f32[3]",
        "divide %x, 1e-45 : f32[3]",
        "divide %x, 1.7014118e+38 : f32[3]",
        "divide 2.0, %x : f32[3]",
        "maximum %x, -inf : f32[3]",
        "compare %x, %x {direction=eq} : bool[3]",
        "reduce_sum %x {axes=[0]} : f32[]",
        "slice %x {start=[0], limit=[3], strides=[2]} : f32[2]",
        "reverse %x {dimensions=[0]} : f32[3]",
        "power %x, 2.0 : f32[3]",
        "power %x, -1.0 : f32[3]",
        "power %x, 0.5 : f32[3]",
        "power %y, 1.0:f64 : f64[3]",
        "remainder %x, 2.0 : f32[3]",
        "floor_divide %x, 0.5 : f32[3]",
        "floor_quotient %i, 3 : i64[3]",
        "floor_quotient %i, -2 : i64[3]",
        "floor_remainder %i, 6 : i64[3]",
        "integer_power %i, -1 : i64[3]",
        "integer_power %i, 1000000 : i64[3]",
        "multiply %c, (1.0, 0.0):c64 : c64[2]",
        "add %c, (-0.0, -0.0):c64 : c64[2]",
        "reduce_product %d {axes=[1]} : c64[2]",
    ],
)
def test_left_as_it_is(line):
    type = line.rpartition(": ")[2]
    graph = function("%x: f32[3], %y: f64[3], %i: i64[3], %c: c64[2], %d: c64[2,1]", type, f"%z = {line} return %z")
    assert optimize(graph) is graph


def test_left_as_they_are():
    graph = function(
        "%x: f32[3], %i: i64[3]", "f32[3], f32[3], i8[3]",
        """%a = convert %x {dtype=f16} : f16[3]
           %b = convert %a {dtype=f32} : f32[3]
           %c = convert %i {dtype=f64} : f64[3]
           %d = convert %c {dtype=f32} : f32[3]
           %e = convert %x {dtype=u32} : u32[3]
           %f = convert %e {dtype=i8} : i8[3]
           return %b, %d, %f""",
    )  # fmt: skip
    assert optimize(graph) is graph


# Strength -------------------------------------------------------------------------------------------

I = "%x: i32[3]"
CORNERS = {
    "f": [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 2.0**24, np.inf, -np.inf, np.nan, 1e-45, -1e-45, -1e-8, 3e38],
    "i": [0, 1, -1, 7, -7, 8, -8, 9, 100, -100, 2**31 - 1, -(2**31), 1 - 2**31],
    "u": [0, 1, 7, 8, 9, 127, 128, 129, 255],
    "V": [0.0, 1.0, -2.5, np.inf, np.nan],
}
STRENGTH = {
    "x / 8": (X, "f32[2,3]", "%z = divide %x, 8.0 : f32[2,3] return %z",
              "%z = multiply %x, 0.125 : f32[2,3] return %z"),
    "x / -0.5": (X, "f32[2,3]", "%z = divide %x, -0.5 : f32[2,3] return %z",
                 "%z = multiply %x, -2.0 : f32[2,3] return %z"),
    "x / 2, bfloat16": ("%x: bf16[3]", "bf16[3]", "%z = divide %x, 2.0:bf16 : bf16[3] return %z",
                        "%z = multiply %x, 0.5:bf16 : bf16[3] return %z"),
    "x / -1": (X, "f32[2,3]", "%z = divide %x, -1.0 : f32[2,3] return %z",
               "%z = multiply %x, -1.0 : f32[2,3] return %z"),
    "x / 2, stretched": (
        "%x: f64[3]", "f64[1,3]", "%z = divide %x, [2.0]:f64[1,1] : f64[1,3] return %z",
        "%v0 = multiply %x, 0.5:f64 : f64[3]"
        " %z = broadcast_in_dim %v0 {shape=[1, 3], dimensions=[1]} : f64[1,3] return %z",
    ),
    "x ** 0": (X, "f32[2,3]", "%z = power %x, 0.0 : f32[2,3] return %z",
               "%z = broadcast_in_dim 1.0 {shape=[2, 3], dimensions=[]} : f32[2,3] return %z"),
    "x ** 1": (X, "f32[2,3]", "%z = power %x, 1.0 : f32[2,3] return %z", "return %x"),
    "x % 1": (X, "f32[2,3]", "%z = remainder %x, 1.0 : f32[2,3] return %z",
              "%v0 = floor %x : f32[2,3] %z = subtract %x, %v0 : f32[2,3] return %z"),
    "x // 1": (X, "f32[2,3]", "%z = floor_divide %x, 1.0 : f32[2,3] return %z",
               "%z = floor %x : f32[2,3] return %z"),
    "n // 8": (I, "i32[3]", "%z = floor_quotient %x, 8:i32 : i32[3] return %z",
               "%z = shift_right_arithmetic %x, 3:i32 : i32[3] return %z"),
    "n // 128, unsigned": ("%x: u8[3]", "u8[3]", "%z = floor_quotient %x, 128:u8 : u8[3] return %z",
                           "%z = shift_right_arithmetic %x, 7:u8 : u8[3] return %z"),
    "n // 1": (I, "i32[3]", "%z = floor_quotient %x, 1:i32 : i32[3] return %z", "return %x"),
    "n // -1": (I, "i32[3]", "%z = floor_quotient %x, -1:i32 : i32[3] return %z",
                "%z = negate %x : i32[3] return %z"),
    "n // 0": (I, "i32[3]", "%z = floor_quotient %x, 0:i32 : i32[3] return %z",
               "%z = broadcast_in_dim 0:i32 {shape=[3], dimensions=[]} : i32[3] return %z"),
    "n % 8": (I, "i32[3]", "%z = floor_remainder %x, 8:i32 : i32[3] return %z",
              "%z = and %x, 7:i32 : i32[3] return %z"),
    "n % -1": (I, "i32[3]", "%z = floor_remainder %x, -1:i32 : i32[3] return %z",
               "%z = broadcast_in_dim 0:i32 {shape=[3], dimensions=[]} : i32[3] return %z"),
    "n ** 0": (I, "i32[3]", "%z = integer_power %x, 0:i32 : i32[3] return %z",
               "%z = broadcast_in_dim 1:i32 {shape=[3], dimensions=[]} : i32[3] return %z"),
    "n ** 6": (I, "i32[3]", "%z = integer_power %x, 6:i32 : i32[3] return %z",
               "%v0 = multiply %x, %x : i32[3] %v1 = multiply %v0, %v0 : i32[3]"
               " %z = multiply %v0, %v1 : i32[3] return %z"),
}  # fmt: skip


@pytest.mark.parametrize(("parameters", "results", "before", "after"), STRENGTH.values(), ids=STRENGTH)
def test_strength(parameters, results, before, after):
    graph = function(parameters, results, before)
    found = strength(graph)
    verify(found)
    assert found == function(parameters, results, after)
    assert strength(found) is found
    (x,) = graph.parameters
    for array in np.resize(CORNERS[x.dtype.kind], (7, *x.type.static_shape)):
        arguments = [array.astype(x.dtype)]
        expected, given_ = (interpret(each, arguments, reference)[0] for each in (graph, found))
        assert same_bits(expected, given_), f"of {array}"


# Folding --------------------------------------------------------------------------------------------

FOLDS = {
    "arithmetic": ("", "f32[]", "%a = add 0.1, 0.2 : f32[] %z = multiply %a, 2.0 : f32[] return %z",
                   "return 0.6"),
    "wraps": ("", "i8[]", "%z = add 127:i8, 1:i8 : i8[] return %z", "return -128:i8"),
    "division by zero": ("", "f32[]", "%z = divide 1.0, -0.0 : f32[] return %z", "return -inf"),
    "comparison": ("", "bool[]", "%z = compare nan, nan {direction=ne} : bool[] return %z", "return true"),
    "view": ("", "f32[2]", "%z = reshape [1.0, 2.0]:f32[1,2] {shape=[2]} : f32[2] return %z",
             "return [1.0, 2.0]:f32[2]"),
    "no growth": ("", "f32[9]", "%z = broadcast_in_dim 0.0 {shape=[9], dimensions=[]} : f32[9] return %z", None),
    "counting a little": ("", "i64[2]", "%z = iota {size=2, dtype=i64} : i64[2] return %z", "return [0, 1]:i64[2]"),
    "no counting far": ("", "i64[2000]", "%z = iota {size=2000, dtype=i64} : i64[2000] return %z", None),
    "not exact in NumPy": ("", "f32[]", "%z = exponential 1.0 : f32[] return %z", None),
    "a parameter": ("%x: f32[]", "f32[]", "%z = add %x, 1.0 : f32[] return %z", None),
    "fails when it runs": (
        "", "i64[1]", "%z = gather []:i64[0], [0]:i64[1] {axes=[0]} : i64[1] return %z", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("parameters", "results", "before", "after"), FOLDS.values(), ids=FOLDS)
def test_fold(parameters, results, before, after):
    graph = function(parameters, results, before)
    folded = fold(graph)
    if after is None:
        assert folded is graph
    else:
        assert folded == function(parameters, results, after)


def test_fold_as_the_caller_evaluates():
    graph = function("", "f32[]", "%z = exponential 0.0 : f32[] return %z")
    (result,) = fold(graph, evaluate_with_numpy).results
    assert result.array == 1
    assert optimize(graph, evaluate=evaluate_with_numpy) == fold(graph, evaluate_with_numpy)


def test_large_constants_are_not_folded():
    graph = Graph("f")
    large = Constant(np.zeros(2000, float32))
    graph.results = [Builder(graph).apply(negate, [large], {})]
    assert fold(graph) is graph


# Lookups --------------------------------------------------------------------------------------------

TABLE = "%x: f32[5,3], %i: i64[2], %u: f32[2,3]"
LOOKUPS = {
    "at equal distances": (
        "f32[2,3]", "%z = gather %x, [1, 3]:i64[2] {axes=[0]} : f32[2,3] return %z",
        "%z = slice %x {start=[1, 0], limit=[4, 3], strides=[2, 1]} : f32[2,3] return %z",
    ),
    "backward": (
        "f32[2,3]", "%z = gather %x, [3, 2]:i64[2] {axes=[0]} : f32[2,3] return %z",
        "%v0 = slice %x {start=[2, 0], limit=[4, 3], strides=[1, 1]} : f32[2,3]"
        " %z = reverse %v0 {dimensions=[0]} : f32[2,3] return %z",
    ),
    "along another axis": (
        "f32[2,5]", "%z = gather %x, [0, 1]:i64[2] {axes=[1]} : f32[2,5] return %z",
        "%v0 = slice %x {start=[0, 0], limit=[5, 2], strides=[1, 1]} : f32[5,2]"
        " %z = transpose %v0 {permutation=[1, 0]} : f32[2,5] return %z",
    ),
    "one, out of range": (
        "f32[3]", "%z = gather %x, 7 {axes=[0]} : f32[3] return %z",
        "%v0 = slice %x {start=[4, 0], limit=[5, 3], strides=[1, 1]} : f32[1,3]"
        " %z = reshape %v0 {shape=[3]} : f32[3] return %z",
    ),
    "everywhere": (
        "f32[5,3]", "%n = iota {size=5, dtype=i64} : i64[5] %z = gather %x, %n {axes=[0]} : f32[5,3] return %z",
        "return %x",
    ),
    "at other distances": ("f32[3,3]", "%z = gather %x, [0, 1, 3]:i64[3] {axes=[0]} : f32[3,3] return %z", None),
    "twice the same, clamped": ("f32[2,3]", "%z = gather %x, [4, 9]:i64[2] {axes=[0]} : f32[2,3] return %z", None),
    "in a lookup": (
        "f32[2,3]",
        "%a = gather %x, %i {axes=[0]} : f32[2,3] %z = gather %a, [1, 1]:i64[2] {axes=[0]} : f32[2,3] return %z",
        "%v0 = gather %i, [1, 1]:i64[2] {axes=[0]} : i64[2] %z = gather %x, %v0 {axes=[0]} : f32[2,3] return %z",
    ),
    "set": (
        "f32[5,3]", "%z = scatter %x, %u, [1, 3]:i64[2] {axes=[0], combine=set} : f32[5,3] return %z",
        "%z = update_slice %x, %u {start=[1, 0], strides=[2, 1]} : f32[5,3] return %z",
    ),
    "set backward": (
        "f32[5,3]", "%z = scatter %x, %u, [4, 3]:i64[2] {axes=[0], combine=set} : f32[5,3] return %z",
        "%v0 = reverse %u {dimensions=[0]} : f32[2,3]"
        " %z = update_slice %x, %v0 {start=[3, 0], strides=[1, 1]} : f32[5,3] return %z",
    ),
    "add to zeros": (
        "f32[5,3]",
        "%o = broadcast_in_dim 0.0 {shape=[5, 3], dimensions=[]} : f32[5,3]"
        " %z = scatter %o, %u, [0, 2]:i64[2] {axes=[0], combine=add} : f32[5,3] return %z",
        "%v0 = add %u, 0.0 : f32[2,3]"
        " %z = pad %v0, 0.0 {low=[0, 0], high=[2, 0], interior=[1, 0]} : f32[5,3] return %z",
    ),
    "add to negative zeros": (
        "f32[5,3]",
        "%o = broadcast_in_dim -0.0 {shape=[5, 3], dimensions=[]} : f32[5,3]"
        " %z = scatter %o, %u, [0, 2]:i64[2] {axes=[0], combine=add} : f32[5,3] return %z",
        None,
    ),
    "add twice to the same": (
        "f32[5,3]",
        "%o = broadcast_in_dim 0.0 {shape=[5, 3], dimensions=[]} : f32[5,3]"
        " %z = scatter %o, %u, [2, 2]:i64[2] {axes=[0], combine=add} : f32[5,3] return %z",
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("results", "before", "after"), LOOKUPS.values(), ids=LOOKUPS)
def test_lookup(results, before, after):
    graph = function(TABLE, results, before)
    found = lookup(graph)
    verify(found)
    if after is None:
        assert found is graph
        return
    assert dce(found) == function(TABLE, results, after)
    x = np.array([0.0, -0.0, np.nan, 1.0, np.inf] * 3, np.float32).reshape(5, 3)
    arguments = [x, np.array([4, 0]), -x[:2]]
    assert same_bits(interpret(found, arguments)[0], interpret(graph, arguments)[0])


# What is not exact ----------------------------------------------------------------------------------

RELAXED = {
    "x * 0": ("%z = multiply %x, 0.0 : f32[2,3] return %z",
              "%z = broadcast_in_dim 0.0 {shape=[2, 3], dimensions=[]} : f32[2,3] return %z"),
    "x + 0": ("%z = add %x, 0.0 : f32[2,3] return %z", "return %x"),
    "x - x": ("%z = subtract %x, %x : f32[2,3] return %z",
              "%z = broadcast_in_dim 0.0 {shape=[2, 3], dimensions=[]} : f32[2,3] return %z"),
    "x / x": ("%z = divide %x, %x : f32[2,3] return %z",
              "%z = broadcast_in_dim 1.0 {shape=[2, 3], dimensions=[]} : f32[2,3] return %z"),
    "x / 10": ("%z = divide %x, 10.0 : f32[2,3] return %z", "%z = multiply %x, 0.1 : f32[2,3] return %z"),
    "x / rows": (
        "%s = reduce_sum %y {axes=[1]} : f32[2] %r = reshape %s {shape=[2, 1]} : f32[2,1]"
        " %z = divide %x, %r : f32[2,3] return %z",
        "%s = reduce_sum %y {axes=[1]} : f32[2] %r = reshape %s {shape=[2, 1]} : f32[2,1]"
        " %v0 = divide 1.0, %r : f32[2,1] %z = multiply %x, %v0 : f32[2,3] return %z",
    ),
    "x / sqrt(y)": ("%s = sqrt %y : f32[2,3] %z = divide %x, %s : f32[2,3] return %z",
                    "%v0 = rsqrt %y : f32[2,3] %z = multiply %x, %v0 : f32[2,3] return %z"),
    "(x * 2) * 3": ("%a = multiply %x, 2.0 : f32[2,3] %z = multiply 3.0, %a : f32[2,3] return %z",
                    "%z = multiply %x, 6.0 : f32[2,3] return %z"),
    "(x + 2) - 3": ("%a = add %x, 2.0 : f32[2,3] %z = subtract %a, 3.0 : f32[2,3] return %z",
                    "%z = add %x, -1.0 : f32[2,3] return %z"),
    "x ** 3": ("%z = power %x, 3.0 : f32[2,3] return %z",
               "%v0 = multiply %x, %x : f32[2,3] %z = multiply %v0, %x : f32[2,3] return %z"),
    "x ** -1": ("%z = power %x, -1.0 : f32[2,3] return %z", "%z = divide 1.0, %x : f32[2,3] return %z"),
    "x ** 0.5": ("%z = power %x, 0.5 : f32[2,3] return %z", "%z = sqrt %x : f32[2,3] return %z"),
    "exp(log(x))": ("%a = log %x : f32[2,3] %z = exponential %a : f32[2,3] return %z", "return %x"),
    "sqrt(x * x)": ("%a = multiply %x, %x : f32[2,3] %z = sqrt %a : f32[2,3] return %z",
                    "%z = abs %x : f32[2,3] return %z"),
    "x / y": ("%z = divide %x, %y : f32[2,3] return %z", None),
    "x ** 2.5": ("%z = power %x, 2.5 : f32[2,3] return %z", None),
}  # fmt: skip
CONTRACTED = {
    "x * y + x": ("%a = multiply %x, %y : f32[2,3] %z = add %x, %a : f32[2,3] return %z",
                  "%z = fused_multiply_add %x, %y, %x : f32[2,3] return %z"),
    "x * y - 1": ("%a = multiply %x, %y : f32[2,3] %z = subtract %a, 1.0 : f32[2,3] return %z",
                  "%z = fused_multiply_add %x, %y, -1.0 : f32[2,3] return %z"),
    "x - y * 2": ("%a = multiply %y, 2.0 : f32[2,3] %z = subtract %x, %a : f32[2,3] return %z",
                  "%z = fused_multiply_add %y, -2.0, %x : f32[2,3] return %z"),
    "read elsewhere": (
        "%a = multiply %x, %y : f32[2,3] %b = add %a, %x : f32[2,3] %z = multiply %a, %b : f32[2,3] return %z", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [(relax, *row) for row in RELAXED.values()] + [(contract, *row) for row in CONTRACTED.values()],
    ids=[*RELAXED, *CONTRACTED],
)
def test_what_is_not_exact(step, before, after):
    graph = function(XY, "f32[2,3]", before)
    found = step(graph)
    for _ in range(2):
        found = step(found)
    verify(found)
    if after is None:
        assert found is graph
        return
    assert cse(dce(found)) == function(XY, "f32[2,3]", after)
    arguments = [
        np.array([[0.3, 1.5, 2.25], [0.1, 3, 7]], np.float32),
        np.array([[2, 0.7, 1], [5, 6, 0.5]], np.float32),
    ]
    results = [interpret(g, arguments)[0] for g in (graph, found)]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_rows_of_an_identity_matrix():
    graph = function(
        "%i: i64[4], %w: f32[3,2]", "f32[4,2]",
        """%a = reshape %i {shape=[4, 1]} : i64[4,1]
           %b = compare %a, [0, 1, 2]:i64[3] {direction=eq} : bool[4,3]
           %c = convert %b {dtype=f32} : f32[4,3]
           %d = dot %c, %w : f32[4,2]
           return %d""",
    )  # fmt: skip
    found = dce(relax(graph))
    assert "dot" not in {op.primitive.name for op in found.ops}
    arguments = [np.array([2, -1, 0, 3]), np.arange(6, dtype=np.float32).reshape(3, 2) + 1]
    assert same_bits(interpret(found, arguments)[0], interpret(graph, arguments)[0])


def test_the_default_is_exact():
    for before, after in (*RELAXED.values(), *CONTRACTED.values()):
        graph = function(XY, "f32[2,3]", before)
        names = {op.primitive.name for op in optimize(graph).ops}
        assert "fused_multiply_add" not in names
        if after is not None and " exponential" in before:
            assert names == {"log", "exponential"}


# Assembling -----------------------------------------------------------------------------------------

HALVES = """%b = slice %a {start=[0, 0], limit=[2, 2], strides=[1, 1]} : f32[2,2]
            %c = slice %a {start=[0, 2], limit=[2, 4], strides=[1, 1]} : f32[2,2]
"""
NARROWED = {
    "halves": (
        "%a = multiply %x, %y : f32[2,4]" + HALVES + "%d = add %b, %c : f32[2,2] return %d",
        """%v0 = slice %x {start=[0, 0], limit=[2, 2], strides=[1, 1]} : f32[2,2]
           %v1 = slice %y {start=[0, 0], limit=[1, 2], strides=[1, 1]} : f32[1,2]
           %b = multiply %v0, %v1 : f32[2,2]
           %v2 = slice %x {start=[0, 2], limit=[2, 4], strides=[1, 1]} : f32[2,2]
           %v3 = slice %y {start=[0, 2], limit=[1, 4], strides=[1, 1]} : f32[1,2]
           %c = multiply %v2, %v3 : f32[2,2]
           %d = add %b, %c : f32[2,2] return %d""",
    ),
    "read elsewhere": (
        "%a = negate %x : f32[2,4]" + HALVES + "%e = reduce_sum %a {axes=[1]} : f32[2]"
        "%f = reshape %e {shape=[2, 1]} : f32[2,1] %d = add %b, %c : f32[2,2] %g = add %d, %f : f32[2,2] return %g",
        None,
    ),
    "overlapping": (
        "%a = negate %x : f32[2,4]" + HALVES + """%e = slice %a {start=[0, 1], limit=[2, 3], strides=[1, 1]} : f32[2,2]
         %d = add %b, %c : f32[2,2] %g = add %d, %e : f32[2,2] return %g""",
        None,
    ),
    "part of a product": (
        "%t = dot %x, %w : f32[2,4] %a = add %t, %x : f32[2,4]" + HALVES + "%d = add %b, %c : f32[2,2] return %d",
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "after"), NARROWED.values(), ids=NARROWED)
def test_narrow(body, after):
    parameters = "%x: f32[2,4], %y: f32[1,4], %w: f32[4,4]"
    graph = function(parameters, "f32[2,2]", body)
    narrowed = narrow(graph)
    verify(narrowed)
    if after is None:
        assert narrowed is graph
        return
    assert dce(narrowed) == function(parameters, "f32[2,2]", after)
    arguments = [np.arange(1.0, 1 + p.type.size, dtype=np.float32).reshape(p.shape) for p in graph.parameters]
    for one, other in zip(interpret(graph, arguments), interpret(narrowed, arguments), strict=True):
        assert same_bits(one, other)


WINDOWS = "{strides=[2, 1], dilations=[1, 2], groups=1}"
CUT = {
    "a pad": (
        "%p = pad %x, 0.0 {low=[0, 0, 4, 3], high=[0, 0, 3, 2], interior=[0, 0, 0, 0]} : f32[1,2,11,9]"
        f"%c = convolution %p, %w {WINDOWS} : f32[1,3,5,5]"
        "%y = slice %c {start=[0, 0, 1, 1], limit=[1, 3, 4, 4], strides=[1, 1, 1, 1]} : f32[1,3,3,3] return %y",
        "%p = pad %x, 0.0 {low=[0, 0, 2, 2], high=[0, 0, 1, 1], interior=[0, 0, 0, 0]} : f32[1,2,7,7]"
        f"%y = convolution %p, %w {WINDOWS} : f32[1,3,3,3] return %y",
    ),
    "more than a pad": (
        "%p = pad %x, 0.0 {low=[0, 0, 1, 1], high=[0, 0, 0, 0], interior=[0, 0, 0, 0]} : f32[1,2,5,5]"
        f"%c = convolution %p, %w {WINDOWS} : f32[1,3,2,1]"
        "%y = slice %c {start=[0, 0, 1, 0], limit=[1, 3, 2, 1], strides=[1, 1, 1, 1]} : f32[1,3,1,1] return %y",
        "%p = pad %x, 0.0 {low=[0, 0, 1, 1], high=[0, 0, 0, 0], interior=[0, 0, 0, 0]} : f32[1,2,5,5]"
        "%s = slice %p {start=[0, 0, 2, 0], limit=[1, 2, 5, 5], strides=[1, 1, 1, 1]} : f32[1,2,3,5]"
        f"%y = convolution %s, %w {WINDOWS} : f32[1,3,1,1] return %y",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "after"), CUT.values(), ids=CUT)
def test_cut_convolution(body, after):
    parameters, shape = "%x: f32[1,2,4,4], %w: f32[3,2,3,3]", body.removesuffix(" return %y").split(" : ")[-1]
    graph = function(parameters, shape, body)
    cut = dce(narrow(graph))
    verify(cut)
    assert [(op.primitive.name, op.result.shape) for op in cut.ops] == [
        (op.primitive.name, op.result.shape) for op in function(parameters, shape, after).ops
    ]
    arguments = [np.arange(1.0, 1 + p.type.size, dtype=np.float32).reshape(p.shape) for p in graph.parameters]
    assert same_bits(interpret(graph, arguments)[0], interpret(cut, arguments)[0])


PADS = """%a = pad %x, 0.0 {low=[0, 1], high=[0, 4], interior=[0, 0]} : f32[2,8]
          %b = pad %y, 0.0 {low=[0, 5], high=[0, 0], interior=[0, 0]} : f32[2,8]
          %c = pad %x, 0.0 {low=[0, 3], high=[0, 2], interior=[0, 0]} : f32[2,8]
          %d = pad %x, -0.0 {low=[0, 0], high=[0, 5], interior=[0, 0]} : f32[2,8]
          %e = pad %x, 0.0 {low=[0, 1], high=[0, 4], interior=[0, 1]} : f32[2,10]
"""
ASSEMBLED = {
    "apart": (
        "%z = add %b, %a : f32[2,8] return %z",
        """%v0 = broadcast_in_dim 0.0 {shape=[2, 1], dimensions=[]} : f32[2,1]
           %v1 = add %x, 0.0 : f32[2,3]
           %v2 = broadcast_in_dim 0.0 {shape=[2, 1], dimensions=[]} : f32[2,1]
           %v3 = add %y, 0.0 : f32[2,3]
           %z = concatenate %v0, %v1, %v2, %v3 {dimension=1} : f32[2,8]
           return %z""",
    ),
    "beside what is assembled already": (
        """%o = broadcast_in_dim 0.0 {shape=[2, 4], dimensions=[]} : f32[2,4]
           %p = broadcast_in_dim 0.0 {shape=[2, 1], dimensions=[]} : f32[2,1]
           %q = concatenate %o, %x, %p {dimension=1} : f32[2,8]
           %z = add %q, %a : f32[2,8] return %z""",
        """%v0 = broadcast_in_dim 0.0 {shape=[2, 1], dimensions=[]} : f32[2,1]
           %v1 = add %x, 0.0 : f32[2,3]
           %v2 = add %x, 0.0 : f32[2,3]
           %v3 = broadcast_in_dim 0.0 {shape=[2, 1], dimensions=[]} : f32[2,1]
           %z = concatenate %v0, %v1, %v2, %v3 {dimension=1} : f32[2,8]
           return %z""",
    ),
    "in turns": (
        """%s = slice %x {start=[0, 1], limit=[2, 3], strides=[1, 1]} : f32[2,2]
           %p = pad %s, 0.0 {low=[0, 0], high=[0, 3], interior=[0, 3]} : f32[2,8]
           %q = pad %s, 0.0 {low=[0, 2], high=[0, 1], interior=[0, 3]} : f32[2,8]
           %z = add %q, %p : f32[2,8] return %z""",
        """%s = slice %x {start=[0, 1], limit=[2, 3], strides=[1, 1]} : f32[2,2]
           %v0 = add %s, 0.0 : f32[2,2]
           %v1 = reshape %v0 {shape=[2, 2, 1]} : f32[2,2,1]
           %v2 = broadcast_in_dim 0.0 {shape=[2, 2, 1], dimensions=[]} : f32[2,2,1]
           %v3 = add %s, 0.0 : f32[2,2]
           %v4 = reshape %v3 {shape=[2, 2, 1]} : f32[2,2,1]
           %v5 = broadcast_in_dim 0.0 {shape=[2, 2, 1], dimensions=[]} : f32[2,2,1]
           %v6 = concatenate %v1, %v2, %v4, %v5 {dimension=2} : f32[2,2,4]
           %z = reshape %v6 {shape=[2, 8]} : f32[2,8]
           return %z""",
    ),
    "in turns that are not all": (
        """%p = pad %y, 0.0 {low=[0, 0], high=[0, 3], interior=[0, 1]} : f32[2,8]
           %q = pad %x, 0.0 {low=[0, 1], high=[0, 2], interior=[0, 1]} : f32[2,8]
           %z = add %q, %p : f32[2,8] return %z""",
        None,
    ),
    "overlapping": ("%z = add %a, %c : f32[2,8] return %z", None),
    "negative zeros": ("%z = add %d, %b : f32[2,8] return %z", None),
    "twice the same": ("%z = add %a, %a : f32[2,8] return %z", None),
}


@pytest.mark.parametrize(("body", "after"), ASSEMBLED.values(), ids=ASSEMBLED)
def test_assemble(body, after):
    parameters = "%x: f32[2,3], %y: f32[2,3]"
    graph = function(parameters, "f32[2,8]", PADS + body)
    assembled = assemble(graph)
    verify(assembled)
    if after is None:
        assert assembled is graph
        return
    assert dce(assembled) == function(parameters, "f32[2,8]", after)
    numbers = np.array([[0.0, -0.0, np.inf], [np.nan, -np.inf, 1e-45]], np.float32)
    for arguments in ([numbers, -numbers], [-numbers, numbers]):
        before, now = interpret(graph, arguments), interpret(assembled, arguments)
        assert same_bits(now[0], before[0])


def test_assembling_takes_a_part_of_each_sum():
    """A sum that is read elsewhere stands by itself; one that only another sum reads becomes a part of it."""
    lines = [f"%p{i} = pad %x, 0 {{low=[{i}], high=[{3 - i}], interior=[0]}} : i64[4]" for i in range(4)]
    lines += ["%a = add %p2, %p0 : i64[4]", "%b = add %a, %p3 : i64[4]", "%c = add %b, %p1 : i64[4]"]
    graph = function("%x: i64[1]", "i64[4], i64[4]", "\n".join([*lines, "return %b, %c"]))
    assembled = dce(assemble(graph))
    assert [op.primitive.name for op in assembled.ops].count("concatenate") == 1
    assert [r.tolist() for r in interpret(assembled, [np.array([7])])] == [[7, 0, 7, 7], [7, 7, 7, 7]]


# Common subexpressions, dead code -------------------------------------------------------------------

EQUAL = {
    "operands": ("negate %x : f32[3]", "negate %x : f32[3]"),
    "the order of a commutative op": ("add %x, %y : f32[3]", "add %y, %x : f32[3]"),
    "the order of eq": ("compare %x, %y {direction=eq} : bool[3]", "compare %y, %x {direction=eq} : bool[3]"),
    "constants": ("add %x, 1.0 : f32[3]", "add %x, 1.0 : f32[3]"),
    "a flag that is not set": ("dot %m, %m : f32[2,2]", "dot %m, %m {transpose_lhs=false} : f32[2,2]"),
    "attributes": ("reduce_sum %m {axes=[0]} : f32[2]", "reduce_sum %m {axes=[0]} : f32[2]"),
    "nothing": ("iota {size=3, dtype=i64} : i64[3]", "iota {size=3, dtype=i64} : i64[3]"),
}
DIFFERENT = {
    "operands": ("negate %x : f32[3]", "negate %y : f32[3]"),
    "primitives": ("abs %x : f32[3]", "negate %x : f32[3]"),
    "order": ("subtract %x, %y : f32[3]", "subtract %y, %x : f32[3]"),
    "the order of lt": ("compare %x, %y {direction=lt} : bool[3]", "compare %y, %x {direction=lt} : bool[3]"),
    "attributes": ("reduce_sum %m {axes=[0]} : f32[2]", "reduce_sum %m {axes=[1]} : f32[2]"),
    "flags": ("dot %m, %m : f32[2,2]", "dot %m, %m {transpose_lhs} : f32[2,2]"),
    "signs of zeros": ("multiply %x, 0.0 : f32[3]", "multiply %x, -0.0 : f32[3]"),
    "dtypes of zeros": ("convert 0.0 {dtype=i32} : i32[]", "convert 0:i32 {dtype=i32} : i32[]"),
    "shapes": ("add %x, 1.0 : f32[3]", "add %x, [1.0]:f32[1] : f32[3]"),
}


def pair(first, second):
    types = [line.rpartition(": ")[2] for line in (first, second)]
    return function(
        "%x: f32[3], %y: f32[3], %m: f32[2,2]", ", ".join(types), f"%a = {first} %b = {second} return %a, %b"
    )


@pytest.mark.parametrize(("first", "second"), EQUAL.values(), ids=EQUAL)
def test_cse_merges(first, second):
    graph = cse(pair(first, second))
    verify(graph)
    assert len(graph.ops) == 1
    assert graph.results[0] is graph.results[1]


@pytest.mark.parametrize(("first", "second"), DIFFERENT.values(), ids=DIFFERENT)
def test_cse_keeps_apart(first, second):
    graph = pair(first, second)
    assert cse(graph) is graph


def test_cse_of_large_constants_is_by_identity():
    graph = Graph("f")
    builder = Builder(graph)
    shared = np.zeros(1 << 20, float32)
    graph.results = [builder.apply(negate, [Constant(array)], {}) for array in (shared, shared, shared.copy())]
    assert len(cse(graph).ops) == 2


def test_cse_and_names():
    graph = function("%x: f32[]", "f32[]", "%v0 = negate %x : f32[] %h = negate %x : f32[] return %h")
    assert cse(graph) == function("%x: f32[]", "f32[]", "%h = negate %x : f32[] return %h")


def test_dce():
    before = "%a = negate %x : f32[3] %b = add %a, 1.0 : f32[3] %c = negate %a : f32[3] return %c"
    after = "%a = negate %x : f32[3] %c = negate %a : f32[3] return %c"
    parameters = "%x: f32[3] = model.w, %unused: f32[3]"
    assert dce(function(parameters, "loss: f32[3]", before)) == function(parameters, "loss: f32[3]", after)


def test_dce_keeps_effects(effect):
    graph = function(
        "%p: bool[], %x: f32[3]", "",
        """effect %x : ()
           %y = case %p, %x : f32[3]
             (%a: f32[3]) { effect %a : ()  %dead = negate %a : f32[3]  return %a }
             (%a: f32[3]) { return %a }
           %z = case %p, %x : f32[3]
             (%a: f32[3]) { return %a }
             (%a: f32[3]) { return %a }
           return""",
    )  # fmt: skip
    cleaned = dce(graph)
    assert [op.primitive.name for op in cleaned.walk()] == ["effect", "case", "effect"]
    verify(cleaned)


# Rematerialisation ----------------------------------------------------------------------------------

GRADIENT = "# gradient of demo.py:1"
REMATERIALIZED = {
    "a chain from a product": (
        f"""%a = dot %x, %x : f32[256,256]
            %b = sine %a : f32[256,256]
            %c = exponential %b : f32[256,256]
            %d = dot %c, %x : f32[256,256]
            %e = multiply %d, %b : f32[256,256] {GRADIENT}
            %g = multiply %e, %c : f32[256,256] {GRADIENT}
            return %g""",
        f"""%a = dot %x, %x : f32[256,256]
            %b = sine %a : f32[256,256]
            %c = exponential %b : f32[256,256]
            %d = dot %c, %x : f32[256,256]
            %e = multiply %d, %b : f32[256,256] {GRADIENT}
            %v0 = exponential %b : f32[256,256]
            %g = multiply %e, %v0 : f32[256,256] {GRADIENT}
            return %g""",
    ),
    "from an argument": (
        f"""%a = sine %x : f32[256,256]
            %b = exponential %a : f32[256,256]
            %c = dot %b, %x : f32[256,256]
            %d = dot %c, %x : f32[256,256] {GRADIENT}
            %e = multiply %d, %b : f32[256,256] {GRADIENT}
            %g = multiply %e, %a : f32[256,256] {GRADIENT}
            return %g""",
        f"""%a = sine %x : f32[256,256]
            %b = exponential %a : f32[256,256]
            %c = dot %b, %x : f32[256,256]
            %d = dot %c, %x : f32[256,256] {GRADIENT}
            %v0 = sine %x : f32[256,256]
            %v1 = exponential %v0 : f32[256,256]
            %e = multiply %d, %v1 : f32[256,256] {GRADIENT}
            %g = multiply %e, %v0 : f32[256,256] {GRADIENT}
            return %g""",
    ),
    "products and sums are kept": (
        f"""%a = dot %x, %x : f32[256,256]
            %b = multiply %a, %a : f32[256,256] {GRADIENT}
            return %b""",
        None,
    ),
    "what is returned is there": (
        f"""%a = sine %x : f32[256,256]
            %b = multiply %a, %x : f32[256,256] {GRADIENT}
            return %a""",
        None,
    ),
    "what a checkpoint runs again": (
        f"""%s = dot %x, %x : f32[256,256] {GRADIENT}
            %r = optimization_barrier %x {{number=1}} : f32[256,256] {GRADIENT}
            %a = dot %r, %r : f32[256,256]
            %b = sine %a : f32[256,256]
            %c = exponential %b : f32[256,256]
            %d = dot %c, %r : f32[256,256]
            %e = multiply %d, %s : f32[256,256] {GRADIENT}
            %i = dot %e, %b : f32[256,256] {GRADIENT}
            %g = multiply %i, %c : f32[256,256] {GRADIENT}
            return %g""",
        f"""%s = dot %x, %x : f32[256,256] {GRADIENT}
            %r = optimization_barrier %x {{number=1}} : f32[256,256] {GRADIENT}
            %a = dot %r, %r : f32[256,256]
            %b = sine %a : f32[256,256]
            %c = exponential %b : f32[256,256]
            %d = dot %c, %r : f32[256,256]
            %e = multiply %d, %s : f32[256,256] {GRADIENT}
            %i = dot %e, %b : f32[256,256] {GRADIENT}
            %v0 = exponential %b : f32[256,256]
            %g = multiply %i, %v0 : f32[256,256] {GRADIENT}
            return %g""",
    ),
    "without a gradient": ("%a = sine %x : f32[256,256] %b = negate %a : f32[256,256] return %b", None),
}


@pytest.mark.parametrize(("before", "after"), REMATERIALIZED.values(), ids=REMATERIALIZED)
def test_rematerialize(before, after):
    graph = function("%x: f32[256,256]", "f32[256,256]", before)
    result = rematerialize(graph)
    verify(result)
    if after is None:
        assert result is graph
    else:
        assert result == function("%x: f32[256,256]", "f32[256,256]", after)
        assert rematerialize(result) is result


# Nested blocks --------------------------------------------------------------------------------------

NESTED = """
func @f(%p: bool[], %x: f32[3]) -> (f32[3], f32[3]) {
  %n = negate %x : f32[3]
  %y = case %p, %x, %n : f32[3]
    (%a: f32[3], %b: f32[3]) {
      %c = abs %a : f32[3]
      return %c
    }
    (%a: f32[3], %b: f32[3]) {
      %c = negate %a : f32[3]
      %dead = add %b, 1.0 : f32[3]
      %d = multiply %b, 1.0 : f32[3]
      %two = add 1.0, 1.0 : f32[]
      %e = negate %a : f32[3]
      %g = maximum %c, %d : f32[3]
      %h = multiply %g, %two : f32[3]
      %k = subtract %h, %e : f32[3]
      return %k
    }
  %m = abs %x : f32[3]
  %k = add %m, %n : f32[3]
  return %y, %k
}"""
NESTED_OPTIMIZED = """
func @f(%p: bool[], %x: f32[3]) -> (f32[3], f32[3]) {
  %n = negate %x : f32[3]
  %y = case %p, %x, %n : f32[3]
    (%a: f32[3], %b: f32[3]) {
      %c = abs %a : f32[3]
      return %c
    }
    (%a: f32[3], %b: f32[3]) {
      %c = negate %a : f32[3]
      %g = maximum %c, %b : f32[3]
      %h = multiply %g, 2.0 : f32[3]
      %k = add %h, %a : f32[3]
      return %k
    }
  %m = abs %x : f32[3]
  %k = subtract %m, %x : f32[3]
  return %y, %k
}"""


@pytest.mark.parametrize("step", [*PASSES, optimize])
def test_passes_go_into_nested_blocks(step):
    graph = parse(NESTED)
    after = step(graph)
    verify(after)
    assert graph == parse(NESTED)
    if step is optimize:
        assert after == parse(NESTED_OPTIMIZED)
    x = np.array([1, -2, 3], float32)
    for p in (True, False):
        arguments = [np.array(p), x]
        assert [a.tolist() for a in interpret(after, arguments)] == [a.tolist() for a in interpret(graph, arguments)]


# The pipeline ---------------------------------------------------------------------------------------

MESSY = """
func @f(%x: f32[3]) -> (f32[3]) {
  %two = add 1.0, 1.0 : f32[]
  %a = multiply %x, %two : f32[3]
  %b = multiply %x, 2.0 : f32[3]
  %c = subtract %a, %b : f32[3]
  return %c
}"""
TIDY = """
func @f(%x: f32[3]) -> (f32[3]) {
  %a = multiply %x, 2.0 : f32[3]
  %c = subtract %a, %a : f32[3]
  return %c
}"""


def test_optimize_reports_each_pass():
    seen = []
    result = optimize(parse(MESSY), observe=lambda name, graph, seconds: seen.append((name, len(graph.ops), seconds)))
    assert result == parse(TIDY)
    assert [(name, ops) for name, ops, _ in seen] == [
        ("absorb", 4), ("reroll", 4),
        ("simplify", 4), ("strength", 4), ("lookup", 4), ("narrow", 4), ("fold", 3), ("inline", 3),
        ("hoist", 3), ("cse", 2), ("dce", 2), ("assemble", 2), ("simplify", 2), ("strength", 2), ("lookup", 2),
        ("narrow", 2), ("fold", 2), ("inline", 2), ("hoist", 2), ("cse", 2),
        ("fission", 2), ("rematerialize", 2), ("depthwise", 2), ("dce", 2),
    ]  # fmt: skip
    assert all(seconds >= 0 for _, _, seconds in seen)


def test_the_number_of_passes_can_be_limited(monkeypatch):
    for limit, passes_run in (("0", []), ("2", ["absorb", "reroll"])):
        monkeypatch.setenv("TRACEJIT_PASSES_LIMIT", limit)
        seen = []
        graph = parse(MESSY)
        result = optimize(graph, observe=lambda name, graph, seconds, seen=seen: seen.append(name))
        assert seen == passes_run
        assert result is graph or limit != "0"


def test_a_limit_that_is_no_number_is_named(monkeypatch):
    for limit in ("two", "-1"):
        monkeypatch.setenv("TRACEJIT_PASSES_LIMIT", limit)
        with pytest.raises(ValueError, match=f"TRACEJIT_PASSES_LIMIT should be a number of passes, got '{limit}'"):
            optimize(parse(MESSY))


def test_a_pass_that_breaks_a_graph_is_named(monkeypatch):
    def break_it(graph):
        return Graph(graph.name, [], graph.ops, graph.results)

    monkeypatch.setattr(passes, "PASSES", [cse, break_it])
    optimize(parse(MESSY))
    monkeypatch.setenv("TRACEJIT_CHECK", "1")
    with pytest.raises(VerificationError, match="is not defined") as caught:
        optimize(parse(MESSY))
    assert "after the pass 'break_it'" in caught.value.__notes__[0]


@pytest.mark.parametrize("step", [*FIRST, *PASSES, *LAST, optimize])
def test_a_graph_with_nothing_to_do_is_returned(step):
    tidy = function("%x: f32[3]", "f32[3]", "%y = exponential %x : f32[3] %z = add %y, %x : f32[3] return %z")
    assert step(tidy) is tidy


def test_a_long_chain():
    graph = Graph("f")
    builder = Builder(graph)
    x = builder.parameter(TensorType(float32, (3,)), "x")
    value = x
    for number in np.random.default_rng(0).integers(0, 2, 3000):  # no loop
        value = builder.apply((add, subtract)[number], [builder.apply(negate, [value], {}), x], {})
    graph.results = [value]
    assert 3000 <= len(optimize(graph).ops) < 6000


# Random graphs --------------------------------------------------------------------------------------


STEPS = [*PASSES, partial(rematerialize, worth=0), optimize]


@pytest.mark.parametrize("step", STEPS)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_no_bit_changes(step, data):
    check_bits(data.draw(random_graphs()), step, data)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_bit_of_a_gradient_changes(data):
    """Of the gradient of a random graph, or the gradient of that."""
    graph = vjp(data.draw(random_graphs(max_ops=6)))
    if data.draw(st.booleans()) and len(graph.ops) < 20:
        graph = vjp(graph)
    check_bits(graph, data.draw(st.sampled_from(STEPS)), data)


def check_bits(graph, step, data):
    text = str(graph)
    after = step(graph)
    verify(after)
    assert str(graph) == text
    assert [parameter.type for parameter in after.parameters] == [parameter.type for parameter in graph.parameters]
    arguments = data.draw(random_arguments(graph))
    for expected, given_ in zip(
        interpret(graph, arguments, reference), interpret(after, arguments, reference), strict=True
    ):
        assert same_bits(expected, given_), f"{graph}\nbecame\n{after}\n{expected} became {given_} on {arguments}"


ABSORBED = """
func @f(%w: f32[3], %x: f32[3], %y: f32[3]) -> (f32[3], f32[3]) {
  %a = multiply %w, %x : f32[3]
  %b = add %a, START   : f32[3]
  %c, %d = scan %w, %b, %x {carries=2, constants=1, length=9} : f32[3], f32[3]
    (%i: i64[], %w: f32[3], %x: f32[3], %y: f32[3]) {
      %a = multiply %w, STEP : f32[3]
      %b = add %a, 1.0 : f32[3]
      return %b, %x
    }
  return %c, %d
}"""


@pytest.mark.parametrize(
    ("start", "step", "length"), [("1.0", "%x", 10), ("2.0", "%x", 9), ("1.0", "%y", 10), ("1.0", "%w", 9)]
)
def test_absorb_takes_steps_that_are_the_loops(start, step, length):
    graph = parse(ABSORBED.replace("START", start).replace("STEP", step))
    result = absorb(graph)
    assert f"length={length}" in str(result)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=3).astype(np.float32) for _ in range(3)]
    for found, expected in zip(interpret(result, arrays), interpret(graph, arrays), strict=True):
        assert found.tobytes() == expected.tobytes()
