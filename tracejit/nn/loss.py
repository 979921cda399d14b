"""Losses, as modules; :mod:`.functional` says what each computes."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional
from .module import Module


class _Loss(Module):
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction


class _WeightedLoss(_Loss):
    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)


class CrossEntropyLoss(_WeightedLoss):
    """Minus the logarithm of the softmax of logits at the target class; see :func:`.functional.cross_entropy`.

    >>> import tracejit as tj
    >>> CrossEntropyLoss()(tj.zeros(3, 2), tj.tensor([0, 1, 0]))
    tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Tensor:
        """``(N, C, …)`` logits and ``(N, …)`` classes → one number (or ``(N, …)`` for ``reduction="none"``)."""
        return functional.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_WeightedLoss):
    """Minus the log-probability of the target class; see :func:`.functional.nll_loss`."""

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Tensor:
        """``(N, C, …)`` log-probabilities and ``(N, …)`` classes → one number."""
        return functional.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class MSELoss(_Loss):
    """The squared difference; see :func:`.functional.mse_loss`."""

    def forward(self, input: Any, target: Any) -> Tensor:
        """Two tensors of one shape → one number."""
        return functional.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """The distance; see :func:`.functional.l1_loss`."""

    def forward(self, input: Any, target: Any) -> Tensor:
        """Two tensors of one shape → one number."""
        return functional.l1_loss(input, target, self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """Sigmoid and cross entropy in one; see :func:`.functional.binary_cross_entropy_with_logits`."""

    pos_weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        """Two tensors of one shape → one number."""
        return functional.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "MSELoss", "NLLLoss"]
