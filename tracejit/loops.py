"""Python's own loops as loops of the graph: ``while error > tolerance:`` compiles once, whatever the number of trips.

When Python asks whether a traced condition of a ``while`` statement holds, for the second time in one run of the
statement, the loop is captured: its source is read, the condition and the body are recorded once each as blocks, with
the variables that the body assigns as carries, and the variables of the running frame are set to the loop's results;
then Python is told that the loop is over.  The first trip has been recorded as any other code, so that all variables
have got values, and their types.

``if`` statements in the body on traced values become branches, with what follows them where they hold ``break`` or
``continue``.  A loop is captured at any condition that ends it, such as ``if condition: break``; a ``for`` over a
``range`` too, whose number is then carried.  What cannot be captured (a ``return`` of several, an effect on a Python
object) is recorded trip by trip, as code without a loop would be.
"""

from __future__ import annotations

import ast
import ctypes
import linecache
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .locations import user_location
from .ops import elementwise
from .places import Itself
from .structured import CannotCapture, branches, while_loop
from .tape import node_of, with_history
from .tensor import Tensor
from .world import Untracked, World

if TYPE_CHECKING:
    from .tracing import Trace


BROKEN = ".broken"  # a variable of captured code: whether the loop has been left in another way than by its test


@dataclass
class Loop:
    """A loop of Python's, seen from the condition that ends it: ``test`` is evaluated between two trips.

    That is the test of a ``while``, or that of an ``if`` that leaves the loop; then what lies ``before`` it in the body
    comes behind the beginning of the next trip, which may be the end of the loop as well.
    """

    test: ast.expr
    goes_on: bool  # whether the loop goes on while the test is true
    answer: bool  # of the part of the test that Python asks for, which ends the loop
    after: list[ast.stmt]  # what runs after the test in a trip
    before: list[ast.stmt]
    head: ast.While | ast.For | None  # what may end the loop as a trip begins
    file: str
    line: int

    @property
    def statements(self) -> list[ast.stmt]:
        """What runs between two tests."""
        return [*self.after, *self.before]

    @cached_property
    def may_break(self) -> bool:
        """Whether something else than the test may end the loop."""
        return self.head is not None or any(map(_breaks, self.statements))

    @cached_property
    def assigned(self) -> set[str]:
        """The variables that the statements assign."""
        return {node.id for node in self._names() if isinstance(node.ctx, ast.Store)}

    @cached_property
    def updated(self) -> set[str]:
        """Those of them that are only updated, as ``x += 1`` does: a tensor stays the same cell."""
        updates = [
            node.target for statement in self.statements for node in ast.walk(statement)
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        ]  # fmt: skip
        others = {id(target) for target in updates}
        bound = {node.id for node in self._names() if isinstance(node.ctx, ast.Store) and id(node) not in others}
        return {target.id for target in updates} - bound

    def counter(self, variables: Mapping[str, Any]) -> tuple[str, range]:
        """The variable of a ``for`` over a ``range``, and the numbers that it goes through."""
        head = self.head
        assert isinstance(head, ast.For)
        call, target = head.iter, head.target
        if not (isinstance(target, ast.Name) and isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise CannotCapture("it does not go through a range")
        read = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
        if call.keywords or variables.get(call.func.id, range) is not range or read & (self.assigned | {target.id}):
            raise CannotCapture("it does not go through a range that stays the same")
        bounds = [_int_of(argument, variables) for argument in call.args]
        return target.id, range(*bounds)

    def _names(self) -> list[ast.Name]:
        nodes = [node for statement in self.statements for node in ast.walk(statement)]
        nodes += ast.walk(self.head.target) if isinstance(self.head, ast.For) else []
        return [node for node in nodes if isinstance(node, ast.Name)]


def _int_of(expression: ast.expr, variables: Mapping[str, Any]) -> int:
    """The int that a name or a number stands for."""
    value: Any = None
    if isinstance(expression, ast.UnaryOp) and isinstance(expression.op, ast.USub):
        return -_int_of(expression.operand, variables)
    if isinstance(expression, ast.Constant):
        value = expression.value
    elif isinstance(expression, ast.Name):
        value = variables.get(expression.id)
    if type(value) is not int:
        raise CannotCapture("it goes through a range that is not known")
    return value


# Finding the loop in the source ------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _tree(file: str, source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def loop_at(frame: types.FrameType) -> tuple[Loop, tuple[int, int]] | None:
    """The loop whose test the frame is evaluating, and where in the source; ``None`` where none can be captured."""
    code = frame.f_code
    source = "".join(linecache.getlines(code.co_filename, frame.f_globals))
    module = _tree(code.co_filename, source) if source else None
    if module is None:
        return None
    position = list(code.co_positions())[frame.f_lasti // 2]
    if position[0] is None or position[2] is None:
        return None
    start = position[0], position[2]
    loop = _find(module, code.co_filename, start, (position[1], position[3]))
    return None if loop is None else (loop, start)


def _find(module: ast.Module, file: str, start: Any, end: Any) -> Loop | None:
    loops = ast.While | ast.For
    around = [node for node in ast.walk(module) if isinstance(node, loops) and _contains(node, start, end)]
    innermost = max(around, key=lambda node: (node.lineno, node.col_offset), default=None)
    return None if innermost is None else _as_loop(innermost, file, start, end)


def _as_loop(node: ast.While | ast.For, file: str, start: Any, end: Any) -> Loop | None:
    if isinstance(node, ast.While) and _contains(node.test, start, end):
        if not _can_be_run(node.body) or not _is_plain(node.test) or (node.orelse and any(map(_breaks, node.body))):
            return None
        answer = _is_negated(node.test, start, end)
        return Loop(node.test, True, answer, node.body, [], None, file, node.lineno)
    # while True: ...; if done: break; ...
    for number, statement in enumerate(node.body):
        if isinstance(statement, ast.If) and _contains(statement.test, start, end):
            ends = isinstance(statement.body[-1], ast.Break | ast.Return) and not statement.orelse
            before, after = node.body[:number], node.body[number + 1 :]
            can_be_run = _can_be_run([*before, *after]) and not any(map(_continues, before))
            if not ends or not can_be_run or not _is_plain(statement.test):
                return None
            is_endless = isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and bool(node.test.value)
            answer = not _is_negated(statement.test, start, end)
            head = None if is_endless else node
            loop = Loop(statement.test, False, answer, after, before, head, file, node.lineno)
            # However the loop ends, Python goes on behind the test.
            if loop.may_break and (node.orelse or not isinstance(statement.body[0], ast.Break)):
                return None
            return loop
    return None


def _contains(node: ast.AST, start: tuple[int, int], end: tuple[int, int]) -> bool:
    own = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
    return own[0] <= start and end <= own[1]


def _can_be_run(statements: Sequence[ast.stmt]) -> bool:
    """Whether a loop's statements can be taken out of their function; what leaves a trip may stand in ``if`` alone."""
    return all(_can_be_taken(statement, may_leave=True, is_inner=False) for statement in statements)


def _can_be_taken(node: ast.AST, *, may_leave: bool, is_inner: bool) -> bool:
    if isinstance(node, ast.Break | ast.Continue):
        return may_leave
    if isinstance(node, _NOT_TAKEN) or (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)):
        return False
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.While | ast.For) and all(
        _can_be_taken(child, may_leave=True, is_inner=True) for child in node.body
    ):
        rest = [child for child in ast.iter_child_nodes(node) if child not in node.body]
        return all(_can_be_taken(child, may_leave=False, is_inner=False) for child in rest)
    may_leave = is_inner or (may_leave and isinstance(node, ast.If))
    return all(_can_be_taken(child, may_leave=may_leave, is_inner=is_inner) for child in ast.iter_child_nodes(node))


