"""What holds for the code that runs now, in this thread: the active trace, the innermost transformation, the modes."""

from __future__ import annotations

import contextvars
import os
import threading
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.forking import lock

if TYPE_CHECKING:
    from .levels import Level
    from .paths import Segment
    from .tracing import Trace
    from .transforms.checkpointing import Recording


class ThreadState(threading.local):
    """``quiet`` is a context in which NumPy does not warn of overflow, NaN and the like: compiled code does not."""

    trace: Trace | None = None
    level: Level | None = None
    hidden: Level | None = None  # the innermost transformation around the block that is recorded, which knows of none
    region: Recording | None = None  # of a function that will be run again when its derivative is wanted
    grad_enabled: bool = True
    for_device: bool = False  # what is recorded is for a device, though its tensors are on the CPU
    anomaly: bool = False
    callbacks: list[tuple[Any, list[np.ndarray]]] | None = None  # those that are due at the end of the call under way
    missed: tuple[Segment, np.ndarray] | None = None  # where the last call found no path for an outcome
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # of the jitted call under way, for its changes

    def __init__(self) -> None:
        self.quiet = contextvars.Context()
        self.quiet.run(np.seterr, all="ignore")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "grad_enabled":
            with _lock:
                unrecorded[0] += (not value) - (not self.grad_enabled)
        elif name not in _ORDINARY:
            with _lock:
                busy[0] += _is_on(value) - _is_on(getattr(self, name))
        super().__setattr__(name, value)


# How many reasons there are, in all threads, to do more with an operation than compute it and leave a node: native
# code, which looks at this word, leaves operations to Python then.
busy = array("q", [0])
unrecorded = array("q", [0])  # how many threads record no gradients
_ORDINARY = frozenset(("quiet", "for_device", "arguments", "hidden", "missed"))
_lock = lock()


def _is_on(value: Any) -> bool:
    return value is not None and value is not False


class Changes:
    """What was changed so far of things that compiled functions rely on: each is another object after each change.

    ``types``: any tensor was given a value of another dtype or shape.  ``hooks``: any hook was added or taken away.
    """

    __slots__ = ("hooks", "types")

    def __init__(self) -> None:
        self.hooks = self.types = 0


changes = Changes()
thread = ThreadState()


def _after_fork() -> None:
    """Threads that are not there any more count no longer."""
    own = vars(thread)
    busy[0] = sum(_is_on(own[name]) for name in own.keys() - _ORDINARY - {"grad_enabled"})
    unrecorded[0] = not thread.grad_enabled


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
