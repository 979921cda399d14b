"""Random numbers from counters: the same stream eagerly and compiled.

A :class:`Generator` is a key and a position in that key's stream (Philox4x32-10).  A draw uses the numbers
from the position on and moves it, so what comes next depends on the draws before alone, never on how they
were computed.  The position is a tensor: a jitted function moves it at each call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tracejit.ir.primitives import elementwise as primitives
from tracejit.ir.primitives.generation import random_bits
from tracejit.ir.types import float32, float64, int64, uint64

from . import dispatch
from .autograd.modes import no_grad
from .locations import at_user_line
from .ops import elementwise, manipulation
from .ops.creation import Shape, put
from .promotion import DEFAULT_FLOAT
from .state import thread
from .tape import apply
from .tensor import Tensor, new_tensor


class Generator:
    """A stream of random numbers.

    >>> import tracejit as tj
    >>> first = tj.random.Generator(0).uniform((2,))
    >>> second = tj.random.Generator(0).uniform((2,))
    >>> bool((first == second).all())
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.key = _counter(seed)
        self.position = _counter(0)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of another seed, from its beginning."""
        with no_grad():
            self.key.copy_(_counter(seed))
            self.position.copy_(_counter(0))
        return self

    def bits(self, count: int, device: str | None = None) -> Tensor:
        """``count`` random uint32; the position moves by the blocks of four that they take."""
        draw = self._draw if device is None else partial(self._draw, device=device)
        if thread.level is None and thread.hidden is None:
            return draw(count)
        from .transforms.batch import spread_draw

        return spread_draw(draw, count)

    def _draw(self, count: int, device: str = "cpu") -> Tensor:
        """The stream is the same on each device."""
        with no_grad():
            result = apply(random_bits, (put(self.key, device), put(self.position, device)), {"size": count})
            self.position._assign(elementwise.add(self.position, (count + 3) // 4))
        return result

    def uniform(
        self,
        shape: Shape = (),
        low: float = 0.0,
        high: float = 1.0,
        dtype: Any = None,
        device: str | None = None,
    ) -> Tensor:
        """Uniform numbers in ``[low, high)``: 24 random bits for float32, 53 for float64."""
        extents = (shape,) if isinstance(shape, int) else tuple(shape)
        count = math.prod(extents)
        if np.dtype(dtype or DEFAULT_FLOAT) == float64:
            bits = elementwise.astype(self.bits(2 * count, device), uint64)
            halves = manipulation.reshape(bits, (count, 2))
            top = elementwise.multiply(elementwise.astype(_shifted(halves[:, 0], 5), float64), 67108864.0)
            whole = elementwise.add(top, elementwise.astype(_shifted(halves[:, 1], 6), float64))
            unit = elementwise.multiply(whole, 2.0**-53)
        else:
            unit = elementwise.multiply(elementwise.astype(_shifted(self.bits(count, device), 8), float32), 2.0**-24)
        if (low, high) != (0.0, 1.0):
            unit = elementwise.add(elementwise.multiply(unit, high - low), low)
        return manipulation.reshape(unit, extents)

    def normal(
        self,
        shape: Shape = (),
        mean: float = 0.0,
        std: float = 1.0,
        dtype: Any = None,
        device: str | None = None,
    ) -> Tensor:
        """Normal numbers, by the inverse of the distribution function."""
        wanted = np.dtype(dtype or DEFAULT_FLOAT)
        extents = (shape,) if isinstance(shape, int) else tuple(shape)
        unit = self.uniform(extents, dtype=wanted, device=device)
        half_step = 2.0**-54 if wanted == float64 else 2.0**-25
        centered = elementwise.subtract(elementwise.multiply(elementwise.add(unit, half_step), 2.0), 1.0)
        result = elementwise.multiply(elementwise.erfinv(centered), math.sqrt(2.0) * std)
        return elementwise.add(result, mean) if mean else result

    def integers(self, low: int, high: int, shape: Shape = (), device: str | None = None) -> Tensor:
        """Integers in ``[low, high)``, int64; the bias is below ``(high - low) / 2**32``."""
        if not 0 < high - low <= 1 << 32:
            raise at_user_line(ValueError(f"integers: expected low < high, at most 2**32 apart, got {low} and {high}"))
        extents = (shape,) if isinstance(shape, int) else tuple(shape)
        bits = elementwise.astype(self.bits(math.prod(extents), device), uint64)
        scaled = _shifted(elementwise.multiply(bits, high - low), 32)
        return manipulation.reshape(elementwise.add(elementwise.astype(scaled, int64), low), extents)

    def permutation(self, count: int) -> Tensor:
        """The numbers below ``count`` in random order.  Needs the values: not inside a jitted function."""
        keys = elementwise.astype(self.bits(2 * count), uint64)._concrete("permutation()").reshape(count, 2)
        order = np.argsort(keys[:, 0] << np.uint64(32) | keys[:, 1], kind="stable")
        return new_tensor(dispatch.constant_payload(order.astype(int64)))


def _counter(number: int) -> Tensor:
    return new_tensor(dispatch.constant_payload(np.asarray(number % (1 << 64), uint64)))


def _shifted(x: Tensor, count: int) -> Tensor:
    shift = new_tensor(dispatch.constant_payload(np.asarray(count, x.dtype)))
    return apply(primitives.shift_right_logical, (x, shift), {})


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Restart the default generator with a seed."""
    return default_generator.manual_seed(seed)


def rand(
    *shape: int,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Uniform numbers in ``[0, 1)``.

    >>> import tracejit as tj
    >>> tj.random.rand(2, 3).shape
    (2, 3)
    """
    result = (generator or default_generator).uniform(_flat(shape), dtype=dtype, device=device)
    return result.requires_grad_() if requires_grad else result


def randn(
    *shape: int,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Normal numbers of mean 0 and standard deviation 1."""
    result = (generator or default_generator).normal(_flat(shape), dtype=dtype, device=device)
    return result.requires_grad_() if requires_grad else result


def randint(
    low: int, high: int, shape: Shape = (), generator: Generator | None = None, device: str | None = None
) -> Tensor:
    """Integers in ``[low, high)``."""
    return (generator or default_generator).integers(low, high, shape, device)


def randperm(count: int, generator: Generator | None = None, device: str | None = None) -> Tensor:
    """The numbers below ``count`` in random order."""
    order = (generator or default_generator).permutation(count)
    return order if device is None else put(order, device)


def bernoulli(
    probability: float, shape: Shape, generator: Generator | None = None, device: str | None = None
) -> Tensor:
    """True with the given probability."""
    return elementwise.less((generator or default_generator).uniform(shape, device=device), probability)


def _flat(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else tuple(shape)


__all__ = [
    "Generator", "bernoulli", "default_generator", "manual_seed", "rand", "randint", "randn", "randperm",
]  # fmt: skip
