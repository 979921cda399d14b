"""The rules of every primitive on arrays: jvp against differences, vjp against jvp, batching against a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.ir.primitive_cases import CASES, DIFFERENTIABLE, Case
from tracejit.ir.batching import BatchedApplication
from tracejit.ir.primitive import PRIMITIVES, Application, Emitter, Primitive
from tracejit.ir.primitives.collective import Collective
from tracejit.ir.primitives.control import Control
from tracejit.ir.primitives.decomposition import eigh_shapes, svd_shapes
from tracejit.ir.primitives.effect import Effect
from tracejit.ir.primitives.matrices import pack, unpack
from tracejit.ir.types import is_differentiable, type_of


def evaluate(primitive: Primitive, arrays: tuple[np.ndarray, ...], attributes: Mapping[str, Any]) -> np.ndarray:
    types = [type_of(array) for array in arrays]
    result = primitive.evaluate(*arrays, **attributes)
    assert type_of(result) == primitive.infer(types, attributes)
    return result


arrays_emitter = Emitter(evaluate, lambda array: array)


def application(case: Case, arrays: Sequence[np.ndarray]) -> Application:
    result = evaluate(case.primitive, tuple(arrays), case.attributes)
    types = tuple(type_of(array) for array in arrays)
    return Application(case.primitive, case.attributes, types, type_of(result), tuple(arrays), result)


def directions(case: Case, arrays: Sequence[np.ndarray], seed: int = 1) -> list[np.ndarray | None]:
    """A tangent for each operand that may have one; of a symmetric matrix a symmetric one."""
    found: list[np.ndarray | None] = []
    for i, array in enumerate(arrays):
        if case.primitive.is_differentiable_in(i) and is_differentiable(array.dtype):
            tangent = like(array, seed + i)
            found.append(tangent + tangent.mT.conj() if case.name in ("cholesky", "eigh") else tangent)
        else:
            found.append(None)
    return found


def like(array: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=array.shape)
    return numbers + 1j * generator.normal(size=array.shape) if array.dtype.kind == "c" else numbers


def zeros(operation: Application) -> np.ndarray:
    return np.zeros(operation.result_type.static_shape, operation.result_type.dtype)


def pushed(operation: Application, tangents: Sequence[Any]) -> np.ndarray:
    assert operation.primitive.jvp is not None
    tangent = operation.primitive.jvp(arrays_emitter, tangents, operation)
    tangent = zeros(operation) if tangent is None else tangent
    assert type_of(tangent) == operation.result_type
    return tangent


def settled(operation: Application, result: np.ndarray) -> np.ndarray:
    """What of a decomposition does not depend on LAPACK's choice of phases, and of bases of complements."""
    name, of = operation.primitive.name, operation.operand_types[0]
    if name in ("eig", "eigh"):
        values, vectors = unpack(arrays_emitter, result, eigh_shapes(of))
        parts = [values, outer_products(vectors, vectors)]
    elif name == "svd":
        u, s, vh = unpack(arrays_emitter, result, svd_shapes(of, operation.attributes["full"]))
        count = s.shape[-1]
        parts = [s, outer_products(u[..., :count], vh.mT.conj()[..., :count])]
        parts += [rest @ rest.mT.conj() for rest in (u[..., count:], vh.mT.conj()[..., count:])]
    else:
        return result
    return pack(parts, of.ndim - 2)


