"""Machine code into memory without LLVM, whose library takes longer to load than most programs do.

Object files of our generators need little: sections in memory, and addresses (of 64 bits, for nothing is known of how
far apart things are) written where the relocations say.  What is of another kind is left to LLVM's own loader.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from tracejit.ir.facts import facts

_IDENTIFICATION = b"\x7fELF\x02\x01"  # of 64 bits, little-endian
_RELOCATABLE, _X86_64, _ABSOLUTE = 1, 62, 1
_BITS, _SYMBOLS, _RELOCATIONS, _ZEROS = 1, 2, 4, 8  # types of sections
_WRITABLE, _IN_MEMORY = 1, 2  # flags of sections
_SECTION, _SYMBOL, _RELOCATION = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
_ORDINARY = 0xFF00  # numbers of sections are below


@facts
class _Section:
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Other(Exception):
    """An object file of another kind."""


def load(code: bytes, names: Sequence[str]) -> list[int] | None:
    """The addresses of functions of an object file, which is in memory from here on; ``None`` where it cannot be."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return _load(code, names)
    except (_Other, OSError, AttributeError, KeyError):
        return None


def _load(code: bytes, names: Sequence[str]) -> list[int]:
    if code[:6] != _IDENTIFICATION or struct.unpack_from("<HH", code, 16) != (_RELOCATABLE, _X86_64):
        raise _Other
    (start,) = struct.unpack_from("<Q", code, 40)
    _, count, strings = struct.unpack_from("<HHH", code, 58)
    sections = [_Section(*_SECTION.unpack_from(code, start + 64 * number)) for number in range(count)]
    kept = [
        s for s in sections if s.flags & _IN_MEMORY and s.size and not _is_for_unwinding(code, sections, s, strings)
    ]
    if any(section.type not in (_BITS, _ZEROS) for section in kept):
        raise _Other
    end = 0
    for writable in (0, _WRITABLE):
        if writable:
            fixed = end = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
        for section in kept:
            if section.flags & _WRITABLE == writable:
                alignment = max(section.alignment, 1)
                section.address = -(-end // alignment) * alignment
                end = section.address + section.size
    memory, base = _memory(end)
    for section in kept:
        if section.type == _BITS:
            memory[section.address : section.address + section.size] = code[
                section.offset : section.offset + section.size
            ]
    places = {id(section) for section in kept}
    (table,) = [section for section in sections if section.type == _SYMBOLS]
    symbols = [*_SYMBOL.iter_unpack(code[table.offset : table.offset + table.size])]

    def name_of(offset: int) -> str:
        at = sections[table.link].offset + offset
        return code[at : code.index(b"\0", at)].decode()

    def address_of(name: int, section: int, value: int) -> int:
        if section == 0:
            return _of_process(name_of(name))
        if section >= _ORDINARY or id(sections[section]) not in places:
            raise _Other
        return base + sections[section].address + value

    known: dict[int, int] = {}
    for relocations in sections:
        if relocations.type != _RELOCATIONS or id(sections[relocations.info]) not in places:
            continue
        target = sections[relocations.info].address
        content = code[relocations.offset : relocations.offset + relocations.size]
        for offset, info, addend in _RELOCATION.iter_unpack(content):
            if info & 0xFFFFFFFF != _ABSOLUTE:
                raise _Other
            number = info >> 32
            if number not in known:
                name, _, _, section_number, value, _ = symbols[number]
                known[number] = address_of(name, section_number, value)
            struct.pack_into("<Q", memory, target + offset, known[number] + addend)
    if fixed:
        _protect(base, fixed)
    wanted = set(names)
    found = {
        text: address_of(name, number, value)
        for name, _, _, number, value, _ in symbols
        if (text := name_of(name)) in wanted
    }
    return [found[name] for name in names]


def place(code: bytes) -> int:
    """The address of machine code that needs nothing else; ``OSError`` where the system does not allow it."""
    memory, address = _memory(len(code))
    memory[: len(code)] = code
    _protect(address, len(code))
    return address


def _memory(count: int) -> tuple[mmap.mmap, int]:
    """Some memory and its address; it stays, for objects that die with the interpreter may call what is there."""
    private, both = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE
    memory = mmap.mmap(-1, max(count, 1), flags=private, prot=both)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _is_for_unwinding(code: bytes, sections: Sequence[_Section], section: _Section, strings: int) -> bool:
    at = sections[strings].offset + section.name
    return code[at : at + 9] == b".eh_frame"


@cache
def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _of_process(name: str) -> int:
    """The address of a function of the C library."""
    address = ctypes.cast(getattr(_library(), name), ctypes.c_void_p).value
    assert address is not None
    return address


def _protect(address: int, count: int) -> None:
    """Let code run there, which nothing changes any more."""
    protect = _library().mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(address, count, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "mprotect")
