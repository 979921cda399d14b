"""What happens behind the functions that are compiled, told through :mod:`logging`.

==============================  ====================================================================================
logger
==============================  ====================================================================================
``tracejit.trace``              which function is traced, for which arguments; what made it be traced again; why one is
                                not compiled
``tracejit.compile``            which program was compiled, or loaded from the disk, in what time
``tracejit.cache``              which programs and machine code the disk had, and which it did not
``tracejit.passes``             each pass over a program: its number (see ``TRACEJIT_PASSES_LIMIT``), how many ops it
                                left, how long it took
==============================  ====================================================================================

``TRACEJIT_LOG=trace,compile`` shows the first two on stderr, ``TRACEJIT_LOG=all`` all of them.
"""

from __future__ import annotations

import logging

TOPICS = ("trace", "compile", "cache", "passes")
trace, compile, cache, passes = (logging.getLogger(f"tracejit.{topic}") for topic in TOPICS)


def show(topics: str) -> None:
    """Show what ``topics`` names, with commas between, on stderr.

    Raises ``ValueError`` for what is none of them.
    """
    names = [topic.strip() for topic in topics.split(",")]
    chosen = list(TOPICS) if names in (["all"], ["1"]) else names
    unknown = [name for name in chosen if name not in TOPICS]
    if unknown:
        raise ValueError(f"TRACEJIT_LOG should be 'all', or some of {', '.join(TOPICS)}; got {unknown[0]!r}")
    root = logging.getLogger("tracejit")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root.addHandler(handler)
    root.propagate = False
    for name in chosen:
        logging.getLogger(f"tracejit.{name}").setLevel(logging.DEBUG)


__all__ = ["TOPICS", "show"]
