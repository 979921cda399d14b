"""Functions with a derivative of one's own, hooks, and gradcheck; eagerly and under jit."""

from __future__ import annotations

import gc
import weakref

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
        ((tj.ones(3, dtype="complex64"), None), RuntimeError, "at index 0 - got complex64 but expected float32"),
        ((None, None, tj.ones(3)), RuntimeError, r"incorrect number of gradients \(expected 2, got 3\)"),
    ],
)
def test_function_errors(result, error, message):
    Bad.result = result
    x, y = tj.ones(3, requires_grad=True), tj.ones(3, requires_grad=True)
    with pytest.raises(error, match=message) as caught:
        Bad.apply(x, y).sum().backward()
    assert "test_functions_and_hooks.py" in str(caught.value), "the message names the user's line"
    assert x.grad is None
    assert y.grad is None


def function(forward, backward, **methods):
    """A Function of two functions."""
    methods = {name: staticmethod(method) for name, method in methods.items()}
    return type("Mine", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward), **methods})


def test_a_gradient_for_a_number_is_an_error():
    mine = function(lambda ctx, x, factor: x * factor, lambda ctx, g: (g, g))
    message = "MineBackward returned a gradient different than None at position 2, but the corresponding forward input"
    with pytest.raises(RuntimeError, match=message):
        mine.apply(tj.ones(1, requires_grad=True), 2.0).backward()


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        (lambda: tj.ones(3, dtype="float64"), [1.0, 1.0, 1.0]),
        (lambda: tj.ones(2, 3), [2.0, 2.0, 2.0]),
        (lambda: (tj.ones(3), None, None), [1.0, 1.0, 1.0]),
        (lambda: [tj.ones(3)], [1.0, 1.0, 1.0]),
    ],
    ids=["another dtype", "broadcast", "more Nones", "a list"],
)
def test_gradients_are_made_to_fit(gradient, expected):
    x = tj.ones(3, requires_grad=True)
    function(lambda ctx, x: x * 1, lambda ctx, g: gradient()).apply(x).sum().backward()
    assert (x.grad.tolist(), x.grad.dtype) == (expected, tj.float32)


def test_no_gradient_where_backward_returns_none():
    x, y = tj.ones(1, requires_grad=True), tj.ones(1, requires_grad=True)
    function(lambda ctx, x, y: x * y, lambda ctx, g: (g, None)).apply(x, y).backward()
    assert (x.grad.tolist(), y.grad) == ([1.0], None)


def test_forward_and_backward_record_nothing():
    seen = []

    def forward(ctx, x):
        seen.append(tj.is_grad_enabled())
        return x * 1

    def backward(ctx, g):
        seen.append(tj.is_grad_enabled())
        return g

    x = tj.ones(1, requires_grad=True)
    grad(function(forward, backward).apply(x), x)
    grad(function(forward, backward).apply(x), x, create_graph=True)
    assert seen == [False, False, False, True]


def test_what_is_missing():
    with pytest.raises(NotImplementedError, match="You must implement the forward function"):
        Function.apply(tj.ones(1))
    only_forward = type("Half", (Function,), {"forward": staticmethod(lambda ctx, x: x * 2)})
    assert only_forward.apply(tj.ones(1)).tolist() == [2.0]
    with pytest.raises(NotImplementedError, match="You must implement the backward"):
        only_forward.apply(tj.ones(1, requires_grad=True)).backward()
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        Exp.apply(x=tj.ones(1))
    saves_a_number = function(lambda ctx, x: ctx.save_for_backward(3), lambda ctx, g: g)
    with pytest.raises(TypeError, match="save_for_backward can only save Tensors, but got int"):
        saves_a_number.apply(tj.ones(1))


def test_setup_context():
    def setup(ctx, inputs, output):
        x, ctx.power = inputs
        ctx.save_for_backward(x, None, output)

    def backward(ctx, g):
        x, nothing, y = ctx.saved_tensors
        assert nothing is None
        return g * ctx.power * y / x, None

    power = function(lambda x, n: x**n, backward, setup_context=setup)
    x = double(2.0, 3.0)
    assert power.apply(x, 3).tolist() == [8.0, 27.0]
    assert gradgradcheck(lambda x: power.apply(x, 3), x)
    with pytest.raises(NotImplementedError, match="setup_context is not implemented"):
        Function.setup_context(None, (), None)


