"""Imports run one way, tracejit → backends → ir, and the outside modules are few and loaded when needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"tracejit": ROOT / "tracejit", "tracejit.ir": ROOT / "ir", "tracejit.backends": ROOT / "backends"}
MAY_IMPORT = {
    "tracejit.ir": {"tracejit.ir"},
    "tracejit.backends": {"tracejit.ir", "tracejit.backends"},
    "tracejit": {"tracejit.ir", "tracejit.backends", "tracejit"},
}
OUTSIDE = {
    "tracejit.ir": {"numpy", "ml_dtypes"},
    "tracejit.backends": {"numpy", "ml_dtypes", "llvmlite", "cupy", "cupy_backends", "cupyx"},
    "tracejit": {"numpy", "ml_dtypes"},
}


class Import(NamedTuple):
    """One import statement: which module is named, and where."""

    target: str
    where: str


def layer(module: str) -> str:
    """The layer that a module of tracejit belongs to."""
    for name in ("tracejit.ir", "tracejit.backends"):
        if module == name or module.startswith(name + "."):
            return name
    return "tracejit"


def imports(source: str, package: str, file: str) -> Iterator[Import]:
    """Every import in the source of a module that stands in ``package``, at any depth, relative names made absolute."""
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                assert node.level <= len(parts), f"{file}:{node.lineno}: relative import from outside the package"
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            # `from tracejit import ir` names the module tracejit.ir; `from tracejit import Tensor` names tracejit.
            targets = [f"{base}.{alias.name}" if base == "tracejit" else base for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0].value
            if function not in {"import_module", "__import__"} or not isinstance(name, str):
                continue
            # A relative name here is resolved against the package given, which in tracejit is the module's own.
            dots = len(name) - len(name.lstrip("."))
            parts = package.split(".")
            targets = [".".join([*parts[: len(parts) - dots + 1], name[dots:]]) if dots else name]
        else:
            continue
        for target in targets:
            yield Import(target, f"{file}:{node.lineno}")


def modules() -> Iterator[tuple[str, str, str, str]]:
    """The layer, the package, the source and the file of every module in the repository."""
    for name, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            package = ".".join([name, *file.parent.relative_to(folder).parts])
            yield name, package, file.read_text(encoding="utf-8"), str(file.relative_to(ROOT))


@pytest.mark.parametrize(
    ("source", "package", "targets"),
    [
        ("import tracejit.ir.graph, numpy as np", "tracejit", ["tracejit.ir.graph", "numpy"]),
        ("from tracejit import ir, Tensor", "tracejit.backends", ["tracejit.ir", "tracejit.Tensor"]),
        ("from tracejit.ir import graph", "tracejit.backends", ["tracejit.ir"]),
        ("from . import graph", "tracejit.ir", ["tracejit.ir"]),
        ("from .. import graph", "tracejit.ir.passes", ["tracejit.ir"]),
        ("from .. import backends", "tracejit.ir", ["tracejit.backends"]),
        ("from ..tensor import Tensor", "tracejit.ir", ["tracejit.tensor"]),
        ("def f():\n  from ...tensor import Tensor", "tracejit.ir.passes", ["tracejit.tensor"]),
        ("import_module('tracejit.jit')", "tracejit.ir", ["tracejit.jit"]),
        ("importlib.import_module('.cpu', __package__)", "tracejit.backends", ["tracejit.backends.cpu"]),
        ("__import__('cupy')", "tracejit", ["cupy"]),
    ],
)
def test_the_reader_of_imports(source, package, targets):
    assert [found.target for found in imports(source, package, "example.py")] == targets


def test_imports_run_one_way():
    wrong = [
        f"{found.where}: {name} may not import {found.target}"
        for name, package, source, file in modules()
        for found in imports(source, package, file)
        if found.target.split(".")[0] == "tracejit" and layer(found.target) not in MAY_IMPORT[name]
    ]
    assert wrong == []


def test_outside_modules_are_few():
    own_or_standard = {"tracejit", *sys.stdlib_module_names}
    wrong = [
        f"{found.where}: {name} may not import {found.target}"
        for name, package, source, file in modules()
        for found in imports(source, package, file)
        if found.target.split(".")[0] not in own_or_standard | OUTSIDE[name]
    ]
    assert wrong == []


def test_importing_tracejit_loads_no_compiler():
    """llvmlite and CuPy wait for the first function that needs them."""
    script = "import sys, tracejit; print(*{'llvmlite', 'cupy'} & {name.split('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
