"""Kinds of calls of compiled functions, as native code knows them (see :mod:`.calls`).

A :class:`Signature` is a list of instructions, as words.  They take a call's arguments apart, look at what the path
relies on, put the inputs into the program's frame, run it, make the results, and at the end put new values into tensors
that were there before.  Up to that end a call can be given up as a *miss*, with nothing changed.

Instructions work on *registers*, which hold objects.  References in those below the signature's ``owned`` are
borrowed; the others are let go of at the end.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Do(enum.IntEnum):
    """What an instruction does with its operands a, b, c and d; r[a] is a register, *a the object at an address."""

    # Taking things apart: a miss where they are not so.
    ARGUMENT = 0  # r[a] = the b-th positional argument
    KEYWORD = enum.auto()  # r[a] = the keyword argument *b
    TUPLE = enum.auto()  # r[a] is a tuple of b items
    LIST = enum.auto()  # r[a] is a list of b items
    DICT = enum.auto()  # r[a] is a dict of b items
    TUPLE_ITEM = enum.auto()  # r[a] = r[b][c]
    LIST_ITEM = enum.auto()  # likewise
    NEXT_ITEM = enum.auto()  # r[a] = the value that follows in the dict r[b], under *c; r[d] counts from 0
    ITEM = enum.auto()  # r[a] = the dict r[b]'s item *c
    ATTRIBUTES = enum.auto()  # r[a] = the dict of the attributes of r[b]
    CONTENT = enum.auto()  # r[a] = what the cell *b holds
    CONSTANT = enum.auto()  # r[a] = *b
    SLOT = enum.auto()  # r[a] = the instance that the instance r[b] holds at the offset c
    # What must hold.
    IS = enum.auto()  # r[a] is *b
    LACKS = enum.auto()  # the dict r[a] has no item *b
    EQUALS = enum.auto()  # r[a] is of *b's type, a plain one, and equals it
    TRUTH = enum.auto()  # r[a] is a bool, an int or a float, and b tells whether it is true
    INSTANCE = enum.auto()  # r[a] is an instance
    SLOT_IS = enum.auto()  # the instance r[a] holds *c at the offset b
    WORD_IS = enum.auto()  # at the address a stands the word b
    NOT_AMONG = enum.auto()  # r[a] is none of the c objects in the table b
    DISTINCT = enum.auto()  # the b registers in the table a hold different objects
    HOLDS = enum.auto()  # Python's *a(list of the c registers in the table b) is True
    # Inputs.
    TENSOR = enum.auto()  # the d-th input (if d >= 0) is what the instance r[a] holds, of the dtype *b, and as c says
    VALUE = enum.auto()  # the d-th input is what the instance r[a] holds
    FLOAT = enum.auto()  # the d-th input is the float r[a]
    REAL = enum.auto()  # the d-th input is the float or int r[a], as a float
    IS_FLOAT = enum.auto()  # r[a] is a float
    # The program, and what is made of its results.
    RUN = enum.auto()
    TRUE = enum.auto()  # the a-th array is True
    NEW = enum.auto()  # r[a] = an instance with the b-th array
    SPENT = enum.auto()  # the instance r[a] gets a freed node of the type *b
    NUMBER = enum.auto()  # r[a] = the b-th array's element as a Python number of the kind c
    KEEP = enum.auto()  # r[a] = r[b], owned
    TAKE = enum.auto()  # r[a] = *b, owned
    ARRAY = enum.auto()  # r[a] = the b-th array, owned
    NEW_TUPLE = enum.auto()  # r[a] = a tuple of the c registers in the table b
    NEW_LIST = enum.auto()  # likewise
    NEW_DICT = enum.auto()  # likewise, of pairs of a key and a register
    # The end: nothing fails any more.
    PUT = enum.auto()  # the instance r[a] holds r[c] at the offset b from now on, and r[c] what it held
    RETURN = enum.auto()  # r[a]


INSTRUCTION_BYTES = 5 * 8

# Byte offsets in a signature.
(
    PROGRAM, POSITIONALS, KEYWORDS, REGISTERS, OWNED, COUNT, INSTRUCTIONS, CALLS, RECORDS, LOCKS, SIGNATURE_BYTES,
) = range(0, 11 * 8, 8)  # fmt: skip
LEAVES_ALONE, CHANGES, CHANGES_UNLOCKED = (
    0,
    1,
    2,
)  # LOCKS: tensors; with the GIL held throughout, or let go of meanwhile
# In what TENSOR compares with: whether it requires gradients, whether it has no node, the rank, the extents.
REQUIRES, IS_LEAF, RANK, EXTENTS = 0, 8, 16, 24

NUMBERS = {np.dtype(np.float64): 0, np.dtype(np.float32): 1, np.dtype(np.int64): 2, np.dtype(np.bool_): 3}


class Signature:
    """One kind of call; ``address`` is where its words stand."""

    __slots__ = ("_held", "_words", "address", "origin")

    def __init__(
        self, origin: Any, words: Mapping[int, int], instructions: Sequence[Sequence[int]], held: Sequence[Any]
    ) -> None:
        self.origin = origin
        code = array("q", [word for row in instructions for word in (*row, *[0] * (5 - len(row)))])
        self._words = array("q", [0] * (SIGNATURE_BYTES // 8))
        for offset, value in {**words, COUNT: len(instructions), INSTRUCTIONS: code.buffer_info()[0]}.items():
            self._words[offset // 8] = value
        self._held = code, held
        self.address = self._words.buffer_info()[0]

    @property
    def calls(self) -> int:
        """How many calls it has served."""
        return self._words[CALLS // 8]
