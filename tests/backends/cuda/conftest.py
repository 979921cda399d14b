"""What the tests of the CUDA backend share: ``--update-golden``, and the folder that keeps compiled kernels."""

import time
from pathlib import Path

import pytest

WEEK = 7 * 24 * 3600


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files anew (pytest tests/backends/cuda)"
    )


@pytest.fixture(scope="session")
def shim_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels compiled for the CPU are kept, by content; those of a week ago go."""
    if pytestconfig.pluginmanager.has_plugin("cacheprovider"):
        folder = Path(pytestconfig.cache.mkdir("cuda-shim"))
    else:
        folder = tmp_path_factory.mktemp("cuda-shim")
    for old in folder.iterdir():
        if old.stat().st_mtime < time.time() - WEEK:
            old.unlink(missing_ok=True)
    return folder
