"""A writer of LLVM IR text: fresh names, and loops and branches in SSA form by construction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field

from tracejit.ir.facts import facts


@facts
class Loop:
    """A loop being written: its index, the values it carries, and (set by its body) what they become."""

    index: str
    carried: list[str]
    step: str | int
    next: list[str] = field(default_factory=list)


class Writer:
    """Writes LLVM IR in SSA form: fresh names, and structured loops and branches."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0
        self.block = "entry"

    def do(self, instruction: str) -> None:
        self.lines.append(f"  {instruction}")

    def let(self, name: str, expression: str) -> str:
        """Name the result of an instruction; a number makes the name unique."""
        self.count += 1
        value = f"%{name}.{self.count}"
        self.do(f"{value} = {expression}")
        return value

    def begin(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def labels(self, *names: str) -> list[str]:
        self.count += 1
        return [f"{name}.{self.count}" for name in names]

    def add(self, x: str, y: str | int, name: str = "sum") -> str:
        return self.let(name, f"add i64 {x}, {y}")

    def sub(self, x: str, y: str, name: str = "difference") -> str:
        return self.let(name, f"sub i64 {x}, {y}")

    def mul(self, x: str, y: str | int, name: str = "product") -> str:
        return self.let(name, f"mul i64 {x}, {y}")

    def min(self, x: str, y: str | int, name: str = "min") -> str:
        return self.let(name, f"call i64 @llvm.smin.i64(i64 {x}, i64 {y})")

    def max(self, x: str, y: str | int, name: str = "max") -> str:
        return self.let(name, f"call i64 @llvm.smax.i64(i64 {x}, i64 {y})")

    def ceil_div(self, x: str, y: str | int) -> str:
        return self.let("quotient", f"udiv i64 {self.sub(self.add(x, y), '1')}, {y}")

    def compare(self, relation: str, x: str, y: str | int) -> str:
        return self.let(relation, f"icmp {relation} i64 {x}, {y}")

    def select(self, condition: str, kind: str, x: str | int, y: str | int) -> str:
        return self.let("select", f"select i1 {condition}, {kind} {x}, {kind} {y}")

    def negate(self, condition: str) -> str:
        return self.let("not", f"xor i1 {condition}, true")

    def freeze(self, kind: str, value: str) -> str:
        """The same value, about which LLVM forgets what it knows."""
        return self.let("frozen", f"freeze {kind} {value}")

    def offset(self, pointer: str, count: str | int, name: str = "p", unit: str = "i8") -> str:
        """The pointer moved by some bytes, or by some multiples of a unit, which x86 adds for free within a load."""
        return self.let(name, f"getelementptr {unit}, ptr {pointer}, i64 {count}")

    @contextmanager
    def loop(
        self, start: str, stop: str, step: str | int, carried: Sequence[tuple[str, str]] = (), runs_once: bool = False
    ) -> Iterator[Loop]:
        """``for index in range(start, stop, step)``, carrying (type, initial value) pairs.

        The values carried out are ``loop.carried`` or, where the loop is known to run at least once and so is tested at
        its end, ``loop.next``.
        """
        before = self.block
        head, body, leave = self.labels("head", "body", "leave")
        index = f"%i.{self.count}"
        names = [f"%carried.{self.count}.{i}" for i in range(len(carried))]
        loop = Loop(index, names, step)
        self.do(f"br label %{head}")
        self.begin(head)
        at = len(self.lines)
        if not runs_once:
            self.do(f"br i1 {self.compare('slt', index, stop)}, label %{body}, label %{leave}")
            self.begin(body)
        yield loop
        following = self.add(index, loop.step, "i")
        if runs_once:
            self.do(f"br i1 {self.compare('slt', following, stop)}, label %{head}, label %{leave}")
        else:
            self.do(f"br label %{head}")
        phis = [("i64", index, start, following)]
        phis += [(kind, name, first, new) for (kind, first), name, new in zip(carried, names, loop.next, strict=True)]
        self.lines[at:at] = [
            f"  {name} = phi {kind} [ {first}, %{before} ], [ {new}, %{self.block} ]" for kind, name, first, new in phis
        ]
        self.begin(leave)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        then, after = self.labels("then", "after")
        self.do(f"br i1 {condition}, label %{then}, label %{after}")
        self.begin(then)
        yield
        self.do(f"br label %{after}")
        self.begin(after)

    @contextmanager
    def choose(self, first: str, second: str) -> Iterator[Callable[[str], None]]:
        """Three cases: one if ``first``, another if ``second``, and a last one.  Each is begun with a word on it."""
        cases = self.labels("first", "second", "third")
        other, done = self.labels("other", "chosen")
        self.do(f"br i1 {first}, label %{cases[0]}, label %{other}")
        self.begin(other)
        self.do(f"br i1 {second}, label %{cases[1]}, label %{cases[2]}")
        begun: list[str] = []

        def case(name: str) -> None:
            if begun:
                self.do(f"br label %{done}")
            self.begin(cases[len(begun)])
            self.lines.append(f"  ; {name}")
            begun.append(name)

        yield case
        self.do(f"br label %{done}")
        self.begin(done)

    @contextmanager
    def function(self, signature: str, hot: bool = False) -> Iterator[None]:
        """A function.  Unless it is hot, code generation does not polish it, which halves what it costs to compile."""
        self.lines.append(f"define {signature} nounwind {'' if hot else 'noinline optnone '}{{")
        self.begin("entry")
        yield
        self.do("ret void")
        self.lines += ["}", ""]
