"""Numbers and positions in regular order: logarithmic scales, triangles' indices, powers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dispatch
from ..locations import at_user_line
from ..promotion import DEFAULT_FLOAT, as_tensor
from ..tensor import Tensor, new_tensor
from . import creation, elementwise, manipulation
from .cumulative import cumulative_prod
from .indexing import _checked_positions


def _constant(array: np.ndarray) -> Tensor:
    return new_tensor(dispatch.constant_payload(np.ascontiguousarray(array)))


def logspace(
    start: float, stop: float, num: int = 50, endpoint: bool = True, base: float = 10.0, dtype: Any = None
) -> Tensor:
    """``num`` numbers from ``base**start`` to ``base**stop``, evenly spaced on a logarithmic scale."""
    return _constant(np.logspace(start, stop, num, endpoint, base).astype(creation._dtype(dtype or DEFAULT_FLOAT)))


def geomspace(start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: Any = None) -> Tensor:
    """``num`` numbers from ``start`` to ``stop``, each the same multiple of the one before it.

    >>> import tracejit as tj
    >>> tj.geomspace(1, 1000, 4)
    tensor([   1.,   10.,  100., 1000.])
    """
    try:
        return _constant(np.geomspace(start, stop, num, endpoint).astype(creation._dtype(dtype or DEFAULT_FLOAT)))
    except ValueError as error:
        raise at_user_line(ValueError(f"geomspace: {error}")) from None


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, Tensor]:
    """The rows and columns of the elements of an n × m matrix up to the ``k``-th diagonal.

    >>> import tracejit as tj
    >>> tj.tril_indices(2)
    (tensor([0, 1, 1]), tensor([0, 0, 1]))
    """
    rows, columns = np.tril_indices(n, k, m)
    return _constant(rows), _constant(columns)


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, Tensor]:
    """The rows and columns of the elements of an n × m matrix from the ``k``-th diagonal on."""
    rows, columns = np.triu_indices(n, k, m)
    return _constant(rows), _constant(columns)


def unravel_index(indices: Any, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """The positions along each axis of ``shape`` of what stands at ``indices`` in row-major order.

    >>> import tracejit as tj
    >>> tj.unravel_index(tj.tensor(5), (2, 3))
    (tensor(1), tensor(2))
    """
    extents = creation._shape(shape)
    rest = _checked_positions(as_tensor(indices, "unravel_index"), math.prod(extents), 0)
    positions = []
    for extent in reversed(extents):
        from .arithmetic import floor_divide, remainder

        positions.append(remainder(rest, extent))
        rest = floor_divide(rest, extent)
    return tuple(reversed(positions))


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of each element of a vector as a row: ``N`` of them (as many as there are), the highest first.

    >>> import tracejit as tj
    >>> tj.vander(tj.tensor([2, 3]), 3)
    tensor([[4, 2, 1],
            [9, 3, 1]])
    """
    tensor = as_tensor(x, "vander")
    if tensor.ndim != 1:
        raise at_user_line(ValueError(f"vander: needs a vector, got shape {tensor.shape}"))
    count = tensor.size if N is None else N
    ones = creation.ones((tensor.size, 1), dtype=tensor.dtype)
    column = manipulation.reshape(tensor, (tensor.size, 1))
    factors = manipulation.broadcast_to(column, (tensor.size, max(count - 1, 0)))
    powers = manipulation.concat([ones, cumulative_prod(factors, 1, dtype=tensor.dtype)], 1)[:, :count]
    return elementwise.positive(powers) if increasing else manipulation.flip(powers, 1)