def test_mark_dirty():
    def double_in_place(ctx, x, y):
        x.mul_(2)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x, x + y

    def backward(ctx, g, h):
        assert ctx.saved_tensors[0].tolist() == [6.0]
        return g * 2 + h * 20, h

    mine = function(double_in_place, backward)
    leaf, other = tj.tensor([3.0], requires_grad=True), tj.tensor([5.0], requires_grad=True)
    x = leaf * 1
    first, second = mine.apply(x, other)
    assert first is x
    assert (x.tolist(), second.tolist(), x.is_leaf) == ([6.0], [11.0], False)
    (x + second).sum().backward()
    assert (leaf.grad.tolist(), other.grad.tolist()) == ([22.0], [1.0])
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad has been used in an in-place operation"):
        mine.apply(leaf, other)
    assert (leaf.tolist(), leaf.is_leaf) == ([3.0], True), "as it was before"
    forgetful = function(lambda ctx, x: ctx.mark_dirty(x.mul_(2)), lambda ctx, g: g)
    x = leaf * 1
    with pytest.raises(RuntimeError, match="must all be outputs of the Function"):
        forgetful.apply(x)
    assert x.tolist() == [3.0]


def test_what_is_saved_is_the_value_then():
    def forward(ctx, x):
        ctx.save_for_backward(x)
        x.add_(100)
        return x * 1

    x = tj.tensor([3.0], requires_grad=True)
    mine = function(forward, lambda ctx, g: g * ctx.saved_tensors[0])
    mine.apply(x).backward()
    assert x.grad.tolist() == [3.0]


def test_outputs_that_are_no_variables():
    seen = []

    def forward(ctx, x, materialize):
        ctx.set_materialize_grads(materialize)
        fixed = x * 3
        ctx.mark_non_differentiable(fixed)
        return x * 2, fixed, x.argmax(), "text", None

    def backward(ctx, *gradients):
        seen.append([g if g is None else g.tolist() for g in gradients])
        return gradients[0], None

    x = tj.tensor([1.0, 2.0], requires_grad=True)
    mine = function(forward, backward)
    for materialize in (True, False):
        y, fixed, position, text, nothing = mine.apply(x, materialize)
        assert [t.requires_grad for t in (y, fixed, position)] == [True, False, False]
        assert (text, nothing) == ("text", None)
        y.sum().backward()
    assert seen == [[[1.0, 1.0], [0.0, 0.0], 0, None, None], [[1.0, 1.0], None, None, None, None]]


def test_an_input_that_is_returned():
    """It is another tensor, whose gradient goes through the function."""
    x = tj.tensor([1.0], requires_grad=True)
    y = function(lambda ctx, x: x, lambda ctx, g: g * 10).apply(x)
    assert y is not x
    y.sum().backward()
    assert x.grad.tolist() == [10.0]


def test_tensors_in_lists_are_not_differentiated():
    x = tj.tensor([1.0], requires_grad=True)
    assert not function(lambda ctx, items: items[0] * 2, lambda ctx, g: None).apply([x]).requires_grad
    with tj.no_grad():
        assert not Exp.apply(x).requires_grad


def test_what_nodes_are_called():
    x = tj.tensor([1.0], requires_grad=True)
    y = Exp.apply(x * 2)
    assert repr(y.grad_fn) == "<ExpBackward>"
    assert y.grad_fn.name() == "ExpBackward"
    ((product, number),) = y.grad_fn.next_functions
    assert (product.name(), number) == ("MultiplyBackward", 0)
    accumulate, nothing = product.next_functions
    assert (accumulate[0].name(), accumulate[0].leaf is x, nothing) == ("AccumulateGrad", True, (None, 0))
    assert accumulate[0].next_functions == ()


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
    for gradient in (None, tj.tensor(1.0, requires_grad=True)):
        (slope,) = grad(Square.apply(x), x, gradient, create_graph=True)
        assert (slope.item(), slope.requires_grad) == (6.0, True)
        wanted = x if gradient is None else gradient
        with pytest.raises(RuntimeError, match="trying to differentiate twice a function that was marked with"):
            grad(slope, wanted)
    assert grad(slope * x, slope)[0].item() == 3.0


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
    assert jitted.cache_info().lazy == 0


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


@pytest.mark.parametrize("argument", [False, True], ids=["captured", "argument"])
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_hooks_of_a_leaf_under_jit(inside, argument):
    """They run once for each gradient that arrives, wherever ``backward`` is called."""
    w, seen = tj.tensor([2.0], requires_grad=True), []
    w.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.item()))

    def loss(x):
        return ((x if argument else w) * 3.0 * x.detach()).sum()

    def step(x):
        loss(x).backward()

    compiled = tj.jit(step if inside else loss)
    run = compiled if inside else lambda x: compiled(x).backward()
    x = w if argument else tj.tensor([2.0])
    handle = None
    for factor in (1, 1, 10, 10, 1):
        if factor == 10 and handle is None:
            handle = w.register_hook(lambda g: seen.append("hook") or g * 10)
        if factor == 1 and handle is not None:
            handle.remove()
        w.grad = None
        seen.clear()
        run(x)
        assert seen == ["hook"] * (factor == 10) + [6.0 * factor]
        assert w.grad.tolist() == [6.0 * factor]


