"""What functions should give, where NumPy has none of the name: from SciPy, Python's ``math`` or a formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest


def by_math(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of Python's ``math``, on arrays; ``inf`` where that is a pole."""

    def value(x: float) -> float:
        try:
            return getattr(math, name)(x)
        except ValueError:
            return math.inf

    return lambda x: np.vectorize(value, otypes=[np.float64])(x).astype(x.dtype)


def by_scipy(name: str) -> Callable[..., np.ndarray]:
    """A function of ``scipy.special``; the test is skipped where SciPy is not installed."""

    def value(*x: Any) -> np.ndarray:
        special = pytest.importorskip("scipy.special", reason="SciPy is not installed, which the values are from")
        return getattr(special, name)(*x)

    return value


erf, erfc, gammaln = by_math("erf"), by_math("erfc"), by_math("lgamma")


def erfinv(x: np.ndarray) -> np.ndarray:
    """Newton's steps from an approximation that is good to four digits."""
    y = np.array(
        [0 if abs(v) > 1 else NormalDist().inv_cdf((v + 1) / 2) / 2**0.5 if abs(v) < 1 else 0 for v in x.ravel()]
    )
    y = np.where(np.abs(x.ravel()) < 1e-8, x.ravel() * math.pi**0.5 / 2, y)
    for _ in range(3):
        y -= np.where(np.abs(y) < 1e-8, 0, (erf(y) - x.ravel()) * math.pi**0.5 / 2 * np.exp(y * y))
    y = np.where(np.abs(x.ravel()) == 1, np.copysign(np.inf, x.ravel()), np.where(np.abs(x.ravel()) < 1, y, np.nan))
    return np.where(x == 0, x, y.reshape(x.shape))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def ndtr(x: np.ndarray) -> np.ndarray:
    return erfc(-x / math.sqrt(2)) / 2


def xlogy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & ~np.isnan(y), 0, x * np.log(y))


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0, x.dtype.type(0), x)


def logsumexp(x: np.ndarray, **how: Any) -> np.ndarray:
    return np.log(np.sum(np.exp(x), **how))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(x - x.max(axis, keepdims=True, initial=-1e3))
    return powers / powers.sum(axis, keepdims=True)
