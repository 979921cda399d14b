"""Complex numbers in scalar programs: pairs of real ones.

A builder that knows them makes one of its parts (``pair``) and takes it apart (``parts``); an instruction on complex
numbers becomes instructions on their parts, here.  Products are the plain formula, with four roundings for each part;
quotients are Smith's (Communications of the ACM 5, 1962), as NumPy has them, which overflow only where the result does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _each(name: str) -> Callable[..., Any]:
    def instruction(s: Any, *numbers: Any) -> Any:
        return s.pair(*[getattr(s, name)(*parts) for parts in zip(*map(s.parts, numbers), strict=True)])

    return instruction


def _product(s: Any, x: Any, y: Any) -> Any:
    (a, b), (c, d) = s.parts(x), s.parts(y)
    real = s.subtract(s.multiply(a, c), s.multiply(b, d))
    return s.pair(real, s.add(s.multiply(a, d), s.multiply(b, c)))


def _quotient(s: Any, x: Any, y: Any) -> Any:
    """By the larger part of the divisor; by zero each part is divided by 0."""
    (a, b), (c, d) = s.parts(x), s.parts(y)
    by_real = s.ge(s.abs(c), s.abs(d))
    larger, smaller = s.select(by_real, c, d), s.select(by_real, d, c)
    first, second = s.select(by_real, a, b), s.select(by_real, b, a)
    ratio = s.divide(smaller, larger)
    scale = s.divide(s.constant(1, larger.dtype), s.add(larger, s.multiply(smaller, ratio)))
    real = s.multiply(s.add(first, s.multiply(second, ratio)), scale)
    turned = s.multiply(first, ratio)
    imaginary = s.multiply(s.select(by_real, s.subtract(second, turned), s.subtract(turned, second)), scale)
    by_zero = s.and_(s.eq(c, 0.0), s.eq(d, 0.0))
    infinity = s.constant(np.inf, larger.dtype)
    return s.pair(
        s.select(by_zero, s.multiply(a, infinity), real), s.select(by_zero, s.multiply(b, infinity), imaginary)
    )


def _equal(s: Any, x: Any, y: Any) -> Any:
    (a, b), (c, d) = s.parts(x), s.parts(y)
    return s.and_(s.eq(a, c), s.eq(b, d))


def _unequal(s: Any, x: Any, y: Any) -> Any:
    (a, b), (c, d) = s.parts(x), s.parts(y)
    return s.or_(s.ne(a, c), s.ne(b, d))


INSTRUCTIONS: dict[str, Callable[..., Any]] = {
    "add": _each("add"),
    "subtract": _each("subtract"),
    "negate": _each("negate"),
    "multiply": _product,
    "divide": _quotient,
    "eq": _equal,
    "ne": _unequal,
}


def multiply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The product by NumPy: its own has other last bits where numbers lie in order than where they do not.

    >>> multiply(np.array([1 + 2j]), np.array([3 - 1j]))
    array([5.+5.j])
    """
    result = np.empty(np.broadcast_shapes(x.shape, y.shape), x.dtype)
    np.subtract(x.real * y.real, x.imag * y.imag, out=result.real)
    np.add(x.real * y.imag, x.imag * y.real, out=result.imag)
    return result
