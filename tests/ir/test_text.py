"""The text form: what is printed, what parses, and that the one undoes the other."""

import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.ir.random_graphs import random_graphs
from tracejit.ir import Builder, Constant, Graph, Location, Symbol, TensorType
from tracejit.ir.parser import ParseError, parse
from tracejit.ir.primitives.elementwise import add, compare, negate
from tracejit.ir.printer import digest, format_attributes, format_constant, graph_constants, name_values, print_graph
from tracejit.ir.types import (
    SHORT_NAMES,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int32,
    int64,
    short_name,
)
from tracejit.ir.verifier import verify

LAYER = """\
func @layer(%x: f32[8,64], %w: f32[16,64] = model.0.weight) -> (loss: f32[16], model.0.weight': f32[16,64]) {
  %h  = dot %x, %w {transpose_rhs} : f32[8,16]    # demo.py:12
  %a  = maximum %h, 0.0            : f32[8,16]    # functional.py:31 ← demo.py:12
  %v0 = reduce_sum %a {axes=[0]}   : f32[16]      # gradient of demo.py:12
  %v1 = multiply %w, 0.5           : f32[16,64]   # gradient of functional.py:31 ← demo.py:12
  return %v0, %v1
}"""

CONTROL = """\
func @branch(%p: bool[], %x: f32[3], %y: f32[3]) -> (f32[3], i64[]) {
  %z, %n = case %p, %x, %y     : f32[3], i64[]   # demo.py:3
    (%a: f32[3], %b: f32[3]) {
      %c = add %a, %b : f32[3]   # demo.py:4
      return %c, 1
    }
    (%a_1: f32[3], %b_1: f32[3]) {
      %v0 = while %b_1, %a_1 {constants=1} : f32[3]   # demo.py:6
        (%limit: f32[3], %v1: f32[3]) {
          %v2 = compare %v1, %limit {direction=lt} : bool[3]
          %v3 = reduce_and %v2 {axes=[0]}          : bool[]
          return %v3
        }
        (%limit_1: f32[3], %v4: f32[3]) {
          %v5 = add %v4, 1.0 : f32[3]
          return %v5
        }
      return %v0, 2
    }
  effect %z {level=3}          : ()              # demo.py:9
  return %z, %n
}"""


def graph_of(*operands, attributes=None, primitive=add):
    """A graph of one op."""
    graph = Graph("f")
    graph.results = [Builder(graph).apply(primitive, operands, attributes or {})]
    return graph


# Whole graphs ---------------------------------------------------------------------------------------


def test_a_graph_prints_as_designed():
    assert print_graph(parse(LAYER)) == LAYER


def test_locations_are_read_back():
    locations = [op.location for op in parse(LAYER).ops]
    assert locations == [
        Location("demo.py", 12),
        Location("demo.py", 12, via=("functional.py", 31)),
        Location("demo.py", 12, gradient=True),
        Location("demo.py", 12, via=("functional.py", 31), gradient=True),
    ]


def test_a_file_may_have_spaces_in_its_name():
    location = Location("folder/my file.py", 12, via=("other place.py", 3), gradient=True)
    graph = parse(LAYER)
    graph.ops[0].location = location
    text = print_graph(graph)
    assert '# gradient of "other place.py":3 ← "my file.py":12' in text
    assert parse(text).ops[0].location == Location("my file.py", 12, via=("other place.py", 3), gradient=True)
    assert print_graph(parse(text)) == text


def test_other_comments_are_no_locations():
    graph = parse("""
        # A comment before the function.
        func @f(  # and one in it
          %x: f32[3],
        ) -> (f32[3]) {
          %y = negate %x : f32[3]  # why: because
          %z = negate %y : f32[3]
          # demo.py:3
          return %z  # demo.py:4
        }
    """)
    assert [op.location for op in graph.ops] == [None, None]


def test_sources_and_result_names_are_read_back():
    graph = parse(LAYER)
    assert graph.sources == {graph.parameters[1]: "model.0.weight"}
    assert graph.result_names == ["loss", "model.0.weight'"]


