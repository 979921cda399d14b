"""Writes that are lost, because slices are values: ``x[0].add_(1)`` changes a tensor that nothing holds.

Each method that writes in place looks at the count of references to its tensor.  Where only the call itself has one
(:data:`UNNAMED`), the calling code tells the rest: the tensor is a slice or another view of something, and what the
method returns is dropped.  Then nobody can ever see what was written, and the user's line gets a warning.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
import weakref
from sys import getrefcount
from types import CodeType, FrameType

from .locations import is_library, warn_at_user_line


class LostWriteWarning(UserWarning):
    """Something was written into a tensor that nothing holds."""


class _Probe:
    """How many references a method sees to an object that nothing else holds; it depends on the interpreter."""

    def method(self) -> int:
        return getrefcount(self)

    def __setitem__(self, counts: list[int], value: None) -> None:
        counts.append(getrefcount(self))


_counts: list[int] = []
_Probe()[_counts] = None
UNNAMED = _Probe().method()  # in a method's first lines
UNNAMED_ITEM = _counts[0]  # in those of ``__setitem__``

# What PyTorch and NumPy give a view for.
_VIEWS = frozenset(
    "T H mT mH data detach diagonal expand expand_as expand_dims flatten imag matrix_transpose mT movedim moveaxis "
    "narrow permute permute_dims ravel real reshape select squeeze swapaxes t transpose unflatten unsqueeze view "
    "view_as".split()
)
_ASSIGNMENTS = {"add_": "+=", "sub_": "-=", "mul_": "*=", "div_": "/=", "copy_": "=", "fill_": "="}
_DETACHED = ("data", "detach")
_DROPPED = ("POP_TOP", "PRINT_EXPR")

_messages: weakref.WeakKeyDictionary[CodeType, dict[int, str | None]] = weakref.WeakKeyDictionary()


def look(name: str, *, argument: bool = False) -> None:
    """Warn if a write into a tensor that nothing holds is lost.

    Called by the method ``name``, or by a function that writes into its first ``argument``.
    """
    frame = sys._getframe(2)
    code = frame.f_code
    if is_library(code.co_filename):
        return
    known = _messages.setdefault(code, {})
    if frame.f_lasti not in known:
        known[frame.f_lasti] = _message(frame, name, argument)
    message = known[frame.f_lasti]
    if message is not None:
        warn_at_user_line(message, LostWriteWarning)


def _message(frame: FrameType, name: str, argument: bool) -> str | None:
    """What is to be said of the line that a frame is at, if anything."""
    if not linecache.getlines(frame.f_code.co_filename, frame.f_globals):
        return _message_without_source(frame, name, argument)
    node = _expression(frame)
    written: ast.expr | None = None
    if isinstance(node, ast.Subscript) and name == "__setitem__":
        written = node.value
    elif isinstance(node, ast.Call) and _is_dropped(frame):
        if argument:
            written = node.args[0] if node.args else None
        elif isinstance(node.func, ast.Attribute) and node.func.attr == name:
            written = node.func.value
    if node is None or written is None:
        return None
    written = _without_calls_in_place(written)
    if not _is_view(written):
        return None
    text = ast.unparse(node) + " = …" * isinstance(node, ast.Subscript)
    return (
        f"`{text}` is lost: `{ast.unparse(written)}` is a value of its own, not a view, and nothing holds it. "
        f"{_advice(node, written, name, argument)}."
    )


def _message_without_source(frame: FrameType, name: str, argument: bool) -> str | None:
    """The same of a line that was typed on a prompt, or came as a string: its instructions tell enough."""
    before = [item for item in dis.get_instructions(frame.f_code) if item.offset <= frame.f_lasti]
    if name == "__setitem__":
        *rest, store = before
        if rest and rest[-1].opname == "SWAP":  # x[i][j] += 1: what is changed, and where, were copied first
            while rest and rest[-1].opname != "COPY":
                rest.pop()
            while rest and rest[-1].opname == "COPY":
                rest.pop()
        written = _producer(rest, _start_of_values(rest, 2 if store.opname == "STORE_SLICE" else 1))
        what, advice = "x[i][j] = …", "x[i, j] = …"
    else:
        if argument or not _is_dropped(frame):
            return None
        calls = [place for place, item in enumerate(before) if item.argval == name]
        written = _producer(before, calls[-1]) if calls else None
        what, advice = f"x[i].{name}(…)", f"x[i] {_ASSIGNMENTS.get(name, '=')} …"
    if written is None:
        return None
    return (
        f"a write like `{what}` is lost: it changes {written}, which is a value of its own, not a view, and nothing "
        f"holds it. Write `{advice}`, or name it, change that, and use the name from then on."
    )


def _producer(instructions: list[dis.Instruction], stop: int) -> str | None:
    """What the instructions up to a place leave on the stack, if NumPy has a view for it."""
    last = instructions[stop - 1] if stop else None
    if last is None:
        return None
    if last.opname in ("BINARY_SUBSCR", "BINARY_SLICE") or (last.opname == "BINARY_OP" and "[" in last.argrepr):
        return "a slice"
    if last.opname.startswith("CALL"):
        called = [i for i in range(stop) if instructions[i].opname in ("LOAD_METHOD", "LOAD_ATTR")]
        last = instructions[called[-1]] if called else last
        if called and last.argval.endswith("_"):  # which gives the tensor that it has changed
            return _producer(instructions, called[-1])
    return f"`{last.argval}` of a tensor" if last.opname.startswith("LOAD_") and last.argval in _VIEWS else None


def _start_of_values(instructions: list[dis.Instruction], missing: int) -> int:
    """Where the instructions begin that leave the last values on the stack."""
    for place in range(len(instructions) - 1, -1, -1):
        item = instructions[place]
        missing -= dis.stack_effect(item.opcode, item.arg, jump=False)
        if missing <= 0:
            return place
    return 0


def _advice(node: ast.expr, written: ast.expr, name: str, argument: bool) -> str:
    """The way that works."""
    place = _place(node if isinstance(node, ast.Subscript) else written)
    instead = None
    if place is not None and isinstance(node, ast.Subscript):
        instead = f"{ast.unparse(place)} = …"
    elif place is not None and isinstance(node, ast.Call):
        target = ast.unparse(place)
        if not isinstance(place, ast.Subscript):
            there = ast.Call(ast.Attribute(place, name, ast.Load()), node.args, node.keywords)
            instead = ast.unparse(ast.Call(node.func, [place, *node.args[1:]], node.keywords) if argument else there)
        elif name == "zero_":
            instead = f"{target} = 0"
        elif name in _ASSIGNMENTS and len(node.args) == 1 and not node.keywords:
            instead = f"{target} {_ASSIGNMENTS[name]} {ast.unparse(node.args[0])}"
        else:
            instead = f"{target} = {ast.unparse(node)}"
    if instead is None:
        return f"Name it (`part = {ast.unparse(written)}`), change that, and use `part` from then on"
    unseen = argument or any(getattr(part, "attr", "") in _DETACHED for part in ast.walk(written))
    return f"Write `{instead}`{', within tracejit.no_grad()' * unseen}"


def _place(node: ast.expr) -> ast.expr | None:
    """What can be written to instead: one subscript of something that is no view, or that itself."""
    if isinstance(node, ast.Subscript):
        base = _place(node.value)
        if isinstance(base, ast.Subscript):
            if not all(_is_integer(key) for key in _keys(base)):
                return None
            keys: list[ast.expr] = [*_keys(base), *_keys(node)]
            return ast.Subscript(base.value, ast.Tuple(keys, ast.Load()), ast.Load())
        return None if base is None else ast.Subscript(base, node.slice, ast.Load())
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _DETACHED:
        return _place(node.func.value)
    if isinstance(node, ast.Attribute) and node.attr in _DETACHED:
        return _place(node.value)
    return None if _is_view(node) else node


def _keys(node: ast.Subscript) -> list[ast.expr]:
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def _is_integer(node: ast.expr) -> bool:
    try:
        return type(ast.literal_eval(node)) is int
    except ValueError:
        return False


def _is_view(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        node = node.func
        return isinstance(node, ast.Attribute) and node.attr in _VIEWS
    return isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr in _VIEWS)


def _without_calls_in_place(node: ast.expr) -> ast.expr:
    """``x[0]`` of ``x[0].add_(1).mul_(2)``."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
        node = node.func.value
    return node


def _expression(frame: FrameType) -> ast.expr | None:
    """The source of the instruction that a frame is at, as far as it is known."""
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    line, last_line, column, last_column = positions
    if line is None or last_line is None or column is None or last_column is None:
        return None
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)[line - 1 : last_line]
    if len(lines) != last_line - line + 1:
        return None
    encoded = [text.encode() for text in lines]
    encoded[-1] = encoded[-1][:last_column]
    encoded[0] = encoded[0][column:]
    try:
        return ast.parse(f"({b''.join(encoded).decode()})", mode="eval").body
    except (SyntaxError, UnicodeDecodeError, ValueError):  # the file is not what was run
        return None


def _is_dropped(frame: FrameType) -> bool:
    """Whether what the call gives is used by nothing (but shown, on a prompt or at the end of a notebook's cell)."""
    after = None
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset > frame.f_lasti:
            after = instruction
            break
    shown = after is not None and after.opname == "CALL_INTRINSIC_1" and "PRINT" in after.argrepr
    return after is not None and (after.opname in _DROPPED or shown)


__all__ = ["UNNAMED", "UNNAMED_ITEM", "LostWriteWarning", "look"]
