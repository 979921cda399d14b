"""Scalar programs: what a kernel computes for one element.

A scalar program is written against a :class:`ScalarBuilder`, one method an instruction.  Each
instruction is fixed to the bit by IEEE 754 or two's complement, so NumPy, LLVM and CUDA give the same
result for it, and everything that is built from instructions (``exp``, ``tanh`` …, see
:mod:`.special_functions`) is the same on each of them.  The instructions:

==================================================  ==========================================================
``add subtract multiply negate abs``                wrap around for integers
``divide sqrt fma``                                 floats; ``fma(x, y, z)`` is ``x*y + z``, rounded once
``floor ceil trunc rint``                           floats; ``rint`` rounds halves to even
``maximum minimum``                                 NaN wins, and -0 < +0 (IEEE 754-2019)
``quotient remainder``                              integers, truncating; the divisor is never 0
``and_ or_ xor not_``                               bools and integers
``shift_left shift_right``                          by less than the width; logical for unsigned, else arithmetic
``multiply_high``                                   the upper 32 bits of a ``u32`` product
``eq ne lt le gt ge``                               give bools; false with NaN, but for ``ne``
``select(p, x, y)``                                 x where p, else y
``convert(x, dtype)``                               by value; float to integer truncates and saturates, NaN gives 0
``bitcast(x, dtype)``                               the same bits as another type of the same width
``constant(number, dtype)``
``seldom(p, function, x, y)``                       ``function(x)`` where p, which is rare, else y
==================================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import complex_numbers
from .facts import facts
from .types import DType, bool_

ARITHMETIC = frozenset(
    "add subtract multiply divide negate abs sqrt fma floor ceil trunc rint maximum minimum quotient remainder"
    " and_ or_ xor not_ shift_left shift_right multiply_high".split()
)
COMPARISONS = frozenset("eq ne lt le gt ge".split())


@facts(frozen=True)
class ScalarFunction:
    """A scalar program of one number, long and rarely needed: kernels contain it as a function of its own.

    ``program(builder, x)`` gives a number of x's dtype.
    """

    name: str
    program: Callable[[ScalarBuilder, Any], Any]


class ScalarBuilder:
    """Writes a scalar program; a subclass says what :meth:`instruction` does.

    Python numbers among the operands become constants of the other operands' dtype.
    """

    def instruction(self, name: str, operands: tuple[Any, ...], dtype: DType) -> Any:
        """Emit ``name`` with the given result dtype."""
        raise NotImplementedError

    def constant(self, number: float | int | bool, dtype: DType) -> Any:
        raise NotImplementedError

    if TYPE_CHECKING:  # the instructions, as methods: see the end of the module

        def __getattr__(self, name: str) -> Any: ...

    def _emit(self, name: str, *operands: Any, result: DType | None = None) -> Any:
        dtype = next((operand.dtype for operand in operands if not isinstance(operand, int | float)), None)
        assert dtype is not None, f"{name} has no operand with a dtype"
        lifted = tuple(
            [self._lifted(operand, dtype) if isinstance(operand, int | float) else operand for operand in operands]
        )
        if dtype.kind == "c":
            return complex_numbers.INSTRUCTIONS[name](self, *lifted)
        return self.instruction(name, lifted, result or dtype)

    def pair(self, real: Any, imaginary: Any) -> Any:
        """The complex number with these parts."""
        raise NotImplementedError

    def parts(self, number: Any) -> tuple[Any, Any]:
        """The real and the imaginary part of a complex number."""
        raise NotImplementedError

    def _lifted(self, number: complex, dtype: DType) -> Any:
        if dtype.kind != "c":
            return self.constant(number, dtype)  # type: ignore[arg-type]
        part = np.dtype(f"f{dtype.itemsize // 2}")
        return self.pair(self.constant(number.real, part), self.constant(number.imag, part))

    def select(self, predicate: Any, on_true: Any, on_false: Any) -> Any:
        dtype = next(v.dtype for v in (on_true, on_false) if not isinstance(v, int | float))
        branches = tuple(self._lifted(v, dtype) if isinstance(v, int | float) else v for v in (on_true, on_false))
        if dtype.kind == "c":
            return self.pair(
                *[self.select(predicate, *parts) for parts in zip(*map(self.parts, branches), strict=True)]
            )
        return self.instruction("select", (predicate, *branches), dtype)

    def seldom(self, predicate: Any, function: ScalarFunction, x: Any, otherwise: Any) -> Any:
        """``function(x)`` where ``predicate``, else ``otherwise``; kernels call the function for such elements only."""
        return self.select(predicate, function.program(self, x), otherwise)

    def convert(self, x: Any, dtype: DType) -> Any:
        if x.dtype == dtype:
            return x
        if "c" not in (x.dtype.kind, dtype.kind):
            return self.instruction("convert", (x,), dtype)
        real, imaginary = self.parts(x) if x.dtype.kind == "c" else (x, None)
        if dtype.kind != "c":
            return self.convert(real, dtype)
        part = np.dtype(f"f{dtype.itemsize // 2}")
        rest = self.constant(0, part) if imaginary is None else self.convert(imaginary, part)
        return self.pair(self.convert(real, part), rest)

    def bitcast(self, x: Any, dtype: DType) -> Any:
        return x if x.dtype == dtype else self.instruction("bitcast", (x,), dtype)

    def is_nan(self, x: Any) -> Any:
        return self.ne(x, x)


def _instruction(name: str, result: DType | None) -> Callable[..., Any]:
    def method(self: ScalarBuilder, *operands: Any) -> Any:
        return self._emit(name, *operands, result=result)

    return method


for _name in (*ARITHMETIC, *COMPARISONS):
    setattr(ScalarBuilder, _name, _instruction(_name, bool_ if _name in COMPARISONS else None))
