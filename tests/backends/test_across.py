"""Large results whose operands lie across their rows are written past the caches, and are right wherever they begin."""

import numpy as np
import pytest

import tracejit as tj


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("float32", (4096 + 32, 1030)), ("float64", (1031, 2048)), ("uint8", (5003, 3392)), ("float32", (2, 2048, 1100))],
    ids=str,
)
def test_large_transposes(dtype: str, shape: tuple[int, ...]) -> None:
    """The rows of the results are aligned alike, but for those of the second shape."""
    x = (np.arange(np.prod(shape)) % 241).reshape(shape).astype(dtype)
    for expression in (lambda x: x.mT + 3, lambda x: x.mT[..., 5:, 64:] * 3 + 1):
        found = tj.jit(expression)(tj.asarray(x)).numpy()
        assert np.array_equal(found, expression(x))
