"""Where elements lie: positions in contiguous arrays, and values that lie in regions of others' memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracejit.ir import Value
from tracejit.ir.facts import facts

from .fusion import Affine, Index, through_views


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def flat_address(shape: Sequence[int], index: Index) -> Affine:
    """The position in a contiguous array of ``shape`` of the element at ``index``."""
    terms: dict[int, int] = {}
    dynamic: list[tuple[Any, int]] = []
    constant = 0
    for stride, entry in zip(strides_of(shape), index, strict=True):
        if entry == 0:
            continue
        constant += entry.constant * stride
        for axis, coefficient in entry.terms:
            terms[axis] = terms.get(axis, 0) + coefficient * stride
        dynamic += [(position, coefficient * stride) for position, coefficient in entry.dynamic]
    return Affine(tuple((axis, c) for axis, c in sorted(terms.items()) if c), constant, tuple(dynamic))


@facts(frozen=True)
class Region:
    """Where a value lies in the memory of another: in the box that begins at ``start``, every ``step``-th element.

    ``axes`` names for each axis of the whole the value's; ``None`` where the value has none.
    """

    whole: Value
    start: tuple[int, ...]
    step: tuple[int, ...]
    axes: tuple[int | None, ...]

    def index(self, index: Index) -> Index:
        """The index in the whole of the value's element at ``index``."""
        entries = [0 if axis is None else index[axis] for axis in self.axes]
        return tuple(
            (Affine((), first) if first else 0) if entry == 0 else entry * step + first
            for entry, step, first in zip(entries, self.step, self.start, strict=True)
        )


def region_of(part: Value, whole: Value, start: tuple[int, ...], step: tuple[int, ...]) -> tuple[Value, Region] | None:
    """The value behind ``part``'s views and its region, where the views only move axes and add ones of extent 1."""
    own = (0 if extent == 1 else Affine(((axis, 1),)) for axis, extent in enumerate(part.shape))
    base, index = through_views(part, tuple(own))
    axes: list[int | None] = [None] * part.ndim
    for axis, entry in enumerate(index):
        if entry == 0 and base.shape[axis] == 1:
            continue
        if entry == 0 or entry.constant or entry.dynamic or len(entry.terms) != 1:
            return None
        ((place, coefficient),) = entry.terms
        if coefficient != 1 or axes[place] is not None or base.shape[axis] != part.shape[place]:
            return None
        axes[place] = axis
    if any(axis is None and extent != 1 for axis, extent in zip(axes, part.shape, strict=True)):
        return None
    return base, Region(whole, start, step, tuple(axes))


Regions = Mapping[Value, Region]


def in_memory(value: Value, index: Index, regions: Regions) -> tuple[Value, Affine]:
    """The value whose memory holds the element, and the element's position there."""
    while (region := regions.get(value)) is not None:
        value, index = region.whole, region.index(index)
    return value, flat_address(value.type.static_shape, index)
