"""Primitives that no program has: they test what the language can express before it is needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tracejit.ir import PRIMITIVES, Primitive


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Control(Primitive):
    """A primitive with regions, and as many results as its type rule says."""

    def evaluate(self, *arrays: Any, **attributes: Any) -> Any:
        return self.numpy(*arrays, **attributes)


@pytest.fixture
def choose() -> Iterator[Primitive]:
    """``choose(p, x …)`` runs its first region on ``x …`` where p, else its second, and gives that one's results."""
    yield Control(
        name="choose",
        type_rule=lambda predicate, *types, regions: tuple(result.type for result in regions[0].results),
        numpy=lambda predicate, *arrays, regions: tuple(regions[0 if predicate else 1](*arrays)),
    )
    del PRIMITIVES["choose"]


@pytest.fixture
def effect() -> Iterator[Primitive]:
    """``effect(x)`` has no result."""
    yield Control(name="effect", type_rule=lambda x, **attributes: (), numpy=lambda x, **attributes: ())
    del PRIMITIVES["effect"]
