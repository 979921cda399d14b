"""The functions behind the layers and losses: against NumPy in float64, finite differences, and compiled."""

import math
import warnings

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 7)) * 3
LABELS = np.array([0, 6, 2, 2, 5])


def np_log_softmax(x, axis=1):
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def np_cross_entropy(x, labels, weight=None, ignore_index=-100, reduction="mean", smoothing=0.0):
    """PyTorch's definition, written out for logits ``(N, C)``."""
    n, classes = x.shape
    weight = np.ones(classes) if weight is None else np.asarray(weight, float)
    logp = np_log_softmax(x)
    losses, weights = np.zeros(n), np.zeros(n)
    for i, label in enumerate(labels):
        if label != ignore_index:
            nll, spread = -weight[label] * logp[i, label], -(weight * logp[i]).sum()
            losses[i] = (1 - smoothing) * nll + smoothing / classes * spread
            weights[i] = weight[label]
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / weights.sum()


def t64(array, **kwargs):
    return tj.tensor(np.asarray(array, np.float64), **kwargs)


def check_gradient(function, x, step=1e-6, tolerance=1e-7):
    """``function``'s gradient at the array ``x`` against central differences, in float64."""
    tensor = t64(x, requires_grad=True)
    function(tensor).sum().backward()
    expected = np.empty_like(x)
    for position in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][position] += step
        moved[1][position] -= step
        above, below = (function(t64(m)).sum().item() for m in moved)
        expected[position] = (above - below) / (2 * step)
    np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=tolerance, atol=tolerance)


def check_compiled(function, *arrays):
    """Value and gradient of the compiled function: the eager ones, to the bit."""

    def value_and_gradient(x, *rest):
        x = x.detach().requires_grad_()
        value = function(x, *rest)
        value.sum().backward()
        return value.detach(), x.grad

    compiled = tj.jit(value_and_gradient)
    for found, expected in zip(compiled(*arrays), value_and_gradient(*arrays), strict=True):
        assert found.numpy().tobytes() == expected.numpy().tobytes()
    assert compiled.cache_info().lazy == 0


# Layers -----------------------------------------------------------------------------------------------


def test_linear():
    x, w, b = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=5)
    np.testing.assert_allclose(F.linear(t64(x), t64(w), t64(b)).numpy(), x @ w.T + b, rtol=1e-12)
    np.testing.assert_allclose(F.linear(t64(x[0, 0]), t64(w)).numpy(), w @ x[0, 0], rtol=1e-12)
    check_gradient(lambda x: F.linear(x, t64(w), t64(b)) ** 2, x)
    check_compiled(lambda x: F.linear(x, tj.ones(5, 4), tj.ones(5)), tj.randn(2, 3, 4))


@pytest.mark.parametrize(
    ("shape", "text"), [((2, 3), "2x3 and 4x5"), ((2, 2, 3), "4x3 and 4x5"), ((3,), "1x3 and 4x5")]
)
def test_linear_names_the_shapes_that_do_not_fit(shape, text):
    with pytest.raises(RuntimeError, match=rf"mat1 and mat2 shapes cannot be multiplied \({text}\)"):
        nn.Linear(4, 5)(tj.zeros(shape))


def test_linear_starts_within_its_bounds():
    tj.manual_seed(0)
    layer = nn.Linear(64, 1000)
    for parameter in (layer.weight, layer.bias):
        values = parameter.detach().numpy()
        assert np.abs(values).max() <= 1 / 8
        assert abs(values.std() - 1 / 8 / math.sqrt(3)) < 5e-3
    assert nn.Linear(2, 3, bias=False, dtype=tj.float64).weight.dtype == tj.float64


def test_layer_norm():
    x = RNG.normal(size=(3, 4, 5))
    w, b = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 5))
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5) * w + b
    np.testing.assert_allclose(F.layer_norm(t64(x), (4, 5), t64(w), t64(b)).numpy(), expected, rtol=1e-10)
    weights = t64(RNG.normal(size=(3, 4, 5)))
    check_gradient(lambda x: F.layer_norm(x, (4, 5), t64(w), t64(b)) * weights, x, tolerance=1e-6)
    check_compiled(lambda x: F.layer_norm(x, 5, tj.ones(5)) ** 2, tj.randn(6, 5))
    with pytest.raises(RuntimeError, match=r"Given normalized_shape=\[4\], expected input with shape \[\*, 4\]"):
        nn.LayerNorm(4)(tj.zeros(2, 3))
    assert [name for name, _ in nn.LayerNorm(4, bias=False).named_parameters()] == ["weight"]


