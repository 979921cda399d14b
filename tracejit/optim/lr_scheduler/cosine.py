"""Rates that follow a cosine."""

from __future__ import annotations

import math

from ...locations import at_user_line
from ..optimizer import Optimizer
from .base import LRScheduler, outside_of_traces


class CosineAnnealingLR(LRScheduler):
    """From the initial rate to ``eta_min`` along half a cosine in ``T_max`` steps, and back up in as many."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        low, last, period = self.eta_min, self.last_epoch, self.T_max
        rates = self._rates()
        if self._is_initial:
            return rates
        if self._step_count == 1 and last > 0:
            return [low + (base - low) * (1 + math.cos(last * math.pi / period)) / 2 for base in self.base_lrs]
        if (last - 1 - period) % (2 * period) == 0:
            rise = (1 - math.cos(math.pi / period)) / 2
            return [rate + (base - low) * rise for base, rate in zip(self.base_lrs, rates, strict=True)]
        factor = (1 + math.cos(math.pi * last / period)) / (1 + math.cos(math.pi * (last - 1) / period))
        return [factor * (rate - low) + low for rate in rates]


class CosineAnnealingWarmRestarts(LRScheduler):
    """From the initial rate to ``eta_min`` along half a cosine, again and again (Loshchilov and Hutter, 2017).

    The first time takes ``T_0`` steps, each later one ``T_mult`` times as many as the one before.  ``step`` may be
    given an epoch, also a fraction of one.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                what = "positive integer" if name == "T_0" else "integer >= 1"
                raise at_user_line(ValueError(f"Expected {what} {name}, but got {value}"))
        self.T_0 = self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next rates, or to those of ``epoch``."""
        outside_of_traces()
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise at_user_line(ValueError(f"Expected non-negative epoch, but got {epoch}"))
            turns = 0
            if epoch >= self.T_0 and self.T_mult > 1:
                turns = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
                self.T_cur = epoch - self.T_0 * (self.T_mult**turns - 1) / (self.T_mult - 1)
            else:
                self.T_cur = epoch % self.T_0
            self.T_i = self.T_0 * self.T_mult**turns
        self._set(math.floor(epoch))


__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]
