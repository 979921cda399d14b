"""The primitives, one file a family; importing this package fills ``PRIMITIVES``."""

from . import (
    contraction,
    control,
    decomposition,
    elementary,
    elementwise,
    exact,
    generation,
    indexing,
    library,
    placement,
    reduction,
    view,
)

__all__ = [
    "contraction", "control", "decomposition", "elementary", "elementwise", "exact", "generation", "indexing",
    "library", "placement", "reduction", "view",
]  # fmt: skip
