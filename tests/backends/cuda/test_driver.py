"""What is said where there is no GPU to use."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from tracejit.backends.cuda import driver


def cupy_with(device_count: object) -> ModuleType:
    module = ModuleType("cupy")
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=device_count))  # type: ignore[attr-defined]
    return module


def insufficient_driver() -> int:
    raise RuntimeError("cudaErrorInsufficientDriver")


@pytest.mark.parametrize(
    ("cupy", "expected"),
    [
        (None, "CuPy is not installed; pip install 'tracejit[cuda]'"),
        (
            cupy_with(insufficient_driver),
            "CuPy finds no usable NVIDIA driver (cudaErrorInsufficientDriver); install or update it",
        ),
        (cupy_with(lambda: 0), "there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it"),
        (cupy_with(lambda: 1), ""),
    ],
)
def test_why_unavailable(cupy: ModuleType | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert driver.why_unavailable() == expected
