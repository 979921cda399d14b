"""Products of matrices and vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tracejit.ir.primitives import contraction
from tracejit.ir.types import broadcast_static_shapes, format_shape

from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply
from ..tensor import Tensor
from . import arithmetic, elementwise, manipulation, reduction


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product, as NumPy's ``@``: vectors count as a row and a column, leading axes broadcast.

    >>> import tracejit as tj
    >>> tj.matmul(tj.ones(2, 3), tj.ones(3, 4)).shape
    (2, 4)
    """
    return _matmul(x, y)


def _matmul(x: Any, y: Any) -> Tensor:
    lhs, rhs = operands("matmul", as_tensor(x, "matmul"), as_tensor(y, "matmul"))
    ranks = lhs.ndim, rhs.ndim
    if ranks == (2, 2):
        return apply(contraction.dot, (lhs, rhs), {})
    if 0 in ranks:
        raise at_user_line(ValueError("matmul: operands must have at least one axis, got a 0-d tensor"))
    left_vector, right_vector = ranks[0] == 1, ranks[1] == 1
    if left_vector:
        lhs = manipulation.expand_dims(lhs, 0)
    if right_vector:
        rhs = manipulation.expand_dims(rhs, 1)
    if rhs.ndim == 2 and lhs.ndim > 2 and 0 not in lhs.shape:  # one product with all rows
        flat = matmul(manipulation.reshape(lhs, (-1, lhs.shape[-1])), rhs)
        result = manipulation.reshape(flat, (*lhs.shape[:-1], rhs.shape[-1]))
    else:
        result = _batched(lhs, rhs)
    if left_vector:
        result = manipulation.squeeze(result, -2)
    return manipulation.squeeze(result, -1) if right_vector else result


def _batched(lhs: Tensor, rhs: Tensor) -> Tensor:
    if lhs.ndim == rhs.ndim == 2:
        return apply(contraction.dot, (lhs, rhs), {})
    try:
        batch = broadcast_static_shapes(lhs.shape[:-2], rhs.shape[:-2])
    except ValueError:
        shapes = f"{format_shape(lhs.shape)} and {format_shape(rhs.shape)}"
        raise at_user_line(ValueError(f"matmul: batch dimensions of {shapes} do not broadcast")) from None
    lhs = manipulation.broadcast_to(lhs, (*batch, *lhs.shape[-2:]))
    rhs = manipulation.broadcast_to(rhs, (*batch, *rhs.shape[-2:]))
    return apply(contraction.dot, (lhs, rhs), {})


def vecdot(x1: Any, x2: Any, axis: int = -1) -> Tensor:
    """The sums of products along ``axis``, the first operand conjugated.

    >>> import tracejit as tj
    >>> tj.vecdot(tj.tensor([1.0, 2.0]), tj.tensor([3.0, 4.0]))
    tensor(11.)
    """
    lhs, rhs = operands("vecdot", as_tensor(x1, "vecdot"), as_tensor(x2, "vecdot"))
    for tensor in lhs, rhs:
        if not -tensor.ndim <= axis < tensor.ndim:
            shapes = f"{format_shape(lhs.shape)} and {format_shape(rhs.shape)}"
            raise at_user_line(IndexError(f"vecdot: axis {axis} is out of bounds for shapes {shapes}"))
    lhs, rhs = _to_end(lhs, axis), _to_end(rhs, axis)
    if lhs.shape[-1] != rhs.shape[-1]:
        raise at_user_line(ValueError(f"vecdot: vectors of {lhs.shape[-1]} and {rhs.shape[-1]} elements"))
    return reduction.sum(elementwise.multiply(arithmetic.conj(lhs), rhs), -1, dtype=lhs.dtype)


def _to_end(x: Tensor, axis: int) -> Tensor:
    along = axis % x.ndim
    return manipulation.permute_dims(x, (*(i for i in range(x.ndim) if i != along), along))


