"""The implementations under one vocabulary, so that most workloads are written once.

A library has the array functions under the names of the array API standard, :attr:`Library.nn`, ``F`` and ``optim``
where it has them, and says how a program is compiled and how its results are awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np


class Library:
    """Array functions by attribute: of ``module``, but for those given by name."""

    device: str | None = None  # where models are, if not where the library makes them
    nn: Any = None
    F: Any = None
    optim: Any = None

    def __init__(self, name: str, module: Any, **others: Any) -> None:
        self.name = name
        self.module = module
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def tensor(self, array: np.ndarray) -> Any:
        return self.module.asarray(array)

    def compile(self, program: Callable[..., Any]) -> Callable[..., Any]:
        return program

    def wait(self, result: Any) -> Any:
        """The result, once it is there."""
        return result

    def forget(self) -> None:
        """Forget what was compiled for another workload in this process."""

    def settle(self) -> None:
        """Return when the background has compiled all that it is going to."""

    def updated(self, x: Any, where: Any, value: Any) -> Any:
        """A copy of ``x`` with another value at an index."""
        x = x.copy()
        x[where] = value
        return x

    def values(self, result: Any) -> list[np.ndarray]:
        """The arrays in a result."""
        if isinstance(result, dict):
            result = list(result.values())
        if isinstance(result, list | tuple):
            return [array for item in result for array in self.values(item)]
        return [self._array(result)]

    def _array(self, x: Any) -> np.ndarray:
        return np.asarray(x)


class Torch(Library):
    def __init__(self, compiled: bool) -> None:
        torch = import_module("torch")
        super().__init__("torch.compile" if compiled else "torch", torch, max=torch.amax, erf=torch.erf)
        self.compiled = compiled
        self.nn, self.F, self.optim = torch.nn, torch.nn.functional, torch.optim
        self.cumulative_sum = torch.cumsum
        self.sort = lambda x: torch.sort(x).values
        self.histogram = lambda x, bins, range: torch.histc(x, bins, *range)

    def tensor(self, array: np.ndarray) -> Any:
        if array.dtype.name == "bfloat16":
            return self.module.from_numpy(array.view(np.int16)).view(self.module.bfloat16)
        return self.module.from_numpy(array)

    def compile(self, program: Callable[..., Any]) -> Callable[..., Any]:
        return self.module.compile(program) if self.compiled else program

    def forget(self) -> None:
        if self.compiled:
            self.module.compiler.reset()

    def updated(self, x: Any, where: Any, value: Any) -> Any:
        x = x.clone()
        x[where] = value
        return x

    def _array(self, x: Any) -> np.ndarray:
        x = x.detach()
        return x.float().numpy() if x.dtype == self.module.bfloat16 else x.numpy()


class Jax(Library):
    def __init__(self) -> None:
        jax = import_module("jax")
        jax.config.update("jax_enable_x64", True)
        super().__init__("jax", jax.numpy, erf=jax.scipy.special.erf, jax=jax)

    def compile(self, program: Callable[..., Any]) -> Callable[..., Any]:
        return self.jax.jit(program)

    def wait(self, result: Any) -> Any:
        return self.jax.block_until_ready(result)

    def updated(self, x: Any, where: Any, value: Any) -> Any:
        return x.at[where].set(value)

    def histogram(self, x: Any, bins: int, range: Sequence[float]) -> Any:
        return self.module.histogram(x, bins, range)[0]


class Tracejit(Library):
    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, import_module("tracejit"))
        self.options = options
        self.nn, self.optim = import_module("tracejit.nn"), import_module("tracejit.optim")
        self.F = self.nn.functional

    def tensor(self, array: np.ndarray) -> Any:
        return self.module.tensor(array)

    def compile(self, program: Callable[..., Any]) -> Callable[..., Any]:
        return self.module.jit(program, **self.options) if self.name != "tracejit, eager" else program

    def updated(self, x: Any, where: Any, value: Any) -> Any:
        x = x.clone()
        x[where] = value
        return x

    def histogram(self, x: Any, bins: int, range: Sequence[float]) -> Any:
        return self.module.histogram(x, bins, range)[0]

    def settle(self) -> None:
        import_module("tracejit.backends.cpu.compiler").wait()

    def _array(self, x: Any) -> np.ndarray:
        return x.detach().numpy()


def numpy() -> Library:
    erf = import_module("scipy.special").erf
    return Library("numpy", np, erf=erf, histogram=lambda x, bins, range: np.histogram(x, bins, range)[0])


def numba() -> Library:
    """Programs of its own: see :mod:`.loops`."""
    return Library("numba", np, loops=import_module(".loops", __package__))


LIBRARIES: dict[str, Callable[[], Library]] = {
    "tracejit": lambda: Tracejit("tracejit"),
    "tracejit, fast": lambda: Tracejit("tracejit, fast", numerics="fast"),
    "tracejit, eager": lambda: Tracejit("tracejit, eager"),
    "numpy": numpy,
    "torch": lambda: Torch(compiled=False),
    "torch.compile": lambda: Torch(compiled=True),
    "jax": Jax,
    "numba": numba,
}
