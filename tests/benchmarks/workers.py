"""The processes that measure, each with one library: see :mod:`.process`."""

from __future__ import annotations

import json
import os
import select
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT = 120  # seconds, for an answer: torch.compile takes a minute for the largest


def environment(cache: str) -> dict[str, str]:
    """Where each library keeps what it compiles; bytecode is kept, as for an installed one."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": f"{cache}/tracejit",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torch", "JAX_COMPILATION_CACHE_DIR": f"{cache}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }  # fmt: skip


class Failed(Exception):
    """A worker that has ended, or does not answer."""


class Remote:
    """A worker, from outside; :meth:`ask` sends a command."""

    def __init__(self, python: str, library: str, cache: str) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.process", library], cwd=ROOT, env=environment(cache),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        self.errors = ""

    def ask(self, command: str) -> Any:
        """The answer.

        Raises:
            Failed: with the last line that the worker wrote of its errors.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{command}\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(self._last_error()) from error
        waiting = TIMEOUT
        while waiting > 0 and not select.select([self.process.stdout], [], [], 1)[0]:
            self._read_errors()
            waiting -= 1
        if waiting <= 0:
            raise Failed(f"more than {TIMEOUT} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Failed(self._last_error())
        self._read_errors()
        return json.loads(line)

    def _read_errors(self) -> None:
        """So that the pipe does not fill."""
        assert self.process.stderr is not None
        with suppress(TypeError, BlockingIOError):  # where nothing has been written
            self.errors = (self.errors + (self.process.stderr.read() or ""))[-1000:]

    def _last_error(self) -> str:
        self._read_errors()
        return self.errors.strip().splitlines()[-1] if self.errors.strip() else f"exit {self.process.returncode}"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
