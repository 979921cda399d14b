"""A learning rate that falls when a loss stops falling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from ...locations import at_user_line
from ..optimizer import Optimizer
from .base import LRScheduler, checked_optimizer, for_each_group, outside_of_traces, rate_of, set_rate


class ReduceLROnPlateau(LRScheduler):
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
        self._last_lr = self._rates()

    @property
    def in_cooldown(self) -> bool:
        """Whether steps are not counted as bad, shortly after a reduction."""
        return self.cooldown_counter > 0

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
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
        self._last_lr = self._rates()

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
            reduced = max(rate_of(group) * self.factor, lowest)
            if rate_of(group) - reduced > self.eps:
                set_rate(group, reduced)


__all__ = ["ReduceLROnPlateau"]
