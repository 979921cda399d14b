"""``vmap``: a function of one example made one of a batch; and what the examples can tell each other."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.ir import Block, Primitive
from tracejit.ir.batching import BatchedApplication
from tracejit.ir.extents import as_float
from tracejit.ir.primitives.collective import Collective, all_gather, all_reduce, gather_batch, split_batch
from tracejit.ir.primitives.control import Control
from tracejit.ir.types import format_shape, int64
from tracejit.ir.vectorize import batch_control, differs_in_end

from .. import dispatch, tree
from ..levels import Box, Level
from ..locations import at_user_line
from ..ops import arrangement, elementwise, manipulation, reduction
from ..promotion import as_tensor
from ..state import thread
from ..tape import apply, same_value, tensor_emitter
from ..tensor import Tensor, new_tensor
from .arguments import checked_callable, flat, name_of, outside, paths, wraps

RANDOMNESS = ("error", "different", "same")
_emitter = tensor_emitter()


class Batched(Box):
    """A value for each place along the first axis of ``tensor``; or, if not ``is_batched``, one for all places."""

    __slots__ = ("is_batched",)
    level: Batch

    def __init__(self, level: Batch, tensor: Tensor, is_batched: bool) -> None:
        super().__init__(level, tensor, tensor.shape[1:] if is_batched else tensor.shape)
        self.is_batched = is_batched

    def seen(self, what: str) -> Tensor:
        if not self.is_batched:
            return self.tensor
        raise at_user_line(
            RuntimeError(
                f"vmap: {what} needs one value, but this tensor has {self.level.size}, one for each element of the "
                "batch. Python runs the function once for all of them: choose with tj.where(condition, x, y) or "
                "tj.cond instead of a Python branch, or leave this argument out of the batch (in_axes=None)"
            )
        )

    def detached(self) -> Batched:
        return Batched(self.level, self.tensor.detach(), self.is_batched)

    def everywhere(self) -> Tensor:
        return reduction.all(self.tensor, 0) if self.is_batched else self.tensor


class Batch(Level):
    """A level whose values are batches."""

    name = "vmap"
    differentiates = False

    def __init__(self, size: int, axis_name: Any, randomness: str) -> None:
        super().__init__()
        self.size, self.axis_name, self.randomness = size, axis_name, randomness

    def lifted(self, tensor: Tensor) -> Batched:
        return Batched(self, same_value(tensor), False)

    def process(
        self, primitive: Primitive, boxes: Sequence[Any], attributes: Mapping[str, Any], active: bool
    ) -> Batched:
        operands = tuple([box.tensor for box in boxes])
        is_batched = tuple([box.is_batched for box in boxes])
        if not any(is_batched):
            return Batched(self, apply(primitive, operands, attributes), False)
        application = BatchedApplication(primitive, attributes, operands, is_batched, self.size)
        if isinstance(primitive, Collective) and attributes["axis"] == self.depth:
            if primitive is split_batch:
                return Batched(self, _own_part(operands[0]) if is_batched[0] else operands[0], True)
            return Batched(self, primitive.join(_emitter, application.stretched(_emitter, 0)), False)
        if primitive.batch is None:
            raise at_user_line(NotImplementedError(f"vmap: {primitive.name} has no batching rule"))
        return Batched(self, primitive.batch(_emitter, application), True)

    def part_of(self, value: Any) -> bool:
        """Whether what a tensor holds is, some levels down, a batch of this level."""
        while isinstance(value, Box) and not self.has(value):
            below = value.below
            value = None if below is None else below._value
        return isinstance(value, Batched) and value.is_batched

    def process_control(
        self,
        primitive: Primitive,
        boxes: Sequence[Any],
        attributes: Mapping[str, Any],
        regions: Sequence[Block],
        active: bool,
    ) -> Sequence[Batched]:
        assert isinstance(primitive, Control)
        operands, flags = [box.tensor for box in boxes], [box.is_batched for box in boxes]
        try:
            results, are_batched = batch_control(_emitter, primitive, operands, flags, self.size, attributes, regions)
        except NotImplementedError as error:
            raise at_user_line(error) from None
        return [Batched(self, x, flag) for x, flag in zip(results, are_batched, strict=True)]

    def has_one_value(self, box: Any) -> bool:
        return not box.is_batched

    @property
    def index(self) -> Tensor:
        """The number of each place."""
        return new_tensor(Batched(self, new_tensor(dispatch.payload_emitter.iota(size=self.size, dtype=int64)), True))


def _own_part(wholes: Tensor) -> Tensor:
    """Of an array that has a part for each element of a batch, and is different for each, each element's own part."""
    numbers = _emitter.iota(size=wholes.shape[0], dtype=int64)
    return _emitter.gather(wholes, numbers, numbers, axes=(0, 1))


