"""Activations and losses against NumPy, their gradients against finite differences, and compiled."""

import math

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn

from .test_layers import check_compiled, check_gradient, t64

RNG = np.random.default_rng(1)
X = RNG.normal(size=(4, 6)) * 4
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def np_softplus(x):
    return np.logaddexp(0, x)


ACTIVATIONS = [
    ("LeakyReLU", (0.2,), lambda x: np.where(x > 0, x, 0.2 * x)),
    ("ELU", (0.5,), lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0)))),
    ("CELU", (2.0,), lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2))),
    ("SELU", (), lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))),
    ("Softplus", (2.0, 100.0), lambda x: np_softplus(2 * x) / 2),
    ("LogSigmoid", (), lambda x: -np_softplus(-x)),
    ("Mish", (), lambda x: x * np.tanh(np_softplus(x))),
    ("Softsign", (), lambda x: x / (1 + abs(x))),
    ("Tanhshrink", (), lambda x: x - np.tanh(x)),
    ("Hardtanh", (-2.0, 1.0), lambda x: np.clip(x, -2, 1)),
    ("ReLU6", (), lambda x: np.clip(x, 0, 6)),
    ("Hardsigmoid", (), lambda x: np.clip(x + 3, 0, 6) / 6),
    ("Hardswish", (), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ("Hardshrink", (1.0,), lambda x: np.where(abs(x) > 1, x, 0)),
    ("Softshrink", (1.0,), lambda x: np.sign(x) * np.maximum(abs(x) - 1, 0)),
    ("Threshold", (0.5, -1.0), lambda x: np.where(x > 0.5, x, -1)),
    ("GLU", (), lambda x: x[:, :3] / (1 + np.exp(-x[:, 3:]))),
    ("Softmin", (1,), lambda x: np.exp(-x) / np.exp(-x).sum(1, keepdims=True)),
]


@pytest.mark.parametrize(("name", "settings", "reference"), ACTIVATIONS, ids=[name for name, _, _ in ACTIVATIONS])
def test_activation(name, settings, reference):
    layer = getattr(nn, name)(*settings)
    np.testing.assert_allclose(layer(t64(X)).numpy(), reference(X), rtol=1e-7, atol=1e-12)
    check_gradient(layer, X)
    check_compiled(layer, tj.tensor(X, dtype=tj.float32))
    if name not in ("GLU", "Softmin"):
        extremes = tj.tensor([-1e4, 1e4, 0.0, -0.0], dtype=tj.float64, requires_grad=True)
        layer(extremes).sum().backward()
        assert np.isfinite(extremes.grad.numpy()).all()
        assert math.isnan(layer(tj.tensor([math.nan])).item()) or name in ("Threshold",)


def test_in_place_and_learned_slopes():
    x = tj.tensor([-1.0, 2.0])
    assert nn.ReLU(inplace=True)(x) is x
    assert x.tolist() == [0.0, 2.0]
    assert repr(nn.LeakyReLU(0.1, inplace=True)) == "LeakyReLU(negative_slope=0.1, inplace=True)"
    w = RNG.normal(size=3)
    check_gradient(F.prelu, RNG.normal(size=(2, 3, 4)), w)
    with pytest.raises(RuntimeError, match="Mismatch of parameter numbers and input channel size"):
        F.prelu(tj.ones(2, 4), t64(w))
    with pytest.raises(RuntimeError, match="Halving dimension must be even, but dimension 1 is size 3"):
        F.glu(tj.ones(2, 3))


# Losses -----------------------------------------------------------------------------------------------

A, B, C = (RNG.normal(size=(3, 4)) for _ in range(3))
P, Q = RNG.uniform(0.1, 0.9, (2, 3, 4))
SIGNS = np.array([1.0, -1.0, 1.0])
D = abs(A - B)


def np_cosine(a, b):
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def np_distance(a, b):
    return np.sqrt(((a - b + 1e-6) ** 2).sum(-1))


LOSSES = [
    ("SmoothL1Loss", {"beta": 0.5}, (A, B), np.where(D < 0.5, D**2, D - 0.25)),
    ("HuberLoss", {"delta": 0.5}, (A, B), np.where(D < 0.5, D**2 / 2, 0.5 * (D - 0.25))),
    ("BCELoss", {}, (P, Q), -(Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    ("KLDivLoss", {}, (np.log(P), Q), Q * (np.log(Q) - np.log(P))),
    ("KLDivLoss", {"log_target": True}, (np.log(P), np.log(Q)), Q * (np.log(Q) - np.log(P))),
    ("PoissonNLLLoss", {}, (A, Q), np.exp(A) - Q * A),
    ("GaussianNLLLoss", {}, (A, B, P), (np.log(P) + (A - B) ** 2 / P) / 2),
    ("SoftMarginLoss", {}, (A[:, 0], SIGNS), np.log1p(np.exp(-SIGNS * A[:, 0]))),
    ("HingeEmbeddingLoss", {}, (P[:, 0], SIGNS), np.where(SIGNS == 1, P[:, 0], np.maximum(0, 1 - P[:, 0]))),
    ("MarginRankingLoss", {"margin": 0.5}, (A[:, 0], B[:, 0], SIGNS),
     np.maximum(0, -SIGNS * (A[:, 0] - B[:, 0]) + 0.5)),
    ("CosineEmbeddingLoss", {}, (A, B, SIGNS),
     np.where(SIGNS == 1, 1 - np_cosine(A, B), np.maximum(0, np_cosine(A, B)))),
    ("TripletMarginLoss", {}, (A, B, C), np.maximum(0, np_distance(A, B) - np_distance(A, C) + 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "arrays", "expected"), LOSSES, ids=[loss[0] for loss in LOSSES])
def test_loss(name, settings, arrays, expected):
    kind = getattr(nn, name)
    tensors = [t64(array) for array in arrays]
    np.testing.assert_allclose(kind(**settings, reduction="none")(*tensors).numpy(), expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(kind(**settings, reduction="sum")(*tensors).item(), expected.sum(), rtol=1e-7)
    np.testing.assert_allclose(kind(**settings)(*tensors).item(), expected.mean(), rtol=1e-7)
    layer = kind(**settings)
    check_gradient(lambda x: layer(x, *tensors[1:]), arrays[0])
    check_compiled(layer, *(tj.tensor(a, dtype=tj.float32) for a in arrays))


def test_losses_at_their_edges():
    p = t64([0.0, 1.0, 0.0], requires_grad=True)
    loss = F.binary_cross_entropy(p, t64([1.0, 0.0, 0.0]), reduction="none")
    assert loss.tolist() == [100.0, 100.0, 0.0]
    loss.sum().backward()
    assert np.isfinite(p.grad.numpy()).all()
    with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1"):
        F.binary_cross_entropy(t64([1.5]), t64([1.0]))
    assert F.kl_div(t64([0.0]), t64([0.0])).item() == 0.0
    assert F.kl_div(t64(A), t64(Q), reduction="batchmean").item() == pytest.approx(
        F.kl_div(t64(A), t64(Q), reduction="sum").item() / 3
    )
    x = tj.zeros(2, 3, requires_grad=True)
    F.normalize(x).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    with pytest.raises(RuntimeError, match="non-positive values for delta"):
        F.huber_loss(x, x, delta=0)
    with pytest.raises(ValueError, match="var has negative entry/entries"):
        F.gaussian_nll_loss(t64([1.0]), t64([1.0]), t64([-1.0]))
