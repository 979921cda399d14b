"""Layers, losses and optimizers against PyTorch's, with the same weights; skipped where PyTorch is not installed."""

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim
from tracejit.optim import lr_scheduler

torch = pytest.importorskip("torch")
TF = torch.nn.functional
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


def tensors_of(value):
    """The tensors in a result, in order."""
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors_of(item)]
    return [] if value is None else [value]


def compare(own, other, arrays, tolerance=1e-9, keywords=None):
    """The results and all gradients of a function or layer of both libraries, in float64."""
    ours = [tj.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    found, expected = own(*ours, **(keywords or {})), other(*theirs, **(keywords or {}))
    pairs = list(zip(tensors_of(found), tensors_of(expected), strict=True))
    weights = [RNG.normal(size=tuple(e.shape)) for _, e in pairs]
    for (f, e), _ in zip(pairs, weights, strict=True):
        np.testing.assert_allclose(f.detach().numpy(), e.detach().numpy(), rtol=tolerance, atol=tolerance)
    sum((f * tj.tensor(w)).sum() for (f, _), w in zip(pairs, weights, strict=True)).backward()
    sum((e * torch.tensor(w)).sum() for (_, e), w in zip(pairs, weights, strict=True)).backward()
    ours += list(own.parameters()) if isinstance(own, nn.Module) else []
    theirs += list(other.parameters()) if isinstance(other, torch.nn.Module) else []
    for o, t in zip(ours, theirs, strict=True):
        if o.requires_grad and t.grad is not None:
            np.testing.assert_allclose(o.grad.numpy(), t.grad.numpy(), rtol=tolerance, atol=tolerance)


def twins(name, *args, **kwargs):
    """A layer of both libraries with the same parameters and buffers."""
    own = getattr(nn, name)(*args, **kwargs).double()
    other = getattr(torch.nn, name)(*args, **kwargs).double()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.tensor(RNG.normal(size=tuple(parameter.shape)) * 0.5))
    names = list(own.state_dict())
    assert names == list(other.state_dict())
    own.load_state_dict({key: value.numpy() for key, value in other.state_dict().items()})
    return own, other


