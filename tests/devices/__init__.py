"""Tests of devices: on the simulated GPU, or on the one that ``TRACEJIT_TEST_DEVICE`` names (``cuda``)."""

import os

import numpy as np

DEVICE = os.environ.get("TRACEJIT_TEST_DEVICE", "gpusim")
GPU = f"{DEVICE}:0"


def agree(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether results are the CPU's: its bits, but for the products of another library on a real GPU."""
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        return False
    if found.tobytes() == expected.tobytes() or np.array_equal(found, expected, equal_nan=True):
        return True
    if DEVICE == "gpusim" or found.dtype.kind not in "fc":
        return False
    scale = np.nanmax(np.abs(expected), initial=1e-30)
    tolerance = 1e-3 if found.dtype.itemsize <= 4 else 1e-9
    return bool(np.allclose(found, expected, rtol=tolerance, atol=tolerance * float(scale), equal_nan=True))
