"""Optimizers: their update rules against NumPy in float64, compiled against eager, and what they refuse."""

import copy
import math
import pickle

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim

STEPS = 5


# The update rules, as in PyTorch's documentation -------------------------------------------------------


def np_sgd(p, grads, lr, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
    buffer = None
    for g in grads:
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
    return p


def np_adam(
    p, grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, maximize=False, decoupled=False
):
    m = v = largest = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        largest = np.maximum(largest, v)
        root = np.sqrt(largest if amsgrad else v) / math.sqrt(1 - betas[1] ** t)
        p = p - lr / (1 - betas[0] ** t) * m / (root + eps)
    return p


def np_rmsprop(p, grads, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, maximize=False):
    square = mean = buffer = np.zeros_like(p)
    for g in grads:
        g = (-g if maximize else g) + weight_decay * p
        square = alpha * square + (1 - alpha) * g * g
        mean = alpha * mean + (1 - alpha) * g
        buffer = momentum * buffer + g / (np.sqrt(square - mean**2 if centered else square) + eps)
        p = p - lr * buffer
    return p


def np_adagrad(p, grads, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, maximize=False):
    total = np.full_like(p, initial_accumulator_value)
    for t, g in enumerate(grads):
        g = (-g if maximize else g) + weight_decay * p
        total = total + g * g
        p = p - lr / (1 + t * lr_decay) * g / (np.sqrt(total) + eps)
    return p


def np_lion(p, grads, lr=1e-4, betas=(0.9, 0.99), weight_decay=0, maximize=False):
    m = np.zeros_like(p)
    for g in grads:
        g = -g if maximize else g
        p = p * (1 - lr * weight_decay) - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


RULES = [
    (optim.SGD, np_sgd, {"lr": 0.1}),
    (optim.SGD, np_sgd, {"lr": 0.1, "weight_decay": 0.2}),
    (optim.SGD, np_sgd, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, np_sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    (optim.SGD, np_sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.SGD, np_sgd, {"lr": 0.1, "momentum": 0.5, "maximize": True}),
    (optim.Adam, np_adam, {}),
    (optim.Adam, np_adam, {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.3}),
    (optim.Adam, np_adam, {"lr": 0.1, "betas": (0.0, 0.5), "amsgrad": True, "maximize": True}),
    (optim.AdamW, lambda *a, **k: np_adam(*a, **{"weight_decay": 1e-2, **k}, decoupled=True), {"lr": 0.1}),
    (optim.AdamW, lambda *a, **k: np_adam(*a, **k, decoupled=True), {"lr": 0.1, "weight_decay": 0.5, "amsgrad": True}),
    (optim.RMSprop, np_rmsprop, {}),
    (optim.RMSprop, np_rmsprop, {"lr": 0.1, "alpha": 0.5, "eps": 1e-3, "centered": True, "weight_decay": 0.1}),
    (optim.RMSprop, np_rmsprop, {"lr": 0.1, "momentum": 0.5, "maximize": True}),
    (optim.Adagrad, np_adagrad, {"lr": 0.1}),
    (optim.Adagrad, np_adagrad, {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.1, "initial_accumulator_value": 0.25}),
    (optim.Lion, np_lion, {"lr": 0.1}),
    (optim.Lion, np_lion, {"lr": 0.1, "betas": (0.5, 0.75), "weight_decay": 0.5, "maximize": True}),
]
NAMES = [f"{rule[0].__name__}-{'-'.join(rule[2]) or 'defaults'}" for rule in RULES]


@pytest.mark.parametrize(("kind", "reference", "settings"), RULES, ids=NAMES)
def test_update_rule(kind, reference, settings):
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=(3, 2)), rng.normal(size=(STEPS, 3, 2))
    p = tj.tensor(start, requires_grad=True)
    opt = kind([p], **settings)
    for g in grads:
        p.grad = tj.tensor(g)
        opt.step()
    np.testing.assert_allclose(p.detach().numpy(), reference(start, grads, **settings), rtol=1e-10)
    assert p.is_leaf


def test_the_first_momentum_buffer_is_the_gradient():
    p = tj.tensor([1.0], requires_grad=True)
    opt = optim.SGD([p], lr=1.0, momentum=0.9, dampening=0.5)
    p.grad = tj.tensor([4.0])
    opt.step()
    assert opt.state[p]["momentum_buffer"].tolist() == [4.0]
    opt.step()
    assert opt.state[p]["momentum_buffer"].item() == pytest.approx(0.9 * 4 + 0.5 * 4)


def test_float16_parameters_stay_float16():
    p = tj.tensor([1.0, 2.0], dtype=tj.float16, requires_grad=True)
    opt = optim.SGD([p], lr=0.5, momentum=0.5)
    p.grad = tj.ones(2, dtype=tj.float16)
    opt.step()
    assert (p.dtype, p.tolist()) == (tj.float16, [0.5, 1.5])


# Steps ------------------------------------------------------------------------------------------------


def test_parameters_without_a_gradient_are_left_alone():
    used, unused = (tj.ones(2, requires_grad=True) for _ in range(2))
    opt = optim.Adam([used, unused], lr=0.1)
    used.sum().backward()
    opt.step()
    assert unused.tolist() == [1.0, 1.0]
    assert opt.state[unused]["step"].item() == 0
    assert used.tolist() != [1.0, 1.0]
    opt.zero_grad(set_to_none=False)
    assert (used.grad.tolist(), unused.grad) == ([0.0, 0.0], None)
    opt.step()
    assert opt.state[used]["step"].item() == 2, "a zero gradient still moves the averages"
    opt.zero_grad()
    assert used.grad is None


def test_step_with_a_closure():
    p = tj.tensor([2.0], requires_grad=True)
    opt = optim.SGD([p], lr=0.25)

    def closure():
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tj.no_grad():
        assert opt.step(closure).item() == 4.0
    assert p.tolist() == [1.0]


def test_gradients_add_up_over_steps():
    """Two halves of a batch give the gradient of the whole."""
    tj.manual_seed(0)
    x, y = tj.randn(8, 3), tj.randn(8, 1)

    def train(batches):
        tj.manual_seed(1)
        model = nn.Linear(3, 1)
        opt = optim.SGD(model.parameters(), lr=0.1)
        for first, last in batches:
            (F.mse_loss(model(x[first:last]), y[first:last]) / len(batches)).backward()
        opt.step()
        return model.weight.detach().numpy()

    np.testing.assert_allclose(train([(0, 4), (4, 8)]), train([(0, 8)]), rtol=1e-5)


def test_settings_that_choose_operations_recompile():
    p = tj.ones(2, requires_grad=True)
    opt = optim.SGD([p], lr=0.5)

    @tj.jit
    def step(g):
        p.grad = g
        opt.step()

    step(tj.ones(2))
    assert p.tolist() == [0.5, 0.5]
    opt.param_groups[0]["maximize"] = True
    step(tj.ones(2))
    assert p.tolist() == [1.0, 1.0]
    opt.param_groups[0].update(maximize=False, momentum=0.5)
    step(tj.ones(2))
    step(tj.ones(2))
    assert p.tolist() == [-0.25, -0.25]
    assert (step.cache_info().misses, step.cache_info().lazy) == (3, 0)
    other = tj.ones(2, requires_grad=True)
    opt.add_param_group({"params": [other], "lr": 0.125, "momentum": 0})
    other.grad = tj.ones(2)
    step(tj.ones(2))
    assert other.tolist() == [0.875, 0.875]


def test_an_optimizer_made_within_the_function_runs_eagerly():
    p = tj.tensor([1.0], requires_grad=True)

    @tj.jit
    def step():
        opt = optim.SGD([p], lr=0.5, momentum=0.9)
        p.grad = tj.ones(1)
        opt.step()

    step()
    step()
    assert p.tolist() == [0.0]
    assert "it gives an optimizer parameters" in step.explain()


# Groups -----------------------------------------------------------------------------------------------


def test_groups_have_settings_of_their_own():
    a, b, c = (tj.ones(1, requires_grad=True) for _ in range(3))
    opt = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.25)
    opt.add_param_group({"params": (item for item in [c]), "lr": 0.75})
    for p in (a, b, c):
        p.grad = tj.ones(1)
    opt.step()
    assert [p.item() for p in (a, b, c)] == [0.75, 0.5, 0.25]
    assert "Parameter Group 2\n    dampening: 0\n    lr: 0.75\n" in repr(opt)


