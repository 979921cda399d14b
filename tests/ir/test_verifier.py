"""The verifier: each rule that a graph may break."""

import numpy as np
import pytest

from tracejit.ir import Constant, Op, TensorType, Value
from tracejit.ir.parser import parse
from tracejit.ir.primitives.elementwise import negate
from tracejit.ir.types import float32, float64
from tracejit.ir.verifier import VerificationError, verify


@pytest.fixture
def graph():
    return parse("""
        func @f(%x: f32[3] = model.w, %y: f32[3]) -> (a: f32[3], b: f32[3]) {
          %a = add %x, 1.0 : f32[3]        # demo.py:3
          %b = multiply %a, %y : f32[3]    # gradient of demo.py:4
          return %a, %b
        }
    """)


def assert_broken(graph, *messages):
    with pytest.raises(VerificationError) as caught:
        verify(graph)
    for message in messages:
        assert message in str(caught.value)


def test_a_good_graph(graph):
    verify(graph)


def test_a_value_is_defined_before_its_use(graph):
    graph.ops.reverse()
    assert_broken(graph, "@f: <multiply", "at gradient of demo.py:4", "operand 0, <%a: f32[3]>, is not defined")


def test_a_value_is_defined_in_the_graph(graph):
    graph.results[1] = Value(TensorType(float32, (3,)), "stray")
    assert_broken(graph, "@f: result 1, <%stray: f32[3]>, is not defined")


def test_an_op_stands_once(graph):
    graph.ops.append(graph.ops[0])
    assert_broken(graph, "at demo.py:3: <%a: f32[3]> is defined twice")


def test_a_parameter_stands_once(graph):
    graph.parameters.append(graph.parameters[0])
    assert_broken(graph, "<%x: f32[3]> is defined twice")


def test_a_parameter_has_no_op(graph):
    graph.parameters.append(graph.ops[0].result)
    assert_broken(graph, "parameter 2, <%a: f32[3]>, is made by an op")


def test_a_parameter_is_no_constant(graph):
    graph.parameters.append(Constant(np.zeros(3)))
    assert_broken(graph, "parameter 2, <constant f64[3]>, is made by an op or is a constant")


def test_a_result_knows_its_op(graph):
    graph.ops[0].result.op = graph.ops[1]
    assert_broken(graph, "at demo.py:3: the result <%a: f32[3]> names another op as its maker")


def test_types_are_those_of_the_rule(graph):
    graph.ops[1].result.type = TensorType(float32, (4,))
    assert_broken(graph, "at gradient of demo.py:4: the primitive's type rule gives f32[3]")


def test_operands_fit_the_rule(graph):
    graph.parameters[1].type = TensorType(float64, (3,))
    assert_broken(graph, "at gradient of demo.py:4: multiply: operands must have one dtype")


def test_attributes_are_those_of_the_rule(graph):
    graph.ops.append(Op(negate, graph.results[:1], {"axes": ()}, [TensorType(float32, (3,))]))
    assert_broken(graph, "unexpected keyword argument 'axes'")


def test_attributes_are_of_a_kind_that_prints(graph, effect):
    graph.ops.append(Op(effect, graph.results[:1], {"axes": [object()]}, []))
    assert_broken(graph, "an attribute cannot be <object")


def test_a_constant_has_the_type_of_its_array(graph):
    graph.ops[0].operands[1].array = np.array(1.0)
    assert_broken(graph, "operand 1 is a constant of type f32[], but its array is f64[]")


def test_each_result_has_a_name_or_none_has(graph):
    graph.result_names.pop()
    assert_broken(graph, "1 result names for 2 results")
    graph.result_names.clear()
    verify(graph)


def test_sources_are_for_parameters(graph):
    graph.sources[graph.results[0]] = "model.v"
    assert_broken(graph, "a source is given for <%a: f32[3]>, which is no parameter")


def test_regions():
    graph = parse("""
        func @f(%p: bool[], %x: f32[3]) -> (f32[3]) {
          %y = case %p, %x : f32[3]
            (%a: f32[3]) { %b = add %a, %a : f32[3]  return %b }
            (%a: f32[3]) { return %a }
          return %y
        }
    """)
    verify(graph)
    first, second = graph.ops[0].regions
    results = second.results
    second.results = first.results
    assert_broken(graph, "@f: <case", "result 0, <%b: f32[3]>, is not defined")
    second.results = results
    verify(graph)
    second.results = [graph.parameters[1]]
    assert_broken(graph, "@f: <case", "result 0, <%x: f32[3]>, is not defined")
