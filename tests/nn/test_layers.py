"""Layers against NumPy, written out: embeddings, convolutions, pooling, normalization, recurrence, attention."""

import math

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn

RNG = np.random.default_rng(0)


def t64(array, **kwargs):
    return tj.tensor(np.asarray(array, np.float64), **kwargs)


def check_gradient(function, *arrays, step=1e-6, tolerance=1e-6):
    """The gradient of ``function`` by each array against central differences along a random direction, in float64."""
    tensors = [t64(array, requires_grad=True) for array in arrays]
    output = function(*tensors)
    weights = t64(RNG.normal(size=output.shape))
    (output * weights).sum().backward()
    for position, array in enumerate(arrays):
        direction = RNG.normal(size=array.shape)
        values = []
        for sign in (1, -1):
            moved = [t64(a + sign * step * direction if i == position else a) for i, a in enumerate(arrays)]
            values.append((function(*moved) * weights).sum().item())
        expected = (values[0] - values[1]) / (2 * step)
        found = (tensors[position].grad.numpy() * direction).sum()
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def check_compiled(function, *arrays):
    """Value and gradient of the compiled function: the eager ones, to the bit."""

    def value_and_gradient(x, *rest):
        x = x.detach().requires_grad_()
        value = function(x, *rest)
        (value * value).sum().backward()
        return value.detach(), x.grad

    compiled = tj.jit(value_and_gradient)
    for found, expected in zip(compiled(*arrays), value_and_gradient(*arrays), strict=True):
        assert found.numpy().tobytes() == expected.numpy().tobytes()
    assert compiled.cache_info().lazy == 0


# Convolutions -----------------------------------------------------------------------------------------


def np_conv(x, w, b, stride, padding, dilation, groups):
    """The definition: a sum for each place of each output channel."""
    axes = w.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in padding]])
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    places = [(n - s) // by + 1 for n, s, by in zip(x.shape[2:], spans, stride, strict=True)]
    result = np.zeros((x.shape[0], w.shape[0], *places))
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for o in range(w.shape[0]):
        group = x[:, o // outputs * inputs :][:, :inputs]
        for place in np.ndindex(*places):
            window = tuple(
                slice(p * by, p * by + s, d) for p, by, s, d in zip(place, stride, spans, dilation, strict=True)
            )
            total = (group[(slice(None), slice(None), *window)] * w[o]).sum(tuple(range(1, axes + 2)))
            result[(slice(None), o, *place)] = total
    return result if b is None else result + b.reshape(-1, *[1] * axes)


CONVOLUTIONS = [
    ((2, 4, 9), (6, 4, 3), {}),
    ((2, 4, 9), (6, 2, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}),
    ((2, 3, 6, 5), (4, 3, 3, 2), {"padding": (1, 0)}),
    ((1, 4, 7, 6), (4, 1, 2, 3), {"stride": (2, 1), "groups": 4, "dilation": (1, 2)}),
    ((2, 3, 4, 4), (5, 3, 1, 1), {}),
    ((1, 2, 8, 8), (2, 2, 5, 1), {"stride": (2, 3)}),  # windows longer than their stride, and shorter
]


@pytest.mark.parametrize(("shape", "kernel", "settings"), CONVOLUTIONS)
def test_convolution(shape, kernel, settings):
    axes = len(shape) - 2
    x, w, b = RNG.normal(size=shape), RNG.normal(size=kernel), RNG.normal(size=kernel[0])
    full = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **settings}
    wide = {k: (v,) * axes if isinstance(v, int) and k != "groups" else v for k, v in full.items()}
    function = (F.conv1d, F.conv2d)[axes - 1]
    np.testing.assert_allclose(
        function(t64(x), t64(w), t64(b), **settings).numpy(), np_conv(x, w, b, **wide), rtol=1e-10
    )
    np.testing.assert_allclose(function(t64(x[0]), t64(w), **settings).numpy(), np_conv(x[:1], w, None, **wide)[0])
    check_gradient(lambda x, w, b: function(x, w, b, **settings), x, w, b)
    check_compiled(lambda x, w: function(x, w, **settings), tj.randn(*shape), tj.randn(*kernel))


TRANSPOSED = [
    ((2, 4, 5), (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 4, 5), (4, 2, 2), {"stride": 3, "groups": 2}),
    ((1, 2, 3, 3), (2, 3, 4, 3), {"stride": 2, "padding": 1, "output_padding": (0, 1)}),
    ((2, 3, 4, 3), (3, 2, 3, 2), {"stride": (1, 2), "padding": (2, 0), "dilation": 2}),
]


@pytest.mark.parametrize(("shape", "kernel", "settings"), TRANSPOSED)
def test_transposed_convolution_is_the_adjoint(shape, kernel, settings):
    """``<conv_transpose(y), x> == <y, conv(x)>`` for all x and y."""
    axes = len(shape) - 2
    up, down = ((F.conv_transpose1d, F.conv1d), (F.conv_transpose2d, F.conv2d))[axes - 1]
    y, w = RNG.normal(size=shape), RNG.normal(size=kernel)
    result = up(t64(y), t64(w), **settings).numpy()
    x = RNG.normal(size=result.shape)
    settings_down = {key: value for key, value in settings.items() if key != "output_padding"}
    np.testing.assert_allclose((result * x).sum(), (down(t64(x), t64(w), **settings_down).numpy() * y).sum())
    check_gradient(lambda y, w: up(y, w, **settings), y, w)
    check_compiled(lambda y, w: up(y, w, **settings), tj.randn(*shape), tj.randn(*kernel))


def test_padding_modes_and_same():
    x = RNG.normal(size=(1, 2, 7))
    for mode, numpy_mode in (
        ("reflect", "reflect"),
        ("replicate", "edge"),
        ("circular", "wrap"),
        ("zeros", "constant"),
    ):
        layer = nn.Conv1d(2, 3, 4, padding="same", padding_mode=mode, dtype=tj.float64)
        padded = np.pad(x, [(0, 0), (0, 0), (1, 2)], mode=numpy_mode)
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        np.testing.assert_allclose(layer(t64(x)).detach().numpy(), np_conv(padded, w, b, (1,), (0,), (1,), 1))


def test_convolutions_that_do_not_fit():
    with pytest.raises(RuntimeError, match=r"expected input\[1, 3, 8\] to have 2 channels, but got 3 channels instead"):
        nn.Conv1d(2, 4, 3)(tj.ones(1, 3, 8))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        nn.Conv1d(2, 4, 3)(tj.ones(1, 2, 2))
    with pytest.raises(RuntimeError, match=r"Expected 2D \(unbatched\) or 3D \(batched\) input to conv1d"):
        nn.Conv1d(2, 4, 3)(tj.ones(2))
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        nn.Conv1d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="padding='same' is not supported for strided convolutions"):
        F.conv1d(tj.ones(1, 1, 8), tj.ones(1, 1, 3), stride=2, padding="same")
    with pytest.raises(RuntimeError, match="output padding must be smaller than either stride or dilation"):
        nn.ConvTranspose1d(1, 1, 3, output_padding=1)(tj.ones(1, 1, 4))