def tensordot(x1: Any, x2: Any, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Summed over the last ``axes`` axes of ``x1`` and the first of ``x2``, or over the pairs of axes given.

    >>> import tracejit as tj
    >>> tj.tensordot(tj.ones(2, 3), tj.ones(3, 4), axes=1).shape
    (2, 4)
    """
    lhs, rhs = operands("tensordot", as_tensor(x1, "tensordot"), as_tensor(x2, "tensordot"))
    if isinstance(axes, int):
        first, second = list(range(lhs.ndim - axes, lhs.ndim)), list(range(axes))
    else:
        first = [axis % lhs.ndim for axis in axes[0]]
        second = [axis % rhs.ndim for axis in axes[1]]
    if [lhs.shape[i] for i in first] != [rhs.shape[i] for i in second]:
        shapes = f"{format_shape(lhs.shape)} and {format_shape(rhs.shape)}"
        raise at_user_line(ValueError(f"tensordot: axes {axes} of shapes {shapes} do not match"))
    rows = [i for i in range(lhs.ndim) if i not in first]
    columns = [i for i in range(rhs.ndim) if i not in second]
    shared = math.prod(lhs.shape[i] for i in first)
    shape = (*(lhs.shape[i] for i in rows), *(rhs.shape[i] for i in columns))
    left = manipulation.reshape(
        manipulation.permute_dims(lhs, (*rows, *first)), (math.prod(lhs.shape[i] for i in rows), shared)
    )
    right = manipulation.reshape(
        manipulation.permute_dims(rhs, (*second, *columns)), (shared, math.prod(rhs.shape[i] for i in columns))
    )
    return manipulation.reshape(apply(contraction.dot, (left, right), {}), shape)


def outer(x1: Any, x2: Any) -> Tensor:
    """All products of an element of one vector with one of the other."""
    lhs, rhs = operands("outer", as_tensor(x1, "outer"), as_tensor(x2, "outer"))
    if lhs.ndim != 1 or rhs.ndim != 1:
        shapes = f"{format_shape(lhs.shape)} and {format_shape(rhs.shape)}"
        raise at_user_line(ValueError(f"outer: needs two vectors, got shapes {shapes}"))
    return elementwise.multiply(manipulation.expand_dims(lhs, 1), rhs)


def cross(x1: Any, x2: Any, axis: int = -1) -> Tensor:
    """The cross products of three-dimensional vectors along ``axis``."""
    lhs, rhs = operands("cross", as_tensor(x1, "cross"), as_tensor(x2, "cross"))
    lhs, rhs = _to_end(lhs, axis), _to_end(rhs, axis)
    if lhs.shape[-1] != 3 or rhs.shape[-1] != 3:
        raise at_user_line(ValueError(f"cross: vectors must have 3 elements, got {lhs.shape[-1]} and {rhs.shape[-1]}"))
    a, b = ([tensor[..., i] for i in range(3)] for tensor in (lhs, rhs))
    parts = [
        elementwise.subtract(elementwise.multiply(a[i], b[j]), elementwise.multiply(a[j], b[i]))
        for i, j in ((1, 2), (2, 0), (0, 1))
    ]
    return manipulation.stack(parts, axis)


def dot(x: Any, y: Any) -> Tensor:
    """NumPy's product: over the last axis of ``x`` and the last but one of ``y`` (the only one of a vector).

    >>> import tracejit as tj
    >>> tj.dot(tj.tensor([1.0, 2.0]), tj.tensor([3.0, 4.0]))
    tensor(11.)
    """
    first, second = operands("dot", as_tensor(x, "dot"), as_tensor(y, "dot"))
    if first.ndim == 0 or second.ndim == 0:
        return elementwise.multiply(first, second)
    return tensordot(first, second, ([-1], [-1 if second.ndim == 1 else -2]))


def inner(x: Any, y: Any) -> Tensor:
    """The products of ``x`` and ``y`` summed over the last axis of each."""
    first, second = operands("inner", as_tensor(x, "inner"), as_tensor(y, "inner"))
    if first.ndim == 0 or second.ndim == 0:
        return elementwise.multiply(first, second)
    return tensordot(first, second, ([-1], [-1]))


def vdot(x: Any, y: Any) -> Tensor:
    """The sum of the products of all elements, those of ``x`` conjugated."""
    first, second = operands("vdot", as_tensor(x, "vdot"), as_tensor(y, "vdot"))
    return vecdot(manipulation.reshape(first, (-1,)), manipulation.reshape(second, (-1,)))


def kron(x: Any, y: Any) -> Tensor:
    """Kronecker's product: blocks of ``y``, each times one element of ``x``.

    >>> import tracejit as tj
    >>> tj.kron(tj.tensor([1, 10]), tj.tensor([1, 2]))
    tensor([ 1,  2, 10, 20])
    """
    first, second = operands("kron", as_tensor(x, "kron"), as_tensor(y, "kron"))
    ndim = first.ndim if first.ndim >= second.ndim else second.ndim
    outer, inner = ((1,) * (ndim - tensor.ndim) + tensor.shape for tensor in (first, second))
    left = manipulation.reshape(first, [n for extent in outer for n in (extent, 1)])
    right = manipulation.reshape(second, [n for extent in inner for n in (1, extent)])
    return manipulation.reshape(elementwise.multiply(left, right), [m * n for m, n in zip(outer, inner, strict=True)])


def einsum(subscripts: str, *tensors: Any) -> Tensor:
    """Einstein's summation: each operand's axes are named by letters, letters missing from the output are summed.

    >>> import tracejit as tj
    >>> tj.einsum("ij,jk->ik", tj.ones(2, 3), tj.ones(3, 4)).shape
    (2, 4)
    """
    values = list(operands("einsum", *(as_tensor(item, "einsum") for item in tensors)))
    inputs, output = _subscripts(subscripts, values)
    terms = list(zip(inputs, values, strict=True))
    terms = [_diagonals(names, tensor) for names, tensor in terms]
    while len(terms) > 1:
        (first, lhs), (second, rhs), *rest = terms
        needed = set(output).union(*(names for names, _ in rest))
        terms = [_contract(first, lhs, second, rhs, needed), *rest]
    names, tensor = terms[0]
    gone = tuple(i for i, name in enumerate(names) if name not in output)
    if gone:
        tensor = reduction.sum(tensor, gone, dtype=tensor.dtype)
        names = [name for name in names if name in output]
    return manipulation.permute_dims(tensor, [names.index(name) for name in output])


def _subscripts(subscripts: str, tensors: list[Tensor]) -> tuple[list[list[str]], list[str]]:
    """The names of each operand's axes and of the output's; an ellipsis stands for names of its own."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(tensors):
        raise at_user_line(ValueError(f"einsum: {subscripts!r} names {len(texts)} operands, got {len(tensors)}"))
    widest = 0
    inputs: list[list[str]] = []
    for text, tensor in zip(texts, tensors, strict=True):
        before, dots, after = text.partition("...")
        count = tensor.ndim - len(before) - len(after)
        if count < 0 or (count and not dots):
            raise at_user_line(
                ValueError(f"einsum: {text!r} does not fit an operand of shape {format_shape(tensor.shape)}")
            )
        widest = max(widest, count) if dots else widest
        inputs.append([*before, *(f".{count - i}" for i in range(count)), *after])
    ellipsis = [f".{widest - i}" for i in range(widest)]
    if arrow:
        before, dots, after = right.partition("...")
        output = [*before, *(ellipsis if dots else []), *after]
    else:
        names = [name for item in inputs for name in item if not name.startswith(".")]
        output = [*ellipsis, *sorted(name for name in set(names) if names.count(name) == 1)]
    unknown = [name for name in output if not any(name in item for item in inputs)]
    if unknown or len(set(output)) != len(output):
        raise at_user_line(ValueError(f"einsum: the output of {subscripts!r} has an unknown or repeated subscript"))
    return inputs, output


def _diagonals(names: list[str], tensor: Tensor) -> tuple[list[str], Tensor]:
    """A repeated name taken as the diagonal over its axes."""
    from .arrangement import diagonal, moveaxis

    while len(set(names)) != len(names):
        name = next(name for name in names if names.count(name) > 1)
        first, second = [i for i, item in enumerate(names) if item == name][:2]
        tensor = diagonal(moveaxis(tensor, (first, second), (-2, -1)))
        names = [item for i, item in enumerate(names) if i not in (first, second)] + [name]
    return names, tensor


def _contract(
    first: list[str], lhs: Tensor, second: list[str], rhs: Tensor, needed: set[str]
) -> tuple[list[str], Tensor]:
    """Two operands made one: a batched matrix product."""
    extents: dict[str, int] = {}
    for names, tensor in (first, lhs), (second, rhs):
        for name, extent in zip(names, tensor.shape, strict=True):
            if name in extents and extents[name] != extent and extent != 1 and extents.get(name, 1) != 1:
                raise at_user_line(ValueError(f"einsum: subscript {name!r} has extents {extents[name]} and {extent}"))
            extents[name] = extent if extents.get(name, 1) == 1 else extents[name]
    lhs, rhs = (
        manipulation.broadcast_to(tensor, [extents[name] for name in names])
        for names, tensor in ((first, lhs), (second, rhs))
    )
    for own, other in (first, second), (second, first):  # what only one operand has, and nobody needs
        gone = tuple(i for i, name in enumerate(own) if name not in other and name not in needed)
        if gone and own is first:
            lhs, first = reduction.sum(lhs, gone, dtype=lhs.dtype), [n for i, n in enumerate(own) if i not in gone]
        elif gone:
            rhs, second = reduction.sum(rhs, gone, dtype=rhs.dtype), [n for i, n in enumerate(own) if i not in gone]
    batch = [name for name in first if name in second and name in needed]
    summed = [name for name in first if name in second and name not in needed]
    rows = [name for name in first if name not in second]
    columns = [name for name in second if name not in first]
    if not summed:  # no sum: a product of elements
        names = batch + rows + columns
        left = _arranged(lhs, first, batch + rows, [extents[n] if n in first else 1 for n in names])
        right = _arranged(rhs, second, batch + columns, [extents[n] if n in second else 1 for n in names])
        return names, elementwise.multiply(left, right)
    count = [math.prod(extents[name] for name in group) for group in (rows, summed, columns)]
    lead = [extents[name] for name in batch]
    left = _arranged(lhs, first, batch + rows + summed, [*lead, count[0], count[1]])
    right = _arranged(rhs, second, batch + summed + columns, [*lead, count[1], count[2]])
    product = apply(contraction.dot, (left, right), {})
    names = batch + rows + columns
    return names, manipulation.reshape(product, [extents[name] for name in names])


def _arranged(tensor: Tensor, names: list[str], order: list[str], shape: list[int]) -> Tensor:
    return manipulation.reshape(manipulation.permute_dims(tensor, [names.index(name) for name in order]), shape)
