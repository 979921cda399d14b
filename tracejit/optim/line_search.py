"""A line search."""

from __future__ import annotations

import math
from collections.abc import Callable

from tracejit.ir.facts import facts

from ..ops import elementwise, linalg, reduction
from ..tensor import Tensor

_DECREASE, _CURVATURE = 1e-4, 0.9  # the constants of Wolfe's conditions


@facts(frozen=True)
class _Point:
    """A place on the line: how far, the loss, its gradient, and the slope along the line."""

    rate: float
    loss: float
    gradient: Tensor
    slope: float


def strong_wolfe(
    evaluate: Callable[[float], tuple[float, Tensor]],
    rate: float,
    direction: Tensor,
    loss: float,
    gradient: Tensor,
    slope: float,
    tolerance_change: float,
    most: int,
) -> tuple[float, Tensor, float, int]:
    """A point along ``direction`` that satisfies the strong Wolfe conditions: loss, gradient, rate, evaluations.

    Nocedal and Wright, "Numerical Optimization", algorithms 3.5 and 3.6, with cubic interpolation; as PyTorch's,
    which follows minFunc's.  ``rate`` is tried first, ``most`` points at most.
    """
    start = _Point(0.0, loss, gradient, slope)

    def at(rate: float) -> _Point:
        found, gradient = evaluate(rate)
        return _Point(rate, found, gradient, float(linalg.vecdot(gradient, direction)))

    def is_too_high(point: _Point) -> bool:
        return point.loss > loss + _DECREASE * point.rate * slope

    before, point = start, at(rate)
    turns = 0
    while turns < most:
        if is_too_high(point) or (turns > 1 and point.loss >= before.loss):
            break
        if abs(point.slope) <= -_CURVATURE * slope:
            return point.loss, point.gradient, point.rate, turns + 1
        if point.slope >= 0:
            break
        bounds = point.rate + 0.01 * (point.rate - before.rate), point.rate * 10
        before, point = point, at(_cubic_minimum(before, point, bounds))
        turns += 1
    bracket = [start if turns == most else before, point]
    length = float(reduction.max(elementwise.abs(direction)))
    was_close = False
    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    evaluations = turns + 1
    while turns < most:
        rates = [point.rate for point in bracket]
        if abs(rates[1] - rates[0]) * length < tolerance_change:
            break
        rate = _cubic_minimum(bracket[0], bracket[1], (min(rates), max(rates)))
        margin = 0.1 * (max(rates) - min(rates))
        if min(max(rates) - rate, rate - min(rates)) < margin:
            if was_close or rate >= max(rates) or rate <= min(rates):
                above = abs(rate - max(rates)) < abs(rate - min(rates))
                rate = max(rates) - margin if above else min(rates) + margin
                was_close = False
            else:
                was_close = True
        else:
            was_close = False
        point = at(rate)
        turns += 1
        evaluations += 1
        if is_too_high(point) or point.loss >= bracket[low].loss:
            bracket[high] = point
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
            continue
        done = abs(point.slope) <= -_CURVATURE * slope
        if not done and point.slope * (bracket[high].rate - bracket[low].rate) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = point
        if done:
            break
    best = bracket[low]
    return best.loss, best.gradient, best.rate, evaluations


def _cubic_minimum(first: _Point, second: _Point, bounds: tuple[float, float]) -> float:
    """Where the cubic through two points, with their slopes, is least, within bounds."""
    if first.rate > second.rate:
        first, second = second, first
    width = first.rate - second.rate
    mean = first.slope + second.slope - 3 * (first.loss - second.loss) / width if width else math.nan
    square = mean * mean - first.slope * second.slope
    if not square >= 0:
        return (bounds[0] + bounds[1]) / 2
    root = math.sqrt(square)
    steepness = second.slope - first.slope + 2 * root
    if steepness == 0:
        return (bounds[0] + bounds[1]) / 2
    place = second.rate + width * ((second.slope + root - mean) / steepness)
    return min(max(place, bounds[0]), bounds[1])


__all__ = ["strong_wolfe"]