def test_hooks_within_a_jitted_function():
    w, seen = tj.tensor([2.0], requires_grad=True), []

    def step(x):
        def hook(gradient):
            seen.append(1)
            return gradient * 10

        w.grad = None
        y = w * x
        y.register_hook(hook)
        y.retain_grad()
        (y * y).sum().backward()
        return y.grad

    jitted = tj.jit(step)
    for count in (1, 2, 3):
        assert jitted(tj.tensor([3.0])).tolist() == [120.0]
        assert (w.grad.tolist(), len(seen)) == ([360.0], count)


def test_hooks_outlive_a_conversion():
    layer = tj.nn.Linear(1, 1, bias=False)
    layer.weight.register_hook(lambda g: g * 10)
    layer.double()
    layer(tj.ones(1, 1, dtype="float64")).sum().backward()
    assert (layer.weight.grad.tolist(), layer.weight.grad.dtype) == ([[10.0]], tj.float64)


def test_hook_errors():
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        tj.ones(2).register_hook(print)
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"):
        tj.ones(2).register_post_accumulate_grad_hook(print)
    x = tj.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="post accumulate grad hooks cannot be registered on non-leaf tensors"):
        (x * 2).register_post_accumulate_grad_hook(print)
    handle = x.register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match="changed the size"):
        (x * 2).sum().backward()
    handle.remove()
    x.register_hook(lambda g: 1.0)
    with pytest.raises(TypeError, match="expected a hook to return a Tensor or None, got float"):
        (x * 2).sum().backward()
    assert x.grad is None
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
        tj.ones(2).retain_grad()


def test_retained_gradients():
    x = tj.ones(2, requires_grad=True)
    y = x * 3
    assert not y.retains_grad
    y.retain_grad()
    x.retain_grad()
    assert (y.retains_grad, x.retains_grad, (y * 1).retains_grad) == (True, False, False)
    (y * y).sum().backward(retain_graph=True)
    assert y.grad.tolist() == [6.0, 6.0]
    (y * 1).sum().backward()
    assert y.grad.tolist() == [7.0, 7.0], "they add up"


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


def test_nothing_waits_for_the_garbage_collector():
    """Leaves, their gradients and what a graph has saved go when the last name for them does."""

    def train():
        layer = tj.nn.Linear(3, 2)
        opt = tj.optim.Adam(layer.parameters())
        layer(tj.ones(4, 3)).square().sum().backward()
        opt.step()
        return [weakref.ref(layer.weight), weakref.ref(layer.weight.grad)]

    def discard():
        leaf = tj.ones(3, requires_grad=True)
        loss = (leaf * leaf).sum()
        return [weakref.ref(leaf), weakref.ref(loss)]

    def save():
        result = Exp.apply(tj.ones(3, requires_grad=True))
        return [weakref.ref(result.grad_fn)]

    train()
    gc.collect()
    gc.disable()
    try:
        assert [reference() for reference in (*train(), *discard(), *save())] == [None] * 5
    finally:
        gc.enable()


def test_a_leaf_may_go_before_the_gradient_comes():
    x = tj.tensor([1.0, 2.0], requires_grad=True)
    seen = []

    def loss():
        leaf = tj.tensor([3.0, 4.0], requires_grad=True)
        leaf.register_hook(lambda gradient: seen.append(gradient.tolist()))
        return (leaf * x).sum()

    loss().backward()
    assert (x.grad.tolist(), seen) == ([3.0, 4.0], [[1.0, 2.0]])


def python_in_backward(kind, seen, counts):
    """A function of ``x`` whose gradient runs code that changes ``seen`` or ``counts``."""

    def see(gradient):
        if kind == "append":
            seen.append("called")
        elif kind == "value":
            seen.append(float(gradient.sum()))
        elif kind == "count":
            counts["calls"] += 1
            return gradient * counts["calls"]
        return gradient * 2

    class Watched(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return see(gradient)

    def by_function(x):
        return (Watched.apply(x) * x).sum()

    def by_hook(x):
        product = x * x
        product.register_hook(see)
        return product.sum()

    return by_function, by_hook


@pytest.mark.parametrize("by_hook", [False, True])
@pytest.mark.parametrize("kind", ["append", "value", "count", "nothing"])
def test_python_in_the_gradient_of_a_jitted_function_runs_at_each_backward(kind, by_hook):
    def run(wrap):
        seen, counts = [], {"calls": 0}
        function = wrap(python_in_backward(kind, seen, counts)[by_hook])
        results = []
        for number in range(3):
            x = tj.tensor([1.0, 2.0 + number], requires_grad=True)
            function(x).backward()
            results.append((x.grad.tolist(), list(seen), dict(counts)))
        return results

    assert run(tj.jit) == run(lambda function: function)
