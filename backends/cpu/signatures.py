"""Kinds of calls of compiled functions, as native code knows them (see :mod:`.calls`).

A :class:`Signature` is a list of instructions, as words.  They take a call's arguments apart, look at what the path
relies on, put the inputs into the program's frame, run it, make the results, and at the end put new values into tensors
that were there before.  Where a path parts, they look at the value that decides and go on with the way that it tells.
Up to the end a call can be given up as a *miss*, with nothing changed.

Instructions work on *registers*, which hold objects, and on *arrays*: for each program that is run, its inputs, its
outputs and its constants stand side by side.  References in most registers are borrowed; those in the ones that the
signature names as owned, and all arrays, are let go of at the end.
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
    KEYWORDS = enum.auto()  # r[a] = the dict of the keyword arguments
    SIZED = enum.auto()  # r[a] is a tuple or list of b items, and of the type *c
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
    SAME = enum.auto()  # r[a] is r[b]
    TYPE_IS = enum.auto()  # r[a] is of the type *b
    NOT_AMONG = enum.auto()  # r[a] is none of the c objects in the table b
    DISTINCT = enum.auto()  # the b registers in the table a hold different objects
    LIKE = enum.auto()  # r[a] is *d, or an instance as TENSOR has it; then the registers APART looks at count
    APART = enum.auto()  # where anything was but like what it was: DISTINCT
    HOLDS = enum.auto()  # Python's *a(list of the c registers in the table b) is True
    # Inputs: arrays, or where there is none yet, what a program reads in their stead.
    TENSOR = enum.auto()  # array d (if d >= 0) is what the instance r[a] holds, of the dtype *b, and as c says
    COPY = enum.auto()  # array d is a copy of the array r[a], which is of the dtype *b, and as c says
    VALUE = enum.auto()  # array d is what the instance r[a] holds
    PASS = enum.auto()  # array d is array a
    FLOAT = enum.auto()  # for array d, the float r[a]
    REAL = enum.auto()  # for array d, the float or int r[a], as a float
    IS_FLOAT = enum.auto()  # r[a] is a float
    # A program, and what is made of its results.
    RUN = enum.auto()  # the program with the entry *a, on the arrays from b on
    RUN_PYTHON = enum.auto()  # Python's *a(list of arrays), a list of arrays: the table b says how many, and which
    NUMBER_ARRAY = enum.auto()  # array a is the float that stands for it
    CONSTANT_ARRAY = enum.auto()  # array a is *b
    TRUE = enum.auto()  # array a is True
    DECIDE = enum.auto()  # go on as the d outcomes in the table c tell of the b bytes of array a
    NEW = enum.auto()  # r[a] = an instance with array b
    OBJECT = enum.auto()  # r[a] = an object of the class *b, its slots filled as the d rows of the table c tell
    EDGE = enum.auto()  # r[a] = where a gradient of the instance r[b] flows to
    ATTACH = enum.auto()  # the instance r[a] gets the node r[b]
    NUMBER = enum.auto()  # r[a] = array b's element as a Python number of the kind c
    KEEP = enum.auto()  # r[a] = r[b], owned
    TAKE = enum.auto()  # r[a] = *b, owned
    ARRAY = enum.auto()  # r[a] = array b, owned
    NEW_TUPLE = enum.auto()  # r[a] = a tuple of the c registers in the table b
    NEW_LIST = enum.auto()  # likewise
    NEW_DICT = enum.auto()  # likewise, of pairs of a key and a register
    # The end: nothing is given up any more.
    PUT = enum.auto()  # the instance r[a] holds r[c] at the offset b from now on, and r[c] what it held
    SET_ITEM = enum.auto()  # the dict r[a] holds r[c] under *b from now on
    EXTEND = enum.auto()  # the items of the list r[b] come after those of the list r[a]; in their stead if c is 0
    SET_CELL = enum.auto()  # the cell r[a] holds r[b] from now on
    CALL = enum.auto()  # r[a] = Python's *b(r[c]), owned
    COMMIT = enum.auto()  # Python's *a(r[b], positional arguments, keyword arguments)
    RETURN = enum.auto()  # r[a]; the word at the address b counts how often


INSTRUCTION_BYTES = 5 * 8

# Byte offsets in a signature.
(
    POSITIONALS, KEYWORDS, REGISTERS, OWNED, OWNED_COUNT, ARRAYS, INSTRUCTIONS, RECORDS, LOCKS, SIGNATURE_BYTES,
) = range(0, 10 * 8, 8)  # fmt: skip
# LOCKS: it changes no tensors; with the GIL held throughout, or let go of meanwhile.
LEAVES_ALONE, CHANGES, CHANGES_UNLOCKED = 0, 1, 2
# In what TENSOR compares with: whether it requires gradients, whether it has no node, the rank, the extents; in what
# COPY does, the bytes, nothing, the rank, the extents.
REQUIRES, IS_LEAF, RANK, EXTENTS = 0, 8, 16, 24
NBYTES = REQUIRES
# In a row of what DECIDE looks at: the bytes, and the instruction to go on with.
OUTCOME, TARGET, OUTCOME_BYTES = 0, 8, 16
# In a row of what OBJECT is made of: where, which register, or (if that is negative) which object; or what comes next
# of an iterator.
PLACE, REGISTER, CONTENT, FILL_BYTES = 0, 8, 16, 24
ITSELF, NEXT = -1, -2  # in place of a register

NUMBERS = {np.dtype(np.float64): 0, np.dtype(np.float32): 1, np.dtype(np.int64): 2, np.dtype(np.bool_): 3}


class Signature:
    """One kind of call; ``address`` is where its words stand, ``counters`` tell how often each path was taken."""

    __slots__ = ("_held", "_words", "address", "counters", "origin")

    def __init__(
        self,
        origin: Any,
        words: Mapping[int, int],
        instructions: Sequence[Sequence[int]],
        held: Sequence[Any],
        counters: Sequence[array[int]],
    ) -> None:
        self.origin, self.counters = origin, counters
        code = array("q", [word for row in instructions for word in (*row, *[0] * (5 - len(row)))])
        self._words = array("q", [0] * (SIGNATURE_BYTES // 8))
        for offset, value in {**words, INSTRUCTIONS: code.buffer_info()[0]}.items():
            self._words[offset // 8] = value
        self._held = code, held
        self.address = self._words.buffer_info()[0]

    @property
    def calls(self) -> int:
        """How many calls it has served."""
        return sum(counter[0] for counter in self.counters)
