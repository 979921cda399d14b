"""``grad``, ``value_and_grad``, ``vjp``, ``jvp``, ``linearize`` and the Jacobians: arguments, containers, errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tracejit as tj
from tracejit.ir.types import float64

pytestmark = pytest.mark.usefixtures("first_code_only")

VECTOR = tj.tensor([1.0, 2.0, 3.0])


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Parameters:
    weight: Any
    bias: Any


def lists(item: Any) -> Any:
    """Tensors in a container as lists."""
    return tj_tree(lambda leaf: leaf.tolist() if isinstance(leaf, tj.Tensor) else leaf, item)


def tj_tree(function: Callable[[Any], Any], item: Any) -> Any:
    from tracejit.tree import map_leaves

    return map_leaves(function, item)


# grad ------------------------------------------------------------------------------------------------


def test_argnums() -> None:
    def f(x: Any, y: Any, z: Any = 1.0) -> Any:
        return x * y * y * z

    assert tj.grad(f)(2.0, 3.0).item() == 9
    assert tj.grad(f, 1)(2.0, 3.0).item() == 12
    assert tj.grad(f, argnums=-1)(2.0, 3.0).item() == 12
    assert lists(tj.grad(f, (0, 1))(2.0, 3.0)) == (9, 12)
    assert lists(tj.grad(f, (1,))(2.0, 3.0)) == (12,)
    assert tj.grad(f)(2.0, 3.0, z=2.0).item() == 18
    assert lists(tj.value_and_grad(f, [0, 1])(2.0, 3.0)) == (18, (9, 12))


def test_the_gradient_is_built_as_the_argument_is() -> None:
    def f(p: Any) -> Any:
        return (p.weight * p.bias["b"][0]).sum() + p.bias["c"].x * p.bias["c"].y

    given = Parameters(tj.tensor([1.0, 2.0]), {"b": [tj.tensor(3.0)], "c": Point(2.0, np.float32(5.0))})
    for run in (tj.grad(f), tj.jit(tj.grad(f))):
        found = run(given)
        assert isinstance(found, Parameters)
        assert isinstance(found.bias["c"], Point)
        assert lists(found.weight) == [3, 3]
        assert lists(found.bias) == {"b": [3], "c": Point(5, 2)}


def test_aux() -> None:
    def f(x: Any) -> Any:
        y = x * x
        return y, {"square": y, "name": "f", "count": 3}

    gradient, aux = tj.grad(f, has_aux=True)(3.0)
    assert (gradient.item(), aux["square"].item(), aux["name"], aux["count"]) == (6, 9, "f", 3)
    assert not aux["square"].requires_grad
    (value, aux), gradient = tj.value_and_grad(f, has_aux=True)(3.0)
    assert (value.item(), gradient.item(), aux["square"].item()) == (9, 6, 9)
    value, pull, aux = tj.vjp(f, 3.0, has_aux=True)
    assert (value.item(), pull(1.0)[0].item(), aux["square"].item()) == (9, 6, 9)
    value, change, aux = tj.jvp(f, (3.0,), (1.0,), has_aux=True)
    assert (value.item(), change.item(), aux["square"].item()) == (9, 6, 9)
    value, push, aux = tj.linearize(f, 3.0, has_aux=True)
    assert (value.item(), push(1.0).item(), aux["square"].item()) == (9, 6, 9)
    for transform in (tj.jacrev, tj.jacfwd):
        jacobian, aux = transform(f, has_aux=True)(3.0)
        assert (jacobian.item(), aux["square"].item()) == (6, 9)
    bend, aux = tj.hessian(f, has_aux=True)(3.0)
    assert (bend.item(), aux["square"].item()) == (2, 9)


def test_what_does_not_matter_has_gradient_zero() -> None:
    assert lists(tj.grad(lambda x, y: x * 1.0, (0, 1))(2.0, VECTOR)) == (1, [0, 0, 0])
    assert tj.grad(lambda x: 3.0)(VECTOR).tolist() == [0, 0, 0]
    assert tj.grad(lambda x: tj.floor(x) + (x > 0).astype("float32"))(2.5).item() == 0
    assert tj.jvp(lambda x: tj.ones(2), (1.0,), (1.0,))[1].tolist() == [0, 0]
    assert tj.jacfwd(lambda x: (x > 0, x))(1.0)[0].item() == 0


def test_dtypes_stay() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = tj.ones(2, dtype=dtype)
        assert tj.grad(lambda x: (x * 2.0).sum())(x).dtype == x.dtype
        assert tj.jvp(tj.sin, (x,), (x,))[1].dtype == x.dtype
    mixed = tj.grad(lambda x, y: (x.double() * y).sum(), (0, 1))(tj.ones(2), tj.ones(2, dtype=float64))
    assert [g.dtype for g in mixed] == [tj.float32, tj.float64]


def test_complex_numbers() -> None:
    z = tj.tensor(1 + 2j)
    assert tj.grad(lambda z: tj.abs(z) ** 2)(z).item() == pytest.approx(2 + 4j)  # where it grows fastest
    assert tj.grad(lambda z: z * z * z, holomorphic=True)(z).item() == pytest.approx(3 * (1 + 2j) ** 2)
    assert tj.jacrev(lambda z: z * z, holomorphic=True)(z).item() == pytest.approx(2 * (1 + 2j))
    assert tj.jacfwd(lambda z: z * z, holomorphic=True)(z).item() == pytest.approx(2 * (1 + 2j))
    assert tj.jvp(lambda z: z * z, (z,), (tj.tensor(1j),))[1].item() == pytest.approx(2j * (1 + 2j))


def test_arguments_are_not_changed() -> None:
    x = tj.ones(3)

    def f(x: tj.Tensor) -> tj.Tensor:
        x += 1
        x[0] = 5.0
        return (x * x).sum()

    assert tj.grad(f)(x).tolist() == [0, 4, 4]
    assert tj.jvp(f, (x,), (x,))[1].item() == 8
    assert tj.jit(tj.grad(f))(x).tolist() == [0, 4, 4]
    assert (x.tolist(), x.requires_grad, x.grad) == ([1, 1, 1], False, None)


def test_tensors_from_outside_keep_what_is_written_to_them() -> None:
    counts, total = tj.zeros(()), tj.zeros(3)

    def f(x: tj.Tensor) -> tj.Tensor:
        counts.add_(1)
        with tj.no_grad():
            total.add_(x)
        return (x * x).sum()

    for count, run in enumerate((tj.grad(f), lambda x: tj.jvp(f, (x,), (x,)), tj.jit(tj.grad(f))), start=1):
        run(VECTOR)
        assert counts.item() == count
        assert total.tolist() == [count, 2 * count, 3 * count]
        assert not total.requires_grad
    assert (total * 2).tolist() == [6, 12, 18]


def test_an_error_takes_back_what_was_written() -> None:
    total = tj.zeros(3)

    def f(x: tj.Tensor) -> tj.Tensor:
        total.add_(x)
        raise ArithmeticError

    for run in (tj.grad(f), lambda x: tj.jvp(f, (x,), (x,)), tj.vmap(f)):
        with pytest.raises(ArithmeticError):
            run(VECTOR)
        assert total.tolist() == [0, 0, 0]
    assert tj.grad(lambda x: (x * x).sum())(VECTOR).tolist() == [2, 4, 6]  # nothing is left open


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.grad(3), TypeError, "grad expects a function, got int 3"),
        (lambda: tj.grad(lambda x: x)(VECTOR), TypeError, "returned a tensor of shape (3,); use vjp or jacrev"),
        (lambda: tj.grad(lambda x: (x, x))(1.0), TypeError, "that return a scalar, but <lambda> returned tuple"),
        (lambda: tj.grad(lambda x: x > 0)(1.0), TypeError, "returned bool"),
        (lambda: tj.grad(lambda x: x * 1j)(1.0), TypeError, "returned complex64; pass holomorphic=True"),
        (lambda: tj.grad(lambda x: x, holomorphic=True)(1.0), TypeError, "requires complex inputs, got float32"),
        (lambda: tj.grad(lambda x: x)(3), TypeError, "complex-valued inputs (floating point numbers), got int64"),
        (lambda: tj.grad(lambda x: x)("a"), TypeError, "grad differentiates in tensors and floats, got str 'a'"),
        (lambda: tj.grad(lambda p: p["a"])({"a": 1.0, "n": [3]}), TypeError, "got int64 for argument 0['n'][0]"),
        (lambda: tj.grad(lambda x, p: x, (0, 1))(1.0, {"a": "b"}), TypeError, "got str 'b' for argument 1['a']"),
        (lambda: tj.jacfwd(lambda x, p: x, 1)(1.0, (2,)), TypeError, "got int64 for argument 1[0]"),
        (lambda: tj.grad(lambda x: x, 1)(1.0), ValueError, "argnums=1, but the function was given 1 positional arg"),
        (lambda: tj.grad(lambda x: x, 1.0)(1.0), TypeError, "argnums must be ints, got 1.0"),
        (lambda: tj.grad(lambda x, y: x, (0, -2))(1.0, 2.0), ValueError, "argnums=(0, -2) names an argument twice"),
        (lambda: tj.grad(lambda x: x, "x")(1.0), TypeError, "argnums must be ints"),
        (lambda: tj.grad(lambda x: x, has_aux=True)(1.0), TypeError, "must return a pair (output, aux), got Tensor"),
        (lambda: tj.grad(lambda x: (x, 1, 2), has_aux=True)(1.0), TypeError, "a pair (output, aux), got tuple of 3"),
        (lambda: tj.vjp(tj.sin, VECTOR)[1](tj.ones(2)), ValueError, "(2,) was given for a result of shape (3,)"),
        (lambda: tj.vjp(lambda x: (x, x), 1.0)[1](1.0), TypeError, "the structure of the result, (*, *), got *"),
        (lambda: tj.jvp(tj.sin, 1.0, 1.0), TypeError, "primals must be a tuple or a list"),
        (lambda: tj.jvp(tj.sin, (1.0,), (1.0, 2.0)), TypeError, "the structure of primals, (*,), got (*, *)"),
        (lambda: tj.jvp(tj.sin, (VECTOR,), (tj.ones(2),)), ValueError, "(2,) was given for a primal of shape (3,)"),
        (lambda: tj.jvp(tj.sin, (1,), (1.0,)), TypeError, "jvp requires real- or complex-valued inputs"),
        (lambda: tj.jvp(lambda x: x, (VECTOR,), (VECTOR > 1,)), TypeError, "got bool for the tangent of argument 0"),
        (lambda: tj.hvp(tj.sin, 1.0, 1.0), TypeError, "hvp: primals must be a tuple or a list"),
        (lambda: tj.hvp(tj.sin, (1.0,), (tj.ones(2),)), ValueError, "hvp: a tangent of shape (2,) was given for a"),
        (lambda: tj.jacrev(lambda x: x * 1j)(VECTOR), TypeError, "jacrev requires real results, got complex64; pass"),
        (lambda: tj.jacrev(lambda x: x.real, holomorphic=True)(VECTOR * 1j), TypeError, "requires complex results"),
        (lambda: tj.jacrev(lambda x: x)(tj.tensor(1j)), TypeError, "jacrev requires real inputs, got complex64"),
        (lambda: tj.linearize(lambda x: x, 1.0)[1](), TypeError, "tangents must have the structure of primals"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert f"{__file__}:" in str(caught.value), "the message names the user's line"


def test_a_tensor_that_leaves_its_transformation() -> None:
    kept: list[tj.Tensor] = []

    def f(x: tj.Tensor) -> tj.Tensor:
        kept.append(x * 2)
        return x

    for transform in (tj.grad, lambda f: lambda x: tj.jvp(f, (x,), (x,)), lambda f: lambda x: tj.vmap(f)(x.reshape(1))):
        kept.clear()
        transform(f)(tj.tensor(1.0))
        for use in (
            lambda x: x + 1,
            tj.exp,
            lambda x: tj.where(x > 0, 1.0, x),
            lambda x: tj.grad(lambda y: y * x)(1.0),
            lambda x: tj.vmap(lambda y: y * x)(VECTOR),
            lambda x: tj.jit(lambda y: y * x)(1.0),
        ):
            with pytest.raises(RuntimeError, match=r"made inside a function under .* is used outside of it"):
                use(kept[0])


# vjp, jvp and linearize -------------------------------------------------------------------------------


def test_a_pullback_may_be_called_again_and_differentiated() -> None:
    value, pull = tj.vjp(lambda x, y: {"product": x * y, "sum": x + y}, VECTOR, 2.0)
    assert lists(value) == {"product": [2, 4, 6], "sum": [3, 4, 5]}
    for _ in range(2):
        x, y = pull({"product": tj.ones(3), "sum": tj.zeros(3)})
        assert (x.tolist(), y.item()) == ([2, 2, 2], 6)
    assert tj.grad(lambda g: pull({"product": g, "sum": g})[0].sum())(tj.ones(3)).tolist() == [3, 3, 3]
    assert tj.vmap(lambda g: pull({"product": g, "sum": g})[1])(tj.eye(3)).tolist() == [2, 3, 4]


def test_a_linear_map_may_be_called_again_and_differentiated() -> None:
    calls = []

    def f(x: tj.Tensor) -> tj.Tensor:
        calls.append(1)
        return tj.sin(x) * x

    x = tj.tensor([0.5, 1.0], dtype=float64)
    value, push = tj.linearize(f, x)
    np.testing.assert_array_equal(value.numpy(), f(x).numpy())
    calls.clear()
    for t in (tj.tensor([1.0, 0.0], dtype=float64), tj.tensor([0.3, -2.0], dtype=float64)):
        np.testing.assert_allclose(push(t).numpy(), tj.jvp(f, (x,), (t,))[1].numpy(), rtol=1e-15)
    assert len(calls) == 2  # by jvp alone
    np.testing.assert_allclose(tj.vmap(push)(tj.eye(2, dtype=float64)).numpy(), tj.jacfwd(f)(x).numpy().T, rtol=1e-15)
    gradient = tj.grad(lambda t: push(t).sum())(tj.zeros(2, dtype=float64))
    np.testing.assert_allclose(gradient.numpy(), tj.grad(lambda x: f(x).sum())(x).numpy(), rtol=1e-15)


def test_stop_gradient() -> None:
    def f(x: Any) -> Any:
        held = tj.stop_gradient({"a": x * x, "b": 3})
        return held["a"] * x * held["b"]

    for transform in (tj.grad, tj.jacfwd, tj.jacrev, lambda f: lambda x: tj.vmap(tj.grad(f))(tj.stack([x]))[0]):
        assert transform(f)(tj.tensor(2.0)).item() == 12
    assert tj.grad(tj.grad(f))(tj.tensor(2.0)).item() == 0


# Jacobians --------------------------------------------------------------------------------------------


def residuals(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
    return tj.stack([x[0] * y[1, 0], (x * x).sum() * y[0, 1], y.sum()])


def test_jacobians_against_differences() -> None:
    x, y = tj.tensor([1.0, 2.0], dtype=float64), tj.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=float64)
    measured = []
    for i, point in enumerate((x, y)):
        columns = []
        for place in np.ndindex(point.shape):
            step = np.zeros(point.shape)
            step[place] = 1e-6
            up, down = ([x, y] for _ in range(2))
            up[i], down[i] = point + tj.tensor(step), point - tj.tensor(step)
            columns.append((residuals(*up) - residuals(*down)).numpy() / 2e-6)
        measured.append(np.stack(columns, -1).reshape(3, *point.shape))
    for transform in (tj.jacrev, tj.jacfwd, tj.jacobian):
        for run in (transform(residuals, (0, 1)), tj.jit(transform(residuals, (0, 1)))):
            for found, expected in zip(run(x, y), measured, strict=True):
                np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_jacobians_of_containers() -> None:
    def f(p: dict[str, tj.Tensor], z: tj.Tensor) -> Any:
        return {"out": [p["a"] * z, p["b"].sum()]}

    given = {"a": tj.ones(2), "b": tj.ones(2, 2)}
    for transform in (tj.jacrev, tj.jacfwd):
        found = transform(f)(given, tj.tensor(2.0))
        assert lists(found["out"][0]["a"]) == [[2, 0], [0, 2]]
        assert found["out"][0]["b"].shape == (2, 2, 2)
        assert lists(found["out"][1]) == {"a": [0, 0], "b": [[1, 1], [1, 1]]}
        both = transform(f, (0, 1))(given, tj.tensor(2.0))
        assert both["out"][0][1].tolist() == [1, 1]


def test_hessian_of_containers_and_hvp() -> None:
    def f(p: dict[str, tj.Tensor]) -> tj.Tensor:
        return (p["a"] ** 2).sum() * p["b"]

    given = {"a": tj.tensor([1.0, 2.0]), "b": tj.tensor(3.0)}
    assert lists(tj.hessian(f)(given)) == {
        "a": {"a": [[6, 0], [0, 6]], "b": [2, 4]},
        "b": {"a": [2, 4], "b": 0},
    }
    along = {"a": tj.tensor([1.0, 0.0]), "b": tj.tensor(1.0)}
    assert lists(tj.hvp(f, (given,), (along,))) == {"a": [8, 4], "b": 2}
    product = tj.hvp(lambda x, y: (x * x * y).sum(), (VECTOR, tj.ones(3)), (tj.ones(3), tj.zeros(3)))
    assert lists(product) == ([2, 2, 2], [2, 4, 6])


def test_empty_jacobians() -> None:
    for transform in (tj.jacrev, tj.jacfwd):
        assert transform(lambda x: x[:0])(VECTOR).shape == (0, 3)
        assert transform(lambda x: x.sum())(tj.zeros(0)).shape == (0,)


def test_random_numbers_in_a_jacobian_are_drawn_once() -> None:
    for transform in (tj.jacrev, tj.jacfwd):
        tj.manual_seed(1)
        drawn = tj.rand(3)
        tj.manual_seed(1)
        assert tj.diag(transform(lambda x: x * tj.rand(3))(VECTOR)).tolist() == drawn.tolist()


def test_integer_results_have_zeros_for_a_jacobian() -> None:
    for transform in (tj.jacrev, tj.jacfwd):
        found = transform(lambda x: x > 1)(VECTOR)
        assert (found.dtype, found.tolist()) == (VECTOR.dtype, [[0.0] * 3] * 3)


def test_nothing_in_containers_stays() -> None:
    x = tj.tensor([1.0, 2.0])
    p = {"a": x, "b": None}
    double = lambda d: d["a"] * 2  # noqa: E731
    for transform in (tj.jacrev, tj.jacfwd):
        found = transform(double)(p)
        assert (found["a"].tolist(), found["b"]) == ([[2.0, 0.0], [0.0, 2.0]], None)
    assert tj.jvp(double, (p,), (p,))[1].tolist() == [2.0, 4.0]
    assert tj.linearize(double, p)[1](p).tolist() == [2.0, 4.0]
    with pytest.raises(TypeError, match=r"got NoneType None for the tangent of argument 0\['a'\]"):
        tj.jvp(double, (p,), ({"a": None, "b": None},))
    for run in (lambda f: f, tj.jit):
        found = run(tj.grad(lambda d: (d["a"] * d["c"][1]).sum()))({"a": x, "b": None, "c": [None, 2 * x]})
        assert found["b"] is found["c"][0] is None
        assert (found["a"].tolist(), found["c"][1].tolist()) == ([2.0, 4.0], [1.0, 2.0])
    _, pull = tj.vjp(lambda d: d["a"] * 2, {"a": x, "b": None})
    (found,) = pull(x)
    assert found["b"] is None
    assert found["a"].tolist() == [2.0, 4.0]
    with pytest.raises(TypeError, match="grad differentiates in tensors and floats, got NoneType None"):
        tj.grad(lambda a: a)(None)
