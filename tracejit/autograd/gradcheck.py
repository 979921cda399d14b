"""Checking derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import complex128, float64, is_differentiable

from ..locations import at_user_line
from ..tensor import Tensor, new_tensor
from .engine import grad


class GradcheckError(RuntimeError):
    """The derivative that was computed is not the one that was measured."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare ``backward`` through ``func`` with central differences, for all inputs that need gradients.

    Those must be float64 or complex128; a complex number counts as its two parts.  Raises :class:`GradcheckError`
    (or returns False) where an entry of the Jacobian differs by more than ``atol + rtol * abs(measured)``.

    >>> import tracejit as tj
    >>> x = tj.tensor([0.5, 1.0], dtype=tj.float64, requires_grad=True)
    >>> tj.autograd.gradcheck(tj.tanh, x)
    True
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    chosen = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]
    if not chosen:
        message = (
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True"
        )
        raise at_user_line(ValueError(message))
    for i in chosen:
        if arguments[i].dtype not in (float64, complex128):
            message = f"gradcheck measures in float64 and complex128, but input {i} is {arguments[i].dtype.name}"
            raise at_user_line(ValueError(message))
    outputs = _outputs(func, arguments)
    numbers = [i for i, output in enumerate(outputs) if output.requires_grad]
    numbers = numbers or [i for i, output in enumerate(outputs) if is_differentiable(output.dtype)]
    try:
        for number in numbers:
            _check_output(func, arguments, chosen, number, eps, atol, rtol)
    except GradcheckError as error:
        if raise_exception:
            raise at_user_line(error) from None
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """:func:`gradcheck` of the gradient of ``func``, as a function of its inputs and of ``grad_outputs``.

    Those are random numbers unless given.
    """
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    count = len(arguments)
    outputs = [i for i, output in enumerate(_outputs(func, arguments)) if output.requires_grad]
    if grad_outputs is None:
        generator = np.random.default_rng(0)
        weights = [_random(generator, _outputs(func, arguments)[i]) for i in outputs]
    else:
        weights = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)

    def gradient(*values: Any) -> tuple[Tensor, ...]:
        given = _outputs(func, list(values[:count]))
        wanted = [v for v in values[:count] if isinstance(v, Tensor) and v.requires_grad]
        found = grad([given[i] for i in outputs], wanted, values[count:], create_graph=True, materialize_grads=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(gradient, [*arguments, *weights], eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)


def _random(generator: np.random.Generator, like: Tensor) -> Tensor:
    numbers = generator.normal(size=like.shape)
    array = numbers + 1j * generator.normal(size=like.shape) if like.dtype.kind == "c" else numbers
    return new_tensor(np.asarray(array, like.dtype)).requires_grad_()


def _outputs(func: Callable[..., Any], arguments: Sequence[Any]) -> list[Tensor]:
    returned = func(*arguments)
    return list(returned) if isinstance(returned, tuple | list) else [returned]


def _parts(array: np.ndarray) -> np.ndarray:
    """The numbers of an array in a row, complex ones as their real and imaginary parts."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _check_output(
    func: Callable[..., Any], arguments: list[Any], chosen: list[int], number: int, eps: float, atol: float, rtol: float
) -> None:
    output = _outputs(func, arguments)[number]
    rows = len(_parts(output.detach().numpy()))
    computed = [np.zeros((rows, len(_parts(arguments[i].detach().numpy())))) for i in chosen]
    for row in range(rows if output.requires_grad else 0):
        seed = np.zeros(output.shape, output.dtype)
        _parts(seed)[row] = 1
        given = new_tensor(seed)
        found = grad(output, [arguments[i] for i in chosen], given, retain_graph=True, materialize_grads=True)
        for table, gradient in zip(computed, found, strict=True):
            assert gradient is not None
            table[row] = _parts(gradient.detach().numpy())
    for table, i in zip(computed, chosen, strict=True):
        measured = _measured(func, arguments, i, number, eps)
        if not np.allclose(table, measured, rtol=rtol, atol=atol, equal_nan=True):
            raise GradcheckError(
                f"Jacobian mismatch for output {number} with respect to input {i},\n"
                f"numerical:\n{measured.T}\nanalytical:\n{table.T}"
            )


def _measured(func: Callable[..., Any], arguments: list[Any], index: int, number: int, eps: float) -> np.ndarray:
    """The Jacobian by central differences."""
    base = np.array(arguments[index].detach().numpy(), order="C")
    columns = []
    for position in range(len(_parts(base))):
        sides = []
        for step in (eps, -eps):
            moved = base.copy()
            _parts(moved)[position] += step
            replaced = [new_tensor(moved).requires_grad_() if i == index else a for i, a in enumerate(arguments)]
            sides.append(_parts(_outputs(func, replaced)[number].detach().numpy()))
        columns.append((sides[0] - sides[1]) / (2 * eps))
    rows = len(_parts(_outputs(func, arguments)[number].detach().numpy()))
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))
