"""Every optimizer and scheduler with settings, for the tests against PyTorch and those of compiled training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit import optim
from tracejit.optim import lr_scheduler

MOMENTUM = {"lr": 0.1, "momentum": 0.9}
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {**MOMENTUM, "weight_decay": 0.1, "nesterov": True}),
    ("SGD", {**MOMENTUM, "dampening": 0.5, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True, "fused": None}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {**MOMENTUM, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.1, "centered": True, "alpha": 0.9, "eps": 1e-3}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adagrad", {"lr": 0.1, "eps": 1e-3, "maximize": True, "foreach": False}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.5, "eps": 1e-2, "weight_decay": 0.1, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 2, "weight_decay": 0.1, "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.05, 0.12), "maximize": True}),
    ("Lion", {}),
    ("Lion", {"lr": 0.1, "betas": (0.5, 0.75), "weight_decay": 0.5, "maximize": True}),
]
# Those that compute the loss by themselves, several times a step.
WITH_CLOSURES: list[tuple[str, dict[str, Any]]] = [
    ("LBFGS", {"max_iter": 4, "lr": 0.1}),
    ("LBFGS", {"max_iter": 7, "history_size": 3, "line_search_fn": "strong_wolfe"}),
]
NOT_IN_PYTORCH = {"Lion"}

SCHEDULERS: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("LambdaLR", lambda library, opt: library.LambdaLR(opt, lambda t: 0.9**t)),
    ("MultiplicativeLR", lambda library, opt: library.MultiplicativeLR(opt, lambda t: 0.9 + 0.01 * t)),
    ("StepLR", lambda library, opt: library.StepLR(opt, 3)),
    ("MultiStepLR", lambda library, opt: library.MultiStepLR(opt, [2, 5, 5])),
    ("ExponentialLR", lambda library, opt: library.ExponentialLR(opt, 0.5)),
    ("ConstantLR", lambda library, opt: library.ConstantLR(opt)),
    ("ConstantLR", lambda library, opt: library.ConstantLR(opt, 0.25, 3)),
    ("LinearLR", lambda library, opt: library.LinearLR(opt)),
    ("LinearLR", lambda library, opt: library.LinearLR(opt, 0.25, 0.75, 4)),
    ("PolynomialLR", lambda library, opt: library.PolynomialLR(opt)),
    ("PolynomialLR", lambda library, opt: library.PolynomialLR(opt, 7, 2.0)),
    ("CosineAnnealingLR", lambda library, opt: library.CosineAnnealingLR(opt, 4, 0.1)),
    ("CosineAnnealingWarmRestarts", lambda library, opt: library.CosineAnnealingWarmRestarts(opt, 4)),
    ("CosineAnnealingWarmRestarts", lambda library, opt: library.CosineAnnealingWarmRestarts(opt, 2, 2, 0.1)),
    ("CyclicLR", lambda library, opt: library.CyclicLR(opt, 0.1, 1.0, 3)),
    ("CyclicLR", lambda library, opt: library.CyclicLR(opt, 0.1, 1.0, 2, 3, "triangular2", cycle_momentum=False)),
    ("CyclicLR", lambda library, opt: library.CyclicLR(opt, 0.1, 1.0, 2, mode="exp_range", gamma=0.9)),
    ("CyclicLR", lambda library, opt: library.CyclicLR(opt, 0.1, 1.0, 2, scale_fn=lambda x: 1 / (5 * x))),
    ("OneCycleLR", lambda library, opt: library.OneCycleLR(opt, 1.0, total_steps=20)),
    (
        "OneCycleLR",
        lambda library, opt: library.OneCycleLR(
            opt, 1.0, epochs=4, steps_per_epoch=5, three_phase=True, anneal_strategy="linear", cycle_momentum=False
        ),
    ),
    (
        "SequentialLR",
        lambda library, opt: library.SequentialLR(
            opt,
            [library.LinearLR(opt), library.CosineAnnealingWarmRestarts(opt, 3), library.ExponentialLR(opt, 0.5)],
            [5, 12],
        ),
    ),
    (
        "ChainedScheduler",
        lambda library, opt: library.ChainedScheduler([library.ConstantLR(opt), library.ExponentialLR(opt, 0.9)]),
    ),
    ("ReduceLROnPlateau", lambda library, opt: library.ReduceLROnPlateau(opt, factor=0.5, patience=1)),
    (
        "ReduceLROnPlateau",
        lambda library, opt: library.ReduceLROnPlateau(
            opt, "max", 0.5, patience=0, threshold=0.1, threshold_mode="abs", cooldown=2, min_lr=0.1
        ),
    ),
]


def name_of(item: Any) -> str:
    """A test's name: what the row is about."""
    if isinstance(item, dict):
        return "-".join(item) or "defaults"
    return item if isinstance(item, str) else ""


def public_optimizers() -> list[str]:
    """Every public optimizer."""
    return [name for name in optim.__all__ if name not in ("Optimizer", "lr_scheduler", "swa_utils")]


def public_schedulers() -> list[str]:
    """Every public scheduler."""
    return [name for name in lr_scheduler.__all__ if name != "LRScheduler"]