_NOT_TAKEN = (
    ast.Return, ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Delete, ast.Try, ast.TryStar,
    ast.Raise, ast.Import, ast.ImportFrom, ast.NamedExpr, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef,
)  # fmt: skip


def _breaks(node: ast.AST) -> bool:
    """Whether a loop's statement may end it."""
    return _has(node, ast.Break)


def _continues(node: ast.AST) -> bool:
    """Whether a loop's statement may go on with the next trip."""
    return _has(node, ast.Continue)


def _has(node: ast.AST, kind: type[ast.stmt]) -> bool:
    if isinstance(node, ast.While | ast.For):  # whose own ones are others
        return any(_has(child, kind) for child in node.orelse)
    return isinstance(node, kind) or any(_has(child, kind) for child in ast.iter_child_nodes(node))


def _is_plain(test: ast.expr) -> bool:
    return not any(isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.IfExp) for node in ast.walk(test))


def _is_negated(test: ast.expr, start: Any, end: Any) -> bool:
    """Whether a part of a test stands under an odd number of ``not``."""
    around = [n for n in ast.walk(test) if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Not)]
    return sum(_contains(node.operand, start, end) for node in around) % 2 == 1


# Running statements in a block --------------------------------------------------------------------------


class _Namespace:
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
                return
            if isinstance(statement, ast.If) and (_breaks(statement) or _continues(statement)):
                # What follows is done in the branches that do not leave the trip.
                rest = statements[number + 1 :]
                self._branch(statement.test, [*statement.body, *rest], [*statement.orelse, *rest])
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
        if begin and any(map(_breaks, loop.after)):
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
        names += [BROKEN] if any(map(_breaks, (*body, *orelse))) else []

        def branch(statements: Sequence[ast.stmt]) -> Callable[[], list[Tensor]]:
            def run() -> list[Tensor]:
                self.variables = dict(before)
                self.run(statements)
                absent = [name for name in names if name not in self.variables and name not in self.outside]
                if absent:
                    raise CannotCapture(f"{absent[0]} is assigned in one branch only")
                values = [self.variables.get(name, self.outside.get(name)) for name in names]
                return [_result(self.trace, name, value) for name, value in zip(names, values, strict=True)]

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
        from .ops.creation import tensor

        return tensor(value)
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


