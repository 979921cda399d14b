"""Devices: ``"cpu"``, and ``"cuda"`` where there is one."""

from __future__ import annotations

from .locations import at_user_line


def check(device: str) -> None:
    """Raise unless tensors can live on ``device``: ``ValueError`` for an unknown one, ``RuntimeError`` for one
    that is missing here, saying what is missing."""
    kind = device.split(":")[0]
    if kind == "cpu":
        return
    if kind != "cuda":
        raise at_user_line(ValueError(f"unknown device {device!r}: expected 'cpu' or 'cuda'"))
    raise at_user_line(RuntimeError(f"device {device!r} is not available: {why_no_cuda()}"))


def why_no_cuda() -> str:
    """What stands between this process and a GPU, and what to do about it."""
    from importlib.util import find_spec

    if find_spec("cupy") is None:
        return "CuPy is not installed; pip install 'tracejit[cuda]'"
    from tracejit.backends.cuda import driver

    missing = driver.why_unavailable()
    return missing or "this version of tracejit prints and compiles CUDA kernels, but does not run them yet"
