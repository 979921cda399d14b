"""Templates: what was traced once for arguments of any extents, and the paths made of it for each.

The first call of a function is traced as it stands.  When a call comes whose arguments differ in some extents alone,
the function is traced with symbols for those (:mod:`tracejit.ir.extents`); the segments so recorded are *templates*.
A path for given extents is a template with numbers for the symbols, made without running Python code of the user's.
So is what follows a count that only the call finds out, as of the elements that a mask selects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir import Graph, Location, Symbol
from tracejit.ir.extents import Bindings, Extent, Substitution, substitute, symbols_of
from tracejit.ir.facts import facts, replace

from .paths import Segment
from .sources import Argument

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall
    from .compiled import Backward, Ending, Output
    from .tensor import Tensor

MAX_TEMPLATES = 16  # of one family of calls
MAX_ATTEMPTS = 16  # at tracing for any extents, each good for some only
MAX_HISTORY = 64  # shapes of calls that are remembered

Axis = tuple[int, int]  # of which tensor argument, and which of its axes


@facts(frozen=True)
class _Template:
    """What was traced for any extents, and the calls that it is right for."""

    root: Segment
    kind: Any
    keep: list[Any]  # objects that the kind names by identity


class Dimensions:
    """The extents that the arguments of a family of calls have had, and what was traced for any."""

    def __init__(self) -> None:
        self._templates: list[_Template] = []
        self.fixed: dict[Axis, Location | None] = {}  # axes whose number Python code asked for, and where
        self.are_fixed = False  # tracing it for any extents went wrong
        self.attempts = 0
        self._history: list[tuple[tuple[int, ...], ...]] = []

    def add(self, tensors: Sequence[Tensor]) -> None:
        """A call's shapes."""
        shapes = tuple([tensor._value.shape for tensor in tensors])
        if shapes not in self._history:
            self._history.append(shapes)
            del self._history[1:-MAX_HISTORY]

    def varying(self) -> list[list[Axis]]:
        """The axes whose extents have differed, those that never differed from one another together."""
        if self.are_fixed or self.attempts >= MAX_ATTEMPTS:
            return []
        groups: dict[tuple[int, ...], list[Axis]] = {}
        for position, shape in enumerate(self._history[0]):
            for axis in range(len(shape)):
                extents = tuple([shapes[position][axis] for shapes in self._history])
                if len(set(extents)) > 1:
                    groups.setdefault(extents, []).append((position, axis))
        return [axes for axes in groups.values() if self.fixed.keys().isdisjoint(axes)]

    def note_fixed(self, path: Sequence[Segment]) -> None:
        """Remember the axes whose numbers a trace has asked for: they are traced as they stand from now on."""
        self.attempts += 1
        for segment in path:
            for fact, location in segment.facts:
                symbols = symbols_of(fact.terms) if fact.fixes else ()
                self.fixed.update({axis: location for axis, symbol in path[0].axes.items() if symbol in symbols})

    def add_template(self, call: ArgumentsOfCall, root: Segment) -> None:
        if all(root is not known.root for known in self._templates):
            self._templates.insert(0, _Template(root, call.kind_for_any_extents(), call.named_by_identity))
            del self._templates[MAX_TEMPLATES:]

    def path_for(self, call: ArgumentsOfCall, known: Sequence[Segment]) -> Segment | None:
        """The beginning of a path for a call, made of a template that none of the ``known`` ones is made of."""
        used, kind = {id(root.template) for root in known}, call.kind_for_any_extents()
        for template in self._templates:
            root = template.root
            if template.kind == kind and id(root) not in used and root.holds(call.tensors):
                bindings = _bindings(root, call.tensors)
                if bindings is not None and root.admits(bindings):
                    return _late(made_of(root, bindings, None, None))
        return None


def _bindings(root: Segment, tensors: Sequence[Tensor]) -> dict[Symbol, int] | None:
    """What a template's symbols stand for in a call; ``None`` where it was traced for other shapes."""
    found: dict[Symbol, int] = {}
    for value, source in root.inputs.items():
        if isinstance(source, Argument):
            for expected, extent in zip(value.shape, tensors[source.position]._value.shape, strict=True):
                if type(expected) is Extent:
                    (symbol,) = symbols_of(expected.terms)
                    expected = found.setdefault(symbol, extent)
                if expected != extent:
                    return None
    return found


