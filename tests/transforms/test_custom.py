"""Functions with derivatives of their own: that the given rule is used, and how it is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import tracejit as tj
from tests.transforms.test_derivatives import lists

pytestmark = pytest.mark.usefixtures("first_code_only")


def marked_vjp() -> Any:
    """Twice its argument, with a derivative of 10: the rule cannot be mistaken for the truth."""

    @tj.custom_vjp
    def f(x: Any) -> Any:
        return 2 * x

    f.defvjp(lambda x: (2 * x, None), lambda residuals, cotangent: (10 * cotangent,))
    return f


def marked_jvp() -> Any:
    @tj.custom_jvp
    def f(x: Any) -> Any:
        return 2 * x

    f.defjvp(lambda primals, tangents: (2 * primals[0], 10 * tangents[0]))
    return f


class Marked(tj.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return 10 * gradient


@pytest.mark.parametrize("f", [marked_vjp(), marked_jvp(), Marked.apply], ids=["vjp", "jvp", "Function"])
def test_the_rule_is_used(f: Any) -> None:
    x = tj.tensor([1.0, 2.0])
    total = lambda x: f(x).sum()  # noqa: E731
    for run in (lambda f: f, tj.jit):
        assert run(f)(x).tolist() == [2, 4]
        assert run(tj.grad(total))(x).tolist() == [10, 10]
        assert run(lambda x: tj.jvp(f, (x,), (x,)))(x)[1].tolist() == [10, 20]
        assert run(tj.vmap(f))(x).tolist() == [2, 4]
        assert run(tj.vmap(tj.grad(f)))(x).tolist() == [10, 10]
        assert run(tj.grad(lambda x: tj.vmap(f)(x).sum()))(x).tolist() == [10, 10]
        assert run(lambda x: tj.jvp(tj.vmap(f), (x,), (x,))[1])(x).tolist() == [10, 20]
        assert run(tj.grad(lambda x: tj.grad(total)(x).sum() + 0 * x.sum()))(x).tolist() == [0, 0]
        assert run(tj.grad(lambda x: f(f(x)).sum()))(x).tolist() == [100, 100]
        assert run(tj.linearize(f, x)[1])(x).tolist() == [10, 20]
        leaf = x.clone().requires_grad_()
        run(total)(leaf).backward()
        assert leaf.grad is not None
        assert leaf.grad.tolist() == [10, 10]


BLOCKS: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "cond": lambda f: lambda x: tj.cond(x.sum() > 0, f, lambda x: x, x),
    "either": lambda f: lambda x: tj.cond(x.sum() > 0, lambda x: f(x), lambda x: f(-x), x),
    "scan": lambda f: lambda x: tj.scan(lambda c, _: (f(c), None), x, length=1)[0],
    "while_loop": lambda f: lambda x: tj.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, f(s[1])), (0, x))[1],
    "cond in scan": lambda f: BLOCKS["scan"](BLOCKS["cond"](f)),
    "a loop": lambda f: lambda x: looped(f, x),
}  # fmt: skip


def looped(f: Any, x: Any) -> Any:
    count = 0 * x.sum()
    while count < 1:
        x, count = f(x), count + 1
    return x


@pytest.mark.parametrize("f", [marked_vjp(), marked_jvp(), Marked.apply], ids=["vjp", "jvp", "Function"])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_rule_is_used_in_a_block(block: str, f: Any) -> None:
    x, within = tj.tensor([1.0, 2.0]), BLOCKS[block](f)
    total = lambda x: within(x).sum()  # noqa: E731
    for run in (lambda f: f, tj.jit):
        assert run(within)(x).tolist() == [2, 4]
        assert run(tj.grad(total))(x).tolist() == [10, 10]
        assert run(lambda x: tj.jvp(within, (x,), (x,)))(x)[1].tolist() == [10, 20]
        assert tj.jvp(run(within), (x,), (x,))[1].tolist() == [10, 20]
        assert tj.grad(run(total))(x).tolist() == [10, 10]
        assert run(tj.linearize(within, x)[1])(x).tolist() == [10, 20]
        assert run(tj.jacfwd(within))(x).tolist() == [[10, 0], [0, 10]]
        second = [tj.hvp(lambda x, g=g: (g(x) * x).sum(), (x,), (x,)).tolist() for g in (f, run(within))]
        assert second[0] == second[1]
    if block in ("cond", "scan", "cond in scan"):
        compiled = tj.jit(tj.grad(total))
        compiled(x)
        assert compiled.cache_info().lazy == 0, "it is recorded step by step, along a path"


@pytest.mark.parametrize("f", [marked_vjp(), marked_jvp(), Marked.apply], ids=["vjp", "jvp", "Function"])
def test_the_rule_is_used_where_elements_of_a_batch_part(f: Any) -> None:
    x = tj.tensor([1.0, -2.0, 3.0])
    chosen = lambda v: tj.cond(v > 0, f, lambda v: v * 3, v)  # noqa: E731
    switched = lambda v: tj.switch(v.astype(tj.int64), [lambda v: v, f, lambda v: -v], v)  # noqa: E731
    repeated = lambda v: tj.while_loop(lambda v: v < 5, f, tj.abs(v))  # noqa: E731
    for one in (chosen, switched, repeated):
        values, slopes = [one(v).item() for v in x], [tj.grad(one)(v).item() for v in x]
        for run in (lambda f: f, tj.jit):
            assert run(tj.vmap(one))(x).tolist() == values
            assert run(tj.vmap(tj.grad(one)))(x).tolist() == slopes
            assert run(tj.grad(lambda x, one=one: tj.vmap(one)(x).sum()))(x).tolist() == slopes
            assert run(lambda x, one=one: tj.jvp(tj.vmap(one), (x,), (tj.ones(3),))[1])(x).tolist() == slopes


def test_what_elements_tell_each_other_in_a_branch() -> None:
    f = lambda v: tj.cond(v > 0, lambda v: tj.psum(v, "all"), lambda v: v * 3, v)  # noqa: E731
    total = tj.zeros(())

    def changes(v: Any) -> Any:
        total.add_(1.0)
        return tj.psum(v, "all")

    x = tj.tensor([1.0, -2.0, 3.0])
    assert tj.vmap(f, axis_name="all")(x).tolist() == [2.0, -6.0, 2.0]
    with pytest.raises(RuntimeError, match="cond: changes changes a tensor from around it"):
        tj.vmap(lambda v: tj.cond(v > 0, changes, lambda v: v, v), axis_name="all")(x)


@pytest.mark.parametrize("f", [marked_vjp(), marked_jvp(), Marked.apply], ids=["vjp", "jvp", "Function"])
def test_the_rule_is_used_on_a_carry_that_is_constant_at_first(f: Any) -> None:
    x = tj.tensor(3.0)
    power = lambda x: tj.scan(lambda c, _: (f(c) * x, None), tj.tensor(1.0), length=2)[0]  # noqa: E731
    for run in (lambda f: f, tj.jit):  # 2 (2 x) x, whose second factor 2 counts as 10
        assert run(power)(x).item() == 36
        assert run(tj.grad(power))(x).item() == 10 * 2 * 3 + 2 * 2 * 3
        assert run(lambda x: tj.jvp(power, (x,), (tj.tensor(1.0),))[1])(x).item() == 10 * 2 * 3 + 2 * 2 * 3


def test_arguments_in_containers() -> None:
    @tj.custom_vjp
    def f(p: Any, scale: Any) -> Any:
        return {"y": p["a"] * p["b"][0] * scale, "n": p["a"].sum()}

    def backward(residuals: Any, cotangent: Any) -> Any:
        p, scale = residuals
        g = cotangent["y"]
        return {"a": g * p["b"][0] * scale + cotangent["n"], "b": [None]}, (g * p["a"]).sum()

    f.defvjp(lambda p, scale: (f(p, scale), (p, scale)), backward)
    p = {"a": tj.tensor([1.0, 2.0]), "b": [tj.tensor(3.0)]}
    gradient = tj.grad(lambda p, s: f(p, s)["y"].sum() + f(p, s)["n"], (0, 1))(p, 2.0)
    assert lists(gradient) == ({"a": [7, 7], "b": [0]}, 3)
    assert lists(f(p, scale=2.0)["y"]) == [6, 12]


def test_arguments_that_are_never_differentiated() -> None:
    @tj.custom_vjp
    def never(x: Any) -> Any:
        raise AssertionError

    def power(n: int, x: Any) -> Any:
        return x**n

    by_vjp = tj.custom_vjp(power, nondiff_argnums=(0,))
    by_vjp.defvjp(lambda n, x: (x**n, x), lambda n, x, g: (g * n * x ** (n - 1),))
    by_jvp = tj.custom_jvp(power, nondiff_argnums=(0,))
    by_jvp.defjvp(lambda n, primals, tangents: (primals[0] ** n, n * primals[0] ** (n - 1) * tangents[0]))
    for f in (by_vjp, by_jvp):
        assert tj.grad(lambda x, f=f: f(3, x))(2.0).item() == 12
        assert tj.vmap(tj.grad(lambda x, f=f: f(3, x)))(tj.tensor([1.0, 2.0])).tolist() == [3, 12]
        assert tj.jvp(lambda x, f=f: f(2, x), (3.0,), (1.0,))[1].item() == 6


def test_a_rule_for_each_argument() -> None:
    @tj.custom_jvp
    def f(x: Any, y: Any) -> Any:
        return x * y

    f.defjvps(lambda t, result, x, y: 10 * t * y, None)
    assert lists(tj.grad(f, (0, 1))(2.0, 3.0)) == (30, 0)


def test_methods() -> None:
    class Layer:
        scale = 2.0

        @tj.custom_jvp
        def call(self, x: Any) -> Any:
            return x * self.scale

    Layer.call.defjvp(lambda primals, tangents: (primals[0].call(primals[1]), 10 * tangents[1]))
    assert tj.grad(Layer().call)(1.0).item() == 10


def test_a_function_may_choose_its_own_jvp() -> None:
    class WithJvp(Marked):
        @staticmethod
        def jvp(ctx: Any, tangent: Any) -> Any:
            return 7 * tangent

    assert tj.jvp(WithJvp.apply, (1.0,), (1.0,))[1].item() == 10 * 0.7
    assert tj.grad(WithJvp.apply)(1.0).item() == 10


def test_context_of_a_function() -> None:
    """Attributes of any kind, outputs that are not tensors, inputs that are not differentiated."""

    class Scale(tj.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float, mask: Any) -> Any:
            ctx.factor, ctx.kept = factor, {"mask": mask, "cube": x * x * x}
            y = x * factor
            ctx.save_for_backward(y, None, x)
            return y, mask.sum(), "text"

        @staticmethod
        def backward(ctx: Any, gradient: Any, *others: Any) -> Any:
            y, nothing, x = ctx.saved_tensors
            assert nothing is None
            return gradient * ctx.factor * ctx.kept["mask"] * ctx.kept["cube"] / (x * x) + 0 * y, None, None

    mask = tj.tensor([1, 0, 1])
    f = lambda x: Scale.apply(x, 3.0, mask)[0].sum()  # noqa: E731
    x = tj.tensor([1.0, 2.0, 4.0])
    assert tj.grad(f)(x).tolist() == [3, 0, 12]
    assert tj.vmap(tj.grad(f))(tj.stack([x, 2 * x])).tolist() == [[3, 0, 12], [6, 0, 24]]
    assert tj.jvp(lambda x: Scale.apply(x, 3.0, mask)[0], (x,), (tj.ones(3),))[1].tolist() == [3, 0, 12]
    leaf = x.clone().requires_grad_()
    (gradient,) = tj.autograd.grad(f(leaf), leaf, create_graph=True)
    (bend,) = tj.autograd.grad(gradient.sum(), leaf)  # what forward has computed counts as constant
    assert tj.diag(tj.hessian(f)(x)).tolist() == bend.tolist() == [-6, 0, -6]
    assert tj.vmap(lambda x: Scale.apply(x, 3.0, mask)[1])(tj.stack([x, x])).tolist() == [2, 2]


def closes_over(kind: str) -> Callable[[Any], Any]:
    def outer(x: Any, argument: Any = None) -> Any:
        if kind == "vjp":
            f = tj.custom_vjp(lambda y: y * x)
            f.defvjp(lambda y: (y * x, None), lambda residuals, g: (g * x,))
        else:
            f = tj.custom_jvp(lambda y: y * x)
            f.defjvp(lambda primals, tangents: (primals[0] * x, tangents[0] * x))
        return f(x if argument is None else argument)

    return outer


@pytest.mark.parametrize("kind", ["vjp", "jvp"])
def test_what_is_transformed_must_be_an_argument(kind: str) -> None:
    for run in (tj.grad, lambda f: lambda x: tj.jvp(f, (x,), (x,)), lambda f: lambda x: tj.vmap(f)(tj.ones(2))):
        with pytest.raises(RuntimeError, match="reaches a tensor that is being transformed by another way"):
            run(closes_over(kind))(tj.tensor(2.0))
        with pytest.raises(RuntimeError, match="reaches a tensor that is being transformed by another way"):
            run(lambda x: closes_over(kind)(x, tj.tensor(3.0)))(tj.tensor(2.0))
    inner = lambda x: tj.grad(lambda y: tj.stop_gradient(closes_over(kind)(tj.tensor(2.0))) * y)(x)  # noqa: E731
    assert inner(tj.tensor(1.0)).item() == 4


def without_rule(kind: Any) -> Any:
    return kind(lambda x: x)(1.0)


def with_rules(forward: Any, backward: Any) -> Any:
    @tj.custom_vjp
    def f(x: Any) -> Any:
        return x

    f.defvjp(forward, backward)
    return tj.grad(lambda x: f(x).sum())(tj.ones(2))


def with_rule(rule: Any) -> Any:
    @tj.custom_jvp
    def f(x: Any) -> Any:
        return x

    f.defjvp(rule)
    return tj.grad(lambda x: f(x).sum())(tj.ones(2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.custom_vjp(3), TypeError, "custom_vjp expects a function, got int 3"),
        (lambda: without_rule(tj.custom_vjp), AttributeError, "No VJP defined for custom_vjp function <lambda>"),
        (lambda: without_rule(tj.custom_jvp), AttributeError, "No JVP defined for custom_jvp function <lambda>"),
        (lambda: with_rules(lambda x: x, None), TypeError, "defvjp expects a function, got NoneType"),
        (lambda: with_rules(lambda x: x, lambda r, g: (g,)), TypeError, "the forward rule of f must return a pair"),
        (lambda: with_rules(lambda x: (x, 0), lambda r, g: g), TypeError, "the backward rule of f must return a tuple"),
        (lambda: with_rules(lambda x: (x, 0), lambda r, g: (g, g)), TypeError, "built as the arguments, [*], got"),
        (
            lambda: with_rules(lambda x: (x, 0), lambda r, g: (g[0],)),
            ValueError,
            "shape () for the arguments[0]",
        ),
        (lambda: with_rules(lambda x: (x, 0), lambda r, g: (0.0,)), ValueError, "[0], which has shape (2,)"),
        (lambda: with_rule(lambda p, t: p[0]), TypeError, "the jvp rule of f must return a pair (output, tangent)"),
        (lambda: with_rule(lambda p, t: (p[0], (t[0],))), TypeError, "built as the output, *, got"),
        (
            lambda: with_rule(lambda p, t: (p[0], t[0].sum())),
            ValueError,
            "of shape () for the output, which",
        ),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert f"{__file__}:" in str(caught.value), "the message names the user's line"
