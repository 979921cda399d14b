"""Gradients as PyTorch's users know them: which tensors want one, ``backward``, ``grad``, the modes, in place, ties."""

import copy
import gc
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit import autograd

pytestmark = pytest.mark.usefixtures("first_code_only")

grads: Any = autograd.grad  # a gradient may be None, here it is not


def leaf(data: Any, dtype: Any = None) -> Any:
    return tj.tensor(data, dtype=dtype, requires_grad=True)


def gradient(function: Callable[..., tj.Tensor], *data: Any, dtype: Any = "float64") -> Any:
    """The gradient of a function's summed result, as nested lists, one an argument."""
    leaves = [leaf(item, dtype) for item in data]
    gradients = grads(function(*leaves).sum(), leaves, materialize_grads=True)
    lists = [g.tolist() for g in gradients]
    return lists[0] if len(lists) == 1 else lists


def grad(tensor: Any) -> Any:
    """A tensor's ``.grad`` as nested lists."""
    return tensor.grad.tolist()


# Which tensors want a gradient -----------------------------------------------------------------------


def test_requires_grad_spreads() -> None:
    x, y = leaf([1.0, 2.0]), tj.tensor([3.0, 4.0])
    assert (x.requires_grad, x.is_leaf, x.grad_fn) == (True, True, None)
    assert (y.requires_grad, y.is_leaf, y.grad_fn) == (False, True, None)
    z = x * y
    assert (z.requires_grad, z.is_leaf) == (True, False)
    assert repr(z.grad_fn) == "<MultiplyBackward>"
    assert not (y * y).requires_grad
    assert (y * y).is_leaf
    assert tj.Parameter(y).requires_grad
    assert not tj.Parameter(y, requires_grad=False).requires_grad


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x > 1,
        lambda x: x.argmax(),
        lambda x: x.astype("int64"),
        lambda x: x.astype(tj.bool),
        tj.isnan,
        lambda x: x.all(),
        tj.zeros_like,
        lambda x: x.detach(),
    ],
)
def test_some_functions_leave_no_history(function: Callable[[tj.Tensor], tj.Tensor]) -> None:
    result = function(leaf([1.0, 2.0]))
    assert (result.requires_grad, result.grad_fn) == (False, None)


@pytest.mark.parametrize("function", [tj.floor, tj.ceil, tj.round, tj.sign])
def test_steps_have_zero_gradients(function: Callable[[tj.Tensor], tj.Tensor]) -> None:
    assert function(leaf([0.5, -1.5])).requires_grad
    assert gradient(function, [0.5, -1.5, 2.0]) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
def test_only_floats_may(dtype: str) -> None:
    message = "only Tensors of floating point and complex dtype can require gradients"
    with pytest.raises(RuntimeError, match=message):
        tj.tensor([1, 0], dtype=dtype, requires_grad=True)
    x = tj.tensor([1, 0], dtype=dtype)
    with pytest.raises(RuntimeError, match=message):
        x.requires_grad_()
    with pytest.raises(RuntimeError, match=message):
        x.requires_grad = True
    assert not x.requires_grad


def test_the_flag_is_a_bool() -> None:
    x = tj.ones(1)
    for flag in (1, None, "yes"):
        with pytest.raises(RuntimeError, match="requires_grad must be a bool"):
            x.requires_grad = flag  # type: ignore[assignment]
    assert not x.requires_grad


def test_the_flag_of_a_computed_tensor_stays() -> None:
    y = leaf([1.0]) * 2
    assert y.requires_grad_() is y
    for change in (lambda: y.requires_grad_(False), lambda: setattr(y, "requires_grad", False)):
        with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
            change()
    x = tj.tensor([1.0])
    assert x.requires_grad_() is x
    assert not x.requires_grad_(False).requires_grad


def test_a_converted_leaf_is_no_leaf() -> None:
    w = leaf([1.0])
    v = w.double()
    assert not v.is_leaf
    (v * 3).sum().backward()
    assert (grad(w), w.grad.dtype) == ([3.0], tj.float32)


def test_a_mixed_product() -> None:
    a, b, n = leaf([2.0]), leaf([3.0], "float64"), tj.tensor([5])
    (a * b * n).sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (tj.float32, tj.float64)
    assert (grad(a), grad(b), n.grad) == ([15.0], [10.0], None)


# backward -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_needs_no_gradient(shape: tuple[int, ...]) -> None:
    x = leaf(np.full(shape, 3.0))
    (x * x).backward()
    assert (x.grad.shape, x.grad.item()) == (shape, 6.0)


