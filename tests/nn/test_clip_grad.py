"""Clipping of gradients: by norm and by value, eagerly and compiled."""

import math

import numpy as np
import pytest

import tracejit as tj
from tracejit import nn, optim

RNG = np.random.default_rng(0)
GRADIENTS = [RNG.normal(size=(3, 2)), RNG.normal(size=4), RNG.normal(size=())]


def parameters(gradients=GRADIENTS, dtype=tj.float64):
    items = [tj.zeros(np.shape(g), dtype=dtype, requires_grad=True) for g in gradients]
    for item, g in zip(items, gradients, strict=True):
        item.grad = tj.tensor(g, dtype=dtype)
    return [*items, tj.zeros(2, requires_grad=True)]  # one without a gradient


@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, 0.0, math.inf, -math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_norm(order, max_norm):
    items = parameters()
    expected = np.linalg.norm([np.linalg.norm(g.ravel(), order) for g in GRADIENTS], order)
    total = nn.utils.clip_grad_norm_(items, max_norm, order)
    np.testing.assert_allclose(total.item(), expected, rtol=1e-12)
    factor = min(max_norm / (expected + 1e-6), 1.0)
    for item, g in zip(items, GRADIENTS, strict=False):
        np.testing.assert_allclose(item.grad.numpy(), g * factor, rtol=1e-12)


def test_value():
    items = parameters()
    held = [item.grad for item in items]
    assert nn.utils.clip_grad_value_(iter(items), 0.25) is None
    for item, g, before in zip(items, GRADIENTS, held, strict=False):
        assert item.grad is before
        np.testing.assert_array_equal(item.grad.numpy(), np.clip(g, -0.25, 0.25))


def test_one_tensor_and_none():
    p = parameters()[1]
    nn.utils.clip_grad_norm_(p, 1.0)
    np.testing.assert_allclose(np.linalg.norm(p.grad.numpy()), 1.0, rtol=1e-5)
    assert nn.utils.clip_grad_norm_([], 1.0).tolist() == 0.0
    with pytest.warns(UserWarning, match="`parameters` is an empty generator"):
        nn.utils.clip_grad_norm_((p for p in []), 1.0)


def test_a_norm_that_is_not_finite():
    (p, _) = parameters([[1.0, math.inf]])
    with pytest.raises(RuntimeError, match=r"order 2\.0 for gradients from `parameters` is non-finite"):
        nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [1.0, math.inf]
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == math.inf
    assert p.grad.numpy()[0] == 0.0
    assert math.isnan(p.grad.numpy()[1])


def test_half_precision_gradients_stay_in_half_precision():
    items = parameters(dtype=tj.float16)
    nn.utils.clip_grad_norm_(items, 0.5)
    assert items[0].grad.dtype == tj.float16


@pytest.mark.parametrize("order", [2.0, math.inf])
def test_compiled(order):
    def training(compiled):
        tj.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        opt = optim.SGD(model.parameters(), lr=0.5)
        x = tj.randn(5, 4)

        def step():
            opt.zero_grad()
            (model(x) ** 2).sum().backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.5)
            total = nn.utils.clip_grad_norm_(model.parameters(), 0.1, order, error_if_nonfinite=True)
            opt.step()
            return total

        run = tj.jit(step) if compiled else step
        totals = [run().item() for _ in range(4)]
        if compiled:
            assert (run.cache_info().misses, run.cache_info().lazy) == (1, 0)
        return totals, [p.detach().numpy().tobytes() for p in model.parameters()]

    assert training(True) == training(False)
