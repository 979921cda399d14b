"""Where the arrays that a compiled program reads come from at each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .places import Place
from .tensor import Tensor


class Input:
    """Where the array for one parameter of a graph comes from; ``key`` is the same for the same place."""

    __slots__ = ()

    @property
    def key(self) -> Any:
        raise NotImplementedError

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        """The array, given the call's tensor and float arguments."""
        raise NotImplementedError

    def first_array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        """The array in the call that is traced, whatever the function has put in its place."""
        return self.array(tensors, floats)


class FloatArgument(Input):
    """The float at a position among the call's float arguments."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    @property
    def key(self) -> Any:
        return FloatArgument, self.position

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        return np.asarray(floats[self.position], np.float64)


class Number(Input):
    """A Python float that the function looks up by itself, of the object ``owner`` under ``name``."""

    __slots__ = ("_owner", "find", "name")

    def __init__(self, owner: Any, name: Any, find: Place) -> None:
        self._owner, self.name, self.find = owner, name, find

    @property
    def key(self) -> Any:
        return Number, id(self._owner), self.name

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        return np.asarray(float(self.find()), np.float64)


class Source(Input):
    """A tensor that a trace reads."""

    __slots__ = ()

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        """The tensor, given the call's tensor arguments."""
        raise NotImplementedError

    def first(self, arguments: Sequence[Tensor]) -> Tensor | None:
        """The tensor in the call that is traced."""
        return self.find(arguments)

    def first_array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        tensor = self.first(tensors)
        assert tensor is not None
        return tensor._value

    def array(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> np.ndarray:
        tensor = self.find(tensors)
        assert tensor is not None
        return tensor._value


class Argument(Source):
    """The tensor at a position among the call's tensor arguments."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    @property
    def key(self) -> Any:
        return Argument, self.position

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        return arguments[self.position]


class Captured(Source):
    """A tensor that the function reached by itself: the cell stays the same, its value is read afresh."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def key(self) -> Any:
        return Captured, id(self.tensor)

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        return self.tensor


class Reached(Source):
    """A tensor that a variable, an attribute or a container held: whatever it holds now is read."""

    __slots__ = ("label", "look_up", "tensor")

    def __init__(self, label: str, look_up: Place, tensor: Tensor) -> None:
        self.label = label
        self.look_up = look_up
        self.tensor = tensor  # what it held when this was made

    @property
    def key(self) -> Any:
        return Reached, self.label

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        try:
            found = self.look_up()
        except Exception:  # there is nothing
            return None
        return found if isinstance(found, Tensor) else None

    def first(self, arguments: Sequence[Tensor]) -> Tensor | None:
        return self.tensor


class GradientOf(Source):
    """Another tensor's ``.grad``."""

    __slots__ = ("owner",)

    def __init__(self, owner: Source) -> None:
        self.owner = owner

    @property
    def key(self) -> Any:
        return GradientOf, self.owner.key

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        tensor = self.owner.find(arguments)
        return None if tensor is None else tensor._grad

    def first(self, arguments: Sequence[Tensor]) -> Tensor | None:
        tensor = self.owner.first(arguments)
        return None if tensor is None else tensor._grad
