"""Methods of tensors under the names of PyTorch and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits

A = np.array([[1.0, 3.0, 2.0], [-2.0, 0.5, 4.0]], np.float32)
B = np.array([[2.0, 1.0, 2.0], [0.5, 1.5, 1.0]], np.float32)
N = np.array([3, 1, 2])

METHODS: list[tuple[str, Callable[..., Any], Any]] = [  # of the tensors a, b and n
    ("sum(dim=, keepdim=)", lambda a, b, n: a.sum(dim=1, keepdim=True), A.sum(1, keepdims=True)),
    ("sum(axis=, dtype=)", lambda a, b, n: a.sum(axis=0, dtype=tj.float64), A.sum(0, dtype=np.float64)),
    ("sum(dim=list)", lambda a, b, n: a.sum(dim=[0, 1]), np.float32(8.5)),
    ("mean(dim=)", lambda a, b, n: a.mean(dim=-1), A.mean(-1)),
    ("std(dim=)", lambda a, b, n: a.std(dim=1), A.std(1, ddof=1)),
    ("std(axis=)", lambda a, b, n: a.std(axis=1), A.std(1)),
    ("var(unbiased=)", lambda a, b, n: a.var(unbiased=True), A.var(ddof=1)),
    ("var(dim=, correction=)", lambda a, b, n: a.var(dim=0, correction=0), A.var(0)),
    ("max(dim=)", lambda a, b, n: a.max(dim=1).values, A.max(1)),
    ("max(dim=)", lambda a, b, n: a.max(dim=1, keepdim=True)[1], A.argmax(1, keepdims=True)),
    ("min(dim=)", lambda a, b, n: a.min(dim=0).indices, A.argmin(0)),
    ("max(axis=)", lambda a, b, n: a.max(axis=1), A.max(1)),
    ("amax(dim=)", lambda a, b, n: a.amax(dim=(0, 1)), A.max()),
    ("argmax(dim=)", lambda a, b, n: a.argmax(dim=0), A.argmax(0)),
    ("any(dim=)", lambda a, b, n: (a > 3).any(dim=1), (A > 3).any(1)),
    ("sort(dim=)", lambda a, b, n: a.sort(dim=1).values, np.sort(A, 1)),
    ("sort(dim=)", lambda a, b, n: a.sort(dim=0, descending=True).indices, np.argsort(-A, 0)),
    ("sort()", lambda a, b, n: a.sort(), np.sort(A)),
    ("argsort(dim=)", lambda a, b, n: a.argsort(dim=0), np.argsort(A, 0)),
    ("topk(dim=)", lambda a, b, n: a.topk(1, dim=0).values, A.max(0, keepdims=True)),
    ("cumsum", lambda a, b, n: a.cumsum(dim=1), A.cumsum(1)),
    ("cummax", lambda a, b, n: a.cummax(dim=1).values, np.maximum.accumulate(A, 1)),
    ("softmax", lambda a, b, n: (a * 0).softmax(dim=1), np.full((2, 3), np.float32(1) / np.float32(3))),
    ("norm(p=, dim=)", lambda a, b, n: a.norm(p=1, dim=1), np.abs(A).sum(1)),
    ("add(alpha=)", lambda a, b, n: a.add(b, alpha=2), A + 2 * B),
    ("sub(alpha=)", lambda a, b, n: a.sub(b, alpha=2), A - 2 * B),
    ("mul", lambda a, b, n: a.mul(b), A * B),
    ("div", lambda a, b, n: a.div(2), A / 2),
    ("eq", lambda a, b, n: a.eq(3), A == 3),
    ("ge", lambda a, b, n: a.ge(b), A >= B),
    ("maximum", lambda a, b, n: a.maximum(b), np.maximum(A, B)),
    ("neg", lambda a, b, n: a.neg(), -A),
    ("round", lambda a, b, n: a.round(), A.round()),
    ("floor", lambda a, b, n: a.floor(), np.floor(A)),
    ("isnan", lambda a, b, n: a.isnan(), np.isnan(A)),
    ("where", lambda a, b, n: a.where(a > 0, b), np.where(A > 0, A, B)),
    ("masked_fill", lambda a, b, n: a.masked_fill(a > 2, 0), np.where(A > 2, np.float32(0), A)),
    ("clamp_min", lambda a, b, n: a.clamp_min(1), A.clip(1, None)),
    ("logical_and", lambda a, b, n: (a > 0).logical_and(b > 1), (A > 0) & (B > 1)),
    ("bitwise_not", lambda a, b, n: n.bitwise_not(), ~N),
    ("matmul", lambda a, b, n: a.matmul(b.t()), A @ B.T),
    ("mm", lambda a, b, n: a.mm(b.T), A @ B.T),
    ("mv", lambda a, b, n: a.mv(b[0]), A @ B[0]),
    ("dot", lambda a, b, n: a[0].dot(b[0]), A[0] @ B[0]),
    ("outer", lambda a, b, n: n.outer(n), np.outer(N, N)),
    ("trace", lambda a, b, n: a.trace(), np.float32(1.5)),
    ("diagonal", lambda a, b, n: a.diagonal(), A.diagonal()),
    ("tril(diagonal=)", lambda a, b, n: a.tril(diagonal=1), np.tril(A, 1)),
    ("T of three axes", lambda a, b, n: a[None].T, A[None].T),
    ("T of a vector", lambda a, b, n: n.T, N),
    ("H", lambda a, b, n: (a * 1j).H, np.conj(A * np.complex64(1j)).T),
    ("transpose()", lambda a, b, n: a[None].transpose(), A[None].T),
    ("transpose(order)", lambda a, b, n: a[None].transpose((1, 2, 0)), A[None].transpose(1, 2, 0)),
    ("transpose(*order)", lambda a, b, n: a[None].transpose(2, 0, 1), A[None].transpose(2, 0, 1)),
    ("transpose(dim0=, dim1=)", lambda a, b, n: a[None].transpose(dim0=0, dim1=2), A[None].swapaxes(0, 2)),
    ("swapaxes", lambda a, b, n: a.swapaxes(0, 1), A.T),
    ("ravel", lambda a, b, n: a.ravel(), A.ravel()),
    ("squeeze(dim=)", lambda a, b, n: a[None].squeeze(dim=0), A),
    ("unsqueeze(dim=)", lambda a, b, n: a.unsqueeze(dim=-1), A[..., None]),
    ("flip(dims=)", lambda a, b, n: a.flip(dims=(0,)), A[::-1]),
    ("flip", lambda a, b, n: a.flip(0, 1), A[::-1, ::-1]),
    ("roll", lambda a, b, n: a.roll(shifts=1, dims=1), np.roll(A, 1, 1)),
    ("repeat", lambda a, b, n: n.repeat(2, 2), np.tile(N, (2, 2))),
    ("repeat_interleave", lambda a, b, n: n.repeat_interleave(2), np.repeat(N, 2)),
    ("tile", lambda a, b, n: a.tile((2, 1)), np.tile(A, (2, 1))),
    ("expand_as", lambda a, b, n: n.expand_as(a), np.broadcast_to(N, (2, 3))),
    ("expand(-1)", lambda a, b, n: a.expand(2, -1, -1), np.broadcast_to(A, (2, 2, 3))),
    ("expand(-1)", lambda a, b, n: a[:, :1].expand(-1, 4), np.broadcast_to(A[:, :1], (2, 4))),
    ("permute(dims=)", lambda a, b, n: a.permute(dims=(1, 0)), A.T),
    ("lerp", lambda a, b, n: a.lerp(b, 0.5), A + np.float32(0.5) * (B - A)),
    ("lerp_", lambda a, b, n: a.lerp_(b, 0.5), A + np.float32(0.5) * (B - A)),
    ("clamp_max_", lambda a, b, n: a.clamp_max_(1), A.clip(None, 1)),
    ("cumsum_", lambda a, b, n: a.cumsum_(dim=1), A.cumsum(1)),
    ("scatter_add_", lambda a, b, n: n.scatter_add_(0, n - 1, n), N + np.array([1, 2, 3])),
    ("bincount", lambda a, b, n: n.bincount(), np.bincount(N)),
    ("view_as", lambda a, b, n: a.view_as(b.T), A.reshape(3, 2)),
    ("unflatten", lambda a, b, n: a.ravel().unflatten(0, (3, 2)), A.reshape(3, 2)),
    ("split", lambda a, b, n: a.split(2, dim=1), (A[:, :2], A[:, 2:])),
    ("split(sizes)", lambda a, b, n: a.split([1, 0, 2], 1), (A[:, :1], A[:, :0], A[:, 1:])),
    ("chunk", lambda a, b, n: a.chunk(2, dim=1), (A[:, :2], A[:, 2:])),
    ("unbind", lambda a, b, n: a.unbind(dim=1), tuple(A.T)),
    ("concat(tensor)", lambda a, b, n: tj.concat(a), A.ravel()),
    ("stack(tensor)", lambda a, b, n: tj.stack(a, axis=1), A.T),
    ("take_along_axis(None)", lambda a, b, n: tj.take_along_axis(a, n, axis=None), A.ravel()[N]),
    ("angle", lambda a, b, n: a.angle(), np.angle(A)),
    ("nonzero", lambda a, b, n: (a > 2).nonzero(), np.argwhere(A > 2)),
    ("nonzero(as_tuple=)", lambda a, b, n: (a > 2).nonzero(as_tuple=True), np.nonzero(A > 2)),
    ("select", lambda a, b, n: a.select(1, 0), A[:, 0]),
    ("narrow", lambda a, b, n: a.narrow(-1, 1, 2), A[:, 1:3]),
    ("index_select", lambda a, b, n: a.index_select(1, n - 1), A[:, N - 1]),
    ("masked_select", lambda a, b, n: a.masked_select(n > 1), A[:, N > 1].ravel()),
    ("gather", lambda a, b, n: a.gather(1, n[:2, None] - 1), np.take_along_axis(A, N[:2, None] - 1, 1)),
    ("gather of fewer", lambda a, b, n: a.gather(1, n[None, :2] - 1), A[:1, N[:2] - 1]),
    ("scatter_add", lambda a, b, n: n.scatter_add(dim=0, index=n - 1, src=n), N + np.array([1, 2, 3])),
    ("take", lambda a, b, n: a.take(n), A.ravel()[N]),
    ("half", lambda a, b, n: a.half(), A.astype(np.float16)),
    ("int", lambda a, b, n: a.int(), A.astype(np.int32)),
    ("bool", lambda a, b, n: a.bool(), A.astype(bool)),
    ("type_as", lambda a, b, n: n.type_as(a), N.astype(np.float32)),
    ("contiguous", lambda a, b, n: a.T.contiguous().cpu().copy(), A.T),
    ("new_zeros", lambda a, b, n: n.new_zeros(2, 2), np.zeros((2, 2), np.int64)),
    ("new_ones", lambda a, b, n: a.new_ones((2,)), np.ones(2, np.float32)),
    ("new_full", lambda a, b, n: a.new_full((2,), 3), np.full(2, 3, np.float32)),
    ("new_tensor", lambda a, b, n: a.new_tensor([1, 2]), np.array([1, 2], np.float32)),
]


@pytest.mark.parametrize(("call", "expected"), [m[1:] for m in METHODS], ids=[m[0] for m in METHODS])
def test_methods(call: Callable[..., Any], expected: Any) -> None:
    results = call(tj.tensor(A), tj.tensor(B), tj.tensor(N))
    pairs = zip(results, expected, strict=True) if isinstance(expected, tuple) else [(results, expected)]
    for result, wanted in pairs:
        assert same_bits(np.asarray(result), np.asarray(wanted))


def test_methods_that_give_no_tensor() -> None:
    a = tj.tensor(A)
    assert (a.itemsize, a.nbytes, a.element_size(), a.nelement(), a.ndimension()) == (4, 24, 4, 6, 2)
    answers = (a.is_floating_point(), (a * 1j).is_complex(), a.allclose(a + 1e-7), a.equal(a.clone()), a.equal(a.T))
    assert answers == (True, True, True, True, False)
    assert all(isinstance(answer, bool) for answer in answers)
    assert a.is_contiguous()
    assert a.is_cuda is False


def test_jitted_methods() -> None:
    def function(a: tj.Tensor, n: tj.Tensor) -> Any:
        best = a.max(dim=1)
        parts = a.chunk(2, dim=1)
        return best.values, best.indices, parts[0].t().matmul(a.softmax(dim=1)), a.std(dim=0), a.gather(1, n[:2, None])

    a, n = tj.tensor(A), tj.tensor(N - 1)
    for one, other in zip(function(a, n), tj.jit(function)(a, n), strict=True):
        assert same_bits(np.asarray(one), np.asarray(other))


def test_the_gradient_of_a_largest_element_goes_to_its_position() -> None:
    x = tj.tensor([[1.0, 1.0], [0.0, 2.0]], requires_grad=True)
    x.max(dim=1).values.sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_python_protocols() -> None:
    a, n = tj.tensor(A), tj.tensor(N)
    assert same_bits(np.asarray(round(a)), A.round())
    assert same_bits(np.asarray(round(a / 3, 1)), (A / np.float32(3)).round(1))
    assert round(tj.tensor(2.5)) == 2
    for result, wanted in zip((*divmod(n, 2), *divmod(7, n)), (*divmod(N, 2), *divmod(7, N)), strict=True):
        assert same_bits(np.asarray(result), wanted)
    assert 0.5 in a
    assert 7 not in a
    assert None not in a
    assert f"{a[0, 0]:.2f} {n}" == "1.00 tensor([3, 1, 2])"


def test_text() -> None:
    assert repr(tj.tensor([1.0, 2.5]).bfloat16()) == "tensor([1. , 2.5], dtype=bfloat16)"
    assert repr(tj.zeros(0, 3)) == "tensor([], shape=(0, 3))"
    assert repr(tj.zeros(0, dtype=tj.float64)) == "tensor([], dtype=float64)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.sum(dim=2), IndexError, "sum: axis 2 is out of bounds for a tensor of dimension 2"),
        (lambda x: x.cumsum(dim="a"), TypeError, "cumsum: an axis must be an integer, got str 'a'"),
        (lambda x: x[None].t(), RuntimeError, r"t\(\) expects a tensor with <= 2 dimensions, but self is 3D"),
        (lambda x: x.repeat(2), RuntimeError, r"repeat dims can not be smaller .* \(2,\) for shape \(2, 3\)"),
        (lambda x: x.expand(-1, 2, 3), ValueError, r"shape \(2, 3\) cannot be broadcast to \(-1, 2, 3\)"),
        (lambda x: x.split(0), RuntimeError, "split_size be positive, but got 0"),
        (lambda x: x.split([1, 3]), RuntimeError, r"sum exactly to 2 .* got \[1, 3\]"),
        (lambda x: x.squeeze(dim=0), ValueError, r"squeeze: axis 0 of shape \(2, 3\) does not have extent 1"),
        (lambda x: x.flip(0, 0), ValueError, r"flip: an axis appears twice in \(0, 0\)"),
        (lambda x: f"{x:.2f}", TypeError, r"format '.2f' is for a number, not for a Tensor of shape \(2, 3\)"),
        (lambda x: tj.concat([]), ValueError, "expected at least one tensor"),
        (lambda x: x.__array_namespace__(api_version="1999"), ValueError, "2021.12, .*, 2025.12, got '1999'"),
    ],
)
def test_errors(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call(tj.tensor(A))
    assert "test_methods.py" in str(caught.value), "the user's line is named"