# Pooling ----------------------------------------------------------------------------------------------


def test_max_pooling():
    x = RNG.normal(size=(2, 3, 7, 6))
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 2), (2, 3))[:, :, ::2, ::2]
    np.testing.assert_array_equal(F.max_pool2d(t64(x), (3, 2), 2, (1, 0)).numpy(), windows.max((-1, -2)))
    check_gradient(lambda x: F.max_pool2d(x, 3, 2, 1), x)
    check_compiled(lambda x: F.max_pool2d(x, 2), tj.randn(2, 3, 6, 6))
    assert F.max_pool1d(tj.ones(1, 7), 2, ceil_mode=True).shape == (1, 4)


def test_the_first_of_equal_elements_gets_the_gradient():
    x = tj.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, math.nan]], requires_grad=True)
    pooled = F.max_pool1d(x, 2)
    assert np.array_equal(pooled.detach().numpy(), [[1.0, 0.0, math.nan]], equal_nan=True)
    pooled.sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]]


def test_average_pooling():
    x = RNG.normal(size=(2, 7))
    padded = np.pad(x, [(0, 0), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, 1)[:, ::2]
    np.testing.assert_allclose(F.avg_pool1d(t64(x), 3, 2, 1).numpy(), windows.mean(-1))
    counts = [2, 3, 3, 2]
    found = F.avg_pool1d(t64(x), 3, 2, 1, count_include_pad=False).numpy()
    np.testing.assert_allclose(found, windows.sum(-1) / counts)
    check_gradient(lambda x: F.avg_pool2d(x, 2, 2, 1), RNG.normal(size=(2, 3, 5)))
    check_compiled(lambda x: F.avg_pool2d(x, 3, 1), tj.randn(2, 5, 5))
    with pytest.raises(RuntimeError, match="pad should be at most half of effective kernel size"):
        F.avg_pool1d(t64(x), 2, padding=2)


def test_adaptive_pooling():
    x = RNG.normal(size=(3, 7))
    parts = [(0, 3), (2, 5), (4, 7)]
    for function, reference in ((F.adaptive_avg_pool1d, np.mean), (F.adaptive_max_pool1d, np.max)):
        expected = np.stack([reference(x[:, a:b], 1) for a, b in parts], 1)
        np.testing.assert_allclose(function(t64(x), 3).numpy(), expected)
    np.testing.assert_allclose(nn.AdaptiveAvgPool2d(1)(t64(x[None])).numpy(), x[None].mean((1, 2), keepdims=True))
    assert nn.AdaptiveAvgPool2d((None, 2))(tj.ones(1, 5, 4)).shape == (1, 5, 2)


# Normalization ----------------------------------------------------------------------------------------


def test_batch_norm_training_and_evaluation():
    layer = nn.BatchNorm2d(3, momentum=0.25, dtype=tj.float64)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(3):
        x = RNG.normal(size=(4, 3, 2, 2)) * 3 + 1
        batch, biased = x.mean((0, 2, 3)), x.var((0, 2, 3))
        expected = (x - batch[:, None, None]) / np.sqrt(biased + 1e-5)[:, None, None]
        np.testing.assert_allclose(layer(t64(x)).detach().numpy(), expected, rtol=1e-9)
        mean, var = 0.75 * mean + 0.25 * batch, 0.75 * var + 0.25 * x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean)
    np.testing.assert_allclose(layer.running_var.numpy(), var)
    assert layer.num_batches_tracked.item() == 3
    layer.eval()
    expected = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    np.testing.assert_allclose(layer(t64(x)).detach().numpy(), expected, rtol=1e-9)
    assert layer.num_batches_tracked.item() == 3
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    check_gradient(lambda x: F.batch_norm(x, None, None, training=True), x)


