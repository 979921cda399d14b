"""Programs that were wrong once, or easily could be: compiled in each way they give what eager code does."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.backends.poison import guarded_memory
from tests.ir.random_graphs import same_bits, varied_numbers
from tracejit.backends.cpu import compiler, contraction, early, runtime, threads
from tracejit.backends.cpu.target import host_target
from tracejit.backends.planning import plan
from tracejit.backends.program import DotCall
from tracejit.ir import PRIMITIVES, Builder, Graph, TensorType, Value
from tracejit.ir.interpreter import interpret
from tracejit.ir.parser import parse
from tracejit.ir.passes import optimize
from tracejit.ir.types import bool_, float16, float32, int8, int64, uint64

pytestmark = pytest.mark.usefixtures("first_code_only")

PROGRAMS = {
    "one element of a row": """(%x: f32[4,5]) -> (f32[4,1], f32[1,5]) {
        %a = slice %x {start=[0, 2], limit=[4, 3], strides=[1, 1]} : f32[4,1]
        %b = slice %x {start=[3, 0], limit=[4, 5], strides=[1, 1]} : f32[1,5]
        %c = add %a, %a : f32[4,1]
        return %c, %b
    }""",
    "a view of one element": """(%x: f32[4,5]) -> (f32[5]) {
        %a = slice %x {start=[2, 0], limit=[3, 5], strides=[1, 1]} : f32[1,5]
        %b = reverse %a {dimensions=[0, 1]} : f32[1,5]
        %c = reshape %b {shape=[5]} : f32[5]
        %d = negate %c : f32[5]
        return %d
    }""",
    "elements of views": """(%x: f32[4,5], %i: i64[3]) -> (f32[3,4], f32[3,2], f32[3,4], f32[3,20]) {
        %t = transpose %x {permutation=[1, 0]} : f32[5,4]
        %a = gather %t, %i {axes=[0]} : f32[3,4]
        %s = slice %x {start=[1, 1], limit=[4, 5], strides=[1, 2]} : f32[3,2]
        %b = gather %s, %i {axes=[0]} : f32[3,2]
        %r = reverse %t {dimensions=[0]} : f32[5,4]
        %c = gather %r, %i {axes=[0]} : f32[3,4]
        %w = broadcast_in_dim %x {shape=[6, 4, 5], dimensions=[1, 2]} : f32[6,4,5]
        %v = reshape %w {shape=[6, 20]} : f32[6,20]
        %d = gather %v, %i {axes=[0]} : f32[3,20]
        return %a, %b, %c, %d
    }""",
    "elements of elements": """(%x: f32[4,5], %i: i64[3]) -> (f32[3]) {
        %a = gather %x, %i {axes=[0]} : f32[3,5]
        %b = gather %a, %i {axes=[1]} : f32[3,3]
        %c = gather %b, %i, %i {axes=[0, 1]} : f32[3]
        return %c
    }""",
    "what follows from a sum of nothing": """(%x: f32[3,0]) -> (f32[3], f32[], f32[3,0]) {
        %s = reduce_sum %x {axes=[1]} : f32[3]
        %a = add %s, 1.0 : f32[3]
        %b = reduce_sum %a {axes=[0]} : f32[]
        %c = multiply %b, 2.0 : f32[]
        %d = add %x, %x : f32[3,0]
        return %a, %c, %d
    }""",
    "several updates of one place": """(%x: f32[4,5], %u: f32[3,5]) -> (f32[4,5], f32[4,5]) {
        %i = broadcast_in_dim 2 {shape=[3], dimensions=[]} : i64[3]
        %a = scatter %x, %u, %i {axes=[0], combine=add} : f32[4,5]
        %b = scatter %x, %u, %i {axes=[0], combine=set} : f32[4,5]
        return %a, %b
    }""",
    "several updates of a scalar's place": """(%x: f32[1], %u: f32[17]) -> (f32[1], f32[1]) {
        %i = broadcast_in_dim 0 {shape=[17], dimensions=[]} : i64[17]
        %a = scatter %x, %u, %i {axes=[0], combine=add} : f32[1]
        %b = scatter %x, %u, %i {axes=[0], combine=set} : f32[1]
        return %a, %b
    }""",
    "few long sums of single channels": """(%x: f32[1,6,20,41], %g: f32[2,3,18,20], %y: f64[1,1,300],
            %h: f64[1,1,290])
                                                -> (f32[1,3,3,2], f32[1,3,3,2], f64[1,1,11]) {
        %t = transpose %g {permutation=[1, 0, 2, 3]} : f32[3,2,18,20]
        %a = convolution %x, %t {strides=[1, 1], dilations=[1, 2], groups=3} : f32[1,3,3,3]
        %b = slice %a {start=[0, 0, 0, 0], limit=[1, 3, 3, 2], strides=[1, 1, 1, 1]} : f32[1,3,3,2]
        %n = negate %b : f32[1,3,3,2]
        %c = convolution %y, %h {strides=[1], dilations=[1], groups=1} : f64[1,1,11]
        return %b, %n, %c
    }""",
    "every second element, read and written": """(%x: f32[3,70], %p: bool[3,41], %h: f16[67])
                                                  -> (f32[3,35], f32[3,35,2], bool[3,20], f64[33], f64[67]) {
        %a = slice %x {start=[0, 0], limit=[3, 69], strides=[1, 2]} : f32[3,35]
        %b = slice %x {start=[0, 1], limit=[3, 70], strides=[1, 2]} : f32[3,35]
        %c = subtract %b, %a : f32[3,35]
        %u = reshape %c {shape=[3, 35, 1]} : f32[3,35,1]
        %d = negate %b : f32[3,35]
        %v = reshape %d {shape=[3, 35, 1]} : f32[3,35,1]
        %s = concatenate %u, %v {dimension=2} : f32[3,35,2]
        %q = slice %p {start=[0, 1], limit=[3, 40], strides=[1, 2]} : bool[3,20]
        %n = not %q : bool[3,20]
        %k = slice %h {start=[1], limit=[67], strides=[2]} : f16[33]
        %w = convert %k {dtype=f64} : f64[33]
        %o = convert 0.5 {dtype=f64} : f64[]
        %z = pad %w, %o {low=[1], high=[1], interior=[1]} : f64[67]
        return %c, %s, %n, %w, %z
    }""",
    "the largest of bools": """(%p: bool[3,5], %q: bool[3,5]) -> (bool[5], bool[3], bool[5]) {
        %a = maximum %p, %q : bool[3,5]
        %b = reduce_max %a {axes=[0]} : bool[5]
        %c = reduce_max %a {axes=[1]} : bool[3]
        %d = minimum %p, %q : bool[3,5]
        %e = reduce_min %d {axes=[0]} : bool[5]
        return %b, %c, %e
    }""",
    "halves and the signs of their zeros": """(%x: f16[2], %y: f16[2]) -> (f16[2], f16[2], f16[], f16[]) {
        %a = maximum %x, %y : f16[2]
        %b = maximum %y, %x : f16[2]
        %c = reduce_max %x {axes=[0]} : f16[]
        %d = reduce_sum %x {axes=[0]} : f16[]
        return %a, %b, %c, %d
    }""",
    "few long rows over axes that are no neighbours": """(%x: f32[260,2,260]) -> (f32[2], f32[2]) {
        %a = reduce_sum %x {axes=[0, 2]} : f32[2]
        %y = multiply %x, %x : f32[260,2,260]
        %b = reduce_sum %y {axes=[0, 2]} : f32[2]
        return %a, %b
    }""",
    "operands that lie across the result": """(%x: f32[37,50], %y: f64[37,50], %p: bool[37,50], %b: i8[37,50],
                                              %r: f32[50,1]) -> (f32[50,37], f64[50,37], bool[50,37], f32[40,33]) {
        %t = transpose %x {permutation=[1, 0]} : f32[50,37]
        %u = add %t, %r : f32[50,37]
        %v = transpose %y {permutation=[1, 0]} : f64[50,37]
        %c = transpose %b {permutation=[1, 0]} : i8[50,37]
        %d = convert %c {dtype=f64} : f64[50,37]
        %w = add %v, %d : f64[50,37]
        %q = transpose %p {permutation=[1, 0]} : bool[50,37]
        %n = not %q : bool[50,37]
        %s = slice %t {start=[3, 1], limit=[43, 34], strides=[1, 1]} : f32[40,33]
        %m = multiply %s, %s : f32[40,33]
        return %u, %w, %n, %m
    }""",
    "convolutions of views and of integers": """(%x: f32[9,4,2,8], %w: f32[6,2,3,2], %i: i32[2,3,9],
            %j: i32[4,3,2]) -> (f32[2,6,7,3], f32[2,6,2,7], i32[2,4,4], f32[2,6,9,3]) {
        %v = transpose %x {permutation=[2, 1, 0, 3]} : f32[2,4,9,8]
        %r = reverse %v {dimensions=[2]} : f32[2,4,9,8]
        %u = reverse %w {dimensions=[3]} : f32[6,2,3,2]
        %a = convolution %r, %u {strides=[1, 2], dilations=[1, 3], groups=2} : f32[2,6,7,3]
        %t = transpose %x {permutation=[2, 1, 0, 3]} : f32[2,4,9,8]
        %s = slice %t {start=[0, 0, 0, 0], limit=[2, 4, 9, 8], strides=[1, 1, 2, 1]} : f32[2,4,5,8]
        %p = convolution %s, %u {strides=[2, 1], dilations=[1, 1], groups=2} : f32[2,6,2,7]
        %c = convolution %i, %j {strides=[2], dilations=[1], groups=1} : i32[2,4,4]
        %z = pad %a, 0.5 {low=[0, 0, 1, 0], high=[0, 0, 1, 0], interior=[0, 0, 0, 0]} : f32[2,6,9,3]
        return %a, %p, %c, %z
    }""",
    "exponentials and quotients kept for the next pass over a row": """(%x: f32[3,70], %g: f32[3,70]) -> (f32[3,70]) {
        %m = reduce_max %x {axes=[1]} : f32[3]
        %n = broadcast_in_dim %m {shape=[3, 70], dimensions=[0]} : f32[3,70]
        %d = subtract %x, %n : f32[3,70]
        %e = exponential %d : f32[3,70]
        %s = reduce_sum %e {axes=[1]} : f32[3]
        %t = broadcast_in_dim %s {shape=[3, 70], dimensions=[0]} : f32[3,70]
        %q = divide %e, %t : f32[3,70]
        %p = multiply %q, %g : f32[3,70]
        %o = reduce_sum %p {axes=[1]} : f32[3]
        %r = broadcast_in_dim %o {shape=[3, 70], dimensions=[0]} : f32[3,70]
        %u = subtract %g, %r : f32[3,70]
        %v = multiply %q, %u : f32[3,70]
        return %v
    }""",
    "exponentials kept for the last pass over a row": """(%x: f32[3,70], %y: f32[3,4500]) -> (f32[3,70], f32[3,4500]) {
        %m = reduce_max %x {axes=[1]} : f32[3]
        %n = broadcast_in_dim %m {shape=[3, 70], dimensions=[0]} : f32[3,70]
        %d = subtract %x, %n : f32[3,70]
        %e = exponential %d : f32[3,70]
        %s = reduce_sum %e {axes=[1]} : f32[3]
        %t = broadcast_in_dim %s {shape=[3, 70], dimensions=[0]} : f32[3,70]
        %q = divide %e, %t : f32[3,70]
        %a = exponential %y : f32[3,4500]
        %b = reduce_sum %a {axes=[1]} : f32[3]
        %c = broadcast_in_dim %b {shape=[3, 4500], dimensions=[0]} : f32[3,4500]
        %r = divide %a, %c : f32[3,4500]
        return %q, %r
    }""",
    "operands that lie across three axes": """(%x: f32[18,3,21], %y: f32[2,33,3,20]) -> (f32[21,3,18], f32[3,20,2,33]) {
        %t = transpose %x {permutation=[2, 1, 0]} : f32[21,3,18]
        %a = add %t, %t : f32[21,3,18]
        %u = transpose %y {permutation=[2, 3, 0, 1]} : f32[3,20,2,33]
        %b = negate %u : f32[3,20,2,33]
        return %a, %b
    }""",
    "parts that are written to their place": """(%x: f32[3,4], %y: f32[2,4], %w: f32[4,5])
                                                 -> (f32[9,4], f32[3,5], f32[12], f32[5,7]) {
        %a = negate %x : f32[3,4]
        %b = add %y, %y : f32[2,4]
        %c = concatenate %a, %b {dimension=0} : f32[5,4]
        %d = exponential %x : f32[3,4]
        %f = concatenate %c, %d, %x {dimension=0} : f32[11,4]
        %g = slice %f {start=[1, 0], limit=[10, 4], strides=[1, 1]} : f32[9,4]
        %p = dot %a, %w : f32[3,5]
        %h = sqrt %x : f32[3,4]
        %r = reshape %h {shape=[12]} : f32[12]
        %u = pad %c, 7.0 {low=[0, 2], high=[0, 1], interior=[0, 0]} : f32[5,7]
        return %g, %p, %r, %u
    }""",
    "parts side by side, turned and stretched": """(%x: f32[3,4], %s: f32[], %t: f32[])
                                                    -> (f32[3,4,2], f32[4,6], f32[2], f32[6,8], f32[2,4]) {
        %a = negate %x : f32[3,4]
        %b = add %x, 1.0 : f32[3,4]
        %c = reshape %a {shape=[3, 4, 1]} : f32[3,4,1]
        %d = reshape %b {shape=[3, 4, 1]} : f32[3,4,1]
        %f = concatenate %c, %d {dimension=2} : f32[3,4,2]
        %g = multiply %x, %x : f32[3,4]
        %h = transpose %g {permutation=[1, 0]} : f32[4,3]
        %i = concatenate %h, %h {dimension=1} : f32[4,6]
        %j = sqrt %s : f32[]
        %k = negate %t : f32[]
        %l = reshape %j {shape=[1]} : f32[1]
        %m = reshape %k {shape=[1]} : f32[1]
        %n = concatenate %l, %m {dimension=0} : f32[2]
        %o = abs %x : f32[3,4]
        %q = transpose %o {permutation=[1, 0]} : f32[4,3]
        %u = pad %q, %s {low=[1, 2], high=[1, 3], interior=[0, 0]} : f32[6,8]
        %v = exponential %x : f32[3,4]
        %y = slice %v {start=[0, 0], limit=[1, 4], strides=[1, 1]} : f32[1,4]
        %z = pad %y, 0.0 {low=[1, 0], high=[0, 0], interior=[0, 0]} : f32[2,4]
        return %f, %i, %n, %u, %z
    }""",
    "updates of a region": """(%x: f32[6,5,7], %y: f32[4,3,5], %z: f32[2,5,7])
                               -> (f32[6,5,7], f32[6,5,7], f32[6,5,7], f32[6,5,7]) {
        %u = negate %y : f32[4,3,5]
        %a = update_slice %x, %u {start=[1, 1, 1], strides=[1, 1, 1]} : f32[6,5,7]
        %b = add %x, 1.0 : f32[6,5,7]
        %v = multiply %y, %y : f32[4,3,5]
        %c = update_slice %b, %v {start=[0, 2, 2], strides=[1, 1, 1]} : f32[6,5,7]
        %w = sqrt %z : f32[2,5,7]
        %d = update_slice %x, %w {start=[4, 0, 0], strides=[1, 1, 1]} : f32[6,5,7]
        %t = exponential %z : f32[2,5,7]
        %f = update_slice %x, %t {start=[1, 0, 0], strides=[3, 1, 1]} : f32[6,5,7]
        return %a, %c, %d, %f
    }""",
    "products that add": """(%x: f32[3,5,4], %y: f32[3,4,6], %b: f32[6], %c: f32[3,5,6], %d: f32[3,5,1])
                           -> (f32[3,5,6], f32[3,5,6], f32[3,5,6], f32[3,5,6], f32[3,5,6]) {
        %p = dot %x, %y : f32[3,5,6]
        %r = add %p, %b : f32[3,5,6]
        %q = dot %x, %y : f32[3,5,6]
        %s = add %c, %q : f32[3,5,6]
        %t = dot %x, %y : f32[3,5,6]
        %u = add %t, %d : f32[3,5,6]
        %v = dot %x, %y : f32[3,5,6]
        %w = add %v, 2.0 : f32[3,5,6]
        %a = dot %x, %y : f32[3,5,6]
        %e = negate %c : f32[3,5,6]
        %f = add %a, %e : f32[3,5,6]
        return %r, %s, %u, %w, %f
    }""",
    "products summed in one place": """(%x: f32[4,3], %y: f32[4,20], %z: f32[300,3], %w: f32[300,20])
                                      -> (f32[3,20], f32[3,20], f32[20]) {
        %a = dot %x, %y {transpose_lhs} : f32[3,20]
        %b = dot %x, %y {transpose_lhs} : f32[3,20]
        %s = add %a, %b : f32[3,20]
        %c = dot %x, %y {transpose_lhs} : f32[3,20]
        %t = add %s, %c : f32[3,20]
        %d = dot %z, %w {transpose_lhs} : f32[3,20]
        %u = add %t, %d : f32[3,20]
        %e = dot %x, %y {transpose_lhs} : f32[3,20]
        %f = dot %x, %y {transpose_lhs} : f32[3,20]
        %v = add %e, %f : f32[3,20]
        %r = reduce_sum %v {axes=[0]} : f32[20]
        return %u, %v, %r
    }""",
    "products of stacks, into their part of a whole": """(%x: f32[2,7,3,4,5], %y: f32[2,7,3,4,5])
                                                        -> (f32[2,4,7,7], f32[2,7,3,4,5], f32[2,4,9,7], f32[4,210],
                                                            f32[14,28]) {
        %q = transpose %x {permutation=[2, 0, 3, 1, 4]} : f32[3,2,4,7,5]
        %a = slice %q {start=[0, 0, 0, 0, 0], limit=[1, 2, 4, 7, 5], strides=[1, 1, 1, 1, 1]} : f32[1,2,4,7,5]
        %b = reshape %a {shape=[2, 4, 7, 5]} : f32[2,4,7,5]
        %c = slice %q {start=[1, 0, 0, 0, 0], limit=[2, 2, 4, 7, 5], strides=[1, 1, 1, 1, 1]} : f32[1,2,4,7,5]
        %d = reshape %c {shape=[2, 4, 7, 5]} : f32[2,4,7,5]
        %s = dot %b, %d {transpose_rhs} : f32[2,4,7,7]
        %e = dot %s, %d : f32[2,4,7,5]
        %f = dot %s, %b {transpose_lhs} : f32[2,4,7,5]
        %g = dot %s, %b : f32[2,4,7,5]
        %h = reshape %e {shape=[1, 2, 4, 7, 5]} : f32[1,2,4,7,5]
        %i = reshape %f {shape=[1, 2, 4, 7, 5]} : f32[1,2,4,7,5]
        %j = reshape %g {shape=[1, 2, 4, 7, 5]} : f32[1,2,4,7,5]
        %k = concatenate %h, %i, %j {dimension=0} : f32[3,2,4,7,5]
        %l = transpose %k {permutation=[1, 3, 0, 2, 4]} : f32[2,7,3,4,5]
        %m = add %l, %y : f32[2,7,3,4,5]
        %y2 = negate %y : f32[2,7,3,4,5]
        %t = transpose %y2 {permutation=[3, 0, 2, 1, 4]} : f32[4,2,3,7,5]
        %u = reshape %t {shape=[4, 210]} : f32[4,210]
        %z = dot %b, %d {transpose_rhs} : f32[2,4,7,7]
        %v = transpose %z {permutation=[0, 2, 1, 3]} : f32[2,7,4,7]
        %w = reshape %v {shape=[14, 28]} : f32[14,28]
        %n = dot %b, %d {transpose_rhs} : f32[2,4,7,7]
        %o = pad %n, 0.0 {low=[0, 0, 1, 0], high=[0, 0, 1, 0], interior=[0, 0, 0, 0]} : f32[2,4,9,7]
        return %s, %m, %o, %u, %w
    }""",
    "a matrix that many products read by columns": """(%x: f32[3,40], %w: f32[20,40])
                                                      -> (f32[3,20], f32[3,20], f32[3,20], f32[3,20], f32[3,20]) {
        %a = dot %x, %w {transpose_rhs} : f32[3,20]
        %x1 = negate %x : f32[3,40]
        %b = dot %x1, %w {transpose_rhs} : f32[3,20]
        %x2 = add %x, %x : f32[3,40]
        %c = dot %x2, %w {transpose_rhs} : f32[3,20]
        %x3 = multiply %x, %x : f32[3,40]
        %d = dot %x3, %w {transpose_rhs} : f32[3,20]
        %x4 = abs %x : f32[3,40]
        %e = dot %x4, %w {transpose_rhs} : f32[3,20]
        return %a, %b, %c, %d, %e
    }""",
    "a matrix that products read by columns in loops": """(%x: f32[2,3,40], %w: f32[40,40])
                                                          -> (f32[3,40], f32[2,3,40]) {
        %z = broadcast_in_dim 0.0 {shape=[3, 40], dimensions=[]} : f32[3,40]
        %v = negate %w : f32[40,40]
        %r, %s = scan %w, %v, %z, %x {carries=1, constants=2, length=2} : f32[3,40], f32[2,3,40]
          (%i: i64[], %w: f32[40,40], %v: f32[40,40], %c: f32[3,40], %x: f32[3,40]) {
            %a = dot %c, %w {transpose_rhs} : f32[3,40]
            %b = add %a, %x : f32[3,40]
            %k = scan %w, %v, %b {carries=1, constants=2, length=5} : f32[3,40]
              (%j: i64[], %w: f32[40,40], %v: f32[40,40], %d: f32[3,40]) {
                %e = dot %d, %v {transpose_rhs} : f32[3,40]
                %f = dot %e, %w {transpose_rhs} : f32[3,40]
                return %f
              }
            return %b, %k
          }
        return %r, %s
    }""",
    "parts of what lies elsewhere": """(%x: f32[6,3,4], %y: f32[2,4])
                                       -> (f32[4], f32[4,3,4], f32[3,4], f32[2,4], f32[3,4]) {
        %n = negate %x : f32[6,3,4]
        %a = slice %n {start=[1, 0, 0], limit=[5, 3, 4], strides=[1, 1, 1]} : f32[4,3,4]
        %b = slice %x {start=[2, 0, 0], limit=[6, 3, 4], strides=[1, 1, 1]} : f32[4,3,4]
        %c = slice %x {start=[4, 2, 0], limit=[5, 3, 4], strides=[1, 1, 1]} : f32[1,1,4]
        %d = reshape %c {shape=[4]} : f32[4]
        %r, %s = scan %d, %d, %a, %b {carries=1, constants=1, length=4} : f32[4], f32[4,3,4]
          (%i: i64[], %k: f32[4], %t: f32[4], %a: f32[3,4], %b: f32[3,4]) {
            %u = add %a, %b : f32[3,4]
            %v = multiply %u, %k : f32[3,4]
            %w = slice %v {start=[1, 0], limit=[2, 4], strides=[1, 1]} : f32[1,4]
            %z = reshape %w {shape=[4]} : f32[4]
            %m = scan %z, %t {carries=1, constants=1, length=2} : f32[4]
              (%j: i64[], %z: f32[4], %t: f32[4]) { %o = subtract %t, %z : f32[4]  return %o }
            return %m, %v
          }
        %e = slice %n {start=[3, 0, 0], limit=[4, 3, 4], strides=[1, 1, 1]} : f32[1,3,4]
        %f = reshape %e {shape=[3, 4]} : f32[3,4]
        %g = sort %f {axis=1, descending=false} : f32[3,4]
        %h = add %y, 1.0 : f32[2,4]
        %p = concatenate %y, %h {dimension=0} : f32[4,4]
        %q = slice %p {start=[1, 0], limit=[4, 4], strides=[1, 1]} : f32[3,4]
        %l = sort %q {axis=1, descending=false} : f32[3,4]
        return %r, %s, %g, %h, %l
    }""",
    "an integer product that wraps": """(%x: i8[3,40], %y: i8[40,2]) -> (i8[3,2]) {
        %a = dot %x, %y : i8[3,2]
        return %a
    }""",
}


def eager(primitive: Any, arrays: Sequence[np.ndarray], attributes: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return runtime.evaluate(primitive, arrays, attributes)


def run(graph: Graph, arguments: Sequence[np.ndarray], **options: Any) -> list[np.ndarray]:
    return runtime.Executable(plan(graph, **options))(arguments)


def argument(type: TensorType, seed: int) -> np.ndarray:
    if type.dtype == int64:  # positions
        return np.arange(type.size)[::-1].reshape(type.static_shape) % 3
    if type.dtype == float16:
        return np.resize(np.array([-0.0, 0.0], float16), type.static_shape)[:: 1 if seed else -1]
    return varied_numbers(seed, type.static_shape, type.dtype)


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_program(text: str) -> None:
    graph = parse(f"func @f{text}")
    arguments = [argument(parameter.type, seed) for seed, parameter in enumerate(graph.parameters)]
    expected = interpret(graph, arguments, eager)
    for compiled, options in ((graph, {}), (optimize(graph), {}), (graph, {"specialize": False})):
        with guarded_memory():
            results = run(compiled, arguments, **options)
        for result, wanted in zip(results, expected, strict=True):
            assert same_bits(result, wanted), compiled


@pytest.mark.parametrize("level", [compiler.FAST, compiler.FULL], ids=["fast", "full"])
@pytest.mark.parametrize("name", ["the largest of bools", "several updates of one place"])
def test_llvm_takes_it(name: str, level: int) -> None:
    """At each level of optimisation: where LLVM does not, it ends the process."""
    kernels = plan(parse(f"func @f{PROGRAMS[name]}")).kernels
    assert compiler.emit_object(compiler.module_text(kernels), level)


@pytest.mark.parametrize(
    ("dtype", "positions", "expected"),
    [
        (int64, [0, -1, -(2**63), 199, 200, 2**63 - 1], [0, 0, 0, 199, 199, 199]),
        (uint64, [0, 199, 200, 2**63, 2**64 - 1], [0, 199, 199, 199, 199]),
        (int8, [0, 127, -128], [0, 127, 0]),
    ],
)
def test_positions_are_clamped(dtype: Any, positions: list[int], expected: list[int]) -> None:
    graph = Graph("f")
    builder = Builder(graph)
    x = builder.parameter(TensorType(float32, (200,)))
    i = builder.parameter(TensorType(dtype, (len(positions),)))
    graph.results = [builder.apply(PRIMITIVES["gather"], [x, i], {"axes": (0,)})]
    arguments = [np.arange(200, dtype=float32), np.array(positions, dtype)]
    assert run(graph, arguments)[0].tolist() == expected
    assert interpret(graph, arguments, eager)[0].tolist() == expected


def at_depth(depth: int, function: Callable[[], Any]) -> Any:
    return function() if depth == 0 else at_depth(depth - 1, function)


def _multiply_add(builder: Builder, value: Value) -> Value:
    return builder.apply(PRIMITIVES["add"], [builder.apply(PRIMITIVES["multiply"], [value, value], {}), value], {})


def _turn(builder: Builder, value: Value) -> Value:
    turned = builder.apply(PRIMITIVES["transpose"], [value], {"permutation": (1, 0)})
    return builder.apply(PRIMITIVES["reverse"], [turned], {"dimensions": (0,)})


@pytest.mark.parametrize("step", [_multiply_add, _turn])
def test_long_chains_need_little_stack(step: Callable[[Builder, Value], Value]) -> None:
    graph = Graph("f")
    builder = Builder(graph)
    value = x = builder.parameter(TensorType(float32, (3, 3)))
    for _ in range(1000):
        value = step(builder, value)
    graph.results = [builder.apply(PRIMITIVES["add"], [value, x], {})]
    argument = varied_numbers(1, (3, 3), float32) / 10
    (result,) = at_depth(400, lambda: run(graph, [argument]))
    assert same_bits(result, interpret(graph, [argument], eager)[0])


def test_a_constant_result_keeps_its_shape() -> None:
    graph = parse("func @f() -> (f32[], bool[1], i64[0]) { return 3.0, [true]:bool[1], []:i64[0] }")
    assert [(r.dtype, r.shape) for r in run(graph, [])] == [(float32, ()), (bool_, (1,)), (int64, (0,))]


def test_what_is_kept_is_computed_once() -> None:
    program = plan(parse(f"func @f{PROGRAMS['exponentials kept for the last pass over a row']}"))
    assert [text.count("fma") for text in (kernel.text for kernel in program.kernels)] == [9, 9]
    again = plan(parse(f"func @f{PROGRAMS['exponentials kept for the last pass over a row']}"), host=False)
    assert [text.count("fma") for text in (kernel.text for kernel in again.kernels)] == [18, 18]
    (gradient,) = plan(
        parse(f"func @f{PROGRAMS['exponentials and quotients kept for the next pass over a row']}")
    ).kernels
    assert [gradient.text.count(name) for name in ("fma", "divide", "store")] == [9, 1, 3]


def test_products_that_are_waited_for_are_compiled_while_the_program_is_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = """(%x: f32[64,64], %y: f32[64,64]) -> (f32[64,64]) {
        %a = dot %x, %y : f32[64,64]
        %b = dot %a, %y : f32[64,64]
        %c = dot %b, %y {transpose_rhs=True} : f32[64,64]
        return %c
    }"""
    graph, asked = parse(f"func @f{source}"), list[Callable[[], object]]()
    monkeypatch.setattr(compiler, "ask", asked.append)
    plan(graph, observe=early.Early())
    assert asked == []  # there is too little to do
    monkeypatch.setattr(early, "WORK_WORTH_WAITING", 2 * 64**3)
    program = plan(graph, observe=early.Early())
    products = [call for call in program.calls if isinstance(call, DotCall)]
    names = {contraction.name_of(contraction.read_once(call, host_target()), host_target()) for call in products}
    pool = [runtime.load_pool] if threads.most_threads() > 1 else []
    assert asked[: len(pool)] == pool
    assert sorted(str(work()) for work in asked[len(pool) :]) == sorted(names)