LAYERS = [
    ("Linear", (3, 4), {}, [normal(5, 3)]),
    ("Embedding", (7, 3), {"padding_idx": 2}, [np.array([[1, 2, 6], [1, 1, 2]])]),
    ("Conv1d", (4, 6, 3), {}, [normal(2, 4, 9)]),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}, [normal(2, 4, 9)]),
    ("Conv1d", (4, 6, 4), {"padding": "same", "padding_mode": "circular"}, [normal(2, 4, 9)]),
    ("Conv2d", (3, 4, 3), {"padding": 1}, [normal(2, 3, 6, 5)]),
    ("Conv2d", (4, 8, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "groups": 4, "bias": False}, [normal(2, 4, 6, 5)]),
    ("Conv2d", (3, 4, 3), {"padding": 1, "padding_mode": "reflect"}, [normal(3, 6, 5)]),
    ("Conv2d", (3, 4, 3), {"padding": 2, "padding_mode": "replicate"}, [normal(1, 3, 6, 5)]),
    ("Conv3d", (2, 3, 2), {"stride": 2}, [normal(1, 2, 4, 5, 4)]),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, [normal(2, 4, 5)]),
    ("ConvTranspose2d", (4, 3, 3), {"stride": 2, "dilation": 2}, [normal(2, 4, 5, 4)]),
    ("ConvTranspose2d", (4, 3, (2, 3)), {"padding": (1, 0)}, [normal(4, 5, 4)]),
    ("ConvTranspose3d", (2, 3, 2), {"stride": (1, 2, 1)}, [normal(1, 2, 3, 4, 3)]),
    ("BatchNorm1d", (4,), {}, [normal(5, 4)]),
    ("BatchNorm1d", (4,), {"momentum": None, "eps": 1e-2}, [normal(5, 4, 3)]),
    ("BatchNorm2d", (4,), {"momentum": 0.3}, [normal(2, 4, 3, 3)]),
    ("BatchNorm2d", (4,), {"affine": False, "track_running_stats": False}, [normal(2, 4, 3, 3)]),
    ("LayerNorm", ((3, 4),), {}, [normal(2, 3, 4)]),
    ("RMSNorm", (4,), {"eps": 1e-3}, [normal(2, 3, 4)]),
    ("GroupNorm", (2, 4), {}, [normal(3, 4, 5)]),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, [normal(2, 3, 8)]),
    ("MaxPool2d", ((2, 3),), {"ceil_mode": True}, [normal(2, 3, 7, 7)]),
    ("MaxPool2d", (2,), {"stride": 1, "dilation": 2}, [RNG.integers(0, 2, (1, 2, 6, 6)).astype(float)]),
    ("AvgPool1d", (3,), {"stride": 2, "padding": 1}, [normal(2, 3, 8)]),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, [normal(2, 3, 8, 7)]),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}, [normal(3, 8, 7)]),
    ("AvgPool2d", (3,), {"divisor_override": 2}, [normal(2, 3, 8, 7)]),
    ("AdaptiveAvgPool1d", (3,), {}, [normal(2, 3, 8)]),
    ("AdaptiveAvgPool2d", ((3, None),), {}, [normal(2, 3, 7, 5)]),
    ("AdaptiveAvgPool2d", (1,), {}, [normal(2, 3, 7, 5)]),
    ("AdaptiveMaxPool2d", ((2, 3),), {}, [normal(2, 3, 7, 6)]),
    ("Flatten", (), {}, [normal(2, 3, 4)]),
    ("Unflatten", (1, (2, -1)), {}, [normal(2, 6)]),
    ("RNN", (3, 4), {}, [normal(5, 2, 3)]),
    ("RNN", (3, 4), {"nonlinearity": "relu", "num_layers": 2, "bias": False}, [normal(5, 3)]),
    ("LSTM", (3, 4), {"num_layers": 2, "bidirectional": True, "batch_first": True}, [normal(2, 5, 3)]),
    ("GRU", (3, 4), {"num_layers": 2, "bidirectional": True}, [normal(5, 2, 3), normal(4, 2, 4)]),
    ("RNNCell", (3, 4), {}, [normal(2, 3)]),
    ("LSTMCell", (3, 4), {}, [normal(2, 3)]),
    ("GRUCell", (3, 4), {}, [normal(2, 3), normal(2, 4)]),
    ("MultiheadAttention", (8, 2), {}, [normal(5, 3, 8), normal(6, 3, 8), normal(6, 3, 8)]),
    ("MultiheadAttention", (8, 2), {"kdim": 3, "vdim": 4, "batch_first": True},
     [normal(3, 5, 8), normal(3, 6, 3), normal(3, 6, 4)]),
    ("TransformerEncoderLayer", (8, 2), {"dim_feedforward": 16, "dropout": 0.0}, [normal(5, 3, 8)]),
    ("TransformerEncoderLayer", (8, 2),
     {"dim_feedforward": 16, "dropout": 0.0, "norm_first": True, "batch_first": True, "activation": "gelu"},
     [normal(3, 5, 8)]),
    *[(name, (), {}, [normal(3, 6) * 3]) for name in (
        "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid",
        "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh",
        "Tanhshrink",
    )],
    ("Threshold", (0.5, -1.0), {}, [normal(3, 6)]),
    ("PReLU", (6,), {}, [normal(3, 6, 2)]),
    ("Softplus", (), {"beta": 2.0, "threshold": 1.0}, [normal(3, 6) * 3]),
    ("CELU", (2.0,), {}, [normal(3, 6) * 3]),
    ("Softmin", (1,), {}, [normal(3, 6)]),
    ("LogSoftmax", (0,), {}, [normal(3, 6)]),
]  # fmt: skip


def name_of(item):
    return item if isinstance(item, str) else ""


@pytest.mark.parametrize(("name", "args", "kwargs", "arrays"), LAYERS, ids=name_of)
def test_layer(name, args, kwargs, arrays):
    own, other = twins(name, *args, **kwargs)
    tolerance = 1e-7 if name == "Hardsigmoid" else 1e-9  # PyTorch's divides by 6 in float32
    compare(own, other, arrays, tolerance)
    for key, value in other.state_dict().items():
        np.testing.assert_allclose(own.state_dict()[key].numpy(), value.numpy(), rtol=1e-9, err_msg=key)
    own.eval(), other.eval()
    compare(own, other, arrays, tolerance)
    assert repr(own) == repr(other) or name not in ("Linear", "Conv2d", "Embedding", "Flatten", "MaxPool2d", "LSTM")


