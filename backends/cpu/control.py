"""Ops with regions on arrays: the eager path of control flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.ir import Block, Builder, Graph, Primitive, type_of
from tracejit.ir.graph import copy_block
from tracejit.ir.interpreter import interpret

from . import runtime


def evaluate(
    primitive: Primitive, arrays: Sequence[np.ndarray], attributes: Mapping[str, Any], regions: Sequence[Block]
) -> list[np.ndarray]:
    """The results of a primitive with regions."""
    graph = Graph(primitive.name)
    builder = Builder(graph)
    operands = [builder.parameter(type_of(array)) for array in arrays]
    graph.results = list(builder.apply_several(primitive, operands, attributes, [copy_block(r) for r in regions]))
    return interpret(graph, arrays, runtime.evaluate)
