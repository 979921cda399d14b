"""``checkpoint``: a function whose intermediate values are not kept for its derivative, but computed again."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from tracejit.ir import Primitive
from tracejit.ir.primitives.view import named, optimization_barrier
from tracejit.ir.types import TensorType

from .. import tree
from ..levels import reopened
from ..locations import at_user_line
from ..promotion import as_tensor
from ..state import thread
from ..tape import Call, CallNode, Forgotten, Node, apply, apply_known, node_of, same_value, with_history
from ..tensor import Tensor, new_tensor
from ..tracing import Trace
from .arguments import checked_callable, flat, name_of, wraps
from .checkpoint_policies import Policy, everything_saveable, nothing_saveable

_NOTHING = object()
_barriers: weakref.WeakKeyDictionary[Any, itertools.count[int]] = weakref.WeakKeyDictionary()  # of each trace


@overload
def checkpoint(function: Callable[..., Any], *, policy: Policy | None = None) -> Callable[..., Any]: ...
@overload
def checkpoint(
    function: None = None, *, policy: Policy | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def checkpoint(function: Callable[..., Any] | None = None, *, policy: Policy | None = None) -> Any:
    """A function like ``function``, of which the derivative keeps the arguments alone: the rest is computed again.

    Going backward through it runs it once more, which takes time and saves memory.  Random numbers that it draws are
    drawn again as they were, and tensors that it changes in place are not changed twice.  Raises ``RuntimeError`` where
    the second run does not do what the first did.

    In the body of a loop, or in a branch, it is one block, and a policy other than none keeps all.

    ``policy`` says which results are kept all the same, and not computed again: one of
    :mod:`tracejit.checkpoint_policies`, or a function that takes what those take.

    >>> import tracejit as tj
    >>> tj.grad(tj.checkpoint(lambda x: tj.sin(tj.sin(x))))(0.0)
    tensor(1.)
    >>> @tj.checkpoint(policy=tj.checkpoint_policies.dots_saveable)
    ... def layer(x, w):
    ...     return tj.tanh(x @ w)
    >>> tj.grad(lambda w: layer(tj.ones(2, 2), w).sum())(tj.zeros(2, 2))
    tensor([[2., 2.],
            [2., 2.]])
    """
    if function is None:
        return functools.partial(checkpoint, policy=policy)
    checked_callable("checkpoint", function)
    if policy is not None:
        checked_callable("checkpoint: policy", policy)
    if policy is nothing_saveable:
        policy = None

    @wraps(function)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not thread.grad_enabled or policy is everything_saveable:
            return function(*args, **kwargs)
        if thread.trace is not None and thread.trace.region is not None and policy is None:
            return _in_block(thread.trace, function, args, kwargs)
        return Region(function, args, kwargs, policy).result(args, kwargs)

    return checkpointed


def checkpoint_name(x: Any, name: str) -> Tensor:
    """``x``, with a name by which a policy of :func:`checkpoint` knows it.

    >>> import tracejit as tj
    >>> policy = tj.checkpoint_policies.save_only_these_names("hidden")
    >>> f = tj.checkpoint(
    ...     lambda x: tj.sin(tj.checkpoint_name(tj.exp(x), "hidden")), policy=policy
    ... )
    >>> tj.grad(f)(0.0)
    tensor(0.5403)
    """
    return apply(named, (as_tensor(x, "checkpoint_name"),), {"label": str(name)})


def _in_block(trace: Trace, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A call in the body of a loop or in a branch: a block of its own, where it can be one."""
    from ..control import computed_again
    from ..regions import CannotCapture

    try:
        return computed_again(trace, function, args, kwargs)
    except (CannotCapture, TypeError):
        return function(*args, **kwargs)


