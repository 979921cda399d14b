"""Splitting joint graphs: the fewest bytes, the same bits; and minimum cuts against all cuts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from tests.ir.random_graphs import random_arguments, random_graphs, reference, same_bits
from tracejit.ir import Graph, Value
from tracejit.ir.autodiff import differentiate
from tracejit.ir.interpreter import interpret
from tracejit.ir.minimum_cut import SINK, SOURCE, Network
from tracejit.ir.parser import parse
from tracejit.ir.partition import Split, is_cheap, kept_bytes, split
from tracejit.ir.types import is_differentiable
from tracejit.ir.verifier import verify

EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 9)), max_size=14)


@given(EDGES)
def test_minimum_cut_is_the_least_of_all(edges: list[tuple[int, int, int]]) -> None:
    network = Network()
    for _ in range(5):
        network.node()
    for edge in edges:
        network.connect(*edge)
    flow, side = network.minimum_cut()

    def cost(sink_side: set[int]) -> int:
        return sum(c for tail, head, c in edges if tail not in sink_side and head in sink_side)

    cuts = [{SINK, *nodes} for n in range(6) for nodes in itertools.combinations(range(2, 7), n)]
    assert flow == cost(side) == min(map(cost, cuts))
    assert SOURCE not in side
    assert all(side <= other for other in cuts if cost(other) == flow)


def halves(text: str) -> Split:
    """The split of the joint graph of one whose parameters and results are there anyway."""
    graph = parse(text)
    joint = differentiate(graph, [is_differentiable(p.dtype) for p in graph.parameters])
    return split_of(joint.graph, joint.forward_ops, joint.cotangents, joint.gradients)


def split_of(
    joint: Graph, forward_ops: int, cotangents: Sequence[Value | None], gradients: Sequence[Value | None]
) -> Split:
    given = [value for value in cotangents if value is not None]
    wanted = [value for value in gradients if value is not None]
    return split(joint, forward_ops, given, wanted, free=[*joint.parameters, *joint.results])


SPLITS = {
    "computed again from an argument": (
        """func @f(%x: f32[4]) -> (f32[4]) {
          %a = sine %x : f32[4]
          %b = sine %a : f32[4]
          return %b
        }""",
        "",
        "sine cosine multiply cosine multiply",
    ),
    "a product is kept": (
        """func @f(%x: f32[4,4]) -> (f32[4,4]) {
          %a = dot %x, %x : f32[4,4]
          %b = sine %a : f32[4,4]
          %c = sine %b : f32[4,4]
          %d = negate %c : f32[4,4]
          return %d
        }""",
        "dot",
        "negate sine cosine multiply cosine multiply dot dot add",
    ),
    "the gradient compares: its bools are kept, not the product": (
        """func @f(%x: f32[4,4]) -> (f32[4,4]) {
          %a = dot %x, %x : f32[4,4]
          %m = reduce_max %a {axes=[1]} : f32[4]
          %b = exponential %m : f32[4]
          %c = broadcast_in_dim %b {shape=[4, 4], dimensions=[0]} : f32[4,4]
          %d = multiply %c, %x : f32[4,4]
          return %d
        }""",
        "exponential compare",
        None,
    ),
    "a mask is smaller than what it is made of": (
        """func @f(%x: f32[4,4], %w: f32[4,4]) -> (f32[4,4]) {
          %a = dot %x, %w : f32[4,4]
          %p = compare %a, 0.0 {direction=lt} : bool[4,4]
          %b = select %p, 0.0, %a : f32[4,4]
          return %b
        }""",
        "compare",
        "select dot dot",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_what_is_kept(name: str) -> None:
    text, kept, backward = SPLITS[name]
    parts = halves(text)
    verify(parts.forward)
    verify(parts.backward)
    assert all(is_cheap(op) for op in parts.early)
    computed = [value for value in parts.saved if value.op is not None]
    assert " ".join(value.op.primitive.name for value in computed) == kept  # type: ignore[union-attr]
    if backward is not None:
        assert " ".join(op.primitive.name for op in parts.backward.ops) == backward


@settings(deadline=None)
@given(random_graphs(), st.data())
def test_a_split_changes_no_bit(graph: Graph, data: st.DataObject) -> None:
    joint = differentiate(graph, [is_differentiable(p.dtype) for p in graph.parameters])
    cotangents = [value for value in joint.cotangents if value is not None]
    gradients = [value for value in joint.gradients if value is not None]
    parts = split_of(joint.graph, joint.forward_ops, joint.cotangents, joint.gradients)
    verify(parts.forward)
    verify(parts.backward)
    parameters = [*joint.graph.parameters, *cotangents]
    whole = Graph("whole", parameters, joint.graph.ops, [*joint.graph.results, *gradients])
    arguments = data.draw(random_arguments(whole))
    count, results = len(joint.graph.parameters), len(joint.graph.results)
    forward = interpret(parts.forward, arguments[:count], reference)
    backward = interpret(parts.backward, [*forward[results:], *arguments[count:]], reference)
    for one, other in zip([*forward[:results], *backward], interpret(whole, arguments, reference), strict=True):
        assert same_bits(one, other)
    naive = {
        operand
        for op in joint.graph.ops[joint.forward_ops :]
        for operand in op.operands
        if operand.op in joint.graph.ops[: joint.forward_ops] and operand not in joint.graph.results
    }
    there = {*joint.graph.parameters, *joint.graph.results}
    assert kept_bytes(v.type for v in parts.saved if v not in there) <= kept_bytes(v.type for v in naive)
