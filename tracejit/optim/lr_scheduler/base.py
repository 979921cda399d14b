"""What all schedulers share."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...locations import at_user_line, warn_at_user_line
from ...state import thread
from ...tensor import Tensor
from ..optimizer import Group, Optimizer

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
                group.setdefault("initial_lr", rate_of(group))
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
            set_rate(group, rate)
        self._last_lr = self._rates()

    def _restart(self) -> None:
        """Set the rates of epoch 0, from the initial ones."""
        for group, rate in zip(self._groups(), self.base_lrs, strict=True):
            set_rate(group, rate)
        self._is_initial = True
        self._set(0)
        self._is_initial = False

    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups

    def _rates(self) -> list[float]:
        """The rates that the groups have now."""
        return [rate_of(group) for group in self._groups()]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer (and the functions of :class:`LambdaLR`)."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; load the optimizer's too."""
        self.__dict__.update(state_dict)


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


def rate_of(group: Group) -> float:
    """A group's rate as a number; it may be held in a tensor."""
    return float(group["lr"])


def set_rate(group: Group, rate: float) -> None:
    """Give a group another rate, in the tensor that holds it if there is one."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def attributes_of_functions(functions: Sequence[Callable[..., Any]]) -> list[dict[str, Any] | None]:
    """What of functions can be saved: the attributes of those that are objects."""
    plain = types.FunctionType | types.BuiltinFunctionType
    return [None if isinstance(function, plain) else function.__dict__.copy() for function in functions]


def restore_functions(functions: Sequence[Callable[..., Any]], saved: Sequence[Mapping[str, Any] | None]) -> None:
    """Give objects the attributes back that were saved."""
    for function, attributes in zip(functions, saved, strict=True):
        if attributes is not None:
            function.__dict__.update(attributes)


__all__ = [
    "LRScheduler", "attributes_of_functions", "checked_optimizer", "for_each_group", "outside_of_traces", "rate_of",
    "restore_functions", "set_rate",
]  # fmt: skip
