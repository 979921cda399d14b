"""The user's line: which line of whose code asked for an operation.

Frames of this package are skipped, except its demo programs, which are users too, and so are those of ``contextlib``.
"""

from __future__ import annotations

import contextlib
import linecache
import os.path
import sys
import warnings
from functools import lru_cache
from types import FrameType
from typing import TypeVar

from tracejit.ir import Location

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(_PACKAGE)
_LIBRARY = tuple(
    os.path.join(folder, "") for folder in (_PACKAGE, os.path.join(_ROOT, "ir"), os.path.join(_ROOT, "backends"))
)
_USERS = os.path.join(_PACKAGE, "demo", "")
_LAYERS = tuple(os.path.join(_PACKAGE, name, "") for name in ("nn", "optim"))  # worth naming beside the user's line
_USER, _OWN, _LAYER = range(3)  # whose a source file is
_owners: dict[str, int] = {}
location_of = lru_cache(1 << 16)(Location)


def is_library(file: str) -> bool:
    """Whether a source file is this package's own, or only passes calls on."""
    return (_owners[file] if file in _owners else _owner(file)) != _USER


def _owner(file: str) -> int:
    is_own = file.startswith(_LIBRARY) and not file.startswith(_USERS)
    found = _owners[file] = (
        _LAYER if is_own and file.startswith(_LAYERS) else _OWN if is_own or file == contextlib.__file__ else _USER
    )
    return found


def user_frame() -> FrameType | None:
    """The innermost frame that is not this package's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def user_location() -> tuple[Location | None, FrameType | None]:
    """The user's line, with the line of the layer or optimizer that it called, and the user's frame."""
    via: tuple[str, int] | None = None
    frame: FrameType | None = sys._getframe(1)
    known = _owners
    while frame is not None:
        file = frame.f_code.co_filename
        owner = known[file] if file in known else _owner(file)
        if owner == _USER:
            return location_of(file, frame.f_lineno, via), frame
        if via is None and owner == _LAYER:
            via = (file, frame.f_lineno)
        frame = frame.f_back
    return None, None


ErrorType = TypeVar("ErrorType", bound=BaseException)


def at_user_line(error: ErrorType, location: Location | None = None) -> ErrorType:
    """The error, its message ending with the user's line (once)."""
    if getattr(error, "_names_line", False):
        return error
    if location is None:
        location, _ = user_location()
    if location is not None:
        source = linecache.getline(location.file, location.line).strip()
        message = str(error.args[0]) if error.args else ""
        error.args = (
            f"{message}\n  at {location.file}:{location.line}{': ' + source if source else ''}",
            *error.args[1:],
        )
        error._names_line = True  # type: ignore[attr-defined]
    return error


def warn_at_user_line(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning that names the user's line, shown as ``warnings.warn`` would: once a line by default."""
    location, frame = user_location()
    if location is None or frame is None:
        warnings.warn(message, category, stacklevel=3)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, location.file, location.line, registry=registry)
