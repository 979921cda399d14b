"""Tensors on a device: making and moving them, what they say of themselves, what does not mix, gradients."""

import copy
import pickle

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tests.devices import DEVICE, GPU
from tracejit.backends import devices
from tracejit.backends.devices import Unplaced, common

pytestmark = pytest.mark.usefixtures("gpusim")

MIXED = "Expected all tensors to be on the same device, but found at least two devices, " + GPU + " and cpu!"


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


MADE = {
    "tensor": lambda device: tj.tensor([[1.0, 2.0], [3.0, 4.0]], device=device),
    "an array": lambda device: tj.tensor(numbers(2, 3), device=device),
    "bool": lambda device: tj.tensor([True, False], device=device),
    "0-d": lambda device: tj.tensor(3, device=device),
    "asarray": lambda device: tj.asarray([1, 2], device=device),
    "full": lambda device: tj.full((2, 3), 7, device=device),
    "zeros": lambda device: tj.zeros(2, 3, device=device),
    "ones": lambda device: tj.ones((4,), device=device),
    "empty": lambda device: tj.empty(0, 3, device=device),
    "zeros_like": lambda device: tj.zeros_like(tj.ones(3, device=device)),
    "ones_like": lambda device: tj.ones_like(tj.ones(3), device=device),
    "arange": lambda device: tj.arange(5, device=device),
    "linspace": lambda device: tj.linspace(0, 1, 5, device=device),
    "eye": lambda device: tj.eye(3, device=device),
    "fftfreq": lambda device: tj.fft.fftfreq(5, device=device),
    "rand": lambda device: tj.random.rand(5, device=device, generator=tj.random.Generator(3)),
    "randn": lambda device: tj.random.randn(2, 3, device=device, generator=tj.random.Generator(3)),
    "randint": lambda device: tj.random.randint(0, 9, (7,), device=device, generator=tj.random.Generator(3)),
    "randperm": lambda device: tj.random.randperm(9, device=device, generator=tj.random.Generator(3)),
    "float16": lambda device: tj.tensor([1.5, 2.5], dtype=tj.float16, device=device),
    "complex": lambda device: tj.tensor([1.5 + 1j], device=device),
}


@pytest.mark.parametrize("name", MADE)
def test_made_on_a_device(name: str) -> None:
    made, expected = MADE[name](DEVICE), MADE[name]("cpu")
    assert made.device == GPU
    assert expected.device == MADE[name](None).device == "cpu"
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    assert made.cpu().numpy().tobytes() == expected.numpy().tobytes()


def test_moving() -> None:
    x = tj.tensor([1.0, 2.0])
    there = x.to(DEVICE)
    assert there.device == GPU
    assert there.to(DEVICE) is there
    assert there.to(GPU, tj.float64).dtype == tj.float64
    assert there.to(dtype=tj.int32).device == GPU
    assert there.to_device("cpu").device == there.cpu().device == x.device == "cpu"
    assert x.cpu() is x
    assert x.to(there).device == GPU
    assert tj.astype(x, tj.float64, device=DEVICE).device == GPU
    assert tj.tensor(there).device == tj.asarray(there).device == GPU
    assert tj.tensor(there, device="cpu").device == "cpu"


def test_what_it_says_of_itself() -> None:
    x = tj.tensor([[1.0, 2.0], [3.0, 4.0]], device=DEVICE)
    assert repr(x) == f"tensor([[1., 2.],\n        [3., 4.]], device='{GPU}')"
    assert repr(x.requires_grad_()) == f"tensor([[1., 2.],\n        [3., 4.]], device='{GPU}', requires_grad=True)"
    assert (x.shape, x.ndim, x.size, len(x)) == ((2, 2), 2, 4, 2)
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert x[1, 0].item() == float(x[1, 0]) == 3
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert bool(tj.tensor(1, device=DEVICE))
    assert [10, 20, 30][tj.tensor(2, device=DEVICE)] == 30
    assert f"{x[0, 1]:.2f}" == "2.00"


