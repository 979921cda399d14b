"""Python's own loops as loops of the graph: ``while error > tolerance:`` compiles once, whatever the number of trips.

When Python asks whether a traced condition of a ``while`` statement holds, for the second time in one run of the
statement, the loop is captured: its source is read, the condition and the body are recorded once each as blocks, with
the variables that the body assigns as carries, and the variables of the running frame are set to the loop's results;
then Python is told that the loop is over.  The first trip has been recorded as any other code, so that all variables
have got values, and their types.

``if`` statements in the body on traced values become branches, with what follows them where they hold ``break`` or
``continue``.  A loop is captured at any condition that ends it, such as ``if condition: break``; a ``for`` over a
``range`` too, whose number is then carried (one that nothing else ends: see :mod:`.for_loops`).  What cannot be
captured (a ``return`` of several, an effect on a Python object) is recorded trip by trip, as code without a loop would
be.
"""

from __future__ import annotations

import ast
import ctypes
import sys
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .locations import user_location
from .loop_source import (
    BROKEN,
    EXIT,
    Loop,
    asked_at,
    contains,
    find_loop,
    has,
    is_negated,
    leaves,
    leaves_trip,
    own_nodes,
)  # fmt: skip
from .ops import creation, elementwise
from .places import Itself
from .regions import CannotCapture
from .structured import branches, while_loop
from .tensor import Tensor
from .world import Untracked, World

if TYPE_CHECKING:
    from .tracing import Trace


