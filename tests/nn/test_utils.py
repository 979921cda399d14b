"""Parametrizations, modules called with other tensors, parameters as a vector, lists and dicts of parameters."""

import copy
import pickle

import numpy as np
import pytest

import tracejit as tj
from tracejit import nn, optim
from tracejit.nn.utils import parametrizations, parametrize, stateless
from tracejit.optim import swa_utils


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(tj.tensor(1.0))

    def forward(self, x):
        return x + self.by


def test_a_parametrized_weight_is_computed():
    layer = nn.Linear(2, 2)
    start = layer.weight.tolist()
    original = layer.weight
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert layer.parametrizations.weight.original is original, "an optimizer that was made before stays valid"
    assert layer.weight.tolist() == start
    assert type(layer).__name__ == "ParametrizedLinear"
    assert isinstance(layer, nn.Linear)
    layer.weight = tj.ones(2, 2)
    assert original.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    parametrize.register_parametrization(layer, "weight", Shifted())
    assert layer.weight.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    with pytest.raises(RuntimeError, match="parametrization Shifted does not implement right_inverse"):
        layer.weight = tj.ones(2, 2)
    names = ["bias", "parametrizations.weight.original", "parametrizations.weight.1.by"]
    assert [name for name, _ in layer.named_parameters()] == names
    assert list(layer.state_dict()) == names
    layer(tj.ones(1, 2)).sum().backward()
    assert original.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert layer.parametrizations.weight[1].by.grad.item() == 4.0


def test_taking_a_parametrization_away():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Doubled())
    value, original = layer.weight.tolist(), layer.parametrizations.weight.original
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert layer.weight is original
    assert layer.weight.tolist() == value
    assert not parametrize.is_parametrized(layer)
    layer = parametrizations.weight_norm(nn.Linear(2, 2))
    value = layer.weight.detach().numpy()
    with pytest.raises(ValueError, match="Cannot leave unparametrized"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    parametrize.remove_parametrizations(layer, "weight")
    np.testing.assert_array_equal(layer.weight.detach().numpy(), value)
    assert isinstance(layer.weight, nn.Parameter)


def test_buffers_can_be_parametrized_and_two_tensors_of_a_module():
    layer = nn.BatchNorm1d(2)
    for name in ("running_var", "bias"):
        parametrize.register_parametrization(layer, name, Doubled())
    assert layer.running_var.tolist() == [1.0, 1.0]
    assert parametrize.is_parametrized(layer, "bias")
    assert not parametrize.is_parametrized(layer, "weight")
    assert [name for name, _ in layer.named_buffers()][-1] == "parametrizations.running_var.original"
    parametrize.remove_parametrizations(layer, "bias", leave_parametrized=False)
    assert parametrize.is_parametrized(layer, "running_var")


def test_weight_norm():
    tj.manual_seed(0)
    layer = nn.Linear(3, 4)
    before = layer.weight.detach().numpy()
    parametrizations.weight_norm(layer)
    np.testing.assert_allclose(layer.weight.detach().numpy(), before, rtol=1e-6)
    with tj.no_grad():
        layer.parametrizations.weight.original0.mul_(2)
        layer.parametrizations.weight.original1.mul_(5)
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * before, rtol=1e-6)


def test_spectral_norm():
    tj.manual_seed(0)
    layer = parametrizations.spectral_norm(nn.Conv2d(3, 4, 2), n_power_iterations=20)
    weight = layer.weight.detach().numpy().reshape(4, -1)
    assert np.linalg.svd(weight)[1][0] == pytest.approx(1, rel=1e-3)
    layer.eval()
    u = layer.parametrizations.weight[0]._u.tolist()
    assert layer.weight.tolist() == layer.weight.tolist()
    assert layer.parametrizations.weight[0]._u.tolist() == u


def test_parametrized_modules_are_copied_but_not_pickled():
    layer = parametrizations.weight_norm(nn.Linear(2, 2))
    twin = copy.deepcopy(layer)
    twin.load_state_dict(layer.state_dict())
    assert twin.weight.tolist() == layer.weight.tolist()
    assert twin.parametrizations.weight.original1 is not layer.parametrizations.weight.original1
    parametrize.remove_parametrizations(twin, "weight")
    assert parametrize.is_parametrized(layer, "weight")
    assert layer.weight.tolist() == twin.weight.tolist()
    with pytest.raises(RuntimeError, match="is only supported through state_dict"):
        pickle.dumps(layer)


# Calls with other tensors -----------------------------------------------------------------------------


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("calls", tj.tensor(0))

    def forward(self, x):
        self.calls += 1
        return self.layer(x)


