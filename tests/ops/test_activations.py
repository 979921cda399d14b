"""Activations and normalising functions: those of the namespace, and those of ``nn.functional``."""

import math
from typing import Any

import numpy as np
import pytest

import tracejit as tj

from . import references as by
from .table import FLOATS, ONE, checks_of, row

pytestmark = pytest.mark.usefixtures("first_code_only")

EVERY = [way[0] for way in ONE]
CURVE = {"ulps": 32, "slack": 1.0}


def gelu(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    if approximate == "none":
        return x * by.ndtr(x)
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def elu(x: np.ndarray, alpha: float = 1.0, scale: float = 1.0, width: float = 1.0) -> np.ndarray:
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / width))


def softplus(x: np.ndarray, beta: float = 1.0) -> np.ndarray:
    return np.logaddexp(0, beta * x) / beta


def prelu(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, x * (weight if weight.size == 1 else weight.reshape(-1, *(1,) * (x.ndim - 2))))


def hardsigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3, 0, 6) / 6


ROWS = [
    row("softmax", (3, 4), (5,), (2, 0, 3), (3, 0), like=by.softmax, **CURVE),
    row("softmax", (3, 4), args=(0,), like=by.softmax, **CURVE),
    row("log_softmax", (3, 4), (5,), (3, 0), like=lambda x, axis=-1: np.log(by.softmax(x, axis)), **CURVE),
    row("log_softmax", (3, 4), args=(0,), like=lambda x, axis=-1: np.log(by.softmax(x, axis)), **CURVE),
    row("F.softmax", (3, 4), (2, 3, 4), args=(1,), like=by.softmax, **CURVE),
    row("F.log_softmax", (3, 4), args=(1,), like=lambda x, axis: np.log(by.softmax(x, axis)), **CURVE),
    row("F.softmin", (3, 4), args=(1,), like=lambda x, axis: by.softmax(-x, axis), **CURVE),
    row("F.relu", *EVERY, like=by.relu, dtypes=FLOATS),
    row("F.relu6", *EVERY, like=lambda x: np.clip(x, 0, 6), dtypes=FLOATS, low=-4, high=9),
    row("F.gelu", *EVERY, like=gelu, **CURVE),
    row("F.gelu", (3, 4), approximate="tanh", like=gelu, **CURVE),
    row("F.silu", *EVERY, like=lambda x: x * by.sigmoid(x), **CURVE),
    row("F.sigmoid", *EVERY, like=by.sigmoid, **CURVE),
    row("F.tanh", *EVERY, like=np.tanh, **CURVE),
    row("F.leaky_relu", *EVERY, args=(0.2,), like=lambda x, a: np.where(x > 0, x, a * x), **CURVE),
    row("F.prelu", ((3, 4), (1,)), ((2, 3, 4), (3,)), ((2, 4), (4,)), like=prelu, **CURVE),
    row("F.elu", *EVERY, like=elu, **CURVE),
    row("F.elu", (3, 4), args=(0.5,), like=elu, **CURVE),
    row("F.celu", (3, 4), args=(0.5,), like=lambda x, a: elu(x, a, 1.0, a), **CURVE),
    row("F.selu", *EVERY, like=lambda x: elu(x, 1.6732632423543772, 1.0507009873554805), **CURVE),
    row("F.softplus", *EVERY, like=softplus, **CURVE),
    row("F.softplus", (3, 4), args=(3.0,), like=softplus, **CURVE),
    row("F.logsigmoid", *EVERY, like=lambda x: -np.logaddexp(0, -x), **CURVE),
    row("F.mish", *EVERY, like=lambda x: x * np.tanh(softplus(x)), **CURVE),
    row("F.softsign", *EVERY, like=lambda x: x / (1 + np.abs(x)), **CURVE),
    row("F.tanhshrink", *EVERY, like=lambda x: x - np.tanh(x), **CURVE),
    row("F.hardtanh", *EVERY, args=(-0.5, 0.7), like=np.clip, dtypes=FLOATS),
    row("F.hardsigmoid", *EVERY, like=hardsigmoid, low=-5, high=5, **CURVE),
    row("F.hardswish", *EVERY, like=lambda x: x * hardsigmoid(x), low=-5, high=5, **CURVE),
    row("F.hardshrink", *EVERY, like=lambda x: np.where(np.abs(x) <= 0.5, 0, x), dtypes=FLOATS),
    row("F.softshrink", *EVERY, like=lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0), **CURVE),
    row("F.threshold", *EVERY, args=(0.3, -7.0), like=lambda x, t, v: np.where(x > t, x, v), dtypes=FLOATS),
    row("F.glu", (3, 4), (2,), (0, 2), like=lambda x: x[..., : x.shape[-1] // 2] * by.sigmoid(x[...,
        x.shape[-1] // 2 :]), **CURVE),
    row("F.glu", (4, 3), args=(0,), like=lambda x, dim: x[:2] * by.sigmoid(x[2:]), **CURVE),
]  # fmt: skip

test_value, test_special_values, test_gradient, test_gradient_of_a_jitted_function = checks_of(ROWS)


def test_softmax_of_large_numbers() -> None:
    x = tj.tensor([1e4, 1e4, -np.inf])
    assert tj.softmax(x).tolist() == [0.5, 0.5, 0.0]
    np.testing.assert_allclose(np.asarray(tj.log_softmax(x)), [-math.log(2)] * 2 + [-np.inf], rtol=1e-6)


def test_random_activations_stay_in_their_bounds() -> None:
    """``rrelu`` draws slopes, ``gumbel_softmax`` noise."""
    functional: Any = tj.nn.functional
    x = tj.linspace(-2, 2, 101)
    ratio = np.asarray(functional.rrelu(x, 0.1, 0.3, training=True))[:50] / np.asarray(x)[:50]
    assert 0.1 <= ratio.min() < ratio.max() <= 0.3
    shares = functional.gumbel_softmax(tj.zeros(50, 4), hard=True)
    assert np.asarray(shares.sum(-1)) == pytest.approx(1.0)
    assert set(np.unique(np.asarray(shares)).round(5)) == {0.0, 1.0}
