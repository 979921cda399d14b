"""``checkpoint``: the same derivatives, less memory, and a second run that leaves no trace."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit import nn

pytestmark = pytest.mark.usefixtures("first_code_only")

LAYERS = 12


def layers(width: int = 32) -> list[Any]:
    tj.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width), nn.GELU()) for _ in range(LAYERS)
    ]


def gradients(net: list[Any]) -> list[np.ndarray]:
    found = [np.array(p.grad.numpy()) for layer in net for p in layer.parameters()]
    for layer in net:
        layer.zero_grad()
    return found


def through(net: list[Any], x: tj.Tensor, wrap: Callable[[Any], Any]) -> tj.Tensor:
    for layer in net:
        x = wrap(layer)(x)
    return x.sum()


def peak(call: Callable[[], Any]) -> int:
    call()
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_gradients_are_the_same_and_memory_is_less() -> None:
    net, x = layers(), tj.randn(512, 32)

    def run(wrap: Callable[[Any], Any]) -> list[np.ndarray]:
        through(net, x, wrap).backward()
        return gradients(net)

    for one, other in zip(run(tj.checkpoint), run(lambda f: f), strict=True):
        assert same_bits(one, other)
    assert peak(lambda: run(tj.checkpoint)) < 0.5 * peak(lambda: run(lambda f: f))


def test_compiled() -> None:
    """In a compiled step the values are computed again too: no pass finds that they are known."""
    net, x = layers(), tj.randn(512, 32)
    steps = {}
    for name, wrap in (("kept", lambda f: f), ("again", tj.checkpoint)):

        @tj.jit
        def step(x: tj.Tensor, wrap: Any = wrap) -> tj.Tensor:
            loss = through(net, x, wrap)
            loss.backward()
            return loss

        step(x)
        steps[name] = step, gradients(net)
    for one, other in zip(steps["kept"][1], steps["again"][1], strict=True):
        assert same_bits(one, other)
    texts = {name: step.ir(x) for name, (step, _) in steps.items()}
    assert texts["kept"].count(" tanh ") == LAYERS
    assert texts["again"].count(" tanh ") == 2 * LAYERS


def test_the_planned_memory_of_a_compiled_step() -> None:
    """Twelve layers and their gradients: what is computed again is computed late, one layer at a time."""
    net, x = layers(), tj.randn(512, 32)
    activation = 512 * 32 * 4
    arenas = {}
    policy = tj.checkpoint_policies.dots_saveable
    for name, wrap in {
        "kept": lambda f: f, "again": tj.checkpoint, "dots": lambda f: tj.checkpoint(f, policy=policy)
    }.items():  # fmt: skip

        @tj.jit
        def step(x: tj.Tensor, wrap: Any = wrap) -> tj.Tensor:
            loss = through(net, x, wrap)
            loss.backward()
            return loss

        step(x)
        (size,) = re.findall(r"arena ([\d,]+) bytes", step.explain())
        arenas[name] = int(size.replace(",", "")) / activation
    assert arenas["again"] < LAYERS + 5
    assert arenas["dots"] < 3 * LAYERS + 5
    assert arenas["again"] + LAYERS / 2 < arenas["kept"] <= arenas["dots"]  # what is cheap is computed again anyway


@pytest.mark.parametrize("length", [2, 3, 4])
def test_several_layers_in_one_checkpoint(length: int) -> None:
    """What is run again keeps the fewest bytes for its gradient, too: of a layer, what precedes its activation."""
    width, rows = 64, 2048
    net = [nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(LAYERS)]
    parts = [nn.Sequential(*net[i : i + length]) for i in range(0, LAYERS, length)]

    x, activation = tj.randn(rows, width), rows * width * 4
    arenas = {}
    for name, wrap in (("kept", lambda part: part), ("again", tj.checkpoint)):

        @tj.jit
        def step(x: tj.Tensor, wrap: Any = wrap) -> tj.Tensor:
            loss = through(parts, x, wrap)
            loss.backward()
            return loss

        arenas[name] = step.programs(x)[0].arena_bytes / activation
    assert arenas["again"] < len(parts) + length + 4
    assert arenas["kept"] > LAYERS


def test_functional_gradients_free_what_they_are_done_with() -> None:
    net, x = layers(), tj.randn(512, 32)

    def run(wrap: Callable[[Any], Any]) -> tj.Tensor:
        with tj.no_grad():  # or the gradient's own history, in the parameters, would be kept
            return tj.grad(lambda x: through(net, x, wrap))(x)

    assert same_bits(run(tj.checkpoint).numpy(), run(lambda f: f).numpy())
    assert peak(lambda: run(tj.checkpoint)) < 0.5 * peak(lambda: run(lambda f: f))


def test_a_pullback_may_be_called_again() -> None:
    calls = []

    def f(x: tj.Tensor) -> tj.Tensor:
        calls.append(1)
        return tj.sin(x * x)

    _, pull = tj.vjp(tj.checkpoint(f), 2.0)
    first, second = pull(1.0)[0], pull(1.0)[0]
    assert first.item() == second.item() == tj.grad(lambda x: tj.sin(x * x))(2.0).item()
    assert len(calls) == 3


def test_the_second_run_leaves_no_trace() -> None:
    """Random numbers are the same ones, running statistics move once."""
    tj.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    x, norm = tj.randn(5, 4), net[1]
    results = []
    for wrap in (lambda f: f, tj.checkpoint):
        for run in (lambda f: f, tj.jit):
            norm.reset_running_stats()
            tj.manual_seed(1)

            @run
            def step(x: tj.Tensor, wrap: Any = wrap) -> tj.Tensor:
                loss = wrap(net)(x).sum()
                loss.backward()
                return loss

            loss = step(x)
            results.append([
                loss.detach().numpy(), *gradients([net]), norm.running_mean.numpy(), norm.running_var.numpy(),
                norm.num_batches_tracked.numpy(), tj.rand(3).numpy(),
            ])  # fmt: skip
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            assert same_bits(np.asarray(one), np.asarray(other))


def test_arguments_as_they_were() -> None:
    """What the function does to its arguments in place, or others later, does not matter to the second run."""

    def f(x: tj.Tensor, scale: float) -> tj.Tensor:
        x *= scale
        return tj.sin(x)

    for run in (tj.grad(lambda x: tj.checkpoint(f)(x * 1, 3.0)), tj.grad(lambda x: f(x * 1, 3.0))):
        assert run(2.0).item() == pytest.approx(3 * np.cos(6))
    x = tj.tensor(2.0, requires_grad=True)
    y = x * 1
    z = tj.checkpoint(lambda y: tj.sin(y) * y)(y)
    y.zero_()
    z.backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(np.cos(2) * 2 + np.sin(2))


def test_a_compiled_function_within() -> None:
    f = tj.jit(lambda x: tj.sin(tj.sin(x)))
    x = tj.tensor(1.0, requires_grad=True)
    tj.checkpoint(f)(x).backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(np.cos(np.sin(1)) * np.cos(1))


def test_one_in_another() -> None:
    calls = []

    def inner(x: tj.Tensor) -> tj.Tensor:
        calls.append(1)
        return tj.sin(x) * x

    def outer(x: tj.Tensor) -> tj.Tensor:
        return tj.checkpoint(inner)(tj.checkpoint(inner)(x)) * x

    x = tj.tensor(1.0, requires_grad=True)
    tj.checkpoint(outer)(x).backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(tj.grad(outer)(1.0).item(), rel=1e-6)
    assert tj.grad(tj.grad(tj.checkpoint(outer)))(1.0).item() == pytest.approx(tj.grad(tj.grad(outer))(1.0).item())


def test_a_function_that_does_something_else() -> None:
    calls = []

    def f(x: tj.Tensor) -> tj.Tensor:
        calls.append(1)
        return x * x if len(calls) == 1 else tj.sin(x * x)

    with pytest.raises(RuntimeError, match="checkpoint: f did something else when it was run again"):
        tj.grad(tj.checkpoint(f))(1.0)
    with pytest.raises(TypeError, match="checkpoint expects a function, got int 3"):
        tj.checkpoint(3)  # type: ignore[arg-type]


def test_without_gradients_it_is_the_function() -> None:
    with tj.no_grad():
        assert not tj.checkpoint(tj.sin)(tj.tensor(1.0, requires_grad=True)).requires_grad


def test_policies() -> None:
    """What a policy keeps is not computed again; the derivatives are the same."""

    def layer(x: tj.Tensor, w: tj.Tensor) -> tj.Tensor:
        return tj.sin(tj.tanh(x @ w)) @ w

    kept = tj.checkpoint_policies
    tj.manual_seed(0)
    x, w = tj.randn(4, 4), tj.randn(4, 4)
    expected = tj.grad(lambda w: layer(x, w).sum())(w)
    second = tj.hessian(lambda w: layer(x, w).sum())(w)
    counts = {}
    for policy in (
        None, kept.nothing_saveable,
        kept.dots_saveable, kept.dots_with_no_batch_dims_saveable, kept.everything_saveable,
        lambda primitive, *types, **attributes: primitive.name == "tanh",
    ):  # fmt: skip
        wrapped = tj.checkpoint(layer, policy=policy)

        def loss(w: tj.Tensor, wrapped: Any = wrapped) -> tj.Tensor:
            return wrapped(x, w).sum()

        assert same_bits(tj.grad(loss)(w).numpy(), expected.numpy())
        compiled = tj.jit(tj.grad(loss))
        assert same_bits(compiled(w).numpy(), expected.numpy())
        text = compiled.ir(w, stage="trace")
        counts[policy] = text.count(" dot "), text.count(" tanh ")
        np.testing.assert_allclose(tj.hessian(loss)(w).numpy(), second.numpy(), rtol=1e-5, atol=1e-6)
        batch = tj.vmap(lambda x, wrapped=wrapped: tj.grad(lambda w: wrapped(x, w).sum())(w))(tj.stack([x, 2 * x]))
        np.testing.assert_allclose(batch[0].numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert list(counts.values()) == [(7, 2), (7, 2), (5, 2), (5, 2), (5, 1), (7, 1)]
    with pytest.raises(TypeError, match="checkpoint: policy expects a function, got str 'dots'"):
        tj.checkpoint(layer, policy="dots")  # type: ignore[call-overload]


def test_policies_by_name() -> None:
    def layer(x: tj.Tensor, w: tj.Tensor) -> tj.Tensor:
        first = tj.checkpoint_name(x @ w, "first")
        second = tj.checkpoint_name(tj.tanh(first) @ w, "second")
        return tj.sin(second) @ w

    x, w = tj.randn(4, 4), tj.randn(4, 4)
    expected = tj.grad(lambda w: layer(x, w).sum())(w)
    kept, products = tj.checkpoint_policies, []
    for policy in (
        kept.nothing_saveable, kept.save_only_these_names("first"), kept.save_any_names_but_these("first"),
        kept.save_only_these_names("first", "second"),
    ):  # fmt: skip
        wrapped = tj.checkpoint(layer, policy=policy)
        compiled = tj.jit(tj.value_and_grad(lambda w, f=wrapped: f(x, w).sum()))
        assert same_bits(compiled(w)[1].numpy(), expected.numpy())
        text = compiled.ir(w)
        products.append(text.count(" dot "))
        assert " named " not in text
    assert [products[0] - count for count in products] == [0, 1, 1, 2]


def test_a_compiled_function_keeps_what_its_policy_says() -> None:
    """``stage="grad"`` shows what is kept between the compiled forward and backward part."""
    tj.manual_seed(0)
    x, w = tj.randn(8, 8), tj.randn(8, 8).requires_grad_()

    def net(x: tj.Tensor, w: tj.Tensor) -> tj.Tensor:
        return tj.sin(tj.tanh(x @ w) @ w) @ w

    found = {}
    for name, function in {
        "kept": net,
        "again": tj.checkpoint(net),
        "dots": tj.checkpoint(net, policy=tj.checkpoint_policies.dots_saveable),
    }.items():
        compiled = tj.jit(function)
        compiled(x, w).sum().backward()
        text = compiled.ir(x, w, stage="grad")
        found[name] = text.split("\n")[0], text.count(" dot "), w.grad
        assert "func @net.backward(" in text
        assert text.split("\n")[0][2:] in compiled.explain()
        w.grad = None
    assert found["kept"][0] == "# 2 values kept for backward: 512 bytes, beside its arguments and results"
    assert found["again"][0] == "# 0 values kept for backward: 0 bytes, beside its arguments and results"
    assert found["dots"][0] == found["kept"][0]
    assert [count for _, count, _ in found.values()] == [8, 10, 8]
    for _, _, gradient in found.values():
        assert same_bits(gradient.numpy(), found["kept"][2].numpy())


W = tj.tensor([[0.4, -0.7], [1.1, 0.3]])
STATE: dict[str, Any] = {"calls": tj.zeros(()), "last": None}


def with_branches(x: tj.Tensor) -> tj.Tensor:
    h = tj.relu(x @ W)
    h = tj.sin(h) * h if h.sum() > 1 else tj.cos(h) + h
    return h @ W if h[0, 0] > 0.5 else h * 2


def with_state(x: tj.Tensor) -> tj.Tensor:
    STATE["calls"] += 1
    y = tj.exp(x * 0.5)
    STATE["last"] = y.detach()
    return y * STATE["calls"]


def with_checks(x: tj.Tensor) -> tj.Tensor:
    return x[tj.tensor([1, 0]) * 1] * 2


def with_a_loop(x: tj.Tensor) -> tj.Tensor:
    while (x * x).sum() < 50:
        x = x @ W * 1.7 + x
    return x


def with_a_mask(x: tj.Tensor) -> tj.Tensor:
    kept = x[x > 0]
    return (kept * kept).sum() * x


def in_one_another(x: tj.Tensor) -> tj.Tensor:
    return tj.checkpoint(with_branches)(tj.checkpoint(with_a_loop)(x)) * 2


@pytest.mark.parametrize(
    "function", [with_branches, with_state, with_checks, with_a_loop, with_a_mask, in_one_another, lambda x: x * 2.0]
)
@pytest.mark.parametrize(
    "wrap",
    [tj.checkpoint, lambda f: tj.jit(tj.checkpoint(f)), lambda f: tj.checkpoint(tj.jit(f))],
    ids=["eager", "jit of it", "of a jitted function"],
)
def test_what_python_asks_for_and_changes(function: Callable[[Any], Any], wrap: Callable[[Any], Any]) -> None:
    """The second run does not decide anew, checks nothing again, and leaves no trace; called again too."""
    results = []
    for wrapped in (function, wrap(function)):
        STATE.update(calls=tj.zeros(()), last=None)
        found: list[Any] = []
        for scale in (1.0, -0.3, 2.0, 1.0):
            x = (tj.tensor([[0.6, -0.2], [0.9, 0.8]]) * scale).requires_grad_()
            y = wrapped(x)
            y.sum().backward()
            assert x.grad is not None
            last = STATE["last"]
            found += [
                y.detach().numpy(),
                x.grad.numpy(),
                STATE["calls"].item(),
                None if last is None else last.tolist(),
            ]
        results.append(found)
    for one, other in zip(*results, strict=True):
        assert same_bits(one, other) if isinstance(one, np.ndarray) else one == other


def test_numbers_stay_numbers() -> None:
    """A float argument of a compiled function takes the dtype of what it meets, in the second run too."""
    f = tj.jit(tj.checkpoint(lambda x, k: tj.sin(x * k) * k))
    x = tj.tensor([0.5, 0.25], requires_grad=True)
    f(x, 3.0).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 9 * np.cos(3 * x.detach().numpy()), rtol=1e-6)


def scanned(wrap: Callable[[Any], Any]) -> Callable[[tj.Tensor], tj.Tensor]:
    x = tj.tensor([[0.5, -0.1], [0.2, 0.9], [0.3, 0.3]])

    def loss(w: tj.Tensor) -> tj.Tensor:
        def body(c: tj.Tensor, a: tj.Tensor) -> tuple[tj.Tensor, tj.Tensor]:
            h = tj.tanh(c @ w + a)
            return tj.sin(h @ w) + c, h.sum()

        carry, sums = tj.scan(wrap(body), tj.zeros(2), x)
        return (carry * carry).sum() + sums.sum()

    return loss


def looped(wrap: Callable[[Any], Any]) -> Callable[[tj.Tensor], tj.Tensor]:
    return lambda w: tj.while_loop(
        lambda c: c[1] < 3, wrap(lambda c: (tj.sin(tj.tanh(c[0] @ w)), c[1] + 1)), (tj.ones(2), tj.tensor(0))
    )[0].sum()


def chosen(wrap: Callable[[Any], Any]) -> Callable[[tj.Tensor], tj.Tensor]:
    return lambda w: tj.cond(w.sum() > 0, wrap(lambda: tj.sin(tj.tanh(w @ w)).sum()), lambda: w.sum())


@pytest.mark.parametrize("make", [scanned, looped, chosen])
def test_in_bodies_of_loops_and_branches(make: Callable[[Any], Any]) -> None:
    plain, again = make(lambda f: f), make(tj.checkpoint)
    for derivative in (
        tj.grad, tj.hessian, lambda f: lambda w: tj.jvp(f, (w,), (w,))[1],
        lambda f: lambda w: tj.vmap(tj.grad(f))(tj.stack([w, 2 * w])),
    ):  # fmt: skip
        expected = derivative(plain)(W)
        np.testing.assert_allclose(derivative(again)(W).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert same_bits(tj.jit(tj.grad(again))(W).numpy(), tj.grad(again)(W).numpy())


def test_a_scan_keeps_its_carries_alone() -> None:
    """What its body computes is computed again, one step at a time."""
    texts = {}
    for name, wrap in {"kept": lambda f: f, "again": tj.checkpoint}.items():
        compiled = tj.jit(tj.grad(scanned(wrap)))
        compiled(W)
        texts[name] = compiled.ir(W)
    assert [text.count(" tanh ") for text in texts.values()] == [1, 2]
    stacked = [re.findall(r"^  (%.*?) = scan", text, re.MULTILINE)[0].count("%") for text in texts.values()]
    assert stacked == [4, 2]
