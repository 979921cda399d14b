"""Products, and the pool of threads for them, that are compiled while the program that wants them is being planned.

Those that a program waits for (see :data:`.runtime.WORK_WORTH_WAITING`) keep LLVM busy for long, which needs the
interpreter as little then as planning needs LLVM.  Nothing depends on it: what is not there in the end is loaded then.
"""

from __future__ import annotations

from functools import partial

from ..program import Call, DotCall
from . import compiler, threads
from .runtime import WORK_WORTH_WAITING, load_dot, load_pool


class Early:
    """Is called with each call of a program as soon as that is planned."""

    def __init__(self) -> None:
        self._products: dict[str, DotCall] = {}  # by their kernels' names
        self._begun: set[str] = set()
        self._work = 0

    def __call__(self, call: Call) -> None:
        if isinstance(call, DotCall):
            from . import contraction  # which programs without products do without until kernels are compiled

            target = compiler.host_target()
            product = contraction.read_once(call, target)
            self._products.setdefault(contraction.name_of(product, target), product)
            self._work += call.work
            if self._work >= WORK_WORTH_WAITING:
                self._begin()

    def _begin(self) -> None:
        if not self._begun and threads.most_threads() > 1:
            compiler.ask(load_pool)
        for name, product in self._products.items():
            if name not in self._begun:
                self._begun.add(name)
                compiler.ask(partial(load_dot, product, waits=True))
