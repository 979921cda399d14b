"""The array API standard: what the namespace tells about itself, dtypes, DLPack, errors."""

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits

# The namespace ------------------------------------------------------------------------------------------


def test_the_namespace_tells_about_itself() -> None:
    x = tj.tensor([1.0])
    assert x.__array_namespace__() is tj
    assert x.__array_namespace__(api_version="2025.12") is tj
    info = tj.__array_namespace_info__()
    assert info.default_dtypes()["real floating"] == tj.float32
    assert set(info.dtypes(kind="complex floating")) == {"complex64", "complex128"}
    assert x.to_device("cpu") is x
    assert all(hasattr(tj, name) for name in tj.__all__)
    assert tj.__all__ == sorted(tj.__all__)


def test_questions_about_dtypes() -> None:
    assert tj.result_type(tj.int32, tj.float32, 1j) == tj.complex64
    assert tj.result_type(tj.tensor([1], dtype=tj.uint8), 3) == tj.uint8
    assert (tj.ones(1, dtype="float64") * 1j).dtype == tj.complex128 == tj.result_type(tj.float64, 1j)
    assert (tj.ones(1) * 1j).dtype == (tj.tensor([1]) * 1j).dtype == tj.complex64
    assert tj.can_cast(tj.int8, tj.int16)
    assert not tj.can_cast(tj.float64, tj.float32)
    assert tj.isdtype(tj.bfloat16, ("bool", "real floating"))
    assert tj.finfo(tj.bfloat16).eps == 2**-7
    assert tj.iinfo(tj.uint8).max == 255
    with pytest.raises(ValueError, match="integer dtype"):
        tj.iinfo(tj.float32)


def test_shapes_without_values() -> None:
    assert tj.broadcast_shapes((3, 1), (2, 1, 4)) == (2, 3, 4)
    assert tj.broadcast_shapes() == ()
    with pytest.raises(ValueError, match="do not broadcast"):
        tj.broadcast_shapes((2,), (3,))
    x = tj.empty_like(tj.ones(2, 3), dtype=tj.int8)
    assert (x.shape, x.dtype) == ((2, 3), tj.int8)


def test_a_stored_number_is_rounded_once() -> None:
    x = tj.zeros(2, dtype=tj.float64)
    x[0] = 0.1
    x[x == 0] = 16777217
    assert x.tolist() == [0.1, 16777217.0]


def test_a_scalar_mask_selects_all_or_nothing() -> None:
    x = tj.tensor(3.0)
    assert x[tj.tensor(True)].tolist() == [3.0]
    assert x[tj.tensor(False)].tolist() == []
    x[tj.tensor(True)] = 5.0
    assert x.item() == 5.0


def test_values_travel_through_dlpack() -> None:
    x = tj.tensor([[1.0, 2.0]])
    exported = np.from_dlpack(x)
    assert not exported.flags.writeable
    assert same_bits(exported, np.asarray(x))
    source = np.array([1.0, 2.0])
    y = tj.from_dlpack(source)
    source[0] = 5
    assert y.tolist() == [1.0, 2.0]


class Legacy:
    """An array of a library from before DLPack had versions."""

    def __init__(self, x: tj.Tensor) -> None:
        self.x = x

    def __dlpack__(self) -> Any:
        return self.x.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


@pytest.mark.parametrize("through", [lambda x: x.T.T, Legacy], ids=["versioned", "legacy"])
@pytest.mark.parametrize("dtype", [tj.bfloat16, tj.float16, tj.bool, tj.complex64], ids=str)
def test_dlpack_keeps_the_dtype(through: Callable[[tj.Tensor], Any], dtype: np.dtype) -> None:
    class Foreign:  # no Tensor
        def __init__(self, x: Any) -> None:
            self.__dlpack__, self.__dlpack_device__ = x.__dlpack__, x.__dlpack_device__

    x = tj.tensor([[1.5, -2.0], [0.0, float("inf")]]).astype(dtype)
    for copy in (None, False):
        y = tj.from_dlpack(Foreign(through(x)), copy=copy)
        assert (y.dtype, same_bits(np.asarray(y), np.asarray(x))) == (dtype, True)


def test_tensors_that_require_gradients_are_not_exported() -> None:
    with pytest.raises(BufferError, match=r"use tensor.detach\(\)"):
        np.from_dlpack(tj.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match="expected an array that has __dlpack__, got list"):
        tj.from_dlpack([1.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.tensor([2]) ** -1, ValueError, "negative integer powers"),
        (lambda: tj.linalg.inv(tj.ones(2, 3)), ValueError, r"square matrices, got shape \(2, 3\)"),
        (lambda: tj.linalg.inv(tj.zeros(2, 2)), np.linalg.LinAlgError, "Singular"),
        (lambda: tj.imag(tj.ones(2)), TypeError, "expected a complex tensor, got float32"),
        (lambda: tj.astype(tj.tensor([1j]), tj.float32), TypeError, "real"),
        (lambda: tj.einsum("ij,j->i", tj.ones(2, 3)), ValueError, "names 2 operands, got 1"),
        (lambda: tj.cumulative_sum(tj.ones(2, 2)), ValueError, "axis is needed"),
        (lambda: tj.asarray([1], copy=False), ValueError, "without a copy"),
        (lambda: tj.fft.fft(tj.ones(2), norm="no"), ValueError, "norm must be"),
        (lambda: tj.split(tj.ones(5), 2), ValueError, "not divided"),
        (lambda: tj.quantile(tj.ones(5), 2), ValueError, "between 0 and 1"),
    ],
)
def test_errors_name_what_is_wrong(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_array_api.py" in str(caught.value), "the user's line is named"


def test_buffers_keep_their_dtype() -> None:
    x = tj.asarray(array.array("d", [1, 2]))
    assert (x.dtype, x.tolist()) == (tj.float64, [1.0, 2.0])
    assert tj.asarray(memoryview(b"ab")).dtype == tj.uint8
