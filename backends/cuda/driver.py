"""The driver's side: whether there is a GPU that CuPy can use."""

from __future__ import annotations


def why_unavailable() -> str:
    """What is missing for ``device="cuda"`` and what to do about it, empty where nothing is; never raises."""
    try:
        import cupy
    except ImportError as error:
        if error.name == "cupy":
            return "CuPy is not installed; pip install 'tracejit[cuda]'"
        return f"CuPy cannot be imported: {error}"
    except Exception as error:
        return f"CuPy cannot be imported: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy finds no usable NVIDIA driver ({error}); install or update it"
    return "" if count else "there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it"