def _result(trace: Trace, name: str, value: Any) -> Tensor:
    """The same as the result of a block, which reads what comes from around it."""
    given = _carried(name, value)
    read = trace.read(given)
    if read is given._value:
        return given
    result = with_history(read, node_of(given))
    result._weak = given._weak
    return result


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

    def answer(self, trace: Trace) -> bool | None:
        """What to tell Python of the condition that it asks for, if it is a captured loop's; else ``None``."""
        _, frame = user_location()
        if frame is None or frame.f_code.co_flags & _GENERATOR:
            return None
        found = loop_at(frame)
        if found is None:
            return None
        loop, position = found
        if (loop.file, loop.line) in self._refused:
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
            capture(trace, frame, loop)
        except CannotCapture:
            self._refused.add((loop.file, loop.line))
            if trace.region is not None:
                raise
            return None
        self._over[place] = position
        return loop.answer

    def clear(self) -> None:
        self._frames.clear()


def capture(trace: Trace, frame: types.FrameType, loop: Loop) -> None:
    """Record a loop from where the frame is, and set the frame's variables to what they are after it."""
    variables = frame.f_locals
    names: list[str] = []
    carries: list[Tensor] = []
    if any(isinstance(variables.get(name), list | dict | set) for name in loop.assigned):
        raise CannotCapture("it assigns a container")
    for name in sorted(loop.assigned):
        if name not in variables:
            raise CannotCapture(f"{name} has no value yet")
        value = variables[name]
        if isinstance(value, Tensor) and not value._weak and name in loop.updated:
            continue
        names.append(name)
        carries.append(_carried(name, value))
    assert trace.world is not None
    roots = [(name, Itself(item), item) for name, item in variables.items()] + trace.world.roots
    world = World(roots, trace.world.functions)

    if loop.may_break:
        names.append(BROKEN)
        carries.append(_truth(False))

    def namespace(twins: Sequence[Tensor]) -> _Namespace:
        made = _Namespace(trace, frame, loop)
        made.variables = dict(zip(names, twins, strict=True))
        return made

    def condition(*twins: Tensor) -> Tensor:
        inside = namespace(twins)
        value = inside.evaluate(loop.test)
        if not isinstance(value, Tensor):
            raise CannotCapture("its condition does not depend on what changes")
        goes_on = _truth(value if loop.goes_on else _negated(value))
        return goes_on if BROKEN not in names else elementwise.logical_and(goes_on, _negated(inside.variables[BROKEN]))

    def body(*twins: Tensor) -> list[Tensor]:
        inside = namespace(twins)
        inside.trip()
        return [_result(trace, name, inside.variables[name]) for name in names]

    trace.capturing += 1
    mark = trace.mark()
    try:
        results = while_loop(trace, condition, body, carries)
        if _has_changed(world):
            raise CannotCapture("it changes Python objects")
    except BaseException:
        world.restore()
        trace.back_to(mark)
        raise
    finally:
        trace.capturing -= 1
    _set_variables(frame, {name: result for name, result in zip(names, results, strict=True) if name != BROKEN})


def _has_changed(world: World) -> bool:
    try:
        return bool(world.changes())
    except Untracked:
        return True


def _set_variables(frame: types.FrameType, values: dict[str, Any]) -> None:
    variables = frame.f_locals
    variables.update(values)
    if sys.version_info < (3, 13):  # from then on ``f_locals`` writes through (PEP 667)
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))


_ABSENT = object()
_GENERATOR = 0x20 | 0x80 | 0x100 | 0x200  # generators and coroutines