def test_any_source_and_result_name_prints():
    graph = Graph("f")
    x = Builder(graph).parameter(TensorType(float32, ()), "x", source='layers[0]["ключ"]\n')
    graph.results, graph.result_names = [x, x], ["f32", ""]
    again = parse(str(graph))
    assert again == graph
    assert list(again.sources.values()) == list(graph.sources.values())
    assert again.result_names == graph.result_names


def test_locations_do_not_count_in_comparisons():
    assert parse(LAYER) == parse(re.sub("#.*", "", LAYER))
    assert parse(LAYER) != parse(LAYER.replace("0.5", "0.25"))
    assert parse(LAYER) != parse(LAYER.replace("loss:", "cost:"))


def test_color_only_adds_escapes():
    assert re.sub("\x1b\\[[0-9;]*m", "", print_graph(parse(LAYER), color=True)) == LAYER


def test_a_long_header_is_broken():
    graph = Graph("train_step")
    builder = Builder(graph)
    for number in range(6):
        builder.parameter(TensorType(float32, (64, 64)), f"w{number}", f"model.{number}.weight")
    graph.results = graph.parameters
    graph.result_names = [f"model.{number}.weight'" for number in range(6)]
    text = str(graph)
    assert text.split("\n")[:2] == ["func @train_step(", "  %w0: f32[64,64] = model.0.weight,"]
    assert ") -> (\n  model.0.weight': f32[64,64],\n" in text
    graph.results = [*graph.results, *[Constant(np.array([-1.0, -2.0], float32))] * 20]
    graph.result_names = [f"result{number}" for number in range(26)]
    text = str(graph)
    assert "\n  return %w0, %w1, %w2," in text
    assert max(map(len, text.split("\n"))) <= 120
    assert parse(text) == graph


def test_a_long_op_does_not_push_the_columns_away():
    operands = ", ".join(["%x"] * 40)
    text = f"""
        func @f(%x: f32[1]) -> (f32[40]) {{
          %y = concatenate {operands} {{dimension=0}} : f32[40]
          %z = negate %y : f32[40]
          return %z
        }}
    """
    assert "\n  %z = negate %y : f32[40]\n" in str(parse(text))


def test_an_empty_graph():
    text = "func @nothing() -> () {\n  return\n}"
    assert str(parse(text)) == text


def test_symbols():
    text = """\
func @f(%x: f32[n,1]) -> (f32[n,4]) {
  %i = iota {dtype=i64, size=?n}                                 : i64[n]
  %y = broadcast_in_dim %x {dimensions=[0, 1], shape=[?n, 4]}    : f32[n,4]
  return %y
}"""
    graph = parse(text)
    assert graph.parameters[0].shape == (Symbol("n"), 1)
    assert graph.ops[0].attributes["size"] == Symbol("n")
    assert graph.ops[1].attributes["shape"] == (Symbol("n"), 4)
    assert parse(str(graph)) == graph


def test_regions(effect):
    graph = parse(CONTROL)
    verify(graph)
    assert str(graph) == CONTROL
    region = graph.ops[0].regions[1]
    assert region.ops[0].operands == (region.parameters[1], region.parameters[0])
    assert graph.copy() == graph


# Names ----------------------------------------------------------------------------------------------


def test_names_are_unique_safe_and_depend_on_the_graph_alone():
    graph = Graph("<lambda>")
    builder = Builder(graph)
    x = builder.parameter(TensorType(float32, ()), "x")
    for name in ("x", "x", "x_1", None, "v0", "", "a b", "grad'", "é", None):
        graph.results.append(builder.apply(negate, [x], {}))
        graph.results[-1].name = name
    assert list(name_values(graph).values()) == [
        "x", "x_1", "x_2", "x_1_1", "v0", "v0_", "_", "a_b", "grad'", "__1", "v1"
    ]  # fmt: skip
    assert parse(str(graph)) == graph
    assert str(parse(str(graph))) == str(graph) == str(graph.copy())
    assert "func @_lambda_()" in str(Graph("<lambda>"))


