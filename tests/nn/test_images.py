"""Padding, pooling with indices, resampling, sampling at points, windows: against NumPy, written out."""

import math

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn

from .test_layers import check_gradient, t64

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("mode", "reference"),
    [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")],
)
def test_padding(mode, reference):
    x = RNG.normal(size=(2, 4, 5))
    found = F.pad(t64(x), (1, 2, 3, 0), mode).numpy()
    np.testing.assert_array_equal(found, np.pad(x, [(0, 0), (3, 0), (1, 2)], mode=reference))
    check_gradient(lambda x: F.pad(x, (1, 2, 3, 0), mode), x)


def test_padding_takes_away_and_keeps_dtypes():
    x = tj.arange(6).reshape(2, 3)
    assert F.pad(x, (-1, 1, 0, -1), value=9).tolist() == [[1, 2, 9]]
    assert F.pad(x, (0, 1)).dtype == tj.int64
    assert nn.ZeroPad2d((1, 0, 0, 0))(x).tolist() == [[0, 0, 1, 2], [0, 3, 4, 5]]
    assert F.pad(tj.zeros(0, 2), (1, 1, 2, 0), value=1.0).tolist() == [[1.0] * 4] * 2


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_pooling_tells_where(axes):
    x = RNG.normal(size=(2, 3, *(7, 6, 5)[:axes]))
    pool, unpool = getattr(F, f"max_pool{axes}d"), getattr(F, f"max_unpool{axes}d")
    largest, places = pool(t64(x), 2, return_indices=True)
    flat = x.reshape(2, 3, -1)
    at = np.take_along_axis(flat, places.numpy().reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(at.ravel(), largest.numpy().ravel())
    np.testing.assert_array_equal(largest.numpy(), pool(t64(x), 2).numpy())
    back = unpool(largest, places, 2, output_size=x.shape).numpy()
    expected = np.where(np.isin(x, largest.numpy()), x, 0)
    np.testing.assert_array_equal(back, expected)
    check_gradient(lambda v: unpool(v, places, 2, output_size=x.shape), largest.numpy())


def test_padding_is_never_the_largest():
    x = tj.full((1, 1, 3), -math.inf)
    values, places = F.max_pool1d(x, 3, 1, 1, return_indices=True)
    assert (values.tolist(), places.tolist()) == ([[[-math.inf] * 3]], [[[0, 0, 1]]])


def test_power_pooling():
    x = RNG.uniform(0.5, 2.0, size=(2, 9))
    expected = (x.reshape(2, 3, 3) ** 3).sum(-1) ** (1 / 3)
    np.testing.assert_allclose(F.lp_pool1d(t64(x), 3, 3).numpy(), expected)
    check_gradient(lambda x: F.lp_pool1d(x, 3, 3), x)
    zero = tj.zeros(1, 4, requires_grad=True)
    F.lp_pool1d(zero, 2, 2).sum().backward()
    assert zero.grad.tolist() == [[0.0] * 4]


def test_resampling():
    x = RNG.normal(size=(2, 3, 5))
    nearest = F.interpolate(t64(x), 12).numpy()
    np.testing.assert_array_equal(nearest, x[:, :, np.arange(12) * 5 // 12])
    np.testing.assert_array_equal(F.interpolate(t64(x), scale_factor=3).numpy(), x.repeat(3, -1))
    places = np.linspace(0, 4, 9)
    linear = F.interpolate(t64(x), 9, mode="linear", align_corners=True).numpy()
    expected = np.stack([[np.interp(places, np.arange(5), row) for row in image] for image in x])
    np.testing.assert_allclose(linear, expected, rtol=1e-12)
    places = np.clip((np.arange(9) + 0.5) * 5 / 9 - 0.5, 0, 4)
    expected = np.stack([[np.interp(places, np.arange(5), row) for row in image] for image in x])
    np.testing.assert_allclose(F.interpolate(t64(x), 9, mode="linear").numpy(), expected, rtol=1e-12)
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        check_gradient(lambda x, mode=mode: F.interpolate(x, (5, 3), mode=mode), RNG.normal(size=(1, 2, 3, 4)))
    check_gradient(lambda x: F.interpolate(x, (2, 3), mode="bicubic", antialias=True), RNG.normal(size=(1, 2, 7, 8)))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_smoothing_keeps_what_is_constant_or_linear(mode):
    flat = F.interpolate(tj.full((1, 1, 9, 8), 2.5), (4, 3), mode=mode, antialias=True)
    np.testing.assert_allclose(flat.numpy(), 2.5, rtol=1e-6)
    if mode == "bicubic":
        return
    ramp = t64(np.arange(12.0).reshape(1, 1, 1, 12).repeat(3, 2))
    found = F.interpolate(ramp, (3, 24), mode=mode).numpy()[0, 0, 0, 6:-6]
    np.testing.assert_allclose(found, (np.arange(24) + 0.5)[6:-6] / 2 - 0.5, rtol=1e-12)


def test_channels_and_space():
    x = RNG.normal(size=(2, 12, 3, 4))
    expected = x.reshape(2, 3, 2, 2, 3, 4).transpose(0, 1, 4, 2, 5, 3).reshape(2, 3, 6, 8)
    found = F.pixel_shuffle(t64(x), 2)
    np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_array_equal(F.pixel_unshuffle(found, 2).numpy(), x)
    shuffled = F.channel_shuffle(t64(x), 3).numpy()
    np.testing.assert_array_equal(shuffled, x[:, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]])


def test_fold_is_the_adjoint_of_unfold():
    settings = {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 0), "stride": (1, 2)}
    x = RNG.normal(size=(2, 3, 6, 7))
    columns = F.unfold(t64(x), **settings).numpy()
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)])
    rows = [padded[:, :, i : i + 3 : 2, j : j + 3].reshape(2, -1) for i in range(6) for j in (0, 2, 4)]
    np.testing.assert_array_equal(columns, np.stack(rows, -1))
    other = RNG.normal(size=columns.shape)
    folded = F.fold(t64(other), (6, 7), **settings).numpy()
    np.testing.assert_allclose((columns * other).sum(), (x * folded).sum(), rtol=1e-12)
    check_gradient(lambda y: F.fold(y, (6, 7), **settings), other)