IMPLICIT = "grad can be implicitly created only for scalar outputs"
REFUSED: list[tuple[str, type[Exception], Callable[[Any], Any]]] = [
    (IMPLICIT, RuntimeError, lambda x: (x * 2).backward()),
    (IMPLICIT, RuntimeError, lambda x: grads(x * 2, x)),
    (
        "element 0 of tensors does not require grad and does not have a grad_fn",
        RuntimeError,
        lambda x: tj.ones(()).backward(),
    ),
    ("element 1 of tensors does not require grad", RuntimeError, lambda x: autograd.backward([x.sum(), tj.ones(())])),
    (
        r"Mismatch in shape: grad_output\[0\] has a shape of \(3,\) and output\[0\] has a shape of \(2,\)",
        RuntimeError,
        lambda x: (x * 2).backward(tj.ones(3)),
    ),
    (
        r"both grad_output and output are required to have the same dtype. Mismatch in dtype: grad_output\[0\] has a "
        r"dtype of complex64 and output\[0\] has a dtype of float32",
        RuntimeError,
        lambda x: (x * 2).backward(tj.ones(2, dtype="complex64")),
    ),
    (
        r"grad_output\[0\] has a dtype of float32 and output\[0\] has a dtype of complex64",
        RuntimeError,
        lambda x: (x * 2j).backward(tj.ones(2)),
    ),
    (
        "grad can be implicitly created only for real scalar outputs but got complex64",
        RuntimeError,
        lambda x: (x * 2j).sum().backward(),
    ),
    ("gradients can be either Tensors or None, but got int", TypeError, lambda x: (x * 2).backward(1)),
    ("gradients can be either Tensors or None, but got float", TypeError, lambda x: (x * 2).backward([1.0, 2.0])),
    ("got 2 tensors and 1 gradients", RuntimeError, lambda x: autograd.backward([x.sum(), x.sum()], [tj.ones(())])),
    ("got 2 tensors and 3 gradients", RuntimeError, lambda x: grads([x.sum(), x.sum()], x, [None] * 3)),
    ("got 2 tensors and 1 gradients", RuntimeError, lambda x: grads([x.sum(), x.sum()], x, tj.ones(()))),
    ("tensors must be Tensors, but got int", TypeError, lambda x: autograd.backward(3)),
    ("outputs must be Tensors, but got NoneType", TypeError, lambda x: grads([None], x)),
    ("inputs must be Tensors, but got str", TypeError, lambda x: grads(x.sum(), ["x"])),
    (r"'inputs' argument to grad\(\) cannot be empty", RuntimeError, lambda x: grads(x.sum(), [])),
    (
        "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False",
        ValueError,
        lambda x: grads(x.sum(), x, allow_unused=False, materialize_grads=True),
    ),
    (
        r"expects grad_outputs with one number of gradients, got \(2, 2\), \(3,\)",
        RuntimeError,
        lambda x: grads([x, x.sum()], x, [tj.ones(2, 2), tj.ones(3)], is_grads_batched=True),
    ),
    (r"'inputs' argument to backward\(\) cannot be empty", RuntimeError, lambda x: x.sum().backward(inputs=[])),
    ("One of the differentiated Tensors does not require grad", RuntimeError, lambda x: grads(x.sum(), tj.ones(1))),
    (
        "One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True",
        RuntimeError,
        lambda x: grads(x.sum(), leaf([1.0])),
    ),
    (r"It is the one at index 1", RuntimeError, lambda x: grads(x.sum(), [x, leaf([1.0])])),
]


@pytest.mark.parametrize(("message", "error", "call"), REFUSED)
def test_what_is_refused(message: str, error: type[Exception], call: Callable[[tj.Tensor], Any]) -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(error, match=message) as caught:
        call(x)
    assert "test_autograd.py" in str(caught.value), "the message names the user's line"
    assert x.grad is None


def test_only_leaves_get_gradients() -> None:
    x = leaf([1.0, 2.0])
    y = x * 3
    constant = tj.ones(2)
    (y * constant).sum().backward()
    assert grad(x) == [3.0, 3.0]
    assert constant.grad is None
    with pytest.warns(UserWarning, match="that is not a leaf Tensor is being accessed"):
        assert y.grad is None


def test_a_tensor_used_twice() -> None:
    assert gradient(lambda x: x * x + x, [3.0]) == [7.0]
    assert gradient(lambda x, y: x * y + x, [3.0], [5.0]) == [[6.0], [3.0]]
    x = leaf([2.0])
    autograd.backward([x * 3, x * x], [tj.ones(1), tj.full((1,), 10.0)])
    assert grad(x) == [43.0]
    autograd.backward([(x * 3).sum(), x.sum()])
    assert grad(x) == [47.0]


def test_inputs_limits_what_is_accumulated() -> None:
    a, b = leaf([1.0]), leaf([2.0])
    hidden = a * b
    (hidden * hidden).sum().backward(inputs=[a])
    assert (grad(a), b.grad) == ([8.0], None)
    hidden = a * b
    hidden.sum().backward(inputs=b)
    assert (grad(a), grad(b)) == ([8.0], [1.0])


def test_an_unused_parameter_has_no_gradient() -> None:
    used, unused = tj.Parameter(tj.ones(1)), tj.Parameter(tj.ones(1))
    (used * 2).sum().backward()
    assert unused.grad is None


