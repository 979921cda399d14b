"""Python's ``for`` loops over long ranges as loops of the graph: traced once, whatever the number of trips.

While a function is traced, Python runs the first trip of a ``for`` as any other code.  As the second one is about to
begin, the interpreter stops where debuggers have it stop (``sys.settrace``): between two trips.  The range's iterator,
which lies on the frame's stack, says how many there are left.  Where that means many ops, the body is recorded once,
as the block of a ``scan``; the variables of the frame are set to what they are after it, and the iterator is used up.

What cannot be captured (a number that must be known, an effect on a Python object, shapes that change) is recorded
trip by trip, as if nobody had tried.
"""

from __future__ import annotations

import ast
import ctypes
import dis
import platform
import sys
import types
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from tracejit.ir.facts import facts

from .disguise import disguised
from .levels import derivatives_here
from .locations import is_library
from .loop_source import Loop, find_for
from .loops import GENERATOR, Namespace, Recording, set_variables
from .names import mentioned
from .ops import elementwise
from .regions import CannotCapture
from .structured import scan
from .tensor import Tensor
from .tracing import Untraceable

if TYPE_CHECKING:
    from .tracing import Trace

# To capture a loop takes the time of a few trips, and of as many ops as are recorded in about three milliseconds.
LEAST_TRIPS = 8
LEAST_OPS = 200  # that need not be recorded

_Place = tuple[types.CodeType, int]  # where a loop is: its code, and the offset of the instruction that begins a trip


