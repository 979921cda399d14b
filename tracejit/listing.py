"""What ``ir()`` gives: text, which is coloured where a terminal shows it, and in notebooks."""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Callable

_STYLES = {"comment": "2", "type": "36", "name": "1"}  # dim, cyan, bold: as the printer of graphs has it
_COLORS = {"comment": "#888", "type": "#0a7ea4", "name": "inherit; font-weight: bold"}
_PARTS = re.compile(
    r"""(?P<comment>(?<!\w)(?:\#|//|;)[ ].*$)
      | (?P<type>\b(?:bool|bf16|[iuf](?:8|16|32|64)|c64|c128)(?:\[[\w,*+ -]*\])?)
      | (?P<before>(?:^[ ]*|=[ ]))(?P<name>[a-z_][\w.]*)(?=[ (])""",
    re.VERBOSE | re.MULTILINE,
)


class Listing(str):
    """A string; ``print`` and a REPL show it in colours where standard output is a terminal.

    Not so where ``NO_COLOR`` is set, or ``TERM=dumb``.  What is written to a file is the plain text.

    >>> listing = Listing("  %y = negate %x : f32[3]   # demo.py:1")
    >>> listing
      %y = negate %x : f32[3]   # demo.py:1
    >>> print(listing.colored())  # doctest: +SKIP
    """

    __slots__ = ()

    def __str__(self) -> str:
        return self.colored() if _is_colorful() else self[:]

    def __repr__(self) -> str:
        return str(self)

    def colored(self) -> str:
        """The text with ANSI escapes."""
        return self._marked(lambda kind, text: f"\x1b[{_STYLES[kind]}m{text}\x1b[0m", self[:])

    def _repr_html_(self) -> str:
        def mark(kind: str, text: str) -> str:
            return f'<span style="color: {_COLORS[kind]}">{text}</span>'

        return f"<pre>{self._marked(mark, html.escape(self[:], quote=False))}</pre>"

    @staticmethod
    def _marked(mark: Callable[[str, str], str], text: str) -> str:
        def replace(match: re.Match[str]) -> str:
            kind = match.lastgroup or ""
            return (match["before"] or "") + mark(kind, match[kind])

        return _PARTS.sub(replace, text)


def _is_colorful() -> bool:
    """Whether standard output shows colours, and may (see no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):
        return False


__all__ = ["Listing"]
