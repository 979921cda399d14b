"""What :mod:`.control` has to do with its functions' arguments and results, and where it records them.

Containers are taken apart into tensors: numbers and arrays become tensors, ``None`` stays what it is.  A Python number
takes the dtype of the tensor that it turns out to stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field
from typing import Any

import numpy as np

from tracejit.ir import Constant, Value
from tracejit.ir.facts import facts
from tracejit.ir.types import DType

from . import dispatch, tree
from .guards import Guard
from .impurity import Watch
from .locations import at_user_line
from .loops import Loops
from .names import functions_read_by, names_read_by
from .ops import elementwise
from .ops.creation import tensor
from .paths import Check, Segment
from .promotion import kind
from .regions import CannotCapture, HasRules
from .sources import Source
from .state import thread
from .tape import Node, node_of, with_history
from .tensor import Tensor, concrete_tensor
from .tracing import Shadow, Trace, Untraceable
from .transforms.arguments import paths, shown
from .world import Untracked, World

# Containers -----------------------------------------------------------------------------------------


@facts
class Leaf:
    """One tensor of a container."""

    path: str
    tensor: Tensor
    is_number: bool  # Python's, which takes another dtype where it has to


@facts
class Packed:
    """A container taken apart."""

    name: str
    structure: tree.Structure
    leaves: list[Leaf]
    is_tensor: list[bool] = field(default_factory=list)  # for each leaf of the structure; else it is None
    _wanted: dict[str, DType] = field(default_factory=dict)  # dtypes that numbers have to take, by path

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf.tensor for leaf in self.leaves]

    @property
    def copies(self) -> list[Tensor]:
        """Others with the same values: what a function does to those in place, it does to those alone."""
        return [with_history(dispatch.payload(leaf.tensor), node_of(leaf.tensor)) for leaf in self.leaves]

    def unpack(self, values: Sequence[Tensor]) -> Any:
        """A container like this one."""
        found = iter(values)
        return tree.unflatten(self.structure, iter([next(found) if flag else None for flag in self.is_tensor]))

    def read(self, trace: Trace, dtypes: Sequence[DType] | None = None) -> list[Tensor]:
        """The tensors, as values of the block that is being recorded; Python numbers in the ``dtypes`` wanted."""
        values = self.tensors
        if dtypes is not None:
            values = [_converted(leaf, dtype) for leaf, dtype in zip(self.leaves, dtypes, strict=True)]
        return [with_history(trace.read(value), node_of(value)) for value in values]

    def again(self, trace: Trace, what: str, after: Packed) -> list[Tensor]:
        """What a loop's body makes of this carry, if it is a carry for the next step."""
        same_structure(what, f"{after.name} must have the structure of {self.name}", self, after)
        for before, leaf in zip(self.leaves, after.leaves, strict=True):
            shared = shared_dtype(before, leaf) if before.tensor.shape == leaf.tensor.shape else None
            if shared is None or (shared != before.tensor.dtype and not before.is_number):
                raise at_user_line(
                    TypeError(
                        f"{what}: a carry must have the same type after each step, but {before.path} is "
                        f"{described(before.tensor)} and {leaf.path} is {described(leaf.tensor)}"
                    )
                )
            if shared != before.tensor.dtype:
                self._wanted[before.path] = shared
        if self._wanted:
            raise CannotCapture("a Python number takes another dtype")
        return after.read(trace, [leaf.tensor.dtype for leaf in self.leaves])

    def settled(self, trace: Trace, record: Callable[[], list[Tensor]]) -> list[Tensor]:
        """What ``record()`` gives once the numbers in this carry have the dtypes that the loop gives them."""
        while True:
            self._wanted.clear()
            try:
                return record()
            except CannotCapture:
                if not self._wanted:
                    raise
            for leaf in self.leaves:
                if leaf.path in self._wanted:
                    with trace.around_blocks():
                        leaf.tensor = elementwise.astype(leaf.tensor, self._wanted[leaf.path])
                    leaf.is_number = False


def pack(name: str, item: Any) -> Packed:
    """Take a container apart; ``TypeError`` for what is neither a tensor nor a number nor ``None``."""
    found: list[Any] = []
    structure = tree.flatten(item, found)
    places = list(paths(structure, name))
    leaves = [
        Leaf(path, as_tensor(path, leaf), isinstance(leaf, bool | int | float | complex) or _is_weak(leaf))
        for path, leaf in zip(places, found, strict=True)
        if leaf is not None
    ]
    return Packed(name, structure, leaves, [leaf is not None for leaf in found])


def as_tensor(what: str, item: Any) -> Tensor:
    """A tensor for what stands for one."""
    if isinstance(item, Tensor):
        return tensor(item) if item._weak else item
    if isinstance(item, bool | int | float | complex | np.ndarray | np.generic):
        return tensor(item)
    raise at_user_line(TypeError(f"{what} must be a tensor or a number, got {type(item).__name__} {item!r:.60}"))


def _is_weak(item: Any) -> bool:
    return isinstance(item, Tensor) and item._weak


def same_structure(what: str, rule: str, first: Packed, other: Packed) -> None:
    if first.structure != other.structure or first.is_tensor != other.is_tensor:
        found = f"{first.name} is {_structure(first)} and {other.name} is {_structure(other)}"
        raise at_user_line(TypeError(f"{what}: {rule}, but {found}"))


def _structure(packed: Packed) -> str:
    if packed.structure is None:
        return "a tensor" if packed.is_tensor[0] else "None"
    return shown(packed.structure)


