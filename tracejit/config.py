"""Settings of the whole process; each has an environment variable that is read at import."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tracejit.ir.masks import settings as masks
from tracejit.ir.primitives import while_vjp

from .logs import show


def _is_set(variable: str, otherwise: str = "") -> bool:
    return os.environ.get(variable, otherwise) not in ("", "0")


@dataclass(slots=True)
class Config:
    """``disable_jit`` (``TRACEJIT_DISABLE_JIT=1``): jitted functions run as plain Python, for debugging.

    >>> import tracejit as tj
    >>> f = tj.jit(lambda x: x + 1)
    >>> tj.config.disable_jit = True
    >>> f(tj.zeros(2)), f.cache_info().misses
    (tensor([1., 1.]), 0)
    >>> tj.config.disable_jit = False

    ``masked_where`` (on, unless ``TRACEJIT_MASKED_WHERE=0``): gradients of what :func:`tracejit.where` has not taken
    are zero, even where a derivative on the way is infinite or NaN; see :mod:`tracejit.ir.masks`.

    >>> slope = tj.grad(lambda x: tj.where(x > 0, tj.sqrt(x), 0.0))
    >>> slope(0.0)
    tensor(0.)
    >>> tj.config.masked_where = False
    >>> slope(0.0)
    tensor(nan)
    >>> tj.config.masked_where = True

    ``loop_memory`` (2**30 bytes, or ``TRACEJIT_LOOP_MEMORY``): what the derivative of a loop of unknown length may keep
    of its steps; beyond that, steps are run once more, in stretches.  It holds for derivatives taken from then on.
    """

    disable_jit: bool = _is_set("TRACEJIT_DISABLE_JIT")

    @property
    def masked_where(self) -> bool:
        """Whether ``where`` masks gradients."""
        return masks.masked

    @masked_where.setter
    def masked_where(self, flag: bool) -> None:
        masks.masked = flag

    @property
    def loop_memory(self) -> int:
        """How many bytes the derivative of a loop may keep."""
        return while_vjp.settings.memory

    @loop_memory.setter
    def loop_memory(self, nbytes: int) -> None:
        if not isinstance(nbytes, int) or nbytes < 1:
            raise ValueError(f"loop_memory is a number of bytes, got {nbytes!r}")
        while_vjp.settings.memory = nbytes


def get_num_threads() -> int:
    """How many threads share the work of large operations, the caller's among them; see :func:`set_num_threads`."""
    from tracejit.backends.cpu import threads  # here, as below: importing tracejit loads no compiler

    return threads.num_threads()


def set_num_threads(number: int) -> None:
    """Have at most ``number`` threads share the work of large operations, the caller's among them.

    At first there is one for each processor that the process may use (its affinity, and the quota of its control
    group); more than that are of no use, and not started.  Results do not depend on it, to the bit.

    Raises:
        TypeError: ``number`` is no int.
        ValueError: It is below 1.

    >>> import tracejit as tj
    >>> number = tj.get_num_threads()
    >>> tj.set_num_threads(1)
    >>> tj.get_num_threads()
    1
    >>> tj.set_num_threads(number)
    """
    from tracejit.backends.cpu import threads

    threads.set_num_threads(number)


config = Config()
config.loop_memory = int(os.environ.get("TRACEJIT_LOOP_MEMORY") or config.loop_memory)
config.masked_where = _is_set("TRACEJIT_MASKED_WHERE", "1")
if _is_set("TRACEJIT_LOG"):
    show(os.environ["TRACEJIT_LOG"])
