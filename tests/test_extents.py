"""Calls with other extents: traced for any, so that no new extent, and no new number of elements, runs Python again."""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim


def _rows(n, *rest):
    return np.random.default_rng(n).standard_normal((n, *rest)).astype(np.float32)


def _labels(n):
    return np.random.default_rng(n).integers(0, 5, n)


def _same(found, expected):
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _same(one, other)
    elif isinstance(expected, tj.Tensor):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.numpy(force=True).tobytes() == expected.numpy(force=True).tobytes()
    else:
        assert type(found) is type(expected)
        assert found == expected


def _attention(x):
    batch, length, width = x.shape
    q = x.reshape(batch, length, 2, width // 2).permute(0, 2, 1, 3)
    mask = tj.tril(tj.ones(length, length)) == 0
    scores = (q @ q.transpose(-1, -2)) / (width // 2) ** 0.5
    weights = F.softmax(tj.where(mask, -np.inf, scores), -1)
    return (weights @ q).permute(0, 2, 1, 3).reshape(batch, length, width)


tj.manual_seed(0)
LINEAR = nn.Linear(6, 5)
CONVOLUTION = nn.Conv2d(1, 2, 3, padding=1)
LAYERS = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 5))
RECURRENT = nn.LSTM(6, 4, batch_first=True)
EMBEDDING = nn.Embedding(5, 3)

# Functions of a batch of rows of six: no extent of the batch is written into what is recorded of them.
PROGRAMS = {
    "elementwise": lambda x: tj.exp(x) * 2 + x,
    "sum": lambda x: x.sum(),
    "sum of rows": lambda x: x.sum(0),
    "mean": lambda x: x.mean(),
    "mean of rows": lambda x: x.mean(0, keepdims=True),
    "variance": lambda x: x.var(0),
    "standard deviation": lambda x: (x - x.mean(0)) / (x.std(0) + 1e-5),
    "max": lambda x: x.max(1).values if hasattr(x.max(1), "values") else x.max(1),
    "argmax": lambda x: tj.argmax(x, axis=1),
    "softmax": lambda x: F.softmax(x, -1),
    "softmax over the batch": lambda x: F.softmax(x, 0),
    "cumulative sum": lambda x: tj.cumulative_sum(x, axis=0),
    "sort": lambda x: tj.sort(x, axis=0),
    "transpose": lambda x: x.T @ x,
    "matmul": lambda x: x @ x.T,
    "linear": lambda x: LINEAR(x),
    "layers": lambda x: LAYERS(x),
    "normalized": lambda x: F.layer_norm(x, (6,)),
    "reshape": lambda x: x.reshape(x.shape[0], 2, 3),
    "reshape to flat": lambda x: x.reshape(-1) + 1,
    "reshape and back": lambda x: x.reshape(x.shape[0] * 2, 3).reshape(-1, 6),
    "unsqueeze": lambda x: x.unsqueeze(1) - x.unsqueeze(0),
    "first column": lambda x: x[:, 0],
    "part of columns": lambda x: x[:, 1:4] * 2,
    "without the first": lambda x: x[1:],
    "without the last": lambda x: x[:-1],
    "last": lambda x: x[-1],
    "differences": lambda x: x[1:] - x[:-1],
    "every second column": lambda x: x[:, ::2],
    "concatenation": lambda x: tj.concat([x, x * 2], axis=0),
    "stack": lambda x: tj.stack([x, x + 1], axis=1),
    "size as a number": lambda x: x.sum() / x.shape[0],
    "size in arithmetic": lambda x: x * (x.shape[0] * 2 + 1),
    "size in a float": lambda x: x * (1.0 / x.shape[0]),
    "size returned": lambda x: (x.shape[0], x.shape, x + 1),
    "zeros": lambda x: tj.zeros(x.shape[0], 2) + x[:, :2],
    "ones like": lambda x: tj.ones_like(x) - x,
    "counting": lambda x: tj.arange(x.shape[0]),
    "positions": lambda x: x[:, 0] * tj.arange(x.shape[0]),
    "random": lambda x: x + tj.rand(x.shape[0], 6),
    "dropout": lambda x: F.dropout(x, 0.5),
    "where": lambda x: tj.where(x > 0, x, 0.0),
    "clamp": lambda x: x.clamp(-1, 1),
    "pad": lambda x: tj.pad(x, ((0, 0), (1, 2))),
    "flip": lambda x: tj.flip(x, axis=1),
    "gather": lambda x: tj.take_along_axis(x, tj.argmax(x, axis=1).reshape(-1, 1), axis=1),
    "set column": lambda x: _with_column(x),
    "einsum": lambda x: tj.einsum("bi,bj->ij", x, x),
    "norm": lambda x: tj.linalg.vector_norm(x, axis=1),
    "attention": lambda x: _attention(x.reshape(-1, 1, 6)),
    "convolution": lambda x: CONVOLUTION(x.reshape(-1, 1, 2, 3)),
    "pooling": lambda x: F.max_pool2d(x.reshape(-1, 1, 2, 3), 2),
    "recurrent": lambda x: RECURRENT(x.reshape(-1, 1, 6))[0],
    "gradient": lambda x: tj.grad(lambda x: (x**3).mean())(x),
    "vmap": lambda x: tj.vmap(lambda row: row / row.sum())(x),
    "positive elements": lambda x: x[x > 0],
    "positive elements summed": lambda x: x[x > 0].sum(),
    "rows chosen by a mask": lambda x: x[x[:, 0] > 0].mean(0) * 2,
    "mask twice": lambda x: (x[x > 0] - 0.5)[(x[x > 0] - 0.5) > 0].sum(),
    "where true": lambda x: tj.nonzero(x > 0)[1].sum(),
    "argwhere": lambda x: tj.argwhere(x > 0) * 2,
    "number of true": lambda x: x[x > 0].shape[0],
    "mean of the chosen": lambda x: x[x > 0.0].sum() / x[x > 0.0].shape[0],
    "unique": lambda x: tj.unique_values(tj.round(x)),
    "repeat": lambda x: tj.repeat(x, 2, axis=0),
    "loop over columns": lambda x: sum(x[:, i] * i for i in range(x.shape[1])),
    "condition": lambda x: x * 2 if x.sum() > 0 else x - 1,
    "long or short": lambda x: x.sum() if x.shape[0] > 2 else x.mean(),
}


