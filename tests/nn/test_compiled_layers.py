"""Each layer, loss and optimizer, eagerly and under ``jit``: the same bits forward, backward and over steps."""

import inspect

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim
from tracejit.optim import lr_scheduler

from .functions import FUNCTIONS
from .layers import LAYERS, LOSSES, normal, public_layers, row
from .optimizers import (
    NOT_IN_PYTORCH,
    OPTIMIZERS,
    SCHEDULERS,
    WITH_CLOSURES,
    name_of,
    public_optimizers,
    public_schedulers,
)

STEPS = 3
pytestmark = pytest.mark.usefixtures("first_code_only")


def arguments(item):
    """Arrays within tuples and dicts as float32 and integer tensors."""
    if isinstance(item, tuple | list):
        return type(item)(map(arguments, item))
    if isinstance(item, dict):
        return {key: arguments(part) for key, part in item.items()}
    if not isinstance(item, np.ndarray):
        return item
    return tj.tensor(item.astype(np.float32) if item.dtype.kind == "f" else item)


def leaves(item, found):
    """The item with its floating tensors as leaves that want a gradient, which ``found`` collects."""
    if isinstance(item, tuple | list):
        return type(item)([leaves(part, found) for part in item])
    if isinstance(item, dict):
        return {key: leaves(part, found) for key, part in item.items()}
    if isinstance(item, tj.Tensor) and item.dtype == tj.float32:
        found.append(item.detach().requires_grad_())
        return found[-1]
    return item


def floats_of(item):
    """The tensors in a result that have a gradient, and the others."""
    if isinstance(item, tuple | list):
        return [tensor for part in item for tensor in floats_of(part)]
    return [item] if isinstance(item, tj.Tensor) else []


def bits(tensors):
    return [None if tensor is None else (tensor.shape, tensor.numpy().tobytes()) for tensor in tensors]


def trained(call, module, item, compiled):
    """What some steps of training and a call in evaluation mode give: results, gradients, parameters and buffers."""
    parameters = list(module.parameters()) if module is not None else []
    opt = optim.SGD(parameters, lr=1e-3, momentum=0.9) if parameters else None

    def step(inputs, keywords):
        wanted = []
        results = floats_of(call(*leaves(inputs, wanted), **leaves(keywords, wanted)))
        if opt is not None:
            opt.zero_grad()
        total = sum((result * result).sum() + result.sum() for result in results if result.requires_grad)
        if not isinstance(total, int):
            total.backward()
        if opt is not None:
            opt.step()
        return [result.detach() for result in results], [leaf.grad for leaf in wanted]

    run = tj.jit(step) if compiled else step
    inputs, keywords = arguments(item.inputs), arguments(item.keywords)
    tj.manual_seed(1)
    seen = []
    for _ in range(STEPS):
        results, gradients = run(inputs, keywords)
        seen += [bits(results), bits(gradients), bits(p.grad for p in parameters), bits(p.detach() for p in parameters)]
        if module is not None:
            seen.append(bits(module.buffers()))
    if module is not None:
        module.eval()
    results, gradients = run(inputs, keywords)
    seen += [bits(results), bits(gradients)]
    return seen, run


def check(item, make, call_of=lambda module: module):
    """Trained eagerly and compiled it gives the same bits; and compiled it is, unless the row says why not."""
    seen = []
    for compiled in (False, True):
        tj.manual_seed(0)
        module = make()
        found, run = trained(call_of(module), module if isinstance(module, nn.Module) else None, item, compiled)
        seen.append(found)
    assert seen[0] == seen[1]
    info = run.cache_info()
    if item.lazy:
        assert item.lazy in run.explain()
        assert info.lazy
    else:
        assert info.lazy == 0, run.explain()
        assert info.hits >= STEPS - 2, run.explain()


@pytest.mark.parametrize("item", LAYERS, ids=str)
def test_layer(item):
    check(item, lambda: item.layer(nn))


@pytest.mark.parametrize("item", LOSSES, ids=str)
def test_loss(item):
    check(item, lambda: item.layer(nn))


