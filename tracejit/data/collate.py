"""Collating: a list of samples made one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import float64

from ..locations import at_user_line
from ..ops import creation, manipulation
from ..tensor import Tensor


def default_collate(batch: Sequence[Any]) -> Any:
    """Tensors, arrays and numbers stacked along a new first axis; dicts, tuples and lists of these likewise.

    Python floats become float64, tuples lists; strings stay a list.  Raises ``TypeError`` for other things,
    ``ValueError`` for tensors of different shapes.

    >>> default_collate([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
    {'x': tensor([1, 2]), 'name': ['a', 'b']}
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return manipulation.stack(batch)
    if isinstance(first, np.ndarray | np.generic) and first.dtype.kind not in "SUO":
        return manipulation.stack([creation.from_numpy(np.asarray(item)) for item in batch])
    if isinstance(first, float):
        return creation.tensor(list(batch), dtype=float64)
    if isinstance(first, int):
        return creation.tensor(list(batch))
    if isinstance(first, str | bytes):
        return list(batch)
    if isinstance(first, Mapping):
        return _like(first, {key: default_collate([item[key] for item in batch]) for key in first})
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise at_user_line(RuntimeError("each element in list of batch should be of equal size"))
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return _like(first, columns)
    message = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
    raise at_user_line(TypeError(f"{message}{type(first)}"))


def default_convert(data: Any) -> Any:
    """Arrays within dicts, tuples and lists made tensors; all else as it is: for samples that are not batched."""
    if isinstance(data, np.ndarray | np.generic) and data.dtype.kind not in "SUO":
        return creation.from_numpy(np.asarray(data))
    if isinstance(data, Mapping):
        return _like(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _like(data, [default_convert(item) for item in data])
    return data


def _like(sample: Any, content: Any) -> Any:
    """The content in a container of the sample's kind; a list in place of a tuple that has no names."""
    kind = type(sample)
    if isinstance(sample, tuple):
        return kind(*content) if hasattr(sample, "_fields") else content
    try:
        return kind(content)
    except TypeError:
        return content


__all__ = ["default_collate", "default_convert"]
