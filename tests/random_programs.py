"""Whole Python functions, made at random: source text that a person can read, in a small world that they capture."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tracejit as tj

# The world of each program: what its functions capture.  ``x`` and ``y`` are vectors, all else tensors are 0-d.
PRELUDE = """\
import contextlib
import tracejit as tj
from tracejit import nn, optim

class State:
    def __init__(self):
        self.h, self.n, self.rate, self.flag = tj.tensor(0.25), 0, 0.5, True

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(tj.tensor(1.5)), nn.Parameter(tj.tensor(-0.25))

    def forward(self, v):
        return v * self.scale + self.shift if self.training else v * self.scale

state, net = State(), Net()
opt = optim.SGD(net.parameters(), lr=0.125, momentum=0.5)
generator = tj.random.Generator(7)
w, table, log, shown = tj.tensor(0.75), {"a": tj.tensor(-0.5), "k": 2}, [], []

def helper(v, by):
    return v * by if by > 0 else v - by

@tj.jit
def inner(v):
    return tj.tanh(v) * w

def look():
    params = [(p, p.grad) for p in net.parameters()]
    moments = [list(held.values()) for held in opt.state.values()]
    return vars(state), w, table, log, shown, params, moments, generator.position, net.training

"""
VECTORS, SCALARS, NUMBERS = ("a", "b", "c", "x", "y"), ("t", "u"), ("k", "m")
START = [
    "a, b, c = x, y * 1, x + w",
    "t, u = x.sum(), w * 1",
    "k, m = 1, 0.5",
]

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Writer:
    """Writes one function; ``simple`` things come first, for programs shrink towards them."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._loops = 0
        self._functions = 0

    def pick(self, *options: Any) -> Any:
        return self._draw(st.sampled_from(options))

    def write(self) -> str:
        lines = [
            *START,
            *self.block(3),
            f"return {self.pick('a, b, c, t, u, k, m', 'a', '[a, x, a]', '{1: b, 2: (t, k)}')}",
        ]
        return "\n".join(["def f(x, y, n, s):", *("    " + line for line in lines), ""])

    def block(self, depth: int, *, in_loop: bool = False) -> list[str]:
        lines: list[str] = []
        for _ in range(self._draw(st.integers(1, 3))):
            lines += self.statement(depth, in_loop)
        return lines

    # Statements -------------------------------------------------------------------------------------

    def statement(self, depth: int, in_loop: bool) -> list[str]:
        kinds = [self.assignment, self.update, self.captured, self.effect]
        if depth:
            kinds += [self.branch, self.branch, self.counted, self.repeated, self.guarded, self.nested]
        if in_loop:
            return self.leave() if self._draw(st.integers(0, 5)) == 5 else self.pick(*kinds)(depth)
        return self.pick(*kinds)(depth)

    def assignment(self, depth: int) -> list[str]:
        match self.pick("vector", "scalar", "number", "walrus", "list", "masked", "drawn", "gradient"):
            case "vector":
                return [f"{self.pick('a', 'b', 'c')} = {self.vector(2)}"]
            case "scalar":
                return [f"{self.pick(*SCALARS)} = {self.scalar(2)}"]
            case "number":
                return [f"{self.pick(*NUMBERS)} = {self.number(2)}"]
            case "walrus":
                return [f"a = (t := {self.scalar(1)}) * {self.vector(1)} + t"]
            case "list":
                return [f"a, b = [v * {self.number(1)} for v in ({self.vector(1)}, {self.vector(1)})]"]
            case "masked":
                name = self.pick("a", "b", "x")
                return [f"t = {name}[{name} > {self.number(1)}].sum()"]
            case "drawn":
                return [f"b = {self.vector(1)} + {self.pick('generator.uniform(b.shape)', 'tj.rand(b.shape)')}"]
        return [f"c = tj.grad(lambda v: (v * {self.vector(1)} * v).sum())({self.vector(1)})"]

    def update(self, depth: int) -> list[str]:
        name = self.pick(*VECTORS)
        return [
            self.pick(
                f"{name} += {self.vector(1)}",
                f"{name}[0] = {self.scalar(1)}",
                f"{name}[1:] *= {self.number(1)}",
                f"{name}.add_({self.vector(1)})",
                f"{self.pick(*SCALARS)} -= {self.scalar(1)}",
                f"{self.pick(*NUMBERS)} += {self.number(1)}",
            )
        ]

    def captured(self, depth: int) -> list[str]:
        return [
            self.pick(
                f"state.h = {self.scalar(1)}",
                f"w.add_({self.scalar(1)})",
                f"table['a'] = {self.scalar(1)}",
                f"log.append({self.pick(self.scalar(1), self.vector(1), self.number(1))})",
                f"state.rate = {self.pick('state.rate * 0.5', self.number(1))}",
                "state.n += 1",
                "state.flag = not state.flag",
                "table['k'] = table['k'] % 3 + 1",
                "table.pop('b', None)",
                f"table['b'] = {self.vector(1)}",
                f"state.h += {self.scalar(1)}",
            )
        ]

    def effect(self, depth: int) -> list[str]:
        match self.pick("net", "train", "step", "show", "inner"):
            case "net":
                return [f"a = net({self.vector(1)}).detach()"]
            case "train":
                return [f"net.train({self.condition(1)})"]
            case "step":
                loss = f"(net({self.vector(1)}) * {self.vector(0)}).sum()"
                return [
                    f"{loss}.backward()",
                    *self.pick(
                        [], ["opt.step()"], ["opt.step()", "opt.zero_grad()"], ["opt.param_groups[0]['lr'] *= 0.5"]
                    ),
                ]
            case "show":
                return [self.pick("shown.append(f'{a.shape} {n}')", "shown.append(str(t))", "shown.append(t.tolist())")]
        return [f"b = inner({self.vector(1)})"]

    def branch(self, depth: int) -> list[str]:
        lines = [f"if {self.condition(2)}:", *self.inside(depth)]
        if self.pick(False, True):
            lines += [f"elif {self.condition(1)}:", *self.inside(depth)]
        if self.pick(False, True):
            lines += ["else:", *self.inside(depth)]
        return lines

    def inside(self, depth: int, *, in_loop: bool = False) -> list[str]:
        lines = self.block(depth - 1, in_loop=in_loop)
        match self._draw(st.integers(0, 11)):
            case 11:
                lines.append(f"return {self.pick('a', '(b, t)', 'None', 'k')}")
            case 10:
                lines.append("raise ValueError(f'for {x.shape} {n}')")
        return ["    " + line for line in lines]

    def counted(self, depth: int) -> list[str]:
        head = self.pick(
            "for i in range(3):", "for i in range(n):", "for row in a:", "for i, row in enumerate(b):",
            "for row, other in zip(a, b):",
        )  # fmt: skip
        first = {"for i in range(3):": "k = i", "for i in range(n):": "k = k + i"}.get(head, "t = t + row")
        lines = [head, "    " + first, *self.inside(depth, in_loop=True)]
        return lines + (["else:", *self.inside(depth)] if self._draw(st.integers(0, 3)) == 3 else [])

    def repeated(self, depth: int) -> list[str]:
        self._loops += 1
        count = f"count{self._loops}"
        match self.pick("halving", "counting", "on a value"):
            case "halving":
                statement = self.pick(
                    f"a = {self.vector(1)}", "c = c * 0.5 + t", "k += 1", "t = tj.where(t > 1, t - 1, t)"
                )
                return ["while abs(t) > 0.1:", "    t = tj.tanh(t) * 0.5", f"    {statement}"]
            case "counting":
                return [f"{count} = 0", f"while {count} < 3:", f"    {count} += 1", *self.inside(depth, in_loop=True)]
        return [
            f"{count} = 0", f"while {self.condition(1)}:", f"    {count} += 1", f"    if {count} > 3:", "        break",
            *self.inside(depth, in_loop=True),
        ]  # fmt: skip

    def leave(self) -> list[str]:
        return [f"if {self.condition(1)}:", f"    {self.pick('break', 'continue')}"]

    def guarded(self, depth: int) -> list[str]:
        match self.pick("try", "finally", "no_grad", "suppress"):
            case "try":
                last = self.pick("raise KeyError(n)", "a.reshape(7, 13)", "{}['missing']", "pass")
                return [
                    "try:", *self.inside(depth), f"    {last}",
                    "except (KeyError, ValueError) as error:", "    k = len(type(error).__name__)", *self.inside(depth),
                ]  # fmt: skip
            case "finally":
                return ["try:", *self.inside(depth), "finally:", f"    b = {self.vector(1)}"]
            case "no_grad":
                return ["with tj.no_grad():", *self.inside(depth)]
        return ["with contextlib.suppress(ValueError):", *self.inside(depth)]

    def nested(self, depth: int) -> list[str]:
        self._functions += 1
        name = f"g{self._functions}"
        match self.pick("value", "local", "nonlocal"):
            case "value":
                body, after = [f"return v + {self.scalar(1)}"], []
            case "local":
                body, after = [f"r = t + {self.number(1)}", "return v * r"], []
            case _:  # a variable of the function that the inner one rebinds
                body = [f"nonlocal r{self._functions}", f"r{self._functions} = v.sum()", f"return v - {self.scalar(1)}"]
                after = [f"t = r{self._functions}"]
        return [
            f"r{self._functions} = t", f"def {name}(v):", *("    " + line for line in body),
            f"a = {name}({self.vector(1)})", *after,
        ]  # fmt: skip

    # Expressions ------------------------------------------------------------------------------------

    def vector(self, depth: int) -> str:
        if not depth:
            return self.pick("a", "b", "c", "x", "y")
        v = lambda: self.vector(depth - 1)  # noqa: E731
        match self.pick("name", "binary", "scaled", "function", "where", "helper", "ternary", "indexed"):
            case "binary":
                return f"({v()} {self.pick('+', '-', '*')} {v()})"
            case "scaled":
                by = self.pick(self.scalar, self.number)(depth - 1)
                return f"({v()} {self.pick('*', '+', '-')} {by})"
            case "function":
                return f"{self.pick('tj.tanh', 'abs', 'tj.flip', 'tj.sort', 'tj.cumulative_sum', '-1 * ')}({v()})"
            case "where":
                return f"tj.where({v()} > {self.scalar(depth - 1)}, {v()}, {v()})"
            case "helper":
                return f"helper({v()}, {self.pick(self.scalar, self.number)(depth - 1)})"
            case "ternary":
                return f"({v()} if {self.condition(depth - 1)} else {v()})"
            case "indexed":
                return f"({v()} + {v()}[{self.pick('-1', '0', ':1', 'n % 2')}])"
        return self.vector(0)

    def scalar(self, depth: int) -> str:
        if not depth:
            return self.pick("t", "u", "w", "state.h", "table['a']")
        match self.pick("name", "reduced", "binary", "function", "element"):
            case "reduced":
                return f"{self.vector(depth - 1)}.{self.pick('sum', 'mean', 'max')}()"
            case "binary":
                other = self.pick(self.scalar, self.number)(depth - 1)
                return f"({self.scalar(depth - 1)} {self.pick('+', '-', '*')} {other})"
            case "function":
                return f"tj.tanh({self.scalar(depth - 1)})"
            case "element":
                return f"{self.vector(0)}[{self.pick('0', '-1')}]"
        return self.scalar(0)

    def number(self, depth: int) -> str:
        if not depth:
            return self.pick(
                "0.5", "2", "k", "m", "n", "s", "state.rate", "state.n", "table['k']", "x.shape[0]", "len(log)"
            )
        match self.pick("name", "asked", "binary", "function"):
            case "asked":
                bounded = f"tj.clip({self.scalar(depth - 1)}, -2, 2)"
                return self.pick(
                    f"{bounded}.item()", f"float({bounded})", f"int({bounded})", f"round(float({bounded}))"
                )
            case "binary":
                return f"({self.number(depth - 1)} {self.pick('+', '-', '*')} {self.number(0)})"
            case "function":
                return f"{self.pick('max', 'min')}({self.number(depth - 1)}, {self.number(0)})"
        return self.number(0)

    def condition(self, depth: int) -> str:
        if not depth:
            return self.pick("t > 0", "state.flag", "n > 1", "s > 0.5", "net.training", "log", "k < 3")
        match self.pick("name", "scalar", "vector", "number", "not", "and", "chain", "type"):
            case "scalar":
                other = self.pick(self.scalar, self.number)(depth - 1)
                return f"{self.scalar(depth - 1)} {self.pick('>', '<=', '<')} {other}"
            case "vector":
                return f"({self.vector(depth - 1)} > {self.scalar(0)}).{self.pick('any', 'all')}()"
            case "number":
                return f"{self.number(depth - 1)} {self.pick('>', '==', '!=')} {self.number(0)}"
            case "not":
                return f"not ({self.condition(depth - 1)})"
            case "and":
                return f"({self.condition(depth - 1)}) {self.pick('and', 'or')} ({self.condition(depth - 1)})"
            case "chain":
                return f"-1 < {self.scalar(depth - 1)} < 1"
            case "type":
                return self.pick("'b' in table", "isinstance(k, int)", "isinstance(t, tj.Tensor)", "state.n % 2 == 0")
        return self.condition(0)


@st.composite
def programs(draw: Draw) -> str:
    """The source of a function ``f(x, y, n, s)``."""
    return Writer(draw).write()


def built(source: str) -> dict[str, Any]:
    """A new world with the program in it; its source can be read as if it stood in a file."""
    text = PRELUDE + source
    file = f"<program {hash(source):x}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    space: dict[str, Any] = {"__name__": "random_program"}
    tj.manual_seed(1)
    exec(compile(text, file, "exec"), space)
    return space


def vectors(seed: int, length: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [tj.tensor(rng.normal(size=length).astype(np.float32)) for _ in range(2)]