class _Leave(ast.Break):
    """A ``break`` by one of the loop's exits."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


# Running statements in a block --------------------------------------------------------------------------


class Namespace:
    """The variables that a captured piece of code sees: those of the frame, over its globals."""

    def __init__(self, trace: Trace, frame: types.FrameType, loop: Loop) -> None:
        self.trace, self.loop = trace, loop
        self.outside = {**frame.f_globals, **frame.f_locals}
        self.variables: dict[str, Any] = {}

    def evaluate(self, expression: ast.expr) -> Any:
        """The value of a condition: a tensor, or what Python says."""
        if isinstance(expression, ast.BoolOp):
            values = [self.evaluate(value) for value in expression.values]
            return self._all(values) if isinstance(expression.op, ast.And) else self._any(values)
        if isinstance(expression, ast.UnaryOp) and isinstance(expression.op, ast.Not):
            return _negated(self.evaluate(expression.operand))
        if isinstance(expression, ast.Compare) and len(expression.ops) > 1:
            sides = [expression.left, *expression.comparators]
            pairs = zip(sides, expression.ops, sides[1:], strict=False)
            return self._all([self.evaluate(_at(ast.Compare(a, [op], [b]), expression)) for a, op, b in pairs])
        self.trace.comparisons_are_tensors += 1
        try:
            value = eval(self._compiled(_at(ast.Expression(expression), expression), "eval"), self._scope())
        finally:
            self.trace.comparisons_are_tensors -= 1
        return value if isinstance(value, Tensor) else bool(value)

    def _all(self, values: list[Any]) -> Any:
        if any(value is False for value in values):
            return False
        tensors = [_truth(value) for value in values if value is not True]
        result: Any = True
        for tensor in tensors:
            result = tensor if result is True else elementwise.logical_and(result, tensor)
        return result

    def _any(self, values: list[Any]) -> Any:
        return _negated(self._all([_negated(value) for value in values]))

    def run(self, statements: Sequence[ast.stmt]) -> None:
        for number, statement in enumerate(statements):
            if isinstance(statement, ast.Continue):
                return
            if isinstance(statement, ast.Break):
                self.variables[BROKEN] = _truth(True)
                if isinstance(statement, _Leave):
                    self.variables[EXIT] = creation.tensor(statement.number)
                return
            if isinstance(statement, ast.If) and has(statement, ast.Break | ast.Continue | ast.Return):
                # What follows is done in the branches that do not leave the trip.
                rest = statements[number + 1 :]
                body, orelse = (
                    [_Leave(self.loop.exit_of(branch))] if self.loop.exit_of(branch) else [*branch, *rest]
                    for branch in (statement.body, statement.orelse)
                )
                self._branch(statement.test, body, orelse)
                return
            if isinstance(statement, ast.If):
                self._branch(statement.test, statement.body, statement.orelse)
            else:
                scope = self._scope()
                exec(self._compiled(ast.Module([statement], []), "exec"), scope)
                for name in self.loop.assigned:
                    if name in scope and scope[name] is not self.outside.get(name, _ABSENT):
                        self.variables[name] = scope[name]

    def trip(self) -> None:
        """From one test to the next."""
        loop = self.loop
        self.run(loop.after)
        begin: list[ast.stmt] = loop.before if loop.head is None else [self._begin(loop.head)]
        if begin and any(map(leaves, loop.after)):
            begin = [_at(ast.If(ast.Name(BROKEN, ast.Load()), [], begin), loop.test)]
        self.run(begin)

    def _begin(self, head: ast.While | ast.For) -> ast.stmt:
        """The beginning of the next trip, or the end of the loop."""
        if isinstance(head, ast.While):
            return _at(ast.If(head.test, self.loop.before, [ast.Break()]), head)
        name, numbers = self.loop.counter(self.outside)
        target, step = ast.Name(name, ast.Load()), ast.Constant(numbers.step)
        following = ast.BinOp(target, ast.Add(), step)
        goes_on = ast.Compare(following, [ast.Lt() if numbers.step > 0 else ast.Gt()], [ast.Constant(numbers.stop)])
        count = ast.Assign([ast.Name(name, ast.Store())], following)
        return _at(ast.If(goes_on, [count, *self.loop.before], [ast.Break()]), head)

    def _branch(self, test: ast.expr, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        condition = self.evaluate(test)
        if not isinstance(condition, Tensor):
            self.run(body if condition else orelse)
            return
        before = dict(self.variables)
        wanted = {
            node.id for child in (*body, *orelse) for node in ast.walk(child)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }  # fmt: skip
        names = sorted(wanted & self.loop.assigned)
        names += self.loop.flags if any(map(leaves, (*body, *orelse))) else []

        def branch(statements: Sequence[ast.stmt]) -> Callable[[], list[Tensor]]:
            def run() -> list[Tensor]:
                self.variables = dict(before)
                self.run(statements)
                absent = [name for name in names if name not in self.variables and name not in self.outside]
                if absent:
                    raise CannotCapture(f"{absent[0]} is assigned in one branch only")
                values = [self.variables.get(name, self.outside.get(name)) for name in names]
                return [_carried(name, value) for name, value in zip(names, values, strict=True)]

            return run

        results = branches(self.trace, _truth(condition), [branch(orelse), branch(body)])
        self.variables = {**before, **dict(zip(names, results, strict=True))}

    def _scope(self) -> dict[str, Any]:
        return {**self.outside, **self.variables}

    def _compiled(self, tree: Any, mode: str) -> types.CodeType:
        return compile(ast.fix_missing_locations(tree), self.loop.file, mode)  # errors name the user's lines


def _at(node: Any, place: ast.AST) -> Any:
    return ast.fix_missing_locations(ast.copy_location(node, place))


def _truth(value: Any) -> Tensor:
    """A condition as one bool."""
    if isinstance(value, bool):
        return creation.tensor(value)
    if value.size != 1:
        raise CannotCapture("a condition of several elements")
    flat = value if value.shape == () else value.reshape(())
    return flat if flat.dtype == np.bool_ else elementwise.not_equal(flat, 0)


def _negated(value: Any) -> Any:
    return elementwise.logical_not(_truth(value)) if isinstance(value, Tensor) else not value


def _carried(name: str, value: Any) -> Tensor:
    """A variable's value as something that a loop can carry: a tensor, or a number in a tensor's disguise."""
    if isinstance(value, Tensor):
        return value
    if type(value) in (int, float):
        from .promotion import weak_number

        return weak_number(value)
    raise CannotCapture(f"{name} changes and is a {type(value).__name__}")


# Capturing ----------------------------------------------------------------------------------------------


class Loops:
    """The loops that a trace is in, by running frame and line."""

    def __init__(self) -> None:
        self._frames: list[types.FrameType] = []  # kept, so that an identity is not used again while tracing
        self._seen: set[tuple[int, Any]] = set()  # conditions that have been asked for
        self._over: dict[
            tuple[int, int], Any
        ] = {}  # captured loops that Python has not left yet: the last answer's place
        self._refused: set[tuple[str, int]] = set()
        self._way: _Way | None = None  # to an exit, on which Python is

    def answer(self, trace: Trace) -> bool | None:
        """What to tell Python of the condition that it asks for, if it is a captured loop's; else ``None``."""
        _, frame = user_location()
        if frame is None or frame.f_code.co_flags & GENERATOR:
            return None
        asked = asked_at(frame)
        if asked is None:
            return None
        module, position, end = asked
        if self._way is not None:
            answer = self._way.answer(trace, frame, position, end)
            if answer is not None:
                return answer
            self._way = None
        loop = find_loop(module, frame.f_code.co_filename, position, end)
        if loop is None or (loop.file, loop.line) in self._refused:
            return None
        place = id(frame), loop.line
        if place in self._over and position > self._over[place]:  # another part of the condition that ended it
            return loop.answer
        self._over.pop(place, None)
        if (id(frame), position) not in self._seen and trace.region is None:
            self._seen.add((id(frame), position))
            self._frames.append(frame)
            return None
        try:
            exit = capture(trace, frame, loop)
        except CannotCapture:
            self._refused.add((loop.file, loop.line))
            if trace.region is not None:
                raise
            return None
        if exit is not None:
            self._way = _Way(trace, frame, loop, *exit)
            return not loop.answer
        self._over[place] = position
        return loop.answer

    @property
    def are_left(self) -> bool:
        """Whether Python has come to the exit that it was led to."""
        return self._way is None or self._way.is_over

    def clear(self) -> None:
        self._frames.clear()


