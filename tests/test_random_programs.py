"""Python functions made at random do the same under ``jit`` as eagerly: results, state, exceptions, to the bit.

``TRACEJIT_EXAMPLES=5000`` (or ``--all``: 500) runs more of them.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

import tracejit as tj
from tests.random_programs import built, programs, vectors
from tests.test_programs import described
from tracejit import native_calls

# Calls and changes of what is captured in between: seed and length of the vectors, an int and a float.
CALLS: list[Any] = [
    (0, 4, 2, 0.25), (0, 4, 2, 0.25), (1, 4, 2, 0.75), (0, 4, 2, 0.75), (2, 5, 1, 0.25),
    "state.flag = False", (0, 4, 2, 0.25), "table['a'] = tj.tensor(0.625)", "state.rate = 0.75", (1, 4, 2, 0.75),
    "net.eval()", (0, 4, 2, 0.25),
]  # fmt: skip


class Run:
    """A world, and what has been done to it."""

    def __init__(self, source: str, jitted: bool) -> None:
        self._source, self._jitted = source, jitted
        self._done: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self.space = built(self._source)
        self.function = tj.jit(self.space["f"]) if self._jitted else self.space["f"]

    def do(self, step: Any) -> Any:
        """What comes out, and what the world is then; after an error the world is as it was before."""
        found = self._do(step)
        if found[0] == "raised" and not self._jitted:
            self._begin()
            for earlier in self._done:
                self._do(earlier)
        else:
            self._done.append(step)
        return found[:2], described(self.space["look"]()), found[2:] if found[0] != "raised" else None, draws()

    def _do(self, step: Any) -> Any:
        if isinstance(step, str):
            exec(step, self.space)
            return ("done",)
        seed, length, number, rate = step
        x, y = vectors(seed, length)
        try:
            result = self.function(x, y, number, rate)
        except Exception as error:
            return "raised", (type(error).__name__, str(error))
        return "returned", described(result), [result is x, described(x), described(y)]


def draws() -> Any:
    return int(tj.random.default_generator.position)


def compare(source: str) -> None:
    note(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        eager, jitted = Run(source, False), Run(source, True)
        state = tj.random.default_generator.position
        for step in CALLS:
            start = int(state)
            expected = eager.do(step)
            after = int(state)
            state.copy_(tj.asarray(start, dtype=state.dtype))
            lazy = jitted.function.cache_info().lazy if step else 0
            found = jitted.do(step)
            if expected[0][0] == "raised":
                assert found[0] == expected[0], f"{step}: {found[0]} in place of {expected[0]}"
                if jitted.function.cache_info().lazy > lazy:
                    return  # Python code ran: what it had done before the error is done
                state.copy_(tj.asarray(start, dtype=state.dtype))
                assert found[1] == expected[1], f"{step} has changed something, though it raised: {found[1]}"
                continue
            assert found[0] == expected[0], f"{step}: {found[0]} in place of {expected[0]}"
            assert found[2] == expected[2], f"{step}: arguments {found[2]} in place of {expected[2]}"
            assert found[1] == expected[1], f"{step}: state {found[1]} in place of {expected[1]}"
            assert int(state) == after, f"{step}: the random generator is at {int(state)} in place of {after}"


@pytest.fixture(scope="module")
def examples(request):
    return int(os.environ.get("TRACEJIT_EXAMPLES", 500 if request.config.getoption("--all") else 20))


def test_random_programs_do_the_same_under_jit(examples):
    native_calls.install()

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=examples <= 500,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False,
    )  # fmt: skip
    @given(programs())
    def check(source: str) -> None:
        compare(source)

    check()
