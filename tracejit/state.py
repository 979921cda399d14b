"""What holds for the code that runs now, in this thread: the active trace, whether gradients are recorded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tracing import Trace


class ThreadState(threading.local):
    trace: Trace | None = None
    grad_enabled: bool = True
    anomaly: bool = False


thread = ThreadState()
