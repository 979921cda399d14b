"""Hooks of modules: what they see, what they replace, and what a jitted function makes of them."""

import copy

import numpy as np
import pytest

import tracejit as tj
from tracejit import nn


def doubler():
    layer = nn.Linear(2, 2, bias=False)
    layer.load_state_dict({"weight": tj.eye(2) * 2})
    return layer


def test_forward_hooks_see_and_replace():
    layer, seen = doubler(), []
    layer.register_forward_pre_hook(lambda module, args: seen.append(("pre", len(args))))
    layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
    layer.register_forward_hook(lambda module, args, output: output * 10)
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(output.tolist()))
    assert layer(tj.tensor([1.0, 2.0])).tolist() == [40.0, 60.0]
    assert seen == [("pre", 1), [40.0, 60.0]]
    handle.remove()
    layer(tj.tensor([1.0, 2.0]))
    assert len(seen) == 3


def test_order_and_keyword_arguments():
    class Scale(nn.Module):
        def forward(self, x, factor=1.0):
            return x * factor

    layer, seen = Scale(), []
    layer.register_forward_hook(lambda module, args, output: seen.append("second"))
    layer.register_forward_hook(lambda module, args, output: seen.append("first"), prepend=True)
    layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": kwargs["factor"] * 2}), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, kwargs, output: output + kwargs["factor"], with_kwargs=True)
    assert layer(tj.ones(1), factor=3.0).tolist() == [12.0]
    assert seen == ["first", "second"]


def test_backward_hooks():
    layer, seen = doubler(), []
    layer.register_full_backward_pre_hook(lambda module, outputs: (outputs[0] * 3,))
    layer.register_full_backward_hook(lambda m, inputs, outputs: seen.append((inputs[0].tolist(), outputs[0].tolist())))
    layer.register_full_backward_hook(lambda module, inputs, outputs: inputs[0] + 1)
    x = tj.tensor([[1.0, 2.0]], requires_grad=True)
    layer(x).sum().backward()
    assert seen == [([[6.0, 6.0]], [[3.0, 3.0]])]
    assert x.grad.tolist() == [[7.0, 7.0]]
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [[3.0, 6.0], [3.0, 6.0]])


def test_backward_hook_where_no_input_needs_a_gradient():
    layer, seen = doubler(), []
    layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append((inputs, outputs[0].tolist())))
    layer(tj.ones(1, 2)).sum().backward()
    assert seen == [((None,), [[1.0, 1.0]])]


def test_a_hook_that_returns_too_much():
    layer = doubler()
    layer.register_full_backward_hook(lambda module, inputs, outputs: (None, None))
    with pytest.raises(RuntimeError, match="returned an invalid number of grad_input, got 2, but expected 1"):
        layer(tj.ones(1, 2, requires_grad=True)).sum().backward()


def test_compiled():
    layer = doubler()
    handles = [
        layer.register_forward_hook(lambda module, args, output: output * 10),
        layer.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 5,)),
    ]

    def gradient(x):
        x = x.detach().requires_grad_()
        layer.zero_grad()
        layer(x).sum().backward()
        return x.grad

    compiled = tj.jit(gradient)
    x = tj.ones(1, 2)
    assert compiled(x).tolist() == gradient(x).tolist() == [[100.0, 100.0]]
    for handle in handles:
        handle.remove()
    assert compiled(x).tolist() == [[2.0, 2.0]]
    assert (compiled.cache_info().misses, compiled.cache_info().lazy) == (2, 0)


def test_a_copy_has_hooks_of_its_own():
    layer = doubler()
    layer.register_forward_hook(lambda module, args, output: output * 10)
    twin = copy.deepcopy(layer)
    twin.register_forward_hook(lambda module, args, output: output * 10)
    assert (layer(tj.ones(2)).tolist(), twin(tj.ones(2)).tolist()) == ([20.0, 20.0], [200.0, 200.0])
