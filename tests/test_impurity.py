"""User's code that the library calls is watched while a function is traced: what it prints, it prints at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tracejit as tj
from tracejit import optim
from tracejit.tensor import Tensor

pytestmark = pytest.mark.filterwarnings("ignore")
Function = Callable[[Tensor, Tensor], Any]


def told(*arguments: Any) -> None:
    print("told")


class Telling(optim.SGD):
    def _update(self, *arguments: Any) -> None:
        told()
        super()._update(*arguments)


class Twice(tj.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        told()
        return gradient * 2


def _custom(x: Tensor, w: Tensor) -> None:
    twice: Any = tj.custom_vjp(lambda x: x * 2)
    twice.defvjp(lambda x: (x * 2, None), lambda _, gradient: (told(), (gradient * 2,))[1])
    twice(w * x).sum().backward()


def _hook(x: Tensor, w: Tensor) -> None:
    y = w * x
    y.register_hook(told)
    y.sum().backward()


def _closure(x: Tensor, w: Tensor) -> None:
    def closure() -> Tensor:
        told()
        loss = (w * x).sum()
        loss.backward()
        return loss

    optim.SGD([w], lr=0.1).step(closure)


def _optimizer(x: Tensor, w: Tensor) -> None:
    (w * x).sum().backward()
    Telling([w], lr=0.1).step()


CASES: dict[str, Function] = {
    "a hook": _hook,
    "a function's backward": lambda x, w: Twice.apply(w * x).sum().backward(),
    "a derivative": _custom,
    "what is computed again": lambda x, w: tj.checkpoint(lambda y: (told(), y * w)[1])(x).sum().backward(),
    "a closure": _closure,
    "an optimizer": _optimizer,
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_told_is_told_at_each_call(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(wrap: Callable[[Any], Any]) -> tuple[int, Any]:
        w = tj.ones(3, requires_grad=True)

        def step(x: Tensor) -> Any:
            w.grad = None
            CASES[case](x, w)
            return w.grad

        step = wrap(step)
        gradient = [step(tj.ones(3)) for _ in range(3)][-1]
        return capsys.readouterr().out.count("told"), gradient.tolist()

    assert run(tj.jit) == run(lambda function: function)


def test_names_are_read_off_the_code() -> None:
    """As ``dis`` tells them, which takes longer."""
    import argparse
    import dis
    import inspect

    from tracejit.names import _codes, named

    kinds = [("LOAD_GLOBAL", "LOAD_NAME"), ("IMPORT_NAME",), ("STORE_DEREF", "DELETE_DEREF"), ("STORE_GLOBAL",)]
    for module in (inspect, dis, argparse):
        code = compile(inspect.getsource(module), "module", "exec")
        for part in _codes(code):
            instructions = [each for inner in _codes(part) for each in dis.get_instructions(inner)]
            for kind in kinds:
                assert named(part, *kind) == {each.argval for each in instructions if each.opname in kind}
