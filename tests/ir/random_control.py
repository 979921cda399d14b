"""Random graphs with branches and loops: random graphs as their regions, nested in one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.ir.random_graphs import ApplyOp, Draw, random_graphs
from tracejit.ir import PRIMITIVES, Block, Builder, Constant, Graph, TensorType, Value
from tracejit.ir.graph import copy_block
from tracejit.ir.types import DType, Symbol, bool_, float32, float64, int32, int64, uint8

LENGTHS = (0, 1, 1, 2, 3, 5)


@st.composite
def random_control(
    draw: Draw,
    max_ops: int = 6,
    dtypes: Sequence[DType] = (float32, float64, int64, bool_),
    extents: Sequence[int] = (0, 1, 1, 2, 3),
    max_size: int = 60,
    ops: Sequence[ApplyOp] | None = None,
    max_depth: int = 2,
) -> Graph:
    """A graph whose last ops are a branch or a loop, and what is computed from its results."""
    graph = draw(random_graphs(max_ops, dtypes, extents, max_size, ops))
    for _ in range(draw(st.integers(1, max_depth))):
        graph = _Wrapping(draw, graph).graph
    return graph


class _Wrapping:
    """A new graph that has another as the region, or one of the regions, of an op."""

    def __init__(self, draw: Draw, region: Graph) -> None:
        self.draw, self.region = draw, region
        self.values = [*region.parameters, *(value for op in region.ops for value in op.results)]
        self.values = [value for value in self.values if value.type.is_static]
        self.graph = Graph("random")
        self.builder = Builder(self.graph)
        results = self.pick((self.case, self.loop, self.scan))()
        self.finish(results)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.draw(st.integers(0, len(choices) - 1))]

    def alike(self, type: TensorType) -> Value:
        """A value of the region, or a constant."""
        fitting = [value for value in self.values if value.type == type]
        return self.pick([*fitting, *fitting, Constant(np.ones(type.static_shape, type.dtype))])

    def apply(self, name: str, operands: Sequence[Value], regions: Sequence[Block], **attributes: Any) -> list[Value]:
        copies = [copy_block(region) for region in regions]
        return list(self.builder.apply_several(PRIMITIVES[name], operands, attributes, copies))

    def case(self) -> list[Value]:
        selector = self.builder.parameter(TensorType(self.pick((bool_, int64, int32, uint8)), ()))
        operands = [self.builder.parameter(parameter.type) for parameter in self.region.parameters]
        results = [self.pick(self.values) for _ in range(self.draw(st.integers(1, 3)))]
        regions = [
            Block(self.region.parameters, self.region.ops, [self.alike(value.type) for value in results])
            for _ in range(self.draw(st.integers(1, 3)))
        ]
        return self.apply("case", [selector, *operands], regions)

    def roles(self) -> tuple[list[Value], list[Value], list[Value]]:
        """The region's parameters as constants, carries and inputs."""
        roles: tuple[list[Value], list[Value], list[Value]] = [], [], []
        for parameter in self.region.parameters:
            self.pick(roles).append(parameter)
        return roles

    def loop(self) -> list[Value]:
        constants, carries, inputs = self.roles()
        constants += inputs
        limit, count = self.builder.parameter(TensorType(uint8, ())), Value(TensorType(uint8, ()))
        condition, body = Block(), Block()
        test, step = Builder(condition), Builder(body)
        types = [value.type for value in (count, limit, *constants, count, *carries)][1:]
        known = [test.parameter(type) for type in types]
        seven = test.apply(PRIMITIVES["minimum"], [known[0], Constant(np.array(4, np.uint8))], {})
        condition.results = [test.apply(PRIMITIVES["compare"], [known[1 + len(constants)], seven], {"direction": "lt"})]
        body.parameters = [Value(limit.type), *constants, count, *carries]
        body.ops = list(self.region.ops)
        following = step.apply(PRIMITIVES["add"], [count, Constant(np.array(1, np.uint8))], {})
        body.results = [following, *(self.alike(value.type) for value in carries)]
        stacked = [self.pick(self.values) for _ in range(self.draw(st.integers(0, 2)))]
        body.results += stacked
        attributes: dict[str, Any] = {"constants": 1 + len(constants)}
        if stacked:
            attributes["length"] = Symbol("trips")
        zero = Constant(np.array(0, np.uint8))
        operands = [limit, *map(self.parameter, constants), zero, *map(self.parameter, carries)]
        return self.apply("while", operands, [condition, body], **attributes)

    def parameter(self, value: Value) -> Value:
        return self.builder.parameter(value.type)

    def scan(self) -> list[Value]:
        constants, carries, inputs = self.roles()
        length = self.pick(LENGTHS)
        number = Value(TensorType(int64, ()))
        self.values.append(number)
        stacked = [self.pick(self.values) for _ in range(self.draw(st.integers(0, 3)))]
        results = [*(self.alike(value.type) for value in carries), *stacked]
        body = Block([number, *constants, *carries, *inputs], self.region.ops, results)
        operands = [*map(self.parameter, constants), *map(self.parameter, carries)]
        operands += [self.builder.parameter(TensorType(x.dtype, (length, *x.shape))) for x in inputs]
        return self.apply(
            "scan", operands, [body], constants=len(constants), carries=len(carries), length=length,
            reverse=self.draw(st.booleans()),
        )  # fmt: skip

    def finish(self, results: list[Value]) -> None:
        """Some of the results, and something computed from them."""
        self.graph.results = [value for value in results if self.draw(st.booleans())] or results[:1]
        numbers = [value for value in results if value.dtype != bool_ and value.type.is_static]
        if numbers:
            self.graph.results.append(self.builder.apply(PRIMITIVES["negate"], [self.pick(numbers)], {}))
        if not self.graph.results:
            self.graph.results = [Constant(np.array(1.0))]
