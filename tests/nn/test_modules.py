"""Modules: what they register, save, print and copy, and what a jitted function makes of them."""

import copy
import pickle

import numpy as np
import pytest

import tracejit as tj
from tracejit import nn


class Scale(nn.Module):
    """A parameter, a buffer, a number and a flag."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(tj.tensor([factor, factor]))
        self.register_buffer("calls", tj.tensor(0))
        self.shift = 1.0

    def forward(self, x):
        self.calls += 1
        return x * self.weight + self.shift


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


# Registration -----------------------------------------------------------------------------------------


def test_names_come_in_the_order_of_assignment():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.second = nn.Linear(2, 2, bias=False)
            self.w = nn.Parameter(tj.zeros(1))
            self.first = mlp()

    names = [name for name, _ in Model().named_parameters()]
    assert names == ["w", "second.weight", "first.0.weight", "first.0.bias", "first.2.weight", "first.2.bias"]
    assert [name for name, _ in Model().named_children()] == ["second", "first"]
    assert [name for name, _ in Model().named_modules()] == ["", "second", "first", "first.0", "first.1", "first.2"]


def test_shared_parameters_and_modules_come_once():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.Linear(2, 2), layer)
    model[1].weight = layer.weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(list(model.modules())) == 3
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]


def test_a_plain_list_registers_nothing():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(2, 2)]

    assert list(Model().parameters()) == []


def test_a_parameter_keeps_its_place_when_it_is_replaced():
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(tj.ones(2, 2))
    assert [name for name, _ in model.named_parameters()] == ["weight", "bias"]
    model.bias = None
    assert [name for name, _ in model.named_parameters()] == ["weight"]
    assert model(tj.ones(2)).tolist() == [2.0, 2.0]


def test_deleting():
    model = Scale()
    del model.calls, model.shift
    assert not hasattr(model, "calls")
    assert not hasattr(model, "shift")
    with pytest.raises(AttributeError, match="'Scale' object has no attribute 'shift'"):
        _ = model.shift


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (nn.Parameter(tj.zeros(1)), "cannot assign parameters before Module.__init__"),
        (nn.ReLU(), "cannot assign module before Module.__init__"),
    ],
)
def test_assignment_before_init(value, message):
    class Early(nn.Module):
        def __init__(self):
            self.item = value
            super().__init__()

    with pytest.raises(AttributeError, match=message):
        Early()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "weight",
            tj.zeros(2),
            r"cannot assign 'tracejit.Tensor' as parameter 'weight' \(tracejit.nn.Parameter or None",
        ),
        ("weight", 1.0, "cannot assign 'float' as parameter 'weight'"),
        ("calls", 3, r"cannot assign 'int' as buffer 'calls' \(tracejit.Tensor or None expected\)"),
        ("inner", 3, r"cannot assign 'int' as child module 'inner' \(tracejit.nn.Module or None expected\)"),
    ],
)
def test_assignment_of_the_wrong_kind(name, value, message):
    model = Scale()
    model.inner = nn.ReLU()
    with pytest.raises(TypeError, match=message):
        setattr(model, name, value)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a.b", KeyError, "t contain"),
        ("", KeyError, "t be empty"),
        ("forward", KeyError, "already exists"),
        ("weight", KeyError, "already exists"),
        (3, TypeError, "should be a string"),
    ],
)
def test_names_of_buffers(name, error, message):
    with pytest.raises(error, match=message):
        Scale().register_buffer(name, tj.zeros(1))


def test_buffers_that_are_not_saved():
    model = nn.Module()
    model.register_buffer("kept", tj.zeros(1))
    model.register_buffer("scratch", tj.zeros(1), persistent=False)
    assert [name for name, _ in model.named_buffers()] == ["kept", "scratch"]
    assert list(model.state_dict()) == ["kept"]


def test_forward_is_needed():
    with pytest.raises(NotImplementedError, match='Module \\[Module\\] is missing the required "forward" function'):
        nn.Module()(1)


# Containers -------------------------------------------------------------------------------------------


def test_sequential_is_a_sequence():
    model = mlp()
    assert len(model) == 3
    assert model[-1] is model[2]
    assert [type(module).__name__ for module in model] == ["Linear", "ReLU", "Linear"]
    assert isinstance(model[:2], nn.Sequential)
    model.append(nn.Tanh())
    model[1] = nn.Identity()
    model.insert(0, nn.Identity())
    assert [type(module).__name__ for module in model] == ["Identity", "Linear", "Identity", "Linear", "Tanh"]
    del model[0]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2", "3"]
    with pytest.raises(IndexError, match="index 4 is out of range"):
        model[4]


def test_sequential_with_names():
    model = nn.Sequential({"first": nn.Linear(2, 3), "second": nn.Identity()})
    assert model.first is model[0]
    assert [name for name, _ in model.named_parameters()] == ["first.weight", "first.bias"]


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers.append(nn.ReLU()).extend([nn.Tanh(), nn.Tanh()])
    assert len(layers[1:]) == 3
    heads = nn.ModuleDict({"a": nn.Linear(2, 1)})
    heads["b"] = nn.ReLU()
    assert list(heads.keys()) == ["a", "b"]
    assert [name for name, _ in heads.items()] == ["a", "b"]
    assert isinstance(heads.pop("b"), nn.ReLU)
    assert "b" not in heads
    assert len(list(heads.values())) == len(heads) == 1


def test_repr():
    assert repr(nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(nn.Dropout(0.1)))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=False)\n"
        "  (1): Sequential(\n"
        "    (0): Dropout(p=0.1, inplace=False)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.LayerNorm(3)) == "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)"
    assert repr(nn.GELU("tanh")) == "GELU(approximate='tanh')"
    assert repr(nn.Sequential()) == "Sequential()"


# State ------------------------------------------------------------------------------------------------


def test_state_goes_from_one_model_to_another():
    tj.manual_seed(0)
    first, second = mlp(), mlp()
    kept = list(second.parameters())
    saved = first.state_dict()
    assert tuple(second.load_state_dict(saved)) == ([], [])
    assert all(a is b for a, b in zip(kept, second.parameters(), strict=True))
    x = tj.ones(1, 3)
    assert first(x).tolist() == second(x).tolist()
    with tj.no_grad():
        first[0].weight.zero_()
    assert saved["0.weight"].abs().sum().item() > 0, "a state dict does not change with the model"


def test_state_of_numpy_arrays():
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": np.ones((1, 2)), "bias": np.zeros(1)})
    assert model(tj.ones(2)).tolist() == [2.0]
    assert model.weight.dtype == tj.float32


def test_state_that_does_not_fit_is_one_error_and_changes_nothing():
    model = mlp()
    before = model.state_dict()
    state = {name: tensor for name, tensor in before.items() if name != "2.bias"}
    state = {**state, "0.bias": tj.zeros(4), "0.weight": tj.zeros(5, 5), "extra": tj.zeros(1)}
    with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict for Sequential") as caught:
        model.load_state_dict(state)
    text = str(caught.value)
    assert '\tMissing key(s) in state_dict: "2.bias". ' in text
    assert '\tUnexpected key(s) in state_dict: "extra". ' in text
    assert (
        "\tsize mismatch for 0.weight: copying a param with shape (5, 5) from checkpoint, "
        "the shape in current model is (4, 3)." in text
    )
    assert all(before[name].tolist() == tensor.tolist() for name, tensor in model.state_dict().items())
    del state["0.weight"]
    found = model.load_state_dict(state, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["0.weight", "2.bias"], ["extra"])
    assert repr(found) == "IncompatibleKeys(missing_keys=['0.weight', '2.bias'], unexpected_keys=['extra'])"
    assert repr(model.load_state_dict(before)) == "<All keys matched successfully>"


def test_deepcopy_and_pickling():
    scale = Scale()
    model = nn.Sequential(scale, nn.Dropout(0.2), scale).eval()
    scale.weight.grad = tj.ones_like(scale.weight)
    step = tj.jit(lambda x: model(x))
    expected = step(tj.ones(2)).tolist()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin(tj.ones(2)).tolist() == expected
        assert twin[2] is twin[0]
        assert isinstance(twin[0].weight, nn.Parameter)
        assert twin[0].weight is not model[0].weight
        assert twin[0].weight.requires_grad
        assert twin[0].weight.grad is None
        assert not twin[1].training
        assert twin[0].calls.item() == 4
    assert scale.calls.item() == 2


# Modes and bulk changes -------------------------------------------------------------------------------


def test_train_and_eval():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    with pytest.raises(ValueError, match="training mode is expected to be boolean"):
        model.train("yes")


def test_apply_goes_to_the_children_first():
    seen = []
    model = mlp()
    assert model.apply(lambda module: seen.append(type(module).__name__)) is model
    assert seen == ["Linear", "ReLU", "Linear", "Sequential"]


def test_freezing_and_dropping_gradients():
    model = mlp()
    model(tj.ones(1, 3)).sum().backward()
    model.zero_grad(set_to_none=False)
    assert all(p.grad.abs().sum().item() == 0 for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert model.requires_grad_(False) is model
    assert not model(tj.ones(1, 3)).requires_grad


def test_conversion_keeps_the_parameters():
    model = Scale()
    weight = model.weight
    model(tj.ones(2)).sum().backward()
    assert model.to(tj.float64) is model
    assert model.weight is weight
    assert (weight.dtype, weight.grad.dtype, model.calls.dtype) == (tj.float64, tj.float64, tj.int64)
    model(tj.ones(2, dtype=tj.float64)).sum().backward()
    assert weight.grad.tolist() == [2.0, 2.0]


# Under jit --------------------------------------------------------------------------------------------


def test_a_jitted_function_sees_every_change():
    model = Scale()
    step = tj.jit(lambda x: model(x))
    x = tj.ones(2)
    assert step(x).tolist() == [3.0, 3.0]
    with tj.no_grad():
        model.weight.fill_(5.0)
    assert step(x).tolist() == [6.0, 6.0]
    assert step.cache_info().misses == 1
    model.weight = nn.Parameter(tj.tensor([7.0, 8.0]))
    assert step(x).tolist() == [8.0, 9.0]
    model.shift = 0.0
    assert step(x).tolist() == [7.0, 8.0]
    assert step.cache_info().lazy == 0
    assert model.calls.item() == 4


def test_going_back_and_forth_between_modes_compiles_twice():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4))
    step = tj.jit(lambda x: model(x))
    x = tj.ones(2, 4)
    for _ in range(3):
        model.train()
        step(x)
        model.eval()
        assert step(x).tolist() == model(x).tolist()
    assert step.cache_info().misses == 2


def test_a_model_is_jitted_itself():
    model = mlp()
    fast = tj.jit(model)
    x = tj.ones(2, 3)
    with tj.no_grad():
        assert fast(x).tolist() == model(x).tolist()
        model[0].bias = None
        assert fast(x).tolist() == model(x).tolist()
    assert list(fast.parameters()) == list(model.parameters())
    assert (fast.eval(), fast.training) == (model, False)
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'weight'"):
        _ = fast.weight
    with pytest.raises(AttributeError, match="'JittedFunction' object has no attribute 'weight'"):
        _ = tj.jit(lambda x: x).weight


@pytest.mark.parametrize("name", ["_hooks", "_version", "_trace", "_state", "_watch", "_call", "hooks", "state"])
def test_attributes_have_any_name(name):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            setattr(self, name, [1])

        def forward(self, x):
            return self.layer(x)

    model = Named()
    model.register_forward_hook(lambda module, args, output: output + 1)
    x = tj.ones(1, 2)
    assert tj.jit(model)(x).tolist() == model(x).tolist()
    copied = copy.deepcopy(model)
    copied.load_state_dict(model.state_dict())
    assert copied(x).tolist() == model(x).tolist()
    assert getattr(copied, name) == [1]


def test_an_attribute_that_is_assigned_is_assigned_at_each_call():
    class Remembers(nn.Module):
        def forward(self, x):
            y = x * 2
            self.last = y
            return y

    model = Remembers()
    step = tj.jit(lambda x: model(x))
    for number in (1.0, 2.0, 3.0, 4.0):
        result = step(tj.tensor(number))
        assert model.last.item() == 2 * number
        assert model.last is result
    assert step.cache_info().lazy == 0


def test_modules_made_within_the_function_compile():
    @tj.jit
    def loss(x, y):
        activation = nn.ReLU()
        activation.name = "made here"
        return nn.CrossEntropyLoss()(nn.Sequential(activation)(x), y)

    x, y = tj.tensor([[1.0, -1.0]]), tj.tensor([0])
    expected = nn.functional.cross_entropy(nn.functional.relu(x), y).item()
    assert [loss(x, y).item() for _ in range(2)] == [expected, expected]
    assert loss.cache_info().lazy == 0


def test_dropout_draws_anew_at_each_call():
    layer = nn.Dropout(0.5)
    fast = tj.jit(lambda x: layer(x))
    x = tj.ones(64)
    tj.manual_seed(3)
    eager = [layer(x).tolist() for _ in range(3)]
    tj.manual_seed(3)
    assert [fast(x).tolist() for _ in range(3)] == eager
    assert eager[0] != eager[1]


def test_parameters_have_their_names_in_the_ir():
    model = mlp()
    step = tj.jit(lambda x: model(x).detach())
    assert "= model.0.weight" in step.ir(tj.ones(1, 3))