def test_batch_norm_without_momentum_is_the_mean_of_all_batches():
    layer = nn.BatchNorm1d(2, momentum=None, dtype=tj.float64)
    batches = [RNG.normal(size=(5, 2)) for _ in range(4)]
    for x in batches:
        layer(t64(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([x.mean(0) for x in batches], 0))


@pytest.mark.parametrize("make", [nn.BatchNorm1d, lambda n: nn.InstanceNorm1d(n, track_running_stats=True)])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_empty_batch_leaves_the_running_statistics(make, compiled):
    layer = make(3)
    before = [buffer.numpy().copy() for buffer in (layer.running_mean, layer.running_var)]
    run = tj.jit(layer) if compiled else layer
    assert run(tj.ones(0, 3, 4)).shape == (0, 3, 4)
    for found, expected in zip((layer.running_mean, layer.running_var), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_batch_norm_compiled_moves_the_running_statistics():
    def run(compiled):
        layer = nn.BatchNorm1d(3)
        call = tj.jit(layer) if compiled else layer
        tj.manual_seed(0)
        outputs = [call(tj.randn(6, 3)).detach().numpy().tobytes() for _ in range(3)]
        layer.eval()
        outputs.append(call(tj.ones(2, 3)).detach().numpy().tobytes())
        layer.train()
        outputs.append(call(tj.randn(6, 3)).detach().numpy().tobytes())
        if compiled:
            assert (call.cache_info().misses, call.cache_info().lazy) == (2, 0)
        return outputs, [buffer.numpy().tobytes() for buffer in layer.buffers()]

    assert run(True) == run(False)


def test_batch_norm_errors():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        nn.BatchNorm1d(3)(tj.ones(1, 3))
    with pytest.raises(ValueError, match=r"expected 4D input \(got 3D input\)"):
        nn.BatchNorm2d(3)(tj.ones(1, 3, 2))
    with pytest.raises(RuntimeError, match="running_mean should contain 4 elements not 3"):
        nn.BatchNorm1d(3)(tj.ones(2, 4))


def test_group_and_rms_norm():
    x, w, b = RNG.normal(size=(3, 4, 5)), RNG.normal(size=4), RNG.normal(size=4)
    rows = x.reshape(3, 2, 10)
    normal = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    expected = normal.reshape(x.shape) * w[:, None] + b[:, None]
    np.testing.assert_allclose(F.group_norm(t64(x), 2, t64(w), t64(b)).numpy(), expected, rtol=1e-9)
    check_gradient(lambda x, w, b: F.group_norm(x, 2, w, b), x, w, b)
    check_compiled(lambda x: F.group_norm(x, 2), tj.randn(3, 4, 5))
    v = RNG.normal(size=5)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.5) * v
    np.testing.assert_allclose(F.rms_norm(t64(x), 5, t64(v), 0.5).numpy(), expected, rtol=1e-9)
    check_gradient(lambda x, v: F.rms_norm(x, 5, v), x, v)
    check_compiled(lambda x: F.rms_norm(x, (4, 5)), tj.randn(3, 4, 5))
    with pytest.raises(ValueError, match=r"num_channels \(3\) must be divisible by num_groups"):
        nn.GroupNorm(2, 3)


# Embedding --------------------------------------------------------------------------------------------


def test_embedding():
    table, index = RNG.normal(size=(5, 3)), np.array([[0, 4, 4], [2, 0, 4]])
    weight = t64(table, requires_grad=True)
    found = F.embedding(tj.tensor(index), weight, padding_idx=0)
    np.testing.assert_array_equal(found.detach().numpy(), table[index])
    found.sum().backward()
    np.testing.assert_array_equal(weight.grad.numpy()[:, 0], [0, 0, 1, 0, 3])
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert layer.weight.detach().numpy()[4].tolist() == [0.0] * 3
    compiled = tj.jit(layer)
    assert compiled(tj.tensor([1, 4])).shape == (2, 3)
    for call in (layer, compiled):
        for wrong in (5, -1):
            with pytest.raises(IndexError, match="index out of range in self"):
                call(tj.tensor([wrong, 0]))


# Recurrence -------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_lstm():
    layer = nn.LSTM(3, 4, dtype=tj.float64)
    w_ih, w_hh, b_ih, b_hh = (p.detach().numpy() for p in layer.parameters())
    x = RNG.normal(size=(5, 2, 3))
    h = c = np.zeros((2, 4))
    outputs = []
    for step in x:
        i, f, g, o = np.split(step @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    found, (last, cell) = layer(t64(x))
    np.testing.assert_allclose(found.detach().numpy(), outputs, rtol=1e-9)
    np.testing.assert_allclose(last.detach().numpy(), [h], rtol=1e-9)
    np.testing.assert_allclose(cell.detach().numpy(), [c], rtol=1e-9)
    check_gradient(lambda x: layer(x)[0], x)


def test_gru_and_rnn():
    x, h0 = RNG.normal(size=(5, 2, 3)), RNG.normal(size=(1, 2, 4))
    layer = nn.GRU(3, 4, dtype=tj.float64)
    w_ih, w_hh, b_ih, b_hh = (p.detach().numpy() for p in layer.parameters())
    h = h0[0]
    for step in x:
        (r, z, n), (hr, hz, hn) = (np.split(a, 3, axis=1) for a in (step @ w_ih.T + b_ih, h @ w_hh.T + b_hh))
        z = sigmoid(z + hz)
        h = (1 - z) * np.tanh(n + sigmoid(r + hr) * hn) + z * h
    np.testing.assert_allclose(layer(t64(x), t64(h0))[1].detach().numpy(), [h], rtol=1e-9)
    layer = nn.RNN(3, 4, nonlinearity="relu", bias=False, dtype=tj.float64)
    w_ih, w_hh = (p.detach().numpy() for p in layer.parameters())
    h = h0[0]
    for step in x:
        h = np.maximum(step @ w_ih.T + h @ w_hh.T, 0)
    np.testing.assert_allclose(layer(t64(x), t64(h0))[1].detach().numpy(), [h], rtol=1e-9)


def test_directions_layers_and_batch_first():
    layer = nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True, dtype=tj.float64)
    x = t64(RNG.normal(size=(2, 5, 3)))
    output, last = layer(x)
    assert (output.shape, last.shape) == ((2, 5, 8), (4, 2, 4))
    np.testing.assert_array_equal(output.detach().numpy()[:, -1, :4], last.detach().numpy()[2])
    np.testing.assert_array_equal(output.detach().numpy()[:, 0, 4:], last.detach().numpy()[3])
    single, _ = layer(x[0])
    np.testing.assert_allclose(single.detach().numpy(), output.detach().numpy()[0], rtol=1e-9)
    names = [f"{part}_l1_reverse" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert list(layer.state_dict())[-4:] == names
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        layer(tj.ones(2, 5, 2))
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        layer(x, tj.ones(1, 2, 4))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cells_are_one_step(kind):
    layer, cell = getattr(nn, kind)(3, 4), getattr(nn, f"{kind}Cell")(3, 4)
    cell.load_state_dict({name.removesuffix("_l0"): tensor for name, tensor in layer.state_dict().items()})
    x = tj.randn(1, 2, 3)
    _, last = layer(x)
    found = cell(x[0])
    pairs = zip(last, found, strict=True) if kind == "LSTM" else [(last, found)]
    for expected, state in pairs:
        assert expected.detach().numpy()[0].tobytes() == state.detach().numpy().tobytes()


# Attention --------------------------------------------------------------------------------------------


def np_attention(q, k, v, allowed=True, scale=None):
    scores = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    scores = np.where(allowed, scores, -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v


def test_attention():
    q, k, v = RNG.normal(size=(2, 5, 4)), RNG.normal(size=(2, 6, 4)), RNG.normal(size=(2, 6, 3))
    causal, mask = np.tril(np.ones((5, 6), bool)), RNG.uniform(size=(5, 6)) < 0.7
    for settings, reference in (
        ({}, {}),
        ({"is_causal": True}, {"allowed": causal}),
        ({"attn_mask": tj.tensor(mask), "scale": 0.5}, {"allowed": mask, "scale": 0.5}),
        ({"attn_mask": t64(np.where(mask, 0, -np.inf))}, {"allowed": mask}),
    ):
        found = F.scaled_dot_product_attention(t64(q), t64(k), t64(v), **settings)
        np.testing.assert_allclose(found.numpy(), np_attention(q, k, v, **reference), rtol=1e-9)
        check_gradient(lambda q, k, v, s=settings: F.scaled_dot_product_attention(q, k, v, **s), q, k, v)
    check_compiled(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), *(tj.randn(2, 5, 4),) * 3)


def test_a_query_that_may_look_nowhere_gets_zeros():
    q = tj.randn(2, 3, requires_grad=True)
    found = F.scaled_dot_product_attention(q, q, q, attn_mask=tj.tensor([[False, False], [True, True]]))
    assert found.detach().numpy()[0].tolist() == [0.0] * 3
    found.sum().backward()
    assert np.isfinite(q.grad.numpy()).all()
    with pytest.raises(RuntimeError, match="attn_mask should not be set when is_causal=True"):
        F.scaled_dot_product_attention(q, q, q, tj.tensor(True), is_causal=True)


@pytest.mark.parametrize("mask", [None, tj.ones(2, 0, dtype=tj.bool)])
def test_attention_to_nothing_is_zeros(mask):
    query, key, value = tj.ones(1, 2, 4, requires_grad=True), tj.ones(1, 0, 4), tj.ones(1, 0, 3)
    found = F.scaled_dot_product_attention(query, key, value, mask)
    found.sum().backward()
    np.testing.assert_array_equal(found.detach(), np.zeros((1, 2, 3)))
    np.testing.assert_array_equal(query.grad, np.zeros((1, 2, 4)))
    assert nn.MultiheadAttention(4, 2)(*[tj.ones(0, 2, 4)] * 3)[0].shape == (0, 2, 4)


def test_multihead_attention():
    layer = nn.MultiheadAttention(4, 2, batch_first=True, dtype=tj.float64)
    x, y = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 5, 4))
    w, (ow, ob) = layer.in_proj_weight.detach().numpy(), (p.detach().numpy() for p in layer.out_proj.parameters())
    heads = [np.stack(np.split(a @ part.T, 2, -1), 1) for a, part in zip((x, y, y), np.split(w, 3), strict=True)]
    expected = np.concatenate(np.moveaxis(np_attention(*heads), 1, 0), -1) @ ow.T + ob
    found, weights = layer(t64(x), t64(y), t64(y))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(weights.detach().numpy().sum(-1), np.ones((2, 3)))
    padding = tj.tensor([[False] * 5, [False, True, True, True, True]])
    _, weights = layer(t64(x), t64(y), t64(y), padding, average_attn_weights=False)
    assert weights.shape == (2, 2, 3, 5)
    np.testing.assert_array_equal(weights.detach().numpy()[1, :, :, 0], np.ones((2, 3)))
    with pytest.raises(AssertionError, match="embed_dim must be divisible by num_heads"):
        nn.MultiheadAttention(5, 2)
    with pytest.raises(RuntimeError, match="The shape of the 2D attn_mask is"):
        layer(t64(x), t64(y), t64(y), attn_mask=tj.ones(2, 2))


def test_transformer_encoder_layer():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, norm_first=True, dtype=tj.float64)
    x = t64(RNG.normal(size=(3, 2, 4)))
    attended = x + layer.self_attn(*(layer.norm1(x),) * 3)[0]
    expected = attended + layer.linear2(F.relu(layer.linear1(layer.norm2(attended))))
    np.testing.assert_allclose(layer(x).detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    mask = tj.tensor(np.triu(np.ones((3, 3), bool), 1))
    assert layer(x, mask).tolist() == layer(x, is_causal=True).tolist()
    with pytest.raises(RuntimeError, match="activation should be relu/gelu, not tanh"):
        nn.TransformerEncoderLayer(4, 2, activation="tanh")