def test_a_failing_backward_adds_nothing() -> None:
    x, y = leaf([1.0]), leaf([2.0])
    shared = x * x
    (shared * 1).sum().backward()
    before = x.grad
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        (y * 3 + shared).sum().backward()
    assert (x.grad is before, before.tolist(), y.grad) == (True, [2.0], None)


def test_a_backward_that_raises_adds_nothing() -> None:
    class Raises(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            raise KeyError("mine")

    x, y = leaf([1.0]), leaf([2.0])
    with pytest.raises(KeyError, match="mine"):
        (x * 2 + Raises.apply(y)).backward()
    assert (x.grad, y.grad) == (None, None)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_what_runs_is_what_is_differentiated(compiled: bool) -> None:
    """Python decides, each time anew, and shapes may differ."""

    def function(x: Any, times: int) -> Any:
        for _ in range(times):
            x = x * 2 if x.sum() < 10 else x + 1
        return x.sum()

    run = tj.jit(function) if compiled else function
    for data, times, expected in [([1.0], 1, [2.0]), ([1.0], 5, [16.0]), ([20.0, 1.0], 3, [1.0, 1.0])] * 2:
        x = leaf(data)
        run(x, times).backward()
        assert grad(x) == expected


def test_inputs_that_were_computed_keep_their_gradients() -> None:
    x = leaf([1.0])
    hidden = x * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (hidden * hidden).backward(inputs=[hidden])
        assert grad(hidden) == [4.0]
    assert x.grad is None


def test_a_gradient_is_converted() -> None:
    x = leaf([1.0, 2.0])
    (x * 2).backward(tj.tensor([1.0, 0.5], dtype="float64"))
    assert (grad(x), x.grad.dtype) == ([2.0, 1.0], tj.float32)


def test_gradients_of_batches() -> None:
    x = leaf([1.0, 2.0])
    (rows,) = grads(x * x, x, tj.eye(2), create_graph=True, is_grads_batched=True)
    assert rows.tolist() == [[2.0, 0.0], [0.0, 4.0]]
    assert [g.tolist() for g in grads(rows.sum(), x)] == [[2.0, 2.0]]
    unused, zeros = leaf([1.0]), leaf([1.0])
    y = x.sum()
    assert grads(y, unused, tj.ones(3), allow_unused=True, is_grads_batched=True, retain_graph=True) == (None,)
    (found,) = grads(y, zeros, tj.ones(3), materialize_grads=True, is_grads_batched=True)
    assert found.tolist() == [[0.0]] * 3


# .grad ----------------------------------------------------------------------------------------------


def test_gradients_add_up_in_one_tensor() -> None:
    x = leaf([1.0, 2.0])
    (x * 2).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad is first
    assert first.tolist() == [4.0, 6.0]
    assert not first.requires_grad
    with pytest.warns(UserWarning, match="reference cycle between the parameter and its gradient"):
        (x * x).sum().backward(create_graph=True)
    assert x.grad is not first
    assert x.grad.requires_grad
    assert (first.tolist(), grad(x)) == ([4.0, 6.0], [6.0, 10.0])
    del x.grad
    assert x.grad is None
    with pytest.raises(RuntimeError, match="can't assign Variable as its own grad"):
        x.grad = x


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_are_nobody_elses(create_graph: bool) -> None:
    """Changing one gradient in place changes neither another nor the one that was passed in."""
    a, b, given = leaf([1.0]), leaf([2.0]), tj.tensor([5.0])
    (a + b).backward(given, create_graph=create_graph)
    with tj.no_grad():
        a.grad += 1
    assert (grad(a), grad(b), given.tolist()) == ([6.0], [5.0], [5.0])
    first, second = grads(a + b, (a, b), given, create_graph=create_graph)
    with tj.no_grad():
        first += 1
    assert (first.tolist(), second.tolist(), given.tolist()) == ([6.0], [5.0], [5.0])


def test_grad_may_be_assigned() -> None:
    x = leaf([1.0, 2.0])
    x.grad = mine = tj.tensor([1.0, 1.0])
    x.sum().backward()
    assert x.grad is mine
    assert mine.tolist() == [2.0, 2.0]
    x.grad = None
    x.sum().backward()
    assert (grad(x), mine.tolist()) == ([1.0, 1.0], [2.0, 2.0])
    for wrong, error, message in [
        (tj.ones(3), RuntimeError, "assigned grad has data of a different size"),
        (tj.ones(2, dtype="float64"), RuntimeError, "assigned grad has data of a different type"),
        ([1.0, 2.0], TypeError, "assigned grad must be a Tensor or None, got list"),
    ]:
        with pytest.raises(error, match=message):
            x.grad = wrong
    assert grad(x) == [1.0, 1.0]


# retain_graph ---------------------------------------------------------------------------------------

WEIGHT = leaf([3.0])
AGAIN: list[Callable[[tj.Tensor], Any]] = [
    lambda loss: loss.backward(),
    lambda loss: autograd.backward([loss]),
    lambda loss: grads(loss, WEIGHT),
]


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("first", AGAIN)
def test_a_graph_is_freed(first: Callable[[tj.Tensor], Any], again: Callable[[tj.Tensor], Any]) -> None:
    loss = (WEIGHT * WEIGHT).sum()
    first(loss)
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time") as caught:
        again(loss)
    assert "retain_graph=True" in str(caught.value)
    assert ".detach()" in str(caught.value)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_retain_graph() -> None:
    x = leaf([3.0])
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    loss.backward()
    assert grad(x) == [18.0]
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    loss = (x * x).sum()
    loss.backward(create_graph=True)  # which retains the graph
    loss.backward(retain_graph=False)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    "function", [lambda x: x**1, lambda x: x.reshape(2), lambda x: x.flatten(), lambda x: x.clone(), lambda x: x]
)
def test_functions_that_do_nothing(function: Callable[[Any], Any], compiled: bool) -> None:
    """Their results lead back to the very leaf."""
    x = leaf([3.0, 4.0])
    y = (tj.jit(function) if compiled else function)(x)
    assert y.requires_grad
    (y * tj.tensor([1.0, 10.0])).sum().backward()
    assert grad(x) == [1.0, 10.0]


