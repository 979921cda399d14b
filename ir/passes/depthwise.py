"""Convolutions of which each output channel reads one input channel, written out: a chain of products for each element.

There is nothing in them for a matrix product to use again.  As elementwise ops they are computed where they lie, and
share a kernel with what is done with them next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..graph import Constant, Emit, Graph, Op, Value
from ..primitives.convolution import convolution
from ..primitives.exact import fused_multiply_add
from ..primitives.view import reshape, slice_
from ..types import float32, float64

MOST_PRODUCTS = 64  # in a chain
MOST_APART = 2  # so far apart, elements are still read by vectors


def depthwise(graph: Graph) -> Graph:
    """``graph``, with depthwise convolutions in their order of summation: from zero, one product after the other.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[2,3,9], %w: f32[3,1,2]) -> (f32[2,3,8]) {
    ...   %y = convolution %x, %w {strides=[1], dilations=[1], groups=3} : f32[2,3,8]
    ...   return %y
    ... }''')
    >>> print(depthwise(graph))
    func @f(%x: f32[2,3,9], %w: f32[3,1,2]) -> (f32[2,3,8]) {
      %v0 = slice %w {limit=[3, 1, 1], start=[0, 0, 0], strides=[1, 1, 1]} : f32[3,1,1]
      %v1 = reshape %v0 {shape=[3, 1]}                                     : f32[3,1]
      %v2 = slice %x {limit=[2, 3, 8], start=[0, 0, 0], strides=[1, 1, 1]} : f32[2,3,8]
      %v3 = fused_multiply_add %v2, %v1, 0.0                               : f32[2,3,8]
      %v4 = slice %w {limit=[3, 1, 2], start=[0, 0, 1], strides=[1, 1, 1]} : f32[3,1,1]
      %v5 = reshape %v4 {shape=[3, 1]}                                     : f32[3,1]
      %v6 = slice %x {limit=[2, 3, 9], start=[0, 0, 1], strides=[1, 1, 1]} : f32[2,3,8]
      %y  = fused_multiply_add %v6, %v5, %v3                               : f32[2,3,8]
      return %y
    }
    """
    if not any(_is_depthwise(op) for op in graph.walk()):
        return graph

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        return (_written_out(op, operands[0], operands[1], emit),) if _is_depthwise(op) else None

    return graph.rewrite(rewrite)


def _is_depthwise(op: Op) -> bool:
    if op.primitive is not convolution or op.result.dtype not in (float32, float64) or 0 in op.result.shape:
        return False
    channels, inner, *kernel = op.operands[1].type.static_shape
    is_one = inner == 1 and channels == op.attributes["groups"]
    return is_one and op.attributes["strides"][-1] <= MOST_APART and math.prod(kernel) <= MOST_PRODUCTS


def _written_out(op: Op, x: Value, weights: Value, emit: Emit) -> Value:
    strides, dilations = op.attributes["strides"], op.attributes["dilations"]
    (channels, _, *kernel), (batch, _, *places) = weights.type.static_shape, op.result.type.static_shape
    ones = (1,) * len(kernel)
    total: Value = Constant(np.zeros((), op.result.dtype))
    for place in np.ndindex(*kernel):
        start = tuple(number * dilation for number, dilation in zip(place, dilations, strict=True))
        limit = tuple(
            first + (count - 1) * stride + 1 for first, count, stride in zip(start, places, strides, strict=True)
        )
        here = {"start": (0, 0, *start), "limit": (batch, channels, *limit), "strides": (1, 1, *strides)}
        beyond = (number + 1 for number in place)
        one = {"start": (0, 0, *place), "limit": (channels, 1, *beyond), "strides": (1, 1, *ones)}
        weight = emit(reshape, (emit(slice_, (weights,), one),), {"shape": (channels, *ones)})
        total = emit(fused_multiply_add, (emit(slice_, (x,), here), weight, total), {})
    return total
