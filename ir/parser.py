"""Reads the text form of a graph back: ``parse(print_graph(g)) == g``.

The grammar (``…, …`` is a list with commas, possibly empty; ``[ ]`` may be absent)::

    function   = "func" "@"NAME "(" parameter, … ")" "->" "(" result, … ")" block
    parameter  = "%"NAME ":" type [ "=" (WORD | STRING) ]           where its value is found
    result     = [ (WORD | STRING) ":" ] type                       what it is for
    block      = "{" op … "return" operand, … "}"
    op         = [ "%"NAME, … "=" ] PRIMITIVE operand, … [ attributes ] ":" ( type, … | "(" ")" ) region …
    region     = "(" parameter, … ")" block
    operand    = "%"NAME | literal[":"DTYPE] | "[" literal, … "]:"type | "constant<sha256:"DIGEST">:"type
    literal    = INT | FLOAT | "nan<0x"BITS">" | "true" | "false" | "(" FLOAT "," FLOAT ")"
    attributes = "{" ( NAME | NAME "=" attribute ), … "}"           a name alone is a flag that is set
    attribute  = INT | FLOAT | "true" | "false" | "none" | DTYPE | WORD | STRING | "?"SYMBOL | "[" attribute, … "]"
    type       = DTYPE "[" ( INT | SYMBOL ), … "]"

A scalar without a dtype is ``f32`` (``0.5``), ``i64`` (``3``) or ``bool`` (``true``).  The colon of a constant
stands without spaces, which tells it from the one before an op's type.  ``#`` starts a comment; the one behind an
op's type becomes its location where it reads as one: ``demo.py:12``, ``functional.py:31 ← demo.py:12``, and either
of them after ``gradient of``; a file with spaces in its name stands in quotes.  ``%v0``, ``%v1`` … are values
without a name.

Each op is checked by its primitive's type rule.  Mistakes raise :class:`ParseError`, which shows the line:

>>> parse("func @f(%x: f32[3]) -> (f32[3]) { %y = negate %x : f32[4]  return %y }")
Traceback (most recent call last):
...
tracejit.ir.parser.ParseError: line 1, column 50: negate gives f32[3] here, not f32[4]
  func @f(%x: f32[3]) -> (f32[3]) { %y = negate %x : f32[4]  return %y }
                                                   ^
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from .facts import facts
from .graph import Block, Constant, Graph, Location, Op, Value, infer_types
from .primitive import PRIMITIVES, Primitive
from .printer import NUMBERED
from .types import (
    DTYPES_BY_SHORT_NAME,
    Dim,
    DType,
    Symbol,
    TensorType,
    bool_,
    float32,
    int64,
    is_floating,
    is_integer,
    short_name,
    type_of,
)

T = TypeVar("T")

TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
      | (?P<value>%[A-Za-z0-9_.']+)
      | (?P<function>@[A-Za-z0-9_.']+)
      | (?P<digest>constant<sha256:[0-9a-f]+>)
      | (?P<bits>nan<0x[0-9a-f]+>)
      | (?P<number>-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf(?![\w.'])|nan(?![\w.'])))
      | (?P<word>[A-Za-z_][A-Za-z0-9_.']*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<symbol>\?[A-Za-z_]\w*)
      | (?P<mark>->|[(){}\[\],:=])
      | (?P<end>\Z)""",
    re.VERBOSE,
)
FILE = r'("[^"\n]+"|[^\s"]+)'
LOCATION = re.compile(rf"[ \t]*#[ \t]*(gradient of )?(?:{FILE}:(\d+) ← )?{FILE}:(\d+)(?:\s{{2,}}.*)?\s*(?:\n|\Z)")


def parse(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph that ``text`` describes; ``constants`` holds the arrays that it names by digest.

    >>> graph = parse(
    ...     "func @double(%x: f32[n]) -> (f32[n]) { %y = add %x, %x : f32[n]  return %y }"
    ... )
    >>> graph.results
    [<%y: f32[n]>]
    """
    return _Parser(text, constants or {}).function()


class ParseError(ValueError):
    """Text that is not a graph; ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, text: str, position: int) -> None:
        start = text.rfind("\n", 0, position) + 1
        self.line, self.column = text.count("\n", 0, position) + 1, position - start + 1
        source = text[start:].split("\n", 1)[0]
        pointer = " " * (self.column - 1) + "^"
        super().__init__(f"line {self.line}, column {self.column}: {message}\n  {source}\n  {pointer}")


