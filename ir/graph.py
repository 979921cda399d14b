"""The graph: values in SSA form, made by ops, in a block.

A :class:`Graph` is a named block with parameters, ops in program order and results.  Ops that hold
control flow carry nested blocks as regions, which read nothing but their own parameters and constants.
A :class:`Constant` is a value with no op behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .facts import facts
from .types import DType, Shape, TensorType, type_of

if TYPE_CHECKING:
    from .primitive import Primitive


@facts(frozen=True)
class Location:
    """Where the user's code asked for an op.

    ``via`` is the library line that the user's line called, where that says more (a layer, an
    optimizer); ``gradient`` marks an op that differentiates the one written there.
    """

    file: str
    line: int
    via: tuple[str, int] | None = None
    gradient: bool = False

    def __str__(self) -> str:
        text = f"{_tail(self.file)}:{self.line}"
        if self.via is not None:
            text = f"{_tail(self.via[0])}:{self.via[1]} ← {text}"
        return f"gradient of {text}" if self.gradient else text


def _tail(path: str) -> str:
    """The last part of a path, with the folder where the name alone says too little; in quotes if it has spaces."""
    parts = path.replace("\\", "/").split("/")
    name = "/".join(parts[-2:]) if parts[-1] == "__init__.py" else parts[-1]
    return f'"{name}"' if any(letter.isspace() for letter in name) else name


class Value:
    """One SSA value: a type, the op that makes it (``None`` for a parameter), and a name to print."""

    __slots__ = ("name", "op", "type")

    def __init__(self, type: TensorType, name: str | None = None, op: Op | None = None) -> None:
        self.type = type
        self.name = name
        self.op = op

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    def __repr__(self) -> str:
        return f"<%{self.name or '?'}: {self.type}>"


class Constant(Value):
    """A value known when the graph is built; its array must not be written to."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(type_of(array))
        self.array = array

    def __repr__(self) -> str:
        return f"<constant {self.type}>"


class Op:
    """One application of a primitive."""

    __slots__ = ("attributes", "location", "operands", "primitive", "regions", "results")

    def __init__(
        self,
        primitive: Primitive,
        operands: Sequence[Value],
        attributes: Mapping[str, Any],
        result_types: Sequence[TensorType],
        location: Location | None = None,
        regions: Sequence[Block] = (),
    ) -> None:
        self.primitive = primitive
        self.operands = tuple(operands)
        self.attributes = dict(attributes)
        self.results = tuple([Value(type, None, self) for type in result_types])
        self.location = location
        self.regions = tuple(regions)

    @property
    def result(self) -> Value:
        """The only result of an op that has one."""
        (result,) = self.results
        return result

    def __repr__(self) -> str:
        operands = ", ".join(map(repr, self.operands))
        return f"<{self.primitive.name} {operands} -> {', '.join(repr(r.type) for r in self.results)}>"


class Block:
    """Parameters, ops in order, results."""

    __slots__ = ("ops", "parameters", "results")

    def __init__(self, parameters: Iterable[Value] = (), ops: Iterable[Op] = (), results: Iterable[Value] = ()) -> None:
        self.parameters = list(parameters)
        self.ops = list(ops)
        self.results = list(results)

    def uses(self) -> dict[Value, int]:
        """How often each value is read, results of the block included."""
        counts: dict[Value, int] = {}
        for op in self.ops:
            for operand in op.operands:
                counts[operand] = counts.get(operand, 0) + 1
            for region in op.regions:
                for value, count in region.uses().items():
                    counts[value] = counts.get(value, 0) + count
        for value in self.results:
            counts[value] = counts.get(value, 0) + 1
        return counts

    def walk(self) -> Iterator[Op]:
        """Every op, those in nested regions included."""
        for op in self.ops:
            yield op
            for region in op.regions:
                yield from region.walk()


