"""Ops that only move elements: views that must stand in memory, placements, and scatters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracejit.ir import Op, Value
from tracejit.ir.primitive import Placement
from tracejit.ir.primitives.placement import update_slice

from .addresses import Region, flat_address, in_memory
from .fusion import home_index, is_alias, squeezed, through_views
from .lower import build_kernel

if TYPE_CHECKING:
    from .planning import _Plan


def lower_view(plan: _Plan, op: Op) -> None:
    """A view that must stand in memory is copied, unless it is its operand's memory already, or a part of it."""
    result, (operand,) = op.result, op.operands
    home = home_index(result.shape)
    if not is_alias(op):
        region = plan.regions.get(plan.memory_of(result))
        if (region is None or region.whole is not result) and not _is_part(plan, result):
            plan.copy(*through_views(result, home), result, home, result.type.static_shape, op)
    elif result not in plan.graph.results:
        plan.aliases[result] = operand
    else:
        source, target = plan.flat(operand), plan.flat(result)
        plan.copy(source, home_index(source.shape), target, home_index(target.shape), source.type.static_shape, op)


def _is_part(plan: _Plan, value: Value) -> bool:
    """Whether a view's elements stand side by side in other memory: then it is there."""
    home = home_index(value.shape)
    whole, address = in_memory(*through_views(value, home), plan.regions)
    here = flat_address(value.type.static_shape, home)
    if not plan.host or value in plan.graph.results or 0 in value.shape:
        return False
    if address.dynamic or address.terms != here.terms:
        return False
    plan.aliases[value] = whole
    plan.memory.starts[value] = address.constant * value.dtype.itemsize
    return True


def lower_placement(plan: _Plan, op: Op, primitive: Placement) -> None:
    """A copy for each operand that is not there yet, into its region; what lies around it is filled first."""
    result = op.result
    regions = primitive.regions([o.type for o in op.operands], **op.attributes)
    fill = 0 if is_update(op) else primitive.fill
    if fill is not None:
        filling, (number, start, step) = op.operands[fill], regions[-1]
        shape = result.type.static_shape
        boxes = _around(start, op.operands[number].type.static_shape, shape)
        for corner, extents in boxes if max(step, default=1) == 1 else [((0,) * result.ndim, shape)]:
            _copy(plan, op, filling, corner if filling.ndim else (), extents, _box(result, corner))
    for number, start, step in regions[is_update(op) :]:
        operand = op.operands[number]
        region = plan.regions.get(plan.memory_of(operand))
        if region is None or region.whole is not result:
            everything = (0,) * operand.ndim
            target = Region(result, start, step, tuple(range(result.ndim)))
            _copy(plan, op, operand, everything, operand.type.static_shape, target)


def _copy(plan: _Plan, op: Op, operand: Value, corner: tuple[int, ...], shape: tuple[int, ...], region: Region) -> None:
    """Copy a box of an operand, or a scalar, to a region of the op's result."""
    home = home_index(shape)
    source = _box(operand, corner).index(home) if operand.ndim else ()
    plan.copy(operand, source, region.whole, region.index(home), shape, op, title=op.primitive.name)


def lower_scatter(plan: _Plan, op: Op) -> None:
    """The operand is copied, then the updates are written one after the other."""
    operand, updates, *indices = op.operands
    corner = (0,) * operand.ndim
    _copy(plan, op, operand, corner, operand.type.static_shape, _box(op.result, corner))
    domain = squeezed(updates.shape)
    if 0 in domain or 0 in operand.shape:
        return
    elements = plan.elements()
    position = home_index(updates.shape)
    where = elements.addressed(operand, indices, op.attributes["axes"], position)
    store = plan.store(op.result, where, elements.element(updates, position))
    store.accumulate = op.attributes["combine"] == "add"
    lowered = build_kernel(
        elements, [store], domain, frozenset(), title="scatter", specialize=plan.specialize, serial=True
    )
    plan.append(lowered, op)


def _box(whole: Value, corner: tuple[int, ...]) -> Region:
    """A contiguous region with the axes of the whole."""
    return Region(whole, corner, (1,) * len(corner), tuple(range(len(corner))))


def is_update(op: Op) -> bool:
    """Whether the first operand is what the others are written into."""
    return op.primitive is update_slice


def _around(
    start: tuple[int, ...], extents: tuple[int, ...], shape: tuple[int, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Boxes (corner, shape) that make up all of ``shape`` but the box at ``start``."""
    boxes = []
    corner, rest = [0] * len(shape), list(shape)
    for axis, (first, extent) in enumerate(zip(start, extents, strict=True)):
        for low, high in ((0, first), (first + extent, shape[axis])):
            if low < high:
                corner[axis], rest[axis] = low, high - low
                boxes.append((tuple(corner), tuple(rest)))
        corner[axis], rest[axis] = first, extent
    return boxes