def _with_column(x):
    y = x + 0
    y[:, 1] = 0.5
    return y


@pytest.mark.parametrize("name", PROGRAMS)
def test_another_batch_is_not_traced(name):
    function = PROGRAMS[name]
    compiled = tj.jit(function)
    counts = []
    for n in (4, 5, 6, 9, 6, 6, 4):
        x = _rows(n, 6)
        tj.manual_seed(n)
        expected = function(tj.tensor(x))
        tj.manual_seed(n)
        _same(compiled(tj.tensor(x)), expected)
        counts.append(compiled.cache_info().misses)
    assert compiled.cache_info().lazy == 0
    allowed = 2 + (name in ("condition",)) * 2
    assert counts[-1] <= allowed, compiled.explain()
    if name != "condition":
        assert counts[1:] == [2] * 6, compiled.explain()


def test_a_training_step_is_not_traced_for_another_batch():
    def make():
        tj.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 5))
        opt = optim.Adam(model.parameters())

        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        return model, step

    model, step = make()
    twin, eagerly = make()
    compiled = tj.jit(step)
    for n in (8, 5, 7, 1, 3, 8):
        x, y = tj.tensor(_rows(n, 6)), tj.tensor(_labels(n))
        tj.manual_seed(n)
        expected = eagerly(x, y)
        tj.manual_seed(n)
        _same(compiled(x, y), expected)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        _same(one.detach(), other.detach())
    assert compiled.cache_info().misses <= 3  # the first batch, any, and after the first zero_grad


def test_gradients_of_outputs_for_another_batch():
    @tj.jit
    def forward(x, w):
        return tj.tanh(x @ w).mean(0)

    def plain(x, w):
        return tj.tanh(x @ w).mean(0)

    for n in (4, 5, 6, 7):
        gradients = []
        for function in (forward, plain):
            x, w = tj.tensor(_rows(n, 6), requires_grad=True), tj.tensor(_rows(6, 3), requires_grad=True)
            function(x, w).sum().backward()
            gradients.append((x.grad, w.grad))
        _same(*gradients)
    assert forward.cache_info().misses == 2


