"""Sequences of different lengths: padded to one, or packed without padding for the recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import dispatch
from ...locations import at_user_line
from ...ops import elementwise, indexing, manipulation
from ...promotion import as_tensor
from ...tensor import Tensor, new_tensor
from ..functional.padding import fill_of


class PackedSequence(NamedTuple):
    """The elements of sequences at time 0, then those at time 1, and so on, longest sequences first.

    ``batch_sizes`` says how many sequences each time has: ints, not a tensor, for they are shapes.  ``sorted_indices``
    is the order that the sequences were brought into, ``unsorted_indices`` the way back; ``None`` where they came
    sorted.  Made by :func:`pack_padded_sequence` and :func:`pack_sequence`.
    """

    data: Tensor
    batch_sizes: tuple[int, ...]
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *arguments: Any, **settings: Any) -> PackedSequence:
        """The same with other data: ``data.to(…)``."""
        return self._replace(data=self.data.to(*arguments, **settings))


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Leave out the padding of ``(T, N, …)``, or ``(N, T, …)`` with ``batch_first``.

    ``lengths`` are those of the ``N`` sequences (a tensor of them must be known: a jitted function is given ints).
    They must fall, unless ``enforce_sorted`` is false.

    >>> import tracejit as tj
    >>> x = tj.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    >>> packed = pack_padded_sequence(x, [2, 1, 3], batch_first=True, enforce_sorted=False)
    >>> packed.data, packed.batch_sizes
    (tensor([4, 1, 3, 5, 2, 6]), (3, 2, 1))
    """
    x = as_tensor(input, "pack_padded_sequence")
    if x.ndim < 2:
        raise at_user_line(RuntimeError(f"pack_padded_sequence: expected at least 2 axes, got shape {list(x.shape)}"))
    time, batch = (1, 0) if batch_first else (0, 1)
    counts = np.asarray(lengths.tolist() if isinstance(lengths, Tensor) else lengths, np.int64)
    _check_lengths(counts, x.shape[batch], x.shape[time])
    order: np.ndarray | None = None
    if not enforce_sorted:
        order = np.argsort(-counts, kind="stable")
        counts = counts[order]
    elif (np.diff(counts) > 0).any():
        message = (
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement."
        )
        raise at_user_line(RuntimeError(message))
    sizes = tuple(int((counts > t).sum()) for t in range(int(counts[0])))
    times = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.concatenate([np.arange(size) for size in sizes])
    rows = rows if order is None else order[rows]
    place = (_constant(rows), _constant(times)) if batch_first else (_constant(times), _constant(rows))
    data = indexing.get_item(x, place)
    if order is None:
        return PackedSequence(data, sizes)
    return PackedSequence(data, sizes, _constant(order), _constant(np.argsort(order)))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Undo :func:`pack_padded_sequence`: the padded sequences, ``(T, N, …)``, and their lengths, ``(N,)``.

    ``total_length``, at least that of the longest, is ``T``.

    >>> import tracejit as tj
    >>> x = tj.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    >>> packed = pack_padded_sequence(x, [2, 1, 3], batch_first=True, enforce_sorted=False)
    >>> pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    (tensor([[ 1,  2, -1],
            [ 3, -1, -1],
            [ 4,  5,  6]]), tensor([2, 1, 3]))
    """
    sizes = np.asarray(sequence.batch_sizes)
    longest = len(sizes)
    if total_length is not None and total_length < longest:
        message = (
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {longest}"
        )
        raise at_user_line(ValueError(message))
    count = int(sizes[0])
    wide = np.concatenate([sizes, np.zeros((total_length or longest) - longest, np.int64)])
    inside = np.arange(count) < wide[:, None]  # (T, N)
    place = np.where(inside, (np.cumsum(wide) - wide)[:, None] + np.arange(count), 0)
    lengths = inside.sum(0)
    if batch_first:
        inside, place = inside.T, place.T
    found = indexing.get_item(sequence.data, _constant(place))
    mask = _constant(inside.reshape(*inside.shape, *[1] * (found.ndim - 2)))
    padded = elementwise.where(mask, found, fill_of(found, padding_value))
    way_back = sequence.unsorted_indices
    if way_back is None:
        return padded, _constant(lengths)
    return indexing.take(padded, way_back, 0 if batch_first else 1), indexing.take(_constant(lengths), way_back, 0)


def pad_sequence(
    sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Tensors ``(T, …)`` of different ``T`` side by side: ``(longest T, N, …)``, or ``(N, longest T, …)``.

    >>> import tracejit as tj
    >>> pad_sequence([tj.tensor([1, 2]), tj.tensor([3])], batch_first=True)
    tensor([[1, 2],
            [3, 0]])
    """
    if padding_side not in ("right", "left"):
        message = "Expected padding_side to be one of left or right, but got "
        raise at_user_line(RuntimeError(f"{message}{padding_side}."))
    items = [as_tensor(item, "pad_sequence") for item in sequences]
    if not items:
        raise at_user_line(RuntimeError("received an empty list of sequences"))
    longest = max(item.shape[0] for item in items)
    rows: list[Tensor] = []
    for item in items:
        missing = longest - item.shape[0]
        ends = (missing, 0) if padding_side == "left" else (0, missing)
        rows.append(
            manipulation.pad(item, [ends, *[(0, 0)] * (item.ndim - 1)], constant_values=fill_of(item, padding_value))
        )
    return manipulation.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """Undo :func:`pad_sequence`: the first ``lengths[n]`` elements of each sequence."""
    x = as_tensor(padded_sequences, "unpad_sequence")
    counts = lengths.tolist() if isinstance(lengths, Tensor) else [int(length) for length in lengths]
    return [(x[n] if batch_first else x[:, n])[:length] for n, length in enumerate(counts)]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack tensors ``(T, …)`` of different ``T``, the longest first unless ``enforce_sorted`` is false.

    >>> import tracejit as tj
    >>> pack_sequence([tj.tensor([1, 2]), tj.tensor([3])]).data
    tensor([1, 3, 2])
    """
    lengths = [len(sequence) for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Undo :func:`pack_sequence`."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def _check_lengths(lengths: np.ndarray, count: int, times: int) -> None:
    problem = ""
    if lengths.shape != (count,):
        problem = f"Expected `len(lengths)` to be equal to batch_size, but got {lengths.size} (batch_size={count})"
    elif not count:
        problem = "Cannot pack empty tensors."
    elif lengths.min() <= 0:
        problem = "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
    elif lengths.max() > times:
        problem = f"Expected `lengths` of at most {times}, the extent of the sequences, but got {lengths.max()}"
    if problem:
        raise at_user_line(RuntimeError(problem))


def _constant(array: np.ndarray) -> Tensor:
    return new_tensor(dispatch.constant_payload(np.ascontiguousarray(array)))


__all__ = [
    "PackedSequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
    "unpack_sequence", "unpad_sequence",
]  # fmt: skip
