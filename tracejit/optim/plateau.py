"""A learning rate that falls when a loss stops falling, and what the schedulers share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from ..locations import at_user_line
from ..state import thread
from .optimizer import Group, Optimizer


def checked_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer; ``TypeError`` if it is none."""
    if not isinstance(optimizer, Optimizer):
        raise at_user_line(TypeError(f"{type(optimizer).__name__} is not an Optimizer"))
    return optimizer


def outside_of_traces() -> None:
    """What follows cannot be part of a compiled function."""
    if thread.trace is not None:
        thread.trace.refuse("it steps a learning rate scheduler")


def for_each_group(name: str, value: Any, groups: Sequence[Group]) -> list[float]:
    """One number a group, of one for all or of a list."""
    if not isinstance(value, list | tuple):
        return [value] * len(groups)
    if len(value) != len(groups):
        message = f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
        raise at_user_line(ValueError(f"{message}param_groups has {len(groups)}."))
    return list(value)


class ReduceLROnPlateau:
    """The rate times ``factor`` when a number, given to ``step``, has not got better for ``patience`` steps.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> opt = optim.SGD([tj.ones(2, requires_grad=True)], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise at_user_line(ValueError("Factor should be < 1.0."))
        if mode not in ("min", "max"):
            raise at_user_line(ValueError(f"mode {mode} is unknown!"))
        if threshold_mode not in ("rel", "abs"):
            raise at_user_line(ValueError(f"threshold mode {threshold_mode} is unknown!"))
        self.optimizer = checked_optimizer(optimizer)
        self.min_lrs = for_each_group("min_lr", min_lr, optimizer.param_groups)
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr: list[float] = [group["lr"] for group in optimizer.param_groups]

    @property
    def in_cooldown(self) -> bool:
        """Whether steps are not counted as bad, shortly after a reduction."""
        return self.cooldown_counter > 0

    def get_last_lr(self) -> list[float]:
        """The groups' rates after the last step."""
        return self._last_lr

    def step(self, metrics: SupportsFloat) -> None:
        """Look at the number that is to get better."""
        outside_of_traces()
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _is_better(self, value: float) -> bool:
        if self.threshold_mode == "abs":
            return value < self.best - self.threshold if self.mode == "min" else value > self.best + self.threshold
        if self.mode == "min":
            return value < self.best * (1.0 - self.threshold)
        return value > self.best * (1.0 + self.threshold)

    def _reduce(self) -> None:
        if len(self.min_lrs) < len(self.optimizer.param_groups):  # groups were added
            self.min_lrs += [self.min_lrs[-1]] * (len(self.optimizer.param_groups) - len(self.min_lrs))
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            reduced = max(group["lr"] * self.factor, lowest)
            if group["lr"] - reduced > self.eps:
                group["lr"] = reduced

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.__dict__.update(state_dict)


__all__ = ["ReduceLROnPlateau", "checked_optimizer", "for_each_group", "outside_of_traces"]
