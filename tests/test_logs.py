"""What is told of tracing, compiling, the cache and the passes, and how it is shown."""

from __future__ import annotations

import logging
import re

import pytest

import tracejit as tj
from tracejit import logs


@pytest.fixture
def told(caplog):
    """What the loggers were given so far: the topic, and the message with numbers in place of times."""
    caplog.set_level(logging.DEBUG, logger="tracejit")

    def found(*topics):
        records = [(record.name.removeprefix("tracejit."), record.getMessage()) for record in caplog.records]
        lines = [f"{topic}: {re.sub(r'[0-9.]+ ms', '# ms', text)}" for topic, text in records if topic in topics]
        caplog.clear()
        return lines

    return found


def test_traces_and_what_made_them(told) -> None:
    scale = 2.0

    @tj.jit
    def f(x):
        return (x * scale).sum()

    x = tj.ones(4)
    f(x)
    assert told("trace") == ["trace: f: traced for x f32[4]", "trace: f: 2 ops traced in # ms"]
    f(x)
    assert told("trace", "compile") == []
    f(tj.ones(5))
    assert told("trace")[0] == "trace: f: traced again: `x` had shape (4,), now (5,)"
    f(tj.ones(6))
    assert told("trace") == ["trace: f: an earlier trace serves x f32[6]"]
    scale = tj.ones(())
    f(x)
    assert "`scale` was 2.0, now tensor(1.)" in told("trace")[0]


def test_what_is_not_compiled(told) -> None:
    @tj.jit
    def f(x):
        print("shown")
        return x + 1

    f(tj.ones(2))
    assert re.match(
        r"trace: f: its Python code runs at each call: it calls print.* at test_logs\.py:\d+", told("trace")[1]
    )


def test_programs(told) -> None:
    @tj.jit
    def f(x):
        return tj.sin(x)

    x = tj.ones(3, requires_grad=True)
    f(x).sum().backward()
    lines = [re.sub("compiled|loaded", "made", line) for line in told("compile")]
    assert lines == ["compile: f: 1 ops made in # ms", "compile: f.backward: 2 ops made in # ms"]


def test_passes_have_the_numbers_that_limit_them(told, monkeypatch) -> None:
    @tj.jit
    def f(x):
        return x * 1.0 / 8.0

    monkeypatch.setenv("TRACEJIT_PASSES_LIMIT", "4")
    f(tj.ones(3))
    assert told("passes") == [
        "passes: f: 1 absorb: # ms",
        "passes: f: 2 reroll: # ms",
        "passes: f: 3 simplify: 2 ops became 1, # ms",
        "passes: f: 4 strength: 1 ops became 1, # ms",
    ]


def test_they_are_shown_on_stderr(capsys) -> None:
    root, trace = logging.getLogger("tracejit"), logging.getLogger("tracejit.trace")
    before = root.handlers[:], root.propagate, trace.level
    try:
        logs.show("trace")
        tj.jit(lambda x: x + 1)(tj.ones(2))
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "tracejit.trace: lambda: traced for x f32[2]"
        assert all(line.startswith("tracejit.trace: ") for line in lines)
    finally:
        root.handlers, root.propagate = before[:2]
        trace.setLevel(before[2])


def test_a_topic_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="TRACEJIT_LOG should be 'all', or some of trace, compile, cache, passes; got"):
        logs.show("trace,guards")
