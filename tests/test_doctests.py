"""Every module of tracejit imports, and the examples in its docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def module_names() -> list[str]:
    """Every module of the three packages, found by its file: nothing is imported to make the list."""
    names = []
    for package, folder in (("tracejit", "tracejit"), ("tracejit.ir", "ir"), ("tracejit.backends", "backends")):
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            names.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return sorted(names)


@pytest.mark.parametrize("name", module_names())
def test_module(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples failed (shown above)"