# vmap -----------------------------------------------------------------------------------------------


def vmap(
    function: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
    randomness: str = "error",
) -> Callable[..., Any]:
    """A function that applies ``function`` to each element of a batch, all at once.

    ``in_axes`` says along which axis the arguments are batches: an int for all, or a tuple with an entry for each
    positional argument; an entry is an int, ``None`` for an argument that all elements share, or a container of entries
    built as the argument is.  Keyword arguments are batches along their first axis.  ``out_axes`` says in the same way
    where the batch is in the results.  ``axis_name`` names the batch for :func:`psum` and the like, ``axis_size`` gives
    its size where no argument does.

    Random numbers drawn in ``function`` raise ``RuntimeError`` unless ``randomness`` says whether each element draws
    its own (``"different"``) or all draw the ``"same"``.  Python sees the values of none of the elements: a branch
    like ``if x > 0:`` raises ``RuntimeError``; :func:`tracejit.where` chooses for each.

    >>> import tracejit as tj
    >>> tj.vmap(lambda row, shift: row.sum() + shift, in_axes=(0, None))(
    ...     tj.tensor([[1.0, 2.0], [3.0, 4.0]]), 10.0
    ... )
    tensor([13., 17.])
    >>> tj.vmap(tj.grad(tj.sin))(tj.zeros(3))
    tensor([1., 1., 1.])
    """
    checked_callable("vmap", function)
    if randomness not in RANDOMNESS:
        raise at_user_line(ValueError(f"vmap: randomness must be one of {', '.join(RANDOMNESS)}, got {randomness!r}"))
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)

    @wraps(function)
    def batched(*args: Any, **kwargs: Any) -> Any:
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise at_user_line(
                ValueError(
                    f"vmap: in_axes must have an entry for each positional argument, but its length is "
                    f"{len(in_axes)} and {name_of(function)} was called with {len(args)} arguments"
                )
            )
        leaves, structure = flat((args, kwargs))
        axes = [*_spread("in_axes", in_axes, flat(args)[1]), *_spread("in_axes", 0, flat(kwargs)[1])]
        names = functools.partial(_names, args, kwargs)
        items = [_argument(leaf, axis, names, i) for i, (leaf, axis) in enumerate(zip(leaves, axes, strict=True))]
        level = Batch(_size(items, axis_size), axis_name, randomness)
        with level:
            inputs = [leaf if x is None else new_tensor(Batched(level, x, True)) for x, _, leaf in items]
            call_args, call_kwargs = tree.unflatten(structure, iter(inputs))
            result = function(*call_args, **call_kwargs)
            found, built = flat(result)
        places = _spread("out_axes", out_axes, built)
        results = [_result(level, leaf, place) for leaf, place in zip(found, places, strict=True)]
        del inputs, call_args, call_kwargs, result, found
        level.settle()
        return tree.unflatten(built, iter(results))

    return batched


def _spread(what: str, axes: Any, structure: tree.Structure) -> list[int | None]:
    """An axis for each leaf; an entry of ``axes`` counts for all leaves of what stands in its place."""
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return [axes] * _count(structure)
    if structure is not None:
        kind, keys, children = structure
        entries: list[Any] = []
        if isinstance(axes, dict) and kind is dict and set(axes) == set(keys):
            entries = [axes[key] for key in keys]
        elif isinstance(axes, tuple | list) and kind is not dict:
            entries = list(axes)
        if len(entries) == len(children):
            parts = [_spread(what, entry, child) for entry, child in zip(entries, children, strict=True)]
            return [axis for part in parts for axis in part]
    raise at_user_line(
        TypeError(f"vmap: {what} must hold ints, None, or containers of those as the values have them, got {axes!r}")
    )


def _count(structure: tree.Structure) -> int:
    return 1 if structure is None else sum(_count(child) for child in structure[2])