class Graph(Block):
    """A named block: what one traced call does.

    ``sources`` says where a parameter's value is found (``model.0.weight``), ``result_names`` what a
    result is for (``model.0.weight'`` for its new value); both are for the reader alone.
    """

    __slots__ = ("name", "result_names", "sources")

    def __init__(
        self,
        name: str,
        parameters: Iterable[Value] = (),
        ops: Iterable[Op] = (),
        results: Iterable[Value] = (),
        sources: Mapping[Value, str] | None = None,
        result_names: Sequence[str] = (),
    ) -> None:
        super().__init__(parameters, ops, results)
        self.name = name
        self.sources = dict(sources or {})
        self.result_names = list(result_names)

    def __str__(self) -> str:
        from .printer import print_graph

        return print_graph(self)

    def __repr__(self) -> str:
        return f"<graph @{self.name}: {len(self.parameters)} parameters, {len(self.ops)} ops>"

    def __eq__(self, other: object) -> bool:
        """Two graphs are equal when they print alike: names, types, attributes, constants and order."""
        if not isinstance(other, Graph):
            return NotImplemented
        from .printer import print_graph

        return print_graph(self, locations=False) == print_graph(other, locations=False)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Graph:
        """The same graph with ops and values of its own, safe to change."""
        return _Rewriter(lambda op, operands, emit: None, shares=False).graph(self)

    def rewrite(self, rule: RewriteRule) -> Graph:
        """A graph in which ``rule`` has replaced ops, in one forward walk; this graph itself where it replaced none.

        It shares with this one what is before the first replaced op, and all that does not depend on any.
        ``rule(op, operands, emit)`` gets the op with its operands already rewritten.  It returns the
        values that stand for the op's results, ``()`` to drop an op that nothing reads any more, or
        ``None`` to keep the op.  ``emit(primitive, operands, attributes)`` adds an op in its place and
        returns its result; see :class:`Emit`.
        """
        rewriter = _Rewriter(rule)
        copy = rewriter.graph(self)
        return copy if rewriter.changed else self

    def replace(self, replacements: Mapping[Value, Value]) -> Graph:
        """A graph in which each key's uses read its value instead, and the ops so replaced are gone.

        A replacement is a constant or a value of this graph that is defined before the key.
        """

        def rule(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
            if op.results and all(result in replacements for result in op.results):
                return [rewriter.now(replacements[result]) for result in op.results]
            if len(op.results) == 1 and op.results[0] in named_later:  # a value of its own, that may get the name
                return (emit(op.primitive, operands, op.attributes),)
            return None

        if not replacements:
            return self
        named_later = {
            other for value, other in replacements.items()
            if value.name and other.name is None and other.op is not None and other.type.is_static
        }  # fmt: skip
        rewriter = _Rewriter(rule)
        return rewriter.graph(self)


NOTHING: Mapping[Value, Value] = {}


class Emit:
    """Adds ops where a rule of :meth:`Graph.rewrite` is at work."""

    def __init__(self, rewriter: _Rewriter, target: Block, location: Location | None) -> None:
        self.rewriter, self.target, self.location = rewriter, target, location

    def __call__(self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
        """The result of a new op."""
        result_type = primitive.infer([operand.type for operand in operands], attributes)
        op = Op(primitive, operands, attributes, [result_type], self.location)
        self.target.ops.append(op)
        self.rewriter.made.update(op.results)
        return op.results[0]

    def several(
        self,
        primitive: Primitive,
        operands: Sequence[Value],
        attributes: Mapping[str, Any],
        regions: Sequence[Block] = (),
        known: Mapping[Value, Value] = NOTHING,
    ) -> tuple[Value, ...]:
        """The results of a new op; ``regions`` are blocks of the old graph, rewritten by the same rule.

        ``known`` are constants for some of the values that the regions read.
        """
        self.rewriter.know(known)
        copies = [self.rewriter.copy(region) for region in regions]
        types = infer_types(primitive, [operand.type for operand in operands], attributes, copies)
        op = Op(primitive, operands, attributes, types, self.location, copies)
        self.target.ops.append(op)
        self.rewriter.made.update(op.results)
        return op.results

    def inline(self, region: Block, operands: Sequence[Value]) -> list[Value]:
        """The results of a region of the old graph, its ops put here, rewritten by the same rule."""
        return self.rewriter.inline(region, operands, self.target)


RewriteRule = Callable[[Op, tuple[Value, ...], Emit], "Sequence[Value] | None"]


class _Rewriter:
    """Writes a graph anew op by op, nested blocks included; ``rule`` may put something else in an op's place.

    ``shares``: ops that stay as they are belong to both graphs.
    """

    def __init__(self, rule: RewriteRule, *, shares: bool = True) -> None:
        self.rule = rule
        self.changed = False
        self.made: set[Value] = set()  # by rules
        self._shares = shares
        self._copies: dict[Value, Value] = {}

    def now(self, value: Value) -> Value:
        """What stands for ``value`` in the new graph."""
        return self._copies.get(value, value)

    def know(self, values: Mapping[Value, Value]) -> None:
        """What stands for some values."""
        self._copies.update(values)

    def graph(self, source: Graph) -> Graph:
        graph = Graph(source.name, result_names=source.result_names)
        self._fill(source, graph)
        graph.sources = {self.now(parameter): text for parameter, text in source.sources.items()}
        return graph

    def copy(self, source: Block) -> Block:
        """The block rewritten, with ops and values of its own."""
        shares, self._shares = self._shares, False
        copy = self._block(source)
        self._shares = shares
        return copy

    def inline(self, source: Block, operands: Sequence[Value], target: Block) -> list[Value]:
        """The results of ``source``, copies of its ops put to the end of ``target``."""
        shares, self._shares = self._shares, False
        self._copies.update(zip(source.parameters, operands, strict=True))
        self._walk(source, target)
        self._shares = shares
        return [self.now(value) for value in source.results]

    def _block(self, source: Block) -> Block:
        target = Block()
        is_same = self._fill(source, target)
        return source if is_same else target

    def _fill(self, source: Block, target: Block) -> bool:
        """Write a block; whether it is the same as before."""
        if self._shares:
            target.parameters = [*source.parameters]
        else:
            target.parameters = [Value(parameter.type, parameter.name) for parameter in source.parameters]
            self._copies.update(zip(source.parameters, target.parameters, strict=True))
        is_same = self._walk(source, target)
        target.results = [self.now(value) for value in source.results]
        return is_same and all(a is b for a, b in zip(source.results, target.results, strict=True))

    def _walk(self, source: Block, target: Block) -> bool:
        """Write ops; whether they are the same as before."""
        copies, rule, ops, shares = self._copies, self.rule, target.ops, self._shares
        is_same = shares
        emit = Emit(self, target, None)
        for old in source.ops:
            operands = old.operands
            for operand in operands:
                if operand in copies:
                    operands = tuple([copies.get(operand, operand) for operand in operands])
                    break
            emit.location = old.location
            replacement = rule(old, operands, emit)
            if replacement is None:
                regions = old.regions and tuple([self._block(region) for region in old.regions])
                if (
                    shares
                    and operands is old.operands
                    and all(a is b for a, b in zip(old.regions, regions, strict=True))
                ):
                    ops.append(old)
                    continue
                is_same = False
                types = [result.type for result in old.results]
                new = Op(old.primitive, operands, old.attributes, types, old.location, regions)
                ops.append(new)
                for result, twin in zip(old.results, new.results, strict=True):
                    copies[result] = twin
                    twin.name = result.name
                continue
            is_same = False
            self.changed = True
            for result, value in zip(old.results, replacement, strict=bool(replacement)):
                copies[result] = value
                if result.name is not None and value.name is None and value in self.made:
                    value.name = result.name
        return is_same


def copy_block(block: Block) -> Block:
    """The same block with ops and values of its own, to be an op's region."""
    return _Rewriter(lambda op, operands, emit: None, shares=False).copy(block)


def infer_types(
    primitive: Primitive, operand_types: Sequence[TensorType], attributes: Mapping[str, Any], regions: Sequence[Block]
) -> tuple[TensorType, ...]:
    """The types of an op's results by its primitive's rule.

    The rule of a primitive with regions gets them as the keyword ``regions``; the rule of one with
    several results, or none, returns a tuple.
    """
    keywords = {**attributes, "regions": tuple(regions)} if regions else attributes
    inferred: TensorType | tuple[TensorType, ...] = primitive.infer(operand_types, keywords)
    return (inferred,) if isinstance(inferred, TensorType) else inferred


class Builder:
    """Appends ops to a block, checking types as it goes."""

    def __init__(self, graph: Block, location: Location | None = None) -> None:
        self.graph = graph
        self.location = location

    def parameter(self, type: TensorType, name: str | None = None, source: str | None = None) -> Value:
        value = Value(type, name)
        self.graph.parameters.append(value)
        if source is not None:
            assert isinstance(self.graph, Graph), "a region's parameters come from its op"
            self.graph.sources[value] = source
        return value

    def append(self, op: Op) -> tuple[Value, ...]:
        self.graph.ops.append(op)
        return op.results

    def apply(self, primitive: Primitive, operands: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
        """Append one op and return its result."""
        result_type = primitive.infer([operand.type for operand in operands], attributes)
        (result,) = self.append(Op(primitive, operands, attributes, [result_type], self.location))
        return result

    def apply_several(
        self,
        primitive: Primitive,
        operands: Sequence[Value],
        attributes: Mapping[str, Any],
        regions: Sequence[Block] = (),
    ) -> tuple[Value, ...]:
        """Append one op with any number of results, and return them; the regions become its own."""
        types = infer_types(primitive, [operand.type for operand in operands], attributes, regions)
        return self.append(Op(primitive, operands, attributes, types, self.location, regions))