def np_bilinear(image, x, y, padding):
    """One channel at a point, in elements."""
    height, width = image.shape
    if padding == "border":
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    total = 0.0
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += image[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("align", [False, True])
def test_sampling_at_points(padding, align):
    image, points = RNG.normal(size=(1, 2, 4, 5)), RNG.uniform(-1.5, 1.5, size=(1, 3, 4, 2))
    found = F.grid_sample(t64(image), t64(points), padding_mode=padding, align_corners=align).numpy()
    for i, j, c in np.ndindex(3, 4, 2):
        px, py = points[0, i, j]
        x, y = ((px + 1) / 2 * 4, (py + 1) / 2 * 3) if align else (((px + 1) * 5 - 1) / 2, ((py + 1) * 4 - 1) / 2)
        np.testing.assert_allclose(found[0, c, i, j], np_bilinear(image[0, c], x, y, padding), rtol=1e-9, atol=1e-12)
    for mode in ("bilinear", "bicubic"):
        check_gradient(lambda x, p, mode=mode: F.grid_sample(x, p, mode, padding, align), image, points, tolerance=1e-5)


def test_an_identity_map_changes_nothing():
    x = tj.randn(2, 3, 4, 5)
    identity = tj.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 2)
    for align in (False, True):
        grid = F.affine_grid(identity, x.shape, align)
        np.testing.assert_allclose(F.grid_sample(x, grid, align_corners=align).numpy(), x.numpy(), rtol=1e-4, atol=1e-5)
    flipped = F.grid_sample(x, F.affine_grid(identity * tj.tensor([[-1.0], [1.0]]), x.shape), "nearest")
    np.testing.assert_array_equal(flipped.numpy(), x.numpy()[:, :, :, ::-1])
    check_gradient(lambda theta: F.affine_grid(theta, (2, 1, 3, 4)), identity.numpy().astype(float))


