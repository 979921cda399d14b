"""Ops with regions on arrays: the eager path of control flow, by a compiled program for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracejit.ir import Block, Builder, Graph, Primitive, TensorType
from tracejit.ir.graph import copy_block
from tracejit.ir.structure import attributes_key, regions_key

from .devices import Device

LIMIT = 512
_programs: dict[Any, tuple[Any, Sequence[Block]]] = {}  # with the regions, whose constants keys tell by identity


def evaluate(
    primitive: Primitive,
    arrays: Sequence[Any],
    attributes: Mapping[str, Any],
    regions: Sequence[Block],
    device: Device | None,
) -> list[Any]:
    """The results of a primitive with regions, on a device or on the CPU: one program for what is alike."""
    types = tuple([TensorType(array.dtype, tuple(array.shape)) for array in arrays])
    key = (device, primitive, types, attributes_key(attributes), regions_key(regions))
    found = _programs.get(key)
    if found is None:
        graph = Graph(primitive.name)
        builder = Builder(graph)
        operands = [builder.parameter(type) for type in types]
        graph.results = list(builder.apply_several(primitive, operands, attributes, [copy_block(r) for r in regions]))
        while len(_programs) >= LIMIT:
            del _programs[next(iter(_programs))]
        found = _programs[key] = _executable(graph, device), regions
    results: list[Any] = found[0](arrays)
    return results


def _executable(graph: Graph, device: Device | None) -> Any:
    from .cpu import stored

    if device is None:
        return stored.executable(graph, "region", lambda: stored.optimized_program(graph))
    from .cuda.executable import Executable

    return Executable(stored.optimized_program(graph, host=False), device)
