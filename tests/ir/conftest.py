"""A primitive that no program has: it tests what the language can express before it is needed."""

from collections.abc import Iterator

import pytest

from tracejit.ir import PRIMITIVES, Primitive
from tracejit.ir.primitives.control import Control, Layout


@pytest.fixture
def effect() -> Iterator[Primitive]:
    """``effect(x)`` has no result."""
    yield Control(
        name="effect",
        type_rule=lambda x, **attributes: (),
        numpy=lambda x, **attributes: (),
        layout=lambda operands, attributes: Layout(operands, 0, 0, 0, 0),
        active=lambda op, flags: [],
        differentiate=lambda *arguments: None,
    )
    del PRIMITIVES["effect"]
