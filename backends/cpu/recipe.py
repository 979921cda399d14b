"""A program in the form in which it runs, and is kept on disk: words for native code, and what they stand on."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.ir.facts import facts
from tracejit.ir.types import DTYPES_BY_SHORT_NAME, DType, short_name

Array = tuple[tuple[int, ...], DType, int]  # shape, dtype and bytes
_LENGTH = struct.Struct("<Q")


@facts(frozen=True)
class Recipe:
    """What :class:`~.runtime.Executable` runs.

    ``words`` are the program's as :mod:`.encoding` writes them, but for the addresses of kernels: ``cells`` says which
    words those are, and of which kernel.  The other fields are those of the encoding and of the program that say how
    much memory of which kind it needs.  A program in which Python makes some calls cannot be kept.
    """

    kernels: Sequence[str]
    cells: Sequence[tuple[int, int]]
    words: array[int]
    growing: Sequence[int]
    frame_words: int
    most_arguments: int
    arena_bytes: int
    scratch_bytes: int  # for each worker
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    constants: Sequence[np.ndarray]
    results: Sequence[int]  # which of its arrays they are
    work: int
    is_parallel: bool
    has_loops: bool
    runs_for_long: bool  # or may do so: nobody knows
    calls_python: bool

    def words_with(self, addresses: Mapping[str, int]) -> array[int]:
        """The words, given where the kernels' addresses stand."""
        words = array("q", self.words)
        for position, kernel in self.cells:
            words[position] = addresses[self.kernels[kernel]]
        return words


_NUMBERS = (
    "growing", "frame_words", "most_arguments", "arena_bytes", "scratch_bytes", "results", "work",
    "is_parallel", "has_loops", "runs_for_long",
)  # fmt: skip

_ARRAYS = ("inputs", "outputs")


def to_bytes(recipe: Recipe, modules: Sequence[str]) -> bytes:
    """A recipe, and the names of the modules that its kernels are in, one for each."""
    head: dict[str, Any] = {name: getattr(recipe, name) for name in _NUMBERS}
    head |= {"kernels": [*zip(recipe.kernels, modules, strict=True)], "cells": recipe.cells}
    for name in _ARRAYS:
        head[name] = [(shape, short_name(dtype), nbytes) for shape, dtype, nbytes in getattr(recipe, name)]
    head["constants"] = [(c.shape, short_name(c.dtype)) for c in recipe.constants]
    text = json.dumps(head, separators=(",", ":")).encode()
    contents = [text, recipe.words.tobytes(), *(c.tobytes() for c in recipe.constants)]
    return b"".join(part for content in contents for part in (_LENGTH.pack(len(content)), content))


def from_bytes(data: bytes) -> tuple[Recipe, dict[str, str]]:
    """What :func:`to_bytes` was given: a recipe, and for each kernel its module."""
    parts: list[bytes] = []
    position = 0
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        parts.append(data[position + 8 : position + 8 + length])
        position += 8 + length
    head = json.loads(parts[0])
    modules = dict(head["kernels"])
    constants = [
        np.frombuffer(part, DTYPES_BY_SHORT_NAME[dtype]).reshape(shape).copy()
        for part, (shape, dtype) in zip(parts[2:], head["constants"], strict=True)
    ]
    fields: dict[str, Any] = {name: head[name] for name in _NUMBERS}
    fields |= {name: [_array(*each) for each in head[name]] for name in _ARRAYS}
    recipe = Recipe(
        kernels=[*modules], cells=head["cells"], words=array("q", parts[1]), constants=constants, calls_python=False,
        **fields,
    )  # fmt: skip
    return recipe, modules


def _array(shape: Sequence[int], dtype: str, nbytes: int) -> Array:
    return tuple(shape), DTYPES_BY_SHORT_NAME[dtype], nbytes