def test_an_undefined_value_still_prints():
    x = Graph("f")
    stray = Builder(Graph("g")).parameter(TensorType(float32, ()), "stray")
    x.results = [stray]
    assert "return %undefined.stray" in str(x)


# Constants ------------------------------------------------------------------------------------------


def from_bits(bits, dtype):
    return np.array(bits, f"u{dtype.itemsize}").view(dtype)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array(0.1, float32), "0.1"),
        (np.array(-0.0, float32), "-0.0"),
        (np.array(1e-45, float32), "1e-45"),
        (np.array(16777216, float32), "16777216.0"),
        (np.array(3.4028235e38, float32), "3.4028235e+38"),
        (np.array(np.inf, float32), "inf"),
        (np.array(-np.inf, float64), "-inf:f64"),
        (np.array(np.nan, float32), "nan"),
        (from_bits(0xFFC00001, float32), "nan<0xffc00001>"),
        (from_bits(0xFE01, float16), "nan<0xfe01>:f16"),
        (from_bits(0x7FF8000000000001, float64), "nan<0x7ff8000000000001>:f64"),
        (np.array(0.1, float64), "0.1:f64"),
        (np.array(0.1 + 0.2, float64), "0.30000000000000004:f64"),
        (np.array(0.1, float16), "0.1:f16"),
        (np.array(0.1, bfloat16), "0.1:bf16"),
        (np.array(np.nan, bfloat16), "nan:bf16"),
        (np.array(3), "3"),
        (np.array(-(2**63)), "-9223372036854775808"),
        (np.array(3, int32), "3:i32"),
        (np.array(255, np.uint8), "255:u8"),
        (np.array(2**64 - 1, np.uint64), "18446744073709551615:u64"),
        (np.array(True), "true"),
        (np.array(1 - 0.5j, complex64), "(1.0, -0.5):c64"),
        (np.array(complex(-0.0, np.nan)), "(-0.0, nan):c128"),
        (np.array([1.0, 2.0], float32), "[1.0, 2.0]:f32[2]"),
        (np.array([[True], [False]]), "[true, false]:bool[2,1]"),
        (np.array([1j, 2], complex64), "[(0.0, 1.0), (2.0, 0.0)]:c64[2]"),
        (np.zeros((0, 3)), "[]:f64[0,3]"),
        (np.arange(6, dtype=int32).reshape(2, 3).T, "[0, 3, 1, 4, 2, 5]:i32[3,2]"),
    ],
)
def test_constant(array, text):
    assert format_constant(array) == text
    graph = Graph("f", results=[Constant(array)])
    (again,) = parse(str(graph)).results
    assert isinstance(again, Constant)
    assert (again.array.dtype, again.array.shape) == (array.dtype, array.shape)
    assert again.array.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", SHORT_NAMES, ids=short_name)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_bits_survive(dtype, data):
    raw = data.draw(st.binary(min_size=3 * dtype.itemsize, max_size=3 * dtype.itemsize))
    array = np.frombuffer(raw, np.uint8)
    array = (array & 1).astype(bool)[:3] if dtype == bool_ else array.view(dtype)
    graph = Graph("f", results=[Constant(array), *(Constant(array[i, ...]) for i in range(3))])
    for before, after in zip(graph.results, parse(str(graph)).results, strict=True):
        assert after.array.tobytes() == before.array.tobytes()


def test_the_shortest_text_is_chosen():
    values = np.random.default_rng(0).integers(0, 0x7F80, 500).astype(np.uint16).view(bfloat16)
    for value in values:
        text = format_constant(np.array(value)).removesuffix(":bf16")
        digits = len(text.split("e")[0].replace(".", "").strip("0"))
        assert digits <= 4
        assert ml_dtypes.bfloat16(float(text)) == value


