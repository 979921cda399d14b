"""Every function of the namespace stands in a table, or is tested where it is at home."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import tracejit as tj
import tracejit.nn.functional as F
from tracejit.nn.functional import activation

from . import test_creation
from .rows import ROWS

TABLES = {
    *(row.name for row in ROWS),
    *(name for name, *_ in test_creation.CREATION),
    *(name for name, *_ in test_creation.RANDOM),
}
# Functions of operations that no table can hold, as they give no tensor or draw random numbers.
APART = {
    "__array_namespace_info__", "broadcast_shapes", "can_cast", "finfo", "from_dlpack", "iinfo", "isdtype",
        "result_type",
    "fft.fftfreq", "fft.rfftfreq", "F.gumbel_softmax", "F.rrelu",
}  # fmt: skip
TEXT = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))


def functions(module: Any, prefix: str = "") -> dict[str, Any]:
    """The functions that a module exports."""
    exported = {name: getattr(module, name) for name in module.__all__}
    return {prefix + name: item for name, item in exported.items() if isinstance(item, types.FunctionType)}


PUBLIC = {
    **functions(tj),
    **functions(tj.linalg, "linalg."),
    **functions(tj.fft, "fft."),
    **{name: item for name, item in functions(F, "F.").items() if item.__module__ == activation.__name__},
}


def test_every_operation_has_a_row() -> None:
    homes = ("tracejit.ops.", "tracejit.nn.functional.")
    operations = {name for name, item in PUBLIC.items() if item.__module__.startswith(homes)}
    assert operations - TABLES - APART == set(), "these have no row"
    assert set(PUBLIC) >= APART - TABLES


def test_every_other_function_is_named_in_a_test() -> None:
    named = set(re.findall(r"\b(?:tj|fft|functional)\.(\w+)", TEXT))
    others = {name for name in PUBLIC if name not in TABLES and name.split(".")[-1] not in named}
    assert {name for name in others if ">>> " not in (PUBLIC[name].__doc__ or "")} == set()


def test_a_function_that_two_modules_export_is_the_same() -> None:
    for name in functions(tj.linalg).keys() & functions(tj).keys() - {"norm"}:  # torch.norm's p is of all elements
        assert getattr(tj, name) is getattr(tj.linalg, name)


def test_tables_have_edge_cases() -> None:
    """Nearly every function of tensors is tested on none at all, on one without axes, or on both."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for row in ROWS:
        shapes.setdefault(row.name, set()).update(shape for way in row.shapes for shape in way)
    plain = {name for name, found in shapes.items() if not any(shape == () or 0 in shape for shape in found)}
    assert len(plain) < len(shapes) / 3, sorted(plain)
