"""The text form of a graph, written for people: one line an op, each naming the user's line it came from.

>>> from tracejit.ir.parser import parse
>>> print(
...     parse('''
...     func @layer(%x: f32[8,64], %w: f32[16,64] = model.0.weight) -> (f32[16]) {
...       %h = dot %x, %w {transpose_rhs} : f32[8,16]  # demo.py:12
...       %a = maximum %h, 0.0 : f32[8,16]             # functional.py:31 ← demo.py:12
...       %v0 = reduce_sum %a {axes=[0]} : f32[16]
...       return %v0
...     }
...     ''')
... )
func @layer(%x: f32[8,64], %w: f32[16,64] = model.0.weight) -> (f32[16]) {
  %h  = dot %x, %w {transpose_rhs} : f32[8,16]   # demo.py:12
  %a  = maximum %h, 0.0            : f32[8,16]   # functional.py:31 ← demo.py:12
  %v0 = reduce_sum %a {axes=[0]}   : f32[16]
  return %v0
}

The grammar stands in :mod:`.parser`, which reads the text back: ``parse(print_graph(g)) == g``.  What is
printed depends on the graph alone: values without a name are numbered in order, a name that occurs twice
gets a suffix, attributes are sorted.  Constants of more than :data:`INLINE_LIMIT` elements print as a
digest; :func:`graph_constants` gives their arrays.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .facts import facts
from .graph import Block, Constant, Graph, Op, Value
from .types import DTYPES_BY_SHORT_NAME, DType, Symbol, bool_, float32, float64, int64, is_floating, short_name, type_of

INLINE_LIMIT = 16
LINE_LENGTH = 120
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.']*")
NUMBERED = re.compile(r"v[0-9]+")  # the names of values without a name
RESERVED = frozenset({"true", "false", "none", "inf", "nan", *DTYPES_BY_SHORT_NAME})
BARE_DTYPES = (float32, int64, bool_)  # a scalar constant of another dtype names it

# A column is as wide as its widest entry, those beyond the limit aside.
COLUMN_LIMITS = (24, 64, 32)
STYLES = {"primitive": "1", "type": "36", "location": "2"}


def print_graph(graph: Graph, *, locations: bool = True, color: bool = False) -> str:
    """The text of ``graph``; ``color`` adds ANSI escapes, without ``locations`` there are no comments."""
    names = name_values(graph)
    lines = [*_header(graph, names), *_body(graph, names, "  ", locations, color), "}"]
    return "\n".join(lines)


def name_values(block: Block) -> dict[Value, str]:
    """A name for each value of ``block`` and of the blocks nested in it, as the text shows them (without ``%``)."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    numbered = 0
    for value in _definitions(block):
        if value.name is None:
            name, numbered = f"v{numbered}", numbered + 1
        else:
            name = _unique(safe_name(value.name), taken)
            taken.add(name)
        names[value] = name
    return names


def safe_name(name: str) -> str:
    """``name`` in the letters that the text form allows; ``v`` and a number is kept for values without a name.

    >>> safe_name("x[0].grad'"), safe_name("v3")
    ("x_0_.grad'", 'v3_')
    """
    safe = re.sub(r"[^A-Za-z0-9_.']", "_", name)
    return f"{safe}_" if not safe or NUMBERED.fullmatch(safe) else safe


def format_constant(array: np.ndarray) -> str:
    """A constant as an operand; each text stands for the same bits in the same dtype.

    >>> format_constant(np.array(0.5, np.float32)), format_constant(np.array(7, np.uint32))
    ('0.5', '7:u32')
    >>> format_constant(np.array([[1.5, -0.0]]))
    '[1.5, -0.0]:f64[1,2]'
    >>> format_constant(np.zeros((64, 64)))
    'constant<sha256:6c58aba5fa00ddbb>:f64[64,64]'
    """
    if array.size > INLINE_LIMIT:
        return f"constant<sha256:{digest(array)}>:{type_of(array)}"
    elements = _format_elements(array)
    if array.ndim:
        return f"[{', '.join(elements)}]:{type_of(array)}"
    return elements[0] if array.dtype in BARE_DTYPES else f"{elements[0]}:{short_name(array.dtype)}"


