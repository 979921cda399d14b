"""Attention of half floats on a device: one operation, eager and compiled, with its derivatives of any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tests.devices import DEVICE

pytestmark = pytest.mark.usefixtures("gpusim")

EPSILON = 2**-7  # of bfloat16


def drawn(*shape: int, seed: int = 0) -> tj.Tensor:
    numbers = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return tj.tensor(numbers).astype(tj.bfloat16).to(DEVICE)


def given(heads: int = 2, shared: int = 2, length: int = 20, size: int = 16) -> list[tj.Tensor]:
    return [drawn(1, count, length, size, seed=seed) for seed, count in enumerate((heads, shared, shared))]


def bits(x: tj.Tensor) -> bytes:
    return x.detach().cpu().numpy().tobytes()


def wide(x: tj.Tensor) -> tj.Tensor:
    return x.detach().cpu().astype(tj.float32)


def both(*operands: tj.Tensor, **settings: Any) -> list[tj.Tensor]:
    """The result and the gradients."""
    leaves = [x.detach().requires_grad_() for x in operands]
    result = F.scaled_dot_product_attention(*leaves, **settings)
    (result.astype(tj.float32) ** 2).sum().backward()
    return [result.detach(), *(leaf.grad for leaf in leaves)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("operands", "settings"),
    [
        (given, {"is_causal": True}),
        (lambda: given(shared=1), {"enable_gqa": True, "scale": 0.3}),
        (lambda: [*given(), (drawn(20, 20, seed=5).cpu() > 0).to(DEVICE)], {}),
        (lambda: [x[0] for x in given()], {"is_causal": True}),
        (lambda: [x[0, 0] for x in given()], {"is_causal": True}),
    ],
    ids=["causal", "shared heads", "mask", "three axes", "two axes"],
)
def test_eager_and_compiled(operands: Callable[[], list[tj.Tensor]], settings: dict[str, Any]) -> None:
    q, k, v, *masks = operands()
    rows, mask = (q, k, v), masks[0] if masks else None
    settings = {**settings, "attn_mask": mask}
    found = both(*rows, **settings)
    compiled = tj.jit(lambda *rows: both(*rows, **settings))
    assert [bits(x) for x in compiled(*rows)] == [bits(x) for x in found]
    here = {**settings, "attn_mask": None if mask is None else mask.cpu()}
    expected = both(*(wide(x) for x in rows), **here)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == tj.bfloat16
        assert a.shape == b.shape
        assert np.abs(wide(a).numpy() - b.numpy()).max() < 8 * EPSILON
    text = compiled.ir(*rows, stage="kernels")
    assert text.count("call attention") == 3


def test_what_a_transformer_has_is_read_where_it_is() -> None:
    def f(x: tj.Tensor) -> tj.Tensor:
        q, k, v = (tj.permute_dims(part.reshape(1, 20, 2, 16), (0, 2, 1, 3)) for part in (x, x * 2, x + 1))
        return F.scaled_dot_product_attention(q, k, v)

    x = drawn(1, 20, 32)
    compiled = tj.jit(f)
    assert bits(compiled(x)) == bits(f(x))
    assert "query_head=16, query_row=32" in compiled.ir(x, stage="kernels")


def test_other_operands_go_another_way() -> None:
    q = drawn(1, 2, 5, 16)
    traced = tj.jit(lambda q, v: F.scaled_dot_product_attention(q, q, v))
    assert "attention" in traced.ir(q, q, stage="trace").split("#")[0]
    for v in (drawn(1, 2, 5, 8), drawn(2, 2, 5, 16)):
        assert ("= attention" in traced.ir(q, v, stage="trace")) == (v.shape[0] == 2)
        assert traced(q, v).shape == (v.shape[0], 2, 5, v.shape[-1])
    lengths = tj.jit(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True))
    for length in (5, 70, 33, 70):  # traced once for all
        x = drawn(1, 2, length, 16)
        assert bits(lengths(x)) == bits(F.scaled_dot_product_attention(x, x, x, is_causal=True))
    single = q.astype(tj.float32)
    assert "= attention" not in traced.ir(single, single, stage="trace")
    assert "= attention" not in traced.ir(q.cpu(), q.cpu(), stage="trace")
    with pytest.raises(RuntimeError, match="one last extent"):
        F.scaled_dot_product_attention(q, q[..., :8], q)


def test_derivatives_of_other_kinds() -> None:
    q, k, v = given(length=6)
    t = drawn(*q.shape, seed=9)

    def attend(q: tj.Tensor) -> tj.Tensor:
        return F.scaled_dot_product_attention(q, k.to(q.device).astype(q.dtype), v.to(q.device).astype(q.dtype))

    def second(q: tj.Tensor) -> tj.Tensor:
        return tj.grad(lambda q: (tj.grad(lambda q: (attend(q).astype(tj.float32) ** 2).sum())(q) ** 2).sum())(q)

    for function in (attend, second):
        there, here = function(q), function(wide(q))
        assert np.abs(wide(there).numpy() - here.numpy()).max() < 8 * EPSILON * max(1, float(tj.abs(here).max()))
        assert bits(tj.jit(function)(q)) == bits(there)
    tangent = tj.jvp(attend, (q,), (t,))[1]
    assert np.abs(wide(tangent).numpy() - tj.jvp(attend, (wide(q),), (wide(t),))[1].numpy()).max() < 8 * EPSILON
    batched = tj.vmap(F.scaled_dot_product_attention)(q, k, v)
    assert bits(batched) == bits(F.scaled_dot_product_attention(q, k, v))


def test_queries_that_may_look_nowhere() -> None:
    q, k, v = given(length=4)
    mask = (tj.arange(4)[:, None] > tj.arange(4)).to(DEVICE)
    found = both(q, k, v, attn_mask=mask)
    assert not wide(found[0][:, :, 0]).any()
    assert not wide(found[1][:, :, 0]).any()
    assert all(np.isfinite(wide(x).numpy()).all() for x in found)


def test_a_mask_has_a_gradient() -> None:
    q, k, v = given(length=5)

    def gradient(mask: tj.Tensor, *rows: tj.Tensor) -> tj.Tensor:
        mask = mask.detach().requires_grad_()
        (F.scaled_dot_product_attention(*rows, mask).astype(tj.float32) ** 2).sum().backward()
        return mask.grad  # type: ignore[return-value]

    mask = wide(drawn(5, 5, seed=7))
    found = gradient(mask.to(DEVICE), q, k, v)
    expected = gradient(mask, *(wide(x) for x in (q, k, v)))
    assert found.shape == (5, 5)
    assert np.abs(wide(found).numpy() - expected.numpy()).max() < 8 * EPSILON
