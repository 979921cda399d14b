"""Kernels that are called again and again in a row, as an optimizer's for each parameter, in one launch.

Calls of one map that do not wait for each other are taken together; those between them may be done before or after.
What each reads and writes is told by where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tracejit.ir import Value

from ..control import Place
from ..program import Call, CopyCall, DotCall, KernelCall
from . import codegen

NEAR = 64  # other calls that are looked through for one of the same kernel
TABLE_BYTES = 32_000  # of arguments, of the 32,764 that a launch may have
CAPACITIES = (4, 16, 64, 256, 1024)  # sets that there are functions for


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls of one kernel, done by one launch."""

    calls: list[KernelCall]

    @property
    def entry(self) -> codegen.Entry:
        first = self.calls[0]
        sets = next(count for count in CAPACITIES if count >= len(self.calls))
        return codegen.entry_for_sets(codegen.launch_of(first.kernel, first.parameters).entry, sets)


def capacity(call: KernelCall) -> int:
    """How many sets of buffers and parameters one launch takes; 0 where each call needs one of its own."""
    if codegen.launch_of(call.kernel, call.parameters).entry.form.kind != "thread":
        return 0
    words = len(call.buffers) + len(call.parameters)
    return max((count for count in CAPACITIES if count * (8 * words + 4) <= TABLE_BYTES), default=0)


def together(calls: Sequence[Call], places: Mapping[Value, Place]) -> list[Call | Batch]:
    """The calls in an order that means the same, with batches for those that can be done at once."""
    found: list[Call | Batch] = []
    alike: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        if isinstance(call, KernelCall):
            alike.setdefault(call.kernel.text, []).append(number)
    done: set[int] = set()
    for number, call in enumerate(calls):
        if number in done:
            continue
        others = [other for other in alike.get(call.kernel.text, ()) if number < other and other not in done] if (
            isinstance(call, KernelCall)
        ) else []  # fmt: skip
        if others and others[0] - number <= NEAR and (most := capacity(call)) > 1:  # type: ignore[arg-type]
            batch = [number, *_joined(calls, number, set(others), most, done, places)]
            done.update(batch)
            if len(batch) > 1:
                found.append(Batch([calls[place] for place in batch]))  # type: ignore[misc]
                continue
        found.append(call)
    return found


def _joined(
    calls: Sequence[Call], first: int, alike: set[int], most: int, done: set[int], places: Mapping[Value, Place]
) -> list[int]:
    """Which of the calls that are alike can be done with the first: they wait for nothing in between."""
    passed, near, joined = _Touched(), NEAR, list[int]()
    passed.add(calls[first], places)
    for number in range(first + 1, len(calls)):
        call = calls[number]
        if number in done:
            continue
        if not near or len(joined) + 1 == most or not isinstance(call, KernelCall | DotCall | CopyCall):
            break
        if number in alike and not passed.conflicts(call, places):
            joined.append(number)
        else:
            near -= 1
        passed.add(call, places)
    return joined


Stretch = tuple[str, int, int]  # a part of a space: from where to where


class _Touched:
    """The memory that some calls read and write."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str, bool], list[Stretch]] = {}  # by space and whether it is written
        self._unknown = False

    def add(self, call: Call, places: Mapping[Value, Place]) -> None:
        for stretch, is_written in _stretches(call, places):
            self._spaces.setdefault((stretch[0], is_written), []).append(stretch)
            self._unknown = self._unknown or stretch[0] == "cursor"

    def conflicts(self, call: Call, places: Mapping[Value, Place]) -> bool:
        """Whether a call must stay behind these."""
        for (space, first, last), is_written in _stretches(call, places):
            if self._unknown or space == "cursor":
                return True
            known = [
                *self._spaces.get((space, True), ()),
                *(self._spaces.get((space, False), ()) if is_written else ()),
            ]
            if any(first < other_last and other_first < last for _, other_first, other_last in known):
                return True
        return False


def _stretches(call: Call, places: Mapping[Value, Place]) -> Iterator[tuple[Stretch, bool]]:
    """What a call touches, and whether it writes that.  What a cursor stands for is part of something unknown here."""
    for number, value in enumerate(call.buffers):
        is_written = True
        if isinstance(call, KernelCall):
            is_written = call.kernel.buffers[number].written
        elif isinstance(call, CopyCall):
            is_written = value is call.target
        place = places[value]
        if place.space == "arena":
            yield ("arena", place.number, place.number + max(value.type.nbytes, 1)), is_written
        else:
            yield ("cursor" if place.space == "cursor" else f"{place.space} {place.number}", 0, 1), is_written
