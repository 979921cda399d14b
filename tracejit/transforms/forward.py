"""Forward mode: ``jvp`` and ``linearize``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracejit.ir import Application, Block, Primitive
from tracejit.ir.facts import facts
from tracejit.ir.forward import push_control
from tracejit.ir.graph import infer_types
from tracejit.ir.primitives.control import Control
from tracejit.ir.types import TensorType, is_differentiable

from .. import tree
from ..levels import Box, Level
from ..locations import at_user_line
from ..tape import apply, apply_region, same_value, tensor_emitter
from ..tensor import Tensor, new_tensor
from .arguments import Variables, as_results, checked_callable, flat, outside, pair


class Dual(Box):
    """A value and its tangent; no tangent stands for zeros."""

    __slots__ = ("tangent",)

    def __init__(self, level: Level, tensor: Tensor, tangent: Tensor | None) -> None:
        super().__init__(level, tensor, tensor.shape)
        self.tangent = tangent


class Forward(Level):
    """A level whose values carry a tangent each."""

    name = "jvp"

    def lifted(self, tensor: Tensor) -> Dual:
        return Dual(self, same_value(tensor), None)

    def process(self, primitive: Primitive, boxes: Sequence[Any], attributes: Mapping[str, Any], active: bool) -> Dual:
        operands = tuple([box.tensor for box in boxes])
        result = apply(primitive, operands, attributes)
        tangents = [box.tangent if primitive.is_differentiable_in(i) else None for i, box in enumerate(boxes)]
        if primitive.jvp is None or not active or not is_differentiable(result.dtype):
            return Dual(self, result, None)
        if all(tangent is None for tangent in tangents):
            return Dual(self, result, None)
        types = tuple([TensorType(box.dtype, box.shape) for box in boxes])
        application = Application(
            primitive, attributes, types, TensorType(result.dtype, result.shape), operands, result
        )
        return Dual(self, result, primitive.jvp(tensor_emitter(), tangents, application))

    def process_control(
        self,
        primitive: Primitive,
        boxes: Sequence[Any],
        attributes: Mapping[str, Any],
        regions: Sequence[Block],
        active: bool,
    ) -> Sequence[Dual]:
        assert isinstance(primitive, Control)
        operands, tangents = [box.tensor for box in boxes], [box.tangent if active else None for box in boxes]
        results, changes = push_control(tensor_emitter(), primitive, operands, tangents, attributes, regions)
        if any(tangent is not None and isinstance(tangent._value, Recorded) for tangent in tangents):
            results = apply_region(primitive, operands, attributes, regions)  # which no tangent is needed for
        return [Dual(self, result, change) for result, change in zip(results, changes, strict=True)]


class Recorded(Box):
    """A tangent that is not known yet, by its number among the steps of a linear map."""

    __slots__ = ("number",)

    def __init__(self, level: Level, number: int, type: TensorType) -> None:
        self.level = level
        self.number = number
        self.dtype, self.shape = type.dtype, type.static_shape

    @property
    def below(self) -> None:
        return None

    def __repr__(self) -> str:
        return f"tangent({TensorType(self.dtype, self.shape)!r})"

    def seen(self, what: str) -> Tensor:
        raise at_user_line(RuntimeError(f"{what} needs the value of a tangent, which linearize does not know"))


@facts(frozen=True)
class _Step:
    """One operation on tangents: an operand is the number of an earlier tangent, or a tensor that is known."""

    primitive: Primitive
    operands: tuple[int | Tensor, ...]
    attributes: Mapping[str, Any]
    regions: Sequence[Block] = ()


class Recorder(Level):
    """A level that puts down what is done to tangents, to do it again with others."""

    name = "linearize"

    def __init__(self, types: Sequence[TensorType]) -> None:
        super().__init__()
        self.tangents = [new_tensor(Recorded(self, i, type)) for i, type in enumerate(types)]
        self._count = len(types)
        self._steps: list[_Step] = []

    def lifted(self, tensor: Tensor) -> Box:
        return Box(self, same_value(tensor), tensor.shape)

    def process(self, primitive: Primitive, boxes: Sequence[Any], attributes: Mapping[str, Any], active: bool) -> Box:
        type = primitive.infer([TensorType(box.dtype, box.shape) for box in boxes], attributes)
        return self._recorded(_Step(primitive, self._operands(boxes), attributes), [type])[0]

    def process_control(
        self,
        primitive: Primitive,
        boxes: Sequence[Any],
        attributes: Mapping[str, Any],
        regions: Sequence[Block],
        active: bool,
    ) -> Sequence[Box]:
        types = infer_types(primitive, [TensorType(box.dtype, box.shape) for box in boxes], attributes, regions)
        return self._recorded(_Step(primitive, self._operands(boxes), attributes, regions), types)

    @staticmethod
    def _operands(boxes: Sequence[Any]) -> tuple[int | Tensor, ...]:
        return tuple([box.number if isinstance(box, Recorded) else box.tensor for box in boxes])

    def _recorded(self, step: _Step, types: Sequence[TensorType]) -> list[Box]:
        self._steps.append(step)
        first, self._count = self._count, self._count + len(types)
        return [Recorded(self, first + i, type) for i, type in enumerate(types)]

    def replay(self, tangents: Sequence[Tensor], wanted: Sequence[Tensor | None]) -> list[Tensor | None]:
        """What ``wanted`` comes to, now that the first tangents are known."""
        known = list(tangents)
        for step in self._steps:
            operands = [known[item] if isinstance(item, int) else item for item in step.operands]
            if step.regions:
                known += apply_region(step.primitive, operands, step.attributes, step.regions)
            else:
                known.append(apply(step.primitive, operands, step.attributes))
        return [None if change is None else same_value(self._found(change, known)) for change in wanted]

    @staticmethod
    def _found(change: Tensor, known: Sequence[Tensor]) -> Tensor:
        return known[change._value.number] if isinstance(change._value, Recorded) else change


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """``function(*primals)``, and how it changes as ``primals`` change by ``tangents``, without going backward.

    ``tangents`` is built as ``primals`` is, with the same shapes.  With ``has_aux`` the function returns a pair, of
    which the second is not differentiated; it is returned as the third.

    >>> import tracejit as tj
    >>> tj.jvp(lambda x, y: x * y, (3.0, 4.0), (1.0, 0.0))
    (tensor(12.), tensor(4.))
    """
    pushed = pushed_by("jvp", function, primals, tangents, has_aux)
    return (pushed.value, pushed.change, pushed.aux) if has_aux else (pushed.value, pushed.change)


def pushed_by(
    transformation: str, function: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False
) -> Pushed:
    """What :func:`jvp` finds; ``transformation`` is named where arguments are wrong."""
    checked_callable(transformation, function)
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            requires = f"{what} must be a tuple or a list, one entry for each argument, got {type(given).__name__}"
            raise at_user_line(TypeError(f"{transformation}: {requires}"))
    variables = Variables(transformation, primals)
    return Pushed(function, variables, variables.tangents(tangents), has_aux, transformation)


def linearize(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``function(*primals)``, and the function that maps tangents of ``primals`` to that of the result.

    The same as :func:`jvp` for many tangents at the same point, but the function runs only once.

    >>> import tracejit as tj
    >>> value, change = tj.linearize(tj.sin, 0.0)
    >>> change(2.0)
    tensor(2.)
    """
    checked_callable("linearize", function)
    variables = Variables("linearize", primals)
    recorder = Recorder([TensorType(variable.dtype, variable.shape) for variable in variables.tensors])
    with recorder:
        pushed = Pushed(function, variables, recorder.tangents, has_aux, "linearize")

    def change(*tangents: Any) -> Any:
        moved = recorder.replay(variables.tangents(tangents), pushed.changes)
        return tree.unflatten(pushed.structure, iter(moved))

    return (pushed.value, change, pushed.aux) if has_aux else (pushed.value, change)


