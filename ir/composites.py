"""Composites: operations that say by other primitives what they mean, and that a backend may have kernels for.

What NumPy gives, the derivatives and the batches of one follow from its decomposition, but for the rules that it has
itself.  Where there is no kernel, :func:`decomposed` puts the decomposition in its
place.  (StableHLO has ``composite`` for the same.)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from .batching import BatchedApplication, BatchRule
from .graph import Block, Builder, Constant, Emit, Graph, Op, Value
from .primitive import PRIMITIVES, Application, Composite, Emitter, Primitive, VjpRule
from .types import TensorType


def composite(
    name: str,
    type_rule: Callable[..., TensorType],
    decomposition: Callable[..., Any],
    *,
    vjp: VjpRule | None = None,
    saves: str = "01234567",
    differentiable_operands: tuple[int, ...] | None = None,
    batch: BatchRule | None = None,
) -> Composite:
    """The primitive that ``decomposition(emitter, *operands, **attributes)`` defines."""
    return Composite(
        name=name,
        type_rule=type_rule,
        numpy=lambda *arrays, **attributes: decomposition(_numpy, *arrays, **attributes),
        exact=False,
        vjp=vjp or _vjp,
        saves=saves,
        differentiable_operands=differentiable_operands,
        jvp=_jvp,
        batch=batch or _batch,
        decomposition=decomposition,
    )


def _evaluate(primitive: Primitive, operands: tuple[np.ndarray, ...], attributes: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return primitive.evaluate(*operands, **attributes)


_numpy = Emitter(_evaluate, lambda array: array)


@cache
def graph_of(name: str, types: tuple[TensorType, ...], attributes: tuple[tuple[str, Any], ...]) -> Graph:
    """The decomposition for operands of some types."""
    from .autodiff import graph_emitter  # here, as in the rules below: what is seldom needed is not loaded

    primitive = PRIMITIVES[name]
    assert isinstance(primitive, Composite)
    graph = Graph(name)
    builder = Builder(graph)
    operands = [builder.parameter(type) for type in types]
    graph.results = [primitive.decomposition(graph_emitter(builder), *operands, **dict(attributes))]
    return graph


def _known(op: Application) -> tuple[str, tuple[TensorType, ...], tuple[tuple[str, Any], ...]]:
    """What its decomposition depends on."""
    types = tuple(map(_in_numbers, op.operand_types))
    return op.primitive.name, types, tuple(op.attributes.items())


def _in_numbers(type: TensorType) -> TensorType:
    """What is kept is not for the extents of a trace."""
    return TensorType(type.dtype, tuple([operator.index(extent) for extent in type.static_shape]))


@cache
def _vjp_graph(name: str, types: tuple[TensorType, ...], attributes: tuple[tuple[str, Any], ...], index: int) -> Graph:
    from .autodiff import vjp

    return vjp(graph_of(name, types, attributes), [number == index for number in range(len(types))])


def _vjp(e: Emitter, index: int, cotangent: Any, op: Application) -> Any:
    from .forward import push_ops

    graph = _vjp_graph(*_known(op), index)
    operands = [*op.operands, cotangent]
    return push_ops(e, graph, operands, [None] * len(operands))[0][-1]


def _jvp(e: Emitter, tangents: Sequence[Any], op: Application) -> Any:
    from .forward import push_ops

    return push_ops(e, graph_of(*_known(op)), op.operands, tangents)[1][0]


def _batch(e: Emitter, op: BatchedApplication) -> Any:
    from .vectorize import batch_ops

    types = tuple([_in_numbers(TensorType(operand.dtype, op.shape(i))) for i, operand in enumerate(op.operands)])
    graph = graph_of(op.primitive.name, types, tuple(op.attributes.items()))
    return batch_ops(e, graph, op.operands, op.is_batched, op.size)[0][0]


def decomposed(graph: Graph, is_kept: Callable[[Op], bool] = lambda op: False) -> Graph:
    """The graph with the decompositions of composites in their places, but for those that are kept."""

    def rewrite(op: Op, operands: tuple[Value, ...], emit: Emit) -> Sequence[Value] | None:
        if not isinstance(op.primitive, Composite) or is_kept(op):
            return None
        e = Emitter(emit, Constant)
        return [op.primitive.decomposition(e, *operands, **op.attributes)]

    return graph.rewrite(rewrite) if _has_composites(graph) else graph


def _has_composites(block: Block) -> bool:
    return any(isinstance(op.primitive, Composite) or any(map(_has_composites, op.regions)) for op in block.ops)
