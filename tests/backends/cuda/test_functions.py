"""What CuPy computes is what the primitives' own evaluation gives: the table's formulas, with NumPy in CuPy's place."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.devices import DEVICE
from tracejit.backends.cuda.functions import FUNCTIONS, LINEAR
from tracejit.backends.devices import Device
from tracejit.ir.primitive import PRIMITIVES

CUPY: Any = SimpleNamespace(**{name: getattr(np, name) for name in np.__all__})
CUPY.argsort = lambda x, axis: np.argsort(x, axis=axis, kind="stable")  # as CuPy's is
CUPY.sort = lambda x, axis: np.sort(x, axis=axis, kind="stable")

NUMBERS = np.array([[3, np.nan, -0.0, 1], [0.0, 3, 3, -np.inf], [2, 2, -0.0, 0.0]], np.float32)
MATRICES = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
POSITIVE = MATRICES @ MATRICES.swapaxes(-1, -2) + np.eye(3, dtype=np.float32)
ROWS: dict[str, list[tuple[tuple[np.ndarray, ...], dict[str, Any]]]] = {
    "argsort": [((NUMBERS,), {"axis": axis, "descending": down}) for axis in (0, 1) for down in (False, True)],
    "sort": [((NUMBERS,), {"axis": axis, "descending": down}) for axis in (0, 1) for down in (False, True)],
    "searchsorted": [((np.sort(NUMBERS[1]), NUMBERS), {"side": side}) for side in ("left", "right")],
    "nonzero": [((NUMBERS,), {"size": 9})],
    "cumulative_sum": [((NUMBERS[1:],), {"axis": 1}), ((np.arange(5, dtype=np.int8),), {"axis": 0})],
    "cumulative_product": [((NUMBERS[2:],), {"axis": 1})],
    "fourier": [((MATRICES,), {"kind": "rfft", "n": 5, "axis": 1})],
    "solve": [((MATRICES, POSITIVE), {})],
    "qr": [((MATRICES[:, :2],), {"complete": complete}) for complete in (False, True)],
    "svd": [((MATRICES[:, :2],), {"full": full}) for full in (False, True)],
} | {name: [((POSITIVE,), {})] for name in ("cholesky", "inverse", "log_determinant", "eigh")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(name: str) -> None:
    for arrays, attributes in ROWS[name]:
        found = FUNCTIONS[name](CUPY, *arrays, **attributes)
        expected = PRIMITIVES[name].evaluate(*arrays, **attributes)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert np.ascontiguousarray(found).tobytes() == expected.tobytes()


def test_linear_algebra_raises() -> None:
    for name in LINEAR & {"cholesky", "inverse", "solve"}:
        operands = (np.zeros((2, 2)), np.ones((2, 2)))[: 2 if name == "solve" else 1]
        with pytest.raises(np.linalg.LinAlgError):
            FUNCTIONS[name](CUPY, *operands)


@pytest.fixture
def asked_for(gpusim: Device, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions that the device has been asked for: it has all."""
    asked: list[str] = []

    def function(name: str) -> Callable[..., Any] | None:
        if name not in FUNCTIONS:
            return None
        asked.append(name)
        return lambda *arrays, **attributes: gpusim.upload(
            np.ascontiguousarray(FUNCTIONS[name](CUPY, *[gpusim.download(a) for a in arrays], **attributes))
        )

    monkeypatch.setattr(gpusim, "function", function)
    return asked


@pytest.mark.skipif(DEVICE != "gpusim", reason="the device's functions are replaced")
def test_programs_call_them(asked_for: list[str]) -> None:
    x = tj.tensor([[3.0, 1.0, 2.0], [0.5, 0.25, 4.0]], device=DEVICE)
    functions: list[Callable[[tj.Tensor], tj.Tensor]] = [
        lambda x: tj.argsort(x * 5, axis=1),
        lambda x: tj.sort(x[:, ::-1].mT, axis=1) + tj.linalg.inv(x[:, :2]).sum(),
        lambda x: x[x > 1] * 2,  # as many as there are
    ]
    for function in functions:
        expected = function(x.cpu()).tolist()
        for run in (function, tj.jit(function)):
            assert [run(x).tolist() for _ in range(2)] == [expected] * 2
    assert {"argsort", "sort", "inverse"} <= set(asked_for)
