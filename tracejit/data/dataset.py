"""Datasets: samples by index, or one after the other."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

from ..locations import at_user_line
from ..random import Generator, default_generator
from ..tensor import Tensor

Sample = TypeVar("Sample", covariant=True)


class Dataset(Generic[Sample]):
    """Samples by index: define ``__getitem__``, and ``__len__`` for all but infinite ones.

    A ``__getitems__`` that takes a list of indices and returns a list of samples is called for whole batches.
    """

    def __getitem__(self, index: Any) -> Sample:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Sample]):
    """Samples one after the other: define ``__iter__``, and ``__len__`` if the number is known.

    With several workers each of them iterates over the whole dataset, unless ``__iter__`` looks at
    :func:`get_worker_info` and yields a part.
    """

    def __iter__(self) -> Iterator[Sample]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __add__(self, other: Dataset[Any]) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])  # type: ignore[list-item]


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples that are slices of tensors along their first axis.

    >>> import tracejit as tj
    >>> dataset = TensorDataset(tj.tensor([[1.0], [2.0]]), tj.tensor([0, 1]))
    >>> dataset[1]
    (tensor([2.]), tensor(1))
    """

    def __init__(self, *tensors: Tensor) -> None:
        if any(len(tensor) != len(tensors[0]) for tensor in tensors):
            raise at_user_line(AssertionError("Size mismatch between tensors"))
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[Sample]):
    """The samples of a dataset at some indices."""

    def __init__(self, dataset: Dataset[Sample], indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Sample:
        if isinstance(index, list):
            return self.dataset[[self.indices[item] for item in index]]
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[Any]):
    """Datasets one after the other; ``first + second`` makes one.

    >>> import tracejit as tj
    >>> len(TensorDataset(tj.zeros(2)) + TensorDataset(tj.ones(3)))
    5
    """

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise at_user_line(AssertionError("datasets should not be an empty iterable"))
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise at_user_line(AssertionError("ConcatDataset does not support IterableDataset"))
        self.cumulative_sizes = list(accumulate(len(dataset) for dataset in self.datasets))  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Any:
        if not -len(self) <= index < len(self):
            raise at_user_line(ValueError("absolute value of index should not exceed dataset length"))
        position = index % len(self)
        number = bisect_right(self.cumulative_sizes, position)
        return self.datasets[number][position - (self.cumulative_sizes[number - 1] if number else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class StackDataset(Dataset[Any]):
    """Datasets side by side: a sample is a tuple of theirs, or a dict of those that are given by name.

    >>> import tracejit as tj
    >>> StackDataset(image=tj.arange(3), label=[5, 6, 7])[1]
    {'image': tensor(1), 'label': 6}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            message = "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like input/output"
            raise at_user_line(ValueError(message))
        self.datasets: Any = kwargs or args
        if len({len(dataset) for dataset in self._parts()}) > 1:
            raise at_user_line(ValueError("Size mismatch between datasets"))

    def _parts(self) -> Sequence[Any]:
        return list(self.datasets.values()) if isinstance(self.datasets, dict) else self.datasets

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return len(self._parts()[0])


class ChainDataset(IterableDataset[Any]):
    """Iterable datasets one after the other; ``first + second`` makes one."""

    def __init__(self, datasets: Iterable[IterableDataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not all(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise at_user_line(AssertionError("ChainDataset only supports IterableDataset"))

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            yield from dataset

    def __len__(self) -> int:
        datasets: list[Any] = self.datasets
        return sum(len(dataset) for dataset in datasets)


def random_split(
    dataset: Dataset[Sample], lengths: Sequence[float], generator: Generator | None = None
) -> list[Subset[Sample]]:
    """Parts of the given lengths, of samples chosen at random; or of the given fractions, which sum to 1.

    What fractions leave over, rounded down, goes to the first parts, one each.

    >>> import tracejit as tj
    >>> dataset = TensorDataset(tj.arange(10))
    >>> [len(part) for part in random_split(dataset, [0.75, 0.25], tj.random.Generator(0))]
    [8, 2]
    """
    total = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        if any(not 0 <= fraction <= 1 for fraction in lengths):
            raise at_user_line(ValueError("Fractions must be between 0 and 1"))
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for number in range(total - sum(sizes)):
            sizes[number % len(sizes)] += 1
    else:
        sizes = [int(length) for length in lengths]
    if sum(sizes) != total:
        raise at_user_line(ValueError("Sum of input lengths does not equal the length of the input dataset!"))
    order = (generator or default_generator).permutation(total).tolist()
    ends = list(accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


__all__ = [
    "ChainDataset", "ConcatDataset", "Dataset", "IterableDataset", "StackDataset", "Subset", "TensorDataset",
    "random_split",
]  # fmt: skip
