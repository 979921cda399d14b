"""Rates that rise and fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...locations import at_user_line
from ..optimizer import Group, Optimizer
from .base import (
    LRScheduler,
    attributes_of_functions,
    checked_optimizer,
    for_each_group,
    restore_functions,
    set_rate,
)


class OneCycleLR(LRScheduler):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then far down: one cycle of ``total_steps`` (Smith, 2018).

    Step it after every batch.  ``cycle_momentum`` moves the momentum (or Adam's first beta) the opposite way.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        groups = checked_optimizer(optimizer).param_groups
        self.total_steps = _steps_of_cycle(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise at_user_line(ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}"))
        if anneal_strategy not in ("cos", "linear"):
            message = f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            raise at_user_line(ValueError(message))
        self.anneal_strategy = anneal_strategy
        up = float(pct_start * self.total_steps) - 1
        self._phases: list[tuple[float, tuple[str, str], tuple[str, str]]]  # last step, rates, momenta
        first = (up, ("initial_lr", "max_lr"), ("max_momentum", "base_momentum"))
        if three_phase:
            down = (2 * up, ("max_lr", "initial_lr"), ("base_momentum", "max_momentum"))
            last = (self.total_steps - 1, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum"))
            self._phases = [first, down, last]
        else:
            self._phases = [first, (self.total_steps - 1, ("max_lr", "min_lr"), ("base_momentum", "max_momentum"))]
        self.cycle_momentum = cycle_momentum
        _check_momentum(optimizer, cycle_momentum)
        if last_epoch == -1:
            for group, highest in zip(groups, for_each_group("max_lr", max_lr, groups), strict=True):
                group["initial_lr"] = highest / div_factor
                group["max_lr"] = highest
                group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                high = for_each_group("max_momentum", max_momentum, groups)
                low = for_each_group("base_momentum", base_momentum, groups)
                for group, most, least in zip(groups, high, low, strict=True):
                    group.update(max_momentum=most, base_momentum=least)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            message = f"Tried to step {step} times. The specified number of total steps is {self.total_steps}"
            raise at_user_line(ValueError(message))
        turn = sum(step > end for end, _, _ in self._phases[:-1])
        start = self._phases[turn - 1][0] if turn else 0.0
        end, rates, momenta = self._phases[turn]
        part = (step - start) / (end - start)
        if self.cycle_momentum:
            for group in self._groups():
                momentum = self._between(group[momenta[0]], group[momenta[1]], part)
                _set_momentum(group, momentum)
        return [self._between(group[rates[0]], group[rates[1]], part) for group in self._groups()]

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


def _steps_of_cycle(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    def positive(name: str, count: int) -> int:
        if not isinstance(count, int) or count <= 0:
            raise at_user_line(ValueError(f"Expected positive integer {name}, but got {count}"))
        return count

    if total_steps is not None:
        return positive("total_steps", total_steps)
    if epochs is None or steps_per_epoch is None:
        raise at_user_line(ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)"))
    return positive("epochs", epochs) * positive("steps_per_epoch", steps_per_epoch)


class CyclicLR(LRScheduler):
    """Up from ``base_lr`` to ``max_lr`` and down again, in cycles (Smith, 2015).  Step it after every batch.

    A cycle takes ``step_size_up`` and then ``step_size_down`` steps (as many unless given).  The height of the cycles
    stays (``mode="triangular"``), halves each time (``"triangular2"``) or shrinks by ``gamma`` at each step
    (``"exp_range"``); or it is ``scale_fn`` of the cycle's number, from 1, or of the number of steps
    (``scale_mode="iterations"``).  ``cycle_momentum`` moves the momentum (or Adam's first beta) the opposite way.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        groups = checked_optimizer(optimizer).param_groups
        lowest = for_each_group("base_lr", base_lr, groups)
        self.max_lrs = for_each_group("max_lr", max_lr, groups)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise at_user_line(ValueError("mode is invalid and scale_fn is None"))
        self.total_size = float(step_size_up) + float(step_size_up if step_size_down is None else step_size_down)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma = mode, gamma
        self._scale_fn = scale_fn
        self.scale_mode = scale_mode if scale_fn else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        _check_momentum(optimizer, cycle_momentum)
        if cycle_momentum:
            self.base_momentums = for_each_group("base_momentum", base_momentum, groups)
            self.max_momentums = for_each_group("max_momentum", max_momentum, groups)
        if last_epoch == -1:
            for number, group in enumerate(groups):
                set_rate(group, lowest[number])
                if cycle_momentum:
                    _set_momentum(group, self.max_momentums[number])
                    group.update(max_momentum=self.max_momentums[number], base_momentum=self.base_momentums[number])
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lowest

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, of its number or of the number of steps."""
        if self._scale_fn is not None:
            return self._scale_fn(x)
        if self.mode == "exp_range":
            return self.gamma**x
        return 1.0 if self.mode == "triangular" else 1 / 2.0 ** (x - 1)

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        part = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            rows = zip(self._groups(), self.base_momentums, self.max_momentums, strict=True)
            for group, least, most in rows:
                _set_momentum(group, most - (most - least) * part * height)
        return [low + (high - low) * part * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """As the base's; of ``scale_fn`` only an object with attributes is saved, by these."""
        state = {name: value for name, value in super().state_dict().items() if name != "_scale_fn"}
        state["_scale_fn_custom"] = attributes_of_functions([self._scale_fn])[0] if self._scale_fn else None
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_scale_fn_custom"})
        if self._scale_fn is not None:
            restore_functions([self._scale_fn], [state_dict["_scale_fn_custom"]])


def _check_momentum(optimizer: Optimizer, wanted: bool) -> None:
    if wanted and "betas" not in optimizer.defaults and "momentum" not in optimizer.defaults:
        message = "optimizer must support momentum or beta1 with `cycle_momentum` option enabled"
        raise at_user_line(ValueError(message))


def _set_momentum(group: Group, momentum: float) -> None:
    """Give a group another momentum, or first beta."""
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


__all__ = ["CyclicLR", "OneCycleLR"]
