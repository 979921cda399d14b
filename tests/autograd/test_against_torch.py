"""Small programs that are run with PyTorch too: the same values, the same errors.

Skipped where PyTorch is not installed: ``pip install ".[test,torch]"``.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tracejit as tj

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("first_code_only")


def library(module: Any, once_differentiable: Any) -> SimpleNamespace:
    """What the programs use of a library."""

    def tensor(data: Any, dtype: str | None = None, requires_grad: bool = False) -> Any:
        return module.tensor(data, dtype=dtype and getattr(module, dtype), requires_grad=requires_grad)

    return SimpleNamespace(
        module=module,
        tensor=tensor,
        leaf=lambda data, dtype=None: tensor(data, dtype, True),
        ones=module.ones,
        zeros=module.zeros,
        grad=module.autograd.grad,
        backward=module.autograd.backward,
        Function=module.autograd.Function,
        once_differentiable=once_differentiable,
    )


TRACEJIT = library(tj, tj.autograd.once_differentiable)
PYTORCH = library(torch, torch.autograd.function.once_differentiable)
Program = Callable[[Any], Any]
PROGRAMS: list[Any] = []


def program(function: Program) -> Program:
    """A program whose values, types of errors and messages are the same."""
    PROGRAMS.append(pytest.param(function, True, id=function.__name__))
    return function


def in_other_words(function: Program) -> Program:
    """A program whose error is worded in another way."""
    PROGRAMS.append(pytest.param(function, False, id=function.__name__))
    return function


def function_of(lib: Any, forward: Any, backward: Any = None, **others: Any) -> Any:
    methods = {"forward": forward, **({} if backward is None else {"backward": backward}), **others}
    return type("Mine", (lib.Function,), {name: staticmethod(method) for name, method in methods.items()})


# requires_grad, leaves ------------------------------------------------------------------------------


@program
def which_are_leaves(lib):
    x, y = lib.leaf([1.0]), lib.tensor([1.0])
    with lib.module.no_grad():
        z = x * 2
    return [(t.is_leaf, t.requires_grad) for t in (x, y, y * 2, x * 2, z, x.detach(), x.clone(), x.double())]


@program
def what_gives_the_very_tensor(lib):
    x = lib.leaf([1.0])
    return x.float() is x, x.to(x.dtype) is x, x.to("cpu") is x, x.requires_grad_() is x, x.double() is x


@program
def what_has_no_gradient(lib):
    x = lib.leaf([1.5, 2.0])
    found = [x > 1, x == x, x.argmax(), lib.module.isnan(x), x.long(), lib.module.zeros_like(x)]
    return [t.requires_grad for t in found]


@program
def what_has_a_zero_gradient(lib):
    x = lib.leaf([1.5, -2.0])
    names = ("floor", "ceil", "round", "sign", "trunc")
    return [lib.grad(getattr(lib.module, name)(x).sum(), x) for name in names]


@program
def only_floats_may(lib):
    lib.tensor([1, 2]).requires_grad = True


@in_other_words
def only_floats_may_be_made(lib):
    lib.leaf([1, 2])


@program
def complex_numbers_may(lib):
    return lib.leaf([1j]).requires_grad


@program
def the_flag_of_a_computed_tensor(lib):
    (lib.leaf([1.0]) * 2).requires_grad = False


@program
def the_flag_is_a_bool(lib):
    lib.tensor([1.0]).requires_grad = 1


# backward -------------------------------------------------------------------------------------------


@program
def of_several_elements(lib):
    (lib.leaf([1.0, 2.0]) * 2).backward()


@program
def of_one_element(lib):
    x = lib.leaf([[3.0]])
    (x * x).backward()
    return x.grad


@program
def with_a_gradient_of_another_shape(lib):
    (lib.leaf([1.0, 2.0]) * 2).backward(lib.ones(3))


@program
def with_a_gradient_of_another_dtype(lib):
    x = lib.leaf([1.0, 2.0])
    (x * 2).backward(lib.tensor([1.0, 2.0], "float64"))
    return x.grad


@program
def with_a_complex_gradient_of_a_real(lib):
    (lib.leaf([1.0, 2.0]) * 2).backward(lib.tensor([1j, 2.0]))


@program
def with_a_real_gradient_of_a_complex(lib):
    (lib.leaf([1j, 2.0]) * 2).backward(lib.tensor([1.0, 2.0]))


@program
def of_one_complex_number(lib):
    (lib.leaf(1j) * 2).backward()


@program
def with_a_list(lib):
    (lib.leaf([1.0, 2.0]) * 2).backward([1.0, 2.0])


@program
def of_what_has_no_graph(lib):
    lib.ones(()).backward()


@program
def of_a_leaf(lib):
    x = lib.leaf(3.0)
    x.backward()
    return x.grad


@in_other_words
def for_no_inputs(lib):
    lib.leaf(3.0).backward(inputs=[])


@program
def for_some_inputs(lib):
    a, b, c = lib.leaf([1.0]), lib.leaf([2.0]), lib.leaf([3.0])
    (a * b).backward(inputs=[a, c], retain_graph=True)
    (a * b).backward(inputs=a)
    return a.grad, b.grad, c.grad


@program
def for_a_computed_input(lib):
    a = lib.leaf([1.0])
    hidden = a * 2
    (hidden * hidden).backward(inputs=[hidden])
    return hidden.grad, a.grad


@program
def of_several_tensors(lib):
    x = lib.leaf([2.0])
    lib.backward([x * 3, x * x], [lib.ones(1), lib.tensor([10.0])])
    lib.backward([x * 3, x * x], [None, lib.ones(1)])
    lib.backward(x * 3, (lib.ones(1),))
    return x.grad


@program
def of_several_tensors_and_too_few_gradients(lib):
    x = lib.leaf([2.0])
    lib.backward([x * 3, x * x], [lib.ones(1)])


@program
def of_several_tensors_and_one_gradient(lib):
    x = lib.leaf([2.0])
    lib.backward([x * 3, x * x], lib.ones(1))


@program
def with_a_gradient_that_wants_one(lib):
    x, g = lib.leaf([2.0]), lib.leaf([1.0])
    (x * x).backward(g)
    return x.grad, x.grad.requires_grad


@program
def the_gradient_of_a_computed_tensor(lib):
    x = lib.leaf([2.0])
    y = x * 2
    (y * y).backward()
    return y.grad


@program
def retained_gradients(lib):
    x = lib.leaf([2.0])
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    x.retain_grad()
    (y * y).backward()
    return y.grad, y.retains_grad, x.retains_grad, x.grad


@program
def retaining_without_a_gradient(lib):
    lib.ones(2).retain_grad()


# .grad ----------------------------------------------------------------------------------------------


@program
def gradients_add_up(lib):
    x = lib.leaf([1.0, 2.0])
    (x * 2).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    same = first is x.grad
    (x * x).sum().backward(create_graph=True)
    return same, first is x.grad, first, x.grad, x.grad.requires_grad, first.requires_grad, x.grad.is_leaf


@program
def gradients_that_are_zeroed_or_taken_away(lib):
    x = lib.leaf([1.0])
    (x * 2).sum().backward()
    x.grad.zero_()
    (x * 3).sum().backward()
    found = x.grad.tolist()
    x.grad = None
    (x * 4).sum().backward()
    found += x.grad.tolist()
    del x.grad
    return found, x.grad


@program
def a_given_gradient_is_copied(lib):
    x, given = lib.leaf([1.0]), lib.ones(1)
    (x * 1).backward(given)
    with lib.module.no_grad():
        x.grad.add_(5)
    return given


@in_other_words
def a_gradient_of_another_size(lib):
    lib.leaf([1.0, 2.0]).grad = lib.ones(3)


@in_other_words
def a_gradient_of_another_type(lib):
    lib.leaf([1.0, 2.0]).grad = lib.tensor([1.0, 2.0], "float64")


@in_other_words
def a_gradient_that_is_a_list(lib):
    lib.leaf([1.0]).grad = [1.0]


@program
def a_gradient_that_is_the_tensor(lib):
    x = lib.leaf([1.0])
    x.grad = x


@program
def gradients_of_mixed_dtypes(lib):
    a, b, n = lib.leaf([2.0]), lib.leaf([3.0], "float64"), lib.tensor([5])
    (a * b * n).sum().backward()
    return a.grad, b.grad, n.grad


# retain_graph, create_graph -------------------------------------------------------------------------


@program
def twice(lib):
    y = (lib.leaf([1.0]) ** 2).sum()
    y.backward()
    try:
        y.backward()
    except RuntimeError as error:
        return str(error).split(". ")[0]


@program
def through_what_another_has_freed(lib):
    x = lib.leaf([2.0])
    shared = x * x
    (shared * 2).backward()
    try:
        (shared * 3).backward()
    except RuntimeError as error:
        return str(error).split(". ")[0]


@program
def retained(lib):
    x = lib.leaf([2.0])
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    z = x**3
    (g,) = lib.grad(z, x, create_graph=True)
    return x.grad, lib.grad(g, x, retain_graph=True), lib.grad(g, x), g.detach()


@program
def a_graph_that_is_made_but_not_retained(lib):
    x = lib.leaf([2.0])
    (g,) = lib.grad(x * x * x, x, create_graph=True, retain_graph=False)
    lib.grad(g, x)
    lib.grad(g, x)


@program
def a_line_has_no_second_derivative(lib):
    x = lib.leaf([2.0])
    (g,) = lib.grad((x * 3).sum(), x, create_graph=True)
    return g, g.requires_grad


@program
def of_the_largest_of_squares(lib):
    x = lib.leaf([2.0, -1.0, 0.0])
    (g,) = lib.grad((x * x).max(), x, create_graph=True)
    return g.detach(), lib.grad(g.sum(), x)


@program
def the_third_derivative(lib):
    x = lib.leaf([0.3, -0.7], "float64")
    value = lib.module.tanh(x).sum()
    for _ in range(3):
        (g,) = lib.grad(value, x, create_graph=True)
        value = g.sum()
    return g.detach()


# Modes ----------------------------------------------------------------------------------------------


@program
def within_no_grad(lib):
    x = lib.leaf([2.0])
    with lib.module.no_grad():
        made = lib.module.ones(2, requires_grad=True), lib.ones(2).requires_grad_(), lib.leaf([1.0])
        with lib.module.enable_grad():
            inside = x * 2
        outside = x * 2
    return [t.requires_grad for t in (*made, inside, outside)]


@program
def set_by_a_call(lib):
    enabled = lib.module.is_grad_enabled
    lib.module.set_grad_enabled(False)
    found = [enabled()]
    prepared = lib.module.set_grad_enabled(True)
    found.append(enabled())
    with prepared:
        found.append(enabled())
    found.append(enabled())

    @lib.module.set_grad_enabled(True)
    def decorated():
        return enabled()

    found += [enabled(), decorated(), enabled()]
    lib.module.set_grad_enabled(True)
    return found


@program
def decorated_without_parentheses(lib):
    enabled, m = lib.module.is_grad_enabled, lib.module
    found = [m.no_grad(enabled)(), m.inference_mode(enabled)(), m.enable_grad(enabled)()]
    with m.no_grad():
        found.append(m.enable_grad(enabled)())
    return found, enabled()


@program
def a_decorated_generator(lib):
    enabled, found = lib.module.is_grad_enabled, []

    @lib.module.no_grad()
    def generate():
        try:
            while True:
                try:
                    found.append((yield enabled()))
                except KeyError:
                    yield "caught", enabled()
                    return 7
        finally:
            found.append(enabled())

    generator = generate()
    found += [next(generator), generator.send("a"), enabled(), generator.throw(KeyError())]
    try:
        next(generator)
    except StopIteration as stop:
        found.append(stop.value)
    generator = generate()
    next(generator)
    generator.close()
    return found, enabled()


@program
def backward_within_no_grad(lib):
    x = lib.leaf([2.0])
    y = x * x * x
    with lib.module.no_grad():
        (g,) = lib.grad(y, x, create_graph=True)
        y.backward(retain_graph=True)
    return x.grad, lib.grad(g, x)


@program
def inference_mode_off(lib):
    with lib.module.no_grad(), lib.module.inference_mode(False):
        return lib.module.is_grad_enabled()


# detach, data, numbers ------------------------------------------------------------------------------


@program
def as_an_array(lib):
    return lib.leaf([1.0]).numpy()


@program
def as_an_array_within_no_grad(lib):
    with lib.module.no_grad():
        return lib.leaf([1.0]).numpy().tolist(), np.asarray(lib.leaf([2.0])).tolist()


@program
def as_an_array_by_force(lib):
    return lib.leaf([1.0]).numpy(force=True).tolist()


@program
def numbers(lib):
    x = lib.leaf([3.5])
    return int(x), float(x), bool(x), x.item(), complex(lib.tensor(1 + 2j)), [10, 11][lib.tensor(1)], f"{x[0]:.2f}"


@program
def an_item_of_two(lib):
    lib.ones(2).item()


@program
def an_item_of_none(lib):
    lib.module.zeros((0,)).item()


@program
def a_float_of_two(lib):
    float(lib.ones(2))


@program
def a_condition_of_two(lib):
    bool(lib.ones(2))


@program
def a_condition_of_none(lib):
    bool(lib.module.zeros((0,)))


@program
def an_index_that_is_a_float(lib):
    [1, 2][lib.tensor(1.0)]


@program
def detached_in_place(lib):
    x = lib.leaf([1.0])
    y = x * 2
    return y.detach_() is y, y.requires_grad, y.is_leaf, x.detach_().requires_grad


@program
def data(lib):
    x = lib.leaf([1.0])
    y = x * 2
    before = y.data.requires_grad, y.data
    x.data = lib.ones(1) * 5
    return before, x.detach(), x.requires_grad, x.is_leaf


@program
def data_of_another_type(lib):
    x = lib.leaf([1.0])
    x.data = lib.ones(3, dtype=lib.module.float64)
    return x.detach(), x.requires_grad


@program
def data_that_is_a_number(lib):
    lib.leaf([1.0]).data = 3


@program
def a_deep_copy(lib):
    x = lib.leaf([1.0])
    (x * 2).backward()
    y = copy.deepcopy({"x": [x, x]})["x"]
    return y[0] is y[1], y[0].detach(), y[0].requires_grad, y[0].grad, y[0].grad is x.grad


@in_other_words
def a_deep_copy_of_a_computed_tensor(lib):
    copy.deepcopy(lib.leaf([1.0]) * 2)


# In place -------------------------------------------------------------------------------------------


@program
def a_leaf_in_place(lib):
    lib.leaf([1.0]).add_(1)


@program
def a_leaf_in_place_by_an_operator(lib):
    x = lib.leaf([1.0])
    x += 1


@program
def a_leaf_in_place_within_no_grad(lib):
    x, y = lib.leaf([1.0]), lib.zeros(1)
    with lib.module.no_grad():
        x.add_(1)
        x[0] = x[0] * 5
        y.add_(x)
    return x.detach(), x.requires_grad, x.is_leaf, y.requires_grad


@program
def histories_in_place(lib):
    x, v, w = lib.leaf([1.0, 2.0, 3.0]), lib.leaf([5.0]), lib.leaf(2.0)
    y = x * 1
    y[1:] = v
    z = lib.zeros(3)
    z.copy_(v)
    z.mul_(y)
    filled = x * 2
    filled.fill_(w)
    zeroed = x * 3
    zeroed.zero_()
    ((y + z) * lib.tensor([1.0, 10.0, 100.0]) + filled + zeroed).sum().backward()
    return x.grad, v.grad, w.grad, z.is_leaf


@program
def other_dtypes_in_place(lib):
    x = lib.ones(2).add_(lib.tensor([1.0, 2.0], "float64"))
    n = lib.tensor([1, 2], "int32").mul_(lib.tensor([3, 4]))
    n[0] = 2.7
    return x, n


@program
def a_float_into_integers(lib):
    lib.tensor([1]).add_(0.5)


@program
def a_quotient_into_integers(lib):
    lib.tensor([3]).div_(2)


@program
def an_integer_into_bools(lib):
    x = lib.tensor([True])
    x += 1


@program
def a_larger_shape_in_place(lib):
    lib.ones(3).add_(lib.ones(2, 3))


# grad -----------------------------------------------------------------------------------------------


@program
def grad_gives_a_tuple(lib):
    x, y = lib.leaf([1.0, 2.0]), lib.leaf([3.0])
    hidden = x * 2
    found = lib.grad((hidden * hidden).sum() + y.sum(), [x, hidden, x, y])
    return isinstance(found, tuple), found, x.grad


@program
def grad_of_the_very_tensor(lib):
    x = lib.leaf([3.0])
    return lib.grad(x, x), lib.grad([x * 2, x * 3], x, [None, lib.ones(1)])


@in_other_words
def grad_of_what_is_not_used(lib):
    lib.grad(lib.leaf([1.0]).sum(), [lib.leaf([1.0])])


@program
def grad_that_allows_it(lib):
    x, y = lib.leaf([1.0]), lib.leaf([1.0])
    return lib.grad(x.sum(), [x, y], allow_unused=True), lib.grad(x.sum(), [x, y], materialize_grads=True)


@program
def grad_that_contradicts_itself(lib):
    x = lib.leaf([1.0])
    lib.grad(x.sum(), x, allow_unused=False, materialize_grads=True)


@program
def grad_of_what_does_not_want_one(lib):
    lib.grad(lib.leaf([1.0]).sum(), lib.ones(1))


@program
def grad_of_what_has_no_graph(lib):
    lib.grad(lib.ones(()), lib.leaf([1.0]))


@program
def grad_with_too_few_gradients(lib):
    x = lib.leaf([3.0])
    lib.grad([x * x, x], x, [lib.ones(1)])


@in_other_words
def grad_for_nothing(lib):
    lib.grad(lib.leaf([1.0]).sum(), [])


@program
def grad_of_batches(lib):
    x, y = lib.leaf([1.0, 2.0]), lib.leaf([3.0])
    rows = lib.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    loss = (x * x).sum()
    return (
        lib.grad(x * x, x, rows, is_grads_batched=True),
        lib.grad(loss, [x, y], lib.tensor([1.0, 2.0]), is_grads_batched=True, allow_unused=True),
    )


# Hooks ----------------------------------------------------------------------------------------------


@program
def hooks_in_order(lib):
    x, found = lib.leaf([2.0]), []
    y = x * 2
    y.register_hook(lambda g: found.append(g.tolist()))
    y.retain_grad()
    y.register_hook(lambda g: g * 5)
    x.register_hook(lambda g: found.append((g.tolist(), x.grad)))
    x.register_hook(lambda g: g * 3)
    x.register_post_accumulate_grad_hook(lambda leaf: found.append(leaf.grad.tolist()))
    (y * 2 + y * 3).backward()
    return found, y.grad, x.grad


@program
def hooks_of_grad(lib):
    x = lib.leaf([2.0])
    x.register_hook(lambda g: g * 5)
    y = x * 2
    y.register_hook(lambda g: g * 7)
    return lib.grad(y * 3, x), lib.grad(y * 3, y)


@program
def a_hook_that_removes_itself(lib):
    x, found = lib.leaf([2.0]), []

    def hook(gradient):
        found.append(gradient.item())
        handle.remove()

    handle = x.register_hook(hook)
    y = x * 2
    y.backward(retain_graph=True)
    y.backward()
    return found


@program
def hooks_of_a_tensor_that_changes(lib):
    x, found = lib.leaf([2.0]), []
    y = x * 1
    y.register_hook(lambda g: found.append(("before", g.tolist())))
    y.mul_(3)
    y.register_hook(lambda g: found.append(("after", g.tolist())))
    (y * 5).sum().backward()
    return found


@program
def a_hook_after_the_gradient(lib):
    x = lib.leaf([2.0])

    def take_away(leaf):
        leaf.grad = None

    x.register_post_accumulate_grad_hook(take_away)
    (x * 2).backward()
    return x.grad


@program
def a_hook_without_a_gradient(lib):
    lib.ones(1).register_hook(print)


@program
def a_hook_after_the_gradient_of_a_computed_tensor(lib):
    (lib.leaf([1.0]) * 2).register_post_accumulate_grad_hook(print)


@program
def a_hook_after_the_gradient_of_none(lib):
    lib.ones(1).register_post_accumulate_grad_hook(print)


@in_other_words
def a_hook_that_gives_a_number(lib):
    x = lib.leaf([2.0])
    x.register_hook(lambda g: 1.0)
    (x * 2).backward()


@in_other_words
def a_hook_that_gives_another_shape(lib):
    x = lib.leaf([2.0, 3.0])
    x.register_hook(lambda g: g.sum())
    (x * 2).sum().backward()


@program
def a_hook_that_raises(lib):
    def hook(gradient):
        raise KeyError("mine")

    x = lib.leaf([2.0])
    x.register_hook(hook)
    (x * 2).backward()


# Function -------------------------------------------------------------------------------------------


@program
def too_few_gradients(lib):
    mine = function_of(lib, lambda ctx, x, y: x * y, lambda ctx, g: g)
    mine.apply(lib.leaf([1.0]), lib.leaf([1.0])).backward()


@program
def too_many_gradients(lib):
    function_of(lib, lambda ctx, x: x * 1, lambda ctx, g: (g, g)).apply(lib.leaf([1.0])).backward()


@program
def more_nones(lib):
    x = lib.leaf([1.0])
    function_of(lib, lambda ctx, x: x * 1, lambda ctx, g: (g, None, None)).apply(x).backward()
    return x.grad


@program
def a_gradient_that_does_not_fit(lib):
    x = lib.leaf([1.0, 2.0, 3.0])
    function_of(lib, lambda ctx, x: x * 1, lambda ctx, g: lib.ones(2)).apply(x).sum().backward()


@program
def gradients_that_are_made_to_fit(lib):
    found = []
    for gradient in (lib.ones(2, 3), lib.ones(3).double()):
        x = lib.leaf([1.0, 2.0, 3.0])
        function_of(lib, lambda ctx, x: x * 1, lambda ctx, g, given=gradient: given).apply(x).sum().backward()
        found.append(x.grad)
    return found


@program
def a_gradient_for_a_number(lib):
    function_of(lib, lambda ctx, x, k: x * k, lambda ctx, g: (g, g)).apply(lib.leaf([1.0]), 2.0).backward()


@program
def what_functions_return(lib):
    def forward(ctx, x):
        ctx.mark_non_differentiable(fixed := x * 3)
        return x * 2, fixed, x.argmax(), "text", None

    x = lib.leaf([1.0, 2.0])
    y, fixed, position, text, nothing = function_of(lib, forward, lambda ctx, *g: g[0]).apply(x)
    y.sum().backward()
    return x.grad, y.requires_grad, fixed.requires_grad, position.requires_grad, text, nothing


@program
def gradients_that_are_missing(lib):
    found = []

    def forward(ctx, x, materialize):
        ctx.set_materialize_grads(materialize)
        return x * 2, x * 3

    def backward(ctx, g, h):
        found.append((g is None, h is None))
        return g, None

    for materialize in (True, False):
        function_of(lib, forward, backward).apply(lib.leaf([1.0]), materialize)[0].backward()
    return found


@program
def an_input_that_is_returned(lib):
    x = lib.leaf([1.0])
    y = function_of(lib, lambda ctx, x: x, lambda ctx, g: g * 10).apply(x)
    y.sum().backward()
    return y is x, y.is_leaf, x.grad


@program
def one_input_twice(lib):
    x = lib.leaf([2.0])
    function_of(lib, lambda ctx, a, b: a * b, lambda ctx, g: (g * 1, g * 10)).apply(x, x).backward()
    return x.grad


@program
def what_is_recorded_within_functions(lib):
    found = []

    def forward(ctx, x, y):
        found.append((lib.module.is_grad_enabled(), ctx.needs_input_grad))
        return x * 1

    def backward(ctx, g):
        found.append(lib.module.is_grad_enabled())
        return g, None

    x = lib.leaf([1.0])
    lib.grad(function_of(lib, forward, backward).apply(x, lib.ones(1)), x)
    lib.grad(function_of(lib, forward, backward).apply(x, 3), x, create_graph=True)
    return found


@program
def saved_tensors(lib):
    def forward(ctx, x, k):
        ctx.save_for_backward(x, None)
        ctx.k = k
        return x**3

    def backward(ctx, g):
        x, nothing = ctx.saved_tensors
        return g * ctx.k * x**2, nothing

    x = lib.leaf([2.0])
    y = function_of(lib, forward, backward).apply(x, 3)
    (g,) = lib.grad(y, x, create_graph=True)
    (h,) = lib.grad(g, x, create_graph=True)
    found = g.detach(), h.detach(), lib.grad(h, x)
    y.backward()
    try:
        y.backward()
    except RuntimeError as error:
        return found, str(error).split(". ")[0]


@program
def with_setup_context(lib):
    def setup(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], output)
        ctx.k = inputs[1]

    mine = function_of(lib, lambda x, k: x * k, lambda ctx, g: (g * ctx.k, None), setup_context=setup)
    x = lib.leaf([2.0])
    mine.apply(x, 3.0).backward()
    return x.grad


@program
def changed_in_place(lib):
    def forward(ctx, x):
        x.add_(1)
        ctx.mark_dirty(x)
        return x

    x = lib.leaf([2.0])
    y = x * 1
    z = function_of(lib, forward, lambda ctx, g: g * 7).apply(y)
    same, now = z is y, y.tolist()
    z.sum().backward()
    return same, now, x.grad


@program
def a_leaf_changed_in_place(lib):
    def forward(ctx, x):
        x.add_(1)
        ctx.mark_dirty(x)
        return x

    function_of(lib, forward, lambda ctx, g: g).apply(lib.leaf([2.0]))


@in_other_words
def a_function_that_is_differentiable_once(lib):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g

    x, weight = lib.leaf([3.0]), lib.leaf([1.0])
    y = function_of(lib, forward, lib.once_differentiable(backward)).apply(x)
    (g,) = lib.grad(y, x, weight, create_graph=True)
    lib.grad(g, weight)


@program
def what_it_is_called(lib):
    y = function_of(lib, lambda ctx, x: x * 2, lambda ctx, g: g).apply(lib.leaf([2.0]))
    return "MineBackward" in repr(y), y.grad_fn.name()


@program
def a_function_without_backward_is_missing_it(lib):
    try:
        function_of(lib, lambda ctx, x: x * 2).apply(lib.leaf([2.0])).backward()
    except NotImplementedError:
        return "NotImplementedError"


# Shapes and dtypes ----------------------------------------------------------------------------------


@program
def gradients_are_summed_to_the_operands_shapes(lib):
    found = []
    for a, b in (((3, 4), (4,)), ((3, 1), (1, 4)), ((), (0, 3)), ((1, 3), (0, 3)), ((2, 1, 3), (5, 1))):
        x, y = (lib.module.ones(shape, dtype=lib.module.float64, requires_grad=True) for shape in (a, b))
        (x * y * 2).sum().backward()
        found += [x.grad, y.grad]
    return found


@program
def gradients_of_parts(lib):
    x = lib.leaf([1.0, 2.0, 3.0, 4.0])
    weights = lib.tensor([1.0, 10.0, 100.0])
    parts = [x[[0, 0, 2]] * weights, x[::2], x[1:3] * 5, x[-1] * 7, x.expand(2, 4)[1]]
    parts += [x.reshape(2, 2).T[0], lib.module.stack([x, x])[1], lib.module.flip(x, (0,)) * 3, x[x > 2] * 9]
    return [lib.grad(part.sum(), x) for part in parts]


@program
def narrow_floats(lib):
    x = lib.module.ones(3, dtype=lib.module.float16, requires_grad=True)
    y = lib.leaf([1.0, 2.0, 3.0])
    (x * y).sum().backward()
    return x.grad, y.grad, lib.module.ones((70000,), dtype=lib.module.float16).sum(), lib.tensor([True, True]).sum()


# Running them ---------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Tensors as dtype, shape and numbers."""
    if isinstance(value, tj.Tensor | torch.Tensor):
        numbers = value.detach().numpy()
        rounded = numbers.astype(np.float64).round(5) if numbers.dtype.kind == "f" else numbers
        return str(value.dtype).removeprefix("torch."), tuple(value.shape), rounded.tolist()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def outcome(lib: Any, program: Program) -> tuple[str, Any]:
    lib.module.set_grad_enabled(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return "value", plain(program(lib))
        except Exception as error:
            return type(error).__name__, in_our_words(str(error).split("\n")[0])


def in_our_words(message: str) -> str:
    """PyTorch's messages with shapes and dtypes as they are written here."""
    message = message.removesuffix(" (A loss or hidden state that is carried over iterations wants .detach().)")
    message = re.sub(r"torch\.Size\(\[(.*?)\]\)", lambda found: str(tuple(map(int, found[1].split(", ")))), message)
    message = re.sub(r"shape \[(.*?)\]", lambda found: f"shape {tuple(map(int, found[1].split(', ')))}", message)
    for theirs, ours in (("Float", "float32"), ("Long", "int64"), ("Bool", "bool"), ("torch.", "")):
        message = re.sub(rf"\b{re.escape(theirs)}(?=[a-z ]|$)", ours, message)
    return message.removesuffix(", got dtype int64 and shape (2,)").replace(
        "floating point and complex", "floating point"
    )


@pytest.mark.parametrize(("program", "same_words"), PROGRAMS)
def test_program(program: Program, same_words: bool) -> None:
    (kind, ours), (expected_kind, theirs) = outcome(TRACEJIT, program), outcome(PYTORCH, program)
    assert (kind, ours) == (expected_kind, theirs if same_words or kind == "value" else ours)