def test_a_freed_tensor_may_be_differentiated_by() -> None:
    """Its own history is not needed for that."""
    x = leaf([3.0])
    y = x * x
    y.sum().backward()
    assert [g.tolist() for g in grads((y * 5).sum(), y)] == [[5.0]]
    (y * 7).sum().backward(inputs=[y])
    assert grad(y) == [7.0]
    with pytest.raises(RuntimeError, match="second time"):
        (y * 5).sum().backward()


def test_what_was_saved_is_let_go() -> None:
    x = leaf([3.0])
    loss = tj.exp(x * 2).sum()
    freed: Any = loss.grad_fn
    loss.backward()
    stack = [freed]
    while stack:
        node = stack.pop()
        assert node.application is None
        stack += [edge for edge in node.edges if edge is not None and edge.edges]


def test_memory_goes_with_the_loss() -> None:
    """No cycle keeps a graph alive."""
    import weakref

    x = leaf([3.0])
    y = tj.exp(x * 2)
    watched = weakref.ref(y)
    gc.disable()
    try:
        loss = y.sum()
        del y
        loss.backward()
        del loss
        assert watched() is None
    finally:
        gc.enable()


# Higher orders --------------------------------------------------------------------------------------

SMOOTH: list[tuple[Callable[[Any], Any], list[Callable[[float], float]]]] = [
    (lambda x: x * x * x, [lambda x: 3 * x * x, lambda x: 6 * x, lambda x: 6.0]),
    (lambda x: x**4, [lambda x: 4 * x**3, lambda x: 12 * x * x, lambda x: 24 * x]),
    (tj.exp, [math.exp] * 3),
    (tj.sin, [math.cos, lambda x: -math.sin(x), lambda x: -math.cos(x)]),
    (tj.log, [lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3]),
    (tj.sqrt, [lambda x: 0.5 * x**-0.5, lambda x: -0.25 * x**-1.5, lambda x: 0.375 * x**-2.5]),
    (lambda x: 1 / x, [lambda x: -(x**-2), lambda x: 2 * x**-3, lambda x: -6 * x**-4]),
    (tj.tanh, [
        lambda x: 1 - math.tanh(x) ** 2,
        lambda x: -2 * math.tanh(x) * (1 - math.tanh(x) ** 2),
        lambda x: (6 * math.tanh(x) ** 2 - 2) * (1 - math.tanh(x) ** 2),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "derivatives"), SMOOTH)
def test_third_order(function: Callable[[Any], Any], derivatives: list[Callable[[float], float]]) -> None:
    x = leaf(0.7, "float64")
    value = function(x)
    for derivative in derivatives:
        (value,) = grads(value, x, create_graph=True)
        assert value.item() == pytest.approx(derivative(0.7), rel=1e-12)


@pytest.mark.parametrize("function", [tj.relu, tj.abs, lambda x: x.max(), lambda x: tj.maximum(x, 1.0)])
def test_pieces_of_lines_have_no_second_derivative(function: Callable[[tj.Tensor], tj.Tensor]) -> None:
    x = leaf([-1.0, 2.0, 3.0])
    (first,) = grads((function(x) * 2).sum(), x, create_graph=True)
    (second,) = grads((first * x).sum(), x, allow_unused=True)
    assert second.tolist() == first.tolist()  # of x alone


def test_a_linear_function_has_no_second_derivative() -> None:
    x = leaf([1.0])
    (first,) = grads((x * 3).sum(), x, create_graph=True)
    assert not first.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        grads(first, x)


def test_gradient_penalty() -> None:
    """The gradient of a gradient's norm: against differences."""
    generator = np.random.default_rng(0)
    w, v, x = generator.standard_normal((3, 5)), generator.standard_normal(5), generator.standard_normal((4, 3))

    def penalty(w: Any, v: Any) -> tuple[tj.Tensor, tj.Tensor, tj.Tensor]:
        weight, output, points = leaf(w), leaf(v), leaf(x)
        score = tj.tanh(points @ weight) @ output
        (slope,) = grads(score.sum(), points, create_graph=True)
        return ((tj.sqrt((slope * slope).sum(1)) - 1) ** 2).mean(), weight, output

    loss, weight, output = penalty(w, v)
    loss.backward()
    for array, found in ((w, weight.grad), (v, output.grad)):
        direction = generator.standard_normal(array.shape)
        ends = [penalty(*[a + s * 1e-6 * direction if a is array else a for a in (w, v)])[0].item() for s in (1, -1)]
        assert (np.asarray(found) * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


def test_hessian_vector_product_and_inner_steps() -> None:
    x = leaf([1.0, 2.0, 3.0], "float64")
    loss = (x**3).sum() + x[0] * x[1]
    (g,) = grads(loss, x, create_graph=True)
    v = tj.tensor([1.0, 0.0, -1.0], dtype="float64")
    (product,) = grads((g * v).sum(), x)
    assert product.tolist() == [6.0, 1.0, -18.0]

    w = leaf(2.0, "float64")  # through two steps of gradient descent on w**2
    inner = w
    for _ in range(2):
        (slope,) = grads(inner * inner, inner, create_graph=True)
        inner = inner - 0.1 * slope
    (inner * inner).backward()
    assert grad(w) == pytest.approx(2 * 2.0 * 0.8**4)


# grad -----------------------------------------------------------------------------------------------


def test_grad() -> None:
    x, y, z = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf([5.0])
    hidden = x * y
    loss = (hidden * hidden).sum()
    to_y, to_hidden, to_x = grads(loss, (y, hidden, x), retain_graph=True)
    assert to_hidden.tolist() == [6.0, 16.0]
    assert to_x.tolist() == [18.0, 64.0]
    assert to_y.tolist() == [6.0, 32.0]
    assert (x.grad, y.grad) == (None, None)
    used, unused = grads(loss, (x, z), allow_unused=True, retain_graph=True)
    assert (used.tolist(), unused) == ([18.0, 64.0], None)
    _, zeros = grads(loss, (x, z), materialize_grads=True, retain_graph=True)
    assert (zeros.tolist(), zeros.dtype) == ([0.0], tj.float32)
    (weighted,) = grads((hidden, x), x, (tj.tensor([1.0, 0.0]), tj.tensor([0.0, 7.0])))
    assert weighted.tolist() == [3.0, 7.0]
    assert [g.tolist() for g in grads(z, z)] == [[1.0]]


# Modes ----------------------------------------------------------------------------------------------


def test_no_grad() -> None:
    x = leaf([2.0])
    with tj.no_grad():
        y = x * x
        assert not y.requires_grad
        with tj.enable_grad():
            assert (x * x).requires_grad
        assert tj.ones(2, requires_grad=True).requires_grad
        assert tj.ones(2).requires_grad_().requires_grad
        x += 1
    assert x.tolist() == [3.0]
    assert (x.is_leaf, x.requires_grad) == (True, True)
    (x * y).sum().backward()
    assert grad(x) == [4.0]
    with tj.set_grad_enabled(False):
        assert not (x * x).requires_grad
    assert (x * x).requires_grad


def test_no_grad_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), tj.no_grad():
        raise KeyError
    assert (leaf([1.0]) * 2).requires_grad


def test_no_grad_as_a_decorator() -> None:
    @tj.no_grad()
    def double(x: tj.Tensor) -> tj.Tensor:
        "Twice x."
        return x * 2

    @tj.no_grad()
    def numbers(x: tj.Tensor) -> Iterator[tj.Tensor]:
        for factor in range(3):
            yield x * factor

    @tj.no_grad()
    def recursive(depth: int, x: tj.Tensor) -> bool:
        return (x * 2).requires_grad if depth == 0 else recursive(depth - 1, x)

    x = leaf([1.0])
    assert (double.__name__, double.__doc__) == ("double", "Twice x.")
    assert not double(x).requires_grad
    for y in numbers(x):
        assert not y.requires_grad
        assert (x * 2).requires_grad, "between the items the mode is the caller's"
    assert not recursive(3, x)
    assert (x * 2).requires_grad


def test_set_grad_enabled_is_a_function_too() -> None:
    try:
        tj.set_grad_enabled(False)
        assert not (leaf([1.0]) * 2).requires_grad
        prepared = tj.set_grad_enabled(True)
        assert tj.is_grad_enabled()
        with prepared:
            assert tj.is_grad_enabled()
        assert not tj.is_grad_enabled(), "as before the call"

        @tj.set_grad_enabled(True)
        def enabled() -> bool:
            return tj.is_grad_enabled()

        assert not tj.is_grad_enabled(), "a decorator sets nothing by itself"
        assert enabled()
        assert not tj.is_grad_enabled()
    finally:
        tj.set_grad_enabled(True)


def test_a_mode_that_a_jitted_function_sets() -> None:
    """It stays set, at each call; within the function it is compiled."""

    def leaves(x: tj.Tensor) -> tj.Tensor:
        tj.set_grad_enabled(False)
        return x * 2

    def restores(x: tj.Tensor) -> tj.Tensor:
        tj.set_grad_enabled(False)
        y = x * 2
        tj.set_grad_enabled(True)
        return y * x

    x = leaf([3.0])
    for function, after in ((tj.jit(leaves), False), (tj.jit(restores), True)):
        for _ in range(3):
            try:
                y = function(x)
                assert (tj.is_grad_enabled(), y.requires_grad) == (after, after)
            finally:
                tj.set_grad_enabled(True)
    y.sum().backward()
    assert grad(x) == [6.0]
    assert function.cache_info().hits == 2


@pytest.mark.parametrize(
    ("mode", "expected"), [(tj.no_grad, False), (tj.inference_mode, False), (tj.enable_grad, True)]
)
def test_a_decorator_without_parentheses(mode: Any, expected: bool) -> None:
    @mode
    def records() -> bool:
        "Whether it does."
        return tj.is_grad_enabled()

    assert (records.__name__, records.__doc__) == ("records", "Whether it does.")
    with tj.set_grad_enabled(not expected):
        assert records() is expected
        assert tj.is_grad_enabled() is not expected


def test_inference_mode() -> None:
    x = leaf([2.0])
    with tj.inference_mode():
        y = x * 3
        assert not tj.is_grad_enabled()
        with tj.inference_mode(False):
            assert (x * 3).requires_grad
    assert (y.requires_grad, y.is_leaf) == (False, True)
    (x * y).sum().backward()  # an ordinary tensor: PyTorch would refuse to save it
    assert grad(x) == [6.0]
    y += 1
    assert y.tolist() == [7.0]


def test_a_decorated_generator_is_sent_to() -> None:
    seen: list[Any] = []

    @tj.no_grad()
    def echo() -> Iterator[Any]:
        received = None
        try:
            while received != "end":
                try:
                    received = yield received, tj.is_grad_enabled()
                except KeyError:
                    received = "caught"
        finally:
            seen.append(tj.is_grad_enabled())
        return "returned"

    generator: Any = echo()
    assert next(generator) == (None, False)
    assert generator.send("news") == ("news", False)
    assert generator.throw(KeyError()) == ("caught", False)
    assert tj.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        generator.send("end")
    assert (stop.value.value, seen) == ("returned", [False])
    generator = echo()
    next(generator)
    generator.close()
    assert (seen, tj.is_grad_enabled()) == ([False, False], True)
    generator = echo()
    next(generator)
    with pytest.raises(ValueError, match="mine"):
        generator.throw(ValueError("mine"))
    assert (seen, tj.is_grad_enabled()) == ([False] * 3, True)


def test_the_mode_is_the_threads_own() -> None:
    x, seen = leaf([1.0]), []
    with tj.no_grad():
        other = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        other.start()
        other.join()
    assert seen == [True]


def test_backward_in_no_grad() -> None:
    x = leaf([3.0])
    y = (x * x * x).sum()
    with tj.no_grad():
        y.backward(retain_graph=True)
        (g,) = grads(y, x, create_graph=True)
    assert grad(x) == [27.0]
    assert [h.tolist() for h in grads(g.sum(), x)] == [[18.0]]


# detach ---------------------------------------------------------------------------------------------


def test_detach() -> None:
    x = leaf([2.0])
    y = x * x
    z = y.detach()
    assert (z.requires_grad, z.is_leaf) == (False, True)
    z += 5
    assert y.tolist() == [4.0]
    (y * z).sum().backward()
    assert grad(x) == [36.0]
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad"):
        y.numpy()
    assert y.numpy(force=True).tolist() == [4.0]
    with tj.no_grad():
        assert y.numpy().tolist() == np.asarray(y).tolist() == [4.0]
    assert y.detach_() is y
    assert (y.requires_grad, y.is_leaf, x.requires_grad) == (False, True, True)


def test_data() -> None:
    x = leaf([2.0])
    y = x * x
    x.data = tj.tensor([5.0])
    assert (x.tolist(), x.requires_grad, x.is_leaf, x.data.requires_grad) == ([5.0], True, True, False)
    y.sum().backward()
    assert grad(x) == [4.0], "of the value that was squared"
    x.data = tj.ones(3, dtype="float64")
    assert (x.shape, x.dtype) == ((3,), tj.float64)
    x.grad = None
    (x * 2).sum().backward()
    assert (grad(x), x.grad.dtype) == ([2.0] * 3, tj.float64)
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got int"):
        x.data = 3  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="must be floating point or complex dtype, got int64"):
        x.data = tj.tensor([1])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_a_step_by_data(compiled: bool) -> None:
    w = leaf([4.0])

    def step() -> Any:
        w.grad = None
        (w * w).sum().backward()
        w.data = w.data - 0.25 * w.grad
        return w.detach()

    run = tj.jit(step) if compiled else step
    assert [run().tolist() for _ in range(3)] == [[2.0], [1.0], [0.5]]
    assert (w.is_leaf, w.requires_grad) == (True, True)