class _Way:
    """The way to the exit of a captured loop: Python does another trip, and finds all as it was at the exit's test.

    What is recorded on the way is forgotten.
    """

    def __init__(
        self, trace: Trace, frame: types.FrameType, loop: Loop, statement: ast.If, branch: list[ast.stmt]
    ) -> None:
        self.is_over = False
        self._frame, self._loop, self._exit, self._branch = frame, loop, statement, branch
        self._variables = dict(frame.f_locals)
        self._held = trace.held()
        self._mark = trace.leave_aside()

    def answer(self, trace: Trace, frame: types.FrameType, start: Any, end: Any) -> bool | None:
        """What to tell Python of a condition that it asks for on the way; ``None`` behind it."""
        if frame is self._frame and contains(self._exit.test, start, end):
            if not self.is_over:
                self.is_over = True
                trace.come_back(self._mark)
                trace.hold(self._held)
                set_variables(frame, self._variables)
            return (self._branch is self._exit.body) != is_negated(self._exit.test, start, end)
        if self.is_over:
            return None
        assert frame is self._frame, "conditions in functions that a loop calls are not captured"
        for node in own_nodes(self._loop.statements):
            if isinstance(node, ast.If) and contains(node.test, start, end):
                return self._goes_on(node) != is_negated(node.test, start, end)
        return not self._loop.answer  # the loop's own test

    def _goes_on(self, node: ast.If) -> bool:
        """Whether the test of an ``if`` has to hold to come to the exit."""
        for branch in (node.body, node.orelse):
            if any(inner is self._exit for inner in own_nodes(branch)):
                return branch is node.body
        return any(map(leaves_trip, node.orelse)) or not any(map(leaves_trip, node.body))


def capture(trace: Trace, frame: types.FrameType, loop: Loop) -> tuple[ast.If, list[ast.stmt]] | None:
    """Record a loop from where the frame is, and set the frame's variables to what they are after it.

    The exit by which it is left in this call, if it is by one: the variables are as they are there.
    """
    recording = Recording(trace, frame, loop)
    if loop.exits and trace.region is not None:
        raise CannotCapture("it is left in several ways")
    count = len(recording.carries)
    carries = recording.carries + [_truth(False), creation.tensor(0)][: len(loop.flags)]

    def namespace(twins: Sequence[Tensor]) -> Namespace:
        made = Namespace(trace, frame, loop)
        made.variables = {**recording.variables(twins[:count]), **dict(zip(loop.flags, twins[count:], strict=True))}
        return made

    def condition(*twins: Tensor) -> Tensor:
        inside = namespace(twins)
        value = inside.evaluate(loop.test)
        if not isinstance(value, Tensor):
            raise CannotCapture("its condition does not depend on what changes")
        goes_on = _truth(value if loop.goes_on else _negated(value))
        if not loop.may_break:
            return goes_on
        return elementwise.logical_and(goes_on, _negated(inside.variables[BROKEN]))

    def body(*twins: Tensor) -> list[Tensor]:
        inside = namespace(twins)
        inside.trip()
        return [*recording.results_of(inside), *[_carried(flag, inside.variables[flag]) for flag in loop.flags]]

    with recording:
        results = while_loop(trace, condition, body, carries)
    set_variables(frame, recording.variables(results[:count]))
    if not loop.exits:
        return None
    number = int(trace.concrete(trace.read(results[-1]), "how a loop ends"))
    return loop.exits[number - 1] if number else None


