"""The README's programs run, and print what it shows.

``python -m tests.test_readme`` runs them and writes what they print into the README.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

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


def test_the_first_example_without_jit_gives_the_same_bits():
    source = examples()[0]["source"]
    line = "@tj.jit  # without this line the program prints the same\n"
    assert line in source
    compiled, eager = run(source)[1], run(source.replace(line, ""))[1]
    assert compiled["loss"].item() == eager["loss"].item()
    assert compiled["train_step"].cache_info().misses == 1


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