def following(segment: Segment, outcome: np.ndarray, tensors: Sequence[Tensor]) -> Segment | None:
    """What comes after a segment for an outcome that it has not had, where that was traced for other extents."""
    decision = segment.decision
    assert decision is not None
    if decision.symbol is None and segment.template is None:
        return None
    bindings = _with(segment.bindings, decision.symbol, outcome)
    template = segment.origin.traced_after(outcome, tensors, bindings)
    return None if template is None else _late(made_of(template, bindings, segment, outcome))


def _late(made: Segment) -> Segment:
    made.compiles_late = True
    return made


def _with(bindings: Bindings, symbol: Symbol | None, outcome: np.ndarray) -> Bindings:
    return bindings if symbol is None else {**bindings, symbol: int(outcome)}


def path_along(
    traced: Sequence[Segment], outcomes: Sequence[np.ndarray | None], known: Segment | None
) -> list[Segment]:
    """The path of a call that has been traced, its segments made of templates where they are such.

    ``known`` is the first, if it is there already.
    """
    first = traced[0]
    if known is None:
        known = first if not first.axes else made_of(first, dict(first.sizes.bindings), None, None)
    path = [known]
    for template, outcome in zip(traced[1:], outcomes[1:], strict=True):
        last = path[-1]
        assert last.decision is not None
        assert outcome is not None
        symbol = last.decision.symbol
        there = [s for s in last.children.get(outcome.tobytes(), ()) if s.origin is template]
        if there:
            path.append(there[0])
        elif symbol is None and not last.bindings:
            path.append(template)
        else:
            path.append(made_of(template, _with(last.bindings, symbol, outcome), last, outcome))
    return path


def made_of(template: Segment, bindings: Bindings, after: Segment | None, outcome: np.ndarray | None) -> Segment:
    """A segment with numbers for a template's symbols, to come after another that was made so (or is no template)."""
    made = Segment(template.name, after, outcome, template.themselves)
    if after is None:
        made.sizes = template.sizes
    values = dict(after.values) if after is not None else {}
    copy = Substitution(bindings, values)
    made.template, made.bindings, made.values = template, bindings, values
    made.anomaly, made.device = template.anomaly, template.device
    parameters = [copy.parameter(value) for value in template.graph.parameters]
    made.graph = Graph(template.graph.name, parameters, [copy.op(op) for op in template.graph.ops])
    made.graph.sources = {values[value]: text for value, text in template.graph.sources.items()}
    made.inputs = {values[value]: source for value, source in template.inputs.items()}
    made.guards = template.guards
    made.facts = template.facts
    made.checks = [
        replace(check, predicate=copy.value(check.predicate), extents=substitute(check.extents, bindings))
        for check in template.checks
    ]
    if template.decision is not None:
        made.decision = replace(template.decision, value=copy.value(template.decision.value))
    if template.ending is not None:
        made.ending = _ending(template.ending, made, copy)
    return made


def _ending(ending: Ending, made: Segment, copy: Substitution) -> Ending:
    outputs = {id(output): _output(output, copy.bindings) for output in ending.outputs}
    for store in ending.stores:
        outputs.update((id(output), _output(output, copy.bindings)) for output in store.outputs)
    backward = None
    if ending.backward is not None:
        backward = _backward(ending.backward, made, copy)
    return replace(
        ending,
        values=[copy.value(value) for value in ending.values],
        outputs=[outputs[id(output)] for output in ending.outputs],
        stores=[replace(store, outputs=[outputs[id(output)] for output in store.outputs]) for store in ending.stores],
        backward=backward,
        parameters=[copy.value(value) for value in ending.parameters],
        labels=list(ending.labels),
        places=None if ending.places is None else list(ending.places),
        calls=0,
        signed=[],
    )


def _output(output: Output, bindings: Bindings) -> Output:
    if type(output.static) is Extent:
        return replace(output, static=substitute(output.static, bindings))
    return output


def _backward(backward: Backward, made: Segment, copy: Substitution) -> Backward:
    cotangents = [copy.parameter(value) for value in backward.cotangents]
    ops = [op for segment in made.path() for op in segment.graph.ops]
    forward_ops = len(ops)
    ops += [copy.op(op) for op in backward.joint.ops[backward.forward_ops :]]
    joint = Graph(backward.joint.name, [copy.value(value) for value in backward.joint.parameters], ops)
    leaf_values = [(source, copy.value(value)) for source, value in backward.leaf_values]
    gradients = [copy.value(value) for value in backward.gradients]
    return replace(
        backward,
        joint=joint,
        forward_ops=forward_ops,
        cotangents=cotangents,
        gradients=gradients,
        leaf_values=leaf_values,
        graph=None,
        residuals=[],
        kept=[],
        _executable=None,
        _partial={},
    )