def test_named_parameters():
    model = nn.Linear(2, 1)
    opt = optim.Adam(model.named_parameters())
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    names = ["step", "exp_avg", "exp_avg_sq"]
    assert [name for name, _ in opt.named_tensors()] == [f"state.{i}.{name}" for i in (0, 1) for name in names]


W = tj.ones(2, requires_grad=True)
REFUSED = [
    (lambda: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    (lambda: optim.SGD(W), TypeError, "should be an iterable of Tensors or dicts, but got Tensor"),
    (lambda: optim.SGD([W * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    (lambda: optim.SGD([1.0]), TypeError, "can only optimize Tensors, but one of the params is float"),
    (lambda: optim.SGD([{"params": {W}}]), TypeError, "need to be organized in ordered collections"),
    (lambda: optim.SGD([{"params": W}, {"params": W}]), ValueError, "appear in more than one parameter group"),
    (lambda: optim.SGD([W]).add_param_group([W]), TypeError, "param_group must be a dict"),
    (lambda: optim.SGD([W], lr=-1), ValueError, "Invalid learning rate: -1"),
    (lambda: optim.SGD([W], lr=math.nan), ValueError, "Invalid learning rate: nan"),
    (lambda: optim.SGD([W], momentum=-0.1), ValueError, "Invalid momentum value: -0.1"),
    (lambda: optim.SGD([W], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
    (lambda: optim.Adam([W], betas=(0.9, 1.0)), ValueError, "Invalid beta parameter at index 1: 1.0"),
    (lambda: optim.Adam([W], eps=-1.0), ValueError, "Invalid epsilon value: -1.0"),
    (lambda: optim.RMSprop([W], alpha=-1.0), ValueError, "Invalid alpha value: -1.0"),
    (lambda: optim.Adagrad([W], lr_decay=-1.0), ValueError, "Invalid lr_decay value: -1.0"),
    (lambda: optim.Lion([W], betas=(0.9, 1.0)), ValueError, "Invalid beta parameter at index 1: 1.0"),
    (lambda: optim.AdamW([W], weight_decay=-1.0), ValueError, "Invalid weight_decay value: -1.0"),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Saving -----------------------------------------------------------------------------------------------


def trained(kind=optim.Adam, steps=3, **settings):
    tj.manual_seed(0)
    model = nn.Linear(3, 2)
    opt = kind(model.parameters(), **settings)
    x = tj.ones(4, 3)

    @tj.jit
    def step():
        loss = (model(x) ** 2).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    for _ in range(steps):
        step()
    return model, opt, step


def test_state_dict_has_pytorchs_form():
    _, opt, _ = trained()
    state = opt.state_dict()
    assert list(state) == ["state", "param_groups"]
    assert list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    assert state["state"][1]["step"].item() == 3
    assert (state["param_groups"][0]["params"], state["param_groups"][0]["lr"]) == ([0, 1], 1e-3)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (optim.Adam, {"lr": 0.1}),
        (optim.SGD, {"lr": 0.01, "momentum": 0.9}),
        (optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True}),
        (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.5}),
        (optim.Lion, {"lr": 0.01}),
    ],
)
def test_training_goes_on_from_a_checkpoint(kind, settings):
    model, opt, step = trained(kind, **settings)
    saved = pickle.loads(pickle.dumps((model.state_dict(), opt.state_dict())))
    expected = [step().item() for _ in range(3)]
    model2, opt2, step2 = trained(kind, steps=1, **{**settings, "lr": 123.0})
    compiled = step2.cache_info().misses
    model2.load_state_dict(saved[0])
    opt2.load_state_dict(saved[1])
    assert opt2.param_groups[0]["lr"] == settings["lr"]
    assert [step2().item() for _ in range(3)] == expected
    assert step2.cache_info().misses == compiled


def test_loading_casts_state_but_not_the_step_count():
    p = tj.ones(2, dtype=tj.float64, requires_grad=True)
    opt = optim.Adam([p])
    state = {"step": np.float32(7), "exp_avg": np.ones(2, np.float32), "exp_avg_sq": np.ones(2, np.float32)}
    opt.load_state_dict({"state": {0: state}, "param_groups": [{"params": [0], "lr": 0.5}]})
    assert {name: tensor.dtype for name, tensor in opt.state[p].items()} == {
        "step": tj.float32, "exp_avg": tj.float64, "exp_avg_sq": tj.float64,
    }  # fmt: skip
    assert opt.state[p]["step"].item() == 7
    assert opt.param_groups[0]["params"] == [p]


def test_loading_what_does_not_fit():
    opt = optim.Adam([tj.ones(2, requires_grad=True)])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        opt.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(ValueError, match="a parameter group that doesn't match the size"):
        opt.load_state_dict({"state": {}, "param_groups": [{"params": [0, 1]}]})
    state = {"state": {0: {"exp_avg": np.zeros(3)}}, "param_groups": [{"params": [0], "lr": 9.0}]}
    with pytest.raises(ValueError, match=r"loaded state dict has 'exp_avg' of shape \(3,\), expected \(2,\)"):
        opt.load_state_dict(state)
    assert opt.param_groups[0]["lr"] == 1e-3


def test_a_copy_of_model_and_optimizer_trains_by_itself():
    model, opt, _ = trained()
    model2, opt2 = copy.deepcopy((model, opt))
    assert opt2.param_groups[0]["params"][0] is model2.weight
    before = model.weight.tolist()
    (model2(tj.ones(1, 3)) ** 2).sum().backward()
    opt2.step()
    assert model.weight.tolist() == before
    assert model2.weight.tolist() != before