def _argument(
    leaf: Any, axis: int | None, names: Callable[[], Sequence[str]], number: int
) -> tuple[Tensor | None, int | None, Any]:
    """A batched argument's tensor, the batch moved to the front; its axis; the leaf itself."""
    if axis is None or leaf is None:
        return None, None, leaf
    tensor = as_tensor(leaf, "vmap")
    if not -tensor.ndim <= axis < tensor.ndim:
        found = f"{tensor.ndim} {'axis' if tensor.ndim == 1 else 'axes'}: shape {format_shape(tensor.shape)}"
        raise at_user_line(ValueError(f"vmap: in_axes is {axis}, but {names()[number]} has {found}"))
    return arrangement.moveaxis(tensor, axis, 0), axis, leaf


def _names(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """What to call each leaf of the arguments in an error."""
    named = [*((f"argument {i}", arg) for i, arg in enumerate(args)), *kwargs.items()]
    return [path for name, arg in named for path in paths(flat(arg)[1], name)]


def _size(items: Sequence[tuple[Tensor | None, int | None, Any]], axis_size: int | None) -> int:
    sizes = [tensor.shape[0] for tensor, _, _ in items if tensor is not None]
    if axis_size is not None:
        sizes.append(axis_size)
    if not sizes:
        raise at_user_line(
            ValueError("vmap: no argument is a batch; say along which axis one is with in_axes, or give axis_size")
        )
    if any(size != sizes[0] for size in sizes):
        shapes = ", ".join(
            f"{leaf.shape[axis]} along axis {axis} of shape {format_shape(leaf.shape)}"
            for _, axis, leaf in items
            if axis is not None
        )
        given = f", axis_size={axis_size}" if axis_size is not None else ""
        raise at_user_line(ValueError(f"vmap: the arguments are batches of different sizes: {shapes}{given}"))
    return sizes[0]


def _result(level: Batch, leaf: Any, place: int | None) -> Any:
    """A leaf of the result, its batch at ``place``."""
    if leaf is None:
        return None
    box = as_tensor(leaf, "the result of a function under vmap")._value
    is_batched = level.has(box) and box.is_batched
    value = outside(level, leaf if isinstance(leaf, Tensor) else as_tensor(leaf, "vmap"))
    if place is None:
        if is_batched:
            message = "vmap: out_axes is None, but the result differs from element to element of the batch"
            raise at_user_line(ValueError(message))
        return value
    if not is_batched:
        value = manipulation.broadcast_to(value, (level.size, *value.shape))
    if not -value.ndim <= place < value.ndim:
        shape = format_shape(value.shape[1:])
        raise at_user_line(ValueError(f"vmap: out_axes is {place}, but the result of shape {shape} has no such place"))
    return arrangement.moveaxis(value, 0, place)


def loop_of_the_batch(
    level: Level,
    primitive: Control,
    operands: Sequence[Tensor],
    attributes: Mapping[str, Any],
    regions: Sequence[Block],
) -> list[Tensor] | None:
    """A loop that ends for each element of a batch at a time of its own, in a function that is differentiated.

    The loop's derivative would have to be batched, and takes as many steps back as the loop took, one number for all.
    So here, above the derivative, it is made a loop of the whole batch first.  ``None`` where there is no need.
    """
    batch = level.outer
    while batch is not None:
        if isinstance(batch, Batch):
            flags = [batch.part_of(operand._value) for operand in operands]
            if differs_in_end(primitive, flags, batch.size, attributes, regions):
                break
        batch = batch.outer
    else:
        return None
    place = {"axis": batch.depth, "size": batch.size}
    whole = [
        apply(gather_batch, (x, batch.index), place) if flag else x for x, flag in zip(operands, flags, strict=True)
    ]
    results, are_batched = batch_control(_emitter, primitive, whole, flags, batch.size, attributes, regions)
    return [
        apply(split_batch, (x, batch.index), place) if flag else x for x, flag in zip(results, are_batched, strict=True)
    ]


# Random numbers -------------------------------------------------------------------------------------


def spread_draw(draw: Callable[[int], Tensor], count: int) -> Tensor:
    """What a generator draws: ``count`` numbers, for each element of the batches that draw their own.

    The n-th element gets what the n-th of as many draws in a row would.
    """
    batches: list[Batch] = []
    for level in _around():
        if isinstance(level, Batch):
            if level.randomness == "error":
                raise at_user_line(
                    RuntimeError(
                        "vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                        "'different' randomness flags on vmap or perform the randomness operation out of vmap"
                    )
                )
            if level.randomness == "different":
                batches.insert(0, level)
    if not batches:
        return draw(count)
    _refuse_in_block("random numbers that differ from element to element of a batch")
    step = -(-count // 4) * 4  # draws take blocks of four
    sizes = [batch.size for batch in batches]
    drawn = manipulation.reshape(draw(int(np.prod(sizes)) * step), (*sizes, step))[..., :count]
    for batch in batches:
        drawn = new_tensor(Batched(batch, drawn, True))
    return drawn


def _around() -> Iterator[Level]:
    """The transformations that are running, the innermost first; those around a block that is recorded too."""
    for level in (thread.level, thread.hidden):
        while level is not None:
            yield level
            level = level.outer


def _refuse_in_block(what: str) -> None:
    """Leave it to Python to call the function whose block is recorded: no block holds such things."""
    if thread.hidden is not None:
        from ..regions import CannotCapture

        raise CannotCapture(what)


# Collectives ----------------------------------------------------------------------------------------


def _named(name: Any) -> Batch:
    for level in _around():
        if isinstance(level, Batch) and level.axis_name == name and name is not None:
            _refuse_in_block("what elements of a batch tell each other")
            return level
    raise at_user_line(NameError(f"unbound axis name: {name!r} is the axis_name of no vmap that is running"))


def _all_named(names: Any) -> list[Batch]:
    """The batches that a name stands for, or each of a tuple of names."""
    return [_named(name) for name in (names if isinstance(names, tuple | list) else (names,))]


def _collective(primitive: Collective, x: Any, batch: Batch) -> Tensor:
    attributes = {"axis": batch.depth, "size": batch.size}
    return apply(primitive, (as_tensor(x, primitive.name), batch.index), attributes)


def axis_index(axis_name: Any) -> Tensor:
    """Which element of the batch this is; of several batches together, counted with the last name fastest.

    >>> import tracejit as tj
    >>> tj.vmap(lambda x: x + tj.axis_index("batch"), axis_name="batch")(tj.zeros(3))
    tensor([0., 1., 2.])
    """
    first, *others = _all_named(axis_name)
    index = first.index
    for batch in others:
        index = elementwise.add(elementwise.multiply(index, batch.size), batch.index)
    return index


def axis_size(axis_name: Any) -> int:
    """How many elements the batch has, or several batches together."""
    return math.prod(batch.size for batch in _all_named(axis_name))


def psum(x: Any, axis_name: Any) -> Any:
    """The sum of ``x`` (or of each tensor in a container) over the batch that :func:`vmap` calls ``axis_name``.

    A tuple of names stands for all elements of several batches.

    >>> import tracejit as tj
    >>> tj.vmap(lambda x: x / tj.psum(x, "batch"), axis_name="batch")(tj.tensor([1.0, 3.0]))
    tensor([0.25, 0.75])
    """
    return _over(x, axis_name, lambda leaf, batch: _collective(all_reduce, leaf, batch))


def pmean(x: Any, axis_name: Any) -> Any:
    """The mean over the batch; see :func:`psum`."""
    size = axis_size(axis_name)
    return tree.map_leaves(lambda total: elementwise.divide(total, as_float(size)), psum(x, axis_name))


def pmax(x: Any, axis_name: Any) -> Any:
    """The largest over the batch; see :func:`psum`."""
    return _over(x, axis_name, lambda leaf, batch: reduction.max(_collective(all_gather, leaf, batch), 0))


def pmin(x: Any, axis_name: Any) -> Any:
    """The smallest over the batch; see :func:`psum`."""
    return _over(x, axis_name, lambda leaf, batch: reduction.min(_collective(all_gather, leaf, batch), 0))


def _over(x: Any, axis_name: Any, collective: Callable[[Any, Batch], Tensor]) -> Any:
    batches = _all_named(axis_name)
    return tree.map_leaves(lambda leaf: functools.reduce(collective, batches, leaf), x)


__all__ = ["axis_index", "axis_size", "pmax", "pmean", "pmin", "psum", "vmap"]
