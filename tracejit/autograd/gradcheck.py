"""Checking derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import float64

from ..tensor import Tensor, new_tensor
from .engine import grad


class GradcheckError(RuntimeError):
    """The derivative that was computed is not the one that was measured."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare ``backward`` through ``func`` with central differences, for all float64 inputs that need gradients.

    Raises :class:`GradcheckError` (or returns False) where an entry of the Jacobian differs by more than
    ``atol + rtol * abs(measured)``.

    >>> import tracejit as tj
    >>> x = tj.tensor([0.5, 1.0], dtype=tj.float64, requires_grad=True)
    >>> tj.autograd.gradcheck(tj.tanh, x)
    True
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    chosen = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]
    if not chosen:
        raise ValueError("gradcheck expects at least one input that requires gradients")
    for i in chosen:
        if arguments[i].dtype != float64:
            raise ValueError(f"gradcheck measures in float64, but input {i} is {arguments[i].dtype.name}")
    try:
        for number, output in enumerate(_outputs(func, arguments)):
            if output.requires_grad:
                _check_output(func, arguments, chosen, number, eps, atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """:func:`gradcheck` of the gradient of ``func``."""
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    generator = np.random.default_rng(0)
    weights = [new_tensor(generator.normal(size=output.shape)) for output in _outputs(func, arguments)]

    def gradient(*values: Any) -> tuple[Tensor, ...]:
        outputs = _outputs(func, list(values))
        wanted = [v for v in values if isinstance(v, Tensor) and v.requires_grad]
        pairs = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
        found = grad([o for o, _ in pairs], wanted, [w for _, w in pairs], create_graph=True, materialize_grads=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(gradient, arguments, eps, atol, rtol, raise_exception)


def _outputs(func: Callable[..., Any], arguments: Sequence[Any]) -> list[Tensor]:
    returned = func(*arguments)
    return list(returned) if isinstance(returned, tuple | list) else [returned]


def _check_output(
    func: Callable[..., Any], arguments: list[Any], chosen: list[int], number: int, eps: float, atol: float, rtol: float
) -> None:
    output = _outputs(func, arguments)[number]
    size = output.size
    computed = [np.zeros((size, arguments[i].size)) for i in chosen]
    for row in range(size):
        direction = np.zeros(size)
        direction[row] = 1
        seed = new_tensor(direction.reshape(output.shape))
        found = grad(output, [arguments[i] for i in chosen], seed, retain_graph=True, materialize_grads=True)
        for table, gradient in zip(computed, found, strict=True):
            assert gradient is not None
            table[row] = gradient.detach().numpy().reshape(-1)
    for table, i in zip(computed, chosen, strict=True):
        measured = _measured(func, arguments, i, number, eps)
        if not np.allclose(table, measured, rtol=rtol, atol=atol, equal_nan=True):
            raise GradcheckError(
                f"Jacobian mismatch for output {number} with respect to input {i},\n"
                f"numerical:\n{measured.T}\nanalytical:\n{table.T}"
            )


def _measured(func: Callable[..., Any], arguments: list[Any], index: int, number: int, eps: float) -> np.ndarray:
    """The Jacobian by central differences."""
    base = np.array(arguments[index].detach().numpy())
    columns = []
    for position in np.ndindex(base.shape):
        sides = []
        for step in (eps, -eps):
            moved = base.copy()
            moved[position] += step
            replaced = [new_tensor(moved).requires_grad_() if i == index else a for i, a in enumerate(arguments)]
            sides.append(_outputs(func, replaced)[number].detach().numpy().reshape(-1))
        columns.append((sides[0] - sides[1]) / (2 * eps))
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))
