"""Cotangents that know where they are zero: gradients of what ``select`` has not taken.

The cotangent of ``select(p, x, y)`` reaches ``x`` where ``p`` alone.  Elsewhere it is zero, but a derivative that is
not finite would make it NaN on its way: the gradient of ``select(x > 0, sqrt(x), 0)`` at 0 would be ``0 * inf``.  So a
predicate goes with the cotangent, backward through elementwise operations, sums and those that only move elements,
and what the elementwise rules give is zero where the cotangent is.  It ends at any other operation, as a product of
matrices, and where a part of the cotangent comes from elsewhere.

NaN in an operand of what was not taken does not show in the gradient then: that is what is meant to be.  With
``settings.masked = False`` a cotangent is a number and nothing else, as in other libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .facts import facts
from .primitive import Application, Elementwise, Emitter
from .types import Shape, TensorType


@dataclass(slots=True)  # native code looks at the slot
class Settings:
    """``masked``: whether cotangents take the predicates of ``select`` along."""

    masked: bool = True


settings = Settings()


class Mask:
    """Where a cotangent may be other than zero."""

    _bools: Any = None

    def bools(self, e: Emitter) -> Any:
        """The mask's predicate, emitted once."""
        if self._bools is None:
            self._bools = self._emit(e)
        return self._bools

    def keep(self, e: Emitter, cotangent: Any) -> Any:
        """The cotangent, and zero where the mask is false."""
        return e.select(self.bools(e), cotangent, e.scalar(0, cotangent.dtype))

    def _emit(self, e: Emitter) -> Any:
        raise NotImplementedError


@facts
class _Where(Mask):
    """Where a predicate is true, or where it is false."""

    value: Any
    flag: bool

    def _emit(self, e: Emitter) -> Any:
        return self.value if self.flag else getattr(e, "not")(self.value)

    def keep(self, e: Emitter, cotangent: Any) -> Any:
        zero = e.scalar(0, cotangent.dtype)
        return e.select(self.value, cotangent, zero) if self.flag else e.select(self.value, zero, cotangent)


@facts
class _Both(Mask):
    first: Mask
    second: Mask

    def _emit(self, e: Emitter) -> Any:
        return getattr(e, "and")(self.first.bools(e), self.second.bools(e))


@facts
class _Either(Mask):
    first: Mask
    second: Mask

    def _emit(self, e: Emitter) -> Any:
        return getattr(e, "or")(self.first.bools(e), self.second.bools(e))


@facts
class _Moved(Mask):
    """A mask whose elements go where the cotangent's do."""

    mask: Mask
    index: int
    application: Application

    def _emit(self, e: Emitter) -> Any:
        rule, whole = self.application.primitive.vjp, self.application.result_type.shape
        assert rule is not None
        return rule(e, self.index, e.broadcast_to(self.mask.bools(e), whole), self.application)


@facts
class _Any(Mask):
    """Where the cotangent of an operand of some type may be other than zero, which was stretched and so is a sum.

    ``dimensions`` are those of the stretched shape ``whole`` that the operand's are.
    """

    mask: Mask
    shape: Shape
    whole: Shape
    dimensions: tuple[int, ...]

    def _emit(self, e: Emitter) -> Any:
        known = {axis for axis, extent in zip(self.dimensions, self.shape, strict=True) if extent == self.whole[axis]}
        axes = tuple([axis for axis in range(len(self.whole)) if axis not in known])
        return e.reshape_to(e.reduce_or(e.broadcast_to(self.mask.bools(e), self.whole), axes=axes), self.shape)


def _of_stretched(mask: Mask, shape: Shape, whole: Shape) -> Mask:
    """The mask of an operand that NumPy's rule has stretched, if it has."""
    return mask if shape == whole else _Any(mask, shape, whole, tuple(range(len(whole) - len(shape), len(whole))))


def either(first: Mask | None, second: Mask | None) -> Mask | None:
    """Where a sum of two cotangents may be other than zero; ``None``: anywhere."""
    if first is None or second is None:
        return None
    if isinstance(first, _Where) and isinstance(second, _Where) and first.value is second.value:
        return first if first.flag == second.flag else None
    if isinstance(first, _Both) and isinstance(second, _Both) and first.first is second.first:
        rest = either(first.second, second.second)
        return first.first if rest is None else _Both(first.first, rest)
    return first if first is second else _Either(first, second)


Rule = Callable[[Application], Any]


def pull(
    e: Emitter, index: int, cotangent: Any, mask: Mask | None, application: Application
) -> tuple[Any, Mask | None]:
    """The cotangent of an operand, and where it may be other than zero, from those of the result."""
    primitive = application.primitive
    rule = primitive.vjp
    assert rule is not None
    chooses = primitive.name == "select"
    if mask is None and not chooses:
        return rule(e, index, cotangent, application), None
    types, whole = application.operand_types, application.result_type.shape
    shape = types[index].shape
    if chooses:
        own = _Where(application.operands[0], index == 1)
        kept = own if mask is None else _Both(mask, own)
        return rule(e, index, cotangent, application), _of_stretched(kept, shape, whole) if settings.masked else None
    assert mask is not None
    if primitive.vjp_moves:
        return rule(e, index, cotangent, application), _Moved(mask, index, application)
    if primitive.name == "broadcast_in_dim":
        any_of = _Any(mask, shape, whole, application.attributes["dimensions"])
        return rule(e, index, cotangent, application), any_of
    if not isinstance(primitive, Elementwise):
        return rule(e, index, cotangent, application), None
    if not primitive.saves:  # what it multiplies by is finite
        return rule(e, index, cotangent, application), _of_stretched(mask, shape, whole)
    stretched = TensorType(types[index].dtype, whole)  # else the rule would add up what is to be zero
    apart = replace(application, operand_types=(*types[:index], stretched, *types[index + 1 :]))
    contribution = mask.keep(e, rule(e, index, cotangent, apart))
    return e.sum_to(contribution, shape), _of_stretched(mask, shape, whole)
