"""How native code takes the arguments of a call apart, and looks at them (see :mod:`.signing`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.backends.cpu.signatures import Do

from . import tree
from .looking import BY_VALUE, SINGLE, Looking, Unsigned
from .sources import Argument, FloatArgument
from .tensor import Tensor


class Unpacking(Looking):
    """The part of a signature that is about the arguments."""

    def _take_apart(self) -> list[tuple[int, Any, int]]:
        """The leaves of the arguments, in their order, each with its number and its register."""
        leaves: list[tuple[int, Any, int]] = []
        for position, item in enumerate(self._call.args):
            register = self._new()
            self._do(Do.ARGUMENT, register, position)
            self._unpack(item, register, leaves)
        if self._call.kwargs:
            keywords, position = self._new(), self._new()
            self._do(Do.KEYWORDS, keywords)
            for name, item in self._call.kwargs.items():
                register = self._new()
                if self._call.ordered:
                    self._do(Do.NEXT_ITEM, register, keywords, self._hold(name), position)
                else:
                    self._do(Do.ITEM, register, keywords, self._hold(name))
                self._unpack(item, register, leaves)
        return leaves

    def _unpack(self, item: Any, register: int, leaves: list[tuple[int, Any, int]]) -> None:
        kind = type(item)
        if tree.is_registered(kind):
            raise Unsigned(f"an argument is a {kind.__name__}")
        if kind in (tuple, list) or (isinstance(item, tuple) and hasattr(kind, "_fields")):
            self._do(Do.SIZED, register, len(item), self._hold(kind))
            for position, child in enumerate(item):
                of_child = self._new()
                self._do(Do.LIST_ITEM if kind is list else Do.TUPLE_ITEM, of_child, register, position)
                self._unpack(child, of_child, leaves)
        elif kind is dict:
            self._do(Do.DICT, register, len(item))
            position = self._new()
            for key, child in item.items():
                of_child = self._new()
                self._do(Do.NEXT_ITEM, of_child, register, self._hold(key), position)
                self._unpack(child, of_child, leaves)
        elif tree.flatten(item, []) is None:
            leaves.append((len(leaves), item, register))
        elif dataclasses.is_dataclass(item) and _has_plain_fields(item):
            self._do(Do.TYPE_IS, register, self._hold(kind))
            attributes = self._new()
            self._do(Do.ATTRIBUTES, attributes, register)
            for field in dataclasses.fields(item):
                of_child = self._new()
                self._do(Do.ITEM, of_child, attributes, self._hold(field.name))
                self._unpack(getattr(item, field.name), of_child, leaves)
        else:
            raise Unsigned(f"an argument is a {kind.__name__}")

    def _look_at(self, leaves: Sequence[tuple[int, Any, int]], inputs: Mapping[Any, int]) -> None:
        """What the key says of the arguments; the inputs among them are read."""
        tensors = floats = 0
        first: dict[int, int] = {}  # the registers of different tensors
        arrays: list[tuple[np.ndarray, int, int]] = []  # with their registers, and their numbers among the tensors
        for number, item, register in leaves:
            kind = type(item)
            if isinstance(item, Tensor):
                self._known[Argument, tensors] = register
                if id(item) in first:
                    self._do(Do.SAME, register, first[id(item)])
                else:
                    first[id(item)] = register
                self._do(Do.TENSOR, register, *self._about(item), inputs.get((Argument, tensors), -1))
                tensors += 1
            elif kind is np.ndarray:
                arrays.append((item, register, tensors))
                tensors += 1
            elif kind is float and number not in self._call._static:
                self._known[FloatArgument, floats] = register
                array_number = inputs.get((FloatArgument, floats))
                if array_number is None:
                    self._do(Do.IS_FLOAT, register)
                else:
                    self._do(Do.FLOAT, register, 0, 0, array_number)
                floats += 1
            elif kind in SINGLE:
                self._do(Do.IS, register, self._hold(item))
            elif kind in (*BY_VALUE, float):
                self._do(Do.EQUALS, register, self._hold(item))
            elif any(item is other for other in self._call.named_by_identity):
                self._do(Do.IS, register, self._hold(item))
            else:
                raise Unsigned(f"an argument is a {kind.__name__}")
        for item, register, number in arrays:
            self._copy(item, register, number, inputs.get((Argument, number)))
        if len(first) > 1:
            self._do(Do.DISTINCT, self._table(first.values()), len(first))

    def _copy(self, item: np.ndarray, register: int, number: int, array_number: int | None) -> None:
        """An argument that is an array, as a tensor of its own."""
        if array_number is None or self._asked:
            raise Unsigned("an array is more than the program's input")
        if not (item.flags.c_contiguous and item.flags.aligned and item.dtype.isnative):
            raise Unsigned("an array lies in another way")
        about = self._table([item.nbytes, 0, item.ndim, *item.shape])
        self._do(Do.COPY, register, self._hold(item.dtype), about, array_number)
        self._known[Argument, number] = self._new_owned()
        self._do(Do.NEW, self._known[Argument, number], array_number)


def _has_plain_fields(item: Any) -> bool:
    """Whether the fields of an instance of a dataclass stand in its dict, and are what they look like."""
    names, held = [field.name for field in dataclasses.fields(item)], getattr(item, "__dict__", {})
    return all(name in held and not hasattr(getattr(type(item), name, None), "__set__") for name in names)
