"""Levels: what a transformation (``grad``, ``jvp``, ``vmap``) puts around the values of the function that it runs.

A transformation opens a :class:`Level` and calls the user's function with tensors that hold *boxes* of that level: a
tensor of the level below and what the transformation knows of it besides (its tangent, that it is a batch).  An
operation is handled by the innermost level that one of its operands has a box of; that level applies operations to the
tensors in the boxes, which are handled by the levels below in turn.  The tape stands above each level: what is
recorded of tensors that hold boxes is that level's own.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.ir.facts import facts
from tracejit.ir.types import TensorType

from .locations import at_user_line, user_location
from .state import thread

if TYPE_CHECKING:
    from tracejit.ir import Block, Location, Primitive
    from tracejit.ir.types import DType

    from .tensor import Tensor


HIDDEN = (
    "a function with derivatives of its own reaches a tensor that is being transformed by another way than its "
    "arguments; it must get it as an argument"
)


class Box:
    """What a tensor holds inside of a transformed function: ``tensor`` is its value one level down."""

    __slots__ = ("dtype", "level", "shape", "tensor")
    __array_ufunc__ = None  # NumPy must not take it for a number
    name: str | None = None  # as a value of a graph would have one

    def __init__(self, level: Level, tensor: Tensor, shape: tuple[int, ...]) -> None:
        self.level = level
        self.tensor = tensor
        self.shape = shape
        self.dtype: DType = tensor.dtype

    @property
    def type(self) -> TensorType:
        """The type of a value of a graph that would stand for it."""
        return TensorType(self.dtype, self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("NumPy cannot read a tensor of a function that is being transformed")

    def __repr__(self) -> str:
        return f"{self.level.name}({self.tensor!r})"

    @property
    def below(self) -> Tensor | None:
        """The value one level down, if it is known."""
        return self.tensor

    def seen(self, what: str) -> Tensor:
        """One level down, the tensor whose value Python asks for."""
        return self.tensor

    def detached(self) -> Any:
        """What a tensor holds that has the same value, and no derivative at this level or below."""
        return self.tensor.detach()._value

    def everywhere(self) -> Tensor:
        """Of a bool: one level down, whether it is true wherever it is looked at."""
        return self.tensor


@facts
class _Change:
    """A tensor that was given a box in place: what it held before, and where that was."""

    find: Callable[[], Any]
    value: Any
    node: Any
    requires_grad: bool
    location: Location | None


class Level:
    """One running transformation, open while the transformed function runs; used as a context manager."""

    name = "transformed"
    differentiates = True

    def __init__(self) -> None:
        self.is_open = False
        self.depth = 0
        self._outer: Level | None = None
        self._outer_records = True
        self._changes: list[_Change] = []

    def __enter__(self) -> Level:
        self._outer = thread.level
        around = self._outer or thread.hidden
        self.depth = 1 if around is None else around.depth + 1
        self._outer_records, thread.grad_enabled = thread.grad_enabled, True
        self.is_open = True
        thread.level = self
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        thread.level = self._outer
        thread.grad_enabled = self._outer_records
        self.is_open = False
        if kind is not None:
            self._take_back()

    @property
    def outer(self) -> Level | None:
        """The transformation around this one."""
        return self._outer

    # Boxes ------------------------------------------------------------------------------------------

    def lifted(self, tensor: Tensor) -> Box:
        """A box for a tensor of a level below: constant, as far as this transformation is concerned."""
        raise NotImplementedError

    def process(self, primitive: Primitive, boxes: Sequence[Any], attributes: Mapping[str, Any], active: bool) -> Box:
        """A primitive on boxes of this level; ``active`` unless under ``no_grad``."""
        raise NotImplementedError

    def process_control(
        self,
        primitive: Primitive,
        boxes: Sequence[Any],
        attributes: Mapping[str, Any],
        regions: Sequence[Block],
        active: bool,
    ) -> Sequence[Box]:
        """The same for a primitive with regions."""
        raise NotImplementedError

    def has(self, value: Any) -> bool:
        """Whether what a tensor holds is a box of this level."""
        return isinstance(value, Box) and value.level is self

    def box_of(self, value: Any) -> Any:
        """What a tensor holds, as a box of this level."""
        if self.has(value):
            return value
        from .tensor import new_tensor

        return self.lifted(new_tensor(value))

    def apply(self, primitive: Primitive, payloads: Sequence[Any], attributes: Mapping[str, Any]) -> Box:
        """A primitive on what tensors hold, of which this is the innermost level."""
        boxes = [self.box_of(value) for value in payloads]
        active = thread.grad_enabled
        thread.grad_enabled = active and self._outer_records
        try:
            return self.process(primitive, boxes, attributes, active)
        finally:
            thread.grad_enabled = active

    def apply_control(
        self, primitive: Primitive, payloads: Sequence[Any], attributes: Mapping[str, Any], regions: Sequence[Block]
    ) -> Sequence[Box]:
        """The same for a primitive with regions."""
        boxes = [self.box_of(value) for value in payloads]
        active = thread.grad_enabled
        thread.grad_enabled = active and self._outer_records
        try:
            return self.process_control(primitive, boxes, attributes, regions, active)
        finally:
            thread.grad_enabled = active

    @contextlib.contextmanager
    def below(self) -> Iterator[None]:
        """Within it code runs as one level down, with tensors from boxes of this level."""
        level, active = thread.level, thread.grad_enabled
        thread.level, thread.grad_enabled = self._outer, active and self._outer_records
        try:
            yield
        finally:
            thread.level, thread.grad_enabled = level, active

    # Changes in place -------------------------------------------------------------------------------

    def adopt(self, tensor: Tensor) -> None:
        """Make a tensor that is to require gradients one of this level: its tape is the one above it."""
        if not self.has(tensor._value):
            box = self.lifted(tensor)
            self.note_change(tensor, box)
            tensor._value = box

    def note_change(self, state: Any, box: Box) -> None:
        """A tensor (or its shadow in a trace) is about to be given a box of this level in place."""
        if not self.has(state._value):
            location, _ = user_location()
            find: Callable[[], Any] = weakref.ref(state) if hasattr(state, "__weakref__") else lambda: state
            self._changes.append(_Change(find, state._value, state._node, state._requires_grad, location))

    def settle(self) -> None:
        """After the function: tensors from outside that it has changed get the values behind their boxes.

        Raises ``RuntimeError``, all tensors as they were, where a box has no one value.
        """
        changed = self._held_changes()
        if any(not self.has_one_value(state._value) for _, state in changed):
            del changed
            gc.collect()  # what only garbage refers to is not outside
            changed = self._held_changes()
        for change, state in changed:
            if not self.has_one_value(state._value):
                self._take_back()
                message = f"{self.name}: a tensor from outside of the function is changed in place to a batch of values"
                raise at_user_line(RuntimeError(message), change.location)
        from .tape import node_of

        for change, state in changed:
            inner = state._value.tensor
            state._value, state._node, state._requires_grad = inner._value, node_of(inner), inner._requires_grad
            if isinstance(inner._value, Box) and not inner._value.level.has(change.value):
                inner._value.level._changes.append(change)
        self._changes = []

    def has_one_value(self, box: Any) -> bool:
        """Whether a box stands for one tensor of the level below."""
        return True

    def _held_changes(self) -> list[tuple[_Change, Any]]:
        found = [(change, change.find()) for change in self._changes]
        return [(change, state) for change, state in found if state is not None and self.has(state._value)]

    def _take_back(self) -> None:
        for change, state in self._held_changes():
            state._value, state._node, state._requires_grad = change.value, change.node, change.requires_grad
        self._changes = []


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Within it code knows of no transformation: a block is recorded that each of them will transform."""
    level, around = thread.level, thread.hidden
    if level is not None:
        thread.level, thread.hidden = None, level
    try:
        yield
    finally:
        thread.level, thread.hidden = level, around


