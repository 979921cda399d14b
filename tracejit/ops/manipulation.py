"""Changing the shape or the order of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from tracejit.ir.primitives import indexing, placement, view
from tracejit.ir.types import TensorType, bool_, broadcast_shapes, format_shape, same_shape

from .. import dispatch
from ..locations import at_user_line
from ..promotion import as_tensor, operands
from ..tape import apply, same_value, tensor_emitter
from ..tensor import Tensor, concrete_tensor, is_plain, new_tensor
from .axes import normalize_axes, normalize_axis, normalize_extents


def reshape(x: Any, shape: int | Sequence[int], copy: bool | None = None) -> Tensor:
    """The same elements, in the same order, under another shape; one extent may be -1.

    ``copy`` is accepted for the standard's sake: tensors are values, whether they share memory cannot be seen.

    >>> import tracejit as tj
    >>> tj.reshape(tj.arange(6), (2, -1)).shape
    (2, 3)
    """
    return _reshape(x, shape)


def _reshape(x: Any, shape: int | Sequence[int]) -> Tensor:
    if is_plain(x):
        try:
            return concrete_tensor(x._value.reshape(shape))
        except (TypeError, ValueError):
            pass  # to be told in this library's words
    tensor = as_tensor(x, "reshape")
    wanted = [*normalize_extents("reshape", shape)]
    if wanted.count(-1) == 1:
        rest = -math.prod(wanted)
        if rest == 0 or tensor.size % rest:
            raise at_user_line(
                ValueError(f"reshape: shape {format_shape(wanted)} is invalid for a tensor of size {tensor.size}")
            )
        wanted[wanted.index(-1)] = tensor.size // rest
    if math.prod(wanted) != tensor.size or any(extent < 0 for extent in wanted):
        raise at_user_line(
            ValueError(
                f"reshape: cannot reshape a tensor of shape {format_shape(tensor.shape)} "
                f"into shape {format_shape(wanted)}"
            )
        )
    if same_shape(wanted, tensor.shape):
        return same_value(tensor)
    return apply(view.reshape, (tensor,), {"shape": tuple(wanted)})


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from ``start_dim`` to ``end_dim`` (inclusive) made one."""
    tensor = as_tensor(x, "flatten")
    if tensor.ndim == 0:
        return reshape(tensor, (1,))
    first, last = normalize_axis("flatten", start_dim, tensor.ndim), normalize_axis("flatten", end_dim, tensor.ndim)
    shape = tensor.shape
    return reshape(tensor, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def permute_dims(x: Any, axes: Sequence[int]) -> Tensor:
    """The axes in another order."""
    tensor = as_tensor(x, "permute_dims")
    order = tuple(normalize_axis("permute_dims", axis, tensor.ndim) for axis in axes)
    if sorted(order) != list(range(tensor.ndim)):
        raise at_user_line(
            ValueError(f"permute_dims: {tuple(axes)} is no order of the axes of shape {format_shape(tensor.shape)}")
        )
    if order == tuple(range(tensor.ndim)):
        return same_value(tensor)
    return apply(view.transpose, (tensor,), {"permutation": order})


def transpose(x: Any, dim0: int | Sequence[int] | None = None, dim1: int | None = None, *more: int) -> Tensor:
    """Two axes exchanged; or as in NumPy all axes in the order given, in reverse order by default.

    >>> import tracejit as tj
    >>> x = tj.ones(2, 3, 4)
    >>> tj.transpose(x, 0, 1).shape, tj.transpose(x).shape, tj.transpose(x, (1, 2, 0)).shape
    ((3, 2, 4), (4, 3, 2), (3, 4, 2))
    """
    return _transpose(x, dim0, dim1, *more)


def _transpose(x: Any, dim0: int | Sequence[int] | None, dim1: int | None, *more: int) -> Tensor:
    if dim0 is None and is_plain(x):
        return concrete_tensor(x._value.T)
    tensor = as_tensor(x, "transpose")
    if dim0 is None:
        if tensor.ndim < 2:
            return same_value(tensor)
        return apply(view.transpose, (tensor,), {"permutation": (*range(tensor.ndim)[::-1],)})
    if not isinstance(dim0, int):
        return permute_dims(tensor, dim0)
    if more or dim1 is None:
        return permute_dims(tensor, (dim0, *(() if dim1 is None else (dim1,)), *more))
    first, second = normalize_axis("transpose", dim0, tensor.ndim), normalize_axis("transpose", dim1, tensor.ndim)
    order = list(range(tensor.ndim))
    order[first], order[second] = second, first
    return permute_dims(tensor, order)


def matrix_transpose(x: Any) -> Tensor:
    """The last two axes exchanged."""
    if is_plain(x) and x.ndim > 1:
        return concrete_tensor(x._value.swapaxes(-1, -2))
    tensor = as_tensor(x, "matrix_transpose")
    if tensor.ndim < 2:
        raise at_user_line(ValueError(f"matrix_transpose: needs two axes, got shape {format_shape(tensor.shape)}"))
    return transpose(tensor, -2, -1)


def expand_dims(x: Any, axis: int | Sequence[int] = 0) -> Tensor:
    """A new axis of extent 1 at ``axis``, or at each of several axes of the result."""
    tensor = as_tensor(x, "expand_dims")
    if not isinstance(axis, int):
        positions = [normalize_axis("expand_dims", item, tensor.ndim + len(axis)) for item in axis]
        if len(set(positions)) != len(positions):
            raise at_user_line(ValueError(f"expand_dims: an axis appears twice in {tuple(axis)}"))
        for position in sorted(positions):
            tensor = expand_dims(tensor, position)
        return same_value(tensor)
    position = normalize_axis("expand_dims", axis, tensor.ndim + 1)
    return reshape(tensor, (*tensor.shape[:position], 1, *tensor.shape[position:]))


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without axes of extent 1: those given (``ValueError`` if longer), or all."""
    tensor = as_tensor(x, "squeeze")
    if axis is None:
        return reshape(tensor, tuple(extent for extent in tensor.shape if extent != 1))
    axes = normalize_axes("squeeze", axis, tensor.ndim)
    for item in axes:
        if tensor.shape[item] != 1:
            raise at_user_line(
                ValueError(f"squeeze: axis {item} of shape {format_shape(tensor.shape)} does not have extent 1")
            )
    return reshape(tensor, tuple(extent for i, extent in enumerate(tensor.shape) if i not in axes))


def broadcast_to(x: Any, shape: int | Sequence[int]) -> Tensor:
    """``x`` stretched to ``shape`` by NumPy's rule."""
    tensor = as_tensor(x, "broadcast_to")
    wanted = normalize_extents("broadcast_to", shape)
    if same_shape(tensor.shape, wanted):
        return same_value(tensor)
    try:
        fits = not any(extent < 0 for extent in wanted) and same_shape(broadcast_shapes(tensor.shape, wanted), wanted)
    except ValueError:
        fits = False
    if not fits:
        raise at_user_line(
            ValueError(
                f"broadcast_to: shape {format_shape(tensor.shape)} cannot be broadcast to {format_shape(wanted)}"
            )
        )
    offset = len(wanted) - tensor.ndim
    dimensions = tuple(range(offset, len(wanted)))
    return apply(view.broadcast_in_dim, (tensor,), {"shape": wanted, "dimensions": dimensions})


def sum_to(x: Any, shape: Sequence[int]) -> Tensor:
    """``x`` summed over the axes along which ``shape`` would be stretched to ``x``'s: the adjoint of broadcasting.

    >>> import tracejit as tj
    >>> sum_to(tj.ones(2, 3), (3,))
    tensor([2., 2., 2.])
    """
    tensor = as_tensor(x, "sum_to")
    wanted = tuple(shape)
    broadcast_to(new_tensor(dispatch.payload_emitter.full(0, TensorType(tensor.dtype, wanted))), tensor.shape)
    return tensor_emitter().sum_to(tensor, wanted)


def concat(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Tensors one after the other along ``axis``; flattened first for ``None``.

    >>> import tracejit as tj
    >>> tj.concat([tj.tensor([1.0]), tj.tensor([2.0, 3.0])])
    tensor([1., 2., 3.])
    """
    if len(arrays) == 0:
        raise at_user_line(ValueError("concat: expected at least one tensor"))
    tensors = operands("concat", *(as_tensor(item, "concat") for item in arrays))
    if axis is None:
        tensors, axis = [reshape(tensor, (tensor.size,)) for tensor in tensors], 0
    dimension = normalize_axis("concat", axis, tensors[0].ndim)
    return apply(placement.concatenate, tensors, {"dimension": dimension})


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    tensors = [as_tensor(item, "stack") for item in arrays]
    for position, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise at_user_line(
                ValueError(
                    f"stack expects each tensor to be equal size, but got {list(tensors[0].shape)} at entry 0 and "
                    f"{list(tensor.shape)} at entry {position}"
                )
            )
    return concat([expand_dims(tensor, axis) for tensor in tensors], axis)


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """The order along the axes (all, by default) reversed."""
    tensor = as_tensor(x, "flip")
    dimensions = normalize_axes("flip", axis, tensor.ndim)
    return apply(view.reverse, (tensor,), {"dimensions": dimensions}) if dimensions else same_value(tensor)


# Padding --------------------------------------------------------------------------------------------

Mode = Literal["constant", "edge", "reflect", "symmetric", "wrap"]
Width = int | Sequence[int] | Sequence[Sequence[int]]
_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def pad(x: Any, pad_width: Width, mode: Mode = "constant", constant_values: Any = 0) -> Tensor:
    """Elements added before and after those along each axis.

    ``pad_width`` is a number, a pair ``(before, after)`` for all axes, or a pair for each.  What is added is
    ``constant_values`` (one, or pairs likewise), or by ``mode`` the nearest element (``"edge"``), the elements mirrored
    at the last one (``"reflect"``) or behind it (``"symmetric"``), or those of the other end (``"wrap"``).

    >>> import tracejit as tj
    >>> tj.pad(tj.tensor([1, 2, 3]), (1, 2), "reflect")
    tensor([2, 1, 2, 3, 2, 1])
    """
    tensor = as_tensor(x, "pad")
    widths = _widths(pad_width, tensor)
    if mode not in _MODES:
        raise at_user_line(ValueError(f"pad: mode must be one of {', '.join(_MODES)}, got {mode!r}"))
    if mode == "constant" and isinstance(constant_values, tuple | list):
        for axis, fills in enumerate(np.broadcast_to(np.asarray(constant_values), (tensor.ndim, 2)).tolist()):
            for side, fill in enumerate(fills):
                one = [(0, 0)] * tensor.ndim
                one[axis] = (0, widths[axis][1]) if side else (widths[axis][0], 0)
                tensor = pad(tensor, one, constant_values=fill)
        return tensor
    if mode == "constant":
        fill = bool(constant_values) if tensor.dtype == bool_ else constant_values
        tensor, value = operands("pad", tensor, fill)
        low, high = (tuple(side) for side in zip(*widths, strict=True)) if widths else ((), ())
        return apply(placement.pad, (tensor, value), {"low": low, "high": high, "interior": (0,) * tensor.ndim})
    for axis, (before, after) in enumerate(widths):
        if before or after:
            tensor = _extended(tensor, axis, before, after, mode)
    return tensor if tensor is not x else permute_dims(tensor, range(tensor.ndim))


def _widths(pad_width: Width, x: Tensor) -> list[tuple[int, int]]:
    try:
        table = np.broadcast_to(np.asarray(pad_width, np.int64), (x.ndim, 2))
    except (ValueError, TypeError):
        message = f"pad: needs one (before, after) an axis of shape {format_shape(x.shape)}, got {pad_width}"
        raise at_user_line(ValueError(message)) from None
    if (table < 0).any():
        raise at_user_line(ValueError(f"pad: widths must not be negative, got {pad_width}"))
    return [(int(before), int(after)) for before, after in table]


def _extended(x: Tensor, axis: int, before: int, after: int, mode: Any) -> Tensor:
    """Along one axis: NumPy says which element stands where."""
    extent = x.shape[axis]
    if extent == 0:
        raise at_user_line(ValueError(f"pad: can't extend empty axis {axis} of shape {format_shape(x.shape)}"))
    numbers: Any = np.arange(extent)
    places = new_tensor(dispatch.constant_payload(np.pad(numbers, (before, after), mode=mode)))
    gathered = apply(indexing.gather, (x, places), {"axes": (axis,)})
    return permute_dims(gathered, [*range(1, axis + 1), 0, *range(axis + 1, x.ndim)])
