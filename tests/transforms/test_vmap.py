"""``vmap``: axes, containers, random numbers, what it refuses, and collectives."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit import nn

pytestmark = pytest.mark.usefixtures("first_code_only")

GRID = tj.reshape(tj.arange(24, dtype="float32"), (2, 3, 4))


@pytest.mark.parametrize("run", [lambda f: f, tj.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("in_axis", [0, 1, 2, -1])
@pytest.mark.parametrize("out_axis", [0, 1, -1])
def test_axes(in_axis: int, out_axis: int, run: Any) -> None:
    f = lambda x: x * 2 + x[0]  # noqa: E731
    found = run(tj.vmap(f, in_axes=in_axis, out_axes=out_axis))(GRID)
    rows = [f(tj.tensor(row)) for row in np.moveaxis(np.asarray(GRID), in_axis, 0)]
    assert same_bits(np.asarray(found), np.stack([np.asarray(row) for row in rows], out_axis))


def test_axes_in_containers() -> None:
    def f(p: Any, x: Any, scale: Any) -> Any:
        return {"sum": p["w"] + x[0], "rest": (x[1], p["b"] * scale)}

    found = tj.vmap(f, in_axes=({"w": 1, "b": None}, [0, -1], None), out_axes={"sum": 1, "rest": (0, None)})(
        {"w": tj.ones(4, 3), "b": tj.ones(2)}, [tj.ones(3, 4), tj.ones(5, 3)], 10.0
    )
    assert found["sum"].shape == (4, 3)
    assert found["rest"][0].shape == (3, 5)
    assert found["rest"][1].tolist() == [10, 10]


def test_keyword_arguments_are_batches_too() -> None:
    assert tj.vmap(lambda x, *, y: x + y)(tj.ones(3), y=tj.arange(3)).tolist() == [1, 2, 3]


def test_a_result_that_is_the_same_for_all() -> None:
    assert tj.vmap(lambda x: 7.0)(tj.ones(3)).tolist() == [7, 7, 7]
    assert tj.vmap(lambda x: tj.ones(2), out_axes=1)(tj.ones(3)).shape == (2, 3)
    assert tj.vmap(lambda x: (x, None))(tj.ones(3))[1] is None
    assert tj.vmap(lambda: tj.ones(2), axis_size=3)().shape == (3, 2)
    assert tj.vmap(lambda x: x.shape[0] * 1.0)(tj.ones(3, 5)).tolist() == [5, 5, 5]


def test_an_empty_batch() -> None:
    assert tj.vmap(lambda x: tj.sort(x @ tj.ones(2, 4)))(tj.zeros(0, 3, 2)).shape == (0, 3, 4)


def test_nested() -> None:
    product = tj.vmap(tj.vmap(lambda x, y: x * y, in_axes=(None, 0)), in_axes=(0, None))
    assert product(tj.arange(3), tj.arange(4)).tolist() == np.outer(np.arange(3), np.arange(4)).tolist()
    assert tj.jit(product)(tj.arange(3), tj.arange(4)).tolist() == np.outer(np.arange(3), np.arange(4)).tolist()


def test_changes_in_place_of_what_is_the_functions_own() -> None:
    def f(x: tj.Tensor, i: tj.Tensor) -> tj.Tensor:
        y = tj.zeros(3)
        y[i] = x
        y += x
        y[:2] *= 2
        return y

    found = tj.vmap(f)(tj.tensor([1.0, 2.0]), tj.tensor([0, 2]))
    assert found.tolist() == [[4, 2, 1], [4, 4, 4]]


def test_indices_are_checked_for_each_element() -> None:
    for run in (lambda f: f, tj.jit):
        f = run(tj.vmap(lambda x, i: x[i]))
        assert f(tj.reshape(tj.arange(6), (3, 2)), tj.tensor([0, 1, 0])).tolist() == [0, 3, 4]
        with pytest.raises(IndexError, match="out of bounds for axis 0 with size 2"):
            f(tj.ones(3, 2), tj.tensor([0, 1, 2]))


def test_layers() -> None:
    """A model made for one example, against the same with a batch."""
    tj.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(0), nn.Linear(2 * 4 * 4, 5), nn.LayerNorm(5), nn.Softmax(-1)
    )
    x = tj.randn(3, 1, 6, 6)
    rows = np.stack([net(x[i]).detach().numpy() for i in range(3)])
    np.testing.assert_allclose(tj.vmap(net)(x).detach().numpy(), rows, rtol=1e-6)
    np.testing.assert_array_equal(tj.jit(tj.vmap(net))(x).detach().numpy(), tj.vmap(net)(x).detach().numpy())


# What it refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: x if x > 0 else -x, "a condition"),
        (lambda x: x * x.item(), "item()"),
        (lambda x: tj.ones(3)[x.astype("int64").item()], "item()"),
        (lambda x: tj.ones(5)[: int(x)], "a number"),
        (lambda x: np.asarray(x), "numpy()"),
        (lambda x: tj.reshape(x, (1,))[tj.reshape(x, (1,)) > 0], "the number of elements that are not zero"),
        (lambda x: [1, 2, 3][x.astype("int64")], "an index"),
    ],
)
@pytest.mark.parametrize("run", [lambda f: f, tj.jit], ids=["eager", "jit"])
def test_python_sees_no_values(function: Callable[[Any], Any], what: str, run: Any) -> None:
    message = re.escape(f"vmap: {what} needs one value, but this tensor has 2, one for each element of the batch")
    with pytest.raises(RuntimeError, match=message) as caught:
        run(tj.vmap(function))(tj.ones(2))
    assert "tj.where" in str(caught.value)
    assert "tj.cond" in str(caught.value)
    assert f"{__file__}:" in str(caught.value), "the message names the user's line"


def test_python_sees_what_is_not_batched() -> None:
    def f(x: Any, flag: Any) -> Any:
        return x if flag > 0 else -x

    assert tj.vmap(f, in_axes=(0, None))(tj.ones(2), tj.tensor(-1)).tolist() == [-1, -1]
    assert tj.grad(lambda x: x * x if x > 0 else x)(3.0).item() == 6
    assert tj.jvp(lambda x: x * x if x > 0 else x, (3.0,), (1.0,))[1].item() == 6


def test_a_tensor_from_outside_does_not_become_a_batch() -> None:
    total = tj.zeros(2)

    def f(x: tj.Tensor) -> tj.Tensor:
        total.add_(x)
        return x

    with pytest.raises(RuntimeError, match="a tensor from outside of the function is changed in place") as caught:
        tj.vmap(f)(tj.ones(3, 2))
    assert "total.add_(x)" in str(caught.value)
    assert total.tolist() == [0, 0]
    tj.vmap(lambda x: total.add_(1) * x)(tj.ones(3, 2))  # the same for all
    assert total.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.vmap(3), TypeError, "vmap expects a function, got int 3"),
        (lambda: tj.vmap(abs, randomness="all"), ValueError, "randomness must be one of error, different, same"),
        (lambda: tj.vmap(abs)(tj.tensor(1.0)), ValueError, "in_axes is 0, but argument 0 has 0 axes: shape ()"),
        (lambda: tj.vmap(abs, in_axes=3)(GRID), ValueError, "in_axes is 3, but argument 0 has 3 axes"),
        (lambda: tj.vmap(lambda x, p: x)(GRID, [{"w": 1.0}]), ValueError, "argument 1[0]['w'] has 0 axes"),
        (lambda: tj.vmap(lambda x, w: x)(GRID, w=[1.0]), ValueError, "in_axes is 0, but w[0] has 0 axes"),
        (lambda: tj.vmap(abs, in_axes=None)(GRID), ValueError, "no argument is a batch"),
        (lambda: tj.vmap(abs, in_axes=(0, 0))(GRID), ValueError, "its length is 2 and abs was called with 1 arguments"),
        (lambda: tj.vmap(abs, in_axes=({"a": 0},))(GRID), TypeError, "in_axes must hold ints, None, or containers"),
        (lambda: tj.vmap(abs, out_axes=(0, 0))(GRID), TypeError, "out_axes must hold ints, None, or containers"),
        (lambda: tj.vmap(abs, out_axes=5)(GRID), ValueError, "out_axes is 5, but the result of shape (3, 4)"),
        (lambda: tj.vmap(abs, out_axes=None)(GRID), ValueError, "out_axes is None, but the result differs"),
        (
            lambda: tj.vmap(tj.add, in_axes=(0, 1))(GRID, GRID),
            ValueError,
            "batches of different sizes: 2 along axis 0 of shape (2, 3, 4), 3 along axis 1 of shape (2, 3, 4)",
        ),
        (lambda: tj.vmap(abs, axis_size=5)(GRID), ValueError, "2 along axis 0 of shape (2, 3, 4), axis_size=5"),
        (lambda: tj.vmap(lambda x: "a")(GRID), TypeError, "expected a Tensor, an array or a number, got str"),
        (lambda: tj.psum(1.0, "i"), NameError, "unbound axis name: 'i'"),
        (lambda: tj.vmap(lambda x: tj.psum(x, "i"), axis_name="j")(GRID), NameError, "unbound axis name: 'i'"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert f"{__file__}:" in str(caught.value), "the message names the user's line"


# Random numbers ---------------------------------------------------------------------------------------


def test_random_numbers() -> None:
    def f(x: tj.Tensor) -> tj.Tensor:
        return tj.rand(3) + 0 * x

    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        tj.vmap(f)(tj.zeros(4))
    assert tj.vmap(f, in_axes=None, axis_size=2, randomness="same")(0.0).shape == (2, 3)
    for run in (lambda f: f, tj.jit):
        tj.manual_seed(3)
        rows = np.stack([np.asarray(tj.rand(3)) for _ in range(4)])
        after = tj.rand(1)
        tj.manual_seed(3)
        found = run(tj.vmap(f, randomness="different"))(tj.zeros(4))
        assert same_bits(np.asarray(found), rows), "the n-th element draws what the n-th draw in a row is"
        assert tj.rand(1).item() == after.item()
        tj.manual_seed(3)
        found = run(tj.vmap(f, randomness="same"))(tj.zeros(4))
        assert same_bits(np.asarray(found), np.stack([rows[0]] * 4))


def test_random_numbers_in_batches_of_batches() -> None:
    def draw(x: tj.Tensor) -> tj.Tensor:
        return tj.randn(2) + 0 * x

    inner = {policy: tj.vmap(draw, randomness=policy) for policy in ("same", "different")}
    found = tj.vmap(inner["different"], randomness="different")(tj.zeros(3, 4))
    assert len(np.unique(np.asarray(found))) == 24
    found = tj.vmap(inner["same"], randomness="different")(tj.zeros(3, 4))
    assert len(np.unique(np.asarray(found))) == 6
    assert same_bits(np.asarray(found[:, 0]), np.asarray(found[:, 3]))
    found = tj.vmap(inner["different"], randomness="same")(tj.zeros(3, 4))
    assert len(np.unique(np.asarray(found))) == 8
    assert same_bits(np.asarray(found[0]), np.asarray(found[2]))


def test_dropout() -> None:
    net = nn.Dropout(0.5)
    x = tj.ones(8, 32)
    different = tj.vmap(net, randomness="different")(x)
    assert len({tuple(row) for row in different.tolist()}) == 8
    same = tj.vmap(net, randomness="same")(x)
    assert len({tuple(row) for row in same.tolist()}) == 1


# Collectives ------------------------------------------------------------------------------------------


def softmax(x: tj.Tensor) -> tj.Tensor:
    shifted = tj.exp(x - tj.stop_gradient(tj.pmax(x, "rows")))
    return shifted / tj.psum(shifted, "rows")


def test_collectives() -> None:
    x = tj.tensor([1.0, 2.0, 4.0], dtype="float64")
    for run in (lambda f: f, tj.jit):
        named = lambda f, run=run: run(tj.vmap(f, axis_name="rows"))  # noqa: E731
        assert named(lambda x: tj.psum(x, "rows"))(x).tolist() == [7, 7, 7]
        assert named(lambda x: tj.pmean(x, "rows"))(x).tolist() == pytest.approx([7 / 3] * 3)
        assert named(lambda x: tj.pmax(x, "rows"))(x).tolist() == [4, 4, 4]
        assert named(lambda x: tj.pmin(x, "rows"))(x).tolist() == [1, 1, 1]
        assert named(lambda x: tj.axis_index("rows") * 10)(x).tolist() == [0, 10, 20]
        assert named(lambda x: x * tj.axis_size("rows"))(x).tolist() == [3, 6, 12]
        assert named(lambda x: tj.psum({"one": 1.0, "x": x}, "rows")["one"])(x).tolist() == [3, 3, 3]
        np.testing.assert_allclose(named(softmax)(x).numpy(), nn.functional.softmax(x, -1).numpy(), rtol=1e-15)
    assert tj.vmap(lambda x: tj.psum(x, "rows"), axis_name="rows", out_axes=None)(x).item() == 7


@pytest.mark.parametrize("collective", [tj.psum, tj.pmean, tj.pmax, tj.pmin])
def test_derivatives_of_collectives(collective: Any) -> None:
    """From outside and from inside of the batch, where an element's gradient is of the sum over all."""
    x, w = tj.tensor([1.0, 2.0, 4.0], dtype="float64"), tj.tensor([0.5, -1.0, 2.0], dtype="float64")

    def one(x: tj.Tensor, w: tj.Tensor) -> tj.Tensor:
        return collective(x * x, "rows") * w * x

    def total(x: tj.Tensor) -> tj.Tensor:
        return tj.vmap(one, axis_name="rows")(x, w).sum()

    outside = tj.grad(total)(x)
    inside = tj.vmap(tj.grad(one), axis_name="rows")(x, w)
    np.testing.assert_allclose(inside.numpy(), outside.numpy(), rtol=1e-14)
    forward = tj.jvp(total, (x,), (w,))[1]
    assert forward.item() == pytest.approx((outside * w).sum().item(), rel=1e-14)
    pushed = tj.vmap(lambda x, w: tj.jvp(lambda x: one(x, w), (x,), (w,))[1], axis_name="rows")(x, w)
    assert pushed.sum().item() == pytest.approx(forward.item(), rel=1e-14)
    bends = tj.jacrev(tj.grad(total))(x)
    np.testing.assert_allclose(bends.numpy(), tj.hessian(total)(x).numpy(), rtol=1e-13)
    np.testing.assert_allclose(bends.numpy(), tj.jacfwd(tj.jacfwd(total))(x).numpy(), rtol=1e-13)


