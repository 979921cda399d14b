"""What the tests of the CUDA backend share: ``--update-golden``."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files anew (pytest tests/backends/cuda)"
    )
