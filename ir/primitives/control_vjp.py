"""Reverse mode through control flow: what runs forward instead, and what runs backward.

A branch or a step of a loop is differentiated as a block of its own (:func:`tracejit.ir.autodiff.differentiate`), and
split into a forward and a backward part.  What the backward part reads of the forward part's values are *residuals*:

* a ``case`` returns them, in slots that its regions share, and its backward part is another ``case``; if it says
  ``again``, the backward part computes them once more instead;
* a ``scan`` stacks them, and its backward part is a ``scan`` in the other direction, which carries the cotangents of
  the carries, and adds up those of the constants;
* a ``while`` keeps nothing: see :mod:`.while_vjp`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff import Differential, active_results, differentiate, graph_emitter
from ..facts import facts
from ..graph import Block, Builder, Constant, Op, Value, copy_block
from ..partition import split
from ..primitive import PRIMITIVES, Emitter
from ..types import Symbol, TensorType, bool_, int64

if TYPE_CHECKING:
    from .control import Layout

Attributes = Mapping[str, Any]
Types = Sequence[TensorType]


@facts
class _Halves:
    """A region's forward and backward part.

    ``forward`` gives the region's results, then the computed residuals.  ``backward`` takes the region's ``parameters``
    that it reads, by number, then the computed residuals, then the cotangents of the results that have one; it gives
    the gradients of the parameters that have one.
    """

    forward: Block
    backward: Block
    parameters: list[int]
    residuals: list[TensorType]
    cotangents: list[bool]  # which results have one
    gradients: list[bool]  # which parameters have one
    added_to: list[bool]  # of those, which are added to what comes behind the cotangents


def _halves(
    region: Block,
    wanted: Sequence[bool],
    given: Sequence[bool],
    constants: range = range(0),
    carries: range = range(0),
    again: bool = False,
) -> _Halves:
    """The two parts; the backward part computes ``again`` what it needs of the forward part's values, if need be.

    All parameters but the ``carries`` are there for the backward part anyway.  The gradients of the ``constants`` are
    added to what there is of them.
    """
    joint = differentiate(region, wanted, given, constants)
    cotangents = [value for value in (*joint.cotangents, *joint.so_far) if value is not None]
    gradients = [value for value in joint.gradients if value is not None]
    free = [parameter for number, parameter in enumerate(joint.graph.parameters) if number not in carries]
    parts = split(joint.graph, joint.forward_ops, cotangents, gradients, free)
    forward: Block = parts.forward
    backward: Block = parts.backward
    saved = parts.saved
    known = {dim for parameter in region.parameters for dim in parameter.shape if isinstance(dim, Symbol)}
    # An extent that is found out within the region means nothing outside of it: what has it is computed again.
    if again or any(isinstance(dim, Symbol) and dim not in known for value in saved for dim in value.shape):
        forward = copy_block(region)
        saved = list(joint.graph.parameters)
        backward = copy_block(Block([*saved, *cotangents], joint.graph.ops, gradients))
    results = forward.results[: len(region.results)]
    numbers = {parameter: number for number, parameter in enumerate(joint.graph.parameters)}
    inputs = dict(zip(saved, backward.parameters[: len(saved)], strict=True))
    read = [value for value in saved if value in numbers]
    computed = [value for value in saved if value not in numbers]
    return _Halves(
        Block(forward.parameters, forward.ops, [*results, *computed]),
        Block(
            [inputs[value] for value in (*read, *computed)] + backward.parameters[len(saved) :],
            backward.ops,
            backward.results,
        ),
        [numbers[value] for value in read],
        [value.type for value in computed],
        [value is not None for value in joint.cotangents],
        [value is not None for value in joint.gradients],
        [value is not None for value in joint.so_far],
    )


def chosen(items: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [item for item, flag in zip(items, flags, strict=True) if flag]


def spread(items: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """The items at the places that are flagged, ``None`` elsewhere."""
    found = iter(items)
    return [next(found) if flag else None for flag in flags]


def filled(emitter: Emitter, cotangents: Sequence[Any], active: Sequence[bool], types: Types) -> list[Any]:
    """The cotangents of the active results, zeros where there is none."""
    return [
        emitter.full(0, type) if cotangent is None else cotangent
        for cotangent, type in chosen(list(zip(cotangents, types, strict=True)), active)
    ]


def totals(emitter: Emitter, so_far: Sequence[Any], found: Sequence[Any]) -> list[Any]:
    """The cotangents found, added to what there is of them so far."""
    return [
        before if after is None else after if before is None else emitter.add(before, after)
        for before, after in zip(so_far, found, strict=True)
    ]


# case -----------------------------------------------------------------------------------------------


def case_active(op: Op, flags: Sequence[bool]) -> list[bool]:
    return _any_of([active_results(region, flags[1:]) for region in op.regions])


def _any_of(masks: Sequence[Sequence[bool]]) -> list[bool]:
    return [any(column) for column in zip(*masks, strict=True)]


@facts
class _CaseDerivative:
    """The parts of the derivative of a ``case``: its forward regions, with ``slots``, and its backward regions.

    Those take the operands that are ``read``, by number, the slots, and the cotangents of the ``given`` results; they
    give the gradients of the flagged operands.
    """

    forward: list[Block]
    slots: list[TensorType]
    read: list[int]
    given: list[bool]
    backward: list[Block]
    gradients: list[bool]

    def pull_back(
        self,
        emitter: Emitter,
        operands: Sequence[Any],
        residuals: Sequence[Any],
        cotangents: Sequence[Any],
        so_far: Sequence[Any],
        types: Types,
    ) -> list[Any]:
        given = filled(emitter, cotangents, self.given, types)
        values = [operands[0], *(operands[1 + number] for number in self.read), *residuals, *given]
        found = emitter.control(PRIMITIVES["case"], tuple(values), {}, tuple(self.backward))
        return totals(emitter, so_far, [None, *spread(found, self.gradients)])


def case_differential(
    types: Types, attributes: Attributes, regions: Sequence[Block], flags: Sequence[bool]
) -> Differential:
    active = _any_of([active_results(region, flags[1:]) for region in regions])
    results = [value.type for value in regions[0].results]
    usual = _case_derivative(types, regions, flags, active, again=attributes.get("again", False))

    def pull_back(
        emitter: Emitter,
        operands: Sequence[Any],
        residuals: Sequence[Any],
        cotangents: Sequence[Any],
        so_far: Sequence[Any],
    ) -> Any:
        given = [
            flag and (cotangent is not None or type.is_static)  # there may be no zeros of an extent that is found out
            for flag, cotangent, type in zip(active, cotangents, results, strict=True)
        ]
        if given == active:
            return usual.pull_back(emitter, operands, residuals, cotangents, so_far, results)
        return _case_derivative(types, regions, flags, given, again=True).pull_back(
            emitter, operands, (), cotangents, so_far, results
        )

    return Differential(attributes, tuple(usual.forward), len(usual.slots), tuple(active), pull_back)


def _case_derivative(
    types: Types, regions: Sequence[Block], flags: Sequence[bool], given: list[bool], *, again: bool
) -> _CaseDerivative:
    halves = [_halves(region, flags[1:], given, again=again) for region in regions]
    slots, places = _share_slots([half.residuals for half in halves])
    read = sorted({number for half in halves for number in half.parameters})
    gradients = _any_of([half.gradients for half in halves])
    inputs = [types[1 + number] for number in read] + slots
    inputs += chosen([value.type for value in regions[0].results], given)
    wanted = chosen(types[1:], gradients)
    return _CaseDerivative(
        [_with_slots(half, slots, place) for half, place in zip(halves, places, strict=True)],
        slots,
        read,
        given,
        [
            _case_backward(half, read, place, inputs, len(slots), given, gradients, wanted)
            for half, place in zip(halves, places, strict=True)
        ],
        gradients,
    )


def _share_slots(residuals: Sequence[Types]) -> tuple[list[TensorType], list[list[int]]]:
    """Slots for the residuals of each region, and the numbers of those that each uses: one after another, by type."""
    slots: list[TensorType] = []
    places: list[list[int]] = []
    for needed in residuals:
        free = list(range(len(slots)))
        place = []
        for type in needed:
            number = next((number for number in free if slots[number] == type), len(slots))
            if number == len(slots):
                slots.append(type)
            else:
                free.remove(number)
            place.append(number)
        places.append(place)
    return slots, places


def _with_slots(half: _Halves, slots: Sequence[TensorType], place: Sequence[int]) -> Block:
    """The forward part, which also gives something for the slots that it has no use for."""
    block = half.forward
    emitter = graph_emitter(Builder(block))
    own = len(block.results) - len(place)
    filled = dict(zip(place, block.results[own:], strict=True))
    rest = [filled[number] if number in filled else emitter.full(0, type) for number, type in enumerate(slots)]
    return Block(block.parameters, block.ops, [*block.results[:own], *rest])


def _case_backward(
    half: _Halves,
    read: Sequence[int],
    place: Sequence[int],
    inputs: Types,
    slots: int,
    active: Sequence[bool],
    gradients: Sequence[bool],
    wanted: Types,
) -> Block:
    """The backward part of one region, with the parameters and results that all have."""
    block, inner = Block(), half.backward
    builder = Builder(block)
    parameters = [builder.parameter(type) for type in inputs]
    taken = {number: parameters[position] for position, number in enumerate(read)}
    given = spread(parameters[len(read) + slots :], active)
    values = [
        *(taken[number] for number in half.parameters),
        *(parameters[len(read) + number] for number in place),
        *chosen(given, half.cotangents),
    ]
    found = spread(_inline(builder, inner, values), half.gradients)
    emitter = graph_emitter(builder)
    results = [
        emitter.full(0, type) if g is None else g for g, type in zip(chosen(found, gradients), wanted, strict=True)
    ]
    block.results = results
    return block


def _inline(builder: Builder, block: Block, operands: Sequence[Value]) -> list[Value]:
    """Put the ops of a block that nothing else uses behind what is built, reading ``operands``."""
    known: dict[Value, Value] = dict(zip(block.parameters, operands, strict=True))
    for op in block.ops:
        op.operands = tuple([known.get(operand, operand) for operand in op.operands])
        builder.append(op)
    return [known.get(value, value) for value in block.results]


# Loops ----------------------------------------------------------------------------------------------


def loop_active(op: Op, flags: Sequence[bool]) -> list[bool]:
    (body,) = op.primitive.bodies_of(op)  # type: ignore[attr-defined]
    return _active_in_loop(op.primitive.layout_of(op), body, flags)[1]  # type: ignore[attr-defined]


def _active_in_loop(layout: Layout, body: Block, flags: Sequence[bool]) -> tuple[list[bool], list[bool]]:
    """Which parameters and results of the body depend on the operands that are flagged, after any number of steps."""
    parameters = [False] * layout.counters + list(flags)
    first, last = layout.first_carry, layout.first_input
    while True:
        results = active_results(body, parameters)
        carries = [before or after for before, after in zip(parameters[first:last], results, strict=False)]
        if carries == parameters[first:last]:
            return parameters, carries + results[len(carries) :]
        parameters[first:last] = carries


@facts
class LoopDerivative:
    """The parts of a loop's derivative that ``scan`` and ``while`` have in common."""

    layout: Layout
    halves: _Halves
    parameters: list[bool]  # which parameters of the body are differentiated
    results: list[bool]  # which results of the body have a cotangent
    is_symbolic: bool  # the number of steps is a symbol, of which an input has to tell what it is

    @property
    def constants(self) -> range:
        return range(self.layout.counters, self.layout.first_carry)

    @property
    def carries(self) -> range:
        return range(self.layout.first_carry, self.layout.first_input)

    @property
    def inputs(self) -> range:
        return range(self.layout.first_input, len(self.parameters))

    @property
    def read_constants(self) -> list[int]:
        """The body's constants that its backward part reads."""
        return [number for number in self.halves.parameters if number in self.constants]

    @property
    def read_carries(self) -> list[int]:
        return [number for number in self.halves.parameters if number in self.carries]

    @property
    def read_inputs(self) -> list[int]:
        return [number for number in self.halves.parameters if number in self.inputs]

    @property
    def counts(self) -> bool:
        """Whether something has to be stacked for the number of steps alone."""
        return self.is_symbolic and not (self.read_inputs or self.read_carries or self.halves.residuals)

    def forward(self) -> Block:
        """The body, which stacks the residuals: the carries that the backward part reads are among them."""
        block = self.halves.forward
        own = len(block.results) - len(self.halves.residuals)
        carries = [block.parameters[number] for number in self.read_carries]
        residuals = [*carries, *block.results[own:], *([Constant(np.array(True))] if self.counts else [])]
        return Block(block.parameters, block.ops, [*block.results[:own], *residuals])

    @property
    def residuals(self) -> int:
        return len(self.read_carries) + len(self.halves.residuals) + self.counts

    def summed(self) -> list[int]:
        """The constants that have a gradient."""
        return [number for number in self.constants if self.halves.added_to[number]]

    def carried(self) -> list[int]:
        """The carries whose cotangent goes from step to step."""
        return [number for number in self.carries if self.parameters[number]]

    def step(self, given: Sequence[bool]) -> Block:
        """The step of the backward ``scan``, where there are cotangents for the ``given`` ones of the results.

        Constants: those read.  Carries: the cotangents of the carries, the sums for the constants.  Inputs: the inputs
        read, the residuals, the cotangents of what the body stacks.  It stacks the inputs' gradients.
        """
        half, block = self.halves, Block()
        builder = Builder(block)
        types = {number: half.forward.parameters[number].type for number in range(len(self.parameters))}
        counter = builder.parameter(TensorType(int64, ()))
        values = {number: builder.parameter(types[number]) for number in self.read_constants}
        if 0 in half.parameters and self.layout.counters:
            values[0] = counter
        cotangents = {number: builder.parameter(types[number]) for number in self.carried()}
        sums = {number: builder.parameter(types[number]) for number in self.summed()}
        values |= {number: builder.parameter(types[number]) for number in (*self.read_inputs, *self.read_carries)}
        computed = [builder.parameter(type) for type in half.residuals]
        if self.counts:
            builder.parameter(TensorType(bool_, ()))
        count = len(self.carries)
        emitter = graph_emitter(builder)
        outputs = [value.type for value in half.forward.results[count : len(half.cotangents)]]
        stacked = [
            builder.parameter(type) if is_given else None for type, is_given in zip(outputs, given[count:], strict=True)
        ]
        arriving: list[Any] = [cotangents.get(number) for number in self.carries]
        arriving += [emitter.full(0, t) if g is None else g for g, t in zip(stacked, outputs, strict=True)]
        operands = [
            *(values[number] for number in half.parameters), *computed, *chosen(arriving, half.cotangents),
            *(sums[number] for number in self.summed()),
        ]  # fmt: skip
        found = spread(_inline(builder, copy_block(half.backward), operands), half.gradients)
        before = [emitter.full(0, types[n]) if found[n] is None else found[n] for n in self.carried()]
        after = [found[number] for number in self.summed()]
        block.results = [*before, *after, *(found[number] for number in self.inputs if half.gradients[number])]
        return block

    def run_backward(
        self,
        emitter: Emitter,
        operands: Sequence[Any],
        residuals: Sequence[Any],
        cotangents: Sequence[Any],
        types: Types,
        length: Any,
        reverse: bool,
        sums: Sequence[Any],
    ) -> list[Any]:
        """The operands' gradients; ``types`` are those of the loop's results.

        Those of the constants are added to the ``sums``, in the order of the steps.
        """
        shift = self.layout.counters
        constants = [operands[number - shift] for number in self.read_constants]
        count = len(self.carries)
        given = self.given(cotangents)
        carries = filled(emitter, cotangents[:count], self.results[:count], types[:count])
        carries += sums
        stacked = chosen(cotangents[count:], given[count:])
        inputs = [*(operands[number - shift] for number in self.read_inputs), *residuals, *stacked]
        attributes = {"constants": len(constants), "carries": len(carries), "length": length, "reverse": reverse}
        step = self.step(given)
        found = iter(emitter.control(PRIMITIVES["scan"], (*constants, *carries, *inputs), attributes, (step,)))
        gradients: list[Any] = [None] * len(self.parameters)
        sliced = [number for number in self.inputs if self.halves.gradients[number]]
        for number in (*self.carried(), *self.summed(), *sliced):
            gradients[number] = next(found)
        return gradients[shift:]

    def sums(self, emitter: Emitter, operands: Sequence[Any], so_far: Sequence[Any]) -> list[Any]:
        """What the sums for the constants start with."""
        numbers = [number - self.layout.counters for number in self.summed()]
        return [_nothing(emitter, operands[n]) if so_far[n] is None else so_far[n] for n in numbers]

    def totals(self, emitter: Emitter, so_far: Sequence[Any], found: Sequence[Any]) -> list[Any]:
        """The operands' gradients, where those of constants have been added to what there was of them."""
        shift = self.layout.counters
        summed = {number - shift for number in self.summed()}
        return totals(emitter, [None if n in summed else before for n, before in enumerate(so_far)], found)

    def given(self, cotangents: Sequence[Any]) -> tuple[bool, ...]:
        """Which results have a cotangent: all carries do that may have one, and what is stacked if it was used."""
        count = len(self.carries)
        return tuple(
            [flag and (number < count or cotangents[number] is not None) for number, flag in enumerate(self.results)]
        )


