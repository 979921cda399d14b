"""The README's programs run, and print what it shows.

``python -m tests.test_readme`` runs them and writes what they print into the README.
"""

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import tracejit as tj
from tracejit import jit

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLE = re.compile(r"```python\n(?P<source>.*?)```\n(?:\n```text\n(?P<output>.*?)```\n)?", re.DOTALL)


def run(source: str) -> tuple[str, dict[str, Any]]:
    """What a program prints, and its variables; its lines count from its own first one."""
    names: dict[str, Any] = {"__name__": "example"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, "example.py", "exec"), names)
    return printed.getvalue(), names


def examples() -> list[re.Match[str]]:
    return list(EXAMPLE.finditer(README.read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", range(len(examples())))
def test_example(number):
    example = examples()[number]
    printed, _ = run(example["source"])
    assert example["output"] is None or printed == example["output"]


class Recorded:
    """In place of a jitted function: runs it compiled or as it is, and keeps the bits of all results."""

    compiled = True
    seen: ClassVar[list[bytes]] = []

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._jitted = function, jit(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = (self._jitted if self.compiled else self._function)(*args, **kwargs)
        self.seen.append(result.detach().numpy().tobytes())
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jitted, name)


@pytest.mark.parametrize("number", range(len(examples())))
def test_training_without_jit_gives_the_same_bits(number, monkeypatch):
    """The loss of every step, and what is left in the program's tensors."""
    source = examples()[number]["source"]
    if "backward()" not in source:
        return
    assert "@tj.jit" in source
    monkeypatch.setattr(tj, "jit", Recorded)
    seen = []
    for compiled in (True, False):
        monkeypatch.setattr(Recorded, "compiled", compiled)
        monkeypatch.setattr(Recorded, "seen", [])
        _, names = run(source)
        left = {name: item.detach().numpy().tobytes() for name, item in names.items() if isinstance(item, tj.Tensor)}
        (function,) = (item for item in names.values() if isinstance(item, Recorded))
        assert function.cache_info().lazy == 0
        seen.append((Recorded.seen, left))
    assert len(seen[0][0]) >= 100
    assert seen[0] == seen[1]


def test_the_first_program_is_the_same_without_the_line():
    assert "@tj.jit  # without this line the program prints the same\n" in examples()[0]["source"]


@pytest.mark.parametrize("command", ["pip install . && python -m tracejit demo", 'pip install ".[test]" && pytest'])
def test_each_command_stands_on_a_line_of_its_own(command):
    assert README.read_text(encoding="utf-8").splitlines().count(command) == 1


def main() -> None:
    def with_output(example: re.Match[str]) -> str:
        if example["output"] is None:
            return example[0]
        return f"```python\n{example['source']}```\n\n```text\n{run(example['source'])[0]}```\n"

    README.write_text(EXAMPLE.sub(with_output, README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
