"""The persistent cache: machine code on disk, keyed by what it was made from.

An entry is a file named by the digest of its key; it starts with the digest of key and content.  A file that
is damaged, cut short or foreign is a miss, never loaded.  Writing is atomic (a temporary file, renamed), so
processes may share the folder.  The folder is private to its user (mode 0700) and bounded: past
``MAX_BYTES`` the entries that were not used for longest go; other files in it are left alone.
``TRACEJIT_CACHE_DIR`` moves it; an empty value turns the cache off.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

MAX_BYTES = 256 << 20
LOOKS = 256
_LEAST_BYTES = 4096  # what a small file takes on disk
_DIGEST_BYTES = 32
MODULE, PROGRAM, TARGET = ".o", ".program", ".target"  # machine code; what runs it; a description of the processor
_ENTRY = r"[0-9a-f]{64}\.(o|program|target)|tmp.*\.tmp"  # compiled when it is needed


@cache
def directory() -> Path | None:
    """The cache folder, or ``None`` where there is none that can be trusted and written."""
    chosen = os.environ.get("TRACEJIT_CACHE_DIR")
    if chosen == "":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(os.path.expanduser(chosen) if chosen else os.path.join(base, "tracejit"))
    try:
        if not chosen and not path.is_absolute():
            raise FileNotFoundError("this user has no home folder")
        path = path.absolute()  # whatever the folder that the program works in becomes
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
            raise PermissionError(f"{path} belongs to or can be written by another user")
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} cannot be written")
    except OSError as error:
        warnings.warn(f"tracejit compiles without its disk cache: {error}", RuntimeWarning, stacklevel=2)
        return None
    return path


def name_of(key: str) -> str:
    """What the entry of a key is called."""
    return hashlib.sha256(key.encode()).hexdigest()


def _entry(name: str, kind: str) -> Path | None:
    folder = directory()
    return None if folder is None else folder / f"{name}{kind}"


def read(key: str, kind: str = MODULE) -> bytes | None:
    """The bytes stored under ``key``; ``None`` if there are none, or they are damaged."""
    return read_named(name_of(key), kind)


def read_named(name: str, kind: str = MODULE) -> bytes | None:
    """The bytes of an entry; ``None`` if there is none, or it is damaged."""
    path = _entry(name, kind)
    if path is None:
        return None
    content = _sound_content(path)
    if content is not None:
        with suppress(OSError):
            os.utime(path)  # for the bound: used last
    return content


def _sound_content(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
        content = data[_DIGEST_BYTES:]
        return content if _digest(path.stem, content) == data[:_DIGEST_BYTES] else None
    except (OSError, ValueError):
        return None


def entries() -> list[Path]:
    """The entries' files."""
    folder = directory()
    return [] if folder is None else sorted(path for path in folder.iterdir() if re.fullmatch(_ENTRY, path.name))


def damaged() -> list[Path]:
    """The entries that are not what was written, which are never loaded."""
    return [path for path in entries() if path.suffix != ".tmp" and _sound_content(path) is None]


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(bytes.fromhex(name) + content).digest()


def write(key: str, content: bytes, kind: str = MODULE) -> None:
    """Store ``content``; a folder that is full or has gone costs the entry, not the program."""
    name = name_of(key)
    path = _entry(name, kind)
    if path is None:
        return
    import tempfile  # which takes longer to import than an entry to read

    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_digest(name, content) + content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        if _is_looked_after(name, len(content)):
            _bound(path.parent)
    except OSError as error:
        _tell_once(path.parent, error.strerror)


@cache
def _tell_once(folder: Path, why: str) -> None:
    message = f"tracejit goes on without storing what it compiles in its disk cache, {folder}: {why}"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _is_looked_after(name: str, size: int) -> bool:
    """Whether the writer of an entry looks at the whole folder, which takes long: its name decides, as if by chance,
    so that all processes together look ``LOOKS`` times while they write ``MAX_BYTES``."""
    return int(name[:8], 16) * MAX_BYTES < (size + _LEAST_BYTES) * LOOKS << 32


def _bound(folder: Path) -> None:
    """Delete the entries that were not used for longest, until the rest fits (temporary files of processes that died
    among them)."""
    found = []
    for path in folder.iterdir():
        if not re.fullmatch(_ENTRY, path.name):
            continue
        try:
            status = path.stat()
        except OSError:
            continue  # another process was faster
        found.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in found) - MAX_BYTES
    for _, size, path in sorted(found):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size
