"""What ``tf.GradientTape`` is used for, and how it is said here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit import autograd, nn

grads: Any = autograd.grad  # a gradient may be None, here it is not


def leaf(data: Any) -> Any:
    return tj.tensor(data, requires_grad=True)


def test_watching() -> None:
    """Parameters want gradients, other tensors if asked; what is not trainable does not."""
    parameter, frozen, constant = nn.Parameter(tj.ones(1)), nn.Parameter(tj.ones(1), requires_grad=False), tj.ones(1)
    watched = tj.ones(1).requires_grad_()
    y = (parameter * frozen * constant * watched).sum()
    found = grads(y, [parameter, watched])
    assert [g.tolist() for g in found] == [[1.0], [1.0]]
    for tensor in (frozen, constant):
        with pytest.raises(RuntimeError, match="does not require grad"):
            grads(y, tensor)


def test_watching_some_variables_only() -> None:
    a, b = leaf([2.0]), leaf([3.0])
    (a * b).sum().backward(inputs=[a])
    assert (a.grad.tolist(), b.grad) == ([3.0], None)


def test_what_is_released() -> None:
    """One set of gradients, unless the graph is retained."""
    x = leaf(3.0)
    y = x * x
    grads(y, x)
    with pytest.raises(RuntimeError, match="a second time"):
        grads(y, x)
    y = x * x
    z = y * y
    assert grads(z, x, retain_graph=True)[0].item() == 108.0
    assert grads(y, x)[0].item() == 6.0


def test_targets_of_several_elements() -> None:
    """The gradient of the sum is asked for by name."""
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        grads(x * x, x)
    (of_the_sum,) = grads((x * x).sum(), x)
    (weighted,) = grads(x * x, x, tj.ones(2))
    assert of_the_sum.tolist() == weighted.tolist() == [2.0, 4.0]


def test_several_targets() -> None:
    x = leaf(2.0)
    assert grads([x * x, 1 / x], x)[0].item() == 3.75


def test_sources_in_order() -> None:
    parameters = dict(nn.Linear(2, 3).named_parameters())
    loss = (tj.ones(1, 2) @ parameters["weight"].T + parameters["bias"]).sum()
    found = dict(zip(parameters, grads(loss, list(parameters.values())), strict=True))
    assert {name: g.shape for name, g in found.items()} == {"weight": (3, 2), "bias": (3,)}


def test_unconnected_sources() -> None:
    x, y = leaf([1.0, 2.0]), leaf([1.0])
    target = (y * y).sum()
    assert grads(target, [x], allow_unused=True) == (None,)
    (zeros,) = grads((y * y).sum(), [x], materialize_grads=True)
    assert zeros.tolist() == [0.0, 0.0]


def test_what_breaks_the_path() -> None:
    x = leaf([1.5, 2.5])
    through_numpy = tj.tensor(x.detach().numpy()) * 2
    through_integers = x.long().float()
    stopped = x.detach() * 2
    state = tj.zeros(2)
    with tj.no_grad():
        state.copy_(x)
        untaped = x * 2
    for y in (through_numpy, through_integers, stopped, state, untaped):
        with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
            y.sum().backward()


def test_operations_without_a_gradient_have_no_history() -> None:
    x = leaf([1.0, 3.0])
    assert not tj.argmax(x).requires_grad
    assert not (x > 1).requires_grad
    with pytest.raises(RuntimeError, match="only Tensors of floating point and complex dtype can require gradients"):
        tj.argmax(x).requires_grad_()


def test_tapes_within_tapes() -> None:
    x = leaf(1.0)
    y = x**3
    (first,) = grads(y, x, create_graph=True)
    (second,) = grads(first, x, create_graph=True)
    (third,) = grads(second, x)
    assert (first.item(), second.item(), third.item()) == (3.0, 6.0, 6.0)


def test_a_penalty_on_the_gradient() -> None:
    """A gradient that is part of the loss."""
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (slope,) = grads((w * x * x).sum(), x, create_graph=True)
    tj.linalg.vector_norm(slope).backward()
    expected = np.array([2.0, 4.0]) * np.array([6.0, 16.0]) / np.hypot(6, 16)
    assert np.allclose(w.grad.numpy(), expected)


def test_jacobians() -> None:
    x = leaf([1.0, 2.0, 3.0])
    y = tj.stack([x[0] * x[1], x[2] ** 2])
    (jacobian,) = grads(y, x, tj.eye(2), is_grads_batched=True)
    assert jacobian.tolist() == [[2.0, 1.0, 0.0], [0.0, 0.0, 6.0]]
    (hessian,) = grads(*slopes_of_cubes(x), tj.eye(3), is_grads_batched=True)
    assert hessian.tolist() == [[6.0, 0.0, 0.0], [0.0, 12.0, 0.0], [0.0, 0.0, 18.0]]


def slopes_of_cubes(x: Any) -> tuple[Any, Any]:
    return grads((x**3).sum(), x, create_graph=True)[0], x


def test_jacobians_of_a_batch() -> None:
    """Where each row of the result depends on its own row alone: one batch of gradients for each column."""
    x, w = leaf([[1.0, 2.0], [3.0, 4.0]]), tj.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    y = (x @ w) ** 2
    columns = tj.eye(3)[:, None, :].expand(3, 2, 3)
    (jacobians,) = grads(y, x, columns, is_grads_batched=True)
    expected = 2 * (x.detach() @ w)[:, None, :] * w
    assert np.allclose(tj.permute_dims(jacobians, (1, 2, 0)).numpy(), expected.numpy())
