"""Paths: what a jitted function does, as a tree of segments that part where Python asked for a value.

A segment is a straight stretch of ops.  It ends with a :class:`Decision`, a value that Python code wanted to
know (``if loss > 3:``, ``int(n)``), or with the function's end.  For each outcome of a decision that has been seen
there are segments that follow it, usually one; several where the function also relied on something outside (its
guards tell them apart).  Running a call is walking down the tree: run a segment's program, look at the decision,
go on.  Nothing outside is changed before the end, so a call that meets an outcome never seen can start over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tracejit.ir import Constant, Graph, Location, Value

from .guards import Guard
from .locations import at_user_line
from .sources import Input
from .tensor import Tensor

if TYPE_CHECKING:
    from .compiled import Code, Ending


@dataclass(frozen=True)
class Decision:
    """A value that Python code asked for."""

    value: Value
    what: str
    location: Location | None


@dataclass(frozen=True)
class Check:
    """What must have been true for a call to be right: a value, and the error where it was false."""

    predicate: Value
    error: type[Exception]
    message: str
    location: Location | None

    def fail(self) -> None:
        raise at_user_line(self.error(self.message), self.location)


@dataclass(eq=False)
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
    anomaly: bool = False  # detect_anomaly() was entered
    seconds: float = 0.0  # that tracing took
    device: str | None = None  # where its tensors are, if not on the CPU

    def __post_init__(self) -> None:
        self.graph = Graph(self.name)

    @property
    def is_complete(self) -> bool:
        """Whether it was recorded to its end."""
        return self.decision is not None or self.ending is not None

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        return all(guard.holds(tensors) for guard in self.guards)

    def decide(self, decision: Decision) -> None:
        self.decision = decision

    def follow(self, outcome: np.ndarray, tensors: Sequence[Tensor]) -> Segment | None:
        """The segment after this one for an outcome of its decision; ``None`` where there is none yet."""
        return choose(self.children.get(outcome.tobytes(), ()), tensors)

    def new_child(self, outcome: np.ndarray) -> Segment:
        """A segment to record after this one; it takes its place in the tree when it is complete."""
        number = sum(len(alternatives) for alternatives in self.children.values()) + 1
        return Segment(f"{self.name}.{number}", self, outcome)

    def graft(self) -> None:
        """Take the place in the tree, before the older ones for the same outcome."""
        if self.after is not None and self.outcome is not None:
            alternatives = self.after.children.setdefault(self.outcome.tobytes(), [])
            if self not in alternatives:
                alternatives.insert(0, self)

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

    def describe(self) -> str:
        """The outcome that leads here, for people."""
        if self.after is None or self.after.decision is None or self.outcome is None:
            return ""
        outcome = self.outcome
        shown = outcome.item() if outcome.size == 1 else f"an array of {outcome.size} elements"
        decision = self.after.decision
        return f"where {decision.what} is {shown}" + (f" ({decision.location})" if decision.location else "")


def choose(alternatives: Sequence[Segment], tensors: Sequence[Tensor]) -> Segment | None:
    """The first whose guards hold."""
    for segment in alternatives:
        if segment.holds(tensors):
            return segment
    return None
