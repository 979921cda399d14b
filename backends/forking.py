"""Properties that are computed once, and locks that are free in the child of a fork.

``functools.cached_property`` holds a lock in Python 3.11 (and no longer from 3.12 on), one for all instances: threads
that compile wait for each other, and where one of them forks, the child may wait for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):
    """``cached_property`` without a lock: two threads at once may both compute it, and the last one is kept."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> once[T] | T:
        if instance is None:
            return self
        found = instance.__dict__[self._name] = self._function(instance)
        return found


_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def lock() -> Any:
    """A reentrant lock.  In the child of a fork it is free: the thread that held it is not there."""
    made = threading.RLock()
    _locks.add(made)
    return made


def _free_all() -> None:
    for each in list(_locks):
        each._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)
