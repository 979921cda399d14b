"""Averages of a model's weights over the steps of its training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..autograd.modes import no_grad
from ..locations import at_user_line
from ..nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Module
from ..ops import creation, elementwise
from ..tensor import Tensor
from .lr_scheduler.base import LRScheduler, checked_optimizer, for_each_group
from .optimizer import Optimizer

Average = Callable[[Tensor, Tensor, Tensor], Tensor]
AverageAll = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average, for :class:`AveragedModel`: ``decay * average + (1 - decay) * new``."""
    _check_decay(decay)
    return lambda average, new, count: decay * average + (1 - decay) * new


def get_swa_avg_fn() -> Average:
    """The mean of all, for :class:`AveragedModel`."""
    return lambda average, new, count: average + (new - average) / elementwise.astype(count + 1, average.dtype)


def get_ema_multi_avg_fn(decay: float = 0.999) -> AverageAll:
    """As :func:`get_ema_avg_fn`, for all parameters at once."""
    _check_decay(decay)
    return _for_all(lambda average, new, count: average + (1 - decay) * (new - average))


def get_swa_multi_avg_fn() -> AverageAll:
    """As :func:`get_swa_avg_fn`, for all parameters at once."""
    return _for_all(get_swa_avg_fn())


def _check_decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        message = f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
        raise at_user_line(ValueError(message))


def _for_all(function: Average) -> AverageAll:
    def update(averages: Sequence[Tensor], news: Sequence[Tensor], count: Tensor) -> None:
        with no_grad():
            for average, new in zip(averages, news, strict=True):
                average.copy_(function(average, new, count))

    return update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's, at each call of ``update_parameters``.

    By default the mean of all (Izmailov et al., 2018); ``avg_fn(average, new, count)`` gives another, as
    :func:`get_ema_avg_fn`'s, or ``multi_avg_fn(averages, news, count)``, which changes all averages in place.  Buffers
    are those of the model, or averaged too with ``use_buffers``.

    >>> import tracejit as tj
    >>> from tracejit import nn, optim
    >>> model = nn.Linear(1, 1, bias=False)
    >>> averaged = optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     weight = nn.init.constant_(model.weight, value)
    ...     averaged.update_parameters(model)
    >>> averaged(tj.ones(1)).item()
    3.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: str | None = None,
        avg_fn: Average | None = None,
        multi_avg_fn: AverageAll | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise at_user_line(AssertionError("Only one of avg_fn and multi_avg_fn should be provided"))
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", creation.tensor(0))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model computes."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters that the model has now into the averages."""
        own, other = list(self.module.parameters()), list(model.parameters())
        buffers = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if self.use_buffers:
            own, other = [*own, *(mine for mine, _ in buffers)], [*other, *(its for _, its in buffers)]  # type: ignore[list-item]
        with no_grad():
            if bool(self.n_averaged == 0):
                for average, new in zip(own, other, strict=True):
                    average.copy_(new)
            elif self.multi_avg_fn is not None:
                self.multi_avg_fn(own, [new.detach() for new in other], self.n_averaged)
            else:
                function = self.avg_fn or get_swa_avg_fn()
                for average, new in zip(own, other, strict=True):
                    average.copy_(function(average.detach(), new.detach(), self.n_averaged))
            if not self.use_buffers:
                for mine, its in buffers:
                    mine.copy_(its)
            self.n_averaged.add_(1)


def update_bn(loader: Iterable[Any], model: Module, device: str | None = None) -> None:
    """Set the running statistics of a model's batch norms to those of the batches of ``loader``.

    Of a batch that is a list or a tuple the model is called with the first item.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm1d | BatchNorm2d | BatchNorm3d)]
    if not norms:
        return
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with no_grad():
        for batch in loader:
            x = batch[0] if isinstance(batch, list | tuple) else batch
            model(x if device is None else x.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """From the rate that there is to ``swa_lr`` in ``anneal_epochs`` steps, along a cosine or a line, then constant."""

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        groups = checked_optimizer(optimizer).param_groups
        if anneal_strategy not in ("cos", "linear"):
            message = f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            raise at_user_line(ValueError(message))
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            message = f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}"
            raise at_user_line(ValueError(message))
        for group, rate in zip(groups, for_each_group("swa_lr", swa_lr, groups), strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._part(step - 1), self._part(step)
        rates: list[float] = []
        for group, rate in zip(self._groups(), self._rates(), strict=True):
            final = group["swa_lr"]
            start = final if before == 1 else (rate - before * final) / (1 - before)
            rates.append(final * now + start * (1 - now))
        return rates

    def _part(self, step: int) -> float:
        """How far on the way to the final rate."""
        part = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return part if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * part)) / 2


__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
    "update_bn",
]  # fmt: skip