def outer_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of each pair of columns."""
    return np.asarray(left[..., :, None, :] * right.conj()[..., None, :, :])


def test_every_primitive_has_an_example() -> None:
    elsewhere = Control | Collective | Effect
    assert {case.name for case in CASES} == {p.name for p in PRIMITIVES.values() if not isinstance(p, elsewhere)}


def test_rules_come_together() -> None:
    for primitive in PRIMITIVES.values():
        assert (primitive.vjp is None) == (primitive.jvp is None), primitive


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_jvp_against_differences(case: Case) -> None:
    arrays = case.arrays()
    tangents = directions(case, arrays)
    operation = application(case, arrays)
    if not is_differentiable(operation.result_type.dtype) or all(t is None for t in tangents):
        return
    step = 1e-6
    sides = [
        evaluate(case.primitive, tuple(a if t is None else a + s * t for a, t in zip(arrays, tangents, strict=True)),
                 case.attributes)
        for s in (step, -step)
    ]  # fmt: skip
    measured = (settled(operation, sides[0]) - settled(operation, sides[1])) / (2 * step)
    found = pushed(operation, tangents)
    if case.name in ("eig", "eigh", "svd"):
        ends = [settled(operation, operation.result + s * found) for s in (step, -step)]
        found = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(found, measured, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_jvp_in_one_operand_at_a_time(case: Case) -> None:
    """The tangents of the operands add up: a tangent that is not there counts as zeros."""
    operation = application(case, case.arrays())
    tangents = directions(case, operation.operands)
    if not is_differentiable(operation.result_type.dtype):
        return
    alone = [
        [t if i == j else None for j, t in enumerate(tangents)] for i in range(len(tangents)) if tangents[i] is not None
    ]
    total = sum((pushed(operation, each) for each in alone), zeros(operation))
    np.testing.assert_allclose(total, pushed(operation, tangents), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_vjp_and_jvp_are_adjoint(case: Case) -> None:
    """``<cotangent, jvp(tangent)> == <vjp(cotangent), tangent>``, complex numbers paired as ``Re(conj(a) * b)``."""
    operation = application(case, case.arrays())
    tangents = directions(case, operation.operands)
    if not is_differentiable(operation.result_type.dtype):
        return
    cotangent = like(operation.result, 7)
    assert case.primitive.vjp is not None
    saved = Application(
        operation.primitive, operation.attributes, operation.operand_types, operation.result_type,
        tuple(a if str(i) in case.primitive.saves else None for i, a in enumerate(operation.operands)),
        operation.result if "r" in case.primitive.saves else None,
    )  # fmt: skip
    right = 0.0
    for i, tangent in enumerate(tangents):
        if tangent is not None:
            pulled = case.primitive.vjp(arrays_emitter, i, cotangent, saved)
            assert type_of(pulled) == operation.operand_types[i]
            right += float(np.sum(pulled.conj() * tangent).real)
    left = float(np.sum(cotangent.conj() * pushed(operation, tangents)).real)
    assert left == pytest.approx(right, rel=1e-9, abs=1e-9)


def batches(case: Case) -> list[tuple[bool, ...]]:
    """Which operands are batched: each alone, all, and all but each."""
    count = len(case.operands)
    alone = [tuple(i == j for j in range(count)) for i in range(count)]
    most = [tuple(i != j for j in range(count)) for i in range(count)]
    return list(dict.fromkeys(pick for pick in [*alone, *most, (True,) * count] if any(pick)))


@pytest.mark.parametrize("size", [3, 1, 0])
@pytest.mark.parametrize("case", [case for case in CASES if case.operands], ids=str)
def test_batching_against_a_loop(case: Case, size: int) -> None:
    assert case.primitive.batch is not None
    rows = [case.arrays(seed) for seed in range(size)]
    for is_batched in batches(case):
        shared = case.arrays(99)
        operands = tuple(
            np.stack([row[i] for row in rows]) if batched and size
            else np.zeros((0, *array.shape), array.dtype) if batched
            else array
            for i, (batched, array) in enumerate(zip(is_batched, shared, strict=True))
        )  # fmt: skip
        found = case.primitive.batch(
            arrays_emitter, BatchedApplication(case.primitive, case.attributes, operands, is_batched, size)
        )
        expected = [
            evaluate(
                case.primitive, tuple(o[n] if b else o for o, b in zip(operands, is_batched, strict=True)),
                case.attributes,
            )
            for n in range(size)
        ]  # fmt: skip
        result = case.primitive.infer([type_of(array) for array in shared], case.attributes)
        assert type_of(found) == (result.dtype, (size, *result.shape))
        if expected:
            np.testing.assert_allclose(found, np.stack(expected), rtol=1e-12, atol=1e-12)