def test_gradients_of_a_loop_over_rows_that_a_mask_selects():
    def plain(x):
        x = x[x.sum(1) > -9]
        while x.max() > 1:
            x = x * 0.5
        return x

    gradients = []
    for function in (plain, tj.jit(plain)):
        for n in (4, 5, 6, 3):
            x = tj.tensor(_rows(n, 3) * 3, requires_grad=True)
            function(x).sum().backward()
            gradients.append(x.grad)
    _same(gradients[4:], gradients[:4])


@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one(n):
    names = ["elementwise", "sum", "linear", "softmax", "layers", "reshape", "first column", "positive elements"]
    for name in names:
        compiled = tj.jit(PROGRAMS[name])
        for size in (4, 5, n):
            x = tj.tensor(_rows(size, 6))
            _same(compiled(x), PROGRAMS[name](x))
        assert compiled.cache_info().misses == 2, name


def test_extents_that_were_equal_by_chance():
    function = tj.jit(lambda x, y: (x.sum(0), y.sum(0)))
    for n, m in ((4, 4), (5, 5), (6, 7), (8, 9), (3, 3)):
        x, y = tj.tensor(_rows(n, 2)), tj.tensor(_rows(m, 2))
        _same(function(x, y), (x.sum(0), y.sum(0)))
    assert function.cache_info().misses == 3


def test_python_reads_the_number():
    def plain(x):
        return [row.sum() for row in x]

    function = tj.jit(plain)
    for n in (2, 3, 4, 3):
        x = tj.tensor(_rows(n, 2))
        _same(function(x), plain(x))
    assert function.cache_info().misses == 3


def test_what_was_traced_for_any_extents_is_for_one_number_and_one_object():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

    def plain(x, count, apply, scale):
        for i in range(count):
            x = x + i
        return apply(x) * scale.factor

    function = tj.jit(plain)
    others = [(1, tj.exp, Scale(2)), (2, tj.sin, Scale(3)), (1, tj.sin, Scale(5))]
    for n in (2, 1, 3, 4, 1):
        for other in others:
            x = tj.tensor(_rows(n, 2))
            _same(function(x, *other), plain(x, *other))
    assert function.cache_info().misses == 2 * len(others)


def test_a_shape_that_does_not_fit_is_an_error_each_time():
    function = tj.jit(lambda x, y: x + y)
    for n in (2, 3, 4):
        function(tj.ones(n, 3), tj.ones(n, 3))
    for _ in range(2):
        with pytest.raises(ValueError, match="broadcast"):
            function(tj.ones(5, 3), tj.ones(4, 3))
    _same(function(tj.ones(5, 3), tj.ones(1, 3)), tj.full((5, 3), 2.0))


def test_state_is_looked_at_for_each_batch():
    layer = nn.Dropout(0.5)
    function = tj.jit(lambda x: layer(x) * 2)
    for n in (3, 4, 5):
        function(tj.ones(n, 2))
    layer.eval()
    for n in (3, 4, 5, 6):
        _same(function(tj.ones(n, 2)), tj.full((n, 2), 2.0))


def test_an_extent_kept_in_an_attribute_is_a_number():
    class Holder:
        size = 0

    holder = Holder()

    @tj.jit
    def function(x):
        holder.size = x.shape[0] * 2
        return x + 1

    for n in (3, 4, 5, 6):
        function(tj.ones(n))
        assert type(holder.size) is int
        assert holder.size == 2 * n


def test_check_messages_name_the_extent_of_the_call():
    function = tj.jit(lambda x, i: x[i])
    for n in (3, 4, 5):
        function(tj.ones(n), tj.tensor([0, 1]))
    with pytest.raises(IndexError, match="with size 6"):
        function(tj.ones(6), tj.tensor([0, 6]))


def test_explain_names_what_was_other_and_what_is_asked_for():
    function = tj.jit(lambda x: [row.sum() for row in x])
    for n in (2, 3, 4):
        function(tj.tensor(_rows(n, 2)))
    report = function.explain()
    assert "traced again: `x` had shape (2, 2), now (3, 2)" in report
    assert "extent 0 of `x` is asked for as a number (test_extents.py:" in report
    other = tj.jit(lambda x: x[x > 0])
    for n in (2, 3, 4):
        other(tj.tensor(_rows(n, 2)))
    assert "made of what was traced for any n: x f32[n,2]" in other.explain()
    assert "for any m: the number of elements that are not zero" in other.explain()
    assert "made of what was traced for any n: x f32[n,2]" in other.ir(tj.tensor(_rows(5, 2)))