def test_large_constants_print_by_digest():
    array = np.arange(17, dtype=float32)
    graph = graph_of(Constant(array), Constant(array.astype(float32) + 1))
    text = str(graph)
    assert f"constant<sha256:{digest(array)}>:f32[17]" in text
    constants = graph_constants(graph)
    assert len(constants) == 2
    again = parse(text, constants)
    assert again == graph
    assert again.ops[0].operands[0].array is array
    with pytest.raises(ParseError, match="no array with the digest"):
        parse(text)
    with pytest.raises(ParseError, match=r"is f64\[17\], not f32\[17\]"):
        parse(text, {key: value.astype(float64) for key, value in constants.items()})


def test_a_digest_tells_types_apart():
    zeros = np.zeros(64, float32)
    arrays = [zeros, zeros.view(int32), zeros.reshape(8, 8), zeros + 1]
    assert len({digest(array) for array in arrays}) == len(arrays)


# Attributes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "a=3"),
        (-1, "a=-1"),
        (2.0, "a=2.0"),
        (-0.0, "a=-0.0"),
        (1e-5, "a=1e-05"),
        (float("inf"), "a=inf"),
        (True, "a"),
        ((True, False), "a=[true, false]"),
        (None, "a=none"),
        ((), "a=[]"),
        ((1, (2, 3), ()), "a=[1, [2, 3], []]"),
        ((Symbol("n"), 4), "a=[?n, 4]"),
        (Symbol("n"), "a=?n"),
        ("lt", "a=lt"),
        ("f32", 'a="f32"'),
        ("true", 'a="true"'),
        ("two words", 'a="two words"'),
        ('"\\\n', 'a="\\"\\\\\\n"'),
        (("add", "set"), "a=[add, set]"),
        (float32, "a=f32"),
        ((bfloat16, None), "a=[bf16, none]"),
    ],
)
def test_attribute(effect, value, text):
    assert format_attributes({"a": value}) == f"{{{text}}}"
    (op,) = parse(f"func @f(%x: f32[]) -> () {{ effect %x {{{text}}} : () return }}").ops
    assert op.attributes == {"a": value}
    assert repr(op.attributes["a"]) == repr(value)


def test_a_flag_that_is_not_set_is_left_out():
    assert format_attributes({"transpose_rhs": False}) == ""
    assert format_attributes({"b": 1, "a": np.int64(2), "c": np.True_}) == "{a=2, b=1, c=true}"


def test_other_attributes_do_not_print():
    with pytest.raises(TypeError, match="an attribute cannot be"):
        format_attributes({"a": object()})


# Mistakes -------------------------------------------------------------------------------------------


