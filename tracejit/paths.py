"""Paths: what a jitted function does, as a tree of segments that part where Python asked for a value.

A segment is a straight stretch of ops.  It ends with a :class:`Decision`, a value that Python code wanted to
know (``if loss > 3:``, ``int(n)``), or with the function's end.  For each outcome of a decision that has been seen
there are segments that follow it, usually one; several where the function also relied on something outside (its
guards tell them apart).  Running a call is walking down the tree: run a segment's program, look at the decision,
go on.  Nothing outside is changed before the end, so a call that meets an outcome never seen can start over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir import Constant, Graph, Location, Symbol, Value
from tracejit.ir.extents import Bindings, Extent, Fact, Sizes
from tracejit.ir.facts import facts
from tracejit.ir.types import short_name

from .guards import Guard
from .locations import at_user_line
from .sources import Input
from .tensor import Tensor

if TYPE_CHECKING:
    from .compiled import Code, Ending


MAX_ALTERNATIVES = 16  # segments for one outcome, which differ in what they rely on
MAX_INSTANCES = 256  # numbers of elements that programs are kept for, after one decision


@facts(frozen=True)
class Decision:
    """A value that Python code asked for."""

    value: Value
    what: str
    location: Location | None
    symbol: Symbol | None = None  # an extent: what follows is the same for each, but for what the symbol stands for


@facts(frozen=True)
class Check:
    """What must have been true for a call to be right: a value, and the error where it was false."""

    predicate: Value
    error: type[Exception]
    message: str  # with {} where extents stand
    location: Location | None
    extents: tuple[Any, ...] = ()

    def fail(self) -> None:
        raise at_user_line(
            self.error(self.message.format(*self.extents) if self.extents else self.message), self.location
        )


@facts(eq=False)
class Segment:
    """A stretch of ops, what it relies on, and what comes after it."""

    name: str
    after: Segment | None = None
    outcome: np.ndarray | None = None  # of the decision before it
    themselves: bool = False  # of a root: the arguments are tensors that the function reaches by itself too
    graph: Graph = field(init=False)  # the parameters read here, the ops; no results
    inputs: dict[Value, Input] = field(default_factory=dict)  # of the parameters
    guards: list[Guard] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    decision: Decision | None = None
    children: dict[bytes, list[Segment]] = field(default_factory=dict)
    ending: Ending | None = None
    needed: dict[Value, None] = field(default_factory=dict)  # what later segments read of it
    code: Code | None = None
    early: int = 0  # how many of the ops belong to its gradient, and were not recorded
    anomaly: bool = False  # detect_anomaly() was entered
    seconds: float = 0.0  # that tracing took
    device: str | None = None  # where its tensors are, if not on the CPU
    sizes: Sizes = field(default_factory=Sizes)  # of the tree: what symbols stood for when it was traced last
    facts: list[tuple[Fact, Location | None]] = field(default_factory=list)  # what holds of extents, and who asked
    axes: Mapping[tuple[int, int], Symbol] = field(default_factory=dict)  # of a root: which arguments' extents vary
    templates: list[Segment] = field(default_factory=list)  # where the decision is an extent: what follows, for any
    template: Segment | None = None  # what this was made of, with numbers for symbols
    bindings: Bindings = field(default_factory=dict)  # which numbers
    values: dict[Value, Value] = field(default_factory=dict)  # a value of the templates on the way → of this path
    compiles_late: bool = False  # extents that may never be met again: it runs op by op at first

    def __post_init__(self) -> None:
        self.graph = Graph(self.name)
        if self.after is not None:
            self.sizes = self.after.sizes

    def path(self) -> list[Segment]:
        """The segments from the first to this one."""
        return [*(self.after.path() if self.after is not None else ()), self]

    @property
    def is_complete(self) -> bool:
        """Whether it was recorded to its end."""
        return self.decision is not None or self.ending is not None

    @property
    def origin(self) -> Segment:
        """What was traced: this segment, or its template."""
        return self.template or self

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        return all(guard.holds(tensors) for guard in self.guards)

    def admits(self, bindings: Bindings) -> bool:
        """Whether what it relies on holds of these extents."""
        return all(fact.holds(bindings) for fact, _ in self.facts)

    def decide(self, decision: Decision) -> None:
        self.decision = decision

    def follow(self, outcome: np.ndarray, tensors: Sequence[Tensor]) -> Segment | None:
        """The segment after this one for an outcome of its decision; ``None`` where there is none yet."""
        return choose(self.children.get(outcome.tobytes(), ()), tensors)

    def traced_after(self, outcome: np.ndarray, tensors: Sequence[Tensor], bindings: Bindings) -> Segment | None:
        """What was traced after this segment (which was traced itself), and is right for these extents."""
        assert self.decision is not None
        known = self.children.get(outcome.tobytes(), ()) if self.decision.symbol is None else self.templates
        return choose([segment for segment in known if segment.admits(bindings)], tensors)

    def new_child(self, outcome: np.ndarray) -> Segment:
        """A segment to record after this one; it takes its place in the tree when it is complete."""
        number = sum(len(alternatives) for alternatives in self.children.values()) + len(self.templates) + 1
        return Segment(f"{self.name}.{number}", self, outcome)

    def graft(self, outcome: np.ndarray | None) -> None:
        """Take the place in the tree, before the older ones for the same outcome."""
        if self.after is None or outcome is None:
            return
        decision = self.after.decision
        assert decision is not None
        is_template = decision.symbol is not None and self.template is None
        children = self.after.children
        siblings = self.after.templates if is_template else children.setdefault(outcome.tobytes(), [])
        if self not in siblings:
            siblings.insert(0, self)
            del siblings[MAX_ALTERNATIVES:]
            if decision.symbol is not None and len(children) > MAX_INSTANCES:
                del children[next(iter(children))]

    def walk(self) -> Iterator[Segment]:
        """This segment and all that follow it."""
        yield self
        for alternatives in list(self.children.values()):
            for child in list(alternatives):
                yield from child.walk()

    def defines(self) -> set[Value]:
        return {*self.graph.parameters, *(result for op in self.graph.ops for result in op.results)}

    def results(self) -> list[Value]:
        """What its program must give: what the end takes (in its order), the decision, checks, what is needed later."""
        wanted: dict[Value, None] = {} if self.ending is None else dict.fromkeys(self.ending.values)
        if self.decision is not None:
            wanted[self.decision.value] = None
        wanted.update((check.predicate, None) for check in self.checks)
        wanted.update(self.needed)
        own = {result for op in self.graph.ops for result in op.results}
        return [value for value in wanted if value in own or isinstance(value, Constant) or value in self.inputs]

    def made_of(self) -> str:
        """For which extents it was traced, for people, if for any: ``any n, m (n != 1): x f32[n,6], y f32[n,m]``."""
        where: dict[str, list[Any]] = {}
        for value in self.origin.graph.parameters:
            extents = [extent for extent in value.shape if type(extent) is Extent]
            if extents:
                shape = ",".join(map(expression, value.shape))
                where[f"{value.name or 'an input'} {short_name(value.dtype)}[{shape}]"] = extents
        decision = None if self.after is None else self.after.decision
        if decision is not None and decision.symbol is not None:
            where[decision.what] = [self.sizes.extent(decision.symbol)]
        if not where:
            return ""
        names = dict.fromkeys(expression(extent) for extents in where.values() for extent in extents)
        facts = f" ({', '.join(str(fact) for fact, _ in self.facts)})" if self.facts else ""
        return f"made of what was traced for any {', '.join(names)}{facts}: {', '.join(where)}"

    def shown(self) -> Iterator[Segment]:
        """This segment and those that follow it, of those made of one template the first."""
        seen: set[int] = set()
        for segment in self.walk():
            if segment.template is None or id(segment.template) not in seen:
                yield segment
            seen.add(id(segment.template))

    def describe(self) -> str:
        """The outcome that leads here, for people."""
        if self.after is None or self.after.decision is None or self.outcome is None:
            return ""
        outcome = self.outcome
        shown = outcome.item() if outcome.size == 1 else f"an array of {outcome.size} elements"
        decision = self.after.decision
        return f"where {decision.what} is {shown}" + (f" ({decision.location})" if decision.location else "")


def expression(extent: Any) -> str:
    """An extent as text."""
    return extent.expression if type(extent) is Extent else str(extent)


def choose(alternatives: Sequence[Segment], tensors: Sequence[Tensor]) -> Segment | None:
    """The first whose guards hold."""
    for segment in alternatives:
        if segment.holds(tensors):
            return segment
    return None
