"""``device="cuda"`` with a simulated CuPy: the driver's side, products by cuBLASLt, and CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tests.backends.cuda.fake_cupy import GPU, fake_gpu
from tests.backends.cuda.shim import shim
from tracejit import nn, optim
from tracejit.backends.cuda import driver, executable

pytestmark = pytest.mark.skipif(bool(shim.why_unavailable()), reason=shim.why_unavailable() or "the shim is there")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, shim_folder: Path) -> Iterator[GPU]:
    with fake_gpu(monkeypatch, shim_folder) as made:
        yield made


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_tensors(gpu: GPU) -> None:
    x = tj.tensor(drawn(3, 4)).cuda()
    assert x.device == "cuda:0"
    assert x.to("cuda") is x
    assert repr(x[0, :2]).endswith("device='cuda:0')")
    assert (x.mT[1:] * 2).tolist() == (x.cpu().mT[1:] * 2).tolist()
    assert x.cpu().numpy().tobytes() == drawn(3, 4).tobytes()
    assert (x.bfloat16().mT[1:] * 2).tolist() == (x.cpu().bfloat16().mT[1:] * 2).tolist()
    assert gpu.launches >= 1
    assert gpu.threads
    with pytest.raises(RuntimeError, match="device 'cuda:1' is not available: there are 1 CUDA devices"):
        x.cuda(1)


class Foreign:
    """Another library's array on the GPU, that has no ``__dlpack__``."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__cuda_array_interface__ = interface


class WithDLPack(Foreign):
    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("the fake reads the other interface")


@pytest.mark.parametrize("kind", [Foreign, WithDLPack])
def test_arrays_of_other_libraries(gpu: GPU, kind: type[Foreign]) -> None:
    x = tj.tensor(drawn(3, 4), device="cuda")
    interface = x.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"]) == ((3, 4), "<f4")
    theirs = kind(interface)
    for copied in (tj.from_dlpack(theirs), tj.asarray(theirs), tj.tensor(theirs), tj.asarray(theirs, device="cuda")):
        assert copied.device == "cuda:0"
        assert copied.cpu().numpy().tobytes() == drawn(3, 4).tobytes()
        assert copied.__cuda_array_interface__["data"] != interface["data"]
    assert tj.from_dlpack(theirs, copy=False).__cuda_array_interface__["data"] == interface["data"]
    assert tj.asarray(theirs, dtype=tj.float64).dtype == tj.float64
    assert tj.tensor(theirs, device="cpu").device == tj.from_dlpack(theirs, device="cpu").device == "cpu"
    with pytest.raises(RuntimeError, match="detach"):
        _ = x.requires_grad_().__cuda_array_interface__
    assert not hasattr(x.detach().cpu(), "__cuda_array_interface__")


PRODUCTS: dict[str, Any] = {
    "plain": lambda a, b: a @ b,
    "of a transpose": lambda a, b: b.mT @ a.mT,
    "of slices": lambda a, b: a[1:, ::1] @ b[:, 2:],
    "of strided slices": lambda a, b: a[:, ::2] @ b[::2],
    "with a bias": lambda a, b: a @ b + b[0],
    "with a bias that no algorithm adds": lambda a, b: a @ b[:, :3] + b[0, :3],
    "batched with a bias": lambda a, b: tj.stack([a, a * 2]) @ tj.stack([b, b + 1]) + b[1],
    "with a residual": lambda a, b: a @ b + (a @ b).exp(),
    "with a number": lambda a, b: a @ b + 2,
    "with a column": lambda a, b: a @ b + a[:, :1],
    "of one row": lambda a, b: a[:1] @ b,
    "of one column": lambda a, b: a @ b[:, :1],
    "of vectors": lambda a, b: a[0] @ b[:, 0],
    "of nothing": lambda a, b: a[:, :0] @ b[:0],
    "outer": lambda a, b: a[:, :1] @ b[:1],
    "sums": lambda a, b: a @ b + a[::-1] @ b,
    "batched": lambda a, b: tj.stack([a, a * 2]) @ tj.stack([b, b + 1]),
    "of a batch and a matrix": lambda a, b: tj.stack([a, a * 2, a + 1]) @ b,
    "of stacks": lambda a, b: F.scaled_dot_product_attention(
        *(tj.permute_dims(tj.stack([a, a + i, a * i]).reshape(3, 4, 2, 3), (0, 2, 1, 3)) for i in range(3))
    ),
    "of bfloat16": lambda a, b: a.bfloat16() @ b.bfloat16() + b[0].bfloat16(),
    "of stacks of float16": lambda a, b: tj.stack([a, a * 2]).half() @ tj.stack([b, b + 1]).half()[:, :, ::2],
    "of float64": lambda a, b: a.astype(tj.float64) @ b.astype(tj.float64),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, gpu: GPU) -> None:
    function = PRODUCTS[name]
    here = tj.tensor(drawn(4, 6)), tj.tensor(drawn(6, 5, seed=1))
    there = [x.cuda() for x in here]
    expected = function(*here).numpy()
    for found in (function(*there), tj.jit(function)(*there)):
        assert found.device == "cuda:0"
        tolerance = 1e-2 if expected.dtype.itemsize == 2 else 1e-5
        assert np.allclose(found.cpu().numpy(), expected, rtol=tolerance, atol=tolerance)
    assert gpu.products or name == "of nothing"
    assert bool(gpu.biases) == (name in ("with a bias", "batched with a bias"))


