"""Learning rate schedulers: call ``scheduler.step()`` after the ``optimizer.step()`` of an epoch (or a batch).

They write to ``optimizer.param_groups``, whose numbers a jitted step reads at each call: a new learning rate
recompiles nothing.  Call them outside of the jitted function.
"""

from __future__ import annotations

import math
import types
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..locations import at_user_line, warn_at_user_line
from .optimizer import Group, Optimizer
from .plateau import ReduceLROnPlateau, checked_optimizer, for_each_group, outside_of_traces

_WRONG_ORDER = (
    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. You should call them in the opposite order: "
    "`optimizer.step()` before `lr_scheduler.step()`.  Failure to do this will result in skipping the first value of "
    "the learning rate schedule."
)


class LRScheduler:
    """The base of schedulers; a subclass defines :meth:`get_lr`, the new rate of each parameter group.

    ``last_epoch`` counts the steps, ``base_lrs`` holds the rates that the groups started with.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = checked_optimizer(optimizer)
        for position, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                message = f"param 'initial_lr' is not specified in param_groups[{position}] when resuming an optimizer"
                raise at_user_line(KeyError(message))
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def _begin(self) -> None:
        """The step that sets the first rates."""
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """The groups' rates at ``last_epoch``, computed from those that they have now."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that the last step has set."""
        return self._last_lr

    def step(self) -> None:
        """Go on to the next rates."""
        outside_of_traces()
        if self._step_count == 1 and not self.optimizer.has_stepped:
            warn_at_user_line(_WRONG_ORDER)
        self._step_count += 1
        self._set(self.last_epoch + 1)

    def _set(self, epoch: int) -> None:
        self.last_epoch = epoch
        for group, rate in zip(self._groups(), self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self._groups()]

    def _restart(self) -> None:
        """Set the rates of epoch 0, from the initial ones."""
        for group, rate in zip(self._groups(), self.base_lrs, strict=True):
            group["lr"] = rate
        self._is_initial = True
        self._set(0)
        self._is_initial = False

    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer (and the functions of :class:`LambdaLR`)."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; load the optimizer's too."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """The initial rate times ``lr_lambda(epoch)``; one function for all groups, or one for each.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> opt = optim.SGD([tj.ones(2, requires_grad=True)], lr=1.0)
    >>> scheduler = optim.lr_scheduler.LambdaLR(opt, lambda epoch: 1 / (epoch + 1))
    >>> opt.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        count = len(checked_optimizer(optimizer).param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise at_user_line(ValueError(f"Expected {count} lr_lambdas, but got {len(self.lr_lambdas)}"))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        pairs = zip(self.lr_lambdas, self.base_lrs, strict=True)
        return [rate * function(self.last_epoch) for function, rate in pairs]

    def state_dict(self) -> dict[str, Any]:
        """As the base's; of functions only those that are objects with attributes are saved, by these."""
        state = {name: value for name, value in super().state_dict().items() if name != "lr_lambdas"}
        plain = types.FunctionType | types.BuiltinFunctionType
        state["lr_lambdas"] = [None if isinstance(f, plain) else f.__dict__.copy() for f in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "lr_lambdas"})
        for function, saved in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if saved is not None:
                function.__dict__.update(saved)


class StepLR(LRScheduler):
    """The rate times ``gamma`` at every ``step_size``-th step.

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> opt = optim.SGD([tj.ones(2, requires_grad=True)], lr=1.0)
    >>> scheduler = optim.lr_scheduler.StepLR(opt, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for epoch in range(5):
    ...     opt.step()
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        due = self.last_epoch != 0 and self.last_epoch % self.step_size == 0
        return [group["lr"] * self.gamma if due else group["lr"] for group in self._groups()]


class MultiStepLR(LRScheduler):
    """The rate times ``gamma`` at each of ``milestones``."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        count = self.milestones[self.last_epoch]
        return [group["lr"] * self.gamma**count if count else group["lr"] for group in self._groups()]


class ExponentialLR(LRScheduler):
    """The rate times ``gamma`` at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = 1.0 if self._is_initial else self.gamma
        return [group["lr"] * factor for group in self._groups()]


class LinearLR(LRScheduler):
    """From ``start_factor`` to ``end_factor`` times the initial rate, in ``total_iters`` equal steps: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            message = "Starting multiplicative factor expected to be greater than 0 and less or equal to 1."
            raise at_user_line(ValueError(message))
        if not 0 <= end_factor <= 1:
            raise at_user_line(ValueError("Ending multiplicative factor expected to be between 0 and 1."))
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [group["lr"] * self.start_factor for group in self._groups()]
        if self._is_initial or self.last_epoch > self.total_iters:
            return [group["lr"] for group in self._groups()]
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [group["lr"] * (1.0 + rise / before) for group in self._groups()]


class CosineAnnealingLR(LRScheduler):
    """From the initial rate to ``eta_min`` along half a cosine in ``T_max`` steps, and back up in as many."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        low, last, period = self.eta_min, self.last_epoch, self.T_max
        rates = [group["lr"] for group in self._groups()]
        if self._is_initial:
            return rates
        if self._step_count == 1 and last > 0:
            return [low + (base - low) * (1 + math.cos(last * math.pi / period)) / 2 for base in self.base_lrs]
        if (last - 1 - period) % (2 * period) == 0:
            rise = (1 - math.cos(math.pi / period)) / 2
            return [rate + (base - low) * rise for base, rate in zip(self.base_lrs, rates, strict=True)]
        factor = (1 + math.cos(math.pi * last / period)) / (1 + math.cos(math.pi * (last - 1) / period))
        return [factor * (rate - low) + low for rate in rates]


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
        self.use_beta1 = "betas" in optimizer.defaults
        if cycle_momentum and not self.use_beta1 and "momentum" not in optimizer.defaults:
            message = "optimizer must support momentum or beta1 with `cycle_momentum` option enabled"
            raise at_user_line(ValueError(message))
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
                if self.use_beta1:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
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


class SequentialLR(LRScheduler):
    """One scheduler after the other, the next from each of ``milestones`` on."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Any], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if not schedulers:
            raise at_user_line(ValueError("SequentialLR expects at least one scheduler, but got no scheduler."))
        for position, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                message = f"SequentialLR does not support {type(scheduler).__name__}, but got one at index {position}"
                raise at_user_line(ValueError(message))
            if scheduler.optimizer is not optimizer:
                message = (
                    "SequentialLR expects all schedulers to belong to the same optimizer, but got scheduler "
                    f"{type(scheduler).__name__} at index {position} with another one"
                )
                raise at_user_line(ValueError(message))
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
            group["lr"] = group["initial_lr"]
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

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer; the schedulers by their own state dicts."""
        state = {name: value for name, value in super().state_dict().items() if name != "_schedulers"}
        return {**state, "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for scheduler, saved in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(saved)


def _step_back(scheduler: LRScheduler) -> None:
    if isinstance(scheduler, SequentialLR):
        for part in scheduler._schedulers:
            _step_back(part)
    else:
        scheduler.last_epoch -= 1


__all__ = [
    "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "OneCycleLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip
