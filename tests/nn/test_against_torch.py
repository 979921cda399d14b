"""Layers, losses, optimizers and schedulers against PyTorch's, with the same weights.

Skipped where PyTorch is not installed: ``pip install ".[test,torch]"``.
"""

import inspect

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim
from tracejit.optim import lr_scheduler

from .functions import FUNCTIONS
from .layers import LAYERS, LOSSES
from .optimizers import NOT_IN_PYTORCH, OPTIMIZERS, SCHEDULERS, WITH_CLOSURES, name_of

torch = pytest.importorskip("torch")
TF = torch.nn.functional
RNG = np.random.default_rng(0)
STEPS = 3


def convert(item, library, dtype):
    """Arrays within tuples and dicts as a library's tensors, those of numbers as leaves that want a gradient."""
    if isinstance(item, tuple | list):
        return type(item)(convert(part, library, dtype) for part in item)
    if isinstance(item, dict):
        return {key: convert(part, library, dtype) for key, part in item.items()}
    if not isinstance(item, np.ndarray):
        return item
    floating = item.dtype.kind == "f"
    return library.tensor(item.astype(dtype) if floating else item, requires_grad=floating)


def tensors_of(item):
    """The tensors in a result, in order."""
    if isinstance(item, tuple | list):
        return [tensor for part in item for tensor in tensors_of(part)]
    if isinstance(item, dict):
        return tensors_of(list(item.values()))
    return [item] if hasattr(item, "requires_grad") else []


def assert_close(found, expected, tolerance, what=""):
    found, expected = (np.asarray(item.detach()) for item in (found, expected))
    assert found.dtype == expected.dtype, what
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def run(library, call, inputs, keywords, dtype):
    """Results and leaves of a call, and the backward pass of a weighted sum of the results."""
    given, named = convert(inputs, library, dtype), convert(keywords, library, dtype)
    results = tensors_of(call(*given, **named))
    rng = np.random.default_rng(1)
    total = 0
    for result in results:
        weight = rng.normal(size=tuple(result.shape)).astype(dtype)
        if result.requires_grad:
            total = total + (result * library.tensor(weight)).sum()
    if not isinstance(total, int):
        total.backward()
    return results, tensors_of([given, named])


def compare(own, other, inputs, keywords=None, tolerance=1e-9, dtype=np.float64):
    """The results and all gradients of a function or layer of both libraries."""
    keywords = keywords or {}
    found, leaves = run(tj, own, inputs, keywords, dtype)
    expected, other_leaves = run(torch, other, inputs, keywords, dtype)
    assert len(found) == len(expected)
    for number, (f, e) in enumerate(zip(found, expected, strict=True)):
        assert_close(f, e, tolerance, f"result {number}")
    if isinstance(own, nn.Module):
        leaves += list(own.parameters())
        other_leaves += list(other.parameters())
    for number, (o, t) in enumerate(zip(leaves, other_leaves, strict=True)):
        assert o.requires_grad == t.requires_grad
        if o.grad is None:  # nothing flows there: PyTorch may say so by zeros
            assert t.grad is None or not t.grad.any(), f"gradient {number}"
        else:
            assert_close(o.grad, t.grad, tolerance, f"gradient {number}")


def twins(row):
    """A layer of both libraries with the same parameters and buffers, in float64."""
    own, other = row.layer(nn).double(), row.layer(torch.nn).double()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.tensor(RNG.normal(size=tuple(parameter.shape)) * 0.5))
    assert shapes_of(own) == shapes_of(other)
    assert list(own.state_dict()) == list(other.state_dict())
    load(own, other)
    return own, other


def load(own, other):
    own.load_state_dict({key: value.numpy() for key, value in other.state_dict().items()})


def shapes_of(layer):
    return {key: tuple(value.shape) for key, value in layer.state_dict().items()}


def assert_same_state(own, other, tolerance):
    for key, value in other.state_dict().items():
        assert_close(own.state_dict()[key], value, tolerance, key)