PROBABILITIES = RNG.uniform(0.05, 0.95, (3, 4))
SIGNS = np.array([1.0, -1.0, 1.0])
LOSSES = [
    ("MSELoss", {}, [normal(3, 4), normal(3, 4)]),
    ("L1Loss", {"reduction": "sum"}, [normal(3, 4), normal(3, 4)]),
    ("SmoothL1Loss", {"beta": 0.5}, [normal(3, 4), normal(3, 4)]),
    ("HuberLoss", {"delta": 0.5, "reduction": "none"}, [normal(3, 4), normal(3, 4)]),
    ("BCELoss", {}, [PROBABILITIES, RNG.uniform(size=(3, 4))]),
    ("BCEWithLogitsLoss", {}, [normal(3, 4), RNG.uniform(size=(3, 4))]),
    ("KLDivLoss", {"reduction": "batchmean"}, [np.log(PROBABILITIES), PROBABILITIES[::-1].copy()]),
    ("KLDivLoss", {"log_target": True}, [np.log(PROBABILITIES), np.log(PROBABILITIES[::-1])]),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, [normal(3, 4), np.array([0, 3, 1])]),
    ("NLLLoss", {}, [np.log(PROBABILITIES), np.array([0, 3, 1])]),
    ("PoissonNLLLoss", {}, [normal(3, 4), RNG.integers(0, 5, (3, 4)).astype(float)]),
    ("PoissonNLLLoss", {"full": True, "log_input": False}, [PROBABILITIES, PROBABILITIES * 5]),
    ("GaussianNLLLoss", {"full": True}, [normal(3, 4), normal(3, 4), PROBABILITIES]),
    ("SoftMarginLoss", {}, [normal(3), SIGNS]),
    ("HingeEmbeddingLoss", {"margin": 0.5}, [normal(3), SIGNS]),
    ("MarginRankingLoss", {"margin": 0.5}, [normal(3), normal(3), SIGNS]),
    ("CosineEmbeddingLoss", {"margin": 0.1}, [normal(3, 4), normal(3, 4), SIGNS]),
    ("TripletMarginLoss", {"swap": True}, [normal(3, 4), normal(3, 4), normal(3, 4)]),
    ("TripletMarginLoss", {"p": 3.0, "margin": 2.0, "reduction": "sum"}, [normal(3, 4), normal(3, 4), normal(3, 4)]),
]


@pytest.mark.parametrize(("name", "kwargs", "arrays"), LOSSES, ids=name_of)
def test_loss(name, kwargs, arrays):
    if name in ("SoftMarginLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "CosineEmbeddingLoss"):
        *arrays, signs = arrays
        own, other = getattr(nn, name)(**kwargs), getattr(torch.nn, name)(**kwargs)
        compare(lambda *a: own(*a, tj.tensor(signs)), lambda *a: other(*a, torch.tensor(signs)), arrays)
    else:
        compare(getattr(nn, name)(**kwargs), getattr(torch.nn, name)(**kwargs), arrays)


Q, K, V = normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 2)
MASK = RNG.uniform(size=(5, 6)) < 0.5


@pytest.mark.parametrize("kwargs", [{}, {"is_causal": True}, {"scale": 0.3}])
def test_attention(kwargs):
    compare(
        lambda *a: F.scaled_dot_product_attention(*a, **kwargs),
        lambda *a: TF.scaled_dot_product_attention(*a, **kwargs),
        [Q, K, V],
    )


@pytest.mark.parametrize("mask", [MASK, np.where(MASK, 0.0, -1.0)])
def test_attention_with_a_mask(mask):
    compare(
        lambda *a: F.scaled_dot_product_attention(*a, attn_mask=tj.tensor(mask)),
        lambda *a: TF.scaled_dot_product_attention(*a, attn_mask=torch.tensor(mask)),
        [Q, K, V],
    )


def test_attention_with_grouped_queries():
    arrays = [normal(2, 4, 5, 4), normal(2, 2, 6, 4), normal(2, 2, 6, 2)]
    compare(
        lambda *a: F.scaled_dot_product_attention(*a, enable_gqa=True),
        lambda *a: TF.scaled_dot_product_attention(*a, enable_gqa=True),
        arrays,
    )


