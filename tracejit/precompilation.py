"""Compiling for a GPU that need not be here: the machine code waits in the cache folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from tracejit.ir.types import DTYPES_BY_SHORT_NAME

from . import tree
from .jit import JittedFunction
from .locations import at_user_line
from .state import thread

_TYPE = re.compile(rf"({'|'.join(DTYPES_BY_SHORT_NAME)})\[([\d, ]*)\]")


def precompile(function: JittedFunction, specs: Iterable[Any], arch: str = "sm_90") -> list[Any]:
    """Compile what calls of a jitted function run on a GPU of an architecture; a report on each kernel.

    Each of the ``specs`` is the arguments of one call, a tuple; in place of a tensor its type will do, as a string.
    The machine code goes to the cache folder (``TRACEJIT_CACHE_DIR``), which can be taken along to a machine with
    that GPU.  No GPU is needed here, but NVRTC: ``RuntimeError`` where it is not installed (the ``nvrtc`` extra).

    >>> import tracejit as tj
    >>> step = tj.jit(lambda x, y: (x * y).sum())
    >>> reports = tj.precompile(step, [("f32[1000]", "f32[1000]")])  # doctest: +SKIP
    >>> reports[0].registers, reports[0].spill_bytes  # doctest: +SKIP
    (22, 0)
    """
    from tracejit.backends.cuda import cubins, libraries
    from tracejit.backends.cuda.codegen import Entry
    from tracejit.backends.cuda.executable import entries
    from tracejit.backends.program import DotCall, walk

    if not isinstance(function, JittedFunction):
        raise at_user_line(TypeError(f"precompile: expected a jitted function, got {type(function).__name__}"))
    needed: dict[str, Entry] = {}
    recorder = function.anew()  # what it has recorded for the CPU may differ
    thread.for_device = True
    try:
        for spec in specs:
            given = spec if isinstance(spec, tuple) else (spec,)
            arguments = tree.map_leaves(_argument, given)
            for code in recorder.codes(arguments, {}):
                program = code.planned(host=False)
                dtypes = {call.dtype for call in walk(program.calls) if isinstance(call, DotCall)}
                needed.update(
                    {entry.name: entry for entry in [*entries(program, arch), *map(libraries.copy_entry, dtypes)]}
                )
    finally:
        thread.for_device = False
    cubins.compile_entries(list(needed.values()), arch)
    return cubins.report(list(needed.values()), arch) if needed else []


def _argument(leaf: Any) -> Any:
    """A leaf of a call's arguments: zeros for a type."""
    found = _TYPE.fullmatch(leaf.strip()) if isinstance(leaf, str) else None
    if found is None:
        return leaf
    from .ops.creation import from_numpy

    shape = tuple(int(extent) for extent in found[2].split(",") if extent.strip())
    return from_numpy(np.zeros(shape, DTYPES_BY_SHORT_NAME[found[1]]))


__all__ = ["precompile"]
