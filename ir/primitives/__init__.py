"""The primitives, one file a family; importing this package fills ``PRIMITIVES``."""

from . import contraction, elementwise, generation, indexing, placement, reduction, view

__all__ = ["contraction", "elementwise", "generation", "indexing", "placement", "reduction", "view"]