def test_functional_call():
    model = Counted()
    weight, bias, calls = tj.eye(2).requires_grad_(), tj.tensor([1.0, 2.0]), tj.tensor(5)
    given = {"layer.weight": weight, "layer.bias": bias, "calls": calls}
    before = model.layer.weight
    found = stateless.functional_call(model, given, tj.tensor([[10.0, 20.0]]), strict=True)
    assert found.tolist() == [[11.0, 22.0]]
    assert model.layer.weight is before
    assert (calls.item(), model.calls.item()) == (6, 0)
    found.sum().backward()
    assert weight.grad.tolist() == [[10.0, 20.0]] * 2
    with pytest.raises(ZeroDivisionError):
        stateless.functional_call(model, {"calls": calls}, (), {"x": 1 / 0})
    assert model.calls.item() == 0


def test_tied_weights_are_replaced_together():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    x = tj.tensor([1.0, 1.0])
    assert stateless.functional_call(model, {"0.weight": 2 * tj.eye(2)}, x).tolist() == [4.0, 4.0]
    with tj.no_grad():
        model[0].weight.copy_(tj.eye(2))
    found = stateless.functional_call(model, {"0.weight": 2 * tj.eye(2)}, x, tie_weights=False)
    assert found.tolist() == [2.0, 2.0]


def test_functional_call_compiled():
    model = nn.Linear(2, 1)

    @tj.jit
    def loss(weight, x):
        return stateless.functional_call(model, {"weight": weight}, x).sum()

    x = tj.ones(3, 2)
    for weight in (tj.ones(1, 2), tj.zeros(1, 2)):
        expected = (model.bias.item() + weight.sum().item()) * 3
        assert loss(weight, x).item() == pytest.approx(expected)
    assert loss.cache_info().lazy == 0
    assert model.weight.shape == (1, 2)


def test_parameters_as_a_vector():
    model = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.shape == (9,)
    (vector * vector).sum().backward()
    np.testing.assert_allclose(model.bias.grad.numpy(), 2 * model.bias.detach().numpy())
    nn.utils.vector_to_parameters(tj.arange(9, dtype=tj.float32), model.parameters())
    assert (model.weight.tolist(), model.bias.tolist()) == ([[0, 1], [2, 3], [4, 5]], [6, 7, 8])


# Containers -------------------------------------------------------------------------------------------


def test_lists_of_parameters():
    items = nn.ParameterList([tj.ones(2)])
    items.append(nn.Parameter(tj.zeros(3))).extend([tj.ones(1)])
    items += [tj.ones(4)]
    assert ([p.shape for p in items], len(items), items[-1].shape) == ([(2,), (3,), (1,), (4,)], 4, (4,))
    items[0] = tj.full((2,), 5.0)
    assert list(items.state_dict()) == ["0", "1", "2", "3"]
    assert [p.shape for p in items[1:3]] == [(3,), (1,)]
    assert repr(items[:1]) == ("ParameterList(\n  (0): Parameter containing: [float32 of shape (2,)]\n)")
    with pytest.raises(IndexError, match="index 4 is out of range"):
        items[4]


def test_dicts_of_parameters():
    items = nn.ParameterDict({"a": tj.ones(2)})
    items["b"] = nn.Parameter(tj.zeros(3))
    items.update({"c": tj.ones(1)})
    assert (list(items), list(items.keys()), len(items), "b" in items) == (["a", "b", "c"], ["a", "b", "c"], 3, True)
    assert items.pop("b").shape == (3,)
    del items["c"]
    assert (items.get("c"), items.get("a").shape, [v.shape for v in items.values()]) == (None, (2,), [(2,)])
    assert list(dict(items.items())) == ["a"]


def test_lists_of_modules():
    layers = nn.ModuleList([nn.ReLU()]) + nn.ModuleList([nn.Tanh(), nn.Tanh()])
    assert repr(layers) == "ModuleList(\n  (0): ReLU()\n  (1-2): 2 x Tanh()\n)"
    assert isinstance(layers.pop(0), nn.ReLU)
    layers += [nn.Linear(1, 1)]
    assert list(layers.state_dict()) == ["2.weight", "2.bias"]
    model = nn.Sequential(nn.ReLU()) + nn.Sequential(nn.Tanh())
    assert [type(module).__name__ for module in model] == ["ReLU", "Tanh"]
    heads = nn.ModuleDict({"a": nn.ReLU()})
    assert (list(heads.keys()), len(heads.items()), len(heads.values())) == (["a"], 1, 1)
    heads.clear()
    assert len(heads) == 0


def test_modules_by_their_dotted_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2)))
    assert model.get_submodule("1.0") is model[1][0]
    assert model.get_submodule("") is model
    assert model.get_parameter("1.0.weight") is model[1][0].weight
    assert model.get_buffer("1.0.running_mean") is model[1][0].running_mean
    model.set_submodule("1.0", nn.ReLU())
    assert isinstance(model[1][0], nn.ReLU)


def test_dtypes_of_whole_modules():
    model = nn.BatchNorm1d(2)
    model.weight.grad = tj.ones(2)
    for convert, dtype in ((model.half, tj.float16), (model.bfloat16, tj.bfloat16), (model.double, tj.float64)):
        assert convert() is model
        assert {model.weight.dtype, model.weight.grad.dtype, model.running_mean.dtype} == {dtype}
        assert model.num_batches_tracked.dtype == tj.int64
    assert model.type(tj.float32).cpu().weight.dtype == tj.float32
    with pytest.raises(RuntimeError, match="device 'cuda' is not available"):
        model.cuda()


