"""Which kernels read and write 16 bytes at a time: those whose threads may take neighbouring elements.

Where a buffer lies, and how far apart its rows are, is known only when a kernel runs.  So it looks at that itself, and
goes through its elements one by one where something is not aligned.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .. import kernel as k

BYTES = 16  # of one load or store
LONG = 120  # statements: so many keep a thread busy with one element


@dataclass(frozen=True, slots=True)
class Wide:
    """``width`` neighbouring elements of the innermost axis by one thread; these loads and stores take them at once."""

    width: int
    loads: tuple[k.Load, ...]
    stores: tuple[k.Store, ...]
    condition: str  # under which everything is aligned, in C; extents are looked at elsewhere

    @property
    def accesses(self) -> list[k.Load | k.Store]:
        """The loads, then the stores."""
        return [*self.loads, *self.stores]


def wide(kernel: k.Kernel, loops: Sequence[k.Loop]) -> Wide | None:
    """How the loops are gone through in steps; ``None`` where that gains nothing, or cannot be."""
    if not loops or "vector" not in loops[-1].kinds:
        return None
    inner = loops[-1]
    if len(inner.body) > LONG or any(isinstance(statement, k.Loop | k.Reduce) for statement in inner.body):
        return None
    stores = tuple(statement for statement in inner.body if isinstance(statement, k.Store))
    made_inside = {id(s.result) for s in inner.body if not isinstance(s, k.Store | k.Loop | k.Reduce)}
    loads = tuple(
        statement for statement in inner.body
        if isinstance(statement, k.Load) and is_along(statement.address, inner.axis, made_inside)
    )  # fmt: skip
    written = {store.buffer for store in stores}
    read = {statement.buffer for statement in k.walk(kernel.body) if isinstance(statement, k.Load)}
    if not stores or written & read or len(written) < len(stores):
        return None
    if any(store.accumulate or not is_along(store.address, inner.axis) for store in stores):
        return None
    dtypes = {buffer.name: buffer.dtype for buffer in kernel.buffers}
    accesses: list[k.Load | k.Store] = [*loads, *stores]
    width = BYTES // max(dtypes[access.buffer].itemsize for access in accesses)
    if width < 2:
        return None
    conditions: dict[str, None] = {}
    for access in accesses:
        size = width * dtypes[access.buffer].itemsize
        conditions[f"(unsigned long long){access.buffer} % {size} == 0"] = None
        steps = [access.address.offset, *access.address.terms.values()]
        steps += [stride for _, stride in access.address.dynamic]
        for step in steps:
            if isinstance(step, str):
                conditions[f"{step} % {width} == 0"] = None
            elif step != 1 and step % width:
                return None
    return Wide(width, loads, stores, " && ".join(conditions))


def is_along(address: k.Address, axis: str, changing: Collection[int] | None = None) -> bool:
    """Whether neighbours along an axis are neighbours in memory; ``changing`` scalars are others for each.

    Without those, no address that is found when the kernel runs will do.
    """
    others = [stride for name, stride in address.terms.items() if name != axis]
    stays = not address.dynamic or (changing is not None and not any(id(s) in changing for s, _ in address.dynamic))
    return address.terms.get(axis) == 1 and stays and 1 not in others
