"""Writes into slices that nothing holds warn, and nothing else does; eagerly, under jit, and in a notebook."""

from __future__ import annotations

import itertools
import linecache
import re
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

import tracejit as tj
from tracejit import nn

_numbers = itertools.count()

# (what is lost, what is advised)
LOST = [
    ("x[0].add_(1)", "Write `x[0] += 1`"),
    ("x[0].sub_(2)", "Write `x[0] -= 2`"),
    ("x[0].mul_(x[1])", "Write `x[0] *= x[1]`"),
    ("x[1:, 0].div_(2)", "Write `x[1:, 0] /= 2`"),
    ("x[0].zero_()", "Write `x[0] = 0`"),
    ("x[0].fill_(3)", "Write `x[0] = 3`"),
    ("x[0].copy_(x[1])", "Write `x[0] = x[1]`"),
    ("x[0].add_(1, alpha=2)", "Write `x[0] = x[0].add_(1, alpha=2)`"),
    ("x[0].clamp_(2, 2.5)", "Write `x[0] = x[0].clamp_(2, 2.5)`"),
    ("x[i, 1:].masked_fill_(x[0, 1:] > 0, 0)", "Write `x[i, 1:] = x[i, 1:].masked_fill_(x[0, 1:] > 0, 0)`"),
    ("x.data.uniform_(0, 0.1)", "Write `x.uniform_(0, 0.1)`, within tracejit.no_grad()"),
    ("x[i].add_(\n        1\n    )", "Write `x[i] += 1`"),
    ("x[0].add_(1).mul_(2)", "Write `x[0] *= 2`"),
    ("x[0][1] = 2", "Write `x[0, 1] = …`"),
    ("x[-1][1:, None] = 2", "Write `x[-1, 1:, None] = …`"),
    ("x[0][1] += 2", "Write `x[0, 1] = …`"),
    ("x[0][1].mul_(2)", "Write `x[0, 1] *= 2`"),
    ("x[1:][0] = 2", "Name it (`part = x[1:]`)"),
    ("x.T[0] = 1", "Name it (`part = x.T`)"),
    ("x.T[0].add_(1)", "Name it (`part = x.T[0]`)"),
    ("x.mT.zero_()", "Name it (`part = x.mT`)"),
    ("x.reshape(-1).zero_()", "Name it (`part = x.reshape(-1)`)"),
    ("x.view(-1)[3] = 0", "Name it (`part = x.view(-1)`)"),
    ("x.flatten()[:2] += 1", "Name it (`part = x.flatten()`)"),
    ("tj.reshape(x, -1).zero_()", "Name it (`part = tj.reshape(x, -1)`)"),
    ("holder.x[0].add_(1)", "Write `holder.x[0] += 1`"),
    ("x.data.zero_()", "Write `x.zero_()`, within tracejit.no_grad()"),
    ("x.data[0] = 1", "Write `x[0] = …`, within tracejit.no_grad()"),
    ("x.detach().add_(1, alpha=2)", "Write `x.add_(1, alpha=2)`, within tracejit.no_grad()"),
    ("x.data[1][0].mul_(3)", "Write `x[1, 0] *= 3`, within tracejit.no_grad()"),
    ("nn.init.constant_(x[1:], 2.0)", "Write `x[1:] = nn.init.constant_(x[1:], 2.0)`, within tracejit.no_grad()"),
    ("nn.init.zeros_(x.data)", "Write `nn.init.zeros_(x)`, within tracejit.no_grad()"),
    ("for row in x: x[0].add_(1)", "Write `x[0] += 1`"),
]

KEPT = [
    "y = x[0]; y.add_(1); y[0] = 3; y.zero_()",
    "x[0] += 1; x[0, 1] = 2; x[1:] *= 2; x[0:2][:, 0]",
    "y = x[0].add_(1)",
    "y = x.reshape(-1).mul_(2).sum()",
    "print(x[0].add_(1), end='') if False else x[0].sum()",
    "assert x[0].add_(1) is not None",
    "y = [x[0].mul_(2), x.T.zero_()]",
    "return x[0].add_(1)",
    "rows = list(x); rows[0].add_(1); rows[1][0] = 3; rows[0] += 1",
    "parts = {'a': x[0]}; parts['a'].zero_(); parts['a'][1] = 3",
    "[row.add_(1) for row in x]",
    "for row in x: row.zero_(); row[0] = 1",
    "holder.x.add_(1); holder.x[0] = 2; holder.x[0, 1] += 2",
    "def change(t): t.add_(1); t[0] = 1; return t\n    change(x[0]); y = change(x[0])",
    "def row(): return x[0]\n    row().add_(1)",
    "(x * 2).add_(1); x.clone().mul_(2); tj.ones(3).add_(1)",
    "nn.init.ones_(x); y = nn.init.ones_(x[0]); x[0] = nn.init.ones_(x[0])",
    "x.grad = x * 1; x.grad.zero_(); x.grad[0] = 1",
    "import numpy as np; a = np.zeros((3, 3)); a[0][1] = 2; a[0].fill(1)",
]