@facts(frozen=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else f"'{self.text}'"


class _Parser:
    """Recursive descent over the tokens, one method a rule of the grammar."""

    def __init__(self, text: str, constants: Mapping[str, np.ndarray]) -> None:
        self.text = text
        self.constants = constants
        self.tokens = self._tokenize()
        self.position = 0

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while not tokens or tokens[-1].kind != "end":
            match = TOKEN.match(self.text, position)
            if match is None:
                raise ParseError(f"unexpected character {self.text[position]!r}", self.text, position)
            if match.lastgroup != "space":
                tokens.append(_Token(str(match.lastgroup), match.group(), position))
            position = match.end()
        return tokens

    # The function ---------------------------------------------------------------------------------------

    def function(self) -> Graph:
        self.expect("func", "a function")
        graph = Graph(self.take("function", "'@' and the function's name").text[1:])
        scope: dict[str, Value] = {}
        for value, source in self.between("(", ")", lambda: self.parameter(scope)):
            graph.parameters.append(value)
            if source is not None:
                graph.sources[value] = source
        self.expect("->", "'->' and the results' types")
        declared = self.between("(", ")", self.result)
        if any(name for _, name, _ in declared):
            graph.result_names = [name or "" for _, name, _ in declared]
        opening = self.next
        self.block(graph, scope)
        if len(declared) != len(graph.results):
            self.fail(f"the block returns {len(graph.results)} values, not {len(declared)}", opening)
        for (type, _, token), result in zip(declared, graph.results, strict=True):
            if type != result.type:
                self.fail(f"this result is {result.type}, not {type}", token)
        if self.next.kind != "end":
            self.fail(f"expected nothing after the function, found {self.next}")
        return graph

    def parameter(self, scope: dict[str, Value]) -> tuple[Value, str | None]:
        token = self.take("value", "a parameter")
        self.expect(":", "':' and the parameter's type")
        value = Value(self.type())
        self.define(token, value, scope)
        return value, self.label("where the parameter is found") if self.accept("=") else None

    def result(self) -> tuple[TensorType, str | None, _Token]:
        name = None
        if self.tokens[self.position + 1].text == ":":
            name = self.label("the result's name")
            self.expect(":", "':' and the result's type")
        token = self.next
        return self.type(), name, token

    def label(self, what: str) -> str:
        token = self.take(("word", "string"), what)
        return json.loads(token.text) if token.kind == "string" else token.text

    def block(self, block: Block, scope: dict[str, Value]) -> None:
        self.expect("{", "'{' and the ops")
        while not self.accept("return"):
            block.ops.append(self.op(scope))
        if not self.at("}"):
            block.results = self.sequence(lambda: self.operand(scope))
        self.expect("}", "'}' after the results")

    # Ops ------------------------------------------------------------------------------------------------

    def op(self, scope: dict[str, Value]) -> Op:
        names = []
        if self.next.kind == "value":
            names = self.sequence(lambda: self.take("value", "a value's name"))
            self.expect("=", "'=' and an op")
        name = self.take("word", "an op or 'return'")
        primitive = PRIMITIVES.get(name.text)
        if primitive is None:
            self.fail(f"there is no primitive named {name}{_suggestion(name.text, PRIMITIVES)}", name)
        operands = [] if self.at("{", ":") else self.sequence(lambda: self.operand(scope))
        attributes = dict(self.between("{", "}", self.attribute)) if self.at("{") else {}
        colon = self.expect(":", "',' and an operand, '{' and attributes, or ':' and the type")
        types = self.between("(", ")", self.type) if self.at("(") else self.sequence(self.type)
        location = self.location()
        regions = []
        while self.at("("):
            regions.append(self.region())
        self.check(primitive, operands, attributes, regions, types, name, colon)
        op = Op(primitive, operands, attributes, types, location, regions)
        if len(names) != len(types):
            self.fail(f"{name} has {len(types)} results, but {len(names)} names", name)
        for token, result in zip(names, op.results, strict=True):
            self.define(token, result, scope)
        return op

    def region(self) -> Block:
        """A nested block: it sees nothing of what surrounds it, and nothing outside sees its values."""
        inner: dict[str, Value] = {}
        block = Block(value for value, _ in self.between("(", ")", lambda: self.parameter(inner)))
        self.block(block, inner)
        return block

    def check(
        self,
        primitive: Primitive,
        operands: list[Value],
        attributes: dict[str, Any],
        regions: list[Block],
        types: list[TensorType],
        name: _Token,
        colon: _Token,
    ) -> None:
        dtype = attributes.get("dtype")
        if isinstance(dtype, str):
            self.fail(f"{primitive.name}: there is no dtype {dtype!r}", name)
        try:
            inferred = infer_types(primitive, [operand.type for operand in operands], attributes, regions)
        except (TypeError, ValueError, LookupError) as error:
            self.fail(f"{primitive.name}: {_reason(error, primitive)}", name)
        if inferred != tuple(types):
            self.fail(f"{primitive.name} gives {_list(inferred)} here, not {_list(types)}", colon)

    def location(self) -> Location | None:
        """What the comment behind the last token says."""
        match = LOCATION.match(self.text, self.tokens[self.position - 1].end)
        if match is None:
            return None
        gradient, file, line, user_file, user_line = match.groups()
        via = (file.strip('"'), int(line)) if file else None
        return Location(user_file.strip('"'), int(user_line), via, gradient is not None)

    def attribute(self) -> tuple[str, Any]:
        name = self.take("word", "an attribute's name").text
        return name, self.attribute_value() if self.accept("=") else True

    def attribute_value(self) -> Any:
        if self.at("["):
            return tuple(self.between("[", "]", self.attribute_value))
        token = self.take(("number", "word", "string", "symbol"), "an attribute's value")
        words: dict[str, Any] = {"true": True, "false": False, "none": None, **DTYPES_BY_SHORT_NAME}
        match token.kind:
            case "number":
                return float(token.text) if _is_float(token.text) else int(token.text)
            case "string":
                return json.loads(token.text)
            case "symbol":
                return Symbol(token.text[1:])
        return words.get(token.text, token.text)

    # Values and types -----------------------------------------------------------------------------------

    def operand(self, scope: dict[str, Value]) -> Value:
        token = self.next
        if token.kind == "value":
            self.position += 1
            if token.text[1:] not in scope:
                self.fail(f"{token.text} is not defined here{_suggestion(token.text[1:], scope, '%')}", token)
            return scope[token.text[1:]]
        if token.kind == "digest":
            return self.stored_constant()
        if self.at("["):
            literals = self.between("[", "]", self.literal)
            self.expect(":", "':' and the array's type")
            type = self.type()
            array = self.array(literals, type.dtype, token)
            if array.size != type.size:
                self.fail(f"{type} has {type.size} elements, here are {array.size}", token)
            return Constant(array.reshape(type.static_shape))
        literal = self.literal()
        dtype = self.dtype_suffix() or _usual_dtype(literal)
        return Constant(self.array([literal], dtype, token).reshape(()))

    def stored_constant(self) -> Constant:
        token = self.take("digest", "a digest")
        key = token.text.removeprefix("constant<sha256:").removesuffix(">")
        self.expect(":", "':' and the array's type")
        type = self.type()
        array = self.constants.get(key)
        if array is None:
            self.fail(f"no array with the digest {key} is among the constants that parse was given", token)
        if type_of(array) != type:
            self.fail(f"the array with the digest {key} is {type_of(array)}, not {type}", token)
        return Constant(array)

    def literal(self) -> list[_Token]:
        """The tokens of one number: two for a complex one."""
        if self.at("("):
            pair = self.between("(", ")", lambda: self.take(("number", "bits"), "a number"))
            if len(pair) != 2:
                self.fail(f"a complex number has 2 parts, not {len(pair)}")
            return pair
        if self.next.kind in ("number", "bits") or self.at("true", "false"):
            self.position += 1
            return [self.tokens[self.position - 1]]
        return self.fail(f"expected a value or a constant, found {self.next}")

    def array(self, literals: list[list[_Token]], dtype: DType, token: _Token) -> np.ndarray:
        if dtype.kind == "c":
            if any(len(literal) != 2 for literal in literals):
                self.fail(f"a constant of {short_name(dtype)} is written (real, imaginary)", token)
            part = np.empty(0, dtype).real.dtype
            return self.array([[number] for literal in literals for number in literal], part, token).view(dtype)
        if any(len(literal) != 1 for literal in literals):
            self.fail(f"a pair is complex, not {short_name(dtype)}", token)
        return np.concatenate([np.empty(0, dtype), *(self.element(number, dtype) for (number,) in literals)])

    def element(self, token: _Token, dtype: DType) -> np.ndarray:
        """One number as an array of one element, to the bit."""
        text = token.text
        try:
            if token.kind == "bits" and is_floating(dtype):
                return np.array([int(text[4:-1], 16)], f"u{dtype.itemsize}").view(dtype)
            if dtype == bool_ and text in ("true", "false"):
                return np.array([text == "true"])
            if token.kind == "number" and is_integer(dtype) and not _is_float(text):
                return np.array([int(text)], dtype)
            if token.kind == "number" and is_floating(dtype) and _is_float(text):
                return np.array([float(text)]).astype(dtype)
        except OverflowError:
            pass
        return self.fail(f"{text} is no {short_name(dtype)}", token)

    def dtype_suffix(self) -> DType | None:
        """``:f64`` right behind a literal."""
        before, colon, word = self.tokens[self.position - 1 : self.position + 2]
        if colon.text != ":" or colon.start != before.end or word.start != colon.end:
            return None
        self.position += 1
        return self.dtype()

    def type(self) -> TensorType:
        dtype = self.dtype()
        return TensorType(dtype, tuple(self.between("[", "]", self.dimension)))

    def dtype(self) -> DType:
        token = self.next
        if token.text not in DTYPES_BY_SHORT_NAME:
            self.fail(f"expected a type like f32[64,128], found {token}")
        self.position += 1
        return DTYPES_BY_SHORT_NAME[token.text]

    def dimension(self) -> Dim:
        token = self.take(("number", "word"), "an extent")
        if token.kind == "word":
            return Symbol(token.text)
        if not token.text.isdecimal():
            self.fail(f"an extent is an integer from 0 up or a symbol, not {token}", token)
        return int(token.text)

    # Tokens ---------------------------------------------------------------------------------------------

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def at(self, *texts: str) -> bool:
        return self.next.text in texts and self.next.kind in ("mark", "word")

    def accept(self, text: str) -> bool:
        found = self.at(text)
        self.position += found
        return found

    def expect(self, text: str, what: str) -> _Token:
        if not self.accept(text):
            self.fail(f"expected {what}, found {self.next}")
        return self.tokens[self.position - 1]

    def take(self, kinds: str | tuple[str, ...], what: str) -> _Token:
        token = self.next
        if token.kind not in ((kinds,) if isinstance(kinds, str) else kinds):
            self.fail(f"expected {what}, found {token}")
        self.position += 1
        return token

    def sequence(self, item: Callable[[], T]) -> list[T]:
        items = [item()]
        while self.accept(","):
            items.append(item())
        return items

    def between(self, opening: str, closing: str, item: Callable[[], T]) -> list[T]:
        """Items with commas in brackets; a comma may stand behind the last."""
        self.expect(opening, f"'{opening}'")
        items: list[T] = []
        while not self.accept(closing):
            items.append(item())
            if not self.accept(","):
                self.expect(closing, f"',' or '{closing}'")
                break
        return items

    def define(self, token: _Token, value: Value, scope: dict[str, Value]) -> None:
        name = token.text[1:]
        if name in scope:
            self.fail(f"{token.text} is defined already", token)
        scope[name] = value
        value.name = None if NUMBERED.fullmatch(name) else name

    def fail(self, message: str, token: _Token | None = None) -> NoReturn:
        raise ParseError(message, self.text, (token or self.next).start) from None


def _reason(error: Exception, primitive: Primitive) -> str:
    """What a type rule has to say, where it is about the arguments of a Python function in the text's own words."""
    text = str(error).removeprefix(f"{primitive.name}: ")
    if match := re.search(r"unexpected keyword argument '(\w+)'", text):
        return f"there is no attribute {match[1]}"
    if match := re.search(r"missing \d+ required (?:keyword-only|positional) arguments?: (.*)", text):
        return f"operands or attributes are missing: {match[1]}".replace("'", "")
    if match := re.search(r"got multiple values for argument '(\w+)'", text):
        return f"there are more operands than it takes; {match[1]} is an attribute"
    if match := re.search(r"takes (\d+) positional arguments? but (\d+) (?:was|were) given", text):
        return f"takes {match[1]} operands, got {match[2]}"
    return text


def _is_float(text: str) -> bool:
    return not text.removeprefix("-").isdecimal()


def _usual_dtype(literal: list[_Token]) -> DType:
    """What a scalar is where the text does not say."""
    token = literal[0]
    if token.text in ("true", "false"):
        return bool_
    return float32 if token.kind == "bits" or _is_float(token.text) else int64


def _suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _list(types: Iterable[TensorType]) -> str:
    return ", ".join(map(repr, types)) or "()"
