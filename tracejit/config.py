"""Settings of the whole process; each has an environment variable that is read at import."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass
class Config:
    """``disable_jit`` (``TRACEJIT_DISABLE_JIT=1``): jitted functions run as plain Python, for debugging.

    >>> import tracejit as tj
    >>> f = tj.jit(lambda x: x + 1)
    >>> tj.config.disable_jit = True
    >>> f(tj.zeros(2)), f.cache_info().misses
    (tensor([1., 1.]), 0)
    >>> tj.config.disable_jit = False
    """

    disable_jit: bool = os.environ.get("TRACEJIT_DISABLE_JIT", "") not in ("", "0")


config = Config()
