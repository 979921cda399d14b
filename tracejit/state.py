"""What holds for the code that runs now, in this thread: the active trace, the innermost transformation, the modes."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .levels import Level
    from .transforms.checkpointing import Recording
    from .tracing import Trace


class ThreadState(threading.local):
    """``quiet`` is a context in which NumPy does not warn of overflow, NaN and the like: compiled code does not."""

    trace: Trace | None = None
    level: Level | None = None
    region: Recording | None = None  # of a function that will be run again when its derivative is wanted
    grad_enabled: bool = True
    anomaly: bool = False
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # of the jitted call under way, for its changes

    def __init__(self) -> None:
        self.quiet = contextvars.Context()
        self.quiet.run(np.seterr, all="ignore")


thread = ThreadState()
