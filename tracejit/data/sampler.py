"""Samplers: in which order the samples of a dataset come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from tracejit.ir.types import float64

from ..locations import at_user_line
from ..random import Generator, default_generator

Item = TypeVar("Item", covariant=True)


class Sampler(Generic[Item]):
    """The base of samplers: define ``__iter__``, which yields indices, and ``__len__``."""

    def __iter__(self) -> Iterator[Item]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler[int]):
    """The indices in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """The indices in random order, a new one at each iteration; or ``num_samples`` draws with ``replacement``.

    >>> import tracejit as tj
    >>> sampler = RandomSampler(range(4), generator=tj.random.Generator(0))
    >>> sorted(sampler) == [0, 1, 2, 3]
    True
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise at_user_line(TypeError(f"replacement should be a boolean value, but got replacement={replacement}"))
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples <= 0):
            message = f"num_samples should be a positive integer value, but got num_samples={num_samples}"
            raise at_user_line(ValueError(message))
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples

    def __iter__(self) -> Iterator[int]:
        generator = self.generator or default_generator
        count = len(self.data_source)
        if self.replacement:
            yield from generator.integers(0, count, len(self)).tolist()
            return
        left = len(self)
        while left > 0:
            yield from generator.permutation(count).tolist()[:left]
            left -= count

    def __len__(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order.

    >>> sorted(SubsetRandomSampler([3, 5, 8]))
    [3, 5, 8]
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        for place in (self.generator or default_generator).permutation(len(self.indices)).tolist():
            yield self.indices[place]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """``num_samples`` indices drawn with the given weights, which need not sum to 1; by default with ``replacement``.

    >>> list(WeightedRandomSampler([0.0, 1.0, 0.0], 3))
    [1, 1, 1]
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
            message = f"num_samples should be a positive integer value, but got num_samples={num_samples}"
            raise at_user_line(ValueError(message))
        if not isinstance(replacement, bool):
            raise at_user_line(ValueError(f"replacement should be a boolean value, but got replacement={replacement}"))
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1:
            message = f"weights should be a 1d sequence but given weights have shape {self.weights.shape}"
            raise at_user_line(ValueError(message))
        if not np.isfinite(self.weights).all() or (self.weights < 0).any() or not self.weights.any():
            raise at_user_line(ValueError("weights should be finite and not negative, and not all zero"))
        if not replacement and np.count_nonzero(self.weights) < num_samples:
            message = f"cannot draw {num_samples} samples without replacement: too few weights are above zero"
            raise at_user_line(ValueError(message))
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def __iter__(self) -> Iterator[int]:
        generator = self.generator or default_generator
        if self.replacement:
            ends = np.cumsum(self.weights)
            drawn = generator.uniform((self.num_samples,), 0.0, 1.0, float64).numpy() * ends[-1]
            return iter(np.minimum(np.searchsorted(ends, drawn, side="right"), self._last()).tolist())
        # The largest keys u ** (1 / w) are a sample without replacement (Efraimidis and Spirakis, 2006).
        unit = generator.uniform((len(self.weights),), 0.0, 1.0, float64).numpy()
        with np.errstate(divide="ignore"):
            keys = np.log(unit) / self.weights
        keys[self.weights == 0] = -np.inf
        return iter(np.argsort(-keys, kind="stable")[: self.num_samples].tolist())

    def _last(self) -> int:
        """The last index that may be drawn."""
        return int(np.flatnonzero(self.weights)[-1])

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[Any]]):
    """The indices of another sampler in lists of ``batch_size``; the last may be shorter, or is dropped.

    >>> list(BatchSampler(SequentialSampler(range(5)), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            message = f"batch_size should be a positive integer value, but got batch_size={batch_size}"
            raise at_user_line(ValueError(message))
        if not isinstance(drop_last, bool):
            raise at_user_line(ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}"))
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[Any]]:
        batch: list[Any] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


__all__ = [
    "BatchSampler", "RandomSampler", "Sampler", "SequentialSampler", "SubsetRandomSampler", "WeightedRandomSampler",
]  # fmt: skip