@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_layer(row):
    """Settings, state dict, results, gradients and buffers; in evaluation mode too, and in float32."""
    own, other = twins(row)
    assert repr(own) == repr(other).replace("NonDynamicallyQuantizableLinear", "Linear")
    if not row.draws:
        compare(own, other, row.inputs, row.keywords, row.tolerance)
        assert_same_state(own, other, 1e-9)
    own.zero_grad(), other.zero_grad()
    own.eval(), other.eval()
    compare(own, other, row.inputs, row.keywords, row.tolerance)
    own.zero_grad(), other.zero_grad()
    compare(own.float(), other.float(), row.inputs, row.keywords, 5e-5, np.float32)


@pytest.mark.parametrize("row", [row for row in LAYERS if not row.draws], ids=str)
def test_training_a_layer(row):
    """Some steps of an optimizer on the layer's parameters."""
    own, other = twins(row)
    if not list(own.parameters()):
        assert not list(other.parameters())
        return
    opt, reference = (
        library.SGD(layer.parameters(), lr=0.05, momentum=0.9)
        for library, layer in ((optim, own), (torch.optim, other))
    )
    for _ in range(STEPS):
        opt.zero_grad(), reference.zero_grad()
        run(tj, own, row.inputs, row.keywords, np.float64)
        run(torch, other, row.inputs, row.keywords, np.float64)
        opt.step(), reference.step()
    assert_same_state(own, other, 1e-7)


def reductions(row):
    """The ways to make one number of a loss."""
    choices = list(inspect.signature(getattr(nn, row.name)).parameters)
    if "reduction" not in choices:
        return [{}]
    more = [{"reduction": "batchmean"}] if row.name == "KLDivLoss" else []
    return [{"reduction": reduction} for reduction in ("mean", "sum", "none")] + more


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
@pytest.mark.parametrize(("row", "settings"), [(row, s) for row in LOSSES for s in reductions(row)], ids=str)
def test_loss(row, settings):
    own, other = (getattr(library, row.name)(*row.args, **row.kwargs, **settings) for library in (nn, torch.nn))
    assert repr(own) == repr(other)
    logits = row.name == "CTCLoss"  # PyTorch's gradient is that of the logits: it takes log_probs to be normalized
    for dtype, tolerance in ((np.float64, row.tolerance), (np.float32, 5e-5)):
        compare(
            (lambda x, *rest: own(F.log_softmax(x, -1), *rest)) if logits else own,
            (lambda x, *rest: other(TF.log_softmax(x, -1), *rest)) if logits else other,
            row.inputs,
            row.keywords,
            tolerance,
            dtype,
        )


WEIGHTED = [
    ("CrossEntropyLoss", {}, (RNG.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])), (4,)),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, (RNG.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])), (4,)),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, (RNG.normal(size=(5, 4)), RNG.uniform(size=(5, 4))), (4,)),
    ("NLLLoss", {"ignore_index": 1}, (RNG.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])), (4,)),
    ("BCELoss", {}, (RNG.uniform(0.1, 0.9, (5, 4)), RNG.uniform(size=(5, 4))), (4,)),
    ("BCEWithLogitsLoss", {}, (RNG.normal(size=(5, 4)), RNG.uniform(size=(5, 4))), (5, 1)),
    ("MultiMarginLoss", {"p": 2}, (RNG.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])), (4,)),
    ("MultiLabelSoftMarginLoss", {}, (RNG.normal(size=(5, 4)), RNG.integers(0, 2, (5, 4))), (4,)),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "settings", "inputs", "shape"), WEIGHTED, ids=name_of)
def test_weighted_loss(name, settings, inputs, shape, reduction):
    weights = RNG.uniform(0.5, 2.0, shape)
    own, other = (
        getattr(library, name)(weight=make(weights), reduction=reduction, **settings)
        for library, make in ((nn, tj.tensor), (torch.nn, torch.tensor))
    )
    assert list(own.state_dict()) == list(other.state_dict()) == ["weight"]
    compare(own, other, inputs)


