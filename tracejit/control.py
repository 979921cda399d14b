"""Control flow as functions of functions, with JAX's names and meaning: ``cond``, ``while_loop``, ``scan`` and others.

The functions given are run once or twice, to record what they do as blocks of a graph (see :mod:`.structured`), and
that runs natively as often as it has to; eagerly and under ``jit`` alike, to the bit.  They may read tensors from
around them, which get their gradients, and change tensors in place.  A function that does what no block holds
(printing, asking for a value, changing Python objects) is called by Python at each step instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.extents import as_extent

from .batched_control import chosen_for_each, is_batch, repeated
from .blocks import (
    Packed,
    Unrecorded,
    as_tensor,
    described,
    pack,
    recording,
    same_structure,
    shared_dtypes,
    truth,
)  # fmt: skip
from .locations import at_user_line
from .ops import elementwise, manipulation
from .ops.creation import tensor
from .promotion import kind
from .regions import CannotCapture, HasRules
from .state import thread
from .structured import branches, scan as scan_block, while_loop as while_block
from .tensor import Tensor
from .tracing import Trace
from .transforms.arguments import checked_callable, flat, name_of

UNROLLED = 64  # steps of a loop that are recorded one after the other where no block can hold one

# Branches -------------------------------------------------------------------------------------------


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands)`` if ``pred`` else ``false_fun(*operands)``, where ``pred`` is a 0-d tensor.

    Both functions must return the same: containers of one structure, tensors of the same shapes and dtypes; Python
    numbers take the dtype of what the other returns.  Only the one that is chosen is computed.  Where ``pred`` is
    Python's, so is the choice.  Raises ``TypeError`` where ``pred`` is no scalar, and where the functions' results
    differ, naming what does.

    >>> import tracejit as tj
    >>> tj.cond(tj.tensor(3.0) > 2, lambda x: x + 1, lambda x: x - 1, tj.tensor(10.0))
    tensor(11.)
    """
    checked_callable("cond", true_fun)
    checked_callable("cond", false_fun)
    if isinstance(pred, bool | np.bool_):
        return true_fun(*operands) if pred else false_fun(*operands)
    return _choose("cond", truth("cond: pred", as_tensor("cond: pred", pred)), [false_fun, true_fun], operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)`` for a 0-d integer tensor; the nearest one where it is out of range.

    As for :func:`cond`, the branches must return the same, and only one of them is computed.  Raises ``ValueError``
    without branches, and ``TypeError`` for an index that is no scalar integer.

    >>> import tracejit as tj
    >>> zero = tj.tensor(0.0)
    >>> [float(tj.switch(tj.tensor(i), [tj.sin, tj.exp, tj.square], zero)) for i in range(3)]
    [0.0, 1.0, 0.0]
    """
    functions = list(branches)
    if not functions:
        raise at_user_line(ValueError("switch: there are no branches"))
    for function in functions:
        checked_callable("switch", function)
    selector = as_tensor("switch: index", index)
    if selector.shape != () or kind(selector.dtype) != 1:
        raise at_user_line(TypeError(f"switch: index must be a scalar integer, got {described(selector)}"))
    if isinstance(index, int | np.integer):
        return functions[min(max(int(index), 0), len(functions) - 1)](*operands)
    return functions[0](*operands) if len(functions) == 1 else _choose("switch", selector, functions, operands)


def _choose(what: str, selector: Tensor, functions: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    nothing = Packed("", None, [])
    results = [nothing] * len(functions)
    dtypes: list[Any] | None = None  # that Python numbers among the results have to take

    def branch(trace: Trace, number: int) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            packed = pack(f"what {name_of(functions[number])} returns", functions[number](*operands))
            same_structure(
                what, "all functions must return the same structure", results[0] if number else packed, packed
            )
            results[number] = packed
            return packed.read(trace, dtypes)

        return run

    try:
        with recording(functions) as trace:
            while True:
                try:
                    values = branches(trace, selector, [branch(trace, n) for n in range(len(functions))])
                    return results[0].unpack(values)
                except CannotCapture as reason:
                    if isinstance(reason, HasRules) or any(result is nothing for result in results):
                        raise
                    before, dtypes = dtypes, shared_dtypes(what, results)
                    if dtypes == before:
                        raise
    except Unrecorded:
        if is_batch(selector):
            return chosen_for_each(what, selector, functions, operands)
        return functions[min(max(int(selector), 0), len(functions) - 1)](*operands)


def computed_again(trace: Trace, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """``function(*args, **kwargs)`` in a block, of which a derivative keeps nothing; it must return tensors."""
    packed: list[Packed] = []

    def run() -> list[Tensor]:
        packed[:] = [pack(f"what {name_of(function)} returns", function(*args, **kwargs))]
        if any(leaf.is_number for leaf in packed[0].leaves):
            raise CannotCapture("it returns a number")
        return packed[0].read(trace)

    values = branches(trace, tensor(False), [run], again=True)
    return packed[0].unpack(values)


# Loops ----------------------------------------------------------------------------------------------


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """Repeat ``val = body_fun(val)`` while ``cond_fun(val)``, from ``init_val``; what ``val`` is then.

    ``val`` may be a container of tensors and numbers; ``body_fun`` must return the same structure, shapes and
    dtypes.  What it does in place to the ``val`` that it gets, it does to that alone, not to ``init_val``.  Gradients
    flow through any number of steps, in memory proportional to that number.  Raises ``TypeError``
    where what ``body_fun`` returns does not fit, naming what and how, and where ``cond_fun`` returns no scalar.

    >>> import tracejit as tj
    >>> tj.while_loop(lambda x: x < 100, lambda x: x * 2, tj.tensor(3.0))
    tensor(192.)
    """
    checked_callable("while_loop", cond_fun)
    checked_callable("while_loop", body_fun)
    carry = pack("init_val", init_val)
    test = f"what {name_of(cond_fun)} returns"

    def condition(trace: Trace) -> Callable[..., Tensor]:
        def run(*twins: Tensor) -> Tensor:
            value = truth(f"while_loop: {test}", as_tensor(f"while_loop: {test}", cond_fun(carry.unpack(twins))))
            return pack(test, value).read(trace)[0]

        return run

    def body(trace: Trace) -> Callable[..., list[Tensor]]:
        def run(*twins: Tensor) -> list[Tensor]:
            after = pack(f"what {name_of(body_fun)} returns", body_fun(carry.unpack(twins)))
            return carry.again(trace, "while_loop", after)

        return run

    try:
        with recording((cond_fun, body_fun)) as trace:
            results = carry.settled(trace, lambda: while_block(trace, condition(trace), body(trace), carry.tensors))
        return carry.unpack(results)
    except Unrecorded:
        return repeated(cond_fun, body_fun, carry)


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """``val = body_fun(i, val)`` for each ``i`` in ``range(lower, upper)``, from ``init_val``; what ``val`` is then.

    ``i`` is a 0-d int64 tensor; the bounds are ints, or 0-d integer tensors.  See :func:`while_loop` for what ``val``
    may be.

    >>> import tracejit as tj
    >>> tj.fori_loop(1, 6, lambda i, x: x * i, tj.tensor(1.0))
    tensor(120.)
    """
    checked_callable("fori_loop", body_fun)
    if isinstance(lower, int) and isinstance(upper, int):
        number = elementwise.add

        def step(val: Any, i: Any) -> tuple[Any, None]:
            return body_fun(number(i, lower) if lower else i, val), None

        return _scan("fori_loop", name_of(body_fun), step, pack("init_val", init_val), pack("xs", None),
                     max(upper - lower, 0), False, (body_fun,))[0]  # fmt: skip
    limits = []
    for name, limit in (("lower", lower), ("upper", upper)):
        value = as_tensor(f"fori_loop: {name}", limit)
        if value.shape != () or kind(value.dtype) != 1:
            raise at_user_line(TypeError(f"fori_loop: {name} must be a scalar integer, got {described(value)}"))
        limits.append(elementwise.astype(value, np.dtype(np.int64)))
    first, last = limits
    _, result = while_loop(
        lambda pair: pair[0] < last, lambda pair: (pair[0] + 1, body_fun(pair[0], pair[1])), (first, init_val)
    )
    return result


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """``carry, y = f(carry, x)`` for each ``x`` along the first axes of ``xs``; the last carry, and all ``y`` stacked.

    ``init``, ``xs`` and ``y`` may be containers; ``f`` must return a carry like ``init``.  ``length`` says how many
    steps there are where ``xs`` does not; ``reverse`` goes from the last ``x`` to the first.  Raises ``ValueError``
    where lengths differ or are unknown, and ``TypeError`` where what ``f`` returns does not fit.

    >>> import tracejit as tj
    >>> tj.scan(
    ...     lambda total, x: (total + x, total * 10), tj.tensor(0.0), tj.tensor([1.0, 2.0, 3.0])
    ... )
    (tensor(6.), tensor([ 0., 10., 30.]))
    """
    checked_callable("scan", f)
    inputs = pack("xs", xs)
    lengths: list[int] = []
    for leaf in inputs.leaves:
        if leaf.tensor.ndim == 0:
            raise at_user_line(ValueError(f"scan: {leaf.path} has no axis to go along, it is {described(leaf.tensor)}"))
        lengths.append(leaf.tensor.shape[0])
    if length is not None:
        if as_extent(length) < 0:
            raise at_user_line(ValueError(f"scan: length must not be negative, got {length}"))
        lengths.append(as_extent(length))
    if any(other != lengths[0] for other in lengths):
        found = ", ".join(f"{leaf.path} is {described(leaf.tensor)}" for leaf in inputs.leaves)
        asked = f", length is {length}" if length is not None else ""
        raise at_user_line(ValueError(f"scan: the lengths of the first axes must be the same, but {found}{asked}"))
    if not lengths:
        raise at_user_line(ValueError("scan: length must be given where xs has no tensors"))
    return _scan("scan", name_of(f), f, pack("init", init), inputs, lengths[0], bool(reverse), (f,))


def _scan(
    what: str,
    name: str,
    f: Callable[[Any, Any], tuple[Any, Any]],
    carry: Packed,
    inputs: Packed,
    length: int,
    reverse: bool,
    functions: Sequence[Callable[..., Any]],
) -> tuple[Any, Any]:
    stacked = pack("y", None)
    count = len(carry.leaves)

    def result_of(value: Any, x: Any) -> tuple[Any, Any]:
        result = f(value, x)
        if not isinstance(result, tuple) or len(result) != 2:
            raise at_user_line(TypeError(f"{what}: {name} must return a pair (carry, y), got {result!r:.80}"))
        return result

    def body(trace: Trace) -> Callable[..., list[Tensor]]:
        def run(number: Tensor, *twins: Tensor) -> list[Tensor]:
            nonlocal stacked
            x = number if what == "fori_loop" else inputs.unpack(twins[count:])
            after, y = result_of(carry.unpack(twins[:count]), x)
            stacked = pack(f"the y that {name} returns", y)
            again = carry.again(trace, what, pack(f"the carry that {name} returns", after))
            return [*again, *stacked.read(trace)]

        return run

    try:
        with recording(functions) as trace:
            results = carry.settled(
                trace, lambda: scan_block(trace, body(trace), carry.tensors, inputs.tensors, length, reverse)
            )
        return carry.unpack(results[:count]), stacked.unpack(results[count:])
    except Unrecorded as reason:
        if isinstance(thread.trace, Trace) and length > UNROLLED:
            thread.trace.refuse(f"a loop cannot be recorded: {reason}")
    value, ys = carry.unpack(carry.copies), []
    for i in reversed(range(length)) if reverse else range(length):
        x = tensor(i) if what == "fori_loop" else inputs.unpack([whole[i] for whole in inputs.tensors])
        value, y = result_of(value, x)
        ys.append(pack("y", y))
    if not ys:
        return value, stacked.unpack([])
    columns = zip(*(y.tensors for y in (ys[::-1] if reverse else ys)), strict=True)
    return value, ys[0].unpack([manipulation.stack(column) for column in columns])


def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """``f(x)`` for each ``x`` along the first axes of ``xs``, one after the other; the results stacked.

    >>> import tracejit as tj
    >>> tj.map(lambda x: x.sum(), tj.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([3., 7.])
    """
    checked_callable("map", f)
    return scan(lambda carry, x: (None, f(x)), None, xs)[1]


# Associative scan -----------------------------------------------------------------------------------


def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All the running results of an associative operation along an axis: ``a``, ``fn(a, b)``, ``fn(fn(a, b), c)`` …

    ``elems`` may be a container of tensors that are equally long along ``axis``; ``fn`` takes two such containers, of
    slices of any length, and combines them element by element.  It is applied about ``2 * log2(length)`` times
    (Blelloch, "Prefix sums and their applications", 1990).  Raises ``ValueError`` where the lengths differ.

    >>> import tracejit as tj
    >>> tj.associative_scan(tj.maximum, tj.tensor([3, 1, 4, 1, 5, 9, 2, 6]))
    tensor([3, 3, 4, 4, 5, 9, 9, 9])
    """
    checked_callable("associative_scan", fn)
    packed = pack("elems", elems)
    leaves = list(packed.tensors)
    axes = [axis + leaf.ndim if axis < 0 else axis for leaf in leaves]
    lengths = {leaf.shape[a] for leaf, a in zip(leaves, axes, strict=True)}
    if len(lengths) != 1:
        found = ", ".join(f"{leaf.path} is {described(leaf.tensor)}" for leaf in packed.leaves)
        raise at_user_line(
            ValueError(
                f"associative_scan: elems must be equally long along axis {axis}, but {found or 'there are none'}"
            )
        )

    def part(values: Sequence[Tensor], start: int, stop: int, step: int) -> list[Tensor]:
        return [x[(slice(None),) * a + (slice(start, stop, step),)] for x, a in zip(values, axes, strict=True)]

    def combine(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
        result, structure = flat(fn(packed.unpack(first), packed.unpack(second)))
        if structure != packed.structure:
            raise at_user_line(TypeError(f"associative_scan: {name_of(fn)} must return the structure of elems"))
        return [as_tensor(f"what {name_of(fn)} returns", leaf) for leaf in result if leaf is not None]

    def running(values: list[Tensor]) -> list[Tensor]:
        length = values[0].shape[axes[0]]
        if length < 2:
            return values
        odd = running(combine(part(values, 0, length - 1, 2), part(values, 1, length, 2)))
        before = odd if length % 2 else part(odd, 0, length // 2 - 1, 1)
        even = part(values, 0, 1, 1)
        if length > 2:
            rest = combine(before, part(values, 2, length, 2))
            even = [manipulation.concat([x, y], axis=a) for x, y, a in zip(even, rest, axes, strict=True)]
        return [_interleaved(x, y, a) for x, y, a in zip(even, odd, axes, strict=True)]

    values = [manipulation.flip(x, axis=a) for x, a in zip(leaves, axes, strict=True)] if reverse else leaves
    results = running(values)
    if reverse:
        results = [manipulation.flip(x, axis=a) for x, a in zip(results, axes, strict=True)]
    return packed.unpack(results)


def _interleaved(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """The elements of ``even``, with one of ``odd`` after each; ``even`` may have one more."""
    count = odd.shape[axis]
    index = (slice(None),) * axis
    pairs = manipulation.stack([even[(*index, slice(0, count))], odd], axis=axis + 1)
    shape = (*odd.shape[:axis], 2 * count, *odd.shape[axis + 1 :])
    whole = manipulation.reshape(pairs, shape)
    return (
        whole
        if even.shape[axis] == count
        else manipulation.concat([whole, even[(*index, slice(count, None))]], axis=axis)
    )


__all__ = ["associative_scan", "cond", "fori_loop", "map", "scan", "switch", "while_loop"]
