"""Schedulers made of others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ...locations import at_user_line
from ..optimizer import Optimizer
from .base import LRScheduler, outside_of_traces, set_rate
from .plateau import ReduceLROnPlateau


class _Composition(LRScheduler):
    """A scheduler made of others."""

    _schedulers: list[Any]

    def _check_schedulers(self, schedulers: Sequence[Any], optimizer: Optimizer | None) -> None:
        name, problem, chained = type(self).__name__, "", isinstance(self, ChainedScheduler)
        if not schedulers:
            problem = f"{name} expects at least one scheduler{' to be chained' * chained}, but got no scheduler."
        for position, scheduler in enumerate(schedulers):
            kind = type(scheduler).__name__
            if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
                problem = f"{name} does not support {kind}, but got one at index {position}"
            elif scheduler.optimizer is not (optimizer or schedulers[0].optimizer):
                problem = (
                    f"{name} expects all schedulers to belong to the same optimizer, but got scheduler {kind} at index "
                    f"{position} with another one"
                )
            if problem:
                break
        if problem:
            raise at_user_line(ValueError(problem))

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer; the schedulers by their own state dicts."""
        state = {name: value for name, value in super().state_dict().items() if name != "_schedulers"}
        return {**state, "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for scheduler, saved in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(saved)


class SequentialLR(_Composition):
    """One scheduler after the other, the next from each of ``milestones`` on."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Any], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._check_schedulers(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            message = (
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(schedulers)} and the number of milestones to be "
                f"equal to {len(milestones)}"
            )
            raise at_user_line(ValueError(message))
        self.optimizer = optimizer
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            set_rate(group, group["initial_lr"])
        for scheduler in self._schedulers:  # take back the steps that they began with
            _step_back(scheduler)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._begin()
        self._last_lr = first.get_last_lr()

    def _restart(self) -> None:
        self.last_epoch = 0
        self._schedulers[0]._restart()
        self._last_lr = self._schedulers[0].get_last_lr()

    def _begin(self) -> None:
        self.step()

    def step(self) -> None:
        """Go on to the next rates, of the scheduler whose turn it is."""
        outside_of_traces()
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _step_back(scheduler: LRScheduler) -> None:
    if isinstance(scheduler, SequentialLR):
        for part in scheduler._schedulers:
            _step_back(part)
    else:
        scheduler.last_epoch -= 1


class ChainedScheduler(_Composition):
    """All of the schedulers, at each step one after the other.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> opt = optim.SGD([tj.ones(2, requires_grad=True)], lr=1.0)
    >>> parts = [optim.lr_scheduler.ExponentialLR(opt, gamma) for gamma in (0.5, 0.25)]
    >>> scheduler = optim.lr_scheduler.ChainedScheduler(parts)
    >>> opt.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.125]
    """

    def __init__(self, schedulers: Sequence[Any], optimizer: Optimizer | None = None) -> None:
        self._check_schedulers(schedulers, optimizer)
        self._schedulers = list(schedulers)
        self.optimizer = optimizer or schedulers[0].optimizer
        self._last_lr = self._rates()

    def step(self) -> None:
        """Go on to the next rates."""
        outside_of_traces()
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates()


__all__ = ["ChainedScheduler", "SequentialLR"]
