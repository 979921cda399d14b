"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from ...autograd.modes import no_grad
from ...locations import at_user_line
from ...ops import manipulation
from ...tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all tensors, one after the other; gradients flow through.

    >>> from tracejit import nn
    >>> parameters_to_vector(nn.Linear(2, 3).parameters()).shape
    (9,)
    """
    return manipulation.concat([manipulation.reshape(parameter, (parameter.size,)) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the parts of a vector into tensors, in place.

    >>> import tracejit as tj
    >>> p = tj.zeros(2, requires_grad=True)
    >>> vector_to_parameters(tj.tensor([1.0, 2.0]), [p])
    >>> p
    tensor([1., 2.], requires_grad=True)
    """
    if not isinstance(vec, Tensor):
        raise at_user_line(TypeError(f"expected tracejit.Tensor, but got: {type(vec).__name__}"))
    items = list(parameters)
    total = sum(parameter.size for parameter in items)
    if vec.ndim != 1 or vec.shape[0] < total:
        message = f"vector_to_parameters: expected a vector of {total} elements, got shape {list(vec.shape)}"
        raise at_user_line(RuntimeError(message))
    first = 0
    with no_grad():
        for parameter in items:
            parameter.copy_(manipulation.reshape(vec[first : first + parameter.size], parameter.shape))
            first += parameter.size


__all__ = ["parameters_to_vector", "vector_to_parameters"]