def depth_here() -> int:
    """How many transformations are running, those included that the block that is recorded does not know of."""
    level = thread.level or thread.hidden
    return 0 if level is None else level.depth


def is_differentiated() -> bool:
    """Whether any of those takes a derivative."""
    return derivatives_here() > 0


def derivatives_here() -> int:
    """How many of those take a derivative, of one another."""
    level, count = thread.level or thread.hidden, 0
    while level is not None:
        count += level.differentiates
        level = level.outer
    return count


@contextlib.contextmanager
def reopened(level: Level | None) -> Iterator[None]:
    """Within it code runs as in a transformation that may be over, with the tensors of that."""
    around, was_open = thread.level, []
    current = level
    while current is not None:
        was_open.append((current, current.is_open))
        current.is_open = True
        current = current.outer
    thread.level = level
    try:
        yield
    finally:
        thread.level = around
        for current, state in was_open:
            current.is_open = state


def everywhere(predicate: Tensor) -> Tensor:
    """A bool that holds no box: whether ``predicate`` is true, for each element where it stands for a batch."""
    while isinstance(predicate._value, Box):
        check_open(predicate._value.level)
        predicate = predicate._value.everywhere()
    return predicate


def check_open(level: Level) -> None:
    """``RuntimeError`` where the transformation that a box belongs to is over."""
    if not level.is_open:
        message = f"a tensor that was made inside a function under {level.name} is used outside of it"
        raise at_user_line(RuntimeError(f"{message}; return it from the function instead"))


def innermost(value: Any) -> Any:
    """What a tensor holds, out of all boxes: an array, a value of a graph, or nothing that is known."""
    while isinstance(value, Box):
        below = value.below
        value = None if below is None else below._value
    return value


def refuse_boxes(payloads: Sequence[Any]) -> None:
    """``RuntimeError`` for a box where there is no transformation that could take it."""
    for value in payloads:
        if isinstance(value, Box):
            check_open(value.level)
            raise at_user_line(RuntimeError(HIDDEN))


def level_of(payloads: Sequence[Any]) -> Level | None:
    """The innermost level of what tensors hold; ``None`` where none of it is a box.

    Boxes of the transformations around a block that is recorded do not count: the block gets them as operands.
    """
    found: Level | None = None
    hidden = 0 if thread.hidden is None else thread.hidden.depth
    for value in payloads:
        if isinstance(value, Box) and value.level.depth > hidden:
            level = value.level
            check_open(level)
            if found is None or level.depth > found.depth:
                found = level
            elif level.depth == found.depth and level is not found:
                raise at_user_line(RuntimeError(HIDDEN))
    return found