def test_positive_weights():
    weights, inputs = RNG.uniform(0.5, 2.0, 4), (RNG.normal(size=(5, 4)), RNG.uniform(size=(5, 4)))
    own = nn.BCEWithLogitsLoss(pos_weight=tj.tensor(weights))
    other = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights))
    compare(own, other, inputs)


@pytest.mark.parametrize("row", FUNCTIONS, ids=str)
def test_function(row):
    own, other = getattr(F, row.name), getattr(TF, row.name)
    compare(
        lambda *a, **k: own(*a, *row.args, **row.kwargs, **k),
        lambda *a, **k: other(*a, *row.args, **row.kwargs, **k),
        row.inputs,
        row.keywords,
        row.tolerance,
    )


# Packed sequences -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[5, 3, 3, 1], [2, 5, 1, 3]])
def test_packed_sequences(name, batch_first, lengths):
    settings = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    own, other = getattr(nn, name)(3, 4, **settings).double(), getattr(torch.nn, name)(3, 4, **settings).double()
    load(own, other)
    x = RNG.normal(size=(4, 5, 3) if batch_first else (5, 4, 3))
    state = RNG.normal(size=(4, 4, 4))

    def call(library, layer):
        def function(x, state):
            rnn = library.nn.utils.rnn
            packed = rnn.pack_padded_sequence(x, lengths, batch_first, enforce_sorted=lengths[0] == 5)
            output, last = layer(packed, (state, state) if name == "LSTM" else state)
            padded, counts = rnn.pad_packed_sequence(output, batch_first, padding_value=0.5, total_length=6)
            assert counts.tolist() == lengths
            return padded, packed.data, last

        return function

    compare(call(tj, own), call(torch, other), (x, state))


def test_sequences():
    arrays = [RNG.normal(size=(n, 2)) for n in (2, 4, 1)]
    ours, theirs = ([library.tensor(a) for a in arrays] for library in (tj, torch))
    rnn, reference = nn.utils.rnn, torch.nn.utils.rnn
    for settings in ({}, {"batch_first": True, "padding_value": 2.0}, {"padding_side": "left"}):
        assert_close(rnn.pad_sequence(ours, **settings), reference.pad_sequence(theirs, **settings), 0)
    packed, other = (
        library.pack_sequence(x, enforce_sorted=False) for library, x in ((rnn, ours), (reference, theirs))
    )
    assert_close(packed.data, other.data, 0)
    assert list(packed.batch_sizes) == other.batch_sizes.tolist()
    assert packed.sorted_indices.tolist() == other.sorted_indices.tolist()
    for found, array in zip(rnn.unpack_sequence(packed), arrays, strict=True):
        np.testing.assert_array_equal(found.numpy(), array)


# Parametrizations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "settings"),
    [("weight_norm", {}), ("weight_norm", {"dim": None}), ("weight_norm", {"dim": 1}), ("spectral_norm", {})],
)
@pytest.mark.parametrize(
    ("layer", "args", "shape"), [("Linear", (3, 4), (2, 3)), ("ConvTranspose2d", (3, 4, 2), (1, 3, 2, 2))]
)
def test_parametrizations(function, settings, layer, args, shape):
    own, other = (
        getattr(library.utils.parametrizations, function)(getattr(library, layer)(*args).double(), **settings)
        for library in (nn, torch.nn)
    )
    assert list(own.state_dict()) == list(other.state_dict())
    assert shapes_of(own) == shapes_of(other)
    load(own, other)
    for _ in range(2):
        compare(own, other, (RNG.normal(size=shape),))
        assert_same_state(own, other, 1e-9)
    assert_close(own.eval().weight, other.eval().weight, 1e-9)


# Optimizers and schedulers ----------------------------------------------------------------------------


