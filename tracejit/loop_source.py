"""Loops of Python's in their source: what ends them, what they assign, and whether they can be taken out of it."""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from tracejit.ir.facts import facts

from .regions import CannotCapture

# Variables of captured code: whether the loop has been left in another way than by its test, and by which exit.
BROKEN, EXIT = ".broken", ".exit"


@facts
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
    marks_breaks: bool  # what Python does after a ``break`` is not what it does after the test
    file: str
    line: int
    target: ast.expr | None = None  # of a ``for`` that nothing but its iterator ends

    @property
    def statements(self) -> list[ast.stmt]:
        """What runs between two tests."""
        return [*self.after, *self.before]

    @cached_property
    def may_break(self) -> bool:
        """Whether something else than the test may end the loop."""
        return self.head is not None or any(map(leaves, self.statements))

    @cached_property
    def exits(self) -> list[tuple[ast.If, list[ast.stmt]]]:
        """Where the loop is left for what Python itself has to do then: ``if`` statements, and their branches."""
        kinds = ast.Return | ast.Break if self.marks_breaks else ast.Return
        ifs = [node for node in own_nodes(self.statements) if isinstance(node, ast.If)]
        branches = [(node, branch) for node in ifs for branch in (node.body, node.orelse)]
        return [(node, branch) for node, branch in branches if any(isinstance(s, kinds) for s in branch)]

    @property
    def flags(self) -> list[str]:
        """The variables that say how it has been left."""
        return ([BROKEN] if self.may_break else []) + ([EXIT] if self.exits else [])

    def exit_of(self, branch: list[ast.stmt]) -> int:
        """The number of the exit that a branch is, 0 if it is none."""
        return next((number for number, (_, other) in enumerate(self.exits, 1) if other is branch), 0)

    @cached_property
    def assigned(self) -> set[str]:
        """The variables that the statements assign."""
        return {node.id for node in self._names() if isinstance(node.ctx, ast.Store)}

    @cached_property
    def updated(self) -> set[str]:
        """Those of them that are only updated, as ``x += 1`` does: a tensor stays the same cell."""
        updates = [
            node.target for node in self._run_nodes(self.statements)
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
        nodes = [*self._run_nodes(self.statements)]
        nodes += ast.walk(self.head.target) if isinstance(self.head, ast.For) else []
        of_comprehensions = {
            id(inner) for node in nodes if isinstance(node, ast.comprehension) for inner in ast.walk(node.target)
        }
        return [node for node in nodes if isinstance(node, ast.Name) and id(node) not in of_comprehensions]

    def _run_nodes(self, nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
        """What may run in captured code: not what is done at an exit."""
        for node in nodes:
            yield node
            for _, child in ast.iter_fields(node):
                if not isinstance(child, list):
                    child = [child]
                if not self.exit_of(child):
                    yield from self._run_nodes([inner for inner in child if isinstance(inner, ast.AST)])


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


def _module_of(frame: types.FrameType) -> ast.Module | None:
    """The source that a frame runs, where it stands in its file: of a function alone, for a file may be long."""
    code = frame.f_code
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    if not code.co_name.startswith("<"):
        last = max((last or 0 for _, last, _, _ in code.co_positions()), default=0)
        above, own = code.co_firstlineno - 1, lines[code.co_firstlineno - 1 : last]
        if own and above and own[0][:1].isspace():
            own.insert(0, "if True:\n")
            above -= 1
        found = _tree(code.co_filename, "\n" * above + "".join(own)) if own else None
        if found is not None:  # it is not where the end of the source leaves no trace in the code
            return found
    return _tree(code.co_filename, "".join(lines)) if lines else None


def asked_at(frame: types.FrameType) -> tuple[ast.Module, Any, Any] | None:
    """The source whose condition the frame is evaluating, and where in it that begins and ends."""
    code = frame.f_code
    module = _module_of(frame)
    first, last, left, right = list(code.co_positions())[frame.f_lasti // 2]
    if module is None or first is None or left is None:
        return None
    return module, (first, left), (last, right)


def find_for(frame: types.FrameType, offset: int) -> Loop | None:
    """The ``for`` whose trips begin with the instruction at an offset, if nothing but its iterator ends it."""
    code = frame.f_code
    module = _module_of(frame)
    line, _, column, _ = list(code.co_positions())[offset // 2]
    start = line or 0, column or 0
    for node in _around(module, start, start) if module is not None else ():
        if isinstance(node, ast.For) and (node.lineno, node.col_offset) == start:
            is_plain = not any(map(leaves, node.body))
            loop = Loop(ast.Constant(True), True, True, node.body, [], None, False, code.co_filename, node.lineno,
                        node.target)  # fmt: skip
            return loop if is_plain and _is_capturable(loop) else None
    return None


def find_loop(module: ast.Module, file: str, start: Any, end: Any) -> Loop | None:
    around = [node for node in _around(module, start, end) if isinstance(node, ast.While | ast.For)]
    innermost = max(around, key=lambda node: (node.lineno, node.col_offset), default=None)
    return None if innermost is None else _as_loop(innermost, file, start, end)


def _around(node: ast.AST, start: Any, end: Any) -> Iterator[ast.AST]:
    """The nodes below one that contain a place in the source."""
    for child in ast.iter_child_nodes(node):
        is_there = not hasattr(child, "end_lineno") or contains(child, start, end)
        if is_there:
            yield child
            yield from _around(child, start, end)


def _as_loop(node: ast.While | ast.For, file: str, start: Any, end: Any) -> Loop | None:
    if isinstance(node, ast.While) and contains(node.test, start, end):
        loop = Loop(node.test, True, is_negated(node.test, start, end), node.body, [], None, bool(node.orelse),
                    file, node.lineno)  # fmt: skip
        return loop if _is_capturable(loop) else None
    # while True: ...; if done: break; ...
    for number, statement in enumerate(node.body):
        if isinstance(statement, ast.If) and contains(statement.test, start, end):
            before, after = node.body[:number], node.body[number + 1 :]
            is_endless = isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and bool(node.test.value)
            head = None if is_endless else node
            only_breaks = isinstance(statement.body[0], ast.Break) and not node.orelse
            answer = not is_negated(statement.test, start, end)
            loop = Loop(statement.test, False, answer, after, before, head, not only_breaks, file, node.lineno)
            ends = isinstance(statement.body[-1], ast.Break | ast.Return) and not statement.orelse
            # Where the head ends the loop, Python goes on as after the test.
            is_capturable = _is_capturable(loop) and not any(has(node, ast.Continue) for node in before)
            return loop if ends and is_capturable and (head is None or only_breaks) else None
    return None


def _is_capturable(loop: Loop) -> bool:
    if not _is_plain(loop.test) or any(isinstance(statement, ast.Return) for statement in loop.statements):
        return False
    if loop.exits and any(isinstance(node, ast.While) for node in ast.walk(ast.Module(loop.statements, []))):
        return False
    return all(_can_be_taken(statement, may_leave=True, is_inner=False) for statement in loop.statements)


def contains(node: ast.AST, start: tuple[int, int], end: tuple[int, int]) -> bool:
    own = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
    return own[0] <= start and end <= own[1]


def _can_be_taken(node: ast.AST, *, may_leave: bool, is_inner: bool) -> bool:
    """Whether a part of a loop can be taken out of its function; what leaves a trip may stand in ``if`` alone."""
    if isinstance(node, ast.Break | ast.Continue):
        return may_leave
    if isinstance(node, ast.Return):
        return may_leave and not is_inner
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
    ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Delete, ast.Try, ast.TryStar,
    ast.Raise, ast.Import, ast.ImportFrom, ast.NamedExpr, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef,
)  # fmt: skip


def leaves(node: ast.AST) -> bool:
    """Whether a loop's statement may end it."""
    return has(node, ast.Break | ast.Return)


def leaves_trip(node: ast.AST) -> bool:
    return has(node, ast.Break | ast.Return | ast.Continue)


def has(node: ast.AST, kind: Any) -> bool:
    return any(isinstance(inner, kind) for inner in own_nodes([node]))


def own_nodes(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """A loop's nodes; of loops within, only the ``else`` clauses."""
    for node in nodes:
        yield node
        inner = node.orelse if isinstance(node, ast.While | ast.For) else ast.iter_child_nodes(node)
        yield from own_nodes(list(inner))


def _is_plain(test: ast.expr) -> bool:
    return not any(isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.IfExp) for node in ast.walk(test))


def is_negated(test: ast.expr, start: Any, end: Any) -> bool:
    """Whether a part of a test stands under an odd number of ``not``."""
    around = [n for n in ast.walk(test) if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Not)]
    return sum(contains(node.operand, start, end) for node in around) % 2 == 1
