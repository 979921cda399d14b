"""Learning rate schedulers: their rates against closed forms, their state, and that no new rate recompiles."""

import math
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit import nn, optim
from tracejit.optim import lr_scheduler

STEPS = 12


def optimizer(*rates, kind=optim.SGD, **settings):
    groups = [{"params": [tj.ones(1, requires_grad=True)], "lr": rate} for rate in rates]
    return kind(groups, **settings)


def rates_of(opt, scheduler, steps=STEPS):
    """The first group's rate at each step."""
    found = []
    for _ in range(steps):
        opt.step()
        found.append(opt.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [group["lr"] for group in opt.param_groups]
        scheduler.step()
    return found


def one_cycle(t):
    """Of 12 steps with 30% rising, from 0.04 to 1 and down to 4e-6."""
    up, last = 0.3 * 12 - 1, 11
    start, end, part = (0.04, 1.0, t / up) if t <= up else (1.0, 4e-6, (t - up) / (last - up))
    return end + (start - end) / 2 * (math.cos(math.pi * part) + 1)


CLOSED_FORMS = [
    (lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t), lambda t: 0.9**t),
    (lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5), lambda t: 0.5 ** (t // 3)),
    (lambda o: lr_scheduler.MultiStepLR(o, [2, 5, 5]), lambda t: 1.0 if t < 2 else 0.1 if t < 5 else 1e-3),
    (lambda o: lr_scheduler.ExponentialLR(o, 0.5), lambda t: 0.5**t),
    (lambda o: lr_scheduler.LinearLR(o, 0.25, 0.75, 4), lambda t: 0.25 + 0.5 * min(t, 4) / 4),
    (lambda o: lr_scheduler.CosineAnnealingLR(o, 4, 0.1), lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t / 4)) / 2),
    (lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=STEPS, cycle_momentum=False), one_cycle),
    (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.5, 1.0, 4), lr_scheduler.ExponentialLR(o, 0.5)], [4]
        ),
        lambda t: 0.5 + 0.5 * t / 4 if t < 4 else 0.5 ** (t - 4),
    ),
]
NAMES = ["Lambda", "Step", "MultiStep", "Exponential", "Linear", "Cosine", "OneCycle", "Sequential"]


@pytest.mark.parametrize(("make", "rate"), CLOSED_FORMS, ids=NAMES)
def test_closed_form(make, rate):
    opt = optimizer(1.0, 1.0)
    found = rates_of(opt, make(opt))
    np.testing.assert_allclose(found, [rate(t) for t in range(STEPS)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", [make for make, _ in CLOSED_FORMS], ids=NAMES)
def test_going_on_from_a_state_dict(make):
    opt = optimizer(1.0)
    scheduler = make(opt)
    rates_of(opt, scheduler, 5)
    saved = opt.state_dict(), scheduler.state_dict()
    expected = rates_of(opt, scheduler, 5)
    opt2 = optimizer(123.0)
    scheduler2 = make(opt2)
    opt2.load_state_dict(saved[0])
    scheduler2.load_state_dict(saved[1])
    assert scheduler2.last_epoch == 5
    assert rates_of(opt2, scheduler2, 5) == expected


def test_groups_have_rates_of_their_own():
    opt = optimizer(1.0, 0.5)
    scheduler = lr_scheduler.LambdaLR(opt, [lambda t: 0.5**t, lambda t: 1.0])
    opt.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5, 0.5]
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        lr_scheduler.LambdaLR(opt, [lambda t: 1.0])


def test_one_cycle_moves_the_momentum_the_other_way():
    opt = optimizer(1.0, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.5, anneal_strategy="linear")
    momenta = []
    for _ in range(10):
        opt.step()
        momenta.append(opt.param_groups[0]["momentum"])
        scheduler.step()
    np.testing.assert_allclose(momenta[:5], np.linspace(0.95, 0.85, 5))
    np.testing.assert_allclose(momenta[4:], np.linspace(0.85, 0.95, 6))
    with pytest.raises(ValueError, match=r"Tried to step 11 times[.] The specified number of total steps is 10"):
        scheduler.step()
    adam = optimizer(1.0, kind=optim.Adam)
    lr_scheduler.OneCycleLR(adam, 1.0, epochs=2, steps_per_epoch=5, three_phase=True)
    assert adam.param_groups[0]["betas"] == (0.95, 0.999)


@pytest.mark.parametrize(("mode", "kind", "sign"), [("min", "rel", 1), ("min", "abs", 1), ("max", "abs", -1)])
def test_plateau(mode, kind, sign):
    opt = optimizer(1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(opt, mode, 0.1, patience=1, threshold_mode=kind, cooldown=2, min_lr=0.05)
    rates = []
    for loss in [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0]:
        scheduler.step(tj.tensor(sign * loss))
        rates.append(opt.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]
    other = lr_scheduler.ReduceLROnPlateau(optimizer(1.0), mode)
    other.load_state_dict(scheduler.state_dict())
    assert (other.best, other.get_last_lr()) == (sign * 1.0, [0.05])


def test_a_step_before_the_optimizers_warns():
    opt = optimizer(1.0)
    scheduler = lr_scheduler.StepLR(opt, 1)
    with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`"):
        scheduler.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates_of(other := optimizer(1.0), lr_scheduler.StepLR(other, 1))


def test_no_new_rate_recompiles_a_step():
    model = nn.Linear(2, 1)
    opt = optim.Adam(model.parameters(), lr=0.1)
    schedulers = [lr_scheduler.OneCycleLR(opt, 0.1, total_steps=20), lr_scheduler.ExponentialLR(opt, 0.9)]
    x = tj.ones(3, 2)

    @tj.jit
    def step():
        opt.zero_grad()
        (model(x) ** 2).mean().backward()
        opt.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            step()
            for scheduler in schedulers:
                scheduler.step()
    assert (step.cache_info().misses, step.cache_info().lazy) == (1, 0)


def test_a_scheduler_within_a_jitted_function_runs_eagerly():
    opt = optimizer(1.0)
    scheduler = lr_scheduler.ExponentialLR(opt, 0.5)

    @tj.jit
    def step():
        opt.step()
        scheduler.step()

    step()
    step()
    assert scheduler.get_last_lr() == [0.25]
    assert "it steps a learning rate scheduler" in step.explain()


REFUSED = [
    (lambda o: lr_scheduler.StepLR(None, 1), TypeError, "NoneType is not an Optimizer"),
    (lambda o: lr_scheduler.StepLR(o, 1, last_epoch=3), KeyError, "is not specified in param_groups"),
    (lambda o: lr_scheduler.LinearLR(o, 0.0), ValueError, "greater than 0 and less or equal to 1"),
    (lambda o: lr_scheduler.LinearLR(o, 1.0, 2.0), ValueError, "expected to be between 0 and 1"),
    (lambda o: lr_scheduler.OneCycleLR(o, 1.0), ValueError, "must define either total_steps OR"),
    (lambda o: lr_scheduler.OneCycleLR(o, 1.0, -1), ValueError, "Expected positive integer total_steps, but got -1"),
    (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 9, pct_start=2.0), ValueError, "between 0 and 1 pct_start, but got 2.0"),
    (lambda o: lr_scheduler.OneCycleLR(o, [1.0, 2.0], 9), ValueError, "max_lr must have the same length"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), ValueError, "Factor should be < 1.0"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, "best"), ValueError, "mode best is unknown!"),
    (lambda o: lr_scheduler.SequentialLR(o, [], []), ValueError, "at least one scheduler"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [1]), ValueError, "one more than the number"),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(optimizer(1.0))