def test_collectives_of_the_inner_and_the_outer_batch() -> None:
    def f(x: tj.Tensor) -> Any:
        return tj.psum(x, "rows"), tj.psum(x, "columns"), tj.psum(tj.psum(x, "rows"), "columns")

    x = tj.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    rows, columns, both = tj.vmap(tj.vmap(f, axis_name="columns"), axis_name="rows")(x)
    assert rows.tolist() == [[9, 12]] * 3
    assert columns.tolist() == [[3, 3], [7, 7], [11, 11]]
    assert both.tolist() == [[21, 21]] * 3
    together = ("rows", "columns")
    of_all = {
        tj.psum: [[21] * 2] * 3, tj.pmean: [[3.5] * 2] * 3, tj.pmax: [[6] * 2] * 3, tj.pmin: [[1] * 2] * 3,
        (lambda x, names: tj.axis_index(names)): [[0, 1], [2, 3], [4, 5]],
        (lambda x, names: x * 0 + tj.axis_size(names)): [[6] * 2] * 3,
    }  # fmt: skip
    for collective, expected in of_all.items():
        run = tj.vmap(tj.vmap(lambda x, f=collective: f(x, together), axis_name="columns"), axis_name="rows")
        assert run(x).tolist() == tj.jit(run)(x).tolist() == expected
    gathered = tj.vmap(tj.vmap(lambda x: tj.pmax(x, "columns"), axis_name="columns"))(x)
    assert gathered.tolist() == [[2, 2], [4, 4], [6, 6]]