@pytest.mark.parametrize(
    ("convert", "error", "message"),
    [
        (lambda: tj.ones(2).item(), RuntimeError, "a Tensor with 2 elements cannot be converted to Scalar"),
        (lambda: float(tj.ones(2)), ValueError, "only one element tensors can be converted to Python scalars"),
        (lambda: int(tj.ones(0)), ValueError, "only one element tensors can be converted to Python scalars"),
        (lambda: bool(tj.ones(2)), RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"),
        (lambda: bool(tj.ones(0)), RuntimeError, "Boolean value of Tensor with no values is ambiguous"),
        (lambda: [1][tj.tensor(0.0)], TypeError, "only integer tensors of a single element can be converted to an"),
        (lambda: len(tj.ones(())), TypeError, r"len\(\) of a 0-d tensor"),
        (lambda: list(tj.ones(())), TypeError, "iteration over a 0-d tensor"),
        (lambda: copy.deepcopy(leaf(1.0) * 2), RuntimeError, "Only Tensors created explicitly by the user"),
    ],
)
def test_what_is_no_number(convert: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        convert()


def test_deep_copies() -> None:
    """Gradients are copied too."""
    x = leaf([1.0])
    (x * 2).backward()
    y, again = copy.deepcopy([x, x])
    assert y is again
    assert (y.tolist(), y.requires_grad, grad(y), y.grad is x.grad) == ([1.0], True, [2.0], False)


# In place -------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[tj.Tensor], Any]] = {
    "+=": lambda x: x.__iadd__(1),
    "mul_": lambda x: x.mul_(2),
    "zero_": lambda x: x.zero_(),
    "copy_": lambda x: x.copy_(tj.zeros(2)),
    "item": lambda x: x.__setitem__(0, 5.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_leaf_is_not_changed_in_place(change: Callable[[tj.Tensor], Any]) -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        change(x)
    assert x.tolist() == [1.0, 2.0]
    with tj.no_grad():
        change(x)
    assert (x.is_leaf, x.requires_grad) == (True, True)
    assert x.tolist() != [1.0, 2.0]


def test_what_was_saved_stays() -> None:
    """The backward of an operation uses the values it saw, whatever becomes of the tensors."""
    x = leaf([2.0])
    y = x * 1
    z = y * y
    y += 100
    z.sum().backward()
    assert grad(x) == [4.0]


def test_history_is_rebound() -> None:
    x, v = leaf([1.0, 2.0, 3.0]), leaf([10.0])
    y = x * 1
    y.mul_(2)
    y[1:] = v
    y[0] += y[2]
    assert y.tolist() == [12.0, 10.0, 10.0]
    assert not y.is_leaf
    (y * tj.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert (grad(x), grad(v)) == ([2.0, 0.0, 0.0], [111.0])
    z = tj.zeros(2)
    z += leaf([1.0, 1.0])
    assert z.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: tj.tensor([1]).add_(0.5), "result type float32 can't be cast to the desired output type int64"),
        (lambda: tj.ones(2).add_(1j), "result type complex64 can't be cast to the desired output type float32"),
        (
            lambda: tj.ones(3).add_(tj.ones(2, 3)),
            r"output with shape \(3,\) doesn't match the broadcast shape \(2, 3\)",
        ),
        (lambda: tj.tensor([True]).__iadd__(1), "result type int64 can't be cast to the desired output type bool"),
    ],
)
def test_shape_and_dtype_stay(change: Callable[[], Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        change()


def test_what_is_put_in_place_is_converted() -> None:
    """Within a kind of dtypes, and from a lower kind."""
    x, v = tj.ones(2), leaf([0.5, 2.0], "float64")
    x += v
    assert (x.dtype, x.tolist()) == (tj.float32, [1.5, 3.0])
    x.sum().backward()
    assert (v.grad.dtype, grad(v)) == (tj.float64, [1.0, 1.0])
    n = tj.tensor([1, 2], dtype="int32")
    n.mul_(tj.tensor([3, 4]))
    assert (n.dtype, n.tolist()) == (tj.int32, [3, 8])
    z = tj.zeros(2, dtype="complex64")
    z += tj.ones(2, dtype="float64")
    assert z.dtype == tj.complex64


def test_what_is_filled_keeps_its_history() -> None:
    x, v = leaf([1.0, 2.0]), leaf(5.0)
    y, z = x * 2, x * 3
    y.fill_(v)
    z.zero_()
    (y + z).sum().backward()
    assert (grad(x), grad(v)) == ([0.0, 0.0], 2.0)
    assert not tj.ones(2).fill_(3.0).requires_grad


# Shapes ---------------------------------------------------------------------------------------------

BROADCASTS = [
    ((3, 4), (4,)), ((3, 4), ()), ((3, 1), (1, 4)), ((), ()), ((0, 4), (4,)), ((0, 1), (1, 3)), ((1,), (0,)),
    ((), (0,)), ((2, 1, 3), (5, 1)), ((1, 1), (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), BROADCASTS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_gradients_are_summed_to_the_operands_shapes(
    left: tuple[int, ...], right: tuple[int, ...], compiled: bool
) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal(left), generator.standard_normal(right)
    shape = np.broadcast_shapes(left, right)

    def to_shape(array: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
        array = array.sum(tuple(range(array.ndim - len(wanted))))
        stretched = tuple(i for i, n in enumerate(wanted) if n == 1 and array.shape[i] != 1)
        return array.sum(stretched, keepdims=True)

    for function, slopes in [
        (lambda x, y: x * y, (np.broadcast_to(b, shape), np.broadcast_to(a, shape))),
        (lambda x, y: x - y, (np.ones(shape), -np.ones(shape))),
        (lambda x, y: tj.where(tj.tensor(True), x, y), (np.ones(shape), np.zeros(shape))),
    ]:
        x, y = leaf(a), leaf(b)
        (tj.jit(function) if compiled else function)(x, y).sum().backward()
        for tensor, slope in zip((x, y), slopes, strict=True):
            assert tensor.grad.shape == tensor.shape
            assert np.allclose(np.asarray(tensor.grad), to_shape(slope, tensor.shape))


GATHERED: list[tuple[str, Callable[[Any], Any], list[float]]] = [
    ("an element", lambda x: x[1] * 5, [0, 5, 0, 0]),
    ("a slice", lambda x: x[1:3] * 5, [0, 5, 5, 0]),
    ("backwards", lambda x: x[::-2] * tj.tensor([1.0, 2.0]), [0, 2, 0, 1]),
    ("an index twice", lambda x: x[[0, 0, 2]] * tj.tensor([1.0, 10.0, 100.0]), [11, 0, 100, 0]),
    ("a mask", lambda x: x[tj.tensor([True, False, False, True])] * 3, [3, 0, 0, 3]),
    ("nothing", lambda x: x[2:2], [0, 0, 0, 0]),
    ("concatenated", lambda x: tj.concat([x, x[:2]]) * tj.tensor([1.0, 1, 1, 1, 10, 10]), [11, 11, 1, 1]),
    ("stacked", lambda x: tj.stack([x, x]) * tj.tensor([[1.0], [10.0]]), [11, 11, 11, 11]),
    ("padded", lambda x: tj.pad(x, ((1, 2),)) * tj.tensor([9.0, 1, 2, 3, 4, 9, 9]), [1, 2, 3, 4]),
    ("flipped", lambda x: tj.flip(x) * tj.tensor([1.0, 2, 3, 4]), [4, 3, 2, 1]),
    ("reshaped", lambda x: x.reshape(2, 2).T * tj.tensor([[1.0, 2], [3, 4]]), [1, 3, 2, 4]),
    ("expanded", lambda x: x.expand(3, 4), [3, 3, 3, 3]),
    ("taken", lambda x: tj.take(x, tj.tensor([3, 3])), [0, 0, 0, 2]),
    ("taken along an axis", lambda x: tj.take_along_axis(x, tj.tensor([2, 2, 1])), [0, 1, 2, 0]),
]


@pytest.mark.parametrize(("function", "expected"), [case[1:] for case in GATHERED], ids=[case[0] for case in GATHERED])
def test_gradients_of_parts(function: Callable[[Any], Any], expected: list[float]) -> None:
    data = [1.0, 2.0, 3.0, 4.0]
    assert gradient(function, data, dtype="float32") == expected
    if "mask" not in repr(function):
        assert gradient(tj.jit(function), data, dtype="float32") == expected


# Deep graphs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True])
def test_deep_chains(create_graph: bool) -> None:
    """50,000 operations one after the other, in less stack than Python gives: backward, and forgetting them."""
    x = leaf(1.0, "float64")
    y = x
    count = 50_000 if not create_graph else 10_000
    for _ in range(count):
        y = y * 1.0001
    (g,) = grads(y, x, create_graph=create_graph)
    assert g.item() == pytest.approx(1.0001**count)
    del y, g
    gc.collect()
    y = x
    for _ in range(count):
        y = y + x
    del y  # never differentiated
    gc.collect()


def test_wide_graphs() -> None:
    x = leaf(1.0, "float64")
    total = sum((x * float(i) for i in range(3000)), tj.zeros((), dtype="float64"))
    total.backward()
    assert grad(x) == 3000 * 2999 / 2


def test_diamonds_are_walked_once() -> None:
    """Each of forty tensors is used twice: 2**40 paths, forty steps."""
    x = leaf(1.0, "float64")
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert grad(x) == 2.0**40


def test_no_warnings_without_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = leaf([1.0, 0.0])
        (tj.log(x) / x).sum().backward()
