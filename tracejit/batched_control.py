"""Branches and loops that no block holds, under ``vmap``: each element of the batch goes a way of its own.

Python runs a function once for the whole batch.  So all branches are computed, and each element takes the results of
one; a loop goes on while any element does, and those that are done keep what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .blocks import Packed, pack, same_structure, shared_dtypes, truth
from .levels import Box, everywhere
from .locations import at_user_line
from .ops import elementwise
from .tensor import Tensor
from .transforms.arguments import name_of


def is_batch(tensor: Tensor) -> bool:
    """Whether each element of some batch has a value of its own."""
    value = tensor._value
    while isinstance(value, Box):
        if getattr(value, "is_batched", False):
            return True
        below = value.below
        value = None if below is None else below._value
    return False


def chosen_for_each(
    what: str, selector: Tensor, functions: Sequence[Callable[..., Any]], operands: Sequence[Any]
) -> Any:
    """What the function that ``selector`` says returns for ``operands``, for each element of a batch."""
    given = pack("operands", tuple(operands))
    results = [_computed(what, function, given) for function in functions]
    for other in results[1:]:
        same_structure(what, "all functions must return the same structure", results[0], other)
    dtypes = shared_dtypes(what, results)
    numbers = elementwise.astype(selector, "int64")
    values = results[0].tensors
    for number, result in enumerate(results[1:], 1):
        values = _selected(elementwise.greater_equal(numbers, number), result.tensors, values)
    return results[0].unpack([elementwise.astype(v, dtype) for v, dtype in zip(values, dtypes, strict=True)])


def repeated(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], carry: Packed) -> Any:
    """``val = body_fun(val)`` while ``cond_fun(val)``, called by Python at each step."""
    goes_on: Tensor | None = None  # of which elements, where they differ
    while True:
        test = cond_fun(carry.unpack(carry.copies))
        if goes_on is None and not (isinstance(test, Tensor) and is_batch(test)):
            if not test:
                return carry.unpack(carry.tensors)
            carry = pack("val", body_fun(carry.unpack(carry.copies)))
            continue
        test = truth(f"while_loop: what {name_of(cond_fun)} returns", test)
        goes_on = test if goes_on is None else elementwise.logical_and(goes_on, test)
        if everywhere(elementwise.logical_not(goes_on)):
            return carry.unpack(carry.tensors)
        after = _computed("while_loop", body_fun, pack("val", (carry.unpack(carry.tensors),)))
        rule = f"what {name_of(body_fun)} returns must have the structure of what it gets"
        same_structure("while_loop", rule, carry, after)
        shared_dtypes("while_loop", [carry, after])
        carry = pack("val", carry.unpack(_selected(goes_on, after.tensors, carry.tensors)))


def _selected(which: Tensor, first: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
    return [elementwise.where(which, x, y) for x, y in zip(first, other, strict=True)]


def _computed(what: str, function: Callable[..., Any], operands: Packed) -> Packed:
    """What a function returns, which must not change tensors from around it: it would for elements that go elsewhere.

    What it does to its operands in place, it does to others of the same values.
    """
    from .transforms.checkpointing import Recording

    own = operands.copies
    with Recording() as recording:
        result = pack(f"what {name_of(function)} returns", function(*operands.unpack(own)))
    known = {id(tensor) for tensor in (*own, *result.tensors)}
    if any((state := change.find()) is not None and id(state) not in known for change in recording.changes.values()):
        message = f"{what}: {name_of(function)} changes a tensor from around it, which elements of a batch may not"
        raise at_user_line(RuntimeError(message))
    return result
