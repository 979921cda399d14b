"""Reverse mode through ``while``: any number of steps, in as much memory as there is.

The forward part keeps nothing but the number of steps that it has taken.  The backward part runs the loop once more,
stacking the residuals, and then goes through them with a ``scan`` in the other direction.  So memory is proportional to
the number of steps, and is taken for the time of the backward part only, however deep loops are nested.

Where that would be more than ``settings.memory`` bytes, the steps are taken in stretches: a first run keeps the carries
at the beginning of each; then the stretches are gone through from the last to the first, each run once more from its
beginning.  With stretches of about ``sqrt(n)`` steps the memory grows with the square root of the number of steps, for
one run more (Chen et al., "Training deep nets with sublinear memory cost", 2016).  That number is not known before, but
it is then: the length of the stretches is computed when the program runs.  The gradients are the same to the bit, as
the sums for what all steps read are added up in the order of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..autodiff import Differential, graph_emitter
from ..facts import facts
from ..graph import Block, Builder, Value, copy_block
from ..partition import kept_bytes
from ..primitive import PRIMITIVES, Emitter
from ..types import Symbol, TensorType, float64, int64
from .control_vjp import LoopDerivative, chosen, filled, fresh_symbol, loop_derivative, spread

Types = Sequence[TensorType]
INT = TensorType(int64, ())


@facts
class Settings:
    """``memory``: how many bytes of residuals a loop may take before its steps are taken in stretches."""

    memory: int = 1 << 30


settings = Settings()


def while_differential(
    types: Types, attributes: Mapping[str, Any], regions: Sequence[Block], flags: Sequence[bool]
) -> Differential:
    condition, body = regions
    primitive: Any = PRIMITIVES["while"]
    loop = loop_derivative(primitive.layout(len(types), attributes), body, flags, True)
    results = primitive.infer(types, {**attributes, "regions": regions})
    count = len(loop.carries)

    def pull_back(
        emitter: Emitter,
        operands: Sequence[Any],
        residuals: Sequence[Any],
        cotangents: Sequence[Any],
        so_far: Sequence[Any],
    ) -> Any:
        given = loop.given(cotangents)
        backward = _Backward(types, attributes, _silent(condition), loop, results, given)
        block, gradients = backward.in_stretches() if residuals else backward.at_once()
        values = [emitter.scalar(0, int64), *residuals, *operands]
        values += filled(emitter, cotangents[:count], given[:count], results[:count])
        values += chosen(cotangents[count:], given[count:])
        values += loop.sums(emitter, operands, so_far)
        found = spread(emitter.control(PRIMITIVES["case"], tuple(values), {}, (block,)), gradients)
        return loop.totals(emitter, so_far, found)

    if len(results) > count:  # it stacks something, as the backward parts of loops do: those are short enough
        return Differential(attributes, tuple(regions), 0, tuple(loop.results), pull_back)
    start = (np.zeros((), int64),)
    counted = (_with_counter(condition, None), _with_counter(body, 1))
    return Differential(attributes, counted, 1, tuple(loop.results), pull_back, start)


def _silent(block: Block) -> Block:
    """A copy of a block to be run once more: without what is there for its effect alone."""

    def drop_effects(block: Block) -> None:
        block.ops = [op for op in block.ops if op.results]
        for op in block.ops:
            for region in op.regions:
                drop_effects(region)

    copy = copy_block(block)
    drop_effects(copy)
    return copy


def _with_counter(block: Block, step: int | None) -> Block:
    """The block with one parameter more, and that number ``step`` further as a result."""
    block = copy_block(block)
    builder = Builder(block)
    number = builder.parameter(INT)
    if step is not None:
        block.results = [*block.results, graph_emitter(builder).add(number, step)]
    return block


@facts
class _Backward:
    """The backward part as a block: it takes what is kept, the operands and the cotangents of the ``given`` results.

    Then it takes the sums so far; it gives the operands' gradients, where flagged.  It is a region of its own because
    the number of steps is a symbol, which means something in one block only.
    """

    types: Types
    attributes: Mapping[str, Any]
    condition: Block
    loop: LoopDerivative
    results: Types
    given: Sequence[bool]

    def at_once(self) -> tuple[Block, list[bool]]:
        """All steps, from the last to the first."""
        block = Block()
        builder = Builder(block)
        operands, cotangents, sums = self._parameters(builder)
        emitter = graph_emitter(builder)
        body = _silent(self.loop.forward())
        length = self.attributes.get("length") or self._symbol("steps")
        attributes = {**self.attributes, "length": length}
        again = emitter.control(PRIMITIVES["while"], tuple(operands), attributes, (self.condition, body))
        residuals = again[len(self.results) :]
        found = self.loop.run_backward(emitter, operands, residuals, cotangents, self.results, length, True, sums)
        return self._finished(block, found)

    def in_stretches(self) -> tuple[Block, list[bool]]:
        """Stretches of steps, from the last to the first; all at once is one stretch."""
        loop, block = self.loop, Block()
        builder = Builder(block)
        steps = builder.parameter(INT)
        operands, cotangents, sums = self._parameters(builder)
        e = graph_emitter(builder)
        constants = operands[: loop.layout.constants]
        size = self._size(e, steps)
        stretches = e.floor_quotient(e.add(steps, e.subtract(size, 1)), size)
        length = self._symbol("stretches")
        advance = _stretch_by_stretch(loop)
        values = (*constants, size, e.subtract(stretches, 1), e.scalar(0, int64), *operands[len(constants) :])
        attributes = {"constants": len(constants) + 2, "length": length}
        starts = e.control(PRIMITIVES["while"], values, attributes, advance)[1 + len(loop.carries) :]
        flowing = filled(e, cotangents, loop.results, self.results)
        values = (*constants, size, steps, *flowing, *sums, *starts)
        attributes = {
            "constants": len(constants) + 2, "carries": len(values) - len(constants) - 2 - len(starts),
            "length": length, "reverse": True,
        }  # fmt: skip
        back = self._stretch_back([value.type for value in values], len(constants))
        gradients = iter(e.control(PRIMITIVES["scan"], values, attributes, (back,)))
        found: list[Any] = [None] * len(self.types)
        for number in (*loop.carried(), *loop.summed()):
            found[number] = next(gradients)
        return self._finished(block, found)

    def _size(self, e: Emitter, steps: Value) -> Value:
        """How many steps a stretch has: all, if there is room, else as many as make the memory in all the least."""
        residuals = max(1, kept_bytes(value.type for value in self.loop.forward().results[len(self.results) :]))
        carries = kept_bytes(self.types[self.loop.layout.constants :])
        number = e.convert(steps, dtype=float64)
        balanced = e.convert(e.ceil(e.sqrt(e.multiply(number, carries / residuals))), dtype=int64)
        least = max(1, settings.memory // (2 * residuals))
        fits = e.compare(steps, max(1, settings.memory // residuals), direction="le")
        return e.maximum(e.select(fits, steps, e.maximum(balanced, least)), 1)

    def _stretch_back(self, types: Types, constants: int) -> Block:
        """The step of a ``scan`` over the stretches: runs one forward, stacking the residuals, and then backward."""
        loop, block = self.loop, Block()
        builder = Builder(block)
        number = builder.parameter(INT)
        taken = [builder.parameter(type) for type in types[: constants + 2]]
        size, steps = taken[constants:]
        starts = len(loop.carries)
        flowing = [builder.parameter(type) for type in types[constants + 2 : len(types) - starts]]
        carries = [builder.parameter(type) for type in self.types[constants:]]
        e = graph_emitter(builder)
        left = e.minimum(size, e.subtract(steps, e.multiply(number, size)))
        length = self._symbol("steps")
        condition, body = _limited(_silent(loop.forward()), constants, starts)
        values = (*taken[:constants], left, e.scalar(0, int64), *carries)
        attributes = {"constants": constants + 1, "length": length}
        residuals = e.control(PRIMITIVES["while"], values, attributes, (condition, body))[1 + starts :]
        operands = [*taken[:constants], *carries]
        cotangents = spread(flowing[: len(loop.carried())], loop.results)
        sums = flowing[len(loop.carried()) :]
        found = loop.run_backward(e, operands, residuals, cotangents, self.results, length, True, sums)
        block.results = [found[number] for number in (*loop.carried(), *loop.summed())]
        return block

    def _parameters(self, builder: Builder) -> tuple[list[Value], list[Value | None], list[Value]]:
        operands = [builder.parameter(type) for type in self.types]
        cotangents = [builder.parameter(type) for type in chosen(self.results, self.given)]
        sums = [builder.parameter(self.types[number]) for number in self.loop.summed()]
        return operands, spread(cotangents, self.given), sums

    def _finished(self, block: Block, found: Sequence[Any]) -> tuple[Block, list[bool]]:
        block.results = [gradient for gradient in found if gradient is not None]
        return block, [gradient is not None for gradient in found]

    def _symbol(self, name: str) -> Symbol:
        halves = self.loop.halves
        return fresh_symbol(name, self.types, (self.condition, halves.forward, halves.backward))


def _limited(body: Block, constants: int, carries: int) -> tuple[Block, Block]:
    """The condition and the body of a loop that takes as many steps as its last constant says, counting in a carry."""
    condition = Block()
    builder = Builder(condition)
    parameters = [builder.parameter(p.type) for p in body.parameters[:constants]]
    limit, number = builder.parameter(INT), builder.parameter(INT)
    parameters += [builder.parameter(p.type) for p in body.parameters[constants:]]
    condition.results = [graph_emitter(builder).compare(number, limit, direction="lt")]
    body = copy_block(body)
    limit, number = Value(INT), Value(INT)
    after = graph_emitter(Builder(body)).add(number, 1)
    body.parameters[constants:constants] = [limit, number]
    body.results = [after, *body.results]
    return condition, body


def _stretch_by_stretch(loop: LoopDerivative) -> tuple[Block, Block]:
    """The condition and the body of a loop over the stretches, which stacks the carries at the beginning of each.

    Constants: the loop's, how many steps a stretch has, the number of the last.  It goes no further than the beginning
    of that one.
    """
    forward = _silent(loop.halves.forward)
    constants, carries = loop.layout.constants, len(loop.carries)
    types = [parameter.type for parameter in forward.parameters]
    types[constants:constants] = [INT, INT, INT]
    blocks: list[Block] = []
    for _ in range(2):
        block = Block()
        builder = Builder(block)
        parameters = [builder.parameter(type) for type in types]
        size, last, number = parameters[constants : constants + 3]
        e = graph_emitter(builder)
        if not blocks:
            block.results = [e.compare(number, last, direction="le")]
        else:
            starts = parameters[constants + 3 :]
            steps = e.select(e.compare(number, last, direction="lt"), size, e.scalar(0, int64))
            plain = Block(forward.parameters, forward.ops, forward.results[:carries])
            regions = _limited(plain, constants, carries)
            values = (*parameters[:constants], steps, e.scalar(0, int64), *starts)
            after = e.control(PRIMITIVES["while"], values, {"constants": constants + 1}, regions)[1:]
            block.results = [e.add(number, 1), *after, *starts]
        blocks.append(block)
    return blocks[0], blocks[1]


__all__ = ["settings", "while_differential"]