def grouped(library, make, start):
    """Two parameters in groups of their own, the second with a rate of its own."""
    parameters = [library.tensor(array, requires_grad=True) for array in start]
    return parameters, make([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.02}])


def states_match(own, other, tolerance=1e-8):
    """The state dicts of both optimizers, by PyTorch's keys."""
    found, expected = own.state_dict(), other.state_dict()
    assert found["state"].keys() == expected["state"].keys()
    for number, state in expected["state"].items():
        for name, value in state.items():
            if value is not None and not (name == "step" and name not in found["state"][number]):
                assert_close(found["state"][number][name], torch.as_tensor(value), tolerance, name)
    for mine, theirs in zip(found["param_groups"], expected["param_groups"], strict=True):
        assert mine["params"] == theirs["params"]
        for key in mine.keys() & theirs.keys():
            assert mine[key] == theirs[key], key


@pytest.mark.parametrize(("name", "settings"), [row for row in OPTIMIZERS if row[0] not in NOT_IN_PYTORCH], ids=name_of)
def test_optimizer(name, settings):
    """Updates and state over some steps, and again from each other's state dict."""
    rng = np.random.default_rng(3)
    start, grads = (
        [rng.normal(size=(3, 2)), rng.normal(size=())],
        [(rng.normal(size=(3, 2)), rng.normal()) for _ in range(8)],
    )
    p, own = grouped(tj, lambda groups: getattr(optim, name)(groups, **settings), start)
    q, other = grouped(torch, lambda groups: getattr(torch.optim, name)(groups, **settings), start)

    def steps(own, other, p, q):
        for pair in grads:
            for o, t, g in zip(p, q, pair, strict=True):
                o.grad, t.grad = tj.tensor(np.asarray(g)), torch.tensor(np.asarray(g))
            own.step(), other.step()
            for o, t in zip(p, q, strict=True):
                assert_close(o, t, 1e-9)

    steps(own, other, p, q)
    states_match(own, other)
    # PyTorch's state in a fresh optimizer of ours, and ours in a fresh one of PyTorch's.
    saved = other.state_dict()
    arrays = {i: {k: np.asarray(v) for k, v in s.items() if v is not None} for i, s in saved["state"].items()}
    _, fresh = grouped(tj, lambda groups: getattr(optim, name)(groups, lr=9.0), start)
    fresh.param_groups[0]["params"], fresh.param_groups[1]["params"] = p[:1], p[1:]
    fresh.load_state_dict({"state": arrays, "param_groups": saved["param_groups"]})
    saved = own.state_dict()
    tensors = {i: {k: torch.tensor(v.numpy()) for k, v in s.items()} for i, s in saved["state"].items()}
    _, fresh_other = grouped(torch, lambda groups: getattr(torch.optim, name)(groups, lr=9.0), start)
    fresh_other.param_groups[0]["params"], fresh_other.param_groups[1]["params"] = q[:1], q[1:]
    fresh_other.load_state_dict({"state": tensors, "param_groups": saved["param_groups"]})
    steps(fresh, fresh_other, p, q)


@pytest.mark.parametrize(("name", "settings"), WITH_CLOSURES, ids=name_of)
def test_optimizer_with_a_closure(name, settings):
    """Rosenbrock's function."""

    def problem(library, optimizers):
        p = library.tensor(np.array([-1.5, 2.0]), requires_grad=True)
        opt = getattr(optimizers, name)([p], **settings)

        def closure():
            opt.zero_grad()
            loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
            loss.backward()
            return loss

        return p, opt, closure

    (p, own, closure), (q, other, reference) = problem(tj, optim), problem(torch, torch.optim)
    for step in range(6):
        assert_close(own.step(closure), other.step(reference), 1e-5)
        assert_close(p, q, 1e-5)
        if step == 2:  # go on from a state dict, of the other library
            saved = own.state_dict()
            p, own, closure = problem(tj, optim)
            with tj.no_grad():
                p.copy_(q.detach().numpy())
            state = other.state_dict()
            arrays = {
                k: [np.asarray(i) for i in v if i is not None] if isinstance(v, list) else np.asarray(v)
                for k, v in state["state"][0].items()
                if k not in ("func_evals", "n_iter")
            }
            counts = {k: state["state"][0][k] for k in ("func_evals", "n_iter")}
            assert counts == {k: saved["state"][0][k] for k in counts}
            own.load_state_dict({"state": {0: {**arrays, **counts}}, "param_groups": state["param_groups"]})