# Optimizers -------------------------------------------------------------------------------------------


def test_a_learning_rate_in_a_tensor():
    p = tj.ones(1, requires_grad=True)
    rate = tj.tensor(0.5)
    opt = optim.SGD([p], lr=rate)
    scheduler = optim.lr_scheduler.ExponentialLR(opt, 0.5)

    @tj.jit
    def step():
        p.grad = tj.ones(1)
        opt.step()

    step()
    scheduler.step()
    assert (rate.item(), scheduler.get_last_lr()) == (0.25, [0.25])
    step()
    assert p.tolist() == [0.25]
    assert step.cache_info().misses == 1


@pytest.mark.parametrize("dtype", [tj.bfloat16, tj.float32, tj.float64])
def test_a_learning_rate_in_a_tensor_that_the_step_changes(dtype):
    def run(wrap):
        p = tj.ones(2, dtype=dtype, requires_grad=True)
        rate = tj.tensor(0.3)
        opt = optim.SGD([p], lr=rate, momentum=0.5)

        def step():
            p.grad = tj.ones(2, dtype=dtype)
            opt.step()
            rate.mul_(0.7)

        step = wrap(step)
        seen = []
        for _ in range(3):
            step()
            seen.append((str(p.dtype), p.tolist(), rate.item()))
        return seen

    assert run(tj.jit) == run(lambda function: function)


def test_complex_parameters():
    p = tj.tensor([1 + 2j], requires_grad=True)
    opt = optim.SGD([p], lr=0.25, momentum=0.5)
    for _ in range(2):
        opt.zero_grad()
        (p * tj.conj(p)).real.sum().backward()
        opt.step()
    # The gradient is 2 p: p/2, then p/2 - (2 p/2 + 2 p / 2) / 4.
    assert p.tolist() == [0.0]


# Averaged weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("settings", "average"),
    [
        ({}, lambda values: np.mean(values)),
        ({"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()}, lambda values: np.mean(values)),
        ({"avg_fn": swa_utils.get_ema_avg_fn(0.75)}, lambda v: 0.75 * (0.75 * v[0] + 0.25 * v[1]) + 0.25 * v[2]),
        (
            {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.75)},
            lambda v: 0.75 * (0.75 * v[0] + 0.25 * v[1]) + 0.25 * v[2],
        ),
    ],
)
def test_averages(settings, average, compiled):
    model = nn.BatchNorm1d(1)
    averaged = swa_utils.AveragedModel(model, **settings)
    both = swa_utils.AveragedModel(model, **settings, use_buffers=True)

    def update():
        averaged.update_parameters(model)
        both.update_parameters(model)

    run = tj.jit(update) if compiled else update
    values = [1.0, 4.0, 8.0]
    for value in values:
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(value)
        run()
    assert averaged.module.weight.item() == pytest.approx(average(values))
    assert averaged.module.running_mean.item() == 8.0
    assert both.module.running_mean.item() == pytest.approx(average(values))
    assert averaged.n_averaged.item() == 3
    assert model.weight.item() == 8.0
    assert list(averaged.state_dict())[:2] == ["n_averaged", "module.weight"]


def test_statistics_of_a_data_set():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)).eval()
    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    swa_utils.update_bn([(x[:6], 0), (x[6:], 1)], model)
    np.testing.assert_allclose(model[0].running_mean.numpy(), x.mean(0), rtol=1e-4, atol=1e-6)
    assert (model[0].momentum, model[0].num_batches_tracked.item(), model.training) == (0.1, 2, False)


def test_rates_go_to_that_of_the_average():
    for strategy, halfway in (("linear", 0.55), ("cos", 0.55)):
        opt = optim.SGD([tj.ones(1, requires_grad=True)], lr=1.0)
        scheduler = swa_utils.SWALR(opt, 0.1, anneal_epochs=4, anneal_strategy=strategy)
        rates = []
        for _ in range(7):
            opt.step()
            rates += scheduler.get_last_lr()
            scheduler.step()
        assert rates[0] == 1.0
        assert rates[2] == pytest.approx(halfway)
        assert rates[4:] == pytest.approx([0.1] * 3)
    with pytest.raises(ValueError, match="anneal_strategy must be one of 'cos' or 'linear', instead got sine"):
        swa_utils.SWALR(opt, 0.1, anneal_strategy="sine")
    with pytest.raises(ValueError, match="Invalid decay value 2 provided"):
        swa_utils.get_ema_avg_fn(2)
    with pytest.raises(AssertionError, match="Only one of avg_fn and multi_avg_fn"):
        swa_utils.AveragedModel(nn.ReLU(), avg_fn=print, multi_avg_fn=print)