def test_no_array_of_numpys() -> None:
    x = tj.tensor([1.0, 2.0], device=DEVICE)
    with pytest.raises(TypeError, match=f"can't convert {GPU} device type tensor to numpy. Use Tensor.cpu"):
        x.numpy()
    with pytest.raises(TypeError, match=f"can't convert {GPU}"):
        np.asarray(x)
    with pytest.raises(TypeError, match=f"can't convert {GPU}"):
        np.sort(x)  # type: ignore[call-overload]
    assert x.numpy(force=True).tolist() == [1, 2]
    assert np.exp(x).device == GPU  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: tj.where(x > 0, x, y),
        lambda x, y: tj.concat([y, x]),
        lambda x, y: x @ y,
        lambda x, y: F.linear(x, y[None]),
        lambda x, y: x[y.astype(tj.int64)],
        lambda x, y: F.mse_loss(x, y),
    ],
)
def test_devices_do_not_mix(mix) -> None:
    x, y = tj.tensor([1.0, 2.0], device=DEVICE), tj.ones(2)
    with pytest.raises(RuntimeError, match=MIXED):
        mix(x, y)
    with pytest.raises(RuntimeError, match=MIXED):
        tj.jit(mix)(x, y)
    assert x.tolist() == [1, 2]
    assert mix(x, y.to(DEVICE)).cpu().numpy().tobytes() == mix(x.cpu(), y).numpy().tobytes()


def test_numbers_mix_with_devices() -> None:
    x = tj.tensor([1.0, 2.0], device=DEVICE)
    number = tj.tensor(3.0)
    assert (x * number).device == (number - x).device == (x / np.float32(2)).device == GPU
    assert (x + 1).device == (x > 0).device == (x == np.array([1.0, 5.0])).device == GPU
    with pytest.raises(RuntimeError, match="Expected all tensors"):
        tj.ones(2) * tj.tensor(3.0, device=DEVICE) + tj.ones(2)


def test_unknown_devices() -> None:
    with pytest.raises(ValueError, match="unknown device 'tpu': expected 'cpu' or 'cuda'"):
        tj.ones(2, device="tpu")
    if DEVICE != "cuda":
        with pytest.raises(RuntimeError, match="device 'cuda' is not available"):
            tj.ones(2).cuda()


def test_gradients_stay_with_their_tensors() -> None:
    a = tj.tensor(numbers(4), device=DEVICE, requires_grad=True)
    b = tj.tensor(numbers(4), requires_grad=True)
    for leaf in (a, b):
        loss = (leaf.to(DEVICE).exp() * 2).sum().cpu() * 3
        loss.backward()
        assert loss.device == "cpu"
        assert leaf.grad is not None
        assert leaf.grad.device == leaf.device
    assert a.grad.tolist() == b.grad.tolist()  # type: ignore[union-attr]
    (second,) = tj.autograd.grad((a.grad * a).sum(), [a])  # type: ignore[operator]
    assert second.device == GPU
    x = tj.tensor([0.5, 1.5], device=DEVICE, requires_grad=True)
    (first,) = tj.autograd.grad((x**3).sum(), [x], create_graph=True)
    first.sum().backward()
    assert x.grad.tolist() == [3.0, 9.0]  # type: ignore[union-attr]


def test_transformations() -> None:
    x = tj.tensor([0.5, 1.5], device=DEVICE)
    f = lambda x: (x * x.exp()).sum()  # noqa: E731
    for transformed in (tj.grad(f), tj.vmap(lambda v: v.sin() + 1), tj.hessian(f), tj.jacobian(lambda x: x * x[0])):
        found = transformed(x)
        assert found.device == GPU
        assert found.tolist() == transformed(x.cpu()).tolist()


def test_in_place() -> None:
    x = tj.zeros(3, device=DEVICE)
    x += 1
    x[1] = 5
    x[2:] = tj.tensor([7.0])  # goes where x is
    assert (x.device, x.tolist()) == (GPU, [1, 5, 7])
    y = tj.zeros(3)
    y.copy_(x)
    assert (y.device, y.tolist()) == ("cpu", [1, 5, 7])
    x.data = y
    assert x.device == "cpu"


def test_copies() -> None:
    x = tj.tensor([1.0, 2.0], device=DEVICE, requires_grad=True)
    for twin in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert (twin.device, twin.tolist(), twin.requires_grad) == (GPU, [1, 2], True)
    assert tj.load_bytes(tj.save_bytes({"x": x}))["x"].tolist() == [1, 2] if hasattr(tj, "load_bytes") else True


def test_numbers_of_anomalies() -> None:
    x = tj.tensor([1.0, -1.0], device=DEVICE)
    with tj.autograd.detect_anomaly(), pytest.raises(FloatingPointError, match="log of -1"):
        tj.log(x)


def test_constants_of_the_library_go_anywhere() -> None:
    constant = np.ones(3).view(Unplaced)
    x = tj.tensor([1.0], device=DEVICE)
    assert common([constant, x._value]) is devices.find(DEVICE)
    assert common([constant, np.ones(3)]) is None
    assert type(tj.arange(3)._value) is np.ndarray  # what the user makes is the CPU's
    assert type(tj.nn.Linear(2, 2).weight._value) is np.ndarray