def body(line, results=""):
    return f"func @f(%x: f32[3], %y: f64[3]) -> ({results}) {{\n  {line}\n  return\n}}"


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "expected a function, found the end of the text"),
        ("func f() -> () { return }", 1, 6, "expected '@' and the function's name, found 'f'"),
        ("func @f(x: f32[]) -> () { return }", 1, 9, "expected a parameter, found 'x'"),
        ("func @f(%x: f31[]) -> () { return }", 1, 13, "expected a type like f32[64,128], found 'f31'"),
        ("func @f(%x: f32[-1]) -> () { return }", 1, 17, "an extent is an integer from 0 up or a symbol, not '-1'"),
        ("func @f(%x: f32[3) -> () { return }", 1, 18, "expected ',' or ']', found ')'"),
        ("func @f(%x: f32[]) -> (i64[]) { return %x }", 1, 24, "this result is f32[], not i64[]"),
        ("func @f(%x: f32[]) -> () { return %x }", 1, 26, "the block returns 1 values, not 0"),
        ("func @f() -> () { return } func", 1, 28, "expected nothing after the function, found 'func'"),
        ("func @f() -> () { return", 1, 25, "expected a value or a constant, found the end of the text"),
        ("func @f() -> () { $ }", 1, 19, "unexpected character '$'"),
        (body("%z = negat %x : f32[3]"), 2, 8, "there is no primitive named 'negat'; did you mean negate?"),
        (body("%z = negate %xx : f32[3]"), 2, 15, "%xx is not defined here; did you mean %x?"),
        (body("%z = negate %z : f32[3]"), 2, 15, "%z is not defined here"),
        (body("%x = negate %x : f32[3]"), 2, 3, "%x is defined already"),
        (body("%z = negate %x : f32[4]"), 2, 18, "negate gives f32[3] here, not f32[4]"),
        (body("%z = add %x, %y : f32[3]"), 2, 8, "add: operands must have one dtype, got f32[3], f64[3]"),
        (body("%z = add %x : f32[3]"), 2, 8, "add takes 2 operands, got 1"),
        (body("%z = compare %x, %x : bool[3]"), 2, 8, "operands or attributes are missing: direction"),
        (body("%z = compare %x, %x {direction=less} : bool[3]"), 2, 8, "must be one of eq, ne, lt, le, gt, ge"),
        (body("%z = transpose %x : f32[3]"), 2, 8, "transpose: "),
        (body("%z = reduce_sum %x {axis=[0]} : f32[3]"), 2, 8, "reduce_sum: there is no attribute axis"),
        (body("%z = reduce_sum %x : f32[3]"), 2, 8, "reduce_sum: operands or attributes are missing: axes"),
        (body("%z = transpose %x, %x {permutation=[0]} : f32[3]"), 2, 8, "transpose: there are more operands than"),
        (body("%z = convert %x {dtype=f3} : f32[3]"), 2, 8, "convert: there is no dtype 'f3'"),
        (body("%z, %w = negate %x : f32[3]"), 2, 12, "'negate' has 1 results, but 2 names"),
        (body("%z negate %x : f32[3]"), 2, 6, "expected '=' and an op, found 'negate'"),
        (body("%z = negate %x %y : f32[3]"), 2, 18, "expected ',' and an operand, '{' and attributes, or ':'"),
        (body("%z = add %x, 3:f33 : f32[3]"), 2, 18, "expected a type like"),
        (body("%z = add %x, 300:u8 : f32[3]"), 2, 16, "300 is no u8"),
        (body("%z = add %x, 1:f32 : f32[3]"), 2, 16, "1 is no f32"),
        (body("%z = add %x, 1.0:i32 : f32[3]"), 2, 16, "1.0 is no i32"),
        (body("%z = add %x, (1.0, 2.0):f32 : f32[3]"), 2, 16, "a pair is complex, not f32"),
        (body("%z = add %x, [1.0]:c64[1] : f32[3]"), 2, 16, "a constant of c64 is written (real, imaginary)"),
        (body("%z = add %x, [1.0]:f32[2] : f32[3]"), 2, 16, "f32[2] has 2 elements, here are 1"),
        (body("%z = compare %x, %x {direction=} : f32[3]"), 2, 34, "expected an attribute's value, found '}'"),
    ],
)  # fmt: skip
def test_mistake(text, line, column, message):
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value


def test_a_mistake_shows_its_line():
    with pytest.raises(ParseError) as caught:
        parse(body("%z = negate %q : f32[3]"))
    assert str(caught.value).split("\n")[1:] == ["    %z = negate %q : f32[3]", "                ^"]


def test_values_of_a_region_stay_inside(effect):
    with pytest.raises(ParseError, match="%b is not defined here"):
        parse(CONTROL.replace("return %z, %n", "return %b, %n"))


def test_values_from_outside_stay_there(effect):
    with pytest.raises(ParseError, match="%x is not defined here"):
        parse(CONTROL.replace("%c = add %a, %b", "%c = add %a, %x"))


# Random graphs --------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(graph=random_graphs())
def test_any_graph_survives(graph):
    text = print_graph(graph)
    again = parse(text, graph_constants(graph))
    verify(again)
    assert again == graph
    assert print_graph(again) == text


@settings(max_examples=60, deadline=None)
@given(graph=random_graphs(dtypes=[dtype for dtype in SHORT_NAMES if dtype not in (complex64, complex128)], max_ops=6))
def test_any_dtype_survives(graph):
    assert parse(str(graph), graph_constants(graph)) == graph


def test_operands_of_compare_are_typed():
    x = Constant(np.array(1, int64))
    assert parse(str(graph_of(x, x, primitive=compare, attributes={"direction": "lt"}))).results[0].type == TensorType(
        bool_, ()
    )