def digest(array: np.ndarray) -> str:
    """16 hex digits that stand for an array's type and bytes."""
    return hashlib.sha256(repr(type_of(array)).encode() + array.tobytes()).hexdigest()[:16]


def graph_constants(graph: Graph) -> dict[str, np.ndarray]:
    """The arrays that ``graph`` prints by digest: ``parse(text, constants=graph_constants(graph))``."""
    arrays = [value.array for value in _operands(graph) if isinstance(value, Constant)]
    return {digest(array): array for array in arrays if array.size > INLINE_LIMIT}


def format_attributes(attributes: Mapping[str, Any]) -> str:
    """Attributes in braces, sorted; a flag that is set prints as its name, one that is not is left out.

    >>> format_attributes(
    ...     {"transpose_rhs": True, "transpose_lhs": False, "axes": (0, 1), "direction": "lt"}
    ... )
    '{axes=[0, 1], direction=lt, transpose_rhs}'
    """
    entries = [
        name if value is True else f"{name}={format_attribute(value)}"
        for name, value in sorted(attributes.items())
        if value is not False
    ]
    return f"{{{', '.join(entries)}}}" if entries else ""


def format_attribute(value: Any) -> str:
    """One attribute's value: a bool, int, float, string, dtype, symbol, ``None``, or a tuple of such."""
    match value:
        case bool() | np.bool_():
            return "true" if value else "false"
        case None:
            return "none"
        case int() | np.integer():
            return str(int(value))
        case float() | np.floating():
            return repr(float(value))
        case np.dtype():
            return short_name(value)
        case Symbol():
            return f"?{value.name}"
        case str():
            return format_word(value)
        case tuple() | list():
            return f"[{', '.join(map(format_attribute, value))}]"
    raise TypeError(f"an attribute cannot be {value!r}")


def format_word(text: str) -> str:
    """``text`` as it is where it reads as one word, else quoted."""
    return text if WORD.fullmatch(text) and text not in RESERVED else json.dumps(text)


# Layout ---------------------------------------------------------------------------------------------


@facts
class _Line:
    """An op in columns, and the lines of its regions."""

    results: str
    primitive: str
    arguments: str
    types: str
    location: str
    regions: list[str]

    def widths(self) -> tuple[int, int, int]:
        return len(self.results), len(self.primitive) + len(self.arguments), len(self.types)


def _header(graph: Graph, names: Mapping[Value, str]) -> list[str]:
    parameters = []
    for parameter in graph.parameters:
        source = graph.sources.get(parameter)
        suffix = f" = {format_word(source)}" if source is not None else ""
        parameters.append(f"%{names[parameter]}: {parameter.type}{suffix}")
    results = []
    for position, value in enumerate(graph.results):
        name = graph.result_names[position] if position < len(graph.result_names) else ""
        results.append(f"{format_word(name)}: {value.type}" if name else repr(value.type))
    head, inputs, outputs = f"func @{safe_name(graph.name)}", ", ".join(parameters), ", ".join(results)
    if len(head) + len(inputs) + len(outputs) + 10 <= LINE_LENGTH:
        return [f"{head}({inputs}) -> ({outputs}) {{"]
    lines = [f"{head}(", *(f"  {parameter}," for parameter in parameters)]
    if len(outputs) + 10 <= LINE_LENGTH:
        return [*lines, f") -> ({outputs}) {{"]
    return [*lines, ") -> (", *(f"  {result}," for result in results), ") {"]