class Recording:
    """A loop's body is being recorded, from where the frame is; where it cannot be, all is as it was before.

    ``carries`` are what the variables that it changes are at first: one for those that are names of one tensor.
    """

    def __init__(self, trace: Trace, frame: types.FrameType, loop: Loop) -> None:
        self._trace = trace
        variables = frame.f_locals
        self.carries: list[Tensor] = []
        self._names: dict[str, int] = {}  # the variables that it changes, with the number of the carry
        if any(isinstance(variables.get(name), list | dict | set) for name in loop.assigned):
            raise CannotCapture("it assigns a container")
        others = [value for name, value in variables.items() if isinstance(value, Tensor) and name not in loop.assigned]
        for name in sorted(loop.assigned):
            if name not in variables:
                raise CannotCapture(f"{name} has no value yet")
            value = variables[name]
            if isinstance(value, Tensor) and not value._weak and name in loop.updated:
                continue
            if isinstance(value, Tensor) and any(value is other for other in others):
                raise CannotCapture(f"{name} is another name of a tensor from around it")
            known = [number for number, carry in enumerate(self.carries) if carry is value]
            self._names[name] = known[0] if known else len(self.carries)
            if not known:
                self.carries.append(_carried(name, value))
        self._around = [value for value in variables.values() if isinstance(value, Tensor)]
        assert trace.world is not None
        roots = [(name, Itself(item), item) for name, item in variables.items()] + trace.world.roots
        self._world = World(roots, trace.world.functions)

    def variables(self, carries: Sequence[Tensor]) -> dict[str, Tensor]:
        return {name: carries[number] for name, number in self._names.items()}

    def results_of(self, inside: Namespace) -> list[Tensor]:
        """What is carried after a trip."""
        results: dict[int, Any] = {}
        for name, number in self._names.items():
            value = inside.variables[name]
            if results.setdefault(number, value) is not value:
                raise CannotCapture(f"{name} is a name of its own now")
        tensors = [value for value in results.values() if isinstance(value, Tensor)]
        if len({*map(id, tensors)}) < len(tensors):
            raise CannotCapture("variables become names of one tensor")
        names = {number: name for name, number in self._names.items()}
        return [self._changed(names[number], results[number]) for number in range(len(self.carries))]

    def _changed(self, name: str, value: Any) -> Tensor:
        known = [shadow.tensor for shadow in self._trace.shadows.values()]
        if isinstance(value, Tensor) and any(value is other for other in (*self._around, *known)):
            raise CannotCapture(f"{name} becomes a tensor from around it, of which it is another name then")
        return _carried(name, value)

    def __enter__(self) -> None:
        self._trace.capturing += 1
        self._mark, self._held = self._trace.mark(), self._trace.held()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._trace.capturing -= 1
        changes = error is None and _has_changed(self._world)
        if changes or error is not None:
            self._world.restore()
            self._trace.back_to(self._mark)
            self._trace.hold(self._held)  # the loop, already recorded, may have given its results
        if changes:
            raise CannotCapture("it changes Python objects")


def _has_changed(world: World) -> bool:
    try:
        return bool(world.changes())
    except Untracked:
        return True


def set_variables(frame: types.FrameType, values: dict[str, Any]) -> None:
    variables = frame.f_locals
    variables.update(values)
    if sys.version_info < (3, 13):  # from then on ``f_locals`` writes through (PEP 667)
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))


_ABSENT = object()
GENERATOR = 0x20 | 0x80 | 0x100 | 0x200  # generators and coroutines