def _nothing(emitter: Emitter, like: Any) -> Any:
    """What a sum starts with: -0.0, for 0.0 would turn a sum of -0.0 into 0.0."""
    number = complex(-0.0, -0.0) if like.dtype.kind == "c" else -0.0
    return emitter.broadcast_to(emitter.constant(np.asarray(number, like.dtype)), tuple(like.shape))


def loop_derivative(layout: Layout, body: Block, flags: Sequence[bool], is_symbolic: bool) -> LoopDerivative:
    parameters, results = _active_in_loop(layout, body, flags)
    constants, carries = range(layout.counters, layout.first_carry), range(layout.first_carry, layout.first_input)
    halves = _halves(body, parameters, results, constants, carries)
    return LoopDerivative(layout, halves, parameters, results, is_symbolic)


def scan_differential(
    types: Types, attributes: Attributes, regions: Sequence[Block], flags: Sequence[bool]
) -> Differential:
    (body,) = regions
    primitive: Any = PRIMITIVES["scan"]
    is_symbolic = isinstance(attributes["length"], Symbol)
    loop = loop_derivative(primitive.layout(len(types), attributes), body, flags, is_symbolic)
    results = primitive.infer(types, {**attributes, "regions": regions})

    def pull_back(
        emitter: Emitter,
        operands: Sequence[Any],
        residuals: Sequence[Any],
        cotangents: Sequence[Any],
        so_far: Sequence[Any],
    ) -> Any:
        backwards = not attributes.get("reverse", False)
        sums = loop.sums(emitter, operands, so_far)
        length = attributes["length"]
        found = loop.run_backward(emitter, operands, residuals, cotangents, results, length, backwards, sums)
        return loop.totals(emitter, so_far, found)

    return Differential(attributes, (loop.forward(),), loop.residuals, tuple(loop.results), pull_back)


def fresh_symbol(name: str, types: Types, blocks: Sequence[Block]) -> Symbol:
    """A symbol that none of the types and blocks mentions."""
    shapes = [type.shape for type in types]
    for block in blocks:
        shapes += [value.shape for value in (*block.parameters, *block.results)]
        shapes += [value.shape for op in block.walk() for value in (*op.operands, *op.results)]
    taken = {str(dim) for shape in shapes for dim in shape}
    number = 0
    while f"{name}{number or ''}" in taken:
        number += 1
    return Symbol(f"{name}{number or ''}")
