"""Jitted functions, modules, optimizers and training on a device: the CPU's bits, eagerly and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tests.devices import DEVICE, GPU, agree
from tracejit import nn, optim
from tracejit.backends.program import HostCall, walk

pytestmark = pytest.mark.usefixtures("gpusim")


def values(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy()


def drawn(*shape: int, device: str, seed: int = 0) -> tj.Tensor:
    return tj.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), device=device)


def until_small(x: tj.Tensor) -> tj.Tensor:
    count = tj.zeros((), dtype=tj.int64)
    while (x * x).sum() > 1e-3:
        x = x * 0.5
        count = count + 1
    return x + count


def running(x: tj.Tensor) -> tj.Tensor:
    state = tj.zeros_like(x[0])
    rows = []
    for row in x:
        state = tj.tanh(state * 0.5 + row)
        rows.append(state)
    return tj.stack(rows)


def decides(x: tj.Tensor) -> tj.Tensor:
    return x.exp() if x.sum() > 0 else x.sin()


def prints_number(x: tj.Tensor) -> float:
    return float(x.sum()) * 2


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "softmax": lambda x: tj.softmax(x * 3, -1),
    "empty rows": lambda x: tj.softmax(x[:, :0], -1),
    "empty sums": lambda x: ((x[:0] * 1j).sum(0) * 2 + x[0], x[:, :0].astype(tj.complex128).sum(1)),
    "layer norm": lambda x: F.layer_norm(x, (x.shape[-1],)),
    "product": lambda x: x @ x.mT + x.sum(0)[: x.shape[0]],
    "concatenation": lambda x: tj.concat([x, tj.exp(x), x[:, ::-1]], 0),
    "gather": lambda x: x[tj.argsort(x[:, 0])],
    "scatter": lambda x: F.one_hot(tj.abs(x[0]).astype(tj.int64), 5).sum(0) + x[:, 0].sum(),
    "sort": lambda x: tj.sort(x, axis=1) + tj.cumulative_sum(x, axis=0),
    "decomposition": lambda x: tj.linalg.inv(x[:, : x.shape[0]] + 5 * tj.eye(x.shape[0], device=x.device)),
    "half": lambda x: (x.astype(tj.float16) * 2).exp().astype(tj.float32),
    "complex": lambda x: tj.abs(tj.fft.fft(x)),
    "branches": decides,
    "a loop": until_small,
    "a scan": running,
    "a number": prints_number,
    "to the CPU and back": lambda x: (x.cpu() * 2).to(x.device) + x,
    "made inside": lambda x: x + tj.arange(x.shape[1], device=x.device) + tj.tensor(2.0),
    "reductions": lambda x: (x.sum(), x.mean(0), x.max(1), tj.argmax(x), x.var(), tj.any(x > 2)),
    "cond": lambda x: tj.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, x),
    "while_loop": lambda x: tj.while_loop(lambda y: y.sum() < 100, lambda y: y * 2 + 1, x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_cpus_bits(name: str) -> None:
    function = FUNCTIONS[name]
    compiled = tj.jit(function)
    for seed in (0, 1, 0):
        here, there = drawn(4, 7, device="cpu", seed=seed), drawn(4, 7, device=DEVICE, seed=seed)
        expected = function(here)
        for found in (function(there), compiled(there)):
            if not isinstance(expected, tj.Tensor | tuple):
                assert found == expected
                continue
            for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, expected)), strict=True):
                assert a.device == GPU
                assert agree(values(a), values(b))


@pytest.mark.parametrize("name", ["softmax", "layer norm", "product", "concatenation", "a scan", "cond"])
def test_gradients_have_the_cpus_bits(name: str) -> None:
    function = FUNCTIONS[name]
    found = []
    for device in ("cpu", DEVICE):
        for call in (function, tj.jit(function)):
            x = drawn(4, 7, device=device).requires_grad_()
            (call(x) ** 2).sum().backward()
            assert x.grad is not None
            assert x.grad.device == x.device
            found.append(values(x.grad))
    assert all(agree(one, found[0]) for one in found[1:])


def test_results_are_where_they_are_wanted() -> None:
    @tj.jit
    def both(x: tj.Tensor) -> Any:
        return x.cpu(), x * 2, x.sum().item()

    there, here = drawn(3, device=DEVICE), drawn(3, device="cpu")
    first, second, number = both(there)
    assert (first.device, second.device) == ("cpu", GPU)
    assert number == here.sum().item()
    moved = tj.jit(lambda x: x.to(DEVICE) + 1)(here)
    assert moved.device == GPU
    assert agree(values(moved), values(here + 1))


def test_a_device_is_part_of_what_is_compiled() -> None:
    f = tj.jit(lambda x: x + 1 if x.device == "cpu" else x + 2)

    for device in ("cpu", DEVICE, "cpu", DEVICE):
        found = f(tj.ones(3, device=device))
        assert found.device.startswith(device)
        assert found.tolist() == [2 if device == "cpu" else 3] * 3
    assert f.cache_info().misses == 2
    assert "__global__" in f.ir(tj.ones(3, device=DEVICE), stage="cuda")


def test_the_lazy_tier() -> None:
    seen = []

    @tj.jit
    def f(x: tj.Tensor) -> tj.Tensor:
        y = x * 2
        seen.append(str(y.tolist()) + str(len(seen)))
        print(end="")
        return (y.cpu() + 1).to(x.device).exp()

    for _ in range(4):
        found = f(tj.tensor([0.5, -1.0], device=DEVICE))
        assert found.device == GPU
        assert agree(values(found), values(tj.exp(tj.tensor([2.0, -1.0]))))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.LayerNorm(16), nn.Linear(16, 4)),
        (5, 8),
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4)
        ),
        (3, 2, 4, 4),
    ),
    "attention": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Flatten(), nn.Linear(24, 4)),
        (2, 3, 8),
    ),
}
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "perceptron": lambda parameters: optim.Adam(parameters, lr=1e-2),
    "convolutions": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "attention": lambda parameters: optim.AdamW(parameters, lr=1e-2),
}


def trained(name: str, device: str, compiled: bool) -> list[np.ndarray]:
    """The losses of some steps, and the parameters after them."""
    tj.manual_seed(5)
    make, shape = MODELS[name]
    model = make()
    optimizer = OPTIMIZERS[name](model.parameters())
    model.to(device)  # its state follows

    def step(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = tj.jit(step) if compiled else step
    x, y = drawn(*shape, device=device), tj.arange(shape[0], device=device) % 4
    losses = [values(run(x, y)) for _ in range(3)]
    assert {parameter.device for parameter in model.parameters()} == {x.device}
    assert tj.random.default_generator.position.device == "cpu"
    return [*losses, *(values(tensor) for _, tensor in model.named_tensors())]


@pytest.mark.parametrize("name", MODELS)
def test_training_has_the_cpus_bits(name: str) -> None:
    expected = trained(name, "cpu", compiled=False)
    for compiled in (False, True):
        found = trained(name, DEVICE, compiled)
        assert all(agree(a, b) for a, b in zip(found, expected, strict=True))


def test_modules_move() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    x = drawn(5, 3, device=DEVICE)
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        model(x)
    jitted = tj.jit(model)
    expected = jitted(x.cpu())
    assert model.to(DEVICE) is model
    assert {tensor.device for _, tensor in model.named_tensors()} == {GPU}
    assert jitted(x).device == GPU
    model.cpu()
    assert {tensor.device for _, tensor in model.named_tensors()} == {"cpu"}
    assert jitted(x.cpu()).shape == expected.shape
    state = model.to(DEVICE).state_dict()
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other.load_state_dict(state)
    assert {tensor.device for _, tensor in other.named_tensors()} == {"cpu"}
    assert all(
        agree(values(a), values(b)) for (_, a), (_, b) in zip(model.named_tensors(), other.named_tensors(), strict=True)
    )


def trained_in_halves(device: str, *, cast: bool) -> tuple[list[np.ndarray], Any]:
    """Losses and weights: all in bfloat16, or weights in float32 that are cast for the products."""
    tj.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to(device)
    model = model if cast else model.bfloat16()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)

    @tj.jit
    def step(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
        if cast:
            for layer in model:
                weights = [parameter.bfloat16() for parameter in layer.parameters()]
                x = F.linear(x, *weights) if isinstance(layer, nn.Linear) else layer(x.float()).bfloat16()
        loss = F.cross_entropy((x if cast else model(x)).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, y = drawn(5, 6, device=device).bfloat16(), tj.arange(5, device=device) % 3
    losses = [step(x, y) for _ in range(3)]
    programs = [root.code.program for signature in step._signatures.values() for root in signature.roots]
    return [values(tensor.detach().float()) for tensor in (*losses, *model.parameters())], programs


@pytest.mark.parametrize("cast", [False, True])
def test_training_in_halves(cast: bool) -> None:
    found, programs = trained_in_halves(DEVICE, cast=cast)
    expected, _ = trained_in_halves("cpu", cast=cast)
    assert len(set(map(float, found[:3]))) == 3
    for one, other in zip(found, expected, strict=True):
        assert agree(one, other) or (DEVICE != "gpusim" and np.allclose(one, other, rtol=0.05, atol=0.05))
    calls = [call for program in programs for call in walk(program.calls)]
    assert calls
    assert not any(isinstance(call, HostCall) for call in calls)