@pytest.mark.parametrize("item", FUNCTIONS, ids=str)
def test_function(item):
    function = getattr(F, item.name)
    check(item, lambda: None, lambda _: lambda *a, **k: function(*a, *item.args, **item.kwargs, **k))


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_parametrizations(name):
    wrap = getattr(nn.utils.parametrizations, name)
    check(row(name, inputs=normal(2, 3)), lambda: wrap(nn.Linear(3, 4)))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_packed_sequences(name):
    def call_of(layer):
        def call(x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            output, last = layer(packed)
            return nn.utils.rnn.pad_packed_sequence(output)[0], last

        return call

    check(
        row(name, inputs=(normal(5, 4, 3), (2, 5, 1, 3))), lambda: getattr(nn, name)(3, 4, bidirectional=True), call_of
    )


# Optimizers -------------------------------------------------------------------------------------------


def training(name, settings, compiled, closure=False):
    """Losses, parameters, gradients and state over steps, with a new learning rate halfway."""
    tj.manual_seed(0)
    x, y = tj.randn(16, 5), tj.randint(0, 3, (16,))
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    opt = getattr(optim, name)(model.parameters(), **settings)

    def compute(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    def train_step(x, y):
        if closure:
            return opt.step(lambda: compute(x, y))
        loss = compute(x, y)
        opt.step()
        return loss

    step = tj.jit(train_step) if compiled else train_step
    seen = []
    for number in range(2 * STEPS):
        if number == STEPS:
            opt.param_groups[0]["lr"] *= 0.5
        seen.append(bits([step(x, y).detach()]))
        seen += [bits(p.detach() for p in model.parameters()), bits(p.grad for p in model.parameters())]
        seen.append(bits(tensor for _, tensor in opt.named_tensors()))
    return seen, step


@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS, ids=name_of)
def test_optimizer(name, settings):
    expected, _ = training(name, settings, compiled=False)
    found, step = training(name, settings, compiled=True)
    assert found == expected
    info = step.cache_info()
    assert (info.misses, info.hits, info.lazy) == (1, 2 * STEPS - 1, 0), step.explain()


@pytest.mark.parametrize(("name", "settings"), WITH_CLOSURES, ids=name_of)
def test_optimizer_with_a_closure(name, settings):
    expected, _ = training(name, settings, compiled=False, closure=True)
    found, step = training(name, settings, compiled=True, closure=True)
    assert found == expected
    assert "LBFGS looks at the value of each loss" in step.explain()


@pytest.mark.parametrize(("name", "make"), SCHEDULERS, ids=name_of)
def test_scheduler(name, make):
    """New rates compile nothing, and a compiled step sees them."""

    def run(compiled):
        p = tj.tensor([1.0, 2.0], requires_grad=True)
        opt = optim.SGD([p], lr=0.5, momentum=0.9)
        scheduler = make(lr_scheduler, opt)

        def step():
            opt.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            opt.step()
            return loss

        function = tj.jit(step) if compiled else step
        seen = []
        for _ in range(8):
            loss = function()
            seen.append(bits([loss.detach(), p.detach()]))
            scheduler.step(*((loss.item(),) if name == "ReduceLROnPlateau" else ()))
        return seen, function

    expected, _ = run(compiled=False)
    found, step = run(compiled=True)
    assert found == expected
    assert (step.cache_info().misses, step.cache_info().lazy) == (1, 0), step.explain()


# Nothing is left out ------------------------------------------------------------------------------------


def test_every_layer_and_loss_has_a_row():
    assert sorted({item.name for item in LAYERS + LOSSES}) == sorted(public_layers())


def test_every_function_has_a_row():
    """Of its own, or that of the layer of the same name."""
    layers = {item.name.lower().removesuffix("loss").removesuffix("1d") for item in LAYERS + LOSSES}
    layers |= {item.name.lower() for item in LAYERS + LOSSES}
    abbreviated = {"binary_cross_entropy": "bce", "binary_cross_entropy_with_logits": "bcewithlogits"}
    named = {item.name for item in FUNCTIONS}
    rest = [name for name in F.__all__ if name not in named]
    missing = [n for n in rest if abbreviated.get(n, n.replace("_", "").removesuffix("loss")) not in layers]
    assert missing == []


def test_every_optimizer_and_scheduler_has_a_row():
    assert sorted({name for name, _ in OPTIMIZERS + WITH_CLOSURES}) == sorted(public_optimizers())
    assert sorted({name for name, _ in SCHEDULERS}) == sorted(public_schedulers())
    assert set(public_optimizers()) >= NOT_IN_PYTORCH


@pytest.mark.parametrize("name", public_optimizers())
def test_every_setting_of_an_optimizer_is_in_a_row(name):
    parameters = inspect.signature(getattr(optim, name)).parameters
    expected = set(parameters) - {"params", "implementation", "max_eval", "tolerance_grad", "tolerance_change"}
    found = {key for other, settings in OPTIMIZERS + WITH_CLOSURES if other == name for key in settings}
    assert expected - found == set()