class ForLoops:
    """The ``for`` loops that Python is in while a function is traced."""

    def __init__(self, trace: Trace, outermost: types.FrameType) -> None:
        self._trace, self._outermost = trace, outermost
        self._ops = 0
        self._line: tuple[int, int] | None = None
        self._settled: set[_Place] = set()  # those that are short, or cannot be captured
        self._watched: dict[types.FrameType, dict[int, int]] = {}  # loops in their first trip, and when that began

    def pass_by(self, frame: types.FrameType | None) -> None:
        """An op is about to be recorded, for a user's line."""
        self._ops += 1
        if frame is None or (id(frame), frame.f_lineno) == self._line:
            return
        self._line = id(frame), frame.f_lineno
        callers: list[types.FrameType] = []
        caller: types.FrameType | None = frame
        while caller is not self._outermost:
            if caller is None:  # the line calls what is traced
                return
            callers.append(caller)
            caller = caller.f_back
        for caller in callers:
            code = caller.f_code
            for start, stop in () if is_library(code.co_filename) else _bodies(code):
                if start < caller.f_lasti < stop and (code, start) not in self._settled:
                    self._watch(caller, start)

    def stop(self) -> None:
        """Watch none any more."""
        for frame in self._watched:
            frame.f_trace = None
        if self._watched:
            self._watched.clear()
            sys.settrace(None)

    def _watch(self, frame: types.FrameType, start: int) -> None:
        if frame not in self._watched:
            if sys.gettrace() not in (None, _pass):  # a debugger is at work
                return
            if frame.f_code.co_flags & GENERATOR or not (self._watched or is_possible()):
                self._settled.add((frame.f_code, start))
                return
            self._watched[frame] = {}
            frame.f_trace = self._look
            sys.settrace(_pass)
        self._watched[frame].setdefault(start, self._ops)

    def _look(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        """The interpreter is at a line, or leaves the frame."""
        loops = self._watched.get(frame)
        if loops is None:
            return None
        if event == "return":
            loops.clear()
        elif event == "line":
            if frame.f_lasti in loops:
                self._begin_trip(frame, frame.f_lasti, self._ops - loops.pop(frame.f_lasti))
            inside = {start for start, stop in _bodies(frame.f_code) if start <= frame.f_lasti < stop}
            for start in loops.keys() - inside:
                del loops[start]
        if not loops:
            del self._watched[frame]
            frame.f_trace = None
            if not self._watched:
                sys.settrace(None)
            return None
        return self._look

    def _begin_trip(self, frame: types.FrameType, start: int, ops: int) -> None:
        items = _items_of(_top_of_stack(frame))
        if items is not None and items.trips >= LEAST_TRIPS and items.trips * ops >= LEAST_OPS:
            loop = find_for(frame, start)
            if loop is not None and sys.call_tracing(self._capture, (frame, loop, items)):
                for numbers in items.ranges:
                    deque(numbers, maxlen=0)
                return
        self._settled.add((frame.f_code, start))

    def _capture(self, frame: types.FrameType, loop: Loop, items: _Items) -> bool:
        """Whether the rest of the loop has been captured: then the frame is as it would be after it."""
        failed = self._trace.failed
        try:
            capture(self._trace, frame, loop, items)
        except (CannotCapture, Untraceable, Exception) as reason:
            if isinstance(reason, CannotCapture) and self._trace.region is not None and not self._trace.capturing:
                raise
            self._trace.failed = failed
            return False
        return True


def capture(trace: Trace, frame: types.FrameType, loop: Loop, items: _Items) -> None:
    """Record the trips for the items, and set the frame's variables to what they are after them."""
    assert loop.target is not None
    targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    if targets & loop.assigned:
        raise CannotCapture("it assigns what its trips begin with")
    if _is_differentiated_twice(trace, frame, loop):
        raise CannotCapture("derivatives of derivatives are added up in the order of the steps")
    recording = Recording(trace, frame, loop)

    def body(number: Tensor, *twins: Tensor) -> list[Tensor]:
        inside = Namespace(trace, frame, loop)
        inside.variables = recording.variables(twins)
        _bind(inside.variables, loop.target, items.at(_Numbering(trace, number, items.trips, items.descends)))
        inside.run(loop.after)
        return recording.results_of(inside)

    with recording:
        results = scan(trace, body, recording.carries, (), items.trips, items.descends)
        last: dict[str, Any] = {}
        _bind(last, loop.target, items.last())
    set_variables(frame, {**recording.variables(results), **last})


def _is_differentiated_twice(trace: Trace, frame: types.FrameType, loop: Loop) -> bool:
    """Whether derivatives of the loop may have derivatives: not only those that it takes itself."""
    if derivatives_here() > 1:
        return True
    assert trace.world is not None
    asking = [known.__code__ for known in trace.world.functions if "create_graph" in mentioned(known.__code__)]
    own = any(isinstance(node, ast.keyword) and node.arg == "create_graph" for s in loop.after for node in ast.walk(s))
    return any(code is not frame.f_code for code in asking) or (bool(asking) and not own)


def _bind(variables: dict[str, Any], target: ast.expr | None, item: Any) -> None:
    """Assign an item to the target of a loop."""
    if isinstance(target, ast.Name):
        variables[target.id] = item
    elif isinstance(target, ast.Tuple | ast.List) and isinstance(item, tuple) and len(item) == len(target.elts):
        for part, value in zip(target.elts, item, strict=True):
            _bind(variables, part, value)
    else:
        raise CannotCapture("it unpacks something else than numbers and rows")


# What loops go through ----------------------------------------------------------------------------------


@facts
class _Numbering:
    """The number of a step, which ascends through the slices that steps read, even where the steps descend."""

    trace: Trace
    number: Tensor
    trips: int
    descends: bool

    def number_in(self, numbers: range) -> Tensor:
        """The step's number of some, as Python's."""
        ascending = numbers[::-1] if self.descends else numbers
        position = elementwise.add(elementwise.multiply(self.number, ascending.step), ascending.start)
        if ascending.step > 0:
            assert self.trace.region is not None
            self.trace.region.numbers[position._value] = ascending
        return disguised(position)


@facts
class _Items:
    """What is left of an iterator that goes through some ranges: ``at`` a step, and the last one."""

    ranges: list[Any]
    trips: int
    descends: bool
    at: Callable[[_Numbering], Any]
    last: Callable[[], Any]


def _items_of(iterator: Any) -> _Items | None:
    """What is left of an iterator over a range, rows of a tensor, or of ``enumerate`` and ``zip`` of those."""
    if type(iterator) is type(iter(range(0))):
        _, (numbers,), position = _parts_of(iterator)
        left = numbers[position:]
        return _Items([iterator], len(left), left.step < 0, lambda step: step.number_in(left), lambda: left[-1])
    if type(iterator) is map:
        _, (function, *inner) = _parts_of(iterator)
        owner = getattr(function, "__self__", None)
        items = _items_of(inner[0]) if len(inner) == 1 else None
        if items is None or not isinstance(owner, Tensor) or function.__name__ != "__getitem__":
            return None
        at, last = items.at, items.last
        return _Items(items.ranges, items.trips, items.descends, lambda step: owner[at(step)], lambda: owner[last()])
    if type(iterator) is enumerate:
        _, (inner, first) = _parts_of(iterator)
        items = _items_of(inner)
        if items is None:
            return None
        numbers = range(first, first + items.trips)
        return _together([_items_of(iter(numbers)), items])
    if type(iterator) is zip:
        return _together([_items_of(inner) for inner in _parts_of(iterator)[1]])
    return None


def _parts_of(iterator: Any) -> Any:
    """What an iterator would be made of again."""
    return iterator.__reduce__()


def _together(parts: Sequence[_Items | None]) -> _Items | None:
    """Several at a time, of the same number."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known or len({part.trips for part in known}) > 1:
        return None
    trips, descends = known[0].trips, any(part.descends for part in known)
    return _Items(
        [numbers for part in known for numbers in part.ranges], trips, descends,
        lambda step: tuple([part.at(step) for part in known]), lambda: tuple([part.last() for part in known]),
    )  # fmt: skip


def _pass(frame: types.FrameType, event: str, argument: Any) -> None:
    """What is called where Python enters a function: none but those that are watched already is looked at."""


# The interpreter's frames -------------------------------------------------------------------------------


@lru_cache(1 << 10)
def _bodies(code: types.CodeType) -> tuple[tuple[int, int], ...]:
    """Where the bodies of the code's ``for`` loops begin, each with the instruction that begins a trip, and end."""
    if _FOR_ITER not in code.co_code[::2]:
        return ()
    return tuple((i.offset, i.argval) for i in dis.get_instructions(code) if i.opcode == _FOR_ITER)


_FOR_ITER = dis.opmap["FOR_ITER"]

# PyFrameObject.f_frame; _PyInterpreterFrame.stacktop and .localsplus, in bytes.
_FRAME, _TOP, _ITEMS = 24, 64, 72


def _top_of_stack(frame: types.FrameType) -> Any:
    """What lies on top of the stack of a frame that the interpreter has stopped in."""
    inner = ctypes.c_int64.from_address(id(frame) + _FRAME).value
    top = ctypes.c_int.from_address(inner + _TOP).value
    if not 0 < top <= len(frame.f_code.co_varnames) + frame.f_code.co_stacksize + 64:
        return None
    item = ctypes.c_void_p.from_address(inner + _ITEMS + 8 * (top - 1)).value
    return None if item is None else ctypes.cast(item, ctypes.py_object).value


@cache
def is_possible() -> bool:
    """Whether this interpreter's frames are as they are known here."""
    if platform.python_implementation() != "CPython" or not (3, 11) <= sys.version_info < (3, 14):
        return False
    found: list[Any] = []

    def look(frame: types.FrameType, event: str, argument: Any) -> Any:
        if event == "line" and any(frame.f_lasti == start for start, _ in _bodies(frame.f_code)):
            found.append(_top_of_stack(frame))
        return look

    def loop(numbers: range) -> None:
        for _ in numbers:
            if sys.gettrace() is None:
                sys._getframe().f_trace = look
                sys.settrace(_pass)

    loop(range(2))
    sys.settrace(None)
    return len(found) == 2 and all(type(item) is type(iter(range(0))) for item in found)
