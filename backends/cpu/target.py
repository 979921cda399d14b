"""What the code generator needs to know about the processor it writes for."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tracejit.ir.facts import facts

from .. import cache as disk
from . import cpuid


@facts(frozen=True)
class Target:
    """A processor: how LLVM names it, and the shape of its vector unit.

    It is an argument of every generator rather than a global, so that the code for narrower machines can be
    generated, and on a wider machine also run, by the tests.
    """

    triple: str
    cpu: str
    features: str
    vector_bits: int  # 512, 256 or 128: the widest vector worth using
    vector_registers: int  # 32 or 16
    has_masked_memory: bool  # loads and stores of some lanes only, at no extra cost (AVX-512)
    multiplies_bfloat16: bool = False  # pairs of bfloat16, which it adds to float32 (AVX512-BF16)

    def lanes(self, dtype: np.dtype) -> int:
        """How many elements of a dtype one vector register holds."""
        return self.vector_bits // (8 * dtype.itemsize)

    @property
    def architecture(self) -> str:
        """``"x86_64"``, ``"aarch64"``, …: the first part of the triple."""
        architecture = self.triple.split("-", 1)[0]
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)

    @property
    def is_linux(self) -> bool:
        return "linux" in self.triple


def describe(triple: str, cpu: str, features: dict[str, bool]) -> Target:
    """Derive the shape of the vector unit from LLVM's feature names."""
    vector_bits, vector_registers, masked = 128, 16, False
    if triple.startswith(("aarch64", "arm64")):
        vector_registers = 32
    elif features.get("avx512f") and features.get("avx512vl") and features.get("avx512dq") and features.get("avx512bw"):
        vector_bits, vector_registers, masked = 512, 32, True
        # LLVM splits 512-bit vectors in two where it believes (of Skylake servers, mostly) that they lower the clock.
        features = {**features, "prefer-256-bit": False}
    elif features.get("avx2") and features.get("fma"):
        vector_bits = 256
    text = ",".join(f"{'+' if present else '-'}{name}" for name, present in sorted(features.items()))
    return Target(
        triple, cpu, text, vector_bits, vector_registers, masked, masked and features.get("avx512bf16", False)
    )


@cache
def host_target() -> Target:
    """The processor this process runs on.

    LLVM knows; its library takes long to load, so what it says is kept on disk under what the processor says.
    """
    told = cpuid.identification()
    key = None if told is None else f"target {llvm_version()}\n{told}\n{Path(__file__).read_text()}"
    found = None if key is None else disk.read(key, disk.TARGET)
    if found is not None:
        return Target(**json.loads(found))
    import llvmlite.binding as llvm

    target = describe(llvm.get_process_triple(), llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features()))
    if key is not None:
        disk.write(key, json.dumps(vars(target)).encode(), disk.TARGET)
    return target


@cache
def llvm_version() -> str:
    """The version of llvmlite, which is not imported for that where it says so in a file of its own."""
    spec = find_spec("llvmlite")
    if spec is not None and spec.origin is not None:
        with suppress(OSError):
            return Path(spec.origin).with_name("_version.py").read_text()
    import llvmlite

    return str(llvmlite.__version__)