def test_dropout():
    tj.manual_seed(0)
    x = tj.ones(10_000, requires_grad=True)
    y = F.dropout(x, 0.25)
    values = y.detach().numpy()
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 0.02
    y.sum().backward()
    assert x.grad.tolist() == values.tolist()
    assert F.dropout(tj.tensor([1.0, math.inf]), 1.0).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"dropout probability has to be between 0 and 1, but got 1\.5"):
        nn.Dropout(1.5)


def test_dropout_in_evaluation_gives_a_value_of_its_own():
    x = tj.ones(2)
    y = F.dropout(x, training=False)
    y += 1
    assert x.tolist() == [1.0, 1.0]


# Activations ------------------------------------------------------------------------------------------

ERF = np.vectorize(math.erf)
ACTIVATIONS = {
    "relu": (F.relu, lambda x: np.maximum(x, 0)),
    "gelu": (F.gelu, lambda x: 0.5 * x * (1 + ERF(x / math.sqrt(2)))),
    "gelu_tanh": (
        lambda x: F.gelu(x, "tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (F.silu, lambda x: x / (1 + np.exp(-x))),
    "sigmoid": (F.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (F.tanh, np.tanh),
    "softmax": (lambda x: F.softmax(x, -1) * t_like(x), lambda x: np.exp(np_log_softmax(x, -1)) * n_like(x)),
    "log_softmax": (lambda x: F.log_softmax(x, 0) * t_like(x), lambda x: np_log_softmax(x, 0) * n_like(x)),
}


def n_like(x):
    return np.arange(x.size, dtype=x.dtype).reshape(x.shape)


def t_like(x):
    return tj.tensor(np.arange(x.size).reshape(x.shape)).astype(x.dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    function, reference = ACTIVATIONS[name]
    x = RNG.normal(size=(3, 5)) * 2
    np.testing.assert_allclose(function(t64(x)).numpy(), reference(x), rtol=1e-12, atol=1e-13)
    check_gradient(function, x, tolerance=1e-6)
    check_compiled(function, tj.randn(3, 5))


def test_activation_modules():
    x = tj.randn(2, 3)
    pairs = [
        (nn.ReLU(), F.relu(x)),
        (nn.GELU(), F.gelu(x)),
        (nn.Tanh(), F.tanh(x)),
        (nn.Sigmoid(), F.sigmoid(x)),
        (nn.SiLU(), F.silu(x)),
        (nn.Softmax(1), F.softmax(x, 1)),
        (nn.LogSoftmax(1), F.log_softmax(x, 1)),
        (nn.Identity(), x),
    ]
    for module, expected in pairs:
        assert module(x).tolist() == expected.tolist()
    with pytest.raises(ValueError, match="approximate argument must be either none or tanh"):
        F.gelu(x, "cubic")


def test_softmax_of_extreme_and_empty_rows():
    x = tj.tensor([[1e4, -1e4, 0.0], [-math.inf, 0.0, 0.0]])
    assert F.softmax(x, 1).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    assert F.log_softmax(x, 1)[0].tolist() == [0.0, -2e4, -1e4]
    assert F.softmax(tj.zeros(2, 0), 1).shape == (2, 0)
    with pytest.raises(RuntimeError, match="softmax is not implemented for Long"):
        F.softmax(tj.tensor([1, 2]), 0)


# Classification ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy(reduction, smoothing, weighted, ignore_index):
    weight = np.linspace(0.5, 2.0, 7) if weighted else None
    expected = np_cross_entropy(LOGITS, LABELS, weight, ignore_index, reduction, smoothing)

    def loss(x, labels=None):
        return F.cross_entropy(
            x,
            tj.tensor(LABELS) if labels is None else labels,
            None if weight is None else tj.tensor(weight).astype(x.dtype),
            ignore_index,
            reduction,
            smoothing,
        )

    np.testing.assert_allclose(loss(t64(LOGITS)).numpy(), expected, rtol=1e-12)
    check_gradient(loss, LOGITS)
    check_compiled(loss, tj.tensor(LOGITS.astype(np.float32)), tj.tensor(LABELS))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_cross_entropy_takes_any_integers(dtype):
    found = F.cross_entropy(t64(LOGITS), tj.tensor(LABELS.astype(dtype))).item()
    assert found == pytest.approx(np_cross_entropy(LOGITS, LABELS), rel=1e-12)


def test_cross_entropy_of_images_and_of_one_position():
    x = RNG.normal(size=(2, 3, 4, 5))
    labels = RNG.integers(0, 3, size=(2, 4, 5))
    rows, flat = x.transpose(0, 2, 3, 1).reshape(-1, 3), labels.reshape(-1)
    found = F.cross_entropy(t64(x), tj.tensor(labels))
    assert found.item() == pytest.approx(np_cross_entropy(rows, flat), rel=1e-12)
    assert F.cross_entropy(t64(x), tj.tensor(labels), reduction="none").shape == (2, 4, 5)
    one = F.cross_entropy(t64(LOGITS[0]), tj.tensor(LABELS[0]))
    assert one.shape == ()
    assert one.item() == pytest.approx(np_cross_entropy(LOGITS[:1], LABELS[:1]), rel=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_of_probabilities(reduction):
    target = RNG.dirichlet(np.ones(7), size=5)
    weight = np.linspace(0.5, 2.0, 7)
    smooth = (target * 0.9 + 0.1 / 7) * weight
    expected = -(np_log_softmax(LOGITS) * smooth).sum(1)
    expected = expected if reduction == "none" else expected.sum() / (5 if reduction == "mean" else 1)

    def loss(x):
        return F.cross_entropy(
            x, tj.tensor(target).astype(x.dtype), tj.tensor(weight).astype(x.dtype), -100, reduction, 0.1
        )

    np.testing.assert_allclose(loss(t64(LOGITS)).numpy(), expected, rtol=1e-12)
    check_gradient(loss, LOGITS)
    check_compiled(loss, tj.tensor(LOGITS.astype(np.float32)))


def test_cross_entropy_is_stable():
    x = tj.tensor([[1e4, -1e4], [0.0, -math.inf]], requires_grad=True)
    losses = F.cross_entropy(x, tj.tensor([1, 0]), reduction="none")
    assert losses.tolist() == [2e4, 0.0]
    losses.sum().backward()
    assert x.grad.tolist() == [[1.0, -1.0], [0.0, 0.0]]


def test_ignored_positions_have_no_gradient():
    x = tj.tensor(LOGITS.astype(np.float32), requires_grad=True)
    F.cross_entropy(x, tj.tensor([1, -100, -100, 3, 4])).backward()
    assert (np.abs(x.grad.numpy()).sum(1) == 0).tolist() == [False, True, True, False, False]
    assert math.isnan(F.cross_entropy(x, tj.tensor([-100] * 5)).item())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nll_loss_is_the_second_half_of_cross_entropy(reduction):
    weight = t64(np.linspace(0.5, 2.0, 7))
    labels = tj.tensor(LABELS)
    found = nn.NLLLoss(weight, 2, reduction)(F.log_softmax(t64(LOGITS), 1), labels)
    expected = nn.CrossEntropyLoss(weight, 2, reduction)(t64(LOGITS), labels)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)
    check_compiled(F.nll_loss, tj.randn(5, 7), labels)


def test_labels_out_of_bounds():
    def loss(x, labels):
        return F.cross_entropy(x, labels)

    x, labels = tj.zeros(3, 7), tj.tensor([0, 7, 9])
    with pytest.raises(IndexError, match=r"Target 7 is out of bounds\.") as caught:
        loss(x, labels)
    assert "test_functional.py" in str(caught.value)
    with pytest.raises(IndexError, match=r"Target -1 is out of bounds\."):
        F.nll_loss(x, tj.tensor([0, -1, 1]))
    compiled = tj.jit(loss)
    assert compiled(x, tj.tensor([0, 6, 6])).item() == loss(x, tj.tensor([0, 6, 6])).item()
    with pytest.raises(IndexError, match=r"Target .*out of bounds") as caught:
        compiled(x, labels)
    assert "test_functional.py" in str(caught.value)
    each = tj.vmap(lambda x, label: loss(x[None], label[None]))
    for call in (each, tj.jit(each)):
        assert call(x, tj.tensor([0, 6, 6])).shape == (3,)
        with pytest.raises(IndexError, match=r"Target .*out of bounds"):
            call(x, labels)


def zeros(*shape):
    return tj.zeros(shape, dtype=tj.int64)


@pytest.mark.parametrize(
    ("shape", "target", "error", "message"),
    [
        ((4, 5), zeros(3), ValueError, r"Expected input batch_size \(4\) to match target batch_size \(3\)\."),
        ((4, 5), zeros(), ValueError, r"Expected input batch_size \(4\) to match target batch_size \(1\)\."),
        ((4, 5), tj.zeros(4), RuntimeError, "expected scalar type Long but found Float"),
        ((4, 5), zeros(4, 1), RuntimeError, "0D or 1D target tensor expected, multi-target not supported"),
        ((4, 5), zeros(4, 5), RuntimeError, "Expected floating point type for target with class prob"),
        ((4, 5, 6), zeros(4, 5), RuntimeError, r"Expected target size \[4, 6\], got \[4, 5\]"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit(shape, target, error, message):
    with pytest.raises(error, match=message):
        F.cross_entropy(tj.zeros(shape), target)


def test_options_that_do_not_exist():
    x, labels = tj.zeros(2, 3), tj.tensor([0, 1])
    with pytest.raises(ValueError, match="average is not a valid value for reduction"):
        F.cross_entropy(x, labels, reduction="average")
    with pytest.raises(RuntimeError, match=r"label_smoothing must be between 0.0 and 1.0. Got: 2"):
        F.cross_entropy(x, labels, label_smoothing=2)
    with pytest.raises(RuntimeError, match="weight tensor should be defined either for all 3 classes or no classes"):
        F.cross_entropy(x, labels, weight=tj.ones(2))


def test_one_hot():
    assert F.one_hot(tj.tensor([[1], [0]]), 3).tolist() == [[[0, 1, 0]], [[1, 0, 0]]]
    assert F.one_hot(tj.tensor([2, 0])).shape == (2, 3)
    with pytest.raises(RuntimeError, match=r"Class values must be smaller than num_classes\."):
        F.one_hot(tj.tensor([3]), 3)
    with pytest.raises(RuntimeError, match=r"Class values must be non-negative\."):
        F.one_hot(tj.tensor([-1]), 3)


# Regression -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_l1_and_bce(reduction):
    x, y = RNG.normal(size=(3, 4)), RNG.uniform(size=(3, 4))
    p = 1 / (1 + np.exp(-x))
    positive = np.linspace(1.0, 3.0, 4)
    pairs = [
        (nn.MSELoss(reduction), (x - y) ** 2),
        (nn.L1Loss(reduction), np.abs(x - y)),
        (nn.BCEWithLogitsLoss(reduction=reduction), -(y * np.log(p) + (1 - y) * np.log(1 - p))),
        (
            nn.BCEWithLogitsLoss(t64(positive), reduction, t64(positive)),
            -(positive * y * np.log(p) + (1 - y) * np.log(1 - p)) * positive,
        ),
    ]
    for module, losses in pairs:
        expected = losses if reduction == "none" else getattr(losses, reduction)()
        np.testing.assert_allclose(module(t64(x), t64(y)).numpy(), expected, rtol=1e-12)
        check_gradient(lambda x, module=module: module(x, t64(y)), x, tolerance=1e-6)


def test_regression_losses_compile():
    for function in (F.mse_loss, F.l1_loss, F.binary_cross_entropy_with_logits):
        check_compiled(function, tj.randn(3, 4), tj.rand(3, 4))


def test_bce_is_stable():
    x = tj.tensor([1e4, -1e4, 0.0], requires_grad=True)
    losses = F.binary_cross_entropy_with_logits(x, tj.tensor([0.0, 1.0, 1.0]), reduction="none")
    assert losses.tolist() == [1e4, 1e4, np.float32(math.log(2)).item()]
    losses.sum().backward()
    assert x.grad.tolist() == [1.0, -1.0, -0.5]
    with pytest.raises(ValueError, match=r"Target size \(\(3,\)\) must be the same as input size \(\(2,\)\)"):
        F.binary_cross_entropy_with_logits(tj.zeros(2), tj.zeros(3))


def test_mse_warns_of_broadcasting_at_the_users_line():
    with pytest.warns(UserWarning, match=r"Using a target size .* that is different to the input size .*") as caught:
        loss = F.mse_loss(tj.zeros(4, 1), tj.zeros(4))
    assert loss.item() == 0
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.mse_loss(tj.zeros(4), tj.zeros(4))
    assert math.isnan(F.mse_loss(tj.zeros(0), tj.zeros(0)).item())


# Starting values --------------------------------------------------------------------------------------


def test_init():
    tj.manual_seed(0)
    w = tj.zeros(200, 300, requires_grad=True)
    cases = [
        (lambda w: nn.init.uniform_(w, -1, 3), 1.0, 4 / math.sqrt(12)),
        (lambda w: nn.init.normal_(w, 1.0, 2.0), 1.0, 2.0),
        (nn.init.xavier_uniform_, 0.0, math.sqrt(2 / 500)),
        (nn.init.xavier_normal_, 0.0, math.sqrt(2 / 500)),
        (lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), 0.0, math.sqrt(2 / 300)),
        (lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), 0.0, math.sqrt(2 / 200)),
    ]
    for fill, mean, std in cases:
        assert fill(w) is w
        values = w.detach().numpy()
        assert values.mean() == pytest.approx(mean, abs=0.02 * std)
        assert values.std() == pytest.approx(std, rel=0.02)
    assert nn.init.ones_(w).detach().numpy().min() == 1
    assert nn.init.zeros_(w).detach().numpy().max() == 0
    assert w.is_leaf
    with pytest.raises(ValueError, match="Fan in and fan out can not be computed"):
        nn.init.xavier_normal_(tj.zeros(3))
    with pytest.raises(ValueError, match="Unsupported nonlinearity square"):
        nn.init.calculate_gain("square")
    with pytest.raises(ValueError, match="Mode fan not supported"):
        nn.init.kaiming_normal_(w, mode="fan")


def test_init_of_truncated_normals():
    tj.manual_seed(0)
    w = nn.init.trunc_normal_(tj.zeros(20000, dtype=tj.float64), 1.0, 2.0, -1.0, 2.0).numpy()
    assert (w.min(), w.max()) >= (-1.0, 1.9)
    assert w.max() <= 2.0
    # The mean and variance of a normal distribution that is cut off.
    density = [math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) for x in (-1.0, 0.5)]
    mass = (math.erf(0.5 / math.sqrt(2)) + math.erf(1 / math.sqrt(2))) / 2
    shift = (density[0] - density[1]) / mass
    assert abs(w.mean() - (1 + 2 * shift)) < 0.02
    variance = 4 * (1 + (-1.0 * density[0] - 0.5 * density[1]) / mass - shift**2)
    assert abs(w.var() - variance) < 0.02
    assert nn.init.trunc_normal_(nn.Linear(3, 3).weight, std=0.02).dtype == tj.float32


def test_init_of_matrices():
    tj.manual_seed(0)
    for shape in ((4, 6), (6, 4), (4, 2, 3)):
        w = nn.init.orthogonal_(tj.zeros(shape, dtype=tj.float64), 2.0).numpy().reshape(shape[0], -1)
        square = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(square, 4 * np.eye(min(w.shape)), atol=1e-12)
    assert nn.init.eye_(tj.ones(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    x = tj.randn(2, 4, 5, 6)
    layer = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight)
    assert layer(x).tolist() == x.tolist()
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    nn.init.dirac_(layer.weight, groups=2)
    assert layer(x).tolist() == x.tolist()
    w = nn.init.sparse_(tj.zeros(10, 50), 0.33, std=2.0).numpy()
    assert ((w == 0).sum(0) == 4).all()
    assert abs(w[w != 0].std() - 2) < 0.2
    places = {tuple(column) for column in (w == 0).T}
    assert len(places) > 20
    for function, shape in ((nn.init.eye_, (2,)), (nn.init.dirac_, (2, 2)), (nn.init.orthogonal_, (2,))):
        with pytest.raises(ValueError, match=r"Only tensors with .* dimensions are supported"):
            function(tj.zeros(shape))


def test_init_compiled_is_the_eager_one():
    def run(function):
        tj.manual_seed(0)
        return [function().numpy().tobytes() for _ in range(2)]

    for fill in (nn.init.trunc_normal_, nn.init.orthogonal_, nn.init.kaiming_normal_):

        def make(fill=fill):
            w = tj.zeros(3, 4)
            return fill(w)

        assert run(make) == run(tj.jit(make))
