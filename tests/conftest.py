"""What holds for every test: a private cache folder, and that each graph which is printed parses back."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

WEEK = 7 * 24 * 3600
_folder = tempfile.TemporaryDirectory(prefix="tracejit-tests-")
os.environ.setdefault("TRACEJIT_CACHE_DIR", _folder.name)  # before anything asks for the folder


# The widest tables: one row in four runs by default, each with --all.
WIDE = (
    "transforms/test_nesting.py", "transforms/test_every_function.py", "transforms/test_control.py",
    "ir/test_reroll.py", "nn/test_compiled_layers.py", "backends/cuda/test_codegen.py", "backends/cuda/test_nvrtc.py",
    "ops/test_products.py", "ops/test_elementwise.py", "ops/test_reductions.py", "autograd/test_complex.py",
    "test_native.py", "devices/test_ops.py",
)  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run every row of the widest tables, not one in four")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all") or config.getoption("-k") or len(items) < 2000:
        return
    kept, left_out = [], []
    for number, item in enumerate(items):
        is_row = "[" in item.name and item.path.as_posix().endswith(WIDE)
        (left_out if is_row and number % 4 else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(autouse=True)
def _printed_graphs_parse_back(monkeypatch):
    """``parse(str(graph)) == graph``, for every graph that any test prints (but for those made wrong on purpose)."""
    from tracejit.ir.graph import Graph
    from tracejit.ir.parser import parse
    from tracejit.ir.printer import graph_constants, print_graph
    from tracejit.ir.verifier import VerificationError, verify

    def checked(graph: Graph) -> str:
        text = print_graph(graph)
        try:
            verify(graph)
        except VerificationError:
            return text
        assert parse(text, graph_constants(graph)) == graph
        return text

    monkeypatch.setattr(Graph, "__str__", checked)


@pytest.fixture
def first_code_only(monkeypatch):
    """Kernels stay as they are compiled at first: thousands that run once are not worth the background's time."""
    from tracejit.backends.cpu import compiler

    monkeypatch.setattr(compiler._compiler, "run_later", lambda work, first=False: None)


@pytest.fixture(scope="session")
def shim_folder(pytestconfig, tmp_path_factory):
    """Where kernels compiled for the CPU are kept, by content; those of a week ago go."""
    if pytestconfig.pluginmanager.has_plugin("cacheprovider"):
        folder = Path(pytestconfig.cache.mkdir("cuda-shim"))
    else:
        folder = tmp_path_factory.mktemp("cuda-shim")
    for old in folder.iterdir():
        if old.stat().st_mtime < time.time() - WEEK:
            old.unlink(missing_ok=True)
    return folder


@pytest.fixture
def gpusim(shim_folder, monkeypatch):
    """The device ``"gpusim"`` (or the one that ``TRACEJIT_TEST_DEVICE`` names), for this test alone."""
    from tracejit.backends import devices

    if (name := os.environ.get("TRACEJIT_TEST_DEVICE", "gpusim")) != "gpusim":
        yield devices.find(name)
        return
    from .backends.cuda.shim import device, shim

    if shim.why_unavailable():
        pytest.skip(shim.why_unavailable())
    monkeypatch.setattr(device.device, "folder", shim_folder)
    found = devices.find("gpusim")
    devices.in_use[0] = True
    yield found
    devices.in_use[0] = False
