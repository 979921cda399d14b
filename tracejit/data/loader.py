"""DataLoader: batches of a dataset, shuffled, collated and fetched ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any

from ..locations import at_user_line
from ..random import Generator, default_generator
from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset, TensorDataset
from .sampler import BatchSampler, RandomSampler, SequentialSampler
from .workers import WorkerIterator


class DataLoader:
    """The batches of a dataset; each iteration is an epoch.

    ``shuffle`` draws a new order for each epoch from ``generator`` (or the default one); a ``sampler`` or a
    ``batch_sampler`` gives the order itself.  ``collate_fn`` makes a batch of a list of samples.  The last batch is
    shorter where the samples do not divide, unless ``drop_last``: a jitted function compiles once more for it.
    With ``batch_size=None`` samples come one by one.

    ``num_workers`` threads fetch ``prefetch_factor`` batches each ahead, in the same order as none would; NumPy,
    image libraries and files release the interpreter's lock.  The generator gives one more number an epoch, the seed
    of the workers, however many there are.  Workers end with the iteration, with an error, or when the iterator is let
    go of.  ``persistent_workers``, ``pin_memory``, ``multiprocessing_context`` and the like are accepted for
    compatibility and change nothing.

    >>> import tracejit as tj
    >>> dataset = TensorDataset(tj.arange(6), tj.arange(6) % 2)
    >>> loader = DataLoader(
    ...     dataset, batch_size=4, shuffle=True, generator=tj.random.Generator(0)
    ... )
    >>> [x.shape for x, y in loader]
    [(4,), (2,)]
    >>> len(loader)
    2
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self._check(
            dataset, batch_size, shuffle, sampler, batch_sampler, num_workers, drop_last, timeout, prefetch_factor,
            persistent_workers,
        )  # fmt: skip
        self.dataset, self.num_workers, self.timeout = dataset, num_workers, timeout
        self.pin_memory, self.persistent_workers, self.worker_init_fn = pin_memory, persistent_workers, worker_init_fn
        self.prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        self.generator = generator
        self.batch_size = None if batch_sampler is not None else batch_size
        self.drop_last = drop_last
        self._iterable = isinstance(dataset, IterableDataset)
        if sampler is None and not self._iterable and batch_sampler is None:
            sized: Any = dataset
            sampler = RandomSampler(sized, generator=generator) if shuffle else SequentialSampler(sized)
        self.sampler = sampler
        if self.batch_size is not None and sampler is not None:
            batch_sampler = BatchSampler(sampler, self.batch_size, drop_last)
        self.batch_sampler = batch_sampler
        batches = self.batch_size is not None or batch_sampler is not None
        self._batches = batches
        self.collate_fn = collate_fn or (default_collate if batches else default_convert)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            message = f"{name} attribute should not be set after {type(self).__name__} is initialized"
            raise at_user_line(ValueError(message))
        super().__setattr__(name, value)

    @staticmethod
    def _check(
        dataset: Any,
        batch_size: int | None,
        shuffle: bool | None,
        sampler: Any,
        batch_sampler: Any,
        num_workers: int,
        drop_last: bool,
        timeout: float,
        prefetch_factor: int | None,
        persistent_workers: bool,
    ) -> None:
        problem = ""
        if num_workers < 0:
            problem = "num_workers option should be non-negative; use num_workers=0 to disable multiprocessing."
        elif timeout < 0:
            problem = "timeout option should be non-negative"
        elif num_workers == 0 and prefetch_factor is not None:
            problem = (
                "prefetch_factor option could only be specified in multiprocessing.let num_workers > 0 to enable "
                "multiprocessing, otherwise set prefetch_factor to None."
            )
        elif prefetch_factor is not None and prefetch_factor < 1:
            problem = "prefetch_factor option should be positive"
        elif persistent_workers and num_workers == 0:
            problem = "persistent_workers option needs num_workers > 0"
        elif isinstance(dataset, IterableDataset) and shuffle:
            problem = f"DataLoader with IterableDataset: expected unspecified shuffle option, but got {shuffle=}"
        elif isinstance(dataset, IterableDataset) and (sampler is not None or batch_sampler is not None):
            name = "sampler" if sampler is not None else "batch_sampler"
            problem = f"DataLoader with IterableDataset: expected unspecified {name} option"
        elif sampler is not None and shuffle:
            problem = "sampler option is mutually exclusive with shuffle"
        elif batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            problem = "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
        elif batch_size is None and drop_last:
            problem = "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"
        elif batch_sampler is None and batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
            problem = f"batch_size should be a positive integer value, but got batch_size={batch_size}"
        if problem:
            raise at_user_line(ValueError(problem))

    def __len__(self) -> int:
        """The number of batches."""
        if self._iterable:
            count = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return count
            return count // self.batch_size if self.drop_last else -(-count // self.batch_size)
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        order: Any = self.batch_sampler if self.batch_sampler is not None else self.sampler
        tasks: Iterator[Any] = repeat(None) if self._iterable else iter(order)
        seed = (self.generator or default_generator).integers(0, 1 << 32).item()
        if self.num_workers == 0:
            return self._in_turn(tasks)
        return WorkerIterator(
            tasks, self._fetcher, self.dataset, self.num_workers, self.prefetch_factor, seed, self.worker_init_fn,
            self.timeout,
        )  # fmt: skip

    def _in_turn(self, tasks: Iterator[Any]) -> Iterator[Any]:
        fetch = self._fetcher()
        for task in tasks:
            try:
                batch = fetch(task)
            except StopIteration:
                return
            yield batch

    def _fetcher(self) -> Callable[[Any], Any]:
        """The function from a task (the indices of a batch, an index, or nothing) to a batch."""
        dataset, collate = self.dataset, self.collate_fn
        if self._iterable:
            return self._stream_fetcher()
        if not self._batches:
            return lambda index: collate(dataset[index])
        if isinstance(dataset, TensorDataset) and collate is default_collate:  # the same, at once
            return lambda indices: list(dataset[list(indices)])
        many = getattr(dataset, "__getitems__", None)
        if many is not None:
            return lambda indices: collate(many(list(indices)))
        return lambda indices: collate([dataset[index] for index in indices])

    def _stream_fetcher(self) -> Callable[[Any], Any]:
        samples: Iterator[Any] = iter(self.dataset)
        size, collate = self.batch_size, self.collate_fn

        def fetch(task: Any) -> Any:
            if size is None:
                return collate(next(samples))
            batch = list(islice(samples, size))
            if not batch or (self.drop_last and len(batch) < size):
                raise StopIteration
            return collate(batch)

        return fetch


_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")

__all__ = ["DataLoader"]
