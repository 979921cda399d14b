"""Masked cotangents in graphs: where the predicate is applied, where it is not, and the switch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tracejit.ir.autodiff import vjp
from tracejit.ir.interpreter import interpret
from tracejit.ir.masks import settings
from tracejit.ir.parser import parse

TEXT = """
func @f(%x: f32[4]) -> (f32[4]) {
  %positive = compare %x, 0.0 {direction=gt}  : bool[4]
  %root     = sqrt %x                         : f32[4]
  %scaled   = add %root, 1.0                  : f32[4]
  %y        = select %positive, %scaled, %x   : f32[4]
  return %y
}
"""
X = np.array([0.0, 1.0, 4.0, -1.0], np.float32)


def test_the_predicate_goes_with_the_cotangent() -> None:
    """Past the sum, which keeps zeros, to the root, whose derivative is not finite."""
    graph = vjp(parse(TEXT))
    assert [op.primitive.name for op in graph.ops].count("select") == 4
    _, gradient = interpret(graph, [X, np.ones(4, np.float32)])
    assert gradient.tolist() == [1, 0.5, 0.25, 1]


@pytest.fixture
def unmasked() -> Iterator[None]:
    settings.masked = False
    yield
    settings.masked = True


def test_the_switch(unmasked: None) -> None:
    graph = vjp(parse(TEXT))
    assert [op.primitive.name for op in graph.ops].count("select") == 3
    _, gradient = interpret(graph, [X, np.ones(4, np.float32)])
    np.testing.assert_array_equal(gradient, [np.nan, 0.5, 0.25, np.nan])