def test_instance_norm():
    layer = nn.InstanceNorm2d(3, momentum=0.25, affine=True, track_running_stats=True, dtype=tj.float64)
    x = RNG.normal(size=(4, 3, 2, 5)) * 3 + 1
    expected = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(t64(x)).detach().numpy(), expected, rtol=1e-9)
    mean, var = 0.25 * x.mean((0, 2, 3)), 0.75 + 0.25 * x.var((2, 3), ddof=1).mean(0)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean)
    np.testing.assert_allclose(layer.running_var.numpy(), var)
    layer.eval()
    expected = (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-5)
    np.testing.assert_allclose(layer(t64(x)).detach().numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(layer(t64(x[0])).detach().numpy(), expected[0], rtol=1e-9)
    check_gradient(lambda x: F.instance_norm(x), x)


def test_local_response_norm():
    x = RNG.normal(size=(2, 5, 3))
    expected = np.empty_like(x)
    for c in range(5):
        around = x[:, max(c - 1, 0) : c + 2]
        expected[:, c] = x[:, c] / (2 + 0.5 / 3 * (around**2).sum(1)) ** 0.75
    np.testing.assert_allclose(F.local_response_norm(t64(x), 3, 0.5, 0.75, 2.0).numpy(), expected)
    check_gradient(lambda x: F.local_response_norm(x, 3, 0.5), x)


def test_dropout_of_channels():
    tj.manual_seed(0)
    for axes in (1, 2, 3):
        function = getattr(F, f"dropout{axes}d")
        values = function(tj.ones(50, 40, *[3] * axes), 0.25).numpy().reshape(2000, -1)
        assert (values == values[:, :1]).all()
        assert set(np.unique(values)) == {0.0, np.float32(1 / 0.75)}
        assert abs((values[:, 0] == 0).mean() - 0.25) < 0.05
        assert function(tj.ones(40, *[3] * axes), training=False).numpy().min() == 1


def test_alpha_dropout_keeps_mean_and_variance():
    tj.manual_seed(0)
    x = tj.randn(100, 200)
    for function in (F.alpha_dropout, F.feature_alpha_dropout):
        values = function(x.reshape(100, 200, 1), 0.3, training=True).numpy()
        assert abs(values.mean()) < 0.02
        assert abs(values.std() - 1) < 0.02
        assert len(np.unique(values)) < 0.75 * x.size
        assert function(x.reshape(100, 200, 1), 0.3).tolist() == x.reshape(100, 200, 1).tolist()


def test_in_place():
    x = tj.tensor([-1.0, 2.0])
    assert F.relu(x, inplace=True) is x
    assert x.tolist() == [0.0, 2.0]
    assert nn.Dropout(1.0, inplace=True)(x) is x
    assert x.tolist() == [0.0, 0.0]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        F.relu(tj.ones(1, requires_grad=True), inplace=True)


def test_gumbel_softmax():
    tj.manual_seed(0)
    logits = tj.tensor([[0.0, 1.0, -1.0]]).expand(4000, 3)
    for hard in (False, True):
        found = F.gumbel_softmax(logits, tau=0.5, hard=hard).numpy()
        np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
        chosen = np.bincount(found.argmax(-1), minlength=3) / 4000
        np.testing.assert_allclose(chosen, F.softmax(logits[0], 0).numpy(), atol=0.03)
    assert set(np.unique(found)) == {0.0, 1.0}
    x = tj.zeros(2, 3, requires_grad=True)
    (F.gumbel_softmax(x, hard=True, dim=0) * tj.tensor([[1.0], [2.0]])).sum().backward()
    assert np.abs(x.grad.numpy()).min() > 0
