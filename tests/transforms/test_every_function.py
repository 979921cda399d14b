"""Transformations of every function of the namespace: vmap against a loop, forward mode against reverse mode."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.primitive_cases import CASES, Case
from tests.ir.random_graphs import same_bits
from tests.ops.rows import ROWS
from tests.ops.table import F64, Row, loss
from tracejit.tape import apply

pytestmark = pytest.mark.usefixtures("first_code_only")


def pushed(function: Callable[..., Any], operands: Sequence[Any], tangents: Sequence[Any]) -> tj.Tensor:
    return tj.jvp(function, tuple(operands), tuple(tangents))[1]


def tensors(arrays: Sequence[np.ndarray]) -> list[tj.Tensor]:
    return [tj.tensor(array) for array in arrays]


@pytest.mark.parametrize("row", [row for row in ROWS if not row.by_value], ids=str)
def test_vmap_is_a_loop(row: Row) -> None:
    """To the bit, with all operands batched and with one; an operand that is not batched is shared.

    (But for complex matrices, which BLAS multiplies in an order that depends on their shape.)
    """
    for shapes in row.shapes:
        batch = [row.operands(shapes, row.dtypes[0], seed) for seed in range(3)]
        shared = row.operands(shapes, row.dtypes[0], 3)
        count = len(shapes)
        for batched in dict.fromkeys([(True,) * count, (True,) + (False,) * (count - 1)]):
            rows = [[one if b else s for one, s, b in zip(item, shared, batched, strict=True)] for item in batch]
            given = [np.stack([item[i] for item in rows], axis=-1) if b else shared[i] for i, b in enumerate(batched)]
            axes = tuple(-1 if b else None for b in batched)
            found = tj.vmap(row.call, in_axes=axes)(*tensors(given))
            for i, item in enumerate(rows):
                one, other = np.asarray(found[i]), np.asarray(row.call(*tensors(item)))
                if "complex" in row.detail:
                    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
                else:
                    assert same_bits(one, other), f"{shapes} {batched}"


def test_vmap_of_what_has_the_shape_of_its_values() -> None:
    for row in ROWS:
        if row.by_value:
            operands = [np.stack([x, x]) for x in row.operands(row.shapes[0], row.dtypes[0])]
            with pytest.raises(RuntimeError, match=r"vmap: .* needs one value, but this tensor has 2"):
                tj.vmap(row.call)(*tensors(operands))


# Rows of complex operands are the array tests' business: here the numbers are real.
@pytest.mark.parametrize("row", [row for row in ROWS if row.gradient and row.detail != "complex"], ids=str)
def test_forward_is_reverse(row: Row) -> None:
    """First derivatives along a direction, second along two, by every combination of the modes; and under jit."""
    for number, shapes in enumerate(row.shapes):
        operands = tensors(row.operands(shapes, F64, seed=number))
        first, second = ([tj.tensor(g.standard_normal(s)) for s in shapes] for g in map(np.random.default_rng, (2, 3)))
        argnums = tuple(range(len(shapes)))

        def total(*x: tj.Tensor) -> tj.Tensor:
            return loss(row, x)

        def along(*x: tj.Tensor, tangents: Any = first) -> tj.Tensor:
            return pushed(total, x, tangents)

        def slope(*x: tj.Tensor, tangents: Any = first) -> tj.Tensor:
            gradients = tj.grad(total, tuple(range(len(x))))(*x)
            return sum(((g * v).sum() for g, v in zip(gradients, tangents, strict=True)), tj.zeros((), dtype=F64))

        if not tj.grad(total, argnums)(*operands):
            continue
        expected = slope(*operands).item()
        assert along(*operands).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
        compiled = tj.jit(along)(*operands)
        assert same_bits(np.asarray(compiled), np.asarray(along(*operands)))

        bends = [
            pushed(along, operands, second).item(),
            pushed(slope, operands, second).item(),
            *[
                sum((g * v).sum().item() for g, v in zip(tj.grad(one, argnums)(*operands), second, strict=True))
                for one in (along, slope)
            ],
        ]
        assert bends == pytest.approx([bends[0]] * 4, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
def test_third_derivatives(case: Case) -> None:
    """Along a line: every way of taking three derivatives gives the same, and that is what differences measure."""
    arrays = case.arrays()
    generator = np.random.default_rng(5)
    steps = [0.3 * generator.normal(size=array.shape) for array in arrays]
    if case.name in ("cholesky", "eigh"):  # of symmetric matrices
        steps = [step + step.mT for step in steps]
    lines = tensors(steps)
    weights: Any = None

    def along(t: tj.Tensor) -> tj.Tensor:
        nonlocal weights
        operands = [tj.tensor(x) + t * v for x, v in zip(arrays, lines, strict=True)]
        result = apply(case.primitive, operands, case.attributes)
        if weights is None:
            weights = tj.tensor(np.random.default_rng(6).normal(size=result.shape))
        total = (result * weights).sum()
        return total if total.dtype == F64 else tj.real(total)

    zero = tj.zeros((), dtype=F64)
    along(zero)

    def forward(function: Callable[[tj.Tensor], tj.Tensor]) -> Callable[[tj.Tensor], tj.Tensor]:
        return lambda t: tj.jvp(function, (t,), (tj.ones((), dtype=F64),))[1]

    found = [a(b(c(along)))(zero).item() for a, b, c in itertools.product((tj.grad, forward), repeat=3)]
    assert found == pytest.approx([found[0]] * 8, rel=1e-7, abs=1e-7)
    step, second = 1e-4, tj.grad(forward(along))
    measured = (second(zero + step) - second(zero - step)).item() / (2 * step)
    assert found[0] == pytest.approx(measured, rel=1e-5, abs=1e-5)