@pytest.mark.parametrize(("name", "make"), SCHEDULERS, ids=name_of)
def test_scheduler(name, make):
    own = optim.SGD([tj.ones(1, requires_grad=True)], lr=0.5, momentum=0.9)
    other = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.5, momentum=0.9)
    ours, theirs = make(lr_scheduler, own), make(torch.optim.lr_scheduler, other)
    for loss in np.random.default_rng(0).uniform(1, 2, 18):
        assert own.param_groups[0]["lr"] == pytest.approx(other.param_groups[0]["lr"], rel=1e-12)
        assert own.param_groups[0]["momentum"] == pytest.approx(other.param_groups[0]["momentum"])
        own.step(), other.step()
        argument = (float(loss),) if name == "ReduceLROnPlateau" else ()
        ours.step(*argument), theirs.step(*argument)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)


def test_restarts_at_a_given_epoch():
    own, other = (
        optim.SGD([tj.ones(1, requires_grad=True)], lr=0.5),
        torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.5),
    )
    ours = lr_scheduler.CosineAnnealingWarmRestarts(own, 3, 2)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(other, 3, 2)
    for epoch in (0.5, 2.75, 3, 11.25, None, 1, None):
        ours.step(epoch), theirs.step(epoch)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        assert (ours.T_cur, ours.T_i, ours.last_epoch) == pytest.approx((theirs.T_cur, theirs.T_i, theirs.last_epoch))


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_averaging(strategy):
    """Training with averaged weights: rates, parameters and state."""
    own, other = nn.Linear(3, 2).double(), torch.nn.Linear(3, 2).double()
    load(own, other)
    runs = []
    for library, model, optimizers in ((tj, own, optim), (torch, other, torch.optim)):
        averaging = optimizers.swa_utils
        opt = optimizers.SGD(model.parameters(), lr=0.5)
        scheduler = averaging.SWALR(opt, 0.05, 3, strategy)
        averages = [
            averaging.AveragedModel(model),
            averaging.AveragedModel(model, multi_avg_fn=averaging.get_ema_multi_avg_fn(0.9)),
        ]
        for _ in range(5):
            opt.zero_grad()
            (model(library.tensor(np.ones((2, 3)))) ** 2).sum().backward()
            opt.step()
            scheduler.step()
            for averaged in averages:
                averaged.update_parameters(model)
        runs.append((averages, scheduler.get_last_lr()))
    assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-12)
    for ours, theirs in zip(runs[0][0], runs[1][0], strict=True):
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert_same_state(ours, theirs, 1e-12)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, float("inf")])
def test_clip_grad_norm(order):
    shapes = [(3, 2), (4,), ()]
    ours = [tj.zeros(shape, dtype=tj.float64, requires_grad=True) for shape in shapes]
    theirs = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for o, t in zip(ours, theirs, strict=True):
        g = np.asarray(RNG.normal(size=o.shape))
        o.grad, t.grad = tj.tensor(g), torch.tensor(g)
    total = nn.utils.clip_grad_norm_(ours, 0.5, order), torch.nn.utils.clip_grad_norm_(theirs, 0.5, order)
    assert_close(*total, 1e-12)
    for o, t in zip(ours, theirs, strict=True):
        assert_close(o.grad, t.grad, 1e-10)
    assert_close(nn.utils.get_total_norm(ours, order), torch.nn.utils.get_total_norm(theirs, order), 1e-12)
