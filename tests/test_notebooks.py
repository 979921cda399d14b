"""The notebooks run from top to bottom."""

from __future__ import annotations

import json
import linecache
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, capsys):
    cells = json.loads(path.read_text())["cells"]
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        name = f"<{path.stem} cell {number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # as IPython does
        exec(compile(source, name, "exec"), namespace)
    assert capsys.readouterr().out
    assert all(cell.get("outputs", []) == [] for cell in cells), "clear the outputs before committing"


def test_there_are_notebooks():
    assert NOTEBOOKS
