"""Every primitive on examples: operands that its rules can be tested on.

An operand is a function of a random generator; floats are float64, away from points where a derivative jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracejit.ir.primitive import PRIMITIVES, Primitive
from tracejit.ir.types import float64, int64, uint32, uint64

Operand = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A primitive, its operands and attributes; ``smooth`` where third derivatives exist and are not all zero."""

    name: str
    operands: tuple[Operand, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    smooth: bool = False
    label: str = ""

    @property
    def primitive(self) -> Primitive:
        return PRIMITIVES[self.name]

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        generator = np.random.default_rng(seed)
        return [operand(generator) for operand in self.operands]

    def __str__(self) -> str:
        return f"{self.name} {self.label}".strip()


def numbers(*shape: int, low: float = -1.5, high: float = 1.5) -> Operand:
    """Distinct numbers, no two of them (nor one and a halfway point) so near that a small step changes their order."""

    def make(generator: np.random.Generator) -> np.ndarray:
        count = int(np.prod(shape))
        steps = (generator.permutation(count) + 0.3 + 0.2 * generator.random(count)) / max(count, 1)
        return (low + (high - low) * steps).reshape(shape)

    return make


def positive(*shape: int) -> Operand:
    return numbers(*shape, low=0.3, high=2.3)


def inside(*shape: int) -> Operand:
    return numbers(*shape, low=-0.8, high=0.8)


def above_one(*shape: int) -> Operand:
    return numbers(*shape, low=1.2, high=3.0)


def complexes(*shape: int) -> Operand:
    return lambda generator: generator.normal(size=shape) + 1j * generator.normal(size=shape)


def integers(*shape: int, low: int = 0, high: int = 4, dtype: Any = int64) -> Operand:
    return lambda generator: generator.integers(low, high, shape).astype(dtype)


def bools(*shape: int) -> Operand:
    return lambda generator: generator.random(shape) < 0.5


def matrices(*shape: int) -> Operand:
    """Well-conditioned square matrices."""
    return lambda generator: generator.normal(size=shape) + 4 * np.eye(shape[-1])


def symmetric(*shape: int) -> Operand:
    def make(generator: np.random.Generator) -> np.ndarray:
        x = generator.normal(size=shape)
        return x + np.swapaxes(x, -1, -2) + 3 * np.diag(np.arange(1, shape[-1] + 1))

    return make


def definite(*shape: int, numbers: Callable[..., Operand] = numbers) -> Operand:
    def make(generator: np.random.Generator) -> np.ndarray:
        x = numbers(*shape)(generator)
        return x @ np.swapaxes(x, -1, -2).conj() + 3 * np.eye(shape[-1])

    return make


def shifted(*shape: int) -> Operand:
    """Well-conditioned complex matrices."""
    return lambda generator: complexes(*shape)(generator) + 4 * np.eye(shape[-1])


def singular(*shape: int) -> Operand:
    """Square matrices of which one column is missing."""

    def make(generator: np.random.Generator) -> np.ndarray:
        x = generator.normal(size=shape)
        x[..., 0] = x[..., 1:].sum(-1)
        return x

    return make


def unary(name: str, domain: Callable[..., Operand] = numbers, *, smooth: bool = False) -> Case:
    return Case(name, (domain(3, 4),), smooth=smooth)


def binary(name: str, domain: Callable[..., Operand] = numbers, *, smooth: bool = False) -> list[Case]:
    return [
        Case(name, (domain(3, 4), domain(3, 4)), smooth=smooth),
        Case(name, (domain(2, 1, 4), domain(3, 1)), label="broadcast"),
        Case(name, (domain(), domain(5)), label="scalar"),
    ]


def integral(name: str, count: int, **options: Any) -> Case:
    return Case(name, tuple([integers(3, 4, **options)] * count))


CASES: list[Case] = [
    *(case for name in ("add", "subtract", "multiply") for case in binary(name, smooth=name == "multiply")),
    *binary("divide", positive, smooth=True),
    *binary("power", positive, smooth=True),
    *binary("maximum"),
    *binary("minimum"),
    *binary("atan2", positive, smooth=True),
    *binary("hypot", positive, smooth=True),
    *binary("logaddexp", smooth=True),
    *binary("copysign"),
    *binary("next_after"),
    *binary("remainder", positive),
    *binary("floor_divide", positive),
    *(unary(name) for name in ("negate", "abs", "sign", "floor", "ceil", "round_nearest_even", "truncate")),
    *(unary(name, positive, smooth=True) for name in ("sqrt", "rsqrt", "log", "log2", "log10")),
    *(
        unary(name, smooth=True)
        for name in (
            "exponential", "exponential_minus_one", "exp2", "logistic", "tanh", "sine", "cosine", "erf", "sinh",
            "cosh", "atan", "asinh", "erfc", "erfcx",
        )
    ),
    *(unary(name, inside, smooth=True) for name in ("tan", "asin", "acos", "atanh", "erf_inv", "log_plus_one")),
    unary("acosh", above_one, smooth=True),
    unary("lgamma", positive, smooth=True),
    *(Case("polygamma", (positive(3, 4),), {"order": order}, smooth=True, label=str(order)) for order in (0, 1, 2)),
    *(unary(name, positive, smooth=True) for name in ("bessel_i0e", "bessel_i1e")),
    *(
        Case(name, (complexes(3), complexes(2, 1)), label="complex")
        for name in ("add", "subtract", "multiply", "divide", "power")
    ),
    *(
        Case(name, (complexes(3),), label="complex")
        for name in (
            "negate", "sign", "sqrt", "rsqrt", "exponential", "exponential_minus_one", "log", "log_plus_one",
            "logistic", "tanh", "sine", "cosine", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
            "atanh", "log2", "log10", "exp2",
        )
    ),
    Case("select", (bools(3, 4), complexes(3, 4), complexes(4)), label="complex"),
    Case("real", (complexes(3),)),
    Case("imag", (complexes(3),)),
    Case("conjugate", (complexes(3),)),
    Case("complex_abs", (complexes(3),)),
    Case("complex", (numbers(2, 3), numbers(3))),
    Case("compare", (numbers(3, 4), numbers(4)), {"direction": "lt"}),
    *(integral(name, 2) for name in ("and", "or", "xor", "integer_power", "shift_left", "shift_right_arithmetic")),
    *(integral(name, 2, low=1) for name in ("floor_quotient", "floor_remainder")),
    integral("shift_right_logical", 2, dtype=uint32),
    integral("not", 1),
    Case("is_finite", (numbers(3),)),
    Case("sign_bit", (numbers(3),)),
    Case("select", (bools(3, 4), numbers(3, 4), numbers(3, 4))),
    Case("fused_multiply_add", (numbers(3, 4), numbers(4), numbers(3, 1))),
    Case("select", (bools(4), numbers(3, 1), numbers()), label="broadcast"),
    Case("convert", (numbers(3),), {"dtype": float64}),
    Case("convert", (integers(3),), {"dtype": float64}, label="integers"),
    Case("convert", (numbers(3),), {"dtype": np.dtype(np.complex128)}, label="to complex"),
    Case("convert", (complexes(3),), {"dtype": float64}, label="from complex"),
    Case("broadcast_in_dim", (numbers(3, 1),), {"shape": (2, 3, 4), "dimensions": (1, 2)}),
    Case("reshape", (numbers(3, 4),), {"shape": (2, 6)}),
    Case("transpose", (numbers(2, 3, 4),), {"permutation": (2, 0, 1)}),
    Case("slice", (numbers(5, 4),), {"start": (1, 0), "limit": (5, 3), "strides": (2, 1)}),
    Case("slice", (numbers(5, 4),), {"start": (2, 0), "limit": (2, 4), "strides": (1, 1)}, label="empty"),
    Case("reverse", (numbers(3, 4),), {"dimensions": (0,)}),
    Case("optimization_barrier", (numbers(3, 4),), {"number": 1}),
    Case("named", (numbers(3, 4),), {"label": "hidden"}),
    Case("stop_gradient", (numbers(3, 4),)),
    Case("device_put", (numbers(3, 4),), {"source": "cpu", "target": "cpu"}),
    Case("concatenate", (numbers(3, 2), numbers(3, 1), numbers(3, 3)), {"dimension": 1}),
    Case("pad", (numbers(3, 2), numbers()), {"low": (1, 0), "high": (0, 2), "interior": (1, 0)}),
    Case("update_slice", (numbers(5, 4), numbers(2, 3)), {"start": (1, 0), "strides": (2, 1)}),
    *(
        Case(name, (numbers(3, 4, 2),), {"axes": axes}, label=str(axes), smooth=name == "reduce_product")
        for name in ("reduce_sum", "reduce_product", "reduce_max", "reduce_min")
        for axes in ((1,), (0, 2), (0, 1, 2))
    ),
    *(Case(name, (integers(3, 4),), {"axes": (1,)}) for name in ("reduce_and", "reduce_or")),
    Case("gather", (numbers(5, 3), integers(4)), {"axes": (0,)}),
    Case("gather", (numbers(5, 3, 4), integers(2, 2), integers(2, 2)), {"axes": (0, 2)}, label="two axes"),
    Case("gather", (numbers(5, 3), integers()), {"axes": (1,)}, label="one place"),
    *(
        case
        for combine in ("add", "set")
        for case in (
            Case("scatter", (numbers(5, 3), numbers(6, 3), integers(6)), {"axes": (0,), "combine": combine}),
            Case(
                "scatter",
                (numbers(5, 3, 4), numbers(2, 2, 3), integers(2, 2), integers(2, 2)),
                {"axes": (0, 2), "combine": combine},
                label="two axes",
            ),
        )
    ),
    Case("dot", (numbers(3, 4), numbers(4, 2)), smooth=True),
    Case("dot", (complexes(3, 4), complexes(4, 2)), label="complex"),
    Case("dot", (complexes(4, 3), complexes(2, 4)), {"transpose_lhs": True, "transpose_rhs": True}, label="complex.T"),
    Case("reduce_sum", (complexes(3, 4),), {"axes": (1,)}, label="complex"),
    Case("reduce_product", (complexes(3, 4),), {"axes": (1,)}, label="complex"),
    *(
        Case(
            "dot",
            (numbers(*batch, *((4, 3) if left else (3, 4))), numbers(*batch, *((2, 4) if right else (4, 2)))),
            {"transpose_lhs": left, "transpose_rhs": right},
            label=f"{batch} {left} {right}",
        )
        for batch in ((), (2,))
        for left in (False, True)
        for right in (False, True)
    ),
    *(
        Case("convolution", (x, w), {"strides": strides, "dilations": dilations, "groups": groups}, groups == 1, label)
        for label, x, w, strides, dilations, groups in (
            ("of rows", numbers(2, 3, 5), numbers(4, 3, 2), (1,), (1,), 1),
            ("in groups", numbers(2, 4, 7, 5), numbers(6, 2, 3, 2), (2, 1), (1, 2), 2),
            ("complex", complexes(2, 2, 6), complexes(2, 2, 3), (2,), (1,), 1),
        )
    ),
    *(
        Case(name, (*operands, *masks), {"causal": causal, "scale": 0.7}, label=label)
        for name, operands in (
            ("attention", (numbers(2, 4, 3, 5), numbers(2, 2, 4, 5), numbers(2, 2, 4, 2))),
            ("attention_log_sum", (numbers(2, 4, 3, 5), numbers(2, 2, 4, 5))),
            *((f"attention_{name}_gradient", (
                numbers(2, 4, 3, 5), numbers(2, 2, 4, 5), numbers(2, 2, 4, 2), numbers(2, 4, 3, 2), numbers(2, 4, 3),
                numbers(2, 4, 3),
            )) for name in ("query", "key", "value")),
        )
        for label, causal, masks in (("causal", True, ()), ("with a mask", False, (numbers(1, 4, 3, 1),)))
    ),
    Case("nonzero", (lambda generator: np.arange(12).reshape(3, 4) % 5,), {"size": 9}),
    Case("unique", (lambda generator: np.arange(12.0) % 5,), {"part": "counts", "axis": None, "equal_nan": False,
        "size": 5}),
    Case("repeated_positions", (lambda generator: np.arange(4),), {"size": 6}),
    Case("argsort", (numbers(3, 4),), {"axis": 1}),
    Case("sort", (numbers(3, 4),), {"axis": 0, "descending": False}),
    Case("sort", (numbers(3, 4),), {"axis": 1, "descending": True}, label="down"),
    Case("searchsorted", (lambda generator: np.sort(generator.random(6)), inside(3, 2)), {"side": "left"}),
    Case("cumulative_sum", (numbers(3, 4),), {"axis": 1}),
    Case("cumulative_product", (numbers(3, 4),), {"axis": 0}, smooth=True),
    Case("cumulative_product", (complexes(3, 4),), {"axis": 0}, label="complex"),
    Case("cumulative_logsumexp", (numbers(3, 4),), {"axis": 1}, smooth=True),
    *(
        Case("cumulative_extremum", (numbers(3, 4),), {"axis": 1, "smallest": smallest}, label=str(smallest))
        for smallest in (False, True)
    ),
    Case("linear_recurrence", (numbers(3, 4), numbers(3, 4)), {"axis": 1}, smooth=True),
    Case("linear_recurrence", (complexes(3, 4), complexes(3, 4)), {"axis": 1}, label="complex"),
    *(
        Case("fourier", (complexes(3, 5) if kind != "rfft" else numbers(3, 5),), {"kind": kind, "n": n, "axis": 1},
             label=f"{kind} {n}")
        for kind in ("fft", "ifft", "rfft")
        for n in (5, 3, 8)
    ),
    *(
        Case("fourier", (complexes(3, 4),), {"kind": "irfft", "n": n, "axis": 1}, label=f"irfft {n}")
        for n in (6, 7, 4)
    ),
    *(
        Case(name, (make(2, 3, 3),), smooth=not label, label=label)
        for name in ("inverse", "determinant", "adjugate", "log_determinant", "eig")
        for make, label in ((matrices, ""), (shifted, "complex"))
    ),
    Case("determinant", (singular(2, 3, 3),), label="singular"),
    Case("solve", (matrices(2, 3, 3), numbers(2, 3, 4)), smooth=True),
    Case("solve", (shifted(2, 3, 3), complexes(2, 3, 4)), label="complex"),
    *(
        Case("pseudo_inverse", (make(2, *shape), lambda generator: np.full(2, 1e-12)), label=f"{make.__name__} {shape}")
        for make in (numbers, complexes)
        for shape in ((3, 3), (4, 2), (2, 4))
    ),
    Case("cholesky", (definite(2, 3, 3),), smooth=True),
    Case("cholesky", (definite(2, 3, 3, numbers=complexes),), label="complex"),
    Case("eigh", (symmetric(2, 3, 3),), smooth=True),
    Case("eigh", (definite(2, 3, 3, numbers=complexes),), label="complex"),
    *(
        Case("qr", (make(2, *shape),), smooth=label == "", label=label)
        for make, shape, label in (
            (numbers, (4, 3), ""), (numbers, (3, 3), "square"), (numbers, (2, 4), "wide"),
            (complexes, (4, 3), "complex"), (complexes, (2, 4), "complex wide"),
        )
    ),
    *(
        Case("svd", (make(2, *shape),), {"full": full}, smooth=label == "", label=label)
        for make, shape, full, label in (
            (numbers, (4, 3), False, ""), (numbers, (3, 4), False, "wide"), (numbers, (4, 2), True, "full"),
            (numbers, (2, 4), True, "full wide"), (complexes, (4, 3), False, "complex"),
            (complexes, (2, 3), False, "complex wide"), (complexes, (2, 4), True, "complex full"),
        )
    ),
    Case("iota", (), {"size": 4, "dtype": float64}),
    Case(
        "random_bits", (integers(dtype=uint64, high=1 << 40), integers(dtype=uint64, high=1 << 40)), {"size": 7}
    ),
]  # fmt: skip

DIFFERENTIABLE = [case for case in CASES if case.primitive.vjp is not None]