def trained(device: str) -> list[np.ndarray]:
    tj.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)

    @tj.jit
    def step(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, y = tj.tensor(drawn(5, 6), device=device), tj.arange(5, device=device) % 3
    losses = [step(x, y) for _ in range(4)]
    return [tensor.detach().cpu().numpy() for tensor in (*losses, *model.parameters())]


def test_training(gpu: GPU) -> None:
    for found, expected in zip(trained("cuda"), trained("cpu"), strict=True):
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_optimizer_is_few_launches(gpu: GPU) -> None:
    trained("cuda")
    assert any(name.startswith("each_") for _, name in gpu.functions.values())


def test_more_shared_memory_is_asked_for(gpu: GPU) -> None:
    """The simulated launch refuses what was not."""
    for extent in (20_000, 30_000):  # by the same function
        x = tj.tensor(drawn(3, extent))
        found = tj.softmax(x.cuda(), -1)
        assert found.cpu().numpy().tobytes() == tj.softmax(x, -1).numpy().tobytes()
        f = tj.jit(lambda x: tj.softmax(x, -1))
        assert f(x.cuda()).cpu().numpy().tobytes() == tj.softmax(x, -1).numpy().tobytes()
    assert max(gpu.shared_bytes.values()) > driver.SHARED_BYTES


def test_sums_in_stages(gpu: GPU) -> None:
    """The counters are 0 again for the next launch, and in graphs."""
    x = tj.tensor(drawn(70_001))
    f = tj.jit(lambda x: [x.sum(), tj.abs(x).max(), (x * x).mean()])
    expected = [value.item() for value in f(x)]
    there = x.cuda()
    assert [[value.item() for value in f(there)] for _ in range(3)] == [expected] * 3
    assert any(name.startswith("total_") for _, name in gpu.functions.values())


def five(x: tj.Tensor) -> tj.Tensor:
    """Sums over rows and over columns by turns: a kernel each."""
    for _ in range(5):
        x = (x - x.sum(0)).max(1)[:, None] + x
    return x


def test_graphs_are_replayed_where_addresses_come_again(gpu: GPU, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tj.jit(five)
    x = tj.tensor(drawn(7, 5)).cuda()
    first = compiled(x)  # is kept, as its memory would be given out again
    expected = first.tolist()
    assert len(next(iter(compiled._signatures.values())).roots[0].code.program.calls) >= driver.WORTH_A_GRAPH
    outputs = [gpu.empty((7, 5), np.float32) for _ in range(2)]  # memory that is given out by turns
    launches = []
    for turn in range(8):
        monkeypatch.setattr(driver.CupyDevice.numbered(0)._cupy, "empty", lambda *_, turn=turn: outputs[turn % 2])
        found = compiled(x)
        launches.append(gpu.graph_launches)
        assert found.tolist() == expected
    assert launches == [0, 0, 1, 2, 3, 4, 5, 6]
    x._value.inside[...] += 1  # a graph reads what is there
    assert compiled(x).tolist() != expected


def test_other_addresses_at_each_call_are_held_still(gpu: GPU) -> None:
    """Inputs and outputs that never lie where others have lain are copied from and to the same places."""
    compiled = tj.jit(five)
    given = [tj.tensor(drawn(7, 5, seed=seed)).cuda() for seed in range(3)]
    expected = [five(x.cpu()).tolist() for x in given]
    held = [compiled(given[turn % 3]) for turn in range(driver.MOST_MISSES + 9)]
    assert gpu.graph_launches == 7  # two calls are for looking at addresses
    assert [found.tolist() for found in held] == [expected[turn % 3] for turn in range(len(held))]


def test_large_inputs_stay_where_they_are(gpu: GPU, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "STILL_BYTES", 16)
    compiled = tj.jit(five)
    x = tj.tensor(drawn(7, 5)).cuda()
    held = [compiled(x) for _ in range(2 * driver.MOST_MISSES + 8)]
    assert gpu.graph_launches == 0
    assert len({tuple(found.tolist()[0]) for found in held}) == 1


def test_work_that_cannot_be_captured_is_done_without(gpu: GPU, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tj.jit(five)
    x = tj.tensor(drawn(7, 5)).cuda()
    expected = compiled(x).tolist()
    output = gpu.empty((7, 5), np.float32)
    device = driver.CupyDevice.numbered(0)
    monkeypatch.setattr(device._cupy, "empty", lambda shape, dtype: output)

    def fails(steps: Any) -> Any:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    monkeypatch.setattr(device, "captured", fails)
    assert [compiled(x).tolist() for _ in range(4)] == [expected] * 4
    assert gpu.graph_launches == 0


def test_loops_and_branches(gpu: GPU) -> None:
    def f(x: tj.Tensor) -> Any:
        doubled = tj.while_loop(lambda y: y.sum() < 100, lambda y: y * 2, tj.abs(x))
        state, states = tj.scan(lambda carry, row: (carry * 0.5 + row, carry.sum()), x[0], x)
        return doubled, state, states, tj.cond(x.sum() > 0, tj.exp, tj.sin, x)

    x = tj.tensor(drawn(4, 3))
    for found in (f(x.cuda()), tj.jit(f)(x.cuda())):
        for a, b in zip(found, f(x), strict=True):
            assert a.device == "cuda:0"
            assert a.cpu().numpy().tobytes() == b.numpy().tobytes()
