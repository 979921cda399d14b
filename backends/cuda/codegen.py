"""Kernels as CUDA C.

A kernel is printed in the form that a launch takes (see :mod:`.forms`), each form by an emitter of its own.  Every
function is right for any number of blocks.  Its arguments are pointers to the kernel's buffers, then the kernel's
parameters as 64-bit integers.  A buffer that is written overlaps no other buffer of the call (the memory plan sees to
that); a bool in memory is a byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .. import kernel as k
from . import attention, instructions, sorting, tensor_cores
from .attention import AttentionEmitter
from .columns import ColumnEmitter
from .emission import Emitter, expression, name_of, read
from .forms import ARCH, Form, form_of, shared_bytes
from .maps import EachEmitter, MapEmitter
from .rows import HeldEmitter, RowEmitter, SharedRowEmitter, WarpEmitter
from .scans import ScanEmitter
from .scatters import ScatterEmitter, ScatterKeysEmitter, SortedScatterEmitter
from .sorting import SortEmitter
from .tiles import TileEmitter
from .totals import ColumnTotalEmitter, RowTotalEmitter

LIMIT = 4096
_launches: dict[tuple[Any, ...], Launch] = {}  # by a kernel's text and the values of its parameters

EMITTERS: dict[str, type[Emitter]] = {
    "thread": MapEmitter,
    "each": EachEmitter,
    "tile": TileEmitter,
    "scatter": ScatterEmitter,
    "scan": ScanEmitter,
    "warp": WarpEmitter,
    "row": RowEmitter,
    "shared row": SharedRowEmitter,
    "held": HeldEmitter,
    "column": ColumnEmitter,
    "row total": RowTotalEmitter,
    "column total": ColumnTotalEmitter,
    "attention": AttentionEmitter,
    "scatter keys": ScatterKeysEmitter,
    "scatter sorted": SortedScatterEmitter,
    "sort counts": SortEmitter,
    "sort offsets": SortEmitter,
    "sort places": SortEmitter,
}
HELPERS = instructions.HELPERS | tensor_cores.HELPERS | attention.HELPERS | sorting.HELPERS


@dataclass(eq=False)
class Entry:
    """A kernel in one form: a function."""

    kernel: k.Kernel
    form: Form

    @cached_property
    def name(self) -> str:
        return f"{self.form.prefix}{self.kernel.name}"  # the kernel's name also gives every scalar its number

    @cached_property
    def source(self) -> str:
        """The function's text; what it calls stands in front of it in a module."""
        return EMITTERS[self.form.kind](self.kernel, self.form, self.name).run()

    @property
    def shared_bytes(self) -> int:
        """The dynamic shared memory of a block."""
        return self.form.held.shared_bytes if self.form.held is not None else self.form.dynamic_bytes


@dataclass(frozen=True, slots=True)
class Launch:
    """A function, and the blocks of a launch; CUDA counts blocks and threads by one axis only."""

    entry: Entry
    grid: int
    counters: int = 0  # of four bytes, 0 before and after, and
    partial_bytes: int = 0  # of memory: what follows the parameters, where blocks share points
    numbers: tuple[int, ...] = ()  # that follow those
    before: tuple[Launch, ...] = ()  # what is to be done first, with the same arguments

    @property
    def threads(self) -> int:
        """The threads of a block."""
        return self.entry.form.threads

    @property
    def stages(self) -> tuple[Launch, ...]:
        """All launches, in order."""
        return (*self.before, self)


def launch_of(kernel: k.Kernel, parameters: Sequence[int], arch: str = ARCH) -> Launch:
    """The function for these values of the parameters, and a launch that gives every point a team, if it can."""
    key = kernel.text, shared_bytes(arch), *parameters
    found = _launches.get(key)
    if found is None:
        if len(_launches) >= LIMIT:
            _launches.clear()
        form = form_of(kernel, dict(zip(kernel.parameters, parameters, strict=True)), shared_bytes(arch))
        before = tuple([Launch(Entry(kernel, one), one.grid, numbers=numbers) for one, numbers in form.before])
        found = Launch(Entry(kernel, form), form.grid, form.counters, form.partial_bytes, before=before)
        _launches[key] = found
    return found


def entry_for_sets(entry: Entry, sets: int) -> Entry:
    """A map's function for so many sets of buffers and parameters at once."""
    return Entry(entry.kernel, replace(entry.form, kind="each", sets=sets))


def module_source(entries: Iterable[Entry]) -> str:
    """The text of a module that contains the functions, each under its name."""
    distinct = {entry.name: entry for entry in entries}
    called = {f.name: f for entry in distinct.values() for f in entry.kernel.functions}
    parts = [*map(_function_source, called.values()), *(entry.source for entry in distinct.values())]
    body = "\n".join(parts)
    for name, text in reversed(HELPERS.items()):  # each may call those that stand before it
        if f"{name}(" in body or f"{name}<" in body:
            body = f"{text}\n{body}"
    return f"// To be compiled with -fmad=false: products and sums are rounded one by one.\n\n{body}"


def _function_source(function: k.Function) -> str:
    type = instructions.element_type(function.parameter.dtype)
    lines = [
        f"  const {instructions.element_type(step.result.dtype)} {name_of(step.result)} = {expression(step)};"
        for step in function.body
    ]
    head = f"__device__ __forceinline__ {type} {function.name}({type} {name_of(function.parameter)}) {{"
    return "\n".join([head, *lines, f"  return {read(function.result)};", "}\n"])
