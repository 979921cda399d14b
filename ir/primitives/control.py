"""Control flow: blocks of ops that run when, and as often as, values say.

============  ===========================  =====================================  ==================================
primitive     operands                     regions                                results
============  ===========================  =====================================  ==================================
``case``      which region; what it gets   any number                             the region's
``while``     constants, carries           a condition (a bool), then a body      carries, then what the body stacks
``scan``      constants, carries, inputs   a body, whose first parameter is the   carries, then what the body stacks
                                           number of the step
============  ===========================  =====================================  ==================================

*Constants* are the same in each step.  *Carries* go from step to step: the body's first results are the next step's.
*Inputs* of a ``scan`` have one axis more than the body's parameters, and step ``i`` gets the slice at ``i``.  Results
of the body beyond the carries are *stacked* in the same way, along a new first axis.  A ``scan`` takes ``length``
steps, from the last to the first if ``reverse``; a ``while`` takes as many as its condition asks for, and if its body
stacks anything, its ``length`` is the symbol that stands for their number from there on.

A region reads its own parameters and constants, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autodiff import Differential
from ..facts import facts
from ..graph import Block, Op
from ..primitive import Attributes, Primitive
from ..types import Dim, Symbol, TensorType, bool_, int64, is_integer
from . import control_vjp, while_vjp


@facts(frozen=True)
class Layout:
    """How an op's operands and results meet its regions' parameters and results.

    Operands: ``selectors``, constants, carries, inputs.  Parameters: ``counters``, constants, carries, inputs.
    Results, of the op and of its bodies: carries, then others.
    """

    selectors: int
    counters: int
    constants: int
    carries: int
    inputs: int

    def parameter(self, operand: int) -> int:
        """The number of the parameter that an operand is given to."""
        return operand - self.selectors + self.counters

    def operand(self, parameter: int) -> int:
        """The number of the operand that a parameter gets at first."""
        return parameter - self.counters + self.selectors

    @property
    def first_carry(self) -> int:
        """The number of the parameter of the first carry."""
        return self.counters + self.constants

    @property
    def first_input(self) -> int:
        """The number of the parameter of the first input."""
        return self.counters + self.constants + self.carries


@facts(frozen=True, eq=False, kw_only=True)
class Control(Primitive):
    """A primitive with regions, and several results or none.

    Its type rule gets the regions' blocks as the keyword ``regions``, its evaluation functions that run them; both give
    tuples.  The first ``conditions`` of the regions say how it goes on, the others are bodies; the first ``selectors``
    of the operands go to no region.

    ``differentiate`` stands for the vjp of other primitives: see :class:`tracejit.ir.autodiff.Differential`.
    ``active(op, flags)`` tells which results have a derivative by the flagged operands.
    """

    layout: Callable[[int, Any], Layout]
    active: Callable[[Op, Sequence[bool]], list[bool]]
    differentiate: Callable[[Sequence[TensorType], Attributes, Sequence[Block], Sequence[bool]], Differential]
    conditions: int = 0
    selectors: int = 0

    def is_differentiable_in(self, index: int) -> bool:
        return index >= self.selectors

    def evaluate(self, *arrays: np.ndarray, **attributes: Any) -> Any:
        return tuple(self.numpy(*arrays, **attributes))

    def layout_of(self, op: Op) -> Layout:
        return self.layout(len(op.operands), op.attributes)

    def bodies_of(self, op: Op) -> tuple[Block, ...]:
        return op.regions[self.conditions :]

    def attributes_of(self, attributes: Attributes, layout: Layout, stacks: bool) -> dict[str, Any]:
        """The attributes of an op that is like one with ``attributes``, but has another layout."""
        changed = dict(attributes)
        for name in ("constants", "carries"):
            if name in changed:
                changed[name] = getattr(layout, name)
        if self.conditions and not stacks:
            changed.pop("length", None)
        return changed


def result_types(region: Block) -> tuple[TensorType, ...]:
    return tuple([value.type for value in region.results])


def _check_parameters(name: str, what: str, region: Block, expected: Sequence[TensorType]) -> None:
    given = [parameter.type for parameter in region.parameters]
    if given != list(expected):
        raise TypeError(f"{name}: {what} takes {_list(given)}, but is given {_list(expected)}")


def _check_carries(name: str, region: Block, carries: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """The types of what the body stacks."""
    results = result_types(region)
    if results[: len(carries)] != tuple(carries):
        raise TypeError(f"{name}: the carries are {_list(carries)}, but the body gives {_list(results)}")
    return results[len(carries) :]


def _list(types: Sequence[TensorType]) -> str:
    return f"({', '.join(map(repr, types))})"


def _stacked(length: Dim, types: Sequence[TensorType]) -> tuple[TensorType, ...]:
    return tuple([TensorType(type.dtype, (length, *type.shape)) for type in types])


def _stack(steps: Sequence[Sequence[np.ndarray]], types: Sequence[TensorType]) -> list[np.ndarray]:
    """What the steps gave, each kind along a new first axis."""
    arrays = []
    for number, type in enumerate(types):
        array = np.empty((len(steps), *type.static_shape), type.dtype)
        for position, step in enumerate(steps):
            array[position] = step[number]
        arrays.append(array)
    return arrays


# case -----------------------------------------------------------------------------------------------


def _case_type(
    index: TensorType, *types: TensorType, regions: Sequence[Block] = (), again: bool = False
) -> tuple[TensorType, ...]:
    if index.shape or not (index.dtype == bool_ or is_integer(index.dtype)):
        raise TypeError(f"case: which region is said by one bool or integer, got {index!r}")
    if not regions:
        raise ValueError("case: there is no region")
    for number, region in enumerate(regions):
        _check_parameters("case", f"region {number}", region, types)
        if result_types(region) != result_types(regions[0]):
            first, other = _list(result_types(regions[0])), _list(result_types(region))
            raise TypeError(f"case: region 0 gives {first}, but region {number} gives {other}")
    return result_types(regions[0])


def _case_numpy(index: np.ndarray, *arrays: np.ndarray, regions: Sequence[Any], again: bool = False) -> Any:
    return regions[min(max(int(index), 0), len(regions) - 1)](*arrays)


# False is region 0, True region 1; a number that is out of range stands for the nearest that is not.  ``again``: what
# its derivative needs of the regions' values is computed once more, and not kept.
case = Control(
    name="case",
    type_rule=_case_type,
    numpy=_case_numpy,
    selectors=1,
    layout=lambda operands, attributes: Layout(1, 0, operands - 1, 0, 0),
    active=control_vjp.case_active,
    differentiate=control_vjp.case_differential,
)

# while ----------------------------------------------------------------------------------------------


def _while_type(
    *types: TensorType, constants: int, regions: Sequence[Block], length: Symbol | None = None
) -> tuple[TensorType, ...]:
    condition, body = regions
    _check_parameters("while", "the condition", condition, types)
    _check_parameters("while", "the body", body, types)
    if result_types(condition) != (TensorType(bool_, ()),):
        raise TypeError(f"while: the condition should give one bool, but gives {_list(result_types(condition))}")
    stacked = _check_carries("while", body, types[constants:])
    if (length is None) != (not stacked) or not isinstance(length, Symbol | None):
        raise ValueError(f"while: the length should be a symbol where the body stacks anything, got {length}")
    return (*types[constants:], *_stacked(length or 0, stacked))


def _while_numpy(*arrays: np.ndarray, constants: int, regions: Sequence[Any], length: Any = None) -> Any:
    condition, body = regions
    shared, carries = arrays[:constants], list(arrays[constants:])
    count, steps = len(carries), []
    while condition(*shared, *carries)[0]:
        results = body(*shared, *carries)
        carries = results[:count]
        steps.append(results[count:])
    return (*carries, *_stack(steps, body.result_types[count:]))


while_ = Control(
    name="while",
    type_rule=_while_type,
    numpy=_while_numpy,
    conditions=1,
    layout=lambda operands, attributes: Layout(0, 0, attributes["constants"], operands - attributes["constants"], 0),
    active=control_vjp.loop_active,
    differentiate=while_vjp.while_differential,
)

# scan -----------------------------------------------------------------------------------------------


def _scan_type(
    *types: TensorType, constants: int, carries: int, length: Dim, regions: Sequence[Block], reverse: bool = False
) -> tuple[TensorType, ...]:
    (body,) = regions
    split = constants + carries
    for type in types[split:]:
        if not type.shape or type.shape[0] != length:
            raise ValueError(f"scan: an input of {length} steps should have a first axis that long, got {type!r}")
    if isinstance(length, Symbol) and split == len(types):
        raise ValueError(f"scan: the length {length} should be that of an input, but there is none")
    steps = [TensorType(type.dtype, type.shape[1:]) for type in types[split:]]
    _check_parameters("scan", "the body", body, [TensorType(int64, ()), *types[:split], *steps])
    stacked = _check_carries("scan", body, types[constants:split])
    return (*types[constants:split], *_stacked(length, stacked))


def _scan_numpy(
    *arrays: np.ndarray, constants: int, carries: int, length: int, regions: Sequence[Any], reverse: bool = False
) -> Any:
    (body,) = regions
    shared, carried = arrays[:constants], list(arrays[constants : constants + carries])
    inputs = arrays[constants + carries :]
    steps = []
    for number in reversed(range(length)) if reverse else range(length):
        results = body(np.array(number, int64), *shared, *carried, *[array[number, ...] for array in inputs])
        carried = results[:carries]
        steps.append(results[carries:])
    return (*carried, *_stack(steps[::-1] if reverse else steps, body.result_types[carries:]))


scan = Control(
    name="scan",
    type_rule=_scan_type,
    numpy=_scan_numpy,
    layout=lambda operands, attributes: Layout(
        0, 1, attributes["constants"], attributes["carries"], operands - attributes["constants"] - attributes["carries"]
    ),
    active=control_vjp.loop_active,
    differentiate=control_vjp.scan_differential,
)
