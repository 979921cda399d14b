"""The primitives, one file a family; importing this package fills ``PRIMITIVES``."""

from . import (
    attention,
    collective,
    contraction,
    control,
    convolution,
    decomposition,
    effect,
    elementary,
    elementwise,
    exact,
    generation,
    indexing,
    inversion,
    library,
    placement,
    reduction,
    special,
    view,
)

__all__ = [
    "attention", "collective", "contraction", "control", "convolution", "decomposition", "effect", "elementary",
    "elementwise", "exact", "generation", "indexing", "inversion", "library", "placement", "reduction", "special",
    "view",
]  # fmt: skip
