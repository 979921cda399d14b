"""The methods that change a tensor in place: they do what the function of the same name gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit.in_place import InPlaceMethods

pytestmark = pytest.mark.usefixtures("first_code_only")

DATA = [0.25, 0.5, 0.75]
OTHER = tj.tensor([2.0, 3.0, 4.0])
MASK = tj.tensor([True, False, True])

# (method, arguments, what it gives)
METHODS: list[tuple[str, tuple[Any, ...], Callable[[Any], Any]]] = [
    *(
        (f"{name}_", (), getattr(tj, name))
        for name in (
            "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "digamma", "erf", "erfc", "erfinv", "exp", "exp2",
            "expm1", "floor", "lgamma", "log", "log10", "log1p", "log2", "logit", "nan_to_num", "reciprocal", "relu",
            "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
        )
    ),
    ("neg_", (), lambda x: -x),
    ("add_", (OTHER,), lambda x: x + OTHER),
    ("sub_", (2,), lambda x: x - 2),
    ("mul_", (OTHER,), lambda x: x * OTHER),
    ("div_", (OTHER,), lambda x: x / OTHER),
    ("floor_divide_", (0.2,), lambda x: x // 0.2),
    ("remainder_", (0.2,), lambda x: x % 0.2),
    ("pow_", (3,), lambda x: x**3),
    ("clamp_", (0.3, 0.6), lambda x: tj.clip(x, 0.3, 0.6)),
    ("clip_", (None, 0.6), lambda x: tj.clip(x, max=0.6)),
    ("clamp_min_", (0.3,), lambda x: tj.clip(x, 0.3)),
    ("clamp_max_", (0.6,), lambda x: tj.clip(x, max=0.6)),
    ("atan2_", (OTHER,), lambda x: tj.atan2(x, OTHER)),
    ("copysign_", (-1.0,), lambda x: -x),
    ("hypot_", (OTHER,), lambda x: tj.hypot(x, OTHER)),
    ("xlogy_", (OTHER,), lambda x: tj.xlogy(x, OTHER)),
    ("lerp_", (OTHER, 0.1), lambda x: x + 0.1 * (OTHER - x)),
    ("cumsum_", (0,), lambda x: tj.cumsum(x, 0)),
    ("cumprod_", (0,), lambda x: tj.cumprod(x, 0)),
    ("scatter_add_", (0, tj.tensor([0, 0, 2]), OTHER), lambda x: x + tj.tensor([5.0, 0.0, 4.0])),
    ("copy_", (OTHER,), lambda x: OTHER * 1),
    ("fill_", (7,), lambda x: tj.full_like(x, 7)),
    ("zero_", (), tj.zeros_like),
    ("masked_fill_", (MASK, -1.0), lambda x: tj.where(MASK, -1.0, x)),
]  # fmt: skip
RANDOM = ("uniform_", "normal_")
table = pytest.mark.parametrize(("method", "arguments", "expected"), METHODS, ids=[row[0] for row in METHODS])


def test_every_method_has_a_row() -> None:
    assert {row[0] for row in METHODS} | set(RANDOM) == {name for name in vars(InPlaceMethods) if name[-2:] != "__"}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@table
def test_value(method: str, arguments: tuple[Any, ...], expected: Callable[[Any], Any], compiled: bool) -> None:
    x = tj.tensor(DATA)

    def change() -> Any:
        return getattr(x, method)(*arguments)

    returned = (tj.jit(change) if compiled else change)()
    assert returned is x
    assert same_bits(x.numpy(), expected(tj.tensor(DATA)).numpy())


@table
def test_gradient(method: str, arguments: tuple[Any, ...], expected: Callable[[Any], Any]) -> None:
    found = []
    for function in (lambda x: getattr(x, method)(*arguments), expected):
        x = tj.tensor(DATA, requires_grad=True)
        y = function(x * 1)
        found.append([0.0] * 3)
        if y.requires_grad:
            (y * OTHER).sum().backward()
            assert x.grad is not None
            found[-1] = x.grad.tolist()
    assert found[0] == found[1]


@table
def test_a_leaf_and_other_dtypes(method: str, arguments: tuple[Any, ...], expected: Callable[[Any], Any]) -> None:
    x = tj.tensor(DATA, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        getattr(x, method)(*arguments)
    assert x.tolist() == DATA
    half = tj.tensor(DATA, dtype="float16")
    getattr(half, method)(*arguments)
    assert half.dtype == tj.float16
    wide = expected(tj.tensor(DATA, dtype="float16").astype("float32")).numpy()
    assert np.allclose(half.numpy(), wide, rtol=2e-2, atol=2e-2)


def test_random_numbers() -> None:
    tj.manual_seed(0)
    x = tj.zeros(1000).uniform_(2.0, 3.0)
    assert (float(x.min()) >= 2, float(x.max()) < 3) == (True, True)
    y = tj.zeros(1000, dtype="float64").normal_(5.0, 0.1)
    assert (y.dtype, abs(float(y.mean()) - 5) < 0.02, abs(float(y.std()) - 0.1) < 0.02) == (tj.float64, True, True)
    generator = tj.random.Generator(3)
    assert same_bits(tj.zeros(4).normal_(generator=generator).numpy(), tj.random.Generator(3).normal((4,)).numpy())


def test_what_is_no_number() -> None:
    x = tj.tensor(DATA)
    with pytest.raises(TypeError, match="add: expected a Tensor, an array or a number, got str 'a'"):
        x.add_("a")
    assert x.tolist() == DATA