def compiled(statement: str, *, known: bool = True, mode: str = "exec") -> Any:
    """A function with the statement as its body (or the code of a notebook's cell); its source may not be known."""
    body = f"def function(x, holder, i):\n    {statement}\n" if mode == "exec" else f"{statement}\n"
    file = f"<lost writes {next(_numbers)}>"
    if known:
        linecache.cache[file] = (len(body), None, body.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"tj": tj, "nn": nn}
    code = compile(body, file, mode)
    if mode != "exec":
        return code
    exec(code, scope)
    return scope["function"]


def arguments() -> tuple[Any, Any, int]:
    x = tj.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    return x, SimpleNamespace(x=x), 1


def lost_in(function: Any, given: Any) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        function(*given)
    return [w for w in caught if issubclass(w.category, tj.LostWriteWarning)]


@pytest.mark.parametrize("under_jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(("statement", "advice"), LOST, ids=[row[0] for row in LOST])
def test_lost(statement: str, advice: str, under_jit: bool) -> None:
    given = arguments()
    function = compiled(statement)
    before = given[0].tolist()
    (warning,) = lost_in(tj.jit(function) if under_jit else function, given)
    assert advice in str(warning.message)
    assert "is a value of its own, not a view, and nothing holds it" in str(warning.message)
    assert (warning.filename, warning.lineno) == (function.__code__.co_filename, 2)
    assert given[0].tolist() == before, "it is lost indeed"


@pytest.mark.parametrize(("statement", "advice"), LOST, ids=[row[0] for row in LOST])
def test_the_advice_works(statement: str, advice: str) -> None:
    better = re.search(r"Write `(.*)`", advice)
    if better is None:
        return
    given = arguments()
    before = given[0].tolist()
    assert lost_in(compiled(f"with tj.no_grad(): {better[1].replace('…', '20.0')}"), given) == []
    assert given[0].tolist() != before


@pytest.mark.parametrize("under_jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("statement", KEPT)
def test_no_false_alarms(statement: str, under_jit: bool) -> None:
    function = compiled(statement)
    for _ in range(2):
        assert lost_in(tj.jit(function) if under_jit else function, arguments()) == []


def test_on_a_prompt() -> None:
    """What is shown is lost all the same; what gets a name is not."""
    scope: dict[str, Any] = {"x": tj.zeros(2, 2)}
    assert len(lost_in(exec, (compiled("x[0].add_(1)", mode="single"), scope))) == 1
    assert lost_in(exec, (compiled("y = x[0].add_(1)", mode="single"), scope)) == []


def test_once_a_line() -> None:
    function, given = compiled("for _ in range(5): x[0].add_(1)"), arguments()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        function(*given)
        function(*given)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.LostWriteWarning)
        with pytest.raises(tj.LostWriteWarning, match=r"x\[0\].add_\(1\)` is lost"):
            function(*given)


def test_without_source() -> None:
    """The instructions tell that a slice or a view is changed; a file that has changed since tells nothing."""
    for statement, _ in LOST:
        found = lost_in(compiled(statement, known=False), arguments())
        assert len(found) == ("nn.init" not in statement), statement
        assert all("is a value of its own, not a view, and nothing holds it" in str(one.message) for one in found)
    (warning,) = lost_in(compiled("x[0].add_(7)", known=False), arguments())
    assert "a write like `x[i].add_(…)` is lost: it changes a slice" in str(warning.message)
    assert "Write `x[i] += …`" in str(warning.message)
    for statement in KEPT:
        assert lost_in(compiled(statement, known=False), arguments()) == [], statement
    function = compiled("x[0].add_(8)")
    linecache.cache[function.__code__.co_filename] = (1, None, ["def another():\n", "    pass\n"], "edited")
    assert lost_in(function, arguments()) == []


def test_the_library_is_no_user() -> None:
    """A training step changes parameters, gradients and statistics in place, none of it lost."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 2))
    optimizer = tj.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        model(tj.randn(5, 3))[0].sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    assert lost_in(step, ()) == lost_in(tj.jit(step), ()) == []
