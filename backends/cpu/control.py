"""Ops with regions on arrays: the eager path of control flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.ir import Block, Builder, Graph, Primitive, type_of
from tracejit.ir.graph import copy_block
from tracejit.ir.structure import attributes_key, regions_key

from . import stored
from .runtime import Executable

LIMIT = 512
_programs: dict[Any, tuple[Executable, Sequence[Block]]] = {}  # with the regions, whose constants keys tell by identity


def evaluate(
    primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any], regions: Sequence[Block]
) -> list[np.ndarray]:
    """The results of a primitive with regions, by a compiled program: one for what is alike."""
    types = tuple([type_of(array) for array in arrays])
    key = (primitive, types, attributes_key(attributes), regions_key(regions))
    found = _programs.get(key)
    if found is None:
        graph = Graph(primitive.name)
        builder = Builder(graph)
        operands = [builder.parameter(type) for type in types]
        graph.results = list(builder.apply_several(primitive, operands, attributes, [copy_block(r) for r in regions]))
        while len(_programs) >= LIMIT:
            del _programs[next(iter(_programs))]
        found = _programs[key] = stored.executable(graph, "region", lambda: stored.optimized_program(graph)), regions
    return found[0](arrays)
