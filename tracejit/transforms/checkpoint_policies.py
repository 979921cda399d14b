"""Policies of :func:`tracejit.checkpoint`: which results are kept for the derivative, and not computed again.

A policy is called for each operation of the function with its primitive, the types of the operands and the attributes;
it says whether the result may be kept.  ``tracejit.checkpoint_policies`` has JAX's names for the usual ones.

>>> import tracejit as tj
>>> def exponentials_saveable(primitive, *types, **attributes):
...     return primitive.name == "exponential"
>>> tj.grad(tj.checkpoint(lambda x: tj.exp(x) * x, policy=exponentials_saveable))(0.0)
tensor(1.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.ir import Primitive
from tracejit.ir.primitive import Contraction
from tracejit.ir.primitives.contraction import dot
from tracejit.ir.primitives.view import named
from tracejit.ir.types import TensorType

Policy = Callable[..., bool]


def everything_saveable(primitive: Primitive, *types: TensorType, **attributes: Any) -> bool:
    """All is kept, as without ``checkpoint``."""
    return True


def nothing_saveable(primitive: Primitive, *types: TensorType, **attributes: Any) -> bool:
    """All is computed again, as without a policy."""
    return False


def dots_saveable(primitive: Primitive, *types: TensorType, **attributes: Any) -> bool:
    """Matrix products and convolutions are kept, the rest is computed again."""
    return isinstance(primitive, Contraction)


def dots_with_no_batch_dims_saveable(primitive: Primitive, *types: TensorType, **attributes: Any) -> bool:
    """Products with one matrix, and convolutions, are kept: those with weights; those of stacks of matrices are not."""
    return isinstance(primitive, Contraction) and (primitive is not dot or any(type.ndim <= 2 for type in types))


def save_only_these_names(*names: str) -> Policy:
    """What :func:`tracejit.checkpoint_name` has given one of these names is kept, the rest is computed again."""

    def policy(primitive: Primitive, *types: TensorType, **attributes: Any) -> bool:
        return primitive is named and attributes["label"] in names

    return policy


def save_any_names_but_these(*names: str) -> Policy:
    """What :func:`tracejit.checkpoint_name` has given another name is kept, the rest is computed again."""

    def policy(primitive: Primitive, *types: TensorType, **attributes: Any) -> bool:
        return primitive is named and attributes["label"] not in names

    return policy


__all__ = [
    "dots_saveable", "dots_with_no_batch_dims_saveable", "everything_saveable", "nothing_saveable",
    "save_any_names_but_these", "save_only_these_names",
]  # fmt: skip
