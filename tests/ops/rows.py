"""All tables as one."""

from __future__ import annotations

from . import (
    test_activations,
    test_elementwise,
    test_indexing,
    test_manipulation,
    test_products,
    test_reductions,
)

FAMILIES = (test_elementwise, test_reductions, test_manipulation, test_indexing, test_products, test_activations)
ROWS = [row for family in FAMILIES for row in family.ROWS]