class Region:
    """One call of such a function: the nodes that it has left, and how to run it again."""

    def __init__(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], policy: Policy | None
    ) -> None:
        self._function, self._policy = function, policy
        leaves, self._structure = flat((args, dict(kwargs)))
        self._kept = [_as_it_is(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._level, self._trace = thread.level, thread.trace
        self._changes: dict[int, _Change] = {}
        self._kinds: list[str] = []
        self._saved: list[Any] = []  # what the policy keeps
        self._answers: list[Any] = []  # what Python was told of values
        self._recalled: dict[int, Any] = {}

    def result(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the function, and forget what its nodes hold."""
        with Recording(self._policy) as recording:
            result = self._function(*args, **kwargs)
        self._saved, self._answers = recording.saved, recording.answers
        for number, node in enumerate(recording.nodes):
            recall = functools.partial(self._recall, number)
            if isinstance(node, CallNode):
                node.call = node.call and _ForgottenCall(node.call.name, recall)
            elif node.application is not None:
                node.application = Forgotten(node.application, recall)
        self._kinds = [node.name() for node in recording.nodes]
        self._changes = {key: change for key, change in recording.changes.items() if change.find() is not None}
        return result

    def _recall(self, number: int) -> Any:
        """What one of the nodes held; it is forgotten again."""
        if number not in self._recalled:
            self._run_again()
        return self._recalled.pop(number)

    def _run_again(self) -> None:
        """Run the function as it was run first, and keep what its nodes hold; the world stays as it is."""
        number = 0 if thread.trace is None else next(_barriers.setdefault(thread.trace, itertools.count(1)))
        changed = [(state, change) for change in self._changes.values() if (state := change.find()) is not None]
        present = [(state, _contents(state)) for state, _ in changed]
        modes = thread.region, thread.grad_enabled
        with reopened(self._level):
            thread.region, thread.grad_enabled = None, True
            try:
                for state, change in changed:
                    _set(state, _behind_barrier(change.before, number))
                args, kwargs = tree.unflatten(self._structure, iter([_again(leaf, number) for leaf in self._kept]))
                with Recording(self._policy, self._saved, self._answers, number) as recording:
                    self._function(*args, **kwargs)
            finally:
                thread.region, thread.grad_enabled = modes
                for state, contents in present:
                    _set(state, contents)
        nodes = recording.nodes
        if [node.name() for node in nodes] != self._kinds:
            raise at_user_line(
                RuntimeError(
                    f"checkpoint: {name_of(self._function)} did something else when it was run again for its "
                    f"derivative: {len(self._kinds)} operations were recorded at first, now {len(nodes)}"
                )
            )
        held = [node.call if isinstance(node, CallNode) else node.application for node in nodes]
        self._recalled = dict(enumerate(held))


class Recording:
    """While the function runs: the nodes that are made, and the tensors that are changed in place.

    ``saved`` is what the results hold that the ``policy`` keeps, ``answers`` are the values that Python code asked a
    trace for.  A second run gets those of the first: it does not decide anew.  ``number`` is that of its barriers.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        saved: Sequence[Any] | None = None,
        answers: Sequence[Any] | None = None,
        number: int = 0,
    ) -> None:
        self.policy = policy
        self.saved: list[Any] = []
        self.answers: list[Any] = []
        self._known, self._answered = None if saved is None else iter(saved), None if answers is None else iter(answers)
        self._number = number
        self.nodes: list[Node] = []
        self.changes: dict[int, _Change] = {}
        self.trace, self._before = thread.trace, thread.region
        self._outer = self._before if self._before is not None and self._before.trace is self.trace else None

    def __enter__(self) -> Recording:
        thread.region = self
        return self

    def __exit__(self, *exception: object) -> None:
        thread.region = self._before
        if self._outer is not None:
            self._outer.nodes += self.nodes
            self._outer.changes = {**self.changes, **self._outer.changes}

    def apply(self, primitive: Primitive, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Tensor:
        """A primitive on tensors, of which the result is kept if the policy says so."""
        policy, self.policy = self.policy, None
        assert policy is not None
        try:
            types = [TensorType(operand.dtype, operand.shape) for operand in operands]
            if not policy(primitive, *types, **attributes):
                return apply(primitive, operands, attributes)
            if self._known is not None:
                value = _barred(next(self._known, None), self._number)
                return apply_known(primitive, operands, attributes, value)
            result = apply(primitive, operands, attributes)
            self.saved.append(result._value)
            return result
        finally:
            self.policy = policy

    @property
    def is_second(self) -> bool:
        """Whether the function is run again, or one that calls it."""
        return self._answered is not None or (self._outer is not None and self._outer.is_second)

    def answer(self, ask: Callable[[], Any]) -> Any:
        """What Python code is told that asks a trace for a value."""
        if self._answered is not None:
            found = next(self._answered, _NOTHING)
            return ask() if found is _NOTHING else found
        found = self._outer.answer(ask) if self._outer is not None else ask()
        self.answers.append(found)
        return found

    def add(self, node: Node) -> None:
        """A node was made."""
        if thread.trace is self.trace:
            self.nodes.append(node)

    def note_change(self, state: Any) -> None:
        """A tensor (or its shadow in a trace) is about to be changed in place."""
        if thread.trace is self.trace and id(state) not in self.changes:
            self.changes[id(state)] = _Change(state)


class _Change:
    """A tensor that was changed in place, and what it held before."""

    def __init__(self, state: Any) -> None:
        self.find: Callable[[], Any] = weakref.ref(state) if hasattr(state, "__weakref__") else lambda: state
        self.before = _contents(state)


def _contents(state: Any) -> tuple[Any, Any, bool]:
    return state._value, state._node, state._requires_grad


def _set(state: Any, contents: tuple[Any, Any, bool]) -> None:
    state._value, state._node, state._requires_grad = contents


def _behind_barrier(contents: tuple[Any, Any, bool], number: int) -> tuple[Any, Any, bool]:
    """What a tensor held: in a trace as a value of its own, or what is computed again would be found to be known."""
    value, node, requires_grad = contents
    return _barred(value, number), node, requires_grad


def _barred(value: Any, number: int) -> Any:
    if thread.trace is None or value is None:
        return value
    return apply(optimization_barrier, (new_tensor(value),), {"number": number})._value


def _again(leaf: Any, number: int) -> Any:
    """An argument for the second run."""
    if not isinstance(leaf, Tensor):
        return leaf
    if thread.trace is None:
        return _as_it_is(leaf)
    again = with_history(apply(optimization_barrier, (leaf,), {"number": number})._value, node_of(leaf))
    again._weak = leaf._weak
    return again


def _as_it_is(tensor: Tensor) -> Tensor:
    """A tensor of its own that is like this one, whatever becomes of this one."""
    twin = same_value(tensor)
    twin._weak = tensor._weak
    return twin


class _ForgottenCall(Call):
    """What stands for a call that is made again when it is wanted."""

    def __init__(self, name: str, recall: Callable[[], Call]) -> None:
        self.name = name
        self._recall = recall

    def itself(self) -> Call:
        return self._recall().itself()


__all__ = ["checkpoint", "checkpoint_name"]
