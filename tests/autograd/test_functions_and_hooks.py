"""Functions with a derivative of one's own, hooks, and gradcheck; eagerly and under jit."""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as tj
from tracejit.autograd import Function, GradcheckError, grad, gradcheck, gradgradcheck, once_differentiable


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = tj.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * y


class ScaleAndSum(Function):
    """Two outputs, a plain argument, and a gradient that was broadcast."""

    @staticmethod
    def forward(ctx, x, bias, factor):
        ctx.factor = factor
        ctx.save_for_backward(x)
        return x * factor + bias, x.sum()

    @staticmethod
    def backward(ctx, g, g_sum):
        (x,) = ctx.saved_tensors
        return g * ctx.factor + tj.ones_like(x) * g_sum, g, None, None


class Bad(Function):
    result = None

    @staticmethod
    def forward(ctx, x, y):
        return x * y

    @staticmethod
    def backward(ctx, gradient):
        return Bad.result


def double(*values):
    return tj.tensor(np.asarray(values, np.float64), requires_grad=True)


def test_function_first_and_second_order():
    x = double(0.5, -1.0)
    assert gradcheck(Exp.apply, x)
    assert gradgradcheck(Exp.apply, x)


def test_function_with_several_outputs_and_a_plain_argument():
    x, bias = double(1.0, 2.0), tj.tensor(3.0, dtype=tj.float64, requires_grad=True)
    scaled, total = ScaleAndSum.apply(x, bias, 4.0)
    (scaled.sum() + 10 * total).backward()
    assert x.grad.tolist() == [14.0, 14.0]
    assert bias.grad.tolist() == 2.0
    x.grad = None
    scaled, total = ScaleAndSum.apply(x, bias, 4.0)
    total.backward()  # the other output's gradient arrives as zeros
    assert x.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ((tj.ones(3),), RuntimeError, r"incorrect number of gradients \(expected 2, got 1\)"),
        ((tj.ones(2), tj.ones(3)), RuntimeError, r"invalid gradient at index 0 - got \[2\] but expected .* \[3\]"),
        ((1.0, tj.ones(3)), TypeError, r"expected Variable or None \(got float\)"),
    ],
)
def test_function_errors(result, error, message):
    Bad.result = result
    x, y = tj.ones(3, requires_grad=True), tj.ones(3, requires_grad=True)
    with pytest.raises(error, match=message):
        Bad.apply(x, y).sum().backward()
    assert x.grad is None
    assert y.grad is None


def test_function_knows_which_gradients_are_needed():
    seen = []

    class Product(Function):
        @staticmethod
        def forward(ctx, x, y):
            seen.append(ctx.needs_input_grad)
            return x * y

        @staticmethod
        def backward(ctx, g):
            return g, None

    Product.apply(tj.ones(2, requires_grad=True), tj.ones(2)).sum().backward()
    assert seen == [(True, False)]
    assert not Product.apply(tj.ones(2), tj.ones(2)).requires_grad


def test_once_differentiable():
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0] * g

    x = tj.tensor(3.0, requires_grad=True)
    assert grad(Square.apply(x), x)[0].item() == 6.0
    with pytest.raises(RuntimeError, match="marked with @once_differentiable"):
        grad(Square.apply(x), x, create_graph=True)


def test_saved_tensors_are_freed():
    x = tj.tensor(1.0, requires_grad=True)
    y = Exp.apply(x)
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()


def test_function_under_jit():
    w = tj.tensor([0.1, 0.2], requires_grad=True)

    def step(x):
        w.grad = None
        loss = Exp.apply(w * x).sum()
        loss.backward()
        return loss

    x = tj.tensor([1.0, 2.0])
    expected = step(x).item(), w.grad.tolist()
    jitted = tj.jit(step)
    for _ in range(2):
        assert (jitted(x).item(), w.grad.tolist()) == expected
    assert jitted.cache_info().eager == 0


def test_gradients_flow_out_of_a_jitted_function_through_a_function():
    w = tj.tensor([0.1, 0.2], requires_grad=True)

    def gradient(function):
        w.grad = None
        function(tj.tensor([1.0, 2.0])).sum().backward()
        return w.grad.tolist()

    def f(x):
        return Exp.apply(w * x)

    assert gradient(tj.jit(f)) == gradient(f)


def test_hooks_run_in_order_and_may_replace_the_gradient():
    x = tj.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    handle = y.register_hook(lambda g: g * 2)
    y.retain_grad()
    (y * y).sum().backward()
    assert seen == [[6.0, 12.0]]
    assert y.grad.tolist() == [12.0, 24.0]
    assert x.grad.tolist() == [36.0, 72.0]
    handle.remove()
    x.grad = None
    z = x * 3
    with z.register_hook(lambda g: g * 0):
        pass
    z.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_hooks_on_a_leaf():
    x = tj.tensor(2.0, requires_grad=True)
    order = []
    x.register_hook(lambda g: order.append(("hook", g.item(), x.grad)))
    x.register_post_accumulate_grad_hook(lambda leaf: order.append(("after", leaf.grad.item())))
    (x * x).backward()
    assert order == [("hook", 4.0, None), ("after", 4.0)]


def test_hook_errors():
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        tj.ones(2).register_hook(print)
    x = tj.ones(2, requires_grad=True)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match="changed the size"):
        (x * 2).sum().backward()
    assert x.grad is None


def test_reading_the_gradient_of_a_computed_tensor_warns():
    y = tj.ones(2, requires_grad=True) * 2
    with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed"):
        assert y.grad is None


def test_gradcheck_finds_a_wrong_derivative():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g

    x = double(2.0)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(Wrong.apply, x)
    assert not gradcheck(Wrong.apply, x, raise_exception=False)
    with pytest.raises(ValueError, match="float64"):
        gradcheck(tj.exp, tj.ones(2, requires_grad=True))
