"""Derivatives as arrays: Jacobians by rows or by columns, Hessians, and the product of a Hessian with a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.ir.types import TensorType, is_differentiable

from .. import tree
from ..locations import at_user_line
from ..ops import arithmetic, creation, manipulation
from ..tensor import Tensor
from .arguments import Variables, checked_callable, pair, selected, with_arguments, wraps
from .batch import vmap
from .forward import Pushed, Recorder, pushed_by
from .reverse import Pullback, grad


class _Arguments(Variables):
    """The arguments that a Jacobian is taken in, and the function of those alone."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        argnums: int | Sequence[int],
        holomorphic: bool,
    ) -> None:
        self._single = isinstance(argnums, int)
        self._positions = selected(name, args, argnums)
        super().__init__(name, args, self._positions)
        for tensor in self.tensors:
            if (tensor.dtype.kind == "c") != holomorphic:
                raise at_user_line(TypeError(_kind_message(name, "inputs", tensor, holomorphic)))
        self._function, self._args, self._kwargs = function, args, kwargs

    def call(self, *values: Any) -> Any:
        return self._function(*with_arguments(self._args, self._positions, values), **self._kwargs)

    def entries(self, parts: Sequence[Tensor | None]) -> Any:
        """One entry of a Jacobian for each variable, built as the arguments are."""
        found = self.built(parts)
        return found[0] if self._single else found


def _kind_message(name: str, what: str, tensor: Tensor, holomorphic: bool) -> str:
    hint = "with holomorphic=True" if holomorphic else "pass holomorphic=True for a holomorphic function"
    return f"{name} requires {'complex' if holomorphic else 'real'} {what}, got {tensor.dtype.name}; {hint}"


def _basis(type: TensorType) -> Tensor:
    """Along a first axis, for each element the array that is 1 there and 0 elsewhere."""
    return manipulation.reshape(creation.eye(type.size, dtype=type.dtype), (type.size, *type.static_shape))


def jacrev(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``function``, computed row by row: good where the result is small.

    Its shape is that of the result followed by that of the argument.  Where the result or the argument is a container,
    so is the Jacobian: built as the result is, with what is built as the arguments are in place of its leaves.
    ``argnums`` and ``has_aux`` are as for :func:`grad`.

    >>> import tracejit as tj
    >>> tj.jacrev(lambda x: x * x)(tj.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    checked_callable("jacrev", function)

    @wraps(function)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        variables = _Arguments("jacrev", function, args, kwargs, argnums, holomorphic)

        def call(inputs: list[Tensor]) -> tuple[Any, Any]:
            result = variables.call(*variables.built(inputs))
            return pair("jacrev", function, result) if has_aux else (result, None)

        pullback = Pullback(function, variables.tensors, call)
        count = len(pullback.results)
        for result in pullback.results:
            if result is not None and is_differentiable(result.dtype) and (result.dtype.kind == "c") != holomorphic:
                raise at_user_line(TypeError(_kind_message("jacrev", "results", result, holomorphic)))

        def rows(number: int, result: Any) -> Any:
            if result is None:
                return None

            def pull(cotangent: Tensor) -> list[Tensor]:
                return pullback([cotangent if i == number else None for i in range(count)])

            parts = vmap(pull)(_basis(TensorType(result.dtype, result.shape)))
            if holomorphic:  # the cotangents are those of the conjugates
                parts = [arithmetic.conj(part) for part in parts]
            return variables.entries([manipulation.reshape(p, (*result.shape, *p.shape[1:])) for p in parts])

        found = tree.unflatten(pullback.structure, iter([rows(i, result) for i, result in enumerate(pullback.results)]))
        return (found, pullback.aux) if has_aux else found

    return jacobian


def jacfwd(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """The same as :func:`jacrev`, computed column by column: good where the argument is small.

    >>> import tracejit as tj
    >>> tj.jacfwd(lambda x: tj.stack([x[0] * x[1], x[0]]))(tj.tensor([2.0, 3.0]))
    tensor([[3., 2.],
            [1., 0.]])
    """
    checked_callable("jacfwd", function)

    @wraps(function)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        variables = _Arguments("jacfwd", function, args, kwargs, argnums, holomorphic)
        types = [TensorType(tensor.dtype, tensor.shape) for tensor in variables.tensors]
        recorder = Recorder(types)
        with recorder:
            pushed = Pushed(variables.call, variables, recorder.tangents, has_aux, "jacfwd")

        def columns(number: int, type: TensorType) -> list[Tensor | None]:
            def push(tangent: Tensor) -> list[Tensor | None]:
                tangents = [creation.zeros(other.static_shape, dtype=other.dtype) for other in types]
                tangents[number] = tangent
                return recorder.replay(tangents, pushed.changes)

            changes: list[Tensor | None] = vmap(push, out_axes=-1)(_basis(type))
            return [None if change is None else _column(change, type) for change in changes]

        parts = [columns(number, type) for number, type in enumerate(types)]
        rows = [
            None if result is None else variables.entries([part[i] for part in parts])
            for i, result in enumerate(pushed.results)
        ]
        found = tree.unflatten(pushed.structure, iter(rows))
        return (found, pushed.aux) if has_aux else found

    return jacobian


def _column(change: Tensor, type: TensorType) -> Tensor:
    """Changes along the last axis as an entry of a Jacobian: zeros of the argument's dtype for an integer."""
    entry = manipulation.reshape(change, (*change.shape[:-1], *type.static_shape))
    return entry if is_differentiable(entry.dtype) else entry.astype(type.dtype)


jacobian = jacrev


def hessian(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """A function that returns the second derivatives of ``function``: forward over reverse mode.

    >>> import tracejit as tj
    >>> tj.hessian(lambda x: (x**3).sum())(tj.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(function, argnums, has_aux, holomorphic), argnums, has_aux, holomorphic)


def hvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of a scalar ``function`` at ``primals`` times ``tangents``, at the cost of a few gradients.

    For a function of one argument a result built as that is, for several a tuple.

    >>> import tracejit as tj
    >>> tj.hvp(lambda x: (x**3).sum(), (tj.tensor([1.0, 2.0]),), (tj.tensor([1.0, 0.0]),))
    tensor([6., 0.])
    """
    argnums = 0 if not isinstance(primals, tuple | list) or len(primals) == 1 else tuple(range(len(primals)))
    return pushed_by("hvp", grad(function, argnums), primals, tangents).change


__all__ = ["hessian", "hvp", "jacfwd", "jacobian", "jacrev"]