def test_multihead_attention_with_masks():
    own, other = twins("MultiheadAttention", 8, 2, batch_first=True)
    x, padding = normal(3, 5, 8), np.array([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    causal = np.triu(np.ones((5, 5), bool), 1)
    for average in (True, False):
        masks = {"key_padding_mask": padding, "attn_mask": causal}
        ours = {key: tj.tensor(value) for key, value in masks.items()}
        theirs = {key: torch.tensor(value) for key, value in masks.items()}
        own.zero_grad(), other.zero_grad()
        compare(
            lambda x, average=average, masks=ours: own(x, x, x, average_attn_weights=average, **masks),
            lambda x, average=average, masks=theirs: other(x, x, x, average_attn_weights=average, **masks),
            [x],
        )


OPTIMIZERS = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1, "centered": True, "alpha": 0.9}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
]


@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS)
def test_optimizer(name, settings):
    start, grads = normal(3, 2), normal(10, 3, 2)
    p, q = tj.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    own, other = getattr(optim, name)([p], **settings), getattr(torch.optim, name)([q], **settings)
    for g in grads:
        p.grad, q.grad = tj.tensor(g), torch.tensor(g)
        own.step(), other.step()
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-10)
    saved = other.state_dict()
    fresh = getattr(optim, name)([p], **settings)
    fresh.load_state_dict(
        {
            "state": {i: {k: np.asarray(v) for k, v in s.items() if v is not None} for i, s in saved["state"].items()},
            "param_groups": saved["param_groups"],
        }
    )
    for g in grads:
        p.grad, q.grad = tj.tensor(g), torch.tensor(g)
        fresh.step(), other.step()
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-10)


def schedulers(library, opt):
    return [
        lambda: library.LambdaLR(opt, lambda t: 0.9**t),
        lambda: library.StepLR(opt, 3),
        lambda: library.MultiStepLR(opt, [2, 5]),
        lambda: library.ExponentialLR(opt, 0.5),
        lambda: library.LinearLR(opt, 0.25, 0.75, 4),
        lambda: library.CosineAnnealingLR(opt, 4, 0.1),
        lambda: library.OneCycleLR(opt, 1.0, total_steps=20),
        lambda: library.OneCycleLR(opt, 1.0, epochs=4, steps_per_epoch=5, three_phase=True, anneal_strategy="linear"),
        lambda: library.SequentialLR(
            opt, [library.LinearLR(opt), library.CosineAnnealingLR(opt, 8), library.ExponentialLR(opt, 0.5)], [5, 12]
        ),
    ]


@pytest.mark.parametrize("number", range(9))
def test_scheduler(number):
    own = optim.Adam([tj.ones(1, requires_grad=True)], lr=0.5)
    other = torch.optim.Adam([torch.ones(1, requires_grad=True)], lr=0.5)
    ours, theirs = (
        schedulers(library, opt)[number]() for library, opt in ((lr_scheduler, own), (torch.optim.lr_scheduler, other))
    )
    for _ in range(18):
        own.step(), other.step()
        ours.step(), theirs.step()
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        assert own.param_groups[0]["betas"] == pytest.approx(other.param_groups[0]["betas"])


@pytest.mark.parametrize(("mode", "kind"), [("min", "rel"), ("max", "rel"), ("min", "abs"), ("max", "abs")])
def test_plateau(mode, kind):
    own = optim.SGD([tj.ones(1, requires_grad=True)], lr=0.5)
    other = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.5)
    settings = {"mode": mode, "threshold_mode": kind, "patience": 1, "cooldown": 1, "threshold": 0.1}
    ours = lr_scheduler.ReduceLROnPlateau(own, **settings)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(other, **settings)
    for value in RNG.uniform(1, 2, 30):
        ours.step(value), theirs.step(value)
        assert ours.get_last_lr() == theirs.get_last_lr()


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, float("inf")])
def test_clip_grad_norm(order):
    shapes = [(3, 2), (4,), ()]
    ours = [tj.zeros(shape, dtype=tj.float64, requires_grad=True) for shape in shapes]
    theirs = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for o, t in zip(ours, theirs, strict=True):
        g = np.asarray(RNG.normal(size=o.shape))
        o.grad, t.grad = tj.tensor(g), torch.tensor(g)
    total = nn.utils.clip_grad_norm_(ours, 0.5, order), torch.nn.utils.clip_grad_norm_(theirs, 0.5, order)
    np.testing.assert_allclose(total[0].item(), total[1].item(), rtol=1e-12)
    for o, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(o.grad.numpy(), t.grad.numpy(), rtol=1e-10)