def described(value: Tensor) -> str:
    """A tensor's type, for people: ``float32[3,4]``."""
    return f"{value.dtype.name}[{','.join(map(str, value.shape))}]"


def shared_dtype(first: Leaf, other: Leaf) -> DType | None:
    """The dtype of two leaves that must have one, ``None`` if there is none: a Python number takes the other's."""
    a, b = first.tensor.dtype, other.tensor.dtype
    if a == b:
        return a
    if other.is_number and kind(b) <= kind(a):
        return a
    if first.is_number and kind(a) <= kind(b):
        return b
    return None


def shared_dtypes(what: str, results: Sequence[Packed]) -> list[Any]:
    """A dtype for each leaf of what several functions return."""
    dtypes = []
    for leaves in zip(*(packed.leaves for packed in results), strict=True):
        first = leaves[0]
        for other in leaves[1:]:
            if first.tensor.shape != other.tensor.shape or shared_dtype(first, other) is None:
                raise at_user_line(
                    TypeError(
                        f"{what}: all functions must return the same types, but {first.path} is "
                        f"{described(first.tensor)} and {other.path} is {described(other.tensor)}"
                    )
                )
            first = first if other.is_number else other
        dtypes.append(first.tensor.dtype)
    return dtypes


def truth(what: str, value: Tensor) -> Tensor:
    """A condition as a bool."""
    if value.shape != ():
        raise at_user_line(TypeError(f"{what} must be a scalar, got {described(value)}"))
    return value if value.dtype == np.bool_ else elementwise.not_equal(value, 0)


def _converted(leaf: Leaf, dtype: DType) -> Tensor:
    return leaf.tensor if leaf.tensor.dtype == dtype else elementwise.astype(leaf.tensor, dtype)


# Recording ------------------------------------------------------------------------------------------


class Unrecorded(Exception):
    """A function did what no block holds: Python has to call it at each step."""


class BlockTrace(Trace):
    """The trace in which blocks are recorded where none is active: those that are in no other are applied at once."""

    def __init__(self) -> None:
        super().__init__("block", (), (), {})
        self.loops = Loops()
        self.enter(Segment("block"))
        self._around = thread.trace

    def shadow_from(self, tensor: Tensor, source: Source) -> Shadow:
        shadow = self.shadows[id(tensor)] = Shadow(tensor, source, self)
        shadow._node = shadow.first_node = tensor._node
        return shadow

    def guard(self, key: Any, guard: Guard) -> None:
        """Nothing is relied on: blocks are recorded anew at each call."""

    def check_as(self, predicate: Any, check: Check) -> None:
        if self.region is not None:
            super().check_as(predicate, check)
        elif not predicate:
            check.fail()

    @contextmanager
    def around_blocks(self) -> Iterator[None]:
        inside = thread.trace
        if self.region is None:
            thread.trace = self._around
        try:
            yield
        finally:
            thread.trace = inside

    def imported(self, value: Value, node: Node | None) -> Tensor:
        source = self.inputs.get(value)
        if source is None or self.region is not None:
            return super().imported(value, node)
        return with_history(source.array((), ()), node)

    def outside(self, tensor: Tensor) -> Tensor:
        value = tensor._value
        if self.region is not None:
            return tensor
        if isinstance(value, Constant):
            return concrete_tensor(value.array)
        is_read = isinstance(value, Value) and value in self.inputs
        return self.imported(value, tensor._node) if is_read else tensor

    def give(self, cell: Any, result: Tensor) -> None:
        if self.region is not None:
            super().give(cell, result)
            return
        target = cell.tensor if isinstance(cell, Shadow) else cell
        target._value, target._node = result._value, result._node
        if result._node is not None:
            target._requires_grad = True


@contextmanager
def _left_as_it_was(functions: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """What functions change of Python's objects is to be changed at each step: no block holds that."""
    called = [known for function in functions for known in functions_read_by(function)]
    roots = [found for function in functions for found in names_read_by(function, called)]
    try:
        world = World(roots, called)
    except Untracked as reason:
        raise CannotCapture(str(reason)) from None
    try:
        yield
        changes = [change.label for change in world.changes()]
    except Untracked as reason:
        raise CannotCapture(str(reason)) from None
    finally:
        world.restore()
    if changes:
        raise CannotCapture(f"it changes {changes[0]}")


@contextmanager
def recording(functions: Sequence[Callable[..., Any]]) -> Iterator[Trace]:
    """The trace in which blocks are recorded; ``Unrecorded`` where there is none around, and a block cannot be."""
    around: Any = thread.trace
    if isinstance(around, Trace):
        try:
            with _left_as_it_was(functions):
                yield around
        except CannotCapture as reason:
            if around.capturing or (around.region is not None and isinstance(reason, HasRules)):
                raise
            if isinstance(reason, HasRules):
                raise Unrecorded(str(reason)) from None
            around.refuse(f"a loop or a branch cannot be recorded: {reason}")
        return
    if around is not None:
        around.settle()
    trace = thread.trace = BlockTrace()
    try:
        with ExitStack() as stack:
            for function in functions[:1]:
                stack.enter_context(_left_as_it_was(functions))
                stack.enter_context(Watch(function))
            yield trace
        if trace.failed is not None:  # swallowed by a bare except
            raise trace.failed
    except (CannotCapture, Untraceable) as reason:
        raise Unrecorded(str(reason)) from None
    finally:
        thread.trace = around
        trace.let_go()