def _body(block: Block, names: Mapping[Value, str], indent: str, locations: bool, color: bool) -> Iterator[str]:
    """The lines of a block's ops, and its ``return``."""
    lines = [_line(op, names, indent, locations, color) for op in block.ops]
    widths = [
        max((line.widths()[column] for line in lines if line.widths()[column] <= limit), default=0)
        for column, limit in enumerate(COLUMN_LIMITS)
    ]
    for line in lines:
        yield indent + _align(line, widths, color)
        yield from line.regions
    results = ", ".join(_operand(value, names) for value in block.results)
    yield from textwrap.wrap(
        f"return {results}",
        LINE_LENGTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _line(op: Op, names: Mapping[Value, str], indent: str, locations: bool, color: bool) -> _Line:
    operands = ", ".join(_operand(operand, names) for operand in op.operands)
    attributes = format_attributes(op.attributes)
    regions = []
    for region in op.regions:
        parameters = ", ".join(f"%{names[parameter]}: {parameter.type}" for parameter in region.parameters)
        regions.append(f"{indent}  ({parameters}) {{")
        regions.extend(_body(region, names, indent + "    ", locations, color))
        regions.append(f"{indent}  }}")
    return _Line(
        results=", ".join(f"%{names[result]}" for result in op.results),
        primitive=op.primitive.name,
        arguments="".join(f" {part}" for part in (operands, attributes) if part),
        types=", ".join(repr(result.type) for result in op.results) or "()",
        location=str(op.location) if locations and op.location is not None else "",
        regions=regions,
    )


def _align(line: _Line, widths: list[int], color: bool) -> str:
    def styled(text: str, style: str) -> str:
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if color else text

    results_width, call_width, types_width = widths
    if line.results:
        results = f"{line.results:<{results_width}} = "
    else:
        results, call_width = "", call_width + (results_width + 3 if results_width else 0)
    arguments = line.arguments.ljust(call_width - len(line.primitive))
    text = f"{results}{styled(line.primitive, 'primitive')}{arguments} : {styled(line.types, 'type')}"
    if line.location:
        text += " " * (types_width - len(line.types)) + styled(f"   # {line.location}", "location")
    return text


def _operand(value: Value, names: Mapping[Value, str]) -> str:
    if isinstance(value, Constant):
        return format_constant(value.array)
    return f"%{names[value]}" if value in names else f"%undefined.{safe_name(value.name or '')}"


# Names ----------------------------------------------------------------------------------------------


def _definitions(block: Block) -> Iterator[Value]:
    """Every value that the block defines, in the order of the text."""
    yield from block.parameters
    for op in block.ops:
        yield from op.results
        for region in op.regions:
            yield from _definitions(region)


def _operands(block: Block) -> Iterator[Value]:
    """Every value that the block reads."""
    for op in block.ops:
        yield from op.operands
        for region in op.regions:
            yield from _operands(region)
    yield from block.results


def _unique(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


# Numbers --------------------------------------------------------------------------------------------


def _format_elements(array: np.ndarray) -> list[str]:
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype == bool_:
        return ["true" if element else "false" for element in flat]
    if array.dtype.kind == "c":
        parts = _format_floats(flat.view(flat.real.dtype))
        return [f"({real}, {imaginary})" for real, imaginary in zip(parts[::2], parts[1::2], strict=True)]
    return _format_floats(flat) if is_floating(array.dtype) else [str(int(element)) for element in flat]


def _format_floats(flat: np.ndarray) -> list[str]:
    bits = flat.view(f"u{flat.itemsize}")
    usual_nan = np.array(math.nan, flat.dtype).view(bits.dtype)
    texts = []
    for number, pattern in zip(flat, bits, strict=True):
        if not math.isnan(number):
            texts.append(_shortest(float(number), flat.dtype))
        else:
            texts.append("nan" if pattern == usual_nan else f"nan<{int(pattern):#x}>")
    return texts


def _shortest(number: float, dtype: DType) -> str:
    """The shortest decimal that becomes ``number`` when it is read as a Python float and rounded to ``dtype``."""
    text = repr(number)
    if dtype == float64 or not math.isfinite(number):
        return text
    shorter = (f"{number:.{digits}g}" for digits in range(1, 17))
    with np.errstate(over="ignore"):
        return repr(float(next((short for short in shorter if dtype.type(float(short)) == number), text)))