class Pushed:
    """A function's result, its tangent, and what it returns besides."""

    def __init__(
        self,
        function: Callable[..., Any],
        variables: Variables,
        tangents: Sequence[Tensor],
        has_aux: bool,
        transformation: str,
    ) -> None:
        level = Forward()
        with level:
            inputs = [
                new_tensor(Dual(level, same_value(variable), same_value(tangent)))
                for variable, tangent in zip(variables.tensors, tangents, strict=True)
            ]
            result, aux = function(*variables.built(inputs)), None
            if has_aux:
                result, aux = pair(transformation, function, result)
            leaves, self.structure = flat(result)
            outputs = as_results(function, leaves)
        self.results = outside(level, outputs)
        self.changes = [_change(level, output) for output in outputs]
        self.aux = outside(level, aux)
        del inputs, result, aux, leaves, outputs
        level.settle()

    @property
    def value(self) -> Any:
        """The function's result."""
        return tree.unflatten(self.structure, iter(self.results))

    @property
    def change(self) -> Any:
        """The result's tangent."""
        return tree.unflatten(self.structure, iter(self.changes))


def _change(level: Forward, output: Tensor | None) -> Tensor | None:
    """The tangent of a result."""
    if output is None:
        return None
    value = output._value
    if level.has(value) and value.tangent is not None:
        return same_value(value.tangent)
    return tensor_emitter().full(0, TensorType(output.dtype, output.shape))


__all__ = ["jvp", "linearize"]
