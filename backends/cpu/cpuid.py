"""What an x86 processor says of itself, asked without LLVM."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache

from . import loader

# cpuid(leaf, subleaf, registers): push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; the four registers are
# stored at r8; pop rbx; ret
_CPUID = bytes.fromhex("53 89f8 89f1 4989d0 0fa2 418900 41895804 41894808 4189500c 5b c3")
_XGETBV = bytes.fromhex("31c9 0f01d0 48c1e220 4809d0 c3")  # what the system saves of registers: it may be used
_LEAVES = ((0, 0), (1, 0), (7, 0), (7, 1), (0xD, 1), (0x14, 0), (0x19, 0), (0x24, 0))
_EXTENDED_LEAVES = ((0x8000_0000, 0), (0x8000_0001, 0), (0x8000_0008, 0))
_HAS_XGETBV = 1 << 27  # in ecx, leaf 1
_NUMBER_OF_CORE = 0xFF << 24  # in ebx, leaf 1


@cache
def identification() -> str | None:
    """All that LLVM looks at to tell one processor from another; ``None`` where it cannot be asked."""
    if platform.machine() not in ("x86_64", "AMD64") or not sys.platform.startswith("linux"):
        return None
    try:
        cpuid, xgetbv = (loader.place(code) for code in (_CPUID, _XGETBV))
    except OSError:
        return None
    ask = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(cpuid)
    registers = (ctypes.c_uint32 * 4)()
    found: list[tuple[int, ...]] = []
    for leaves in (_LEAVES, _EXTENDED_LEAVES):
        last = leaves[0][0]
        for leaf, subleaf in leaves:
            if leaf > last:
                continue
            ask(leaf, subleaf, ctypes.addressof(registers))
            eax, ebx, ecx, edx = registers
            if leaf == leaves[0][0]:
                last = eax
            if leaf == 1:
                ebx &= ~_NUMBER_OF_CORE
                if ecx & _HAS_XGETBV:
                    found.append((ctypes.CFUNCTYPE(ctypes.c_uint64)(xgetbv)(),))
            found.append((leaf, subleaf, eax, ebx, ecx, edx))
    return repr(found)
